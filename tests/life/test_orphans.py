"""Certificates that no resource uses are reported; those that one is about to use aren't."""

from support.acting import DAY, HOUR, MINUTE, notes
from support.world import World
from vercel_emulator import Behaviour
from vercel_emulator.models import Injection


async def test_a_renewal_by_vercel_under_a_new_id_is_not_an_orphan(world: World) -> None:
    world.configure(drift_interval=6 * 3600)
    await world.restart()
    world.emulator.state.behaviour = Behaviour(lifetime=90 * DAY, renewal="new-id", renew_before=40 * DAY)
    await world.apply("site", ["example.com"])
    await world.quiet()

    await world.advance(55 * DAY)

    assert len(await notes(world, "site", "Renewed")) == 1
    assert await notes(world, "site", "OrphanedCertificate") == []


async def test_someone_elses_certificate_is_reported_ten_minutes_after_it_was_first_seen(world: World) -> None:
    world.configure(drift_interval=6 * 3600)
    await world.restart()
    await world.apply("site", ["example.com"])
    await world.advance(MINUTE)
    other = world.emulator.state.inject(Injection(cns=["example.com"]))

    await world.advance(7 * HOUR)

    [note] = await notes(world, "site", "OrphanedCertificate")
    assert other.id in note


async def test_it_is_reported_too_while_the_resource_can_not_use_it(world: World) -> None:
    """Without a certificate of its own, the resource has news in every list."""
    world.configure(drift_interval=6 * 3600)
    await world.restart()
    await world.apply("site", ["example.com"], existingCertificate="Ignore")
    await world.advance(MINUTE)
    world.emulator.state.vanish((await world.status("site"))["id"])
    other = world.emulator.state.inject(Injection(cns=["example.com"]))
    await world.patch("site", {"spec": {"suspend": True}})

    await world.advance(7 * HOUR)

    [note] = await notes(world, "site", "OrphanedCertificate")
    assert other.id in note
