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
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple

from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.known import Ownership, Tick
from vercel_certificate_operator.core.resource import Key

ATTEMPT_LIMIT = timedelta(hours=1)
"""How long an attempt whose outcome can't be found out holds up other resources, since this process has seen it: the
recorded time may be by a wrong clock."""

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

    def holds(self, now: datetime, tick: Tick) -> bool:
        """Returns whether it holds an unexpired certificate for the names, or may be about to."""
        return self.has_certificate(now) or self.attempts(self.group.cns, tick)

    @property
    def covers(self) -> bool:
        """Whether the current certificate is for exactly the names of the group, or for more."""
        return self.certificate_id is not None and self.group.cns <= self.certificate_cns

    def has_certificate(self, now: datetime) -> bool:
        return self.covers and self.expires_at is not None and now < self.expires_at

    def attempts(self, cns: Names, tick: Tick) -> bool:
        """Returns whether its attempt may bring a certificate that covers these names."""
        return self.attempts_within(ATTEMPT_LIMIT.total_seconds(), cns, tick)

    def attempts_within(self, limit: float, cns: Names, tick: Tick) -> bool:
        """Returns the same, of an attempt that was first seen no more than so many seconds ago."""
        return self.attempt_seen is not None and tick - self.attempt_seen < limit and cns <= self.attempt_cns

    @property
    def names(self) -> set[Names]:
        """The sets of names for which it has a certificate or may get one."""
        return {cns for cns in (self.group.cns, self.attempt_cns, self.certificate_cns) if cns}


