"""Rate limits, and the issuer's limit for one set of names."""

import httpx
import pytest

from vercel_emulator import Behaviour, Emulator, EmulatorControl, RateLimit, Renewal
from vercel_emulator.errors import ApiError
from vercel_emulator.models import Injection

CERTS = "/v8/certs"
DAY = 86_400


async def test_a_rate_limit_says_when_it_ends(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.limits.rule = RateLimit(limit=2, window=60)
    for remaining in ("1", "0"):
        response = await vercel.get(CERTS)
        assert response.status_code == 200
        assert response.headers["X-RateLimit-Limit"] == "2"
        assert response.headers["X-RateLimit-Remaining"] == remaining

    refused = await vercel.post(CERTS, json={"cns": ["example.com"]})

    assert refused.status_code == 429
    error = refused.json()["error"]
    assert error["code"] == "rate_limited"
    assert 0 < error["retryAfterMs"] <= 60_000
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert 0 <= int(refused.headers["X-RateLimit-Reset"]) * 1000 - emulator.clock.now_ms() <= 61_000
    assert emulator.state.all() == []
    emulator.clock.advance(60)
    assert (await vercel.get(CERTS)).status_code == 200


@pytest.mark.parametrize("hint", ["retry_after", "rate_limit_headers", "retry_after_ms", "limit_in_body"])
@pytest.mark.parametrize("alone", [False, True])
async def test_each_hint_of_a_rate_limit_can_be_sent_alone_or_left_out(
    emulator: Emulator, vercel: httpx.AsyncClient, hint: str, *, alone: bool
) -> None:
    hints = dict.fromkeys(["retry_after", "rate_limit_headers", "retry_after_ms", "limit_in_body"], not alone)
    hints[hint] = alone
    emulator.limits.rule = RateLimit.model_validate({"limit": 0, "code": "too_many_requests", **hints})

    response = await vercel.get(CERTS)

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (429, "too_many_requests")
    assert ("Retry-After" in response.headers) == hints["retry_after"]
    for header in ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"):
        assert (header in response.headers) == hints["rate_limit_headers"]
    assert ("retryAfterMs" in error) == hints["retry_after_ms"]
    assert ("limit" in error) == hints["limit_in_body"]


async def test_the_limit_in_the_body_says_when_it_ends(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.limits.rule = RateLimit(limit=1, window=60, limit_in_body=True)
    await vercel.get(CERTS)
    start = emulator.clock.now_ms()

    limit = (await vercel.get(CERTS)).json()["error"]["limit"]

    assert set(limit) == {"remaining", "reset", "resetMs", "total"}
    assert (limit["remaining"], limit["total"]) == (0, 1)
    assert 0 <= start + 60_000 - limit["resetMs"] < 30_000
    assert 0 <= limit["reset"] * 1000 - limit["resetMs"] < 1000


async def test_a_rate_limit_can_be_for_some_calls_only(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.limits.rule = RateLimit(limit=0, calls=["issue"])

    assert (await vercel.get(CERTS)).status_code == 200
    assert (await vercel.post(CERTS, json={"cns": ["example.com"]})).status_code == 429


async def test_each_token_has_a_limit_of_its_own() -> None:
    async with Emulator(tokens=("one", "two")) as emulator, httpx.AsyncClient(trust_env=False) as client:
        emulator.limits.rule = RateLimit(limit=1)
        statuses = [
            (await client.get(emulator.url + CERTS, headers={"Authorization": f"Bearer {token}"})).status_code
            for token in ("one", "one", "two")
        ]
    assert statuses == [200, 429, 200]


async def test_each_kind_of_call_can_be_counted_by_itself(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.limits.rule = RateLimit(limit=1, per_call=True)

    statuses = [
        (await vercel.request(method, CERTS, json={"cns": ["example.com"]})).status_code
        for method in ("GET", "POST", "GET", "POST")
    ]

    assert statuses == [200, 200, 429, 429]


async def test_a_limit_can_be_for_one_token() -> None:
    async with Emulator(tokens=("one", "two")) as emulator, httpx.AsyncClient(trust_env=False) as client:
        emulator.limits.rule = RateLimit(limit=0, token="two")
        statuses = [
            (await client.get(emulator.url + CERTS, headers={"Authorization": f"Bearer {token}"})).status_code
            for token in ("one", "two")
        ]
        assert emulator.limits.rule.token != "two"
    assert statuses == [200, 429]


async def test_a_request_must_pass_all_limits(
    emulator: Emulator, vercel: httpx.AsyncClient, control: EmulatorControl
) -> None:
    await control.limit(RateLimit(limit=100))
    await control.add_limit(RateLimit(limit=1, calls=["issue"], code="too_many_requests"))
    assert [rule.limit for rule in await control.limits()] == [100, 1]

    first = await vercel.post(CERTS, json={"cns": ["example.com"]})
    second = await vercel.post(CERTS, json={"cns": ["example.com"]})
    listed = await vercel.get(CERTS)

    assert (first.status_code, first.headers["X-RateLimit-Remaining"]) == (200, "0")
    assert (second.status_code, second.json()["error"]["code"]) == (429, "too_many_requests")
    assert (listed.status_code, listed.headers["X-RateLimit-Remaining"]) == (200, "97")
    await control.limit(None)
    assert emulator.limits.rules == []


async def test_a_limit_of_a_hundred_requests_a_minute_counts_exactly(
    emulator: Emulator, vercel: httpx.AsyncClient
) -> None:
    emulator.limits.rule = RateLimit(limit=100, window=60)

    for _ in range(3):
        statuses = [(await vercel.get(CERTS)).status_code for _ in range(102)]
        assert statuses == [200] * 100 + [429] * 2
        emulator.clock.advance(60)


# --- the issuer's limit


async def test_the_issuer_limits_certificates_for_one_exact_set_of_names(
    emulator: Emulator, vercel: httpx.AsyncClient
) -> None:
    emulator.state.behaviour = Behaviour(issuances_per_week=2)

    async def issue(*cns: str, **query: str) -> httpx.Response:
        return await vercel.post(CERTS, json={"cns": cns}, params=query)

    assert (await issue("example.com", "www.example.com")).status_code == 200
    emulator.clock.advance(DAY)
    removed = (await issue("www.example.com", "example.com", slug="alpha")).json()["id"]
    emulator.state.vanish(removed)
    third = await issue("www.example.com", "example.com")
    assert (third.status_code, third.json()["error"]["code"]) == (429, "rate_limited")
    assert "already issued for exact set of domains" in third.json()["error"]["message"]
    assert "example.com, www.example.com, retry after 20" in third.json()["error"]["message"]
    assert (await issue("example.com")).status_code == 200

    emulator.clock.advance(6 * DAY)  # the first one is a week old
    assert (await issue("example.com", "www.example.com")).status_code == 200
    assert (await issue("example.com", "www.example.com")).status_code == 429


async def test_the_issuer_counts_other_peoples_certificates_but_no_uploads_and_renewals(emulator: Emulator) -> None:
    emulator.state.behaviour = Behaviour(issuances_per_week=2)
    week_old = emulator.clock.now_ms() - 7 * DAY * 1000
    for injection in (
        Injection(cns=["example.com"]),
        Injection(cns=["example.com"], auto_renew=False),
        Injection(cns=["example.com"], created_at=week_old),
    ):
        emulator.state.inject(injection)
    emulator.state.upload(["example.com"], 2_000_000_000_000)
    emulator.state.renew(emulator.state.all()[0].id, Renewal())

    assert emulator.state.issue(["example.com"]).origin == "issued"
    with pytest.raises(ApiError, match="exact set"):
        emulator.state.issue(["example.com"])
