"""What holds of every decision, from whatever state."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.building import (
    DAY,
    HOUR,
    MINUTE,
    NOT_SENT,
    NOW,
    SECOND,
    TIMED_OUT,
    assert_in_order,
    attempted,
    cert,
    changed,
    condition,
    failed_call,
    known,
    listed,
    looked,
    refusal,
    status_of,
    tick,
    written,
)
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.failures import Failure
from vercel_certificate_operator.core.known import Call, Decision, Issue, Known, Release, Remove, Reply, Wait
from vercel_certificate_operator.core.policies import decide, open_attempt, waiting_until
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import FINALIZER, LostAttempt, Status

A, AB, B = ("example.com",), ("b.example.com", "example.com"), ("b.example.com",)
NAMES = st.sampled_from([A, AB, B])
IDS = st.sampled_from(["cert_1", "cert_2", "cert_3"])
AGES = st.sampled_from([timedelta(), SECOND, MINUTE, 11 * MINUTE, DAY, 61 * DAY, 89 * DAY, 90 * DAY, 91 * DAY])
LIFETIMES = st.sampled_from([None, MINUTE, 6 * DAY, 90 * DAY])
REASONS = st.sampled_from(sorted(Reason))
FAILURES = st.sampled_from(
    [TIMED_OUT, NOT_SENT, refusal(400), refusal(401), refusal(403), refusal(429), refusal(449), refusal(500)]
)
TIMES = st.none() | st.sampled_from([-DAY, -SECOND, timedelta(), SECOND, HOUR, 32 * HOUR]).map(lambda span: NOW + span)


@st.composite
def certificates(draw: st.DrawFn) -> Any:
    names = draw(st.sampled_from([A, AB, B, ()]))
    return cert(draw(IDS), names, created=NOW - draw(AGES), lifetime=draw(LIFETIMES))


@st.composite
def statuses(draw: st.DrawFn, generation: int) -> Status:
    certificate = draw(st.none() | certificates())
    usable = certificate is not None and bool(certificate.cns) and certificate.expires_at is not None
    # The answer that brought a certificate of no use was a success, and nothing was asked since.
    failures = 0 if certificate is not None and not usable else draw(st.integers(0, 40))
    status = status_of(
        certificate,
        attempt=draw(st.sampled_from([None, "attempt-0", "attempt-1"])),
        generation=draw(st.integers(1, generation)),
        team=draw(st.sampled_from([None, "team_a", "team_b", "acme"])),
        superseded_ids=tuple(sorted(draw(st.frozensets(IDS)) - {certificate and certificate.id})),
        failed_attempts=failures,
        next_attempt_time=draw(TIMES),
        last_failure_time=draw(TIMES),
        last_renew_request=draw(st.sampled_from([None, "", "1", "2"])),
        adopted_id=draw(st.none() | IDS),
        lost_attempts=tuple(
            LostAttempt(id=f"lost-{number}", start=NOW - DAY, cns=A) for number in range(draw(st.integers(0, 11)))
        ),
    )
    # Whatever was said before, it was no more than what the certificate allows.
    reasons = REASONS if usable else REASONS.filter(lambda reason: reason != Reason.ISSUED)
    conditions = (
        condition("Ready", draw(st.sampled_from(["True", "False"] if usable else ["False"])), draw(reasons)),
        condition("Issuing", draw(st.sampled_from(["True", "False"])), draw(reasons)),
    )
    status = status.changed(conditions=conditions)
    return Status.model_validate(status.dump())


@st.composite
def states(draw: st.DrawFn) -> Known:
    """Anything that can be known, whether or not it can come about."""
    generation, cns = draw(st.integers(1, 3)), draw(NAMES)
    attempt = reply = None
    if draw(st.booleans()):
        of = draw(st.integers(1, generation))
        attempt = attempted(
            draw(st.sampled_from(["attempt-0", "attempt-1"])),
            start=NOW - draw(AGES),
            generation=of,
            cns=cns if of == generation else draw(NAMES),
            renew=draw(st.sampled_from([None, "", "1"])),
            uid=draw(st.sampled_from(["uid-1", "uid-of-another"])),
            reason=draw(st.sampled_from(["FirstIssue", "NamesChanged", "RenewalDue"])),
        )
        if draw(st.booleans()) and attempt.uid == "uid-1":
            at = tick(NOW - draw(st.sampled_from([timedelta(), SECOND, HOUR])))
            answer: dict[str, Any] = draw(
                certificates().map(lambda one: {"certificate": one}) | FAILURES.map(lambda one: {"failure": one})
            )
            reply = Reply(attempt, at, draw(st.sampled_from([0.5, 120.0, 7200.0])), **answer)
    failure: Failure | None = draw(st.none() | FAILURES)
    calls: list[Call] = ["issue", "get", "list", "remove"]
    call = draw(st.sampled_from(calls))
    retry_at = draw(st.sampled_from([NOW + SECOND, NOW + HOUR, NOW + 32 * HOUR]))
    return known(
        cns=cns,
        generation=generation,
        status=draw(st.just(Status()) | statuses(generation)),
        attempt=attempt,
        renew=draw(st.sampled_from([None, "", "1", "2"])),
        adopt=draw(st.sampled_from([None, None, "cert_3"])),
        ours=draw(st.booleans()),
        deleting=draw(st.sampled_from([False, False, True])),
        suspend=draw(st.sampled_from([False, False, True])),
        deletion_policy=draw(st.sampled_from(["Delete", "Retain"])),
        renew_before=draw(st.sampled_from([None, "1h", "8760h"])),
        scope=draw(st.sampled_from([Scope(team_id="team_a"), Scope(team_slug="acme"), Scope()])),
        first_seen=NOW - draw(st.sampled_from([timedelta(), MINUTE, HOUR])),
        reply=reply,
        void_attempts=draw(st.sampled_from([frozenset(), frozenset({"attempt-1"})])),
        looked=draw(
            st.none() | certificates().map(looked) | IDS.map(lambda certificate_id: looked(None, of=certificate_id))
        ),
        named=draw(st.none() | certificates().map(looked) | st.just(looked(None, of="cert_3"))),
        listing=draw(
            st.none()
            | st.builds(
                lambda found, vanished: replace(listed(*found), scope_vanished=vanished),
                st.lists(certificates(), max_size=3, unique_by=lambda one: one.id),
                st.booleans(),
            )
        ),
        taken=draw(st.frozensets(IDS, max_size=1)),
        removed=draw(st.frozensets(IDS, max_size=2)),
        failed_call=failed_call(call, failure) if failure else None,
        retry_at=retry_at if failure or draw(st.booleans()) else None,
        may_adopt=draw(st.booleans()),
        owner=draw(st.sampled_from([None, None, "web/older"])),
    )


Law = Callable[[Known, Decision], None]
LAWS: list[Law] = []


def law(function: Law) -> Law:
    """Something that holds of every decision. All are tried on the same states, since making them takes longest."""
    LAWS.append(function)
    return function


@given(states())
@settings(max_examples=5 * settings().max_examples)
def test_every_law_holds_for_every_decision(facts: Known) -> None:
    decision = decide(facts)
    assert_in_order(facts, decision)
    for holds in LAWS:
        holds(facts, decision)


@law
def equal_facts_give_equal_decisions(facts: Known, decision: Decision) -> None:
    twin = replace(facts, resource=changed(facts.resource, status=Status.model_validate(facts.resource.status.dump())))
    assert decide(twin) == decision


@law
def what_was_written_is_not_written_again(facts: Known, decision: Decision) -> None:
    """A fixpoint: it is what "a restart makes no writes" rests on."""
    if not isinstance(decision.action, Wait) or decision.status is None:
        return
    after = written(facts, decision)
    again = decide(after)
    assert isinstance(again.action, Wait)
    assert again.status is None or again.status.dump() == after.resource.status.dump()


@law
def a_certificate_is_asked_for_only_when_nothing_stands_in_the_way(facts: Known, decision: Decision) -> None:
    if not isinstance(decision.action, Issue):
        return
    resource = facts.resource
    assert open_attempt(facts) is None, "never while an attempt is unresolved"
    assert not resource.deleting
    assert not resource.spec.suspend
    assert facts.owner is None
    assert waiting_until(facts) is None
    assert facts.retry_at is None or facts.tick >= facts.retry_at
    assert resource.status.id is None or resource.status.team == (facts.scope.team_id or facts.scope.team_slug)
    assert decision.action.cns == resource.cns
    assert decision.status is None
    issuing = decision.action.meanwhile.condition("Issuing")
    assert issuing is not None
    assert (issuing.status, issuing.reason) == ("True", decision.action.reason)


@law
def ready_is_never_true_without_a_certificate_that_covers_the_names(facts: Known, decision: Decision) -> None:
    if decision.status is None or not decision.status.ready:
        return
    ready = decision.status.condition("Ready")
    assert ready is not None
    if ready.observed_generation == facts.resource.generation:
        assert facts.resource.cns <= frozenset(decision.status.cns)
    else:
        asked = [one.cns for one in (facts.resource.attempt, facts.reply and facts.reply.attempt) if one]
        was_ready = facts.resource.status.ready
        assert was_ready or any(cns <= frozenset(decision.status.cns) for cns in asked)


@law
def what_is_removed_is_ours_and_nobody_elses(facts: Known, decision: Decision) -> None:
    action = decision.action
    if not isinstance(action, Remove):
        return
    status = facts.resource.status
    assert action.certificate_id in (status.id, *status.superseded_ids)
    assert action.certificate_id not in facts.taken
    assert action.certificate_id not in facts.removed
    assert not facts.resource.spec.suspend
    if facts.resource.deleting:
        assert facts.resource.spec.deletion_policy == "Delete"
    elif action.certificate_id == status.id:
        assert status.expires_at is not None
        assert facts.now >= status.expires_at


@law
def only_what_is_being_deleted_is_let_go(facts: Known, decision: Decision) -> None:
    if not isinstance(decision.action, Release):
        return
    assert facts.resource.deleting
    assert FINALIZER in facts.resource.finalizers
    assert decision.note is not None, "an event tells what became of the certificates"


@law
def no_certificate_that_is_known_is_ever_forgotten(facts: Known, decision: Decision) -> None:
    """Each id that was in status is in the new one, unless it was removed, is another's, or is confirmed to be gone."""
    status = decision.status
    if status is None:
        return
    before, after = facts.resource.status, {status.id, *status.superseded_ids}
    for certificate_id in {before.id, *before.superseded_ids} - after - {None}:
        gone = facts.listing is not None and facts.listing.find(certificate_id or "") is None
        kept_by_the_user = certificate_id == before.adopted_id
        assert certificate_id in facts.removed or certificate_id in facts.taken or gone or kept_by_the_user


@law
def a_resolved_attempt_stays_resolved(facts: Known, decision: Decision) -> None:
    if decision.status is None:
        return
    attempt = open_attempt(facts)
    if decision.status.attempt != facts.resource.status.attempt:
        found = decision.status.attempt or ""
        assert (attempt is not None and found == attempt.id) or found.startswith("found-")
        assert decision.status.observed_generation == (attempt.generation if attempt else facts.resource.generation)
