"""The real reconciler, with a real API server and an emulated Vercel, in one process and on a clock that tests move.

Only the watch is replaced: ``quiet`` lists what there is and tells the reconciler, as often as something changes.
"""

import asyncio
import copy
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

from kubernetes.aio.client import ApiClient, ApiException, Configuration, CustomObjectsApi
from pydantic import SecretStr

from support.clock import TestClock, settle
from support.shortcut import shorten
from vercel_certificate_operator.core.resource import GROUP, PLURAL, VERSION, Key
from vercel_certificate_operator.core.sightings import ScopeKey
from vercel_certificate_operator.kube import connection
from vercel_certificate_operator.kube.errors import KubeError
from vercel_certificate_operator.kube.vercel_certificates import VercelCertificates
from vercel_certificate_operator.leadership import SingleReplica
from vercel_certificate_operator.metrics import Scrape, Snapshot
from vercel_certificate_operator.objects import key_of
from vercel_certificate_operator.settings import Settings
from vercel_certificate_operator.wiring import Operator, build
from vercel_emulator import Emulator

TOKEN = "test-token-not-a-secret"
OTHER_TOKEN = "other-token-not-a-secret"
MERGE = "application/merge-patch+json"
PATIENCE = 60.0
"""Seconds of real time after which something that only waits for IO hangs."""


class TrueTime:
    """Vercel's time. It moves with the test's clock, except for steps of the wall clock."""

    def __init__(self, clock: TestClock) -> None:
        self._clock = clock
        self._start = clock.now().timestamp() - clock.monotonic()

    def __call__(self) -> float:
        return self._start + self._clock.monotonic()


