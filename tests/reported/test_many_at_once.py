"""What happens to a whole fleet at once: a bulk import, a restore, an outage."""

from datetime import timedelta

import pytest

from reported.acts import (
    behave,
    cluster_lost,
    created,
    fails,
    posts,
)
from support.acting import (
    DAY,
    HOUR,
    MINUTE,
    asked,
    create_many,
    reasons,
    statuses,
)
from support.memory_api import SimulatedWorld


async def test_vercel_renews_everything_of_a_bulk_import_on_one_day_and_it_all_goes_on(world: SimulatedWorld) -> None:
    """Under new ids, and the old ones are gone: the list has a successor for each."""
    behave(world, lifetime=18 * DAY)
    names = await create_many(world, 8)
    await world.quiet()
    behave(world, renewal="new-id", renew_before=8 * DAY, renewal_removes_old=True)
    await world.advance(11 * DAY)
    assert await reasons(world, "Ready") == dict.fromkeys(names, "Issued")
    assert await reasons(world, "Issuing") == dict.fromkeys(names, "Issued")
    assert posts(world) == 8
    assert set(world.live()) == {status["id"] for status in (await statuses(world)).values()}


@pytest.mark.parametrize("count", [4, 8])
async def test_an_etcd_snapshot_from_before_many_renewals_leads_to_the_newer_certificates(
    world: SimulatedWorld, count: int
) -> None:
    """docs/backup-and-restore.md: within six hours, the operator uses the newer one."""
    names = await create_many(world, count)
    await world.quiet()
    await world.advance(10 * DAY)
    backup = world.memory.backup()
    for name in names:
        await world.annotate(name, "renew", "1")
    await world.quiet()
    await world.advance(HOUR)
    newer = {name: status["id"] for name, status in (await statuses(world)).items()}
    await world.crash()
    world.memory.restore(backup)
    world.start()
    await world.quiet()
    await world.advance(DAY)
    assert {name: status.get("id") for name, status in (await statuses(world)).items()} == newer
    assert await reasons(world, "Ready") == dict.fromkeys(names, "Issued")
    assert posts(world) == 2 * count


async def test_a_velero_backup_with_status_from_before_many_renewals_leads_to_the_newer_certificates(
    world: SimulatedWorld,
) -> None:
    names = await create_many(world, 8)
    await world.quiet()
    await world.advance(10 * DAY)
    bodies = await world.all()
    for name in names:
        await world.annotate(name, "renew", "1")
    await world.quiet()
    await world.advance(HOUR)
    newer = {name: status["id"] for name, status in (await statuses(world)).items()}
    await cluster_lost(world)
    for body in bodies:
        await created(world, body, status=body["status"])
    world.start()
    await world.quiet()
    await world.advance(DAY)
    assert {name: status.get("id") for name, status in (await statuses(world)).items()} == newer
    assert await reasons(world, "Ready") == dict.fromkeys(names, "Issued")


@pytest.mark.parametrize("count", [4, 8])
async def test_after_a_long_outage_expired_certificates_that_vercel_has_dropped_are_issued_again(
    world: SimulatedWorld, count: int
) -> None:
    """They have expired: that they are missing says nothing about the token."""
    names = await create_many(world, count)
    await world.quiet()
    await world.crash()
    await world.clock.advance(100 * 86400.0)
    for certificate in list(world.live()):
        world.emulator.state.vanish(certificate)
    slow = fails(world, "get", None, action="hang")  # some time passes between the start and the first list
    world.start()
    await world.quiet(hanging=count)
    await world.advance(2, hanging=count)
    world.emulator.faults.remove(slow.id, "continue")
    await world.quiet()
    await world.advance(2 * DAY)
    assert await reasons(world, "Ready") == dict.fromkeys(names, "Issued")


async def test_a_few_whose_dns_was_wrong_until_they_expired_are_issued_once_it_is_right(world: SimulatedWorld) -> None:
    """Of a scope with many good ones. Vercel drops what has expired."""
    behave(world, lifetime=9 * DAY)
    good = [f"good-{number}" for number in range(10)]
    for name in good:
        await world.apply(name, [f"{name}.example.org"])
    bad = await create_many(world, 6)
    await world.quiet()
    old = {name: (await world.status(name))["id"] for name in bad}
    await world.advance(5.6 * DAY)
    broken = [fails(world, "issue", None, status=402, cns=[f"s{number}.example.com"]) for number in range(6)]
    await world.advance(3.5 * DAY)
    assert (await reasons(world, "Ready"))[bad[0]] != "Issued"
    for certificate in old.values():
        world.emulator.state.vanish(certificate)
    await world.advance(2 * DAY)
    for fault in broken:
        world.emulator.faults.remove(fault.id, "continue")
    await world.advance(3 * DAY)
    assert {name: reason for name, reason in (await reasons(world, "Ready")).items() if reason != "Issued"} == {}


async def test_a_list_that_lags_makes_no_scope_seem_vanished_right_after_a_bulk_import(world: SimulatedWorld) -> None:
    await world.apply("first", ["first.example.org"])
    await world.quiet()
    since = len(asked(world, "list"))
    while len(asked(world, "list")) == since:
        await world.advance(10 * MINUTE)
    next_drift = asked(world, "list")[-1].time / 1000 + 6 * 3600
    behave(world, list_lag=timedelta(seconds=90))
    await world.advance(next_drift - world.emulator.clock.now_ms() / 1000 - 70)
    names = await create_many(world, 8)
    await world.quiet()
    assert posts(world) == 9
    await world.advance(75)
    assert asked(world, "list")[-1].time / 1000 - next_drift < 5, "the list for drift"
    ready = await reasons(world, "Ready")
    assert {name: ready[name] for name in names} == dict.fromkeys(names, "Issued")
