"""One need, one certificate: whoever else wants the names, whatever was restored, whichever answer was lost."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from reported.acts import behave, cluster_lost, created, deleted, fails, held, posts, replaced, said, theirs
from support.acting import (
    DAY,
    HOUR,
    MINUTE,
    REF,
    advance_to,
    asked,
    by_age,
    events,
    put_secret,
    reasons,
    remove_secret,
    seconds_until,
)
from support.memory_api import ApiFault, SimulatedWorld
from support.world import OTHER_TOKEN, TOKEN
from vercel_emulator.models import TokenGrant

NAMES = ["a.example.com"]
OTHERS = ["b.example.com"]


async def one_owner(world: SimulatedWorld, count: int = 2) -> None:
    """Exactly one of the resources has a certificate, there is one, and the others say whose duplicates they are."""
    found = sorted((await reasons(world, "Ready")).values())
    assert found == ["DuplicateOf"] * (count - 1) + ["Issued"]
    assert len(world.live()) == 1
    assert posts(world) == 1


# --- two resources with the same names --------------------------------------------------------------------------------

PAIRS = pytest.mark.parametrize(
    ("one", "two"),
    [
        ({}, {}),
        ({"team": {"id": "team_alpha"}}, {"team": {"id": "team_alpha"}}),
        ({"team": {"id": "team_alpha"}}, {"team": {"slug": "alpha"}}),
        ({}, {"tokenSecretRef": {"name": "t1"}}),
        ({"tokenSecretRef": {"name": "t1"}}, {"tokenSecretRef": {"name": "t2"}}),
        ({"tokenSecretRef": {"name": "t1"}, "team": {"slug": "alpha"}}, {"team": {"id": "team_alpha"}}),
    ],
    ids=["one token", "one team", "id and slug", "default and own token", "two tokens", "two tokens, id and slug"],
)


@PAIRS
@pytest.mark.parametrize("delay", [0.0, 0.5, 3.0, 100.0], ids="{:g} s apart".format)
async def test_two_resources_for_the_same_names_get_one_certificate(
    world: SimulatedWorld, one: dict[str, Any], two: dict[str, Any], delay: float
) -> None:
    """Vercel takes its time for each POST."""
    await put_secret(world, OTHER_TOKEN, name="t1")
    await put_secret(world, TOKEN, name="t2")
    slow = fails(world, "issue", None, action="hang")
    await world.apply("one", NAMES, **one)
    if delay:
        await world.quiet(hanging=1)
        await world.advance(delay, hanging=1)
    await world.apply("two", NAMES, **two)
    await world.quiet(hanging=1)
    await world.advance(10, hanging=1)
    assert slow.hanging == 1
    slow.release("continue")
    await world.quiet()
    await world.advance(MINUTE)
    await one_owner(world)
    await world.advance(2 * DAY)
    await one_owner(world)


@PAIRS
async def test_when_the_owner_goes_the_other_one_takes_over(
    world: SimulatedWorld, one: dict[str, Any], two: dict[str, Any]
) -> None:
    await put_secret(world, OTHER_TOKEN, name="t1")
    await put_secret(world, TOKEN, name="t2")
    await world.apply("one", NAMES, **one)
    await world.quiet()
    await world.advance(5)
    await world.apply("two", NAMES, **two)
    await world.advance(MINUTE)
    await one_owner(world)
    await world.delete("one")
    await world.quiet()
    await world.advance(MINUTE)
    assert await world.ready("two") == ("True", "Issued")
    assert list(world.live()) == await held(world, "two")


async def test_of_many_resources_with_the_same_names_created_at_once_one_gets_a_certificate(
    world: SimulatedWorld,
) -> None:
    await asyncio.gather(*(world.apply(f"site-{number}", NAMES) for number in range(20)))
    await world.quiet()
    await world.advance(HOUR)
    await one_owner(world, 20)


@pytest.mark.parametrize("second_first", [False, True])
async def test_the_watch_may_show_the_younger_one_first(world: SimulatedWorld, second_first: bool) -> None:
    """On a real API server 5 of 60 pairs got two certificates."""
    slow = fails(world, "issue", None, action="hang")
    world.watching = False
    await world.apply("one", NAMES)
    await world.apply("two", NAMES)
    bodies = await world.all()
    assert world.operator is not None
    for body in reversed(bodies) if second_first else bodies:
        world.operator.reconciler.seen(body)
        await world.quiet(hanging=1)
    world.watching = True
    await world.quiet(hanging=1)
    slow.release("continue")
    await world.quiet()
    await world.advance(MINUTE)
    await one_owner(world)


async def test_names_that_are_changed_during_a_post_are_free_for_another_resource_once_it_is_answered(
    world: SimulatedWorld,
) -> None:
    """The other resource used the certificate as if somebody had made it by hand, and neither removed it later."""
    slow = fails(world, "issue", action="hang", when="after")
    await world.apply("one", NAMES)
    await world.quiet(hanging=1)
    await world.patch("one", {"spec": {"cns": ["b.example.com"]}})
    await world.apply("two", NAMES)
    await world.quiet(hanging=1)
    assert len(world.live()) == 1
    assert await held(world, "two") == []
    slow.release("continue")
    await world.quiet()
    await world.advance(HOUR)
    [one], [two] = await held(world, "one"), await held(world, "two")
    assert world.live() == {one: ["b.example.com"], two: NAMES}
    for name in ("one", "two"):
        assert (await world.status(name))["origin"] == "Issued"


# --- Secrets that come, go and change ---------------------------------------------------------------------------------


async def two(world: SimulatedWorld) -> None:
    """An owner and its duplicate, each with a Secret of its own."""
    await put_secret(world, OTHER_TOKEN, name="t1")
    await put_secret(world, OTHER_TOKEN, name="t2")
    await world.apply("one", NAMES, tokenSecretRef={"name": "t1"})
    await world.quiet()
    await world.advance(5)
    await world.apply("two", NAMES, tokenSecretRef={"name": "t2"})
    await world.quiet()
    assert await world.ready("two") == ("False", "DuplicateOf")
    assert posts(world) == 1


async def nudged(world: SimulatedWorld, name: str) -> None:
    """Any event makes the operator reconcile it."""
    await world.annotate(name, "note", str(world.clock.now()))
    await world.quiet()


@pytest.mark.parametrize("first", ["t1", "t2"])
async def test_a_token_that_is_rotated_in_one_secret_after_the_other(world: SimulatedWorld, first: str) -> None:
    await two(world)
    world.emulator.accounts.grant(TokenGrant(token="rotated-token-0123456789"))
    for name in (first, "t2" if first == "t1" else "t1"):
        await put_secret(world, "rotated-token-0123456789", name=name)
        await world.advance(2 * HOUR)
        for resource in ("one", "two"):
            await nudged(world, resource)
        await world.advance(MINUTE)
    await one_owner(world)


async def test_the_owners_secret_is_missing_for_a_moment(world: SimulatedWorld) -> None:
    await two(world)
    await world.advance(2 * MINUTE)
    await remove_secret(world, "t1")
    await nudged(world, "two")
    await world.advance(2 * HOUR)
    await nudged(world, "two")
    await put_secret(world, OTHER_TOKEN, name="t1")
    await world.advance(2 * MINUTE)
    await one_owner(world)


async def test_the_secret_of_the_older_resource_comes_later(world: SimulatedWorld) -> None:
    """The younger one has a certificate by then: it is the owner."""
    await put_secret(world, OTHER_TOKEN, name="t2")
    await world.apply("one", NAMES, tokenSecretRef={"name": "t1"})
    await world.advance(2)
    await world.apply("two", NAMES, tokenSecretRef={"name": "t2"})
    await world.quiet()
    assert await world.ready("two") == ("True", "Issued")
    await put_secret(world, OTHER_TOKEN, name="t1")
    await world.advance(5 * MINUTE)
    assert await world.ready("one") == ("False", "DuplicateOf")
    await one_owner(world)


# --- who is in whose way ----------------------------------------------------------------------------------------------


async def test_an_older_resource_that_changes_to_names_of_a_younger_one_is_its_duplicate(
    world: SimulatedWorld,
) -> None:
    behave(world, lifetime=9 * DAY)
    await world.apply("old", ["x.example.com"])
    await world.advance(10)
    await world.apply("young", NAMES)
    await world.quiet()
    await world.apply("old", NAMES)
    await world.quiet()
    assert posts(world, *NAMES) == 1
    assert await world.ready("old") == ("False", "DuplicateOf")
    await world.advance(9.5 * DAY)
    assert posts(world, *NAMES) == 2, "the younger one's renewal"
    assert await world.ready("old") == ("False", "DuplicateOf")
    assert await world.ready("young") == ("True", "Issued")
    await world.delete("young")
    await world.advance(MINUTE)
    assert await world.ready("old") == ("True", "Issued")


async def test_the_owner_of_names_is_not_the_one_whose_certificate_expired(world: SimulatedWorld) -> None:
    behave(world, lifetime=9 * DAY)
    await world.apply("old", NAMES)
    await world.quiet()
    await world.apply("old", NAMES, suspend=True)
    await world.apply("young", NAMES)
    await world.quiet()
    assert await world.ready("young") == ("False", "DuplicateOf")
    await world.advance(9.1 * DAY)  # the suspended one holds its certificate until this expires
    assert await world.ready("young") == ("True", "Issued")


@pytest.mark.parametrize("count", [1, 3])
async def test_suspended_resources_without_a_certificate_are_in_nobodys_way(world: SimulatedWorld, count: int) -> None:
    for number in range(count):
        await world.apply(f"old-{number}", NAMES, suspend=True)
        await world.quiet()
        await world.advance(5)
    await world.apply("new", NAMES)
    await world.quiet()
    assert await world.ready("new") == ("True", "Issued")
    await world.apply("old-0", NAMES)
    await world.advance(MINUTE)
    assert await world.ready("old-0") == ("False", "DuplicateOf")
    assert posts(world) == 1


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
async def test_a_deleted_owner_that_only_the_finalizer_of_another_holds_is_in_nobodys_way(
    world: SimulatedWorld, policy: str
) -> None:
    await world.apply("one", NAMES, deletionPolicy=policy)
    await world.quiet()
    finalizers = (await world.get("one") or {})["metadata"]["finalizers"]
    await world.patch("one", {"metadata": {"finalizers": [*finalizers, "example.com/other"]}})
    await world.delete("one")
    await world.quiet()
    assert await world.get("one") is not None
    await world.apply("two", NAMES, existingCertificate="Ignore")
    await world.advance(MINUTE)
    assert await world.ready("two") == ("True", "Issued")
    await world.advance(3 * DAY)
    assert await world.ready("two") == ("True", "Issued")


# --- Vercel renews while the operator is down -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "switches",
    [
        {"renewal": "new-id"},
        {"renewal": "new-id", "renewal_removes_old": True},
        {"renewal": "new-id", "renewal_backdate": HOUR},
        {"renewal": "new-id", "list_order": "shuffled"},
        {"renewal": "same-id"},
        {"renewal": "same-id", "renewal_moves_created_at": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("days", [0.3, 1.0, 3.3], ids=["hours", "a day", "until after the expiry"])
async def test_vercel_renews_while_the_operator_is_down_and_its_renewal_time_passes(
    world: SimulatedWorld, switches: dict[str, Any], days: float
) -> None:
    behave(world, lifetime=9 * DAY, renew_before=3 * DAY, **switches)
    await world.apply("site", NAMES, renewBefore="4176m")  # Vercel's own renewal comes two hours earlier
    await world.quiet()
    await world.advance(5.9 * DAY)
    await world.crash()
    await world.clock.advance(days * 86400.0)
    world.emulator.state.settle()
    await world.restart()
    await world.advance(2 * DAY)
    assert posts(world) == 1
    assert set(world.live()) == set(await held(world))
    assert await world.ready("site") == ("True", "Issued")
    assert (await world.status("site"))["origin"] == "Issued"
    assert len(await events(world, "site", "Renewed")) == 1


async def test_a_certificate_of_someone_else_that_appeared_meanwhile_is_reported(world: SimulatedWorld) -> None:
    """It isn't exactly what a renewal looks like: so the operator renews, and reports the other one."""
    await world.apply("site", NAMES, renewBefore="696h")
    await world.quiet()
    await world.advance(20 * DAY)
    await world.crash()
    theirs(world, *NAMES, age=timedelta(), left=50 * DAY, auto_renew=False)
    await world.clock.advance(45 * 86400.0)
    await world.restart()
    await world.advance(2 * DAY)
    assert await world.ready("site") == ("True", "Issued")
    assert "cert_theirs" in world.live()
    assert "cert_theirs" not in await held(world)
    assert any("cert_theirs" in note for note in await said(world, "OrphanedCertificate"))


