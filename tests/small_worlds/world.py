"""A small world, as a value: everything that can happen next in it can be enumerated.

It has a few resources, a Vercel with a few certificates, and one or two processes of the operator. Everything that
decides is real: ``decide``, ``Memory``, ``Round``, ``Objects`` with its ``Claims``, ``Intake``, ``Sighting``. Only what
waits is replaced: ``Driver`` mirrors the steps of ``reconciler.Reconciler``, one step at a time, so that everything
else can happen between any two of them. ``test_driver.py`` holds it against the real reconciler.
"""

import json
import re
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, assert_never, cast

from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.facts import earliest
from vercel_certificate_operator.core.failures import Failure, Fate
from vercel_certificate_operator.core.known import (
    AddFinalizer,
    CallKey,
    Decision,
    Get,
    GetDomainConfig,
    Got,
    Issue,
    Known,
    Limits,
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
from vercel_certificate_operator.core.resource import FINALIZER, Key, Resource
from vercel_certificate_operator.core.rules.deletion import late_answer, removal_failed_note, removed_late_note
from vercel_certificate_operator.core.rules.failed_calls import call_of
from vercel_certificate_operator.core.sightings import ScopeKey
from vercel_certificate_operator.core.times import DRIFT_LIST_AGE
from vercel_certificate_operator.drift_watch import AGAIN, DriftWatch, _Scope
from vercel_certificate_operator.intake import Intake
from vercel_certificate_operator.objects import Objects, key_of, scope_key_of
from vercel_certificate_operator.posts import REMEMBERED

Text = str
"""An object as JSON. Texts are compared and hashed; ``parsed`` has the object."""
Body = dict[str, Any]

NAMESPACE = "web"
START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
"""Vercel's time at tick 0."""
TOKEN_HASH = "token"
LIMITS = Limits()
POST_LIMIT = int(LIMITS.post.total_seconds())
MOST_STEPS = 40
STALE_RECORD = 10
"""As in the reconciler."""
DRIFT = 6 * 3600
LONGEST_SLEEP = 30 * 86400
LIFETIME = 90 * 86400
REPORTED_BY = ("OrphanedCertificate", "Retained", "Deleted", "DeletionFailed", "CertificateGone")


@dataclass(frozen=True, slots=True)
class Cert:
    """A certificate at Vercel, with what only Vercel knows."""

    id: str
    cns: frozenset[str]
    created: int
    expires: int
    auto_renew: bool
    maker: str
    """The attempt that made it, ``other``, or the id of the certificate that it renews."""
    key: Key | None = None
    """The resource for which it was requested."""
    late: bool = False
    """Whether its attempt counted as over when it was made."""

    def as_seen(self) -> Certificate:
        return _seen(self.id, self.cns, self.created, self.expires, self.auto_renew)


@lru_cache(maxsize=10_000)
def _seen(certificate_id: str, cns: frozenset[str], created: int, expires: int, auto_renew: bool) -> Certificate:
    return Certificate(certificate_id, cns, wall(created), wall(expires), auto_renew)


def wall(tick: float) -> datetime:
    """Returns Vercel's time at a tick."""
    return START + timedelta(seconds=tick)


Kind = Literal["wait", "write", "issue", "add", "release", "call"]


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that was sent and is not carried out yet: to the API server, or a call to Vercel."""

    kind: Kind
    key: Key
    base: Text
    """The state from which it was decided."""
    at: int
    call: Get | List | Remove | None = None
    status: Text | None = None
    """As JSON; None: it changes the finalizers."""
    closes: bool = False
    decision: Decision | None = None
    """Of a change of status."""
    free: datetime | None = None
    """Of a wait: when a call that could not be made may be made again."""


@dataclass(frozen=True, slots=True)
class Post:
    """A POST that was sent and not answered yet."""

    attempt: Attempt
    key: Key
    sent: int
    process: int | None
    """Who waits for the answer; None: nobody does any longer."""
    made: str | None = None
    """The certificate that Vercel made for it."""


@dataclass(frozen=True, slots=True)
class Process:
    """What one process of the operator knows. All of it is lost in a crash."""

    views: Mapping[Key, Text] = field(default_factory=dict)
    memories: Mapping[Key, Memory] = field(default_factory=dict)
    rounds: Mapping[Key, Round] = field(default_factory=dict)
    """Of keys in work."""
    due: Mapping[Key, int] = field(default_factory=dict)
    pending: Mapping[Key, Pending] = field(default_factory=dict)
    """What each key waits for. Between two waits, a key is done with at once."""
    reserved: Mapping[Key, int] = field(default_factory=dict)
    """Names that are reserved, since when."""
    lists: Mapping[Scope, Listing] = field(default_factory=dict)
    issued: tuple[tuple[int, Certificate], ...] = ()
    """What it was issued lately."""
    error: int = 0
    """Seconds by which its idea of Vercel's time is wrong, until Vercel's next answer."""
    drift_at: int = DRIFT
    doubtful: Mapping[Key, tuple[str, ...]] = field(default_factory=dict)
    """Certificates of writes that may have happened."""
    removing: Mapping[str, Key] = field(default_factory=dict)
    """Certificates in no status that are, or were, being removed."""
    reported: frozenset[str] = frozenset()
    """Orphans that it has reported."""
    deferred: Mapping[ScopeKey, frozenset[str]] = field(default_factory=dict)
    """Orphans that it reports with the next list."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may still happen."""

    faults: int = 0
    """Calls that fail, answers that are lost, POSTs that are refused or late, crashes, pauses."""
    others: int = 0
    """Actions of other people."""
    steps_of_a_clock: int = 0
    jumps: int = 20
    """Times that time passes until something is due."""
    certificates: int = 3
    """Certificates that there may be at Vercel."""


@dataclass(frozen=True, slots=True)
class World:
    """The state of everything."""

    tick: int = 0
    objects: Mapping[str, Text] = field(default_factory=dict)
    """By name."""
    certs: tuple[Cert, ...] = ()
    removed: tuple[Cert, ...] = ()
    """Removed by the operator."""
    processes: tuple[Process, ...] = ()
    posts: tuple[Post, ...] = ()
    ghosts: tuple[Pending, ...] = ()
    """Requests of processes that are gone, which may still arrive."""
    numbers: int = 0
    """Of ids that were given out: resourceVersions, attempts, certificates and uids."""
    posted: frozenset[str] = frozenset()
    """Attempts that were sent."""
    void: frozenset[str] = frozenset()
    """Attempts that were recorded as never sent."""
    said: frozenset[str] = frozenset()
    """Certificates that an Event leaves to the user."""
    adopted: frozenset[str] = frozenset()
    """Certificates that a user named."""
    tampered: frozenset[str] = frozenset()
    """What other people did to the record."""
    budget: Budget = field(default_factory=Budget)

    def cert(self, certificate_id: str | None) -> Cert | None:
        return next((cert for cert in self.certs if cert.id == certificate_id), None)


Next = tuple[str, World]
"""What happened, and the world after it."""


# --- objects --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=100_000)
def parsed(text: Text) -> Body:
    """Returns the object of a text. Nobody may change it."""
    body: Body = json.loads(text)
    return body


@lru_cache(maxsize=100_000)
def resource_of(text: Text) -> Resource:
    return Resource.parse(parsed(text))


def text_of(body: Mapping[str, Any]) -> Text:
    return json.dumps(body, sort_keys=True)


@lru_cache(maxsize=100_000)
def key_of_text(text: Text) -> Key:
    return key_of(parsed(text))


def changed(body: Body, **metadata: Any) -> Body:
    """Returns a copy with changed metadata; None removes a field."""
    merged = {**body["metadata"], **metadata}
    return {**body, "metadata": {name: value for name, value in merged.items() if value is not None and value != []}}


def new_object(
    world: World, name: str, spec: Mapping[str, Any], *, status: Mapping[str, Any] | None = None, **metadata: Any
) -> World:
    """Returns the world after someone created a resource."""
    number = world.numbers + 1
    body: Body = {
        "metadata": {
            "namespace": NAMESPACE,
            "name": name,
            "uid": f"uid-{number}",
            "resourceVersion": str(number),
            "generation": 1,
            "creationTimestamp": iso(world.tick),
            **metadata,
        },
        "spec": dict(spec),
    }
    if status:
        body["status"] = dict(status)
    return replace(world, numbers=number, objects={**world.objects, name: text_of(body)})


def stored(world: World, name: str, body: Body) -> World:
    """Returns the world after an object was changed, as the API server stores it."""
    before = parsed(world.objects[name])
    if body.get("status") in ({}, None):
        body = {field: value for field, value in body.items() if field != "status"}
    if body["metadata"].get("deletionTimestamp") and not body["metadata"].get("finalizers"):
        return replace(world, objects={other: text for other, text in world.objects.items() if other != name})
    if body == before:
        return world
    number = world.numbers + 1
    generation = before["metadata"]["generation"] + (body["spec"] != before["spec"])
    body = changed(body, resourceVersion=str(number), generation=generation)
    return replace(world, numbers=number, objects={**world.objects, name: text_of(body)})


def iso(tick: int) -> str:
    return wall(tick).isoformat().replace("+00:00", "Z")


def tick_of(moment: datetime) -> int:
    return int((moment - START).total_seconds())


# --- the steps of the reconciler --------------------------------------------------------------------------------------


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
        self.error = mine.error
        self.drift_at = mine.drift_at
        self.reported = mine.reported
        self.removing = dict(mine.removing)
        self.issued = tuple(entry for entry in mine.issued if world.tick - entry[0] <= REMEMBERED)
        self.deferred = dict(mine.deferred)
        self.steps: list[str] = []
        """What was decided, for messages."""
        self.queue = _Queue()
        self.objects = Objects()
        queue: Any = self.queue
        time: Any = _Time(self.now)
        self.intake = Intake(self.objects, queue, time, self.memories.__contains__)
        for key, text in self.views.items():
            self.objects.put(parsed(text))
            self.objects._parsed[key] = resource_of(text)
        for key, since in self.reserved.items():
            self.objects.reserve_names(key, wall(since))
        for key, ids in mine.doubtful.items():
            self._hold(key, ids)
        for certificate_id, key in self.removing.items():
            self.objects.reserve_removal(key, certificate_id)

    def _hold(self, key: Key, ids: Iterable[str]) -> None:
        """As ``Objects.reserved`` begins."""
        self.objects._end_doubt(key)
        new = [certificate_id for certificate_id in ids if key not in self.objects._holders.get(certificate_id, ())]
        for certificate_id in new:
            self.objects._holders[certificate_id].add(key)
        self.objects._doubtful[key] = new

    @property
    def now(self) -> datetime:
        return wall(self.world.tick + self.error)

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
            due=self.due,
            pending=self.pending,
            reserved=self.reserved,
            lists=self.lists,
            error=self.error,
            drift_at=self.drift_at,
            reported=self.reported,
            removing=self.removing,
            issued=self.issued,
            deferred=self.deferred,
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
        self._go_on(key)
        return self.done()

    def _go_on(self, key: Key) -> None:
        """Decides, and does what needs no waiting, until the key waits or its round is over."""
        tick = self.world.tick
        for _ in range(MOST_STEPS):
            round_ = self.rounds[key]
            self.rounds[key] = replace(round_, listing=round_.listing or self.memories[key].noticed)
            resource = self.objects.get(key)
            if resource is None:
                self._after_its_end(key)
                return
            memory, note = self.memories[key].observe(resource, tick).published(resource.status)
            self.memories[key] = memory
            self._publish(note)
            facts = self._facts(resource, memory, self.rounds[key])
            decision = decide(facts)
            self.steps.append(f"{decision.policy}: {type(decision.action).__name__}")
            if self._begin(facts, decision):
                return
        raise AssertionError(f"{decision.policy} never settles")

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
            case Issue(attempt):
                return self._issue(facts, decision, attempt)
            case Get() | List() | Remove():
                return self._call(key, decision.action)
            case _:
                assert_never(decision.action)
        return True

    def _name(self, key: Key) -> str:
        return f"{'' if len(self.world.processes) == 1 else f'{self.number}.'}{key.name}"

    def _facts(self, resource: Resource, memory: Memory, round_: Round) -> Known:
        key = resource.key
        if round_.listing is not None:
            since = round_.listing.begun
            issued = [one for at, one in self.issued if at >= since and one.cns == resource.cns]
            round_ = replace(round_, listing=round_.listing.with_issued(issued))
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
            not_removable=self.objects.not_removable(key),
            clock_skew=None,
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
            self._hold(pending.key, _written_ids(pending))

    def _issue(self, facts: Known, decision: Decision, attempt: Attempt) -> bool:
        key, tick = facts.resource.key, self.world.tick
        if facts.token_hash != TOKEN_HASH:
            self.rounds[key] = self.rounds[key].with_token(TOKEN_HASH)
            return False
        assert decision.status is not None
        self.reserved[key] = tick + self.error
        self.objects.reserve_names(key, self.now)
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
            self.memories[key] = replace(memory, farewell=None, reply=None)

    # --- calls to Vercel

    def _call(self, key: Key, call: Get | List | Remove) -> bool:
        """Begins a call. Returns whether its answer has to be waited for."""
        self.rounds[key] = self.rounds[key].with_token(TOKEN_HASH)
        if isinstance(call, List) and (cached := self._cached(call.scope, call.begun_after)) is not None:
            self._heard(key, call, replace(self.rounds[key], listing=cached))
            return False
        resource = self.objects.get(key)
        if isinstance(call, Remove) and resource and call.certificate_id not in resource.status.certificate_ids:
            self._reserve_removal(key, call.certificate_id)
        self._send(Pending("call", key, self.views.get(key, ""), self.world.tick, call=call))
        return True

    def _heard(self, key: Key, call: Get | List | Remove, round_: Round) -> None:
        self.rounds[key] = round_
        self.memories[key] = self.memories[key].call_succeeded(_call_key(call))

    def _reserve_removal(self, key: Key, certificate_id: str) -> None:
        self.removing[certificate_id] = key
        self.objects.reserve_removal(key, certificate_id)

    def _cached(self, scope: Scope, begun_after: float) -> Listing | None:
        cached = self.lists.get(scope)
        return cached if cached is not None and cached.begun >= begun_after else None

    def answer(self, key: Key) -> World:
        """Vercel carries out a call, and its answer arrives."""
        pending = self.pending.pop(key)
        tick, call = self.world.tick, pending.call
        self.error = 0
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
                self.lists[scope] = Listing(pending.at, self._all(), float(tick - pending.at))
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

    def _all(self) -> tuple[Certificate, ...]:
        """All certificates at Vercel, the newest first."""
        newest_first = sorted(self.world.certs, key=lambda cert: (cert.created, _number(cert.id)), reverse=True)
        return tuple(cert.as_seen() for cert in newest_first)

    def _remove(self, certificate_id: str) -> bool:
        cert = self.world.cert(certificate_id)
        if cert is None:
            return False
        left = tuple(other for other in self.world.certs if other is not cert)
        self.world = replace(self.world, certs=left, removed=(*self.world.removed, cert))
        return True

    # --- the end of a POST, and of a resource

    def answered(self, post: Post, certificate: Certificate | None, failure: Failure | None) -> World:
        """The answer to a POST arrives, or is given up."""
        key, tick = post.key, self.world.tick
        if certificate is not None or (failure is not None and failure.fate is Fate.REFUSED):
            self.error = 0
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
                self.error = 0
                listing = self.lists[scope_key.scope] = Listing(tick, self._all())
            scope = _Scope(deferred=self.deferred.get(scope_key, frozenset()))
            _run(watch._compare(scope_key, scope, watch.judged(scope_key, listing)))
            self.deferred[scope_key] = scope.deferred
            again = min(again, int(AGAIN)) if scope.deferred else again
        self.reported = frozenset(watch._reported)
        self.drift_at = tick + again
        return self.done()

    def _notice(self, key: Key, listing: Listing) -> None:
        if key in self.memories:
            self.memories[key] = replace(self.memories[key], noticed=listing)
            self.queue.add(key)


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


def carried_out(world: World, pending: Pending) -> tuple[World, Text | None]:
    """Returns the world after the API server carried out a request, and the reply; None: a test failed."""
    key, name = pending.key, pending.key.name
    if isinstance(pending.call, Remove):
        gone = tuple(cert for cert in world.certs if cert.id == pending.call.certificate_id)
        left = tuple(cert for cert in world.certs if cert not in gone)
        return replace(world, certs=left, removed=(*world.removed, *gone)), None
    text = world.objects.get(name)
    if text is None or key_of_text(text) != key:
        return world, None
    body, base = parsed(text), parsed(pending.base)
    same = body["metadata"]["resourceVersion"] == base["metadata"]["resourceVersion"]
    if pending.status is not None:
        recorded = (base.get("status") or {}).get("attempt")
        if pending.closes and recorded:
            same = ((body.get("status") or {}).get("attempt") or {}).get("id") == recorded["id"]
        if not same:
            return world, None
        status = json.loads(pending.status)
        after = stored(world, name, {**body, "status": status})
        attempt = status.get("attempt") or {}
        if attempt.get("outcome") == "Void":
            after = replace(after, void=after.void | {attempt["id"]})
        return after, after.objects[name]
    if not same:
        return world, None
    finalizers = [one for one in body["metadata"].get("finalizers", ()) if one != FINALIZER]
    if pending.kind == "add":
        finalizers.append(FINALIZER)
    after = stored(world, name, changed(body, finalizers=finalizers))
    return after, after.objects.get(name, text)


def spend(world: World, **amounts: int) -> World:
    """Returns the world with less of a budget."""
    left = {name: getattr(world.budget, name) - amount for name, amount in amounts.items()}
    return replace(world, budget=replace(world.budget, **left))


def _version(text: Text) -> int:
    return int(parsed(text)["metadata"]["resourceVersion"])


def _call_key(call: Get | List | Remove) -> CallKey:
    key = call_of(Decision(call))
    assert key is not None
    return key


def _number(certificate_id: str) -> int:
    return int(certificate_id.partition("_")[2])


def _ids(status: Mapping[str, Any]) -> list[str]:
    current = [status["id"]] if status.get("id") else []
    return [*current, *(entry["id"] for entry in status.get("superseded", ()))]


def _written_ids(pending: Pending) -> list[str]:
    return _ids(json.loads(pending.status)) if pending.status is not None else []


def ids_of(text: Text) -> list[str]:
    """Returns the certificates that an object's status holds, the current one first."""
    return _ids(parsed(text).get("status") or {})


def started(world: World, number: int) -> World:
    """Returns the world with a new process in the place of another one. It has listed everything."""
    processes = list(world.processes)
    processes[number] = Process(drift_at=world.tick + DRIFT)
    driver = Driver(replace(world, processes=tuple(processes)), number)
    for _, text in sorted(world.objects.items()):
        driver.see(text)
    return driver.done()


def due_keys(world: World, process: Process) -> list[Key]:
    """Returns the keys that a process can begin to reconcile now."""
    return sorted(key for key, tick in process.due.items() if tick <= world.tick and not {key} & process.pending.keys())
