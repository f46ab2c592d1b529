"""Metrics for Prometheus: ``/metrics``.

Events (requests, attempts, Kubernetes Events) are counted as they happen. States (certificates, the queue, tokens) are
computed at each scrape from what the operator knows: nothing must be kept up to date, and the series of a deleted
resource are gone at the next scrape.

Names and units follow https://prometheus.io/docs/practices/naming: base units, times as Unix time in seconds,
``_total`` for counters.
"""

import asyncio
import itertools
import platform
from collections import Counter as Tally
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from vercel_certificate_operator._version import __version__
from vercel_certificate_operator.accounts import Accounts
from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.failures import BY_CODE, BY_STATUS, RATE_LIMITED, VERCEL_UNREACHABLE, Call
from vercel_certificate_operator.core.known import Note
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.core.sightings import Place, ScopeKey
from vercel_certificate_operator.kube.connection import WatchSigns
from vercel_certificate_operator.objects import Bodies, Objects, place_of
from vercel_certificate_operator.observer import Observer
from vercel_certificate_operator.reconciler import Reconciler
from vercel_certificate_operator.vercel_time import VercelTime
from vercel_certificate_operator.web import Page, Request, Response
from vercel_certificate_operator.workqueue import WorkQueue

PREFIX = "vercel_operator_"
PAUSES = (Reason.RATE_LIMITED, Reason.CREDENTIALS_INVALID)
"""Why a token can be paused."""
ALARMS = (
    Reason.ORPHANED,
    Reason.ISSUANCE_LIMITED,
    Reason.RECORD_UNREADABLE,
    Reason.DELETION_FAILED,
    Reason.REMOVAL_FAILED,
    Reason.ATTEMPT_LOST,
    Reason.CERTIFICATE_GONE,
)
"""Warnings that are worth an alert. Their counters start at 0; otherwise the first one would not be an increase."""
NEEDS = (
    Reason.FIRST_ISSUE,
    Reason.NAMES_CHANGED,
    Reason.RENEWAL_DUE,
    Reason.RENEW_REQUESTED,
    Reason.EXPIRED,
    Reason.CERTIFICATE_GONE,
    Reason.SOURCE_CHANGED,
)
_ROWS = (*BY_CODE.values(), *BY_STATUS.values(), RATE_LIMITED, VERCEL_UNREACHABLE)
RESULTS = (Reason.ISSUED, *sorted({row.reason for row in _ROWS}))
"""The possible results of an attempt. Their counters start at 0 too: attempts are rare, and each failure counts."""
DEFAULT_TOKEN = "default"  # noqa: S105 - a name
REQUEST_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Seconds. An issuance takes several; the default limit is 120."""
ROUND_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120, 300)
"""Seconds. Most reconciliations find nothing to do."""


class Counted(Observer):
    """What has happened since the process started."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._requests = Counter(
            f"{PREFIX}vercel_requests",
            "Requests to Vercel, by call and HTTP status (none: sent but not answered; not-sent: no connection).",
            ["call", "code"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            f"{PREFIX}vercel_request_duration_seconds",
            "Duration of requests to Vercel.",
            ["call"],
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._attempts = Counter(
            f"{PREFIX}attempts",
            "Attempts to issue a certificate, by why it was needed and by result: Issued, or the reason of failure.",
            ["need", "result"],
            registry=self.registry,
        )
        self._events = Counter(
            f"{PREFIX}events",
            "Events published on resources, including repetitions, by type and reason.",
            ["type", "reason"],
            registry=self.registry,
        )
        self._rounds = Histogram(
            f"{PREFIX}reconcile_duration_seconds",
            "Duration of the reconciliation of one resource.",
            buckets=ROUND_BUCKETS,
            registry=self.registry,
        )
        self._failures = Counter(
            f"{PREFIX}reconcile_failures",
            "Failed reconciliations, by cause: the Kubernetes API, or a bug. They are repeated.",
            ["cause"],
            registry=self.registry,
        )
        for call in get_args(Call):
            self._request_seconds.labels(call)
        for need, result in itertools.product(NEEDS, RESULTS):
            self._attempts.labels(need.value, result.value)
        for reason in ALARMS:
            self._events.labels("Warning", reason.value)
        for cause in ("kubernetes", "bug"):
            self._failures.labels(cause)

    def request(self, call: str, code: str, seconds: float) -> None:
        self._requests.labels(call, code).inc()
        self._request_seconds.labels(call).observe(seconds)

    def attempt(self, need: str, result: str) -> None:
        self._attempts.labels(need, result).inc()

    def event(self, note: Note) -> None:
        self._events.labels(note.type, note.reason).inc()

    def reconciled(self, seconds: float) -> None:
        self._rounds.observe(seconds)

    def failed(self, cause: str) -> None:
        self._failures.labels(cause).inc()


@dataclass(frozen=True, slots=True)
class Sources:
    """What the other metrics are computed from."""

    objects: Objects
    queue: WorkQueue[Key | ScopeKey]
    accounts: Accounts
    reconciler: Reconciler
    signs: WatchSigns
    clock: Clock
    time: VercelTime
    leads: Callable[[], bool]
    """Whether this replica leads. A standby exports no metrics of certificates: the leader does."""


@dataclass(frozen=True, slots=True)
class TokenState:
    """The state of a token."""

    in_flight: int
    allowed: int
    waiting: int
    pause: str | None
    """Why it is paused; None: it is not."""
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state at one moment. It is consistent, because it is taken between two steps of the operator."""

    now: float
    """Unix time."""
    leads: bool
    bodies: Iterable[tuple[Key, Mapping[str, Any]]]
    tokens: Mapping[Place | None, TokenState]
    due: int
    due_seconds: float
    running: int
    running_seconds: float
    scheduled: int
    watch_seconds: float
    orphans: int
    clock_offset: float
    """Seconds."""

    @classmethod
    def take(cls, sources: Sources) -> "Snapshot":
        """Takes one. That is cheap: objects are neither copied nor parsed, because they never change."""
        leads, queue = sources.leads(), sources.queue
        due, due_seconds = (
            queue.overdue if leads else (0, 0.0)
        )  # a standby has everything in its queue, and does nothing of it
        oldest = queue.oldest
        return cls(
            now=sources.time.now().timestamp(),
            leads=leads,
            bodies=sources.objects.bodies() if leads else Bodies(),
            tokens=_tokens(sources) if leads else {},
            due=due,
            due_seconds=due_seconds,
            running=len(queue.running),
            running_seconds=oldest[1] if oldest is not None else 0.0,
            scheduled=len(queue) - due,
            watch_seconds=sources.signs.answered(),
            orphans=sources.reconciler.drift.orphans if leads else 0,
            clock_offset=sources.time.offset.total_seconds(),
        )


def _tokens(sources: Sources) -> dict[Place | None, TokenState]:
    tick, states = sources.clock.monotonic(), {}
    for place, account in sources.accounts.by_place.items():
        pause = account.pause()
        states[place] = TokenState(
            in_flight=account.in_flight,
            allowed=account.allowed,
            waiting=account.waiting,
            pause=pause.reason if pause is not None else None,
            pause_seconds=pause.until - tick if pause is not None else 0.0,
        )
    return states


class Scrape:
    """All metrics of one scrape: a collector, as the library's encoders need it."""

    def __init__(self, counted: CollectorRegistry, snapshot: Snapshot, *, per_certificate: bool) -> None:
        self._counted = counted
        self._snapshot = snapshot
        self._per_certificate = per_certificate

    def collect(self) -> Iterator[Metric]:
        yield from self._counted.collect()
        yield from _process(self._snapshot)
        if self._snapshot.leads:
            certificates = [_Certificate.of(key, body) for key, body in self._snapshot.bodies]
            yield from _certificates(self._snapshot, certificates, per_certificate=self._per_certificate)
            yield from _token_states(self._snapshot, {one.place for one in certificates})


def page(counted: Counted, sources: Sources, *, per_certificate: bool = True) -> Page:
    """Returns the page ``/metrics``.

    A thread makes the text: for ten thousand certificates that takes a good part of a second, during which the operator
    continues. One thread at a time: resolving host names needs threads too, and memory is limited.
    """
    one_at_a_time = asyncio.Lock()

    async def answer(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        async with one_at_a_time:
            scrape = Scrape(counted.registry, Snapshot.take(sources), per_certificate=per_certificate)
            body = await asyncio.to_thread(encode, scrape)
        response = Response(body=body, headers={"Content-Type": content_type})
        response.enable_compression()  # if the client accepts it
        return response

    return answer


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _labelled(name: str, text: str, labels: Iterable[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=tuple(labels))


def _process(seen: Snapshot) -> Iterator[Metric]:
    build = _labelled(
        "build_info", "The versions of the operator and of Python. Always 1.", ("version", "python_version")
    )
    build.add_metric((__version__, platform.python_version()), 1)
    yield build
    yield _gauge("leader", "1: this replica leads. 0: it is a standby.", float(seen.leads))
    yield _gauge("queue_due", "Resources that are due now and whose reconciliation has not started.", seen.due)
    yield _gauge("queue_due_age_seconds", "How long the first of them has been due.", seen.due_seconds)
    yield _gauge("queue_scheduled", "Resources that are due later.", seen.scheduled)
    yield _gauge("queue_running", "Resources whose reconciliation is in progress.", seen.running)
    yield _gauge(
        "queue_running_age_seconds", "How long the oldest of these has been in progress.", seen.running_seconds
    )
    yield _gauge("clock_offset_seconds", "Vercel's clock minus the local clock.", seen.clock_offset)
    yield _gauge("watch_age_seconds", "Time since the API server last answered a watch.", seen.watch_seconds)


def _token_states(seen: Snapshot, in_use: Container[Place | None]) -> Iterator[Metric]:
    states = [(_token_name(place), state) for place, state in seen.tokens.items() if place in in_use]
    paused = _labelled(
        "token_paused",
        "1: requests with this token, or one kind of them, are paused for this reason.",
        ("token", "reason"),
    )
    pause = _labelled("token_pause_seconds", "How long the pause still lasts.", ("token",))
    in_flight = _labelled("token_requests_in_flight", "Requests to Vercel in flight with this token.", ("token",))
    limit = _labelled(
        "token_requests_limit",
        "Maximum number of requests in flight. It is 1 after a pause and then grows.",
        ("token",),
    )
    waiting = _labelled("token_requests_waiting", "Resources that wait for a request in flight to end.", ("token",))
    for name, state in states:
        for reason in PAUSES:
            paused.add_metric((name, reason.value), float(state.pause == reason))
        pause.add_metric((name,), state.pause_seconds)
        in_flight.add_metric((name,), state.in_flight)
        limit.add_metric((name,), state.allowed)
        waiting.add_metric((name,), state.waiting)
    yield from (paused, pause, in_flight, limit, waiting)


def _certificates(seen: Snapshot, certificates: Iterable["_Certificate"], *, per_certificate: bool) -> Iterator[Metric]:
    who = ("namespace", "name")
    not_after = _labelled("certificate_not_after_timestamp_seconds", "When the certificate expires.", who)
    renewal = _labelled("certificate_renewal_timestamp_seconds", "When the certificate is due for renewal.", who)
    ready = _labelled(
        "certificate_ready", "1: the resource is Ready: it has a valid certificate that covers spec.cns.", who
    )
    info = _labelled(
        "certificate_info",
        "The reasons of the conditions Ready and Issuing. Always 1.",
        (*who, "reason", "issuing_reason"),
    )
    attempt = _labelled(
        "certificate_attempt_start_timestamp_seconds", "When the open attempt started: its outcome is unknown.", who
    )
    tally: Tally[tuple[str, str, str]] = Tally()
    overdue = expiring = 0
    unresolved: list[float] = []
    expiries: list[float] = []
    for one in certificates:
        tally[one.ready, one.reason, one.issuing_reason] += 1
        overdue += one.renewal_window_is_over(seen.now, 0.5)
        expiring += one.renewal_window_is_over(seen.now, 0.9)
        if one.attempt_start is not None:
            unresolved.append(one.attempt_start)
        if one.not_after is not None:
            expiries.append(one.not_after)
        if not per_certificate:
            continue
        labels = (one.key.namespace, one.key.name)
        ready.add_metric(labels, float(one.ready == "True"))
        info.add_metric((*labels, one.reason, one.issuing_reason), 1)
        for family, value in ((not_after, one.not_after), (renewal, one.renewal), (attempt, one.attempt_start)):
            if value is not None:
                family.add_metric(labels, value)
    if per_certificate:
        yield from (not_after, renewal, ready, info, attempt)
    counts = _labelled(
        "certificates",
        "Resources, by status and reason of the condition Ready, and by reason of Issuing.",
        ("ready", "reason", "issuing_reason"),
    )
    for state, number in tally.items():
        counts.add_metric(state, number)
    yield counts
    yield _gauge(
        "certificates_overdue",
        "Certificates for which half of the time from renewal time to expiry has passed.",
        overdue,
    )
    yield _gauge(
        "certificates_expiring", "Certificates for which nine tenths of it have passed, or all of it.", expiring
    )
    yield _gauge("attempts_unresolved", "Open attempts: their outcome is unknown.", len(unresolved))
    yield _gauge(
        "orphaned_certificates", "Certificates with the names of a resource that no resource uses.", seen.orphans
    )
    if expiries:
        yield _gauge(
            "certificates_earliest_not_after_timestamp_seconds",
            "When the first of all certificates expires.",
            min(expiries),
        )
    if unresolved:
        text = "When the oldest open attempt started."
        yield _gauge("attempts_unresolved_earliest_start_timestamp_seconds", text, min(unresolved))


@dataclass(frozen=True, slots=True)
class _Certificate:
    """What metrics report about one resource. It is read from the raw object: with ten thousand resources, Pydantic
    would take several seconds for each scrape."""

    key: Key
    place: Place | None
    """Where its token is."""
    ready: str
    reason: str
    issuing_reason: str
    not_after: float | None
    renewal: float | None
    attempt_start: float | None

    @classmethod
    def of(cls, key: Key, body: Mapping[str, Any]) -> "_Certificate":
        status = body.get("status") or {}
        conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
        ready, issuing = conditions.get("Ready") or {}, conditions.get("Issuing") or {}
        return cls(
            key=key,
            place=place_of(key.namespace, body),
            ready=ready.get("status") or "Unknown",
            reason=ready.get("reason") or "",
            issuing_reason=issuing.get("reason") or "",
            not_after=_timestamp(status.get("expiresAt")),
            renewal=_timestamp(status.get("renewalTime")),
            attempt_start=_unresolved_since(status),
        )

    def renewal_window_is_over(self, now: float, share: float) -> bool:
        """Returns whether this share of the time from its renewal time to its expiry has passed."""
        if self.not_after is None or self.renewal is None:
            return False
        return now - self.renewal > share * (self.not_after - self.renewal)


def _timestamp(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def _unresolved_since(status: Mapping[str, Any]) -> float | None:
    attempt = status.get("attempt") or {}
    return _timestamp(attempt.get("start")) if "outcome" not in attempt else None


def _token_name(place: Place | None) -> str:
    """Returns where a token is. It reveals nothing of the token."""
    return "/".join(place) if place is not None else DEFAULT_TOKEN
