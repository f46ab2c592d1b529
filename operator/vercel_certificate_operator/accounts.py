"""What the operator keeps per Vercel token: a client, slots, pauses, and the newest list of each scope."""

import asyncio
import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pydantic import SecretStr

from vercel_certificate_operator.budgets import Budgets
from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.certificate import Certificates, Scope
from vercel_certificate_operator.core.domains import DomainConfig
from vercel_certificate_operator.core.failures import (
    Call,
    Failure,
    Meaning,
    Pauses,
    meaning,
    rest_of_lists,
    wait_after,
)
from vercel_certificate_operator.core.known import Listing, Pause, Tick
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.core.rules.failed_calls import pause_message, used_up_message
from vercel_certificate_operator.core.sightings import Place, ScopeKey, tenant_of
from vercel_certificate_operator.core.times import AWAITED_LIST_AGE, LEAST_LIST_AGE
from vercel_certificate_operator.kube.tokens import Token, TokenMissing
from vercel_certificate_operator.list_room import ListRoom
from vercel_certificate_operator.shares import MOST_CALLS, Shares
from vercel_certificate_operator.vercel import NotSent, OutcomeUnknown, VercelClient, VercelError
from vercel_certificate_operator.vercel.times import Allowance
from vercel_certificate_operator.vercel_failures import failure_of

logger = logging.getLogger(__name__)

KEPT = 48 * 3600.0
"""Seconds for which a token that isn't used is kept: longer than any back-off."""
KEPT_REJECTED = 3 * 3600.0
"""The same for a token that Vercel rejected: longer than the longest pause, after which it is tried again."""
SWEEP = 600.0
"""Seconds between two looks for what nobody uses any longer."""

DOMAIN_AGE = 300.0
"""Seconds for which a domain's configuration is remembered."""
URGENT_IN_A_ROW = 3
"""Urgent calls after which one that is not urgent is next."""
LIST_KEPT = 3600.0
"""Seconds for which a list is kept: longer than it is used."""
FAILED_LIST_KEPT = 600.0
"""Seconds for which it is remembered that a list failed: for a key that waited for it, which may be gone, and for how
often in a row, after the back-off."""
CALLED = 10.0
"""Seconds for which a slot is kept for a key that was woken because it is its tenant's turn."""
MOST_FIRST = 3
"""Calls of other kinds that a key may make first when it is its tenant's turn: such as a list, before it issues."""
MOST_TOKENS = 1000
"""Tokens that one namespace may use."""

ClientFactory = Callable[[SecretStr, Callable[[Call, Allowance], None]], VercelClient]
"""Makes a client for a token, which calls the function with what the rate-limit headers of an answer say."""
PauseKey = tuple[Call | None, Scope | None]
"""What a pause is for: a kind of call or all, in a team or everywhere."""


@dataclass(slots=True)
class _ListInProgress:
    begun: Tick
    task: asyncio.Task[None]
    waiting: dict[Hashable, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Pause:
    """A pause, and what began it."""

    until: Tick
    call: Call
    scope: Scope
    failure: Failure
    row: Meaning

    def for_token(self, token: str) -> Pause:
        """Returns it for someone who has the token in this place."""
        message = pause_message(token, self.call, self.scope, self.failure, self.row)
        return Pause(self.until, self.row.reason, message)


@dataclass(frozen=True, slots=True)
class _Rest:
    """Why and until when a scope isn't listed: its last list has failed."""

    failures: int
    """How many of its lists have failed in a row."""
    error: VercelError
    until: Tick


@dataclass(frozen=True, slots=True)
class _Turn:
    """The turn of a tenant to make a call."""

    key: Hashable
    """For which the call is."""
    call: Call
    made: int = 0
    """The calls of other kinds that were made first."""
    urgent: bool = True
    """Whether it may use what is left for urgent calls."""


def _party(key: Hashable) -> Hashable:
    """Returns with which others a key shares its turn: those of its tenant."""
    return tenant_of(key) if isinstance(key, Key | ScopeKey) else key


def _namespace(place: Place | None) -> str | None:
    return place[0] if place is not None else None


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True)
class _Limit:
    until: Tick
    """When it is forgotten, if Vercel has refused no other call because of it."""
    allowed: int = 1
    good: int = 0


