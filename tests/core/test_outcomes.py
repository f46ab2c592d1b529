"""What came of an attempt: an answer, a refusal, or nothing that is known, and how that is resolved."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from core.building import (
    DAY,
    HOUR,
    MINUTE,
    NOT_SENT,
    NOW,
    OTHER_TEAM,
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
    listed,
    looked,
    message,
    ready,
    refusal,
    refused,
    said,
    status_of,
    tick,
    written,
)
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.failures import Failure, Fate
from vercel_certificate_operator.core.known import Issue, Known, Limits, List, Look, Wait, Write
from vercel_certificate_operator.core.policies import decide, late_certificates
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import LostAttempt

NEW = cert("cert_2", created=NOW)
READY, NOTHING_TO_DO = ("True", "Issued"), ("False", "Issued")
ATTEMPT = attempted()
"""Begun a minute ago."""


def resolved(before: Known, *, as_outcome: bool = True) -> Known:
    """What is known once the outcome is written, which it has to be next."""
    decision = decide(before)
    assert decision.action == Write(outcome=as_outcome)
    assert decision.status is not None
    assert_in_order(before, decision)
    assert decision.status.attempt == "attempt-1"
    return written(before, decision)


# --- an answer --------------------------------------------------------------------------------------------------------


def test_a_first_certificate_is_written_down() -> None:
    before = known(**answered(NEW), listing=listed(NEW))
    decision = decide(before)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (READY, NOTHING_TO_DO)
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason, decision.note.action) == ("Normal", "Issued", "Issue")
    assert decision.note.text == "Certificate cert_2 for example.com issued until 2026-04-01T12:00:00Z."
    status = resolved(before).resource.status
    assert (status.id, status.cns, status.team) == ("cert_2", ("example.com",), "team_a")
    assert (status.created_at, status.expires_at, status.auto_renew) == (NEW.created_at, NEW.expires_at, True)
    assert status.renewal_time is not None
    assert (status.superseded_ids, status.failed_attempts, status.observed_generation) == ((), 0, 1)


@pytest.mark.parametrize(
    ("scope", "team"), [(Scope(team_slug="acme"), "acme"), (Scope(), None)], ids=["slug", "personal account"]
)
def test_the_scope_in_which_it_was_issued_is_recorded(scope: Scope, team: str | None) -> None:
    assert resolved(known(**answered(NEW), scope=scope)).resource.status.team == team


def test_a_renewal_supersedes_the_one_before_and_clears_all_failures() -> None:
    before = known(status=failed(certificate=cert(), superseded_ids=("cert_0",)), **answered(NEW))
    decision = decide(before)
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason, decision.note.action) == ("Normal", "Renewed", "Renew")
    status = resolved(before).resource.status
    assert (status.id, status.superseded_ids) == ("cert_2", ("cert_0", "cert_1"))
    assert (status.failed_attempts, status.last_failure_time, status.next_attempt_time) == (0, None, None)


def test_an_answer_with_a_superseded_one_makes_it_the_current_one_again() -> None:
    back = replace(NEW, id="cert_0")
    status = resolved(known(status=ready(superseded_ids=("cert_0",)), **answered(back))).resource.status
    assert (status.id, status.superseded_ids) == ("cert_0", ("cert_1",))


@pytest.mark.parametrize("value", ["1", ""], ids=["a value", "empty"])
def test_a_renew_request_is_acted_on_once(value: str) -> None:
    after = resolved(known(status=ready(), renew=value, **answered(NEW, attempted(renew=value))))
    assert after.resource.status.last_renew_request == value
    assert isinstance(decide(after).action, Wait)


def test_a_renew_request_that_comes_in_the_middle_of_an_issuance_is_acted_on_afterwards() -> None:
    after = resolved(known(status=ready(), renew="2", **answered(NEW, attempted(renew="1"))))
    assert after.resource.status.last_renew_request == "1"
    action = decide(after).action
    assert isinstance(action, Issue)
    assert action.reason is Reason.RENEW_REQUESTED


def test_an_attempt_without_a_request_keeps_what_was_recorded() -> None:
    after = resolved(known(status=ready(last_renew_request="1"), renew="1", **answered(NEW)))
    assert after.resource.status.last_renew_request == "1"


def test_names_that_change_in_the_middle_of_an_issuance_are_asked_for_afterwards() -> None:
    before = known(cns=["other.com"], generation=2, **answered(NEW))
    decision = decide(before)
    assert said(decision, "Ready") == READY, "of the generation that it was asked for"
    after = resolved(before)
    assert after.resource.status.observed_generation == 1
    assert {c.observed_generation for c in after.resource.status.conditions} == {1}
    action = decide(after).action
    assert isinstance(action, Issue)
    assert (action.reason, action.cns) == (Reason.NAMES_CHANGED, frozenset({"other.com"}))
    assert not action.meanwhile.ready


def test_names_that_vercel_added_are_no_reason_to_ask_again() -> None:
    after = resolved(known(**answered(replace(NEW, cns=frozenset({"example.com", "www.example.com"})))))
    assert after.resource.status.ready
    assert after.resource.status.cns == ("example.com", "www.example.com")
    assert isinstance(decide(after).action, Wait)


def test_what_is_odd_about_an_answer_is_told() -> None:
    decision = decide(known(**answered(replace(NEW, oddities=("Vercel sent no autoRenew.",), auto_renew=None))))
    assert decision.note is not None
    assert decision.note.text.endswith(" Vercel sent no autoRenew.")


def test_without_a_creation_time_the_start_of_the_attempt_stands_in() -> None:
    status = resolved(known(**answered(replace(NEW, created_at=None)))).resource.status
    assert status.created_at == ATTEMPT.start
    assert status.ready


def test_auto_renew_is_reported_when_it_is_off_too() -> None:
    assert resolved(known(**answered(replace(NEW, auto_renew=False)))).resource.status.dump()["autoRenew"] is False


# --- an answer that is not what was asked for -------------------------------------------------------------------------

WRONG = replace(NEW, cns=frozenset({"other.com"}))
NO_EXPIRY = replace(NEW, expires_at=None)


@pytest.mark.parametrize("names", [["other.com"], []], ids=["other names", "no names"])
@pytest.mark.parametrize("status", [None, ready()], ids=["first", "renewal"])
def test_an_answer_with_other_names_is_recorded_and_not_ready(names: list[str], status: Any) -> None:
    before = known(status=status, **answered(replace(NEW, cns=frozenset(names))))
    decision = decide(before)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (("False", "UnexpectedAnswer"),) * 2
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason) == ("Warning", "UnexpectedAnswer")
    assert resolved(before).resource.status.id == "cert_2"


def unexpected(certificate: Any = WRONG) -> Known:
    return replace(resolved(known(**answered(certificate))), reply=None)


def later(facts: Known, span: timedelta) -> Known:
    return at(facts, facts.now + span)


def test_nothing_is_issued_until_spec_changes() -> None:
    facts = unexpected()
    for _ in range(5):
        decision = decide(facts)
        assert isinstance(decision.action, Wait)
        assert decision.action.until is not None
        facts = at(written(facts, decision), decision.action.until)
        look = decide(facts)
        assert look.action == Look("cert_2")
        facts = replace(written(facts, look), looked=looked(WRONG, facts.now))
    changed_spec = known(
        status=facts.resource.status,
        attempt=ATTEMPT,
        generation=2,
        cns=["example.com", "www.example.com"],
        now=facts.now,
    )
    assert isinstance(decide(changed_spec).action, Issue)


def test_a_renew_request_is_a_change_by_the_user_too() -> None:
    facts = unexpected()
    asked = known(status=facts.resource.status, attempt=ATTEMPT, renew="1")
    assert isinstance(decide(asked).action, Issue)


@pytest.mark.parametrize(
    "failure", [NOT_SENT, refusal(403), refusal(401), refusal(500)], ids=["not sent", "403", "401", "500"]
)
def test_nothing_is_issued_either_after_a_look_at_it_has_failed(failure: Failure) -> None:
    facts = later(unexpected(), HOUR + MINUTE)
    assert decide(facts).action == Look("cert_2")
    facts = replace(facts, failed_call=failed_call("get", failure), retry_at=facts.tick + 1)
    facts = replace(written(facts, decide(facts)), retry_at=None)
    for span in (timedelta(), HOUR, DAY):
        assert not isinstance(decide(later(facts, span)).action, Issue)


def test_a_404_on_it_is_not_believed_without_a_listing() -> None:
    facts = later(unexpected(), HOUR + MINUTE)
    gone = replace(facts, looked=looked(None, facts.now, of="cert_2"))
    assert decide(gone).action == List(facts.tick)


def test_it_is_taken_when_vercel_says_the_right_names_later() -> None:
    facts = later(unexpected(), HOUR + MINUTE)
    before = replace(facts, looked=looked(NEW, facts.now))
    decision = decide(before)
    assert decision.action == Write()
    assert said(decision, "Ready") == READY
    assert_in_order(before, decision)
    assert isinstance(decide(written(before, decision)).action, Wait)


def test_an_answer_without_an_expiry_is_looked_at_again() -> None:
    facts = unexpected(NO_EXPIRY)
    assert facts.resource.status.condition("Ready") is not None
    assert (facts.resource.status.ready, facts.resource.status.id) == (False, "cert_2")
    decision = decide(facts)
    assert decision.action == Wait(NOW + HOUR)
    facts = later(facts, HOUR)
    assert decide(facts).action == Look("cert_2")
    decision = decide(replace(facts, looked=looked(NO_EXPIRY, facts.now)))
    assert decision.action == Wait(NOW + 2 * HOUR)
    assert said(decision, "Ready") == ("False", "UnexpectedAnswer")
    assert said(decide(replace(facts, looked=looked(NEW, facts.now))), "Ready") == READY


def test_one_without_an_expiry_that_is_gone_is_issued_again() -> None:
    facts = later(unexpected(NO_EXPIRY), HOUR + MINUTE)
    gone = replace(facts, looked=looked(None, facts.now, of="cert_2"), listing=listed(begun=facts.now))
    decision = decide(gone)
    assert decision.action == Write()
    action = decide(written(gone, decision)).action
    assert isinstance(action, Issue)
    assert action.reason is Reason.CERTIFICATE_GONE


@pytest.mark.parametrize(
    ("facts", "superseded"),
    [
        pytest.param({}, ("cert_1", "cert_0"), id="status was wiped"),
        pytest.param({"status": ready(cert())}, ("cert_1", "cert_0"), id="status knows one of them"),
        pytest.param({"removed": {"cert_1"}}, ("cert_0",), id="one was removed meanwhile"),
        pytest.param({"taken": {"cert_0"}}, ("cert_1",), id="one stands in another status"),
        pytest.param({"listing": listed(NEW, cert("cert_0"))}, ("cert_0",), id="one is not at Vercel any more"),
    ],
)
def test_what_an_attempt_replaces_is_not_lost_with_status(facts: dict[str, Any], superseded: tuple[str, ...]) -> None:
    attempt = replace(attempted(), replaces=("cert_1", "cert_0"))
    after = resolved(known(**{"status": status_of(), **facts}, **answered(NEW, attempt))).resource.status
    assert (after.id, after.superseded_ids) == ("cert_2", superseded)


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("FirstIssue", ""),
        ("RenewalDue", ""),
        ("NamesChanged", ", since spec.cns has changed"),
        ("CertificateGone", ", since the one before was gone at Vercel"),
        ("RenewRequested", ", as the renew annotation asked"),
        ("Expired", ", since the one before had expired"),
    ],
)
def test_an_event_says_why_a_certificate_was_issued_where_that_is_not_plain(reason: str, why: str) -> None:
    decision = decide(known(status=status_of(), **answered(NEW, attempted(reason=reason))))
    assert decision.note is not None
    assert decision.note.text == f"Certificate cert_2 for example.com issued until 2026-04-01T12:00:00Z{why}."


# --- an answer that has renewed nothing -------------------------------------------------------------------------------

OLD = cert(created=NOW - 70 * DAY)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OLD, id="the id that is known"),
        pytest.param(replace(OLD, id="cert_2"), id="a new id that expires when the old one does"),
        pytest.param(cert("cert_2", created=NOW - 80 * DAY), id="a new id that expires earlier than the old one does"),
    ],
)
def test_an_answer_that_renews_nothing_is_told_and_backed_off_from(answer: Any) -> None:
    before = known(status=ready(OLD), **answered(answer))
    decision = decide(before)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (READY, ("False", "NotRenewed"))
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason) == ("Warning", "NotRenewed")
    status = resolved(before).resource.status
    assert status.failed_attempts == 1
    assert status.next_attempt_time is not None
    assert NOW + HOUR - SECOND <= status.next_attempt_time < NOW + 1.1 * HOUR
    assert not isinstance(decide(replace(resolved(before), removed={"cert_1"})).action, Issue)


def test_the_back_off_doubles_and_ends_with_the_certificate() -> None:
    status = ready(OLD, failed_attempts=3)
    after = resolved(known(status=status, **answered(OLD))).resource.status
    assert after.next_attempt_time is not None
    assert NOW + 8 * HOUR - SECOND <= after.next_attempt_time < NOW + 8.8 * HOUR
    soon = cert(created=NOW - 90 * DAY + HOUR)
    after = resolved(known(status=ready(soon, failed_attempts=3), **answered(soon))).resource.status
    assert after.next_attempt_time == NOW + HOUR


@pytest.mark.parametrize(
    ("old", "answer"),
    [
        pytest.param(OLD, replace(OLD, expires_at=NOW + 90 * DAY), id="the same id, with a later expiry"),
        pytest.param(
            cert("cert_1", ["other.com"], created=NOW),
            cert("cert_2", created=NOW - 20 * DAY),
            id="new names, with whatever expiry",
        ),
        pytest.param(
            cert("cert_1", lifetime=47 * DAY),
            cert("cert_2", created=NOW, lifetime=6 * DAY),
            id="made just now, of a shorter lifetime than the rest of the old one's",
        ),
    ],
)
def test_an_answer_that_brings_something_new_is_taken(old: Any, answer: Any) -> None:
    status = resolved(known(status=ready(old), **answered(answer))).resource.status
    assert (status.failed_attempts, status.expires_at, status.ready) == (0, answer.expires_at, True)


# --- a refusal --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "reason", "first"),
    [
        (refusal(400), "InvalidRequest", 32 * HOUR),
        (refusal(401), "CredentialsInvalid", MINUTE),
        (refusal(402), "PaymentRequired", HOUR),
        (refusal(403), "PermissionDenied", HOUR),
        (refusal(404), "DomainNotFound", HOUR),
        (refusal(410), "DomainNotFound", HOUR),
        (refusal(429), "RateLimited", MINUTE),
        (refusal(449), "DomainNotConfigured", MINUTE),
        (refusal(500, "invalid_cn"), "InvalidRequest", 32 * HOUR),
        (refusal(400, "rate_limited"), "RateLimited", MINUTE),
        (NOT_SENT, "VercelUnreachable", 2 * SECOND),
    ],
    ids=lambda value: f"{value.status} {value.code}" if isinstance(value, Failure) else None,
)
@pytest.mark.parametrize("certificate", [None, cert()], ids=["first", "renewal"])
def test_a_refusal_is_written_down_with_its_reason_and_the_time_of_the_next_attempt(
    failure: Failure, reason: str, first: timedelta, certificate: Any
) -> None:
    status = ready(certificate) if certificate else None
    before = known(status=status, renew="1" if certificate else None, **refused(failure, attempted(renew="1")))
    decision = decide(before)
    assert said(decision, "Issuing") == ("False", reason)
    assert said(decision, "Ready") == (READY if certificate else ("False", reason))
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason) == ("Warning", "Failed")
    assert message(decision, "Issuing").startswith(decision.note.text)
    assert "Next attempt: 2026-" in message(decision, "Issuing")
    after = resolved(before)
    status = after.resource.status
    assert (status.failed_attempts, status.last_failure_time) == (1, NOW)
    assert status.next_attempt_time is not None
    assert NOW + first - SECOND <= status.next_attempt_time <= NOW + first * 1.1
    wait = decide(after)
    # A token is read again every minute, in case that it was changed.
    read_again = NOW + MINUTE if reason == "CredentialsInvalid" else status.next_attempt_time
    assert wait.action == Wait(min(status.next_attempt_time, read_again))
    assert said(wait, "Issuing") == ("False", reason)
    assert isinstance(decide(at(after, status.next_attempt_time)).action, Issue)


def test_a_message_tells_what_was_tried_what_vercel_said_and_what_to_do() -> None:
    decision = decide(known(**refused(refusal(402, "payment_required"))))
    assert message(decision, "Issuing").startswith(
        "Issuing a certificate for example.com failed: Vercel says no (payment_required, HTTP 402). "
        "Check the plan and the billing of the Vercel account. Next attempt: 2026-01-01T13:"
    )


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(refusal(429, retry_after=3 * HOUR), "RateLimited"), (refusal(403, retry_after=3 * HOUR), "PermissionDenied")],
)
def test_vercel_is_left_alone_for_as_long_as_it_says(failure: Failure, reason: str) -> None:
    after = resolved(known(**refused(failure))).resource.status
    assert after.next_attempt_time is not None
    assert NOW + 3 * HOUR <= after.next_attempt_time <= NOW + 3.3 * HOUR
    issuing = after.condition("Issuing")
    assert issuing is not None
    assert issuing.reason == reason


def test_a_shorter_retry_after_does_not_shorten_the_wait() -> None:
    after = resolved(known(**refused(refusal(403, retry_after=SECOND)))).resource.status
    assert after.next_attempt_time is not None
    assert after.next_attempt_time >= NOW + HOUR - SECOND


@pytest.mark.parametrize("times", [1, 5, 29, 30, 31, 32, 33, 1000])
@pytest.mark.parametrize("code", ["invalid_cn", "forbidden"])
def test_failures_in_a_row_are_counted_and_the_wait_stays_below_its_cap(times: int, code: str) -> None:
    reason = Reason.INVALID_REQUEST if code == "invalid_cn" else Reason.PERMISSION_DENIED
    status = failed(reason, until=NOW - SECOND, attempts=times)
    after = resolved(known(status=status, **refused(refusal(400, code)))).resource.status
    assert after.failed_attempts == times + 1
    assert after.next_attempt_time is not None
    assert after.next_attempt_time <= NOW + 32 * HOUR * 1.1


def test_a_failure_of_another_kind_starts_with_its_own_first_wait() -> None:
    """An hour without a network must not make the first answer that comes then be waited on for a day."""
    status = failed(Reason.VERCEL_UNREACHABLE, until=NOW - SECOND, attempts=20)
    after = resolved(known(status=status, **refused(refusal(449)))).resource.status
    assert after.next_attempt_time is not None
    assert after.next_attempt_time < NOW + 2 * MINUTE


def test_failures_are_in_a_row_though_status_has_said_meanwhile_that_it_takes_long() -> None:
    status = status_of(None, ready=("False", "FirstIssue"), issuing=("True", "FirstIssue"), failed_attempts=3)
    after = resolved(known(status=status, **refused(refusal(403)))).resource.status
    assert after.failed_attempts == 4


def test_another_spec_starts_with_the_first_wait() -> None:
    status = failed(Reason.DOMAIN_NOT_FOUND, until=NOW - SECOND, attempts=5)
    attempt = attempted(generation=2)
    after = resolved(known(status=status, generation=2, **refused(refusal(404), attempt))).resource.status
    assert after.next_attempt_time is not None
    assert after.next_attempt_time <= NOW + 1.1 * HOUR


def test_what_failed_for_another_spec_is_not_counted_while_the_new_one_is_asked_for() -> None:
    facts = known(status=failed(Reason.DOMAIN_NOT_FOUND, attempts=5), cns=["other.com"], generation=2)
    action = decide(facts).action
    assert isinstance(action, Issue)
    shown = action.meanwhile
    assert (shown.failed_attempts, shown.last_failure_time, shown.next_attempt_time) == (0, None, None)
    attempt = attempted(generation=2, cns=["other.com"])
    after = resolved(known(status=shown, cns=["other.com"], generation=2, **refused(refusal(404), attempt)))
    assert after.resource.status.failed_attempts == 1


def test_a_refusal_for_an_older_spec_holds_the_newer_one_not_up() -> None:
    after = resolved(known(cns=["other.com"], generation=2, **refused(refusal(400))))
    assert after.resource.status.observed_generation == 1
    action = decide(after).action
    assert isinstance(action, Issue)
    assert action.cns == {"other.com"}


def test_only_some_of_many_names_are_shown() -> None:
    names = [f"{letter}.example.com" for letter in "hgfedcba"]
    decision = decide(known(cns=names, **refused(refusal(403), attempted(cns=names))))
    shown = "a.example.com, b.example.com, c.example.com, d.example.com, e.example.com and 3 more"
    assert f" for {shown} failed" in message(decision, "Issuing")


# --- fenced off -------------------------------------------------------------------------------------------------------

NEWER = attempted("attempt-2", start=NOW)


def fenced_off(**more: Any) -> Known:
    """The answer to an attempt in whose place another stands now."""
    return known(**{**answered(NEW), "attempt": NEWER, **more})


def test_what_a_given_up_attempt_brought_is_told_and_left_to_the_user() -> None:
    decision = decide(fenced_off())
    assert decision.action == Write()
    assert decision.status is None
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason) == ("Warning", "LateCertificate")
    assert "cert_2" in decision.note.text


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"status": ready(NEW, attempt="attempt-2")}, id="in this status"),
        pytest.param({"status": ready(superseded_ids=("cert_2",), attempt="attempt-2")}, id="superseded"),
        pytest.param({"taken": {"cert_2"}, "status": ready(attempt="attempt-2")}, id="in another's status"),
    ],
)
def test_what_has_an_owner_is_not_told_of(facts: dict[str, Any]) -> None:
    assert decide(fenced_off(**facts)).note is None


def test_an_answer_whose_annotation_was_removed_is_written_down_all_the_same() -> None:
    before = replace(known(**answered(NEW), ours=True), resource=known(ours=True).resource)
    assert resolved(before).resource.status.id == "cert_2"


def test_an_attempt_that_is_in_status_is_not_resolved_again() -> None:
    facts = known(status=ready(NEW, attempt="attempt-1"), **answered(NEW))
    assert isinstance(decide(facts).action, Wait)


# --- an unknown outcome -----------------------------------------------------------------------------------------------

SEEN = NOW - 10 * SECOND
"""When this process first saw the resource, with the attempt of another process."""


def open_attempt(**more: Any) -> Known:
    """After a restart: an attempt a minute old, of which only the annotation is known."""
    return known(**{"attempt": ATTEMPT, "first_seen": SEEN, **more})


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(open_attempt(), id="after a restart"),
        pytest.param(open_attempt(suspend=True), id="suspended"),
        pytest.param(open_attempt(deleting=True), id="deleting"),
        pytest.param(open_attempt(generation=2, cns=["other.com"]), id="spec has changed"),
        pytest.param(open_attempt(owner="web/older"), id="a duplicate by now"),
        pytest.param(open_attempt(listing=listed(begun=SEEN - SECOND)), id="with a listing from before the restart"),
        pytest.param(open_attempt(status=ready(cert())), id="in a renewal"),
        pytest.param(open_attempt(status=failed(until=NOW + HOUR)), id="whatever the back-off says"),
    ],
)
def test_an_attempt_of_unknown_outcome_is_looked_for_in_a_new_listing(facts: Known) -> None:
    assert decide(facts).action == List(tick(SEEN))


@pytest.mark.parametrize(
    "failure",
    [TIMED_OUT, refusal(500), refusal(409), refusal(400, "validation_running"), Failure(Fate.UNKNOWN, "cut", 429)],
    ids=["time-out", "500", "409", "validation_running", "some proxy's 429"],
)
def test_a_reply_that_leaves_it_open_is_resolved_by_a_listing_from_after_it(failure: Failure) -> None:
    facts = known(**refused(failure, at=NOW - SECOND), listing=listed(begun=NOW - 2 * SECOND))
    assert decide(facts).action == List(tick(NOW - SECOND))


FOUND = cert("cert_2", created=NOW - 30 * SECOND)


def test_what_is_found_is_taken() -> None:
    before = open_attempt(listing=listed(cert("cert_0", created=NOW - DAY), FOUND))
    decision = decide(before)
    assert said(decision, "Ready") == READY
    assert decision.note is not None
    assert "found at Vercel" in decision.note.text
    assert resolved(before).resource.status.id == "cert_2"


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(
            open_attempt(listing=listed(FOUND, replace(FOUND, id="cert_3", created_at=NOW))), id="newest last"
        ),
        pytest.param(
            open_attempt(listing=listed(replace(FOUND, id="cert_3", created_at=NOW), FOUND)), id="newest first"
        ),
    ],
)
def test_of_several_the_newest_is_taken_and_the_attempt_remembered_since_the_others_may_be_its_own(
    before: Known,
) -> None:
    after = resolved(before).resource.status
    assert after.id == "cert_3"
    assert [lost.id for lost in after.lost_attempts] == ["attempt-1"]
    assert late_certificates(after, listed(replace(FOUND, id="cert_3", created_at=NOW), FOUND), ()) == (FOUND,)


@pytest.mark.parametrize(
    ("age", "taken"),
    [(30 * SECOND, True), (61 * SECOND, True), (63 * SECOND, False)],
    ids=["since", "nearly", "before"],
)
def test_who_made_the_request_reckons_without_any_wall_clock(age: timedelta, taken: bool) -> None:
    """Seen a minute ago; by Vercel's clock, whatever that is, what is younger than that can be its outcome."""
    at_vercel = NOW + 3 * DAY
    listing = replace(listed(cert("cert_2", created=at_vercel - age)), at_vercel=at_vercel)
    facts = known(**refused(TIMED_OUT, took=MINUTE), first_seen=NOW - MINUTE, listing=listing)
    assert (decide(facts).action == Write(outcome=True)) is taken


