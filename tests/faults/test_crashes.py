"""The operator's process ends at every moment of every scenario, and another one starts."""

import pytest

from faults.stage import SCENARIOS, Scenario, Stage, Step, When, moments


@pytest.mark.parametrize(("scenario", "step", "skip", "when"), moments(*SCENARIOS))
async def test_a_crash_at_any_moment_does_no_harm(
    stage: Stage, scenario: Scenario, step: Step, skip: int, when: When
) -> None:
    await scenario.prepare(stage.world)
    came = await stage.interrupt(step, when, skip, lambda: scenario.act(stage.world), stage.crash)
    assert came, "the scenario has no such moment"
    await stage.judge(scenario)
