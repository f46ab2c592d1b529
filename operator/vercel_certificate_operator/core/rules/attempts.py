"""What came of an attempt: recorded before anything else, and searched for when no answer came."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.core.facts import (
    NEVER,
    earlier_clock,
    earliest,
    is_unreadable,
    kept,
    kept_waiting,
    later_clock,
    list_is_unavailable,
    next_moment,
    open_attempt,
    open_reply,
    renew_is_new,
    youth,
)
from vercel_certificate_operator.core.failures import (
    LOST,
    NOT_RENEWED,
    OUTCOME_UNKNOWN,
    UNEXPECTED,
    Failure,
    Fate,
    back_off,
    explain,
    issued_nothing,
    meaning,
    of_call,
    wait_after,
)
from vercel_certificate_operator.core.known import (
    Decision,
    FailedCall,
    Get,
    Known,
    List,
    Listing,
    Note,
    Period,
    Reply,
    Tick,
    Wait,
    Write,
)
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import (
    MOST_ISSUANCES,
    Attempt,
    Issuance,
    Origin,
    Outcome,
    Superseded,
    is_same_token,
    names_hash,
    request_hash,
)
from vercel_certificate_operator.core.report import Need, Problem, conditions, failing, held, succeeded
from vercel_certificate_operator.core.resource import ADOPT_ANNOTATION, RENEW_ANNOTATION, Status
from vercel_certificate_operator.core.rules.adoption import named_certificate_is_adopted
from vercel_certificate_operator.core.schema import whole_seconds
from vercel_certificate_operator.core.times import (
    BACK_DATED,
    CLOCK_TOLERANCE,
    FIRST_LIST_AFTER,
    LATE_DATE,
    LATE_IN_LIST,
    LEAST_LIST_AGE,
    LIST_LAG,
    MOST_KNOWN,
    SENT_WITHIN,
    UNREADABLE_LIMIT,
    USUAL_BACK_DATING,
)

WHY: Mapping[str, str] = {
    Reason.NAMES_CHANGED: ", because spec.cns changed",
    Reason.CERTIFICATE_GONE: ", because the previous one was gone at Vercel",
    Reason.RENEW_REQUESTED: ", as the renew annotation requested",
    Reason.EXPIRED: ", because the previous one had expired",
}
"""What the Event of an issuance says about its cause, if that isn't obvious."""
MOST_BLAMED = 20
"""Names that a refusal blames and that are recorded."""
UNLISTED = (
    "The operator requests no other one until it can list the certificates. If you know that Vercel issued none, set "
    f"the annotation {RENEW_ANNOTATION} to a new value. If you know that it issued one, set {ADOPT_ANNOTATION} to its "
    "id."
)
UNLISTED_REFUSED = (
    "Vercel answered the request with an error. No action is needed: if the list can't be read for some minutes, the "
    "operator requests the certificate again."
)
GO_ANYWAY = (
    "To delete the resource without waiting, set spec.deletionPolicy to Retain; its certificates then stay at Vercel."
)


# --- a reply --------------------------------------------------------------------------------------------------------


def void_attempt_is_recorded(known: Known) -> Decision | None:
    """An attempt that this process never sent needs no search and no grace period."""
    attempt = known.resource.status.open_attempt
    if attempt is None or attempt.id not in known.void_attempts or attempt.id == known.unstored_outcome:
        return None
    return Decision(Write(closes=True), known.resource.status.changed(attempt=attempt.closed(Outcome.VOID)))


def outcome_is_recorded(known: Known) -> Decision | None:
    """What this process learned from Vercel goes into status before anything else is done."""
    reply = open_reply(known)
    if reply is None:
        return None
    if reply.certificate is not None:
        answer = _in_full(known, reply, reply.certificate)
        if isinstance(answer, Decision):
            return answer
        origin = origin_of_answer(reply.attempt, answer, known.held_elsewhere, listed=reply.listed, period=reply.period)
        # Vercel has accepted the token now: see ``attempt_is_made``.
        attempt = reply.attempt.changed(token_hash=reply.token_hash or reply.attempt.token_hash)
        return certificate_is_recorded(known, attempt, answer, origin)
    if reply.failure is not None and issued_nothing(reply.failure):
        return _refusal(known, reply.attempt, reply.failure)
    return None


