"""Certificates that the operator didn't issue: adopted on request, or used instead of issuing another one."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.building import (
    DAY,
    DUE,
    EXPIRED,
    HOUR,
    KEY,
    MINUTE,
    NO_TOKEN,
    NOT_SENT,
    NOTHING_TO_DO,
    NOW,
    READY,
    SECOND,
    TEAM,
    TIMED_OUT,
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
    note_of,
    paused,
    ready,
    refusal,
    replaced,
    status_of,
    written,
)
from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.failures import Failure
from vercel_certificate_operator.core.known import Get, Issue, Known, List, Remove, Wait, Write
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.renewal import schedule
from vercel_certificate_operator.core.resource import Status

# --- adoption on request ----------------------------------------------------------------------------------------------

THEIRS = cert("cert_x", ["example.com", "www.example.com"])


def adopting(**more: Any) -> Known:
    return known(**{"adopt": "cert_x", "may_adopt": True, **more})


def refusal_of(facts: Known) -> str:
    """Returns why an adoption is refused, which has to be next."""
    decision = decide(facts)
    assert decision.policy == "named_certificate_is_adopted"
    assert decision.action == Write()
    assert note_of(decision) == ("Warning", "AdoptionRefused", "Adopt")
    assert_in_order(facts, decision)
    after = written(facts, decision)
    assert after.resource.status == facts.resource.status.changed(last_adopt_request="cert_x")
    assert decide(after).policy != "named_certificate_is_adopted", "each value is acted on once"
    assert decision.note is not None
    begin, _, why = decision.note.text.partition(": ")
    assert begin.startswith(
        "Certificate cert_x, which the annotation vercel-operator.io/adopt-id names, was not adopted for"
    )
    assert why.endswith("until the annotation has had another value, such as none.")
    return why


def test_a_certificate_is_read_before_it_is_adopted() -> None:
    assert decide(adopting()).action == Get("cert_x", TEAM)
    assert decide(adopting(got=got(cert()))).action == Get("cert_x", TEAM), "another one's answer says nothing"


@pytest.mark.parametrize(
    ("status", "superseded"), [(None, ()), (ready(origin="Found"), ("cert_1",))], ids=["new", "in place of another"]
)
def test_a_certificate_that_covers_the_names_is_adopted(status: Status | None, superseded: tuple[str, ...]) -> None:
    before = adopting(status=status, got=got(THEIRS), token_hash="t1")
    decision = decide(before)
    assert (decision.policy, decision.action) == ("named_certificate_is_adopted", Write())
    assert conditions_of(decision) == (READY, NOTHING_TO_DO)
    assert note_of(decision) == ("Normal", "Adopted", "Adopt")
    assert decision.note is not None
    assert decision.note.text == "Adopted certificate cert_x for example.com, www.example.com."
    assert_in_order(before, decision)
    after = written(before, decision)
    held = after.resource.status
    assert (held.id, held.origin, held.team, held.token_hash) == ("cert_x", "Adopted", "team_a", "t1")
    assert (held.superseded_ids, held.last_adopt_request) == (superseded, "cert_x")
    assert all((entry.origin, entry.since) == ("Found", NOW) for entry in held.superseded), "it rests from now on"
    assert led_to(after)[1].policy == "nothing_is_needed", "more names than wanted are no reason to issue"


@pytest.mark.parametrize("named", [".", "..", "cert_x/../y", "cert x", "cert_ü", "cert_x\n", "x" * 201])
@pytest.mark.parametrize("status", [None, ready()], ids=["new", "ready"])
def test_what_can_not_be_an_id_is_refused_and_never_sent(named: str, status: Status | None) -> None:
    facts = adopting(adopt=named, status=status)
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("named_certificate_is_adopted", Write())
    assert note_of(decision) == ("Warning", "AdoptionRefused", "Adopt")
    assert decision.note is not None
    assert ": an id has only letters, digits, - and _, at most 200. Check the id. The operator" in decision.note.text
    assert_in_order(facts, decision)
    assert decide(written(facts, decision)).policy != "named_certificate_is_adopted"


def test_an_id_can_have_200_characters() -> None:
    assert decide(adopting(adopt="x" * 200)).action == Get("x" * 200, TEAM)


def test_the_current_certificate_can_be_adopted_too() -> None:
    """Then it is removed with the resource."""
    before = adopting(adopt="cert_1", status=ready(origin="Found"), got=got(cert()))
    held = written(before, decide(before)).resource.status
    assert (held.id, held.origin, held.superseded) == ("cert_1", "Adopted", ())


def test_a_replaced_certificate_can_be_adopted_too() -> None:
    before = adopting(adopt="cert_0", status=ready(superseded=replaced("cert_0")), got=got(cert("cert_0")))
    held = written(before, decide(before)).resource.status
    assert (held.certificate_ids, held.origin) == (("cert_0", "cert_1"), "Adopted")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        pytest.param(
            {"may_adopt": False},
            "--default-token-namespace does not list this namespace by its name. Set spec.tokenSecretRef",
            id="not allowed",
        ),
        pytest.param(
            {"held_elsewhere": {"cert_x"}, "got": got(cert("cert_x"))}, "another resource manages it.", id="another's"
        ),
        pytest.param(
            {"got": gone("cert_x"), "listing": listed()},
            "Vercel has no such certificate in team team_a with the default token. Check",
            id="not there",
        ),
        pytest.param({"got": got(cert("cert_x", ["b.com"]))}, "it does not cover example.com.", id="other names"),
        pytest.param({"got": got(replace(EXPIRED, id="cert_x"))}, "it expired at 2025-12-31T12:00:00Z.", id="old"),
        pytest.param({"got": got(cert("cert_x", created=NOW - 90 * DAY))}, "it expired at 2026", id="just now"),
        pytest.param(
            {"got": got(cert("cert_x", lifetime=None))},
            "Vercel does not say when it expires.",
            id="no expiry time",
        ),
    ],
)
@pytest.mark.parametrize("status", [None, ready()], ids=["new", "ready"])
def test_an_adoption_is_refused_once_and_the_resource_proceeds(
    more: dict[str, Any], why: str, status: Status | None
) -> None:
    facts = adopting(status=status, **more)
    assert refusal_of(facts).startswith(why)
    at_vercel = () if status is None else (cert(),)
    then = led_to(written(facts, decide(facts)), *at_vercel)[1]
    assert then.policy == ("attempt_is_made" if status is None else "nothing_is_needed")


def test_a_404_is_believed_only_if_a_list_confirms_it() -> None:
    facts = adopting(got=gone("cert_x"))
    assert decide(facts).action == List(facts.tick, TEAM)
    assert decide(replace(facts, listing=listed(begun=NOW - SECOND))).action == List(facts.tick, TEAM)
    there = decide(replace(facts, listing=listed(THEIRS)))
    assert there.note is None
    assert there.policy != "named_certificate_is_adopted"


def test_a_404_that_no_list_can_confirm_holds_nothing_up() -> None:
    facts = adopting(got=gone("cert_x"), status=ready(), failed=failing("list", refusal(500)))
    assert decide(facts).policy == "nothing_is_needed"
    assert decide(replace(facts, failed={}, pauses=paused("list", NOW + HOUR))).policy == "nothing_is_needed"


def test_a_value_is_acted_on_once() -> None:
    for status in (ready(last_adopt_request="cert_x"), ready(THEIRS, origin="Adopted", last_adopt_request="cert_x")):
        assert decide(adopting(status=status)).policy == "nothing_is_needed"
    assert decide(adopting(status=ready(last_adopt_request="cert_y"))).action == Get("cert_x", TEAM)


@pytest.mark.parametrize("failure", [refusal(403), refusal(500), TIMED_OUT], ids=["403", "500", "time-out"])
def test_a_get_that_always_fails_holds_no_renewal_up(failure: Failure) -> None:
    blocked = failing("get", failure, of="cert_x")
    assert isinstance(led_to(adopting(status=ready(DUE), failed=blocked), DUE)[1].action, Issue)


@pytest.mark.parametrize(
    ("failure", "refused"),
    [
        (refusal(403), True),
        (refusal(500), True),
        (TIMED_OUT, True),
        (refusal(401), False),
        (refusal(429), False),
        (NOT_SENT, False),
        (NO_TOKEN, False),
    ],
    ids=["403", "500", "time-out", "401", "429", "not sent", "no token"],
)
def test_a_resource_without_a_certificate_waits_an_hour_for_a_get_that_fails(failure: Failure, refused: bool) -> None:
    """Without a token or a network, nothing else could be done either."""

    def since(moment: Any) -> Known:
        return adopting(failed=failing("get", failure, of="cert_x", since=moment), token_read=True)

    assert decide(since(NOW - HOUR + SECOND)).action == Wait(NOW + MINUTE)
    late = since(NOW - HOUR)
    if refused:
        assert refusal_of(late).startswith(
            f"it can't be read with the default token: {failure.message.rstrip('.')}. Check"
        )
    else:
        assert decide(late).action == Wait(NOW + MINUTE)


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(ready(scope_vanished=True, issuing=("False", "ScopeVanished")), id="ScopeVanished"),
        pytest.param(
            failed(Reason.UNEXPECTED_ANSWER, certificate=cert(cns=["b.com"]), outcome="Unexpected"),
            id="UnexpectedAnswer",
        ),
        pytest.param(failed(Reason.DOMAIN_NOT_FOUND), id="a back-off"),
        pytest.param(ready(team=None, token_hash="t0", issuing=("False", "ScopeChanged")), id="another account"),
    ],
)
def test_an_adoption_ends_what_it_can_end(status: Status) -> None:
    facts = adopting(status=status, got=got(THEIRS), token_hash="t1", token_read=True)
    held = written(facts, decide(facts)).resource.status
    assert (held.id, held.scope_vanished, held.failed_attempts, held.token_hash) == ("cert_x", False, 0, "t1")
    assert held.ready


def test_an_open_attempt_is_resolved_before_anything_is_adopted() -> None:
    assert decide(adopting(attempt=attempted())).policy == "open_attempt_is_searched_for"


def test_nothing_is_adopted_while_suspended() -> None:
    facts = adopting(suspend=True, status=status_of(None))
    assert decide(facts).policy == "suspended_changes_nothing"


@pytest.mark.parametrize(("policy", "removed"), [("Delete", True), ("Retain", False)])
def test_an_adopted_certificate_that_was_replaced_is_removed_only_with_delete(policy: str, removed: bool) -> None:
    status = ready(cert("cert_2", created=NOW - HOUR), superseded=replaced("cert_x", origin="Adopted"))
    facts = known(status=status, deletion_policy=policy)
    assert (decide(facts).action == Remove("cert_x", TEAM)) is removed
    if not removed:
        decision = decide(facts)
        assert note_of(decision) == ("Normal", "Retained", "Remove")
        assert written(facts, decision).resource.status.superseded == ()


def test_an_adopted_certificate_is_renewed_like_any_other() -> None:
    old = replace(DUE, id="cert_x", cns=THEIRS.cns)
    attempt = issued_by(known(status=ready(old, origin="Adopted")), old)
    assert (attempt.reason, attempt.cns) == (Reason.RENEWAL_DUE, ("example.com",))


# --- reuse ------------------------------------------------------------------------------------------------------------

EXISTING = cert("cert_e", created=NOW - 20 * DAY)


def used(facts: Known, certificate_id: str) -> Status:
    """Returns the status once an existing certificate is used, which has to be next."""
    facts = replace(facts, got=facts.got or got(*(facts.listing.certificates if facts.listing else ())))
    decision = decide(facts)
    assert decision.policy == "existing_certificate_is_used"
    assert decision.action == Write()
    assert_in_order(facts, decision)
    status = written(facts, decision).resource.status
    assert status.id == certificate_id
    assert status.ready
    return status


def test_an_existing_certificate_is_used_instead_of_issuing_another_one() -> None:
    """A cluster that is rebuilt from Git, or a backup that is restored without status."""
    facts = known(listing=listed(EXISTING), token_hash="t1")
    assert decide(facts).action == Get("cert_e", TEAM), "a list is a hint"
    facts = replace(facts, got=got(EXISTING))
    decision = decide(facts)
    assert note_of(decision) == ("Normal", "Reused", "Reuse")
    assert decision.note is not None
    assert decision.note.text == (
        "Using the existing certificate cert_e for example.com; expires 2026-03-12T12:00:00Z. The operator did not "
        "issue it and will not remove it."
    )
    status = used(facts, "cert_e")
    assert (status.origin, status.shared_names, status.team, status.token_hash) == ("Found", True, "team_a", "t1")
    assert (status.attempt, status.issuances) == (None, ())


@pytest.mark.parametrize(
    ("spec", "may_adopt", "origin"),
    [
        ("Adopt", True, "Adopted"),
        ("Adopt", False, "Found"),
        ("Reuse", True, "Found"),
        ("Whatever", True, "Found"),
        ("Ignore", True, None),
    ],
)
def test_existing_certificate_says_what_happens(spec: str, may_adopt: bool, origin: str | None) -> None:
    facts = known(existing_certificate=spec, may_adopt=may_adopt, listing=listed(EXISTING))
    if origin is None:
        assert isinstance(decide(facts).action, Issue)
        return
    status = used(facts, "cert_e")
    assert status.origin == origin
    assert status.shared_names is (origin == "Found"), "Vercel's renewal of an adopted one is the operator's too"
    decision = decide(replace(facts, got=got(EXISTING)))
    assert note_of(decision) == ("Normal", "Adopted" if origin == "Adopted" else "Reused", "Reuse")
    assert decision.note is not None
    assert ("will not remove it" in decision.note.text) is (origin == "Found")


def due_in(span: timedelta, certificate_id: str = "cert_e") -> Certificate:
    """Returns a certificate with a lifetime of 90 days that is due for renewal after this time."""
    probe = cert(certificate_id, created=NOW)
    status = led_to(known(status=ready(probe)))[0].resource.status
    assert status.renewal_time is not None
    return cert(certificate_id, created=NOW - (status.renewal_time - NOW - span))


@pytest.mark.parametrize(
    ("certificate", "more", "fits"),
    [
        pytest.param(EXISTING, {}, True, id="it fits"),
        pytest.param(replace(EXISTING, cns=THEIRS.cns), {}, False, id="more names"),
        pytest.param(replace(EXISTING, cns=frozenset()), {}, False, id="no names"),
        pytest.param(EXISTING, {"held_elsewhere": {"cert_e"}}, False, id="in another status"),
        pytest.param(EXISTING, {"removed": {"cert_e": True}}, False, id="just removed"),
        pytest.param(replace(EXPIRED, id="cert_e"), {}, False, id="expired"),
        pytest.param(replace(DUE, id="cert_e"), {}, False, id="due"),
        pytest.param(due_in(9 * DAY + MINUTE), {}, True, id="due in a tenth of its lifetime"),
        pytest.param(due_in(9 * DAY - MINUTE), {}, False, id="due earlier"),
        pytest.param(replace(EXISTING, expires_at=None), {}, False, id="no expiry time"),
        pytest.param(replace(EXISTING, created_at=None), {}, False, id="of unknown age"),
        pytest.param(EXISTING, {"renew_before": "1900h"}, False, id="due by renewBefore"),
        pytest.param(EXISTING, {"renew": "1"}, False, id="a renewal was requested"),
        pytest.param(EXISTING, {"renew": "1", "status": status_of(last_renew_request="1")}, True, id="and met"),
        pytest.param(EXISTING, {"got": gone("cert_e")}, False, id="a GET does not find it"),
        pytest.param(EXISTING, {"got": got(replace(EXISTING, cns=THEIRS.cns))}, False, id="a GET shows other names"),
        pytest.param(EXISTING, {"got": got(replace(EXPIRED, id="cert_e"))}, False, id="a GET shows another expiry"),
    ],
)
def test_a_certificate_is_used_only_if_it_fits(certificate: Certificate, more: dict[str, Any], fits: bool) -> None:
    facts = known(**{"listing": listed(certificate), **more})
    if fits:
        assert used(facts, "cert_e").ready
    else:
        assert isinstance(decide(facts).action, Issue)


@pytest.mark.parametrize(
    "blocked",
    [{"failed": failing("get", refusal(500), of="cert_e")}, {"pauses": paused("get", NOW + HOUR)}],
    ids=["a GET fails", "a GET is paused"],
)
def test_an_existing_certificate_that_cannot_be_read_now_is_waited_for(blocked: dict[str, Any]) -> None:
    facts = known(listing=listed(EXISTING), **blocked)
    assert isinstance(decide(facts).action, Wait)
    assert decide(facts).policy == "existing_certificate_is_used"


def test_an_existing_certificate_that_cannot_be_read_for_an_hour_does_not_count() -> None:
    """A certificate must not be blocked by a call that always fails."""
    failed = failing("get", refusal(500), of="cert_e", since=NOW - HOUR)
    assert isinstance(decide(known(listing=listed(EXISTING), failed=failed)).action, Issue)


def test_a_tenth_of_the_lifetime_is_just_long_enough() -> None:
    assert EXISTING.expires_at is not None
    due = schedule(uid=KEY.uid, created_at=EXISTING.created_at, expires_at=EXISTING.expires_at, renew_before=None)
    last = due.renewal_time - due.lifetime / 10
    assert used(known(listing=listed(EXISTING, begun=last), now=last), "cert_e").ready
    later = last + timedelta(microseconds=1)
    assert isinstance(decide(known(listing=listed(EXISTING, begun=later), now=later)).action, Issue)


def test_a_certificate_whose_times_make_no_sense_is_not_used() -> None:
    odd = replace(EXISTING, created_at=NOW + 90 * DAY, expires_at=NOW + 90 * DAY)
    assert isinstance(decide(known(listing=listed(odd))).action, Issue)


def test_of_several_the_one_that_expires_last_is_used() -> None:
    others = [cert("cert_a", created=NOW - 21 * DAY), EXISTING, cert("cert_z", created=NOW - 22 * DAY)]
    assert used(known(listing=listed(*others)), "cert_e").ready
    same = [EXISTING, replace(EXISTING, id="cert_f")]
    assert used(known(listing=listed(*same)), "cert_f").ready


def test_if_the_best_is_not_there_the_next_one_is_used() -> None:
    facts = known(listing=listed(EXISTING, cert("cert_l", created=NOW)), got={**gone("cert_l"), **got(EXISTING)})
    assert used(facts, "cert_e").ready


def test_one_of_its_own_that_was_replaced_becomes_current_again() -> None:
    """The names change back within ten minutes."""
    was, now = cert("cert_0", created=NOW - HOUR), cert(cns=["b.com"], created=NOW)
    status = ready(now, superseded=replaced("cert_0", since=NOW - MINUTE))
    facts = known(status=status, existing_certificate="Ignore", listing=listed(was, now), got=got(was))
    after = used(facts, "cert_0")
    assert (after.origin, after.shared_names, after.superseded_ids) == ("Issued", False, ("cert_1",))
    decision = decide(facts)
    assert note_of(decision) == ("Normal", "Reused", "Reuse")
    assert decision.note is not None
    assert "will not remove" not in decision.note.text


def test_one_of_its_own_is_better_than_one_that_expires_later() -> None:
    was, now = cert("cert_0", created=NOW - HOUR), cert(cns=["b.com"], created=NOW)
    status = ready(now, superseded=replaced("cert_0", origin="Adopted", since=NOW - MINUTE))
    facts = known(status=status, listing=listed(was, now, cert("cert_e", created=NOW)), got=got(was))
    after = used(facts, "cert_0")
    assert after.origin == "Adopted"
    assert note_of(decide(facts)) == ("Normal", "Reused", "Reuse")


def test_a_replaced_one_of_another_scope_is_not_its_own() -> None:
    was, now = cert("cert_0", created=NOW - HOUR), cert(cns=["b.com"], created=NOW)
    status = ready(now, superseded=replaced("cert_0", team="team_z", since=NOW - MINUTE))
    facts = known(status=status, listing=listed(was, now), got=got(was))
    assert used(facts, "cert_0").origin == "Found"
    assert isinstance(
        decide(replace(facts, resource=known(status=status, existing_certificate="Ignore").resource)).action, Issue
    )


def test_a_due_certificate_is_replaced_by_an_existing_one() -> None:
    """Someone issued it by hand. The old one is removed as its origin allows."""
    by_hand = cert("cert_e", created=NOW - MINUTE, auto_renew=False)
    facts, decision = led_to(known(status=ready(DUE)), DUE, by_hand)
    status = facts.resource.status
    assert decision.policy == "nothing_is_needed"
    assert (status.id, status.origin, status.superseded_ids, status.superseded[0].origin) == (
        "cert_e",
        "Found",
        ("cert_1",),
        "Issued",
    )


def test_the_current_certificate_is_not_reused() -> None:
    facts = known(status=ready(cert(cns=["example.com"]), requested_cns=()), cns=["example.com"], renew=None)
    assert decide(replace(facts, listing=listed(cert()))).policy == "nothing_is_needed"
    odd = known(status=ready(cert(lifetime=None)), listing=listed(cert(lifetime=None)), got=got(cert(lifetime=None)))
    assert isinstance(decide(odd).action, Issue)


def test_an_existing_certificate_ends_a_back_off() -> None:
    facts = known(status=failed(Reason.DOMAIN_NOT_CONFIGURED, times=3), listing=listed(EXISTING))
    status = used(facts, "cert_e")
    assert (status.failed_attempts, status.next_attempt_time, status.last_failure_time) == (0, None, None)
    assert at(facts, NOW).listing is None
