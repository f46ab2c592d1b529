"""What is known, built in a line: ``known(status=ready(), renew="now")``."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from vercel_certificate_operator.core.attempt import ANNOTATION, Attempt
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.failures import Failure, Fate
from vercel_certificate_operator.core.known import (
    Decision,
    FailedCall,
    Known,
    Listing,
    Looked,
    Pause,
    Reply,
    Tick,
    Wait,
)
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.renewal import schedule
from vercel_certificate_operator.core.resource import (
    ADOPT_ANNOTATION,
    FINALIZER,
    RENEW_ANNOTATION,
    Condition,
    ConditionType,
    Key,
    Resource,
    Spec,
    Status,
)

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TICK: Tick = 1_000_000.0
"""What the monotonic clock shows at NOW."""

KEY = Key("web", "example-com", "uid-1")
NAMES = ("example.com",)
TEAM = Scope(team_id="team_a")
OTHER_TEAM = Scope(team_id="team_b")
ISSUED_AT = NOW - 10 * DAY


def tick(moment: datetime) -> Tick:
    """What the monotonic clock shows, or showed, then: tests speak of the wall clock only."""
    return TICK + (moment - NOW).total_seconds()


def cert(
    certificate_id: str = "cert_1",
    cns: Iterable[str] = NAMES,
    *,
    created: datetime | None = ISSUED_AT,
    lifetime: timedelta | None = 90 * DAY,
    auto_renew: bool | None = True,
) -> Certificate:
    """A certificate at Vercel. No lifetime: Vercel does not say when it expires."""
    expires = None if lifetime is None else (created or ISSUED_AT) + lifetime
    return Certificate(certificate_id, frozenset(cns), created, expires, auto_renew)


def condition(
    kind: ConditionType,
    status: Literal["True", "False"],
    reason: str,
    message: str = "As it was.",
    *,
    generation: int = 1,
) -> Condition:
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=ISSUED_AT,
        observed_generation=generation,
    )


def renewal_time(certificate: Certificate, renew_before: str | None = None) -> datetime | None:
    """When a certificate is due, as status has it."""
    if certificate.expires_at is None:
        return None
    due = schedule(
        uid=KEY.uid,
        created_at=certificate.created_at,
        expires_at=certificate.expires_at,
        renew_before=renew_before,
        issued_at=certificate.created_at or ISSUED_AT,
    )
    return due.renewal_time.replace(microsecond=0)


def status_of(
    certificate: Certificate | None = None,
    *,
    ready: tuple[Literal["True", "False"], str] = ("True", "Issued"),
    issuing: tuple[Literal["True", "False"], str] = ("False", "Issued"),
    attempt: str | None = "attempt-0",
    generation: int = 1,
    team: str | None = "team_a",
    **more: Any,
) -> Status:
    """A status with this certificate (none: nothing issued yet) and these two conditions."""
    held: dict[str, Any] = {}
    if certificate is not None:
        held = {
            "id": certificate.id,
            "cns": tuple(sorted(certificate.cns)),
            "created_at": certificate.created_at,
            "expires_at": certificate.expires_at,
            "auto_renew": certificate.auto_renew,
            "team": team,
            "renewal_time": renewal_time(certificate),
        }
    conditions = (
        condition("Ready", *ready, generation=generation),
        condition("Issuing", *issuing, generation=generation),
    )
    fields = {"attempt": attempt, "observed_generation": generation, "conditions": conditions} | held | more
    return Status(**fields)


def ready(certificate: Certificate | None = None, **more: Any) -> Status:
    """The status of a resource that is well."""
    return status_of(certificate or cert(), **more)


def failed(
    reason: Reason = Reason.PERMISSION_DENIED,
    *,
    certificate: Certificate | None = None,
    until: datetime = NOW + HOUR,
    attempts: int = 1,
    **more: Any,
) -> Status:
    """The status after a POST that was refused."""
    return status_of(
        certificate,
        ready=("True", "Issued") if certificate else ("False", reason),
        issuing=("False", reason),
        failed_attempts=attempts,
        last_failure_time=NOW - MINUTE,
        next_attempt_time=until,
        **more,
    )


def attempted(
    attempt_id: str = "attempt-1",
    *,
    start: datetime = NOW - MINUTE,
    generation: int = 1,
    cns: Iterable[str] = NAMES,
    renew: str | None = None,
    uid: str = KEY.uid,
    reason: str = "FirstIssue",
    clock_offset: timedelta | None = timedelta(),
) -> Attempt:
    return Attempt(attempt_id, uid, start, generation, frozenset(cns), renew, reason, clock_offset=clock_offset)


def known(
    *,
    now: datetime = NOW,
    cns: Iterable[str] = NAMES,
    generation: int = 1,
    status: Status | None = None,
    attempt: Attempt | None = None,
    renew: str | None = None,
    annotations: Mapping[str, str] | None = None,
    ours: bool | None = None,
    deleting: bool = False,
    created_at: datetime = NOW - 30 * DAY,
    scope: Scope = TEAM,
    first_seen: datetime = NOW - HOUR,
    retry_at: datetime | None = None,
    adopt: str | None = None,
    **more: Any,
) -> Known:
    """Fields of ``Spec`` and of ``Known`` are taken by their own names.

    Args:
        attempt: what the annotation holds.
        ours: whether our finalizer is on it. Without it: where the operator has left any other trace.
    """
    if ours is None:
        traces = (attempt, status and status.id, status and status.attempt)
        ours = deleting or any(trace is not None for trace in traces)
    spec = {name: more.pop(name) for name in tuple(more) if name in Spec.model_fields}
    notes = dict(annotations or {})
    if attempt is not None:
        notes[ANNOTATION] = attempt.dumps()
    if renew is not None:
        notes[RENEW_ANNOTATION] = renew
    if adopt is not None:
        notes[ADOPT_ANNOTATION] = adopt
    resource = Resource(
        key=KEY,
        resource_version="100",
        generation=generation,
        created_at=created_at,
        deleted_at=NOW - MINUTE if deleting else None,
        finalizers=(FINALIZER,) if ours else (),
        annotations=notes,
        spec=Spec(cns=tuple(cns), **spec),
        status=status or Status(),
    )
    return Known(
        now=now,
        tick=tick(now),
        resource=resource,
        scope=scope,
        first_seen=tick(first_seen),
        retry_at=None if retry_at is None else tick(retry_at),
        **more,
    )


def at(before: Known, now: datetime, **changes: Any) -> Known:
    """The same in a later round: what was learned in this one is forgotten."""
    fields: dict[str, Any] = {"now": now, "tick": tick(now), "looked": None, "listing": None, "failed_call": None}
    return replace(before, **{**fields, **changes})


def changed(resource: Resource, **changes: Any) -> Resource:
    """A copy. Not ``model_copy``, which would carry over what the properties have cached."""
    return Resource(**({name: getattr(resource, name) for name in Resource.model_fields} | changes))


def written(before: Known, decision: Decision) -> Known:
    """The same, with the status that was decided as the API server gives it back."""
    if decision.status is None:
        return before
    status = Status.model_validate(decision.status.dump())
    return replace(before, resource=changed(before.resource, status=status))


# --- what Vercel says -------------------------------------------------------------------------------------------------


def answered(certificate: Certificate, attempt: Attempt | None = None, *, at: datetime = NOW) -> dict[str, Any]:
    """A POST that went well: what the annotation and this process hold of it."""
    attempt = attempt or attempted()
    return {"attempt": attempt, "reply": Reply(attempt, tick(at), certificate=certificate)}


def refused(
    failure: Failure, attempt: Attempt | None = None, *, at: datetime = NOW, took: timedelta = SECOND
) -> dict[str, Any]:
    """A POST that failed."""
    attempt = attempt or attempted()
    return {"attempt": attempt, "reply": Reply(attempt, tick(at), took.total_seconds(), failure=failure)}


def refusal(status: int, code: str = "some_code", *, retry_after: timedelta | None = None) -> Failure:
    """Vercel's own error."""
    return Failure(Fate.REFUSED, "Vercel says no.", status, code, retry_after)