def _in_full(known: Known, reply: Reply, answer: Certificate) -> Certificate | Decision:
    """Returns an answer with what it lacks, from a GET or else from a list. A Decision: ask, or wait, first.

    A field that an answer lacks is unknown, not wrong. Vercel may show a new certificate late, so it is asked again and
    again until the grace period is over. Then the names and the expiry stay unknown. For the time of creation alone, it
    is asked once.
    """
    if answer.is_complete:
        return answer
    scope, got = reply.attempt.scope, known.got.get(answer.id)
    if got is None and not known.blocked("get", answer.id):
        return Decision(Get(answer.id, scope))
    answer = answer.completed_by(got.certificate if got is not None else None)
    if answer.is_complete or known.ending:
        return answer
    listing = known.listing if known.listing is not None and known.listing.begun >= reply.at else None
    if listing is None and not known.blocked("list"):
        return Decision(List(max(reply.at, known.tick - FIRST_LIST_AFTER), scope))
    answer = answer.completed_by(listing.find(answer.id) if listing is not None else None)
    grace_end = reply.at + known.limits.grace
    if answer.is_described or known.tick >= grace_end:
        return answer
    next_try = min(known.tick + max(FIRST_LIST_AFTER, known.tick - reply.at), grace_end)
    again = earliest(known.free_at("get", answer.id), known.free_at("list"), known.wall(next_try))
    until = kept(known, known.wall(grace_end))
    said = (
        f"Vercel answered the request for {words.names(reply.attempt.names)} with certificate {answer.id}, but didn't "
        "say which names it has or when it expires. No action is needed: the operator asks again until "
        f"{words.time(until)}."
    )
    return _not_known_yet(known, said, event=said, until=until, again=again)


def _not_known_yet(known: Known, message: str, *, event: str, until: datetime, again: datetime | None) -> Decision:
    """Reports what isn't known about the outcome, and waits.

    Args:
        event: the note of the Event, which is published once.
        until: when it is known at the latest.
        again: when Vercel is asked again.
    """
    resource, before = known.resource, known.resource.status.condition("Issuing")
    reported_already = before is not None and before.reason == Reason.OUTCOME_UNKNOWN
    status = resource.status.changed(next_attempt_time=until)
    status = conditions(resource, status, now=known.now, need=Need(Reason.OUTCOME_UNKNOWN, message))
    note = None if reported_already else Note("Warning", Reason.OUTCOME_UNKNOWN, "Issue", event)
    return Decision(Wait(earliest(again, next_moment(known, status))), status, note)


def origin_of_answer(
    attempt: Attempt,
    certificate: Certificate,
    held_elsewhere: Container[str],
    *,
    listed: bool = False,
    period: Period | None = None,
) -> Origin:
    """Returns Issued if the answer to an attempt can't have existed before it; otherwise Found.

    Args:
        held_elsewhere: ids of certificates in other resources' statuses.
        listed: whether the list from which the attempt was made has it.
        period: when the request was begun and over, as its answer says.
    """
    if certificate.cns and attempt.names.isdisjoint(certificate.cns):
        return Origin.FOUND  # nobody requested that: the answer may have been for someone else
    if listed or certificate.id in held_elsewhere or certificate.id in (attempt.known or ()):
        return Origin.FOUND
    # Vercel may answer with what its list doesn't show yet. Without a young list, the clocks say what existed before.
    late = _begun_later(attempt, period)
    is_proven = (
        attempt.known is not None
        and not late
        and (not _list_is_old(attempt) or _is_of_the_request(attempt, certificate, period))
    )
    if not is_proven and period is not None and _was_created_after(certificate, period[1]):
        return Origin.FOUND  # the clock that says when the request was over is behind, so nothing is proven
    clocks = (attempt,) if is_proven else attempt.by_each_clock
    existed = any(_may_have_existed(dated, certificate, LATE_IN_LIST) for dated in (*clocks, *late))
    return Origin.FOUND if existed else Origin.ISSUED


def _begun_later(attempt: Attempt, period: Period | None) -> tuple[Attempt, ...]:
    """Returns the attempt with the time at which its request began, if it was sent too late. Otherwise nothing.

    Then the machine and its monotonic clock stood still, or Vercel's clock seemed to be behind when the attempt was
    recorded. The list is older than it seems, and others had time to issue something.
    """
    if period is None or period[0] - attempt.start <= SENT_WITHIN + CLOCK_TOLERANCE:
        return ()
    return (attempt.changed(start=period[0] - CLOCK_TOLERANCE, server_start=None),)


def _is_of_the_request(attempt: Attempt, certificate: Certificate, period: Period | None) -> bool:
    """Returns whether a certificate was created while its request was in flight, by Vercel's clock.

    Then it doesn't matter that the API server's clock is ahead.
    """
    created = certificate.created_at
    return (
        period is not None
        and created is not None
        and any(attempt.start <= time <= period[1] + CLOCK_TOLERANCE for time in (created, created + USUAL_BACK_DATING))
    )


