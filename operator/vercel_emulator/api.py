"""Vercel's calls: from a request to the answer that Vercel would give. No network."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import unquote

from pydantic import JsonValue

from vercel_emulator import pem
from vercel_emulator.accounts import bearer
from vercel_emulator.backend import Backend
from vercel_emulator.errors import ApiError
from vercel_emulator.models import Call, Entry, token_name
from vercel_emulator.validation import check_names

_CERTS = "/v8/certs"
_CONFIG = re.compile(r"/v6/domains/([^/]+)/config")
_MAX_LIMIT = 100


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request as it was received."""

    method: str
    path: str
    query: Mapping[str, str]
    authorization: str | None
    body: bytes

    @property
    def cert_id(self) -> str | None:
        """The id of the certificate that the path names, or None."""
        rest = self.path.removeprefix(_CERTS + "/")
        return unquote(rest) if rest != self.path and rest and "/" not in rest else None

    @property
    def domain(self) -> str | None:
        """The domain whose configuration the path names, or None."""
        match = _CONFIG.fullmatch(self.path)
        return None if match is None else unquote(match[1])

    @property
    def call(self) -> Call:
        """The kind of call."""
        one: dict[str, Call] = {"GET": "get", "DELETE": "remove"}
        all_: dict[str, Call] = {"GET": "list", "POST": "issue", "PUT": "upload"}
        if self.cert_id is not None:
            return one.get(self.method, "other")
        if self.domain is not None:
            return "config" if self.method == "GET" else "other"
        return all_.get(self.method, "other") if self.path == _CERTS else "other"

    @property
    def token(self) -> str | None:
        """The name of its token, valid or not; None if it has none."""
        secret = bearer(self.authorization)
        return None if secret is None else token_name(secret)

    @property
    def asked_cns(self) -> list[str] | None:
        """The names in the body or the domain in the path, as the client wrote them; None if there are none.

        The names of an upload are those of its certificate.
        """
        if self.domain is not None:
            return [self.domain]
        if self.call not in ("issue", "upload"):
            return None
        try:
            body = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        if not isinstance(body, dict):
            return None
        if self.call == "upload":
            return pem.names_of(body.get("cert"))
        cns = body.get("cns")
        return [name for name in cns if isinstance(name, str)] if isinstance(cns, list) else None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: a status, a JSON body and headers."""

    status: int
    body: JsonValue
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def code(self) -> str | None:
        """The error's code; None if the answer is not an error."""
        error = self.body.get("error") if isinstance(self.body, dict) else None
        code = error.get("code") if isinstance(error, dict) else None
        return code if isinstance(code, str) else None


