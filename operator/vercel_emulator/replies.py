"""Sending answers: correct ones, and the broken ones that a fault asks for."""

import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from pydantic import JsonValue

from vercel_emulator.api import Answer
from vercel_emulator.domains import HELP_URL
from vercel_emulator.errors import cert_not_found, error_body
from vercel_emulator.faults import ActiveFault
from vercel_emulator.models import Certificate, Entry, Fault

JSON = "application/json; charset=utf-8"
HEADERS: web.RequestKey[Mapping[str, str | None]] = web.RequestKey("headers", Mapping)
"""The headers of a fault; None omits a header. They take precedence over the emulator's own, also over ``Date``."""

_CHUNK = 64 * 1024
_CODES = {
    400: "bad_request",
    401: "unauthorized_request_error",
    402: "payment_required",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    410: "gone",
    429: "rate_limited",
    449: "configuration_error",
}
_CERTIFICATE = ("id", "createdAt", "expiresAt", "autoRenew", "cns")
_WRONG: dict[str, JsonValue] = {
    "id": 12345,
    "createdAt": "soon",
    "expiresAt": None,
    "autoRenew": "perhaps",
    "cns": "example.com",
    "certs": {"0": "example.com"},
    "pagination": [1, 2, 3],
    "error": "something",
}


class ConnectionCutError(ConnectionError):
    """The emulator cut the connection instead of answering."""


Work = Callable[[], Awaitable[Answer]]
Find = Callable[[str], Certificate | None]


