"""A proxy between the operator and the API server, where requests can be made to go wrong.

It speaks plain HTTP on loopback, and asks the API server as admin. So it stands between the operator's real client
(or its real process) and a real API server: what was done and what was answered can be set apart.
"""

import asyncio
import functools
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, cast

import aiohttp
import yaml
from aiohttp import web
from kubernetes.aio.client import ApiClient, ApiException

from control_plane import ControlPlane
from vercel_certificate_operator.core.resource import FINALIZER, PLURAL

Kind = Literal["hold", "attempt", "outcome", "status", "release", "get", "list", "watch", "event", "secret", "other"]
"""What a request is to the operator. The first five are its writes to a VercelCertificate.

hold: adds the finalizer. attempt: records a new attempt. outcome: records what came of it. status: every other write of
the status. release: removes the finalizer.
"""
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-encoding", "content-length", "keep-alive", "date", "server"}


@dataclass
class KubeFault:
    """What goes wrong with the next requests of a kind.

    ``before``: the API server never hears of them. ``after``: it has done what was asked; only the answer suffers.
    """

    kind: Kind | None
    """None: all."""
    when: Literal["before", "after"] = "before"
    status: int | None = None
    """Answer with this HTTP status, as the API server does; None: cut the connection."""
    hang: bool = False
    """Neither: hold the request (or its answer), until it is released."""
    skip: int = 0
    """Requests of the kind that pass."""
    times: int | None = 1
    """How many meet it; None: all."""
    retry_after: int | None = None
    met: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def takes(self, kind: Kind) -> bool:
        """Returns whether the fault applies to this request, and counts it."""
        if self.kind not in {None, kind} or (self.times is not None and self.met >= self.times):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.met += 1
        return True


class Changes:
    """Counts the requests that may have changed a resource, when they are over.

    It leaves out Events. If a request ended without an answer, it may take effect at any time: then each look counts.
    """

    def __init__(self) -> None:
        self._count = 0
        self._unsure = False

    def __call__(self) -> int:
        self._count += self._unsure
        return self._count

    @contextmanager
    def counted(self, method: str, path: str) -> Iterator[None]:
        """Counts one request, which is carried out inside the block."""
        if method == "GET" or "/events" in path:
            yield
            return
        try:
            yield
        except ApiException:
            raise  # an answer
        except BaseException:
            self._unsure = True
            raise
        finally:
            self._count += 1

    def count(self, api: ApiClient) -> None:
        """From now on, counts the requests of a client too."""
        call_api = api.call_api

        async def counted(method: str, url: str, *args: Any, **options: Any) -> Any:
            with self.counted(method, url):
                return await call_api(method, url, *args, **options)

        cast(Any, api).call_api = counted


