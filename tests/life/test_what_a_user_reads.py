"""What a user reads: conditions, events, kubectl's words, and the operator's log."""

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from functools import partial
from io import StringIO
from subprocess import CompletedProcess

import pytest
import yaml

from support import invariants
from support.acting import HOUR, MINUTE, REF, advance_to, asked, create_many, events, put_secret
from support.world import OTHER_TOKEN, TOKEN, World
from vercel_certificate_operator import log
from vercel_certificate_operator.core.reasons import Reason
from vercel_emulator import Behaviour, Fault
from vercel_emulator.models import TokenGrant

Kubectl = partial[CompletedProcess[str]]


async def shown(kubectl: Kubectl, *args: str) -> str:
    """What kubectl prints, with all white space made one blank."""
    completed = await asyncio.to_thread(kubectl, *args)
    return " ".join(completed.stdout.split())


@pytest.fixture
def json_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[StringIO]:
    """The operator's log, as JSON, with all that it says when it looks for a fault."""
    root = logging.getLogger()
    names = ("httpx", "httpcore", "aiohttp", "asyncio", "kopf", "kopf.objects", "kubernetes")
    before = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in names}
    out = StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    log.set_up("json", "debug")
    yield out
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    for name, level in before[2].items():
        logging.getLogger(name).setLevel(level)


# --- kubectl


async def test_describe_tells_the_story_of_a_failure(world: World, kubectl: Kubectl) -> None:
    world.emulator.faults.add(
        Fault(
            call="issue",
            status=449,
            code="configuration_error",
            message="The CNAME record of www.example.com is missing.",
            times=None,
        )
    )
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    text = await shown(kubectl, "describe", "vcert", "site")
    tried = "Vercel did not issue a certificate for example.com, www.example.com:"
    said = "The CNAME record of www.example.com is missing (configuration_error, HTTP 449)."
    what_to_do = "Check the DNS records of the domain (A, CNAME, CAA, TXT). See <https://vercel.com/help>."
    when = f"Next attempt: {(await world.status('site'))['nextAttemptTime']}."
    assert f"{tried} {said} {what_to_do} {when}" in text
    assert "Reason: DomainNotConfigured" in text
    assert "Failed Attempts: 1" in text
    events_part = text[text.index("Events:") :]
    assert "Warning DomainNotConfigured" in events_part
    assert "vercel-operator.io/vercel-certificate-operator" in events_part
    assert f"{tried} {said} {what_to_do}" in events_part


async def test_describe_tells_of_a_good_certificate_what_it_covers_and_when_it_is_renewed(
    world: World, kubectl: Kubectl
) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    status = await world.status("site")
    text = await shown(kubectl, "describe", "vcert", "site")
    assert f"Certificate {status['id']} covers example.com; it expires at {status['expiresAt']}." in text
    assert f"Nothing to do until the renewal at {status['renewalTime']}." in text
    assert f"Issued certificate {status['id']} for example.com; expires {status['expiresAt']}." in text


async def test_get_shows_at_a_glance_what_is_ready_and_what_is_not(world: World, kubectl: Kubectl) -> None:
    world.emulator.faults.add(Fault(call="issue", status=402, cns=["example.org"], times=None))
    await world.apply("good", ["example.com"])
    await world.apply("poor", ["example.org"])
    await world.quiet()
    status = await world.status("good")
    text = await shown(kubectl, "get", "vcert", "-o", "wide")
    assert text.startswith("NAME READY CNS EXPIRES RENEWS AGE ID REASON ISSUING MESSAGE")
    assert f'good True ["example.com"] {status["expiresAt"]} {status["renewalTime"]}' in text
    assert f"{status['id']} Issued Issued Certificate" in text
    assert 'poor False ["example.org"]' in text
    assert "PaymentRequired PaymentRequired Vercel did not issue a certificate for example.org" in text


async def test_wait_ends_when_it_is_ready(world: World, kubectl: Kubectl) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    text = await shown(kubectl, "wait", "--for=condition=Ready", "vcert/site", "--timeout=5s")
    assert text == "vercelcertificate.vercel-operator.io/site condition met"


async def test_both_conditions_are_of_the_same_generation_at_any_time(world: World) -> None:
    for cns in (["example.com"], ["example.com", "www.example.com"], ["www.example.com"]):
        await world.apply("site", cns)
        await world.quiet()
        body = await world.get("site")
        assert body is not None
        seen = {condition["observedGeneration"] for condition in body["status"]["conditions"]}
        assert seen == {body["metadata"]["generation"]} == {body["status"]["observedGeneration"]}


