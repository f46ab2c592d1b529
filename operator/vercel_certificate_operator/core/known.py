"""What a decision is made from, and what a decision is."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Literal

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.certificate import Certificate, Certificates, Scope
from vercel_certificate_operator.core.domains import DomainConfig
from vercel_certificate_operator.core.failures import Call, Failure
from vercel_certificate_operator.core.record import Attempt
from vercel_certificate_operator.core.resource import Resource, Status
from vercel_certificate_operator.core.source import Source, SourceProblem
from vercel_certificate_operator.core.times import (
    AWAITED_LIST_AGE,
    LEAST_LIST_AGE,
    LIST_AGE,
    LIST_AGE_PER_CERTIFICATE,
)

Tick = float
"""A time on this process's monotonic clock, in seconds. What this process saw is ordered by it, since wall clocks may
step. What is recorded or comes from elsewhere has wall-clock times."""


Period = tuple[datetime, datetime]
"""Begin and end."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that the rules need to know."""

    post: timedelta = timedelta(seconds=120)
    """How long a POST to Vercel may take."""
    issuances: int = 5
    """How many attempts of one resource may issue within a week without a user's request."""

    @property
    def grace(self) -> float:
        """Seconds after an attempt was sent in which its certificate may still appear in a list."""
        return self.post.total_seconds() + 60.0

    source_poll: float = 600.0
    """Seconds after which a Secret whose certificate is uploaded is read again."""
    grace_after_error: float = 30.0
    """The same, after an error in Vercel's own format: counted from the reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What this process knows about a POST that it made. Exactly one of certificate and failure is there."""

    attempt: Attempt
    at: Tick
    took: float = 0.0
    """Seconds."""
    certificate: Certificate | None = None
    failure: Failure | None = None
    listed: bool = False
    """Whether the list from which the attempt was made has this certificate, whatever its names."""
    token_hash: str | None = None
    """Which token was used."""
    now: datetime | None = None
    """Vercel's time at ``at``, as it was known then: an answer has just said it."""

    @property
    def period(self) -> Period | None:
        """When the request was begun and over, by Vercel's clock."""
        return self.period_until(self.now) if self.now is not None else None

    def period_until(self, over: datetime) -> Period:
        """Returns when the request was begun and over, if it was over at this time."""
        return over - timedelta(seconds=self.took), over


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Requests that have no answer."""

    until: Tick
    """Until when they may still bring a certificate."""
    failed_at: Tick | None
    """When the last of them failed; None: one is in flight."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A complete list of a scope's certificates. A hint: an id enters a status only from its own reply."""

    begun: Tick
    certificates: Certificates
    took: float = 0.0
    """Seconds."""
    scope_vanished: bool = False
    """Whether so many of the scope's certificates are missing that a wrong token is more likely than their removal."""
    added: tuple[Certificate, ...] = ()
    """Certificates that Vercel didn't list: see ``with_issued``."""
    awaited: bool = False
    """Whether an attempt may be made from it for longer: its resource has waited, or the token is rate limited."""
    removed: Container[str] = field(default=frozenset(), compare=False)
    """Ids of certificates that the operator has removed since. They don't count, whatever Vercel listed."""

    @property
    def longest_age(self) -> float:
        """The seconds that it may be old, at most. One that took long may be older."""
        return max(LIST_AGE, 2 * self.took)

    def is_new_enough(self, begun_after: Tick | None, now: Tick) -> bool:
        """Returns whether it was begun no earlier than this; with None, whether it is fresh.

        The fewer certificates it has, the less a fresh one costs.
        """
        if begun_after is not None:
            return self.begun >= begun_after
        by_length = LIST_AGE_PER_CERTIFICATE * len(self.certificates)
        least = AWAITED_LIST_AGE if self.awaited else LEAST_LIST_AGE
        return now - self.begun <= min(max(by_length, least, 2 * self.took), self.longest_age)

    def __iter__(self) -> Iterator[Certificate]:
        """Yields the certificates that Vercel listed and that are still there."""
        return (certificate for certificate in self.certificates if certificate.id not in self.removed)

    def find(self, certificate_id: str | None) -> Certificate | None:
        """Returns a certificate that Vercel listed: it is in this scope."""
        if certificate_id is None or certificate_id in self.removed:
            return None
        return self.certificates.by_id.get(certificate_id)

    def has(self, certificate_id: str) -> bool:
        """Returns whether the list has a certificate, also one that was issued after it was begun."""
        return self.find(certificate_id) is not None or any(one.id == certificate_id for one in self.added)

    def covering(self, cns: frozenset[str]) -> Iterator[Certificate]:
        """Yields the certificates that cover all of these names, also those that were issued after it was begun."""
        found = (*self.certificates.covering(cns), *(one for one in self.added if cns <= one.cns))
        return (certificate for certificate in found if certificate.id not in self.removed)

    def exactly(self, cns: frozenset[str]) -> Iterator[Certificate]:
        """Yields, of these, the certificates that cover no other names."""
        return (certificate for certificate in self.covering(cns) if certificate.cns == cns)

    def with_issued(self, certificates: Iterable[Certificate]) -> "Listing":
        """Returns the list with certificates that were issued after it was begun, where it lacks them.

        They may be in this scope, and it doesn't prove that they are.
        """
        missing = tuple(certificate for certificate in certificates if not self.has(certificate.id))
        return replace(self, added=(*self.added, *missing)) if missing else self


