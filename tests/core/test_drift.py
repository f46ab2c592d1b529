"""What a list and a GET show about the current certificate: gone, changed, renewed by Vercel, or not alone."""

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
    NOTHING_TO_DO,
    NOW,
    READY,
    SECOND,
    TEAM,
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
    renewal_time,
    replaced,
    tick,
    written,
)
from vercel_certificate_operator.core.certificate import Certificate, Certificates
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.facts import half_time, not_here, vercels_renewal
from vercel_certificate_operator.core.known import Get, Issue, Known, List, Ownership, Remove, Wait, Write
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import Status

WITH_WWW = frozenset({"example.com", "www.example.com"})
SUCCESSOR = cert("cert_2", created=NOW - HOUR)


def seen(*certificates: Certificate, **more: Any) -> Known:
    """A list of this moment shows these."""
    return known(**{"status": ready(), "listing": listed(*certificates), **more})


def _but_conditions(status: Status) -> Status:
    return status.changed(conditions=())


# --- gone -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        pytest.param(seen(), Get("cert_1", TEAM), id="a list alone"),
        pytest.param(known(status=ready(), got=gone("cert_1")), List(tick(NOW), TEAM), id="a 404 alone"),
        pytest.param(
            known(status=ready(), got=gone("cert_1"), listing=listed(begun=NOW - SECOND)),
            List(tick(NOW), TEAM),
            id="a list from before the 404",
        ),
        pytest.param(seen(got=gone("cert_9")), Get("cert_1", TEAM), id="another one's 404"),
    ],
)
def test_one_sign_does_not_prove_that_a_certificate_is_gone(facts: Known, action: Any) -> None:
    assert decide(facts).action == action


def test_a_certificate_that_is_gone_is_reported_and_issued_again() -> None:
    other = cert("cert_9", ["other.com"])
    before = seen(other, got=gone("cert_1"))
    decision = decide(before)
    assert (decision.policy, decision.action) == ("confirmed_absence_is_recorded", Write())
    assert conditions_of(decision) == (("False", "CertificateGone"), ("True", "CertificateGone"))
    assert note_of(decision) == ("Warning", "CertificateGone", "List")
    assert decision.note is not None
    assert (
        decision.note.text
        == "Certificate cert_1 for example.com no longer exists at Vercel. The operator issues another one."
    )
    status = written(before, decision).resource.status
    assert (status.id, status.cns, status.expires_at, status.superseded) == (None, (), None, ())
    assert_in_order(before, decision)
    assert issued_by(before, other).reason == Reason.CERTIFICATE_GONE


def test_a_certificate_that_is_gone_is_not_issued_again_during_a_back_off() -> None:
    facts, decision = led_to(known(status=failed(Reason.DOMAIN_NOT_FOUND, certificate=cert()), listing=listed()))
    assert decision.action == Wait(NOW + HOUR)
    assert facts.resource.status.id is None
    assert conditions_of(decision) == (("False", "DomainNotFound"),) * 2


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(seen(got=got(cert())), id="a GET finds it"),
        pytest.param(seen(cert(), got=gone("cert_1")), id="a list from after the 404 has it"),
        pytest.param(seen(failed=failing("get", refusal(500))), id="a GET fails"),
    ],
)
def test_a_certificate_that_may_be_there_is_not_gone(facts: Known) -> None:
    decision = decide(facts)
    assert decision.policy == "nothing_is_needed"
    assert conditions_of(decision)[0] == READY


def test_a_404_that_no_list_can_confirm_changes_nothing() -> None:
    facts = known(status=ready(), got=gone("cert_1"), failed=failing("list", refusal(500)))
    assert decide(facts).policy == "nothing_is_needed"


def test_what_is_gone_is_recorded_in_a_suspended_resource_and_not_issued() -> None:
    facts, decision = led_to(seen(suspend=True))
    assert facts.resource.status.id is None
    assert conditions_of(decision) == (("False", "Suspended"),) * 2
    recorded = decide(seen(suspend=True, got=gone("cert_1")))
    assert recorded.note is not None
    assert recorded.note.text == "Certificate cert_1 for example.com no longer exists at Vercel."


def test_what_is_gone_is_not_issued_in_a_resource_that_is_being_deleted() -> None:
    assert led_to(seen(deleting=True))[1].policy == "certificates_are_removed_then_released"


