"""How things are written in messages."""

from collections.abc import Collection
from datetime import datetime

from vercel_certificate_operator.core.resource import whole_seconds

SHOWN = 5


def names(cns: Collection[str]) -> str:
    """Names for a message, the first few of many."""
    shown = ", ".join(sorted(cns, key=lambda name: (name.removeprefix("*."), name.startswith("*.")))[:SHOWN])
    return shown if len(cns) <= SHOWN else f"{shown} and {len(cns) - SHOWN} more"


NEXT = " Next attempt: "


def with_next(message: str, moment: datetime | None) -> str:
    """A message that ends with the time of the next attempt, once."""
    message = message.partition(NEXT)[0]
    return f"{message}{NEXT}{time(moment)}." if moment is not None else message


def time(moment: datetime) -> str:
    """RFC 3339, UTC, whole seconds."""
    return whole_seconds(moment).isoformat().replace("+00:00", "Z")