@dataclass(frozen=True, slots=True)
class Got:
    """The answer to a GET of a certificate."""

    at: Tick
    certificate: Certificate | None
    """None: Vercel says that this scope has none with this id (404)."""


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call, or the token for it, that has failed and not succeeded since."""

    failure: Failure
    times: int
    """How often in a row."""
    since: Tick
    """When the first of them failed."""
    retry_at: Tick
    """When it may be made again."""
    token_hash: str | None = None
    """The token with which it failed."""


CallKey = tuple[Call, str | None]
"""A call to Vercel, with the id that it concerns. Each has its own back-off, so that one can't block another."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A time in which a token isn't used, at all or for a kind of call."""

    until: Tick
    reason: str
    message: str


@dataclass(frozen=True, eq=False)
class Ownership:
    """Who may request a certificate for a set of names; see ``ownership``."""

    owner: str | None = None
    """Another resource that certainly owns the names in the same scope."""
    attempting: str | None = None
    """A resource whose scope may be the same, and whose attempt for these names, or more, has no outcome yet."""
    holders: Mapping[str, str] = field(default_factory=dict)
    """Certificates with these names in statuses of resources whose scope may be the same: the holder, by id."""
    shared: bool = False
    """Whether another resource in the same scope holds a certificate with the current one's names, and status does not
    record that yet."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ownership):
            return NotImplemented
        return all(getattr(self, fact.name) == getattr(other, fact.name) for fact in fields(Ownership))

    __hash__ = None  # type: ignore[assignment]  # as of any mutable mapping


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that a decision follows from. Two equal ones give the same decision."""

    now: datetime
    """Vercel's time, as far as it is known."""
    tick: Tick
    resource: Resource
    scope: Scope
    """Where a certificate for this resource would be issued now."""
    new_attempt_id: str = "attempt"
    """For the next attempt. Never the same twice."""
    limits: Limits = field(default_factory=Limits)
    seen_at: Tick = 0.0
    """When this process first saw the newest attempt, or sent it."""
    in_flight: bool = False
    """Whether this process is waiting for the answer to a POST of this resource."""
    reply: Reply | None = None
    """Of a POST that this process made, until its outcome is recorded."""
    void_attempts: Container[str] = frozenset()
    """Ids of attempts that were never sent for this resource: this process knows that, or they are an older one's."""
    schema_outdated: bool = False
    """Whether the API server dropped fields of the record: the installed definition is older than the operator."""
    schema_in_doubt: bool = False
    """Whether it did so before, and is to be asked again."""
    unstored_outcome: str | None = None
    """The attempt whose outcome this process wrote and the API server dropped: it seems to be open."""
    got: Mapping[str, Got] = field(default_factory=dict)
    """The answers to GETs of this round, by certificate id."""
    checked: tuple[str, Tick] | None = None
    """The current certificate's id, and when its own GET or POST showed it last, perhaps in an earlier round."""
    removed: Mapping[str, bool] = field(default_factory=dict)
    """The removals of this round: whether Vercel had a certificate with this id."""
    removed_at: Tick | None = None
    """When the last certificate was removed, if the resource is being deleted."""
    listing: Listing | None = None
    """The newest list of the scope, if this round made one or was woken by one."""
    failed: Mapping[CallKey, FailedCall] = field(default_factory=dict)
    pauses: Mapping[Call, Pause] = field(default_factory=dict)
    """Of the resource's token, as far as this round ran into them."""
    token_read: bool = False
    """Whether this round has tried to read the resource's token."""
    token_hash: str | None = None
    """Which token the resource uses now (see ``record.token_hash``); None: not read, or there is none."""
    domains: Mapping[str, DomainConfig | None] = field(default_factory=dict)
    """How domains are configured, by name, as far as this round asked. None: Vercel didn't say."""
    source: Source | SourceProblem | None = None
    """What the Secret of spec.certificateSecretRef holds, if it was read lately."""
    source_due_at: Tick | None = None
    """When that Secret is read again."""
    just_failed: CallKey | None = None
    """The call that failed in the step before this one."""
    may_adopt: bool = False
    """Whether a resource in this namespace may adopt certificates."""
    ownership: Ownership = field(default_factory=Ownership)
    held_elsewhere: Container[str] = frozenset()
    """Ids of certificates in other resources' statuses."""
    left_behind: Mapping[str, str | None] = field(default_factory=dict)
    """Ids of certificates that other resources held which are gone. They are no renewals of this one's.

    With the attempt that brought them: this resource may be restored from a backup in which that was open."""
    attempted_elsewhere: Container[frozenset[str]] = frozenset()
    """Sets of names for which another resource has an attempt without an outcome: a certificate that seems to be in no
    status may be its answer."""
    not_removable: Container[str] = frozenset()
    """Of these, the ones whose holder stays, or wouldn't remove them when it goes."""
    clock_skew: timedelta | None = None
    """Vercel's time minus the API server's, if they differ by a day or more."""
    vercel_said: bool = True
    """Whether Vercel has said its time; until then, ``now`` is the API server's."""
    ending: bool = False
    """Whether the process ends: what is known is recorded now."""
    server_time: datetime | None = None
    """The API server's time, if it differs from Vercel's by more than some seconds."""
    unanswered: Unanswered | None = None
    """Requests for the same names whose resources are gone."""
    at_least: datetime | None = None
    """A time that is certainly not ahead of Vercel's; None: ``now``, which may be ahead by two seconds."""

    @property
    def token(self) -> str:
        """The resource's token as messages name it: by its Secret, never by its value."""
        return words.token(self.resource.token_place)

    def wall(self, tick: Tick) -> datetime:
        """Returns a time of this process's monotonic clock on Vercel's clock, as both stand now."""
        return self.now + timedelta(seconds=tick - self.tick)

    def waits(self, call: Call, certificate_id: str | None = None) -> FailedCall | None:
        """Returns the failure after which a call must not be made yet."""
        failed = self.failed.get((call, certificate_id))
        if failed is None or self.tick >= failed.retry_at:
            return None
        other_token = None not in (self.token_hash, failed.token_hash) and self.token_hash != failed.token_hash
        return None if other_token else failed

    def blocked(self, call: Call, certificate_id: str | None = None) -> bool:
        """Returns whether a call can't be made now: it failed a moment ago, or the token is paused for it."""
        return call in self.pauses or self.waits(call, certificate_id) is not None

    def free_at(self, call: Call, certificate_id: str | None = None) -> datetime | None:
        """Returns when a call that can't be made now may be made again; None if it can be made now."""
        failed, pause = self.waits(call, certificate_id), self.pauses.get(call)
        ticks = [*([failed.retry_at] if failed is not None else []), *([pause.until] if pause is not None else [])]
        return self.wall(max(ticks)) if ticks else None


