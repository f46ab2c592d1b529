"""Who owns a set of names: which resource may request a certificate for them.

An index, so that finding the owner reads no Secret and takes a time that doesn't grow with the number of resources.
Two resources certainly have the same scope if they name the same team, or name none and use the same token. They
certainly have different scopes if they name two teams by their ids. Otherwise they may have the same: then attempts
for the same names take turns, and a list shows whether the other one's certificate is in this scope. An attempt for
names that its resource no longer wants counts too: until its outcome is recorded, nobody else requests or uses a
certificate for them.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain, islice, zip_longest
from typing import Any, NamedTuple, TypeVar, cast

from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.index import Index
from vercel_certificate_operator.core.known import Ownership, Tick
from vercel_certificate_operator.core.resource import Key

T = TypeVar("T")

ATTEMPT_LIMIT = timedelta(hours=1)
"""How long an attempt whose outcome can't be found out holds up other resources, since this process has seen it: the
recorded time may be by a wrong clock."""

TURN_KEPT = timedelta(days=1)
"""How long a resource that has waited for its turn keeps it, while a rate limit prevents its list or its request."""

MOST_HOLDERS = 20
"""Certificates of other resources that are looked at, to find those of scopes that may be the same."""

Names = frozenset[str]


class Group(NamedTuple):
    """Resources that certainly want the same names in the same scope."""

    cns: Names
    scope: Scope
    token: Hashable
    """Which token, if the scope is the token's own account."""


class Seniority(NamedTuple):
    """The older of two resources comes first; of the same second, by uid."""

    created: str
    uid: str
    key: Key


@dataclass(frozen=True, slots=True)
class Claim:
    """What one resource claims."""

    group: Group
    seniority: Seniority
    eligible: bool
    """Whether it may become the owner: neither suspended nor being deleted."""
    certificate_id: str | None
    """The current certificate. It may be one for other names, which is to be replaced."""
    expires_at: datetime | None
    attempt_seen: Tick | None
    """When this process first saw an attempt without an outcome."""
    attempt_cns: Names = frozenset()
    """The names of that attempt. They may differ from those of the group: the user may have changed them since."""
    certificate_cns: Names = frozenset()
    """The names of the current certificate."""
    shares: bool = False
    """Whether it is recorded that others have certificates with these names."""
    deleting: bool = False
    is_here: bool = True
    """Whether the current certificate was last seen in the scope of the group. The user may have changed the scope."""
    attempts_here: bool = True
    """The same for the attempt."""

    @property
    def covers(self) -> bool:
        """Whether the current certificate is for exactly the names of the group, or for more."""
        return self.certificate_id is not None and self.group.cns <= self.certificate_cns

    def has_certificate(self, now: datetime) -> bool:
        return self.covers and self.expires_at is not None and now < self.expires_at

    def attempts(self, cns: Names, tick: Tick, limit: float) -> bool:
        """Returns whether its attempt may bring a certificate that covers these names.

        Args:
            limit: seconds after which an attempt no longer counts, since it was first seen.
        """
        return self.attempt_seen is not None and tick - self.attempt_seen < limit and cns <= self.attempt_cns

    @property
    def rank(self) -> tuple[bool, Seniority]:
        """Which of two holders is the owner: one for exactly the names, then the older resource.

        An older resource that changes its names to those of another one does not become their owner.
        """
        return (self.certificate_cns != self.group.cns, self.seniority)

    @property
    def attempted(self) -> set[Names]:
        """The sets of names for which it may be about to get a certificate."""
        return {cns for cns in (self.group.cns, self.attempt_cns) if cns}

    @property
    def held(self) -> Hashable:
        """The names of the current certificate, and where it certainly is; None: that is not known."""
        if self.certificate_id is None or not self.is_here:
            return None
        return (self.certificate_cns, self.group.scope, self.group.token)


