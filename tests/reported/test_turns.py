"""Turns: who has waited for one, for names or for a shared token, gets it whatever others do."""

from collections.abc import AsyncIterator, Hashable
from datetime import timedelta

import pytest

from reported.acts import posts
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
from vercel_certificate_operator.accounts import CALLED, MOST_FIRST
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


@pytest.mark.parametrize("renewal", [False, True], ids=["first", "renewal"])
async def test_a_tenant_that_needs_a_list_of_its_own_team_first_is_served_within_a_small_limit(
    town: Town, renewal: bool
) -> None:
    """Vercel allows two requests a minute of all kinds, which 'mean' uses up. It used to take 38 minutes or more."""
    await import_of_others(town)
    if renewal:
        await town.apply("site", NAMES, team={"id": "team_alpha"})
        await town.quiet()
        await town.advance(HOUR)
    town.emulator.limits.rule = RateLimit(
        limit=2, window=60, per_call=False, rate_limit_headers=False, retry_after=True
    )
    for minute in range(4):
        await others_renew(town, minute)
        await town.advance(MINUTE)
    before = (await town.status("site")).get("id") if renewal else None
    if renewal:
        await town.annotate("site", "renew", "1")
    else:
        await town.apply("site", NAMES, team={"id": "team_alpha"})
    minutes = 0
    while (await town.status("site")).get("id") == before and minutes < 20:
        await others_renew(town, 10 + minutes)
        await town.advance(MINUTE)
        minutes += 1
    assert (await town.status("site")).get("id") != before


async def test_a_key_that_makes_another_call_first_keeps_its_turn_for_some_of_them() -> None:
    """It needs a list before it can issue."""
    woken: list[Hashable] = []
    shared = account(woken, slots=1)
    shared.keep_turn(key("web"), "issue", urgent=False)
    shared.wake_waiting()
    for _ in range(MOST_FIRST):
        assert shared.take_slot(key("web"), "list")
        assert not shared.take_slot(key("evil"), "issue")
        shared.give_slot_back(key("web"), "list")
        assert not shared.take_slot(key("evil"), "issue"), "the slot is kept"
    assert woken == [key("web")] * (1 + MOST_FIRST)
    assert shared.take_slot(key("web"), "list")
    shared.give_slot_back(key("web"), "list")
    assert woken[-1] == key("evil"), "nobody keeps it for ever"
    await shared.aclose()


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


@pytest.mark.parametrize("later", [MINUTE, 10 * MINUTE, 23 * HOUR], ids=str)
async def test_who_waited_once_and_became_a_duplicate_waits_again_when_the_owner_goes(
    town: Town, later: timedelta
) -> None:
    """Otherwise both duplicates would request a certificate."""
    first = hangs(town, "issue", 1, when="after")
    for namespace in ("evil", "web", "mean"):
        with town.at(namespace):
            await town.apply("site", NAMES)
        await town.quiet(hanging=1)
    await town.advance(100, hanging=1)
    town.emulator.faults.remove(first.id, "continue")
    await town.quiet()
    assert posts(town) == 1
    await town.advance(later)
    second = hangs(town, "issue", 1, when="after")
    with town.at("evil"):
        await town.delete("site")
    await town.quiet(hanging=1)
    await town.advance(100, hanging=1)
    town.emulator.faults.remove(second.id, "continue")
    await town.quiet()
    await town.advance(5 * MINUTE)
    assert posts(town) == 2
    assert len(town.live()) == 1
