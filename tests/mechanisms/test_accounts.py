"""What is kept per token: slots, pauses, and the newest list of each scope."""

import asyncio
from collections.abc import Hashable
from datetime import timedelta
from typing import cast

import pytest
from pydantic import SecretStr

from support.clock import TestClock, settle
from vercel_certificate_operator.accounts import DOMAIN_AGE, KEPT, Account, Accounts
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.domains import DomainConfig
from vercel_certificate_operator.core.failures import Call, Failure, Fate, meaning
from vercel_certificate_operator.core.known import Listing, Pause
from vercel_certificate_operator.kube.tokens import Token, TokenMissing
from vercel_certificate_operator.vercel import OutcomeUnknown, VercelClient
from vercel_certificate_operator.vercel.client import Room

TEAM, OTHER_TEAM = Scope(team_id="team_a"), Scope(team_id="team_b")
TOKEN = Token.of("test-token-not-a-secret", "a file", ("web", "vercel", "token"))
SLOTS = 2


class Vercel:
    """Takes the place of a client: each list waits until it is answered."""

    def __init__(self, token: SecretStr | None = None) -> None:
        self.token = token
        self.begun: list[Scope] = []
        self.in_progress: list[asyncio.Future[tuple[Certificate, ...]]] = []
        self.domains: list[str] = []
        self.configs: list[asyncio.Future[DomainConfig]] = []
        self.closed = False

    async def list(self, scope: Scope, room: Room | None = None) -> tuple[Certificate, ...]:
        self.begun.append(scope)
        answer: asyncio.Future[tuple[Certificate, ...]] = asyncio.get_running_loop().create_future()
        self.in_progress.append(answer)
        return await answer

    async def answer(self, *ids: str) -> None:
        self.in_progress.pop(0).set_result(tuple(Certificate(one, frozenset({"example.com"})) for one in ids))
        await settle()

    async def fail(self) -> None:
        self.in_progress.pop(0).set_exception(OutcomeUnknown("no answer"))
        await settle()

    async def domain_config(self, domain: str, scope: Scope) -> DomainConfig:
        self.domains.append(domain)
        answer: asyncio.Future[DomainConfig] = asyncio.get_running_loop().create_future()
        self.configs.append(answer)
        return await answer

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def vercel() -> Vercel:
    return Vercel()


@pytest.fixture
def woken() -> list[Hashable]:
    """The keys that were woken, in this order."""
    return []


@pytest.fixture
def account(vercel: Vercel, clock: TestClock, woken: list[Hashable]) -> Account:
    return Account(
        lambda *_: cast(VercelClient, vercel), TOKEN, clock, slots=SLOTS, wake=lambda key, account: woken.append(key)
    )


# --- slots ------------------------------------------------------------------------------------------------------------


def test_there_are_so_many_slots_and_no_more(account: Account) -> None:
    assert account.take_slot("a", "issue")
    assert account.take_slot("b", "issue")
    assert not account.take_slot("c", "issue")


def test_whoever_has_waited_longest_is_next(account: Account, woken: list[Hashable]) -> None:
    for key in "abcdc":
        account.take_slot(key, "issue")
    account.give_slot_back("a", "issue")
    assert woken == ["c"]
    assert account.take_slot("c", "issue")
    account.give_slot_back("b", "issue")
    assert woken == ["c", "d"]
    account.give_slot_back("c", "issue")
    assert woken == ["c", "d"]


def test_a_slot_that_nobody_waits_for_is_there_for_the_next(account: Account, woken: list[Hashable]) -> None:
    for _ in range(10):
        assert account.take_slot("a", "issue")
        assert account.take_slot("b", "issue")
        account.give_slot_back("a", "issue")
        account.give_slot_back("b", "issue")
    assert woken == []


def test_a_woken_key_that_takes_no_slot_passes_it_on(account: Account, woken: list[Hashable]) -> None:
    for key in "abcd":
        account.take_slot(key, "issue")
    account.give_slot_back("a", "issue")
    account.wake_waiting()
    assert woken == ["c", "d"]


