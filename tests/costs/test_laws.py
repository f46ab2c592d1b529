"""What one change costs doesn't depend on how many resources, namesakes, tokens or lost answers there are."""

from collections.abc import Awaitable, Callable, Iterator
from unittest import mock

import pytest

from costs.requests import Requests
from support.acting import HOUR, REF, create_many, put_secret
from support.memory_api import SimulatedWorld, simulated_world
from support.world import TOKEN
from vercel_certificate_operator import accounts, reconciler
from vercel_certificate_operator.accounts import MOST_TOKENS
from vercel_certificate_operator.core.certificate import Certificate, Certificates
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.known import Decision, Known
from vercel_emulator.models import Fault, Injection, TokenGrant

FEW, MANY = 100, 1000


async def others(world: SimulatedWorld, count: int) -> None:
    await create_many(world, count)


async def with_one_secret(world: SimulatedWorld, count: int) -> None:
    await put_secret(world, TOKEN)
    await create_many(world, count, tokenSecretRef=REF)


async def whose_secret_is_missing(world: SimulatedWorld, count: int) -> None:
    await create_many(world, count, tokenSecretRef=REF)


async def with_a_token_each(world: SimulatedWorld, count: int) -> None:
    for number in range(min(count, MOST_TOKENS - 1)):
        token = f"token-number-{number:012}"
        world.emulator.accounts.grant(TokenGrant(token=token, user=f"user-{number}"))
        await put_secret(world, token, name=f"vercel-{number}")
        ref = {"name": f"vercel-{number}", "key": "token"}
        await world.apply(f"site-{number}", [f"s{number}.example.com"], tokenSecretRef=ref)


async def namesakes(world: SimulatedWorld, count: int) -> None:
    """Suspended, with the names of the one that is changed, and with a Secret that doesn't exist."""
    ref = {"name": "missing", "key": "token"}
    for number in range(count):
        await world.apply(f"site-{number}", ["one.example.com"], suspend=True, tokenSecretRef=ref)


async def whose_answers_are_lost(world: SimulatedWorld, count: int) -> None:
    world.emulator.faults.add(Fault(call="issue", action="reset", times=count))
    await create_many(world, count)
    await world.quiet()
    assert not world.live()


There = Callable[[SimulatedWorld, int], Awaitable[None]]
WORLDS: list[There] = [
    others,
    with_one_secret,
    whose_secret_is_missing,
    with_a_token_each,
    namesakes,
    whose_answers_are_lost,
]


async def cost_of_a_renewal(there_are: There, count: int) -> dict[str, int]:
    """Returns the steps of the core and the requests for one renewal among so many resources."""
    steps = 0

    def counted(known: Known) -> Decision:
        nonlocal steps
        steps += 1
        return decide(known)

    async with simulated_world(drift_interval=6 * HOUR.total_seconds()) as world:
        await there_are(world, count)
        await world.quiet()
        await put_secret(world, TOKEN, name="own")
        await world.apply("one", ["one.example.com"], tokenSecretRef={"name": "own", "key": "token"})
        await world.quiet()
        requests = Requests(world)
        with mock.patch.object(reconciler, "decide", counted):
            await world.annotate("one", "renew", "1")
            await world.quiet()
        return {"steps": steps, **requests.of_kubernetes, **requests.of_vercel}


async def looks_at_certificates(count: int) -> int:
    """Returns how often a certificate of the list is looked at while ten certificates are issued in its team."""
    looks = 0

    class Counted(Certificates):
        def __iter__(self) -> Iterator[Certificate]:
            nonlocal looks
            looks += len(self)
            return super().__iter__()

    async with simulated_world() as world:
        for number in range(count):
            world.emulator.state.inject(Injection(cns=[f"other-{number}.example.org"]))
        with mock.patch.object(accounts, "Certificates", Counted):
            await create_many(world, 10)
            await world.quiet()
        return looks


@pytest.mark.slow
@pytest.mark.parametrize("there_are", WORLDS, ids=lambda there_are: there_are.__name__)
async def test_a_renewal_costs_the_same_among_a_hundred_and_among_a_thousand(there_are: There) -> None:
    few, many = await cost_of_a_renewal(there_are, FEW), await cost_of_a_renewal(there_are, MANY)
    assert many == few
    assert few["issue"] == 1


async def test_a_long_list_is_gone_through_once_and_not_for_each_resource() -> None:
    few, many = await looks_at_certificates(FEW), await looks_at_certificates(MANY)
    assert 0 < few <= 4 * FEW
    assert many <= 4 * MANY