def _was_created_after(certificate: Certificate, time: datetime) -> bool:
    return certificate.created_at is not None and certificate.created_at > time + CLOCK_TOLERANCE


def _may_have_existed(attempt: Attempt, certificate: Certificate, lag: timedelta = LIST_LAG) -> bool:
    """Returns whether a certificate may be older than the attempt, although the attempt's list doesn't have it.

    Issuers set the time of creation back by an hour or not at all. So somebody else's certificate was created then, or
    an hour later: after the list, or so shortly before it that the list lacks it.

    Args:
        lag: how long before the list that may be.
    """
    created = certificate.created_at
    if attempt.known is None:
        return attempt.fingerprint is not None or created is None or created < attempt.start - CLOCK_TOLERANCE
    if attempt.fingerprint is not None:
        return False  # an upload is as old as the user's certificate: only the list says what existed before
    if created is None:
        return True  # the list may have lacked it
    if created < attempt.start - BACK_DATED:
        return True
    listed = attempt.listed
    if listed is None:
        return False
    since, until = listed - lag, attempt.start - CLOCK_TOLERANCE
    if _list_is_old(attempt):
        since, until = listed - LATE_IN_LIST, attempt.start  # others had time: what may be theirs counts as theirs
    return any(since <= time < until for time in (created, created + USUAL_BACK_DATING))


def _list_is_old(attempt: Attempt) -> bool:
    """Returns whether others had time to issue something between an attempt's list and the attempt."""
    listed = attempt.listed
    return listed is not None and attempt.start - listed > timedelta(seconds=LEAST_LIST_AGE) + CLOCK_TOLERANCE


def certificate_is_recorded(
    known: Known,
    attempt: Attempt,
    certificate: Certificate,
    origin: Origin,
    *,
    searched: bool = False,
    others: tuple[Certificate, ...] = (),
) -> Decision:
    """Records a certificate as the outcome of an attempt. The best one that is available becomes the current one.

    Args:
        searched: whether it was found by a search, since no answer came.
        others: further candidates. Nobody can tell which of them the operator requested.
    """
    before = known.resource.status
    renewed_nothing = _renewed_nothing(before, certificate, attempt, origin)
    after = _with_answer(known, before, attempt, certificate, origin)
    if others or (origin is Origin.FOUND and certificate.id not in before.certificate_ids):
        after = after.changed(shared_names=True)
    needed = _needed(known, attempt)
    same = renewed_nothing and certificate.id == before.id and certificate.covers(needed)
    if not same and not _is_usable(certificate, needed, earlier_clock(known)):
        return _unexpected(known, attempt, after, certificate)
    if renewed_nothing:
        return _not_renewed(known, attempt, after, certificate)
    after = succeeded(_counted(known, after, attempt))
    after = after.changed(attempt=attempt.closed(Outcome.ISSUED))
    after = _answered(conditions(known.resource, after, now=known.now), before, attempt)
    renewed = before.id is not None and attempt.reason != Reason.NAMES_CHANGED
    reason, action = (Reason.RENEWED, "Renew") if renewed else (Reason.ISSUED, "Issue")
    expires = f"; expires {words.time(certificate.expires_at)}" if certificate.expires_at else ""
    done = "Issued" if attempt.fingerprint is None else "Uploaded"
    text = f"{done} certificate {certificate.id} for {words.names(certificate.cns)}{expires}"
    text += f"{WHY.get(attempt.reason, '')}."
    if searched:
        text += " The answer to the request was lost; the operator found the certificate in Vercel's list."
    if origin is Origin.FOUND and certificate.id not in before.certificate_ids:
        text += " It may have existed before, so the operator will not remove it."
    if others:
        left = words.ids([other.id for other in others])
        text += (
            " No resource uses these certificates, which have the same names and may also be what was requested: "
            f"{left}. Remove them at Vercel if you don't need them."
        )
    text += "".join(f" {oddity}" for oddity in certificate.oddities)
    return Decision(Write(closes=True), after, Note("Warning" if others else "Normal", reason, action, text))


