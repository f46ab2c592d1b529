"""What docs/backup-and-restore.md says: backups with and without status, a lost cluster, a move to another one.

The tests do what Velero does: of an object's metadata it keeps name, namespace, labels, annotations and finalizers. It
restores status only on request, by an update of the status subresource after the object was created.
"""

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control_plane import ControlPlane
from support.acting import DAY, HOUR, MINUTE, REF, advance_to, notes, put_secret
from support.world import TOKEN, World, settings_for
from support.world import world as make_world
from vercel_certificate_operator.core.resource import GROUP, PLURAL, VERSION
from vercel_emulator import Fault

KEPT_BY_VELERO = ("name", "namespace", "labels", "annotations", "finalizers")
TEAM = {"id": "team_alpha"}
SITES = {"site": ["example.com", "*.example.com"], "shop": ["shop.example.com"]}


@pytest.fixture
async def world(control_plane: ControlPlane, crd: None, namespace: str, drift_interval: float) -> AsyncIterator[World]:
    """A World without the check of what always holds: a lost cluster forgets what it must remember."""
    async with make_world(control_plane.kubeconfig, namespace, drift_interval=drift_interval) as made:
        yield made


async def backup(world: World) -> list[dict[str, Any]]:
    return copy.deepcopy(await world.all())


async def lose_the_cluster(world: World) -> None:
    """The operator and all objects are gone; nothing happens at Vercel."""
    await world.crash()
    for body in await world.all():
        await world.patch(body["metadata"]["name"], {"metadata": {"finalizers": None}})
        await world.delete(body["metadata"]["name"])
    assert await world.all() == []


async def restore(world: World, bodies: list[dict[str, Any]], *, status: bool, without: tuple[str, ...] = ()) -> None:
    """Restore as Velero does; ``without`` these annotations."""
    for body in bodies:
        metadata = {field: value for field, value in body["metadata"].items() if field in KEPT_BY_VELERO}
        annotations = metadata.pop("annotations", {})
        metadata["annotations"] = {name: value for name, value in annotations.items() if name not in without}
        made = {**body, "metadata": metadata}
        made.pop("status", None)
        create, update = (
            world.custom.create_namespaced_custom_object,
            world.custom.replace_namespaced_custom_object_status,
        )
        created: Any = await create(GROUP, VERSION, world.namespace, PLURAL, made)
        if status:
            again = {**created, "status": body["status"]}
            await update(GROUP, VERSION, world.namespace, PLURAL, metadata["name"], again)


async def issued(world: World, **spec: Any) -> dict[str, str]:
    """Issue all certificates. Returns their ids by resource name."""
    for name, cns in SITES.items():
        await world.apply(name, cns, **spec)
    await world.quiet()
    await world.advance(HOUR)
    return await ids(world)


async def renew(world: World, name: str) -> None:
    """Renew on request. The old certificate is removed ten minutes later."""
    await world.annotate(name, "renew", "2026-01-01")
    await world.quiet()
    await world.advance(HOUR)


async def ids(world: World) -> dict[str, str]:
    return {name: (await world.status(name))["id"] for name in SITES}


async def origins(world: World) -> set[str]:
    return {(await world.status(name))["origin"] for name in SITES}


async def started(world: World) -> None:
    world.start()
    await world.quiet()
    for name in SITES:
        assert await world.ready(name) == ("True", "Issued")


# --- without status: Velero's default, a cluster that is rebuilt from Git -------------------------------------------


@pytest.mark.parametrize(
    ("existing", "origin"), [("Reuse", "Found"), ("Adopt", "Adopted")], ids=["Reuse, the default", "Adopt"]
)
async def test_without_status_the_certificates_at_vercel_are_used_again(
    world: World, existing: str, origin: str
) -> None:
    await put_secret(world, TOKEN)
    before = await issued(world, tokenSecretRef=REF, existingCertificate=existing)
    saved = await backup(world)
    await lose_the_cluster(world)

    await restore(world, saved, status=False)
    await started(world)

    assert await ids(world) == before
    assert await origins(world) == {origin}
    assert world.calls().count("issue") == len(SITES)


async def test_what_was_found_stays_when_it_is_replaced_and_what_was_adopted_goes(world: World) -> None:
    await put_secret(world, TOKEN)
    before = await issued(world, tokenSecretRef=REF)
    saved = await backup(world)
    await lose_the_cluster(world)
    for body in saved:
        body["spec"]["existingCertificate"] = {"site": "Reuse", "shop": "Adopt"}[body["metadata"]["name"]]
    await restore(world, saved, status=False)
    await started(world)

    await world.advance(70 * DAY)

    after = await ids(world)
    assert await origins(world) == {"Issued"}
    assert set(world.live()) == {*after.values(), before["site"]}
    [note] = await notes(world, "site", "Retained")
    assert before["site"] in note


