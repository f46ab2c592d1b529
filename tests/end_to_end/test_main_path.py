"""The main path: issued, renewed, removed; and what that costs."""

import json
from collections import Counter

import pytest

from control_plane import ControlPlane
from support.operator_process import Namespace, OperatorProcess, StartOperator, eventually
from vercel_emulator.client import EmulatorControl
from vercel_emulator.models import Fault

AGENT = "vercel-certificate-operator"


@pytest.fixture
def preloaded() -> bool:
    """Here, operators are started by their command line."""
    return False


def writes(control_plane: ControlPlane, mark: int) -> Counter[tuple[str, str, str]]:
    """What the operator wrote, from the audit log: verb, resource, subresource."""
    requests = control_plane.audit.since(mark).matching(user_agent=AGENT).writes()
    return Counter((request.verb, request.resource, request.subresource) for request in requests)


async def test_a_new_certificate_costs_three_writes_one_list_one_post_and_one_event(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    mark = control_plane.audit.mark()
    await ns.apply("site", ["example.com", "*.example.com"])
    status = await ns.ready("site")
    await ns.event("Issued")

    assert writes(control_plane, mark) == {
        ("patch", "vercelcertificates", ""): 1,
        ("patch", "vercelcertificates", "status"): 2,
        ("create", "events", ""): 1,
    }
    assert [entry.call for entry in (await vercel.journal()).entries] == ["list", "issue"]
    (certificate,) = await vercel.certificates(live=True)
    assert status["id"] == certificate.id
    assert status["cns"] == ["*.example.com", "example.com"]
    assert set(status) >= {
        "createdAt",
        "expiresAt",
        "renewalTime",
        "autoRenew",
        "observedGeneration",
        "origin",
        "attempt",
    }
    assert (status["origin"], status["attempt"]["outcome"]) == ("Issued", "Issued")
    assert status["expiresAt"] > status["renewalTime"] > status["createdAt"]
    assert [event["reason"] for event in ns.events()] == ["Issued"]


async def test_a_restart_with_everything_ready_writes_nothing_and_asks_nothing(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, start_operator: StartOperator
) -> None:
    operator = await start_operator()
    for index in range(3):
        await ns.apply(f"site-{index}", [f"{index}.example.com"])
    for index in range(3):
        await ns.ready(f"site-{index}")
    await eventually("all events are written", lambda: len(ns.events()) == 3)
    await operator.kill()
    mark, before = control_plane.audit.mark(), (await vercel.journal()).last

    await start_operator()
    await ns.apply("one-more", ["more.example.com"])  # once this is ready, the others have had their turn
    await ns.ready("one-more")

    assert sum(writes(control_plane, mark).values()) == 4
    assert [entry.call for entry in (await vercel.journal(since=before)).entries] == ["list", "issue"]


async def test_a_certificate_is_renewed_before_it_expires_and_the_old_one_removed(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    await vercel.behave(lifetime=6)
    mark = control_plane.audit.mark()
    await ns.apply("site", ["example.com"])
    first = await ns.ready("site")
    await vercel.behave(lifetime=90 * 86400)
    await eventually("another certificate", lambda: ns.status("site").get("id") not in (None, first["id"]))
    second = ns.status("site")

    assert second["expiresAt"] > first["expiresAt"]
    (replaced,) = second["superseded"]  # it is removed ten minutes later
    assert (replaced["id"], replaced["origin"]) == (first["id"], "Issued")
    await ns.event("Renewed")
    assert [event["reason"] for event in ns.events()] == ["Issued", "Renewed"]
    assert writes(control_plane, mark)["patch", "vercelcertificates", ""] == 1, "the finalizer, once"
    counts = (await vercel.journal()).counts
    assert (counts["issue"], counts["get"], counts["remove"]) == (2, 1, 0)
    assert counts["list"] == 1, "one is young enough for both"


async def test_a_renewal_costs_three_writes_one_get_one_post_and_one_removal(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    await vercel.behave(lifetime=6)
    await ns.apply("site", ["example.com"])
    first = await ns.ready("site")
    await vercel.behave(lifetime=30)  # the old one rests for a tenth of this
    mark, before = control_plane.audit.mark(), (await vercel.journal()).last
    await eventually("another certificate", lambda: ns.status("site").get("id") not in (None, first["id"]))
    await eventually("the old one is removed", lambda: not ns.status("site").get("superseded"))

    assert writes(control_plane, mark) == {
        ("patch", "vercelcertificates", "status"): 3,
        ("create", "events", ""): 1,
    }
    assert [entry.call for entry in (await vercel.journal(since=before)).entries] == ["get", "issue", "remove"]
    assert len(await vercel.certificates(live=True)) == 1


async def test_a_deleted_resource_takes_its_certificate_with_it(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    await ns.apply("site", ["example.com"])
    status = await ns.ready("site")
    mark, before = control_plane.audit.mark(), (await vercel.journal()).last
    await ns.run("delete", "vcert", "site", "--timeout=30s")

    assert ns.get("site") is None
    assert await vercel.certificates(live=True) == []
    event = await ns.event("Deleted")
    assert status["id"] in event["note"]
    assert writes(control_plane, mark) == {("patch", "vercelcertificates", ""): 1, ("create", "events", ""): 1}
    assert [entry.call for entry in (await vercel.journal(since=before)).entries] == ["remove"]


async def test_retain_leaves_the_certificate_and_says_which(
    ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    await ns.apply("site", ["example.com"], deletionPolicy="Retain")
    status = await ns.ready("site")
    await ns.run("delete", "vcert", "site", "--timeout=30s")

    assert status["id"] in (await ns.event("Retained"))["note"]
    assert [certificate.id for certificate in await vercel.certificates(live=True)] == [status["id"]]


async def test_another_namespace_is_left_alone(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    other = Namespace(control_plane, f"{ns.name}-other")
    await other.run("create", "namespace", other.name)
    await other.apply("foreign", ["foreign.example.com"])
    await ns.apply("site", ["example.com"])
    await ns.ready("site")

    assert other.status("foreign") == {}
    assert (await vercel.journal()).counts["issue"] == 1


async def test_a_team_is_used_for_everything(ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess) -> None:
    await ns.apply("site", ["example.com"], team={"id": "team_alpha"})
    status = await ns.ready("site")
    assert status["team"] == "team_alpha"
    await ns.run("delete", "vcert", "site", "--timeout=30s")
    assert {entry.query.get("teamId") for entry in (await vercel.journal()).entries} == {"team_alpha"}


async def test_a_token_from_a_secret_is_used(ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess) -> None:
    await ns.run("create", "secret", "generic", "vercel", "--from-literal=token=other-token-not-a-secret\n")
    await ns.apply("site", ["example.com"], tokenSecretRef={"name": "vercel"})
    condition = await ns.reason("site", "Ready", "CredentialsInvalid")
    assert "unauthorized" in condition["message"].lower() or "token" in condition["message"].lower()
    (entry,) = (await vercel.journal()).entries
    assert entry.status in (401, 403)


async def test_a_failure_is_reported_in_vercels_words_with_the_next_step(
    ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    await vercel.add_fault(
        Fault(call="issue", status=403, code="domain_not_verified", message="example.com is not verified", times=None)
    )
    await ns.apply("site", ["example.com"])
    ready = await ns.reason("site", "Ready", "PermissionDenied")

    assert ready["status"] == "False"
    assert "example.com is not verified (domain_not_verified, HTTP 403)" in ready["message"]
    assert ns.condition("site", "Issuing")["message"] == ready["message"]
    status = ns.status("site")
    assert (status["failedAttempts"], "nextAttemptTime" in status) == (1, True)
    assert (await ns.event("PermissionDenied"))["type"] == "Warning"
    assert (await vercel.journal()).counts["issue"] == 1

    # The user corrects it: that ends the wait.
    await vercel.clear_faults()
    await ns.apply("site", ["www.example.com"])
    status = await ns.ready("site")
    assert "failedAttempts" not in status


async def test_as_json_each_line_of_the_log_is_an_object_that_says_whom_it_is_about(
    ns: Namespace, vercel: EmulatorControl, start_operator: StartOperator
) -> None:
    operator = await start_operator("--log-format", "json")
    await ns.apply("site", ["example.com"])
    status = await ns.ready("site")
    await vercel.add_fault(Fault(call="issue", status=403, code="forbidden"))
    await ns.apply("refused", ["refused.example.com"])
    await ns.reason("refused", "Issuing", "PermissionDenied")
    await ns.event("PermissionDenied")
    assert await operator.terminate() == 0

    lines = [json.loads(line) for line in operator.logs().splitlines()]
    assert all({"timestamp", "level", "logger", "message"} <= line.keys() for line in lines)
    (issued,) = (line for line in lines if line.get("reason") == "Issued")
    uid = (ns.get("site") or {})["metadata"]["uid"]
    wanted = {"namespace": ns.name, "name": "site", "uid": uid, "attempt": status["attempt"]["id"], "level": "INFO"}
    assert wanted.items() <= issued.items()
    (failed,) = (line for line in lines if line.get("reason") == "PermissionDenied")
    assert (failed["name"], failed["level"]) == ("refused", "WARNING")


async def test_at_the_debug_level_each_decision_is_logged_with_its_rule_and_kopf_says_nothing_of_objects(
    start_operator: StartOperator, ns: Namespace
) -> None:
    operator = await start_operator("--log-level", "debug", "--log-format", "json")
    await ns.apply("site", ["example.com"])
    await ns.ready("site")
    await eventually("it settles", lambda: "nothing_is_needed" in operator.logs())
    records = [json.loads(line) for line in operator.logs().splitlines()]
    decisions = [record["policy"] for record in records if record.get("name") == "site" and "policy" in record]
    assert decisions[0] == "list_is_fresh"
    assert {"finalizer_is_there", "attempt_is_made", "outcome_is_recorded", "nothing_is_needed"} <= set(decisions)
    assert not [record["message"] for record in records if record["logger"] == "kopf.objects"]
