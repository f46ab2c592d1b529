"""Vercel's clock is wrong for a while. Once it is right, everything goes on within minutes."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from reported.acts import behave, deleted, fails, held, posts, renewed_by_vercel, said, theirs, vercels_clock_is_ahead
from support.acting import DAY, HOUR, MINUTE, SECOND, advance_to
from support.memory_api import SimulatedWorld, simulated_world
from vercel_emulator.models import RateLimit

A, B = ["a.example.com"], ["b.example.com"]
YEAR = 365 * DAY


@pytest.fixture
async def watched() -> AsyncIterator[SimulatedWorld]:
    """Drift is detected every minute, and certificates live for three hours."""
    async with simulated_world(drift_interval=60) as made:
        behave(made, lifetime=3 * HOUR)
        yield made


@pytest.mark.parametrize("behind", [timedelta(hours=12), 30 * DAY, YEAR], ids=str)
async def test_a_renewal_that_was_due_by_the_right_clock_follows_soon(
    watched: SimulatedWorld, behind: timedelta
) -> None:
    await watched.apply("site", A)
    await watched.quiet()
    due = (await watched.status("site"))["renewalTime"]
    await advance_to(watched, due, plus=-10 * MINUTE.total_seconds())
    behave(watched, date_offset=-behind.total_seconds())
    await watched.advance(20 * MINUTE)
    assert posts(watched) == 1, "by Vercel's clock, it is not due"
    behave(watched, date_offset=0)
    await watched.advance(3 * MINUTE)
    assert posts(watched) == 2


@pytest.mark.parametrize("ahead", [100 * DAY, YEAR, 10 * YEAR], ids=str)
async def test_a_certificate_that_is_issued_while_the_clock_is_ahead_is_used(
    world: SimulatedWorld, ahead: timedelta
) -> None:
    """Vercel answers with one that has expired by its own Date header."""
    behave(world, date_offset=ahead.total_seconds())
    await world.apply("site", A)
    await world.quiet()
    status, reason, message = await world.condition("site", "Ready")
    assert (status, reason) == ("False", "ClockSkew")
    assert "ahead of the Kubernetes API server's" in message
    await world.advance(DAY)
    assert posts(world) == 1
    behave(world, date_offset=0)
    await world.advance(3 * MINUTE)
    assert await world.ready("site") == ("True", "Issued")
    assert posts(world) == 1


async def test_a_certificate_that_is_issued_before_the_clock_is_ahead_is_used_again(world: SimulatedWorld) -> None:
    await world.apply("site", A)
    await world.quiet()
    behave(world, date_offset=YEAR.total_seconds())
    await world.advance(7 * HOUR)  # a list to detect drift, and everything is looked at again
    behave(world, date_offset=0)
    await world.advance(7 * HOUR)
    assert await world.ready("site") == ("True", "Issued")
    assert posts(world) == 1


# --- whose a certificate is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [3 * HOUR, 23 * HOUR, 3 * DAY], ids=str)
async def test_what_a_colleague_makes_when_the_clock_is_right_again_is_never_removed(
    world: SimulatedWorld, ahead: timedelta
) -> None:
    """A request is lost while Vercel's clock is ahead. The operator is down until shortly before that future."""
    behave(world, date_offset=ahead.total_seconds())
    fails(world, "issue", action="reset", when="before")
    await world.apply("site", A)
    await world.quiet()
    await world.crash()
    behave(world, date_offset=0)
    await world.clock.advance((ahead - HOUR).total_seconds())
    theirs(world, *A, age=timedelta(), left=90 * DAY)
    world.start()
    await world.advance(2 * DAY)
    assert (await world.status("site"))["origin"] == "Found"
    await deleted(world)
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize("age", [15 * MINUTE, 3 * HOUR], ids=str)
@pytest.mark.parametrize("behind", [5 * HOUR, 3 * DAY], ids=str)
async def test_an_existing_certificate_that_vercel_answers_with_is_never_removed(
    world: SimulatedWorld, behind: timedelta, age: timedelta
) -> None:
    """The lists fail, and Vercel's clock is behind: by that clock, the colleague's certificate is from after it."""
    behave(world, date_offset=-behind.total_seconds(), reissue="old")
    theirs(world, *A, age=age, left=80 * DAY)
    down = fails(world, "list", times=None, status=500)
    await world.apply("site", A, existingCertificate="Ignore")
    await world.advance(HOUR)
    behave(world, date_offset=0)
    world.emulator.faults.remove(down.id, "continue")
    await world.advance(DAY)
    assert await held(world) == ["cert_theirs"]
    await deleted(world)
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize("need", ["first", "renew"])
@pytest.mark.parametrize("ahead", [3 * HOUR, 23 * HOUR, YEAR], ids=str)
async def test_one_certificate_is_issued_although_the_answer_is_lost_while_the_clock_is_ahead(
    world: SimulatedWorld, ahead: timedelta, need: str
) -> None:
    """By Vercel's clock, what it issued is older than the attempt."""
    if need == "renew":
        await world.apply("site", A)
        await world.quiet()
        await world.advance(HOUR)
    before = posts(world)
    behave(world, date_offset=ahead.total_seconds())
    fails(world, "issue", action="reset", when="after")
    if need == "renew":
        await world.annotate("site", "renew", "1")
    else:
        await world.apply("site", A)
    await world.advance(HOUR)
    behave(world, date_offset=0)
    await world.advance(DAY)
    assert posts(world) - before == 1
    assert await world.ready("site") == ("True", "Issued")


