"""The image, built before (``make image-test`` does), and the operator and the emulator as containers of it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import container_image
from control_plane import ControlPlane
from image.container import Container, Image

TOKEN = "test-token-not-a-secret"
MEASURED = pytest.StashKey[list[str]]()

StartContainer = Callable[..., Container]


@pytest.fixture(scope="session")
def image() -> Image:
    return Image(container_image.engine("docker", "podman"), container_image.TAG)


@pytest.fixture
def start(image: Image) -> Iterator[StartContainer]:
    """Starts a container of the image, with these arguments for the command."""
    started: list[Container] = []

    def start(*args: str, folder: Path | None = None) -> Container:
        started.append(image.start(*args, folder=folder))
        return started[-1]

    yield start
    for container in started:
        print(f"{container.name}:\n{container.logs()}")
        container.remove()


@pytest.fixture
def emulator(start: StartContainer) -> str:
    """The URL of an emulated Vercel that runs from the image."""
    container = start("emulate", "--port=0", f"--token={TOKEN}")
    return container.line(r"listening on (http://\S+)")[1]


@pytest.fixture
def operator(
    start: StartContainer, emulator: str, control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path
) -> Container:
    """The operator for the test's namespace, serving."""
    shutil.copy(control_plane.kubeconfig, tmp_path / "kubeconfig")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)  # for the user in the container, who is nobody here
    container = start(
        "run",
        "--kubeconfig=/etc/operator/kubeconfig",
        f"--namespace={namespace}",
        f"--vercel-api-url={emulator}",
        "--vercel-token-file=/etc/operator/token",
        f"--default-token-namespace={namespace}",
        folder=tmp_path,
    )
    container.line("serves")
    return container


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> list[str]:
    """Lines for the end of the run. Nothing passes or fails by them."""
    return request.config.stash.setdefault(MEASURED, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash.get(MEASURED, []):
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)
