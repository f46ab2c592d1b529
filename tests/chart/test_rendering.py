"""What the chart renders, and which values it refuses."""

import json
import re
import textwrap
from typing import Any

import pytest
import yaml

import tools
from chart.pairs import all_pairs
from chart.release import NAME
from control_plane import ControlPlane
from support.helm import CHART, Helm
from vercel_certificate_operator import process
from vercel_certificate_operator.proxies import proxy_for
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
        {"emulator": {"enabled": True}},
        {"emulator": {"enabled": True}, **SHARED},
    ],
    "secrets": [{}, {"tokenSecrets": {"names": ["one", "two"]}}, {"tokenSecrets": {"enabled": False}}],
    "uploads": [{}, {"uploads": {"pollInterval": "1h"}}, {"uploads": {"enabled": False, "pollInterval": 86400}}],
    "watch": [{}, {"watchNamespaces": ["default", "kube-public"]}],
    "selector": [{}, {"selector": "team in (web,shop)"}],
    "team": [{}, {"vercel": {"teamId": "team_1"}}, {"vercel": {"teamSlug": "alpha", "postTimeout": 30.5}}],
    "account": [
        {},
        {"serviceAccount": {"create": False, "name": "default"}},
        {"serviceAccount": {"name": "own", "annotations": {"role": "x"}, "labels": {"cloud": "yes"}}},
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
                "dnsPorts": [53, 5353],
                "ingressFrom": [{"namespaceSelector": {"matchLabels": {"monitoring": "yes"}}}],
                "extraEgress": [{"ports": [{"port": 3128, "protocol": "TCP"}]}],
            }
        },
    ],
    "scraped": [
        {},
        {"service": {"enabled": True, "annotations": {"note": "x"}}},
        {
            "serviceMonitor": {
                "enabled": True,
                "labels": {"release": "x"},
                "relabelings": [{"targetLabel": "cluster", "replacement": "one"}],
            }
        },
        {
            "podMonitor": {
                "enabled": True,
                "interval": "1m30s",
                "scrapeTimeout": "5s",
                "metricRelabelings": [{"action": "drop", "sourceLabels": ["cn"], "regex": "x"}],
            }
        },
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
    "policy": [
        {},
        {"policy": {"enabled": True, "allow": [{"namespaces": ["*"], "cns": ["*"]}]}},
        {
            "policy": {
                "enabled": True,
                "action": "Warn",
                "allow": [
                    {"namespaces": ["team-a-*", "b"], "cns": ["example.com", "*.example.com"], "teams": ["team_1", ""]},
                    {"namespaces": ["c"], "cns": ["*"], "teams": ["alpha"]},
                ],
                "allowAdoption": [
                    {"namespaces": ["*"], "users": ["system:serviceaccount:a:b", 'with "quotes" \\ and <brackets>']},
                    {"namespaces": ["c"], "groups": ["admins"]},
                    {"namespaces": ["d-*"]},
                ],
            }
        },
    ],
    "proxy": [
        {},
        {"proxy": {"httpsProxy": "http://proxy.example.com:3128", "noProxy": ["10.0.0.0/8", "fd00::/8", ".svc"]}},
        {"proxy": {"httpProxy": "proxy", "noProxy": ".svc,.cluster.local"}},
    ],
    "bundle": [{}, {"caBundle": {"configMap": "ca"}}, {"caBundle": {"secret": "ca", "key": "bundle.pem"}}],
    "rbac": [{}, {"rbac": {"create": False}}],
    "namespace": [{}, {"namespaceOverride": "kube-public"}],
    "global": [
        {},
        {
            "global": {
                "imageRegistry": "registry.example.com:5000",
                "imagePullSecrets": ["one", {"name": "two"}],
                "other": {"of": "a parent chart"},
            },
            "enabled": True,
        },
    ],
    "rollout": [
        {},
        {"strategy": {"type": "Recreate"}, "revisionHistoryLimit": 0, "deploymentAnnotations": {"note": "x"}},
        {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}},
    ],
    "network of the pod": [
        {},
        {"hostNetwork": True, "port": 8090},
        {
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["10.0.0.10"]},
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["proxy"]}],
        },
    ],
    "probes": [
        {},
        {"livenessProbe": None, "readinessProbe": {"periodSeconds": 9}, "startupProbe": {"failureThreshold": 9}},
    ],
    "containers": [
        {},
        {
            "initContainers": [{"name": "before", "image": "busybox"}],
            "extraContainers": [{"name": "beside", "image": "busybox"}],
        },
    ],
    "objects": [
        {},
        {
            "extraObjects": [
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": "{{ .Release.Name }}-one", "namespace": "default"},
                },
                "{apiVersion: v1, kind: ConfigMap, metadata: {name: two, namespace: default}}",
            ]
        },
    ],
    "limits": [{}, {"maxInFlight": 1, "driftInterval": "1h30m", "issuanceLimit": 9}, {"driftInterval": 31536000}],
}


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(item for item in objects if item["kind"] == kind)


