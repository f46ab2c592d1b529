"""One owner for a set of names, and the scope in which a certificate was issued."""

import asyncio
from typing import Any

import pytest

from support.acting import DAY, HOUR, MINUTE, REF, advance_to, asked, by_age, events, notes, put_secret, reasons
from support.world import OTHER_TOKEN, TOKEN, World
from vercel_emulator import Fault
from vercel_emulator.models import TokenGrant


async def apply_both(world: World, one: dict[str, Any], other: dict[str, Any]) -> tuple[str, str]:
    """Two resources at the same time; the older one's name, and the other's."""
    await world.apply("one", ["example.com", "www.example.com"], **one)
    await world.apply("other", ["www.example.com", "example.com"], **other)
    await world.quiet()
    owner, duplicate = await by_age(world)
    return owner, duplicate


async def test_the_oldest_owns_a_set_of_names_and_the_other_says_whose_duplicate_it_is(world: World) -> None:
    owner, duplicate = await apply_both(world, {}, {})
    assert await world.ready(owner) == ("True", "Issued")
    ready, reason, message = await world.condition(duplicate, "Ready")
    assert (ready, reason) == ("False", "DuplicateOf")
    owned = "owns the certificate for example.com, www.example.com in the token's personal account."
    assert f"{world.namespace}/{owner} {owned}" in message
    assert await world.issuing(duplicate) == ("False", "DuplicateOf")
    await world.advance(60 * MINUTE)
    assert world.calls() == ["list", "issue"]
    assert len(await events(world, duplicate, "DuplicateOf")) == 1


async def test_when_the_owner_goes_the_next_in_line_takes_over(world: World) -> None:
    for name in ("one", "two", "three"):
        await world.apply(name, ["example.com"])
    await world.quiet()
    first, second, third = await by_age(world)
    assert await world.ready(first) == ("True", "Issued")

    await world.delete(first)
    await world.quiet()
    assert await world.ready(second) == ("True", "Issued")
    assert await world.ready(third) == ("False", "DuplicateOf")
    await world.advance(HOUR + MINUTE)  # only the next in line is woken
    ready, reason, message = await world.condition(third, "Ready")
    assert (ready, reason) == ("False", "DuplicateOf")
    assert f"{world.namespace}/{second} owns the certificate for example.com" in message
    assert list(world.live()) == [(await world.status(second))["id"]]


async def test_when_the_owner_changes_its_names_the_next_in_line_takes_over(world: World) -> None:
    owner, duplicate = await apply_both(world, {}, {})
    await world.apply(owner, ["other.example.com"])
    await world.quiet()
    assert await world.ready(owner) == ("True", "Issued")
    assert await world.ready(duplicate) == ("True", "Issued")
    assert len(asked(world, "issue")) == 3


async def test_a_change_to_the_names_of_another_waits_for_that_one_and_keeps_what_it_has(world: World) -> None:
    await world.apply("one", ["a.example.com"])
    await world.apply("other", ["b.example.com"])
    await world.quiet()
    owner, other = await by_age(world)
    names = (await world.status(owner))["cns"]
    before = (await world.status(other))["id"]
    await world.apply(other, names)
    await world.quiet()
    assert await world.ready(other) == ("False", "DuplicateOf")
    assert (await world.status(other))["id"] == before
    assert len(world.live()) == 2
    await world.delete(owner)
    await world.quiet()
    assert await world.ready(other) == ("True", "Issued")


async def test_an_owner_whose_issuance_fails_is_the_owner_all_the_same(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", status=402, times=None))
    owner, duplicate = await apply_both(world, {}, {})
    assert await world.ready(owner) == ("False", "PaymentRequired")
    assert await world.ready(duplicate) == ("False", "DuplicateOf")
    assert world.calls() == ["list", "issue"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"team": {"id": "team_alpha"}}),
        ({"team": {"id": "team_beta"}}, {"team": {"id": "team_alpha"}}),
        ({}, {"tokenSecretRef": REF}),
    ],
    ids=["personal-and-team", "two-teams", "two-accounts"],
)
async def test_the_same_names_in_another_scope_are_another_need(
    world: World, one: dict[str, Any], other: dict[str, Any]
) -> None:
    world.emulator.accounts.grant(TokenGrant(token="token-of-another-user", user="another"))
    await put_secret(world, "token-of-another-user")
    await apply_both(world, one, other)
    await world.advance(10)  # where nobody can tell whether two scopes are the same, attempts take turns
    assert await world.ready("one") == ("True", "Issued")
    assert await world.ready("other") == ("True", "Issued")


