"""What can be made to go wrong, as a client meets it."""

import asyncio
import json

import httpx
import pytest
from pydantic import ValidationError

from vercel_emulator import Emulator, Fault
from vercel_emulator.models import Injection, TokenGrant

CERTS = "/v8/certs"
BODY = {"cns": ["example.com"]}


async def issue(vercel: httpx.AsyncClient) -> httpx.Response:
    return await vercel.post(CERTS, json=BODY)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "bad_request"),
        (401, "unauthorized_request_error"),
        (402, "payment_required"),
        (403, "forbidden"),
        (404, "not_found"),
        (409, "conflict"),
        (410, "gone"),
        (429, "rate_limited"),
        (449, "configuration_error"),
        (500, "internal_server_error"),
        (503, "internal_server_error"),
    ],
)
async def test_any_status_comes_with_a_code(
    emulator: Emulator, vercel: httpx.AsyncClient, status: int, code: str
) -> None:
    emulator.faults.add(Fault(call="issue", status=status))

    response = await issue(vercel)

    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert emulator.state.all() == []
    assert (await issue(vercel)).status_code == 200


async def test_code_message_fields_and_headers_can_be_chosen(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.faults.add(
        Fault(
            status=429,
            code="too_many_requests",
            message="Not so fast",
            fields={"retryAfterMs": 5},
            headers={"Retry-After": "1", "Date": None},
        )
    )

    response = await issue(vercel)

    assert response.json() == {"error": {"code": "too_many_requests", "message": "Not so fast", "retryAfterMs": 5}}
    assert response.headers["Retry-After"] == "1"
    assert "Date" not in response.headers


async def test_a_configuration_error_says_which_names_are_concerned(
    emulator: Emulator, vercel: httpx.AsyncClient
) -> None:
    emulator.faults.add(Fault(status=449))

    error = (await issue(vercel)).json()["error"]

    assert error["cns"] == ["example.com"]
    assert isinstance(error["external"], bool)
    assert isinstance(error["helpUrl"], str)
    emulator.faults.add(Fault(status=449, fields={"cns": ["www.example.com"], "external": False}))
    error = (await issue(vercel)).json()["error"]
    assert (error["code"], error["cns"], error["external"]) == ("configuration_error", ["www.example.com"], False)


async def test_a_fault_skips_some_and_ends_after_some(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    fault = emulator.faults.add(Fault(call="list", status=500, skip=1, times=2))

    assert [(await vercel.get(CERTS)).status_code for _ in range(4)] == [200, 500, 500, 200]
    assert (await issue(vercel)).status_code == 200
    assert (fault.fired, fault.used_up) == (2, True)


async def test_an_unlimited_fault_lasts_until_it_is_removed(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    fault = emulator.faults.add(Fault(times=None, status=500))

    assert [(await vercel.get(CERTS)).status_code for _ in range(3)] == [500, 500, 500]
    assert emulator.faults.remove(fault.id)
    assert (await vercel.get(CERTS)).status_code == 200
    assert not emulator.faults.remove(fault.id)


@pytest.mark.parametrize("team", ["team_a", "alpha"])
@pytest.mark.parametrize("query", [{"teamId": "team_a"}, {"slug": "alpha"}])
async def test_a_token_that_may_not_list_a_team_may_do_everything_else(
    emulator: Emulator, vercel: httpx.AsyncClient, team: str, query: dict[str, str]
) -> None:
    emulator.accounts.grant(TokenGrant(token="another-test-token"))
    emulator.faults.add(Fault(call="list", team=team, token="another-test-token", status=403, times=None))

    async def status(method: str, query: dict[str, str], token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return (await vercel.request(method, CERTS, json=BODY, params=query, headers=headers)).status_code

    assert await status("GET", query, "another-test-token") == 403
    assert await status("POST", query, "another-test-token") == 200
    assert await status("GET", query, "test-token-not-a-secret") == 200
    assert await status("GET", {"slug": "beta"}, "another-test-token") == 200
    assert await status("GET", {}, "another-test-token") == 200


async def test_a_fault_can_be_for_requests_without_a_team(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.faults.add(Fault(team="personal", status=403, times=None))

    assert (await vercel.get(CERTS)).status_code == 403
    assert (await vercel.get(CERTS, params={"slug": "alpha"})).status_code == 200
    assert (await vercel.get(CERTS, params={"slug": "unknown"})).json()["error"]["message"].endswith("there is none.")


@pytest.mark.parametrize("status", [404, 500])
async def test_vercel_can_offer_nothing_but_issuing(emulator: Emulator, vercel: httpx.AsyncClient, status: int) -> None:
    emulator.faults.add(Fault(call=["list", "get", "remove"], status=status, times=None))

    made = (await issue(vercel)).json()["id"]

    assert (await vercel.get(CERTS)).status_code == status
    assert (await vercel.get(f"{CERTS}/{made}")).status_code == status
    assert (await vercel.delete(f"{CERTS}/{made}")).status_code == status
    assert [certificate.id for certificate in emulator.state.live()] == [made]


@pytest.mark.parametrize(("status", "code"), [(400, "bad_request"), (403, "forbidden"), (409, "conflict")])
async def test_the_removal_of_one_certificate_can_be_refused(
    emulator: Emulator, vercel: httpx.AsyncClient, status: int, code: str
) -> None:
    kept, other = (emulator.state.issue(["example.com"]).id for _ in range(2))
    emulator.faults.add(Fault(call="remove", id=kept, status=status, times=None))

    refused = await vercel.delete(f"{CERTS}/{kept}")

    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert (await vercel.delete(f"{CERTS}/{other}")).status_code == 200
    assert [certificate.id for certificate in emulator.state.live()] == [kept]


@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
async def test_a_post_can_answer_with_any_certificate(
    emulator: Emulator, vercel: httpx.AsyncClient, when: str, made: int
) -> None:
    old = emulator.state.inject(Injection(cns=["other.example"], scope="team_a", expires_at=1000))
    emulator.faults.add(
        Fault.model_validate({"call": "issue", "action": "other-certificate", "certificate": old.id, "when": when})
    )

    response = await issue(vercel)

    assert (response.status_code, response.json()) == (200, old.public())
    assert [c.origin for c in emulator.state.live()] == ["injected", *["issued"] * made]
    assert emulator.journal.entries[0].certificate == emulator.state.live()[-1].id
    emulator.faults.add(Fault(action="other-certificate", certificate="cert_none"))
    assert (await issue(vercel)).json()["error"]["code"] == "cert_not_found"


async def test_a_fault_can_make_one_token_invalid(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.faults.add(Fault(token="test-token-not-a-secret", status=403, fields={"invalidToken": True}))

    response = await issue(vercel)

    assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")
    assert response.json()["error"]["invalidToken"] is True


async def test_a_fault_can_be_for_names_a_certificate_or_a_token(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    one, other = (emulator.state.issue([name]).id for name in ("one.example", "other.example"))
    emulator.faults.add(Fault(times=None, cns=["ONE.example"], status=410))
    emulator.faults.add(Fault(times=None, id=other, status=411))
    emulator.faults.add(Fault(times=None, token="another-test-token", status=412))

    async def status(method: str, path: str, cns: str | None = None, **headers: str) -> int:
        body = None if cns is None else {"cns": [cns, f"www.{cns}"]}
        return (await vercel.request(method, CERTS + path, json=body, headers=headers)).status_code

    assert await status("POST", "", "one.example") == 410
    assert await status("GET", f"/{one}") == 410
    assert await status("GET", f"/{other}") == 411
    assert await status("POST", "", "other.example") == 200
    assert await status("GET", "", Authorization="Bearer another-test-token") == 412


@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize("action", ["error", "reset", "empty", "html", "huge", "redirect", "raw", "truncate", "slow"])
async def test_the_work_is_done_or_not_as_told(
    emulator: Emulator, vercel: httpx.AsyncClient, action: str, when: str, made: int
) -> None:
    rest = {"huge": {"size": 1000}, "slow": {"rate": 1_000_000}}.get(action, {})
    emulator.faults.add(Fault.model_validate({"action": action, "when": when, **rest}))

    try:
        await issue(vercel)
    except httpx.TransportError:
        pass

    assert len(emulator.state.live()) == made
    [entry] = emulator.journal.entries
    assert entry.certificate == (emulator.state.live()[0].id if made else None)
    assert (entry.fault, entry.action) == ("fault_1", action)


async def test_a_reset_connection_has_no_answer(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.faults.add(Fault(action="reset"))

    with pytest.raises(httpx.ReadError):
        await issue(vercel)

    assert emulator.journal.entries[0].outcome == "dropped"
    assert (await issue(vercel)).status_code == 200


async def test_a_truncated_answer_is_shorter_than_it_said(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.faults.add(Fault(action="truncate", keep=5))
    received = b""

    async def read() -> None:
        nonlocal received
        async with vercel.stream("POST", CERTS, json=BODY) as response:
            assert int(response.headers["Content-Length"]) > 100
            async for chunk in response.aiter_bytes():
                received += chunk

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    assert received == b'{"id"'


@pytest.mark.parametrize(
    ("action", "status", "content_type", "body"),
    [
        ("empty", 200, "application/json", ""),
        ("html", 502, "text/html", "<!doctype html>"),
        ("redirect", 307, "application/json", "{}"),
        ("raw", 200, "application/json", ""),
    ],
)
async def test_an_answer_can_be_something_other_than_a_certificate(
    emulator: Emulator, vercel: httpx.AsyncClient, action: str, status: int, content_type: str, body: str
) -> None:
    emulator.faults.add(Fault.model_validate({"action": action}))

    response = await issue(vercel)

    assert response.status_code == status
    assert response.headers["Content-Type"].startswith(content_type)
    assert response.text.startswith(body)
    assert bool(response.text) == bool(body)


async def test_a_redirect_leads_to_nothing_and_is_seen_when_followed(
    emulator: Emulator, vercel: httpx.AsyncClient
) -> None:
    emulator.faults.add(Fault(action="redirect", status=308))

    response = await vercel.post(CERTS, json=BODY, follow_redirects=True)

    assert response.status_code == 404
    assert [entry.call for entry in emulator.journal.entries] == ["issue", "other"]


@pytest.mark.parametrize(("body", "sent"), [("{", "{"), ({"id": 7}, '{"id": 7}'), ([1], "[1]"), (None, "null")])
async def test_any_body_can_be_sent(
    emulator: Emulator, vercel: httpx.AsyncClient, body: dict[str, int] | list[int] | str | None, sent: str
) -> None:
    emulator.faults.add(
        Fault.model_validate({"action": "raw", "status": 201, "body": body, "contentType": "text/plain"})
    )

    response = await issue(vercel)

    assert (response.status_code, response.text) == (201, sent)
    assert response.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_wrong_types_are_json_with_no_value_of_its_type(
    emulator: Emulator, vercel: httpx.AsyncClient, method: str, when: str
) -> None:
    emulator.faults.add(Fault.model_validate({"action": "wrong-types", "when": when}))

    answer = (await vercel.request(method, CERTS, json=BODY)).json()

    right = {"id": str, "createdAt": int, "expiresAt": int, "autoRenew": bool, "cns": list, "certs": list}
    assert answer
    for name, value in answer.items():
        assert not isinstance(value, right.get(name, dict)), name


async def test_the_true_answer_can_be_changed_in_parts(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.faults.add(Fault(action="answer", fields={"cns": ["other.example"], "extra": 1}, omit=["autoRenew"]))

    answer = (await issue(vercel)).json()

    [certificate] = emulator.state.live()
    assert answer == {
        "id": certificate.id,
        "createdAt": certificate.created_at,
        "expiresAt": certificate.expires_at,
        "cns": ["other.example"],
        "extra": 1,
    }


async def test_a_huge_body_is_as_large_as_asked_for(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.faults.add(Fault(action="huge", size=3_000_000))

    response = await issue(vercel)

    assert len(response.content) == 3_000_000
    assert json.loads(response.content)["id"] == "cert_huge"


async def test_a_client_can_leave_in_the_middle_of_a_huge_body(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    emulator.faults.add(Fault(action="huge", size=100_000_000))
    async with vercel.stream("POST", CERTS, json=BODY) as response:
        await anext(response.aiter_raw())

    await emulator.journal.wait("issue", finished=True)

    assert emulator.journal.entries[0].outcome == "dropped"


async def test_a_slow_answer_comes_byte_by_byte_until_its_fault_ends(
    emulator: Emulator, vercel: httpx.AsyncClient
) -> None:
    fault = emulator.faults.add(Fault(action="slow", rate=20))

    async with vercel.stream("POST", CERTS, json=BODY) as response:
        chunks = response.aiter_raw()
        first = await anext(chunks)
        emulator.faults.remove(fault.id)
        rest = b"".join([chunk async for chunk in chunks])

    assert first == b"{"
    assert json.loads(first + rest)["id"] == emulator.state.live()[0].id


@pytest.mark.parametrize("action", ["answer", "error"])
async def test_a_delay_ends_with_its_fault(emulator: Emulator, vercel: httpx.AsyncClient, action: str) -> None:
    fault = emulator.faults.add(Fault.model_validate({"action": action, "delay": 600}))
    request = asyncio.create_task(issue(vercel))
    await fault.wait()
    assert not request.done()
    assert len(emulator.state.live()) == (1 if action == "answer" else 0)

    emulator.faults.remove(fault.id)

    assert (await request).status_code == (200 if action == "answer" else 500)


@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
async def test_a_request_hangs_until_it_is_released(
    emulator: Emulator, vercel: httpx.AsyncClient, when: str, made: int
) -> None:
    fault = emulator.faults.add(Fault.model_validate({"call": "issue", "action": "hang", "when": when}))
    request = asyncio.create_task(issue(vercel))
    await fault.wait()
    assert fault.hanging == 1
    assert len(emulator.state.live()) == made
    assert emulator.journal.entries[0].outcome == "pending"

    assert fault.release() == 1

    assert (await request).json()["id"] == emulator.state.live()[0].id
    assert fault.release() == 0


@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
async def test_a_hanging_request_can_be_dropped(
    emulator: Emulator, vercel: httpx.AsyncClient, when: str, made: int
) -> None:
    fault = emulator.faults.add(Fault.model_validate({"action": "hang", "when": when}))
    request = asyncio.create_task(issue(vercel))
    await fault.wait()

    fault.release("drop")

    with pytest.raises(httpx.ReadError):
        await request
    assert len(emulator.state.live()) == made


async def test_a_request_can_do_its_work_after_its_client_has_left(
    emulator: Emulator, vercel: httpx.AsyncClient
) -> None:
    fault = emulator.faults.add(Fault(action="hang"))
    request = asyncio.create_task(issue(vercel))
    await fault.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request

    fault.release()
    await emulator.journal.wait("issue", finished=True)

    assert len(emulator.state.live()) == 1


async def test_hanging_requests_are_released_one_by_one(emulator: Emulator, vercel: httpx.AsyncClient) -> None:
    fault = emulator.faults.add(Fault(action="hang", times=None))
    requests = [asyncio.create_task(vercel.get(CERTS)) for _ in range(3)]
    await fault.wait(3)

    assert fault.release(count=1) == 1
    assert fault.hanging == 2
    emulator.faults.remove(fault.id)

    assert [(await request).status_code for request in requests] == [200, 200, 200]


async def test_stopping_the_emulator_drops_hanging_requests(vercel: httpx.AsyncClient, emulator: Emulator) -> None:
    fault = emulator.faults.add(Fault(action="hang"))
    request = asyncio.create_task(issue(vercel))
    await fault.wait()

    await emulator.stop()

    with pytest.raises(httpx.TransportError):
        await request


async def test_a_wait_ends_after_its_time_limit(emulator: Emulator) -> None:
    fault = emulator.faults.add(Fault())
    with pytest.raises(TimeoutError):
        await fault.wait(within=0.01)
    with pytest.raises(TimeoutError):
        await emulator.journal.wait("issue", within=0.01)


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "explode"},
        {"call": "patch"},
        {"status": 99},
        {"times": 0},
        {"skip": -1},
        {"tyme": 1},
        {"action": "reset", "status": 500},
        {"action": "answer", "status": 500},
        {"action": "error", "body": "x"},
        {"action": "slow", "rate": 0},
        {"action": "truncate", "when": "after", "status": 500},
        {"action": "other-certificate"},
        {"call": ["list", "patch"]},
    ],
)
def test_an_invalid_fault_is_refused(fault: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Fault.model_validate(fault)


async def test_a_client_that_leaves_in_the_middle_of_its_request_does_no_harm(
    emulator: Emulator, vercel: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection(vercel.base_url.host, vercel.base_url.port)
    writer.write(b"POST /v8/certs HTTP/1.1\r\nHost: emulator\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    await vercel.get(CERTS)
    writer.close()
    await writer.wait_closed()

    assert (await vercel.get(CERTS)).status_code == 200

    assert emulator.journal.counts["issue"] == 0
    assert not [record for record in caplog.records if record.name.startswith("aiohttp")]
