"""Turns: who has waited for one, for names or for a shared token, gets it whatever others do."""

from collections.abc import AsyncIterator, Hashable

import pytest

from reported.test_fair_tokens import (
    EVIL,
    NAMES,
    NEVER,
    TENANTS,
    Town,
    account,
    grants,
    hangs,
    key,
    limits,
    operator_of,
    passes,
    simulated,
)
from reported.test_other_tenants import squatters
from support.acting import HOUR, MINUTE, REF, put_secret
from vercel_certificate_operator.accounts import CALLED
from vercel_certificate_operator.core.resource import Key
from vercel_emulator.models import Fault, RateLimit


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
    """'evil' has hanging requests for the same names, in its own accounts. 'mean' uses up the shared token's limit."""
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


# --- a slot that is kept for a key that was called ------------------------------------------------------------------


async def test_who_waits_is_woken_when_a_key_that_was_called_has_not_come_in_time() -> None:
    woken: list[Hashable] = []
    shared = account(woken)
    limits(shared)
    shared.keep_turn(key("evil"), "issue", urgent=True)
    await passes(shared)
    assert not shared.take_slot(key("web"), "issue")
    await passes(shared, CALLED - 1)
    assert woken == [key("evil")]
    await passes(shared, 1)
    assert woken == [key("evil"), key("web")]
    assert shared.take_slot(key("web"), "issue")


async def test_no_slot_is_kept_for_a_key_that_is_in_work(town: Town) -> None:
    """It can't come: a request with another token hangs. It used to delay the others for a minute."""
    grants(town)
    limited = {"call": "issue", "status": 429, "code": "rate_limited", "headers": {"Retry-After": "120"}}
    town.emulator.faults.add(Fault.model_validate(limited))
    with town.at("mean"):
        await town.apply("first", ["first.mean.example"])
        await town.quiet()
    with town.at("evil"):
        await put_secret(town, EVIL)
        await town.apply("x", ["x.evil.example"])
        await town.quiet()
    await town.apply("site", NAMES)
    await town.quiet()
    await town.advance(100)
    with town.at("evil"):
        hangs(town, "get", token=EVIL)
        await town.apply("x", ["x.evil.example"], tokenSecretRef=REF)
        await town.annotate("x", "adopt-id", "cert_1")
        await town.quiet(hanging=1)
    assert any(isinstance(one, Key) and one.namespace == "evil" for one in operator_of(town).queue.running)
    await town.advance(20 + 12 + CALLED, hanging=1)  # the pause lasts up to a tenth longer than Vercel asks
    assert await town.ready("site") == ("True", "Issued")
