"""Metrics, alerts, dashboard and docs: none speaks of what another does not have."""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

import dashboard
from support.exported import exported, named_in
from vercel_certificate_operator.metrics import PREFIX

ROOT = Path(__file__).parents[2]
MONITORING = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
FILES = ROOT / "deploy" / "helm" / "vercel-certificate-operator" / "files"
NAMES = {one.name for one in exported()}
GROUPS = yaml.safe_load((FILES / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
ALERTS: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
PANELS: list[dict[str, Any]] = [panel for panel in dashboard.dashboard()["panels"] if panel["type"] != "row"]


def test_the_docs_have_every_metric_as_it_is_exported() -> None:
    rows = [f"| `{one.name}` | {', '.join(one.labels)} | {one.type}: {one.help} |" for one in exported()]
    wanted = "\n".join(row.replace("|  |", "| |") for row in rows)
    assert wanted in MONITORING, f"docs/monitoring.md should have:\n{wanted}"


def test_every_certificate_has_its_own_labels_and_nothing_else_has_them() -> None:
    assert {one.name.startswith(f"{PREFIX}certificate_") for one in exported() if "name" in one.labels} == {True}
    assert {one.labels[:2] for one in exported() if one.name.startswith(f"{PREFIX}certificate_")} == {
        ("namespace", "name")
    }


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_asks_for_what_is_exported_and_has_a_runbook_a_line_and_tests(alert: dict[str, Any]) -> None:
    assert named_in(alert["expr"])
    assert named_in(alert["expr"]) <= NAMES
    page, anchor = alert["annotations"]["runbook_url"].split("#")
    assert page == "docs/runbooks.md"
    headings = {heading.lower() for heading in re.findall(r"^## (\w+)$", RUNBOOKS, re.MULTILINE)}
    assert anchor in headings
    assert f"`{alert['alert']}`" in RUNBOOKS or f"## {alert['alert']}\n" in RUNBOOKS
    row = f"| [`{alert['alert']}`](runbooks.md#{anchor}) | {alert['labels']['severity']} |"
    assert row in MONITORING, f"docs/monitoring.md has no row {row}"

    cases = defaultdict(set)
    for test in yaml.safe_load((ROOT / "tests/prometheus/alerts_test.yaml").read_text(encoding="utf-8"))["tests"]:
        for case in test["alert_rule_test"]:
            cases[case["alertname"]].add(bool(case.get("exp_alerts")))
    assert cases[alert["alert"]] == {True, False}, "alerts_test.yaml is to have it firing, and not firing"


def test_without_series_of_each_certificate_the_other_alerts_say_the_same() -> None:
    groups = {group["name"].removeprefix("vercel-certificate-operator"): group["rules"] for group in GROUPS}
    assert set(groups) == {"", "-each", "-fleet"}
    each, fleet = ([rule["alert"] for rule in groups[name]] for name in ("-each", "-fleet"))
    assert [name.replace("Certificate", "Certificates") for name in each] == fleet
    per_certificate = re.compile(rf"{PREFIX}certificate_")
    assert all(per_certificate.search(rule["expr"]) for rule in groups["-each"])
    assert not any(per_certificate.search(rule["expr"]) for rule in (*groups["-fleet"], *groups[""]))


def test_grafana_knows_every_field_of_the_dashboard() -> None:
    """What its model doesn't know is dropped on the way there and back."""
    register_default_plugins()
    made = dashboard.dashboard()
    for variable in made["templating"]["list"]:
        variable.pop("definition", None)  # Grafana writes it, and its model has forgotten it
    back = json.loads(JSONEncoder().encode(Dashboard.from_json(made)))
    assert _missing(made, back) == []


def _missing(made: Any, back: Any, at: str = "") -> list[str]:
    """Where ``back`` is not what was made; it may have more."""
    if isinstance(made, dict) and isinstance(back, dict):
        given = {key: value for key, value in made.items() if value not in (None, [], {}, "")}
        return [place for key, value in given.items() for place in _missing(value, back.get(key), f"{at}/{key}")]
    if isinstance(made, list) and isinstance(back, list) and len(made) == len(back):
        return [
            place
            for n, (one, other) in enumerate(zip(made, back, strict=True))
            for place in _missing(one, other, f"{at}/{n}")
        ]
    return [] if made == back else [at]


def test_no_two_panels_of_the_dashboard_share_a_place_or_an_id() -> None:
    everything = dashboard.dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < dashboard.COLUMNS
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_explains_itself_and_asks_for_what_is_exported(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    for target in panel["targets"]:
        assert named_in(target["expr"]) <= NAMES
        assert 'job=~"$job"' in target["expr"]
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= set(re.findall(r"\w+", target["expr"]))


def test_the_alerts_that_the_dashboard_names_are_there() -> None:
    names = {rule["alert"] for rule in ALERTS}
    assert (
        set(re.findall(r"Vercel(?:Certificate|Token|Scope|Rate|Operator)\w*", json.dumps(PANELS)))
        - {"VercelCertificates"}
        <= names
    )


def test_every_metric_is_of_use_in_an_alert_or_on_the_dashboard() -> None:
    used = set[str]().union(
        *(named_in(alert["expr"]) for alert in ALERTS),
        *(named_in(target["expr"]) for panel in PANELS for target in panel["targets"]),
    )
    assert used == NAMES
