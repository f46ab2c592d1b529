"""The client against the emulated Vercel: the calls' own life, and the faults that Vercel may have."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import SecretStr

from support.tls import Authority, Key, key_pem, new_key
from vercel.clients import TOKEN, client_of
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.vercel import ApiError, OutcomeUnknown, Upload, VercelClient, VercelError
from vercel_emulator import Emulator, Fault, RateLimit
from vercel_emulator.models import DomainSetup

PERSONAL = Scope()
TEAM = Scope(team_id="team_a")
NAMES = ["example.com", "*.example.com"]
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(tokens=(TOKEN,), teams={"team_a": "alpha"}, clock=NOW.timestamp) as running:
        yield running


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[VercelClient]:
    async with client_of(emulator.url, clock=lambda: NOW) as vercel:
        yield vercel


async def test_a_certificate_is_issued_read_listed_and_removed(emulator: Emulator, client: VercelClient) -> None:
    issued = await client.issue(NAMES, TEAM)
    assert issued.cns == set(NAMES)
    assert issued.oddities == ()
    assert issued.auto_renew is True
    assert issued.created_at == NOW
    assert issued.expires_at == NOW + timedelta(days=90)
    assert await client.get(issued.id, TEAM) == issued
    assert await client.list(TEAM) == (issued,)
    await client.remove(issued.id, TEAM)
    assert await client.list(TEAM) == ()
    assert emulator.journal.counts["issue"] == 1


async def test_a_team_is_named_by_id_or_by_slug(client: VercelClient) -> None:
    issued = await client.issue(NAMES, TEAM)
    assert await client.list(Scope(team_slug="alpha")) == (issued,)


async def test_a_certificate_of_one_scope_does_not_exist_in_another(client: VercelClient) -> None:
    issued = await client.issue(NAMES, TEAM)
    for call in (client.get, client.remove):
        with pytest.raises(ApiError) as caught:
            await call(issued.id, PERSONAL)
        assert caught.value.status == 404
    assert await client.list(PERSONAL) == ()
    assert await client.list(TEAM) == (issued,)


async def test_a_certificate_is_removed_once(client: VercelClient) -> None:
    issued = await client.issue(NAMES, PERSONAL)
    await client.remove(issued.id, PERSONAL)
    with pytest.raises(ApiError) as caught:
        await client.remove(issued.id, PERSONAL)
    assert (caught.value.status, caught.value.code) == (404, "cert_not_found")


@pytest.mark.parametrize("certificate_id", ["../../v2/user", "x?teamId=team_a", "x#y", "x y", "%2e%2e", "ü", "…"])
async def test_an_id_that_vercel_never_gave_is_not_found(client: VercelClient, certificate_id: str) -> None:
    for call in (client.get, client.remove):
        with pytest.raises(ApiError) as caught:
            await call(certificate_id, PERSONAL)
        assert caught.value.status == 404


@pytest.mark.parametrize("until", ["exclusive", "inclusive"])
async def test_a_listing_of_several_pages_is_complete_and_without_repeats(
    emulator: Emulator, client: VercelClient, until: Any
) -> None:
    emulator.state.behaviour = emulator.state.behaviour.model_copy(update={"until": until})
    issued = []
    for number in range(205):
        issued.append(await client.issue([f"n{number}.example.com"], PERSONAL))
        emulator.clock.advance(1)
    listed = await client.list(PERSONAL)
    assert [certificate.id for certificate in listed] == [certificate.id for certificate in reversed(issued)]
    assert emulator.journal.counts["list"] == 3


async def test_a_token_that_vercel_does_not_know_is_refused(emulator: Emulator) -> None:
    async with client_of(emulator.url, "another-test-token") as stranger:
        with pytest.raises(ApiError) as caught:
            await stranger.issue(NAMES, PERSONAL)
    assert (caught.value.status, caught.value.code) == (403, "forbidden")


@pytest.mark.parametrize(
    ("names", "code"), [([], None), (["not a name"], None), (["a.example", "b.test"], "should_share_root_domain")]
)
async def test_names_that_vercel_does_not_accept_are_refused_in_its_words(
    client: VercelClient, names: list[str], code: str | None
) -> None:
    with pytest.raises(ApiError) as caught:
        await client.issue(names, PERSONAL)
    assert caught.value.status == 400
    assert code is None or caught.value.code == code


async def test_a_rate_limit_says_how_long_to_wait(emulator: Emulator, client: VercelClient) -> None:
    emulator.limits.rule = RateLimit(limit=1, window=60)
    await client.list(PERSONAL)
    with pytest.raises(ApiError) as caught:
        await client.list(PERSONAL)
    assert caught.value.status == 429
    assert caught.value.retry_after == 60


@pytest.mark.parametrize("retry_after", [True, False])
@pytest.mark.parametrize("retry_after_ms", [True, False])
async def test_a_rate_limit_is_understood_wherever_it_says_so(
    emulator: Emulator, client: VercelClient, retry_after: bool, retry_after_ms: bool
) -> None:
    emulator.clock.advance(3600)  # X-RateLimit-Reset is a time of Vercel's clock
    emulator.limits.rule = RateLimit(limit=0, window=60, retry_after=retry_after, retry_after_ms=retry_after_ms)
    with pytest.raises(ApiError) as caught:
        await client.list(PERSONAL)
    assert caught.value.retry_after == 60


@pytest.mark.parametrize(
    "fault",
    [
        Fault(call="issue", action="reset", when="after"),
        Fault(call="issue", action="truncate"),
        Fault(call="issue", action="empty", when="after"),
        Fault(call="issue", action="html", when="after"),
        Fault(call="issue", action="html", when="after", status=502),
        Fault(call="issue", action="redirect", when="after"),
        Fault(call="issue", action="huge", when="after"),
        Fault(call="issue", action="raw", when="after", body={"certificate": {"id": "cert_1"}}),
        Fault(call="issue", action="answer", omit=["id"]),
        Fault(call="issue", action="answer", fields={"id": 17}),
    ],
    ids=lambda fault: f"{fault.action} {fault.status or ''}",
)
async def test_a_certificate_whose_answer_is_lost_is_found_by_a_listing(
    emulator: Emulator, client: VercelClient, fault: Fault
) -> None:
    emulator.faults.add(fault)
    with pytest.raises(OutcomeUnknown):
        await client.issue(NAMES, PERSONAL)
    (certificate,) = await client.list(PERSONAL)
    assert certificate.cns == set(NAMES)
    assert emulator.journal.counts["issue"] == 1


@pytest.mark.parametrize("action", ["hang", "slow"])
async def test_a_certificate_whose_answer_takes_too_long_is_found_by_a_listing(emulator: Emulator, action: Any) -> None:
    emulator.faults.add(Fault(call="issue", action=action, when="after"))
    async with client_of(emulator.url, post_timeout=0.3) as client:
        with pytest.raises(OutcomeUnknown):
            await client.issue(NAMES, PERSONAL)
        assert len(await client.list(PERSONAL)) == 1


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 449, 500, 503])
async def test_each_documented_error_comes_as_vercel_s_own(
    emulator: Emulator, client: VercelClient, status: int
) -> None:
    emulator.faults.add(Fault(call="issue", status=status, code="some_code", message="Some words."))
    with pytest.raises(ApiError) as caught:
        await client.issue(NAMES, PERSONAL)
    assert (caught.value.status, caught.value.code, caught.value.message) == (status, "some_code", "Some words.")


async def test_wrong_types_do_not_lose_the_certificate(emulator: Emulator, client: VercelClient) -> None:
    emulator.faults.add(Fault(call="issue", action="answer", fields={"cns": None, "createdAt": "x", "expiresAt": 1}))
    certificate = await client.issue(NAMES, PERSONAL)
    assert [kept.id for kept in emulator.state.live()] == [certificate.id]
    assert len(certificate.oddities) == 3


async def test_the_second_page_that_fails_fails_the_listing(emulator: Emulator, client: VercelClient) -> None:
    for number in range(101):
        await client.issue([f"n{number}.example.com"], PERSONAL)
        emulator.clock.advance(1)
    emulator.faults.add(Fault(call="list", action="truncate", skip=1))
    with pytest.raises(VercelError):
        await client.list(PERSONAL)
    assert len(await client.list(PERSONAL)) == 101


@pytest.mark.parametrize("hours", [-5, 0, 5])
async def test_the_offset_of_vercel_s_clock_is_known(emulator: Emulator, client: VercelClient, hours: int) -> None:
    emulator.clock.advance(hours * 3600)
    await client.list(PERSONAL)
    assert client.clock_offset == timedelta(hours=hours)


# --- uploads ----------------------------------------------------------------------------------------------------------

AUTHORITY = Authority(NOW - timedelta(days=365))
LEAF = AUTHORITY.leaf(["example.com", "www.example.com"], NOW - timedelta(days=1))
UPLOAD = Upload(LEAF.pem, SecretStr(LEAF.key_pem), LEAF.ca_pem)


async def test_a_certificate_is_uploaded_read_listed_and_removed(emulator: Emulator, client: VercelClient) -> None:
    uploaded = await client.upload(UPLOAD, TEAM)
    assert uploaded.cns == {"example.com", "www.example.com"}
    assert uploaded.expires_at == NOW + timedelta(days=89)
    assert uploaded.oddities == ()
    assert await client.list(TEAM) == (uploaded,)
    assert await client.list(PERSONAL) == ()
    await client.remove(uploaded.id, TEAM)
    assert await client.list(TEAM) == ()
    assert emulator.journal.counts["upload"] == 1


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA", "ECDSA", "Ed25519"],
)
async def test_certificates_with_every_kind_of_key_are_uploaded(client: VercelClient, key: Key) -> None:
    leaf = AUTHORITY.leaf(["example.com"], NOW - timedelta(days=1), key=key)
    await client.upload(Upload(leaf.pem, SecretStr(leaf.key_pem), leaf.ca_pem), PERSONAL)


async def test_an_upload_that_vercel_refuses_is_refused_in_its_words(client: VercelClient) -> None:
    with pytest.raises(ApiError) as caught:
        await client.upload(Upload(LEAF.pem, SecretStr(key_pem(new_key())), LEAF.ca_pem), PERSONAL)
    assert caught.value.status == 400


async def test_an_upload_whose_answer_is_lost_is_found_by_a_listing(emulator: Emulator, client: VercelClient) -> None:
    emulator.faults.add(Fault(call="upload", action="reset", when="after"))
    with pytest.raises(OutcomeUnknown):
        await client.upload(UPLOAD, PERSONAL)
    (certificate,) = await client.list(PERSONAL)
    assert certificate.cns == {"example.com", "www.example.com"}


# --- the configuration of domains -------------------------------------------------------------------------------------


async def test_a_domain_that_is_configured_says_how(client: VercelClient) -> None:
    config = await client.domain_config("example.com", TEAM)
    assert (config.misconfigured, config.configured_by) == (False, "A")
    assert config.accepted_challenges == ("dns-01", "http-01")


async def test_a_domain_that_is_misconfigured_says_what_to_set(emulator: Emulator, client: VercelClient) -> None:
    emulator.domains.misconfigure("example.com")
    config = await client.domain_config("www.example.com", TEAM)
    assert (config.misconfigured, config.configured_by, config.accepted_challenges) == (True, None, ())
    assert config.ipv4
    assert config.cname


async def test_only_the_best_rank_is_recommended(emulator: Emulator, client: VercelClient) -> None:
    setup = {
        "recommendedIPv4": [{"rank": 2, "value": ["192.0.2.2"]}, {"rank": 1, "value": ["192.0.2.1"]}],
        "recommendedCNAME": [{"rank": 2, "value": "two.example"}, {"rank": 1, "value": "one.example"}],
    }
    emulator.domains.set_up("example.com", DomainSetup.model_validate(setup))
    config = await client.domain_config("example.com", TEAM)
    assert (config.ipv4, config.cname) == (("192.0.2.1",), "one.example")
