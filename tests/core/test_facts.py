"""Facts that several rules ask for, where no rule shows them well."""

from datetime import timedelta
from typing import Any

import pytest

from core.building import (
    DAY,
    NOW,
    SECOND,
    ConditionValue,
    cert,
    known,
    listed,
    ready,
)
from vercel_certificate_operator.core.facts import is_fresh, is_recent, unchanged
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


@pytest.mark.parametrize(
    ("certificates", "took", "age"),
    [
        ((), 0.0, 5.0),
        (MANY[:10], 0.0, 6.0),
        (MANY, 0.0, 60.0),
        (MANY * 11, 0.0, 600.0),
        ((), 10.0, 20.0),
        (MANY * 11, 1000.0, 2000.0),
    ],
    ids=[
        "empty",
        "of ten certificates",
        "of a hundred",
        "of a thousand",
        "that took long",
        "that took very long",
    ],
)
def test_an_attempt_is_made_from_a_list_that_is_not_too_old(
    certificates: tuple[Any, ...], took: float, age: float
) -> None:
    def of_age(seconds: float) -> Any:
        return known(listing=listed(*certificates, begun=NOW - timedelta(seconds=seconds), took=took))

    assert is_fresh(of_age(age), of_age(age).listing)
    assert not is_fresh(of_age(age + 1), of_age(age + 1).listing)


@pytest.mark.parametrize(("took", "age"), [(0.0, 600.0), (299.0, 600.0), (301.0, 602.0)])
def test_what_a_list_shows_may_be_acted_on_for_ten_minutes_or_twice_as_long_as_it_took(took: float, age: float) -> None:
    old, too_old = (listed(begun=NOW - timedelta(seconds=seconds), took=took) for seconds in (age, age + 1))
    assert is_recent(known(), old)
    assert not is_recent(known(), too_old)


@pytest.mark.parametrize(("age", "known_ids"), [(5, ()), (6, None)], ids=["fresh", "older"])
def test_an_attempt_relies_on_no_list_that_is_too_old(age: int, known_ids: tuple[str, ...] | None) -> None:
    """What was issued since by someone else, with an older time of creation, would seem to be the answer."""
    facts = known(listing=listed(begun=NOW - age * SECOND), created_at=NOW - DAY)
    need = need_of(facts)
    assert need is not None
    action = attempt_is_made(facts, need).action
    assert action.attempt.known == known_ids  # type: ignore[union-attr]