def container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return found


@pytest.fixture(scope="module")
def helm_4(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(tools.helm_4(), tmp_path_factory.mktemp("helm-4"))


def test_it_lints_strictly(helm: Helm, helm_4: Helm) -> None:
    for each in (helm, helm_4):
        each("lint", "--strict", CHART)


def test_helm_3_and_4_render_the_same(helm: Helm, helm_4: Helm) -> None:
    for row in all_pairs(SWITCHES)[:3]:
        metrics = {**row.pop("scraped"), **row.pop("told")}
        values = {"metrics": metrics, **{key: value for choice in row.values() for key, value in choice.items()}}
        assert helm.template(values) == helm_4.template(values)


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
        control_plane.define(folder / f"monitoring.coreos.com_{kind}.yaml")


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
        {"replicas": "2"},
        {"vercel": {"postTimeout": 601}},
        {"log": {"level": "loud"}},
        {"defaultToken": {"namespace": "web"}},
        {"terminationGracePeriodSeconds": 1},
        {"metrics": {"prometheusRule": {"runbookUrl": ""}}},
        {"livenessProbe": {"httpGet": {"port": 1}}},
        {"policy": {"allow": [{"namespaces": ["web"]}]}},
        {"policy": {"allow": [{"namespaces": [], "cns": ["*"]}]}},
    ],
    ids=str,
)
def test_values_of_the_wrong_shape_are_refused(helm: Helm, values: dict[str, Any]) -> None:
    assert next(iter(values)) in helm.refusal(values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"token": {"value": FAKE, "existingSecret": "mine"}, **SHARED},
            "token: existingSecret and value are both set; set one of them",
        ),
        ({"token": {"existingSecret": "Mine"}, **SHARED}, 'token.existingSecret: "Mine" is not a name that Kubernetes'),
        ({"token": {"key": "a/b"}}, 'token.key: "a/b" is not a key of a Secret or ConfigMap; use letters'),
        (
            {"token": {"existingSecret": "mine"}, "emulator": {"enabled": True}, **SHARED},
            "token: emulator.enabled is set, and a real token must not be used with an emulator; leave",
        ),
        ({"token": {"value": FAKE}, "emulator": {"enabled": True}, **SHARED}, "a real token must not be used with an"),
        (
            {"extraEnv": [{"name": "VERCEL_TOKEN", "value": "x"}], "emulator": {"enabled": True}},
            "extraEnv: emulator.enabled is set, and a real token must not be used with an emulator; the chart sets the",
        ),
        (
            {"extraEnv": [{"name": "VERCEL_TOKEN", "value": "x"}], "emulator": {"enabled": True}},
            "the chart sets the token and the API's URL itself; remove VERCEL_TOKEN, or set emulator.enabled to false",
        ),
        (
            {"extraEnv": [{"name": "VERCEL_TOKEN_FILE", "value": "/token"}], "emulator": {"enabled": True}},
            "remove VERCEL_TOKEN_FILE, or",
        ),
        (
            {"extraEnv": [{"name": "VERCEL_API_URL", "value": "http://x"}], "emulator": {"enabled": True}},
            "remove VERCEL_API_URL, or",
        ),
        (
            {"extraArgs": ["--vercel-token-file=/token"], "emulator": {"enabled": True}},
            "extraArgs: emulator.enabled is set, and a real token must not be used with an emulator; the chart sets",
        ),
        ({"extraArgs": ["--vercel-token-file", "/t"], "emulator": {"enabled": True}}, "remove --vercel-token-file, or"),
        ({"extraArgs": ["--vercel-api-url=http://x"], "emulator": {"enabled": True}}, "remove --vercel-api-url, or"),
        ({"token": {"existingSecret": "mine"}}, "defaultToken.namespaces: is required with token.existingSecret or"),
        ({"defaultToken": {"namespaces": ["web*"]}}, 'defaultToken.namespaces: "web*" is neither the name of a'),
        ({"watchNamespaces": ["Web"]}, 'watchNamespaces: "Web" is not the name of a namespace; use a to z, 0 to 9'),
        ({"tokenSecrets": {"names": ["Not_a_name"]}}, 'tokenSecrets.names: "Not_a_name" is not the name of a Secret'),
        ({"vercel": {"teamId": "alpha"}}, 'vercel.teamId: "alpha" is not the id of a team, which begins with team_;'),
        ({"vercel": {"teamSlug": "a/b"}}, 'vercel.teamSlug: "a/b" is not the slug of a team; write what follows'),
        ({"vercel": {"teamId": "team_1", "teamSlug": "alpha"}}, "vercel: teamId and teamSlug are both set; name the"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name: is required with serviceAccount.create=false;"),
        (
            {"podDisruptionBudget": {"maxUnavailable": "some"}},
            '"some" is neither a number nor a percentage, such as 50%',
        ),
        (
            {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
            "metrics: serviceMonitor and podMonitor are both enabled, so everything would be scraped twice; enable one",
        ),
        ({"metrics": {"podMonitor": {"interval": "often"}}}, 'metrics.podMonitor.interval: "often" is not a duration;'),
        ({"driftInterval": "daily"}, 'driftInterval: "daily" is not a duration; write it as in 90s, 1h30m or 6h'),
        ({"uploads": {"pollInterval": "often"}}, 'uploads.pollInterval: "often" is not a duration; write it as in 90s'),
        ({"image": {"digest": "sha256:0"}}, 'image.digest: "sha256:0" is not a digest; write sha256: and 64'),
        ({"imagePullSecrets": [{}]}, "imagePullSecrets: an entry has no name; write [{name: registry}]"),
        ({"caBundle": {"configMap": "a", "secret": "b"}}, "caBundle: configMap and secret are both set; set one of"),
        ({"proxy": {"httpsProxy": "http://"}}, "proxy.httpsProxy: is not the URL of a proxy; write it as in http://"),
        (
            {"replicas": 2, "extraArgs": ["--no-leader-elect"]},
            "replicas: 2 replicas need a leader; remove --no-leader-elect from extraArgs, or set replicas to 1",
        ),
        (
            {"extraArgs": ["--no-leader-elect"]},
            "strategy: without a leader, an upgrade must not run two pods at a time; set strategy.type to Recreate, or",
        ),
        ({"policy": {"enabled": True}}, "policy.allow: is required with policy.enabled, since what no entry allows is"),
        (
            {"policy": {"allow": [{"namespaces": ["*-a"], "cns": ["*"]}]}},
            'policy: "*-a" is neither the name of a namespace nor a prefix with *, such as team-',
        ),
        (
            {"policy": {"allow": [{"namespaces": ["a"], "cns": ["www.*.com"]}]}},
            'policy.allow: "www.*.com" is not a pattern of names; write example.com for one name, *.example.com for',
        ),
        ({"policy": {"allow": [{"namespaces": ["a"], "cns": ["*"], "teams": ["a b"]}]}}, '"a b" is neither the id nor'),
        (
            {"policy": {"allow": [{"namespaces": ["a"], "cns": ["*"], "teams": []}]}},
            "policy.allow: teams is an empty list; list ids and slugs of teams, or remove teams to allow all teams",
        ),
        (
            {"policy": {"allowAdoption": [{"namespaces": ["a"], "users": []}]}},
            "policy.allowAdoption: users is an empty list; list users, or remove it; an entry without users and groups",
        ),
        (
            {"policy": {"allowAdoption": [{"namespaces": ["a"], "users": ["jane"], "groups": []}]}},
            "policy.allowAdoption: groups is an empty list; list groups, or remove it; an entry without users",
        ),
    ],
    ids=str,
)
def test_values_that_make_no_sense_are_refused_in_a_sentence(helm: Helm, values: dict[str, Any], sentence: str) -> None:
    assert sentence in helm.refusal(values)


