"""What the chart renders, and which values it refuses."""

import json
import re
import textwrap
from typing import Any

import pytest
import yaml

import tools
from chart.pairs import all_pairs
from control_plane import ControlPlane
from support.helm import CHART, Helm
from vercel_certificate_operator import process
from vercel_certificate_operator.reconciler import RECORD_LIMIT
from vercel_certificate_operator.settings import Settings

FAKE = "test-token-not-a-secret"
SHARED = {"defaultToken": {"namespaces": ["*"]}}
SWITCHES: dict[str, list[dict[str, Any]]] = {
    "crds": [{"crds": {"enabled": False}}, {"crds": {"keep": False}}, {}],
    "token": [
        {},
        {"token": {"value": FAKE}, **SHARED},
        {"token": {"existingSecret": "mine", "key": "other"}, "defaultToken": {"namespaces": ["default", "web"]}},
        SHARED,
    ],
    "secrets": [{}, {"tokenSecrets": {"names": ["one", "two"]}}, {"tokenSecrets": {"enabled": False}}],
    "watch": [{}, {"watchNamespaces": ["default", "kube-public"]}],
    "selector": [{}, {"selector": "team in (web,shop)"}],
    "team": [{}, {"vercel": {"teamId": "team_1"}}, {"vercel": {"teamSlug": "alpha", "postTimeout": 30.5}}],
    "account": [
        {},
        {"serviceAccount": {"create": False, "name": "default"}},
        {"serviceAccount": {"name": "own", "annotations": {"role": "x"}}},
    ],
    "names": [{}, {"nameOverride": "certificates"}, {"fullnameOverride": "certs"}],
    "log": [{}, {"log": {"format": "text", "level": "debug"}}],
    "roles": [{}, {"aggregateRoles": False}],
    "budget": [{}, {"replicas": 2, "podDisruptionBudget": {"enabled": True, "maxUnavailable": "50%"}}],
    "network": [
        {},
        {"networkPolicy": {"enabled": True}},
        {
            "networkPolicy": {
                "enabled": True,
                "apiServerPorts": [8443],
                "ingressFrom": [{"namespaceSelector": {"matchLabels": {"monitoring": "yes"}}}],
                "extraEgress": [{"ports": [{"port": 3128, "protocol": "TCP"}]}],
            }
        },
    ],
    "scraped": [
        {},
        {"service": {"enabled": True, "annotations": {"note": "x"}}},
        {"serviceMonitor": {"enabled": True, "labels": {"release": "x"}}},
        {"podMonitor": {"enabled": True, "interval": "1m30s"}},
    ],
    "told": [
        {},
        {"perCertificate": False, "prometheusRule": {"enabled": True}},
        {
            "prometheusRule": {
                "enabled": True,
                "labels": {"release": "x"},
                "alertLabels": {"team": "web"},
                "disabled": ["VercelRateLimited"],
                "runbookUrl": "https://wiki.example.com/runbooks",
            },
            "dashboard": {"enabled": True, "annotations": {"grafana_folder": "Operators"}},
        },
    ],
    "user": [{}, {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}],
    "image": [{}, {"image": {"tag": "1.2"}}, {"image": {"digest": f"sha256:{'0' * 64}"}}],
    "extras": [
        {},
        {
            "commonLabels": {"team": "web"},
            "commonAnnotations": {"owner": "web"},
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
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
            "resources": {"limits": {"memory": "1Gi"}},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}},
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"},
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


def test_its_crd_is_that_of_deploy(helm: Helm) -> None:
    origin = CHART.parents[1] / "crds" / "vercelcertificates.yaml"
    rendered = one(helm.template({}), "CustomResourceDefinition")
    kept_by_helm = {"helm.sh/resource-policy": "keep"}
    kept_by_argo_cd = {"argocd.argoproj.io/sync-options": "Prune=false"}  # its pruning doesn't go by Helm's
    assert rendered["metadata"].pop("annotations") == kept_by_helm | kept_by_argo_cd
    assert rendered == yaml.safe_load(origin.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def monitoring(control_plane: ControlPlane) -> None:
    """prometheus-operator's definitions are installed."""
    folder = tools.monitoring_crds()
    for kind in ("servicemonitors", "podmonitors", "prometheusrules"):
        file = folder / f"monitoring.coreos.com_{kind}.yaml"
        control_plane.kubectl("apply", "--server-side", "-f", file)
        control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", file)


def test_every_pair_of_switches_is_accepted_by_the_api_server(
    helm: Helm, control_plane: ControlPlane, monitoring: None
) -> None:
    for row in all_pairs(SWITCHES):
        metrics = {**row.pop("scraped"), **row.pop("told")}
        values = {"metrics": metrics, **{key: value for choice in row.values() for key, value in choice.items()}}
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
        {"tokenSecrets": {"names": ["Not_a_name"]}},
        {"defaultToken": {"namespace": "web"}},
        {"defaultToken": {"namespaces": ["web*"]}},
        {"podDisruptionBudget": {"maxUnavailable": "some"}},
        {"terminationGracePeriodSeconds": 1},
        {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
        {"metrics": {"podMonitor": {"interval": "often"}}},
        {"metrics": {"prometheusRule": {"runbookUrl": ""}}},
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


def test_without_tokens_of_namespaces_it_has_no_right_on_secrets(helm: Helm) -> None:
    for watched in ([], ["web"]):
        objects = helm.template({"tokenSecrets": {"enabled": False}, "watchNamespaces": watched})
        assert "secrets" not in str([item.get("rules") for item in objects])


def test_its_rights_are_the_same_namespaced_and_cluster_wide_and_those_that_the_readme_shows(helm: Helm) -> None:
    everywhere = one(helm.template({}), "ClusterRole")["rules"]
    assert one(helm.template({"watchNamespaces": ["web"]}), "Role")["rules"] == everywhere
    text = (CHART.parents[2] / "README.md").read_text(encoding="utf-8")
    (shown,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "kind: ClusterRole" in block]
    assert yaml.safe_load(textwrap.dedent(shown))["rules"] == everywhere


def test_two_releases_of_one_name_share_no_object_beyond_their_namespaces(helm: Helm) -> None:
    def wide(namespace: str) -> set[tuple[str, str, str]]:
        return {
            (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])
            for item in helm.template({"watchNamespaces": ["web"], "crds": {"enabled": False}}, namespace=namespace)
        }

    assert wide("one") & wide("two") == set()


def test_only_its_own_pods_get_the_token_of_its_service_account(helm: Helm) -> None:
    objects = helm.template({"emulator": {"enabled": True}})
    assert one(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    mounted = {
        item["metadata"]["name"]: item["spec"]["template"]["spec"]["automountServiceAccountToken"]
        for item in objects
        if item["kind"] == "Deployment"
    }
    name = "vco-vercel-certificate-operator"
    assert mounted == {name: True, f"{name}-emulator": False}


def test_replicas_are_spread_over_nodes_unless_told_otherwise(helm: Helm) -> None:
    def spread(values: dict[str, Any]) -> Any:
        return one(helm.template(values), "Deployment")["spec"]["template"]["spec"].get("topologySpreadConstraints")

    own = {
        "app.kubernetes.io/name": "vercel-certificate-operator",
        "app.kubernetes.io/instance": "vco",
        "app.kubernetes.io/component": "operator",
    }
    (constraint,) = spread({})
    assert constraint["topologyKey"] == "kubernetes.io/hostname"
    assert constraint["labelSelector"] == {"matchLabels": own}
    mine = {"matchLabels": {"mine": "yes"}}
    assert spread({"topologySpreadConstraints": [{"labelSelector": mine}]}) == [{"labelSelector": mine}]
    assert spread({"topologySpreadConstraints": []}) is None


def test_labels_annotations_and_placement_reach_everything(helm: Helm) -> None:
    values = {
        "commonLabels": {"team": "web"},
        "commonAnnotations": {"owner": "web"},
        "podLabels": {"app.kubernetes.io/name": "not to be overridden"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
    }
    metrics = {key: {"enabled": True} for key in ("serviceMonitor", "prometheusRule", "dashboard")}
    switches = {key: {"enabled": True} for key in ("emulator", "podDisruptionBudget", "networkPolicy")}
    objects = helm.template({**values, "metrics": metrics, **switches})
    for item in objects:
        assert item["metadata"]["labels"]["team"] == "web", item["kind"]
        assert item["metadata"]["annotations"]["owner"] == "web", item["kind"]
        if item["kind"] == "Deployment":
            template, wanted = item["spec"]["template"], item["spec"]["selector"]["matchLabels"]
            assert wanted.items() <= template["metadata"]["labels"].items()
            assert template["metadata"]["labels"]["team"] == "web"
            assert template["spec"]["nodeSelector"] == values["nodeSelector"]
            assert template["spec"]["tolerations"] == values["tolerations"]


def test_a_token_is_mounted_and_stands_in_no_argument(helm: Helm) -> None:
    objects = helm.template({"token": {"value": FAKE}, **SHARED})
    assert FAKE not in json.dumps(container(objects))
    assert container(objects)["env"] == [{"name": "VERCEL_TOKEN_FILE", "value": "/var/run/secrets/vercel/token"}]


@pytest.mark.parametrize("token", [{"value": FAKE}, {"existingSecret": "mine"}])
def test_who_may_use_a_default_token_has_to_be_written(helm: Helm, token: dict[str, Any]) -> None:
    assert "list the namespaces whose resources may use the default token" in helm.refusal({"token": token})
    for namespaces in (["*"], ["web", "shop"]):
        objects = helm.template({"token": token, "defaultToken": {"namespaces": namespaces}})
        flags = [arg for arg in container(objects)["args"] if arg.startswith("--default-token")]
        assert flags == [f"--default-token-namespace={namespace}" for namespace in namespaces]


def test_all_namespaces_may_use_the_token_of_an_emulator(helm: Helm) -> None:
    emulated = {"emulator": {"enabled": True}, "token": {"existingSecret": "mine"}}
    assert "--default-token-namespace=*" in container(helm.template(emulated))["args"]
    listed = container(helm.template({**emulated, "defaultToken": {"namespaces": ["web"]}}))["args"]
    assert [arg for arg in listed if arg.startswith("--default-token")] == ["--default-token-namespace=web"]


def test_a_pod_that_ends_is_given_time_to_write_down_what_vercel_answers(helm: Helm) -> None:
    for limit, grace in ((120, 195), (200.5, 276)):
        pod = one(helm.template({"vercel": {"postTimeout": limit}}), "Deployment")["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] == grace
        assert grace > limit + RECORD_LIMIT + process.EVENTS_LIMIT + Settings().lease_duration / 3


def test_its_pods_meet_pod_security_restricted(helm: Helm, control_plane: ControlPlane) -> None:
    control_plane.kubectl("create", "namespace", "restricted")
    control_plane.kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted")
    control_plane.kubectl("create", "serviceaccount", "own", "--namespace", "restricted")

    def create(**values: Any) -> list[str]:
        """What the API server says against the pods of a release; nothing is made."""
        values = {"token": {"value": FAKE}, "emulator": {"enabled": True}, **values}
        pods = [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": item["metadata"]["name"], "namespace": "restricted"},
                "spec": {**item["spec"]["template"]["spec"], "serviceAccountName": "own"},
            }
            for item in helm.template(values, namespace="restricted")
            if "template" in item.get("spec", {})
        ]
        assert len(pods) == 2
        command = ("create", "--dry-run=server", "--validate=strict", "-f", "-")
        return [control_plane.kubectl(*command, input=json.dumps(pod), check=False).stderr for pod in pods]

    assert create() == ["", ""]
    for refusal in create(podSecurityContext={"runAsNonRoot": False}):
        assert 'violates PodSecurity "restricted' in refusal, "nobody looks"