class CertsApi:
    """Vercel's side of the calls."""

    def __init__(self, backend: Backend) -> None:
        """Answer from a backend's state."""
        self._accounts = backend.accounts
        self._store = backend.state
        self._limiter = backend.limits
        self._clock = backend.clock
        self._domains = backend.domains

    def answer(self, request: ApiRequest, entry: Entry) -> Answer:
        """Do what a request asks for, in one step.

        Args:
            request: The request.
            entry: Its journal entry. The scope and the certificate are recorded in it.

        Returns:
            The answer, also if it is an error.
        """
        headers: dict[str, str] = {}
        try:
            token = self._accounts.authenticate(request.authorization, self._store.behaviour)
            headers = self._limiter.admit(token.name, request.call)
            scope = self._accounts.scope(token, request.query.get("teamId"), request.query.get("slug"))
            entry.scope = scope
            work: dict[Call, Callable[[ApiRequest, Entry, str], JsonValue]] = {
                "issue": self._issue,
                "get": self._get,
                "list": self._list,
                "remove": self._remove,
                "upload": self._upload,
                "config": self._config,
                "other": self._other,
            }
            return Answer(200, work[request.call](request, entry, scope), headers)
        except ApiError as error:
            return Answer(error.status, error.body(), {**headers, **error.headers})

    def _issue(self, request: ApiRequest, entry: Entry, scope: str) -> JsonValue:
        cns = _json_object(request.body).get("cns")
        if not isinstance(cns, list) or not all(isinstance(name, str) for name in cns):
            raise ApiError(400, "bad_request", "`cns` must be a list of domain names.")
        names = check_names(name for name in cns if isinstance(name, str))
        self._domains.check(names)
        by_hand = self._domains.wildcards_by_hand(names)
        if by_hand and not self._store.has_unexpired(names, scope=scope):
            status = self._store.behaviour.wildcard_status
            message = f"{', '.join(by_hand)}: a wildcard needs Vercel's name servers, or a challenge solved by hand."
            raise ApiError(status, "wildcard_not_allowed", message)
        certificate = self._store.issue(names, scope=scope, token=entry.token)
        entry.certificate = certificate.id
        return certificate.public()

    def _get(self, request: ApiRequest, entry: Entry, scope: str) -> JsonValue:
        certificate = self._store.get(request.cert_id or "", scope=scope)
        entry.certificate = certificate.id
        return certificate.public()

    def _remove(self, request: ApiRequest, entry: Entry, scope: str) -> JsonValue:
        certificate = self._store.remove(request.cert_id or "", scope=scope)
        entry.certificate = certificate.id
        return {}

    def _list(self, request: ApiRequest, entry: Entry, scope: str) -> JsonValue:
        del entry
        limit, until = _number(request.query, "limit"), _number(request.query, "until")
        if limit is not None and not 1 <= limit <= _MAX_LIMIT:
            raise ApiError(400, "bad_request", f"`limit` must be a number from 1 to {_MAX_LIMIT}.")
        page = self._store.page(scope=scope, until=until, limit=limit)
        return {
            "certs": [certificate.public() for certificate in page.certificates],
            "pagination": {"count": len(page.certificates), "next": page.next, "prev": page.prev},
        }

    def _upload(self, request: ApiRequest, entry: Entry, scope: str) -> JsonValue:
        body = _json_object(request.body)
        ca, key, cert = (_text(body, name) for name in ("ca", "key", "cert"))
        skip = body.get("skipValidation", False)
        if not isinstance(skip, bool):
            raise ApiError(400, "bad_request", "`skipValidation` must be true or false.")
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        uploaded = pem.read_upload(ca=ca, key=key, cert=cert, skip_validation=skip, now=now)
        by_notbefore = self._store.behaviour.upload_created_at == "not-before"
        certificate = self._store.upload(
            uploaded.cns,
            uploaded.expires_at,
            created_at=uploaded.not_before if by_notbefore else None,
            scope=scope,
            token=entry.token,
        )
        entry.certificate = certificate.id
        return certificate.public()

    def _config(self, request: ApiRequest, entry: Entry, scope: str) -> JsonValue:
        del entry, scope
        try:
            [domain] = check_names([request.domain or ""])
        except ApiError as error:
            raise ApiError(400, "invalid_domain", error.message) from error
        if domain.startswith("*."):
            raise ApiError(400, "invalid_domain", f"{domain} is a wildcard: ask for the domain itself.")
        config: JsonValue = self._domains.config(domain).to_json()
        return config

    def _other(self, request: ApiRequest, entry: Entry, scope: str) -> JsonValue:
        del entry, scope
        if request.path == _CERTS or request.cert_id is not None:
            raise ApiError(405, "method_not_allowed", f"{request.method[:20]} is not a method of {_CERTS}.")
        if request.domain is not None:
            raise ApiError(405, "method_not_allowed", f"{request.method[:20]} is not a method of this path.")
        message = "The emulator knows only /v8/certs, /v8/certs/{id} and /v6/domains/{domain}/config."
        raise ApiError(404, "not_found", message)


def _json_object(body: bytes) -> dict[str, JsonValue]:
    if not body:
        raise ApiError(400, "bad_request", "The request has no body; a JSON object is expected.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "bad_request", "The body is not JSON.") from error
    if not isinstance(value, dict):
        raise ApiError(400, "bad_request", "The body must be a JSON object.")
    return value


def _text(body: Mapping[str, JsonValue], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise ApiError(400, "bad_request", f"`{name}` must be a string (PEM).")
    return value


def _number(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    text = query[name]
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ApiError(400, "bad_request", f"`{name}` must be a whole number.")
    return int(text)
