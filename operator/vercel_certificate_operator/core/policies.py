"""The rules: what is to be done for one resource, next.

``decide`` asks the policies in their order; the first that has something to say decides. Each is a pure function of
what is known, reads like the rule it states, and is the only place where that rule stands. The reconciler carries
out what they say, adds what it learned, and asks again.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.attempt import Attempt
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.failures import (
    CREDENTIALS_INVALID,
    LOST,
    NOT_RENEWED,
    OUTCOME_UNKNOWN,
    Failure,
    Fate,
    back_off,
    explain,
    issued_nothing,
    meaning,
    meaning_of_a_repeatable_call,
    wait_after,
)
from vercel_certificate_operator.core.known import (
    Decision,
    Hold,
    Issue,
    Known,
    List,
    Listing,
    Look,
    Note,
    Release,
    Remove,
    Reply,
    Tick,
    Wait,
    Write,
)
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.renewal import superseded_rest
from vercel_certificate_operator.core.report import (
    Need,
    Problem,
    conditions,
    held,
    resolved,
    scheduled,
    succeeded,
    usable,
)
from vercel_certificate_operator.core.resource import ADOPT_ANNOTATION, LostAttempt, Status, whole_seconds

Policy = Callable[[Known], Decision | None]

FIRST_LISTING_AFTER = 5.0
"""Seconds between the first two listings that look for an attempt; the time between them doubles."""
CLOCK_TOLERANCE = timedelta(seconds=2)
"""How far Vercel's clock can be misjudged: its Date header has whole seconds, and an answer takes a while."""
KEPT_LOST_ATTEMPTS = 10
LATE_WINDOW = timedelta(hours=1)
"""How long after an attempt's start a certificate can have been made and still be taken for its late outcome."""
ODD_ANSWER_LOOK = timedelta(hours=1)
VANISHED_LOOK = timedelta(hours=1)
SHARED_LISTING = 60.0
"""Seconds that a listing may be old to do for drift: it need not be newer than anything in particular."""
TOKEN_LOOK = timedelta(minutes=1)
"""How often a token that was refused is read again."""
ORPHANED_TOKEN = timedelta(hours=1)
"""How long a deleted resource waits for a token that is gone."""
WHY: Mapping[str, str] = MappingProxyType(
    {
        Reason.NAMES_CHANGED: ", since spec.cns has changed",
        Reason.CERTIFICATE_GONE: ", since the one before was gone at Vercel",
        Reason.RENEW_REQUESTED: ", as the renew annotation asked",
        Reason.EXPIRED: ", since the one before had expired",
    }
)
"""What the event of an issuance says of its cause, where that is not plain."""
GO_ANYWAY = "To let the resource go without that, set spec.deletionPolicy to Retain."


def decide(known: Known) -> Decision:
    """The next right thing for one resource."""
    for policy in POLICIES:
        decision = policy(known)
        if decision is not None:
            return decision
    return settled(known)


# --- facts that several policies ask for ------------------------------------------------------------------------------


def open_attempt(known: Known) -> Attempt | None:
    """The attempt whose outcome no status records.

    It stands in the annotation; where somebody has removed that, this process may still know of it.
    """
    attempt = known.resource.attempt or (known.reply.attempt if known.reply else None)
    if attempt is None or attempt.id == known.resource.status.attempt or attempt.id in known.void_attempts:
        return None
    return attempt


def open_reply(known: Known) -> Reply | None:
    """What came of the open attempt, where this process has made it."""
    attempt = open_attempt(known)
    return known.reply if attempt is not None and known.reply and known.reply.attempt.id == attempt.id else None


def answered_attempt(known: Known) -> Attempt | None:
    """The newest attempt, where it is resolved."""
    attempt = known.resource.attempt
    return attempt if attempt is not None and attempt.id == known.resource.status.attempt else None


def recorded_scope(status: Status) -> Scope:
    """Where the certificate in status was issued."""
    if status.team is not None and not status.team.startswith("team_"):
        return Scope(team_slug=status.team)
    return Scope(team_id=status.team)


def adopted(known: Known, certificate_id: str | None) -> bool:
    """Whether a certificate is there by the user's word, not issued by us."""
    named = (known.resource.status.adopted_id, known.resource.adopt_id)
    return certificate_id is not None and certificate_id in named


def issued_since(
    known: Known, start: datetime, cns: frozenset[str], *, clock_offset: timedelta | None = None
) -> tuple[Certificate, ...]:
    """The certificates in the listing that can be what came of an attempt begun then for these names, the newest first.

    Args:
        start: by the clock of whoever began it.
        clock_offset: Vercel's clock less that one, where it was known then.
    """
    if known.listing is None:
        return ()
    listing, offset = known.listing, known.listing.clock_offset
    begun = start + (clock_offset if clock_offset is not None else offset)  # by Vercel's clock
    if known.reply is not None and listing.at_vercel is not None:
        # Made by this process, which saw it when it was written ahead: no wall clock has a part in that.
        earliest = listing.at_vercel - timedelta(seconds=listing.begun - known.first_seen)
    elif clock_offset is None or begun > known.wall(known.first_seen) + offset + CLOCK_TOLERANCE:
        # By the clock of a machine that had not heard of Vercel's time yet, or after it was first seen: it can be
        # wrong. Rather too early, then, than too late.
        earliest = min(begun, known.resource.created_at + min(offset, timedelta()))
    else:
        earliest = begun
    return unclaimed(known, listing, cns, earliest - CLOCK_TOLERANCE)


def newest_unclaimed(known: Known, listing: Listing, cns: frozenset[str]) -> Certificate | None:
    """The newest certificate with exactly these names that no status knows, newer than the current one."""
    return next(iter(unclaimed(known, listing, cns, None)), None)