async def send(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Send a correct answer."""
    return await _send_bytes(request, answer.status, _encode(answer.body), JSON, answer.headers)


async def misbehave(
    request: web.Request, active: ActiveFault, work: Work, entry: Entry, find: Find
) -> web.StreamResponse:
    """Answer a request as a fault says.

    Args:
        request: The request.
        active: Its fault.
        work: Does what the request asks for, and returns the true answer.
        entry: The request's journal entry. The code of the answer is recorded in it.
        find: Returns the certificate with an id.

    Returns:
        The response that was sent.

    Raises:
        ConnectionCutError: The fault cut the connection.
    """
    fault = active.fault
    request[HEADERS] = fault.headers
    answer = await work() if fault.when == "after" else None
    if fault.action == "hang":
        if await active.hang() == "drop":
            raise drop(request)
    else:
        active.fire()
    await active.pause(fault.delay)
    if fault.action == "reset":
        raise drop(request)
    told = await shown(fault, answer, work, entry, find)
    if told is None:
        return await _send_strange(request, fault)
    entry.code = told.code
    if fault.action == "slow":
        return await _send_slowly(request, active, told)
    if fault.action == "truncate":
        raise await _cut_short(request, fault, told)
    return await send(request, told)


async def shown(fault: Fault, answer: Answer | None, work: Work, entry: Entry, find: Find) -> Answer | None:
    """Return the answer that a fault shows, or None if that is none of the API's.

    Args:
        fault: The fault.
        answer: The true answer, if the work is done.
        work: As in ``misbehave``, like the other arguments.
        entry: The request's journal entry.
        find: Returns the certificate with an id.
    """
    match fault.action:
        case "hang" | "answer":
            return _altered(answer or await work(), fault)
        case "error":
            return _made_up(fault, entry)
        case "slow" | "truncate":
            return answer or _made_up(fault, entry)
        case "other-certificate":
            return _other_certificate(fault, entry, find)
        case "wrong-types":
            return _wrong_types(answer or Answer(fault.status or 200, dict.fromkeys(_CERTIFICATE)))
        case _:
            return None


def drop(request: web.Request) -> ConnectionCutError:
    """Reset the connection: the client receives an RST. Returns the exception to raise."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return ConnectionCutError()


def _made_up(fault: Fault, entry: Entry) -> Answer:
    status = fault.status or 500
    code = fault.code or _CODES.get(status, "internal_server_error" if status >= 500 else "unexpected")
    fields: dict[str, JsonValue] = {}
    if code == "configuration_error":
        fields = {"cns": list[JsonValue](entry.cns or []), "external": True, "helpUrl": HELP_URL}
    return Answer(status, error_body(code, fault.message, {**fields, **fault.fields}))


def _altered(answer: Answer, fault: Fault) -> Answer:
    if not isinstance(answer.body, dict) or not (fault.fields or fault.omit):
        return answer
    body = {name: value for name, value in {**answer.body, **fault.fields}.items() if name not in fault.omit}
    return Answer(answer.status, body, answer.headers)


def _other_certificate(fault: Fault, entry: Entry, find: Find) -> Answer:
    cert_id = fault.certificate or ""
    certificate = find(cert_id)
    if certificate is None:
        refusal = cert_not_found(cert_id)
        return Answer(refusal.status, refusal.body())
    if entry.certificate is None:
        entry.certificate = certificate.id
    return Answer(200, certificate.public())


def _wrong_types(answer: Answer) -> Answer:
    """Change the type of every field. If there are no fields, answer with a list instead of an object."""
    if not isinstance(answer.body, dict) or not answer.body:
        return Answer(answer.status, [], answer.headers)
    return Answer(answer.status, {name: _WRONG.get(name, 0) for name in answer.body}, answer.headers)


async def _send_strange(request: web.Request, fault: Fault) -> web.StreamResponse:
    match fault.action:
        case "empty":
            return await _send_bytes(request, fault.status or 200, b"", JSON, {})
        case "html":
            page = b"<!doctype html><title>Bad gateway</title><h1>Bad gateway</h1>"
            return await _send_bytes(request, fault.status or 502, page, "text/html; charset=utf-8", {})
        case "redirect":
            headers = {"Location": fault.location}
            return await _send_bytes(request, fault.status or 307, _encode({}), JSON, headers)
        case "huge":
            return await _send_huge(request, fault)
        case _:
            body = fault.body.encode() if isinstance(fault.body, str) else _encode(fault.body)
            return await _send_bytes(request, fault.status or 200, body, fault.content_type, {})


async def _send_bytes(
    request: web.Request, status: int, body: bytes, content_type: str, headers: Mapping[str, str]
) -> web.StreamResponse:
    response = web.Response(status=status, body=body, headers={**headers, "Content-Type": content_type})
    await response.prepare(request)
    await response.write_eof()
    return response


async def _send_huge(request: web.Request, fault: Fault) -> web.StreamResponse:
    """Stream a JSON object of the fault's size."""
    start, end = b'{"id": "cert_huge", "padding": "', b'"}'
    response = web.StreamResponse(status=fault.status or 200, headers={"Content-Type": JSON})
    await response.prepare(request)
    await response.write(start)
    left = max(fault.size - len(start) - len(end), 0)
    chunk = b"x" * _CHUNK
    while left:
        await response.write(chunk[:left])
        left -= min(left, _CHUNK)
    await response.write(end)
    await response.write_eof()
    return response


async def _send_slowly(request: web.Request, active: ActiveFault, answer: Answer) -> web.StreamResponse:
    rate = active.fault.rate
    body = _encode(answer.body)
    at_once = max(int(rate / 20), 1)
    response = web.StreamResponse(status=answer.status, headers={**answer.headers, "Content-Type": JSON})
    response.content_length = len(body)
    await response.prepare(request)
    for start in range(0, len(body), at_once):
        await active.pause(at_once / rate)
        await response.write(body[start : start + at_once])
    await response.write_eof()
    return response


async def _cut_short(request: web.Request, fault: Fault, answer: Answer) -> ConnectionCutError:
    """Send fewer bytes than Content-Length says, then close the connection."""
    body = _encode(answer.body)
    response = web.StreamResponse(status=answer.status, headers={**answer.headers, "Content-Type": JSON})
    response.content_length = len(body)
    await response.prepare(request)
    kept = body[: len(body) // 2 if fault.keep is None else fault.keep]
    if kept:
        await response.write(kept)
    if request.transport is not None:
        request.transport.close()
    return ConnectionCutError()


def _encode(body: JsonValue) -> bytes:
    return json.dumps(body).encode()