@dataclass(frozen=True, slots=True)
class Note:
    """A Kubernetes Event to be published."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    """What was done or tried, in one CamelCase word, as events.k8s.io requires."""
    text: str
    cause: str | None = None
    """The reason of the failure, if ``reason`` says only what failed. The text begins with it."""

    @classmethod
    def failed(cls, reason: str, action: str, cause: str, text: str) -> "Note":
        """Returns a warning that something failed, with the reason of the failure."""
        return cls("Warning", reason, action, f"{cause}: {text}", str(cause))


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until then (None: until something changes)."""

    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """Write the status, since something happened that must be recorded, and decide again."""

    closes: bool = False
    """Whether it records an attempt's outcome. Then the attempt's id fences the write, and labels or annotations may
    change meanwhile. Every other write is fenced by the resourceVersion from which it was decided."""


@dataclass(frozen=True, slots=True)
class Get:
    """GET a certificate, and decide again."""

    certificate_id: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class List:
    """List the certificates of a scope, and decide again with a list that was begun no earlier than this.

    None: with one that is fresh enough to make an attempt from it.
    """

    begun_after: Tick | None
    scope: Scope


@dataclass(frozen=True, slots=True)
class Issue:
    """Record the attempt that the decision's status carries, then POST it."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Remove:
    """DELETE a certificate at Vercel, and decide again."""

    certificate_id: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class ReadToken:
    """Read the resource's token, and decide again."""


@dataclass(frozen=True, slots=True)
class ReadSource:
    """Read the Secret of spec.certificateSecretRef, and decide again."""


@dataclass(frozen=True, slots=True)
class CheckSchema:
    """Ask the API server, without changing anything, whether it stores every field of the record, and decide again."""


@dataclass(frozen=True, slots=True)
class GetDomainConfig:
    """Ask Vercel how a domain is configured, and decide again, whatever comes of it."""

    domain: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """Add the operator's finalizer, and decide again."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """Remove the operator's finalizer: the resource may go."""


Action = (
    Wait
    | Write
    | Get
    | List
    | Issue
    | Remove
    | ReadToken
    | ReadSource
    | CheckSchema
    | GetDomainConfig
    | AddFinalizer
    | RemoveFinalizer
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The next right thing."""

    action: Action
    status: Status | None = None
    """What status has to say from now on; None: what it says now. Written, if it differs, before the action."""
    note: Note | None = None
    """Published once the status is written or the action done."""
    policy: str = ""
    """The rule that decided."""
