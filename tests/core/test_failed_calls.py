"""A GET, a list or a removal that failed, a token that is missing, and pauses. And what stands still."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.building import (
    DAY,
    DUE,
    HOUR,
    MINUTE,
    NEW,
    NO_TOKEN,
    NOT_SENT,
    NOTHING_TO_DO,
    NOW,
    PERSONAL,
    READY,
    SECOND,
    TEAM,
    TIMED_OUT,
    answered,
    assert_in_order,
    at,
    attempted,
    cert,
    conditions_of,
    failed,
    failing,
    got,
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
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.failures import Call, Failure, Fate, meaning
from vercel_certificate_operator.core.known import (
    AddFinalizer,
    CheckSchema,
    Decision,
    Get,
    Issue,
    Known,
    List,
    Pause,
    ReadToken,
    Remove,
    RemoveFinalizer,
    Wait,
    Write,
)
from vercel_certificate_operator.core.resource import Status
from vercel_certificate_operator.core.rules.failed_calls import call_of, pause_message, waits_for_its_turn


@pytest.mark.parametrize(
    ("call", "failure", "reason"),
    [
        ("get", NOT_SENT, "VercelUnreachable"),
        ("get", TIMED_OUT, "VercelUnavailable"),
        ("get", refusal(500), "VercelUnavailable"),
        ("get", refusal(400), "RequestRefused"),
        ("get", refusal(402), "PaymentRequired"),
        ("get", refusal(403), "PermissionDenied"),
        ("get", refusal(401), "CredentialsInvalid"),
        ("get", refusal(429), "RateLimited"),
        ("list", NOT_SENT, "VercelUnreachable"),
        ("list", refusal(403), "CredentialsInvalid"),
    ],
)
def test_a_failed_call_is_reported_and_made_again(call: Call, failure: Failure, reason: str) -> None:
    at_hand: dict[str, Any] = {"got": got(DUE)} if call != "get" else {}
    if call == "issue":
        at_hand["listing"] = listed(DUE)
    before = known(status=ready(DUE), failed=failing(call, failure), token_read=True, **at_hand)
    decision = decide(before)
    assert conditions_of(decision) == (READY, ("False", reason))
    assert decision.action == Wait(NOW + MINUTE)
    assert note_of(decision) == ("Warning", reason, {"get": "Get", "list": "List", "issue": "Issue"}[call])
    assert decision.note is not None
    assert message(decision, "Issuing") == f"{decision.note.text} Next attempt: 2026-01-01T12:01:00Z."
    assert decision.status is not None
    assert decision.status.failed_attempts == 0, "no attempt has failed"
    assert (decision.status.last_failure_time, decision.status.next_attempt_time) == (NOW, NOW + MINUTE)
    assert_in_order(before, decision)


@pytest.mark.parametrize("call", ["get", "issue"])
def test_a_token_that_is_missing_is_reported_once(call: Call) -> None:
    """It is looked for each minute. Nothing in status changes with that."""
    at_hand: dict[str, Any] = {"got": got(DUE), "listing": listed(DUE)} if call == "issue" else {}
    before = known(status=ready(DUE), failed=failing(call, NO_TOKEN), token_read=True, **at_hand)
    decision = decide(before)
    assert conditions_of(decision) == (READY, ("False", "CredentialsInvalid"))
    assert decision.action == Wait(NOW + MINUTE)
    assert decision.note is not None
    assert message(decision, "Issuing") == decision.note.text
    assert decision.status is not None
    assert (decision.status.last_failure_time, decision.status.next_attempt_time) == (NOW, None)
    assert_in_order(before, decision)
    again = known(
        status=decision.status,
        now=NOW + MINUTE,
        failed=failing(call, NO_TOKEN, until=NOW + 2 * MINUTE),
        just_failed=(call, "cert_1" if call == "get" else None),
        token_read=True,
        **at_hand,
    )
    assert decide(again).status in (None, decision.status)
    assert decide(again).note is None


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ("issue", "Can't request a certificate for example.com: Secret web/vercel does not exist. "),
        ("get", "Can't get certificate cert_1 for example.com: "),
        ("list", "Can't list the certificates in team team_a for example.com: "),
        ("remove", "Can't remove certificate cert_1 at Vercel: "),
    ],
)
def test_it_is_said_what_was_tried(call: Call, what: str) -> None:
    at_hand: dict[str, Any] = {"got": got(DUE)} if call in ("list", "issue") else {}
    if call in ("issue", "remove"):
        at_hand["listing"] = listed(DUE)
    facts = known(status=ready(DUE), deleting=call == "remove", failed=failing(call, NO_TOKEN), **at_hand)
    assert message(decide(facts), "Issuing").startswith(what)


@pytest.mark.parametrize(
    ("facts", "call"),
    [
        pytest.param(known(status=ready(DUE)), "get", id="due"),
        pytest.param(known(finalizer=False), "list", id="new"),
        pytest.param(known(attempt=attempted()), "list", id="open attempt"),
        pytest.param(known(deleting=True, status=ready()), "remove", id="deleting"),
        pytest.param(known(listing=listed()), "issue", id="an attempt"),
    ],
)
def test_a_failed_call_is_not_made_again_before_its_time(facts: Known, call: Call) -> None:
    waiting = replace(facts, failed=failing(call))
    assert decide(waiting).action == Wait(NOW + MINUTE)
    made = replace(waiting, tick=tick(NOW + MINUTE))
    assert not isinstance(decide(made).action, Wait)
    for other in ("get", "list", "remove", "issue"):
        if other != call:
            blocked = replace(facts, failed=failing(other, of="cert_z" if other in ("get", "remove") else None))
            assert decide(blocked) == decide(facts), "each call has its own back-off"


def test_the_same_call_for_another_certificate_is_not_concerned() -> None:
    assert decide(known(status=ready(DUE), failed=failing("get", of="cert_9"))).action == Get("cert_1", TEAM)


def test_what_a_failed_call_holds_up_is_tried_again_in_its_time() -> None:
    """Even if nothing reports it: an adoption, or what a list has shown."""
    facts = known(status=ready(), adopt="cert_x", may_adopt=True, failed=failing("get", TIMED_OUT, of="cert_x"))
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("nothing_is_needed", Wait(NOW + MINUTE))
    a_moment = failing("get", TIMED_OUT, of="cert_x", until=NOW + timedelta(microseconds=0.1))
    a_moment = {key: replace(one, retry_at=facts.tick + 1e-7) for key, one in a_moment.items()}
    assert decide(replace(facts, failed=a_moment)).action == Wait(NOW + timedelta(milliseconds=1))
    renewal = decide(known(status=ready())).action
    assert decide(known(status=ready(), failed=failing("get", of="cert_z", until=NOW))).action == renewal
    assert decide(known(status=ready(), failed=failing("list"))).action == renewal, "no list is waiting"
    listing = decide(known(status=ready(), failed=failing("list"), listing=listed(cert())))
    assert listing.action == Wait(NOW + MINUTE)


def test_a_failure_is_reported_once_for_each_reason() -> None:
    facts = known(status=ready(DUE), failed=failing("get", NOT_SENT))
    first = written(facts, decide(facts))
    again = at(first, NOW + HOUR, failed=failing("get", NOT_SENT, until=NOW + 2 * HOUR))
    decision = decide(again)
    assert decision.note is None
    assert decision.status is not None
    assert (decision.status.last_failure_time, decision.status.next_attempt_time) == (NOW, NOW + 2 * HOUR)
    just_now = decide(replace(again, just_failed=("get", "cert_1")))
    assert just_now.note is None
    assert just_now.status is not None
    assert just_now.status.last_failure_time == NOW + HOUR
    other = decide(replace(again, failed=failing("get", refusal(500), until=NOW + 2 * HOUR)))
    assert note_of(other) == ("Warning", "VercelUnavailable", "Get")


def test_the_same_reason_while_issuing_is_true_is_news() -> None:
    status = ready(DUE, issuing=("True", "VercelUnreachable"))
    assert decide(known(status=status, failed=failing("get", NOT_SENT))).note is not None


@pytest.mark.parametrize("span", [HOUR, 32 * HOUR], ids=["an hour", "32 hours"])
def test_ready_becomes_false_in_time_while_a_call_is_waited_for(span: timedelta) -> None:
    soon = cert(created=NOW - 90 * DAY + MINUTE)
    before = known(status=ready(soon), failed=failing("list", NOT_SENT, until=NOW + span), got=got(soon))
    decision = decide(before)
    assert decision.action == Wait(soon.expires_at)
    assert_in_order(before, decision)
    later = replace(written(before, decision), now=NOW + MINUTE, tick=tick(NOW + MINUTE))
    decision = decide(later)
    assert decision.action == Wait(NOW + span)
    assert conditions_of(decision) == (("False", "VercelUnreachable"),) * 2


def test_waiting_never_makes_anything_ready() -> None:
    """Spec has other names since generation 2, and has changed again."""
    status = status_of(
        cert(), ready=("False", "DomainNotFound"), issuing=("False", "DomainNotFound"), generation=2, attempt=None
    )
    attempt = attempted("a", cns=["b.com"], outcome="Refused", outcome_reason="DomainNotFound", retry_time=NOW + HOUR)
    decision = decide(known(cns=["b.com"], generation=3, status=status, attempt=attempt, token_read=True))
    assert (decision.policy, decision.action) == ("back_off_is_waited_for", Wait(NOW + HOUR))
    assert decision.status is not None
    assert not decision.status.ready
    assert decision.status.observed_generation == 3


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "reads"),
    [(refusal(401), True), (refusal(403), True), (refusal(500), False), (NOT_SENT, False), (refusal(402), False)],
    ids=["401", "403", "500", "not sent", "402"],
)
def test_after_a_failure_that_concerns_the_token_it_is_read_again_every_minute(failure: Failure, reads: bool) -> None:
    blocked = failing("get", failure, until=NOW + HOUR, token_hash="t1")
    facts = known(status=ready(DUE), failed=blocked)
    if not reads:
        assert decide(facts).action == Wait(NOW + HOUR)
        return
    assert decide(facts).action == ReadToken()
    same = replace(facts, token_read=True, token_hash="t1")
    assert decide(same).action == Wait(NOW + MINUTE)
    assert decide(replace(same, token_hash="t2")).action == Get("cert_1", TEAM), "another token does not wait"
    assert isinstance(decide(replace(same, token_hash=None)).action, Wait)


def test_a_failure_without_a_token_is_no_reason_to_read_one() -> None:
    """The next try reads it anyway, within a minute."""
    facts = known(status=ready(DUE), failed=failing("get", NO_TOKEN, until=NOW + 5 * SECOND))
    assert decide(facts).action == Wait(NOW + 5 * SECOND)


def test_a_token_that_was_rejected_says_so_while_it_waits() -> None:
    decision = decide(known(failed=failing("list", refusal(403), until=NOW + HOUR), token_read=True))
    assert conditions_of(decision) == (("False", "CredentialsInvalid"),) * 2


# --- pauses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "call"),
    [
        pytest.param(known(finalizer=False), "list", id="new"),
        pytest.param(known(status=ready(DUE)), "get", id="due"),
        pytest.param(known(status=ready(), renew="1"), "list", id="a renewal was requested"),
        pytest.param(known(attempt=attempted()), "list", id="open attempt"),
        pytest.param(
            known(status=ready(NEW, superseded=replaced("cert_0")), now=NOW + HOUR, deleting=True),
            "remove",
            id="deleting",
        ),
    ],
)
def test_during_a_pause_nothing_is_called(facts: Known, call: Call) -> None:
    before = replace(facts, pauses=paused(call, facts.now + 20 * SECOND))
    decision = decide(before)
    assert decision.action == Wait(facts.now + 20 * SECOND)
    assert_in_order(before, decision)
    long = decide(replace(facts, pauses=paused(call, facts.now + HOUR)))
    assert long.action == Wait(facts.now + MINUTE), "a new token is noticed within a minute"


def test_a_replaced_certificate_waits_quietly_during_a_pause() -> None:
    facts = known(status=ready(NEW, superseded=replaced("cert_0")), now=NOW + HOUR, pauses=paused("remove", NOW + DAY))
    decision = decide(facts)
    assert (decision.policy, decision.note) == ("nothing_is_needed", None)
    assert decision.action == Wait(NOW + DAY), "then it is removed"


def test_a_replaced_certificate_is_removed_at_the_end_of_a_pause_however_times_are_rounded() -> None:
    facts = known(status=ready(NEW, superseded=replaced("cert_0")), now=NOW + HOUR)
    soon = Pause(facts.tick + 1e-7, "RateLimited", "Calls are paused.")
    assert decide(replace(facts, pauses={"remove": soon})).action == Wait(facts.now)


def test_a_call_is_free_when_its_failure_and_its_pause_are_over() -> None:
    call: tuple[Call, str] = ("remove", "cert_0")
    failure = failing("remove", of="cert_0", until=NOW + HOUR)
    facts = known()
    assert facts.free_at(*call) is None
    assert replace(facts, failed=failure).free_at(*call) == NOW + HOUR
    assert replace(facts, failed=failure, pauses=paused("remove", NOW + DAY)).free_at(*call) == NOW + DAY
    assert replace(facts, failed=failure, pauses=paused("remove", NOW + MINUTE)).free_at(*call) == NOW + HOUR
    assert replace(facts, pauses=paused("remove", NOW + MINUTE)).free_at(*call) == NOW + MINUTE
    assert replace(facts, pauses=paused("get", NOW + MINUTE)).free_at(*call) is None


def test_a_resource_without_a_certificate_says_why_it_waits() -> None:
    decision = decide(known(pauses=paused("list", NOW + HOUR)))
    assert conditions_of(decision) == (("False", "RateLimited"),) * 2
    assert message(decision, "Issuing") == (
        "Can't list the certificates in team team_a for example.com: "
        "Vercel is rate limiting calls with this token. Next attempt: 2026-01-01T13:00:00Z."
    )
    assert decision.note is None, "it concerns the token"


def test_a_resource_with_one_reports_nothing_new() -> None:
    facts = known(status=ready(DUE))
    decision = decide(replace(facts, pauses=paused("get", NOW + HOUR)))
    assert conditions_of(decision) == (READY, NOTHING_TO_DO)
    assert decision.note is None


def test_a_deletion_says_that_it_waits_for_the_pause() -> None:
    decision = decide(known(deleting=True, status=ready(), pauses=paused("remove", NOW + HOUR)))
    assert conditions_of(decision) == (READY, ("False", "RateLimited"))
    assert "set spec.deletionPolicy to Retain" in message(decision, "Issuing")


def test_a_pause_counts_before_a_failure() -> None:
    both = known(pauses=paused("list", NOW + 20 * SECOND), failed=failing("list", until=NOW + HOUR))
    assert decide(both).action == Wait(NOW + 20 * SECOND)


def test_an_outcome_is_recorded_during_a_pause() -> None:
    facts = known(**answered(NEW), pauses=paused("issue", NOW + HOUR))
    assert decide(facts).action == Write(closes=True)


@pytest.mark.parametrize(
    ("call", "failure", "text"),
    [
        (
            "issue",
            refusal(429, "rate_limit"),
            "Vercel is rate limiting requests to issue certificates with web/vercel/token: Vercel says no (rate_limit",
        ),
        (
            "list",
            Failure(Fate.UNKNOWN, "some\nproxy", 429),
            "Vercel is rate limiting requests to list certificates with web/vercel/token: some proxy (HTTP 429).",
        ),
        (
            "list",
            refusal(403, "forbidden"),
            "Vercel rejected web/vercel/token in team team_a: Vercel says no (forbidden, HTTP 403). Replace the token",
        ),
        ("get", refusal(401, "x"), "Vercel rejected web/vercel/token: Vercel says no (x, HTTP 401). Replace the token"),
        ("get", Failure(Fate.REFUSED, "No."), "Vercel rejected web/vercel/token: No. No action"),
        (
            "remove",
            refusal(429, "x"),
            "Vercel is rate limiting requests to remove certificates with web/vercel/token: Vercel says no (x",
        ),
        (
            "config",
            refusal(429, "x"),
            "Vercel is rate limiting requests to check domains with web/vercel/token: Vercel says no (x",
        ),
        (
            "upload",
            refusal(429, "x"),
            "Vercel is rate limiting requests to upload certificates with web/vercel/token: Vercel says no (x",
        ),
        (
            "get",
            refusal(429, "x"),
            "Vercel is rate limiting requests to get certificates with web/vercel/token: Vercel says no (x",
        ),
    ],
)
def test_a_pause_says_which_token_waits_and_why(call: Call, failure: Failure, text: str) -> None:
    message = pause_message("web/vercel/token", call, TEAM, failure, meaning(failure, call))
    assert message.startswith(text)
    assert message.endswith(".")


@pytest.mark.parametrize(
    ("action", "call"),
    [
        (Get("cert_1", TEAM), ("get", "cert_1")),
        (List(0.0, TEAM), ("list", None)),
        (Remove("cert_1", TEAM), ("remove", "cert_1")),
        (Issue(attempted()), ("issue", None)),
        (Wait(), None),
        (Write(), None),
        (ReadToken(), None),
        (AddFinalizer(), None),
        (RemoveFinalizer(), None),
    ],
)
def test_every_call_to_vercel_has_a_key(action: Any, call: Any) -> None:
    assert call_of(Decision(action)) == call


# --- what stands still ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "is_ready"),
    [
        pytest.param(known(suspend=True), ("False", "Suspended"), id="nothing issued yet"),
        pytest.param(known(suspend=True, status=ready(), generation=2), READY, id="issued"),
        pytest.param(known(suspend=True, status=ready(), renew="1"), READY, id="a renewal was requested"),
        pytest.param(known(suspend=True, status=ready(DUE)), READY, id="due"),
        pytest.param(
            known(suspend=True, status=ready(cert(created=NOW - DAY, lifetime=DAY))),
            ("False", "Suspended"),
            id="expired",
        ),
        pytest.param(
            known(suspend=True, status=ready(NEW, superseded=replaced("cert_1")), now=NOW + HOUR), READY, id="replaced"
        ),
        pytest.param(known(suspend=True, status=ready(), cns=["b.com"]), ("False", "Suspended"), id="other names"),
        pytest.param(known(suspend=True, status=failed(certificate=cert())), READY, id="a back-off"),
    ],
)
def test_while_suspended_nothing_changes_at_vercel(facts: Known, is_ready: tuple[str, str]) -> None:
    decision = decide(facts)
    assert decision.policy == "suspended_changes_nothing"
    assert isinstance(decision.action, Wait)
    assert conditions_of(decision) == (is_ready, ("False", "Suspended"))
    assert decision.note is None
    assert decision.status is not None
    assert decision.status.next_attempt_time is None
    assert_in_order(facts, decision)


def test_an_outdated_definition_is_reported_while_suspended_too() -> None:
    decision = decide(known(suspend=True, status=ready(), schema_outdated=True))
    assert conditions_of(decision) == (READY, ("False", "SchemaOutdated"))


def test_resumed_it_goes_on_where_it_was() -> None:
    facts = known(suspend=True, generation=2)
    status = written(facts, decide(facts)).resource.status
    assert isinstance(led_to(known(status=status, generation=3))[1].action, Issue)


def test_ready_becomes_false_by_time_alone_while_suspended() -> None:
    expires = NOW + MINUTE
    soon = cert(created=expires - 90 * DAY)
    before = decide(known(suspend=True, status=ready(soon)))
    assert before.action == Wait(expires)
    after = decide(known(suspend=True, status=ready(soon), now=expires))
    assert conditions_of(after)[0] == ("False", "Suspended")
    assert "expired at 2026-01-01T12:01:00Z" in message(after, "Ready")


@pytest.mark.parametrize(
    "facts", [known(), known(status=ready(DUE)), known(status=ready())], ids=["new", "due", "ready"]
)
def test_while_the_definition_is_outdated_nothing_is_issued(facts: Known) -> None:
    """The API server drops fields of the record."""
    decision = decide(replace(facts, schema_outdated=True))
    assert (decision.policy, decision.action) == ("record_must_be_stored", Wait(NOW + 10 * MINUTE))
    assert conditions_of(decision)[1] == ("False", "SchemaOutdated")
    assert note_of(decision) == ("Warning", "SchemaOutdated", "Issue")
    assert "deploy/crds" in message(decision, "Issuing")
    assert "Next attempt" not in message(decision, "Issuing")


@pytest.mark.parametrize("facts", [known(), known(status=ready(DUE)), known(suspend=True, status=ready())])
def test_before_anything_is_done_again_the_api_server_is_asked_whether_it_stores_every_field(facts: Known) -> None:
    assert decide(replace(facts, schema_in_doubt=True)).action == CheckSchema()


def test_a_deletion_does_not_wait_for_the_definition() -> None:
    facts = known(deleting=True, status=ready(), schema_in_doubt=True)
    assert isinstance(decide(facts).action, Remove)


def test_an_outcome_that_the_api_server_drops_is_written_once() -> None:
    facts = known(attempt=attempted(), unstored_outcome="attempt-1", schema_outdated=True)
    for void in ((), ("attempt-1",)):
        assert decide(replace(facts, void_attempts=void)).policy == "record_must_be_stored"


def test_an_outcome_is_recorded_all_the_same() -> None:
    assert decide(known(**answered(NEW), schema_outdated=True)).action == Write(closes=True)


@pytest.mark.parametrize(
    "facts",
    [
        known(),
        known(status=ready(DUE)),
        known(status=ready(), renew="1"),
        known(status=ready(), deleting=True),
        known(attempt=attempted()),
        known(status=ready(NEW, superseded=replaced("cert_0")), now=NOW + HOUR),
        known(**answered(NEW)),
        known(status=ready(), finalizer=False),
    ],
    ids=["new", "due", "requested", "deleting", "open attempt", "replaced", "an answer", "no finalizer"],
)
def test_with_an_unreadable_record_nothing_is_issued_removed_or_written(facts: Known) -> None:
    status = Status.read({**facts.resource.status.dump(), "superseded": [{"id": 5}], "issuances": "x"})
    facts = replace(facts, resource=known(status=status, deleting=facts.resource.deleting).resource)
    decision = decide(facts)
    assert decision.policy == "record_must_be_readable"
    assert (decision.action, decision.status) == (Wait(None), None), "a write would lose what can't be read"
    assert note_of(decision) == ("Warning", "RecordUnreadable", "Read")
    assert decision.note is not None
    assert "issuances, superseded" in decision.note.text
    assert_in_order(facts, decision)


@pytest.mark.parametrize("how", [{"suspend": True}, {"deletion_policy": "Retain"}])
def test_a_resource_with_an_unreadable_record_can_be_released(how: dict[str, Any]) -> None:
    status = Status.read({"id": "cert_1", "superseded": "x"})
    decision = decide(known(status=status, deleting=True, **how))
    assert decision.action == RemoveFinalizer()


def test_a_message_names_the_scope_of_a_list() -> None:
    for scope in (Scope(team_slug="acme"), PERSONAL):
        facts = known(scope=scope, failed=failing("list"))
        assert f"in {scope} for example.com" in message(decide(facts), "Issuing")


# --- a turn that has not come -----------------------------------------------------------------------------------------


def test_a_resource_that_waits_for_its_turn_says_so() -> None:
    decision = waits_for_its_turn(known())
    assert decision.action == Wait()
    assert conditions_of(decision) == (("False", "FirstIssue"), ("True", "FirstIssue"))
    assert message(decision, "Issuing") == (
        "A certificate for example.com is needed. Waiting for Vercel to answer earlier requests with the default token."
    )


def test_a_resource_that_needs_nothing_waits_in_silence() -> None:
    assert waits_for_its_turn(known(status=ready())).status is None
