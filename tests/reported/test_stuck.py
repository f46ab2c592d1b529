"""Nothing stops for good: once what was wrong is right, the resource becomes Ready."""

from typing import Any

import pytest

from reported.acts import behave
from support.acting import DAY, HOUR, MINUTE, asked, create_many, notes, put_secret
from support.memory_api import SimulatedWorld
from support.world import OTHER_TOKEN
from vercel_certificate_operator.vercel import VercelClient
from vercel_emulator.models import Behaviour, CertificateChange, Fault, Injection, Renewal

A, B, C = ["a.example.com"], ["a.example.com", "b.example.com"], ["c.example.com"]
REF = {"name": "vercel"}


def fails(world: SimulatedWorld, **fault: Any) -> Any:
    return world.emulator.faults.add(Fault.model_validate({"times": None, **fault}))


@pytest.mark.parametrize(("before", "wanted"), [(A, C), (B, A), (A, B)])
async def test_names_that_were_refused_reverted_and_applied_again_are_issued(
    world: SimulatedWorld, before: list[str], wanted: list[str]
) -> None:
    await world.apply("site", before)
    await world.quiet()
    fails(world, call="issue", status=449, code="configuration_error", times=1)
    await world.apply("site", wanted)
    await world.quiet()
    await world.apply("site", before)
    await world.quiet()
    await world.advance(HOUR)
    await world.apply("site", wanted)
    await world.quiet()
    await world.advance(DAY)
    assert await world.ready("site") == ("True", "Issued")
    assert (await world.status("site"))["cns"] == wanted


@pytest.mark.parametrize("lacking", [["cns"], ["expiresAt"], ["cns", "expiresAt", "createdAt"]], ids=str)
async def test_renewals_succeed_although_no_answer_to_a_request_has_every_field(
    world: SimulatedWorld, lacking: list[str]
) -> None:
    """A GET of the certificate, and the list, have them."""
    behave(world, lifetime=9 * DAY)
    await world.apply("site", A)
    await world.quiet()
    fails(world, call="issue", action="answer", omit=lacking)
    for days in range(1, 20):
        await world.advance(DAY)
        assert await world.ready("site") == ("True", "Issued"), days
    assert len(asked(world, "issue")) <= 4
    assert len(world.live()) == 1


async def test_a_vercel_that_answers_post_only_and_says_no_expiry_is_asked_five_times_a_week(
    world: SimulatedWorld,
) -> None:
    fails(world, call=["list", "get"], status=404, code="not_found")
    fails(world, call="issue", action="answer", omit=["expiresAt"])
    await world.apply("site", A)
    await world.quiet()
    await world.advance(10 * MINUTE)
    assert await world.ready("site") == ("False", "UnexpectedAnswer")
    assert (await world.status("site"))["id"] in world.live(), "it is recorded"
    await world.advance(6 * DAY)
    assert len(asked(world, "issue")) <= 5


@pytest.mark.parametrize("status", [403, 500])
async def test_a_certificate_to_adopt_that_can_not_be_read_does_not_hold_up_the_renewal(
    world: SimulatedWorld, status: int
) -> None:
    behave(world, lifetime=9 * DAY)
    world.configure(default_token_namespaces=("web",))
    await world.restart()
    await world.apply("site", A)
    await world.quiet()
    fails(world, call="get", status=status, code="forbidden", id="cert_unreadable")
    await world.annotate("site", "adopt-id", "cert_unreadable")
    await world.advance(7.5 * DAY)
    assert len(asked(world, "issue")) == 2
    assert await notes(world, "site", "AdoptionRefused")


async def test_a_get_that_always_fails_does_not_prevent_the_renewal(world: SimulatedWorld) -> None:
    behave(world, lifetime=6 * DAY)
    await world.apply("site", A)
    await world.quiet()
    fails(world, call="get", status=500, code="internal_server_error")
    await world.advance(5.9 * DAY)
    assert len(asked(world, "issue")) == 2
    assert await world.ready("site") == ("True", "Issued")


