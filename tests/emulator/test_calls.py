"""The calls of /v8/certs, over real HTTP, without any switch touched."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from email.utils import parsedate_to_datetime
from itertools import chain

import httpx
import pytest

from vercel_emulator import Behaviour, Emulator
from vercel_emulator.models import Injection, TokenGrant

TOKEN = "test-token-not-a-secret"
CERTS = "/v8/certs"
DAY_MS = 86_400_000


def names(count: int) -> list[str]:
    return [f"a{number}.example.com" for number in range(count)]


async def issue(vercel: httpx.AsyncClient, *cns: str, **query: str) -> dict[str, object]:
    response = await vercel.post(CERTS, json={"cns": cns}, params=query)
    assert response.status_code == 200, response.text
    certificate: dict[str, object] = response.json()
    return certificate


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, which must be in Vercel's shape."""
    assert response.headers["Content-Type"].startswith("application/json")
    error = response.json()["error"]
    assert isinstance(error["message"], str)
    return response.status_code, error["code"]


async def test_an_issued_certificate_lives_90_days_and_renews_by_itself(vercel: httpx.AsyncClient) -> None:
    response = await vercel.post(CERTS, json={"cns": ["example.com", "*.example.com"]})

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("application/json")
    certificate = response.json()
    assert set(certificate) == {"id", "createdAt", "expiresAt", "autoRenew", "cns"}
    assert re.fullmatch("cert_[A-Za-z0-9]{24}", certificate["id"])
    assert certificate["cns"] == ["example.com", "*.example.com"]
    assert certificate["autoRenew"] is True
    assert type(certificate["createdAt"]) is int
    assert certificate["expiresAt"] - certificate["createdAt"] == 90 * DAY_MS
    assert (await vercel.get(f"{CERTS}/{certificate['id']}")).json() == certificate
    assert (await vercel.get(CERTS)).json() == {
        "certs": [certificate],
        "pagination": {"count": 1, "next": None, "prev": None},
    }


async def test_each_issue_makes_a_certificate_of_its_own(vercel: httpx.AsyncClient) -> None:
    assert (await issue(vercel, "example.com"))["id"] != (await issue(vercel, "example.com"))["id"]


async def test_a_certificate_is_removed_once(vercel: httpx.AsyncClient) -> None:
    path = f"{CERTS}/{(await issue(vercel, 'example.com'))['id']}"

    removed = await vercel.delete(path)

    assert (removed.status_code, removed.json()) == (200, {})
    assert refusal(await vercel.delete(path)) == (404, "cert_not_found")
    assert refusal(await vercel.get(path)) == (404, "cert_not_found")
    assert (await vercel.get(CERTS)).json()["certs"] == []


async def test_names_are_kept_in_lower_case_and_once(vercel: httpx.AsyncClient) -> None:
    assert (await issue(vercel, "Example.COM", "example.com"))["cns"] == ["example.com"]


@pytest.mark.parametrize(
    "cns",
    [
        ["a.b.c.example.com", "*.b.example.com", "example.com"],
        ["xn--bcher-kva.example"],
        ["shop.example.co.uk", "example.co.uk"],
        ["a" * 63 + ".com"],
        names(100),
    ],
)
async def test_well_formed_names_are_accepted(vercel: httpx.AsyncClient, cns: list[str]) -> None:
    assert (await issue(vercel, *cns))["cns"] == cns


