"""What Argo CD shows of a VercelCertificate and what it offers, by a real Lua; and Argo CD's own tests of that."""

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
    # why a certificate that is good is replaced all the same
    Reason.RENEWAL_DUE,
    Reason.RENEW_REQUESTED,
    # a certificate that has not been renewed is good until it expires, and then removed and asked for anew
    Reason.NOT_RENEWED,
    # of events only
    Reason.RENEWED,
    Reason.DELETED,
    Reason.RETAINED,
    Reason.ADOPTED,
    Reason.CHANGED,
    Reason.FAILED,
    Reason.DELETION_FAILED,
    Reason.LATE_CERTIFICATE,
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


# --- that they are all there ------------------------------------------------------------------------------------------


def test_each_resource_in_testdata_is_tested_and_its_name_begins_with_its_health() -> None:
    tested = {Path(case["inputPath"]).stem: case["healthStatus"]["status"] for case in HEALTH_TESTS}
    assert tested == {path.stem: path.stem.split("_")[0].capitalize() for path in STATES}


def test_each_reason_that_ready_can_have_has_a_resource() -> None:
    on_ready = {conditions(load(path))["Ready"]["reason"] for path in STATES if conditions(load(path))}
    assert on_ready == set(Reason) - NOT_ON_READY


def test_each_action_that_is_offered_is_there_and_tested() -> None:
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
def test_whatever_keeps_it_from_being_ready_degrades_it_with_the_reason(reason: str) -> None:
    shown = health(text(HEALTH), body(ready=("False", reason), issuing=("False", reason)))
    assert shown == {"status": "Degraded", "message": f"{reason}: Ready says so."}


def test_what_has_not_been_asked_for_yet_is_progressing() -> None:
    shown = health(text(HEALTH), body(ready=("False", "FirstIssue"), issuing=("False", "FirstIssue")))
    assert shown["status"] == "Progressing"


@pytest.mark.parametrize("issuing", [("True", "RenewalDue"), ("False", "PaymentRequired")])
def test_while_ready_it_is_healthy_whatever_becomes_of_the_renewal(issuing: tuple[str, str]) -> None:
    shown = health(text(HEALTH), body(ready=("True", "Issued"), issuing=issuing))
    assert shown == {"status": "Healthy", "message": f"Ready says so. {issuing[1]}: Issuing says so."}


@pytest.mark.parametrize("status", [None, {}, {"conditions": []}, {"observedGeneration": 1}])
def test_before_the_operator_has_said_anything_it_is_progressing(status: dict[str, Any] | None) -> None:
    resource = body(ready=None) | {"status": status}
    assert health(text(HEALTH), resource) == {"status": "Progressing", "message": "Waiting for the operator."}


def test_what_is_suspended_but_not_yet_seen_to_be_is_progressing() -> None:
    resource = body(ready=("True", "Issued"))
    resource["metadata"]["generation"] = 2
    resource["spec"]["suspend"] = True
    assert health(text(HEALTH), resource)["status"] == "Progressing"


def test_the_renew_action_asks_anew_each_time_and_leaves_everything_else() -> None:
    script, resource = text(ACTIONS / "renew" / "action.lua"), load(TESTDATA / "healthy_issued.yaml")
    first = act(script, resource, now=datetime(2026, 11, 26, 8, tzinfo=UTC))
    second = act(script, first, now=datetime(2026, 11, 26, 8, 0, 1, tzinfo=UTC))
    assert first != second
    for made in (first, second):
        del made["metadata"]["annotations"]["vercel-operator.io/renew"]
    assert first == second == resource


def test_the_renew_action_needs_no_annotation_to_be_there() -> None:
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
def test_what_argo_cd_leaves_out_is_left_out(script: str) -> None:
    with pytest.raises(LuaError):
        run(script, {})


def test_what_argo_cd_has_is_there() -> None:
    answer = run("return {require('os').time(), table.concat({'a', 'b'}), tostring(1), type(pairs)}", {})
    assert answer[1:] == ["ab", "1", "function"]


# --- for argocd-cm ----------------------------------------------------------------------------------------------------


def test_the_config_map_has_the_same_scripts() -> None:
    """The scripts as Argo CD reads them there."""
    data = load(argocd_cm.CONFIG_MAP)["data"]
    assert data["resource.customizations.health.vercel-operator.io_VercelCertificate"] == text(HEALTH)
    actions = yaml.safe_load(data["resource.customizations.actions.vercel-operator.io_VercelCertificate"])
    assert actions["discovery.lua"] == text(DISCOVERY)
    assert actions["definitions"] == [{"name": "renew", "action.lua": text(ACTIONS / "renew" / "action.lua")}]


def test_the_config_map_is_added_to_what_argo_cd_has_there(control_plane: ControlPlane, namespace: str) -> None:
    def kubectl(*args: str | Path) -> str:
        return control_plane.kubectl("--namespace", namespace, *args).stdout

    kubectl("create", "configmap", "argocd-cm", "--from-literal=url=https://argocd.example.com")
    for _ in range(2):
        kubectl("apply", "--server-side", "--field-manager=vercel-certificate-operator", "-f", argocd_cm.CONFIG_MAP)
    data = yaml.safe_load(kubectl("get", "configmap", "argocd-cm", "-o", "yaml"))["data"]
    assert data == {"url": "https://argocd.example.com", **load(argocd_cm.CONFIG_MAP)["data"]}
