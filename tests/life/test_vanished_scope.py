"""Many certificates are missing at once, and later fewer of them count."""

from support.acting import HOUR, create_many
from support.world import TOKEN, World
from vercel_emulator.models import TokenGrant


async def test_a_vanished_scope_stays_reported_while_others_are_released_or_confirmed(world: World) -> None:
    """Fewer than five are missing then. Ready said that the certificate had expired at a time in the future."""
    world.configure(drift_interval=6 * 3600)
    await world.restart()
    names = await create_many(world, 7)
    await world.quiet()
    world.emulator.accounts.grant(TokenGrant(token=TOKEN, user="somebody-else"))
    await world.advance(7 * HOUR)
    released, confirmed, left = names[:2], names[2:4], names[4:]

    for name in released:
        await world.patch(name, {"spec": {"deletionPolicy": "Retain"}})
        await world.delete(name)
    for name in confirmed:
        await world.annotate(name, "renew", "they are gone")
    await world.advance(7 * HOUR)

    for name in confirmed:
        assert await world.ready(name) == ("True", "Issued")
    for name in left:
        assert await world.ready(name) == ("Unknown", "ScopeVanished")
        assert await world.issuing(name) == ("False", "ScopeVanished")
    assert world.calls().count("issue") == len(names) + len(confirmed)
