"""The API server's audit log as a list of requests. It counts what something costs."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

FENCE = "control-plane-fence"
"""Part of the URI of the requests that this module sends itself."""
FENCE_TIMEOUT = 10.0
"""Seconds. Usually, it takes a millisecond."""

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


def policy(level: str) -> dict[str, Any]:
    """Return an audit policy that records every request at ``level``, except those of the control plane itself."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": [
            {"level": "None", "users": ["system:apiserver", "system:kube-controller-manager"]},
            {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*", "/openapi*"]},
            {"level": level},
        ],
    }


@dataclass(frozen=True)
class Request:
    """One request to the API server."""

    id: str
    verb: str
    """get, list, watch, create, update, patch, delete or deletecollection."""
    uri: str
    """Path and query."""
    user: str
    user_agent: str
    code: int
    """The HTTP status of the response; 0 if there was none."""
    received: datetime
    group: str
    """The API group; "" is the core group (and what is not a resource)."""
    resource: str
    """The plural, such as ``vercelcertificates``; "" for what is not a resource, such as ``/version``."""
    subresource: str
    namespace: str
    name: str
    """"" where the request does not name it: of a created object it is in the body."""
    event: dict[str, Any] = field(repr=False, compare=False)
    """The whole event (audit.k8s.io/v1); with the bodies, if the level is such."""


class Requests(list[Request]):
    """Requests in the order in which the API server logged them."""

    def matching(
        self,
        *,
        verb: str | None = None,
        resource: str | None = None,
        subresource: str | None = None,
        namespace: str | None = None,
        name: str | None = None,
        user: str | None = None,
        user_agent: str | None = None,
        code: int | None = None,
    ) -> "Requests":
        """Return the requests with all the given properties.

        Args:
            verb: As in ``Request``, like the other arguments.
            resource: The plural.
            subresource: "" is the resource itself.
            namespace: The namespace.
            name: The name.
            user: The user.
            user_agent: How the user agent begins, such as ``kubectl/``.
            code: The HTTP status.
        """
        wanted = {
            "verb": verb,
            "resource": resource,
            "subresource": subresource,
            "namespace": namespace,
            "name": name,
            "user": user,
            "code": code,
        }
        wanted = {key: value for key, value in wanted.items() if value is not None}
        return Requests(
            request
            for request in self
            if all(getattr(request, key) == value for key, value in wanted.items())
            and request.user_agent.startswith(user_agent or "")
        )

    def writes(self) -> "Requests":
        """Return the requests that change something."""
        return Requests(request for request in self if request.verb in WRITES)

    def received_since(self, moment: datetime) -> "Requests":
        """Return the requests that the API server has received since a moment. It has this machine's clock."""
        return Requests(request for request in self if request.received >= moment)

    def __str__(self) -> str:
        return "\n".join(
            f"{request.code} {request.verb} {request.uri} ({request.user}, {request.user_agent})" for request in self
        )


class Audit:
    """Reads the log file.

    The API server logs a request when the response is complete. A client may see the response a moment earlier, so
    each method first sends a request of its own, waits until that one is logged, and leaves it out of the result.
    """

    def __init__(self, path: Path, fence: Callable[[], str | None]) -> None:
        """Read ``path``.

        Args:
            path: The log file. It may not exist yet.
            fence: Sends a request, and returns a string that only its URI contains, or None if the server is down.
        """
        self._path = path
        self._fence = fence

    @property
    def size(self) -> int:
        """A mark for ``since`` that costs no request. A few of the last requests before it may be logged after it."""
        return self._path.stat().st_size if self._path.exists() else 0

    def mark(self) -> int:
        """Return the current end of the log, for ``since``."""
        start = self.size
        return start + sum(map(len, self._lines(start)))

    def since(self, mark: int = 0) -> Requests:
        """Return all requests after the mark. A watch counts when it starts."""
        return self._read(mark)[0]

    @contextmanager
    def recording(self) -> Iterator[Requests]:
        """Yield a list that contains the requests of the block, once the block has ended."""
        requests = Requests()
        mark = self.mark()
        try:
            yield requests
        finally:
            requests.extend(self.since(mark))

    def _read(self, start: int) -> tuple[Requests, int]:
        """Return the requests from byte ``start`` on, and the byte after the last one."""
        lines = self._lines(start)
        events: dict[str, dict[str, Any]] = {}
        for line in lines:
            event = json.loads(line)
            known = event["auditID"] in events  # a watch has an event when it starts and one when it ends
            if known or not _ends_a_watch(event):
                events[event["auditID"]] = event
        requests = Requests(_request(event) for event in events.values() if FENCE not in event["requestURI"])
        return requests, start + sum(map(len, lines))

    def _lines(self, start: int) -> list[bytes]:
        fence = (self._fence() or "").encode()
        deadline = time.monotonic() + FENCE_TIMEOUT
        while True:
            content = b""
            if self._path.exists():
                with self._path.open("rb") as file:
                    file.seek(start)
                    content = file.read()
            if fence in content:
                return [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
            if time.monotonic() > deadline:
                raise TimeoutError(f"a request does not appear in the audit log within {FENCE_TIMEOUT:g} s")
            time.sleep(0.005)


def _ends_a_watch(event: dict[str, Any]) -> bool:
    """Return whether this is the end of a watch that had started. A watch that was refused has no other event."""
    code, verb, stage = event.get("responseStatus", {}).get("code"), event["verb"], event["stage"]
    return (code, verb, stage) == (HTTPStatus.OK, "watch", "ResponseComplete")


def _request(event: dict[str, Any]) -> Request:
    target = event.get("objectRef", {})
    return Request(
        id=event["auditID"],
        verb=event["verb"],
        uri=event["requestURI"],
        user=event["user"].get("username", ""),
        user_agent=event.get("userAgent", ""),
        code=event.get("responseStatus", {}).get("code", 0),
        received=datetime.fromisoformat(event["requestReceivedTimestamp"]),
        group=target.get("apiGroup", ""),
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        event=event,
    )
