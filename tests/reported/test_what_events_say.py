"""Events say what became of each certificate, and nothing that is false."""

import pytest

from reported.acts import behave, fails, held, renewed_by_vercel, said, theirs
from support.acting import DAY, HOUR, MINUTE, asked, notes
from support.memory_api import SimulatedWorld

A = ["a.example.com"]


async def test_a_renewal_by_vercel_of_shared_names_is_named_when_the_resource_is_deleted(
    world: SimulatedWorld,
) -> None:
    behave(world, lifetime=30 * DAY)
    theirs(world, *A, age=89 * DAY, left=3 * HOUR)
    await world.apply("site", A, renewBefore="24h")
    await world.quiet()
    [first] = await held(world)
    await world.advance(16 * DAY)
    assert await held(world) == [first]
    renewed_by_vercel(world, first, id="cert_renewed")
    await world.delete("site")
    await world.advance(HOUR)
    assert first not in world.live()
    assert "cert_renewed" in world.live()
    assert "cert_renewed" in " ".join(await said(world))


async def test_a_deletion_says_that_it_could_not_look_for_a_renewal_if_the_list_fails(
    world: SimulatedWorld,
) -> None:
    behave(world, lifetime=30 * DAY)
    await world.apply("site", A, renewBefore="24h")
    await world.quiet()
    [first] = await held(world)
    await world.advance(20 * DAY)
    renewed_by_vercel(world, first, id="cert_renewed")
    fails(world, "list", status=500)
    await world.delete("site")
    await world.quiet()
    await world.advance(HOUR)
    assert list(world.live()) == ["cert_renewed"]
    assert "the operator could not list the certificates to check that" in " ".join(await said(world))


async def test_a_deletion_with_a_failure_says_at_its_end_what_it_did(world: SimulatedWorld) -> None:
    """Another tool's finalizer holds the resource. One of two removals failed once."""
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    await world.annotate("site", "renew", "1")
    await world.advance(5)
    [_, old] = await held(world)
    assert old == first
    finalizers = (await world.get("site") or {})["metadata"]["finalizers"]
    await world.patch("site", {"metadata": {"finalizers": [*finalizers, "example.com/other"]}})
    fails(world, "remove", id=first, status=500)
    await world.delete("site")
    await world.quiet()
    await world.advance(HOUR)
    assert world.live() == {}
    assert await world.ready("site") == ("False", "Deleted")


async def test_the_event_of_a_deletion_names_what_was_removed_before_a_failure(world: SimulatedWorld) -> None:
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    await world.annotate("site", "renew", "1")
    await world.advance(5)
    [second, _] = await held(world)
    fails(world, "remove", id=first, status=500)
    await world.delete("site")
    await world.quiet()
    await world.advance(HOUR)
    assert await world.get("site") is None
    [note] = await notes(world, "site", "Deleted")
    assert first in note
    assert second in note


async def test_a_renewal_by_vercel_is_named_although_a_removal_fails_once(world: SimulatedWorld) -> None:
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    theirs(world, *A, age=50 * DAY, left=40 * DAY)
    await world.annotate("site", "adopt-id", "cert_theirs")
    await world.quiet()
    assert await held(world) == ["cert_theirs", first]
    renewed_by_vercel(world, "cert_theirs", id="cert_renewed")
    fails(world, "remove", id=first, status=500)
    await world.delete("site")
    await world.quiet()
    await world.advance(HOUR)
    assert list(world.live()) == ["cert_renewed"]
    assert "cert_renewed" in " ".join(await said(world))


@pytest.mark.parametrize("how", ["Retain", "suspend"])
async def test_a_release_names_what_was_being_requested_and_not_newer_names(world: SimulatedWorld, how: str) -> None:
    lost = fails(world, "issue", action="hang", when="after")
    await world.apply("site", A)
    await world.quiet(hanging=1)
    await world.crash()
    lost.release("drop")
    await world.apply("site", ["b.example.com"], **({"suspend": True} if how == "suspend" else {"deletionPolicy": how}))
    await world.delete("site")
    world.start()
    await world.quiet()
    await world.advance(HOUR)
    assert await world.get("site") is None
    assert list(world.live().values()) == [A]
    assert A[0] in " ".join(await said(world))


async def test_a_removal_that_the_operator_made_is_not_reported_as_not_found(world: SimulatedWorld) -> None:
    """Someone changes a label of the resource while its replaced certificate is being removed."""
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    await world.advance(5)
    await world.annotate("site", "renew", "1")
    await world.quiet()
    await world.patch("site", {"metadata": {"labels": {"x": "y"}}})  # and the watch is late
    await world.advance(11 * MINUTE)
    assert first not in world.live()
    assert not [note for note in await said(world) if "Not found" in note]


async def test_an_event_does_not_advise_to_remove_what_the_next_owner_uses(world: SimulatedWorld) -> None:
    """Vercel has renewed the certificate. Its owner is deleted, and another resource waits for the names."""
    behave(world, lifetime=30 * DAY)
    await world.apply("site", A, renewBefore="24h")
    await world.quiet()
    [first] = await held(world)
    await world.apply("heir", A)
    await world.quiet()
    await world.advance(20 * DAY)
    renewed_by_vercel(world, first, id="cert_renewed")
    await world.delete("site")
    await world.quiet()
    await world.advance(HOUR)
    assert await held(world, "heir") == ["cert_renewed"]
    [note] = await notes(world, "site", "Deleted")
    assert "no resource uses" not in note


async def test_what_was_removed_after_a_list_was_begun_is_not_reported_as_an_orphan(world: SimulatedWorld) -> None:
    """The drift watch uses a list that is half a minute old."""
    theirs(world, *A, age=89 * DAY, left=3 * HOUR)
    await world.apply("site", A)
    await world.quiet()
    assert (await world.status("site"))["sharedNames"] is True
    [first] = await held(world)
    await world.advance(12 * HOUR)
    drift = asked(world, "list")[-1].time / 1000 + 6 * 3600  # when the next one is due
    await world.advance(drift - world.emulator.clock.now_ms() / 1000 - 620)
    await world.annotate("site", "renew", "1")
    await world.quiet()
    assert first in await held(world)
    await world.advance(580)
    await world.apply("x", ["x.example.com"])  # the list for its attempt
    await world.quiet()
    await world.advance(30)
    assert first not in world.live()
    assert await held(world) != [first]
    await world.advance(3 * MINUTE)
    assert not [note for note in await said(world, "OrphanedCertificate") if first in note]


async def test_what_another_resource_is_being_issued_is_not_reported_as_an_orphan(world: SimulatedWorld) -> None:
    """Two resources hold different certificates with the same names. Vercel has issued, and is slow to answer."""
    await world.apply("owner", A)
    await world.quiet()
    await world.advance(5)
    theirs(world, *A, age=DAY)
    await world.apply("second", A, annotations={"vercel-operator.io/adopt-id": "cert_theirs"})
    await world.quiet()
    assert await held(world, "second") == ["cert_theirs"]
    await world.advance(12 * HOUR)
    drift = asked(world, "list")[-1].time / 1000 + 6 * 3600  # when the next one is due
    await world.advance(drift - world.emulator.clock.now_ms() / 1000 - 70)
    slow = fails(world, "issue", action="hang", when="after")
    await world.annotate("owner", "renew", "1")
    await world.quiet(hanging=1)
    await world.advance(100, hanging=1)
    slow.release("continue")
    await world.quiet()
    [issued, *_] = await held(world, "owner")
    await world.advance(DAY)
    assert await held(world, "owner") == [issued]
    assert not [note for note in await said(world, "OrphanedCertificate") if issued in note]