def test_all_that_is_wrong_is_said_at_once(helm: Helm) -> None:
    said = helm.refusal({"driftInterval": "x", "watchNamespaces": ["A"], "proxy": {"httpProxy": "http://me:secret@"}})
    assert said.count("\n  ") == 3
    assert "secret" not in said, "a proxy's password is not shown"


def test_one_pod_may_go_without_a_leader_if_upgrades_replace_it(helm: Helm) -> None:
    helm.template({"extraArgs": ["--no-leader-elect"], "strategy": {"type": "Recreate"}})


def test_a_policy_needs_an_api_server_that_knows_it(helm: Helm) -> None:
    values = helm.values({"policy": {"enabled": True, "allow": [{"namespaces": ["*"], "cns": ["*"]}]}})
    said = helm("template", "vco", CHART, "--kube-version=1.29.9", "--values", values, check=False)
    assert "a ValidatingAdmissionPolicy needs Kubernetes 1.30 or newer, and this is v1.29.9" in said


@pytest.mark.parametrize(
    ("image", "registry", "expected"),
    [
        ({"repository": "ghcr.io/owner/vco", "tag": "1"}, "", "ghcr.io/owner/vco:1"),
        ({"repository": "ghcr.io/owner/vco", "tag": "1"}, "registry.example.com", "registry.example.com/owner/vco:1"),
        ({"repository": "localhost/vco", "tag": "1"}, "r.example.com/mirror/", "r.example.com/mirror/vco:1"),
        ({"repository": "host:5000/a/vco", "digest": f"sha256:{'0' * 64}"}, "r:1", f"r:1/a/vco@sha256:{'0' * 64}"),
        ({"repository": "owner/vco", "tag": "1"}, "r.example.com", "r.example.com/owner/vco:1"),
        ({"repository": "vco", "tag": "1"}, "r.example.com", "r.example.com/vco:1"),
    ],
    ids=str,
)
def test_all_images_come_from_the_global_registry(
    helm: Helm, image: dict[str, str], registry: str, expected: str
) -> None:
    objects = helm.template(
        {
            "image": image,
            "global": {"imageRegistry": registry, "imagePullSecrets": ["one", {"name": "two"}]},
            "imagePullSecrets": [{"name": "two"}, "three"],
            "emulator": {"enabled": True},
        }
    )
    pods = [item["spec"]["template"]["spec"] for item in objects if item["kind"] == "Deployment"]
    assert [each["image"] for pod in pods for each in pod["containers"]] == [expected, expected]
    for pod in pods:
        assert pod["imagePullSecrets"] == [{"name": name} for name in ("one", "two", "three")]


