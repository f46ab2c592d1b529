"""The phases: what happens to the resources, and what that costs."""

import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from stage import PATH, ROOT, TOKEN, Running, Stage, each
from trail import OBJECTS, counted, nth_writes, user_writes
from vercel_emulator import EmulatorControl
from vercel_emulator.models import TokenGrant

IDLE = 20.0
"""Seconds for which a controller is watched with nothing to do."""
NAMESPACES, TOKENS = 200, 1000
LIMIT = 3600.0
"""Seconds that one phase may take."""
CHECK_LIMIT = 180.0
"""Seconds until the last of what a phase has begun is done."""
DAY = 86400
MERGE = "application/merge-patch+json"
STATUS = f"{OBJECTS}/status"


@dataclass
class Figures:
    """What one phase cost."""

    who: str
    phase: str
    count: int
    seconds: float | None = None
    """From the first request of the user, or from the start of the process, until the last resource was done."""
    cpu: float = 0.0
    """Seconds of the controller."""
    peak: float = 0.0
    """MB."""
    p50: float | None = None
    """Seconds from the user's request for a resource until it was done."""
    p99: float | None = None
    kubernetes: dict[str, int] = field(default_factory=dict)
    vercel: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


class Measure:
    """Measures from its beginning on."""

    def __init__(self, stage: Stage, running: Running, who: str, phase: str, count: int) -> None:
        """Take part in a stage."""
        self._stage = stage
        self._running = running
        self.figures = Figures(who, phase, count)

    async def begin(self, *, fresh: bool = False) -> None:
        """Begin. ``fresh``: the process was just started, and all of it counts."""
        self._before = await calls(self._stage)
        self.mark = self._stage.trail.read()
        if not fresh:
            self._running.forget_peak()
        self._cpu = 0.0 if fresh else self._running.cpu()
        self.began = time.time()

    async def until(self, writes: int, count: int, resource: str = STATUS) -> dict[tuple[str, str], float]:
        """Wait until so many objects have had so many writes each. Returns when each was done: Unix seconds."""
        deadline = time.monotonic() + LIMIT
        while True:
            self._stage.trail.read()
            done = nth_writes(self._stage.trail.since(self.mark, self._running.agent), resource, writes)
            if len(done) >= count:
                return done
            if time.monotonic() > deadline or not self._running.process.running:
                last = self._running.process.last_lines()
                raise RuntimeError(f"{self.figures.phase}: {len(done)} of {count} were done:\n{last}")
            await asyncio.sleep(0.5)

    def timed(self, done: dict[tuple[str, str], float], *, since_start: bool = False) -> None:
        """Note the times at which resources were done."""
        self._stage.trail.read()
        asked = {} if since_start else user_writes(self._stage.trail.since(self.mark, "bench"))
        waits = sorted(at - asked.get(place, self.began) for place, at in done.items())
        self.figures.seconds = max(done.values()) - self.began
        self.figures.p50 = statistics.median(waits)
        self.figures.p99 = waits[int(len(waits) * 0.99)]

    async def end(self, *, idle: bool = False) -> Figures:
        """End, once the controller has come to rest."""
        if not idle:
            await self._running.settled()
        figures = self.figures
        figures.cpu = self._running.cpu() - self._cpu
        figures.peak = self._running.peak()
        await asyncio.sleep(0.5)
        self._stage.trail.read()
        figures.kubernetes = dict(counted(self._stage.trail.since(self.mark, self._running.agent)))
        figures.vercel = dict(await calls(self._stage) - self._before)
        return figures


async def calls(stage: Stage) -> Counter[str]:
    """Return Vercel's calls so far, by name."""
    async with EmulatorControl(stage.vercel) as emulator:
        journal = await emulator.journal(since=10**9)
        return Counter({name: number for name, number in journal.counts.items() if number})


async def behave(stage: Stage, lifetime: float) -> None:
    """Set how long new certificates live, in seconds."""
    async with EmulatorControl(stage.vercel) as emulator:
        await emulator.behave(lifetime=f"{lifetime:.0f}s")


def manifest(number: int, prefix: str = "s", **spec: Any) -> dict[str, Any]:
    """Return a resource. The prefix makes its names different."""
    return {
        "apiVersion": "vercel-operator.io/v1",
        "kind": "VercelCertificate",
        "metadata": {"name": f"site-{number}"},
        "spec": {"cns": [f"{prefix}{number}.example.com", f"*.{prefix}{number}.example.com"], **spec},
    }