# --- pauses -----------------------------------------------------------------------------------------------------------


def fail(
    account: Account,
    status: int,
    *,
    call: Call = "issue",
    scope: Scope = TEAM,
    retry_after: float | None = None,
    code: str = "some_code",
    message: str = "Vercel says no",
    invalid_token: bool = False,
) -> Pause | None:
    wait = None if retry_after is None else timedelta(seconds=retry_after)
    failure = Failure(Fate.REFUSED, message, status, code, wait, invalid_token=invalid_token)
    return account.failed(call, scope, failure, meaning(failure, call))


def paused_for(account: Account, clock: TestClock) -> float:
    pause = account.pause()
    return pause.until - clock.monotonic() if pause else 0.0


@pytest.mark.parametrize("status", [400, 403, 404, 449, 500])
def test_a_failure_that_concerns_one_resource_pauses_nobody(account: Account, status: int) -> None:
    assert fail(account, status) is None
    assert account.pause() is None


async def test_a_rate_limit_pauses_its_kind_of_call_for_as_long_as_vercel_says(
    account: Account, clock: TestClock
) -> None:
    """Vercel's limits are per endpoint: a limit on issuing must not delay removals."""
    assert fail(account, 429, retry_after=90)
    pause = account.pause("issue", TEAM)
    assert pause is not None
    assert pause.reason == "RateLimited"
    assert account.pause("issue", OTHER_TEAM) == pause
    for other in ("get", "list", "remove"):
        assert account.pause(other, TEAM) is None
    assert 90 <= paused_for(account, clock) <= 100
    await clock.advance(89)
    assert account.pause("issue", TEAM) is not None
    await clock.advance(11)
    assert account.pause("issue", TEAM) is None


def test_a_limit_on_one_set_of_names_pauses_nobody_else(account: Account) -> None:
    said = "Too many certificates already issued for exact set of domains: example.com"
    assert fail(account, 429, code="rate_limited", message=said, retry_after=90) is None
    assert account.pause() is None


@pytest.mark.parametrize(("status", "invalid"), [(401, False), (403, True)])
@pytest.mark.parametrize("call", ["issue", "get", "list", "remove"])
def test_a_rejected_token_pauses_all_its_calls(account: Account, status: int, invalid: bool, call: Call) -> None:
    assert fail(account, status, call=call, invalid_token=invalid)
    for other in ("issue", "get", "list", "remove"):
        pause = account.pause(other, OTHER_TEAM)
        assert pause is not None
        assert pause.reason == "CredentialsInvalid"


def test_a_team_that_the_token_may_not_use_pauses_calls_in_that_team(account: Account) -> None:
    assert fail(account, 403, call="list", scope=TEAM)
    for call in ("issue", "get", "list", "remove"):
        assert account.pause(call, TEAM) is not None
        assert account.pause(call, OTHER_TEAM) is None


async def test_a_refused_token_is_tried_again_ever_more_seldom(account: Account, clock: TestClock) -> None:
    waits = []
    for _ in range(10):
        assert fail(account, 401)
        waits.append(paused_for(account, clock))
        await clock.advance(waits[-1])
    for number, wait in enumerate(waits):
        doubled = min(60 * 2**number, 3600)
        assert doubled <= wait <= doubled * 1.1
    account.succeeded("get", TEAM)
    fail(account, 401)
    assert 60 <= paused_for(account, clock) <= 66


def test_calls_that_were_refused_together_count_once(account: Account, clock: TestClock) -> None:
    for _ in range(10):
        fail(account, 401)
    assert 60 <= paused_for(account, clock) <= 66


def test_a_pause_is_never_cut_short_by_another_failure(account: Account, clock: TestClock) -> None:
    fail(account, 429, retry_after=3000)
    fail(account, 429, retry_after=5)
    assert paused_for(account, clock) >= 3000


