"""Fixtures for the tests of the chart: an API server whose CRD is the chart's own, and an emulated Vercel."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from control_plane import ControlPlane
from support.emulator_process import emulator_process
from vercel_emulator.client import EmulatorControl


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
