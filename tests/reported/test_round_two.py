"""What a second round of people tried who wanted to break the operator: each in a user's words."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from reported.acts import (
    STRANGERS_TOKEN,
    behave,
    cluster_lost,
    created,
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
    REF,
    advance_to,
    asked,
    create_many,
    put_secret,
    reasons,
    statuses,
)
from support.company import REF as SOURCE_REF
from support.company import Company
from support.memory_api import SimulatedWorld
from support.world import OTHER_TOKEN
from vercel_emulator.models import RateLimit, Renewal, TokenGrant

A = ["a.example.com"]
AB = ["a.example.com", "b.example.com"]
ROTATED = "rotated-token-0123456789"
SECOND = timedelta(seconds=1)


async def restored_without_status(world: SimulatedWorld) -> None:
    """Everything is created again from its manifests, and a new operator starts."""
    for body in await cluster_lost(world):
        await created(world, body)
    await world.clock.advance(HOUR.total_seconds())


async def deleted(world: SimulatedWorld, name: str = "site") -> None:
    await world.delete(name)
    await world.advance(HOUR)
    assert await world.get(name) is None


# --- one call of Vercel's that fails --------------------------------------------------------------------------------


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
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    await world.advance(50 * DAY)
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


# --- many at once ---------------------------------------------------------------------------------------------------


async def test_vercel_renews_everything_of_a_bulk_import_on_one_day_and_it_all_goes_on(world: SimulatedWorld) -> None:
    """Under new ids, and the old ones are gone: the list has a successor for each."""
    names = await create_many(world, 8)
    await world.quiet()
    behave(world, renewal="new-id", renew_before=40 * DAY, renewal_removes_old=True)
    await world.advance(52 * DAY)
    assert await reasons(world, "Ready") == dict.fromkeys(names, "Issued")
    assert await reasons(world, "Issuing") == dict.fromkeys(names, "Issued")
    assert posts(world) == 8
    assert set(world.live()) == {status["id"] for status in (await statuses(world)).values()}


@pytest.mark.parametrize("count", [4, 8])
async def test_an_etcd_snapshot_from_before_many_renewals_leads_to_the_newer_certificates(
    world: SimulatedWorld, count: int
) -> None:
    """docs/backup-and-restore.md: within six hours, the operator uses the newer one."""
    names = await create_many(world, count)
    await world.quiet()
    await world.advance(10 * DAY)
    backup = world.memory.backup()
    for name in names:
        await world.annotate(name, "renew", "1")
    await world.quiet()
    await world.advance(HOUR)
    newer = {name: status["id"] for name, status in (await statuses(world)).items()}
    await world.crash()
    world.memory.restore(backup)
    world.start()
    await world.quiet()
    await world.advance(DAY)
    assert {name: status.get("id") for name, status in (await statuses(world)).items()} == newer
    assert await reasons(world, "Ready") == dict.fromkeys(names, "Issued")
    assert posts(world) == 2 * count


async def test_a_velero_backup_with_status_from_before_many_renewals_leads_to_the_newer_certificates(
    world: SimulatedWorld,
) -> None:
    names = await create_many(world, 8)
    await world.quiet()
    await world.advance(10 * DAY)
    bodies = await world.all()
    for name in names:
        await world.annotate(name, "renew", "1")
    await world.quiet()
    await world.advance(HOUR)
    newer = {name: status["id"] for name, status in (await statuses(world)).items()}
    await cluster_lost(world)
    for body in bodies:
        await created(world, body, status=body["status"])
    world.start()
    await world.quiet()
    await world.advance(DAY)
    assert {name: status.get("id") for name, status in (await statuses(world)).items()} == newer
    assert await reasons(world, "Ready") == dict.fromkeys(names, "Issued")


@pytest.mark.parametrize("count", [4, 8])
async def test_after_a_long_outage_expired_certificates_that_vercel_has_dropped_are_issued_again(
    world: SimulatedWorld, count: int
) -> None:
    """They have expired: that they are missing says nothing about the token."""
    names = await create_many(world, count)
    await world.quiet()
    await world.crash()
    await world.clock.advance(100 * 86400.0)
    for certificate in list(world.live()):
        world.emulator.state.vanish(certificate)
    slow = fails(world, "get", None, action="hang")  # some time passes between the start and the first list
    world.start()
    await world.quiet(hanging=count)
    await world.advance(2, hanging=count)
    world.emulator.faults.remove(slow.id, "continue")
    await world.quiet()
    await world.advance(2 * DAY)
    assert await reasons(world, "Ready") == dict.fromkeys(names, "Issued")


async def test_a_few_whose_dns_was_wrong_until_they_expired_are_issued_once_it_is_right(world: SimulatedWorld) -> None:
    """Of a scope with many good ones. Vercel drops what has expired."""
    good = [f"good-{number}" for number in range(10)]
    for name in good:
        await world.apply(name, [f"{name}.example.org"])
    bad = await create_many(world, 6)
    await world.quiet()
    old = {name: (await world.status(name))["id"] for name in bad}
    await world.advance(56 * DAY)
    broken = [fails(world, "issue", None, status=402, cns=[f"s{number}.example.com"]) for number in range(6)]
    await world.advance(35 * DAY)
    assert (await reasons(world, "Ready"))[bad[0]] != "Issued"
    for certificate in old.values():
        world.emulator.state.vanish(certificate)
    await world.advance(2 * DAY)
    for fault in broken:
        world.emulator.faults.remove(fault.id, "continue")
    await world.advance(3 * DAY)
    assert {name: reason for name, reason in (await reasons(world, "Ready")).items() if reason != "Issued"} == {}


async def test_a_list_that_lags_makes_no_scope_seem_vanished_right_after_a_bulk_import(world: SimulatedWorld) -> None:
    await world.apply("first", ["first.example.org"])
    await world.quiet()
    since = len(asked(world, "list"))
    while len(asked(world, "list")) == since:
        await world.advance(10 * MINUTE)
    next_drift = asked(world, "list")[-1].time / 1000 + 6 * 3600
    behave(world, list_lag=timedelta(seconds=90))
    await world.advance(next_drift - world.emulator.clock.now_ms() / 1000 - 70)
    names = await create_many(world, 8)
    await world.quiet()
    assert posts(world) == 9
    await world.advance(75)
    assert asked(world, "list")[-1].time / 1000 - next_drift < 5, "the list for drift"
    ready = await reasons(world, "Ready")
    assert {name: ready[name] for name in names} == dict.fromkeys(names, "Issued")


# --- someone else's -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cns", [A, AB], ids=["the same names", "more names"])
@pytest.mark.parametrize("how", ["the request is lost", "the operator is killed"])
async def test_an_old_certificate_of_someone_else_that_vercel_renews_in_place_is_not_what_came_of_a_lost_request(
    world: SimulatedWorld, cns: list[str], how: str
) -> None:
    """It was in the list before the attempt, under the same id. It was due soon, so the operator had to issue."""
    theirs(world, *cns, age=80 * DAY, left=10 * DAY)
    lost = fails(world, "issue", action="hang", when="before")
    await world.apply("site", A)
    await world.quiet(hanging=1)
    renewed_by_vercel(world, "cert_theirs", form="same-id")
    if how == "the operator is killed":
        await world.crash()
    lost.release("drop")
    if how == "the operator is killed":
        world.start()
    await world.quiet()
    await world.advance(HOUR)
    assert await world.ready("site") == ("True", "Issued")
    status = await world.status("site")
    assert status["id"] != "cert_theirs" or status["origin"] == "Found"
    await deleted(world)
    assert "cert_theirs" in world.live()


async def test_a_post_that_vercel_answers_by_renewing_someone_elses_certificate_makes_nothing_ours(
    world: SimulatedWorld,
) -> None:
    """In place: the same id with new times."""
    theirs(world, *A, age=80 * DAY, left=10 * DAY)
    renew = world.emulator.state.renew

    def issued_in_place(cns: Any, **more: Any) -> Any:
        return renew("cert_theirs", Renewal(form="same-id"))

    world.emulator.state.issue = issued_in_place  # type: ignore[method-assign]
    await world.apply("site", A)
    await world.quiet()
    assert (await world.status("site"))["id"] == "cert_theirs"
    assert (await world.status("site"))["origin"] == "Found"
    await deleted(world)
    assert "cert_theirs" in world.live()


async def test_a_renewal_by_vercel_of_someone_elses_certificate_is_not_what_came_of_a_lost_request(
    world: SimulatedWorld,
) -> None:
    """Under a new id. The list showed that somebody else has these names, and that theirs renews by itself."""
    theirs(world, *A, age=80 * DAY, left=10 * DAY)
    lost = fails(world, "issue", action="hang", when="before")
    await world.apply("site", A)
    await world.quiet(hanging=1)
    assert (await world.status("site"))["sharedNames"] is True
    renewed_by_vercel(world, "cert_theirs", id="cert_theirs_2")
    lost.release("drop")
    await world.quiet()
    await world.advance(HOUR)
    assert await world.ready("site") == ("True", "Issued")
    await deleted(world)
    assert "cert_theirs_2" in world.live()


async def test_more_names_that_a_colleague_issues_during_the_search_are_not_the_operators(
    world: SimulatedWorld,
) -> None:
    """docs/how-it-works.md: what is found has exactly the attempt's names."""
    fails(world, "issue", action="reset")
    await world.apply("site", A)
    await world.quiet()
    theirs(world, *A, "www.a.example.com", age=timedelta())
    await world.advance(HOUR)
    assert await world.ready("site") == ("True", "Issued")
    await deleted(world)
    assert "cert_theirs" in world.live()