# --- backups, and clusters that are rebuilt ---------------------------------------------------------------------------

STATUS = pytest.mark.parametrize("with_status", [False, True], ids=["without status", "with status"])


@STATUS
@pytest.mark.parametrize("existing", ["Reuse", "Adopt"])
@pytest.mark.parametrize("count", [1, 12])
async def test_a_restored_cluster_issues_nothing_again(
    world: SimulatedWorld, with_status: bool, existing: str, count: int
) -> None:
    """Velero restores no status unless it is told to; a cluster that is rebuilt from Git has none. All uids are new."""
    behave(world, lifetime=9 * DAY)
    for number in range(count):
        await world.apply(f"site-{number}", [f"s{number}.example.com"], existingCertificate=existing)
    await world.quiet()
    await world.advance(2 * DAY)
    before = {body["metadata"]["name"]: body["status"]["id"] for body in await world.all()}
    backup = await cluster_lost(world)
    await world.clock.advance(3600.0)
    for body in backup:
        await created(world, body, status=body["status"] if with_status else None)
    world.start()
    await world.quiet()
    await world.advance(DAY)
    assert posts(world) == count
    assert {body["metadata"]["name"]: body["status"]["id"] for body in await world.all()} == before
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}
    origins = {body["status"]["origin"] for body in await world.all()}
    assert origins == {"Issued"} if with_status else {"Found" if existing == "Reuse" else "Adopted"}

    # Each is renewed in its time. Only what was adopted, or is known to be ours, is removed after that.
    await world.advance(7 * DAY)
    assert posts(world) == 2 * count
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}
    left = set(before.values()) & set(world.live())
    assert left == (set() if with_status or existing == "Adopt" else set(before.values()))
    if left:
        assert left == {one for one in left if any(one in note for note in await said(world, "Retained"))}


