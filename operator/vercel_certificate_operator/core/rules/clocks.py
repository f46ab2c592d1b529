"""What is recorded with a time that a wrong clock showed."""

from vercel_certificate_operator.core.facts import later_clock, unchanged
from vercel_certificate_operator.core.known import Decision, Known, List, Write
from vercel_certificate_operator.core.schema import whole_seconds
from vercel_certificate_operator.core.times import LATE_DATE, LIST_AGE


def times_of_the_future_are_corrected(known: Known) -> Decision | None:
    """A time that is in the future by both clocks was recorded while one of them was ahead. It becomes now.

    Otherwise a replaced certificate would stay, and an issuance would count, for as much longer as the clock was ahead.
    """
    status, latest = known.resource.status, max(later_clock(known), known.server_time or known.now)
    times = [entry.since for entry in status.superseded] + [entry.time for entry in status.issuances]
    if max(times, default=latest) <= latest + LATE_DATE:
        return None
    if not known.vercel_said and known.listing is None:
        # The API server's clock may be behind, and Vercel's answers have the time, unless a gateway removes it.
        return None if known.blocked("list") else Decision(List(known.tick - LIST_AGE, known.scope))
    now = whole_seconds(latest)
    superseded = tuple(one.model_copy(update={"since": min(one.since, now)}) for one in status.superseded)
    issuances = tuple(one.model_copy(update={"time": min(one.time, now)}) for one in status.issuances)
    return Decision(Write(), unchanged(known).changed(superseded=superseded, issuances=issuances))
