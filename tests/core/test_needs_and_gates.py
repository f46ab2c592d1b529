"""Whether a certificate has to be issued, and what has to be so before one is: tables through the whole chain."""

from datetime import timedelta
from typing import Any

import pytest

from core.building import (
    DAY,
    HOUR,
    ISSUED_AT,
    MINUTE,
    NOW,
    OTHER_TEAM,
    SECOND,
    assert_in_order,
    attempted,
    cert,
    failed,
    known,
    listed,
    looked,
    message,
    ready,
    said,
    status_of,
    tick,
    written,
)
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.known import Action, Issue, Known, List, Look, Remove, Wait, Write
from vercel_certificate_operator.core.policies import decide
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.renewal import schedule

DUE = cert(created=NOW - 65 * DAY)
"""A certificate in the last third of its life."""
EXPIRED = cert(created=NOW - 91 * DAY)
RENEWED = cert(created=NOW - DAY)
"""The same id, with new times."""
WITH_WWW = cert(cns=["example.com", "www.example.com"])
READY, NOT_YET = ("True", "Issued"), ("False", "FirstIssue")


def renewal_of(facts: Known) -> Any:
    status = facts.resource.status
    assert status.expires_at is not None
    assert status.created_at is not None
    due = schedule(
        uid=facts.resource.key.uid,
        created_at=status.created_at,
        expires_at=status.expires_at,
        renew_before=facts.resource.spec.renew_before,
        issued_at=status.created_at,
    )
    return due.renewal_time


