"""Status is a subresource that holds the operator's whole record, and kubectl shows it."""

import json
import re
from typing import Any

from crd.kubectl import Kubectl, certificate
from vercel_certificate_operator.core.domains import MOST_DOMAINS
from vercel_certificate_operator.core.probe import PROBE
from vercel_certificate_operator.core.record import MOST_ISSUANCES, MOST_SUPERSEDED
from vercel_certificate_operator.core.resource import LONGEST_MESSAGE, Status
from vercel_certificate_operator.core.times import MOST_KNOWN

READY: dict[str, Any] = {
    "type": "Ready",
    "status": "True",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-01-02T03:04:05Z",
    "reason": "Issued",
    "message": "The certificate is valid.",
}
ISSUING = {**READY, "type": "Issuing", "status": "False", "reason": "PaymentRequired", "message": "Check the plan."}
ATTEMPT = {
    "id": "a1b2c3d4e5f60718",
    "start": "2026-01-02T03:00:00Z",
    "serverStart": "2026-01-02T00:00:00Z",
    "generation": 1,
    "cns": ["*.example.com", "example.com"],
    "reason": "RenewRequested",
    "team": "team_one",
    "known": ["cert_abc"],
    "listed": "2026-01-02T02:59:00Z",
    "renewRequest": "2026-01-02 please",
    "requested": True,
    "tokenHash": "0123456789abcdef0123456789abcdef",
    "fingerprint": "ab" * 32,
    "expiresAt": "2026-04-02T03:04:05Z",
    "chainHash": "0123456789abcdef0123456789abcdef",
    "previousFailures": 1,
    "previousReason": "PaymentRequired",
    "blamedCNs": ["example.com"],
    "outcome": "Refused",
    "outcomeReason": "PaymentRequired",
    "retryTime": "2026-01-02T05:00:00Z",
}
SUPERSEDED = {
    "id": "cert_old",
    "origin": "Issued",
    "team": "team_one",
    "fingerprint": "ab" * 32,
    "since": "2026-01-02T03:04:05Z",
    "cns": ["example.com"],
    "renewableSince": "2026-01-02T03:04:05Z",
}
ISSUANCE = {"time": "2026-01-02T03:04:05Z", "namesHash": "0123456789abcdef", "requestHash": "0123456789abcdef"}
DOMAIN = {
    "name": "example.com",
    "misconfigured": True,
    "configuredBy": "A",
    "acceptedChallenges": ["http-01"],
    "recommended": [{"type": "A", "value": "192.0.2.1"}],
}
FULL_STATUS: dict[str, Any] = {
    "id": "cert_abc",
    "origin": "Adopted",
    "cns": ["example.com", "*.example.com", "www.example.com"],
    "requestedCNs": ["example.com", "*.example.com"],
    "createdAt": "2026-01-02T03:04:05Z",
    "expiresAt": "2026-04-02T03:04:05Z",
    "renewalTime": "2026-03-03T03:04:05Z",
    "autoRenew": True,
    "team": "team_one",
    "tokenHash": "0123456789abcdef0123456789abcdef",
    "fingerprint": "ab" * 32,
    "sharedNames": True,
    "scopeVanished": True,
    "observedGeneration": 1,
    "attempt": ATTEMPT,
    "superseded": [SUPERSEDED],
    "issuances": [ISSUANCE],
    "domains": [DOMAIN],
    "lastRenewRequest": "2026-01-02 please",
    "lastAdoptRequest": "cert_abc",
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


def test_the_definition_has_exactly_the_fields_that_the_operator_writes(definition: dict[str, Any]) -> None:
    """A field that the definition lacks would be dropped from the operator's record."""
    status = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]

    assert set(FULL_STATUS) == set(status)
    assert set(READY) == set(status["conditions"]["items"]["properties"])
    assert set(ATTEMPT) == set(status["attempt"]["properties"])
    assert set(SUPERSEDED) == set(status["superseded"]["items"]["properties"])
    assert set(ISSUANCE) == set(status["issuances"]["items"]["properties"])
    assert set(DOMAIN) == set(status["domains"]["items"]["properties"])

    read = Status.read(FULL_STATUS)
    assert read.dump() == FULL_STATUS
    assert set(type(read).model_fields) - read.model_fields_set == {"unreadable"}
    assert read.attempt is not None
    assert set(type(read.attempt).model_fields) == read.attempt.model_fields_set


def test_the_status_with_which_the_operator_checks_the_definition_is_stored_as_it_is(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": NAMES})
    kubectl.patch_status("web", PROBE.dump())
    assert kubectl.get("web")["status"] == PROBE.dump()


def test_the_longest_record_that_the_operator_writes_is_stored(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": NAMES})
    names = [f"{number:03}.{'a' * 60}.{'b' * 60}.{'c' * 60}.{'d' * 50}.example.com" for number in range(100)]
    longest = {
        **FULL_STATUS,
        "cns": names,
        "attempt": {**ATTEMPT, "cns": names, "known": [f"cert_{number:024}" for number in range(MOST_KNOWN)]},
        "superseded": [{**SUPERSEDED, "id": f"cert_{number:024}"} for number in range(MOST_SUPERSEDED)],
        "issuances": [ISSUANCE] * 2 * MOST_ISSUANCES,
        "domains": [{**DOMAIN, "name": names[number]} for number in range(MOST_DOMAINS)],
        "conditions": [{**READY, "message": "x" * LONGEST_MESSAGE}, {**ISSUING, "message": "x" * LONGEST_MESSAGE}],
    }

    kubectl.patch_status("web", longest)

    assert kubectl.get("web")["status"] == longest


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


def test_values_of_another_version_of_the_operator_can_be_written(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": NAMES})
    other = {
        "origin": "Inherited",
        "attempt": {"id": "a1", "outcome": "Postponed"},
        "conditions": [{**READY, "type": "example.com/Ready", "status": "Perhaps", "reason": "new.Reason"}],
    }

    kubectl.patch_status("web", other)

    assert kubectl.get("web")["status"] == other


def test_a_status_of_another_shape_is_refused(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": NAMES})

    patch = '{"status": {"expiresAt": 1767323045000, "conditions": [{"type": "Ready", "status": "yes"}]}}'
    read = kubectl.refusal("patch", "vcert", "web", "--subresource=status", "--type=merge", "-p", patch)

    assert "status.expiresAt" in read
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


def test_kubectl_get_wide_adds_id_the_reasons_of_both_conditions_and_the_message(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": NAMES})
    kubectl.patch_status("web", FULL_STATUS)

    (web,) = columns(kubectl("get", "vcert", "-o", "wide"))

    assert list(web)[-5:] == ["AGE", "ID", "REASON", "ISSUING", "MESSAGE"]
    assert (web["ID"], web["REASON"], web["ISSUING"]) == ("cert_abc", "Issued", "PaymentRequired")
    assert web["MESSAGE"] == "The certificate is valid."


def test_kubectl_wait_sees_ready(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": NAMES})
    kubectl.patch_status("web", {"conditions": [{**READY, "status": "False"}, ISSUING]})
    waiting = kubectl.refusal("wait", "vcert/web", "--for=condition=Ready", "--timeout=0s")
    kubectl.patch_status("web", {"conditions": [READY, ISSUING]})

    met = kubectl("wait", "vcert/web", "--for=condition=Ready", "--timeout=45s")

    assert "timed out" in waiting or "condition not met" in waiting
    assert met == "vercelcertificate.vercel-operator.io/web condition met\n"
