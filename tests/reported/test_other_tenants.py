"""What a tenant can do to others, and work that grows with the square of what one tenant has.

``squatters`` are resources of the namespace evil, with tokens of its own for accounts of its own at Vercel. The victim
is in another namespace, with another token, in a team that it names by id.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from reported.acts import behave, fails, posts, renewed_by_vercel, vercels_clock_is_ahead
from reported.test_fair_tokens import (
    EVIL,
    NAMES,
    Town,
    counted_rounds,
    grants,
    hangs,
    kept_certificates,
    operator_of,
    put_keys,
    simulated,
)
from support.acting import DAY, HOUR, MINUTE, REF, asked, put_secret
from support.memory_api import SimulatedWorld
from support.world import TOKEN
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.kube import tls_contents, tokens
from vercel_certificate_operator.list_room import Reading
from vercel_emulator.models import Fault, Injection


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with simulated(Town, "*", drift_interval=6 * 3600.0) as made:
        yield made


async def squatter(town: Town, number: int, **spec: Any) -> None:
    with town.at("evil"):
        text = f"{EVIL}-{number:04}"
        grants(town, text, user=f"evil-{number}")
        await put_secret(town, text, name=f"vercel-{number}")
        await town.apply(f"x-{number:03}", NAMES, tokenSecretRef={"name": f"vercel-{number}", "key": "token"}, **spec)


async def squatters(town: Town, number: int) -> None:
    for one in range(number):
        await squatter(town, one)


async def victim(town: Town, name: str = "site", **spec: Any) -> None:
    await put_secret(town, TOKEN)
    await town.apply(name, NAMES, tokenSecretRef=REF, **{"team": {"id": "team_alpha"}, **spec})


def patches(town: Town) -> int:
    return sum(one.method == "PATCH" for one in town.memory.asked)


# --- 1: names in another account ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 4])
async def test_open_attempts_of_a_tenant_delay_the_same_names_of_others_by_a_small_bound(
    town: Town, number: int
) -> None:
    """It used to be one hour for each."""
    hangs(town, "issue", cns=NAMES, team="personal")
    for one in range(number):
        await squatter(town, one)
        await town.quiet(hanging=1)
        await town.advance(1, hanging=1)
    await town.advance(0.9, hanging=1)
    await victim(town)
    await town.quiet(hanging=1)
    waited = 0
    while waited < 60 and await town.ready("site") != ("True", "Issued"):
        await town.advance(10 * MINUTE, hanging=number)
        waited += 1
    assert waited <= 1, f"{waited * 10} minutes"


async def test_an_attempt_whose_outcome_nobody_finds_out_holds_up_no_other_tenant(town: Town) -> None:
    """Its token was revoked after the request."""
    hang = hangs(town, "issue", cns=NAMES, team="personal")
    await squatter(town, 0)
    await town.quiet(hanging=1)
    town.emulator.faults.add(Fault(call="list", token=f"{EVIL}-0000", status=401, times=None))
    hang.end("drop")
    await town.quiet()
    await victim(town)
    await town.quiet()
    await town.advance(20 * MINUTE)
    assert await town.ready("site") == ("True", "Issued")


async def test_certificates_that_a_tenant_requested_and_removed_cost_others_nothing(town: Town) -> None:
    for _ in range(60):
        await squatter(town, 0, existingCertificate="Ignore")
        await town.quiet()
        with town.at("evil"):
            await town.delete("x-000")
            await town.quiet()
    before = len(asked(town, "get"))
    await victim(town)
    await town.quiet()
    await town.advance(5 * MINUTE)
    assert await town.ready("site") == ("True", "Issued")
    assert len(asked(town, "get")) - before <= 10


@pytest.mark.parametrize("squatted", [False, True], ids=["alone", "squatted"])
async def test_a_certificate_of_a_tenant_does_not_hide_vercels_renewals_of_others(town: Town, squatted: bool) -> None:
    behave(town, lifetime=18 * DAY)
    await victim(town)
    await town.quiet()
    first = (await town.status("site"))["id"]
    if squatted:
        await squatter(town, 0)
        await town.quiet()
    await town.advance(10 * DAY)
    renewed_by_vercel(town, first)
    await town.advance(DAY)
    status = await town.status("site")
    assert "sharedNames" not in status
    assert (status["id"] != first, status["origin"]) == (True, "Issued")


@pytest.mark.parametrize("squatted", [False, True], ids=["alone", "squatted"])
async def test_a_certificate_of_a_tenant_does_not_make_others_need_a_list(town: Town, squatted: bool) -> None:
    if squatted:
        await squatter(town, 0)
        await town.quiet()
    town.emulator.faults.add(Fault(call="list", team="team_alpha", status=500, times=None))
    await victim(town)
    await town.quiet()
    await town.advance(DAY)
    assert await town.ready("site") == ("True", "Issued")


@pytest.mark.parametrize("squatted", [False, True], ids=["alone", "squatted"])
async def test_a_certificate_of_a_tenant_does_not_prevent_that_others_take_over(town: Town, squatted: bool) -> None:
    if squatted:
        await squatter(town, 0)
        await town.quiet()
    await victim(town, "by-id")
    await town.quiet()
    await victim(town, "by-slug", team={"slug": "alpha"})
    await town.quiet()
    assert await town.ready("by-slug") == ("False", "DuplicateOf")
    await town.delete("by-id")
    await town.quiet()
    await town.advance(10 * MINUTE)
    assert await town.ready("by-slug") == ("True", "Issued")


async def test_who_waits_for_an_attempt_with_another_token_learns_no_name_of_another_tenant(town: Town) -> None:
    hangs(town, "issue", cns=NAMES)
    await victim(town, "secret-project")
    await town.quiet(hanging=1)
    await squatter(town, 0)
    await town.quiet(hanging=1)
    with town.at("evil"):
        assert "secret-project" not in (await town.condition("x-000", "Issuing"))[2]


# --- 2: the default token that is shared ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 6])
async def test_certificates_of_another_account_do_not_make_the_scope_of_the_default_token_vanish(
    town: Town, number: int
) -> None:
    await town.apply("site", NAMES)
    await town.quiet()
    grants(town)
    with town.at("evil"):
        await put_secret(town, EVIL)
        for one in range(number):
            await town.apply(f"x-{one}", [f"x{one}.evil.example"], tokenSecretRef=REF)
        await town.quiet()
        for one in range(number):
            await town.apply(f"x-{one}", [f"x{one}.evil.example"])  # with the default token from now on
        await town.quiet()
    await town.advance(HOUR)
    town.emulator.state.vanish((await town.status("site"))["id"])
    await town.advance(DAY)
    assert await town.ready("site") == ("True", "Issued")


async def test_an_older_resource_that_changes_its_names_takes_none_from_whoever_holds_them(town: Town) -> None:
    behave(town, lifetime=9 * DAY)
    with town.at("evil"):
        await town.apply("x", ["x.example.com"])
        await town.quiet()
    await town.advance(10)
    await town.apply("site", NAMES)
    await town.quiet()
    with town.at("evil"):
        await town.apply("x", ["x.example.com", *NAMES])
        await town.quiet()
        await town.apply("x", NAMES)
        await town.quiet()
    await town.advance(9.5 * DAY)
    assert await town.ready("site") == ("True", "Issued"), "its certificate has expired"


# --- 3: work that grows with the square -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [6, 24])
async def test_who_waits_for_attempts_writes_a_bounded_number_of_times(town: Town, number: int) -> None:
    hang = hangs(town, "issue", cns=NAMES, team="personal")
    await squatters(town, number)
    await town.quiet(hanging=1)
    for _ in range(number):
        await town.advance(20, hanging=1)
        hang.release("continue", 1)
        await town.quiet(hanging=1)
    assert patches(town) <= 10 * number


async def test_a_token_that_is_missing_is_not_written_into_status_each_minute(town: Town) -> None:
    with town.at("evil"):
        await town.apply("x", ["x.evil.example"], tokenSecretRef=REF)
        await town.quiet()
        before = patches(town)
        await town.advance(HOUR)
        assert patches(town) == before
        grants(town)
        await put_secret(town, EVIL)
        await town.advance(MINUTE)
        assert await town.ready("x") == ("True", "Issued")


async def test_who_waits_for_an_attempt_does_not_poll(town: Town) -> None:
    hangs(town, "issue", cns=NAMES, team="personal")
    await squatters(town, 10)
    await town.quiet(hanging=1)
    rounds = counted_rounds(town)
    await town.advance(100, hanging=1)
    assert max(rounds.values(), default=0) <= 5


async def test_who_takes_over_names_reads_no_certificates_that_are_gone(town: Town) -> None:
    number = 20
    with town.at("evil"):
        for one in range(number):
            await town.apply(f"x-{one:02}", NAMES)
        await town.quiet()
        for one in range(number):
            await town.delete(f"x-{one:02}")
            await town.quiet()
    assert len(asked(town, "get")) <= 3 * number


@pytest.mark.parametrize("number", [10, 40])
async def test_refused_teams_cost_nothing_each_time_another_one_is_refused(
    town: Town, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the default token, each call of anyone goes through all pauses and refusals."""
    hashed = [0]
    hash_of = Scope.__hash__

    def counted(scope: Scope) -> int:
        hashed[0] += 1
        return hash_of(scope)

    monkeypatch.setattr(Scope, "__hash__", counted)
    with town.at("evil"):
        for one in range(number):
            await town.apply(f"x-{one}", [f"x{one}.evil.example"], team={"slug": f"nowhere-{one}"})
    await town.quiet()
    assert hashed[0] <= 50 * number


