"""The VercelCertificate resource, as the Kubernetes API holds it.

The schema that users see is in ``deploy/crds``. The API server validates every spec against it, so these models read
without judging. They also read what a newer or older version wrote.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, ValidationError

from vercel_certificate_operator.core.certificate import Certificate, Scope, normalized
from vercel_certificate_operator.core.domains import DomainList
from vercel_certificate_operator.core.record import (
    MOST_REPLACED_NAMES,
    Attempt,
    IssuanceList,
    Origin,
    Superseded,
    SupersededList,
    scope_of_team,
)
from vercel_certificate_operator.core.schema import Model, NullAsEmpty, Texts, Time, whole_seconds
from vercel_certificate_operator.core.words import printable

GROUP = "vercel-operator.io"
VERSION = "v1"
KIND = "VercelCertificate"
PLURAL = "vercelcertificates"
FINALIZER = f"{GROUP}/certificate"
RENEW_ANNOTATION = f"{GROUP}/renew"
ADOPT_ANNOTATION = f"{GROUP}/adopt-id"
LONGEST_MESSAGE = 32_768
"""Characters; the limit of metav1.Condition."""

ConditionType = Literal["Ready", "Issuing"]
ConditionStatus = Literal["True", "False", "Unknown"]


class Key(NamedTuple):
    """Which object. The uid tells it from a namesake that is created after it."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Team(Model):
    id: str | None = None
    slug: str | None = None


class TokenSecretRef(Model):
    name: str
    key: str = "token"


class CertificateSecretRef(Model):
    name: str


class Spec(Model):
    cns: tuple[str, ...] = ()
    team: Team | None = None
    token_secret_ref: TokenSecretRef | None = None
    renew_before: str | None = None
    deletion_policy: str = "Delete"
    suspend: bool = False
    existing_certificate: str = "Reuse"
    certificate_secret_ref: CertificateSecretRef | None = None

    @property
    def retains(self) -> bool:
        """Whether the certificate stays at Vercel when the resource is deleted. So it does with an unknown policy."""
        return self.deletion_policy != "Delete"

    @property
    def uploads(self) -> bool:
        """Whether the certificate is uploaded from a Secret instead of issued."""
        return self.certificate_secret_ref is not None

    def scope(self, default: Scope) -> Scope:
        """Returns where a certificate for this spec is issued. ``default`` serves specs without a team."""
        return Scope(team_id=self.team.id, team_slug=self.team.slug) if self.team is not None else default


class Condition(Model):
    type: str
    """Ready, Issuing, or somebody else's: the list is a map by type, made to be shared."""
    status: str
    reason: str
    message: str
    last_transition_time: Time
    observed_generation: int | None = None