def unclaimed(
    known: Known, listing: Listing, cns: frozenset[str], earliest: datetime | None
) -> tuple[Certificate, ...]:
    """Certificates with exactly these names that no status knows, newer than the current one, the newest first."""
    status = known.resource.status
    if status.id is not None and status.created_at is not None:
        # A renewal is newer than what it renews; status holds whole seconds.
        earliest = max(earliest, status.created_at) if earliest is not None else status.created_at
    mine = {status.id, *status.superseded_ids}
    dated = [
        (certificate.created_at, certificate.id, certificate)
        for certificate in listing.certificates
        if certificate.created_at is not None
        and (earliest is None or certificate.created_at >= earliest)
        and certificate.cns == cns
        and certificate.id not in mine
        and certificate.id not in known.removed
        and certificate.id not in known.taken
    ]
    return tuple(entry[2] for entry in sorted(dated, key=lambda entry: entry[:2], reverse=True))


def waiting_until(known: Known) -> datetime | None:
    """The end of the back-off, if that is still to come. A change by the user ends it."""
    status, resource = known.resource.status, known.resource
    if status.next_attempt_time is None or known.now >= status.next_attempt_time:
        return None
    if status.observed_generation != resource.generation or known.token_changed:
        return None
    attempt = resource.attempt if resource.attempt and resource.attempt.id not in known.void_attempts else None
    answered = {status.last_renew_request, attempt.renew if attempt else None, None}
    return status.next_attempt_time if resource.renew_request in answered else None


def unchanged(known: Known) -> Status:
    """The same report, at this time: Ready may have turned False by time alone."""
    status = known.resource.status
    issuing = status.condition("Issuing")
    if issuing is None:
        return status
    need = Need(issuing.reason, issuing.message) if issuing.status == "True" else None
    stands = issuing.status == "False" and issuing.reason != Reason.ISSUED
    problem = Problem(issuing.reason, issuing.message) if stands else None
    # Of the generation that it was made for: nothing new has been decided.
    generation = status.observed_generation or known.resource.generation
    cns = known.resource.cns if generation == known.resource.generation else frozenset(status.cns)
    after = conditions(
        known.resource, status, now=known.now, cns=cns, generation=generation, need=need, problem=problem
    )
    return status if after.ready and not status.ready else after  # time alone makes nothing ready


def kept_waiting(known: Known, until: datetime) -> Decision:
    """Nothing to do until then; but what time alone changes meanwhile is shown."""
    status = unchanged(known)
    moment = _next_moment(known, status)
    return Decision(Wait(min(until, moment) if moment is not None else until), status)


def _told_once(before: Status, problem: Problem, action: str) -> Note | None:
    """An event for a problem that status does not show yet."""
    issuing = before.condition("Issuing")
    if issuing is not None and issuing.reason == problem.reason:
        return None
    return Note("Warning", problem.reason, action, problem.message)


# --- what came of an attempt is written down first of all -------------------------------------------------------------


def taken_into_status(
    known: Known, attempt: Attempt, certificate: Certificate, *, found: bool, others: bool = False
) -> Decision:
    """The certificate of an attempt, as its outcome.

    Args:
        others: whether it can be another one as well: Vercel may have renewed by itself meanwhile. Which is ours,
            nobody knows; what stands in no status then is reported as late.
    """
    resource, before = known.resource, known.resource.status
    # A listing was made where the certificate at hand lives.
    scope = recorded_scope(before) if found and before.id is not None else known.scope
    answered = attempt.renew if attempt.renew is not None else before.last_renew_request
    after = resolved(before, attempt).changed(last_renew_request=answered)
    after = held(resource, after, certificate, scope, asked_at=attempt.start)
    after = after.changed(superseded_ids=(*after.superseded_ids, *_forgotten(known, attempt, after)))
    if others:
        after = after.changed(lost_attempts=_with_lost(before, attempt))
    how = " It was found at Vercel: the record of its issuance had been lost." if found else ""
    odd = "".join(f" {oddity}" for oddity in certificate.oddities)

    problem: Problem | None = None
    if not certificate.covers(attempt.cns) or after.expires_at is None:
        problem = _unexpected(after, attempt.cns)
        after = succeeded(after).changed(next_attempt_time=whole_seconds(known.now + ODD_ANSWER_LOOK))
    elif _renewed_nothing(before, after, attempt):
        failures = before.failed_attempts + 1
        until = known.now + back_off(NOT_RENEWED, failures, attempt.id)
        if known.now < after.expires_at:
            until = min(until, after.expires_at)
        problem = Problem(
            Reason.NOT_RENEWED,
            f"Vercel answered with certificate {certificate.id}, which expires no later than the one before. "
            f"{NOT_RENEWED.advice}",
        )
        after = after.changed(
            failed_attempts=failures,
            last_failure_time=whole_seconds(known.now),
            next_attempt_time=whole_seconds(until),
        )
    else:
        after = succeeded(after)

    after = conditions(resource, after, now=known.now, cns=attempt.cns, generation=attempt.generation, problem=problem)
    if problem is not None:
        note = Note("Warning", problem.reason, "Issue", problem.message)
    else:
        until_text = f" until {words.time(after.expires_at)}" if after.expires_at else ""
        why = WHY.get(attempt.reason, "")
        text = f"Certificate {certificate.id} for {words.names(certificate.cns)} issued{until_text}{why}.{how}{odd}"
        renewed = before.id is not None and attempt.reason != Reason.NAMES_CHANGED
        reason, action = (Reason.RENEWED, "Renew") if renewed else (Reason.ISSUED, "Issue")
        note = Note("Normal", reason, action, text)
    return Decision(Write(outcome=True), after, note)


def _forgotten(known: Known, attempt: Attempt, status: Status) -> tuple[str, ...]:
    """What the attempt was to replace, and status (wiped, restored from a backup) does not know any more."""
    held_ids = {status.id, *status.superseded_ids}
    return tuple(
        certificate_id
        for certificate_id in attempt.replaces
        if certificate_id not in held_ids
        and (known.listing is None or known.listing.find(certificate_id) is not None)
        and certificate_id not in known.removed
        and certificate_id not in known.taken
    )


