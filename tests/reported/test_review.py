"""Turns for calls other than POSTs, and for several kinds of call: what a review of kept turns found."""

from collections.abc import AsyncIterator

import pytest

from core.building import NOW
from core.test_ownership import claim, claims_of, key_of, waits_for_a_new_attempt
from reported.acts import fails
from reported.test_fair_tokens import (
    EVIL,
    NAMES,
    NEVER,
    TENANTS,
    Town,
    hangs,
    simulated,
)
from reported.test_other_tenants import squatters
from support.acting import MINUTE
from support.world import TOKEN
from vercel_certificate_operator.core.resource import Key
from vercel_emulator.models import RateLimit


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with simulated(Town, *TENANTS, drift_interval=NEVER) as made:
        yield made


# --- names ----------------------------------------------------------------------------------------------------------


async def test_who_has_waited_for_its_turn_keeps_it_while_a_rate_limit_delays_its_list(town: Town) -> None:
    """It has waited for three minutes, and then Vercel refuses eight lists for four minutes each."""
    number = 15
    for one in range(number):
        hangs(town, "issue", cns=NAMES, token=f"{EVIL}-{one:04}")
    await squatters(town, number)
    await town.quiet(hanging=1)
    fails(town, "list", 8, status=429, code="rate_limited", headers={"Retry-After": "240"}, token=TOKEN)
    await town.apply("site", NAMES)
    minutes = 0
    while await town.ready("site") != ("True", "Issued") and minutes < 60:
        await town.advance(MINUTE, hanging=number)
        minutes += 1
    assert minutes <= 3 + 3 + 8 * 4.5, "its turn, an attempt that began meanwhile, and eight pauses"


def test_a_kept_turn_for_names_ends_with_the_need_for_which_it_was_kept() -> None:
    """'mine' waited, and a rate limit kept it from its request. Meanwhile it found a certificate, which is gone later.

    It used to make a request while another resource's attempt for the same names was open.
    """
    ticks, mine, other = [0.0], key_of("mine"), Key("other", "x", "uid-x")
    claims = claims_of(monotonic=lambda: ticks[0], mine=claim("mine"))
    assert waits_for_a_new_attempt(claims, mine, ticks[0])
    ticks[0] = 180.0
    assert claims.ownership(mine, NOW).attempting is None, "it has waited for long enough"
    claims.reserve(mine)
    claims.release(mine)
    claims.put(mine, claim("mine", holds="cert_by_hand"))
    assert claims.ownership(mine, NOW).attempting is None
    claims.put(other, None)
    ticks[0] = 3600.0
    claims.put(mine, claim("mine"))
    assert waits_for_a_new_attempt(claims, mine, ticks[0])


# --- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [10, 60])
async def test_one_request_at_a_time_within_a_rate_limit_is_enough_for_a_certificate(town: Town, window: int) -> None:
    """The list used up the limit, the POST was refused, and after the pause it needed another list: without end."""
    town.emulator.limits.rule = RateLimit(limit=1, window=window, rate_limit_headers=False, retry_after=True)
    await town.apply("site", NAMES)
    for _ in range(15):
        await town.advance(MINUTE)
    assert await town.ready("site") == ("True", "Issued")
