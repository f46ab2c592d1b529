"""Which DNS records are missing, after Vercel refused a certificate because of DNS."""

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.domains import DomainStatus, advice, described, domains_of
from vercel_certificate_operator.core.facts import waiting_until
from vercel_certificate_operator.core.failures import DOMAIN_NOT_CONFIGURED, WILDCARD_NOT_ALLOWED
from vercel_certificate_operator.core.known import Decision, GetDomainConfig, Known, Write
from vercel_certificate_operator.core.record import Attempt
from vercel_certificate_operator.core.report import Need, Problem, conditions
from vercel_certificate_operator.core.resource import Status


def missing_records_are_reported(known: Known, need: Need) -> Decision | None:
    """After a refusal about DNS, Vercel is asked how the domains are configured. Best effort: nothing depends on it."""
    status, attempt = known.resource.status, known.resource.status.closed_attempt
    if attempt is None or status.domains or waiting_until(known) is None or not is_about_dns(attempt):
        return None
    blamed = attempt.blamed_cns or attempt.cns
    for domain in domains_of(blamed):
        if domain not in known.domains:
            return Decision(GetDomainConfig(domain, attempt.scope))
    found = [described(name, config) for name, config in known.domains.items() if config is not None]
    wrong = tuple(domain for domain in found if domain.misconfigured or _needs_name_servers(domain, blamed))
    if not wrong:
        return None
    after = status.changed(domains=wrong)
    return Decision(Write(), _reported(known, after, advice(wrong, blamed)))


def _needs_name_servers(domain: DomainStatus, blamed: tuple[str, ...]) -> bool:
    return f"*.{domain.name}" in blamed and "dns-01" not in domain.accepted_challenges


def is_about_dns(attempt: Attempt) -> bool:
    """Returns whether an attempt was refused because of the DNS of its names."""
    wildcard = any(name.startswith("*.") for name in attempt.cns)
    reason = attempt.outcome_reason
    return reason == DOMAIN_NOT_CONFIGURED.reason or (reason == WILDCARD_NOT_ALLOWED.reason and wildcard)


def _reported(known: Known, after: Status, missing: str) -> Status:
    """Returns status whose message says which records are missing."""
    issuing = after.condition("Issuing")
    if issuing is None or issuing.status != "False":
        return after
    message = issuing.message.partition(words.NEXT)[0]
    problem = Problem(issuing.reason, f"{message} {missing}")
    return conditions(known.resource, after, now=known.now, problem=problem)