# --- needs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "reason", "is_ready"),
    [
        pytest.param(known(ours=False), Reason.FIRST_ISSUE, NOT_YET, id="a new resource"),
        pytest.param(known(status=ready(), renew="1"), Reason.RENEW_REQUESTED, READY, id="the renew annotation is new"),
        pytest.param(
            known(status=ready(last_renew_request="1"), renew="2"),
            Reason.RENEW_REQUESTED,
            READY,
            id="the renew annotation has another value",
        ),
        pytest.param(
            known(status=ready(last_renew_request="1"), renew=""),
            Reason.RENEW_REQUESTED,
            READY,
            id="the renew annotation is empty: a value like any other",
        ),
        pytest.param(
            known(status=ready(), cns=["example.com", "www.example.com"], generation=2),
            Reason.NAMES_CHANGED,
            ("False", "NamesChanged"),
            id="a name was added",
        ),
        pytest.param(
            known(status=ready(WITH_WWW), generation=2), Reason.NAMES_CHANGED, READY, id="a name was taken out"
        ),
        pytest.param(
            known(status=ready(DUE), looked=looked(DUE), listing=listed(DUE)),
            Reason.RENEWAL_DUE,
            READY,
            id="due, and not yet renewed",
        ),
        pytest.param(
            known(status=ready(DUE), looked=looked(None), listing=listed(DUE)),
            Reason.RENEWAL_DUE,
            READY,
            id="due, and the 404 is not confirmed by the list",
        ),
        pytest.param(
            known(status=ready(EXPIRED), looked=looked(EXPIRED), listing=listed(EXPIRED)),
            Reason.EXPIRED,
            ("False", "Expired"),
            id="expired, and not renewed",
        ),
        pytest.param(
            known(
                status=ready(cert(cns=["EXAMPLE.com"]), attempt="attempt-1"),
                attempt=attempted("attempt-1"),
                renew="again",
                cns=["Example.COM"],
            ),
            Reason.RENEW_REQUESTED,
            READY,
            id="the case of names never counts",
        ),
    ],
)
def test_a_need_is_met_by_an_attempt(facts: Known, reason: Reason, is_ready: tuple[str, str]) -> None:
    decision = decide(facts)
    assert isinstance(decision.action, Issue)
    assert decision.action.reason is reason
    assert decision.action.cns == facts.resource.cns
    assert decision.status is None, "nothing is written before the attempt is"
    meanwhile = decision.action.meanwhile
    issuing, readiness = meanwhile.condition("Issuing"), meanwhile.condition("Ready")
    assert issuing is not None
    assert readiness is not None
    assert (issuing.status, issuing.reason) == ("True", reason)
    assert (readiness.status, readiness.reason) == is_ready or (not meanwhile.ready and readiness.reason == reason)
    assert meanwhile.observed_generation == facts.resource.generation


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(known(status=ready()), id="names and time are right"),
        pytest.param(known(status=ready(), cns=["Example.COM"]), id="names differ in case only"),
        pytest.param(known(status=ready(last_renew_request="1"), renew="1"), id="the renew annotation was acted on"),
        pytest.param(known(status=ready(last_renew_request="1")), id="the renew annotation was taken away"),
        pytest.param(
            known(status=ready(WITH_WWW, attempt="attempt-1"), attempt=attempted("attempt-1")),
            id="Vercel added a name by itself",
        ),
        pytest.param(
            known(
                status=failed(certificate=WITH_WWW, attempt="attempt-2", until=NOW - HOUR),
                attempt=attempted("attempt-2"),
            ),
            id="Vercel added a name by itself, and a later attempt has failed",
        ),
        pytest.param(
            known(
                status=failed(certificate=WITH_WWW, attempt="attempt-2", until=NOW - HOUR),
                attempt=attempted("attempt-2"),
                renew_before="240h",
                generation=2,
            ),
            id="the same, and only renewBefore was changed",
        ),
        pytest.param(
            known(status=ready(), looked=looked(None), listing=listed(cert())), id="the list still has what GET has not"
        ),
        pytest.param(known(status=ready(), renew_before="240h", generation=2), id="renewBefore was changed"),
        pytest.param(known(status=ready(), deletion_policy="Retain", generation=2), id="deletionPolicy was changed"),
        pytest.param(known(status=ready(), scope=OTHER_TEAM), id="another scope, but nothing to issue"),
        pytest.param(known(status=ready(), owner="web/older"), id="a duplicate, but nothing to issue"),
        pytest.param(known(status=failed(certificate=cert())), id="a failure whose need has gone"),
    ],
)
def test_without_a_need_nothing_is_done_until_the_renewal(facts: Known) -> None:
    decision = decide(facts)
    assert decision.action == Wait(renewal_of(facts))
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (READY, ("False", "Issued"))
    assert decision.note is None
    status = decision.status
    assert status is not None
    assert (status.failed_attempts, status.last_failure_time, status.next_attempt_time) == (0, None, None)
    assert status.observed_generation == facts.resource.generation
    assert status.renewal_time == renewal_of(facts).replace(microsecond=0)
    assert_in_order(facts, decision)


def test_what_is_well_is_not_written_again() -> None:
    facts = known(status=ready())
    settled = written(facts, decide(facts))
    decision = decide(settled)
    assert decision.status is not None
    assert decision.status.dump() == settled.resource.status.dump()


def test_a_change_of_renew_before_moves_nothing_but_the_renewal_time() -> None:
    facts = known(status=ready())
    before = written(facts, decide(facts))
    after = written(
        before, decide(known(status=before.resource.status, renew_before="240h", generation=2))
    ).resource.status
    was = before.resource.status
    assert after.renewal_time is not None
    assert was.renewal_time is not None
    assert after.renewal_time > was.renewal_time
    generations = {"observed_generation", "conditions", "renewal_time"}
    assert after.model_dump(exclude=generations) == was.model_dump(exclude=generations)
    assert [(c.status, c.reason, c.observed_generation) for c in after.conditions] == [
        ("True", "Issued", 2),
        ("False", "Issued", 2),
    ]


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        pytest.param(known(status=ready(DUE)), Look("cert_1"), id="due: look before you act"),
        pytest.param(known(status=ready(EXPIRED)), Look("cert_1"), id="expired: look before you act"),
        pytest.param(
            known(status=ready(DUE), looked=looked(None, NOW - SECOND)),
            List(tick(NOW - SECOND)),
            id="a 404 is not believed",
        ),
        pytest.param(
            known(status=ready(DUE), looked=looked(None), listing=listed(DUE, begun=NOW - SECOND)),
            List(tick(NOW)),
            id="a 404 is compared with a listing from after it",
        ),
    ],
)
def test_vercel_is_looked_at_before_a_renewal(facts: Known, action: Action) -> None:
    decision = decide(facts)
    assert decision.action == action
    assert decision.status is None


