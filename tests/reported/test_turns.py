"""Turns: who has waited for one, for names or for a shared token, gets it whatever others do."""

from collections.abc import AsyncIterator

import pytest

from reported.test_fair_tokens import NAMES, NEVER, TENANTS, Town, hangs, simulated
from reported.test_other_tenants import EVIL, squatters
from support.acting import HOUR, MINUTE
from vercel_emulator.models import RateLimit


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with simulated(Town, *TENANTS, drift_interval=NEVER) as made:
        yield made


async def import_of_others(town: Town, number: int = 20) -> None:
    with town.at("mean"):
        for one in range(number):
            await town.apply(f"x-{one:02}", [f"x{one}.mean.example"])
    await town.quiet()
    await town.advance(HOUR)


async def others_renew(town: Town, value: int, number: int = 20) -> None:
    with town.at("mean"):
        for one in range(number):
            await town.annotate(f"x-{one:02}", "renew", str(value))


async def test_who_has_waited_for_its_turn_keeps_it_while_a_rate_limit_lasts(town: Town) -> None:
    """'evil' has hanging requests for the same names, in accounts of its own. 'mean' uses up the shared token's limit."""
    number = 15
    await import_of_others(town)
    for one in range(number):
        hangs(town, "issue", cns=NAMES, token=f"{EVIL}-{one:04}")
    await squatters(town, number)
    await town.quiet(hanging=1)
    town.emulator.limits.rule = RateLimit(limit=6, window=60, rate_limit_headers=False, retry_after=True)
    await town.apply("site", NAMES)
    minutes = 0
    while await town.ready("site") != ("True", "Issued") and minutes < 15:
        await others_renew(town, minutes)
        await town.advance(MINUTE, hanging=number)
        minutes += 1
    assert await town.ready("site") == ("True", "Issued")
