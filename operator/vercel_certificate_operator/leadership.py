"""Leader election by a Lease, and the fence that stops all other replicas.

The steps of the election are the library's (see ``kube.leases``). Its loop is not used: as read in 37.0.2, it trusts
the wall clock, keeps leading for a whole renew deadline after the process was paused, lets a hanging request delay that
deadline, and releases nothing at the end. Instead:

- A leader may write while its last successful renewal, counted from before that request was sent, is younger than the
  lease's duration. Standbys wait for that long from when they saw it, which is later. So whatever was paused, lost or
  delayed, no two replicas write at the same time, except for a request that passed the fence before its process was
  paused.
- All of this uses a monotonic clock, which continues while the machine is suspended.

A process without an election is a ``SingleReplica``, which always leads.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.kube.errors import Conflict, KubeError, Unavailable
from vercel_certificate_operator.kube.leases import Lease

logger = logging.getLogger(__name__)

T = TypeVar("T")

Fence = Callable[[], str | None]
"""Called right before each write. Returns why nothing may be written now; None if it may."""


class LeadershipLost(Exception):
    """This replica no longer leads. The message is one line for users."""


class Election(Protocol):
    """This replica's part in the election."""

    leading: asyncio.Event
    """Set while this replica considers itself the leader. Only the fence decides about a write."""

    def fence(self) -> str | None:
        """See ``Fence``."""

    def problem(self) -> str | None:
        """Returns why this replica can't take part in the election; None if it can."""

    async def run(self) -> None:
        """Waits until this replica leads, then keeps the leadership.

        Raises:
            LeadershipLost: it could not be kept.
        """

    async def release(self) -> None:
        """Gives up the leadership, so that another replica need not wait. Nothing may be written afterwards."""


class SingleReplica:
    """No election: there is one replica, and it leads."""

    def __init__(self) -> None:
        self.leading = asyncio.Event()
        self.leading.set()

    def fence(self) -> str | None:
        """Returns None."""
        return None

    def problem(self) -> str | None:
        """Returns None."""
        return None

    async def run(self) -> None:
        """Waits until cancelled."""
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Does nothing."""


class Leadership:
    """An ``Election`` by a Lease."""

    def __init__(self, lease: Lease, clock: Clock) -> None:
        """
        Args:
            lease: the Lease. Every two fifteenths of its duration (at least a second), the leader renews it and the
                others try to take it. A leader that could not renew it for two thirds of the duration gives up.
            clock: measures all of this.
        """
        self.leading = asyncio.Event()
        self._lease = lease
        self._clock = clock
        self._deadline = lease.duration * 2 / 3
        self._pause = max(1.0, lease.duration * 2 / 15)
        self._renewed: float | None = None
        self._heard: float | None = None
        self._failure = ""
        self._lost = asyncio.Event()

    def fence(self) -> str | None:
        """See ``Fence``."""
        if self._renewed is None:
            return f"this replica does not hold the Lease {self._lease.where}"
        age = self._age()
        if age >= self._lease.duration:
            self._lost.set()
            return f"the Lease {self._lease.where} was last renewed {age:.0f} s ago, so another replica may hold it"
        return None

    def problem(self) -> str | None:
        """Returns why this replica can't take part in the election; None if it can."""
        if self._heard is None:
            return f"the Lease {self._lease.where} has not been read yet" + (self._failure and f": {self._failure}")
        age = self._clock.monotonic() - self._heard
        return f"no answer for {age:.0f} s: {self._failure}" if age > 2 * self._lease.duration else None

    async def run(self) -> None:
        """Waits for the Lease, then keeps it.

        Raises:
            LeadershipLost: it could not be kept.
        """
        await self._acquire()
        logger.info("leading: this replica (%s) holds the Lease %s", self._lease.identity, self._lease.where)
        self.leading.set()
        try:
            await self._keep()
        finally:
            self.leading.clear()
            self._renewed = None

    async def release(self) -> None:
        """Releases the Lease, so that another replica need not wait until it expires. Nothing may be written then."""
        self._renewed = None
        try:
            if await self._within(self._deadline / 2, self._lease.release()):
                logger.info("released the Lease %s", self._lease.where)
        except KubeError as error:
            logger.warning("could not release the Lease %s; it will expire: %s", self._lease.where, error.message)

    async def _acquire(self) -> None:
        reported: str | None = None
        while not await self._try(self._deadline / 2):
            if self._lease.holder is not None and reported != self._lease.holder:
                reported = self._lease.holder
                logger.info("standing by: the Lease %s is held by %s", self._lease.where, reported)
            await self._clock.wait(asyncio.Event(), self._pause)

    async def _keep(self) -> None:
        lease = self._lease
        while True:
            await self._clock.wait(self._lost, min(self._pause, self._deadline - self._age()))
            left = self._deadline - self._age()
            if left <= 0:
                raise LeadershipLost(f"the Lease {lease.where} could not be renewed for {self._age():.0f} s")
            if not await self._try(min(left, self._deadline / 2)) and lease.holder not in (None, lease.identity):
                raise LeadershipLost(f"the Lease {lease.where} is held by {lease.holder} now")

    def _age(self) -> float:
        return self._clock.monotonic() - (self._renewed or 0.0)

    async def _try(self, seconds: float) -> bool:
        """Takes or renews the Lease within these seconds. Returns whether this replica holds it then."""
        began = self._clock.monotonic()
        try:
            done = await self._within(seconds, self._lease.acquire_or_renew())
        except Conflict as error:
            logger.debug("%s", error.message)  # another replica was faster
            done = False
        except KubeError as error:
            logger.warning("%s", error.message)
            self._failure = error.message
            return False
        self._heard = began
        if done:
            self._renewed = began
        return done

    async def _within(self, seconds: float, request: Coroutine[Any, Any, T]) -> T:
        """Returns the result of a request. Raises Unavailable if it takes longer than these seconds."""
        over = asyncio.Event()
        task = asyncio.create_task(request)
        task.add_done_callback(lambda _: over.set())
        try:
            await self._clock.wait(over, seconds)
            if not task.done():
                raise Unavailable(f"the Lease {self._lease.where}: no answer within {seconds:.0f} s")
            return task.result()
        finally:
            task.cancel()
