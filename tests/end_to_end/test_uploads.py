"""A certificate from a Secret, by the real process: it survives a kill, and nobody ever sees its key."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from support.operator_process import Namespace, OperatorProcess, StartOperator, ask, eventually
from support.tls import Authority, Leaf, secrets_of, tls_secret
from vercel_emulator.client import EmulatorControl
from vercel_emulator.models import Fault

NAMES = ["shop.example.com"]
REF = {"name": "shop-tls"}
DEBUG = ("--log-level=debug", "--source-poll-interval=1s", "--listen=127.0.0.1:0")

Renew = Callable[[], "Leaf"]


@pytest.fixture
def leaves() -> list[Leaf]:
    """The certificates that were in the Secret."""
    return []


@pytest.fixture
def renew(ns: Namespace, leaves: list[Leaf]) -> Renew:
    """Puts a new certificate into the Secret, as cert-manager does."""
    now = datetime.now(UTC)
    authority = Authority(now - timedelta(days=365))

    def put() -> Leaf:
        leaf = authority.leaf(NAMES, now - timedelta(hours=1), timedelta(days=90 + len(leaves)))
        leaves.append(leaf)
        ns.kubectl("apply", "-f", "-", stdin=json.dumps(tls_secret("shop-tls", leaf)))
        return leaf

    return put


async def nobody_sees_a_key(ns: Namespace, operator: OperatorProcess, leaves: list[Leaf]) -> None:
    """Neither in the debug log, nor in objects, Events or metrics."""
    shown = {
        "the log": operator.whole_log(),
        "objects": ns.kubectl("get", "vcert", "-o", "yaml").stdout,
        "Events": json.dumps(ns.events()),
        "metrics": (await ask(operator, "metrics"))[1],
    }
    assert "DEBUG" in shown["the log"] or '"debug"' in shown["the log"].lower()
    for leaf in leaves:
        for line in secrets_of(leaf.key_pem):
            assert [where for where, text in shown.items() if line in text] == []


async def test_a_secret_is_uploaded_and_again_when_it_changes_and_its_key_is_never_shown(
    ns: Namespace, vercel: EmulatorControl, start_operator: StartOperator, renew: Renew, leaves: list[Leaf]
) -> None:
    operator = await start_operator(*DEBUG)
    leaf = renew()
    # Vercel echoes what it was sent, in an error of its own and in garbage.
    await vercel.add_fault(Fault(call="upload", status=400, code="bad_request", message=f"Can't read {leaf.key_pem}"))
    await ns.apply("site", NAMES, certificateSecretRef=REF)
    refused = await ns.reason("site", "Issuing", "InvalidRequest")
    assert "Can't read [key] (bad_request" in refused["message"]
    page = Fault(call="upload", action="raw", status=200, when="after", body=leaf.key_pem, content_type="text/plain")
    await vercel.add_fault(page)
    await ns.run("annotate", "vcert", "site", "vercel-operator.io/renew=now")
    first = await ns.ready("site")
    assert first["fingerprint"] == leaf.fingerprint

    newer = renew()
    await eventually("it is uploaded", lambda: ns.status("site").get("fingerprint") == newer.fingerprint)
    ns.kubectl("apply", "-f", "-", stdin=json.dumps(tls_secret("shop-tls", newer, {"key": leaf.key_pem})))
    wrong = await ns.reason("site", "Issuing", "SourceInvalid")
    assert "does not match the certificate" in wrong["message"]
    assert (await vercel.journal()).counts["upload"] == 3
    await nobody_sees_a_key(ns, operator, leaves)


async def test_killed_during_an_upload_it_adopts_that_certificate(
    ns: Namespace, vercel: EmulatorControl, start_operator: StartOperator, renew: Renew, leaves: list[Leaf]
) -> None:
    operator = await start_operator(*DEBUG)
    leaf = renew()
    fault = await vercel.add_fault(Fault(call="upload", action="hang", when="after"))
    await ns.apply("site", NAMES, certificateSecretRef=REF)
    await vercel.wait_for_fault(fault.id)
    await operator.kill()
    await vercel.clear_faults()
    assert "outcome" not in ns.status("site")["attempt"]

    operator = await start_operator(*DEBUG)
    status = await ns.ready("site")
    (certificate,) = await vercel.certificates()
    assert (status["id"], status["fingerprint"], status["origin"]) == (certificate.id, leaf.fingerprint, "Issued")
    assert (await vercel.journal()).counts["upload"] == 1
    await nobody_sees_a_key(ns, operator, leaves)


async def test_killed_while_a_new_secret_is_uploaded_it_uploads_it_once_and_keeps_the_old_certificate_meanwhile(
    ns: Namespace, vercel: EmulatorControl, start_operator: StartOperator, renew: Renew
) -> None:
    operator = await start_operator(*DEBUG)
    renew()
    await ns.apply("site", NAMES, certificateSecretRef=REF)
    first = await ns.ready("site")
    fault = await vercel.add_fault(Fault(call="upload", action="hang", when="after"))
    newer = renew()
    await vercel.wait_for_fault(fault.id)
    await operator.kill()
    await vercel.clear_faults()

    await start_operator(*DEBUG)
    await eventually("the new one is adopted", lambda: ns.status("site").get("fingerprint") == newer.fingerprint)
    status = ns.status("site")
    assert [entry["id"] for entry in status["superseded"]] == [first["id"]]
    assert {each.id for each in await vercel.certificates(live=True)} == {first["id"], status["id"]}
    assert (await vercel.journal()).counts["upload"] == 2


async def test_the_switch_from_an_issued_certificate_to_a_secret_makes_before_it_breaks(
    ns: Namespace, vercel: EmulatorControl, start_operator: StartOperator, renew: Renew
) -> None:
    await start_operator(*DEBUG)
    await ns.apply("site", NAMES)
    issued = (await ns.ready("site"))["id"]
    leaf = renew()
    fault = await vercel.add_fault(Fault(call="upload", action="hang", when="before"))
    await ns.apply("site", NAMES, certificateSecretRef=REF)
    await vercel.wait_for_fault(fault.id)
    assert [each.id for each in await vercel.certificates(live=True)] == [issued]
    assert ns.condition("site", "Ready")["status"] == "True"
    await vercel.release(fault.id)
    await eventually("it is uploaded", lambda: ns.status("site").get("fingerprint") == leaf.fingerprint)
    assert {each.id for each in await vercel.certificates(live=True)} == {issued, ns.status("site")["id"]}
    assert (await vercel.journal()).counts["remove"] == 0
