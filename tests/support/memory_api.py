"""A stand-in for the API server, in memory: what the operator uses of one, as fast as a dict and the same in each run.

Uids and resourceVersions are counters, and times come from the test's clock, so that a run can be repeated exactly.
It sits below the real client library, in the place of its HTTP connection: everything above runs unchanged.
``tests/random_lives/test_memory_api.py`` holds it against a real API server.
"""

import asyncio
import copy
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration

from support.clock import START, TestClock
from support.world import OTHER_TOKEN, TOKEN, TrueTime, World, settings_for
from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.resource import GROUP, PLURAL
from vercel_emulator import Emulator

Body = dict[str, Any]
Place = tuple[str, str, str]
"""Resource (its plural), namespace, name."""

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


class MemoryApi:
    """The objects, and what may be done with them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._objects: dict[Place, Body] = {}
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)
        self.faults: list[ApiFault] = []

    def client(self, *, faulty: bool = False) -> ApiClient:
        """A client of the real library. With ``faulty``, its requests meet the faults."""
        client = _without_a_server()
        client.rest_client = cast(Any, _Connection(self, faulty=faulty))
        return client

    def handle(self, method: str, url: str, body: Any, content_type: str) -> Body:
        """Carry out one request. Raises Refusal."""
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
                return self._patch(place, subresource, body, content_type)
            case "PUT" if place[0] == "leases":
                return self._replace(place, body)
            case "DELETE":
                return self._delete(place)
        raise Refusal(405, f"{method} is not possible here")

    # --- the verbs

    def _list(self, place: Place, query: Mapping[str, str]) -> Body:
        names = sorted(key[2] for key in self._objects if key[:2] == place[:2])
        start, limit = int(query.get("continue", 0)), int(query.get("limit", 0)) or len(names)
        items = [self._objects[*place[:2], name] for name in names[start : start + limit]]
        metadata = {"continue": str(start + limit)} if start + limit < len(names) else {}
        return {"kind": f"{KINDS[place[0]]}List", "metadata": metadata, "items": items}

    def _there(self, place: Place) -> Body:
        if place not in self._objects:
            raise Refusal(404, f'{place[0]} "{place[2]}" not found')
        return self._objects[place]

    def _create(self, place: Place, body: Body) -> Body:
        new = copy.deepcopy(body)
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
        _drop_what_is_empty(metadata)
        self._objects[place] = new
        return new

    def _patch(self, place: Place, subresource: str, patch: Any, content_type: str) -> Body:
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
        return self._store(place, before, after)

    def _replace(self, place: Place, body: Body) -> Body:
        before = self._there(place)
        if body["metadata"].get("resourceVersion", before["metadata"]["resourceVersion"]) != _version(before):
            raise Refusal(409, f"Operation cannot be fulfilled on {place[0]} {place[2]!r}: it has been modified")
        return self._store(place, before, copy.deepcopy(body))

    def _delete(self, place: Place) -> Body:
        before = self._there(place)
        after = copy.deepcopy(before)
        if before["metadata"].get("finalizers") and not before["metadata"].get("deletionTimestamp"):
            after["metadata"] |= {"deletionTimestamp": _time(self._clock.now()), "deletionGracePeriodSeconds": 0}
            after["metadata"]["generation"] += 1
        answer = self._store(place, before, after, deleting=True)
        return answer if place in self._objects else {"kind": "Status", "status": "Success"}

    def _store(self, place: Place, before: Body, after: Body, *, deleting: bool = False) -> Body:
        metadata = after["metadata"]
        for fixed in ("name", "namespace", "uid", "creationTimestamp", "resourceVersion"):
            metadata[fixed] = before["metadata"][fixed]
        _drop_what_is_empty(metadata)
        going = deleting or metadata.get("deletionTimestamp")
        if going and not metadata.get("finalizers"):
            del self._objects[place]  # the version in the answer is the one before
            return after
        if after != before:
            metadata["resourceVersion"] = str(next(self._versions))
        self._objects[place] = after
        return after


def _place(path: str) -> tuple[Place, str]:
    """Of ``/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL[/NAME[/status]]`` (``/api/v1/…`` for Secrets)."""
    parts = path.strip("/").split("/")
    rest = parts[3 if parts[0] == "apis" else 2 :]
    if len(rest) < 3 or rest[0] != "namespaces" or rest[2] not in KINDS:
        raise Refusal(404, "the server could not find the requested resource")
    return (rest[2], rest[1], rest[3] if len(rest) > 3 else ""), rest[4] if len(rest) > 4 else ""


def _version(body: Body) -> str:
    return str(body["metadata"]["resourceVersion"])


def _set_defaults(spec: Body) -> None:
    """As the CustomResourceDefinition says."""
    spec.setdefault("deletionPolicy", "Delete")
    spec.setdefault("suspend", False)


def _drop_what_is_empty(metadata: Body) -> None:
    for name in ("finalizers", "annotations", "labels"):
        if name in metadata and not metadata[name]:
            del metadata[name]


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def _json_patched(target: Body, patch: Sequence[Body]) -> Body:
    """RFC 6902, as far as the operator uses it: ``test`` anywhere, ``add`` of a member of an object."""
    result = copy.deepcopy(target)
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
            parent[last] = copy.deepcopy(operation["value"])
        else:
            raise Refusal(400, f"{operation['op']} is not supported by this stand-in")
    return result


def _only_status(before: Body, after: Body) -> Body:
    result = copy.deepcopy(before)
    result.pop("status", None)
    if after.get("status"):
        result["status"] = after["status"]
    return result


def _all_but_status(before: Body, after: Body) -> Body:
    result = copy.deepcopy(after)
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
    """What the client library wants of a response."""

    status: int
    data: bytes
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})

    async def read(self) -> bytes:
        return self.data

    def getheaders(self) -> Mapping[str, str]:
        return self.headers


class _Connection:
    """In the place of the client library's HTTP client."""

    def __init__(self, api: MemoryApi, *, faulty: bool) -> None:
        self._api = api
        self._faulty = faulty

    async def request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: Any = None, **_: object
    ) -> _Answer:
        await asyncio.sleep(0)
        content_type = (headers or {}).get("Content-Type", "application/json")
        fault = self._fault(method, url) if self._faulty else None
        if fault is not None and fault.status is not None:
            return self._refused(fault.status, "The stand-in was told to answer so.")
        try:
            answer = None if fault is not None and not fault.done else self._api.handle(method, url, body, content_type)
        except Refusal as refusal:
            return self._refused(refusal.status, str(refusal))
        if fault is not None:
            if fault.then is not None:
                await fault.then()
            raise aiohttp.ServerDisconnectedError
        assert answer is not None
        return _Answer(201 if method == "POST" else 200, json.dumps(answer).encode())

    def _fault(self, method: str, url: str) -> ApiFault | None:
        for fault in self._api.faults:
            if fault.method in {method, "*"} and f"/{fault.what}" in url:
                fault.times -= 1
                if fault.times <= 0:
                    self._api.faults.remove(fault)
                return fault
        return None

    @staticmethod
    def _refused(status: int, message: str) -> _Answer:
        said = {"kind": "Status", "status": "Failure", "message": message, "code": status}
        return _Answer(status, json.dumps(said).encode())

    async def close(self) -> None:
        """Nothing is open."""


