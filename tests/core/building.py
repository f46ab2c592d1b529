"""What is known, built in a line: ``known(status=ready(), renew="now")``."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from vercel_certificate_operator.core.certificate import Certificate, Certificates, Scope
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.failures import Call, Failure, Fate
from vercel_certificate_operator.core.known import (
    AddFinalizer,
    CallKey,
    Decision,
    FailedCall,
    Get,
    GetDomainConfig,
    Got,
    Issue,
    Known,
    Limits,
    List,
    Listing,
    Ownership,
    Pause,
    ReadToken,
    Remove,
    Reply,
    Tick,
    Wait,
    Write,
)
from vercel_certificate_operator.core.memory import Memory, Round
from vercel_certificate_operator.core.memory import known as known_from
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Attempt, Superseded
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
PERSONAL = Scope()
ISSUED_AT = NOW - 10 * DAY

ConditionValue = Literal["True", "False", "Unknown"]
READY: tuple[ConditionValue, str] = ("True", "Issued")
NOTHING_TO_DO: tuple[ConditionValue, str] = ("False", "Issued")


def tick(moment: datetime) -> Tick:
    """Returns what the monotonic clock shows, or showed, then: tests speak of the wall clock only."""
    return TICK + (moment - NOW).total_seconds()


# --- what is recorded -------------------------------------------------------------------------------------------------


def cert(
    certificate_id: str = "cert_1",
    cns: Iterable[str] = NAMES,
    *,
    created: datetime | None = ISSUED_AT,
    lifetime: timedelta | None = 90 * DAY,
    auto_renew: bool | None = True,
) -> Certificate:
    """Returns a certificate at Vercel. No lifetime: Vercel does not say when it expires."""
    expires = None if lifetime is None else (created or ISSUED_AT) + lifetime
    return Certificate(certificate_id, frozenset(cns), created, expires, auto_renew)


DUE = cert(created=NOW - 65 * DAY)
"""In the last third of its lifetime."""
EXPIRED = cert(created=NOW - 91 * DAY)
NEW = cert("cert_2", created=NOW)


def attempted(
    attempt_id: str = "attempt-1",
    *,
    start: datetime = NOW - MINUTE,
    cns: Iterable[str] = NAMES,
    reason: str = "FirstIssue",
    team: str | None = "team_a",
    known: Iterable[str] | None = (),
    renew: str | None = None,
    **more: Any,
) -> Attempt:
    """Returns an attempt; without an outcome, it is open."""
    return Attempt(
        id=attempt_id,
        start=start,
        generation=more.pop("generation", 1),
        cns=tuple(sorted(cns)),
        reason=reason,
        team=team,
        known=None if known is None else tuple(known),
        renew_request=renew,
        **more,
    )


ISSUED = attempted("attempt-0", start=ISSUED_AT, outcome="Issued")


def condition(
    kind: ConditionType, status: ConditionValue, reason: str, message: str = "As it was.", *, generation: int = 1
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
    """Returns when a certificate is due, as status has it."""
    if certificate.expires_at is None:
        return None
    due = schedule(
        uid=KEY.uid,
        created_at=certificate.created_at,
        expires_at=certificate.expires_at,
        renew_before=renew_before,
    )
    return due.renewal_time.replace(microsecond=0)


def status_of(
    certificate: Certificate | None = None,
    *,
    ready: tuple[ConditionValue, str] = READY,
    issuing: tuple[ConditionValue, str] = NOTHING_TO_DO,
    generation: int = 1,
    team: str | None = "team_a",
    origin: str | None = "Issued",
    **more: Any,
) -> Status:
    """Returns a status with this certificate (none: nothing issued yet) and these two conditions."""
    held: dict[str, Any] = {"attempt": None}
    if certificate is not None:
        held = {
            "id": certificate.id,
            "origin": origin,
            "cns": tuple(sorted(certificate.cns)),
            "created_at": certificate.created_at,
            "expires_at": certificate.expires_at,
            "auto_renew": certificate.auto_renew,
            "team": team,
            "renewal_time": renewal_time(certificate),
            "attempt": ISSUED,
        }
    conditions = (
        condition("Ready", *ready, generation=generation),
        condition("Issuing", *issuing, generation=generation),
    )
    return Status(**({"observed_generation": generation, "conditions": conditions} | held | more))


def ready(certificate: Certificate | None = None, **more: Any) -> Status:
    """Returns the status of a resource that is well."""
    return status_of(certificate or cert(), **more)


def replaced(
    *ids: str, origin: str | None = "Issued", team: str | None = "team_a", since: datetime = NOW - HOUR
) -> tuple[Superseded, ...]:
    """Returns certificates that were replaced."""
    return tuple(Superseded(id=certificate_id, origin=origin, team=team, since=since) for certificate_id in ids)


def failed(
    reason: Reason = Reason.PERMISSION_DENIED,
    *,
    certificate: Certificate | None = None,
    until: datetime = NOW + HOUR,
    times: int = 1,
    outcome: str = "Refused",
    attempt: Attempt | None = None,
    **more: Any,
) -> Status:
    """Returns the status after an attempt that failed.

    Args:
        attempt: what it was, but for its outcome.
    """
    attempt = (attempt or attempted("attempt-0", start=NOW - HOUR)).changed(
        outcome=outcome, outcome_reason=str(reason), retry_time=until
    )
    return status_of(
        certificate,
        ready=READY if certificate else ("False", reason),
        issuing=("False", reason),
        failed_attempts=times,
        last_failure_time=NOW - MINUTE,
        next_attempt_time=until,
        **{"attempt": attempt, **more},
    )


# --- what is known ----------------------------------------------------------------------------------------------------


def known(
    *,
    now: datetime = NOW,
    cns: Iterable[str] = NAMES,
    generation: int = 1,
    status: Status | None = None,
    attempt: Attempt | None = None,
    renew: str | None = None,
    adopt: str | None = None,
    finalizer: bool = True,
    deleting: bool = False,
    created_at: datetime = NOW - 30 * DAY,
    scope: Scope = TEAM,
    seen: datetime = NOW - HOUR,
    **more: Any,
) -> Known:
    """Fields of ``Spec`` and of ``Known`` are taken by their own names.

    This process has seen the current certificate, but so long ago that a renewal reads it again.

    Args:
        attempt: the newest attempt, in place of the one in ``status``.
        seen: when this process first saw the newest attempt.
    """
    spec = {name: more.pop(name) for name in tuple(more) if name in Spec.model_fields}
    annotations = {RENEW_ANNOTATION: renew, ADOPT_ANNOTATION: adopt}
    status = status or Status()
    resource = Resource(
        key=KEY,
        resource_version="100",
        generation=generation,
        created_at=created_at,
        deleted_at=NOW - MINUTE if deleting else None,
        finalizers=(FINALIZER,) if finalizer else (),
        annotations={name: value for name, value in annotations.items() if value is not None},
        spec=Spec(cns=tuple(cns), **spec),
        status=status.changed(attempt=attempt) if attempt is not None else status,
    )
    if status.id is not None:
        more.setdefault("checked", (status.id, tick(now - HOUR)))
    return Known(now=now, tick=tick(now), resource=resource, scope=scope, seen_at=tick(seen), **more)


def at(before: Known, now: datetime, **changes: Any) -> Known:
    """Returns the same in a later round: what was learned in this one is forgotten."""
    forgotten: dict[str, Any] = {"got": {}, "removed": {}, "listing": None, "pauses": {}, "just_failed": None}
    return replace(before, **{"now": now, "tick": tick(now), **forgotten, **changes})


def changed(resource: Resource, **changes: Any) -> Resource:
    """Returns a copy. Not ``model_copy``, which would carry over what the properties have cached."""
    return Resource(**({name: getattr(resource, name) for name in Resource.model_fields} | changes))


def written(before: Known, decision: Decision) -> Known:
    """Returns the same, with the status that was decided as the API server gives it back."""
    if decision.status is None:
        return before
    status = Status.read(decision.status.dump())
    return replace(before, resource=changed(before.resource, status=status))


def led_to(facts: Known, *at_vercel: Certificate) -> tuple[Known, Decision]:
    """Returns what comes of it with these certificates at Vercel: calls are answered, and writes are made."""
    for _ in range(15):
        decision = decide(facts)
        assert_in_order(facts, decision)
        match decision.action:
            case Get() | List():
                facts = _answered(facts, decision.action, at_vercel)
            case Write():
                facts = replace(written(facts, decision), reply=None)
            case AddFinalizer():
                facts = replace(facts, resource=changed(facts.resource, finalizers=(FINALIZER,)))
            case ReadToken():
                facts = replace(facts, token_read=True)
            case GetDomainConfig(domain):
                facts = replace(facts, domains={**facts.domains, domain: None})
            case Remove(certificate_id):
                there = any(one.id == certificate_id for one in at_vercel)
                at_vercel = tuple(one for one in at_vercel if one.id != certificate_id)
                facts = replace(facts, removed={**facts.removed, certificate_id: there})
            case _:
                return facts, decision
    raise AssertionError(f"never settles: {decision.policy}, {decision.action}")


def asked_again(facts: Known, *at_vercel: Certificate, until_it_waits: bool = False) -> Known:
    """Returns what is known once Vercel has completed the answer to a POST, or the grace period is over.

    Args:
        until_it_waits: or until Vercel has to be asked once more.
    """
    while (decision := decide(facts)).policy == "outcome_is_recorded" and not isinstance(decision.action, Write):
        if isinstance(decision.action, Wait):
            if until_it_waits:
                return facts
            facts = at(facts, facts.now + timedelta(seconds=facts.limits.grace))
        else:
            assert isinstance(decision.action, Get | List)
            facts = _answered(facts, decision.action, at_vercel)
    return facts


def _answered(facts: Known, call: Get | List, at_vercel: Iterable[Certificate]) -> Known:
    """Returns what is known after Vercel has answered a call."""
    if isinstance(call, List):
        return replace(facts, listing=listed(*at_vercel, begun=facts.now))
    found = next((one for one in at_vercel if one.id == call.certificate_id), None)
    return replace(facts, got={**facts.got, call.certificate_id: Got(facts.tick, found)})


def remembering(memory: Memory, resource: Resource, **more: Any) -> Known:
    """Returns what is known at the start of a round in a quiet world."""
    world: dict[str, Any] = {
        "now": NOW,
        "scope": TEAM,
        "limits": Limits(),
        "new_attempt_id": "attempt-9",
        "may_adopt": True,
        "ownership": Ownership(),
        "left_behind": {},
        "held_elsewhere": (),
        "attempted_elsewhere": (),
        "copied_attempt": None,
        "not_removable": (),
        "clock_skew": None,
        "server_time": None,
    }
    return known_from(memory, Round(), resource, **{**world, **more})


def issued_by(facts: Known, *at_vercel: Certificate) -> Attempt:
    """Returns the attempt that comes of it."""
    _, decision = led_to(facts, *at_vercel)
    assert isinstance(decision.action, Issue), f"{decision.policy}: {decision.action}"
    assert decision.policy == "attempt_is_made"
    assert decision.status is not None
    assert decision.status.attempt == decision.action.attempt
    return decision.action.attempt


# --- what Vercel says -------------------------------------------------------------------------------------------------


def answered(certificate: Certificate, attempt: Attempt | None = None, *, at: datetime = NOW) -> dict[str, Any]:
    """Returns a POST that went well: the attempt, and what this process knows about it."""
    attempt = attempt or attempted()
    reply = Reply(attempt, tick(at), 1.0, certificate)
    return {"attempt": attempt, "reply": reply, "checked": (certificate.id, tick(at))}


def refused(
    failure: Failure, attempt: Attempt | None = None, *, at: datetime = NOW, took: timedelta = SECOND
) -> dict[str, Any]:
    """Returns a POST that failed."""
    attempt = attempt or attempted()
    return {"attempt": attempt, "reply": Reply(attempt, tick(at), took.total_seconds(), failure=failure)}


def refusal(status: int, code: str = "some_code", *, retry_after: timedelta | None = None, **more: Any) -> Failure:
    """Returns an error in Vercel's own format."""
    return Failure(Fate.REFUSED, "Vercel says no.", status, code, retry_after, **more)


