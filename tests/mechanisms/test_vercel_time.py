"""Vercel's time: from its Date headers and the monotonic clock, whatever the local wall clock does."""

from datetime import timedelta

import pytest

from support.clock import START, TestClock
from vercel_certificate_operator.vercel_time import VercelTime

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def time(clock: TestClock) -> VercelTime:
    return VercelTime(clock)


def http(clock: TestClock, offset: timedelta = timedelta()) -> str:
    return (clock.now() + offset).strftime("%a, %d %b %Y %H:%M:%S GMT")


def test_before_any_answer_it_is_the_local_time(clock: TestClock, time: VercelTime) -> None:
    assert (time.now(), time.offset) == (START, timedelta())
    clock.step(3600)
    assert time.now() == START + HOUR


def test_before_vercels_first_answer_it_is_the_api_servers_time(clock: TestClock, time: VercelTime) -> None:
    time.kubernetes_said(http(clock, HOUR))
    assert time.now() == START + HOUR
    time.vercel_said(-HOUR)
    time.kubernetes_said(http(clock, HOUR))
    assert time.now() == START - HOUR


@pytest.mark.parametrize("seconds", [3600, -3600, 365 * 86_400])
@pytest.mark.parametrize("offset", [timedelta(), HOUR, -DAY])
async def test_a_step_of_the_local_clock_changes_nothing(
    clock: TestClock, time: VercelTime, offset: timedelta, seconds: float
) -> None:
    time.vercel_said(offset)
    clock.step(seconds)
    assert time.now() == START + offset
    assert time.offset == offset - timedelta(seconds=seconds)
    await clock.advance(60)
    time.vercel_said(offset - timedelta(seconds=seconds))
    assert time.now() == START + offset + timedelta(minutes=1)


@pytest.mark.parametrize(("took", "back"), [(10, 0), (0, 10)], ids=["it was on its way", "Vercel's clock was set back"])
def test_a_date_is_late_if_the_answer_was_on_its_way(clock: TestClock, time: VercelTime, took: int, back: int) -> None:
    time.vercel_said(timedelta())
    time.vercel_said(timedelta(seconds=-10), timedelta(seconds=took))
    assert time.now() == START - timedelta(seconds=back)


def test_the_earliest_time_that_it_can_be_at_vercel_is_by_the_date_that_was_least_late(
    clock: TestClock, time: VercelTime
) -> None:
    """Dates are rounded down, and answers take a while. So a date is never ahead."""
    for seconds in (-0.9, -0.1, -0.5):
        time.vercel_said(timedelta(seconds=seconds))
    assert time.at_least() == START - timedelta(seconds=0.1)
    clock.pause(1000)
    assert time.at_least() == START + timedelta(seconds=1000 - 0.1 - 0.1), "the monotonic clock may be a little fast"
    time.vercel_said(-HOUR)
    assert time.at_least() <= START + timedelta(seconds=1000) - HOUR


def test_it_goes_on_with_the_monotonic_clock(clock: TestClock, time: VercelTime) -> None:
    time.vercel_said(HOUR)
    clock.pause(90.5)
    assert time.now() == START + HOUR + timedelta(seconds=90.5)


@pytest.mark.parametrize(
    ("said", "then"), [(HOUR + timedelta(seconds=2), HOUR), (HOUR + timedelta(seconds=3), HOUR + timedelta(seconds=3))]
)
def test_what_is_within_the_resolution_of_a_date_header_changes_nothing(
    time: VercelTime, said: timedelta, then: timedelta
) -> None:
    time.vercel_said(HOUR)
    time.vercel_said(said)
    assert time.now() == START + then


def test_a_local_clock_that_is_right_is_used_to_the_fraction_of_a_second(clock: TestClock, time: VercelTime) -> None:
    clock.step(0.25)
    time.vercel_said(timedelta(seconds=-1.25))
    assert time.now() == clock.now()


@pytest.mark.parametrize(("offset", "text"), [(HOUR, "1h behind"), (-HOUR, "1h ahead of"), (timedelta(minutes=5), "")])
def test_a_local_clock_that_is_wrong_is_reported_once(
    time: VercelTime, caplog: pytest.LogCaptureFixture, offset: timedelta, text: str
) -> None:
    time.vercel_said(offset)
    time.vercel_said(offset + timedelta(seconds=1))
    assert len(caplog.records) == bool(text)
    assert text in caplog.text


def test_a_difference_of_a_day_between_vercel_and_the_api_server_is_a_skew(clock: TestClock, time: VercelTime) -> None:
    time.vercel_said(-HOUR)
    assert time.skew is None
    time.kubernetes_said(http(clock, 23 * HOUR))
    assert time.skew == -DAY
    clock.step(-7200)
    assert time.skew == -DAY, "both are as before"
    time.kubernetes_said(http(clock, 3 * HOUR))
    assert time.skew is None


async def test_the_api_servers_time_is_known_if_it_differs_from_vercels(clock: TestClock, time: VercelTime) -> None:
    time.kubernetes_said(http(clock, HOUR))
    assert time.server_now is None, "Vercel has not said its own"
    time.vercel_said(timedelta())
    await clock.advance(60)
    assert time.server_now == START + HOUR + timedelta(minutes=1)
    assert time.skew is None
    time.kubernetes_said(http(clock, timedelta(seconds=-11)))
    assert time.server_now == clock.now() - timedelta(seconds=11)
    time.kubernetes_said(http(clock, timedelta(seconds=10)))
    assert time.server_now is None, "both headers may be late"
    assert time.by_each_clock() == (time.now(),)
    time.kubernetes_said(http(clock, DAY))
    assert time.by_each_clock() == (time.now(), time.now() + DAY)


async def test_the_api_server_is_silent_if_it_has_not_said_its_time_for_so_long(
    clock: TestClock, time: VercelTime
) -> None:
    assert time.server_is_silent(60)
    time.kubernetes_said(http(clock))
    await clock.advance(59)
    time.kubernetes_said(None)
    assert not time.server_is_silent(60)
    await clock.advance(1)
    assert time.server_is_silent(60)


@pytest.mark.parametrize("header", [None, "", "yesterday"])
def test_a_header_that_is_no_date_says_nothing(time: VercelTime, header: str | None) -> None:
    time.kubernetes_said(header)
    assert time.now() == START
