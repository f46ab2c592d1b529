"""The operator's record: what it has done, kept in ``status``, which only the operator may write.

What the operator may do follows from what is recorded here and never from inference. Values are plain strings, not
enums: a status that a newer or older version wrote must stay readable.
"""

import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from vercel_certificate_operator.core.certificate import Scope, normalized
from vercel_certificate_operator.core.schema import Model, NullAsEmpty, Texts, Time, whole_seconds

MOST_SUPERSEDED = 20
"""Replaced certificates that status holds. While it is full, nothing is issued."""
MOST_REPLACED_NAMES = 100
"""Names of a replaced certificate that status holds: as many as a spec can have. Of one with more it holds none."""
MOST_ISSUANCES = 50
"""Issuances that status holds, and as many that were requested. A limit above this number is no limit."""


class Origin(StrEnum):
    """How a certificate came into a status. Only the origin decides whether the operator may remove it."""

    ISSUED = "Issued"
    """The operator's own POST brought it."""
    ADOPTED = "Adopted"
    """The user named it, or asked for adoption in general."""
    FOUND = "Found"
    """It existed before, or may be someone else's. The operator never removes it."""


class Outcome(StrEnum):
    """What came of an attempt. An attempt without an outcome is open."""

    ISSUED = "Issued"
    NOT_RENEWED = "NotRenewed"
    """Vercel answered with a certificate that is neither younger nor expires later."""
    REFUSED = "Refused"
    """Vercel refused it, or it was never sent; the reason is recorded beside it."""
    LOST = "Lost"
    """No answer came, and no certificate turned up in the grace period."""
    UNEXPECTED = "Unexpected"
    """Vercel answered with a certificate that can't be used for what was requested."""
    VOID = "Void"
    """This operator knows that it never sent the POST."""


class Attempt(Model):
    """One attempt to issue a certificate. At most one POST is ever sent for its id."""

    id: str
    start: Time
    """By Vercel's clock, as far as it was known then."""
    server_start: Time | None = None
    """By the API server's clock, if the two differed. One of them was wrong, and nobody knows which."""
    generation: int = 0
    """The generation of the spec for which it was made."""
    cns: Texts = ()
    """The requested names, in lower case, sorted."""
    reason: str = ""
    """Why the certificate was needed."""
    team: str | None = None
    """Where it was made: the team's id or slug; None: the token's own account."""
    known: tuple[str, ...] | None = None
    """Ids of certificates with these names that existed before and are young enough to be mistaken for the answer.
    None: no list could be had."""
    listed: Time | None = None
    """When the list that says so was begun."""
    renew_request: str | None = None
    """The value of the renew annotation at that time."""
    requested: bool = False
    """Whether the user requested it: the first attempt for a new value of the renew annotation."""
    token_hash: str | None = None
    """Which token was used; see ``token_hash``."""
    fingerprint: str | None = None
    """For an upload: the SHA-256 fingerprint of the leaf, in hexadecimal digits."""
    expires_at: Time | None = None
    """For an upload: when the leaf expires."""
    chain_hash: str | None = None
    """For an upload: a hash of the leaf and its chain."""
    previous_failures: int = 0
    """How many attempts for these names had failed in a row, and with which reason, when it was made."""
    previous_reason: str | None = None
    blamed_cns: Texts = Field(default=(), alias="blamedCNs")
    """The names that Vercel's refusal blames."""
    outcome: str | None = None
    outcome_reason: str | None = None
    """Why it failed, if it did."""
    retry_time: Time | None = None
    """When the next attempt for the same names may follow, if it failed."""

    @property
    def open(self) -> bool:
        """Whether what came of it is not recorded yet."""
        return self.outcome is None

    @property
    def call(self) -> Literal["issue", "upload"]:
        """The kind of request that is made for it."""
        return "issue" if self.fingerprint is None else "upload"

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.cns)

    @property
    def scope(self) -> Scope:
        return scope_of_team(self.team)

    @property
    def by_each_clock(self) -> tuple["Attempt", ...]:
        """The attempt with its times by Vercel's clock and, if that differed, with those by the API server's."""
        if self.server_start is None:
            return (self,)
        listed = self.listed - (self.start - self.server_start) if self.listed is not None else None
        return self, self.changed(start=self.server_start, listed=listed)

    def closed(self, outcome: Outcome, *, reason: str | None = None, retry_time: datetime | None = None) -> "Attempt":
        """Returns a copy with its outcome."""
        return self.changed(
            outcome=str(outcome),
            outcome_reason=str(reason) if reason is not None else None,
            retry_time=retry_time and whole_seconds(retry_time),
        )

    def failures(self, reason: str) -> int:
        """Returns how many attempts in a row failed for this reason, if this one does."""
        return self.previous_failures + 1 if self.previous_reason == reason else 1

    def changed(self, **changes: Any) -> "Attempt":
        """Returns a copy with some fields changed."""
        return self.model_copy(update=changes)


