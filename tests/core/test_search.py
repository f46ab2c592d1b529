"""An attempt without an answer: searched for in complete lists, until it is found or lost. And what was never sent."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from core.building import (
    DAY,
    DUE,
    HOUR,
    ISSUED_AT,
    MINUTE,
    NEW,
    NOT_SENT,
    NOW,
    OTHER_TEAM,
    READY,
    SECOND,
    TEAM,
    TIMED_OUT,
    answered,
    assert_in_order,
    at,
    attempted,
    cert,
    conditions_of,
    failed,
    failing,
    gone,
    got,
    issued_by,
    known,
    led_to,
    listed,
    message,
    note_of,
    paused,
    ready,
    refusal,
    refused,
    replaced,
    status_of,
    tick,
    written,
)
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.failures import Failure, Fate
from vercel_certificate_operator.core.known import (
    Decision,
    Get,
    Issue,
    Known,
    Limits,
    List,
    RemoveFinalizer,
    Wait,
    Write,
)
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Issuance, names_hash
from vercel_certificate_operator.core.resource import Status

ATTEMPT = attempted()
"""Begun a minute ago."""
START = ATTEMPT.start
SEEN = NOW - 10 * SECOND
"""When this process first saw the attempt of another process."""
FOUND = cert("cert_2", created=NOW - 30 * SECOND)
LONG_AFTER = NOW + HOUR
WITH_WWW = frozenset({"example.com", "www.example.com"})


def searching(**more: Any) -> Known:
    """After a restart: an open attempt, a minute old."""
    return known(**{"attempt": ATTEMPT, "seen": SEEN, **more})


def resolved(before: Known) -> Status:
    """Returns the status once the search has found what came of the attempt, which has to be next."""
    decision = decide(before)
    assert decision.policy == "open_attempt_is_searched_for"
    assert decision.action == Write(closes=True), decision.action
    assert_in_order(before, decision)
    status = written(before, decision).resource.status
    assert status.closed_attempt is not None
    assert status.closed_attempt.id == "attempt-1"
    return status


def outcome(status: Status) -> str | None:
    return status.attempt.outcome if status.attempt else None


def searched(*certificates: Certificate, **more: Any) -> Known:
    """A list of this moment has these, and so have GETs."""
    return searching(**{"listing": listed(*certificates), "got": got(*certificates), **more})


# --- a list first -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(searching(), id="after a restart"),
        pytest.param(searching(suspend=True), id="suspended"),
        pytest.param(searching(deleting=True), id="deleting"),
        pytest.param(searching(generation=2, cns=["other.com"]), id="spec has changed"),
        pytest.param(searching(listing=listed(begun=SEEN - SECOND)), id="with a list from before"),
        pytest.param(searching(status=ready(attempt=ATTEMPT)), id="in a renewal"),
        pytest.param(searching(renew="1"), id="a renewal was requested"),
        pytest.param(searching(adopt="cert_9", may_adopt=True), id="an adoption was requested"),
        pytest.param(searching(scope=OTHER_TEAM), id="the operator's default team has changed"),
    ],
)
def test_an_attempt_without_an_answer_is_searched_for_in_a_new_list(facts: Known) -> None:
    decision = decide(facts)
    assert decision.policy == "open_attempt_is_searched_for"
    assert decision.action == List(tick(SEEN), TEAM), "in the scope that is recorded"


@pytest.mark.parametrize(
    "failure",
    [TIMED_OUT, refusal(500), refusal(409), refusal(400, "validation_running"), Failure(Fate.UNKNOWN, "cut", 429)],
    ids=["time-out", "500", "409", "validation_running", "some proxy's 429"],
)
def test_a_reply_that_leaves_it_open_is_resolved_by_a_list_from_after_it(failure: Failure) -> None:
    facts = known(**refused(failure, at=NOW - SECOND), listing=listed(begun=NOW - 2 * SECOND))
    assert decide(facts).action == List(tick(NOW - SECOND), TEAM)


def test_vercel_is_not_listed_before_it_says_so() -> None:
    """503 with Retry-After: 600."""
    failure = refusal(503, retry_after=10 * MINUTE)
    facts = known(**refused(failure))
    decision = decide(facts)
    assert decision.action == Wait(NOW + 10 * MINUTE)
    assert conditions_of(decision) == (("False", "OutcomeUnknown"), ("True", "OutcomeUnknown"))
    assert decide(at(facts, NOW + 10 * MINUTE - SECOND)).action == Wait(NOW + 10 * MINUTE)
    after = at(facts, NOW + 10 * MINUTE)
    assert decide(after).action == List(tick(NOW + 10 * MINUTE), TEAM)
    assert outcome(resolved(replace(after, listing=listed(begun=after.now)))) == "Lost"


def test_a_stale_reply_to_another_attempt_says_nothing_about_this_one() -> None:
    facts = replace(known(**refused(TIMED_OUT, attempted("attempt-0"))), resource=searching().resource)
    assert decide(facts).policy == "fenced_off_certificate_is_reported"


# --- a candidate ------------------------------------------------------------------------------------------------------


def test_a_list_is_a_hint_and_the_certificate_is_read_before_it_is_taken() -> None:
    facts = searching(listing=listed(cert("cert_0", created=NOW - DAY), FOUND))
    assert decide(facts).action == Get("cert_2", TEAM)
    changed = replace(FOUND, expires_at=NOW + 50 * DAY)
    status = resolved(replace(facts, got=got(changed)))
    assert (status.id, status.expires_at) == ("cert_2", NOW + 50 * DAY), "as the GET says"


def test_the_only_candidate_is_taken_as_issued() -> None:
    before = searched(FOUND)
    decision = decide(before)
    assert conditions_of(decision)[0] == READY
    assert note_of(decision) == ("Normal", "Issued", "Issue")
    assert decision.note is not None
    assert "The answer to the request was lost; the operator found the certificate in Vercel's list." in (
        decision.note.text
    )
    status = resolved(before)
    assert (status.id, status.origin, status.shared_names, outcome(status)) == ("cert_2", "Issued", False, "Issued")
    assert status.issuances == (Issuance(time=NOW, names_hash=names_hash(["example.com"])),)


@pytest.mark.parametrize(
    "created",
    [START, START + HOUR, START - HOUR, START - 2 * HOUR, None],
    ids=["at the start", "after it", "back-dated by an hour", "back-dated by two hours", "of unknown age"],
)
def test_a_candidate_may_be_back_dated_by_its_issuer(created: datetime | None) -> None:
    assert resolved(searched(replace(FOUND, created_at=created))).id == "cert_2"


TOO_OLD = replace(FOUND, created_at=START - 2 * HOUR - SECOND)
MANY = [f"cert_k{number}" for number in range(100)]


@pytest.mark.parametrize(
    ("certificate", "more"),
    [
        pytest.param(TOO_OLD, {"attempt": attempted(known=MANY)}, id="created earlier, and not all were recorded"),
        pytest.param(replace(TOO_OLD, expires_at=NOW), {}, id="created earlier, and expired"),
        pytest.param(replace(TOO_OLD, cns=WITH_WWW), {}, id="created earlier, with more names"),
        pytest.param(FOUND, {"attempt": attempted(known=["cert_2"])}, id="known before"),
        pytest.param(FOUND, {"held_elsewhere": {"cert_2"}}, id="in another status"),
        pytest.param(FOUND, {"status": ready(FOUND)}, id="the current one"),
        pytest.param(FOUND, {"status": ready(superseded=replaced("cert_2"))}, id="a replaced one"),
        pytest.param(replace(FOUND, cns=frozenset({"www.example.com"})), {}, id="with other names"),
        pytest.param(replace(FOUND, cns=frozenset()), {}, id="with no names"),
    ],
)
def test_what_cannot_be_its_outcome_is_not_taken(certificate: Certificate, more: dict[str, Any]) -> None:
    decision = decide(searched(certificate, **more))
    assert isinstance(decision.action, Wait)
    assert conditions_of(decision)[1] == ("True", "OutcomeUnknown")


@pytest.mark.parametrize("created", [TOO_OLD.created_at, START - 40 * DAY], ids=["a little", "far"])
def test_what_is_too_old_is_used_if_nothing_else_is_new_and_never_removed(created: datetime) -> None:
    """A clock was wrong. Without it, a second one would be issued for the same need."""
    old = replace(FOUND, created_at=created)
    status = resolved(searched(old, attempt=attempted(known=MANY[:99])))
    assert (status.id, status.origin, outcome(status)) == ("cert_2", "Found", "Issued")
    status = resolved(searched(old, OTHER))
    assert (status.id, status.origin, outcome(status)) == ("cert_3", "Issued", "Issued")


@pytest.mark.parametrize(
    ("ahead", "many", "created", "taken"),
    [
        (DAY, MANY, START - DAY - 2 * HOUR, True),
        (DAY, MANY, START - DAY - 2 * HOUR - SECOND, False),
        (-DAY, MANY, START - 2 * HOUR, True),
        (DAY, None, START - DAY - 2 * SECOND, True),
        (DAY, None, START - DAY - 3 * SECOND, False),
    ],
)
def test_if_the_clocks_differed_the_one_that_was_behind_says_what_is_too_old(
    ahead: timedelta, many: list[str] | None, created: datetime, taken: bool
) -> None:
    attempt = attempted(known=many, server_start=START - ahead)
    before = searched(replace(FOUND, created_at=created), attempt=attempt)
    if not taken:
        assert isinstance(decide(before).action, Wait)
        return
    status = resolved(before)
    assert (status.id, status.origin) == ("cert_2", "Found")


@pytest.mark.parametrize(("auto_renew", "origin"), [(True, "Issued"), (None, "Issued"), (False, "Found")])
def test_a_certificate_that_someone_may_have_uploaded_meanwhile_is_used_and_never_removed(
    auto_renew: bool | None, origin: str
) -> None:
    """Vercel renews what it has issued by itself; what is uploaded has autoRenew false."""
    status = resolved(searched(replace(FOUND, auto_renew=auto_renew)))
    assert (status.id, status.origin, outcome(status)) == ("cert_2", origin, "Issued")


GRACE = timedelta(seconds=180)


@pytest.mark.parametrize(
    ("created", "origin"),
    [(START + GRACE + 2 * SECOND, "Issued"), (START + GRACE + 3 * SECOND, "Found"), (None, "Found")],
    ids=["while the request may have been in flight", "later", "at an unknown time"],
)
def test_what_was_created_after_the_request_was_over_is_not_its_outcome(created: datetime | None, origin: str) -> None:
    """The operator was down, and a colleague issued it meanwhile."""
    found = replace(FOUND, created_at=created, expires_at=NOW + 90 * DAY)
    status = resolved(searched(found, now=LONG_AFTER, listing=listed(found, begun=LONG_AFTER)))
    assert (status.id, status.origin) == ("cert_2", origin)


def test_what_another_resource_left_at_vercel_is_no_candidate() -> None:
    assert isinstance(decide(searched(FOUND, left_behind={"cert_2": None})).action, Wait)
    assert resolved(searched(FOUND, left_behind={"cert_3": None})).id == "cert_2"


def test_a_superset_that_may_be_the_answer_to_another_resource_is_not_taken() -> None:
    wider = replace(FOUND, cns=WITH_WWW)
    assert isinstance(decide(searched(wider, attempted_elsewhere={WITH_WWW})).action, Wait)
    assert resolved(searched(wider, attempted_elsewhere={FOUND.cns})).id == "cert_2"
    assert resolved(searched(FOUND, attempted_elsewhere={FOUND.cns})).id == "cert_2", "it is for exactly these names"


def test_a_candidate_that_a_get_does_not_find_is_none() -> None:
    facts = searching(listing=listed(FOUND), got=gone("cert_2"))
    assert isinstance(decide(facts).action, Wait)
    assert (
        outcome(resolved(at(facts, LONG_AFTER, listing=listed(FOUND, begun=LONG_AFTER), got=gone("cert_2")))) == "Lost"
    )


OTHER = replace(FOUND, id="cert_3", created_at=NOW)


@pytest.mark.parametrize("order", [(FOUND, OTHER), (OTHER, FOUND)], ids=["youngest last", "youngest first"])
def test_of_several_candidates_the_youngest_is_taken_as_found_and_the_others_are_reported(order: Any) -> None:
    """Nobody can tell which of them the operator requested: so it removes none of them."""
    before = searched(*order)
    decision = decide(before)
    assert note_of(decision) == ("Warning", "Issued", "Issue")
    assert decision.note is not None
    assert "which have the same names and may also be what was requested: cert_2." in decision.note.text
    status = resolved(before)
    assert (status.certificate_ids, status.origin, status.shared_names) == (("cert_3",), "Found", True)


def test_each_of_several_candidates_is_read_first() -> None:
    facts = searching(listing=listed(FOUND, OTHER), got=got(FOUND))
    assert decide(facts).action == Get("cert_3", TEAM)
    assert decide(replace(facts, got=got(OTHER))).action == Get("cert_2", TEAM)


def test_if_only_one_of_several_is_there_it_is_the_only_candidate() -> None:
    facts = searching(listing=listed(FOUND, OTHER), got={**got(FOUND), **gone("cert_3")})
    status = resolved(facts)
    assert (status.id, status.origin) == ("cert_2", "Issued")


@pytest.mark.parametrize(
    ("certificates", "taken"),
    [
        pytest.param([replace(FOUND, cns=WITH_WWW)], ("cert_2", "Found"), id="a single superset"),
        pytest.param([replace(FOUND, cns=WITH_WWW), OTHER], ("cert_3", "Issued"), id="an exact one counts first"),
        pytest.param([replace(FOUND, cns=WITH_WWW), replace(OTHER, cns=WITH_WWW)], None, id="two supersets"),
    ],
)
def test_a_superset_of_the_names_is_taken_only_if_it_is_alone(certificates: Any, taken: tuple[str, str] | None) -> None:
    """Vercel may add names by itself, and somebody else may have issued it: it is never removed."""
    before = searched(*certificates)
    if taken is None:
        assert isinstance(decide(before).action, Wait)
        return
    status = resolved(before)
    assert ((status.id, status.origin), outcome(status)) == (taken, "Issued")


@pytest.mark.parametrize(
    ("certificates", "origin"),
    [
        pytest.param([FOUND], "Found", id="one since the start"),
        pytest.param([replace(FOUND, created_at=START - 2 * SECOND)], "Found", id="within the clocks' tolerance"),
        pytest.param([replace(FOUND, created_at=START - 3 * SECOND)], None, id="one from before"),
    ],
)
def test_without_a_list_before_the_attempt_a_certificate_since_its_start_is_found(
    certificates: Any, origin: str | None
) -> None:
    """Nobody knows what existed before."""
    before = searched(*certificates, attempt=attempted(known=None))
    if origin is None:
        assert isinstance(decide(before).action, Wait)
        return
    status = resolved(before)
    assert (status.id, status.origin, status.shared_names) == ("cert_2", "Found", True)


@pytest.mark.parametrize(
    ("more", "origin"),
    [
        pytest.param({"token_hash": "t1"}, "Issued", id="nobody else has these names"),
        pytest.param({"status": status_of(shared_names=True)}, "Found", id="somebody else's may have been renewed"),
        pytest.param({"token_hash": "t2"}, "Issued", id="another token, in the same team"),
        pytest.param({"token_hash": "t2", "scope": Scope(), "team": None}, "Found", id="a token of another account"),
        pytest.param({"token_hash": "t1", "scope": Scope(), "team": None}, "Issued", id="the same account"),
    ],
)
def test_what_a_search_finds_is_the_operators_only_if_nobody_else_can_have_made_it(
    more: dict[str, Any], origin: str
) -> None:
    attempt = attempted(token_hash="t1", team=more.pop("team", "team_a"))
    status = resolved(searched(FOUND, attempt=attempt, **more))
    assert (status.id, status.origin) == ("cert_2", origin)


@pytest.mark.parametrize(
    ("ahead", "created", "origin"),
    [
        pytest.param(HOUR, START - HOUR + SECOND, "Found", id="by the API server's clock, too late if set back"),
        pytest.param(HOUR, START, "Found", id="by the API server's clock, the request was over"),
        pytest.param(-HOUR, START, "Issued", id="by either clock"),
        pytest.param(-3 * HOUR, START, "Found", id="by the API server's clock, too early"),
        pytest.param(-10 * SECOND, START, "Found", id="by the API server's clock, between the list and the attempt"),
    ],
)
def test_if_the_clocks_differed_a_found_certificate_must_fit_by_both(
    ahead: timedelta, created: datetime, origin: str
) -> None:
    attempt = attempted(listed=START - SECOND, server_start=START - ahead)
    status = resolved(searched(replace(FOUND, created_at=created, expires_at=NOW + 90 * DAY), attempt=attempt))
    assert (status.id, status.origin) == ("cert_2", origin)


@pytest.mark.parametrize(("ahead", "origin"), [(2 * SECOND, "Issued"), (3 * SECOND, "Found")], ids=str)
def test_what_an_attempt_of_the_future_has_found_is_never_removed(ahead: timedelta, origin: str) -> None:
    """It was recorded while a clock was wrong."""
    found = replace(FOUND, created_at=LONG_AFTER)
    attempt = attempted(start=LONG_AFTER + ahead)
    status = resolved(searched(found, attempt=attempt, now=LONG_AFTER, listing=listed(found, begun=LONG_AFTER)))
    assert (status.id, status.origin) == ("cert_2", origin)


@pytest.mark.parametrize(
    ("listing", "taken"),
    [
        pytest.param([replace(DUE, expires_at=NOW + 90 * DAY)], True, id="a later expiry"),
        pytest.param([DUE], False, id="the same expiry"),
        pytest.param(
            [replace(DUE, expires_at=NOW + 25 * DAY + timedelta(milliseconds=9))], False, id="not by a second"
        ),
        pytest.param([replace(DUE, expires_at=None)], False, id="no expiry"),
        pytest.param([replace(DUE, expires_at=NOW + 90 * DAY, cns=frozenset({"b.com"}))], False, id="other names"),
    ],
)
def test_a_renewal_under_the_same_id_is_what_came_of_it(listing: Any, taken: bool) -> None:
    attempt = attempted(known=["cert_1"], reason="RenewalDue")
    before = searched(*listing, status=ready(DUE, origin="Adopted"), attempt=attempt)
    if not taken:
        assert isinstance(decide(before).action, Wait)
        return
    status = resolved(before)
    assert (status.id, status.expires_at, status.origin) == ("cert_1", NOW + 90 * DAY, "Adopted")


def test_a_renewal_without_an_expiry_in_status_is_not_guessed() -> None:
    before = searched(replace(DUE, id="cert_1"), status=ready(cert(lifetime=None)), attempt=attempted(known=["cert_1"]))
    assert isinstance(decide(before).action, Wait)


def test_a_new_certificate_counts_before_a_renewal_under_the_same_id() -> None:
    later = replace(DUE, expires_at=NOW + 90 * DAY)
    attempt = attempted(known=["cert_1"], reason="RenewalDue")
    assert resolved(searched(later, FOUND, status=ready(DUE), attempt=attempt)).id == "cert_2"


def test_an_odd_candidate_is_recorded_as_unexpected() -> None:
    expired = replace(FOUND, expires_at=NOW)
    status = resolved(searched(expired))
    assert (status.id, outcome(status)) == ("cert_2", "Unexpected")


def test_what_is_found_in_the_recorded_scope_stays_in_it() -> None:
    """The operator was restarted with another team during a renewal."""
    assert resolved(searched(FOUND, status=ready(), scope=OTHER_TEAM)).team == "team_a"
    attempt = attempted(team="acme")
    assert decide(searching(attempt=attempt)).action == List(tick(SEEN), Scope(team_slug="acme"))
    assert decide(searching(attempt=attempt, listing=listed(FOUND))).action == Get("cert_2", Scope(team_slug="acme"))


# --- a candidate that can't be read -----------------------------------------------------------------------------------


def unreadable(failure: Failure = TIMED_OUT, *, since: datetime = NOW, **more: Any) -> Known:
    blocked = failing("get", failure, of="cert_2", since=since, until=more.get("now", NOW) + 5 * MINUTE)
    return searching(**{"listing": listed(FOUND, begun=more.get("now", NOW)), "failed": blocked, **more})


def test_a_candidate_that_cannot_be_read_is_read_again_and_the_attempt_stays_open() -> None:
    later = NOW + 59 * MINUTE
    facts = unreadable(now=later)
    decision = decide(facts)
    assert decision.action == Wait(later + 5 * MINUTE), "no list is needed any more"
    assert conditions_of(decision)[1] == ("True", "OutcomeUnknown")


def test_the_next_list_does_not_wait_for_a_candidate() -> None:
    assert decide(unreadable()).action == Wait(NOW + 10 * SECOND)


def test_during_a_pause_a_candidate_is_read_after_it() -> None:
    later = NOW + 59 * MINUTE
    facts = searching(now=later, listing=listed(FOUND, begun=later), pauses=paused("get", later + 10 * MINUTE))
    assert decide(facts).action == Wait(later + 10 * MINUTE)
    both = failing("get", TIMED_OUT, of="cert_2", until=later + 20 * MINUTE)
    assert decide(replace(facts, failed=both)).action == Wait(later + 20 * MINUTE)


@pytest.mark.parametrize(
    ("failure", "counts"),
    [
        (TIMED_OUT, False),
        (refusal(403), False),
        (refusal(500), False),
        (refusal(401), True),
        (refusal(429), True),
        (Failure(Fate.NOT_SENT, "refused"), True),
        (Failure(Fate.NO_TOKEN, "none"), True),
    ],
    ids=["time-out", "403", "500", "401", "429", "not sent", "no token"],
)
def test_after_an_hour_a_candidate_whose_get_always_fails_no_longer_counts(failure: Failure, counts: bool) -> None:
    """But a candidate that can't be asked for, for whatever reason, has not failed."""
    now = NOW + HOUR
    decision = decide(unreadable(failure, since=NOW, now=now))
    assert (decision.action == Write(closes=True)) is not counts
    if not counts:
        assert outcome(resolved(unreadable(failure, since=NOW, now=now))) == "Lost"


