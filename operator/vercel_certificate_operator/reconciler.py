"""Reconciles one resource: gathers the known facts, asks the core what to do, does it, and asks again.

The only place where the rules, Vercel and Kubernetes meet. It decides nothing about certificates.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, assert_never

from vercel_certificate_operator.accounts import Account, Accounts
from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.domains import DomainConfig
from vercel_certificate_operator.core.facts import earliest, is_recent
from vercel_certificate_operator.core.failures import Failure, Fate
from vercel_certificate_operator.core.known import (
    AddFinalizer,
    CallKey,
    CheckSchema,
    Decision,
    Get,
    GetDomainConfig,
    Issue,
    Known,
    Limits,
    List,
    ReadSource,
    ReadToken,
    Remove,
    RemoveFinalizer,
    Wait,
    Write,
)
from vercel_certificate_operator.core.memory import Memory, Round, known
from vercel_certificate_operator.core.probe import PROBE
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Attempt
from vercel_certificate_operator.core.resource import Key, Resource
from vercel_certificate_operator.core.rules.failed_calls import call_of, waits_for_its_turn
from vercel_certificate_operator.core.sightings import ScopeKey
from vercel_certificate_operator.core.source import Source, SourceProblem
from vercel_certificate_operator.core.times import DRIFT_LIST_AGE, LIST_LAG, SENT_WITHIN
from vercel_certificate_operator.drift_watch import DriftWatch
from vercel_certificate_operator.intake import Intake
from vercel_certificate_operator.kube.errors import Conflict, Gone, KubeError, Refused
from vercel_certificate_operator.kube.events import Events
from vercel_certificate_operator.kube.tls_secrets import TlsSecrets
from vercel_certificate_operator.kube.tokens import Token, TokenMissing, Tokens
from vercel_certificate_operator.kube.vercel_certificates import VercelCertificates, is_stored
from vercel_certificate_operator.late_answers import LateAnswers
from vercel_certificate_operator.objects import Objects, key_of
from vercel_certificate_operator.observer import Observer
from vercel_certificate_operator.posts import Posts
from vercel_certificate_operator.publisher import Publisher, log_fields
from vercel_certificate_operator.vercel import Upload, VercelError
from vercel_certificate_operator.vercel_calls import Paused, VercelCalls, Waiting
from vercel_certificate_operator.vercel_failures import failure_of
from vercel_certificate_operator.vercel_time import VercelTime
from vercel_certificate_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

STALE_RECORD = SENT_WITHIN.total_seconds()
"""Seconds after which an attempt that was recorded is too old to be sent."""
KUBE_BACK_OFF = (1.0, 60.0)
"""Seconds to wait after the Kubernetes API has failed: at first, and at most."""
WAITING = 60.0
"""Seconds after which a key that waits for a slot or a list tries again, should it not be woken."""
REPORT_WAITING = 5.0
"""Seconds for which a resource waits before it reports that."""
FEW = 50
"""If more keys than these wait for the same, they don't report that they wait."""
REQUEUE_ALL = 60.0
"""Seconds between two rounds in which everything is reconciled because Vercel's clock has stepped."""
RECORD_LIMIT = 60.0
"""Seconds that recording Vercel's answers may take when the process ends: as long as one request may, twice."""
MOST_STEPS = 100
"""Steps of one round. Most take a few; removing twenty certificates takes forty. More would be a rule that never
settles."""