async def test_a_renewal_by_vercel_is_used_although_its_clock_is_a_year_ahead(world: SimulatedWorld) -> None:
    """By that clock, the new certificate has expired."""
    behave(world, lifetime=9 * DAY)
    await world.apply("site", A)
    await world.quiet()
    [old] = await held(world)
    await world.advance(5 * DAY)
    behave(world, date_offset=YEAR.total_seconds())
    new = renewed_by_vercel(world, old, removes_old=True).id
    await world.advance(16 * HOUR)
    behave(world, date_offset=0)
    await world.advance(DAY)
    assert posts(world) == 1
    assert (await held(world))[0] == new
    assert (await world.status("site"))["origin"] == "Issued"


# --- what is recorded -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("ahead", [3 * DAY, YEAR], ids=str)
async def test_what_was_replaced_while_the_clock_was_ahead_is_removed_in_time(
    world: SimulatedWorld, ahead: timedelta, restart: bool
) -> None:
    await world.apply("site", A)
    await world.quiet()
    await world.advance(HOUR)
    behave(world, date_offset=ahead.total_seconds())
    await world.annotate("site", "renew", "1")
    await world.quiet()
    behave(world, date_offset=0)
    if restart:
        await world.restart()
    await world.advance(7 * HOUR)
    assert list(world.live()) == await held(world)


async def flipping(world: SimulatedWorld, offsets: list[timedelta]) -> None:
    """Two tools set the names in turn, every 20 minutes, while Vercel's clock is as wrong as this."""
    for number, offset in enumerate(offsets):
        behave(world, date_offset=offset.total_seconds())
        await world.apply("site", [A, B][number % 2], existingCertificate="Ignore")
        await world.quiet()
        await world.advance(20 * MINUTE)


@pytest.mark.parametrize("alternates", [False, True])
@pytest.mark.parametrize("offset", [8 * DAY, YEAR, -8 * DAY, -YEAR], ids=str)
async def test_the_issuance_limit_holds_although_the_clock_is_wrong_for_a_while(
    world: SimulatedWorld, offset: timedelta, alternates: bool
) -> None:
    wrong = [number % 4 < 2 if alternates else 6 <= number < 14 for number in range(24)]
    await flipping(world, [offset * is_wrong for is_wrong in wrong])
    assert posts(world) == 5


@pytest.mark.parametrize("ahead", [3 * DAY, YEAR], ids=str)
async def test_the_issuance_limit_ends_a_week_after_the_clock_was_ahead(
    world: SimulatedWorld, ahead: timedelta
) -> None:
    await flipping(world, [ahead] * 6)
    behave(world, date_offset=0)
    await world.advance(8 * DAY)
    assert await world.ready("site") == ("True", "Issued")


# --- how long to wait -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("offset", [5 * HOUR, 3 * DAY, -5 * HOUR, -3 * DAY], ids=str)
async def test_a_rate_limit_is_waited_for_as_long_as_it_lasts_although_a_clock_is_wrong(
    world: SimulatedWorld, offset: timedelta, dated: bool
) -> None:
    """Vercel says at what time a minute ends. Its own Date is wrong, or it sends none and the node's clock is wrong."""
    if dated:
        behave(world, date_offset=offset.total_seconds())
    else:
        behave(world, date_header=False)
        world.clock.step(offset.total_seconds())
    limit = RateLimit(limit=1, window=60, calls=["issue"], retry_after=False, retry_after_ms=False, limit_in_body=True)
    world.emulator.limits.add(limit)
    await world.apply("site", A)
    await world.apply("shop", B)
    await world.quiet()
    await world.advance(3 * MINUTE)
    assert len(world.live()) == 2
    assert posts(world) <= 4