def test_a_readable_candidate_does_not_wait_longer_than_that_for_another_one() -> None:
    now = NOW + HOUR
    both = listed(FOUND, OTHER, begun=now)
    waiting = unreadable(now=now - SECOND, listing=both, got=got(OTHER))
    assert isinstance(decide(waiting).action, Wait)
    status = resolved(unreadable(now=now, listing=both, got=got(OTHER)))
    assert (status.id, status.origin) == ("cert_3", "Found")


# --- meanwhile --------------------------------------------------------------------------------------------------------


def test_while_the_outcome_is_unknown_that_is_reported_once_and_lists_become_rare() -> None:
    facts = known(**refused(TIMED_OUT, took=120 * SECOND), listing=listed(begun=NOW))
    waits, notes = [], 0
    while True:
        decision = decide(facts)
        assert_in_order(facts, decision)
        if decision.action == Write(closes=True):
            break
        notes += note_of(decision) == ("Warning", "OutcomeUnknown", "Issue")
        assert isinstance(decision.action, Wait)
        assert decision.action.until is not None
        assert conditions_of(decision) == (("False", "OutcomeUnknown"), ("True", "OutcomeUnknown"))
        assert "no answer within 120 s" in message(decision, "Issuing")
        assert "If none appears by 2026-01-01T12:01:00Z, the operator requests another one." in (
            message(decision, "Issuing")
        )
        waits.append(decision.action.until - facts.now)
        facts = at(written(facts, decision), decision.action.until)
        assert isinstance(decide(facts).action, List)
        facts = replace(facts, listing=listed(begun=facts.now))
    assert waits[0] == 5 * SECOND
    assert all(later >= earlier for earlier, later in pairwise(waits[:-1]))
    assert notes == 1
    assert facts.now == NOW + MINUTE
    assert len(waits) < 10


