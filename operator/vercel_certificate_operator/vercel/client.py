"""The client."""

import asyncio
import os
import re
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from vercel_certificate_operator._version import __version__
from vercel_certificate_operator.core.certificate import Certificate, Scope, normalized
from vercel_certificate_operator.core.domains import DomainConfig
from vercel_certificate_operator.core.failures import Call
from vercel_certificate_operator.vercel import models
from vercel_certificate_operator.vercel.errors import ApiError, NotSent, OutcomeUnknown, VercelError
from vercel_certificate_operator.vercel.lanes import Lanes
from vercel_certificate_operator.vercel.network import Network
from vercel_certificate_operator.vercel.times import Allowance, allowance, http_date, retry_after

MAX_BODY = 4 * 2**20
"""Bytes; a page of a hundred certificates is some 30,000."""
MAX_CERTIFICATE_BODY = 2**20
"""Bytes, for the calls that answer with one certificate or none."""
PAGE_SIZE = 100
MAX_PAGES = 1000

CONNECT_TIMEOUT = 10.0
"""Seconds, for TCP (with the look-up of the name) and again for TLS; less where all of the call has little time."""
POOL_TIMEOUT = 5.0
"""Seconds to wait for a connection. Short, since a call that is decided on is to be sent now or not at all."""
KEEPALIVE = 5.0
"""Seconds that an idle connection is kept. Short too: a request on a connection that the server closes in that
moment is one of unknown outcome."""

USER_AGENT = f"vercel-certificate-operator/{__version__} python-httpx/{httpx.__version__}"

_CERTS = "/v8/certs"
_LONGEST_MESSAGE = 1000
_EXCERPTED = 4096
_LONGEST_EXCERPT = 80
_SHORTEST_SECRET = 8

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL)
_SHORTEST_KEY_LINE = 12
"""Characters. The last line of a key may be shorter: it says little, and would be found everywhere."""
_HOST = re.compile(rb"[A-Za-z0-9._:-]+")

_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Upload:
    """A certificate to upload, as PEM texts."""

    cert: str
    """The leaf."""
    key: SecretStr
    ca: str
    """The certificates that follow the leaf; may be empty."""


