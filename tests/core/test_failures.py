"""The table of what each failure means, row by row, and the waits that follow from it."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.building import DAY, HOUR, MINUTE, NO_TOKEN, NOT_SENT, SECOND, TIMED_OUT, refusal
from vercel_certificate_operator.core import failures
from vercel_certificate_operator.core.failures import (
    BY_CODE,
    BY_STATUS,
    LONGEST_RETRY_AFTER,
    LONGEST_WAITS,
    OTHER_CALLS,
    Call,
    Failure,
    Fate,
    Meaning,
    Pauses,
    back_off,
    explain,
    fraction,
    issued_nothing,
    meaning,
    wait_after,
)
from vercel_certificate_operator.core.reasons import Reason

ALL_ROWS = [row for row in vars(failures).values() if isinstance(row, Meaning)]

PERMANENT = (Reason.INVALID_REQUEST, 32 * HOUR, 32 * HOUR)
TOKEN = (Reason.CREDENTIALS_INVALID, MINUTE, HOUR)
PAYMENT = (Reason.PAYMENT_REQUIRED, HOUR, 32 * HOUR)
PERMISSION = (Reason.PERMISSION_DENIED, HOUR, 32 * HOUR)
NOT_FOUND = (Reason.DOMAIN_NOT_FOUND, HOUR, 32 * HOUR)
LIMITED = (Reason.RATE_LIMITED, MINUTE, HOUR)
LIMITED_NAMES = (Reason.RATE_LIMITED, HOUR, 32 * HOUR)
NOT_CONFIGURED = (Reason.DOMAIN_NOT_CONFIGURED, MINUTE, HOUR)
UNKNOWN = (Reason.OUTCOME_UNKNOWN, 5 * SECOND, 5 * MINUTE)
UNREACHABLE = (Reason.VERCEL_UNREACHABLE, 2 * SECOND, 5 * MINUTE)

WHAT_VERCEL_SAYS = [
    # by status
    (400, "whatever", PERMANENT),
    (401, "whatever", TOKEN),
    (402, "whatever", PAYMENT),
    (403, "whatever", PERMISSION),
    (404, "whatever", NOT_FOUND),
    (410, "whatever", NOT_FOUND),
    (422, "whatever", PERMANENT),
    (429, "whatever", LIMITED),
    (449, "whatever", NOT_CONFIGURED),
    (408, "whatever", UNKNOWN),
    (409, "whatever", UNKNOWN),
    (500, "whatever", UNKNOWN),
    (502, "whatever", UNKNOWN),
    (503, "whatever", UNKNOWN),
    (504, "whatever", UNKNOWN),
    (599, "whatever", UNKNOWN),
    # codes, under a status of their own kind and under others: the code beats the status
    *(
        (status, code, PERMANENT)
        for code in (
            "bad_domains",
            "invalid_cn",
            "invalid_domain",
            "common_name_domain_name_mismatch",
            "should_share_root_domain",
            "wildcard_not_allowed",
            "unsupported_challenge_priority",
        )
        for status in (400, 403, 500)
    ),
    *((status, "unauthorized_request_error", TOKEN) for status in (400, 401, 403, 500)),
    *((status, code, PERMISSION) for code in ("domain_not_verified", "forbidden") for status in (400, 403, 500)),
    *(
        (status, code, NOT_CONFIGURED)
        for code in ("configuration_error", "conflicting_caa_record", "dns_error", "challenge_error")
        for status in (400, 403, 449, 500)
    ),
    (400, "txt_record_not_found", NOT_CONFIGURED),
    (404, "txt_record_not_found", NOT_CONFIGURED),
    *(
        (status, code, UNKNOWN)
        for code in ("challenge_still_pending", "validation_running")
        for status in (400, 404, 409, 500)
    ),
    *((status, code, LIMITED_NAMES) for code in ("rate_limited", "too_many_requests") for status in (400, 403, 503)),
    # not-found codes go by their status
    (404, "not_found", NOT_FOUND),
    (404, "cert_not_found", NOT_FOUND),
    (404, "cert_order_not_found", NOT_FOUND),
    # 429 concerns the kind of call, whatever the code
    (429, "too_many_requests", LIMITED),
    (429, "configuration_error", LIMITED),
]


@pytest.mark.parametrize(("status", "code", "row"), WHAT_VERCEL_SAYS)
def test_what_vercel_says(status: int, code: str, row: tuple[Reason, timedelta, timedelta]) -> None:
    found = meaning(refusal(status, code))
    assert (found.reason, found.first, found.cap) == row


@pytest.mark.parametrize(
    ("failure", "row"),
    [
        pytest.param(NOT_SENT, UNREACHABLE, id="not sent"),
        pytest.param(TIMED_OUT, UNKNOWN, id="time-out after sending"),
        pytest.param(Failure(Fate.UNKNOWN, "cut short", 200), UNKNOWN, id="an unreadable 2xx"),
        pytest.param(Failure(Fate.UNKNOWN, "a redirect", 307), UNKNOWN, id="a redirect"),
        pytest.param(Failure(Fate.UNKNOWN, "some proxy's page", 403), UNKNOWN, id="a 403 that is not Vercel's"),
        pytest.param(Failure(Fate.UNKNOWN, "some proxy's page", 400), UNKNOWN, id="a 400 that is not Vercel's"),
        pytest.param(Failure(Fate.UNKNOWN, "some proxy's page", 429), LIMITED, id="a 429 that is not Vercel's"),
        pytest.param(
            Failure(Fate.NO_TOKEN, "no key token"), (Reason.CREDENTIALS_INVALID, 5 * SECOND, MINUTE), id="no token"
        ),
    ],
)
def test_what_is_known_of_the_request(failure: Failure, row: tuple[Reason, timedelta, timedelta]) -> None:
    found = meaning(failure)
    assert (found.reason, found.first, found.cap) == row


@given(st.integers(400, 499), st.text())
def test_an_unknown_code_goes_by_its_status(status: int, code: str) -> None:
    if code in BY_CODE:
        return
    found = meaning(refusal(status, code))
    if status == 429:
        assert found.reason is Reason.RATE_LIMITED
    elif status in BY_STATUS:
        assert found is BY_STATUS[status]
    else:
        assert (found.reason, found.first, found.cap) == (Reason.INVALID_REQUEST, HOUR, 32 * HOUR)
        assert issued_nothing(refusal(status, code))


EXACT_SET = Failure(
    Fate.REFUSED,
    "Too many certificates (5) already issued for this exact set of domains in the last 168h0m0s",
    429,
    "too_many_requests",
)


@pytest.mark.parametrize(
    ("call", "failure", "pauses"),
    [
        ("issue", refusal(429), Pauses.CALL),
        ("list", refusal(429), Pauses.CALL),
        ("get", refusal(429, "forbidden"), Pauses.CALL),
        ("issue", Failure(Fate.UNKNOWN, "some proxy's page", 429), Pauses.CALL),
        ("issue", EXACT_SET, Pauses.NOTHING),
        ("issue", Failure(Fate.REFUSED, "Limit for the EXACT SET of Identifiers", 429, "x"), Pauses.NOTHING),
        ("list", EXACT_SET, Pauses.CALL),
        ("issue", refusal(401), Pauses.TOKEN),
        ("get", refusal(401), Pauses.TOKEN),
        ("issue", refusal(403, "unauthorized_request_error"), Pauses.TOKEN),
        ("issue", refusal(403, "forbidden", invalid_token=True), Pauses.TOKEN),
        ("remove", refusal(403, "forbidden", invalid_token=True), Pauses.TOKEN),
        ("list", refusal(403, invalid_token=True), Pauses.TOKEN),
        ("list", refusal(403), Pauses.TOKEN_IN_TEAM),
        ("issue", refusal(403), Pauses.NOTHING),
        ("get", refusal(403), Pauses.NOTHING),
        ("remove", refusal(403), Pauses.NOTHING),
        ("issue", refusal(400, "rate_limited"), Pauses.NOTHING),
        ("issue", refusal(503, "too_many_requests"), Pauses.NOTHING),
        ("issue", refusal(500), Pauses.NOTHING),
        ("issue", NOT_SENT, Pauses.NOTHING),
        ("issue", TIMED_OUT, Pauses.NOTHING),
        ("issue", NO_TOKEN, Pauses.NOTHING),
    ],
)
def test_a_failure_pauses_no_more_than_it_concerns(call: Call, failure: Failure, pauses: Pauses) -> None:
    assert meaning(failure, call).pauses is pauses


def test_a_limit_on_one_exact_set_of_names_concerns_that_set_only() -> None:
    """Let's Encrypt limits certificates for one set of names. Others with the same token may still be issued."""
    row = meaning(EXACT_SET)
    assert (row.reason, row.first, row.cap) == LIMITED_NAMES