@pytest.mark.parametrize(
    ("created", "taken"), [(NOW - 30 * DAY, True), (NOW - 30 * DAY - 61 * MINUTE, False)], ids=["since", "before"]
)
def test_where_no_clock_is_known_to_be_right_all_since_the_resource_was_made_can_be_its_outcome(
    created: datetime, taken: bool
) -> None:
    """Vercel's clock is an hour behind, and the attempt's writer had not heard of it."""
    listing = listed(cert("cert_2", created=created), offset=-HOUR)
    assert (decide(open_attempt(listing=listing)).action == Write(outcome=True)) is taken


def test_while_the_outcome_is_not_known_the_user_is_told_what_comes_of_that_whatever_was_answered() -> None:
    limited = Failure(Fate.UNKNOWN, "some proxy's page", 429)
    decision = decide(known(**refused(limited), listing=listed()))
    assert "looks whether Vercel issued the certificate" in message(decision, "Issuing")
    assert "limits how often" not in message(decision, "Issuing")


def test_of_one_nothing_is_remembered() -> None:
    assert resolved(open_attempt(listing=listed(FOUND))).resource.status.lost_attempts == ()


@pytest.mark.parametrize(
    ("listing", "more"),
    [
        pytest.param(listed(cert("cert_2", created=ATTEMPT.start - 3 * SECOND)), {}, id="created before its start"),
        pytest.param(
            listed(cert("cert_2", created=NOW - 30 * SECOND), offset=MINUTE),
            {"attempt": attempted(clock_offset=MINUTE)},
            id="the same, by Vercel's clock",
        ),
        pytest.param(listed(replace(FOUND, cns=frozenset({"example.com", "b.com"}))), {}, id="with one name more"),
        pytest.param(listed(replace(FOUND, cns=frozenset())), {}, id="with no names"),
        pytest.param(listed(replace(FOUND, created_at=None)), {}, id="of unknown age"),
        pytest.param(listed(FOUND), {"taken": {"cert_2"}}, id="another resource's"),
        pytest.param(listed(FOUND), {"status": ready(FOUND)}, id="the one that is known"),
        pytest.param(listed(FOUND), {"status": ready(superseded_ids=("cert_2",))}, id="a superseded one"),
        pytest.param(
            listed(FOUND), {"status": ready(cert("cert_1", created=NOW))}, id="for a renewal, older than the known one"
        ),
    ],
)
def test_what_can_not_be_its_outcome_is_not_taken(listing: Any, more: dict[str, Any]) -> None:
    decision = decide(open_attempt(listing=listing, **more))
    assert isinstance(decision.action, Wait)
    assert said(decision, "Issuing") == ("True", "OutcomeUnknown")


