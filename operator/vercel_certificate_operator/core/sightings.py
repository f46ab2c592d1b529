"""What one list says about the resources of a scope."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.certificate import Certificate, Scope, normalized
from vercel_certificate_operator.core.facts import youth
from vercel_certificate_operator.core.known import Listing
from vercel_certificate_operator.core.resource import Key, Status
from vercel_certificate_operator.core.schema import whole_seconds
from vercel_certificate_operator.core.times import BACK_DATED, LATE_IN_LIST

FEW = 5
"""So many certificates may be missing at once before that is suspicious."""

Place = tuple[str, str, str]
"""Where a token is: namespace, name and key of a Secret. The operator's default token has none."""


class ScopeKey(NamedTuple):
    """All resources whose certificates are in one scope and are reached with one token. A key of the queue."""

    token: Place | None
    """None: the operator's default token."""
    scope: Scope

    def __str__(self) -> str:
        return f"{self.scope} with {words.token(self.token)}"


def tenant_of(key: Key | ScopeKey) -> str | None:
    """Returns the namespace that a key belongs to; None: the drift watch of the default token."""
    if isinstance(key, Key):
        return key.namespace
    return key.token[0] if key.token is not None else None


def scope_vanished(held: Collection[str], listing: Listing, is_unexplained: Callable[[str], bool]) -> bool:
    """Returns whether more than a tenth (at least 5) of the certificates that resources hold are not listed.

    Args:
        held: ids of certificates.
        is_unexplained: whether one that is not listed counts; see ``is_unexplained``.
    """
    too_many = max(FEW, len(held) // 10 + 1)
    unexplained = (one for one in held if listing.find(one) is None and is_unexplained(one))
    return sum(1 for _ in islice(unexplained, too_many)) == too_many


def is_unexplained(status: Status, listing: Listing, now: datetime) -> bool:
    """Returns whether nothing but a wrong token, or a removal, explains that a list lacks the current certificate.

    Vercel drops what has expired and what it has renewed under another id, and what is new appears in its lists late.

    Args:
        now: the time at Vercel.
    """
    expires_at, created_at = status.expires_at, status.created_at
    if expires_at is not None and expires_at <= now:
        return False
    if created_at is not None and created_at > now - LATE_IN_LIST:
        return False
    return not any(other.expires_at is None or other.expires_at > now for other in listing.exactly(status.names))


@dataclass(frozen=True, slots=True)
class Sighting:
    """A list, arranged so that many resources can be looked up in it."""

    listing: Listing
    by_names: Mapping[frozenset[str], tuple[Certificate, ...]]
    """For each set of names, the certificates with exactly these, the youngest first."""

    @classmethod
    def of(cls, listing: Listing) -> "Sighting":
        by_names: dict[frozenset[str], list[Certificate]] = {}
        for certificate in listing:
            by_names.setdefault(certificate.cns, []).append(certificate)
        ordered = {names: tuple(sorted(found, key=youth, reverse=True)) for names, found in by_names.items()}
        return cls(listing, ordered)

    def is_news(self, cns: frozenset[str], raw_status: Mapping[str, Any]) -> bool:
        """Returns whether a resource has to be reconciled with this list: something differs or is suspicious.

        Args:
            cns: the names that the resource wants.
            raw_status: its status, as JSON.
        """
        current_id = raw_status.get("id")
        if current_id is None:
            return cns in self.by_names  # perhaps made by hand
        current = self.listing.find(current_id)
        if current is None or current.expires_at is None or raw_status.get("scopeVanished"):
            return True
        status = Status.read(raw_status)
        if current.auto_renew not in (None, status.auto_renew) or current.cns != normalized(status.cns):
            return True
        if whole_seconds(current.expires_at) != status.expires_at:
            return True
        mine = status.certificate_ids
        others = any(other.id not in mine for other in self.by_names.get(current.cns, ()))
        # One that was made by hand can end a wait; to others, these names are known to be shared.
        return others and (not status.shared_names or status.next_attempt_time is not None)

    def orphans(self, cns: frozenset[str], created_at: float, skip: int = 0) -> Iterator[Certificate]:
        """Yields the certificates with exactly these names that may have been created after a resource, youngest first.

        Issuers set the creation time back, and the API server's clock isn't Vercel's.

        Args:
            created_at: when the resource was created, in Unix seconds.
            skip: how many certificates to leave out. It costs nothing, however many they are.
        """
        earliest = created_at - BACK_DATED.total_seconds()
        certificates = self.by_names.get(cns, ())
        for number in range(skip, len(certificates)):
            certificate = certificates[number]
            if certificate.created_at is None or certificate.created_at.timestamp() < earliest:
                return  # the others are older
            yield certificate
