"""The list of certificates: its order and its pages."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from vercel_emulator.models import Behaviour, Certificate, ListOrder


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list.

    Attributes:
        certificates: The certificates on the page.
        next: The ``until`` of the next page, in epoch milliseconds; None on the last page.
        prev: ``createdAt`` of the first certificate, in epoch milliseconds; None on the first page.
    """

    certificates: tuple[Certificate, ...]
    next: int | None
    prev: int | None


def in_order(certificates: Iterable[Certificate], order: ListOrder) -> list[Certificate]:
    """Sort certificates for the list.

    Args:
        certificates: The certificates, in the order in which they were made.
        order: The order of the list.

    Returns:
        The certificates, sorted by a function of ``createdAt``. Newest first: of the same time, the last one made comes
        first.
    """
    found = list(certificates)
    if order == "newest-first":
        found.reverse()
    elif order == "shuffled":
        found.sort(key=lambda certificate: sha256(certificate.id.encode()).digest())
    return sorted(found, key=lambda certificate: _position(order, certificate.created_at))


def page_of(everything: Sequence[Certificate], behaviour: Behaviour, until: int | None, limit: int | None) -> Page:
    """Cut a page out of the list.

    Many certificates can share a millisecond, and ``until`` can't tell them apart. So a page never ends within a
    millisecond: it grows beyond the limit instead. A client that follows ``next`` gets every certificate once (with
    ``behaviour.until`` set to ``inclusive``, those at the start of a page twice).

    Args:
        everything: The certificates, in the order of ``behaviour.list_order``.
        behaviour: The switches.
        until: Continue after the certificates of this time, in epoch milliseconds.
        limit: How many certificates; None for ``behaviour.page_size``.

    Returns:
        The page.
    """
    order = behaviour.list_order
    start = 0
    if until is not None:
        bisect = bisect_left if behaviour.until == "inclusive" else bisect_right
        start = bisect(everything, _position(order, until), key=lambda c: _position(order, c.created_at))
    end = start
    size = limit or behaviour.page_size
    while end < len(everything) and (
        end - start < size
        or everything[end].created_at == everything[end - 1].created_at
        # With an inclusive `until`, a page must have more than the certificates of that millisecond.
        or everything[end - 1].created_at == until
    ):
        end += 1
    found = everything[start:end]
    return Page(
        certificates=tuple(found),
        next=found[-1].created_at if end < len(everything) else None,
        prev=found[0].created_at if found and start else None,
    )


def _position(order: ListOrder, created_at: int) -> int:
    """Return where the certificates of a millisecond are in the list: it is sorted by this number."""
    if order == "shuffled":
        return int.from_bytes(sha256(str(created_at).encode()).digest()[:8])
    return created_at if order == "oldest-first" else -created_at