@pytest.mark.parametrize("only", [404, 500])
async def test_a_vercel_that_answers_post_only_issues_and_renews(world: SimulatedWorld, only: int) -> None:
    behave(world, lifetime=6 * DAY)
    fails(world, call="list", status=only, code="not_found")
    fails(world, call="get", status=only, code="not_found")
    await world.apply("site", A)
    await world.quiet()
    first = await world.status("site")
    assert first["id"]
    assert first["expiresAt"]
    await world.advance(5.9 * DAY)
    second = await world.status("site")
    assert second["id"] != first["id"]
    assert await world.ready("site") == ("True", "Issued")


@pytest.mark.parametrize("switches", [{"unknownTokenStatus": 401}, {"unknownTokenStatus": 403}])
async def test_a_new_token_in_the_secret_ends_the_wait_within_minutes(
    world: SimulatedWorld, switches: dict[str, Any]
) -> None:
    world.emulator.state.behaviour = Behaviour.model_validate(switches)
    await put_secret(world, "revoked-token-0123456789")
    await world.apply("site", A, tokenSecretRef=REF)
    await world.quiet()
    await world.advance(8 * HOUR)
    assert await world.issuing("site") == ("False", "CredentialsInvalid")
    await put_secret(world, OTHER_TOKEN)
    await world.advance(3 * MINUTE)
    assert await world.ready("site") == ("True", "Issued")


async def test_a_dead_token_of_twenty_resources_is_tried_by_one_request_at_a_time(world: SimulatedWorld) -> None:
    await put_secret(world, "revoked-token-0123456789")
    await create_many(world, 20, tokenSecretRef=REF)
    await world.quiet()
    await world.advance(90 * MINUTE)
    assert len(world.calls()) < 20


async def test_a_limit_on_issuing_stops_neither_reads_nor_deletions_nor_other_names(world: SimulatedWorld) -> None:
    await world.apply("old", ["old.example.com"])
    await world.quiet()
    message = "Too many certificates already issued for exact set of domains"
    fails(world, call="issue", status=429, code="too_many_requests", message=message, cns=["a.example.com"])
    await world.apply("limited", A)
    await world.quiet()
    assert await world.issuing("limited") == ("False", "RateLimited")
    await world.apply("other", C)
    await world.quiet()
    assert await world.ready("other") == ("True", "Issued")
    await world.delete("old")
    await world.quiet()
    assert await world.get("old") is None


async def test_a_refused_removal_is_tried_again_within_the_hour(world: SimulatedWorld) -> None:
    await world.apply("site", A)
    await world.quiet()
    refused = fails(world, call="remove", status=400, code="bad_request")
    await world.delete("site")
    await world.advance(10 * MINUTE)
    message = (await world.condition("site", "Issuing"))[2]
    assert "spec.cns" not in message
    assert "spec.deletionPolicy to Retain" in message
    world.emulator.faults.remove(refused.id, "continue")
    await world.advance(HOUR + 10 * MINUTE)
    assert await world.get("site") is None


async def test_a_wait_that_was_recorded_a_year_ahead_ends_when_the_clock_is_right(world: SimulatedWorld) -> None:
    world.emulator.state.behaviour = Behaviour.model_validate({"dateHeader": False})
    world.clock.step(365 * 86400)
    refused = fails(world, call="issue", status=449, code="configuration_error")
    await world.apply("site", A)
    await world.quiet()
    world.clock.step(-365 * 86400)
    world.emulator.faults.remove(refused.id, "continue")
    await world.annotate("site", "note", "x")
    await world.quiet()
    await world.advance(2 * HOUR)
    assert await world.ready("site") == ("True", "Issued")


