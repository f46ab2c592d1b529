"""What people reported who tried to break the operator, each report with variants of its kind.

Most tests need no control plane. Those that claim something about Kubernetes are in ``test_on_a_real_api_server.py``.
"""

from collections.abc import AsyncIterator

import pytest

from support.acting import HOUR
from support.memory_api import SimulatedWorld, simulated_world


@pytest.fixture
async def world() -> AsyncIterator[SimulatedWorld]:
    """Drift is detected as often as by default, and the namespace may adopt certificates."""
    async with simulated_world(drift_interval=6 * HOUR.total_seconds(), default_token_namespaces=("web",)) as made:
        yield made