@pytest.mark.parametrize(
    ("cns", "code"),
    [
        ([], "bad_domains"),
        (names(101), "bad_domains"),
        (["example.com", "example.org"], "should_share_root_domain"),
        (["one.co.uk", "two.co.uk"], "should_share_root_domain"),
        (["co.uk"], "invalid_domain"),
        (["*.co.uk"], "invalid_domain"),
        ([""], "invalid_cn"),
        (["com"], "invalid_cn"),
        (["*.com"], "invalid_cn"),
        (["*"], "invalid_cn"),
        (["a.*.example.com"], "invalid_cn"),
        (["a*.example.com"], "invalid_cn"),
        (["*.*.example.com"], "invalid_cn"),
        (["example..com"], "invalid_cn"),
        (["example.com."], "invalid_cn"),
        (["-a.example.com"], "invalid_cn"),
        (["a-.example.com"], "invalid_cn"),
        (["a_b.example.com"], "invalid_cn"),
        (["exa mple.com"], "invalid_cn"),
        (["bücher.example"], "invalid_cn"),
        (["\ud800.example.com"], "invalid_cn"),
        (["example.com\n"], "invalid_cn"),
        (["a" * 64 + ".com"], "invalid_cn"),
        ([".".join(["a" * 50] * 5) + ".com"], "invalid_cn"),
        (["192.0.2.1"], "invalid_cn"),
        ([7], "bad_request"),
        ("example.com", "bad_request"),
        (None, "bad_request"),
    ],
)
async def test_other_names_are_refused(emulator: Emulator, vercel: httpx.AsyncClient, cns: object, code: str) -> None:
    response = await vercel.post(CERTS, content=json.dumps({"cns": cns}))

    assert refusal(response) == (400, code)
    assert emulator.state.all() == []


@pytest.mark.parametrize("body", ["", "{", "[]", '"cns"', "{}", "[" * 100_000, b"\xff"])
async def test_a_body_that_is_not_a_json_object_is_refused(vercel: httpx.AsyncClient, body: str | bytes) -> None:
    assert refusal(await vercel.post(CERTS, content=body)) == (400, "bad_request")


async def test_a_body_that_is_too_large_is_refused(vercel: httpx.AsyncClient) -> None:
    response = await vercel.post(CERTS, content=b'{"cns": ["' + b"x" * 2_000_000 + b'"]}')

    assert refusal(response) == (413, "payload_too_large")


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", (404, "not_found")),
        ("GET", "/v4/certs", (404, "not_found")),
        ("GET", "/v8/certs/a/b", (404, "not_found")),
        ("GET", "/v8/certs/", (404, "not_found")),
        ("GET", "/v8/certs/%0a%F0%9F%98%80", (404, "cert_not_found")),
        ("GET", "/v8/certs/cert_none", (404, "cert_not_found")),
        ("PATCH", "/v8/certs", (405, "method_not_allowed")),
        ("POST", "/v8/certs/cert_none", (405, "method_not_allowed")),
        ("POST", "/v6/domains/example.com/config", (405, "method_not_allowed")),
        ("GET", "/v6/domains/example.com", (404, "not_found")),
        ("GET", "/v6/domains/a/b/config", (404, "not_found")),
    ],
)
async def test_other_paths_and_methods_are_refused_in_the_same_shape(
    vercel: httpx.AsyncClient, method: str, path: str, expected: tuple[int, str]
) -> None:
    assert refusal(await vercel.request(method, path)) == expected


