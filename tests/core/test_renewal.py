"""When a certificate is renewed, and durations."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.building import DAY, HOUR, MINUTE, NOW, SECOND
from vercel_certificate_operator.core.durations import parse_duration, readable
from vercel_certificate_operator.core.failures import fraction
from vercel_certificate_operator.core.renewal import schedule, superseded_rest

LIFETIMES = st.timedeltas(30 * SECOND, 3650 * DAY)
WINDOWS = st.none() | st.integers(1, 8760 * 3600).map(lambda seconds: f"{seconds}s")


@pytest.mark.parametrize("days", [90, 47, 6])
def test_a_certificate_is_renewed_after_two_thirds_of_its_life_whatever_that_is(days: int) -> None:
    lifetime = timedelta(days=days)
    due = schedule(uid="uid", created_at=NOW, expires_at=NOW + lifetime, renew_before=None)
    assert NOW + lifetime * 19 / 30 < due.renewal_time <= NOW + lifetime * 2 / 3
    assert due.note == ""


@pytest.mark.parametrize("days", [90, 47, 6])
def test_renew_before_is_the_window(days: int) -> None:
    lifetime = timedelta(days=days)
    due = schedule(uid="uid", created_at=NOW, expires_at=NOW + lifetime, renew_before="48h")
    assert lifetime - 2.2 * DAY < due.renewal_time - NOW <= lifetime - 2 * DAY
    assert due.note == ""


@pytest.mark.parametrize("renew_before", ["144h", "720h"], ids=["as long as the lifetime", "longer"])
def test_a_renew_before_that_is_not_shorter_than_the_lifetime_gives_a_third_and_a_note(renew_before: str) -> None:
    asked = schedule(uid="u", created_at=NOW, expires_at=NOW + 6 * DAY, renew_before=renew_before)
    without = schedule(uid="u", created_at=NOW, expires_at=NOW + 6 * DAY, renew_before=None)
    assert asked.renewal_time == without.renewal_time
    assert asked.note == (
        f"spec.renewBefore ({renew_before}) is not shorter than the certificate's lifetime (6d), "
        "so a third of the lifetime is used."
    )


@given(LIFETIMES, WINDOWS, st.text())
def test_the_renewal_time_stays_in_its_window(lifetime: timedelta, renew_before: str | None, uid: str) -> None:
    due = schedule(uid=uid, created_at=NOW, expires_at=NOW + lifetime, renew_before=renew_before)
    window = parse_duration(renew_before) if renew_before and not due.note else lifetime / 3
    assert bool(due.note) == (renew_before is not None and parse_duration(renew_before) >= lifetime)
    earliest, latest = NOW + lifetime - 1.1 * window, NOW + lifetime - window
    first_tenth = NOW + lifetime / 10
    assert due.renewal_time >= first_tenth, "never within the first tenth"
    assert due.renewal_time <= NOW + lifetime
    assert due.renewal_time == first_tenth or earliest <= due.renewal_time <= latest


@given(LIFETIMES, st.text(), st.text())
def test_the_jitter_follows_from_the_uid(lifetime: timedelta, uid: str, other: str) -> None:
    assume(fraction(uid) < fraction(other))

    def due(uid: str) -> datetime:
        return schedule(uid=uid, created_at=NOW, expires_at=NOW + lifetime, renew_before=None).renewal_time

    assert due(uid) == due(uid)
    assert due(uid) >= due(other)


def test_a_thousand_certificates_of_one_day_do_not_renew_in_one_second() -> None:
    times = {
        schedule(uid=f"uid-{n}", created_at=NOW, expires_at=NOW + 90 * DAY, renew_before=None).renewal_time
        for n in range(1000)
    }
    seconds = {moment.replace(microsecond=0) for moment in times}
    assert len(seconds) > 990
    assert max(times) - min(times) > 2.5 * DAY


@pytest.mark.parametrize("created_at", [None, NOW + 90 * DAY, NOW + 91 * DAY], ids=["not known", "its expiry", "later"])
@pytest.mark.parametrize("renew_before", [None, "1h", "8760h"])
def test_without_a_usable_creation_time_a_certificate_is_due_at_its_expiry(
    created_at: datetime | None, renew_before: str | None
) -> None:
    due = schedule(uid="u", created_at=created_at, expires_at=NOW + 90 * DAY, renew_before=renew_before)
    assert due.renewal_time == NOW + 90 * DAY
    assert due.lifetime == timedelta()


def test_a_renew_before_that_another_version_wrote_counts_as_none() -> None:
    odd = schedule(uid="u", created_at=NOW, expires_at=NOW + 6 * DAY, renew_before="P2D")
    assert (
        odd.renewal_time == schedule(uid="u", created_at=NOW, expires_at=NOW + 6 * DAY, renew_before=None).renewal_time
    )
    assert "P2D" in odd.note


def test_a_certificate_is_not_renewed_in_the_first_tenth_of_its_lifetime() -> None:
    due = schedule(uid="u", created_at=NOW, expires_at=NOW + 10 * DAY, renew_before="239h")
    assert due.renewal_time == NOW + DAY
    assert due.lifetime == 10 * DAY


@pytest.mark.parametrize(
    ("created_at", "expires_at", "rest"),
    [
        (NOW, NOW + 90 * DAY, 10 * MINUTE),
        (NOW, NOW + 100 * MINUTE, 10 * MINUTE),
        (NOW, NOW + 60 * SECOND, 6 * SECOND),
        (None, NOW + DAY, 10 * MINUTE),
        (NOW, None, 10 * MINUTE),
        (NOW, NOW, 10 * MINUTE),
        (NOW, NOW - DAY, 10 * MINUTE),
    ],
)
def test_a_replaced_certificate_rests_ten_minutes_or_a_tenth_of_the_lifetime(
    created_at: datetime | None, expires_at: datetime | None, rest: timedelta
) -> None:
    assert superseded_rest(created_at, expires_at) == rest


# --- durations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("720h", 30 * DAY),
        ("1h30m", 90 * MINUTE),
        ("90s", 90 * SECOND),
        ("1h1m1s", timedelta(seconds=3661)),
        ("0s", timedelta()),
        ("007m", 7 * MINUTE),
    ],
)
def test_a_duration_is_read(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize(
    "text", ["", "h", "1", "1d", "-1h", "+1h", "1.5h", "1 h", " 1h", "1h ", "1h\n", "1H", "٣h", "1h,2m", "1e3s"]
)
def test_what_is_no_duration_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: use h, m and s, as in 720h, 1h30m or 90s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9" * 20 + "h", "999999999999h"])
def test_a_duration_beyond_all_bounds_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="too long for a duration"):
        parse_duration(text)


@given(st.text())
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        span = parse_duration(text)
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""
        assert span >= timedelta()
    assert not refused or "duration" in refused


@given(st.integers(0, 99_999), st.integers(0, 999_999), st.integers(0, 99_999_999))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == timedelta(hours=hours, minutes=minutes, seconds=seconds)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(), "0s"),
        (-DAY, "0s"),
        (timedelta(milliseconds=400), "0s"),
        (45 * SECOND, "45s"),
        (90 * MINUTE, "1h 30m"),
        (29 * DAY + 3 * HOUR + 5 * MINUTE, "29d 3h"),
        (90 * DAY, "90d"),
        (59.7 * SECOND, "1m"),
    ],
)
def test_a_duration_is_written_in_its_two_largest_units(span: timedelta, text: str) -> None:
    assert readable(span) == text


def test_a_certificate_of_any_age_can_be_scheduled() -> None:
    last = datetime.max.replace(tzinfo=UTC)
    due = schedule(uid="u", created_at=NOW, expires_at=last, renew_before=None)
    assert NOW < due.renewal_time < last
