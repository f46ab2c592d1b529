"""The operator's writes make no Application OutOfSync, and one manager owns the names.

Argo CD compares in one of three ways: by a dry run of a server-side apply; by a structured merge of its own, which
knows how lists and maps merge but knows no defaults; and by a three-way diff of what was applied last, Git and the live
object.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from control_plane.kubectl import KubectlError
from support.acting import DAY, REF, advance_to, put_secret
from support.world import TOKEN, World
from vercel_emulator import Fault

EXAMPLES = Path(__file__).parents[2] / "examples"
ARGO_CD = ("--server-side", "--force-conflicts", "--field-manager=argocd-controller")

Kubectl = partial[CompletedProcess[str]]


def in_git(example: str) -> dict[str, Any]:
    """Return the VercelCertificate of an example, with what Argo CD adds to it."""
    documents = yaml.safe_load_all((EXAMPLES / example).read_text(encoding="utf-8"))
    manifest: dict[str, Any] = next(found for found in documents if found["kind"] == "VercelCertificate")
    name = manifest["metadata"]["name"]
    tracking = f"certificates:vercel-operator.io/VercelCertificate:web/{name}"
    manifest["metadata"]["annotations"] = {"argocd.argoproj.io/tracking-id": tracking}
    if "team" in manifest["spec"]:
        manifest["spec"]["team"] = {"id": "team_alpha"}  # one that the emulated Vercel has
    return manifest


async def run(kubectl: Kubectl, *args: str, manifest: dict[str, Any]) -> str:
    completed = await asyncio.to_thread(kubectl, *args, "-f", "-", input=json.dumps(manifest))
    return completed.stdout


async def live(world: World, name: str) -> dict[str, Any]:
    found = await world.get(name)
    assert found is not None
    return found


def compared(body: dict[str, Any]) -> dict[str, Any]:
    """What Argo CD compares of two objects."""
    left_out = {"managedFields", "resourceVersion"}
    metadata = {key: value for key, value in body["metadata"].items() if key not in left_out}
    return {**body, "metadata": metadata}


async def assert_in_sync(world: World, kubectl: Kubectl, manifest: dict[str, Any]) -> None:
    """By a dry run of a server-side apply, and by Git's own fields."""
    there = await live(world, manifest["metadata"]["name"])
    predicted = await run(kubectl, "apply", *ARGO_CD, "--dry-run=server", "-o", "json", manifest=manifest)
    assert compared(json.loads(predicted)) == compared(there)
    for field, value in manifest["spec"].items():
        found = there["spec"][field]
        assert value == found, f"{field}: Argo CD would change {found} to {value}"
    for section in ("annotations", "labels"):
        wanted = manifest["metadata"].get(section, {})
        assert wanted.items() <= there["metadata"].get(section, {}).items()


# --- what the operator does -------------------------------------------------------------------------------------------


async def issue(world: World, name: str) -> None:
    assert await world.ready(name) == ("True", "Issued")


async def renew(world: World, name: str) -> None:
    before = (await world.status(name))["id"]
    await advance_to(world, (await world.status(name))["renewalTime"], plus=1)
    assert (await world.status(name))["id"] != before


async def renew_by_action(world: World, name: str) -> None:
    """The annotation is not in Git."""
    before = (await world.status(name))["id"]
    await world.advance(DAY)
    await world.annotate(name, "renew", "2026-11-26T08:00:00Z")
    await world.quiet()
    assert (await world.status(name))["id"] != before


async def fail(world: World, name: str) -> None:
    world.emulator.faults.add(Fault(call="issue", status=402, times=None))
    await advance_to(world, (await world.status(name))["renewalTime"], plus=1)
    assert await world.issuing(name) == ("False", "PaymentRequired")


async def expire(world: World, name: str) -> None:
    world.emulator.faults.add(Fault(call="issue", status=402, times=None))
    await advance_to(world, (await world.status(name))["expiresAt"], plus=1)
    assert await world.ready(name) == ("False", "PaymentRequired")


DEEDS: dict[str, Callable[[World, str], Awaitable[None]]] = {
    "issued": issue,
    "renewed": renew,
    "renewed-by-action": renew_by_action,
    "failed": fail,
    "expired": expire,
}


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("example", ["example-com.yaml", "with-team-and-token.yaml", "all-fields.yaml"])
async def test_an_application_is_in_sync_whatever_the_operator_does(
    world: World, kubectl: Kubectl, example: str, deed: str
) -> None:
    manifest = in_git(example)
    name = manifest["metadata"]["name"]
    await put_secret(world, TOKEN)
    await run(kubectl, "apply", *ARGO_CD, manifest=manifest)
    await world.quiet()
    await DEEDS[deed](world, name)
    await assert_in_sync(world, kubectl, manifest)

    before = await live(world, name)
    # Without --force-conflicts: no other manager owns any of it.
    await run(kubectl, "apply", "--server-side", "--field-manager=argocd-controller", manifest=manifest)
    assert await live(world, name) == before


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("example", ["example-com.yaml", "with-team-and-token.yaml"])
async def test_an_application_without_server_side_apply_is_in_sync_too(
    world: World, kubectl: Kubectl, example: str, deed: str
) -> None:
    manifest = in_git(example)
    name = manifest["metadata"]["name"]
    await put_secret(world, TOKEN)
    await run(kubectl, "apply", manifest=manifest)
    await world.quiet()
    await DEEDS[deed](world, name)
    before = await live(world, name)
    assert await run(kubectl, "diff", manifest=manifest) == ""
    assert "unchanged" in await run(kubectl, "apply", manifest=manifest)
    assert await live(world, name) == before