_made: list[ApiClient] = []


def _without_a_server() -> ApiClient:
    """A client that has no server yet. Reading the machine's certificate authorities takes a while: done once."""
    if not _made:
        _made.append(ApiClient(Configuration(host="http://api-server.invalid")))
    client = copy.copy(_made[0])
    client.default_headers = dict(client.default_headers)
    return client


@asynccontextmanager
async def simulated_world(namespace: str = "web", *, start: datetime = START, **settings: Any) -> AsyncIterator[World]:
    """A World that is up, without a control plane; its stand-in of the API server is ``memory_api_of(world)``."""
    clock = TestClock(start)
    api = MemoryApi(clock)
    emulator = Emulator(
        tokens=(TOKEN, OTHER_TOKEN), teams={"team_alpha": "alpha", "team_beta": "beta"}, clock=TrueTime(clock), seed="s"
    )
    async with emulator:
        of_operator = settings_for(namespace, emulator, **settings)
        made = World(api.client(), namespace, emulator, clock, of_operator, operator_api=api.client(faulty=True))
        made.start()
        try:
            yield made
        finally:
            emulator.faults.clear("drop")
            await made.crash()


def memory_api_of(world: World) -> MemoryApi:
    """The stand-in behind a simulated World."""
    connection: Any = world.api.rest_client
    found: MemoryApi = connection._api
    return found


def resource_path(namespace: str, name: str = "") -> str:
    """The path of VercelCertificates, for tests of the stand-in itself."""
    return f"/apis/{GROUP}/v1/namespaces/{namespace}/{PLURAL}" + (f"/{name}" if name else "")
