"""Processes and folders that go with the process that made them, even if that is killed (see supervisor.py)."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SUPERVISOR = (sys.executable, "-I", "-S", Path(__file__).with_name("supervisor.py"))


class Process:
    """A command with its output in a file, which ends with this Python process, however that ends.

    It runs in a session of its own, so that Ctrl-C reaches only its holder, who stops it in good order.
    May be used from any thread.
    """

    def __init__(
        self, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Start ``command``. Its standard output and error are appended to ``log``; ``env`` is its whole environment.

        :raises FileNotFoundError: there is no such program
        """
        self.name = Path(command[0]).name
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        pid_from, pid_to = os.pipe()
        try:
            with log.open("ab") as output:
                self._supervisor = subprocess.Popen(
                    [*SUPERVISOR, "run", str(pid_to), *command],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env=env,
                    cwd=cwd,
                    pass_fds=[pid_to],
                    start_new_session=True,
                )
        finally:
            os.close(pid_to)
        with os.fdopen(pid_from) as reader:
            pid = reader.read()
        if not pid:
            self.kill()
            raise FileNotFoundError(f"{command[0]} can't be started: {self.last_lines(1)}")
        self.pid = int(pid)

    @property
    def exit_status(self) -> int | None:
        """None while it runs; 128 + n if signal n has ended it."""
        status = self._supervisor.poll()
        if status is not None:
            _let_go(self._supervisor)
        return status

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.exit_status is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command (not to its children), if it still runs."""
        if self.running:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass  # it has ended in between

    def wait(self, timeout: float) -> int:
        """Wait for the end, at most ``timeout`` seconds; the exit status.

        :raises TimeoutError: it still runs
        """
        try:
            self._supervisor.wait(timeout)
            return self.kill()
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} has not ended within {timeout:g} s") from None

    def stop(self, grace: float = 10.0) -> int:
        """SIGTERM, and SIGKILL after ``grace`` seconds; the exit status."""
        self.signal(signal.SIGTERM)
        try:
            self.wait(grace)
        except TimeoutError:
            pass  # then the hard way
        return self.kill()

    def kill(self) -> int:
        """SIGKILL to the command and all its children, if any still runs; the exit status."""
        _let_go(self._supervisor)
        return self._supervisor.wait()

    def output(self) -> str:
        """What it has written so far."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def last_lines(self, count: int = 20) -> str:
        """The last lines of what it has written."""
        return "\n".join(self.output().splitlines()[-count:])


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder, readable by this user only, that is removed at the end, or when this Python process is killed."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    guard = subprocess.Popen([*SUPERVISOR, "remove", folder], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _let_go(guard)  # which tries again, should something still have been written


def _let_go(supervisor: subprocess.Popen[bytes]) -> None:
    if supervisor.stdin is not None:
        supervisor.stdin.close()
    supervisor.wait()
