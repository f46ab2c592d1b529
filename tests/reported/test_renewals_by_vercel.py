"""Vercel renews by itself, the operator's certificates and those of others, at any time."""

from datetime import timedelta
from typing import Any

import pytest

from reported.acts import (
    behave,
    deleted,
    fails,
    held,
    posts,
    renewed_by_vercel,
    said,
    theirs,
)
from support.acting import (
    DAY,
    HOUR,
    MINUTE,
)
from support.memory_api import SimulatedWorld
from vercel_certificate_operator.accounts import Account
from vercel_emulator.models import Renewal

A = ["a.example.com"]
AB = ["a.example.com", "b.example.com"]


# --- someone else's ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cns", [A, AB], ids=["the same names", "more names"])
@pytest.mark.parametrize("how", ["the request is lost", "the operator is killed"])
async def test_an_old_certificate_of_someone_else_that_vercel_renews_in_place_is_not_what_came_of_a_lost_request(
    world: SimulatedWorld, cns: list[str], how: str
) -> None:
    """It was in the list before the attempt, under the same id. It was due soon, so the operator had to issue."""
    theirs(world, *cns, age=80 * DAY, left=10 * DAY)
    lost = fails(world, "issue", action="hang", when="before")
    await world.apply("site", A)
    await world.quiet(hanging=1)
    renewed_by_vercel(world, "cert_theirs", form="same-id")
    if how == "the operator is killed":
        await world.crash()
    lost.release("drop")
    if how == "the operator is killed":
        world.start()
    await world.quiet()
    await world.advance(HOUR)
    assert await world.ready("site") == ("True", "Issued")
    status = await world.status("site")
    assert status["id"] != "cert_theirs" or status["origin"] == "Found"
    await deleted(world)
    assert "cert_theirs" in world.live()


async def test_a_post_that_vercel_answers_by_renewing_someone_elses_certificate_makes_nothing_ours(
    world: SimulatedWorld,
) -> None:
    """In place: the same id with new times."""
    theirs(world, *A, age=80 * DAY, left=10 * DAY)
    renew = world.emulator.state.renew

    def issued_in_place(cns: Any, **more: Any) -> Any:
        return renew("cert_theirs", Renewal(form="same-id"))

    world.emulator.state.issue = issued_in_place  # type: ignore[method-assign]
    await world.apply("site", A)
    await world.quiet()
    assert (await world.status("site"))["id"] == "cert_theirs"
    assert (await world.status("site"))["origin"] == "Found"
    await deleted(world)
    assert "cert_theirs" in world.live()


async def test_a_renewal_by_vercel_of_someone_elses_certificate_is_not_what_came_of_a_lost_request(
    world: SimulatedWorld,
) -> None:
    """Under a new id. The list showed that somebody else has these names, and that theirs renews by itself."""
    theirs(world, *A, age=80 * DAY, left=10 * DAY)
    lost = fails(world, "issue", action="hang", when="before")
    await world.apply("site", A)
    await world.quiet(hanging=1)
    assert (await world.status("site"))["sharedNames"] is True
    renewed_by_vercel(world, "cert_theirs", id="cert_theirs_2")
    lost.release("drop")
    await world.quiet()
    await world.advance(HOUR)
    assert await world.ready("site") == ("True", "Issued")
    await deleted(world)
    assert "cert_theirs_2" in world.live()


async def test_more_names_that_a_colleague_issues_during_the_search_are_not_the_operators(
    world: SimulatedWorld,
) -> None:
    """docs/how-it-works.md: what is found has exactly the attempt's names."""
    fails(world, "issue", action="reset")
    await world.apply("site", A)
    await world.quiet()
    theirs(world, *A, "www.a.example.com", age=timedelta())
    await world.advance(HOUR)
    assert await world.ready("site") == ("True", "Issued")
    await deleted(world)
    assert "cert_theirs" in world.live()


