"""What one listing of a scope says of the resources in it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from vercel_certificate_operator.core.certificate import Certificate, normalized
from vercel_certificate_operator.core.known import Listing
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import Status, whole_seconds

FEW = 5
"""So many certificates may be missing at once before it is suspicious."""


def scope_vanished(held: Collection[str], listing: Listing) -> bool:
    """Whether more than a tenth (at least 5) of the certificates that resources hold in a scope are not listed."""
    listed = {certificate.id for certificate in listing.certificates}
    missing = sum(1 for certificate_id in held if certificate_id not in listed)
    return missing >= FEW and missing * 10 > len(held)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A listing, arranged for looking many resources up in it."""

    listing: Listing
    by_id: Mapping[str, Certificate]
    newest: Mapping[frozenset[str], Certificate]
    """For each set of names, the certificate that was created last."""

    @classmethod
    def of(cls, listing: Listing) -> "Sighting":
        newest: dict[frozenset[str], Certificate] = {}
        for certificate in listing.certificates:
            before = newest.get(certificate.cns)
            if before is None or _created(certificate) > _created(before):
                newest[certificate.cns] = certificate
        return cls(listing, {certificate.id: certificate for certificate in listing.certificates}, newest)

    def is_news(self, raw_status: Mapping[str, Any]) -> bool:
        """Whether a resource with this status has to look at the listing: something differs, or is suspicious."""
        status = Status.model_validate(raw_status)
        current = self.by_id.get(status.id or "")
        if current is None or current.expires_at is None:
            return True
        issuing = status.condition("Issuing")
        if issuing is not None and issuing.reason == Reason.SCOPE_VANISHED:
            return True
        if self.newest[current.cns].id not in {status.id, *status.superseded_ids}:
            return True
        return (
            whole_seconds(current.expires_at) != status.expires_at
            or current.cns != normalized(status.cns)
            or current.auto_renew != status.auto_renew
        )


def _created(certificate: Certificate) -> float:
    return certificate.created_at.timestamp() if certificate.created_at is not None else 0.0
