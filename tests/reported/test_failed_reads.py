"""A certificate that can't be read, or a list that is no longer true, is no reason to issue another one."""

from datetime import timedelta
from typing import Any

import pytest

from reported.acts import (
    STRANGERS_TOKEN,
    behave,
    fails,
    held,
    posts,
    renewed_by_vercel,
    restored_without_status,
    said,
    theirs,
)
from support.acting import (
    DAY,
    HOUR,
    MINUTE,
    REF,
    advance_to,
    create_many,
    put_secret,
    statuses,
)
from support.memory_api import SimulatedWorld
from support.world import OTHER_TOKEN
from vercel_emulator.models import RateLimit, TokenGrant

A = ["a.example.com"]
ROTATED = "rotated-token-0123456789"


# --- one call of Vercel's that fails ----------------------------------------------------------------------------------


async def test_a_restored_resource_whose_certificate_can_not_be_read_at_once_does_not_issue_another_one(
    world: SimulatedWorld,
) -> None:
    """A single 500, while the list plainly shows the certificate."""
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    await restored_without_status(world)
    fails(world, "get", status=500, code="internal_server_error")
    world.start()
    await world.quiet()
    await world.advance(DAY)
    assert posts(world) == 1
    assert await held(world) == [first]


@pytest.mark.parametrize("headers", [True, False], ids=["with headers", "429 alone"])
async def test_a_restored_cluster_that_reads_more_certificates_than_vercel_allows_a_minute_issues_nothing(
    world: SimulatedWorld, headers: bool
) -> None:
    """Limits are per endpoint: GETs are used up, POSTs are not."""
    await create_many(world, 12)
    await world.quiet()
    before = {name: status["id"] for name, status in (await statuses(world)).items()}
    await restored_without_status(world)
    rule = {"limit": 4, "window": 60, "calls": ["get"], "rateLimitHeaders": headers}
    world.emulator.limits.rule = RateLimit.model_validate(rule)
    world.start()
    await world.quiet()
    await world.advance(DAY)
    assert posts(world) == 12
    assert {name: status["id"] for name, status in (await statuses(world)).items()} == before


@pytest.mark.parametrize("status", [500, 429])
async def test_a_renewal_by_vercel_that_can_not_be_read_at_once_is_taken_a_moment_later(
    world: SimulatedWorld, status: int
) -> None:
    """Vercel has removed the old one. The list shows the new one; its GET fails once."""
    behave(world, lifetime=30 * DAY)
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    await world.advance(16 * DAY)
    renewed_by_vercel(world, first, id="cert_renewed", removes_old=True)
    fails(world, "get", id="cert_renewed", status=status, code="rate_limited" if status == 429 else "internal")
    await world.advance(2 * DAY)
    assert posts(world) == 1
    assert await held(world) == ["cert_renewed"]
    assert (await world.status("site"))["origin"] == "Issued"
    assert not await said(world, "CertificateGone")


async def test_a_renewal_by_vercel_that_can_not_be_read_when_the_operators_own_is_due_is_taken(
    world: SimulatedWorld,
) -> None:
    behave(world, lifetime=30 * DAY)
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    due = (await world.status("site"))["renewalTime"]
    await advance_to(world, due, plus=-7200)
    await world.crash()
    renewed_by_vercel(world, first, id="cert_renewed")
    fails(world, "get", id="cert_renewed", status=500, code="internal")
    await world.clock.advance(3 * 3600)
    world.start()
    await world.quiet()
    await world.advance(2 * DAY)
    assert posts(world) == 1
    assert await held(world) == ["cert_renewed"]


# --- a list that is no longer true ------------------------------------------------------------------------------------


async def removal_is_refused_and_a_list_has_news(world: SimulatedWorld) -> None:
    """A token that may not remove certificates; and somebody made one with the same names."""
    await put_secret(world, OTHER_TOKEN)
    await world.apply("site", A, tokenSecretRef=REF)
    await world.quiet()
    fails(world, "remove", None, status=403, code="forbidden")
    await world.annotate("site", "renew", "1")
    await world.quiet()
    await world.advance(HOUR)
    assert await said(world, "RemovalFailed")
    theirs(world, *A, age=timedelta(), left=20 * DAY, auto_renew=False)
    await world.advance(DAY)
    assert (await world.status("site"))["sharedNames"] is True


async def test_a_token_that_is_rotated_while_a_removal_is_refused_stays_that_of_the_same_account(
    world: SimulatedWorld,
) -> None:
    await removal_is_refused_and_a_list_has_news(world)
    await world.annotate("site", "renew", "2")
    await world.quiet()
    await world.advance(HOUR)
    current = (await world.status("site"))["id"]
    world.emulator.accounts.grant(TokenGrant(token=ROTATED))
    await put_secret(world, ROTATED)
    await world.advance(2 * DAY)
    assert await world.issuing("site") == ("False", "Issued")
    assert (await world.status("site"))["id"] == current


async def test_a_token_of_another_account_is_noticed_while_a_removal_is_refused(world: SimulatedWorld) -> None:
    await removal_is_refused_and_a_list_has_news(world)
    current = (await world.status("site"))["id"]
    before = posts(world)
    world.emulator.accounts.grant(TokenGrant(token=STRANGERS_TOKEN, user="someone"))
    await put_secret(world, STRANGERS_TOKEN)
    await world.advance(2 * DAY)
    assert posts(world) == before, "nothing is issued in another account"
    assert not await said(world, "CertificateGone")
    assert (await world.status("site"))["id"] == current
    assert await world.issuing("site") == ("False", "ScopeChanged")


# --- what a search has found ------------------------------------------------------------------------------------------

REFUSED = pytest.mark.parametrize(
    ("status", "fault"),
    [(429, {"code": "rate_limited", "headers": {"Retry-After": "3600"}}), (403, {"code": "forbidden"}), (500, {})],
    ids=["rate limit", "forbidden", "error"],
)


async def found_and_unread(world: SimulatedWorld, status: int, fault: dict[str, Any]) -> None:
    """The answer to a request is lost. The list shows the certificate, and Vercel refuses its GET."""
    slow = fails(world, "issue", action="hang", when="after")
    await world.apply("site", ["a.example.com"])
    await world.quiet(hanging=1)
    fails(world, "get", None, status=status, **fault)
    slow.release("drop")
    await world.quiet()


@pytest.mark.parametrize("deleting", [False, True], ids=["kept", "being deleted"])
@REFUSED
async def test_what_keeps_a_search_from_its_end_is_said(
    world: SimulatedWorld, status: int, fault: dict[str, Any], deleting: bool
) -> None:
    """The message said that another one is requested if none appears, at a time that was put off again and again."""
    await found_and_unread(world, status, fault)
    if deleting:
        await world.delete("site")
        await world.quiet()
    await world.advance(20 * MINUTE)
    [found] = world.live()
    _, _, message = await world.condition("site", "Issuing")
    assert str(status) in message
    assert found in message


@pytest.mark.parametrize("deleting", [False, True], ids=["kept", "being deleted"])
@pytest.mark.parametrize("status", [403, 500])
async def test_what_could_not_be_read_for_an_hour_is_named_when_it_no_longer_counts(
    world: SimulatedWorld, status: int, deleting: bool
) -> None:
    await found_and_unread(world, status, {})
    [found] = world.live()
    if deleting:
        await world.delete("site")
    await world.advance(3 * HOUR)
    assert (await world.get("site") is None) == deleting
    assert any(found in note for note in await said(world))
