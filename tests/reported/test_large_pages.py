"""Lists of certificates with so many long names that a page of a hundred is larger than the operator reads."""

from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest

from reported.test_fair_tokens import NAMES, NEVER, Town, operator_of, simulated
from support.acting import DAY, asked
from vercel.clients import TOKEN, client_of
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.list_room import ListRoom
from vercel_certificate_operator.vercel import VercelClient
from vercel_certificate_operator.vercel.client import MAX_BODY
from vercel_emulator import Behaviour, Emulator
from vercel_emulator.models import Fault, Injection, ListOrder

PERSONAL = Scope()
START = 1_750_000_000_000
"""When the first certificate was created, in epoch milliseconds."""


def long_names(number: int) -> list[str]:
    """Returns a hundred names of 250 characters."""
    names = [f"{number:04}-{one:03}-{'.'.join('x' * 55 for _ in range(4))}.evil.example" for one in range(100)]
    assert all(200 <= len(name) <= 253 for name in names)
    return names


def there_are(emulator: Emulator, large: int, *, after: int = 0, scope: str | None = None) -> list[str]:
    """The account has so many certificates with long names, and others with one name. Returns their ids, newest first.

    Args:
        after: how many others are newer, and so on earlier pages.
    """
    names = [*map(long_names, range(large)), *([f"n{one}.example.org"] for one in range(after))]
    where: dict[str, Any] = {} if scope is None else {"scope": scope}
    made = [
        emulator.state.inject(Injection(cns=cns, created_at=START + 1000 * number, expires_at=2 * START, **where))
        for number, cns in enumerate(names)
    ]
    return [one.id for one in reversed(made)]


def limits(emulator: Emulator) -> list[int]:
    """Returns how many certificates each request for a page asked for."""
    return [int(entry.query["limit"]) for entry in emulator.journal.since(0) if entry.call == "list"]


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(tokens=(TOKEN,)) as running:
        yield running


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[VercelClient]:
    async with client_of(emulator.url) as vercel:
        yield vercel


@pytest.mark.parametrize("until", ["exclusive", "inclusive"])
@pytest.mark.parametrize("order", get_args(ListOrder))
async def test_a_list_with_pages_that_are_too_large_is_complete(
    emulator: Emulator, client: VercelClient, until: Any, order: Any
) -> None:
    emulator.state.behaviour = Behaviour(until=until, list_order=order)
    expected = there_are(emulator, 190, after=10)
    listed = [certificate.id for certificate in await client.list(PERSONAL)]
    assert sorted(listed) == sorted(expected)
    assert len(set(listed)) == len(listed)


async def test_only_the_pages_from_the_first_that_is_too_large_are_read_with_fewer_certificates(
    emulator: Emulator, client: VercelClient
) -> None:
    expected = there_are(emulator, 100, after=100)
    for _ in range(2):  # the next list begins with full pages again
        assert [certificate.id for certificate in await client.list(PERSONAL)] == expected
    assert limits(emulator) == 2 * [100, 100, 50, 50]


async def test_pages_are_read_with_as_few_certificates_as_necessary(emulator: Emulator) -> None:
    expected = there_are(emulator, 7)
    async with client_of(emulator.url, max_body=MAX_BODY // 80) as client:  # one certificate
        assert [certificate.id for certificate in await client.list(PERSONAL)] == expected
    assert limits(emulator) == [100, 50, 25, 12, 6, 3, 1, *6 * [1]]


async def test_a_page_that_is_too_large_reserves_no_more_room(emulator: Emulator, client: VercelClient) -> None:
    there_are(emulator, 100)
    room = ListRoom()
    with room.reading("a") as reading:
        await client.list(PERSONAL, reading)
        [payer] = room._payers.values()
        assert payer.read == reading.size
    assert room._payers == {}


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with simulated(Town, "*", drift_interval=NEVER) as made:
        yield made


async def test_a_lost_answer_is_found_although_others_have_certificates_with_many_long_names(town: Town) -> None:
    """Each list of the account failed, so nothing could be found, for anyone."""
    there_are(town.emulator, 100, scope="personal:user")
    town.emulator.faults.add(Fault(call="issue", action="reset", when="after", cns=NAMES))
    await town.apply("site", NAMES)
    await town.quiet()
    await town.advance(DAY)
    assert await town.ready("site") == ("True", "Issued")
    assert len(asked(town, "issue")) == 1
    assert all(account.pause() is None for account in operator_of(town).accounts._accounts.values())
