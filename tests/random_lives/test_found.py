"""What random lives and small worlds have found, each in a user's words and in the fewest steps."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.acting import notes
from support.memory_api import SimulatedWorld, simulated_world
from vercel_emulator.models import Behaviour, Fault

DRIFT = 86400.0
HOUR = 3600.0


@pytest.fixture
async def world() -> AsyncIterator[SimulatedWorld]:
    async with simulated_world(drift_interval=DRIFT, default_token_namespaces=("web",)) as made:
        yield made


def behave(world: SimulatedWorld, **switches: Any) -> None:
    """Change the emulator's switches."""
    state = world.emulator.state
    state.behaviour = Behaviour.model_validate(state.behaviour.to_json() | switches)


async def test_a_late_certificate_of_a_young_resource_is_reported_although_the_issuer_set_its_time_back(
    world: SimulatedWorld,
) -> None:
    """The issuer sets the creation time back by an hour: before the resource's own creation."""
    behave(world, backdate=HOUR)
    hang = world.emulator.faults.add(Fault.model_validate({"call": "issue", "action": "hang"}))
    await world.apply("site", ["example.com"])
    await world.quiet(hanging=1)
    await world.crash()
    world.start()
    await world.quiet()
    await world.advance(HOUR)  # the attempt is lost, and the next one brings a certificate
    hang.release("continue")  # only now does Vercel carry out the first request
    await world.advance(2 * DRIFT)

    late = next(iter(set(world.live()) - {(await world.status("site"))["id"]}))
    assert [late in note for note in await notes(world, "site", "OrphanedCertificate")] == [True]


async def test_a_restart_during_an_attempt_does_not_end_the_detection_of_drift(world: SimulatedWorld) -> None:
    """The first thing that the new process does in the scope is to search for the attempt in a list."""
    world.emulator.faults.add(Fault.model_validate({"call": "issue", "action": "hang"}))
    await world.apply("site", ["example.com"])
    await world.quiet(hanging=1)
    await world.crash()
    world.emulator.faults.clear("drop")
    world.start()
    await world.quiet()
    await world.advance(HOUR)
    lists = world.calls().count("list")
    await world.advance(2 * DRIFT)
    assert world.calls().count("list") - lists == 2


async def test_a_replaced_certificate_that_is_not_found_is_reported(world: SimulatedWorld) -> None:
    """It may be in another account, whose token was replaced: then it stays there, and somebody should know."""
    await world.apply("site", ["example.com"])
    await world.quiet()
    first = (await world.status("site"))["id"]
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    world.emulator.state.vanish(first)
    await world.advance(HOUR)
    assert (await world.status("site")).get("superseded") is None
    assert await notes(world, "site", "Deleted") == [f"Not found with the default token: {first}, which was replaced."]


async def test_nobody_uses_a_certificate_that_is_being_removed(world: SimulatedWorld) -> None:
    """A resource is deleted during its POST, and another controller holds it. A second one has the same names."""
    posting = world.emulator.faults.add(Fault.model_validate({"call": "issue", "action": "hang", "when": "after"}))
    removing = world.emulator.faults.add(Fault.model_validate({"call": "remove", "action": "hang"}))
    await world.apply("first", ["example.com"])
    await world.quiet(hanging=1)
    await world.advance(660.0, hanging=1)  # by now, everyone makes a list of their own
    await world.patch("first", {"metadata": {"finalizers": ["example.com/other"]}})
    await world.delete("first")
    posting.release("continue")
    await world.quiet(hanging=1)
    assert removing.hanging == 1
    await world.apply("second", ["example.com"])
    await world.quiet(hanging=1)
    removing.release("continue")
    await world.quiet()
    assert await world.ready("second") == ("True", "Issued")
    assert (await world.status("second"))["id"] in world.live()