class Reconciler:
    """Reconciles resources."""

    def __init__(
        self,
        *,
        objects: Objects,
        queue: "WorkQueue[Key | ScopeKey]",
        certificates: VercelCertificates,
        events: Events,
        tokens: Tokens,
        sources: TlsSecrets,
        accounts: Accounts,
        clock: Clock,
        time: VercelTime,
        scope: Scope,
        limits: Limits,
        drift_interval: float,
        longest_sleep: float,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
        observer: Observer | None = None,
    ) -> None:
        """
        Args:
            time: Vercel's time.
            scope: the team of resources that name none.
            drift_interval: seconds between two lists of a scope that detect drift.
            longest_sleep: seconds after which a resource is reconciled again all the same, since the wall clock may
                have been set meanwhile.
            new_id: returns ids for attempts, never the same one twice.
        """
        self._objects = objects
        self._queue = queue
        self._kube = certificates
        self._tokens = tokens
        self._sources = sources
        self._calls = VercelCalls(accounts, clock, queue.away)
        self._clock = clock
        self._time = time
        self._scope = scope
        self._limits = limits
        self._longest_sleep = longest_sleep
        self._new_id = new_id
        self._memories: dict[Key, Memory] = {}
        self._rounds: dict[Key, Round] = {}  # of keys that wait for a slot or a list
        self._kube_failures: dict[Key, int] = {}
        self._woken: dict[Hashable, Account] = {}
        self._stopping = False
        self._all_requeued = -REQUEUE_ALL
        observer = observer or Observer()
        self._observer = observer
        self._publisher = Publisher(events, observer, time)
        self._intake = Intake(objects, queue, time, self._memories.__contains__)
        self.is_news = self._intake.is_news
        self.seen = self._intake.seen
        self.vanished = self._intake.vanished
        self._late_answers = LateAnswers(objects, certificates, tokens, self._calls, clock, self._publisher)
        self.posts = Posts(
            self._memories,
            self._calls,
            clock,
            observer,
            self._limits,
            now=time.now,
            group=objects.group,
            is_gone=self._is_gone,
            answered=self._queue.add,
            record=self._reconcile,
        )
        self.drift = DriftWatch(
            objects=objects,
            queue=queue,
            tokens=tokens,
            calls=self._calls,
            clock=clock,
            now=time.now,
            interval=drift_interval,
            notice=self._notice,
            publish=self._publisher.publish,
            observer=observer,
            forgotten=self._pass_on,
        )
        accounts.wake = self._wake
        accounts.found_bug = lambda: observer.failed("bug")
        time.stepped = self._requeue_all

    def _is_gone(self, key: Key) -> bool:
        resource = self._objects.get(key)
        return resource is None or resource.released

    def _notice(self, key: Key, listing: Any) -> None:
        """The drift watch has a list with news for a resource."""
        memory = self._memories.get(key)
        if memory is not None:
            self._memories[key] = replace(memory, noticed=listing)
            self._queue.add(key)

    def _requeue_all(self) -> None:
        """Reconciles everything, since all waits were planned with a clock that was wrong."""
        now = self._clock.monotonic()
        self._all_requeued = max(now, self._all_requeued + REQUEUE_ALL)
        for key in self._objects.keys():  # noqa: SIM118 - not a dict
            self._queue.add(key, self._all_requeued - now)

    def _wake(self, key: Hashable, account: Account) -> None:
        before = self._woken.get(key)
        self._woken[key] = account
        loop = asyncio.get_running_loop()
        if before is not None and before is not account:
            loop.call_soon(before.pass_on, key)  # what it was woken for before is left
        if key in self._queue.running:
            loop.call_soon(account.pass_on, key)  # it can't come at once, so no slot is kept for it: others go first
        self._queue.add(key)  # type: ignore[arg-type]  # only keys of the queue wait

    def _pass_on(self, key: Hashable) -> None:
        """Passes on the slot for which a key was woken. It won't be reconciled."""
        account = self._woken.pop(key, None)
        if account is not None:
            account.pass_on(key)

    # --- the end of the process -----------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Stops: finishes what is between a POST and its record, and cancels everything else."""
        self._stopping = True
        self.posts.end()
        self._queue.stop()
        for key, task in tuple(self._queue.running.items()):
            if isinstance(key, ScopeKey) or not self.posts.unrecorded(key):
                task.cancel()
        in_work = {*self._queue.running, *self.posts.tasks}
        # An answer that was to be completed first is recorded as it is.
        waiting = [key for key in self._memories if key not in in_work and self.posts.unrecorded(key)]
        recording = {asyncio.create_task(self._reconcile(key), name=f"record {key}") for key in waiting}
        running = {*self._queue.running.values(), *self.posts.tasks.values(), *recording}
        if running:
            await asyncio.wait(running, timeout=self._limits.post.total_seconds() + RECORD_LIMIT)
        for record in recording:
            record.cancel()
        await asyncio.gather(*recording, return_exceptions=True)
        await self.abort()

    async def abort(self) -> None:
        """Stops at once. The next process finds out what Vercel answered to the POSTs in flight."""
        self._stopping = True
        tasks = {*self.posts.tasks.values(), *self._queue.running.values()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._tokens.aclose()

    # --- one round ------------------------------------------------------------------------------------------------

    async def reconcile(self, key: Key | ScopeKey) -> float | None:
        """Reconciles one key.

        Returns:
            The seconds until it has to be reconciled again; None: when something changes.
        """
        account, began = self._woken.pop(key, None), self._clock.monotonic()
        try:
            return await (self.drift.check(key) if isinstance(key, ScopeKey) else self._reconcile(key))
        finally:
            self._observer.reconciled(self._clock.monotonic() - began)
            if account is not None:
                account.pass_on(key)  # what this key was woken for, and did not take

    async def _reconcile(self, key: Key) -> float | None:
        try:
            again = await self._round(key)
            if key not in self._rounds:  # else it waits, and has not written yet what failed before
                self._kube_failures.pop(key, None)
        except KubeError as error:
            again = self._after_a_failure(key)
            self._observer.failed("kubernetes")
            logger.warning("%s. Trying again in %.0f s.", error.message, again, extra=log_fields(key))
        except Waiting:
            again = WAITING
        except Exception:
            # A bug. It must not affect other resources, and this one is tried again.
            again = self._after_a_failure(key)
            self._observer.failed("bug")
            logger.exception(
                "%s could not be reconciled because of a bug. Trying again in %.0f s.",
                key,
                again,
                extra=log_fields(key),
            )
        if key not in self._objects and not self._memories[key].is_needed:
            self._forget(key)
            return None
        return again

    def _forget(self, key: Key) -> None:
        self._queue.forget(key)  # its own last write has woken it
        self._pass_on(key)
        del self._memories[key]
        self._rounds.pop(key, None)
        self._kube_failures.pop(key, None)
        self._objects.release_names(key)
        self._tokens.forget(key.uid)

    def _after_a_failure(self, key: Key) -> float:
        failures = self._kube_failures[key] = self._kube_failures.get(key, 0) + 1
        first, most = KUBE_BACK_OFF
        return min(first * 2.0 ** min(failures - 1, 10), most)

    async def _round(self, key: Key) -> float | None:
        await self._compare_clocks(key)
        self._memories.setdefault(key, Memory(seen=(None, self._clock.monotonic())))
        round_ = self._rounds.pop(key, None) or Round()
        for _ in range(MOST_STEPS):
            noticed = self._memories[key].noticed
            if noticed is not None and round_.listing is None:
                # Also after a write was fenced off: what the list shows is still to be dealt with.
                round_ = replace(round_, listing=noticed)
            resource = self._objects.get(key)
            if resource is None:
                return await self._after_its_end(key)
            facts = self._gather(resource, round_)
            decision = decide(facts)
            _log(key, decision)
            if isinstance(decision.action, Wait):
                if await self._write(resource, decision):
                    return self._wait(facts, decision.action.until)
                round_ = round_.fenced_off()
                continue
            completes = isinstance(decision.action, Get) and self._memories[key].has_unrecorded_reply
            if self._stopping and not completes and not isinstance(decision.action, Write):
                return None
            try:
                next_round = await self._reserved_act(facts, decision, round_)
            except Waiting as waiting:
                return await self._while_waiting(facts, waiting.number)
            if next_round is None:
                return None  # a POST is in flight
            round_ = next_round
        raise RuntimeError(f"{decision.policy} never settles: the last of {MOST_STEPS} steps was {decision.action}")

    async def _compare_clocks(self, key: Key) -> None:
        """Asks the API server for its time while its clock and Vercel's disagree: nothing else may ask it for long."""
        if self._time.skew is not None and self._time.server_is_silent(DRIFT_LIST_AGE):
            with suppress(KubeError):  # the next round asks again
                await self._kube.get(key)

    async def _while_waiting(self, facts: Known, number: int) -> float:
        """Waits for a slot or a list. A resource that has not reported anything yet reports that after some seconds.

        Args:
            number: how many keys wait for the same. Of a bulk import, each would cost a write.
        """
        key, resource, now = facts.resource.key, facts.resource, self._clock.monotonic()
        round_ = self._rounds.get(key, Round())
        since = now if round_.waits_since is None else round_.waits_since
        self._rounds[key] = replace(round_, waits_since=since)
        if resource.status.observed_generation == resource.generation or resource.deleting or number > FEW:
            return WAITING
        if now - since < REPORT_WAITING:
            return REPORT_WAITING - (now - since)
        return WAITING if await self._write(resource, waits_for_its_turn(facts)) else 0.0

    def _gather(self, resource: Resource, round_: Round) -> Known:
        key, tick = resource.key, self._clock.monotonic()
        memory, note = self._memories[key].observe(resource, tick, round_.got).published(resource.status)
        self._memories[key] = memory
        if note is not None:
            self._publisher.publish(key, note)
        now, scope = self._time.now(), resource.spec.scope(self._scope)
        if round_.listing is not None:
            group = self._objects.group(key)
            since = round_.listing.begun - LIST_LAG.total_seconds()  # it may lack what was issued right before it
            issued = self.posts.issued_since(resource.cns, scope, group.token if group else None, since)
            listing = self._objects.without_removed(round_.listing.with_issued(issued))
            round_ = replace(round_, listing=listing)
        return known(
            memory,
            round_,
            resource,
            now=now,
            tick=tick,
            scope=scope,
            limits=self._limits,
            new_attempt_id=self._new_id(),
            may_adopt=self._tokens.may_adopt(key.namespace, resource.spec.token_secret_ref),
            ownership=self._objects.ownership(key, self._time.earlier()),  # whoever holds one that may not have expired
            held_elsewhere=self._objects.held_elsewhere(key),
            left_behind=self._objects.left_behind,
            attempted_elsewhere=self._objects.attempted_elsewhere(key),
            copied_attempt=self._objects.copied_attempt(key, self.posts.unrecorded),
            not_removable=self._objects.not_removable(key),
            clock_skew=self._time.skew,
            server_time=self._time.server_now,
            at_least=self._time.at_least(),
            unanswered=self.posts.unanswered(key, resource.cns, scope),
            vercel_said=self._time.vercel_has_said,
            ending=self._stopping,
        )

    def _wait(self, facts: Known, until: datetime | None) -> float:
        """Ends a round: nothing to do until then."""
        key = facts.resource.key
        memory = self._memories[key]
        if memory.noticed is not None:
            calls = {*facts.failed, *((call, None) for call in facts.pauses)}
            free = [at for call in calls if (at := facts.free_at(*call)) is not None]
            if free and is_recent(facts, memory.noticed):  # the news may be acted on then
                until = earliest(until, *free)
            else:
                self._memories[key] = replace(memory, noticed=None)
        if (scope_key := self._objects.scope_key(key)) is not None:
            self.drift.watch(scope_key)
        newest = self._objects.get(key)
        if newest is not None and not newest.holds and not memory.is_needed:
            self._tokens.forget(key.uid)  # there is nothing to remove with it
        self._memories[key] = self._memories[key].at_rest()
        if until is None:
            return self._longest_sleep
        # A time that is rounded down to now would be due again and again.
        return min(max((until - self._time.now()).total_seconds(), 0.001), self._longest_sleep)

    async def _reserved_act(self, facts: Known, decision: Decision, round_: Round) -> Round | None:
        """Carries out a decision. Before an attempt is recorded, its names are reserved for this resource.

        From before anything is awaited: no other resource may decide the same meanwhile.
        """
        if not isinstance(decision.action, Issue):
            return await self._act(facts, decision, round_)
        self._objects.reserve_names(facts.resource.key)
        try:
            return await self._act(facts, decision, round_)
        finally:
            self._objects.release_names(facts.resource.key)  # what is recorded counts by itself

    async def _act(self, facts: Known, decision: Decision, round_: Round) -> Round | None:
        """Carries out a decision. Returns what is known after it; None: the round is over."""
        resource = facts.resource
        match decision.action:
            case Write():
                return round_.written() if await self._write(resource, decision) else round_.fenced_off()
            case AddFinalizer():
                added = await self._fenced(resource, self._kube.add_finalizer(resource))
                return round_ if added else round_.fenced_off()
            case RemoveFinalizer():
                await self._remove_finalizer(resource, decision)
                return round_.fenced_off()
            case ReadToken():
                return await self._read_token(resource, round_)
            case GetDomainConfig(domain, scope):
                return round_.with_domain(domain, await self._domain_config(resource, domain, scope, round_))
            case ReadSource():
                await self._read_source(resource)
                return round_
            case CheckSchema():
                await self._check_schema(resource)
                return round_
            case Get() | List() | Remove() | Issue():
                return await self._call(facts, decision, round_)
            case Wait():
                raise AssertionError("a wait ends the round")
            case _:
                assert_never(decision.action)

    # --- Vercel ---------------------------------------------------------------------------------------------------

    async def _token(self, resource: Resource, *, issues: bool = False) -> Token:
        """Returns the token. It is kept for the removal of the certificate that the resource has, or is to have."""
        ref, key = resource.spec.token_secret_ref, resource.key
        if resource.deleting:
            return await self._tokens.get_for_removal(key.namespace, ref, key.uid)
        return await self._tokens.get(key.namespace, ref, key.uid if issues or resource.holds else None)

    async def _read_token(self, resource: Resource, round_: Round) -> Round:
        try:
            token = await self._token(resource)
        except TokenMissing:
            return round_.with_token(None)
        return round_.with_token(token.hash_for(resource.key))

    async def _domain_config(self, resource: Resource, domain: str, scope: Scope, round_: Round) -> DomainConfig | None:
        """Returns how a domain is configured; None: that isn't known, and nothing depends on it."""
        try:
            return await self._calls.domain_config(resource.key, domain, scope, await self._token(resource))
        except Waiting:
            self._rounds[resource.key] = round_
            raise
        except (TokenMissing, VercelError, Paused) as error:
            logger.info("Can't read the configuration of domain %s: %s", domain, error, extra=log_fields(resource.key))
            return None

    async def _read_source(self, resource: Resource) -> tuple[Source, Upload] | SourceProblem:
        """Reads the Secret whose certificate is uploaded. The key is not remembered."""
        key, ref = resource.key, resource.spec.certificate_secret_ref
        assert ref is not None  # noqa: S101 - only such resources have a source
        found = await self._sources.read(key.namespace, ref.name)
        source = found if isinstance(found, SourceProblem) else found[0]
        self._memories[key] = replace(self._memories[key], source=(self._clock.monotonic(), source))
        return found

    async def _call(self, facts: Known, decision: Decision, round_: Round) -> Round | None:
        resource, call = facts.resource, call_of(decision)
        assert call is not None  # noqa: S101 - the actions that end up here are calls
        try:
            token = await self._token(resource, issues=isinstance(decision.action, Issue))
            round_ = round_.with_token(token.hash_for(resource.key))
            if isinstance(decision.action, Issue) and round_.token_hash != facts.token_hash:
                return round_  # the attempt must say which token it used
            after = await self._request(facts, decision, token, round_)
        except TokenMissing as missing:
            failure = Failure(Fate.NO_TOKEN, str(missing))
            return self._failed(resource.key, call, failure, round_.with_token(None))
        except VercelError as error:
            return self._failed(resource.key, call, failure_of(error), round_)
        except Paused as paused:
            return round_.with_pause(paused.call, paused.pause)
        except Waiting:
            if isinstance(decision.action, List) and round_.asked is None:
                round_ = replace(round_, asked=decision.action, asked_at=self._clock.monotonic())
            self._rounds[resource.key] = round_
            raise
        if not isinstance(decision.action, Issue):
            self._memories[resource.key] = self._memories[resource.key].call_succeeded(call)
        return after

    async def _request(self, facts: Known, decision: Decision, token: Token, round_: Round) -> Round | None:
        key = facts.resource.key
        match decision.action:
            case Get(certificate_id, scope):
                return round_.with_got(certificate_id, await self._calls.get(key, certificate_id, scope, token))
            case List(begun_after, scope):
                asked = round_.asked if round_.asked is not None and round_.asked.scope == scope else None
                if asked is not None and None not in (asked.begun_after, begun_after):
                    begun_after = asked.begun_after  # what it has waited for is new enough
                since = round_.asked_at if asked is not None and asked.begun_after is None else None
                listing = self._calls.list(key, begun_after, scope, token, since)
                judged = self.drift.judged(ScopeKey(token.place, scope), listing, token)
                return replace(round_, asked=None, listing=judged)
            case Remove(certificate_id, scope):
                resource = facts.resource
                if certificate_id not in resource.status.certificate_ids or not resource.has_finalizer:
                    self._objects.reserve_removal(key, certificate_id)  # an answer that no resource holds
                there = await self._calls.remove(key, certificate_id, scope, token)
                if there:
                    self._objects.note_removal(certificate_id)
                if resource.deleting:
                    tick = self._clock.monotonic()
                    self._memories[key] = self._memories[key].with_removed(certificate_id, there, tick)
                return round_.with_removed(certificate_id, there)
            case Issue(attempt):
                return await self._issue(facts, attempt, decision, token)
            case _:
                raise AssertionError(f"{decision.action} is no call")

    def _failed(self, key: Key, call: CallKey, failure: Failure, round_: Round) -> Round:
        tick = self._clock.monotonic()
        self._memories[key] = self._memories[key].call_failed(
            call, failure, tick, seed=key.uid, token_hash=round_.token_hash
        )
        return replace(round_, just_failed=call)

    async def _issue(self, facts: Known, attempt: Attempt, decision: Decision, token: Token) -> Round | None:
        """Records the attempt, then sends it: at most once, and only by the process that saw that it is recorded."""
        resource, key, upload = facts.resource, facts.resource.key, None
        if attempt.fingerprint is not None:
            found = await self._read_source(resource)
            if isinstance(found, SourceProblem) or found[0].fingerprint != attempt.fingerprint:
                return Round()  # the Secret has changed since it was checked
            upload = found[1]
        urgent = resource.status.id is not None  # what is live goes before what is new
        account = self._calls.take_slot(key, attempt.call, attempt.scope, token, urgent=urgent)
        began, sent = self._clock.monotonic(), False
        self._memories[key] = self._memories[key].announced(attempt.id)
        try:
            assert decision.status is not None  # noqa: S101 - it carries the attempt
            body = await self._fenced_body(
                resource, self._kube.write_status(resource, decision.status, closes_attempt=False)
            )
            if body is None:
                return Round()
            if not self._check_stored(key, body, decision):
                return Round()
            if self._stopping or self._clock.monotonic() - began > STALE_RECORD:
                return Round()
            self.posts.send(key, attempt, account, token, upload, facts.listing)
            sent = True
        finally:
            if not sent:
                account.give_slot_back(key, attempt.call)
        return None

    # --- Kubernetes -----------------------------------------------------------------------------------------------

    async def _write(self, resource: Resource, decision: Decision) -> bool:
        """Writes the decided status if it differs from the stored one. Returns False if the view was stale."""
        key, status = resource.key, decision.status
        closes = isinstance(decision.action, Write) and decision.action.closes
        is_news = True
        if status is not None and status != resource.status and status.dump() != resource.status.dump():
            self._memories[key] = self._memories[key].writing(decision)
            with self._objects.reserved(key, status.certificate_ids):
                write = self._kube.write_status(resource, status, closes_attempt=closes)
                body = await self._fenced_body(resource, write)
                if body is None:
                    self._memories[key] = self._memories[key].fenced_off()
                    return False
            # What could not be stored is decided again and again. But an attempt has one outcome, and that not even
            # the conditions are stored must be reported somewhere.
            reported = decision.note is not None and decision.note.reason == Reason.SCHEMA_OUTDATED
            is_news = self._check_stored(key, body, decision) or closes or reported
        self._memories[key] = self._memories[key].recorded(decision)
        if decision.note is not None and is_news:
            self._publisher.publish(key, decision.note, resource.status.attempt)
        return True

    def _check_stored(self, key: Key, body: Mapping[str, Any], decision: Decision) -> bool:
        """Returns whether the API server stored the whole status. If not, the resource issues nothing for a while."""
        stored = decision.status is None or is_stored(body, decision.status)
        if not stored:
            self._memories[key] = self._memories[key].dropped(decision, self._clock.monotonic())
        return stored

    async def _check_schema(self, resource: Resource) -> None:
        """Asks the API server whether it stores every field of the record."""
        key = resource.key
        try:
            stores_all = await self._kube.stores(resource, PROBE)
        except (Gone, Refused) as error:
            await self._refresh(resource, error)
            return
        self._memories[key] = self._memories[key].schema_checked(self._clock.monotonic(), stores_all)

    async def _fenced(self, resource: Resource, write: Any) -> bool:
        return await self._fenced_body(resource, write) is not None

    async def _fenced_body(self, resource: Resource, write: Any) -> Mapping[str, Any] | None:
        """Returns the reply to a write; None: it was fenced off, since it was decided from a stale view."""
        try:
            body: Mapping[str, Any] = await write
        except (Gone, Refused, Conflict) as error:
            await self._refresh(resource, error)
            return None
        self._intake.replied(body)
        return body

    async def _refresh(self, resource: Resource, error: KubeError) -> None:
        """Gets the newest state after a write was fenced off."""
        key = resource.key
        try:
            body = await self._kube.get(key)
        except Gone:
            self._intake.vanished(key)
            return
        if key_of(body) != key:
            self._intake.vanished(key)  # a namesake has replaced it
            self._intake.seen(body)
        elif (
            not self._intake.read(body, resource.resource_version)
            and body["metadata"]["resourceVersion"] == resource.resource_version
        ):
            raise error  # nothing has changed: the write itself is wrong

    async def _remove_finalizer(self, resource: Resource, decision: Decision) -> None:
        key = resource.key
        self._memories[key] = replace(self._memories[key], farewell=decision.note)
        try:
            body = await self._kube.remove_finalizer(resource)
        except (Gone, Conflict, Refused) as error:
            if not isinstance(error, Gone):
                self._memories[key] = replace(self._memories[key], farewell=None)  # decided from a stale view
            await self._refresh(resource, error)
            return
        if body["metadata"].get("finalizers"):
            self._intake.replied(body)
        else:
            self._intake.vanished(key, body)  # that was the last finalizer: the API server has deleted it
        self._bid_farewell(key)

    def _bid_farewell(self, key: Key) -> None:
        """Publishes the Event of the deletion, even if the operator got no answer to the removal of its finalizer."""
        memory = self._memories[key]
        if memory.farewell is not None:
            self._publisher.publish(key, memory.farewell)
            self._memories[key] = replace(memory, farewell=None, reply=None)

    # --- a resource that is gone ----------------------------------------------------------------------------------

    async def _after_its_end(self, key: Key) -> float | None:
        """Handles the answer to a POST of a resource that is gone."""
        self._bid_farewell(key)
        memory = self._memories[key]
        if memory.reply is None:
            return None
        failed = await self._late_answers.settle(key, memory, memory.reply)
        if failed is not None:
            self._memories[key] = failed
            return min(call.retry_at for call in failed.failed.values()) - self._clock.monotonic()
        self._memories[key] = replace(memory, reply=None)
        return None


def _log(key: Key, decision: Decision) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        action = decision.action
        until = action.until if isinstance(action, Wait) else None
        logger.debug(
            "%s decided: %s%s",
            decision.policy,
            type(action).__name__,
            f" until {until:%FT%TZ}" if until is not None else "",
            extra=log_fields(key) | {"policy": decision.policy},
        )
