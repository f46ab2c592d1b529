"""Whether a certificate has to be issued, and what the attempt for it records."""

from dataclasses import replace
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
    NOT_SENT,
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
    status_of,
    tick,
    written,
)
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.known import Get, Issue, Known, List, Listing, Ownership, Wait, Write
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.renewal import schedule
from vercel_certificate_operator.core.resource import Status
from vercel_certificate_operator.core.rules.needs import need_of

WITH_WWW = cert(cns=["example.com", "www.example.com"])
RENEWED = cert(created=NOW - DAY)
"""The same id, with new times."""


def renewal_of(facts: Known) -> Any:
    status = facts.resource.status
    assert status.expires_at is not None
    due = schedule(
        uid=facts.resource.key.uid,
        created_at=status.created_at,
        expires_at=status.expires_at,
        renew_before=facts.resource.spec.renew_before,
    )
    return due.renewal_time


# --- needs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "at_vercel", "reason", "is_ready"),
    [
        pytest.param(known(finalizer=False), [], "FirstIssue", ("False", "FirstIssue"), id="a new resource"),
        pytest.param(
            known(status=status_of(attempt=attempted(outcome="Issued"))),
            [],
            "CertificateGone",
            ("False", "CertificateGone"),
            id="there was one",
        ),
        pytest.param(known(status=ready(), renew="1"), [cert()], "RenewRequested", READY, id="renew is new"),
        pytest.param(
            known(status=ready(last_renew_request="1"), renew="2"),
            [cert()],
            "RenewRequested",
            READY,
            id="renew changed",
        ),
        pytest.param(
            known(status=ready(last_renew_request="1"), renew=""),
            [cert()],
            "RenewRequested",
            READY,
            id="renew is empty",
        ),
        pytest.param(
            known(status=ready(), cns=["example.com", "www.example.com"], generation=2),
            [cert()],
            "NamesChanged",
            ("False", "NamesChanged"),
            id="a name was added",
        ),
        pytest.param(
            known(status=ready(WITH_WWW), generation=2), [WITH_WWW], "NamesChanged", READY, id="a name was removed"
        ),
        pytest.param(known(status=ready(DUE)), [DUE], "RenewalDue", READY, id="due, and not renewed by Vercel"),
        pytest.param(known(status=ready(EXPIRED)), [EXPIRED], "Expired", ("False", "Expired"), id="expired"),
        pytest.param(
            known(status=ready(cert(lifetime=None), ready=("False", "UnexpectedAnswer"))),
            [cert(lifetime=None)],
            "UnexpectedAnswer",
            ("False", "UnexpectedAnswer"),
            id="it is unknown when it expires",
        ),
    ],
)
def test_a_need_is_met_by_an_attempt(
    facts: Known, at_vercel: list[Certificate], reason: str, is_ready: tuple[str, str]
) -> None:
    facts, decision = led_to(facts, *at_vercel)
    assert isinstance(decision.action, Issue)
    assert decision.action.attempt.reason == reason
    assert conditions_of(decision) == (is_ready, ("True", reason))
    assert decision.status is not None
    assert decision.status.observed_generation == facts.resource.generation
    assert decision.note is None
    assert facts.resource.has_finalizer


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(known(status=ready()), id="names and time are right"),
        pytest.param(known(status=ready(), cns=["Example.COM"]), id="names differ in case only"),
        pytest.param(known(status=ready(last_renew_request="1"), renew="1"), id="renew was acted on"),
        pytest.param(known(status=ready(last_renew_request="1")), id="renew was removed"),
        pytest.param(known(status=ready(WITH_WWW, requested_cns=("example.com",))), id="Vercel added a name"),
        pytest.param(
            known(status=ready(WITH_WWW, requested_cns=("example.com",)), renew_before="240h", generation=2),
            id="Vercel added a name, and renewBefore was changed",
        ),
        pytest.param(known(status=ready(WITH_WWW, origin="Adopted")), id="an adopted one has more names"),
        pytest.param(known(status=ready(), renew_before="240h", generation=2), id="renewBefore was changed"),
        pytest.param(known(status=ready(), deletion_policy="Retain", generation=2), id="deletionPolicy was changed"),
        pytest.param(known(status=ready(), ownership=Ownership("web/older")), id="a duplicate, but nothing to issue"),
        pytest.param(known(status=failed(certificate=cert())), id="a failure whose need has gone"),
        pytest.param(known(status=ready(origin="Found")), id="a found one"),
    ],
)
def test_without_a_need_nothing_is_done_until_the_renewal(facts: Known) -> None:
    decision = decide(facts)
    assert decision.policy == "nothing_is_needed"
    assert decision.action == Wait(renewal_of(facts))
    assert conditions_of(decision) == (READY, NOTHING_TO_DO)
    assert decision.note is None
    status = decision.status
    assert status is not None
    assert (status.failed_attempts, status.last_failure_time, status.next_attempt_time) == (0, None, None)
    assert status.observed_generation == facts.resource.generation
    assert status.renewal_time == renewal_of(facts).replace(microsecond=0)
    assert_in_order(facts, decision)


