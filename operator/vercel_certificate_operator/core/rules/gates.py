"""What must be so before a certificate is issued."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.durations import readable
from vercel_certificate_operator.core.facts import (
    current_certificate,
    earlier_clock,
    earliest,
    half_time,
    is_for_the_same,
    is_fresh,
    is_removable,
    is_unreadable,
    kept_waiting,
    list_is_unavailable,
    next_moment,
    renew_is_new,
    reported,
    unclaimed,
    waiting_until,
    youth,
)
from vercel_certificate_operator.core.failures import (
    CALL_DENIED,
    CREDENTIALS_INVALID,
    is_about_the_call,
    meaning,
)
from vercel_certificate_operator.core.known import (
    AddFinalizer,
    Decision,
    Get,
    Issue,
    Known,
    List,
    Listing,
    ReadToken,
    Remove,
    Wait,
)
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import MOST_SUPERSEDED, Attempt, Issuance, Outcome, names_hash
from vercel_certificate_operator.core.report import Need, Problem, conditions, problem
from vercel_certificate_operator.core.resource import RENEW_ANNOTATION, Status
from vercel_certificate_operator.core.rules.adoption import existing_certificate_is_used
from vercel_certificate_operator.core.rules.domains import is_about_dns, missing_records_are_reported
from vercel_certificate_operator.core.rules.drift import change_is_recorded
from vercel_certificate_operator.core.rules.needs import need_of
from vercel_certificate_operator.core.schema import whole_seconds
from vercel_certificate_operator.core.source import Source
from vercel_certificate_operator.core.times import (
    ATTEMPT_ELSEWHERE_CHECK,
    BY_HAND_CHECK,
    CLOCK_CHECK,
    CLOCK_TOLERANCE,
    DRIFT_LIST_AGE,
    DUPLICATE_CHECK,
    ISSUANCE_WINDOW,
    LIST_AGE,
    MOST_HOLDERS_READ,
    MOST_KNOWN,
    SHORTEST_ISSUANCE_WINDOW,
    TOKEN_CHECK,
)


def issued_when_needed(known: Known) -> Decision | None:
    """There is a need: whatever must be so before it is met, then one attempt."""
    need = need_of(known)
    if need is None:
        return None
    for gate in GATES:
        decision = gate(known, need)
        if decision is not None:
            return replace(decision, policy=gate.__name__)
    raise AssertionError("the last gate always decides")


def names_have_one_owner(known: Known, need: Need) -> Decision | None:
    """Another resource owns these names in this scope: this one neither requests nor uses a certificate.

    An owner in another namespace may be another tenant's. It is named only if this resource's token can list the scope.
    """
    owner = known.ownership.owner or _holder_in_this_scope(known)
    if owner is None:
        return None
    may_know = _is_here(known, owner) or known.listing is not None
    if not may_know and not known.blocked("list"):
        return Decision(List(known.tick - DUPLICATE_CHECK.total_seconds(), known.scope))
    advice = "Delete this resource, or change its spec.cns."
    if may_know:
        advice += (
            f" To use this resource instead, set spec.deletionPolicy of {owner} to Retain before you delete {owner}: "
            "otherwise its certificate is removed at Vercel."
        )
    duplicate = problem(
        Reason.DUPLICATE_OF,
        wrong=f"{owner if may_know else 'A resource of another namespace'} owns the certificate for "
        f"{words.names(known.resource.cns)} in {known.scope}.",
        advice=advice,
        again=f"This resource takes over when {owner if may_know else 'that one'} is gone.",
    )
    return reported(known, duplicate, action="Issue", until=known.now + DUPLICATE_CHECK)


def _is_here(known: Known, holder: str) -> bool:
    """Returns whether a resource is in the namespace of this one."""
    return holder.startswith(f"{known.resource.key.namespace}/")


def _holder_in_this_scope(known: Known) -> str | None:
    """Returns a resource whose certificate for the same names turned out to be in this scope."""
    for certificate_id, holder in known.ownership.holders.items():
        got = known.got.get(certificate_id)
        listed = known.listing is not None and known.listing.find(certificate_id) is not None
        if listed or (got is not None and got.certificate is not None):
            return holder
    return None


def holders_are_in_other_scopes(known: Known, need: Need) -> Decision | None:
    """Of resources whose scope may be the same, the certificates aren't in this one: a GET proves it.

    A list may be older than they are. Of many, only the newest are read; the list has the others.
    """
    for certificate_id, holder in tuple(known.ownership.holders.items())[:MOST_HOLDERS_READ]:
        read = certificate_id in known.got or is_unreadable(known, certificate_id)
        if not read and not (_counts_as_elsewhere(known, certificate_id) and not _is_here(known, holder)):
            ask = Decision(Get(certificate_id, known.scope))
            waits = need.by_time and known.blocked("get", certificate_id)
            return _until_half_time(known, ask) if waits else ask
    return None


def _counts_as_elsewhere(known: Known, certificate_id: str) -> bool:
    """Returns whether a certificate that can't be read counts as one in another account.

    A token that can list a scope can read what is in it. If there is no list, a GET that fails for a while is enough.
    """
    failed = known.failed.get(("get", certificate_id))
    if failed is None or not is_about_the_call(failed.failure, "get"):
        return False
    denied = meaning(failed.failure, "get").reason == Reason.PERMISSION_DENIED and is_fresh(known, known.listing)
    return denied or known.tick - failed.since >= known.limits.grace


def attempts_for_the_same_names_take_turns(known: Known, need: Need) -> Decision | None:
    """A resource whose scope may be the same is requesting a certificate for these names now."""
    if known.ownership.attempting is None:
        return None
    # It may be of another tenant, so it isn't named; and the message stays when the next one has its turn.
    return _waits(known, need, "Waiting for the attempt of another resource, which has the same names.")


def requests_of_gone_resources_are_waited_for(known: Known, need: Need) -> Decision | None:
    """A resource that is gone has requested a certificate for these names, and there was no answer.

    After that, a list shows what came of it. One that was begun before may lack it.
    """
    unanswered = known.unanswered
    if unanswered is None:
        return None
    since = unanswered.failed_at if known.tick < unanswered.until else unanswered.until
    is_listed = since is None or (known.listing is not None and known.listing.begun >= since)
    if not is_listed and not known.blocked("list"):
        return Decision(List(since, known.scope))
    if known.tick >= unanswered.until:
        return None
    what = "Waiting for the answer to the request of a deleted resource, which had the same names."
    return _waits(known, need, what, until=known.wall(unanswered.until))


def _waits(known: Known, need: Need, what: str, *, until: datetime | None = None) -> Decision:
    """Reports what is waited for, and looks again soon."""
    need = Need(need.reason, f"{need.message} {what}")
    again = earliest(until, known.now + ATTEMPT_ELSEWHERE_CHECK)
    return Decision(Wait(again), conditions(known.resource, known.resource.status, now=known.now, need=need))


def back_off_is_waited_for(known: Known, need: Need) -> Decision | None:
    """After a failure, the next attempt has its time. Another token ends the wait; so does a certificate by hand."""
    until = waiting_until(known)
    if until is None:
        return None
    attempt = known.resource.status.closed_attempt
    reason = attempt.outcome_reason if attempt is not None else None
    if not known.token_read and until - known.now > TOKEN_CHECK:
        return Decision(ReadToken())
    if reason in (CREDENTIALS_INVALID.reason, CALL_DENIED.reason):
        until = min(until, known.now + TOKEN_CHECK)
    if attempt is not None and is_about_dns(attempt) and until - known.now > BY_HAND_CHECK:
        if known.listing is None and not known.blocked("list"):
            return Decision(List(known.tick - BY_HAND_CHECK.total_seconds(), known.scope))
        until = known.now + BY_HAND_CHECK
    shown = _shown_again(known, attempt) if attempt is not None else None
    if shown is not None:
        return Decision(Wait(earliest(until, next_moment(known, shown))), shown)
    return kept_waiting(known, until)


def _shown_again(known: Known, attempt: Attempt) -> Status | None:
    """Returns the status that reports a wait again, after something else was reported meanwhile; None: it does.

    The resource was suspended, or its names were changed and changed back: then status is about that. Vercel's words
    are not recorded.
    """
    resource, status = known.resource, known.resource.status
    issuing, reason = status.condition("Issuing"), attempt.outcome_reason or ""
    is_shown = issuing is not None and (issuing.status, issuing.reason) == ("False", reason)
    if is_shown and status.observed_generation == resource.generation:
        return None
    if is_shown and issuing is not None:
        shown = Problem(reason, issuing.message.partition(words.NEXT)[0])
    else:
        shown = problem(
            reason,
            wrong=f"The attempt at {words.time(attempt.start)} to issue a certificate for {words.names(attempt.names)} "
            "failed.",
            advice="Its Event and the operator's log have the details. To try again now, set the annotation "
            f"{RENEW_ANNOTATION} to a new value.",
        )
    after = status.changed(next_attempt_time=attempt.retry_time)
    return conditions(resource, after, now=known.now, problem=shown)


def clocks_agree(known: Known, need: Need) -> Decision | None:
    """If Vercel's time and the API server's differ by a day or more, nothing is issued because of time."""
    if known.clock_skew is None or not need.by_time:
        return None
    since = known.tick - DRIFT_LIST_AGE
    if (known.listing is None or known.listing.begun < since) and not known.blocked("list"):
        return Decision(List(since, known.scope))  # its answer has the time at Vercel
    behind = "ahead of" if known.clock_skew == abs(known.clock_skew) else "behind"
    skew = problem(
        Reason.CLOCK_SKEW,
        wrong=f"Vercel's clock is {readable(abs(known.clock_skew))} {behind} the Kubernetes API server's, so the "
        f"operator does not renew the certificate for {words.names(known.resource.cns)}. {need.message}",
        advice="Check the clocks of the control plane nodes.",
        again=f"The operator checks again every {readable(CLOCK_CHECK)}.",
    )
    return reported(known, skew, action="Issue", until=known.now + CLOCK_CHECK)


def current_certificate_is_checked(known: Known, need: Need) -> Decision | None:
    """Vercel may have renewed by itself: then only status changes.

    A GET that keeps failing doesn't prevent the renewal once half of the remaining time has passed. After a recent GET
    a fresh list is enough: if renewals that a rate limit holds up began with a GET each time, the GETs could use up
    all that Vercel allows.
    """
    status = known.resource.status
    if not need.by_time or status.id is None or status.id in known.removed:
        return None
    got = known.got.get(status.id)
    if got is None and _was_checked_lately(known, status.id):
        listing = known.listing
        if not is_fresh(known, listing) and not known.blocked("list"):
            return Decision(List(None, known.scope))
        if listing is not None and is_fresh(known, listing) and listing.find(status.id) is not None:
            return None  # a rule before the gates would have recorded a change
    if got is None:
        if not known.blocked("get", status.id):
            return Decision(Get(status.id, status.scope))
        return _until_half_time(known, Decision(Get(status.id, status.scope)))
    certificate = current_certificate(known)  # if a later list has it, a 404 was wrong
    if certificate is not None:
        return change_is_recorded(known, certificate)
    return _until_half_time(known, Decision(List(got.at, status.scope)))


def _was_checked_lately(known: Known, certificate_id: str) -> bool:
    checked_id, at = known.checked or (None, 0.0)
    return checked_id == certificate_id and known.tick - at <= LIST_AGE


def list_is_fresh(known: Known, need: Need) -> Decision | None:
    """An attempt needs a fresh list. One that fails does not block issuing for long, nor a rate limit a renewal."""
    if is_fresh(known, known.listing):
        return None
    ask = Decision(List(None, known.scope))
    if not known.blocked("list"):
        return ask
    if need.by_time and (list_is_unavailable(known) or _list_is_limited(known)):
        return _until_half_time(known, ask)
    if _has_holders_nearby(known):
        return ask  # a gateway that lists nothing may answer every GET with 404
    return ask if list_is_unavailable(known) is None else None


def _has_holders_nearby(known: Known) -> bool:
    """Returns whether a resource of this namespace, whose scope may be the same, holds a certificate for the names.

    Those of other namespaces are other tenants, and must not prevent an issuance.
    """
    return any(_is_here(known, holder) for holder in known.ownership.holders.values())


def _list_is_limited(known: Known) -> bool:
    pause, failed = known.pauses.get("list"), known.waits("list")
    reasons = (pause.reason if pause else None, meaning(failed.failure, "list").reason if failed else None)
    return Reason.RATE_LIMITED in reasons


def _until_half_time(known: Known, ask: Decision) -> Decision | None:
    """Returns a call that can't be made now, so that it is waited for, until half of the remaining time has passed."""
    half = half_time(known)
    return ask if half is not None and known.now < half else None