async def test_when_the_api_servers_clock_is_corrected_the_operator_continues_in_minutes(world: SimulatedWorld) -> None:
    """In a cluster where nothing else happens, nothing else asks the API server for its time."""
    behave(world, lifetime=9 * DAY)
    refused = fails(world, "issue", times=None, status=402, skip=2)
    await world.apply("site", A)
    await world.apply("shop", B)
    await world.quiet()
    expires = (await world.status("site"))["expiresAt"]
    await advance_to(world, expires, plus=-HOUR.total_seconds())
    world.server_clock.offset = (3 * DAY).total_seconds()
    await world.restart()
    await world.advance(40 * HOUR)
    assert (await world.issuing("site"))[1] == "ClockSkew"
    world.emulator.faults.remove(refused.id, "continue")
    asked_before = len(world.memory.asked)
    await world.advance(HOUR)
    assert len(world.memory.asked) - asked_before <= 30 + 2, "every two minutes, for all resources together"
    world.server_clock.offset = 0
    await world.advance(4 * MINUTE)
    assert await world.ready("site") == ("True", "Issued")


# --- what is recorded with the right time stays ----------------------------------------------------------------------


async def with_names_that_flip(world: SimulatedWorld, times: int) -> None:
    for number in range(times):
        await world.apply("site", [A, B][number % 2], existingCertificate="Ignore")
        await world.quiet()
        await world.advance(20 * MINUTE)


@pytest.mark.parametrize("behind", [HOUR, 23 * HOUR, 8 * DAY, 30 * DAY], ids=str)
async def test_the_limit_holds_although_the_api_servers_clock_is_behind_at_a_restart(
    world: SimulatedWorld, behind: timedelta
) -> None:
    await with_names_that_flip(world, 6)
    times = [entry["time"] for entry in (await world.status("site"))["issuances"]]
    world.server_clock.offset = -behind.total_seconds()
    await world.restart()
    await world.advance(20 * MINUTE)
    world.server_clock.offset = 0
    await world.advance(20 * MINUTE)
    await with_names_that_flip(world, 6)
    assert posts(world) == 5
    assert [entry["time"] for entry in (await world.status("site"))["issuances"]] == times


@pytest.mark.parametrize("offset", [-3 * HOUR, -23 * HOUR, 23 * HOUR], ids=str)
async def test_the_limit_holds_for_a_week_although_vercels_clock_was_wrong_for_hours(
    world: SimulatedWorld, offset: timedelta
) -> None:
    await with_names_that_flip(world, 6)
    behave(world, date_offset=offset.total_seconds())
    await world.advance(12 * HOUR)
    behave(world, date_offset=0)
    await world.advance(7 * DAY - 17 * HOUR)
    await with_names_that_flip(world, 3)
    assert posts(world) == 5


async def test_an_orphan_is_reported_although_the_resource_seems_to_be_younger(world: SimulatedWorld) -> None:
    """The API server's clock was ahead when the resource was created."""
    world.server_clock.offset = (3 * DAY).total_seconds()
    await world.apply("site", A)
    await world.quiet()
    world.server_clock.offset = 0.0
    await world.advance(DAY)
    theirs(world, *A, age=timedelta())
    await world.advance(7 * HOUR)
    [note] = await said(world, "OrphanedCertificate")
    assert "cert_theirs" in note


