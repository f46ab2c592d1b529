"""Processes and folders that end with the process that made them, even if it is killed (see supervisor.py)."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SUPERVISOR = (sys.executable, "-I", "-S", Path(__file__).with_name("supervisor.py"))


class Process:
    """A command that ends with this Python process, however that ends. Its output goes to a file.

    It runs in its own session, so Ctrl-C reaches only this process, which then stops it. The methods may be called
    from any thread.
    """

    def __init__(
        self, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Start the command.

        Args:
            command: The program and its arguments.
            log: The file to which standard output and standard error are appended.
            env: The whole environment. None: this process's.
            cwd: The working directory. None: this process's.

        Raises:
            FileNotFoundError: There is no such program.
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
        """The exit status: None while the command runs, 128 + n if signal n ended it."""
        status = self._supervisor.poll()
        if status is not None:
            _let_go(self._supervisor)
        return status

    @property
    def running(self) -> bool:
        """Whether the command has not ended yet."""
        return self.exit_status is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command, not to its children. Does nothing if the command has ended."""
        if self.running:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass  # it has ended in between

    def pause(self) -> None:
        """Send SIGSTOP to the command, and wait until all of its threads stand still.

        On a busy machine, threads go on for some 20 ms: until one of them runs that takes the signal. Where there is
        no /proc (macOS), this doesn't wait.
        """
        self.signal(signal.SIGSTOP)
        while self.running and not all(state in "TZX" for state in _thread_states(self.pid)):
            time.sleep(0.001)

    def resume(self) -> None:
        """Send SIGCONT to the command."""
        self.signal(signal.SIGCONT)

    def wait(self, timeout: float) -> int:
        """Wait until the command ends, and return its exit status.

        Args:
            timeout: Seconds.

        Raises:
            TimeoutError: The command still runs.
        """
        try:
            self._supervisor.wait(timeout)
            return self.kill()
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} has not ended within {timeout:g} s") from None

    def stop(self, grace: float = 10.0) -> int:
        """Send SIGTERM, and SIGKILL after ``grace`` seconds. Return the exit status."""
        self.signal(signal.SIGTERM)
        try:
            self.wait(grace)
        except TimeoutError:
            pass  # SIGKILL follows
        return self.kill()

    def kill(self) -> int:
        """Send SIGKILL to the command and all its children. Return the exit status."""
        _let_go(self._supervisor)
        return self._supervisor.wait()

    def output(self) -> str:
        """Return the output so far."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def last_lines(self, count: int = 20) -> str:
        """Return the last ``count`` lines of the output."""
        return "\n".join(self.output().splitlines()[-count:])


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Yield a folder that only this user can read. It is removed at the end, or when this Python process is killed."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    guard = subprocess.Popen([*SUPERVISOR, "remove", folder], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _let_go(guard)  # it removes what has been written meanwhile


def _thread_states(pid: int) -> Iterator[str]:
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            yield stat.read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            pass  # the thread has ended


def _let_go(supervisor: subprocess.Popen[bytes]) -> None:
    if supervisor.stdin is not None:
        supervisor.stdin.close()
    supervisor.wait()
