"""Certificates that may be someone else's: of another scope, of unknown age, or set back by an hour."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from reported.acts import behave, deleted, fails, held, posts, theirs
from support.acting import DAY, HOUR, MINUTE, put_secret
from support.memory_api import SimulatedWorld
from support.world import OTHER_TOKEN

NAMES, OTHER = ["a.example.com"], ["other.example.com"]
BY_ID, BY_SLUG = {"team": {"id": "team_alpha"}}, {"team": {"slug": "alpha"}}
BY_SECRET = {"tokenSecretRef": {"name": "vercel", "key": "token"}}


@pytest.mark.parametrize("end", ["deleted", "deleted, then a restart", "other names"])
@pytest.mark.parametrize(
    ("mine", "other", "scope"),
    [({}, {}, ""), (BY_ID, BY_SLUG, "team_alpha"), ({}, BY_SECRET, "")],
    ids=["the same scope", "a team by id and by slug", "two tokens of one account"],
)
async def test_what_another_resource_leaves_at_vercel_is_no_renewal(
    world: SimulatedWorld, mine: Mapping[str, Any], other: Mapping[str, Any], scope: str, end: str
) -> None:
    """A colleague's certificate, adopted by the other resource, with the same names and in the right half of a life."""
    behave(world, lifetime=30 * DAY)
    await put_secret(world, OTHER_TOKEN)
    await world.apply("mine", NAMES, **mine)
    await world.quiet()
    await world.advance(16 * DAY)
    theirs(world, *NAMES, age=timedelta(), left=30 * DAY, **({"scope": scope} if scope else {}))
    adopts = {"vercel-operator.io/adopt-id": "cert_theirs"}
    await world.apply("other", NAMES, annotations=adopts, deletionPolicy="Retain", **other)
    await world.quiet()
    assert await held(world, "other") == ["cert_theirs"]
    await world.advance(DAY)  # the lists show it meanwhile
    if end == "other names":
        await world.apply("other", OTHER, deletionPolicy="Retain", **other)
    else:
        await world.delete("other")
    await world.quiet()
    await world.advance(HOUR)
    if "restart" in end:
        await world.restart()
    await world.advance(DAY)
    assert "cert_theirs" not in await held(world, "mine")
    await world.delete("mine")
    await world.advance(HOUR)
    assert await world.get("mine") is None
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize("why", ["the operator is down", "lists fail"])
async def test_what_a_colleague_issues_an_hour_after_a_lost_request_is_not_removed(
    world: SimulatedWorld, why: str
) -> None:
    """The issuer sets its time of creation back by an hour: into the time of the request, which never arrived."""
    fails(world, "issue", action="reset", when="before")
    await world.apply("site", NAMES)
    await world.quiet()
    if why == "lists fail":
        down = fails(world, "list", times=None, status=500)
        await world.advance(HOUR + MINUTE)
    else:
        await world.crash()
        await world.clock.advance((HOUR + MINUTE).total_seconds())
    theirs(world, *NAMES, age=HOUR, left=89 * DAY)
    if why == "lists fail":
        world.emulator.faults.remove(down.id, "continue")
    else:
        world.start()
    await world.advance(DAY)
    assert posts(world) == 1
    assert await held(world) == ["cert_theirs"]
    await deleted(world)
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize(
    "get",
    [
        pytest.param({"status": 500}, id="fails"),
        pytest.param({"status": 429, "code": "rate_limited", "headers": {"Retry-After": "10"}}, id="is limited"),
        pytest.param({"action": "answer", "omit": ["createdAt"]}, id="lacks it too"),
        pytest.param(None, id="works"),
    ],
)
async def test_an_answer_of_unknown_age_is_not_removed(world: SimulatedWorld, get: dict[str, Any] | None) -> None:
    """It is a colleague's, two minutes old, and Vercel's lists don't show it yet."""
    behave(world, list_lag="5m", reissue="old")
    answer = world.emulator.state.issue(NAMES)
    await world.clock.advance(120)
    fails(world, "issue", None, action="answer", omit=["createdAt"])
    if get is not None:
        fails(world, "get", 1, **get)
    await world.apply("site", NAMES)
    await world.quiet()
    await world.advance(HOUR)
    assert await held(world) == [answer.id]
    await deleted(world)
    assert answer.id in world.live()
