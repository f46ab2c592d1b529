"""What people found who had not written the operator, as tests. Each name says what a user does and expects."""

from collections.abc import AsyncIterator

import pytest

from support.memory_api import SimulatedWorld, simulated_world


@pytest.fixture
async def world() -> AsyncIterator[SimulatedWorld]:
    """An operator, an API server in memory and an emulated Vercel, on a clock that the test moves."""
    async with simulated_world() as made:
        yield made