@pytest.mark.parametrize(
    ("created", "offset"),
    [
        pytest.param(ATTEMPT.start, timedelta(), id="in the same moment"),
        pytest.param(ATTEMPT.start - 2 * SECOND, timedelta(), id="within the tolerance for clocks"),
        pytest.param(ATTEMPT.start - HOUR, -HOUR, id="by a Vercel clock that is behind"),
        pytest.param(ATTEMPT.start + HOUR, HOUR, id="by a Vercel clock that is ahead"),
    ],
)
def test_times_are_compared_in_vercels_clock(created: datetime, offset: timedelta) -> None:
    attempt = attempted(clock_offset=offset)
    before = open_attempt(attempt=attempt, listing=listed(cert("cert_2", created=created), offset=offset))
    assert resolved(before).resource.status.id == "cert_2"


@pytest.mark.parametrize("ahead", [10 * MINUTE, -10 * MINUTE], ids=["ahead", "behind"])
def test_an_attempt_by_a_machine_with_another_clock_finds_its_certificate(ahead: timedelta) -> None:
    """Begun an hour ago, and resolved where the clock is right: that clock has no part in the attempt's start."""
    begun = NOW - HOUR
    attempt = attempted(start=begun + ahead, clock_offset=-ahead)
    older, mine = cert("cert_0", created=begun - MINUTE), cert("cert_2", created=begun + SECOND)
    assert resolved(open_attempt(attempt=attempt, listing=listed(older, mine))).resource.status.id == "cert_2"
    decision = decide(open_attempt(attempt=attempt, listing=listed(older)))
    assert said(decision, "Issuing") == ("True", "OutcomeUnknown")