async def test_an_answer_with_the_old_certificate_until_it_has_expired_is_got_over(world: SimulatedWorld) -> None:
    behave(world, lifetime=9 * DAY)
    await world.apply("site", A)
    await world.quiet()
    world.emulator.state.behaviour = Behaviour(lifetime=9 * DAY, reissue="old")
    await world.advance(8.9 * DAY)
    assert (await world.issuing("site"))[1] == "NotRenewed"
    fails(world, call="get", status=500, code="internal_server_error", times=1)
    await world.advance(DAY / 10 + 3 * HOUR)
    assert await world.ready("site") == ("True", "Issued")


@pytest.mark.parametrize("status", [500, 503, 409])
async def test_vercel_is_asked_nothing_before_its_retry_after(world: SimulatedWorld, status: int) -> None:
    fails(world, call="issue", status=status, headers={"Retry-After": "600"})
    await world.apply("site", A)
    await world.quiet()
    await world.advance(20 * MINUTE)
    start = asked(world, "issue")[0].time
    later = [entry for entry in world.emulator.journal.entries if entry.time > start]
    assert later
    assert all(entry.time - start >= 600_000 for entry in later)


async def test_a_wildcard_certificate_that_was_made_by_hand_is_used(world: SimulatedWorld) -> None:
    fails(world, call="issue", status=400, code="wildcard_not_allowed")
    await world.apply("site", ["*.example.com"])
    await world.quiet()
    message = (await world.condition("site", "Issuing"))[2]
    assert "by hand" in message
    world.emulator.state.inject(Injection(cns=["*.example.com"], id="cert_by_hand"))
    await world.advance(2 * HOUR)
    assert await world.ready("site") == ("True", "Issued")
    assert (await world.status("site"))["id"] == "cert_by_hand"
    assert (await world.status("site"))["origin"] == "Found"


@pytest.mark.parametrize("start", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "not a time"])
async def test_an_odd_value_in_status_causes_no_traceback(
    world: SimulatedWorld, start: str, caplog: pytest.LogCaptureFixture
) -> None:
    await world.apply("site", A)
    await world.quiet()
    status = await world.status("site")
    status["attempt"] = {"id": "odd", "start": start, "generation": 1, "cns": A}
    await world.patch_status("site", status)
    await world.quiet()
    await world.advance(HOUR)
    assert "could not be reconciled" not in caplog.text
    assert (await world.status("site"))["id"] == status["id"]


