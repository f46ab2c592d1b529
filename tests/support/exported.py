"""All metrics that the operator exports. Documentation, alerts and dashboard are checked against them."""

import re
from datetime import UTC, datetime
from typing import NamedTuple

from vercel_certificate_operator.core.record import Attempt
from vercel_certificate_operator.core.resource import Key, Status
from vercel_certificate_operator.metrics import PREFIX, Counted, Scrape, Snapshot, TokenState

KEY = Key("web", "site", "uid-1")
NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Exported(NamedTuple):
    """A metric of the operator."""

    name: str
    """As PromQL names it, but for a histogram's ``_bucket``, ``_sum`` and ``_count``."""
    type: str
    labels: tuple[str, ...]
    help: str


def exported() -> list[Exported]:
    """Returns all metrics in the order of ``/metrics``."""
    return [
        Exported(
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            tuple(dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")),
            family.documentation,
        )
        for family in Scrape(_counted().registry, snapshot(), per_certificate=True).collect()
        if family.name.startswith(PREFIX)
    ]


def named_in(query: str) -> set[str]:
    """Returns the operator's metrics that a query names."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(rf"\b{PREFIX}\w+", query)}


def _counted() -> Counted:
    counted = Counted()
    counted.request("issue", "200", 1.0)
    return counted


def snapshot() -> Snapshot:
    """Returns the snapshot of a leader with a certificate, an open attempt and a token."""
    status = Status(
        attempt=Attempt(id="1", start=NOW, generation=1, cns=("example.com",)),
        expires_at=datetime(2030, 4, 1, tzinfo=UTC),
        renewal_time=datetime(2030, 3, 1, tzinfo=UTC),
    )
    body = {"metadata": {}, "spec": {}, "status": status.dump()}
    return Snapshot(
        now=NOW.timestamp(),
        leads=True,
        bodies=((KEY, body),),
        tokens={None: TokenState(in_flight=0, allowed=8, waiting=0, pause=None, pause_seconds=0)},
        due=0,
        due_seconds=0,
        running=0,
        running_seconds=0,
        scheduled=1,
        watch_seconds=0,
        orphans=0,
        clock_offset=0,
    )
