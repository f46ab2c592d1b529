"""The operator's process: what is connected to what, and how it starts and ends."""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Self

import kopf
from pydantic import SecretStr

from vercel_certificate_operator._version import __version__
from vercel_certificate_operator.accounts import Accounts
from vercel_certificate_operator.clock import SystemClock
from vercel_certificate_operator.core.known import Limits
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.handlers import registry
from vercel_certificate_operator.handlers import settings as kopf_settings
from vercel_certificate_operator.kube import connection
from vercel_certificate_operator.kube.certificates import Certificates
from vercel_certificate_operator.kube.errors import Denied, Gone, KubeError
from vercel_certificate_operator.kube.events import Events
from vercel_certificate_operator.kube.tokens import DefaultToken, TokenMissing, Tokens
from vercel_certificate_operator.objects import Objects, key_of
from vercel_certificate_operator.reconciler import Reconciler, ScopeKey
from vercel_certificate_operator.settings import Settings
from vercel_certificate_operator.vercel import VercelClient
from vercel_certificate_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

RESYNC = 1800.0
"""Seconds between two comparisons of what is known with a full list."""
EVENTS_LIMIT = 5.0
"""Seconds that Events still to be written are waited for at the end."""


class CannotStart(Exception):
    """The operator can't start as it is set up. The message is one line that says what to do."""


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        CannotStart: something that the operator can't do without is missing.
    """
    clock = SystemClock()
    default_token = _default_token(settings)
    async with AsyncExitStack() as stack:
        try:
            configuration = await connection.load(settings.kubeconfig)
        except connection.NotConfigured as error:
            raise CannotStart(str(error)) from error
        client = await stack.enter_async_context(connection.api_client(configuration))
        certificates = Certificates(client)
        events = Events(client, instance=os.environ.get("HOSTNAME"))

        def new_client(token: SecretStr) -> VercelClient:
            return VercelClient(
                token, base_url=settings.vercel_api_url, post_timeout=settings.post_timeout, clock=clock.now
            )

        try:
            await new_client(SecretStr("only-to-see-whether-it-can-be-made")).aclose()
        except ValueError as error:
            raise CannotStart(str(error)) from error
        accounts = Accounts(new_client, clock, slots=settings.max_in_flight)
        stack.push_async_callback(accounts.aclose)
        objects = Objects()
        queue: WorkQueue[Key | ScopeKey] = WorkQueue(clock)
        reconciler = Reconciler(
            objects=objects,
            queue=queue,
            certificates=certificates,
            events=events,
            tokens=Tokens(client, default_token, clock),
            accounts=accounts,
            clock=clock,
            scope=settings.scope,
            limits=Limits(post=timedelta(seconds=settings.post_timeout)),
            drift_interval=settings.drift_interval,
        )
        process = await stack.enter_async_context(_Process(reconciler, queue, events))
        await _see_all(reconciler, certificates, settings)
        logger.info(
            "vercel-certificate-operator %s serves %d resources in %s, with %s",
            __version__,
            len(objects),
            ", ".join(settings.namespaces) or "all namespaces",
            settings.vercel_api_url,
        )

        async def login() -> kopf.AiohttpSession:
            return await connection.watch_session(await connection.load(settings.kubeconfig))

        async def see_all_again() -> None:
            while True:
                await clock.wait(asyncio.Event(), RESYNC)
                await _resync(reconciler, objects, certificates, settings)

        process.spawn(queue.run(reconciler.reconcile))
        process.spawn(see_all_again())
        await process.watch(registry(reconciler, login), settings)
        logger.info("stopped")


class _Process:
    """The tasks of the operator, from the first look at the cluster to the last record written."""

    def __init__(self, reconciler: Reconciler, queue: WorkQueue[Key | ScopeKey], events: Events) -> None:
        self._reconciler = reconciler
        self._queue = queue
        self._events = events
        self._tasks: set[asyncio.Task[None]] = set()
        self._signalled = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(coroutine))

    async def watch(self, handlers: kopf.OperatorRegistry, settings: Settings) -> None:
        """Watch until a signal comes or something fails; then finish what must not be left half done."""
        before = asyncio.all_tasks()
        stop_watch = asyncio.Event()
        kopf_tasks = await kopf.spawn_tasks(
            registry=handlers,
            settings=kopf_settings(),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            stop_flag=stop_watch,
        )
        self._listen()  # again: kopf has put its own handlers there
        watch = asyncio.create_task(kopf.run_tasks(kopf_tasks, ignored=before), name="watch")
        signal_task = asyncio.create_task(self._signalled.wait(), name="wait for a signal")
        done, _ = await asyncio.wait({watch, signal_task, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        signal_task.cancel()
        # The watch goes on meanwhile, so that what is still written is decided from the newest state.
        await self._reconciler.drain()
        await self._events.flush(EVENTS_LIMIT)
        stop_watch.set()
        await asyncio.wait({watch})
        for task in done - {signal_task}:
            task.result()  # raises what ended it

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        """A first signal: finish. A second: at once, and let the next start find out what was under way."""
        if self._signalled.is_set():
            logger.warning("%s again: stopping at once", number.name)
            for task in self._queue.running.values():
                task.cancel()
        else:
            logger.info("%s: stopping", number.name)
            self._signalled.set()


def _default_token(settings: Settings) -> DefaultToken:
    """The default token, seen to be readable where one is set."""
    token = DefaultToken(
        file=settings.vercel_token_file,
        value=settings.vercel_token,
        namespaces=settings.default_token_namespaces,
    )
    if settings.vercel_token_file is None and settings.vercel_token is None:
        logger.info("no default token is set: only resources with spec.tokenSecretRef get certificates")
        return token
    try:
        token.read()
    except TokenMissing as error:
        raise CannotStart(f"{error}. Write a Vercel token there (vercel.com, Account Settings, Tokens)") from error
    return token


async def _see_all(reconciler: Reconciler, certificates: Certificates, settings: Settings) -> set[Key]:
    """See every resource once, so that nothing is decided from half of them."""
    keys = set()
    try:
        async for body in certificates.list(settings.namespaces):
            reconciler.seen(body)
            keys.add(key_of(body))
    except Gone as error:
        raise CannotStart(
            "the cluster does not know VercelCertificates: install the CRD first (kubectl apply -f deploy/crds/)"
        ) from error
    except Denied as error:
        raise CannotStart(f"the operator may not list VercelCertificates: {error.message}") from error
    except KubeError as error:
        raise CannotStart(f"the Kubernetes API can't be used: {error.message}") from error
    return keys


async def _resync(reconciler: Reconciler, objects: Objects, certificates: Certificates, settings: Settings) -> None:
    """Notice what the watch has not told: after an expired watch, kopf tells nothing of what was deleted meanwhile."""
    known_before = set(objects.keys())
    try:
        keys = await _see_all(reconciler, certificates, settings)
    except CannotStart as error:
        logger.warning("resync: %s", error)
        return
    for key in known_before - keys:
        reconciler.vanished(key)
