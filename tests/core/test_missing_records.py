"""The DNS records that are missing: asked once after a refusal about DNS, and told as a person would."""

from dataclasses import replace
from typing import Any

import pytest

from core.building import (
    HOUR,
    NOW,
    answered,
    attempted,
    cert,
    conditions_of,
    failed,
    known,
    led_to,
    message,
    refusal,
    refused,
    written,
)
from vercel_certificate_operator.core.certificate import Certificate
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
from vercel_certificate_operator.core.known import Decision, GetDomainConfig, Issue, Known, Wait
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import Status

BOTH = ("dns-01", "http-01")
WRONG = DomainConfig(True, ipv4=("76.76.21.21",), cname="cname.vercel-dns.com")
RIGHT = DomainConfig(False, "A", BOTH, ("76.76.21.21",), "cname.vercel-dns.com")
NO_DNS_CHALLENGE = DomainConfig(False, "A", ("http-01",))


def about_dns(cns: tuple[str, ...] = ("example.com", "www.example.com"), blamed: tuple[str, ...] = ()) -> Known:
    """Returns what is known right after a refusal about DNS."""
    failure = refusal(449, "configuration_error", cns=blamed)
    facts = known(cns=cns, **refused(failure, attempted(cns=cns)))
    return replace(written(facts, decide(facts)), reply=None)


def asked(facts: Known, configs: dict[str, DomainConfig | None]) -> tuple[Known, Decision, list[str]]:
    """Returns what comes of it when Vercel answers so, with the domains that were asked for in their order."""
    names: list[str] = []
    while True:
        decision = decide(facts)
        if not isinstance(decision.action, GetDomainConfig):
            return *led_to(facts), names
        names.append(decision.action.domain)
        facts = replace(facts, domains={**facts.domains, decision.action.domain: configs[decision.action.domain]})


# --- which domains are asked for --------------------------------------------------------------------------------------


def test_only_the_domains_that_the_error_blames_are_asked_for() -> None:
    *_, names = asked(about_dns(blamed=("www.example.com",)), {"www.example.com": WRONG})
    assert names == ["www.example.com"]


def test_without_blame_all_domains_are_asked_for() -> None:
    *_, names = asked(about_dns(), {"example.com": WRONG, "www.example.com": WRONG})
    assert names == ["example.com", "www.example.com"]


def test_a_wildcard_and_its_domain_are_one() -> None:
    assert domains_of(["*.example.com", "example.com"]) == ("example.com",)


def test_of_many_domains_only_the_first_are_asked_for() -> None:
    assert len(domains_of(f"{number}.example.com" for number in range(100))) == MOST_DOMAINS


@pytest.mark.parametrize(
    ("status", "code"), [(400, "invalid_cn"), (402, "payment_required"), (403, "forbidden"), (404, "not_found")]
)
def test_after_a_refusal_about_something_else_nothing_is_asked(status: int, code: str) -> None:
    facts = known(**refused(refusal(status, code)))
    _, decision = led_to(replace(written(facts, decide(facts)), reply=None))
    assert isinstance(decision.action, Wait)


def test_a_wildcard_that_is_not_allowed_is_about_dns() -> None:
    cns = ("*.example.com",)
    facts = known(cns=cns, **refused(refusal(400, "wildcard_not_allowed"), attempted(cns=cns)))
    *_, names = asked(replace(written(facts, decide(facts)), reply=None), {"example.com": NO_DNS_CHALLENGE})
    assert names == ["example.com"]


def test_nothing_is_asked_once_the_wait_is_over() -> None:
    status = failed(Reason.DOMAIN_NOT_CONFIGURED, until=NOW)
    _, decision = led_to(known(status=status))
    assert isinstance(decision.action, Issue)


def test_other_names_are_not_asked_for_on_account_of_the_old_ones() -> None:
    status = failed(Reason.DOMAIN_NOT_CONFIGURED)
    _, decision = led_to(known(status=status, cns=["example.org"], generation=2))
    assert isinstance(decision.action, Issue)


# --- what is reported -------------------------------------------------------------------------------------------------


def test_the_message_names_what_vercel_sees_and_the_record_to_set() -> None:
    facts, _, _ = asked(about_dns(blamed=("example.com",)), {"example.com": WRONG})
    issuing = facts.resource.status.condition("Issuing")
    assert issuing is not None
    assert issuing.reason == "DomainNotConfigured"
    expected = "Vercel sees example.com as not pointing to Vercel; set the DNS record A example.com 76.76.21.21."
    assert expected in issuing.message
    assert issuing.message.count(" Next attempt: ") == 1


def test_the_records_are_reported_once() -> None:
    facts, decision, _ = asked(about_dns(blamed=("example.com",)), {"example.com": WRONG})
    assert isinstance(decision.action, Wait)
    later, decision = led_to(replace(facts, domains={}))
    assert isinstance(decision.action, Wait), "and nothing is asked again"
    issuing = later.resource.status.condition("Issuing")
    assert issuing is not None
    assert issuing.message.count("Vercel sees example.com") == 1


def test_status_has_the_same_for_programs() -> None:
    facts, _, _ = asked(about_dns(), {"example.com": WRONG, "www.example.com": RIGHT})
    assert facts.resource.status.dump()["domains"] == [
        {
            "name": "example.com",
            "misconfigured": True,
            "recommended": [{"type": "A", "value": "76.76.21.21"}],
        }
    ]


def test_a_second_refusal_takes_the_place_of_the_first() -> None:
    facts, _, _ = asked(about_dns(blamed=("example.com",)), {"example.com": WRONG})
    again = refused(refusal(449, "configuration_error", cns=("www.example.com",)), attempted("attempt-2"))
    attempt = again.pop("attempt")
    status = facts.resource.status.changed(attempt=attempt)
    decision = decide(known(status=status, cns=facts.resource.cns, **again))
    assert decision.status is not None
    assert decision.status.domains == ()


