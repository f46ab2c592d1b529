"""One resource, one round: gather what is known, ask the core what to do, do it, and ask again.

The only place where the rules, Vercel and Kubernetes meet. It decides nothing about certificates by itself.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from vercel_certificate_operator.accounts import Account, Accounts
from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.attempt import Attempt
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.drift import Sighting, scope_vanished
from vercel_certificate_operator.core.failures import (
    CREDENTIALS_INVALID,
    Failure,
    Fate,
    back_off,
    fraction,
    issued_nothing,
    meaning,
    meaning_of_a_repeatable_call,
    wait_after,
)
from vercel_certificate_operator.core.known import (
    Action,
    Call,
    Decision,
    FailedCall,
    Hold,
    Issue,
    Known,
    Limits,
    List,
    Listing,
    Look,
    Looked,
    Note,
    Pause,
    Release,
    Remove,
    Reply,
    Tick,
    Wait,
    Write,
)
from vercel_certificate_operator.core.policies import decide, late_certificates, late_note, recorded_scope
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import Key, Resource, Spec, Status, TokenSecretRef
from vercel_certificate_operator.kube.certificates import Certificates
from vercel_certificate_operator.kube.errors import Conflict, Gone, KubeError, Refused
from vercel_certificate_operator.kube.events import Events
from vercel_certificate_operator.kube.tokens import Place, Token, TokenMissing, Tokens
from vercel_certificate_operator.objects import Objects, key_of
from vercel_certificate_operator.observer import Observer
from vercel_certificate_operator.vercel import ApiError, NotSent, OutcomeUnknown, VercelError
from vercel_certificate_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

LONG = 3.0
"""Seconds after which a POST under way is shown in status."""
STALE_CLAIM = 10.0
"""Seconds after which an attempt that was written ahead is too old to be sent."""
KUBE_BACK_OFF = (1.0, 60.0)
"""Seconds to wait after the Kubernetes API has failed: at first, and at most."""
NO_SLOT = 60.0
"""Seconds after which a key that waits for a slot asks again, should the one before it have passed no slot on."""
DRIFT_AGAIN = 600.0
"""Seconds after which a listing for drift that has failed is made again; doubles up to the usual interval."""
SHARED_LISTING = 60.0
"""Seconds that a listing may be old to do for drift."""
RECORD_LIMIT = 60.0
"""Seconds that recording what Vercel has answered may take at the end: as long as one request may, twice."""
CALLS: Mapping[type[Action], Call] = MappingProxyType({Issue: "issue", Look: "get", List: "list", Remove: "remove"})
MOST_STEPS = 30
"""Steps of one round. It takes far fewer; more would be a rule that never comes to rest."""


class ScopeKey(NamedTuple):
    """A key of the queue for all resources that have their certificates in one place."""

    token: Place | None
    """Where their token is; None: the operator's own."""
    scope: Scope


@dataclass(slots=True)
class Memory:
    """What this process remembers of a resource. All of it may be lost at any time."""

    attempt_seen: tuple[str | None, Tick]
    """The attempt in the annotation, and when it was first seen there."""
    reply: Reply | None = None
    spec: Spec = field(default_factory=Spec)
    """The newest that was seen: what counts when the resource has gone."""
    void_attempts: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    failed_calls: int = 0
    failed_wish: tuple[int, str | None] = (0, None)
    """What the user wanted when calls failed: the generation, and the value of the renew annotation."""
    retry_at: Tick | None = None
    failed_removals: int = 0
    removal_at: Tick | None = None
    refused_token: str | None = None
    """The fingerprint of the token that Vercel refused."""
    noticed: Listing | None = None
    """A listing that shows something new of this resource."""
    farewell: tuple[Note, Attempt | None] | None = None
    """What is to be told when the resource has gone, whether or not we hear that our finalizer was taken off."""
    kube_failures: int = 0


@dataclass(frozen=True, slots=True)
class _Facts:
    """What was learned in this round."""

    looked: Looked | None = None
    named: Looked | None = None
    failed_call: FailedCall | None = None
    listing: Listing | None = None
    pause: Pause | None = None