class Status(Model):
    """What the operator reports and records. Times are RFC 3339 in UTC; see ``docs/resource.md`` for each field."""

    id: str | None = None
    origin: str | None = None
    cns: Texts = ()
    requested_cns: Texts = Field(default=(), alias="requestedCNs")
    """The names that the certificate was requested for, where they are not all that it covers."""
    created_at: Time | None = None
    expires_at: Time | None = None
    renewal_time: Time | None = None
    auto_renew: bool | None = None
    team: str | None = None
    token_hash: str | None = None
    """The token with which the certificate was last seen; see ``record.token_hash``."""
    fingerprint: str | None = None
    """Of the leaf, if the certificate was uploaded: SHA-256, in hexadecimal digits."""
    shared_names: bool = False
    scope_vanished: bool = False
    observed_generation: int | None = None
    attempt: Attempt | None = None
    superseded: SupersededList = ()
    issuances: IssuanceList = ()
    domains: DomainList = ()
    """Domains that are misconfigured, while that keeps the certificate from being issued."""
    last_renew_request: str | None = None
    last_adopt_request: str | None = None
    failed_attempts: int = 0
    last_failure_time: Time | None = None
    next_attempt_time: Time | None = None
    conditions: Annotated[tuple[Condition, ...], NullAsEmpty] = ()
    unreadable: tuple[str, ...] = Field(default=(), exclude=True)
    """Fields whose values could not be read. Not written."""

    @classmethod
    def read(cls, raw: Mapping[str, Any] | None) -> Self:
        """Returns a status from JSON. Fields that can't be read are left out and named in ``unreadable``.

        The current certificate is not a replaced one, even if someone has written it into ``superseded``: as such, it
        would be removed.
        """
        status = cls._read(raw)
        return status.without_superseded({status.id}) if status.id in status.superseded_ids else status

    @classmethod
    def _read(cls, raw: Mapping[str, Any] | None) -> Self:
        names = {field.alias for field in cls.model_fields.values() if not field.exclude}
        fields = {name: value for name, value in (raw or {}).items() if name in names}
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            bad = {str(problem["loc"][0]) for problem in error.errors()}
        kept = {name: value for name, value in fields.items() if name not in bad}
        return cls.model_validate(kept).changed(unreadable=tuple(sorted(bad)))

    def changed(self, **changes: Any) -> Self:
        """Returns a copy with some fields changed; itself, if these are their values already: nearly always."""
        if all(getattr(self, field) == value for field, value in changes.items()):
            return self
        copy = self.model_copy(update=changes)
        copy.__dict__.pop("_dumped", None)  # model_copy copies what a cached property has kept too
        return copy

    def dump(self) -> dict[str, Any]:
        """Returns it as JSON for the API server, without what is empty. Not to be changed: it is kept."""
        return self._dumped

    @cached_property
    def _dumped(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    @property
    def scope(self) -> Scope:
        """Where the certificate was issued."""
        return scope_of_team(self.team)

    @property
    def names(self) -> frozenset[str]:
        """The names that the certificate covers."""
        return normalized(self.cns)

    @property
    def superseded_ids(self) -> tuple[str, ...]:
        return tuple(entry.id for entry in self.superseded)

    @property
    def certificate_ids(self) -> tuple[str, ...]:
        """All certificates that it holds, the current one first."""
        return (*((self.id,) if self.id is not None else ()), *self.superseded_ids)

    @property
    def open_attempt(self) -> Attempt | None:
        """The newest attempt, if its outcome isn't recorded."""
        return self.attempt if self.attempt is not None and self.attempt.open else None

    @property
    def closed_attempt(self) -> Attempt | None:
        """The newest attempt, if its outcome is recorded."""
        return self.attempt if self.attempt is not None and not self.attempt.open else None

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((condition for condition in self.conditions if condition.type == kind), None)

    @property
    def ready(self) -> bool:
        """Whether the Ready condition is True."""
        condition = self.condition("Ready")
        return condition is not None and condition.status == "True"

    def with_condition(
        self, kind: ConditionType, status: ConditionStatus, reason: str, message: str, *, generation: int, now: datetime
    ) -> Self:
        """Returns a copy with one condition set. Its transition time moves only when its status does."""
        before, message = self.condition(kind), printable(message, LONGEST_MESSAGE - 1)
        said = status, str(reason), message, generation
        if before and said == (before.status, before.reason, before.message, before.observed_generation):
            return self
        condition = Condition(
            type=kind,
            status=status,
            reason=str(reason),
            message=message,
            last_transition_time=before.last_transition_time if before and before.status == status else now,
            observed_generation=generation,
        )
        others = tuple(other for other in self.conditions if other.type != kind)
        # Ready first: people read from the top.
        return self.changed(conditions=tuple(sorted((*others, condition), key=lambda c: c.type != "Ready")))

    def holding(self, certificate: Certificate, scope: Scope, origin: str) -> Self:
        """Returns a copy that reports this certificate as the current one, in the scope in which it was issued.

        An answer that leaves out autoRenew says nothing about it.
        """
        same = certificate.id == self.id
        return self.changed(
            id=certificate.id,
            origin=str(origin),
            cns=tuple(sorted(certificate.cns)),
            created_at=certificate.created_at and whole_seconds(certificate.created_at),
            expires_at=certificate.expires_at and whole_seconds(certificate.expires_at),
            auto_renew=self.auto_renew if same and certificate.auto_renew is None else certificate.auto_renew,
            team=scope.team,
            fingerprint=self.fingerprint if same else None,
            scope_vanished=False,
        )

    def without_certificate(self) -> Self:
        """Returns a copy that holds no current certificate."""
        return self.changed(
            id=None,
            origin=None,
            cns=(),
            requested_cns=(),
            created_at=None,
            expires_at=None,
            renewal_time=None,
            auto_renew=None,
            token_hash=None,
            fingerprint=None,
            scope_vanished=False,
        )

    @property
    def renewable_since(self) -> datetime | None:
        """From when on Vercel may renew the current certificate under another id. None: it doesn't."""
        if not self.auto_renew or self.created_at is None or self.expires_at is None:
            return None
        return self.created_at + (self.expires_at - self.created_at) / 2

    def superseding(self, *, since: datetime) -> Self:
        """Returns a copy in which the current certificate is among the replaced ones."""
        if self.id is None or self.id in self.superseded_ids:
            return self
        renewable = self.renewable_since is not None and len(self.cns) <= MOST_REPLACED_NAMES
        entry = Superseded(
            id=self.id,
            origin=self.origin or Origin.FOUND.value,
            team=self.team,
            fingerprint=self.fingerprint,
            since=whole_seconds(since),
            cns=self.cns if renewable else (),
            renewable_since=self.renewable_since if renewable else None,
        )
        return self.changed(superseded=(*self.superseded, entry))

    def without_superseded(self, certificate_ids: frozenset[str] | set[str]) -> Self:
        """Returns a copy without these replaced certificates."""
        return self.changed(superseded=tuple(entry for entry in self.superseded if entry.id not in certificate_ids))


class Resource(Model):
    """One VercelCertificate, as it was seen at one resourceVersion."""

    key: Key
    resource_version: str
    generation: int
    created_at: datetime
    deleted_at: datetime | None
    """When its deletion was requested."""
    finalizers: tuple[str, ...]
    annotations: Mapping[str, str]
    spec: Spec
    status: Status

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Returns it from the object as the API server sends it."""
        metadata = body["metadata"]
        deleted = metadata.get("deletionTimestamp")
        return cls(
            key=Key(metadata["namespace"], metadata["name"], metadata["uid"]),
            resource_version=metadata["resourceVersion"],
            generation=metadata.get("generation", 0),
            created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
            deleted_at=datetime.fromisoformat(deleted) if deleted else None,
            finalizers=tuple(metadata.get("finalizers") or ()),
            annotations=metadata.get("annotations") or {},
            spec=Spec.model_validate(body.get("spec") or {}),
            status=Status.read(body.get("status")),
        )

    @cached_property
    def cns(self) -> frozenset[str]:
        """The wanted names, normalized."""
        return normalized(self.spec.cns)

    @property
    def token_place(self) -> tuple[str, str, str] | None:
        """Where its token is: the namespace, name and key of a Secret; None: it uses the operator's default token."""
        ref = self.spec.token_secret_ref
        return (self.key.namespace, ref.name, ref.key) if ref is not None else None

    @property
    def deleting(self) -> bool:
        return self.deleted_at is not None

    @property
    def adopt_request(self) -> str | None:
        """The id of the certificate that the user wants adopted."""
        return self.annotations.get(ADOPT_ANNOTATION) or None

    @property
    def renew_request(self) -> str | None:
        """The value of the renew annotation."""
        return self.annotations.get(RENEW_ANNOTATION)

    @property
    def has_finalizer(self) -> bool:
        """Whether the operator's finalizer is on it."""
        return FINALIZER in self.finalizers

    @property
    def released(self) -> bool:
        """Whether the operator is done with it: it is being deleted, and only others' finalizers hold it."""
        return self.deleting and not self.has_finalizer

    @property
    def holds(self) -> bool:
        """Whether something of it is at Vercel, or may be: a certificate, or an attempt without an outcome."""
        return bool(self.status.certificate_ids) or self.status.open_attempt is not None
