"""The work queue: which keys to look at, and when.

Time-ordered, without duplicates, one worker per key. Everything that is due later (a renewal, an expiry, a back-off,
a pause) is one entry in its heap, so that nothing polls and nothing is forgotten.
"""

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from vercel_certificate_operator.clock import Clock

K = TypeVar("K", bound=Hashable)

MOST_STALE = 1000
"""Entries of the heap that mean nothing any more, beyond one for each that does."""

Work = Callable[[K], Awaitable[float | None]]
"""Looks at one key. Returns the seconds until it wants to look again; None: when somebody adds it."""


class WorkQueue(Generic[K]):
    """Hands out keys when they are due, to at most ``workers`` at a time, and never the same key to two."""

    def __init__(self, clock: Clock, *, workers: int = 32) -> None:
        self._clock = clock
        self._workers = workers
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._changed = asyncio.Event()
        self._running: dict[K, asyncio.Task[None]] = {}
        self._begun: dict[K, float] = {}  # when the work at hand was begun, the oldest first
        self._stopping = False

    def add(self, key: K, delay: float = 0.0) -> None:
        """Look at the key in so many seconds, or earlier where that was wanted already.

        While a worker is on the key, it waits its turn and is looked at once more afterwards.
        """
        at = self._clock.monotonic() + max(0.0, delay)
        known = self._due.get(key)
        if known is not None and known <= at:
            return
        self._due[key] = at
        if key not in self._running:  # else its turn is reckoned when its work is done
            self._push(key)

    def forget(self, key: K) -> None:
        """Don't look at the key any more, unless it is added again."""
        self._due.pop(key, None)

    @property
    def running(self) -> dict[K, asyncio.Task[None]]:
        """The keys in work, each with its task."""
        return self._running

    @property
    def oldest(self) -> tuple[K, float] | None:
        """The key that has been in work for longest, and for how many seconds; None: nothing is in work."""
        key = next(iter(self._begun), None)
        return (key, self._clock.monotonic() - self._begun[key]) if key is not None else None

    @property
    def overdue(self) -> tuple[int, float]:
        """How many keys are due and not in work yet, and for how many seconds the oldest of them has been."""
        now = self._clock.monotonic()
        ages = [now - at for at in self._due.values() if at <= now]
        return len(ages), max(ages, default=0.0)

    def __len__(self) -> int:
        """How many keys are waiting, for now or for later."""
        return len(self._due)

    async def run(self, work: Work[K]) -> None:
        """Hand out keys until cancelled or stopped. Work that raises is a bug in it: its error ends the run."""
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                self._changed.clear()
                while (key := self._next()) is not None:
                    self._running[key] = group.create_task(self._work(key, work), name=f"reconcile {key}")
                await self._clock.wait(self._changed, self._pause())

    def stop(self) -> None:
        """Hand out nothing more. ``run`` returns when the work at hand is done."""
        self._stopping = True
        self._changed.set()

    async def _work(self, key: K, work: Work[K]) -> None:
        again: float | None = None
        self._begun[key] = self._clock.monotonic()
        try:
            again = await work(key)
        finally:
            if again is not None:
                self.add(key, again)
            del self._running[key], self._begun[key]
            if key in self._due:
                self._push(key)
            self._changed.set()

    def _push(self, key: K) -> None:
        heapq.heappush(self._heap, (self._due[key], next(self._order), key))
        if len(self._heap) > 2 * len(self._due) + MOST_STALE:
            # Entries that were replaced or forgotten otherwise stay until their time comes; on a standby, for ever.
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        self._changed.set()

    def _next(self) -> K | None:
        if len(self._running) >= self._workers:
            return None
        now = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._due.get(key) != at or key in self._running:
                continue  # replaced by an earlier time, forgotten, or in work: then it is pushed anew when that is done
            del self._due[key]
            return key
        return None

    def _pause(self) -> float | None:
        if len(self._running) >= self._workers:
            return None
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - self._clock.monotonic()) if self._heap else None
