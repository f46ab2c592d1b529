"""The clock, and the switches for what is not known about Vercel."""

from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from vercel_emulator import Behaviour, Emulator, EmulatorControl
from vercel_emulator.models import Injection, TokenGrant

CERTS = "/v8/certs"
DAY = 86_400
DAY_MS = DAY * 1000
START = 1_900_000_000


async def listed(vercel: httpx.AsyncClient) -> list[dict[str, object]]:
    certs: list[dict[str, object]] = (await vercel.get(CERTS)).json()["certs"]
    return certs


async def test_the_clock_is_injected_and_can_be_moved() -> None:
    async with Emulator(tokens=("t",), clock=lambda: 1000.5) as emulator:
        assert emulator.clock.now_ms() == 1_000_500
        emulator.clock.advance(60)
        assert emulator.clock.now_ms() == 1_060_500
        emulator.clock.set(5_000)
        assert emulator.clock.now_ms() == 5_000
        assert emulator.clock.offset == -995.5
        emulator.clock.set_offset(0)
        assert emulator.clock.now_ms() == 1_000_500


async def test_the_lifetime_can_be_chosen() -> None:
    async with Emulator(tokens=("t",), lifetime=timedelta(minutes=1), clock=lambda: START) as emulator:
        certificate = emulator.state.issue(["example.com"])
        assert certificate.expires_at - certificate.created_at == 60_000


async def test_a_post_for_known_names_can_answer_with_the_old_certificate(
    emulator: Emulator, vercel: httpx.AsyncClient
) -> None:
    emulator.state.behaviour = Behaviour(reissue="old")

    async def issue(*cns: str, **query: str) -> str:
        certificate_id: str = (await vercel.post(CERTS, json={"cns": cns}, params=query)).json()["id"]
        return certificate_id

    first = await issue("example.com", "www.example.com")
    assert await issue("www.example.com", "example.com") == first
    assert await issue("example.com") != first
    assert await issue("example.com", "www.example.com", slug="alpha") != first
    emulator.clock.advance(91 * DAY)
    assert await issue("example.com", "www.example.com") != first