# --- renewed by Vercel under the same id ------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["Issued", "Adopted", "Found", None])
def test_a_later_expiry_under_the_same_id_is_vercels_renewal(origin: str | None) -> None:
    renewed = replace(DUE, expires_at=NOW + 85 * DAY)
    before = seen(renewed, status=ready(DUE, origin=origin, shared_names=True))
    decision = decide(before)
    assert (decision.policy, decision.action) == ("drift_is_detected", Write())
    assert note_of(decision) == ("Normal", "Renewed", "Renew")
    assert decision.note is not None
    assert decision.note.text == "Vercel renewed certificate cert_1: cert_1 expires 2026-03-27T12:00:00Z."
    status = written(before, decision).resource.status
    assert (status.id, status.expires_at, status.origin) == ("cert_1", NOW + 85 * DAY, origin or "Found")
    assert (status.superseded, status.ready) == ((), True)
    assert status.renewal_time == renewal_time(renewed)
    assert led_to(before, renewed)[1].policy == "nothing_is_needed"


@pytest.mark.parametrize("expires", [NOW + 85 * DAY, NOW + 20 * DAY], ids=["renewed", "changed"])
def test_a_certificate_that_is_seen_without_its_creation_time_keeps_the_known_one(expires: Any) -> None:
    seen_now = replace(DUE, created_at=None, expires_at=expires)
    before = seen(seen_now, status=ready(DUE), got=got(seen_now))
    status = written(before, decide(before)).resource.status
    assert (status.created_at, status.expires_at) == (DUE.created_at, expires)


def test_a_renewal_under_another_id_without_its_creation_time_was_made_now() -> None:
    before = seen(DUE, SUCCESSOR, status=ready(DUE), got=got(replace(SUCCESSOR, created_at=None)))
    assert written(before, decide(before)).resource.status.created_at == NOW


@pytest.mark.parametrize("waits", [True, False])
def test_vercels_renewal_ends_failures_unless_a_wait_runs(waits: bool) -> None:
    """A refused attempt for other names is not over because the old certificate was renewed."""
    renewed = replace(DUE, expires_at=NOW + 85 * DAY)
    status = failed(certificate=DUE, times=3, until=NOW + HOUR if waits else NOW)
    decision = decide(seen(renewed, status=status))
    assert decision.status is not None
    assert decision.status.failed_attempts == (3 if waits else 0)


# --- renewed by Vercel under another id -------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["Issued", "Adopted", "Found"])
def test_vercels_renewal_under_another_id_inherits_the_origin(origin: str) -> None:
    before = seen(DUE, SUCCESSOR, status=ready(DUE, origin=origin))
    assert decide(before).action == Get("cert_2", TEAM), "a list is a hint"
    before = replace(before, got=got(SUCCESSOR))
    decision = decide(before)
    assert (decision.policy, decision.action) == ("drift_is_detected", Write())
    assert note_of(decision) == ("Normal", "Renewed", "Renew")
    assert decision.note is not None
    assert decision.note.text == "Vercel renewed certificate cert_1: cert_2 expires 2026-04-01T11:00:00Z."
    status = written(before, decision).resource.status
    assert (status.id, status.origin, status.shared_names) == ("cert_2", origin, False)
    old = status.superseded[0]
    assert (old.id, old.origin, old.since) == ("cert_1", origin, NOW)
    assert_in_order(before, decision)


def test_vercels_renewal_is_found_at_the_renewal_time_too() -> None:
    """Vercel renewed while the operator was down."""
    facts, decision = led_to(known(status=ready(DUE)), DUE, SUCCESSOR)
    assert decision.policy == "nothing_is_needed"
    assert (facts.resource.status.id, facts.resource.status.origin) == ("cert_2", "Issued")


MIDDLE = ISSUED_AT + 45 * DAY
"""Of the lifetime of the current certificate."""
LATER = MIDDLE + DAY
END = ISSUED_AT + 90 * DAY


def renewal_of(*others: Certificate, **more: Any) -> str | None:
    """Returns which of these is Vercel's renewal of a certificate in the second half of its lifetime."""
    facts = known(**{"status": ready(), "listing": listed(cert(), *others), "now": LATER, **more})
    found = vercels_renewal(facts)
    return found.id if found else None


RENEWAL = cert("cert_2", created=MIDDLE)


