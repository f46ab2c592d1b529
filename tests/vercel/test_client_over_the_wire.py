"""The client against a server that answers with any bytes: what is known of a request that did not go well."""

import asyncio
import gc
import gzip
import json
import logging
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from vercel.clients import TOKEN, client_of
from vercel.wire import CERTIFICATE, Action, Wire, answer, drip, flood, reply, send, tunnel
from vercel_certificate_operator import __version__
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.vercel import (
    ApiError,
    ListTooLong,
    Network,
    NotSent,
    OutcomeUnknown,
    VercelClient,
    VercelError,
)
from vercel_certificate_operator.vercel import client as client_module

API = "https://api.vercel.com"
PERSONAL = Scope()
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
NAMES = ["example.com"]

Call = Callable[[VercelClient], Awaitable[object]]
CALLS: dict[str, Call] = {
    "issue": lambda client: client.issue(NAMES, PERSONAL),
    "get": lambda client: client.get("cert_1", PERSONAL),
    "list": lambda client: client.list(PERSONAL),
    "remove": lambda client: client.remove("cert_1", PERSONAL),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture
async def client(wire: Wire) -> AsyncIterator[VercelClient]:
    async with client_of(wire.url, clock=lambda: NOW) as vercel:
        yield vercel


async def failure(call: Awaitable[object]) -> VercelError:
    """The error of a call, of which no text that could be printed holds the token."""
    with pytest.raises(VercelError) as caught:
        await call
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert TOKEN not in "".join(shown.format())
    assert TOKEN not in repr(caught.value) + str(vars(caught.value))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert caught.value.message.isprintable()
    return caught.value


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


# --- what goes out


async def test_a_certificate_is_asked_for_with_sorted_names_in_lower_case(wire: Wire, client: VercelClient) -> None:
    await client.issue(["b.example", "*.A.example", "B.example"], Scope(team_id="team_a"))
    (request,) = wire.requests
    assert (request.method, request.target) == ("POST", "/v8/certs?teamId=team_a")
    assert json.loads(request.body) == {"cns": ["*.a.example", "b.example"]}
    assert request.headers["content-type"] == "application/json"


async def test_each_call_carries_the_token_the_version_and_asks_for_plain_json(
    wire: Wire, client: VercelClient
) -> None:
    await client.get("cert_1", PERSONAL)
    headers = wire.requests[0].headers
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert headers["user-agent"].startswith(f"vercel-certificate-operator/{__version__} ")
    assert headers["accept-encoding"] == "identity"
    assert headers["accept"] == "application/json"


@pytest.mark.parametrize(
    ("scope", "query"),
    [(PERSONAL, ""), (Scope(team_id="team_a"), "?teamId=team_a"), (Scope(team_slug="a&b"), "?slug=a%26b")],
    ids=["personal", "team id", "team slug"],
)
async def test_every_call_names_its_scope(wire: Wire, client: VercelClient, scope: Scope, query: str) -> None:
    await client.get("cert_1", scope)
    await client.remove("cert_1", scope)
    await client.issue(NAMES, scope)
    assert [(request.method, request.target) for request in wire.requests] == [
        ("GET", f"/v8/certs/cert_1{query}"),
        ("DELETE", f"/v8/certs/cert_1{query}"),
        ("POST", f"/v8/certs{query}"),
    ]


@pytest.mark.parametrize(
    ("certificate_id", "path"),
    [
        ("../../v2/user", "..%2F..%2Fv2%2Fuser"),
        ("cert_1?teamId=team_b", "cert_1%3FteamId%3Dteam_b"),
        ("cert_1#x", "cert_1%23x"),
        ("cert_1 HTTP/1.1\r\nX: y", "cert_1%20HTTP%2F1.1%0D%0AX%3A%20y"),
        ("%2e%2e", "%252e%252e"),
        ("...", "..."),
        ("ü\ud800", "%C3%BC%ED%A0%80"),
        ("\0", "%00"),
    ],
)
async def test_an_id_can_not_lead_to_another_call(
    wire: Wire, client: VercelClient, certificate_id: str, path: str
) -> None:
    await client.get(certificate_id, PERSONAL)
    await client.remove(certificate_id, PERSONAL)
    assert [request.target for request in wire.requests] == [f"/v8/certs/{path}"] * 2


@pytest.mark.parametrize("certificate_id", ["", ".", "..", "x" * 100_000])
async def test_an_id_that_can_not_stand_in_a_url_is_not_sent(
    wire: Wire, client: VercelClient, certificate_id: str
) -> None:
    for call in (client.get, client.remove):
        assert isinstance(await failure(call(certificate_id, PERSONAL)), NotSent)
    assert not wire.requests


async def test_the_path_of_a_gateway_is_kept(wire: Wire) -> None:
    async with client_of(f"{wire.url}/vercel/") as client:
        await client.get("cert_1", PERSONAL)
    assert wire.requests[0].target == "/vercel/v8/certs/cert_1"


async def test_netrc_does_not_replace_the_token(
    wire: Wire, client: VercelClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    await client.get("cert_1", PERSONAL)
    assert wire.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


async def test_calls_share_a_connection(wire: Wire, client: VercelClient) -> None:
    for _ in range(3):
        await client.get("cert_1", PERSONAL)
    assert wire.connections == 1


# --- not sent


@every_call
async def test_a_refused_connection_is_not_sent(call: Call) -> None:
    async with client_of(f"http://127.0.0.1:{free_port()}") as client:
        error = await failure(call(client))
    assert isinstance(error, NotSent)
    assert error.message.endswith("Connection refused")


async def test_a_host_name_that_is_not_found_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with client_of("http://vercel.invalid") as client:
        error = await failure(client.issue(NAMES, PERSONAL))
    assert isinstance(error, NotSent)
    assert error.message == "http://vercel.invalid could not be reached: Name or service not known"


async def test_a_certificate_that_nobody_signed_is_not_trusted_and_nothing_is_sent(tls_wire: Wire) -> None:
    async with client_of(tls_wire.url) as client:
        error = await failure(client.issue(NAMES, PERSONAL))
    assert isinstance(error, NotSent)
    assert "its TLS certificate is not trusted: self-signed certificate" in error.message
    assert not tls_wire.requests


async def test_ssl_cert_file_names_the_authorities_to_trust(
    tls_wire: Wire, certificate_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate_file))
    async with client_of(tls_wire.url) as client:
        assert (await client.issue(NAMES, PERSONAL)).id == "cert_1"


async def test_a_server_that_does_not_speak_tls_is_not_sent_anything() -> None:
    async with (
        await asyncio.start_server(_say_hello_in_clear, "127.0.0.1", 0) as server,
        client_of(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client,
    ):
        error = await failure(client.issue(NAMES, PERSONAL))
    assert isinstance(error, NotSent)
    assert "TLS failed: WRONG_VERSION_NUMBER" in error.message


async def _say_hello_in_clear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def test_a_tls_handshake_that_is_never_answered_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with client_of(f"https://127.0.0.1:{silent.getsockname()[1]}") as client:
            error = await failure(client.issue(NAMES, PERSONAL))
    assert isinstance(error, NotSent)
    assert "no connection within 0.1 s" in error.message


async def test_a_call_for_which_no_connection_comes_free_is_not_sent(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "POOL_TIMEOUT", 0.1)
    wire.actions = [send(b"", then="hang")]
    async with client_of(wire.url, connections=1) as client:
        first = asyncio.create_task(client.get("cert_1", PERSONAL))
        await wire.arrived(1)
        error = await failure(client.issue(NAMES, PERSONAL))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert isinstance(error, NotSent)
    assert "no connection was free" in error.message
    assert len(wire.requests) == 1


async def test_no_more_connections_are_opened_than_allowed(wire: Wire) -> None:
    async with client_of(wire.url, connections=2) as client:
        await asyncio.gather(*(client.get("cert_1", PERSONAL) for _ in range(20)))
    assert len(wire.requests) == 20
    assert wire.connections <= 2


@every_call
async def test_a_closed_client_sends_nothing(wire: Wire, client: VercelClient, call: Call) -> None:
    await client.aclose()
    assert isinstance(await failure(call(client)), NotSent)
    assert not wire.requests


async def test_a_proxy_that_refuses_the_tunnel_is_not_vercel(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.actions = [reply(407, b"")]
    monkeypatch.setenv("HTTPS_PROXY", wire.url)
    async with client_of("https://vercel.invalid") as client:
        error = await failure(client.issue(NAMES, PERSONAL))
    assert isinstance(error, NotSent)
    assert "407" in error.message
    assert [request.method for request in wire.requests] == ["CONNECT"]
    assert "authorization" not in wire.requests[0].headers


@pytest.mark.parametrize(
    "action",
    [
        send(b"", "close"),
        send(b"", "reset"),
        send(b"", "hang"),
        drip(b"HTTP/1.1 200 Connected\r\nX: " + b"x" * 10_000, every=0.01),
        reply(200, b"", Content_Length="0"),
    ],
    ids=["closed", "reset", "hangs", "a byte now and then", "opened to nowhere"],
)
async def test_a_proxy_that_never_opens_the_tunnel_has_sent_nothing(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, action: Action
) -> None:
    wire.actions = [action]
    monkeypatch.setenv("HTTPS_PROXY", wire.url)
    async with client_of("https://vercel.invalid", post_timeout=0.3) as client:
        assert isinstance(await failure(client.issue(NAMES, PERSONAL)), NotSent)


async def test_a_connection_lost_behind_a_proxy_s_tunnel_leaves_the_outcome_unknown(
    wire: Wire, tls_wire: Wire, certificate_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire.actions = [tunnel(tls_wire)]
    tls_wire.actions = [reply(), send(b"", then="close")]
    monkeypatch.setenv("HTTPS_PROXY", wire.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate_file))
    async with client_of("https://vercel.test") as client:  # a loopback address would be requested directly
        assert (await client.issue(NAMES, PERSONAL)).id == "cert_1"
        assert isinstance(await failure(client.issue(NAMES, PERSONAL)), OutcomeUnknown)
    assert [request.method for request in tls_wire.requests] == ["POST", "POST"]


# --- sent, and no answer


@every_call
@pytest.mark.parametrize(
    "action",
    [
        send(b"", "close"),
        send(b"", "reset"),
        send(b"\x16\x03\x01garbage\r\n\r\n"),
        send(b"HTTP/1.1 2"),
        send(answer()[:60]),
        send(answer()[:-1]),
        send(answer()[:-1], "reset"),
        send(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"id"\r\n'),
        send(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"),
        send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    ],
    ids=[
        "closed",
        "reset",
        "not HTTP",
        "status line cut short",
        "headers cut short",
        "body cut short",
        "body cut short by a reset",
        "chunks cut short",
        "endless header",
        "another protocol",
    ],
)
async def test_a_connection_lost_after_sending_leaves_the_outcome_unknown(
    wire: Wire, client: VercelClient, call: Call, action: Action
) -> None:
    wire.actions = [action]
    assert isinstance(await failure(call(client)), OutcomeUnknown)
    assert len(wire.requests) == 1, "no retry"


async def test_a_kept_connection_that_closes_under_the_request_leaves_the_outcome_unknown(
    wire: Wire, client: VercelClient
) -> None:
    wire.actions = [reply(), send(b"", "close")]
    await client.get("cert_1", PERSONAL)
    error = await failure(client.issue(NAMES, PERSONAL))
    assert isinstance(error, OutcomeUnknown)
    assert "Server disconnected without sending a response" in error.message
    assert wire.connections == 1


async def test_a_kept_connection_that_closes_while_idle_is_replaced(wire: Wire, client: VercelClient) -> None:
    closed = asyncio.Event()

    async def answer_and_close(_: Wire, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer())
        writer.close()
        await writer.wait_closed()
        closed.set()

    wire.actions = [answer_and_close, reply()]
    await client.get("cert_1", PERSONAL)
    await closed.wait()
    assert (await client.issue(NAMES, PERSONAL)).id == "cert_1"
    assert wire.connections == 2


async def test_an_answer_that_does_not_come_in_time_leaves_the_outcome_unknown(wire: Wire) -> None:
    wire.actions = [send(b"", "hang")]
    async with client_of(wire.url, post_timeout=0.3, timeout=60) as client:
        error = await failure(client.issue(NAMES, PERSONAL))
    assert isinstance(error, OutcomeUnknown)
    assert error.status is None
    assert error.message == "The request was sent, but Vercel did not answer: no complete answer within 0.3 s"


@pytest.mark.parametrize("name", ["get", "list", "remove"])
async def test_the_time_limit_for_issuing_is_for_issuing_alone(wire: Wire, name: str) -> None:
    wire.actions = [send(b"", "hang")]
    async with client_of(wire.url, post_timeout=60, timeout=0.3) as client:
        assert isinstance(await failure(CALLS[name](client)), OutcomeUnknown)


@pytest.mark.parametrize("status", [200, 429])
async def test_a_byte_now_and_then_does_not_put_off_the_time_limit(wire: Wire, status: int) -> None:
    wire.actions = [drip(answer(status, Retry_After="7") + b" " * 10_000, every=0.01)]
    async with asyncio.timeout(10), client_of(wire.url, post_timeout=0.3) as client:
        assert isinstance(await failure(client.issue(NAMES, PERSONAL)), OutcomeUnknown)


async def test_what_has_come_of_an_answer_is_known_although_the_rest_is_missing(
    wire: Wire, client: VercelClient
) -> None:
    wire.actions = [send(answer(429, b"{}" * 100, Retry_After="7")[:-1])]
    error = await failure(client.issue(NAMES, PERSONAL))
    assert isinstance(error, OutcomeUnknown)
    assert (error.status, error.retry_after) == (429, 7)


@pytest.mark.parametrize("then", ["close", "reset", "hang"])
async def test_an_answer_that_is_all_there_counts_although_it_is_not_ended_properly(wire: Wire, then: str) -> None:
    content = json.dumps(CERTIFICATE).encode()
    wire.actions = [send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + content, then)]
    async with client_of(wire.url, post_timeout=0.3) as client:
        assert (await client.issue(NAMES, PERSONAL)).id == "cert_1"


async def test_cancellation_passes_through(wire: Wire, client: VercelClient) -> None:
    wire.actions = [send(b"", "hang")]
    task = asyncio.create_task(client.issue(NAMES, PERSONAL))
    await wire.arrived(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- an answer that isn't Vercel's


@every_call
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"<html>Sign in to the Wi-Fi</html>", {"Content_Type": "text/html"}),
        (b"null", {}),
        (b"[]", {}),
        (b'"cert_1"', {}),
        (b'{"error": {"code": "forbidden", "message": "No."}}', {}),
        (gzip.compress(json.dumps(CERTIFICATE).encode()), {"Content_Encoding": "gzip"}),
        (json.dumps(CERTIFICATE).encode()[:-1], {}),
        (b"[" * 100_000, {}),
        (b"\xff\xfe\xfd", {}),
    ],
    ids=["empty", "HTML", "null", "array", "text", "error with 200", "compressed", "cut short", "deep", "not text"],
)
async def test_a_good_status_with_a_body_that_is_not_vercel_s_leaves_the_outcome_unknown(
    wire: Wire, client: VercelClient, call: Call, body: bytes, headers: dict[str, str]
) -> None:
    wire.actions = [reply(200, body, **headers)]
    error = await failure(call(client))
    assert isinstance(error, OutcomeUnknown)
    assert error.status == 200
    assert error.message.startswith("The answer's body ")


async def test_a_compressed_answer_is_said_to_be_compressed(wire: Wire, client: VercelClient) -> None:
    wire.actions = [reply(200, gzip.compress(b"{}"), Content_Encoding="gzip")]
    assert "is compressed (gzip)" in (await failure(client.issue(NAMES, PERSONAL))).message


async def test_a_certificate_without_an_id_leaves_the_outcome_unknown(wire: Wire, client: VercelClient) -> None:
    wire.actions = [reply(200, {**CERTIFICATE, "id": ""})]
    for call in (CALLS["issue"], CALLS["get"]):
        assert isinstance(await failure(call(client)), OutcomeUnknown)


async def test_a_certificate_with_an_id_is_kept_whatever_else_is_odd(wire: Wire, client: VercelClient) -> None:
    wire.actions = [reply(201, {"id": "cert_1", "cns": ["other.example"], "expiresAt": "soon"})]
    certificate = await client.issue(NAMES, PERSONAL)
    assert certificate.id == "cert_1"
    assert certificate.cns == {"other.example"}
    assert len(certificate.oddities) == 4
    assert "Vercel was asked for example.com, and answered with other.example." in certificate.oddities


@every_call
@pytest.mark.parametrize("status", [301, 304, 307, 399])
async def test_a_redirect_is_not_followed(wire: Wire, client: VercelClient, call: Call, status: int) -> None:
    body = b"" if status == 304 else b'{"error": {"code": "moved", "message": "Moved."}}'
    wire.actions = [reply(status, body, Location=f"{wire.url}/elsewhere?{TOKEN}")]
    error = await failure(call(client))
    assert isinstance(error, OutcomeUnknown)
    assert error.status == status
    assert "/elsewhere" in error.message
    assert len(wire.requests) == 1


@every_call
async def test_an_endless_body_is_not_read_to_the_end(wire: Wire, call: Call) -> None:
    """Of a list, it may be a page with very many names: it is read again with fewer certificates, down to one."""
    wire.actions = [
        flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b" " * 4096 + b"\r\n")
    ]
    async with client_of(wire.url, max_body=10_000) as client:
        error = await failure(call(client))
    listed = call is CALLS["list"]
    assert isinstance(error, ListTooLong if listed else OutcomeUnknown)
    assert "is larger than 10000 bytes" in error.message
    assert len(wire.requests) == (7 if listed else 1)


async def test_a_certificate_may_be_a_megabyte_and_a_page_two(wire: Wire, client: VercelClient) -> None:
    page = json.dumps({"certs": [], "pagination": {"next": None}}).encode()
    wire.actions = [reply(200, page + b" " * (2 * 2**20 - len(page)))]
    assert await client.list(PERSONAL) == ()
    wire.actions = [reply(200, page + b" " * (2 * 2**20 - len(page) + 1))]
    assert isinstance(await failure(client.list(PERSONAL)), ListTooLong)
    certificate = json.dumps(CERTIFICATE).encode()
    wire.actions = [reply(200, certificate + b" " * (2**20 - len(certificate)))]
    assert (await client.issue(NAMES, PERSONAL)).id == "cert_1"
    wire.actions = [reply(200, certificate + b" " * (2**20 - len(certificate) + 1))]
    assert isinstance(await failure(client.issue(NAMES, PERSONAL)), OutcomeUnknown)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway</html>",
        b"{}",
        b'{"error": "forbidden"}',
        b'{"error": {"code": 403, "message": "No.", "status": "PERMISSION_DENIED"}}',
        b'{"error": {"code": "", "message": "No."}}',
        b'{"error": {"code": "forbidden"}}',
        b'{"error": {"code": "forbidden", "message": null}}',
        b'{"error": {"code": "forbidden", "message": "No."}',
        b'[{"error": {"code": "forbidden", "message": "No."}}]',
    ],
)
@pytest.mark.parametrize("status", [403, 429, 502])
async def test_an_error_that_is_not_in_vercel_s_shape_leaves_the_outcome_unknown(
    wire: Wire, client: VercelClient, status: int, body: bytes
) -> None:
    wire.actions = [reply(status, body, Retry_After="7")]
    error = await failure(client.issue(NAMES, PERSONAL))
    assert isinstance(error, OutcomeUnknown)
    assert (error.status, error.code, error.retry_after) == (status, None, 7)


