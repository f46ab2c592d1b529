"""What the operator costs: requests, CPU and memory for so many certificates, on a real API server.

``make bench`` runs this (``N=5000`` for another number). Requests are counted from the API server's audit log and the
emulator's journal. CPU times are compared with what two bare PATCHes for each resource cost in the same run, since
machines differ and are noisy; nothing here passes or fails by a time.
"""

import argparse
import asyncio
import os
import re
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from kubernetes.aio.client import ApiClient, CustomObjectsApi

from control_plane import ControlPlane, Process, temporary_folder
from vercel_certificate_operator.core.resource import GROUP, KIND, PLURAL, VERSION
from vercel_certificate_operator.kube import connection
from vercel_emulator import EmulatorControl

ROOT = Path(__file__).parents[1]
PLACE = (GROUP, VERSION, "default", PLURAL)
TOKEN = "bench-token-not-a-secret"  # noqa: S105 - the emulator accepts what it is told to
TICKS = os.sysconf("SC_CLK_TCK")
CONCURRENCY = 32
IDLE = 20.0
"""Seconds for which the operator is watched with nothing to do."""
SCRAPES = 10
MERGE = "application/merge-patch+json"


def cpu(process: Process) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(process: Process, what: str = "VmHWM") -> float:
    """Memory of a process, at its peak (``VmHWM``) or now (``VmRSS``), in MB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


class Bench:
    """A control plane, an emulator and operators."""

    def __init__(self, stack: ExitStack, count: int, profile: Path | None) -> None:
        self.stack = stack
        self.count = count
        self.profile = profile
        self.folder = stack.enter_context(temporary_folder("vercel-certificate-operator-bench-"))
        self.control_plane = stack.enter_context(ControlPlane())
        self.control_plane.kubectl("apply", "--server-side", "-f", ROOT / "deploy" / "crds")
        self.control_plane.kubectl("wait", "--for=condition=Established", "-f", ROOT / "deploy" / "crds")
        emulator = self.process("emulator", "emulate", "--port=0", f"--token={TOKEN}")
        while not (found := re.search(r"listening on (http://\S+)", emulator.output())):
            time.sleep(0.05)
        self.vercel = found[1]

    def process(self, name: str, *args: str) -> Process:
        environment = {**os.environ, "VERCEL_TOKEN": TOKEN, "VERCEL_DEFAULT_TOKEN_NAMESPACES": "*"}
        how = ["-m", "cProfile", "-o", str(self.profile)] if self.profile and args[0] == "run" else []
        command = (sys.executable, *how, "-m", "vercel_certificate_operator", *args)
        process = Process(command, log=self.folder / f"{name}.log", env=environment)
        self.stack.callback(process.stop)
        return process

    def operator(self) -> Process:
        kubeconfig = str(self.control_plane.kubeconfig)
        flags = ("--kubeconfig", kubeconfig, "--vercel-api-url", self.vercel, "--listen=127.0.0.1:0")
        return self.process("operator", "run", *flags)

    async def scrape(self, operator: Process) -> tuple[float, int]:
        """What Prometheus costs, each time: CPU seconds, and bytes of text."""
        port = operator.output().split("listening on port ")[1].split()[0]
        start = cpu(operator)
        for _ in range(SCRAPES):
            with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/metrics") as answer:
                size = len(answer.read())
        return (cpu(operator) - start) / SCRAPES, size

    async def calls(self) -> Counter[str]:
        """Vercel's calls so far, by name."""
        async with EmulatorControl(self.vercel) as emulator:
            return Counter({name: number for name, number in (await emulator.journal()).counts.items() if number})

    async def each(self, act: Callable[[str, int], Awaitable[None]]) -> None:
        """Do something with each resource, some at a time."""
        gate = asyncio.Semaphore(CONCURRENCY)

        async def one(number: int) -> None:
            async with gate:
                await act(f"site-{number}", number)

        await asyncio.gather(*(one(number) for number in range(self.count)))

    async def ready(self, api: CustomObjectsApi) -> int:
        """How many resources are Ready."""
        found: Any = await api.list_namespaced_custom_object(*PLACE)
        return sum(
            any(
                c["type"] == "Ready" and c["status"] == "True" for c in (item.get("status") or {}).get("conditions", ())
            )
            for item in found["items"]
        )

    def writes(self, mark: int) -> dict[str, int]:
        """The operator's writes since then, by verb and resource."""
        requests = self.control_plane.audit.since(mark).writes().matching(user_agent="vercel-certificate-operator/")
        return dict(Counter(f"{request.verb} {request.resource}" for request in requests))

    async def run(self) -> None:
        async with connection.api_client(await connection.load(self.control_plane.kubeconfig)) as client:
            await self.measure(client)

    async def measure(self, client: ApiClient) -> None:
        client.user_agent = "bench"  # what it does itself is not counted as the operator's
        api = CustomObjectsApi(client)
        operator = self.operator()
        await asyncio.sleep(3)
        start, mark, before = cpu(operator), self.control_plane.audit.mark(), await self.calls()

        async def create(name: str, number: int) -> None:
            body = {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "metadata": {"name": name},
                "spec": {"cns": [f"s{number}.example.com", f"*.s{number}.example.com"]},
            }
            await api.create_namespaced_custom_object(*PLACE, body)

        began = time.monotonic()
        await self.each(create)

        async with asyncio.timeout(600):
            while await self.ready(api) < self.count:  # noqa: ASYNC110 - another process gets them ready
                await asyncio.sleep(1)
        seconds = time.monotonic() - began
        await asyncio.sleep(3)  # for the last Events
        spent = cpu(operator) - start
        print(f"{self.count} certificates: all Ready after {seconds:.0f} s, {self.count / seconds:.0f} a second")
        print(f"  writes {self.writes(mark)}, Vercel {dict(await self.calls() - before)}")
        print(
            f"  operator: {spent / self.count * 1000:.1f} ms of CPU each, memory at its peak {memory(operator):.0f} MB"
        )

        start, mark, before = cpu(operator), self.control_plane.audit.mark(), await self.calls()
        await asyncio.sleep(IDLE)
        print(f"idle for {IDLE:.0f} s: {cpu(operator) - start:.2f} s of CPU, writes {self.writes(mark)}, ", end="")
        print(f"Vercel {dict(await self.calls() - before)}")
        scrape, size = await self.scrape(operator)
        print(f"a scrape: {size / 1e6:.2f} MB, {scrape:.2f} s of CPU")
        print(f"  SIGTERM to exit: {_stop(operator):.2f} s")
        if self.profile:
            return

        mark, before = self.control_plane.audit.mark(), await self.calls()
        operator = self.operator()
        await asyncio.sleep(8 + self.count / 1000)
        print(f"restart with all of them Ready: {cpu(operator):.1f} s of CPU, {memory(operator):.0f} MB, ", end="")
        print(f"writes {self.writes(mark)}, Vercel {dict(await self.calls() - before)}")
        _stop(operator)

        async def patch(name: str, number: int) -> None:
            for value in ("one", "two"):
                annotations = {"metadata": {"annotations": {"bench": value}}}
                await api.patch_namespaced_custom_object(*PLACE, name, annotations, _content_type=MERGE)

        start = time.process_time()
        await self.each(patch)
        bare = time.process_time() - start
        print(f"two bare PATCHes for each: {bare / self.count * 1000:.1f} ms; ", end="")
        print(f"the operator took {spent / bare:.1f} times that, a scrape of all {scrape / bare:.3f} times")


def _stop(process: Process) -> float:
    began = time.monotonic()
    process.signal(signal.SIGTERM)
    process.wait(60)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="certificates (default 1000)")
    parser.add_argument("--profile", type=Path, help="write a cProfile of the operator here; its times are then wrong")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        asyncio.run(Bench(stack, arguments.count, arguments.profile).run())


if __name__ == "__main__":
    main()
