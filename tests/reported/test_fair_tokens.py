"""Namespaces that share a token, and tokens that are of no use any longer: nobody takes what others need."""

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

import pytest
from kubernetes.aio.client import CoreV1Api

from support.acting import HOUR, MINUTE, asked, put_secret
from support.clock import TestClock, settle
from support.memory_api import SimulatedWorld, simulated_world
from support.world import TOKEN
from vercel_certificate_operator.accounts import CALLED, KEPT, Account, Accounts
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.failures import Failure, Fate, meaning
from vercel_certificate_operator.core.known import Note
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.kube.events import MOST_PENDING, MOST_WRITES, Events
from vercel_certificate_operator.kube.tokens import READ_SHARED, Token
from vercel_certificate_operator.shares import MOST_CALLS, Shares
from vercel_certificate_operator.vercel import VercelClient
from vercel_certificate_operator.workqueue import WorkQueue
from vercel_emulator.models import Fault, Injection, RateLimit, TokenGrant

EVIL = "evil-token-of-a-tenant-0123456789"
NEVER = 365 * 86400.0
NAMES = ["shop.example.com"]
TENANTS = ("web", "evil", "mean")


class Town(SimulatedWorld):
    """A World with several namespaces. What users do, they do in the one that ``at`` names."""

    @property
    def watched(self) -> tuple[str, ...]:
        return TENANTS

    @contextmanager
    def at(self, namespace: str) -> Iterator[None]:
        before, self.namespace = self.namespace, namespace
        try:
            yield
        finally:
            self.namespace = before


T = TypeVar("T", bound=Town)


@asynccontextmanager
async def simulated(kind: type[T], *namespaces: str, **settings: Any) -> AsyncIterator[T]:
    """A town in which these namespaces may use the default token."""
    async with simulated_world(default_token_namespaces=namespaces, **settings) as made:
        made.__class__ = kind
        yield cast(T, made)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    """All three namespaces may use the default token."""
    async with simulated(Town, *TENANTS, drift_interval=NEVER) as made:
        yield made


def operator_of(town: SimulatedWorld) -> Any:
    assert town.operator is not None
    return town.operator


def grants(town: SimulatedWorld, token: str = EVIL, user: str = "evil") -> None:
    """The tenant has an account of its own at Vercel. It can use no team of others."""
    town.emulator.accounts.grant(TokenGrant(token=token, user=user, teams=[]))


def hangs(town: SimulatedWorld, call: Any, times: int | None = None, **which: Any) -> Any:
    return town.emulator.faults.add(Fault(call=call, action="hang", times=times, **which))