TIMED_OUT = Failure(Fate.UNKNOWN, "no answer within 120 s")
NOT_SENT = Failure(Fate.NOT_SENT, "connection refused")
NO_TOKEN = Failure(Fate.NO_TOKEN, "Secret web/vercel does not exist")


def listed(*certificates: Certificate, begun: datetime = NOW, took: float = 0.0, vanished: bool = False) -> Listing:
    return Listing(tick(begun), Certificates(certificates), took, vanished)


def got(*certificates: Certificate, at: datetime = NOW) -> dict[str, Got]:
    """Returns the answers to GETs."""
    return {certificate.id: Got(tick(at), certificate) for certificate in certificates}


def gone(*ids: str, at: datetime = NOW) -> dict[str, Got]:
    """Returns 404s."""
    return {certificate_id: Got(tick(at), None) for certificate_id in ids}


def failing(
    call: Call,
    failure: Failure = NOT_SENT,
    *,
    of: str | None = None,
    until: datetime = NOW + MINUTE,
    since: datetime = NOW,
    times: int = 1,
    token_hash: str | None = None,
) -> dict[CallKey, FailedCall]:
    """Returns a call that has failed.

    Args:
        of: the id, for a GET or a removal.
        until: when it may be made again.
    """
    if call in ("get", "remove") and of is None:
        of = "cert_1"
    return {(call, of): FailedCall(failure, times, tick(since), tick(until), token_hash)}


