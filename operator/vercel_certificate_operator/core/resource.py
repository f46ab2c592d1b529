"""The VercelCertificate resource, as the Kubernetes API holds it.

The schema that users see is in ``deploy/crds``; the API server holds every object to it, so that these models read
without judging.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from vercel_certificate_operator.core.attempt import ANNOTATION as ATTEMPT_ANNOTATION
from vercel_certificate_operator.core.attempt import Attempt
from vercel_certificate_operator.core.certificate import Certificate, Scope, normalized

GROUP = "vercel-operator.io"
VERSION = "v1"
KIND = "VercelCertificate"
PLURAL = "vercelcertificates"
FINALIZER = f"{GROUP}/certificate"
RENEW_ANNOTATION = f"{GROUP}/renew"
ADOPT_ANNOTATION = f"{GROUP}/adopt-id"

ConditionType = Literal["Ready", "Issuing"]


def whole_seconds(moment: datetime) -> datetime:
    """A time as status holds it: UTC, whole seconds, like every other time in Kubernetes."""
    return moment.astimezone(UTC).replace(microsecond=0)


Time = Annotated[
    AwareDatetime,
    PlainSerializer(lambda moment: whole_seconds(moment).isoformat().replace("+00:00", "Z"), return_type=str),
]
"""RFC 3339, UTC, whole seconds."""


class Key(NamedTuple):
    """Which object. With its uid, so that a namesake that comes after it is another one."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, ignored_types=(cached_property,)
    )


class Team(_Model):
    id: str | None = None
    slug: str | None = None


class TokenSecretRef(_Model):
    name: str
    key: str = "token"


class Spec(_Model):
    cns: tuple[str, ...] = ()
    team: Team | None = None
    token_secret_ref: TokenSecretRef | None = None
    renew_before: str | None = None
    deletion_policy: Literal["Delete", "Retain"] = "Delete"
    suspend: bool = False


def _tuple(value: object) -> object:
    return value if value is not None else ()


class Condition(_Model):
    type: str
    """Ready, Issuing, or somebody else's: the list is a map by type, made to be shared."""
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: Time
    observed_generation: int | None = None


class LostAttempt(_Model):
    id: str
    start: Time
    cns: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = ()


class Status(_Model):
    """What the operator reports. Times are RFC 3339 in UTC; see ``docs/resource.md`` for each field."""

    id: str | None = None
    cns: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = ()
    created_at: Time | None = None
    expires_at: Time | None = None
    renewal_time: Time | None = None
    auto_renew: bool | None = None
    team: str | None = None
    observed_generation: int | None = None
    attempt: str | None = None
    lost_attempts: Annotated[tuple[LostAttempt, ...], BeforeValidator(_tuple)] = ()
    superseded_ids: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = Field(default=(), alias="supersededIDs")
    adopted_id: str | None = Field(default=None, alias="adoptedID")
    last_renew_request: str | None = None
    failed_attempts: int = 0
    last_failure_time: Time | None = None
    next_attempt_time: Time | None = None
    conditions: Annotated[tuple[Condition, ...], BeforeValidator(_tuple)] = ()

    def changed(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return self.model_copy(update=changes)

    def dump(self) -> dict[str, Any]:
        """As JSON for the API server, without what is empty."""
        dumped = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {name: value for name, value in dumped.items() if value != [] and (value != 0 or value is False)}

    @property
    def certificate_ids(self) -> tuple[str, ...]:
        """All certificates that it holds, the current one first."""
        return (*((self.id,) if self.id is not None else ()), *self.superseded_ids)

    def condition(self, kind: ConditionType) -> Condition | None:
        return next((condition for condition in self.conditions if condition.type == kind), None)

    @property
    def ready(self) -> bool:
        """Whether the Ready condition is True."""
        condition = self.condition("Ready")
        return condition is not None and condition.status == "True"

    def with_condition(
        self, kind: ConditionType, status: bool, reason: str, message: str, *, generation: int, now: datetime
    ) -> Self:
        """A copy with one condition set. Its transition time moves only when its status does."""
        before = self.condition(kind)
        text: Literal["True", "False"] = "True" if status else "False"
        condition = Condition(
            type=kind,
            status=text,
            reason=str(reason),
            message=message[:32768],  # the limit of metav1.Condition
            last_transition_time=before.last_transition_time if before and before.status == text else now,
            observed_generation=generation,
        )
        others = tuple(other for other in self.conditions if other.type != kind)
        # Ready first: people read from the top.
        return self.changed(conditions=tuple(sorted((*others, condition), key=lambda c: c.type != "Ready")))

    def holding(self, certificate: Certificate, scope: Scope) -> Self:
        """A copy that reports this certificate as the current one, in the scope in which it was issued."""
        return self.changed(
            id=certificate.id,
            cns=tuple(sorted(certificate.cns)),
            created_at=certificate.created_at and whole_seconds(certificate.created_at),
            expires_at=certificate.expires_at and whole_seconds(certificate.expires_at),
            auto_renew=certificate.auto_renew,
            team=scope.team_id or scope.team_slug,
        )


class Resource(_Model):
    """One VercelCertificate, as it was seen at one resourceVersion."""

    key: Key
    resource_version: str
    generation: int
    created_at: datetime
    deleted_at: datetime | None
    """When its deletion was asked for."""
    finalizers: tuple[str, ...]
    annotations: Mapping[str, str]
    spec: Spec
    status: Status

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """From the object as the API server sends it."""
        metadata = body["metadata"]
        return cls(
            key=Key(metadata["namespace"], metadata["name"], metadata["uid"]),
            resource_version=metadata["resourceVersion"],
            generation=metadata.get("generation", 0),
            created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
            deleted_at=datetime.fromisoformat(metadata["deletionTimestamp"])
            if metadata.get("deletionTimestamp")
            else None,
            finalizers=tuple(metadata.get("finalizers") or ()),
            annotations=metadata.get("annotations") or {},
            spec=Spec.model_validate(body.get("spec") or {}),
            status=Status.model_validate(body.get("status") or {}),
        )

    @cached_property
    def cns(self) -> frozenset[str]:
        """The wanted names, in lower case."""
        return normalized(self.spec.cns)

    @cached_property
    def attempt(self) -> Attempt | None:
        """The newest attempt for this very object, whether resolved or not."""
        attempt = Attempt.loads(self.annotations.get(ATTEMPT_ANNOTATION, ""))
        return attempt if attempt is not None and attempt.uid == self.key.uid else None

    @property
    def deleting(self) -> bool:
        return self.deleted_at is not None

    @property
    def adopt_id(self) -> str | None:
        """The certificate that the user wants to be adopted, by its id."""
        return self.annotations.get(ADOPT_ANNOTATION) or None

    @property
    def ours(self) -> bool:
        """Whether our finalizer is on it."""
        return FINALIZER in self.finalizers

    @property
    def renew_request(self) -> str | None:
        """The value of the renew annotation."""
        return self.annotations.get(RENEW_ANNOTATION)
