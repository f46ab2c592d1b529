"""How values are written in messages."""

import errno
import os
from collections.abc import Collection
from datetime import datetime

from vercel_certificate_operator.core.schema import whole_seconds

SHOWN = 5
LONGEST_TEXT = 1_000
"""Characters of a text from Vercel or from a user in one message."""
NEXT = " Next attempt: "


def printable(text: str, longest: int = LONGEST_TEXT) -> str:
    """Returns a text from outside as one printable line of bounded length.

    Control characters, including those of terminals and of bidirectional text, are written as escapes. The bound counts
    the characters of the escapes. A longer text ends with an ellipsis, after its last whole escape.
    """
    if len(text) <= longest and text.isprintable():
        return text
    parts = []
    room = longest
    for character in text:
        part = character if character.isprintable() else _escaped(character)
        room -= len(part)
        if room < 0:
            parts.append("…")
            break
        parts.append(part)
    return "".join(parts)


def _escaped(character: str) -> str:
    return " " if character.isspace() else character.encode("unicode_escape").decode()


def names(cns: Collection[str]) -> str:
    """Returns DNS names for a message: the first few of many, each printable."""
    if not cns:
        return "no names"
    shown = sorted(cns, key=lambda name: (name.removeprefix("*."), name.startswith("*.")))[:SHOWN]
    text = ", ".join(printable(name, 253) for name in shown)
    return text if len(cns) <= SHOWN else f"{text} and {len(cns) - SHOWN} more"


def ids(certificate_ids: Collection[str]) -> str:
    """Returns certificate ids for a message."""
    return ", ".join(printable(certificate_id, 100) for certificate_id in certificate_ids)


def token(place: tuple[str, str, str] | None) -> str:
    """Returns the name of a token for a message: where it is, never its value.

    Args:
        place: namespace, name and key of its Secret. None: the operator's default token.
    """
    return f"token {'/'.join(place)}" if place is not None else "the default token"


def os_error(error: OSError) -> str:
    """Returns why the operating system refused something.

    Not its ``strerror``, if there is another source: asyncio's has the address as a tuple.
    """
    number = error.errno or 0
    return os.strerror(number) if number in errno.errorcode else error.strerror or str(error)


def with_next(message: str, moment: datetime | None) -> str:
    """Returns a message that ends with the time of the next attempt, once."""
    message = message.partition(NEXT)[0]
    return f"{message}{NEXT}{time(moment)}." if moment is not None else message


def time(moment: datetime) -> str:
    """Returns a time as RFC 3339, UTC, whole seconds."""
    return whole_seconds(moment).isoformat().replace("+00:00", "Z")
