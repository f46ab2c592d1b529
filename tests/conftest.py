"""The fixtures that all tests share, and the order of the tests.

The control plane starts with the first test that needs it. With ``-n``, each worker process has its own.
"""

import gc
import os
import secrets
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import tools
from control_plane import ControlPlane, binaries, pki
from support.helm import Helm

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts so what it runs in the background. Processes started by tests would inherit it, deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("GOMAXPROCS", "1")
"""For the API servers, etcd, kubectl and Helm. One thread for each spares a quarter of all CPU time: with more, they
wake each other for each request, and the workers keep all cores busy anyway."""

TESTS = Path(__file__).parent
CRDS = TESTS.parent / "deploy" / "crds"
PROGRAMS = {"control_plane", "own_control_plane", "helm", "actionlint"}
"""The fixtures that need programs which are downloaded or built first."""
SECONDS_EACH = ("chart", "control_plane", "end_to_end")
"""The folders whose tests start processes and take seconds each."""


# --- the workers and the order ---


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Use one worker more than there are cores: tests with processes wait a part of their time. Fast ones don't."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if config.getoption("markexpr") == "fast" else cores + 1


@pytest.hookimpl(tryfirst=True)  # before -m selects by the marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests into the order in which they run, and mark the fast ones.

    The fast tests come first, so that most mistakes show within seconds. The longest ones are next. The many short
    ones on the API server are last and keep all workers busy to the end.
    """
    ranks = {item: _rank(item) for item in items}
    items.sort(key=ranks.__getitem__)
    for item in items:
        if ranks[item] == 0:
            item.add_marker(pytest.mark.fast)
        if item.path.parent == TESTS / "chart" and _needs("control_plane", item):
            # There, each module has a control plane of its own: one worker runs all tests of a module.
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish() -> None:
    """Leave what was collected out of the garbage collector's work: thousands of tests, again and again.

    It also works less often. By default it starts for each 700 new objects, and takes a tenth of the tests' CPU time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _rank(item: pytest.Item) -> int:
    folder = item.path.parent.name
    if item.get_closest_marker("slow"):
        return 1
    if folder in SECONDS_EACH:
        return 2 + SECONDS_EACH.index(folder)
    return 2 + len(SECONDS_EACH) if any(_needs(fixture, item) for fixture in PROGRAMS) else 0


def _needs(fixture: str, item: pytest.Item) -> bool:
    return fixture in getattr(item, "fixturenames", ())


class FailuresAtOnce:
    """Prints each failure when it happens; pytest itself prints them at the end of the run."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._reporter.write_line("")  # after the dots
            self._reporter.write_sep("_", f"{report.nodeid} ({report.when})", red=True)
            self._reporter.write_line(report.longreprtext)


@pytest.hookimpl(trylast=True)  # after pytest's own, which makes the reporter
def pytest_configure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:  # the workers have none
        config.pluginmanager.register(FailuresAtOnce(reporter))


# --- fixtures ---


@pytest.fixture(scope="session")
def control_plane(pytestconfig: pytest.Config) -> Iterator[ControlPlane]:
    """A real API server, one for all tests of a process."""
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():  # to show the progress, if they are downloaded or built
        binaries.find()
    with ControlPlane() as control_plane:
        yield control_plane


@pytest.fixture
def own_control_plane() -> Iterator[ControlPlane]:
    """A real API server with the CustomResourceDefinition, for one test that does to it what others would notice."""
    with ControlPlane() as plane:
        plane.define(CRDS)
        yield plane


@pytest.fixture(scope="session")
def crd(control_plane: ControlPlane) -> None:
    """Installs the CustomResourceDefinition of VercelCertificate."""
    control_plane.define(CRDS)


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm, with settings and caches of its own."""
    return Helm(tools.helm(), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def actionlint() -> Path:
    return tools.actionlint()


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A fresh namespace for one test. It stays until the run ends: an operator under test should watch only this."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.post("/api/v1/namespaces", {"metadata": {"name": name}})
    return name


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate authority, PEM."""
    file = tmp_path_factory.mktemp("authority") / "ca.crt"
    file.write_bytes(pki.CertificateAuthority().pem)
    return file


@pytest.fixture
def one_authority(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP clients trust one certificate authority, not all public ones, which take 20 ms to load for each operator."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))


@pytest.fixture
def kubectl(control_plane: ControlPlane, namespace: str) -> partial[CompletedProcess[str]]:
    """Runs kubectl in the test's namespace, as admin; see ``ControlPlane.kubectl``."""
    return partial(control_plane.kubectl, "--namespace", namespace)
