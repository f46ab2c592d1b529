"""A certificate that existed before is not the operator's, whatever request Vercel answers with it."""

from datetime import timedelta

import pytest

from reported.acts import behave, deleted, fails, held, posts, said, theirs
from support.acting import DAY, HOUR, MINUTE
from support.memory_api import SimulatedWorld

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    "cns",
    [["b.example.com"], ["a.example.com"], ["a.example.com", "b.example.com", "c.example.com"], ["other.example"]],
    ids=["one of two names", "the other one", "more names", "other names"],
)
@pytest.mark.parametrize("age", [SECOND, MINUTE, 50 * MINUTE, 3 * HOUR], ids=str)
async def test_a_young_certificate_of_someone_else_with_other_names_is_an_answer_and_never_removed(
    world: SimulatedWorld, cns: list[str], age: timedelta
) -> None:
    theirs(world, *cns, age=age)
    fails(world, "issue", action="other-certificate", certificate="cert_theirs")
    await world.apply("site", ["a.example.com", "b.example.com"])
    await world.quiet()
    assert (await world.status("site"))["origin"] == "Found"
    await world.annotate("site", "renew", "1")
    await world.advance(HOUR)
    assert await world.ready("site") == ("True", "Issued")
    await deleted(world)
    assert list(world.live()) == ["cert_theirs"]
    assert "cert_theirs" in " ".join(await said(world, "Retained", "Deleted"))


async def test_a_certificate_that_the_request_made_is_removed_although_it_lacks_a_name(world: SimulatedWorld) -> None:
    fails(world, "issue", action="answer", fields={"cns": ["a.example.com"]})
    await world.apply("site", ["a.example.com", "b.example.com"])
    await world.quiet()
    assert await world.ready("site") == ("False", "UnexpectedAnswer")
    await deleted(world)
    assert not world.live()


@pytest.mark.parametrize("age", [5 * SECOND, MINUTE, 4 * MINUTE], ids=str)
@pytest.mark.parametrize("lag", [timedelta(), 10 * MINUTE], ids=["no lag", "the list lags"])
async def test_someone_else_is_faster_and_the_list_does_not_have_it_yet(
    world: SimulatedWorld, age: timedelta, lag: timedelta
) -> None:
    """All resources share a list, and Vercel answers with the certificate that it has."""
    behave(world, reissue="old", list_lag=lag)
    await world.apply("earlier", ["earlier.example.com"])
    await world.quiet()  # the list is made
    await world.advance(5 * MINUTE)
    theirs(world, "a.example.com", age=age)
    await world.apply("site", ["a.example.com"])
    await world.quiet()
    assert await held(world) == ["cert_theirs"]
    assert (await world.status("site"))["origin"] == "Found"
    await deleted(world)
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize("killed", [False, True], ids=["the request is lost", "the operator is killed"])
async def test_someone_elses_certificate_is_not_what_came_of_a_lost_request(
    world: SimulatedWorld, killed: bool
) -> None:
    await world.apply("earlier", ["earlier.example.com"])
    await world.quiet()  # the list is made
    await world.advance(5 * MINUTE)
    theirs(world, "a.example.com", age=MINUTE)
    lost = fails(world, "issue", action="hang", when="before")
    await world.apply("site", ["a.example.com"])
    await world.quiet(hanging=1)
    if killed:
        await world.crash()
    lost.release("drop")
    if killed:
        world.start()
    await world.quiet()
    await world.advance(HOUR)
    assert await world.ready("site") == ("True", "Issued")
    await deleted(world)
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize("lost", [False, True], ids=["answered", "the answer is lost"])
async def test_a_renewal_within_the_second_of_the_first_certificate_is_one(world: SimulatedWorld, lost: bool) -> None:
    """Status has whole seconds."""
    await world.apply("site", ["a.example.com"])
    await world.quiet()
    if lost:
        fails(world, "issue", action="reset", when="after")
    await world.annotate("site", "renew", "1")
    await world.quiet()
    await world.advance(MINUTE)
    assert posts(world) == 2
    assert not await said(world, "NotRenewed")
    assert len(await said(world, "Renewed")) == 1
    assert (await world.status("site"))["attempt"]["outcome"] == "Issued"


@pytest.mark.parametrize("how", ["answered with theirs", "the request is lost"])
async def test_a_colleague_issues_after_the_list_of_a_large_account_and_the_issuer_sets_the_time_back_by_an_hour(
    world: SimulatedWorld, how: str
) -> None:
    behave(world, reissue="old", backdate=HOUR)
    for number in range(1000):
        theirs(world, f"o{number}.example.org", id=f"cert_o{number}", age=40 * DAY + timedelta(seconds=number))
    await world.apply("earlier", ["earlier.example.com"])
    await world.quiet()
    await world.advance(5 * MINUTE)
    theirs(world, "example.com", age=HOUR + MINUTE, left=89 * DAY)
    if how == "the request is lost":
        fails(world, "issue", action="reset", when="before")
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.advance(HOUR)
    await deleted(world)
    await world.advance(HOUR)
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"])
async def test_a_gateway_with_an_impossible_date_neither_stops_the_operator_nor_makes_it_issue_again_and_again(
    world: SimulatedWorld, caplog: pytest.LogCaptureFixture, date: str
) -> None:
    answers = fails(world, ["issue", "list", "get"], status=503, headers={"Date": date}, times=None)
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.advance(2 * HOUR)
    assert posts(world) <= 5
    world.emulator.faults.remove(answers.id)
    await world.advance(HOUR)
    await world.apply("other", ["other.example.com"])
    await world.quiet()
    assert await world.ready("other") == ("True", "Issued")
    assert not [record for record in caplog.records if record.exc_info]
