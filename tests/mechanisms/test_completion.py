"""Shell completion: bash completes commands and options, by the script that the command prints."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from vercel_certificate_operator.cli import main

NAME = "vercel-certificate-operator"


def script(shell: str) -> str:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0, result.output
    return result.output


def completed(*words: str) -> list[str]:
    """Return what bash offers for the last of these words."""
    typed = " ".join(map(shlex.quote, (NAME, *words)))
    commands = f"""{script("bash")}
COMP_WORDS=({typed}) COMP_CWORD={len(words)}
$(complete -p {NAME} | sed 's/.*-F \\([^ ]*\\) .*/\\1/') {NAME}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", commands],
        env={**os.environ, "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands() -> None:
    assert completed("") == ["completion", "emulate", "run"]


def test_bash_completes_options() -> None:
    assert completed("run", "--vercel-") == ["--vercel-api-url", "--vercel-token-file"]


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_each_shell_has_a_script(shell: str) -> None:
    assert NAME in script(shell)
