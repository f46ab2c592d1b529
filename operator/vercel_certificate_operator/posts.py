"""POSTs in flight. None of them occupies a worker."""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from vercel_certificate_operator.accounts import Account
from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.failures import Failure, Fate, issued_nothing, meaning
from vercel_certificate_operator.core.known import Limits, Listing, Reply, Tick, Unanswered
from vercel_certificate_operator.core.memory import Memory
from vercel_certificate_operator.core.ownership import Group
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Attempt
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.kube.tokens import Token
from vercel_certificate_operator.observer import Observer
from vercel_certificate_operator.publisher import log_fields
from vercel_certificate_operator.vercel import Upload, VercelError
from vercel_certificate_operator.vercel_calls import VercelCalls
from vercel_certificate_operator.vercel_failures import failure_of

logger = logging.getLogger(__name__)

REMEMBERED = 3600.0
"""Seconds for which issued certificates, and requests without an answer, are remembered: longer than a list is used for
an attempt."""
MOST_PERHAPS = 3
"""Certificates of other scopes, which may be the same, that are added to a list."""


class _Issued(NamedTuple):
    at: Tick
    scope: Scope
    token: Hashable
    """Which token was used, if the scope is its own account."""
    certificate: Certificate


class _Unanswered(NamedTuple):
    """A request that is in flight, or whose answer was lost."""

    scope: Scope
    until: Tick
    """Until when it may bring a certificate."""
    failed_at: Tick | None


