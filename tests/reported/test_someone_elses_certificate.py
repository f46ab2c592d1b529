"""Someone else's certificate is never removed, and a certificate that may be someone else's isn't either."""

import json
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
    replaced,
    said,
    theirs,
)
from support.acting import DAY, HOUR, MINUTE, REF, advance_to, asked, events, notes, put_secret, seconds_until
from support.memory_api import SimulatedWorld, simulated_world
from support.world import OTHER_TOKEN
from vercel_emulator.models import TokenGrant

ATTEMPT = {"id": "x", "start": "2020-01-01T00:00:00Z", "generation": 1, "clockOffset": 0}
"""As version 0 of the operator wrote it into the annotation vercel-operator.io/attempt."""


# --- an annotation that anyone may write ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "forged",
    [
        {"cns": ["shop.example.com"]},
        {"cns": ["mine.example.com"], "replaces": ["cert_theirs"]},
        {"cns": ["shop.example.com"], "replaces": ["cert_theirs"], "outcome": "Issued"},
    ],
    ids=["someone else's names", "replaces", "with an outcome"],
)
@pytest.mark.parametrize("suspend", [False, True], ids=["active", "suspended at first"])
async def test_an_attempt_that_a_user_wrote_by_hand_gets_no_certificate_removed(
    forged: dict[str, Any], suspend: bool
) -> None:
    """The user may edit the resource, and nothing else."""
    async with simulated_world() as world:  # the default token serves all namespaces, and none is named
        victim = theirs(world, "shop.example.com")
        await world.apply("mine", ["mine.example.com"], suspend=suspend)
        await world.quiet()
        uid = (await world.get("mine") or {})["metadata"]["uid"]
        await world.annotate("mine", "attempt", json.dumps({**ATTEMPT, "uid": uid, **forged}))
        await world.advance(MINUTE)
        assert "cert_theirs" not in await held(world, "mine")
        await world.patch("mine", {"spec": {"suspend": False}, "metadata": {"finalizers": ["vercel-operator.io/x"]}})
        await world.patch("mine", {"metadata": {"finalizers": None}})
        await world.annotate("mine", "renew", "1")
        await world.quiet()
        await world.advance(20 * MINUTE)
        await world.delete("mine")
        await world.advance(MINUTE)
        assert await world.get("mine") is None
        assert list(world.live()) == [victim.id]


async def test_a_manifest_with_the_annotation_of_an_older_version_is_like_any_other(world: SimulatedWorld) -> None:
    attempt = json.dumps({**ATTEMPT, "uid": "of another object", "cns": ["example.com"]})
    await world.apply("site", ["example.com"], annotations={"vercel-operator.io/attempt": attempt})
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert posts(world) == 1


# --- the user's own certificate for the same names --------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
@pytest.mark.parametrize("auto_renew", [False, True], ids=["uploaded", "issued by someone else"])
@pytest.mark.parametrize("days", [1, 50], ids=["early in its life", "late in its life"])
async def test_a_certificate_that_the_user_made_for_the_same_names_is_never_removed(
    world: SimulatedWorld, policy: str, auto_renew: bool, days: int
) -> None:
    """Nobody has asked for it to be adopted."""
    await world.apply("site", ["a.example.com"], deletionPolicy=policy, renewBefore="720h")
    await world.quiet()
    before = await held(world)
    await world.advance(DAY)
    if auto_renew and days > 45:
        # Seen once, it shows that somebody else makes certificates for these names.
        theirs(world, "a.example.com", id="cert_first", age=timedelta(), left=20 * DAY, auto_renew=False)
        await world.advance(DAY)
    await world.advance(days * DAY)
    own = theirs(world, "a.example.com", age=timedelta(), left=300 * DAY, auto_renew=auto_renew)
    await world.advance(DAY)
    assert await held(world) == before, "it is not taken for a renewal by Vercel"
    assert (await world.status("site"))["sharedNames"] is True
    for value in ("1", "2"):
        await world.annotate("site", "renew", value)
        await world.quiet()
        await world.advance(HOUR)
    await world.delete("site")
    await world.advance(HOUR)
    assert await world.get("site") is None
    assert own.id in world.live()


