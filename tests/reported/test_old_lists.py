"""Attempts that are made from a list that is some time old: others had time to issue something since."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from reported.acts import behave, deleted, fails, held, posts, theirs
from support.acting import DAY, HOUR, MINUTE
from support.memory_api import SimulatedWorld

A = ["a.example.com"]
LONG, LIMITED = "it is long", "Vercel rate limits the token"
OLD = pytest.mark.parametrize("why_old", [LONG, LIMITED])


async def with_an_old_list(world: SimulatedWorld, why_old: str, seconds: float = 20) -> None:
    """The operator has a list of that age, from which it makes attempts."""
    if why_old == LONG:
        for number in range(150):
            theirs(world, f"x{number}.example.org", id=f"cert_x{number}")
    await world.apply("other", ["other.example.com"])
    await world.quiet()
    await world.advance(HOUR)
    if why_old == LIMITED:
        fails(world, "remove", status=429, code="rate_limited", headers={"Retry-After": "1"})
        await world.delete("other")
        await world.quiet()
        await world.advance(1)
    await world.apply("another", ["another.example.com"])  # a list is made
    await world.quiet()
    await world.advance(seconds)


async def is_found_and_stays(world: SimulatedWorld) -> None:
    """The resource uses a colleague's certificate, and leaves it there."""
    assert await held(world) == ["cert_theirs"]
    assert (await world.status("site"))["origin"] == "Found"
    await deleted(world)
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize("back", [3, 8, 10], ids="set back by {} min".format)
@OLD
async def test_a_colleagues_certificate_is_not_what_came_of_a_request_that_never_arrived(
    world: SimulatedWorld, back: int, why_old: str
) -> None:
    """An answer was judged by the ten minutes before the list, what a search finds only by half a minute."""
    await with_an_old_list(world, why_old, 30)
    theirs(world, *A, age=back * MINUTE, left=90 * DAY)
    await world.advance(5)
    fails(world, "issue", action="reset", when="before")
    await world.apply("site", A)
    await world.quiet()
    await world.advance(10 * MINUTE)
    await is_found_and_stays(world)


@pytest.mark.parametrize("before", [1.5, 2, 2.9])
@OLD
async def test_what_a_colleague_issued_seconds_before_the_attempt_is_found(
    world: SimulatedWorld, before: float, why_old: str
) -> None:
    behave(world, reissue="old")
    await with_an_old_list(world, why_old)
    theirs(world, *A, age=timedelta(), left=90 * DAY)
    await world.advance(before)
    await world.apply("site", A)
    await world.quiet()
    await is_found_and_stays(world)


@pytest.mark.parametrize("ahead", [0, 0.5, 1, 1.5, 1.9, -1.9, 30], ids="{} s ahead".format)
@pytest.mark.parametrize("lost", [False, True], ids=["answered", "lost"])
async def test_what_the_operator_issues_is_its_own_whatever_its_nodes_clock_says(
    world: SimulatedWorld, ahead: float, lost: bool
) -> None:
    world.clock.step(ahead)
    await world.restart()
    await with_an_old_list(world, LONG, 0)
    for number in range(8):
        if lost:
            fails(world, "issue", action="reset", when="after")
        await world.apply(f"site{number}", [f"s{number}.example.com"])
        await world.quiet()
        await world.advance(12.37 if lost else 5.13)
        assert (await world.status(f"site{number}"))["origin"] == "Issued"


@pytest.mark.parametrize("late", [15, 60, 300], ids="{} s late".format)
@OLD
async def test_what_existed_by_the_api_servers_clock_is_found(world: SimulatedWorld, late: int, why_old: str) -> None:
    """A gateway sends Vercel's Date late, say."""
    behave(world, reissue="old", date_offset=-late)
    await with_an_old_list(world, why_old)
    theirs(world, *A, age=timedelta(), left=90 * DAY)
    await world.advance(10)
    await world.apply("site", A)
    await world.quiet()
    await is_found_and_stays(world)


@pytest.mark.parametrize("step", [0, 30, -30, -3600], ids="the node's clock steps by {} s".format)
@pytest.mark.parametrize("late", [5, 9, 20], ids="{} s late".format)
async def test_what_a_colleague_issues_while_a_list_is_on_its_way_is_found(
    world: SimulatedWorld, late: int, step: float
) -> None:
    """The Date of the list is from when it was sent. So Vercel's time seemed to be earlier until the next answer."""
    behave(world, reissue="old")
    await world.apply("other", ["other.example.com"])
    await world.quiet()
    await world.advance(HOUR)
    now = datetime.fromtimestamp(world.emulator.clock.now_ms() / 1000, UTC)
    date = {"Date": format_datetime(now, usegmt=True)}
    slow = fails(world, "list", action="hang", when="after", headers=date)
    await world.apply("site", A)
    await world.quiet(hanging=1)
    await world.advance(1, hanging=1)
    theirs(world, *A, age=timedelta(), left=90 * DAY)
    await world.clock.advance(late - 1)
    world.clock.step(step)
    slow.release("continue")
    await world.quiet()
    await world.advance(MINUTE)
    await is_found_and_stays(world)


@pytest.mark.parametrize("why_old", [LONG, LIMITED, "a moment ago"])
async def test_after_a_lost_answer_the_successor_of_a_resource_has_a_list_made(
    world: SimulatedWorld, why_old: str
) -> None:
    """The resource is renamed: the list from before its request doesn't show what came of that."""
    await with_an_old_list(world, why_old, 0)
    slow = fails(world, "issue", action="hang", when="after")
    await world.apply("site", A, deletionPolicy="Retain")
    await world.quiet(hanging=1)
    await world.advance(10, hanging=1)
    await world.delete("site")
    await world.quiet(hanging=1)
    assert await world.get("site") is None
    slow.release("drop")
    await world.quiet()
    await world.apply("renamed", A, existingCertificate="Adopt")
    await world.quiet()
    await world.advance(HOUR)
    assert posts(world, *A) == 1
    assert len([cns for cns in world.live().values() if cns == A]) == 1


@pytest.mark.parametrize("ahead", [9, 11, 30])
async def test_what_the_operator_issues_is_its_own_if_the_api_servers_clock_is_ahead(
    world: SimulatedWorld, ahead: float
) -> None:
    """All of an import was Found, and would never be removed."""
    world.server_clock.offset = ahead
    await world.restart()
    await with_an_old_list(world, LONG, 10)
    for number in range(10):
        await world.apply(f"s{number}", [f"s{number}.example.com"])
        await world.quiet()
        await world.advance(3)
        assert (await world.status(f"s{number}"))["origin"] == "Issued"
