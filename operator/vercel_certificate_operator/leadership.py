"""Which replica may write: the election of a leader by a Lease, and the fence that holds all others back.

The steps of the election are the library's (``kubernetes.aio.leaderelection``); its loop is not used, since (as read in
37.0.2) it goes by the wall clock, leads on for a whole renew deadline after a pause of the process, lets a request that
hangs delay that deadline, and gives nothing back at the end. What is promised here instead:

- A leader may write while its last successful renewal, counted from before that request was sent, is younger than the
  lease's duration. The others wait for that long from when they saw it, which is later. So whatever was paused, lost or
  delayed, no two may write at a time, except for what a process had already checked before it was paused.
- All of that is measured on a clock that nobody sets, and that goes on while the machine is suspended.
"""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

from kubernetes.aio.client import ApiClient, ApiException, CoordinationV1Api, V1Lease, V1LeaseSpec, V1ObjectMeta
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.kube.connection import translated
from vercel_certificate_operator.kube.errors import Conflict, KubeError, Unavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")


class LeadershipLost(Exception):
    """This replica leads no more. The message is one line, for people."""


class Leadership:
    """This replica's part in the election."""

    def __init__(
        self, client: ApiClient, clock: Clock, *, name: str, namespace: str, identity: str, duration: int = 15
    ) -> None:
        """
        Args:
            client: one that no fence holds back.
            name: of the Lease.
            identity: unique to this process: who starts anew in the same pod is somebody else.
            duration: seconds that a lease lasts without being renewed. A leader that could not renew it for two thirds
                of them gives up; it is renewed, and others try to get it, every two fifteenths (at least a second).
        """
        self.where = f"{namespace}/{name}"
        self.leading = asyncio.Event()
        """Set for as long as this replica may take itself for the leader. What counts for a write is the fence."""
        self._clock = clock
        self._duration = duration
        self._deadline = duration * 2 / 3
        self._pause = max(1.0, duration * 2 / 15)
        self._lease = _Lease(client, clock, name=name, namespace=namespace, identity=identity, duration=duration)
        self._election = LeaderElection(
            Config(
                lock=self._lease,
                lease_duration=duration,
                renew_deadline=self._deadline,
                retry_period=self._pause,
                onstarted_leading=_nothing,
                onstopped_leading=_nothing,
            )
        )
        self._renewed: float | None = None
        self._heard: float | None = None
        self._failure = ""
        self._lost = asyncio.Event()

    @property
    def holder(self) -> str | None:
        """Who holds the Lease, as far as this replica has seen; None: nobody."""
        return self._lease.holder

    def fence(self) -> str | None:
        """Why nothing may be written now; None: it may. To be asked right before each write."""
        if self._renewed is None:
            return f"this replica does not hold the Lease {self.where}"
        age = self._clock.monotonic() - self._renewed
        if age >= self._duration:
            self._lost.set()
            return f"the Lease {self.where} was last renewed {age:.0f} s ago, so that another replica may hold it"
        return None

    def problem(self) -> str | None:
        """Why this replica can't take part in the election; None: it can."""
        if self._heard is None:
            return f"the Lease {self.where} has not been read yet" + (self._failure and f": {self._failure}")
        age = self._clock.monotonic() - self._heard
        return f"no answer for {age:.0f} s: {self._failure}" if age > 2 * self._duration else None

    async def run(self) -> None:
        """Wait for the Lease, then keep it.

        Raises:
            LeadershipLost: it could not be kept.
        """
        await self._acquire()
        logger.info("leading: this replica (%s) holds the Lease %s", self._lease.identity, self.where)
        self.leading.set()
        try:
            await self._keep()
        finally:
            self.leading.clear()
            self._renewed = None

    async def release(self) -> None:
        """Give the Lease back, so that another replica needn't wait for it to run out. Nothing may be written then."""
        self._renewed = None
        try:
            if await self._within(self._deadline / 2, self._lease.release()):
                logger.info("the Lease %s is given back", self.where)
        except KubeError as error:
            logger.warning("the Lease %s could not be given back, and runs out: %s", self.where, error.message)

    async def _acquire(self) -> None:
        told: str | None = None
        while not await self._try(self._deadline / 2):
            if self.holder is not None and told != self.holder:
                told = self.holder
                logger.info("standing by: the Lease %s is held by %s", self.where, told)
            await self._clock.wait(asyncio.Event(), self._pause)

    async def _keep(self) -> None:
        while True:
            await self._clock.wait(self._lost, min(self._pause, self._deadline - self._age()))
            left = self._deadline - self._age()
            if left <= 0:
                raise LeadershipLost(f"the Lease {self.where} could not be renewed for {self._age():.0f} s")
            if not await self._try(min(left, self._deadline / 2)) and self.holder not in (None, self._lease.identity):
                raise LeadershipLost(f"the Lease {self.where} is held by {self.holder} now")

    def _age(self) -> float:
        return self._clock.monotonic() - (self._renewed or 0.0)

    async def _try(self, seconds: float) -> bool:
        """Get or renew the Lease, in so many seconds. Whether this replica holds it then."""
        began = self._clock.monotonic()
        try:
            done: bool = await self._within(seconds, self._election.try_acquire_or_renew())
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
        """The outcome of a request, if it has one in time. Raises Unavailable if not."""
        over = asyncio.Event()
        task = asyncio.create_task(request)
        task.add_done_callback(lambda _: over.set())
        try:
            await self._clock.wait(over, seconds)
            if not task.done():
                raise Unavailable(f"the Lease {self.where}: no answer within {seconds:.0f} s")
            return task.result()
        finally:
            task.cancel()


