"""How many requests each phase in the life of 50 certificates takes: exactly."""

from costs.requests import Requests
from support.acting import DAY, HOUR, create_many, statuses
from support.memory_api import SimulatedWorld
from vercel_emulator.models import Behaviour

COUNT = 50


async def test_each_phase_takes_exactly_these_requests(world: SimulatedWorld) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=9 * DAY)
    create = Requests(world)
    names = await create_many(world, COUNT)
    await world.quiet()
    assert create.of_kubernetes == {"PATCH vercelcertificates": COUNT, "PATCH status": 2 * COUNT}
    assert create.of_vercel == {"list": 1, "issue": COUNT}

    start = Requests(world)
    await world.restart()
    assert (start.of_kubernetes, start.of_vercel) == ({}, {})

    idle = Requests(world)
    await world.advance(DAY)
    assert (idle.of_kubernetes, idle.of_vercel) == ({}, {"list": 4})

    changed = Requests(world)
    for number, name in enumerate(names):
        await world.apply(name, [f"s{number}.example.com", f"w{number}.example.com"])
    await world.quiet()
    assert (changed.of_kubernetes, changed.of_vercel) == ({"PATCH status": 2 * COUNT}, {"list": 1, "issue": COUNT})

    replaced = Requests(world)
    await world.advance(HOUR)
    assert (replaced.of_kubernetes, replaced.of_vercel) == ({"PATCH status": COUNT}, {"remove": COUNT})

    before = {name: status["id"] for name, status in (await statuses(world)).items()}
    renewed = Requests(world)
    await world.advance(7 * DAY)
    assert not set(before.values()) & {status["id"] for status in (await statuses(world)).values()}
    assert renewed.of_kubernetes == {"PATCH status": 3 * COUNT}
    lists = renewed.of_vercel["list"]
    assert renewed.of_vercel == {"get": COUNT, "issue": COUNT, "remove": COUNT, "list": lists}
    assert lists <= 4 * 7 + COUNT, "one every six hours, and one for each renewal that comes alone"

    deleted = Requests(world)
    for name in names:
        await world.delete(name)
    await world.quiet()
    assert (deleted.of_kubernetes, deleted.of_vercel) == ({"PATCH vercelcertificates": COUNT}, {"remove": COUNT})
