"""A POST that was refused or not sent: the reason, the wait, what ends it, and what counts as a row of failures."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.building import (
    DAY,
    DUE,
    HOUR,
    MINUTE,
    NO_TOKEN,
    NOT_SENT,
    NOW,
    OTHER_TEAM,
    READY,
    SECOND,
    assert_in_order,
    attempted,
    cert,
    conditions_of,
    failed,
    failing,
    issued_by,
    known,
    led_to,
    listed,
    message,
    note_of,
    ready,
    refusal,
    refused,
    written,
)
from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.facts import renew_is_new, waiting_until
from vercel_certificate_operator.core.failures import LONGEST_WAITS, Failure
from vercel_certificate_operator.core.known import Decision, Issue, Known, List, ReadToken, Wait, Write
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Attempt
from vercel_certificate_operator.core.resource import Status


def recorded(before: Known) -> tuple[Status, Decision]:
    """Returns the status once the refusal is recorded, which has to be next."""
    decision = decide(before)
    assert decision.policy == "outcome_is_recorded"
    assert decision.action == Write(closes=True)
    assert_in_order(before, decision)
    return written(before, decision).resource.status, decision


def closed_by(failure: Failure, attempt: Attempt | None = None, **more: Any) -> Attempt:
    """Returns the attempt with its outcome."""
    status, _ = recorded(known(**refused(failure, attempt), **more))
    assert status.closed_attempt is not None
    return status.closed_attempt


def wait_of(attempt: Attempt) -> timedelta:
    assert attempt.retry_time is not None
    return attempt.retry_time - NOW


@pytest.mark.parametrize(
    ("failure", "reason", "first"),
    [
        (refusal(400), "InvalidRequest", 32 * HOUR),
        (refusal(401), "CredentialsInvalid", MINUTE),
        (refusal(402), "PaymentRequired", HOUR),
        (refusal(403), "PermissionDenied", HOUR),
        (refusal(403, invalid_token=True), "CredentialsInvalid", MINUTE),
        (refusal(404), "DomainNotFound", HOUR),
        (refusal(410), "DomainNotFound", HOUR),
        (refusal(429), "RateLimited", MINUTE),
        (refusal(449), "DomainNotConfigured", MINUTE),
        (refusal(500, "invalid_cn"), "InvalidRequest", 32 * HOUR),
        (refusal(400, "rate_limited"), "RateLimited", HOUR),
        (NOT_SENT, "VercelUnreachable", 2 * SECOND),
        (NO_TOKEN, "CredentialsInvalid", 5 * SECOND),
    ],
    ids=lambda value: f"{value.status} {value.code}" if isinstance(value, Failure) else None,
)
@pytest.mark.parametrize("certificate", [None, cert()], ids=["first", "renewal"])
def test_a_refusal_is_recorded_with_its_reason_and_the_time_of_the_next_attempt(
    failure: Failure, reason: str, first: timedelta, certificate: Certificate | None
) -> None:
    held = ready(certificate) if certificate else None
    before = known(status=held, renew="1", **refused(failure, attempted(renew="1")))
    status, decision = recorded(before)
    assert conditions_of(decision) == (READY if certificate else ("False", reason), ("False", reason))
    assert note_of(decision) == ("Warning", reason, "Issue")
    assert decision.note is not None
    assert message(decision, "Issuing").startswith(f"{decision.note.text} Next attempt: 2026-")
    attempt = status.closed_attempt
    assert attempt is not None
    assert (attempt.outcome, attempt.outcome_reason) == ("Refused", reason)
    assert NOW + first - SECOND <= NOW + wait_of(attempt) <= NOW + first * 1.1
    assert (status.failed_attempts, status.last_failure_time) == (1, NOW)
    assert status.next_attempt_time == attempt.retry_time
    assert status.last_renew_request is None, "the request is still to be met"
    assert (status.id, status.issuances) == (certificate and certificate.id, ())


def test_a_message_says_what_was_tried_what_vercel_said_and_what_to_do() -> None:
    _, decision = recorded(known(**refused(refusal(402, "payment_required"))))
    assert message(decision, "Issuing").startswith(
        "Vercel did not issue a certificate for example.com with the default token: Vercel says no (payment_required, "
        "HTTP 402). Check the plan and the billing of the Vercel account. Next attempt: 2026-01-01T13:"
    )


def test_a_message_names_the_domains_that_the_error_blames() -> None:
    failure = refusal(449, "configuration_error", cns=("www.example.com",))
    _, decision = recorded(known(**refused(failure)))
    assert "Vercel says no for www.example.com (configuration_error, HTTP 449)" in message(decision, "Issuing")


def test_only_some_of_many_names_are_shown() -> None:
    names = [f"{letter}.example.com" for letter in "hgfedcba"]
    _, decision = recorded(known(cns=names, **refused(refusal(403), attempted(cns=names))))
    shown = "a.example.com, b.example.com, c.example.com, d.example.com, e.example.com and 3 more"
    assert f"a certificate for {shown} with the default token: Vercel says no" in message(decision, "Issuing")


@pytest.mark.parametrize("status", [429, 403])
def test_the_operator_waits_as_long_as_vercel_says(status: int) -> None:
    wait = wait_of(closed_by(refusal(status, retry_after=3 * HOUR)))
    assert 3 * HOUR - SECOND <= wait <= 3.3 * HOUR


def test_a_shorter_retry_after_does_not_shorten_the_wait() -> None:
    assert wait_of(closed_by(refusal(403, retry_after=SECOND))) >= HOUR - SECOND


# --- failures in a row ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "wait"),
    [(1, 2 * HOUR), (2, 4 * HOUR), (4, 16 * HOUR), (5, 32 * HOUR), (30, 32 * HOUR), (33, 32 * HOUR), (1000, 32 * HOUR)],
)
def test_the_wait_doubles_up_to_its_cap(times: int, wait: timedelta) -> None:
    attempt = attempted(previous_failures=times, previous_reason="PermissionDenied")
    status, _ = recorded(known(**refused(refusal(403), attempt)))
    assert status.failed_attempts == times + 1
    assert status.closed_attempt is not None
    assert wait - SECOND <= wait_of(status.closed_attempt) <= wait * 1.1


def test_a_failure_of_another_kind_starts_with_its_own_first_wait() -> None:
    """An hour without a network must not make the first real answer wait for a day."""
    attempt = attempted(previous_failures=20, previous_reason="VercelUnreachable")
    assert wait_of(closed_by(refusal(449), attempt)) < 2 * MINUTE


@pytest.mark.parametrize(
    ("facts", "count", "reason"),
    [
        pytest.param(known(status=failed(until=NOW, times=3)), 3, "PermissionDenied", id="the same names"),
        pytest.param(known(status=failed(until=NOW, times=3), cns=["b.com"]), 0, None, id="other names"),
        pytest.param(known(status=failed(until=NOW, times=0)), 0, None, id="a success since"),
        pytest.param(known(), 0, None, id="nothing was tried"),
        pytest.param(
            known(status=failed(until=NOW, times=3), renew_before="1h", generation=2),
            3,
            "PermissionDenied",
            id="another renewBefore",
        ),
    ],
)
def test_an_attempt_records_the_failures_before_it(facts: Known, count: int, reason: str | None) -> None:
    attempt = issued_by(facts)
    assert (attempt.previous_failures, attempt.previous_reason) == (count, reason)


def test_an_attempt_that_was_never_sent_does_not_interrupt_a_row_of_failures() -> None:
    first = failed(times=4, until=NOW)
    second = issued_by(known(status=first))
    facts = known(status=first, attempt=second, void_attempts={second.id}, new_attempt_id="third")
    third = issued_by(facts)
    assert (third.previous_failures, third.previous_reason) == (4, "PermissionDenied")


def test_a_row_that_belongs_to_other_names_ends_with_an_attempt_that_was_never_sent_too() -> None:
    second = issued_by(known(status=failed(times=4, until=NOW)))
    facts = known(attempt=second, void_attempts={second.id}, cns=["b.com"], new_attempt_id="third")
    assert issued_by(facts).previous_failures == 0


# --- what ends the wait -----------------------------------------------------------------------------------------------

REFUSED = attempted("attempt-0", start=NOW - HOUR, renew="1", token_hash="t1")


def waiting(reason: Reason = Reason.DOMAIN_NOT_FOUND, *, until: Any = NOW + HOUR, **more: Any) -> Known:
    status = failed(reason, until=until, attempt=REFUSED)
    token = more.setdefault("token_hash", "t1")
    return known(**{"status": status, "renew": "1", "token_read": token is not None, **more})


def test_the_wait_after_a_failure_is_waited_for() -> None:
    facts = waiting()
    assert waiting_until(facts) == NOW + HOUR
    decision = decide(facts)
    assert decision.policy == "back_off_is_waited_for"
    assert decision.action == Wait(NOW + HOUR)
    assert conditions_of(decision) == (("False", "DomainNotFound"),) * 2
    assert message(decision, "Issuing") == "As it was. Next attempt: 2026-01-01T13:00:00Z."
    assert_in_order(facts, decision)
    assert waiting_until(replace(facts, now=NOW + HOUR - SECOND)) == NOW + HOUR
    assert waiting_until(replace(facts, now=NOW + HOUR)) is None


@pytest.mark.parametrize(
    ("facts", "ends"),
    [
        pytest.param(waiting(), False, id="nothing changed"),
        pytest.param(waiting(generation=2), False, id="the generation"),
        pytest.param(waiting(renew_before="1h", generation=2), False, id="renewBefore"),
        pytest.param(waiting(deletion_policy="Retain", generation=2), False, id="deletionPolicy"),
        pytest.param(waiting(existing_certificate="Adopt", generation=2), False, id="existingCertificate"),
        pytest.param(waiting(cns=["Example.COM"], generation=2), False, id="the case of names"),
        pytest.param(waiting(cns=["b.com"], generation=2), True, id="names"),
        pytest.param(waiting(scope=OTHER_TEAM), True, id="the team"),
        pytest.param(waiting(token_hash="t2"), True, id="the token"),
        pytest.param(waiting(token_hash=None), False, id="the token wasn't read"),
        pytest.param(waiting(renew="2"), True, id="the renew annotation"),
        pytest.param(waiting(renew=""), True, id="the renew annotation is empty: another value"),
        pytest.param(waiting(renew=None), False, id="the renew annotation was removed"),
    ],
)
def test_a_wait_ends_only_when_what_was_refused_changes(facts: Known, ends: bool) -> None:
    """Or renewBefore that flips between two values ends a wait of 32 hours each time."""
    assert (waiting_until(facts) is None) is ends
    _, decision = led_to(facts)
    assert isinstance(decision.action, Issue) is ends


def test_an_attempt_without_a_token_hash_does_not_end_by_it() -> None:
    status = failed(attempt=attempted("attempt-0"))
    assert waiting_until(known(status=status, token_hash="t1")) == NOW + HOUR


def test_a_request_that_was_met_before_the_attempt_does_not_end_the_wait() -> None:
    status = failed(attempt=attempted("attempt-0", renew=None), last_renew_request="1")
    assert waiting_until(known(status=status, renew="1")) == NOW + HOUR
    assert waiting_until(known(status=status, renew="2")) is None


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(ready(), id="it succeeded"),
        pytest.param(ready(attempt=REFUSED.changed(outcome="Void")), id="it has no retry time"),
        pytest.param(ready(attempt=REFUSED.changed(retry_time=NOW + HOUR)), id="it is open"),
        pytest.param(None, id="there was none"),
    ],
)
def test_without_a_failure_there_is_no_wait(status: Status | None) -> None:
    assert waiting_until(known(status=status, renew="1")) is None


@pytest.mark.parametrize("reason", sorted(LONGEST_WAITS))
def test_a_time_too_far_ahead_was_recorded_while_a_clock_was_wrong_and_is_void(reason: str) -> None:
    longest = LONGEST_WAITS[reason]
    assert waiting_until(waiting(Reason(reason), until=NOW + longest)) is not None
    assert waiting_until(waiting(Reason(reason), until=NOW + longest + 2 * SECOND)) is not None
    assert waiting_until(waiting(Reason(reason), until=NOW + longest + 3 * SECOND)) is None
    assert waiting_until(waiting(Reason(reason), until=NOW + 365 * DAY)) is None


def test_a_wait_for_a_reason_of_another_version_ends_after_a_day() -> None:
    attempt = REFUSED.changed(outcome="Refused", outcome_reason="Postponed", retry_time=NOW + DAY)
    assert waiting_until(known(status=ready(attempt=attempt), renew="1")) == NOW + DAY
    later = attempt.changed(retry_time=NOW + DAY + 3 * SECOND)
    assert waiting_until(known(status=ready(attempt=later), renew="1")) is None


def test_a_need_that_has_gone_ends_everything() -> None:
    facts = known(status=failed(certificate=cert()))
    decision = decide(facts)
    assert decision.policy == "nothing_is_needed"
    assert decision.status is not None
    assert (decision.status.failed_attempts, decision.status.next_attempt_time) == (0, None)


def test_ready_becomes_false_by_time_alone_during_the_wait() -> None:
    soon = cert(created=NOW - 90 * DAY + MINUTE)
    facts = known(status=failed(Reason.DOMAIN_NOT_FOUND, certificate=soon), token_read=True)
    decision = decide(facts)
    assert decision.action == Wait(NOW + MINUTE)
    assert conditions_of(decision)[0] == READY
    later = replace(facts, now=NOW + MINUTE)
    decision = decide(later)
    assert decision.action == Wait(NOW + HOUR)
    assert conditions_of(decision) == (("False", "DomainNotFound"),) * 2
    assert_in_order(later, decision)


def test_names_reverted_while_the_new_ones_are_refused_are_issued_or_need_nothing() -> None:
    """{a, b} is refused, spec goes back to {a} and then to {a, b} again: nothing stays stuck."""
    both = ["a.com", "b.com"]
    held = cert(cns=["a.com"])
    attempt = attempted("attempt-0", cns=both)
    status = failed(Reason.DOMAIN_NOT_CONFIGURED, certificate=held, attempt=attempt)
    facts, decision = led_to(known(cns=["a.com"], status=status, generation=2), held)
    assert decision.policy == "nothing_is_needed"
    again = known(cns=both, status=facts.resource.status, generation=3)
    assert led_to(again, held)[1].policy == "back_off_is_waited_for"
    assert issued_by(replace(again, now=NOW + HOUR), held).cns == ("a.com", "b.com")


@pytest.mark.parametrize("meanwhile", ["Suspended", "Issued"])
def test_a_wait_is_reported_again_after_something_else_was_reported(meanwhile: str) -> None:
    """The resource was suspended for a while, or had other names, which its certificate covers."""
    both = ["a.com", "b.com"]
    attempt = attempted("attempt-0", cns=both, generation=1)
    before = failed(Reason.PAYMENT_REQUIRED, certificate=cert(cns=["a.com"]), attempt=attempt)
    status = before.changed(next_attempt_time=None, observed_generation=2).with_condition(
        "Issuing", "False", meanwhile, "Something else.", generation=2, now=NOW
    )
    facts, decision = led_to(known(cns=both, status=status, generation=3), cert(cns=["a.com"]))
    assert decision.policy == "back_off_is_waited_for"
    assert conditions_of(decision) == (("False", "PaymentRequired"),) * 2
    assert decision.status is not None
    assert decision.status.observed_generation == 3
    assert decision.status.next_attempt_time == NOW + HOUR
    text = message(decision, "Issuing")
    assert "to issue a certificate for a.com, b.com failed. Its Event and the operator's log" in text
    assert text.endswith("Next attempt: 2026-01-01T13:00:00Z.")
    assert decision.note is None, "nothing has failed again"
    assert decide(written(facts, decision)).status == decision.status
    assert_in_order(facts, decision)


def test_a_wait_keeps_vercels_words_when_something_else_in_spec_changes() -> None:
    said = "Vercel wants money. Next attempt: 2026-01-01T13:00:00Z."
    before = failed(Reason.PAYMENT_REQUIRED)
    status = before.with_condition("Issuing", "False", "PaymentRequired", said, generation=1, now=NOW)
    decision = decide(known(status=status, generation=2, token_read=True))
    assert decision.policy == "back_off_is_waited_for"
    assert message(decision, "Issuing") == said
    assert decision.status is not None
    assert decision.status.observed_generation == 2


# --- tokens, and certificates made by hand ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "every_minute"),
    [
        (Reason.CREDENTIALS_INVALID, True),
        (Reason.PERMISSION_DENIED, True),
        (Reason.DOMAIN_NOT_FOUND, False),
        (Reason.PAYMENT_REQUIRED, False),
    ],
)
def test_another_token_ends_the_wait(reason: Reason, every_minute: bool) -> None:
    """It is read in every round: within a minute if Vercel refused the token itself."""
    facts = waiting(reason, token_hash=None)
    assert decide(facts).action == ReadToken()
    same = replace(facts, token_read=True, token_hash="t1")
    decision = decide(same)
    assert decision.action == Wait(NOW + (MINUTE if every_minute else HOUR))
    assert decision.policy == "back_off_is_waited_for"
    assert isinstance(led_to(replace(same, token_hash="t2"))[1].action, Issue)


@pytest.mark.parametrize("span", [20 * SECOND, MINUTE])
def test_no_token_is_read_during_a_short_wait(span: timedelta) -> None:
    assert decide(waiting(Reason.CREDENTIALS_INVALID, until=NOW + span, token_hash=None)).action == Wait(NOW + span)
    longer = waiting(Reason.CREDENTIALS_INVALID, until=NOW + span + MINUTE, token_hash=None)
    assert decide(longer).action == ReadToken()


WILDCARD = ["example.com", "*.example.com"]


def by_hand(reason: Reason = Reason.INVALID_REQUEST, *, until: Any = NOW + 32 * HOUR, **more: Any) -> Known:
    attempt = attempted("attempt-0", cns=WILDCARD)
    status = failed(reason, until=until, attempt=attempt)
    return known(**{"cns": WILDCARD, "status": status, "token_read": True, "domains": {"example.com": None}, **more})


def test_a_certificate_that_the_user_can_make_by_hand_is_searched_for_every_hour() -> None:
    facts = by_hand()
    decision = decide(facts)
    assert decision.action == List(facts.tick - 3600.0, facts.scope), "one list for all"
    after = replace(facts, listing=listed())
    decision = decide(after)
    assert (decision.policy, decision.action) == ("back_off_is_waited_for", Wait(NOW + HOUR))
    assert conditions_of(decision) == (("False", "InvalidRequest"),) * 2


def test_it_is_used_when_it_appears() -> None:
    made = cert("cert_h", WILDCARD, created=NOW)
    facts, decision = led_to(by_hand(), made)
    assert decision.policy == "nothing_is_needed"
    assert (facts.resource.status.id, facts.resource.status.origin) == ("cert_h", "Found")


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(by_hand(Reason.DOMAIN_NOT_FOUND), id="nothing to solve by hand"),
        pytest.param(by_hand(Reason.DOMAIN_NOT_CONFIGURED, until=NOW + HOUR), id="the wait is no longer than that"),
        pytest.param(
            known(status=failed(Reason.INVALID_REQUEST, until=NOW + 32 * HOUR), token_read=True),
            id="no wildcard among the names",
        ),
    ],
)
def test_otherwise_nothing_is_listed_during_a_wait(facts: Known) -> None:
    attempt = facts.resource.status.attempt
    assert attempt is not None
    assert decide(facts).action == Wait(attempt.retry_time)


def test_dns_records_can_be_set_by_hand_too() -> None:
    assert isinstance(decide(by_hand(Reason.DOMAIN_NOT_CONFIGURED, until=NOW + 1.1 * HOUR)).action, List)


def test_a_list_that_fails_does_not_change_what_is_reported() -> None:
    decision = decide(by_hand(failed=failing("list", refusal(500))))
    assert decision.action == Wait(NOW + HOUR)
    assert conditions_of(decision) == (("False", "InvalidRequest"),) * 2


# --- requests of the user ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "new"),
    [
        pytest.param(None, True, id="nothing was tried"),
        pytest.param(attempted(renew=None, outcome="Issued"), True, id="the attempt before was for none"),
        pytest.param(attempted(renew="0", outcome="Lost", requested=True), True, id="for another value"),
        pytest.param(attempted(renew="1", outcome="Lost", requested=True), False, id="for this value, and was lost"),
        pytest.param(attempted(renew="1", outcome="Unexpected", requested=True), False, id="answered oddly"),
        pytest.param(attempted(renew="1", outcome="Refused", requested=True), True, id="refused: nothing was issued"),
        pytest.param(attempted(renew="1", outcome="Void", requested=True), True, id="never sent"),
        pytest.param(attempted(renew="1", outcome="Refused"), False, id="it was no longer new then"),
        pytest.param(attempted(renew="1", outcome="Void"), False, id="nor then"),
    ],
)
def test_a_request_is_new_until_an_attempt_for_it_may_have_issued(attempt: Attempt | None, new: bool) -> None:
    status = ready(attempt=attempt)
    assert renew_is_new(known(status=status, renew="1")) is new
    assert not renew_is_new(known(status=status.changed(last_renew_request="1"), renew="1")), "it was acted on"
    assert not renew_is_new(known(status=status))


def test_an_attempt_records_whether_the_user_requested_it() -> None:
    attempt = issued_by(known(status=ready(DUE), renew="1"), DUE)
    assert (attempt.reason, attempt.renew_request, attempt.requested) == (Reason.RENEW_REQUESTED, "1", True)
    lost = attempt.changed(outcome="Lost")
    again = issued_by(known(status=ready(DUE, attempt=lost), renew="1"), DUE)
    assert (again.renew_request, again.requested) == ("1", False)
    assert not issued_by(known(status=ready(DUE, last_renew_request="1"), renew="1"), DUE).requested
