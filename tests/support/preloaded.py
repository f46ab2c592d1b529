"""Processes of the operator that are forked from one which has its modules already.

To import them takes a second, and most tests with processes start two: it was half of their CPU time. A forked process
has all that matters of a process: its own id, session, signals, command line, environment, output and exit status, and
it ends with its holder, as those of ``control_plane.Process`` do. Tests of the command line itself start Python.
"""

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from control_plane import Process

NURSERY = Path(__file__).with_name("nursery.py")


def plain_environment() -> dict[str, str]:
    """Returns an environment with nothing of this machine's own settings: no proxy, no other cluster."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


class Preloaded(Process):
    """``vercel-certificate-operator`` with some arguments, forked."""

    def __init__(self, args: tuple[str, ...], *, log: Path, env: Mapping[str, str]) -> None:
        """Start it.

        Args:
            args: The arguments.
            log: The file to which standard output and standard error are appended.
            env: The whole environment.
        """
        self.name = "vercel_certificate_operator"
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._status: int | None = None
        self._lock = threading.Lock()
        ours, theirs = os.pipe()
        self._answers = ours
        try:
            with log.open("ab") as output:
                _Nursery.get().ask({"args": args, "env": dict(env), "cwd": str(Path.cwd())}, output.fileno(), theirs)
        finally:
            os.close(theirs)
        self.pid = int(self._read_line())

    def _read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            read = os.read(self._answers, 1)
            assert read, "the process that forks has ended"
            line += read
        return line

    @property
    def exit_status(self) -> int | None:
        """The exit status: None while the process runs, 128 + n if signal n ended it."""
        return self._wait(0)

    def _wait(self, timeout: float) -> int | None:
        if self._status is None:
            readable, _, _ = select.select([self._answers], [], [], timeout)
            with self._lock:
                if readable and self._status is None:
                    self._status = int(self._read_line())
        return self._status

    def wait(self, timeout: float) -> int:
        """Wait until the process ends, and return its exit status.

        Args:
            timeout: Seconds.

        Raises:
            TimeoutError: It still runs.
        """
        status = self._wait(timeout)
        if status is None:
            raise TimeoutError(f"{self.name} has not ended within {timeout:g} s")
        return status

    def kill(self) -> int:
        """Send SIGKILL to the process and all its children. Return the exit status."""
        while (status := self._wait(0)) is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended in between
            self._wait(60)
        return status

    def __del__(self) -> None:
        os.close(self._answers)


class _Nursery:
    """The process that forks. It ends when this one does."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, NURSERY, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=plain_environment(),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        atexit.register(self.close)

    @staticmethod
    @functools.cache
    def get() -> "_Nursery":
        return _Nursery()

    def ask(self, request: Mapping[str, object], *descriptors: int) -> None:
        socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()