@pytest.mark.parametrize(
    ("begun", "took", "next_list"),
    [
        pytest.param(NOW, 0.0, NOW + 5 * SECOND, id="the first"),
        pytest.param(NOW, 4.0, NOW + 8 * SECOND, id="twice as long as the last one took"),
        pytest.param(NOW + 20 * SECOND, 0.0, NOW + 40 * SECOND, id="twice the time"),
        pytest.param(NOW + 40 * SECOND, 0.0, NOW + MINUTE, id="the grace period's end"),
        pytest.param(NOW + 40 * SECOND, 15.0, NOW + 70 * SECOND, id="but never sooner than a list allows"),
    ],
)
def test_lists_start_no_sooner_than_twice_the_last_ones_duration_apart(
    begun: datetime, took: float, next_list: datetime
) -> None:
    facts = known(**refused(TIMED_OUT, took=120 * SECOND), now=begun, listing=listed(begun=begun, took=took))
    assert decide(facts).action == Wait(next_list)
    again = replace(facts, now=next_list, tick=tick(next_list))
    assert decide(again).action == List(tick(next_list), TEAM)


def test_what_is_unknown_after_a_restart_is_said_in_other_words() -> None:
    decision = decide(searching(listing=listed()))
    text = message(decision, "Issuing")
    assert text.startswith("It is not known yet whether Vercel issued a certificate for example.com: the request was ")
    assert "interrupted" in text
    assert decision.status is not None
    assert decision.status.next_attempt_time == SEEN + 3 * MINUTE


