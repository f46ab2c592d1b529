"""The connections of one client, each in its own pool.

httpx's pool checks every connection at the start and at the end of each request: with 32 connections, that is half of
the CPU time of a request. Here, a request takes the connection that was used last and checks no other one.

A pool closes an idle connection only when it gets another request, which may be never: a tenant can have a thousand
tokens. Here, a timer closes it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import httpx

NewLane = Callable[[httpx.Limits], httpx.AsyncBaseTransport]


class Lanes(httpx.AsyncBaseTransport):
    """A limited number of connections. A request without one waits until its ``pool`` time-out."""

    def __init__(self, new_lane: NewLane, *, connections: int, keepalive: float) -> None:
        """
        Args:
            new_lane: makes a transport with these limits.
            connections: how many at a time.
            keepalive: seconds that an idle connection is kept.
        """
        self._new_lane = new_lane
        self._keepalive = keepalive
        self._free = asyncio.Semaphore(connections)
        self._idle: deque[tuple[float, httpx.AsyncBaseTransport]] = deque()  # the one used last is at the end
        self._timer: asyncio.TimerHandle | None = None
        """Runs when the connection that is idle for longest may be too old. One timer for all: each request would need
        another one otherwise."""
        self._closing: set[asyncio.Future[Any]] = set()
        self._closed = False
        self._limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=keepalive)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request on an idle connection or a new one."""
        await self._wait_for_one(request)
        lane = self._idle.pop()[1] if self._idle else self._new_lane(self._limits)
        try:
            response = await lane.handle_async_request(request)
        except BaseException:
            await self._give_back(lane)
            raise
        response.stream = _Stream(cast(httpx.AsyncByteStream, response.stream), lambda: self._give_back(lane))
        return response

    async def _wait_for_one(self, request: httpx.Request) -> None:
        if not self._free.locked():
            await self._free.acquire()  # at once
            return
        seconds = request.extensions.get("timeout", {}).get("pool")
        try:
            async with asyncio.timeout(seconds):
                await self._free.acquire()
        except TimeoutError:
            raise httpx.PoolTimeout(f"no connection was free for {seconds:g} s", request=request) from None

    async def _give_back(self, lane: httpx.AsyncBaseTransport) -> None:
        """Takes a connection back."""
        self._free.release()
        if self._closed:
            await lane.aclose()
            return
        loop = asyncio.get_running_loop()
        self._idle.append((loop.time(), lane))
        if self._timer is None:
            self._timer = loop.call_later(self._keepalive, self._close_idle)

    def _close_idle(self) -> None:
        """Closes the connections that have been idle for too long."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        old: list[httpx.AsyncBaseTransport] = []
        while self._idle and self._idle[0][0] + self._keepalive <= now:
            old.append(self._idle.popleft()[1])
        self._timer = loop.call_at(self._idle[0][0] + self._keepalive, self._close_idle) if self._idle else None
        if old:
            closing = asyncio.gather(*(lane.aclose() for lane in old), return_exceptions=True)
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Closes the idle connections now, and the others when their requests end."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            await self._idle.pop()[1].aclose()
        if self._closing:
            await asyncio.wait(self._closing)


class _Stream(httpx.AsyncByteStream):
    """The body of an answer. Its end gives the connection back."""

    def __init__(self, stream: httpx.AsyncByteStream, closed: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._closed = closed
        self._open = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            try:
                await self._stream.aclose()
            finally:
                await self._closed()