@pytest.mark.parametrize(
    ("other", "more", "counts"),
    [
        pytest.param(RENEWAL, {}, True, id="created in the middle of the lifetime"),
        pytest.param(replace(RENEWAL, created_at=LATER), {}, True, id="created later"),
        pytest.param(replace(RENEWAL, created_at=MIDDLE - SECOND), {}, False, id="created before"),
        pytest.param(replace(RENEWAL, created_at=END + 2 * SECOND), {}, True, id="created at the end of the lifetime"),
        pytest.param(replace(RENEWAL, created_at=END + 3 * SECOND), {}, False, id="created after the expiry"),
        pytest.param(RENEWAL, {"left_behind": {"cert_2": None}}, False, id="another resource left it there"),
        pytest.param(RENEWAL, {"left_behind": {"cert_1": None}}, True, id="another resource left another one there"),
        pytest.param(replace(RENEWAL, created_at=None), {}, False, id="of unknown age"),
        pytest.param(replace(RENEWAL, expires_at=None), {}, False, id="of unknown expiry"),
        pytest.param(replace(RENEWAL, expires_at=LATER), {}, False, id="expired"),
        pytest.param(
            replace(RENEWAL, expires_at=LATER), {"clock_skew": DAY}, True, id="expired by the clock that is ahead"
        ),
        pytest.param(replace(RENEWAL, expires_at=LATER - DAY), {"clock_skew": DAY}, False, id="expired by both clocks"),
        pytest.param(
            replace(RENEWAL, expires_at=LATER), {"clock_skew": -DAY}, False, id="expired by the clock that is behind"
        ),
        pytest.param(replace(RENEWAL, auto_renew=False), {}, False, id="not renewed automatically: a user's own"),
        pytest.param(replace(RENEWAL, auto_renew=None), {}, True, id="autoRenew unknown"),
        pytest.param(replace(RENEWAL, cns=WITH_WWW), {}, False, id="more names"),
        pytest.param(RENEWAL, {"held_elsewhere": {"cert_2"}}, False, id="in another status"),
        pytest.param(RENEWAL, {"attempted_elsewhere": {cert().cns}}, False, id="perhaps another resource's answer"),
        pytest.param(RENEWAL, {"attempted_elsewhere": {WITH_WWW}}, True, id="another resource attempts other names"),
        pytest.param(RENEWAL, {"removed": {"cert_2": True}}, False, id="just removed"),
        pytest.param(RENEWAL, {"status": ready(superseded=replaced("cert_2"))}, False, id="replaced by the current"),
        pytest.param(RENEWAL, {"status": ready(shared_names=True)}, False, id="someone has the same names"),
        pytest.param(RENEWAL, {"status": ready(cert(auto_renew=False))}, False, id="the current does not renew"),
        pytest.param(RENEWAL, {"status": ready(cert(auto_renew=None))}, False, id="nobody knows whether it renews"),
        pytest.param(RENEWAL, {"status": ready(cert(lifetime=None))}, False, id="its expiry is unknown"),
        pytest.param(RENEWAL, {"status": ready(created_at=None)}, False, id="its age is unknown"),
    ],
)
def test_a_certificate_is_vercels_renewal_only_if_it_cannot_be_someone_elses(
    other: Certificate, more: dict[str, Any], counts: bool
) -> None:
    assert renewal_of(other, **more) == ("cert_2" if counts else None)


def test_without_a_list_there_is_no_renewal_to_see() -> None:
    assert vercels_renewal(known(status=ready())) is None


GONE: dict[str, Any] = {"got": gone("cert_1", at=LATER)}


@pytest.mark.parametrize(
    ("created", "counts"), [(ISSUED_AT + SECOND, True), (ISSUED_AT, False), (ISSUED_AT - DAY, False)]
)
def test_if_the_old_one_is_gone_an_earlier_renewal_counts_too(created: Any, counts: bool) -> None:
    other = cert("cert_2", created=created)
    listing = listed(other, begun=LATER)
    facts = known(status=ready(), now=LATER, listing=listing, **GONE)
    assert (vercels_renewal(facts) == other) is counts
    assert vercels_renewal(replace(facts, got={})) is None, "a list alone does not prove that it is gone"


SECOND_RENEWAL = cert("cert_3", created=MIDDLE + 50 * DAY)


@pytest.mark.parametrize(
    ("others", "newest"),
    [
        pytest.param([RENEWAL, SECOND_RENEWAL], "cert_3", id="two renewals"),
        pytest.param([SECOND_RENEWAL, RENEWAL], "cert_3", id="in any order"),
        pytest.param([RENEWAL, cert("cert_3", created=MIDDLE + 44 * DAY)], None, id="the second does not follow"),
        pytest.param([RENEWAL, replace(SECOND_RENEWAL, created_at=None)], None, id="one can't be a renewal"),
        pytest.param([RENEWAL, replace(SECOND_RENEWAL, auto_renew=False)], None, id="one is someone else's"),
    ],
)
def test_if_vercel_renewed_several_times_each_follows_on_the_one_before(others: Any, newest: str | None) -> None:
    """The operator was down for months."""
    assert renewal_of(*others, now=MIDDLE + 60 * DAY, status=ready()) == newest


