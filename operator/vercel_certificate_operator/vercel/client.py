"""The client for Vercel's certificates API."""

import asyncio
import re
import ssl
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Protocol, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from vercel_certificate_operator._version import __version__
from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.certificate import Certificate, Scope, normalized
from vercel_certificate_operator.core.domains import DomainConfig
from vercel_certificate_operator.core.failures import Call
from vercel_certificate_operator.vercel import models
from vercel_certificate_operator.vercel.errors import ApiError, ListTooLong, NotSent, OutcomeUnknown, VercelError
from vercel_certificate_operator.vercel.lanes import Lanes
from vercel_certificate_operator.vercel.network import Network
from vercel_certificate_operator.vercel.times import Allowance, allowance, clock_of, retry_after

MAX_BODY = 2 * 2**20
"""Bytes of a page of a list. A page of 100 certificates has about 30,000; with a hundred names each, 500,000, and up to
2,600,000 if the names are long. A page that is larger is read again with fewer certificates."""
MAX_CERTIFICATE_BODY = 2**20
"""Bytes, for calls whose answer is at most one certificate."""
PAGE_SIZE = 100
"""Certificates, of a page that is not too large."""
MAX_PAGES = 1000

CONNECT_TIMEOUT = 10.0
"""Seconds for DNS and TCP, and again for TLS; less if the limit of the whole call is short."""
POOL_TIMEOUT = 5.0
"""Seconds to wait for a free connection. Short, because a decided call is sent now or not at all."""
KEEPALIVE = 5.0
"""Seconds that an idle connection is kept. Short, because a request on a connection that the server closes at that
moment has an unknown outcome."""

USER_AGENT = f"vercel-certificate-operator/{__version__} python-httpx/{httpx.__version__}"

_CERTS = "/v8/certs"
_LONGEST_MESSAGE = 1000
_EXCERPTED = 4096
_LONGEST_EXCERPT = 80
_SHORTEST_SECRET = 8

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL)
_SHORTEST_KEY_LINE = 12
"""Characters. The last line of a key may be shorter. It reveals little and could match other text."""
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
    """The certificates after the leaf in the chain; may be empty."""


class Room(Protocol):
    """The memory that a list may take."""

    async def wait(self) -> None:
        """Waits until there is room for the next page."""

    def take(self, page: Iterable[Certificate]) -> bool:
        """Returns whether there is room for this page. If not, it is read again later. Raises ListTooLong."""


