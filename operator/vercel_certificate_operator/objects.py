"""The newest known state of every resource, and indexes of it.

Each object is kept as JSON text. As dictionaries, it would take five times the memory, and the garbage collector would
go through all of them again and again.

What a watch, a list and the replies to our own writes say all goes in here. The newest resourceVersion wins, so the
echo of our own write changes nothing, and events may come late, twice or out of order.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from vercel_certificate_operator.core.certificate import LONGEST_ID, Scope, normalized
from vercel_certificate_operator.core.index import Index
from vercel_certificate_operator.core.known import Listing, Ownership, Tick
from vercel_certificate_operator.core.ownership import Claim, Claims, Group, Seniority
from vercel_certificate_operator.core.record import Origin, is_from, is_same_token, scope_of_team
from vercel_certificate_operator.core.resource import (
    ADOPT_ANNOTATION,
    FINALIZER,
    RENEW_ANNOTATION,
    Key,
    Resource,
)
from vercel_certificate_operator.core.selector import Selector
from vercel_certificate_operator.core.sightings import Place, ScopeKey
from vercel_certificate_operator.core.times import LIST_LAG
from vercel_certificate_operator.kube.vercel_certificates import FINALIZERS_KEPT

Body = Mapping[str, Any]

_METADATA = (
    "namespace",
    "name",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
)
_ANNOTATIONS = (RENEW_ANNOTATION, ADOPT_ANNOTATION)
"""All that is read. Others can be most of an object's size."""
LONGEST_RENEW_REQUEST = 256
"""Characters of the renew annotation. Of a longer value, a hash is kept: it is written back, several times."""
REMEMBERED_GONE = 10_000
MOST_BEING_REMOVED = 1_000
LIST_LIMIT = 120.0
"""Seconds that a list may take: what was stored after it began is newer."""
PARSED = 128
"""Parsed resources that are kept: those in work."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """One object, and what of it must be found without parsing."""

    key: Key
    """The same in all indexes: the strings of each copy would take memory too."""
    version: int
    at: Tick
    """When it was stored."""
    text: str
    current: str | None
    """The current certificate."""
    token_hash: str | None
    """With which token that was last seen, if it is in the token's own account."""
    certificate_ids: tuple[str, ...]
    """All that it holds. None if it is released: see ``_is_released``."""
    scope_key: ScopeKey | None
    """None also if it is released."""
    deleting: bool

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.text)
        return body


class _OpenAttempt(NamedTuple):
    id: str
    seen: Tick
    """When it was first seen."""
    cns: frozenset[str]
    team: str | None
    token_hash: object


@dataclass(frozen=True, slots=True)
class _Gone:
    version: int
    at: Tick


_UNKNOWN = _Gone(-1, float("-inf"))


def key_of(body: Body) -> Key:
    """Returns the key of an object as the API server sends it."""
    metadata = body["metadata"]
    return Key(metadata["namespace"], metadata["name"], metadata["uid"])