# --- a list that is no longer true ----------------------------------------------------------------------------------


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


# --- nothing is stuck -----------------------------------------------------------------------------------------------


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


# --- a resource that only another finalizer holds ---------------------------------------------------------------------


# --- renewals by Vercel ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", [1, 20, 44, 46, 58])
async def test_a_renewal_by_vercel_at_any_time_that_removes_the_old_one_is_taken(
    world: SimulatedWorld, day: int
) -> None:
    await world.apply("site", A)
    await world.quiet()
    [first] = await held(world)
    await world.advance(day * DAY)
    renewed_by_vercel(world, first, id="cert_renewed", removes_old=True)
    await world.advance(DAY)
    assert posts(world) == 1
    assert await held(world) == ["cert_renewed"]
    assert (await world.status("site"))["origin"] == "Issued"
    await deleted(world)
    assert world.live() == {}


@pytest.mark.parametrize("days", [4, 13])
async def test_a_vercel_that_renews_all_the_time_is_followed_or_reported(world: SimulatedWorld, days: int) -> None:
    """Under new ids, in the first half too, and leaves the old ones."""
    await world.apply("site", A)
    await world.quiet()
    [newest] = await held(world)
    for number in range(12):
        await world.advance(days * DAY)
        newest = renewed_by_vercel(world, newest, id=f"cert_r{number}").id
        if newest not in world.live():
            break
    await world.advance(2 * DAY)
    assert await world.ready("site") == ("True", "Issued")
    assert posts(world) <= 3
    notes = " ".join(await said(world))
    lost = [one for one in world.live() if one not in await held(world) and one not in notes]
    assert lost == []


# --- odd moments ----------------------------------------------------------------------------------------------------


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


async def test_everything_that_is_left_is_named_after_a_year_of_a_token_that_may_not_remove(
    world: SimulatedWorld,
) -> None:
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
