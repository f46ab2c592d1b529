"""The Applications fit the chart. Argo CD isn't here: they were tried with a real one by hand."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from support.helm import CHART, KUBE_VERSION, Helm

ARGOCD = Path(__file__).parents[2] / "deploy" / "argocd"
NAMESPACE = "vercel-certificate-operator"


def application(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ARGOCD / name).read_text(encoding="utf-8"))
    assert (found["apiVersion"], found["kind"]) == ("argoproj.io/v1alpha1", "Application")
    return found


OPERATOR = application("applications/operator.yaml")
CERTIFICATES = application("applications/certificates.yaml")


def test_the_chart_takes_the_values(helm: Helm) -> None:
    source = OPERATOR["spec"]["source"]
    name, values = source["helm"]["releaseName"], helm.values(source["helm"]["valuesObject"])
    text = helm("template", name, CHART, KUBE_VERSION, "--namespace", NAMESPACE, "--values", values)
    rendered = [found for found in yaml.safe_load_all(text) if found]
    [deployment] = [found for found in rendered if found["kind"] == "Deployment"]
    [volume] = deployment["spec"]["template"]["spec"]["volumes"]
    assert volume["secret"]["secretName"] == "vercel-token"


def test_the_operator_comes_before_the_certificates() -> None:
    waves = [
        int(found["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"]) for found in (OPERATOR, CERTIFICATES)
    ]
    assert waves == sorted(waves)
    assert waves[0] < waves[1]


@pytest.mark.parametrize("found", [OPERATOR, CERTIFICATES, application("root.yaml")], ids=["operator", "certs", "root"])
def test_all_of_them_apply_server_side(found: dict[str, Any]) -> None:
    assert "ServerSideApply=true" in found["spec"]["syncPolicy"]["syncOptions"]


def test_no_certificate_is_removed_without_a_confirmation() -> None:
    assert "finalizers" not in CERTIFICATES["metadata"]
    assert CERTIFICATES["spec"]["syncPolicy"]["automated"]["prune"] is False
    assert "Delete=confirm" in CERTIFICATES["spec"]["syncPolicy"]["syncOptions"]
    assert "finalizers" not in application("root.yaml")["metadata"]


def test_the_operator_stays_whatever_happens_to_the_application_of_applications() -> None:
    options = OPERATOR["metadata"]["annotations"]["argocd.argoproj.io/sync-options"]
    assert set(options.split(",")) == {"Prune=false", "Delete=false"}


def test_the_namespaces_are_created() -> None:
    for found in (OPERATOR, CERTIFICATES):
        assert "CreateNamespace=true" in found["spec"]["syncPolicy"]["syncOptions"]
        assert found["spec"]["destination"]["namespace"] in (NAMESPACE, "web")