def _unexpected(status: Status, asked: frozenset[str]) -> Problem:
    if asked <= frozenset(status.cns):
        wrong = f"certificate {status.id} and does not say when it expires"
    else:
        wrong = (
            f"certificate {status.id} for {words.names(status.cns) or 'no names'}, "
            f"which does not cover {words.names(asked)}"
        )
    return Problem(Reason.UNEXPECTED_ANSWER, f"Vercel issued {wrong}. Nothing more is issued until spec changes.")


def _renewed_nothing(before: Status, after: Status, attempt: Attempt) -> bool:
    """Whether a POST has brought nothing newer than what was there."""
    if before.id is None or before.expires_at is None or after.expires_at is None:
        return before.id is not None and before.id == after.id
    if before.id != after.id and not attempt.cns <= frozenset(before.cns):
        return False  # new names: any certificate that has them is news
    if before.id != after.id and _younger(after, before):
        return False  # made just now, it is a renewal, though it may end earlier: lifetimes become shorter
    return after.expires_at <= before.expires_at


def _younger(one: Status, other: Status) -> bool:
    return one.created_at is not None and other.created_at is not None and one.created_at > other.created_at


def outcome_is_written_down_first(known: Known) -> Decision | None:
    """What this process learned from Vercel goes into status before anything else is done."""
    reply = open_reply(known)
    if reply is None:
        return None
    if reply.certificate is not None:
        return taken_into_status(known, reply.attempt, reply.certificate, found=False)
    if reply.failure is not None and issued_nothing(reply.failure):
        return _refusal(known, reply, reply.failure)
    return None


def _refusal(known: Known, reply: Reply, failure: Failure) -> Decision:
    attempt, status = reply.attempt, known.resource.status
    row = meaning(failure)
    before = status.condition("Issuing")
    # Issuing is True where the attempt has taken so long that it was shown.
    same = before is not None and (before.status == "True" or before.reason == row.reason)
    in_a_row = same and status.observed_generation == attempt.generation
    failures = status.failed_attempts + 1 if in_a_row else 1
    wait = wait_after(row, failure, failures, attempt.id)
    what = f"Issuing a certificate for {words.names(attempt.cns)} failed"
    problem = Problem(row.reason, explain(what, failure, row))
    after = resolved(status, attempt).changed(
        failed_attempts=failures,
        last_failure_time=whole_seconds(known.now),
        next_attempt_time=whole_seconds(known.now + wait),
    )
    after = conditions(
        known.resource, after, now=known.now, cns=attempt.cns, generation=attempt.generation, problem=problem
    )
    return Decision(Write(outcome=True), after, Note("Warning", Reason.FAILED, "Issue", problem.message))


def fenced_off_outcome_is_reported(known: Known) -> Decision | None:
    """Another attempt has taken the place of ours: what ours brought is told, and left to the user."""
    reply, attempt = known.reply, known.resource.attempt
    if reply is None or attempt is None or attempt.id == reply.attempt.id or reply.certificate is None:
        return None
    certificate, status = reply.certificate, known.resource.status
    if certificate.id in {status.id, *status.superseded_ids} or certificate.id in known.taken:
        return None
    return Decision(Write(), None, late_note(certificate))


def late_note(certificate: Certificate) -> Note:
    """A certificate that came after its attempt had been given up, or while another one was taken for its outcome."""
    return Note(
        "Warning",
        Reason.LATE_CERTIFICATE,
        "Issue",
        f"Vercel issued {certificate.id} for {words.names(certificate.cns)} in an attempt whose answer was lost. "
        "Nothing uses it: remove it at Vercel if it is not wanted.",
    )


def late_certificates(status: Status, listing: Listing, taken: Container[str]) -> tuple[Certificate, ...]:
    """Certificates that no status knows, with the names and the time of an attempt whose answer was lost."""
    known_ids = {status.id, *status.superseded_ids}
    return tuple(
        certificate
        for certificate in listing.certificates
        for lost in status.lost_attempts
        if lost.cns
        and certificate.cns == frozenset(lost.cns)
        and certificate.created_at is not None
        and lost.start - CLOCK_TOLERANCE <= certificate.created_at - listing.clock_offset <= lost.start + LATE_WINDOW
        and certificate.id not in known_ids
        and certificate.id not in taken
    )


def unresolved_attempt_is_resolved_by_listing(known: Known) -> Decision | None:
    """An attempt of unknown outcome is looked for in a complete listing: never a blind second POST."""
    attempt = open_attempt(known)
    if attempt is None:
        return None
    reply = open_reply(known)
    # Where this process did not make the request, whoever made it may still be waiting for its answer.
    since = reply.at if reply else known.first_seen
    if reply and reply.failure and reply.failure.fate is Fate.REFUSED:
        grace_end = since + known.limits.grace_after_error
    else:
        grace_end = since + max(known.limits.grace - (reply.took if reply else 0.0), 0.0)
    decision = _listed_for(known, since, grace_end)
    if isinstance(decision, Decision):
        return decision
    found = issued_since(known, attempt.start, attempt.cns, clock_offset=attempt.clock_offset)
    if found:
        return taken_into_status(known, attempt, found[0], found=True, others=len(found) > 1)
    if decision is None:
        return _lost(known, attempt)
    what = f"Whether Vercel issued a certificate for {words.names(attempt.cns)} is not known yet"
    if reply and reply.failure:
        row = meaning(reply.failure)
        row = row if row.reason == OUTCOME_UNKNOWN.reason else replace(row, advice=OUTCOME_UNKNOWN.advice)
        message = explain(what, reply.failure, row)
    else:
        message = f"{what}: the operator was interrupted while it asked. {OUTCOME_UNKNOWN.advice}"
    before = known.resource.status.condition("Issuing")
    told = before is not None and before.reason == Reason.OUTCOME_UNKNOWN
    until = _kept(known, grace_end)
    if known.resource.deleting:
        said = f"{message} Until {words.time(until)} it is looked for, to be removed. {GO_ANYWAY}"
    else:
        said = f"{message} If there is none by {words.time(until)}, it is asked for anew."
    status = known.resource.status.changed(next_attempt_time=until)
    status = conditions(known.resource, status, now=known.now, need=Need(Reason.OUTCOME_UNKNOWN, said))
    note = None if told else Note("Warning", Reason.FAILED, "Issue", message)
    return Decision(Wait(_cut(known, status, decision)), status, note)


