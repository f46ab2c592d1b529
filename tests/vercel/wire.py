"""A server for one test, which answers HTTP requests with whatever bytes, and in whatever way, the test wants."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

Action = Callable[["Wire", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CERTIFICATE: dict[str, object] = {
    "id": "cert_1",
    "cns": ["example.com"],
    "createdAt": 1_750_000_000_000,
    "expiresAt": 1_757_776_000_000,
    "autoRenew": True,
}


@dataclass(frozen=True)
class Request:
    """What came over the wire. ``headers``: by lower-case name."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Wire:
    """Each request takes the next of ``actions``, the last one again and again. ``requests`` holds what came."""

    actions: list[Action] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    tls: ssl.SSLContext | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)
    port: int = 0
    _server: asyncio.Server | None = None
    _open: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        self.over.set()
        for writer in self._open.values():
            writer.transport.abort()
        if self._open:
            await asyncio.wait(self._open)
        await self._server.wait_closed()

    async def arrived(self, count: int) -> None:
        """Until so many requests have come; TimeoutError after 10 s."""
        async with asyncio.timeout(10), self.came:
            await self.came.wait_for(lambda: len(self.requests) >= count)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        self.connections += 1
        try:
            while (request := await read_request(reader)) is not None:
                async with self.came:
                    self.requests.append(request)
                    self.came.notify_all()
                action = self.actions.pop(0) if len(self.actions) > 1 else self.actions[0]
                await action(self, reader, writer)
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has hung up, as some tests want it to
        finally:
            del self._open[task]
            writer.transport.abort()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request on a connection; None when the client has closed it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(method, target, headers, await reader.readexactly(int(headers.get("content-length", 0))))


def answer(status: int = 200, body: object = CERTIFICATE, **headers: str) -> bytes:
    """A whole answer. ``body``: bytes as they are, else a JSON value. ``headers``: with ``_`` for ``-``."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Content-Type": "application/json", "Content-Length": str(len(content))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} As the test wants\r\n{head}\r\n".encode() + content


def reply(status: int = 200, body: object = CERTIFICATE, **headers: str) -> Action:
    """Answer, and keep the connection."""
    return send(answer(status, body, **headers), then="keep")


def send(content: bytes, then: str = "close") -> Action:
    """Send bytes, and then ``keep``, ``close``, ``reset`` or ``hang``."""

    async def action(wire: Wire, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(content)
        await writer.drain()
        match then:
            case "close":
                writer.close()
            case "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            case "hang":
                await wire.over.wait()

    return action


def drip(content: bytes, every: float) -> Action:
    """Send one byte at a time, for as long as the client listens. ``every``: seconds."""

    async def action(wire: Wire, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for position in range(len(content)):
            writer.write(content[position : position + 1])
            await writer.drain()
            try:
                async with asyncio.timeout(every):
                    await wire.over.wait()
            except TimeoutError:
                pass

    return action


def flood(head: bytes, piece: bytes) -> Action:
    """Send a head and then the same piece, for as long as the client listens."""

    async def action(_: Wire, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()

    return action


def tunnel(to: Wire) -> Action:
    """As a proxy, connect to another server, and pass bytes both ways."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def action(_: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", to.port)
        try:
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)
        finally:
            far_writer.transport.abort()

    return action
