"""Fixtures for the tests of the CRD: the definition, installed in a real API server, and kubectl in a namespace.

What is asserted here is what a user of kubectl reads, so everything goes through kubectl.
"""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_plane import ControlPlane
from crd.kubectl import Kubectl

CRD_FILE = Path(__file__).parents[2] / "deploy" / "crds" / "vercelcertificates.yaml"
PUBLISHED_WITHIN = 60.0
"""Seconds. It takes less than one where nothing else is going on."""


@pytest.fixture(scope="session")
def definition() -> dict[str, Any]:
    """The CRD as the file has it."""
    parsed: dict[str, Any] = yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))
    return parsed


@pytest.fixture(scope="session")
def published(control_plane: ControlPlane, crd: None) -> ControlPlane:
    """The control plane, where the CRD is installed and kubectl knows it by all its names."""
    # "Established" says that the API server serves the resource. Its list of resources, where kubectl looks up short
    # names, and its OpenAPI document, where explain looks, are published a moment later.
    deadline = time.monotonic() + PUBLISHED_WITHIN
    while True:
        control_plane.kubectl(
            "api-resources", "--api-group=vercel-operator.io"
        )  # renews kubectl's own copy of the list
        explained = control_plane.kubectl("explain", "vcert.spec.cns", check=False)
        if explained.returncode == 0:
            return control_plane
        assert time.monotonic() < deadline, f"the CRD was not published in {PUBLISHED_WITHIN:g} s: {explained.stderr}"
        time.sleep(0.1)


@pytest.fixture
def kubectl(published: ControlPlane, namespace: str) -> Kubectl:
    """kubectl in a namespace of this test's own; it takes the place of the fixture that other tests share."""
    return Kubectl(published, namespace)


@pytest.fixture(scope="session")
def shared_kubectl(published: ControlPlane) -> Kubectl:
    """kubectl in the default namespace, for tests that store nothing."""
    return Kubectl(published, "default")