class VercelClient:
    """Vercel's certificates API, with one token and one pool of connections.

    Every call is one request (:meth:`list`: one per page); there are no retries, no redirects and no cache. Calls
    raise :class:`~.errors.NotSent`, :class:`~.errors.OutcomeUnknown` or :class:`~.errors.ApiError`, as ``errors``
    documents, and can be made at the same time. Close it with :meth:`aclose`, or use it as a context manager.

    ``token``
        What Vercel's dashboard shows when a token is made: printable ASCII without spaces.
    ``base_url``
        ``http`` or ``https``; a path is kept (a gateway), anything after it is refused.
    ``post_timeout``, ``timeout``
        Seconds for all of an :meth:`issue`, and of any other request, from the wait for a connection to the last
        byte of the answer. Connecting has limits of its own (:data:`CONNECT_TIMEOUT`, :data:`POOL_TIMEOUT`).
    ``max_body``
        Bytes of an answer that are read; one that is larger is no answer. Never more than
        :data:`MAX_CERTIFICATE_BODY` where the answer is one certificate.
    ``allowed``
        Called with what the rate-limit headers of an answer (of any status) say about this kind of call.
    ``connections``
        At most so many at a time. Calls beyond wait :data:`POOL_TIMEOUT`.
    ``network``
        The certificate authorities and the proxy, to be shared by several clients. Without it, the client reads them
        from the environment.
    ``transport``
        In place of the network, for tests.
    ``clock``
        Our time, aware; compared with Vercel's.
    ``fence``
        Asked before each request that changes something at Vercel, the last time when its first byte is about to
        leave. What it says is why the request is not sent: NotSent.
    ``observe``
        Told of each request when it is over: the call (``issue``, ``get``, ``list``: each page, ``remove``), the HTTP
        status as text (``none``: sent, and not answered; ``not-sent``), and the seconds that it took.

    ``ValueError``, without the token in it, says what is wrong with an argument or with the environment.

    httpx itself reads nothing from the environment, neither proxies nor ``.netrc``: see ``network``.

    httpx logs each request with its URL at INFO, and httpcore the rest at DEBUG, headers of answers included. No
    line holds the token; that there are so many is for the application to change, by these loggers' levels.
    """

    clock_offset: timedelta | None
    """Vercel's clock minus ours, from the ``Date`` of the newest answer (of any status); None before the first.

    Taken when the answer arrives, so that it is never more than the true offset: less, by up to a second (the
    header's resolution) and the answer's way.
    """

    def __init__(
        self,
        token: SecretStr,
        allowed: Callable[[Call, Allowance], None] = lambda call, allowance: None,
        *,
        base_url: str,
        post_timeout: float,
        timeout: float,
        connections: int,
        network: Network | None = None,
        max_body: int = MAX_BODY,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        fence: Callable[[], str | None] = lambda: None,
        observe: Callable[[str, str, float], None] = lambda call, code, seconds: None,
        dated: Callable[[timedelta], None] = lambda offset: None,
    ) -> None:
        _check_token(token)
        self._token = token
        self._base_url = _checked_base_url(base_url)
        self._post_timeout = post_timeout
        self._timeout = timeout
        self._max_body = max_body
        self._clock = clock
        self._fence = fence
        self._observe = observe
        self._dated = dated
        self.clock_offset = None
        self._allowed = allowed
        self._hidden: Counter[str] = Counter()
        # Whether the connection tells (by httpcore's trace) when a request's first byte is about to leave.
        self._traced = transport is None
        network = network or Network.for_url(self._base_url)

        def lane(limits: httpx.Limits) -> httpx.AsyncBaseTransport:
            return httpx.AsyncHTTPTransport(verify=network.tls, proxy=network.proxy, limits=limits, trust_env=False)

        self._http = httpx.AsyncClient(
            auth=_BearerAuth(token),
            # A compressed answer could be larger than the limit that is counted on the wire.
            headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "identity"},
            follow_redirects=False,
            transport=transport or Lanes(lane, connections=connections, keepalive=KEEPALIVE),
            trust_env=False,
        )

    async def issue(self, cns: Iterable[str], scope: Scope) -> Certificate:
        """Ask for a certificate that covers the names, and wait until it is issued.

        On a certificate that isn't what was asked for: see ``Certificate.oddities``. Its id is always good.
        """
        names = sorted(normalized(cns))
        answer = await self._call("issue", "POST", _CERTS, scope, json={"cns": names}, limit=self._post_timeout)
        return self._read(answer, lambda value: models.certificate(value, asked=names))

    async def upload(self, upload: Upload, scope: Scope) -> Certificate:
        """Upload a certificate with its key, and wait until it is accepted.

        Args:
            upload: the PEM texts. Its key is in no error and no log.
            scope: where it goes.
        """
        with self._hiding(upload.key):
            body = _SecretBody(ca=upload.ca, key=upload.key.get_secret_value(), cert=upload.cert)
            answer = await self._call("upload", "PUT", _CERTS, scope, json=body, limit=self._post_timeout)
            return self._read(answer, models.certificate)

    async def domain_config(self, domain: str, scope: Scope) -> DomainConfig:
        """How a domain is configured. Raises ApiError with status 404 when the scope has no such domain."""
        path = f"/v6/domains/{quote(domain, safe='')}/config"
        return self._read(await self._call("config", "GET", path, scope), models.domain_config)

    async def get(self, certificate_id: str, scope: Scope) -> Certificate:
        """A certificate. Raises ApiError with status 404 when the scope has none with this id."""
        return self._read(await self._call("get", "GET", _path(certificate_id), scope), models.certificate)

    async def list(self, scope: Scope) -> tuple[Certificate, ...]:
        """All certificates of the scope, newest first as Vercel sends them, without repeats.

        Complete or not at all: a page that fails, or a listing that doesn't end, raises.
        """
        found: dict[str, Certificate] = {}
        until: int | None = None
        for _ in range(MAX_PAGES):
            params = {"limit": str(PAGE_SIZE)} | ({} if until is None else {"until": str(until)})
            answer = await self._call("list", "GET", _CERTS, scope, params=params, max_body=self._max_body)
            page = self._read(answer, models.page)
            for certificate in page.certificates:
                # What was created in the millisecond between two pages is on both.
                found.setdefault(certificate.id, certificate)
            if page.next is None:
                return tuple(found.values())
            if until is not None and page.next >= until:
                raise OutcomeUnknown(
                    f"Vercel sent a listing that doesn't end: after the page until {until} comes the one until "
                    f"{page.next}",
                    status=answer.status,
                )
            until = page.next
        raise OutcomeUnknown(f"Vercel sent a listing that doesn't end: {MAX_PAGES} pages, and more to come")

    async def remove(self, certificate_id: str, scope: Scope) -> None:
        """Remove a certificate. Raises ApiError with status 404 when the scope has none with this id."""
        answer = await self._call("remove", "DELETE", _path(certificate_id), scope)
        if answer.status != 204:
            self._read(answer, models.removed)

    async def aclose(self) -> None:
        """Close the connections. Calls made later raise NotSent."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def _call(
        self,
        call: Call,
        method: str,
        path: str,
        scope: Scope,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        limit: float | None = None,
        max_body: int = MAX_CERTIFICATE_BODY,
    ) -> "_Answer":
        """A whole answer of a status of 2xx. Raises as ``errors`` says for all others, and for none.

        ``limit``: seconds for all of it.
        """
        if self._http.is_closed:
            raise NotSent("The client is closed, nothing was sent")
        query = dict(params or {})
        if scope.team_id is not None:
            query["teamId"] = scope.team_id
        if scope.team_slug is not None:
            query["slug"] = scope.team_slug
        seconds = self._timeout if limit is None else limit
        answer = _Answer(max_body=min(max_body, self._max_body), fence=None if method == "GET" else self._fence)
        answer.ask_fence()
        failure: VercelError | None = None
        began = monotonic()
        try:
            async with asyncio.timeout(seconds):
                await self._exchange(method, httpx.URL(self._base_url + path, params=query), json, seconds, answer)
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, UnicodeError) as error:
            failure = self._failure(error, answer, seconds)
        finally:
            sent = answer.request_started or isinstance(failure, OutcomeUnknown)
            self._observe(call, str(answer.status or ("none" if sent else "not-sent")), monotonic() - began)
        if answer.received is not None and (said := allowance(answer.headers, answer.received)) is not None:
            self._allowed(call, said)
        if failure is not None and not answer.is_whole:
            # Not in the handler above: what is raised there holds on to httpx's exception, and by it to the request
            # with the token among its headers. "from None" would only hide it from the usual traceback.
            raise failure
        self._check(answer)
        return answer

    async def _exchange(self, method: str, url: httpx.URL, json: object, seconds: float, answer: "_Answer") -> None:
        """Send a request, and fill in the answer as it comes, so that what is known of it outlives an exception."""
        limits = httpx.Timeout(seconds, connect=_part(CONNECT_TIMEOUT, seconds), pool=_part(POOL_TIMEOUT, seconds))
        extensions = {"trace": answer.trace}
        async with self._http.stream(method, url, json=json, timeout=limits, extensions=extensions) as response:
            answer.received = self._clock()
            answer.status = response.status_code
            answer.headers = response.headers
            if (date := http_date(response.headers.get("date"))) is not None:
                self.clock_offset = date - answer.received
                self._dated(self.clock_offset)
            async for chunk in response.aiter_raw():
                answer.body += chunk
                if answer.is_too_large:
                    return

    def _failure(self, error: Exception, answer: "_Answer", seconds: float) -> VercelError:
        """What an exception of the HTTP library, or the time limit's, says about the request."""
        reason = self._safe(_reason(error, seconds))
        # The connection knows better than the exception: a read time-out, say, may be that of a proxy which doesn't
        # open the tunnel. A transport of a test doesn't tell.
        sent = answer.request_started if self._traced else not isinstance(error, _NEVER_SENT)
        if not sent:
            return NotSent(f"{self._base_url} could not be reached: {reason}")
        if answer.status is None:
            return OutcomeUnknown(f"The request was sent, but no answer came back: {reason}")
        return OutcomeUnknown(
            f"The request was sent, but not all of the answer came back: {reason}",
            status=answer.status,
            retry_after=answer.retry_after(),
        )

    def _check(self, answer: "_Answer") -> None:
        """Raise unless the answer's status is one of 2xx."""
        status = answer.status or 0
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            target = self._safe(answer.headers.get("location", "nowhere"), _LONGEST_EXCERPT)
            raise OutcomeUnknown(f"A redirect to {target} came back, and is not followed", status=status)
        try:
            api_error = self._api_error(status, answer)
            problem = "is not in Vercel's shape"
        except models.Unreadable as unreadable:
            api_error = None
            problem = str(unreadable)
        if api_error is not None:
            raise api_error
        excerpt = self._safe(bytes(answer.body[:_EXCERPTED]).decode(errors="replace"), _LONGEST_EXCERPT)
        raise OutcomeUnknown(
            f"The answer's body {problem}" + (f": {excerpt}" if excerpt else ""),
            status=status,
            retry_after=answer.retry_after(),
        )

    def _api_error(self, status: int, answer: "_Answer") -> ApiError | None:
        """Vercel's own error, if the body is one. Raises Unreadable."""
        error = models.error(answer.parsed())
        if error is None:
            return None
        help_url, cns, external = (error.fields.get(name) for name in ("helpUrl", "cns", "external"))
        return ApiError(
            self._safe(error.message) or "Vercel gave no message",
            status=status,
            code=self._safe(error.code),
            retry_after=answer.retry_after(error.fields),
            help_url=self._safe(help_url) if isinstance(help_url, str) and help_url.startswith("https://") else None,
            cns=tuple(self._safe(name) for name in cns if isinstance(name, str)) if isinstance(cns, list) else (),
            external=external if isinstance(external, bool) else None,
            invalid_token=error.fields.get("invalidToken") is True,
        )

    def _read(self, answer: "_Answer", reader: Callable[[object], T]) -> T:
        try:
            return reader(answer.parsed())
        except models.Unreadable as unreadable:
            problem = self._safe(str(unreadable))
        raise OutcomeUnknown(f"The answer's body {problem}", status=answer.status)

    @contextmanager
    def _hiding(self, key: SecretStr) -> Iterator[None]:
        """Keep the lines of a key out of messages while it is being uploaded."""
        lines = {line for line in key.get_secret_value().split() if len(line) >= _SHORTEST_KEY_LINE}
        self._hidden.update(lines)
        try:
            yield
        finally:
            self._hidden.subtract(lines)
            self._hidden = +self._hidden

    def _without_keys(self, text: str) -> str:
        """A text without the lines of the keys that are being uploaded, however they are separated.

        The text may have been cut in the middle of a line.
        """
        for line in self._hidden:
            text = text.replace(line, "[key]")
            part = next((end for end in range(len(line), _SHORTEST_KEY_LINE, -1) if text.endswith(line[:end])), None)
            text = text if part is None else f"{text[:-part]}[key]"
        return text

    def _safe(self, text: str, longest: int = _LONGEST_MESSAGE) -> str:
        """A text of somebody else's, fit for a message: one line, bounded, and without the token.

        A proxy that shows what it was sent is no reason to show the token. The token goes before the text is cut,
        or a part of it could stay. One too short to be a secret (a test's) isn't looked for: it would be everywhere.
        """
        token = self._token.get_secret_value()
        if len(token) >= _SHORTEST_SECRET:
            text = text.replace(token, "[token]")
        text = self._without_keys(_PRIVATE_KEY.sub("[key]", text))  # an answer may repeat what was sent
        line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
        return line if len(line) <= longest else line[:longest] + "…"


