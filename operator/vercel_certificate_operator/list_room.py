"""How much memory the lists of certificates take: those that are kept, and those that are being read.

Each list counts for a payer: the namespaces that use its token, or the default token itself. So one payer can't use up
the memory, and lists of one don't get the lists of another dropped.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.vercel import ListTooLong

MOST_KEPT = 20_000
"""Certificates in the lists that are kept for one payer, and so in one list. All that are being read have at most twice
as many. A certificate with one or two names takes about 1,000 bytes; one with more counts for several."""
BYTES = 1000
PER_NAME = 200
"""Bytes that a name takes, beside its characters."""
PAGE = 100
"""Certificates for which there must be room before a page is read, until the list has had a page that is larger."""


def size_of(certificate: Certificate) -> int:
    """Returns for how many certificates one counts."""
    return 1 + (len(certificate.id) + sum(PER_NAME + len(name) for name in certificate.cns)) // BYTES


@dataclass(slots=True)
class _Payer:
    reading: dict["Reading", None] = field(default_factory=dict)
    """The lists that are being read, the oldest first."""
    read: int = 0
    """The size of what they have read, and of the pages that they are about to read."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    kept: dict[Hashable, tuple[int, Callable[[], None]]] = field(default_factory=dict)
    """The lists that are kept, each with its size and what drops it; the oldest first."""
    size: int = 0
    """The sum of these sizes."""


class Reading:
    """A list that is being read."""

    def __init__(self, payer: _Payer) -> None:
        self._payer = payer
        self._next = PAGE
        self._reserved = 0
        self.size = 0

    async def wait(self) -> None:
        """Waits until there is room for the next page. The payer's oldest list doesn't wait: so one always goes on."""
        while not self._is_oldest and self._payer.read + self._next > MOST_KEPT:
            await self._payer.ended.wait()
        self._reserved = self._next
        self._payer.read += self._reserved

    def take(self, page: Iterable[Certificate]) -> bool:
        """Returns whether there is room for a page that was read. If not, it has to be read again.

        Raises:
            ListTooLong: the list is longer than any that is kept.
        """
        size = sum(map(size_of, page))
        self._payer.read -= self._reserved
        self._reserved, self._next = 0, max(self._next, size)
        if self.size + size > MOST_KEPT:
            raise ListTooLong(
                f"the list is too long for this operator: it reads at most {MOST_KEPT:,} certificates, and one with "
                "many names counts for several"
            )
        if not self._is_oldest and self._payer.read + size > MOST_KEPT:
            return False
        self.size += size
        self._payer.read += size
        return True

    @property
    def _is_oldest(self) -> bool:
        return next(iter(self._payer.reading)) is self

    def end(self) -> None:
        """Makes room for others."""
        del self._payer.reading[self]
        self._payer.read -= self.size + self._reserved
        self._payer.ended.set()
        self._payer.ended.clear()  # it wakes all that wait now


class ListRoom:
    """The room for lists of all payers."""

    def __init__(self) -> None:
        self._payers: dict[Hashable, _Payer] = {}
        self._payer_of: dict[Hashable, Hashable] = {}
        """Who pays for each list that is kept."""

    @contextmanager
    def reading(self, payer: Hashable) -> Iterator[Reading]:
        """Makes room for a list while it is being read."""
        lists = self._payers.setdefault(payer, _Payer())
        reading = Reading(lists)
        lists.reading[reading] = None
        try:
            yield reading
        finally:
            reading.end()
            self._forget_if_unused(payer)

    def keep(self, payer: Hashable, which: Hashable, size: int, drop: Callable[[], None]) -> None:
        """Notes that a list is kept. For that, the payer's oldest lists are dropped.

        Args:
            which: the list. A newer one replaces it.
            drop: drops it.
        """
        self.release(which)
        lists = self._payers.setdefault(payer, _Payer())
        lists.kept[which] = size, drop
        lists.size += size
        self._payer_of[which] = payer
        while lists.size > MOST_KEPT:
            oldest, (_, drop_oldest) = next(iter(lists.kept.items()))
            self.release(oldest)
            drop_oldest()

    def release(self, which: Hashable) -> None:
        """Notes that a list isn't kept any longer."""
        if which not in self._payer_of:
            return
        payer = self._payer_of.pop(which)
        lists = self._payers[payer]
        lists.size -= lists.kept.pop(which)[0]
        self._forget_if_unused(payer)

    def _forget_if_unused(self, payer: Hashable) -> None:
        lists = self._payers[payer]
        if not lists.reading and not lists.kept:
            del self._payers[payer]