class Superseded(Model):
    """A certificate that was replaced and is still at Vercel."""

    id: str
    origin: str | None = None
    """See ``Origin``. Without one, nothing removes it."""
    team: str | None = None
    """Where it was issued."""
    fingerprint: str | None = None
    """If it was uploaded: the SHA-256 fingerprint of the leaf, in hexadecimal digits."""
    since: Time
    """When it was replaced."""
    cns: Texts = ()
    """Its names, if Vercel renews it."""
    renewable_since: Time | None = None
    """From when on Vercel may renew it under another id: half of its lifetime has passed then."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.cns)

    @property
    def scope(self) -> Scope:
        return scope_of_team(self.team)


class Issuance(Model):
    """An attempt that issued a certificate, or may have."""

    time: Time
    names_hash: str = ""
    request_hash: str | None = None
    """Of the value of the renew annotation that requested it: then it doesn't count for the limit."""


SupersededList = Annotated[tuple[Superseded, ...], NullAsEmpty]
IssuanceList = Annotated[tuple[Issuance, ...], NullAsEmpty]


def scope_of_team(team: str | None) -> Scope:
    """Returns the scope that a recorded team means. Ids begin with ``team_``; slugs can't."""
    if team is not None and not team.startswith("team_"):
        return Scope(team_slug=team)
    return Scope(team_id=team)


def names_hash(cns: Iterable[str]) -> str:
    """Returns a short, stable name for a set of DNS names (16 hexadecimal digits)."""
    return hashlib.sha256("\n".join(sorted(normalized(cns))).encode()).hexdigest()[:16]


def request_hash(value: str) -> str:
    """Returns a short, stable name for a value of the renew annotation (16 hexadecimal digits)."""
    return hashlib.sha256(value.encode()).hexdigest()[:16]


def token_hash(token: str, resource: str, place: Iterable[str] | None) -> str:
    """Returns a name for a token that is different in each resource and says nothing about the token.

    An HMAC-SHA-256 of 32 hexadecimal digits, a hyphen, and 8 digits that depend only on where the token is.

    Args:
        token: the token.
        resource: its namespace and name, which are the key. Not its uid: a resource that was restored from a backup
            has another uid, and its token is still the same.
        place: see ``is_from``.
    """
    hashed = hmac.new(resource.encode(), token.encode(), hashlib.sha256).hexdigest()[:32]
    return f"{hashed}-{_place_hash(place)}"


def is_from(hashed: object, place: Iterable[str] | None) -> bool:
    """Returns whether a token, of which this is the ``token_hash``, is in this place. Without a hash, it may be.

    Args:
        place: the namespace, name and key of a Secret; None: the operator's default token.
    """
    return not isinstance(hashed, str) or hashed.partition("-")[2] in ("", _place_hash(place))


def is_same_token(one: str | None, other: str | None) -> bool:
    """Returns whether two hashes of one resource are of the same token, wherever it was."""
    return (one or "").partition("-")[0] == (other or "").partition("-")[0]


def _place_hash(place: Iterable[str] | None) -> str:
    return hashlib.sha256("/".join(place or ()).encode()).hexdigest()[:8]