def superseded_leave_room(known: Known, need: Need) -> Decision | None:
    """The record of replaced certificates is bounded. While it is full, nothing is issued."""
    status = known.resource.status
    if len(status.superseded) < MOST_SUPERSEDED:
        return None
    full = problem(
        Reason.TOO_MANY_SUPERSEDED,
        wrong=f"{len(status.superseded)} replaced certificates could not be removed at Vercel, so the operator issues "
        f"no certificate for {words.names(known.resource.cns)}. {need.message}",
        advice="Check the Events RemovalFailed for the cause, or remove the certificates in status.superseded "
        "yourself.",
        again="The operator continues when some of them are removed.",
    )
    return reported(known, full, action="Issue")


def old_certificate_makes_way(known: Known, need: Need) -> Decision | None:
    """If Vercel answers a renewal with the old certificate, that is removed once it has expired."""
    status, attempt = known.resource.status, known.resource.status.closed_attempt
    if need.reason != Reason.EXPIRED or status.id is None or attempt is None:
        return None
    if attempt.outcome != Outcome.NOT_RENEWED or status.id in known.removed:
        return None
    if not is_removable(known, status.id, status.origin):
        return None
    return Decision(Remove(status.id, status.scope))


def issuances_are_limited(known: Known, need: Need) -> Decision | None:
    """No mistake of ours, of a clock, of Vercel or of a tool issues without end.

    A user's request is not limited: a new value of the renew annotation, or names that were not issued lately.
    """
    resumes = _limited_until(known)
    if resumes is None or renew_is_new(known):
        return None
    limit = known.limits.issuances
    limited = problem(
        Reason.ISSUANCE_LIMITED,
        wrong=f"This resource has requested {limit} certificates since {words.time(_counting(known)[-limit])}, which "
        f"is the limit (--issuance-limit). {need.message}",
        advice="Find out why so many are needed. To issue one now, set the annotation "
        f"{RENEW_ANNOTATION} to a new value.",
    )
    status = known.resource.status.changed(next_attempt_time=whole_seconds(resumes))
    return reported(known, limited, action="Issue", until=resumes, status=status)


