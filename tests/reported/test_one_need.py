"""One need, one certificate: whoever else wants the same names, and whatever became of the record."""

import asyncio
from typing import Any

import pytest

from reported.acts import behave
from support.acting import DAY, HOUR, MINUTE, asked, notes, put_secret, remove_secret
from support.invariants import ids
from support.memory_api import ApiFault, SimulatedWorld, memory_api_of
from support.world import OTHER_TOKEN
from vercel_emulator.models import Behaviour, Fault, TokenGrant

NAMES = ["a.example.com"]


async def two_secrets(world: SimulatedWorld) -> None:
    """An owner and a duplicate whose Secrets hold the same token."""
    await put_secret(world, OTHER_TOKEN, name="t1")
    await put_secret(world, OTHER_TOKEN, name="t2")
    await world.apply("one", NAMES, tokenSecretRef={"name": "t1"})
    await world.quiet()
    await world.advance(5)
    await world.apply("two", NAMES, tokenSecretRef={"name": "t2"})
    await world.quiet()
    assert await world.ready("two") == ("False", "DuplicateOf")
    assert len(asked(world, "issue")) == 1


@pytest.mark.parametrize("spec", [{}, {"team": {"id": "team_alpha"}}])
async def test_two_resources_created_at_the_same_moment_get_one_certificate(
    world: SimulatedWorld, spec: dict[str, Any]
) -> None:
    for number in range(10):
        names = [f"s{number}.example.com"]
        await asyncio.gather(*(world.apply(f"{side}{number}", names, **spec) for side in ("left", "right")))
    await world.quiet()
    await world.advance(DAY)
    assert len(asked(world, "issue")) == 10


async def test_a_token_that_is_rotated_in_one_secret_after_the_other_issues_nothing(world: SimulatedWorld) -> None:
    await two_secrets(world)
    world.emulator.accounts.grant(TokenGrant(token="rotated-token-0123456789"))
    await put_secret(world, "rotated-token-0123456789", name="t1")
    await world.advance(2 * HOUR)
    await world.annotate("two", "note", "x")
    await world.advance(MINUTE)
    await put_secret(world, "rotated-token-0123456789", name="t2")
    await world.advance(2 * HOUR)
    assert len(asked(world, "issue")) == 1


async def test_an_owner_whose_secret_is_gone_for_a_moment_stays_the_owner(world: SimulatedWorld) -> None:
    await two_secrets(world)
    await world.advance(2 * MINUTE)
    await remove_secret(world, "t1")
    await world.annotate("two", "note", "x")
    await world.advance(2 * HOUR)
    await put_secret(world, OTHER_TOKEN, name="t1")
    await world.advance(2 * HOUR)
    assert len(asked(world, "issue")) == 1


async def test_an_older_resource_whose_secret_comes_later_uses_no_certificate_of_its_own(
    world: SimulatedWorld,
) -> None:
    await put_secret(world, OTHER_TOKEN, name="t2")
    await world.apply("one", NAMES, tokenSecretRef={"name": "t1"})
    await world.advance(2)
    await world.apply("two", NAMES, tokenSecretRef={"name": "t2"})
    await world.quiet()
    await put_secret(world, OTHER_TOKEN, name="t1")
    await world.advance(DAY)
    assert len(asked(world, "issue")) == 1
    assert await world.ready("two") == ("True", "Issued")


async def test_an_older_resource_that_changes_to_the_names_of_a_younger_one_does_not_take_over(
    world: SimulatedWorld,
) -> None:
    behave(world, lifetime=9 * DAY)
    await world.apply("old", ["x.example.com"])
    await world.advance(10)
    await world.apply("young", NAMES)
    await world.quiet()
    await world.apply("old", NAMES)
    await world.advance(DAY)
    assert [entry.cns for entry in asked(world, "issue")].count(NAMES) == 1
    await world.advance(9.5 * DAY)
    assert await world.ready("young") == ("True", "Issued")


@pytest.mark.parametrize("how", ["suspended", "held by another finalizer"])
async def test_a_resource_without_a_certificate_blocks_nobody(world: SimulatedWorld, how: str) -> None:
    if how == "suspended":
        await world.apply("one", NAMES, suspend=True)
        await world.quiet()
    else:
        await world.apply("one", NAMES)
        await world.quiet()
        body = await world.get("one")
        assert body is not None
        finalizers = [*body["metadata"]["finalizers"], "example.com/other"]
        await world.patch("one", {"metadata": {"finalizers": finalizers}})
        await world.delete("one")
        await world.quiet()
        assert world.live() == {}
    await world.advance(5)
    await world.apply("two", NAMES)
    await world.advance(DAY)
    assert await world.ready("two") == ("True", "Issued")


