"""Faults: which request gets which fault, and which requests hang because of it."""

import asyncio
import itertools
from collections.abc import Container, Iterator, Sequence

from vercel_emulator.models import Call, Fault, FaultView, Then
from vercel_emulator.signals import Signal


class ActiveFault:
    """A fault that was added, with its counters.

    Attributes:
        id: Its id.
        fault: What it does, and to which requests.
        matched: How many requests it was chosen for.
        fired: How many requests it has affected. With ``when`` set to ``after``, their work is done by then.
    """

    def __init__(self, fault_id: str, fault: Fault) -> None:
        """Start with both counters at 0."""
        self.id = fault_id
        self.fault = fault
        self.matched = 0
        self.fired = 0
        self._skipped = 0
        self._hanging: list[asyncio.Future[Then]] = []
        self._signal = Signal()
        self._over = asyncio.Event()

    @property
    def used_up(self) -> bool:
        """Whether it will not be applied again."""
        return self._over.is_set() or (self.fault.times is not None and self.matched >= self.fault.times)

    @property
    def hanging(self) -> int:
        """How many requests hang because of it now."""
        return len(self._hanging)

    def view(self) -> FaultView:
        """Return what the control API shows."""
        return FaultView(
            id=self.id,
            matched=self.matched,
            fired=self.fired,
            hanging=self.hanging,
            used_up=self.used_up,
            fault=self.fault,
        )

    async def wait(self, fired: int = 1, *, within: float = 10) -> None:
        """Wait until it has fired often enough.

        Args:
            fired: How often.
            within: How long to wait, in seconds of real time.

        Raises:
            TimeoutError: It has fired less often after ``within`` seconds.
        """
        await self._signal.until(lambda: self.fired >= fired, within)

    def release(self, then: Then = "continue", count: int | None = None) -> int:
        """Release hanging requests, the oldest first.

        Args:
            then: Continue with the request, or drop its connection.
            count: How many requests to release; None for all.

        Returns:
            How many were released.
        """
        released, self._hanging = self._hanging[:count], self._hanging[len(self._hanging[:count]) :]
        for hanging in released:
            if not hanging.done():
                hanging.set_result(then)
        return len(released)

    def end(self, then: Then = "continue") -> None:
        """End the fault: end its delays, speed up its slow answers, release its hanging requests."""
        self._over.set()
        self.release(then)

    # --- for the server

    def choose(self) -> bool:
        """Decide whether a matching request gets this fault, and count it."""
        if self.used_up:
            return False
        if self._skipped < self.fault.skip:
            self._skipped += 1
            return False
        self.matched += 1
        return True

    def fire(self) -> None:
        """Count that the fault takes effect now."""
        self.fired += 1
        self._signal.notify()

    async def hang(self) -> Then:
        """Take effect now, and return when the request is released."""
        if self._over.is_set():
            self.fire()
            return "continue"
        hanging: asyncio.Future[Then] = asyncio.get_running_loop().create_future()
        self._hanging.append(hanging)
        self.fire()
        return await hanging

    async def pause(self, seconds: float) -> None:
        """Wait for ``seconds`` of real time, or until the fault ends."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._over.wait()
            except TimeoutError:
                pass


class Faults:
    """The faults that were added, the oldest first. A used-up fault remains visible until it is removed."""

    def __init__(self) -> None:
        """Start without faults."""
        self._ids = itertools.count(1)
        self._active: dict[str, ActiveFault] = {}

    def __iter__(self) -> Iterator[ActiveFault]:
        """Iterate over the faults, the oldest first."""
        return iter(list(self._active.values()))

    def add(self, fault: Fault) -> ActiveFault:
        """Apply a fault to matching requests from now on."""
        active = ActiveFault(f"fault_{next(self._ids)}", fault)
        self._active[active.id] = active
        return active

    def get(self, fault_id: str) -> ActiveFault | None:
        """Return the fault with this id, or None."""
        return self._active.get(fault_id)

    def remove(self, fault_id: str, then: Then = "continue") -> bool:
        """End and remove a fault.

        Args:
            fault_id: Its id.
            then: What happens to its hanging requests: they continue, or are dropped.

        Returns:
            Whether the fault existed.
        """
        active = self._active.pop(fault_id, None)
        if active is not None:
            active.end(then)
        return active is not None

    def clear(self, then: Then = "continue") -> None:
        """End and remove all faults. Their hanging requests continue, or are dropped."""
        for fault_id in list(self._active):
            self.remove(fault_id, then)

    def take(
        self,
        call: Call,
        *,
        cns: Sequence[str] | None,
        cert_id: str | None,
        token: str | None,
        teams: Container[str],
    ) -> ActiveFault | None:
        """Choose the fault for a request, and count it.

        Args:
            call: The kind of call.
            cns: The names in the request's body, or those of the certificate that its path names.
            cert_id: The certificate that its path names.
            token: The name of its token.
            teams: The id and the slug of its team (see ``Accounts.team_names``).

        Returns:
            The oldest fault that matches and is not used up, or None.
        """
        names = {name.lower() for name in cns or ()}
        for active in self._active.values():
            fault = active.fault
            if (
                (fault.call in {"any", call} if isinstance(fault.call, str) else call in fault.call)
                and (fault.cns is None or names.issuperset(name.lower() for name in fault.cns))
                and (fault.id is None or fault.id == cert_id)
                and (fault.token is None or fault.token == token)
                and (fault.team is None or fault.team in teams)
                and active.choose()
            ):
                return active
        return None
