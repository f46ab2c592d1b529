"""A stand-in for Go, and an environment from which no test can reach the user's cache or the network."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HACK = Path(__file__).parents[2] / "hack"

GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.99.0; exit; fi
echo "GOPROXY=$GOPROXY GOFLAGS=$GOFLAGS $*" >> "$GO_CALLS"
while [ "$1" != -o ]; do shift; done
{body}
"""


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Where the stand-in writes a line for each build."""
    return tmp_path / "go-calls"


@pytest.fixture
def environment(tmp_path: Path, calls: Path) -> dict[str, str]:
    """Environment variables: an empty home, no Go, no cache, and nobody to answer on the network."""
    return {
        "HOME": str(tmp_path / "home"),
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "PYTHONPATH": str(HACK),
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "GOPROXY": "http://127.0.0.1:9",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "empty"),
        "GO_CALLS": str(calls),
    }


@pytest.fixture
def install_go(tmp_path: Path) -> Callable[[str], None]:
    """Puts a ``go`` on PATH that says it is new, and does ``body`` (sh; ``$2`` is the file to write) as its build."""

    def install(body: str) -> None:
        program = tmp_path / "bin" / "go"
        program.parent.mkdir(exist_ok=True)
        program.write_text(GO.format(body=body))
        program.chmod(0o755)

    return install


@pytest.fixture
def command() -> list[str]:
    """The command that gets the control plane's programs and prints their folder."""
    return [sys.executable, "-m", "control_plane"]
