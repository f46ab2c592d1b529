"""Fixtures that all tests share. The control plane starts with the first test that asks for it."""

import secrets
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import tools
from control_plane import ControlPlane
from support.helm import Helm

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts so what it runs in the background. Processes started by tests would inherit it, deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

CRDS = Path(__file__).parents[1] / "deploy" / "crds"


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A real API server, one for the whole run."""
    with ControlPlane() as control_plane:
        yield control_plane


@pytest.fixture(scope="session")
def crd(control_plane: ControlPlane) -> None:
    """The CustomResourceDefinition of VercelCertificate is installed and served."""
    control_plane.kubectl("apply", "--server-side", "-f", CRDS)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRDS)


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm, with settings and caches of its own."""
    return Helm(tools.helm(), tmp_path_factory.mktemp("helm"))


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A fresh namespace for one test. It stays until the run ends: an operator under test should watch only this."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.kubectl("create", "namespace", name)
    return name


@pytest.fixture
def kubectl(control_plane: ControlPlane, namespace: str) -> partial[CompletedProcess[str]]:
    """Runs kubectl in the test's namespace, as admin; see ``ControlPlane.kubectl``."""
    return partial(control_plane.kubectl, "--namespace", namespace)
