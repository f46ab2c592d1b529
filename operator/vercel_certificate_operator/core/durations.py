"""Durations as people write and read them."""

import re
from datetime import timedelta

_UNITS = {"h": "hours", "m": "minutes", "s": "seconds"}
_PART = re.compile(r"([0-9]+)([hms])")
_WHOLE = re.compile(r"([0-9]+[hms])+")


def parse_duration(text: str) -> timedelta:
    """Returns a duration such as ``720h``, ``1h30m`` or ``90s``, in the form of ``spec.renewBefore``.

    Raises:
        ValueError: it has another form, or is too long. The message is for users.
    """
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration: use h, m and s, as in 720h, 1h30m or 90s")
    try:
        return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in _PART.findall(text)), timedelta())
    except OverflowError:
        raise ValueError(f"{text!r} is too long for a duration") from None


def readable(span: timedelta) -> str:
    """Returns a duration in its two largest units, for messages: ``29d 3h``, ``1h 30m``, ``45s``."""
    seconds = max(0, round(span.total_seconds()))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        amount, seconds = divmod(seconds, size)
        if amount or (unit == "s" and not parts):
            parts.append(f"{amount}{unit}")
    return " ".join(parts[:2])
