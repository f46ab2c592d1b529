"""What the chart renders, and which values it refuses."""

import json
from typing import Any

import pytest
import yaml

import chart_readme
from chart.helm import CHART, Helm
from chart.pairs import all_pairs
from control_plane import ControlPlane

FAKE = "test-token-not-a-secret"
SWITCHES: dict[str, list[dict[str, Any]]] = {
    "crds": [{"crds": {"enabled": False}}, {"crds": {"keep": False}}, {}],
    "token": [{}, {"token": {"value": FAKE}}, {"token": {"existingSecret": "mine", "key": "other"}}],
    "default": [{}, {"defaultToken": {"namespaces": ["default"]}}],
    "secrets": [{}, {"tokenSecrets": {"names": ["one", "two"]}}],
    "watch": [{}, {"watchNamespaces": ["default", "kube-public"]}],
    "selector": [{}, {"selector": "team in (web,shop)"}],
    "team": [{}, {"vercel": {"teamId": "team_1"}}, {"vercel": {"teamSlug": "alpha", "postTimeout": 30.5}}],
    "account": [{}, {"serviceAccount": {"create": False, "name": "default"}}, {"serviceAccount": {"name": "own"}}],
    "roles": [{}, {"aggregateRoles": False}],
    "budget": [{}, {"replicas": 2, "podDisruptionBudget": {"enabled": True}}],
    "network": [{}, {"networkPolicy": {"enabled": True}}],
    "image": [{}, {"image": {"tag": "1.2"}}, {"image": {"digest": f"sha256:{'0' * 64}"}}],
    "extras": [
        {},
        {
            "commonLabels": {"team": "web"},
            "podLabels": {"pod": "yes"},
            "podAnnotations": {"note": "x"},
            "extraEnv": [{"name": "A", "value": "b"}],
            "extraArgs": ["--max-in-flight=4"],
            "extraVolumes": [{"name": "tmp", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
            "imagePullSecrets": [{"name": "pull"}],
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"operator": "Exists"}],
            "priorityClassName": "system-cluster-critical",
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
            ],
        },
    ],
    "emulator": [{}, {"emulator": {"enabled": True}}],
}


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(item for item in objects if item["kind"] == kind)


def container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return found


def test_it_lints_strictly(helm: Helm) -> None:
    helm("lint", "--strict", CHART)


def test_its_readme_is_made_from_its_values() -> None:
    assert (CHART / "README.md").read_text(encoding="utf-8") == chart_readme.readme(), "run hack/chart_readme.py"


def test_its_crd_is_that_of_deploy(helm: Helm) -> None:
    origin = CHART.parents[1] / "crds" / "vercelcertificates.yaml"
    copy = CHART / "files" / origin.name
    assert copy.read_bytes() == origin.read_bytes(), f"run: cp {origin} {copy}"
    rendered = one(helm.template({}), "CustomResourceDefinition")
    kept_by_helm = {"helm.sh/resource-policy": "keep"}
    kept_by_argo_cd = {"argocd.argoproj.io/sync-options": "Prune=false"}  # its pruning doesn't go by Helm's
    assert rendered["metadata"].pop("annotations") == kept_by_helm | kept_by_argo_cd
    assert rendered == yaml.safe_load(origin.read_text(encoding="utf-8"))


def test_every_pair_of_switches_is_accepted_by_the_api_server(helm: Helm, control_plane: ControlPlane) -> None:
    for row in all_pairs(SWITCHES):
        values = {key: value for choice in row.values() for key, value in choice.items()}
        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": helm.template(values)})
        control_plane.kubectl(
            "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", input=manifest
        )


@pytest.mark.parametrize(
    "values",
    [
        {"unknown": 1},
        {"image": {"tags": "1"}},
        {"watchNamespaces": "web"},
        {"watchNamespaces": ["Web"]},
        {"replicas": "2"},
        {"vercel": {"teamId": "alpha"}},
        {"vercel": {"teamId": "team_1", "teamSlug": "alpha"}},
        {"vercel": {"postTimeout": 601}},
        {"token": {"value": FAKE, "existingSecret": "mine"}},
        {"log": {"level": "loud"}},
        {"serviceAccount": {"create": False}},
    ],
    ids=str,
)
def test_values_that_make_no_sense_are_refused(helm: Helm, values: dict[str, Any]) -> None:
    assert next(iter(values)) in helm.refusal(values)


def test_namespaced_it_has_no_right_beyond_its_namespaces(helm: Helm) -> None:
    objects = helm.template({"watchNamespaces": ["web", "shop"], "aggregateRoles": False}, namespace="home")
    kinds = [item["kind"] for item in objects]
    assert "ClusterRole" not in kinds
    assert "ClusterRoleBinding" not in kinds
    roles = [item["metadata"]["namespace"] for item in objects if item["kind"] == "Role"]
    assert sorted(roles) == ["home", "shop", "web"]
    assert {"--namespace=web", "--namespace=shop"} <= set(container(objects)["args"])


def test_the_right_to_get_secrets_can_be_limited_to_names(helm: Helm) -> None:
    rules = one(helm.template({"tokenSecrets": {"names": ["one"]}}), "ClusterRole")["rules"]
    secrets = [rule for rule in rules if rule["resources"] == ["secrets"]]
    assert secrets == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["one"]}]


def test_users_get_no_right_on_status(helm: Helm) -> None:
    for item in helm.template({}):
        if item["kind"] == "ClusterRole" and item["metadata"]["name"].endswith(("-view", "-edit")):
            assert [rule["resources"] for rule in item["rules"]] == [["vercelcertificates"]]


def test_a_token_is_mounted_and_stands_in_no_argument(helm: Helm) -> None:
    objects = helm.template({"token": {"value": FAKE}})
    assert FAKE not in json.dumps(container(objects))
    assert container(objects)["env"] == [{"name": "VERCEL_TOKEN_FILE", "value": "/var/run/secrets/vercel/token"}]


def test_a_pod_that_ends_is_given_longer_than_vercel(helm: Helm) -> None:
    pod = one(helm.template({"vercel": {"postTimeout": 200.5}}), "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 231


def test_its_pods_meet_pod_security_restricted(helm: Helm, control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "namespace", "restricted")
    control_plane.kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted")
    control_plane.kubectl("create", "serviceaccount", "own", "--namespace", "restricted")
    objects = helm.template({"token": {"value": FAKE}, "emulator": {"enabled": True}}, namespace="restricted")
    for deployment in (item for item in objects if item["kind"] == "Deployment"):
        spec = {**deployment["spec"]["template"]["spec"], "serviceAccountName": "own"}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": deployment["metadata"]["name"], "namespace": "restricted"},
            "spec": spec,
        }
        control_plane.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", input=json.dumps(pod))