def _limited_until(known: Known) -> datetime | None:
    """Returns when the limit allows the next issuance; None: now."""
    counting = _counting(known)
    wanted = names_hash(_requested_names(known))
    if len(counting) < known.limits.issuances:
        return None
    if wanted not in {entry.names_hash for entry in _unrequested(known)}:
        return None
    behind = known.now - earlier_clock(known)
    return counting[-known.limits.issuances] + _issuance_window(known) + behind


def _counting(known: Known) -> list[datetime]:
    """Returns the times of the issuances in the window, the oldest first.

    They were recorded by the clock that was ahead, and leave the window by the one that is behind. So a clock that is
    wrong for a while makes the operator forget none.
    """
    start = earlier_clock(known) - _issuance_window(known)
    return sorted(entry.time for entry in _unrequested(known) if entry.time > start)


def _unrequested(known: Known) -> list[Issuance]:
    return [entry for entry in known.resource.status.issuances if entry.request_hash is None]


def _issuance_window(known: Known) -> timedelta:
    """Returns a week, or the lifetime of the newest certificate if that is shorter, but at least an hour."""
    status = known.resource.status
    if status.created_at is None or status.expires_at is None or status.expires_at <= status.created_at:
        return ISSUANCE_WINDOW
    return max(min(ISSUANCE_WINDOW, status.expires_at - status.created_at), SHORTEST_ISSUANCE_WINDOW)


