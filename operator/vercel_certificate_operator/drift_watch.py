"""The drift watch: one list per scope from time to time, which shows what changed at Vercel for all its resources."""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.certificate import Certificate, normalized
from vercel_certificate_operator.core.failures import fraction, meaning
from vercel_certificate_operator.core.known import Listing, Note, Tick
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.core.rules.attempts import orphan_note
from vercel_certificate_operator.core.sightings import ScopeKey, Sighting, is_unexplained, scope_vanished
from vercel_certificate_operator.core.times import DRIFT_LIST_AGE
from vercel_certificate_operator.kube.errors import KubeError
from vercel_certificate_operator.kube.tokens import Token, TokenMissing, Tokens
from vercel_certificate_operator.objects import Objects, time_of
from vercel_certificate_operator.observer import Observer
from vercel_certificate_operator.vercel import VercelError
from vercel_certificate_operator.vercel_calls import Paused, VercelCalls, Waiting
from vercel_certificate_operator.vercel_failures import failure_of
from vercel_certificate_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

AGAIN = 600.0
"""Seconds after which a list that failed is made again; doubles up to the usual interval."""
WAITING = 60.0
"""Seconds after which a scope that waits for a slot or a list tries again, should it not be woken."""
AT_A_TIME = 200
"""Resources and certificates that are compared before other work goes on."""

Body = Mapping[str, Any]


async def _give_way(work: int) -> int:
    """Lets other work go on if enough was compared. Returns how much was compared since then."""
    if work < AT_A_TIME:
        return work
    await asyncio.sleep(0)
    return 0


def _reason_of(error: TokenMissing | VercelError | KubeError) -> str:
    """Returns why a list failed, for the log."""
    if isinstance(error, VercelError):
        return meaning(failure_of(error), "list").reason
    return Reason.CREDENTIALS_INVALID if isinstance(error, TokenMissing) else "kubernetes"


@dataclass(slots=True)
class _Scope:
    """What is remembered about a scope."""

    failures: int = 0
    """How often in a row its list has failed."""
    judged: tuple[Tick, bool] | None = None
    """The newest list, by when it was begun: has the scope vanished?"""
    orphans: frozenset[str] = field(default_factory=frozenset)
    """Certificates in the newest list that have a resource's names and are in no status."""
    deferred: frozenset[str] = field(default_factory=frozenset)
    """The same, of resources for which that list has news: a moment later they may use them."""


