"""How often Vercel may be asked, and how many calls are in flight."""

import asyncio

import pytest

from support.acting import HOUR, MINUTE, REF, advance_to, asked, create_many, put_secret, reasons, seconds_until
from support.world import OTHER_TOKEN, World
from vercel_emulator import Fault, RateLimit
from vercel_emulator.models import Behaviour, Renewal

HINTS = ("retry_after", "rate_limit_headers", "retry_after_ms", "limit_in_body")


@pytest.mark.parametrize("hint", HINTS)
async def test_a_429_pauses_this_kind_of_call_with_this_token_for_as_long_as_vercel_says(
    world: World, hint: str
) -> None:
    """Vercel's limits are per endpoint: what may be removed or read is."""
    hints = dict.fromkeys(HINTS, False) | {hint: True}
    world.emulator.limits.rule = RateLimit(limit=1, window=300, calls=["issue"], **hints)
    await world.apply("first", ["example.com"])
    await world.quiet()
    await world.apply("second", ["example.org"])
    await world.quiet()
    assert await world.ready("second") == ("False", "RateLimited")
    next_attempt = (await world.status("second"))["nextAttemptTime"]
    assert 299 <= seconds_until(world, next_attempt) <= 331

    await world.apply("third", ["example.net"])
    await world.delete("first")
    await world.quiet()
    ready, reason, message = await world.condition("third", "Ready")
    assert (ready, reason) == ("False", "RateLimited")
    assert message.startswith(
        "Can't request a certificate for example.net: Vercel is rate limiting requests to issue certificates with the "
        "default token: "
    )
    assert "No action is needed: the operator waits as long as Vercel asks." in message
    assert await world.get("first") is None, "removals go on"
    assert world.live() == {}
    await world.advance(299)
    refused = hint != "rate_limit_headers"  # these say so before a request is refused
    assert len(asked(world, "issue")) == 1 + refused

    world.emulator.limits.rule = None
    await world.advance(33)
    assert await world.ready("second") == ("True", "Issued")
    assert await world.ready("third") == ("True", "Issued")
    assert len(asked(world, "issue")) == 3 + refused


