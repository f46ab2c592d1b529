"""Renewal: in time, after time, by Vercel itself and on request."""

from collections import Counter
from datetime import timedelta

import pytest

from support.acting import (
    DAY,
    HOUR,
    MINUTE,
    advance_to,
    apart,
    asked,
    create_many,
    events,
    notes,
    seconds_until,
    statuses,
    superseded,
    time,
)
from support.world import World
from vercel_emulator.models import Behaviour, Fault


@pytest.mark.parametrize("days", [90, 47, 6])
async def test_a_certificate_is_renewed_a_third_of_its_lifetime_before_its_end(world: World, days: int) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=days * DAY)
    await world.apply("site", ["example.com"])
    await world.quiet()
    first = await world.status("site")
    third = days * DAY / 3
    assert third <= time(first["expiresAt"]) - time(first["renewalTime"]) <= third * 1.1

    await advance_to(world, first["renewalTime"], plus=-1)
    assert (await world.status("site"))["id"] == first["id"]
    assert world.calls() == ["list", "issue"]

    await advance_to(world, first["renewalTime"], plus=1)
    second = await world.status("site")
    assert second["id"] != first["id"]
    assert superseded(second) == [first["id"]]
    assert await world.ready("site") == ("True", "Issued")
    assert world.calls() == ["list", "issue", "get", "list", "issue"]

    await world.advance(10 * MINUTE)
    assert list(world.live()) == [second["id"]]
    assert "superseded" not in await world.status("site")


async def test_a_renew_before_that_is_longer_than_the_lifetime_is_not_used_and_ready_says_so(world: World) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=6 * DAY)
    await world.apply("site", ["example.com"], renewBefore="720h")
    await world.quiet()
    status = await world.status("site")
    assert 2 * DAY <= time(status["expiresAt"]) - time(status["renewalTime"]) <= 2.2 * DAY
    _, _, message = await world.condition("site", "Ready")
    assert "spec.renewBefore (720h) is not shorter than the certificate's lifetime (6d)" in message
    assert "a third of the lifetime is used" in message


async def test_nothing_is_renewed_within_the_first_tenth_of_its_life(world: World) -> None:
    await world.apply("site", ["example.com"], renewBefore="2159h")
    await world.quiet()
    status = await world.status("site")
    assert time(status["renewalTime"]) - time(status["createdAt"]) == 9 * DAY
    await world.advance(9 * DAY - MINUTE)
    assert world.calls() == ["list", "issue"]


async def test_a_hundred_certificates_of_one_day_are_not_renewed_in_one_minute(world: World) -> None:
    await create_many(world, 100)
    await world.quiet()
    times = [status["renewalTime"] for status in (await statuses(world)).values()]
    assert len(times) == 100
    assert DAY < apart(times) < 3 * DAY + MINUTE
    [(_, most)] = Counter(text[: len("2026-01-01T12:00")] for text in times).most_common(1)
    assert most < 10


async def test_the_time_of_a_renewal_is_the_same_after_a_restart(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    before = await world.status("site")
    await world.restart()
    assert await world.status("site") == before
    assert world.calls() == ["list", "issue"]


async def test_ready_stays_true_while_a_renewal_fails_and_turns_false_at_the_expiry_by_time_alone(world: World) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=HOUR)
    await world.apply("site", ["example.com"])
    await world.quiet()
    expires_at = (await world.status("site"))["expiresAt"]
    await world.emulator.stop()

    await advance_to(world, expires_at, plus=-2)
    assert await world.ready("site") == ("True", "Issued")
    assert await world.issuing("site") == ("False", "VercelUnreachable")
    await world.advance(3)
    ready, reason, message = await world.condition("site", "Ready")
    assert (ready, reason) == ("False", "VercelUnreachable")
    assert f"expired at {expires_at}." in message

    await world.emulator.start()
    await world.advance(6 * MINUTE)
    assert await world.ready("site") == ("True", "Issued")


async def test_ready_turns_false_at_the_expiry_while_the_back_off_is_waited_for(world: World) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=HOUR)
    await world.apply("site", ["example.com"])
    await world.quiet()
    world.emulator.faults.add(Fault(call="issue", status=402, times=None))
    expires_at = (await world.status("site"))["expiresAt"]
    await advance_to(world, expires_at, plus=-2)
    assert await world.ready("site") == ("True", "Issued")
    assert await world.issuing("site") == ("False", "PaymentRequired")
    assert seconds_until(world, (await world.status("site"))["nextAttemptTime"]) > 600
    await world.advance(3)
    assert await world.ready("site") == ("False", "PaymentRequired")
    assert len(asked(world, "issue")) == 2


async def test_an_answer_with_the_old_certificate_renews_nothing_until_that_has_expired(world: World) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=6 * HOUR, reissue="old")
    await world.apply("site", ["example.com"])
    await world.quiet()
    first = await world.status("site")

    await advance_to(world, first["renewalTime"], plus=1)
    status = await world.status("site")
    assert status["id"] == first["id"]
    assert await world.ready("site") == ("True", "Issued")
    issuing, reason, message = await world.condition("site", "Issuing")
    assert (issuing, reason) == ("False", "NotRenewed")
    assert f"with certificate {first['id']}, which is neither younger than the current one nor expires later" in message
    assert status["failedAttempts"] == 1
    assert 3590 <= seconds_until(world, status["nextAttemptTime"]) <= 3960

    await advance_to(world, first["expiresAt"], plus=-1)
    assert len(asked(world, "issue")) <= 3
    assert not asked(world, "remove")
    await world.advance(5)
    second = await world.status("site")
    assert second["id"] != first["id"]
    assert list(world.live()) == [second["id"]]
    assert world.calls()[-3:] == ["list", "remove", "issue"]
    assert await world.ready("site") == ("True", "Issued")
    assert "failedAttempts" not in second


