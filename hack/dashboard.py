"""Generate the Grafana dashboard, which the chart includes as a ConfigMap; see ``generate.py``.

The JSON is that of Grafana's classic dashboard model, as it is exported and provisioned:
https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/. Every panel has a
description, since whoever is on call reads it there first.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
Json = dict[str, Any]

P = "vercel_operator_"
OURS = 'job=~"$job"'
"""What every query selects: one of several operators, or all."""
THEIRS = f'{OURS}, namespace=~"$namespace"'
"""Of series that each certificate has: those of some namespaces."""


@dataclass(frozen=True)
class Query:
    """PromQL, and how its series are named."""

    expr: str
    legend: str = ""
    instant: bool = False
    table: bool = False


@dataclass(frozen=True)
class Panel:
    """A panel. ``width`` of 24 columns."""

    kind: str
    title: str
    description: str
    queries: Sequence[Query]
    width: int
    height: int = 8
    defaults: Json = field(default_factory=dict)
    options: Json = field(default_factory=dict)
    overrides: Sequence[Json] = ()
    transformations: Sequence[Json] = ()


@dataclass(frozen=True)
class Row:
    """Panels under a heading, from left to right, and on."""

    title: str
    panels: Sequence[Panel]


def stat(title: str, description: str, expr: str, *, bad: str = "", unit: str = "short") -> Panel:
    """A number; one that is bad is coloured from 1 on."""
    steps: list[Json] = [{"color": "green" if bad else "text", "value": None}]
    if bad:
        steps.append({"color": bad, "value": 1})
    return Panel(
        "stat",
        title,
        description,
        [Query(expr, instant=True)],
        width=3,
        height=4,
        defaults={"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}},
        options={
            "colorMode": "value",
            "graphMode": "none",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    )


def lines(
    title: str,
    description: str,
    *queries: Query,
    width: int = 8,
    unit: str = "short",
    stacked: bool = False,
    on_the_right: tuple[str, str] | None = None,
) -> Panel:
    """Curves over time. ``on_the_right``: a regular expression, and the unit of the curves with such a name."""
    custom: Json = {"fillOpacity": 30 if stacked else 5, "showPoints": "never", "lineWidth": 1}
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    return Panel(
        "timeseries",
        title,
        description,
        queries,
        width,
        defaults={"unit": unit, "min": 0, "custom": custom},
        overrides=[_right(*on_the_right)] if on_the_right else (),
        options={
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def _right(names: str, unit: str) -> Json:
    properties = [{"id": "unit", "value": unit}, {"id": "custom.axisPlacement", "value": "right"}]
    return {"matcher": {"id": "byRegexp", "options": names}, "properties": properties}


def states(title: str, description: str, query: Query, on: tuple[str, str], off: tuple[str, str]) -> Panel:
    """Bands over time of what is 1 or 0: text and colour of each."""
    mappings = {
        str(value): {"text": text, "color": colour, "index": value} for value, (text, colour) in ((1, on), (0, off))
    }
    return Panel(
        "state-timeline",
        title,
        description,
        [query],
        width=8,
        defaults={"mappings": [{"type": "value", "options": mappings}], "custom": {"fillOpacity": 70}},
        options={"showValue": "auto", "mergeValues": True, "rowHeight": 0.8},
    )


def table(title: str, description: str, *queries: Query, names: Json, times: Iterable[str] = (), by: str = "") -> Panel:
    """What holds now, a line for each. ``names`` are the columns, in order: field, heading. Sorted ``by`` a field."""
    return Panel(
        "table",
        title,
        description,
        queries,
        width=12,
        height=9,
        options={"sortBy": [{"displayName": names[by], "desc": False}]} if by else {},
        overrides=[
            {
                "matcher": {"id": "byName", "options": names[name]},
                "properties": [{"id": "unit", "value": "dateTimeFromNow"}],
            }
            for name in times
        ],
        transformations=[
            {"id": "merge", "options": {}},
            {"id": "filterFieldsByName", "options": {"include": {"names": list(names)}}},
            {
                "id": "organize",
                "options": {"renameByName": names, "indexByName": {name: index for index, name in enumerate(names)}},
            },
        ],
    )


def now(expr: str) -> Query:
    """For a table."""
    return Query(expr, instant=True, table=True)


NEXT = f"bottomk(20, max by (namespace, name) ({P}certificate_not_after_timestamp_seconds{{{THEIRS}}}))"
FLEET = Row(
    "The fleet",
    [
        stat("Certificates", "All VercelCertificates.", f"sum({P}certificates{{{OURS}}}) or vector(0)"),
        stat(
            "Ready",
            "Those with a certificate that covers their names and is valid.",
            f'sum({P}certificates{{{OURS}, ready="True"}}) or vector(0)',
        ),
        stat(
            "Not ready",
            "Those without. Suspended ones are left out. Alert: VercelCertificateNotReady.",
            f'sum({P}certificates{{{OURS}, ready!="True", issuing_reason!="Suspended"}}) or vector(0)',
            bad="orange",
        ),
        stat(
            "Renewal overdue",
            "Half of the time between renewal and expiry is over. Alert: VercelCertificateNotRenewed.",
            f"sum({P}certificates_overdue{{{OURS}}})",
            bad="orange",
        ),
        stat(
            "Expiring",
            "Nine tenths of it are over, or all. Alert: VercelCertificateExpiring.",
            f"sum({P}certificates_expiring{{{OURS}}})",
            bad="red",
        ),
        stat(
            "First one expires",
            "When the first certificate of all expires. It is renewed before.",
            f"min({P}certificates_earliest_not_after_timestamp_seconds{{{OURS}}}) * 1000",
            unit="dateTimeFromNow",
        ),
        stat(
            "Open attempts",
            "Issuances whose outcome is not recorded. Alert, after half an hour: VercelCertificateAttemptUnresolved.",
            f"sum({P}attempts_unresolved{{{OURS}}})",
        ),
        stat(
            "Orphaned",
            "Certificates at Vercel with the names of a resource that no resource uses. Alert: VercelCertificateOrphaned.",
            f"sum({P}orphaned_certificates{{{OURS}}})",
            bad="orange",
        ),
        lines(
            "Ready and not",
            "The status of the condition Ready.",
            Query(f"sum by (ready) ({P}certificates{{{OURS}}})", "{{ready}}"),
            width=12,
            stacked=True,
        ),
        lines(
            "What is in the way",
            "The reasons of Issuing other than Issued, which says that there is nothing to do. "
            "docs/how-it-works.md has what each asks for.",
            Query(
                f'sum by (issuing_reason) ({P}certificates{{{OURS}, issuing_reason!~"Issued|"}})', "{{issuing_reason}}"
            ),
            width=12,
            stacked=True,
        ),
        table(
            "What expires next",
            "Empty without series for each certificate (--no-metrics-per-certificate).",
            now(f"{NEXT} * 1000"),
            now(
                f"max by (namespace, name) ({P}certificate_renewal_timestamp_seconds{{{THEIRS}}}) * 1000"
                f" and on (namespace, name) {NEXT}"
            ),
            names={"namespace": "Namespace", "name": "Name", "Value #B": "Renewal", "Value #A": "Expiry"},
            times=("Value #A", "Value #B"),
            by="Value #A",
        ),
        table(
            "What is not ready",
            "With the reasons of its conditions. Empty without series for each certificate.",
            now(
                f"max by (namespace, name, reason, issuing_reason) ({P}certificate_info{{{THEIRS}}})"
                f" and on (namespace, name) (max by (namespace, name) ({P}certificate_ready{{{THEIRS}}}) == 0)"
            ),
            names={"namespace": "Namespace", "name": "Name", "reason": "Ready", "issuing_reason": "Issuing"},
        ),
    ],
)
ISSUANCE = Row(
    "Issuance",
    [
        lines(
            "Attempts per hour, by what they are for",
            "FirstIssue, RenewalDue, and so on. A renewal of a whole fleet shows as a hill.",
            Query(f"sum by (need) (increase({P}attempts_total{{{OURS}}}[1h]))", "{{need}}"),
            stacked=True,
        ),
        lines(
            "Failures per hour, by reason",
            "Attempts that did not end with a certificate.",
            Query(f'sum by (result) (increase({P}attempts_total{{{OURS}, result!="Issued"}}[1h]))', "{{result}}"),
            stacked=True,
        ),
        lines(
            "Events per hour",
            "Events published on resources, repeats included.",
            Query(f"sum by (type, reason) (increase({P}events_total{{{OURS}}}[1h]))", "{{type}} {{reason}}"),
        ),
    ],
)
RATE = "[$__rate_interval]"
API = Row(
    "Vercel API",
    [
        lines(
            "Requests",
            "By call and HTTP status. none: sent, and not answered; not-sent: no connection.",
            Query(f"sum by (call, code) (rate({P}vercel_requests_total{{{OURS}}}{RATE}))", "{{call}} {{code}}"),
            unit="reqps",
        ),
        lines(
            "Requests that failed",
            "The share that was not answered with 2xx.",
            Query(
                f'sum by (call) (rate({P}vercel_requests_total{{{OURS}, code!~"2.."}}{RATE}))'
                f" / sum by (call) (rate({P}vercel_requests_total{{{OURS}}}{RATE}))",
                "{{call}}",
            ),
            unit="percentunit",
        ),
        lines(
            "How long they take",
            "Half of the requests, and 95 of 100, are answered within that time.",
            *(
                Query(
                    f"histogram_quantile({quantile}, sum by (le, call) "
                    f"(rate({P}vercel_request_duration_seconds_bucket{{{OURS}}}{RATE})))",
                    "{{call}} " + name,
                )
                for quantile, name in ((0.5, "p50"), (0.95, "p95"))
            ),
            unit="s",
        ),
        states(
            "Tokens that rest",
            "Nothing is asked with a token that is refused or limited. A token is named by the place of its Secret. "
            "Alerts: VercelTokenRefused, VercelRateLimited.",
            Query(f"max by (token, reason) ({P}token_paused{{{OURS}}})", "{{token}} {{reason}}"),
            on=("rests", "red"),
            off=("in use", "green"),
        ),
        lines(
            "Requests under way, by token",
            "And how many there may be: 1 after a pause, then more and more.",
            Query(f"max by (token) ({P}token_requests_in_flight{{{OURS}}})", "{{token}}"),
            Query(f"max by (token) ({P}token_requests_limit{{{OURS}}})", "{{token}} limit"),
        ),
        lines(
            "Resources that wait for a token",
            "All requests that may be under way with it are. And for how long it still rests, on the right.",
            Query(f"max by (token) ({P}token_requests_waiting{{{OURS}}})", "{{token}}"),
            Query(f"max by (token) ({P}token_pause_seconds{{{OURS}}})", "{{token}} rests for"),
            on_the_right=("/rests for$/", "s"),
        ),
    ],
)
HEALTH = Row(
    "The operator",
    [
        states(
            "Leader",
            "One replica leads, the others stand by. Alerts: VercelOperatorNoLeader, VercelOperatorAbsent.",
            Query(f"max by (instance) ({P}leader{{{OURS}}})", "{{instance}}"),
            on=("leads", "green"),
            off=("stands by", "blue"),
        ),
        lines(
            "Queue",
            "Resources that are due and not in work yet; that are in work; and that are looked at later.",
            Query(f"sum({P}queue_due{{{OURS}}})", "due"),
            Query(f"sum({P}queue_running{{{OURS}}})", "in work"),
            Query(f"max({P}queue_scheduled{{{OURS}}})", "later"),
        ),
        lines(
            "Ages",
            "Of the oldest that is due, of the oldest in work, and of the last answer to a watch. "
            "Alert: VercelOperatorBlind.",
            Query(f"max({P}queue_due_age_seconds{{{OURS}}})", "due"),
            Query(f"max({P}queue_running_age_seconds{{{OURS}}})", "in work"),
            Query(f"max({P}watch_age_seconds{{{OURS}}})", "watch"),
            unit="s",
        ),
        lines(
            "A look at one resource",
            "With all that was to be done for it: half, and 99 of 100, take no longer.",
            *(
                Query(
                    f"histogram_quantile({quantile}, sum by (le) "
                    f"(rate({P}reconcile_duration_seconds_bucket{{{OURS}}}{RATE})))",
                    name,
                )
                for quantile, name in ((0.5, "p50"), (0.99, "p99"))
            ),
            unit="s",
        ),
        lines(
            "Looks that failed",
            "kubernetes: its API refused or failed. bug: the log has a traceback. Alert: VercelOperatorFailing.",
            Query(f"sum by (cause) (rate({P}reconcile_failures_total{{{OURS}}}{RATE}))", "{{cause}}"),
            unit="ops",
        ),
        lines(
            "CPU and memory",
            "Of each replica. CPU in cores, memory on the right.",
            Query(f"sum by (instance) (rate(process_cpu_seconds_total{{{OURS}}}{RATE}))", "{{instance}} CPU"),
            Query(f"max by (instance) (process_resident_memory_bytes{{{OURS}}})", "{{instance}} memory"),
            on_the_right=("/memory$/", "bytes"),
        ),
        table(
            "Versions",
            "What runs.",
            now(f"max by (instance, version, python_version) ({P}build_info{{{OURS}}})"),
            names={"instance": "Instance", "version": "Version", "python_version": "Python"},
        ),
    ],
)


def _variable(name: str, label: str, metric: str) -> Json:
    query = f"label_values({metric}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def _panel(panel: Panel, number: int, x: int, y: int) -> Json:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": panel.defaults, "overrides": list(panel.overrides)},
        "options": panel.options,
        "transformations": list(panel.transformations),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": query.instant,
                "range": not query.instant,
                "format": "table" if query.table else "time_series",
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def _laid_out(rows: Iterable[Row]) -> list[Json]:
    panels: list[Json] = []
    y = 0
    for row in rows:
        grid = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": row.title, "collapsed": False, "gridPos": grid})
        panels[-1]["panels"] = []
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            panels.append(_panel(panel, len(panels) + 1, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return panels


def dashboard() -> Json:
    """The whole of it."""
    return {
        "title": "Vercel certificates",
        "uid": "vercel-certificate-operator",
        "description": "Certificates at Vercel, and the operator that keeps them.",
        "tags": ["vercel", "certificates"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                _variable("job", "Operator", f"{P}build_info"),
                _variable("namespace", "Namespace", f"{P}certificate_ready"),
            ]
        },
        "panels": _laid_out((FLEET, ISSUANCE, API, HEALTH)),
    }


def text() -> str:
    """Return the content of ``dashboard.json``."""
    return json.dumps(dashboard(), indent=2) + "\n"