def _listed_for(known: Known, since: Tick, grace_end: Tick) -> Decision | Tick | None:
    """How far the listings are that look for something since then, until the grace is over.

    A Decision: list first. A tick: the listing at hand is to be judged, and there is to be another one then. None: it
    is to be judged, and was the last.
    """
    listing = known.listing
    if listing is None or listing.begun < since:
        return Decision(List(since))
    if listing.begun >= grace_end:
        return None
    again = min(listing.begun + max(listing.begun - since, FIRST_LISTING_AFTER), grace_end)
    return Decision(List(again)) if known.tick >= again else again


def _kept(known: Known, tick: Tick) -> datetime:
    """A time to come for status; the one that stands there, if it is the same but for the clocks' difference."""
    moment, there = whole_seconds(known.wall(tick)), known.resource.status.next_attempt_time
    return there if there is not None and abs(there - moment) <= CLOCK_TOLERANCE else moment


def _cut(known: Known, status: Status, again: Tick) -> datetime:
    """When to look again: then, or earlier where time alone changes something before."""
    moment, until = _next_moment(known, status), known.wall(again)
    return min(until, moment) if moment is not None else until


def _with_lost(status: Status, attempt: Attempt) -> tuple[LostAttempt, ...]:
    this = LostAttempt(id=attempt.id, start=attempt.start, cns=tuple(sorted(attempt.cns)))
    return (*(other for other in status.lost_attempts if other.id != attempt.id), this)[-KEPT_LOST_ATTEMPTS:]


def _lost(known: Known, attempt: Attempt) -> Decision:
    status = known.resource.status
    lost = _with_lost(status, attempt)
    since = status.created_at
    in_a_row = sum(1 for other in lost if since is None or other.start > since)
    until = known.now + (back_off(LOST, in_a_row - 1, attempt.id) if in_a_row > 1 else timedelta())
    problem = Problem(
        LOST.reason,
        f"No certificate for {words.names(attempt.cns)} has turned up at Vercel since the attempt at "
        f"{words.time(attempt.start)}, whose answer was lost. {LOST.advice}",
    )
    after = resolved(status, attempt).changed(
        lost_attempts=lost,
        failed_attempts=status.failed_attempts + 1,
        last_failure_time=whole_seconds(known.now),
        next_attempt_time=whole_seconds(until),
    )
    after = conditions(
        known.resource, after, now=known.now, cns=attempt.cns, generation=attempt.generation, problem=problem
    )
    return Decision(Write(outcome=True), after, Note("Warning", LOST.reason, "Issue", problem.message))


def missing_record_is_listed_for_first(known: Known) -> Decision | None:
    """Our finalizer, but neither attempt nor id: somebody has replaced the object. A certificate may exist."""
    resource, status = known.resource, known.resource.status
    if not resource.ours or resource.attempt is not None or status.attempt is not None or status.id is not None:
        return None
    since = known.first_seen
    grace_end = since + known.limits.grace
    decision = _listed_for(known, since, grace_end)
    if isinstance(decision, Decision):
        return decision
    found = issued_since(known, resource.created_at, resource.cns)
    if found:
        stand_in = Attempt(
            id=f"found-{found[0].id}",
            uid=resource.key.uid,
            start=resource.created_at,
            generation=resource.generation,
            cns=resource.cns,
            renew=resource.renew_request,
        )
        return taken_into_status(known, stand_in, found[0], found=True, others=len(found) > 1)
    if decision is None:
        return None
    need = Need(
        Reason.OUTCOME_UNKNOWN,
        "The operator's record on this resource has been removed. For some minutes it looks whether a certificate was "
        "issued before it asks for one.",
    )
    status = status.changed(next_attempt_time=_kept(known, grace_end))
    return Decision(Wait(known.wall(decision)), conditions(resource, status, now=known.now, need=need))


# --- a call that failed -----------------------------------------------------------------------------------------------


def failed_call_is_reported_and_made_again(known: Known) -> Decision | None:
    """A look, a listing or a removal that failed, or a missing token: said in the conditions, and tried again."""
    failed = known.failed_call
    if failed is None:
        return None
    resource, status = known.resource, known.resource.status
    row = meaning(failed.failure) if failed.call == "issue" else meaning_of_a_repeatable_call(failed.failure)
    what = {
        "issue": f"A certificate for {words.names(resource.cns)} can't be issued",
        "get": f"Looking at certificate {failed.certificate_id} failed",
        "list": "Listing the certificates at Vercel failed",
        "remove": f"Removing certificate {failed.certificate_id} at Vercel failed",
    }[failed.call]
    message = explain(what, failed.failure, row)
    if resource.deleting:
        message = f"{message} {GO_ANYWAY}"
    note = Note(
        "Warning",
        Reason.DELETION_FAILED if resource.deleting else Reason.FAILED,
        {"issue": "Issue", "get": "Look", "list": "List", "remove": "Remove"}[failed.call],
        message,
    )
    if failed.call == "remove" and not resource.deleting:
        # What was replaced is still there for now: that changes nothing of what status says of its successor.
        return Decision(Write(), None, note)
    retry_at = known.retry_at if known.retry_at is not None else known.tick
    retry, waited_for = whole_seconds(known.wall(retry_at)), waiting_until(known)
    status = status.changed(
        last_failure_time=whole_seconds(known.now),
        next_attempt_time=retry if waited_for is None else max(retry, waited_for),
    )
    status = conditions(resource, status, now=known.now, problem=Problem(row.reason, message))
    return Decision(Wait(_cut(known, status, retry_at)), status, note)


