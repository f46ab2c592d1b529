"""Time, taken from outside, so that tests can move it."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where everything in the operator takes the time from."""

    def now(self) -> datetime:
        """The wall clock: aware, UTC. It may step."""

    def monotonic(self) -> float:
        """Seconds that only ever grow, from an arbitrary start; a suspended machine's time counts."""

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Until the event is set, or so many seconds have gone by on the monotonic clock (None: without limit)."""


_MONOTONIC = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux has one that goes on while suspended


class SystemClock:
    """The machine's own."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.clock_gettime(_MONOTONIC)

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