@pytest.mark.parametrize(
    ("status", "cns"),
    [
        (ready(WITH_WWW, requested_cns=("example.com",)), ["www.example.com"]),
        (ready(WITH_WWW, origin="Adopted"), ["example.com", "b.com"]),
        (ready(WITH_WWW, origin="Found"), ["example.com"]),
        (ready(WITH_WWW, origin="Issued"), ["example.com"]),
        (ready(requested_cns=("example.com", "www.example.com")), ["example.com", "www.example.com"]),
    ],
    ids=["others were requested", "not all are covered", "found", "issued", "one that was requested is missing"],
)
def test_else_other_names_are_a_need(status: Status, cns: list[str]) -> None:
    need = need_of(known(status=status, cns=cns))
    assert need is not None
    assert (need.reason, need.by_time) == (Reason.NAMES_CHANGED, False)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (known(), "A certificate for example.com is needed."),
        (
            known(status=status_of(attempt=attempted(outcome="Issued"))),
            "A certificate for example.com is needed, because the previous one is gone.",
        ),
        (known(cns=["b.com"], status=ready()), "Certificate cert_1 is for example.com; spec.cns has b.com."),
        (known(status=ready(cert(cns=[]))), "Certificate cert_1 is for no names; spec.cns has example.com."),
        (
            known(status=ready(), renew="a\nb"),
            "The annotation vercel-operator.io/renew (a b) requests a renewal for example.com.",
        ),
        (
            known(status=ready(), renew=""),
            "The annotation vercel-operator.io/renew () requests a renewal for example.com.",
        ),
        (
            known(status=ready(), renew="a" * 100),
            f"The annotation vercel-operator.io/renew ({'a' * 100}) requests a renewal for example.com.",
        ),
        (
            known(status=ready(), renew="a" * 101),
            f"The annotation vercel-operator.io/renew ({'a' * 100}…) requests a renewal for example.com.",
        ),
        (known(status=ready(EXPIRED)), "Certificate cert_1 for example.com expired at 2025-12-31T12:00:00Z."),
        (known(status=ready(DUE)), "Certificate cert_1 for example.com is due for renewal."),
        (known(status=ready(cert(lifetime=None))), "Vercel does not say when certificate cert_1 expires."),
    ],
)
def test_a_need_says_why(facts: Known, text: str) -> None:
    need = need_of(facts)
    assert need is not None
    assert need.message == text


