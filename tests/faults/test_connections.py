"""Vercel can't be reached: nothing was sent, so nothing has to be looked for."""

from pathlib import Path

import pytest

from faults.front import BREAKS, Break, front
from faults.stage import CHANGE, DELETION, FIRST_ISSUE, MINUTE, RENEWAL, Scenario, Stage

ROWS = [
    pytest.param(scenario, broken, id=f"{broken} x {scenario.name}")
    for scenario in (FIRST_ISSUE, RENEWAL, CHANGE, DELETION)
    for broken in BREAKS
]


@pytest.mark.parametrize(("scenario", "broken"), ROWS)
async def test_vercel_can_not_be_reached_for_a_while(
    stage: Stage, scenario: Scenario, broken: Break, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = stage.world
    async with front(world.emulator.url, tmp_path, monkeypatch) as way:
        world.configure(vercel_api_url=way.url)
        await world.restart()
        await scenario.prepare(world)
        if broken == "silent":
            await stage.with_short_limits("issue", "get")
        before = world.emulator.journal.last
        await way.set(broken)
        await scenario.act(world)
        await world.advance(10 * MINUTE)
        assert world.emulator.journal.last == before
        if scenario is FIRST_ISSUE:
            assert (await world.issuing("site"))[1] == "VercelUnreachable"
        await way.set(None)
        await stage.judge(scenario)
        await world.crash()


async def test_while_vercel_is_away_the_pauses_grow_to_five_minutes(stage: Stage) -> None:
    world = stage.world
    await world.emulator.stop()
    await FIRST_ISSUE.act(world)
    await world.advance(60 * MINUTE)
    assert stage.proxy.counts["attempt"] <= 8 + 12
    await world.emulator.start()
    await stage.judge(FIRST_ISSUE)