async def test_a_certificate_that_the_user_made_is_used_without_a_certificate_of_our_own_and_never_removed(
    world: SimulatedWorld,
) -> None:
    own = theirs(world, "a.example.com", auto_renew=False)
    await world.apply("site", ["a.example.com"])
    await world.quiet()
    status = await world.status("site")
    assert (status["id"], status["origin"], posts(world)) == (own.id, "Found", 0)
    await advance_to(world, status["renewalTime"], plus=1)
    assert posts(world) == 1
    await world.advance(HOUR)
    assert own.id in world.live()
    assert await held(world) == [next(iter(set(world.live()) - {own.id}))]
    [note] = await notes(world, "site", "Retained")
    assert f"Left at Vercel: {own.id}, which was replaced. The operator did not issue it" in note
    await world.delete("site")
    await world.advance(HOUR)
    assert list(world.live()) == [own.id]


async def test_a_found_certificate_stays_when_its_resource_is_deleted_and_an_event_names_it(
    world: SimulatedWorld,
) -> None:
    own = theirs(world, "a.example.com")
    await world.apply("site", ["a.example.com"])
    await world.quiet()
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert list(world.live()) == [own.id]
    [note] = await notes(world, "site", "Deleted")
    assert f"Left at Vercel: {own.id}, since the operator did not issue it" in note


async def test_a_renewal_by_vercel_of_a_found_certificate_stays_too(world: SimulatedWorld) -> None:
    own = theirs(world, "a.example.com", age=30 * DAY, left=60 * DAY)
    await world.apply("site", ["a.example.com"])
    await world.quiet()
    renewed_by_vercel(world, own.id, form="same-id")
    await world.advance(DAY)
    assert (await world.status("site"))["origin"] == "Found"
    await world.delete("site")
    await world.advance(HOUR)
    assert list(world.live()) == [own.id]


async def test_a_status_without_an_origin_removes_nothing(world: SimulatedWorld) -> None:
    """Another version of the operator wrote it, or someone who may write /status."""
    victim = theirs(world, "shop.example.com")
    await world.apply("site", ["a.example.com"], suspend=True)
    await world.quiet()
    for status in ({"id": victim.id}, {"superseded": [{"id": victim.id, "since": "2020-01-01T00:00:00Z"}]}):
        await world.patch_status("site", status)
        await world.quiet()
    await world.apply("site", ["a.example.com"])
    await world.advance(DAY)
    await world.delete("site")
    await world.advance(HOUR)
    assert await world.get("site") is None
    assert list(world.live()) == [victim.id]