def failed_call_is_waited_for(known: Known) -> Decision | None:
    """A call that has failed is not made again before its time, whatever else happens to the resource."""
    until = known.call_waits_until
    return kept_waiting(known, known.wall(until)) if until is not None else None


def paused_token_is_waited_for(known: Known) -> Decision | None:
    """While the token rests, nothing is asked. A resource without a usable certificate says so."""
    if known.pause is None:
        return None
    until = min(known.wall(known.pause.until), known.now + TOKEN_LOOK)
    if usable(known.resource.status, known.resource.cns, known.now) and not known.resource.deleting:
        return kept_waiting(known, until)
    message = known.pause.message
    problem = Problem(known.pause.reason, f"{message} {GO_ANYWAY}" if known.resource.deleting else message)
    status = known.resource.status.changed(next_attempt_time=_kept(known, known.pause.until))
    return Decision(Wait(until), conditions(known.resource, status, now=known.now, problem=problem))


# --- deletion ---------------------------------------------------------------------------------------------------------


def foreign_deletion_is_ignored(known: Known) -> Decision | None:
    """Being deleted, and without our finalizer: nothing is there that would have to be removed."""
    return Decision(Wait()) if known.resource.deleting and not known.resource.ours else None


def _certificates_at_vercel(known: Known) -> tuple[str, ...]:
    status, reply = known.resource.status, open_reply(known)
    ids = (status.id, *status.superseded_ids, reply.certificate.id if reply and reply.certificate else None)
    return tuple(dict.fromkeys(certificate_id for certificate_id in ids if certificate_id))


def _left_behind(known: Known) -> str:
    left = ", ".join(_certificates_at_vercel(known))
    text = f"Left at Vercel: {left}." if left else "There is no certificate at Vercel."
    reply = open_reply(known)
    if open_attempt(known) is not None and not (reply and reply.certificate):
        text += (
            f" An attempt to issue one for {words.names(known.resource.cns)} was under way: see whether it is wanted."
        )
    return text


def retained_is_let_go(known: Known) -> Decision | None:
    """Deleted with Retain, or while suspended: nothing is changed at Vercel, and an event names what stays."""
    resource = known.resource
    if not resource.deleting or not (resource.spec.suspend or resource.spec.deletion_policy == "Retain"):
        return None
    why = "spec.suspend is true" if resource.spec.suspend else "spec.deletionPolicy is Retain"
    return Decision(Release(), note=Note("Normal", Reason.RETAINED, "Delete", f"{_left_behind(known)} Why: {why}."))


def orphaned_is_let_go(known: Known) -> Decision | None:
    """Deleted, and its token has been gone for an hour: let go with a warning. No namespace hangs because of us."""
    resource, failed = known.resource, known.failed_call
    if resource.deleted_at is None or failed is None or failed.failure.fate is not Fate.NO_TOKEN:
        return None
    if known.now < resource.deleted_at + ORPHANED_TOKEN:
        return None
    text = f"{_left_behind(known)} Why: there has been no token to remove it with ({failed.failure.message})."
    return Decision(Release(), note=Note("Warning", Reason.DELETION_FAILED, "Delete", text))


def certificates_are_removed_then_let_go(known: Known) -> Decision | None:
    """Deleted: the certificate and the superseded ones are removed, then the finalizer."""
    resource, status = known.resource, known.resource.status
    if not resource.deleting:
        return None
    ids = [certificate_id for certificate_id in (status.id, *status.superseded_ids) if certificate_id]
    for certificate_id in ids:
        if certificate_id not in known.removed and certificate_id not in known.taken:
            return Decision(Remove(certificate_id))
    gone = ", ".join(certificate_id for certificate_id in ids if certificate_id in known.removed)
    text = f"Removed at Vercel: {gone}." if gone else "There was no certificate to remove at Vercel."
    return Decision(Release(), note=Note("Normal", Reason.DELETED, "Delete", text))


# --- what keeps still -------------------------------------------------------------------------------------------------


def suspended_changes_nothing(known: Known) -> Decision | None:
    """Suspended: watch and report, change nothing at Vercel."""
    if not known.resource.spec.suspend:
        return None
    status = known.resource.status.changed(next_attempt_time=None)
    problem = Problem(Reason.SUSPENDED, "spec.suspend is true: nothing is changed at Vercel.")
    return Decision(
        Wait(_next_moment(known, status)), conditions(known.resource, status, now=known.now, problem=problem)
    )


def answered_oddly(known: Known) -> bool:
    """Whether the last POST was for what spec says, and its answer can't be used."""
    status, attempt = known.resource.status, answered_attempt(known)
    if status.id is None or attempt is None or attempt.cns != known.resource.cns or status.failed_attempts:
        return False
    issuing = status.condition("Issuing")
    if issuing is not None and issuing.reason == Reason.NAMES_CHANGED:
        return False  # the answer was as asked for: the certificate has changed since
    return not attempt.cns <= frozenset(status.cns) or status.expires_at is None


def unexpected_answer_waits_for_the_user(known: Known) -> Decision | None:
    """A certificate that is not what was asked for: kept, looked at again, and nothing issued until spec changes."""
    resource, status = known.resource, known.resource.status
    if status.id is None or not answered_oddly(known) or renew_requested(known) is not None:
        return None
    problem = _unexpected(status, resource.cns)
    until = waiting_until(known)
    if until is not None:
        return Decision(Wait(until), conditions(resource, status, now=known.now, problem=problem))
    if known.looked is None or known.looked.certificate_id != status.id:
        return Decision(Look(status.id))
    if known.looked.certificate is None:
        return None if _gone(known) else _absence_to_be_confirmed(known)
    after = held(resource, status, known.looked.certificate, recorded_scope(status), asked_at=_created(known))
    if usable(after, resource.cns, known.now):
        return Decision(Write(), conditions(resource, succeeded(after), now=known.now))
    after = after.changed(next_attempt_time=whole_seconds(known.now + ODD_ANSWER_LOOK))
    problem = _unexpected(after, resource.cns)
    return Decision(Wait(known.now + ODD_ANSWER_LOOK), conditions(resource, after, now=known.now, problem=problem))