class VercelClient:
    """A client with one token and one pool of connections.

    Each call sends one request (``list``: one for each page, and more if pages are too large). There are no retries, no
    redirects and no cache. Calls can be made at the same time. They raise NotSent, OutcomeUnknown or ApiError, and
    ``list`` ListTooLong too; see ``errors``.

    httpx reads nothing from the environment, neither proxies nor ``.netrc``; see ``network``. httpx logs the URL of
    each request at INFO, httpcore the headers of the answers at DEBUG. No line contains the token.

    Source of the calls and their formats: Vercel's REST API reference (certs and domains), and Vercel's command line.
    """

    clock_offset: timedelta | None
    """Vercel's time minus the local time, from the ``Date`` of the newest answer of any status; None before the first.

    It is never more than the true offset. It is less by up to a second (the header's resolution) and by the time that
    the answer took to arrive.
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
        dated: Callable[[timedelta, timedelta], None] = lambda offset, took: None,
        clocks: Callable[[], tuple[datetime, ...]] | None = None,
        ticks: Callable[[], float] = monotonic,
    ) -> None:
        """
        Args:
            token: as Vercel's dashboard shows it: printable ASCII without spaces.
            allowed: called with what the rate-limit headers of an answer of any status say about this kind of call.
            base_url: ``http`` or ``https``. It may have a path (of a gateway), but no query or fragment.
            post_timeout: seconds for a whole ``issue`` or ``upload``, from the wait for a connection to the last byte
                of the answer. ``CONNECT_TIMEOUT`` and ``POOL_TIMEOUT`` limit its first steps.
            timeout: the same for any other request.
            connections: maximum number of concurrent requests. Others wait for ``POOL_TIMEOUT``.
            network: certificate authorities and proxy, shared by several clients. None: those of the environment.
            max_body: bytes of a page of a list that are read. A larger page is read again with fewer certificates. For
                other calls, ``MAX_CERTIFICATE_BODY`` is the limit if it is less, and a larger answer raises
                OutcomeUnknown.
            transport: replaces the network in tests.
            clock: returns the local time, aware. It is compared with Vercel's.
            fence: called before each request that changes something at Vercel, and again right before its first byte
                is sent. If it returns a reason, NotSent is raised with it.
            observe: called after each request with the call (``issue``, ``upload``, ``get``, ``list`` for each page,
                ``remove``, ``config``), the HTTP status as text (``none``: sent but not answered; ``not-sent``), and
                the duration in seconds.
            dated: called with each new ``clock_offset``, and with how long the answer took.
            clocks: returns the time by each clock that may be right, Vercel's first, for the times in rate-limit
                headers. None: ``clock``.
            ticks: returns seconds, for how long an answer takes: the local time may step meanwhile.

        Raises:
            ValueError: an argument or the environment can't be used. The message does not contain the token.
        """
        _check_token(token)
        self._token = token
        self._base_url = _checked_base_url(base_url)
        self._post_timeout = post_timeout
        self._timeout = timeout
        self._max_body = max_body
        self._clock = clock
        self._ticks = ticks
        self._fence = fence
        self._observe = observe
        self._dated = dated
        self._clocks = clocks or (lambda: (clock(),))
        self.clock_offset = None
        self._allowed = allowed
        self._hidden: Counter[str] = Counter()
        # Whether httpcore's trace reports when the first byte of a request is sent.
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
        """Requests a certificate for these names and waits until it is issued.

        Returns:
            The certificate. If it is not what was requested, its ``oddities`` say so; its id is always valid.
        """
        names = sorted(normalized(cns))
        answer = await self._call("issue", "POST", _CERTS, scope, json={"cns": names}, limit=self._post_timeout)
        return self._read(answer, lambda value: models.certificate(value, asked=names))

    async def upload(self, upload: Upload, scope: Scope) -> Certificate:
        """Uploads a certificate with its key and waits until Vercel accepts it.

        Args:
            upload: the PEM texts. The key is in no error and no log.
            scope: where it goes.
        """
        with self._hiding(upload.key):
            body = _SecretBody(ca=upload.ca, key=upload.key.get_secret_value(), cert=upload.cert)
            answer = await self._call("upload", "PUT", _CERTS, scope, json=body, limit=self._post_timeout)
            return self._read(answer, models.certificate)

    async def domain_config(self, domain: str, scope: Scope) -> DomainConfig:
        """Returns how a domain is configured. Raises ApiError with status 404 if the scope does not have it."""
        path = f"/v6/domains/{quote(domain, safe='')}/config"
        return self._read(await self._call("config", "GET", path, scope), models.domain_config)

    async def get(self, certificate_id: str, scope: Scope) -> Certificate:
        """Returns a certificate. Raises ApiError with status 404 if the scope has none with this id."""
        return self._read(await self._call("get", "GET", _path(certificate_id), scope), models.certificate)

    async def list(self, scope: Scope, room: Room | None = None) -> tuple[Certificate, ...]:
        """Returns all certificates of the scope in the order in which Vercel sends them, each once.

        The list is complete. If a page fails or the list does not end, it raises. Vercel does not document the order:
        the pages can go back or forward in time. So a list doesn't end only if it comes back to a page.

        If a page is too large, it is read again with half as many certificates, and so are the pages after it.

        Args:
            scope: which list.
            room: the memory that it may take. None: as much as it needs.

        Raises:
            ListTooLong: there is not enough room for it, or a page that should have one certificate is too large.
        """
        found: dict[str, Certificate] = {}
        begun: set[int] = set()
        until: int | None = None
        pages = 0
        limit = PAGE_SIZE
        while pages < MAX_PAGES:
            if room is not None:
                await room.wait()
            while (page := await self._page(scope, until, limit)) is None:
                if limit == 1:
                    raise ListTooLong(
                        "the list is too long for this operator: a page that should have one certificate is "
                        f"larger than {self._max_body} bytes"
                    )
                limit //= 2
            if room is not None and not room.take(page.certificates):
                del page  # it takes memory while this waits
                continue
            pages += 1
            for certificate in page.certificates:
                # A certificate of the same millisecond can be on two pages.
                found.setdefault(certificate.id, certificate)
            if page.next is None:
                return tuple(found.values())
            if page.next in begun:
                raise OutcomeUnknown(
                    f"Vercel sent a list that does not end: the page after {until} starts at {page.next} again"
                )
            begun.add(page.next)
            until = page.next
        raise OutcomeUnknown(f"Vercel sent a list that does not end: it has more than {MAX_PAGES} pages")

    async def _page(self, scope: Scope, until: int | None, limit: int) -> models.Page | None:
        """Returns a page of at most so many certificates; None if it is too large."""
        params = {"limit": str(limit)} | ({} if until is None else {"until": str(until)})
        answer = await self._call("list", "GET", _CERTS, scope, params=params, max_body=self._max_body)
        return None if answer.is_too_large else self._read(answer, models.page)

    async def remove(self, certificate_id: str, scope: Scope) -> None:
        """Removes a certificate. Raises ApiError with status 404 if the scope has none with this id."""
        answer = await self._call("remove", "DELETE", _path(certificate_id), scope)
        if answer.status != 204:
            self._read(answer, models.removed)

    async def aclose(self) -> None:
        """Closes the connections. Later calls raise NotSent."""
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
        """Sends a request and returns the complete answer with a 2xx status. Otherwise raises; see ``errors``.

        Args:
            limit: seconds for the whole call. None: the usual limit.
        """
        if self._http.is_closed:
            raise NotSent("Nothing was sent: the client is closed")
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
        if answer.clocks and (said := allowance(answer.headers, *answer.clocks)) is not None:
            self._allowed(call, said)
        if failure is not None and not answer.is_whole:
            # Not in the handler above: an exception that is raised there keeps httpx's exception, and with it the token
            # in the request's headers. "from None" only hides it from the usual traceback.
            raise failure
        self._check(answer)
        return answer

    async def _exchange(self, method: str, url: httpx.URL, json: object, seconds: float, answer: "_Answer") -> None:
        """Sends a request. Fills in the answer as it arrives, so that its parts are known after an exception."""
        limits = httpx.Timeout(seconds, connect=_part(CONNECT_TIMEOUT, seconds), pool=_part(POOL_TIMEOUT, seconds))
        extensions = {"trace": answer.trace}
        sent = self._ticks()
        async with self._http.stream(method, url, json=json, timeout=limits, extensions=extensions) as response:
            received = self._clock()
            answer.status = response.status_code
            answer.headers = response.headers
            if (date := clock_of(response.headers.get("date"))) is not None:
                self.clock_offset = date - received
                self._dated(self.clock_offset, timedelta(seconds=self._ticks() - sent))
            answer.clocks = self._clocks()
            async for chunk in response.aiter_raw():
                answer.body += chunk
                if answer.is_too_large:
                    return

    def _failure(self, error: Exception, answer: "_Answer", seconds: float) -> VercelError:
        """Returns what an exception of the HTTP library, or of the time limit, says about the request."""
        reason = self._safe(_reason(error, seconds))
        # The trace is more exact than the exception: a read time-out can come from a proxy that does not open the
        # tunnel. The transport of a test has no trace.
        sent = answer.request_started if self._traced else not isinstance(error, _NEVER_SENT)
        if not sent:
            return NotSent(f"{self._base_url} could not be reached: {reason}")
        if answer.status is None:
            return OutcomeUnknown(f"The request was sent, but Vercel did not answer: {reason}")
        return OutcomeUnknown(
            f"The request was sent, but the answer is incomplete: {reason}",
            status=answer.status,
            retry_after=answer.retry_after(),
        )

    def _check(self, answer: "_Answer") -> None:
        """Raises if the answer's status is not 2xx."""
        status = answer.status or 0
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            target = self._safe(answer.headers.get("location", "nowhere"), _LONGEST_EXCERPT)
            raise OutcomeUnknown(
                f"Vercel answered with a redirect to {target}, which the operator does not follow", status=status
            )
        try:
            api_error = self._api_error(status, answer)
            problem = "is not in Vercel's format"
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
        """Returns Vercel's own error, if the body is one. Raises Unreadable."""
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
        """Keeps the lines of a key out of messages while it is being uploaded."""
        lines = {line for line in key.get_secret_value().split() if len(line) >= _SHORTEST_KEY_LINE}
        self._hidden.update(lines)
        try:
            yield
        finally:
            self._hidden.subtract(lines)
            self._hidden = +self._hidden

    def _without_keys(self, text: str) -> str:
        """Returns a text without the lines of the keys that are being uploaded, however they are separated.

        The text may have been cut in the middle of a line.
        """
        for line in self._hidden:
            text = text.replace(line, "[key]")
            part = next((end for end in range(len(line), _SHORTEST_KEY_LINE, -1) if text.endswith(line[:end])), None)
            text = text if part is None else f"{text[:-part]}[key]"
        return text

    def _safe(self, text: str, longest: int = _LONGEST_MESSAGE) -> str:
        """Returns a text from outside for a message: one line of bounded length, without the token.

        A proxy may answer with the request that it got. The token is removed before the text is cut, so that no part of
        it remains. A token that is too short to be a secret (in tests) is not removed, because it could match other
        text.
        """
        token = self._token.get_secret_value()
        if len(token) >= _SHORTEST_SECRET:
            text = text.replace(token, "[token]")
        text = self._without_keys(_PRIVATE_KEY.sub("[key]", text))  # an answer may repeat what was sent
        line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
        return line if len(line) <= longest else line[:longest] + "…"


