"""Several things at the same moment, and states that nobody planned."""

import asyncio
from datetime import timedelta

import pytest

from reported.acts import (
    STRANGERS_TOKEN,
    behave,
    deleted,
    fails,
    held,
    posts,
    renewed_by_vercel,
    said,
    theirs,
)
from support import invariants
from support.acting import (
    DAY,
    HOUR,
    MINUTE,
    advance_to,
    asked,
    create_many,
    put_secret,
    reasons,
)
from support.company import REF as SOURCE_REF
from support.company import Company
from support.memory_api import SimulatedWorld
from support.world import OTHER_TOKEN
from vercel_emulator.models import TokenGrant

A = ["a.example.com"]
AB = ["a.example.com", "b.example.com"]


# --- nothing is stuck -------------------------------------------------------------------------------------------------


async def test_a_gateway_whose_clock_is_three_hours_ahead_and_a_lost_answer_cost_one_certificate(
    world: SimulatedWorld,
) -> None:
    behave(world, date_offset=3 * 3600)
    fails(world, "issue", action="reset", when="after")
    await world.apply("site", A)
    await world.quiet()
    await world.advance(HOUR)
    assert posts(world) == 1
    assert await world.ready("site") == ("True", "Issued")
    assert list(world.live()) == await held(world)


# --- odd moments ------------------------------------------------------------------------------------------------------


async def test_two_resources_that_name_one_certificate_at_the_same_moment_do_not_both_get_it(
    world: SimulatedWorld,
) -> None:
    theirs(world, *AB)
    adopt = {"vercel-operator.io/adopt-id": "cert_theirs"}
    await asyncio.gather(
        world.apply("one", A, annotations=adopt), world.apply("two", ["b.example.com"], annotations=adopt)
    )
    await world.quiet()
    await world.advance(HOUR)
    holders = [name for name in ("one", "two") if "cert_theirs" in await held(world, name)]
    assert len(holders) == 1
    assert len(await said(world, "AdoptionRefused")) == 1
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}


async def test_a_user_adopts_what_another_resource_is_just_being_issued(world: SimulatedWorld) -> None:
    slow = fails(world, "issue", action="hang", when="after")
    await world.apply("one", AB)
    await world.quiet(hanging=1)
    [certificate] = world.live()
    await world.apply("two", A, annotations={"vercel-operator.io/adopt-id": certificate})
    await world.quiet(hanging=1)
    slow.release("continue")
    await world.quiet()
    await world.advance(HOUR)
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}
    for first, second in (("two", "one"),):
        await deleted(world, first)
        assert await world.ready(second) == ("True", "Issued")
        assert set(await held(world, second)) <= set(world.live())


@pytest.mark.parametrize("fraction", [0.0, 0.4, 0.999])
async def test_a_found_certificate_that_vercel_does_not_replace_before_its_expiry_is_replaced_within_minutes(
    world: SimulatedWorld, fraction: float
) -> None:
    """Vercel's times have milliseconds, and status has seconds."""
    behave(world, reissue="old")
    theirs(world, "a.example.com", age=60 * DAY, left=20 * DAY + timedelta(seconds=fraction))
    await world.apply("site", ["a.example.com"], renewBefore="120h")
    await world.quiet()
    assert await held(world) == ["cert_theirs"]
    await world.advance(20 * DAY + 2 * MINUTE)
    assert await world.ready("site") == ("True", "Issued")
    assert (await held(world))[0] != "cert_theirs"


@pytest.mark.parametrize("times", [3, 12])
async def test_a_secret_ref_that_is_switched_on_and_off_again_and_again_ends_well(
    world: SimulatedWorld, times: int
) -> None:
    company = Company(world, A)
    await company.renew()
    for number in range(times):
        await world.apply("shop", A, **({"certificateSecretRef": SOURCE_REF} if number % 2 else {}))
        await world.quiet()
        await world.advance(30)
    await world.apply("shop", A)
    await world.quiet()
    await world.advance(9 * DAY)
    assert len(asked(world, "issue")) + len(asked(world, "upload")) <= 12
    assert await world.ready("shop") == ("True", "Issued")
    assert await world.issuing("shop") == ("False", "Issued")
    assert set(world.live()) == set(await held(world, "shop"))


