"""Durations as users write them."""

import re
from datetime import timedelta

LONGEST = timedelta(days=200_000)
"""About 550 years: today plus this is still a valid date."""

_FORM = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,8})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as ``90d``, ``45s``, ``36h`` or ``1h30m``.

    Args:
        text: Whole days, hours, minutes and seconds, in this order.

    Returns:
        The duration: at least a second, at most ``LONGEST``.

    Raises:
        ValueError: The text is not a duration, or is out of range. The message is a sentence for the user.
    """
    match = _FORM.fullmatch(text.strip())
    if not text.strip() or match is None:
        raise ValueError(f"{text!r} is not a duration: write it like 90d, 36h, 45s or 1h30m")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not duration:
        raise ValueError(f"{text!r} is no time at all: the minimum is a second (1s)")
    if duration > LONGEST:
        raise ValueError(f"{text!r} is too long: the maximum is {LONGEST.days}d")
    return duration
