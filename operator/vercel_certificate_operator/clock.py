"""The clock is injected, so that tests can move the time."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The only source of time in the operator."""

    def now(self) -> datetime:
        """Returns the time of the wall clock, aware, in UTC. It may step."""

    def monotonic(self) -> float:
        """Returns seconds since an arbitrary start. They never decrease, also while the machine is suspended."""

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Waits until the event is set or these seconds have passed on the monotonic clock. None: without limit."""


_MONOTONIC = getattr(
    time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC
)  # on Linux, it includes the time of a suspended machine


class SystemClock:
    """The clock of the machine."""

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
