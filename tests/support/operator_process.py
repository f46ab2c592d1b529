"""The operator and the emulator as separate processes, and what a user sees of them."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Protocol

import aiohttp

from control_plane import Process
from support.preloaded import Preloaded, plain_environment

TOKEN = "test-token-not-a-secret"
DEFAULT_TOKEN = {"VERCEL_TOKEN": TOKEN, "VERCEL_DEFAULT_TOKEN_NAMESPACES": "*"}
"""The environment of an operator whose default token every namespace may use."""
PATIENCE = 60.0
"""Seconds after which something that should happen at once has not. No test measures a time by it."""


async def eventually(what: str, ask: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """Return the first answer that is true.

    Args:
        what: What should become true, for the message of a failing test.
        ask: Asked in a thread, at first often, then several times a second: mostly, it starts a kubectl.
        seconds: The test fails after so many.
    """
    pause = 0.02
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = await asyncio.to_thread(ask)
                if answer:
                    return answer
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 0.3)
    except TimeoutError:
        raise AssertionError(f"still not so after {seconds:g} s: {what}") from None


class Cluster(Protocol):
    """A cluster on which kubectl runs."""

    def kubectl(
        self,
        *args: str | Path,
        input: str | None = None,  # noqa: A002  # as subprocess.run has it
        check: bool = True,
        timeout: float = 120.0,
    ) -> CompletedProcess[str]: ...


class Namespace:
    """A namespace, as kubectl shows it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self.name = name

    def kubectl(self, *args: str | Path, check: bool = True, stdin: str | None = None) -> CompletedProcess[str]:
        return self._cluster.kubectl("--namespace", self.name, *args, check=check, input=stdin)

    async def run(self, *args: str | Path, check: bool = True, stdin: str | None = None) -> str:
        completed = await asyncio.to_thread(self.kubectl, *args, check=check, stdin=stdin)
        return completed.stdout

    async def apply(self, name: str, cns: list[str], **spec: Any) -> None:
        manifest = {
            "apiVersion": "vercel-operator.io/v1",
            "kind": "VercelCertificate",
            "metadata": {"name": name},
            "spec": {"cns": cns, **spec},
        }
        await self.run("apply", "-f", "-", stdin=json.dumps(manifest))

    def get(self, name: str) -> dict[str, Any] | None:
        """Returns the object; None if there is none."""
        completed = self.kubectl("get", "vcert", name, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] | None = json.loads(completed.stdout) if completed.stdout else None
        return found

    def all(self) -> list[dict[str, Any]]:
        """Returns all VercelCertificates of the namespace."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", "vcert", "-o", "json").stdout)["items"]
        return items

    def status(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = (self.get(name) or {}).get("status", {})
        return status

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        conditions = self.status(name).get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == kind), {})

    async def ready(self, name: str) -> dict[str, Any]:
        """Waits until Ready is True and returns the status."""
        await self.run("wait", "--for=condition=Ready", f"vcert/{name}", f"--timeout={PATIENCE:g}s")
        return await asyncio.to_thread(self.status, name)

    async def reason(self, name: str, kind: str, reason: str) -> dict[str, Any]:
        """Waits until a condition has this reason and returns it."""

        def has_it() -> dict[str, Any] | None:
            condition = self.condition(name, kind)
            return condition if condition.get("reason") == reason else None

        found: dict[str, Any] = await eventually(f"{kind} of {name} has reason {reason}", has_it)
        return found

    def events(self) -> list[dict[str, Any]]:
        """Returns the Events (events.k8s.io/v1) by time."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", "events.events.k8s.io", "-o", "json").stdout)[
            "items"
        ]
        return sorted(items, key=lambda event: event["eventTime"] or "")

    async def event(self, reason: str) -> dict[str, Any]:
        """Waits for an Event with this reason and returns the first one."""

        def find() -> dict[str, Any] | None:
            return next((event for event in self.events() if event["reason"] == reason), None)

        found: dict[str, Any] = await eventually(f"an event {reason}", find)
        return found


def start_command(*args: str, log: Path, env: Mapping[str, str], preloaded: bool) -> Process:
    """Starts ``vercel-certificate-operator`` with these arguments; see ``OperatorProcess``."""
    if preloaded:
        return Preloaded(args, log=log, env=env)
    return Process((sys.executable, "-m", "vercel_certificate_operator", *args), log=log, env=env)


class OperatorProcess:
    """``vercel-certificate-operator run``, as it would run on a laptop."""

    def __init__(
        self,
        kubeconfig: Path,
        log: Path,
        *args: str,
        env: Mapping[str, str] | None = None,
        preloaded: bool = False,
    ) -> None:
        """Start it.

        Args:
            kubeconfig: of its cluster.
            log: what it prints is appended to this file.
            args: of the command ``run``.
            env: its variables, in addition to some of this process. None: a default token.
            preloaded: fork it from a process that has its modules already, which saves a second.
        """
        self._log = log
        self._start = log.stat().st_size if log.exists() else 0
        self.process = start_command(
            "run",
            "--kubeconfig",
            str(kubeconfig),
            *args,
            log=log,
            env={**plain_environment(), **(env or DEFAULT_TOKEN)},
            preloaded=preloaded,
        )

    def logs(self) -> str:
        """Returns the log of this process."""
        return self._log.read_text()[self._start :]

    def whole_log(self) -> str:
        """What it and those before it have said."""
        return self._log.read_text()

    async def serving(self) -> None:
        """Waits until it serves."""
        await eventually("the operator serves", lambda: "serves" in self.logs() or not self.process.running)
        assert self.process.running, self.logs()

    async def kill(self) -> None:
        """Sends SIGKILL and waits for the end."""
        self.process.signal(signal.SIGKILL)
        await asyncio.to_thread(self.process.wait, PATIENCE)

    async def terminate(self) -> int:
        """Sends SIGTERM and returns the exit status."""
        self.process.signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, PATIENCE)


async def port_of(operator: OperatorProcess) -> str:
    """Waits until its HTTP server listens and returns the port."""
    await eventually("it listens", lambda: "listening on port" in operator.logs())
    return operator.logs().split("listening on port ")[1].split()[0]


async def ask(operator: OperatorProcess, probe: str, *, seconds: float = 10) -> tuple[int, str]:
    """Returns the status and the body of one of its probes."""
    port = await port_of(operator)
    timeout = aiohttp.ClientTimeout(total=seconds)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"http://127.0.0.1:{port}/{probe}") as answer,
    ):
        return answer.status, await answer.text()


class StartOperator(Protocol):
    """Starts another operator process with these additional flags."""

    async def __call__(self, *args: str) -> OperatorProcess: ...