@pytest.mark.parametrize(
    "gateway", [{"date_header": False}, {"date_offset": -56 * 365 * 86400}], ids=["no Date", "1970"]
)
async def test_an_api_servers_clock_that_was_ahead_is_got_over_without_a_time_from_vercel(
    world: SimulatedWorld, gateway: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    behave(world, **gateway)
    world.server_clock.offset = (3 * DAY).total_seconds()
    await world.restart()
    await world.apply("site", A)
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    world.server_clock.offset = 0.0
    await world.restart()
    await world.advance(HOUR)
    await world.apply("site", B)
    await world.quiet()
    await world.advance(DAY)
    assert posts(world, *B) == 1
    assert await world.ready("site") == ("True", "Issued")
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("behind", [HOUR, 8 * DAY], ids=str)
async def test_what_was_replaced_rests_although_the_api_servers_clock_is_behind_at_a_restart(
    world: SimulatedWorld, behind: timedelta
) -> None:
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    await world.advance(HOUR)
    await world.annotate("site", "renew", "1")
    await world.quiet()
    await world.advance(MINUTE)
    since = (await world.status("site"))["superseded"][0]["since"]
    world.server_clock.offset = -behind.total_seconds()
    await world.restart()
    await world.apply("other", B)  # so that Vercel says its time
    await world.advance(2 * MINUTE)
    assert first in world.live()
    assert (await world.status("site"))["superseded"][0]["since"] == since


# --- the machine stands still -----------------------------------------------------------------------------------------


async def listed_then_stands_still(world: SimulatedWorld, span: timedelta, *, server: bool) -> None:
    """A list is made, and then the machine stands still: only the rest of the world goes on.

    Args:
        server: whether the API server is on another machine.
    """
    await world.apply("other", B)
    await world.quiet()
    await world.advance(3)
    world.emulator.clock.advance(span.total_seconds())
    if server:
        world.server_clock.offset += span.total_seconds()
    theirs(world, *A, age=span / 2, left=80 * DAY)


@pytest.mark.parametrize("server", [True, False], ids=["API server elsewhere", "API server on the same machine"])
@pytest.mark.parametrize("span", [5 * MINUTE, 2 * HOUR, 3 * DAY], ids=str)
async def test_what_others_issued_while_the_machine_stood_still_is_never_removed(
    world: SimulatedWorld, span: timedelta, server: bool
) -> None:
    """Vercel answers a POST for known names with the certificate that exists: nobody knows whether it does."""
    behave(world, reissue="old")
    await listed_then_stands_still(world, span, server=server)
    await world.apply("site", A, existingCertificate="Ignore")
    await world.quiet()
    await world.advance(MINUTE)
    assert (await world.status("site"))["origin"] == "Found"
    await deleted(world)
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize("server", [True, False], ids=["API server elsewhere", "API server on the same machine"])
async def test_what_others_issued_while_the_machine_stood_still_is_not_what_came_of_a_lost_request(
    world: SimulatedWorld, server: bool
) -> None:
    await listed_then_stands_still(world, 2 * MINUTE, server=server)
    fails(world, "issue", action="reset", when="before")
    await world.apply("site", A, existingCertificate="Ignore")
    await world.quiet()
    await world.advance(10 * MINUTE)
    assert (await world.status("site"))["origin"] == "Found"
    await deleted(world)
    assert "cert_theirs" in world.live()


# --- no Date, and the API server's clock is behind --------------------------------------------------------------------

GATEWAY = pytest.mark.parametrize(
    "gateway", [{"date_header": False}, {"date_offset": -56 * 365 * 86400}], ids=["no Date", "1970"]
)


async def behind(world: SimulatedWorld, span: timedelta, gateway: dict[str, Any]) -> None:
    behave(world, **gateway)
    world.server_clock.offset = -span.total_seconds()
    await world.restart()


async def kept(world: SimulatedWorld) -> None:
    await world.advance(HOUR)
    assert (await world.status("site"))["origin"] == "Found"
    await deleted(world)
    assert "cert_theirs" in world.live()


async def issued_since_the_list(world: SimulatedWorld) -> None:
    """50 or more certificates: a list may be 30 seconds old."""
    for number in range(60):
        theirs(world, f"x{number}.example.org", id=f"cert_x{number}")
    await world.apply("other", B)
    await world.quiet()
    await world.advance(20)
    theirs(world, *A, age=timedelta(), left=80 * DAY)
    await world.advance(10)


@GATEWAY
@pytest.mark.parametrize("span", [20 * SECOND, 2 * MINUTE, HOUR], ids=str)
async def test_without_a_date_an_answer_with_what_others_issued_since_the_list_is_found(
    world: SimulatedWorld, span: timedelta, gateway: dict[str, Any]
) -> None:
    await behind(world, span, {**gateway, "reissue": "old"})
    await issued_since_the_list(world)
    await world.apply("site", A, existingCertificate="Ignore")
    await world.quiet()
    await kept(world)


@GATEWAY
@pytest.mark.parametrize("span", [20 * SECOND, 2 * MINUTE], ids=str)
async def test_without_a_date_what_others_issued_since_the_list_is_not_what_came_of_a_lost_request(
    world: SimulatedWorld, span: timedelta, gateway: dict[str, Any]
) -> None:
    await behind(world, span, gateway)
    await issued_since_the_list(world)
    fails(world, "issue", action="reset", when="before")
    await world.apply("site", A, existingCertificate="Ignore")
    await world.quiet()
    await kept(world)


@GATEWAY
async def test_without_a_date_an_answer_with_what_existed_is_found_if_lists_fail(
    world: SimulatedWorld, gateway: dict[str, Any]
) -> None:
    await behind(world, 5 * HOUR, {**gateway, "reissue": "old"})
    theirs(world, *A, age=2.5 * HOUR, left=80 * DAY)
    down = fails(world, "list", times=None, status=500)
    await world.apply("site", A, existingCertificate="Ignore")
    await world.advance(HOUR)
    world.emulator.faults.remove(down.id, "continue")
    await kept(world)


# --- Vercel's clock is ahead: the owner waits -------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [100 * DAY, 365 * DAY], ids=str)
async def test_a_duplicate_issues_nothing_while_vercels_clock_is_ahead(world: SimulatedWorld, ahead: timedelta) -> None:
    await world.apply("old", A, suspend=True)
    await world.quiet()
    await world.advance(5)
    await world.apply("young", A)
    await world.quiet()
    await world.apply("old", A)
    await world.quiet()
    assert await world.ready("old") == ("False", "DuplicateOf")
    await vercels_clock_is_ahead(world, ahead)
    assert posts(world) == 1
    assert await world.ready("young") == ("True", "Issued")