class Objects:
    """All resources that this instance serves. An object that stops matching the selector counts as deleted."""

    def __init__(
        self,
        selector: Selector | None = None,
        default_scope: Scope | None = None,
        monotonic: Callable[[], float] = lambda: 0.0,
        turn: float = 180.0,
    ) -> None:
        """
        Args:
            default_scope: the scope of resources without a team.
            monotonic: returns the monotonic time in seconds.
            turn: see ``Claims``.
        """
        self._monotonic = monotonic
        self._selector = selector or Selector()
        self._default_scope = default_scope or Scope()
        self._stored: dict[Key, _Stored] = {}
        self._parsed: OrderedDict[Key, Resource] = OrderedDict()
        self._holders: Index[str, Key] = Index()
        self._members: Index[ScopeKey, Key] = Index()
        self._claims = Claims(monotonic, turn=turn)
        self._attempts_seen: dict[Key, _OpenAttempt] = {}
        self._open_in: Index[str, Key] = Index()
        """By the ids of open attempts."""
        self._gone: dict[Key, _Gone] = {}
        self._being_removed: OrderedDict[str, Key] = OrderedDict()
        self._doubtful: dict[Key, list[str]] = {}
        self._left: OrderedDict[str, str | None] = OrderedDict()
        """Certificates that resources held which are gone or released, with the newest attempt that they recorded."""
        self._removed: OrderedDict[str, Tick] = OrderedDict()
        """Certificates that this process removed, and when."""
        self.deserted: Callable[[ScopeKey], None] = lambda scope_key: None
        """Called with each scope that no resource has any longer."""

    # --- the objects

    def put(self, body: Body) -> bool:
        """Notes an object's state. Returns whether it is newer than what was known."""
        return self.is_newer(body) and self._store(key_of(body), body)

    def is_newer(self, body: Body) -> bool:
        """Returns whether an object's state is newer than what is known.

        It isn't if it was sent before the object was deleted, and comes late.
        """
        return _version(body) > self._last(key_of(body)).version

    def put_listed(self, body: Body) -> bool:
        """Notes an object's state from a complete list. Returns whether it is news."""
        if not self.is_listed_news(body):
            return False
        key = key_of(body)
        self._gone.pop(key, None)
        return self._store(key, body)

    def is_listed_news(self, body: Body) -> bool:
        """Returns whether an object's state from a complete list, which is true whatever its resourceVersions, is news.

        etcd may have been restored from a backup: then they are lower than before. What was stored a moment ago is
        newer than the list, though.
        """
        key, version = key_of(body), _version(body)
        before = self._last(key)
        if key in self._stored and version == before.version:
            return False
        return version >= before.version or self._monotonic() - before.at >= LIST_LIMIT

    def _last(self, key: Key) -> _Stored | _Gone:
        return self._stored.get(key) or self._gone.get(key, _UNKNOWN)

    def put_read(self, body: Body, version: str) -> bool:
        """Notes an object's state from a read that was begun when its state with this resourceVersion was known.

        An older one is true then: etcd has been restored from a backup.
        """
        if _version(body) >= int(version):
            return self.put(body)
        key = key_of(body)
        self._gone.pop(key, None)
        return self._store(key, body)

    def _store(self, key: Key, body: Body) -> bool:
        if not self._selector.matches(body["metadata"].get("labels") or {}):
            return self.drop(key, body)  # a reply to a write of ours, or a read by name: the watch wouldn't show it
        before = self._unindex(key)
        key = before.key if before is not None else key
        after = _trimmed(body)
        released = _is_released(after["metadata"])
        stored = self._stored[key] = _Stored(
            key=key,
            version=_version(body),
            at=self._monotonic(),
            text=json.dumps(after, separators=(",", ":")),
            current=after["status"].get("id"),
            token_hash=None if after["status"].get("team") else after["status"].get("tokenHash"),
            certificate_ids=() if released else tuple(_ids(after["status"])),
            scope_key=None if released else scope_key_of(key, after),
            deleting=bool(after["metadata"].get("deletionTimestamp")),
        )
        if released and before is not None:
            self._leave(before)
        for certificate_id in stored.certificate_ids:
            self._holders.add(certificate_id, key)
        if stored.scope_key is not None:
            self._members.add(stored.scope_key, key)
        self._check_deserted(before)
        attempt_seen = self._attempt_seen(key, after)
        if attempt_seen is not None and not released:
            self._open_in.add(attempt_seen.id, key)
        self._claims.put(key, _claim(key, after, self._default_scope, None if released else attempt_seen, released))
        return True

    def _attempt_seen(self, key: Key, body: Body) -> _OpenAttempt | None:
        """Returns the attempt without an outcome that an object records, or recorded until somebody wiped its status.

        The operator never removes an attempt from status. So what came of this one is still to be recorded.
        """
        attempt = body["status"].get("attempt")
        if not isinstance(attempt, dict):
            return self._attempts_seen.get(key)
        if attempt.get("outcome"):
            self._attempts_seen.pop(key, None)
            return None
        attempt_id = str(attempt.get("id"))
        before = self._attempts_seen.get(key)
        if before is None or before.id != attempt_id:
            cns = normalized(attempt.get("cns") or body["spec"].get("cns") or ())
            before = self._attempts_seen[key] = _OpenAttempt(
                attempt_id, self._monotonic(), cns, attempt.get("team"), attempt.get("tokenHash")
            )
        return before

    def drop(self, key: Key, last: Body | None = None) -> bool:
        """Notes that an object is gone; ``last`` is its last state. Returns whether it was known."""
        before = self._unindex(key)
        if before is not None:
            self._leave(before)
        self._check_deserted(before)
        self._stored.pop(key, None)
        self._claims.put(key, None)
        self._attempts_seen.pop(key, None)
        version = _version(last) if last is not None else -1
        self._gone[key] = _Gone(max(version, before.version if before is not None else -1), self._monotonic())
        while len(self._gone) > REMEMBERED_GONE:
            del self._gone[next(iter(self._gone))]
        return before is not None

    def get(self, key: Key) -> Resource | None:
        """Returns the newest state; None if it is gone."""
        stored = self._stored.get(key)
        if stored is None:
            return None
        resource = self._parsed.get(key)
        if resource is None:
            resource = self._parsed[key] = Resource.parse(stored.body)
            if len(self._parsed) > PARSED:
                self._parsed.popitem(last=False)
        return resource

    def body(self, key: Key) -> Body | None:
        """Returns an object as the API server sends it, without what the operator doesn't read."""
        stored = self._stored.get(key)
        return stored.body if stored is not None else None

    def bodies(self) -> "Bodies":
        """Returns all objects, like ``body``."""
        return Bodies(tuple(self._stored.values()))

    def held_since(self, key: Key, begun: Tick) -> str | None:
        """Returns the current certificate of a resource that isn't being deleted, if its state is older than a time."""
        stored = self._stored.get(key)
        return stored.current if stored is not None and not stored.deleting and stored.at < begun else None

    def seen_with(self, key: Key, token_hash: str) -> bool:
        """Returns whether a resource's certificate was last seen with this token, as far as that is recorded."""
        stored = self._stored.get(key)
        return stored is not None and (stored.token_hash is None or is_same_token(stored.token_hash, token_hash))

    def scope_key(self, key: Key) -> ScopeKey | None:
        """Returns where the resource's certificate is, or was requested; see ``scope_key_of``."""
        stored = self._stored.get(key)
        return stored.scope_key if stored is not None else None

    def keys(self) -> tuple[Key, ...]:
        return tuple(self._stored)

    def __contains__(self, key: Key) -> bool:
        return key in self._stored

    def __len__(self) -> int:
        return len(self._stored)

    # --- certificates

    def held_elsewhere(self, key: Key) -> "HeldElsewhere":
        """Returns the ids of the certificates that all resources but this one hold."""
        return HeldElsewhere(self, key)

    def not_removable(self, key: Key) -> "NotRemovable":
        """Returns those of them whose holder stays, or would not remove them itself."""
        return NotRemovable(self, key)

    def holders(self, certificate_id: str) -> frozenset[Key]:
        """Returns the resources that hold a certificate: their statuses name it, and they are not released."""
        return frozenset(self._holders.get(certificate_id))

    @contextmanager
    def reserved(self, key: Key, certificate_ids: Iterable[str]) -> Iterator[None]:
        """Reserves certificates that are about to be in a status: until they are, no other resource may take them.

        If the write raises, nobody knows whether it happened. Then they stay reserved until the resource is seen again.
        """
        self.reserve(key, certificate_ids)
        yield
        self._end_doubt(key)

    def reserve(self, key: Key, certificate_ids: Iterable[str]) -> None:
        """Reserves certificates, and the resource's names, until it is seen again; see ``reserved``."""
        self._end_doubt(key)
        new = [certificate_id for certificate_id in certificate_ids if key not in self._holders.get(certificate_id)]
        for certificate_id in new:
            self._holders.add(certificate_id, key)
        self._doubtful[key] = new
        if new:
            self._claims.reserve(key)

    def _end_doubt(self, key: Key) -> None:
        stored = self._stored.get(key)
        doubtful = self._doubtful.pop(key, ())
        if doubtful:
            self._claims.release(key)
        for certificate_id in doubtful:
            if stored is None or certificate_id not in stored.certificate_ids:
                self._holders.discard(certificate_id, key)

    def reserve_removal(self, key: Key, certificate_id: str) -> None:
        """Notes that a certificate in no status is about to be removed: from now on, no resource may take it.

        A resource may have read it a moment before the removal, and gets the answer a moment after. So the reservation
        doesn't end with the removal, but when it is one of many.
        """
        self._being_removed[certificate_id] = key
        self._holders.add(certificate_id, key)
        if len(self._being_removed) > MOST_BEING_REMOVED:
            self._holders.discard(*self._being_removed.popitem(last=False))

    def _check_deserted(self, before: _Stored | None) -> None:
        if before is not None and before.scope_key is not None and before.scope_key not in self._members:
            self.deserted(before.scope_key)

    def _leave(self, before: _Stored) -> None:
        attempt = before.body["status"].get("attempt") if before.certificate_ids else None
        attempt_id = str(attempt.get("id")) if isinstance(attempt, dict) else None
        for certificate_id in before.certificate_ids:
            self._left[certificate_id] = attempt_id if certificate_id == before.current else None
        while len(self._left) > REMEMBERED_GONE:
            self._left.popitem(last=False)

    @property
    def left_behind(self) -> Mapping[str, str | None]:
        """The ids of certificates that resources held which are gone: they renew no other certificate.

        With the attempt that brought them, as far as that is known.
        """
        return self._left

    def note_removal(self, certificate_id: str) -> None:
        """Notes that a certificate was removed at Vercel now."""
        self._removed.pop(certificate_id, None)
        self._removed[certificate_id] = self._monotonic()
        while len(self._removed) > REMEMBERED_GONE:
            self._removed.popitem(last=False)

    def without_removed(self, listing: Listing) -> Listing:
        """Returns a list without the certificates that were removed since it was begun, or so shortly before that."""
        return replace(listing, removed=RemovedSince(self._removed, listing.begun - LIST_LAG.total_seconds()))

    # --- names

    def ownership(self, key: Key, now: datetime) -> Ownership:
        """Returns who may request a certificate for this resource's names; see ``core.ownership``."""
        return self._claims.ownership(key, now)

    def attempted_elsewhere(self, key: Key) -> "AttemptedElsewhere":
        """Returns the sets of names for which another resource has an attempt without an outcome."""
        return AttemptedElsewhere(self._claims, key)

    def group(self, key: Key) -> Group | None:
        """Returns the resource's names and scope, as far as ownership counts."""
        return self._claims.group_of(key)

    def owners(self, group: Group, now: datetime) -> set[Key]:
        """Returns who may request a certificate for these names in a scope: one resource, or one for each namespace."""
        return self._claims.owners(group, now)

    def holds_names(self, key: Key) -> bool:
        """Returns whether a resource has a certificate for its names, or attempts to get one."""
        return self._claims.may_hold(key)

    def certificate_of(self, key: Key) -> tuple[str, frozenset[str]] | None:
        """Returns the current certificate of a resource, with its names."""
        return self._claims.certificate_of(key)

    def unaware(self, key: Key) -> list[Key]:
        """Returns those who have a certificate with the same names as this resource's, and have not recorded it."""
        return self._claims.unaware(key)

    def attempt_of(self, key: Key) -> frozenset[str] | None:
        """Returns the names of a resource's attempt without an outcome; None: there is none."""
        return self._claims.attempt_of(key)

    def copied_attempt(self, key: Key, sent: Callable[[Key], bool] = lambda key: False) -> str | None:
        """Returns the id of a resource's open attempt if an older resource has the same one: this one is a copy.

        Args:
            sent: returns whether this process sent the open attempt of a resource. Then that is the original, whatever
                the API server's clock said when it was created.
        """
        attempt = self._attempts_seen.get(key)
        if attempt is None or len(having := self._open_in.get(attempt.id)) < 2 or key not in having:
            return None
        original = next((other for other in having if sent(other)), None) or self._claims.oldest(having)
        return attempt.id if original != key else None

    def next_in_line(self, cns: frozenset[str]) -> list[Key]:
        """Returns who waits longest for an attempt for these names, in each namespace."""
        return self._claims.next_in_line(cns)

    def next_elsewhere(self, group: Group, now: datetime) -> list[Key]:
        """Returns who may take over names that a resource holds no longer, in scopes that may be the same."""
        return self._claims.next_elsewhere(group, now)

    def reserve_names(self, key: Key) -> None:
        """Notes that a resource is about to record an attempt for its names."""
        self._claims.reserve(key)

    def release_names(self, key: Key) -> None:
        """Ends that reservation."""
        self._claims.release(key)

    # --- scopes

    def members(self, scope_key: ScopeKey) -> tuple[Key, ...]:
        """Returns the resources that have, or have requested, a certificate in a scope with this token."""
        return tuple(self._members.get(scope_key))

    def _unindex(self, key: Key) -> _Stored | None:
        self._end_doubt(key)
        self._parsed.pop(key, None)
        stored = self._stored.get(key)
        if (attempt := self._attempts_seen.get(key)) is not None:
            self._open_in.discard(attempt.id, key)
        if stored is not None:
            for certificate_id in stored.certificate_ids:
                self._holders.discard(certificate_id, key)
            if stored.scope_key is not None:
                self._members.discard(stored.scope_key, key)
        return stored


