"""kubectl as a function: what it is asked, and what it says."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class KubectlError(Exception):
    """kubectl has failed. The message is what it was asked and what it says."""

    def __init__(self, completed: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"$ kubectl {' '.join(map(str, completed.args[1:]))}\n{completed.stderr.strip()}")
        self.completed = completed


def environment(kubeconfig: Path, cache: Path) -> dict[str, str]:
    """The variables with which kubectl goes by this kubeconfig, and leaves the user's own settings and cache alone."""
    return {"KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(cache), "KUBERC": "off"}


def run(
    program: Path,
    args: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    input: str | None = None,  # noqa: A002  # as subprocess.run has it
    check: bool = True,
    timeout: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run it. Output and input are text.

    :param environment: goes on top of this process's own
    :param timeout: seconds
    :raises KubectlError: it fails, unless ``check`` is False
    :raises subprocess.TimeoutExpired: it takes longer
    """
    completed = subprocess.run(
        [program, *args],
        env={**os.environ, **environment},
        input=input or "",
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and completed.returncode:
        raise KubectlError(completed)
    return completed