def test_a_second_certificate_after_the_old_one_is_gone_is_not_a_renewal() -> None:
    first, second = cert("cert_2", created=ISSUED_AT + DAY), cert("cert_3", created=ISSUED_AT + 2 * DAY)
    facts = known(status=ready(), now=LATER, listing=listed(first, second, begun=LATER), **GONE)
    assert vercels_renewal(facts) is None


def test_a_renewal_is_taken_when_the_old_one_is_gone() -> None:
    facts, decision = led_to(known(status=ready(DUE)), SUCCESSOR)
    assert decision.policy == "nothing_is_needed"
    status = facts.resource.status
    assert (status.id, status.origin, status.superseded_ids) == ("cert_2", "Issued", ("cert_1",))
    older = replace(SUCCESSOR, expires_at=None)
    assert led_to(known(status=ready(DUE)), older)[1].policy == "attempt_is_made", "any other is not taken so"


def test_a_renewal_that_a_get_does_not_find_is_not_taken() -> None:
    facts = seen(DUE, SUCCESSOR, status=ready(DUE), got={**gone("cert_2"), **got(DUE)})
    assert isinstance(decide(facts).action, Issue)


def test_a_renewal_that_cannot_be_read_is_waited_for_but_not_for_more_than_an_hour() -> None:
    facts = seen(DUE, SUCCESSOR, status=ready(DUE), got=got(DUE), failed=failing("get", refusal(500), of="cert_2"))
    assert isinstance(decide(facts).action, Wait)
    for_an_hour = failing("get", refusal(500), of="cert_2", since=NOW - HOUR)
    assert isinstance(decide(replace(facts, failed=for_an_hour)).action, Issue)


def test_while_gets_are_paused_a_renewal_is_waited_for_until_half_of_the_remaining_time_has_passed() -> None:
    facts = seen(DUE, SUCCESSOR, status=ready(DUE), got=got(DUE))
    half = half_time(facts)
    assert half is not None
    for moment, counts in ((half - SECOND, True), (half, False)):
        later = at(facts, moment, pauses=paused("get", moment + HOUR))
        assert not_here(later, "cert_2") is not counts


@pytest.mark.parametrize("listed_too", [True, False])
def test_a_renewal_that_cannot_be_read_is_not_said_to_be_gone(listed_too: bool) -> None:
    """Vercel has removed the old one."""
    blocked = failing("get", refusal(500), of="cert_2", since=LATER, until=LATER + MINUTE)
    listing = listed(*([SUCCESSOR] if listed_too else []), begun=LATER)
    decision = decide(known(status=ready(DUE), now=LATER, listing=listing, failed=blocked, **GONE))
    assert isinstance(decision.action, Wait if listed_too else Write)


@pytest.mark.parametrize("requested", [(), ("example.com",)], ids=["adopted", "with the wanted names"])
def test_an_adopted_certificate_with_more_names_stays_adopted_after_vercels_renewal(requested: Any) -> None:
    """It used to be forgotten: a smaller one was issued, and both larger ones were removed."""
    old, new = replace(DUE, cns=WITH_WWW), replace(SUCCESSOR, cns=WITH_WWW)
    facts = known(status=ready(old, origin="Adopted", requested_cns=requested))
    facts, decision = led_to(facts, old, new)
    status = facts.resource.status
    assert decision.policy == "nothing_is_needed"
    assert (status.id, status.origin, status.cns) == ("cert_2", "Adopted", ("example.com", "www.example.com"))


def test_names_that_vercel_added_stay_no_reason_to_issue_after_its_renewal() -> None:
    old, new = replace(DUE, cns=WITH_WWW), replace(SUCCESSOR, cns=WITH_WWW)
    facts, decision = led_to(known(status=ready(old, requested_cns=("example.com",))), old, new)
    assert decision.policy == "nothing_is_needed"
    assert facts.resource.status.requested_cns == ("example.com",)


def test_names_that_vercel_adds_with_its_renewal_are_no_reason_to_issue() -> None:
    renewed = replace(DUE, cns=WITH_WWW, expires_at=NOW + 85 * DAY)
    facts, decision = led_to(known(status=ready(DUE)), renewed)
    assert decision.policy == "nothing_is_needed"
    assert facts.resource.status.requested_cns == ("example.com",)


