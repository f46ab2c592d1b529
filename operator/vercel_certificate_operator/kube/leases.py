"""Requests for the Lease by which replicas elect a leader.

The steps of the election are the library's (``kubernetes.aio.leaderelection``). Its loop is not used, and neither is
its ``LeaseLock``; ``leadership`` says why.
"""

from datetime import UTC, datetime

from kubernetes.aio.client import ApiClient, ApiException, CoordinationV1Api, V1Lease, V1LeaseSpec, V1ObjectMeta
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.baselock import BaseLock

from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.kube.connection import translated
from vercel_certificate_operator.kube.errors import Conflict


class Lease(BaseLock):
    """One Lease, as one replica sees it. All methods raise KubeError.

    Unlike the library's own ``LeaseLock``, it decides by a monotonic clock, and by the duration that the holder has
    written, whether the Lease has expired. It writes its times in UTC, counts transitions, and can be released.
    """

    def __init__(
        self, client: ApiClient, clock: Clock, *, name: str, namespace: str, identity: str, duration: int
    ) -> None:
        """
        Args:
            client: one without a fence: a replica has to write the Lease before it leads.
            clock: whose monotonic time says when the Lease has expired.
            name: of the Lease.
            namespace: of the Lease.
            identity: unique to this process. A process that restarts in the same pod is another one.
            duration: seconds after which the Lease expires if nobody renews it.
        """
        super().__init__(name, namespace, identity)
        self.duration = duration
        self.where = f"{namespace}/{name}"
        self._api = CoordinationV1Api(client)
        self._clock = clock
        self._metadata: V1ObjectMeta | None = None  # None: the Lease does not exist
        self._spec = V1LeaseSpec()
        self._changed = 0.0  # monotonic time at which its newest change was seen
        self._reads = 0
        self._election = LeaderElection(
            Config(
                lock=self,
                lease_duration=duration,
                # The library's loop uses these two; it only has to accept them here.
                renew_deadline=duration * 2 / 3,
                retry_period=max(1.0, duration * 2 / 15),
                onstarted_leading=_nothing,
                onstopped_leading=_nothing,
            )
        )

    @property
    def holder(self) -> str | None:
        """The identity that held the Lease at the newest read; None: nobody."""
        return self._spec.holder_identity or None

    async def acquire_or_renew(self) -> bool:
        """Takes the Lease if it is free, or renews it. Returns whether this replica holds it now.

        Raises:
            Conflict: another replica was faster.
            KubeError: it could not be read or written.
        """
        return bool(await self._election.try_acquire_or_renew())

    async def release(self) -> bool:
        """Clears the holder, so that another replica need not wait. Returns False if this replica did not hold it."""
        await self.get(self.name, self.namespace)
        if self.holder != self.identity:
            return False
        self._spec.holder_identity, self._spec.renew_time = None, datetime.now(UTC)
        await self._replace(self._spec, "releasing")
        return True

    # --- what the library calls

    async def get(
        self, name: str, namespace: str
    ) -> tuple[bool, LeaderElectionRecord] | tuple[bool, Exception] | tuple[bool, None]:
        """Returns the record, without a holder if the Lease has expired; (False, ApiException 404) if there is none."""
        async with translated(f"reading the Lease {namespace}/{name}"):
            try:
                self._note(await self._api.read_namespaced_lease(name, namespace))
            except ApiException as error:
                if error.status != 404:
                    raise
                self._metadata, self._spec = None, V1LeaseSpec()
                return False, error
        # The library measures by the wall clock since the record's last change. A record that always differs never
        # expires by that clock. When it expires by ours, it has no holder.
        self._reads += 1
        holder = None if self._is_free and self.holder != self.identity else self.holder
        return True, LeaderElectionRecord(holder, str(self.duration), str(self._reads), str(self._reads))

    async def create(self, name: str, namespace: str, election_record: LeaderElectionRecord) -> bool:
        """Creates the Lease for this replica. Raises Conflict if another replica was faster."""
        lease = V1Lease(metadata=V1ObjectMeta(name=name), spec=self._held_by_this())
        async with translated(f"creating the Lease {namespace}/{name}"):
            self._note(await self._api.create_namespaced_lease(namespace, lease))
        return True

    async def update(self, name: str, namespace: str, updated_record: LeaderElectionRecord) -> bool:
        """Renews or takes the Lease. Raises Conflict if it has changed since it was read."""
        if not self._is_free:
            raise Conflict(f"the Lease {namespace}/{name} is held by {self.holder}")
        await self._replace(self._held_by_this(), "renewing")
        return True

    @property
    def _is_free(self) -> bool:
        if self.holder in (None, self.identity):
            return True
        duration = self._spec.lease_duration_seconds or self.duration
        return self._clock.monotonic() - self._changed >= duration

    async def _replace(self, spec: V1LeaseSpec, what: str) -> None:
        lease = V1Lease(metadata=self._metadata, spec=spec)
        async with translated(f"{what} the Lease {self.where}"):
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
            lease_duration_seconds=self.duration,
            acquire_time=before.acquire_time if renewed else now,
            renew_time=now,
            lease_transitions=(before.lease_transitions or 0) + (not renewed and before.acquire_time is not None),
        )


async def _nothing() -> None:
    """The library requires callbacks for its loop, which is not used."""
