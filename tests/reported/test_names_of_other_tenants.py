"""A tenant claims the names of others, with tokens that are no use for them. It takes nothing, and learns nothing."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from reported.acts import behave
from reported.test_fair_tokens import EVIL, NAMES, TENANTS, Town, counted_rounds, grants, hangs, simulated
from support import invariants
from support.acting import DAY, HOUR, MINUTE, REF, asked, put_secret
from support.memory_api import ApiFault
from support.world import TOKEN
from vercel_certificate_operator.core.resource import FINALIZER
from vercel_emulator.models import Fault, Injection, TokenGrant

TEAM = {"id": "team_alpha"}
DRIFT = 6 * 3600.0
"""Seconds."""


@pytest.fixture(params=["*", "web"])
async def town(request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    """Everyone may use the default token, or only the namespace of the others."""
    async with simulated(Town, request.param, drift_interval=DRIFT) as made:
        grants(made)
        with made.at("evil"):
            await put_secret(made, EVIL)
        yield made


@pytest.fixture
async def team() -> AsyncIterator[Town]:
    """The others have a token for a team."""
    async with simulated(Town, "web", drift_interval=DRIFT) as made:
        grants(made)
        await put_secret(made, TOKEN)
        with made.at("evil"):
            await put_secret(made, EVIL)
        yield made


async def ours(town: Town) -> int:
    """Returns how many certificates the others have for the names."""
    return sum(one.cns == NAMES and one.scope != "personal:evil" for one in town.emulator.state.live())


# --- a certificate in one's own account ------------------------------------------------------------------------------


async def test_a_certificate_of_an_own_account_keeps_no_names_of_the_default_tokens_account(town: Town) -> None:
    with town.at("evil"):
        await town.apply("x", NAMES, tokenSecretRef=REF)
        await town.quiet()
        assert await town.ready("x") == ("True", "Issued")
        await town.apply("x", NAMES)
        await town.quiet()
    await town.apply("site", NAMES)
    await town.quiet()
    assert await town.ready("site") == ("True", "Issued")


async def test_a_certificate_of_an_own_account_prevents_no_renewal_with_the_default_token(town: Town) -> None:
    """Nor does it make the names shared: what another account has is nobody's business."""
    behave(town, lifetime=9 * DAY)
    with town.at("evil"):
        await town.apply("x", NAMES, tokenSecretRef=REF)
        await town.quiet()
    await town.advance(HOUR)
    await town.apply("site", NAMES)
    await town.quiet()
    first = (await town.status("site"))["id"]
    await town.advance(4 * DAY)
    with town.at("evil"):
        await town.annotate("x", "renew", "1")
        await town.quiet()
        await town.apply("x", NAMES, suspend=True)
        await town.quiet()
    await town.advance(5.1 * DAY)
    status = await town.status("site")
    assert await town.ready("site") == ("True", "Issued")
    assert status["id"] != first
    assert "sharedNames" not in status


async def test_a_certificate_of_an_own_team_keeps_no_names_of_another_team(team: Town) -> None:
    team.emulator.accounts.grant(TokenGrant(token=EVIL, user="evil", teams=["team_beta"]))
    with team.at("evil"):
        await team.apply("x", NAMES, tokenSecretRef=REF, team={"id": "team_beta"})
        await team.quiet()
        assert await team.ready("x") == ("True", "Issued")
        await team.apply("x", NAMES, tokenSecretRef=REF, team=TEAM)
        await team.quiet()
    await team.apply("site", NAMES, tokenSecretRef=REF, team=TEAM)
    await team.quiet()
    assert await team.ready("site") == ("True", "Issued")


