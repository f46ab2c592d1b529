"""What happens at Vercel without the operator: found by a look from time to time."""

from collections.abc import Callable, Collection
from datetime import timedelta

import pytest

from support.acting import (
    DAY,
    HOUR,
    MINUTE,
    advance_to,
    asked,
    create_many,
    events,
    notes,
    reasons,
    statuses,
    superseded,
    time,
)
from support.world import TOKEN, World
from vercel_certificate_operator import drift_watch
from vercel_certificate_operator.core.known import Listing
from vercel_certificate_operator.core.sightings import scope_vanished
from vercel_emulator.models import Behaviour, CertificateChange, Fault, Injection, TokenGrant


@pytest.fixture
def drift_interval() -> float:
    """Seconds: the operator's own default."""
    return 6 * HOUR.total_seconds()


async def test_a_certificate_removed_at_vercel_is_issued_again_within_the_interval(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    old = await world.status("site")
    world.emulator.state.vanish(old["id"])
    await world.advance(6 * HOUR)
    new = await world.status("site")
    assert new["id"] != old["id"]
    assert await world.ready("site") == ("True", "Issued")
    assert "superseded" not in new
    [note] = await notes(world, "site", "CertificateGone")
    assert (
        note == f"Certificate {old['id']} for example.com no longer exists at Vercel. The operator issues another one."
    )
    assert len(asked(world, "issue")) == 2


async def test_while_the_one_that_was_removed_can_not_be_issued_again_ready_is_false(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    world.emulator.state.vanish((await world.status("site"))["id"])
    world.emulator.faults.add(Fault(call="issue", status=402, times=None))
    await world.advance(6 * HOUR)
    assert await world.ready("site") == ("False", "PaymentRequired")
    assert "id" not in await world.status("site")


async def test_a_certificate_that_has_lost_a_name_at_vercel_is_issued_again(world: World) -> None:
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    old = await world.status("site")
    world.emulator.state.change(old["id"], CertificateChange(cns=["example.com"]))
    await world.advance(6 * HOUR)
    new = await world.status("site")
    assert new["id"] != old["id"]
    assert new["cns"] == ["example.com", "www.example.com"]
    [note] = await notes(world, "site", "CertificateChanged")
    assert "has changed at Vercel: it is now for example.com and expires" in note
    await world.advance(10 * MINUTE)
    assert list(world.live()) == [new["id"]]


async def test_names_that_vercel_adds_are_reported_and_no_reason_to_issue_another(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    before = await world.status("site")
    world.emulator.state.change(before["id"], CertificateChange(cns=["example.com", "www.example.com"]))
    await world.advance(DAY)
    after = await world.status("site")
    assert after["id"] == before["id"]
    assert after["cns"] == ["example.com", "www.example.com"]
    assert len(asked(world, "issue")) == 1
    assert await world.ready("site") == ("True", "Issued")


async def test_an_expiry_that_has_come_nearer_moves_the_renewal(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    before = await world.status("site")
    nearer = world.emulator.clock.now_ms() + 5 * 86_400_000
    world.emulator.state.change(before["id"], CertificateChange(expires_at=nearer))
    await world.advance(6 * HOUR)
    after = await world.status("site")
    assert after["id"] == before["id"]
    assert time(after["renewalTime"]) < time(after["expiresAt"]) < time(before["renewalTime"])
    await advance_to(world, after["renewalTime"], plus=1)
    assert len(asked(world, "issue")) == 2


async def test_auto_renew_switched_off_is_reported(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    assert (await world.status("site"))["autoRenew"] is True
    world.emulator.state.change((await world.status("site"))["id"], CertificateChange(auto_renew=False))
    await world.advance(6 * HOUR)
    assert (await world.status("site"))["autoRenew"] is False
    assert len(asked(world, "issue")) == 1


@pytest.mark.parametrize("kind", ["same-id", "new-id"])
async def test_vercels_own_renewal_is_seen_long_before_the_operators(world: World, kind: str) -> None:
    world.emulator.state.behaviour = Behaviour.model_validate({"renewal": kind, "renew_before": "40d"})
    await world.apply("site", ["example.com"])
    await world.quiet()
    first = await world.status("site")
    await world.advance(50 * DAY + 6 * HOUR)
    second = await world.status("site")
    assert (second["id"] == first["id"]) == (kind == "same-id")
    assert time(second["renewalTime"]) > time(first["renewalTime"])
    assert len(asked(world, "issue")) == 1
    [note] = await notes(world, "site", "Renewed")
    assert f"Vercel renewed certificate {first['id']}: {second['id']} expires {second['expiresAt']}." in note
    await world.advance(10 * MINUTE)
    assert list(world.live()) == [second["id"]]


async def test_a_suspended_resource_reports_what_has_changed_and_changes_nothing(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.apply("site", ["example.com"], suspend=True)
    await world.quiet()
    world.emulator.state.vanish((await world.status("site"))["id"])
    await world.advance(6 * HOUR)
    assert (await world.ready("site"))[0] == "False"
    assert len(asked(world, "issue")) == 1
    await world.apply("site", ["example.com"])
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")


# --- what it costs


async def test_one_listing_does_for_all_resources_of_a_scope_however_many(world: World) -> None:
    world.emulator.state.behaviour = Behaviour(page_size=100)
    await create_many(world, 30)
    await world.quiet()
    since = world.emulator.journal.last
    await world.advance(DAY)
    calls = world.calls(since)
    assert set(calls) == {"list"}
    assert 4 <= len(calls) <= 5  # every 6 h, the first of them after 3 to 6 h


async def test_each_scope_is_listed_by_itself(world: World) -> None:
    await world.apply("one", ["example.com"])
    await world.apply("other", ["example.com"], team={"id": "team_alpha"})
    await world.quiet()
    since = world.emulator.journal.last
    await world.advance(6 * HOUR)
    listed = [str(entry.query.get("teamId")) for entry in asked(world, "list", since=since)]
    assert set(listed) == {"None", "team_alpha"}
    assert 2 <= len(listed) <= 4


async def test_a_restart_lists_nothing(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    for _ in range(5):
        await world.restart()
    assert world.calls() == ["list", "issue"]


async def test_a_listing_of_many_pages_is_read_whole_before_it_is_believed(world: World) -> None:
    await create_many(world, 6)
    await world.quiet()
    await world.advance(MINUTE)
    now = world.emulator.clock.now_ms()
    for number in range(100):  # newer ones of somebody else fill the first page
        world.emulator.state.inject(Injection(cns=[f"x{number}.example.org"], created_at=now - number))
    world.emulator.faults.add(Fault(call="list", skip=1, status=500))
    since = world.emulator.journal.last
    await world.advance(6 * HOUR + 11 * MINUTE)  # the first list within 6 hours, and 10 minutes later the next one
    assert [entry.status for entry in asked(world, "list", since=since)] == [200, 500, 200, 200]
    assert world.calls().count("get") == 0
    assert len(asked(world, "issue")) == 6
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}


async def test_a_list_that_fails_is_repeated_ever_more_seldom_and_disturbs_nothing(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    world.emulator.faults.add(Fault(call="list", status=500, times=None))

    async def lists_within(span: timedelta) -> int:
        before = len(asked(world, "list"))
        await world.advance(span)
        return len(asked(world, "list")) - before

    while not await lists_within(MINUTE):
        pass
    assert await lists_within(75 * MINUTE) == 3, "after 10, 20 and 40 minutes"
    await world.advance(4 * DAY)
    assert await lists_within(DAY) == 4
    world.emulator.faults.clear()
    await world.advance(6 * HOUR)
    world.emulator.faults.add(Fault(call="list", status=500))
    assert await lists_within(6 * HOUR + 10 * MINUTE) == 2, "after a good one, a failure counts from one again"
    assert await world.ready("site") == ("True", "Issued")
    assert await world.issuing("site") == ("False", "Issued")


# --- what is believed


async def test_a_certificate_that_only_the_list_leaves_out_is_not_gone(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    body = {"certs": [], "pagination": {"count": 0, "next": None, "prev": None}}
    world.emulator.faults.add(Fault(call="list", action="raw", body=body, times=None))
    await world.advance(DAY)
    assert asked(world, "get")
    assert len(asked(world, "issue")) == 1
    assert await world.ready("site") == ("True", "Issued")


async def test_a_404_that_the_list_contradicts_is_not_believed(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    first = await world.status("site")
    world.emulator.faults.add(Fault(call="get", status=404, code="cert_not_found", times=None))
    await advance_to(world, first["renewalTime"], plus=1)
    assert not await events(world, "site", "CertificateGone")
    second = await world.status("site")
    assert superseded(second) == [first["id"]]  # renewed, and the old one is still to be removed
    await world.advance(10 * MINUTE)
    assert list(world.live()) == [second["id"]]


# --- ScopeVanished


async def test_what_a_listing_has_shown_is_not_forgotten_while_a_failed_look_is_waited_for(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    old = await world.status("site")
    world.emulator.state.vanish(old["id"])
    world.emulator.faults.add(Fault(call="get", status=402))
    while not asked(world, "get"):
        await world.advance(10 * MINUTE)
    await world.patch("site", {"metadata": {"labels": {"something": "else"}}})
    await world.quiet()
    await world.advance(1.2 * HOUR)
    assert (await world.status("site"))["id"] != old["id"]
    assert len(asked(world, "list")) < 4  # no later one for drift was waited for


async def test_when_many_certificates_are_gone_at_once_nothing_is_issued_before_the_user_confirms_it(
    world: World,
) -> None:
    names = await create_many(world, 8)
    await world.quiet()
    world.emulator.accounts.grant(TokenGrant(token=TOKEN, user="somebody-else"))
    await world.advance(DAY)
    assert len(asked(world, "issue")) == 8
    assert await reasons(world, "Issuing") == dict.fromkeys(names, "ScopeVanished")
    assert len(await events(world, "site-0", "ScopeVanished")) == 1
    _, _, message = await world.condition("site-0", "Issuing")
    assert "Check that this is the right token." in message
    assert "set the annotation vercel-operator.io/renew to a new value" in message

    await world.annotate("site-0", "renew", "they-are-gone")
    await world.quiet()
    assert len(asked(world, "issue")) == 9
    assert await world.ready("site-0") == ("True", "Issued")
    assert await world.issuing("site-1") == ("False", "ScopeVanished")


async def test_a_renewal_that_was_asked_for_while_it_was_suspended_is_no_confirmation(world: World) -> None:
    await create_many(world, 8, suspend=False)
    await world.quiet()
    before = (await world.status("site-0"))["id"]
    await world.patch("site-0", {"spec": {"suspend": True}})
    await world.annotate("site-0", "renew", "last week")
    world.emulator.accounts.grant(TokenGrant(token=TOKEN, user="somebody-else"))
    await world.advance(7 * HOUR)
    assert await world.issuing("site-0") == ("False", "ScopeVanished")
    assert (await world.status("site-0"))["id"] == before
    world.emulator.accounts.grant(TokenGrant(token=TOKEN))
    await world.advance(HOUR + MINUTE)
    assert (await world.status("site-0"))["id"] == before
    assert await world.ready("site-0") == ("True", "Issued")


async def test_when_they_are_back_all_is_as_it_was(world: World) -> None:
    await create_many(world, 8)
    await world.quiet()
    before = {name: status["id"] for name, status in (await statuses(world)).items()}
    world.emulator.accounts.grant(TokenGrant(token=TOKEN, user="somebody-else"))
    await world.advance(7 * HOUR)
    assert set((await reasons(world, "Issuing")).values()) == {"ScopeVanished"}
    world.emulator.accounts.grant(TokenGrant(token=TOKEN))
    await world.advance(HOUR + MINUTE)
    assert set((await reasons(world, "Issuing")).values()) == {"Issued"}
    assert {name: status["id"] for name, status in (await statuses(world)).items()} == before
    assert len(asked(world, "issue")) == 8


async def test_while_they_are_gone_one_listing_an_hour_does_for_all(world: World) -> None:
    await create_many(world, 8)
    await world.quiet()
    world.emulator.accounts.grant(TokenGrant(token=TOKEN, user="somebody-else"))
    await world.advance(7 * HOUR)
    since = world.emulator.journal.last
    await world.advance(6 * HOUR)
    assert len(asked(world, "list", since=since)) <= 8  # 6, and one or two for drift


async def test_whether_so_many_are_gone_is_computed_once_for_a_list(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each resource asks, and each answer takes a look at all of them."""
    computed = []

    def counted(held: Collection[str], listing: Listing, is_unexplained: Callable[[str], bool]) -> bool:
        computed.append(listing.begun)
        return scope_vanished(held, listing, is_unexplained)

    monkeypatch.setattr(drift_watch, "scope_vanished", counted)
    await create_many(world, 8)
    await world.quiet()
    world.emulator.accounts.grant(TokenGrant(token=TOKEN, user="somebody-else"))
    await world.advance(9 * HOUR)
    assert set((await reasons(world, "Issuing")).values()) == {"ScopeVanished"}
    assert len(computed) == len(set(computed)) == len(asked(world, "list")) - 1  # the first, before anything is held


async def test_a_few_that_are_gone_are_issued_again(world: World) -> None:
    await create_many(world, 8)
    await world.quiet()
    for certificate in world.emulator.state.live()[:4]:
        world.emulator.state.vanish(certificate.id)
    await world.advance(6 * HOUR)
    assert len(asked(world, "issue")) == 12
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}
    assert len(world.live()) == 8
