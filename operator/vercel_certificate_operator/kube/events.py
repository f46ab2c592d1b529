"""Kubernetes Events (events.k8s.io/v1), which ``kubectl describe`` and ``kubectl events`` show.

They are written in the background, some at a time, and the namespaces take turns. An Event that can't be written is
logged and delays nothing else. Repetitions are counted in a series.
"""

import asyncio
import logging
import secrets
import socket
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kubernetes.aio.client import ApiClient

from vercel_certificate_operator.core.known import Note
from vercel_certificate_operator.core.resource import GROUP, KIND, VERSION, Key
from vercel_certificate_operator.kube.connection import translated
from vercel_certificate_operator.kube.errors import Gone, KubeError
from vercel_certificate_operator.kube.requests import MERGE_PATCH, path, send

API = "/apis/events.k8s.io/v1"
CONTROLLER = f"{GROUP}/vercel-certificate-operator"
NOTE_LIMIT = 1024
"""Bytes of UTF-8. The API server refuses longer notes."""
NAME_LIMIT = 253
MOST_WRITES = 16
"""Events that are written at a time. Each write takes a connection to the API server."""
MOST_PENDING = 20_000
"""Events that wait to be written. Of more, the namespace that has the most loses its oldest; the log has all of them.
Each takes about half a kilobyte."""
REMEMBERED = 10_000
"""Events that are remembered, to count repetitions."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Said:
    """An Event that was written, and how often it was repeated."""

    name: str
    count: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Events:
    """Writes Events about VercelCertificate objects."""

    def __init__(self, client: ApiClient, *, instance: str | None = None) -> None:
        self._client = client
        self._instance = (instance or socket.gethostname() or "unknown")[:128]
        self._pending: dict[str, deque[tuple[Key, Note, datetime]]] = {}
        """What is to be written, by namespace. The namespace whose turn is next is first."""
        self._number = 0
        """Of Events in it."""
        self._writing: dict[asyncio.Task[None], str] = {}
        self._writes_of: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()
        self._said: dict[tuple[Key, int], _Said] = {}  # by the note's hash: the texts would take most of the memory

    def publish(self, key: Key, note: Note, now: datetime) -> None:
        """Writes an Event in the background.

        Args:
            now: the time of the Event, aware.
        """
        self._pending.setdefault(key.namespace, deque()).append((key, note, now))
        self._number += 1
        if self._number > MOST_PENDING:
            max(self._pending.values(), key=len).popleft()
            self._number -= 1
        self._idle.clear()
        self._begin()

    def _begin(self) -> None:
        """Begins as many writes as may be in progress."""
        while (namespace := self._next()) is not None:
            pending = self._pending.pop(namespace)
            key, note, now = pending.popleft()
            self._number -= 1
            if pending:
                self._pending[namespace] = pending  # behind the others
            task = asyncio.create_task(self._write(key, note, now), name=f"event for {key}")
            self._writing[task] = namespace
            self._writes_of[namespace] += 1
            task.add_done_callback(self._written)

    def _next(self) -> str | None:
        """Returns the namespace whose turn is next. One whose writes hang can't have all of them."""
        free = MOST_WRITES - len(self._writing)
        return next((namespace for namespace in self._pending if self._writes_of[namespace] < free), None)

    def _written(self, task: asyncio.Task[None]) -> None:
        namespace = self._writing.pop(task)
        self._writes_of[namespace] -= 1
        if not self._writes_of[namespace]:
            del self._writes_of[namespace]
        self._begin()
        if not self._writing:
            self._idle.set()

    async def flush(self, seconds: float) -> None:
        """Waits until all Events are written, but at most these seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()

    async def aclose(self, seconds: float) -> None:
        """Like ``flush``, then drops the other Events: the client is closed next."""
        await self.flush(seconds)
        self._pending.clear()
        self._number = 0
        late = tuple(self._writing)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _write(self, key: Key, note: Note, now: datetime) -> None:
        which = key, hash(note)
        said = self._said.pop(which, None) or _Said(event_name(key))
        self._said[which] = said  # the newest is last
        while len(self._said) > REMEMBERED:
            del self._said[next(iter(self._said))]
        try:
            async with said.lock:
                await self._say(key, note, now, said)
        except KubeError as error:
            # A namespace that is being deleted takes no new events; then there is nobody to read them either.
            logger.warning("Can't write an Event: %s", error.message)

    async def _say(self, key: Key, note: Note, now: datetime, said: _Said) -> None:
        if said.count:
            series = {"count": said.count + 1, "lastObservedTime": micro_time(now)}
            try:
                async with translated(f"counting an event for {key}"):
                    where = path(API, key.namespace, "events", said.name)
                    await send(self._client, "PATCH", where, body={"series": series}, content_type=MERGE_PATCH)
            except Gone:
                said.name, said.count = event_name(key), 0  # events live for an hour
            else:
                said.count += 1
                return
        body = event(key, note, now, name=said.name, instance=self._instance)
        async with translated(f"writing an event for {key}"):
            await send(self._client, "POST", path(API, key.namespace, "events"), body=body)
        said.count = 1


def event_name(key: Key) -> str:
    """Returns a name for a new Event: the object's name and 16 random hexadecimal digits."""
    suffix = f".{secrets.token_hex(8)}"
    return key.name[: NAME_LIMIT - len(suffix)].rstrip("-.") + suffix


def micro_time(moment: datetime) -> str:
    """Returns a time as RFC 3339 in UTC with microseconds, the format of Kubernetes' MicroTime."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def event(key: Key, note: Note, now: datetime, *, name: str, instance: str) -> dict[str, Any]:
    """Returns the Event object for a note, as JSON.

    Args:
        name: of the Event.
        instance: the name of this replica.
    """
    text = note.text.encode()
    if len(text) > NOTE_LIMIT:
        text = text[: NOTE_LIMIT - 3].decode(errors="ignore").encode() + "…".encode()
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": key.namespace},
        "eventTime": micro_time(now),
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
        "type": note.type,
        "reason": str(note.reason),
        "action": note.action,
        "note": text.decode(),
        "regarding": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "namespace": key.namespace,
            "name": key.name,
            "uid": key.uid,
        },
    }