def test_all_objects_are_in_the_other_namespace(helm: Helm) -> None:
    switches = {key: {"enabled": True} for key in ("emulator", "podDisruptionBudget", "networkPolicy")}
    metrics = {key: {"enabled": True} for key in ("serviceMonitor", "prometheusRule", "dashboard")}
    objects = helm.template({"namespaceOverride": "other", "metrics": metrics, **switches}, namespace="home")
    assert "home" not in json.dumps(objects)
    assert {item["metadata"].get("namespace") for item in objects} == {"other", None}


def test_without_rbac_no_right_is_granted(helm: Helm) -> None:
    for watched in ([], ["web"]):
        objects = helm.template({"rbac": {"create": False}, "watchNamespaces": watched})
        assert not [item["kind"] for item in objects if "Role" in item["kind"]]


def test_the_defaults_of_the_values_are_those_of_the_flags(helm: Helm) -> None:
    given = {name: value for flag in container(helm.template({}))["args"] for name, _, value in [flag.partition("=")]}
    settings = Settings(
        max_in_flight=int(given["--max-in-flight"]),
        drift_interval=given["--drift-interval"],
        issuance_limit=int(given["--issuance-limit"]),
        post_timeout=float(given["--post-timeout"]),
        source_poll_interval=given["--source-poll-interval"],
        uploads="--no-uploads" not in given,
    )
    assert settings == Settings()


def test_uploads_can_be_turned_off(helm: Helm) -> None:
    objects = helm.template({"uploads": {"enabled": False}})
    assert "--no-uploads" in container(objects)["args"]
    assert one(objects, "ClusterRole")["rules"] == one(helm.template({}), "ClusterRole")["rules"]


def environment(objects: list[dict[str, Any]]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(objects).get("env", [])}


