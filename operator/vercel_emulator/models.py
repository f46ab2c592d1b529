"""The data of the control API, of the journal and of the state file.

Names are camelCase in JSON, as Vercel's are, and snake_case in Python. Unknown fields are refused. Times are in epoch
milliseconds, durations in seconds.
"""

import re
from datetime import timedelta
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel

from vercel_emulator.durations import LONGEST, parse_duration

Call = Literal["issue", "get", "list", "remove", "upload", "config", "other"]
"""``config`` is the configuration of a domain; ``other`` is everything that Vercel's side doesn't know."""
When = Literal["before", "after"]
Action = Literal[
    "answer",
    "other-certificate",
    "error",
    "reset",
    "hang",
    "truncate",
    "empty",
    "html",
    "wrong-types",
    "huge",
    "slow",
    "redirect",
    "raw",
]
Then = Literal["continue", "drop"]
ListOrder = Literal["newest-first", "oldest-first", "shuffled"]

PERSONAL = "personal:"
DEFAULT_USER = "user"
DEFAULT_SCOPE = PERSONAL + DEFAULT_USER
NO_TEAM = "personal"
"""The ``team`` of a fault that is for requests without a team."""
EVERY_DOMAIN = "*"
"""The domain of a setup that holds for all domains without one of their own."""

_MAX_MS = 10**15
_TOKEN_NAME = re.compile(r"sha256:[0-9a-f]{12}")


