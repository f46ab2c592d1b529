"""Whatever happens between the request to Vercel and its record, there is one certificate per need."""

import asyncio
import json
import signal

from support.operator_process import PATIENCE, Namespace, OperatorProcess, StartOperator, eventually
from vercel_emulator.client import EmulatorControl
from vercel_emulator.models import Fault


async def test_killed_after_vercel_has_issued_it_adopts_that_certificate(
    ns: Namespace, vercel: EmulatorControl, start_operator: StartOperator
) -> None:
    operator = await start_operator()
    fault = await vercel.add_fault(Fault(call="issue", action="hang", when="after"))
    await ns.apply("site", ["example.com"])
    await vercel.wait_for_fault(fault.id)
    await operator.kill()
    await vercel.clear_faults()
    assert "outcome" not in ns.status("site")["attempt"]

    await start_operator()
    status = await ns.ready("site")
    (certificate,) = await vercel.certificates()
    assert status["id"] == certificate.id
    assert (await vercel.journal()).counts["issue"] == 1
    assert "the operator found the certificate in Vercel's list" in (await ns.event("Issued"))["note"]


async def test_killed_during_a_renewal_it_adopts_that_certificate(
    ns: Namespace, vercel: EmulatorControl, start_operator: StartOperator
) -> None:
    operator = await start_operator()
    await vercel.behave(lifetime=6)
    await ns.apply("site", ["example.com"])
    first = await ns.ready("site")
    await vercel.behave(lifetime=90 * 86400)
    fault = await vercel.add_fault(Fault(call="issue", action="hang", when="after"))
    await vercel.wait_for_fault(fault.id)
    await operator.kill()
    await vercel.clear_faults()

    await start_operator()
    await eventually("the new one is adopted", lambda: ns.status("site").get("id") != first["id"])
    assert (await vercel.journal()).counts["issue"] == 2
    assert [entry["id"] for entry in ns.status("site")["superseded"]] == [first["id"]]


async def test_a_reply_lost_after_the_work_was_done_is_found_by_listing(
    ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    await vercel.add_fault(Fault(call="issue", action="reset", when="after"))
    await ns.apply("site", ["example.com"])
    status = await ns.ready("site")
    (certificate,) = await vercel.certificates()
    assert status["id"] == certificate.id
    assert (await vercel.journal()).counts["issue"] == 1


async def test_a_request_of_unknown_outcome_is_not_simply_sent_again(
    ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    await vercel.add_fault(Fault(call="issue", action="reset", when="before"))
    await ns.apply("site", ["example.com"])
    issuing = await ns.reason("site", "Issuing", "OutcomeUnknown")
    assert issuing["status"] == "True"
    assert ns.condition("site", "Ready")["status"] == "False"
    journal = await vercel.wait_for_requests("list")
    assert journal.counts["issue"] == 1


async def test_the_late_answer_does_not_land_on_a_namesake(
    ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    fault = await vercel.add_fault(Fault(call="issue", action="hang", when="before", cns=["old.example.com"]))
    await ns.apply("site", ["old.example.com"])
    await vercel.wait_for_fault(fault.id)
    await ns.run("delete", "vcert", "site", "--wait=false")
    await ns.run("patch", "vcert", "site", "--type=merge", "-p", json.dumps({"metadata": {"finalizers": None}}))
    await ns.apply("site", ["new.example.com"])
    status = await ns.ready("site")
    await vercel.release(fault.id)
    await vercel.wait_for_requests("remove", finished=True)

    assert [certificate.cns for certificate in await vercel.certificates(live=True)] == [["new.example.com"]]
    assert ns.status("site") == status
    assert "old.example.com" not in json.dumps(ns.status("site"))
    late = [event for event in ns.events() if event["reason"] == "Deleted"]
    assert len(late) == 1


async def test_deleted_during_an_issuance_nothing_is_left(
    ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    fault = await vercel.add_fault(Fault(call="issue", action="hang", when="before"))
    await ns.apply("site", ["example.com"])
    await vercel.wait_for_fault(fault.id)
    await ns.run("delete", "vcert", "site", "--wait=false")
    await vercel.release(fault.id)
    await eventually("it is gone", lambda: ns.get("site") is None)
    assert await vercel.certificates(live=True) == []


async def test_it_takes_long_and_says_so(ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess) -> None:
    fault = await vercel.add_fault(Fault(call="issue", action="hang", when="before"))
    await ns.apply("site", ["example.com"])
    issuing = await ns.reason("site", "Issuing", "FirstIssue")
    assert issuing["status"] == "True"
    await vercel.wait_for_fault(fault.id)  # the attempt is recorded before it is sent
    await vercel.release(fault.id)
    await ns.ready("site")
    assert (await vercel.journal()).counts["issue"] == 1


async def test_sigterm_when_idle_ends_it(operator: OperatorProcess) -> None:
    assert await operator.terminate() == 0
    assert "stopped" in operator.logs()


async def test_sigterm_during_a_post_lets_it_finish_and_records_it(
    ns: Namespace, vercel: EmulatorControl, operator: OperatorProcess
) -> None:
    fault = await vercel.add_fault(Fault(call="issue", action="hang", when="before"))
    await ns.apply("site", ["example.com"])
    await vercel.wait_for_fault(fault.id)
    operator.process.signal(signal.SIGTERM)
    await eventually("it has heard", lambda: "SIGTERM" in operator.logs())
    assert operator.process.running
    await vercel.release(fault.id)
    assert await asyncio.to_thread(operator.process.wait, PATIENCE) == 0

    (certificate,) = await vercel.certificates()
    assert ns.status("site")["id"] == certificate.id
    assert ns.condition("site", "Ready")["status"] == "True"


async def test_a_second_sigterm_ends_it_at_once_and_the_next_start_resolves_it(
    ns: Namespace, vercel: EmulatorControl, start_operator: StartOperator
) -> None:
    operator = await start_operator()
    fault = await vercel.add_fault(Fault(call="issue", action="hang", when="after"))
    await ns.apply("site", ["example.com"])
    await vercel.wait_for_fault(fault.id)
    operator.process.signal(signal.SIGTERM)
    await eventually("it has heard", lambda: "SIGTERM" in operator.logs())
    await operator.terminate()
    await vercel.clear_faults()

    await start_operator()
    await ns.ready("site")
    assert (await vercel.journal()).counts["issue"] == 1
