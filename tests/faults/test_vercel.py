"""Vercel fails in every way at every call, once; and some ways for hours."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from faults.stage import (
    CHANGE,
    DAY,
    DELETION,
    FIRST_ISSUE,
    HOUR,
    LOST_ANSWER,
    NEW_SOURCE,
    RECOVERY,
    RENEWAL,
    UNCHANGED,
    UPLOAD,
    VANISHED,
    Scenario,
    Stage,
    Step,
)
from vercel_certificate_operator.core.known import Limits
from vercel_emulator.models import Call, Fault

Row = tuple[str, Mapping[str, Any], str]
"""A name, the fault's fields, and the reason that Issuing shows once a POST has met it."""

NO_ANSWER: tuple[Row, ...] = (
    ("reset-before-the-work", {"action": "reset"}, "OutcomeUnknown"),
    ("reset-after-the-work-was-done", {"action": "reset", "when": "after"}, "Issued"),
    ("time-out-before-the-work", {"action": "hang"}, "OutcomeUnknown"),
    ("time-out-after-the-work-was-done", {"action": "hang", "when": "after"}, "Issued"),
    ("one-byte-a-second", {"action": "slow"}, "Issued"),
    ("one-byte-a-second-of-an-error", {"action": "slow", "when": "before", "status": 503}, "OutcomeUnknown"),
)
UNREADABLE: tuple[Row, ...] = (
    ("truncated", {"action": "truncate"}, "Issued"),
    ("truncated-to-nothing", {"action": "truncate", "keep": 0}, "Issued"),
    ("truncated-error", {"action": "truncate", "when": "before", "status": 400}, "OutcomeUnknown"),
    ("empty-200", {"action": "empty"}, "OutcomeUnknown"),
    ("empty-200-after-the-work-was-done", {"action": "empty", "when": "after"}, "Issued"),
    ("empty-204", {"action": "empty", "status": 204, "when": "after"}, "Issued"),
    ("empty-500", {"action": "empty", "status": 500}, "OutcomeUnknown"),
    ("page-200", {"action": "html", "status": 200}, "OutcomeUnknown"),
    ("page-403-of-a-firewall", {"action": "html", "status": 403}, "OutcomeUnknown"),
    ("page-502-after-the-work-was-done", {"action": "html", "when": "after"}, "Issued"),
    ("no-json", {"action": "raw", "body": '{"id": ', "when": "after"}, "Issued"),
    ("null", {"action": "raw", "body": "null", "when": "after"}, "Issued"),
    ("a-list", {"action": "raw", "body": "[1, 2]", "when": "after"}, "Issued"),
    ("no-text", {"action": "raw", "body": "\udcff".encode("utf-8", "replace").decode(), "when": "after"}, "Issued"),
    ("deep-nesting", {"action": "raw", "body": "[" * 100_000, "when": "after"}, "Issued"),
    ("wrong-types", {"action": "wrong-types"}, "Issued"),
    ("100-MB", {"action": "huge"}, "OutcomeUnknown"),
    ("100-MB-after-the-work-was-done", {"action": "huge", "when": "after"}, "Issued"),
    ("redirect-307", {"action": "redirect"}, "OutcomeUnknown"),
    ("redirect-301-after-the-work-was-done", {"action": "redirect", "status": 301, "when": "after"}, "Issued"),
)
STATUSES: tuple[Row, ...] = tuple(
    (f"status-{status}", {"status": status}, reason)
    for status, reason in {
        400: "InvalidRequest",
        401: "CredentialsInvalid",
        402: "PaymentRequired",
        403: "PermissionDenied",
        404: "DomainNotFound",
        405: "InvalidRequest",
        408: "OutcomeUnknown",
        409: "OutcomeUnknown",
        410: "DomainNotFound",
        413: "InvalidRequest",
        415: "InvalidRequest",
        422: "InvalidRequest",
        429: "RateLimited",
        449: "DomainNotConfigured",
        500: "OutcomeUnknown",
        501: "OutcomeUnknown",
        502: "OutcomeUnknown",
        503: "OutcomeUnknown",
        504: "OutcomeUnknown",
        529: "OutcomeUnknown",
    }.items()
)
CODES: tuple[Row, ...] = tuple(
    (f"code-{code}", {"status": status, "code": code}, reason)
    for code, (status, reason) in {
        "bad_domains": (400, "InvalidRequest"),
        "bad_request": (400, "InvalidRequest"),
        "challenge_error": (400, "DomainNotConfigured"),
        "challenge_still_pending": (400, "OutcomeUnknown"),
        "common_name_domain_name_mismatch": (400, "InvalidRequest"),
        "configuration_error": (400, "DomainNotConfigured"),
        "conflicting_caa_record": (400, "DomainNotConfigured"),
        "dns_error": (400, "DomainNotConfigured"),
        "domain_not_verified": (400, "PermissionDenied"),
        "forbidden": (403, "PermissionDenied"),
        "internal_server_error": (500, "OutcomeUnknown"),
        "invalid_cn": (400, "InvalidRequest"),
        "invalid_domain": (400, "InvalidRequest"),
        "not_found": (404, "DomainNotFound"),
        "rate_limited": (400, "RateLimited"),
        "should_share_root_domain": (400, "InvalidRequest"),
        "something_new": (400, "InvalidRequest"),
        "too_many_requests": (403, "RateLimited"),
        "txt_record_not_found": (400, "DomainNotConfigured"),
        "unauthorized_request_error": (403, "CredentialsInvalid"),
        "unsupported_challenge_priority": (400, "InvalidRequest"),
        "validation_running": (400, "OutcomeUnknown"),
        "wildcard_not_allowed": (400, "InvalidRequest"),
    }.items()
)
ODD: tuple[Row, ...] = (
    ("retry-after-of-20-minutes", {"status": 429, "headers": {"Retry-After": "1200"}}, "RateLimited"),
    ("retry-after-of-nonsense", {"status": 429, "headers": {"Retry-After": "soon"}}, "RateLimited"),
    ("retry-after-of-a-thousand-years", {"status": 503, "headers": {"Retry-After": "9" * 11}}, "OutcomeUnknown"),
    ("error-after-the-work-was-done", {"status": 500, "when": "after"}, "Issued"),
    ("other-names", {"action": "answer", "fields": {"cns": ["other.example"]}}, "UnexpectedAnswer"),
    ("no-names", {"action": "answer", "omit": ["cns"]}, "Issued"),
    ("no-id", {"action": "answer", "omit": ["id"]}, "Issued"),
    ("no-expiry", {"action": "answer", "omit": ["expiresAt"]}, "Issued"),
    ("no-creation-time", {"action": "answer", "omit": ["createdAt"]}, "Issued"),
    ("no-date", {"action": "answer", "headers": {"Date": None}}, "Issued"),
    ("a-date-of-nonsense", {"action": "answer", "headers": {"Date": "yesterday"}}, "Issued"),
)


