"""A certificate that may be someone else's is not removed, whatever an answer, a list or another resource suggests."""

from datetime import timedelta
from typing import Any

import pytest

from reported.acts import behave, deleted, fails, held, posts, renewed_by_vercel, theirs
from support.acting import DAY, HOUR, MINUTE, advance_to, asked, notes
from support.memory_api import ApiFault, SimulatedWorld
from vercel_emulator.errors import ApiError

A = ["a.example.com"]


@pytest.mark.parametrize("why", ["the operator was down", "lists failed", "a backup was restored"])
async def test_what_a_colleague_issues_a_day_after_an_attempt_is_not_its_outcome(
    world: SimulatedWorld, why: str
) -> None:
    """Vercel never got the request. For 30 hours nobody could know that, and then somebody issued one by hand."""
    lost = fails(world, "issue", action="hang", when="before")
    await world.apply("site", A)
    await world.quiet(hanging=1)
    backup = world.memory.backup()
    if why == "lists failed":
        fails(world, "list", None, status=501, code="not_implemented")
        lost.release("drop")
        await world.quiet()
        await world.advance(30 * HOUR)
        theirs(world, *A, age=timedelta(), left=90 * DAY)
        world.emulator.faults.clear("drop")
        await world.advance(HOUR)
    else:
        await world.crash()
        lost.release("drop")
        if why == "a backup was restored":
            await world.patch("site", {"metadata": {"finalizers": None}})
            await world.delete("site")
            world.memory.restore(backup)
        await world.clock.advance(30 * 3600.0)
        theirs(world, *A, age=timedelta(), left=90 * DAY)
        await world.clock.advance(3600.0)
        world.start()
    await world.quiet()
    await world.advance(HOUR)
    assert await held(world) == ["cert_theirs"]
    assert (await world.status("site"))["origin"] == "Found"
    await deleted(world)
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize(
    ("attempt", "ends"), [("a first one", "lost"), ("a renewal", "lost"), ("a renewal", "refused")]
)
async def test_what_another_resource_retained_during_a_post_is_neither_its_outcome_nor_a_renewal(
    world: SimulatedWorld, attempt: str, ends: str
) -> None:
    """The user has adopted it with a second resource, and deleted that with Retain, while the POST was in flight."""
    behave(world, lifetime=30 * DAY)
    if attempt == "a renewal":
        await world.apply("a", A)
        await world.quiet()
        await advance_to(world, (await world.status("a"))["renewalTime"], plus=-1)
    slow = fails(world, "issue", action="hang", when="before")
    await world.apply("a", A)
    await world.quiet(hanging=1)
    await world.advance(5, hanging=1)
    theirs(world, *A, age=timedelta(), left=30 * DAY)
    adopt = {"vercel-operator.io/adopt-id": "cert_theirs"}
    await world.apply("b", A, annotations=adopt, deletionPolicy="Retain")
    await world.quiet(hanging=1)
    assert await held(world, "b") == ["cert_theirs"]
    await world.delete("b")
    await world.quiet(hanging=1)
    assert await world.get("b") is None

    def refuse(cns: Any, **more: Any) -> Any:
        raise ApiError(400, "bad_request", "No.")

    if ends == "refused":
        world.emulator.state.issue = refuse  # type: ignore[method-assign]
    slow.release("drop" if ends == "lost" else "continue")
    await world.quiet()
    await world.advance(HOUR)
    await deleted(world, "a")
    assert "cert_theirs" in world.live()


async def test_what_another_resource_retained_while_one_write_failed_is_no_renewal(world: SimulatedWorld) -> None:
    """One PATCH of a's status failed, so a had not recorded that the names are shared before b was gone."""
    behave(world, lifetime=30 * DAY)
    await world.apply("a", A)
    await world.quiet()
    await world.advance(16 * DAY)
    theirs(world, *A, age=timedelta(), left=30 * DAY)
    world.memory.faults.append(ApiFault("PATCH", 500, times=1, what="vercelcertificates/a/status"))
    adopt = {"vercel-operator.io/adopt-id": "cert_theirs"}
    await world.apply("b", A, annotations=adopt, deletionPolicy="Retain")
    await world.quiet()
    assert await held(world, "b") == ["cert_theirs"]
    await world.delete("b")
    await world.quiet()
    assert await world.get("b") is None
    await world.advance(DAY)
    await deleted(world, "a")
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize("limited", ["the POST", "the list"])
async def test_a_rate_limit_makes_an_older_list_prove_nothing(world: SimulatedWorld, limited: str) -> None:
    """Vercel answers the POST with what a colleague has issued seconds ago; issuers set createdAt back by an hour."""
    behave(world, backdate="1h", reissue="old")
    if limited == "the POST":
        fails(world, "issue", status=429, code="rate_limited", headers={"Retry-After": "40"})
        await world.apply("site", A)
        await world.quiet()
        await world.advance(20)
        theirs(world, *A, age=HOUR, left=89 * DAY)
    else:
        await world.apply("other", ["other.example.com"])
        await world.quiet()
        await world.advance(MINUTE)
        fails(world, "list", None, status=429, code="rate_limited", headers={"Retry-After": "300"})
        await world.apply("another", ["another.example.com"])
        await world.quiet()
        await world.advance(MINUTE)
        theirs(world, *A, age=HOUR, left=89 * DAY)
        await world.advance(5)
        await world.apply("site", A)
        await world.quiet()
    await world.advance(10 * MINUTE)
    await world.delete("site")
    await world.quiet()
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize("attempt", ["a first one", "a renewal"])
async def test_an_answer_for_other_names_is_someone_elses(world: SimulatedWorld, attempt: str) -> None:
    """A gateway mixes up two answers: a colleague has issued a certificate for other names at the same moment."""
    if attempt == "a renewal":
        await world.apply("site", A)
        await world.quiet()
        await world.advance(DAY)
    issue = world.emulator.state.issue

    def mixed_up(cns: Any, **more: Any) -> Any:
        world.emulator.state.issue = issue  # type: ignore[method-assign]
        return theirs(world, "shop.example.org", age=timedelta(), left=90 * DAY)

    world.emulator.state.issue = mixed_up  # type: ignore[method-assign]
    await world.apply("site", A, annotations={"vercel-operator.io/renew": "1"})
    await world.annotate("site", "renew", "1")
    await world.quiet()
    await world.advance(HOUR)
    assert "cert_theirs" in world.live(), "nobody has deleted anything"
    await deleted(world)
    assert "cert_theirs" in world.live()