class _NoSlot(Exception):
    """All slots of the token are taken; the key will be looked at when one is free."""


class _Paused(Exception):
    """The token rests."""

    def __init__(self, pause: Pause) -> None:
        super().__init__(pause.message)
        self.pause = pause


class Reconciler:
    """Brings resources to what their specs say."""

    def __init__(
        self,
        *,
        objects: Objects,
        queue: "WorkQueue[Key | ScopeKey]",
        certificates: Certificates,
        events: Events,
        tokens: Tokens,
        accounts: Accounts,
        clock: Clock,
        scope: Scope,
        limits: Limits,
        drift_interval: float = 6 * 3600.0,
        longest_sleep: float = 3600.0,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
        observer: Observer | None = None,
    ) -> None:
        """
        Args:
            scope: the team of resources that name none.
            drift_interval: seconds between two listings of a scope that show what has changed at Vercel.
            longest_sleep: seconds after which a resource is looked at again all the same, since the wall clock may
                have been set meanwhile.
            new_id: makes ids for attempts, never the same one twice.
        """
        self._objects = objects
        self._queue = queue
        self._kube = certificates
        self._events = events
        self._tokens = tokens
        self._accounts = accounts
        self._clock = clock
        self._scope = scope
        self._limits = limits
        self._drift_interval = drift_interval
        self._longest_sleep = longest_sleep
        self._new_id = new_id
        self._observer = observer or Observer()
        self.unclaimed: dict[ScopeKey, frozenset[str]] = {}
        """The certificates that the newest listing for drift has, of attempts that were given up, and no status."""
        self._memories: dict[Key, Memory] = {}
        self._scopes: dict[ScopeKey, int] = {}  # how often in a row the listing for drift has failed
        self._verdicts: dict[ScopeKey, tuple[Tick, bool]] = {}  # by a scope's newest listing: has it vanished?
        self._reported: set[str] = set()
        self._posting: set[Key] = set()
        self._woken: dict[Hashable, Account] = {}
        self._stopping = False

    # --- what the outside tells -----------------------------------------------------------------------------------

    def seen(self, body: Mapping[str, Any]) -> None:
        """An object was seen, by a watch or a list: look at it, if that is news."""
        key = key_of(body)
        before = self._objects.names(key)
        if self._objects.put(body):
            self._queue.add(key)
            if before is not None and before != self._objects.names(key):
                self._look_at_all_with(before)

    def vanished(self, key: Key, last: Mapping[str, Any] | None = None) -> None:
        """An object is gone, or no longer to be seen by this instance, ``last`` being its last state."""
        names = self._objects.names(key)
        if self._objects.drop(key, last):
            if key in self._memories:
                self._queue.add(key)
            else:
                self._queue.forget(key)  # nothing was ever begun for it: a standby sees many come and go
            self._look_at_all_with(names or frozenset())

    def _look_at_all_with(self, names: frozenset[str]) -> None:
        """The owner of a set of names may have gone: the next in line takes over."""
        for key in self._objects.with_names(names):
            self._queue.add(key)

    async def drain(self) -> None:
        """Come to an end: what stands between a POST and its record is finished, everything else is dropped."""
        self._stopping = True
        self._queue.stop()
        for key, task in tuple(self._queue.running.items()):
            if not self._unrecorded(key):
                task.cancel()
        running = set(self._queue.running.values())
        if running:
            await asyncio.wait(running, timeout=self._limits.post.total_seconds() + RECORD_LIMIT)

    def _unrecorded(self, key: Key | ScopeKey) -> bool:
        """Whether Vercel is being asked for a certificate, or has answered, and it is not written down yet."""
        if isinstance(key, ScopeKey):
            return False
        memory = self._memories.get(key)
        reply = memory.reply if memory is not None else None
        answered = reply is not None and (reply.failure is None or issued_nothing(reply.failure))
        return answered or key in self._posting

    # --- one round ------------------------------------------------------------------------------------------------

    async def reconcile(self, key: Key | ScopeKey) -> float | None:
        """Look at one key. Returns the seconds until it has to be looked at again (None: when something changes)."""
        account, began = self._woken.pop(key, None), self._clock.monotonic()
        try:
            return await (self._look_for_drift(key) if isinstance(key, ScopeKey) else self._reconcile(key))
        finally:
            self._observer.reconciled(self._clock.monotonic() - began)
            if account is not None:
                self._wake(account)  # a slot that this key was woken for, and has not taken, is the next one's

    async def _reconcile(self, key: Key) -> float | None:
        memory = self._memories.get(key)
        if memory is None:
            memory = self._memories[key] = Memory(attempt_seen=(None, self._clock.monotonic()))
        try:
            again = await self._round(key, memory)
            memory.kube_failures = 0
        except KubeError as error:
            again = self._after_a_failure(memory)
            self._observer.failed("kubernetes")
            logger.warning("%s; trying again in %.0f s", error.message, again, extra=_fields(key))
        except _NoSlot:
            again = NO_SLOT
        except Exception:
            # A bug. It must not take the other resources down with it, and this one is tried again.
            again = self._after_a_failure(memory)
            self._observer.failed("bug")
            logger.exception("%s could not be reconciled; trying again in %.0f s", key, again, extra=_fields(key))
        if key not in self._objects and memory.reply is None:
            del self._memories[key]
            return None
        return again

    def _after_a_failure(self, memory: Memory) -> float:
        memory.kube_failures += 1
        first, most = KUBE_BACK_OFF
        return min(first * 2.0 ** min(memory.kube_failures - 1, 10), most)

    async def _round(self, key: Key, memory: Memory) -> float | None:
        facts = _Facts(listing=memory.noticed)
        for _ in range(MOST_STEPS):
            resource = self._objects.get(key)
            if resource is None:
                return await self._settle_what_came_late(key, memory)
            memory.spec = resource.spec
            known = await self._gather(resource, memory, facts)
            decision = decide(known)
            if isinstance(decision.action, Wait):
                if await self._write(resource, decision, memory):
                    if facts.failed_call is None and facts.pause is None and known.call_waits_until is None:
                        memory.noticed = None
                    self._watch_for_drift(resource)
                    return self._seconds_until(decision.action.until)
                continue
            if self._stopping and not isinstance(decision.action, Write):
                return None
            facts = await self._act(known, decision, memory, facts)
        raise RuntimeError(f"no rest after {MOST_STEPS} steps; the last one was {decision.action}")

    async def _gather(self, resource: Resource, memory: Memory, facts: _Facts) -> Known:
        now, tick = self._clock.now(), self._clock.monotonic()
        attempt_id = resource.attempt.id if resource.attempt is not None else None
        if memory.attempt_seen[0] != attempt_id:
            memory.attempt_seen = attempt_id, tick
        token_changed = await self._token_changed(resource, memory)
        wish = resource.generation, resource.renew_request
        if token_changed or memory.failed_wish != wish:
            # A change by the user ends any wait at once.
            memory.retry_at, memory.failed_calls, memory.failed_wish = None, 0, wish
        return Known(
            now=now,
            tick=tick,
            resource=resource,
            scope=_scope_of(resource.spec, self._scope),
            limits=self._limits,
            first_seen=memory.attempt_seen[1],
            reply=memory.reply,
            void_attempts=memory.void_attempts,
            looked=facts.looked,
            named=facts.named,
            listing=facts.listing,
            taken=self._objects.held_by_others(resource.key),
            removed=memory.removed,
            failed_call=facts.failed_call,
            retry_at=memory.retry_at,
            removal_at=memory.removal_at,
            pause=facts.pause,
            token_changed=token_changed,
            may_adopt=self._tokens.may_adopt(resource.key.namespace, resource.spec.token_secret_ref),
            owner=await self._owner(resource),
        )

    async def _token_changed(self, resource: Resource, memory: Memory) -> bool:
        """Whether there is another token than the one that was refused. After a restart nobody knows: then, yes."""
        issuing = resource.status.condition("Issuing")
        if issuing is None or issuing.reason != CREDENTIALS_INVALID.reason:
            return False
        try:
            token = await self._token(resource)
        except TokenMissing:
            return False
        return token.fingerprint != memory.refused_token

    async def _owner(self, resource: Resource) -> str | None:
        """The oldest resource that wants the same names in the same scope, if that is another one."""
        scope, mine = _scope_of(resource.spec, self._scope), None
        for key in self._objects.with_names(resource.cns):
            if key == resource.key:
                return None
            other = self._objects.get(key)
            if other is None or _scope_of(other.spec, self._scope) != scope:
                continue
            try:
                mine = mine or await self._token(resource)
                theirs = await self._tokens.get(key.namespace, other.spec.token_secret_ref)
            except TokenMissing:
                continue
            if theirs.fingerprint == mine.fingerprint:
                return str(key)
        return None

    async def _token(self, resource: Resource) -> Token:
        ref, namespace = resource.spec.token_secret_ref, resource.key.namespace
        if resource.deleting:
            return await self._tokens.get_for_removal(namespace, ref)
        return await self._tokens.get(namespace, ref)

    async def _act(self, known: Known, decision: Decision, memory: Memory, facts: _Facts) -> _Facts:
        """Carry out a decision. Returns what is known after it."""
        resource = known.resource
        match decision.action:
            case Write():
                if await self._write(resource, decision, memory):
                    memory.noticed = None
                return _Facts()
            case Hold():
                await self._hold(resource)
                return _Facts()
            case Release():
                await self._release(resource, decision, memory)
                return _Facts()
        call = CALLS[type(decision.action)]
        about = decision.action.certificate_id if isinstance(decision.action, Look | Remove) else None
        try:
            token = await self._token(resource)
            async with self._slot(token, resource.key) as account:
                facts = await self._call(known, decision.action, account, token, memory, facts)
                if memory.reply is None or memory.reply.failure is None:
                    account.succeeded()
        except TokenMissing as missing:
            return self._failed(
                resource, memory, facts, call, Failure(Fate.NO_TOKEN, str(missing)), certificate_id=about
            )
        except VercelError as error:
            return self._failed(resource, memory, facts, call, failure_of(error), token=token, certificate_id=about)
        except _Paused as paused:
            return replace(facts, pause=paused.pause)
        memory.retry_at, memory.failed_calls = None, 0
        return facts

    async def _call(
        self, known: Known, action: Action, account: Account, token: Token, memory: Memory, facts: _Facts
    ) -> _Facts:
        resource = known.resource
        scope = recorded_scope(resource.status) if resource.status.id is not None else known.scope
        match action:
            case Issue():
                await self._issue(resource, action, account, token, memory)
                return _Facts()
            case Look(certificate_id):
                looked = await self._look(certificate_id, scope, account)
                mine = certificate_id == resource.status.id
                return replace(facts, looked=looked) if mine else replace(facts, named=looked)
            case List(begun_after):
                listing = await account.listing(scope, begun_after)
                return replace(facts, listing=self._judged(_scope_key(resource, scope), listing))
            case Remove(certificate_id):
                await self._remove(certificate_id, scope, account)
                memory.removed.add(certificate_id)
                memory.failed_removals, memory.removal_at = 0, None
        return facts

    def _failed(
        self,
        resource: Resource,
        memory: Memory,
        facts: _Facts,
        call: Call,
        failure: Failure,
        *,
        token: Token | None = None,
        certificate_id: str | None = None,
    ) -> _Facts:
        row = meaning(failure) if call == "issue" else meaning_of_a_repeatable_call(failure)
        memory.refused_token = token.fingerprint if token is not None else None
        if call == "remove" and not resource.deleting:
            # It has a time of its own: what was replaced must not hold up what is due.
            memory.failed_removals += 1
            wait = wait_after(row, failure, memory.failed_removals, resource.key.uid)
            memory.removal_at = self._clock.monotonic() + wait.total_seconds()
            return replace(facts, failed_call=FailedCall(call, failure, memory.failed_removals, certificate_id))
        memory.failed_calls += 1
        wait = wait_after(row, failure, memory.failed_calls, resource.key.uid)
        memory.retry_at = self._clock.monotonic() + wait.total_seconds()
        return replace(facts, failed_call=FailedCall(call, failure, memory.failed_calls, certificate_id))

    def _seconds_until(self, moment: datetime | None) -> float:
        if moment is None:
            return self._longest_sleep
        # A moment that is rounded down to now would be looked at again and again.
        return min(max((moment - self._clock.now()).total_seconds(), 0.001), self._longest_sleep)

    # --- Kubernetes -----------------------------------------------------------------------------------------------

    async def _write(self, resource: Resource, decision: Decision, memory: Memory) -> bool:
        """Write what was decided, if it differs from what is there. False: it was decided from a stale view."""
        status, outcome = decision.status, isinstance(decision.action, Write) and decision.action.outcome
        if status is not None and status.dump() != resource.status.dump():
            try:
                with self._objects.claimed(resource.key, status.certificate_ids):
                    self._objects.put(await self._kube.write_status(resource, status, fenced_by_attempt=outcome))
            except (Gone, Refused, Conflict) as error:
                await self._look_why(resource, error)
                return False
        if isinstance(decision.action, Write):
            memory.reply = None
        if decision.note is not None:
            self._tell(resource.key, decision.note, resource.attempt)
        return True

    async def _hold(self, resource: Resource) -> None:
        try:
            self._objects.put(await self._kube.hold(resource))
        except (Gone, Conflict, Refused) as error:
            await self._look_why(resource, error)

    async def _release(self, resource: Resource, decision: Decision, memory: Memory) -> None:
        memory.farewell = (decision.note, resource.attempt) if decision.note is not None else None
        try:
            body = await self._kube.release(resource)
        except (Gone, Conflict, Refused) as error:
            if not isinstance(error, Gone):
                memory.farewell = None  # it was decided from a stale view
            await self._look_why(resource, error)
            return
        if body["metadata"].get("finalizers"):
            self._objects.put(body)
        else:
            self.vanished(resource.key, body)  # that was the last finalizer: the API server has deleted it
        self._bid_farewell(resource.key, memory)

    def _bid_farewell(self, key: Key, memory: Memory) -> None:
        if memory.farewell is not None:
            self._tell(key, *memory.farewell)
            memory.farewell = None
        memory.reply = None  # what it brought is settled with the resource

    async def _look_why(self, resource: Resource, error: KubeError) -> None:
        """A write was fenced off: the view that it was decided from is stale. Get the newest."""
        key = resource.key
        try:
            body = await self._kube.get(key)
        except Gone:
            self.vanished(key)
            return
        if key_of(body) != key:
            self.vanished(key)  # a namesake has come in its place
            self.seen(body)
        elif not self._objects.put(body) and body["metadata"]["resourceVersion"] == resource.resource_version:
            raise error  # nothing has changed: the write itself is wrong

    def _tell(self, key: Key, note: Note, attempt: Attempt | None) -> None:
        level = logging.WARNING if note.type == "Warning" else logging.INFO
        fields = _fields(key, attempt=attempt.id if attempt else None, reason=note.reason)
        logger.log(level, "%s: %s", note.reason, note.text, extra=fields)
        self._observer.told(note)
        self._events.publish(key, note, self._clock.now())

    # --- Vercel ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _slot(self, token: Token, key: Key | ScopeKey) -> AsyncIterator[Account]:
        """The token's account with a slot for a call, both in hand before anything is begun."""
        account = self._accounts.of(token)
        if account.pause is not None:
            raise _Paused(account.pause)
        if not account.take_slot(key):
            raise _NoSlot
        try:
            yield account
        except VercelError as error:
            self._note_failure(account, failure_of(error))
            raise
        finally:
            account.give_slot_back()
            self._wake(account)

    def _wake(self, account: Account) -> None:
        for key in account.wake():
            self._woken[key] = account
            self._queue.add(key)  # type: ignore[arg-type]  # slots are taken for keys of the queue

    def _note_failure(self, account: Account, failure: Failure) -> None:
        if account.failed(failure, meaning(failure)) and (pause := account.pause) is not None:
            seconds = pause.until - self._clock.monotonic()
            logger.warning("%s For %.0f s.", pause.message, seconds, extra={"reason": str(pause.reason)})

    async def _look(self, certificate_id: str, scope: Scope, account: Account) -> Looked:
        tick = self._clock.monotonic()
        try:
            certificate = await account.client.get(certificate_id, scope)
            if certificate.id != certificate_id:
                raise OutcomeUnknown(f"asked for certificate {certificate_id}, Vercel answered with {certificate.id}")
            return Looked(certificate_id, tick, certificate)
        except ApiError as error:
            if error.status in (404, 410):
                return Looked(certificate_id, tick, None)
            raise

    async def _remove(self, certificate_id: str, scope: Scope, account: Account) -> None:
        try:
            await account.client.remove(certificate_id, scope)
        except ApiError as error:
            if error.status not in (404, 410):
                raise

    async def _issue(self, resource: Resource, issue: Issue, account: Account, token: Token, memory: Memory) -> None:
        """Write the attempt ahead, then send it: at most once, and only by who saw that it was written."""
        key, scope = resource.key, _scope_of(resource.spec, self._scope)
        attempt = Attempt(
            id=self._new_id(),
            uid=key.uid,
            start=self._clock.now(),
            generation=resource.generation,
            cns=issue.cns,
            renew=resource.renew_request,
            reason=str(issue.reason),
            replaces=tuple(held for held in (resource.status.id, *resource.status.superseded_ids) if held),
            clock_offset=account.client.clock_offset,
        )
        memory.void_attempts.add(attempt.id)  # until it is sent
        memory.reply = None
        began = self._clock.monotonic()
        try:
            self._objects.put(await self._kube.claim(resource, attempt))
        except (Conflict, Gone, Refused) as error:
            await self._look_why(resource, error)
            return
        if self._clock.monotonic() - began > STALE_CLAIM or self._stopping:
            return
        memory.attempt_seen = attempt.id, self._clock.monotonic()
        memory.void_attempts.discard(attempt.id)
        self._posting.add(key)
        try:
            memory.reply = await self._post(key, attempt, issue, scope, account)
        finally:
            self._posting.discard(key)
        failure = memory.reply.failure
        self._observer.attempt(issue.reason, Reason.ISSUED if failure is None else meaning(failure).reason)
        if failure is not None:
            memory.refused_token = token.fingerprint
            self._note_failure(account, failure)

    async def _post(self, key: Key, attempt: Attempt, issue: Issue, scope: Scope, account: Account) -> Reply:
        fields = _fields(key, attempt=attempt.id, reason=issue.reason)
        logger.info("asking Vercel for a certificate for %s", words.names(attempt.cns), extra=fields)
        began = self._clock.monotonic()
        certificate: Certificate | None = None
        failure: Failure | None = None
        post = asyncio.create_task(account.client.issue(attempt.cns, scope), name=f"POST for {key}")
        try:
            await asyncio.wait({post}, timeout=LONG)
            if not post.done():
                await self._say_that_it_takes_long(key, issue.meanwhile)
            certificate = await post
        except VercelError as error:
            failure = failure_of(error)
        finally:
            post.cancel()
        ended = self._clock.monotonic()
        return Reply(attempt, ended, ended - began, certificate, failure)

    async def _say_that_it_takes_long(self, key: Key, status: Status) -> None:
        resource = self._objects.get(key)
        if resource is None:
            return
        try:
            self._objects.put(await self._kube.write_status(resource, status, fenced_by_attempt=True))
        except KubeError as error:
            logger.info("progress not shown: %s", error.message, extra=_fields(key))

    # --- what comes late ------------------------------------------------------------------------------------------

    async def _settle_what_came_late(self, key: Key, memory: Memory) -> float | None:
        """The resource is gone: what was just issued for it is removed, since nothing will ever use it."""
        if memory.farewell is not None:
            self._bid_farewell(key, memory)
        reply = memory.reply
        if reply is None:
            return None
        if await self._is_still_there(key):
            memory.reply = None
            logger.warning(
                "the selector fits %s no more: its attempt is left to who serves it", key, extra=_fields(key)
            )
            return None
        certificate, spec = reply.certificate, memory.spec
        if certificate is None:
            if reply.failure is not None and reply.failure.fate is Fate.UNKNOWN:
                self._late(
                    key, f"whether Vercel issued a certificate for {words.names(reply.attempt.cns)} is not known"
                )
        elif spec.deletion_policy == "Retain" or spec.suspend:
            self._late(key, f"certificate {certificate.id} is left at Vercel")
        elif certificate.id not in self._objects.held_by_others(key):
            seconds = await self._remove_what_came_late(key, memory, certificate)
            if seconds is not None:
                return seconds
        memory.reply = None
        return None

    async def _is_still_there(self, key: Key) -> bool:
        """Whether an object that has vanished from our sight is somebody else's to serve, by its labels, or gone."""
        try:
            return key_of(await self._kube.get(key)) == key
        except Gone:
            return False

    async def _remove_what_came_late(self, key: Key, memory: Memory, certificate: Certificate) -> float | None:
        """Remove it. Returns the seconds until it has to be tried again; None: it is gone."""
        spec = memory.spec
        try:
            token = await self._tokens.get_for_removal(key.namespace, spec.token_secret_ref)
            async with self._slot(token, key) as account:
                await self._remove(certificate.id, _scope_of(spec, self._scope), account)
        except _Paused as paused:
            return paused.pause.until - self._clock.monotonic()
        except (TokenMissing, VercelError) as error:
            memory.failed_calls += 1
            failure = failure_of(error) if isinstance(error, VercelError) else Failure(Fate.NO_TOKEN, str(error))
            if memory.failed_calls == 1:
                self._late(key, f"certificate {certificate.id} could not be removed yet: {failure.message}")
            return back_off(meaning_of_a_repeatable_call(failure), memory.failed_calls, key.uid).total_seconds()
        text = f"Removed at Vercel: {certificate.id}, which was issued after the resource was gone."
        self._tell(key, Note("Normal", Reason.DELETED, "Delete", text), memory.reply.attempt if memory.reply else None)
        return None

    def _late(self, key: Key, what: str) -> None:
        text = f"The resource was deleted while its certificate was being issued: {what}."
        self._tell(key, Note("Warning", Reason.LATE_CERTIFICATE, "Delete", text), None)

    # --- drift ----------------------------------------------------------------------------------------------------

    def _watch_for_drift(self, resource: Resource) -> None:
        """See to it that the scope is listed from time to time; never at once, so that a restart costs nothing."""
        if resource.status.id is None:
            return
        key = _scope_key(resource, recorded_scope(resource.status))
        if key not in self._scopes:
            self._scopes[key] = 0
            self._queue.add(key, self._drift_interval * (0.5 + 0.5 * fraction(str(key), self._new_id())))

    def _in_scope(self, key: ScopeKey) -> list[tuple[Key, Mapping[str, Any]]]:
        """The resources that hold a certificate there, with their statuses."""
        found = []
        for object_key, body in self._objects.bodies():
            status = body.get("status") or {}
            if not status.get("id"):
                continue
            spec = Spec.model_validate(body.get("spec") or {}) if key.token else None
            place = _place(object_key.namespace, spec.token_secret_ref) if spec else None
            default = (body.get("spec") or {}).get("tokenSecretRef") is None
            if (place == key.token if key.token else default) and _scope_in(status) == key.scope:
                found.append((object_key, status))
        return found

    def _judged(self, key: ScopeKey, listing: Listing) -> Listing:
        """The listing, with whether its scope has vanished: reckoned once, however many resources ask."""
        begun, vanished = self._verdicts.get(key, (None, False))
        if begun != listing.begun:
            vanished = scope_vanished([status["id"] for _, status in self._in_scope(key)], listing)
            self._verdicts[key] = listing.begun, vanished
        return replace(listing, scope_vanished=vanished)

    async def _look_for_drift(self, key: ScopeKey) -> float | None:
        """One listing for all resources of a scope: those for which it has news look at it."""
        resources = self._in_scope(key)
        if not resources:
            del self._scopes[key]
            self.unclaimed.pop(key, None)
            self._verdicts.pop(key, None)
            return None
        try:
            namespace, ref = _named(key, resources[0][0])
            token = await self._tokens.get(namespace, ref)
            async with self._slot(token, key) as account:
                listing = await account.listing(key.scope, self._clock.monotonic() - SHARED_LISTING)
                account.succeeded()
        except (TokenMissing, VercelError, KubeError) as error:
            self._scopes[key] += 1
            again = min(DRIFT_AGAIN * 2.0 ** min(self._scopes[key] - 1, 20), max(DRIFT_AGAIN, self._drift_interval))
            logger.warning("looking for drift in %s failed: %s; trying again in %.0f s", key.scope, error, again)
            return again
        except _Paused as paused:
            return paused.pause.until - self._clock.monotonic()
        except _NoSlot:
            return NO_SLOT
        self._scopes[key] = 0
        listing = self._judged(key, listing)
        sighting = Sighting.of(listing)
        unclaimed: set[str] = set()
        for object_key, status in resources:
            unclaimed |= self._report_late_certificates(object_key, status, listing)
            if sighting.is_news(status) and (memory := self._memories.get(object_key)) is not None:
                memory.noticed = listing
                self._queue.add(object_key)
        self.unclaimed[key] = frozenset(unclaimed)
        return self._drift_interval

    def _report_late_certificates(self, key: Key, raw_status: Mapping[str, Any], listing: Listing) -> set[str]:
        """Tell once of each. Returns the ids of all of them."""
        if not raw_status.get("lostAttempts"):
            return set()
        status = Status.model_validate(raw_status)
        late = late_certificates(status, listing, self._objects.held_by_others(key))
        for certificate in late:
            if certificate.id not in self._reported:
                self._reported.add(certificate.id)
                self._tell(key, late_note(certificate), None)
        return {certificate.id for certificate in late}


