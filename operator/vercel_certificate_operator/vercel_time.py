"""Vercel's time. Vercel's clock decides about Vercel's certificates."""

import logging
from datetime import datetime, timedelta

from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.durations import readable
from vercel_certificate_operator.vercel.times import http_date

logger = logging.getLogger(__name__)

RESOLUTION = timedelta(seconds=2)
"""Offsets that differ by less are the same: Date headers have whole seconds, and an answer takes a while."""
REPORTED = timedelta(minutes=5)
"""An offset of the local clock that is worth a warning."""
SKEW = timedelta(days=1)
"""A difference between Vercel and the API server at which nothing is issued because of time."""


class VercelTime:
    """The local clock, corrected by what the Date headers of Vercel and of the API server say."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._vercel: timedelta | None = None
        self._kubernetes: timedelta | None = None

    def now(self) -> datetime:
        """Returns Vercel's time. Before Vercel's first answer: the API server's, or else the local clock's."""
        return self._clock.now() + self.offset

    @property
    def offset(self) -> timedelta:
        """What ``now`` adds to the local clock."""
        if self._vercel is not None:
            return self._vercel
        return self._kubernetes or timedelta()

    @property
    def skew(self) -> timedelta | None:
        """Vercel's time minus the API server's, if they differ by a day or more."""
        if self._vercel is None or self._kubernetes is None:
            return None
        skew = self._vercel - self._kubernetes
        return skew if abs(skew) >= SKEW else None

    def vercel_said(self, offset: timedelta) -> None:
        """Notes a Date header of Vercel.

        Args:
            offset: that date minus the local clock's time.
        """
        before, self._vercel = self._vercel, _steady(self._vercel, offset)
        if self._vercel != before and abs(self._vercel) > REPORTED:
            direction = "behind" if self._vercel > timedelta() else "ahead of"
            logger.warning(
                "The local clock is %s %s Vercel's. The operator uses Vercel's time. Correct the node's clock.",
                readable(abs(self._vercel)),
                direction,
            )

    def kubernetes_said(self, header: str | None) -> None:
        """Notes a Date header of the API server, if it can be read."""
        if (date := http_date(header)) is not None:
            self._kubernetes = _steady(self._kubernetes, date - self._clock.now())


def _steady(before: timedelta | None, offset: timedelta) -> timedelta:
    """Returns the offset before, if the new one is the same but for its resolution."""
    known = before if before is not None else timedelta()
    return known if abs(offset - known) <= RESOLUTION else offset
