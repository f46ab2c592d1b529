"""Fixtures for the tests with a real Prometheus, which is looked for on PATH."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane import ControlPlane
from prometheus.stage import Watched, staged


def _program(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not on PATH: install Prometheus (Debian: apt-get install prometheus)", pytrace=False)
    return Path(found)


@pytest.fixture(scope="session")
def promtool() -> Path:
    return _program("promtool")


@pytest.fixture(scope="session")
def watched(control_plane: ControlPlane, crd: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Operators with all kinds of trouble, and a Prometheus that watches them."""
    with staged(control_plane, _program("prometheus"), tmp_path_factory.mktemp("prometheus")) as watched:
        yield watched
