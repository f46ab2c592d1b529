"""Vercel's time. Vercel's clock decides about Vercel's certificates."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.durations import readable
from vercel_certificate_operator.vercel.times import clock_of

logger = logging.getLogger(__name__)

RESOLUTION = timedelta(seconds=2)
"""Offsets that differ by less are the same: Date headers have whole seconds, and an answer takes a while."""
ROUNDED = timedelta(seconds=1)
"""By how much a Date header may be rounded down."""
DRIFT = 1e-4
"""By how much the node's clock may run faster than Vercel's."""
AGREEMENT = timedelta(seconds=10)
"""Vercel's clock and the API server's agree if they differ by no more: both Date headers may be some seconds late."""
REPORTED = timedelta(minutes=5)
"""An offset of the local clock that is worth a warning."""
SKEW = timedelta(days=1)
"""A difference between Vercel and the API server at which nothing is issued because of time."""


_Time = TypeVar("_Time", datetime, timedelta)


class VercelTime:
    """Vercel's time: a Date header of Vercel's, and the seconds on the monotonic clock since then.

    So a step of the local wall clock changes nothing that was decided with Vercel's time. The Date headers of the API
    server count before Vercel's first answer, and the local wall clock before both.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._vercel: datetime | None = None
        """The time at Vercel when the monotonic clock was 0. The same for the API server:"""
        self._least: datetime | None = None
        """The same, but never ahead: dates are rounded down, and answers take time."""
        self._least_at = float("-inf")
        self._kubernetes: datetime | None = None
        self._kubernetes_said_at = float("-inf")
        self._warned_of = timedelta()
        self.stepped: Callable[[], None] = lambda: None
        """Called when it differs from the time that all waits were planned with, and the API server agrees."""

    def now(self) -> datetime:
        """Returns Vercel's time. Before Vercel's first answer: the API server's, or else the local clock's."""
        start = self._vercel or self._kubernetes
        return start + self._running if start is not None else self._clock.now()

    def _note_least(self, start: datetime, took: timedelta) -> None:
        """The date that was least late counts, unless Vercel's clock was set back since."""
        least = self._aged_least
        if least is None or start >= least or least > start + ROUNDED + took:
            self._least, self._least_at = start, self._clock.monotonic()

    @property
    def _aged_least(self) -> datetime | None:
        if self._least is None:
            return None
        return self._least - timedelta(seconds=DRIFT * (self._clock.monotonic() - self._least_at))

    def at_least(self) -> datetime:
        """Returns a time that is not ahead of Vercel's: what Vercel dates earlier existed before now."""
        least = self._aged_least
        return self.now() if least is None else min(self.now(), least + self._running)

    @property
    def _running(self) -> timedelta:
        return timedelta(seconds=self._clock.monotonic())

    @property
    def offset(self) -> timedelta:
        """Vercel's time minus the local wall clock's."""
        return self.now() - self._clock.now()

    @property
    def skew(self) -> timedelta | None:
        """Vercel's time minus the API server's, if they differ by a day or more."""
        if self._vercel is None or self._kubernetes is None:
            return None
        skew = self._vercel - self._kubernetes
        return skew if abs(skew) >= SKEW else None

    def earlier(self) -> datetime:
        """Returns the time by the clock that is behind, if Vercel's and the API server's differ by a day or more."""
        return self.now() - max(self.skew or timedelta(), timedelta())

    @property
    def vercel_has_said(self) -> bool:
        """Whether Vercel has said its time."""
        return self._vercel is not None

    @property
    def server_now(self) -> datetime | None:
        """The API server's time, if it differs from Vercel's by more than some seconds."""
        if self._vercel is None or self._kubernetes is None or abs(self._vercel - self._kubernetes) <= AGREEMENT:
            return None
        return self._kubernetes + self._running

    def server_is_silent(self, seconds: float) -> bool:
        """Returns whether the API server has not said its time for so long."""
        return self._clock.monotonic() - self._kubernetes_said_at >= seconds

    def by_each_clock(self) -> tuple[datetime, ...]:
        """Returns Vercel's time and, if it differs, the API server's."""
        server = self.server_now
        return (self.now(),) if server is None else (self.now(), server)

    def vercel_said(self, offset: timedelta, took: timedelta = timedelta()) -> None:
        """Notes a Date header of Vercel.

        Args:
            offset: that date minus the local clock's time.
            took: how long the answer took. Its date may be late by as much.
        """
        before = self.now()
        start = self._clock.now() - self._running + offset
        is_explained = self._vercel is not None and timedelta() < self._vercel - start <= RESOLUTION + took
        if not is_explained:
            self._vercel = self._start(self._vercel, offset)
        self._note_least(start, took)
        if abs(self.now() - before) > REPORTED and self.skew is None:
            self.stepped()
        warned_of, self._warned_of = self._warned_of, _steady(self._warned_of, offset)
        if self._warned_of != warned_of and abs(offset) > REPORTED:
            direction = "behind" if offset > timedelta() else "ahead of"
            logger.warning(
                "The local clock is %s %s Vercel's. The operator uses Vercel's time. Correct the node's clock.",
                readable(abs(offset)),
                direction,
            )

    def kubernetes_said(self, header: str | None) -> None:
        """Notes a Date header of the API server, if it can be read."""
        if (date := clock_of(header)) is not None:
            self._kubernetes_said_at = self._clock.monotonic()
            self._kubernetes = self._start(self._kubernetes, date - self._clock.now())

    def _start(self, before: datetime | None, offset: timedelta) -> datetime:
        """Returns the time at which the monotonic clock was 0, by a clock with this offset to the local one."""
        local = self._clock.now() - self._running
        return _steady(before if before is not None else local, local + offset)


def _steady(before: _Time, after: _Time) -> _Time:
    """Returns the value before, if the new one is the same but for its resolution."""
    return before if abs(after - before) <= RESOLUTION else after