def token_name(token: str) -> str:
    """Return a name for a token that can be shown: the start of its hash. The name of a name is the name itself."""
    if _TOKEN_NAME.fullmatch(token):
        return token
    return "sha256:" + sha256(token.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def to_ms(duration: timedelta) -> int:
    """Return a duration in whole milliseconds."""
    return duration // timedelta(milliseconds=1)


def _to_timedelta(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[
    timedelta, BeforeValidator(_to_timedelta), PlainSerializer(timedelta.total_seconds, return_type=float)
]
EpochMs = Annotated[int, Field(ge=0, le=_MAX_MS)]
Name = Annotated[str, Field(min_length=1)]


class Model(BaseModel):
    """camelCase in JSON, snake_case in Python, no unknown fields."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_alias=True, validate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return self.model_dump(mode="json", by_alias=True)


# --- the state and the journal


class Certificate(Model):
    """A certificate, with everything that the emulator knows about it. Vercel's API shows the first five fields."""

    id: str
    created_at: EpochMs
    expires_at: EpochMs
    auto_renew: bool
    cns: list[Name]
    scope: str = DEFAULT_SCOPE
    """A team's id, or ``personal:`` and a user's name."""
    origin: Literal["issued", "uploaded", "renewed", "injected"] = "issued"
    """``renewed``: by Vercel's own renewal under a new id; ``injected``: by the control API."""
    token: str | None = None
    """The name of the token of the request that made it."""
    removed_at: EpochMs | None = None
    removed_by: Literal["request", "control", "renewal"] | None = None
    renewals: int = 0
    """How often Vercel renewed it under the same id."""
    replaced_by: str | None = None
    """The id of the certificate that Vercel's own renewal made to replace it."""
    made_at: EpochMs = 0
    """When it was made. ``created_at`` can be earlier, if the issuer back-dates it."""
    settled_at: EpochMs = 0
    """When it was made or last changed; a renewal by Vercel is not dated before this."""

    def public(self) -> dict[str, JsonValue]:
        """Return the certificate as Vercel's API shows it."""
        return {
            "id": self.id,
            "createdAt": self.created_at,
            "expiresAt": self.expires_at,
            "autoRenew": self.auto_renew,
            "cns": list[JsonValue](self.cns),
        }


class Snapshot(Model):
    """The content of the state file."""

    version: Literal[1] = 1
    clock_offset: float = 0
    certificates: list[Certificate] = []


class Entry(Model):
    """A request in the journal."""

    seq: int
    time: EpochMs
    call: Call
    method: str
    path: str
    query: dict[str, str] = {}
    token: str | None = None
    """The token's name (see ``token_name``), also if the token is not valid."""
    scope: str | None = None
    """The scope of the request; null if the request was refused before the scope was known."""
    cns: list[str] | None = None
    """The names in the request, as the client wrote them."""
    outcome: Literal["pending", "answered", "dropped"] = "pending"
    status: int | None = None
    code: str | None = None
    certificate: str | None = None
    """The id that was issued, uploaded, read or removed, also if the reply was lost."""
    fault: str | None = None
    """The id of the fault that was applied."""
    action: Action | None = None


class JournalView(Model):
    """The journal, as the control API shows it. ``counts`` includes entries that were dropped."""

    counts: dict[Call, int]
    last: int
    entries: list[Entry]


# --- switches


class Behaviour(Model):
    """The switches: what is not known about Vercel, and what a test may need to be different."""

    lifetime: Duration = Field(default=timedelta(days=90), ge=timedelta(milliseconds=1), le=LONGEST)
    """The time from createdAt to expiresAt of new certificates."""
    backdate: Duration = Field(default=timedelta(0), ge=timedelta(0))
    """How long before the request createdAt of new certificates is. At most half of the lifetime is used."""
    upload_created_at: Literal["now", "not-before"] = "now"
    """createdAt of an uploaded certificate: the time of the upload, or the certificate's own notBefore."""
    renewal: Literal["off", "same-id", "new-id"] = "off"
    """Vercel's own renewal of certificates with autoRenew."""
    renew_before: Duration | None = Field(default=None, ge=timedelta(0))
    """How long before expiry that happens; null: a third of the certificate's lifetime."""
    renewal_backdate: Duration | None = Field(default=None, ge=timedelta(0))
    """``backdate`` of renewals; null: the same as of new certificates."""
    renewal_adds: list[Name] = []
    """Names that a renewal adds to certificates of the same root domain."""
    renewal_moves_created_at: bool = True
    """With ``same-id``: createdAt becomes the time of the renewal."""
    renewal_removes_old: bool = False
    """With ``new-id``: the old certificate is removed at once."""
    reissue: Literal["new", "old", "old-even-expired", "oldest"] = "new"
    """What a POST answers if there are certificates with exactly these names: a new one; the newest one until that has
    expired; the newest one, expired or not; the oldest one, expired or not."""
    issuances_per_week: int | None = Field(default=None, ge=0)
    """The issuer's limit for one exact set of names; null: no limit. A further POST is answered 429."""
    wildcard_status: Literal[400, 449] = 400
    """The status of ``wildcard_not_allowed``."""
    page_size: int = Field(default=20, ge=1, le=100)
    """Certificates on a page of the list, without ``limit``."""
    until: Literal["exclusive", "inclusive"] = "exclusive"
    """Whether ``until`` omits or repeats the certificates of that same millisecond."""
    list_order: ListOrder = "newest-first"
    """The order of the list. ``until`` continues after the certificates of that millisecond, in this order."""
    list_lag: Duration = Field(default=timedelta(0), ge=timedelta(0))
    """How long a new certificate is missing from the list."""
    list_lag_of_removals: Duration = Field(default=timedelta(0), ge=timedelta(0))
    """How long a removed certificate remains in the list."""
    unknown_token_status: Literal[401, 403] = 403
    """The status for a token that is missing, unknown, expired or revoked."""
    invalid_token: bool = True
    """Put ``"invalidToken": true`` into that error, unless the token is missing."""
    date_header: bool = True
    """Send the ``Date`` header."""
    date_offset: float = Field(default=0, allow_inf_nan=False)
    """How many seconds the ``Date`` header is ahead of the emulator's clock; negative: behind."""


class RateLimit(Model):
    """How many requests a token can make in a window of time."""

    limit: int = Field(ge=0)
    window: float = Field(default=60, gt=0)
    """Seconds of the emulator's clock, from a token's first request."""
    calls: list[Call] | None = None
    """Which calls are limited; null: all."""
    per_call: bool = False
    """Count each kind of call by itself."""
    token: str | None = None
    """Limit only this token; null: each token, counted by itself. It is stored as its name."""
    code: str = "rate_limited"
    retry_after: bool = True
    """Send Retry-After with the 429."""
    rate_limit_headers: bool = True
    """Send X-RateLimit-Limit, -Remaining and -Reset with each answer."""
    retry_after_ms: bool = True
    """Put ``retryAfterMs`` into the error."""
    limit_in_body: bool = False
    """Put ``limit`` into the error: ``{"remaining", "reset" (epoch seconds), "resetMs" (epoch ms), "total"}``."""

    @model_validator(mode="after")
    def _hide_the_token(self) -> Self:
        if self.token is not None:
            self.token = token_name(self.token)
        return self


# --- domains


class IPv4Recommendation(Model):
    """Addresses for an A record; the lowest rank is the best."""

    rank: int
    value: list[str]


class CNAMERecommendation(Model):
    """A target for a CNAME record; the lowest rank is the best."""

    rank: int
    value: str


ConfiguredBy = Literal["A", "CNAME", "http", "dns-01"]
Challenge = Literal["dns-01", "http-01"]
RecommendedIPv4 = Annotated[list[IPv4Recommendation], Field(alias="recommendedIPv4")]
RecommendedCNAME = Annotated[list[CNAMERecommendation], Field(alias="recommendedCNAME")]


class DomainConfig(Model):
    """The configuration of a domain, as Vercel's API shows it."""

    configured_by: ConfiguredBy | None
    accepted_challenges: list[Challenge]
    recommended_ipv4: RecommendedIPv4
    recommended_cname: RecommendedCNAME
    misconfigured: bool


class DomainSetup(Model):
    """What Vercel sees of a domain and the names below it, for the names without a closer setup."""

    misconfigured: bool = True
    """Refuse to issue for its names: 449 ``configuration_error``."""
    configured_by: ConfiguredBy | None = None
    """Null: nothing if misconfigured, else ``A`` for a root domain and ``CNAME`` for a name below one."""
    accepted_challenges: list[Challenge] | None = None
    """Null: none if misconfigured, else both. Without ``dns-01``, wildcards are refused: ``wildcard_not_allowed``."""
    recommended_ipv4: RecommendedIPv4 = [IPv4Recommendation(rank=1, value=["76.76.21.21"])]
    recommended_cname: RecommendedCNAME = [CNAMERecommendation(rank=1, value="cname.vercel-dns.com")]
    external: bool = True
    """``external`` of the ``configuration_error``: whether the domain's DNS is outside Vercel."""


class DomainView(DomainSetup):
    """The setup of a domain, as the control API shows it."""

    domain: str


# --- faults


_BY_ACTION: dict[str, frozenset[str]] = {
    "answer": frozenset({"fields", "omit"}),
    "error": frozenset({"status", "code", "message", "fields"}),
    "reset": frozenset(),
    "hang": frozenset(),
    "truncate": frozenset({"status", "code", "message", "fields", "keep"}),
    "empty": frozenset({"status"}),
    "html": frozenset({"status"}),
    "wrong-types": frozenset({"status"}),
    "huge": frozenset({"status", "size"}),
    "slow": frozenset({"status", "code", "message", "fields", "rate"}),
    "redirect": frozenset({"status", "location"}),
    "raw": frozenset({"status", "body", "content_type"}),
    "other-certificate": frozenset({"certificate"}),
}
_OWN_FIELDS = frozenset().union(*_BY_ACTION.values())
_SHOWS_THE_ANSWER = frozenset({"answer", "truncate", "wrong-types", "slow"})


class Fault(Model):
    """A fault: what goes wrong with the next requests that match.

    A request gets the oldest fault that matches and is not used up, and no other. ``call``, ``cns``, ``id``, ``token``
    and ``team`` choose the requests. The fault skips the first ``skip`` of them, and is used up after ``times`` more.

    ``when`` says whether the work (issuing, removing, …) is done. With ``before`` it isn't, and the request isn't even
    checked. With ``after`` it is, and only the answer is affected. The default is ``after`` for the actions that change
    the true answer (``answer``, ``truncate``, ``wrong-types``, ``slow``), and ``before`` for the others.

    ``status`` and the fields after it describe the answer of an action that doesn't use the true one.
    """

    call: Call | Literal["any"] | list[Call] = "any"
    times: int | None = Field(default=1, ge=1)
    skip: int = Field(default=0, ge=0)
    cns: list[Name] | None = None
    """Only requests for a certificate with all of these names."""
    id: str | None = None
    """Only requests that name this certificate."""
    token: str | None = None
    """Only requests with this token. It is stored as its name."""
    team: str | None = None
    """Only requests for this team: its id or slug; ``personal``: requests without a team."""
    when: When = "before"
    action: Action = "error"
    delay: float = Field(default=0, ge=0)
    """Seconds of real time before the answer; with ``before``, also before the work of ``answer``."""
    headers: dict[str, str | None] = {}
    """Headers of the answer; null omits a header, also ``Date``."""
    status: int | None = Field(default=None, ge=200, le=599)
    code: str | None = None
    """The error's code; null: one that fits the status."""
    message: str = "The emulator was told to answer so."
    fields: dict[str, JsonValue] = {}
    """More fields of the error object; with ``answer``: fields to change in the true answer."""
    omit: list[str] = []
    """With ``answer``: fields to omit from the true answer."""
    keep: int | None = Field(default=None, ge=0)
    """With ``truncate``: how many bytes to send before the connection closes; null: half of them."""
    size: int = Field(default=100_000_000, ge=1)
    """With ``huge``: the size of the body in bytes."""
    rate: float = Field(default=1, gt=0)
    """With ``slow``: bytes per second."""
    location: str = "/redirected"
    body: JsonValue = ""
    """With ``raw``: a string is sent as it is, anything else as JSON."""
    content_type: str = "application/json"
    certificate: str | None = None
    """With ``other-certificate``: the id of the certificate to answer with."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        allowed = _BY_ACTION[self.action]
        if useless := (self.model_fields_set & _OWN_FIELDS) - allowed:
            raise ValueError(f"action `{self.action}` does not use {', '.join(sorted(map(to_camel, useless)))}")
        if "when" not in self.model_fields_set and self.action in _SHOWS_THE_ANSWER:
            self.when = "after"
        if self.action == "other-certificate" and self.certificate is None:
            raise ValueError("action `other-certificate` needs `certificate`: the id to answer with")
        if self.action in {"truncate", "slow"} and self.when == "after" and self.status is not None:
            raise ValueError(f"action `{self.action}` with a status of its own needs `when` to be `before`")
        if self.token is not None:
            self.token = token_name(self.token)
        return self

    @model_serializer(mode="wrap")
    def _without_the_useless(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit the fields that the action doesn't use, so that the output is valid input."""
        useless = _OWN_FIELDS - _BY_ACTION[self.action]
        dropped = useless | {to_camel(name) for name in useless}
        return {name: value for name, value in serialize(self).items() if name not in dropped}


class FaultView(Model):
    """A fault, as the control API shows it."""

    id: str
    matched: int
    """How many requests it was chosen for."""
    fired: int
    """How many requests it has affected; with ``after``, their work is done by then."""
    hanging: int
    """How many requests hang because of it now."""
    used_up: bool
    fault: Fault


# --- bodies of the control API


class Release(Model):
    """Release hanging requests: let them continue, or drop their connections."""

    then: Then = "continue"
    count: int | None = Field(default=None, ge=1)
    """How many, the oldest first; null: all."""


class Injection(Model):
    """A certificate that another person makes."""

    cns: list[Name] = Field(min_length=1)
    scope: str = DEFAULT_SCOPE
    id: str | None = Field(default=None, min_length=1)
    created_at: EpochMs | None = None
    """Null: now."""
    expires_at: EpochMs | None = None
    """Null: ``createdAt`` plus the lifetime of new certificates."""
    auto_renew: bool = True
    """False for a certificate that the other person uploads."""


class CertificateChange(Model):
    """A change of a certificate by another person. The other fields remain as they are."""

    cns: list[Name] | None = Field(default=None, min_length=1)
    created_at: EpochMs | None = None
    expires_at: EpochMs | None = None
    auto_renew: bool | None = None


class Renewal(Model):
    """A renewal by Vercel that happens now, whatever the switches say."""

    form: Literal["same-id", "new-id"] = "new-id"
    id: str | None = Field(default=None, min_length=1)
    """With ``new-id``: the new id."""
    expires_at: EpochMs | None = None
    """Null: as a new certificate."""
    backdate: Duration = Field(default=timedelta(0), ge=timedelta(0))
    """How long ago the new createdAt is."""
    adds: list[Name] = []
    """Names to add."""
    moves_created_at: bool = True
    """With ``same-id``: createdAt becomes the time of the renewal."""
    removes_old: bool = False
    """With ``new-id``: the old certificate is removed at once."""


class ClockChange(Model):
    """How to move the clock: exactly one of the three fields."""

    advance: float | None = Field(default=None, allow_inf_nan=False)
    """How many seconds to move forward; negative: back."""
    set: EpochMs | None = None
    offset: float | None = Field(default=None, allow_inf_nan=False)
    """How many seconds ahead of real time; 0: real time."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("give exactly one of advance (seconds), set (epoch ms) and offset (seconds)")
        return self


class ClockView(Model):
    """The clock; ``now`` in epoch milliseconds, ``offset`` in seconds."""

    now: EpochMs
    offset: float


class TokenGrant(Model):
    """A token to make valid."""

    token: str
    user: str = DEFAULT_USER
    """The user that it belongs to. The tokens of one user share a personal scope."""
    teams: list[str] | None = None
    """The ids of the teams that it can use; null: all."""
    expires_at: EpochMs | None = None
    """When it expires; null: never."""


class TokenRevocation(Model):
    """A token to make invalid, or its name."""

    token: str


class TokenView(Model):
    """A valid token, as the control API shows it."""

    name: str
    user: str
    teams: list[str] | None
    expires_at: EpochMs | None


class Team(Model):
    """A team: its id and its URL slug."""

    id: str
    slug: str
