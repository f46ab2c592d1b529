"""The emulator as a whole: its parts, its server and its state file."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web
from pydantic import ValidationError

from vercel_emulator import control, replies
from vercel_emulator.accounts import Accounts
from vercel_emulator.api import Answer, ApiRequest, CertsApi
from vercel_emulator.clock import Clock
from vercel_emulator.errors import ApiError, StateFileError
from vercel_emulator.faults import ActiveFault, Faults
from vercel_emulator.journal import Journal
from vercel_emulator.limits import Limiter
from vercel_emulator.models import Behaviour, Entry, Snapshot
from vercel_emulator.store import Store

_MAX_BODY = 1024 * 1024


class Emulator:
    """An emulated Vercel, in the event loop that it is started in.

    ``tokens``
        Bearer tokens that are valid. They are of one user, and may use every team.
    ``teams``
        Slugs by team id: ``{"team_a": "alpha"}``.
    ``lifetime``
        How long issued certificates live.
    ``clock``
        The source of time, answering with epoch seconds. ``emulator.clock`` moves on top of it.
    ``state``
        A file that keeps the certificates and the clock's offset over restarts, ``kill -9`` included. Without it,
        everything is forgotten.
    ``host``, ``port``
        Where it listens; port 0 takes a free one, see ``url``.
    ``behaviour``
        All switches at once, instead of ``lifetime``.
    ``seed``
        Makes the ids of certificates the same in each run.

    Its parts can be used directly while it runs: ``state`` (the certificates, and ``state.behaviour``), ``journal``,
    ``faults``, ``clock``, ``limits`` and ``accounts``.

    Raises ValueError for tokens and teams that can't be; :meth:`start` raises OSError if it can't listen, and
    StateFileError for a state file that can't be used.
    """

    def __init__(
        self,
        *,
        tokens: Iterable[str],
        teams: Mapping[str, str] | None = None,
        lifetime: timedelta = timedelta(days=90),
        clock: Callable[[], float] = time.time,
        state: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        behaviour: Behaviour | None = None,
        seed: str | None = None,
        journal_size: int = 200_000,
    ) -> None:
        self._initial_behaviour = behaviour or Behaviour(lifetime=lifetime)
        self.accounts = Accounts(tokens, teams or {})
        self.clock = Clock(clock)
        self.state = Store(self.clock, self._initial_behaviour, seed=seed)
        self.journal = Journal(journal_size)
        self.faults = Faults()
        self.limits = Limiter(self.clock)
        self._api = CertsApi(self.accounts, self.state, self.limits, self.clock)
        self._file = state
        self._saved: tuple[int, int] | None = None
        self._saving = asyncio.Lock()
        self._host = host
        self._port = port
        self._url: str | None = None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end: ``http://127.0.0.1:45123``. It stays when the emulator stops."""
        if self._url is None:
            raise RuntimeError("the emulator has not been started")
        return self._url

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Read the state file, and listen. After :meth:`stop`: be back, at the same URL, with all that there was."""
        if self._url is None:
            self._load()
        await self.persist()
        app = web.Application(client_max_size=_MAX_BODY)
        app.on_response_prepare.append(self._finish_headers)
        control.add_routes(app, self)
        app.router.add_route("*", r"/{path:[\s\S]*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        host, self._port = runner.addresses[0][:2]
        self._url = f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    async def stop(self) -> None:
        """Stop at once: faults end, connections are cut, also those that hang; new ones are refused.

        A second time does nothing.
        """
        runner, self._runner = self._runner, None
        if runner is not None:
            self.faults.clear("drop")
            await runner.cleanup()
            await self.persist()

    def reset(self) -> None:
        """Everything as in the beginning: no certificate, no fault, no limit, real time, journal empty.

        Requests that hang are dropped. What an earlier run has left in the state file does not come back.
        """
        self.faults.clear("drop")
        self.limits.rule = None
        self.clock.set_offset(0)
        self.state.clear()
        self.state.behaviour = self._initial_behaviour
        self.accounts.reset()
        self.journal.clear()

    # --- the state file

    async def persist(self) -> None:
        """Write the state file, if there is one and something has changed. One writing serves all who wait for it.

        After each request this is done before the answer goes out, so that nothing that was promised is lost.
        """
        if self._file is None:
            return
        async with self._saving:
            current = (self.state.version, self.clock.version)
            if current != self._saved:
                snapshot = Snapshot(clock_offset=self.clock.offset, certificates=self.state.all())
                text = snapshot.model_dump_json(by_alias=True)
                await asyncio.to_thread(_write_whole, self._file, text)
                self._saved = current

    def _load(self) -> None:
        if self._file is None or not self._file.exists():
            return
        try:
            snapshot = Snapshot.model_validate_json(self._file.read_bytes())
        except OSError as error:
            raise StateFileError(f"can't read the state file {self._file}: {error.strerror}") from error
        except ValidationError as error:
            raise StateFileError(
                f"{self._file} is not a state file of this emulator: name another one, or move it away"
            ) from error
        self.clock.set_offset(snapshot.clock_offset)
        self.state.load(snapshot.certificates)

    # --- the server

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        """One request to Vercel's API."""
        oversized = False
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            body, oversized = b"", True
        except ConnectionError:  # the client has left before it had said what it wants
            return web.Response()
        asked = ApiRequest(
            method=request.method,
            path=request.rel_url.raw_path,
            query=request.query,
            authorization=request.headers.get("Authorization"),
            body=body,
        )
        entry = self.journal.add(
            asked.call,
            time=self.clock.now_ms(),
            method=asked.method,
            path=asked.path,
            query=dict(asked.query),
            token=asked.token,
        )
        entry.cns = asked.asked_cns if asked.call == "issue" else None

        async def work() -> Answer:
            if oversized:
                return Answer(413, ApiError(413, "payload_too_large", "The body is too large.").body())
            answer = self._api.answer(asked, entry)
            try:
                await self.persist()
            except StateFileError as error:
                return Answer(500, ApiError(500, "internal_server_error", str(error)).body())
            return answer

        try:
            response = await self._respond(request, self._fault(asked, entry), work, entry)
        except ConnectionError:
            # Cut by us, or the client has left: there is nobody to answer. aiohttp wants something all the same.
            response = web.Response()
            self.journal.finish(entry, None)
        else:
            self.journal.finish(entry, response.status)
        return response

    async def _respond(
        self, request: web.Request, fault: ActiveFault | None, work: replies.Work, entry: Entry
    ) -> web.StreamResponse:
        if fault is None:
            answer = await work()
            entry.code = answer.code
            return await replies.send(request, answer)
        entry.fault, entry.action = fault.id, fault.fault.action
        return await replies.misbehave(request, fault, work, entry)

    def _fault(self, asked: ApiRequest, entry: Entry) -> ActiveFault | None:
        """The fault that the request meets, if any."""
        named = None if asked.cert_id is None else self.state.find(asked.cert_id)
        cns = entry.cns if named is None else named.cns
        return self.faults.take(asked.call, cns=cns, cert_id=asked.cert_id, token=asked.token)

    async def _finish_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """The Date of the emulator's clock, since clients measure Vercel's clock by it; and what a fault wants."""
        response.headers["Date"] = formatdate(self.clock.now_ms() / 1000, usegmt=True)
        for name, value in request.get(replies.HEADERS, {}).items():
            if value is None:
                response.headers.popall(name, None)
            else:
                response.headers[name] = value


def _write_whole(path: Path, text: str) -> None:
    """Replace a file in one step: whoever reads it, and whenever we die, it is the old one or the new one, whole."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text)
        new.replace(path)
    except OSError as error:
        raise StateFileError(f"can't write the state file {path}: {error.strerror}; name one that can be") from error
