"""The whole life of a certificate, on a clock that is moved."""

from collections.abc import AsyncIterator

import pytest

from control_plane import ControlPlane
from support.invariants import check
from support.world import World
from support.world import world as make_world

TEN_YEARS = 10 * 365 * 86400.0


@pytest.fixture
def drift_interval() -> float:
    """Seconds between two lists that detect drift. Most tests disable them."""
    return TEN_YEARS


@pytest.fixture
async def world(
    control_plane: ControlPlane, crd: None, namespace: str, drift_interval: float, one_authority: None
) -> AsyncIterator[World]:
    """A World whose invariants are checked at the end of the test."""
    async with make_world(control_plane.kubeconfig, namespace, drift_interval=drift_interval) as made:
        yield made
        await check(made)