@pytest.mark.parametrize("operator", ["is suspended", "is down"])
async def test_what_a_colleague_issues_a_month_after_the_expiry_is_no_renewal(
    world: SimulatedWorld, operator: str
) -> None:
    """docs/how-it-works.md: a renewal is created in the second half of the older one's lifetime."""
    behave(world, lifetime=9 * DAY)
    await world.apply("site", A)
    await world.quiet()
    if operator == "is suspended":
        await world.apply("site", A, suspend=True)
        await world.advance(39 * DAY)
    else:
        await world.crash()
        await world.clock.advance(39 * 86400.0)
    theirs(world, *A, age=timedelta(), left=90 * DAY)
    if operator == "is suspended":
        await world.advance(DAY)
        await world.apply("site", A, suspend=False)
    else:
        world.start()
    await world.quiet()
    await world.advance(DAY)
    await world.delete("site")
    await world.advance(HOUR)
    assert "cert_theirs" in world.live()


async def test_a_move_to_another_team_does_not_say_that_names_are_shared(world: SimulatedWorld) -> None:
    """docs/moving.md, word for word."""
    behave(world, lifetime=30 * DAY)
    await world.apply("site", A)
    await world.quiet()
    await world.apply("site-beta", A, team={"slug": "beta"})
    await world.quiet()
    await world.advance(HOUR)
    assert await world.ready("site-beta") == ("True", "Issued")
    await world.delete("site")
    await world.advance(HOUR)
    await world.advance(16 * DAY)
    [first] = await held(world, "site-beta")
    renewed_by_vercel(world, first, id="cert_renewed")
    await world.advance(DAY)
    await world.delete("site-beta")
    await world.advance(HOUR)
    assert world.live() == {}


async def test_what_the_operator_removed_after_a_list_was_begun_does_not_make_names_shared(
    world: SimulatedWorld,
) -> None:
    """The drift watch uses a list that is half a minute old. The certificate in it was the resource's own."""
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    await world.advance(12 * HOUR)
    drift = asked(world, "list")[-1].time / 1000 + 6 * 3600  # when the next one is due
    await world.advance(drift - world.emulator.clock.now_ms() / 1000 - 620)
    await world.annotate("site", "renew", "1")
    await world.quiet()
    await world.advance(580)
    await world.apply("x", ["x.example.com"])  # the list for its attempt
    await world.quiet()
    await world.advance(30)
    assert first not in world.live()
    await world.advance(3 * MINUTE)
    assert "sharedNames" not in await world.status("site")


async def test_a_list_that_lacks_a_name_causes_no_other_certificate(world: SimulatedWorld) -> None:
    """One list is wrong. A GET would say so."""
    await world.apply("site", [*A, "b.example.com"])
    await world.quiet()
    [first] = await held(world)
    await world.advance(DAY)
    real = world.emulator.state.find(first)
    assert real is not None
    listed = {"certs": [{**real.public(), "cns": A}], "pagination": {"count": 1, "next": None}}
    fails(world, "list", action="raw", status=200, body=listed)
    await world.advance(DAY)
    assert posts(world) == 1


@pytest.mark.parametrize(
    "teams",
    [({}, {"team": {"id": "team_beta"}}), ({"team": {"slug": "alpha"}}, {"team": {"slug": "beta"}})],
    ids=["an account and a team", "two teams by slug"],
)
@pytest.mark.parametrize("delay", [0, 1, 3])
async def test_the_same_names_in_two_teams_are_issued_without_a_false_duplicate(
    world: SimulatedWorld, teams: Any, delay: int
) -> None:
    """Both are created by one kubectl apply."""
    one, two = teams
    slow = fails(world, "issue", action="hang", when="after")
    await world.apply("one", A, **one)
    await world.apply("two", A, **two)
    await world.quiet(hanging=1)
    await world.advance(delay, hanging=1)
    slow.release("continue")
    await world.quiet()
    await world.advance(10 * MINUTE)
    assert not await notes(world, "one", "DuplicateOf")
    assert not await notes(world, "two", "DuplicateOf")
    assert await world.ready("one") == ("True", "Issued")
    assert await world.ready("two") == ("True", "Issued")