@pytest.mark.parametrize(
    ("facts", "first"),
    [
        pytest.param(known(renew="1"), "FirstIssue", id="a first certificate, and requested"),
        pytest.param(known(status=ready(), renew="1", cns=["b.com"]), "NamesChanged", id="other names, and requested"),
        pytest.param(known(status=ready(EXPIRED), cns=["b.com"]), "NamesChanged", id="other names, and expired"),
        pytest.param(known(status=ready(EXPIRED), renew="1"), "RenewRequested", id="requested, and expired"),
        pytest.param(known(status=ready(EXPIRED)), "Expired", id="expired is due too"),
    ],
)
def test_of_several_needs_the_first_counts(facts: Known, first: str) -> None:
    need = need_of(facts)
    assert need is not None
    assert need.reason == first


def test_a_certificate_is_due_at_its_renewal_time_and_expired_at_its_expiry() -> None:
    due = renewal_of(known(status=ready()))
    assert decide(known(status=ready(), now=due - SECOND)).action == Wait(due)
    assert decide(known(status=ready(), now=due)).action == Get("cert_1", TEAM)
    expires = ISSUED_AT + 90 * DAY
    before, after = need_of(known(status=ready(), now=expires - SECOND)), need_of(known(status=ready(), now=expires))
    assert before is not None
    assert after is not None
    assert (before.reason, before.by_time, after.reason, after.by_time) == ("RenewalDue", True, "Expired", True)


def test_what_is_well_is_not_written_again() -> None:
    facts = known(status=ready())
    settled = written(facts, decide(facts))
    decision = decide(settled)
    assert decision.status is not None
    assert decision.status.dump() == settled.resource.status.dump()


def test_a_change_of_renew_before_moves_only_the_renewal_time() -> None:
    facts = known(status=ready())
    before = written(facts, decide(facts)).resource.status
    decided = decide(known(status=before, renew_before="240h", generation=2))
    assert decided.status is not None
    after = decided.status
    assert before.renewal_time is not None
    assert after.renewal_time is not None
    assert after.renewal_time > before.renewal_time
    moved = {"observed_generation", "conditions", "renewal_time"}
    assert after.model_dump(exclude=moved) == before.model_dump(exclude=moved)
    assert [(c.status, c.reason, c.observed_generation) for c in after.conditions] == [
        ("True", "Issued", 2),
        ("False", "Issued", 2),
    ]


def test_ready_says_that_renew_before_is_too_long() -> None:
    decision = decide(known(status=ready(), renew_before="8760h"))
    assert message(decision, "Ready") == (
        "Certificate cert_1 covers example.com; it expires at 2026-03-22T12:00:00Z. spec.renewBefore (8760h) is not "
        "shorter than the certificate's lifetime (90d), so a third of the lifetime is used."
    )


def test_the_conditions_say_until_when_there_is_nothing_to_do() -> None:
    decision = decide(known(status=ready()))
    due = renewal_time(cert())
    assert message(decision, "Ready") == "Certificate cert_1 covers example.com; it expires at 2026-03-22T12:00:00Z."
    assert message(decision, "Issuing") == f"Nothing to do until the renewal at {due:%Y-%m-%dT%H:%M:%SZ}."


# --- check before you act ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "action"),
    [
        pytest.param(known(status=ready(DUE)), Get("cert_1", TEAM), id="due"),
        pytest.param(known(status=ready(EXPIRED)), Get("cert_1", TEAM), id="expired"),
        pytest.param(known(status=ready(cert(lifetime=None))), Get("cert_1", TEAM), id="of unknown expiry"),
        pytest.param(known(status=ready(DUE), got=gone("cert_1")), List(1_000_000.0, TEAM), id="a 404 is not believed"),
        pytest.param(
            known(status=ready(DUE), got=gone("cert_1"), listing=listed(DUE, begun=NOW - SECOND)),
            List(1_000_000.0, TEAM),
            id="a 404 is compared with a list from after it",
        ),
        pytest.param(known(status=ready(DUE), got=got(DUE)), List(None, TEAM), id="not renewed: a list"),
        pytest.param(
            known(status=ready(DUE), got=got(DUE), listing=listed(DUE, begun=NOW - 601 * SECOND)),
            List(None, TEAM),
            id="a list that is too old",
        ),
    ],
)
def test_vercel_is_asked_before_a_renewal(facts: Known, action: Any) -> None:
    decision = decide(facts)
    assert decision.action == action
    assert decision.status is None