@dataclass(slots=True)
class _Members:
    """The claims of a group: the holders by rank, the others of each namespace by age."""

    holders: list[tuple[bool, Seniority]] = field(default_factory=list)
    eligible: dict[str, list[Seniority]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.holders or self.eligible)

    @property
    def oldest(self) -> Iterator[Key]:
        """The oldest that is eligible, of each namespace."""
        return (seniors[0].key for seniors in self.eligible.values())


_NOBODY = _Members()


class _Newest(NamedTuple):
    """A certificate for some names. The one that expires last is first."""

    left: float
    certificate_id: str
    key: Key

    @classmethod
    def of(cls, key: Key, claim: Claim) -> "_Newest":
        expires = claim.expires_at.timestamp() if claim.expires_at is not None else 0.0
        return cls(-expires, claim.certificate_id or "", key)


class _Wait(NamedTuple):
    """How long a resource has waited for attempts of others."""

    cns: Names
    since: Tick
    kept_until: Tick
    """When this counts no longer, unless the resource goes on waiting: it may be a duplicate meanwhile."""


class Claims:
    """All claims, indexed by what they claim."""

    def __init__(self, monotonic: Callable[[], Tick], *, turn: float = 180.0) -> None:
        """
        Args:
            turn: seconds after which an attempt no longer holds up resources whose scope may be another: by then, a
                list of their own scope has its certificate, if that is there.
        """
        self._monotonic = monotonic
        self._turn = turn
        self._claims: dict[Key, Claim] = {}
        self._reserved: dict[Key, Tick] = {}
        self._groups: defaultdict[Group, _Members] = defaultdict(_Members)
        self._by_names: Index[Names, Group] = Index()
        # Of all scopes:
        self._attempting: Index[Names, Key] = Index()
        self._newest: defaultdict[Names, dict[str, list[_Newest]]] = defaultdict(dict)
        """By namespace."""
        self._sharing: Index[Hashable, Key] = Index()
        self._waiting: dict[Key, _Wait] = {}
        """Those who have waited for attempts of others and have made none since."""
        self._lines: defaultdict[Names, dict[str, dict[Key, None]]] = defaultdict(dict)
        """Those who wait now, by names and namespace. Who is next is first."""

    def put(self, key: Key, claim: Claim | None) -> None:
        """Notes what a resource claims now; None: nothing, since it is gone."""
        before = self._claims.pop(key, None)
        if before is not None:
            self._unindex(key, before)
        if (
            claim is None
            or before is None
            or claim.group != before.group
            or claim.attempt_seen is not None
            or (claim.covers and not before.covers)  # it needs none now
        ):
            self.stop_waiting(key)
        if claim is None:
            self._reserved.pop(key, None)
            return
        self._claims[key] = claim
        members = self._groups[claim.group]
        if self._may_hold(key, claim):
            insort(members.holders, claim.rank)
        if claim.eligible:
            insort(members.eligible.setdefault(key.namespace, []), claim.seniority)
        if members:
            self._by_names.add(claim.group.cns, claim.group)
        else:
            del self._groups[claim.group]
        if claim.attempt_seen is not None or key in self._reserved:
            for cns in claim.attempted:
                self._attempting.add(cns, key)
        if claim.covers:
            insort(self._newest[claim.group.cns].setdefault(key.namespace, []), _Newest.of(key, claim))
        if claim.held is not None:
            self._sharing.add(claim.held, key)

    def _unindex(self, key: Key, before: Claim) -> None:
        members = self._groups[before.group]
        _remove(members.holders, before.rank)
        _remove_of(members.eligible, key.namespace, before.seniority)
        if not members:
            del self._groups[before.group]
            self._by_names.discard(before.group.cns, before.group)
        for cns in before.attempted:
            self._attempting.discard(cns, key)
        newest = self._newest[before.group.cns]
        _remove_of(newest, key.namespace, _Newest.of(key, before))
        if not newest:
            del self._newest[before.group.cns]
        if before.held is not None:
            self._sharing.discard(before.held, key)

    def _may_hold(self, key: Key, claim: Claim) -> bool:
        return (
            (claim.covers and claim.is_here)
            or (claim.attempt_seen is not None and claim.attempts_here)
            or key in self._reserved
        )

    def reserve(self, key: Key) -> None:
        """Notes that a resource is about to record an attempt: no other one may, from this moment on.

        If it then can't make its request, it leaves the line: while its token is paused, the one behind it is woken.
        """
        self._reserved[key] = self._monotonic()
        self._leave_line(key)
        self.put(key, self._claims.get(key))

    def release(self, key: Key) -> None:
        """Ends a reservation: the attempt is recorded, or isn't made."""
        if self._reserved.pop(key, None) is not None:
            self.put(key, self._claims.get(key))

    def oldest(self, keys: Iterable[Key]) -> Key:
        """Returns the oldest of these resources."""
        return min(keys, key=lambda key: self._claims[key].seniority)

    def group_of(self, key: Key) -> Group | None:
        claim = self._claims.get(key)
        return claim.group if claim is not None else None

    def owner(self, key: Key, now: datetime) -> Key | None:
        """Returns the owner of a resource's names: the first that holds a certificate for them.

        If nobody holds one, each namespace has an owner: the first resource that attempts to get one, otherwise the
        oldest that may. An older resource of another namespace doesn't count: it may have no token for this scope. But
        its attempt is waited for, see ``attempting``.
        """
        claim = self._claims.get(key)
        members = self._groups.get(claim.group) if claim is not None else None
        if members is None:
            return None
        attempting: Key | None = None
        for _, senior in members.holders:
            if self._has_certificate(senior.key, now):
                return senior.key
            if attempting is None and senior.key.namespace == key.namespace and self._is_attempting(senior.key):
                attempting = senior.key
        eligible = members.eligible.get(key.namespace)
        return attempting or (eligible[0].key if eligible else None)

    def owners(self, group: Group, now: datetime) -> set[Key]:
        """Returns the owners: one resource for all namespaces, or one for each."""
        members = self._groups.get(group, _NOBODY)
        attempting: dict[str, Key] = {}
        for _, senior in members.holders:
            if self._has_certificate(senior.key, now):
                return {senior.key}
            if self._is_attempting(senior.key):
                attempting.setdefault(senior.key.namespace, senior.key)
        return {attempting.get(key.namespace, key) for key in (*members.oldest, *attempting.values())}

    def _has_certificate(self, key: Key, now: datetime) -> bool:
        claim = self._claims[key]
        return claim.is_here and claim.has_certificate(now)

    def _is_attempting(self, key: Key) -> bool:
        claim, tick, limit = self._claims[key], self._monotonic(), ATTEMPT_LIMIT.total_seconds()
        reserved = self._reserved.get(key)
        return (claim.attempts_here and claim.attempts(claim.group.cns, tick, limit)) or (
            reserved is not None and tick - reserved < limit
        )

    def may_hold(self, key: Key) -> bool:
        """Returns whether a resource has a certificate for its names, expired or not, or attempts to get one."""
        claim = self._claims.get(key)
        return claim is not None and self._may_hold(key, claim)

    def next_elsewhere(self, group: Group, now: datetime) -> list[Key]:
        """Returns the next in line in the other scopes that may be the same: of each namespace, the oldest.

        Only from groups in which nobody holds a certificate for the names or attempts to get one.
        """
        oldest: dict[str, Seniority] = {}
        for other in self._by_names.get(group.cns):
            if other == group or group.scope.certainly_differs_from(other.scope):
                continue
            members = self._groups[other]
            holders = (senior.key for _, senior in members.holders)
            if any(self._has_certificate(key, now) or self._is_attempting(key) for key in holders):
                continue
            for namespace, (first, *_) in members.eligible.items():
                oldest[namespace] = min(first, oldest.get(namespace, first))
        return [first.key for first in oldest.values()]

    def ownership(self, key: Key, now: datetime) -> Ownership:
        """Returns what stands between a resource and an attempt, as it is when it is asked for."""
        claim = self._claims.get(key)
        return Ownership() if claim is None else _OwnershipOf(self, key, claim, now)

    def attempting(self, key: Key, claim: Claim, now: datetime) -> Key | None:
        """Returns another resource, whose scope may be the same, that attempts to get a certificate.

        If it has one already, that counts. Attempts of other namespaces hold nobody up for longer than one turn, or two
        with those that begin meanwhile, however many there are: most have another account, or no token for this scope.
        Who has waited for a turn doesn't have to wait again before its attempt: a rate limit of its list or its request
        could last longer each time than the others leave it a gap.
        """
        tick = self._monotonic()
        if key in self._waiting and tick > self._waiting[key].kept_until:
            self.stop_waiting(key)
        wait = self._waiting.get(key, _Wait(claim.group.cns, tick, tick))
        since, kept_until = wait.since, max(wait.kept_until, tick + self._turn)
        has_waited = tick - since >= self._turn
        for other_key in self._attempting.get(claim.group.cns):
            other = self._claims[other_key]
            if other.group.cns == claim.group.cns and other.has_certificate(now):
                continue
            if has_waited and other_key.namespace != key.namespace:
                began = self._reserved.get(other_key, other.attempt_seen)
                if began is None or began < since + self._turn or tick - since >= 2 * self._turn:
                    continue
            if other.group == claim.group and other_key.namespace == key.namespace and other.attempts_here:
                continue  # it is the owner
            if claim.group.scope.certainly_differs_from(other.group.scope):
                continue
            if other_key != key and self._attempts(other_key, claim.group.cns, key):
                self._waiting[key] = wait._replace(kept_until=kept_until)
                self._lines[claim.group.cns].setdefault(key.namespace, {}).setdefault(key)
                return other_key
        if has_waited and key in self._waiting:
            self._waiting[key] = wait._replace(kept_until=tick + TURN_KEPT.total_seconds())
        return None

    def stop_waiting(self, key: Key) -> None:
        """Notes that what a resource has waited for is over: the next time, it waits a whole turn again."""
        self._leave_line(key)
        self._waiting.pop(key, None)

    def _leave_line(self, key: Key) -> None:
        cns = self._waiting[key].cns if key in self._waiting else Names()
        lines = self._lines.get(cns, {})
        if key not in lines.get(key.namespace, {}):
            return
        del lines[key.namespace][key]
        if not lines[key.namespace]:
            del lines[key.namespace]
        if not lines:
            del self._lines[cns]

    def next_in_line(self, cns: Names) -> list[Key]:
        """Returns who waits longest for an attempt for these names, in each namespace."""
        return [next(iter(line)) for line in self._lines.get(cns, {}).values()]

    def attempt_of(self, key: Key) -> Names | None:
        """Returns the names of a resource's attempt without an outcome; None: there is none."""
        claim = self._claims.get(key)
        return claim.attempt_cns if claim is not None and claim.attempt_seen is not None else None

    def holders(self, claim: Claim, now: datetime) -> dict[str, str]:
        """Returns the holders of certificates for the names, of scopes that may be the same.

        Those of the same namespace come first, then those of the others in turn, each time the newest. If the resource
        has a certificate itself, only those that are older. Of many, only some: a list has the others.
        """
        has_one = claim.has_certificate(now)
        found: dict[str, str] = {}
        here, by_namespace = claim.seniority.key.namespace, self._newest.get(claim.group.cns, {})
        elsewhere = islice((newest for namespace, newest in by_namespace.items() if namespace != here), MOST_HOLDERS)
        in_turn = chain.from_iterable(zip_longest(*(islice(newest, MOST_HOLDERS) for newest in elsewhere)))
        for newest in islice(filter(None, chain(by_namespace.get(here, ()), in_turn)), MOST_HOLDERS):
            other = self._claims[newest.key]
            if other.group == claim.group and other.is_here:
                continue  # it is the owner, or may become it
            if claim.group.scope.certainly_differs_from(other.group.scope):
                continue
            if other.has_certificate(now) and (not has_one or other.rank < claim.rank):
                found.setdefault(newest.certificate_id, str(newest.key))
        return found

    def shared(self, key: Key, claim: Claim) -> bool:
        """Returns whether a resource has yet to record that others have certificates with the same names."""
        if claim.held is None or claim.shares or claim.deleting:
            return False
        return any(
            self._claims[other].certificate_id != claim.certificate_id for other in self._sharing.get(claim.held)
        )

    def certificate_of(self, key: Key) -> tuple[str, Names] | None:
        """Returns the current certificate of a resource, with its names."""
        claim = self._claims.get(key)
        return (claim.certificate_id, claim.certificate_cns) if claim is not None and claim.certificate_id else None

    def unaware(self, key: Key) -> list[Key]:
        """Returns those who have a certificate with the same names as this resource's, and have not recorded it.

        Only in the same scope: what another account has is nobody's business.
        """
        claim = self._claims.get(key)
        if claim is None or claim.held is None:
            return []
        return [
            key
            for key in self._sharing.get(claim.held)
            if (other := self._claims[key]).certificate_id != claim.certificate_id
            and not other.shares
            and not other.deleting
        ]

    def attempted_elsewhere(self, key: Key, cns: Names) -> bool:
        """Returns whether another resource, whose scope may be the same, attempts to get a certificate for names."""
        claim = self._claims.get(key)
        return claim is not None and any(
            self._attempts(other, cns, key)
            for other in self._attempting.get(cns)
            if other != key and not claim.group.scope.certainly_differs_from(self._claims[other].group.scope)
        )

    def _attempts(self, key: Key, cns: Names, waiting: Key) -> bool:
        """Returns whether a resource attempts to get a certificate for names, so that another one has to wait."""
        claim = self._claims[key]
        same = key.namespace == waiting.namespace and claim.group == self._claims[waiting].group and claim.attempts_here
        limit = ATTEMPT_LIMIT.total_seconds() if same else self._turn
        return claim.attempts(cns, self._monotonic(), limit) or (key in self._reserved and claim.group.cns == cns)


