"""Deletion: what is removed at Vercel, what stays, and when the resource may go. And what was replaced."""

from dataclasses import replace
from datetime import datetime, timedelta
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
    OTHER_TEAM,
    READY,
    SECOND,
    TEAM,
    TIMED_OUT,
    answered,
    assert_in_order,
    assert_readable,
    at,
    attempted,
    cert,
    changed,
    conditions_of,
    failed,
    failing,
    gone,
    got,
    known,
    led_to,
    listed,
    message,
    note_of,
    paused,
    ready,
    refusal,
    refused,
    replaced,
    status_of,
    tick,
    written,
)
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.facts import is_removable
from vercel_certificate_operator.core.known import (
    AddFinalizer,
    Get,
    Known,
    List,
    Note,
    ReadToken,
    Remove,
    RemoveFinalizer,
    Reply,
    Wait,
    Write,
)
from vercel_certificate_operator.core.record import MOST_SUPERSEDED, Superseded
from vercel_certificate_operator.core.resource import FINALIZER, Spec, Status
from vercel_certificate_operator.core.rules.deletion import late_answer, removal_failed_note, removed_late_note
from vercel_certificate_operator.core.rules.superseded import superseded_is_removed_in_time

BOTH = ready(NEW, superseded=replaced("cert_0", "cert_1"))
RETAIN: dict[str, Any] = {"deletion_policy": "Retain"}
SUSPEND: dict[str, Any] = {"suspend": True}


# --- whose a certificate is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "policy", "removable"),
    [
        ("Issued", "Delete", True),
        ("Issued", "Retain", True),
        ("Adopted", "Delete", True),
        ("Adopted", "Retain", False),
        ("Found", "Delete", False),
        ("Found", "Retain", False),
        ("Inherited", "Delete", False),
        ("", "Delete", False),
        (None, "Delete", False),
    ],
)
def test_only_the_origin_decides_whether_a_certificate_may_be_removed(
    origin: str | None, policy: str, removable: bool
) -> None:
    facts = known(deletion_policy=policy)
    assert is_removable(facts, "cert_1", origin) is removable
    assert not is_removable(replace(facts, not_removable={"cert_1"}), "cert_1", origin), "another resource uses it"
    deleting = decide(known(deletion_policy=policy, deleting=True, status=ready(origin=origin)))
    assert isinstance(deleting.action, Remove) is (removable and policy == "Delete")


# --- with policy Delete -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("removed", "next_one"),
    [((), "cert_2"), (("cert_2",), "cert_0"), (("cert_2", "cert_0"), "cert_1")],
)
def test_the_certificate_and_the_replaced_ones_are_removed(removed: tuple[str, ...], next_one: str) -> None:
    facts = known(deleting=True, status=BOTH, removed=dict.fromkeys(removed, True))
    decision = decide(facts)
    assert decision.policy == "certificates_are_removed_then_released"
    assert decision.action == Remove(next_one, TEAM)


def test_each_is_removed_in_the_scope_in_which_it_was_issued() -> None:
    status = ready(NEW, team="acme", superseded=replaced("cert_0", team=None))
    facts = known(deleting=True, status=status)
    assert decide(facts).action == Remove("cert_2", Scope(team_slug="acme"))
    assert decide(replace(facts, removed={"cert_2": True})).action == Remove("cert_0", Scope())


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        pytest.param(
            {"status": BOTH, "removed": {"cert_2": True, "cert_0": True, "cert_1": True}},
            "Removed at Vercel: cert_2, cert_0, cert_1.",
            id="all are removed",
        ),
        pytest.param(
            {"status": BOTH, "removed": {"cert_2": True, "cert_0": False, "cert_1": False}},
            "Removed at Vercel: cert_2. Not found with the default token: cert_0, cert_1.",
            id="some are not there",
        ),
        pytest.param(
            {"status": BOTH, "removed": {"cert_2": True, "cert_0": True}, "not_removable": {"cert_1"}},
            "Removed at Vercel: cert_2, cert_0. Left at Vercel: cert_1, since the operator did not issue it or another "
            "resource uses it.",
            id="one is in another status",
        ),
        pytest.param(
            {"status": ready(origin="Found")},
            "Left at Vercel: cert_1, since the operator did not issue it or another resource uses it.",
            id="it may be someone else's",
        ),
        pytest.param(
            {"status": status_of(None)}, "There was no certificate to remove at Vercel.", id="nothing was ever issued"
        ),
    ],
)
def test_then_the_resource_is_released_with_what_became_of_its_certificates(facts: dict[str, Any], text: str) -> None:
    decision = decide(known(deleting=True, **facts))
    assert decision.action == RemoveFinalizer()
    assert note_of(decision) == ("Normal", "Deleted", "Delete")
    assert decision.note is not None
    assert decision.note.text == text


HALF = cert(created=NOW - 45 * DAY)
"""Half of its lifetime is over: Vercel may have renewed it since."""
RENEWAL = cert("cert_9", created=NOW - MINUTE)
REMOVED = {"cert_1": True}


