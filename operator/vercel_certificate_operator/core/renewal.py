"""When a certificate is renewed, and for how long a replaced one is kept."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from vercel_certificate_operator.core.durations import parse_duration, readable
from vercel_certificate_operator.core.failures import fraction

SUPERSEDED_REST = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Schedule:
    """What follows from a certificate's own times."""

    renewal_time: datetime
    """When to check whether it has to be renewed."""
    lifetime: timedelta
    expires_at: datetime
    note: str = ""
    """What the user should know about it, as a sentence."""

    @property
    def half_time(self) -> datetime:
        """When half of the time from the renewal time to the expiry has passed."""
        return self.renewal_time + (self.expires_at - self.renewal_time) / 2


@lru_cache(maxsize=128)  # each round asks several times
def schedule(*, uid: str, created_at: datetime | None, expires_at: datetime, renew_before: str | None) -> Schedule:
    """Returns when a certificate is due for renewal.

    ``expires_at`` minus the window (``renew_before``, or a third of the lifetime), minus a jitter of up to a tenth of
    the window that follows from the resource's uid, so that a thousand certificates of one day aren't renewed in one
    second. Never within the first tenth of the lifetime.

    Args:
        created_at: when Vercel says it was created; None or no earlier than ``expires_at``: it counts as expired.
    """
    created = min(created_at or expires_at, expires_at)
    lifetime = expires_at - created
    window, note = lifetime / 3, ""
    if renew_before is not None:
        wanted = _parsed(renew_before)
        if wanted is not None and wanted < lifetime:
            window = wanted
        else:
            note = (
                f"spec.renewBefore ({renew_before}) is not shorter than the certificate's lifetime "
                f"({readable(lifetime)}), so a third of the lifetime is used."
            )
    due = expires_at - window - window / 10 * fraction(uid)
    return Schedule(max(due, created + lifetime / 10), lifetime, expires_at, note)


def _parsed(renew_before: str) -> timedelta | None:
    try:
        return parse_duration(renew_before)
    except ValueError:
        return None  # a newer version's form


def superseded_rest(created_at: datetime | None, expires_at: datetime | None) -> timedelta:
    """Returns how long a replaced certificate stays: 10 min, or a tenth of its successor's lifetime if that is less."""
    if created_at is None or expires_at is None or expires_at <= created_at:
        return SUPERSEDED_REST
    return min(SUPERSEDED_REST, (expires_at - created_at) / 10)