async def test_with_ignore_a_restored_cluster_issues_again_and_reports_what_nothing_uses(
    world: SimulatedWorld,
) -> None:
    await world.apply("site", NAMES, existingCertificate="Ignore")
    await world.quiet()
    [first] = await held(world)
    backup = await cluster_lost(world)
    for body in backup:
        await created(world, body)
    world.start()
    await world.advance(DAY)
    assert posts(world) == 2
    [second] = await held(world)
    assert set(world.live()) == {first, second}
    assert (await world.status("site"))["sharedNames"] is True


async def test_a_restored_certificate_that_is_due_soon_is_replaced(world: SimulatedWorld) -> None:
    await world.apply("site", NAMES)
    await world.quiet()
    [first] = await held(world)
    backup = await cluster_lost(world)
    await world.clock.advance(85 * 86400.0)
    for body in backup:
        await created(world, body)
    world.start()
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert posts(world) == 2
    assert first in world.live(), "it may be someone else's"


@STATUS
async def test_a_backup_that_was_made_during_a_post_issues_no_second_certificate(
    world: SimulatedWorld, with_status: bool
) -> None:
    slow = fails(world, "issue", action="hang", when="after")
    await world.apply("site", NAMES)
    await world.quiet(hanging=1)
    backup = await cluster_lost(world)
    slow.release("drop")
    await world.clock.advance(1800.0)
    for body in backup:
        await created(world, body, status=body["status"] if with_status else None)
    world.start()
    await world.quiet()
    await world.advance(HOUR)
    assert posts(world) == 1
    assert await world.ready("site") == ("True", "Issued")
    assert list(world.live()) == await held(world)


