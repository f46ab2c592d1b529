"""What a decision is made from, and what a decision is."""

from collections.abc import Container
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from vercel_certificate_operator.core.attempt import Attempt
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.failures import Failure
from vercel_certificate_operator.core.resource import Resource, Status

Tick = float
"""A time on this process's monotonic clock, in seconds. What this process saw is ordered by it, since the wall clock
may step; what is written down or comes from elsewhere has wall-clock times."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The time limits that the rules need to know."""

    post: timedelta = timedelta(seconds=120)
    """How long a POST to Vercel may take."""
    issuances: int = 5
    """How many certificates may be issued per resource and week without a request of the user."""

    @property
    def grace(self) -> float:
        """Seconds after an attempt's start in which its certificate may still turn up in a listing."""
        return self.post.total_seconds() + 60.0

    grace_after_error: float = 30.0
    """The same, where Vercel itself replied with an error: counted from the reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What this process knows of a POST that it made; exactly one of certificate and failure is there."""

    attempt: Attempt
    at: Tick
    took: float = 0.0
    """Seconds."""
    certificate: Certificate | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """A complete listing of a scope's certificates."""

    begun: Tick
    clock_offset: timedelta
    """Vercel's clock less this machine's."""
    certificates: tuple[Certificate, ...]
    at_vercel: datetime | None = None
    """Vercel's time when the listing was begun: no step of this machine's wall clock changes it."""
    scope_vanished: bool = False
    """So many of the scope's certificates are missing that a wrong token is likelier than that they are gone."""

    def find(self, certificate_id: str) -> Certificate | None:
        return next((certificate for certificate in self.certificates if certificate.id == certificate_id), None)


@dataclass(frozen=True, slots=True)
class Looked:
    """The answer to a GET of a certificate."""

    certificate_id: str
    at: Tick
    certificate: Certificate | None
    """None: Vercel says that there is none with this id (404)."""


Call = Literal["issue", "get", "list", "remove"]


@dataclass(frozen=True, slots=True)
class FailedCall:
    """A call other than a POST that failed just now, or the token that could not be had for any call."""

    call: Call
    failure: Failure
    times: int
    """How often in a row, this one included."""
    certificate_id: str | None = None
    """The certificate that it was about."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A time in which a token is used for nothing, since Vercel wants it so."""

    until: Tick
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that a decision follows from. Two equal ones give the same decision."""

    now: datetime
    tick: Tick
    resource: Resource
    scope: Scope
    """Where a certificate for this resource would be issued now."""
    limits: Limits = field(default_factory=Limits)
    first_seen: Tick = 0.0
    """When this process first saw the attempt that stands in the annotation, or that none does."""
    reply: Reply | None = None
    """Of the attempt that stands in the resource's annotation, or of an earlier one."""
    void_attempts: Container[str] = frozenset()
    """Ids of attempts that this process knows it never sent to Vercel."""
    looked: Looked | None = None
    """At the current certificate, in this round."""
    named: Looked | None = None
    """At the certificate that the adopt annotation names, in this round."""
    listing: Listing | None = None
    """The newest one of the scope."""
    taken: Container[str] = frozenset()
    """Ids of certificates that stand in other resources' statuses."""
    removed: Container[str] = frozenset()
    """Ids that this process has removed at Vercel, or found to be gone."""
    failed_call: FailedCall | None = None
    """In this round."""
    retry_at: Tick | None = None
    """When a call that failed in an earlier round is to be made again."""
    removal_at: Tick | None = None
    """When the removal of what was replaced, which has failed, is to be tried again."""
    pause: Pause | None = None
    """Of the resource's token, where it is in one."""
    token_changed: bool = False
    """Whether the token is another one than that which Vercel refused."""
    may_adopt: bool = False
    """Whether a resource in this namespace may name a certificate to adopt."""
    owner: str | None = None
    """Another resource that owns this set of names in this scope."""

    @property
    def call_waits_until(self) -> Tick | None:
        """When a call that failed is to be made again, if that is still to come."""
        return self.retry_at if self.retry_at is not None and self.tick < self.retry_at else None

    def wall(self, tick: Tick) -> datetime:
        """A time of this process's clock as it comes out on the wall clock, as that stands now."""
        return self.now + timedelta(seconds=tick - self.tick)


@dataclass(frozen=True, slots=True)
class Note:
    """A Kubernetes Event to be."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    """What was done or tried, in one CamelCase word, as events.k8s.io wants it."""
    text: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until then (None: until something changes)."""

    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """Write the status, since something happened that has to be recorded, and decide again."""

    outcome: bool = False
    """Whether it records what came of the attempt in the annotation: then that fences the write, and labels or other
    annotations may change meanwhile. Everything else is fenced by the resourceVersion that it was decided from."""


@dataclass(frozen=True, slots=True)
class Look:
    """GET the current certificate, and decide again."""

    certificate_id: str


@dataclass(frozen=True, slots=True)
class List:
    """List the scope's certificates, and decide again with a listing that was begun no earlier than this."""

    begun_after: Tick


@dataclass(frozen=True, slots=True)
class Issue:
    """Write an attempt ahead, then POST it."""

    cns: frozenset[str]
    reason: str
    meanwhile: Status
    """What status should say if it takes long."""


@dataclass(frozen=True, slots=True)
class Remove:
    """DELETE a certificate at Vercel, and decide again."""

    certificate_id: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Put the finalizer on, and decide again."""


@dataclass(frozen=True, slots=True)
class Release:
    """Take the finalizer off: the resource may go."""


Action = Wait | Write | Look | List | Issue | Remove | Hold | Release


@dataclass(frozen=True, slots=True)
class Decision:
    """The next right thing."""

    action: Action
    status: Status | None = None
    """What status has to say from now; None: as it is. Written (only if it differs) before a Wait or a Write."""
    note: Note | None = None
    """To be told once the status is written or the action done."""
    reason: str = ""
    """For the log: which rule decided."""
