"""Resources that are created again without their status: from a backup (Velero's default), from Git, by the hundred."""

import asyncio
from typing import Any

import pytest

from faults.stage import CHANGE, HOUR, MINUTE, NAME, OLD, RENEWAL, Stage
from support.acting import by_age, create_many, notes, reasons, statuses
from support.invariants import check
from support.world import World
from vercel_certificate_operator.core.resource import GROUP, PLURAL, VERSION
from vercel_emulator.models import Fault

COUNT = 20
PAIRS = 60
MANY = 7
"""Less than the calls at a time with one token."""


async def restore(world: World, bodies: list[dict[str, Any]]) -> None:
    """As Velero does: the objects as they were, finalizers and annotations included, but no status."""
    for body in bodies:
        metadata = body["metadata"]
        kept = {
            field: metadata[field] for field in ("name", "annotations", "labels", "finalizers") if field in metadata
        }
        manifest = {**body, "metadata": {**kept, "namespace": world.namespace}}
        del manifest["status"]
        world.acts.append(world.emulator.journal.last)
        await world.custom.create_namespaced_custom_object(GROUP, VERSION, world.namespace, PLURAL, manifest)


async def lose(world: World, bodies: list[dict[str, Any]]) -> None:
    """The cluster is gone: nothing is removed at Vercel."""
    await world.crash()
    for body in bodies:
        await world.patch(body["metadata"]["name"], {"metadata": {"finalizers": None}})
        await world.delete(body["metadata"]["name"])


@pytest.mark.parametrize("adopts", [False, True], ids=["reused", "adopted"])
async def test_resources_restored_without_status_use_the_certificates_that_they_had(stage: Stage, adopts: bool) -> None:
    world = stage.world
    world.configure(default_token_namespaces=(world.namespace,))
    names = await create_many(world, COUNT, **({"existingCertificate": "Adopt"} if adopts else {}))
    await world.quiet()
    before = {name: status["id"] for name, status in (await statuses(world)).items()}
    bodies = await world.all()
    await lose(world, bodies)
    world.start()
    await world.quiet()
    await world.advance(HOUR)
    since = world.emulator.journal.last

    await restore(world, bodies)
    await world.quiet()
    after = await statuses(world)
    assert {name: status["id"] for name, status in after.items()} == before
    assert {status["origin"] for status in after.values()} == {"Adopted" if adopts else "Found"}
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}
    assert sorted(set(world.calls(since))) == ["get", "list"], "nothing is issued"
    assert world.calls(since).count("list") == 1

    for name in names:
        await world.delete(name)
    await world.quiet()
    assert await world.all() == []
    assert sorted(world.live()) == ([] if adopts else sorted(before.values())), "what was found is never removed"
    if not adopts:
        for name in names:
            [note] = await notes(world, name, "Deleted")
            assert f"Left at Vercel: {before[name]}" in note


@pytest.mark.parametrize("scenario", [pytest.param(scenario, id=scenario.name) for scenario in (RENEWAL, CHANGE)])
async def test_a_resource_restored_without_status_while_it_was_in_the_middle_of_something(
    stage: Stage, scenario: Any
) -> None:
    world = stage.world
    await scenario.prepare(world)
    bodies = await world.all()
    await lose(world, bodies)
    await restore(world, bodies)
    world.start()
    await world.quiet()
    await world.advance(HOUR)
    assert await world.ready(NAME) == ("True", "Issued")
    assert (await world.status(NAME))["cns"] == OLD
    assert world.emulator.journal.counts["issue"] <= scenario.issues
    await check(world, forgotten=1)  # the old one is nobody's now, and older than the resource


async def test_certificates_that_are_issued_while_a_list_is_made_are_not_missing(stage: Stage) -> None:
    """A list takes a while in a large account. What was issued meanwhile isn't in it, and has not vanished."""
    world = stage.world
    faults = world.emulator.faults
    await world.apply("first", ["first.example.com"])
    await world.quiet()
    issuing = faults.add(Fault(call="issue", action="hang", times=MANY))
    names = await create_many(world, MANY)
    await world.quiet(hanging=MANY)
    await world.advance(11 * MINUTE, hanging=MANY)
    listing = faults.add(Fault(call="list", action="hang", when="after"))
    await world.apply("last", ["last.example.com"])
    await world.quiet(hanging=MANY + 1)
    await listing.wait(within=30)
    await world.clock.advance(1)
    faults.remove(issuing.id)
    await world.quiet(hanging=1)
    assert len(world.live()) == 1 + MANY
    faults.remove(listing.id)
    await world.quiet()
    for number, name in enumerate(names):  # for which this list is still young enough
        await world.apply(name, [f"s{number}.example.com", f"www.s{number}.example.com"])
    await world.quiet()
    assert set((await reasons(world, "Issuing")).values()) == {"Issued"}
    assert len(world.live()) == 2 + 2 * MANY


async def create_pairs(world: World) -> None:
    """Two resources for each set of names, all at once."""
    bodies = [
        {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "VercelCertificate",
            "metadata": {"name": f"{name}-{number}", "namespace": world.namespace},
            "spec": {"cns": [f"s{number}.example.com", "*.example.com"]},
        }
        for number in range(PAIRS)
        for name in ("one", "other")
    ]
    create = world.custom.create_namespaced_custom_object
    await asyncio.gather(*(create(GROUP, VERSION, world.namespace, PLURAL, body) for body in bodies))


async def test_sixty_pairs_with_the_same_names_get_sixty_certificates(stage: Stage) -> None:
    world = stage.world
    creating = asyncio.ensure_future(create_pairs(world))
    while not creating.done():
        await world.sync()  # the operator sees them come
        await asyncio.sleep(0)
    await creating
    await world.quiet()
    assert world.emulator.journal.counts["issue"] == len(world.live()) == PAIRS
    found = await reasons(world, "Ready")
    assert sorted(found.values()) == ["DuplicateOf"] * PAIRS + ["Issued"] * PAIRS

    owners = [name for name in await by_age(world) if found[name] == "Issued"]
    for name in owners[: PAIRS // 2]:
        await world.delete(name)
    await world.quiet()
    await world.advance(HOUR)
    seq = world.emulator.journal.last
    await world.advance(10 * MINUTE)
    await check(world, quiet_since_seq=seq)
    assert len(world.live()) == PAIRS
    assert world.emulator.journal.counts["issue"] == PAIRS + PAIRS // 2, "the next in line takes over"
