"""Calls to Vercel for one key of the queue: the token, a slot, the pauses, and what a failure means for others."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager

from vercel_certificate_operator.accounts import Account, Accounts
from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.domains import DomainConfig
from vercel_certificate_operator.core.failures import Call, Failure, Pauses, meaning
from vercel_certificate_operator.core.known import Got, Listing, Pause, Tick
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.core.sightings import ScopeKey
from vercel_certificate_operator.kube.tokens import Token
from vercel_certificate_operator.vercel import ApiError, OutcomeUnknown, VercelError
from vercel_certificate_operator.vercel_failures import failure_of

logger = logging.getLogger(__name__)


class Waiting(Exception):
    """The call can't be made yet: the key is woken when a slot is free, or the list in progress has ended."""

    def __init__(self, number: int) -> None:
        """
        Args:
            number: how many keys wait for the same.
        """
        super().__init__(f"{number} keys wait")
        self.number = number


class Paused(Exception):
    """Requests of this kind with this token are paused."""

    def __init__(self, call: Call, pause: Pause) -> None:
        super().__init__(pause.message)
        self.call = call
        self.pause = pause


class VercelCalls:
    """All methods raise VercelError, Waiting or Paused."""

    def __init__(
        self, accounts: Accounts, clock: Clock, away: Callable[[Key | ScopeKey], AbstractContextManager[None]]
    ) -> None:
        """
        Args:
            away: while a call for a key is in flight, its worker is free for other keys.
        """
        self._accounts = accounts
        self._clock = clock
        self._away = away

    def take_slot(self, key: Key | ScopeKey, call: Call, scope: Scope, token: Token, *, urgent: bool = True) -> Account:
        """Returns the token's account with a slot for one call. Give it back with ``give_slot_back``."""
        account = self._accounts.of(token)
        self._check_pauses(key, account, call, scope, token, urgent=urgent)
        if not account.take_slot(key, call, urgent=urgent):
            raise Waiting(account.waiting)
        return account

    def _check_pauses(
        self,
        key: Key | ScopeKey,
        account: Account,
        call: Call,
        scope: Scope,
        token: Token,
        *,
        urgent: bool = True,
    ) -> None:
        pause = account.pause(call, scope, token)
        pause = pause or account.used_up(call, token, key, urgent=urgent)
        if pause is not None:
            if pause.reason == Reason.RATE_LIMITED:
                account.keep_turn(key, call, urgent=urgent)
            raise Paused(call, pause)

    @asynccontextmanager
    async def _slot(self, key: Key | ScopeKey, call: Call, scope: Scope, token: Token) -> AsyncIterator[Account]:
        account = self.take_slot(key, call, scope, token)
        async with self._held(key, account, call, scope, token):
            with self._away(key):
                yield account

    @asynccontextmanager
    async def _held(
        self, key: Key | ScopeKey, account: Account, call: Call, scope: Scope, token: Token
    ) -> AsyncIterator[None]:
        """Makes a call with a slot that was taken for it, notes how it ended, and gives the slot back."""
        try:
            yield
            account.succeeded(call, scope, key)
        except VercelError as error:
            self.note_failure(account, call, scope, failure_of(error), token, key)
            raise
        finally:
            account.give_slot_back(key, call)

    def note_failure(
        self, account: Account, call: Call, scope: Scope, failure: Failure, token: Token, key: Key | ScopeKey
    ) -> None:
        """Notes a failure that may concern everything that uses the token.

        Args:
            key: whose call it was. After a rate limit, it keeps its turn.
        """
        row = meaning(failure, call)
        if row.pauses is Pauses.CALL:
            account.was_limited(key, call)
        pause = account.failed(call, scope, failure, row, token)
        if pause is not None:
            seconds = pause.until - self._clock.monotonic()
            fields = {"reason": str(pause.reason), "token": str(token)}
            logger.warning("%s Pausing these requests for %.0f s.", pause.message, seconds, extra=fields)

    async def get(self, key: Key, certificate_id: str, scope: Scope, token: Token) -> Got:
        """Returns a certificate, or that Vercel has none with this id."""
        async with self._slot(key, "get", scope, token) as account:
            tick = self._clock.monotonic()
            try:
                certificate: Certificate = await account.client.get(certificate_id, scope)
            except ApiError as error:
                if error.status in (404, 410):
                    return Got(tick, None)
                raise
            if certificate.id != certificate_id:
                raise OutcomeUnknown(f"Vercel answered with {certificate.id} instead of {certificate_id}")
            return Got(tick, certificate)

    async def domain_config(self, key: Key, domain: str, scope: Scope, token: Token) -> DomainConfig:
        """Returns how a domain is configured. Vercel is asked at most once in five minutes, for everyone."""
        account = self._accounts.of(token)
        reading = account.domain_config(domain, scope)
        if reading is None:
            self.take_slot(key, "config", scope, token, urgent=False)  # nothing depends on it
            reading = account.read_domain(domain, scope, self._read_domain(key, account, domain, scope, token))
        with self._away(key):
            return await asyncio.shield(reading)

    async def _read_domain(self, key: Key, account: Account, domain: str, scope: Scope, token: Token) -> DomainConfig:
        async with self._held(key, account, "config", scope, token):
            return await account.client.domain_config(domain, scope)

    async def remove(self, key: Key, certificate_id: str, scope: Scope, token: Token) -> bool:
        """Removes a certificate. Returns whether Vercel had one with this id."""
        async with self._slot(key, "remove", scope, token) as account:
            try:
                await account.client.remove(certificate_id, scope)
            except ApiError as error:
                if error.status not in (404, 410):
                    raise
                return False
            return True

    def list(
        self,
        key: Key | ScopeKey,
        begun_after: Tick | None,
        scope: Scope,
        token: Token,
        awaited_since: Tick | None = None,
    ) -> Listing:
        """Returns a complete list that was begun no earlier than this, or a fresh one, shared by all who need one.

        A list is made in the background: Waiting is raised meanwhile, and the key is woken at its end. After one that
        failed, the next one begins when its back-off is over: until then, its failure is raised for everyone.
        """
        account = self._accounts.of(token)
        listing = account.listing(scope, begun_after, awaited_since)
        if listing is not None:
            return listing
        if (error := account.failed_list(key, scope)) is not None:
            self.note_failure(account, "list", scope, failure_of(error), token, key)
            raise error.with_traceback(None)
        if not account.join_list(scope, key):
            self._check_pauses(key, account, "list", scope, token)
            if (error := account.resting_list(scope)) is not None:
                raise error.with_traceback(None)  # it is raised for many
            self.take_slot(key, "list", scope, token)
            account.start_list(scope, key)
        raise Waiting(account.waiting_for_list(scope))