async def test_a_renewal_by_vercel_while_the_operator_was_down_is_found(world: SimulatedWorld) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=9 * DAY, renewal="new-id", renew_before=3 * DAY)
    await world.apply("site", NAMES, renewBefore="4176m")
    await world.quiet()
    await world.advance(5.9 * DAY)
    await world.crash()
    await world.clock.advance(0.3 * 86400.0)
    world.emulator.state.settle()
    await world.restart()
    await world.advance(2 * DAY)
    body = await world.get("site")
    assert body is not None
    assert set(world.live()) == set(ids(body))
    assert len(asked(world, "issue")) == 1


@pytest.mark.parametrize("restored", ["without status", "with status", "from Git"])
async def test_a_restored_cluster_issues_nothing_again(world: SimulatedWorld, restored: str) -> None:
    for number in range(3):
        await world.apply(f"site-{number}", [f"s{number}.example.com"])
    await world.quiet()
    before = {body["metadata"]["name"]: body["status"] for body in await world.all()}
    await world.crash()
    for name in before:
        await world.patch(name, {"metadata": {"finalizers": None}})
        await world.delete(name)
    await world.clock.advance(86400.0)
    world.start()
    for number in range(3):
        await world.apply(f"site-{number}", [f"s{number}.example.com"])
        if restored == "with status":
            await world.patch_status(f"site-{number}", before[f"site-{number}"])
    await world.quiet()
    await world.advance(DAY)
    assert len(asked(world, "issue")) == 3
    after = {body["metadata"]["name"]: body["status"] for body in await world.all()}
    assert {name: status["id"] for name, status in after.items()} == {n: s["id"] for n, s in before.items()}
    origins = {status["origin"] for status in after.values()}
    assert origins == ({"Issued"} if restored == "with status" else {"Found"})


@pytest.mark.parametrize("killed", [False, True])
async def test_a_manifest_that_replaces_annotations_and_finalizers_during_a_post_loses_nothing(
    world: SimulatedWorld, killed: bool
) -> None:
    """kubectl replace, or Argo CD with Replace=true, while the answer to the POST is lost."""
    hang = world.emulator.faults.add(Fault.model_validate({"call": "issue", "action": "hang", "when": "after"}))
    await world.apply("site", NAMES)
    await world.quiet(hanging=1)
    await world.patch("site", {"metadata": {"annotations": None, "finalizers": None}})
    if killed:
        await world.crash()
    hang.release("drop")
    if killed:
        world.start()
    await world.quiet()
    await world.advance(HOUR)
    assert len(asked(world, "issue")) == 1
    assert await world.ready("site") == ("True", "Issued")
    assert len(world.live()) == 1


async def test_a_lost_answer_is_found_although_the_issuer_set_the_time_back(world: SimulatedWorld) -> None:
    world.emulator.state.behaviour = Behaviour.model_validate({"backdate": "1h"})
    world.emulator.faults.add(Fault.model_validate({"call": "issue", "action": "reset", "when": "after"}))
    await world.apply("site", NAMES)
    await world.quiet()
    await world.advance(HOUR)
    assert len(asked(world, "issue")) == 1
    assert await world.ready("site") == ("True", "Issued")


async def test_a_status_write_whose_answer_is_lost_publishes_its_event_and_is_over(world: SimulatedWorld) -> None:
    hang = world.emulator.faults.add(Fault.model_validate({"call": "issue", "action": "hang"}))
    await world.apply("site", NAMES)
    await world.quiet(hanging=1)
    memory_api_of(world).faults.append(ApiFault("PATCH", done=True))
    hang.release("continue")
    await world.quiet()
    await world.advance(MINUTE)
    assert await world.ready("site") == ("True", "Issued")
    assert len(await notes(world, "site", "Issued")) == 1
    await world.advance(30 * DAY)
    await world.patch("site", {"metadata": {"finalizers": None}})
    await world.delete("site")
    await world.advance(MINUTE)
    assert len(world.live()) == 1, "whoever strips the finalizer keeps the certificate"


async def test_a_copy_of_a_status_does_not_leave_a_certificate_behind(world: SimulatedWorld) -> None:
    await world.apply("one", NAMES)
    await world.quiet()
    await world.apply("copy", NAMES, suspend=True)
    await world.quiet()
    await world.patch_status("copy", await world.status("one"))
    await world.apply("copy", NAMES, suspend=False)
    await world.quiet()
    await asyncio.gather(world.delete("one"), world.delete("copy"))
    await world.advance(HOUR)
    assert await world.all() == []
    assert world.live() == {}


async def test_a_token_that_is_missing_for_seconds_at_a_start_releases_nothing(world: SimulatedWorld) -> None:
    """The resource was deleted an hour ago, while the operator was down."""
    await put_secret(world, OTHER_TOKEN, name="t1")
    await world.apply("site", NAMES, tokenSecretRef={"name": "t1"})
    await world.quiet()
    await world.crash()
    await remove_secret(world, "t1")
    await world.delete("site")
    await world.clock.advance(2 * 3600.0)
    world.start()
    await world.quiet()
    await world.advance(3)
    await put_secret(world, OTHER_TOKEN, name="t1")
    await world.advance(2 * MINUTE)
    assert await world.all() == []
    assert world.live() == {}