def _created(known: Known) -> datetime:
    return known.resource.status.created_at or known.resource.created_at


# --- adoption ---------------------------------------------------------------------------------------------------------


def adopted_when_named(known: Known) -> Decision | None:
    """The annotation names an existing certificate: it is taken if it covers spec.cns and nobody else has it."""
    resource, status, wanted = known.resource, known.resource.status, known.resource.adopt_id
    if wanted is None or wanted in (status.adopted_id, status.id):
        return None
    if not known.may_adopt:
        return _adoption_refused(
            known,
            f"this namespace uses the operator's default token, and is not listed for it. Set spec.tokenSecretRef, or "
            f"remove the annotation {ADOPT_ANNOTATION}",
        )
    if wanted in known.taken:
        return _adoption_refused(known, f"another resource manages certificate {wanted}")
    if known.named is None or known.named.certificate_id != wanted:
        return Decision(Look(wanted))
    certificate = known.named.certificate
    if certificate is None:
        return _adoption_refused(known, f"there is no certificate {wanted} in {known.scope}")
    if not certificate.covers(resource.cns):
        missing = words.names(resource.cns - certificate.cns)
        return _adoption_refused(known, f"certificate {wanted} does not cover {missing}")
    if certificate.expires_at is None:
        return _adoption_refused(known, f"Vercel does not say when certificate {wanted} expires")
    if certificate.expires_at <= known.now:
        return _adoption_refused(known, f"certificate {wanted} expired at {words.time(certificate.expires_at)}")
    after = held(resource, status, certificate, known.scope, asked_at=resource.created_at)
    after = conditions(resource, succeeded(after).changed(adopted_id=wanted), now=known.now)
    text = f"Certificate {wanted} for {words.names(certificate.cns)} adopted."
    return Decision(Write(), after, Note("Normal", Reason.ADOPTED, "Adopt", text))


def _adoption_refused(known: Known, why: str) -> Decision | None:
    """Said, and looked at again from time to time. Nothing is issued while the annotation stands, unless there is a
    certificate already that needs it."""
    status = known.resource.status
    if status.id is not None and need_of(known) is not None:
        return None
    problem = Problem(Reason.ADOPTION_REFUSED, f"The certificate that the annotation names is not adopted: {why}.")
    note = _told_once(status, problem, "Adopt")
    status = conditions(known.resource, status, now=known.now, problem=problem)
    moment = _next_moment(known, status)
    again = known.now + ODD_ANSWER_LOOK
    return Decision(Wait(min(again, moment) if moment else again), status, note)


def finalizer_is_put_back(known: Known) -> Decision | None:
    """A resource that holds a certificate has our finalizer, however it came by it, or lost it."""
    return Decision(Hold()) if known.resource.status.id is not None and not known.resource.ours else None


# --- what was replaced ------------------------------------------------------------------------------------------------


def superseded_is_removed_in_time(known: Known) -> Decision | None:
    """A replaced certificate is removed 10 min after its successor came, or after a tenth of that one's lifetime.

    One that was adopted is the user's: it is removed only with deletionPolicy Delete.
    """
    resource, status = known.resource, known.resource.status
    if not status.superseded_ids:
        return None
    at = _superseded_removal(status)
    if at is None or known.now < at or not usable(status, resource.cns, known.now):
        return None
    if known.removal_at is not None and known.tick < known.removal_at:
        return None
    for certificate_id in status.superseded_ids:
        kept = adopted(known, certificate_id) and resource.spec.deletion_policy == "Retain"
        if not kept and certificate_id not in known.removed and certificate_id not in known.taken:
            return Decision(Remove(certificate_id))
    return Decision(Write(), unchanged(known).changed(superseded_ids=()))


def _superseded_removal(status: Status) -> datetime | None:
    if status.created_at is None:
        return None
    return status.created_at + superseded_rest(status.created_at, status.expires_at)


# --- drift ------------------------------------------------------------------------------------------------------------


def _gone(known: Known) -> bool:
    """Whether Vercel has no certificate with this id: a 404 that a listing confirms."""
    looked, listing, status = known.looked, known.listing, known.resource.status
    if looked is None or looked.certificate is not None or listing is None or status.id is None:
        return False
    return looked.certificate_id == status.id and listing.begun >= looked.at and listing.find(status.id) is None


def _absence_to_be_confirmed(known: Known) -> Decision | None:
    """A 404 is believed only when a listing that was begun after it doesn't have the certificate either."""
    looked, listing = known.looked, known.listing
    if looked is None or looked.certificate is not None or looked.certificate_id != known.resource.status.id:
        return None
    return Decision(List(looked.at)) if listing is None or listing.begun < looked.at else None


def vanished_scope_is_not_issued_anew(known: Known) -> Decision | None:
    """So many certificates of the scope are gone at once that a wrong token is likelier. The user may confirm it.

    A renewal that was asked for before that was told confirms nothing.
    """
    status, listing = known.resource.status, known.listing
    issuing = status.condition("Issuing")
    told = issuing is not None and issuing.reason == Reason.SCOPE_VANISHED
    if status.id is None or (told and renew_requested(known) is not None):
        return None
    if listing is None:
        if not told:
            return None
        until = waiting_until(known)
        # Listed anew from time to time; one listing does for all of them.
        return kept_waiting(known, until) if until is not None else Decision(List(known.tick - SHARED_LISTING))
    if not listing.scope_vanished or listing.find(status.id) is not None:
        return None
    problem = Problem(
        Reason.SCOPE_VANISHED,
        f"Certificate {status.id} and many others in {recorded_scope(status)} are not at Vercel any more. "
        "Is the token still the right one? Nothing is issued anew before that is clear: to confirm that they are gone, "
        "set the annotation vercel-operator.io/renew on the resource to a new value.",
    )
    again = known.now + VANISHED_LOOK
    answered = known.resource.renew_request or status.last_renew_request  # so that only a newer one is a confirmation
    status = status.changed(next_attempt_time=whole_seconds(again), last_renew_request=answered)
    status = conditions(known.resource, status, now=known.now, problem=problem)
    note = _told_once(known.resource.status, problem, "List")
    moment = _next_moment(known, status)
    return Decision(Wait(min(again, moment) if moment else again), status, note)


