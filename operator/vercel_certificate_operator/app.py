"""The operator's process: what is connected to what, and how it starts and ends."""

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Collection, Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import kopf
from kubernetes.aio.client import Configuration
from pydantic import SecretStr

from vercel_certificate_operator._version import __version__
from vercel_certificate_operator.accounts import Accounts
from vercel_certificate_operator.clock import Clock, SystemClock
from vercel_certificate_operator.core.known import Limits
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.handlers import registry
from vercel_certificate_operator.handlers import settings as kopf_settings
from vercel_certificate_operator.kube import connection
from vercel_certificate_operator.kube.certificates import Certificates
from vercel_certificate_operator.kube.errors import Denied, Gone, KubeError, Refused, Unavailable
from vercel_certificate_operator.kube.events import Events
from vercel_certificate_operator.kube.leases import Lease
from vercel_certificate_operator.kube.tokens import DefaultToken, TokenMissing, Tokens
from vercel_certificate_operator.leadership import Leadership
from vercel_certificate_operator.metrics import Counted, Sources
from vercel_certificate_operator.metrics import page as metrics_page
from vercel_certificate_operator.objects import Objects, key_of
from vercel_certificate_operator.probes import Check, probe, watch_goes_on, watch_is_fresh, work_goes_on
from vercel_certificate_operator.reconciler import Reconciler, ScopeKey
from vercel_certificate_operator.settings import Address, Settings
from vercel_certificate_operator.vercel import VercelClient
from vercel_certificate_operator.web import Page, serving
from vercel_certificate_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

RESYNC = 1800.0
"""Seconds between two comparisons of what is known with a full list."""
FIRST_LOOKS = 4
"""How often, a second apart, the API server is asked at the start before it is taken to be out of reach."""
EVENTS_LIMIT = 5.0
"""Seconds that Events still to be written are waited for at the end."""
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class CannotStart(Exception):
    """The operator can't start, or go on, as it is set up. The message is one line that says what to do."""