@pytest.mark.parametrize("old", [DUE, EXPIRED], ids=["due", "expired"])
@pytest.mark.parametrize("seen", ["by GET", "in the list"])
def test_a_renewal_by_vercel_itself_changes_only_status(old: Any, seen: str) -> None:
    what = {"looked": looked(RENEWED)} if seen == "by GET" else {"looked": looked(None), "listing": listed(RENEWED)}
    facts = known(status=failed(certificate=old, until=NOW - MINUTE), **what)
    decision = decide(facts)
    assert decision.action == Write()
    status = decision.status
    assert status is not None
    assert (status.id, status.created_at, status.expires_at) == ("cert_1", RENEWED.created_at, RENEWED.expires_at)
    assert (status.superseded_ids, status.failed_attempts) == ((), 0)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (READY, ("False", "Issued"))
    assert decision.note is not None
    assert (decision.note.type, decision.note.reason) == ("Normal", "Renewed")
    assert_in_order(facts, decision)
    assert isinstance(decide(written(facts, decision)).action, Wait)


@pytest.mark.parametrize(
    ("facts", "first"),
    [
        pytest.param(known(renew="1"), Reason.FIRST_ISSUE, id="a first certificate, renewal requested"),
        pytest.param(
            known(status=ready(), renew="1", cns=["other.com"]), Reason.NAMES_CHANGED, id="other names, and requested"
        ),
        pytest.param(
            known(status=ready(EXPIRED), cns=["other.com"]), Reason.NAMES_CHANGED, id="other names, and expired"
        ),
        pytest.param(
            known(status=ready(EXPIRED), looked=looked(EXPIRED), listing=listed(EXPIRED)),
            Reason.EXPIRED,
            id="expired is due too",
        ),
    ],
)
def test_of_several_needs_the_first_gives_the_reason(facts: Known, first: Reason) -> None:
    decision = decide(facts)
    assert isinstance(decision.action, Issue)
    assert decision.action.reason is first


def test_a_certificate_that_is_not_due_yet_is_not_looked_at() -> None:
    facts = known(status=ready())
    due = renewal_of(facts)
    assert decide(known(status=ready(), now=due - SECOND)).action == Wait(due)
    assert decide(known(status=ready(), now=due)).action == Look("cert_1")


def test_ready_turns_false_by_time_alone() -> None:
    expires = EXPIRED.expires_at
    assert expires is not None
    before = decide(known(status=ready(EXPIRED), suspend=True, now=expires - SECOND))
    assert before.action == Wait(expires)
    assert said(before, "Ready") == READY
    after = decide(known(status=ready(EXPIRED), suspend=True, now=expires))
    assert said(after, "Ready") == ("False", "Suspended")
    assert "expired at 2025-12-31T12:00:00Z" in message(after, "Ready")


# --- gates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scope", [OTHER_TEAM, Scope(team_slug="team-b"), Scope()], ids=["team", "slug", "personal account"]
)
def test_nothing_is_issued_in_another_scope(scope: Scope) -> None:
    facts = known(status=ready(DUE), looked=looked(DUE), scope=scope)
    decision = decide(facts)
    assert decision.action == Wait(DUE.expires_at)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (READY, ("False", "ScopeChanged"))
    assert "issued in team team_a" in message(decision, "Issuing")
    assert str(scope) in message(decision, "Issuing")
    assert_in_order(facts, decision)