def test_a_proxys_answer_does_not_hide_what_happens_next() -> None:
    decision = decide(known(**refused(Failure(Fate.UNKNOWN, "some proxy's page", 429)), listing=listed()))
    assert "some proxy's page (HTTP 429)" in message(decision, "Issuing")
    assert "the operator checks whether Vercel issued the certificate" in message(decision, "Issuing")
    assert "rate limit" not in message(decision, "Issuing")


def test_a_deletion_says_for_what_it_waits() -> None:
    text = message(decide(searching(deleting=True, listing=listed())), "Issuing")
    assert "Deletion waits until 2026-01-01T12:02:50Z in case Vercel issued a certificate." in text
    assert "set spec.deletionPolicy to Retain" in text


def test_a_time_that_differs_by_the_clocks_resolution_only_is_not_written_again() -> None:
    facts = searching(listing=listed())
    before = written(facts, decide(facts))
    for shift in (SECOND, 2 * SECOND):
        decision = decide(replace(before, now=NOW + shift))
        assert decision.status is not None
        assert decision.status.next_attempt_time == before.resource.status.next_attempt_time
    moved = decide(replace(before, now=NOW + 3 * SECOND)).status
    assert moved is not None
    assert moved.next_attempt_time == SEEN + 3 * MINUTE + 3 * SECOND


