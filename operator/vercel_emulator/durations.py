"""Durations as people type them."""

import re
from datetime import timedelta

LONGEST = timedelta(days=200_000)
"""About 550 years: what is added to today is still a date."""

_FORM = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,8})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")


def parse_duration(text: str) -> timedelta:
    """``90d``, ``45s``, ``36h`` or ``1h30m``: whole days, hours, minutes and seconds, in this order.

    Raises ValueError, with a sentence for the user, for anything else, for no time at all, and beyond LONGEST.
    """
    match = _FORM.fullmatch(text.strip())
    if not text.strip() or match is None:
        raise ValueError(f"{text!r} is not a duration: write it like 90d, 36h, 45s or 1h30m")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not duration:
        raise ValueError(f"{text!r} is no time at all: a second (1s) is the least")
    if duration > LONGEST:
        raise ValueError(f"{text!r} is too long: it can be {LONGEST.days}d at most")
    return duration