async def test_two_resources_share_a_secret_and_an_upload_is_lost(world: SimulatedWorld) -> None:
    """Each wants one of the names of the same certificate."""
    company = Company(world, AB)
    await company.renew()
    slow = fails(world, "upload", action="hang", when="after")
    fails(world, "upload", action="reset", when="before")
    await world.apply("one", A, certificateSecretRef=SOURCE_REF)
    await world.quiet(hanging=1)
    await world.apply("two", ["b.example.com"], certificateSecretRef=SOURCE_REF)
    await world.quiet(hanging=1)
    await world.advance(100, hanging=1)
    slow.release("continue")
    await world.quiet()
    await world.advance(HOUR)
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}
    await deleted(world, "two")
    assert await held(world, "one")
    assert set(await held(world, "one")) <= set(world.live())
    await deleted(world, "one")
    notes = " ".join(await said(world, "Deleted"))
    assert all(certificate in notes for certificate in world.live())


async def test_the_tokens_of_two_accounts_are_swapped_and_swapped_back(world: SimulatedWorld) -> None:
    world.emulator.accounts.grant(TokenGrant(token=STRANGERS_TOKEN, user="someone"))
    await put_secret(world, OTHER_TOKEN, name="t1")
    await put_secret(world, STRANGERS_TOKEN, name="t2")
    await world.apply("one", A, tokenSecretRef={"name": "t1"})
    await world.apply("two", ["b.example.com"], tokenSecretRef={"name": "t2"})
    await world.quiet()
    before = [await held(world, "one"), await held(world, "two")]
    await put_secret(world, STRANGERS_TOKEN, name="t1")
    await put_secret(world, OTHER_TOKEN, name="t2")
    await world.advance(DAY)
    assert set((await reasons(world, "Issuing")).values()) == {"ScopeChanged"}
    await put_secret(world, OTHER_TOKEN, name="t1")
    await put_secret(world, STRANGERS_TOKEN, name="t2")
    await world.advance(DAY)
    assert [await held(world, "one"), await held(world, "two")] == before
    assert set((await reasons(world, "Issuing")).values()) == {"Issued"}
    assert posts(world) == 2


async def test_the_tokens_of_two_accounts_with_the_same_names_are_swapped(world: SimulatedWorld) -> None:
    """Each has a certificate for the names in its own account. Nothing is issued or removed by the mistake."""
    world.emulator.accounts.grant(TokenGrant(token=STRANGERS_TOKEN, user="someone"))
    await put_secret(world, OTHER_TOKEN, name="t1")
    await put_secret(world, STRANGERS_TOKEN, name="t2")
    await world.apply("one", A, tokenSecretRef={"name": "t1"})
    await world.quiet()
    await world.apply("two", A, tokenSecretRef={"name": "t2"})
    await world.quiet()
    await world.advance(MINUTE)
    before = [await held(world, "one"), await held(world, "two")]
    assert all(before)
    await put_secret(world, STRANGERS_TOKEN, name="t1")
    await put_secret(world, OTHER_TOKEN, name="t2")
    await world.advance(3 * DAY)
    assert [await held(world, "one"), await held(world, "two")] == before
    assert posts(world) == 2
    await put_secret(world, OTHER_TOKEN, name="t1")
    await put_secret(world, STRANGERS_TOKEN, name="t2")
    await world.advance(DAY)
    assert set((await reasons(world, "Issuing")).values()) == {"Issued"}
    assert len(world.live()) == 2


@pytest.mark.parametrize("step", ["list", "issue before", "issue after"])
@pytest.mark.parametrize("lost", [False, True])
async def test_names_that_change_to_more_and_back_at_each_step_leave_one_certificate(
    world: SimulatedWorld, step: str, lost: bool
) -> None:
    call, _, when = step.partition(" ")
    slow = fails(world, call, action="hang", when=when or "before")
    await world.apply("site", A)
    await world.quiet(hanging=1)
    await world.patch("site", {"spec": {"cns": AB}})
    await world.quiet(hanging=1)
    await world.advance(20, hanging=1)
    await world.patch("site", {"spec": {"cns": A}})
    await world.quiet(hanging=1)
    slow.release("drop" if lost else "continue")
    await world.quiet()
    await world.advance(2 * DAY)
    assert await world.ready("site") == ("True", "Issued")
    assert len(world.live()) == 1
    assert posts(world) <= 2
    await deleted(world)
    assert world.live() == {}


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
@pytest.mark.parametrize("suspend", [False, True])
async def test_suspended_and_deleted_while_an_answer_is_searched_for_says_what_may_be_left(
    world: SimulatedWorld, policy: str, suspend: bool
) -> None:
    fails(world, "issue", action="reset", when="after")
    behave(world, list_lag=timedelta(seconds=60))
    await world.apply("site", A)
    await world.quiet()
    await world.advance(10)
    await world.patch("site", {"spec": {"suspend": suspend, "deletionPolicy": policy}})
    await world.advance(10)
    await deleted(world)
    notes = " ".join(await said(world))
    assert world.live() == {} or "was being requested" in notes or next(iter(world.live())) in notes