async def test_a_namespace_that_is_restored_under_another_name_does_not_remove_the_certificates_of_the_first(
    world: SimulatedWorld,
) -> None:
    """With its status: two resources hold one certificate."""
    await world.apply("site", NAMES)
    await world.quiet()
    body = await world.get("site")
    assert body is not None
    body["metadata"]["name"] = "copy"
    await created(world, body, status=body["status"])
    await world.advance(DAY)
    assert posts(world) == 1
    await world.delete("copy")
    await world.advance(HOUR)
    assert await world.get("copy") is None
    assert list(world.live()) == await held(world, "site")
    await world.delete("site")
    await world.advance(HOUR)
    assert world.live() == {}


@pytest.mark.parametrize("restart", [False, True])
async def test_etcd_is_restored_from_before_a_renewal(world: SimulatedWorld, restart: bool) -> None:
    """Status names a certificate that was replaced and removed: Vercel's list has the newer one."""
    behave(world, lifetime=30 * DAY)
    await world.apply("site", NAMES)
    await world.quiet()
    backup = world.memory.backup()
    await advance_to(world, (await world.status("site"))["renewalTime"], plus=3600)
    [second] = await held(world)
    assert posts(world) == 2
    world.memory.restore(backup)
    if restart:
        await world.restart()
    else:
        await world.resync()
    await world.quiet()
    await world.advance(DAY)
    assert posts(world) == 2
    assert await held(world) == [second]
    assert await world.ready("site") == ("True", "Issued")


async def test_etcd_is_restored_from_before_the_first_certificate(world: SimulatedWorld) -> None:
    await world.apply("site", NAMES, suspend=True)
    await world.quiet()
    await world.apply("site", NAMES)
    backup = world.memory.backup()
    await world.quiet()
    [first] = await held(world)
    await world.advance(HOUR)
    world.memory.restore(backup)
    await world.resync()
    await world.quiet()
    assert posts(world) == 1
    assert await held(world) == [first]


# --- a lost answer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [False, True], ids=["the operator goes on", "with a SIGKILL"])
@pytest.mark.parametrize("with_finalizer", [False, True])
async def test_a_resource_that_is_replaced_during_a_post_whose_answer_is_lost_gets_no_second_certificate(
    world: SimulatedWorld, killed: bool, with_finalizer: bool
) -> None:
    """``kubectl replace``, or Argo CD with Replace=true, strips annotations and finalizers."""
    slow = fails(world, "issue", action="hang", when="after")
    await world.apply("site", NAMES, annotations={"example.com/note": "x"})
    await world.quiet(hanging=1)
    await replaced(world, "site", **({"finalizers": ["example.com/other"]} if with_finalizer else {}))
    await world.quiet(hanging=1)
    if killed:
        await world.crash()
    slow.release("drop")
    if killed:
        world.start()
    await world.quiet()
    await world.advance(HOUR)
    assert posts(world) == 1
    assert list(world.live()) == await held(world)
    assert await world.ready("site") == ("True", "Issued")
    assert "AttemptLost" not in {event["reason"] for event in await events(world, "site", "AttemptLost")}
    body = await world.get("site")
    assert body is not None
    assert "vercel-operator.io/certificate" in body["metadata"]["finalizers"]


async def test_a_status_that_is_wiped_during_a_post_whose_answer_comes_gets_it_all_the_same(
    world: SimulatedWorld,
) -> None:
    """A restore with an empty status."""
    slow = fails(world, "issue", action="hang", when="after")
    await world.apply("site", NAMES)
    await world.quiet(hanging=1)
    await world.patch_status("site", None)
    await world.quiet(hanging=1)
    slow.release("continue")
    await world.quiet()
    await world.advance(HOUR)
    assert posts(world) == 1
    assert await world.ready("site") == ("True", "Issued")
    assert list(world.live()) == await held(world)