class Bodies:
    """All objects at one moment. Each is parsed when its turn comes."""

    __slots__ = ("_stored",)

    def __init__(self, stored: tuple[_Stored, ...] = ()) -> None:
        self._stored = stored

    def __iter__(self) -> Iterator[tuple[Key, Body]]:
        return ((stored.key, stored.body) for stored in self._stored)


class HeldElsewhere:
    """A container of certificate ids, without a copy of them all."""

    __slots__ = ("_key", "_objects")

    def __init__(self, objects: Objects, key: Key) -> None:
        self._objects = objects
        self._key = key

    def __contains__(self, certificate_id: object) -> bool:
        return isinstance(certificate_id, str) and bool(self._objects.holders(certificate_id) - {self._key})


class RemovedSince:
    """A container of the ids of certificates that were removed after a time, without a copy of them all."""

    __slots__ = ("_begun", "_removed")

    def __init__(self, removed: Mapping[str, Tick], begun: Tick) -> None:
        self._removed = removed
        self._begun = begun

    def __contains__(self, certificate_id: object) -> bool:
        at = self._removed.get(certificate_id) if isinstance(certificate_id, str) else None
        return at is not None and at >= self._begun


class AttemptedElsewhere:
    """A container of sets of names, without a copy of them all."""

    __slots__ = ("_claims", "_key")

    def __init__(self, claims: Claims, key: Key) -> None:
        self._claims = claims
        self._key = key

    def __contains__(self, cns: object) -> bool:
        return isinstance(cns, frozenset) and self._claims.attempted_elsewhere(self._key, cns)