def test_of_two_pauses_the_longer_one_is_reported(account: Account) -> None:
    fail(account, 429, retry_after=3000)
    fail(account, 401)
    pause = account.pause("issue", TEAM)
    assert pause is not None
    assert pause.reason == "RateLimited"
    pause = account.pause("get", TEAM)
    assert pause is not None
    assert pause.reason == "CredentialsInvalid"


def test_the_reason_of_a_pause_names_the_secret_and_not_the_token(account: Account) -> None:
    fail(account, 401)
    pause = account.pause()
    assert pause is not None
    assert pause.reason == "CredentialsInvalid"
    assert pause.message.startswith("Vercel rejected token web/vercel/token: Vercel says no (some_code, HTTP 401).")
    assert TOKEN.value.get_secret_value() not in pause.message
    assert pause.message.endswith(".")


async def test_a_pause_is_over_by_the_monotonic_clock_alone(account: Account, clock: TestClock) -> None:
    fail(account, 429, retry_after=60)
    clock.step(-3600)
    await clock.advance(70)
    assert account.pause() is None


async def test_after_a_pause_calls_that_waited_are_made_one_at_a_time(
    account: Account, clock: TestClock, woken: list[Hashable]
) -> None:
    fail(account, 429, retry_after=60)
    await clock.advance(70)
    assert account.take_slot("a", "issue")
    assert not account.take_slot("b", "issue"), "one probe"
    assert not account.take_slot("c", "issue")
    account.succeeded("issue", TEAM)
    account.give_slot_back("a", "issue")
    assert woken == ["b"], "still one at a time"
    assert account.take_slot("b", "issue")
    for _ in range(SLOTS - 1):
        account.succeeded("issue", TEAM)
    account.wake_waiting()
    assert woken == ["b", "c"], "two at a time, after as many successes as there are slots"
    assert account.take_slot("c", "issue")


async def test_a_probe_that_fails_begins_the_next_pause(
    account: Account, clock: TestClock, woken: list[Hashable]
) -> None:
    fail(account, 401)
    await clock.advance(70)
    assert account.take_slot("a", "issue")
    assert not account.take_slot("b", "issue")
    fail(account, 401)
    account.give_slot_back("a", "issue")
    assert account.pause() is not None
    assert woken == ["b"], "so that it reports the pause"


# --- lists ------------------------------------------------------------------------------------------------------------


def ask(account: Account, key: Hashable, begun_after: float | None, scope: Scope = TEAM) -> Listing | None:
    """As whoever needs a list does: use the newest one, or wait for the one in progress, or start one."""
    listing = account.listing(scope, begun_after)
    if listing is None and account.failed_list(key, TEAM) is None and not account.join_list(scope, key):
        assert account.take_slot(key, "issue")
        account.start_list(scope, key)
    return listing


def ids(listing: Listing | None) -> list[str] | None:
    return None if listing is None else [certificate.id for certificate in listing.certificates]


async def test_one_list_is_shared_by_all_who_need_one(
    account: Account, vercel: Vercel, clock: TestClock, woken: list[Hashable]
) -> None:
    began = clock.monotonic()
    for key in "abcde":
        assert ask(account, key, began) is None
    await settle()
    assert vercel.begun == [TEAM]
    assert account.in_flight == 1
    await clock.advance(7)
    await vercel.answer("cert_1")
    assert woken == [*"abcde"]
    assert account.in_flight == 0
    listing = ask(account, "a", began)
    assert ids(listing) == ["cert_1"]
    assert listing is not None
    assert (listing.begun, listing.took) == (began, 7.0)
    assert ask(account, "e", began) is listing


async def test_the_newest_list_says_itself_how_long_it_is_fresh(
    account: Account, vercel: Vercel, clock: TestClock
) -> None:
    """Who knows only an older and shorter list doesn't make another one for that."""
    ask(account, "a", clock.monotonic())
    await settle()
    await vercel.answer()
    await clock.advance(6)
    assert account.listing(TEAM, None) is None, "an empty one is fresh for five seconds"
    ask(account, "a", clock.monotonic())
    await settle()
    await vercel.answer(*(f"cert_{number}" for number in range(100)))
    await clock.advance(60)
    assert account.listing(TEAM, None) is not None, "one of a hundred for a minute"
    await clock.advance(1)
    assert account.listing(TEAM, None) is None


