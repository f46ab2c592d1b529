"""A small world, as a value: resources, a Vercel with a few certificates, and processes of the operator.

``driver`` moves the processes, ``others`` has what other people do, ``steps`` lists everything that can happen next.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.known import Decision, Get, Limits, List, Listing, Remove
from vercel_certificate_operator.core.memory import Memory, Round
from vercel_certificate_operator.core.record import Attempt
from vercel_certificate_operator.core.resource import FINALIZER, Key, Resource
from vercel_certificate_operator.core.sightings import ScopeKey
from vercel_certificate_operator.objects import key_of

Text = str
"""An object as JSON. Texts are compared and hashed; ``parsed`` has the object."""
Body = dict[str, Any]

NAMESPACE = "web"
START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
"""Vercel's time at tick 0."""
TOKEN_HASH = "token"
LIMITS = Limits()
POST_LIMIT = int(LIMITS.post.total_seconds())
DRIFT = 6 * 3600
LIFETIME = 90 * 86400


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
    listed: tuple[Certificate, ...] = ()
    """Of a list: what Vercel had when it was sent."""


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
    steps: Mapping[Key, int] = field(default_factory=dict)
    """How many steps these rounds have taken."""
    due: Mapping[Key, int] = field(default_factory=dict)
    pending: Mapping[Key, Pending] = field(default_factory=dict)
    """What each key waits for. Between two waits, a key is done with at once."""
    reserved: Mapping[Key, int] = field(default_factory=dict)
    """Names that are reserved, since when."""
    lists: Mapping[Scope, Listing] = field(default_factory=dict)
    issued: tuple[tuple[int, Certificate], ...] = ()
    """What it was issued lately."""
    heard: bool = False
    """Whether Vercel has answered: before that, the API server's clock counts."""
    drift_at: int = DRIFT
    attempts: Mapping[Key, Any] = field(default_factory=dict)
    """The open attempt of each resource, and when it was first seen."""
    left: tuple[str, ...] = ()
    """Certificates that resources held which are gone."""
    removed: Mapping[str, float] = field(default_factory=dict)
    """Certificates that it removed, and when."""
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
    clocks: int = 0
    """Steps of the API server's clock."""
    jumps: int = 20
    """Times that time passes until something is due."""
    certificates: int = 3
    """Certificates that there may be at Vercel."""


@dataclass(frozen=True, slots=True)
class World:
    """The state of everything."""

    tick: int = 0
    ahead: int = 0
    """Seconds by which the API server's clock is ahead of Vercel's."""
    objects: Mapping[str, Text] = field(default_factory=dict)
    """By name."""
    past: Mapping[str, Text | None] = field(default_factory=dict)
    """The state of each object before its last change; None: there was none."""
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
    warned: frozenset[Key] = frozenset()
    """Resources whose last Event asks the user to check Vercel, or was lost in a crash."""
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
            "creationTimestamp": iso(world.tick + world.ahead),
            **metadata,
        },
        "spec": dict(spec),
    }
    if status:
        body["status"] = dict(status)
    return _with_object(replace(world, numbers=number), name, text_of(body))


def _with_object(world: World, name: str, text: Text | None) -> World:
    """Returns the world with a new state of an object; None: it is gone."""
    others = {other: state for other, state in world.objects.items() if other != name}
    objects = others if text is None else {**others, name: text}
    return replace(world, objects=objects, past={**world.past, name: world.objects.get(name)})


def without_object(world: World, name: str) -> World:
    return _with_object(world, name, None)


def stored(world: World, name: str, body: Body) -> World:
    """Returns the world after an object was changed, as the API server stores it."""
    before = parsed(world.objects[name])
    if body.get("status") in ({}, None):
        body = {field: value for field, value in body.items() if field != "status"}
    if body["metadata"].get("deletionTimestamp") and not body["metadata"].get("finalizers"):
        return without_object(world, name)
    if body == before:
        return world
    number = world.numbers + 1
    generation = before["metadata"]["generation"] + (body["spec"] != before["spec"])
    body = changed(body, resourceVersion=str(number), generation=generation)
    return _with_object(replace(world, numbers=number), name, text_of(body))


def iso(tick: int) -> str:
    return wall(tick).isoformat().replace("+00:00", "Z")


def tick_of(moment: datetime) -> int:
    return int((moment - START).total_seconds())


def _ids(status: Mapping[str, Any]) -> list[str]:
    current = [status["id"]] if status.get("id") else []
    return [*current, *(entry["id"] for entry in status.get("superseded", ()))]


def written_ids(pending: Pending) -> list[str]:
    """Returns the certificates in the status that a request writes."""
    return _ids(json.loads(pending.status)) if pending.status is not None else []


def ids_of(text: Text) -> list[str]:
    """Returns the certificates that an object's status holds, the current one first."""
    return _ids(parsed(text).get("status") or {})


# --- the API server ---------------------------------------------------------------------------------------------------


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
