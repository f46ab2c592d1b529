"""The whole life of a certificate, on a clock that is moved."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kubernetes.aio.client import CoreV1Api

from control_plane import ControlPlane
from support.invariants import check
from support.world import World
from support.world import world as make_world
from vercel_certificate_operator.kube import connection

TEN_YEARS = 10 * 365 * 86400.0


@pytest.fixture
def drift_interval() -> float:
    """Seconds between two looks for drift. Most tests are about something else, and go without."""
    return TEN_YEARS


@pytest.fixture
async def namespace(control_plane: ControlPlane) -> str:
    """As elsewhere, but not by kubectl: there are many tests here, and that takes its time."""
    name = f"test-{secrets.token_hex(4)}"
    body: Any = {"metadata": {"name": name}}
    async with connection.api_client(await connection.load(control_plane.kubeconfig)) as api:
        await CoreV1Api(api).create_namespace(body)
    return name


@pytest.fixture
async def world(control_plane: ControlPlane, crd: None, namespace: str, drift_interval: float) -> AsyncIterator[World]:
    """When a test is done, what always holds has to hold."""
    async with make_world(control_plane.kubeconfig, namespace, drift_interval=drift_interval) as made:
        yield made
        await check(made)
