"""What things cost, in requests and in steps of the core: counted, never timed."""

from collections.abc import AsyncIterator

import pytest

from support.acting import HOUR
from support.memory_api import SimulatedWorld, simulated_world


@pytest.fixture
async def world() -> AsyncIterator[SimulatedWorld]:
    """Drift is detected as often as by default. Vercel sets no limits."""
    async with simulated_world(drift_interval=6 * HOUR.total_seconds()) as made:
        yield made
