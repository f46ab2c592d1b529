"""What an outage of Vercel costs doesn't depend on how many resources wait for its end."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from unittest import mock

import pytest

from support.acting import HOUR, MINUTE, asked, create_many, reasons
from support.memory_api import SimulatedWorld
from vercel_certificate_operator.accounts import Account
from vercel_certificate_operator.core.failures import LONGEST_REST
from vercel_emulator.models import Behaviour, Fault

RESOURCES, HOURS = 20, 4


@pytest.fixture
def lists() -> Iterator[mock.Mock]:
    """Called for each list that the operator starts."""
    with mock.patch.object(Account, "start_list", autospec=True, side_effect=Account.start_list) as started:
        yield started


def fails(world: SimulatedWorld, **how: object) -> Callable[[], object]:
    fault = world.emulator.faults.add(Fault.model_validate({"call": "list", "times": None, **how}))
    return lambda: world.emulator.faults.remove(fault.id)


async def test_while_vercel_cannot_be_reached_a_scope_is_listed_as_often_as_for_one_resource(
    world: SimulatedWorld, lists: mock.Mock
) -> None:
    """Each resource started a list of its own: a hundred of them 5,154 in four hours. That made the long run twice as
    long when Vercel was away while everything was due."""
    await world.emulator.stop()
    await create_many(world, RESOURCES)
    await world.quiet()
    await world.advance(HOURS * HOUR)
    assert lists.call_count <= 10 + HOURS * HOUR / LONGEST_REST
    assert set((await reasons(world, "Issuing")).values()) == {"VercelUnreachable"}
    await world.emulator.start()
    await world.advance(2 * LONGEST_REST + MINUTE)
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}


async def test_while_lists_fail_one_of_them_is_enough_to_issue_for_everyone(
    world: SimulatedWorld, lists: mock.Mock
) -> None:
    fails(world, status=500)
    await create_many(world, RESOURCES)
    await world.quiet()
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}
    assert lists.call_count == 1


async def test_a_list_that_may_not_be_made_for_a_while_is_not_made_for_a_new_resource_either(
    world: SimulatedWorld, lists: mock.Mock
) -> None:
    end = fails(world, status=503, headers={"retry-after": "1800"})
    await world.apply("one", ["one.example.com"])
    await world.quiet()
    end()
    started = lists.call_count
    await world.apply("other", ["other.example.com"])
    await world.advance(20 * MINUTE)
    assert lists.call_count == started


async def test_after_an_outage_nothing_is_asked_again_and_again_while_the_list_rests(world: SimulatedWorld) -> None:
    """The GET before a renewal shows that Vercel can be reached. Then it may be listed too."""
    world.emulator.state.behaviour = Behaviour(lifetime=timedelta(hours=1))
    await create_many(world, 20)
    await world.quiet()
    await world.emulator.stop()
    await world.advance(HOUR - MINUTE)
    await world.emulator.start()
    since = world.emulator.journal.last
    await world.advance(6 * MINUTE)
    assert set((await reasons(world, "Ready")).values()) == {"Issued"}
    assert len(asked(world, "get", since=since)) <= 2 * 20