class Posts:
    """Sends attempts in the background, and remembers the answers until they are recorded."""

    def __init__(
        self,
        memories: dict[Key, Memory],
        calls: VercelCalls,
        clock: Clock,
        observer: Observer,
        limits: Limits,
        *,
        now: Callable[[], datetime],
        group: Callable[[Key], Group | None],
        is_gone: Callable[[Key], bool],
        answered: Callable[[Key], None],
        record: Callable[[Key], Awaitable[float | None]],
    ) -> None:
        """
        Args:
            now: returns Vercel's time.
            group: returns the names and the scope of a resource.
            is_gone: returns whether a resource is gone, or was released and only someone else's finalizer holds it.
            answered: called when there is an answer to record.
            record: records an answer when the process ends and no worker does. Returns the seconds after which it
                must be tried again; None: it is recorded.
        """
        self._memories = memories
        self._calls = calls
        self._clock = clock
        self._observer = observer
        self._limits = limits
        self._now = now
        self._group = group
        self._is_gone = is_gone
        self._answered = answered
        self._record = record
        self._ending = False
        self._unanswered: defaultdict[frozenset[str], dict[Key, _Unanswered]] = defaultdict(dict)
        """By names, and by the resource."""
        self._lost: deque[tuple[Tick, frozenset[str], Key]] = deque()
        """Those that have failed; the oldest first."""
        self._issued: defaultdict[frozenset[str], list[_Issued]] = defaultdict(list)
        self._remembered: deque[tuple[Tick, frozenset[str]]] = deque()
        self.tasks: dict[Key, asyncio.Task[None]] = {}
        """The POSTs in flight."""

    def send(
        self,
        key: Key,
        attempt: Attempt,
        account: Account,
        token: Token,
        upload: Upload | None,
        listing: Listing | None,
    ) -> None:
        """Sends a recorded attempt with the slot that was taken for it.

        Args:
            upload: what is uploaded, if the attempt is an upload.
            listing: the certificates that existed before.
        """
        self._memories[key] = self._memories[key].sent(attempt.id, self._clock.monotonic())
        run = self._run(key, attempt, account, token, upload, listing)
        self.tasks[key] = asyncio.create_task(run, name=f"POST for {key}")

    def unrecorded(self, key: Key) -> bool:
        """Returns whether a POST is in flight, or answered and not recorded."""
        return key in self.tasks or self._is_answered(key)

    def _is_answered(self, key: Key) -> bool:
        """Returns whether there is an answer that isn't recorded."""
        memory = self._memories.get(key)
        return memory is not None and memory.has_unrecorded_reply

    def issued_since(self, cns: frozenset[str], scope: Scope, token: Hashable, since: Tick) -> list[Certificate]:
        """Returns what this process was issued for exactly these names since then, in a scope that may be this one.

        A list that was begun before lacks it; perhaps no status has it any longer. Of what may be in another account,
        only the newest: each costs a GET.

        Args:
            token: which token, if the scope is its own account.
        """
        here: list[Certificate] = []
        perhaps: list[Certificate] = []
        for issued in reversed(self._issued.get(cns, ())):
            if issued.at < since:
                break
            if issued.scope == scope and (scope.team is not None or issued.token == token):
                here.append(issued.certificate)
            elif len(perhaps) < MOST_PERHAPS and not issued.scope.certainly_differs_from(scope):
                perhaps.append(issued.certificate)
        return [*here, *perhaps]

    def unanswered(self, key: Key, cns: frozenset[str], scope: Scope) -> Unanswered | None:
        """Returns what is known of requests for these names whose resources are gone; None: there are none.

        Nothing else says that they were made. Those of other namespaces don't count: they could go on without end.
        """
        requests = [
            request
            for other, request in self._unanswered.get(cns, {}).items()
            if other.namespace == key.namespace
            and self._is_gone(other)
            and not request.scope.certainly_differs_from(scope)
        ]
        if not requests:
            return None
        ends = [request.failed_at for request in requests if request.failed_at is not None]
        return Unanswered(
            until=max(request.until for request in requests),
            failed_at=max(ends) if len(ends) == len(requests) else None,
        )

    def _forget_unanswered(self, key: Key, names: frozenset[str]) -> None:
        requests = self._unanswered[names]
        requests.pop(key, None)
        if not requests:
            del self._unanswered[names]

    def _note_unanswered(self, key: Key, attempt: Attempt, sent: Tick, failure: Failure) -> None:
        """The answer was lost: the request may have brought a certificate."""
        now = self._clock.monotonic()
        until = now + self._limits.grace_after_error if failure.fate is Fate.REFUSED else sent + self._limits.grace
        self._unanswered[attempt.names][key] = _Unanswered(attempt.scope, until, now)
        self._lost.append((now, attempt.names, key))
        while now - self._lost[0][0] > REMEMBERED:
            at, names, oldest = self._lost.popleft()
            request = self._unanswered.get(names, {}).get(oldest)
            if request is not None and request.failed_at == at:  # else there is a newer one
                self._forget_unanswered(oldest, names)

    def _remember(self, key: Key, attempt: Attempt, certificate: Certificate) -> None:
        now, cns = self._clock.monotonic(), certificate.cns
        group = self._group(key)
        token = group.token if group is not None else None
        self._issued[cns].append(_Issued(now, attempt.scope, token, certificate))
        self._remembered.append((now, cns))
        while now - self._remembered[0][0] > REMEMBERED:
            _, oldest = self._remembered.popleft()
            del self._issued[oldest][0]
            if not self._issued[oldest]:
                del self._issued[oldest]

    def end(self) -> None:
        """From now on, answers are recorded by the POSTs themselves."""
        self._ending = True

    async def _run(
        self,
        key: Key,
        attempt: Attempt,
        account: Account,
        token: Token,
        upload: Upload | None,
        listing: Listing | None,
    ) -> None:
        try:
            reply = await self._post(key, attempt, account, token, upload)
            if listing is not None and reply.certificate is not None and listing.has(reply.certificate.id):
                reply = replace(reply, listed=True)
            self._memories[key] = self._memories[key].answered(reply)
            while self._ending and self._is_answered(key) and (again := await self._record(key)) is not None:
                if self._is_answered(key):
                    await self._clock.wait(asyncio.Event(), again)
        finally:
            del self.tasks[key]
        self._answered(key)

    async def _post(self, key: Key, attempt: Attempt, account: Account, token: Token, upload: Upload | None) -> Reply:
        fields = log_fields(key, attempt=attempt.id, reason=attempt.reason)
        logger.info(
            "%s a certificate for %s",
            "Requesting" if upload is None else "Uploading",
            words.names(attempt.cns),
            extra=fields,
        )
        began = self._clock.monotonic()
        self._unanswered[attempt.names][key] = _Unanswered(attempt.scope, began + self._limits.grace, None)
        certificate, failure = None, None
        try:
            if upload is not None:
                certificate = await account.client.upload(upload, attempt.scope)
            else:
                certificate = await account.client.issue(attempt.names, attempt.scope)
            account.succeeded(attempt.call, attempt.scope, key)
            self._remember(key, attempt, certificate)
        except VercelError as error:
            failure = failure_of(error)
            self._calls.note_failure(account, attempt.call, attempt.scope, failure, token, key)
        except Exception as error:
            # A bug. The POST may have been sent, so the certificate is searched for.
            self._observer.failed("bug")
            logger.exception("The POST for %s failed because of a bug", key, extra=fields)
            failure = Failure(Fate.UNKNOWN, f"internal error: {type(error).__name__}")
        finally:
            account.give_slot_back(key, attempt.call)
        self._observer.attempt(attempt.reason, Reason.ISSUED if failure is None else meaning(failure).reason)
        ended = self._clock.monotonic()
        if failure is None or issued_nothing(failure):
            self._forget_unanswered(key, attempt.names)
        else:
            self._note_unanswered(key, attempt, began, failure)
        return Reply(
            attempt, ended, ended - began, certificate, failure, token_hash=token.hash_for(key), now=self._now()
        )
