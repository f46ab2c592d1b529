"""The API server fails in every way at every write of the operator."""

from typing import cast

import pytest

from faults.stage import MINUTE, SCENARIOS, VERCEL, Scenario, Stage, Step, When, moments
from support.proxy import Kind, KubeFault
from vercel_certificate_operator.kube import requests

FAULTS: dict[str, tuple[When, int | None]] = {
    "reset-before-the-write": ("before", None),
    "reset-after-the-write-was-done": ("after", None),
    "401": ("before", 401),
    "403": ("before", 403),
    "409": ("before", 409),
    "429": ("before", 429),
    "500": ("before", 500),
    "500-after-the-write-was-done": ("after", 500),
    "503": ("before", 503),
    "504-after-the-write-was-done": ("after", 504),
}
WRITES = [(scenario, *moment) for scenario in SCENARIOS for moment in scenario.steps if moment[0] not in VERCEL]
ROWS = [
    pytest.param(
        scenario, step, skip, when, status, id=f"{name} x {step}{f'-{skip + 1}' * bool(skip)} x {scenario.name}"
    )
    for scenario, step, skip in WRITES
    for name, (when, status) in FAULTS.items()
]


@pytest.fixture
def shortcut() -> bool:
    """Vercel works in all of these."""
    return True


@pytest.mark.parametrize(("scenario", "step", "skip", "when", "status"), ROWS)
async def test_a_write_that_fails_once(
    stage: Stage, scenario: Scenario, step: Step, skip: int, when: When, status: int | None
) -> None:
    await scenario.prepare(stage.world)
    fault = stage.proxy.add(KubeFault(cast(Kind, step), when, status=status, skip=skip))
    await scenario.act(stage.world)
    assert fault.met, "the scenario has no such write"
    await stage.judge(scenario)


@pytest.mark.parametrize(
    ("scenario", "step", "skip"),
    [pytest.param(*row, id=f"{row[1]}{f'-{row[2] + 1}' * bool(row[2])} x {row[0].name}") for row in WRITES],
)
async def test_a_write_that_hangs_past_its_limit(
    stage: Stage, scenario: Scenario, step: Step, skip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scenario.prepare(stage.world)
    monkeypatch.setattr(requests, "REQUEST_LIMIT", 0.2)
    fault = stage.proxy.add(KubeFault(cast(Kind, step), "after", hang=True, skip=skip))
    await scenario.act(stage.world)
    assert fault.met, "the scenario has no such write"
    monkeypatch.undo()
    await stage.judge(scenario)


@pytest.mark.parametrize(("scenario", "step", "skip", "when"), moments(*SCENARIOS, whens=("after",)))
async def test_an_api_server_that_is_down_for_a_while_from_any_moment(
    stage: Stage, scenario: Scenario, step: Step, skip: int, when: When
) -> None:
    world = stage.world
    await scenario.prepare(world)

    async def go_down() -> None:
        stage.proxy.clear()
        stage.proxy.add(KubeFault(None, times=None))
        world.watching = False

    assert await stage.interrupt(step, when, skip, lambda: scenario.act(world), go_down, clear=False)
    before = stage.proxy.counts.total()
    await world.advance(20 * MINUTE)
    assert stage.proxy.counts.total() - before <= 2 * 20 + 10, "a hot loop"  # the longest wait is a minute
    stage.proxy.clear()
    world.watching = True
    await world.advance(2 * MINUTE)
    await stage.judge(scenario)