TIMED_OUT = Failure(Fate.UNKNOWN, "no answer within 120 s")
NOT_SENT = Failure(Fate.NOT_SENT, "connection refused")
NO_TOKEN = Failure(Fate.NO_TOKEN, "Secret web/vercel does not exist")


def listed(*certificates: Certificate, begun: datetime = NOW, offset: timedelta = timedelta()) -> Listing:
    return Listing(tick(begun), offset, certificates)


def looked(certificate: Certificate | None, at: datetime = NOW, *, of: str = "cert_1") -> Looked:
    """The answer to a GET. ``of``: the id, where there is no certificate to name it."""
    return Looked(certificate.id if certificate else of, tick(at), certificate)


def failed_call(
    call: Literal["issue", "get", "list", "remove"],
    failure: Failure = NOT_SENT,
    times: int = 1,
    *,
    about: str = "cert_1",
) -> FailedCall:
    return FailedCall(call, failure, times, about if call in ("get", "remove") else None)


def resting(until: datetime, reason: Reason = Reason.RATE_LIMITED) -> Pause:
    """A token that is used for nothing for now."""
    return Pause(tick(until), reason, "Everything that uses this token waits.")


# --- what has to hold of every decision -------------------------------------------------------------------------------


def said(decision: Decision, kind: ConditionType) -> tuple[str, str] | None:
    """Status and reason of a condition, where the decision writes it."""
    found = decision.status.condition(kind) if decision.status else None
    return (found.status, found.reason) if found else None


def message(decision: Decision, kind: ConditionType) -> str:
    found = decision.status.condition(kind) if decision.status else None
    assert found is not None
    return found.message


def assert_in_order(before: Known, decision: Decision) -> None:
    """What holds of each decision, whatever it is."""
    if isinstance(decision.action, Wait) and decision.action.until is not None:
        assert decision.action.until >= before.now, "a wait is never in the past"
    if decision.note is not None:
        assert_readable(decision.note.text)
    if decision.status is None or decision.status.dump() == before.resource.status.dump():
        let_go = before.resource.deleting and not before.resource.ours
        stale = expired(before) and before.resource.status.ready and isinstance(decision.action, Wait)
        assert let_go or not stale, "never Ready with an expired certificate"
        return
    assert [c.type for c in decision.status.conditions] == ["Ready", "Issuing"], "both conditions, always"
    earlier_ones = {one.type: one for one in before.resource.status.conditions}
    for one in decision.status.conditions:
        assert_readable(one.message)
        earlier = earlier_ones.get(one.type)
        stays = earlier is not None and one.status == earlier.status
        since = earlier.last_transition_time if earlier is not None and stays else before.now
        assert one.last_transition_time == since, "moves with the status, and only then"
    status = decision.status
    if status.ready:
        assert status.id is not None
        assert status.expires_at is not None
        assert before.now < status.expires_at, "never Ready with an expired certificate"
        if isinstance(decision.action, Wait):
            assert decision.action.until is not None
            assert decision.action.until <= status.expires_at, "it turns False by time alone"
    assert Status.model_validate(status.dump()).dump() == status.dump()


def expired(facts: Known) -> bool:
    expires = facts.resource.status.expires_at
    return expires is not None and facts.now >= expires


def assert_readable(text: str) -> None:
    assert text.endswith("."), text
    assert "None" not in text, text
    assert "\n" not in text, text
    assert "  " not in text, text
