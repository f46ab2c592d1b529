"""When a certificate is renewed."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from vercel_certificate_operator.core.durations import parse_duration, readable
from vercel_certificate_operator.core.failures import fraction

SUPERSEDED_REST = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Schedule:
    """What follows from a certificate's own times."""

    renewal_time: datetime
    """When to look whether it has to be renewed."""
    note: str = ""
    """Something that the user should know of it, as a sentence."""


def schedule(
    *, uid: str, created_at: datetime | None, expires_at: datetime, renew_before: str | None, issued_at: datetime
) -> Schedule:
    """When a certificate is due for renewal.

    ``expires_at`` less the window (``renew_before``, or a third of the lifetime), less a jitter of up to a tenth of
    the window that follows from the resource's uid, so that a thousand certificates of one day don't renew in one
    second. Never within the first tenth of the lifetime.

    Args:
        created_at: when Vercel says it was created; None where it doesn't.
        issued_at: when it was asked for: stands in for ``created_at``.
    """
    created = created_at if created_at is not None and created_at < expires_at else min(issued_at, expires_at)
    lifetime = expires_at - created
    window, note = lifetime / 3, ""
    if renew_before is not None:
        wanted = parse_duration(renew_before)
        if wanted < lifetime:
            window = wanted
        else:
            note = (
                f"spec.renewBefore ({renew_before}) is not shorter than the certificate's lifetime "
                f"({readable(lifetime)}): a third of the lifetime is used."
            )
    due = expires_at - window - window / 10 * fraction(uid)
    return Schedule(max(due, created + lifetime / 10), note)


def superseded_rest(created_at: datetime | None, expires_at: datetime | None) -> timedelta:
    """How long a replaced certificate stays at Vercel: 10 min, or a tenth of the new one's lifetime if that is less."""
    if created_at is None or expires_at is None or expires_at <= created_at:
        return SUPERSEDED_REST
    return min(SUPERSEDED_REST, (expires_at - created_at) / 10)
