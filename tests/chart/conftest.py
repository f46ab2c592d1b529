"""Fixtures for the tests of the chart: Helm, and an API server whose CRD is the chart's own."""

from collections.abc import Iterator

import pytest

from chart.helm import Helm
from control_plane import ControlPlane, binaries


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(binaries.helm(), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """An API server where nobody else has installed the CRD: Helm refuses to take what it did not make."""
    with ControlPlane() as control_plane:
        yield control_plane