async def test_an_error_too_large_to_read_leaves_the_outcome_unknown(wire: Wire) -> None:
    wire.actions = [reply(403, {"error": {"code": "forbidden", "message": "No. " * 1000}})]
    async with client_of(wire.url, max_body=1000) as client:
        error = await failure(client.issue(NAMES, PERSONAL))
    assert isinstance(error, OutcomeUnknown)
    assert error.status == 403


async def test_a_proxy_s_page_is_quoted_in_one_short_line_without_the_token(wire: Wire, client: VercelClient) -> None:
    page = f"<html>\r\n\0You sent\tAuthorization: Bearer {TOKEN}" + "\x1b[31m!" * 1000
    wire.actions = [reply(502, page.encode(), Content_Type="text/html")]
    error = await failure(client.issue(NAMES, PERSONAL))
    assert error.message.startswith("The answer's body is not JSON, or cut short: <html> You sent Authorization: Bea")
    assert "[token]" in error.message
    assert len(error.message) < 200


# --- Vercel's own errors


@every_call
@pytest.mark.parametrize("status", [400, 404, 429, 449, 500, 599])
async def test_an_error_in_vercel_s_shape_is_vercel_s_answer(
    wire: Wire, client: VercelClient, call: Call, status: int
) -> None:
    wire.actions = [reply(status, {"error": {"code": "some_new_code", "message": "Vercel's words."}})]
    error = await failure(call(client))
    assert isinstance(error, ApiError)
    assert (error.status, error.code, error.message) == (status, "some_new_code", "Vercel's words.")
    assert (error.retry_after, error.help_url, error.cns, error.external) == (None, None, (), None)
    assert str(error) == f"Vercel's words. (some_new_code, HTTP {status})"


