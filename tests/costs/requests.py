"""The operator's requests in a phase, counted."""

from collections import Counter

from support.memory_api import SimulatedWorld
from vercel_certificate_operator.core.resource import PLURAL


class Requests:
    """The requests from now on."""

    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world
        self._asked, self._journal = len(world.memory.asked), world.emulator.journal.last

    @property
    def of_kubernetes(self) -> dict[str, int]:
        """By verb and resource. Events and Leases are not counted."""
        return dict(Counter(f"{one.method} {_what(one.path)}" for one in self._world.memory.asked[self._asked :]))

    @property
    def of_vercel(self) -> dict[str, int]:
        """By kind of call."""
        return dict(Counter(entry.call for entry in self._world.emulator.journal.since(self._journal)))


def _what(path: str) -> str:
    parts = path.strip("/").split("/")
    return "secrets" if "secrets" in parts else "status" if parts[-1] == "status" else PLURAL