def test_a_proxy_reaches_the_operator_and_never_stands_before_the_emulator(helm: Helm) -> None:
    proxy = {"httpsProxy": "http://one:3128", "httpProxy": "http://two", "noProxy": ["10.0.0.0/8", "fd00::/8", ".svc"]}
    given = environment(helm.template({"proxy": proxy}))
    assert given == {
        "HTTPS_PROXY": "http://one:3128",
        "HTTP_PROXY": "http://two",
        "NO_PROXY": "10.0.0.0/8,fd00::/8,.svc",
    }
    for no_proxy in ("", "10.0.0.0/8", [], ["10.0.0.0/8", ".example.com"]):
        values = {"proxy": {**proxy, "noProxy": no_proxy}, "emulator": {"enabled": True}}
        given = environment(helm.template(values))
        assert proxy_for(given["VERCEL_API_URL"], given) is None, no_proxy
        assert proxy_for("https://api.vercel.com", given) == "http://one:3128"


def test_a_network_policy_lets_the_operator_reach_its_proxies_and_dns(helm: Helm) -> None:
    proxy = {"httpsProxy": "https://me:secret@one.example.com", "httpProxy": "two:3128"}
    values = {"networkPolicy": {"enabled": True, "dnsPorts": [53, 5353], "apiServerPorts": [6443, 443]}, "proxy": proxy}
    dns, other = one(helm.template(values), "NetworkPolicy")["spec"]["egress"]
    assert [(each["port"], each["protocol"]) for each in dns["ports"]] == [
        (port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")
    ]
    assert [each["port"] for each in other["ports"]] == [443, 6443, 3128]


def test_only_the_operator_reaches_the_emulator_and_that_reaches_nothing(helm: Helm) -> None:
    objects = helm.template({"networkPolicy": {"enabled": True}, "emulator": {"enabled": True}})
    policies = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "NetworkPolicy"}
    pods = {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"]
        for item in objects
        if item["kind"] == "Deployment"
    }

    def chosen(selector: dict[str, Any]) -> list[str]:
        return [name for name, labels in pods.items() if selector["matchLabels"].items() <= labels.items()]

    emulator = policies[f"{NAME}-emulator"]
    assert chosen(emulator["podSelector"]) == [f"{NAME}-emulator"]
    assert (emulator["policyTypes"], emulator["egress"]) == (["Ingress", "Egress"], [])
    [ingress] = emulator["ingress"]
    assert [chosen(each["podSelector"]) for each in ingress["from"]] == [[NAME]]
    assert chosen(policies[NAME]["podSelector"]) == [NAME]
    assert [chosen(each["podSelector"]) for rule in policies[NAME]["egress"] for each in rule.get("to", [])] == [
        [f"{NAME}-emulator"]
    ]


def test_a_company_s_certificate_authorities_are_mounted_and_used(helm: Helm) -> None:
    for bundle in ({"configMap": "ca"}, {"secret": "ca", "key": "bundle.pem"}):
        objects = helm.template({"caBundle": bundle})
        file = environment(objects)["SSL_CERT_FILE"]
        [mount] = container(objects)["volumeMounts"]
        [volume] = one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]
        assert volume.pop("name") == mount["name"]
        [(kind, source)] = volume.items()
        assert (kind == "configMap") is ("configMap" in bundle)
        assert source.get("name", source.get("secretName")) == "ca"
        [item] = source["items"]
        assert item["key"] == bundle.get("key", "ca.crt")
        assert file == f"{mount['mountPath']}/{item['path']}"


def test_probes_can_be_tuned_and_left_out(helm: Helm) -> None:
    found = container(
        helm.template(
            {"livenessProbe": None, "readinessProbe": {"periodSeconds": 9}, "startupProbe": {"timeoutSeconds": 1}}
        )
    )
    assert "livenessProbe" not in found
    ready = {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 9, "timeoutSeconds": 5}
    assert found["readinessProbe"] == ready
    assert found["startupProbe"]["failureThreshold"] == 60
    assert found["startupProbe"]["timeoutSeconds"] == 1


def test_the_http_port_is_the_same_everywhere(helm: Helm) -> None:
    objects = helm.template({"port": 9999, "metrics": {"service": {"enabled": True}}})
    assert "--listen=:9999" in container(objects)["args"]
    assert container(objects)["ports"] == [{"name": "http", "containerPort": 9999}]
    assert one(objects, "Service")["spec"]["ports"] == [{"name": "http", "port": 9999, "targetPort": "http"}]


