"""Names, ids and lists in odd forms, and certificates that move between resources."""

from typing import Any

import pytest

from reported.acts import behave, deleted, fails, held, posts, renewed_by_vercel, said, theirs
from support.acting import DAY, HOUR, MINUTE
from support.memory_api import SimulatedWorld

A = ["a.example.com"]


@pytest.mark.parametrize("existing", ["Adopt", "Reuse"])
async def test_a_certificate_moves_although_the_old_resource_is_deleted_in_the_foreground(
    world: SimulatedWorld, existing: str
) -> None:
    """docs/moving.md, with Argo CD or kubectl delete --cascade=foreground: its finalizer goes a moment later."""
    await world.apply("old", A, deletionPolicy="Retain")
    await world.quiet()
    [certificate] = await held(world, "old")
    await world.apply("new", A, existingCertificate=existing)
    await world.quiet()
    assert await world.ready("new") == ("False", "DuplicateOf")
    finalizers = (await world.get("old") or {})["metadata"]["finalizers"]
    await world.patch("old", {"metadata": {"finalizers": [*finalizers, "foregroundDeletion"]}})
    await world.delete("old")
    await world.quiet()
    await world.advance(2)
    await world.patch("old", {"metadata": {"finalizers": None}})
    await world.advance(HOUR)
    assert await world.get("old") is None
    assert posts(world) == 1
    assert await held(world, "new") == [certificate]


async def test_a_certificate_of_a_released_resource_can_be_named(world: SimulatedWorld) -> None:
    await world.apply("old", A, deletionPolicy="Retain")
    await world.quiet()
    [certificate] = await held(world, "old")
    finalizers = (await world.get("old") or {})["metadata"]["finalizers"]
    await world.patch("old", {"metadata": {"finalizers": [*finalizers, "example.com/other"]}})
    await world.delete("old")
    await world.quiet()
    adopt = {"vercel-operator.io/adopt-id": certificate}
    await world.apply("new", A, annotations=adopt)
    await world.quiet()
    assert await held(world, "new") == [certificate]
    assert not await said(world, "AdoptionRefused")


@pytest.mark.parametrize("order", ["newest-first", "oldest-first", "shuffled"])
async def test_a_long_list_in_any_order_shows_the_certificate_that_exists(world: SimulatedWorld, order: str) -> None:
    """In which order they come is not known (vercel-certs-api.md)."""
    behave(world, list_order=order)
    for number in range(230):
        theirs(world, f"n{number}.example.org", id=f"cert_{number}", age=10 * DAY + number * MINUTE)
    theirs(world, *A, age=10 * DAY + 60.5 * MINUTE)
    await world.apply("site", A)
    await world.quiet()
    await world.advance(HOUR)
    assert posts(world) == 0
    assert await held(world) == ["cert_theirs"]


@pytest.mark.parametrize("named", ["..", "x" * 70_000], ids=["dots", "longer than any URL"])
async def test_an_id_to_adopt_that_can_not_be_asked_for_is_refused(world: SimulatedWorld, named: str) -> None:
    """docs/resource.md: an Event says why, and the resource continues without it."""
    await world.apply("site", A, annotations={"vercel-operator.io/adopt-id": named})
    await world.quiet()
    await world.advance(DAY)
    assert await said(world, "AdoptionRefused")
    assert await world.ready("site") == ("True", "Issued")


async def test_vercels_renewal_of_a_certificate_that_existing_certificate_adopted_is_adopted_too(
    world: SimulatedWorld,
) -> None:
    """It is managed like one that the operator issued: so no Event asks anyone to remove its renewal."""
    theirs(world, *A, age=20 * DAY, left=70 * DAY)
    await world.apply("site", A, existingCertificate="Adopt")
    await world.quiet()
    assert (await world.status("site"))["origin"] == "Adopted"
    await world.advance(35 * DAY)
    renewed_by_vercel(world, "cert_theirs", id="cert_theirs_2")
    await world.advance(2 * DAY)
    assert not await said(world, "OrphanedCertificate")
    assert (await world.status("site"))["id"] == "cert_theirs_2"
    assert (await world.status("site"))["origin"] == "Adopted"


async def test_a_list_without_auto_renew_changes_nothing_and_says_nothing(world: SimulatedWorld) -> None:
    await world.apply("site", A)
    await world.quiet()
    [certificate] = world.emulator.state.live()
    shown: Any = {**certificate.public()}
    del shown["autoRenew"]
    body: Any = {"certs": [shown], "pagination": {"count": 1, "next": None, "prev": None}}
    fails(world, "list", None, action="raw", status=200, body=body)
    await world.advance(3 * DAY)
    assert not await said(world, "CertificateChanged")
    assert await world.ready("site") == ("True", "Issued")


async def test_a_status_that_names_its_current_certificate_as_replaced_does_not_lose_it(world: SimulatedWorld) -> None:
    """An administrator repaired the status by hand."""
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    entry = {"id": first, "origin": "Issued", "since": "2020-01-01T00:00:00Z"}
    await world.patch_status("site", {"superseded": [entry]})
    await world.quiet()
    await world.advance(HOUR)
    assert first in world.live()
    assert await world.ready("site") == ("True", "Issued")


async def test_names_in_their_unicode_form_are_those_that_were_requested(world: SimulatedWorld) -> None:
    """Vercel shows them as people write them."""
    fails(world, "issue", action="answer", fields={"cns": ["straße.example.com"]})
    await world.apply("site", ["xn--strae-oqa.example.com"])
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")


@pytest.mark.parametrize("odd", [".", "..", "", " "], ids=repr)
async def test_an_answer_with_an_id_that_no_url_can_hold_is_searched_for_and_the_deletion_ends(
    world: SimulatedWorld, odd: str
) -> None:
    fails(world, "issue", action="answer", fields={"id": odd})
    await world.apply("site", A)
    await world.quiet()
    await world.advance(10 * MINUTE)
    assert await world.ready("site") == ("True", "Issued")
    assert posts(world) == 1
    await deleted(world)
    assert not world.live()