async def test_a_token_that_is_remembered_costs_nothing_each_time_another_one_is(town: Town) -> None:
    seen = [0]

    class Counted(dict[Any, Any]):
        def __iter__(self) -> Any:
            for one in super().__iter__():
                seen[0] += 1
                yield one

        def items(self) -> Any:
            return ((one, self[one]) for one in self)

    operator_of(town).tokens._remembered = Counted()
    with town.at("evil"):
        for one in range(100):
            ref = {"name": f"none-{one}", "key": "token"}
            await town.apply(f"x-{one}", [f"x{one}.evil.example"], tokenSecretRef=ref)
    await town.quiet()
    assert seen[0] <= 5 * 100


@pytest.mark.parametrize("number", [10, 40])
async def test_keys_of_a_secret_are_not_sorted_for_each_resource_that_names_a_missing_one(
    town: Town, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Secret can have 50,000 keys: sorting them takes 11 ms each time."""
    seen = [0]
    named = tokens._named

    def counted(keys: Any) -> str:
        seen[0] += len(keys)
        return named(keys)

    monkeypatch.setattr(tokens, "_named", counted)
    with town.at("evil"):
        await put_keys(town, {f"key-{one}": "?" for one in range(number)})
        for one in range(number):
            ref = {"name": "vercel", "key": f"none-{one}"}
            await town.apply(f"x-{one}", [f"x{one}.evil.example"], tokenSecretRef=ref)
    await town.quiet()
    assert seen[0] <= 10 * number


@pytest.mark.parametrize("number", [3, 9])
async def test_a_secret_is_parsed_once_however_many_resources_upload_it(
    town: Town, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change of an annotation reads it again. To check a chain takes milliseconds, in which nothing else runs."""
    parsed = [0]
    parse = tls_contents.read

    def counted(*args: Any) -> Any:
        parsed[0] += 1
        return parse(*args)

    monkeypatch.setattr(tls_contents, "read", counted)
    with town.at("evil"):
        annotations = {"vercel-operator.io/allow-upload": "true"}
        kind = "kubernetes.io/tls"
        await put_keys(town, {"tls.crt": "?"}, name="tls", type=kind, metadata={"annotations": annotations})
        for one in range(number):
            await town.apply(f"x-{one}", NAMES, certificateSecretRef={"name": "tls"})
        await town.quiet()
        for turn in range(5):
            for one in range(number):
                await town.annotate(f"x-{one}", "renew", str(turn))
            await town.quiet()
    assert parsed[0] == 1


@pytest.mark.parametrize("number", [5, 10])
async def test_who_is_being_deleted_is_not_woken_for_each_renewal_of_others(town: Town, number: int) -> None:
    """Deleted while its POST was in flight, with a token that was revoked then: it never records sharedNames."""
    with town.at("evil"):
        for one in range(number):
            hang = hangs(town, "issue", times=1)
            await squatter(town, one)
            await town.quiet(hanging=1)
            await town.delete(f"x-{one:03}")
            await town.quiet(hanging=1)
            revoked = Fault(call=["list", "get", "remove"], token=f"{EVIL}-{one:04}", status=401, times=None)
            town.emulator.faults.add(revoked)
            hang.end()
            await town.quiet()
        await squatter(town, 999)
        await town.quiet()
        rounds = counted_rounds(town)
        for turn in range(number):
            await town.annotate("x-999", "renew", str(turn))
            await town.quiet()
            await town.advance(2)
    assert rounds.total() <= 7 * number


# --- 4: memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [3, 5])
async def test_lists_of_one_account_are_not_kept_for_each_of_its_tokens(
    town: Town, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vercel_certificate_operator.list_room.MOST_KEPT", 600)
    kept = await kept_certificates(town, certificates=100 * number, tokens=number, after=30 * MINUTE)
    assert kept <= 600


def there_are(town: Town, number: int, cns: list[str], scope: str) -> None:
    """An account has so many certificates with these names, each of another second."""
    now = int(town.clock.now().timestamp() * 1000)
    for one in range(number):
        town.emulator.state.inject(Injection(cns=cns, scope=scope, created_at=now - 10**9 - one * 1000))


def kept_lists(town: Town) -> list[int]:
    """The lengths of the lists that are kept."""
    return [len(one.certificates) for account in accounts_of(town) for one in account._listings.values()]


def accounts_of(town: Town) -> Any:
    return operator_of(town).accounts._accounts.values()


@pytest.mark.parametrize(("certificates", "names"), [(151, 1), (7, 100)], ids=["many", "with many names"])
async def test_a_list_that_is_longer_than_a_namespace_may_keep_is_not_read(
    town: Town, certificates: int, names: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vercel_certificate_operator.list_room.MOST_KEPT", 150)  # a page and a half
    behave(town, lifetime=9 * DAY)
    grants(town)
    there_are(town, certificates, [f"{one:03}.evil.example" for one in range(names)], "personal:evil")
    with town.at("evil"):
        await put_secret(town, EVIL)
        await town.apply("x", ["x.evil.example"], tokenSecretRef=REF)
        await town.quiet()
        assert await town.ready("x") == ("True", "Issued"), "a first certificate needs no list"
        assert kept_lists(town) == []
        await town.advance(6.1 * DAY)
        assert await town.ready("x") == ("True", "Issued")
        assert (await town.condition("x", "Issuing"))[:2] == ("False", "ListTooLong")
        await town.advance(2 * DAY)
        assert len(asked(town, "issue")) == 2, "it is renewed in time, without a list"


async def test_the_longest_list_that_is_kept_is_used(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vercel_certificate_operator.list_room.MOST_KEPT", 1_000)
    grants(town)
    there_are(town, 999, ["a.evil.example", "b.evil.example"], "personal:evil")
    there_are(town, 1, NAMES, "personal:evil")
    with town.at("evil"):
        await put_secret(town, EVIL)
        await town.apply("x", NAMES, tokenSecretRef=REF)
        await town.quiet()
        assert (await town.status("x"))["origin"] == "Found"
    assert kept_lists(town) == [1000]


async def test_long_lists_of_many_tokens_of_a_namespace_are_read_one_after_another(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vercel_certificate_operator.list_room.MOST_KEPT", 300)
    read: dict[Any, int] = {}
    most = [0]
    take = Reading.take

    def counted(reading: Reading, page: Any) -> bool:
        try:
            return take(reading, page)
        finally:
            read[id(reading._payer)] = sum(one.size for one in reading._payer.reading)
            most[0] = max(most[0], *read.values())

    monkeypatch.setattr(Reading, "take", counted)
    for one in range(8):
        there_are(town, 290, ["other.evil.example"], f"personal:evil-{one}")
        text = f"{EVIL}-{one:04}"
        hangs(town, "list", token=text, skip=1)
        grants(town, text, user=f"evil-{one}")
        with town.at("evil"):
            await put_secret(town, text, name=f"vercel-{one}")
            ref = {"name": f"vercel-{one}", "key": "token"}
            await town.apply(f"x-{one}", [f"x{one}.evil.example"], tokenSecretRef=ref)
    async with asyncio.timeout(10):
        while not any(fault.hanging for fault in town.emulator.faults):
            await town.sync()
            await asyncio.sleep(0.001)
    town.emulator.faults.clear("continue")
    await town.quiet()
    with town.at("evil"):
        assert {await town.ready(f"x-{one}") for one in range(8)} == {("True", "Issued")}
    assert most[0] <= 2 * 300
    assert sum(kept_lists(town)) <= 300


@pytest.mark.parametrize("shared", ["the default token", "a token of two namespaces"])
async def test_long_lists_of_a_tenant_do_not_get_a_list_dropped_that_others_need(
    town: Town, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They used to count for the namespace whose resource happened to start them."""
    monkeypatch.setattr("vercel_certificate_operator.list_room.MOST_KEPT", 500)
    there_are(town, 300, ["other.example.com"], "personal:user")
    there_are(town, 400, ["other.evil.example"], "personal:evil")
    grants(town)
    ref = {"tokenSecretRef": REF} if shared != "the default token" else {}
    await put_secret(town, TOKEN)
    await town.apply("site", NAMES, **ref)
    with town.at("evil"):
        await put_secret(town, TOKEN)
        await put_secret(town, EVIL, name="own")
        await town.apply("own", ["own.evil.example"], tokenSecretRef={"name": "own", "key": "token"})
        await town.apply("d", ["d.evil.example"], **ref)
    await town.quiet()
    since = town.emulator.journal.last
    for turn in range(8):
        with town.at("evil"):
            await town.apply(f"d-{turn}", [f"d{turn}.evil.example"], **ref)
            await town.quiet()
            await town.annotate("own", "renew", str(turn))
            await town.quiet()
        await town.advance(2)
    assert len(asked(town, "list", since=since, token=TOKEN)) <= 8, "two lists of four pages"


async def test_tokens_that_are_replaced_while_their_namespaces_share_is_used_up_are_not_kept(town: Town) -> None:
    """Nor does MOST_TOKENS count them."""
    hangs(town, "issue")
    with town.at("evil"):
        for one in range(8):
            text = f"token-{one:04}-of-evil"
            grants(town, text, user=f"evil-{one}")
            await put_secret(town, text, name=f"busy-{one}")
            for other in range(8):
                ref = {"name": f"busy-{one}", "key": "token"}
                await town.apply(f"busy-{one}-{other}", [f"s{one}-{other}.evil.example"], tokenSecretRef=ref)
        await town.quiet(hanging=64)
        for one in range(5):
            await put_secret(town, f"{EVIL}-start-{one}", name=f"vercel-{one}")
            ref = {"name": f"vercel-{one}", "key": "token"}
            await town.apply(f"x-{one}", [f"x{one}.evil.example"], tokenSecretRef=ref)
        for turn in range(12):
            for one in range(5):
                await put_secret(town, f"{EVIL}-{turn}-{one}", name=f"vercel-{one}")
            await town.advance(2 * MINUTE, hanging=64)
    assert len(operator_of(town).accounts._accounts) <= 8 + 5 + 5


async def test_scopes_that_a_resource_names_one_after_another_are_not_watched(town: Town) -> None:
    grants(town)
    with town.at("evil"):
        await put_keys(town, {f"key-{one}": EVIL for one in range(40)})
        for one in range(40):
            await town.apply("site", NAMES, tokenSecretRef={"name": "vercel", "key": f"key-{one}"})
            await town.annotate("site", "adopt-id", f"cert_{one}")
            await town.quiet()
    await town.advance(20 * MINUTE)
    assert len(operator_of(town).reconciler.drift.scopes) <= 1


async def test_certificates_that_were_reported_and_are_gone_are_not_remembered_for_ever(town: Town) -> None:
    grants(town)
    with town.at("evil"):
        await put_secret(town, EVIL)
        await town.apply("x", NAMES, tokenSecretRef=REF)
        await town.quiet()
        await town.advance(HOUR)
        there = [town.emulator.state.inject(Injection(cns=NAMES, scope="personal:evil")) for _ in range(50)]
        await town.advance(13 * HOUR)
        for one in there:
            town.emulator.state.vanish(one.id)
        await town.advance(2 * DAY)
    assert len(operator_of(town).reconciler.drift._reported) <= 10


@pytest.mark.parametrize("status", [500, 503, 404])
async def test_no_password_can_be_guessed_from_a_status(world: SimulatedWorld, status: int) -> None:
    """Who may not read Secrets names one in a resource. With a hash of its value, guesses could be tested."""
    await put_secret(world, "Summer2026abc", name="database", key="password")
    fails(world, "list", times=None, status=status)
    ref = {"name": "database", "key": "password"}
    await world.apply("x", ["x.example.com"], tokenSecretRef=ref)
    await world.advance(HOUR)
    assert await world.ready("x") == ("False", "CredentialsInvalid")
    recorded = json.dumps(await world.status("x"))
    for guess in ("Winter2025abc", "Summer2026abc"):
        assert hmac.new(b"web/x", guess.encode(), hashlib.sha256).hexdigest()[:32] not in recorded, guess


@pytest.mark.parametrize("ahead", [100 * DAY, 365 * DAY], ids=str)
async def test_a_duplicate_of_another_tenant_issues_nothing_while_vercels_clock_is_ahead(
    town: Town, ahead: timedelta
) -> None:
    with town.at("evil"):
        await town.apply("x", ["a.example.com"])
        await town.quiet()
    await town.advance(5)
    await town.apply("site", ["a.example.com"])
    await town.quiet()
    assert await town.ready("site") == ("False", "DuplicateOf")
    await vercels_clock_is_ahead(town, ahead)
    assert posts(town) == 1
