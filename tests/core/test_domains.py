"""Which DNS records are missing, after Vercel refused a certificate because of DNS."""

from dataclasses import replace
from typing import Any

import pytest

from core.building import (
    HOUR,
    NOW,
    TEAM,
    assert_in_order,
    attempted,
    cert,
    conditions_of,
    failed,
    got,
    known,
    led_to,
    listed,
    message,
    ready,
    refusal,
    refused,
    written,
)
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.domains import (
    MOST_DOMAINS,
    DomainConfig,
    DomainStatus,
    Record,
    advice,
    described,
    domains_of,
)
from vercel_certificate_operator.core.known import GetDomainConfig, Known, Wait, Write
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Attempt
from vercel_certificate_operator.core.resource import Status
from vercel_certificate_operator.core.rules.domains import is_about_dns

WRONG = DomainConfig(misconfigured=True, ipv4=("76.76.21.21", "76.76.21.22"), cname="cname.vercel-dns.com")
RIGHT = DomainConfig(misconfigured=False, configured_by="A", accepted_challenges=("http-01",))
WWW = "www.example.com"


def dns_refused(*cns: str, reason: Reason = Reason.DOMAIN_NOT_CONFIGURED, blamed: Any = (), **more: Any) -> Known:
    names = cns or ("example.com",)
    attempt = attempted("attempt-0", cns=names, blamed_cns=tuple(blamed))
    status = failed(reason, attempt=attempt, **more.pop("status", {}))
    return known(**{"cns": names, "status": status, "token_read": True, **more})


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_after_a_refusal_about_dns_vercel_is_asked_how_the_domains_are_configured() -> None:
    facts = dns_refused("example.com", "*.example.com", WWW)
    decision = decide(facts)
    assert decision.policy == "missing_records_are_reported"
    assert decision.action == GetDomainConfig("example.com", TEAM)
    facts = replace(facts, domains={"example.com": RIGHT})
    assert decide(facts).action == GetDomainConfig(WWW, TEAM)
    facts = replace(facts, domains={"example.com": RIGHT, WWW: None})
    assert decide(facts).policy == "missing_records_are_reported", "a wildcard is a problem of its own"


def test_only_the_names_that_vercel_blames_are_asked_about_in_the_attempts_scope() -> None:
    attempt = attempted("attempt-0", cns=("example.com", WWW), team="acme", blamed_cns=(WWW,))
    status = failed(Reason.DOMAIN_NOT_CONFIGURED, attempt=attempt)
    facts = known(cns=("example.com", WWW), status=status, scope=attempt.scope)
    assert decide(facts).action == GetDomainConfig(WWW, attempt.scope)


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(dns_refused(reason=Reason.DOMAIN_NOT_FOUND), id="not about DNS"),
        pytest.param(dns_refused(reason=Reason.INVALID_REQUEST), id="no wildcard"),
        pytest.param(dns_refused(status={"until": NOW}), id="the wait is over"),
        pytest.param(dns_refused(cns=("b.com",)), id="other names are wanted"),
        pytest.param(
            dns_refused(status={"domains": (DomainStatus(name="example.com", misconfigured=True),)}), id="it is known"
        ),
        pytest.param(known(), id="nothing was tried"),
    ],
)
def test_otherwise_nothing_is_asked(facts: Known) -> None:
    assert decide(facts).policy != "missing_records_are_reported"


@pytest.mark.parametrize(
    ("reason", "cns", "about"),
    [
        (Reason.DOMAIN_NOT_CONFIGURED, ["example.com"], True),
        (Reason.INVALID_REQUEST, ["example.com", "*.example.com"], True),
        (Reason.INVALID_REQUEST, ["example.com"], False),
        (Reason.DOMAIN_NOT_FOUND, ["*.example.com"], False),
        (None, ["*.example.com"], False),
    ],
)
def test_which_refusals_are_about_dns(reason: str | None, cns: list[str], about: bool) -> None:
    assert is_about_dns(attempted(cns=cns, outcome="Refused", outcome_reason=reason)) is about


def test_each_domain_is_asked_about_once_and_no_more_than_a_few() -> None:
    assert domains_of(["b.com", "*.a.com", "a.com", "*.b.com"]) == ("a.com", "b.com")
    many = [f"{number:02}.com" for number in range(20)]
    assert domains_of(reversed(many)) == tuple(many[:MOST_DOMAINS])
    assert MOST_DOMAINS == 10


