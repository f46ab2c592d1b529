"""The memory that lists of certificates take, by payer."""

import asyncio

import pytest

from support.clock import settle
from vercel_certificate_operator import list_room
from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.list_room import ListRoom, Reading, size_of
from vercel_certificate_operator.vercel import ListTooLong

MOST = 1000
PAGE = [Certificate(f"cert_{number}", frozenset({"example.com"})) for number in range(100)]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_room, "MOST_KEPT", MOST)


@pytest.fixture
def room() -> ListRoom:
    return ListRoom()


async def read(reading: Reading, pages: int, page: list[Certificate] = PAGE) -> int:
    """As the client does. Returns how many pages were read twice."""
    again = 0
    while pages:
        await reading.wait()
        await asyncio.sleep(0)
        if reading.take(page):
            pages -= 1
        else:
            again += 1
    return again


def kept(room: ListRoom, payer: str, *sizes: int) -> list[int]:
    """Keeps lists of these sizes. Returns which are dropped."""
    dropped: list[int] = []
    for number, size in enumerate(sizes):
        room.keep(payer, (payer, number), size, lambda number=number: dropped.append(number))  # type: ignore[misc]
    return dropped


@pytest.mark.parametrize(
    ("names", "size"),
    [
        ([], 1),
        (["shop.example.com", "*.shop.example.com"], 1),
        (["x" * 253, "y" * 253], 1),
        ([f"{number:03}.example.com" for number in range(100)], 22),
        ([f"{number:03}{'x' * 197}" for number in range(100)], 41),
    ],
    ids=["no name", "usual", "two names of the longest", "a hundred names", "a hundred long names"],
)
def test_a_certificate_counts_for_what_its_names_take(names: list[str], size: int) -> None:
    assert size_of(Certificate("cert_5u73mvPt7O4sXd2o37bRC6Vk", frozenset(names))) == size


async def test_a_list_may_have_as_many_as_are_kept_and_no_more(room: ListRoom) -> None:
    with room.reading("a") as reading:
        await read(reading, 10)
        assert reading.size == MOST
    with pytest.raises(ListTooLong, match="at most 1,000 certificates"), room.reading("a") as reading:
        await read(reading, 11)
    assert not room._payers, "nothing of it is left"


async def test_many_lists_of_one_payer_hold_no_more_than_two_may(room: ListRoom) -> None:
    most = 0

    async def one() -> None:
        nonlocal most
        with room.reading("a") as reading:
            await read(reading, 9)
            most = max(most, sum(each.size for each in room._payers["a"].reading))

    await asyncio.wait_for(asyncio.gather(*(one() for _ in range(30))), 5)
    assert MOST < most <= 2 * MOST
    assert not room._payers


async def test_short_lists_do_not_wait_for_each_other(room: ListRoom) -> None:
    with room.reading("a") as first:
        await read(first, 3)
        for _ in range(60):
            with room.reading("a") as other:
                assert await asyncio.wait_for(read(other, 1, PAGE[:5]), 1) == 0


async def test_a_page_that_is_larger_than_expected_is_read_again_when_there_is_room(room: ListRoom) -> None:
    large = [Certificate("cert_1", frozenset(f"{number:03}{'x' * 197}" for number in range(1000)))]
    ended = False

    async def second() -> int:
        nonlocal ended
        with room.reading("a") as reading:
            again = await read(reading, 1, large)
            ended = True
            return again

    with room.reading("a") as first:
        await read(first, 7)
        waiting = asyncio.create_task(second())
        await settle()
        assert not ended
    assert await asyncio.wait_for(waiting, 1) == 1


async def test_lists_of_another_payer_do_not_wait(room: ListRoom) -> None:
    with room.reading("a") as first, room.reading("b") as other:
        await read(first, 10)
        await asyncio.wait_for(read(other, 10), 1)


def test_of_many_lists_the_newest_are_kept(room: ListRoom) -> None:
    assert kept(room, "a", 400, 400, 400) == [0]
    assert kept(room, "b", 400, 400) == [], "each payer has its own room"
    room.release(("a", 1))
    assert kept(room, "a", 600) == []


def test_a_newer_list_takes_the_room_of_the_older_one_and_of_another_payer(room: ListRoom) -> None:
    assert kept(room, "a", 900) == []
    room.keep("b", ("a", 0), 900, lambda: None)
    assert set(room._payers) == {"b"}, "its token is used by others too now"
    room.release(("a", 0))
    room.release(("a", 0))
    assert not room._payers
    assert not room._payer_of
