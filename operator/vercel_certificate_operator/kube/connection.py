"""Connections to the Kubernetes API: one for kopf's watch, one for all other requests."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import kopf
from kubernetes.aio.client import ApiClient as ApiClient
from kubernetes.aio.client import ApiException
from kubernetes.aio.client import Configuration as Configuration

from vercel_certificate_operator._version import __version__
from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.resource import PLURAL
from vercel_certificate_operator.kube.errors import (
    Conflict,
    Denied,
    Fenced,
    Gone,
    KubeError,
    Refused,
    Unauthenticated,
    Unavailable,
)
from vercel_certificate_operator.kube.kubeconfig import NotConfigured as NotConfigured
from vercel_certificate_operator.kube.kubeconfig import load as load_kubeconfig

USER_AGENT = f"vercel-certificate-operator/{__version__}"
CONNECTIONS = 16
"""Most connections of one client to the API server. Each takes 256 kB for the buffers of asyncio's TLS."""


async def load(kubeconfig: Path | None) -> Configuration:
    """``kubeconfig.load``, with a limit on the connections.

    Raises:
        NotConfigured: there is no usable configuration.
    """
    configuration = await load_kubeconfig(kubeconfig)
    configuration.connection_pool_maxsize = CONNECTIONS
    return configuration


def api_client(
    configuration: Configuration,
    fence: Callable[[], str | None] | None = None,
    dated: Callable[[str | None], None] | None = None,
) -> ApiClient:
    """Returns a client for the typed and the custom APIs.

    Args:
        fence: asked before each request that writes. If it returns a reason, Fenced is raised with it.
        dated: called with the Date header of each answer.
    """
    client = _Client(configuration, fence, dated)
    client.user_agent = USER_AGENT
    return client


class _Client(ApiClient):
    """Asks the fence below all code that makes requests, so that none can bypass it."""

    def __init__(
        self,
        configuration: Configuration,
        fence: Callable[[], str | None] | None,
        dated: Callable[[str | None], None] | None,
    ) -> None:
        super().__init__(configuration)
        self._fence = fence
        self._dated = dated

    async def call_api(self, method: str, *args: Any, **options: Any) -> Any:
        if method != "GET" and self._fence is not None and (why := self._fence()) is not None:
            raise Fenced(f"not written: {why}")
        response = await super().call_api(method, *args, **options)
        if self._dated is not None:
            self._dated(response.headers.get("Date"))
        return response


class WatchSigns:
    """When the watches last sent requests and got answers. kopf does not report that, but it uses our session."""

    def __init__(self, clock: Clock, watches: int = 1) -> None:
        """
        Args:
            watches: how many there are to be, one for each namespace.
        """
        self._clock = clock
        self._watches = watches
        self._start = clock.monotonic()
        self._tried: dict[str, float] = {}
        self._answered: dict[str, float] = {}

    def tried(self) -> float:
        """Returns the seconds since the quietest watch sent a request or got an answer."""
        return self._age(self._tried)

    def answered(self) -> float:
        """Returns the seconds since the last answer to the watch that has waited longest for one."""
        return self._age(self._answered)

    def _age(self, times: Mapping[str, float]) -> float:
        oldest = min(times.values()) if len(times) >= self._watches else self._start
        return self._clock.monotonic() - oldest

    def trace(self) -> aiohttp.TraceConfig:
        """Returns a trace configuration for the session of the watches."""
        config = aiohttp.TraceConfig()
        config.on_request_start.append(self._on_request)
        config.on_request_exception.append(self._on_request)
        config.on_request_end.append(self._on_answer)
        return config

    async def _on_request(
        self,
        _: aiohttp.ClientSession,
        __: object,
        params: aiohttp.TraceRequestStartParams | aiohttp.TraceRequestExceptionParams | aiohttp.TraceRequestEndParams,
    ) -> None:
        if params.url.path.endswith(f"/{PLURAL}"):  # kopf sends other requests too
            self._tried[params.url.path] = self._clock.monotonic()

    async def _on_answer(
        self, session: aiohttp.ClientSession, context: object, params: aiohttp.TraceRequestEndParams
    ) -> None:
        await self._on_request(session, context, params)
        if params.url.path in self._tried and params.response.ok:
            self._answered[params.url.path] = self._clock.monotonic()


async def log_in(kubeconfig: Path | None, signs: WatchSigns) -> kopf.AiohttpSession:
    """Returns a ``watch_session`` with the current credentials. kopf calls it again when they are rejected."""
    return await watch_session(await load(kubeconfig), signs)


async def watch_session(configuration: Configuration, signs: WatchSigns) -> kopf.AiohttpSession:
    """Returns a session for kopf. Its number of connections is limited, because each costs memory."""
    context = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=api_client(configuration).rest_client.ssl_context)
    auth = await configuration.auth_settings()
    headers = {"User-Agent": USER_AGENT}
    if "BearerToken" in auth:
        headers["Authorization"] = str(auth["BearerToken"]["value"])
    session = aiohttp.ClientSession(
        connector=context, headers=headers, proxy=configuration.proxy, trace_configs=[signs.trace()]
    )
    return kopf.AiohttpSession(server=configuration.host, aiohttp_session=session)


@asynccontextmanager
async def translated(what: str) -> AsyncIterator[None]:
    """Translates exceptions of the client library into ``KubeError``.

    Args:
        what: what was tried, for the message.
    """
    try:
        yield
    except ApiException as error:
        raise _translation(what, error) from error
    except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, ConnectionError, json.JSONDecodeError) as e:
        raise Unavailable(f"{what}: {_in_words(e)}") from e


def _translation(what: str, error: ApiException) -> KubeError:
    try:
        said = json.loads(error.body or "")["message"]
    except (TypeError, ValueError, KeyError):
        said = error.reason or "no reason given"
    message = f"{what}: {_one_line(str(said))} (HTTP {error.status})"
    match error.status:
        case 409:
            return Conflict(message)
        case 404:
            return Gone(message)
        case 401:
            return Unauthenticated(message)
        case 403:
            return Denied(message)
        case int() as status if 400 <= status < 500 and status not in (408, 410, 429):
            return Refused(message)
        case _:
            return Unavailable(message)


def _in_words(error: BaseException) -> str:
    """Returns why a connection failed, without the tuples that aiohttp and asyncio put into their texts."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", None) or _one_line(str(error.certificate_error))
        return f"the certificate of {error.host}:{error.port} can't be verified: {why}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"can't connect to {error.host}:{error.port}: {_one_line(words.os_error(error.os_error))}"
    return _one_line(str(error)) or type(error).__name__


def _one_line(text: str) -> str:
    return " ".join(text.split())