class NotRemovable(HeldElsewhere):
    """Of these ids, the ones that nobody else removes."""

    def __contains__(self, certificate_id: object) -> bool:
        if not isinstance(certificate_id, str):
            return False
        others = self._objects.holders(certificate_id) - {self._key}
        return any(not _removes_itself(self._objects.body(other), certificate_id) for other in others)


def _removes_itself(body: Body | None, certificate_id: str) -> bool:
    """Returns whether a resource is being deleted and removes a certificate that its status names."""
    if body is None:
        return False
    metadata, spec, status = body["metadata"], body["spec"], body["status"]
    if not metadata.get("deletionTimestamp") or _is_released(metadata):
        return False
    if spec.get("suspend") or spec.get("deletionPolicy", "Delete") != "Delete":
        return False
    origins = {entry.get("id"): entry.get("origin") for entry in _superseded(status)}
    origins[status.get("id")] = status.get("origin")
    return origins.get(certificate_id) in (Origin.ISSUED, Origin.ADOPTED)


def scope_key_of(key: Key, body: Body) -> ScopeKey | None:
    """Returns where the resource's certificate is, or was requested; None if there was no attempt yet."""
    status = body.get("status") or {}
    attempt = status.get("attempt")
    if status.get("id"):
        team = status.get("team")
    elif isinstance(attempt, dict):
        team = attempt.get("team")
    else:
        return None
    return ScopeKey(place_of(key.namespace, body), scope_of_team(team))