async def test_of_a_stripped_finalizer_a_deleted_object_and_a_killed_operator_the_certificate_is_used_by_the_next(
    world: SimulatedWorld,
) -> None:
    """All during one POST. Nobody knows of the certificate but Vercel's list."""
    slow = fails(world, "issue", action="hang", when="after")
    await world.apply("site", NAMES)
    await world.quiet(hanging=1)
    await world.crash()
    await world.patch("site", {"metadata": {"finalizers": None}})
    await world.delete("site")
    slow.release("drop")
    [left] = world.live()
    world.start()
    await world.advance(HOUR)
    await world.apply("next", NAMES)
    await world.quiet()
    assert posts(world) == 1
    assert await held(world, "next") == [left]


@pytest.mark.parametrize("backdate", [0, 60, 3599, 3600, 7000], ids="{} s".format)
@pytest.mark.parametrize("killed", [False, True], ids=["the answer is lost", "the operator is killed"])
async def test_a_lost_answer_is_found_although_the_issuer_sets_the_creation_time_back(
    world: SimulatedWorld, backdate: int, killed: bool
) -> None:
    """An hour is usual."""
    behave(world, backdate=timedelta(seconds=backdate))
    slow = fails(world, "issue", action="hang", when="after")
    await world.apply("site", NAMES)
    await world.quiet(hanging=1)
    if killed:
        await world.crash()
    slow.release("drop")
    if killed:
        world.start()
    await world.quiet()
    await world.advance(HOUR)
    assert posts(world) == 1
    status = await world.status("site")
    assert [status["id"]] == list(world.live())
    assert status["origin"] == "Issued"


@pytest.mark.parametrize("lag", [1, 20, 100, 170], ids="{} s".format)
async def test_a_lost_answer_is_found_although_the_list_lags(world: SimulatedWorld, lag: int) -> None:
    behave(world, list_lag=timedelta(seconds=lag))
    fails(world, "issue", action="reset", when="after")
    await world.apply("site", NAMES)
    await world.quiet()
    await world.advance(HOUR)
    assert posts(world) == 1
    assert list(world.live()) == await held(world)


@pytest.mark.parametrize("need", ["renew", "Ignore", "Reuse"])
async def test_a_lost_answer_to_an_attempt_without_a_list_is_found_although_the_issuer_set_the_time_back(
    world: SimulatedWorld, need: str
) -> None:
    """One list fails. From then on, the lists work."""
    behave(world, backdate="1h")
    if need == "renew":
        await world.apply("site", NAMES)
        await world.quiet()
        await world.advance(HOUR)
    before = posts(world)
    fails(world, "list", 1, status=500)
    fails(world, "issue", 1, action="reset", when="after")
    if need == "renew":
        await world.annotate("site", "renew", "1")
    else:
        await world.apply("site", NAMES, existingCertificate=need)
    await world.quiet()
    await world.advance(HOUR)
    assert posts(world) - before == 1
    assert await world.ready("site") == ("True", "Issued")


@pytest.mark.parametrize(
    "get",
    [{"status": 404, "code": "cert_not_found"}, {"action": "answer", "omit": ["cns", "expiresAt"]}],
    ids=["404", "lacks it too"],
)
@pytest.mark.parametrize("need", ["first", "requested renewal", "due renewal"])
async def test_an_answer_with_only_an_id_that_vercel_shows_some_seconds_later_is_used(
    world: SimulatedWorld, need: str, get: dict[str, Any]
) -> None:
    behave(world, lifetime=9 * DAY)
    if need != "first":
        await world.apply("site", NAMES)
        await world.quiet()
        await world.advance(HOUR)
    behave(world, list_lag="20s")
    fails(world, "issue", 1, action="answer", omit=["cns", "expiresAt"])
    fails(world, "get", 1, skip=1 if need == "due renewal" else 0, **get)  # first, the current one is checked
    before = posts(world)
    if need == "first":
        await world.apply("site", NAMES)
    elif need == "requested renewal":
        await world.annotate("site", "renew", "1")
    else:
        await advance_to(world, (await world.status("site"))["renewalTime"], plus=1)
    await world.quiet()
    await world.advance(2 * DAY)
    assert posts(world) - before == 1
    assert await world.issuing("site") == ("False", "Issued")
    assert list(world.live()) == await held(world)
    assert len(await said(world, "Renewed")) == (need != "first")


async def test_a_list_that_lags_longer_than_the_grace_period_ends_in_a_report_of_the_orphan(
    world: SimulatedWorld,
) -> None:
    behave(world, list_lag=timedelta(minutes=10))
    fails(world, "issue", action="reset", when="after")
    await world.apply("site", NAMES)
    await world.quiet()
    [first] = world.live()
    await world.advance(2 * DAY)
    assert posts(world) == 2
    assert await world.ready("site") == ("True", "Issued")
    assert len(await events(world, "site", "AttemptLost")) == 1
    [note] = await said(world, "OrphanedCertificate")
    assert first in note


