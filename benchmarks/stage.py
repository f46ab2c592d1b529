"""What is measured, and on what: a control plane, an emulated Vercel in a process of its own, and controllers."""

import asyncio
import os
import re
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import yaml

from control_plane import ControlPlane, Process, temporary_folder
from trail import Trail
from vercel_emulator import EmulatorControl
from vercel_emulator.models import Fault

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
TOKEN = "bench-token-not-a-secret"  # noqa: S105 - the emulator accepts what it is told to
LATENCY = 0.010
"""Seconds that the emulated Vercel takes for each answer."""
IN_FLIGHT = 32
"""Calls to Vercel at a time, for everything that is measured."""
TICKS = os.sysconf("SC_CLK_TCK")
CONCURRENCY = 32
PATH = "/apis/vercel-operator.io/v1/namespaces/{}/vercelcertificates"
QUIET = 0.03
"""Share of a processor below which a process counts as idle."""


class Kube:
    """The API server, by plain HTTP requests: what the load and the bare minimum are made with."""

    def __init__(self, kubeconfig: Path, agent: str) -> None:
        """Read a kubeconfig with a token in it."""
        content = yaml.safe_load(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        self._server = cluster["server"]
        self._authority = cluster["certificate-authority-data"]
        self._headers = {"Authorization": f"Bearer {user['token']}", "User-Agent": f"{agent}/1"}

    async def __aenter__(self) -> Self:
        """Open the connections."""
        import base64

        tls = ssl.create_default_context(cadata=base64.b64decode(self._authority).decode())
        self._session = aiohttp.ClientSession(
            self._server, headers=self._headers, connector=aiohttp.TCPConnector(limit=CONCURRENCY, ssl=tls)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._session.close()

    async def send(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Any:
        """Send a request and return the JSON of the answer. Raises aiohttp.ClientResponseError."""
        headers = {"Content-Type": kind} if body is not None else {}
        async with self._session.request(method, path, json=body, headers=headers) as answer:
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {await answer.text()}")
            return await answer.json()

    async def objects(self) -> list[dict[str, Any]]:
        """List all VercelCertificates, in pages."""
        found: list[dict[str, Any]] = []
        more = ""
        while True:
            path = f"/apis/vercel-operator.io/v1/vercelcertificates?limit=500{more}"
            page = await self.send("GET", path)
            found += page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return found
            more = f"&continue={token}"


async def each(items: Iterable[T], act: Callable[[T], Awaitable[object]], at_a_time: int = CONCURRENCY) -> None:
    """Do something with each item, some at a time."""
    gate = asyncio.Semaphore(at_a_time)

    async def one(item: T) -> None:
        async with gate:
            await act(item)

    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(one(item))


class Stage:
    """A control plane, an emulator and the controllers that are started on them."""

    def __init__(self, stack: ExitStack, python: Path) -> None:
        """Start the control plane and the emulator. They end with the stack.

        Args:
            python: runs the operator.
        """
        self._stack = stack
        self._python = python.absolute()
        self.folder = stack.enter_context(temporary_folder("vercel-certificate-operator-bench-"))
        self.control_plane = stack.enter_context(ControlPlane())
        self.control_plane.define(ROOT / "deploy" / "crds")
        self.trail = Trail(self.control_plane.folder / "audit.log")
        emulator = self._process(
            "emulator", [sys.executable, "-m", "vercel_certificate_operator", "emulate", "--port=0"]
        )
        while not (found := re.search(r"listening on (http://\S+)", emulator.output())):
            time.sleep(0.05)
        self.vercel = found[1]

    async def set_up(self) -> None:
        """Give the emulated Vercel its latency."""
        async with EmulatorControl(self.vercel) as emulator:
            await emulator.add_fault(Fault(call="any", action="answer", delay=LATENCY, times=None))

    def _process(self, name: str, command: list[str | Path]) -> Process:
        environment = {
            **os.environ,
            "VERCEL_TOKEN": TOKEN,
            "VERCEL_EMULATOR_TOKEN": TOKEN,
            "VERCEL_DEFAULT_TOKEN_NAMESPACES": "*",
            "PYTHONPATH": str(ROOT / "operator"),
        }
        process = Process(command, log=self.folder / f"{name}.log", env=environment)
        self._stack.callback(process.stop)
        return process

    def operator(self, *flags: str, profile: Path | None = None) -> "Running":
        """Start the operator."""
        how: list[str | Path] = ["-m", "cProfile", "-o", profile] if profile is not None else []
        command = [self._python, *how, "-m", "vercel_certificate_operator", "run"]
        command += ["--kubeconfig", self.control_plane.kubeconfig, "--vercel-api-url", self.vercel]
        command += ["--listen=127.0.0.1:0", f"--max-in-flight={IN_FLIGHT}", *flags]
        if "--leader-elect" in flags:
            command.append("--lease-namespace=default")
        return Running(self._process("operator", command), "vercel-certificate-operator")

    def peer(self, program: Path, *flags: str) -> "Running":
        """Start the controller in Go."""
        command = [program, "--kubeconfig", self.control_plane.kubeconfig, "--vercel-api-url", self.vercel]
        return Running(self._process("peer", [*command, f"--max-in-flight={IN_FLIGHT}", *flags]), "peer")

    def kube(self, agent: str = "bench") -> Kube:
        """Return a client for the API server."""
        return Kube(self.control_plane.kubeconfig, agent)


class Running:
    """A controller that runs."""

    def __init__(self, process: Process, agent: str) -> None:
        """Note a process, and the user agent of its requests."""
        self.process = process
        self.agent = agent

    def cpu(self) -> float:
        """Return the CPU seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak(self) -> float:
        """Return the most memory since the last ``forget_peak``, in MB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    def forget_peak(self) -> None:
        """Measure the peak from now on."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    async def settled(self, *, within: float = 120.0) -> float:
        """Wait until it is idle for two seconds. Returns the Unix time at which that began."""
        deadline, idle_since, before = time.monotonic() + within, time.time(), self.cpu()
        while time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            now = self.cpu()
            if (now - before) / 0.5 > QUIET:
                idle_since = time.time()
            elif time.time() - idle_since >= 2.0:
                return idle_since
            before = now
            if not self.process.running:
                raise RuntimeError(f"{self.agent} has ended: {self.process.last_lines()}")
        raise TimeoutError(f"{self.agent} does not come to rest:\n{self.process.last_lines()}")

    def stop(self) -> float:
        """End it in good order. Returns the seconds that it took."""
        began = time.monotonic()
        self.process.stop(60)
        return time.monotonic() - began