def test_ready_stays_true_while_a_renewal_is_searched_for() -> None:
    decision = decide(searching(status=ready(DUE), listing=listed(DUE)))
    assert conditions_of(decision) == (READY, ("True", "OutcomeUnknown"))


# --- lost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "grace_end"),
    [
        pytest.param(searching(), SEEN + 180 * SECOND, id="another process's: POST limit and a minute"),
        pytest.param(searching(limits=Limits(post=timedelta(seconds=10))), SEEN + 70 * SECOND, id="another limit"),
        pytest.param(known(**refused(TIMED_OUT, took=MINUTE)), NOW + 120 * SECOND, id="a time-out, from the start"),
        pytest.param(known(**refused(TIMED_OUT, took=HOUR)), NOW, id="one that took very long"),
        pytest.param(
            known(**refused(refusal(500), took=MINUTE)), NOW + 30 * SECOND, id="30 s after Vercel's own error"
        ),
    ],
)
def test_an_attempt_is_lost_only_by_a_list_begun_after_the_grace_period(facts: Known, grace_end: datetime) -> None:
    now = max(grace_end, NOW) + SECOND
    if grace_end > NOW:
        early = at(facts, now, listing=listed(begun=grace_end - timedelta(milliseconds=1)))
        assert isinstance(decide(early).action, Wait | List)
    before = at(facts, now, listing=listed(begun=grace_end))
    decision = decide(before)
    assert conditions_of(decision) == (("False", "AttemptLost"),) * 2
    assert "Next attempt" not in message(decision, "Issuing"), "it follows at once"
    assert note_of(decision) == ("Warning", "AttemptLost", "Issue")
    status = resolved(before)
    assert status.attempt is not None
    assert (status.attempt.outcome, status.attempt.outcome_reason) == ("Lost", "AttemptLost")
    assert status.attempt.retry_time == now, "a first loss is not backed off from"
    assert status.failed_attempts == 1
    assert len(status.issuances) == 1, "it counts for the limit: a certificate may exist"
    assert issued_by(before).id != ATTEMPT.id


