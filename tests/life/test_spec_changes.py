"""What a change of spec does, and what it does not do."""

import pytest

from support.acting import (
    DAY,
    HOUR,
    MINUTE,
    REF,
    advance_to,
    asked,
    events,
    notes,
    put_secret,
    superseded,
    time,
)
from support.world import OTHER_TOKEN, World
from vercel_emulator import Behaviour, Fault

# --- cns


async def test_for_changed_names_a_new_certificate_is_issued_and_the_old_one_removed_ten_minutes_later(
    world: World,
) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    old = await world.status("site")

    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    new = await world.status("site")
    assert new["id"] != old["id"]
    assert new["cns"] == ["example.com", "www.example.com"]
    assert superseded(new) == [old["id"]]
    assert new["observedGeneration"] == 2
    assert await world.ready("site") == ("True", "Issued")
    assert any("because spec.cns changed" in note for note in await notes(world, "site", "Issued"))

    await world.advance(10 * MINUTE - MINUTE)
    assert set(world.live()) == {old["id"], new["id"]}
    await world.advance(MINUTE)
    assert list(world.live()) == [new["id"]]
    assert "superseded" not in await world.status("site")
    assert world.calls() == ["list", "issue", "get", "issue", "remove"]


async def test_other_order_and_case_of_the_same_names_change_nothing(world: World) -> None:
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    await world.apply("site", ["www.example.com", "example.com"])
    await world.quiet()
    assert world.calls() == ["list", "issue"]
    assert (await world.status("site"))["observedGeneration"] == 2


async def test_a_name_taken_away_makes_a_new_certificate_too(world: World) -> None:
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    await world.advance(1)
    await world.apply("site", ["example.com"])
    await world.quiet()
    assert (await world.status("site"))["cns"] == ["example.com"]
    await world.advance(10 * MINUTE)
    assert list(world.live().values()) == [["example.com"]]


async def test_names_changed_in_the_middle_of_an_issuance_are_issued_after_it_and_nothing_is_lost(world: World) -> None:
    hanging = world.emulator.faults.add(Fault(call="issue", action="hang"))
    await world.apply("site", ["example.com"])
    await world.quiet(hanging=1)
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet(hanging=1)
    assert world.calls() == ["list", "issue"]

    hanging.release()
    await world.quiet()
    status = await world.status("site")
    first, second = world.emulator.state.all()
    assert status["id"] == second.id
    assert status["cns"] == ["example.com", "www.example.com"]
    assert superseded(status) == [first.id]
    assert status["observedGeneration"] == 2
    assert await world.ready("site") == ("True", "Issued")
    await world.advance(10 * MINUTE)
    assert list(world.live()) == [second.id]
    assert world.calls() == ["list", "issue", "get", "issue", "remove"]


async def test_names_changed_and_changed_back_in_the_middle_of_an_issuance_need_no_second_one(world: World) -> None:
    hanging = world.emulator.faults.add(Fault(call="issue", action="hang"))
    await world.apply("site", ["example.com"])
    await world.quiet(hanging=1)
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet(hanging=1)
    await world.apply("site", ["example.com"])
    await world.quiet(hanging=1)
    hanging.release()
    await world.quiet()
    assert world.calls() == ["list", "issue"]
    assert (await world.status("site"))["observedGeneration"] == 3
    assert await world.ready("site") == ("True", "Issued")


async def test_ready_stays_true_for_names_that_the_old_certificate_has_while_new_ones_are_refused(
    world: World,
) -> None:
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    world.emulator.faults.add(Fault(call="issue", status=402, times=None))
    await world.apply("site", ["example.com"])
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert await world.issuing("site") == ("False", "PaymentRequired")

    await world.apply("site", ["example.com", "new.example.com"])
    await world.quiet()
    ready, reason, message = await world.condition("site", "Ready")
    assert (ready, reason) == ("False", "PaymentRequired")
    assert "does not cover new.example.com" in message


