"""Where kube-apiserver, etcd and kubectl come from: a named folder, the cache, a download or a build.

The first of these that applies is used:

1. ``KUBEBUILDER_ASSETS`` names a folder that holds them, as for controller-runtime's envtest.
2. The cache (``cache.py``), in a folder for each version.
3. The archive that controller-tools publishes for envtest, pinned by its hash.
4. A build from Go modules, as ``go/go.mod`` and ``go/go.sum`` lock them (``golang.py``).

Other tools that the tests need are in ``hack/tools.py``.
"""

import hashlib
import os
import platform
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from control_plane import cache, golang
from control_plane.cache import UnavailableError
from control_plane.progress import Progress

SERVERS = ("kube-apiserver", "etcd")
CONTROLLER_MANAGER = "kube-controller-manager"

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
"""Seconds without an answer after which the download is abandoned. Short, because a build is possible too."""

HELP = (
    "Either name a folder that holds kube-apiserver, etcd and kubectl in KUBEBUILDER_ASSETS (setup-envtest gets one), "
    "or let this machine reach github.com, or a Go module proxy (set GOPROXY) and PyPI."
)


@dataclass(frozen=True)
class Assets:
    """The programs of a control plane."""

    folder: Path
    """Holds kube-apiserver, etcd and kubectl: a value for ``KUBEBUILDER_ASSETS``."""
    controller_manager: Path | None = None
    """kube-controller-manager, if it was requested."""

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
    """Return the control plane's programs from the first source that has them.

    A download or a build takes minutes and reports its progress on stderr.

    Args:
        controller_manager: Also provide kube-controller-manager.

    Raises:
        UnavailableError: No source has them.
    """
    named = os.environ.get("KUBEBUILDER_ASSETS")
    folder = _named(Path(named)) if named else _cached()
    if not controller_manager:
        return Assets(folder)
    if not cache.is_program(folder / CONTROLLER_MANAGER):  # envtest's archives have none
        folder_built = cache.folder() / kubernetes_version()
        if not cache.is_program(folder_built / CONTROLLER_MANAGER):
            with cache.locked():
                _build(folder_built, (CONTROLLER_MANAGER,))
        return Assets(folder, folder_built / CONTROLLER_MANAGER)
    return Assets(folder, folder / CONTROLLER_MANAGER)


def kubectl() -> Path:
    """Return kubectl: the one in this project's virtual environment, else the one on PATH.

    Raises:
        UnavailableError: There is none.
    """
    found = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    if found is None:
        raise UnavailableError("kubectl can't be found: run 'make venv', which installs it.")
    return Path(found)


def kubernetes_version() -> str:
    """Return the version that ``go/go.mod`` locks and that is built here, such as ``v1.36.3``."""
    return golang.in_go_mod(r"^\s*k8s\.io/kubernetes (v\S+)")


def _named(folder: Path) -> Path:
    if missing := [name for name in (*SERVERS, "kubectl") if not cache.is_program(folder / name)]:
        raise UnavailableError(
            f"KUBEBUILDER_ASSETS is {folder}, where {' and '.join(missing)} can't be found. "
            "Name a folder with kube-apiserver, etcd and kubectl, or unset it to have them downloaded or built."
        )
    return folder


def _cached() -> Path:
    downloaded, built = cache.folder() / f"{ENVTEST_VERSION}-envtest", cache.folder() / kubernetes_version()
    for folder in (built, downloaded):
        if _is_complete(folder):
            return folder
    with cache.locked():
        for folder in (built, downloaded):  # another process may have provided it meanwhile
            if _is_complete(folder):
                return folder
        if not any(cache.is_program(built / name) for name in SERVERS) and _download(downloaded):
            return downloaded
        _build(built, SERVERS)
        _copy_kubectl(built)
        return built


def _is_complete(folder: Path) -> bool:
    return all(cache.is_program(folder / name) for name in (*SERVERS, "kubectl"))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- download ---


def _download(folder: Path) -> bool:
    """Download the envtest archive into ``folder``. Return False, and print why, if that is not possible."""
    system = platform.system().lower()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    expected = ENVTEST_SHA512.get((system, machine))
    if expected is None:
        _say(f"There is no envtest archive for {system}-{machine}; building instead.")
        return False
    url = ENVTEST_URL.format(version=ENVTEST_VERSION, system=system, machine=machine)
    try:
        with cache.whole(folder) as temporary:
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
    """Copy the programs out of an archive, which has them in subfolders."""
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member)  # None for a folder
            name = Path(member.name).name
            if content is not None and name in (*SERVERS, "kubectl"):
                with content, (folder / name).open("wb") as file:
                    shutil.copyfileobj(content, file)
                (folder / name).chmod(0o755)


def _fetch(url: str, to: Path, progress: Progress) -> str:
    """Download ``url`` and return its SHA-512 in hexadecimal."""
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

    Raises:
        UnavailableError: There is no Go, or it reports an error.
    """
    names = [name for name in names if not cache.is_program(folder / name)]
    try:
        go = golang.program()
        _go_build(go, folder, names)
    except golang.BuildError as error:
        raise UnavailableError(f"The control plane can't be provided: {error}\n{HELP}") from None


def _go_build(go: Path, folder: Path, names: Sequence[str]) -> None:
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".", 2)
    package = "k8s.io/component-base/version"
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s", "-w", *(f"-X {package}.{key}={value}" for key, value in stamps.items())])
    minutes = 5 if set(SERVERS) & set(names) else 2
    _say(f"Building {' and '.join(names)} of Kubernetes {version}, this once: about {minutes} minutes on 2 cores.")
    for number, name in enumerate(names, 1):
        what = f"building {name} ({number} of {len(names)})"
        with cache.whole(folder / name) as temporary:
            build: list[str | Path] = [go, "build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", flags]
            command = [*build, "-o", temporary, f"./{name}"]
            golang.run(what, command, folder / f".{name}.log.tmp", env=golang.environment(), cwd=golang.MODULE)


def _copy_kubectl(folder: Path) -> None:
    """Copy kubectl into ``folder``, which is complete then."""
    with cache.whole(folder / "kubectl") as temporary:
        shutil.copy(kubectl(), temporary)
