"""Waiting for a condition without polling."""

import asyncio
from collections.abc import Callable


class Signal:
    """Wakes every waiter after a change; each waiter then checks its own condition."""

    def __init__(self) -> None:
        """Start without waiters."""
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Wake the waiters."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, holds: Callable[[], bool], within: float) -> None:
        """Wait until a condition is true.

        Args:
            holds: The condition. It is checked now, and after each change.
            within: How long to wait, in seconds of real time.

        Raises:
            TimeoutError: The condition was still false after ``within`` seconds.
        """
        async with asyncio.timeout(within):
            while not holds():
                await self._changed.wait()
