"""Clock, rate limits and the switches for what is not known of Vercel."""

from datetime import timedelta

import httpx
import pytest

from vercel_emulator import Behaviour, Emulator, RateLimit
from vercel_emulator.models import CertificateChange

CERTS = "/v8/certs"
DAY = 86_400
DAY_MS = DAY * 1000
START = 1_900_000_000


async def listed(vercel: httpx.AsyncClient) -> list[dict[str, object]]:
    certs: list[dict[str, object]] = (await vercel.get(CERTS)).json()["certs"]
    return certs


async def test_the_clock_comes_from_outside_and_can_be_moved() -> None:
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


async def test_vercel_renews_under_the_same_id(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.state.behaviour = Behaviour(renewal="same-id")
    made = (await vercel.post(CERTS, json={"cns": ["example.com"]})).json()

    emulator.clock.advance(59 * DAY)
    assert await listed(vercel) == [made]

    emulator.clock.advance(2 * DAY)
    due = made["createdAt"] + 60 * DAY_MS
    assert await listed(vercel) == [{**made, "createdAt": due, "expiresAt": due + 90 * DAY_MS}]

    emulator.clock.advance(365 * DAY)  # six more of them
    due += 6 * 60 * DAY_MS
    assert await listed(vercel) == [{**made, "createdAt": due, "expiresAt": due + 90 * DAY_MS}]
    assert [certificate.renewals for certificate in emulator.state.all()] == [7]


async def test_a_renewal_may_leave_created_at_as_it_was(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.state.behaviour = Behaviour(
        renewal="same-id", renewal_moves_created_at=False, renew_before=timedelta(days=10)
    )
    made = (await vercel.post(CERTS, json={"cns": ["example.com"]})).json()

    emulator.clock.advance(81 * DAY)

    assert await listed(vercel) == [{**made, "expiresAt": made["createdAt"] + (80 + 90) * DAY_MS}]


@pytest.mark.parametrize("removes_old", [False, True])
async def test_vercel_renews_under_a_new_id(
    emulator: Emulator, vercel: httpx.AsyncClient, *, removes_old: bool
) -> None:
    emulator.state.behaviour = Behaviour(renewal="new-id", renewal_removes_old=removes_old)
    made = (await vercel.post(CERTS, json={"cns": ["example.com"]})).json()

    emulator.clock.advance(61 * DAY)

    new, *old = await listed(vercel)
    assert old == ([] if removes_old else [made])
    assert new["id"] != made["id"]
    assert new["cns"] == made["cns"]
    assert new["createdAt"] == made["createdAt"] + 60 * DAY_MS
    assert len(await listed(vercel)) == len(old) + 1
    first, second = emulator.state.all()
    assert first.replaced_by == second.id == new["id"]
    assert second.origin == "renewed"


async def test_what_is_uploaded_expired_or_removed_is_renewed_only_if_it_may_be(
    emulator: Emulator, vercel: httpx.AsyncClient
) -> None:
    emulator.state.behaviour = Behaviour(renewal="same-id")
    kept, removed = (emulator.state.issue(["example.com"]) for _ in range(2))
    emulator.state.change(kept.id, CertificateChange(auto_renew=False))
    emulator.state.remove(removed.id, scope=removed.scope)

    emulator.clock.advance(365 * DAY)

    assert [certificate["id"] for certificate in await listed(vercel)] == [kept.id]
    assert [certificate.renewals for certificate in emulator.state.all()] == [0, 0]


async def test_a_renewal_is_not_dated_before_it_was_switched_on(emulator: Emulator) -> None:
    emulator.state.issue(["example.com"])
    emulator.clock.advance(80 * DAY)
    emulator.state.behaviour = Behaviour(renewal="same-id")
    now = emulator.clock.now_ms()

    [certificate] = emulator.state.live()

    assert now - 1000 <= certificate.created_at <= emulator.clock.now_ms()


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


# --- rate limits


async def test_a_rate_limit_says_when_to_come_back(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
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


@pytest.mark.parametrize("hint", ["retry_after", "rate_limit_headers", "retry_after_ms"])
async def test_each_hint_of_a_rate_limit_can_be_left_out(
    emulator: Emulator, vercel: httpx.AsyncClient, hint: str
) -> None:
    emulator.limits.rule = RateLimit.model_validate({"limit": 0, "code": "too_many_requests", hint: False})

    response = await vercel.get(CERTS)

    assert response.json()["error"]["code"] == "too_many_requests"
    assert ("Retry-After" in response.headers) == (hint != "retry_after")
    assert ("X-RateLimit-Reset" in response.headers) == (hint != "rate_limit_headers")
    assert ("retryAfterMs" in response.json()["error"]) == (hint != "retry_after_ms")


async def test_a_rate_limit_can_hold_for_some_calls_only(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
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