async def test_the_old_certificate_is_kept_until_the_new_one_is_there_however_long_that_takes(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    old = await world.status("site")
    fault = world.emulator.faults.add(Fault(call="issue", status=403, times=None))
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    await world.advance(DAY)
    assert list(world.live()) == [old["id"]]
    world.emulator.faults.remove(fault.id)
    await advance_to(world, (await world.status("site"))["nextAttemptTime"], plus=1)
    new = await world.status("site")
    assert set(world.live()) == {old["id"], new["id"]}
    await world.advance(10 * MINUTE)
    assert list(world.live()) == [new["id"]]


# --- renewBefore


async def test_a_change_of_renew_before_moves_only_the_renewal_time(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    before = await world.status("site")

    await world.apply("site", ["example.com"], renewBefore="240h")
    await world.quiet()
    after = await world.status("site")
    assert 10 * DAY <= time(after["expiresAt"]) - time(after["renewalTime"]) <= 11 * DAY
    assert world.calls() == ["list", "issue"]
    moved = {name for name in before if before[name] != after[name]}
    assert moved == {"renewalTime", "observedGeneration", "conditions"}  # Issuing says when the renewal is
    assert await world.ready("site") == ("True", "Issued")

    await world.apply("site", ["example.com"])
    await world.quiet()
    assert (await world.status("site"))["renewalTime"] == before["renewalTime"]
    assert world.calls() == ["list", "issue"]


async def test_a_renew_before_whose_time_has_come_renews_at_once(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.advance(50 * DAY)
    assert world.calls() == ["list", "issue"]
    await world.apply("site", ["example.com"], renewBefore="1200h")
    await world.quiet()
    assert world.calls() == ["list", "issue", "get", "list", "issue"]


# --- suspend


async def test_a_suspended_resource_gets_a_certificate_only_when_suspend_is_taken_back(world: World) -> None:
    await world.apply("site", ["example.com"], suspend=True)
    await world.quiet()
    assert await world.ready("site") == ("False", "Suspended")
    await world.advance(DAY)
    assert world.calls() == []
    await world.apply("site", ["example.com"])
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert world.calls() == ["list", "issue"]


async def test_while_suspended_nothing_is_renewed_and_ready_says_when_it_has_expired(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.apply("site", ["example.com"], suspend=True)
    await world.quiet()
    status = await world.status("site")
    assert await world.ready("site") == ("True", "Issued")
    assert await world.issuing("site") == ("False", "Suspended")

    await advance_to(world, status["expiresAt"], plus=-2)
    assert await world.ready("site") == ("True", "Issued")
    await world.advance(3)
    ready, _, message = await world.condition("site", "Ready")
    assert ready == "False"
    assert "expired at" in message
    assert "spec.suspend is true" in message
    assert world.calls() == ["list", "issue"]

    await world.apply("site", ["example.com"])
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert len(asked(world, "issue")) == 2


async def test_suspended_with_changed_names_nothing_changes_at_vercel(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.apply("site", ["example.com", "www.example.com"], suspend=True)
    await world.annotate("site", "renew", "v1")
    await world.quiet()
    await world.advance(HOUR)
    assert world.calls() == ["list", "issue"]
    ready, reason, message = await world.condition("site", "Ready")
    assert (ready, reason) == ("False", "Suspended")
    assert "does not cover www.example.com" in message
    await world.apply("site", ["example.com", "www.example.com"], suspend=False)
    await world.quiet()
    assert world.calls() == ["list", "issue", "list", "issue"]
    assert (await world.status("site"))["lastRenewRequest"] == "v1"


async def test_suspended_between_two_certificates_the_old_one_stays_until_it_is_taken_back(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    await world.apply("site", ["example.com", "www.example.com"], suspend=True)
    await world.quiet()
    await world.advance(HOUR)
    assert len(world.live()) == 2
    await world.apply("site", ["example.com", "www.example.com"])
    await world.quiet()
    assert list(world.live()) == [(await world.status("site"))["id"]]


async def test_suspended_in_the_middle_of_an_issuance_its_outcome_is_recorded(world: World) -> None:
    hanging = world.emulator.faults.add(Fault(call="issue", action="hang"))
    await world.apply("site", ["example.com"])
    await world.quiet(hanging=1)
    await world.apply("site", ["example.com"], suspend=True)
    await world.quiet(hanging=1)
    hanging.release()
    await world.quiet()
    assert list(world.live()) == [(await world.status("site"))["id"]]
    assert await world.ready("site") == ("True", "Issued")
    assert await world.issuing("site") == ("False", "Suspended")


async def test_a_wait_goes_on_after_the_resource_was_suspended(world: World) -> None:
    """Only what was refused ends it: otherwise whatever switches suspend would request a certificate each time."""
    world.emulator.faults.add(Fault(call="issue", status=402))
    await world.apply("site", ["example.com"])
    await world.quiet()
    until = (await world.status("site"))["nextAttemptTime"]
    await world.apply("site", ["example.com"], suspend=True)
    await world.quiet()
    assert await world.issuing("site") == ("False", "Suspended")
    assert "nextAttemptTime" not in await world.status("site")
    await world.apply("site", ["example.com"])
    await world.quiet()
    assert await world.ready("site") == await world.issuing("site") == ("False", "PaymentRequired")
    assert (await world.status("site"))["nextAttemptTime"] == until
    assert len(await events(world, "site", "PaymentRequired")) == 1
    await advance_to(world, until, plus=1)
    assert await world.ready("site") == ("True", "Issued")


# --- deletionPolicy


@pytest.mark.parametrize(("first", "then", "left"), [("Delete", "Retain", 1), ("Retain", "Delete", 0)])
async def test_the_deletion_policy_that_stands_at_the_end_counts(
    world: World, first: str, then: str, left: int
) -> None:
    await world.apply("site", ["example.com"], deletionPolicy=first)
    await world.quiet()
    await world.apply("site", ["example.com"], deletionPolicy=then)
    await world.quiet()
    assert world.calls() == ["list", "issue"]
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert len(world.live()) == left


async def test_retain_set_while_it_is_being_deleted_lets_it_go_at_once(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    certificate_id = (await world.status("site"))["id"]
    world.emulator.faults.add(Fault(call="remove", status=500, times=None))
    await world.delete("site")
    await world.quiet()
    await world.advance(MINUTE)
    assert await world.get("site") is not None
    before = len(world.calls())
    await world.patch("site", {"spec": {"deletionPolicy": "Retain"}})
    await world.quiet()
    assert await world.get("site") is None
    assert len(world.calls()) == before
    assert list(world.live()) == [certificate_id]
    [note] = await notes(world, "site", "Retained")
    assert certificate_id in note


# --- tokenSecretRef


async def test_a_changed_token_secret_ref_is_checked_by_a_list_and_used_from_then_on(world: World) -> None:
    """The certificate has to be there with the new token too."""
    await world.apply("site", ["example.com"])
    await world.quiet()
    await put_secret(world, OTHER_TOKEN)
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    assert len(asked(world, "list", token=OTHER_TOKEN)) == 1
    assert await world.issuing("site") == ("False", "Issued")
    await world.advance(MINUTE)
    assert world.calls() == ["list", "issue", "list"]
    await world.annotate("site", "renew", "v1")
    await world.quiet()
    assert len(asked(world, "issue", token=OTHER_TOKEN)) == 1
    await world.advance(10 * MINUTE)
    assert len(asked(world, "remove", token=OTHER_TOKEN)) == 1
    assert list(world.live()) == [(await world.status("site"))["id"]]


async def test_another_token_secret_ref_ends_the_wait_of_a_refused_token(world: World) -> None:
    await put_secret(world, "revoked-token-not-a-secret")
    await put_secret(world, OTHER_TOKEN, name="good")
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    assert await world.ready("site") == ("False", "CredentialsInvalid")
    await world.apply("site", ["example.com"], tokenSecretRef={"name": "good", "key": "token"})
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")


async def test_a_token_secret_ref_to_nowhere_leaves_a_good_certificate_ready(world: World) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=HOUR)
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    status = await world.status("site")
    assert await world.ready("site") == ("True", "Issued")
    await advance_to(world, status["renewalTime"], plus=1)
    assert await world.ready("site") == ("True", "Issued")
    issuing, reason, message = await world.condition("site", "Issuing")
    assert (issuing, reason) == ("False", "CredentialsInvalid")
    assert "vercel does not exist" in message