# --- renewals by Vercel -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", [1, 20, 44, 46, 58])
async def test_a_renewal_by_vercel_at_any_time_that_removes_the_old_one_is_taken(
    world: SimulatedWorld, day: int
) -> None:
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    await world.advance(day * DAY)
    renewed_by_vercel(world, first, id="cert_renewed", removes_old=True)
    await world.advance(DAY)
    assert posts(world) == 1
    assert await held(world) == ["cert_renewed"]
    assert (await world.status("site"))["origin"] == "Issued"
    await deleted(world)
    assert world.live() == {}


@pytest.mark.parametrize("days", [0.4, 1.3])
async def test_a_vercel_that_renews_all_the_time_is_followed_or_reported(world: SimulatedWorld, days: float) -> None:
    """Under new ids, in the first half too, and leaves the old ones."""
    behave(world, lifetime=9 * DAY)
    await world.apply("site", A)
    await world.quiet()
    [newest] = await held(world)
    for number in range(12):
        await world.advance(days * DAY)
        newest = renewed_by_vercel(world, newest, id=f"cert_r{number}").id
        if newest not in world.live():
            break
    await world.advance(2 * DAY)
    assert await world.ready("site") == ("True", "Issued")
    assert posts(world) <= 3
    notes = " ".join(await said(world))
    lost = [one for one in world.live() if one not in await held(world) and one not in notes]
    assert lost == []


# --- what was just replaced -------------------------------------------------------------------------------------------


async def in_the_second_half(world: SimulatedWorld, **spec: Any) -> str:
    """Issues a certificate and lets more than half of its life pass. Returns its id."""
    behave(world, lifetime=18 * DAY)
    await world.apply("site", A, **spec)
    await world.quiet()
    [first] = await held(world)
    await world.advance(10 * DAY)
    return first


async def with_other_names(world: SimulatedWorld, **spec: Any) -> str:
    """Then changes the names, so that another one has just replaced it."""
    first = await in_the_second_half(world, **spec)
    await world.patch("site", {"spec": {"cns": AB}})
    await world.quiet()
    await world.advance(MINUTE)
    return first


@pytest.mark.parametrize("removes", [False, True])
async def test_vercels_renewal_of_what_the_operator_renewed_is_named_when_the_resource_is_deleted(
    world: SimulatedWorld, removes: bool
) -> None:
    first = await in_the_second_half(world)
    await world.annotate("site", "renew", "1")
    await world.quiet()
    await world.advance(MINUTE)
    renewed_by_vercel(world, first, id="cert_ren", removes_old=removes)
    await deleted(world)
    assert list(world.live()) == ["cert_ren"], "nothing has recorded whose it is"
    assert "cert_ren" in " ".join(await said(world, "Deleted"))


@pytest.mark.parametrize("removes", [False, True])
async def test_vercels_renewal_of_a_certificate_that_one_with_other_names_replaced_is_named(
    world: SimulatedWorld, removes: bool
) -> None:
    first = await with_other_names(world)
    renewed_by_vercel(world, first, id="cert_ren", removes_old=removes)
    await world.advance(DAY)
    [note] = [note for note in await said(world, "OrphanedCertificate") if "cert_ren" in note]
    assert first in note
    assert sorted(world.live()) == sorted(["cert_ren", *await held(world)])


def slow_lists(world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch, seconds: float, most: int = 25) -> list[float]:
    """Each list takes so long, at most so many; later ones take no time, so that a test ends."""
    took: list[float] = []
    original = Account._list

    async def slow(self: Any, scope: Any, key: Any, begun: float) -> None:
        if len(took) < most:
            world.clock.pause(seconds)
        took.append(seconds)
        await original(self, scope, key, begun)

    monkeypatch.setattr(Account, "_list", slow)
    return took