@pytest.mark.parametrize(
    ("recorded", "scope"),
    [
        pytest.param("team_a", Scope(team_id="team_a"), id="id"),
        pytest.param("acme", Scope(team_slug="acme"), id="slug"),
        pytest.param(None, Scope(), id="personal account"),
    ],
)
def test_a_scope_that_stays_holds_nothing_up(recorded: str | None, scope: Scope) -> None:
    decision = decide(known(status=ready(DUE, team=recorded), looked=looked(DUE), scope=scope))
    assert isinstance(decision.action, Issue)


def test_a_scope_that_changes_before_anything_was_issued_is_no_change() -> None:
    assert isinstance(decide(known(status=status_of(None), scope=OTHER_TEAM)).action, Issue)


def test_expired_in_another_scope_is_told_and_not_issued() -> None:
    facts = known(status=ready(EXPIRED), scope=OTHER_TEAM)
    decision = decide(facts)
    assert decision.action == Wait(None)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (("False", "ScopeChanged"),) * 2
    assert message(decision, "Ready").count("Certificate cert_1 expired at 2025-12-31T12:00:00Z. ") == 1
    assert_in_order(facts, decision)


def test_a_duplicate_never_asks_and_names_the_owner() -> None:
    facts = known(owner="web/older")
    decision = decide(facts)
    assert decision.action == Wait(None)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (("False", "DuplicateOf"),) * 2
    assert "web/older" in message(decision, "Ready")
    assert_in_order(facts, decision)


def test_the_next_in_line_takes_over_when_the_owner_goes() -> None:
    facts = known(owner="web/older")
    told = written(facts, decide(facts))
    assert isinstance(decide(known(status=told.resource.status)).action, Issue)


def test_a_duplicate_with_a_certificate_stays_ready_until_that_expires() -> None:
    decision = decide(known(status=ready(DUE), owner="web/older"))
    assert decision.action == Wait(DUE.expires_at)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (READY, ("False", "DuplicateOf"))


def test_the_back_off_is_waited_for() -> None:
    facts = known(status=failed(until=NOW + HOUR), attempt=attempted("attempt-0"))
    decision = decide(facts)
    assert decision.action == Wait(NOW + HOUR)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (("False", "PermissionDenied"),) * 2
    assert message(decision, "Issuing") == "As it was. Next attempt: 2026-01-01T13:00:00Z."
    assert_in_order(facts, decision)
    after = written(facts, decision)
    assert isinstance(decide(known(status=after.resource.status, now=NOW + HOUR)).action, Issue)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(known(status=failed(), generation=2), id="spec"),
        pytest.param(known(status=failed(), renew="now"), id="the renew annotation"),
        pytest.param(
            known(
                status=failed(certificate=cert(), last_renew_request="1"),
                attempt=attempted("attempt-0", renew="1"),
                renew="2",
            ),
            id="the renew annotation, once more",
        ),
        pytest.param(
            known(
                status=failed(certificate=cert()),
                attempt=attempted("attempt-9", renew="1"),
                renew="1",
                void_attempts={"attempt-9"},
            ),
            id="the renew annotation, and the attempt for it was never sent",
        ),
    ],
)
def test_a_change_by_the_user_ends_the_wait(facts: Known) -> None:
    assert isinstance(decide(facts).action, Issue)


def test_a_request_that_was_answered_by_a_failure_does_not_end_the_wait() -> None:
    facts = known(status=failed(certificate=cert()), attempt=attempted("attempt-0", renew="1"), renew="1")
    assert decide(facts).action == Wait(NOW + HOUR)