async def test_an_attempt_in_an_own_account_holds_up_nobody_in_that_of_the_default_token_for_long(town: Town) -> None:
    hangs(town, "issue", token=EVIL)
    with town.at("evil"):
        await town.apply("x", NAMES, tokenSecretRef=REF, existingCertificate="Ignore")
        await town.quiet(hanging=1)
        await town.apply("x", NAMES, existingCertificate="Ignore")
        await town.quiet(hanging=1)
    await town.apply("site", NAMES)
    await town.quiet(hanging=1)
    await town.advance(4 * MINUTE, hanging=1)
    assert await town.ready("site") == ("True", "Issued")


# --- a resource that can't get a certificate -------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["vercel", "missing"])
async def test_who_can_not_use_a_team_owns_no_names_in_it(team: Town, secret: str) -> None:
    with team.at("evil"):
        await team.apply("x", NAMES, tokenSecretRef={"name": secret, "key": "token"}, team=TEAM)
        await team.quiet()
    await team.advance(HOUR)
    await team.apply("site", NAMES, tokenSecretRef=REF, team=TEAM)
    await team.quiet()
    await team.advance(10 * MINUTE)
    assert await team.ready("site") == ("True", "Issued")


async def test_who_may_not_use_the_default_token_owns_no_names_of_its_account(team: Town) -> None:
    with team.at("evil"):
        await team.apply("x", NAMES)
        await team.quiet()
    await team.advance(HOUR)
    await team.apply("site", NAMES)
    await team.quiet()
    assert await team.ready("site") == ("True", "Issued")


async def test_attempts_that_hang_in_a_team_of_others_hold_up_nobody_for_long(team: Town) -> None:
    hangs(team, "issue", token=EVIL)
    with team.at("evil"):
        for number in range(5):
            await team.apply(f"x-{number}", NAMES, tokenSecretRef=REF, team=TEAM, existingCertificate="Ignore")
        await team.quiet(hanging=1)
    await team.apply("site", NAMES, tokenSecretRef=REF, team=TEAM)
    await team.quiet(hanging=1)
    await team.advance(4 * MINUTE, hanging=1)
    assert await team.ready("site") == ("True", "Issued")


async def test_of_two_namespaces_with_one_token_one_gets_a_certificate_and_the_other_waits(town: Town) -> None:
    for namespace in ("mean", "web"):
        with town.at(namespace):
            await put_secret(town, TOKEN)
            await town.apply("site", NAMES, tokenSecretRef=REF, team=TEAM)
    await town.quiet()
    await town.advance(HOUR)
    found = []
    for namespace in ("mean", "web"):
        with town.at(namespace):
            found.append(await town.ready("site"))
    assert sorted(found) == [("False", "DuplicateOf"), ("True", "Issued")]
    assert await ours(town) == 1


# --- what it learns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [{"team": TEAM}, {"team": TEAM, "tokenSecretRef": REF}, {}])
async def test_who_can_not_list_a_scope_learns_no_name_of_who_has_certificates_in_it(
    team: Town, spec: dict[str, Any]
) -> None:
    await team.apply("secret-project", NAMES, **spec)
    await team.quiet()
    assert await team.ready("secret-project") == ("True", "Issued")
    if "team" in spec:
        spec["tokenSecretRef"] = {"name": "missing", "key": "token"}
    with team.at("evil"):
        await team.apply("x", NAMES, **spec)
        await team.quiet()
        await team.advance(HOUR)
        ready, reason, message = await team.condition("x", "Ready")
        said = f"{await team.get('x')} {await invariants.events(team)}"
    assert (ready, reason) == ("False", "DuplicateOf")
    assert message.startswith("A resource of another namespace owns the certificate for shop.example.com in ")
    assert "secret-project" not in said


async def test_who_can_list_the_scope_learns_who_owns_the_names(team: Town) -> None:
    await team.apply("site", NAMES, tokenSecretRef=REF, team=TEAM)
    await team.quiet()
    with team.at("mean"):
        await put_secret(team, TOKEN)
        await team.apply("site", NAMES, tokenSecretRef=REF, team=TEAM)
        await team.quiet()
        _, _, message = await team.condition("site", "Ready")
    assert message.startswith("web/site owns the certificate for shop.example.com in team team_alpha.")


