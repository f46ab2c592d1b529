"""What is kept per token: slots, a pause, and one listing for everybody."""

import asyncio
from collections.abc import Hashable
from datetime import timedelta
from typing import cast

import pytest
from pydantic import SecretStr

from support.clock import TestClock, settle
from vercel_certificate_operator.accounts import KEPT, Account, Accounts
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.failures import Failure, Fate, meaning
from vercel_certificate_operator.kube.tokens import Token
from vercel_certificate_operator.vercel import OutcomeUnknown, VercelClient

TEAM, OTHER_TEAM = Scope(team_id="team_a"), Scope(team_id="team_b")


SLOTS = 2


def given_back(account: Account) -> list[Hashable]:
    """Who is woken when a call is over."""
    account.give_slot_back()
    return account.wake()


class Vercel:
    """Stands in for a client: each listing waits until it is let go."""

    def __init__(self, token: SecretStr | None = None) -> None:
        self.token = token
        self.clock_offset: timedelta | None = timedelta(seconds=3)
        self.begun: list[Scope] = []
        self.under_way: list[asyncio.Future[tuple[Certificate, ...]]] = []
        self.closed = False

    async def list(self, scope: Scope) -> tuple[Certificate, ...]:
        self.begun.append(scope)
        answer: asyncio.Future[tuple[Certificate, ...]] = asyncio.get_running_loop().create_future()
        self.under_way.append(answer)
        return await answer

    def answer(self, *ids: str) -> None:
        self.under_way.pop(0).set_result(tuple(Certificate(one, frozenset({"example.com"})) for one in ids))

    def fail(self) -> None:
        self.under_way.pop(0).set_exception(OutcomeUnknown("no answer"))

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def vercel() -> Vercel:
    return Vercel()


@pytest.fixture
def account(vercel: Vercel, clock: TestClock) -> Account:
    return Account(cast(VercelClient, vercel), "f1n9e2p", clock, slots=SLOTS)


# --- slots ------------------------------------------------------------------------------------------------------------


def test_there_are_so_many_slots_and_no_more(account: Account) -> None:
    assert account.take_slot("a")
    assert account.take_slot("b")
    assert not account.take_slot("c")


def test_whoever_has_waited_longest_is_next(account: Account) -> None:
    for key in "abcdc":
        account.take_slot(key)
    assert given_back(account) == ["c"]
    assert account.take_slot("c")
    assert given_back(account) == ["d"]
    assert given_back(account) == []


def test_a_slot_that_nobody_waits_for_is_there_for_the_next(account: Account) -> None:
    for _ in range(10):
        assert account.take_slot("a")
        assert account.take_slot("b")
        assert given_back(account) == []
        assert given_back(account) == []


# --- the pause --------------------------------------------------------------------------------------------------------


def fail(account: Account, status: int, *, retry_after: float | None = None, code: str = "some_code") -> bool:
    wait = None if retry_after is None else timedelta(seconds=retry_after)
    failure = Failure(Fate.REFUSED, "Vercel says no", status, code, wait)
    return account.failed(failure, meaning(failure))


def paused_for(account: Account, clock: TestClock) -> float:
    return account.pause.until - clock.monotonic() if account.pause else 0.0


@pytest.mark.parametrize("status", [400, 403, 404, 449, 500])
def test_a_failure_that_concerns_one_resource_pauses_nobody(account: Account, status: int) -> None:
    assert not fail(account, status)
    assert account.pause is None


async def test_a_rate_limit_pauses_everybody_for_as_long_as_vercel_says(account: Account, clock: TestClock) -> None:
    assert fail(account, 429, retry_after=90)
    pause = account.pause
    assert pause is not None
    assert pause.reason == "RateLimited"
    assert 90 <= paused_for(account, clock) <= 100
    await clock.advance(89)
    assert account.pause is not None
    await clock.advance(11)
    assert account.pause is None


async def test_a_refused_token_is_tried_again_ever_more_seldom(account: Account, clock: TestClock) -> None:
    waits = []
    for _ in range(10):
        assert fail(account, 401)
        waits.append(paused_for(account, clock))
        await clock.advance(waits[-1])
    assert waits == sorted(waits)
    assert 60 <= waits[0] <= 66
    assert 120 <= waits[1] <= 132
    assert 3600 <= waits[-1] <= 3960
    account.succeeded()
    fail(account, 401)
    assert 60 <= paused_for(account, clock) <= 66


def test_a_pause_is_never_cut_short_by_another_failure(account: Account, clock: TestClock) -> None:
    fail(account, 429, retry_after=3000)
    fail(account, 429, retry_after=5)
    assert paused_for(account, clock) >= 3000


def test_why_it_rests_is_told_without_the_token(account: Account) -> None:
    fail(account, 401)
    pause = account.pause
    assert pause is not None
    assert pause.reason == "CredentialsInvalid"
    assert "Vercel says no" in pause.message
    assert pause.message.endswith(".")