async def test_a_configuration_error_says_which_names_and_where_to_read_on(wire: Wire, client: VercelClient) -> None:
    fields = {"cns": ["example.com", 1], "external": True, "helpUrl": "https://vercel.com/help"}
    wire.actions = [reply(449, {"error": {"code": "configuration_error", "message": "DNS.", **fields}})]
    error = await failure(client.issue(NAMES, PERSONAL))
    assert isinstance(error, ApiError)
    assert (error.cns, error.external, error.help_url) == (("example.com",), True, "https://vercel.com/help")


@pytest.mark.parametrize("fields", [{"cns": "example.com", "external": "yes", "helpUrl": "javascript:alert(1)"}])
async def test_details_of_an_error_that_can_not_be_meant_are_left_out(
    wire: Wire, client: VercelClient, fields: dict[str, object]
) -> None:
    wire.actions = [reply(449, {"error": {"code": "configuration_error", "message": "DNS.", **fields}})]
    error = await failure(client.issue(NAMES, PERSONAL))
    assert isinstance(error, ApiError)
    assert (error.cns, error.external, error.help_url) == ((), None, None)


@pytest.mark.parametrize(
    ("headers", "fields", "beside"),
    [
        ({"Retry_After": "7"}, {}, {}),
        ({"Retry_After": "Thu, 01 Jan 2026 13:00:07 GMT", "Date": "Thu, 01 Jan 2026 13:00:00 GMT"}, {}, {}),
        ({"Retry_After": "Thu, 01 Jan 2026 12:00:07 GMT"}, {}, {}),
        ({"X_RateLimit_Reset": "1767272407", "Date": "Thu, 01 Jan 2026 13:00:00 GMT"}, {}, {}),
        ({}, {"retryAfterMs": 7000}, {}),
        ({}, {"retryAfter": 7}, {}),
        ({}, {}, {"retryAfterMs": 7000}),
    ],
    ids=["seconds", "date", "date without Date", "X-RateLimit-Reset", "retryAfterMs", "retryAfter", "beside error"],
)
async def test_an_error_says_how_long_to_wait(
    wire: Wire, client: VercelClient, headers: dict[str, str], fields: dict[str, object], beside: dict[str, object]
) -> None:
    body = {"error": {"code": "rate_limited", "message": "Slow down.", **fields}, **beside}
    wire.actions = [reply(429, body, **headers)]
    error = await failure(client.issue(NAMES, PERSONAL))
    assert isinstance(error, ApiError)
    assert error.retry_after == 7