class _SecretBody(dict[str, str]):
    """A JSON object that does not show its content, for example in a traceback with local variables."""

    def __repr__(self) -> str:
        return "{…}"


@dataclass(slots=True)
class _Answer:
    """The part of an answer that has arrived."""

    max_body: int
    fence: Callable[[], str | None] | None = None
    request_started: bool = False
    status: int | None = None
    headers: httpx.Headers = field(default_factory=httpx.Headers, repr=False)
    clocks: tuple[datetime, ...] = ()
    """What the clocks showed when its headers arrived; empty before."""
    body: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def is_too_large(self) -> bool:
        return len(self.body) > self.max_body

    @property
    def is_whole(self) -> bool:
        """Whether the body is a complete JSON object.

        Then it does not matter if the connection was lost, or the time limit ended, before the HTTP message ended: an
        id that has arrived must not be lost.
        """
        try:
            return isinstance(self.parsed(), dict)
        except models.Unreadable:
            return False

    def ask_fence(self) -> None:
        """Raises NotSent if the fence forbids the request."""
        if self.fence is not None and (why := self.fence()) is not None:
            raise NotSent(f"Nothing was sent: {why}")

    async def trace(self, event: str, info: Mapping[str, object]) -> None:
        """Notes that the first byte of the request is about to be sent (httpcore's trace extension).

        The CONNECT to a proxy is traced too, but it contains nothing of the request.
        """
        if (
            event.endswith(".send_request_headers.started")
            and getattr(info.get("request"), "method", b"") != b"CONNECT"
        ):
            self.ask_fence()  # DNS, TCP and TLS may have taken seconds
            self.request_started = True

    def parsed(self) -> object:
        """Returns the JSON value of the body. Raises Unreadable."""
        if self.is_too_large:
            raise models.Unreadable(f"is larger than {self.max_body} bytes")
        encoding = self.headers.get("content-encoding", "identity").lower()
        if encoding != "identity":
            raise models.Unreadable(f"is compressed ({encoding[:20]}), which the request did not allow")
        return models.parse(bytes(self.body))

    def retry_after(self, error: Mapping[str, object] | None = None) -> float | None:
        """Returns the seconds to wait; None if the answer does not say.

        Args:
            error: the error in the body, if it can be read.
        """
        if self.status is None or not self.clocks or self.status < 400:
            return None
        return retry_after(self.status, self.headers, error or {}, *self.clocks)


