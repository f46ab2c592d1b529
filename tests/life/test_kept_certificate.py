"""A certificate that a deleted resource left at Vercel, a moment after it was issued."""

import pytest

from support.acting import REF, put_secret
from support.world import OTHER_TOKEN, TOKEN, World
from vercel_certificate_operator.core.certificate import Scope
from vercel_emulator import Fault

TEAM = {"id": "team_alpha"}


@pytest.mark.parametrize("token", [TOKEN, OTHER_TOKEN], ids=["same token", "another token of the team"])
async def test_a_certificate_that_was_kept_a_minute_ago_is_used_again(world: World, token: str) -> None:
    """Also if the newest list was begun before the certificate was issued."""
    await world.apply("other", ["other.example.com"], team=TEAM, tokenSecretRef=REF)
    await put_secret(world, token)
    await world.quiet()
    await world.apply("old", ["example.com"], team=TEAM, deletionPolicy="Retain")
    await world.quiet()
    kept = (await world.status("old"))["id"]
    await world.delete("old")
    await world.quiet()

    await world.apply("new", ["example.com"], team=TEAM, tokenSecretRef=REF)
    await world.quiet()

    assert await world.ready("new") == ("True", "Issued")
    assert ((await world.status("new"))["id"], (await world.status("new"))["origin"]) == (kept, "Found")


async def test_a_certificate_that_was_kept_is_not_taken_for_a_lost_answer(world: World) -> None:
    """It would count as issued for the new resource, and be removed with it."""
    await world.apply("old", ["example.com"], deletionPolicy="Retain")
    await world.quiet()
    kept = (await world.status("old"))["id"]
    await world.delete("old")
    await world.quiet()

    world.emulator.faults.add(Fault(call="issue", action="reset", times=None))
    await world.apply("new", ["example.com"], existingCertificate="Ignore")
    await world.advance(5)
    await world.delete("new")
    await world.advance(600)

    assert kept in world.live()


async def test_what_was_issued_is_remembered_for_an_hour_only(world: World) -> None:
    assert world.operator is not None
    posts, names = world.operator.reconciler.posts, frozenset({"example.com"})
    await world.apply("old", ["example.com"])
    await world.quiet()
    assert len(posts.issued_since(names, Scope(), None, 0.0)) == 1

    await world.advance(3601)
    await world.apply("other", ["other.example.com"])
    await world.quiet()

    assert posts.issued_since(names, Scope(), None, 0.0) == []
