"""A stand-in for the API server, in memory: what the operator uses of one, as fast as a dict and the same in each run.

Uids and resourceVersions are counters, and times come from the test's clock, so that a run can be repeated exactly.
It sits below the real client library, in the place of its HTTP connection: everything above runs unchanged.
``tests/random_lives/test_memory_api.py`` holds it against a real API server.
"""

import asyncio
import copy
import functools
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Protocol, TypeVar, cast
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

from support.clock import START, TestClock, settle
from support.process import Gate, GatedClock, gated
from support.shortcut import shorten
from support.world import OTHER_TOKEN, TOKEN, TrueTime, World, settings_for
from vercel_certificate_operator.core.resource import GROUP, PLURAL
from vercel_certificate_operator.kube import connection
from vercel_certificate_operator.objects import key_of
from vercel_certificate_operator.vercel import Network
from vercel_certificate_operator.vercel_time import VercelTime
from vercel_certificate_operator.wiring import Operator, build
from vercel_emulator import Emulator

T = TypeVar("T")

Body = dict[str, Any]
Place = tuple[str, str, str]
"""Resource (its plural), namespace, name."""

TURNS = 12
"""Of the event loop after each step of the clock. What takes longer is waited for."""
KINDS = {PLURAL: "VercelCertificate", "secrets": "Secret", "events": "Event", "leases": "Lease"}


class Refusal(Exception):
    """A request that is refused: HTTP status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class ApiFault:
    """What goes wrong with the operator's next requests of this method."""

    method: str
    """GET, POST, PUT, PATCH or DELETE; ``*``: any."""
    status: int | None = None
    """The request is not carried out, and answered with this status. None: no answer comes at all."""
    done: bool = False
    """Whether it is carried out all the same, before its answer is lost."""
    times: int = 1
    what: str = PLURAL
    """The resource that the request is about, by its plural."""
    then: Callable[[], Awaitable[None]] | None = None
    """Called in the place of an answer, if there is none: the end of a process, say."""


class Now(Protocol):
    """The clock of the API server."""

    def now(self) -> datetime:
        """Returns the time of the wall clock, aware, in UTC."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that the operator made."""

    at: float
    """On the monotonic clock."""
    method: str
    path: str


Observer = Callable[[Body | None, Body | None], None]
"""Called with a VercelCertificate before and after a change; None: it does not exist."""