def failure_of(error: VercelError) -> Failure:
    """What the edge raised, in the core's terms."""
    fate = (
        Fate.NOT_SENT if isinstance(error, NotSent) else Fate.REFUSED if isinstance(error, ApiError) else Fate.UNKNOWN
    )
    retry_after = timedelta(seconds=error.retry_after) if error.retry_after is not None else None
    help_url = error.help_url if isinstance(error, ApiError) else None
    return Failure(fate, error.message, error.status, error.code, retry_after, help_url)


def _scope_of(spec: Spec, default: Scope) -> Scope:
    """Where a certificate for this spec is issued."""
    return Scope(team_id=spec.team.id, team_slug=spec.team.slug) if spec.team is not None else default


def _scope_in(raw_status: Mapping[str, Any]) -> Scope:
    return recorded_scope(Status(team=raw_status.get("team")))


def _place(namespace: str, ref: TokenSecretRef | None) -> Place | None:
    return (namespace, ref.name, ref.key) if ref is not None else None


def _scope_key(resource: Resource, scope: Scope) -> ScopeKey:
    return ScopeKey(_place(resource.key.namespace, resource.spec.token_secret_ref), scope)


def _named(key: ScopeKey, example: Key) -> tuple[str, TokenSecretRef | None]:
    """The arguments with which ``Tokens`` gives the token of a scope."""
    if key.token is None:
        return example.namespace, None
    namespace, name, entry = key.token
    return namespace, TokenSecretRef(name=name, key=entry)


def _fields(key: Key, *, attempt: str | None = None, reason: str | None = None) -> dict[str, object]:
    """What a log line carries, as fields of its own in JSON."""
    fields = {"namespace": key.namespace, "resource": key.name, "uid": key.uid, "attempt": attempt, "reason": reason}
    return {name: str(value) for name, value in fields.items() if value is not None}
