"""What holds of every decision, from whatever state."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.building import (
    DAY,
    HOUR,
    MINUTE,
    NO_TOKEN,
    NOT_SENT,
    NOW,
    SECOND,
    TIMED_OUT,
    assert_in_order,
    attempted,
    cert,
    changed,
    condition,
    failing,
    gone,
    got,
    known,
    listed,
    paused,
    refusal,
    status_of,
    tick,
    written,
)
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.decide import POLICIES, decide
from vercel_certificate_operator.core.domains import DomainConfig
from vercel_certificate_operator.core.facts import open_attempt, open_reply, waiting_until
from vercel_certificate_operator.core.failures import Call
from vercel_certificate_operator.core.known import (
    CallKey,
    Decision,
    FailedCall,
    Get,
    Issue,
    Known,
    List,
    Ownership,
    Remove,
    RemoveFinalizer,
    Reply,
    Wait,
    Write,
)
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Issuance, Superseded, names_hash
from vercel_certificate_operator.core.resource import Status
from vercel_certificate_operator.core.rules.gates import GATES
from vercel_certificate_operator.core.source import Source, SourceProblem

A, AB, B = ("example.com",), ("b.example.com", "example.com"), ("b.example.com",)
NAMES = st.sampled_from([A, AB, B])
IDS = st.sampled_from(["cert_1", "cert_2", "cert_3"])
AGES = st.sampled_from([timedelta(), SECOND, MINUTE, 11 * MINUTE, DAY, 61 * DAY, 89 * DAY, 90 * DAY, 91 * DAY])
LIFETIMES = st.sampled_from([None, MINUTE, 6 * DAY, 90 * DAY])
ORIGINS = st.sampled_from(["Issued", "Issued", "Adopted", "Found", "Inherited", None])
REASONS = st.sampled_from(sorted(Reason))
OUTCOMES = st.sampled_from([None, "Issued", "NotRenewed", "Refused", "Lost", "Unexpected", "Void", "Postponed"])
FAILURES = st.sampled_from(
    [
        TIMED_OUT,
        NOT_SENT,
        NO_TOKEN,
        refusal(400),
        refusal(401),
        refusal(403),
        refusal(429),
        refusal(449),
        refusal(500),
        refusal(503, retry_after=HOUR),
    ]
)
ODD = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), NOW - 400 * DAY, NOW + 400 * DAY]
TIMES = st.sampled_from([NOW - DAY, NOW - SECOND, NOW, NOW + SECOND, NOW + HOUR, NOW + 32 * HOUR, *ODD])
TOKENS = st.sampled_from([None, "t1", "t2"])
FINGERPRINTS = st.sampled_from([None, None, "f1", "f2"])
SOURCES = st.sampled_from(
    [
        None,
        Source("f1", frozenset(A), NOW - DAY, NOW + 89 * DAY),
        Source("f2", frozenset(AB), NOW - 91 * DAY, NOW - DAY),
        Source("f2", frozenset(AB), NOW, NOW + DAY, "web/cm"),
        SourceProblem("The Secret does not exist"),
    ]
)
CALLS: list[Call] = ["issue", "get", "list", "remove"]


@st.composite
def certificates(draw: st.DrawFn) -> Any:
    found = cert(
        draw(IDS),
        draw(st.sampled_from([A, AB, B, ()])),
        created=NOW - draw(AGES),
        lifetime=draw(LIFETIMES),
        auto_renew=draw(st.sampled_from([None, True, True, False])),
    )
    if draw(st.sampled_from([False, False, False, True])):
        found = replace(found, created_at=draw(st.sampled_from([None, *ODD])))
    if draw(st.sampled_from([False, False, False, True])):
        found = replace(found, expires_at=draw(st.sampled_from(ODD)))
    return found


@st.composite
def attempts(draw: st.DrawFn) -> Any:
    outcome = draw(OUTCOMES)
    return attempted(
        draw(st.sampled_from(["attempt-0", "attempt-1"])),
        start=draw(TIMES),
        cns=draw(NAMES),
        renew=draw(st.sampled_from([None, "", "1"])),
        requested=draw(st.booleans()),
        reason=draw(st.sampled_from(["FirstIssue", "NamesChanged", "RenewalDue"])),
        team=draw(st.sampled_from([None, "team_a", "acme"])),
        known=draw(st.none() | st.lists(IDS, max_size=2)),
        token_hash=draw(TOKENS),
        previous_failures=draw(st.sampled_from([0, 1, 40])),
        previous_reason=draw(st.none() | REASONS),
        outcome=outcome,
        outcome_reason=draw(st.none() | REASONS) if outcome else None,
        retry_time=draw(st.none() | TIMES) if outcome else None,
        fingerprint=draw(FINGERPRINTS),
        expires_at=draw(st.none() | TIMES),
    )


@st.composite
def statuses(draw: st.DrawFn, generation: int) -> Status:
    certificate = draw(st.none() | certificates())
    usable = certificate is not None and bool(certificate.cns) and certificate.expires_at is not None
    superseded = draw(st.frozensets(IDS, max_size=2)) - {certificate and certificate.id}
    # Whatever was reported before, it was no more than what the certificate allows.
    reasons = REASONS if usable else REASONS.filter(lambda reason: reason != Reason.ISSUED)
    status = status_of(
        certificate,
        generation=draw(st.integers(1, generation)),
        team=draw(st.sampled_from([None, "team_a", "team_b", "acme"])),
        origin=draw(ORIGINS),
        attempt=draw(st.none() | attempts()),
        superseded=tuple(
            Superseded(id=one, origin=draw(ORIGINS), team=draw(st.sampled_from([None, "team_a"])), since=draw(TIMES))
            for one in sorted(superseded)
        ),
        issuances=tuple(
            Issuance(time=draw(TIMES), names_hash=names_hash(draw(NAMES))) for _ in range(draw(st.integers(0, 6)))
        ),
        requested_cns=draw(st.sampled_from([(), A, AB])) if certificate else (),
        token_hash=draw(TOKENS) if certificate else None,
        fingerprint=draw(FINGERPRINTS) if certificate else None,
        shared_names=draw(st.booleans()),
        scope_vanished=draw(st.sampled_from([False, False, True])) if certificate else False,
        failed_attempts=draw(st.sampled_from([0, 1, 40])),
        next_attempt_time=draw(st.none() | TIMES),
        last_failure_time=draw(st.none() | TIMES),
        last_renew_request=draw(st.sampled_from([None, "", "1", "2"])),
        last_adopt_request=draw(st.none() | IDS),
        conditions=(
            condition("Ready", draw(st.sampled_from(["True", "False"] if usable else ["False"])), draw(reasons)),
            condition("Issuing", draw(st.sampled_from(["True", "False"])), draw(reasons)),
        ),
    )
    unreadable = {"superseded": "unreadable"} if draw(st.sampled_from([False] * 9 + [True])) else {}
    return Status.read(status.dump() | unreadable)


@st.composite
def states(draw: st.DrawFn) -> Known:
    """Anything that can be known, whether or not it can come about."""
    generation = draw(st.integers(1, 3))
    status = draw(st.just(Status()) | statuses(generation))
    reply = None
    if draw(st.booleans()):
        attempt = draw(st.just(status.attempt) | attempts()) or draw(attempts())
        at = tick(NOW - draw(st.sampled_from([timedelta(), SECOND, HOUR])))
        answer: dict[str, Any] = draw(
            certificates().map(lambda one: {"certificate": one}) | FAILURES.map(lambda one: {"failure": one})
        )
        reply = Reply(attempt, at, draw(st.sampled_from([0.5, 120.0, 7200.0])), **answer)
    failed: dict[CallKey, FailedCall] = {}
    for call in draw(st.lists(st.sampled_from(CALLS), max_size=2)):
        failed |= failing(
            call,
            draw(FAILURES),
            of=draw(IDS) if call in ("get", "remove") else None,
            until=draw(st.sampled_from([NOW - SECOND, NOW + SECOND, NOW + HOUR, NOW + 32 * HOUR])),
            since=NOW - draw(AGES),
            token_hash=draw(TOKENS),
        )
    return known(
        cns=draw(NAMES),
        generation=generation,
        status=status,
        renew=draw(st.sampled_from([None, "", "1", "2"])),
        adopt=draw(st.sampled_from([None, None, "cert_3"])),
        finalizer=draw(st.booleans()),
        deleting=draw(st.sampled_from([False, False, True])),
        suspend=draw(st.sampled_from([False, False, True])),
        deletion_policy=draw(st.sampled_from(["Delete", "Retain"])),
        existing_certificate=draw(st.sampled_from(["Reuse", "Adopt", "Ignore"])),
        renew_before=draw(st.sampled_from([None, "1h", "8760h", "odd"])),
        certificate_secret_ref=draw(st.sampled_from([None, None, {"name": "tls"}])),
        source=draw(SOURCES),
        source_due_at=draw(st.sampled_from([None, tick(NOW + HOUR)])),
        domains=draw(st.sampled_from([{}, {"example.com": None}, {"example.com": DomainConfig(misconfigured=True)}])),
        scope=draw(st.sampled_from([Scope(team_id="team_a"), Scope(team_slug="acme"), Scope()])),
        seen=NOW - draw(st.sampled_from([timedelta(), MINUTE, HOUR])),
        reply=reply,
        in_flight=draw(st.sampled_from([False] * 9 + [True])),
        void_attempts=draw(st.sampled_from([frozenset(), frozenset({"attempt-1"})])),
        schema_outdated=draw(st.sampled_from([False] * 9 + [True])),
        schema_in_doubt=draw(st.sampled_from([False] * 9 + [True])),
        unstored_outcome=draw(st.sampled_from([None, None, "attempt-1"])),
        got={**got(*draw(st.lists(certificates(), max_size=2))), **gone(*draw(st.frozensets(IDS, max_size=2)))},
        listing=draw(
            st.none()
            | st.builds(
                lambda found, age, vanished: listed(*found, begun=NOW - age, vanished=vanished),
                st.lists(certificates(), max_size=3, unique_by=lambda one: one.id),
                st.sampled_from([timedelta(), timedelta(), MINUTE, HOUR]),
                st.booleans(),
            )
        ),
        held_elsewhere=draw(st.frozensets(IDS, max_size=1)),
        attempted_elsewhere=draw(st.frozensets(st.just(frozenset({"example.com"})), max_size=1)),
        not_removable=draw(st.frozensets(IDS, max_size=1)),
        removed=draw(st.dictionaries(IDS, st.booleans(), max_size=2)),
        failed=failed,
        pauses=draw(st.just({}) | st.sampled_from(CALLS).map(lambda call: paused(call, NOW + HOUR))),
        token_read=draw(st.booleans()),
        token_hash=draw(TOKENS),
        just_failed=draw(st.none() | st.sampled_from(sorted(failed, key=str))) if failed else None,
        may_adopt=draw(st.booleans()),
        ownership=draw(
            st.sampled_from(
                [
                    Ownership(),
                    Ownership(),
                    Ownership("web/older"),
                    Ownership(attempting="web/other"),
                    Ownership(holders={"cert_2": "web/other"}),
                ]
            )
        ),
        clock_skew=draw(st.sampled_from([None, None, None, DAY, -9 * DAY])),
    )


Law = Callable[[Known, Decision], None]
LAWS: list[Law] = []
KNOWN_POLICIES = {rule.__name__ for rule in (*POLICIES, *GATES)} - {"issued_when_needed"}


def law(function: Law) -> Law:
    """Something that holds of every decision. All are tried on the same states, since making them takes longest."""
    LAWS.append(function)
    return function


@given(states())
@settings(max_examples=8 * settings().max_examples)
def test_every_law_holds_for_every_decision(facts: Known) -> None:
    decision = decide(facts)
    assert_in_order(facts, decision)
    for holds in LAWS:
        holds(facts, decision)


@law
def equal_facts_give_equal_decisions(facts: Known, decision: Decision) -> None:
    status = facts.resource.status
    twin = replace(facts, resource=changed(facts.resource, status=Status.model_validate(status.model_dump())))
    if not status.unreadable:
        assert decide(twin) == decision


@law
def every_decision_names_its_rule(facts: Known, decision: Decision) -> None:
    assert decision.policy in KNOWN_POLICIES


@law
def what_was_written_is_not_written_again(facts: Known, decision: Decision) -> None:
    """A fixpoint: a restart makes no writes."""
    if not isinstance(decision.action, Wait) or decision.status is None:
        return
    after = written(facts, decision)
    again = decide(after)
    if isinstance(again.action, Wait):
        assert again.status is None or again.status.dump() == after.resource.status.dump()


@law
def a_write_decides_something_else_next(facts: Known, decision: Decision) -> None:
    """Or the round would never settle."""
    if not isinstance(decision.action, Write):
        return
    after = replace(written(facts, decision), reply=None, just_failed=None)
    again = decide(after)
    assert again != decision or again.status is None or again.note is None


@law
def a_certificate_is_requested_only_when_nothing_prevents_it(facts: Known, decision: Decision) -> None:
    if not isinstance(decision.action, Issue):
        return
    resource, status, attempt = facts.resource, facts.resource.status, decision.action.attempt
    assert open_attempt(facts) is None, "never while an attempt is unresolved"
    assert not status.unreadable
    assert not facts.in_flight
    assert not facts.schema_outdated
    assert not facts.schema_in_doubt
    assert not resource.deleting
    assert not resource.spec.suspend
    assert resource.has_finalizer
    assert facts.ownership.owner is None
    assert facts.ownership.attempting is None
    assert waiting_until(facts) is None
    assert not facts.blocked("upload" if attempt.fingerprint else "issue")
    assert status.id is None or status.scope == facts.scope
    assert not (status.scope_vanished and facts.listing is None)
    assert attempt.open
    if resource.spec.uploads:
        assert isinstance(facts.source, Source)
        assert resource.cns <= attempt.names
        assert facts.now < facts.source.expires_at
        assert attempt.fingerprint == facts.source.fingerprint
    else:
        assert attempt.names == resource.cns
        assert attempt.fingerprint is None
    assert attempt.team == facts.scope.team
    if facts.clock_skew is not None:
        assert attempt.reason not in (Reason.EXPIRED, Reason.RENEWAL_DUE)
    assert decision.status is not None
    assert decision.status.attempt == attempt
    issuing = decision.status.condition("Issuing")
    assert issuing is not None
    assert (issuing.status, issuing.reason) == ("True", attempt.reason)


@law
def ready_is_never_true_without_a_certificate_that_covers_the_names(facts: Known, decision: Decision) -> None:
    status = decision.status
    if status is None or not status.ready:
        return
    ready = status.condition("Ready")
    assert ready is not None
    if ready != facts.resource.status.condition("Ready") and ready.observed_generation == facts.resource.generation:
        assert facts.resource.cns <= status.names
        assert not status.scope_vanished


@law
def only_what_the_origin_allows_is_removed(facts: Known, decision: Decision) -> None:
    action = decision.action
    if not isinstance(action, Remove):
        return
    resource, status = facts.resource, facts.resource.status
    assert action.certificate_id not in facts.removed
    assert not resource.spec.suspend
    if decision.policy == "deletion_without_finalizer_is_left_alone":
        assert facts.reply is not None
        assert facts.reply.certificate is not None
        assert facts.reply.certificate.id == action.certificate_id
        assert action.certificate_id not in facts.held_elsewhere
        assert action.certificate_id not in (facts.reply.attempt.known or ())
        return
    assert action.certificate_id not in facts.not_removable
    origins = {entry.id: entry.origin for entry in status.superseded} | {status.id: status.origin}
    assert origins[action.certificate_id] in ("Issued", "Adopted")
    if resource.deleting:
        assert not resource.spec.retains
    elif resource.spec.retains:
        assert origins[action.certificate_id] == "Issued"
    if not resource.deleting and action.certificate_id == status.id:
        assert status.expires_at is not None
        assert facts.now >= status.expires_at


@law
def only_what_is_being_deleted_is_released(facts: Known, decision: Decision) -> None:
    if not isinstance(decision.action, RemoveFinalizer):
        return
    assert facts.resource.deleting
    assert facts.resource.has_finalizer
    assert decision.note is not None, "an Event says what became of the certificates"


@law
def no_certificate_is_forgotten(facts: Known, decision: Decision) -> None:
    """Each id of status is in the new one, or was removed, is confirmed to be gone, or is named in an Event."""
    if decision.status is None:
        return
    before, after = facts.resource.status, decision.status
    for certificate_id in set(before.certificate_ids) - set(after.certificate_ids):
        named = decision.note is not None and certificate_id in decision.note.text
        assert certificate_id in facts.removed or named


@law
def no_origin_improves_but_by_adoption(facts: Known, decision: Decision) -> None:
    """A certificate that may be someone else's never becomes one that the operator removes."""
    if decision.status is None:
        return
    before, after = facts.resource.status, decision.status
    old = {entry.id: entry.origin for entry in before.superseded} | {before.id: before.origin}
    new = {entry.id: entry.origin for entry in after.superseded} | {after.id: after.origin}
    for certificate_id, origin in new.items():
        if certificate_id in old and origin in ("Issued", "Adopted") and origin != old[certificate_id]:
            assert (origin, decision.policy) == ("Adopted", "named_certificate_is_adopted")
        elif certificate_id not in old and origin == "Issued" and decision.policy != "drift_is_detected":
            allowed = ("outcome_is_recorded", "open_attempt_is_searched_for", "confirmed_absence_is_recorded")
            assert decision.policy in (*allowed, "current_certificate_is_checked")


