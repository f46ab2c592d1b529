"""Times as they come over the wire: epoch numbers, HTTP dates, and how long to wait."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# A number of epoch seconds and one of epoch milliseconds can be told apart by size, since no certificate is older
# than the Web PKI: read as seconds this is the range 1973 to 5138, and what is above it is, as milliseconds, the same.
_SECONDS_FROM = 1e8
_MILLISECONDS_FROM = 1e11
_LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) / timedelta(milliseconds=1)

LONGEST_WAIT = 86_400.0
"""Seconds. No answer, however absurd, puts a call off for longer than a day."""

_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def from_epoch(number: float) -> datetime | None:
    """The time (aware, UTC) that a number of epoch milliseconds, or of epoch seconds, means; None: neither."""
    if _MILLISECONDS_FROM <= number < _LAST:
        return EPOCH + timedelta(milliseconds=number)
    if _SECONDS_FROM <= number < _MILLISECONDS_FROM:
        return EPOCH + timedelta(seconds=number)
    return None


def is_seconds(number: float) -> bool:
    """Whether :func:`from_epoch` reads the number as seconds, which are not what Vercel documents."""
    return _SECONDS_FROM <= number < _MILLISECONDS_FROM


def http_date(value: str | None) -> datetime | None:
    """The time (aware, UTC) of a ``Date`` or ``Retry-After`` header (RFC 9110, 5.6.7); None: not a date."""
    if value is None:
        return None
    try:
        parsed = parsedate_to_datetime(value)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def retry_after(status: int, headers: Mapping[str, str], error: Mapping[str, object], now: datetime) -> float | None:
    """How long an error answer asks to wait: seconds, 0 to :data:`LONGEST_WAIT`; None: it doesn't say.

    The first of these that is there and can be read:

    1. ``Retry-After``: seconds or an HTTP date (RFC 9110, 10.2.3)
    2. ``X-RateLimit-Reset``: epoch seconds, on a 429 only: elsewhere it tells of a limit that was not hit
    3. ``limit`` in the body's ``error`` object: ``resetMs`` (epoch ms) or ``reset`` (epoch seconds), on a 429 only
    4. ``retryAfterMs``, then ``retryAfter`` (seconds), in the body's ``error`` object

    ``headers``: by lower-case name or without regard to case. ``error``: that object, empty if there is none.
    ``now``: our time; what the answer gives as a time is compared with its own ``Date``, and with ours only
    where it has none.
    """
    now = http_date(headers.get("date")) or now
    header = headers.get("retry-after")
    waits = [_number(header), _until(http_date(header), now)]
    if status == 429:
        reset = _number(headers.get("x-ratelimit-reset"))
        waits.append(_until(None if reset is None else from_epoch(reset), now))
        limit = error.get("limit")
        if isinstance(limit, dict):
            for field in ("resetMs", "reset"):
                reset = _number(limit.get(field))
                waits.append(_until(None if reset is None else from_epoch(reset), now))
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


def allowance(headers: Mapping[str, str], now: datetime) -> Allowance | None:
    """Returns what ``X-RateLimit-Limit``, ``-Remaining`` and ``-Reset`` (epoch seconds) say; None: they don't.

    Args:
        headers: by lower-case name or without regard to case.
        now: our time, for an answer without a ``Date``.

    Source: Vercel's REST API reference, "Rate limits".
    """
    limit, remaining, reset = (_number(headers.get(f"x-ratelimit-{name}")) for name in ("limit", "remaining", "reset"))
    if limit is None or remaining is None or reset is None or not 0 <= remaining <= limit or limit < 1:
        return None
    seconds = _until(from_epoch(reset), http_date(headers.get("date")) or now)
    return Allowance(int(limit), int(remaining), max(seconds, 0.0)) if seconds is not None else None


def _until(time: datetime | None, now: datetime) -> float | None:
    return None if time is None else (time - now).total_seconds()


def _number(value: object) -> float | None:
    """A JSON number or a decimal in a text; None for everything else: infinities, NaN and booleans too."""
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
