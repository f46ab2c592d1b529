"""Fixtures for the tests of the chart: Helm, and an API server whose CRD is the chart's own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chart.helm import Helm
from control_plane import ControlPlane, binaries
from support.emulator_process import emulator_process
from vercel_emulator.client import EmulatorControl


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(binaries.helm(), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """An API server where nobody else has installed the CRD: Helm refuses to take what it did not make."""
    with ControlPlane() as control_plane:
        yield control_plane


@pytest.fixture
async def vercel(tmp_path: Path) -> AsyncIterator[EmulatorControl]:
    """An emulated Vercel for one test."""
    async with emulator_process(tmp_path / "emulator.log") as control:
        yield control