def _with_answer(known: Known, before: Status, attempt: Attempt, certificate: Certificate, origin: Origin) -> Status:
    """Returns status with the best certificate of the current one and the answer."""
    if certificate.id == before.id:
        kept_origin = before.origin or str(Origin.FOUND)
        return _held(known, before, attempt, certificate, kept_origin)
    own = next((entry for entry in before.superseded if entry.id == certificate.id), None)
    how = (own.origin or str(Origin.FOUND)) if own is not None else str(origin)
    uploaded = attempt.fingerprint is not None and _is_usable(certificate, _needed(known, attempt), known.now)
    if before.id is None or uploaded or _rank(known, certificate) > _current_rank(known, before):
        return _held(known, before, attempt, certificate, how)
    if own is not None or origin is not Origin.ISSUED:
        return before  # it is at Vercel, and stays there
    entry = Superseded(
        id=certificate.id,
        origin=how,
        team=attempt.team,
        fingerprint=attempt.fingerprint,
        since=whole_seconds(known.now),
    )
    return before.changed(superseded=(*before.superseded, entry))


def _held(known: Known, before: Status, attempt: Attempt, certificate: Certificate, origin: str) -> Status:
    after = held(
        known.resource,
        before,
        certificate,
        scope=attempt.scope,
        origin=origin,
        now=known.now,
        requested=_needed(known, attempt),
        token_hash=attempt.token_hash or known.token_hash,  # with this one, the list has it
    )
    return after.changed(fingerprint=attempt.fingerprint)


def _needed(known: Known, attempt: Attempt) -> frozenset[str]:
    """Returns the names that an answer must cover. An uploaded certificate may have more than are wanted."""
    return attempt.names if attempt.fingerprint is None else attempt.names & known.resource.cns


Rank = tuple[bool, bool, float]
"""Which certificate is better: first one that covers spec.cns, then one that has not expired, then the youngest."""


def _rank(known: Known, certificate: Certificate) -> Rank:
    alive = certificate.expires_at is not None and certificate.expires_at > known.now
    created = certificate.created_at or known.now
    return (known.resource.cns <= certificate.cns, alive, created.timestamp())


def _current_rank(known: Known, status: Status) -> Rank:
    alive = status.expires_at is not None and status.expires_at > known.now
    created = status.created_at.timestamp() if status.created_at is not None else NEVER
    return (known.resource.cns <= status.names, alive, created)


def _is_usable(certificate: Certificate, cns: frozenset[str], now: datetime) -> bool:
    return certificate.covers(cns) and certificate.expires_at is not None and certificate.expires_at > now


def _renewed_nothing(before: Status, certificate: Certificate, attempt: Attempt, origin: Origin) -> bool:
    """Returns whether the answer is neither younger than the current certificate nor expires later.

    One that did not exist before the attempt may be as young, since status has whole seconds.
    """
    if before.id is None or attempt.fingerprint is not None or not attempt.names <= before.names:
        return False  # new names: any certificate that has them is progress
    if _later(certificate.expires_at, before.expires_at):
        return False
    return certificate.id == before.id or not _younger(certificate, before, or_as_young=origin is Origin.ISSUED)


def _younger(certificate: Certificate, status: Status, *, or_as_young: bool) -> bool:
    if certificate.created_at is None or status.created_at is None:
        return certificate.created_at is not None
    created = whole_seconds(certificate.created_at)
    return created > status.created_at or (or_as_young and created == status.created_at)


def _unexpected(known: Known, attempt: Attempt, after: Status, certificate: Certificate) -> Decision:
    """An answer that can't be used for what was requested. It is recorded, and tried again daily."""
    needed = _needed(known, attempt)
    if not certificate.covers(needed):
        has, wanted = words.names(certificate.cns), words.names(needed)
        wrong = f"certificate {certificate.id} for {has}, which does not cover {wanted}"
    elif certificate.expires_at is None:
        wrong = f"certificate {certificate.id} without an expiry time"
    else:
        wrong = f"certificate {certificate.id}, which expired at {words.time(certificate.expires_at)}"
    advice = of_call(UNEXPECTED, attempt.call).advice
    problem = Problem(Reason.UNEXPECTED_ANSWER, f"Vercel answered with {wrong}. {advice}")
    return _failed(known, attempt, after, problem, Outcome.UNEXPECTED, counts=True)


def _not_renewed(known: Known, attempt: Attempt, after: Status, certificate: Certificate) -> Decision:
    problem = Problem(
        Reason.NOT_RENEWED,
        f"Vercel answered a renewal for {words.names(attempt.names)} with certificate {certificate.id}, which is "
        f"neither younger than the current one nor expires later. {NOT_RENEWED.advice}",
    )
    return _failed(known, attempt, after, problem, Outcome.NOT_RENEWED, expires_at=after.expires_at)


