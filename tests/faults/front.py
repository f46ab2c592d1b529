"""A TLS front before the emulated Vercel, whose way there can be broken at each layer below HTTP."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import pytest

from control_plane.pki import CertificateAuthority, KeyPair

HOST = "vercel.test"
Break = Literal[
    "refused", "no-such-host", "untrusted-certificate", "certificate-for-another-host", "no-tls", "closed", "silent"
]
BREAKS: tuple[Break, ...] = get_args(Break)


class Front:
    """``https://vercel.test:<port>``, for clients in this event loop that trust ``ca``."""

    def __init__(self, target: str, folder: Path) -> None:
        """``target``: the URL of the emulator."""
        authority, stranger = CertificateAuthority(), CertificateAuthority()
        self.ca = folder / "ca.crt"
        self.ca.write_bytes(authority.pem)
        self._folder = folder
        self._good = self._context("good", authority.server(HOST))
        self._bad = {
            "untrusted-certificate": self._context("untrusted", stranger.server(HOST)),
            "certificate-for-another-host": self._context("other", authority.server("other.test")),
        }
        self._target = urlsplit(target)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0
        self.broken: Break | None = None

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self._port}"

    async def set(self, broken: Break | None) -> None:
        """From now on the way is broken so (None: whole). Connections that are open end."""
        await self.close()
        self.broken = broken
        if broken == "refused":
            return
        tls = None if broken in {"no-tls", "closed", "silent"} else self._bad.get(broken or "", self._good)
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port, ssl=tls)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._server = None

    def _context(self, name: str, pair: KeyPair) -> ssl.SSLContext:
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(pair.certificate)
        key.write_bytes(pair.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the connection is over, or the test wants it so
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match self.broken:
            case "no-tls":
                writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
            case "closed":
                pass
            case "silent":
                await asyncio.Event().wait()
            case _:
                await self._pass_on(reader, writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        try:
            await asyncio.wait(
                [asyncio.ensure_future(_copy(reader, back)), asyncio.ensure_future(_copy(there, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            back.transport.abort()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while chunk := await source.read(65536):
        target.write(chunk)
        await target.drain()


@asynccontextmanager
async def front(target: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Front]:
    """A front that is whole. While the block lasts, clients trust it, and this event loop knows its name."""
    made = Front(target, folder)
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
        if host not in {HOST, HOST.encode()}:
            return await look_up(host, port, **options)
        if made.broken == "no-such-host":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return await look_up("127.0.0.1", port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.ca))
    await made.set(None)
    try:
        yield made
    finally:
        await made.close()