async def _nothing() -> None:
    """The library asks for something to be called; its loop, which would call it, is not used."""


class _Lease(BaseLock):
    """The Lease as the library's election sees it.

    Unlike the library's own ``LeaseLock``, it judges by a monotonic clock, and by the duration that the holder has
    written, when a lease has run out; writes its times in UTC, and its transitions; and can be given back.
    Its methods raise KubeError.
    """

    def __init__(
        self, client: ApiClient, clock: Clock, *, name: str, namespace: str, identity: str, duration: int
    ) -> None:
        super().__init__(name, namespace, identity)
        self._api = CoordinationV1Api(client)
        self._clock = clock
        self._duration = duration
        self._metadata: V1ObjectMeta | None = None  # None: there is no Lease
        self._spec = V1LeaseSpec()
        self._changed = 0.0  # when it was last seen to be another than before
        self._reads = 0

    @property
    def holder(self) -> str | None:
        return self._spec.holder_identity or None

    @property
    def _is_free(self) -> bool:
        if self.holder in (None, self.identity):
            return True
        duration = self._spec.lease_duration_seconds or self._duration
        return self._clock.monotonic() - self._changed >= duration

    async def get(
        self, name: str, namespace: str
    ) -> tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]:
        """The record; without a holder where the lease has run out. (False, ApiException 404) where there is none."""
        async with translated(f"reading the Lease {namespace}/{name}"):
            try:
                self._note(await self._api.read_namespaced_lease(name, namespace))
            except ApiException as error:
                if error.status != 404:
                    raise
                self._metadata, self._spec = None, V1LeaseSpec()
                return False, error
        # The library reckons by the wall clock from when a record has changed. One that is always new never runs out
        # by that clock; when it does by ours, it has no holder.
        self._reads += 1
        holder = None if self._is_free and self.holder != self.identity else self.holder
        return True, LeaderElectionRecord(holder, str(self._duration), str(self._reads), str(self._reads))

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Create it, held by this replica. Raises Conflict if somebody else was faster."""
        lease = V1Lease(metadata=V1ObjectMeta(name=name), spec=self._held_by_this())
        async with translated(f"creating the Lease {namespace}/{name}"):
            self._note(await self._api.create_namespaced_lease(namespace, lease))
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Renew it, or take it. Raises Conflict if it has changed since it was read."""
        if not self._is_free:
            raise Conflict(f"the Lease {namespace}/{name} is held by {self.holder}")
        await self._replace(self._held_by_this(), "renewing")
        return True

    async def release(self) -> bool:
        """Take this replica's name off it. Whether it was there."""
        await self.get(self.name, self.namespace)
        if self.holder != self.identity:
            return False
        self._spec.holder_identity, self._spec.renew_time = None, datetime.now(UTC)
        await self._replace(self._spec, "giving back")
        return True

    async def _replace(self, spec: V1LeaseSpec, what: str) -> None:
        lease = V1Lease(metadata=self._metadata, spec=spec)
        async with translated(f"{what} the Lease {self.namespace}/{self.name}"):
            self._note(await self._api.replace_namespaced_lease(self.name, self.namespace, lease))

    def _note(self, lease: V1Lease) -> None:
        metadata = lease.metadata or V1ObjectMeta()
        if self._metadata is None or metadata.resource_version != self._metadata.resource_version:
            self._changed = self._clock.monotonic()
        self._metadata, self._spec = metadata, lease.spec or V1LeaseSpec()

    def _held_by_this(self) -> V1LeaseSpec:
        now, before = datetime.now(UTC), self._spec
        renewed = self.holder == self.identity
        return V1LeaseSpec(
            holder_identity=self.identity,
            lease_duration_seconds=self._duration,
            acquire_time=before.acquire_time if renewed else now,
            renew_time=now,
            lease_transitions=(before.lease_transitions or 0) + (not renewed and before.acquire_time is not None),
        )
