"""Connections to Vercel that nobody uses any longer. A namespace can have a thousand tokens with eight each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from support.clock import settle
from vercel.clients import client_of
from vercel.wire import Wire, reply
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.vercel.client import KEEPALIVE
from vercel_certificate_operator.vercel.lanes import Lanes

Later = Callable[[float], Awaitable[None]]


@pytest.fixture
async def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Moves the time of the event loop by seconds, and runs what is due."""
    loop = asyncio.get_running_loop()
    time, moved = loop.time(), 0.0
    monkeypatch.setattr(loop, "time", lambda: time + moved)

    async def move(seconds: float) -> None:
        nonlocal moved
        moved += seconds
        await settle()

    return move


class Lane(httpx.AsyncBaseTransport):
    """A connection. It answers when ``go`` is set."""

    def __init__(self, go: asyncio.Event) -> None:
        self._go = go
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._go.wait()
        return httpx.Response(200, stream=httpx.ByteStream(b"{}"))

    async def aclose(self) -> None:
        self.closed += 1


class Street:
    """Lanes, and all connections that they opened."""

    def __init__(self) -> None:
        self.opened: list[Lane] = []
        self.go = asyncio.Event()
        self.go.set()
        self.lanes = Lanes(self._open, connections=8, keepalive=KEEPALIVE)

    def _open(self, _: httpx.Limits) -> Lane:
        self.opened.append(Lane(self.go))
        return self.opened[-1]

    async def ask(self) -> None:
        """Sends a request and reads its answer."""
        response = await self.lanes.handle_async_request(httpx.Request("GET", "https://api.vercel.com"))
        await response.aread()
        await response.aclose()

    async def ask_at_once(self, number: int) -> None:
        """Sends so many requests that are in flight at the same time."""
        self.go.clear()
        tasks = [asyncio.create_task(self.ask()) for _ in range(number)]
        await settle()
        self.go.set()
        await asyncio.gather(*tasks)

    @property
    def closed(self) -> int:
        assert all(lane.closed <= 1 for lane in self.opened)
        return sum(lane.closed for lane in self.opened)


@pytest.fixture
async def street(later: Later) -> AsyncIterator[Street]:
    made = Street()
    yield made
    await made.lanes.aclose()


async def test_idle_connections_are_closed_although_nobody_asks_again(street: Street, later: Later) -> None:
    await street.ask_at_once(8)
    await later(KEEPALIVE - 1)
    assert street.closed == 0
    await later(1)
    assert street.closed == 8
    assert street.lanes._timer is None


async def test_each_connection_is_closed_at_its_own_time(street: Street, later: Later) -> None:
    await street.ask_at_once(3)
    await later(2)
    await street.ask_at_once(2)
    await later(2)
    await street.ask()
    closed = []
    for _ in range(6):
        await later(1)
        closed.append(street.closed)
    assert closed == [1, 1, 2, 2, 3, 3]
    assert len(street.opened) == 3


async def test_a_connection_in_use_is_not_closed(street: Street, later: Later) -> None:
    await street.ask()
    street.go.clear()
    asking = asyncio.create_task(street.ask())
    await later(3 * KEEPALIVE)
    assert street.closed == 0
    assert street.lanes._timer is None, "nothing is idle"
    street.go.set()
    await asking
    await later(KEEPALIVE)
    assert street.closed == 1


async def test_a_connection_that_can_not_be_closed_keeps_no_other_one_open(
    street: Street, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    await street.ask_at_once(2)

    async def fail() -> None:
        raise OSError("test")

    monkeypatch.setattr(street.opened[0], "aclose", fail)
    await later(KEEPALIVE)
    assert street.opened[1].closed == 1
    assert not street.lanes._closing


async def test_nothing_is_left_to_do_after_the_client_was_closed(street: Street, later: Later) -> None:
    await street.ask_at_once(2)
    await street.lanes.aclose()
    assert street.closed == 2
    assert street.lanes._timer is None
    await later(KEEPALIVE)
    assert street.closed == 2


async def test_a_closed_client_has_closed_what_was_idle_for_too_long(street: Street, later: Later) -> None:
    await street.ask()
    closing = asyncio.Event()
    close = street.opened[0].aclose

    async def slow() -> None:
        await closing.wait()
        await close()

    street.opened[0].aclose = slow  # type: ignore[method-assign]
    await later(KEEPALIVE)
    ending = asyncio.create_task(street.lanes.aclose())
    await settle()
    assert not ending.done()
    closing.set()
    await ending
    assert street.closed == 1


async def test_a_request_needs_no_timer_of_its_own(
    street: Street, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop: Any = asyncio.get_running_loop()
    timers = [0]
    call_at = loop.call_at

    def counted(*args: Any, **more: Any) -> Any:
        timers[0] += 1
        return call_at(*args, **more)

    monkeypatch.setattr(loop, "call_at", counted)
    for _ in range(10):
        for _ in range(100):
            await street.ask()
        await later(1)
    assert len(street.opened) == 1
    assert timers[0] <= 3


async def test_the_client_closes_its_idle_connections(later: Later) -> None:
    async with Wire([reply()]) as wire, client_of(wire.url) as client:
        await asyncio.gather(*(client.get("cert_1", Scope()) for _ in range(8)))
        assert wire._open
        await later(KEEPALIVE)
        for _ in range(10_000):  # turns of the event loop: the time stands still
            if wire._open:
                await asyncio.sleep(0)
        assert not wire._open
        await client.get("cert_1", Scope())