@pytest.mark.parametrize("writes", [1, 2, 5])
async def test_an_answer_whose_record_the_api_server_refuses_for_a_while_is_recorded_later(
    world: SimulatedWorld, writes: int
) -> None:
    slow = fails(world, "issue", action="hang")
    await world.apply("site", NAMES)
    await world.quiet(hanging=1)
    world.memory.faults.append(ApiFault("PATCH", status=503, times=writes))
    slow.release("continue")
    await world.quiet()
    await world.advance(5 * MINUTE)
    assert posts(world) == 1
    assert await world.ready("site") == ("True", "Issued")
    assert len(await events(world, "site", "Issued")) == 1


# --- two processes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "point",
    [("list", "after"), ("PATCH", "before"), ("PATCH", "after"), ("issue", "before"), ("issue", "after")],
    ids=" ".join,
)
@pytest.mark.parametrize("pause", [20, 300, 86400], ids="for {} s".format)
async def test_a_process_that_was_paused_resumes_while_another_one_leads(
    world: SimulatedWorld, point: tuple[str, str], pause: int
) -> None:
    """At most one request can overlap, if it was paused between its last check and the socket; that is reported."""
    world.gate.pauses_at = point
    await world.apply("site", NAMES)
    await world.quiet()
    paused = (world.operator, world.task, world.gate)
    world.gate.leads = False
    world.start()  # the other replica
    world.watching = True
    await world.quiet()
    await world.advance(pause)
    await world.advance(10 * MINUTE)
    second = (world.operator, world.task, world.gate)

    world.operator, world.task, world.gate = paused
    await world.resume()
    await world.crash()
    world.operator, world.task, world.gate = second
    await world.quiet()
    await world.advance(2 * DAY)
    assert await world.ready("site") == ("True", "Issued")
    overlaps = point == ("issue", "before")
    assert posts(world) == 1 + overlaps
    orphans = set(world.live()) - set(await held(world))
    assert len(orphans) == overlaps
    notes = await said(world, "OrphanedCertificate", "Issued")
    assert all(any(orphan in note for note in notes) for orphan in orphans)


async def test_two_operators_that_both_work_never_issue_twice(world: SimulatedWorld) -> None:
    """Without an election they duplicate work, and get in each other's way: the API server accepts one attempt."""
    first = (world.operator, world.task, world.gate)
    world.start()
    second = (world.operator, world.task, world.gate)
    for number in range(6):
        await world.apply(f"site-{number}", [f"s{number}.example.com"])
    for _ in range(10):
        for world.operator, world.task, world.gate in (first, second):
            await world.sync()
        for world.operator, world.task, world.gate in (second, first):
            await world.quiet()
        await world.clock.advance(10)
    for world.operator, world.task, world.gate in (first, second):
        await world.quiet()
    await world.clock.advance(600)
    for world.operator, world.task, world.gate in (first, second):
        await world.quiet()
    assert posts(world) == 6
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}
    world.operator, world.task, world.gate = first
    await world.crash()
    world.operator, world.task, world.gate = second


async def test_the_owner_of_two_resources_of_the_same_second_is_the_same_for_every_process(
    world: SimulatedWorld,
) -> None:
    for name in ("b", "c", "a"):
        await world.apply(name, NAMES)
    await world.quiet()
    owner = (await by_age(world))[0]
    assert await world.ready(owner) == ("True", "Issued")
    await world.restart()
    await world.advance(2 * HOUR)
    assert await world.ready(owner) == ("True", "Issued")
    await one_owner(world, 3)


async def test_a_first_certificate_is_requested_with_the_token_of_its_own_resource(world: SimulatedWorld) -> None:
    await put_secret(world, OTHER_TOKEN)
    await world.apply("site", NAMES, tokenSecretRef=REF)
    await world.quiet()
    assert {entry.token for entry in world.emulator.journal.since()} == {
        entry.token for entry in asked(world, "issue", token=OTHER_TOKEN)
    }
    assert seconds_until(world, (await world.status("site"))["expiresAt"]) > 80 * 86400


@pytest.mark.parametrize("then", ["continue", "drop"])
@pytest.mark.parametrize("seconds", [0, 10, 60])
async def test_a_resource_that_is_renamed_during_its_request_causes_one_certificate(
    world: SimulatedWorld, then: str, seconds: float
) -> None:
    """As docs/moving.md says. With Retain, the old resource is gone at once."""
    slow = fails(world, "issue", action="hang", when="before")
    await world.apply("site", NAMES)
    await world.quiet(hanging=1)
    await world.advance(5, hanging=1)
    await world.apply("site", NAMES, deletionPolicy="Retain")
    await world.quiet(hanging=1)
    await world.apply("renamed", NAMES, existingCertificate="Adopt")
    await world.quiet(hanging=1)
    await world.delete("site")
    await world.quiet(hanging=1)
    assert await world.get("site") is None
    await world.advance(seconds, hanging=1)
    slow.release(then)
    await world.quiet()
    await world.advance(HOUR)
    assert len(world.live()) == 1
    assert posts(world, *NAMES) == (1 if then == "continue" else 2)
    assert await world.ready("renamed") == ("True", "Issued")