def test_the_grace_period_runs_on_this_processs_monotonic_clock() -> None:
    """Written by another node whose clock was an hour behind: it may have been sent just now."""
    facts = searching(attempt=attempted(start=NOW - HOUR), seen=NOW, listing=listed())
    assert isinstance(decide(facts).action, Wait)


@pytest.mark.parametrize("ahead", [HOUR, 3650 * DAY, -3650 * DAY], ids=str)
def test_an_attempt_dated_oddly_is_resolved_in_time_all_the_same(ahead: timedelta) -> None:
    attempt = attempted(start=NOW + ahead)
    before = searching(attempt=attempt, now=LONG_AFTER, listing=listed(begun=LONG_AFTER))
    assert outcome(resolved(before)) == "Lost"


@pytest.mark.parametrize("step", [-HOUR, HOUR, -3650 * DAY], ids=str)
@pytest.mark.parametrize("reply", [True, False], ids=["with a reply", "after a restart"])
def test_a_clock_that_steps_neither_delays_nor_loses_anything(reply: bool, step: timedelta) -> None:
    facts = known(**refused(TIMED_OUT)) if reply else searching(seen=NOW)
    facts = replace(facts, now=NOW + step, listing=listed())
    assert decide(facts).action == Wait(facts.now + 5 * SECOND)