def _list_of(count: int, **more: Any) -> Listing:
    others = (cert(f"cert_x{number}", f"n{number}.example.org") for number in range(count - 1))
    return listed(DUE, *others, **more)


@pytest.mark.parametrize(
    ("listing", "fresh"),
    [
        pytest.param(_list_of(1), True, id="now"),
        pytest.param(_list_of(1, begun=NOW - 5 * SECOND), True, id="short: 5 s"),
        pytest.param(_list_of(1, begun=NOW - 6 * SECOND), False, id="short: older"),
        pytest.param(_list_of(100, begun=NOW - 60 * SECOND), True, id="100: a minute"),
        pytest.param(_list_of(100, begun=NOW - 61 * SECOND), False, id="100: older"),
        pytest.param(_list_of(2000, begun=NOW - 600 * SECOND), True, id="long: 10 min"),
        pytest.param(_list_of(2000, begun=NOW - 601 * SECOND), False, id="long: older"),
        pytest.param(_list_of(1, begun=NOW - HOUR, took=1800.0), True, id="twice as old as it took"),
        pytest.param(_list_of(1, begun=NOW - HOUR, took=1799.0), False, id="older than that"),
    ],
)
def test_a_list_may_be_older_the_more_it_costs(listing: Listing, fresh: bool) -> None:
    """At most ten minutes, or twice as old as it took."""
    facts = known(status=ready(DUE), got=got(DUE), listing=listing)
    assert isinstance(decide(facts).action, Issue if fresh else List)


@pytest.mark.parametrize(
    "limited",
    [{"failed": failing("list", refusal(429))}, {"pauses": paused("list", NOW + HOUR)}],
    ids=["the list", "all lists"],
)
def test_while_lists_are_limited_a_renewal_goes_on_without_one_at_half_time(limited: Any) -> None:
    facts = known(status=ready(DUE), got=got(DUE), listing=listed(DUE, begun=NOW - HOUR), **limited)
    assert isinstance(decide(facts).action, Wait)
    late = replace(facts, now=HALF)
    action = decide(late).action
    assert isinstance(action, Issue)
    assert action.attempt.known is None, "an old list proves nothing"
    first = decide(known(listing=listed(begun=NOW - HOUR), **limited))
    assert (first.policy, type(first.action)) == ("list_is_fresh", Wait)


def test_a_request_or_other_names_need_no_get() -> None:
    """A first certificate takes a list and a POST."""
    assert isinstance(decide(known(status=ready(), renew="1")).action, List)
    assert isinstance(decide(known(status=ready(), cns=["b.com"])).action, List)
    assert isinstance(decide(known()).action, List)


@pytest.mark.parametrize("old", [DUE, EXPIRED], ids=["due", "expired"])
@pytest.mark.parametrize("seen", ["by GET", "in the list"])
def test_a_renewal_by_vercel_under_the_same_id_changes_only_status(old: Certificate, seen: str) -> None:
    what: dict[str, Any] = {"got": got(RENEWED)}
    if seen == "in the list":
        what = {"got": gone("cert_1"), "listing": listed(RENEWED)}
    facts = known(status=failed(certificate=old, until=NOW - MINUTE), **what)
    decision = decide(facts)
    assert decision.action == Write()
    status = decision.status
    assert status is not None
    assert (status.id, status.created_at, status.expires_at) == ("cert_1", RENEWED.created_at, RENEWED.expires_at)
    assert (status.superseded, status.failed_attempts) == ((), 0)
    assert conditions_of(decision) == (READY, NOTHING_TO_DO)
    assert note_of(decision) == ("Normal", "Renewed", "Renew")
    assert_in_order(facts, decision)
    assert isinstance(decide(written(facts, decision)).action, Wait)


