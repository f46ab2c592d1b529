"""Rate-limit headers: a call that Vercel would refuse isn't made."""

import pytest

from support.clock import TestClock
from vercel_certificate_operator.budgets import LONGEST, Budgets
from vercel_certificate_operator.vercel.times import Allowance


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def budgets(clock: TestClock) -> Budgets:
    return Budgets(clock)


def test_without_headers_everything_is_allowed(budgets: Budgets) -> None:
    assert budgets.allows("issue", urgent=False)
    assert budgets.used_up_until("issue", urgent=False) is None


def test_when_no_call_is_left_none_is_made_until_the_window_ends(budgets: Budgets, clock: TestClock) -> None:
    budgets.note("issue", Allowance(limit=5, remaining=0, seconds=30))
    assert not budgets.allows("issue", urgent=True)
    assert budgets.used_up_until("issue", urgent=True) == clock.monotonic() + 30
    assert budgets.allows("list", urgent=True), "limits are per kind of call"
    clock.pause(30)
    assert budgets.allows("issue", urgent=True)
    assert budgets.used_up_until("issue", urgent=True) is None


def test_calls_in_flight_may_use_what_is_left(budgets: Budgets) -> None:
    budgets.begin("issue")
    budgets.begin("issue")
    budgets.note("issue", Allowance(limit=5, remaining=2, seconds=30))
    assert not budgets.allows("issue", urgent=True)
    assert budgets.used_up_until("issue", urgent=True) is None, "wait for one of them"
    budgets.end("issue")
    assert budgets.allows("issue", urgent=True)


def test_a_tenth_is_left_for_what_is_urgent(budgets: Budgets) -> None:
    budgets.note("issue", Allowance(limit=100, remaining=10, seconds=30))
    assert budgets.allows("issue", urgent=True)
    assert not budgets.allows("issue", urgent=False)
    assert budgets.used_up_until("issue", urgent=False) is not None
    budgets.note("list", Allowance(limit=9, remaining=1, seconds=30))
    assert budgets.allows("list", urgent=False), "of few, nothing is reserved"


def test_answers_that_arrive_out_of_order_add_nothing(budgets: Budgets) -> None:
    budgets.note("issue", Allowance(limit=5, remaining=0, seconds=30))
    budgets.note("issue", Allowance(limit=5, remaining=3, seconds=31))
    assert not budgets.allows("issue", urgent=True)


def test_the_next_window_is_another_budget(budgets: Budgets) -> None:
    budgets.note("issue", Allowance(limit=5, remaining=0, seconds=1))
    budgets.note("issue", Allowance(limit=5, remaining=4, seconds=60))
    assert budgets.allows("issue", urgent=True)


def test_headers_are_believed_for_five_minutes(budgets: Budgets, clock: TestClock) -> None:
    budgets.note("issue", Allowance(limit=5, remaining=0, seconds=86_400))
    clock.pause(LONGEST)
    assert budgets.allows("issue", urgent=True)