async def test_adopt_without_the_right_to_adopt_is_reuse(world: World) -> None:
    """The default token serves all namespaces, and this one isn't named."""
    before = await issued(world, existingCertificate="Adopt")
    saved = await backup(world)
    await lose_the_cluster(world)
    await restore(world, saved, status=False)
    await started(world)
    assert (await ids(world), await origins(world)) == (before, {"Found"})


async def test_in_a_namespace_that_is_named_for_the_default_token_adopt_adopts(world: World) -> None:
    world.configure(default_token_namespaces=(world.namespace,))
    await world.restart()
    before = await issued(world, existingCertificate="Adopt")
    saved = await backup(world)
    await lose_the_cluster(world)
    await restore(world, saved, status=False)
    await started(world)
    assert (await ids(world), await origins(world)) == (before, {"Adopted"})


async def test_a_renew_annotation_in_the_backup_requests_another_certificate(world: World) -> None:
    """Only status says that it was acted on."""
    await issued(world)
    await renew(world, "site")
    before = await ids(world)
    saved = await backup(world)
    await lose_the_cluster(world)

    await restore(world, saved, status=False)
    await started(world)

    after = await ids(world)
    assert after["site"] != before["site"]
    assert after["shop"] == before["shop"]
    assert set(world.live()) == {*before.values(), *after.values()}


async def test_without_the_renew_annotation_nothing_is_issued(world: World) -> None:
    await issued(world)
    await renew(world, "site")
    before = await ids(world)
    saved = await backup(world)
    await lose_the_cluster(world)

    await restore(world, saved, status=False, without=(f"{GROUP}/renew",))
    await started(world)

    assert await ids(world) == before


async def test_an_adopt_annotation_in_the_backup_is_acted_on_again(world: World) -> None:
    """If that certificate no longer exists, an Event says so, and the resource uses the one that does."""
    await put_secret(world, TOKEN)
    before = await issued(world, tokenSecretRef=REF)
    await world.annotate("site", "adopt-id", before["site"])
    await world.annotate("shop", "adopt-id", before["shop"])
    await world.quiet()
    await renew(world, "shop")
    latest = await ids(world)
    assert latest["shop"] != before["shop"]
    saved = await backup(world)
    await lose_the_cluster(world)

    await restore(world, saved, status=False, without=(f"{GROUP}/renew",))
    await started(world)

    assert await ids(world) == latest
    assert (await world.status("site"))["origin"] == "Adopted"
    assert (await world.status("shop"))["origin"] == "Found"
    [note] = await notes(world, "shop", "AdoptionRefused")
    assert before["shop"] in note


async def test_certificates_that_were_removed_with_their_resources_are_issued_again(world: World) -> None:
    """A namespace was deleted by mistake while the operator ran."""
    before = await issued(world)
    saved = await backup(world)
    for name in SITES:
        await world.delete(name)
    await world.quiet()
    assert world.live() == {}

    await restore(world, saved, status=False)
    await world.quiet()

    assert set((await ids(world)).values()).isdisjoint(before.values())
    assert await origins(world) == {"Issued"}


# --- with status ------------------------------------------------------------------------------------------------------


async def test_with_status_everything_is_as_before(world: World) -> None:
    before = await issued(world)
    saved = await backup(world)
    await lose_the_cluster(world)

    await restore(world, saved, status=True)
    calls = len(world.calls())
    await started(world)

    assert (await ids(world), await origins(world)) == (before, {"Issued"})
    assert "issue" not in world.calls()[calls:]
    for name in SITES:
        await world.delete(name)
    await world.quiet()
    assert world.live() == {}


@pytest.mark.parametrize("spec", [{"team": TEAM}, {"tokenSecretRef": REF}, {}], ids=["team", "own-token", "default"])
async def test_a_status_from_before_a_renewal_leads_to_the_newer_certificate(
    world: World, spec: dict[str, Any]
) -> None:
    """The older one was removed at Vercel. The newer one counts as its renewal, so its origin is the same.

    In a personal account too: the restored resource has another uid, and its token is still the same.
    """
    world.configure(drift_interval=6 * 3600)
    await world.restart()
    await put_secret(world, TOKEN)
    await issued(world, **spec)
    saved = await backup(world)
    await renew(world, "site")
    newer = await ids(world)
    await lose_the_cluster(world)

    await restore(world, saved, status=True)
    await started(world)
    await world.advance(7 * HOUR)

    assert await ids(world) == newer
    assert await origins(world) == {"Issued"}
    assert world.calls().count("issue") == len(SITES) + 1