async def test_the_page_size_can_be_chosen(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.state.behaviour = Behaviour(page_size=1)
    for _ in range(2):
        emulator.state.issue(["example.com"])
        emulator.clock.advance(1)

    assert len(await listed(vercel)) == 1


@pytest.mark.parametrize(
    ("reissue", "before_expiry", "after_expiry"),
    [
        ("new", "another", "another"),
        ("old", "newest", "another"),
        ("old-even-expired", "newest", "newest"),
        ("oldest", "oldest", "oldest"),
    ],
)
async def test_a_post_for_known_names_answers_with_a_new_or_an_older_certificate(
    emulator: Emulator, vercel: httpx.AsyncClient, reissue: str, before_expiry: str, after_expiry: str
) -> None:
    now = emulator.clock.now_ms()
    for name, age in (("oldest", 3), ("newest", 1), ("middle", 2)):
        emulator.state.inject(Injection(id=name, cns=["example.com"], created_at=now - age * DAY_MS))
    emulator.state.inject(Injection(cns=["example.com", "www.example.com"]))
    emulator.state.inject(Injection(cns=["example.com"], scope="team_a"))
    emulator.state.behaviour = Behaviour.model_validate({"reissue": reissue})

    async def answered() -> str:
        cert_id: str = (await vercel.post(CERTS, json={"cns": ["example.com"]})).json()["id"]
        return cert_id if cert_id in {"oldest", "newest", "middle"} else "another"

    assert await answered() == before_expiry
    for certificate in emulator.state.live():
        if certificate.origin == "issued":
            emulator.state.vanish(certificate.id)
    emulator.clock.advance(90 * DAY)
    assert await answered() == after_expiry


async def test_new_certificates_can_be_backdated(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.state.behaviour = Behaviour.model_validate({"backdate": "1h"})

    made = (await vercel.post(CERTS, json={"cns": ["example.com"]})).json()

    assert 0 <= emulator.clock.now_ms() - 3_600_000 - made["createdAt"] < 60_000
    assert made["expiresAt"] - made["createdAt"] == 90 * DAY_MS
    emulator.state.behaviour = Behaviour.model_validate({"backdate": "1h", "lifetime": 60})
    assert emulator.state.issue(["example.com"]).expires_at > emulator.clock.now_ms()


# --- the list


async def test_a_list_can_lag_behind_what_exists(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.state.behaviour = Behaviour.model_validate({"listLag": 60, "listLagOfRemovals": 120, "backdate": "1h"})
    old = emulator.state.inject(Injection(cns=["example.com"], created_at=1000)).id
    new = (await vercel.post(CERTS, json={"cns": ["example.com"]})).json()["id"]

    async def ids() -> list[object]:
        return [certificate["id"] for certificate in await listed(vercel)]

    assert (await vercel.get(f"{CERTS}/{new}")).status_code == 200
    assert await ids() == [old]
    emulator.clock.advance(60)
    assert await ids() == [new, old]
    for cert_id in (old, new):
        assert (await vercel.delete(f"{CERTS}/{cert_id}")).status_code == 200
    assert (await vercel.get(f"{CERTS}/{old}")).status_code == 404
    assert await ids() == [new, old]
    emulator.clock.advance(120)
    assert await ids() == []


@pytest.mark.parametrize("until", ["exclusive", "inclusive"])
@pytest.mark.parametrize("limit", [1, 2, 7, 100])
@pytest.mark.parametrize("order", ["newest-first", "oldest-first", "shuffled"])
async def test_in_any_order_a_client_that_follows_the_pages_sees_every_certificate(
    emulator: Emulator, vercel: httpx.AsyncClient, order: str, limit: int, until: str
) -> None:
    emulator.state.behaviour = Behaviour.model_validate({"listOrder": order, "until": until})
    times = [1, 2, 2, 2, 3, 4, 4, 5, 5, 5, 5, 5, 6]
    made = {emulator.state.inject(Injection(cns=["example.com"], created_at=time)).id for time in times}
    pages: list[list[dict[str, Any]]] = []
    following: dict[str, int] = {}
    while not pages or following:
        page = (await vercel.get(CERTS, params={"limit": limit, **following})).json()
        assert len(pages) < 20
        pages.append(page["certs"])
        assert until == "inclusive" or (page["pagination"]["prev"] is None) == (len(pages) == 1)
        following = {} if page["pagination"]["next"] is None else {"until": page["pagination"]["next"]}

    seen = [certificate for page in pages for certificate in page]
    assert {certificate["id"] for certificate in seen} == made
    if until == "exclusive":
        assert len(seen) == len(made)
        created = [certificate["createdAt"] for certificate in seen]
        assert (created == sorted(created)) == (order == "oldest-first")
        assert (created == sorted(created, reverse=True)) == (order == "newest-first")


async def test_a_page_continues_where_a_removed_certificate_was(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.state.behaviour = Behaviour(list_order="shuffled", page_size=3)
    for time in range(9):
        emulator.state.inject(Injection(cns=["example.com"], created_at=time))
    everything = [certificate["id"] for certificate in (await vercel.get(CERTS, params={"limit": 100})).json()["certs"]]
    first = (await vercel.get(CERTS)).json()
    emulator.state.vanish(first["certs"][-1]["id"])

    second = (await vercel.get(CERTS, params={"until": first["pagination"]["next"]})).json()

    assert [certificate["id"] for certificate in second["certs"]] == everything[3:6]


# --- tokens, and the Date header


@pytest.mark.parametrize("invalid_token", [True, False])
@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized_request_error"), (403, "forbidden")])
@pytest.mark.parametrize("how", ["unknown", "revoked", "expired"])
async def test_a_dead_token_is_refused_in_several_ways(
    emulator: Emulator, vercel: httpx.AsyncClient, how: str, status: int, code: str, *, invalid_token: bool
) -> None:
    emulator.state.behaviour = Behaviour.model_validate({"unknownTokenStatus": status, "invalidToken": invalid_token})
    if how != "unknown":
        expires_at = emulator.clock.now_ms() + 60_000 if how == "expired" else None
        emulator.accounts.grant(TokenGrant(token="dying-test-token", expires_at=expires_at))
    vercel.headers["Authorization"] = "Bearer dying-test-token"
    if how != "unknown":
        assert (await vercel.get(CERTS)).status_code == 200
    emulator.clock.advance(61)
    if how == "revoked":
        emulator.accounts.revoke("dying-test-token")

    response = await vercel.get(CERTS)

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert error.get("invalidToken") is (True if invalid_token else None)
    assert ("expired" in error["message"]) == (how == "expired")


async def test_a_missing_token_is_not_called_invalid(vercel: httpx.AsyncClient) -> None:
    error = (await vercel.get(CERTS, headers={"Authorization": ""})).json()["error"]

    assert "invalidToken" not in error
    assert error["message"].startswith("Not authorized")


@pytest.mark.parametrize("offset", [-3600, 0, 86_400])
async def test_the_date_header_can_be_ahead_of_the_clock_or_behind(
    emulator: Emulator, vercel: httpx.AsyncClient, control: EmulatorControl, offset: int
) -> None:
    emulator.clock.advance(1e6)
    await control.behave(date_offset=offset)

    date = parsedate_to_datetime((await vercel.get(CERTS)).headers["Date"]).timestamp()

    assert -30 < date - offset - emulator.clock.now_ms() / 1000 <= 0


@pytest.mark.parametrize("offset", [-1e18, 1e18])
async def test_an_impossible_date_is_clamped(emulator: Emulator, vercel: httpx.AsyncClient, offset: float) -> None:
    emulator.state.behaviour = Behaviour(date_offset=offset)

    assert parsedate_to_datetime((await vercel.get(CERTS)).headers["Date"]).year in {1970, 9999}


async def test_the_date_header_can_be_omitted(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.state.behaviour = Behaviour(date_header=False)

    assert "Date" not in (await vercel.get(CERTS)).headers