def test_the_users_own_certificate_with_the_same_names_is_not_vercels_renewal() -> None:
    """300 days, uploaded, autoRenew false: the next renewal used to remove it."""
    uploaded = cert("cert_u", created=NOW - DAY, lifetime=300 * DAY, auto_renew=False)
    facts, decision = led_to(known(status=ready(DUE, origin="Found"), deletion_policy="Retain"), DUE, uploaded)
    status = facts.resource.status
    assert decision.policy == "nothing_is_needed"
    assert (status.id, status.origin) == ("cert_u", "Found"), "used, since it is there; never removed"
    later = known(status=status, renew="1")
    attempt = issued_by(later, DUE, uploaded)
    assert attempt.known == ()


# --- other people's certificates --------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [set(), {"cert_9"}], ids=["nobody's", "another resource's"])
def test_that_someone_else_has_certificates_with_the_same_names_is_recorded(held: set[str]) -> None:
    facts = seen(cert(), cert("cert_9", created=NOW - 20 * DAY), held_elsewhere=held)
    decision = decide(facts)
    assert (decision.policy, decision.action, decision.note) == ("drift_is_detected", Write(), None)
    assert decision.status is not None
    assert _but_conditions(decision.status) == _but_conditions(facts.resource.status.changed(shared_names=True))
    assert decide(written(facts, decision)).policy == "nothing_is_needed"


@pytest.mark.parametrize(
    ("other", "more"),
    [
        pytest.param(cert("cert_9", ["b.com"]), {}, id="other names"),
        pytest.param(replace(EXPIRED, id="cert_9"), {}, id="expired"),
        pytest.param(cert("cert_9"), {"status": ready(superseded=replaced("cert_9", since=NOW))}, id="its own"),
        pytest.param(cert("cert_9"), {"removed": {"cert_9": True}}, id="just removed"),
        pytest.param(cert("cert_9"), {"status": ready(shared_names=True)}, id="recorded already"),
    ],
)
def test_otherwise_nothing_is_recorded(other: Certificate, more: dict[str, Any]) -> None:
    assert decide(seen(cert(), other, **more)).policy == "nothing_is_needed"


# --- changed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now_it_is", "field", "value"),
    [
        pytest.param(cert(cns=sorted(WITH_WWW)), "cns", ("example.com", "www.example.com"), id="more names"),
        pytest.param(cert(lifetime=60 * DAY), "expires_at", ISSUED_AT + 60 * DAY, id="an earlier expiry"),
        pytest.param(cert(auto_renew=False), "auto_renew", False, id="autoRenew"),
    ],
)
def test_what_has_changed_at_vercel_is_recorded(now_it_is: Certificate, field: str, value: Any) -> None:
    before = seen(now_it_is, status=ready(attempt=attempted(outcome="Issued")), got=got(now_it_is))
    decision = decide(before)
    assert (decision.policy, decision.action) == ("drift_is_detected", Write())
    assert note_of(decision) == ("Warning", "CertificateChanged", "List")
    assert decision.note is not None
    assert decision.note.text.startswith("Certificate cert_1 has changed at Vercel: it is now for example.com")
    assert decision.status is not None
    assert getattr(decision.status, field) == value
    assert_in_order(before, decision)
    assert decide(written(before, decision)).policy == "nothing_is_needed"


def test_a_list_that_leaves_out_auto_renew_changes_nothing() -> None:
    before = seen(cert(auto_renew=None), status=ready())
    assert decide(before).policy == "nothing_is_needed"
    moved = seen(cert(auto_renew=None, lifetime=91 * DAY), status=ready())
    decision = decide(moved)
    assert decision.status is not None
    assert (decision.status.expires_at, decision.status.auto_renew) == (ISSUED_AT + 91 * DAY, True)


def test_a_list_in_which_the_certificate_expires_earlier_is_checked_since_it_may_be_older() -> None:
    """Vercel had renewed the certificate after the list was made: it seemed to change back."""
    before = seen(cert(lifetime=60 * DAY), status=ready())
    decision = decide(before)
    assert (decision.policy, decision.action) == ("drift_is_detected", Get("cert_1", before.scope))
    assert decide(replace(before, got=got(cert()))).policy == "nothing_is_needed"


