"""The newest state of every resource, as far as it has been seen.

What a watch tells, what a list tells and what our own writes answer all goes in here; the newest resourceVersion
wins, so that the echo of our own write changes nothing, and events may come late, twice or out of order.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from vercel_certificate_operator.core.attempt import ANNOTATION
from vercel_certificate_operator.core.certificate import normalized
from vercel_certificate_operator.core.resource import Key, Resource
from vercel_certificate_operator.core.selector import Selector

K = TypeVar("K")

_METADATA = (
    "namespace",
    "name",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
    "annotations",
)
REMEMBERED_GONE = 10_000
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def key_of(body: Mapping[str, Any]) -> Key:
    """The key of an object as the API server sends it."""
    metadata = body["metadata"]
    return Key(metadata["namespace"], metadata["name"], metadata["uid"])


class Objects:
    """All resources that this instance sees: those that the selector fits. One that it fits no more is as gone."""

    def __init__(self, selector: Selector | None = None) -> None:
        self._selector = selector or Selector()
        self._bodies: dict[Key, dict[str, Any]] = {}
        self._holders: defaultdict[str, set[Key]] = defaultdict(set)
        self._named: defaultdict[frozenset[str], set[Key]] = defaultdict(set)
        self._gone: dict[Key, int] = {}

    def put(self, body: Mapping[str, Any]) -> bool:
        """Note an object's state. True if it is newer than what was known."""
        key = key_of(body)
        before = self._bodies.get(key)
        if _version(body) <= max(_version(before), self._gone.get(key, -1)):
            return False  # also what was said before it went, and comes late
        if not self._selector.matches(body["metadata"].get("labels") or {}):
            return self.drop(key, body)  # a reply to a write of ours, or a read by name: the watch wouldn't show it
        self._unindex(key, before)
        self._bodies[key] = after = _trimmed(body)
        self._named[_names(after)].add(key)
        for certificate_id in _ids(after):
            self._holders[certificate_id].add(key)
        return True

    def drop(self, key: Key, last: Mapping[str, Any] | None = None) -> bool:
        """Note that an object is gone, ``last`` being its last state. True if it was known."""
        before = self._bodies.pop(key, None)
        self._unindex(key, before)
        self._gone[key] = max(_version(before), _version(last))
        while len(self._gone) > REMEMBERED_GONE:
            del self._gone[next(iter(self._gone))]
        return before is not None

    def get(self, key: Key) -> Resource | None:
        """The newest state; None when it is gone."""
        body = self._bodies.get(key)
        return Resource.parse(body) if body is not None else None

    def keys(self) -> tuple[Key, ...]:
        return tuple(self._bodies)

    def __contains__(self, key: Key) -> bool:
        return key in self._bodies

    def __len__(self) -> int:
        return len(self._bodies)

    def held_by_others(self, key: Key) -> "HeldByOthers":
        """The ids of certificates that stand in the statuses of all resources but this one."""
        return HeldByOthers(self._holders, key)

    @contextmanager
    def claimed(self, key: Key, certificate_ids: Iterable[str]) -> Iterator[None]:
        """Certificates that are about to stand in a status: until they do, no other resource may take them."""
        new = [certificate_id for certificate_id in certificate_ids if key not in self._holders.get(certificate_id, ())]
        for certificate_id in new:
            self._holders[certificate_id].add(key)
        try:
            yield
        finally:
            written = set(_ids(self._bodies.get(key, {})))
            for certificate_id in set(new) - written:
                _discard(self._holders, certificate_id, key)

    def names(self, key: Key) -> frozenset[str] | None:
        """The wanted names of an object; None when it is gone."""
        body = self._bodies.get(key)
        return _names(body) if body is not None else None

    def with_names(self, names: frozenset[str]) -> list[Key]:
        """The objects that want exactly these names, the oldest first.

        Of those that were made in the same second, one for which a certificate was asked already, then by uid.
        """
        return sorted(self._named.get(names, ()), key=self._age)

    def _age(self, key: Key) -> tuple[str, bool, str]:
        metadata, status = self._bodies[key]["metadata"], self._bodies[key]["status"] or {}
        asked = bool(status.get("id") or status.get("attempt") or ANNOTATION in (metadata.get("annotations") or {}))
        return metadata["creationTimestamp"], not asked, key.uid

    def bodies(self) -> tuple[tuple[Key, Mapping[str, Any]], ...]:
        """All objects as the API server sends them, but for what nobody here reads."""
        return tuple(self._bodies.items())

    def _unindex(self, key: Key, body: Mapping[str, Any] | None) -> None:
        if body is None:
            return
        _discard(self._named, _names(body), key)
        for certificate_id in _ids(body):
            _discard(self._holders, certificate_id, key)


class HeldByOthers:
    """A container of certificate ids, without a copy of them all."""

    __slots__ = ("_holders", "_key")

    def __init__(self, holders: Mapping[str, set[Key]], key: Key) -> None:
        self._holders = holders
        self._key = key

    def __contains__(self, certificate_id: object) -> bool:
        holders = self._holders.get(certificate_id) if isinstance(certificate_id, str) else None
        return holders is not None and bool(holders - {self._key})


def _version(body: Mapping[str, Any] | None) -> int:
    # Comparable within one kind of resource, as Kubernetes promises since 1.35, and as etcd always made them.
    return int(body["metadata"]["resourceVersion"]) if body is not None else -1


def _discard(index: dict[K, set[Key]], entry: K, key: Key) -> None:
    keys = index.get(entry)
    if keys is not None:
        keys.discard(key)
        if not keys:
            del index[entry]


def _names(body: Mapping[str, Any]) -> frozenset[str]:
    return normalized((body.get("spec") or {}).get("cns") or ())


def _ids(body: Mapping[str, Any]) -> Iterator[str]:
    status = body.get("status") or {}
    if status.get("id"):
        yield status["id"]
    yield from status.get("supersededIDs") or ()


def _trimmed(body: Mapping[str, Any]) -> dict[str, Any]:
    # Managed fields and the last applied configuration are most of an object's size, and nothing here reads them.
    metadata = {name: body["metadata"][name] for name in _METADATA if name in body["metadata"]}
    if _LAST_APPLIED in (metadata.get("annotations") or {}):
        metadata["annotations"] = {k: v for k, v in metadata["annotations"].items() if k != _LAST_APPLIED}
    return {"metadata": metadata, "spec": body.get("spec"), "status": body.get("status")}