def place_of(namespace: str, body: Body) -> Place | None:
    """Returns where the resource's token is; None: it uses the default token."""
    ref = (body.get("spec") or {}).get("tokenSecretRef")
    return (namespace, ref["name"], ref.get("key") or "token") if ref else None


def _is_released(metadata: Body) -> bool:
    """Returns whether the operator is done with a resource: it is being deleted, and only others' finalizers hold it.

    It holds nothing any longer, whatever its status says.
    """
    return bool(metadata.get("deletionTimestamp")) and FINALIZER not in (metadata.get("finalizers") or ())


def _claim(key: Key, body: Body, default_scope: Scope, attempt: _OpenAttempt | None, released: bool) -> Claim:
    metadata, spec, status = body["metadata"], body["spec"], body["status"]
    cns = normalized(spec.get("cns") or ())
    team = spec.get("team")
    scope = Scope(team_id=team.get("id"), team_slug=team.get("slug")) if team else default_scope
    deleting = bool(metadata.get("deletionTimestamp"))
    certificate_id = None if released else status.get("id") or None
    certificate_cns = normalized(status.get("cns") or ()) if certificate_id is not None else frozenset[str]()
    place = place_of(key.namespace, body)

    def is_here(team: str | None, token_hash: object) -> bool:
        return scope_of_team(team) == scope and (scope.team is not None or is_from(token_hash, place))

    return Claim(
        group=Group(cns, scope, None if scope.team else ("token", place)),
        seniority=Seniority(metadata["creationTimestamp"], key.uid, key),
        eligible=not deleting and not spec.get("suspend"),
        certificate_id=certificate_id,
        expires_at=time_of(status.get("expiresAt")),
        attempt_seen=attempt.seen if attempt is not None else None,
        attempt_cns=attempt.cns if attempt is not None else frozenset(),
        attempts_here=attempt is None or is_here(attempt.team, attempt.token_hash),
        is_here=is_here(status.get("team"), status.get("tokenHash")),
        certificate_cns=cns if certificate_cns == cns else certificate_cns,  # the same object: there are many
        shares=bool(status.get("sharedNames")),
        deleting=deleting,
    )


