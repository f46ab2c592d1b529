"""Vercel's rate limits, with many certificates at once."""

from datetime import timedelta

import pytest

from support.acting import DAY, MINUTE, asked, create_many, reasons
from support.memory_api import SimulatedWorld
from vercel_emulator.models import Behaviour, RateLimit

A_HUNDRED_A_MINUTE = RateLimit(limit=100, window=60)


def refused(world: SimulatedWorld) -> int:
    return sum(entry.status == 429 for entry in world.emulator.journal.since())


@pytest.mark.slow
async def test_a_thousand_new_certificates_are_issued_at_a_hundred_requests_a_minute(world: SimulatedWorld) -> None:
    world.emulator.limits.rule = A_HUNDRED_A_MINUTE
    await create_many(world, 1000)
    await world.quiet()
    await world.advance(13 * MINUTE)
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}
    requests = len(world.emulator.journal.since())
    assert refused(world) <= requests / 100


async def test_a_renewal_that_is_due_goes_before_the_first_certificates_of_an_import(world: SimulatedWorld) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=DAY)
    await world.apply("live", ["live.example.com"], renewBefore="12h")
    await world.quiet()
    await world.advance(timedelta(hours=10))
    world.emulator.limits.rule = RateLimit(limit=50, window=60)
    await create_many(world, 200)
    await world.quiet()
    await world.advance(MINUTE)
    since = world.emulator.journal.last
    await world.annotate("live", "renew", "1")
    await world.advance(timedelta(seconds=61))
    issued = [entry.cns for entry in asked(world, "issue", since=since) if entry.status == 200]
    assert ["live.example.com"] in issued
    assert len(asked(world, "issue")) < 200, "the import goes on"


async def test_while_everything_is_renewed_lists_take_about_one_request_a_minute(world: SimulatedWorld) -> None:
    """A page has 100 certificates, and a list of 200 may be two minutes old: 10 min for 1,000 certificates or more.

    So 10,000 of them take 600 requests an hour.
    """
    world.emulator.state.behaviour = Behaviour(lifetime=2 * DAY)
    await create_many(world, 200)
    await world.quiet()
    await world.advance(timedelta(hours=30))
    since = world.emulator.journal.last
    await world.advance(timedelta(hours=2))  # the renewals are spread over these
    assert len(asked(world, "issue", since=since)) == 200
    assert len(asked(world, "list", since=since)) <= 2 * 60