async def test_a_status_with_an_open_attempt_is_resolved_by_vercels_list(world: World) -> None:
    fault = world.emulator.faults.add(Fault(call="issue", action="hang", when="after", times=None))
    await world.apply("site", SITES["site"])
    await world.quiet(hanging=1)
    saved = await backup(world)
    assert "outcome" not in saved[0]["status"]["attempt"]
    fault.release("drop")
    await lose_the_cluster(world)

    await restore(world, saved, status=True)
    world.emulator.faults.clear()
    world.start()
    await world.quiet()
    await world.advance(5 * MINUTE)

    assert await world.ready("site") == ("True", "Issued")
    assert [(await world.status("site"))["id"]] == list(world.live())
    assert (await world.status("site"))["origin"] == "Issued"
    assert world.calls().count("issue") == 1


async def test_status_that_is_restored_while_the_operator_runs_is_taken_as_it_is(world: World) -> None:
    """Velero creates the object first. The operator uses the certificate at once, as Found; the status says Issued."""
    before = await issued(world)
    saved = await backup(world)
    await lose_the_cluster(world)
    world.start()

    await restore(world, saved, status=False)
    await world.quiet()
    assert (await ids(world), await origins(world)) == (before, {"Found"})
    for body in saved:
        await world.patch_status(body["metadata"]["name"], body["status"])
    await world.quiet()

    assert (await ids(world), await origins(world)) == (before, {"Issued"})
    assert world.calls().count("issue") == len(SITES)


# --- etcd ---------------------------------------------------------------------------------------------------------


async def test_after_etcd_was_restored_the_certificates_are_those_that_exist_at_vercel(
    own_control_plane: ControlPlane, tmp_path: Path
) -> None:
    """Since the snapshot one was renewed, one resource was deleted and one was created."""
    plane = own_control_plane
    async with make_world(plane.kubeconfig, "default", drift_interval=6 * 3600.0) as world:
        before = await issued(world)
        await asyncio.to_thread(plane.save_etcd, tmp_path / "snapshot")
        await renew(world, "site")
        newer = await ids(world)
        await world.delete("shop")
        await world.apply("late", ["late.example.com"])
        await world.quiet()
        late = (await world.status("late"))["id"]
        await world.crash()

        await asyncio.to_thread(plane.restore_etcd, tmp_path / "snapshot")
        assert await ids(world) == before
        world.start()
        await world.quiet()
        await world.advance(7 * HOUR)

        after = await ids(world)
        assert after["site"] == newer["site"]
        assert after["shop"] not in before.values()
        assert set(world.live()) == {*after.values(), late}
        assert world.calls().count("issue") == 5  # the first two, the renewal, late, and shop again


# --- another cluster --------------------------------------------------------------------------------------------------


@pytest.fixture
async def other(world: World, control_plane: ControlPlane) -> AsyncIterator[World]:
    """Another cluster, with an operator of its own and the same Vercel."""
    namespace = f"{world.namespace}-other"
    control_plane.kubectl("create", "namespace", namespace)
    settings = settings_for(namespace, world.emulator, drift_interval=10 * 365 * 86400.0)
    made = World(world.api, namespace, world.emulator, world.clock, settings)
    made.start()
    yield made
    await made.crash()


async def both_quiet(world: World, other: World) -> None:
    await world.quiet()
    await other.quiet()


async def test_a_certificate_moves_to_another_cluster(world: World, other: World) -> None:
    for cluster in (world, other):
        await put_secret(cluster, TOKEN)
    before = await issued(world, tokenSecretRef=REF)

    for name in SITES:
        await world.patch(name, {"spec": {"suspend": True}})
    await world.quiet()
    for name, cns in SITES.items():
        await other.apply(name, cns, tokenSecretRef=REF, existingCertificate="Adopt")
    await both_quiet(world, other)
    assert (await ids(other), await origins(other)) == (before, {"Adopted"})
    for name in SITES:
        await world.delete(name)
    await both_quiet(world, other)

    assert await world.all() == []
    assert set(world.live()) == set(before.values())
    [note] = await notes(world, "site", "Retained")
    assert before["site"] in note

    await advance_to(other, (await other.status("site"))["renewalTime"], plus=1)
    await other.advance(HOUR)
    assert (await other.status("site"))["origin"] == "Issued"
    assert before["site"] not in world.live()