@pytest.mark.parametrize(
    ("facts", "listed_first"),
    [
        ({"status": ready(HALF)}, True),
        ({"status": ready(HALF), "listing": listed(begun=NOW - MINUTE)}, True),
        ({"status": ready(HALF), "listing": listed()}, False),
        ({"status": ready(HALF), "failed": failing("list", refusal(500))}, False),
        ({"status": ready(HALF), "pauses": paused("list", NOW + HOUR)}, False),
        ({"status": ready(cert(created=NOW - 45 * DAY + SECOND))}, False),
        ({"status": ready(replace(HALF, auto_renew=False))}, False),
        ({"status": ready(replace(HALF, auto_renew=None))}, False),
        ({"status": ready(HALF, created_at=None)}, False),
        ({"status": ready(HALF, expires_at=None)}, False),
        ({"status": ready(HALF), "scope": Scope(team_id="team_b")}, False),
        ({"status": ready(HALF, team=None, token_hash="h"), "scope": Scope(), "token_hash": "h"}, True),
        ({"status": ready(HALF, team=None, token_hash="h"), "scope": Scope(), "token_hash": "other"}, False),
        ({"status": ready(HALF, token_hash="h"), "token_hash": "other"}, True),
    ],
    ids=[
        "half of its lifetime is over",
        "the list is old",
        "the list is fresh",
        "the list fails",
        "lists are paused",
        "a second before that",
        "it is not renewed",
        "it may not be renewed",
        "created at an unknown time",
        "expires at an unknown time",
        "another team",
        "the same account",
        "another account",
        "another token for the same team",
    ],
)
def test_after_the_removal_vercels_renewal_is_looked_for(facts: dict[str, Any], listed_first: bool) -> None:
    decision = decide(known(deleting=True, removed=REMOVED, token_read=True, **facts))
    assert isinstance(decision.action, List if listed_first else RemoveFinalizer)


def test_in_a_personal_account_the_token_says_first_whose_list_it_is() -> None:
    facts = known(deleting=True, removed=REMOVED, status=ready(HALF, team=None, token_hash="h"), scope=Scope())
    assert decide(facts).action == ReadToken()


@pytest.mark.parametrize(
    ("facts", "left"),
    [
        ({"listing": listed(RENEWAL)}, True),
        ({"listing": listed()}, False),
        ({"listing": listed(RENEWAL), "held_elsewhere": {"cert_9"}}, False),
        ({"listing": listed(RENEWAL), "status": ready(DUE, shared_names=True)}, True),
        ({"listing": listed(cert("cert_9", created=NOW - 20 * DAY))}, True),
        ({"listing": listed(cert("cert_9", created=NOW - 20 * DAY - SECOND))}, False),
        ({"listing": listed(cert("cert_9", created=None))}, False),
        ({"listing": listed(RENEWAL), "scope": Scope(team_id="team_b")}, False),
    ],
    ids=[
        "there is one",
        "there is none",
        "another resource uses it",
        "others have such names",
        "of half of its lifetime",
        "older",
        "of unknown age",
        "the list is of another team",
    ],
)
def test_a_renewal_by_vercel_that_no_status_names_stays_and_is_named(facts: dict[str, Any], left: bool) -> None:
    decision = decide(known(**{"deleting": True, "status": ready(DUE), "removed": REMOVED, **facts}))
    assert decision.action == RemoveFinalizer()
    assert decision.note is not None
    said = (
        " Left at Vercel: cert_9, which has the same names and may be a renewal by Vercel. If no other resource uses "
        "it, remove it at Vercel."
    )
    assert decision.note.type == ("Warning" if left else "Normal")
    assert decision.note.text == f"Removed at Vercel: cert_1.{said if left else ''}"


def test_retain_in_the_middle_of_a_deletion_names_only_what_is_left() -> None:
    decision = decide(known(deleting=True, status=BOTH, removed={"cert_2": True, "cert_0": False}, **RETAIN))
    assert decision.note is not None
    assert decision.note.text == "Left at Vercel: cert_1. Reason: spec.deletionPolicy is Retain."


@pytest.mark.parametrize("why", [SUSPEND, RETAIN], ids=["suspended", "Retain"])
def test_a_release_names_what_was_being_requested_and_no_newer_names(why: dict[str, Any]) -> None:
    attempt = attempted(cns=["old.example.com"])
    decision = decide(known(deleting=True, attempt=attempt, **why))
    assert decision.note is not None
    assert "A certificate for old.example.com was being requested" in decision.note.text


@pytest.mark.parametrize(
    ("facts", "checked"),
    [({"listing": listed()}, True), ({"failed": failing("list", refusal(500))}, False)],
    ids=["a list has none", "the list fails"],
)
def test_a_deletion_says_if_it_could_not_look_for_a_renewal(facts: dict[str, Any], checked: bool) -> None:
    decision = decide(known(deleting=True, status=ready(DUE), removed=REMOVED, **facts))
    assert decision.note is not None
    assert ("the operator could not list the certificates to check that" in decision.note.text) is not checked


def test_two_holders_that_are_deleted_together_do_not_leave_it_to_each_other() -> None:
    """``held_elsewhere`` has it, ``not_removable`` hasn't: the other one would remove it too."""
    facts = known(deleting=True, status=ready(), held_elsewhere={"cert_1"})
    assert decide(facts).action == Remove("cert_1", TEAM)


