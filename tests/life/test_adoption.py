"""An existing certificate, taken by its id."""

from collections.abc import Awaitable, Callable

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
    seconds_until,
    superseded,
)
from support.world import OTHER_TOKEN, World
from vercel_emulator.models import Behaviour, Certificate, Injection

ADOPT = "vercel-operator.io/adopt-id"


@pytest.fixture
async def secret(world: World) -> None:
    await put_secret(world, OTHER_TOKEN)


def made_by_hand(world: World, *cns: str) -> Certificate:
    """A certificate of 90 days that somebody made 30 days ago."""
    now = world.emulator.clock.now_ms()
    day = 86_400_000
    return world.emulator.state.inject(
        Injection(cns=list(cns), id="cert_byhand", created_at=now - 30 * day, expires_at=now + 60 * day)
    )


async def adopt(world: World, *cns: str, **spec: object) -> None:
    await world.apply("site", list(cns), annotations={ADOPT: "cert_byhand"}, tokenSecretRef=REF, **spec)
    await world.quiet()


async def test_a_certificate_that_covers_the_names_is_adopted_by_its_id(world: World, secret: None) -> None:
    made_by_hand(world, "example.com", "www.example.com")
    await adopt(world, "example.com")
    status = await world.status("site")
    assert (status["id"], status["origin"], status["lastAdoptRequest"]) == ("cert_byhand", "Adopted", "cert_byhand")
    assert status["cns"] == ["example.com", "www.example.com"]
    assert await world.ready("site") == ("True", "Issued")
    assert await notes(world, "site", "Adopted") == [
        "Adopted certificate cert_byhand for example.com, www.example.com."
    ]
    await world.advance(HOUR)
    await world.restart()
    assert world.calls() == ["get"]


async def test_an_adopted_certificate_is_renewed_in_its_time(world: World, secret: None) -> None:
    made_by_hand(world, "example.com")
    await adopt(world, "example.com")
    status = await world.status("site")
    assert 27 * DAY.total_seconds() <= seconds_until(world, status["renewalTime"]) <= 30 * DAY.total_seconds()
    await advance_to(world, status["renewalTime"], plus=1)
    renewed = await world.status("site")
    assert renewed["id"] != "cert_byhand"
    assert superseded(renewed) == ["cert_byhand"]
    await world.advance(10 * MINUTE)
    assert list(world.live()) == [renewed["id"]]
    await world.restart()
    assert (await world.status("site"))["id"] == renewed["id"]  # the annotation still stands there


async def test_an_adopted_certificate_that_was_replaced_stays_with_retain(world: World, secret: None) -> None:
    made_by_hand(world, "example.com")
    await adopt(world, "example.com", deletionPolicy="Retain")
    await world.annotate("site", "renew", "v1")
    await world.quiet()
    await world.advance(HOUR)
    status = await world.status("site")
    assert "superseded" not in status
    assert set(world.live()) == {"cert_byhand", status["id"]}


async def test_an_adopted_certificate_goes_with_its_resource(world: World, secret: None) -> None:
    made_by_hand(world, "example.com")
    await adopt(world, "example.com")
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert world.live() == {}


async def test_an_adopted_certificate_stays_with_retain(world: World, secret: None) -> None:
    made_by_hand(world, "example.com")
    await adopt(world, "example.com", deletionPolicy="Retain")
    await world.delete("site")
    await world.quiet()
    assert await world.get("site") is None
    assert list(world.live()) == ["cert_byhand"]


async def test_adopted_in_place_of_one_that_was_issued_that_one_is_removed(world: World, secret: None) -> None:
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    made_by_hand(world, "example.com")
    await world.annotate("site", "adopt-id", "cert_byhand")
    await world.quiet()
    await world.advance(10 * MINUTE)
    assert list(world.live()) == ["cert_byhand"]
    assert (await world.status("site"))["id"] == "cert_byhand"
    assert len(asked(world, "issue")) == 1


# --- refusals


async def no_names(world: World) -> None:
    made_by_hand(world, "www.example.com")


async def no_such_id(world: World) -> None:
    """There is none."""