# --- several managers -------------------------------------------------------------------------------------------------


def certificate(*cns: str) -> dict[str, Any]:
    return {
        "apiVersion": "vercel-operator.io/v1",
        "kind": "VercelCertificate",
        "metadata": {"name": "site"},
        "spec": {"cns": list(cns)},
    }


async def test_self_heal_removes_a_name_that_someone_added(world: World, kubectl: Kubectl) -> None:
    manifest = certificate("example.com", "www.example.com")
    await run(kubectl, "apply", *ARGO_CD, manifest=manifest)
    await world.quiet()
    await world.patch("site", {"spec": {"cns": ["example.com", "www.example.com", "added.example.com"]}})
    with pytest.raises(AssertionError):
        await assert_in_sync(world, kubectl, manifest)

    await run(kubectl, "apply", *ARGO_CD, manifest=manifest)
    await world.quiet()
    assert (await live(world, "site"))["spec"]["cns"] == ["example.com", "www.example.com"]
    assert set((await world.status("site"))["cns"]) == {"example.com", "www.example.com"}
    await assert_in_sync(world, kubectl, manifest)


async def test_another_manager_gets_a_conflict_instead_of_adding_names(world: World, kubectl: Kubectl) -> None:
    await run(kubectl, "apply", *ARGO_CD, manifest=certificate("example.com"))
    with pytest.raises(KubectlError, match=r'conflict with "argocd-controller": \.spec\.cns'):
        await run(kubectl, "apply", "--server-side", "--field-manager=dns", manifest=certificate("api.example.com"))
    assert (await live(world, "site"))["spec"]["cns"] == ["example.com"]


async def test_a_name_removed_from_git_goes_when_argo_cd_moves_to_server_side_apply(
    world: World, kubectl: Kubectl
) -> None:
    """As Argo CD does it: no migration of the fields that kubectl's client-side apply owns."""
    before = ("apply", "--field-manager=argocd-controller")
    await run(kubectl, *before, manifest=certificate("example.com", "www.example.com"))
    await run(kubectl, "apply", *ARGO_CD, manifest=certificate("example.com"))
    assert (await live(world, "site"))["spec"]["cns"] == ["example.com"]


async def test_kubectl_apply_without_server_side_replaces_all_names(world: World, kubectl: Kubectl) -> None:
    await run(kubectl, "apply", *ARGO_CD, manifest=certificate("example.com"))
    await run(kubectl, "apply", manifest=certificate("www.example.com"))
    assert (await live(world, "site"))["spec"]["cns"] == ["www.example.com"]


# --- what the documentation says --------------------------------------------------------------------------------------


async def test_a_resource_that_was_suspended_by_hand_stays_so_if_git_has_no_suspend(
    world: World, kubectl: Kubectl
) -> None:
    manifest = certificate("example.com")
    await run(kubectl, "apply", *ARGO_CD, manifest=manifest)
    await world.quiet()
    await world.patch("site", {"spec": {"suspend": True}})
    await world.quiet()
    await assert_in_sync(world, kubectl, manifest)
    await run(kubectl, "apply", *ARGO_CD, manifest=manifest)
    assert (await live(world, "site"))["spec"]["suspend"] is True


async def test_after_a_rename_the_new_resource_takes_over_when_the_old_one_is_pruned(world: World) -> None:
    await world.apply("old", ["example.com"])
    await world.quiet()
    await world.apply("new", ["example.com"])
    await world.quiet()
    assert await world.ready("new") == ("False", "DuplicateOf")
    await world.delete("old")
    await world.quiet()
    assert await world.ready("new") == ("True", "Issued")


async def test_a_rename_with_retain_and_adoption_keeps_the_certificate(world: World) -> None:
    await put_secret(world, TOKEN)
    await world.apply("old", ["example.com"], tokenSecretRef=REF, deletionPolicy="Retain")
    await world.quiet()
    kept = (await world.status("old"))["id"]
    await world.apply("new", ["example.com"], tokenSecretRef=REF, existingCertificate="Adopt")
    await world.quiet()
    assert await world.ready("new") == ("False", "DuplicateOf")
    await world.delete("old")
    await world.quiet()
    assert await world.ready("new") == ("True", "Issued")
    assert (await world.status("new"))["origin"] == "Adopted"
    assert list(world.live()) == [kept]
