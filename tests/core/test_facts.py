"""Facts that several rules ask for, where no rule shows them well."""

from datetime import timedelta
from typing import Any

import pytest

from core.building import (
    DAY,
    HOUR,
    NOW,
    SECOND,
    TEAM,
    ConditionValue,
    cert,
    failed,
    failing,
    known,
    listed,
    paused,
    ready,
    refusal,
    tick,
)
from vercel_certificate_operator.core.facts import fresh_list, is_fresh, is_recent, unchanged
from vercel_certificate_operator.core.known import List
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.rules.gates import attempt_is_made
from vercel_certificate_operator.core.rules.needs import need_of


@pytest.mark.parametrize(("was", "is_told_anew"), [("True", True), ("False", False)])
def test_a_report_that_stays_is_in_todays_words_and_time_alone_makes_nothing_ready(
    was: ConditionValue, is_told_anew: bool
) -> None:
    status = ready(cert()).with_condition("Ready", was, "Issued", "As an older version said it.", generation=1, now=NOW)
    condition = unchanged(known(status=status)).condition("Ready")
    assert condition is not None
    assert condition.status == was
    assert (condition.message != "As an older version said it.") == is_told_anew


# --- how old a list may be --------------------------------------------------------------------------------------------

MANY = tuple(cert(f"cert_{number}") for number in range(100))
LIMITED = failed(Reason.RATE_LIMITED, until=NOW - HOUR)


@pytest.mark.parametrize(
    ("certificates", "took", "facts", "age"),
    [
        ((), 0.0, {}, 5.0),
        (MANY[:10], 0.0, {}, 6.0),
        (MANY, 0.0, {}, 60.0),
        (MANY * 11, 0.0, {}, 600.0),
        ((), 10.0, {}, 20.0),
        (MANY * 11, 1000.0, {}, 2000.0),
        ((), 0.0, {"pauses": paused("issue", NOW + HOUR)}, 60.0),
        ((), 0.0, {"status": LIMITED}, 60.0),
        (MANY * 11, 0.0, {"status": LIMITED}, 60.0),
        ((), 40.0, {"status": LIMITED}, 80.0),
        ((), 0.0, {"status": failed(until=NOW - HOUR)}, 5.0),
        ((), 0.0, {"status": LIMITED, "pauses": paused("issue", NOW + HOUR)}, 60.0),
    ],
    ids=[
        "empty",
        "of ten certificates",
        "of a hundred",
        "of a thousand",
        "that took long",
        "that took very long",
        "during a pause",
        "after a rate limit",
        "of a thousand, after a rate limit",
        "that took long, after a rate limit",
        "after another refusal",
        "after a rate limit and during a pause",
    ],
)
def test_an_attempt_is_made_from_a_list_that_is_not_too_old(
    certificates: tuple[Any, ...], took: float, facts: dict[str, Any], age: float
) -> None:
    def of_age(seconds: float) -> Any:
        return known(listing=listed(*certificates, begun=NOW - timedelta(seconds=seconds), took=took), **facts)

    assert is_fresh(of_age(age), of_age(age).listing)
    assert not is_fresh(of_age(age + 1), of_age(age + 1).listing)
    assert fresh_list(of_age(age + 1), TEAM).action == List(tick(NOW) - age, TEAM)


@pytest.mark.parametrize(("took", "age"), [(0.0, 600.0), (299.0, 600.0), (301.0, 602.0)])
def test_what_a_list_shows_may_be_acted_on_for_ten_minutes_or_twice_as_long_as_it_took(took: float, age: float) -> None:
    old, too_old = (listed(begun=NOW - timedelta(seconds=seconds), took=took) for seconds in (age, age + 1))
    assert is_recent(known(), old)
    assert not is_recent(known(), too_old)


@pytest.mark.parametrize(
    ("age", "fails", "known_ids"),
    [(5, False, ()), (5, True, ()), (6, False, ()), (6, True, None), (601, False, None)],
    ids=["fresh", "fresh, and the next one fails", "recent", "recent, and the next one fails", "too old"],
)
def test_an_attempt_relies_on_an_older_list_only_if_no_newer_one_has_failed(
    age: int, fails: bool, known_ids: tuple[str, ...] | None
) -> None:
    """What was issued since by someone else, with an older time of creation, would seem to be the answer."""
    failures = failing("list", refusal(500)) if fails else {}
    facts = known(listing=listed(begun=NOW - age * SECOND), failed=failures, created_at=NOW - DAY)
    need = need_of(facts)
    assert need is not None
    action = attempt_is_made(facts, need).action
    assert action.attempt.known == known_ids  # type: ignore[union-attr]
