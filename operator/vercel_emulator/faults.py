"""Which request meets which fault, and what hangs because of it."""

import asyncio
import itertools
from collections.abc import Sequence

from vercel_emulator.models import Call, Fault, FaultView, Then
from vercel_emulator.signals import Signal


class ActiveFault:
    """A fault that was added, with its counters.

    ``matched`` counts the requests it was chosen for, ``fired`` those on which it has taken effect: with ``when``
    ``after``, their work is done by then.
    """

    def __init__(self, fault_id: str, fault: Fault) -> None:
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
        """It will not be applied again."""
        return self._over.is_set() or (self.fault.times is not None and self.matched >= self.fault.times)

    @property
    def hanging(self) -> int:
        """How many requests hang because of it."""
        return len(self._hanging)

    def view(self) -> FaultView:
        """As the control API shows it."""
        return FaultView(
            id=self.id,
            matched=self.matched,
            fired=self.fired,
            hanging=self.hanging,
            used_up=self.used_up,
            fault=self.fault,
        )

    async def wait(self, fired: int = 1, *, within: float = 10) -> None:
        """Until it has fired so often; TimeoutError after ``within`` seconds of real time."""
        await self._signal.until(lambda: self.fired >= fired, within)

    def release(self, then: Then = "continue", count: int | None = None) -> int:
        """Let requests that hang go on, or drop their connections, the longest-hanging first; how many it were."""
        released, self._hanging = self._hanging[:count], self._hanging[len(self._hanging[:count]) :]
        for hanging in released:
            if not hanging.done():
                hanging.set_result(then)
        return len(released)

    def end(self, then: Then = "continue") -> None:
        """No more of it: delays end, slow answers become fast, what hangs is released."""
        self._over.set()
        self.release(then)

    # --- for the server

    def choose(self) -> bool:
        """Whether a request that fits is to meet this fault; counts it."""
        if self.used_up:
            return False
        if self._skipped < self.fault.skip:
            self._skipped += 1
            return False
        self.matched += 1
        return True

    def fire(self) -> None:
        """It takes effect now."""
        self.fired += 1
        self._signal.notify()

    async def hang(self) -> Then:
        """It takes effect now; return when released."""
        if self._over.is_set():
            self.fire()
            return "continue"
        hanging: asyncio.Future[Then] = asyncio.get_running_loop().create_future()
        self._hanging.append(hanging)
        self.fire()
        return await hanging

    async def pause(self, seconds: float) -> None:
        """Real time passes, unless the fault ends before."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._over.wait()
            except TimeoutError:
                pass


class Faults:
    """The faults that were added, the oldest first. One that is used up stays to be looked at until it is removed."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._active: dict[str, ActiveFault] = {}

    def __iter__(self) -> "itertools.chain[ActiveFault]":
        return itertools.chain(self._active.values())

    def add(self, fault: Fault) -> ActiveFault:
        """From now on, requests can meet this fault."""
        active = ActiveFault(f"fault_{next(self._ids)}", fault)
        self._active[active.id] = active
        return active

    def get(self, fault_id: str) -> ActiveFault | None:
        """A fault by its id."""
        return self._active.get(fault_id)

    def remove(self, fault_id: str, then: Then = "continue") -> bool:
        """End a fault; what hangs because of it goes on (or is dropped). False if there is none."""
        active = self._active.pop(fault_id, None)
        if active is not None:
            active.end(then)
        return active is not None

    def clear(self, then: Then = "continue") -> None:
        """End all faults."""
        for fault_id in list(self._active):
            self.remove(fault_id, then)

    def take(
        self, call: Call, *, cns: Sequence[str] | None, cert_id: str | None, token: str | None
    ) -> ActiveFault | None:
        """The fault that this request meets. ``cns`` are the names asked for, or those of the certificate named."""
        names = {name.lower() for name in cns or ()}
        for active in self._active.values():
            fault = active.fault
            if (
                fault.call in {"any", call}
                and (fault.cns is None or names.issuperset(name.lower() for name in fault.cns))
                and (fault.id is None or fault.id == cert_id)
                and (fault.token is None or fault.token == token)
                and active.choose()
            ):
                return active
        return None