def test_a_token_that_vercel_calls_invalid_is_invalid_whatever_the_code() -> None:
    assert meaning(refusal(403, "forbidden", invalid_token=True)).reason is Reason.CREDENTIALS_INVALID
    assert meaning(refusal(400, "invalid_cn", invalid_token=True)).reason is Reason.CREDENTIALS_INVALID
    assert meaning(Failure(Fate.UNKNOWN, "", 403, invalid_token=True)).reason is Reason.OUTCOME_UNKNOWN


def test_the_user_learns_how_a_wildcard_can_be_had() -> None:
    advice = meaning(refusal(400, "wildcard_not_allowed")).advice
    assert "name servers" in advice
    assert "--challenge-only" in advice
    assert meaning(refusal(400, "invalid_cn")).advice.startswith("Change spec.cns")


@pytest.mark.parametrize(
    ("failure", "sure"),
    [
        (NOT_SENT, True),
        (Failure(Fate.NO_TOKEN, "none"), True),
        (TIMED_OUT, False),
        (Failure(Fate.UNKNOWN, "some proxy's page", 400), False),
        (Failure(Fate.UNKNOWN, "some proxy's page", 401), False),
        (Failure(Fate.UNKNOWN, "some proxy's page", 429), False),
        (refusal(400), True),
        (refusal(429), True),
        (refusal(449), True),
        (refusal(409), False),
        (refusal(500), False),
        (refusal(500, "invalid_cn"), True),
        (refusal(400, "validation_running"), False),
        (refusal(400, "challenge_still_pending"), False),
        (refusal(399), False),
        (refusal(418), True),
        (Failure(Fate.REFUSED, "no status"), False),
    ],
)
def test_only_an_error_in_vercels_own_format_proves_that_nothing_was_issued(failure: Failure, sure: bool) -> None:
    assert issued_nothing(failure) is sure