class MemoryApi:
    """The objects and the requests that the stand-in supports."""

    def __init__(self, clock: Now, monotonic: Callable[[], float] = lambda: 0.0) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._objects: dict[Place, Body] = {}
        self._names: dict[tuple[str, str], list[str]] = {}
        """Of the objects of a resource in a namespace, sorted; until one is created or removed."""
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)
        self.faults: list[ApiFault] = []
        self.asked: list[Asked] = []
        """What the operator's processes requested, Events and Leases aside."""
        self.lacks: str | None = None
        """A field of status that the installed definition lacks, with a dot between names: it is dropped."""
        self.dropped = 0
        """How many values of it."""
        self.by_operator = False
        """Whether the request in progress is the operator's, for observers."""
        self.observers: list[Observer] = []
        self.changes = 0
        """How often something was created, changed, removed or restored."""

    def client(
        self, *, faulty: bool = False, gate: Gate | None = None, dated: Callable[[str | None], None] | None = None
    ) -> ApiClient:
        """Returns a client of the real library.

        Args:
            faulty: its requests meet the faults, and are counted.
            gate: of the process that makes the requests.
            dated: called with the Date header of each answer.
        """
        client = _without_a_server(gate.fence if gate is not None else None, dated)
        client.rest_client = cast(Any, _Connection(self, faulty=faulty, gate=gate))
        return client

    def resources(self) -> list[Body]:
        """Returns all VercelCertificates, as they are now."""
        return [body for place, body in self._objects.items() if place[0] == PLURAL]

    @property
    def date(self) -> str:
        """Returns the Date header of an answer."""
        return format_datetime(self._clock.now().astimezone(UTC), usegmt=True)

    def backup(self) -> "Backup":
        """Returns a copy of everything, as a backup of etcd is."""
        return Backup(copied(self._objects))

    def restore(self, backup: "Backup") -> None:
        """Replaces all VercelCertificates by those of a backup of etcd, which have older resourceVersions."""
        self.by_operator = False
        before = {place: body for place, body in self._objects.items() if place[0] == PLURAL}
        after = {place: body for place, body in backup.objects.items() if place[0] == PLURAL}
        self._objects = {place: body for place, body in self._objects.items() if place[0] != PLURAL}
        self._objects |= copied(after)
        self._names.clear()
        self.changes += 1
        for place in before.keys() | after.keys():
            self._observed(before.get(place), after.get(place))

    def _observed(self, before: Body | None, after: Body | None) -> None:
        for observer in self.observers:
            observer(before, after)

    def handle(self, method: str, url: str, body: Any, content_type: str) -> Body:
        """Carries out one request and returns the answer. Raises Refusal."""
        parts = urlsplit(url)
        place, subresource = _place(parts.path)
        query = dict(parse_qsl(parts.query))
        match method:
            case "GET" if place[2] == "":
                return self._list(place, query)
            case "GET":
                return self._there(place)
            case "POST":
                return self._create(place, body)
            case "PATCH":
                return self._patch(place, subresource, body, content_type, dry_run=query.get("dryRun") == "All")
            case "PUT":
                return self._replace(place, body)
            case "DELETE":
                return self._delete(place)
        raise Refusal(405, f"{method} is not possible here")

    # --- the verbs

    def _list(self, place: Place, query: Mapping[str, str]) -> Body:
        names = self._names_in(place[:2])
        start, limit = int(query.get("continue", 0)), int(query.get("limit", 0)) or len(names)
        items = [self._objects[*place[:2], name] for name in names[start : start + limit]]
        metadata = {"continue": str(start + limit)} if start + limit < len(names) else {}
        return {"kind": f"{KINDS[place[0]]}List", "metadata": metadata, "items": items}

    def _names_in(self, collection: tuple[str, str]) -> list[str]:
        if collection not in self._names:
            self._names[collection] = sorted(name for *there, name in self._objects if tuple(there) == collection)
        return self._names[collection]

    def _there(self, place: Place) -> Body:
        if place not in self._objects:
            raise Refusal(404, f'{place[0]} "{place[2]}" not found')
        return self._objects[place]

    def _create(self, place: Place, body: Body) -> Body:
        new = copied(body)
        metadata = new["metadata"]
        place = (*place[:2], metadata["name"])
        if place in self._objects:
            raise Refusal(409, f'{place[0]} "{place[2]}" already exists')
        if place[0] == PLURAL:
            new.pop("status", None)
            metadata["generation"] = 1
            _set_defaults(new["spec"])
        metadata |= {
            "namespace": place[1],
            "uid": f"00000000-0000-4000-8000-{next(self._uids):012}",
            "creationTimestamp": _time(self._clock.now()),
            "resourceVersion": str(next(self._versions)),
        }
        metadata.pop("deletionTimestamp", None)
        _drop_what_is_empty(metadata)
        self._objects[place] = new
        self.changes += 1
        self._names.pop(place[:2], None)
        if place[0] == PLURAL:
            self._observed(None, new)
        return new

    def _patch(self, place: Place, subresource: str, patch: Any, content_type: str, *, dry_run: bool = False) -> Body:
        before = self._there(place)
        if content_type == "application/json-patch+json":
            after = _json_patched(before, patch)
        else:
            wanted = patch.get("metadata", {})
            # A wrong uid is accepted on the status subresource, which is why the operator does not go this way.
            for name, status in (("resourceVersion", 409), ("uid", 422)):
                if name in wanted and wanted[name] != before["metadata"][name] and not subresource:
                    raise Refusal(status, f"Operation cannot be fulfilled on {place[0]} {place[2]!r}: {name} differs")
            after = _merged(before, patch)
        if place[0] == PLURAL:
            after = _only_status(before, after) if subresource else _all_but_status(before, after)
        return self._store(place, before, after, dry_run=dry_run)

    def _replace(self, place: Place, body: Body) -> Body:
        before = self._there(place)
        if body["metadata"].get("resourceVersion", before["metadata"]["resourceVersion"]) != _version(before):
            raise Refusal(409, f"Operation cannot be fulfilled on {place[0]} {place[2]!r}: it has been modified")
        after = copied(body)
        return self._store(place, before, _all_but_status(before, after) if place[0] == PLURAL else after)

    def _delete(self, place: Place) -> Body:
        before = self._there(place)
        after = copied(before)
        if before["metadata"].get("finalizers") and not before["metadata"].get("deletionTimestamp"):
            after["metadata"] |= {"deletionTimestamp": _time(self._clock.now()), "deletionGracePeriodSeconds": 0}
            after["metadata"]["generation"] += 1
        answer = self._store(place, before, after, deleting=True)
        return answer if place in self._objects else {"kind": "Status", "status": "Success"}

    def _store(self, place: Place, before: Body, after: Body, *, deleting: bool = False, dry_run: bool = False) -> Body:
        metadata = after["metadata"]
        if self.lacks is not None and place[0] == PLURAL:
            dropped = _drop(after.get("status"), self.lacks.split("."))
            self.dropped += dropped if not dry_run else 0
        if dry_run:
            return after
        for fixed in ("name", "namespace", "uid", "creationTimestamp", "resourceVersion"):
            metadata[fixed] = before["metadata"][fixed]
        _drop_what_is_empty(metadata)
        going = deleting or metadata.get("deletionTimestamp")
        if going and not metadata.get("finalizers"):
            self._names.pop(place[:2], None)
            self.changes += 1
            del self._objects[place]  # the version in the answer is the one before
            if place[0] == PLURAL:
                self._observed(before, None)
            return after
        if after != before:
            metadata["resourceVersion"] = str(next(self._versions))
            self.changes += 1
        self._objects[place] = after
        if place[0] == PLURAL and after != before:
            self._observed(before, after)
        return after


