"""Status is a subresource that holds what the design says, and kubectl shows it."""

import json
import re
from typing import Any

from crd.kubectl import Kubectl, certificate

READY: dict[str, Any] = {
    "type": "Ready",
    "status": "True",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-02T03:04:05Z",
    "reason": "Issued",
    "message": "The certificate is valid.",
}
ISSUING = {**READY, "type": "Issuing", "status": "False", "reason": "Idle", "message": "Nothing to do."}
FULL_STATUS: dict[str, Any] = {
    "id": "cert_abc",
    "cns": ["example.com", "*.example.com"],
    "createdAt": "2026-01-02T03:04:05Z",
    "expiresAt": "2026-04-02T03:04:05Z",
    "renewalTime": "2026-03-03T03:04:05Z",
    "autoRenew": True,
    "team": "team_one",
    "observedGeneration": 1,
    "attempt": "a2",
    "lostAttempts": [{"id": "a1", "start": "2026-01-02T03:00:00.123456Z", "cns": ["example.com"]}],
    "supersededIDs": ["cert_old", "cert_older"],
    "adoptedID": "cert_theirs",
    "lastRenewRequest": "2026-01-02 please",
    "failedAttempts": 2,
    "lastFailureTime": "2026-01-02T03:00:00Z",
    "nextAttemptTime": "2026-01-02T03:10:00Z",
    "conditions": [READY, ISSUING],
}
NAMES = ["example.com", "*.example.com"]


def columns(table: str) -> list[dict[str, str]]:
    """The rows of a kubectl table, each by its column; the header says where columns begin."""
    header, *rows = table.rstrip("\n").splitlines()
    starts = [match.start() for match in re.finditer(r"\S+", header)]
    spans = list(zip(starts, [*starts[1:], None], strict=True))
    return [{header[a:b].strip(): row[a:b].strip() for a, b in spans} for row in rows]


def test_a_status_holds_every_field_of_the_design(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": NAMES})

    kubectl.patch_status("web", FULL_STATUS)

    assert kubectl.get("web")["status"] == FULL_STATUS


def test_the_test_of_status_leaves_no_field_of_the_schema_out(definition: dict[str, Any]) -> None:
    status = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]

    assert set(FULL_STATUS) == set(status)
    assert set(READY) == set(status["conditions"]["items"]["properties"])
    assert set(FULL_STATUS["lostAttempts"][0]) == set(status["lostAttempts"]["items"]["properties"])


def test_a_write_to_the_resource_does_not_change_its_status(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": NAMES})
    kubectl.patch_status("web", {"id": "cert_abc"})

    kubectl(
        "patch", "vcert", "web", "--type=merge", "-p", '{"spec": {"suspend": true}, "status": {"id": "cert_forged"}}'
    )

    stored = kubectl.get("web")
    assert stored["spec"]["suspend"] is True
    assert stored["status"] == {"id": "cert_abc"}


def test_a_write_to_the_status_does_not_change_the_spec_or_its_generation(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": NAMES})

    patch = '{"spec": {"suspend": true}, "status": {"id": "cert_abc"}}'
    kubectl("patch", "vcert", "web", "--subresource=status", "--type=merge", "-p", patch)

    stored = kubectl.get("web")
    assert stored["spec"]["suspend"] is False
    assert stored["metadata"]["generation"] == 1
    assert stored["status"] == {"id": "cert_abc"}


def test_conditions_of_two_managers_add_up(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": ["example.com"]})
    for manager, condition in (("one", READY), ("two", ISSUING)):
        manifest = certificate("web", {"cns": ["example.com"]}) | {"status": {"conditions": [condition]}}
        how = ("--server-side", "--subresource=status", f"--field-manager={manager}")
        kubectl("apply", *how, "-f", "-", text=json.dumps(manifest))

    assert kubectl.get("web")["status"]["conditions"] == [READY, ISSUING]


def test_what_vercel_answers_is_recorded_however_odd_it_is(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": NAMES})
    odd = {"id": "  ", "cns": ["Example.com", "Example.com", "", "not a name", "a" * 300], "team": "?"}

    kubectl.patch_status("web", odd)

    assert kubectl.get("web")["status"] == odd


def test_a_status_of_another_shape_is_refused(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": NAMES})

    patch = '{"status": {"expiresAt": 1767323045000, "conditions": [{"type": "Ready", "status": "yes"}]}}'
    read = kubectl.refusal("patch", "vcert", "web", "--subresource=status", "--type=merge", "-p", patch)

    assert "status.expiresAt" in read
    assert "status.conditions[0].status" in read
    assert "status.conditions[0].lastTransitionTime: Required value" in read


def test_kubectl_get_prints_the_columns_that_matter(kubectl: Kubectl) -> None:
    kubectl.apply("new", {"cns": ["example.org"]})
    kubectl.apply("web", {"cns": NAMES})
    kubectl.patch_status("web", FULL_STATUS)

    new, web = columns(kubectl("get", "vcert"))

    age = web.pop("AGE")
    assert re.fullmatch(r"[\dms]+", age)
    assert web == {
        "NAME": "web",
        "READY": "True",
        "CNS": '["example.com","*.example.com"]',
        "EXPIRES": "2026-04-02T03:04:05Z",
        "RENEWS": "2026-03-03T03:04:05Z",
    }
    assert (new["NAME"], new["READY"], new["CNS"], new["EXPIRES"]) == ("new", "", '["example.org"]', "")


def test_kubectl_get_wide_adds_id_reason_and_message(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": NAMES})
    kubectl.patch_status("web", FULL_STATUS)

    (web,) = columns(kubectl("get", "vcert", "-o", "wide"))

    assert list(web)[-4:] == ["AGE", "ID", "REASON", "MESSAGE"]
    assert (web["ID"], web["REASON"], web["MESSAGE"]) == ("cert_abc", "Issued", "The certificate is valid.")


def test_kubectl_wait_sees_ready(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": NAMES})
    kubectl.patch_status("web", {"conditions": [{**READY, "status": "False"}, ISSUING]})
    waiting = kubectl.refusal("wait", "vcert/web", "--for=condition=Ready", "--timeout=0s")
    kubectl.patch_status("web", {"conditions": [READY, ISSUING]})

    met = kubectl("wait", "vcert/web", "--for=condition=Ready", "--timeout=45s")

    assert "timed out" in waiting or "condition not met" in waiting
    assert met == "vercelcertificate.vercel-operator.io/web condition met\n"