def _failed(
    known: Known,
    attempt: Attempt,
    after: Status,
    problem: Problem,
    outcome: Outcome,
    *,
    counts: bool = False,
    expires_at: datetime | None = None,
) -> Decision:
    """Records a certificate that isn't what was needed, with the wait before the next attempt.

    Args:
        expires_at: after it, Vercel may give another answer.
    """
    row = NOT_RENEWED if outcome is Outcome.NOT_RENEWED else UNEXPECTED
    failures = attempt.failures(problem.reason)
    until = known.now + back_off(row, failures, attempt.id)
    if expires_at is not None:
        # At that very second, Vercel may still have the old certificate: by its own clock, or by a fraction of it.
        until = min([until, *(time for time in (expires_at, expires_at + LATE_DATE) if time > known.now)])
    before = known.resource.status
    after = _counted(known, after, attempt) if counts else after
    after = failing(after, now=known.now, failures=failures, until=until)
    after = after.changed(attempt=attempt.closed(outcome, reason=problem.reason, retry_time=until))
    after = conditions(known.resource, after, now=known.now, problem=problem)
    note = Note("Warning", problem.reason, "Issue", problem.message)
    return Decision(Write(closes=True), _answered(after, before, attempt), note)


def _answered(after: Status, before: Status, attempt: Attempt) -> Status:
    """Returns status with the user's request for a renewal as acted on."""
    answered = attempt.renew_request if attempt.renew_request is not None else before.last_renew_request
    return after.changed(last_renew_request=answered)


def _counted(known: Known, after: Status, attempt: Attempt) -> Status:
    """Returns status in which this attempt counts for the issuance limit, unless the user requested it."""
    requested = request_hash(attempt.renew_request or "") if attempt.requested else None
    new = Issuance(time=whole_seconds(later_clock(known)), names_hash=names_hash(attempt.cns), request_hash=requested)
    all_of_them = (*after.issuances, new)
    most = min(known.limits.issuances, MOST_ISSUANCES)
    by_request = [entry for entry in all_of_them if entry.request_hash is not None]
    others = [entry for entry in all_of_them if entry.request_hash is None]
    return after.changed(issuances=(*by_request[-most:], *others[-most:]))


def _refusal(known: Known, attempt: Attempt, failure: Failure) -> Decision:
    row = meaning(failure, attempt.call)
    failures = attempt.failures(row.reason)
    until = known.now + wait_after(row, failure, failures, attempt.id)
    did = "issue a" if attempt.call == "issue" else "accept the uploaded"
    what = f"Vercel did not {did} certificate for {words.names(attempt.names)}"
    problem = Problem(row.reason, explain(what, failure, row, known.token))
    after = failing(known.resource.status, now=known.now, failures=failures, until=until)
    closed = attempt.closed(Outcome.REFUSED, reason=row.reason, retry_time=until)
    closed = closed.changed(blamed_cns=failure.cns[:MOST_BLAMED])
    after = after.changed(attempt=closed, domains=())
    after = conditions(known.resource, after, now=known.now, problem=problem)
    return Decision(Write(closes=True), after, Note("Warning", row.reason, "Issue", problem.message))


def fenced_off_certificate_is_reported(known: Known) -> Decision | None:
    """Another attempt has replaced ours in status. What ours brought is reported and left to the user."""
    reply, attempt = known.reply, known.resource.status.attempt
    if reply is None or attempt is None or attempt.id == reply.attempt.id:
        return None
    certificate = reply.certificate
    if certificate is None or certificate.id in known.resource.status.certificate_ids:
        return Decision(Write())
    if certificate.id in known.held_elsewhere:
        return Decision(Write())
    return Decision(Write(), None, orphan_note(certificate))


def orphan_note(certificate: Certificate) -> Note:
    """Returns the Event for a certificate with a resource's names that no status holds."""
    return Note(
        "Warning",
        Reason.ORPHANED,
        "List",
        f"Certificate {certificate.id} for {words.names(certificate.cns)} exists at Vercel and no resource uses it. "
        "Remove it at Vercel if you don't need it.",
    )


# --- no reply -------------------------------------------------------------------------------------------------------


def attempt_in_flight_is_waited_for(known: Known) -> Decision | None:
    """While this process waits for Vercel's answer, nothing else happens to the resource."""
    return kept_waiting(known, None) if known.in_flight else None