@dataclass(slots=True)
class _Members:
    """The claims of a group, the oldest first."""

    holders: list[Seniority] = field(default_factory=list)
    eligible: list[Seniority] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.holders or self.eligible)


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
        self._by_names: defaultdict[Names, set[Group]] = defaultdict(set)
        self._holding: defaultdict[Names, dict[Key, None]] = defaultdict(dict)  # of all scopes

    def put(self, key: Key, claim: Claim | None) -> None:
        """Notes what a resource claims now; None: nothing, since it is gone."""
        before = self._claims.pop(key, None)
        if before is not None:
            self._unindex(key, before)
        if claim is None:
            self._reserved.pop(key, None)
            return
        self._claims[key] = claim
        members = self._groups[claim.group]
        if self._may_hold(key, claim):
            insort(members.holders, claim.seniority)
        if claim.certificate_id is not None or self._may_hold(key, claim):
            for cns in claim.names:
                self._holding[cns][key] = None
        if claim.eligible:
            insort(members.eligible, claim.seniority)
        if members:
            self._by_names[claim.group.cns].add(claim.group)
        else:
            del self._groups[claim.group]

    def _unindex(self, key: Key, before: Claim) -> None:
        members = self._groups[before.group]
        for ordered in (members.holders, members.eligible):
            at = bisect_left(ordered, before.seniority)
            if at < len(ordered) and ordered[at] == before.seniority:
                del ordered[at]
        if not members:
            del self._groups[before.group]
            self._by_names[before.group.cns].discard(before.group)
            if not self._by_names[before.group.cns]:
                del self._by_names[before.group.cns]
        for cns in before.names:
            self._holding[cns].pop(key, None)
            if not self._holding[cns]:
                del self._holding[cns]

    def _may_hold(self, key: Key, claim: Claim) -> bool:
        return claim.covers or claim.attempt_seen is not None or key in self._reserved

    def reserve(self, key: Key) -> None:
        """Notes that a resource is about to record an attempt: no other one may, from this moment on."""
        self._reserved[key] = self._monotonic()
        self.put(key, self._claims.get(key))

    def release(self, key: Key) -> None:
        """Ends a reservation: the attempt is recorded, or isn't made."""
        if self._reserved.pop(key, None) is not None:
            self.put(key, self._claims.get(key))

    def group_of(self, key: Key) -> Group | None:
        claim = self._claims.get(key)
        return claim.group if claim is not None else None

    def owner(self, group: Group, now: datetime) -> Key | None:
        """Returns the owner: the oldest that holds a certificate or attempts; otherwise the oldest eligible one."""
        members = self._groups.get(group)
        if members is None:
            return None
        for senior in members.holders:
            if self._holds(senior.key, now):
                return senior.key
        return members.eligible[0].key if members.eligible else None

    def _holds(self, key: Key, now: datetime) -> bool:
        tick, reserved = self._monotonic(), self._reserved.get(key)
        return self._claims[key].holds(now, tick) or (
            reserved is not None and tick - reserved < ATTEMPT_LIMIT.total_seconds()
        )

    def may_hold(self, key: Key) -> bool:
        """Returns whether a resource has a certificate for its names, expired or not, or attempts to get one."""
        claim = self._claims.get(key)
        return claim is not None and self._may_hold(key, claim)

    def next_elsewhere(self, group: Group, now: datetime) -> Key | None:
        """Returns the next in line in the other scopes that may be the same: the oldest without a certificate.

        None while someone holds a certificate for the names, or attempts to get one.
        """
        if any(
            self._claims[key].group.cns == group.cns and self._holds(key, now)
            for key in self._holding.get(group.cns, ())
        ):
            return None
        waiting = [
            members.eligible[0]
            for other in self._by_names.get(group.cns, ())
            if other != group and not group.scope.certainly_differs_from(other.scope)
            if (members := self._groups.get(other)) is not None and members.eligible
        ]
        return min(waiting).key if waiting else None

    def ownership(self, key: Key, now: datetime) -> Ownership:
        """Returns what stands between a resource and an attempt, as it is when it is asked for."""
        claim = self._claims.get(key)
        return Ownership() if claim is None else _OwnershipOf(self, key, claim, now)

    def attempting(self, claim: Claim, now: datetime) -> Key | None:
        """Returns another resource, of a scope that may be the same, that attempts to get a certificate.

        If it has one already, that counts.
        """
        cns = claim.group.cns
        return next(
            (
                key
                for key, other in self._rivals(claim)
                if not (other.group.cns == cns and other.has_certificate(now)) and self._attempts(key, cns, claim)
            ),
            None,
        )

    def holders(self, claim: Claim, now: datetime) -> dict[str, str]:
        """Returns the holders of certificates for the names, of scopes that may be the same, the newest first.

        If it has one itself, only those that are older.
        """
        has_one = claim.has_certificate(now)
        found = [
            (str(other.expires_at), other.certificate_id, str(key))
            for key, other in self._rivals(claim)
            if other.group.cns == claim.group.cns
            and other.has_certificate(now)
            and other.certificate_id is not None
            and (not has_one or other.seniority < claim.seniority)
        ]
        newest_first = sorted(found, key=lambda entry: entry[0], reverse=True)
        return {certificate_id: holder for _, certificate_id, holder in newest_first}

    def _rivals(self, claim: Claim) -> Iterator[tuple[Key, Claim]]:
        for key in self._holding.get(claim.group.cns, ()):
            other = self._claims[key]
            if other.group != claim.group and not claim.group.scope.certainly_differs_from(other.group.scope):
                yield key, other

    def shared(self, key: Key, claim: Claim) -> bool:
        """Returns whether a resource has yet to record that others have certificates with the same names."""
        return not claim.shares and next(self._others_with_its_names(key, claim), None) is not None

    def _others_with_its_names(self, key: Key, claim: Claim) -> Iterator[Key]:
        """Yields the others, whose scope may be the same, that have another certificate with the same names."""
        if claim.certificate_id is None:
            return
        for other_key in self._holding.get(claim.certificate_cns, ()):
            other = self._claims[other_key]
            if other_key == key or other.certificate_id in (None, claim.certificate_id):
                continue
            if other.certificate_cns == claim.certificate_cns and not claim.group.scope.certainly_differs_from(
                other.group.scope
            ):
                yield other_key

    def certificate_of(self, key: Key) -> tuple[str, Names] | None:
        """Returns the current certificate of a resource, with its names."""
        claim = self._claims.get(key)
        return (claim.certificate_id, claim.certificate_cns) if claim is not None and claim.certificate_id else None

    def unaware(self, key: Key) -> list[Key]:
        """Returns those who have a certificate with the same names as this resource's, and have not recorded it."""
        claim = self._claims.get(key)
        others = self._others_with_its_names(key, claim) if claim is not None else ()
        return [other for other in others if not self._claims[other].shares]

    def attempted_elsewhere(self, key: Key, cns: Names) -> bool:
        """Returns whether another resource, whose scope may be the same, attempts to get a certificate for names."""
        claim = self._claims.get(key)
        return claim is not None and any(
            self._attempts(other, cns, claim)
            for other in self._holding.get(cns, ())
            if other != key and not claim.group.scope.certainly_differs_from(self._claims[other].group.scope)
        )

    def _attempts(self, key: Key, cns: Names, waiting: Claim) -> bool:
        """Returns whether a resource attempts to get a certificate for names, so that another one has to wait."""
        claim = self._claims[key]
        limit = ATTEMPT_LIMIT.total_seconds() if claim.group == waiting.group else self._turn
        return claim.attempts_within(limit, cns, self._monotonic()) or (
            key in self._reserved and claim.group.cns == cns
        )


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
        owner = self._claims.owner(self._claim.group, self._now)
        return str(owner) if owner not in (None, self._key) else None

    @cached_property
    def attempting(self) -> str | None:
        other = self._claims.attempting(self._claim, self._now)
        return str(other) if other is not None else None

    @cached_property
    def holders(self) -> Mapping[str, str]:
        return self._claims.holders(self._claim, self._now)

    @cached_property
    def shared(self) -> bool:
        return self._claims.shared(self._key, self._claim)