@dataclass(frozen=True, slots=True)
class Backup:
    """A copy of all objects."""

    objects: dict[Place, Body]


def _place(path: str) -> tuple[Place, str]:
    """Returns what ``/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL[/NAME[/status]]`` (or ``/api/v1/…``) names."""
    parts = path.strip("/").split("/")
    rest = parts[3 if parts[0] == "apis" else 2 :]
    if len(rest) < 3 or rest[0] != "namespaces" or rest[2] not in KINDS:
        raise Refusal(404, "the server could not find the requested resource")
    return (rest[2], rest[1], rest[3] if len(rest) > 3 else ""), rest[4] if len(rest) > 4 else ""


def copied(value: T) -> T:
    """Returns a copy of JSON, in a fifth of the time that ``copy.deepcopy`` takes."""
    if isinstance(value, dict):
        return cast(T, {name: copied(member) for name, member in value.items()})
    if isinstance(value, list):
        return cast(T, [copied(item) for item in value])
    return value


def _version(body: Body) -> str:
    return str(body["metadata"]["resourceVersion"])


def _drop(value: Any, way: Sequence[str]) -> int:
    """Removes a field, where it is; of lists, of each item. Returns how often it was there."""
    items = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]
    if len(way) > 1:
        return sum(_drop(item.get(way[0]), way[1:]) for item in items)
    return sum(item.pop(way[0], None) is not None for item in items)


def _set_defaults(spec: Body) -> None:
    """Sets the defaults of the CustomResourceDefinition."""
    spec.setdefault("deletionPolicy", "Delete")
    spec.setdefault("suspend", False)
    spec.setdefault("existingCertificate", "Reuse")


def _drop_what_is_empty(metadata: Body) -> None:
    for name in ("finalizers", "annotations", "labels"):
        if name in metadata and not metadata[name]:
            del metadata[name]


