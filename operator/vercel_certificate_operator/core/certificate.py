"""What the operator knows of a certificate at Vercel."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime


def normalized(names: Iterable[str]) -> frozenset[str]:
    """DNS names as a set, in lower case: how they are compared everywhere."""
    return frozenset(name.lower() for name in names)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where at Vercel a certificate lives: a team, by id or by slug, or (neither) the token's own account."""

    team_id: str | None = None
    team_slug: str | None = None

    def __str__(self) -> str:
        team = self.team_id or self.team_slug
        return f"team {team}" if team else "the token's personal account"


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate, as Vercel answered.

    Only the id is sure to be there. A field that Vercel left out, or sent in a shape that can't be meant, is None
    (``cns``: empty), and ``oddities`` says so in a sentence each: the id is kept whatever the rest looks like,
    since without it a certificate that was issued would be lost.
    """

    id: str
    cns: frozenset[str]
    """Names in lower case."""
    created_at: datetime | None = None
    """Aware, UTC."""
    expires_at: datetime | None = None
    """Aware, UTC."""
    auto_renew: bool | None = None
    oddities: tuple[str, ...] = field(default=())
    """Sentences about what was odd in Vercel's answer, for people."""

    def covers(self, cns: Iterable[str]) -> bool:
        """Whether every one of the names is on the certificate."""
        return normalized(cns) <= self.cns
