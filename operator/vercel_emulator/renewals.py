"""Vercel's automatic renewal: when a certificate is due, and what it becomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from vercel_emulator.models import Behaviour, Certificate, Renewal, to_ms
from vercel_emulator.validation import root_domain


@dataclass(frozen=True, slots=True)
class DueRenewal:
    """A renewal that is due.

    Attributes:
        renewal: What it does.
        moment: When it became due, in epoch milliseconds.
        skipped: How many renewals before it nobody saw, because the clock was moved past them.
    """

    renewal: Renewal
    moment: int
    skipped: int


def due(certificate: Certificate, behaviour: Behaviour, *, now: int, since: int) -> DueRenewal | None:
    """Find out whether a certificate is due for renewal.

    Args:
        certificate: The certificate.
        behaviour: The switches; ``behaviour.renewal`` is not ``off``.
        now: The time, in epoch milliseconds.
        since: When the automatic renewal was switched on, in epoch milliseconds.

    Returns:
        The renewal, or None if the certificate isn't due.
    """
    first = moment(certificate, behaviour, since=since)
    if first > now:
        return None
    new_lifetime = to_ms(behaviour.lifetime)
    valid = new_lifetime - _renew_before(behaviour, new_lifetime)
    backdate = behaviour.backdate if behaviour.renewal_backdate is None else behaviour.renewal_backdate
    backdate_ms = min(to_ms(backdate), valid // 2)  # so that it is not due again at once
    # If the clock was moved past several renewals, only the last one is visible.
    skipped, _ = divmod(now - first, valid - backdate_ms)
    renewal = Renewal(
        form="same-id" if behaviour.renewal == "same-id" else "new-id",
        backdate=timedelta(milliseconds=backdate_ms),
        adds=behaviour.renewal_adds,
        moves_created_at=behaviour.renewal_moves_created_at,
        removes_old=behaviour.renewal_removes_old,
    )
    return DueRenewal(renewal, first + skipped * (valid - backdate_ms), skipped)


def moment(certificate: Certificate, behaviour: Behaviour, *, since: int) -> int:
    """Return when a certificate becomes due for renewal, in epoch milliseconds; the arguments are those of ``due``."""
    lifetime = max(certificate.expires_at - certificate.created_at, 1)
    if certificate.renewals:  # createdAt can be that of the first issuance
        lifetime = min(lifetime, to_ms(behaviour.lifetime))
    return max(certificate.expires_at - _renew_before(behaviour, lifetime), certificate.settled_at, since)


def with_names(cns: Sequence[str], added: Sequence[str]) -> list[str]:
    """Return the names of a renewed certificate: the old ones, and the added ones of the same root domain."""
    roots = {root_domain(name) for name in cns}
    return list(dict.fromkeys([*cns, *(name for name in added if root_domain(name) in roots)]))


def _renew_before(behaviour: Behaviour, lifetime: int) -> int:
    # Less than the lifetime, so that a renewed certificate is not due again at once.
    before = behaviour.renew_before
    return lifetime // 3 if before is None else min(to_ms(before), lifetime - 1)