@pytest.mark.parametrize(
    ("earlier", "wait"),
    [
        (0, timedelta()),
        (1, 10 * MINUTE),
        (2, 20 * MINUTE),
        (3, 40 * MINUTE),
        (7, 640 * MINUTE),
        (8, 1280 * MINUTE),
        (9, 32 * HOUR),
        (50, 32 * HOUR),
    ],
)
def test_from_the_second_loss_in_a_row_on_there_is_a_back_off(earlier: int, wait: timedelta) -> None:
    attempt = attempted(previous_failures=earlier, previous_reason="AttemptLost")
    before = searching(attempt=attempt, now=LONG_AFTER, listing=listed(begun=LONG_AFTER))
    status = resolved(before)
    until = status.attempt.retry_time if status.attempt else None
    assert until is not None
    assert LONG_AFTER + wait - SECOND <= until <= LONG_AFTER + wait * 1.1
    assert (status.failed_attempts, status.next_attempt_time) == (earlier + 1, until)
    if earlier:
        decision = led_to(replace(before, resource=written(before, decide(before)).resource))[1]
        assert decision.policy == "back_off_is_waited_for"
        assert conditions_of(decision)[1] == ("False", "AttemptLost")


def test_a_loss_after_failures_of_another_kind_is_the_first() -> None:
    attempt = attempted(previous_failures=5, previous_reason="DomainNotFound")
    status = resolved(searching(attempt=attempt, now=LONG_AFTER, listing=listed(begun=LONG_AFTER)))
    assert status.attempt is not None
    assert status.attempt.retry_time == LONG_AFTER
    assert status.failed_attempts == 1


def test_a_loss_in_a_renewal_leaves_ready_as_it_is() -> None:
    before = searching(status=ready(), now=LONG_AFTER, listing=listed(cert(), begun=LONG_AFTER))
    assert conditions_of(decide(before)) == (READY, ("False", "AttemptLost"))


def test_a_lost_attempt_is_deleted_without_another_one() -> None:
    facts = searching(deleting=True, now=LONG_AFTER)
    assert led_to(facts)[1].action == RemoveFinalizer()


def test_without_a_list_the_attempt_stays_open_and_says_so() -> None:
    """Never a blind second POST."""
    facts = searching(now=LONG_AFTER, failed=failing("list", refusal(500), until=LONG_AFTER + MINUTE))
    decision = decide(facts)
    assert decision.policy == "open_attempt_is_searched_for"
    assert decision.action == Wait(LONG_AFTER + MINUTE)
    assert conditions_of(decision)[1] == ("True", "OutcomeUnknown")
    assert "set the annotation vercel-operator.io/renew to a new value" in message(decision, "Issuing")


@pytest.mark.parametrize("status", [404, 500])
def test_without_a_list_the_user_can_end_the_search(status: int) -> None:
    unlisted = failing("list", refusal(status), until=LONG_AFTER + MINUTE)
    assert resolved(searching(now=LONG_AFTER, failed=unlisted, renew="1")).attempt.outcome == "Lost"  # type: ignore[union-attr]


@pytest.mark.parametrize("failure", [refusal(401), refusal(403), refusal(429), NOT_SENT], ids=str)
def test_a_list_that_the_token_or_the_network_prevents_is_waited_for(failure: Failure) -> None:
    unlisted = failing("list", failure, until=LONG_AFTER + MINUTE)
    facts = searching(now=LONG_AFTER, failed=unlisted, renew="1", **refused(refusal(500)))
    assert conditions_of(decide(facts))[1] != ("True", "OutcomeUnknown")


@pytest.mark.parametrize(
    ("answer", "since", "lost"),
    [
        pytest.param(refusal(500), NOW, True, id="Vercel's own error"),
        pytest.param(refusal(500), LONG_AFTER - MINUTE, False, id="the list has failed for a minute only"),
        pytest.param(TIMED_OUT, NOW, False, id="no answer"),
    ],
)
def test_without_a_list_an_error_of_vercels_counts_in_the_end(answer: Failure, since: datetime, lost: bool) -> None:
    unlisted = failing("list", refusal(404), until=LONG_AFTER + MINUTE, since=since)
    decision = decide(searching(now=LONG_AFTER, failed=unlisted, **refused(answer)))
    assert (decision.action == Write(closes=True)) is lost


def unlisted(*, named: Certificate, adopt: str = "cert_9", **more: Any) -> Decision:
    """The list can't be had, and the user names a certificate."""
    fails = failing("list", refusal(500), until=LONG_AFTER + MINUTE)
    facts = {"now": LONG_AFTER, "failed": fails, "got": got(named, at=LONG_AFTER), "adopt": adopt, "may_adopt": True}
    return decide(searching(**facts | more))


def test_without_a_list_the_user_can_name_what_came_of_the_attempt() -> None:
    attempt = attempted(reason="RenewRequested", renew="1")
    decision = unlisted(named=cert("cert_9", created=NOW), status=ready(), attempt=attempt)
    assert decision.action == Write(closes=True)
    status = decision.status
    assert status is not None
    assert status.attempt is not None
    assert (status.id, status.origin, status.attempt.outcome) == ("cert_9", "Adopted", "Issued")
    assert status.last_renew_request == "1", "it is the answer to the request"
    assert len(status.issuances) == 1
    assert note_of(decision) == ("Normal", "Adopted", "Adopt")