@pytest.mark.parametrize("row", ALL_ROWS, ids=lambda row: f"{row.reason} {row.first}")
def test_waits_double_up_to_their_cap(row: Meaning) -> None:
    for times in range(1, 200):
        pure = min(row.first * 2 ** min(times - 1, 20), row.cap)
        assert pure <= back_off(row, times, "seed") < pure * 1.1
    assert row.first <= row.cap
    assert back_off(row, 0, "seed") >= row.first
    assert back_off(row, 2, "seed") >= min(2 * row.first, row.cap)


@given(st.sampled_from(ALL_ROWS), st.integers(0, 2**40), st.text())
def test_a_wait_is_never_shorter_than_the_first_and_never_much_longer_than_the_cap(
    row: Meaning, failures: int, seed: str
) -> None:
    wait = back_off(row, failures, seed)
    assert row.first <= wait <= row.cap * 1.1
    assert wait == back_off(row, failures, seed)


@given(st.sampled_from(ALL_ROWS), st.integers(1, 100), st.timedeltas(timedelta(), 24 * HOUR))
def test_no_call_is_made_sooner_than_vercel_says_or_at_once(row: Meaning, times: int, said: timedelta) -> None:
    wait = wait_after(row, refusal(429, retry_after=said), times, "seed")
    assert wait >= said
    assert wait >= SECOND
    if row.reason is Reason.RATE_LIMITED and said >= MINUTE:
        assert wait <= said * 1.1
    elif row.reason is not Reason.RATE_LIMITED:
        assert wait >= row.first