@pytest.mark.parametrize(
    "facts",
    [
        {"renew": "1"},
        {"adopt": "cert_9", "may_adopt": False},
        {"cns": ["other.com"]},
        {"status": failed(certificate=cert())},
        {"schema_outdated": True},
        {"clock_skew": DAY},
        {"status": ready(scope_vanished=True)},
        {"scope": Scope(team_id="team_z")},
    ],
    ids=["renew", "adopt", "names", "a back-off", "schema", "clocks", "vanished", "scope"],
)
def test_nothing_else_matters_during_a_deletion(facts: dict[str, Any]) -> None:
    assert decide(known(**{"deleting": True, "status": ready(), **facts})).action == Remove("cert_1", TEAM)


def test_a_removal_that_fails_does_not_hold_up_the_others() -> None:
    facts = known(deleting=True, status=BOTH, failed=failing("remove", of="cert_2"))
    assert decide(facts).action == Remove("cert_0", TEAM)
    rest = replace(facts, removed={"cert_0": True, "cert_1": True})
    decision = decide(rest)
    assert decision.action == Wait(NOW + MINUTE)
    assert note_of(decision) == ("Warning", "DeletionFailed", "Remove")
    assert message(decision, "Issuing").startswith("Can't remove certificate cert_2 at Vercel: connection refused.")
    assert (
        "To delete the resource without waiting, set spec.deletionPolicy to Retain; its certificates then stay at"
        in message(decision, "Issuing")
    )


def test_ready_says_why_a_deletion_hangs() -> None:
    decision = decide(known(deleting=True, status=ready(), failed=failing("remove", refusal(400))))
    assert conditions_of(decision) == (READY, ("False", "RequestRefused"))
    assert message(decision, "Ready").startswith("The resource is being deleted. Can't remove certificate cert_1")
    assert "Change spec.cns" not in message(decision, "Ready")


# --- with Retain, or suspended ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "why"),
    [(RETAIN, "spec.deletionPolicy is Retain"), (SUSPEND, "spec.suspend is true")],
    ids=["Retain", "suspended"],
)
@pytest.mark.parametrize(
    ("facts", "what"),
    [
        pytest.param({"status": BOTH}, "Left at Vercel: cert_2, cert_0, cert_1.", id="with certificates"),
        pytest.param({"status": status_of(None)}, "There is no certificate at Vercel.", id="without"),
        pytest.param({"status": ready(), **answered(NEW)}, "Left at Vercel: cert_1, cert_2.", id="one was just issued"),
        pytest.param({"status": ready(NEW), **answered(NEW)}, "Left at Vercel: cert_2.", id="the current one again"),
        pytest.param(
            {"attempt": attempted()},
            "A certificate for example.com was being requested: check Vercel for it.",
            id="during an attempt",
        ),
        pytest.param(
            {"attempt": attempted(), "void_attempts": {"attempt-1"}},
            "There is no certificate at Vercel.",
            id="an attempt that was never sent",
        ),
        pytest.param(
            {"status": ready(), "failed": failing("remove"), "in_flight": True}, "Left at Vercel: cert_1.", id="at once"
        ),
    ],
)
def test_retained_or_suspended_it_is_released_at_once_and_what_stays_is_named(
    how: dict[str, Any], why: str, facts: dict[str, Any], what: str
) -> None:
    decision = decide(known(deleting=True, **how, **facts))
    assert (decision.policy, decision.action) == ("retained_is_released", RemoveFinalizer())
    assert note_of(decision) == ("Normal", "Retained", "Delete")
    assert decision.note is not None
    assert decision.note.text == f"{what} Reason: {why}."
    assert_readable(decision.note.text)


def test_a_resource_that_is_not_being_deleted_keeps_its_finalizer() -> None:
    for how in (RETAIN, SUSPEND):
        assert isinstance(decide(known(status=ready(), **how)).action, Wait)


# --- without the finalizer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, RETAIN, SUSPEND], ids=["Delete", "Retain", "suspended"])
def test_without_our_finalizer_a_deletion_is_left_alone(how: dict[str, Any]) -> None:
    """Someone else's finalizer holds the object."""
    decision = decide(known(deleting=True, finalizer=False, status=ready(), **how))
    assert decision.policy == "deletion_without_finalizer_is_left_alone"
    assert (decision.action, decision.status, decision.note) == (Wait(None), None, None)


def test_the_answer_to_a_post_for_a_resource_without_our_finalizer_is_removed() -> None:
    facts = known(deleting=True, finalizer=False, **answered(NEW))
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("deletion_without_finalizer_is_left_alone", Remove("cert_2", TEAM))
    decision = decide(replace(facts, removed={"cert_2": True}))
    assert (decision.action, decision.status) == (Write(), None)
    assert note_of(decision) == ("Normal", "Deleted", "Delete")
    kept = decide(known(deleting=True, finalizer=False, **RETAIN, **answered(NEW)))
    assert (kept.action, note_of(kept)) == (Write(), ("Warning", "OrphanedCertificate", "Delete"))