def statuses(*wanted: int) -> tuple[Row, ...]:
    return tuple(row for row in STATUSES if row[1]["status"] in wanted)


A_CLASS_EACH = (
    *NO_ANSWER,
    *(
        row
        for row in UNREADABLE
        if row[0] in {"truncated", "empty-200", "page-502-after-the-work-was-done", "wrong-types"}
    ),
    *statuses(400, 401, 403, 404, 429, 449, 500),
)
TRANSIENT = (*NO_ANSWER, *UNREADABLE, *statuses(401, 403, 404, 429, 500, 503))
LIES: tuple[Row, ...] = (
    ("it-lags", {"action": "answer", "fields": {"certs": [], "pagination": {"count": 0, "next": None}}}, ""),
    ("no-pagination", {"action": "answer", "omit": ["pagination"]}, ""),
    ("it-does-not-end", {"action": "answer", "fields": {"pagination": {"next": 9_000_000_000_000}}, "times": 2}, ""),
    ("one-broken-certificate", {"action": "answer", "fields": {"certs": [{"id": 1}]}}, ""),
)


def rows(scenario: Scenario, step: Step, skip: int, faults: tuple[Row, ...]) -> list[Any]:
    where = f"{step} x {scenario.name}"
    return [pytest.param(scenario, step, skip, *fault[1:], id=f"{fault[0]} x {where}") for fault in faults]


