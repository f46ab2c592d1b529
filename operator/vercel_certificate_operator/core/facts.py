"""Facts that several rules ask for."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.core.failures import (
    LONGEST_RETRY_AFTER,
    LONGEST_WAITS,
    Fate,
    is_about_the_call,
    meaning,
)
from vercel_certificate_operator.core.known import Decision, FailedCall, Known, Listing, Note, Reply, Wait
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Attempt, Origin, Outcome, Superseded, is_same_token, request_hash
from vercel_certificate_operator.core.renewal import superseded_rest
from vercel_certificate_operator.core.report import Need, Problem, conditions, scheduled
from vercel_certificate_operator.core.resource import Status
from vercel_certificate_operator.core.schema import whole_seconds
from vercel_certificate_operator.core.source import Source
from vercel_certificate_operator.core.times import (
    CLOCK_TOLERANCE,
    TOKEN_CHECK,
    UNREADABLE_LIMIT,
)

NEVER = float("-inf")
"""Before all times, in Unix seconds."""


def open_attempt(known: Known) -> Attempt | None:
    """Returns the attempt whose outcome is not known, unless this process knows that it was never sent.

    Someone may have wiped status. Then this process may still know the attempt.
    """
    attempt = known.resource.status.attempt
    if attempt is None and known.reply is not None:
        attempt = known.reply.attempt
    if attempt is None or not attempt.open or attempt.id in known.void_attempts:
        return None
    return attempt if attempt.id != known.unstored_outcome else None


def open_reply(known: Known) -> Reply | None:
    """Returns what came of the open attempt, if this process made it."""
    attempt = open_attempt(known)
    return known.reply if attempt is not None and known.reply and known.reply.attempt.id == attempt.id else None


def renew_pending(known: Known) -> bool:
    """Returns whether the renew annotation has a value that was not acted on yet."""
    request = known.resource.renew_request
    return request is not None and request != known.resource.status.last_renew_request


def adoption_pending(known: Known) -> str | None:
    """Returns the id that the adopt-id annotation names, if it was not acted on yet."""
    wanted = known.resource.adopt_request
    return wanted if wanted != known.resource.status.last_adopt_request else None


def renew_is_new(known: Known) -> bool:
    """Returns whether no attempt for the pending value of the renew annotation can have issued anything yet.

    Values that were acted on lately are remembered: two tools that set two values in turn request nothing new.
    """
    request, status = known.resource.renew_request, known.resource.status
    if request is None or not renew_pending(known):
        return False
    if request_hash(request) in {entry.request_hash for entry in status.issuances}:
        return False
    attempt = status.attempt
    if attempt is None or attempt.renew_request != request:
        return True
    return attempt.requested and attempt.outcome in (Outcome.REFUSED, Outcome.VOID)


def waiting_until(known: Known) -> datetime | None:
    """Returns the end of the wait after a failed attempt, if that is still to come.

    The wait ends early when what was refused changes: the names, the team, the token, the certificate that is uploaded
    or its chain. A new value of the renew annotation ends it too.
    """
    resource, attempt = known.resource, known.resource.status.closed_attempt
    if attempt is None or attempt.retry_time is None or known.now >= attempt.retry_time:
        return None
    longest = LONGEST_WAITS.get(attempt.outcome_reason or "", LONGEST_RETRY_AFTER)
    if attempt.retry_time > known.now + longest + CLOCK_TOLERANCE:
        return None  # recorded while a clock was wrong
    if not is_for_the_same(known, attempt) or attempt.team != known.scope.team:
        return None
    if isinstance(known.source, Source) and attempt.chain_hash not in (None, known.source.chain_hash):
        return None
    failed_at = resource.status.last_failure_time
    if attempt.outcome_reason == Reason.CREDENTIALS_INVALID and attempt.token_hash is None and failed_at is not None:
        # Nothing says which token that was, so a new one can't be recognized: whatever is there then is tried.
        soon = failed_at + TOKEN_CHECK
        return min(attempt.retry_time, soon) if known.now < soon else None
    if None not in (known.token_hash, attempt.token_hash) and not is_same_token(known.token_hash, attempt.token_hash):
        return None
    if resource.renew_request not in (None, attempt.renew_request, resource.status.last_renew_request):
        return None
    return attempt.retry_time


def is_uploaded(known: Known, source: Source) -> bool:
    """Returns whether the current certificate is the one in the Secret."""
    status = known.resource.status
    return status.id is not None and status.fingerprint == source.fingerprint


def is_for_the_same(known: Known, attempt: Attempt) -> bool:
    """Returns whether an attempt was for what is wanted now: the names, or the certificate in the Secret."""
    if not known.resource.spec.uploads:
        return attempt.fingerprint is None and attempt.names == known.resource.cns
    return isinstance(known.source, Source) and attempt.fingerprint == known.source.fingerprint


def unclaimed(known: Known, listing: Listing, cns: frozenset[str]) -> tuple[Certificate, ...]:
    """Returns the certificates in a list with exactly these names that are in no status, and in none soon."""
    if cns in known.attempted_elsewhere:
        return ()
    mine = frozenset(known.resource.status.certificate_ids)
    return tuple(
        certificate
        for certificate in listing.exactly(cns)
        if certificate.id not in mine
        and certificate.id not in known.removed
        and certificate.id not in known.held_elsewhere
    )


def youth(certificate: Certificate) -> tuple[float, float, str]:
    """Returns a sort key by which the youngest certificate is the largest."""
    created, expires = certificate.created_at, certificate.expires_at
    return (created.timestamp() if created else NEVER, expires.timestamp() if expires else NEVER, certificate.id)


def not_here(known: Known, certificate_id: str) -> bool:
    """Returns whether a listed certificate does not count: its GET answered 404, or has failed for too long.

    Any other failed GET is waited for; one that is paused, until half of the time from the renewal time to the expiry
    has passed.
    """
    got = known.got.get(certificate_id)
    if got is not None:
        return got.certificate is None
    half = half_time(known)
    late = half is not None and known.now >= half
    return is_unreadable(known, certificate_id) or (late and "get" in known.pauses)


def is_unreadable(known: Known, certificate_id: str) -> bool:
    """Returns whether a certificate could not be read for so long that it no longer counts."""
    failed = known.failed.get(("get", certificate_id))
    if failed is None or not is_about_the_call(failed.failure, "get"):
        return False
    return known.tick - failed.since >= UNREADABLE_LIMIT


def is_gone(known: Known) -> bool:
    """Returns whether Vercel has no certificate with the current id: a 404 that a later list confirms."""
    status, listing = known.resource.status, known.listing
    got = known.got.get(status.id or "")
    if got is None or got.certificate is not None or listing is None:
        return False
    return listing.begun >= got.at and listing.find(status.id) is None


def current_certificate(known: Known) -> Certificate | None:
    """Returns what Vercel said last about the current certificate in this round: by a GET, or by a list begun later.

    Of two answers that differ, the older one would undo what the newer one has changed. But an answer to a GET that
    lacks the names or the expiry changes nothing. None: Vercel said nothing, or that there is none.
    """
    got, listing = known.got.get(known.resource.status.id or ""), known.listing
    listed = listing.find(known.resource.status.id) if listing is not None else None
    if listing is None or listed is None or got is None:
        return listed or (got.certificate if got is not None else None)
    newer = got.certificate if got.at >= listing.begun else None
    return newer if newer is not None and newer.is_described else listed


def current_is_seen(known: Known) -> bool:
    """Returns whether Vercel has shown the current certificate to this process, and not denied it since.

    A list alone denies nothing if the certificate's own GET shows it.
    """
    status, listing, got = known.resource.status, known.listing, known.got.get(known.resource.status.id or "")
    checked_id, checked_at = known.checked or (None, 0.0)
    listed = listing is not None and listing.find(status.id) is not None
    if got is not None:
        return got.certificate is not None or (listed and listing is not None and listing.begun >= got.at)
    if checked_id == status.id and (listing is None or checked_at >= listing.begun):
        return True
    return listed


def vercels_renewals(known: Known) -> Sequence[Certificate]:
    """Returns the certificates in the list by which Vercel renewed the current one under other ids, one by one.

    Only if the current one renews automatically and no one else was seen to have certificates with the same names. The
    renewal has exactly the same names and was created in the second half of the current one's lifetime, or the current
    one is gone. If Vercel renewed several times, each must follow on the one before.
    """
    status, listing = known.resource.status, known.listing
    if listing is None or status.shared_names or not status.auto_renew:
        return ()
    if status.created_at is None or status.expires_at is None:
        return ()
    others = [other for other in unclaimed(known, listing, status.names) if not _expired(known, other)]
    if any(other.id in known.left_behind for other in others):
        return ()  # another resource left it there
    chain = sorted(others, key=youth)
    start, end, gone = status.created_at, status.expires_at, is_gone(known)
    for number, other in enumerate(chain):
        if other.auto_renew is False or other.created_at is None or other.expires_at is None:
            return ()
        after_half = start + (end - start) / 2 <= other.created_at <= end + CLOCK_TOLERANCE
        follows = after_half or (gone and number == 0 and other.created_at > start)
        if not follows:
            return ()
        start, end = other.created_at, other.expires_at
    return chain


def vercels_renewal(known: Known) -> Certificate | None:
    """Returns the newest of ``vercels_renewals``."""
    return next(reversed(vercels_renewals(known)), None)


def may_be_renewed(known: Known, held: Status | Superseded) -> bool:
    """Returns whether Vercel may have renewed a certificate under an id that no status has, and a list can show it."""
    since = held.renewable_since
    if since is None or known.now < since or held.scope != known.scope:
        return False  # the list of another account says nothing
    return held.team is not None or is_same_token(known.token_hash, known.resource.status.token_hash)


def perhaps_renewals(known: Known, *held: Status | Superseded) -> Sequence[Certificate]:
    """Returns the listed certificates by which Vercel may have renewed these. Nothing has recorded whose they are."""
    if known.listing is None:
        return ()
    found: dict[str, Certificate] = {}
    for one in held:
        since = one.renewable_since
        if since is not None and may_be_renewed(known, one):
            others = unclaimed(known, known.listing, one.names)
            found |= {other.id: other for other in others if other.created_at and other.created_at >= since}
    return tuple(found.values())


def foreign(known: Known, listing: Listing, cns: frozenset[str]) -> bool:
    """Returns whether a list has an unexpired certificate with exactly these names that this resource doesn't have.

    That of another resource counts too: it may have been someone else's before. What has only been issued isn't
    listed yet.
    """
    ours = {*known.resource.status.certificate_ids, *known.removed}
    return any(
        other.id not in ours and listing.find(other.id) is not None and not _expired(known, other)
        for other in listing.exactly(cns)
    )


def _expired(known: Known, certificate: Certificate) -> bool:
    return certificate.expires_at is not None and certificate.expires_at <= earlier_clock(known)


def earlier_clock(known: Known) -> datetime:
    """Returns the time by the clock that is behind, if Vercel's and the API server's differ by a day or more.

    Whichever of the two is right, a certificate that has not expired by it may be usable.
    """
    return min(known.now, known.now - (known.clock_skew or timedelta()))


def later_clock(known: Known) -> datetime:
    """Returns the time by the clock that is ahead, if Vercel's and the API server's differ by a day or more."""
    return max(known.now, known.now - (known.clock_skew or timedelta()))


def is_recent(known: Known, listing: Listing | None) -> bool:
    """Returns whether what a list shows may still be acted on."""
    return listing is not None and known.tick - listing.begun <= listing.longest_age


def is_fresh(known: Known, listing: Listing | None) -> bool:
    """Returns whether a list is young enough to make an attempt from it."""
    return listing is not None and listing.is_new_enough(None, known.tick)


def list_is_unavailable(known: Known) -> FailedCall | None:
    """Returns the failure of a list that neither the token, nor a rate limit, nor the way to Vercel explains.

    A gateway may offer nothing but issuing.
    """
    failed = known.waits("list")
    if failed is None or "list" in known.pauses or failed.failure.fate in (Fate.NOT_SENT, Fate.NO_TOKEN):
        return None
    refused = meaning(failed.failure, "list").reason in (Reason.CREDENTIALS_INVALID, Reason.RATE_LIMITED)
    return None if refused else failed


def is_removable(known: Known, certificate_id: str, origin: str | None) -> bool:
    """Returns whether the operator may remove a certificate that this resource's status names.

    Because it was replaced, or because the resource is being deleted with policy Delete.
    """
    if certificate_id in known.not_removable:
        return False
    if origin == Origin.ADOPTED:
        return not known.resource.spec.retains
    return origin == Origin.ISSUED


def half_time(known: Known) -> datetime | None:
    """Returns when half of the time from the renewal time to the expiry has passed."""
    due = scheduled(known.resource, known.resource.status)
    return due.half_time if due is not None else None


def unchanged(known: Known) -> Status:
    """Returns the same report at this time: Ready may have become False by time alone."""
    status = known.resource.status
    issuing = status.condition("Issuing")
    if issuing is None:
        return status
    need = Need(issuing.reason, issuing.message) if issuing.status == "True" else None
    stands = issuing.status == "False" and issuing.reason != Reason.ISSUED
    problem = Problem(issuing.reason, issuing.message) if stands else None
    # Of the generation for which it was made: nothing new has been decided.
    generation = status.observed_generation or known.resource.generation
    cns = known.resource.cns if generation == known.resource.generation else status.names
    after = conditions(
        known.resource, status, now=known.now, cns=cns, generation=generation, need=need, problem=problem
    )
    return status if after.ready and not status.ready else after  # time alone makes nothing ready


def kept_waiting(known: Known, until: datetime | None) -> Decision:
    """Returns the decision to do nothing until then. What time alone changes meanwhile is shown."""
    status = unchanged(known)
    return Decision(Wait(earliest(until, next_moment(known, status))), status)


def reported(
    known: Known, problem: Problem, *, action: str, until: datetime | None = None, status: Status | None = None
) -> Decision:
    """Returns the decision to report a problem and to wait. An Event is published when the reason is new.

    Args:
        action: what was tried, for the Event.
        until: when to decide again, if nothing changes before.
        status: what else changes in status.
    """
    before = known.resource.status
    issuing = before.condition("Issuing")
    new = issuing is None or issuing.reason != problem.reason or issuing.status != "False"
    note = Note("Warning", problem.reason, action, problem.message) if new else None
    after = conditions(known.resource, before if status is None else status, now=known.now, problem=problem)
    return Decision(Wait(earliest(until, next_moment(known, after))), after, note)


def earliest(*moments: datetime | None) -> datetime | None:
    """Returns the first of these times; None if there is none."""
    return min((moment for moment in moments if moment is not None), default=None)


def kept(known: Known, moment: datetime) -> datetime:
    """Returns a time for status: the one that is there, if it is the same but for the clocks' resolution."""
    new, there = whole_seconds(moment), known.resource.status.next_attempt_time
    return there if there is not None and abs(there - new) <= CLOCK_TOLERANCE else new