async def test_status_that_is_wiped_again_and_again_issues_nothing_and_removes_nothing(world: SimulatedWorld) -> None:
    """A tool with the right on /status."""
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    for _ in range(20):
        await world.patch_status("site", None)
        await world.advance(30 * MINUTE)
    assert posts(world) == 1
    assert await held(world) == [first]
    await deleted(world)
    assert list(world.live()) == [first]


async def test_a_status_from_a_backup_replaces_the_one_of_an_operator_that_is_renewing(world: SimulatedWorld) -> None:
    await world.apply("site", A)
    await world.quiet()
    body = await world.get("site")
    assert body is not None
    await world.advance(10 * DAY)
    slow = fails(world, "issue", action="hang", when="after")
    await world.annotate("site", "renew", "1")
    await world.quiet(hanging=1)
    await world.patch_status("site", None)
    await world.patch_status("site", body["status"])
    await world.quiet(hanging=1)
    slow.release("continue")
    await world.quiet()
    await world.advance(2 * DAY)
    assert await world.ready("site") == ("True", "Issued")
    notes = " ".join(await said(world))
    there = await held(world)
    assert all(one in there or one in notes for one in world.live())
    assert posts(world) <= 3


@pytest.mark.parametrize("first", ["renew", "adopt-id"])
async def test_both_requests_at_once_are_both_answered(world: SimulatedWorld, first: str) -> None:
    await world.apply("site", A)
    await world.quiet()
    theirs(world, *A, age=10 * DAY, left=80 * DAY)
    both = {"renew": "1", "adopt-id": "cert_theirs"}
    for name in (first, *(other for other in both if other != first)):
        await world.annotate("site", name, both[name])
    await world.quiet()
    await world.advance(DAY)
    status = await world.status("site")
    assert (status["lastRenewRequest"], status["lastAdoptRequest"]) == ("1", "cert_theirs")
    assert posts(world) == 2
    assert await world.issuing("site") == ("False", "Issued")
    assert len(world.live()) == 1


async def test_six_found_certificates_that_vercel_renews_under_new_ids_are_followed(world: SimulatedWorld) -> None:
    """A restored cluster; the certificates were never the operator's."""
    for number in range(6):
        theirs(world, f"s{number}.example.com", id=f"cert_{number}", age=20 * DAY, left=70 * DAY)
    names = await create_many(world, 6)
    await world.quiet()
    assert posts(world) == 0
    await world.advance(30 * DAY)
    for number in range(6):
        renewed_by_vercel(world, f"cert_{number}", id=f"cert_{number}_2", removes_old=True)
    await world.advance(2 * DAY)
    assert await reasons(world, "Ready") == dict.fromkeys(names, "Issued")
    assert posts(world) == 0


async def test_everything_that_is_left_is_named_after_four_renewals_with_a_token_that_may_not_remove(
    world: SimulatedWorld,
) -> None:
    behave(world, lifetime=4 * DAY)
    await world.apply("site", A)
    await world.quiet()
    refused = fails(world, "remove", None, status=403, code="forbidden")
    for _ in range(4):
        await advance_to(world, (await world.status("site"))["renewalTime"], plus=3600)
    assert await world.ready("site") == ("True", "Issued")
    assert posts(world) == 5
    world.emulator.faults.remove(refused.id, "continue")
    await world.advance(2 * HOUR)
    assert list(world.live()) == await held(world)
    assert invariants.ids(await world.get("site") or {}) == list(world.live())
