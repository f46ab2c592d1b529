"""How a resource goes, and what becomes of its certificate."""

import pytest

from support.acting import HOUR, MINUTE, advance_to, asked, create_many, events, notes, seconds_until
from support.world import TOKEN, World
from vercel_certificate_operator.core.resource import FINALIZER, Resource
from vercel_certificate_operator.kube.errors import Unavailable
from vercel_certificate_operator.kube.vercel_certificates import Body, VercelCertificates
from vercel_emulator import Fault
from vercel_emulator.models import TokenGrant


async def test_a_deleted_resource_takes_its_certificate_with_it_and_says_so(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    certificate_id = (await world.status("site"))["id"]
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert world.live() == {}
    assert await notes(world, "site", "Deleted") == [f"Removed at Vercel: {certificate_id}."]


async def test_with_retain_the_certificate_stays_and_an_event_names_it(world: World) -> None:
    await world.apply("site", ["example.com"], deletionPolicy="Retain")
    await world.quiet()
    certificate_id = (await world.status("site"))["id"]
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert world.calls() == ["list", "issue"]
    assert await notes(world, "site", "Retained") == [
        f"Left at Vercel: {certificate_id}. Reason: spec.deletionPolicy is Retain."
    ]


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
async def test_with_the_reply_to_its_release_lost_the_event_is_still_published(world: World, policy: str) -> None:
    class Lost(VercelCertificates):
        async def remove_finalizer(self, resource: Resource) -> Body:
            await super().remove_finalizer(resource)
            raise Unavailable("removing the finalizer: no answer")

    world.certificates_class = Lost
    await world.restart()
    await world.apply("site", ["example.com"], deletionPolicy=policy)
    await world.quiet()
    certificate_id = (await world.status("site"))["id"]
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    (told,) = await notes(world, "site", "Deleted" if policy == "Delete" else "Retained")
    assert certificate_id in told


async def test_deleted_while_suspended_it_is_let_go_and_nothing_changes_at_vercel(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    certificate_id = (await world.status("site"))["id"]
    await world.apply("site", ["example.com"], suspend=True)
    await world.quiet()
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert world.calls() == ["list", "issue"]
    assert await notes(world, "site", "Retained") == [
        f"Left at Vercel: {certificate_id}. Reason: spec.suspend is true."
    ]


async def test_a_resource_that_never_had_a_certificate_goes_at_once(world: World) -> None:
    await world.apply("site", ["example.com"], suspend=True)
    await world.quiet()
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert world.calls() == []


async def test_one_whose_issuance_was_refused_goes_at_once(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", status=402, times=None))
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert world.calls() == ["list", "issue"]
    assert await notes(world, "site", "Deleted") == ["There was no certificate to remove at Vercel."]


async def test_the_certificates_that_were_replaced_go_too(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    assert len(world.live()) == 2
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert world.live() == {}


async def test_a_certificate_that_is_gone_already_holds_nothing_up(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    world.emulator.state.vanish((await world.status("site"))["id"])
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert world.calls() == ["list", "issue", "remove"]


async def test_the_finalizers_of_others_are_left_alone(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.patch("site", {"metadata": {"finalizers": ["example.com/other"]}})
    await world.quiet()
    await world.delete("site")
    await world.quiet()
    body = await world.get("site")
    assert body is not None
    assert body["metadata"]["finalizers"] == ["example.com/other"]
    assert world.live() == {}
    since = world.emulator.journal.last
    await world.advance(HOUR)
    assert world.calls(since) == []
    await world.patch("site", {"metadata": {"finalizers": []}})
    await world.quiet()
    assert await world.get("site") is None


# --- in the middle of an issuance


@pytest.mark.parametrize("when", ["before", "after"])
async def test_deleted_during_an_issuance_it_goes_when_that_has_ended_and_nothing_is_left(
    world: World, when: str
) -> None:
    hanging = world.emulator.faults.add(Fault.model_validate({"call": "issue", "action": "hang", "when": when}))
    await world.apply("site", ["example.com"])
    await world.quiet(hanging=1)
    await world.delete("site")
    await world.quiet(hanging=1)
    body = await world.get("site")
    assert body is not None
    assert body["metadata"]["finalizers"] == [FINALIZER]
    hanging.release()
    await world.quiet()
    assert await world.get("site") is None
    assert world.live() == {}
    assert world.calls() == ["list", "issue", "remove"]


@pytest.mark.parametrize("retained_by", [{"deletionPolicy": "Retain"}, {"suspend": True}], ids=["Retain", "suspend"])
async def test_deleted_during_an_issuance_and_retained_an_event_names_what_is_left(
    world: World, retained_by: dict[str, object]
) -> None:
    hanging = world.emulator.faults.add(Fault(call="issue", action="hang"))
    await world.apply("site", ["example.com"])
    await world.quiet(hanging=1)
    await world.patch("site", {"spec": retained_by})
    await world.delete("site")
    await world.quiet(hanging=1)
    hanging.release()
    await world.quiet()
    assert await world.get("site") is None
    [left] = world.live()
    said = [*await notes(world, "site", "Retained"), *await notes(world, "site", "OrphanedCertificate")]
    assert any(left in note for note in said)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_deleted_while_the_outcome_of_an_issuance_is_unknown_that_is_looked_for_first(
    world: World, when: str
) -> None:
    world.emulator.faults.add(Fault.model_validate({"call": "issue", "action": "reset", "when": when}))
    world.emulator.faults.add(Fault(call="list", skip=1, status=503, times=2))
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is not None
    await world.advance(5 * MINUTE)
    assert await world.get("site") is None
    assert world.live() == {}
    assert len(asked(world, "issue")) == 1


async def test_its_finalizer_taken_off_by_force_during_an_issuance_the_certificate_is_removed_all_the_same(
    world: World,
) -> None:
    hanging = world.emulator.faults.add(Fault(call="issue", action="hang"))
    await world.apply("site", ["example.com"])
    await world.quiet(hanging=1)
    await world.delete("site")
    await world.patch("site", {"metadata": {"finalizers": []}})
    await world.quiet(hanging=1)
    assert await world.get("site") is None
    hanging.release()
    await world.quiet()
    assert world.live() == {}
    assert "was issued after the resource was gone" in (await notes(world, "site", "Deleted"))[0]


async def test_deleted_and_created_again_under_its_name_it_gets_a_certificate_of_its_own(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    first = (await world.status("site"))["id"]
    await world.delete("site")
    await world.quiet()
    await world.advance(MINUTE)
    await world.apply("site", ["example.com"])
    await world.quiet()
    assert list(world.live()) == [(await world.status("site"))["id"]] != [first]


# --- Vercel can't, or won't


async def test_while_vercel_can_not_be_reached_the_condition_says_so_and_it_is_tried_again(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    certificate_id = (await world.status("site"))["id"]
    await world.emulator.stop()
    await world.delete("site")
    await world.quiet()
    issuing, reason, message = await world.condition("site", "Issuing")
    assert (issuing, reason) == ("False", "VercelUnreachable")
    assert f"Can't remove certificate {certificate_id} at Vercel: " in message
    assert (
        "To delete the resource without waiting, set spec.deletionPolicy to Retain; its certificates then stay"
        in message
    )
    ready, _, message = await world.condition("site", "Ready")
    assert ready == "True"
    assert message.startswith("The resource is being deleted. Can't remove certificate")
    assert len(await events(world, "site", "DeletionFailed")) == 1

    await world.advance(HOUR)
    assert seconds_until(world, (await world.status("site"))["nextAttemptTime"]) <= 331
    assert await world.get("site") is not None
    await world.emulator.start()
    await world.advance(331)
    assert await world.get("site") is None
    assert world.live() == {}


@pytest.mark.parametrize(
    ("status", "reason"), [(500, "VercelUnavailable"), (403, "PermissionDenied"), (429, "RateLimited")]
)
async def test_while_vercel_refuses_the_removal_the_condition_says_why_and_it_is_tried_again(
    world: World, status: int, reason: str
) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    fault = world.emulator.faults.add(Fault(call="remove", status=status, times=None))
    await world.delete("site")
    await world.quiet()
    assert await world.issuing("site") == ("False", reason)
    for _ in range(2):
        await advance_to(world, (await world.status("site"))["nextAttemptTime"], plus=10)
    assert len(asked(world, "remove")) == 3
    assert await world.get("site") is not None
    world.emulator.faults.remove(fault.id)
    await advance_to(world, (await world.status("site"))["nextAttemptTime"], plus=60)
    assert await world.get("site") is None
    assert world.live() == {}


async def test_with_the_token_refused_retain_is_the_way_out(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    certificate_id = (await world.status("site"))["id"]
    world.emulator.accounts.revoke(TOKEN)
    await world.delete("site")
    await world.quiet()
    issuing, reason, message = await world.condition("site", "Issuing")
    assert (issuing, reason) == ("False", "CredentialsInvalid")
    assert "set spec.deletionPolicy to Retain" in message
    await world.advance(5 * HOUR)
    assert await world.get("site") is not None  # a token that is refused may come to be good again
    issuing, reason, message = await world.condition("site", "Issuing")
    assert (issuing, reason) == ("False", "CredentialsInvalid")
    assert "set spec.deletionPolicy to Retain" in message

    since = world.emulator.journal.last
    await world.patch("site", {"spec": {"deletionPolicy": "Retain"}})
    await world.quiet()
    assert await world.get("site") is None
    assert world.calls(since) == []
    assert list(world.live()) == [certificate_id]
    assert certificate_id in (await notes(world, "site", "Retained"))[0]


async def test_while_the_token_rests_a_deleted_resource_says_how_to_let_it_go(world: World) -> None:
    await create_many(world, 2)
    await world.quiet()
    world.emulator.accounts.revoke(TOKEN)
    for name in ("site-0", "site-1"):
        await world.delete(name)
        await world.quiet()
        issuing, reason, message = await world.condition(name, "Issuing")
        assert (issuing, reason) == ("False", "CredentialsInvalid")
        assert "set spec.deletionPolicy to Retain" in message
    assert len(asked(world, "remove")) == 1


async def test_with_the_token_good_again_the_removal_is_made(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    world.emulator.accounts.revoke(TOKEN)
    await world.delete("site")
    await world.quiet()
    await world.advance(20 * MINUTE)
    world.emulator.accounts.grant(TokenGrant(token=TOKEN))
    await world.advance(1.1 * HOUR)
    assert await world.get("site") is None
    assert world.live() == {}


async def test_a_resource_that_waits_for_its_next_attempt_is_let_go_at_once(world: World) -> None:
    world.emulator.faults.add(Fault(call="get", status=503, times=None))
    await world.apply("site", ["example.com"])
    await world.quiet()
    await advance_to(world, (await world.status("site"))["renewalTime"], plus=20 * 60)
    assert await world.issuing("site") == ("False", "VercelUnavailable")
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert world.live() == {}


async def test_after_a_restart_a_deletion_goes_on(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.crash()
    await world.delete("site")
    world.start()
    await world.quiet()
    assert await world.get("site") is None
    assert world.live() == {}