async def test_a_list_is_kept_for_everyone_who_can_use_an_older_one(
    account: Account, vercel: Vercel, clock: TestClock
) -> None:
    began = clock.monotonic()
    ask(account, "a", began)
    await settle()
    await vercel.answer("cert_1")
    await clock.advance(60)
    assert ids(account.listing(TEAM, began)) == ["cert_1"]
    assert ids(account.listing(TEAM, began - 10)) == ["cert_1"]
    assert account.listing(TEAM, began + 1) is None
    ask(account, "a", began + 1)
    await settle()
    assert len(vercel.begun) == 2
    await vercel.answer()
    newer = account.listing(TEAM, began + 1)
    assert newer is not None
    assert newer.begun == clock.monotonic()


async def test_at_most_one_list_of_a_scope_is_in_flight(
    account: Account, vercel: Vercel, clock: TestClock, woken: list[Hashable]
) -> None:
    """Whoever needs a newer one than that in progress is woken at its end, and starts the next."""
    ask(account, "early", clock.monotonic())
    await clock.advance(10)
    wanted = clock.monotonic()
    ask(account, "late", wanted)
    await settle()
    assert len(vercel.begun) == 1
    await vercel.answer("cert_1")
    assert woken == ["early", "late"]
    assert ask(account, "late", wanted) is None
    await settle()
    assert len(vercel.begun) == 2
    await vercel.answer("cert_1", "cert_2")
    assert ids(ask(account, "late", wanted)) == ["cert_1", "cert_2"]


async def test_scopes_are_listed_separately(account: Account, vercel: Vercel, clock: TestClock) -> None:
    began = clock.monotonic()
    ask(account, "a", began, TEAM)
    ask(account, "b", began, OTHER_TEAM)
    await settle()
    assert vercel.begun == [TEAM, OTHER_TEAM]
    await vercel.answer("cert_a")
    await vercel.answer("cert_b")
    assert [ids(account.listing(scope, began)) for scope in (TEAM, OTHER_TEAM)] == [["cert_a"], ["cert_b"]]


async def test_a_failed_list_is_reported_once_to_each_who_waited_and_is_not_kept(
    account: Account, vercel: Vercel, clock: TestClock, woken: list[Hashable]
) -> None:
    began = clock.monotonic()
    for key in "ab":
        ask(account, key, began)
    await settle()
    await vercel.fail()
    assert woken == ["a", "b"]
    for key in "ab":
        assert isinstance(account.failed_list(key, TEAM), OutcomeUnknown)
        assert account.failed_list(key, TEAM) is None
    assert account.listing(TEAM, began) is None
    ask(account, "a", began)
    await settle()
    await vercel.answer("cert_1")
    assert ids(account.listing(TEAM, began)) == ["cert_1"]


async def test_a_failed_list_leaves_the_one_before(account: Account, vercel: Vercel, clock: TestClock) -> None:
    began = clock.monotonic()
    ask(account, "a", began)
    await settle()
    await vercel.answer("cert_1")
    await clock.advance(60)
    ask(account, "a", began + 1)
    await settle()
    await vercel.fail()
    assert ids(account.listing(TEAM, began)) == ["cert_1"]


async def test_a_list_occupies_a_slot_until_its_end(
    account: Account, vercel: Vercel, clock: TestClock, woken: list[Hashable]
) -> None:
    ask(account, "a", clock.monotonic())
    assert account.take_slot("b", "issue")
    assert not account.take_slot("c", "issue")
    await settle()
    await vercel.fail()
    assert woken == ["a", "c"]


