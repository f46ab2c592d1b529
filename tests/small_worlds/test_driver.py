"""The driver of small worlds decides step for step as the real reconciler does."""

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest

from small_worlds import driver
from small_worlds.explore import healthy
from small_worlds.others import FIRST, delete
from small_worlds.steps import next_due, passed
from small_worlds.world import Body, World, changed, new_object, parsed, stored
from small_worlds.worlds import ONE, TWO, begun
from support.memory_api import simulated_world
from vercel_certificate_operator import reconciler
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.known import Decision, Known, Wait
from vercel_certificate_operator.core.resource import RENEW_ANNOTATION

MINUTE, DAY = 60, 86400
LIVES: dict[str, list[Any]] = {
    "created": [("create", "a", ONE), MINUTE],
    "deleted": [("create", "a", ONE), MINUTE, ("delete",), MINUTE],
    "deleted with Retain": [("create", "a", ONE), MINUTE, ("retain",), MINUTE, ("delete",), MINUTE],
    "new names": [("create", "a", ONE), MINUTE, ("names", TWO), 20 * MINUTE],
    "new names and back": [("create", "a", ONE), MINUTE, ("names", TWO), MINUTE, ("names", ONE), 20 * MINUTE],
    "a renewal": [("create", "a", ONE), 62 * DAY],
    "a renewal on request": [("create", "a", ONE), MINUTE, ("renew",), 20 * MINUTE],
    "suspended": [("create", "a", ONE), MINUTE, ("suspend",), 70 * DAY],
    "two with the same names": [("create", "a", ONE), 2, ("create", "b", ONE), MINUTE, ("delete",), 20 * MINUTE],
}

Decided = list[tuple[str, str, str]]


@pytest.mark.parametrize("life", LIVES)
async def test_it_decides_as_the_real_reconciler_does(life: str, monkeypatch: pytest.MonkeyPatch) -> None:
    really, modelled = Decided(), Decided()
    monkeypatch.setattr(reconciler, "decide", recording(really))
    monkeypatch.setattr(driver, "decide", recording(modelled))
    await live(LIVES[life])
    live_in_a_small_world(LIVES[life])
    for name in ("a", "b"):
        assert steps_of(name, modelled) == steps_of(name, really)


def steps_of(name: str, decided: Decided) -> list[tuple[str, str]]:
    """Returns what was decided about one resource. A list that is being made is decided on again when it is there."""
    steps = [(rule, action) for resource, rule, action in decided if resource == name]
    return [step for step, _ in groupby(steps)]


def recording(decided: Decided) -> Callable[[Known], Decision]:
    """Returns ``decide``, which notes what it decides. How often it decides to wait doesn't matter."""

    def decide_and_note(known: Known) -> Decision:
        decision = decide(known)
        if not isinstance(decision.action, Wait):
            decided.append((known.resource.key.name, decision.policy, type(decision.action).__name__))
        return decision

    return decide_and_note


async def live(life: list[Any]) -> None:
    async with simulated_world(drift_interval=1000 * DAY) as world:
        for what in life:
            match what:
                case int(seconds):
                    await world.advance(seconds)
                case ("create", name, cns):
                    await world.apply(name, cns)
                case ("delete",):
                    await world.delete(FIRST)
                case ("names", cns):
                    await world.patch(FIRST, {"spec": {"cns": cns}})
                case ("retain",):
                    await world.patch(FIRST, {"spec": {"deletionPolicy": "Retain"}})
                case ("suspend",):
                    await world.patch(FIRST, {"spec": {"suspend": True}})
                case ("renew",):
                    await world.patch(FIRST, {"metadata": {"annotations": {RENEW_ANNOTATION: "1"}}})
            await world.quiet()


def live_in_a_small_world(life: list[Any]) -> None:
    world = begun(certificates=99)
    for what in life:
        match what:
            case int(seconds):
                world = later(world, seconds)
            case ("create", name, cns):
                world = new_object(world, name, {"cns": cns})
            case ("delete",):
                after = delete(world)
                assert after is not None
                world = after
            case ("names", cns):
                world = with_spec(world, cns=cns)
            case ("retain",):
                world = with_spec(world, deletionPolicy="Retain")
            case ("suspend",):
                world = with_spec(world, suspend=True)
            case ("renew",):
                world = stored(world, FIRST, changed(parsed(world.objects[FIRST]), annotations={RENEW_ANNOTATION: "1"}))
        world = quiet(world)


def with_spec(world: World, **fields: Any) -> World:
    body: Body = parsed(world.objects[FIRST])
    return stored(world, FIRST, {**body, "spec": {**body["spec"], **fields}})


def later(world: World, seconds: int) -> World:
    end = world.tick + seconds
    while (to := next_due(world)) is not None and to <= end:
        world = quiet(passed(world, to))
    return replace(world, tick=end)


def quiet(world: World) -> World:
    """Returns the world once nothing is left to do at this time. There is no drift watch in these lives."""
    while (after := healthy(world)) is not None:
        world = after
    never = tuple(replace(process, drift_at=world.tick + 10**9) for process in world.processes)
    return replace(world, processes=never)
