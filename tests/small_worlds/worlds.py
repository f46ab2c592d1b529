"""The small worlds that are explored."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from small_worlds.driver import started
from small_worlds.explore import healthy
from small_worlds.promises import is_good
from small_worlds.steps import next_due, passed
from small_worlds.world import Budget, Process, World, new_object, resource_of, tick_of

ONE, TWO = ["example.com"], ["example.com", "www.example.com"]
Spec = dict[str, Any]


def begun(*specs: Spec, processes: int = 1, **budget: int) -> World:
    """Returns a world in which resources have just been created and processes have just been started."""
    world = World(processes=(Process(),) * processes)
    for name, spec in zip("ab", specs, strict=False):
        world = new_object(world, name, spec)
    for number in range(processes):
        world = started(world, number)
    return replace(world, budget=Budget(**budget))


def requesting(*specs: Spec, **budget: int) -> World:
    """Returns a world in which the first POST has just been sent."""
    world = begun(*specs, certificates=99)
    while not world.posts:
        world = _goes_well(world)
    return replace(world, budget=Budget(**budget))


def renewing(*specs: Spec, processes: int = 1, **budget: int) -> World:
    """Returns a world in which everything is Ready, and a renewal is the next thing that is due."""
    world = begun(*specs, certificates=99)
    while healthy(world) is not None or not is_good(world):
        world = _goes_well(world)
    due = min(tick_of(time) for time in map(_renewal_time, world.objects.values()) if time is not None)
    while healthy(world) is not None or ((to := next_due(world)) is not None and to < due):
        world = _goes_well(world)
    world = replace(world, processes=(*world.processes, *(Process(),) * (processes - 1)))
    for number in range(1, processes):
        world = started(world, number)
    return replace(world, budget=Budget(**budget))


def _goes_well(world: World) -> World:
    """Returns the world one step later, if nothing goes wrong."""
    after = healthy(world)
    if after is None:
        to = next_due(world)
        assert to is not None
        after = passed(world, to)
    return after


def _renewal_time(text: str) -> Any:
    return resource_of(text).status.renewal_time


_SAME = ({"cns": ONE}, {"cns": ONE})
_OVERLAPPING = ({"cns": ONE}, {"cns": TWO})
_PERHAPS_THE_SAME_TEAM = ({"cns": ONE, "team": {"id": "team_1"}}, {"cns": ONE, "team": {"slug": "acme"}})
_KEPT = ({"cns": ONE, "existingCertificate": "Adopt"}, {"cns": ONE, "deletionPolicy": "Retain"})

WORLDS: dict[str, Callable[[], World]] = {
    "one resource": partial(begun, {"cns": ONE}, faults=2, others=1, clocks=1),
    "the same names": partial(begun, *_SAME, faults=1, others=1, clocks=1),
    "overlapping names": partial(begun, *_OVERLAPPING, faults=1, others=1, clocks=1),
    "perhaps the same team": partial(begun, *_PERHAPS_THE_SAME_TEAM, faults=1, others=1),
    "Adopt and Retain": partial(begun, *_KEPT, faults=1, others=1),
    "a request": partial(requesting, {"cns": ONE}, faults=2, others=1),
    "a request, and the same names": partial(requesting, *_SAME, faults=1, others=1),
    "a request, and overlapping names": partial(requesting, *_OVERLAPPING, faults=1, others=1),
    "a renewal": partial(renewing, {"cns": ONE}, faults=2, others=1, clocks=1),
    "a renewal, and the same names": partial(renewing, *_SAME, faults=1, others=1),
    "two operators": partial(begun, {"cns": ONE}, processes=2, faults=1, others=1),
    "two operators and a renewal": partial(renewing, {"cns": ONE}, processes=2, faults=1, others=1),
}
"""By name. Each has a budget of what may go wrong."""