class _SecretBody(dict[str, str]):
    """A JSON object that is not shown, for example by a traceback that prints local variables."""

    def __repr__(self) -> str:
        return "{…}"


@dataclass(slots=True)
class _Answer:
    """As much of an answer as has come."""

    max_body: int
    fence: Callable[[], str | None] | None = None
    request_started: bool = False
    status: int | None = None
    headers: httpx.Headers = field(default_factory=httpx.Headers, repr=False)
    received: datetime | None = None
    body: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def is_too_large(self) -> bool:
        return len(self.body) > self.max_body

    @property
    def is_whole(self) -> bool:
        """Whether the body is a whole JSON object, which can't be the start of another one.

        It doesn't matter then that the connection was lost, or the time over, before HTTP's own end of the answer;
        and an id that has come must not be lost.
        """
        try:
            return isinstance(self.parsed(), dict)
        except models.Unreadable:
            return False

    def ask_fence(self) -> None:
        """Raises NotSent if it must not be sent."""
        if self.fence is not None and (why := self.fence()) is not None:
            raise NotSent(f"Nothing was sent: {why}")

    async def trace(self, event: str, info: Mapping[str, object]) -> None:
        """httpcore's trace extension: note that the first byte of our own request is about to leave.

        A proxy's CONNECT is traced too, but carries nothing of ours.
        """
        if (
            event.endswith(".send_request_headers.started")
            and getattr(info.get("request"), "method", b"") != b"CONNECT"
        ):
            self.ask_fence()  # it may have taken seconds to get here: the look-up of the name, TCP, TLS
            self.request_started = True

    def parsed(self) -> object:
        """The body's JSON value. Raises Unreadable."""
        if self.is_too_large:
            raise models.Unreadable(f"is larger than {self.max_body} bytes")
        encoding = self.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise models.Unreadable(f"is compressed ({encoding[:20]}), though it was asked for as it is")
        return models.parse(bytes(self.body))

    def retry_after(self, error: Mapping[str, object] | None = None) -> float | None:
        """Seconds to wait. ``error``: what the body says, where it can be read."""
        if self.status is None or self.received is None or self.status < 400:
            return None
        return retry_after(self.status, self.headers, error or {}, self.received)