async def test_vercel_s_words_are_shown_in_one_line_without_the_token(wire: Wire, client: VercelClient) -> None:
    message = f"Line one.\nLine two with {TOKEN}.\u202e" + "x" * 5000
    wire.actions = [reply(400, {"error": {"code": f"odd_{TOKEN}", "message": message}})]
    error = await failure(client.issue(NAMES, PERSONAL))
    assert error.message.startswith("Line one. Line two with [token]. xxx")
    assert len(error.message) <= 1001
    assert error.code == "odd_[token]"


async def test_an_error_without_words_still_has_a_message(wire: Wire, client: VercelClient) -> None:
    wire.actions = [reply(400, {"error": {"code": "bad_request", "message": ""}})]
    assert (await failure(client.issue(NAMES, PERSONAL))).message == "Vercel gave no message"


# --- removal


@pytest.mark.parametrize(("status", "body"), [(200, b"{}"), (200, b'{"uid": "cert_1"}'), (204, b""), (202, b"{}")])
async def test_a_removal_is_done_when_vercel_says_so(
    wire: Wire, client: VercelClient, status: int, body: bytes
) -> None:
    wire.actions = [reply(status, body) if body else send(b"HTTP/1.1 204 No Content\r\n\r\n", "keep")]
    await client.remove("cert_1", PERSONAL)
    assert wire.requests[0].method == "DELETE"