def test_resources_that_failed_together_do_not_come_back_together() -> None:
    waits = {back_off(failures.PERMISSION_DENIED, 1, f"attempt-{number}") for number in range(100)}
    assert len(waits) == 100


@pytest.mark.parametrize("retry_after", [None, HOUR], ids=["back-off", "as Vercel says"])
def test_a_wait_is_stretched_by_up_to_a_tenth(retry_after: timedelta | None) -> None:
    failure, row = refusal(429, retry_after=retry_after), failures.RATE_LIMITED
    least = retry_after or row.first
    stretches = [wait_after(row, failure, 1, f"uid-{number}") / least - 1 for number in range(2000)]
    assert 0 <= min(stretches) < 0.001
    assert 0.099 < max(stretches) < 0.1


@given(st.lists(st.text()))
def test_jitter_is_a_fraction_that_follows_from_its_seed(seed: list[str]) -> None:
    assert 0 <= fraction(*seed) < 1
    assert fraction(*seed) == fraction(*seed)


def test_jitter_is_spread_evenly() -> None:
    tenths = [int(fraction(f"uid-{number}") * 10) for number in range(2000)]
    assert all(tenths.count(tenth) > 120 for tenth in range(10))


CALLS: list[Call] = ["get", "list", "remove"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("failure", "reason", "first", "cap"),
    [
        (TIMED_OUT, Reason.VERCEL_UNAVAILABLE, 5 * SECOND, 5 * MINUTE),
        (refusal(500), Reason.VERCEL_UNAVAILABLE, 5 * SECOND, 5 * MINUTE),
        (refusal(409), Reason.VERCEL_UNAVAILABLE, 5 * SECOND, 5 * MINUTE),
        (Failure(Fate.REFUSED, "no status"), Reason.VERCEL_UNAVAILABLE, 5 * SECOND, 5 * MINUTE),
        (refusal(400), Reason.REQUEST_REFUSED, 5 * MINUTE, HOUR),
        (refusal(400, "invalid_cn"), Reason.REQUEST_REFUSED, 5 * MINUTE, HOUR),
        (refusal(400, "validation_running"), Reason.REQUEST_REFUSED, 5 * MINUTE, HOUR),
        (refusal(404), Reason.REQUEST_REFUSED, 5 * MINUTE, HOUR),
        (refusal(499), Reason.REQUEST_REFUSED, 5 * MINUTE, HOUR),
        (refusal(401), *TOKEN),
        (refusal(402), Reason.PAYMENT_REQUIRED, 5 * MINUTE, HOUR),
        (refusal(429), *LIMITED),
        (NOT_SENT, *UNREACHABLE),
        (NO_TOKEN, Reason.CREDENTIALS_INVALID, 5 * SECOND, MINUTE),
        (Failure(Fate.TOO_LONG, "too long"), Reason.LIST_TOO_LONG, 5 * MINUTE, HOUR),
    ],
    ids=str,
)
def test_a_refused_get_list_or_removal_has_its_own_row(
    call: Call, failure: Failure, reason: Reason, first: timedelta, cap: timedelta
) -> None:
    row = meaning(failure, call)
    assert (row.reason, row.first, row.cap) == (reason, first, cap)
    assert "spec.cns" not in row.advice
    assert "before it requests another one" not in row.advice


@pytest.mark.parametrize(
    ("call", "reason"),
    [("get", "PermissionDenied"), ("remove", "PermissionDenied"), ("list", "CredentialsInvalid")],
)
def test_a_403_of_a_list_concerns_the_token_in_this_team(call: Call, reason: str) -> None:
    assert meaning(refusal(403), call).reason == reason