class Account:
    """Everything that uses one token.

    After a pause, one call at a time is made, and one more at a time for every so many that succeed. So a limit isn't
    hit again by everything that waited, and a token that was rejected is tried by a single request.
    """

    def __init__(
        self,
        new_client: ClientFactory,
        token: Token,
        clock: Clock,
        *,
        slots: int,
        wake: "Callable[[Hashable, Account], None]",
        shares: Shares | None = None,
        room: ListRoom | None = None,
    ) -> None:
        """
        Args:
            slots: calls at a time.
            wake: called with each key that waited for a slot or a list and may go on.
            shares: what each tenant has in flight with all tokens.
            room: the room for the lists of all tokens.
        """
        self._new_client = new_client
        self._client: VercelClient | None = None
        self.used_at: Tick = clock.monotonic()
        self.identity = b""
        """Which token it is: its hash."""
        self.places: dict[Place | None, Tick] = {}
        """Where the token is, each with when it was last used from there."""
        self.namespaces: Counter[str | None] = Counter()
        """The number of these places in each namespace; None: it is the default token."""
        self.unused: Callable[[Account], None] = lambda account: None
        """Called when no place has the token any longer, and nothing uses it or waits for it."""
        self.found_bug: Callable[[], None] = lambda: None
        """Called when a list fails because of a bug."""
        self._token = token
        self._clock = clock
        self._slots = self._allowed = slots
        self._wake = wake
        self._shares = shares or Shares()
        self._room = room or ListRoom()
        self._taken = 0
        self._held: Counter[Hashable] = Counter()
        """The slots that each party has."""
        self._waiting: dict[bool, dict[Hashable, dict[Call, dict[Hashable, None]]]] = {True: {}, False: {}}
        """The keys that wait for a slot: by whether it is urgent, by party, and by call. Who is next is first."""
        self._waits: dict[Hashable, tuple[bool, Hashable, Call]] = {}
        """Where in these lines each key is."""
        self.waiting_at: dict[Hashable, Account] = {}
        """The account with which each key waits for a slot. All accounts share it."""
        self._urgent_in_a_row = 0
        self._urgent_of: dict[tuple[Call, Hashable], int] = {}
        """The same for each kind of call of a party, whether others wait or not."""
        self._passed_over: dict[Call, dict[Hashable, _Turn]] = {}
        """For each kind of call, the parties that ran into its rate limit and have begun none since, with its turn.
        So nobody's turn is lost because the calls of others use up the limit again."""
        self._served: dict[tuple[Call, Hashable], Tick] = {}
        """When a call of each kind succeeded last for each party, or ran into a rate limit; the oldest first."""
        self._called: dict[Hashable, tuple[Tick, _Turn]] = {}
        """Keys of such parties that were woken for their turn: a slot is kept for each. The oldest is first."""
        self._first: dict[Hashable, _Turn] = {}
        """Keys that first make another kind of call, or wait for a list, each with the turn that it has after that."""
        self._until_called_is_over: asyncio.Task[None] | None = None
        self._pauses: dict[PauseKey, _Pause] = {}
        self._refusals: dict[PauseKey, tuple[int, Tick]] = {}
        """How often in a row something was refused, and when; the oldest first."""
        self._limits: dict[Call, _Limit] = {}
        """For each kind of call that was paused by itself: how many of them may be in flight."""
        self._good = 0
        self._rejected = False
        self._closing: set[asyncio.Task[None]] = set()
        self._listings: dict[Scope, Listing] = {}
        self._in_progress: dict[Scope, _ListInProgress] = {}
        self._domains: dict[tuple[Scope, str], tuple[Tick, asyncio.Task[DomainConfig]]] = {}
        self._reading: set[asyncio.Task[DomainConfig]] = set()
        self._failed_lists: dict[Hashable, tuple[Tick, Scope, VercelError]] = {}
        self._rests: dict[Scope, _Rest] = {}
        self._unreached: set[Scope] = set()
        """Those of them that rest because Vercel couldn't be reached."""
        self._budgets = Budgets(clock)

    @property
    def client(self) -> VercelClient:
        """The client. It is made with its first use, and again after the token was rejected."""
        if self._client is None:
            self._client = self._new_client(self._token.value, self._budgets.note)
        return self._client

    # --- pauses

    def pause(self, call: Call | None = None, scope: Scope | None = None, token: Token | None = None) -> Pause | None:
        """Returns the pause that a call would run into; without arguments, any pause. Of several, the longest.

        Args:
            token: the token as the one who asks has it. Its message names no place of others.
        """
        now = self._clock.monotonic()
        which = self._pauses if call is None else ((None, None), (call, None), (None, scope), (call, scope))
        running = [self._pauses[key] for key in which if key in self._pauses and now < self._pauses[key].until]
        longest = max(running, key=lambda pause: pause.until, default=None)
        return longest.for_token(str(token or self._token)) if longest is not None else None

    def _times_refused(self, key: PauseKey, now: Tick) -> int:
        """Returns how often in a row something was refused, if that is not too long ago."""
        times, at = self._refusals.get(key, (0, now))
        paused = key in self._pauses and now < self._pauses[key].until
        return times if paused or now - at < KEPT_REJECTED else 0

    def failed(
        self, call: Call, scope: Scope, failure: Failure, row: Meaning, token: Token | None = None
    ) -> Pause | None:
        """Notes that a call failed. Returns the pause that this starts or extends; None if it does neither.

        Args:
            token: the token as the one who made the call has it.
        """
        if row.pauses is Pauses.NOTHING:
            return None
        key: PauseKey = (call, None) if row.pauses is Pauses.CALL else (None, None)
        if row.pauses is Pauses.TOKEN_IN_TEAM:
            key = (None, scope)
        now = self._clock.monotonic()
        running = self._pauses.get(key)
        if running is None or now >= running.until:
            # Calls that were in flight together are refused together: that counts once.
            times = self._times_refused(key, now)
            self._refusals.pop(key, None)
            self._refusals[key] = times + 1, now
        elif failure.retry_after is None:
            return None
        refusals, _ = self._refusals.setdefault(key, (1, now))  # a success meanwhile has dropped it
        span = wait_after(row, failure, refusals, self._token.fingerprint)
        pause = _Pause(now + span.total_seconds(), call, scope, failure, row)
        if row.pauses is Pauses.TOKEN:
            self._allowed, self._good = 1, 0
        elif row.pauses is Pauses.CALL:
            until = max(one.until for one in (pause, running) if one is not None)
            self._limits[call] = _Limit(until + AWAITED_LIST_AGE)
            self._allowed, self._good = 1, 0
        if running is not None and running.until >= pause.until:
            return None
        self._pauses[key] = pause
        self._rejected = self._rejected or row.pauses is Pauses.TOKEN
        self._drop_what_a_rejected_token_has()
        return pause.for_token(str(token or self._token))

    def succeeded(self, call: Call, scope: Scope, key: Hashable = None) -> None:
        """Notes that a call succeeded.

        Args:
            key: for which it was made.
        """
        self._has_made(call, key)
        for refused in ((call, None), (None, None), (None, scope)):
            self._refusals.pop(refused, None)
        while self._unreached:
            self._end_rest(next(iter(self._unreached)))  # Vercel can be reached
        self._rejected = False
        self._good += 1
        if self._good >= self._slots and self._allowed < self._slots:
            self._allowed, self._good = self._allowed + 1, 0
        limit = self._limits.get(call)
        if limit is not None:
            limit.good += 1
            if limit.good >= self._slots:
                limit.allowed, limit.good = limit.allowed + 1, 0
            if limit.allowed >= self._slots:
                del self._limits[call]

    def _forget_limits(self) -> None:
        """Forgets rate limits after a while: the calls that would show that they are over may never be made."""
        now = self._clock.monotonic()
        for call in [call for call, limit in self._limits.items() if now >= limit.until]:
            del self._limits[call]
            if not self._limits and not self._rejected:
                self._allowed = self._slots

    def _has_made(self, call: Call, key: Hashable) -> None:
        which = call, _party(key)
        self._served.pop(which, None)
        self._served[which] = self._clock.monotonic()

    # --- slots

    @property
    def in_flight(self) -> int:
        """The calls in flight."""
        return self._taken

    @property
    def allowed(self) -> int:
        """How many calls may be in flight now; of a kind that was limited, if that is fewer."""
        self._forget_limits()
        return min([self._allowed, *(limit.allowed for limit in self._limits.values())])

    @property
    def waiting(self) -> int:
        """The number of keys that wait for a slot."""
        return len(self._waits)

    @property
    def rejected(self) -> bool:
        """Whether Vercel rejected the token, and has accepted nothing since."""
        return self._rejected

    @property
    def busy(self) -> bool:
        """Whether something uses the token or waits for it."""
        return bool(self._taken or self.waiting or self._in_progress or self._reading)

    @property
    def idle(self) -> bool:
        """Whether nothing uses the token or waits for it, not even for the end of a pause."""
        return not self.busy and self.pause() is None

    def forget_what_is_old(self) -> None:
        """Drops lists and failures that are too old for anything."""
        now = self._clock.monotonic()
        for scope in [scope for scope, known in self._listings.items() if now - known.begun > LIST_KEPT]:
            self._drop_list(scope)
        for scope in [scope for scope, rest in self._rests.items() if now - rest.until > FAILED_LIST_KEPT]:
            self._end_rest(scope)
        for key in [key for key, (at, _, _) in self._failed_lists.items() if now - at > FAILED_LIST_KEPT]:
            del self._failed_lists[key]
        while self._served and now - next(iter(self._served.values())) > LIST_KEPT:
            del self._served[next(iter(self._served))]
        for which in self._urgent_of.keys() - self._served.keys():
            del self._urgent_of[which]  # also of those whose calls all failed
        for paused in [key for key, pause in self._pauses.items() if now >= pause.until]:
            del self._pauses[paused]
        for refused in [key for key in self._refusals if not self._times_refused(key, now)]:
            del self._refusals[refused]

    def drop_if_unused(self) -> None:
        """Reports it if the token is of no use any longer."""
        if not self.places and not self.busy:
            self.unused(self)

    def was_limited(self, key: Hashable, call: Call) -> None:
        """Notes that Vercel refused a call because of a rate limit. It keeps its turn, behind those who made none."""
        self._has_made(call, key)
        self._passed_over.setdefault(call, {}).setdefault(_party(key), _Turn(key, call))

    def keep_turn(self, key: Hashable, call: Call, *, urgent: bool) -> None:
        """Notes that a key ran into a rate limit: after the pause, it is its tenant's turn before others go again.

        Args:
            urgent: whether it goes before those of its tenant that are not, but not for ever.
        """
        waiting, party = self._passed_over.setdefault(call, {}), _party(key)
        before = waiting.get(party)
        if before is not None and urgent == before.urgent and not urgent:
            return
        if before is not None and urgent != before.urgent and urgent == self._others_are_next(call, party):
            return
        waiting[party] = _Turn(key, call, urgent=urgent)

    def _others_are_next(self, call: Call, party: Hashable) -> bool:
        """Returns whether a party has made so many urgent calls in a row that one that is not urgent is next."""
        return self._urgent_of.get((call, party), 0) >= URGENT_IN_A_ROW

    @property
    def _free(self) -> int:
        """The slots that are neither taken nor kept for a key that was called."""
        self._forget_limits()
        now = self._clock.monotonic()
        while self._called and now - next(iter(self._called.values()))[0] >= CALLED:
            del self._called[next(iter(self._called))]
        return self._allowed - self._taken - len(self._called)

    def _call_next(self, here: tuple[Hashable, Call] | None = None, key: Hashable = None) -> bool:
        """Wakes a key of the party that was passed over and served longest ago. Returns False if there is none.

        Args:
            here: a party that has come for a call. If it is its turn for that, nobody is woken.
            key: with which it has come.
        """
        for call, waiting in self._passed_over.items():
            if self._is_paused_everywhere(call) or not self._budgets.allows(call, urgent=True):
                continue
            for other in sorted(waiting, key=partial(self._served_at, call)):
                turn = waiting[other]
                if self._can_go(other, turn, here):
                    break
            else:
                continue
            goes_first = not turn.urgent and self._others_are_next(call, other)
            if here == (other, call) and (turn.key == key or not goes_first):
                return False
            if here is not None and here[0] == other and here[1] != call:
                continue  # it has come for another call
            self._had_its_turn(other, call)
            self._keep_slot(turn)
            self._wake(turn.key, self)
            return True
        return False

    def _can_go(self, party: Hashable, turn: _Turn, here: tuple[Hashable, Call] | None) -> bool:
        """Returns whether a key can begin its call if it is called. Otherwise it would be called again and again."""
        urgent, _, call = self._waits.get(turn.key, (turn.urgent, party, turn.call))
        return (
            call == turn.call  # else it waits for the one that it makes first
            and turn.key not in self._called  # for another kind of call: one after the other
            and turn.key not in self._first
            and self._may(call, party, urgent=urgent)
            and self._shares.allow(party)
            and not self._must_yield(party, Counter(), here)
        )

    def _keep_slot(self, turn: _Turn) -> None:
        self._called.pop(turn.key, None)
        self._called[turn.key] = self._clock.monotonic(), turn
        if self._until_called_is_over is None or self._until_called_is_over.done():
            self._until_called_is_over = asyncio.create_task(self._give_up_slots(), name="slots kept for turns")

    async def _give_up_slots(self) -> None:
        """Wakes the others when a key that was called hasn't come in time: nothing else may happen for a while."""
        while self._called:
            at, _ = next(iter(self._called.values()))
            await self._clock.wait(asyncio.Event(), at + CALLED - self._clock.monotonic())
            self.wake_waiting()

    def _served_at(self, call: Call, party: Hashable) -> Tick:
        return self._served.get((call, party), 0.0)

    def _keep_again(self, turn: _Turn | None) -> None:
        """Keeps the turn of a key that was called, or that has made another call first."""
        if turn is not None:
            self._passed_over.setdefault(turn.call, {}).setdefault(_party(turn.key), turn)

    def _was_called(self, key: Hashable) -> bool:
        """Returns whether a key that has come was called. If so, no slot is kept for it any longer, but its turn is."""
        _, turn = self._called.pop(key, (0.0, None))
        self._keep_again(turn)
        return turn is not None

    def _put_off(self, key: Hashable) -> None:
        """Keeps the turn of a key while it makes another call first, or waits for a list. But not for ever."""
        party = _party(key)
        for call, waiting in self._passed_over.items():
            turn = waiting.get(party)
            if turn is not None and turn.key == key:
                self._had_its_turn(party, call)
                if turn.made < MOST_FIRST:
                    self._first[key] = replace(turn, made=turn.made + 1)
                return

    def _had_its_turn(self, party: Hashable, call: Call) -> None:
        waiting = self._passed_over.get(call)
        if waiting is not None and waiting.pop(party, None) is not None and not waiting:
            del self._passed_over[call]

    def take_slot(self, key: Hashable, call: Call, *, urgent: bool = True) -> bool:
        """Takes a slot for a call, at once or not at all. Without one, the key is woken when one is free.

        Args:
            urgent: whether it goes before those that are not.
        """
        party = _party(key)
        if not self._was_called(key):
            while self._free > 0 and self._call_next((party, call), key):
                pass
        if not self._shares.allow(party):
            self._shares.wait(party, self.wake_waiting)
        elif self._free > 0 and self._may(call, party, urgent=urgent) and not self._must_yield(party, Counter()):
            self.stop_waiting(key)
            self._had_its_turn(party, call)
            self._put_off(key)
            self._taken += 1
            self._held[party] += 1
            if urgent:
                self._urgent_of[call, party] = self._urgent_of.get((call, party), 0) + 1
            else:
                self._urgent_of.pop((call, party), None)
            self._budgets.begin(call)
            self._shares.begin(party)
            return True
        if self._waits.get(key) != (urgent, party, call):
            before = self.waiting_at.get(key, self)
            before.stop_waiting(key)
            if before is not self:
                before.drop_if_unused()  # its token was replaced
            self._waiting[urgent].setdefault(party, {}).setdefault(call, {})[key] = None
            self._waits[key] = urgent, party, call
            self.waiting_at[key] = self
        return False

    def stop_waiting(self, key: Hashable) -> None:
        """Takes a key that no longer wants what it waited for out of the line."""
        where = self._waits.pop(key, None)
        if where is None:
            return
        del self.waiting_at[key]
        urgent, party, call = where
        calls = self._waiting[urgent][party]
        del calls[call][key]
        if not calls[call]:
            del calls[call]
        if not calls:
            del self._waiting[urgent][party]

    def _must_yield(self, party: Hashable, woken: Counter[Hashable], here: tuple[Hashable, Call] | None = None) -> bool:
        """Returns whether a party has its half of the slots while another one, which has less, waits.

        Args:
            here: a party that has come for a call, and doesn't wait in line.
        """
        half = max(1, self._allowed // 2)
        if self._held[party] + woken[party] < half:
            return False
        lines: list[tuple[bool, Mapping[Hashable, Iterable[Call]]]] = [*self._waiting.items()]
        if here is not None:
            lines.append((True, {here[0]: [here[1]]}))
        return any(
            other != party
            and self._held[other] + woken[other] < half
            and self._shares.allow(other, woken[other])
            and any(self._may(call, other, urgent=urgent) for call in calls)
            for urgent, line in lines
            for other, calls in line.items()
        )

    def _may(self, call: Call, party: Hashable, *, urgent: bool, others: int = 0) -> bool:
        """Returns whether one more call of this kind may be made now, beside others that are about to be made.

        One is kept for each key that was called to make it.
        """
        others += sum(turn.call == call for _, turn in self._called.values())
        limit = self._limits.get(call)
        if limit is not None and self._budgets.in_flight(call) + others >= limit.allowed:
            return False
        return self._budgets.allows(call, urgent=urgent, others=others + self._kept_for_others(call, party))

    def _kept_for_others(self, call: Call, party: Hashable) -> int:
        """Returns how many calls are left for others whose turn for another kind comes: the limit may be one on all.

        Half of what Vercel allows, at most.
        """
        turns = sum(
            len(turns) - (party in turns)
            for other, turns in self._passed_over.items()
            if other != call and other in self._limits
        )
        return min(turns, self._budgets.limit(call) // 2) if turns else 0

    def _used_up_until(self, call: Call, party: Hashable, *, urgent: bool) -> Tick | None:
        return self._budgets.used_up_until(call, urgent=urgent, others=self._kept_for_others(call, party))

    def used_up(self, call: Call, token: Token, key: Hashable, *, urgent: bool = True) -> Pause | None:
        """Returns the pause until Vercel allows more calls of this kind, by the headers of its answers.

        Args:
            token: the token as the one who asks has it.
            key: for which the call is.
        """
        until = self._used_up_until(call, _party(key), urgent=urgent)
        if until is None:
            return None
        return Pause(until, Reason.RATE_LIMITED, used_up_message(str(token), call))

    def give_slot_back(self, key: Hashable, call: Call) -> None:
        """Ends a call for which a key took a slot, and wakes the keys that are next."""
        self._taken -= 1
        party = _party(key)
        self._held[party] -= 1
        if not self._held[party]:
            del self._held[party]
        self._budgets.end(call)
        self._shares.end(party)
        self._keep_again(self._first.pop(key, None))
        self._drop_what_a_rejected_token_has()
        self.pass_on(key)

    def pass_on(self, key: Hashable) -> None:
        """Wakes those who may have what a key doesn't need, or needs no longer: a slot, or its tenant's share."""
        self._called.pop(key, None)
        self.wake_waiting()
        self._shares.wake(_party(key))

    def _drop_what_a_rejected_token_has(self) -> None:
        """Closes the client and drops the lists: anyone can put any number of useless tokens into a Secret.

        This waits for the calls in flight.
        """
        if not self._rejected or self._taken or self._reading:
            return
        client, self._client = self._client, None
        self.drop_lists()
        if client is not None:
            closing = asyncio.create_task(client.aclose(), name="close a client")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def wake_waiting(self) -> int:
        """Wakes as many keys as there are free slots, and all whose kind of call is paused: they have to report it.

        Returns:
            How many were woken.
        """
        paused = self._paused_everywhere()
        calls: Counter[Call] = Counter()
        parties: Counter[Hashable] = Counter()
        woken = 0
        while self._free > 0 and self._call_next():
            woken += 1
        free = self._free
        while (found := self._next_waiting(calls, parties, paused, free=free > 0)) is not None:
            urgent, party, call = found
            if call not in paused:
                calls[call] += 1
                parties[party] += 1
                free -= 1
            woken += 1
            self._wake(self._take_waiting(urgent, party, call), self)
        self.drop_if_unused()
        return woken

    def _paused_everywhere(self) -> frozenset[Call]:
        """Returns the kinds of call that wait and that a pause prevents in every scope."""
        waited_for = {call for line in self._waiting.values() for of_party in line.values() for call in of_party}
        return frozenset(call for call in waited_for if self._is_paused_everywhere(call))

    def _is_paused_everywhere(self, call: Call) -> bool:
        """Returns whether a pause prevents a kind of call in every scope. Pauses of single teams may be very many."""
        now = self._clock.monotonic()
        pauses = (self._pauses.get(key) for key in ((call, None), (None, None)))
        return any(pause is not None and now < pause.until for pause in pauses)

    def _next_waiting(
        self, woken: Counter[Call], parties: Counter[Hashable], paused: frozenset[Call], *, free: bool
    ) -> tuple[bool, Hashable, Call] | None:
        """Returns who is next: the urgent ones, but not for ever. Those whose call is not allowed now wait on."""
        for urgent in (False, True) if self._urgent_in_a_row >= URGENT_IN_A_ROW else (True, False):
            for party, calls in self._waiting[urgent].items():
                if (call := next((call for call in calls if call in paused), None)) is not None:
                    return urgent, party, call  # it only has to report it
                if not free or self._must_yield(party, parties):
                    continue
                if not self._shares.allow(party, parties[party]):
                    self._shares.wait(party, self.wake_waiting)
                    continue
                for call in calls:
                    used_up = self._used_up_until(call, party, urgent=urgent) is not None  # then it has to report it
                    if used_up or self._may(call, party, urgent=urgent, others=woken[call]):
                        return urgent, party, call
        return None

    def _take_waiting(self, urgent: bool, party: Hashable, call: Call) -> Hashable:
        """Takes the key of a party that is first. The party goes behind the others, and its call too."""
        self._urgent_in_a_row = self._urgent_in_a_row + 1 if urgent and self._waiting[False] else 0
        calls = self._waiting[urgent].pop(party)
        keys = calls.pop(call)
        key = next(iter(keys))
        del keys[key], self._waits[key], self.waiting_at[key]
        if keys:
            calls[call] = keys
        if calls:
            self._waiting[urgent][party] = calls
        return key

    # --- lists

    def listing(self, scope: Scope, begun_after: Tick | None, awaited_since: Tick | None = None) -> Listing | None:
        """Returns the newest complete list, if it was begun no earlier than this; with None, if it is fresh.

        Args:
            awaited_since: since when somebody has waited for a fresh list. One of that time may be older. So may any
                while Vercel rate limits the token, and for two minutes after that.
        """
        known = self._listings.get(scope)
        if known is None:
            return None
        self._forget_limits()
        if self._limits or (awaited_since is not None and known.begun >= awaited_since - LEAST_LIST_AGE):
            known = replace(known, awaited=True)
        return known if known.is_new_enough(begun_after, self._clock.monotonic()) else None

    def drop_lists(self) -> None:
        """Drops all lists: they are made again when someone needs them."""
        for scope in tuple(self._listings):
            self._drop_list(scope)

    def _drop_list(self, scope: Scope) -> None:
        del self._listings[scope]
        self._room.release((self, scope))

    @property
    def _payer(self) -> Hashable:
        """For whom its lists count: the namespaces that have the token. The default token's lists are for everyone."""
        return self if not self.namespaces or None in self.namespaces else frozenset(self.namespaces)

    def failed_list(self, key: Hashable, scope: Scope) -> VercelError | None:
        """Returns, once, why the list of this scope for which a key waited failed."""
        _, failed, error = self._failed_lists.pop(key, (0.0, None, None))
        return error if failed == scope else None

    def join_list(self, scope: Scope, key: Hashable) -> bool:
        """Lets a key wait for the list in progress. Returns False if there is none.

        At most one is in flight per scope. The key is woken at its end; if it was begun too early, it starts the next.
        """
        running = self._in_progress.get(scope)
        if running is None:
            return False
        running.waiting[key] = None
        self._was_called(key)
        self._put_off(key)
        return True

    def waiting_for_list(self, scope: Scope) -> int:
        """Returns how many keys wait for the list in progress."""
        running = self._in_progress.get(scope)
        return len(running.waiting) if running is not None else 0

    def start_list(self, scope: Scope, key: Hashable) -> None:
        """Starts a list in the background with a slot that was taken for it. The key is woken at its end."""
        begun = self._clock.monotonic()
        task = asyncio.create_task(self._list(scope, key, begun), name=f"list {scope}")
        self._in_progress[scope] = _ListInProgress(begun, task, {key: None})

    def resting_list(self, scope: Scope) -> VercelError | None:
        """Returns why the newest list of a scope failed, until its back-off is over; None: the scope may be listed.

        The back-off is the scope's. With one for each resource, the lists of an outage would grow with their number.
        """
        rest = self._rests.get(scope)
        return rest.error if rest is not None and self._clock.monotonic() < rest.until else None

    def _rest(self, scope: Scope, error: VercelError) -> None:
        failure = failure_of(error)
        row = meaning(failure, "list")
        if row.pauses is not Pauses.NOTHING:
            return  # the pause says more
        before = self._end_rest(scope)
        failures = before.failures + 1 if before is not None else 1
        until = self._clock.monotonic() + rest_of_lists(row, failure, failures).total_seconds()
        self._rests[scope] = _Rest(failures, error, until)
        if isinstance(error, NotSent):
            self._unreached.add(scope)

    def _end_rest(self, scope: Scope) -> _Rest | None:
        self._unreached.discard(scope)
        return self._rests.pop(scope, None)

    async def _list(self, scope: Scope, key: Hashable, begun: Tick) -> None:
        error: VercelError | None = None
        try:
            payer = self._payer
            with self._room.reading(payer) as reading:
                certificates = await self.client.list(scope, reading)
            took = self._clock.monotonic() - begun
            self._listings[scope] = Listing(begun, Certificates(certificates), took)
            self._room.keep(payer, (self, scope), reading.size, lambda: self._drop_list(scope))
            self._end_rest(scope)
            self.succeeded("list", scope, key)
        except VercelError as failed:
            error = failed
        except Exception as bug:
            # It counts as a failure, so that those who wait don't begin the next list at once.
            logger.exception("The list of certificates in %s failed because of a bug", scope)
            self.found_bug()
            error = OutcomeUnknown(f"internal error: {type(bug).__name__}")
        finally:
            self._list_ended(scope, key, error)

    def _list_ended(self, scope: Scope, key: Hashable, error: VercelError | None) -> None:
        """Wakes all who waited for a list, and gives back the slot that a key took for it."""
        if error is not None:
            self._rest(scope, error)
        for one in self._in_progress.pop(scope).waiting:
            if error is not None:
                self._failed_lists[one] = self._clock.monotonic(), scope, error
            self._keep_again(self._first.pop(one, None))  # before anyone is woken for the slot
            self._wake(one, self)
        self.give_slot_back(key, "list")

    # --- domains

    def domain_config(self, domain: str, scope: Scope) -> asyncio.Task[DomainConfig] | None:
        """Returns the newest read of a domain's configuration, if it was begun in the last five minutes."""
        now = self._clock.monotonic()
        while self._domains and now - next(iter(self._domains.values()))[0] >= DOMAIN_AGE:  # the oldest is first
            del self._domains[next(iter(self._domains))]
        known = self._domains.get((scope, domain))
        return known[1] if known is not None else None

    def read_domain(
        self, domain: str, scope: Scope, read: Coroutine[Any, Any, DomainConfig]
    ) -> asyncio.Task[DomainConfig]:
        """Reads a domain's configuration in the background, with a slot that was taken for it: others want it too."""
        task = asyncio.create_task(read, name=f"configuration of {domain}")
        self._domains[scope, domain] = self._clock.monotonic(), task
        self._reading.add(task)
        task.add_done_callback(self._domain_was_read)
        return task

    def _domain_was_read(self, task: asyncio.Task[DomainConfig]) -> None:
        self._reading.discard(task)
        self._drop_what_a_rejected_token_has()
        self.drop_if_unused()

    @property
    def lists(self) -> list[asyncio.Task[None]]:
        """The lists in progress."""
        return [running.task for running in self._in_progress.values()]

    async def aclose(self) -> None:
        """Ends what is in progress in the background and closes the client."""
        self.unused = lambda account: None  # it is being closed already
        await _end(*self.lists, *self._reading)
        if self._until_called_is_over is not None:  # perhaps only since they gave their slots back
            await _end(self._until_called_is_over)
        await asyncio.gather(*self._closing, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()


class Accounts:
    """The accounts of all tokens in use.

    An account is dropped when no place has its token any longer: a rotation replaces one. A token that is used after
    that, for the removal of a certificate, gets a new account.
    """

    def __init__(self, new_client: ClientFactory, clock: Clock, *, slots: int) -> None:
        """
        Args:
            slots: calls at a time, per token.
        """
        self._new_client = new_client
        self._clock = clock
        self._slots = slots
        self._shares = Shares(max(MOST_CALLS, slots))
        self._accounts: dict[bytes, Account] = {}
        self._tokens_of: defaultdict[str, Counter[bytes]] = defaultdict(Counter)
        """For each namespace, its tokens, each with the number of places where it is."""
        self._waiting_at: dict[Hashable, Account] = {}
        self._room = ListRoom()
        self._swept: Tick = clock.monotonic()
        self._closing: set[asyncio.Task[None]] = set()
        self.wake: Callable[[Hashable, Account], None] = lambda key, account: None
        """Called with each key that may go on, and with its account."""
        self.found_bug: Callable[[], None] = lambda: None
        """Called when a list fails because of a bug."""
        self.by_place: dict[Place | None, Account] = {}
        """The account with which the token of each place was last used. None: the operator's default token."""

    def of(self, token: Token) -> Account:
        """Returns the account of this token. It is made with its first use.

        Raises:
            TokenMissing: the token's namespace uses too many.
        """
        self._sweep()
        identity = hashlib.sha256(token.value.get_secret_value().encode()).digest()
        account = self._accounts.get(identity)
        before = self.by_place.get(token.place)
        if account is None or before is not account:
            self._check_namespace(token, identity)
        if account is None:
            account = Account(
                self._new_client,
                token,
                self._clock,
                slots=self._slots,
                wake=self._woken,
                shares=self._shares,
                room=self._room,
            )
            account.identity, account.unused, account.waiting_at = identity, self._drop, self._waiting_at
            account.found_bug = lambda: self.found_bug()
            self._accounts[identity] = account
        if before is not account:
            self._move(token.place, account)
        account.places[token.place] = account.used_at = self._clock.monotonic()
        return account

    def _move(self, place: Place | None, account: Account | None) -> None:
        """Notes that a place has another token; None: that nobody uses the place any longer."""
        before = self.by_place.pop(place, None)
        if account is not None:
            self.by_place[place] = account
            account.places[place] = self._clock.monotonic()
            account.namespaces[_namespace(place)] += 1
            if place is not None:
                self._tokens_of[place[0]][account.identity] += 1
        if before is None:
            return
        del before.places[place]
        before.namespaces[_namespace(place)] -= 1
        if not before.namespaces[_namespace(place)]:
            del before.namespaces[_namespace(place)]
        if place is not None:
            tokens = self._tokens_of[place[0]]
            tokens[before.identity] -= 1
            if not tokens[before.identity]:
                del tokens[before.identity]
            if not tokens:
                del self._tokens_of[place[0]]
        before.drop_if_unused()

    def _check_namespace(self, token: Token, identity: bytes) -> None:
        """Raises TokenMissing if a namespace uses so many tokens that it could exhaust the operator's memory."""
        tokens = self._tokens_of.get(token.place[0]) if token.place is not None else None
        if token.place is None or tokens is None or identity in tokens:
            return
        used = len(tokens)
        before = self.by_place.get(token.place)
        if before is not None and tokens[before.identity] == 1:
            used -= 1  # this one replaces it
        if used >= MOST_TOKENS:
            raise TokenMissing(f"namespace {token.place[0]} uses {used} tokens, which is the limit: use fewer tokens")

    def _woken(self, key: Hashable, account: Account) -> None:
        self.wake(key, account)

    @property
    def lists(self) -> list[asyncio.Task[None]]:
        """All lists in progress."""
        return [task for account in self._accounts.values() for task in account.lists]

    def _sweep(self) -> None:
        """Drops what nobody has used for long. It goes through all accounts, so it is done from time to time only."""
        now = self._clock.monotonic()
        if now - self._swept < SWEEP:
            return
        self._swept = now
        for account in tuple(self._accounts.values()):
            account.forget_what_is_old()
        for account in tuple(self._accounts.values()):
            kept = KEPT_REJECTED if account.rejected else KEPT
            if account.idle and now - account.used_at > kept:
                old = tuple(account.places)
            else:
                old = tuple(place for place, used_at in account.places.items() if now - used_at > KEPT)
            for place in old:
                if len(account.places) > 1 or account.idle:  # while it is paused, its last place says so in metrics
                    self._move(place, None)

    def _drop(self, account: Account) -> None:
        if self._accounts.get(account.identity) is not account:
            return  # it was dropped before, and there may be a new one for its token
        del self._accounts[account.identity]
        account.drop_lists()
        closing = asyncio.create_task(account.aclose(), name="close a client")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Closes all of them."""
        await asyncio.gather(*self._closing)
        for account in tuple(self._accounts.values()):
            await account.aclose()