@pytest.mark.parametrize("seconds", [0, 0.3, 2.0, 70.0])
async def test_after_a_removal_one_list_is_enough_however_long_it_takes(
    world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    first = await with_other_names(world)
    took = slow_lists(world, monkeypatch, seconds)
    await world.advance(20 * MINUTE)
    assert first not in world.live()
    assert len(took) <= 2


async def test_if_the_list_after_a_removal_fails_an_event_says_that_a_renewal_may_be_left(
    world: SimulatedWorld,
) -> None:
    first = await with_other_names(world)
    renewed_by_vercel(world, first, id="cert_ren", removes_old=False)
    fails(world, "list", None, status=500)
    await world.advance(HOUR)
    assert any("Vercel may have renewed it under another id" in note for note in await said(world))


@pytest.mark.parametrize("spec", [{}, {"team": {"id": "team_alpha"}}], ids=["personal account", "team"])
async def test_a_label_that_is_set_between_the_list_and_the_record_hides_no_renewal(
    world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any]
) -> None:
    first = await with_other_names(world, **spec)
    renewed_by_vercel(world, first, id="cert_ren", removes_old=False)
    original = Account._list
    done: list[int] = []

    async def labelled(self: Any, scope: Any, key: Any, begun: float) -> None:
        await original(self, scope, key, begun)
        if first not in world.live() and not done:
            done.append(1)
            await world.patch("site", {"metadata": {"labels": {"x": "y"}}})

    monkeypatch.setattr(Account, "_list", labelled)
    await world.advance(DAY)
    assert done
    assert any("cert_ren" in note for note in await said(world))


async def test_twenty_that_were_replaced_and_renewed_are_removed_in_one_go(
    world: SimulatedWorld, caplog: pytest.LogCaptureFixture
) -> None:
    await with_other_names(world)
    await world.advance(HOUR)
    entries = []
    for number in range(20):
        old = theirs(world, f"o{number}.example.com", id=f"cert_old{number}", age=12 * DAY, left=6 * DAY)
        renewed_by_vercel(world, old.id, id=f"cert_ren{number}", removes_old=False)
        times = {"since": "2026-01-02T00:00:00Z", "renewableSince": "2026-01-09T00:00:00Z"}
        entries.append({"id": old.id, "origin": "Issued", "cns": [f"o{number}.example.com"], **times})
    await world.patch_status("site", {"superseded": entries})
    await world.quiet()
    await world.advance(HOUR)
    assert not [record for record in caplog.records if record.exc_info]
    assert len(await held(world)) == 1


async def test_a_renewal_of_the_current_certificate_is_not_said_to_be_left(world: SimulatedWorld) -> None:
    """Its names are no longer wanted, the new ones are refused, and an older one of the same names could not go."""
    behave(world, lifetime=9 * DAY)
    await world.apply("site", A)
    await world.quiet()
    await world.advance(DAY)
    stuck = fails(world, "remove", None, status=403, code="forbidden")
    await world.annotate("site", "renew", "1")
    await world.quiet()
    current = (await held(world))[0]
    fails(world, "issue", None, status=402)
    await world.patch("site", {"spec": {"cns": AB}})
    await world.quiet()
    await world.advance(5 * DAY)
    renewed_by_vercel(world, current, id="cert_ren", removes_old=False)
    world.emulator.faults.remove(stuck.id, "continue")
    await world.advance(2 * DAY)
    assert "cert_ren" in await held(world)
    assert not [note for note in await said(world, "OrphanedCertificate") if "cert_ren" in note]


@pytest.mark.parametrize("removes", [False, True], ids=["the old one stays", "the old one is gone"])
@pytest.mark.parametrize("seconds", [2, 30])
@pytest.mark.parametrize("others", [0, 150], ids=["a short list", "a long list"])
async def test_a_renewal_a_moment_before_the_deletion_is_named(
    world: SimulatedWorld, others: int, seconds: float, removes: bool
) -> None:
    """A list from before the renewal was new enough, and afterwards nothing would report the certificate."""
    behave(world, lifetime=18 * DAY)
    for number in range(others):
        theirs(world, f"x{number}.example.org", id=f"cert_x{number}")
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    await world.advance(10 * DAY)
    await world.apply("another", ["another.example.com"])  # a list is made
    await world.quiet()
    await world.advance(seconds)
    renewed_by_vercel(world, first, id="cert_renewed", removes_old=removes)
    await world.advance(seconds)
    await world.delete("site")
    await world.quiet()
    await world.advance(HOUR)
    assert await world.get("site") is None
    assert "cert_renewed" in world.live(), "nothing has recorded whose it is"
    assert "cert_renewed" in " ".join(await said(world, "Deleted"))