async def test_a_pause_is_over_by_the_monotonic_clock_alone(account: Account, clock: TestClock) -> None:
    fail(account, 429, retry_after=60)
    clock.step(-3600)
    await clock.advance(70)
    assert account.pause is None


async def test_after_a_pause_what_has_waited_is_let_through_one_by_one(account: Account, clock: TestClock) -> None:
    fail(account, 429, retry_after=60)
    await clock.advance(70)
    assert account.take_slot("a")
    assert not account.take_slot("b"), "one probe"
    assert not account.take_slot("c")
    account.succeeded()
    assert given_back(account) == ["b"], "still one at a time"
    assert account.take_slot("b")
    for _ in range(SLOTS - 1):
        account.succeeded()
    assert account.wake() == ["c"], "two at a time, after as many successes as there are slots"
    assert account.take_slot("c")


async def test_a_probe_that_fails_lets_nobody_through(account: Account, clock: TestClock) -> None:
    fail(account, 401)
    await clock.advance(70)
    assert account.take_slot("a")
    assert not account.take_slot("b")
    fail(account, 401)
    account.give_slot_back()
    assert account.pause is not None


# --- listings ---------------------------------------------------------------------------------------------------------


async def test_one_listing_does_for_everybody(account: Account, vercel: Vercel, clock: TestClock) -> None:
    began = clock.monotonic()
    waiting = [asyncio.create_task(account.listing(TEAM, began)) for _ in range(5)]
    await settle()
    assert vercel.begun == [TEAM]
    await clock.advance(7)
    vercel.answer("cert_1")
    listings = await asyncio.gather(*waiting)
    assert all(listing is listings[0] for listing in listings)
    assert (listings[0].begun, listings[0].clock_offset) == (began, timedelta(seconds=3))
    assert [certificate.id for certificate in listings[0].certificates] == ["cert_1"]


async def test_a_listing_is_kept_for_whoever_may_do_with_an_older_one(
    account: Account, vercel: Vercel, clock: TestClock
) -> None:
    first = asyncio.create_task(account.listing(TEAM, clock.monotonic()))
    await settle()
    vercel.answer("cert_1")
    listing = await first
    await clock.advance(60)
    assert await account.listing(TEAM, listing.begun) is listing
    assert await account.listing(TEAM, listing.begun - 10) is listing
    newer = asyncio.create_task(account.listing(TEAM, listing.begun + 1))
    await settle()
    assert len(vercel.begun) == 2
    vercel.answer()
    assert (await newer).begun == clock.monotonic()


async def test_a_listing_that_began_too_early_is_waited_for_then_another_is_made(
    account: Account, vercel: Vercel, clock: TestClock
) -> None:
    """Never more than one in flight."""
    early = asyncio.create_task(account.listing(TEAM, clock.monotonic()))
    await clock.advance(10)
    wanted = clock.monotonic()
    late = [asyncio.create_task(account.listing(TEAM, wanted)) for _ in range(3)]
    await settle()
    assert len(vercel.begun) == 1
    vercel.answer("cert_1")
    await settle()
    assert early.done()
    assert len(vercel.begun) == 2
    vercel.answer("cert_1", "cert_2")
    listings = await asyncio.gather(*late)
    assert all(len(listing.certificates) == 2 and listing.begun >= wanted for listing in listings)
    assert len(vercel.begun) == 2


async def test_scopes_are_listed_apart(account: Account, vercel: Vercel, clock: TestClock) -> None:
    one = asyncio.create_task(account.listing(TEAM, clock.monotonic()))
    other = asyncio.create_task(account.listing(OTHER_TEAM, clock.monotonic()))
    await settle()
    assert vercel.begun == [TEAM, OTHER_TEAM]
    vercel.answer("cert_a")
    vercel.answer("cert_b")
    assert [(await task).certificates[0].id for task in (one, other)] == ["cert_a", "cert_b"]


async def test_a_listing_that_failed_is_told_to_all_and_not_kept(
    account: Account, vercel: Vercel, clock: TestClock
) -> None:
    waiting = [asyncio.create_task(account.listing(TEAM, clock.monotonic())) for _ in range(2)]
    await settle()
    vercel.fail()
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, OutcomeUnknown)
    again = asyncio.create_task(account.listing(TEAM, clock.monotonic()))
    await settle()
    assert len(vercel.begun) == 2
    vercel.answer("cert_1")
    assert (await again).certificates[0].id == "cert_1"


async def test_a_listing_that_failed_leaves_the_one_before(account: Account, vercel: Vercel, clock: TestClock) -> None:
    first = asyncio.create_task(account.listing(TEAM, clock.monotonic()))
    await settle()
    vercel.answer("cert_1")
    listing = await first
    await clock.advance(60)
    second = asyncio.create_task(account.listing(TEAM, clock.monotonic()))
    await settle()
    vercel.fail()
    with pytest.raises(OutcomeUnknown):
        await second
    assert await account.listing(TEAM, listing.begun) is listing