def test_extra_objects_may_have_templates(helm: Helm) -> None:
    text = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ include "vco.fullname" . }}-text"}\n'
    extra = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-map"}}
    names = [i["metadata"]["name"] for i in helm.template({"extraObjects": [extra, text]}) if i["kind"] == "ConfigMap"]
    assert sorted(names) == ["vco-map", f"{NAME}-text"]


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


def test_its_rights_are_the_same_namespaced_and_cluster_wide_and_those_that_the_documentation_shows(helm: Helm) -> None:
    everywhere = one(helm.template({}), "ClusterRole")["rules"]
    assert one(helm.template({"watchNamespaces": ["web"]}), "Role")["rules"] == everywhere
    text = (CHART.parents[2] / "docs" / "installing.md").read_text(encoding="utf-8")
    (shown,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "kind: ClusterRole" in block]
    assert yaml.safe_load(textwrap.dedent(shown))["rules"] == everywhere


def test_what_it_tells_artifact_hub_is_so() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    annotations = {key.removeprefix("artifacthub.io/"): text for key, text in about["annotations"].items()}
    [crd] = yaml.safe_load(annotations["crds"])
    definition = yaml.safe_load((CHART / "files" / "vercelcertificates.yaml").read_text(encoding="utf-8"))
    assert (crd["name"], crd["kind"]) == (definition["metadata"]["name"], definition["spec"]["names"]["kind"])
    assert crd["version"] in {version["name"] for version in definition["spec"]["versions"]}
    examples = CHART.parents[2] / "examples"
    example = yaml.safe_load((examples / "example-com.yaml").read_text(encoding="utf-8"))
    assert yaml.safe_load(annotations["crdsExamples"]) == [example]
    assert all(link["url"].startswith("https://") for link in yaml.safe_load(annotations["links"]))
    assert (CHART.parents[2] / about["icon"].partition("/main/")[2]).exists()


def test_two_releases_of_one_name_share_no_object_beyond_their_namespaces(helm: Helm) -> None:
    def wide(namespace: str) -> set[tuple[str, str, str]]:
        return {
            (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])
            for item in helm.template({"watchNamespaces": ["web"], "crds": {"enabled": False}}, namespace=namespace)
        }

    assert wide("one") & wide("two") == set()


def test_two_releases_share_no_cluster_wide_object_if_their_names_differ_only_in_a_dash(helm: Helm) -> None:
    policy = {"enabled": True, "allow": [{"namespaces": ["*"], "cns": ["*"]}]}

    def wide(name: str, namespace: str) -> set[tuple[str, str]]:
        values = {"fullnameOverride": name, "crds": {"enabled": False}, "policy": policy}
        objects = helm.template(values, namespace=namespace)
        return {(item["kind"], item["metadata"]["name"]) for item in objects if "namespace" not in item["metadata"]}

    for (name, namespace), (other_name, other_namespace) in (
        (("b-c", "a"), ("c", "a-b")),
        (("x" * 53, "n" * 62 + "a"), ("x" * 53, "n" * 62 + "b")),
    ):
        first, other = wide(name, namespace), wide(other_name, other_namespace)
        assert first
        assert not first & other
        assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,61}[a-z0-9]", name) for _, name in first | other)


def test_only_its_own_pods_get_the_token_of_its_service_account(helm: Helm) -> None:
    objects = helm.template({"emulator": {"enabled": True}})
    assert one(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    mounted = {
        item["metadata"]["name"]: item["spec"]["template"]["spec"]["automountServiceAccountToken"]
        for item in objects
        if item["kind"] == "Deployment"
    }
    assert mounted == {NAME: True, f"{NAME}-emulator": False}


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


def test_a_token_is_mounted_and_is_in_no_argument(helm: Helm) -> None:
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
    emulated = {"emulator": {"enabled": True}}
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
        command = ("create", "--dry-run=server", "--validate=strict", "-f", "-")
        return [control_plane.kubectl(*command, input=json.dumps(pod), check=False).stderr for pod in pods]

    emulated = {"emulator": {"enabled": True}}
    assert create(token={"value": FAKE}, **SHARED) == [""]
    assert create(**emulated, caBundle={"configMap": "ca"}, proxy={"httpsProxy": "http://proxy:3128"}) == ["", ""]
    refusals = create(**emulated, podSecurityContext={"runAsNonRoot": False})
    assert len(refusals) == 2
    for refusal in refusals:
        assert 'violates PodSecurity "restricted' in refusal, "nobody looks"
