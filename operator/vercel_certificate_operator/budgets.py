"""What Vercel's rate-limit headers leave of a token's calls: a call that would be refused isn't made."""

from collections import Counter
from dataclasses import dataclass

from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.failures import Call
from vercel_certificate_operator.core.known import Tick
from vercel_certificate_operator.vercel.times import Allowance

LONGEST = 300.0
"""Seconds for which headers are believed. If the limit is really used up for longer, a 429 says so then."""
RESERVE = 10
"""One in so many calls is left for what is urgent."""
SAME_WINDOW = 2.0
"""Seconds: ``Date`` and ``X-RateLimit-Reset`` have whole seconds."""


@dataclass(slots=True)
class _Budget:
    limit: int
    left: int
    until: Tick


class Budgets:
    """What is left for each kind of call with one token."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._budgets: dict[Call, _Budget] = {}
        self._in_flight: Counter[Call] = Counter()

    def note(self, call: Call, said: Allowance) -> None:
        """Notes the headers of an answer. Of several in one window, the one that leaves the fewest calls counts."""
        new = _Budget(said.limit, said.remaining, self._clock.monotonic() + min(said.seconds, LONGEST))
        known = self._running(call)
        if known is not None and abs(known.until - new.until) < SAME_WINDOW:
            new = _Budget(new.limit, min(known.left, new.left), min(known.until, new.until))
        self._budgets[call] = new

    def _running(self, call: Call) -> _Budget | None:
        budget = self._budgets.get(call)
        return budget if budget is not None and self._clock.monotonic() < budget.until else None

    def begin(self, call: Call) -> None:
        """Notes that a call is being made."""
        self._in_flight[call] += 1

    def end(self, call: Call) -> None:
        """Notes that a call is over."""
        self._in_flight[call] -= 1

    def in_flight(self, call: Call) -> int:
        """Returns how many calls of this kind are in flight."""
        return self._in_flight[call]

    def limit(self, call: Call) -> int:
        """Returns how many calls of this kind Vercel allows in a window; 0 if that isn't known."""
        budget = self._running(call)
        return budget.limit if budget is not None else 0

    def allows(self, call: Call, *, urgent: bool, others: int = 0) -> bool:
        """Returns whether one more call may be made now. Calls in flight may not be counted at Vercel yet.

        Args:
            others: calls that are about to be made.
        """
        budget = self._running(call)
        if budget is None:
            return True
        reserved = 0 if urgent else budget.limit // RESERVE
        return budget.left - self._in_flight[call] - others > reserved

    def used_up_until(self, call: Call, *, urgent: bool, others: int = 0) -> Tick | None:
        """Returns until when no call may be made; None: one may be made now, or when one in flight is over.

        Args:
            others: calls that are left for others.
        """
        budget = self._running(call)
        if budget is None or self._in_flight[call] or self.allows(call, urgent=urgent, others=others):
            return None
        return budget.until
