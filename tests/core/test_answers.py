"""An answer to a POST: which certificate becomes current, where it came from, and what is recorded of the attempt."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.building import (
    DAY,
    DUE,
    EXPIRED,
    HOUR,
    ISSUED_AT,
    MINUTE,
    NEW,
    NOTHING_TO_DO,
    NOW,
    READY,
    SECOND,
    TEAM,
    answered,
    asked_again,
    assert_in_order,
    at,
    attempted,
    cert,
    conditions_of,
    failed,
    failing,
    gone,
    got,
    issued_by,
    known,
    led_to,
    listed,
    message,
    note_of,
    paused,
    ready,
    refusal,
    replaced,
    status_of,
    tick,
    written,
)
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.known import Decision, Get, Known, Limits, List, Wait, Write
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Issuance, Origin, names_hash, request_hash
from vercel_certificate_operator.core.resource import Status
from vercel_certificate_operator.core.rules.attempts import origin_of_answer

ATTEMPT = attempted()
"""Begun a minute ago, with a list that showed no certificate with its names."""
WITH_WWW = frozenset({"example.com", "www.example.com"})


def recorded(before: Known) -> tuple[Status, Decision]:
    """Returns the status once the outcome is recorded, which has to be next. GETs and lists agree with the answer."""
    assert before.reply is not None
    assert before.reply.certificate is not None
    before = asked_again(before, before.reply.certificate)
    decision = decide(before)
    assert decision.policy == "outcome_is_recorded"
    assert decision.action == Write(closes=True)
    assert_in_order(before, decision)
    after = written(before, decision).resource.status
    assert after.closed_attempt is not None
    assert after.closed_attempt.id == "attempt-1"
    return after, decision


def after_answer(certificate: Certificate, *, attempt: Any = None, **more: Any) -> Status:
    return recorded(known(**answered(certificate, attempt), **more))[0]


# --- what is recorded -------------------------------------------------------------------------------------------------


def test_a_first_certificate_is_recorded() -> None:
    status, decision = recorded(known(**answered(NEW, attempted(token_hash="t1"))))
    assert conditions_of(decision) == (READY, NOTHING_TO_DO)
    assert note_of(decision) == ("Normal", "Issued", "Issue")
    assert decision.note is not None
    assert decision.note.text == "Issued certificate cert_2 for example.com; expires 2026-04-01T12:00:00Z."
    assert (status.id, status.origin, status.cns, status.team) == ("cert_2", "Issued", ("example.com",), "team_a")
    assert (status.created_at, status.expires_at, status.auto_renew) == (NEW.created_at, NEW.expires_at, True)
    assert (status.token_hash, status.requested_cns, status.shared_names) == ("t1", (), False)
    assert status.renewal_time is not None
    assert (status.superseded, status.failed_attempts, status.observed_generation) == ((), 0, 1)
    attempt = status.closed_attempt
    assert attempt is not None
    assert (attempt.outcome, attempt.outcome_reason, attempt.retry_time) == ("Issued", None, None)
    assert status.issuances == (Issuance(time=NOW, names_hash=names_hash(["example.com"])),)


@pytest.mark.parametrize("team", ["team_a", "acme", None], ids=["id", "slug", "personal account"])
def test_the_scope_in_which_it_was_issued_is_recorded_whatever_the_spec_says_now(team: str | None) -> None:
    attempt = attempted(team=team)
    assert after_answer(NEW, attempt=attempt, scope=Scope(team_id="team_z")).team == team


def test_a_renewal_supersedes_the_old_certificate_and_clears_all_failures() -> None:
    before = failed(certificate=DUE, superseded=replaced("cert_0"), origin="Adopted")
    status, decision = recorded(known(status=before, **answered(NEW, attempted(reason="RenewalDue"))))
    assert note_of(decision) == ("Normal", "Renewed", "Renew")
    assert status.certificate_ids == ("cert_2", "cert_0", "cert_1")
    old = status.superseded[1]
    assert (old.origin, old.team, old.since) == ("Adopted", "team_a", NOW), "it rests from now on"
    assert (status.failed_attempts, status.last_failure_time, status.next_attempt_time) == (0, None, None)


def test_new_names_are_an_issuance_and_not_a_renewal() -> None:
    attempt = attempted(cns=["b.com"], reason="NamesChanged")
    _, decision = recorded(known(cns=["b.com"], status=ready(), **answered(cert("cert_2", ["b.com"]), attempt)))
    assert note_of(decision) == ("Normal", "Issued", "Issue")


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("FirstIssue", ""),
        ("RenewalDue", ""),
        ("NamesChanged", ", because spec.cns changed"),
        ("CertificateGone", ", because the previous one was gone at Vercel"),
        ("RenewRequested", ", as the renew annotation requested"),
        ("Expired", ", because the previous one had expired"),
    ],
)
def test_an_event_says_why_a_certificate_was_issued_if_that_is_not_obvious(reason: str, why: str) -> None:
    _, decision = recorded(known(**answered(NEW, attempted(reason=reason))))
    assert decision.note is not None
    assert decision.note.text == f"Issued certificate cert_2 for example.com; expires 2026-04-01T12:00:00Z{why}."


def test_what_is_odd_about_an_answer_is_reported() -> None:
    odd = replace(NEW, oddities=("Vercel sent no autoRenew.", "And more."), auto_renew=None)
    _, decision = recorded(known(**answered(odd)))
    assert decision.note is not None
    assert decision.note.text.endswith("Z. Vercel sent no autoRenew. And more.")


def test_without_a_creation_time_the_moment_of_the_answer_counts() -> None:
    status = after_answer(replace(NEW, created_at=None))
    assert status.created_at == NOW
    assert status.ready


def test_auto_renew_is_recorded_when_it_is_off_too() -> None:
    assert after_answer(replace(NEW, auto_renew=False)).dump()["autoRenew"] is False


@pytest.mark.parametrize("value", ["1", ""], ids=["a value", "empty"])
def test_a_renew_request_is_acted_on_once(value: str) -> None:
    before = known(status=ready(), renew=value, **answered(NEW, attempted(renew=value)))
    status, _ = recorded(before)
    assert status.last_renew_request == value
    assert led_to(before, NEW)[1].policy == "nothing_is_needed"


def test_a_renew_request_that_comes_during_an_attempt_is_acted_on_after_it() -> None:
    before = known(status=ready(), renew="2", **answered(NEW, attempted(renew="1")))
    assert recorded(before)[0].last_renew_request == "1"
    assert issued_by(before, NEW).reason == Reason.RENEW_REQUESTED


def test_an_attempt_without_a_request_keeps_what_was_recorded() -> None:
    assert after_answer(NEW, status=ready(last_renew_request="1")).last_renew_request == "1"


def test_names_that_change_during_an_attempt_are_requested_after_it() -> None:
    before = known(cns=["other.com"], generation=2, **answered(NEW))
    status, decision = recorded(before)
    assert (status.id, status.ready, status.observed_generation) == ("cert_2", False, 2)
    assert note_of(decision) == ("Normal", "Issued", "Issue")
    assert message(decision, "Ready") == "Certificate cert_2 does not cover other.com."
    attempt = issued_by(before, NEW)
    assert (attempt.reason, attempt.cns) == (Reason.NAMES_CHANGED, ("other.com",))


def test_an_outcome_is_recorded_whatever_is_paused_or_has_failed() -> None:
    blocked = {**failing("issue"), **failing("list", refusal(403)), **failing("get", of="cert_2")}
    facts = known(**answered(NEW), failed=blocked, pauses=paused("issue", NOW + HOUR))
    assert decide(facts).action == Write(closes=True)


def test_an_answer_whose_status_was_wiped_is_recorded_all_the_same() -> None:
    before = replace(known(**answered(NEW)), resource=known().resource)
    status, _ = recorded(before)
    assert (status.id, status.origin) == ("cert_2", "Issued")


def test_an_outcome_is_recorded_before_a_deletion_goes_on() -> None:
    assert after_answer(NEW, deleting=True).id == "cert_2"


def test_an_outcome_is_recorded_in_a_suspended_resource() -> None:
    assert after_answer(NEW, suspend=True).id == "cert_2"


def test_an_attempt_whose_outcome_is_recorded_is_not_resolved_again() -> None:
    closed = attempted(outcome="Issued")
    facts = known(status=ready(NEW), **{**answered(NEW), "attempt": closed})
    assert decide(facts).policy == "nothing_is_needed"


# --- provenance -------------------------------------------------------------------------------------------------------

START = ATTEMPT.start


@pytest.mark.parametrize(
    ("certificate", "origin"),
    [
        pytest.param(NEW, "Issued", id="new"),
        pytest.param(replace(NEW, created_at=None), "Found", id="of unknown age"),
        pytest.param(replace(NEW, created_at=START - HOUR), "Issued", id="back-dated by an hour"),
        pytest.param(replace(NEW, created_at=START - 2 * HOUR), "Issued", id="back-dated by two hours"),
        pytest.param(replace(NEW, created_at=START - 2 * HOUR - SECOND), "Found", id="older"),
        pytest.param(replace(NEW, created_at=START - 300 * DAY), "Found", id="far older"),
        pytest.param(cert("cert_k", created=NOW), "Found", id="known before"),
        pytest.param(cert("cert_h", created=NOW), "Found", id="in another status"),
    ],
)
def test_an_answer_is_ours_only_if_it_cannot_have_existed_before(certificate: Certificate, origin: str) -> None:
    status = after_answer(certificate, attempt=attempted(known=["cert_k"]), held_elsewhere={"cert_h"})
    assert (status.id, status.origin) == (certificate.id, origin)
    assert status.shared_names is (origin == "Found")


@pytest.mark.parametrize(
    ("created", "origin"),
    [
        (START, "Issued"),
        (START - 2 * SECOND, "Issued"),
        (START - 3 * SECOND, "Found"),
        (None, "Found"),
    ],
    ids=["since the start", "within the clocks' tolerance", "before", "unknown"],
)
def test_without_a_list_only_a_certificate_since_the_start_is_ours(created: Any, origin: str) -> None:
    """Nobody knows what existed before."""
    status = after_answer(replace(NEW, created_at=created), attempt=attempted(known=None))
    assert status.origin == origin


@pytest.mark.parametrize(
    ("server", "origin"),
    [(START - HOUR, "Issued"), (START + 2 * SECOND, "Issued"), (START + 3 * SECOND, "Found"), (START + DAY, "Found")],
    ids=["behind", "within the tolerance", "ahead", "far ahead"],
)
def test_without_a_list_an_answer_must_be_ours_by_both_clocks(server: Any, origin: str) -> None:
    attempt = attempted(known=None, server_start=server)
    assert after_answer(replace(NEW, created_at=START), attempt=attempt).origin == origin
    assert after_answer(replace(NEW, created_at=START), attempt=attempted(server_start=server)).origin == "Issued"


def test_whose_an_answer_is_can_be_asked_without_a_resource() -> None:
    assert origin_of_answer(ATTEMPT, NEW, ()) is Origin.ISSUED
    assert origin_of_answer(ATTEMPT, NEW, {"cert_2"}) is Origin.FOUND
    assert origin_of_answer(attempted(known=["cert_2"]), NEW, ()) is Origin.FOUND


@pytest.mark.parametrize(
    ("created", "origin"),
    [
        (NOW - 11 * MINUTE - SECOND, Origin.ISSUED),
        (NOW - 11 * MINUTE, Origin.FOUND),
        (NOW - MINUTE, Origin.FOUND),
        (NOW - SECOND, Origin.FOUND),
        (NOW, Origin.ISSUED),
        (NOW - HOUR - 11 * MINUTE - SECOND, Origin.ISSUED),
        (NOW - HOUR - 11 * MINUTE, Origin.FOUND),
        (NOW - HOUR - SECOND, Origin.FOUND),
        (NOW - HOUR, Origin.ISSUED),
    ],
    ids=[
        "set back by the issuer",
        "ten minutes before the list",
        "at the list",
        "before the attempt",
        "at the attempt",
        "set back by more",
        "an hour and ten minutes before the list",
        "an hour before the attempt, and a second",
        "an hour before the attempt",
    ],
)
def test_an_answer_from_between_the_list_and_the_attempt_is_someone_elses(created: Any, origin: Origin) -> None:
    """Issuers set the time back by an hour and not by minutes. And a list may lack what is ten minutes old."""
    attempt = attempted(start=NOW, listed=NOW - MINUTE)
    assert origin_of_answer(attempt, cert("cert_2", created=created), ()) is origin


@pytest.mark.parametrize(("seconds", "origin"), [(2, Origin.ISSUED), (3, Origin.FOUND)])
def test_vercels_clocks_may_differ_by_two_seconds_if_the_list_is_from_a_moment_ago(
    seconds: int, origin: Origin
) -> None:
    """Nobody else had time to issue one."""
    attempt = attempted(start=NOW, listed=NOW - 5 * SECOND)
    assert origin_of_answer(attempt, cert("cert_2", created=NOW - seconds * SECOND), ()) is origin


@pytest.mark.parametrize(
    ("cns", "origin"),
    [(["other.com"], Origin.FOUND), (["example.com", "other.com"], Origin.ISSUED), ([], Origin.ISSUED)],
    ids=["none of the names", "one of them", "no names at all"],
)
def test_an_answer_with_none_of_the_names_may_be_for_someone_else(cns: list[str], origin: Origin) -> None:
    assert origin_of_answer(attempted(), cert("cert_2", cns, created=NOW), ()) is origin


@pytest.mark.parametrize("origin", ["Issued", "Adopted", "Found", None])
def test_the_current_id_keeps_its_origin(origin: str | None) -> None:
    """Vercel renewed under the same id."""
    later = replace(DUE, expires_at=NOW + 90 * DAY)
    attempt = attempted(reason="RenewalDue", known=["cert_1"])
    status = after_answer(later, attempt=attempt, status=ready(DUE, origin=origin))
    assert (status.id, status.expires_at, status.origin) == ("cert_1", NOW + 90 * DAY, origin or "Found")
    assert status.superseded == ()


@pytest.mark.parametrize("origin", ["Issued", "Adopted", "Found"])
def test_a_replaced_certificate_that_is_answered_keeps_its_origin(origin: str) -> None:
    back = replace(NEW, id="cert_0")
    before = ready(DUE, superseded=replaced("cert_0", origin=origin))
    status = after_answer(back, status=before, attempt=attempted(known=["cert_0"], reason="RenewalDue"))
    assert (status.id, status.origin, status.superseded_ids) == ("cert_0", origin, ("cert_1",))


# --- the best certificate ---------------------------------------------------------------------------------------------

OTHER_NAMES = cert("cert_2", ["other.com"], created=NOW)


@pytest.mark.parametrize(
    ("current", "answer"),
    [
        pytest.param(DUE, NEW, id="younger"),
        pytest.param(EXPIRED, replace(EXPIRED, id="cert_2", expires_at=NOW + DAY), id="not expired"),
        pytest.param(EXPIRED, cert("cert_2", created=NOW - 92 * DAY, lifetime=100 * DAY), id="older, not expired"),
        pytest.param(cert(cns=["other.com"], created=NOW), DUE, id="with the names"),
        pytest.param(
            cert(cns=["other.com"], created=NOW), replace(EXPIRED, id="cert_2"), id="expired, but with the names"
        ),
        pytest.param(DUE, cert("cert_2", created=NOW - MINUTE, lifetime=6 * DAY), id="younger, of a short lifetime"),
        pytest.param(DUE, replace(NEW, cns=WITH_WWW), id="with more names"),
        pytest.param(
            cert(created=NOW - 90 * DAY),
            cert("cert_2", created=NOW - 91 * DAY, lifetime=100 * DAY),
            id="older, but the current one expires now",
        ),
        pytest.param(DUE, replace(NEW, created_at=None), id="of unknown age: made now"),
    ],
)
def test_a_better_answer_becomes_current(current: Certificate, answer: Certificate) -> None:
    status = after_answer(replace(answer, id="cert_2"), status=ready(current))
    assert status.certificate_ids == ("cert_2", "cert_1")


@pytest.mark.parametrize(
    ("current", "answer"),
    [
        pytest.param(cert(), cert("cert_2", created=ISSUED_AT - SECOND), id="older"),
        pytest.param(cert(), cert("cert_2", created=ISSUED_AT), id="of the same age"),
        pytest.param(cert(), cert("cert_2", created=ISSUED_AT - DAY, lifetime=300 * DAY), id="older, expires later"),
        pytest.param(EXPIRED, OTHER_NAMES, id="with other names, though not expired"),
        pytest.param(cert(), replace(OTHER_NAMES, cns=frozenset()), id="without names"),
        pytest.param(cert(), replace(NEW, expires_at=NOW), id="expired"),
        pytest.param(cert(), replace(NEW, expires_at=None), id="without an expiry time"),
    ],
)
@pytest.mark.parametrize("ours", [True, False])
def test_an_older_or_odd_answer_never_displaces_a_better_certificate(
    current: Certificate, answer: Certificate, ours: bool
) -> None:
    """It would be removed with the next renewal. What is ours is recorded as replaced, and removed in time."""
    attempt = attempted(start=ISSUED_AT + HOUR, known=[] if ours else ["cert_2"], reason="RenewRequested")
    status = after_answer(answer, status=ready(current), attempt=attempt)
    assert (status.id, status.expires_at) == ("cert_1", current.expires_at)
    created = answer.created_at
    recently = created is None or created >= attempt.start - 2 * HOUR
    unrelated = answer.cns == OTHER_NAMES.cns  # it may have been for someone else
    mine = ours and recently and not unrelated
    assert status.superseded_ids == (("cert_2",) if mine else ())
    assert status.shared_names is not mine
    if mine:
        entry = status.superseded[0]
        waited = timedelta() if answer.is_described else GRACE
        assert (entry.origin, entry.team, entry.since) == ("Issued", "team_a", NOW + waited)


def test_an_older_answer_that_is_replaced_already_stays_replaced() -> None:
    before = ready(cert(), superseded=replaced("cert_0"))
    older = cert("cert_0", created=ISSUED_AT - DAY)
    status = after_answer(older, status=before, attempt=attempted(reason="RenewRequested"))
    assert status.certificate_ids == ("cert_1", "cert_0")
    assert status.superseded == before.superseded


def test_where_nothing_is_held_any_answer_is_recorded() -> None:
    """A 2xx with a readable id is never of unknown outcome."""
    for odd in (OTHER_NAMES, replace(NEW, expires_at=None), replace(NEW, expires_at=NOW - DAY)):
        assert after_answer(odd).id == "cert_2"


# --- names ------------------------------------------------------------------------------------------------------------


def test_names_that_vercel_added_are_no_reason_to_issue_again() -> None:
    more = replace(NEW, cns=WITH_WWW)
    before = known(**answered(more))
    status, _ = recorded(before)
    assert status.ready
    assert (status.cns, status.requested_cns) == (("example.com", "www.example.com"), ("example.com",))
    assert led_to(before, more)[1].policy == "nothing_is_needed"


def test_names_that_vercel_added_do_not_hide_a_change_of_spec() -> None:
    facts, _ = led_to(known(**answered(replace(NEW, cns=WITH_WWW))), replace(NEW, cns=WITH_WWW))
    changed = known(status=facts.resource.status, cns=["www.example.com"], generation=2)
    assert issued_by(changed, replace(NEW, cns=WITH_WWW)).reason == Reason.NAMES_CHANGED


# --- an answer that can't be used -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        pytest.param(OTHER_NAMES, "cert_2 for other.com, which does not cover example.com.", id="other names"),
        pytest.param(
            replace(NEW, cns=frozenset()), "cert_2 for no names, which does not cover example.com.", id="no names"
        ),
        pytest.param(replace(NEW, expires_at=None), "cert_2 without an expiry time.", id="no expiry time"),
        pytest.param(replace(NEW, expires_at=NOW), "cert_2, which expired at 2026-01-01T12:00:00Z.", id="expired"),
    ],
)
@pytest.mark.parametrize("held", [None, DUE], ids=["first", "renewal"])
def test_an_answer_that_cannot_be_used_is_recorded_and_tried_again_in_a_day(
    odd: Certificate, said: str, held: Certificate | None
) -> None:
    attempt = attempted(renew="1")
    before = known(status=ready(held) if held else None, renew="1", **answered(odd, attempt))
    status, decision = recorded(before)
    assert conditions_of(decision) == (
        READY if held else ("False", "UnexpectedAnswer"),
        ("False", "UnexpectedAnswer"),
    )
    assert note_of(decision) == ("Warning", "UnexpectedAnswer", "Issue")
    assert f"Vercel answered with certificate {said}" in message(decision, "Issuing")
    assert status.last_renew_request == "1", "it was answered"
    assert status.failed_attempts == 1
    closed = status.closed_attempt
    assert closed is not None
    assert (closed.outcome, closed.outcome_reason) == ("Unexpected", "UnexpectedAnswer")
    assert closed.retry_time is not None
    assert NOW + DAY - SECOND <= closed.retry_time <= NOW + 1.1 * DAY
    assert status.next_attempt_time == closed.retry_time
    assert len(status.issuances) == 1, "it counts for the limit"


def test_after_an_unexpected_answer_a_new_attempt_waits_a_day() -> None:
    facts, decision = led_to(known(**answered(OTHER_NAMES)), OTHER_NAMES)
    assert isinstance(decision.action, Wait)
    retry = facts.resource.status.next_attempt_time
    assert retry is not None
    later = known(status=facts.resource.status, now=retry - SECOND)
    assert led_to(later, OTHER_NAMES)[1].policy == "back_off_is_waited_for"
    attempt = issued_by(known(status=facts.resource.status, now=retry), OTHER_NAMES)
    assert attempt.reason == Reason.NAMES_CHANGED
    assert (attempt.previous_failures, attempt.previous_reason) == (1, "UnexpectedAnswer")


def test_a_change_of_names_or_a_request_ends_that_wait() -> None:
    facts, _ = led_to(known(**answered(OTHER_NAMES)), OTHER_NAMES)
    status = facts.resource.status
    changed = known(status=status, cns=["b.example.com"], generation=2)
    assert issued_by(changed, OTHER_NAMES).cns == ("b.example.com",)
    assert issued_by(known(status=status, renew="1"), OTHER_NAMES).requested


# --- an answer that lacks something -----------------------------------------------------------------------------------

LACKING = {
    "cns": replace(NEW, cns=frozenset()),
    "expiresAt": replace(NEW, expires_at=None),
    "all": Certificate("cert_2", frozenset()),
}
GRACE = timedelta(seconds=Limits().grace)


@pytest.mark.parametrize("odd", [*LACKING.values(), replace(NEW, created_at=None)])
def test_what_an_answer_lacks_is_read_from_the_certificate(odd: Certificate) -> None:
    before = known(status=ready(DUE), **answered(odd, attempted(reason="RenewalDue")))
    assert decide(before).action == Get("cert_2", TEAM)
    decision = decide(asked_again(before, NEW))
    status = decision.status
    assert status is not None
    assert (status.id, status.cns, status.expires_at, status.created_at) == (
        "cert_2",
        ("example.com",),
        NEW.expires_at,
        NEW.created_at,
    )
    assert note_of(decision) == ("Normal", "Renewed", "Renew")
    assert decision.note is not None
    assert decision.note.text.endswith(" The operator got what was missing with another request.")


@pytest.mark.parametrize("odd", LACKING.values())
@pytest.mark.parametrize(
    "facts",
    [
        {"got": got(LACKING["all"])},
        {"got": gone("cert_2")},
        {"failed": failing("get", refusal(500), of="cert_2")},
        {"pauses": paused("get", NOW + HOUR)},
    ],
    ids=["a GET lacks it too", "404", "the GET fails", "GETs are rate limited"],
)
def test_what_a_get_does_not_say_is_read_from_a_new_list(odd: Certificate, facts: dict[str, Any]) -> None:
    before = known(listing=listed(begun=NOW - SECOND), **facts, **answered(odd))
    assert decide(before).action == List(tick(NOW), TEAM)
    decision = decide(replace(before, listing=listed(NEW)))
    assert decision.status is not None
    assert (decision.status.cns, decision.status.expires_at) == (("example.com",), NEW.expires_at)


@pytest.mark.parametrize("odd", LACKING.values())
def test_what_can_not_be_asked_for_is_waited_for_until_the_grace_period_ends(odd: Certificate) -> None:
    calls = {**failing("get", refusal(500), of="cert_2"), **failing("list", refusal(500), until=NOW + 2 * MINUTE)}
    before = known(failed=calls, **answered(odd))
    assert decide(before).action == Wait(NOW + 5 * SECOND), "something may be asked then"
    late = at(before, NOW + GRACE, failed={key: replace(one, retry_at=1e9) for key, one in calls.items()})
    assert decide(late).action == Write(closes=True)
    assert decide(at(late, NOW + GRACE - SECOND)).action == Wait(NOW + GRACE)


def test_what_vercel_shows_late_is_asked_for_again_until_the_grace_period_ends() -> None:
    """Its list and its GET are behind what it has just issued."""
    before = known(**answered(LACKING["all"]))
    waits = []
    while isinstance(wait := decide(asked_again(before, until_it_waits=True)).action, Wait):
        assert wait.until is not None
        waits.append(round((wait.until - NOW).total_seconds()))
        before = at(before, wait.until)
    assert waits == [5, 10, 20, 40, 80, 160, 180]
    assert isinstance(decide(before).action, Get), "and a last time then"


def test_a_creation_time_that_can_not_be_asked_for_is_not_waited_for() -> None:
    odd = replace(NEW, created_at=None)
    assert after_answer(odd, failed=failing("get", refusal(500), of="cert_2")).ready


def test_whose_an_answer_is_depends_on_what_completes_it() -> None:
    """Vercel answered with an older certificate of someone else."""
    before = known(**answered(replace(NEW, created_at=None)))
    assert decide(asked_again(before, replace(NEW, created_at=NOW - DAY))).status.origin == "Found"  # type: ignore[union-attr]


# --- an answer that renewed nothing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(DUE, id="the known id"),
        pytest.param(replace(DUE, created_at=NOW), id="the known id, with another creation time"),
        pytest.param(replace(DUE, id="cert_2"), id="a new id that is as old and expires with the old one"),
        pytest.param(cert("cert_2", created=NOW - 80 * DAY), id="a new id that is older"),
        pytest.param(replace(NEW, created_at=None, expires_at=NOW + DAY), id="a new id of unknown age"),
        pytest.param(replace(DUE, cns=WITH_WWW), id="the known id, with one name more"),
    ],
)
def test_an_answer_that_renewed_nothing_is_reported_and_backed_off_from(answer: Certificate) -> None:
    attempt = attempted(reason="RenewalDue", renew="1")
    status, decision = recorded(known(status=ready(DUE), **answered(answer, attempt)))
    assert conditions_of(decision) == (READY, ("False", "NotRenewed"))
    assert note_of(decision) == ("Warning", "NotRenewed", "Issue")
    closed = status.closed_attempt
    assert closed is not None
    assert (closed.outcome, closed.outcome_reason) == ("NotRenewed", "NotRenewed")
    assert closed.retry_time is not None
    assert NOW + HOUR - SECOND <= closed.retry_time <= NOW + 1.1 * HOUR
    assert (status.failed_attempts, status.last_renew_request) == (1, "1")
    assert status.issuances == (), "nothing was issued"


@pytest.mark.parametrize(
    ("old", "answer"),
    [
        pytest.param(DUE, replace(DUE, expires_at=NOW + 26 * DAY), id="the same id, with a later expiry"),
        pytest.param(DUE, cert("cert_2", created=NOW - 70 * DAY, lifetime=100 * DAY), id="older, expires later"),
        pytest.param(cert(cns=["b.com"], created=NOW), cert("cert_2", created=NOW - 20 * DAY), id="new names"),
        pytest.param(cert(lifetime=47 * DAY), cert("cert_2", created=NOW, lifetime=6 * DAY), id="younger, shorter"),
    ],
)
def test_an_answer_that_brings_something_new_is_an_issuance(old: Certificate, answer: Certificate) -> None:
    status, _ = recorded(known(status=ready(old), **answered(answer)))
    assert status.closed_attempt is not None
    assert status.closed_attempt.outcome == "Issued"
    assert (status.failed_attempts, status.ready) == (0, True)


def test_a_difference_below_a_second_is_none() -> None:
    half = timedelta(milliseconds=500)
    answer = replace(DUE, id="cert_2", created_at=NOW - 65 * DAY + half, expires_at=NOW + 25 * DAY + half)
    status, _ = recorded(known(status=ready(DUE), **answered(answer, attempted(reason="RenewalDue"))))
    assert status.closed_attempt is not None
    assert status.closed_attempt.outcome == "NotRenewed"


def test_the_back_off_doubles_and_ends_when_the_old_certificate_expires() -> None:
    """Then it can be removed, and Vercel issues another one."""
    attempt = attempted(reason="RenewalDue", previous_failures=3, previous_reason="NotRenewed")
    closed = after_answer(DUE, status=ready(DUE), attempt=attempt).closed_attempt
    assert closed is not None
    assert closed.retry_time is not None
    assert NOW + 8 * HOUR - SECOND <= closed.retry_time < NOW + 8.8 * HOUR
    soon = cert(created=NOW - 90 * DAY + HOUR)
    closed = after_answer(soon, status=ready(soon), attempt=attempt).closed_attempt
    assert closed is not None
    assert closed.retry_time == NOW + HOUR


def test_an_answer_with_the_expired_certificate_renewed_nothing_and_makes_way_later() -> None:
    """Vercel may answer with it for as long as it is there."""
    attempt = attempted(reason="Expired", previous_failures=3, previous_reason="NotRenewed")
    before = known(status=ready(EXPIRED), **answered(EXPIRED, attempt))
    status, decision = recorded(before)
    assert conditions_of(decision) == (("False", "NotRenewed"),) * 2
    closed = status.closed_attempt
    assert closed is not None
    assert closed.retry_time is not None
    assert (closed.outcome, status.issuances) == ("NotRenewed", ())
    assert NOW + 8 * HOUR - SECOND <= closed.retry_time < NOW + 8.8 * HOUR
    later = known(status=status, now=closed.retry_time, listing=listed(EXPIRED, begun=closed.retry_time))
    later = replace(later, got=got(EXPIRED, at=later.now))
    assert decide(later).policy == "old_certificate_makes_way"


@pytest.mark.parametrize(("expired", "retry"), [(0, MINUTE), (59, SECOND)])
def test_a_certificate_that_has_just_expired_ends_the_back_off_a_minute_later(expired: int, retry: timedelta) -> None:
    now_expired = cert(created=NOW - 90 * DAY - expired * SECOND)
    closed = after_answer(now_expired, status=ready(now_expired), attempt=attempted(reason="Expired")).closed_attempt
    assert closed is not None
    assert closed.retry_time == NOW + retry


def test_a_certificate_that_expired_a_minute_ago_ends_no_back_off() -> None:
    expired = cert(created=NOW - 90 * DAY - MINUTE)
    closed = after_answer(expired, status=ready(expired), attempt=attempted(reason="Expired")).closed_attempt
    assert closed is not None
    assert closed.retry_time is not None
    assert closed.retry_time >= NOW + HOUR - SECOND


@pytest.mark.parametrize(
    "answer",
    [replace(EXPIRED, id="cert_2"), replace(EXPIRED, cns=frozenset({"b.com"}))],
    ids=["a new id", "other names"],
)
def test_any_other_expired_answer_cannot_be_used(answer: Certificate) -> None:
    status = after_answer(answer, status=ready(EXPIRED), attempt=attempted(reason="Expired"))
    assert status.closed_attempt is not None
    assert status.closed_attempt.outcome == "Unexpected"


# --- the issuance limit -----------------------------------------------------------------------------------------------


def test_the_newest_issuances_are_kept() -> None:
    earlier = tuple(Issuance(time=NOW - (5 - n) * DAY, names_hash=str(n)) for n in range(5))
    status = after_answer(NEW, status=status_of(issuances=earlier))
    assert [entry.names_hash for entry in status.issuances] == ["1", "2", "3", "4", names_hash(["example.com"])]


@pytest.mark.parametrize("value", ["1", ""])
def test_what_the_user_requested_is_recorded_with_its_request(value: str) -> None:
    earlier = tuple(Issuance(time=NOW - DAY, names_hash=str(n)) for n in range(5))
    status = after_answer(
        NEW, status=status_of(issuances=earlier), attempt=attempted(requested=True, renew=value), renew=value
    )
    assert set(status.issuances) == {
        *earlier,
        Issuance(time=NOW, names_hash=names_hash(["example.com"]), request_hash=request_hash(value)),
    }


def test_as_many_requests_are_kept_as_issuances() -> None:
    earlier = tuple(Issuance(time=NOW - DAY, names_hash="x", request_hash=str(n)) for n in range(5))
    counted = (Issuance(time=NOW - 2 * DAY, names_hash="x"),)
    status = after_answer(
        NEW, status=status_of(issuances=(*counted, *earlier)), attempt=attempted(requested=True, renew="1")
    )
    assert [entry.request_hash for entry in status.issuances] == ["1", "2", "3", "4", request_hash("1"), None]
    status = after_answer(NEW, status=status_of(issuances=(*counted, *earlier)))
    assert [entry.request_hash for entry in status.issuances] == ["0", "1", "2", "3", "4", None, None]


def test_names_are_counted_as_they_were_requested() -> None:
    attempt = attempted(cns=["b.com", "a.com"])
    status = after_answer(cert("cert_2", ["a.com", "b.com"], created=NOW), attempt=attempt, cns=["c.com"])
    assert status.issuances == (Issuance(time=NOW, names_hash=names_hash(["a.com", "b.com"])),)
