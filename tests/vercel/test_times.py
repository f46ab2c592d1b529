"""Times in answers: how long to wait, and where that is said."""

import email.utils
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vercel_certificate_operator.vercel.times import LONGEST_WAIT, Allowance, allowance, http_date, retry_after

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
VERCEL_NOW = NOW + timedelta(hours=1)


def http(time: datetime) -> str:
    return email.utils.format_datetime(time, usegmt=True)


def epoch(time: datetime) -> str:
    return str(int(time.timestamp()))


DATED = {"date": http(VERCEL_NOW)}


@pytest.mark.parametrize(
    ("status", "headers", "error", "seconds"),
    [
        (429, {}, {}, None),
        (429, {"retry-after": "7"}, {}, 7),
        (503, {"retry-after": " 7.5 "}, {}, 7.5),
        (429, {"retry-after": http(NOW + timedelta(seconds=9))}, {}, 9),
        (429, {"retry-after": http(VERCEL_NOW + timedelta(seconds=9)), **DATED}, {}, 9),
        (429, {"x-ratelimit-reset": epoch(NOW + timedelta(seconds=11))}, {}, 11),
        (429, {"x-ratelimit-reset": epoch(VERCEL_NOW + timedelta(seconds=11)), **DATED}, {}, 11),
        (429, {"x-ratelimit-reset": epoch(NOW + timedelta(seconds=11)) + "000"}, {}, 11),
        (400, {"x-ratelimit-reset": epoch(NOW + timedelta(seconds=11))}, {}, None),
        (429, {}, {"retryAfterMs": 13_000}, 13),
        (429, {}, {"retryAfterMs": "13000"}, 13),
        (403, {}, {"retryAfter": 17}, 17),
        # the order
        (429, {"retry-after": "7", "x-ratelimit-reset": epoch(NOW), **DATED}, {"retryAfterMs": 1, "retryAfter": 2}, 7),
        (429, {"x-ratelimit-reset": epoch(NOW + timedelta(seconds=11))}, {"retryAfterMs": 1, "retryAfter": 2}, 11),
        (429, {}, {"retryAfterMs": 13_000, "retryAfter": 2}, 13),
        # what can't be read leaves it to the next
        (429, {"retry-after": "soon"}, {"retryAfter": 17}, 17),
        (429, {"retry-after": "nan"}, {"retryAfter": 17}, 17),
        (429, {"retry-after": "inf"}, {"retryAfter": 17}, 17),
        (429, {"retry-after": "1_0"}, {"retryAfter": 17}, 17),
        (429, {"retry-after": ""}, {"retryAfter": 17}, 17),
        (429, {"x-ratelimit-reset": "30"}, {"retryAfter": 17}, 17),
        (429, {}, {"retryAfterMs": float("nan"), "retryAfter": 17}, 17),
        (429, {}, {"retryAfterMs": True, "retryAfter": 17}, 17),
        (429, {}, {"retryAfterMs": 10**400, "retryAfter": 17}, 17),
        (429, {}, {"retryAfterMs": None, "retryAfter": float("inf")}, None),
        # bounds
        (429, {"retry-after": "0"}, {}, 0),
        (429, {"retry-after": "-5"}, {"retryAfter": 17}, 0),
        (429, {"retry-after": http(NOW - timedelta(hours=5))}, {}, None),
        (429, {"retry-after": http(NOW - timedelta(hours=5))}, {"retryAfter": 17}, 17),
        (429, {"x-ratelimit-reset": epoch(NOW - timedelta(hours=5))}, {}, None),
        (429, {"x-ratelimit-reset": epoch(NOW)}, {}, None),
        (429, {"x-ratelimit-reset": epoch(NOW)}, {"limit": {"reset": epoch(NOW + timedelta(seconds=11))}}, 11),
        (429, {"retry-after": "99999999999999999999"}, {}, LONGEST_WAIT),
        (429, {"retry-after": http(NOW + timedelta(days=5))}, {}, LONGEST_WAIT),
        (429, {}, {"retryAfterMs": 1e300}, LONGEST_WAIT),
        (429, {}, {"retryAfter": 10**100}, LONGEST_WAIT),
    ],
)
def test_how_long_to_wait_is_read_from_wherever_it_is_said(
    status: int, headers: dict[str, str], error: dict[str, Any], seconds: float | None
) -> None:
    assert retry_after(status, headers, error, NOW) == seconds


