"""The emulator's clock: real time, until a test moves it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

_LATEST_MS = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp() * 1000)


class Clock:
    """A clock that runs at the pace of its source, shifted by an offset.

    ``source`` answers with epoch seconds. Timestamps, expiry, the window of a rate limit and the ``Date`` header go by
    this clock; delays and the pace of slow answers are real time.
    """

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self._offset_ms = 0
        self.version = 0

    def now_ms(self) -> int:
        """The emulator's time, in epoch milliseconds."""
        return int(self._source() * 1000) + self._offset_ms

    @property
    def offset(self) -> float:
        """How far the clock is ahead of its source, in seconds."""
        return self._offset_ms / 1000

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds (back, if negative)."""
        self._shift_to(self._offset_ms + round(seconds * 1000))

    def set(self, epoch_ms: int) -> None:
        """Make it this time now; the clock goes on from there."""
        self._shift_to(epoch_ms - int(self._source() * 1000))

    def set_offset(self, seconds: float) -> None:
        """Go ahead of the source by so many seconds; 0 is the source's own time again."""
        self._shift_to(round(seconds * 1000))

    def _shift_to(self, offset_ms: int) -> None:
        if not 0 <= int(self._source() * 1000) + offset_ms <= _LATEST_MS:
            raise ValueError("the clock can be set from 1970 to the year 9000")
        self._offset_ms = offset_ms
        self.version += 1
