"""A clock that stands still until a test moves it."""

import asyncio
from collections.abc import Sized
from datetime import UTC, datetime, timedelta
from typing import Any, cast

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class TestClock:
    """Implements ``vercel_certificate_operator.clock.Clock``.

    Both clocks start at a round number and move together by ``advance``; ``step`` sets the wall clock alone, as NTP
    or an administrator does.
    """

    __test__ = False  # it is no test, whatever its name says to pytest

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._monotonic = 1000.0
        self._waiters: list[tuple[float, asyncio.Event]] = []
        self.turns = 50
        """Of the event loop, after each step: enough for any chain of awaits without IO."""

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        if event.is_set() or (seconds is not None and seconds <= 0):
            await asyncio.sleep(0)
            return
        if seconds is None:
            await event.wait()
            return
        over = asyncio.Event()
        waiter = (self._monotonic + seconds, over)
        self._waiters.append(waiter)
        tasks = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(over.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiters = [other for other in self._waiters if other is not waiter]
            for task in tasks:
                task.cancel()

    @property
    def next_wake(self) -> float | None:
        """Returns the seconds until the first waiting task is woken; None if none waits for a time."""
        first = min((at for at, _ in self._waiters), default=None)
        return None if first is None else first - self._monotonic

    async def advance(self, seconds: float) -> None:
        """Moves both clocks by these seconds. Each waiting task is woken at its time, in order, and runs."""
        target = self._monotonic + seconds
        await settle(self.turns)
        while (due := min((at for at, _ in self._waiters if at <= target), default=None)) is not None:
            self._move_to(due)
            for at, over in tuple(self._waiters):
                if at <= due:
                    over.set()
            self._waiters = [(at, over) for at, over in self._waiters if at > due]
            await settle(self.turns)
        if self._monotonic < target:  # else the tasks that are due now have run already
            self._move_to(target)
            await settle(self.turns)

    def pause(self, seconds: float) -> None:
        """Moves both clocks while no task runs: the process or the machine is suspended."""
        self._move_to(self._monotonic + seconds)

    def step(self, seconds: float) -> None:
        """Moves the wall clock only, by these seconds. No task is woken."""
        self._now += timedelta(seconds=seconds)

    def _move_to(self, monotonic: float) -> None:
        if monotonic > self._monotonic:
            self._now += timedelta(seconds=monotonic - self._monotonic)
            self._monotonic = monotonic


async def settle(turns: int = 50) -> None:
    """Runs all tasks that can run: enough turns of the event loop for any chain of awaits without IO.

    It ends early when nothing is left to run: after two turns, of which the first also looked for IO.
    """
    ready: Sized = cast(Any, asyncio.get_running_loop())._ready
    quiet = 0
    for _ in range(turns):
        await asyncio.sleep(0)
        quiet = 0 if ready else quiet + 1
        if quiet == 2:
            return