@pytest.mark.parametrize("began", [-SECOND, SECOND], ids=["before the GET", "after the GET"])
@pytest.mark.parametrize("renewed", ["the GET", "the list"])
def test_of_a_get_and_a_list_that_differ_the_newer_one_counts(began: timedelta, renewed: str) -> None:
    """Vercel renewed between the two. Each in turn used to undo what the other one had changed, again and again."""
    new = replace(DUE, expires_at=NOW + 85 * DAY)
    by_get, by_list = (new, DUE) if renewed == "the GET" else (DUE, new)
    facts = known(status=ready(DUE), got=got(by_get), listing=listed(by_list, begun=NOW + began))
    for _ in range(3):
        decision = decide(facts)
        if not isinstance(decision.action, Write):
            break
        facts = written(facts, decision)
    newest = by_get if began < timedelta() else by_list
    assert facts.resource.status.expires_at == newest.expires_at
    assert not isinstance(decision.action, Write)


def test_a_certificate_that_lost_a_name_is_issued_again() -> None:
    both = ["example.com", "b.com"]
    listing = seen(cert(), cns=both, status=ready(cert(cns=both)))
    assert decide(listing).action == Get("cert_1", TEAM), "a list is a hint"
    before = replace(listing, got=got(cert()))
    decision = decide(before)
    assert conditions_of(decision) == (("False", "NamesChanged"), ("True", "NamesChanged"))
    assert issued_by(before, cert()).reason == Reason.NAMES_CHANGED


@pytest.mark.parametrize("odd", [cert(lifetime=None), cert(cns=[])], ids=["without its expiry", "without its names"])
def test_what_vercel_leaves_out_once_is_kept(odd: Certificate) -> None:
    decision = decide(seen(odd))
    assert decision.policy == "nothing_is_needed"
    assert conditions_of(decision)[0] == READY


def test_an_expiry_that_was_unknown_is_recorded() -> None:
    before = seen(cert(), status=ready(cert(lifetime=None), ready=("False", "UnexpectedAnswer")))
    decision = decide(before)
    assert note_of(decision) == ("Warning", "CertificateChanged", "List")
    assert conditions_of(decision) == (READY, NOTHING_TO_DO)


def test_a_list_that_shows_everything_as_it_was_changes_nothing() -> None:
    facts = known(status=ready())
    facts = written(facts, decide(facts))
    decision = decide(replace(facts, listing=listed(replace(cert(), expires_at=ISSUED_AT + 90 * DAY + SECOND / 2))))
    assert (decision.policy, decision.note) == ("nothing_is_needed", None)
    assert decision.status is not None
    assert decision.status.dump() == facts.resource.status.dump()


def test_a_certificate_that_expires_after_the_calendars_end_does_not_change_in_every_list() -> None:
    for_ever = replace(cert(), expires_at=NOW.replace(year=9999))
    facts, decision = led_to(seen(for_ever), for_ever)
    assert decision.policy == "nothing_is_needed"
    assert decide(replace(facts, listing=listed(for_ever))).policy == "nothing_is_needed"


# --- a changed token --------------------------------------------------------------------------------------------------


def other_token(**more: Any) -> Known:
    """A certificate of a personal account, and a token that isn't the one with which it was last seen."""
    status = more.pop("status", ready(team=None, token_hash="t0"))
    return known(
        **{"status": status, "scope": replace(TEAM, team_id=None), "token_hash": "t1", "token_read": True, **more}
    )


def test_a_changed_token_belongs_to_the_same_account_if_its_list_has_the_certificate() -> None:
    facts = other_token()
    decision = decide(facts)
    assert decision.policy == "changed_token_is_checked"
    assert decision.action == List(facts.tick - 60.0, facts.scope), "one list for all"
    facts = replace(facts, listing=listed(cert()))
    decision = decide(facts)
    assert (decision.action, decision.note) == (Write(), None)
    assert decision.status is not None
    assert _but_conditions(decision.status) == _but_conditions(facts.resource.status.changed(token_hash="t1"))
    assert decide(written(facts, decision)).policy == "nothing_is_needed"


def test_the_same_token_in_another_secret_is_recorded_without_a_list() -> None:
    facts = other_token(status=ready(team=None, token_hash="t0-here"), token_hash="t0-there")
    decision = decide(facts)
    assert decision.action == Write()
    assert decision.status is not None
    assert _but_conditions(decision.status) == _but_conditions(facts.resource.status.changed(token_hash="t0-there"))


def test_with_another_accounts_token_nothing_is_issued() -> None:
    """It used to be reported as "removed at Vercel", and everything was issued again."""
    for more in ({}, {"status": ready(DUE, team=None, token_hash="t0")}, {"got": gone("cert_1")}):
        facts = other_token(listing=listed(cert("cert_9", ["b.com"])), **more)
        decision = decide(facts)
        assert decision.policy == "changed_token_is_checked"
        assert isinstance(decision.action, Wait)
        assert conditions_of(decision) == (READY, ("False", "ScopeChanged"))
        assert note_of(decision) == ("Warning", "ScopeChanged", "List")
        assert "Vercel does not list certificate cert_1 for example.com with the default token" in message(
            decision, "Issuing"
        )
        assert_in_order(facts, decision)
    assert decide(other_token(listing=listed())).action == Wait(NOW + HOUR)


