"""The driver of small worlds decides step for step as the real reconciler does."""

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest

from small_worlds import driver
from small_worlds.driver import Driver
from small_worlds.explore import healthy
from small_worlds.others import FIRST, delete
from small_worlds.steps import LOST, crashed, issued, next_due, passed
from small_worlds.world import Body, World, changed, new_object, parsed, stored
from small_worlds.worlds import ONE, TWO, begun
from support.memory_api import simulated_world
from vercel_certificate_operator import reconciler
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.failures import Failure, Fate
from vercel_certificate_operator.core.known import Decision, Known, Wait
from vercel_certificate_operator.core.resource import RENEW_ANNOTATION
from vercel_emulator.models import Fault

MINUTE, DAY = 60, 86400
UNPAID = Failure(Fate.REFUSED, "payment required", 402, "payment_required")
LIVES: dict[str, list[Any]] = {
    "created": [("create", "a", ONE), MINUTE],
    "deleted": [("create", "a", ONE), MINUTE, ("delete",), MINUTE],
    "deleted with Retain": [("create", "a", ONE), MINUTE, ("retain",), MINUTE, ("delete",), MINUTE],
    "new names": [("create", "a", ONE), MINUTE, ("names", TWO), 20 * MINUTE],
    "new names and back": [("create", "a", ONE), MINUTE, ("names", TWO), MINUTE, ("names", ONE), 20 * MINUTE],
    "a renewal": [("create", "a", ONE), 62 * DAY],
    "a renewal on request": [("create", "a", ONE), MINUTE, ("renew",), 20 * MINUTE],
    "suspended": [("create", "a", ONE), MINUTE, ("suspend",), 70 * DAY],
    "an answer that is lost": [("lose the answer",), ("create", "a", ONE), 10 * MINUTE],
    "a crash after that": [("lose the answer",), ("create", "a", ONE), ("crash",), 10 * MINUTE],
    "a deletion after that": [("lose the answer",), ("create", "a", ONE), ("delete",), 10 * MINUTE],
    "a refusal": [("refuse",), ("create", "a", ONE), 3 * 3600],
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
                case ("lose the answer",):
                    world.emulator.faults.add(Fault(call="issue", action="reset", when="after"))
                case ("refuse",):
                    world.emulator.faults.add(Fault(call="issue", status=402))
                case ("crash",):
                    await world.restart()
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
    world, trouble = begun(certificates=99), None
    for what in life:
        match what:
            case int(seconds):
                world = later(world, seconds)
            case ("lose the answer",):
                trouble = LOST
            case ("refuse",):
                trouble = UNPAID
            case ("crash",):
                world = crashed(world, 0)
            case _:
                world = acted(world, what)
        if trouble is not None and world.objects:
            world, trouble = failed(world, trouble), None
        world = quiet(world)


def acted(world: World, what: Any) -> World:
    """Returns the world after a user did something."""
    if what[0] == "create":
        return new_object(world, what[1], {"cns": what[2]})
    if what[0] == "delete":
        after = delete(world)
        assert after is not None
        return after
    body: Body = parsed(world.objects[FIRST])
    if what[0] == "renew":
        return stored(world, FIRST, changed(body, annotations={RENEW_ANNOTATION: "1"}))
    fields = {"names": {"cns": what[-1]}, "retain": {"deletionPolicy": "Retain"}, "suspend": {"suspend": True}}
    return stored(world, FIRST, {**body, "spec": {**body["spec"], **fields[what[0]]}})


def failed(world: World, failure: Failure) -> World:
    """Returns the world in which a POST has failed. Only if its answer was lost, it is carried out."""
    while not world.posts:
        world = step(world)
    if failure is LOST:
        world = issued(world, world.posts[0])
    return Driver(replace(world, posts=()), 0).answered(world.posts[0], None, failure)


def step(world: World) -> World:
    after = healthy(world)
    assert after is not None
    return after


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
