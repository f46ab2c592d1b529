"""No mistake of ours, of a clock, of Vercel or of a tool issues without end."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from core.building import (
    DAY,
    HOUR,
    MINUTE,
    NEW,
    NOW,
    OTHER_TEAM,
    PERSONAL,
    READY,
    SECOND,
    answered,
    assert_in_order,
    at,
    attempted,
    cert,
    conditions_of,
    failing,
    issued_by,
    known,
    led_to,
    listed,
    message,
    note_of,
    ready,
    refusal,
    replaced,
    status_of,
    written,
)
from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.known import Issue, Known, Limits, ReadToken, Wait
from vercel_certificate_operator.core.record import Issuance, names_hash
from vercel_certificate_operator.core.source import Source

A, B = ["example.com"], ["b.com"]


def issuances(*times: datetime, cns: list[str] = A) -> tuple[Issuance, ...]:
    return tuple(Issuance(time=time, names_hash=names_hash(cns)) for time in times)


def changed(entry: Issuance, **changes: Any) -> Issuance:
    return entry.model_copy(update=changes)


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


# --- lost attempts ----------------------------------------------------------------------------------------------------

LOST = tuple(changed(entry, lost_in="team_a") for entry in issuances(*(NOW - n * HOUR for n in range(1, 6))))
"""Five answers were lost, and no certificate appeared."""
SHOWN = cert("cert_9", created=NOW - 3 * HOUR, lifetime=4 * HOUR)
"""It appears late, and expires too soon to be used."""


def test_lost_attempts_that_a_list_proves_to_have_issued_nothing_do_not_count() -> None:
    assert isinstance(decide(asking(LOST)).action, Issue)
    assert isinstance(decide(asking((*LOST, *FIVE[:4]))).action, Issue)
    assert decide(asking((*LOST, *FIVE))).action == Wait(NOW + DAY), "five others"


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"listing": listed(SHOWN)}, id="the list has a certificate with these names"),
        pytest.param({"listing": listed(replace(SHOWN, cns=frozenset({*A, "www.example.com"})))}, id="with more names"),
        pytest.param({"listing": listed(replace(SHOWN, created_at=None, expires_at=None))}, id="of unknown age"),
        pytest.param({"scope": OTHER_TEAM}, id="the list is of another team"),
        pytest.param({"scope": PERSONAL, "token_hash": "t2"}, id="the list is of another account"),
    ],
)
def test_other_lost_attempts_count(more: dict[str, Any]) -> None:
    assert led_to(asking(LOST, **more), *more.get("listing", listed()))[1].policy == "issuances_are_limited"


def test_without_a_list_lost_attempts_count() -> None:
    facts = asking(LOST, listing=None, failed=failing("list", refusal(404), until=NOW + HOUR))
    decision = decide(facts)
    assert decision.policy == "issuances_are_limited"
    assert decision.action == Wait(NOW + HOUR), "then another list may prove it"
    assert message(decision, "Issuing").endswith("no longer count. Next attempt: 2026-01-08T07:00:00Z.")


def test_a_list_proves_nothing_in_the_ten_minutes_in_which_a_certificate_may_be_missing_from_it() -> None:
    entries = tuple(changed(entry, time=NOW) for entry in LOST)
    assert decide(asking(entries)).action == Wait(NOW + 10 * MINUTE)
    later = NOW + 10 * MINUTE
    assert isinstance(decide(asking(entries, now=later, listing=listed(begun=later))).action, Issue)


def test_certificates_whose_attempts_count_themselves_explain_no_lost_attempt() -> None:
    current = cert("cert_8", created=NOW - 3 * HOUR, lifetime=4 * HOUR)
    entries = tuple(changed(entry, time=NOW - 2 * HOUR) for entry in LOST)
    facts = known(status=ready(current, issuances=entries, superseded=replaced("cert_9", since=NOW)))
    assert isinstance(led_to(facts, current, SHOWN)[1].action, Issue)
    facts = known(status=ready(current, issuances=entries, superseded=replaced("cert_9", since=NOW, origin="Found")))
    assert led_to(facts, current, SHOWN)[1].policy == "issuances_are_limited"


@pytest.mark.parametrize("younger", [cert("cert_9", B), cert("cert_9", B, created=NOW - HOUR)], ids=["old", "young"])
def test_lost_attempts_for_other_names_are_compared_with_certificates_for_those(younger: Certificate) -> None:
    entries = (*(changed(entry, names_hash=names_hash(B)) for entry in LOST[1:]), *issuances(NOW - 6 * HOUR))
    limited = decide(asking(entries, listing=listed(younger))).policy == "issuances_are_limited"
    assert limited is (younger.created_at == NOW - HOUR)


def test_a_lost_upload_counts_while_a_certificate_with_these_names_is_there_however_old_it_is() -> None:
    old = cert("cert_9", created=NOW - 30 * DAY)
    leaf = Source("f1", frozenset(A), NOW - DAY, NOW + 80 * DAY)
    upload: dict[str, Any] = {
        "certificate_secret_ref": {"name": "tls"},
        "source": leaf,
        "existing_certificate": "Ignore",
    }
    assert decide(asking(LOST, listing=listed(old), **upload)).policy == "issuances_are_limited"
    assert isinstance(decide(asking(LOST, **upload)).action, Issue)


def test_whose_list_it_is_is_found_out_first() -> None:
    entries = tuple(changed(entry, lost_in="t1") for entry in LOST)
    facts = asking(entries, scope=PERSONAL)
    assert decide(facts).action == ReadToken()
    assert isinstance(decide(replace(facts, token_read=True, token_hash="t1")).action, Issue)
    assert decide(replace(facts, token_read=True)).action == Wait(NOW - 5 * HOUR + 7 * DAY)


@pytest.mark.parametrize(("team", "place"), [("team_a", "team_a"), (None, "t1")])
def test_a_loss_is_recorded_with_its_place_and_pushes_out_no_issuance(team: str | None, place: str) -> None:
    attempt = attempted(start=NOW - HOUR, team=team, token_hash="t1")
    earlier = (*FIVE, *LOST)
    facts = known(status=status_of(issuances=earlier), attempt=attempt, listing=listed())
    status = written(facts, decide(facts)).resource.status
    assert status.issuances == (
        *LOST[1:],
        Issuance(time=NOW, names_hash=names_hash(A), lost_in=place),
        *FIVE,
    )


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
