"""kubectl as a function."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class KubectlError(Exception):
    """kubectl failed. The message has the command and its standard error."""

    def __init__(self, completed: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"$ kubectl {' '.join(map(str, completed.args[1:]))}\n{completed.stderr.strip()}")
        self.completed = completed


def environment(kubeconfig: Path, cache: Path) -> dict[str, str]:
    """Return the variables that make kubectl use this kubeconfig and leave the user's own settings and cache alone."""
    return {"KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(cache), "KUBERC": "off"}


def run(
    program: Path,
    args: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    input: str | None = None,  # noqa: A002  # as subprocess.run has it
    check: bool = True,
    timeout: float = 120.0,
) -> subprocess.CompletedProcess[str]:
    """Run kubectl.

    Args:
        program: The executable.
        args: The arguments.
        environment: Variables in addition to this process's own.
        input: The standard input.
        check: Raise an error if kubectl fails.
        timeout: Seconds.

    Returns:
        The completed process; its output is text.

    Raises:
        KubectlError: kubectl failed, and ``check`` is True.
        subprocess.TimeoutExpired: It took longer than ``timeout``.
    """
    completed = subprocess.run(
        [program, *args],
        env={"GOGC": "off", **os.environ, **environment},  # a third of its CPU time, in so short a life
        input=input or "",
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and completed.returncode:
        raise KubectlError(completed)
    return completed