def test_a_404_that_the_list_contradicts_does_not_prevent_the_renewal() -> None:
    facts = known(status=ready(DUE), got=gone("cert_1"), listing=listed(DUE))
    assert isinstance(decide(facts).action, Issue)


# --- calls that always fail -------------------------------------------------------------------------------------------

DUE_AT, EXPIRY = renewal_of(known(status=ready(DUE))), NOW + 25 * DAY
HALF = DUE_AT + (EXPIRY - DUE_AT) / 2
"""Half of the time between the renewal and the expiry."""


@pytest.mark.parametrize("failure", [refusal(500), refusal(403), refusal(404)], ids=["500", "403", "404"])
def test_a_get_that_always_fails_does_not_prevent_the_renewal_after_half_of_the_remaining_time(failure: Any) -> None:
    def at_time(now: Any) -> Known:
        blocked = failing("get", failure, until=now + HOUR, since=now - DAY)
        return known(status=ready(DUE), now=now, failed=blocked, token_read=True)

    before = decide(at_time(HALF - SECOND))
    assert before.policy == "current_certificate_is_checked"
    assert before.action == Wait(HALF)
    assert isinstance(led_to(at_time(HALF), DUE)[1].action, Issue)


def test_when_the_wait_is_over_the_get_is_tried_again_first() -> None:
    facts = known(status=ready(DUE), now=HALF, failed=failing("get", refusal(500), until=HALF))
    assert decide(facts).action == Get("cert_1", TEAM)


@pytest.mark.parametrize("failure", [refusal(500), refusal(404), refusal(400)], ids=["500", "404", "400"])
def test_a_list_that_always_fails_does_not_prevent_a_renewal_after_half_of_the_remaining_time(failure: Any) -> None:
    def at_time(now: Any) -> Known:
        return known(status=ready(DUE), now=now, got=got(DUE), failed=failing("list", failure, until=now + HOUR))

    before = decide(at_time(HALF - SECOND))
    assert (before.policy, before.action) == ("list_is_fresh", Wait(HALF))
    decision = decide(at_time(HALF))
    assert isinstance(decision.action, Issue)
    assert decision.action.attempt.known is None, "nobody knows what existed before"


def test_with_a_404_and_a_list_that_fails_too_the_renewal_waits_for_half_of_the_remaining_time() -> None:
    """A Vercel that answers POST alone."""

    def at_time(now: Any) -> Known:
        blocked = failing("list", refusal(500), until=now + HOUR)
        return known(status=ready(DUE), now=now, got=gone("cert_1"), failed=blocked)

    assert decide(at_time(HALF - SECOND)).action == Wait(HALF)
    assert isinstance(decide(at_time(HALF)).action, Issue)


@pytest.mark.parametrize(
    "facts",
    [known(), known(status=ready(), cns=["b.com"]), known(status=ready(), renew="1")],
    ids=["first", "names", "requested"],
)
@pytest.mark.parametrize(
    ("failure", "goes_on"),
    [
        (refusal(500), True),
        (refusal(404), True),
        (refusal(402), True),
        (refusal(401), False),
        (refusal(403), False),
        (refusal(429), False),
    ],
    ids=["500", "404", "402", "401", "403", "429"],
)
def test_a_list_that_fails_once_does_not_block_what_is_needed_now(facts: Known, failure: Any, goes_on: bool) -> None:
    blocked = replace(facts, failed=failing("list", failure), token_read=True)
    decision = decide(blocked)
    assert isinstance(decision.action, Issue) is goes_on
    if isinstance(decision.action, Issue):
        assert decision.action.attempt.known is None
    else:
        assert decision.policy == "list_is_fresh"
        assert decision.action == Wait(NOW + MINUTE)


