"""The operator never removes a certificate that may be someone else's."""

import json

import pytest

from support.acting import DAY, HOUR, MINUTE, asked, notes, put_secret
from support.memory_api import SimulatedWorld
from support.world import OTHER_TOKEN
from vercel_emulator.models import Behaviour, Injection, TokenGrant

A_DAY = 86_400_000
"""Milliseconds."""


def exists(
    world: SimulatedWorld, *cns: str, certificate_id: str, age: int = 30, days: int = 60, auto_renew: bool = True
) -> None:
    """Someone else's certificate, so many days old and valid for so many."""
    now = world.emulator.clock.now_ms()
    world.emulator.state.inject(
        Injection(
            cns=list(cns),
            id=certificate_id,
            created_at=now - age * A_DAY,
            expires_at=now + days * A_DAY,
            auto_renew=auto_renew,
        )
    )


async def test_an_attempt_written_by_hand_into_an_annotation_means_nothing(world: SimulatedWorld) -> None:
    """Who may edit a resource, but not its status, had any certificate of the team removed."""
    exists(world, "shop.example.com", certificate_id="cert_victim")
    await world.apply("mine", ["mine.example.com"])
    await world.quiet()
    body = await world.get("mine")
    assert body is not None
    forged = {
        "id": "x",
        "uid": body["metadata"]["uid"],
        "start": "2020-01-01T00:00:00Z",
        "generation": 1,
        "cns": ["shop.example.com"],
        "replaces": ["cert_victim"],
    }
    await world.annotate("mine", "attempt", json.dumps(forged))
    await world.advance(MINUTE)
    status = await world.status("mine")
    assert "cert_victim" not in json.dumps(status)
    await world.delete("mine")
    await world.advance(HOUR)
    assert await world.all() == []
    assert list(world.live()) == ["cert_victim"]


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
async def test_a_certificate_that_a_user_uploaded_for_the_same_names_stays(world: SimulatedWorld, policy: str) -> None:
    await world.apply("site", ["a.example.com"], deletionPolicy=policy, renewBefore="720h")
    await world.quiet()
    exists(world, "a.example.com", certificate_id="cert_uploaded", age=0, days=300, auto_renew=False)
    await world.advance(DAY)
    await world.annotate("site", "renew", "1")
    await world.advance(DAY)
    await world.advance(100 * DAY)
    assert "cert_uploaded" in world.live()
    await world.delete("site")
    await world.advance(HOUR)
    assert "cert_uploaded" in world.live(), "nobody asked for its adoption"


@pytest.mark.parametrize("renewal", ["same-id", "new-id"])
async def test_an_adopted_certificate_with_more_names_stays_adopted_when_vercel_renews_it(
    world: SimulatedWorld, renewal: str
) -> None:
    world.configure(default_token_namespaces=("web",))
    await world.restart()
    exists(world, "example.com", "www.example.com", "shop.example.com", certificate_id="cert_by_hand", age=58, days=32)
    world.emulator.state.behaviour = Behaviour.model_validate({"renewal": renewal})
    await world.apply(
        "site", ["example.com"], annotations={"vercel-operator.io/adopt-id": "cert_by_hand"}, renewBefore="240h"
    )
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")
    await world.advance(30 * DAY)
    assert not asked(world, "issue"), "Vercel renews it by itself"
    assert any("shop.example.com" in cns for cns in world.live().values())
    assert (await world.status("site"))["origin"] == "Adopted"


async def test_with_the_token_of_another_account_nothing_is_issued_or_reported_as_removed(
    world: SimulatedWorld,
) -> None:
    world.emulator.accounts.grant(TokenGrant(token="token-of-someone-else-0123", user="someone"))
    await put_secret(world, OTHER_TOKEN, name="mine")
    await put_secret(world, "token-of-someone-else-0123", name="theirs")
    await world.apply("site", ["a.example.com"], tokenSecretRef={"name": "mine"})
    await world.quiet()
    await world.apply("site", ["a.example.com"], tokenSecretRef={"name": "theirs"})
    await world.advance(2 * DAY)
    assert await world.issuing("site") == ("False", "ScopeChanged")
    assert len(asked(world, "issue")) == 1
    await world.delete("site")
    await world.advance(HOUR)
    [said] = await notes(world, "site", "Deleted")
    assert not said.startswith("Removed at Vercel")
    assert "Not found with " in said
    assert len(world.live()) == 1


@pytest.mark.parametrize("old_names", [["a.example.com"], ["a.example.com", "b.example.com"]])
async def test_an_older_certificate_in_an_answer_does_not_displace_the_better_one(
    world: SimulatedWorld, old_names: list[str]
) -> None:
    await world.apply("site", ["a.example.com"])
    await world.quiet()
    good = (await world.status("site"))["id"]
    exists(world, *old_names, certificate_id="cert_old", age=60, days=30)
    world.emulator.state.behaviour = Behaviour.model_validate({"reissue": "oldest"})
    await world.advance(HOUR)
    await world.annotate("site", "renew", "1")
    await world.advance(DAY)
    assert (await world.status("site"))["id"] == good or len(old_names) == 2
    assert good in world.live()
    assert "cert_old" in world.live()
