"""What must be so before a certificate is issued: scope, owner, turns, clocks, room, and a way for the new one."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.building import (
    DAY,
    DUE,
    EXPIRED,
    HOUR,
    MINUTE,
    NOT_SENT,
    NOTHING_TO_DO,
    NOW,
    OTHER_TEAM,
    PERSONAL,
    READY,
    SECOND,
    TEAM,
    assert_in_order,
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
    written,
)
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.known import AddFinalizer, Get, Issue, Known, List, Ownership, Remove, Wait
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Issuance, names_hash
from vercel_certificate_operator.core.resource import Status

A = ["example.com"]
SLUG = Scope(team_slug="acme")

# --- the scope --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", [OTHER_TEAM, SLUG, PERSONAL], ids=["team", "slug", "personal account"])
def test_nothing_is_issued_in_another_scope_than_that_of_the_certificate(scope: Scope) -> None:
    facts = known(status=ready(DUE), scope=scope)
    decision = decide(facts)
    assert decision.policy == "scope_stays"
    assert isinstance(decision.action, Wait)
    assert conditions_of(decision) == (READY, ("False", "ScopeChanged"))
    assert note_of(decision) == ("Warning", "ScopeChanged", "Issue")
    assert f"was issued in team team_a, but the operator's default is now {scope}. " in message(decision, "Issuing")
    assert_in_order(facts, decision)


@pytest.mark.parametrize(
    ("recorded", "scope"), [("team_a", TEAM), ("acme", SLUG), (None, PERSONAL)], ids=["id", "slug", "personal account"]
)
def test_the_same_scope_holds_nothing_up(recorded: str | None, scope: Scope) -> None:
    assert issued_by(known(status=ready(DUE, team=recorded), scope=scope), DUE).team == recorded


def test_a_scope_that_changes_before_anything_was_issued_is_no_change() -> None:
    assert issued_by(known(status=status_of(None), scope=OTHER_TEAM)).team == "team_b"


def test_another_scope_is_reported_at_once_and_not_only_when_the_renewal_is_due() -> None:
    facts = known(status=ready(), scope=OTHER_TEAM)
    decision = decide(facts)
    assert conditions_of(decision) == (READY, ("False", "ScopeChanged"))
    assert note_of(decision) == ("Warning", "ScopeChanged", "Issue")
    again = decide(written(facts, decision))
    assert (again.policy, again.note) == ("scope_stays", None), "it is reported once"
    back = decide(replace(written(facts, decision), scope=TEAM))
    assert conditions_of(back) == (READY, NOTHING_TO_DO)


def test_expired_in_another_scope_is_reported_and_not_issued() -> None:
    facts = known(status=ready(EXPIRED), scope=OTHER_TEAM)
    decision = decide(facts)
    assert decision.action == Wait(None)
    assert conditions_of(decision) == (("False", "ScopeChanged"),) * 2
    assert message(decision, "Ready").count("Certificate cert_1 for example.com expired at 2025-12-31T12:00:00Z. ") == 1
    assert "Next attempt" not in message(decision, "Issuing"), "time alone doesn't end it"
    assert_in_order(facts, decision)


# --- one owner --------------------------------------------------------------------------------------------------------

DUPLICATE = Ownership("web/older")


def test_a_duplicate_never_requests_and_names_the_owner() -> None:
    facts = known(ownership=DUPLICATE)
    decision = decide(facts)
    assert decision.policy == "names_have_one_owner"
    assert decision.action == Wait(NOW + HOUR)
    assert conditions_of(decision) == (("False", "DuplicateOf"),) * 2
    assert "web/older owns the certificate for example.com in team team_a." in message(decision, "Ready")
    assert_in_order(facts, decision)


def test_a_duplicate_does_not_use_an_existing_certificate() -> None:
    facts = known(ownership=DUPLICATE, listing=listed(cert("cert_9")))
    assert decide(facts).policy == "names_have_one_owner"


def test_a_duplicate_takes_over_when_the_owner_goes() -> None:
    facts = known(ownership=DUPLICATE)
    reported = written(facts, decide(facts)).resource.status
    assert issued_by(known(status=reported)).reason == Reason.FIRST_ISSUE


def test_a_duplicate_with_a_certificate_stays_ready_until_that_expires() -> None:
    decision = decide(known(status=ready(DUE), ownership=DUPLICATE))
    assert decision.action == Wait(NOW + HOUR)
    assert conditions_of(decision) == (READY, ("False", "DuplicateOf"))


ELSEWHERE = Ownership("tenant/secret")


def test_an_owner_in_another_namespace_is_named_to_who_can_list_the_scope() -> None:
    facts = known(ownership=ELSEWHERE)
    assert decide(facts).action == List(facts.tick - 3600.0, TEAM)
    decision = decide(replace(facts, listing=listed()))
    assert decision.policy == "names_have_one_owner"
    assert message(decision, "Ready").startswith("tenant/secret owns the certificate for example.com in team team_a. ")


def test_an_owner_in_another_namespace_is_not_named_to_who_cannot_list_the_scope() -> None:
    decision = decide(known(ownership=ELSEWHERE, failed=failing("list", refusal(403), until=NOW + HOUR)))
    assert conditions_of(decision) == (("False", "DuplicateOf"),) * 2
    assert message(decision, "Ready") == (
        "A resource of another namespace owns the certificate for example.com in team team_a. Delete this resource, or "
        "change its spec.cns. This resource takes over when that one is gone."
    )


HOLDER = Ownership(holders={"cert_9": "web/other"})
"""A resource whose scope may be the same holds a certificate with the same names."""


def test_a_certificate_of_another_resource_that_is_in_this_scope_makes_that_one_the_owner() -> None:
    theirs: dict[str, Any] = {"ownership": HOLDER, "held_elsewhere": {"cert_9"}}
    by_list = known(**theirs, listing=listed(cert("cert_9")))
    by_get = known(**theirs, listing=listed(), got=got(cert("cert_9")))
    for facts in (by_list, by_get):
        decision = decide(facts)
        assert decision.policy == "names_have_one_owner"
        assert "web/other owns" in message(decision, "Issuing")


def test_a_certificate_of_another_resource_is_searched_for_in_this_scope() -> None:
    """The list may be older than it is."""
    facts = known(ownership=HOLDER, held_elsewhere={"cert_9"}, listing=listed())
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("holders_are_in_other_scopes", Get("cert_9", TEAM))
    assert isinstance(decide(replace(facts, got=gone("cert_9"))).action, Issue)


def test_of_many_only_the_first_few_are_read() -> None:
    holders = {f"cert_{n}": "web/other" for n in range(10, 20)}
    facts = known(ownership=Ownership(holders=holders), listing=listed(), got=gone(*list(holders)[:4]))
    assert decide(facts).action == Get("cert_14", TEAM)
    assert isinstance(decide(replace(facts, got=gone(*list(holders)[:5]))).action, Issue)


def test_another_resources_certificate_whose_get_always_fails_blocks_nothing_for_ever() -> None:
    def at(since: Any) -> Known:
        blocked = failing("get", refusal(403), of="cert_9", since=since)
        return known(ownership=HOLDER, listing=listed(), failed=blocked, token_read=True)

    assert isinstance(decide(at(NOW - HOUR + SECOND)).action, Wait)
    assert isinstance(decide(at(NOW - HOUR)).action, Issue)


STRANGER = Ownership(holders={"cert_9": "tenant/other"})


@pytest.mark.parametrize(
    ("more", "waits"),
    [
        ({"failed": failing("get", refusal(403), of="cert_9"), "listing": listed()}, False),
        ({"failed": failing("get", refusal(403), of="cert_9"), "listing": listed(), "ownership": HOLDER}, True),
        ({"failed": failing("get", refusal(500), of="cert_9"), "listing": listed()}, True),
        ({"failed": failing("get", NOT_SENT, of="cert_9", since=NOW - HOUR), "listing": listed()}, True),
        ({"failed": failing("get", refusal(500), of="cert_9", since=NOW - 179 * SECOND), "listing": listed()}, True),
        ({"failed": failing("get", refusal(500), of="cert_9", since=NOW - 180 * SECOND), "listing": listed()}, False),
    ],
    ids=["a 403", "in this namespace", "a 500", "Vercel can't be reached", "a 500 for minutes", "for three minutes"],
)
def test_a_certificate_of_another_namespace_that_cannot_be_read_is_in_another_account(
    more: dict[str, Any], waits: bool
) -> None:
    decision = decide(known(**{"ownership": STRANGER, "token_read": True, **more}))
    assert isinstance(decision.action, Wait if waits else Issue)


# --- turns ------------------------------------------------------------------------------------------------------------


def test_attempts_for_the_same_names_take_turns_if_the_scope_may_be_the_same() -> None:
    facts = known(ownership=Ownership(attempting="web/other"))
    decision = decide(facts)
    assert decision.policy == "attempts_for_the_same_names_take_turns"
    assert decision.action == Wait(NOW + 30 * SECOND)
    assert conditions_of(decision) == (("False", "FirstIssue"), ("True", "FirstIssue"))
    assert "Waiting for the attempt of another resource, which has the same names." in message(decision, "Issuing")
    assert_in_order(facts, decision)


def test_what_a_list_shows_during_the_attempt_of_another_resource_is_not_used() -> None:
    """It may be what came of that attempt."""
    facts = known(attempted_elsewhere={cert("cert_9").cns}, listing=listed(cert("cert_9")))
    assert decide(facts).policy in ("finalizer_is_there", "attempt_is_made")
    assert decide(replace(facts, attempted_elsewhere=frozenset())).action == Get("cert_9", facts.scope)


def test_whose_turn_it_is_is_asked_before_the_list_and_after_the_back_off() -> None:
    """The list must show what the other one got."""
    other = Ownership(attempting="web/other")
    assert decide(known(status=failed(Reason.DOMAIN_NOT_FOUND), ownership=other)).policy == "back_off_is_waited_for"
    assert decide(known(status=ready(DUE), ownership=other)).policy == "attempts_for_the_same_names_take_turns"


# --- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skew", "words"),
    [
        (DAY, "Vercel's clock is 1d ahead of the Kubernetes API server's, "),
        (-3 * DAY, "Vercel's clock is 3d behind the Kubernetes API server's, "),
    ],
)
@pytest.mark.parametrize("certificate", [DUE, EXPIRED], ids=["due", "expired"])
def test_while_the_clocks_disagree_nothing_is_issued_because_of_time(
    skew: timedelta, words: str, certificate: Any
) -> None:
    facts = known(status=ready(certificate), clock_skew=skew)
    asked = decide(facts)
    assert (asked.policy, type(asked.action)) == ("clocks_agree", List), "a call to Vercel says what its clock is now"
    facts = replace(facts, listing=listed(certificate))
    decision = decide(facts)
    assert decision.policy == "clocks_agree"
    assert decision.action == Wait(NOW + 2 * MINUTE)
    assert conditions_of(decision)[1] == ("False", "ClockSkew")
    assert words in message(decision, "Issuing")
    assert_in_order(facts, decision)


@pytest.mark.parametrize(
    "facts",
    [known(), known(status=ready(), renew="1"), known(status=ready(), cns=["b.com"])],
    ids=["first", "requested", "names"],
)
def test_what_is_not_needed_because_of_time_is_issued_all_the_same(facts: Known) -> None:
    server = NOW - DAY - timedelta(milliseconds=1)
    attempt = issued_by(
        replace(facts, clock_skew=DAY, server_time=server), *([cert()] if facts.resource.status.id else [])
    )
    assert (attempt.start, attempt.server_start) == (NOW, NOW - DAY - SECOND), "the record has both times"
    assert attempt.names == facts.resource.cns


# --- room for what is replaced ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "full"), [(19, False), (20, True), (25, True)])
def test_while_too_many_replaced_certificates_wait_for_their_removal_nothing_is_issued(number: int, full: bool) -> None:
    entries = replaced(*(f"cert_s{n}" for n in range(number)), since=NOW)
    facts = known(status=ready(DUE, superseded=entries), listing=listed(DUE), got=got(DUE))
    decision = decide(facts)
    assert isinstance(decision.action, Issue) is not full
    if full:
        assert decision.policy == "superseded_leave_room"
        assert conditions_of(decision) == (READY, ("False", "TooManySuperseded"))
        assert f"{number} replaced certificates could not be removed" in message(decision, "Issuing")
        assert decision.action == Wait(NOW + 10 * MINUTE), "the next removal"


# --- the old certificate makes way ------------------------------------------------------------------------------------


def not_renewed(certificate: Any = EXPIRED, *, outcome: str = "NotRenewed", **more: Any) -> Known:
    status = failed(
        Reason.NOT_RENEWED,
        certificate=certificate,
        until=NOW - SECOND,
        outcome=outcome,
        origin=more.pop("origin", "Issued"),
    )
    facts = {"listing": listed(certificate), "got": got(certificate)}
    return known(**{"status": status, **facts, **more})


def test_the_old_certificate_that_vercel_answers_with_is_removed_once_it_has_expired() -> None:
    facts = not_renewed()
    decision = decide(facts)
    assert decision.policy == "old_certificate_makes_way"
    assert decision.action == Remove("cert_1", TEAM)
    assert isinstance(decide(replace(facts, removed={"cert_1": True})).action, Issue)
    adopted = not_renewed(origin="Adopted")
    assert decide(adopted).action == Remove("cert_1", TEAM)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(not_renewed(DUE), id="it has not expired"),
        pytest.param(not_renewed(outcome="Refused"), id="Vercel did not answer with it"),
        pytest.param(not_renewed(origin="Found"), id="it may be someone else's"),
        pytest.param(not_renewed(origin=None), id="nobody knows where it came from"),
        pytest.param(not_renewed(not_removable={"cert_1"}), id="another resource holds it"),
        pytest.param(not_renewed(origin="Adopted", deletion_policy="Retain"), id="adopted, with Retain"),
        pytest.param(
            known(status=ready(EXPIRED, attempt=None), listing=listed(EXPIRED), got=got(EXPIRED)), id="no attempt"
        ),
    ],
)
def test_else_another_one_is_requested_without_a_removal(facts: Known) -> None:
    assert isinstance(decide(facts).action, Issue)


def test_a_removal_that_fails_is_reported_and_tried_again() -> None:
    decision = decide(replace(not_renewed(), failed=failing("remove", refusal(400))))
    assert decision.policy == "old_certificate_makes_way"
    assert decision.action == Wait(NOW + MINUTE)
    assert conditions_of(decision)[1] == ("False", "RequestRefused")


# --- the order --------------------------------------------------------------------------------------------------------

LIMITED = tuple(Issuance(time=NOW - HOUR, names_hash=names_hash(A)) for _ in range(5))
FULL = replaced(*(f"cert_s{n}" for n in range(20)), since=NOW)


def limited_and_full(**more: Any) -> Status:
    return failed(Reason.NOT_RENEWED, certificate=EXPIRED, until=NOW - SECOND, outcome="NotRenewed", **more)


@pytest.mark.parametrize(
    ("facts", "policy"),
    [
        pytest.param(
            known(status=failed(certificate=DUE), scope=OTHER_TEAM, ownership=DUPLICATE), "scope_stays", id="scope"
        ),
        pytest.param(known(status=failed(), ownership=DUPLICATE), "names_have_one_owner", id="owner"),
        pytest.param(
            known(status=failed(), listing=listed(cert("cert_9"))), "existing_certificate_is_used", id="reuse"
        ),
        pytest.param(
            known(status=failed(Reason.DOMAIN_NOT_FOUND, certificate=DUE), ownership=Ownership(attempting="web/other")),
            "back_off_is_waited_for",
            id="back-off",
        ),
        pytest.param(
            known(status=ready(DUE), ownership=Ownership(attempting="web/other"), clock_skew=DAY),
            "attempts_for_the_same_names_take_turns",
            id="turns",
        ),
        pytest.param(known(status=ready(DUE), clock_skew=DAY), "clocks_agree", id="clocks"),
        pytest.param(known(status=ready(DUE), ownership=HOLDER), "current_certificate_is_checked", id="GET"),
        pytest.param(known(status=ready(DUE), got=got(DUE), ownership=HOLDER), "list_is_fresh", id="list"),
        pytest.param(
            known(status=ready(EXPIRED, superseded=FULL), got=got(EXPIRED), listing=listed(EXPIRED), ownership=HOLDER),
            "holders_are_in_other_scopes",
            id="holders",
        ),
        pytest.param(
            known(
                status=limited_and_full(superseded=FULL, issuances=LIMITED), got=got(EXPIRED), listing=listed(EXPIRED)
            ),
            "superseded_leave_room",
            id="room",
        ),
        pytest.param(
            known(status=limited_and_full(issuances=LIMITED), got=got(EXPIRED), listing=listed(EXPIRED)),
            "issuances_are_limited",
            id="limit",
        ),
        pytest.param(
            known(status=limited_and_full(), got=got(EXPIRED), listing=listed(EXPIRED)),
            "old_certificate_makes_way",
            id="way",
        ),
        pytest.param(known(finalizer=False, listing=listed()), "finalizer_is_there", id="finalizer"),
        pytest.param(known(listing=listed()), "attempt_is_made", id="attempt"),
    ],
)
def test_gates_are_asked_in_their_order(facts: Known, policy: str) -> None:
    assert decide(facts).policy == policy


def test_a_resource_that_does_not_issue_gets_no_finalizer() -> None:
    for facts in (
        known(finalizer=False, ownership=DUPLICATE),
        known(finalizer=False, failed=failing("list")),
        known(finalizer=False, pauses=paused("list", NOW + HOUR)),
        known(finalizer=False, suspend=True),
    ):
        assert isinstance(led_to(facts)[1].action, Wait)
    assert decide(known(finalizer=False, listing=listed())).action == AddFinalizer()


def test_a_post_during_a_pause_waits_before_it_is_recorded() -> None:
    facts = known(listing=listed(), pauses=paused("issue", NOW + 20 * SECOND))
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("attempt_is_made", Wait(NOW + 21 * SECOND)), "renewals go first"
    renewal = known(status=ready(), renew="1", listing=listed(cert()), pauses=paused("issue", NOW + 20 * SECOND))
    assert decide(renewal).action == Wait(NOW + 20 * SECOND)
    assert decision.status is not None
    assert decision.status.attempt is None
    assert isinstance(decide(replace(facts, pauses=paused("remove", NOW + HOUR))).action, Issue)
    unsent = replace(known(listing=listed()), failed=failing("issue", NOT_SENT))
    assert decide(unsent).action == Wait(NOW + MINUTE)


def test_a_list_during_a_pause_waits_for_its_end() -> None:
    decision = decide(known(pauses=paused("list", NOW + 20 * SECOND)))
    assert (decision.policy, decision.action) == ("list_is_fresh", Wait(NOW + 20 * SECOND))
    assert conditions_of(decision)[1] == ("False", "RateLimited")
    assert isinstance(decide(known()).action, List)


def test_a_failed_attempt_of_long_ago_does_not_matter() -> None:
    assert issued_by(known(status=failed(until=NOW - DAY, attempt=attempted("attempt-0")))).previous_failures == 1