@pytest.mark.parametrize(
    ("reason", "longest"),
    [
        (Reason.INVALID_REQUEST, 32 * HOUR),
        (Reason.PERMISSION_DENIED, 32 * HOUR),
        (Reason.PAYMENT_REQUIRED, 32 * HOUR),
        (Reason.DOMAIN_NOT_FOUND, 32 * HOUR),
        (Reason.ATTEMPT_LOST, 32 * HOUR),
        (Reason.NOT_RENEWED, 32 * HOUR),
        (Reason.RATE_LIMITED, 32 * HOUR),
        (Reason.UNEXPECTED_ANSWER, DAY),
        (Reason.CREDENTIALS_INVALID, DAY),
        (Reason.DOMAIN_NOT_CONFIGURED, DAY),
        (Reason.VERCEL_UNREACHABLE, DAY),
    ],
)
def test_no_wait_is_longer_than_the_longest_of_its_reason(reason: Reason, longest: timedelta) -> None:
    """A recorded time that is further ahead was written while a clock was wrong."""
    assert LONGEST_WAITS[reason] == longest * 1.1


@given(st.sampled_from(ALL_ROWS), st.integers(0, 100), st.none() | st.timedeltas(timedelta(), LONGEST_RETRY_AFTER))
def test_a_wait_that_was_computed_is_never_taken_for_a_clocks_fault(
    row: Meaning, times: int, retry_after: timedelta | None
) -> None:
    if row.reason in LONGEST_WAITS:
        assert wait_after(row, refusal(429, retry_after=retry_after), times, "seed") <= LONGEST_WAITS[row.reason]


@pytest.mark.parametrize("row", ALL_ROWS, ids=lambda row: f"{row.reason} {row.first}")
def test_every_row_says_what_to_do(row: Meaning) -> None:
    assert row.advice.endswith(".")
    assert row.advice[0].isupper()


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (
            refusal(402, "payment_required"),
            "It failed with token web/vercel/token: Vercel says no (payment_required, HTTP 402). Check",
        ),
        (Failure(Fate.UNKNOWN, "a page of some proxy", 502), "It failed: a page of some proxy (HTTP 502). No action"),
        (NOT_SENT, "It failed: connection refused. Check"),
        (
            Failure(Fate.REFUSED, "", 400, "bad_request"),
            "It failed: no reason was given (bad_request, HTTP 400). Change",
        ),
        (
            Failure(Fate.REFUSED, "...", 403),
            "It failed with token web/vercel/token: no reason was given (HTTP 403). Check",
        ),
        (
            refusal(449, "configuration_error", cns=("www.example.com", "example.com")),
            "It failed: Vercel says no for example.com, www.example.com (configuration_error, HTTP 449). Check",
        ),
        (
            Failure(Fate.REFUSED, "two\nlines\u202e", 403, "a\x1bb"),
            "It failed with token web/vercel/token: two lines\\u202e (a\\x1bb, HTTP 403). Check",
        ),
    ],
)
def test_a_failure_is_explained_in_vercels_words_with_names_code_status_and_the_next_step(
    failure: Failure, text: str
) -> None:
    explained = explain("It failed", failure, meaning(failure), "token web/vercel/token")
    assert explained.startswith(text)
    assert explained.endswith(meaning(failure).advice)


def test_an_explanation_ends_with_vercels_page_on_the_error() -> None:
    explained = explain("It failed", refusal(403, help_url="https://example.com/help"), meaning(refusal(403)), "")
    assert explained.endswith(f"{meaning(refusal(403)).advice} See <https://example.com/help>.")


def test_the_tables_are_data_that_nothing_changes() -> None:
    for rows in (BY_CODE, BY_STATUS, OTHER_CALLS, LONGEST_WAITS):
        with pytest.raises(TypeError):
            rows[0] = failures.LOST  # type: ignore[index]


@pytest.mark.parametrize(
    ("said", "rest"), [(None, 5 * SECOND), (SECOND, 5 * SECOND), (HOUR, HOUR)], ids=["nothing", "less", "more"]
)
def test_a_scope_is_not_listed_again_before_vercel_says_so(said: timedelta | None, rest: timedelta) -> None:
    failure = refusal(500, retry_after=said)
    assert failures.rest_of_lists(meaning(failure, "list"), failure, 1) == rest
