"""A line that shows the progress of a long step."""

import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO


def elapsed(seconds: float) -> str:
    """Return seconds as text: ``0.4 s``, ``12 s``, ``4 min 05 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


class Progress:
    """Shows ``what``, a detail and the elapsed time until the block ends.

    On a terminal, it is one line that is rewritten several times a second and erased at the end. Elsewhere, such as in
    a CI log, it prints a line every ``every`` seconds, so a quick step prints nothing.
    """

    def __init__(self, what: str, *, stream: TextIO | None = None, every: float = 15.0) -> None:
        self.what = what
        self.detail = ""
        self._stream = stream or sys.stderr
        self._every = every
        self._start = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    @property
    def seconds(self) -> float:
        """The seconds since the start."""
        return time.monotonic() - self._start

    def line(self) -> str:
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.what} ({elapsed(self.seconds)}){detail}"

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        show: Callable[[], None] = self._redraw if self._stream.isatty() else self._say
        interval = 0.2 if self._stream.isatty() else self._every
        while not self._done.wait(interval):
            show()
        if self._stream.isatty():
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _redraw(self) -> None:
        self._stream.write(f"\r\x1b[K   ... {self.line()}"[: self._columns()])
        self._stream.flush()

    def _say(self) -> None:
        print(f"   ... {self.line()}", file=self._stream, flush=True)

    @staticmethod
    def _columns() -> int:
        return shutil.get_terminal_size().columns + len("\r\x1b[K") - 1
