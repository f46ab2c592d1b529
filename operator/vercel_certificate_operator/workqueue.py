"""The work queue: which keys to reconcile, and when.

Time-ordered, without duplicates, one worker per key. Everything that is due later (a renewal, an expiry, a back-off, a
pause) is one entry in its heap, so nothing polls and nothing is forgotten. Workers are shared out fairly between groups
of keys: of those that are due, a key of the group with the fewest workers is next, and a group gets another one only if
more are free than it has. So groups whose work hangs can't take all of them, and one whose work doesn't always finds
some. A key whose work waits for somebody else holds no worker meanwhile.
"""

import asyncio
import heapq
import itertools
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from vercel_certificate_operator.clock import Clock

K = TypeVar("K", bound=Hashable)

MOST_STALE = 1000
"""Entries of the heap that no longer mean anything, beyond one for each that does."""
WORKERS = 64

Work = Callable[[K], Awaitable[float | None]]
"""Reconciles one key. Returns the seconds until it wants to be reconciled again; None: when somebody adds it."""


def _one_group(_: object) -> Hashable:
    return None


class WorkQueue(Generic[K]):
    """Hands out keys when they are due, and never the same key to two workers."""

    def __init__(
        self,
        clock: Clock,
        *,
        workers: int = WORKERS,
        group_of: Callable[[K], Hashable] = _one_group,
    ) -> None:
        """
        Args:
            workers: keys in work at a time, without those that wait for somebody else.
            group_of: returns the group of a key: its tenant.
        """
        self._clock = clock
        self._workers = workers
        self._group_of = group_of
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._ready: dict[Hashable, deque[K]] = {}
        self._order = itertools.count()
        self._changed = asyncio.Event()
        self._running: dict[K, asyncio.Task[None]] = {}
        self._working: dict[K, Hashable] = {}
        """The keys that hold a worker, each with its group."""
        self._workers_of: Counter[Hashable] = Counter()
        self._begun: dict[K, float] = {}  # when the work was begun, the oldest first
        self._stopping = False

    def add(self, key: K, delay: float = 0.0) -> None:
        """Reconciles the key in so many seconds, or earlier if it was added so before.

        While a worker has the key, it waits its turn and is reconciled once more afterwards.
        """
        at = self._clock.monotonic() + max(0.0, delay)
        known = self._due.get(key)
        if known is not None and known <= at:
            return
        self._due[key] = at
        if key not in self._running:  # else it is pushed when its work is done
            self._push(key)

    def forget(self, key: K) -> None:
        """Does not reconcile the key any more, unless it is added again."""
        self._due.pop(key, None)

    @property
    def running(self) -> dict[K, asyncio.Task[None]]:
        """The keys in work, each with its task."""
        return self._running

    @property
    def oldest(self) -> tuple[K, float] | None:
        """The key that has been in work longest, and for how many seconds; None: nothing is in work."""
        key = next(iter(self._begun), None)
        return (key, self._clock.monotonic() - self._begun[key]) if key is not None else None

    @property
    def overdue(self) -> tuple[int, float]:
        """How many keys are due and not in work yet, and for how many seconds the oldest of them has been due."""
        now = self._clock.monotonic()
        ages = [now - at for at in self._due.values() if at <= now]
        return len(ages), max(ages, default=0.0)

    def __len__(self) -> int:
        """How many keys are waiting, for now or for later."""
        return len(self._due)

    async def run(self, work: Work[K]) -> None:
        """Hands out keys until cancelled or stopped. Work that raises is a bug in it: its error ends the run."""
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                self._changed.clear()
                while (key := self._next()) is not None:
                    self._take_worker(key)
                    self._running[key] = group.create_task(self._work(key, work), name=f"reconcile {key}")
                await self._clock.wait(self._changed, self._seconds_until_next())

    def stop(self) -> None:
        """Hands out nothing more. ``run`` returns when the work in progress is done."""
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
            self._release_worker(key)
            if key in self._due:
                self._push(key)
            self._changed.set()

    def _take_worker(self, key: K) -> None:
        group = self._working[key] = self._group_of(key)
        self._workers_of[group] += 1

    def _release_worker(self, key: K) -> None:
        if key not in self._working:
            return  # it was away when its work ended
        group = self._working.pop(key)
        self._workers_of[group] -= 1
        if not self._workers_of[group]:
            del self._workers_of[group]
        self._changed.set()

    @contextmanager
    def away(self, key: K) -> Iterator[None]:
        """Frees the worker of a key in work while it waits for somebody else.

        It goes on at once when that is over: then more keys may be in work for a moment than there are workers. What
        isn't in work, as at the end of the process, has no worker.
        """
        if key not in self._working:
            yield
            return
        self._release_worker(key)
        try:
            yield
        finally:
            if key in self._running and key not in self._working:
                self._take_worker(key)

    def _push(self, key: K) -> None:
        heapq.heappush(self._heap, (self._due[key], next(self._order), key))
        if len(self._heap) > 2 * len(self._due) + MOST_STALE:
            # Entries that were replaced or forgotten otherwise stay until their time comes; on a standby, for ever.
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)
        self._changed.set()

    def _next(self) -> K | None:
        """Returns the next key that is due, if a worker is free for it."""
        free = self._workers - len(self._working)
        if free <= 0:
            return None
        self._sort_out_what_is_due()
        groups = [group for group in self._ready if self._workers_of[group] < free]
        while groups:
            group = min(groups, key=lambda one: self._workers_of[one])
            key = self._first_ready(group)
            if key is not None:
                del self._due[key]
                return key
            groups.remove(group)
        return None

    def _sort_out_what_is_due(self) -> None:
        """Moves keys whose time has come from the heap to their groups."""
        now = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == at and key not in self._running:  # else it was replaced, forgotten or is in work
                self._ready.setdefault(self._group_of(key), deque()).append(key)

    def _first_ready(self, group: Hashable) -> K | None:
        """Takes the first key of a group that still is due. The group goes to the end, behind the others."""
        ready, now = self._ready.pop(group), self._clock.monotonic()
        while ready:
            key = ready.popleft()
            if self._due.get(key, now + 1.0) <= now and key not in self._running:
                if ready:
                    self._ready[group] = ready
                return key
        return None

    def _seconds_until_next(self) -> float | None:
        if len(self._working) >= self._workers:
            return None
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - self._clock.monotonic()) if self._heap else None
