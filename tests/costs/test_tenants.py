"""What one tenant does costs the others nothing."""

from support.acting import asked, put_secret
from support.memory_api import SimulatedWorld
from support.world import TOKEN
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