@pytest.mark.parametrize(("later", "is_the_outcome"), [(SECOND, True), (timedelta(), False), (-SECOND, False)])
def test_naming_the_current_certificate_says_that_it_was_renewed_in_place(
    later: timedelta, is_the_outcome: bool
) -> None:
    named = cert(lifetime=90 * DAY + later)
    decision = unlisted(named=named, adopt="cert_1", status=ready())
    closes = isinstance(decision.action, Write) and decision.action.closes
    assert closes is is_the_outcome


def test_a_certificate_that_is_refused_is_no_outcome() -> None:
    decision = unlisted(named=cert("cert_9", ["other.example.com"], created=NOW), status=ready())
    assert decision.action == Write()
    assert decision.status is not None
    assert decision.status.open_attempt is not None
    assert note_of(decision) == ("Warning", "AdoptionRefused", "Adopt")


# --- never sent, fenced off, in flight --------------------------------------------------------------------------------


def test_an_attempt_that_was_never_sent_is_void_without_a_search() -> None:
    facts = searching(void_attempts={"attempt-1"}, status=ready(DUE, failed_attempts=2))
    decision = decide(facts)
    assert decision.policy == "void_attempt_is_recorded"
    assert decision.action == Write(closes=True)
    assert_in_order(facts, decision)
    status = written(facts, decision).resource.status
    assert status.attempt is not None
    assert (status.attempt.outcome, status.attempt.retry_time) == ("Void", None)
    assert (status.failed_attempts, status.issuances) == (2, ())
    assert issued_by(facts, DUE).reason == Reason.RENEWAL_DUE


def test_a_void_attempt_is_recorded_once() -> None:
    closed = attempted(outcome="Void")
    assert decide(searching(attempt=closed, void_attempts={"attempt-1"})).policy != "void_attempt_is_recorded"


NEWER = attempted("attempt-2", start=NOW)


def fenced_off(**more: Any) -> Known:
    """The answer to an attempt in whose place another one is recorded."""
    return known(**{**answered(NEW), "attempt": NEWER, **more})


def test_a_certificate_of_an_attempt_that_was_replaced_is_reported_and_left_to_the_user() -> None:
    decision = decide(fenced_off())
    assert decision.policy == "fenced_off_certificate_is_reported"
    assert (decision.action, decision.status) == (Write(), None)
    assert note_of(decision) == ("Warning", "OrphanedCertificate", "List")
    assert decision.note is not None
    assert decision.note.text == (
        "Certificate cert_2 for example.com exists at Vercel and no resource uses it. Remove it at Vercel if you don't "
        "need it."
    )


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"status": ready(NEW)}, id="in this status"),
        pytest.param({"status": ready(superseded=replaced("cert_2"))}, id="among the replaced ones"),
        pytest.param({"held_elsewhere": {"cert_2"}, "status": ready()}, id="in another status"),
        pytest.param(refused(TIMED_OUT) | {"attempt": NEWER}, id="none was issued"),
    ],
)
def test_what_is_in_a_status_is_not_reported(facts: dict[str, Any]) -> None:
    decision = decide(fenced_off(**facts))
    assert decision.policy == "fenced_off_certificate_is_reported"
    assert (decision.action, decision.status, decision.note) == (Write(), None, None)


def test_while_an_answer_is_awaited_nothing_else_happens() -> None:
    facts = known(attempt=ATTEMPT, status=status_of(issuing=("True", "FirstIssue")), in_flight=True, cns=["b.com"])
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("attempt_in_flight_is_waited_for", Wait(None))
    assert decide(
        replace(facts, resource=known(status=ready(NEW), attempt=ATTEMPT, deleting=True).resource)
    ).policy == ("attempt_in_flight_is_waited_for")


def test_a_resource_about_which_nothing_is_known_says_that_it_has_no_certificate() -> None:
    decision = decide(known(attempt=ATTEMPT, status=status_of(), in_flight=True))
    assert conditions_of(decision) == (("False", "FirstIssue"),) * 2
    assert message(decision, "Ready") == message(decision, "Issuing") == "No certificate has been issued yet."


def test_ready_stays_true_while_an_answer_is_awaited_though_other_names_are_wanted_by_now() -> None:
    status = ready(issuing=("True", "RenewalDue"))
    decision = decide(known(status=status, attempt=ATTEMPT, in_flight=True, cns=["b.com"], generation=2))
    assert conditions_of(decision) == (READY, ("True", "RenewalDue"))
    assert decision.status is not None
    assert decision.status.observed_generation == 1


def test_ready_becomes_false_in_time_while_an_answer_is_awaited() -> None:
    soon = cert(created=NOW - 90 * DAY + MINUTE)
    facts = known(status=ready(soon, issuing=("True", "RenewalDue")), attempt=ATTEMPT, in_flight=True)
    assert decide(facts).action == Wait(NOW + MINUTE)
    decision = decide(replace(facts, now=NOW + MINUTE))
    assert conditions_of(decision) == (("False", "RenewalDue"), ("True", "RenewalDue"))
    assert decision.action == Wait(None)


def test_a_search_comes_before_everything_that_could_issue() -> None:
    status = failed(until=NOW - HOUR, attempt=attempted("attempt-0"))
    facts = searching(status=status, cns=["b.com"], renew="1", listing=listed(begun=NOW))
    assert not isinstance(decide(facts).action, Issue)
    assert ISSUED_AT < START
