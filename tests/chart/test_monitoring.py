"""How the chart has the operator watched."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from support.helm import CHART, Helm

NAME = "vco-vercel-certificate-operator"
ALERTS = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))["groups"]


def metrics(helm: Helm, **metrics: Any) -> dict[str, dict[str, Any]]:
    """The objects that are rendered with these values of ``metrics``, by kind; the last one of each."""
    return {item["kind"]: item for item in helm.template({"metrics": metrics}, namespace="home")}


def rules(helm: Helm, rule: Mapping[str, Any] = MappingProxyType({}), **values: Any) -> dict[str, dict[str, Any]]:
    """The alerts, by name; with these values of ``metrics.prometheusRule``, and of ``metrics``."""
    rule = {"enabled": True, **rule}
    groups = metrics(helm, prometheusRule=rule, **values)["PrometheusRule"]["spec"]["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_nothing_of_it_is_there_unless_it_is_asked_for(helm: Helm) -> None:
    kinds = {"Service", "ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"}
    assert not kinds & set(metrics(helm))


@pytest.mark.parametrize("per_certificate", [True, False])
def test_the_alerts_are_those_of_the_file_that_fit_what_is_exported(helm: Helm, *, per_certificate: bool) -> None:
    other = "-fleet" if per_certificate else "-each"
    wanted = {rule["alert"]: rule for group in ALERTS if not group["name"].endswith(other) for rule in group["rules"]}
    assert rules(helm, perCertificate=per_certificate) == wanted
    args = metrics(helm, perCertificate=per_certificate)["Deployment"]["spec"]["template"]["spec"]["containers"][0][
        "args"
    ]
    assert ("--no-metrics-per-certificate" in args) is not per_certificate


def test_alerts_can_be_labelled_left_out_and_have_runbooks_elsewhere(helm: Helm) -> None:
    found = rules(
        helm,
        {
            "alertLabels": {"team": "web"},
            "disabled": ["VercelRateLimited"],
            "runbookUrl": "https://wiki.example.com/r",
        },
    )
    assert "VercelRateLimited" not in found
    assert {rule["labels"]["team"] for rule in found.values()} == {"web"}
    for name, rule in found.items():
        assert rule["annotations"]["runbook_url"].startswith("https://wiki.example.com/r#vercel"), name
        assert rule["labels"]["severity"] in {"warning", "critical"}


@pytest.mark.parametrize(
    ("monitor", "job"), [("serviceMonitor", f"{NAME}-metrics"), ("podMonitor", f"home/{NAME}")], ids=str
)
def test_the_absence_of_this_release_is_reported_though_others_are_there(helm: Helm, monitor: str, job: str) -> None:
    found = rules(helm, **{monitor: {"enabled": True}})["VercelOperatorAbsent"]
    assert found["expr"] == f'absent(vercel_operator_leader{{namespace="home", job="{job}"}})'


def test_each_pod_of_the_operator_is_scraped_and_no_other(helm: Helm) -> None:
    monitors = {"serviceMonitor": {"enabled": True}}
    values = {"metrics": monitors, "emulator": {"enabled": True}}
    objects = helm.template(values)
    services = {item["metadata"]["name"]: item for item in objects if item["kind"] == "Service"}
    [monitor] = [item for item in objects if item["kind"] == "ServiceMonitor"]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert [name for name, one in services.items() if wanted <= one["metadata"]["labels"].items()] == [
        f"{NAME}-metrics"
    ]
    scraped = services[f"{NAME}-metrics"]["spec"]
    [pod_monitor] = [
        item for item in helm.template({"metrics": {"podMonitor": {"enabled": True}}}) if item["kind"] == "PodMonitor"
    ]
    for selector in (scraped["selector"], pod_monitor["spec"]["selector"]["matchLabels"]):
        pods = [
            item["metadata"]["name"]
            for item in objects
            if item["kind"] == "Deployment"
            and selector.items() <= item["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert pods == [NAME]
    [container] = metrics(helm)["Deployment"]["spec"]["template"]["spec"]["containers"]
    port = container["ports"][0]["name"]
    assert scraped["ports"][0]["targetPort"] == port
    assert monitor["spec"]["endpoints"][0]["port"] == scraped["ports"][0]["name"]
    assert pod_monitor["spec"]["podMetricsEndpoints"][0]["port"] == port
    assert scraped["publishNotReadyAddresses"] is True
    assert monitor["spec"]["endpoints"][0]["honorLabels"] is True


def test_the_dashboard_arrives_whole_where_grafana_looks(helm: Helm) -> None:
    found = metrics(helm, dashboard={"enabled": True})["ConfigMap"]
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    [(name, text)] = found["data"].items()
    assert name.endswith(".json")
    assert json.loads(text) == json.loads((CHART / "files" / "dashboard.json").read_text(encoding="utf-8"))


def test_a_network_policy_lets_in_who_scrapes(helm: Helm) -> None:
    who = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    for given, wanted in (([], None), (who, who)):
        objects = helm.template({"networkPolicy": {"enabled": True, "ingressFrom": given}})
        [policy] = [item for item in objects if item["kind"] == "NetworkPolicy"]
        [ingress] = policy["spec"]["ingress"]
        assert ingress["ports"] == [{"port": "http", "protocol": "TCP"}]
        assert ingress.get("from") == wanted