ONCE = [
    *rows(FIRST_ISSUE, "issue", 0, (*NO_ANSWER, *UNREADABLE, *STATUSES, *CODES, *ODD)),
    *rows(RENEWAL, "issue", 0, A_CLASS_EACH),
    *rows(CHANGE, "issue", 0, A_CLASS_EACH),
    *rows(UPLOAD, "upload", 0, (*A_CLASS_EACH, *ODD)),
    *rows(NEW_SOURCE, "upload", 0, A_CLASS_EACH),
    *rows(RENEWAL, "get", 0, TRANSIENT),
    *rows(LOST_ANSWER, "list", 0, (*TRANSIENT, *LIES)),
    *rows(UNCHANGED, "list", 0, LIES),
    *rows(VANISHED, "get", 0, TRANSIENT[:8]),
    *rows(CHANGE, "remove", 0, TRANSIENT[:12]),
    # Deleted, a 404 is believed: there is nobody any more who could be told otherwise.
    *rows(DELETION, "remove", 0, tuple(row for row in TRANSIENT if row not in statuses(404))),
]


@pytest.mark.parametrize(("scenario", "step", "skip", "fault", "reason"), ONCE)
async def test_a_call_that_fails_once(
    stage: Stage, scenario: Scenario, step: Step, skip: int, fault: Mapping[str, Any], reason: str
) -> None:
    world = stage.world
    await scenario.prepare(world)
    await stage.with_short_limits(step)
    active = world.emulator.faults.add(Fault(call=cast(Call, step), skip=skip, **fault))
    await scenario.act(world)
    assert active.matched, "the scenario has no such call"
    if (scenario, step) in ((FIRST_ISSUE, "issue"), (UPLOAD, "upload")):
        await world.advance(10)  # a lost answer is searched for
        assert (await world.issuing("site"))[1] == reason
    await stage.judge(scenario)


LASTING = [
    *rows(FIRST_ISSUE, "issue", 0, (NO_ANSWER[0], *(row for row in STATUSES if row[1]["status"] not in {405, 413}))),
    *rows(UPLOAD, "upload", 0, (NO_ANSWER[0], *statuses(400, 401, 402, 403, 429, 500))),
    *rows(RENEWAL, "get", 0, statuses(401, 403, 429, 500)),
    *rows(LOST_ANSWER, "list", 0, statuses(401, 403, 404, 429, 500)),
    *rows(CHANGE, "remove", 0, statuses(401, 403, 429, 500)),
    *rows(DELETION, "remove", 0, statuses(401, 403, 429, 500)),
]


@pytest.mark.parametrize(("scenario", "step", "skip", "fault", "reason"), LASTING)
async def test_a_call_that_fails_for_hours(
    stage: Stage, scenario: Scenario, step: Step, skip: int, fault: Mapping[str, Any], reason: str
) -> None:
    world = stage.world
    await scenario.prepare(world)
    start, began = world.emulator.journal.last, world.clock.monotonic()
    world.emulator.faults.add(Fault(call=cast(Call, step), skip=skip, **fault, times=None))
    await scenario.act(world)
    await world.advance(4 * HOUR)
    await stage.never_ready_without_a_certificate()
    asked = world.emulator.journal.last - start
    hours = (world.clock.monotonic() - began) / HOUR.total_seconds()
    assert asked <= hours * 12 + 15, f"{asked} requests in {hours:.1f} h"  # the shortest cap is 5 min
    # Five attempts without an answer reach the issuance limit, which counts for a week.
    # The fifth may just have been sent.
    counts, shown = world.emulator.journal.counts, (await world.issuing("site"))[1]
    all_sent = reason == "OutcomeUnknown" and counts["issue"] + counts["upload"] >= Limits().issuances
    limited = all_sent or shown == "IssuanceLimited"
    await stage.judge(scenario, within=8 * DAY if limited else RECOVERY)