@pytest.mark.parametrize(
    "failure", [NOT_SENT, refusal(401), refusal(429)], ids=["not sent", "token rejected", "limited"]
)
def test_but_a_list_that_could_not_be_sent_or_that_vercel_limits_is_waited_for(failure: Any) -> None:
    assert isinstance(decide(known(failed=failing("list", failure), token_read=True)).action, Wait)


def test_without_a_list_a_resource_waits_for_another_one_of_its_namespace() -> None:
    """A gateway may list nothing and answer every GET with 404: then both would be issued a certificate."""
    other = Ownership(holders={"cert_9": "web/other"})
    assert decide(known(ownership=other, failed=failing("list", refusal(500)))).action == Wait(NOW + MINUTE)


def test_without_a_list_a_get_shows_whether_another_tenant_has_the_certificate() -> None:
    other: dict[str, Any] = {
        "ownership": Ownership(holders={"cert_9": "tenant/other"}),
        "failed": failing("list", refusal(500)),
    }
    assert decide(known(**other)).action == Get("cert_9", TEAM)
    assert isinstance(decide(known(**other, got=gone("cert_9"))).action, Issue)
    there = decide(known(**other, got=got(cert("cert_9"))))
    assert conditions_of(there)[1] == ("False", "DuplicateOf")


def test_a_get_of_another_resources_certificate_that_is_paused_delays_a_renewal_until_half_time() -> None:
    other: dict[str, Any] = {
        "ownership": Ownership(holders={"cert_9": "web/other"}),
        "pauses": paused("get", NOW + 90 * DAY),
        "got": got(DUE),
    }
    facts = known(status=ready(DUE), listing=listed(DUE), **other)
    assert decide(facts).policy == "holders_are_in_other_scopes"
    assert isinstance(decide(facts).action, Wait)
    late = replace(facts, now=HALF, tick=tick(HALF), listing=listed(DUE, begun=HALF))
    assert isinstance(decide(late).action, Issue)


def test_a_list_that_failed_is_tried_again_when_its_wait_is_over() -> None:
    assert isinstance(decide(known(failed=failing("list", refusal(500), until=NOW))).action, List)


# --- what an attempt records ------------------------------------------------------------------------------------------


def test_an_attempt_records_what_it_is_made_from() -> None:
    facts = known(
        cns=["B.com", "a.com"],
        generation=3,
        renew="1",
        listing=listed(),
        token_hash="t1",
        new_attempt_id="attempt-9",
        now=NOW.replace(microsecond=5),
    )
    decision = decide(facts)
    assert isinstance(decision.action, Issue)
    attempt = decision.action.attempt
    assert (attempt.id, attempt.start, attempt.generation) == ("attempt-9", NOW, 3)
    assert (attempt.cns, attempt.team, attempt.token_hash) == (("a.com", "b.com"), "team_a", "t1")
    assert (attempt.reason, attempt.renew_request, attempt.requested) == ("FirstIssue", "1", True)
    assert (attempt.known, attempt.outcome, attempt.retry_time) == ((), None, None)
    assert decision.status is not None
    assert decision.status.next_attempt_time is None


def test_an_attempt_for_an_account_without_a_team_records_none() -> None:
    assert issued_by(known(scope=Scope())).team is None
    assert issued_by(known(scope=Scope(team_slug="acme"))).team == "acme"


@pytest.mark.parametrize(
    ("certificate", "is_known"),
    [
        pytest.param(cert("cert_9", created=NOW - HOUR, lifetime=2 * HOUR), True, id="young"),
        pytest.param(cert("cert_9", created=NOW - 80 * DAY), True, id="old: Vercel may renew it under the same id"),
        pytest.param(replace(cert("cert_9", lifetime=None), created_at=None), True, id="of unknown age"),
        pytest.param(cert("cert_9", ["b.com"], created=NOW), False, id="other names"),
        pytest.param(cert("cert_9", ["b.com", "example.com"], created=NOW), True, id="more names"),
        pytest.param(cert("cert_1", created=NOW - HOUR, lifetime=2 * HOUR), False, id="the current one"),
    ],
)
def test_an_attempt_records_what_could_be_mistaken_for_its_answer(certificate: Certificate, is_known: bool) -> None:
    facts = known(
        status=ready(cert(created=NOW - HOUR, lifetime=2 * HOUR), shared_names=True),
        renew="1",
        listing=listed(certificate),
        got=got(cert(created=NOW - HOUR, lifetime=2 * HOUR)),
    )
    decision = decide(facts)
    assert isinstance(decision.action, Issue)
    assert decision.action.attempt.known == ((certificate.id,) if is_known else ())