async def test_an_id_that_others_hold_is_refused_like_one_that_nobody_holds(team: Town) -> None:
    await team.apply("site", NAMES, tokenSecretRef=REF, team=TEAM)
    await team.quiet()
    held, nobodys = (await team.status("site"))["id"], "cert_nobodys0000000000000000"
    with team.at("evil"):
        for name, one in (("x", held), ("y", nobodys)):
            await team.apply(name, ["evil.example.com"] if name == "x" else ["more.example.com"], tokenSecretRef=REF)
            await team.quiet()
            await team.annotate(name, "adopt-id", one)
            await team.quiet()
        notes = [one["note"] for one in await invariants.events(team) if one["reason"] == "AdoptionRefused"]
    assert len({note.replace(held, nobodys).replace("evil.", "more.") for note in notes}) == 1
    assert len(notes) == 2


# --- certificates that others can't read -----------------------------------------------------------------------------


async def test_ids_that_a_token_may_not_read_hold_up_no_first_certificate(team: Town) -> None:
    """Vercel may answer 403 for what is in another account."""
    with team.at("evil"):
        await team.apply("x", NAMES, tokenSecretRef=REF)
        await team.quiet()
        held = (await team.status("x"))["id"]
    team.emulator.faults.add(Fault(call="get", id=held, token=TOKEN, status=403, times=None))
    await team.apply("site", NAMES, tokenSecretRef=REF)
    await team.quiet()
    assert await team.ready("site") == ("True", "Issued")
    assert sum(one.path.endswith(held) for one in asked(team, "get", token=TOKEN)) == 1


async def test_certificates_of_others_do_not_hide_the_owner_in_the_same_namespace(team: Town) -> None:
    """Two Secrets have tokens of the same account, and its list may be some minutes old."""
    created = int(team.clock.now().timestamp() * 1000) - 30 * 86_400_000
    for number in range(700):
        team.emulator.state.inject(
            Injection(cns=["old.example.com"], scope="personal:user", created_at=created - number * 1000)
        )
    second = "second-token-of-the-same-account"
    team.emulator.accounts.grant(TokenGrant(token=second, user="user", teams=[]))
    await put_secret(team, second, name="second")
    await team.apply("other", ["other.example.com"], tokenSecretRef={"name": "second", "key": "token"})
    await team.quiet()
    await team.apply("one", NAMES, tokenSecretRef=REF)
    await team.quiet()
    await team.advance(10)
    with team.at("evil"):
        for number in range(25):
            grants(team, f"{EVIL}-{number:04}", user=f"evil-{number}")
            await put_secret(team, f"{EVIL}-{number:04}", name=f"vercel-{number}")
            await team.apply(f"x-{number}", NAMES, tokenSecretRef={"name": f"vercel-{number}", "key": "token"})
            await team.quiet()
    await team.apply("two", NAMES, tokenSecretRef={"name": "second", "key": "token"})
    await team.quiet()
    await team.advance(5 * MINUTE)
    assert await team.ready("two") == ("False", "DuplicateOf")
    assert sum(one.cns == NAMES and one.scope == "personal:user" for one in team.emulator.state.live()) == 1


# --- namespaces that share a token -----------------------------------------------------------------------------------


class City(Town):
    """Many namespaces, which all use the default token."""

    spaces = tuple(f"ns-{number}" for number in range(40))

    @property
    def watched(self) -> tuple[str, ...]:
        return (*TENANTS, *self.spaces)


@pytest.fixture
async def city() -> AsyncIterator[City]:
    async with simulated(City, "*", drift_interval=DRIFT) as made:
        yield made