def paused(call: Call, until: datetime, reason: Reason = Reason.RATE_LIMITED) -> dict[Call, Pause]:
    """Returns a token that isn't used for a kind of call."""
    return {call: Pause(tick(until), reason, "Vercel is rate limiting calls with this token.")}


# --- what has to hold of every decision -------------------------------------------------------------------------------


def said(decision: Decision, kind: ConditionType) -> tuple[str, str] | None:
    """Returns status and reason of a condition, if the decision writes it."""
    found = decision.status.condition(kind) if decision.status else None
    return (found.status, found.reason) if found else None


def conditions_of(decision: Decision) -> tuple[tuple[str, str] | None, tuple[str, str] | None]:
    """Returns status and reason of Ready and of Issuing."""
    return said(decision, "Ready"), said(decision, "Issuing")


def message(decision: Decision, kind: ConditionType) -> str:
    found = decision.status.condition(kind) if decision.status else None
    assert found is not None
    return found.message


def note_of(decision: Decision) -> tuple[str, str, str] | None:
    """Returns type, reason and action of the Event."""
    return (decision.note.type, decision.note.reason, decision.note.action) if decision.note else None


def assert_in_order(before: Known, decision: Decision) -> None:
    """What holds of each decision, whatever it is."""
    assert decision.policy
    if isinstance(decision.action, Wait) and decision.action.until is not None:
        assert decision.action.until >= before.now, "a wait is never in the past"
    if decision.note is not None:
        assert_readable(decision.note.text)
    if decision.status is None or decision.status.dump() == before.resource.status.dump():
        gone_for_us = before.resource.deleting and not before.resource.has_finalizer
        unreadable = bool(before.resource.status.unreadable)
        stale = expired(before) and before.resource.status.ready and isinstance(decision.action, Wait)
        assert gone_for_us or unreadable or not stale, "never Ready with an expired certificate"
        return
    _assert_conditions(before, decision.status)
    status = decision.status
    if status.ready and isinstance(decision.action, Wait):
        assert status.expires_at is not None
        assert decision.action.until is not None
        assert decision.action.until <= status.expires_at, "it turns False by time alone"
    read = Status.read(status.dump())
    assert not read.unreadable
    assert read.dump() == status.dump()


def _assert_conditions(before: Known, status: Status) -> None:
    earlier_ones = {one.type: one for one in before.resource.status.conditions}
    if status.conditions != before.resource.status.conditions:
        assert [c.type for c in status.conditions] == ["Ready", "Issuing"], "both conditions, always"
    for one in status.conditions:
        earlier = earlier_ones.get(one.type)
        if one == earlier:
            continue
        assert_readable(one.message)
        stays = earlier is not None and one.status == earlier.status
        since = earlier.last_transition_time if earlier is not None and stays else before.now
        assert one.last_transition_time == since, "moves with the status, and only then"
    if status.ready and status.conditions != before.resource.status.conditions:
        assert status.id is not None
        assert status.expires_at is not None
        assert before.now < status.expires_at, "never Ready with an expired certificate"


def expired(facts: Known) -> bool:
    expires = facts.resource.status.expires_at
    return expires is not None and facts.now >= expires


def assert_readable(text: str) -> None:
    assert text.endswith("."), text
    assert "None" not in text, text
    assert "\n" not in text, text
    assert "  " not in text, text
