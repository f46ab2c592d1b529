"""What a process remembers about a resource, and what a round learns. All of it may be lost at any time."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.building import (
    HOUR,
    MINUTE,
    NEW,
    NO_TOKEN,
    NOT_SENT,
    NOW,
    TEAM,
    TICK,
    TIMED_OUT,
    attempted,
    cert,
    changed,
    failing,
    listed,
    paused,
    ready,
    refusal,
    remembering,
    status_of,
)
from core.building import known as facts_of
from vercel_certificate_operator.core.failures import Failure
from vercel_certificate_operator.core.known import CallKey, Decision, Got, Limits, Note, Ownership, Reply, Wait, Write
from vercel_certificate_operator.core.memory import MOST_VOID, Memory, Round, known
from vercel_certificate_operator.core.resource import Resource, Spec, Status

OPEN = attempted()
REPLY = Reply(OPEN, TICK, 1.0, NEW)
LIST: CallKey = ("list", None)


def resource(**more: Any) -> Resource:
    return facts_of(**more).resource


def remembered(**more: Any) -> Memory:
    return replace(Memory(seen=(None, TICK)), **more)


# --- what is seen -----------------------------------------------------------------------------------------------------


def test_when_an_attempt_was_first_seen_is_remembered() -> None:
    memory = remembered().observe(resource(attempt=OPEN), TICK + 5)
    assert memory.seen == ("attempt-1", TICK + 5)
    assert memory.observe(resource(attempt=OPEN), TICK + 9).seen == ("attempt-1", TICK + 5)
    assert memory.observe(resource(attempt=attempted("attempt-2")), TICK + 9).seen == ("attempt-2", TICK + 9)
    assert memory.observe(resource(), TICK + 9).seen == (None, TICK + 9), "status was wiped"


def test_the_newest_spec_is_remembered_for_when_the_resource_is_gone() -> None:
    retained = resource(deletion_policy="Retain")
    assert remembered().observe(retained, TICK).spec == retained.spec
    assert remembered().spec == Spec()


def test_what_is_the_same_is_the_same_memory() -> None:
    seen = resource(attempt=OPEN)
    memory = remembered().observe(seen, TICK)
    assert memory.observe(seen, TICK + 5) is memory


@pytest.mark.parametrize(
    ("attempt", "kept"),
    [
        (OPEN, True),
        (OPEN.changed(outcome="Issued"), False),
        (attempted("attempt-2", outcome="Issued"), True),
        (attempted("attempt-2"), True),
        (None, True),
    ],
    ids=["open", "recorded", "another one is recorded", "another one is open", "wiped"],
)
def test_a_reply_is_remembered_until_its_outcome_is_recorded(attempt: Any, kept: bool) -> None:
    """Also if this process did not hear that its write succeeded."""
    memory = remembered(reply=REPLY).observe(resource(attempt=attempt), TICK)
    assert (memory.reply is not None) is kept


BEFORE = {
    "cns": ["a.com"],
    "token_secret_ref": {"name": "vercel"},
    "suspend": False,
    "deletion_policy": "Delete",
    "renew": "1",
    "adopt": "cert_1",
    "deleting": False,
}


@pytest.mark.parametrize(
    ("change", "forgets"),
    [
        ({}, False),
        ({"generation": 2, "renew_before": "1h"}, False),
        ({"existing_certificate": "Adopt"}, False),
        ({"status": ready()}, False),
        ({"cns": ["A.com"]}, False),
        ({"deletion_policy": "Delete"}, False),
        ({"cns": ["b.com"]}, True),
        ({"token_secret_ref": {"name": "other"}}, True),
        ({"suspend": True}, True),
        ({"deletion_policy": "Retain"}, True),
        ({"renew": "2"}, True),
        ({"adopt": "cert_2"}, True),
        ({"deleting": True}, True),
    ],
    ids=str,
)
def test_a_change_by_the_user_ends_every_wait_for_a_call(change: dict[str, Any], forgets: bool) -> None:
    def seen(**more: Any) -> Resource:
        found = resource(**{**BEFORE, **more})
        return changed(found, spec=Spec.model_validate(found.spec.model_dump()))

    memory = remembered(failed=failing("list")).observe(seen(), TICK)
    assert memory.failed == failing("list"), "the first time, nothing has changed"
    after = memory.observe(seen(**change), TICK)
    assert after.failed == ({} if forgets else failing("list"))


# --- writes -----------------------------------------------------------------------------------------------------------


def test_an_event_is_published_when_its_status_turns_out_to_be_written() -> None:
    """The write succeeded, but its reply was lost."""
    note = Note("Normal", "Issued", "Issue", "Issued.")
    intended = ready()
    memory = remembered(unpublished=(intended.dump(), note))
    assert memory.published(Status.read(intended.dump())) == (remembered(), note)
    assert memory.published(status_of()) == (memory, None)
    assert remembered().published(intended) == (remembered(), None)


def test_an_event_waits_for_its_status() -> None:
    note = Note("Normal", "Issued", "Issue", "Issued.")
    memory = remembered()
    assert memory.writing(Decision(Write(), ready(), note)).unpublished == (ready().dump(), note)
    assert memory.writing(Decision(Write(), ready())) is memory
    assert memory.writing(Decision(Write(), None, note)) is memory
    assert memory.writing(Decision(Write(), ready(), note)).fenced_off() == memory


@pytest.mark.parametrize(
    ("decision", "settled"),
    [
        (Decision(Write(closes=True), ready()), True),
        (Decision(Write(), None), True),
        (Decision(Write(), ready()), False),
        (Decision(Wait(), ready()), False),
        (Decision(Wait()), False),
    ],
    ids=["an outcome", "nothing to write", "something else", "a wait", "nothing"],
)
def test_a_reply_is_forgotten_once_it_is_recorded_or_cannot_be(decision: Decision, settled: bool) -> None:
    memory = remembered(reply=REPLY, unpublished=({}, Note("Normal", "a", "b", "c."))).recorded(decision)
    assert memory.reply == (None if settled else REPLY)
    assert memory.unpublished is None


# --- calls ------------------------------------------------------------------------------------------------------------


def failed_twice(first: Failure, second: Failure, **more: Any) -> Memory:
    memory = remembered().call_failed(LIST, first, TICK, seed="uid", token_hash="t1")
    return memory.call_failed(LIST, second, TICK + 60, seed="uid", **{"token_hash": "t1", **more})


def test_a_call_that_fails_has_a_back_off_of_its_own() -> None:
    memory = remembered().call_failed(LIST, refusal(500), TICK, seed="uid", token_hash="t1")
    first = memory.failed[LIST]
    assert (first.failure, first.times, first.since, first.token_hash) == (refusal(500), 1, TICK, "t1")
    assert TICK + 5 <= first.retry_at <= TICK + 5.5
    again = memory.call_failed(LIST, refusal(500), TICK + 60, seed="uid", token_hash="t1").failed[LIST]
    assert (again.times, again.since) == (2, TICK)
    assert TICK + 70 <= again.retry_at <= TICK + 71
    other = memory.call_failed(("get", "cert_1"), refusal(403), TICK, seed="uid", token_hash="t1")
    assert other.failed[LIST] == first
    assert TICK + 300 <= other.failed["get", "cert_1"].retry_at <= TICK + 330


def test_how_long_a_call_waits_depends_on_the_call() -> None:
    memory = remembered().call_failed(LIST, refusal(403), TICK, seed="uid", token_hash=None)
    memory = memory.call_failed(("get", "cert_1"), refusal(403), TICK, seed="uid", token_hash=None)
    assert TICK + 60 <= memory.failed[LIST].retry_at <= TICK + 66
    assert TICK + 300 <= memory.failed["get", "cert_1"].retry_at <= TICK + 330


def test_another_token_starts_again() -> None:
    failed = failed_twice(refusal(500), refusal(500), token_hash="t2").failed[LIST]
    assert (failed.times, failed.since, failed.token_hash) == (1, TICK + 60, "t2")


@pytest.mark.parametrize(
    ("first", "second", "in_a_row"),
    [
        (refusal(500), refusal(403), False),
        (refusal(500), TIMED_OUT, True),
        (TIMED_OUT, refusal(500), True),
        (refusal(401), refusal(403), True),
        (NOT_SENT, NOT_SENT, True),
        (NOT_SENT, refusal(500), False),
        (refusal(429), TIMED_OUT, False),
        (NO_TOKEN, NO_TOKEN, True),
        (NO_TOKEN, NOT_SENT, False),
        (NOT_SENT, NO_TOKEN, False),
        (refusal(401), NO_TOKEN, False),
    ],
    ids=str,
)
def test_since_when_a_call_fails_is_counted_for_failures_of_one_kind(
    first: Failure, second: Failure, in_a_row: bool
) -> None:
    """A token that is missing, a call that was impossible, and a call that failed itself."""
    failed = failed_twice(first, second).failed[LIST]
    assert failed.since == (TICK if in_a_row else TICK + 60)
    assert failed.times == 2


def test_a_call_that_succeeds_ends_its_own_failure_and_shows_that_vercel_can_be_reached() -> None:
    failures = {
        **failing("list", refusal(500)),
        **failing("get", NOT_SENT),
        **failing("remove", NO_TOKEN),
        **failing("get", TIMED_OUT, of="cert_2"),
        **failing("get", refusal(403), of="cert_3"),
    }
    memory = remembered(failed=failures)
    assert set(memory.call_succeeded(LIST).failed) == {("get", "cert_2"), ("get", "cert_3")}
    assert set(memory.call_succeeded(("get", "cert_2")).failed) == {LIST, ("get", "cert_3")}
    clean = remembered(failed=failing("get", TIMED_OUT))
    assert clean.call_succeeded(LIST) is clean


def test_what_has_failed_cannot_be_changed_from_outside() -> None:
    memory = remembered().call_failed(LIST, NOT_SENT, TICK, seed="uid", token_hash=None)
    for failed in (memory.failed, memory.call_succeeded(LIST).failed, remembered().failed):
        with pytest.raises(TypeError):
            failed[LIST] = failing("list")[LIST]  # type: ignore[index]


# --- a POST -----------------------------------------------------------------------------------------------------------


def test_an_attempt_counts_as_never_sent_until_it_is() -> None:
    memory = remembered(reply=REPLY).announced("attempt-2")
    assert (memory.void, memory.reply) == (("attempt-2",), None)
    sent = memory.announced("attempt-3").sent("attempt-3", TICK + 5)
    assert (sent.void, sent.seen, sent.in_flight) == (("attempt-2",), ("attempt-3", TICK + 5), "attempt-3")
    answered = sent.answered(REPLY)
    assert (answered.reply, answered.in_flight) == (REPLY, None)


def current(certificate_id: str | None) -> Resource:
    return resource(status=ready(cert(certificate_id)) if certificate_id is not None else None)


def test_that_vercel_has_the_current_certificate_is_remembered_from_its_get() -> None:
    got = {"cert_1": Got(TICK + 5, cert()), "cert_2": Got(TICK + 6, NEW)}
    one = current("cert_1")
    memory = remembered().observe(one, TICK + 7, got)
    assert memory.checked == ("cert_1", TICK + 5)
    assert memory.observe(one, TICK + 8) is memory
    assert memory.observe(one, TICK + 8, {"cert_1": Got(TICK + 4, None)}) is memory, "it is older"
    assert memory.observe(current("cert_2"), TICK + 8, got).checked == ("cert_2", TICK + 6), "an adopted one"
    assert memory.observe(one, TICK + 8, {"cert_1": Got(TICK + 8, None)}).checked is None
    assert remembered().observe(current(None), TICK + 7, got).checked is None


def test_the_answer_to_a_post_shows_what_becomes_the_current_certificate() -> None:
    memory = remembered(checked=("cert_1", TICK - 5)).answered(REPLY)
    assert memory.checked == ("cert_2", TICK)
    memory = memory.observe(current("cert_1"), TICK + 1)
    assert memory.checked == ("cert_2", TICK), "it is not recorded yet"
    assert replace(memory, reply=None).observe(current("cert_2"), TICK + 2).checked == ("cert_2", TICK)
    failed = replace(REPLY, certificate=None, failure=TIMED_OUT)
    assert remembered(checked=("cert_1", TICK - 5)).answered(failed).checked == ("cert_1", TICK - 5)


def test_it_is_forgotten_when_another_one_was_current_meanwhile() -> None:
    """Then somebody may have removed it, and a restored status may name it again."""
    memory = remembered(checked=("cert_2", TICK)).observe(current("cert_1"), TICK + 5)
    assert memory.observe(current("cert_2"), TICK + 6).checked is None


def test_only_a_few_attempts_that_were_never_sent_are_remembered() -> None:
    memory = remembered()
    for number in range(MOST_VOID + 1):
        memory = memory.announced(f"attempt-{number}")
    assert memory.void == tuple(f"attempt-{number}" for number in range(1, MOST_VOID + 1))
    assert MOST_VOID == 20


@pytest.mark.parametrize(
    ("reply", "unrecorded"),
    [
        (REPLY, True),
        (replace(REPLY, certificate=None, failure=refusal(403)), True),
        (replace(REPLY, certificate=None, failure=TIMED_OUT), False),
        (None, False),
    ],
    ids=["issued", "refused", "unknown", "none"],
)
def test_an_answer_must_be_recorded_before_the_process_ends(reply: Any, unrecorded: bool) -> None:
    assert remembered(reply=reply).has_unrecorded_reply is unrecorded


def test_a_reply_or_a_post_in_flight_outlives_the_resource() -> None:
    assert not remembered().is_needed
    assert remembered(reply=REPLY).is_needed
    assert remembered(in_flight="attempt-1").is_needed


# --- a round ----------------------------------------------------------------------------------------------------------


def test_a_round_collects_what_it_learns() -> None:
    answer, pause = Got(TICK, NEW), paused("get", NOW + HOUR)["get"]
    round_ = Round(just_failed=LIST)
    round_ = round_.with_got("cert_2", answer).with_got("cert_3", Got(TICK, None))
    round_ = round_.with_removed("cert_1", True).with_removed("cert_0", False)
    round_ = round_.with_pause("get", pause).with_pause("list", pause).with_token("t1")
    assert round_.got == {"cert_2": answer, "cert_3": Got(TICK, None)}
    assert round_.removed == {"cert_1": True, "cert_0": False}
    assert round_.pauses == {"get": pause, "list": pause}
    assert (round_.token_read, round_.token_hash) == (True, "t1")
    assert round_.with_token(None).token_read
    after = round_.written()
    assert after.just_failed is None
    assert replace(after, just_failed=LIST) == round_, "what Vercel said stays true"
    assert Round() == Round(got={}, removed={}, pauses={})


def test_what_a_decision_is_made_from() -> None:
    memory = Memory(
        seen=("attempt-1", TICK - 5),
        reply=REPLY,
        in_flight="attempt-1",
        void=("attempt-0",),
        failed=failing("list"),
        schema=(TICK - 10, False),
        unstored_outcome="attempt-00",
    )
    round_ = Round(
        got={"cert_2": Got(TICK, NEW)},
        removed={"cert_1": True},
        listing=listed(NEW),
        pauses=paused("get", NOW),
        token_read=True,
        token_hash="t1",
        just_failed=LIST,
    )
    arguments: dict[str, Any] = {
        "now": NOW,
        "tick": TICK,
        "scope": TEAM,
        "limits": Limits(issuances=7),
        "new_attempt_id": "attempt-9",
        "may_adopt": True,
        "ownership": Ownership("web/older"),
        "left_behind": {"cert_7": None},
        "held_elsewhere": {"cert_5"},
        "attempted_elsewhere": {frozenset({"example.com"})},
        "not_removable": {"cert_6"},
        "clock_skew": timedelta(days=2),
        "server_time": NOW - timedelta(days=2),
    }
    seen = resource()
    facts = known(memory, round_, seen, **arguments, copied_attempt="attempt-1")
    assert facts.resource is seen
    assert {name: getattr(facts, name) for name in arguments} == arguments
    for name in ("got", "removed", "listing", "pauses", "token_read", "token_hash", "just_failed"):
        assert getattr(facts, name) == getattr(round_, name)
    assert (facts.seen_at, facts.in_flight, facts.reply) == (TICK - 5, True, REPLY)
    assert (facts.void_attempts, facts.failed) == (("attempt-0",), failing("list"))
    assert (facts.schema_outdated, facts.unstored_outcome) == (True, "attempt-00")
    again = known(replace(memory, in_flight=None), Round(), seen, **arguments, copied_attempt="attempt-1")
    assert not again.in_flight
    assert again.void_attempts == ("attempt-0",), "this process has sent it"
    copied = known(remembered(void=("attempt-0",)), Round(), seen, **arguments, copied_attempt="attempt-1")
    assert copied.void_attempts == ("attempt-0", "attempt-1"), "another resource's"
    assert not again.token_read, "each round reads the token itself"


OUTDATED = ready().with_condition("Issuing", "False", "SchemaOutdated", "…", generation=1, now=NOW)


@pytest.mark.parametrize(
    ("schema", "status", "outdated", "in_doubt"),
    [
        pytest.param(None, ready(), False, False, id="nothing was ever dropped"),
        pytest.param((TICK - 599, False), ready(), True, False, id="something was"),
        pytest.param((TICK - 600, False), ready(), False, True, id="ten minutes ago"),
        pytest.param((TICK - 6000, True), ready(), False, False, id="the definition is new"),
        pytest.param(None, OUTDATED, False, True, id="another process saw it"),
        pytest.param((TICK - 6000, True), OUTDATED, False, False, id="the definition is new now"),
    ],
)
def test_whether_the_api_server_stores_every_field_is_asked_again(
    schema: tuple[float, bool] | None, status: Status, outdated: bool, in_doubt: bool
) -> None:
    facts = remembering(remembered(schema=schema), resource(status=status), tick=TICK)
    assert (facts.schema_outdated, facts.schema_in_doubt) == (outdated, in_doubt)


def test_what_the_api_server_dropped_is_remembered_until_it_stores_every_field() -> None:
    opened, closed = ready(attempt=OPEN), ready(attempt=attempted(outcome="Issued"))
    memory = remembered()
    assert memory.dropped(Decision(Write(), opened), TICK) == replace(memory, schema=(TICK, False))
    memory = memory.dropped(Decision(Write(closes=True), closed), TICK)
    assert (memory.schema, memory.unstored_outcome) == ((TICK, False), "attempt-1")
    assert memory.dropped(Decision(Wait(), ready()), TICK + 1).unstored_outcome == "attempt-1"
    assert memory.schema_checked(TICK + 600, False) == replace(memory, schema=(TICK + 600, False))
    assert memory.schema_checked(TICK + 600, True) == remembered(schema=(TICK + 600, True))


# --- what is known ----------------------------------------------------------------------------------------------------


def test_times_of_the_monotonic_clock_are_shown_on_vercels() -> None:
    facts = facts_of(now=NOW)
    assert facts.wall(TICK + 60) == NOW + MINUTE
    assert replace(facts, now=NOW + HOUR).wall(TICK - 60) == NOW + HOUR - MINUTE


def test_a_call_waits_after_a_failure_with_the_same_token() -> None:
    facts = facts_of(failed=failing("get", token_hash="t1"), token_hash="t1")
    assert facts.waits("get", "cert_1") is not None
    assert facts.blocked("get", "cert_1")
    assert not facts.blocked("get", "cert_2")
    assert not facts.blocked("list")
    assert not replace(facts, token_hash="t2").blocked("get", "cert_1")
    assert replace(facts, token_hash=None).blocked("get", "cert_1")
    assert facts_of(failed=failing("get"), token_hash="t1").blocked("get", "cert_1")
    assert not replace(facts, tick=TICK + 60).blocked("get", "cert_1")
    assert replace(facts, tick=TICK + 59.9).blocked("get", "cert_1")
    assert facts_of(pauses=paused("list", NOW + HOUR)).blocked("list")


def test_the_grace_period_follows_from_the_limit_of_a_post() -> None:
    assert Limits().grace == 180.0
    assert Limits(post=timedelta(seconds=10)).grace == 70.0
    assert Limits().grace_after_error == 30.0
    assert Limits().issuances == 5


def test_a_list_gets_what_was_issued_after_it_was_begun() -> None:
    other = replace(NEW, id="cert_3")
    listing = listed(NEW)
    assert listing.with_issued([NEW]) is listing
    longer = listing.with_issued([replace(NEW, expires_at=None), other])
    assert list(longer.covering(NEW.cns)) == [NEW, other]
    assert longer.has("cert_3")
    assert longer.find("cert_3") is None, "it doesn't prove that the certificate is in this scope"
    assert longer.begun == listing.begun


def test_a_list_is_searched_by_id() -> None:
    assert listed(NEW).find("cert_2") == NEW
    assert listed(NEW).find("cert_1") is None
    assert listed(NEW).find(None) is None