# --- what is reported -------------------------------------------------------------------------------------------------


def test_missing_records_are_in_status_and_in_the_message() -> None:
    facts = dns_refused(WWW, "example.com", domains={"example.com": RIGHT, WWW: WRONG})
    decision = decide(facts)
    assert (decision.policy, decision.action) == ("missing_records_are_reported", Write())
    assert decision.note is None
    assert_in_order(facts, decision)
    assert message(decision, "Issuing") == (
        "As it was. Vercel sees www.example.com as not pointing to Vercel; set the DNS record CNAME www.example.com "
        "cname.vercel-dns.com, or the DNS records A www.example.com 76.76.21.21 and A www.example.com 76.76.21.22 if "
        "www.example.com is the root of its DNS zone. Next attempt: 2026-01-01T13:00:00Z."
    )
    assert conditions_of(decision) == (("False", "DomainNotConfigured"),) * 2
    after = written(facts, decision)
    assert [domain.name for domain in after.resource.status.domains] == [WWW]
    assert led_to(after)[1].action == Wait(NOW + HOUR), "it is reported once"


@pytest.mark.parametrize(
    "domains", [{"example.com": RIGHT}, {"example.com": None}], ids=["nothing is wrong", "Vercel did not say"]
)
def test_if_nothing_is_wrong_the_wait_is_reported_as_before(domains: Any) -> None:
    decision = decide(dns_refused(domains=domains))
    assert (decision.policy, decision.action) == ("back_off_is_waited_for", Wait(NOW + HOUR))


@pytest.mark.parametrize(
    ("blamed", "config", "reported"),
    [
        (("*.example.com",), RIGHT, True),
        (("*.example.com",), replace(RIGHT, accepted_challenges=("dns-01",)), False),
        (("example.com",), RIGHT, False),
        ((), RIGHT, True),
    ],
    ids=["a wildcard", "Vercel's name servers", "no wildcard is blamed", "all names"],
)
def test_a_wildcard_needs_vercels_name_servers(blamed: Any, config: DomainConfig, reported: bool) -> None:
    facts = dns_refused("example.com", "*.example.com", blamed=blamed, domains={"example.com": config})
    decision = decide(facts)
    assert (decision.policy == "missing_records_are_reported") is reported
    if reported:
        assert "let example.com use Vercel's name servers" in message(decision, "Issuing")


def test_a_message_that_is_no_problem_stays() -> None:
    """Status says that it is issuing: the records are in status only."""
    resource = dns_refused().resource
    issuing = known(
        cns=resource.spec.cns,
        status=resource.status.with_condition("Issuing", "True", "FirstIssue", "Now.", generation=1, now=NOW),
        token_read=True,
        domains={"example.com": WRONG},
    )
    decision = decide(issuing)
    assert decision.status is not None
    assert decision.status.domains
    assert message(decision, "Issuing") == "Now."
    bare = known(cns=resource.spec.cns, status=resource.status.changed(conditions=()), domains={"example.com": WRONG})
    decision = decide(bare)
    assert decision.status is not None
    assert (len(decision.status.domains), decision.status.conditions) == (1, ())


def test_a_refusal_records_whom_it_blames_and_forgets_what_was_wrong_before() -> None:
    old = (DomainStatus(name="example.com", misconfigured=True),)
    failure = refusal(449, cns=tuple(f"{number}.com" for number in range(30)))
    facts = known(status=Status(domains=old), **refused(failure))
    status = written(facts, decide(facts)).resource.status
    assert status.domains == ()
    assert status.attempt is not None
    assert status.attempt.blamed_cns == failure.cns[:20]


def test_what_was_wrong_is_forgotten_with_the_failure() -> None:
    old = (DomainStatus(name="example.com", misconfigured=True),)
    done = decide(known(status=ready(domains=old, failed_attempts=1))).status
    assert done is not None
    assert done.domains == ()
    facts, _ = led_to(dns_refused(status={"domains": old}), cert("cert_h", created=NOW))
    assert facts.resource.status.domains == old, "until then it stays"
    by_hand = dns_refused(status={"domains": old}, listing=listed(cert("cert_h")), got=got(cert("cert_h")))
    assert written(by_hand, decide(by_hand)).resource.status.domains == ()