@law
def an_id_enters_status_only_from_its_own_reply(facts: Known, decision: Decision) -> None:
    """A list is a hint."""
    if decision.status is None:
        return
    new = set(decision.status.certificate_ids) - set(facts.resource.status.certificate_ids)
    replies = {one.certificate.id for one in facts.got.values() if one.certificate is not None}
    if facts.reply is not None and facts.reply.certificate is not None:
        replies.add(facts.reply.certificate.id)
    assert new <= replies


@law
def an_outcome_is_recorded_once_and_only_for_the_open_attempt(facts: Known, decision: Decision) -> None:
    if decision.status is None:
        return
    before, after = facts.resource.status.attempt, decision.status.attempt
    if after == before:
        return
    assert after is not None
    if isinstance(decision.action, Issue):
        assert after.open
        return
    assert decision.action == Write(closes=True)
    assert not after.open
    assert before is None or (before.open and before.id == after.id)


@law
def what_vercel_answered_is_recorded_first(facts: Known, decision: Decision) -> None:
    reply = open_reply(facts)
    if reply is None or reply.certificate is None or facts.resource.deleting or facts.resource.status.unreadable:
        return
    if not reply.certificate.is_complete:  # first, a GET or a list completes it
        assert decision.policy == "outcome_is_recorded"
        assert decision.action == Write(closes=True) or isinstance(decision.action, Get | List | Wait)
        assert not isinstance(decision.action, Wait) or facts.tick < reply.at + facts.limits.grace
        return
    assert decision.action == Write(closes=True)


@law
def nothing_is_waited_for_longer_than_two_days_without_a_reason(facts: Known, decision: Decision) -> None:
    """However odd the recorded times are."""
    if not isinstance(decision.action, Wait) or decision.policy in ("nothing_is_needed", "suspended_changes_nothing"):
        return
    until = decision.action.until
    if decision.policy in ("back_off_is_waited_for", "open_attempt_is_searched_for", "vanished_scope_is_reported"):
        assert until is not None
        assert until <= facts.now + 36 * HOUR


@law
def no_call_is_made_that_must_wait(facts: Known, decision: Decision) -> None:
    match decision.action:
        case List():
            assert not facts.blocked("list")
        case Remove(certificate_id):
            assert not facts.blocked("remove", certificate_id)