def confirmed_absence_is_noted(known: Known) -> Decision | None:
    """The certificate is gone at Vercel: status holds none any more, so that another one is issued."""
    resource, status = known.resource, known.resource.status
    if known.listing is None or not _gone(known):
        return _absence_to_be_confirmed(known)
    successor = newest_unclaimed(known, known.listing, frozenset(status.cns))
    if successor is not None:
        return _renewed_by_vercel(known, successor)
    message = f"Certificate {status.id} is not at Vercel any more."
    if not resource.spec.suspend:
        message += " Another one is issued."
    after = status.changed(id=None, cns=(), created_at=None, expires_at=None, renewal_time=None, auto_renew=None)
    after = conditions(resource, after, now=known.now, need=Need(Reason.CERTIFICATE_GONE, message))
    return Decision(Write(), after, Note("Warning", Reason.CERTIFICATE_GONE, "List", message))


def drift_is_noticed(known: Known) -> Decision | None:
    """What a listing shows of the current certificate: gone, changed, renewed by Vercel under the same or a new id."""
    status, listing = known.resource.status, known.listing
    if status.id is None or listing is None:
        return None
    current = listing.find(status.id)
    if current is None:
        if known.looked is None or known.looked.certificate_id != status.id:
            return Decision(Look(status.id))  # a listing alone is not believed either
        return None
    successor = newest_unclaimed(known, listing, current.cns)
    if successor is not None and _expires_later(successor, current):
        return _renewed_by_vercel(known, successor)
    return _seen_changed(known, current)


def _expires_later(one: Certificate, other: Certificate) -> bool:
    return one.expires_at is not None and other.expires_at is not None and one.expires_at > other.expires_at


def _seen_changed(known: Known, current: Certificate) -> Decision | None:
    """The current certificate is not what status says: then status is brought up to it."""
    resource, status = known.resource, known.resource.status
    if current.expires_at is None or not current.cns:
        return None
    later = status.expires_at is not None and whole_seconds(current.expires_at) > status.expires_at
    if later:
        return _renewed_by_vercel(known, current)
    after = held(resource, status, current, recorded_scope(status), asked_at=_created(known))
    if (after.cns, after.expires_at, after.auto_renew) == (status.cns, status.expires_at, status.auto_renew):
        return None
    text = f"Certificate {current.id} has changed at Vercel: now for {words.names(current.cns)}"
    text += f" until {words.time(current.expires_at)}."
    after = conditions(resource, after, now=known.now, need=_need_of_other_names(known, current, text))
    return Decision(Write(), after, Note("Warning", Reason.CHANGED, "List", text))


def _renewed_by_vercel(known: Known, certificate: Certificate) -> Decision:
    resource, status = known.resource, known.resource.status
    after = held(resource, status, certificate, recorded_scope(status), asked_at=_created(known))
    until = words.time(certificate.expires_at) if certificate.expires_at else "an unknown time"
    text = f"Vercel has renewed certificate {status.id} by itself: {certificate.id} is good until {until}."
    after = conditions(resource, succeeded(after), now=known.now, need=_need_of_other_names(known, certificate, text))
    return Decision(Write(), after, Note("Normal", Reason.RENEWED, "Renew", text))


def _need_of_other_names(known: Known, certificate: Certificate, text: str) -> Need | None:
    """With names that are no longer those that are wanted, another certificate has to be issued."""
    return None if known.resource.cns <= certificate.cns else Need(Reason.NAMES_CHANGED, text)


# --- whether one has to be issued -------------------------------------------------------------------------------------


def never_issued(known: Known) -> Need | None:
    """There is no certificate: none was issued yet, or the one that was is gone."""
    status = known.resource.status
    if status.id is not None:
        return None
    issuing = status.condition("Issuing")
    if issuing is not None and issuing.reason == Reason.CERTIFICATE_GONE:
        return Need(Reason.CERTIFICATE_GONE, issuing.message)
    return Need(Reason.FIRST_ISSUE, f"A certificate for {words.names(known.resource.cns)} is being issued.")


def names_changed(known: Known) -> Need | None:
    """The certificate's names are not those that spec asks for, and not those that Vercel gave for them either."""
    resource, status = known.resource, known.resource.status
    has, wants = frozenset(status.cns), resource.cns
    if has == wants or answered_oddly(known) or (wants <= has and (adopted(known, status.id) or _answered_so(known))):
        return None
    for_whom = words.names(has) or "no names"
    return Need(Reason.NAMES_CHANGED, f"Certificate {status.id} is for {for_whom}; spec.cns says {words.names(wants)}.")


def _answered_so(known: Known) -> bool:
    """Whether Vercel added names by itself: what was asked for last is what spec says, and there was no other reason
    to ask than these names."""
    status, attempt = known.resource.status, answered_attempt(known)
    if attempt is None or attempt.cns != known.resource.cns:
        return False
    return not status.failed_attempts or attempt.reason != Reason.NAMES_CHANGED


def renew_requested(known: Known) -> Need | None:
    """The renew annotation has a value that was not acted on yet."""
    request = known.resource.renew_request
    if request is None or request == known.resource.status.last_renew_request:
        return None
    return Need(Reason.RENEW_REQUESTED, f"A renewal was requested by annotation ({request}).")


def expired(known: Known) -> Need | None:
    """The certificate has expired."""
    status = known.resource.status
    if status.expires_at is None or known.now < status.expires_at:
        return None
    return Need(
        Reason.EXPIRED,
        f"Certificate {status.id} expired at {words.time(status.expires_at)}.",
        look_first=True,
    )


