"""The shapes of the control API and of the state: what is sent, what is answered, what is kept.

JSON names are camelCase, as Vercel's are; Python names are snake_case. Unknown fields are refused. Times are epoch
milliseconds, durations seconds.
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

Call = Literal["issue", "get", "list", "remove", "upload", "other"]
When = Literal["before", "after"]
Action = Literal[
    "answer",
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

PERSONAL = "personal:"
DEFAULT_USER = "user"
DEFAULT_SCOPE = PERSONAL + DEFAULT_USER

_MAX_MS = 10**15
_TOKEN_NAME = re.compile(r"sha256:[0-9a-f]{12}")


def token_name(token: str) -> str:
    """A name for a token that can be shown: the start of its hash. A name is its own name."""
    if _TOKEN_NAME.fullmatch(token):
        return token
    return "sha256:" + sha256(token.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _to_timedelta(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[
    timedelta, BeforeValidator(_to_timedelta), PlainSerializer(timedelta.total_seconds, return_type=float)
]
EpochMs = Annotated[int, Field(ge=0, le=_MAX_MS)]
Name = Annotated[str, Field(min_length=1)]


class Model(BaseModel):
    """Camel case outside, snake case inside, nothing unknown."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_alias=True, validate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """The JSON object, with the names used outside."""
        return self.model_dump(mode="json", by_alias=True)


# --- what the emulator keeps


class Certificate(Model):
    """A certificate and all that the emulator knows of it; Vercel's API shows only the first five fields."""

    id: str
    created_at: EpochMs
    expires_at: EpochMs
    auto_renew: bool
    cns: list[Name]
    scope: str = DEFAULT_SCOPE
    """The team's id, or ``personal:`` and the user's name."""
    origin: Literal["issued", "uploaded", "renewed", "injected"] = "issued"
    """``renewed``: made by Vercel's own renewal under a new id; ``injected``: by the control API."""
    token: str | None = None
    """The name of the token that it was made with."""
    removed_at: EpochMs | None = None
    removed_by: Literal["request", "control", "renewal"] | None = None
    renewals: int = 0
    """How often Vercel's own renewal has moved its expiry."""
    replaced_by: str | None = None
    """The certificate that Vercel's own renewal made in its place."""
    settled_at: EpochMs = 0
    """When it was last made or changed; its own renewal is not dated before this."""

    def public(self) -> dict[str, JsonValue]:
        """What Vercel's API answers with."""
        return {
            "id": self.id,
            "createdAt": self.created_at,
            "expiresAt": self.expires_at,
            "autoRenew": self.auto_renew,
            "cns": list[JsonValue](self.cns),
        }


class Snapshot(Model):
    """The state file."""

    version: Literal[1] = 1
    clock_offset: float = 0
    certificates: list[Certificate] = []


class Entry(Model):
    """One request in the journal."""

    seq: int
    time: EpochMs
    call: Call
    method: str
    path: str
    query: dict[str, str] = {}
    token: str | None = None
    """The token's name (see :func:`token_name`), also of a token that is not known."""
    scope: str | None = None
    """Where the request was at home; null if it was refused before that was known."""
    cns: list[str] | None = None
    """The names asked for, as they were sent."""
    outcome: Literal["pending", "answered", "dropped"] = "pending"
    status: int | None = None
    code: str | None = None
    certificate: str | None = None
    """The id that was issued, uploaded, read or removed, also where the reply was lost."""
    fault: str | None = None
    """The id of the fault that was applied."""
    action: Action | None = None


class JournalView(Model):
    """The journal, as the control API shows it. ``counts`` go on when old entries have been dropped."""

    counts: dict[Call, int]
    last: int
    entries: list[Entry]


# --- switches


class Behaviour(Model):
    """What is not known of Vercel, and what a test may want otherwise."""

    lifetime: Duration = Field(default=timedelta(days=90), ge=timedelta(milliseconds=1), le=LONGEST)
    """How long new certificates live."""
    renewal: Literal["off", "same-id", "new-id"] = "off"
    """Vercel's own renewal of certificates with autoRenew."""
    renew_before: Duration | None = Field(default=None, ge=timedelta(0))
    """How long before expiry that happens; null: one third of the certificate's lifetime."""
    renewal_moves_created_at: bool = True
    """With ``same-id``: createdAt becomes the time of the renewal."""
    renewal_removes_old: bool = False
    """With ``new-id``: the old certificate goes at once. Otherwise both are there."""
    reissue: Literal["new", "old"] = "new"
    """A POST for names that have a live certificate makes a new one, or answers with the newest one there is."""
    page_size: int = Field(default=20, ge=1, le=100)
    """Certificates on a page of the list, without ``limit``."""
    until: Literal["exclusive", "inclusive"] = "exclusive"
    """Whether ``until`` leaves out the certificates of that very millisecond, or repeats them."""
    unknown_token_status: Literal[401, 403] = 401


class RateLimit(Model):
    """So many requests per token in a window of time, on the emulator's clock."""

    limit: int = Field(ge=0)
    window: float = Field(default=60, gt=0)
    """Seconds, from a token's first request."""
    calls: list[Call] | None = None
    """The calls that count; null: all."""
    code: str = "rate_limited"
    retry_after: bool = True
    """Send Retry-After with the 429."""
    rate_limit_headers: bool = True
    """Send X-RateLimit-Limit, -Remaining and -Reset with each answer."""
    retry_after_ms: bool = True
    """Put ``retryAfterMs`` into the error."""


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
}
_OWN_FIELDS = frozenset().union(*_BY_ACTION.values())
_SHOWS_THE_ANSWER = frozenset({"answer", "truncate", "wrong-types", "slow"})