# --- how it is described ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "config", "records"),
    [
        ("example.com", WRONG, [("A", "76.76.21.21"), ("A", "76.76.21.22")]),
        (WWW, WRONG, [("CNAME", "cname.vercel-dns.com"), ("A", "76.76.21.21"), ("A", "76.76.21.22")]),
        (WWW, replace(WRONG, cname=None), [("A", "76.76.21.21"), ("A", "76.76.21.22")]),
        ("example.com", replace(WRONG, ipv4=()), []),
        (WWW, replace(WRONG, cname=None, ipv4=()), []),
    ],
    ids=["the root of a zone", "it may be below it", "without a CNAME", "nothing for the root", "nothing at all"],
)
def test_the_recommended_records_of_a_domain(name: str, config: DomainConfig, records: list[tuple[str, str]]) -> None:
    found = described(name, config)
    assert found.name == name
    assert found.misconfigured
    assert [(record.type, record.value) for record in found.recommended] == records


def test_what_vercel_says_about_a_domain_is_kept() -> None:
    found = described("example.com", replace(RIGHT, configured_by="CNAME"))
    assert (found.misconfigured, found.configured_by, found.accepted_challenges) == (False, "CNAME", ("http-01",))


def domain(
    name: str = "example.com", *, misconfigured: bool = True, by: str | None = None, **more: Any
) -> DomainStatus:
    return DomainStatus(name=name, misconfigured=misconfigured, configured_by=by, **more)


A_RECORD = (Record(type="A", value="76.76.21.21"),)


@pytest.mark.parametrize(
    ("domains", "cns", "text"),
    [
        ([domain()], ["example.com"], "Vercel sees example.com as not pointing to Vercel."),
        (
            [domain(by="CNAME", recommended=A_RECORD)],
            ["example.com"],
            "Vercel sees example.com as configured by CNAME; set the DNS record A example.com 76.76.21.21.",
        ),
        (
            [domain(recommended=(*A_RECORD, Record(type="A", value="1.2.3.4")))],
            ["example.com"],
            (
                "Vercel sees example.com as not pointing to Vercel; set the DNS records A example.com 76.76.21.21 and "
                "A example.com 1.2.3.4."
            ),
        ),
        (
            [domain("example.co.uk", recommended=(Record(type="CNAME", value="c.example"), *A_RECORD))],
            ["example.co.uk"],
            (
                "Vercel sees example.co.uk as not pointing to Vercel; set the DNS record CNAME example.co.uk c.example,"
                " or the DNS record A example.co.uk 76.76.21.21 if example.co.uk is the root of its DNS zone."
            ),
        ),
        (
            [domain(WWW, recommended=(Record(type="CNAME", value="c.example"),))],
            [WWW],
            f"Vercel sees {WWW} as not pointing to Vercel; set the DNS record CNAME {WWW} c.example.",
        ),
        (
            [domain(misconfigured=False)],
            ["*.example.com"],
            (
                "For *.example.com, let example.com use Vercel's name servers, or solve the DNS challenge by hand "
                "(vercel certs issue --challenge-only); the operator uses the certificate when it exists."
            ),
        ),
        ([domain(misconfigured=False, accepted_challenges=("dns-01",))], ["*.example.com"], ""),
        ([domain(misconfigured=False)], ["example.com", "*.b.com"], ""),
        (
            [domain("a.com"), domain("b.com")],
            [],
            "Vercel sees a.com as not pointing to Vercel. Vercel sees b.com as not pointing to Vercel.",
        ),
        ([domain(by="A\nB")], [], "Vercel sees example.com as configured by A B."),
    ],
)
def test_advice_says_what_to_set(domains: list[DomainStatus], cns: list[str], text: str) -> None:
    assert advice(domains, cns) == text


def test_an_attempt_reads_whom_it_blames() -> None:
    read = Attempt.model_validate({"id": "a", "start": "2026-01-01T12:00:00Z", "blamedCNs": ["a.com"]})
    assert read.blamed_cns == ("a.com",)
    assert read.model_dump(mode="json", by_alias=True, exclude_defaults=True)["blamedCNs"] == ["a.com"]