@dataclass
class World:
    """A namespace, an emulated Vercel, an operator and a clock."""

    api: ApiClient
    namespace: str
    emulator: Emulator
    clock: TestClock
    settings: Settings
    """What the next process of the operator runs with; see ``configure``."""
    certificates_class: type[VercelCertificates] = VercelCertificates
    operator_api: ApiClient | None = None
    """The operator's own way to the API server; without it, it goes the way that the tests go."""
    watching: bool = True
    """Whether the watch tells anything."""
    changes: Callable[[], int] | None = None
    """How many requests may have changed a resource. What was listed is true until there is another one.

    None: nobody counts, so each look is a list.
    """
    shortcut: bool = False
    """Whether requests to Vercel take no sockets while none is to go wrong; see ``Shortcut``."""
    lives: int = 0
    """How many processes of the operator there were."""
    rounds: int = 0
    """How many reconciliations were begun."""
    acts: list[int] = field(default_factory=list)
    """What users did, each as the journal's last sequence number at that time."""
    operator: Operator | None = None
    """The parts of the process that runs; None: none runs."""
    _ids: "itertools.count[int]" = field(default_factory=itertools.count)
    _listed: tuple[int, list[dict[str, Any]]] | None = None
    """The newest list, and the changes before it."""
    _told: tuple[Operator, int] | None = None
    """The process that knows all that was listed after so many changes."""

    def __post_init__(self) -> None:
        self.custom = CustomObjectsApi(self.api)

    # --- the operator's process

    def configure(self, **changes: Any) -> None:
        """Changes the settings of processes that start from now on. They may be out of bounds."""
        self.settings = self.settings.model_copy(update=changes)

    def start(self) -> Operator:
        """Starts a new process of the operator."""
        self.lives += 1
        self.operator = build(
            self.settings,
            api=self.operator_api or self.api,
            clock=self.clock,
            fence=SingleReplica().fence,
            instance="test",
            certificates_class=self.certificates_class,
            new_id=lambda: f"attempt-{next(self._ids)}",
        )
        if self.shortcut:
            accounts: Any = self.operator.accounts
            new_client, emulator = accounts._new_client, self.emulator
            accounts._new_client = lambda *args: shorten(new_client(*args), emulator, faults=False)
        self._run(self.operator)
        return self.operator

    def _run(self, operator: Operator) -> None:
        async def reconcile(key: Key | ScopeKey) -> float | None:
            self.rounds += 1
            return await operator.reconciler.reconcile(key)

        self.task = asyncio.create_task(operator.queue.run(reconcile))

    async def crash(self) -> None:
        """Ends the process at once, without a clean stop."""
        if self.operator is not None:
            self.task.cancel()
            await asyncio.wait({self.task})
            await self.operator.reconciler.abort()
            await self.operator.events.aclose(0)
            await self.operator.accounts.aclose()
            self.operator = None

    async def restart(self) -> None:
        await self.crash()
        self.start()
        await self.quiet()

    @property
    def watched(self) -> tuple[str, ...]:
        """The namespaces that the operator watches."""
        return (self.namespace,)

    async def sync(self) -> bool:
        """Passes the objects to the operator as a watch would. Returns whether there was news."""
        assert self.operator is not None
        if not self.watching:
            return False
        changes = self.changes() if self.changes else None
        if changes is not None and self._told == (self.operator, changes):
            return False
        operator, objects, reconciler = self.operator, self.operator.objects, self.operator.reconciler
        seen, news = set(), False

        def version_of(key: Key) -> str | None:
            body = objects.body(key)  # which is not parsed as a resource is
            return None if body is None else str(body["metadata"]["resourceVersion"])

        try:
            bodies = await self._list(self.watched)
        except KubeError:
            return False
        for body in bodies:
            key = key_of(body)
            seen.add(key)
            known = version_of(key)
            if known is None or known != body["metadata"]["resourceVersion"]:
                reconciler.seen(body)
                # After a restore of etcd, its state is older than what is known, until the next list.
                news = news or known is None or version_of(key) != known
        for key in set(objects.keys()) - seen:
            reconciler.vanished(key)
            news = True
        self._told = None if changes is None else (operator, changes)
        return news

    async def _list(self, namespaces: Sequence[str]) -> list[dict[str, Any]]:
        """Returns the resources. The caller must not change them."""
        changes = self.changes() if self.changes and list(namespaces) == [self.namespace] else None
        if changes is None or self._listed is None or self._listed[0] != changes:
            bodies = [body async for body in VercelCertificates(self.api).list(namespaces)]
            if changes is None:
                return bodies
            self._listed = changes, bodies
        return self._listed[1]

    async def quiet(self, *, hanging: int = 0) -> None:
        """Waits until nothing is due at this time, except for this number of calls that hang at Vercel."""
        async with asyncio.timeout(PATIENCE):
            while True:
                works, rounds = bool(self.operator and self.operator.working), self.rounds
                news = await self.sync()
                await self._idle(hanging)
                works = works or self.rounds > rounds  # then the operator may have written
                if not news and not (works and await self.sync()):
                    break
        if self.operator is not None:
            await self.operator.events.flush(PATIENCE)

    async def _idle(self, hanging: int) -> None:
        assert self.operator is not None
        while True:
            await settle()  # a key that was woken gets its worker a few turns of the event loop later
            if self.task.done():
                self.task.result()
            stuck = sum(fault.hanging for fault in self.emulator.faults)
            due = self.clock.next_wake is not None and self.clock.next_wake <= 0
            working = self.operator.working
            if not due and len(working) <= min(hanging, stuck):
                return
            if working and not stuck:
                # What runs now may be what is to hang, once its request has arrived.
                patience = 0.01 if hanging else None
                await asyncio.wait(working, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(0.002)

    async def advance(self, seconds: float | timedelta, *, hanging: int = 0) -> None:
        """Moves the clock by these seconds. Everything that becomes due is done at its time."""
        left = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
        while True:
            wake = self.clock.next_wake
            if wake is None or wake > left:
                break
            await self.clock.advance(wake)
            left -= wake
            await self._idle(hanging)  # what the operator writes itself, it knows without a watch
        await self.clock.advance(left)
        await self.quiet(hanging=hanging)

    # --- what users do

    async def apply(self, name: str, cns: list[str], *, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        """Creates a resource or replaces its spec."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "VercelCertificate",
            "metadata": {"name": name, "namespace": self.namespace, "annotations": annotations or {}},
            "spec": {"cns": cns, **spec},
        }
        there = await self.get(name)
        if there is None:
            self.acts.append(self.emulator.journal.last)
            await self.custom.create_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, body)
        else:
            gone = {field: None for field in there["spec"] if field not in spec and field != "cns"}
            await self.patch(name, {"spec": {**gone, "cns": cns, **spec}})

    async def patch(self, name: str, patch: dict[str, Any]) -> None:
        self.acts.append(self.emulator.journal.last)
        await self.custom.patch_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, name, patch, _content_type=MERGE
        )

    async def annotate(self, name: str, annotation: str, value: str | None) -> None:
        await self.patch(name, {"metadata": {"annotations": {f"{GROUP}/{annotation}": value}}})

    async def patch_status(self, name: str, status: dict[str, Any] | None) -> None:
        """Changes the status as a user who may write it, for example for a restore from a backup."""
        self.acts.append(self.emulator.journal.last)
        await self.custom.patch_namespaced_custom_object_status(
            GROUP, VERSION, self.namespace, PLURAL, name, {"status": status}, _content_type=MERGE
        )

    async def delete(self, name: str) -> None:
        self.acts.append(self.emulator.journal.last)
        await self.custom.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)

    async def get(self, name: str) -> dict[str, Any] | None:
        try:
            body = await self.custom.get_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)
        except ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return cast(dict[str, Any], body)

    async def all(self) -> list[dict[str, Any]]:
        bodies = json.dumps(await self._list([self.namespace]))
        return cast(list[dict[str, Any]], json.loads(bodies))  # the caller's own

    async def status(self, name: str) -> dict[str, Any]:
        body = await self.get(name)
        assert body is not None, f"{name} is gone"
        return dict(body.get("status") or {})

    async def condition(self, name: str, kind: str) -> tuple[str, str, str]:
        """Returns status, reason and message of a condition."""
        for condition in (await self.status(name)).get("conditions", []):
            if condition["type"] == kind:
                return condition["status"], condition["reason"], condition["message"]
        return "", "", ""

    async def ready(self, name: str) -> tuple[str, str]:
        """Returns status and reason of Ready."""
        return (await self.condition(name, "Ready"))[:2]

    async def issuing(self, name: str) -> tuple[str, str]:
        """Returns status and reason of Issuing."""
        return (await self.condition(name, "Issuing"))[:2]

    def scrape(self, *, leads: bool = True, per_certificate: bool = True) -> Scrape:
        """Returns what ``/metrics`` shows now."""
        assert self.operator is not None
        snapshot = Snapshot.take(self.operator.sources(lambda: leads))
        return Scrape(self.operator.counted.registry, snapshot, per_certificate=per_certificate)

    def calls(self, since: int = 0) -> list[str]:
        """Returns the kinds of the requests that Vercel received, in order."""
        return [entry.call for entry in self.emulator.journal.since(since)]

    def live(self) -> dict[str, list[str]]:
        """Returns the names of the certificates at Vercel that are not removed, by id."""
        return {certificate.id: sorted(certificate.cns) for certificate in self.emulator.state.live()}


def settings_for(namespace: str, emulator: Emulator, **changes: Any) -> Settings:
    """Returns the settings of an operator in a World with these changes, which may be out of bounds."""
    settings = Settings(
        namespaces=(namespace,),
        vercel_api_url=emulator.url,
        vercel_token=SecretStr(TOKEN),
        default_token_namespaces=("*",),
        call_timeout=40,  # real seconds, a quarter of them to connect: other tests share the cores
        longest_sleep=30 * 86400,  # nothing but a test of clock steps needs the usual hour
    )
    return settings.model_copy(update={"default_token_namespaces": ("*",), **changes})


_configurations: dict[Path, Configuration] = {}


async def configuration_of(kubeconfig: Path) -> Configuration:
    """Returns what ``connection.load`` does for a file that doesn't change. It parses YAML, which takes 8 ms."""
    if kubeconfig not in _configurations:
        _configurations[kubeconfig] = await connection.load(kubeconfig)
    return copy.copy(_configurations[kubeconfig])


@asynccontextmanager
async def world(
    kubeconfig: Path,
    namespace: str,
    *,
    certificates_class: type[VercelCertificates] = VercelCertificates,
    started: bool = True,
    **settings: Any,
) -> AsyncIterator[World]:
    """A World that is up, on a clock that starts at the present: the API server's own clock can't be moved.

    Args:
        kubeconfig: of the API server.
        namespace: where everything happens.
        certificates_class: interferes with the operator's requests.
        started: whether the operator runs.
        settings: of the operator, where they are to differ.
    """
    clock = TestClock(datetime.now(UTC).replace(microsecond=0))
    emulator = Emulator(
        tokens=(TOKEN, OTHER_TOKEN), teams={"team_alpha": "alpha", "team_beta": "beta"}, clock=TrueTime(clock), seed="s"
    )
    async with emulator, connection.api_client(await configuration_of(kubeconfig)) as api:
        of_operator = settings_for(namespace, emulator, **settings)
        made = World(api, namespace, emulator, clock, of_operator, certificates_class)
        if started:
            made.start()
        try:
            yield made
        finally:
            emulator.faults.clear("drop")
            await made.crash()


def pretty(value: Any) -> str:
    """Returns a text for the message of a failing test."""
    return json.dumps(value, indent=1, default=str)
