"""The steps of one process of the operator, one at a time, so that everything else can happen between any two.

Everything that decides is real: ``decide``, ``Memory``, ``Round``, ``Objects`` with its ``Claims``, ``Intake``,
``DriftWatch``. Only what waits is replaced: ``Driver`` mirrors ``reconciler.Reconciler``, ``posts.Posts`` and
``late_answers.LateAnswers``. ``test_driver.py`` compares it with the real ones.
"""

import re
from collections.abc import Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, assert_never, cast

from small_worlds.world import (
    DRIFT,
    LIMITS,
    TOKEN_HASH,
    Pending,
    Post,
    Process,
    Text,
    World,
    carried_out,
    key_of_text,
    parsed,
    resource_of,
    text_of,
    wall,
    written_ids,
)
from vercel_certificate_operator.core.certificate import Certificate, Certificates, Scope
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.facts import earliest
from vercel_certificate_operator.core.failures import Failure, Fate
from vercel_certificate_operator.core.known import (
    AddFinalizer,
    CallKey,
    CheckSchema,
    Decision,
    Get,
    GetDomainConfig,
    Got,
    Issue,
    Known,
    List,
    Listing,
    Note,
    ReadSource,
    ReadToken,
    Remove,
    RemoveFinalizer,
    Reply,
    Wait,
    Write,
)
from vercel_certificate_operator.core.memory import Memory, Round, known
from vercel_certificate_operator.core.record import Attempt
from vercel_certificate_operator.core.resource import Key, Resource
from vercel_certificate_operator.core.rules.deletion import late_answer, removal_failed_note, removed_late_note
from vercel_certificate_operator.core.rules.failed_calls import call_of
from vercel_certificate_operator.core.sightings import ScopeKey
from vercel_certificate_operator.core.times import DRIFT_LIST_AGE
from vercel_certificate_operator.drift_watch import AGAIN, DriftWatch, _Scope
from vercel_certificate_operator.intake import Intake
from vercel_certificate_operator.objects import Objects, scope_key_of
from vercel_certificate_operator.posts import REMEMBERED
from vercel_certificate_operator.reconciler import MOST_STEPS, STALE_RECORD
from vercel_certificate_operator.vercel_time import SKEW

LONGEST_SLEEP = 30 * 86400
REPORTED_BY = ("OrphanedCertificate", "Retained", "Deleted", "DeletionFailed", "CertificateGone")
"""Reasons of Events that name what stays at Vercel, or is gone."""


class Endless(Exception):
    """A round has taken so many steps that a rule never settles."""


class _Queue:
    """In the place of the work queue: notes what is added."""

    def __init__(self) -> None:
        self.added: list[Key] = []
        self.forgotten: list[Key] = []

    def add(self, key: Any, delay: float = 0.0) -> None:
        if not isinstance(key, ScopeKey):  # the drift watch has a time of its own here
            assert delay == 0.0
            self.added.append(key)

    def forget(self, key: Any) -> None:
        self.forgotten.append(key)


