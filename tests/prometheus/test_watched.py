"""Every alert and every query of the dashboard, by a real Prometheus that watches real operators."""

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import dashboard
from prometheus.stage import ALERTS, Watched

PATIENCE = 120.0
"""Seconds until Prometheus has noticed trouble. For some of it a certificate must expire."""
NOT_IN_TIME = {"VercelOperatorBlind"}
"""Its threshold is ten minutes of silence. The test only checks that its metric exists."""
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
}
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in dashboard.dashboard()["panels"]
    for target in panel.get("targets", ())
]
VARIABLES = {"$job": ".*", "$namespace": ".*", "$__rate_interval": "1m"}


def eventually(ask: Any, what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := ask()):
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.2)
    return found


def test_promtool_finds_nothing_wrong_with_the_metrics(watched: Watched, promtool: Path) -> None:
    done = subprocess.run(
        [promtool, "check", "metrics"], input=watched.metrics(), capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("name", sorted({*RULES} - NOT_IN_TIME - {"VercelOperatorAbsent"}))
def test_an_alert_is_raised_by_its_trouble(watched: Watched, name: str) -> None:
    """It is pending, if it waits for some minutes before it fires."""

    def raised() -> list[dict[str, Any]]:
        return [alert for alert in watched.alerts() if alert["labels"]["alertname"] == name]

    alerts = eventually(raised, name)
    assert {alert["state"] for alert in alerts} <= {"pending", "firing"}
    assert "<no value>" not in str(alerts)
    if "for" not in RULES[name]:
        assert alerts[0]["state"] == "firing"


def test_the_alert_of_an_absent_operator_is_raised_before_one_runs(watched: Watched) -> None:
    expr = RULES["VercelOperatorAbsent"]["expr"]
    assert watched.query(expr, at=watched.before)
    assert eventually(lambda: not watched.query(expr), "the operator is there")


@pytest.mark.parametrize("name", sorted(NOT_IN_TIME))
def test_the_metric_of_an_alert_exists(watched: Watched, name: str) -> None:
    compared, threshold = re.fullmatch(r"(.*) > (\d+)", RULES[name]["expr"]).groups()  # type: ignore[union-attr]
    assert int(threshold) > PATIENCE
    assert eventually(lambda: watched.query(compared), compared)


def test_no_alert_names_a_healthy_resource(watched: Watched) -> None:
    """In the end: a new resource may be pending until the next evaluation."""

    def named() -> set[str]:
        return {alert["labels"].get("name", "") for alert in watched.alerts()}

    eventually(
        lambda: {"unpaid", "nodns"} <= (names := named()) and not {"good", "off"} & names,
        "no alert names a healthy resource",
    )


def test_every_rule_could_be_evaluated(watched: Watched) -> None:
    rules = eventually(lambda: [rule for rule in watched.rules() if rule["health"] != "unknown"], "evaluated")
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}


@pytest.mark.parametrize("expr", QUERIES)
def test_a_query_of_the_dashboard_returns_data(watched: Watched, expr: str) -> None:
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr

    def numbers() -> list[str]:
        return [value for one in watched.query(expr) if (value := one["value"][1]) != "NaN"]

    assert eventually(numbers, expr)


def test_the_series_of_a_deleted_resource_are_gone(watched: Watched) -> None:
    ready = 'vercel_operator_certificate_ready{name="gone"}'
    eventually(lambda: watched.query(f"{ready} == 1"), "it is issued")
    watched.ns.kubectl("delete", "vcert", "gone", "--timeout=60s")
    eventually(lambda: not watched.query(ready), "its series is gone")
    assert watched.query('{name="gone"}') == []