def test_ready_turns_false_by_time_alone_within_a_back_off() -> None:
    soon = cert(created=NOW - 90 * DAY + MINUTE)
    facts = known(status=failed(certificate=soon, until=NOW + HOUR), attempt=attempted("attempt-0"))
    decision = decide(facts)
    assert decision.action == Wait(NOW + MINUTE)
    assert said(decision, "Ready") == READY
    later = known(status=facts.resource.status, attempt=attempted("attempt-0"), now=NOW + MINUTE)
    decision = decide(later)
    assert decision.action == Wait(NOW + HOUR)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (("False", "PermissionDenied"),) * 2
    assert_in_order(later, decision)


OLD_ANSWER = failed(Reason.NOT_RENEWED, certificate=EXPIRED, until=NOW - SECOND)


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        pytest.param(
            known(status=OLD_ANSWER, looked=looked(EXPIRED), listing=listed(EXPIRED)),
            Remove("cert_1"),
            id="to make way",
        ),
        pytest.param(
            known(
                status=failed(
                    Reason.NOT_RENEWED,
                    certificate=cert(cns=["example.com", "www.example.com"], created=NOW - 91 * DAY),
                    until=NOW - SECOND,
                ),
                attempt=attempted("attempt-0"),
                looked=looked(cert(cns=["example.com", "www.example.com"], created=NOW - 91 * DAY)),
            ),
            Remove("cert_1"),
            id="with names that Vercel added",
        ),
    ],
)
def test_the_old_certificate_that_vercel_answers_with_is_removed_once_it_has_expired(
    facts: Known, action: Action
) -> None:
    assert decide(facts).action == action


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(
            known(status=OLD_ANSWER, looked=looked(EXPIRED), listing=listed(EXPIRED), removed={"cert_1"}),
            id="removed already",
        ),
        pytest.param(
            known(status=OLD_ANSWER, looked=looked(EXPIRED), listing=listed(EXPIRED), taken={"cert_1"}),
            id="another resource holds it",
        ),
        pytest.param(
            known(
                status=failed(certificate=EXPIRED, until=NOW - SECOND), looked=looked(EXPIRED), listing=listed(EXPIRED)
            ),
            id="Vercel did not answer with it",
        ),
        pytest.param(
            known(status=failed(Reason.NOT_RENEWED, certificate=DUE, until=NOW - SECOND), looked=looked(DUE)),
            id="it has not expired",
        ),
    ],
)
def test_else_it_is_asked_for_without_a_removal(facts: Known) -> None:
    assert isinstance(decide(facts).action, Issue)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        pytest.param(
            known(status=failed(certificate=DUE), scope=OTHER_TEAM, owner="web/older"),
            "ScopeChanged",
            id="scope before owner",
        ),
        pytest.param(known(status=failed(), owner="web/older"), "DuplicateOf", id="owner before back-off"),
    ],
)
def test_gates_are_asked_in_their_order(facts: Known, reason: str) -> None:
    assert said(decide(facts), "Issuing") == ("False", reason)


def test_the_back_off_is_waited_for_before_vercel_is_looked_at() -> None:
    assert isinstance(decide(known(status=failed(certificate=DUE))).action, Wait)


# --- what was replaced ------------------------------------------------------------------------------------------------

JUST_NOW = cert("cert_2", created=NOW)