async def test_when_lifetimes_become_shorter_a_certificate_that_ends_before_the_old_one_is_a_renewal(
    world: World,
) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=47 * DAY)
    await world.apply("site", ["example.com"])
    await world.quiet()
    first = await world.status("site")
    world.emulator.state.behaviour = Behaviour(lifetime=6 * DAY)
    await advance_to(world, first["renewalTime"], plus=1)
    second = await world.status("site")
    assert second["expiresAt"] < first["expiresAt"]
    assert await world.ready("site") == ("True", "Issued")
    assert await world.issuing("site") == ("False", "Issued")
    assert "failedAttempts" not in second
    assert not await events(world, "site", "NotRenewed")
    assert len(await events(world, "site", "Renewed")) == 1
    await advance_to(world, second["renewalTime"], plus=601)
    assert list(world.live()) == [(await world.status("site"))["id"]]
    assert len(asked(world, "issue")) == 3


@pytest.mark.parametrize("moves", [True, False], ids=["createdAt-moves", "createdAt-stays"])
async def test_vercels_own_renewal_under_the_same_id_is_noticed(world: World, moves: bool) -> None:
    world.emulator.state.behaviour = Behaviour(renewal="same-id", renew_before=40 * DAY, renewal_moves_created_at=moves)
    await world.apply("site", ["example.com"])
    await world.quiet()
    first = await world.status("site")
    await advance_to(world, first["renewalTime"], plus=1)
    second = await world.status("site")
    assert second["id"] == first["id"]
    assert time(second["expiresAt"]) > time(first["expiresAt"])
    assert time(second["renewalTime"]) > time(first["renewalTime"])
    assert world.calls() == ["list", "issue", "get"]
    [note] = await notes(world, "site", "Renewed")
    assert f"Vercel renewed certificate {first['id']}: {first['id']} expires {second['expiresAt']}." in note


async def test_vercels_own_renewal_under_a_new_id_is_adopted_where_the_old_one_is_gone(world: World) -> None:
    world.emulator.state.behaviour = Behaviour(renewal="new-id", renew_before=40 * DAY, renewal_removes_old=True)
    await world.apply("site", ["example.com"])
    await world.quiet()
    first = await world.status("site")
    await advance_to(world, first["renewalTime"], plus=1)
    second = await world.status("site")
    assert len(asked(world, "issue")) == 1
    assert second["id"] != first["id"]
    assert await world.ready("site") == ("True", "Issued")
    [note] = await notes(world, "site", "Renewed")
    assert f"Vercel renewed certificate {first['id']}: {second['id']} expires" in note
    await world.advance(10 * MINUTE)
    assert list(world.live()) == [second["id"]]


async def test_the_renew_annotation_requests_a_renewal_once_for_each_value(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.advance(MINUTE)
    first = await world.status("site")
    await world.annotate("site", "renew", "key-leaked")
    await world.quiet()
    second = await world.status("site")
    assert second["id"] != first["id"]
    assert second["lastRenewRequest"] == "key-leaked"
    [note] = await notes(world, "site", "Renewed")
    assert "as the renew annotation requested" in note

    await world.annotate("site", "renew", "key-leaked")
    await world.quiet()
    await world.advance(HOUR)
    await world.restart()
    assert (await world.status("site"))["id"] == second["id"]

    await world.annotate("site", "renew", None)
    await world.quiet()
    await world.advance(MINUTE)
    assert len(asked(world, "issue")) == 2
    await world.annotate("site", "renew", "once-more")
    await world.quiet()
    assert len(asked(world, "issue")) == 3
    await world.advance(10 * MINUTE)
    assert list(world.live()) == [(await world.status("site"))["id"]]


async def test_a_renew_annotation_from_the_start_requests_no_second_certificate(world: World) -> None:
    await world.apply("site", ["example.com"], annotations={"vercel-operator.io/renew": "v1"})
    await world.quiet()
    await world.advance(HOUR)
    assert world.calls() == ["list", "issue"]
    assert (await world.status("site"))["lastRenewRequest"] == "v1"


async def test_a_renew_annotation_set_during_a_renewal_requests_one_more(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.advance(MINUTE)
    hanging = world.emulator.faults.add(Fault(call="issue", action="hang"))
    await world.annotate("site", "renew", "v1")
    await world.quiet(hanging=1)
    await world.annotate("site", "renew", "v2")
    await world.quiet(hanging=1)
    hanging.release()
    await world.quiet()
    status = await world.status("site")
    assert status["lastRenewRequest"] == "v2"
    assert len(asked(world, "issue")) == 3
    await world.advance(10 * MINUTE)
    assert list(world.live()) == [status["id"]]


async def test_what_was_replaced_is_kept_no_longer_than_a_tenth_of_a_short_life(world: World) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=timedelta(minutes=30))
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.advance(MINUTE)
    await world.annotate("site", "renew", "v1")
    await world.quiet()
    await world.advance(2 * MINUTE)
    assert len(world.live()) == 2
    await world.advance(61)
    assert list(world.live()) == [(await world.status("site"))["id"]]