class Course:
    """All phases for one controller."""

    def __init__(
        self,
        stage: Stage,
        who: str,
        count: int,
        start: Callable[..., Running],
        note: Callable[[Figures], None],
        wanted: Callable[[str], bool],
    ) -> None:
        """
        Args:
            stage: a stage of its own.
            who: the controller's name in the table.
            count: the resources.
            start: starts the controller, with flags.
            note: told of each phase when it is over.
            wanted: whether a phase is to be measured.
        """
        self._stage = stage
        self._who = who
        self._count = count
        self._start = start
        self._note = note
        self._wanted = wanted
        self._names = range(count)
        # Certificates of a phase must outlive it: they fall due after 0.63 of their lifetime. An old certificate is
        # removed after a tenth of its successor's lifetime, for which the phase waits.
        self._short = max(150.0, 0.045 * count)

    async def run(self) -> None:
        """Run all phases."""
        await self._stage.set_up()
        async with self._stage.kube() as kube:
            self._kube = kube
            running = self._start()
            await running.settled()
            empty = self._measure(running, "empty")
            await empty.begin(fresh=True)
            self._note(await empty.end())
            await self._create(running)
            await self._idle(running)
            running.stop()
            running = await self._start_ready()
            if self._wanted("takeover"):
                running.stop()
                running = await self._takeover()
            if self._wanted("names"):
                await self._change_names(running)
                await self._renew(running)
            await self._delete(running)
            running.stop()
            if self._wanted("backlog"):
                await self._backlog()
            if self._wanted("tenants"):
                await self._tenants()

    def _measure(self, running: Running, phase: str, count: int | None = None) -> Measure:
        return Measure(self._stage, running, self._who, phase, self._count if count is None else count)

    async def _patch(self, number: int, body: object) -> None:
        await self._kube.send("PATCH", f"{PATH.format('default')}/site-{number}", body, MERGE)

    async def _create_all(self) -> None:
        await each(self._names, lambda number: self._kube.send("POST", PATH.format("default"), manifest(number)))

    async def _create(self, running: Running) -> None:
        await behave(self._stage, 90 * DAY)
        measure = self._measure(running, "create")
        await measure.begin()
        await self._create_all()
        measure.timed(await measure.until(2, self._count))
        self._note(await measure.end())
        await self._check()

    async def _idle(self, running: Running) -> None:
        measure = self._measure(running, "idle")
        await measure.begin()
        await asyncio.sleep(IDLE)
        measure.figures.seconds = IDLE
        self._note(await measure.end(idle=True))

    async def _start_ready(self) -> Running:
        running = self._start()
        measure = self._measure(running, "start Ready")
        await measure.begin(fresh=True)
        measure.figures.seconds = await running.settled() - measure.began
        self._note(await measure.end())
        return running

    async def _takeover(self) -> Running:
        leader = self._start("--leader-elect")
        await leader.settled()
        standby = self._start("--leader-elect")
        before = self._measure(standby, "standby")
        await before.begin(fresh=True)
        before.figures.seconds = await standby.settled() - before.began
        self._note(await before.end())
        measure = self._measure(standby, "takeover")
        await measure.begin()
        await asyncio.to_thread(leader.stop)
        await self._kube.send("POST", PATH.format("default"), manifest(self._count))
        done = await measure.until(2, 1)
        measure.figures.seconds = max(done.values()) - measure.began
        self._note(await measure.end())
        await self._kube.send("DELETE", f"{PATH.format('default')}/site-{self._count}")
        await measure.until(2, 1, OBJECTS)
        standby.stop()
        running = self._start()
        await running.settled()
        return running

    async def _change_names(self, running: Running) -> None:
        await behave(self._stage, self._short)
        measure = self._measure(running, "change names")
        await measure.begin()
        await each(
            self._names, lambda n: self._patch(n, {"spec": {"cns": [f"t{n}.example.com", f"*.t{n}.example.com"]}})
        )
        measure.timed(await measure.until(2, self._count))
        await measure.until(3, self._count)
        await self._check()
        self._note(await measure.end())

    async def _renew(self, running: Running) -> None:
        await behave(self._stage, 2 * self._short)
        measure = self._measure(running, "renew")
        await measure.begin()
        await each(self._names, lambda n: self._patch(n, {"spec": {"renewBefore": f"{self._short * 0.93:.0f}s"}}))
        measure.timed(await measure.until(2, self._count))
        await measure.until(3, self._count)
        await self._check()
        self._note(await measure.end())

    async def _delete(self, running: Running) -> None:
        measure = self._measure(running, "delete")
        await measure.begin()
        await each(self._names, lambda n: self._kube.send("DELETE", f"{PATH.format('default')}/site-{n}"))
        measure.timed(await measure.until(1, self._count, OBJECTS))
        self._note(await measure.end())
        if left := await self._kube.objects():
            raise RuntimeError(f"{len(left)} resources are left")

    async def _backlog(self) -> None:
        await behave(self._stage, 90 * DAY)
        await self._create_all()
        running = self._start()
        measure = self._measure(running, "start backlog")
        await measure.begin(fresh=True)
        measure.timed(await measure.until(2, self._count), since_start=True)
        self._note(await measure.end())
        await self._check()
        running.stop()

    async def _tenants(self) -> None:
        """Many tokens and namespaces. What the phases before have left doesn't matter: it is Ready."""
        tokens, namespaces = min(TOKENS, self._count), min(NAMESPACES, max(1, self._count // 5))
        running = self._start()
        async with EmulatorControl(self._stage.vercel) as emulator:
            await each(range(tokens), lambda n: emulator.grant(TokenGrant(token=f"{TOKEN}-{n}", user=f"user-{n}")))

        async def namespace(number: int) -> None:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"tenant-{number}"}}
            await self._kube.send("POST", "/api/v1/namespaces", body)

        async def secret(number: int) -> None:
            metadata = {"name": f"token-{number}"}
            body = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": metadata,
                "stringData": {"token": f"{TOKEN}-{number}"},
            }
            await self._kube.send("POST", f"/api/v1/namespaces/tenant-{number % namespaces}/secrets", body)

        async def create(number: int) -> None:
            token = number % tokens
            body = manifest(number, "u", tokenSecretRef={"name": f"token-{token}"})
            await self._kube.send("POST", PATH.format(f"tenant-{token % namespaces}"), body)

        await each(range(namespaces), namespace)
        await each(range(tokens), secret)
        await running.settled()
        measure = self._measure(running, "tenants")
        await measure.begin()
        await each(self._names, create)
        measure.timed(await measure.until(2, self._count))
        self._note(await measure.end())
        running.stop()

    async def _check(self) -> None:
        """Wait until every resource is Ready, with the names that it wants and nothing left to remove.

        One that had to wait has written that too. So its removal may follow after as many writes as others have made.
        """
        deadline = time.monotonic() + CHECK_LIMIT
        while wrong := [body for body in await self._kube.objects() if not is_done(body)]:
            if time.monotonic() > deadline:
                name, status = wrong[0]["metadata"]["name"], wrong[0].get("status")
                raise RuntimeError(f"{len(wrong)} are not as they should be, such as {name}: {json.dumps(status)}")
            await asyncio.sleep(2.0)


