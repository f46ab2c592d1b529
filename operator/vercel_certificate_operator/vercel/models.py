"""The format of Vercel's answers, and how they are read.

Unknown fields are ignored. Known ones are read strictly: neither "1" nor true is a number. A field that can't be read
has these consequences:

* An answer without an id is not a certificate: ``Unreadable``.
* Any other field of a certificate is omitted, and ``Certificate.oddities`` has a sentence about it.
* A page of a list must be complete, because lists decide that a certificate is absent: ``Unreadable``.

Source: Vercel's REST API reference, and answers of the API.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError

from vercel_certificate_operator.core.certificate import Certificate, normalized
from vercel_certificate_operator.core.domains import DomainConfig
from vercel_certificate_operator.vercel.times import from_epoch, is_seconds

_EXCERPT = 60
_LONGEST_INTEGER = 300


_MOST_ADDRESSES = 4


class Unreadable(ValueError):
    """The body is not in Vercel's format. The text says what is wrong, as the second half of a sentence."""


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class CertificateBody(_Body):
    """A certificate: ``{"id", "cns", "createdAt", "expiresAt", "autoRenew"}``. Times are epoch milliseconds."""

    id: Annotated[str, StringConstraints(pattern=r"[^\s.]")]
    """Of dots alone, it could not be sent in a URL: no certificate could be read or removed by it."""
    cns: list[str] | None = Field(None, description="a list of names")
    created_at: FiniteFloat | None = Field(None, alias="createdAt", description="a time in epoch milliseconds")
    expires_at: FiniteFloat | None = Field(None, alias="expiresAt", description="a time in epoch milliseconds")
    auto_renew: bool | None = Field(None, alias="autoRenew", description="true or false")


class PaginationBody(_Body):
    """Where the next page of a list starts, in epoch milliseconds; null on the last page, never missing."""

    next: int | None


class PageBody(_Body):
    """A page of a list: ``{"certs": […], "pagination": {"count", "next", "prev"}}``."""

    certs: list[dict[str, object]]
    pagination: PaginationBody


class ErrorBody(_Body):
    """The object in ``{"error": {…}}``. Its code is a string; in similar errors of other products it is not."""

    code: Annotated[str, StringConstraints(pattern=r"\S")]
    message: str


class RankedAddresses(_Body):
    """Recommended addresses of an A record. The lowest rank is the best."""

    rank: float
    value: list[str]


class RankedTarget(_Body):
    """A recommended target of a CNAME record."""

    rank: float
    value: str


class DomainConfigBody(_Body):
    """The fields of a domain's configuration that are used."""

    misconfigured: bool
    configured_by: str | None = Field(None, alias="configuredBy")
    accepted_challenges: list[str] = Field(default_factory=list, alias="acceptedChallenges")
    recommended_ipv4: list[RankedAddresses] = Field(default_factory=list, alias="recommendedIPv4")
    recommended_cname: list[RankedTarget] = Field(default_factory=list, alias="recommendedCNAME")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list."""

    certificates: tuple[Certificate, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error in Vercel's format."""

    code: str
    message: str
    fields: dict[str, object]
    """The fields of the body and, with precedence, of its ``error`` object. Vercel does not document where the fields
    of particular errors are."""


def parse(body: bytes) -> object:
    """Returns the JSON value of a body. Raises Unreadable.

    It uses the standard library's parser, which still finds the id if another field has half a surrogate pair or an
    integer of 10,000 digits. Pydantic's parser does not.
    """
    if not body.strip():
        raise Unreadable("is empty")
    try:
        value: object = json.loads(body, parse_int=_integer)
    except (ValueError, RecursionError):
        raise Unreadable("is not JSON, or cut short") from None
    return value