# --- listing


def pages(*steps: tuple[list[str], int | None]) -> list[Action]:
    """Pages, each as its ids and its ``next``."""
    bodies = [
        {
            "certs": [{**CERTIFICATE, "id": certificate_id} for certificate_id in ids],
            "pagination": {"count": len(ids), "next": following, "prev": None},
        }
        for ids, following in steps
    ]
    return [reply(200, body) for body in bodies]


async def test_a_listing_has_all_pages_without_repeats(wire: Wire, client: VercelClient) -> None:
    wire.actions = pages((["c", "b"], 2000), ([], 1500), (["b", "a"], None))
    certificates = await client.list(Scope(team_id="team_a"))
    assert [certificate.id for certificate in certificates] == ["c", "b", "a"]
    assert [request.target for request in wire.requests] == [
        "/v8/certs?limit=100&teamId=team_a",
        "/v8/certs?limit=100&until=2000&teamId=team_a",
        "/v8/certs?limit=100&until=1500&teamId=team_a",
    ]


async def test_the_pages_of_a_listing_can_be_in_any_order(wire: Wire, client: VercelClient) -> None:
    """Vercel does not document the order."""
    wire.actions = pages((["b"], 2000), (["c"], 3000), (["a"], 1000), (["d"], None))
    certificates = await client.list(PERSONAL)
    assert [certificate.id for certificate in certificates] == ["b", "c", "a", "d"]