async def in_another_team(world: World) -> None:
    world.emulator.state.inject(Injection(cns=["example.com"], id="cert_byhand", scope="team_alpha"))


async def held_by_another(world: World) -> None:
    made_by_hand(world, "example.com", "www.example.com")
    await world.apply("other", ["www.example.com"], annotations={ADOPT: "cert_byhand"}, tokenSecretRef=REF)
    await world.quiet()
    assert await world.ready("other") == ("True", "Issued")


async def expired(world: World) -> None:
    now = world.emulator.clock.now_ms()
    world.emulator.state.inject(
        Injection(cns=["example.com"], id="cert_byhand", created_at=now - 7_200_000, expires_at=now - 3_600_000)
    )


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (no_names, ": it does not cover example.com"),
        (no_such_id, "Vercel has no such certificate in the token's personal account with token "),
        (in_another_team, "Vercel has no such certificate in the token's personal account with token "),
        (held_by_another, ": another resource manages it"),
        (expired, ": it expired at"),
    ],
)
async def test_a_refused_adoption_is_reported_once_and_the_resource_proceeds_without_it(
    world: World, secret: None, prepare: Callable[[World], Awaitable[None]], words: str
) -> None:
    await prepare(world)
    await adopt(world, "example.com")
    [event] = await events(world, "site", "AdoptionRefused")
    assert event["type"] == "Warning"
    assert words in event["note"]
    assert event["note"].startswith(
        "Certificate cert_byhand, which the annotation vercel-operator.io/adopt-id names, was not"
    )
    assert await world.ready("site") == ("True", "Issued")
    status = await world.status("site")
    assert (status["origin"], status["lastAdoptRequest"]) == ("Issued", "cert_byhand")
    await world.advance(3 * HOUR)
    await world.restart()
    assert len(asked(world, "issue")) == 1
    assert len(await events(world, "site", "AdoptionRefused")) == 1


async def test_each_value_of_the_annotation_is_acted_on_once(world: World, secret: None) -> None:
    await adopt(world, "example.com")
    assert len(await events(world, "site", "AdoptionRefused")) == 1
    made_by_hand(world, "example.com", "www.example.com")
    await world.advance(HOUR)
    assert (await world.status("site"))["id"] != "cert_byhand"
    other = world.emulator.state.inject(Injection(cns=["example.com", "www.example.com"])).id
    await world.annotate("site", "adopt-id", other)
    await world.quiet()
    assert (await world.status("site"))["id"] == other
    assert await world.ready("site") == ("True", "Issued")


async def test_a_refused_adoption_does_not_delay_the_renewal_of_the_current_certificate(
    world: World, secret: None
) -> None:
    world.emulator.state.behaviour = Behaviour(lifetime=12 * HOUR)
    await world.apply("site", ["example.com"], tokenSecretRef=REF)
    await world.quiet()
    before = await world.status("site")
    await world.annotate("site", "adopt-id", "cert_byhand")
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    assert await world.issuing("site") == ("False", "Issued")
    assert len(await events(world, "site", "AdoptionRefused")) == 1
    await advance_to(world, before["renewalTime"], plus=1)
    assert (await world.status("site"))["id"] != before["id"]


async def test_with_the_default_token_a_namespace_that_is_not_named_may_not_adopt(world: World) -> None:
    made_by_hand(world, "example.com")
    await world.apply("site", ["example.com"], annotations={ADOPT: "cert_byhand"}, existingCertificate="Ignore")
    await world.quiet()
    [note] = await notes(world, "site", "AdoptionRefused")
    assert "--default-token-namespace does not list this namespace by its name. Set spec.tokenSecretRef, or ask" in note
    assert not asked(world, "get"), "the operator does not even tell whether there is such a certificate"
    assert (await world.status("site"))["id"] != "cert_byhand"


async def test_with_the_default_token_a_namespace_that_is_listed_may_adopt(world: World) -> None:
    world.configure(default_token_namespaces=(world.namespace,))
    await world.restart()
    made_by_hand(world, "example.com")
    await world.apply("site", ["example.com"], annotations={ADOPT: "cert_byhand"})
    await world.quiet()
    assert (await world.status("site"))["id"] == "cert_byhand"
