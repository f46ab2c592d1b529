"""The HTTP server: Vercel's API and, under ``/_emulator/``, the control API."""

import socket
from datetime import UTC, datetime
from email.utils import formatdate

from aiohttp import web

from vercel_emulator import control, replies
from vercel_emulator.api import Answer, ApiRequest, CertsApi
from vercel_emulator.backend import Backend
from vercel_emulator.errors import ApiError, StateFileError
from vercel_emulator.faults import ActiveFault
from vercel_emulator.models import Entry

_MAX_BODY = 1024 * 1024
_LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


class Server:
    """Serves a backend over HTTP. It can be stopped and started again; it then uses the same port."""

    def __init__(self, backend: Backend, host: str, port: int) -> None:
        """Prepare to listen.

        Args:
            backend: What to serve.
            host: The address to listen on; an IPv6 address can have brackets. Empty: all addresses.
            port: The port to listen on; 0 for any free port.
        """
        self._backend = backend
        self._api = CertsApi(backend)
        self._host = host.removeprefix("[").removesuffix("]")
        self._port = port
        self._url: str | None = None
        self._runner: web.AppRunner | None = None
        self._reserved: socket.socket | None = None
        """While the server is stopped, no other program gets its port: this is bound and refuses connections."""

    @property
    def url(self) -> str | None:
        """The base URL without a trailing slash; None before the first start."""
        return self._url

    @property
    def running(self) -> bool:
        """Whether the server is listening."""
        return self._runner is not None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address can't be used.
        """
        app = web.Application(client_max_size=_MAX_BODY)
        app.on_response_prepare.append(self._finish_headers)
        control.add_routes(app, self._backend)
        app.router.add_route("*", r"/{path:[\s\S]*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self.release()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        host, self._port = runner.addresses[0][:2]
        self._url = f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    async def stop(self) -> None:
        """Stop listening and close all connections. Does nothing if the server isn't running.

        The port stays reserved, until ``start`` or ``release``.
        """
        runner, self._runner = self._runner, None
        if runner is None:
            return
        address = runner.addresses[0]
        await runner.cleanup()
        self._reserved = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(address)

    def release(self) -> None:
        """Give up the port of a server that was stopped."""
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request to Vercel's API."""
        oversized = False
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            body, oversized = b"", True
        except ConnectionError:  # the client left before it had sent its request
            return web.Response()
        asked = ApiRequest(
            method=request.method,
            path=request.rel_url.raw_path,
            query=request.query,
            authorization=request.headers.get("Authorization"),
            body=body,
        )
        entry = self._backend.journal.add(
            asked.call,
            time=self._backend.clock.now_ms(),
            method=asked.method,
            path=asked.path,
            query=dict(asked.query),
            token=asked.token,
        )
        entry.cns = asked.asked_cns

        async def work() -> Answer:
            if oversized:
                return Answer(413, ApiError(413, "payload_too_large", "The body is too large.").body())
            answer = self._api.answer(asked, entry)
            try:
                await self._backend.persist()
            except StateFileError as error:
                return Answer(500, ApiError(500, "internal_server_error", str(error)).body())
            return answer

        try:
            response = await self._respond(request, self._fault(asked, entry), work, entry)
        except ConnectionError:
            # The emulator cut the connection, or the client left. aiohttp needs a response, but nobody receives it.
            response = web.Response()
            self._backend.journal.finish(entry, None)
        else:
            self._backend.journal.finish(entry, response.status)
        return response

    async def _respond(
        self, request: web.Request, fault: ActiveFault | None, work: replies.Work, entry: Entry
    ) -> web.StreamResponse:
        if fault is None:
            answer = await work()
            entry.code = answer.code
            return await replies.send(request, answer)
        entry.fault, entry.action = fault.id, fault.fault.action
        return await replies.misbehave(request, fault, work, entry, self._backend.state.find)

    def _fault(self, asked: ApiRequest, entry: Entry) -> ActiveFault | None:
        named = None if asked.cert_id is None else self._backend.state.find(asked.cert_id)
        return self._backend.faults.take(
            asked.call,
            cns=entry.cns if named is None else named.cns,
            cert_id=asked.cert_id,
            token=asked.token,
            teams=self._backend.accounts.team_names(asked.query.get("teamId"), asked.query.get("slug")),
        )

    async def _finish_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set ``Date``, by which clients measure Vercel's clock, and the headers of a fault."""
        behaviour = self._backend.state.behaviour
        seconds = self._backend.clock.now_ms() / 1000 + behaviour.date_offset
        date = formatdate(min(max(seconds, 0), _LATEST), usegmt=True) if behaviour.date_header else None
        for name, value in {"Date": date, **request.get(replies.HEADERS, {})}.items():
            if value is None:
                response.headers.popall(name, None)
            else:
                response.headers[name] = value