class KubeProxy:
    """The proxy. ``url`` is its address."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._token = control_plane.token
        self.faults: list[KubeFault] = []
        self._attempts: set[str] = set()
        self.counts: Counter[Kind] = Counter()
        """Requests so far."""
        self.passed_on: Counter[Kind] = Counter()
        """Those of them that the API server was sent."""
        self.changes = Changes()
        """What the API server was sent."""
        self.flowing = asyncio.Event()
        """While it is not set, nothing that a watch says comes through; the connections stay."""
        self.flowing.set()
        self.url = ""

    def add(self, fault: KubeFault) -> KubeFault:
        """Adds a fault. A request meets the oldest fault that matches it."""
        self.faults.append(fault)
        return fault

    def clear(self) -> None:
        """Removes all faults and releases the requests that are held."""
        for fault in self.faults:
            fault.released.set()
        self.faults.clear()

    def kubeconfig(self, path: Path) -> Path:
        """Writes a kubeconfig file for the proxy and returns its path."""
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": self.url}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
            "current-context": "proxy",
        }
        path.write_text(yaml.safe_dump(content))
        return path

    @asynccontextmanager
    async def running(self) -> AsyncIterator["KubeProxy"]:
        """Listens inside the block."""
        connector = aiohttp.TCPConnector(ssl=_tls(self._control_plane.ca_file), limit=0)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
            self._session = session
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                yield self
            finally:
                self.clear()
                await runner.cleanup()

    async def create_namespace(self, name: str) -> None:
        """Creates a namespace as admin, without faults."""
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        url, headers = f"{self._control_plane.url}/api/v1/namespaces", {"Authorization": f"Bearer {self._token}"}
        async with self._session.post(url, json=manifest, headers=headers) as answer:
            answer.raise_for_status()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        kind = self._kind_of(request, body)
        self.counts[kind] += 1
        fault = next((fault for fault in self.faults if fault.takes(kind)), None)
        if fault is not None and fault.when == "before":
            broken = await self._misbehave(request, fault)
            if broken is not None:
                return broken
        self.passed_on[kind] += 1
        try:
            with self.changes.counted(request.method, request.path):
                upstream = await self._session.request(
                    request.method,
                    f"{self._control_plane.url}{request.raw_path}",
                    data=body or None,
                    headers={
                        **{name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP},
                        "Authorization": f"Bearer {self._token}",
                    },
                )
        except aiohttp.ClientConnectionError:
            return _cut(request)  # the API server is down
        async with upstream:
            if kind == "watch":
                return await self._pass_on(request, upstream)
            content = await upstream.read()
        if fault is not None and fault.when == "after":
            broken = await self._misbehave(request, fault)
            if broken is not None:
                return broken
        return web.Response(status=upstream.status, body=content, headers=_headers(upstream))

    def _kind_of(self, request: web.Request, body: bytes) -> Kind:
        parts = request.path.strip("/").split("/")
        if "watch" in request.query:
            return "watch"
        if "events" in parts:
            return "event"
        if "secrets" in parts:
            return "secret"
        if PLURAL not in parts:
            return "other"
        if request.method == "GET":
            return "list" if parts[-1] == PLURAL else "get"
        if parts[-1] == "status":
            return self._kind_of_status(json.loads(body))
        metadata: dict[str, Any] = json.loads(body)["metadata"] if request.method == "PATCH" else {}
        return "hold" if FINALIZER in metadata.get("finalizers", ()) else "release"

    def _kind_of_status(self, patch: list[dict[str, Any]]) -> Kind:
        """A JSON Patch. The one that records an outcome tests the attempt's id; a new attempt has a new id."""
        if any(step["op"] == "test" and step["path"] == "/status/attempt/id" for step in patch):
            return "outcome"
        attempt = patch[-1]["value"].get("attempt") or {}
        new = "outcome" not in attempt and attempt.get("id") not in {None, *self._attempts}
        if new:
            self._attempts.add(attempt["id"])
        return "attempt" if new else "status"

    async def _misbehave(self, request: web.Request, fault: KubeFault) -> web.StreamResponse | None:
        fault.reached.set()
        if fault.hang:
            await fault.released.wait()
            return None
        if fault.status is None:
            return _cut(request)
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        return web.json_response(refusal(fault.status), status=fault.status, headers=headers)

    async def _pass_on(self, request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=upstream.status, headers=_headers(upstream))
        await response.prepare(request)
        try:
            async for chunk in upstream.content.iter_any():
                await self.flowing.wait()
                await response.write(chunk)
        except aiohttp.ClientError:
            _cut(request)
        finally:
            # A normal close waits for the API server's farewell, perhaps for longer than the event loop lasts.
            if upstream.connection is not None and upstream.connection.transport is not None:
                upstream.connection.transport.abort()
        return response


@functools.cache
def _tls(ca_file: Path) -> ssl.SSLContext:
    """Returns a context that trusts a control plane. It takes milliseconds, so each has one."""
    return ssl.create_default_context(cafile=str(ca_file))


def refusal(status: int) -> dict[str, Any]:
    """Returns the body of a refusal by the API server: a Status object."""
    reasons = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f"a test wants {HTTPStatus(status).phrase}",
        "reason": reasons.get(status, "Unknown"),
        "code": status,
    }


def _headers(upstream: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: value for name, value in upstream.headers.items() if name.lower() not in _HOP_BY_HOP}


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # nobody gets it, but aiohttp wants something all the same