@pytest.mark.parametrize("following", [[2000, 2000], [2000, 3000, 1000, 3000]], ids=["the same page", "a circle"])
async def test_a_listing_that_comes_back_to_a_page_is_no_answer(
    wire: Wire, client: VercelClient, following: list[int]
) -> None:
    wire.actions = pages(*(([f"cert_{number}"], start) for number, start in enumerate(following)), ([], None))
    error = await failure(client.list(PERSONAL))
    assert isinstance(error, OutcomeUnknown)
    assert "does not end" in error.message
    assert len(wire.requests) == len(following)


async def test_a_listing_of_more_pages_than_can_be_meant_is_no_answer(
    wire: Wire, client: VercelClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_PAGES", 3)
    wire.actions = pages((["c"], 30), (["b"], 20), (["a"], 10), ([], None))
    error = await failure(client.list(PERSONAL))
    assert isinstance(error, OutcomeUnknown)
    assert "does not end" in error.message
    assert len(wire.requests) == 3


@pytest.mark.parametrize(
    "last",
    [reply(200, {"certs": [{"cns": []}], "pagination": {"next": None}}), reply(200, {"certs": []}), send(b"", "reset")],
    ids=["an item without id", "no pagination", "reset"],
)
async def test_a_listing_with_a_bad_page_is_no_answer(wire: Wire, client: VercelClient, last: Action) -> None:
    wire.actions = [*pages((["b"], 2000)), last]
    assert isinstance(await failure(client.list(PERSONAL)), OutcomeUnknown)


async def test_a_listing_with_a_refused_page_is_refused(wire: Wire, client: VercelClient) -> None:
    wire.actions = [*pages((["b"], 2000)), reply(429, {"error": {"code": "rate_limited", "message": "Slow down."}})]
    error = await failure(client.list(PERSONAL))
    assert isinstance(error, ApiError)
    assert error.status == 429


# --- Vercel's clock


async def test_the_offset_of_vercel_s_clock_comes_from_the_newest_answer(wire: Wire, client: VercelClient) -> None:
    assert client.clock_offset is None
    wire.actions = [
        reply(200, Date="Thu, 01 Jan 2026 13:00:00 GMT"),
        reply(500, b"", Date="Thu, 01 Jan 2026 11:59:00 GMT"),
        reply(200),
        reply(200, Date="tomorrow"),
    ]
    await client.get("cert_1", PERSONAL)
    assert client.clock_offset == timedelta(hours=1)
    await failure(client.get("cert_1", PERSONAL))
    assert client.clock_offset == timedelta(minutes=-1)
    await client.get("cert_1", PERSONAL)
    await client.get("cert_1", PERSONAL)
    assert client.clock_offset == timedelta(minutes=-1)


# --- arguments


@pytest.mark.parametrize(
    "token", ["", f"{TOKEN}\n", f"{TOKEN} ", f"\r\n{TOKEN}", f"{TOKEN}ü", f"{TOKEN}\0", f"{TOKEN}\x7f"]
)
def test_a_token_that_can_not_be_one_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ValueError, match="the token ") as caught:
        client_of(API, token)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.vercel.com",
        "ftp://api.vercel.com",
        "https://",
        "https://api.vercel.com?x=1",
        "https://api.vercel.com#x",
        "https://api.vercel.com:99999",
        "https://api vercel.com",
        "https://[::1",
        "https://\n",
    ],
)
def test_a_url_that_can_not_be_meant_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the API's URL "):
        client_of(url)


