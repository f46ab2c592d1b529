"""Waiting for something to become true, without polling."""

import asyncio
from collections.abc import Callable


class Signal:
    """Wakes all who wait whenever something has changed; each then looks for itself."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Something has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, holds: Callable[[], bool], within: float) -> None:
        """Return once ``holds()`` is true; TimeoutError after ``within`` seconds of real time."""
        async with asyncio.timeout(within):
            while not holds():
                await self._changed.wait()
