"""A look, a listing or a removal that failed, or a token that is not there."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.building import (
    DAY,
    HOUR,
    MINUTE,
    NO_TOKEN,
    NOT_SENT,
    NOW,
    SECOND,
    TIMED_OUT,
    answered,
    assert_in_order,
    at,
    attempted,
    cert,
    failed,
    failed_call,
    known,
    looked,
    message,
    ready,
    refusal,
    resting,
    said,
    status_of,
    tick,
    written,
)
from vercel_certificate_operator.core.failures import Failure
from vercel_certificate_operator.core.known import Call, Issue, Known, List, Look, Release, Remove, Wait, Write
from vercel_certificate_operator.core.policies import decide
from vercel_certificate_operator.core.reasons import Reason

DUE = cert(created=NOW - 65 * DAY)


@pytest.mark.parametrize(
    ("call", "failure", "reason"),
    [
        ("get", NOT_SENT, "VercelUnreachable"),
        ("get", TIMED_OUT, "VercelUnavailable"),
        ("get", refusal(500), "VercelUnavailable"),
        ("get", refusal(403), "PermissionDenied"),
        ("get", refusal(401), "CredentialsInvalid"),
        ("get", refusal(429), "RateLimited"),
        ("list", TIMED_OUT, "VercelUnavailable"),
        ("list", refusal(403), "PermissionDenied"),
        ("issue", NO_TOKEN, "CredentialsInvalid"),
        ("get", NO_TOKEN, "CredentialsInvalid"),
    ],
)
def test_a_failed_call_is_told_and_made_again(call: Call, failure: Failure, reason: str) -> None:
    before = known(status=ready(DUE), failed_call=failed_call(call, failure), retry_at=NOW + MINUTE)
    decision = decide(before)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (("True", "Issued"), ("False", reason))
    assert decision.action == Wait(NOW + MINUTE)
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason) == ("Warning", "Failed")
    assert message(decision, "Issuing") == f"{decision.note.text} Next attempt: 2026-01-01T12:01:00Z."
    assert decision.status is not None
    assert decision.status.failed_attempts == 0, "no attempt to issue one has failed"
    assert (decision.status.last_failure_time, decision.status.next_attempt_time) == (NOW, NOW + MINUTE)
    assert_in_order(before, decision)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("issue", "A certificate for example.com can't be issued: Secret web/vercel does not exist. "),
        ("get", "Looking at certificate cert_1 failed: "),
        ("list", "Listing the certificates at Vercel failed: "),
        ("remove", "Removing certificate cert_1 at Vercel failed: "),
    ],
)
def test_it_is_told_what_was_tried(call: Call, what: str) -> None:
    facts = known(
        status=ready(DUE), deleting=call == "remove", failed_call=failed_call(call, NO_TOKEN), retry_at=NOW + MINUTE
    )
    assert message(decide(facts), "Issuing").startswith(what)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(known(status=ready(DUE)), id="due"),
        pytest.param(known(ours=False), id="new"),
        pytest.param(known(attempt=attempted()), id="unresolved"),
        pytest.param(known(deleting=True, status=ready()), id="deleting"),
    ],
)
def test_a_failed_call_is_not_made_again_before_its_time(facts: Known) -> None:
    waiting = replace(facts, retry_at=tick(NOW + MINUTE))
    assert decide(waiting).action == Wait(NOW + MINUTE)
    assert not isinstance(decide(at(waiting, NOW + MINUTE)).action, Wait)


def test_an_outcome_is_written_down_whatever_has_to_wait() -> None:
    facts = known(**answered(cert("cert_2", created=NOW)), retry_at=NOW + HOUR)
    assert decide(facts).action == Write(outcome=True)


@pytest.mark.parametrize("span", [HOUR, 32 * HOUR], ids=["an hour", "32 hours"])
def test_ready_turns_false_in_time_while_a_call_is_waited_for(span: timedelta) -> None:
    soon = cert(created=NOW - 90 * DAY + MINUTE)
    before = known(status=ready(soon), failed_call=failed_call("get", refusal(403)), retry_at=NOW + span)
    decision = decide(before)
    assert decision.action == Wait(soon.expires_at)
    assert_in_order(before, decision)
    decision = decide(at(written(before, decision), NOW + MINUTE))
    assert decision.action == Wait(NOW + span)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (("False", "PermissionDenied"),) * 2


def test_waiting_never_turns_ready_true() -> None:
    """Spec asks for other names since generation 2, and has changed again."""
    status = status_of(
        cert(), ready=("False", "VercelUnreachable"), issuing=("False", "VercelUnreachable"), generation=2
    )
    decision = decide(known(cns=["other.com"], generation=3, status=status, retry_at=NOW + MINUTE))
    assert decision.action == Wait(NOW + MINUTE)
    assert decision.status is None or not decision.status.ready


SUPERSEDED: dict[str, Any] = {"superseded_ids": ("cert_0",)}


def test_a_removal_that_fails_is_told_and_changes_nothing_of_what_is_said_of_the_successor() -> None:
    before = known(
        status=ready(cert(created=NOW - HOUR), **SUPERSEDED), failed_call=failed_call("remove", about="cert_0")
    )
    decision = decide(before)
    assert decision.action == Write()
    assert decision.status is None
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason, decision.note.action) == ("Warning", "Failed", "Remove")
    assert "cert_0" in decision.note.text
    assert_in_order(before, decision)
    later = at(before, NOW, removal_at=tick(NOW + MINUTE))
    decision = decide(later)
    assert decision.action == Wait(NOW + MINUTE)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (("True", "Issued"), ("False", "Issued"))
    assert decide(at(later, NOW + MINUTE)).action == Remove("cert_0")


def test_a_removal_that_fails_does_not_shorten_the_wait_for_the_next_attempt() -> None:
    status = failed(certificate=cert(created=NOW - HOUR), until=NOW + HOUR, **SUPERSEDED)
    facts = known(status=status, renew="1", attempt=attempted("attempt-0", renew="1"))
    assert decide(facts).action == Remove("cert_0")
    facts = at(facts, NOW, removal_at=tick(NOW + MINUTE))
    assert decide(facts).action == Wait(NOW + MINUTE)
    facts = at(written(facts, decide(facts)), NOW + MINUTE, removal_at=None, removed={"cert_0"})
    facts = written(facts, decide(facts))
    decision = decide(facts)
    assert decision.action == Wait(NOW + HOUR)
    assert said(decision, "Issuing") == ("False", "PermissionDenied")


@pytest.mark.parametrize("facts", [{"status": ready(DUE, **SUPERSEDED)}, {"status": ready(**SUPERSEDED), "renew": "1"}])
def test_a_removal_that_fails_does_not_hold_up_a_renewal(facts: dict[str, Any]) -> None:
    """The token may not remove certificates, say: that must not let the next one expire."""
    assert isinstance(decide(known(**facts, removal_at=tick(NOW + HOUR))).action, Look | List | Issue)


def test_a_failed_call_does_not_shorten_the_wait_for_the_next_attempt_either() -> None:
    status = failed(certificate=DUE, until=NOW + HOUR)
    facts = known(status=status, failed_call=failed_call("list"), retry_at=NOW + MINUTE)
    after = written(facts, decide(facts)).resource.status
    assert after.next_attempt_time == NOW + HOUR


def test_once_the_call_succeeds_nothing_is_left_of_its_failure() -> None:
    before = known(status=ready(DUE), failed_call=failed_call("get"), retry_at=NOW + SECOND)
    told = written(before, decide(before)).resource.status
    renewed = cert(created=NOW - DAY)
    facts = known(status=told, looked=looked(renewed), now=NOW + MINUTE)
    after = written(facts, decide(facts))
    status = written(after, decide(after)).resource.status
    assert (status.last_failure_time, status.next_attempt_time) == (None, None)


DELETING: dict[str, Any] = {"deleting": True, "status": ready()}


def test_while_it_is_being_deleted_the_way_out_is_told() -> None:
    before = known(**DELETING, failed_call=failed_call("remove", refusal(403)), retry_at=NOW + HOUR)
    decision = decide(before)
    assert "To let the resource go without that, set spec.deletionPolicy to Retain." in message(decision, "Issuing")
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason, decision.note.action) == ("Warning", "DeletionFailed", "Remove")
    assert_in_order(before, decision)


@pytest.mark.parametrize("way_out", [{"deletion_policy": "Retain"}, {"suspend": True}], ids=str)
def test_the_way_out_works_at_once(way_out: dict[str, Any]) -> None:
    facts = known(**DELETING, **way_out, failed_call=failed_call("remove"), retry_at=NOW + HOUR)
    assert decide(facts).action == Release()


# --- a token that is gone, or rests -----------------------------------------------------------------------------------


def test_a_deleted_resource_waits_an_hour_for_a_token_that_is_gone_then_is_let_go_with_a_warning() -> None:
    """When a namespace goes, its Secrets may go first: it must not hang because of us."""
    facts = known(**DELETING, failed_call=failed_call("remove", NO_TOKEN), retry_at=NOW + MINUTE)
    deleted = facts.resource.deleted_at
    assert deleted is not None
    assert decide(facts).action == Wait(NOW + MINUTE)
    over = deleted + HOUR
    assert isinstance(decide(replace(facts, now=over - SECOND, retry_at=facts.tick + 1)).action, Wait)
    decision = decide(replace(facts, now=over))
    assert decision.action == Release()
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason) == ("Warning", "DeletionFailed")
    assert "Left at Vercel: cert_1." in decision.note.text
    assert_in_order(facts, decision)


def test_it_waits_longer_where_the_token_is_there_but_refused() -> None:
    facts = known(
        **DELETING, failed_call=failed_call("remove", refusal(401)), retry_at=NOW + 9 * HOUR, now=NOW + 8 * HOUR
    )
    assert isinstance(decide(facts).action, Wait)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"ours": False}, id="new"),
        pytest.param({"status": ready(DUE)}, id="due"),
        pytest.param({"status": ready(), "renew": "1"}, id="a renewal was requested"),
        pytest.param({"attempt": attempted()}, id="unresolved"),
        pytest.param({"status": ready(cert(created=NOW - HOUR), **SUPERSEDED)}, id="something to remove"),
        pytest.param(DELETING, id="deleting"),
    ],
)
def test_while_its_token_rests_nothing_is_asked(facts: dict[str, Any]) -> None:
    before = known(**facts, pause=resting(NOW + 20 * SECOND))
    decision = decide(before)
    assert decision.action == Wait(NOW + 20 * SECOND)
    assert_in_order(before, decision)
    long = decide(known(**facts, pause=resting(NOW + HOUR)))
    assert long.action == Wait(NOW + MINUTE), "a new token is noticed within a minute"


def test_whoever_has_no_certificate_says_why_while_the_token_rests() -> None:
    decision = decide(known(ours=False, pause=resting(NOW + HOUR)))
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (("False", "RateLimited"),) * 2


def test_whoever_has_one_says_nothing_new() -> None:
    facts = known(status=ready())
    facts = written(facts, decide(facts))
    decision = decide(replace(facts, pause=resting(NOW + HOUR)))
    assert decision.status is None or decision.status.dump() == facts.resource.status.dump()


def test_an_outcome_is_written_down_while_the_token_rests() -> None:
    facts = known(**answered(cert("cert_2", created=NOW)), pause=resting(NOW + HOUR))
    assert decide(facts).action == Write(outcome=True)


def test_a_refused_token_is_read_again_every_minute() -> None:
    facts = known(status=failed(Reason.CREDENTIALS_INVALID, until=NOW + HOUR))
    assert decide(facts).action == Wait(NOW + MINUTE)
    assert isinstance(decide(replace(facts, token_changed=True)).action, Issue)
