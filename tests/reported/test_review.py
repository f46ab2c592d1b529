"""Turns for calls other than POSTs, and for several kinds of call: what a review of kept turns found."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import nullcontext
from typing import Any, cast

import pytest

from core.building import NOW
from core.test_ownership import claim, claims_of, key_of, waits_for_a_new_attempt
from reported.acts import fails
from reported.test_fair_tokens import (
    EVIL,
    LIMITED,
    NAMES,
    NEVER,
    TENANTS,
    Town,
    account,
    hangs,
    key,
    limits,
    passes,
    simulated,
    token,
)
from reported.test_other_tenants import squatters
from reported.test_turns import import_of_others, others_renew
from support.acting import MINUTE
from support.clock import TestClock, settle
from support.world import TOKEN
from vercel_certificate_operator.accounts import Accounts
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.failures import meaning
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.vercel import ApiError, VercelClient
from vercel_certificate_operator.vercel_calls import VercelCalls, Waiting
from vercel_emulator.models import RateLimit


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with simulated(Town, *TENANTS, drift_interval=NEVER) as made:
        yield made


# --- who was refused a list -----------------------------------------------------------------------------------------


async def test_after_a_rate_limit_of_lists_the_tenant_that_was_refused_one_is_next(town: Town) -> None:
    """Vercel allows one list and one POST a minute. 'mean' has both, again and again: it took 15 minutes."""
    await import_of_others(town)
    town.emulator.limits.rule = RateLimit(limit=1, window=60, per_call=True, rate_limit_headers=False, retry_after=True)
    for minute in range(4):
        await others_renew(town, minute)
        await town.advance(MINUTE)
    await town.apply("site", NAMES, team={"id": "team_alpha"})
    minutes = 0
    while await town.ready("site") != ("True", "Issued") and minutes < 8:
        await others_renew(town, 10 + minutes)
        await town.advance(MINUTE)
        minutes += 1
    assert await town.ready("site") == ("True", "Issued")


class _Limiting:
    """Vercel refuses the first list."""

    def __init__(self) -> None:
        self.lists = 0

    async def list(self, *_: object) -> tuple[()]:
        self.lists += 1
        if self.lists == 1:
            raise ApiError("slow down", status=429, code="rate_limited", retry_after=60.0)
        return ()

    async def get(self, *_: object) -> None:
        raise ApiError("slow down", status=429, code="rate_limited", retry_after=60.0)

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("call", ["list", "get"])
async def test_a_call_that_vercel_refuses_because_of_a_rate_limit_keeps_its_turn(call: str) -> None:
    """As a POST does."""
    clock, client, woken = TestClock(), _Limiting(), list[Hashable]()
    accounts = Accounts(lambda *_: cast(VercelClient, client), clock, slots=2)
    accounts.wake = lambda one, _: woken.append(one)
    calls = VercelCalls(accounts, clock, lambda _: nullcontext())
    shared, scope = token("token-of-several-tenants-0123"), Scope(team_id="team_alpha")
    if call == "list":
        with pytest.raises(Waiting):
            calls.list(key("web"), None, scope, shared)
        await settle()
        with pytest.raises(ApiError):
            calls.list(key("web"), None, scope, shared)
    else:
        with pytest.raises(ApiError):
            await calls.get(key("web"), "cert_1", scope, shared)
    woken.clear()
    await clock.advance(70)
    one = accounts.of(shared)
    assert not one.take_slot(key("evil"), cast(Any, call)), "it is the turn of the other one"
    assert woken == [key("web")]
    await accounts.aclose()


# --- turns that are lost --------------------------------------------------------------------------------------------


async def test_a_turn_for_another_kind_of_call_does_not_take_the_turn_of_another_tenant() -> None:
    """'evil' has a turn for lists. So it took the only call for a certificate, although 'web' was next for that."""
    woken: list[Hashable] = []
    shared = account(woken, slots=1)
    shared.succeeded("issue", Scope(), key("evil"))
    shared.keep_turn(key("evil"), "list", urgent=True)
    shared.keep_turn(key("web"), "issue", urgent=False)
    assert not shared.take_slot(key("evil", 1), "issue"), "it is the turn of the other one"
    assert woken[:1] == [key("web")]
    await shared.aclose()


async def test_the_only_call_of_a_kind_is_kept_for_the_tenant_whose_turn_it_is() -> None:
    """Two calls at a time are allowed again, but only one POST. A slot was kept for 'web', and 'evil' made the POST."""
    woken: list[Hashable] = []
    shared = account(woken, slots=2)
    limits(shared)
    await passes(shared)
    for number in range(2):
        assert shared.take_slot(key("mean", number), "get")
        shared.succeeded("get", Scope(), key("mean", number))
        shared.give_slot_back(key("mean", number), "get")
    shared.keep_turn(key("web"), "issue", urgent=False)
    shared.wake_waiting()
    assert woken == [key("web")]
    assert not shared.take_slot(key("evil"), "issue"), "it is the turn of the other one"
    assert shared.take_slot(key("web"), "issue")
    await shared.aclose()


async def test_a_turn_is_kept_while_the_list_that_is_needed_first_waits_for_another_one() -> None:
    """One list at a time is allowed, and 'evil' reads one. So 'web' lost its turn for the POST."""
    woken: list[Hashable] = []
    shared = account(woken, slots=2)
    limits(shared)
    shared.failed("list", Scope(), LIMITED, meaning(LIMITED, "list"))
    await passes(shared)
    for number in range(2):
        assert shared.take_slot(key("mean", number), "get")
        shared.succeeded("get", Scope(), key("mean", number))
        shared.give_slot_back(key("mean", number), "get")
    assert shared.take_slot(key("evil"), "list")
    shared.keep_turn(key("web"), "issue", urgent=False)
    shared.wake_waiting()
    assert woken == [key("web")]
    assert not shared.take_slot(key("web"), "list"), "one list at a time"
    shared.pass_on(key("web"))  # its round is over: it waits
    shared.give_slot_back(key("evil"), "list")
    assert woken[-1] == key("web")
    assert shared.take_slot(key("web"), "list")
    shared.give_slot_back(key("web"), "list")
    assert not shared.take_slot(key("evil", 1), "issue"), "it is the turn of the other one"
    await shared.aclose()


async def test_a_turn_is_kept_while_a_list_that_another_tenant_has_begun_is_waited_for() -> None:
    """'web' joins the list in progress, which takes no slot of its own."""
    woken: list[Hashable] = []
    shared = account(woken, slots=2)
    ended = asyncio.Event()

    class Slow:
        async def list(self, *_: object) -> tuple[()]:
            await ended.wait()
            return ()

        async def aclose(self) -> None:
            pass

    shared._client = cast(VercelClient, Slow())
    assert shared.take_slot(key("evil"), "list")
    shared.start_list(Scope(), key("evil"))
    shared.keep_turn(key("web"), "issue", urgent=False)
    shared.wake_waiting()
    assert woken == [key("web")]
    assert shared.join_list(Scope(), key("web"))
    shared.pass_on(key("web"))  # its round is over: it waits
    ended.set()
    await settle()
    assert key("web") in woken[1:]
    assert shared.take_slot(key("mean"), "get"), "one of the two slots"
    assert not shared.take_slot(key("evil", 1), "issue"), "the other one is kept: it is the turn of the other one"
    await shared.aclose()


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