@pytest.mark.parametrize(
    "facts",
    [
        {"status": ready()},
        {"status": status_of(superseded=replaced("cert_0"))},
        {"attempt": attempted()},
        {"status": ready(), "suspend": True},
    ],
    ids=["a certificate", "a replaced one", "an open attempt", "suspended"],
)
def test_a_resource_that_holds_something_gets_its_finalizer_back(facts: dict[str, Any]) -> None:
    """Or its deletion would leave a certificate at Vercel."""
    decision = decide(known(finalizer=False, **facts))
    assert (decision.policy, decision.action) == ("finalizer_is_restored", AddFinalizer())
    assert decide(known(finalizer=True, **facts)).policy != "finalizer_is_restored"


@pytest.mark.parametrize("facts", [{}, {"status": failed()}, {"suspend": True}], ids=["new", "failed", "suspended"])
def test_without_need_no_finalizer_is_added(facts: dict[str, Any]) -> None:
    assert decide(known(finalizer=False, **facts)).action != AddFinalizer()


# --- during an attempt ------------------------------------------------------------------------------------------------


def test_an_answer_is_recorded_then_removed() -> None:
    facts = known(deleting=True, **answered(NEW))
    decision = decide(facts)
    assert decision.action == Write(closes=True)
    assert decide(written(facts, decision)).action == Remove("cert_2", TEAM)


def test_after_a_refusal_the_resource_is_released() -> None:
    facts = known(deleting=True, **refused(refusal(403)))
    assert led_to(facts)[1].action == RemoveFinalizer()


@pytest.mark.parametrize(
    ("found", "text"),
    [([NEW], "Removed at Vercel: cert_2."), ([], "There was no certificate to remove at Vercel.")],
    ids=["found", "lost"],
)
def test_an_open_attempt_is_resolved_first(found: list[Any], text: str) -> None:
    facts = known(deleting=True, attempt=attempted(), now=NOW + HOUR - MINUTE)
    assert isinstance(decide(facts).action, List)
    _, decision = led_to(facts, *found)
    assert decision.action == RemoveFinalizer()
    assert decision.note is not None
    assert decision.note.text == text


# --- without a token --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["remove", "list"])
def test_a_resource_whose_token_is_missing_for_an_hour_is_released_with_a_warning(call: Any) -> None:
    """When a namespace is deleted, its Secrets may go first."""
    facts = known(deleting=True, status=ready(), failed=failing(call, NO_TOKEN, since=NOW - HOUR + SECOND))
    assert decide(facts).policy == "certificates_are_removed_then_released"
    facts = replace(facts, failed=failing(call, NO_TOKEN, since=NOW - HOUR))
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("resource_without_token_is_released", RemoveFinalizer())
    assert note_of(decision) == ("Warning", "DeletionFailed", "Delete")
    assert decision.note is not None
    assert decision.note.text == (
        "CredentialsInvalid: Left at Vercel: cert_1. Reason: there is no token to remove it with (Secret "
        "web/vercel does not exist)."
    )


@pytest.mark.parametrize("failure", [refusal(401), refusal(403), NOT_SENT, TIMED_OUT], ids=["401", "403", "-", "?"])
def test_a_token_that_vercel_rejects_does_block_the_deletion(failure: Any) -> None:
    blocked = failing("remove", failure, since=NOW - 10 * DAY)
    decision = decide(known(deleting=True, status=ready(), failed=blocked, token_read=True))
    assert isinstance(decision.action, Wait)


def test_a_missing_token_releases_nothing_that_is_not_being_deleted() -> None:
    facts = known(status=ready(), failed=failing("list", NO_TOKEN, since=NOW - 10 * DAY))
    assert decide(facts).policy == "nothing_is_needed"


# --- the answer to a POST whose resource is gone ----------------------------------------------------------------------

REPLY = Reply(attempted(), tick(NOW), 1.0, NEW)


@pytest.mark.parametrize(
    ("spec", "reply", "elsewhere", "expected"),
    [
        pytest.param(Spec(), REPLY, (), Remove("cert_2", TEAM), id="removed"),
        pytest.param(Spec(deletion_policy="Retain"), REPLY, (), "Certificate cert_2 is left at Vercel.", id="Retain"),
        pytest.param(Spec(suspend=True), REPLY, (), "Certificate cert_2 is left at Vercel.", id="suspended"),
        pytest.param(Spec(), REPLY, {"cert_2"}, None, id="in another status"),
        pytest.param(
            Spec(),
            replace(REPLY, attempt=attempted(known=["cert_2"])),
            (),
            "Certificate cert_2 is left at Vercel.",
            id="it existed before",
        ),
        pytest.param(
            Spec(),
            replace(REPLY, certificate=None, failure=TIMED_OUT),
            (),
            "It is not known whether Vercel issued one for example.com.",
            id="unknown",
        ),
        pytest.param(Spec(), replace(REPLY, certificate=None, failure=refusal(403)), (), None, id="refused"),
        pytest.param(Spec(), replace(REPLY, certificate=None, failure=NOT_SENT), (), None, id="not sent"),
        pytest.param(Spec(), replace(REPLY, certificate=None), (), None, id="nothing"),
        pytest.param(
            Spec(),
            replace(REPLY, certificate=replace(NEW, created_at=None)),
            (),
            "Certificate cert_2 is left at Vercel.",
            id="of unknown age",
        ),
    ],
)
def test_what_came_of_a_post_whose_resource_is_gone(spec: Spec, reply: Reply, elsewhere: Any, expected: Any) -> None:
    late = late_answer(spec, reply, elsewhere)
    if isinstance(expected, str):
        assert isinstance(late, Note)
        assert (late.type, late.reason, late.action) == ("Warning", "OrphanedCertificate", "Delete")
        assert late.text == f"The resource was deleted while a certificate was being issued for it. {expected}"
    else:
        assert late == expected


