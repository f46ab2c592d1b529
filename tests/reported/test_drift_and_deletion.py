"""Drift is detected whatever one resource or one scope is like, and says only what is known."""

from typing import Any

import pytest

from reported.acts import behave, fails, held, posts, renewed_by_vercel, said, theirs
from support.acting import DAY, HOUR, MINUTE, asked, create_many, notes, put_secret
from support.memory_api import SimulatedWorld
from support.world import OTHER_TOKEN
from vercel_certificate_operator.core.resource import GROUP, PLURAL, VERSION
from vercel_emulator.models import Injection

A = ["a.example.com"]
A_DAY = 86_400_000
"""Milliseconds."""


async def test_a_value_of_a_newer_version_does_not_end_the_drift_watch(world: SimulatedWorld) -> None:
    """The definition and the operator were upgraded, used, and the operator was rolled back."""
    await put_secret(world, OTHER_TOKEN)
    await world.apply("good", ["good.example.com"], tokenSecretRef={"name": "vercel"})
    await world.apply("newer", ["newer.example.com"], tokenSecretRef={"name": "vercel"})
    await world.quiet()
    await world.crash()
    await world.patch("newer", {"spec": {"deletionPolicy": "Orphan", "existingCertificate": "Share"}})
    world.start()
    await world.quiet()
    world.emulator.state.vanish((await world.status("good"))["id"])
    await world.advance(DAY)
    assert len(await notes(world, "good", "CertificateGone")) == 1
    assert await world.ready("good") == ("True", "Issued")
    await world.delete("newer")
    await world.quiet()
    assert ["newer.example.com"] in world.live().values(), "an unknown policy removes nothing"


async def test_a_namespace_that_may_not_use_the_default_token_ends_drift_detection_for_nobody_else(
    world: SimulatedWorld,
) -> None:
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "VercelCertificate",
        "metadata": {"name": "old", "namespace": "legacy"},
        "spec": {"cns": ["old.example.com"]},
    }
    world.configure(namespaces=("legacy", "web"))
    await world.restart()
    await world.custom.create_namespaced_custom_object(GROUP, VERSION, "legacy", PLURAL, body)
    await world.apply("site", A)
    await world.quiet()
    site = (await world.status("site"))["id"]
    world.configure(default_token_namespaces=("web",))
    await world.restart()
    world.emulator.state.vanish(site)
    await world.advance(DAY)
    assert (await world.status("site"))["id"] != site
    assert await world.ready("site") == ("True", "Issued")


async def test_certificates_that_vanish_together_leave_ready_unknown_and_can_be_adopted(
    world: SimulatedWorld,
) -> None:
    world.configure(default_token_namespaces=("web",))
    await world.restart()
    names = await create_many(world, 6)
    await world.quiet()
    for certificate in list(world.live()):
        world.emulator.state.vanish(certificate)
    await world.advance(DAY)
    assert {(await world.ready(name)) for name in names} == {("Unknown", "ScopeVanished")}
    created = world.emulator.clock.now_ms() - 30 * A_DAY
    world.emulator.state.inject(Injection(cns=["s0.example.com"], id="cert_good", created_at=created))
    await world.annotate("site-0", "adopt-id", "cert_good")
    await world.quiet()
    assert (await world.status("site-0"))["id"] == "cert_good"
    assert await world.ready("site-0") == ("True", "Issued")


async def test_resources_that_are_deleted_do_not_make_a_scope_seem_vanished(world: SimulatedWorld) -> None:
    names = await create_many(world, 10)
    await world.quiet()
    for name in names[:6]:
        body = await world.get(name)
        assert body is not None
        await world.patch(name, {"metadata": {"finalizers": [*body["metadata"]["finalizers"], "example.com/other"]}})
        await world.delete(name)
    await world.advance(DAY)
    assert {(await world.ready(name)) for name in names[6:]} == {("True", "Issued")}


async def test_an_adopted_certificate_gives_its_predecessor_ten_minutes(world: SimulatedWorld) -> None:
    world.configure(default_token_namespaces=("web",))
    await world.restart()
    await world.apply("site", A)
    await world.quiet()
    first = (await world.status("site"))["id"]
    created = world.emulator.clock.now_ms() - 10 * A_DAY
    world.emulator.state.inject(Injection(cns=A, id="cert_named", created_at=created))
    await world.annotate("site", "adopt-id", "cert_named")
    await world.quiet()
    assert (await world.status("site"))["id"] == "cert_named"
    await world.advance(9 * MINUTE)
    assert first in world.live()
    await world.advance(2 * MINUTE)
    assert first not in world.live()


@pytest.mark.parametrize("wanted", ["cert_that_never_was", "cert_of_other_names"])
async def test_a_refused_adoption_does_not_keep_what_was_replaced(world: SimulatedWorld, wanted: str) -> None:
    world.configure(default_token_namespaces=("web",))
    await world.restart()
    world.emulator.state.inject(Injection(cns=["z.example.com"], id="cert_of_other_names"))
    await world.apply("site", A)
    await world.quiet()
    first = (await world.status("site"))["id"]
    await world.advance(MINUTE)
    await world.annotate("site", "renew", "1")
    await world.annotate("site", "adopt-id", wanted)
    await world.quiet()
    await world.advance(HOUR)
    assert first not in world.live()
    assert len(await notes(world, "site", "AdoptionRefused")) == 1
    assert await world.ready("site") == ("True", "Issued")


