"""Where the control plane's programs come from, with a stand-in for Go and for the network."""

import hashlib
import http.server
import os
import platform
import signal
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from control_plane import UnavailableError, binaries
from support.waiting import is_alive, wait_until

WRITE = 'printf "#!/bin/sh\\n" > "$2"; chmod +x "$2"'
Install = Callable[[str], None]


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def everything_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


def cache(environment: dict[str, str]) -> Path:
    return Path(environment["HOME"]) / ".cache" / "vercel-certificate-operator" / "control-plane"


def test_what_can_not_be_downloaded_is_built_and_found_again(
    command: list[str], environment: dict[str, str], install_go: Install, calls: Path
) -> None:
    install_go(WRITE)
    first = run(command, environment)
    folder = Path(first.stdout.strip())
    assert folder == cache(environment) / binaries.kubernetes_version()
    assert everything_in(folder) == {"kube-apiserver", "etcd", "kubectl"}
    assert {path.name for path in folder.parent.iterdir()} == {".lock", folder.name}
    assert "can't be downloaded" in first.stderr
    assert "about 5 minutes" in first.stderr
    second = run(command, environment)
    assert (second.stdout, second.stderr) == (first.stdout, "")
    assert len(calls.read_text().splitlines()) == 2


def test_the_users_proxy_and_flags_reach_go(
    command: list[str], environment: dict[str, str], install_go: Install, calls: Path
) -> None:
    install_go(WRITE)
    run(command, {**environment, "GOPROXY": "https://proxy.example.com", "GOFLAGS": "-p=1"})
    assert all(
        line.startswith("GOPROXY=https://proxy.example.com GOFLAGS=-p=1 ") for line in calls.read_text().splitlines()
    )


def test_the_cache_goes_where_xdg_says(
    command: list[str], environment: dict[str, str], install_go: Install, tmp_path: Path
) -> None:
    install_go(WRITE)
    found = run(command, {**environment, "XDG_CACHE_HOME": str(tmp_path / "elsewhere")})
    assert Path(found.stdout).is_relative_to(tmp_path / "elsewhere")


def test_a_build_that_is_killed_leaves_nothing_half(
    command: list[str], environment: dict[str, str], install_go: Install
) -> None:
    install_go('echo $$ > "$GO_CALLS.pid"; printf half > "$2"; chmod +x "$2"; exec sleep 600')
    builder = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    half = cache(environment) / binaries.kubernetes_version() / ".kube-apiserver.tmp"
    wait_until(lambda: half.exists() and half.stat().st_size > 0)
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    assert not half.with_name("kube-apiserver").exists()
    compiler = int(Path(environment["GO_CALLS"] + ".pid").read_text())
    wait_until(lambda: not is_alive(compiler))

    install_go(WRITE)
    folder = Path(run(command, environment).stdout.strip())
    assert (folder / "kube-apiserver").read_text() == "#!/bin/sh\n"
    assert everything_in(folder) == {"kube-apiserver", "etcd", "kubectl"}


def test_ctrl_c_during_a_build_ends_it_quietly_and_leaves_nothing(
    command: list[str], environment: dict[str, str], install_go: Install
) -> None:
    install_go('printf half > "$2"; exec sleep 600')
    builder = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    folder = cache(environment) / binaries.kubernetes_version()
    wait_until(lambda: (folder / ".kube-apiserver.tmp").exists())
    builder.send_signal(signal.SIGINT)
    _, said = builder.communicate(timeout=30)
    assert builder.returncode == 128 + signal.SIGINT
    assert "Traceback" not in said
    assert everything_in(folder) == set()


def test_two_runs_at_once_build_once(
    command: list[str], environment: dict[str, str], install_go: Install, calls: Path
) -> None:
    install_go(f"sleep 0.3; {WRITE}")
    runs = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)
    ]
    answers = {each.communicate(timeout=60)[0] for each in runs}
    assert len(answers) == 1
    assert len(calls.read_text().splitlines()) == 2


def test_a_build_that_fails_is_reported_with_what_go_says_and_what_to_do(
    command: list[str], environment: dict[str, str], install_go: Install
) -> None:
    install_go('echo "main.go:9:2: module lookup: connection refused"; exit 1')
    failed = run(command, environment)
    assert failed.returncode == 1
    assert "building kube-apiserver (1 of 2) failed" in failed.stderr
    assert "module lookup: connection refused" in failed.stderr
    assert "KUBEBUILDER_ASSETS" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_without_go_and_without_pypi_the_message_says_what_to_do(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    failed = run(command, {**environment, "PATH": str(tmp_path)})
    assert failed.returncode == 1
    assert "from PyPI failed" in failed.stderr
    assert "KUBEBUILDER_ASSETS" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_go_that_is_too_old_is_said_so_and_left_alone(
    command: list[str], environment: dict[str, str], install_go: Install, tmp_path: Path, calls: Path
) -> None:
    install_go(WRITE)
    go = tmp_path / "bin" / "go"
    go.write_text(go.read_text().replace("go1.99.0", "go1.21.13"))
    failed = run(command, environment)  # since there is no PyPI either
    assert f"{go} is older than Go 1.26.0" in failed.stderr
    assert not calls.exists()


def test_a_folder_that_is_named_must_be_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "kubectl").touch(mode=0o755)
    (tmp_path / "etcd").touch(mode=0o644)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(UnavailableError, match="kube-apiserver and etcd can't be found"):
        binaries.find()


def test_a_folder_that_is_named_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("kube-apiserver", "etcd", "kubectl"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert binaries.find().folder == tmp_path


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An archive like envtest's, offered by a local server instead of GitHub, and an empty cache."""
    content = tmp_path / "content"
    content.mkdir()
    for name in ("kube-apiserver", "etcd", "kubectl", "README"):
        (content / name).write_text(name)
    archive = tmp_path / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(content, "controller-tools/envtest")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(archive.read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    machine = (platform.system().lower(), "amd64")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(binaries, "ENVTEST_SHA512", {machine: hashlib.sha512(archive.read_bytes()).hexdigest()})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        monkeypatch.setattr(binaries, "ENVTEST_URL", f"http://127.0.0.1:{server.server_port}/{{version}}.tar.gz")
        yield archive
        server.shutdown()
        thread.join()


def test_the_published_archive_is_taken_where_it_can_be_had(published: Path) -> None:
    folder = binaries.find().folder
    assert everything_in(folder) == {"kube-apiserver", "etcd", "kubectl"}
    assert (folder / "etcd").read_text() == "etcd"
    assert os.access(folder / "etcd", os.X_OK)
    published.unlink()
    assert binaries.find().folder == folder


def test_an_archive_other_than_the_pinned_one_is_refused(
    published: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with published.open("ab") as file:
        file.write(b"more")
    monkeypatch.setenv("PATH", environment["PATH"])
    monkeypatch.setattr(binaries, "_build", lambda *_: None)
    binaries.find()
    assert "is not the archive that is pinned" in capsys.readouterr().err