def certificate(value: object, *, asked: Iterable[str] | None = None) -> Certificate:
    """Returns the certificate that a JSON value describes. Raises Unreadable if it has no id.

    Args:
        asked: the requested names. If the certificate has others, that is an oddity.
    """
    if not isinstance(value, dict):
        raise Unreadable(f"is {_shown(value)} instead of a certificate")
    odd: dict[str, object] = {}
    try:
        body = CertificateBody.model_validate(value)
    except ValidationError as invalid:
        odd = {str(error["loc"][0]): value.get(error["loc"][0]) for error in invalid.errors(include_url=False)}
        if "id" in odd:
            raise Unreadable("holds no certificate id") from None
        body = CertificateBody.model_validate({name: field for name, field in value.items() if name not in odd})

    oddities: list[str] = []
    for name, field in CertificateBody.model_fields.items():
        wire_name = field.alias or name
        if wire_name in odd:
            oddities.append(f"Vercel sent {_shown(odd[wire_name])} as {wire_name}, which is not {field.description}.")
        elif getattr(body, name) is None:
            oddities.append(f"Vercel sent no {wire_name}.")
    created_at = _time("createdAt", body.created_at, oddities)
    expires_at = _time("expiresAt", body.expires_at, oddities)
    if created_at and expires_at and expires_at <= created_at:
        oddities.append(
            f"Vercel says that it expires at {expires_at:%FT%TZ}, no later than it was created ({created_at:%FT%TZ})."
        )
    cns = normalized(body.cns or ())
    if asked is not None and body.cns is not None and cns != (wanted := normalized(asked)):
        oddities.append(f"Vercel was asked for {_names(wanted)}, and answered with {_names(cns)}.")
    return Certificate(
        id=body.id,
        cns=cns,
        created_at=created_at,
        expires_at=expires_at,
        auto_renew=body.auto_renew,
        oddities=tuple(oddities),
    )


def page(value: object) -> Page:
    """Returns the page of a list that a JSON value describes. Raises Unreadable if any part of it can't be read."""
    try:
        body = PageBody.model_validate(value)
    except ValidationError as invalid:
        where = ".".join(map(str, invalid.errors(include_url=False, include_input=False)[0]["loc"]))
        raise Unreadable(f"is not a page of a list (wrong field: {where or 'none, but not an object'})") from None
    return Page(tuple(certificate(item) for item in body.certs), body.pagination.next)


def domain_config(value: object) -> DomainConfig:
    """Returns the configuration of a domain that a JSON value describes. Raises Unreadable."""
    try:
        body = DomainConfigBody.model_validate(value)
    except ValidationError:
        raise Unreadable("is not the configuration of a domain") from None
    ipv4 = min(body.recommended_ipv4, key=lambda entry: entry.rank, default=None)
    cname = min(body.recommended_cname, key=lambda entry: entry.rank, default=None)
    return DomainConfig(
        misconfigured=body.misconfigured,
        configured_by=body.configured_by,
        accepted_challenges=tuple(body.accepted_challenges),
        ipv4=tuple(ipv4.value[:_MOST_ADDRESSES]) if ipv4 is not None else (),
        cname=cname.value if cname is not None else None,
    )


def error(value: object) -> ErrorAnswer | None:
    """Returns the error that a JSON value describes; None if it is not in Vercel's format."""
    if not isinstance(value, dict) or not isinstance(fields := value.get("error"), dict):
        return None
    try:
        body = ErrorBody.model_validate(fields)
    except ValidationError:
        return None
    return ErrorAnswer(body.code, body.message, {**value, **fields})


def removed(value: object) -> None:
    """Accepts ``{}``, the answer to a removal. Raises Unreadable for anything else."""
    if not isinstance(value, dict) or "error" in value:
        raise Unreadable(f"is {_shown(value)}, not the answer to a removal")


def _time(name: str, number: float | None, oddities: list[str]) -> datetime | None:
    if number is None:
        return None
    time = from_epoch(number)
    if time is None:
        oddities.append(f"Vercel sent {_shown(number)} as {name}, which is not a plausible time.")
    elif is_seconds(number):
        oddities.append(f"Vercel sent {_shown(number)} as {name}, which looks like seconds and was read as such.")
    return time


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


def _shown(value: object) -> str:
    """Returns a JSON value in a few printable words for a message."""
    if isinstance(value, str):
        return json.dumps(_cut(value))
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e18:
        return str(int(value))
    return _cut(json.dumps(value))


def _names(names: Iterable[str]) -> str:
    shown = sorted(names)
    more = len(shown) - 5
    text = ", ".join(json.dumps(_cut(name))[1:-1] for name in shown[:5]) or "no name"
    return f"{text} and {more} more" if more > 0 else text


def _cut(text: str) -> str:
    return text if len(text) <= _EXCERPT else text[:_EXCERPT] + "..."