async def test_a_429_that_says_nothing_is_waited_for_by_the_minute_doubling(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", status=429, times=None))
    await world.apply("site", ["example.com"])
    await world.quiet()
    assert 59 <= seconds_until(world, (await world.status("site"))["nextAttemptTime"]) <= 67
    await world.advance(68)
    assert len(asked(world, "issue")) == 2
    assert 118 <= seconds_until(world, (await world.status("site"))["nextAttemptTime"]) <= 134
    await world.advance(12 * HOUR)
    assert 16 <= len(asked(world, "issue")) <= 19  # 2, 4, 8, 16, 32 min, then once an hour
    assert seconds_until(world, (await world.status("site"))["nextAttemptTime"]) <= 3960


async def test_no_change_by_the_user_ends_a_rate_limit(world: World) -> None:
    world.emulator.limits.rule = RateLimit(limit=0, window=300, calls=["issue"])
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.apply("site", ["example.com", "www.example.com"])
    await world.annotate("site", "renew", "v1")
    await world.quiet()
    assert len(asked(world, "issue")) == 1


async def test_another_token_goes_on(world: World) -> None:
    await put_secret(world, OTHER_TOKEN)
    world.emulator.faults.add(Fault(call="issue", status=429, headers={"Retry-After": "3600"}))
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.apply("own", ["example.org"], tokenSecretRef=REF)
    await world.quiet()
    assert await world.ready("site") == ("False", "RateLimited")
    assert await world.ready("own") == ("True", "Issued")


async def test_a_good_certificate_stays_ready_through_a_pause(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.advance(MINUTE)
    world.emulator.limits.rule = RateLimit(limit=0, window=300)
    await world.annotate("site", "renew", "v1")
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert await world.issuing("site") == ("False", "RateLimited")


async def test_a_limit_on_certain_names_pauses_nobody_else(world: World) -> None:
    world.emulator.faults.add(
        Fault(call="issue", status=400, code="too_many_requests", cns=["example.com"], times=None)
    )
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.apply("other", ["example.org"])
    await world.quiet()
    assert await world.ready("site") == ("False", "RateLimited")
    assert await world.ready("other") == ("True", "Issued")


async def test_fifty_that_wait_drain_without_a_burst_when_the_pause_is_over(world: World) -> None:
    world.emulator.limits.rule = RateLimit(limit=10, window=60)
    await create_many(world, 50)
    await world.quiet()
    await world.advance(20 * MINUTE)
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}
    posts = asked(world, "issue")
    assert sum(entry.status == 200 for entry in posts) == 50
    refused = sum(entry.status == 429 for entry in posts)
    windows = len({entry.time // 60_000 for entry in posts})
    assert refused <= 8 + 2 * windows, f"{refused} refused in {windows} windows"
    assert len(world.live()) == 50


async def test_a_pause_survives_nothing_but_is_learned_again_by_one_call_after_a_restart(world: World) -> None:
    world.configure(max_in_flight=1)
    await world.restart()
    world.emulator.limits.rule = RateLimit(limit=0, window=300)
    await create_many(world, 5)
    await world.quiet()
    since = world.emulator.journal.last
    await world.restart()
    assert len(world.calls(since)) <= 1


# --- calls in flight


async def test_there_are_never_more_than_eight_calls_of_a_token_in_flight(world: World) -> None:
    hanging = world.emulator.faults.add(Fault(call="issue", action="hang", times=None))
    await create_many(world, 20)
    await world.quiet(hanging=8)
    assert hanging.hanging == 8
    assert len(asked(world, "issue")) == 8
    hanging.release(count=3)
    await world.quiet(hanging=8)
    assert hanging.hanging == 8
    assert len(asked(world, "issue")) == 11
    world.emulator.faults.remove(hanging.id)
    await world.quiet()
    assert len(world.live()) == 20
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}


async def test_each_token_has_calls_in_flight_of_its_own(world: World) -> None:
    world.configure(max_in_flight=2)
    await world.restart()
    await put_secret(world, OTHER_TOKEN)
    hanging = world.emulator.faults.add(Fault(call="issue", action="hang", times=None))
    await asyncio.gather(
        *(world.apply(f"site-{n}", [f"s{n}.example.com"]) for n in range(4)),
        *(world.apply(f"own-{n}", [f"o{n}.example.com"], tokenSecretRef=REF) for n in range(4)),
    )
    await world.quiet(hanging=4)
    assert len(asked(world, "issue", token=OTHER_TOKEN)) == 2
    assert len(asked(world, "issue")) == 4
    world.emulator.faults.remove(hanging.id)
    await world.quiet()
    assert len(world.live()) == 8


async def test_whoever_waits_for_a_slot_does_not_hold_up_the_spec_changes_of_others(world: World) -> None:
    world.configure(max_in_flight=1)
    await world.restart()
    hanging = world.emulator.faults.add(Fault(call="issue", action="hang"))
    await world.apply("slow", ["example.com"])
    await world.quiet(hanging=1)
    await world.apply("waits", ["example.org"])
    await world.quiet(hanging=1)
    await world.apply("waits", ["example.org"], suspend=True)
    await world.quiet(hanging=1)
    assert await world.ready("waits") == ("False", "Suspended")
    hanging.release()
    await world.quiet()
    assert len(world.live()) == 1


async def test_when_who_was_next_for_a_slot_has_no_need_of_it_the_one_after_is_not_held_up(world: World) -> None:
    world.configure(max_in_flight=1)
    await world.restart()
    hanging = world.emulator.faults.add(Fault(call="issue", action="hang"))
    await world.apply("slow", ["example.com"])
    await world.quiet(hanging=1)
    for name in ("next", "after"):
        await world.apply(name, [f"{name}.example.com"])
        await world.quiet(hanging=1)
    await world.apply("next", ["next.example.com"], suspend=True)
    await world.quiet(hanging=1)
    hanging.release()
    await world.quiet()
    assert await world.ready("after") == ("True", "Issued")


async def test_a_renewal_that_a_rate_limit_refuses_reads_its_certificate_once(world: World) -> None:
    """Else the GETs of several renewals can use up all that Vercel allows, minute after minute."""
    world.emulator.state.behaviour = Behaviour(lifetime=HOUR)
    await world.apply("site", ["example.com"])
    await world.quiet()
    world.emulator.faults.add(Fault(call="issue", status=429, headers={"Retry-After": "60"}, times=4))
    await world.advance(50 * MINUTE)
    assert await world.issuing("site") == ("False", "Issued")
    assert len(asked(world, "issue")) == 6
    assert len(asked(world, "get")) == 1


async def test_what_vercel_renews_while_a_rate_limit_refuses_the_renewal_is_not_issued_again(world: World) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=HOUR)
    await world.apply("site", ["example.com"])
    await world.quiet()
    world.emulator.faults.add(Fault(call="issue", status=429, headers={"Retry-After": "120"}, times=1))
    await advance_to(world, (await world.status("site"))["renewalTime"], plus=30)
    assert await world.issuing("site") == ("False", "RateLimited")
    (certificate_id,) = world.live()
    world.emulator.state.renew(certificate_id, Renewal(form="same-id"))
    await world.advance(5 * MINUTE)
    assert await world.issuing("site") == ("False", "Issued")
    assert set(world.live()) == {certificate_id}
    assert len(asked(world, "issue")) == 2


async def test_renewals_that_fall_due_together_get_through_a_tight_limit(world: World) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=HOUR)
    await create_many(world, 10)
    await world.quiet()
    world.emulator.limits.rule = RateLimit(limit=3, window=60)
    await world.advance(HOUR)
    refused = sum(entry.status == 429 for entry in world.emulator.journal.since())
    minutes = len({entry.time // 60_000 for entry in world.emulator.journal.since()})
    assert refused <= minutes * 3
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}
