"""How many calls to Vercel each namespace has in flight, with all of its tokens."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable

MOST_CALLS = 64
"""Calls that one namespace may have in flight: as many as eight tokens by default. A call takes a connection."""


class Shares:
    """Counts calls in flight by tenant."""

    def __init__(self, most: int = MOST_CALLS) -> None:
        """
        Args:
            most: calls that a tenant may have in flight.
        """
        self._most = most
        self._in_flight: Counter[Hashable] = Counter()
        self._waiting: defaultdict[Hashable, dict[Callable[[], int], None]] = defaultdict(dict)

    def allow(self, tenant: Hashable, others: int = 0) -> bool:
        """Returns whether a tenant may make one more call, beside others that it is about to make.

        What belongs to no namespace is not limited: these are the lists with the default token, one for each team.
        """
        return tenant is None or self._in_flight[tenant] + others < self._most

    def wait(self, tenant: Hashable, wake: Callable[[], int]) -> None:
        """Notes who waits until a tenant may make a call again.

        Args:
            wake: wakes keys that wait. Returns how many.
        """
        self._waiting[tenant].setdefault(wake)

    def begin(self, tenant: Hashable) -> None:
        """Notes that a call is being made."""
        self._in_flight[tenant] += 1

    def end(self, tenant: Hashable) -> None:
        """Notes that a call is over."""
        self._in_flight[tenant] -= 1
        if not self._in_flight[tenant]:
            del self._in_flight[tenant]

    def wake(self, tenant: Hashable) -> None:
        """Wakes whoever has waited longest, if the tenant may make a call."""
        waiting = self._waiting.get(tenant)
        while waiting and self.allow(tenant):
            wake = next(iter(waiting))
            del waiting[wake]
            if wake():
                break
        if not waiting:
            self._waiting.pop(tenant, None)
