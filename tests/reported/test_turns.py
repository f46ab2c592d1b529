"""Turns: who has waited for one, for names or for a shared token, gets it whatever others do."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, cast

import pytest

from reported.acts import fails, posts
from reported.test_fair_tokens import (
    EVIL,
    LIMITED,
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
    token,
)
from reported.test_other_tenants import squatters
from support.acting import HOUR, MINUTE, REF, asked, put_secret
from support.clock import TestClock, settle
from support.memory_api import SimulatedWorld
from support.world import TOKEN
from vercel_certificate_operator.accounts import CALLED, MOST_FIRST, Account, Accounts
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.failures import Call, Failure, Fate, meaning
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.core.sightings import ScopeKey
from vercel_certificate_operator.vercel import ApiError, VercelClient
from vercel_certificate_operator.vercel.times import Allowance
from vercel_certificate_operator.vercel_calls import VercelCalls, Waiting
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


async def minutes_until_ready(town: Town, *names: str, most: int, renewals: int = 0) -> int:
    """Minutes until resources are Ready, at most so many. So many others renew in each."""
    minutes = 0
    while minutes < most and not all([await town.ready(name) == ("True", "Issued") for name in names]):
        await others_renew(town, 100 + minutes, renewals)
        await town.advance(MINUTE)
        minutes += 1
    return minutes


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


WITH_HEADERS = pytest.mark.parametrize("headers", [False, True], ids=["429 only", "headers"])


def limit_of(number: int, *, headers: bool, per_call: bool = True) -> RateLimit:
    """So many requests a minute. The headers of each answer say what is left, or the first sign is a 429."""
    return RateLimit(limit=number, window=60, per_call=per_call, rate_limit_headers=headers, retry_after=True)


@WITH_HEADERS
async def test_a_bulk_import_of_another_namespace_delays_a_certificate_by_two_windows(
    town: Town, headers: bool
) -> None:
    """With the headers, nobody got a 429, so nobody had a turn: it was Ready after the whole import."""
    town.emulator.limits.rule = limit_of(10, headers=headers)
    with town.at("mean"):
        for one in range(60):
            await town.apply(f"x-{one:02}", [f"x{one}.mean.example"])
    await town.quiet()
    await town.advance(1)
    await town.apply("site", NAMES)
    assert await minutes_until_ready(town, "site", most=10) <= 3


@WITH_HEADERS
async def test_a_list_of_its_own_team_comes_while_others_use_up_a_limit_on_all_calls(town: Town, headers: bool) -> None:
    """Its list was paused until a little after the window began, and calls of other kinds were not: 19 minutes."""
    await import_of_others(town, 40)
    town.emulator.limits.rule = limit_of(10, headers=headers, per_call=False)
    for minute in range(4):
        await others_renew(town, minute, 40)
        await town.advance(MINUTE)
    await town.apply("site", NAMES, team={"id": "team_alpha"})
    assert await minutes_until_ready(town, "site", most=20, renewals=40) <= 8


@WITH_HEADERS
@pytest.mark.parametrize("where", ["web", "mean"], ids=["another namespace", "the same namespace"])
async def test_after_three_renewals_a_first_certificate_is_next(town: Town, where: str, headers: bool) -> None:
    """More renewals are due in each minute than Vercel allows."""
    await import_of_others(town)
    town.emulator.limits.rule = limit_of(6, headers=headers)
    for minute in range(3):
        await others_renew(town, minute)
        await town.advance(MINUTE)
    with town.at(where):
        await town.apply("site", NAMES)
        assert await minutes_until_ready(town, "site", most=10, renewals=20) <= 4


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "120"}], ids=["no Retry-After", "Retry-After"])
async def test_a_namespace_whose_calls_are_all_refused_is_not_next_after_each_pause(
    town: Town, headers: dict[str, str]
) -> None:
    """The issuer limits evil.example, say. No call of 'evil' succeeded, so it seemed to be served longest ago."""
    evil, web = range(10), [f"site-{one}" for one in range(5)]
    await town.apply("other", ["other.example.com"])
    with town.at("evil"):
        for one in evil:
            await town.apply(f"x-{one}", [f"x{one}.evil.example"])
        await town.quiet()
        await town.advance(HOUR)
        for one in evil:
            names = [f"x{one}.evil.example"]
            fails(town, "issue", None, status=429, code="rate_limited", cns=names, headers=headers)
            await town.annotate(f"x-{one}", "renew", "1")
        await town.quiet()
    since = town.emulator.journal.last
    for name in web:
        await town.apply(name, [f"{name}.example.com"])
    assert await minutes_until_ready(town, *web, most=60) < 60
    refused = sum(entry.status == 429 for entry in asked(town, "issue", since=since))
    assert refused <= 3 * len(web)


async def test_a_key_with_turns_for_two_kinds_of_calls_keeps_both() -> None:
    """Two calls at a time are allowed, so it was called for both at once, and one of the turns was lost."""
    woken: list[Hashable] = []
    shared = account(woken, slots=2)
    await after_a_limit_of(shared, "list", "issue")
    shared.keep_turn(key("web"), "list", urgent=True)
    shared.keep_turn(key("web"), "issue", urgent=False)
    shared.wake_waiting()
    assert set(woken) == {key("web")}
    assert shared.take_slot(key("web"), "get"), "it makes another call first"
    shared.give_slot_back(key("web"), "get")
    assert not shared.take_slot(key("evil"), "list"), "it is the turn of the other one"
    await shared.aclose()


async def test_a_list_for_drift_that_is_no_longer_needed_passes_its_slot_on() -> None:
    """The last resource of a team is gone in the moment in which the list has been called for a slot."""
    async with simulated(Town, *TENANTS, drift_interval=6 * 3600.0, max_in_flight=1) as town:
        await town.apply("last", ["last.example.com"], team={"id": "team_alpha"})
        await town.quiet()
        await town.advance(20 * MINUTE)
        operator = operator_of(town)
        (scope,) = operator.reconciler.drift.scopes
        shared = operator.accounts.by_place[None]
        assert shared.take_slot(key("held"), "get")
        operator.queue.add(scope)
        await town.quiet()
        with town.at("evil"):
            await town.apply("site", NAMES)
            await town.quiet()
            await town.advance(6)
            assert scope in shared.waiting_at
            last = next(one for one in operator.objects.keys() if one.name == "last")  # noqa: SIM118 - not a dict
            shared.give_slot_back(key("held"), "get")
            operator.reconciler.vanished(last)
            await town.advance(30)
            assert await town.ready("site") == ("True", "Issued")


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


# --- calls that Vercel refused ---------------------------------------------------------------------------------------


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


# --- the turn of a tenant, and calls of other kinds ------------------------------------------------------------------


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


async def after_a_limit_of(shared: Account, *calls: Call) -> None:
    """Two calls at a time are allowed again, but only one of these kinds."""
    for call in calls:
        shared.failed(call, Scope(), LIMITED, meaning(LIMITED, call))
    await passes(shared)
    for number in range(2):
        assert shared.take_slot(key("mean", number), "get")
        shared.succeeded("get", Scope(), key("mean", number))
        shared.give_slot_back(key("mean", number), "get")


@pytest.mark.parametrize("why", ["one POST at a time after a rate limit", "one POST is left, by the headers"])
async def test_the_only_call_of_a_kind_is_kept_for_the_tenant_whose_turn_it_is(why: str) -> None:
    """Two calls at a time are allowed, but only one POST. A slot was kept for 'web', and 'evil' made the POST."""
    woken: list[Hashable] = []
    shared = account(woken, slots=2)
    if why == "one POST at a time after a rate limit":
        await after_a_limit_of(shared, "issue")
    else:
        shared._budgets.note("issue", Allowance(limit=2, remaining=1, seconds=60.0))
    shared.keep_turn(key("web"), "issue", urgent=False)
    shared.wake_waiting()
    assert woken == [key("web")]
    assert not shared.take_slot(key("evil"), "issue"), "it is the turn of the other one"
    assert shared.take_slot(key("web"), "issue")
    await shared.aclose()


async def test_a_key_that_can_not_begin_its_call_is_not_called_again_and_again() -> None:
    """One call is left, for renewals only. 'web' has its turn for a first certificate."""
    woken: list[Hashable] = []
    shared = account(woken, slots=2)
    shared._budgets.note("issue", Allowance(limit=10, remaining=1, seconds=60.0))
    shared.keep_turn(key("web"), "issue", urgent=False)
    shared.wake_waiting()
    assert not shared.take_slot(key("web"), "issue", urgent=False)
    woken.clear()
    shared.pass_on(key("web"))
    assert len(woken) <= 1, "to report that the limit is used up"
    await passes(shared, 60)
    shared.keep_turn(key("web"), "issue", urgent=False)
    shared.wake_waiting()
    assert shared.take_slot(key("web"), "issue", urgent=False)
    await shared.aclose()


async def test_a_key_whose_tenant_has_half_of_the_slots_is_not_called_while_another_tenant_waits() -> None:
    """It would have to yield."""
    woken: list[Hashable] = []
    shared = account(woken, slots=2)
    assert shared.take_slot(key("evil"), "get")
    assert shared.take_slot(key("mean"), "get")
    assert not shared.take_slot(key("web"), "get")
    shared.keep_turn(key("evil", 1), "issue", urgent=True)
    shared.give_slot_back(key("mean"), "get")
    assert woken == [key("web")]
    assert shared.take_slot(key("web"), "get")
    shared.give_slot_back(key("evil"), "get")
    assert woken == [key("web"), key("evil", 1)]
    await shared.aclose()


async def test_the_default_token_keeps_the_turn_of_its_own_list() -> None:
    """The list belongs to no tenant."""
    woken: list[Hashable] = []
    shared = account(woken, slots=1)
    watch = ScopeKey(None, Scope())
    shared.keep_turn(watch, "list", urgent=True)
    assert shared.take_slot(watch, "list"), "nobody has to be woken"
    assert woken == []
    shared.give_slot_back(watch, "list")
    shared.keep_turn(watch, "list", urgent=True)
    assert not shared.take_slot(key("evil"), "list"), "it is the turn of the other one"
    assert woken == [watch]
    await shared.aclose()


async def test_a_turn_is_kept_while_the_list_that_is_needed_first_waits_for_another_one() -> None:
    """One list at a time is allowed, and 'evil' reads one. So 'web' lost its turn for the POST."""
    woken: list[Hashable] = []
    shared = account(woken, slots=2)
    await after_a_limit_of(shared, "issue", "list")
    assert shared.take_slot(key("evil"), "list")
    shared.keep_turn(key("web"), "issue", urgent=False)
    shared.wake_waiting()
    assert woken == [key("web")]
    assert not shared.take_slot(key("web"), "list"), "one list at a time"
    shared.pass_on(key("web"))  # its round is over: it waits
    assert woken == [key("web")], "it is not called again while it can't go on"
    shared.give_slot_back(key("evil"), "list")
    assert woken == [key("web"), key("web")]
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


@pytest.mark.parametrize("window", [10, 60])
async def test_one_request_at_a_time_within_a_rate_limit_is_enough_for_a_certificate(town: Town, window: int) -> None:
    """The list used up the limit, the POST was refused, and after the pause it needed another list: without end."""
    town.emulator.limits.rule = RateLimit(limit=1, window=window, rate_limit_headers=False, retry_after=True)
    await town.apply("site", NAMES)
    for _ in range(15):
        await town.advance(MINUTE)
    assert await town.ready("site") == ("True", "Issued")


async def test_requests_of_another_namespace_hold_up_nobody_when_their_resources_are_gone(town: Town) -> None:
    """Someone could make them and delete the resources without end."""
    hangs(town, "issue", 1, cns=NAMES)
    with town.at("evil"):
        await town.apply("site", NAMES, deletionPolicy="Retain")
        await town.quiet(hanging=1)
        await town.delete("site")
        await town.quiet(hanging=1)
        assert await town.get("site") is None
    await town.apply("site", NAMES)
    await town.quiet(hanging=1)
    assert await town.ready("site") == ("True", "Issued")


# --- calls that are left for others -----------------------------------------------------------------------------------


async def removed_within(world: SimulatedWorld, count: int, left: int, most: float) -> float:
    """Deletes so many resources. Returns how long it takes until so many are left."""
    for number in range(count):
        await world.delete(f"m{number}")
    await world.quiet()
    began = world.clock.monotonic()
    while len(await world.all()) > left and world.clock.monotonic() - began < most:
        await world.advance(1)
    return world.clock.monotonic() - began


@pytest.mark.parametrize(("limit", "window"), [(2, 10), (3, 1), (60, 60)])
async def test_one_namespaces_own_refused_request_does_not_slow_down_its_removals(
    world: SimulatedWorld, limit: int, window: float
) -> None:
    """Nobody else is there for whom calls would be left. With two in ten seconds, it took an hour."""
    for number in range(60):
        await world.apply(f"m{number}", [f"m{number}.example.com"])
    await world.quiet()
    await world.advance(HOUR)
    fails(world, "issue", status=429, code="rate_limited", headers={"Retry-After": "3600"})
    await world.apply("x", ["x.example.com"])
    await world.quiet()
    world.emulator.limits.rule = RateLimit(limit=limit, window=window, per_call=True)
    took = await removed_within(world, 60, 1, 6000)
    assert took <= (60 / limit) * window


async def test_a_refused_request_of_another_namespace_takes_half_of_the_calls_at_most(town: Town) -> None:
    """It took 660 s instead of 50: nothing woke those who waited."""
    with town.at("mean"):
        for number in range(12):
            await town.apply(f"m{number}", [f"m{number}.mean.example"])
        await town.quiet()
        await town.advance(HOUR)
    fails(town, "issue", status=429, code="rate_limited", headers={"Retry-After": "3600"})
    with town.at("evil"):
        await town.apply("x", ["x.evil.example"])
        await town.quiet()
    town.emulator.limits.rule = RateLimit(limit=2, window=10, per_call=True)
    with town.at("mean"):
        assert await removed_within(town, 12, 0, 3000) <= 2 * 60


def limited_for(seconds: float) -> Failure:
    return Failure(Fate.REFUSED, "x", status=429, code="rate_limited", retry_after=timedelta(seconds=seconds))


async def test_after_the_longer_of_two_pauses_one_call_at_a_time_is_made() -> None:
    """Two requests in flight are refused: by the hour's limit, then by the second's. All 8 slots were free after it."""
    woken: list[Hashable] = []
    shared = account(woken, slots=8)
    for name in "ab":
        assert shared.take_slot(key(name), "issue")
    for name, seconds in (("a", 600.0), ("b", 1.0)):
        shared.failed("issue", Scope(), limited_for(seconds), meaning(limited_for(seconds), "issue"))
        shared.give_slot_back(key(name), "issue")
    await passes(shared, 700)
    assert shared.pause("issue") is None
    assert sum(shared.take_slot(key("c", number), "issue") for number in range(8)) == 1


async def test_counts_of_namespaces_whose_calls_all_failed_are_dropped() -> None:
    """For each namespace that ever used the token and had no success with a kind of call, one entry stayed for ever."""
    woken: list[Hashable] = []
    shared = account(woken, slots=8)
    for number in range(2000):
        assert shared.take_slot(key(f"ns-{number}"), "issue", urgent=True)
        shared.give_slot_back(key(f"ns-{number}"), "issue")
    await passes(shared, 86400)
    shared.forget_what_is_old()
    assert not shared._urgent_of