def finalizer_is_there(known: Known, need: Need) -> Decision | None:
    """Before an attempt is recorded, the finalizer is on the resource."""
    return Decision(AddFinalizer()) if not known.resource.has_finalizer else None


def attempt_is_made(known: Known, need: Need) -> Decision:
    """One attempt: recorded, then sent."""
    resource, status = known.resource, known.resource.status
    listing = known.listing if is_fresh(known, known.listing) else None  # an older one proves nothing
    source, cns = _source(known), _requested_names(known)
    existing = unclaimed(known, listing, cns) if listing is not None else ()
    failures, reason = _failures_in_a_row(known)
    attempt = Attempt(
        id=known.new_attempt_id,
        start=whole_seconds(known.at_least or known.now),
        server_start=whole_seconds(known.server_time) if known.server_time is not None else None,
        generation=resource.generation,
        cns=tuple(sorted(cns)),
        reason=str(need.reason),
        team=known.scope.team,
        known=_known_ids(known, listing, source) if listing is not None else None,
        listed=whole_seconds(known.wall(listing.begun)) if listing is not None else None,
        renew_request=resource.renew_request,
        requested=renew_is_new(known),
        # Only of a token that Vercel accepts, as a list shows. Else the value may be a password, and those who read
        # status could test guesses of it.
        token_hash=known.token_hash if listing is not None else None,
        fingerprint=source.fingerprint if source is not None else None,
        expires_at=source.expires_at if source is not None else None,
        chain_hash=(source.chain_hash or None) if source is not None else None,
        previous_failures=failures,
        previous_reason=reason,
    )
    alive = any(one.expires_at is None or one.expires_at > known.now for one in existing)
    after = status.changed(attempt=attempt, shared_names=status.shared_names or alive, next_attempt_time=None)
    return Decision(Issue(attempt), conditions(resource, after, now=known.now, need=need))