def test_where_vercels_time_was_not_known_yet_an_attempt_finds_what_came_since_the_resource_was_made() -> None:
    """A process's first request, from a machine whose clock is ahead: better a certificate too many than one lost."""
    attempt = attempted(start=NOW - HOUR + 10 * MINUTE, clock_offset=None)
    mine = cert("cert_2", created=NOW - HOUR)
    facts = open_attempt(attempt=attempt, created_at=NOW - 2 * HOUR, listing=listed(mine))
    assert resolved(facts).resource.status.id == "cert_2"
    before_it = cert("cert_2", created=NOW - 3 * HOUR)
    facts = open_attempt(attempt=attempt, created_at=NOW - 2 * HOUR, listing=listed(before_it))
    assert said(decide(facts), "Issuing") == ("True", "OutcomeUnknown")


def test_what_is_found_in_the_recorded_scope_stays_in_it() -> None:
    """The operator was restarted with another team in the middle of a renewal."""
    before = open_attempt(status=ready(cert()), scope=OTHER_TEAM, listing=listed(FOUND))
    assert resolved(before).resource.status.team == "team_a"


def test_while_it_is_not_known_the_user_is_told_once_and_vercel_is_listed_ever_more_seldom() -> None:
    facts = known(**refused(TIMED_OUT, took=120 * SECOND), listing=listed(begun=NOW))
    waits, notes = [], 0
    while True:
        decision = decide(facts)
        assert_in_order(facts, decision)
        notes += decision.note is not None and decision.note.reason == "Failed"
        if decision.action == Write(outcome=True):
            break
        assert isinstance(decision.action, Wait)
        assert decision.action.until is not None
        assert said(decision, "Issuing") == ("True", "OutcomeUnknown")
        assert said(decision, "Ready") == ("False", "OutcomeUnknown")
        assert "no answer within 120 s" in message(decision, "Issuing")
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
    ("facts", "grace_end"),
    [
        pytest.param(open_attempt(), SEEN + 180 * SECOND, id="another process's: POST limit and a minute"),
        pytest.param(
            open_attempt(limits=Limits(post=timedelta(seconds=10))), SEEN + 70 * SECOND, id="a settable limit"
        ),
        pytest.param(known(**refused(TIMED_OUT, took=MINUTE)), NOW + 120 * SECOND, id="a time-out, from the start"),
        pytest.param(known(**refused(TIMED_OUT, took=HOUR)), NOW, id="one that took for ever"),
        pytest.param(known(**refused(refusal(500), took=MINUTE)), NOW + 30 * SECOND, id="30 s from Vercel's own error"),
    ],
)
def test_an_attempt_is_given_up_only_by_a_listing_begun_after_the_grace(facts: Known, grace_end: datetime) -> None:
    now = max(grace_end, NOW) + SECOND
    if grace_end > NOW:
        early = at(facts, now, listing=listed(begun=grace_end - timedelta(milliseconds=1)))
        assert decide(early).action == List(tick(grace_end))
    before = at(facts, now, listing=listed(begun=grace_end))
    decision = decide(before)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (("False", "AttemptLost"),) * 2
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason) == ("Warning", "AttemptLost")
    after = resolved(before)
    assert [(lost.id, lost.start, lost.cns) for lost in after.resource.status.lost_attempts] == [
        ("attempt-1", ATTEMPT.start, ("example.com",))
    ]
    assert after.resource.status.failed_attempts == 1
    assert isinstance(decide(after).action, Issue), "a first loss is not backed off from"