@pytest.mark.parametrize(
    ("clocks", "dated", "seconds"),
    [
        ([timedelta()], False, 60),
        ([timedelta(hours=5)], False, None),
        ([timedelta(hours=5), timedelta()], False, 60),
        ([timedelta(hours=-5), timedelta()], False, 60),
        ([timedelta(), timedelta(hours=5)], False, 60),
        ([timedelta(), timedelta(hours=-5)], False, 60),
        ([timedelta(hours=5), timedelta(hours=6)], False, None),
        ([timedelta(hours=5)], True, 60),
        ([timedelta(hours=5), timedelta(seconds=50)], True, 10),
    ],
)
@pytest.mark.parametrize("where", ["retry-after", "x-ratelimit-reset", "body"])
def test_of_clocks_that_differ_the_one_by_which_a_time_comes_first_counts(
    clocks: list[timedelta], dated: bool, seconds: float | None, where: str
) -> None:
    """One of them is wrong. Otherwise the operator would wait for hours, or not at all."""
    then = NOW + timedelta(seconds=60)
    headers = {"retry-after": {"retry-after": http(then)}, "x-ratelimit-reset": {"x-ratelimit-reset": epoch(then)}}
    error = {"limit": {"resetMs": epoch(then) + "000"}} if where == "body" else {}
    date = {"date": http(NOW)} if dated else {}
    shown = [NOW + offset for offset in clocks]
    assert retry_after(429, {**headers.get(where, {}), **date}, error, *shown) == seconds


@given(st.text(), st.text(), st.text(), st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()))
def test_no_answer_makes_the_wait_endless_or_negative(wait: str, reset: str, date: str, field: object) -> None:
    headers = {"retry-after": wait, "x-ratelimit-reset": reset, "date": date}
    seconds = retry_after(429, headers, {"retryAfterMs": field, "retryAfter": field}, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_WAIT


@pytest.mark.parametrize(
    "value",
    ["Thu, 01 Jan 2026 12:00:00 GMT", "Thursday, 01-Jan-26 12:00:00 GMT", "Thu Jan  1 12:00:00 2026"],
    ids=["current", "RFC 850", "asctime"],
)
def test_the_three_forms_of_http_dates_are_read(value: str) -> None:
    assert http_date(value) == NOW


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "x",
        "0",
        "Mon, 99999999999999999999 Jan 2026 12:00:00 GMT",
        "Mon, 31 Dec 9999 23:59:59 -2359",
        "Mon, 01 Jan 2026 00:00:00 +999999999999",
        "Mon, 32 Foo 2026 25:61:61 GMT",
    ],
)
def test_what_is_no_date_is_none(value: str | None) -> None:
    assert http_date(value) is None


# --- rate-limit headers -----------------------------------------------------------------------------------------------


def left(limit: str = "100", remaining: str = "7", reset: str = epoch(VERCEL_NOW + timedelta(seconds=11))) -> Any:
    return {"x-ratelimit-limit": limit, "x-ratelimit-remaining": remaining, "x-ratelimit-reset": reset}


def test_rate_limit_headers_say_how_many_requests_are_left_and_for_how_long() -> None:
    assert allowance({**left(), **DATED}, NOW) == Allowance(100, 7, 11.0)
    assert allowance(left(reset=epoch(NOW + timedelta(seconds=3))), NOW) == Allowance(100, 7, 3.0)
    assert allowance(left(reset=epoch(NOW - timedelta(seconds=3))), NOW) is None, "that window has ended"
    assert allowance(left(reset=epoch(NOW)), NOW) is None
    clocks = NOW + timedelta(hours=1), NOW, NOW - timedelta(hours=1)
    assert allowance(left(reset=epoch(NOW + timedelta(seconds=3))), *clocks) == Allowance(100, 7, 3.0)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-limit": "100", "x-ratelimit-remaining": "7"},
        left(limit="0", remaining="0"),
        left(remaining="-1"),
        left(remaining="101"),
        left(limit="many"),
        left(reset="soon"),
        left(reset="12"),
    ],
    ids=str,
)
def test_rate_limit_headers_that_make_no_sense_say_nothing(headers: dict[str, str]) -> None:
    assert allowance(headers, NOW) is None
