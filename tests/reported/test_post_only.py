"""Vercel, or a gateway before it, offers nothing but issuing. Then one lost request must not be the end."""

from datetime import timedelta

import pytest

from reported.acts import behave, fails, posts, said
from support.acting import DAY, HOUR, MINUTE, advance_to
from support.memory_api import SimulatedWorld

A = ["a.example.com"]


@pytest.fixture(params=[404, 500])
def without_lists(world: SimulatedWorld, request: pytest.FixtureRequest) -> None:
    """Every call but the POST fails. Certificates live for a day, so that there are fewer of these calls."""
    behave(world, lifetime=DAY)
    fails(world, ["list", "get", "remove"], None, status=request.param)


@pytest.mark.usefixtures("without_lists")
@pytest.mark.parametrize("status", [500, 503, 409])
async def test_an_error_of_vercels_at_the_renewal_does_not_end_all_renewals(world: SimulatedWorld, status: int) -> None:
    await world.apply("site", A)
    await world.quiet()
    fails(world, "issue", status=status)
    await advance_to(world, (await world.status("site"))["expiresAt"], plus=-MINUTE.total_seconds())
    assert posts(world) == 3, "one for the first certificate, one that failed, and one that renewed"
    assert await world.ready("site") == ("True", "Issued")
    assert len(await said(world, "Renewed")) == 1


@pytest.mark.usefixtures("without_lists")
async def test_an_error_of_vercels_at_the_first_request_is_followed_by_another_one(world: SimulatedWorld) -> None:
    fails(world, "issue", status=500)
    await world.apply("site", A)
    await world.quiet()
    await world.advance(10 * MINUTE)
    assert await world.ready("site") == ("True", "Issued")


@pytest.mark.usefixtures("without_lists")
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_lost_answer_is_said_to_be_unknown_and_the_user_can_end_that(world: SimulatedWorld, when: str) -> None:
    """Nobody but the user can know whether there is a certificate."""
    fails(world, "issue", action="reset", when=when)
    await world.apply("site", A)
    await world.quiet()
    await world.advance(12 * HOUR)
    assert posts(world) == 1
    status, reason, message = await world.condition("site", "Issuing")
    assert (status, reason) == ("True", "OutcomeUnknown")
    assert "It is not known whether Vercel issued a certificate for a.example.com" in message
    assert "set the annotation vercel-operator.io/renew to a new value" in message
    assert len([note for note in await said(world, "OutcomeUnknown") if "can't be read" in note]) == 1
    await world.annotate("site", "renew", "1")
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert posts(world) == 2


async def test_the_list_works_again_and_shows_what_came_of_the_lost_request(world: SimulatedWorld) -> None:
    fails(world, ["list", "get"], 20, status=500)
    fails(world, "issue", action="reset", when="after")
    await world.apply("site", A)
    await world.quiet()
    await world.advance(timedelta(hours=20))
    assert await world.ready("site") == ("True", "Issued")
    assert posts(world) == 1


@pytest.mark.usefixtures("without_lists")
async def test_a_resource_that_is_deleted_meanwhile_says_how_to_let_it_go(world: SimulatedWorld) -> None:
    fails(world, "issue", action="reset", when="after")
    await world.apply("site", A)
    await world.quiet()
    await world.delete("site")
    await world.advance(HOUR)
    assert "set spec.deletionPolicy to Retain" in (await world.condition("site", "Ready"))[2]
    await world.patch("site", {"spec": {"deletionPolicy": "Retain"}})
    await world.quiet()
    assert await world.get("site") is None
    [note] = await said(world, "Retained")
    assert note.startswith("A certificate for a.example.com was being requested: check Vercel for it.")