async def test_a_list_that_fails_because_of_a_bug_gives_its_slot_back(
    account: Account, vercel: Vercel, clock: TestClock, woken: list[Hashable], caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise the token could make fewer and fewer calls. The next list has to wait: it may fail again."""
    bugs: list[str] = []
    account.found_bug = lambda: bugs.append("a list")
    began = clock.monotonic()
    for key in "ab":
        ask(account, key, began)
    await settle()
    vercel.in_progress.pop(0).set_exception(KeyError("a bug"))
    await settle()
    assert account.in_flight == 0
    assert woken == ["a", "b"]
    for key in "ab":
        assert "internal error: KeyError" in str(account.failed_list(key, TEAM))
    assert account.resting_list(TEAM) is not None
    assert "because of a bug" in caplog.text
    assert bugs == ["a list"]


async def test_lists_are_ordered_by_the_monotonic_clock_alone(
    account: Account, vercel: Vercel, clock: TestClock
) -> None:
    """After the wall clock was set back, a list from before must not pass for a newer one."""
    ask(account, "a", clock.monotonic())
    await settle()
    await vercel.answer("cert_1")
    await clock.advance(60)
    clock.step(-3600)
    assert account.listing(TEAM, clock.monotonic()) is None


# --- accounts ---------------------------------------------------------------------------------------------------------


class Clients(list[Vercel]):
    """All clients that were made."""

    def __call__(self, token: SecretStr, allowed: object) -> VercelClient:
        self.append(Vercel(token))
        return cast(VercelClient, self[-1])


async def test_each_token_has_its_own_account(clock: TestClock) -> None:
    clients = Clients()
    accounts = Accounts(clients, clock, slots=1)
    one = Token.of("test-token-one", "a file")
    other = Token.of("test-token-two", "a Secret", ("web", "vercel", "token"))
    assert accounts.of(one) is accounts.of(Token.of("test-token-one\n", "a Secret", ("other", "vercel", "token")))
    assert accounts.of(one) is not accounts.of(other)
    assert accounts.of(one).client is not accounts.of(other).client is not None
    assert accounts.of(one).take_slot("a", "issue")
    assert not accounts.of(one).take_slot("b", "issue")
    assert accounts.of(other).take_slot("b", "issue")
    fail(accounts.of(one), 401)
    assert accounts.of(other).pause() is None
    await accounts.aclose()
    assert [client.closed for client in clients] == [True, True]


async def test_a_rejected_token_keeps_no_client(clock: TestClock) -> None:
    """Anyone can put any number of useless tokens into a Secret."""
    clients = Clients()
    accounts = Accounts(clients, clock, slots=2)
    account = accounts.of(Token.of("test-token-rejected", "a file"))
    assert account.take_slot("a", "issue")
    assert account.take_slot("b", "issue")
    assert account.client is not None
    fail(account, 401)
    account.give_slot_back("a", "issue")
    await settle()
    closed = [clients[0].closed]
    account.give_slot_back("b", "issue")
    await settle()
    closed.append(clients[0].closed)
    assert closed == [False, True], "not while a call is in flight"
    await clock.advance(3600)
    assert account.client is cast(VercelClient, clients[1]), "it is tried again later"


async def test_a_namespace_uses_a_bounded_number_of_tokens(clock: TestClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vercel_certificate_operator.accounts.MOST_TOKENS", 2)
    accounts = Accounts(Clients(), clock, slots=1)
    for number in range(2):
        accounts.of(Token.of(f"test-token-{number}", "a Secret", ("web", "tokens", f"key-{number}")))
    with pytest.raises(TokenMissing, match="namespace web uses 2 tokens, which is the limit"):
        accounts.of(Token.of("test-token-3", "a Secret", ("web", "tokens", "key-3")))
    assert accounts.of(Token.of("test-token-1", "a Secret", ("web", "tokens", "key-1"))) is not None
    assert accounts.of(Token.of("test-token-3", "a Secret", ("other", "tokens", "key-3"))) is not None


async def test_a_token_that_nobody_uses_any_longer_is_dropped_when_another_one_comes(clock: TestClock) -> None:
    clients = Clients()
    accounts = Accounts(clients, clock, slots=8)
    old, used, busy, paused, early, new = (
        Token.of(f"test-token-{name}", "a Secret", ("web", name, "token"))
        for name in ("old", "used", "busy", "that-is-paused", "that-comes-too-early", "new")
    )
    for token in (old, used, busy, paused):
        assert accounts.of(token).client is not None
    with_a_call, resting = accounts.of(busy), accounts.of(paused)
    assert with_a_call.take_slot("a", "issue")
    await clock.advance(KEPT)
    accounts.of(used)
    fail(resting, 429, retry_after=86400)
    assert accounts.of(early).client is not None
    assert not any(client.closed for client in clients)
    await clock.advance(3600)
    assert accounts.of(new).client is not None
    await settle()
    assert [client.closed for client in clients] == [True, False, False, False, False, False]
    assert accounts.of(used).client is cast(VercelClient, clients[1])
    assert accounts.of(old).client is cast(VercelClient, clients[-1])
    await accounts.aclose()
    assert all(client.closed for client in clients)


async def test_closing_ends_a_list_in_progress(account: Account, vercel: Vercel, clock: TestClock) -> None:
    ask(account, "a", clock.monotonic())
    await settle()
    await account.aclose()
    assert account.lists == []
    assert vercel.closed


async def test_closing_leaves_nothing_behind_that_waits_for_a_turn(
    account: Account, vercel: Vercel, clock: TestClock
) -> None:
    """The slot of the list that closing ends is kept for a key whose turn it is."""
    ask(account, "a", clock.monotonic())
    assert account.take_slot("b", "issue")
    await settle()
    account.keep_turn("c", "issue", urgent=True)
    await account.aclose()
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}


# --- domains ----------------------------------------------------------------------------------------------------------


async def config_of(account: Account, domain: str = "example.com") -> DomainConfig:
    reading = account.domain_config(domain, TEAM)
    if reading is None:
        reading = account.read_domain(domain, TEAM, account.client.domain_config(domain, TEAM))
    return await asyncio.shield(reading)


async def test_all_who_need_the_configuration_of_a_domain_share_one_call(
    account: Account, vercel: Vercel, clock: TestClock
) -> None:
    asked = [asyncio.create_task(config_of(account)) for _ in range(3)]
    await settle()
    asked[0].cancel()
    await settle()
    config = DomainConfig(misconfigured=True)
    vercel.configs[0].set_result(config)
    assert await asyncio.gather(*asked[1:]) == [config, config]
    assert asked[0].cancelled()
    assert await config_of(account) == config
    assert vercel.domains == ["example.com"]
    await clock.advance(DOMAIN_AGE)
    later = asyncio.create_task(config_of(account))
    await settle()
    vercel.configs[1].set_result(DomainConfig(misconfigured=False))
    assert not (await later).misconfigured


async def test_closing_ends_a_call_for_a_configuration(account: Account, vercel: Vercel) -> None:
    asked = asyncio.create_task(config_of(account))
    await settle()
    assert not account.idle
    await account.aclose()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert vercel.configs[0].cancelled()
    assert vercel.closed
    assert account.idle


async def test_the_client_of_a_rejected_token_stays_open_while_a_configuration_is_read(clock: TestClock) -> None:
    clients = Clients()
    account = Accounts(clients, clock, slots=1).of(Token.of("test-token-rejected", "a file"))
    asked = asyncio.create_task(config_of(account))
    await settle()
    assert account.take_slot("a", "issue")
    fail(account, 401)
    account.give_slot_back("a", "issue")
    await settle()
    closed = [clients[0].closed]
    clients[0].configs[0].set_exception(OutcomeUnknown("no answer"))
    with pytest.raises(OutcomeUnknown):
        await asked
    await settle()
    assert [*closed, clients[0].closed] == [False, True]