async def test_the_date_header_goes_by_the_clock_of_the_emulator(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.clock.set(1_900_000_000_123)

    response = await vercel.get(CERTS)

    assert 0 <= parsedate_to_datetime(response.headers["Date"]).timestamp() - 1_900_000_000 < 60


# --- tokens and teams


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer other", f"Basic {TOKEN}"])
@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized_request_error"), (403, "forbidden")])
async def test_an_unknown_token_is_refused(
    emulator: Emulator, vercel: httpx.AsyncClient, authorization: str, status: int, code: str
) -> None:
    emulator.state.behaviour = Behaviour.model_validate({"unknownTokenStatus": status})

    response = await vercel.post(CERTS, json={"cns": ["example.com"]}, headers={"Authorization": authorization})

    assert refusal(response) == (status, code)
    assert emulator.state.all() == []


async def test_teams_and_the_user_do_not_see_each_others_certificates(vercel: httpx.AsyncClient) -> None:
    own = await issue(vercel, "example.com")
    of_a = await issue(vercel, "example.com", teamId="team_a")
    of_b = await issue(vercel, "example.com", slug="beta")

    for query, certificate in (({}, own), ({"slug": "alpha"}, of_a), ({"teamId": "team_b", "slug": "beta"}, of_b)):
        assert (await vercel.get(CERTS, params=query)).json()["certs"] == [certificate]
    assert refusal(await vercel.get(f"{CERTS}/{of_a['id']}")) == (404, "cert_not_found")
    assert refusal(await vercel.delete(f"{CERTS}/{of_a['id']}", params={"slug": "beta"})) == (404, "cert_not_found")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"teamId": "team_none"}, (403, "forbidden")),
        ({"teamId": ""}, (403, "forbidden")),
        ({"slug": "none"}, (403, "forbidden")),
        ({"teamId": "team_a", "slug": "beta"}, (400, "bad_request")),
        ({"teamId": "team_a", "slug": "none"}, (400, "bad_request")),
    ],
)
async def test_an_unknown_or_ambiguous_team_is_refused(
    vercel: httpx.AsyncClient, query: dict[str, str], expected: tuple[int, str]
) -> None:
    assert refusal(await vercel.get(CERTS, params=query)) == expected


async def test_a_token_can_belong_to_another_user_and_to_some_teams(
    emulator: Emulator, vercel: httpx.AsyncClient
) -> None:
    await issue(vercel, "example.com")
    emulator.accounts.grant(TokenGrant(token="another-test-token", user="other", teams=["team_a"]))
    vercel.headers["Authorization"] = "Bearer another-test-token"

    assert (await vercel.get(CERTS)).json()["certs"] == []
    assert (await vercel.get(CERTS, params={"slug": "alpha"})).status_code == 200
    assert refusal(await vercel.get(CERTS, params={"slug": "beta"})) == (403, "forbidden")


async def test_a_revoked_token_is_refused(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    assert emulator.accounts.revoke(TOKEN)

    response = await vercel.get(CERTS)
    assert refusal(response) == (403, "forbidden")
    assert response.json()["error"]["invalidToken"] is True


# --- pages


async def follow(vercel: httpx.AsyncClient, **query: int) -> list[list[str]]:
    """The ids of all pages, as the CLI pages: `until` is the `next` of the page before."""
    pages = []
    until: int | None = None
    for _ in range(100):
        page = (await vercel.get(CERTS, params={**query, **({} if until is None else {"until": until})})).json()
        pages.append([certificate["id"] for certificate in page["certs"]])
        assert page["pagination"]["count"] == len(page["certs"])
        until = page["pagination"]["next"]
        if until is None:
            return pages
    raise AssertionError("the list has no end")


def inject(emulator: Emulator, *created_at: int) -> list[str]:
    """Certificates of these times; their ids, in the order in which they are to be listed."""
    made = [emulator.state.inject(Injection(cns=["example.com"], created_at=time)).id for time in created_at]
    return made[::-1]


async def test_the_list_has_pages_the_newest_first(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    expected = inject(emulator, *range(1000, 1045))

    assert [len(page) for page in await follow(vercel)] == [20, 20, 5]
    assert [*chain(*await follow(vercel))] == expected
    assert [len(page) for page in await follow(vercel, limit=30)] == [30, 15]
    assert [len(page) for page in await follow(vercel, limit=45)] == [45]
    second = (await vercel.get(CERTS, params={"until": 1025})).json()["pagination"]
    assert second == {"count": 20, "next": 1005, "prev": 1024}


@pytest.mark.parametrize("until", ["exclusive", "inclusive"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_certificates_of_one_millisecond_are_all_listed(
    emulator: Emulator, vercel: httpx.AsyncClient, limit: int, until: str
) -> None:
    emulator.state.behaviour = Behaviour.model_validate({"until": until})
    expected = inject(emulator, 1, 2, 2, 2, 3, 4, 4, 5, 5, 5, 5, 5, 6)

    listed = [*chain(*await follow(vercel, limit=limit))]

    assert list(dict.fromkeys(listed)) == expected
    if until == "exclusive":
        assert listed == expected


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"until": "x"}, {"until": ""}])
async def test_invalid_paging_parameters_are_refused(vercel: httpx.AsyncClient, query: dict[str, str]) -> None:
    assert refusal(await vercel.get(CERTS, params=query)) == (400, "bad_request")


# --- uploading


Pem = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def make_pem() -> Pem:
    """A maker of certificates: (certificate, key) in PEM, valid from a day ago for some days."""
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def make(*dns: str, issuer: tuple[str, str] | None = None, days: float = 30) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test")])
        now = datetime.now(UTC).replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days))
        )
        if dns:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(one) for one in dns])
            builder = builder.add_extension(alternatives, critical=False)
        signer = key
        if issuer is not None:
            loaded = serialization.load_pem_private_key(issuer[1].encode(), None)
            assert isinstance(loaded, ec.EllipticCurvePrivateKey)
            signer = loaded
        certificate = builder.sign(signer, hashes.SHA256())
        return (
            certificate.public_bytes(serialization.Encoding.PEM).decode(),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode(),
        )

    return make