def renewal_due(known: Known) -> Need | None:
    """The renewal time has come."""
    status, due = known.resource.status, scheduled(known.resource, known.resource.status)
    if due is None or known.now < due.renewal_time:
        return None
    return Need(Reason.RENEWAL_DUE, f"Certificate {status.id} is due for renewal.", look_first=True)


NEEDS: tuple[Callable[[Known], Need | None], ...] = (
    never_issued,
    names_changed,
    renew_requested,
    expired,
    renewal_due,
)


def need_of(known: Known) -> Need | None:
    """Why a certificate has to be issued now; None where there is no need."""
    return next((need for need in (ask(known) for ask in NEEDS) if need is not None), None)


# --- what has to be so before one is issued ---------------------------------------------------------------------------


def issued_when_needed(known: Known) -> Decision | None:
    """There is a need: whatever has to be so before it is met, then one attempt."""
    need = need_of(known)
    if need is None:
        return None
    return next(decision for decision in (gate(known, need) for gate in GATES) if decision is not None)


def scope_stays(known: Known, need: Need) -> Decision | None:
    """Nothing is issued in another scope than the one in which the certificate at hand was issued."""
    status = known.resource.status
    if status.id is None or recorded_scope(status) == known.scope:
        return None
    problem = Problem(
        Reason.SCOPE_CHANGED,
        f"Certificate {status.id} was issued in {recorded_scope(status)}; the operator is now set to {known.scope}. "
        f"{need.message} Set the team back, or delete the resource and create it again.",
    )
    note = _told_once(status, problem, "Issue")
    status = status.changed(next_attempt_time=None)
    status = conditions(known.resource, status, now=known.now, problem=problem)
    return Decision(Wait(_next_moment(known, status)), status, note)


def one_owner_for_a_set_of_names(known: Known, need: Need) -> Decision | None:
    """Another resource owns this set of names in this scope: this one never asks for a certificate."""
    if known.owner is None:
        return None
    problem = Problem(
        Reason.DUPLICATE_OF,
        f"{known.owner} already manages a certificate for the same names in {known.scope}. Delete one of the two, "
        "or change spec.cns.",
    )
    note = _told_once(known.resource.status, problem, "Issue")
    status = known.resource.status.changed(next_attempt_time=None)
    status = conditions(known.resource, status, now=known.now, problem=problem)
    return Decision(Wait(_next_moment(known, status)), status, note)


def back_off_is_waited_for(known: Known, need: Need) -> Decision | None:
    """After a failure, the next attempt has its time; a token that was refused is read again meanwhile."""
    until = waiting_until(known)
    if until is None:
        return None
    issuing = known.resource.status.condition("Issuing")
    if issuing is not None and issuing.reason == CREDENTIALS_INVALID.reason:
        until = min(until, known.now + TOKEN_LOOK)
    return kept_waiting(known, until)


def looked_at_before_it_is_renewed(known: Known, need: Need) -> Decision | None:
    """Vercel may have renewed by itself: then only status changes."""
    status = known.resource.status
    if not need.look_first or status.id is None or status.id in known.removed:
        return None
    if known.looked is None or known.looked.certificate_id != status.id:
        return Decision(Look(status.id))
    certificate = known.looked.certificate
    if certificate is None and known.listing is not None:
        certificate = known.listing.find(status.id)  # the 404 was wrong
    return _seen_changed(known, certificate) if certificate is not None else None


def answered_with_the_old_one_is_removed(known: Known, need: Need) -> Decision | None:
    """Where Vercel answers a POST with the old certificate, that is removed once it has expired, to make way."""
    status = known.resource.status
    issuing = status.condition("Issuing")
    if need.reason != Reason.EXPIRED or status.id is None:
        return None
    if issuing is None or issuing.reason != Reason.NOT_RENEWED:
        return None
    if status.id not in known.removed and status.id not in known.taken:
        return Decision(Remove(status.id))
    return None


def attempt_is_made(known: Known, need: Need) -> Decision | None:
    """One attempt."""
    resource, status = known.resource, known.resource.status
    if status.observed_generation != resource.generation:
        status = succeeded(status)  # what failed was another spec
    meanwhile = conditions(resource, status, now=known.now, need=need)
    return Decision(Issue(resource.cns, need.reason, meanwhile))


GATES: tuple[Callable[[Known, Need], Decision | None], ...] = (
    scope_stays,
    one_owner_for_a_set_of_names,
    back_off_is_waited_for,
    looked_at_before_it_is_renewed,
    answered_with_the_old_one_is_removed,
    attempt_is_made,
)


# --- nothing to do ----------------------------------------------------------------------------------------------------


def settled(known: Known) -> Decision:
    """Everything is as it should be, until the next moment."""
    status = succeeded(known.resource.status)
    return Decision(Wait(_next_moment(known, status)), conditions(known.resource, status, now=known.now))


def _next_moment(known: Known, status: Status) -> datetime | None:
    """When time alone changes something next: renewal, expiry, the removal of what was replaced."""
    due = scheduled(known.resource, status)
    moments = [due.renewal_time if due else None, status.expires_at]
    if status.superseded_ids:
        moments.append(_superseded_removal(status))
        moments.append(known.wall(known.removal_at) if known.removal_at is not None else None)
    return min((moment for moment in moments if moment is not None and moment > known.now), default=None)


POLICIES: tuple[Policy, ...] = (
    foreign_deletion_is_ignored,
    retained_is_let_go,
    orphaned_is_let_go,
    outcome_is_written_down_first,
    fenced_off_outcome_is_reported,
    failed_call_is_reported_and_made_again,
    paused_token_is_waited_for,
    failed_call_is_waited_for,
    unresolved_attempt_is_resolved_by_listing,
    missing_record_is_listed_for_first,
    certificates_are_removed_then_let_go,
    vanished_scope_is_not_issued_anew,
    confirmed_absence_is_noted,
    drift_is_noticed,
    suspended_changes_nothing,
    unexpected_answer_waits_for_the_user,
    adopted_when_named,
    finalizer_is_put_back,
    superseded_is_removed_in_time,
    issued_when_needed,
)