def test_an_attempt_is_not_given_up_before_its_grace_though_other_clocks_say_so() -> None:
    """Written by another node whose clock was an hour behind: it may have been sent just now."""
    facts = open_attempt(attempt=attempted(start=NOW - HOUR), first_seen=NOW, listing=listed())
    assert isinstance(decide(facts).action, Wait)


def lost_before(*starts: datetime) -> tuple[LostAttempt, ...]:
    return tuple(LostAttempt(id=f"lost-{number}", start=start) for number, start in enumerate(starts))


@pytest.mark.parametrize(
    ("earlier", "wait"),
    [(1, 10 * MINUTE), (2, 20 * MINUTE), (3, 40 * MINUTE), (7, 640 * MINUTE), (8, 1280 * MINUTE), (9, 32 * HOUR)],
)
def test_from_the_second_loss_on_it_is_backed_off_from(earlier: int, wait: timedelta) -> None:
    lost = lost_before(*(NOW - DAY for _ in range(earlier)))
    before = open_attempt(status=status_of(None, lost_attempts=lost), listing=listed(), now=NOW + HOUR)
    before = replace(before, listing=listed(begun=before.now))
    after = resolved(before)
    until = after.resource.status.next_attempt_time
    assert until is not None
    assert before.now + wait - SECOND <= until <= before.now + wait * 1.1
    decision = decide(after)
    assert decision.action == Wait(until)
    assert said(decision, "Issuing") == ("False", "AttemptLost")


