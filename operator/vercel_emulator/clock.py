"""The emulator's clock: real time until a test moves it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

_LATEST_MS = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp() * 1000)


class Clock:
    """A clock that runs at the speed of its source, shifted by an offset.

    Timestamps, expiry, rate limit windows and the ``Date`` header use this clock. Delays and slow answers use real
    time.

    Attributes:
        version: A number that grows whenever the clock is moved.
    """

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        """Start without an offset.

        Args:
            source: Returns the time in epoch seconds.
        """
        self._source = source
        self._offset_ms = 0
        self.version = 0

    def now_ms(self) -> int:
        """Return the emulator's time, in epoch milliseconds."""
        return int(self._source() * 1000) + self._offset_ms

    @property
    def offset(self) -> float:
        """How far the clock is ahead of its source, in seconds."""
        return self._offset_ms / 1000

    def advance(self, seconds: float) -> None:
        """Move the clock forward, or back if ``seconds`` is negative.

        Raises:
            ValueError: The time would be before 1970 or after the year 9000.
        """
        self._shift_to(self._offset_ms + round(seconds * 1000))

    def set(self, epoch_ms: int) -> None:
        """Set the time, in epoch milliseconds. The clock continues from there.

        Raises:
            ValueError: The time is before 1970 or after the year 9000.
        """
        self._shift_to(epoch_ms - int(self._source() * 1000))

    def set_offset(self, seconds: float) -> None:
        """Set how far the clock is ahead of its source, in seconds; 0 is the source's own time.

        Raises:
            ValueError: The time would be before 1970 or after the year 9000.
        """
        self._shift_to(round(seconds * 1000))

    def _shift_to(self, offset_ms: int) -> None:
        if not 0 <= int(self._source() * 1000) + offset_ms <= _LATEST_MS:
            raise ValueError("the clock can be set from 1970 to the year 9000")
        self._offset_ms = offset_ms
        self.version += 1