class WatchFailed(Exception):
    """The watch has come to its end. The message is one line."""


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        CannotStart: something that the operator can't do without is missing, or has gone.
        LeadershipLost: it must not go on, and begins anew as a standby when it is started again.
    """
    clock = SystemClock()
    default_token = _default_token(settings)
    async with AsyncExitStack() as stack:
        try:
            configuration = await connection.load(settings.kubeconfig)
        except connection.NotConfigured as error:
            raise CannotStart(str(error)) from error
        leadership = await _leadership(settings, configuration, clock, stack) if settings.leader_elect else None
        fence = leadership.fence if leadership is not None else _no_fence
        client = await stack.enter_async_context(connection.api_client(configuration, fence))
        counted = Counted()
        certificates = Certificates(client)
        events = Events(client, instance=os.environ.get("HOSTNAME"))

        def new_client(token: SecretStr) -> VercelClient:
            return VercelClient(
                token,
                base_url=settings.vercel_api_url,
                post_timeout=settings.post_timeout,
                clock=clock.now,
                fence=fence,
                observe=counted.request,
            )

        try:
            await new_client(SecretStr("only-to-see-whether-it-can-be-made")).aclose()
        except ValueError as error:
            raise CannotStart(str(error)) from error
        accounts = Accounts(new_client, clock, slots=settings.max_in_flight)
        stack.push_async_callback(accounts.aclose)
        objects = Objects(settings.selector)
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
            observer=counted,
        )
        listed = asyncio.Event()
        signs = connection.WatchSigns(clock, max(1, len(settings.namespaces)))
        if settings.listen is not None:
            live: dict[str, Check] = {
                "work": work_goes_on(queue, settings.post_timeout),
                "watch": watch_goes_on(signs),
            }
            ready: dict[str, Check] = {
                "list": lambda: None if listed.is_set() else "the resources have not all been listed yet",
                "watch": watch_is_fresh(signs),
                "lease": leadership.problem if leadership is not None else lambda: None,
            }
            sources = Sources(
                objects=objects,
                queue=queue,
                accounts=accounts,
                reconciler=reconciler,
                signs=signs,
                clock=clock,
                leads=leadership.leading.is_set if leadership is not None else listed.is_set,
            )
            pages = {
                "/livez": probe("livez", live),
                "/readyz": probe("readyz", ready),
                "/metrics": metrics_page(counted, sources, per_certificate=settings.metrics_per_certificate),
            }
            await _serve(stack, settings.listen, pages)
        process = await stack.enter_async_context(_Process(reconciler, queue, events, leadership))
        await _first_look(reconciler, certificates, settings, clock)
        listed.set()
        logger.info(
            "vercel-certificate-operator %s serves %d resources in %s%s, with %s",
            __version__,
            len(objects),
            ", ".join(settings.namespaces) or "all namespaces",
            f" with labels {settings.selector.text}" if settings.selector.text else "",
            settings.vercel_api_url,
        )

        async def login() -> kopf.AiohttpSession:
            return await connection.watch_session(await connection.load(settings.kubeconfig), signs)

        async def see_all_again() -> None:
            while True:
                await clock.wait(asyncio.Event(), RESYNC)
                await _resync(reconciler, objects, certificates, settings)

        async def work() -> None:
            if leadership is not None:
                await leadership.leading.wait()
                # Everything is in the queue by now; what the watch may have missed is the last thing to know.
                await _resync(reconciler, objects, certificates, settings)
            await queue.run(reconciler.reconcile)

        process.spawn(work())
        process.spawn(see_all_again())
        try:
            await process.watch(registry(reconciler, login), settings)
        except WatchFailed as error:
            with suppress(KubeError):
                await _see_all(reconciler, certificates, settings)  # a list is refused in words
            raise CannotStart(f"the watch of VercelCertificates has failed: {error}") from error
        logger.info("stopped")


class _Process:
    """The tasks of the operator, from the first look at the cluster to the last record written."""

    def __init__(
        self,
        reconciler: Reconciler,
        queue: WorkQueue[Key | ScopeKey],
        events: Events,
        leadership: Leadership | None,
    ) -> None:
        self._reconciler = reconciler
        self._queue = queue
        self._events = events
        self._leadership = leadership
        self._tasks: set[asyncio.Task[None]] = set()
        self._signalled = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        return task

    async def watch(self, handlers: kopf.OperatorRegistry, settings: Settings) -> None:
        """Watch until a signal comes or something fails; then finish what must not be left half done."""
        stop_watch = asyncio.Event()
        # For kopf's peering, which is off. Without one, kopf asks who the user is: in a pod a number without a name.
        identity: Any = "vercel-certificate-operator"
        kopf_tasks = await kopf.spawn_tasks(
            identity=identity,
            registry=handlers,
            settings=kopf_settings(settings.selector.text),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            stop_flag=stop_watch,
        )
        self._listen()  # again: kopf has put its own handlers there
        watch = asyncio.create_task(_until_one_ends(kopf_tasks), name="watch")
        signal_task = asyncio.create_task(self._signalled.wait(), name="wait for a signal")
        election = self.spawn(self._leadership.run()) if self._leadership is not None else None
        await asyncio.wait({watch, signal_task, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        ended = {task for task in (watch, *self._tasks) if task.done()}
        signal_task.cancel()
        # The watch goes on meanwhile, so that what is still written is decided from the newest state.
        await self._finish(election)
        stop_watch.set()
        await asyncio.wait({watch})
        for task in ended | ({election} if election is not None and not election.cancelled() else set()):
            task.result()  # raises what ended it

    async def _finish(self, election: asyncio.Task[None] | None) -> None:
        """Write what is not written yet, for as long as this replica may; then another may go on at once."""
        finishing = asyncio.create_task(self._write_down())
        await asyncio.wait({finishing, *({election} if election else ())}, return_when=asyncio.FIRST_COMPLETED)
        finishing.cancel()
        if election is None or self._leadership is None:
            return
        if election.done():
            logger.error("%s: stopping at once, to begin anew as a standby", election.exception())
            for task in self._queue.running.values():
                task.cancel()  # whoever leads now finds out what came of it
            return
        election.cancel()
        await asyncio.wait({election})
        await self._leadership.release()

    async def _write_down(self) -> None:
        await self._reconciler.drain()
        await self._events.aclose(EVENTS_LIMIT)

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


async def _until_one_ends(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Run kopf's tasks until one of them ends, and end the others.

    In place of ``kopf.run_tasks``, which then ends everything else in the event loop too: the election, and issuances
    that are not written down yet.

    Raises:
        WatchFailed: one of them has failed.
    """
    ended, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for task in ended:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise WatchFailed(" ".join(str(error.args[0] if error.args else error).split())) from error