def test_a_late_removal_is_reported() -> None:
    done = removed_late_note("cert_2")
    assert (done.type, done.reason) == ("Normal", "Deleted")
    assert done.text == "Removed at Vercel: cert_2, which was issued after the resource was gone."
    not_yet = removal_failed_note("cert_2", "no network")
    assert not_yet.type == "Warning"
    assert not_yet.text.endswith("cert_2 could not be removed yet: no network. The operator tries again.")


# --- what was replaced ------------------------------------------------------------------------------------------------


def replacing(*, since: datetime = NOW, certificate: Any = NEW, origin: str | None = "Issued", **more: Any) -> Known:
    entries = replaced("cert_0", "cert_1", since=since, origin=origin)
    return known(**{"status": ready(certificate, superseded=entries), **more})


@pytest.mark.parametrize(
    ("certificate", "rest"),
    [
        pytest.param(NEW, 10 * MINUTE, id="10 minutes"),
        pytest.param(cert("cert_2", created=NOW, lifetime=20 * MINUTE), 2 * MINUTE, id="a tenth of a short lifetime"),
        pytest.param(cert("cert_2", created=NOW - 30 * DAY), 10 * MINUTE, id="an adopted one is old"),
    ],
)
def test_a_replaced_certificate_rests_before_it_is_removed(certificate: Any, rest: timedelta) -> None:
    """From when it was replaced, and not from its successor's creation: after an adoption that is long ago."""
    assert decide(replacing(certificate=certificate)).action == Wait(NOW + rest)
    facts = replacing(certificate=certificate, now=NOW + rest)
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("superseded_is_removed_in_time", Remove("cert_0", TEAM))
    assert decide(replace(facts, removed={"cert_0": True})).action == Remove("cert_1", TEAM)


def fails_since(moment: datetime) -> Any:
    return failing("get", TIMED_OUT, of="cert_2", since=moment, until=NOW + 2 * HOUR)


@pytest.mark.parametrize(
    ("seen", "action"),
    [
        pytest.param({"checked": ("cert_2", tick(NOW))}, Remove, id="a GET or its POST showed it"),
        pytest.param({"listing": listed(NEW)}, Remove, id="a list shows it"),
        pytest.param({"got": got(NEW, at=NOW + HOUR)}, Remove, id="a GET shows it"),
        pytest.param({"got": got(NEW, at=NOW), "listing": listed(begun=NOW + HOUR)}, Remove, id="only a list lacks it"),
        pytest.param({}, Get, id="not by this process"),
        pytest.param({"checked": ("cert_1", tick(NOW))}, Get, id="another one"),
        pytest.param(
            {"checked": ("cert_2", tick(NOW)), "listing": listed(begun=NOW + HOUR)}, Get, id="a list lacks it"
        ),
        pytest.param({"got": gone("cert_2", at=NOW + HOUR)}, List, id="a GET says that it is gone"),
        pytest.param(
            {"got": gone("cert_2", at=NOW), "listing": listed(NEW, begun=NOW + HOUR)}, Remove, id="a later list has it"
        ),
        pytest.param(
            {"got": gone("cert_2", at=NOW + HOUR), "checked": ("cert_2", tick(NOW))}, List, id="it was there before"
        ),
        pytest.param({"failed": fails_since(NOW + HOUR)}, Wait, id="its GET fails"),
        pytest.param({"failed": fails_since(NOW)}, Remove, id="its GET has failed for an hour"),
    ],
)
def test_what_was_replaced_is_removed_only_if_vercel_has_shown_its_successor(
    seen: dict[str, Any], action: type
) -> None:
    """The record may be older than what it says, or someone has removed the successor by hand."""
    facts = replacing(**{"now": NOW + HOUR, "checked": None, **seen})
    assert isinstance(decide(facts).action, action)


def test_when_its_successor_is_gone_it_becomes_current_again() -> None:
    old = cert("cert_0")
    facts = known(status=ready(NEW, superseded=replaced("cert_0")), now=NOW + HOUR, checked=None)
    facts, decision = led_to(facts, old)
    assert decision.policy == "nothing_is_needed"
    assert facts.resource.status.id == "cert_0"
    assert facts.removed == {}


def test_each_has_its_own_time() -> None:
    entries = (*replaced("cert_0", since=NOW - HOUR), *replaced("cert_1", since=NOW - MINUTE))
    facts = known(status=ready(NEW, superseded=entries))
    facts, decision = led_to(facts, cert("cert_0"), cert("cert_1"))
    assert facts.resource.status.superseded_ids == ("cert_1",)
    assert decision.action == Wait(NOW + 9 * MINUTE)


@pytest.mark.parametrize("there", [True, False], ids=["removed", "not found"])
def test_it_is_forgotten_when_it_is_gone(there: bool) -> None:
    facts = replacing(now=NOW + HOUR, removed={"cert_0": there, "cert_1": there})
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("superseded_is_removed_in_time", Write())
    assert (decision.note is None) == there, "what isn't found with this token may be in another account"
    assert_in_order(facts, decision)
    after = written(facts, decision)
    assert after.resource.status.superseded == ()
    assert decide(after).policy == "nothing_is_needed"