def _merged(target: Any, patch: Any) -> Any:
    """Returns the result of a merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return copied(patch)
    result = copied(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def _json_patched(target: Body, patch: Sequence[Body]) -> Body:
    """Returns the result of a JSON Patch (RFC 6902). Supports ``test``, and ``add`` of a member of an object."""
    result = copied(target)
    for operation in patch:
        *way, last = (part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:])
        parent: Any = result
        for part in way:
            parent = parent.get(part) if isinstance(parent, dict) else None
        if not isinstance(parent, dict):
            raise Refusal(422, f"the path {operation['path']} does not exist")
        if operation["op"] == "test":
            if parent.get(last) != operation["value"]:
                raise Refusal(422, f"testing value {operation['path']} failed")
        elif operation["op"] == "add":
            parent[last] = copied(operation["value"])
        else:
            raise Refusal(400, f"{operation['op']} is not supported by this stand-in")
    return result


def _only_status(before: Body, after: Body) -> Body:
    result = copied(before)
    result.pop("status", None)
    if after.get("status"):
        result["status"] = after["status"]
    return result


def _all_but_status(before: Body, after: Body) -> Body:
    result = copied(after)
    result.pop("status", None)
    if "status" in before:
        result["status"] = before["status"]
    _set_defaults(result["spec"])
    for fixed in ("generation", "deletionTimestamp"):
        if fixed in before["metadata"]:
            result["metadata"][fixed] = before["metadata"][fixed]
    if result["spec"] != before["spec"]:
        result["metadata"]["generation"] += 1
    added = set(result["metadata"].get("finalizers") or ()) - set(before["metadata"].get("finalizers") or ())
    if added and before["metadata"].get("deletionTimestamp"):
        raise Refusal(
            422, "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted"
        )
    return result


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- the connection ---------------------------------------------------------------------------------------------------


@dataclass
class _Answer:
    """The parts of a response that the client library uses."""

    status: int
    data: bytes
    date: str
    reason: str = ""

    async def read(self) -> bytes:
        return self.data

    @property
    def headers(self) -> Mapping[str, str]:
        return {"content-type": "application/json", "Date": self.date}

    def getheaders(self) -> Mapping[str, str]:
        return self.headers


class _Connection:
    """Replaces the HTTP client of the client library."""

    def __init__(self, api: MemoryApi, *, faulty: bool, gate: Gate | None) -> None:
        self._api = api
        self._faulty = faulty
        self._gate = gate

    async def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: Any = None, **_: object
    ) -> _Answer:
        await asyncio.sleep(0)
        point = "event" if "/events" in url else method
        if self._gate is not None:
            await self._gate.passed((point, "before"))
        try:
            return await self._request(method, url, (headers or {}).get("Content-Type", "application/json"), body)
        finally:
            if self._gate is not None:
                await self._gate.passed((point, "after"))

    async def _request(self, method: str, url: str, content_type: str, body: Any) -> _Answer:
        if self._faulty and "/events" not in url:
            self._api.asked.append(Asked(self._api._monotonic(), method, urlsplit(url).path))
        fault = self._fault(method, url) if self._faulty else None
        if fault is not None and fault.status is not None:
            return self._refused(fault.status, "The stand-in was told to answer so.")
        self._api.by_operator = self._faulty
        try:
            answer = None if fault is not None and not fault.done else self._api.handle(method, url, body, content_type)
        except Refusal as refusal:
            return self._refused(refusal.status, str(refusal))
        if fault is not None:
            if fault.then is not None:
                await fault.then()
            raise aiohttp.ServerDisconnectedError
        assert answer is not None
        return _Answer(201 if method == "POST" else 200, json.dumps(answer).encode(), self._api.date)

    def _fault(self, method: str, url: str) -> ApiFault | None:
        for fault in self._api.faults:
            if fault.method in {method, "*"} and f"/{fault.what}" in url:
                fault.times -= 1
                if fault.times <= 0:
                    self._api.faults.remove(fault)
                return fault
        return None

    def _refused(self, status: int, message: str) -> _Answer:
        said = {"kind": "Status", "status": "Failure", "message": message, "code": status}
        return _Answer(status, json.dumps(said).encode(), self._api.date)

    async def close(self) -> None:
        """Does nothing: no connection is open."""


@functools.cache
def _model_client() -> ApiClient:
    """Returns a client to copy, because reading the machine's certificate authorities takes long."""
    return connection.api_client(Configuration(host="http://api-server.invalid"))


def _without_a_server(fence: Callable[[], str | None] | None, dated: Callable[[str | None], None] | None) -> ApiClient:
    """Returns a client that has no server yet."""
    client: Any = copy.copy(_model_client())
    client.default_headers = dict(client.default_headers)
    client._fence, client._dated = fence, dated
    return cast(ApiClient, client)


@functools.cache
def _network() -> Network:
    """Returns the network settings. They are created once, because a TLS context takes 18 ms."""
    return Network.for_url("http://127.0.0.1")


class ServerClock:
    """The API server's clock. It is right unless a test sets it."""

    def __init__(self, true_time: Callable[[], float]) -> None:
        self._true_time = true_time
        self.offset = 0.0
        """Seconds that it is ahead."""

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._true_time() + self.offset, UTC)


