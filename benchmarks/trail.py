"""The API server's audit log, read as it grows. Nothing has to be requested for it, so reading it disturbs nothing."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

OBJECTS = "vercelcertificates"
WATCH_ENDS = "ResponseComplete"


class Row(NamedTuple):
    """One request."""

    verb: str
    resource: str
    """The plural, with the subresource after a slash."""
    place: tuple[str, str]
    """Namespace and name."""
    agent: str
    """The user agent, up to the slash."""
    code: int
    received: float
    """Unix seconds."""
    done: float
    """Unix seconds at the end of the response; of a watch: when it started."""


class Trail:
    """The requests so far."""

    def __init__(self, path: Path) -> None:
        """Read from the start of a file, which may not exist yet."""
        self._path = path
        self._offset = 0
        self.rows: list[Row] = []

    def read(self) -> int:
        """Read what is new. Returns the number of requests so far, which serves as a mark."""
        if not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            file.seek(self._offset)
            content = file.read()
        end = content.rfind(b"\n") + 1
        self._offset += end
        self.rows += [row for line in content[:end].splitlines() if (row := _row(json.loads(line))) is not None]
        return len(self.rows)

    def since(self, mark: int, agent: str) -> list[Row]:
        """Return the successful and the failed requests of one user agent after a mark."""
        return [row for row in self.rows[mark:] if row.agent == agent]


def counted(rows: Iterable[Row]) -> Counter[str]:
    """Count requests by verb and resource. Watches don't count: they end when the API server ends them."""
    return Counter(f"{row.verb} {row.resource}" for row in rows if row.verb != "watch")


def nth_writes(rows: Iterable[Row], resource: str, number: int) -> dict[tuple[str, str], float]:
    """Return when each object had its n-th successful PATCH of a resource: Unix seconds, by object."""
    seen: defaultdict[tuple[str, str], int] = defaultdict(int)
    times: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.verb == "patch" and row.resource == resource and row.code < 300:
            seen[row.place] += 1
            if seen[row.place] == number:
                times[row.place] = row.done
    return times


def user_writes(rows: Iterable[Row]) -> dict[tuple[str, str], float]:
    """Return when each object was written by the user last: Unix seconds, by object."""
    return {
        row.place: row.done for row in rows if row.resource == OBJECTS and row.verb in ("create", "patch", "delete")
    }


def _row(event: dict[str, object]) -> Row | None:
    target = event.get("objectRef")
    if not isinstance(target, dict) or not target.get("resource"):
        return None
    verb, status = str(event["verb"]), event.get("responseStatus")
    code = status.get("code", 0) if isinstance(status, dict) else 0
    if verb == "watch" and event["stage"] == WATCH_ENDS:
        return None
    resource = target["resource"] + (f"/{target['subresource']}" if target.get("subresource") else "")
    return Row(
        verb,
        resource,
        (target.get("namespace", ""), target.get("name", "")),
        str(event.get("userAgent", "")).partition("/")[0],
        code,
        _seconds(event["requestReceivedTimestamp"]),
        _seconds(event["stageTimestamp"]),
    )


def _seconds(text: object) -> float:
    return datetime.fromisoformat(str(text)).timestamp()