def suspected(**more: Any) -> Known:
    facts = other_token(listing=listed(), renew="old")
    return other_token(**{"status": written(facts, decide(facts)).resource.status, "listing": listed(), **more})


def test_while_it_is_suspected_the_token_is_read_in_every_round() -> None:
    assert decide(suspected(token_read=False, token_hash=None)).action.__class__.__name__ == "ReadToken"
    again = decide(suspected())
    assert (again.policy, again.note) == ("changed_token_is_checked", None), "it is reported once"
    back = suspected(token_hash="t0", listing=None)
    assert decide(back).policy == "nothing_is_needed"
    assert conditions_of(decide(back)) == (READY, NOTHING_TO_DO)


def test_a_changed_spec_is_a_reason_to_read_the_token() -> None:
    status = ready(team=None, token_hash="t0")
    facts = other_token(status=status, token_read=False, token_hash=None, generation=2)
    assert decide(facts).policy == "changed_token_is_checked"
    assert decide(replace(facts, token_read=True)).policy == "nothing_is_needed"
    same = other_token(status=status, token_read=False, token_hash=None)
    assert decide(same).policy == "nothing_is_needed", "no Secret is read without a reason"


def test_the_user_confirms_another_account_by_a_new_request() -> None:
    assert decide(suspected(renew="old")).policy == "changed_token_is_checked", "it is older than the report"
    facts = suspected(renew="new")
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("changed_token_is_checked", Write())
    assert conditions_of(decision)[1] == ("True", "CertificateGone")
    status = written(facts, decision).resource.status
    assert (status.id, status.superseded_ids) == (None, ("cert_1",))
    assert issued_by(facts).token_hash == "t1"


def test_a_request_that_comes_with_another_accounts_token_confirms_nothing() -> None:
    facts = other_token(listing=listed(), renew="1")
    decision = decide(facts)
    assert isinstance(decision.action, Wait)
    after = written(facts, decision)
    assert after.resource.status.last_renew_request == "1"
    assert isinstance(decide(after).action, Wait)
    plain = other_token(listing=listed(), status=ready(team=None, token_hash="t0", last_renew_request="0"))
    assert written(plain, decide(plain)).resource.status.last_renew_request == "0"


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(other_token(status=ready(team="team_a", token_hash="t0"), scope=TEAM), id="a team decides itself"),
        pytest.param(other_token(status=ready(team=None)), id="nobody knows the old token"),
        pytest.param(other_token(token_hash="t0"), id="the same token"),
        pytest.param(other_token(token_hash=None), id="there is none"),
        pytest.param(other_token(scope=TEAM), id="the team has changed: another rule"),
        pytest.param(other_token(status=ready(team=None, token_hash="t0").without_certificate()), id="nothing to see"),
    ],
)
def test_otherwise_a_token_is_not_checked(facts: Known) -> None:
    assert decide(facts).policy != "changed_token_is_checked"


# --- a scope that has vanished ----------------------------------------------------------------------------------------

VANISHED = listed(cert("cert_9", ["other.com"]), vanished=True)


def vanished(**more: Any) -> Known:
    """A resource that has reported it."""
    facts = known(status=ready(), renew="old", listing=VANISHED)
    return known(**{"status": written(facts, decide(facts)).resource.status, **more})


@pytest.mark.parametrize("answer", [{}, gone("cert_1"), got(cert())], ids=["no GET", "a 404", "a GET finds it"])
def test_when_many_are_missing_at_once_nothing_is_issued_and_ready_is_unknown(answer: Any) -> None:
    """A wrong token is more likely."""
    before = known(status=ready(), listing=VANISHED, got=answer)
    decision = decide(before)
    assert decision.policy == "vanished_scope_is_reported"
    assert decision.action == Wait(NOW + HOUR)
    assert conditions_of(decision) == (("Unknown", "ScopeVanished"), ("False", "ScopeVanished"))
    assert "vercel-operator.io/renew" in message(decision, "Issuing")
    assert "Next attempt" not in message(decision, "Issuing")
    assert note_of(decision) == ("Warning", "ScopeVanished", "List")
    status = written(before, decision).resource.status
    assert (status.id, status.scope_vanished, status.next_attempt_time) == ("cert_1", True, NOW + HOUR)
    assert_in_order(before, decision)