async def _serve(stack: AsyncExitStack, address: Address, pages: Mapping[str, Page]) -> None:
    """Serve pages until the stack is unwound."""
    try:
        port = await stack.enter_async_context(serving(address, pages))
    except OSError as error:
        raise CannotStart(f"--listen: {error.strerror or error}") from error
    logger.info("listening on port %d", port)


async def _leadership(
    settings: Settings, configuration: Configuration, clock: Clock, stack: AsyncExitStack
) -> Leadership:
    lease = Lease(
        # A client of its own: neither fenced, nor ever waiting for a connection behind everything else.
        await stack.enter_async_context(connection.api_client(configuration)),
        clock,
        name=settings.lease_name,
        namespace=settings.lease_namespace or _pod_namespace(),
        identity=f"{os.environ.get('HOSTNAME') or socket.gethostname()}_{secrets.token_hex(4)}",
        duration=settings.lease_duration,
    )
    return Leadership(lease, clock)


def _pod_namespace() -> str:
    try:
        return POD_NAMESPACE.read_text().strip()
    except OSError as error:
        raise CannotStart("--leader-elect needs --lease-namespace outside of a pod") from error


def _no_fence() -> str | None:
    """Without an election, this is the only process that writes."""
    return None


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


async def _first_look(reconciler: Reconciler, certificates: Certificates, settings: Settings, clock: Clock) -> None:
    """See everything; an API server that is not quite there yet (or has just learnt of the CRD) is asked again."""
    for _ in range(FIRST_LOOKS):
        try:
            await _see_all(reconciler, certificates, settings)
        except Unavailable as error:
            failure = error
            await clock.wait(asyncio.Event(), 1.0)
        else:
            return
    raise CannotStart(f"the Kubernetes API can't be used: {failure.message}") from failure


async def _see_all(reconciler: Reconciler, certificates: Certificates, settings: Settings) -> set[Key]:
    """See every resource once, so that nothing is decided from half of them.

    Raises CannotStart, or Unavailable where it may be worth another try.
    """
    keys = set()
    try:
        async for body in certificates.list(settings.namespaces, selector=settings.selector.text or None):
            reconciler.seen(body)
            keys.add(key_of(body))
    except Gone as error:
        raise CannotStart(
            "the cluster does not know VercelCertificates: install the CRD first (kubectl apply -f deploy/crds/)"
        ) from error
    except Denied as error:
        raise CannotStart(f"the operator may not list VercelCertificates: {error.message}") from error
    except Refused as error:
        raise CannotStart(f"the Kubernetes API can't be used: {error.message}") from error
    return keys


async def _resync(reconciler: Reconciler, objects: Objects, certificates: Certificates, settings: Settings) -> None:
    """Notice what the watch has not told: after an expired watch, kopf tells nothing of what was deleted meanwhile."""
    known_before = set(objects.keys())
    try:
        keys = await _see_all(reconciler, certificates, settings)
    except (CannotStart, KubeError) as error:
        logger.warning("resync: %s", error)
        return
    for key in known_before - keys:
        reconciler.vanished(key)