def test_what_is_not_found_is_named_alone_or_with_what_stays() -> None:
    decision = decide(replacing(now=NOW + HOUR, removed={"cert_0": True, "cert_1": False}))
    assert note_of(decision) == ("Normal", "Deleted", "Remove")
    assert decision.note is not None
    assert decision.note.text.strip() == "Not found with the default token: cert_1, which was replaced."
    kept = decide(replacing(now=NOW + HOUR, removed={"cert_1": False}, not_removable={"cert_0"}))
    assert note_of(kept) == ("Normal", "Retained", "Remove")
    assert kept.note is not None
    assert kept.note.text.startswith("Left at Vercel: cert_0, which was replaced.")
    assert kept.note.text.endswith(" Not found with the default token: cert_1, which was replaced.")


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(replacing(now=NOW + HOUR, origin="Found"), id="found"),
        pytest.param(replacing(now=NOW + HOUR, origin=None), id="of unknown origin"),
        pytest.param(replacing(now=NOW + HOUR, origin="Adopted", deletion_policy="Retain"), id="adopted, with Retain"),
        pytest.param(replacing(now=NOW + HOUR, not_removable={"cert_0", "cert_1"}), id="in another status"),
    ],
)
def test_what_is_not_the_operators_stays_and_is_named(facts: Known) -> None:
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("superseded_is_removed_in_time", Write())
    assert note_of(decision) == ("Normal", "Retained", "Remove")
    assert decision.note is not None
    assert decision.note.text.startswith("Left at Vercel: cert_0, cert_1, which was replaced.")
    assert written(facts, decision).resource.status.superseded == ()
    assert_in_order(facts, decision)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"cns": ["other.com"], "generation": 2}, id="its successor does not cover the names"),
        pytest.param({"suspend": True}, id="suspended"),
        pytest.param({"now": NOW + 100 * DAY}, id="its successor has expired"),
        pytest.param(
            {"status": ready(NEW, superseded=replaced("cert_0"), scope_vanished=True)}, id="its scope has vanished"
        ),
        pytest.param({"status": status_of(superseded=replaced("cert_0"))}, id="there is no successor"),
    ],
)
def test_nothing_is_removed_while_its_successor_cannot_be_used(facts: dict[str, Any]) -> None:
    assert decide(replacing(**{"now": NOW + HOUR, **facts})).policy != "superseded_is_removed_in_time"


def test_a_replaced_certificate_that_the_user_wants_back_is_not_removed() -> None:
    facts = replacing(now=NOW + HOUR, adopt="cert_0", may_adopt=True)
    assert decide(facts).action == Remove("cert_1", TEAM)
    acted_on = ready(NEW, superseded=replaced("cert_0"), last_adopt_request="cert_0")
    assert decide(replacing(status=acted_on, adopt="cert_0")).action == Remove("cert_0", TEAM)


def test_what_was_replaced_is_removed_before_anything_that_waits() -> None:
    for more in ({"renew": "1"}, {"adopt": "cert_9", "may_adopt": True}, {"clock_skew": DAY}):
        assert decide(replacing(now=NOW + HOUR, **more)).policy == "superseded_is_removed_in_time"


def test_a_removal_that_fails_is_reported_and_changes_nothing_else() -> None:
    blocked = failing("remove", refusal(400), of="cert_0", until=NOW + 65 * MINUTE)
    facts = replacing(now=NOW + HOUR, failed=blocked)
    assert decide(facts).action == Remove("cert_1", TEAM), "it does not hold up the others"
    assert decide(replace(facts, just_failed=("list", None))).note is None
    just_now = replace(facts, just_failed=("remove", "cert_0"))
    decision = decide(just_now)
    assert (decision.action, decision.status) == (Write(), None)
    assert note_of(decision) == ("Warning", "RemovalFailed", "Remove")
    assert decision.note is not None
    assert decision.note.text.startswith(
        "RequestRefused: Can't remove the replaced certificate cert_0 at Vercel with the default token: Vercel says no"
    )
    rest = replace(facts, removed={"cert_1": True})
    rest = written(rest, decide(rest))
    decision = decide(rest)
    assert (decision.policy, decision.action) == ("nothing_is_needed", Wait(NOW + 65 * MINUTE))
    assert conditions_of(decision) == (READY, NOTHING_TO_DO)
    assert decide(at(rest, NOW + 65 * MINUTE)).action == Remove("cert_0", TEAM)


def test_one_that_was_just_removed_is_not_removed_again_after_a_write() -> None:
    facts = replacing(now=NOW + HOUR, removed={"cert_0": True})
    after = replace(facts, removed={"cert_0": True, "cert_1": True})
    done = written(after, decide(after)).resource.status
    assert isinstance(done, Status)
    assert done.certificate_ids == ("cert_2",)
    assert isinstance(replaced("a")[0], Superseded)


# --- the record of what was replaced is full --------------------------------------------------------------------------