async def test_what_vercel_has_renewed_a_moment_before_the_deletion_is_named(world: SimulatedWorld) -> None:
    """Or somebody has requested it to replace the resource: nothing has recorded whose it is."""
    behave(world, lifetime=30 * DAY)
    await world.apply("site", A)
    await world.quiet()
    await world.advance(16 * DAY)
    first = (await world.status("site"))["id"]
    new = renewed_by_vercel(world, first)
    await world.delete("site")
    await world.quiet()
    assert [*world.live()] == [new.id]
    assert await world.get("site") is None
    [text] = await said(world, "Deleted")
    assert f"Removed at Vercel: {first}." in text
    assert f"Left at Vercel: {new.id}, which has the same names" in text


async def test_retain_in_the_middle_of_a_deletion_names_what_is_left(world: SimulatedWorld) -> None:
    await world.apply("site", A)
    await world.quiet()
    [first] = world.live()
    await world.annotate("site", "renew", "1")
    await world.quiet()
    [second] = set(world.live()) - {first}
    fails(world, "remove", times=None, status=500, id=first)
    await world.delete("site")
    await world.quiet()
    assert [*world.live()] == [first]
    await world.patch("site", {"spec": {"deletionPolicy": "Retain"}})
    await world.quiet()
    [text] = await said(world, "Retained")
    assert f"Left at Vercel: {first}." in text
    assert second not in text


@pytest.mark.parametrize("status", [404, 429, 500])
async def test_a_list_that_fails_does_not_hold_up_a_deletion(world: SimulatedWorld, status: int) -> None:
    behave(world, lifetime=30 * DAY)
    await world.apply("site", A)
    await world.quiet()
    await world.advance(16 * DAY)
    fails(world, "list", times=None, status=status)
    await world.delete("site")
    await world.quiet()
    assert world.live() == {}
    assert await world.get("site") is None


async def test_someone_elses_certificate_with_the_same_names_stays_when_a_resource_is_deleted(
    world: SimulatedWorld,
) -> None:
    behave(world, lifetime=30 * DAY)
    await world.apply("site", A)
    await world.quiet()
    await world.advance(16 * DAY)
    theirs(world, *A, age=13 * DAY)
    theirs(world, *A, id="cert_uploaded", age=DAY, auto_renew=False)
    await world.delete("site")
    await world.quiet()
    assert set(world.live()) == {"cert_theirs", "cert_uploaded"}


async def test_a_resource_whose_certificate_was_removed_is_not_ready_although_a_finalizer_holds_it(
    world: SimulatedWorld,
) -> None:
    await world.apply("site", A)
    await world.quiet()
    finalizers = (await world.get("site") or {})["metadata"]["finalizers"]
    await world.patch("site", {"metadata": {"finalizers": [*finalizers, "example.com/other"]}})
    await world.delete("site")
    await world.quiet()
    assert world.live() == {}
    assert await world.ready("site") == ("False", "Deleted")
    status = await world.status("site")
    assert "id" not in status
    assert "example.com/other" in status["conditions"][0]["message"]
    await world.advance(DAY)
    assert posts(world) == 1


async def renewed_on_request(world: SimulatedWorld) -> tuple[str, str]:
    """Returns the old certificate and the new one."""
    await world.apply("site", A)
    await world.quiet()
    await world.advance(HOUR)
    await world.annotate("site", "renew", "1")
    await world.quiet()
    new, old = await held(world)
    return old, new


async def keeps_its_last_certificate(world: SimulatedWorld, certificate_id: str) -> None:
    for _ in range(30):
        await world.advance(MINUTE)
        assert list(world.live()) == [certificate_id]
    assert await held(world) == [certificate_id]
    assert await world.ready("site") == ("True", "Issued")


@pytest.mark.parametrize("restart", [True, False])
async def test_etcd_is_restored_to_a_renewal_that_was_undone_since(world: SimulatedWorld, *, restart: bool) -> None:
    """The user had adopted the old certificate again, and the operator had removed the new one."""
    old, new = await renewed_on_request(world)
    backup = world.memory.backup()
    await world.annotate("site", "adopt-id", old)
    await world.quiet()
    await world.advance(HOUR)
    assert list(world.live()) == [old]
    world.memory.restore(backup)
    assert await held(world) == [new, old]
    await world.restart() if restart else await world.resync()
    await keeps_its_last_certificate(world, old)
    assert posts(world) == 2


async def test_somebody_removes_the_newer_of_two_certificates_while_no_operator_runs(world: SimulatedWorld) -> None:
    old, new = await renewed_on_request(world)
    await world.crash()
    world.emulator.state.vanish(new)
    await world.clock.advance(HOUR.total_seconds())
    world.start()
    await world.quiet()
    await keeps_its_last_certificate(world, old)
    assert posts(world) == 2


async def test_after_a_restart_one_get_comes_before_the_removal_of_what_was_replaced(world: SimulatedWorld) -> None:
    _, new = await renewed_on_request(world)
    await world.restart()
    await world.advance(20 * MINUTE)
    assert list(world.live()) == [new]
    assert [entry.certificate for entry in asked(world, "get")] == [new]


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 403}, {"action": "html"}], ids=str)
async def test_a_get_that_always_fails_keeps_nothing_that_was_replaced_for_ever(
    world: SimulatedWorld, fault: dict[str, Any]
) -> None:
    old, new = await renewed_on_request(world)
    fails(world, "get", times=None, **fault)
    await world.restart()
    await world.advance(30 * MINUTE)
    assert set(world.live()) == {old, new}
    await world.advance(3 * HOUR)
    assert list(world.live()) == [new]
    assert await world.ready("site") == ("True", "Issued")
