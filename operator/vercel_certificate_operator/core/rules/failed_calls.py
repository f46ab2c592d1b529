"""A call that can't be made now: it failed a moment ago, or its token is paused."""

from dataclasses import replace
from datetime import timedelta

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.facts import earliest, kept, kept_waiting, next_moment
from vercel_certificate_operator.core.failures import (
    RATE_LIMITED,
    Call,
    Failure,
    Fate,
    Meaning,
    Pauses,
    explain,
    meaning,
)
from vercel_certificate_operator.core.known import (
    AddFinalizer,
    CallKey,
    CheckSchema,
    Decision,
    FailedCall,
    Get,
    GetDomainConfig,
    Issue,
    Known,
    List,
    Note,
    Pause,
    ReadSource,
    ReadToken,
    Remove,
    RemoveFinalizer,
    Wait,
    Write,
)
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.report import Problem, conditions, usable
from vercel_certificate_operator.core.rules.attempts import GO_ANYWAY
from vercel_certificate_operator.core.rules.needs import need_of
from vercel_certificate_operator.core.schema import whole_seconds
from vercel_certificate_operator.core.times import TOKEN_CHECK

FIRST_LATER = timedelta(seconds=1)
"""After a pause, what has no certificate yet goes so much later than what has one: a renewal is more urgent."""
ACTIONS: dict[Call, str] = {
    "issue": "Issue",
    "upload": "Upload",
    "get": "Get",
    "list": "List",
    "remove": "Remove",
}
"""The action of an Event, by call."""
CALLS: dict[Call, str] = {
    "issue": "issue certificates",
    "upload": "upload certificates",
    "config": "check domains",
    "get": "get certificates",
    "list": "list certificates",
    "remove": "remove certificates",
}
"""What a kind of call does, for a message."""


def call_of(decision: Decision) -> CallKey | None:
    """Returns the call to Vercel that a decision makes; None if it makes none."""
    match decision.action:
        case Get(certificate_id):
            return "get", certificate_id
        case List():
            return "list", None
        case Remove(certificate_id):
            return "remove", certificate_id
        case Issue(attempt):
            return attempt.call, None
        case (
            Wait()
            | Write()
            | ReadToken()
            | ReadSource()
            | CheckSchema()
            | GetDomainConfig()
            | AddFinalizer()
            | RemoveFinalizer()
        ):
            return None


def waited_for(known: Known, decision: Decision) -> Decision:
    """Returns the decision, or, if its call can't be made now, the decision to wait for it and to report why."""
    call = call_of(decision)
    if call is None:
        return decision
    if (pause := known.pauses.get(call[0])) is not None:
        return replace(_paused(known, call, pause), policy=decision.policy)
    if (failed := known.waits(*call)) is not None:
        return replace(_failed(known, call, failed), policy=decision.policy)
    return decision


def _concerns_token(failed: FailedCall, call: Call) -> bool:
    """Returns whether another token could end the wait."""
    reasons = (Reason.CREDENTIALS_INVALID, Reason.PERMISSION_DENIED)
    return failed.token_hash is not None and meaning(failed.failure, call).reason in reasons


def _what_fails(known: Known, call: CallKey) -> str:
    """Returns what can't be done now, with the names concerned."""
    kind, certificate_id = call
    names = words.names(known.resource.cns)
    match kind:
        case "issue":
            return f"Can't request a certificate for {names}"
        case "upload":
            return f"Can't upload the certificate for {names}"
        case "get":
            return f"Can't get certificate {certificate_id} for {names}"
        case "remove":
            return f"Can't remove certificate {certificate_id} at Vercel"
        case _:
            return f"Can't list the certificates in {known.scope} for {names}"


def _paused(known: Known, call: CallKey, pause: Pause) -> Decision:
    """The token isn't used for this call. A resource without a usable certificate says so."""
    resource, status = known.resource, known.resource.status
    later = FIRST_LATER if call[0] in ("issue", "upload") and status.id is None else timedelta()
    until = min(known.wall(pause.until) + later, known.now + TOKEN_CHECK)
    if usable(status, resource.cns, known.now) and not resource.deleting:
        return kept_waiting(known, until)
    message = f"{_what_fails(known, call)}: {pause.message}"
    if resource.deleting:
        message = f"{message} {GO_ANYWAY}"
    status = status.changed(next_attempt_time=kept(known, known.wall(pause.until)))
    return Decision(Wait(until), conditions(resource, status, now=known.now, problem=Problem(pause.reason, message)))


def _failed(known: Known, call: CallKey, failed: FailedCall) -> Decision:
    resource, status = known.resource, known.resource.status
    kind, _ = call
    row, until = meaning(failed.failure, kind), known.wall(failed.retry_at)
    if _concerns_token(failed, kind):
        if not known.token_read:
            return Decision(ReadToken())
        until = min(until, known.now + TOKEN_CHECK)
    message = explain(_what_fails(known, call), failed.failure, row, known.token)
    if resource.deleting:
        message = f"{message} {GO_ANYWAY}"
    issuing = status.condition("Issuing")
    new = issuing is None or issuing.reason != row.reason or issuing.status != "False"
    note = None
    if new and resource.deleting:
        note = Note.failed(Reason.DELETION_FAILED, ACTIONS[kind], row.reason, message)
    elif new:
        note = Note("Warning", row.reason, ACTIONS[kind], message)
    # A missing token is looked for each minute. Times that change with it would be a write each minute.
    looked_for = failed.failure.fate is Fate.NO_TOKEN
    status = status.changed(next_attempt_time=None if looked_for else kept(known, known.wall(failed.retry_at)))
    if new or (known.just_failed == call and not looked_for):
        status = status.changed(last_failure_time=whole_seconds(known.now))
    status = conditions(resource, status, now=known.now, problem=Problem(row.reason, message))
    return Decision(Wait(earliest(until, next_moment(known, status))), status, note)


def waits_for_its_turn(known: Known) -> Decision:
    """Returns the decision to report that earlier requests with the token are not answered yet."""
    need = need_of(known)
    if need is None:
        return Decision(Wait())
    message = f"{need.message} Waiting for Vercel to answer earlier requests with {known.token}."
    status = conditions(known.resource, known.resource.status, now=known.now, need=replace(need, message=message))
    return Decision(Wait(), status, policy=waits_for_its_turn.__name__)


def used_up_message(token: str, call: Call) -> str:
    """Returns what a resource reports while Vercel's rate-limit headers leave no call of this kind with the token."""
    limited = f"Vercel is rate limiting requests to {CALLS[call]} with {token}"
    return f"{limited}: it allows no more requests now. {RATE_LIMITED.advice}"


def pause_message(token: str, call: Call, scope: Scope, failure: Failure, row: Meaning) -> str:
    """Returns what a resource reports while its token isn't used.

    Args:
        token: where the token is.
        call: the kind of call that failed, in this scope.
    """
    details = ", ".join(
        fact for fact in (failure.code, f"HTTP {failure.status}" if failure.status else None) if fact is not None
    )
    said = f"{words.printable(failure.message).rstrip('.')}{f' ({details})' if details else ''}"
    match row.pauses:
        case Pauses.CALL:
            return f"Vercel is rate limiting requests to {CALLS[call]} with {token}: {said}. {row.advice}"
        case Pauses.TOKEN_IN_TEAM:
            return f"Vercel rejected {token} in {scope}: {said}. {row.advice}"
        case _:
            return f"Vercel rejected {token}: {said}. {row.advice}"
