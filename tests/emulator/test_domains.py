"""What Vercel sees of domains, and what it issues for them."""

import httpx
import pytest

from vercel_emulator import DomainSetup, Emulator, EmulatorControl, Fault
from vercel_emulator.client import ControlError
from vercel_emulator.models import CNAMERecommendation, Injection, IPv4Recommendation

CERTS = "/v8/certs"


def config_of(domain: str) -> str:
    return f"/v6/domains/{domain}/config"


async def refusal(vercel: httpx.AsyncClient, *cns: str) -> dict[str, object]:
    """The error of an issuance, with its status."""
    response = await vercel.post(CERTS, json={"cns": cns})
    assert response.is_error
    error: dict[str, object] = response.json()["error"]
    return {**error, "status": response.status_code}


@pytest.mark.parametrize(
    ("domain", "by"),
    [("example.com", "A"), ("www.example.com", "CNAME"), ("example.co.uk", "A"), ("Shop.Example.co.uk", "CNAME")],
)
async def test_every_domain_is_configured(emulator: Emulator, vercel: httpx.AsyncClient, domain: str, by: str) -> None:
    response = await vercel.get(config_of(domain), params={"slug": "alpha", "strict": "true", "projectIdOrName": "p"})

    assert response.status_code == 200
    assert response.json() == {
        "configuredBy": by,
        "acceptedChallenges": ["dns-01", "http-01"],
        "recommendedIPv4": [{"rank": 1, "value": ["76.76.21.21"]}],
        "recommendedCNAME": [{"rank": 1, "value": "cname.vercel-dns.com"}],
        "misconfigured": False,
    }
    [entry] = emulator.journal.entries
    assert (entry.call, entry.cns, entry.scope) == ("config", [domain], "team_a")


@pytest.mark.parametrize("domain", ["com", "co.uk", "not%20a%20domain", "*.example.com", "%2A.example.com", "a..com"])
async def test_an_invalid_domain_has_no_configuration(vercel: httpx.AsyncClient, domain: str) -> None:
    response = await vercel.get(config_of(domain))

    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_domain")


@pytest.mark.parametrize(("query", "token"), [({}, "unknown-test-token"), ({"slug": "none"}, None)])
async def test_the_configuration_needs_a_token_and_a_team_as_other_calls_do(
    vercel: httpx.AsyncClient, query: dict[str, str], token: str | None
) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    assert (await vercel.get(config_of("example.com"), params=query, headers=headers)).status_code in {401, 403}


async def test_no_certificate_is_issued_while_a_domain_is_misconfigured(
    emulator: Emulator, vercel: httpx.AsyncClient, control: EmulatorControl
) -> None:
    await control.misconfigure("shop.example.com")

    error = await refusal(vercel, "example.com", "shop.example.com", "*.SHOP.example.com", "www.shop.example.com")

    assert (error["status"], error["code"], error["external"]) == (449, "configuration_error", True)
    assert error["cns"] == ["shop.example.com", "*.shop.example.com", "www.shop.example.com"]
    assert isinstance(error["helpUrl"], str)
    assert emulator.state.all() == []
    config = (await vercel.get(config_of("www.shop.example.com"))).json()
    assert (config["misconfigured"], config["configuredBy"], config["acceptedChallenges"]) == (True, None, [])
    assert (await vercel.get(config_of("example.com"))).json()["misconfigured"] is False
    assert (await vercel.post(CERTS, json={"cns": ["example.com"]})).status_code == 200

    await control.fix_domain("shop.example.com")

    assert (await vercel.post(CERTS, json={"cns": ["shop.example.com"]})).status_code == 200
    assert (await vercel.get(config_of("shop.example.com"))).json()["misconfigured"] is False
    with pytest.raises(ControlError, match="no setup"):
        await control.fix_domain("shop.example.com")


async def test_the_closest_setup_above_a_name_is_used(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.domains.misconfigure()
    emulator.domains.set_up("Example.com", DomainSetup(external=False))
    emulator.domains.set_up("api.example.com", DomainSetup(misconfigured=False))

    assert (await refusal(vercel, "other.org"))["external"] is True
    assert (await refusal(vercel, "www.example.com", "v1.api.example.com"))["cns"] == ["www.example.com"]
    assert (await refusal(vercel, "www.example.com"))["external"] is False
    assert (await vercel.post(CERTS, json={"cns": ["*.api.example.com"]})).status_code == 200
    assert emulator.domains.fix()
    assert emulator.domains.fix("EXAMPLE.com")
    assert not emulator.domains.fix("example.com")
    assert (await vercel.post(CERTS, json={"cns": ["www.example.com"]})).status_code == 200
    assert [view.domain for view in emulator.domains.views()] == ["api.example.com"]


async def test_any_configuration_can_be_shown(
    emulator: Emulator, vercel: httpx.AsyncClient, control: EmulatorControl
) -> None:
    setup = DomainSetup(
        configured_by="http",
        accepted_challenges=["http-01"],
        recommended_ipv4=[
            IPv4Recommendation(rank=2, value=["192.0.2.2"]),
            IPv4Recommendation(rank=1, value=["192.0.2.1", "192.0.2.3"]),
        ],
        recommended_cname=[CNAMERecommendation(rank=1, value="cname.example.net")],
    )

    shown = await control.set_up_domain("example.com", setup)

    assert (await vercel.get(config_of("example.com"))).json() == {
        "configuredBy": "http",
        "acceptedChallenges": ["http-01"],
        "recommendedIPv4": [{"rank": 2, "value": ["192.0.2.2"]}, {"rank": 1, "value": ["192.0.2.1", "192.0.2.3"]}],
        "recommendedCNAME": [{"rank": 1, "value": "cname.example.net"}],
        "misconfigured": True,
    }
    assert await control.domains() == [shown]
    assert shown.domain == "example.com"


@pytest.mark.parametrize("status", [400, 449])
async def test_a_wildcard_can_need_a_challenge_by_hand(
    emulator: Emulator, vercel: httpx.AsyncClient, control: EmulatorControl, status: int
) -> None:
    await control.behave(wildcard_status=status)
    await control.set_up_domain("*", DomainSetup(misconfigured=False, accepted_challenges=["http-01"]))

    error = await refusal(vercel, "example.com", "*.example.com")
    assert (error["status"], error["code"]) == (status, "wildcard_not_allowed")
    assert "*.example.com" in str(error["message"])
    assert (await vercel.post(CERTS, json={"cns": ["example.com"]})).status_code == 200

    emulator.state.inject(Injection(cns=["*.example.com", "example.com"], scope="team_a"))
    assert (await refusal(vercel, "example.com", "*.example.com"))["code"] == "wildcard_not_allowed"
    emulator.state.inject(Injection(cns=["*.example.com", "example.com"]))
    assert (await vercel.post(CERTS, json={"cns": ["example.com", "*.example.com"]})).status_code == 200
    emulator.clock.advance(90 * 86_400 + 1)
    assert (await refusal(vercel, "*.example.com"))["code"] == "wildcard_not_allowed"


async def test_the_configuration_can_fail_too(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.faults.add(Fault(call="config", cns=["example.com"], status=500))

    assert (await vercel.get(config_of("other.example"))).status_code == 200
    assert (await vercel.get(config_of("example.com"))).status_code == 500
    assert (await vercel.get(config_of("example.com"))).status_code == 200