async def test_an_uploaded_certificate_keeps_its_names_and_its_expiry(
    emulator: Emulator, vercel: httpx.AsyncClient, make_pem: Pem
) -> None:
    ca = make_pem()
    cert, key = make_pem("up.example.org", "*.up.example.org", issuer=ca)

    response = await vercel.put(CERTS, json={"ca": ca[0], "key": key, "cert": cert})

    assert response.status_code == 200, response.text
    certificate = response.json()
    assert certificate["cns"] == ["up.example.org", "*.up.example.org"]
    assert certificate["autoRenew"] is False
    assert abs(certificate["expiresAt"] - emulator.clock.now_ms() - 30 * DAY_MS) < 60_000
    assert (await vercel.get(f"{CERTS}/{certificate['id']}")).json() == certificate


async def test_an_upload_can_be_created_when_it_became_valid(
    emulator: Emulator, vercel: httpx.AsyncClient, make_pem: Pem
) -> None:
    emulator.state.behaviour = Behaviour(upload_created_at="not-before")
    cert, key = make_pem("up.example.org")

    uploaded = (await vercel.put(CERTS, json={"ca": cert, "key": key, "cert": cert})).json()

    assert uploaded["expiresAt"] - uploaded["createdAt"] == (30 + 60) * DAY_MS


async def test_an_invalid_upload_is_refused(emulator: Emulator, vercel: httpx.AsyncClient, make_pem: Pem) -> None:
    ca = make_pem()
    cert, key = make_pem("up.example.org", issuer=ca)
    old, old_key = make_pem("up.example.org", issuer=ca, days=-1)
    nameless, its_key = make_pem(issuer=ca)
    good = {"ca": ca[0], "key": key, "cert": cert}
    wrong: list[dict[str, object]] = [
        {**good, "key": make_pem()[1]},
        {**good, "key": "no key"},
        {**good, "cert": "no certificate"},
        {**good, "ca": "no certificate"},
        {**good, "ca": make_pem()[0]},
        {**good, "ca": ""},
        {**good, "ca": None},
        {**good, "skipValidation": "yes"},
        {"ca": ca[0], "cert": old, "key": old_key},
        {"ca": ca[0], "cert": nameless, "key": its_key},
        {},
    ]

    for body in wrong:
        assert refusal(await vercel.put(CERTS, json=body)) == (400, "bad_request"), body
    assert emulator.state.all() == []
    for passing in ({**good, "ca": ""}, {"ca": ca[0], "cert": old, "key": old_key}):
        response = await vercel.put(CERTS, json={**passing, "skipValidation": True})
        assert response.status_code == 200, response.text