async def test_a_condition_moves_its_transition_time_only_with_its_status(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", status=402, times=2))
    await world.apply("site", ["example.com"])
    await world.quiet()
    times = []
    for _ in range(3):
        body = await world.get("site")
        assert body is not None
        times.append(invariants.condition(body, "Ready")["lastTransitionTime"])
        if (await world.status("site")).get("nextAttemptTime"):
            await advance_to(world, (await world.status("site"))["nextAttemptTime"], plus=1)
    assert times[0] == times[1] < times[2]


# --- events


async def test_a_failure_that_is_repeated_is_one_event_with_a_count(world: World, kubectl: Kubectl) -> None:
    world.emulator.faults.add(Fault(call="issue", status=449, times=None))
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.advance(HOUR)
    posts = len(asked(world, "issue"))
    assert posts >= 5
    [event] = await events(world, "site", "DomainNotConfigured")
    assert event["series"]["count"] == posts
    assert event["series"]["lastObservedTime"] > event["eventTime"]
    text = await shown(kubectl, "events", "--for", "vercelcertificate/site")
    assert f"(x{posts} over" in text
    assert text.count("Vercel did not issue a certificate for example.com") == 1


async def test_another_failure_is_another_event(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", status=402))
    world.emulator.faults.add(Fault(call="issue", status=403))
    await world.apply("site", ["example.com"])
    await world.quiet()
    await advance_to(world, (await world.status("site"))["nextAttemptTime"], plus=1)
    said = [*await events(world, "site", "PaymentRequired"), *await events(world, "site", "PermissionDenied")]
    assert len(said) == 2
    assert not any("series" in event for event in said)


async def test_a_year_of_renewals_is_an_event_for_each(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    for _ in range(4):
        await advance_to(world, (await world.status("site"))["renewalTime"], plus=601)
    notes = {event["note"] for event in await events(world, "site", "Renewed")}
    assert len(notes) == 4


async def test_an_event_is_found_by_the_resource_that_it_is_about(world: World, kubectl: Kubectl) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    body = await world.get("site")
    [event] = await events(world, "site", "Issued")
    assert body is not None
    assert event["regarding"]["uid"] == body["metadata"]["uid"]
    assert event["type"] == "Normal"
    assert event["action"] == "Issue"
    assert event["reportingController"] == "vercel-operator.io/vercel-certificate-operator"
    assert "Issued" in await shown(kubectl, "get", "events", "--field-selector", "involvedObject.name=site")


async def test_conditions_and_events_have_one_vocabulary(world: World) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=HOUR)
    world.emulator.faults.add(Fault(call="issue", status=500))
    world.emulator.faults.add(Fault(call="issue", status=402))
    world.emulator.faults.add(Fault(call="get", status=503))
    seen = set()
    await world.apply("site", ["example.com"])
    await world.apply("twin", ["example.com"])
    await world.quiet()
    for _ in range(12):
        for body in await world.all():
            seen |= {condition["reason"] for condition in body["status"]["conditions"]}
        await world.advance(15 * MINUTE)
    seen |= {event["reason"] for event in await invariants.events(world)}
    assert len(seen) >= 6
    assert seen <= {reason.value for reason in Reason}


# --- logs


def lines(out: StringIO) -> list[dict[str, str]]:
    """The operator's own lines."""
    records = [json.loads(line) for line in out.getvalue().splitlines()]
    return [record for record in records if record["logger"].startswith("vercel_certificate_operator")]


async def test_a_log_line_carries_namespace_name_uid_attempt_and_reason_as_fields(
    world: World, json_log: StringIO
) -> None:
    world.emulator.faults.add(Fault(call="issue", status=402))
    await world.apply("site", ["example.com"])
    await world.quiet()
    body = await world.get("site")
    assert body is not None
    about = {"namespace": world.namespace, "name": "site", "uid": body["metadata"]["uid"]}
    first = {**about, "attempt": (await world.status("site"))["attempt"]["id"]}
    asking, failed = [line for line in lines(json_log) if line.get("attempt")]
    assert asking.items() >= {**first, "level": "INFO", "reason": "FirstIssue"}.items()
    assert asking["message"] == "Requesting a certificate for example.com"
    assert failed.items() >= {**first, "level": "WARNING", "reason": "PaymentRequired"}.items()
    assert "Vercel did not issue a certificate for example.com" in failed["message"]
    assert all("timestamp" in line for line in (asking, failed))

    await advance_to(world, (await world.status("site"))["nextAttemptTime"], plus=1)
    issued = [line for line in lines(json_log) if line.get("reason") == "Issued"][-1]
    second = {**about, "attempt": (await world.status("site"))["attempt"]["id"]}
    assert issued.items() >= {**second, "reason": "Issued", "level": "INFO"}.items()
    assert first != second


async def test_what_failed_and_why_are_both_in_the_event_and_in_fields_of_the_log(
    world: World, json_log: StringIO
) -> None:
    """DeletionFailed and RemovalFailed say what failed. The reason of the failure is the cause."""
    await world.apply("site", ["example.com"])
    await world.quiet()
    world.emulator.faults.add(Fault(call="remove", status=403, times=None))
    await world.delete("site")
    await world.quiet()
    [event] = await events(world, "site", "DeletionFailed")
    assert event["note"].startswith("PermissionDenied: Can't remove certificate ")
    assert " with the default token: " in event["note"]
    [line] = [line for line in lines(json_log) if line.get("reason") == "DeletionFailed"]
    assert line["cause"] == "PermissionDenied"


async def test_the_log_names_a_token_that_vercel_rejects_and_says_why(world: World, json_log: StringIO) -> None:
    await put_secret(world, OTHER_TOKEN)
    world.emulator.accounts.revoke(OTHER_TOKEN)
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    name = f"token {world.namespace}/{REF['name']}/token"
    [line] = [line for line in lines(json_log) if line.get("token")]
    assert (line["token"], line["reason"], line["level"]) == (name, "CredentialsInvalid", "WARNING")
    assert line["message"].startswith(f"Vercel rejected {name}: ")
    for text in [
        (await world.condition("site", "Ready"))[2],
        (await events(world, "site", "CredentialsInvalid"))[0]["note"],
    ]:
        assert f" with {name}: " in text


async def test_each_event_is_in_the_log_with_the_same_reason_and_words(world: World, json_log: StringIO) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    await world.delete("site")
    await world.quiet()
    logged = {(line.get("reason"), line["message"]) for line in lines(json_log)}
    said = await invariants.events(world)
    assert len(said) == 3
    assert {(event["reason"], f"{event['reason']}: {event['note']}") for event in said} <= logged


# --- the token


async def test_a_token_appears_nowhere_whatever_goes_wrong(world: World, json_log: StringIO, kubectl: Kubectl) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=HOUR)
    for token in (TOKEN, OTHER_TOKEN):  # each is echoed to who has sent it
        echo = f"Bearer {token} is not welcome."
        for fault in (
            Fault(call="issue", token=token, status=403, message=echo),
            Fault(call="issue", token=token, status=400, code=token),
            Fault(call="issue", token=token, action="raw", body=echo),
            Fault(call="issue", token=token, action="redirect", location=f"/{token}"),
            Fault(call="issue", token=token, action="reset"),
            Fault(call="get", token=token, status=500, message=echo),
            Fault(call="remove", token=token, status=500, message=echo, times=2),
        ):
            world.emulator.faults.add(fault)
    await put_secret(world, OTHER_TOKEN)
    await create_many(world, 2)
    await world.apply("own", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    everything = []
    for turn in range(6):
        await world.annotate("site-0", "renew", str(turn))
        await world.annotate("own", "renew", str(turn))
        await world.quiet()
        everything.append(yaml.safe_dump(await world.all()))
        if turn == 2:
            world.emulator.accounts.revoke(TOKEN)
            await world.emulator.stop()
        if turn == 3:
            await world.emulator.start()
            world.emulator.accounts.grant(TokenGrant(token=TOKEN))
        await world.advance(30 * MINUTE)
    for name in ("site-0", "own"):
        await world.delete(name)
    await world.quiet()
    everything.append(yaml.safe_dump(await invariants.events(world)))
    everything.append(await shown(kubectl, "describe", "vcert"))
    everything.append(json_log.getvalue())
    assert len(lines(json_log)) > 10
    for text in everything:
        assert TOKEN not in text
        assert OTHER_TOKEN not in text
