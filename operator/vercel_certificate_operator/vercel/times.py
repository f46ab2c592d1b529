"""Times in Vercel's answers: epoch numbers, HTTP dates, and how long to wait."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Epoch seconds and epoch milliseconds differ by size, because no certificate is older than the Web PKI. As seconds,
# this range is 1973 to 5138; the numbers above it are the same range in milliseconds.
_SECONDS_FROM = 1e8
_MILLISECONDS_FROM = 1e11
_LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) / timedelta(milliseconds=1)

LONGEST_WAIT = 86_400.0
"""Seconds. No answer delays a call for longer than a day."""

_FIRST_YEAR, _LAST_YEAR = 2020, 2200
"""The years of clocks that may be right."""
_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def from_epoch(number: float) -> datetime | None:
    """Returns the time (aware, UTC) of a number of epoch milliseconds or epoch seconds; None if it is neither."""
    if _MILLISECONDS_FROM <= number < _LAST:
        return EPOCH + timedelta(milliseconds=number)
    if _SECONDS_FROM <= number < _MILLISECONDS_FROM:
        return EPOCH + timedelta(seconds=number)
    return None


def is_seconds(number: float) -> bool:
    """Returns whether ``from_epoch`` reads the number as seconds. Vercel documents milliseconds."""
    return _SECONDS_FROM <= number < _MILLISECONDS_FROM


def http_date(value: str | None) -> datetime | None:
    """Returns the time (aware, UTC) of a ``Date`` or ``Retry-After`` header (RFC 9110, 5.6.7); None if it has none."""
    if value is None:
        return None
    try:
        parsed = parsedate_to_datetime(value)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def clock_of(header: str | None) -> datetime | None:
    """Returns the time (aware, UTC) of a ``Date`` header; None if it has none, or can't be right.

    A gateway whose clock was never set says 1970.
    """
    date = http_date(header)
    return date if date is not None and _FIRST_YEAR <= date.year < _LAST_YEAR else None


def retry_after(
    status: int, headers: Mapping[str, str], error: Mapping[str, object], *clocks: datetime
) -> float | None:
    """Returns the seconds that an error answer asks to wait, 0 to ``LONGEST_WAIT``; None if it does not say.

    The first of these that is present and readable counts:

    1. ``Retry-After``: seconds or an HTTP date (RFC 9110, 10.2.3)
    2. ``X-RateLimit-Reset``: epoch seconds, on a 429 only; in other answers the limit was not reached
    3. ``limit`` in the body's ``error`` object: ``resetMs`` (epoch ms) or ``reset`` (epoch seconds), on a 429 only
    4. ``retryAfterMs``, then ``retryAfter`` (seconds), in the body's ``error`` object

    Args:
        status: the HTTP status.
        headers: by lower-case name, or case-insensitive.
        error: the body's ``error`` object; empty if there is none.
        clocks: the time by each clock that may be right, aware. The first is Vercel's: the answer's ``Date`` replaces
            it. A wait until a time ends by the first clock that shows it; a time that has passed by all says nothing.
    """
    clocks = _by_answer(headers, clocks)
    header = headers.get("retry-after")
    waits = [_number(header), _until(http_date(header), clocks)]
    if status == 429:
        reset = _number(headers.get("x-ratelimit-reset"))
        waits.append(_until(None if reset is None else from_epoch(reset), clocks))
        limit = error.get("limit")
        if isinstance(limit, dict):
            for field in ("resetMs", "reset"):
                reset = _number(limit.get(field))
                waits.append(_until(None if reset is None else from_epoch(reset), clocks))
    milliseconds = _number(error.get("retryAfterMs"))
    waits.append(None if milliseconds is None else milliseconds / 1000)
    waits.append(_number(error.get("retryAfter")))
    wait = next((wait for wait in waits if wait is not None), None)
    return None if wait is None else min(max(wait, 0.0), LONGEST_WAIT)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the rate-limit headers of an answer say."""

    limit: int
    """Requests in a window."""
    remaining: int
    seconds: float
    """Until the window ends."""


def allowance(headers: Mapping[str, str], *clocks: datetime) -> Allowance | None:
    """Returns what ``X-RateLimit-Limit``, ``-Remaining`` and ``-Reset`` (epoch seconds) say; None: they don't.

    Args:
        headers: by lower-case name or without regard to case.
        clocks: as for ``retry_after``. A window that has ended by all of them says nothing.

    Source: Vercel's REST API reference, "Rate limits".
    """
    limit, remaining, reset = (_number(headers.get(f"x-ratelimit-{name}")) for name in ("limit", "remaining", "reset"))
    if limit is None or remaining is None or reset is None or not 0 <= remaining <= limit or limit < 1:
        return None
    seconds = _until(from_epoch(reset), _by_answer(headers, clocks))
    return Allowance(int(limit), int(remaining), seconds) if seconds is not None else None


def _by_answer(headers: Mapping[str, str], clocks: tuple[datetime, ...]) -> tuple[datetime, ...]:
    """Returns the clocks with the answer's ``Date``, if it has one, as the first."""
    return (clock_of(headers.get("date")) or clocks[0], *clocks[1:])


def _until(time: datetime | None, clocks: tuple[datetime, ...]) -> float | None:
    """Returns the seconds until a time, by the clock by which it comes first; None if it has passed by all of them."""
    waits = [(time - now).total_seconds() for now in clocks if time > now] if time is not None else []
    return min(waits, default=None)


def _number(value: object) -> float | None:
    """Returns a JSON number, or the decimal number in a text; None for everything else, infinities included."""
    if isinstance(value, str):
        if not _DECIMAL.fullmatch(value.strip()):
            return None
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