@pytest.mark.parametrize("call", ["list", "issue"])
async def test_a_bug_in_a_call_is_counted_and_the_certificate_issued_all_the_same(
    world: SimulatedWorld, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bugs: list[str] = []
    assert world.operator is not None
    monkeypatch.setattr(world.operator.counted, "failed", bugs.append)

    real, calls = getattr(VercelClient, call), []

    async def breaks_once(*args: Any, **more: Any) -> Any:
        calls.append(call)
        if len(calls) == 1:
            raise KeyError("a bug")
        return await real(*args, **more)

    monkeypatch.setattr(VercelClient, call, breaks_once)
    await world.apply("site", A)
    await world.quiet()
    await world.advance(HOUR)
    assert await world.ready("site") == ("True", "Issued")
    assert bugs == ["bug"]


# --- etcd is restored from a backup -----------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["renew", "names", "delete", "time"])
async def test_after_a_restore_of_etcd_the_operator_goes_on_from_what_is_there(world: SimulatedWorld, act: str) -> None:
    """Until the next list, what it knows of the resource is newer than what exists: no write can succeed."""
    behave(world, lifetime=30 * DAY)
    await world.apply("site", ["example.com"])
    await world.quiet()
    backup = world.memory.backup()
    await world.annotate("site", "renew", "1")
    await world.quiet()
    world.memory.restore(backup)
    asked, journal = len(world.memory.asked), world.emulator.journal.last
    match act:
        case "renew":
            await world.annotate("site", "renew", "2")
        case "names":
            await world.apply("site", ["other.example.com"])
        case "delete":
            await world.delete("site")
    await world.advance(23 * DAY if act == "time" else HOUR)
    assert len(world.memory.asked) - asked <= 10
    assert len(world.emulator.journal.since(journal)) <= (23 * 4 + 20 if act == "time" else 20)
    if act == "delete":
        assert await world.get("site") is None
    else:
        assert await world.ready("site") == ("True", "Issued")
        assert (await world.status("site"))["attempt"]["outcome"] == "Issued"


async def test_after_a_month_in_which_vercel_leaves_out_a_name_it_is_issued(world: SimulatedWorld) -> None:
    """Each attempt brings another certificate that isn't enough. They leave room for the one that is."""
    state, answers = world.emulator.state, fails(world, call="issue", action="answer", fields={"cns": A})
    await world.apply("site", B)
    for _ in range(40):
        await world.advance(DAY)
        for certificate_id in world.live():
            state.change(certificate_id, CertificateChange(cns=A))
        await world.annotate("site", "renew", str(len(asked(world, "issue"))))
        await world.quiet()
    assert len(asked(world, "issue")) > 25
    world.emulator.faults.remove(answers.id)
    await world.advance(2 * DAY)
    assert await world.ready("site") == ("True", "Issued")
    assert len(world.live()) == 1, "what was replaced is gone"


async def test_a_user_who_knows_what_came_of_a_lost_answer_can_name_it(world: SimulatedWorld) -> None:
    """The list can't be had. docs/reasons.md: name the certificate, or say with renew that there is none."""
    world.configure(default_token_namespaces=("web",))
    await world.restart()
    fails(world, call="list", status=500)
    fails(world, call="issue", action="reset", when="after", times=1)
    await world.apply("site", A)
    await world.quiet()
    await world.advance(HOUR)
    assert await world.ready("site") == ("False", "OutcomeUnknown")
    [issued] = world.live()
    await world.annotate("site", "adopt-id", "cert_of_nobody")
    await world.advance(HOUR)
    assert await world.ready("site") == ("False", "OutcomeUnknown")
    await world.annotate("site", "adopt-id", issued)
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert (await world.status("site"))["id"] == issued
    await world.advance(DAY)
    assert len(asked(world, "issue")) == 1


async def test_naming_what_came_of_a_requested_renewal_answers_the_request(world: SimulatedWorld) -> None:
    world.configure(default_token_namespaces=("web",))
    await world.restart()
    await world.apply("site", A)
    await world.quiet()
    [first] = world.live()
    fails(world, call="list", status=500)
    fails(world, call="issue", action="reset", when="after", times=1)
    await world.annotate("site", "renew", "1")
    await world.quiet()
    await world.advance(HOUR)
    [issued] = set(world.live()) - {first}
    await world.annotate("site", "adopt-id", issued)
    await world.quiet()
    await world.advance(DAY)
    assert len(asked(world, "issue")) == 2
    assert (await world.status("site"))["id"] == issued


async def test_naming_the_current_certificate_says_that_it_was_renewed_in_place(world: SimulatedWorld) -> None:
    behave(world, lifetime=30 * DAY)
    world.configure(default_token_namespaces=("web",))
    await world.restart()
    await world.apply("site", A)
    await world.quiet()
    [first] = world.live()
    await world.advance(16 * DAY)
    fails(world, call="list", status=500)
    fails(world, call="issue", action="reset", when="before", times=1)
    await world.annotate("site", "renew", "1")
    await world.quiet()
    world.emulator.state.renew(first, Renewal(form="same-id"))
    await world.advance(HOUR)
    await world.annotate("site", "adopt-id", first)
    await world.quiet()
    await world.advance(DAY)
    assert (await world.condition("site", "Issuing"))[:2] == ("False", "Issued")
    assert len(asked(world, "issue")) == 2


async def test_names_that_change_again_and_again_are_issued_in_the_end(world: SimulatedWorld) -> None:
    """The record of what was replaced is full before the first ten minutes are over."""
    for number in range(23):
        await world.apply("site", [f"a{number}.example.com"])
        await world.quiet()
        await world.advance(5)
    await world.advance(3 * DAY)
    assert await world.ready("site") == ("True", "Issued")
    assert len(world.live()) == 1, "what was replaced is gone"
