"""The operator and the emulator, as processes, on the real API server; driven by kubectl, as a user would."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from control_plane import ControlPlane
from support.emulator_process import emulator_process
from support.operator_process import TOKEN, Namespace, OperatorProcess, StartOperator
from vercel_emulator.client import EmulatorControl


@pytest.fixture
def ns(control_plane: ControlPlane, crd: None, namespace: str) -> Namespace:
    return Namespace(control_plane, namespace)


@pytest.fixture
def preloaded() -> bool:
    """Whether operators are forked, which is faster, and not started by their command line."""
    return True


@pytest.fixture
async def vercel(tmp_path: Path) -> AsyncIterator[EmulatorControl]:
    """An emulated Vercel for one test."""
    async with emulator_process(tmp_path / "emulator.log", "--team", "team_alpha=alpha") as control:
        yield control


@pytest.fixture
def start_operator(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, tmp_path: Path, *, preloaded: bool
) -> Iterator[StartOperator]:
    """Starts the operator for the test's namespace. No line that it ever logs holds the token."""
    log = tmp_path / "operator.log"
    started: list[OperatorProcess] = []

    async def start(*args: str) -> OperatorProcess:
        operator = OperatorProcess(
            control_plane.kubeconfig,
            log,
            "--namespace",
            ns.name,
            "--vercel-api-url",
            vercel.url,
            *args,
            preloaded=preloaded,
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