class SimulatedWorld(World):
    """A World without a control plane. Its processes of the operator can be paused, and replaced by others."""

    memory: MemoryApi
    server_clock: ServerClock
    gate: Gate
    """Of the process that runs."""
    faults_by_network: bool
    """Whether all faults take the way over the network; see ``Shortcut``."""

    def start(self) -> Operator:
        self.lives += 1
        self.gate = Gate()
        clock = GatedClock(self.clock, self.gate)
        time = VercelTime(clock)
        time.kubernetes_said(self.memory.date)  # the first list
        with mock.patch.object(Network, "for_url", return_value=_network()):
            self.operator = build(
                self.settings,
                api=self.memory.client(faulty=True, gate=self.gate, dated=time.kubernetes_said),
                clock=clock,
                fence=lambda: None,  # the gate asks, before it pauses
                time=time,
                instance="test",
                certificates_class=self.certificates_class,
                new_id=lambda: f"attempt-{next(self._ids)}",
            )
        accounts: Any = self.operator.accounts
        new_client, emulator, faults = accounts._new_client, self.emulator, not self.faults_by_network
        accounts._new_client = gated(lambda *args: shorten(new_client(*args), emulator, faults=faults), self.gate)
        self._run(self.operator)
        return self.operator

    async def sync(self) -> bool:
        return not self.gate.paused and await super().sync()

    async def quiet(self, *, hanging: int = 0) -> None:
        if self.operator is not None and self.gate.paused:
            await self._idle(hanging)
        else:
            await super().quiet(hanging=hanging)

    async def resync(self) -> None:
        """The operator lists everything: what it sees is true, whatever the resourceVersions."""
        assert self.operator is not None
        objects, reconciler = self.operator.objects, self.operator.reconciler
        bodies = await self.all()
        for body in bodies:
            reconciler.seen(body, listed=True)
        for key in set(objects.keys()) - {key_of(body) for body in bodies}:
            reconciler.vanished(key)

    async def resume(self, *, hanging: int = 0) -> None:
        """The process runs again. What it was about to do, it does before it sees what happened meanwhile."""
        self.gate.resume()
        await self._idle(hanging)

    async def _idle(self, hanging: int) -> None:
        assert self.operator is not None
        while True:
            await settle(self.clock.turns)  # the queue hears of what is new
            if self.task.done():
                self.task.result()
            stuck = sum(fault.hanging for fault in self.emulator.faults)
            due = self.clock.next_wake is not None and self.clock.next_wake <= 0
            working = self.operator.working
            if self.gate.paused and len(working) <= self.gate.waiting + stuck:
                return  # a timer that is due is one of those at the gate
            more = self.operator.queue.overdue[0] and not stuck  # a thousand keys take more turns than that
            if not due and not more and len(working) <= min(hanging, stuck):
                return
            if working and not stuck and not self.gate.paused:
                # What runs now may be what is to hang, once its request has arrived.
                patience = 0.01 if hanging or self.gate.pauses_at else None
                await asyncio.wait(working, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            elif working or more:
                await asyncio.sleep(0.002)


@asynccontextmanager
async def simulated_world(
    namespace: str = "web", *, start: datetime = START, faults_by_network: bool = False, **settings: Any
) -> AsyncIterator[SimulatedWorld]:
    """A World that is up, without a control plane. Nothing in it is random: a run can be repeated exactly.

    Args:
        namespace: where everything happens.
        start: where its clock starts.
        faults_by_network: see ``SimulatedWorld``.
        settings: of the operator, where they are to differ.
    """
    clock = TestClock(start)
    clock.turns = TURNS
    true_time = TrueTime(clock)
    server_clock = ServerClock(true_time)
    api = MemoryApi(server_clock, clock.monotonic)
    emulator = Emulator(
        tokens=(TOKEN, OTHER_TOKEN), teams={"team_alpha": "alpha", "team_beta": "beta"}, clock=true_time, seed="s"
    )
    numbers = itertools.count()
    async with emulator:
        of_operator = settings_for(namespace, emulator, **settings)
        made = SimulatedWorld(api.client(), namespace, emulator, clock, of_operator)
        made.memory, made.server_clock, made.faults_by_network = api, server_clock, faults_by_network
        made.changes = lambda: api.changes
        with mock.patch("secrets.token_hex", lambda size=8: f"{next(numbers):0{2 * size}x}"):
            made.start()
            try:
                yield made
            finally:
                emulator.faults.clear("drop")
                await made.crash()


def memory_api_of(world: World) -> MemoryApi:
    """Returns the stand-in of a simulated World."""
    assert isinstance(world, SimulatedWorld)
    return world.memory


def resource_path(namespace: str, name: str = "") -> str:
    """Returns the path of VercelCertificates, for tests of the stand-in."""
    return f"/apis/{GROUP}/v1/namespaces/{namespace}/{PLURAL}" + (f"/{name}" if name else "")
