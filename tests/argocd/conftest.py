"""Fixtures for the tests of what Argo CD is given: a World, as in ``tests/life``."""

from collections.abc import AsyncIterator

import pytest

from control_plane import ControlPlane
from support.world import World
from support.world import world as make_world


@pytest.fixture
async def world(control_plane: ControlPlane, crd: None, namespace: str, one_authority: None) -> AsyncIterator[World]:
    async with make_world(control_plane.kubeconfig, namespace, drift_interval=10 * 365 * 86400.0) as made:
        yield made