async def test_a_certificate_made_by_hand_a_moment_ago_is_used(world: SimulatedWorld) -> None:
    """The operator has listed the few certificates of this team a minute ago."""
    await world.apply("other", ["other.example.com"])
    await world.quiet()
    await world.advance(30)
    theirs(world, *NAMES, age=timedelta(seconds=20))
    await world.advance(30)
    await world.apply("site", NAMES)
    await world.quiet()
    assert await held(world) == ["cert_theirs"]
    assert posts(world, *NAMES) == 0


@pytest.mark.parametrize("call", ["issue", "remove"])
@pytest.mark.parametrize("days", [0.1, 30])
async def test_long_after_a_rate_limit_a_certificate_made_by_hand_a_minute_ago_is_used(
    world: SimulatedWorld, call: str, days: float
) -> None:
    """A 429 counted as a rate limit until dozens of calls of that kind had succeeded: in a small account, for years."""
    fails(world, call, status=429, code="rate_limited", headers={"Retry-After": "60"})
    await world.apply("other", ["other.example.com"])
    await world.quiet()
    await world.advance(HOUR)
    await world.annotate("other", "renew", "1")  # a removal too
    await world.quiet()
    await world.advance(days * DAY)
    await world.apply("another", ["another.example.com"])  # a list is made
    await world.quiet()
    await world.advance(10)
    theirs(world, "a.example.com", age=timedelta(), left=90 * DAY)
    await world.advance(60)
    await world.apply("site", ["a.example.com"], existingCertificate="Adopt")
    await world.quiet()
    assert posts(world, "a.example.com") == 0
    assert await held(world) == ["cert_theirs"]


@pytest.mark.parametrize("cns", [NAMES, OTHERS, [*NAMES, *OTHERS]], ids=("the same names", "other names", "more names"))
@pytest.mark.parametrize(
    ("when", "then"), [("after", "drop"), ("before", "drop"), ("after", "continue")], ids=("lost", "never sent", "late")
)
@pytest.mark.parametrize("restart", [False, True])
async def test_a_copy_of_a_resource_with_its_status_during_a_post_does_not_take_the_certificate(
    world: SimulatedWorld, cns: list[str], when: str, then: str, *, restart: bool
) -> None:
    """``kubectl get -o yaml`` under another name, and ``apply --subresource=status``."""
    slow = fails(world, "issue", action="hang", when=when)
    await world.apply("site", NAMES)
    await world.quiet(hanging=1)
    copy = await world.get("site")
    assert copy is not None
    copy["metadata"]["name"] = "copy"
    copy["spec"]["cns"] = cns
    await world.clock.advance(1)
    await created(world, copy, status=copy["status"])
    await world.quiet(hanging=1)
    if restart:
        await world.crash()
        world.start()
    slow.release(then)
    await world.quiet()
    await world.advance(HOUR)
    assert (await world.status("site"))["origin"] == "Issued"
    assert posts(world, *NAMES) == (2 if when == "before" else 1)
    if cns == NAMES:
        assert await world.ready("copy") == ("False", "DuplicateOf")
    else:
        assert (await world.status("copy"))["origin"] == "Issued"
        assert posts(world, *cns) == 1
    await deleted(world, "copy")
    assert list(world.live()) == await held(world)
    await deleted(world)
    assert world.live() == {}


async def test_when_the_original_is_gone_the_copy_resolves_the_attempt(world: SimulatedWorld) -> None:
    """A resource is renamed during a POST, and no operator runs meanwhile."""
    fails(world, "issue", action="hang", when="after")
    await world.apply("site", NAMES)
    await world.quiet(hanging=1)
    [copy] = await cluster_lost(world)
    copy["metadata"]["name"] = "copy"
    await created(world, copy, status=copy["status"])
    world.start()
    await world.advance(HOUR)
    assert await world.ready("copy") == ("True", "Issued")
    assert posts(world) == 1


@pytest.mark.parametrize(
    ("need", "existing"), [("renew", "Reuse"), ("renew", "Ignore"), ("first", "Ignore")], ids=lambda one: one
)
async def test_an_attempt_that_was_open_in_the_backup_is_resolved_by_the_process_that_recorded_its_outcome(
    world: SimulatedWorld, need: str, existing: str
) -> None:
    if need == "renew":
        await world.apply("site", NAMES, existingCertificate=existing)
        await world.quiet()
        await world.advance(HOUR)
    before = posts(world)
    slow = fails(world, "issue", action="hang", when="after")
    if need == "renew":
        await world.annotate("site", "renew", "1")
    else:
        await world.apply("site", NAMES, existingCertificate=existing)
    await world.quiet(hanging=1)
    backup = await world.get("site")
    assert backup is not None
    slow.release("continue")
    await world.quiet()
    issued = (await held(world))[0]
    await world.advance(2 * MINUTE)

    await world.patch("site", {"metadata": {"finalizers": None}})  # its namespace was removed by force
    await world.delete("site")
    await world.quiet()
    await world.advance(10 * MINUTE)
    await created(world, backup, status=backup["status"])
    await world.quiet()
    await world.advance(HOUR)
    assert posts(world) - before == 1
    assert (await held(world))[0] == issued