def test_an_attempt_records_no_more_than_a_hundred_of_them() -> None:
    many = [replace(cert(f"cert_{n}", lifetime=None), created_at=None) for n in range(101)]
    attempt = issued_by(known(listing=listed(*many)), *many)
    assert attempt.known is not None
    assert len(attempt.known) == 100


@pytest.mark.parametrize(
    ("others", "more", "shared"),
    [
        pytest.param([], {}, False, id="no other"),
        pytest.param([cert("cert_9", lifetime=None)], {}, True, id="one whose expiry is unknown"),
        pytest.param([cert("cert_9", created=NOW - 89 * DAY)], {}, True, id="one that expires soon"),
        pytest.param([replace(EXPIRED, id="cert_9")], {}, False, id="an expired one"),
        pytest.param([cert("cert_9", created=NOW - 90 * DAY)], {}, False, id="one that expires now"),
        pytest.param([cert("cert_9", ["b.com"])], {}, False, id="one with other names"),
        pytest.param([cert("cert_0")], {"superseded": replaced("cert_0", since=NOW)}, False, id="its own"),
        pytest.param([], {"shared_names": True}, True, id="seen before"),
    ],
)
def test_an_attempt_notes_whether_someone_else_has_certificates_with_its_names(
    others: list[Certificate], more: dict[str, Any], shared: bool
) -> None:
    facts = known(status=ready(**more), renew="1", listing=listed(cert(), *others), got=got(cert()))
    decision = decide(facts)
    if isinstance(decision.action, Write):  # drift has seen it
        decision = decide(written(facts, decision))
    assert isinstance(decision.action, Issue)
    assert decision.status is not None
    assert decision.status.shared_names is shared


def test_the_finalizer_is_there_before_the_attempt_is_recorded() -> None:
    facts = known(finalizer=False, listing=listed())
    decision = decide(facts)
    assert decision.policy == "finalizer_is_there"
    assert decision.status is None
    assert at(facts, NOW).listing is None
    assert NEW.id == "cert_2"


# --- a renewal that is tried again ------------------------------------------------------------------------------------


def due(**more: Any) -> Known:
    """A renewal is due, and a GET has shown the certificate a minute ago, in an earlier round."""
    return known(**{"status": ready(DUE), "checked": ("cert_1", tick(NOW - MINUTE)), **more})


def test_after_a_recent_get_a_fresh_list_that_shows_the_certificate_is_enough() -> None:
    assert decide(due()).action == List(None, TEAM)
    assert isinstance(decide(due(listing=listed(DUE))).action, Issue)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(due(listing=listed()), id="the list lacks it"),
        pytest.param(due(failed=failing("list", refusal(500))), id="the list fails"),
        pytest.param(due(checked=("cert_2", tick(NOW))), id="another one was read"),
        pytest.param(due(checked=None), id="none was read"),
        pytest.param(due(checked=("cert_1", tick(NOW) - 600.5)), id="the GET is old"),
    ],
)
def test_otherwise_a_renewal_begins_with_a_get(facts: Known) -> None:
    assert decide(facts).action == Get("cert_1", TEAM)


def test_a_get_of_ten_minutes_ago_is_recent() -> None:
    assert decide(due(checked=("cert_1", tick(NOW) - 600.0))).action == List(None, TEAM)