class _Time:
    """In the place of ``VercelTime``."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def earlier(self) -> datetime:
        return self._now


class Driver:
    """One step of one process. Built from a world, and turned back into one."""

    def __init__(self, world: World, process: int) -> None:
        self.world = world
        self.number = process
        mine = world.processes[process]
        self.mine = mine
        self.views = dict(mine.views)
        self.memories = dict(mine.memories)
        self.rounds = dict(mine.rounds)
        self.due = dict(mine.due)
        self.pending = dict(mine.pending)
        self.reserved = dict(mine.reserved)
        self.lists = dict(mine.lists)
        self.heard = mine.heard
        self.drift_at = mine.drift_at
        self.reported = mine.reported
        self.removing = dict(mine.removing)
        self.issued = tuple(entry for entry in mine.issued if world.tick - entry[0] <= REMEMBERED)
        self.deferred = dict(mine.deferred)
        self.taken = dict(mine.steps)
        self.steps: list[str] = []
        """What was decided, for messages."""
        self.queue = _Queue()
        self.objects = Objects(monotonic=lambda: self.world.tick)
        self.objects._attempts_seen.update(mine.attempts)
        self.objects._left.update(dict.fromkeys(mine.left))
        self.objects._removed.update(mine.removed)
        queue: Any = self.queue
        time: Any = _Time(self.now)
        self.intake = Intake(self.objects, queue, time, self.memories.__contains__)
        for key, text in self.views.items():
            self.objects.put(parsed(text))
            self.objects._parsed[key] = resource_of(text)
        for key, since in self.reserved.items():
            self.objects.reserve_names(key)
            self.objects._claims._reserved[key] = since
        for key, ids in mine.doubtful.items():
            self.objects.reserve(key, ids)
        for certificate_id, key in self.removing.items():
            self.objects.reserve_removal(key, certificate_id)

    @property
    def now(self) -> datetime:
        return wall(self.world.tick + self._error)

    @property
    def _error(self) -> int:
        """Seconds by which the process misjudges Vercel's time."""
        return 0 if self.heard else self.world.ahead

    @property
    def _skew(self) -> timedelta | None:
        skew = timedelta(seconds=-self.world.ahead)
        return skew if self.heard and abs(skew) >= SKEW else None

    def done(self, world: World | None = None) -> World:
        """Returns the world after the step."""
        world = world or self.world
        for key in self.queue.added:
            self.due[key] = min(self.due.get(key, world.tick), world.tick)
        for key in self.queue.forgotten:
            self.due.pop(key, None)
        process = replace(
            self.mine,
            views=self.views,
            memories=self.memories,
            rounds=self.rounds,
            steps={key: taken for key, taken in self.taken.items() if key in self.rounds},
            due=self.due,
            pending=self.pending,
            reserved=self.reserved,
            lists=self.lists,
            heard=self.heard,
            drift_at=self.drift_at,
            reported=self.reported,
            removing=self.removing,
            issued=self.issued,
            deferred=self.deferred,
            attempts=self.objects._attempts_seen,
            left=tuple(self.objects._left),
            removed=dict(self.objects._removed),
            doubtful={key: tuple(ids) for key, ids in self.objects._doubtful.items()},
        )
        processes = list(world.processes)
        processes[self.number] = process
        return replace(world, processes=tuple(processes))

    # --- what is seen

    def see(self, text: Text) -> None:
        """The watch, or a list, shows an object."""
        key = key_of_text(text)
        self.intake.seen(parsed(text))
        if self.objects.body(key) is not None and self._is_newer(key, text):
            self.views[key] = text

    def replied(self, text: Text) -> bool:
        news = self.intake.replied(parsed(text))
        if news:
            self.views[key_of_text(text)] = text
        return news

    def vanish(self, key: Key) -> None:
        self.intake.vanished(key)
        self.views.pop(key, None)

    def _is_newer(self, key: Key, text: Text) -> bool:
        before = self.views.get(key)
        return before is None or _version(text) > _version(before)

    # --- a round, from one wait to the next

    def run(self, key: Key) -> World:
        """Reconciles a key that is due, until it waits for something."""
        self.due.pop(key, None)
        self.memories.setdefault(key, Memory(seen=(None, self.world.tick)))
        self.rounds[key] = Round()
        self.taken[key] = 0
        self._go_on(key)
        return self.done()

    def _go_on(self, key: Key) -> None:
        """Decides, and does what needs no waiting, until the key waits or its round is over."""
        tick = self.world.tick
        while True:
            round_ = self.rounds[key]
            self.rounds[key] = replace(round_, listing=round_.listing or self.memories[key].noticed)
            resource = self.objects.get(key)
            if resource is None:
                self._after_its_end(key)
                return
            memory, note = self.memories[key].observe(resource, tick, self.rounds[key].got).published(resource.status)
            self.memories[key] = memory
            self._publish(note)
            facts = self._facts(resource, memory, self.rounds[key])
            decision = decide(facts)
            self.steps.append(f"{decision.policy}: {type(decision.action).__name__}")
            self.taken[key] = self.taken.get(key, 0) + 1
            if self.taken[key] > MOST_STEPS:
                raise Endless(f"{key.name}: {decision.policy} never settles")
            if self._begin(facts, decision):
                return

    def _begin(self, facts: Known, decision: Decision) -> bool:
        """Begins what was decided. Returns whether the key waits for it, or its round is over."""
        key, round_ = facts.resource.key, self.rounds[facts.resource.key]
        match decision.action:
            case Wait() | Write():
                return self._write(facts, decision)
            case AddFinalizer():
                self._send(Pending("add", key, self.views[key], self.world.tick))
            case RemoveFinalizer():
                self.memories[key] = replace(self.memories[key], farewell=decision.note)
                self._send(Pending("release", key, self.views[key], self.world.tick))
            case ReadToken():
                self.rounds[key] = round_.with_token(TOKEN_HASH)
                return False
            case GetDomainConfig(domain, _):
                self.rounds[key] = round_.with_domain(domain, None)
                return False
            case ReadSource():
                raise AssertionError("nothing is uploaded here")
            case CheckSchema():
                raise AssertionError("the definition is never older")
            case Issue(attempt):
                return self._issue(facts, decision, attempt)
            case Get() | List() | Remove():
                return self._call(key, decision.action)
            case _:
                assert_never(decision.action)
        return True

    def _facts(self, resource: Resource, memory: Memory, round_: Round) -> Known:
        key = resource.key
        if round_.listing is not None:
            since = round_.listing.begun
            issued = [one for at, one in self.issued if at >= since and one.cns == resource.cns]
            listing = self.objects.without_removed(round_.listing.with_issued(issued))
            round_ = replace(round_, listing=listing)
        return known(
            memory,
            round_,
            resource,
            now=self.now,
            tick=self.world.tick,
            scope=resource.spec.scope(Scope()),
            limits=LIMITS,
            new_attempt_id=f"attempt-{self.world.numbers + 1}",
            may_adopt=True,
            ownership=self.objects.ownership(key, self.now),
            held_elsewhere=self.objects.held_elsewhere(key),
            left_behind=self.objects.left_behind,
            attempted_elsewhere=self.objects.attempted_elsewhere(key),
            copied_attempt=self.objects.copied_attempt(key),
            not_removable=self.objects.not_removable(key),
            clock_skew=self._skew,
            server_time=self.now - self._skew if self._skew is not None else None,
        )

    def _publish(self, note: Note | None) -> None:
        if note is not None and note.reason in REPORTED_BY:
            self.world = replace(self.world, said=self.world.said | set(re.findall(r"cert_\d+", note.text)))
        elif note is not None and "may also be what was requested" in note.text:
            others = note.text.partition("may also be what was requested")[2]
            self.world = replace(self.world, said=self.world.said | set(re.findall(r"cert_\d+", others)))

    # --- requests to the API server

    def _write(self, facts: Known, decision: Decision) -> bool:
        resource, status = facts.resource, decision.status
        key, action = resource.key, decision.action
        free = _free(facts)
        if status is not None and (dumped := status.dump()) != resource.status.dump():
            self.memories[key] = self.memories[key].writing(decision)
            pending = Pending(
                "wait" if isinstance(action, Wait) else "write",
                key,
                self.views[key],
                self.world.tick,
                status=text_of(dumped),
                closes=isinstance(action, Write) and action.closes,
                decision=decision,
                free=free,
            )
            self._send(pending)
            return True
        return not self._recorded(key, decision, free)

    def _recorded(self, key: Key, decision: Decision, free: datetime | None) -> bool:
        """Status says what was decided. Returns whether the round goes on."""
        self.memories[key] = self.memories[key].recorded(decision)
        self._publish(decision.note)
        if isinstance(decision.action, Write):
            self.rounds[key] = self.rounds[key].written()
            return True
        assert isinstance(decision.action, Wait)
        self._end_of_round(key, decision.action.until, free)
        return False

    def _end_of_round(self, key: Key, until: datetime | None, free: datetime | None) -> None:
        del self.rounds[key]
        if self.memories[key].noticed is not None:
            if free is not None:
                until = earliest(until, free)
            else:
                self.memories[key] = replace(self.memories[key], noticed=None)
        at = self.world.tick + LONGEST_SLEEP
        if until is not None:
            seconds = max((until - self.now).total_seconds(), 0.001)
            at = self.world.tick + min(-int(-seconds // 1), LONGEST_SLEEP)
        self.due[key] = min(self.due.get(key, at), at)

    def _send(self, pending: Pending) -> None:
        self.pending[pending.key] = pending
        if pending.kind in ("wait", "write"):
            self.objects.reserve(pending.key, written_ids(pending))

    def _issue(self, facts: Known, decision: Decision, attempt: Attempt) -> bool:
        key, tick = facts.resource.key, self.world.tick
        if facts.token_hash != TOKEN_HASH:
            self.rounds[key] = self.rounds[key].with_token(TOKEN_HASH)
            return False
        assert decision.status is not None
        self.reserved[key] = tick
        self.objects.reserve_names(key)
        self.memories[key] = self.memories[key].announced(attempt.id)
        status = text_of(decision.status.dump())
        self.world = replace(self.world, numbers=self.world.numbers + 1)
        self._send(Pending("issue", key, self.views[key], tick, status=status, decision=decision))
        return True

    def land(self, key: Key, *, answered: bool = True) -> World:
        """The API server carries out a request. Its answer arrives at once, or not at all."""
        pending = self.pending.pop(key)
        world, text = carried_out(self.world, pending)
        self.world = world
        self._unreserve(pending)
        if not answered:
            self._no_answer(key)
        elif text is None:
            self._fenced_off(pending)
            self.objects._end_doubt(key)
            self._go_on(key)
        else:
            if pending.kind == "release" and key.name not in world.objects:
                self.vanish(key)
            else:
                self.replied(text)
            self.objects._end_doubt(key)
            if self._written(pending):
                self._go_on(key)
        return self.done()

    def fail(self, key: Key) -> World:
        """The API server does not carry out a request, and answers with an error."""
        self._unreserve(self.pending.pop(key))
        self._no_answer(key)
        return self.done()

    def _unreserve(self, pending: Pending) -> None:
        self.reserved.pop(pending.key, None)
        self.objects.release_names(pending.key)

    def _no_answer(self, key: Key) -> None:
        self.rounds.pop(key, None)
        self.due[key] = self.world.tick + 1

    def _fenced_off(self, pending: Pending) -> None:
        key = pending.key
        if pending.kind in ("wait", "write"):
            self.memories[key] = self.memories[key].fenced_off()
        text = self.world.objects.get(key.name)
        gone = text is None or key_of_text(text) != key
        if pending.kind == "release" and not gone:
            self.memories[key] = replace(self.memories[key], farewell=None)
        if gone:
            self.vanish(key)
            if text is not None:
                self.see(text)
        else:
            assert text is not None
            self.replied(text)
        if pending.kind == "release":
            self._farewell(key)
        self.rounds[key] = Round()

    def _written(self, pending: Pending) -> bool:
        """The write succeeded. Returns whether the round goes on."""
        key, decision = pending.key, pending.decision
        match pending.kind:
            case "issue":
                assert decision is not None
                assert isinstance(decision.action, Issue)
                if self.world.tick - pending.at > STALE_RECORD:
                    self.rounds[key] = Round()
                    return True
                attempt = decision.action.attempt
                self.memories[key] = self.memories[key].sent(attempt.id, self.world.tick)
                post = Post(attempt, key, self.world.tick, self.number)
                posted = self.world.posted | {attempt.id}
                self.world = replace(self.world, posts=(*self.world.posts, post), posted=posted)
                del self.rounds[key]
                return False
            case "wait" | "write":
                assert decision is not None
                return self._recorded(key, decision, pending.free)
            case "release":
                self._farewell(key)
                self.rounds[key] = Round()
        return True

    def _farewell(self, key: Key) -> None:
        memory = self.memories[key]
        if memory.farewell is not None:
            self._publish(memory.farewell)
            if "check Vercel for it" in memory.farewell.text:
                self.world = replace(self.world, warned=self.world.warned | {key})
            self.memories[key] = replace(memory, farewell=None, reply=None)

    # --- calls to Vercel

    def _call(self, key: Key, call: Get | List | Remove) -> bool:
        """Begins a call. Returns whether its answer has to be waited for."""
        self.rounds[key] = self.rounds[key].with_token(TOKEN_HASH)
        if isinstance(call, List) and (cached := self._cached(call.scope, call.begun_after)) is not None:
            self._heard(key, call, replace(self.rounds[key], listing=cached))
            return False
        resource = self.objects.get(key)
        if isinstance(call, Remove) and resource:
            in_status = call.certificate_id in resource.status.certificate_ids
            if not in_status or not resource.has_finalizer:
                self._reserve_removal(key, call.certificate_id)
        listed = self.all_certificates() if isinstance(call, List) else ()
        self._send(Pending("call", key, self.views.get(key, ""), self.world.tick, call=call, listed=listed))
        return True

    def _heard(self, key: Key, call: Get | List | Remove, round_: Round) -> None:
        self.rounds[key] = round_
        self.memories[key] = self.memories[key].call_succeeded(_call_key(call))

    def _reserve_removal(self, key: Key, certificate_id: str) -> None:
        self.removing[certificate_id] = key
        self.objects.reserve_removal(key, certificate_id)

    def _cached(self, scope: Scope, begun_after: float | None) -> Listing | None:
        cached = self.lists.get(scope)
        return cached if cached is not None and cached.is_new_enough(begun_after, self.world.tick) else None

    def answer(self, key: Key, *, early: bool = False) -> World:
        """Vercel carries out a call, and its answer arrives.

        Args:
            early: a list was made when the call was sent, and not when its answer arrives.
        """
        pending = self.pending.pop(key)
        tick, call = self.world.tick, pending.call
        self.heard = True
        if key not in self.rounds:  # of a resource that is gone
            assert isinstance(call, Remove)
            self._late_removal(key, call)
            self._unreserve(pending)
            return self.done()
        round_ = self.rounds[key]
        match call:
            case Get(certificate_id, _):
                cert = self.world.cert(certificate_id)
                round_ = round_.with_got(certificate_id, Got(pending.at, cert.as_seen() if cert else None))
            case List(_, scope):
                certificates = pending.listed if early else self.all_certificates()
                self.lists[scope] = Listing(pending.at, Certificates(certificates), float(tick - pending.at))
                round_ = replace(round_, listing=self.lists[scope])
            case Remove(certificate_id, _):
                round_ = round_.with_removed(certificate_id, self._remove(certificate_id))
            case None:
                raise AssertionError(pending)
        self._unreserve(pending)
        self._heard(key, call, round_)
        self._go_on(key)
        return self.done()

    def call_fails(self, key: Key) -> World:
        """A call is not carried out, or its answer is lost: nobody knows."""
        pending = self.pending.pop(key)
        assert pending.call is not None
        self._unreserve(pending)
        failure, call = Failure(Fate.UNKNOWN, "broken"), _call_key(pending.call)
        round_ = self.rounds.get(key)
        token_hash = round_.token_hash if round_ is not None else None
        memory = self.memories[key]
        after = memory.call_failed(call, failure, self.world.tick, seed=key.uid, token_hash=token_hash)
        self.memories[key] = after
        if round_ is not None:
            self.rounds[key] = replace(round_, just_failed=call)
            self._go_on(key)
            return self.done()
        if call not in memory.failed:
            self._publish(removal_failed_note(call[1] or "", failure.message))
        self.due[key] = -int(-min(failed.retry_at for failed in after.failed.values()) // 1)
        return self.done()

    def all_certificates(self) -> tuple[Certificate, ...]:
        """All certificates at Vercel, the newest first."""
        newest_first = sorted(self.world.certs, key=lambda cert: (cert.created, _number(cert.id)), reverse=True)
        return tuple(cert.as_seen() for cert in newest_first)

    def _remove(self, certificate_id: str) -> bool:
        cert = self.world.cert(certificate_id)
        if cert is None:
            return False
        self.objects.note_removal(certificate_id)
        left = tuple(other for other in self.world.certs if other is not cert)
        self.world = replace(self.world, certs=left, removed=(*self.world.removed, cert))
        return True

    # --- the end of a POST, and of a resource

    def answered(self, post: Post, certificate: Certificate | None, failure: Failure | None) -> World:
        """The answer to a POST arrives, or is given up."""
        key, tick = post.key, self.world.tick
        if certificate is not None or (failure is not None and failure.fate is Fate.REFUSED):
            self.heard = True
        if certificate is not None:
            self.issued = (*self.issued, (tick, certificate))
        reply = Reply(post.attempt, tick, tick - post.sent, certificate, failure)
        self.memories[key] = self.memories[key].answered(reply)
        self.due[key] = tick
        return self.done()

    def _after_its_end(self, key: Key) -> None:
        """Mirrors ``Reconciler._after_its_end`` and ``LateAnswers``."""
        self._farewell(key)
        self.rounds.pop(key, None)
        memory = self.memories[key]
        reply = memory.reply
        if reply is None:
            self._settled(key)
            return
        text = self.world.objects.get(key.name)
        late = None
        if text is None or key_of_text(text) != key:
            late = late_answer(memory.spec, reply, self.objects.held_elsewhere(key))
        if isinstance(late, Remove):
            self._reserve_removal(key, late.certificate_id)
            self._send(Pending("call", key, "", self.world.tick, call=late))
            return
        self._publish(late)
        self._settled(key)

    def _late_removal(self, key: Key, late: Remove) -> None:
        self._remove(late.certificate_id)
        self._publish(removed_late_note(late.certificate_id))
        self._settled(key)

    def _settled(self, key: Key) -> None:
        self.memories[key] = replace(self.memories[key], reply=None)
        if not self.memories[key].is_needed:
            self._forget(key)

    def _forget(self, key: Key) -> None:
        del self.memories[key]
        self.reserved.pop(key, None)
        self.due.pop(key, None)

    # --- the drift watch

    def drift(self) -> World:
        """Lists the scopes that are due. The real ``DriftWatch`` compares them with the resources."""
        tick, parts = self.world.tick, cast(Any, self)
        watch = DriftWatch(
            objects=self.objects,
            queue=parts.queue,
            tokens=cast(Any, _Tokens()),
            calls=parts,
            clock=parts,
            now=lambda: self.now,
            interval=DRIFT,
            notice=self._notice,
            publish=lambda _, note: self._publish(note),
            observer=parts,
        )
        watch._reported = set(self.reported)
        scopes = {scope_key_of(key, body) for key in self.views if (body := self.objects.body(key)) is not None}
        again = DRIFT
        for scope_key in sorted(scopes - {None}, key=str):
            assert scope_key is not None
            if not any(True for _ in watch._members(scope_key)):
                continue
            listing = self._cached(scope_key.scope, tick - DRIFT_LIST_AGE)
            if listing is None:
                self.heard = True
                listing = self.lists[scope_key.scope] = Listing(tick, Certificates(self.all_certificates()))
            scope = _Scope(deferred=self.deferred.get(scope_key, frozenset()))
            listing = self.objects.without_removed(listing)
            _run(watch._compare(scope_key, scope, watch.judged(scope_key, listing, cast(Any, _Token()))))
            self.deferred[scope_key] = scope.deferred
            again = min(again, int(AGAIN)) if scope.deferred else again
        self.reported = frozenset(watch._reported)
        self.drift_at = tick + again
        return self.done()

    def _notice(self, key: Key, listing: Listing) -> None:
        if key in self.memories:
            self.memories[key] = replace(self.memories[key], noticed=listing)
            self.queue.add(key)


class _Token:
    """In the place of ``Token``."""

    def hash_for(self, _: Key) -> str:
        return TOKEN_HASH


class _Tokens:
    """In the place of ``Tokens``: everyone may use the default token."""

    def may_use(self, namespace: str, ref: object) -> bool:
        del namespace, ref
        return True


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Runs what only seems to wait."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration:
        return


def _free(facts: Known) -> datetime | None:
    """Returns when the first call that can't be made now may be made again."""
    calls = {*facts.failed, *((call, None) for call in facts.pauses)}
    return earliest(*(facts.free_at(*call) for call in calls))


def _version(text: Text) -> int:
    return int(parsed(text)["metadata"]["resourceVersion"])


def _call_key(call: Get | List | Remove) -> CallKey:
    key = call_of(Decision(call))
    assert key is not None
    return key


def _number(certificate_id: str) -> int:
    return int(certificate_id.partition("_")[2])


def started(world: World, number: int, *, stale: bool = False) -> World:
    """Returns the world with a new process in the place of another one. It has listed everything.

    Args:
        stale: its list is older than the last change of each object.
    """
    processes = list(world.processes)
    processes[number] = Process(drift_at=world.tick + DRIFT)
    driver = Driver(replace(world, processes=tuple(processes)), number)
    states = {**world.objects, **world.past} if stale else world.objects
    for _, text in sorted(states.items()):
        if text is not None:
            driver.see(text)
    return driver.done()


def due_keys(world: World, process: Process) -> list[Key]:
    """Returns the keys that a process can begin to reconcile now."""
    return sorted(key for key, tick in process.due.items() if tick <= world.tick and not {key} & process.pending.keys())
