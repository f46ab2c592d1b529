"""The health and the actions that Argo CD shows for a VercelCertificate, by a real Lua; and Argo CD's own tests."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

import argocd_cm
from argocd.customization import ACTION_TEST, ACTIONS, DISCOVERY, FOLDER, HEALTH, HEALTH_TEST, TESTDATA, load, text
from argocd.sandbox import LuaError, act, action, available_actions, health, run
from control_plane import ControlPlane
from vercel_certificate_operator.core.reasons import Reason

STATES = sorted(TESTDATA.iterdir())
HEALTH_TESTS = load(HEALTH_TEST)["tests"]
ACTION_TESTS = load(ACTION_TEST)
NOT_ON_READY = {
    # Why a usable certificate is replaced.
    Reason.RENEWAL_DUE,
    Reason.RENEW_REQUESTED,
    Reason.SOURCE_CHANGED,
    # A certificate that was not renewed is usable until it expires; then the reason is Expired.
    Reason.NOT_RENEWED,
    # A certificate that is usable until it expires; then another one is requested without a list.
    Reason.LIST_TOO_LONG,
    # Only in Events.
    Reason.RENEWED,
    Reason.REUSED,
    Reason.DELETED,
    Reason.RETAINED,
    Reason.ADOPTED,
    Reason.ADOPTION_REFUSED,
    Reason.CHANGED,
    Reason.RECORD_UNREADABLE,
    Reason.DELETION_FAILED,
    Reason.REMOVAL_FAILED,
    Reason.ORPHANED,
}


def conditions(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {condition["type"]: condition for condition in body.get("status", {}).get("conditions", [])}


# --- Argo CD's own tests, as its health_test.go and custom_actions_test.go run them -----------------------------------


@pytest.mark.parametrize("case", HEALTH_TESTS, ids=lambda case: case["inputPath"])
def test_health(case: dict[str, Any]) -> None:
    assert health(text(HEALTH), load(FOLDER / case["inputPath"])) == case["healthStatus"]


@pytest.mark.parametrize("case", ACTION_TESTS["discoveryTests"], ids=lambda case: case["inputPath"])
def test_actions_that_are_offered(case: dict[str, Any]) -> None:
    expected = [action(**fields) for fields in case["result"]]
    assert available_actions(text(DISCOVERY), load(ACTIONS / case["inputPath"])) == expected


@pytest.mark.parametrize("case", ACTION_TESTS["actionTests"], ids=lambda case: case["action"])
def test_an_action(case: dict[str, Any]) -> None:
    script = text(ACTIONS / case["action"] / "action.lua")
    expected = load(ACTIONS / case["expectedOutputPath"])
    now = datetime(2026, 11, 26, 8, tzinfo=UTC)
    assert act(script, load(ACTIONS / case["inputPath"]), now=now) == expected


# --- completeness -----------------------------------------------------------------------------------------------------


def test_each_resource_in_testdata_is_tested_and_its_name_begins_with_its_health() -> None:
    tested = {Path(case["inputPath"]).stem: case["healthStatus"]["status"] for case in HEALTH_TESTS}
    assert tested == {path.stem: path.stem.split("_")[0].capitalize() for path in STATES}


def test_each_reason_that_ready_can_have_has_a_recorded_resource() -> None:
    on_ready = {conditions(load(path))["Ready"]["reason"] for path in STATES if conditions(load(path))}
    assert on_ready == set(Reason) - NOT_ON_READY


def test_each_offered_action_exists_and_is_tested() -> None:
    offered = {found["name"] for found in available_actions(text(DISCOVERY), load(STATES[0]))}
    assert offered == {path.parent.name for path in ACTIONS.glob("*/action.lua")}
    assert offered == {case["action"] for case in ACTION_TESTS["actionTests"]}


# --- beyond what was recorded -----------------------------------------------------------------------------------------


def body(*, ready: tuple[str, str] | None, issuing: tuple[str, str] = ("False", "Issued")) -> dict[str, Any]:
    found = {"Ready": ready, "Issuing": issuing} if ready else {}
    return {
        "metadata": {"generation": 1},
        "spec": {"cns": ["example.com"]},
        "status": {
            "observedGeneration": 1,
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "message": f"{kind} says so."}
                for kind, (status, reason) in found.items()
            ],
        },
    }


@pytest.mark.parametrize("reason", sorted(set(Reason) - {Reason.FIRST_ISSUE}))
def test_a_resource_that_is_not_ready_is_degraded_with_the_reason(reason: str) -> None:
    shown = health(text(HEALTH), body(ready=("False", reason), issuing=("False", reason)))
    assert shown == {"status": "Degraded", "message": f"{reason}: Ready says so."}


def test_while_the_scope_has_vanished_and_ready_is_unknown_it_is_degraded() -> None:
    shown = health(text(HEALTH), body(ready=("Unknown", "ScopeVanished"), issuing=("False", "ScopeVanished")))
    assert shown == {"status": "Degraded", "message": "ScopeVanished: Ready says so."}


def test_a_resource_without_an_attempt_is_progressing() -> None:
    shown = health(text(HEALTH), body(ready=("False", "FirstIssue"), issuing=("False", "FirstIssue")))
    assert shown["status"] == "Progressing"


@pytest.mark.parametrize("issuing", [("True", "RenewalDue"), ("False", "PaymentRequired")])
def test_a_ready_resource_is_healthy_whatever_happens_to_its_renewal(issuing: tuple[str, str]) -> None:
    shown = health(text(HEALTH), body(ready=("True", "Issued"), issuing=issuing))
    assert shown == {"status": "Healthy", "message": f"Ready says so. {issuing[1]}: Issuing says so."}


@pytest.mark.parametrize("status", [None, {}, {"conditions": []}, {"observedGeneration": 1}])
def test_a_resource_without_conditions_is_progressing(status: dict[str, Any] | None) -> None:
    resource = body(ready=None) | {"status": status}
    assert health(text(HEALTH), resource) == {"status": "Progressing", "message": "Waiting for the operator."}


def test_a_suspended_resource_is_progressing_until_the_operator_has_seen_that() -> None:
    resource = body(ready=("True", "Issued"))
    resource["metadata"]["generation"] = 2
    resource["spec"]["suspend"] = True
    assert health(text(HEALTH), resource)["status"] == "Progressing"


def test_the_renew_action_makes_a_new_request_each_time_and_changes_nothing_else() -> None:
    script, resource = text(ACTIONS / "renew" / "action.lua"), load(TESTDATA / "healthy_issued.yaml")
    first = act(script, resource, now=datetime(2026, 11, 26, 8, tzinfo=UTC))
    second = act(script, first, now=datetime(2026, 11, 26, 8, 0, 1, tzinfo=UTC))
    assert first != second
    for made in (first, second):
        assert list(made["metadata"].pop("annotations")) == ["vercel-operator.io/renew"]
    assert first == second == resource


def test_the_renew_action_works_without_any_annotation() -> None:
    made = act(text(ACTIONS / "renew" / "action.lua"), {"metadata": {"name": "x"}, "spec": {}})
    assert list(made["metadata"]["annotations"]) == ["vercel-operator.io/renew"]


# --- the sandbox is as bare as Argo CD's ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        "return {string.upper('x')}",
        "return {('x'):upper()}",
        "return {math.floor(1)}",
        "return {io.open('x')}",
        "return {os.time()}",
        "return {require('string')}",
        "return {require('os').getenv('HOME')}",
        "return {debug.getinfo(1)}",
        "return {coroutine.create(print)}",
        "return {python.builtins}",
    ],
)
def test_the_sandbox_lacks_what_argo_cd_lacks(script: str) -> None:
    with pytest.raises(LuaError):
        run(script, {})


def test_the_sandbox_has_what_argo_cd_has() -> None:
    answer = run("return {require('os').time(), table.concat({'a', 'b'}), tostring(1), type(pairs)}", {})
    assert answer[1:] == ["ab", "1", "function"]


# --- for argocd-cm ----------------------------------------------------------------------------------------------------


def test_the_patch_for_the_config_map_has_the_same_scripts() -> None:
    data = load(argocd_cm.CONFIG_MAP)["data"]
    assert data["resource.customizations.health.vercel-operator.io_VercelCertificate"] == text(HEALTH)
    actions = yaml.safe_load(data["resource.customizations.actions.vercel-operator.io_VercelCertificate"])
    assert actions["discovery.lua"] == text(DISCOVERY)
    assert actions["definitions"] == [{"name": "renew", "action.lua": text(ACTIONS / "renew" / "action.lua")}]


CONFIG_MAP: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "argocd-cm", "labels": {"app.kubernetes.io/part-of": "argocd"}},
    "data": {"url": "https://argocd.example.com", "application.instanceLabelKey": "argocd.argoproj.io/instance"},
}
"""Argo CD's own. Argo CD finds it by its label."""


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(["create"], id="create"),
        pytest.param(["apply"], id="client-side apply, the official way for years"),
        pytest.param(["apply", "--server-side"], id="server-side apply"),
        pytest.param(["apply", "--server-side", "--field-manager=argocd-controller"], id="Argo CD manages itself"),
        pytest.param(["apply", "--server-side", "--field-manager=vercel-certificate-operator"], id="the same manager"),
    ],
)
def test_the_patch_adds_its_entries_and_keeps_all_others_however_the_config_map_was_made(
    control_plane: ControlPlane, namespace: str, how: list[str]
) -> None:
    def kubectl(*args: str | Path, text: str | None = None) -> str:
        return control_plane.kubectl("--namespace", namespace, *args, input=text).stdout

    kubectl(*how, "-f", "-", text=yaml.safe_dump(CONFIG_MAP))
    for _ in range(2):
        kubectl("patch", "configmap", "argocd-cm", "--type=merge", f"--patch-file={argocd_cm.CONFIG_MAP}")

    found = yaml.safe_load(kubectl("get", "configmap", "argocd-cm", "-o", "yaml"))
    assert found["data"] == {**CONFIG_MAP["data"], **load(argocd_cm.CONFIG_MAP)["data"]}
    assert found["metadata"]["labels"] == CONFIG_MAP["metadata"]["labels"]

    # Its own manager applies it again, with a change.
    changed = {**CONFIG_MAP, "data": {**CONFIG_MAP["data"], "url": "https://cd.example.com"}}
    if how[0] == "apply":
        kubectl(*how, "-f", "-", text=yaml.safe_dump(changed))
        found = yaml.safe_load(kubectl("get", "configmap", "argocd-cm", "-o", "yaml"))
        assert found["data"] == {**changed["data"], **load(argocd_cm.CONFIG_MAP)["data"]}