def open_attempt_is_searched_for(known: Known) -> Decision | None:
    """An attempt without an answer is searched for in complete lists: never a blind second POST."""
    attempt = open_attempt(known)
    if attempt is None:
        return None
    since, grace_end = _search_period(known)
    searching = _search(known, attempt, since, grace_end)
    if isinstance(searching, Decision):
        return searching
    found = _candidates(known, attempt)
    for candidate in found:
        got = known.got.get(candidate.id)
        if got is None and not known.blocked("get", candidate.id):
            return Decision(Get(candidate.id, attempt.scope))  # a list is a hint
    unread = [other.id for other in found if other.id not in known.got]
    waiting = [unread_id for unread_id in unread if not is_unreadable(known, unread_id)]
    there = [got.certificate for other in found if (got := known.got.get(other.id)) and got.certificate is not None]
    if there and not waiting:
        youngest = max(there, key=youth)
        is_ours = len(found) == 1 and _must_be_what_was_requested(known, attempt, youngest)
        origin = Origin.ISSUED if is_ours else Origin.FOUND
        others = tuple(other for other in there if other.id != youngest.id)
        return certificate_is_recorded(known, attempt, youngest, origin, searched=True, others=others)
    if searching is None and not waiting:
        return _lost(known, attempt, unread)
    again = [_get_again_at(known, other) for other in waiting] + ([searching] if searching is not None else [])
    return _still_unknown(known, attempt, min(again), grace_end, waiting)


def _must_be_what_was_requested(known: Known, attempt: Attempt, certificate: Certificate) -> bool:
    """Returns whether nobody else can have made the only candidate.

    A list showed what existed before, in the same account. Nobody else has these names, so it is no renewal of theirs.
    It was created during the request, whichever clock was right then. An attempt of the future has a wrong time.
    """
    if attempt.known is None or certificate.cns != attempt.names or known.resource.status.shared_names:
        return False
    if attempt.team is None and attempt.token_hash and not is_same_token(attempt.token_hash, known.token_hash):
        return False
    if attempt.start > known.now + CLOCK_TOLERANCE or _may_be_uploaded(attempt, certificate):
        return False
    # By what is known of Vercel's time by now: the answer, which would have said it, was lost.
    reply = open_reply(known)
    over = known.wall(reply.at) if reply is not None else known.now
    period = reply.period_until(over) if reply is not None else None
    if _was_created_after(certificate, min(over, known.now)):
        return False
    return not any(
        _is_too_late(known, dated, certificate) or _may_have_existed(dated, certificate)
        for dated in (*attempt.by_each_clock, *_begun_later(attempt, period))
    )


def _is_too_late(known: Known, attempt: Attempt, certificate: Certificate) -> bool:
    """Returns whether a certificate may have been created when the request was over, by now.

    The issuer may have set the time of creation back by an hour.
    """
    if attempt.fingerprint is not None or certificate.created_at is None:
        return False
    latest = attempt.start + timedelta(seconds=known.limits.grace) + CLOCK_TOLERANCE
    return certificate.created_at > latest or latest < certificate.created_at + USUAL_BACK_DATING <= known.now


def _may_be_uploaded(attempt: Attempt, certificate: Certificate) -> bool:
    """Returns whether someone may have uploaded a candidate: Vercel renews by itself what it has issued."""
    return attempt.fingerprint is None and certificate.auto_renew is False


def _get_again_at(known: Known, certificate_id: str) -> Tick:
    failed, pause = known.failed.get(("get", certificate_id)), known.pauses.get("get")
    return max(failed.retry_at if failed else known.tick, pause.until if pause else known.tick)


def _search_period(known: Known) -> tuple[Tick, Tick]:
    """Returns since when a list may show the certificate, and when the grace period ends."""
    reply = open_reply(known)
    # If another process made the request, it may still be waiting for its answer.
    since = reply.at if reply else known.seen_at
    failure = reply.failure if reply else None
    if failure is not None and failure.fate is Fate.REFUSED:
        grace_end = since + known.limits.grace_after_error
    else:
        grace_end = since + max(known.limits.grace - (reply.took if reply else 0.0), 0.0)
    if failure is not None and failure.retry_after is not None:
        since += failure.retry_after.total_seconds()  # Vercel asks for no call before
    return since, max(grace_end, since)


def _search(known: Known, attempt: Attempt, since: Tick, grace_end: Tick) -> Decision | Tick | None:
    """Returns how far the search is.

    A Decision: list or wait first. A tick: judge the list at hand, and list again then. None: it was the last one.
    """
    listing = known.listing
    if known.tick < since:
        return _still_unknown(known, attempt, since, grace_end)
    if listing is None or listing.begun < since:
        unavailable = list_is_unavailable(known)
        if unavailable is not None:
            return _unlisted(known, attempt, unavailable, grace_end)
        return Decision(List(since, attempt.scope))
    if listing.begun >= grace_end:
        return None
    gap = max(listing.begun - since, FIRST_LIST_AFTER, 2 * listing.took)
    again = min(listing.begun + gap, max(grace_end, listing.begun + 2 * listing.took))
    return Decision(List(again, attempt.scope)) if known.tick >= again else again


