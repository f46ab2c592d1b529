"""The proxy between an operator and an API server leaves nothing behind."""

import asyncio
import gc
import socket
import ssl
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from control_plane.pki import CertificateAuthority
from support.proxy import KubeProxy

ANSWER = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n2\r\n{}\r\n"


def api_server(folder: Path, accepted: list[ssl.SSLSocket]) -> Any:
    """Starts what answers one watch, and then neither says nor reads anything: an API server that is busy."""
    authority = CertificateAuthority()
    pair = authority.server("localhost")
    for name, content in (("ca", authority.pem), ("certificate", pair.certificate), ("key", pair.key)):
        (folder / name).write_bytes(content)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "certificate", folder / "key")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            accepted.append(tls.wrap_socket(listener.accept()[0], server_side=True))
        accepted[0].recv(65536)
        accepted[0].sendall(ANSWER)

    threading.Thread(target=serve, daemon=True).start()
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    return SimpleNamespace(token="test-token-not-a-secret", ca_file=folder / "ca", url=url)


def test_a_watch_that_is_open_at_the_end_leaves_no_connection(tmp_path: Path) -> None:
    accepted: list[ssl.SSLSocket] = []

    async def watch() -> None:
        async with KubeProxy(api_server(tmp_path, accepted)).running() as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2]))
            writer.write(b"GET /api/v1/namespaces?watch=true HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"{}")
            writer.transport.abort()

    gc.collect()  # what other tests have left
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        asyncio.run(watch())
        gc.collect()
    accepted[0].close()
    assert [str(warning.message) for warning in warned] == []