def test_a_url_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="user name or password") as caught:
        client_of("https://somebody:hunter2@api.vercel.com")
    assert "hunter2" not in str(caught.value)


def test_authorities_that_can_not_be_read_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(ValueError, match="SSL_CERT_FILE"):
        client_of(API)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "ftp://127.0.0.1", "http://127.0.0.1:port"])
def test_a_proxy_that_can_not_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ValueError, match=r"^HTTPS_PROXY is not a proxy that can be used") as caught:
        client_of(API)
    assert proxy not in str(caught.value), "it may hold a password"


def test_an_ipv6_range_in_no_proxy_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    monkeypatch.setenv("NO_PROXY", "fd00::/8,10.0.0.0/8,.svc")
    client_of(API)


async def test_a_host_of_no_proxy_is_requested_directly(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    monkeypatch.setenv("HTTPS_PROXY", wire.url)
    monkeypatch.setenv("NO_PROXY", ".test")
    async with client_of("https://vercel.test") as client:
        error = await failure(client.get("cert_1", PERSONAL))
    assert "Name or service not known" in error.message
    assert wire.requests == []


def test_clients_share_one_tls_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """One takes 836 KiB. Clients with a proxy had three each."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:3128")

    def contexts() -> int:
        gc.collect()
        return sum(isinstance(found, ssl.SSLContext) for found in gc.get_objects())

    network = Network.for_url(API)
    before = contexts()
    clients = [client_of(API, f"test-token-{number}", network=network) for number in range(50)]
    assert contexts() == before
    assert len(clients) == 50


# --- the token stays here


async def test_no_log_line_holds_the_token(wire: Wire, client: VercelClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await client.issue(NAMES, PERSONAL)
    wire.actions = [send(b"", "reset")]
    await failure(client.issue(NAMES, PERSONAL))
    assert "POST" in caplog.text
    assert TOKEN not in caplog.text


def test_nothing_of_the_client_that_prints_holds_the_token() -> None:
    client = client_of(API)
    assert TOKEN not in repr(client) + str(client) + repr(vars(client))


# --- every exception of the library, on a transport that says nothing of what was sent


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (httpx.ConnectError("x"), NotSent),
        (httpx.ConnectTimeout("x"), NotSent),
        (httpx.PoolTimeout("x"), NotSent),
        (httpx.ProxyError("x"), NotSent),
        (httpx.UnsupportedProtocol("x"), NotSent),
        (httpx.InvalidURL("x"), NotSent),
        (httpx.ReadTimeout("x"), OutcomeUnknown),
        (httpx.WriteTimeout("x"), OutcomeUnknown),
        (httpx.ReadError("x"), OutcomeUnknown),
        (httpx.WriteError("x"), OutcomeUnknown),
        (httpx.CloseError("x"), OutcomeUnknown),
        (httpx.LocalProtocolError("x"), OutcomeUnknown),
        (httpx.RemoteProtocolError("x"), OutcomeUnknown),
        (httpx.DecodingError("x"), OutcomeUnknown),
        (httpx.TooManyRedirects("x"), OutcomeUnknown),
        (httpx.StreamError("x"), OutcomeUnknown),
        (OSError("x"), OutcomeUnknown),
        (TimeoutError("x"), OutcomeUnknown),
        (UnicodeError("x"), OutcomeUnknown),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_every_exception_of_the_http_library_says_what_was_sent(
    raised: Exception, expected: type[VercelError]
) -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        raise raised

    async with client_of("http://vercel.invalid", transport=httpx.MockTransport(handle)) as client:
        assert type(await failure(client.issue(NAMES, PERSONAL))) is expected


# --- what is told of it


async def test_each_request_is_counted_with_its_status_and_time(wire: Wire) -> None:
    told: list[tuple[str, str]] = []

    def observe(call: str, code: str, seconds: float) -> None:
        assert 0 <= seconds < 60
        told.append((call, code))

    async with client_of(wire.url, observe=observe) as vercel:
        await vercel.issue(NAMES, PERSONAL)
        await vercel.get("cert_1", PERSONAL)
        await vercel.remove("cert_1", PERSONAL)
    async with client_of(f"http://127.0.0.1:{free_port()}", observe=observe) as vercel:
        await failure(vercel.issue(NAMES, PERSONAL))
    assert told == [("issue", "200"), ("get", "200"), ("remove", "200"), ("issue", "not-sent")]


async def test_a_request_that_is_not_answered_is_counted_as_such(wire: Wire) -> None:
    told: list[tuple[str, str]] = []
    wire.actions = [send(b"", "reset")]
    async with client_of(wire.url, observe=lambda call, code, _: told.append((call, code))) as vercel:
        await failure(vercel.list(PERSONAL))
    assert told == [("list", "none")]


async def test_a_request_that_the_fence_holds_back_at_the_last_moment_was_not_sent(wire: Wire) -> None:
    told: list[tuple[str, str]] = []
    asked = 0

    def fence() -> str | None:
        nonlocal asked
        asked += 1
        return "no" if asked > 1 else None

    async with client_of(wire.url, fence=fence, observe=lambda call, code, _: told.append((call, code))) as vercel:
        await failure(vercel.issue(NAMES, PERSONAL))
    assert told == [("issue", "not-sent")]