@pytest.mark.parametrize("earlier", [10, 15])
def test_only_the_last_few_losses_are_kept_and_the_wait_stays_at_its_cap(earlier: int) -> None:
    lost = lost_before(*(NOW - DAY for _ in range(earlier)))
    before = open_attempt(status=status_of(None, lost_attempts=lost), now=NOW + HOUR)
    after = resolved(replace(before, listing=listed(begun=before.now))).resource.status
    assert len(after.lost_attempts) == 10
    assert after.lost_attempts[-1].id == "attempt-1"
    assert after.next_attempt_time is not None
    assert after.next_attempt_time >= before.now + 32 * HOUR - SECOND


def test_losses_from_before_the_certificate_do_not_count() -> None:
    status = ready(cert(created=NOW - DAY), lost_attempts=lost_before(NOW - 2 * DAY, NOW - 3 * DAY))
    before = open_attempt(status=status, renew="1", attempt=attempted(renew="1"), now=NOW + HOUR)
    after = resolved(replace(before, listing=listed(begun=before.now)))
    assert isinstance(decide(replace(after, listing=None)).action, Issue)


def test_a_loss_in_a_renewal_leaves_ready_as_it_is() -> None:
    before = open_attempt(status=ready(), now=NOW + HOUR, listing=listed(begun=NOW + HOUR))
    decision = decide(before)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (READY, ("False", "AttemptLost"))