async def test_the_same_account_by_another_token_is_the_same_scope(world: World) -> None:
    """No Secret is compared with another: Vercel says what is there."""
    await put_secret(world, OTHER_TOKEN)
    await put_secret(world, TOKEN, name="another")
    await apply_both(world, {"tokenSecretRef": REF}, {"tokenSecretRef": {"name": "another"}})
    await world.advance(10)
    assert sorted((await reasons(world, "Ready")).values()) == ["DuplicateOf", "Issued"]
    await world.advance(DAY)
    assert sorted((await reasons(world, "Ready")).values()) == ["DuplicateOf", "Issued"]
    assert len(asked(world, "issue")) == 1


async def test_names_that_only_overlap_are_no_duplicates(world: World) -> None:
    await asyncio.gather(world.apply("one", ["example.com"]), world.apply("other", ["example.com", "www.example.com"]))
    await world.quiet()
    assert await world.ready("one") == ("True", "Issued")
    assert await world.ready("other") == ("True", "Issued")


async def test_an_id_that_is_in_another_status_is_never_removed(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    status = await world.status("site")
    await world.apply("copy", ["example.com", "www.example.com"], suspend=True)
    await world.quiet()
    await world.patch_status("copy", {"id": status["id"]})
    await world.quiet()
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert not asked(world, "remove")
    assert list(world.live()) == [status["id"]]


# --- ScopeChanged


async def test_set_to_another_team_nothing_is_issued_and_that_is_reported(world: World) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    before = await world.status("site")
    world.configure(team_id="team_alpha")
    await world.restart()
    assert await world.ready("site") == ("True", "Issued")
    issuing, reason, message = await world.condition("site", "Issuing")
    assert (issuing, reason) == ("False", "ScopeChanged"), "at once, not only when the renewal is due"
    assert "was issued in the token's personal account, but the operator's default is now team team_alpha" in message

    await advance_to(world, before["renewalTime"], plus=1)
    after = await world.status("site")
    assert after["id"] == before["id"]
    assert await world.issuing("site") == ("False", "ScopeChanged")
    assert await world.ready("site") == ("True", "Issued")
    assert len(await events(world, "site", "ScopeChanged")) == 1
    assert len(asked(world, "issue")) == 1

    await advance_to(world, before["expiresAt"], plus=1)
    assert await world.ready("site") == ("False", "ScopeChanged")
    assert len(asked(world, "issue")) == 1

    world.configure(team_id=None)
    await world.restart()
    assert await world.ready("site") == ("True", "Issued")
    assert (await world.status("site"))["id"] != before["id"]


async def test_the_advice_of_scope_changed_moves_the_names_without_a_time_in_which_there_is_no_certificate(
    world: World,
) -> None:
    await world.apply("site", ["example.com"])
    await world.quiet()
    old = (await world.status("site"))["id"]
    world.configure(team_id="team_alpha")
    await world.restart()
    assert await world.issuing("site") == ("False", "ScopeChanged")

    world.configure(team_id=None)
    await world.restart()
    await world.apply("moved", ["example.com"], team={"id": "team_alpha"})
    await world.quiet()
    assert await world.ready("moved") == ("True", "Issued")
    new = (await world.status("moved"))["id"]
    assert set(world.live()) == {old, new}
    await world.delete("site")
    await world.quiet()
    assert set(world.live()) == {new}


async def test_the_advice_of_duplicate_of_hands_the_certificate_over(world: World) -> None:
    await world.apply("older", ["example.com"])
    await world.quiet()
    certificate_id = (await world.status("older"))["id"]
    await world.apply("site", ["example.com"])
    await world.quiet()
    assert await world.ready("site") == ("False", "DuplicateOf")
    await world.apply("older", ["example.com"], deletionPolicy="Retain")
    await world.delete("older")
    await world.quiet()
    assert (await world.status("site"))["id"] == certificate_id
    assert await world.ready("site") == ("True", "Issued")
    assert list(world.live()) == [certificate_id]
    assert len(asked(world, "issue")) == 1


async def test_set_to_another_team_a_deleted_resource_is_removed_where_it_was_issued(world: World) -> None:
    world.configure(team_id="team_alpha")
    await world.restart()
    await world.apply("site", ["example.com"])
    await world.quiet()
    certificate_id = (await world.status("site"))["id"]
    assert (await world.status("site"))["team"] == "team_alpha"
    world.configure(team_id="team_beta")
    await world.restart()
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert world.live() == {}
    [removal] = asked(world, "remove")
    assert removal.query == {"teamId": "team_alpha"}
    assert certificate_id in (await notes(world, "site", "Deleted"))[0]


async def test_a_team_that_is_named_by_its_slug_is_a_scope_like_any_other(world: World) -> None:
    await world.apply("site", ["example.com"], team={"slug": "alpha"})
    await world.quiet()
    assert (await world.status("site"))["team"] == "alpha"
    await world.delete("site")
    await world.quiet()
    assert [entry.query.get("slug") for entry in world.emulator.journal.since()] == ["alpha"] * 3
    assert world.live() == {}
