"""No mistake of ours, of a clock, of Vercel or of a tool issues without end."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from core.building import (
    DAY,
    HOUR,
    MINUTE,
    NEW,
    NOW,
    READY,
    SECOND,
    answered,
    assert_in_order,
    at,
    attempted,
    cert,
    conditions_of,
    issued_by,
    known,
    led_to,
    listed,
    message,
    note_of,
    ready,
    status_of,
    written,
)
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.known import Issue, Known, Limits, Wait
from vercel_certificate_operator.core.record import Issuance, names_hash

A, B = ["example.com"], ["b.com"]


def issuances(*times: datetime, cns: list[str] = A) -> tuple[Issuance, ...]:
    return tuple(Issuance(time=time, names_hash=names_hash(cns)) for time in times)


FIVE = issuances(*(NOW - (6 - n) * DAY for n in range(5)))
"""Six to two days ago."""


def asking(entries: tuple[Issuance, ...] = FIVE, **more: Any) -> Known:
    """Without a certificate, with a list at hand."""
    return known(**{"status": status_of(issuances=entries), "listing": listed(), **more})


def test_beyond_the_limit_nothing_is_issued_and_the_message_says_until_when() -> None:
    facts = asking()
    decision = decide(facts)
    assert decision.policy == "issuances_are_limited"
    assert decision.action == Wait(NOW + DAY)
    assert conditions_of(decision) == (("False", "IssuanceLimited"),) * 2
    assert note_of(decision) == ("Warning", "IssuanceLimited", "Issue")
    assert message(decision, "Issuing") == (
        "This resource has requested 5 certificates since 2025-12-26T12:00:00Z, which is the limit "
        "(--issuance-limit). A certificate for example.com is needed. Find out why so many are needed. To issue one "
        "now, set the annotation vercel-operator.io/renew to a new value. Next attempt: 2026-01-02T12:00:00Z."
    )
    assert decision.status is not None
    assert decision.status.next_attempt_time == NOW + DAY
    assert_in_order(facts, decision)


def test_it_is_reported_once() -> None:
    facts = asking()
    again = decide(written(facts, decide(facts)))
    assert (again.policy, again.note) == ("issuances_are_limited", None)


@pytest.mark.parametrize(
    ("entries", "until"),
    [
        pytest.param(FIVE, NOW + DAY, id="five within a week"),
        pytest.param(FIVE[:4], None, id="four"),
        pytest.param(
            issuances(*(NOW - n * HOUR for n in range(6))), NOW - 4 * HOUR + 7 * DAY, id="six: the newest five"
        ),
        pytest.param(
            issuances(*reversed([NOW - n * HOUR for n in range(5)])), NOW - 4 * HOUR + 7 * DAY, id="any order"
        ),
        pytest.param(issuances(NOW - 7 * DAY, *(NOW - n * DAY for n in range(4))), None, id="the first a week ago"),
        pytest.param(
            issuances(NOW - 7 * DAY + SECOND, *(NOW - n * DAY for n in range(4))), NOW + SECOND, id="a second less"
        ),
        pytest.param(issuances(*(NOW + MINUTE for _ in range(5))), NOW + 7 * DAY + MINUTE, id="in a moment"),
        pytest.param(issuances(*(NOW - DAY for _ in range(5)), cns=B), None, id="for other names"),
        pytest.param(
            (*issuances(*(NOW - DAY for _ in range(4)), cns=B), *issuances(NOW)),
            NOW + 6 * DAY,
            id="all names count together",
        ),
        pytest.param(
            (*issuances(*(NOW - DAY for _ in range(5)), cns=B), *issuances(NOW - 8 * DAY)),
            NOW + 6 * DAY,
            id="these names were issued earlier",
        ),
    ],
)
def test_five_within_a_week_are_the_limit(entries: tuple[Issuance, ...], until: datetime | None) -> None:
    decision = decide(asking(entries))
    assert decision.action == Wait(until) if until else isinstance(decision.action, Issue)


@pytest.mark.parametrize(("limit", "limited"), [(1, True), (4, True), (5, True), (6, False), (1000, False)])
def test_the_limit_can_be_set(limit: int, limited: bool) -> None:
    decision = decide(asking(limits=Limits(issuances=limit)))
    assert isinstance(decision.action, Wait) is limited
    if limited:
        assert message(decision, "Issuing").startswith(f"This resource has requested {limit} certificates ")


def test_as_many_are_kept_as_the_limit_needs() -> None:
    entries = issuances(*(NOW - n * MINUTE for n in range(60)))
    for limit, kept in [(1, 1), (7, 7), (50, 50), (1000, 50)]:
        facts = known(status=status_of(issuances=entries), limits=Limits(issuances=limit), **answered(NEW))
        assert len(written(facts, decide(facts)).resource.status.issuances) == kept


@pytest.mark.parametrize(
    ("lifetime", "window"),
    [
        (90 * DAY, 7 * DAY),
        (7 * DAY + SECOND, 7 * DAY),
        (6 * DAY, 6 * DAY),
        (DAY, DAY),
        (61 * MINUTE, 61 * MINUTE),
        (HOUR, HOUR),
        (30 * SECOND, HOUR),
        (timedelta(), 7 * DAY),
        (-DAY, 7 * DAY),
        (None, 7 * DAY),
    ],
)
def test_short_lived_certificates_are_limited_within_their_lifetime_but_an_hour_at_least(
    lifetime: timedelta | None, window: timedelta
) -> None:
    expired = cert(created=NOW - 10 * DAY, lifetime=lifetime)
    if lifetime is not None and lifetime > 10 * DAY:
        expired = cert(cns=B, created=NOW - 10 * DAY, lifetime=lifetime)
    first = NOW - window + MINUTE
    entries = issuances(*(first for _ in range(5)))
    facts = known(status=ready(expired, issuances=entries))
    decision = led_to(facts, expired)[1]
    assert decision.policy == "issuances_are_limited"
    assert decision.status is not None
    assert decision.status.next_attempt_time == first + window
    later = known(status=facts.resource.status, now=first + window)
    assert isinstance(led_to(later, expired)[1].action, Issue)


def test_a_new_request_of_the_user_is_not_limited_but_only_once() -> None:
    attempt = issued_by(asking(renew="1"))
    assert attempt.requested
    lost = attempt.changed(outcome="Lost", retry_time=NOW)
    facts = known(status=status_of(issuances=FIVE, attempt=lost), renew="1")
    assert led_to(facts)[1].policy == "issuances_are_limited"
    assert issued_by(known(status=facts.resource.status, renew="2")).requested


def test_requests_that_were_met_do_not_count() -> None:
    met = tuple(Issuance(time=NOW - DAY, names_hash=names_hash(A), request_hash=str(n)) for n in range(5))
    assert not issued_by(asking((*FIVE[:4], *met))).requested
    counted = tuple(Issuance(time=NOW - DAY, names_hash=names_hash(B)) for _ in range(5))
    assert not issued_by(asking((*counted, *met))).requested, "nor do their names"


def test_two_tools_that_set_two_values_in_turn_do_not_issue_without_end() -> None:
    """Self-heal restores one value, and another tool sets the other one again."""
    status, now, posts = status_of(), NOW, 0
    for number in range(40):
        value = "ab"[number % 2]
        held = () if status.id is None else (cert(status.id, created=now - MINUTE),)
        facts = known(status=status, renew=value, now=now, new_attempt_id=f"attempt-{number}")
        facts, decision = led_to(facts, *held)
        if isinstance(decision.action, Issue):
            posts += 1
            attempt = decision.action.attempt
            reply = answered(cert(f"cert_{number}", created=now), attempt, at=now)
            done = known(status=facts.resource.status.changed(attempt=attempt), now=now, **reply)
            status = written(done, decide(done)).resource.status.changed(superseded=())
        now += MINUTE
    assert posts == 2 + 5


@pytest.mark.parametrize("outcome", ["Refused", "Void"])
def test_a_request_that_has_issued_nothing_is_still_not_limited(outcome: str) -> None:
    attempt = issued_by(asking(renew="1")).changed(outcome=outcome, outcome_reason="DomainNotFound", retry_time=NOW)
    assert issued_by(known(status=status_of(issuances=FIVE, attempt=attempt), renew="1")).requested


def test_a_request_that_was_acted_on_is_limited_like_everything_else() -> None:
    status = status_of(issuances=FIVE, last_renew_request="1")
    assert led_to(known(status=status, renew="1"))[1].policy == "issuances_are_limited"


def test_a_certificate_that_is_there_stays_ready() -> None:
    due = cert(created=NOW - 65 * DAY)
    facts, decision = led_to(known(status=ready(due, issuances=FIVE)), due)
    assert decision.policy == "issuances_are_limited"
    assert conditions_of(decision) == (READY, ("False", "IssuanceLimited"))
    assert at(facts, NOW).resource.status.id == "cert_1"


def test_names_that_flip_between_two_values_are_limited() -> None:
    status, now = status_of(), NOW
    posts = 0
    for number in range(20):
        cns = [A, B][number % 2]
        facts = known(status=status, cns=cns, now=now, new_attempt_id=f"attempt-{number}")
        facts, decision = led_to(facts, *(() if status.id is None else (cert(status.id, status.cns, created=now),)))
        if isinstance(decision.action, Issue):
            posts += 1
            attempt = decision.action.attempt
            reply = answered(cert(f"cert_{number}", cns, created=now), attempt, at=now)
            done = known(status=facts.resource.status.changed(attempt=attempt), cns=cns, now=now, **reply)
            status = written(done, decide(done)).resource.status.changed(superseded=())
        now += MINUTE
    assert posts == 5


def test_a_duplicate_of_an_attempt_is_not_counted_twice() -> None:
    facts = known(**answered(NEW, attempted()))
    once = written(facts, decide(facts))
    assert len(once.resource.status.issuances) == 1
    assert decide(once).policy == "nothing_is_needed"