def test_an_attempt_that_was_never_sent_is_made_anew_without_a_listing() -> None:
    assert isinstance(decide(open_attempt(void_attempts={"attempt-1"})).action, Issue)


def test_an_attempt_of_a_copied_manifest_is_ignored() -> None:
    assert isinstance(decide(known(attempt=attempted(uid="uid-of-another"), ours=False)).action, Issue)


@pytest.mark.parametrize("ahead", [HOUR, 3650 * DAY], ids=["an hour", "ten years"])
def test_an_attempt_from_the_future_is_resolved_in_time_all_the_same(ahead: timedelta) -> None:
    """Edited, or written where the clock was ahead. No other process can still be sending it long after it was seen."""
    attempt = attempted(start=NOW + ahead)
    before = known(attempt=attempt, first_seen=NOW - HOUR, listing=listed(begun=NOW))
    assert resolved(before).resource.status.attempt == "attempt-1"


@pytest.mark.parametrize("step", [-HOUR, HOUR, -3650 * DAY], ids=str)
@pytest.mark.parametrize("reply", [True, False], ids=["with a reply", "after a restart"])
def test_a_clock_that_was_set_holds_nothing_up_and_gives_nothing_up(reply: bool, step: timedelta) -> None:
    facts = known(**refused(TIMED_OUT)) if reply else open_attempt(first_seen=NOW)
    facts = replace(facts, now=NOW + step, listing=listed())
    decision = decide(facts)
    assert isinstance(decision.action, Wait)
    assert decision.action.until == facts.now + 5 * SECOND


