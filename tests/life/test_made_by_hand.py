"""A certificate that someone issues by hand while the operator can't."""

import pytest

from support.acting import DAY, HOUR, advance_to
from support.world import World
from vercel_emulator import Fault
from vercel_emulator.models import Injection


@pytest.mark.parametrize(
    ("shared", "origin"),
    [
        pytest.param(False, "Issued", id="its names were never shared: it counts as a renewal by Vercel"),
        pytest.param(True, "Found", id="its names were shared before"),
    ],
)
async def test_it_is_used_after_the_next_list(world: World, origin: str, *, shared: bool) -> None:
    world.configure(drift_interval=6 * 3600)
    await world.restart()
    await world.apply("site", ["example.com"])
    await world.quiet()
    if shared:
        world.emulator.state.inject(Injection(cns=["example.com"]))
        await world.advance(7 * HOUR)
        assert (await world.status("site"))["sharedNames"] is True
    world.emulator.faults.add(Fault(call="issue", status=402, times=None))
    status = await world.status("site")
    await advance_to(world, status["renewalTime"], plus=1)
    await world.advance(10 * DAY)  # the waits are 32 hours by now
    assert await world.issuing("site") == ("False", "PaymentRequired")

    made = world.emulator.state.inject(Injection(cns=["example.com"]))
    await world.advance(7 * HOUR)

    status = await world.status("site")
    assert (status["id"], status["origin"]) == (made.id, origin)