def time_of(text: object) -> datetime | None:
    """Returns the time that a field of an object says; None: it says none that can be read."""
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _version(body: Body) -> int:
    # Comparable within one kind of resource, as Kubernetes promises since 1.35, and as etcd always made them.
    return int(body["metadata"]["resourceVersion"])


def _ids(status: Body) -> Iterator[str]:
    if status.get("id"):
        yield status["id"]
    for entry in _superseded(status):
        if entry.get("id"):
            yield entry["id"]


def _superseded(status: Body) -> list[dict[str, Any]]:
    entries = status.get("superseded") or ()
    return [entry for entry in entries if isinstance(entry, dict)]


def _trimmed(body: Body) -> dict[str, Any]:
    metadata = {name: body["metadata"][name] for name in _METADATA if name in body["metadata"]}
    if finalizers := metadata.get("finalizers"):
        others = [finalizer for finalizer in finalizers if finalizer != FINALIZER]
        if len(others) > FINALIZERS_KEPT:  # the patch that changes them reads them again
            ours = [FINALIZER] if FINALIZER in finalizers else []
            metadata["finalizers"] = [*others[:FINALIZERS_KEPT], *ours]
    annotations = body["metadata"].get("annotations") or {}
    if kept := {name: annotations[name] for name in _ANNOTATIONS if name in annotations}:
        if len(request := kept.get(RENEW_ANNOTATION, "")) > LONGEST_RENEW_REQUEST:
            kept[RENEW_ANNOTATION] = f"sha256:{hashlib.sha256(request.encode(errors='surrogatepass')).hexdigest()}"
        if len(wanted := kept.get(ADOPT_ANNOTATION, "")) > LONGEST_ID:
            kept[ADOPT_ANNOTATION] = wanted[: LONGEST_ID + 1]  # still too long for the core
        metadata["annotations"] = kept
    return {"metadata": metadata, "spec": body.get("spec") or {}, "status": body.get("status") or {}}