def _remove_of(by_namespace: dict[str, list[T]], namespace: str, entry: T) -> None:
    ordered = by_namespace.get(namespace, [])
    _remove(ordered, entry)
    if not ordered:
        by_namespace.pop(namespace, None)


def _remove(ordered: list[T], entry: T) -> None:
    at = bisect_left(cast(list[Any], ordered), entry)
    if at < len(ordered) and ordered[at] == entry:
        del ordered[at]


class _OwnershipOf(Ownership):
    """Each fact is found when a rule asks for it: most resources need nothing, and there may be many holders."""

    def __init__(self, claims: Claims, key: Key, claim: Claim, now: datetime) -> None:
        self.__dict__.update(_claims=claims, _key=key, _claim=claim, _now=now)

    _claims: Claims
    _key: Key
    _claim: Claim
    _now: datetime

    @cached_property
    def owner(self) -> str | None:
        owner = self._claims.owner(self._key, self._now)
        if owner in (None, self._key):
            return None
        self._claims.stop_waiting(self._key)  # it is a duplicate now
        return str(owner)

    @cached_property
    def attempting(self) -> str | None:
        other = self._claims.attempting(self._key, self._claim, self._now)
        return str(other) if other is not None else None

    @cached_property
    def holders(self) -> Mapping[str, str]:
        return self._claims.holders(self._claim, self._now)

    @cached_property
    def shared(self) -> bool:
        return self._claims.shared(self._key, self._claim)