@pytest.mark.parametrize("ahead", [HOUR, 3650 * DAY], ids=["an hour", "ten years"])
def test_what_came_of_an_attempt_from_the_future_is_found(ahead: timedelta) -> None:
    before = known(attempt=attempted(start=NOW + ahead), first_seen=NOW - MINUTE, listing=listed(FOUND))
    assert resolved(before).resource.status.id == "cert_2"


# --- our finalizer, but neither attempt nor id ------------------------------------------------------------------------


def replaced(**more: Any) -> Known:
    """The object was replaced by its manifest: only the finalizer is left."""
    return known(**{"ours": True, "first_seen": SEEN, **more})


def test_a_missing_record_is_listed_for_first() -> None:
    assert decide(replaced()).action == List(tick(SEEN))
    assert decide(replaced(listing=listed(begun=SEEN - SECOND))).action == List(tick(SEEN))


def test_a_malformed_record_is_listed_for_first() -> None:
    assert decide(replaced(annotations={"vercel-operator.io/attempt": "?"})).action == List(tick(SEEN))


@pytest.mark.parametrize("more", [{"suspend": True}, {"deleting": True}, {"renew": "1"}], ids=str)
def test_whatever_else_is_wanted_a_missing_record_is_listed_for_first(more: dict[str, Any]) -> None:
    assert decide(replaced(**more)).action == List(tick(SEEN))


def test_what_was_issued_since_the_resource_was_made_is_taken() -> None:
    decision = decide(replaced(listing=listed(cert()), renew="1"))
    assert isinstance(decision.action, Write)
    status = decision.status
    assert status is not None
    assert (status.id, status.ready, status.last_renew_request) == ("cert_1", True, "1")
    after = written(replaced(renew="1"), decision)
    assert isinstance(decide(after).action, Wait), "and nothing is asked for"


@pytest.mark.parametrize(
    "listing",
    [
        pytest.param(listed(cert(created=NOW - 31 * DAY)), id="older than the resource"),
        pytest.param(listed(cert(cns=["other.com"])), id="of other names"),
    ],
)
def test_what_is_not_its_own_is_not_taken(listing: Any) -> None:
    before = replaced(listing=listing)
    decision = decide(before)
    assert isinstance(decision.action, Wait)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (
        ("False", "OutcomeUnknown"),
        ("True", "OutcomeUnknown"),
    )
    assert_in_order(before, decision)


def test_after_the_grace_a_certificate_is_asked_for() -> None:
    after = SEEN + timedelta(seconds=Limits().grace)
    assert decide(replaced(now=after, listing=listed(begun=after - SECOND))).action == List(tick(after))
    assert isinstance(decide(replaced(now=after, listing=listed(begun=after))).action, Issue)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(known(ours=False), id="no finalizer"),
        pytest.param(known(ours=True, status=status_of(None, attempt="attempt-0")), id="an attempt in status"),
        pytest.param(known(ours=True, status=ready(), renew="1"), id="an id in status"),
    ],
)
def test_nothing_is_listed_where_there_is_a_record(facts: Known) -> None:
    assert isinstance(decide(facts).action, Issue)