TICK = timedelta(milliseconds=1)
"""A time on the monotonic clock is rounded when it is expressed on the wall clock: it may seem to have come already."""


def next_moment(known: Known, status: Status) -> datetime | None:
    """Returns when time alone changes something next.

    That is the renewal, the expiry, the removal of what was replaced, or the time at which a call that failed may be
    repeated: what a list has shown, or an adoption, may be waiting for it.
    """
    due = scheduled(known.resource, status)
    moments = [due.renewal_time if due else None, half_time(known), status.expires_at]
    if known.resource.spec.uploads and known.source_due_at is not None:
        moments.append(known.wall(known.source_due_at))
    moments += [removal_time(status, entry.since) for entry in status.superseded]
    retries = [
        failed.retry_at
        for (call, _), failed in known.failed.items()
        if known.tick < failed.retry_at and (call != "list" or known.listing is not None)
    ]
    moments += [max(known.wall(at), known.now + TICK) for at in retries]
    # Not compared with now: wall-clock times are rounded, and a call that can't be made yet would seem to be free.
    free = [known.free_at("remove", entry.id) for entry in status.superseded]
    if status.superseded and status.id is not None:
        free.append(known.free_at("get", status.id))
    return earliest(*free, *(moment for moment in moments if moment is not None and moment > known.now))


def removal_time(status: Status, since: datetime) -> datetime:
    """Returns when a certificate that was replaced at ``since`` is removed."""
    rest: timedelta = superseded_rest(status.created_at, status.expires_at)
    return since + rest
