"""``run``: starts an operator with its settings, step by step."""

import logging
import os
import platform
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

from vercel_certificate_operator import handlers
from vercel_certificate_operator._version import __version__
from vercel_certificate_operator.clock import Clock, SystemClock
from vercel_certificate_operator.core import words
from vercel_certificate_operator.kube import connection
from vercel_certificate_operator.kube.errors import KubeError
from vercel_certificate_operator.kube.leases import Lease
from vercel_certificate_operator.kube.tokens import TokenMissing
from vercel_certificate_operator.leadership import Election, Leadership, SingleReplica
from vercel_certificate_operator.metrics import page as metrics_page
from vercel_certificate_operator.probes import probe, watch_goes_on, watch_is_fresh, work_goes_on
from vercel_certificate_operator.process import Process, WatchFailed
from vercel_certificate_operator.resync import Resync
from vercel_certificate_operator.settings import ALL_NAMESPACES, Address, Settings
from vercel_certificate_operator.vercel_time import VercelTime
from vercel_certificate_operator.web import Page, serving
from vercel_certificate_operator.wiring import CannotStart, Operator, build, default_token

logger = logging.getLogger(__name__)

POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


async def run(settings: Settings) -> None:
    """Runs the operator until SIGTERM or SIGINT.

    Raises:
        CannotStart: the configuration is invalid, or something that the operator needs is missing.
        LeadershipLost: another replica leads. When this one starts again, it is a standby.
    """
    clock = SystemClock()
    time = VercelTime(clock)
    logger.info("vercel-certificate-operator %s: %s", __version__, who_may_use_the_default_token(settings))
    _check_default_token(settings)
    async with AsyncExitStack() as stack:
        try:
            configuration = await connection.load(settings.kubeconfig)
        except connection.NotConfigured as error:
            raise CannotStart(str(error)) from error
        election = await _election(settings, configuration, clock, stack)
        api = await stack.enter_async_context(
            connection.api_client(configuration, election.fence, time.kubernetes_said)
        )
        operator = build(
            settings, api=api, clock=clock, time=time, fence=election.fence, instance=os.environ.get("HOSTNAME")
        )
        stack.push_async_callback(operator.accounts.aclose)
        resync = Resync(operator, settings, clock)
        if settings.listen is not None:
            await _listen(settings.listen, _pages(operator, settings, election, resync), stack)
        process = await stack.enter_async_context(Process(operator, election))
        await resync.first()
        logger.info(
            "vercel-certificate-operator %s serves %d resources in %s%s, with %s",
            __version__,
            len(operator.objects),
            ", ".join(settings.namespaces) or "all namespaces",
            f" with labels {settings.selector.text}" if settings.selector.text else "",
            settings.vercel_api_url,
        )
        process.spawn(_work(operator, election, resync))
        process.spawn(resync.run())
        login = partial(connection.log_in, settings.kubeconfig, operator.signs)
        try:
            await process.watch(
                handlers.registry(operator.reconciler, login),
                handlers.settings(settings.selector.text),
                settings.namespaces,
            )
        except WatchFailed as error:
            with suppress(KubeError):
                await resync.listed()  # a list is refused in words
            raise CannotStart(f"the watch of VercelCertificates has failed: {error}") from error
        logger.info("stopped")


async def _work(operator: Operator, election: Election, resync: Resync) -> None:
    """Reconciles what is due as soon as this replica leads."""
    if not election.leading.is_set():
        await election.leading.wait()
        await resync.again()  # the watch may have missed something
    await operator.queue.run(operator.reconciler.reconcile)


async def _election(
    settings: Settings, configuration: connection.Configuration, clock: Clock, stack: AsyncExitStack
) -> Election:
    if not settings.leader_elect:
        return SingleReplica()
    lease = Lease(
        # Its own client has no fence and never waits for a connection that other requests use.
        await stack.enter_async_context(connection.api_client(configuration)),
        clock,
        name=settings.lease_name,
        namespace=settings.lease_namespace or _pod_namespace(),
        identity=f"{os.environ.get('HOSTNAME') or platform.node()}_{secrets.token_hex(4)}",
        duration=settings.lease_duration,
    )
    return Leadership(lease, clock)


def _pod_namespace() -> str:
    try:
        return POD_NAMESPACE.read_text().strip()
    except OSError as error:
        raise CannotStart("--leader-elect needs --lease-namespace if the operator does not run in a pod") from error


def _pages(operator: Operator, settings: Settings, election: Election, resync: Resync) -> Mapping[str, Page]:
    """Returns the pages of the HTTP server by path."""
    live = {"work": work_goes_on(operator.queue, settings.post_timeout), "watch": watch_goes_on(operator.signs)}
    ready = {"list": resync.problem, "watch": watch_is_fresh(operator.signs), "lease": election.problem}
    sources = operator.sources(lambda: election.leading.is_set() and resync.complete.is_set())
    return {
        "/livez": probe("livez", live),
        "/readyz": probe("readyz", ready),
        "/metrics": metrics_page(operator.counted, sources, per_certificate=settings.metrics_per_certificate),
    }


async def _listen(address: Address, pages: Mapping[str, Page], stack: AsyncExitStack) -> None:
    """Serves pages until the stack is closed."""
    try:
        port = await stack.enter_async_context(serving(address, pages))
    except OSError as error:
        raise CannotStart(f"--listen: can't listen on {address}: {words.os_error(error)}") from error
    logger.info("listening on port %d", port)


def who_may_use_the_default_token(settings: Settings) -> str:
    """Returns which namespaces may use the default token, for the first line of the log."""
    if not settings.has_default_token:
        return "there is no default token: only resources with spec.tokenSecretRef get certificates"
    named = ", ".join(name for name in settings.default_token_namespaces if name != ALL_NAMESPACES)
    if ALL_NAMESPACES not in settings.default_token_namespaces:
        return f"only these namespaces may use the default token: {named}"
    return "all namespaces may use the default token" + (f", and these may adopt with it: {named}" if named else "")


def _check_default_token(settings: Settings) -> None:
    """Raises CannotStart if there is a default token that can't be read."""
    if not settings.has_default_token:
        return
    try:
        default_token(settings).read()
    except TokenMissing as error:
        raise CannotStart(f"{error}. Write a Vercel token there (vercel.com, Account Settings, Tokens)") from error
