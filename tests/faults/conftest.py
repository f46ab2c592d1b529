"""The operator between an API server and a Vercel that both can fail."""

from collections.abc import AsyncIterator

import pytest

from control_plane import ControlPlane
from faults.stage import Stage
from faults.stage import stage as make_stage


@pytest.fixture
def shortcut() -> bool:
    """Whether the ways to Vercel are none of a module's concern; see ``World``."""
    return False


@pytest.fixture
async def stage(control_plane: ControlPlane, crd: None, one_authority: None, shortcut: bool) -> AsyncIterator[Stage]:
    async with make_stage(control_plane, shortcut=shortcut) as made:
        yield made