async def test_who_waits_for_one_that_began_too_early_does_not_mind_its_failure(
    account: Account, vercel: Vercel, clock: TestClock
) -> None:
    early = asyncio.create_task(account.listing(TEAM, clock.monotonic()))
    await clock.advance(10)
    late = asyncio.create_task(account.listing(TEAM, clock.monotonic()))
    await settle()
    vercel.fail()
    await settle()
    vercel.answer("cert_1")
    assert (await late).certificates[0].id == "cert_1"
    with pytest.raises(OutcomeUnknown):
        await early


async def test_who_gives_up_waiting_harms_nobody_else(account: Account, vercel: Vercel, clock: TestClock) -> None:
    began = clock.monotonic()
    impatient, patient = (asyncio.create_task(account.listing(TEAM, began)) for _ in range(2))
    await settle()
    impatient.cancel()
    await settle()
    assert impatient.cancelled()
    vercel.answer("cert_1")
    assert (await patient).certificates[0].id == "cert_1"
    assert await account.listing(TEAM, began) is await patient


async def test_a_listing_that_everybody_gave_up_on_may_fail_unseen(
    account: Account, vercel: Vercel, clock: TestClock
) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    alone = asyncio.create_task(account.listing(TEAM, clock.monotonic()))
    await settle()
    alone.cancel()
    await settle()
    vercel.fail()
    await settle()
    again = asyncio.create_task(account.listing(TEAM, clock.monotonic()))
    await settle()
    vercel.answer()
    await again
    assert told == []


async def test_a_listing_is_ordered_by_the_monotonic_clock_alone(
    account: Account, vercel: Vercel, clock: TestClock
) -> None:
    """After the wall clock was set back, a listing from before must not pass for a newer one."""
    first = asyncio.create_task(account.listing(TEAM, clock.monotonic()))
    await settle()
    vercel.answer("cert_1")
    await first
    await clock.advance(60)
    clock.step(-3600)
    second = asyncio.create_task(account.listing(TEAM, clock.monotonic()))
    await settle()
    assert len(vercel.begun) == 2
    vercel.answer()
    await second


# --- accounts ---------------------------------------------------------------------------------------------------------


async def test_each_token_has_its_own_account(clock: TestClock) -> None:
    clients: list[Vercel] = []

    def new_client(token: SecretStr) -> VercelClient:
        clients.append(Vercel(token))
        return cast(VercelClient, clients[-1])

    accounts = Accounts(new_client, clock, slots=1)
    one, other = Token.of("test-token-one", "a file"), Token.of("test-token-two", "a file")
    assert accounts.of(one) is accounts.of(Token.of("test-token-one\n", "a Secret"))
    assert accounts.of(one) is not accounts.of(other)
    assert accounts.of(one).take_slot("a")
    assert not accounts.of(one).take_slot("b")
    assert accounts.of(other).take_slot("b")
    fail(accounts.of(one), 401)
    assert accounts.of(other).pause is None
    await accounts.aclose()
    assert [client.closed for client in clients] == [True, True]


async def test_a_token_that_nobody_uses_any_more_is_let_go_when_another_one_comes(clock: TestClock) -> None:
    clients: list[Vercel] = []

    def new_client(token: SecretStr) -> VercelClient:
        clients.append(Vercel(token))
        return cast(VercelClient, clients[-1])

    accounts = Accounts(new_client, clock)
    old, used, busy, paused = (
        Token.of(f"test-token-{name}", "a file") for name in ("old", "used", "busy", "that-is-paused")
    )
    _, _, with_a_call, resting = (accounts.of(token) for token in (old, used, busy, paused))
    assert with_a_call.take_slot("a")
    await clock.advance(KEPT)
    accounts.of(used)
    fail(resting, 429, retry_after=86400)
    accounts.of(Token.of("test-token-that-comes-too-early", "a file"))
    assert not any(client.closed for client in clients)
    await clock.advance(3600)
    accounts.of(Token.of("test-token-new", "a file"))
    await settle()
    assert [client.closed for client in clients] == [True, False, False, False, False, False]
    assert accounts.of(used).client is cast(VercelClient, clients[1])
    assert accounts.of(old).client is cast(VercelClient, clients[-1])
    await accounts.aclose()
    assert all(client.closed for client in clients)


async def test_closing_ends_a_listing_under_way(account: Account, vercel: Vercel, clock: TestClock) -> None:
    waiting = asyncio.create_task(account.listing(TEAM, clock.monotonic()))
    await settle()
    await account.aclose()
    await settle()
    assert waiting.cancelled()
    assert vercel.closed