class Fault(Model):
    """Something to go wrong with the next requests that match.

    The oldest fault that matches a request and is not used up is applied, one per request. ``call``, ``cns``, ``id``
    and ``token`` choose the requests, ``skip`` lets the first ones pass, ``times`` ends it (null: never).

    ``when`` says whether the work (issuing, removing, …) is done: with ``before`` it is not, and the request is not
    even looked at; with ``after`` it is, and only the answer suffers. The default is ``after`` for the actions that
    show the true answer in some bad way (``answer``, ``truncate``, ``wrong-types``, ``slow``), else ``before``.

    ``status`` and the other fields of an answer are used where the action makes up an answer of its own.
    """

    call: Call | Literal["any"] = "any"
    times: int | None = Field(default=1, ge=1)
    skip: int = Field(default=0, ge=0)
    cns: list[Name] | None = None
    """Only requests for a certificate with all these names."""
    id: str | None = None
    """Only requests that name this certificate."""
    token: str | None = None
    """Only requests with this token; kept as its name."""
    when: When = "before"
    action: Action = "error"
    delay: float = Field(default=0, ge=0)
    """Seconds of real time before the answer; with ``before``, also before the work of ``answer``."""
    headers: dict[str, str | None] = {}
    """Headers of the answer; null leaves one out (``Date`` too)."""
    status: int | None = Field(default=None, ge=200, le=599)
    code: str | None = None
    """The error's code; null: one that goes with the status."""
    message: str = "The emulator was told to answer so."
    fields: dict[str, JsonValue] = {}
    """More fields of the error object; with ``answer``: fields of the true answer's object to be changed."""
    omit: list[str] = []
    """With ``answer``: fields of the true answer's object to be left out."""
    keep: int | None = Field(default=None, ge=0)
    """With ``truncate``: bytes sent before the connection ends; null: half of them."""
    size: int = Field(default=100_000_000, ge=1)
    """With ``huge``: bytes of the body."""
    rate: float = Field(default=1, gt=0)
    """With ``slow``: bytes per second."""
    location: str = "/redirected"
    body: JsonValue = ""
    """With ``raw``: a string is sent as it is, anything else as JSON."""
    content_type: str = "application/json"

    @model_validator(mode="after")
    def _check(self) -> Self:
        allowed = _BY_ACTION[self.action]
        if useless := (self.model_fields_set & _OWN_FIELDS) - allowed:
            raise ValueError(f"action `{self.action}` does not use {', '.join(sorted(map(to_camel, useless)))}")
        if "when" not in self.model_fields_set and self.action in _SHOWS_THE_ANSWER:
            self.when = "after"
        if self.action in {"truncate", "slow"} and self.when == "after" and self.status is not None:
            raise ValueError(f"action `{self.action}` with a status of its own needs `when` to be `before`")
        if self.token is not None:
            self.token = token_name(self.token)
        return self

    @model_serializer(mode="wrap")
    def _without_the_useless(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only what the action uses: what is shown can be sent again."""
        useless = _OWN_FIELDS - _BY_ACTION[self.action]
        dropped = useless | {to_camel(name) for name in useless}
        return {name: value for name, value in serialize(self).items() if name not in dropped}


class FaultView(Model):
    """A fault as the control API shows it."""

    id: str
    matched: int
    """Requests that it was chosen for."""
    fired: int
    """How often it has taken effect; with ``after``, the work is done by then."""
    hanging: int
    """Requests that hang because of it now."""
    used_up: bool
    fault: Fault


# --- bodies of the control API


class Release(Model):
    """Let hanging requests go on (with ``before``: to do their work and answer), or drop their connections."""

    then: Then = "continue"
    count: int | None = Field(default=None, ge=1)
    """How many, the longest-hanging first; null: all that hang now."""


class Injection(Model):
    """A certificate that somebody else has made."""

    cns: list[Name] = Field(min_length=1)
    scope: str = DEFAULT_SCOPE
    id: str | None = Field(default=None, min_length=1)
    created_at: EpochMs | None = None
    """Null: now."""
    expires_at: EpochMs | None = None
    """Null: as a new one."""
    auto_renew: bool = True


class CertificateChange(Model):
    """What somebody else may do to a certificate. Fields that are not given stay."""

    cns: list[Name] | None = Field(default=None, min_length=1)
    created_at: EpochMs | None = None
    expires_at: EpochMs | None = None
    auto_renew: bool | None = None


class ClockChange(Model):
    """Exactly one of the three."""

    advance: float | None = Field(default=None, allow_inf_nan=False)
    """Seconds to move on by."""
    set: EpochMs | None = None
    offset: float | None = Field(default=None, allow_inf_nan=False)
    """Seconds ahead of real time; 0: real time."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("give one of advance (seconds), set (epoch ms) and offset (seconds)")
        return self


class ClockView(Model):
    """The clock; ``now`` in epoch milliseconds, ``offset`` in seconds."""

    now: EpochMs
    offset: float


class TokenGrant(Model):
    """A token that is valid from now on."""

    token: str
    user: str = DEFAULT_USER
    """Whose it is: tokens of one user share their personal scope."""
    teams: list[str] | None = None
    """The teams that it may use, by id; null: all."""


class TokenRevocation(Model):
    """A token (or its name) that is no longer valid."""

    token: str


class TokenView(Model):
    """A valid token, by its name."""

    name: str
    user: str
    teams: list[str] | None


class Team(Model):
    """A team, by its id and its URL slug."""

    id: str
    slug: str