@pytest.mark.parametrize("issued", [cert("cert_1", ("example.com", "www.example.com"), created=NOW)])
def test_success_ends_it(issued: Certificate) -> None:
    facts, _, _ = asked(about_dns(blamed=("example.com",)), {"example.com": WRONG})
    answer = answered(issued, attempted("attempt-2", cns=issued.cns))
    status = facts.resource.status.changed(attempt=answer.pop("attempt"))
    decision = decide(known(status=status, cns=facts.resource.cns, **answer))
    assert decision.status is not None
    assert decision.status.domains == ()
    assert conditions_of(decision)[0] == ("True", "Issued")


@pytest.mark.parametrize("config", [None, RIGHT], ids=["not known", "configured"])
def test_what_vercel_does_not_know_changes_nothing(config: DomainConfig | None) -> None:
    before = about_dns(blamed=("example.com",))
    facts, decision, _ = asked(before, {"example.com": config})
    assert isinstance(decision.action, Wait)
    assert facts.resource.status == before.resource.status


def test_one_domain_that_is_not_known_does_not_hide_another() -> None:
    facts, _, _ = asked(about_dns(), {"example.com": None, "www.example.com": WRONG})
    assert [domain.name for domain in facts.resource.status.domains] == ["www.example.com"]


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "config", "records"),
    [
        ("example.com", WRONG, [("A", "76.76.21.21")]),
        ("www.example.com", WRONG, [("CNAME", "cname.vercel-dns.com"), ("A", "76.76.21.21")]),
        ("example.co.uk", WRONG, [("CNAME", "cname.vercel-dns.com"), ("A", "76.76.21.21")]),
        ("www.example.com", DomainConfig(True, ipv4=("192.0.2.1",)), [("A", "192.0.2.1")]),
        ("example.com", DomainConfig(True, ipv4=("192.0.2.1", "192.0.2.2")), [("A", "192.0.2.1"), ("A", "192.0.2.2")]),
        ("example.com", DomainConfig(True), []),
    ],
)
def test_a_domain_of_two_labels_gets_an_address_and_any_other_one_has_the_choice(
    name: str, config: DomainConfig, records: list[tuple[str, str]]
) -> None:
    assert [(record.type, record.value) for record in described(name, config).recommended] == records


ADVICE: dict[str, tuple[DomainStatus, list[str], str]] = {
    "elsewhere": (
        DomainStatus(
            name="example.com",
            misconfigured=True,
            configured_by="A",
            accepted_challenges=BOTH,
            recommended=(Record(type="A", value="76.76.21.21"),),
        ),
        ["example.com"],
        "Vercel sees example.com as configured by A; set the DNS record A example.com 76.76.21.21.",
    ),
    "nothing recommended": (
        DomainStatus(name="example.com", misconfigured=True),
        ["example.com"],
        "Vercel sees example.com as not pointing to Vercel.",
    ),
    "wildcard": (
        DomainStatus(name="example.com", misconfigured=False, accepted_challenges=("http-01",)),
        ["*.example.com", "example.com"],
        (
            "For *.example.com, let example.com use Vercel's name servers, or solve the DNS challenge by hand (vercel "
            "certs issue --challenge-only); the operator uses the certificate when it exists."
        ),
    ),
    "wildcard with dns-01": (
        DomainStatus(name="example.com", misconfigured=False, accepted_challenges=BOTH),
        ["*.example.com"],
        "",
    ),
}


@pytest.mark.parametrize(("domain", "cns", "sentences"), ADVICE.values(), ids=ADVICE)
def test_the_advice_is_what_a_person_would_say(domain: DomainStatus, cns: list[str], sentences: str) -> None:
    assert advice([domain], cns) == sentences


def test_a_wildcard_without_the_dns_challenge_needs_vercels_name_servers_or_a_person() -> None:
    facts, _, _ = asked(about_dns(("*.example.com",)), {"example.com": NO_DNS_CHALLENGE})
    issuing = facts.resource.status.condition("Issuing")
    assert issuing is not None
    assert "let example.com use Vercel's name servers" in issuing.message


def test_what_vercel_says_is_made_printable() -> None:
    domain = DomainStatus(name="example.com", misconfigured=True, configured_by="\x1b[31mA\u202e")
    assert advice([domain], []).isprintable()


@pytest.mark.parametrize("value", [None, []])
def test_a_status_without_domains_has_none(value: Any) -> None:
    assert Status.model_validate({"domains": value}).domains == ()


def test_a_status_has_no_more_domains_than_are_asked_for() -> None:
    cns = tuple(f"{number:02}.example.com" for number in range(30))
    facts, _, _ = asked(about_dns(cns), dict.fromkeys(cns, WRONG))
    assert len(facts.resource.status.domains) == MOST_DOMAINS


def test_a_refusal_while_a_certificate_is_there_leaves_ready_alone() -> None:
    status = failed(Reason.DOMAIN_NOT_CONFIGURED, certificate=cert(created=NOW - 89 * 24 * HOUR))
    facts, _, _ = asked(known(status=status), {"example.com": WRONG})
    assert facts.resource.status.ready
    assert len(facts.resource.status.domains) == 1


def test_vercels_words_stay_in_the_message() -> None:
    facts = about_dns(blamed=("example.com",))
    assert isinstance(decide(facts).action, GetDomainConfig)
    decision = decide(replace(facts, domains={"example.com": WRONG}))
    assert "Vercel says no for example.com" in message(decision, "Issuing")
