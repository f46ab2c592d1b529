"""Generate the Grafana dashboard, which the chart includes as a ConfigMap; see ``generate.py``.

The JSON follows Grafana's classic dashboard model, which Grafana exports and provisions:
https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/. Every panel has a
description for people on call.
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
"""The selection of every query: one of several operators, or all."""
THEIRS = f'{OURS}, namespace=~"$namespace"'
"""The selection among series of single certificates: some namespaces."""


@dataclass(frozen=True)
class Query:
    """PromQL, and the legend of its series."""

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
    """Panels under a heading, from left to right, in as many lines as needed."""

    title: str
    panels: Sequence[Panel]


def stat(title: str, description: str, expr: str, *, bad: str = "", unit: str = "short") -> Panel:
    """Returns a panel with a number. With ``bad``, it has that colour from 1 on."""
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
    from_zero: bool = True,
    on_the_right: tuple[str, str] | None = None,
) -> Panel:
    """Returns curves over time. ``on_the_right``: a regular expression for names of curves, and their unit."""
    custom: Json = {"fillOpacity": 30 if stacked else 5, "showPoints": "never", "lineWidth": 1}
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    return Panel(
        "timeseries",
        title,
        description,
        queries,
        width,
        defaults={"unit": unit, **({"min": 0} if from_zero else {}), "custom": custom},
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
    """Returns bands over time for values 1 (``on``) and 0 (``off``): text and colour of each."""
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
    """Returns a table of the present. ``names`` are the columns in order: field, heading. Sorted ``by`` a field."""
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
    """Returns a query for a table."""
    return Query(expr, instant=True, table=True)


NEXT = f"bottomk(20, max by (namespace, name) ({P}certificate_not_after_timestamp_seconds{{{THEIRS}}}))"
FLEET = Row(
    "The fleet",
    [
        stat("Certificates", "All VercelCertificates.", f"sum({P}certificates{{{OURS}}}) or vector(0)"),
        stat(
            "Ready",
            "Resources with a valid certificate that covers their names.",
            f'sum({P}certificates{{{OURS}, ready="True"}}) or vector(0)',
        ),
        stat(
            "Not ready",
            "Resources without one, except suspended resources. Alert: VercelCertificateNotReady.",
            f'sum({P}certificates{{{OURS}, ready!="True", issuing_reason!="Suspended"}}) or vector(0)',
            bad="orange",
        ),
        stat(
            "Renewal overdue",
            "Half of the time from renewal time to expiry has passed. Alert: VercelCertificateNotRenewed.",
            f"sum({P}certificates_overdue{{{OURS}}})",
            bad="orange",
        ),
        stat(
            "Expiring",
            "Nine tenths of that time have passed, or all of it. Alert: VercelCertificateExpiring.",
            f"sum({P}certificates_expiring{{{OURS}}})",
            bad="red",
        ),
        stat(
            "First expiry",
            "When the first of all certificates expires. The operator renews it before.",
            f"min({P}certificates_earliest_not_after_timestamp_seconds{{{OURS}}}) * 1000",
            unit="dateTimeFromNow",
        ),
        stat(
            "Open attempts",
            "Attempts with an unknown outcome. Alert after half an hour: VercelCertificateAttemptUnresolved.",
            f"sum({P}attempts_unresolved{{{OURS}}})",
        ),
        stat(
            "Orphaned",
            "Certificates at Vercel with the names of a resource that no resource uses. "
            "Alert: VercelCertificateOrphaned.",
            f"sum({P}orphaned_certificates{{{OURS}}})",
            bad="orange",
        ),
        lines(
            "Ready and not ready",
            "The status of the condition Ready.",
            Query(f"sum by (ready) ({P}certificates{{{OURS}}})", "{{ready}}"),
            width=12,
            stacked=True,
        ),
        lines(
            "Reasons of Issuing",
            "The reasons of the condition Issuing, except Issued, with which there is nothing to do. "
            "docs/reasons.md explains each of them.",
            Query(
                f'sum by (issuing_reason) ({P}certificates{{{OURS}, issuing_reason!~"Issued|"}})', "{{issuing_reason}}"
            ),
            width=12,
            stacked=True,
        ),
        table(
            "Next expiries",
            "Empty without metrics of each certificate (--no-metrics-per-certificate).",
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
            "Not ready",
            "With the reasons of both conditions. Empty without metrics of each certificate.",
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
            "Attempts per hour, by need",
            "FirstIssue, RenewalDue, and so on. The renewal of a whole fleet is a hill.",
            Query(f"sum by (need) (increase({P}attempts_total{{{OURS}}}[1h]))", "{{need}}"),
            stacked=True,
        ),
        lines(
            "Failures per hour, by reason",
            "Attempts without a certificate as the result.",
            Query(f'sum by (result) (increase({P}attempts_total{{{OURS}, result!="Issued"}}[1h]))', "{{result}}"),
            stacked=True,
        ),
        lines(
            "Events per hour",
            "Events published on resources, including repetitions.",
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
            "By call and HTTP status. none: sent but not answered; not-sent: no connection.",
            Query(f"sum by (call, code) (rate({P}vercel_requests_total{{{OURS}}}{RATE}))", "{{call}} {{code}}"),
            unit="reqps",
        ),
        lines(
            "Failed requests",
            "The share of requests that Vercel did not answer with 2xx.",
            Query(
                f'sum by (call) (rate({P}vercel_requests_total{{{OURS}, code!~"2.."}}{RATE}))'
                f" / sum by (call) (rate({P}vercel_requests_total{{{OURS}}}{RATE}))",
                "{{call}}",
            ),
            unit="percentunit",
        ),
        lines(
            "Duration of requests",
            "Vercel answers half of the requests, and 95 of 100, within this time.",
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
            "Paused tokens",
            "A rejected token is not used. With a rate limit, one kind of request waits. Tokens are named by Secret. "
            "Alerts: VercelTokenRejected, VercelRateLimited.",
            Query(f"max by (token, reason) ({P}token_paused{{{OURS}}})", "{{token}} {{reason}}"),
            on=("paused", "red"),
            off=("in use", "green"),
        ),
        lines(
            "Requests in flight, by token",
            "And their maximum number, which is 1 after a pause and then grows.",
            Query(f"max by (token) ({P}token_requests_in_flight{{{OURS}}})", "{{token}}"),
            Query(f"max by (token) ({P}token_requests_limit{{{OURS}}})", "{{token}} limit"),
        ),
        lines(
            "Resources that wait, by token",
            "The maximum number of requests with the token is in flight. On the right: how long its pause still lasts.",
            Query(f"max by (token) ({P}token_requests_waiting{{{OURS}}})", "{{token}}"),
            Query(f"max by (token) ({P}token_pause_seconds{{{OURS}}})", "{{token}} paused for"),
            on_the_right=("/paused for$/", "s"),
        ),
    ],
)
HEALTH = Row(
    "The operator",
    [
        states(
            "Leader",
            "One replica leads, the others are standbys. Alerts: VercelOperatorNoLeader, VercelOperatorAbsent.",
            Query(f"max by (instance) ({P}leader{{{OURS}}})", "{{instance}}"),
            on=("leads", "green"),
            off=("standby", "blue"),
        ),
        lines(
            "Queue",
            "Resources that are due now, in progress, and due later.",
            Query(f"sum({P}queue_due{{{OURS}}})", "due"),
            Query(f"sum({P}queue_running{{{OURS}}})", "in progress"),
            Query(f"max({P}queue_scheduled{{{OURS}}})", "later"),
        ),
        lines(
            "Ages",
            "Of the oldest due resource, of the oldest one in progress, and of the last answer to a watch. "
            "Alert: VercelOperatorBlind.",
            Query(f"max({P}queue_due_age_seconds{{{OURS}}})", "due"),
            Query(f"max({P}queue_running_age_seconds{{{OURS}}})", "in progress"),
            Query(f"max({P}watch_age_seconds{{{OURS}}})", "watch"),
            unit="s",
        ),
        lines(
            "Duration of a reconciliation",
            "Half of the reconciliations, and 99 of 100, take no longer.",
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
            "Failed reconciliations",
            "kubernetes: its API refuses or fails. bug: the log has a traceback. Alert: VercelOperatorFailing.",
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
        lines(
            "Clock offset",
            "Vercel's clock minus the local clock, of each replica. The operator uses Vercel's time. "
            "Alerts: VercelClockOffset, VercelClockSkew.",
            Query(f"max by (instance) ({P}clock_offset_seconds{{{OURS}}})", "{{instance}}"),
            width=12,
            unit="s",
            from_zero=False,
        ),
        table(
            "Versions",
            "The versions that run.",
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
    """Returns the whole dashboard."""
    return {
        "title": "Vercel certificates",
        "uid": "vercel-certificate-operator",
        "description": "Certificates at Vercel, and the operator that manages them.",
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