@pytest.mark.parametrize("behind", [0.0, 2.0, 3600.0])
@pytest.mark.parametrize("lost", [False, True])
async def test_the_original_resolves_its_attempt_although_the_copy_seems_to_be_older(
    world: SimulatedWorld, behind: float, lost: bool
) -> None:
    slow = fails(world, "issue", action="hang", when="after")
    await world.apply("site", NAMES)
    await world.quiet(hanging=1)
    body = await world.get("site")
    assert body is not None
    body["metadata"]["name"] = "copy"
    world.server_clock.offset = -behind
    await created(world, body, status=body["status"])
    await world.quiet(hanging=1)
    await world.advance(5, hanging=1)
    slow.release("drop" if lost else "continue")
    await world.quiet()
    await world.advance(HOUR)
    assert posts(world) == 1
    assert await held(world, "site") == list(world.live())
    assert await held(world, "copy") == []
    assert (await world.status("site"))["origin"] == "Issued"


# --- requests of resources that are gone ------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["continue", "drop"])
async def test_a_released_resource_that_another_finalizer_holds_counts_as_gone(
    world: SimulatedWorld, then: str
) -> None:
    """Such as foregroundDeletion (kubectl delete --cascade=foreground). Two certificates were requested."""
    slow = fails(world, "issue", action="hang", when="after")
    await world.apply("site", NAMES, deletionPolicy="Retain")
    await world.quiet(hanging=1)
    body = await world.get("site")
    assert body is not None
    await world.patch("site", {"metadata": {"finalizers": [*body["metadata"]["finalizers"], "example.com/other"]}})
    await world.quiet(hanging=1)
    await world.delete("site")
    await world.quiet(hanging=1)
    await world.apply("renamed", NAMES, existingCertificate="Adopt")
    await world.quiet(hanging=1)
    await world.advance(5, hanging=1)
    slow.release(then)
    await world.quiet()
    await world.advance(HOUR)
    assert posts(world, *NAMES) == 1
    assert len([cns for cns in world.live().values() if cns == NAMES]) == 1


async def test_what_was_lost_an_hour_ago_does_not_make_forget_what_is_in_flight(world: SimulatedWorld) -> None:
    """Posts._has_failed dropped what it knows of the same resource's request in flight."""
    fails(world, "issue", action="reset", when="before")
    await world.apply("site", NAMES, deletionPolicy="Retain")
    await world.quiet()
    await world.advance(2 * HOUR)
    slow = fails(world, "issue", action="hang", when="before", cns=NAMES)
    await world.annotate("site", "renew", "1")
    await world.quiet(hanging=1)
    await world.advance(1, hanging=1)
    fails(world, "issue", action="reset", when="before", cns=OTHERS)
    await world.apply("b", OTHERS)
    await world.quiet(hanging=1)
    before = posts(world, *NAMES)
    await world.delete("site")
    await world.quiet(hanging=1)
    assert await world.get("site") is None
    await world.apply("renamed", NAMES, existingCertificate="Ignore")
    await world.quiet(hanging=1)
    await world.advance(10, hanging=1)
    during = posts(world, *NAMES)
    slow.release("continue")
    await world.quiet()
    assert during == before, "the answer is still to come"


async def test_after_an_error_in_vercels_format_the_grace_period_is_30_seconds(world: SimulatedWorld) -> None:
    """It was three minutes for the successor of the resource that is gone."""
    fails(world, "issue", status=500, code="internal_server_error")
    await world.apply("site", NAMES, deletionPolicy="Retain")
    await world.quiet()
    await world.delete("site")
    await world.quiet()
    await world.apply("renamed", NAMES)
    await world.quiet()
    await world.advance(40)
    assert await world.ready("renamed") == ("True", "Issued")


@pytest.mark.parametrize("then", ["continue", "drop"])
@pytest.mark.parametrize("lag", [0, 10, 20, 29])
@pytest.mark.parametrize("seconds", [1, 10, 29])
async def test_a_successor_waits_until_the_list_shows_what_came_of_the_request(
    world: SimulatedWorld, then: str, lag: float, seconds: float
) -> None:
    """The successor looks every 30 s. A list that it makes a moment after the answer lacks the certificate."""
    behave(world, list_lag=lag)
    slow = fails(world, "issue", action="hang", when="after" if then == "drop" else "before")
    await world.apply("site", NAMES, deletionPolicy="Retain")
    await world.quiet(hanging=1)
    await world.advance(5, hanging=1)
    await world.delete("site")
    await world.quiet(hanging=1)
    await world.apply("renamed", NAMES, existingCertificate="Adopt")
    await world.quiet(hanging=1)
    await world.advance(seconds, hanging=1)
    slow.release(then)
    await world.quiet()
    await world.advance(HOUR)
    assert await world.ready("renamed") == ("True", "Issued")
    assert posts(world, *NAMES) == 1