@pytest.mark.parametrize("spaces", [2, 10])
async def test_after_a_request_without_an_answer_those_who_have_waited_take_turns(city: City, spaces: int) -> None:
    hang = hangs(city, "issue", times=1)
    await city.apply("site", NAMES)
    await city.quiet(hanging=1)
    for namespace in City.spaces[:spaces]:
        with city.at(namespace):
            await city.apply("site", NAMES)
    await city.quiet(hanging=1)
    await city.advance(5 * MINUTE, hanging=1)
    hang.end("drop")
    await city.quiet()
    await city.advance(HOUR)
    assert await ours(city) == 1


@pytest.mark.parametrize("finalizers", [[], [FINALIZER]], ids=["new", "with our finalizer"])
@pytest.mark.parametrize("fault", [None, {"status": 500}, {"status": None}, {"status": None, "done": True}])
async def test_of_two_namespaces_that_find_a_certificate_one_uses_it_and_the_other_issues_none(
    city: City, finalizers: list[str], fault: dict[str, Any] | None
) -> None:
    created = int(city.clock.now().timestamp() * 1000) - 86_400_000
    city.emulator.state.inject(Injection(cns=NAMES, scope="personal:user", created_at=created))
    for namespace in ("mean", "web"):
        with city.at(namespace):
            await city.apply("site", NAMES)
            await city.patch("site", {"metadata": {"finalizers": finalizers}})
    if fault is not None:
        city.memory.faults.append(ApiFault("PATCH", times=1, **fault))
    await city.quiet()
    await city.advance(10 * MINUTE)
    assert asked(city, "issue") == []


async def test_whose_secret_is_renamed_keeps_its_names_although_the_new_one_comes_later(town: Town) -> None:
    """An older resource of the same namespace must not seem to own them."""
    behave(town, lifetime=9 * DAY)
    first, second = ({"name": name, "key": "token"} for name in ("one", "two"))
    await put_secret(town, TOKEN, name="one")
    await town.apply("older", ["older.example.com"], tokenSecretRef=first)
    await town.quiet()
    await town.advance(10)
    await town.apply("site", NAMES, tokenSecretRef=first)
    await town.quiet()
    await town.apply("older", NAMES, tokenSecretRef=first)
    await town.quiet()
    before = (await town.status("site"))["id"]
    for name in ("site", "older"):
        await town.apply(name, NAMES, tokenSecretRef=second)
    await town.quiet()
    await town.advance(MINUTE)
    await put_secret(town, TOKEN, name="two")
    await town.advance(7 * DAY)
    assert await town.ready("site") == ("True", "Issued")
    assert (await town.status("site"))["id"] != before


@pytest.mark.parametrize("spaces", [5, 20])
async def test_who_enters_names_that_nobody_has_a_certificate_for_causes_others_no_work(
    city: City, spaces: int
) -> None:
    city.emulator.faults.add(Fault(call="issue", status=449, code="dns_error", times=None))
    for namespace in City.spaces[:spaces]:
        with city.at(namespace):
            await city.apply("site", NAMES, team=TEAM)
    await city.quiet()
    await city.advance(2 * HOUR)
    rounds = counted_rounds(city)
    with city.at("evil"):
        for _ in range(10):
            for cns in (NAMES, ["x.evil.example"]):
                await city.apply("x", cns, team=TEAM, suspend=True)
                await city.quiet()
    assert rounds.total() <= 80


async def test_another_secret_with_the_same_token_ends_no_wait(town: Town) -> None:
    town.emulator.faults.add(Fault(call="issue", status=449, code="dns_error", times=None))
    await put_secret(town, TOKEN, name="one")
    await put_secret(town, TOKEN, name="two")
    await town.apply("site", NAMES, tokenSecretRef={"name": "one", "key": "token"})
    await town.quiet()
    await town.advance(3 * HOUR)
    before = len(asked(town, "issue"))
    await town.apply("site", NAMES, tokenSecretRef={"name": "two", "key": "token"})
    await town.quiet()
    assert len(asked(town, "issue")) == before