def test_an_expired_certificate_is_not_issued_either() -> None:
    decision = decide(known(status=ready(EXPIRED), listing=VANISHED, got=gone("cert_1")))
    assert decision.policy == "vanished_scope_is_reported"
    assert conditions_of(decision)[0] == ("Unknown", "ScopeVanished")


def test_it_is_reported_once_and_listed_again_every_hour() -> None:
    facts = vanished(now=NOW + MINUTE)
    assert (decide(facts).policy, decide(facts).action) == ("vanished_scope_is_reported", Wait(NOW + HOUR))
    facts = vanished(now=NOW + HOUR)
    action = decide(facts).action
    assert action == List(facts.tick - 60.0, TEAM), "one list for all of them"
    again = decide(replace(facts, listing=replace(VANISHED, begun=facts.tick)))
    assert again.action == Wait(NOW + 2 * HOUR)
    assert again.note is None


def test_a_check_too_far_ahead_was_planned_while_a_clock_was_wrong() -> None:
    assert isinstance(decide(vanished(now=NOW - SECOND)).action, List)
    assert isinstance(decide(vanished(now=NOW)).action, Wait)


def test_when_they_are_back_all_is_well_again() -> None:
    facts = vanished(now=NOW + HOUR, listing=listed(cert(), begun=NOW + HOUR))
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("vanished_scope_is_reported", Write())
    assert conditions_of(decision) == (READY, NOTHING_TO_DO)
    assert decision.status is not None
    assert not decision.status.scope_vanished


def test_when_only_few_are_missing_any_longer_it_stays_reported() -> None:
    """The others may have been deleted meanwhile; the token may still be the wrong one."""
    few = decide(vanished(now=NOW + HOUR, listing=listed(begun=NOW + HOUR)))
    assert few.policy == "vanished_scope_is_reported"
    assert isinstance(few.action, Wait)
    assert few.status is not None
    assert few.status.scope_vanished


def test_the_user_confirms_that_they_are_gone_by_a_new_request() -> None:
    facts = vanished(renew="new")
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("vanished_scope_is_reported", Write())
    assert note_of(decision) == ("Warning", "CertificateGone", "List")
    assert conditions_of(decision) == (("False", "CertificateGone"), ("True", "CertificateGone"))
    attempt = issued_by(facts)
    assert (attempt.reason, attempt.requested) == (Reason.CERTIFICATE_GONE, True)


@pytest.mark.parametrize("suspend", [False, True])
def test_a_renewal_that_was_requested_earlier_confirms_nothing(suspend: bool) -> None:
    assert decide(vanished(renew="old", suspend=suspend)).policy == "vanished_scope_is_reported"
    assert vanished().resource.status.last_renew_request == "old"
    no_request = known(status=ready(last_renew_request="0"), listing=VANISHED)
    assert written(no_request, decide(no_request)).resource.status.last_renew_request == "0"


def test_a_certificate_that_is_there_is_not_concerned() -> None:
    assert decide(seen(listing=replace(VANISHED, certificates=Certificates([cert()])))).policy == "nothing_is_needed"


def test_a_resource_without_a_certificate_is_not_concerned() -> None:
    assert isinstance(decide(known(listing=VANISHED)).action, Issue)


def test_a_resource_in_a_vanished_scope_can_be_deleted() -> None:
    assert decide(vanished(deleting=True)).action == Remove("cert_1", TEAM)


@pytest.mark.parametrize("more", [{"suspend": True}, {"in_flight": True}])
def test_ready_stays_unknown_meanwhile(more: dict[str, Any]) -> None:
    decision = decide(vanished(now=NOW + MINUTE, **more))
    assert conditions_of(decision)[0] == ("Unknown", "ScopeVanished")
    assert at(vanished(), NOW).listing is None
    assert timedelta() < HOUR


# --- another resource has a certificate with the same names -----------------------------------------------------------


def test_that_another_resource_has_a_certificate_with_the_same_names_is_recorded_once() -> None:
    facts = known(status=ready(), ownership=Ownership(shared=True))
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("shared_names_are_recorded", Write())
    assert_in_order(facts, decision)
    assert decision.status is not None
    assert decision.status.shared_names
    assert conditions_of(decision) == (READY, NOTHING_TO_DO)
    assert decision.note is None
    assert decide(written(facts, decision)).policy == "nothing_is_needed"


def test_a_resource_without_a_certificate_shares_none() -> None:
    assert decide(known(ownership=Ownership(shared=True))).policy != "shared_names_are_recorded"