@pytest.mark.parametrize(
    ("certificate", "rest"),
    [
        pytest.param(JUST_NOW, 10 * MINUTE, id="10 minutes"),
        pytest.param(cert("cert_2", created=NOW, lifetime=20 * MINUTE), 2 * MINUTE, id="a tenth of a short lifetime"),
    ],
)
def test_a_replaced_certificate_rests_for_a_while_before_it_is_removed(certificate: Any, rest: timedelta) -> None:
    status = ready(certificate, superseded_ids=("cert_0", "cert_1"))
    assert decide(known(status=status)).action == Wait(NOW + rest)
    assert decide(known(status=status, now=NOW + rest)).action == Remove("cert_0")
    assert decide(known(status=status, now=NOW + rest, removed={"cert_0"})).action == Remove("cert_1")


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"removed": {"cert_0", "cert_1"}}, id="all are removed"),
        pytest.param({"removed": {"cert_0"}, "taken": {"cert_1"}}, id="one stands in another status, and stays"),
    ],
)
def test_replaced_certificates_are_forgotten_once_nothing_is_left_to_remove(facts: dict[str, Any]) -> None:
    before = known(status=ready(JUST_NOW, superseded_ids=("cert_0", "cert_1")), now=NOW + HOUR, **facts)
    decision = decide(before)
    assert decision.action == Write()
    assert decision.status is not None
    assert decision.status.superseded_ids == ()
    assert_in_order(before, decision)
    assert isinstance(decide(written(before, decision)).action, Wait)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"cns": ["other.com"], "generation": 2}, id="the new one does not cover the names"),
        pytest.param({"suspend": True}, id="suspended"),
        pytest.param({"now": NOW + 100 * DAY}, id="the new one has expired"),
    ],
)
def test_nothing_is_removed_while_its_successor_is_no_good(facts: dict[str, Any]) -> None:
    status = ready(JUST_NOW, superseded_ids=("cert_1",))
    assert not isinstance(decide(known(**{"status": status, "now": NOW + HOUR, **facts})).action, Remove)


def test_what_was_replaced_is_removed_before_the_next_one_is_issued() -> None:
    status = ready(JUST_NOW, superseded_ids=("cert_1",))
    assert decide(known(status=status, now=NOW + HOUR, renew="1")).action == Remove("cert_1")


# --- what keeps still -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "is_ready"),
    [
        pytest.param(known(suspend=True), ("False", "Suspended"), id="nothing issued yet"),
        pytest.param(known(suspend=True, status=ready(), generation=2), READY, id="issued"),
        pytest.param(known(suspend=True, status=ready(), renew="1"), READY, id="a renewal was requested"),
        pytest.param(known(suspend=True, status=ready(DUE)), READY, id="due"),
        pytest.param(known(suspend=True, status=ready(EXPIRED)), ("False", "Suspended"), id="expired"),
        pytest.param(
            known(suspend=True, status=ready(JUST_NOW, superseded_ids=("cert_1",)), now=NOW + HOUR),
            READY,
            id="something to remove",
        ),
        pytest.param(
            known(suspend=True, status=ready(), cns=["other.com"]), ("False", "Suspended"), id="the names were changed"
        ),
        pytest.param(
            known(suspend=True, status=failed(certificate=cert(), until=NOW + DAY)), READY, id="within a back-off"
        ),
    ],
)
def test_while_suspended_nothing_is_changed_at_vercel(facts: Known, is_ready: tuple[str, str]) -> None:
    decision = decide(facts)
    assert isinstance(decision.action, Wait)
    assert (said(decision, "Ready"), said(decision, "Issuing")) == (is_ready, ("False", "Suspended"))
    assert_in_order(facts, decision)


def test_resumed_it_goes_on_where_it_was() -> None:
    facts = known(suspend=True, generation=2)
    told = written(facts, decide(facts)).resource.status
    assert isinstance(decide(known(status=told, generation=3)).action, Issue)


def test_times_of_old_certificates_without_creation_are_reckoned_from_the_resource() -> None:
    status = ready(cert(created=None), created_at=None, expires_at=ISSUED_AT + 90 * DAY)
    decision = decide(known(status=status, created_at=ISSUED_AT))
    assert isinstance(decision.action, Wait)
    assert decision.status is not None
    assert decision.status.renewal_time is not None
    assert ISSUED_AT + 50 * DAY < decision.status.renewal_time < ISSUED_AT + 60 * DAY


def test_at_rest_the_condition_says_until_when() -> None:
    decision = decide(known(status=ready()))
    assert decision.status is not None
    due = decision.status.renewal_time
    assert due is not None
    assert message(decision, "Issuing") == f"Nothing to do until the renewal at {due:%Y-%m-%dT%H:%M:%SZ}."
