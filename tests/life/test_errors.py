"""What each failure of an issuance comes to, from Vercel's answer to the resource's status."""

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import pytest

from support.acting import DAY, HOUR, MINUTE, SECOND, advance_to, asked, events, notes, seconds_until, time
from support.world import World
from vercel_emulator import Fault
from vercel_emulator.models import CertificateChange, Injection

LONG = 32 * HOUR
SLACK = 2.0
"""Seconds: statuses hold whole ones."""


@dataclass(frozen=True)
class Row:
    """A row of the table, as Vercel's answer and what follows from it."""

    status: int
    code: str | None
    reason: str
    first: timedelta
    cap: timedelta
    advice: str

    def __str__(self) -> str:
        return f"{self.status}-{self.code or 'any'}"


NAMES = "Change spec.cns: Vercel doesn't issue a certificate for these names."
WILDCARD = "Let the domain use Vercel's name servers, or solve the DNS challenge by hand"
TOKEN = "Replace the token"
PLAN = "Check the plan and the billing"
RIGHTS = "Check that the token may manage certificates of this team"
DOMAIN = "Add the domain to the Vercel team"
DNS = "Check the DNS records of the domain"
NOTHING = "No action is needed: the operator waits as long as Vercel asks."
ISSUER = "No action is needed: the issuer limits certificates for the same set of names"

REFUSALS = [
    Row(400, None, "InvalidRequest", LONG, LONG, NAMES),
    Row(400, "brand_new_code", "InvalidRequest", LONG, LONG, NAMES),
    Row(403, "wildcard_not_allowed", "InvalidRequest", LONG, LONG, WILDCARD),
    Row(400, "invalid_cn", "InvalidRequest", LONG, LONG, NAMES),
    Row(404, "invalid_domain", "InvalidRequest", LONG, LONG, NAMES),
    Row(500, "bad_domains", "InvalidRequest", LONG, LONG, NAMES),
    Row(400, "should_share_root_domain", "InvalidRequest", LONG, LONG, NAMES),
    Row(400, "common_name_domain_name_mismatch", "InvalidRequest", LONG, LONG, NAMES),
    Row(400, "unsupported_challenge_priority", "InvalidRequest", LONG, LONG, NAMES),
    Row(401, None, "CredentialsInvalid", MINUTE, HOUR, TOKEN),
    Row(403, "unauthorized_request_error", "CredentialsInvalid", MINUTE, HOUR, TOKEN),
    Row(402, None, "PaymentRequired", HOUR, LONG, PLAN),
    Row(403, None, "PermissionDenied", HOUR, LONG, RIGHTS),
    Row(400, "domain_not_verified", "PermissionDenied", HOUR, LONG, RIGHTS),
    Row(404, None, "DomainNotFound", HOUR, LONG, DOMAIN),
    Row(410, None, "DomainNotFound", HOUR, LONG, DOMAIN),
    Row(429, None, "RateLimited", MINUTE, HOUR, NOTHING),
    Row(429, "invalid_cn", "RateLimited", MINUTE, HOUR, NOTHING),
    Row(400, "rate_limited", "RateLimited", HOUR, LONG, ISSUER),
    Row(403, "too_many_requests", "RateLimited", HOUR, LONG, ISSUER),
    Row(449, None, "DomainNotConfigured", MINUTE, HOUR, DNS),
    Row(400, "configuration_error", "DomainNotConfigured", MINUTE, HOUR, DNS),
    Row(500, "dns_error", "DomainNotConfigured", MINUTE, HOUR, DNS),
    Row(400, "challenge_error", "DomainNotConfigured", MINUTE, HOUR, DNS),
    Row(400, "txt_record_not_found", "DomainNotConfigured", MINUTE, HOUR, DNS),
    Row(403, "conflicting_caa_record", "DomainNotConfigured", MINUTE, HOUR, DNS),
    Row(418, "teapot", "InvalidRequest", HOUR, LONG, "Change spec or the Vercel account as Vercel's message says."),
]


async def waits(world: World, wait: timedelta, failures: int) -> None:
    """The status says when the next attempt comes, and how many have failed."""
    status = await world.status("site")
    assert status["failedAttempts"] == failures
    assert abs(seconds_until(world, status["lastFailureTime"])) <= SLACK
    seconds = wait.total_seconds()
    assert seconds - SLACK <= seconds_until(world, status["nextAttemptTime"]) <= seconds * 1.1 + SLACK