class _BearerAuth(httpx.Auth):
    """The token as an Authorization header, set last: before ``.netrc`` or anything else could."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        yield request


def _check_token(token: SecretStr) -> None:
    text = token.get_secret_value()
    if not text:
        raise ValueError("the token is empty")
    if not all("!" <= character <= "~" for character in text):
        raise ValueError(
            "the token holds a line break, a space or a character outside of ASCII, which no token of Vercel's does: "
            "was more than the token copied?"
        )


def _checked_base_url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"the API's URL is not one: {error}") from None
    if url.userinfo:
        raise ValueError("the API's URL holds a user name or password; the token goes in its own setting")
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"the API's URL has to look like https://api.vercel.com, not {text!r}")
    if url.query or url.fragment:
        raise ValueError(f"the API's URL has to end before '?' or '#': {text!r}")
    if not _HOST.fullmatch(url.raw_host) or not 0 < (url.port or 443) < 2**16:
        raise ValueError(f"the API's URL has no host name and port that can be meant: {text!r}")
    return str(url).rstrip("/")


def _path(certificate_id: str) -> str:
    """The path of a certificate. An id may come from a user, and must not lead to another call, whatever it holds."""
    # These three can't be quoted: the empty one is the listing's path, and the dots go up even as %2E.
    if certificate_id in {"", ".", ".."}:
        raise NotSent(f"{certificate_id!r} is no certificate id, nothing was sent")
    return f"{_CERTS}/{quote(certificate_id, safe='', errors='surrogatepass')}"


def _part(limit: float, seconds: float) -> float:
    """The time limit of a phase before sending: a quarter of all the time at most, since there are three of them.

    So the limit for all of it does not strike in one of them. That would be right, but httpcore forgets to close a
    connection on which the TLS handshake is cancelled, and leaves it to the garbage collector.
    """
    return min(limit, seconds / 4)


def _reason(error: BaseException, seconds: float) -> str:
    """Why, in a few words: those of the exception at the bottom, where the system, h11 and OpenSSL say it."""
    match error:
        case httpx.PoolTimeout():
            return f"no connection came free within {_part(POOL_TIMEOUT, seconds):g} s"
        case httpx.ConnectTimeout():
            return f"no connection within {_part(CONNECT_TIMEOUT, seconds):g} s"
        case TimeoutError() | httpx.TimeoutException():
            return f"not done within {seconds:g} s"
    text = str(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]  # of several addresses, the first
        text = _words(cause) or text
        cause = cause.__cause__ or cause.__context__
    return text or type(error).__name__


def _words(error: BaseException) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            return f"the TLS certificate it showed is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or error}"
        case socket.gaierror():
            return error.strerror
        case OSError(errno=int(number)):
            return os.strerror(number)  # asyncio puts its own text, with the address, into strerror
    return str(error)
