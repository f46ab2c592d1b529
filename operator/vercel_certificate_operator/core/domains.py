"""How a domain is configured, as Vercel sees it, and which DNS records are missing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.schema import Model, NullAsEmpty, Texts

MOST_DOMAINS = 10
"""Domains whose configuration is read after one refusal."""


@dataclass(frozen=True, slots=True)
class DomainConfig:
    """What ``GET /v6/domains/{domain}/config`` says."""

    misconfigured: bool
    configured_by: str | None = None
    """A, CNAME, http or dns-01; None: nothing points to Vercel."""
    accepted_challenges: tuple[str, ...] = ()
    """dns-01, http-01."""
    ipv4: tuple[str, ...] = ()
    """Recommended addresses for an A record, the best rank only."""
    cname: str | None = None
    """Recommended target of a CNAME record, the best rank only."""


class Record(Model):
    """A DNS record that is to be set."""

    type: str
    value: str


class DomainStatus(Model):
    """A domain in status, while it is misconfigured."""

    name: str
    misconfigured: bool
    configured_by: str | None = None
    accepted_challenges: Texts = ()
    recommended: Annotated[tuple[Record, ...], NullAsEmpty] = ()


DomainList = Annotated[tuple[DomainStatus, ...], NullAsEmpty]


def domains_of(cns: Iterable[str]) -> tuple[str, ...]:
    """Returns the domains whose configuration matters for these names: each once, without wildcards, sorted."""
    return tuple(sorted({name.removeprefix("*.") for name in cns}))[:MOST_DOMAINS]


def described(name: str, config: DomainConfig) -> DomainStatus:
    """Returns a domain's configuration for status, with the records that are to be set.

    Records of different types are alternatives. Vercel recommends both types for every domain, and the root of a zone
    can't have a CNAME record. A domain of two labels is such a root. A longer one may be: nothing says so.
    """
    cname = [Record(type="CNAME", value=config.cname)] if config.cname and name.count(".") > 1 else []
    recommended = [*cname, *(Record(type="A", value=address) for address in config.ipv4)]
    return DomainStatus(
        name=name,
        misconfigured=config.misconfigured,
        configured_by=config.configured_by,
        accepted_challenges=config.accepted_challenges,
        recommended=tuple(recommended),
    )


def advice(domains: Sequence[DomainStatus], cns: Iterable[str]) -> str:
    """Returns what is wrong with the domains and which records to set, as sentences for people.

    Args:
        cns: the names that were refused.
    """
    wildcards = {name.removeprefix("*.") for name in cns if name.startswith("*.")}
    sentences = []
    for domain in domains:
        if domain.misconfigured:
            sees = f"configured by {domain.configured_by}" if domain.configured_by else "not pointing to Vercel"
            records = _records(domain)
            sentences.append(f"Vercel sees {domain.name} as {sees}{f'; set {records}' if records else ''}.")
        if domain.name in wildcards and "dns-01" not in domain.accepted_challenges:
            sentences.append(
                f"For *.{domain.name}, let {domain.name} use Vercel's name servers, or solve the DNS challenge by hand "
                "(vercel certs issue --challenge-only); the operator uses the certificate when it exists."
            )
    return " ".join(words.printable(sentence) for sentence in sentences)


def _records(domain: DomainStatus) -> str:
    """Returns the records to set for a domain; empty if Vercel recommends none."""
    cnames, addresses = (
        [f"{record.type} {domain.name} {record.value}" for record in domain.recommended if record.type == kind]
        for kind in ("CNAME", "A")
    )
    choices = [
        f"the DNS record{'s' if len(records) > 1 else ''} {' and '.join(records)}"
        for records in (cnames, addresses)
        if records
    ]
    if len(choices) == 1:
        return choices[0]
    return f"{choices[0]}, or {choices[1]} if {domain.name} is the root of its DNS zone" if choices else ""
