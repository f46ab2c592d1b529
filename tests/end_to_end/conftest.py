"""The operator and the emulator, as processes, on the real API server; driven by kubectl, as a user would."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from control_plane import ControlPlane, Process
from support.operator_process import TOKEN, Namespace, OperatorProcess, StartOperator, eventually
from vercel_emulator.client import EmulatorControl


@pytest.fixture
def ns(control_plane: ControlPlane, crd: None, namespace: str) -> Namespace:
    return Namespace(control_plane, namespace)


@pytest.fixture
async def vercel(tmp_path: Path) -> AsyncIterator[EmulatorControl]:
    """An emulated Vercel for one test."""
    log = tmp_path / "emulator.log"
    command = (sys.executable, "-m", "vercel_certificate_operator", "emulate", "--port", "0", "--token", TOKEN)
    process = Process((*command, "--team", "team_alpha=alpha"), log=log)
    try:
        found = "listening on "
        await eventually("the emulator listens", lambda: found in log.read_text() or not process.running)
        url = next(line for line in log.read_text().splitlines() if found in line).split(found)[1].split()[0]
        async with EmulatorControl(url) as control:
            yield control
    finally:
        process.kill()


@pytest.fixture
def start_operator(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, tmp_path: Path
) -> Iterator[StartOperator]:
    """Starts the operator for the test's namespace. No line that it ever logs holds the token."""
    log = tmp_path / "operator.log"
    started: list[OperatorProcess] = []

    async def start(*args: str) -> OperatorProcess:
        operator = OperatorProcess(
            control_plane.kubeconfig, log, "--namespace", ns.name, "--vercel-api-url", vercel.url, *args
        )
        started.append(operator)
        await operator.serving()
        return operator

    yield start
    for operator in started:
        operator.process.kill()
    print(log.read_text() if log.exists() else "the operator was never started")
    assert not log.exists() or TOKEN not in log.read_text()
    assert TOKEN not in str(ns.events())
    assert TOKEN not in ns.kubectl("get", "vcert", "-o", "yaml").stdout


@pytest.fixture
async def operator(start_operator: StartOperator) -> OperatorProcess:
    return await start_operator()
