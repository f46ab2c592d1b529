"""The drift watch notices what Vercel did by itself, within its interval and long before the renewal time.

Each test ends before the renewal time, and nothing else happens: so only the drift watch's list can show it.
"""

from datetime import timedelta
from typing import Any

import pytest

from reported.acts import behave, deleted, held, posts, renewed_by_vercel, said, theirs
from support.acting import DAY, HOUR, MINUTE, asked, seconds_until
from support.memory_api import SimulatedWorld
from vercel_emulator.models import CertificateChange

A = ["a.example.com"]
AB = ["a.example.com", "b.example.com"]
INTERVAL = 6 * HOUR


async def issued(world: SimulatedWorld, day: float, **spec: Any) -> str:
    """A resource with a certificate that is so many days old. Returns the id."""
    await world.apply("site", A, **spec)
    await world.quiet()
    [first] = await held(world)
    await world.advance(day * DAY)
    return first


async def seen_by_then(world: SimulatedWorld) -> None:
    """One interval passes, and the renewal time is still far away."""
    before = len(asked(world, "list"))
    due = (await world.status("site"))["renewalTime"]
    await world.advance(INTERVAL + MINUTE)
    assert len(asked(world, "list")) > before
    assert seconds_until(world, due) > DAY.total_seconds(), "the test shows nothing otherwise"


@pytest.mark.parametrize("day", [1, 20, 44, 46, 55])
@pytest.mark.parametrize("moves", [False, True], ids=["createdAt stays", "createdAt moves"])
async def test_a_renewal_under_the_same_id_is_taken_within_the_interval(
    world: SimulatedWorld, day: int, moves: bool
) -> None:
    first = await issued(world, day)
    before = (await world.status("site"))["expiresAt"]
    renewed_by_vercel(world, first, form="same-id", moves_created_at=moves)
    await seen_by_then(world)
    status = await world.status("site")
    assert status["id"] == first
    assert status["expiresAt"] > before
    assert any(note.startswith("Vercel renewed") for note in await said(world, "Renewed"))
    assert posts(world) == 1


@pytest.mark.parametrize("removes", [False, True], ids=["the old one stays", "the old one is gone"])
async def test_a_renewal_under_a_new_id_is_taken_within_the_interval(world: SimulatedWorld, removes: bool) -> None:
    first = await issued(world, 46)
    renewed_by_vercel(world, first, id="cert_renewed", removes_old=removes)
    await seen_by_then(world)
    status = await world.status("site")
    assert (status["id"], status["origin"]) == ("cert_renewed", "Issued")
    assert any(note.startswith("Vercel renewed") for note in await said(world, "Renewed"))
    assert posts(world) == 1
    await world.advance(HOUR)
    assert list(world.live()) == ["cert_renewed"], "the old one was the operator's own, and is replaced"


@pytest.mark.parametrize("day", [1, 20, 44])
async def test_a_renewal_in_the_first_half_that_removes_the_old_one_is_taken_within_the_interval(
    world: SimulatedWorld, day: int
) -> None:
    first = await issued(world, day)
    renewed_by_vercel(world, first, id="cert_renewed", removes_old=True)
    await seen_by_then(world)
    assert await held(world) == ["cert_renewed"]
    assert (await world.status("site"))["origin"] == "Issued"
    assert posts(world) == 1


async def test_two_renewals_in_one_interval_are_both_taken(world: SimulatedWorld) -> None:
    behave(world, lifetime=90 * DAY)
    first = await issued(world, 46)
    renewed_by_vercel(world, first, id="cert_2", removes_old=True)
    await world.advance(1)
    assert await held(world) == [first], "no list has shown it yet"
    await seen_by_then(world)
    renewed_by_vercel(world, "cert_2", form="same-id")
    await world.advance(INTERVAL + MINUTE)
    assert await held(world) == ["cert_2"]
    assert len([note for note in await said(world, "Renewed") if note.startswith("Vercel renewed")]) == 2
    assert posts(world) == 1


async def test_a_renewal_is_taken_while_the_resource_is_suspended(world: SimulatedWorld) -> None:
    first = await issued(world, 46)
    await world.apply("site", A, suspend=True)
    await world.quiet()
    renewed_by_vercel(world, first, id="cert_renewed", removes_old=True)
    await seen_by_then(world)
    assert (await held(world))[0] == "cert_renewed"
    assert await world.ready("site") == ("True", "Issued")


async def test_a_renewal_of_a_found_certificate_is_taken_and_stays_found(world: SimulatedWorld) -> None:
    theirs(world, *A, age=DAY, left=89 * DAY)
    await world.apply("site", A)
    await world.quiet()
    assert await held(world) == ["cert_theirs"]
    await world.advance(20 * DAY)
    renewed_by_vercel(world, "cert_theirs", form="same-id")
    await seen_by_then(world)
    assert posts(world) == 0
    assert (await world.status("site"))["origin"] == "Found"
    assert any(note.startswith("Vercel renewed") for note in await said(world, "Renewed"))
    await deleted(world)
    assert "cert_theirs" in world.live()


async def test_a_renewal_that_adds_names_is_shown_within_the_interval(world: SimulatedWorld) -> None:
    first = await issued(world, 20)
    renewed_by_vercel(world, first, form="same-id", adds=["www.a.example.com"])
    await seen_by_then(world)
    assert (await world.status("site"))["cns"] == ["a.example.com", "www.a.example.com"]
    assert posts(world) == 1


async def test_a_certificate_that_stops_renewing_itself_is_known_within_the_interval(world: SimulatedWorld) -> None:
    first = await issued(world, 20)
    world.emulator.state.change(first, CertificateChange(auto_renew=False))
    await seen_by_then(world)
    assert (await world.status("site"))["autoRenew"] is False


async def test_what_a_colleague_has_is_known_before_vercel_renews_it(world: SimulatedWorld) -> None:
    """Without the drift watch in between, Vercel's renewal of theirs would seem to be one of the resource's own."""
    await issued(world, 20)
    theirs(world, *A, age=timedelta(), left=90 * DAY)
    await seen_by_then(world)
    assert (await world.status("site"))["sharedNames"] is True
    assert "cert_theirs" in " ".join(await said(world, "OrphanedCertificate"))
    await world.advance(26 * DAY)
    renewed_by_vercel(world, "cert_theirs", id="cert_theirs_2", removes_old=True)
    await world.advance(40 * DAY)
    await deleted(world)
    assert list(world.live()) == ["cert_theirs_2"]


async def test_names_that_vercel_changes_without_a_renewal_are_shown_within_the_interval(world: SimulatedWorld) -> None:
    first = await issued(world, 20)
    world.emulator.state.change(first, CertificateChange(cns=AB))
    await seen_by_then(world)
    assert (await world.status("site"))["cns"] == AB
    assert posts(world) == 1
