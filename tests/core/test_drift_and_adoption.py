"""What became of a certificate at Vercel without us, and certificates that the user brings."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.building import (
    DAY,
    HOUR,
    ISSUED_AT,
    MINUTE,
    NOW,
    SECOND,
    assert_in_order,
    at,
    attempted,
    cert,
    failed,
    known,
    listed,
    looked,
    message,
    ready,
    renewal_time,
    said,
    status_of,
    tick,
    written,
)
from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.core.known import Decision, Issue, Known, List, Look, Remove, Wait, Write
from vercel_certificate_operator.core.policies import decide, late_certificates
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import LostAttempt

READY = ("True", "Issued")
DUE = cert(created=NOW - 65 * DAY)
SUCCESSOR = cert("cert_2", created=NOW - HOUR)


def led_to(facts: Known, *at_vercel: Certificate) -> tuple[Known, Decision]:
    """What comes of it with these certificates at Vercel: looks and listings are answered, writes are written."""
    for _ in range(10):
        decision = decide(facts)
        match decision.action:
            case Look(certificate_id):
                found = next((one for one in at_vercel if one.id == certificate_id), None)
                look = looked(found, facts.now, of=certificate_id)
                mine = certificate_id == facts.resource.status.id
                facts = replace(facts, looked=look) if mine else replace(facts, named=look)
            case List():
                facts = replace(facts, listing=listed(*at_vercel, begun=facts.now))
            case Write():
                assert_in_order(facts, decision)
                facts = written(facts, decision)
            case _:
                return facts, decision
    raise AssertionError("no rest")


# --- gone -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        pytest.param(known(status=ready(), listing=listed()), Look("cert_1"), id="a listing alone"),
        pytest.param(known(status=ready(), looked=looked(None)), List(tick(NOW)), id="a 404 alone"),
        pytest.param(
            known(status=ready(), looked=looked(None), listing=listed(begun=NOW - SECOND)),
            List(tick(NOW)),
            id="a listing from before the 404",
        ),
        pytest.param(
            known(status=ready(), looked=looked(None, of="cert_9"), listing=listed()),
            Look("cert_1"),
            id="a 404 of another one",
        ),
    ],
)
def test_it_is_not_believed_to_be_gone_by_one_sign(facts: Known, action: Any) -> None:
    assert decide(facts).action == action


def test_a_certificate_gone_is_noted_and_issued_again() -> None:
    before = known(status=ready(), looked=looked(None), listing=listed(cert("cert_9", ["other.com"])))
    decision = decide(before)
    assert decision.action == Write()
    assert said(decision, "Ready") == ("False", "CertificateGone")
    assert said(decision, "Issuing") == ("True", "CertificateGone")
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason) == ("Warning", "CertificateGone")
    assert decision.status is not None
    assert (decision.status.id, decision.status.cns, decision.status.expires_at) == (None, (), None)
    assert_in_order(before, decision)
    action = decide(written(before, decision)).action
    assert isinstance(action, Issue)
    assert action.reason == Reason.CERTIFICATE_GONE


def test_a_certificate_gone_is_not_issued_again_within_a_back_off() -> None:
    facts, decision = led_to(known(status=failed(certificate=cert()), listing=listed()))
    assert decision.action == Wait(NOW + HOUR)
    assert facts.resource.status.id is None


def test_a_certificate_that_a_get_still_finds_is_not_gone() -> None:
    facts = known(status=ready(), listing=listed(), looked=looked(cert()))
    assert isinstance(decide(facts).action, Wait)


@pytest.mark.parametrize("state", [{"suspend": True}, {"deleting": True}], ids=str)
def test_what_was_found_gone_is_not_issued_again_by_who_keeps_still(state: dict[str, Any]) -> None:
    _, decision = led_to(known(**state, status=ready(), listing=listed(), looked=looked(None), removed={"cert_1"}))
    assert not isinstance(decision.action, Issue)


# --- renewed by Vercel ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("renewed", "when"),
    [
        pytest.param(
            replace(DUE, expires_at=NOW + 85 * DAY), "by a listing from time to time", id="the same id, listed"
        ),
        pytest.param(replace(DUE, expires_at=NOW + 85 * DAY), "at the renewal", id="the same id, looked at"),
        pytest.param(SUCCESSOR, "by a listing from time to time", id="a new id, listed"),
    ],
)
def test_vercels_own_renewal_is_adopted_and_nothing_is_asked_for(renewed: Certificate, when: str) -> None:
    at_vercel = [renewed] if renewed.id == DUE.id else [DUE, renewed]
    facts = known(status=ready(DUE))
    if when != "at the renewal":
        facts = replace(facts, listing=listed(*at_vercel))
    facts, decision = led_to(facts, *at_vercel)
    status = facts.resource.status
    assert not isinstance(decision.action, Issue)
    assert (status.id, status.expires_at, status.ready) == (renewed.id, renewed.expires_at, True)
    assert status.superseded_ids == (() if renewed.id == DUE.id else ("cert_1",))
    assert status.renewal_time == renewal_time(replace(renewed, created_at=status.created_at))


def test_the_event_tells_of_vercels_own_renewal() -> None:
    decision = decide(known(status=ready(DUE), listing=listed(DUE, SUCCESSOR)))
    assert decision.action == Write()
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason, decision.note.action) == ("Normal", "Renewed", "Renew")
    assert "cert_1" in decision.note.text
    assert "cert_2" in decision.note.text


def test_a_successor_is_adopted_when_the_old_one_is_gone_too() -> None:
    facts, decision = led_to(known(status=ready(DUE)), SUCCESSOR)
    assert not isinstance(decision.action, Issue)
    assert facts.resource.status.id == "cert_2"


@pytest.mark.parametrize(
    ("other", "more"),
    [
        pytest.param(SUCCESSOR, {"taken": {"cert_2"}}, id="another resource's"),
        pytest.param(SUCCESSOR, {"removed": {"cert_2"}}, id="one that we have removed"),
        pytest.param(replace(SUCCESSOR, cns=frozenset({"example.com", "b.com"})), {}, id="with other names"),
        pytest.param(cert("cert_2", created=NOW - 66 * DAY), {}, id="an older one"),
        pytest.param(cert("cert_2", created=NOW - HOUR, lifetime=DAY), {}, id="one that expires earlier"),
        pytest.param(replace(SUCCESSOR, expires_at=None), {}, id="one that does not say when it expires"),
    ],
)
def test_what_is_no_renewal_is_not_adopted(other: Certificate, more: dict[str, Any]) -> None:
    decision = decide(known(status=ready(), listing=listed(cert(), other), **more))
    assert isinstance(decision.action, Wait)
    assert decision.status is not None
    assert decision.status.id == "cert_1"


# --- changed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "field", "value"),
    [
        pytest.param(
            cert(cns=["example.com", "www.example.com"]), "cns", ("example.com", "www.example.com"), id="more names"
        ),
        pytest.param(cert(lifetime=60 * DAY), "expires_at", ISSUED_AT + 60 * DAY, id="an earlier expiry"),
        pytest.param(cert(auto_renew=False), "auto_renew", False, id="autoRenew"),
    ],
)
def test_what_has_changed_at_vercel_is_taken_into_status(seen: Certificate, field: str, value: Any) -> None:
    before = known(status=ready(attempt="attempt-1"), attempt=attempted(), listing=listed(seen))
    decision = decide(before)
    assert decision.action == Write()
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason) == ("Warning", "CertificateChanged")
    assert decision.status is not None
    assert getattr(decision.status, field) == value
    assert_in_order(before, decision)
    assert not isinstance(decide(written(before, decision)).action, Write)


def test_a_certificate_that_lost_a_name_is_issued_again() -> None:
    before = known(
        cns=["example.com", "b.com"],
        status=ready(cert(cns=["example.com", "b.com"]), attempt="attempt-1"),
        attempt=attempted(cns=["example.com", "b.com"]),
        listing=listed(cert()),
    )
    decision = decide(before)
    assert said(decision, "Ready") == ("False", "NamesChanged")
    assert isinstance(decide(written(before, decision)).action, Issue)


@pytest.mark.parametrize(
    "seen", [cert(lifetime=None), replace(cert(), cns=frozenset())], ids=["without its expiry", "without its names"]
)
def test_what_vercel_leaves_out_for_once_is_kept(seen: Certificate) -> None:
    decision = decide(known(status=ready(), listing=listed(seen)))
    assert isinstance(decision.action, Wait)
    assert said(decision, "Ready") == READY


def test_a_new_renew_before_is_no_change_at_vercel() -> None:
    facts = known(status=ready(), renew_before="240h", generation=2, listing=listed(cert()))
    decision = decide(facts)
    assert decision.note is None
    _, decision = led_to(facts, cert())
    assert decision.note is None


def test_a_listing_that_shows_everything_as_it_was_changes_nothing() -> None:
    facts = known(status=ready())
    facts = written(facts, decide(facts))
    decision = decide(replace(facts, listing=listed(cert())))
    assert isinstance(decision.action, Wait)
    assert decision.status is not None
    assert decision.status.dump() == facts.resource.status.dump()


# --- a scope that has vanished ----------------------------------------------------------------------------------------


def test_a_certificate_that_is_seen_without_its_creation_time_keeps_the_one_that_was_known() -> None:
    seen = replace(cert(), created_at=None, expires_at=NOW + 70 * DAY)
    facts, _ = led_to(replace(known(status=ready()), listing=listed(seen)), seen)
    assert facts.resource.status.expires_at == NOW + 70 * DAY
    assert facts.resource.status.created_at == ISSUED_AT


VANISHED = replace(listed(cert("cert_9", ["other.com"])), scope_vanished=True)


def test_when_many_are_gone_at_once_nothing_is_issued() -> None:
    before = known(status=ready(), listing=VANISHED)
    decision = decide(before)
    assert decision.action == Wait(NOW + HOUR)
    assert said(decision, "Issuing") == ("False", "ScopeVanished")
    assert "vercel-operator.io/renew" in message(decision, "Issuing")
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason) == ("Warning", "ScopeVanished")
    assert decision.status is not None
    assert decision.status.id == "cert_1"
    assert_in_order(before, decision)


@pytest.mark.parametrize("looks", [looked(None), looked(cert())], ids=["gone by GET too", "still there by GET"])
def test_nothing_is_issued_whatever_a_get_says(looks: Any) -> None:
    assert isinstance(decide(known(status=ready(), listing=VANISHED, looked=looks)).action, Wait)


def test_an_expired_one_is_not_issued_either() -> None:
    facts = known(status=ready(cert(created=NOW - 91 * DAY)), listing=VANISHED, looked=looked(None))
    decision = decide(facts)
    assert isinstance(decision.action, Wait)
    assert said(decision, "Ready") == ("False", "ScopeVanished")


def test_ready_turns_false_in_time_in_a_vanished_scope() -> None:
    before = known(status=ready(cert(created=NOW - 90 * DAY + MINUTE)), listing=VANISHED)
    assert_in_order(before, decide(before))


def test_it_is_told_once_and_listed_again_from_time_to_time() -> None:
    before = known(status=ready(), listing=VANISHED)
    facts = at(written(before, decide(before)), NOW + MINUTE)
    assert decide(facts).action == Wait(NOW + HOUR)
    facts = at(facts, NOW + HOUR)
    action = decide(facts).action
    assert isinstance(action, List)
    assert action.begun_after < facts.tick, "one listing does for all of them"
    again = decide(replace(facts, listing=replace(VANISHED, begun=facts.tick)))
    assert again.action == Wait(NOW + 2 * HOUR)
    assert again.note is None


def test_once_they_are_back_all_is_well_again() -> None:
    before = known(status=ready(), listing=VANISHED)
    facts = at(written(before, decide(before)), NOW + HOUR)
    decision = decide(replace(facts, listing=listed(cert(), begun=facts.now)))
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (READY, ("False", "Issued"))


def test_the_user_may_confirm_that_they_are_gone() -> None:
    before = known(status=ready(), listing=VANISHED)
    told = written(before, decide(before)).resource.status
    _, decision = led_to(known(status=told, renew="they are gone"))
    assert isinstance(decision.action, Issue)


@pytest.mark.parametrize("suspend", [False, True])
def test_a_renewal_that_was_asked_for_before_confirms_nothing(suspend: bool) -> None:
    before = known(status=ready(), renew="last week", suspend=suspend, listing=VANISHED, looked=looked(None))
    decision = decide(before)
    assert said(decision, "Issuing") == ("False", "ScopeVanished")
    told = at(written(before, decision), NOW + HOUR)
    facts, decision = led_to(replace(told, listing=replace(VANISHED, begun=told.tick)))
    assert isinstance(decision.action, Wait)
    assert facts.resource.status.id == "cert_1"
    confirmed = known(status=told.resource.status, renew="now", looked=looked(None), listing=VANISHED)
    assert isinstance(led_to(confirmed)[1].action, Issue)


def test_a_certificate_that_is_still_there_is_not_concerned() -> None:
    listing = replace(VANISHED, certificates=(cert(),))
    assert said(decide(known(status=ready(), listing=listing)), "Issuing") == ("False", "Issued")


def test_late_certificates_are_those_of_attempts_that_were_given_up() -> None:
    lost = LostAttempt(id="lost", start=NOW - DAY, cns=("example.com",))
    status = ready(lost_attempts=(lost,), superseded_ids=("cert_s",))

    def found(certificate: Certificate, offset: timedelta = timedelta()) -> bool:
        listing = listed(certificate, offset=offset)
        return late_certificates(status, listing, {"cert_t"}) == (certificate,)

    moment = NOW - DAY + MINUTE
    assert found(cert("cert_9", created=moment))
    assert found(cert("cert_9", created=moment + HOUR), offset=HOUR)
    assert not found(cert("cert_1", created=moment)), "it is the current one"
    assert not found(cert("cert_s", created=moment)), "it is superseded"
    assert not found(cert("cert_t", created=moment)), "it is another resource's"
    assert not found(cert("cert_9", ["other.com"], created=moment))
    assert not found(cert("cert_9", created=moment - HOUR)), "it is older than the attempt"
    assert not found(cert("cert_9", created=moment + 2 * HOUR)), "it is too young for it"
    assert not found(cert("cert_9", created=None))


# --- adoption ---------------------------------------------------------------------------------------------------------

THEIRS = cert("cert_x", ["example.com", "www.example.com"])


def adopting(**more: Any) -> Known:
    return known(**{"adopt": "cert_x", "may_adopt": True, **more})


def test_a_certificate_is_looked_at_before_it_is_adopted() -> None:
    assert decide(adopting()).action == Look("cert_x")
    assert decide(adopting(named=looked(cert()))).action == Look("cert_x"), "a look at another one does not do"


@pytest.mark.parametrize("status", [None, ready()], ids=["new", "in place of its own"])
def test_a_certificate_that_covers_the_names_is_adopted(status: Any) -> None:
    before = adopting(status=status, named=looked(THEIRS))
    decision = decide(before)
    assert decision.action == Write()
    assert said(decision, "Ready") == READY
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason, decision.note.action) == ("Normal", "Adopted", "Adopt")
    assert decision.status is not None
    assert (decision.status.id, decision.status.adopted_id) == ("cert_x", "cert_x")
    assert decision.status.superseded_ids == (("cert_1",) if status else ())
    assert_in_order(before, decision)
    after = at(written(before, decision), NOW + SECOND, removed={"cert_1"})
    assert not isinstance(decide(after).action, Issue | Look), "more names than asked for are no reason to ask"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        pytest.param({"may_adopt": False}, "default token", id="the namespace may not"),
        pytest.param({"taken": {"cert_x"}}, "another resource manages certificate cert_x", id="another's"),
        pytest.param({"named": looked(None, of="cert_x")}, "there is no certificate cert_x", id="not there"),
        pytest.param({"named": looked(cert("cert_x", ["b.com"]))}, "does not cover example.com", id="other names"),
        pytest.param(
            {"named": looked(cert("cert_x", created=NOW - 91 * DAY))}, "expired at 2025-12-31T12:00:00Z", id="expired"
        ),
        pytest.param({"named": looked(cert("cert_x", lifetime=None))}, "does not say when", id="no expiry"),
    ],
)
def test_an_adoption_is_refused_and_the_user_is_told_once(more: dict[str, Any], why: str) -> None:
    before = adopting(**more)
    decision = decide(before)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (("False", "AdoptionRefused"),) * 2
    assert why in message(decision, "Issuing")
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason) == ("Warning", "AdoptionRefused")
    assert decision.action == Wait(NOW + HOUR)
    assert_in_order(before, decision)
    assert decide(written(before, decision)).note is None


def test_a_refused_adoption_does_not_let_the_certificate_at_hand_expire() -> None:
    _, decision = led_to(adopting(status=ready(DUE), may_adopt=False), DUE)
    assert isinstance(decision.action, Issue)


@pytest.mark.parametrize(
    "status", [ready(THEIRS, adopted_id="cert_x"), ready(cert(), adopted_id="cert_x"), ready(cert("cert_x"))]
)
def test_an_adoption_is_done_once(status: Any) -> None:
    assert isinstance(decide(adopting(status=status)).action, Wait)


@pytest.mark.parametrize(("policy", "removed"), [("Delete", True), ("Retain", False)])
def test_an_adopted_one_that_was_replaced_is_removed_only_with_delete(policy: str, removed: bool) -> None:
    status = ready(cert("cert_2", created=NOW - HOUR), superseded_ids=("cert_x",), adopted_id="cert_x")
    facts = known(status=status, deletion_policy=policy)
    assert (decide(facts).action == Remove("cert_x")) is removed
    if not removed:
        assert written(facts, decide(facts)).resource.status.superseded_ids == ()


def test_an_adopted_one_is_renewed_like_any_other() -> None:
    _, decision = led_to(known(status=ready(replace(DUE, id="cert_x"), adopted_id="cert_x")), replace(DUE, id="cert_x"))
    assert isinstance(decision.action, Issue)
    assert decision.action.reason == Reason.RENEWAL_DUE


def test_an_adopted_one_is_issued_anew_when_the_names_are_no_longer_covered() -> None:
    _, decision = led_to(known(status=ready(THEIRS, adopted_id="cert_x"), cns=["b.example.com"], generation=2), THEIRS)
    assert isinstance(decision.action, Issue)
    assert decision.action.reason == Reason.NAMES_CHANGED


def test_an_issuance_under_way_is_resolved_before_anything_is_adopted() -> None:
    assert isinstance(decide(adopting(attempt=attempted())).action, List)


def test_nothing_is_adopted_while_suspended() -> None:
    decision = decide(adopting(suspend=True, status=status_of(None)))
    assert said(decision, "Issuing") == ("False", "Suspended")