def _unlisted(known: Known, attempt: Attempt, failed: FailedCall, grace_end: Tick) -> Decision:
    """No list says what came of an attempt.

    If Vercel itself answered with an error, and the list has failed for as long as an answer may take, the error
    counts. Otherwise only the user can know.
    """
    reply, resource = open_reply(known), known.resource
    answered = reply is not None and reply.failure is not None and reply.failure.fate is Fate.REFUSED
    settled = known.tick >= grace_end
    if settled and answered and known.tick - failed.since >= known.limits.grace:
        return _lost(known, attempt)
    if settled and renew_is_new(known):
        return _lost(known, attempt)
    if settled and (named := _named_instead(known, attempt)) is not None:
        return named
    what = f"It is not known whether Vercel issued a certificate for {words.names(attempt.names)}, since its list can't"
    row = meaning(failed.failure, "list")
    row = replace(row, advice=UNLISTED_REFUSED if answered else UNLISTED)
    message = explain(f"{what} be read", failed.failure, row, known.token)
    note = Note("Warning", Reason.OUTCOME_UNKNOWN, "List", message)
    again = known.wall(failed.retry_at)
    status = resource.status.changed(next_attempt_time=kept(known, again))
    said = f"{message} {GO_ANYWAY}" if resource.deleting else message
    said = f"{said} The operator lists them again at {words.time(kept(known, again))}."
    before = resource.status.condition("Issuing")
    reported_already = before is not None and before.message.startswith(message)
    status = conditions(resource, status, now=known.now, need=Need(Reason.OUTCOME_UNKNOWN, said))
    until = earliest(again, next_moment(known, status), None if settled else known.wall(grace_end))
    return Decision(Wait(until), status, None if reported_already else note)


def _named_instead(known: Known, attempt: Attempt) -> Decision | None:
    """The user knows what came of an attempt that nothing shows, and has named the certificate."""
    if known.resource.deleting:
        return None
    named = named_certificate_is_adopted(known)
    if named is None or named.status is None or named.note is None or named.note.reason != Reason.ADOPTED:
        return named  # a call, or a refusal
    before, after = known.resource.status, named.status
    if after.id == before.id and not _later(after.expires_at, before.expires_at):
        return named  # the certificate is the same as before: nothing came of the attempt that is known
    after = _answered(after.changed(attempt=attempt.closed(Outcome.ISSUED)), before, attempt)
    return replace(named, action=Write(closes=True), status=_counted(known, after, attempt))


def _later(after: datetime | None, before: datetime | None) -> bool:
    return after is not None and before is not None and whole_seconds(after) > before


def _candidates(known: Known, attempt: Attempt) -> tuple[Certificate, ...]:
    """Returns the listed certificates that can be what came of an attempt.

    If the attempt's list has all that existed before, what is not in it is new. So if nothing young enough is there, an
    older one is a candidate too: clocks may have been wrong.
    """
    listing, status = known.listing, known.resource.status
    if listing is None:
        return ()
    if attempt.fingerprint is not None:
        return _uploaded_candidates(known, attempt, listing)
    new = tuple(
        certificate
        for certificate in listing.covering(attempt.names)
        if certificate.id not in (attempt.known or ())
        and certificate.id not in status.certificate_ids
        and certificate.id not in known.held_elsewhere
        and known.left_behind.get(certificate.id, attempt.id) == attempt.id
        and not _is_not_there(known, certificate.id)
    )
    young = tuple(one for one in new if one.created_at is None or _is_young(known, attempt, one.created_at))
    exact = tuple(certificate for certificate in young if certificate.cns == attempt.names)
    if exact:
        return exact
    young = tuple(certificate for certificate in young if certificate.cns not in known.attempted_elsewhere)
    current = listing.find(status.id)
    if current is not None and attempt.names <= current.cns and _later(current.expires_at, status.expires_at):
        return (current,)  # renewed under the same id
    if len(young) == 1:
        return young
    if attempt.known is None or len(attempt.known) >= MOST_KNOWN:
        return ()  # there may have been others before
    return tuple(one for one in new if one.cns == attempt.names and _is_usable(one, one.cns, earlier_clock(known)))


