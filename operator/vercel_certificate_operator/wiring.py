"""Builds an operator from its parts, in one place.

The process (``app``) and the tests use the same function, so that neither can forget an argument. All defaults are in
``settings``.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from vercel_certificate_operator.accounts import Accounts
from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.known import Limits
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.core.sightings import ScopeKey, tenant_of
from vercel_certificate_operator.kube.connection import ApiClient, WatchSigns
from vercel_certificate_operator.kube.events import Events
from vercel_certificate_operator.kube.secrets import Secrets
from vercel_certificate_operator.kube.tls_secrets import TlsSecrets
from vercel_certificate_operator.kube.tokens import DefaultToken, Tokens
from vercel_certificate_operator.kube.vercel_certificates import VercelCertificates
from vercel_certificate_operator.leadership import Fence
from vercel_certificate_operator.metrics import Counted, Sources
from vercel_certificate_operator.objects import Objects
from vercel_certificate_operator.reconciler import Reconciler
from vercel_certificate_operator.settings import Settings
from vercel_certificate_operator.vercel import Network, NetworkError, VercelClient
from vercel_certificate_operator.vercel_time import VercelTime
from vercel_certificate_operator.workqueue import WorkQueue


class CannotStart(Exception):
    """The operator can't start, or continue, as it is configured. The message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Operator:
    """The parts of one operator. All of them start empty: an operator that was just built knows nothing."""

    objects: Objects
    queue: WorkQueue[Key | ScopeKey]
    certificates: VercelCertificates
    events: Events
    tokens: Tokens
    accounts: Accounts
    reconciler: Reconciler
    counted: Counted
    signs: WatchSigns
    clock: Clock
    time: VercelTime

    @property
    def working(self) -> set[asyncio.Task[None]]:
        """The tasks in progress: reconciliations, POSTs in flight, and lists."""
        return {*self.queue.running.values(), *self.reconciler.posts.tasks.values(), *self.accounts.lists}

    def sources(self, leads: Callable[[], bool]) -> Sources:
        """Returns the sources of the metrics.

        Args:
            leads: whether this replica leads.
        """
        return Sources(
            objects=self.objects,
            queue=self.queue,
            accounts=self.accounts,
            reconciler=self.reconciler,
            signs=self.signs,
            clock=self.clock,
            time=self.time,
            leads=leads,
        )


def random_id() -> str:
    """Returns a new id for an attempt: 16 hexadecimal digits."""
    return secrets.token_hex(8)


def build(
    settings: Settings,
    *,
    api: ApiClient,
    clock: Clock,
    fence: Fence,
    time: VercelTime | None = None,
    instance: str | None = None,
    certificates_class: type[VercelCertificates] = VercelCertificates,
    new_id: Callable[[], str] = random_id,
) -> Operator:
    """Builds an operator. It sends no request yet.

    Args:
        settings: everything that a user can choose.
        api: the client for the Kubernetes API. If there is an election, it has the same fence.
        clock: the source of time for all parts.
        fence: asked before each request that changes something at Vercel.
        time: Vercel's time, which the client for the Kubernetes API informs too.
        instance: the name under which Events are written. None: the host's name.
        certificates_class: for tests that interfere with requests for VercelCertificates.
        new_id: returns a new id for an attempt, never the same twice.

    Raises:
        CannotStart: the environment (proxies, certificate authorities) can't be used.
    """
    try:
        network = Network.for_url(settings.vercel_api_url)
    except NetworkError as error:
        raise CannotStart(str(error)) from error
    counted, time = Counted(), time or VercelTime(clock)
    client_for = partial(
        VercelClient,
        base_url=settings.vercel_api_url,
        post_timeout=settings.post_timeout,
        timeout=settings.call_timeout,
        # A call that has a slot must not wait for a connection.
        connections=settings.max_in_flight,
        network=network,
        clock=clock.now,
        fence=fence,
        observe=counted.request,
        dated=time.vercel_said,
        clocks=time.by_each_clock,
        ticks=clock.monotonic,
    )
    limits = Limits(
        post=timedelta(seconds=settings.post_timeout),
        issuances=settings.issuance_limit,
        source_poll=settings.source_poll_interval,
    )
    objects = Objects(settings.selector, settings.scope, clock.monotonic, turn=limits.grace)
    queue: WorkQueue[Key | ScopeKey] = WorkQueue(clock, group_of=tenant_of)
    certificates = certificates_class(api)
    events = Events(api, instance=instance)
    of_cluster = Secrets(api)
    sources = TlsSecrets(of_cluster, allowed=settings.uploads)
    tokens = Tokens(of_cluster, default_token(settings), clock)
    accounts = Accounts(client_for, clock, slots=settings.max_in_flight)
    reconciler = Reconciler(
        objects=objects,
        queue=queue,
        certificates=certificates,
        events=events,
        tokens=tokens,
        sources=sources,
        accounts=accounts,
        clock=clock,
        time=time,
        scope=settings.scope,
        limits=limits,
        drift_interval=settings.drift_interval,
        longest_sleep=settings.longest_sleep,
        new_id=new_id,
        observer=counted,
    )
    signs = WatchSigns(clock, watches=max(1, len(settings.namespaces)))
    return Operator(objects, queue, certificates, events, tokens, accounts, reconciler, counted, signs, clock, time)


def default_token(settings: Settings) -> DefaultToken:
    """Returns the default token, which may not exist."""
    return DefaultToken(
        file=settings.vercel_token_file,
        value=settings.vercel_token,
        namespaces=settings.default_token_namespaces,
    )
