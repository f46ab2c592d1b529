"""The control API under ``/_emulator/``. ``docs/emulator.md`` is its reference."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Never, TypeVar, get_args

from aiohttp import web
from pydantic import JsonValue, ValidationError

from vercel_emulator.backend import Backend
from vercel_emulator.errors import ApiError, StateFileError
from vercel_emulator.faults import ActiveFault
from vercel_emulator.models import (
    Behaviour,
    Call,
    CertificateChange,
    ClockChange,
    ClockView,
    DomainSetup,
    Fault,
    Injection,
    Model,
    RateLimit,
    Release,
    Renewal,
    Team,
    TokenGrant,
    TokenRevocation,
)

PREFIX = "/_emulator"
_MAX_WAIT = 600.0

M = TypeVar("M", bound=Model)
Result = Model | Sequence[Model] | dict[str, JsonValue] | None


class Control:
    """The handlers. Each returns a model, a list of models, an object, or None (204)."""

    def __init__(self, backend: Backend) -> None:
        """Control a backend."""
        self._backend = backend

    # --- journal

    async def journal(self, request: web.Request) -> Result:
        """Return the requests after ``?since=SEQ``, of one ``?call=`` or of all."""
        return self._backend.journal.view(_integer(request, "since", 0), _call(request))

    async def journal_wait(self, request: web.Request) -> Result:
        """Wait for ``?count=`` requests of ``?call=``; with ``finished=true``, count only finished ones."""
        call = _call(request)
        if call is None:
            raise _bad("`call` is missing")
        finished = request.query.get("finished") == "true"
        count, within = _integer(request, "count", 1), _within(request)
        try:
            await self._backend.journal.wait(call, count, finished=finished, within=within)
        except TimeoutError as error:
            counted = self._backend.journal.counts[call]
            raise ApiError(408, "timeout", f"{counted} of {count} requests after {within:g} s") from error
        return self._backend.journal.view(_integer(request, "since", 0), call)

    async def clear_journal(self, request: web.Request) -> Result:
        """Forget every request."""
        del request
        self._backend.journal.clear()
        return None

    # --- certificates

    async def certificates(self, request: web.Request) -> Result:
        """Return all certificates; with ``?live=true``, those that have not been removed."""
        state = self._backend.state
        return state.live() if request.query.get("live") == "true" else state.all()

    async def certificate(self, request: web.Request) -> Result:
        """Return one certificate, removed or not."""
        return self._backend.state.find(request.match_info["id"]) or _not_found("certificate", request)

    async def inject(self, request: web.Request) -> Result:
        """Add a certificate, as another person would."""
        injection = await _body(request, Injection)
        if not self._backend.accounts.knows_scope(injection.scope):
            raise _bad(f"there is no scope {injection.scope!r}: use a team's id, or personal:USER")
        try:
            return self._backend.state.inject(injection)
        except ValueError as error:
            raise _bad(str(error)) from error

    async def change_certificate(self, request: web.Request) -> Result:
        """Change a certificate, as another person would."""
        return self._backend.state.change(request.match_info["id"], await _body(request, CertificateChange))

    async def renew(self, request: web.Request) -> Result:
        """Renew a certificate now, as Vercel would. Returns the one with the new expiry."""
        try:
            return self._backend.state.renew(request.match_info["id"], await _body(request, Renewal))
        except ValueError as error:
            raise _bad(str(error)) from error

    async def vanish(self, request: web.Request) -> Result:
        """Remove a certificate, as another person would."""
        return self._backend.state.vanish(request.match_info["id"])

    # --- faults

    async def faults(self, request: web.Request) -> Result:
        """Return all faults, the oldest first."""
        del request
        return [active.view() for active in self._backend.faults]

    async def add_fault(self, request: web.Request) -> Result:
        """Add a fault."""
        return self._backend.faults.add(await _body(request, Fault)).view()

    async def clear_faults(self, request: web.Request) -> Result:
        """End and remove all faults."""
        del request
        self._backend.faults.clear()
        return None

    async def fault(self, request: web.Request) -> Result:
        """Return one fault."""
        return self._active(request).view()

    async def fault_wait(self, request: web.Request) -> Result:
        """Wait until a fault has fired ``?fired=`` times."""
        active, fired, within = self._active(request), _integer(request, "fired", 1), _within(request)
        try:
            await active.wait(fired, within=within)
        except TimeoutError as error:
            raise ApiError(408, "timeout", f"fired {active.fired} of {fired} times after {within:g} s") from error
        return active.view()

    async def release(self, request: web.Request) -> Result:
        """Release hanging requests."""
        release = await _body(request, Release)
        return {"released": self._active(request).release(release.then, release.count)}

    async def remove_fault(self, request: web.Request) -> Result:
        """End and remove one fault."""
        self._active(request)
        self._backend.faults.remove(request.match_info["id"])
        return None

    def _active(self, request: web.Request) -> ActiveFault:
        return self._backend.faults.get(request.match_info["id"]) or _not_found("fault", request)

    # --- rate limits, clock, behaviour

    async def rate_limit(self, request: web.Request) -> Result:
        """Return the first limit, or nothing."""
        del request
        return self._backend.limits.rule

    async def set_rate_limit(self, request: web.Request) -> Result:
        """Replace all limits by one."""
        self._backend.limits.rule = await _body(request, RateLimit)
        return self._backend.limits.rule

    async def rate_limits(self, request: web.Request) -> Result:
        """Return all limits."""
        del request
        return self._backend.limits.rules

    async def add_rate_limit(self, request: web.Request) -> Result:
        """Add a limit."""
        return self._backend.limits.add(await _body(request, RateLimit))

    async def remove_rate_limits(self, request: web.Request) -> Result:
        """Remove all limits."""
        del request
        self._backend.limits.rule = None
        return None

    async def clock(self, request: web.Request) -> Result:
        """Return the time."""
        del request
        return ClockView(now=self._backend.clock.now_ms(), offset=self._backend.clock.offset)

    async def move_clock(self, request: web.Request) -> Result:
        """Move the clock."""
        change = await _body(request, ClockChange)
        clock = self._backend.clock
        try:
            if change.advance is not None:
                clock.advance(change.advance)
            elif change.set is not None:
                clock.set(change.set)
            elif change.offset is not None:
                clock.set_offset(change.offset)
        except (ValueError, OverflowError) as error:
            raise _bad(str(error)) from error
        return await self.clock(request)

    async def behaviour(self, request: web.Request) -> Result:
        """Return all switches."""
        del request
        return self._backend.state.behaviour

    async def change_behaviour(self, request: web.Request) -> Result:
        """Change the switches in the body."""
        change = await _body(request, Behaviour)
        self._backend.state.behaviour = self._backend.state.behaviour.model_copy(
            update={name: getattr(change, name) for name in change.model_fields_set}
        )
        return self._backend.state.behaviour

    # --- domains

    async def domains(self, request: web.Request) -> Result:
        """Return the domains whose setup was changed."""
        del request
        return self._backend.domains.views()

    async def set_up_domain(self, request: web.Request) -> Result:
        """Set what Vercel sees of a domain."""
        try:
            return self._backend.domains.set_up(request.match_info["domain"], await _body(request, DomainSetup))
        except ValueError as error:
            raise _bad(str(error)) from error

    async def fix_domain(self, request: web.Request) -> Result:
        """Configure a domain again."""
        if not self._backend.domains.fix(request.match_info["domain"]):
            raise ApiError(404, "not_found", f"{request.match_info['domain']!r} has no setup of its own")
        return None

    async def fix_domains(self, request: web.Request) -> Result:
        """Configure every domain again."""
        del request
        self._backend.domains.clear()
        return None

    # --- tokens and teams

    async def tokens(self, request: web.Request) -> Result:
        """Return the tokens, by name."""
        del request
        return [token.view() for token in self._backend.accounts.tokens.values()]

    async def grant(self, request: web.Request) -> Result:
        """Make a token valid."""
        grant = await _body(request, TokenGrant)
        try:
            return self._backend.accounts.grant(grant).view()
        except ValueError as error:
            raise _bad(str(error)) from error

    async def revoke(self, request: web.Request) -> Result:
        """Make a token invalid."""
        if not self._backend.accounts.revoke((await _body(request, TokenRevocation)).token):
            raise ApiError(404, "not_found", "there is no such valid token")
        return None

    async def teams(self, request: web.Request) -> Result:
        """Return all teams."""
        del request
        return [Team(id=team, slug=slug) for team, slug in self._backend.accounts.teams.items()]

    async def add_team(self, request: web.Request) -> Result:
        """Add a team, or change its slug."""
        team = await _body(request, Team)
        try:
            self._backend.accounts.add_team(team.id, team.slug)
        except ValueError as error:
            raise _bad(str(error)) from error
        return team

    async def remove_team(self, request: web.Request) -> Result:
        """Remove a team."""
        if not self._backend.accounts.remove_team(request.match_info["id"]):
            _not_found("team", request)
        return None

    async def reset(self, request: web.Request) -> Result:
        """Restore the initial state."""
        del request
        self._backend.reset()
        return None


Handler = Callable[[web.Request], Awaitable[Result]]


def add_routes(app: web.Application, backend: Backend) -> None:
    """Add the control API to an application."""
    control = Control(backend)
    routes: dict[str, dict[str, Handler]] = {
        "/journal": {"GET": control.journal, "DELETE": control.clear_journal},
        "/journal/wait": {"GET": control.journal_wait},
        "/certificates": {"GET": control.certificates, "POST": control.inject},
        "/certificates/{id}": {
            "GET": control.certificate,
            "PATCH": control.change_certificate,
            "DELETE": control.vanish,
        },
        "/certificates/{id}/renew": {"POST": control.renew},
        "/faults": {"GET": control.faults, "POST": control.add_fault, "DELETE": control.clear_faults},
        "/faults/{id}": {"GET": control.fault, "DELETE": control.remove_fault},
        "/faults/{id}/wait": {"GET": control.fault_wait},
        "/faults/{id}/release": {"POST": control.release},
        "/rate-limit": {
            "GET": control.rate_limit,
            "PUT": control.set_rate_limit,
            "DELETE": control.remove_rate_limits,
        },
        "/rate-limits": {
            "GET": control.rate_limits,
            "POST": control.add_rate_limit,
            "DELETE": control.remove_rate_limits,
        },
        "/clock": {"GET": control.clock, "POST": control.move_clock},
        "/behaviour": {"GET": control.behaviour, "PATCH": control.change_behaviour},
        "/domains": {"GET": control.domains, "DELETE": control.fix_domains},
        "/domains/{domain}": {"PUT": control.set_up_domain, "DELETE": control.fix_domain},
        "/tokens": {"GET": control.tokens, "POST": control.grant},
        "/tokens/revoke": {"POST": control.revoke},
        "/teams": {"GET": control.teams, "POST": control.add_team},
        "/teams/{id}": {"DELETE": control.remove_team},
        "/reset": {"POST": control.reset},
    }
    overview: JsonValue = {PREFIX + path: list(methods) for path, methods in routes.items()}

    async def unknown(request: web.Request) -> web.Response:
        if request.path.rstrip("/") == PREFIX and request.method == "GET":
            return web.json_response(overview)
        error = ApiError(404, "not_found", f"no such control call: GET {PREFIX}/ lists them")
        return web.json_response(error.body(), status=error.status)

    for path, methods in routes.items():
        for method, handler in methods.items():
            app.router.add_route(method, PREFIX + path, _served(handler, backend))
    app.router.add_route("*", PREFIX, unknown)
    app.router.add_route("*", PREFIX + r"/{path:[\s\S]*}", unknown)


def _served(handler: Handler, backend: Backend) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(request: web.Request) -> web.Response:
        try:
            result = await handler(request)
            await backend.persist()
        except ApiError as error:
            return web.json_response(error.body(), status=error.status)
        except StateFileError as error:
            return web.json_response(ApiError(500, "internal_server_error", str(error)).body(), status=500)
        if result is None:
            return web.Response(status=204)
        if isinstance(result, Model):
            return web.json_response(text=result.model_dump_json(by_alias=True))
        if isinstance(result, dict):
            return web.json_response(result)
        return web.json_response(text="[" + ",".join(item.model_dump_json(by_alias=True) for item in result) + "]")

    return serve


async def _body(request: web.Request, model: type[M]) -> M:
    try:
        return model.model_validate_json(await request.read() or b"{}")
    except web.HTTPRequestEntityTooLarge as error:
        raise ApiError(413, "payload_too_large", "the body is too large") from error
    except ValidationError as error:
        problems = (
            f"{'.'.join(str(part) for part in problem['loc']) or 'body'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise _bad("; ".join(problems)) from error


def _integer(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise _bad(f"`{name}` must be a whole number")
    return int(text)


def _within(request: web.Request) -> float:
    return min(float(_integer(request, "timeout", 10)), _MAX_WAIT)


def _call(request: web.Request) -> Call | None:
    name = request.query.get("call")
    if name is None:
        return None
    for call in get_args(Call):
        if call == name:
            return call  # type: ignore[no-any-return]
    raise _bad(f"`call` must be one of {', '.join(get_args(Call))}")


def _bad(message: str) -> ApiError:
    return ApiError(400, "bad_request", message)


def _not_found(what: str, request: web.Request) -> Never:
    raise ApiError(404, "not_found", f"there is no {what} {request.match_info['id']!r}")
