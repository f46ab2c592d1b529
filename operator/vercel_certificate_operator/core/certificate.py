"""What the operator knows about a certificate at Vercel."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

import idna

LONGEST_LABEL = 63
"""Characters of a part of a DNS name."""
LONGEST_ID = 200
"""Characters. Vercel's ids have about 30."""
COMPLETED = "The operator got what was missing with another request."
"""The oddity of an answer that another one has completed."""
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_ID}}}")


def is_id(text: str) -> bool:
    """Returns whether a text from a user can be the id of a certificate, and be sent in a URL."""
    return _ID.fullmatch(text) is not None


def normalized(names: Iterable[str]) -> frozenset[str]:
    """Returns DNS names as a set in the form in which they are compared: lower case, ASCII, no trailing dot."""
    return frozenset(_normalized(name) for name in names)


def _normalized(name: str) -> str:
    """Returns one name like ``normalized``. What can't be a DNS name stays different from all that are."""
    name = name.rstrip(".").lower()
    if name.isascii():
        return name
    # As Node.js and browsers do (UTS 46): Python's own codec is IDNA 2003, for which straße is strasse, another domain.
    try:
        mapped = idna.uts46_remap(name, std3_rules=False, transitional=False)
    except idna.IDNAError:
        return name
    labels = [_ascii(label) for label in mapped.rstrip(".").split(".")]
    return ".".join(labels) if max(map(len, labels)) <= LONGEST_LABEL else name


def _ascii(label: str) -> str:
    return label if label.isascii() else f"xn--{label.encode('punycode').decode()}"


@dataclass(frozen=True, slots=True)
class Scope:
    """Where at Vercel a certificate lives: a team, by id or by slug, or (neither) the token's own account."""

    team_id: str | None = None
    team_slug: str | None = None

    def __str__(self) -> str:
        return f"team {self.team}" if self.team else "the token's personal account"

    @property
    def team(self) -> str | None:
        """The team as status records it."""
        return self.team_id or self.team_slug

    def certainly_differs_from(self, other: "Scope") -> bool:
        """Returns whether the two can't be the same place. Only two team ids prove that."""
        return self.team_id is not None and other.team_id is not None and self.team_id != other.team_id


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate as Vercel described it.

    Only the id is certain. A field that Vercel left out, or sent in an impossible form, is None (``cns``: empty), and
    ``oddities`` has a sentence about it. The id is kept whatever the rest looks like: without it, a certificate that
    was issued would be lost.
    """

    id: str
    cns: frozenset[str]
    """Names in normalized form."""
    created_at: datetime | None = None
    """Aware, UTC."""
    expires_at: datetime | None = None
    """Aware, UTC."""
    auto_renew: bool | None = None
    oddities: tuple[str, ...] = field(default=())
    """Sentences about what was odd in Vercel's answer, for people."""

    @property
    def is_described(self) -> bool:
        """Whether Vercel said its names and when it expires."""
        return bool(self.cns) and self.expires_at is not None

    @property
    def is_complete(self) -> bool:
        """Whether Vercel also said when it was created."""
        return self.is_described and self.created_at is not None

    def completed_by(self, other: "Certificate | None") -> "Certificate":
        """Returns it with the fields that it lacks, as another answer about the same certificate has them."""
        if other is None:
            return self
        full = replace(
            self,
            cns=self.cns or other.cns,
            created_at=self.created_at or other.created_at,
            expires_at=self.expires_at or other.expires_at,
            auto_renew=other.auto_renew if self.auto_renew is None else self.auto_renew,
        )
        return full if full == self else replace(full, oddities=(*self.oddities, COMPLETED))

    def covers(self, cns: Iterable[str]) -> bool:
        """Returns whether every one of the names is on the certificate."""
        return normalized(cns) <= self.cns


class Certificates(tuple[Certificate, ...]):  # noqa: SLOT001 - it keeps its indexes
    """The certificates of a list. Finding some takes a time that doesn't grow with the length of the list."""

    @cached_property
    def by_id(self) -> Mapping[str, Certificate]:
        return {certificate.id: certificate for certificate in self}

    @cached_property
    def _by_name(self) -> Mapping[str, Sequence[Certificate]]:
        by_name: defaultdict[str, list[Certificate]] = defaultdict(list)
        for certificate in self:
            for name in certificate.cns:
                by_name[name].append(certificate)
        return dict(by_name)

    def covering(self, cns: frozenset[str]) -> Sequence[Certificate]:
        """Returns those that cover all of these names, in the order of the list."""
        if not cns:
            return self
        of_the_rarest = min((self._by_name.get(name, ()) for name in cns), key=len)
        return [certificate for certificate in of_the_rarest if cns <= certificate.cns]
