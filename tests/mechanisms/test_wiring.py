"""The operator as it is built from settings."""

import asyncio

import pytest

from support.clock import TestClock
from support.memory_api import MemoryApi, simulated_world
from support.world import PATIENCE
from vercel_certificate_operator.leadership import SingleReplica
from vercel_certificate_operator.settings import Settings
from vercel_certificate_operator.wiring import CannotStart, build, random_id
from vercel_emulator.models import Fault


async def test_as_many_posts_as_are_allowed_are_in_flight_at_once() -> None:
    """Twenty slow ones: with the HTTP client's own limit of 8 connections, twelve reported VercelUnreachable."""
    names = [f"site-{number}" for number in range(20)]
    async with simulated_world(max_in_flight=len(names)) as world:
        slow = world.emulator.faults.add(Fault(call="issue", action="hang", times=None))
        for name in names:
            await world.apply(name, [f"{name}.example.com"])
        await world.sync()
        async with asyncio.timeout(PATIENCE):
            await slow.wait(len(names))
        assert slow.hanging == len(names)
        assert {await world.issuing(name) for name in names} == {("True", "FirstIssue")}, "none has failed"
        world.emulator.faults.clear("continue")
        await world.quiet()
        assert [await world.ready(name) for name in names] == [("True", "Issued")] * len(names)
        assert world.calls() == ["list", *["issue"] * len(names)], "and one list for all"


def test_an_environment_that_can_not_be_used_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    settings, clock = Settings(), TestClock()
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy")
    with pytest.raises(CannotStart, match=r"^HTTPS_PROXY is not a proxy that can be used"):
        build(settings, api=MemoryApi(clock).client(), clock=clock, fence=SingleReplica().fence)


def test_ids_of_attempts_differ() -> None:
    assert len({random_id() for _ in range(1000)}) == 1000
