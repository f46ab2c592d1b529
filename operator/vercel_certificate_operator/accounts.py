"""What the operator keeps per Vercel token: a client, slots, a pause, and the newest listing of each scope."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from datetime import timedelta

from pydantic import SecretStr

from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.failures import Failure, Meaning, wait_after
from vercel_certificate_operator.core.known import Listing, Pause, Tick
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.kube.tokens import Place, Token
from vercel_certificate_operator.vercel import VercelClient

KEPT = 48 * 3600.0
"""Seconds for which a token that is not used is kept: longer than any back-off."""

ClientFactory = Callable[[SecretStr], VercelClient]


class Account:
    """Everything that goes by one token.

    After a pause, one call at a time is let through, and one more at a time for every so many that go well: so a limit
    is not run into again by all that has waited, and a token that was refused is tried by a single request.
    """

    def __init__(self, client: VercelClient, fingerprint: str, clock: Clock, *, slots: int) -> None:
        self.client = client
        self.used_at: Tick = clock.monotonic()
        self._fingerprint = fingerprint
        self._clock = clock
        self._slots = self._allowed = slots
        self._taken = 0
        self._waiting: deque[Hashable] = deque()
        self._pause: Pause | None = None
        self._refusals = 0
        self._good = 0
        self._listings: dict[Scope, Listing] = {}
        self._under_way: dict[Scope, tuple[Tick, asyncio.Task[Listing]]] = {}

    @property
    def pause(self) -> Pause | None:
        """The pause that the token is in."""
        if self._pause is not None and self._clock.monotonic() >= self._pause.until:
            self._pause = None
        return self._pause

    @property
    def in_flight(self) -> int:
        """The calls under way."""
        return self._taken

    @property
    def allowed(self) -> int:
        """How many calls may be under way at a time, for now."""
        return self._allowed

    @property
    def waiting(self) -> int:
        """How many keys wait for a slot."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way with the token, nor waits for it."""
        return not self._taken and not self._waiting and not self._under_way and self.pause is None

    def failed(self, failure: Failure, row: Meaning) -> bool:
        """Note that a call has failed. True if the token is used for nothing now, since the failure concerns it."""
        if not row.whole_token:
            return False
        paused = self.pause is not None
        if not paused:
            self._refusals += 1  # calls that were in flight together are refused together: that counts once
        elif failure.retry_after is None:
            return True
        span = wait_after(row, failure, self._refusals, self._fingerprint)
        if row.reason == Reason.RATE_LIMITED:
            message = "Vercel limits how often it is asked: everything that uses this token waits."
        else:
            message = (
                f"Vercel refuses the token ({failure.message.rstrip('.')}): everything that uses it waits. {row.advice}"
            )
        until = self._clock.monotonic() + span.total_seconds()
        if self._pause is None or until > self._pause.until:
            self._pause = Pause(until, row.reason, message)
        self._allowed, self._good = 1, 0
        return True

    def succeeded(self) -> None:
        """Note that a call went well."""
        self._refusals = 0
        self._good += 1
        if self._good >= self._slots and self._allowed < self._slots:
            self._allowed, self._good = self._allowed + 1, 0

    def take_slot(self, key: Hashable) -> bool:
        """A slot for a call, at once or not at all. Without one, the key is remembered for when one is given back."""
        if self._taken < self._allowed:
            self._taken += 1
            return True
        if key not in self._waiting:
            self._waiting.append(key)
        return False

    def give_slot_back(self) -> None:
        """The call is over."""
        self._taken -= 1

    def wake(self) -> list[Hashable]:
        """The keys that have waited longest, as many as there are slots free now: they wait no more.

        While the token rests, all of them: they have only to say so.
        """
        free = len(self._waiting) if self.pause is not None else max(0, self._allowed - self._taken)
        return [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]

    async def listing(self, scope: Scope, begun_after: Tick) -> Listing:
        """A complete listing that was begun no earlier than this; shared by everybody who wants one.

        Raises:
            VercelError: it could not be had whole.
        """
        while True:
            known = self._listings.get(scope)
            if known is not None and known.begun >= begun_after:
                return known
            begun, task = self._under_way.get(scope, (0.0, None))
            if task is None:
                begun = self._clock.monotonic()
                task = asyncio.create_task(self._list(scope, begun), name=f"list {scope}")
                self._under_way[scope] = begun, task
            if begun >= begun_after:
                # Shielded, since others may wait for the same one.
                return await asyncio.shield(task)
            # Never more than one in flight: the one under way began too early, so that the next one is waited for.
            await asyncio.wait({task})

    async def _list(self, scope: Scope, begun: Tick) -> Listing:
        try:
            certificates = await self.client.list(scope)
        finally:
            del self._under_way[scope]
        offset = self.client.clock_offset or timedelta()
        at_vercel = self._clock.now() + offset - timedelta(seconds=self._clock.monotonic() - begun)
        listing = self._listings[scope] = Listing(begun, offset, certificates, at_vercel)
        return listing

    async def aclose(self) -> None:
        """Close the client, and end a listing under way."""
        for _, task in tuple(self._under_way.values()):
            task.cancel()
        await self.client.aclose()


class Accounts:
    """The accounts of all tokens in use."""

    def __init__(self, new_client: ClientFactory, clock: Clock, *, slots: int = 8) -> None:
        self._new_client = new_client
        self._clock = clock
        self._slots = slots
        self._accounts: dict[str, Account] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.by_place: dict[Place | None, Account] = {}
        """The account that the token of each place was last used with. None: the operator's own token."""

    def of(self, token: Token) -> Account:
        """The account of this token, which is made with its first use."""
        account = self._accounts.get(token.fingerprint)
        if account is None:
            self._retire()  # it may have come in the place of another one
            client = self._new_client(token.value)
            account = Account(client, token.fingerprint, self._clock, slots=self._slots)
            self._accounts[token.fingerprint] = account
        self.by_place[token.place] = account
        account.used_at = self._clock.monotonic()
        return account

    def _retire(self) -> None:
        """Let go of tokens that nobody uses any more: where they are rotated, there are new ones every hour."""
        for fingerprint, account in tuple(self._accounts.items()):
            if account.idle and self._clock.monotonic() - account.used_at > KEPT:
                del self._accounts[fingerprint]
                self.by_place = {place: used for place, used in self.by_place.items() if used is not account}
                closing = asyncio.create_task(account.aclose(), name="close a client")
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close all of them."""
        await asyncio.gather(*self._closing)
        for account in self._accounts.values():
            await account.aclose()