class DriftWatch:
    """Lists each scope from time to time, and wakes the resources for which the list has news."""

    def __init__(
        self,
        *,
        objects: Objects,
        queue: "WorkQueue[Key | ScopeKey]",
        tokens: Tokens,
        calls: VercelCalls,
        clock: Clock,
        now: Callable[[], datetime],
        interval: float,
        notice: Callable[[Key, Listing], None],
        publish: Callable[[Key, Note], None],
        observer: Observer,
        forgotten: Callable[[ScopeKey], None] = lambda key: None,
    ) -> None:
        """
        Args:
            now: returns the time at Vercel.
            interval: seconds between two lists of a scope.
            notice: called with each resource for which a list has news.
            forgotten: called with each scope that no resource has any longer.
            publish: publishes an Event.
        """
        self._objects = objects
        self._queue = queue
        self._tokens = tokens
        self._calls = calls
        self._clock = clock
        self._now = now
        self._interval = interval
        self._notice = notice
        self._publish = publish
        self._observer = observer
        self._forgotten = forgotten
        self._scopes: dict[ScopeKey, _Scope] = {}
        objects.deserted = self._forget
        self._reported: set[str] = set()

    @property
    def scopes(self) -> tuple[ScopeKey, ...]:
        """The scopes that are watched."""
        return tuple(self._scopes)

    @property
    def orphans(self) -> int:
        """How many certificates have a resource's names and are in no status, by the newest lists."""
        return len(self._all_orphans())

    def _all_orphans(self) -> frozenset[str]:
        return frozenset[str]().union(*(scope.orphans for scope in self._scopes.values()))

    def watch(self, key: ScopeKey) -> None:
        """Starts to list a scope from time to time.

        The first time after a tenth of the interval to one interval: a restart costs nothing, and restarts can't
        prevent it.
        """
        if key not in self._scopes:
            self._scopes[key] = _Scope()
            share = 0.1 + 0.9 * fraction(str(key), secrets.token_hex(8))
            self._queue.add(key, self._interval * share)

    def _forget(self, key: ScopeKey) -> None:
        if self._scopes.pop(key, None) is not None:
            self._queue.forget(key)
            self._forgotten(key)

    def judged(self, key: ScopeKey, listing: Listing, token: Token) -> Listing:
        """Returns the list with whether its scope has vanished: computed once, however many resources ask.

        Args:
            token: with which it was made. What was seen with another token, of another account perhaps, says nothing.
        """
        scope = self._scopes.get(key)
        if scope is None or scope.judged is None or scope.judged[0] != listing.begun:
            if not self._objects.members(key):
                return listing  # nothing can be missing
            self.watch(key)
            scope = self._scopes[key]
            held = {
                certificate_id: object_key
                for object_key in self._counted(key)
                if key.scope.team is not None or self._objects.seen_with(object_key, token.hash_for(object_key))
                # What was issued while the list was made can't be in it.
                if (certificate_id := self._objects.held_since(object_key, listing.begun))
            }
            now = self._now()

            def is_missing(certificate_id: str) -> bool:
                resource = self._objects.get(held[certificate_id])
                return resource is not None and is_unexplained(resource.status, listing, now)

            scope.judged = listing.begun, scope_vanished(held, listing, is_missing)
        return replace(listing, scope_vanished=scope.judged[1])

    def _counted(self, key: ScopeKey) -> Iterator[Key]:
        """Yields the resources of a scope that may use its token."""
        for object_key in self._objects.members(key):
            if key.token is not None or self._tokens.may_use(object_key.namespace, None):
                yield object_key

    def _members(self, key: ScopeKey) -> Iterator[tuple[Key, Body, Body]]:
        """Yields those of them that aren't being deleted, as they are when their turn comes."""
        for object_key in self._counted(key):
            body = self._objects.body(object_key)
            if body is not None and not body["metadata"].get("deletionTimestamp"):
                yield object_key, body, body["status"]

    async def check(self, key: ScopeKey) -> float | None:
        """Lists a scope and compares its resources with the list.

        A failure concerns this scope only, this time only.

        Returns:
            The seconds until the scope has to be listed again; None: no resource uses it any longer.
        """
        if next(self._members(key), None) is None:
            self._scopes.pop(key, None)
            return None
        scope = self._scopes.setdefault(key, _Scope())
        try:
            token = await self._tokens.at(key.token)
            listing = self._calls.list(key, self._clock.monotonic() - DRIFT_LIST_AGE, key.scope, token)
            await self._compare(key, scope, self.judged(key, self._objects.without_removed(listing), token))
        except Waiting:
            return WAITING
        except Paused as paused:
            return max(paused.pause.until - self._clock.monotonic(), 1.0)
        except (TokenMissing, VercelError, KubeError) as error:
            again = self._after_a_failure(scope)
            logger.warning(
                "Can't list the certificates in %s: %s. Trying again in %.0f s.",
                key,
                str(error).rstrip("."),
                again,
                extra={"reason": _reason_of(error), "token": words.token(key.token)},
            )
            return again
        except Exception:
            # A bug, or a value that another version wrote. It must not end the drift watch of other scopes.
            again = self._after_a_failure(scope)
            self._observer.failed("bug")
            logger.exception("Can't detect drift in %s because of a bug. Trying again in %.0f s.", key, again)
            return again
        scope.failures = 0
        return min(AGAIN, self._interval) if scope.deferred else self._interval

    def _after_a_failure(self, scope: _Scope) -> float:
        scope.failures += 1
        return min(AGAIN * 2.0 ** min(scope.failures - 1, 20), max(AGAIN, self._interval))

    async def _compare(self, key: ScopeKey, scope: _Scope, listing: Listing) -> None:
        sighting = Sighting.of(listing)
        orphans: set[str] = set()
        deferred: set[str] = set()
        # For each set of names, how many of the youngest certificates were compared, with and without news. Many
        # resources can have the same names: a certificate is not compared again for each of them.
        compared: Counter[tuple[frozenset[str], bool]] = Counter()
        work = 0
        for object_key, body, status in self._members(key):
            cns = normalized(body["spec"].get("cns") or ())
            if is_news := sighting.is_news(cns, status):
                self._notice(object_key, listing)
            for certificate in self._orphans(object_key, body, cns, sighting, compared[cns, is_news]):
                compared[cns, is_news] += 1
                if not self._objects.holders(certificate.id):
                    if is_news and certificate.id not in scope.deferred:
                        deferred.add(certificate.id)
                    else:
                        orphans.add(certificate.id)
                        self._report(object_key, certificate)
                work = await _give_way(work + 1)
            work = await _give_way(work + 1)
        gone = scope.orphans - orphans - deferred
        scope.orphans, scope.deferred = frozenset(orphans), frozenset(deferred)
        if gone:  # else there is no need to go through all scopes
            self._reported -= gone - self._all_orphans()

    def _orphans(
        self, key: Key, body: Body, cns: frozenset[str], sighting: Sighting, skip: int
    ) -> Iterable[Certificate]:
        """Returns the certificates with a resource's names, younger than it, that are orphans if they are in no status.

        Args:
            skip: how many of the youngest certificates with these names to leave out.
        """
        attempt = body["status"].get("attempt") or {}
        if "outcome" not in attempt and attempt:
            return ()  # one of them may be what came of it
        if cns in self._objects.attempted_elsewhere(key):
            return ()  # or of another one's
        # The API server's clock may have been ahead. The time of an attempt is Vercel's.
        says = (body["metadata"]["creationTimestamp"], attempt.get("start"))
        created = min(time.timestamp() for time in map(time_of, says) if time is not None)
        return sighting.orphans(cns, created, skip)

    def _report(self, key: Key, orphan: Certificate) -> None:
        """Reports a certificate, once."""
        if orphan.id not in self._reported:
            self._reported.add(orphan.id)
            self._publish(key, orphan_note(orphan))