FULL_IDS = tuple(f"old_{number}" for number in range(MOST_SUPERSEDED))
FULL = tuple(
    entry
    for number in range(MOST_SUPERSEDED)
    for entry in replaced(f"old_{number}", since=NOW - HOUR - number * SECOND)
)


LAST, NEXT = FULL[-1].id, FULL[-2].id
"""The one that was replaced first, and the second one."""
SERVES = cert(LAST, created=NOW - DAY)


@pytest.mark.parametrize(
    ("facts", "removed"),
    [
        ({}, LAST),
        ({"adopt": LAST, "may_adopt": True}, NEXT),
        ({"failed": failing("remove", refusal(500), of=LAST)}, NEXT),
        ({"status": ready(cns=("other.example.com",), superseded=FULL[1:])}, None),
        ({"status": ready(cns=("other.example.com",), superseded=replaced(*FULL_IDS, since=NOW - MINUTE))}, None),
        ({"listing": None, "failed": failing("list", refusal(500))}, None),
        ({"listing": listed(SERVES)}, NEXT),
        ({"listing": listed(replace(SERVES, expires_at=NOW))}, LAST),
        ({"listing": listed(replace(SERVES, expires_at=None))}, LAST),
        ({"listing": listed(replace(SERVES, cns=frozenset({"other.example.com"})))}, LAST),
        ({"listing": listed(SERVES, cert(NEXT, created=NOW - DAY + SECOND))}, LAST),
        ({"listing": listed(SERVES, cert(NEXT, created=NOW - DAY - SECOND))}, NEXT),
        ({"listing": listed(SERVES, cert("cert_9", created=NOW - HOUR))}, NEXT),
    ],
    ids=[
        "the oldest",
        "the user wants the oldest back",
        "the oldest can't be removed",
        "there is room for one",
        "its time has not come",
        "the list fails",
        "the oldest serves a wanted name",
        "it has expired",
        "it expires at an unknown time",
        "it has other names",
        "a younger one serves it",
        "another one is older",
        "the younger one is someone else's",
    ],
)
def test_while_the_record_is_full_the_oldest_that_serves_no_wanted_name_makes_room(
    facts: dict[str, Any], removed: str | None
) -> None:
    full: dict[str, Any] = {"status": ready(cns=("other.example.com",), superseded=FULL), "listing": listed()}
    decision = superseded_is_removed_in_time(known(**full | facts))
    if removed is None:
        assert decision is None
    else:
        assert decision is not None
        assert decision.action == Remove(removed, TEAM)


def test_while_the_record_is_full_a_list_says_what_is_of_use() -> None:
    decision = superseded_is_removed_in_time(known(status=ready(cns=("other.example.com",), superseded=FULL)))
    assert decision is not None
    assert decision.action == List(tick(NOW - MINUTE), TEAM)


# --- what a younger one makes redundant -------------------------------------------------------------------------------

CURRENT = cert("cert_2", ["other.example.com"], created=NOW - HOUR)
"""For names that are no longer wanted: so it can't be used."""
OLD = cert("cert_0", created=NOW - 2 * DAY)
YOUNGER = cert("cert_1", created=NOW - DAY)


@pytest.mark.parametrize(
    ("listing", "removed", "redundant"),
    [
        (listed(OLD, YOUNGER), {}, True),
        (listed(OLD, cert("cert_1", ["example.com", "more.example.com"], created=NOW - DAY)), {}, True),
        (None, {}, False),
        (listed(YOUNGER), {}, False),
        (listed(OLD), {}, False),
        (listed(OLD, YOUNGER), {"cert_1": True}, False),
        (listed(OLD, cert("cert_1", created=NOW - 3 * DAY)), {}, False),
        (listed(OLD, cert("cert_1", ["more.example.com"], created=NOW - DAY)), {}, False),
        (listed(OLD, cert("cert_1", created=NOW - DAY, lifetime=DAY)), {}, False),
        (listed(OLD, cert("cert_1", created=NOW - DAY, lifetime=DAY + SECOND)), {}, True),
        (listed(OLD, cert("cert_1", created=NOW - DAY, lifetime=None)), {}, False),
        (listed(OLD, cert("cert_9", created=NOW - DAY)), {}, False),
    ],
    ids=[
        "a younger one",
        "a younger one with more names",
        "no list",
        "it is not in the list",
        "it is alone",
        "the younger one was removed",
        "an older one",
        "other names",
        "it has expired",
        "it is about to expire",
        "it expires at an unknown time",
        "it is not of this resource",
    ],
)
def test_while_the_certificate_can_not_be_used_only_what_is_redundant_is_removed(
    listing: Any, removed: dict[str, bool], redundant: bool
) -> None:
    status = ready(CURRENT, superseded=replaced("cert_0", "cert_1"))
    decision = superseded_is_removed_in_time(known(status=status, listing=listing, removed=removed))
    action = decision.action if decision is not None else None
    assert (action == Remove("cert_0", TEAM)) is redundant


def test_of_what_makes_room_only_the_oldest_is_forgotten() -> None:
    facts = known(status=ready(cns=("other.example.com",), superseded=FULL), listing=listed())
    oldest = FULL[-1].id
    decision = superseded_is_removed_in_time(replace(facts, removed={oldest: True}))
    assert decision is not None
    assert decision.status is not None
    assert [entry.id for entry in decision.status.superseded] == [entry.id for entry in FULL[:-1]]