@pytest.mark.parametrize("row", REFUSALS, ids=str)
async def test_what_vercel_refuses_has_its_reason_its_advice_and_its_back_off(world: World, row: Row) -> None:
    refusal = Fault(call="issue", status=row.status, code=row.code, message="Vercel's own words.", times=None)
    fault = world.emulator.faults.add(refusal)
    await world.apply("site", ["example.com"])
    await world.quiet()
    ready, reason, message = await world.condition("site", "Ready")
    assert (ready, reason) == ("False", row.reason)
    assert await world.issuing("site") == ("False", row.reason)
    token = "" if row.advice in (NAMES, WILDCARD, ISSUER, DNS) else " with the default token"
    assert f"Vercel did not issue a certificate for example.com{token}: Vercel's own words" in message
    assert f"{row.code}, HTTP {row.status}" in message if row.code else f"HTTP {row.status}" in message
    assert row.advice in message
    assert message.endswith(f"Next attempt: {(await world.status('site'))['nextAttemptTime']}.")
    await waits(world, row.first, 1)

    await advance_to(world, (await world.status("site"))["nextAttemptTime"], plus=-3)
    assert len(asked(world, "issue")) == 1
    await world.advance(10 + row.first.total_seconds() / 10)
    assert len(asked(world, "issue")) == 2
    status = await world.status("site")
    assert status["failedAttempts"] == 2
    second = time(status["nextAttemptTime"]) - time(status["lastFailureTime"])
    wait = min(2 * row.first, row.cap)
    assert wait - SECOND <= second <= wait * 1.1 + SECOND

    world.emulator.faults.remove(fault.id)
    await advance_to(world, status["nextAttemptTime"], plus=5 + row.first.total_seconds() / 5)
    after = await world.status("site")
    assert await world.ready("site") == ("True", "Issued")
    assert not {"failedAttempts", "lastFailureTime", "nextAttemptTime"} & after.keys()
    assert len(asked(world, "issue")) == 3


