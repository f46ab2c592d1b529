"""A process of the operator that can be paused at any request, as a suspended machine or a stopped container is."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.domains import DomainConfig
from vercel_certificate_operator.vercel import NotSent, Upload, VercelClient
from vercel_certificate_operator.vercel.client import Room

T = TypeVar("T")


Point = tuple[str, str]
"""A kind of request (issue, get, list, remove, PATCH, …), and ``before`` it leaves or ``after`` it was answered."""


class Gate:
    """Pauses a process. While it is paused, it sends nothing and reads no answer, and time passes."""

    def __init__(self) -> None:
        self.leads = True
        """Whether the process holds the Lease."""
        self.pauses_at: Point | None = None
        """Where the process is paused next."""
        self.waiting = 0
        """How many of its tasks wait at the gate."""
        self._open = asyncio.Event()
        self._open.set()

    @property
    def paused(self) -> bool:
        return not self._open.is_set()

    def pause(self) -> None:
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    async def passed(self, point: Point | None = None) -> None:
        """Waits until the process runs."""
        if point is not None and point == self.pauses_at:
            self.pauses_at = None
            self.pause()
        self.waiting += 1
        try:
            await self._open.wait()
        finally:
            self.waiting -= 1

    def fence(self) -> str | None:
        """Asked right before each write; see ``leadership.Fence``."""
        return None if self.leads else "another replica holds the Lease"


class GatedClock:
    """The clock of a process: its timers fire only while it runs."""

    def __init__(self, clock: Clock, gate: Gate) -> None:
        self._clock = clock
        self._gate = gate

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        await self._clock.wait(event, seconds)
        await self._gate.passed()


class GatedVercel:
    """Vercel, as a process that may be paused reaches it: between its last check and the socket, or before it reads."""

    def __init__(self, client: VercelClient, gate: Gate) -> None:
        self._client = client
        self._gate = gate

    async def issue(self, cns: Iterable[str], scope: Scope) -> Certificate:
        return await self._passing("issue", lambda: self._client.issue(cns, scope), writes=True)

    async def upload(self, upload: Upload, scope: Scope) -> Certificate:
        return await self._passing("upload", lambda: self._client.upload(upload, scope), writes=True)

    async def domain_config(self, domain: str, scope: Scope) -> DomainConfig:
        return await self._passing("config", lambda: self._client.domain_config(domain, scope))

    async def get(self, certificate_id: str, scope: Scope) -> Certificate:
        return await self._passing("get", lambda: self._client.get(certificate_id, scope))

    async def list(self, scope: Scope, room: Room | None = None) -> tuple[Certificate, ...]:
        return await self._passing("list", lambda: self._client.list(scope, room))

    async def remove(self, certificate_id: str, scope: Scope) -> None:
        await self._passing("remove", lambda: self._client.remove(certificate_id, scope), writes=True)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _passing(self, kind: str, call: Callable[[], Awaitable[T]], *, writes: bool = False) -> T:
        if writes and (why := self._gate.fence()) is not None:
            raise NotSent(why)
        await self._gate.passed((kind, "before"))
        try:
            return await call()
        finally:
            await self._gate.passed((kind, "after"))


def gated(new_client: Callable[..., VercelClient], gate: Gate) -> Callable[..., Any]:
    """Returns a factory of clients that stop while the process is paused."""
    return lambda *args: GatedVercel(new_client(*args), gate)
