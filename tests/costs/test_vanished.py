"""What it costs to wait for a user's answer."""

from support.acting import DAY, HOUR, asked, create_many, reasons
from support.memory_api import SimulatedWorld


async def test_a_scope_that_stays_vanished_for_weeks_is_listed_less_and_less_often(world: SimulatedWorld) -> None:
    """Ten resources listed it every hour: in the long run, one of them alone made 1,500 lists in nine weeks."""
    await create_many(world, 10)
    await world.quiet()
    for certificate in list(world.emulator.state.live()):
        world.emulator.state.vanish(certificate.id)
    await world.advance(DAY)
    assert set((await reasons(world, "Issuing")).values()) == {"ScopeVanished"}
    since = world.emulator.journal.last
    await world.advance(7 * DAY)
    assert len(asked(world, "list", since=since)) <= 2 * 7 * (DAY / (6 * HOUR)), "those for drift, and as many again"