def _source(known: Known) -> Source | None:
    """Returns what is uploaded; None: a certificate is issued."""
    return known.source if known.resource.spec.uploads and isinstance(known.source, Source) else None


def _requested_names(known: Known) -> frozenset[str]:
    source = _source(known)
    return source.cns if source is not None else known.resource.cns


def _known_ids(known: Known, listing: Listing, source: Source | None) -> tuple[str, ...]:
    """Returns the ids of existing certificates that could be mistaken for the answer to an attempt.

    Old ones too: Vercel may renew one under the same id meanwhile. And those with more names: Vercel adds some itself.
    """
    if source is not None:
        alike = (
            certificate.id
            for certificate in listing.exactly(source.cns)
            if certificate.expires_at is None or abs(certificate.expires_at - source.expires_at) <= CLOCK_TOLERANCE
        )
    else:
        alike = (
            certificate.id
            for certificate in sorted(listing.covering(known.resource.cns), key=youth, reverse=True)
            if certificate.id not in known.resource.status.certificate_ids
        )
    return tuple(islice(alike, MOST_KNOWN))


def _failures_in_a_row(known: Known) -> tuple[int, str | None]:
    """Returns how many attempts for these names have failed in a row, and why. One that was never sent is none."""
    status, before = known.resource.status, known.resource.status.closed_attempt
    if before is None or not is_for_the_same(known, before) or not status.failed_attempts:
        return 0, None
    return status.failed_attempts, before.previous_reason if before.outcome == Outcome.VOID else before.outcome_reason


GATES: tuple[Callable[[Known, Need], Decision | None], ...] = (
    names_have_one_owner,  # before reuse: only the owner uses a certificate
    existing_certificate_is_used,  # before the back-off: a certificate made by hand ends it
    missing_records_are_reported,  # before the back-off, during which they are reported
    back_off_is_waited_for,  # before calls that cost something
    attempts_for_the_same_names_take_turns,  # before the list: it must show what the other one got
    requests_of_gone_resources_are_waited_for,
    clocks_agree,  # before the GET of what only seems to be due
    current_certificate_is_checked,  # before the list: most renewals by Vercel end here
    list_is_fresh,  # after it, the gates above see the list
    holders_are_in_other_scopes,  # after the list, which often knows
    superseded_leave_room,
    issuances_are_limited,  # before the old certificate goes
    old_certificate_makes_way,
    finalizer_is_there,  # last, so that only a resource that issues gets one
    attempt_is_made,
)