def is_done(body: dict[str, Any]) -> bool:
    """Return whether a resource is Ready, with the names that it wants and nothing left to remove."""
    status = body.get("status") or {}
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
    return ready and set(status.get("cns", ())) == set(body["spec"]["cns"]) and not status.get("superseded")


class BareCourse:
    """The phases that have requests at all, with the bare minimum of them."""

    def __init__(self, stage: Stage, count: int, note: Callable[[Figures], None]) -> None:
        """Take part in a stage of its own."""
        self._stage = stage
        self._count = count
        self._note = note

    async def run(self) -> None:
        """Run them."""
        await self._stage.set_up()
        async with self._stage.kube() as kube:
            await each(range(self._count), lambda n: kube.send("POST", PATH.format("default"), manifest(n)))
            await self._phase("create", "create")
            await self._phase("change names", "names")
            await self._phase("renew", "renew")
            await each(range(self._count), lambda n: kube.send("DELETE", f"{PATH.format('default')}/site-{n}"))
            await self._phase("delete", "delete")

    async def _phase(self, phase: str, argument: str) -> None:
        before, mark = await calls(self._stage), self._stage.trail.read()
        command = [sys.executable, "benchmarks/bare.py", argument, str(self._stage.control_plane.kubeconfig)]
        process = await asyncio.create_subprocess_exec(
            *command, self._stage.vercel, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{command} has failed")
        used = json.loads(output)
        await asyncio.sleep(0.5)
        self._stage.trail.read()
        rows = [row for row in self._stage.trail.since(mark, "bare") if row.verb != "list" or row.resource != OBJECTS]
        took = [last - first for first, last in _spans(rows).values()]
        self._note(
            Figures(
                "bare minimum",
                phase,
                self._count,
                used["seconds"],
                used["cpu"],
                used["peak"],
                statistics.median(took),
                sorted(took)[int(len(took) * 0.99)],
                dict(counted(rows)),
                dict(await calls(self._stage) - before),
            )
        )


def _spans(rows: list[Any]) -> dict[tuple[str, str], tuple[float, float]]:
    """Return when the requests for each object began and ended."""
    spans: dict[tuple[str, str], tuple[float, float]] = {}
    for row in rows:
        if row.resource.startswith(OBJECTS):
            first, last = spans.get(row.place, (row.received, row.done))
            spans[row.place] = min(first, row.received), max(last, row.done)
    return spans