class _BearerAuth(httpx.Auth):
    """Sets the Authorization header. Nothing else, such as ``.netrc``, can set it."""

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
            "the token contains a line break, a space or a non-ASCII character, which Vercel's tokens never do: check "
            "what was copied"
        )


def _checked_base_url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"the API's URL is not a URL: {error}") from None
    if url.userinfo:
        raise ValueError("the API's URL contains a user name or password: remove them")
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError(f"the API's URL must look like https://api.vercel.com, not {text!r}")
    if url.query or url.fragment:
        raise ValueError(f"the API's URL must not contain '?' or '#': {text!r}")
    if not _HOST.fullmatch(url.raw_host) or not 0 < (url.port or 443) < 2**16:
        raise ValueError(f"the API's URL has no valid host name and port: {text!r}")
    return str(url).rstrip("/")


def _path(certificate_id: str) -> str:
    """Returns the path of a certificate. An id can come from a user: it must not lead to another call."""
    # Quoting does not help for these three: the empty id is the path of the list, and dots go up even as %2E.
    if certificate_id in {"", ".", ".."}:
        raise NotSent(f"Nothing was sent: {certificate_id!r} is not the id of a certificate")
    return f"{_CERTS}/{quote(certificate_id, safe='', errors='surrogatepass')}"


def _part(limit: float, seconds: float) -> float:
    """Returns the time limit in seconds of one of the three steps before sending: at most a quarter of the whole limit.

    So the limit of the whole call never ends during a TLS handshake: httpcore does not close a connection whose
    handshake is cancelled, and leaves it to the garbage collector.
    """
    return min(limit, seconds / 4)


def _reason(error: BaseException, seconds: float) -> str:
    """Returns the cause in a few words: those of the innermost exception, which is from the system, h11 or OpenSSL."""
    match error:
        case httpx.PoolTimeout():
            return f"no connection was free within {_part(POOL_TIMEOUT, seconds):g} s"
        case httpx.ConnectTimeout():
            return f"no connection within {_part(CONNECT_TIMEOUT, seconds):g} s"
        case TimeoutError() | httpx.TimeoutException():
            return f"no complete answer within {seconds:g} s"
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
            return f"its TLS certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or error}"
        case OSError():
            return words.os_error(error)
    return str(error)
