"""What one tenant does costs the others nothing."""

from typing import Any

import pytest

from reported.test_fair_tokens import account, key
from support.acting import asked, put_secret
from support.memory_api import SimulatedWorld
from support.world import TOKEN
from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.failures import Failure, Fate, meaning
from vercel_certificate_operator.vercel import ApiError
from vercel_emulator.models import Fault, TokenGrant

TOKENS, EACH = 4, 15


async def test_tokens_whose_requests_hang_hold_up_no_other_token(world: SimulatedWorld) -> None:
    for number in range(TOKENS):
        token = f"token-that-hangs-{number:04}"
        world.emulator.accounts.grant(TokenGrant(token=token, user=f"user-{number}"))
        world.emulator.faults.add(Fault(call="issue", action="hang", token=token, times=None))
        await put_secret(world, token, name=f"vercel-{number}")
        for other in range(EACH):
            cns = [f"s{number}-{other}.example.com"]
            ref = {"name": f"vercel-{number}", "key": "token"}
            await world.apply(f"site-{number}-{other}", cns, tokenSecretRef=ref)
    in_flight = TOKENS * min(EACH, world.settings.max_in_flight)
    await world.quiet(hanging=in_flight)
    assert len(asked(world, "issue")) == in_flight

    await put_secret(world, TOKEN, name="good")
    await world.apply("good", ["good.example.com"], tokenSecretRef={"name": "good", "key": "token"})
    await world.quiet(hanging=in_flight)
    assert await world.ready("good") == ("True", "Issued")


class Counting(dict[Any, Any]):
    """Counts the entries that someone goes through."""

    looked_at = 0

    def items(self) -> Any:
        for one in super().items():
            Counting.looked_at += 1
            yield one


async def looks_at_teams(number: int, *, refused: bool) -> int:
    """Returns at how many teams ten calls for another one look, while so many can't be listed."""
    shared = account([], slots=8)
    shared._pauses, shared._rests = Counting(), Counting()
    denied = Failure(Fate.REFUSED, "no", 403, "forbidden")
    for one in range(number):
        scope = Scope(team_slug=f"nowhere-{one}")
        if refused:
            shared.failed("list", scope, denied, meaning(denied, "list"))
        else:
            shared._rest(scope, ApiError("no such team", status=404, code="not_found"))
    assert len(shared._pauses) + len(shared._rests) == number
    Counting.looked_at = 0
    for one in range(10):
        shared.keep_turn(key("mean", one), "issue", urgent=True)
        assert shared.take_slot(key("web", one), "issue")
        shared.succeeded("issue", Scope(), key("web", one))
        shared.give_slot_back(key("web", one), "issue")
        shared.pass_on(key("mean", one))
    await shared.aclose()
    return Counting.looked_at


@pytest.mark.parametrize("refused", [True, False], ids=["403", "404"])
async def test_teams_that_a_tenant_may_not_use_cost_the_calls_of_others_nothing(refused: bool) -> None:
    assert await looks_at_teams(500, refused=refused) == await looks_at_teams(50, refused=refused)