# --- another tool's finalizer -----------------------------------------------------------------------------------------


# --- Vercel renews what was replaced ----------------------------------------------------------------------------------

AGED = cert("cert_0", ["old.com"], created=NOW - 50 * DAY)
RENEWAL = cert("cert_9", ["old.com"], created=NOW - MINUTE)
"""Vercel has renewed it, and no status names that."""


def entry_of(certificate: Certificate) -> tuple[Superseded, ...]:
    return ready(certificate).superseding(since=NOW - HOUR).superseded


AGED_ENTRY = entry_of(AGED)


def just_removed(*, of: tuple[Superseded, ...] = AGED_ENTRY, **more: Any) -> Known:
    return known(**{"status": ready(NEW, superseded=of), "removed": {"cert_0": True}, **more})


def test_after_the_removal_of_what_vercel_may_have_renewed_a_new_list_is_made() -> None:
    facts = just_removed()
    assert decide(facts).action == List(tick(NOW), TEAM)
    assert decide(replace(facts, listing=listed(NEW, begun=NOW - 2 * MINUTE, took=1.0))).action == List(tick(NOW), TEAM)
    decision = decide(replace(facts, listing=listed(NEW, RENEWAL)))
    assert decision.policy == "renewals_of_what_was_removed_are_reported"
    assert note_of(decision) == ("Warning", "OrphanedCertificate", "Remove")
    assert decision.note is not None
    assert "cert_9" in decision.note.text
    assert decision.status is not None
    assert decision.status.superseded == ()


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(just_removed(listing=listed(NEW)), id="no renewal"),
        pytest.param(just_removed(listing=listed(NEW, replace(RENEWAL, created_at=NOW - 6 * DAY))), id="before that"),
        pytest.param(
            just_removed(listing=listed(NEW, RENEWAL), held_elsewhere={"cert_9"}), id="another resource uses it"
        ),
        pytest.param(
            just_removed(cns=["old.com"], status=ready(cert("cert_2", ["old.com"]), superseded=AGED_ENTRY)),
            id="same names",
        ),
        pytest.param(just_removed(scope=OTHER_TEAM), id="another team"),
        pytest.param(just_removed(of=entry_of(cert("cert_0", ["old.com"]))), id="too young"),
        pytest.param(
            just_removed(of=ready(replace(AGED, auto_renew=False)).superseding(since=NOW - HOUR).superseded),
            id="no autoRenew",
        ),
    ],
)
def test_otherwise_what_was_replaced_is_forgotten_without_a_list(facts: Known) -> None:
    decision = decide(facts)
    assert decision.policy == "superseded_is_removed_in_time"
    assert decision.action == Write()
    assert decision.note is None


def test_if_the_list_fails_an_event_says_so() -> None:
    decision = decide(just_removed(failed=failing("list", refusal(500), until=NOW + HOUR)))
    assert decision.action == Write()
    assert note_of(decision) == ("Warning", "OrphanedCertificate", "Remove")
    assert decision.note is not None
    assert decision.note.text == (
        "Removed at Vercel: cert_0, which was replaced. Vercel may have renewed it under another id. "
        "The operator could not list the certificates to check that."
    )


def test_a_deletion_looks_for_renewals_of_what_was_replaced_too() -> None:
    removed_at = tick(NOW) - 1
    facts = just_removed(deleting=True, removed={"cert_0": True, "cert_2": True}, removed_at=removed_at)
    before = replace(listed(RENEWAL), begun=removed_at - 1)
    assert decide(facts).action == List(removed_at, TEAM)
    assert decide(replace(facts, listing=before)).action == List(removed_at, TEAM)
    decision = decide(replace(facts, listing=replace(before, begun=removed_at)))
    assert decision.action == RemoveFinalizer()
    assert note_of(decision) == ("Warning", "Deleted", "Delete")
    assert decision.note is not None
    assert "Left at Vercel: cert_9" in decision.note.text


@pytest.mark.parametrize("removed", [True, False], ids=["removed", "found by someone else"])
def test_while_another_finalizer_holds_a_resource_its_status_says_what_was_done(removed: bool) -> None:
    facts = known(deleting=True, status=ready(origin="Issued" if removed else "Found"))
    if removed:
        facts = replace(facts, removed={"cert_1": True})
    facts = replace(facts, resource=changed(facts.resource, finalizers=(FINALIZER, "example.com/other")))
    decision = decide(facts)
    if not removed:
        assert decision.action == RemoveFinalizer()
        return
    assert decision.action == Write()
    assert conditions_of(decision) == (("False", "Deleted"), ("False", "Deleted"))
    assert decision.status is not None
    assert decision.status.certificate_ids == ()


def test_what_makes_room_does_so_at_its_time() -> None:
    rest = timedelta(minutes=10)
    full = replaced(*FULL_IDS, since=NOW - rest)
    status = ready(cns=("other.example.com",), superseded=full)
    assert superseded_is_removed_in_time(known(status=status, listing=listed())) is not None
    late = ready(cns=("other.example.com",), superseded=replaced(*FULL_IDS, since=NOW - rest + SECOND))
    assert superseded_is_removed_in_time(known(status=late, listing=listed())) is None