# --- an adopted certificate that Vercel renews ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "renewal",
    [
        {"form": "same-id"},
        {"form": "new-id"},
        {"form": "new-id", "removesOld": True},
        {"form": "new-id", "backdate": "1h"},
        {"form": "same-id", "movesCreatedAt": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("down", [False, True], ids=["while the operator runs", "while it is down"])
async def test_an_adopted_certificate_with_more_names_stays_adopted_when_vercel_renews_it(
    world: SimulatedWorld, renewal: dict[str, Any], down: bool
) -> None:
    theirs(world, "example.com", "www.example.com", "shop.example.com", id="cert_byhand", age=58 * DAY, left=32 * DAY)
    adopt = {"vercel-operator.io/adopt-id": "cert_byhand"}
    await world.apply("site", ["example.com"], annotations=adopt, renewBefore="240h")
    await world.quiet()
    assert await held(world) == ["cert_byhand"]
    await world.advance(2 * DAY)
    if down:
        await world.crash()
        renewed_by_vercel(world, "cert_byhand", **renewal)
        await world.clock.advance(25 * 86400.0)  # past the operator's own renewal time
        world.start()
        await world.quiet()
    else:
        renewed_by_vercel(world, "cert_byhand", **renewal)
    await world.advance(3 * DAY)
    assert posts(world) == 0, "Vercel renews it by itself: nothing is to be issued"
    status = await world.status("site")
    assert status["origin"] == "Adopted"
    assert status["cns"] == ["example.com", "shop.example.com", "www.example.com"]
    assert seconds_until(world, status["expiresAt"]) > 60 * 86400
    assert list(world.live()) == [status["id"]], "and the renewed one is removed as the adopted one would be"


async def test_names_that_vercel_adds_at_a_renewal_are_kept(world: SimulatedWorld) -> None:
    behave(world, lifetime=30 * DAY)
    await world.apply("site", ["example.com"], renewBefore="240h")
    await world.quiet()
    [first] = await held(world)
    await world.advance(16 * DAY)
    renewed_by_vercel(world, first, form="same-id", adds=["www.example.com"])
    await world.advance(DAY)
    status = await world.status("site")
    assert (status["id"], status["origin"], status["cns"]) == (first, "Issued", ["example.com", "www.example.com"])
    assert posts(world) == 1


# --- a token of another account ---------------------------------------------------------------------------------------


async def in_account(world: SimulatedWorld, *names: str) -> None:
    """Resources whose token will be switched: it is in the Secret ``mine``, and ``theirs`` is for another account."""
    world.emulator.accounts.grant(TokenGrant(token=STRANGERS_TOKEN, user="someone"))
    await put_secret(world, OTHER_TOKEN, name="mine")
    await put_secret(world, STRANGERS_TOKEN, name="theirs")
    for name in names:
        await world.apply(name, [f"{name}.example.com"], tokenSecretRef={"name": "mine"})
    await world.quiet()


async def switch(world: SimulatedWorld, how: str, *names: str) -> None:
    if how == "another Secret":
        for name in names:
            await world.apply(name, [f"{name}.example.com"], tokenSecretRef={"name": "theirs"})
    else:
        await put_secret(world, STRANGERS_TOKEN, name="mine")
        await world.advance(2 * MINUTE)
    await world.quiet()


HOW = pytest.mark.parametrize("how", ["another Secret", "another token in the Secret"])


@HOW
@pytest.mark.parametrize("count", [1, 8])
async def test_with_the_token_of_another_account_nothing_is_issued_and_nothing_counts_as_gone(
    world: SimulatedWorld, how: str, count: int
) -> None:
    names = [f"site-{number}" for number in range(count)]
    await in_account(world, *names)
    before = {name: await held(world, name) for name in names}
    await switch(world, how, *names)
    await world.advance(3 * DAY)
    assert posts(world) == count
    assert {name: await held(world, name) for name in names} == before
    assert len(world.live()) == count
    assert not await said(world, "CertificateGone", "Deleted")
    for name in names:
        issuing, reason, message = await world.condition(name, "Issuing")
        assert (issuing, reason) in (("False", "ScopeChanged"), ("False", "ScopeVanished"))
        assert "token" in message

    await put_secret(world, OTHER_TOKEN, name="mine")  # put right again
    for name in names:
        await world.apply(name, [f"{name}.example.com"], tokenSecretRef={"name": "mine"})
    await world.advance(DAY)
    assert posts(world) == count
    for name in names:
        assert await world.ready(name) == ("True", "Issued")
        assert await world.issuing(name) == ("False", "Issued")


@HOW
async def test_a_deletion_with_the_token_of_another_account_does_not_say_that_the_certificate_was_removed(
    world: SimulatedWorld, how: str
) -> None:
    await in_account(world, "site")
    [certificate_id] = await held(world)
    await switch(world, how, "site")
    await world.delete("site")
    await world.advance(HOUR)
    assert await world.get("site") is None
    assert list(world.live()) == [certificate_id]
    [note] = await said(world, "Deleted")
    assert note.startswith("Not found with ")
    assert note.endswith(f": {certificate_id}.")


@HOW
async def test_a_user_who_moves_to_another_account_confirms_it_by_the_renew_annotation(
    world: SimulatedWorld, how: str
) -> None:
    await in_account(world, "site")
    [first] = await held(world)
    await switch(world, how, "site")
    await world.advance(DAY)
    assert await world.issuing("site") == ("False", "ScopeChanged")
    await world.annotate("site", "renew", "moved")
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert posts(world) == 2
    [second, *_] = await held(world)
    scopes = {certificate.id: certificate.scope for certificate in world.emulator.state.live()}
    assert scopes == {first: "personal:user", second: "personal:someone"}
    await world.advance(DAY)
    assert posts(world) == 2
    assert await world.issuing("site") == ("False", "Issued")


async def test_another_token_of_the_same_account_changes_nothing(world: SimulatedWorld) -> None:
    await put_secret(world, OTHER_TOKEN)
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    before = await held(world)
    world.emulator.accounts.grant(TokenGrant(token="rotated-token-0123456789"))
    world.emulator.accounts.revoke(OTHER_TOKEN)
    await put_secret(world, "rotated-token-0123456789")
    await world.advance(DAY)
    assert await held(world) == before
    assert await world.issuing("site") == ("False", "Issued")
    await world.annotate("site", "renew", "1")
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert len(asked(world, "issue", token="rotated-token-0123456789")) == 1


# --- an answer with another certificate -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "left"),
    [(20 * DAY, 10 * DAY), (20 * DAY, 29 * DAY), (30 * DAY, -HOUR), (7 * DAY, 23 * DAY)],
    ids=["older and ending earlier", "older and ending a day earlier", "expired", "a bit older"],
)
@pytest.mark.parametrize("why", ["a renewal request", "the renewal time"])
async def test_a_post_that_answers_with_an_older_certificate_displaces_no_better_one(
    world: SimulatedWorld, age: timedelta, left: timedelta, why: str
) -> None:
    behave(world, lifetime=30 * DAY)
    await world.apply("site", ["a.example.com"], existingCertificate="Ignore")
    await world.quiet()
    [good] = await held(world)
    await world.advance(HOUR)
    older = theirs(world, "a.example.com", id="cert_old", age=age, left=left)
    fails(world, "issue", None, action="other-certificate", certificate="cert_old", when="after")
    if why == "a renewal request":
        await world.annotate("site", "renew", "1")
        await world.quiet()
    else:
        await advance_to(world, (await world.status("site"))["renewalTime"], plus=1)
    assert (await world.status("site"))["id"] == good
    [note] = await said(world, "NotRenewed", "UnexpectedAnswer")
    assert "cert_old" in note
    await world.advance(DAY)
    assert {good, older.id} <= set(world.live())
    assert (await world.status("site"))["id"] == good


async def test_a_post_that_answers_with_a_certificate_from_before_makes_it_found(world: SimulatedWorld) -> None:
    """It may be someone else's: the operator uses it and never removes it."""
    own = theirs(world, "a.example.com", age=HOUR, left=80 * DAY)
    behave(world, reissue="old")
    await world.apply("site", ["a.example.com"], existingCertificate="Ignore")
    await world.quiet()
    status = await world.status("site")
    assert (status["id"], status["origin"]) == (own.id, "Found")
    assert await world.ready("site") == ("True", "Issued")
    await world.delete("site")
    await world.advance(HOUR)
    assert list(world.live()) == [own.id]


async def test_a_certificate_that_another_resource_holds_is_not_removed_with_this_one(world: SimulatedWorld) -> None:
    """A POST answers with the certificate of another resource: with other names in spec, that has them all."""
    await world.apply("one", ["a.example.com", "b.example.com"])
    await world.quiet()
    [shared] = await held(world, "one")
    fails(world, "issue", None, action="other-certificate", certificate=shared, when="after")
    await world.apply("two", ["a.example.com"])
    await world.quiet()
    assert (await world.status("two"))["origin"] == "Found"
    await world.delete("two")
    await world.advance(HOUR)
    assert await world.get("two") is None
    assert shared in world.live()
    assert await world.ready("one") == ("True", "Issued")


async def test_a_certificate_that_is_uploaded_while_an_answer_is_lost_is_used_and_not_removed(
    world: SimulatedWorld,
) -> None:
    """Vercel had not carried out the request. The upload was the only certificate that could be its outcome."""
    fails(world, "issue", action="reset")
    await world.apply("site", ["shop.example.com"])
    await world.quiet()
    own = theirs(world, "shop.example.com", age=timedelta(), auto_renew=False)
    await world.advance(HOUR)
    status = await world.status("site")
    assert (status["id"], status["origin"]) == (own.id, "Found")
    await world.delete("site")
    await world.advance(HOUR)
    assert own.id in world.live()


# --- tools that write metadata ----------------------------------------------------------------------------------------


async def test_a_resource_that_is_replaced_by_its_manifest_keeps_its_record_and_gets_its_finalizer_back(
    world: SimulatedWorld,
) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    before = await held(world)
    await replaced(world, "site")
    await world.quiet()
    body = await world.get("site")
    assert body is not None
    assert body["metadata"]["finalizers"] == ["vercel-operator.io/certificate"]
    assert await held(world) == before
    assert posts(world) == 1
    assert len(await events(world, "site", "Issued")) == 1


# --- a deletion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["another Secret", "another token in the Secret"])
async def test_a_deletion_with_the_token_of_another_account_removes_nothing_of_that_account(
    world: SimulatedWorld, how: str
) -> None:
    behave(world, lifetime=30 * DAY)
    world.emulator.accounts.grant(TokenGrant(token=STRANGERS_TOKEN, user="someone"))
    await put_secret(world, OTHER_TOKEN, name="mine")
    await put_secret(world, STRANGERS_TOKEN, name="theirs")
    await world.apply("site", ["example.com"], tokenSecretRef={"name": "mine"})
    await world.quiet()
    await world.advance(16 * DAY)
    theirs(world, "example.com", age=DAY, left=29 * DAY, scope="personal:someone")
    if how == "another Secret":
        await world.apply("site", ["example.com"], tokenSecretRef={"name": "theirs"})
    else:
        await put_secret(world, STRANGERS_TOKEN, name="mine")
        await world.advance(2 * MINUTE)
    await world.quiet()
    await world.delete("site")
    await world.quiet()
    assert "cert_theirs" in world.live()
    assert "cert_theirs" not in "".join(await said(world))


@pytest.mark.parametrize("operator", ["runs", "is down at the end"])
async def test_what_another_resource_retained_is_no_renewal(world: SimulatedWorld, operator: str) -> None:
    """The user named it for a second resource with the same names, and then deleted that one with Retain."""
    behave(world, lifetime=30 * DAY)
    await world.apply("a", ["example.com"])
    await world.quiet()
    [first] = world.live()
    await world.advance(16 * DAY)
    theirs(world, "example.com", age=timedelta(), left=30 * DAY)
    adopt = {"vercel-operator.io/adopt-id": "cert_theirs"}
    await world.apply("b", ["example.com"], annotations=adopt, deletionPolicy="Retain")
    await world.quiet()
    await world.delete("b")
    await world.quiet()
    assert "Left at Vercel: cert_theirs." in (await said(world, "Retained"))[0]
    if operator == "is down at the end":
        await world.restart()
    await world.advance(DAY)
    assert await held(world, "a") == [first]
    await world.advance(7 * DAY)
    await world.delete("a")
    await world.quiet()
    assert list(world.live()) == ["cert_theirs"]


async def test_a_list_that_is_wrong_gets_nothing_removed_with_the_resource(world: SimulatedWorld) -> None:
    behave(world, lifetime=30 * DAY)
    await world.apply("site", ["example.com"])
    await world.quiet()
    await world.advance(16 * DAY)
    wide = theirs(world, "x.example.com", "example.com", id="cert_wide", age=DAY, left=29 * DAY)
    listed = {"certs": [{**wide.public(), "cns": ["example.com"]}], "pagination": {"count": 1, "next": None}}
    fails(world, "list", action="raw", status=200, body=listed)
    await world.delete("site")
    await world.quiet()
    assert "cert_wide" in world.live()


# --- an answer that existed before ------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["a rate limit", "a list that fails once"])
async def test_what_someone_issued_after_an_older_list_is_found_although_it_is_back_dated(
    world: SimulatedWorld, why: str
) -> None:
    """Vercel answers the POST with the certificate that is there. Its createdAt is an hour before it was issued."""
    behave(world, backdate="1h", reissue="old")
    if why == "a rate limit":
        fails(world, "issue", status=429, code="rate_limited", headers={"Retry-After": "300"})
        await world.apply("site", ["example.com"])
        await world.quiet()
        await world.advance(4 * MINUTE)
        theirs(world, "example.com", age=HOUR, left=89 * DAY)
    else:
        await world.apply("other", ["other.example.com"])
        await world.quiet()
        await world.advance(2 * MINUTE)
        theirs(world, "example.com", age=HOUR, left=89 * DAY)
        fails(world, "list", status=500)
        await world.apply("site", ["example.com"])
        await world.quiet()
    await world.advance(10 * MINUTE)
    await world.delete("site")
    await world.quiet()
    assert "cert_theirs" in world.live()