def _is_young(known: Known, attempt: Attempt, created_at: datetime) -> bool:
    """Returns whether a certificate may have been created during an attempt.

    Without a list of what existed before, only by its time: of the attempt, or by an hour earlier if the issuer has set
    it back.
    """
    starts = [dated.start for dated in attempt.by_each_clock]
    if attempt.known is not None:
        return created_at >= min(starts) - BACK_DATED
    grace = timedelta(seconds=known.limits.grace)
    return created_at >= min(starts) - CLOCK_TOLERANCE or any(
        -CLOCK_TOLERANCE <= created_at + USUAL_BACK_DATING - start <= grace + CLOCK_TOLERANCE for start in starts
    )


def _uploaded_candidates(known: Known, attempt: Attempt, listing: Listing) -> tuple[Certificate, ...]:
    """Returns the listed certificates that can be what was uploaded: with the leaf's names and expiry."""
    return tuple(
        certificate
        for certificate in listing.exactly(attempt.names)
        if certificate.expires_at is not None
        and attempt.expires_at is not None
        and abs(certificate.expires_at - attempt.expires_at) <= CLOCK_TOLERANCE
        and certificate.id not in (attempt.known or ())
        and certificate.id not in known.resource.status.certificate_ids
        and certificate.id not in known.held_elsewhere
        and not _is_not_there(known, certificate.id)
    )


def _is_not_there(known: Known, certificate_id: str) -> bool:
    got = known.got.get(certificate_id)
    return got is not None and got.certificate is None


def _still_unknown(
    known: Known, attempt: Attempt, again: Tick, grace_end: Tick, unread: Sequence[str] = ()
) -> Decision:
    """Reports that the outcome isn't known yet, and waits for the next list.

    Args:
        unread: certificates in the list that a GET has not shown yet.
    """
    reply = open_reply(known)
    uploads, advice = attempt.call == "upload", of_call(OUTCOME_UNKNOWN, attempt.call).advice
    done = "received the uploaded" if uploads else "issued a"
    what = f"It is not known yet whether Vercel {done} certificate for {words.names(attempt.names)}"
    if reply and reply.failure:
        message = explain(what, reply.failure, replace(meaning(reply.failure), advice=advice), known.token)
    else:
        message = f"{what}: the request was interrupted. {advice}"
    given_up = [failed.since + UNREADABLE_LIMIT for one in unread if (failed := known.failed.get(("get", one)))]
    until = kept(known, known.wall(max(grace_end, again, *given_up)))
    said = " ".join([message, *_why_unread(known, unread)])
    if known.resource.deleting:
        said = f"{said} Deletion waits until {words.time(until)} in case Vercel {done} certificate. {GO_ANYWAY}"
    elif unread:
        said = f"{said} The operator requests no other one before {words.time(until)}."
    elif uploads:
        said = f"{said} If it does not appear by {words.time(until)}, the operator uploads it again."
    else:
        said = f"{said} If none appears by {words.time(until)}, the operator requests another one."
    return _not_known_yet(known, said, event=message, until=until, again=known.wall(again))


def _why_unread(known: Known, unread: Sequence[str]) -> Iterator[str]:
    """Yields for each certificate in the list why a GET has not shown it."""
    for certificate_id in unread:
        what = f"Vercel's list has certificate {certificate_id}, which may be what came of it, but it can't be read"
        failed, pause = known.failed.get(("get", certificate_id)), known.pauses.get("get")
        if failed is not None:
            yield explain(what, failed.failure, meaning(failed.failure, "get"), known.token)
        elif pause is not None:
            yield f"{what} yet. {pause.message}"


def _lost(known: Known, attempt: Attempt, unread: Sequence[str] = ()) -> Decision:
    """No certificate appeared. From the second loss in a row on, the next attempt waits.

    Args:
        unread: certificates in the list that could not be read for an hour, so they don't count.
    """
    failures = attempt.failures(LOST.reason)
    until = known.now + back_off(LOST, failures - 1, attempt.id) if failures > 1 else known.now
    appeared = f"No certificate for {words.names(attempt.names)} has appeared at Vercel"
    if unread:
        appeared = (
            f"Vercel's list has {words.ids(unread)}, which could not be read for an hour, and no other certificate for "
            f"{words.names(attempt.names)} has appeared"
        )
    problem = Problem(
        LOST.reason,
        f"{appeared} since the attempt at {words.time(attempt.start)}, whose answer was lost. "
        f"{of_call(LOST, attempt.call).advice}",
    )
    before = known.resource.status
    after = failing(_counted(known, before, attempt), now=known.now, failures=failures, until=until)
    after = after.changed(attempt=attempt.closed(Outcome.LOST, reason=LOST.reason, retry_time=until))
    after = conditions(known.resource, after, now=known.now, problem=problem)
    return Decision(Write(closes=True), after, Note("Warning", LOST.reason, "Issue", problem.message))