async def put_keys(town: SimulatedWorld, data: dict[str, str], *, name: str = "vercel", **more: Any) -> None:
    """A Secret with several keys."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    body: Any = {"metadata": {"name": name, **more.pop("metadata", {})}, "data": encoded, **more}
    await CoreV1Api(town.api).create_namespaced_secret(town.namespace, body)


def account(woken: list[Hashable], *, slots: int = 2) -> Account:
    token = Token.of("test-token-not-a-secret", "a file")
    client: Any = lambda *_: cast(VercelClient, None)  # noqa: E731
    return Account(client, token, TestClock(), slots=slots, wake=lambda key, _: woken.append(key))


def key(namespace: str, number: int = 0) -> Key:
    return Key(namespace, f"site-{number}", f"{namespace}-{number}")


# --- tokens that are of no use any longer ---------------------------------------------------------------------------


async def test_tokens_that_are_replaced_in_one_secret_are_not_kept(town: Town) -> None:
    with town.at("evil"):
        await put_secret(town, "garbage-token-at-the-start")
        await town.apply("site", NAMES, tokenSecretRef={"name": "vercel", "key": "token"})
        await town.quiet()
        for number in range(30):
            await put_secret(town, f"garbage-token-{number:04}")
            await town.advance(3 * MINUTE)
    assert len(asked(town, "list")) >= 30, "all of them were used"
    assert len(operator_of(town).accounts._accounts) <= 5


def token(text: str, name: str = "vercel") -> Token:
    return Token.of(text, "a Secret", ("evil", name, "token"))


def new_accounts(clock: TestClock) -> Accounts:
    return Accounts(lambda *_: cast(VercelClient, None), clock, slots=8)


async def test_a_new_token_costs_the_same_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = [0]
    busy = cast(property, Account.busy).fget

    def counted(one: Account) -> bool:
        looked_at[0] += 1
        return bool(busy and busy(one))

    monkeypatch.setattr(Account, "busy", property(counted))
    accounts = new_accounts(TestClock())
    for number in range(500):
        accounts.of(token(f"test-token-{number}", f"vercel-{number}"))
    assert looked_at[0] <= 2 * 500


async def test_a_replaced_token_stays_while_its_call_is_in_flight_and_is_made_again_if_it_is_needed() -> None:
    accounts = new_accounts(TestClock())
    old = accounts.of(token("test-token-old"))
    assert old.take_slot("a", "remove")
    accounts.of(token("test-token-new"))
    assert accounts.of(token("test-token-old")) is old
    accounts.of(token("test-token-new"))
    old.give_slot_back("a", "remove")
    for_a_removal = accounts.of(token("test-token-old"))
    assert for_a_removal is not old
    assert for_a_removal.take_slot("a", "remove")


async def test_a_dropped_account_that_is_used_once_more_does_not_drop_its_successor() -> None:
    accounts = new_accounts(TestClock())
    old = accounts.of(token("test-token"))
    accounts.of(token("test-token-new"))
    successor = accounts.of(token("test-token"))
    assert successor is not old
    old.wake_waiting()  # as after the work on a key that it had woken
    assert accounts.of(token("test-token")) is successor


async def test_a_rejected_token_that_nobody_tries_any_longer_is_dropped_soon() -> None:
    clock = TestClock()
    accounts = new_accounts(clock)
    rejected = accounts.of(token("test-token-rejected", "rejected"))
    failure = Failure(Fate.REFUSED, "no", 401, "forbidden")
    rejected.failed("list", Scope(), failure, meaning(failure, "list"))
    await clock.advance(3600)
    accounts.of(token("test-token-good"))
    assert accounts.by_place[token("test-token-rejected", "rejected").place] is rejected
    await clock.advance(4 * 3600)
    accounts.of(token("test-token-good"))
    assert list(accounts.by_place) == [token("test-token-good").place]


async def test_a_team_that_does_not_exist_takes_no_slots_of_the_shared_token_away(town: Town) -> None:
    await town.apply("site", NAMES)
    await town.quiet()
    shared = operator_of(town).accounts.by_place[None]
    before = shared.allowed
    with town.at("evil"):
        await town.apply("x", ["x.evil.example"], team={"slug": "nowhere"})
    await town.quiet()
    assert before == 8
    assert shared.allowed == before


async def test_refused_teams_leave_nothing_behind() -> None:
    woken: list[Hashable] = []
    shared = account(woken)
    refused = Failure(Fate.REFUSED, "no", 403, "forbidden")
    for number in range(300):
        shared.failed("list", Scope(team_slug=f"nowhere-{number}"), refused, meaning(refused, "list"))
    await cast(TestClock, shared._clock).advance(7 * 86400)
    assert shared.pause() is None
    shared.forget_what_is_old()
    assert len(shared._refusals) <= 10


async def test_places_that_no_resource_names_any_longer_are_forgotten(town: Town) -> None:
    grants(town)
    with town.at("evil"):
        await put_keys(town, {f"key-{number}": EVIL for number in range(30)})
        for number in range(30):
            await town.apply("site", NAMES, tokenSecretRef={"name": "vercel", "key": f"key-{number}"})
            await town.annotate("site", "renew", str(number))
            await town.quiet()
    assert len(asked(town, "issue")) >= 20
    await town.advance(KEPT + HOUR.total_seconds())
    await town.apply("other", ["other.example.com"])
    await town.quiet()
    assert len(operator_of(town).accounts.by_place) <= 5


async def kept_certificates(town: Town, *, certificates: int, tokens: int, after: timedelta) -> int:
    """Several tokens list one account. Returns how many certificates of lists are kept after that time."""
    for _ in range(certificates):
        town.emulator.state.inject(Injection(cns=["other.evil.example"], scope="personal:evil"))
    with town.at("evil"):
        for number in range(tokens):
            grants(town, f"{EVIL}-{number}")
            await put_secret(town, f"{EVIL}-{number}", name=f"vercel-{number}")
            ref = {"name": f"vercel-{number}", "key": "token"}
            await town.apply(f"s-{number}", [f"s{number}.evil.example"], tokenSecretRef=ref)
    await town.quiet()
    await town.advance(after)
    await town.apply("site", NAMES)
    await town.quiet()
    accounts = operator_of(town).accounts._accounts.values()
    return sum(len(listing.certificates) for account in accounts for listing in account._listings.values())


async def test_a_list_that_is_too_old_for_anything_is_not_kept(town: Town) -> None:
    """Any number of tokens can list the same account, however many certificates that has."""
    assert await kept_certificates(town, certificates=300, tokens=10, after=3 * HOUR) <= 310


async def test_failures_of_lists_for_which_deleted_resources_waited_are_not_kept(town: Town) -> None:
    grants(town)
    hang = hangs(town, "list", times=1, token=EVIL)
    with town.at("evil"):
        await put_secret(town, EVIL)
        for number in range(10):
            await town.apply(f"s-{number}", [f"s{number}.evil.example"], tokenSecretRef={"name": "vercel"})
        await town.quiet(hanging=1)
        assert hang.hanging == 1
        for number in range(10):
            await town.delete(f"s-{number}")
        await town.sync()
    hang.end("drop")
    await town.quiet()
    (used,) = operator_of(town).accounts._accounts.values()
    await town.advance(HOUR)
    await town.apply("site", NAMES)
    await town.quiet()
    assert used._failed_lists == {}


class Compared:
    """A key that counts how often it is compared."""

    times = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return isinstance(other, Compared) and self.number == other.number


def test_waiting_for_a_slot_costs_the_same_however_many_wait() -> None:
    shared = account([])
    Compared.times = 0
    for number in range(500):
        shared.take_slot(Compared(number), "issue")
    assert Compared.times <= 20 * 500


async def test_domains_that_are_remembered_cost_nothing_each_time_another_one_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashed = [0]
    hash_of = Scope.__hash__

    def counted(scope: Scope) -> int:
        hashed[0] += 1
        return hash_of(scope)

    monkeypatch.setattr(Scope, "__hash__", counted)

    async def read() -> Any:
        return None

    shared, scope = account([]), Scope()
    for number in range(400):
        assert shared.domain_config(f"d{number}.example", scope) is None
        await shared.read_domain(f"d{number}.example", scope, read())
    assert hashed[0] <= 20 * 400


async def test_two_tokens_are_told_apart_by_all_of_their_hash() -> None:
    """These two have the same first 48 bits of SHA-256: anyone can find such a pair within a minute."""
    one, other = (Token.of(text, "a Secret", ("evil", "vercel", text)) for text in COLLIDING)
    accounts = Accounts(lambda *_: cast(VercelClient, None), TestClock(), slots=1)
    assert one.value != other.value
    assert accounts.of(one) is not accounts.of(other)


COLLIDING = ("tok_a71e022bf5ab", "tok_2144ba57bd1e")


# --- slots of a shared token ------------------------------------------------------------------------------------------


async def test_when_posts_of_one_namespace_hang_the_next_free_slot_is_for_another(town: Town) -> None:
    hang = hangs(town, "issue", times=8)
    with town.at("evil"):
        for number in range(20):
            await town.apply(f"site-{number}", [f"s{number}.evil.example"])
    await town.quiet(hanging=8)
    await town.apply("site", NAMES)
    await town.quiet(hanging=8)
    assert hang.hanging == 8
    hang.end("drop")
    await town.quiet()
    assert await town.ready("site") == ("True", "Issued")


def test_slots_of_a_shared_token_go_to_namespaces_in_turn() -> None:
    woken: list[Hashable] = []
    shared = account(woken)
    for number in range(200):
        shared.take_slot(key("evil", number), "issue", urgent=False)
    shared.take_slot(key("web"), "issue", urgent=False)
    shared.give_slot_back(key("evil"), "issue")
    assert woken == [key("web")]


def test_a_namespace_has_half_of_the_slots_while_another_one_waits() -> None:
    woken: list[Hashable] = []
    shared = account(woken, slots=8)
    for number in range(8):
        assert shared.take_slot(key("evil", number), "issue")
    for number in range(8):
        assert not shared.take_slot(key("web", number), "issue")
    for number in range(3):
        shared.give_slot_back(key("evil", number), "issue")
        assert not shared.take_slot(key("evil", 10 + number), "issue")
    assert woken
    assert all(isinstance(one, Key) and one.namespace == "web" for one in woken)


def test_urgent_calls_do_not_starve_those_that_are_not() -> None:
    woken: list[Hashable] = []
    shared = account(woken, slots=1)
    assert shared.take_slot("first", "issue")
    for number in range(10):
        shared.take_slot(f"urgent-{number}", "issue", urgent=True)
    shared.take_slot("not urgent", "issue", urgent=False)
    for held in ("first", *(f"urgent-{number}" for number in range(3))):
        shared.give_slot_back(held, "issue")
        assert shared.take_slot(woken[-1], "issue", urgent=woken[-1] != "not urgent")
    assert woken == ["urgent-0", "urgent-1", "urgent-2", "not urgent"]


# --- calls of a namespace with all of its tokens ----------------------------------------------------------------------


async def with_tokens(town: Town, namespace: str, tokens: int, each: int) -> None:
    """Several tokens in a namespace, with so many resources each."""
    with town.at(namespace):
        for number in range(tokens):
            text = f"token-{number:04}-of-{namespace}"
            town.emulator.accounts.grant(TokenGrant(token=text, user=f"{namespace}-{number}", teams=[]))
            await put_secret(town, text, name=f"vercel-{number}")
            for other in range(each):
                cns = [f"s{number}-{other}.{namespace}.example"]
                ref = {"name": f"vercel-{number}", "key": "token"}
                await town.apply(f"site-{number}-{other}", cns, tokenSecretRef=ref)


async def renew_all(town: Town, namespace: str) -> None:
    with town.at(namespace):
        for body in await town.all():
            await town.annotate(body["metadata"]["name"], "renew", "1")


async def test_namespaces_whose_requests_hang_hold_no_worker(town: Town) -> None:
    """Two namespaces held all workers with the GETs of nine tokens."""
    for namespace in ("evil", "mean"):
        await with_tokens(town, namespace, 5, 8)
    await town.quiet()
    hangs(town, "get")
    for namespace in ("evil", "mean"):
        await renew_all(town, namespace)
    await town.quiet(hanging=2 * 5 * 8)
    assert operator_of(town).queue._working == {}
    await put_secret(town, TOKEN)
    await town.apply("site", NAMES, tokenSecretRef={"name": "vercel", "key": "token"})
    await town.quiet(hanging=2 * 5 * 8)
    assert await town.ready("site") == ("True", "Issued")


async def test_a_namespace_has_a_bounded_number_of_requests_in_flight_however_many_tokens_it_has(town: Town) -> None:
    hang = hangs(town, "issue", times=MOST_CALLS)
    await with_tokens(town, "evil", 12, 8)
    await town.quiet(hanging=MOST_CALLS)
    assert hang.hanging == MOST_CALLS
    await town.apply("site", NAMES)
    await town.quiet(hanging=MOST_CALLS)
    assert await town.ready("site") == ("True", "Issued")
    hang.end("drop")
    await town.quiet()
    with town.at("evil"):
        states = [await town.ready(body["metadata"]["name"]) for body in await town.all()]
    assert states.count(("True", "Issued")) >= 12 * 8 - MOST_CALLS, "those that had waited"


async def test_configurations_of_domains_that_are_read_take_slots(town: Town) -> None:
    town.emulator.faults.add(Fault(call="issue", status=449, code="dns_error", times=None))
    hang = hangs(town, "config")
    grants(town)
    with town.at("evil"):
        await put_secret(town, EVIL)
        for number in range(40):
            ref = {"name": "vercel", "key": "token"}
            await town.apply(f"site-{number}", [f"site.evil-{number}.example"], tokenSecretRef=ref)
        await town.quiet(hanging=8)
        assert hang.hanging == 8
    hang.end("drop")
    await town.quiet()
    with town.at("evil"):
        assert {await town.issuing(f"site-{number}") for number in range(40)} == {("False", "DomainNotConfigured")}


async def test_with_equal_tokens_a_message_names_the_resources_own_secret(town: Town) -> None:
    for namespace in ("evil", "web"):
        with town.at(namespace):
            await put_secret(town, EVIL, name=f"secret-of-{namespace}")
            ref = {"name": f"secret-of-{namespace}", "key": "token"}
            await town.apply("site", [f"site.{namespace}.example"], tokenSecretRef=ref)
            await town.quiet()
    for namespace, other in (("evil", "web"), ("web", "evil")):
        with town.at(namespace):
            _, reason, message = await town.condition("site", "Issuing")
        assert reason == "CredentialsInvalid"
        assert f"token {namespace}/secret-of-{namespace}/token" in message
        assert other not in message


# --- reads of Secrets -------------------------------------------------------------------------------------------------


def reads_of_secrets(town: Town) -> int:
    return sum(one.method == "GET" and "secrets" in one.path for one in town.memory.asked)


@pytest.mark.parametrize("garbage", [False, True], ids=["tokens", "garbage"])
async def test_one_read_of_a_secret_serves_all_of_its_keys(town: Town, garbage: bool) -> None:
    keys = [f"key-{number}" for number in range(40)]
    grants(town)
    with town.at("evil"):
        await put_keys(town, dict.fromkeys(keys, "?" if garbage else EVIL))
        for number, one in enumerate(keys):
            await town.apply(f"site-{number}", [f"s{number}.example"], tokenSecretRef={"name": "vercel", "key": one})
    before = reads_of_secrets(town)
    await town.quiet()
    assert reads_of_secrets(town) - before == 1
    await town.advance(10 * MINUTE)
    assert reads_of_secrets(town) - before <= 10 * MINUTE.total_seconds() / READ_SHARED, "with garbage: 40 a minute"


# --- Events -----------------------------------------------------------------------------------------------------------


async def test_a_bounded_number_of_events_is_written_at_a_time_and_namespaces_take_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writing: list[str] = []
    done: list[str] = []
    most, go_on = 0, asyncio.Event()

    async def write(events: Events, one: Key, note: Note, now: datetime) -> None:
        nonlocal most
        writing.append(one.namespace)
        most = max(most, len(writing))
        if one.namespace == "evil":
            await go_on.wait()
        writing.remove(one.namespace)
        done.append(one.namespace)

    monkeypatch.setattr(Events, "_write", write)
    events, now = Events(cast(Any, None), instance="pod-1"), TestClock().now()
    note = Note("Normal", Reason.ISSUED, "Issue", "All is well.")
    for number in range(160):
        events.publish(key("evil", number), note, now)
    events.publish(key("web"), note, now)
    await settle()
    assert done == ["web"]
    go_on.set()
    await events.flush(NEVER)
    assert len(done) == 161
    assert most <= MOST_WRITES


async def test_a_bounded_number_of_events_waits_while_the_api_server_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[Key] = []
    go_on = asyncio.Event()

    async def write(events: Events, one: Key, note: Note, now: datetime) -> None:
        await go_on.wait()
        written.append(one)

    monkeypatch.setattr(Events, "_write", write)
    events, now = Events(cast(Any, None), instance="pod-1"), TestClock().now()
    note = Note("Normal", Reason.ISSUED, "Issue", "All is well.")
    for number in range(MOST_PENDING // 2):
        events.publish(key("web", number), note, now)
    for number in range(3 * MOST_PENDING):
        events.publish(key("evil", number), note, now)
    go_on.set()
    await events.flush(NEVER)
    assert MOST_PENDING <= len(written) <= MOST_PENDING + MOST_WRITES
    assert written[-1] == key("evil", 3 * MOST_PENDING - 1), "the newest are written"
    assert sum(one.namespace == "web" for one in written) == MOST_PENDING // 2, "who has more loses some"


# --- pauses and wake-ups ----------------------------------------------------------------------------------------------

LIMITED = Failure(Fate.REFUSED, "slow down", 429, "rate_limited", timedelta(seconds=120))


def shared_account(woken: list[Hashable], shares: Shares, *, slots: int = 8) -> Account:
    client: Any = lambda *_: cast(VercelClient, None)  # noqa: E731
    return Account(
        client,
        Token.of("test-token-not-a-secret", "a file"),
        TestClock(),
        slots=slots,
        wake=lambda key, _: woken.append(key),
        shares=shares,
    )


async def moments(town: Town, number: int = 30) -> None:
    """Let everything go on that does not wait for a time."""
    for _ in range(number):
        await town.sync()
        await settle()


def limits(one: Account) -> None:
    one.failed("issue", Scope(), LIMITED, meaning(LIMITED, "issue"))


async def passes(one: Account, seconds: float = 140) -> None:
    await cast(TestClock, one._clock).advance(seconds)


async def test_after_a_pause_each_namespace_has_its_turn_before_one_has_another() -> None:
    """Whose renewals are due at the end of the pause used to come first each time, and used up the limit again."""
    woken: list[Hashable] = []
    shared = account(woken, slots=8)
    limits(shared)
    for number in range(20):
        shared.keep_turn(key("evil", number), "issue", urgent=True)
    shared.keep_turn(key("web"), "issue", urgent=False)
    await passes(shared)
    assert shared.take_slot(key("evil", 0), "issue"), "it was here first"
    shared.succeeded("issue", Scope(), key("evil", 0))
    assert not shared.take_slot(key("evil", 1), "issue")
    shared.give_slot_back(key("evil", 0), "issue")
    assert woken == [key("web")]
    assert not shared.take_slot(key("evil", 2), "issue"), "the slot is kept for the other one"
    assert shared.take_slot(key("web"), "issue", urgent=False)
    shared.succeeded("issue", Scope(), key("web"))
    shared.give_slot_back(key("web"), "issue")
    assert woken == [key("web"), key("evil", 1)]


async def test_who_was_served_longest_ago_is_next_after_each_pause() -> None:
    """Three namespaces, and a limit of two calls."""
    woken: list[Hashable] = []
    shared = account(woken, slots=8)
    tenants = [key("evil"), key("mean"), key("web")]
    served: Counter[Hashable] = Counter()
    for _ in range(6):
        limits(shared)
        for tenant in tenants:
            shared.keep_turn(tenant, "issue", urgent=True)
        await passes(shared, 3600)
        left, woken[:] = 2, []
        shared.wake_waiting()
        while woken and left:
            one = woken.pop(0)
            assert shared.take_slot(one, "issue")
            shared.succeeded("issue", Scope(), one)
            served[one] += 1
            left -= 1
            shared.give_slot_back(one, "issue")
            await passes(shared, 1)
        for refused in woken:
            assert shared.take_slot(refused, "issue")
            shared.give_slot_back(refused, "issue")
    assert set(served.values()) == {4}


async def test_a_slot_is_not_kept_for_long_for_a_key_that_does_not_come() -> None:
    woken: list[Hashable] = []
    shared = account(woken)
    limits(shared)
    shared.keep_turn(key("web"), "issue", urgent=True)
    await passes(shared)
    assert not shared.take_slot(key("evil"), "issue")
    assert woken == [key("web")]
    await passes(shared, CALLED)
    assert shared.take_slot(key("evil"), "issue")


async def test_a_key_that_was_called_and_needs_nothing_passes_its_turn_on() -> None:
    woken: list[Hashable] = []
    shared = account(woken, slots=1)
    shared.keep_turn(key("web"), "issue", urgent=True)
    assert not shared.take_slot(key("evil"), "issue")
    shared.pass_on(key("web"))
    assert woken == [key("web"), key("evil")]
    assert shared.take_slot(key("evil"), "issue")


async def test_nobody_waits_for_the_turn_of_a_kind_of_call_that_is_paused() -> None:
    woken: list[Hashable] = []
    shared = account(woken)
    limits(shared)
    shared.keep_turn(key("web"), "issue", urgent=True)
    assert shared.take_slot(key("evil"), "get")
    assert woken == []


@pytest.mark.parametrize("retry_after", [False, True], ids=["nothing", "Retry-After"])
async def test_a_rate_limit_that_one_namespace_uses_up_again_and_again_stops_no_other(
    town: Town, retry_after: bool
) -> None:
    with town.at("evil"):
        for number in range(20):
            await town.apply(f"x-{number:02}", [f"x{number}.evil.example"])
    await town.quiet()
    await town.advance(HOUR)
    town.emulator.limits.rule = RateLimit(limit=6, window=60, rate_limit_headers=False, retry_after=retry_after)
    for minute in range(1, 8):
        with town.at("evil"):
            for number in range(20):
                await town.annotate(f"x-{number:02}", "renew", str(minute))
        await town.quiet()
        if minute == 1:
            await town.apply("site", NAMES)
        await town.advance(MINUTE)
    assert await town.ready("site") == ("True", "Issued")


async def test_of_requests_in_flight_together_one_may_succeed_between_two_that_are_refused(town: Town) -> None:
    limited = {"call": "issue", "status": 429, "code": "rate_limited", "headers": {"Retry-After": "120"}}
    answers = [
        town.emulator.faults.add(Fault.model_validate({"cns": ["a.example.com"], "delay": NEVER, **limited})),
        town.emulator.faults.add(Fault(cns=["b.example.com"], call="issue", action="hang")),
        town.emulator.faults.add(Fault.model_validate({"cns": ["c.example.com"], "delay": NEVER, **limited})),
    ]
    for name in "abc":
        await town.apply(name, [f"{name}.example.com"])
    await moments(town)
    assert len(operator_of(town).reconciler.posts.tasks) == 3
    for answer in answers:
        answer.end()
        await moments(town)
    await town.quiet()
    await town.advance(10 * MINUTE)
    for name in "abc":
        assert await town.ready(name) == ("True", "Issued")


async def test_a_list_that_failed_in_one_team_pauses_no_other(town: Town) -> None:
    """The resource waited for it, and its team was changed meanwhile."""
    await town.apply("site", NAMES)
    await town.quiet()
    slow = town.emulator.faults.add(Fault(call="list", team="nowhere", status=403, code="forbidden", delay=NEVER))
    with town.at("evil"):
        await town.apply("x", ["x.evil.example"], team={"slug": "nowhere"})
        await moments(town)
        assert operator_of(town).accounts.by_place[None].lists
        await town.apply("x", ["x.evil.example"])  # in the team of the others now
        await moments(town)
        slow.end()
        await town.quiet()
        await town.advance(5 * MINUTE)
        await town.annotate("x", "renew", "1")
        await town.quiet()
    await town.apply("new", ["new.example.com"])
    await town.quiet()
    assert await town.ready("new") == ("True", "Issued")


@pytest.mark.parametrize("paused", ["a team", "all requests of another kind"])
async def test_during_a_pause_that_does_not_concern_them_keys_that_wait_are_not_reconciled_again_and_again(
    town: Town, paused: str
) -> None:
    for number in range(16):
        await town.apply(f"site-{number}", [f"s{number}.example.com"])
    await town.quiet()
    shared = operator_of(town).accounts.by_place[None]
    if paused == "a team":
        with town.at("evil"):
            await town.apply("x", ["x.evil.example"], team={"slug": "nowhere"})
            await town.quiet()
    else:
        assert shared.failed("upload", Scope(), LIMITED, meaning(LIMITED, "upload"))
        shared._allowed = 8
    assert shared.pause() is not None
    hang = hangs(town, "get")
    for number in range(16):
        await town.annotate(f"site-{number}", "renew", "1")
    await town.quiet(hanging=8)
    assert shared.in_flight == 8
    reconciled = counted_rounds(town)
    hang.release("continue", 1)
    await moments(town, 100)
    assert reconciled.total() < 100


def counted_rounds(town: Town) -> Counter[Any]:
    """Returns a counter of the rounds of each key, from now on."""
    rounds: Counter[Any] = Counter()
    reconciler = operator_of(town).reconciler
    before = reconciler._reconcile

    async def counted(one: Any) -> Any:
        rounds[one] += 1
        return await before(one)

    reconciler._reconcile = counted
    return rounds


async def test_a_slot_that_is_free_goes_to_the_next_if_the_first_one_is_in_work(town: Town) -> None:
    grants(town)
    await town.apply("site", NAMES)
    with town.at("evil"):
        await put_secret(town, EVIL)
        await town.apply("x", ["x.evil.example"])
    await town.quiet()
    shared = operator_of(town).accounts.by_place[None]
    for number in range(8):
        assert shared.take_slot(f"held-{number}", "get")
    with town.at("evil"):
        await town.annotate("x", "renew", "1")
        await town.quiet()
        assert shared.waiting == 1
        hangs(town, "any", token=EVIL)
        await town.apply("x", ["x.evil.example"], tokenSecretRef={"name": "vercel", "key": "token"})
        await town.quiet(hanging=1)
    await town.annotate("site", "renew", "1")
    await town.quiet(hanging=1)
    before = len(asked(town, "get"))
    shared.give_slot_back("held-0", "get")
    await town.quiet(hanging=1)
    assert len(asked(town, "get")) > before


def test_nobody_yields_to_a_namespace_whose_share_is_used_up() -> None:
    shares = Shares(most=2)
    other, shared = (shared_account([], shares) for _ in range(2))
    for number in range(2):
        assert other.take_slot(key("evil", number), "get")
    assert not shared.take_slot(key("evil", 9), "get")
    shares._most = 64
    for _ in range(62):
        shares.begin("evil")
    assert [shared.take_slot(key("web", number), "get") for number in range(8)] == [True] * 8


def test_nobody_yields_to_a_kind_of_call_that_is_limited() -> None:
    shared = account([], slots=8)
    shared.failed("issue", Scope(), LIMITED, meaning(LIMITED, "issue"))
    shared._allowed = 8
    assert shared.take_slot(key("evil", 0), "issue")
    assert not shared.take_slot(key("evil", 1), "issue")
    assert [shared.take_slot(key("web", number), "get") for number in range(7)] == [True] * 7


async def test_a_key_may_be_away_twice_and_when_its_work_ends() -> None:
    """The record of a POST does the work of its key, too, when the process ends."""
    queue: WorkQueue[str] = WorkQueue(TestClock(), workers=2)
    go = asyncio.Event()

    async def work(_: str) -> None:
        await go.wait()

    run = asyncio.create_task(queue.run(work))
    queue.add("a")
    await settle()
    with queue.away("a"):
        go.set()
        await settle()
    assert not run.done()
    queue.stop()
    await settle()
    assert run.done()
    assert run.exception() is None


# --- what a resource says while it waits ------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["list", "issue"])
async def test_a_resource_says_within_ten_seconds_that_it_waits_for_vercel(town: Town, call: str) -> None:
    """The answers of all requests with its token are late."""
    hang = hangs(town, call)
    others = range(0 if call == "list" else 8)
    for number in others:
        await town.apply(f"other-{number}", [f"o{number}.example.com"])
    await town.quiet(hanging=len(others) or 1)
    await town.apply("site", NAMES)
    await town.quiet(hanging=len(others) or 1)
    await town.advance(6, hanging=len(others) or 1)
    status, reason, message = await town.condition("site", "Issuing")
    assert (status, reason) == ("True", "FirstIssue")
    assert message == (
        "A certificate for shop.example.com is needed. Waiting for Vercel to answer earlier requests with the default "
        "token."
    )
    hang.end()
    await town.advance(10 * MINUTE)
    assert await town.ready("site") == ("True", "Issued")


async def test_of_a_bulk_import_nobody_writes_that_it_waits(town: Town) -> None:
    hangs(town, "issue", times=8)
    for number in range(70):
        await town.apply(f"site-{number}", [f"s{number}.example.com"])
    await town.quiet(hanging=8)
    await town.advance(20, hanging=8)
    assert sum(bool(body.get("status")) for body in await town.all()) == 8