async def test_waits_grow_to_their_cap_and_no_further(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", status=402, times=None))
    await world.apply("site", ["example.com"])
    await world.quiet()
    for failures, hours in enumerate([1, 2, 4, 8, 16, 32, 32, 32], start=1):
        await waits(world, hours * HOUR, failures)
        await advance_to(world, (await world.status("site"))["nextAttemptTime"], plus=0)
    assert len(asked(world, "issue")) == 9


async def test_a_failure_of_another_kind_begins_its_own_count(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", status=402, times=3))
    world.emulator.faults.add(Fault(call="issue", status=449, times=None))
    await world.apply("site", ["example.com"])
    await world.quiet()
    for _ in range(3):
        await advance_to(world, (await world.status("site"))["nextAttemptTime"])
    assert await world.issuing("site") == ("False", "DomainNotConfigured")
    await waits(world, MINUTE, 1)


async def test_a_back_off_goes_on_after_a_restart(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", status=402, times=None))
    await world.apply("site", ["example.com"])
    await world.quiet()
    before = await world.status("site")
    await world.restart()
    assert await world.status("site") == before
    assert world.calls() == ["list", "issue"]
    await advance_to(world, before["nextAttemptTime"])
    await waits(world, 2 * HOUR, 2)


@pytest.mark.parametrize("status", [400, 402, 403, 404, 449])
@pytest.mark.parametrize("change", ["spec", "renew annotation"])
async def test_a_change_by_the_user_ends_the_wait_at_once(world: World, status: int, change: str) -> None:
    world.emulator.faults.add(Fault(call="issue", status=status))
    await world.apply("site", ["example.com"])
    await world.quiet()
    assert (await world.ready("site"))[0] == "False"
    if change == "spec":
        await world.apply("site", ["example.com", "www.example.com"])
    else:
        await world.annotate("site", "renew", "v1")
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert "failedAttempts" not in await world.status("site")


async def test_a_change_of_labels_ends_no_wait(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", status=402, times=None))
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.patch("site", {"metadata": {"labels": {"team": "web"}, "annotations": {"note": "x"}}})
    await world.quiet()
    assert world.calls() == ["list", "issue"]


async def test_a_change_that_is_refused_too_begins_a_new_count(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", status=402, times=None))
    await world.apply("site", ["example.com"])
    await world.quiet()
    await advance_to(world, (await world.status("site"))["nextAttemptTime"])
    await waits(world, 2 * HOUR, 2)
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    await waits(world, HOUR, 1)


# --- it was sent, and what came of it is not known

UNKNOWN = {
    "500": Fault(call="issue", status=500),
    "502-html": Fault(call="issue", action="html"),
    "503": Fault(call="issue", status=503),
    "409": Fault(call="issue", status=409),
    "307": Fault(call="issue", action="redirect"),
    "403-html": Fault(call="issue", action="html", status=403),
    "validation_running": Fault(call="issue", status=400, code="validation_running"),
    "challenge_still_pending": Fault(call="issue", status=400, code="challenge_still_pending"),
    "reset": Fault(call="issue", action="reset"),
    "empty": Fault(call="issue", action="empty"),
    "200-html": Fault(call="issue", action="html", status=200),
    "wrong-shape": Fault(call="issue", action="raw", body={"certificate": "yes"}),
}


@pytest.mark.parametrize("name", UNKNOWN)
async def test_a_certificate_whose_answer_was_lost_is_found_in_the_list_and_not_requested_again(
    world: World, name: str
) -> None:
    world.emulator.faults.add(UNKNOWN[name].model_copy(update={"when": "after"}))
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.advance(MINUTE)
    assert await world.ready("site") == ("True", "Issued")
    assert world.calls().count("issue") == 1
    assert list(world.live()) == [(await world.status("site"))["id"]]
    [note] = await notes(world, "site", "Issued")
    assert "The answer to the request was lost; the operator found the certificate in Vercel's list." in note


@pytest.mark.parametrize("name", UNKNOWN)
async def test_if_nothing_was_issued_lists_show_it_and_one_more_attempt_is_made(world: World, name: str) -> None:
    world.emulator.faults.add(UNKNOWN[name])
    await world.apply("site", ["example.com"])
    await world.quiet()
    ready, reason, message = await world.condition("site", "Ready")
    assert (ready, reason) == ("False", "OutcomeUnknown")
    assert (await world.issuing("site")) == ("True", "OutcomeUnknown")
    assert "It is not known yet whether Vercel issued a certificate for example.com" in message
    await world.advance(25)
    assert world.calls().count("issue") == 1

    await world.advance(3 * MINUTE)
    assert world.calls().count("issue") == 2
    status = await world.status("site")
    assert await world.ready("site") == ("True", "Issued")
    assert list(world.live()) == [status["id"]]
    assert (status["attempt"]["outcome"], "failedAttempts" in status) == ("Issued", False)
    [note] = await notes(world, "site", "AttemptLost")
    assert "No certificate for example.com has appeared at Vercel since the attempt at" in note


async def test_attempts_that_are_lost_again_and_again_come_ever_more_seldom(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", status=500, times=None))
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.advance(HOUR)
    gaps = [after.time - before.time for before, after in pairwise(asked(world, "issue"))]
    minutes = [round(gap / 60_000) for gap in gaps]
    assert minutes[0] <= 1
    assert 10 <= minutes[1] <= 12
    assert 20 <= minutes[2] <= 23


async def test_a_certificate_that_turns_up_after_its_attempt_was_given_up_is_reported_and_left(world: World) -> None:
    hanging = world.emulator.faults.add(Fault(call="issue", action="hang"))
    await world.apply("site", ["example.com"])
    await world.quiet(hanging=1)
    await world.crash()
    world.configure(drift_interval=6 * HOUR.total_seconds())
    world.start()
    await world.quiet()
    await world.advance(4 * MINUTE)
    assert await world.ready("site") == ("True", "Issued")
    hanging.release()
    await world.emulator.journal.wait("issue", 2, finished=True)
    [late] = set(world.live()) - {(await world.status("site"))["id"]}

    await world.advance(DAY)
    [note] = await notes(world, "site", "OrphanedCertificate")
    assert late in note
    assert "exists at Vercel and no resource uses it. Remove it at Vercel if you don't need it." in note
    assert late in world.live()


async def test_of_two_certificates_that_may_be_the_answer_neither_is_ever_removed(world: World) -> None:
    """Found by the long run: someone else, or Vercel itself, issued one while the answer to our request was lost."""
    world.emulator.faults.add(Fault(call="issue", when="after", action="wrong-types"))
    world.emulator.faults.add(Fault(call="list", skip=1, times=1, status=404))
    await world.apply("site", ["example.com"])
    await world.quiet()
    [ours] = world.live()
    await world.advance(SECOND)
    theirs = world.emulator.state.inject(Injection(cns=["example.com"])).id
    await world.advance(HOUR)
    status = await world.status("site")
    assert (status["id"], status["origin"]) == (theirs, "Found"), "the youngest"
    assert await world.ready("site") == ("True", "Issued")
    [event] = await events(world, "site", "Issued")
    assert event["type"] == "Warning"
    assert f"which have the same names and may also be what was requested: {ours}." in event["note"]
    assert len(asked(world, "issue")) == 1

    await world.delete("site")
    await world.quiet()
    assert set(world.live()) == {ours, theirs}
    [note] = await notes(world, "site", "Deleted")
    assert f"Left at Vercel: {theirs}, since the operator did not issue it" in note


# --- it was not sent


async def test_while_vercel_can_not_be_reached_nothing_is_requested_and_it_is_tried_again_within_minutes(
    world: World,
) -> None:
    await world.emulator.stop()
    await world.apply("site", ["example.com"])
    await world.quiet()
    ready, reason, message = await world.condition("site", "Ready")
    assert (ready, reason) == ("False", "VercelUnreachable")
    assert "Check that the operator can reach the Vercel API" in message
    assert 1 <= seconds_until(world, (await world.status("site"))["nextAttemptTime"]) <= 3
    await world.advance(30 * MINUTE)
    status = await world.status("site")
    assert "attempt" not in status, "none was made"
    assert seconds_until(world, status["nextAttemptTime"]) <= 331
    await world.emulator.start()
    await world.advance(331)
    assert await world.ready("site") == ("True", "Issued")
    assert world.calls() == ["list", "issue"]


# --- it was issued, and is not what was asked for


async def test_a_certificate_for_other_names_is_recorded_and_the_operator_tries_again_daily(world: World) -> None:
    other = ["other.example.com"]
    active = world.emulator.faults.add(Fault(call="issue", action="answer", fields={"cns": other}, times=None))
    await world.apply("site", ["example.com"])
    await world.quiet()
    ready, reason, message = await world.condition("site", "Ready")
    assert (ready, reason) == ("False", "UnexpectedAnswer")
    assert "for other.example.com, which does not cover example.com" in message
    assert "Change spec.cns, or ask Vercel's support; the operator tries again daily. Next attempt: " in message
    first = (await world.status("site"))["id"]
    assert list(world.live()) == [first]
    world.emulator.state.change(first, CertificateChange(cns=other))  # it really is for these
    await world.advance(23 * HOUR)
    assert len(asked(world, "issue")) == 1
    await world.advance(4 * HOUR)
    assert len(asked(world, "issue")) == 2

    world.emulator.faults.remove(active.id)
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    await world.advance(10 * MINUTE)
    current = (await world.status("site"))["id"]
    wrong = [one for one in world.live() if one != current]
    assert len(wrong) == 2, "they may be someone else's: nobody requested these names"
    said = " ".join(await notes(world, "site", "UnexpectedAnswer"))
    assert all(one in said for one in wrong)


@pytest.mark.parametrize("missing", ["cns", "expiresAt"])
async def test_an_answer_that_lacks_a_field_is_completed_by_the_next_list(world: World, missing: str) -> None:
    world.emulator.faults.add(Fault(call=["issue", "get"], action="answer", omit=[missing], times=None))
    await world.apply("site", ["example.com"])
    await world.quiet()
    ready, reason, message = await world.condition("site", "Ready")
    assert (ready, reason) == ("False", "OutcomeUnknown")
    assert "didn't say which names it has or when it expires" in message
    assert (await notes(world, "site", "OutcomeUnknown")) == [message]
    await world.advance(10 * SECOND)
    assert await world.ready("site") == ("True", "Issued")
    assert list(world.live()) == [(await world.status("site"))["id"]]
    assert len(asked(world, "issue")) == 1


async def test_names_that_vercel_adds_by_itself_are_taken(world: World) -> None:
    fields = {"cns": ["example.com", "www.example.com"]}
    world.emulator.faults.add(Fault(call="issue", action="answer", fields=fields))
    await world.apply("site", ["example.com"])
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert (await world.status("site"))["cns"] == ["example.com", "www.example.com"]
    await world.advance(HOUR)
    assert world.calls() == ["list", "issue"]


# --- other calls than the issuance


async def test_a_get_before_a_renewal_that_fails_is_repeated_and_ready_stays_true(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    world.emulator.faults.add(Fault(call="get", status=503, times=3))
    status = await world.status("site")
    await advance_to(world, status["renewalTime"], plus=1)
    assert await world.ready("site") == ("True", "Issued")
    issuing, reason, message = await world.condition("site", "Issuing")
    assert (issuing, reason) == ("False", "VercelUnavailable")
    assert f"Can't get certificate {status['id']} for example.com: " in message
    await world.advance(MINUTE)
    assert world.calls() == ["list", "issue", "get", "get", "get", "get", "list", "issue"]
    assert await world.issuing("site") == ("False", "Issued")


async def test_a_removal_of_what_was_replaced_that_fails_is_tried_again_and_holds_nothing_up(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    world.emulator.faults.add(Fault(call="remove", status=403, times=None))
    await world.advance(10 * MINUTE)
    assert await world.ready("site") == ("True", "Issued")
    await world.apply("site", ["example.com", "new.example.com"])
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    world.emulator.faults.clear()
    await world.advance(3 * HOUR)
    assert list(world.live()) == [(await world.status("site"))["id"]]
