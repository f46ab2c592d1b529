"""Processes of the operator that are forked from one which has its modules already.

To import them takes a second, and most tests with processes start two: it was half of their CPU time. A forked process
has all that matters of a process: its own id, session, signals, command line, environment, output and exit status, and
it ends with its holder, as those of ``control_plane.Process`` do. Tests of the command line itself start Python.

This file is also what the forking process runs (``python -m support.preloaded`` would import more than it needs).
"""

import atexit
import ctypes
import functools
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
MODULE = "vercel_certificate_operator"
IMPORTS = ("vercel_certificate_operator.app", "vercel_certificate_operator.cli", "vercel_emulator.emulator")
LARGEST = 1024 * 1024
"""Bytes of a request."""


# --- the holder's side ------------------------------------------------------------------------------------------------


class Preloaded:
    """``vercel-certificate-operator`` with some arguments, forked. Used as ``control_plane.Process`` is."""

    def __init__(self, args: tuple[str, ...], *, log: Path, env: Mapping[str, str]) -> None:
        """Start it.

        Args:
            args: The arguments.
            log: The file to which standard output and standard error are appended.
            env: The whole environment.
        """
        self.name = MODULE
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

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self.exit_status is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, not to its children. Does nothing if it has ended."""
        if self.running:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass  # it has ended in between

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
            status = self._wait(60)
        return status

    def output(self) -> str:
        """Return the output so far."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def __del__(self) -> None:
        os.close(self._answers)


class _Nursery:
    """The process that forks. It ends when this one does."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=clean,
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


# --- the side of the process that forks -------------------------------------------------------------------------------


def fork_on_request(requests: socket.socket) -> None:
    """Forks a process for each request. Returns in the new process, never in this one."""
    holders: dict[int, int] = {}  # where the exit status of a process is written
    me = os.getpid()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        readable = select.select([requests.fileno(), woken], [], [])[0]
        if woken in readable:
            os.read(woken, 512)
            _report(holders)
        if requests.fileno() not in readable:
            continue
        content, descriptors, _, _ = socket.recv_fds(requests, LARGEST, 2)
        if not content:
            os._exit(0)  # the holder has ended; so do all that were forked
        output, status = descriptors
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (woken, wake, status, *holders.values()):
                os.close(descriptor)
            requests.close()
            _become(json.loads(content), output, me)
            return
        os.close(output)
        holders[pid] = status
        os.write(status, b"%d\n" % pid)


def _report(holders: dict[int, int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        descriptor = holders.pop(pid)
        try:
            os.write(descriptor, b"%d\n" % (code if code >= 0 else 128 - code))
        except BrokenPipeError:
            pass  # nobody wants to know
        os.close(descriptor)


def _become(request: dict[str, object], output: int, parent: int) -> None:
    """Makes the forked process what a new one would be."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before that
        os._exit(1)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(str(request["cwd"]))
    environment, args = request["env"], request["args"]
    assert isinstance(environment, dict)
    assert isinstance(args, list)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = args


if __name__ == "__main__":
    del sys.path[0]  # this file's folder
    for module in IMPORTS:
        __import__(module)
    fork_on_request(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)
