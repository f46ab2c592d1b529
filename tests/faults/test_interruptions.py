"""What others do, and what the clock does, at any moment of the operator's work."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from faults.stage import (
    CHANGE,
    DELETION,
    FIRST_ISSUE,
    HOUR,
    LOST_ANSWER,
    MINUTE,
    NAME,
    NEW_SOURCE,
    OLD,
    RENEWAL,
    SCENARIOS,
    UPLOAD,
    VANISHED,
    Scenario,
    Stage,
    Step,
    When,
    moments,
)
from support.clock import settle
from support.company import REF
from support.invariants import OURS, check
from support.world import World
from vercel_certificate_operator.resync import Resync
from vercel_emulator.models import Fault


@pytest.fixture
def shortcut() -> bool:
    """These are about other writers and the clock."""
    return True


STEPS = {"an-hour-forward": 3600.0, "an-hour-back": -3600.0}


@pytest.mark.parametrize("seconds", [pytest.param(seconds, id=name) for name, seconds in STEPS.items()])
@pytest.mark.parametrize(("scenario", "step", "skip", "when"), moments(*SCENARIOS))
async def test_the_wall_clock_steps(
    stage: Stage, scenario: Scenario, step: Step, skip: int, when: When, seconds: float
) -> None:
    world = stage.world
    await scenario.prepare(world)

    async def tick() -> None:
        world.clock.step(seconds)

    assert await stage.interrupt(step, when, skip, lambda: scenario.act(world), tick)
    await stage.judge(scenario)


@pytest.mark.parametrize("seconds", [pytest.param(seconds, id=name) for name, seconds in STEPS.items()])
@pytest.mark.parametrize("scenario", [pytest.param(scenario, id=scenario.name) for scenario in SCENARIOS])
async def test_the_wall_clock_is_an_hour_off_for_all_the_time(stage: Stage, scenario: Scenario, seconds: float) -> None:
    stage.world.clock.step(seconds)
    await scenario.prepare(stage.world)
    await scenario.act(stage.world)
    await stage.judge(scenario)


# --- the record is lost -----------------------------------------------------------------------------------------------


async def wipe_status(world: World) -> None:
    await world.patch_status(NAME, None)


async def wipe_attempt(world: World) -> None:
    await world.patch_status(NAME, {"attempt": None})


async def strip(world: World) -> None:
    """``kubectl replace`` with the manifest from Git, as Argo CD does with Replace=true."""
    await world.patch(NAME, {"metadata": {"annotations": None, "finalizers": None}})


WRITERS: dict[str, Callable[[World], Awaitable[None]]] = {
    "status-wiped": wipe_status,
    "attempt-wiped": wipe_attempt,
    "replaced": strip,
}


WRITTEN = [
    pytest.param(write, killed, *moment.values, id=f"{name}{' and killed' * killed} x {moment.id}")
    for name, write in WRITERS.items()
    for killed in (False, True)
    for moment in moments(FIRST_ISSUE, LOST_ANSWER, RENEWAL, CHANGE, DELETION, NEW_SOURCE)
    if moment.id != "after-release x deletion"  # it is gone
    if not (name == "replaced" and "deletion" in moment.id)  # so it is
]


@pytest.mark.parametrize(("write", "killed", "scenario", "step", "skip", "when"), WRITTEN)
async def test_another_writer_destroys_the_record(
    stage: Stage,
    write: Callable[[World], Awaitable[None]],
    killed: bool,
    scenario: Scenario,
    step: Step,
    skip: int,
    when: When,
) -> None:
    """A replaced certificate is in status alone. If someone wipes that, nobody knows any longer that it is ours.

    An upload is not reused: without the record of it, the certificate is uploaded again, and the first one stays.
    """
    world = stage.world
    await scenario.prepare(world)

    async def interfere() -> None:
        await write(world)
        if killed:
            await stage.crash()
        else:
            await world.sync()

    assert await stage.interrupt(step, when, skip, lambda: scenario.act(world), interfere)
    wiped = write is wipe_status and scenario is not FIRST_ISSUE
    again = scenario.uploads and (wiped or (write is wipe_attempt and killed))
    await stage.judge(
        replace(scenario, ends=_is_there(scenario)) if wiped or again else scenario,
        needs=scenario.issues + int(again),
        forgotten=int(wiped) + int(again),
    )


def _is_there(scenario: Scenario) -> Callable[[World], Awaitable[None]]:
    async def ends(world: World) -> None:
        body = await world.get(NAME)
        if scenario is DELETION:
            assert body is None
            return
        assert body is not None
        assert await world.ready(NAME) == ("True", "Issued")
        assert (await world.issuing(NAME))[0] == "False"

    return ends


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize(
    "scenario", [pytest.param(scenario, id=scenario.name) for scenario in (RENEWAL, CHANGE, NEW_SOURCE)]
)
async def test_an_older_status_is_restored_from_a_backup(stage: Stage, scenario: Scenario, restart: bool) -> None:
    world = stage.world
    await scenario.prepare(world)
    backup: dict[str, Any] = await world.status(NAME)
    await scenario.act(world)
    await world.patch_status(NAME, None)
    await world.patch_status(NAME, backup)
    if restart:
        await world.crash()
    again = int(scenario.uploads)
    ends = replace(scenario, ends=_is_there(scenario)) if again else scenario
    await stage.judge(ends, needs=scenario.issues + again, forgotten=again)


# --- namesakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("killed", [False, True], ids=["running", "killed"])
@pytest.mark.parametrize(("scenario", "step", "skip", "when"), moments(FIRST_ISSUE, RENEWAL, CHANGE, NEW_SOURCE))
async def test_deleted_with_force_and_created_again_under_the_same_name(
    stage: Stage, scenario: Scenario, step: Step, skip: int, when: When, killed: bool
) -> None:
    """``kubectl replace --force``, and someone strips the finalizer. What nobody can know of any longer may stay."""
    world = stage.world
    await scenario.prepare(world)
    names: list[str] = []

    async def replace() -> None:
        body = await world.get(NAME)
        assert body is not None
        names.extend(body["spec"]["cns"])
        await world.delete(NAME)
        if await world.get(NAME) is not None:
            await world.patch(NAME, {"metadata": {"finalizers": None}})
        await world.apply(NAME, **body["spec"])
        if killed:
            await stage.crash()

    assert await stage.interrupt(step, when, skip, lambda: scenario.act(world), replace)
    await stage.recover()
    seq = world.emulator.journal.last
    await world.advance(25 * HOUR)
    await check(world, quiet_since_seq=seq, forgotten=scenario.issues)
    assert await world.ready(NAME) == ("True", "Issued")
    assert sorted((await world.status(NAME))["cns"]) == sorted(names)
    issued = sum(certificate.origin in OURS for certificate in world.emulator.state.all())
    assert issued <= scenario.issues + 1


@pytest.mark.parametrize(
    ("scenario", "step", "skip", "when"), moments(FIRST_ISSUE, RENEWAL, CHANGE, LOST_ANSWER, UPLOAD)
)
async def test_deleted_and_created_again_in_the_middle(
    stage: Stage, scenario: Scenario, step: Step, skip: int, when: When
) -> None:
    world = stage.world
    await scenario.prepare(world)

    async def delete() -> None:
        await world.delete(NAME)

    assert await stage.interrupt(step, when, skip, lambda: scenario.act(world), delete)
    await world.advance(10 * MINUTE)
    assert await world.get(NAME) is None
    await world.apply(NAME, OLD, **({"certificateSecretRef": REF} if scenario.uploads else {}))
    await stage.judge(scenario if scenario.uploads else FIRST_ISSUE, needs=3)


# --- two operators ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scenario", "step", "skip", "when"), moments(*SCENARIOS))
async def test_a_second_operator_starts_at_any_moment_and_both_go_on(
    stage: Stage, scenario: Scenario, step: Step, skip: int, when: When
) -> None:
    world = stage.world
    await scenario.prepare(world)
    other = stage.another_world()

    async def start() -> None:
        other.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.15):  # it may meet the same fault, and hang as well
                await other.quiet()

    try:
        assert await stage.interrupt(step, when, skip, lambda: scenario.act(world), start)
        for _ in range(20):
            await world.quiet()
            await other.quiet()
            if not await world.sync() and not await other.sync():
                break
        for minutes in (1, 2, 4, 8, 60):
            await world.advance(minutes * MINUTE)
            await other.quiet()
    finally:
        await other.crash()
    await stage.judge(scenario)


# --- what comes late --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", [pytest.param(s, id=s.name) for s in (FIRST_ISSUE, RENEWAL, CHANGE, VANISHED)])
async def test_what_vercel_does_after_an_attempt_was_given_up_is_not_lost(stage: Stage, scenario: Scenario) -> None:
    world = stage.world
    await scenario.prepare(world)
    await stage.with_short_limits("issue")
    fault = world.emulator.faults.add(Fault(call="issue", action="hang"))
    await scenario.act(world)
    await world.advance(20 * MINUTE)
    late = world.emulator.state.all()
    fault.release("continue")
    await world.emulator.journal.wait("issue", world.emulator.journal.counts["issue"], finished=True)
    assert len(world.emulator.state.all()) == len(late) + 1
    seq = world.emulator.journal.last
    await world.advance(26 * HOUR)
    await check(world)  # not lost: taken as a renewal of Vercel's own, or reported
    assert "issue" not in world.calls(seq)


# --- the watch tells nothing ------------------------------------------------------------------------------------------


async def test_what_the_watch_did_not_tell_is_noticed_by_the_next_comparison(stage: Stage) -> None:
    """After an expired watch, kopf tells nothing of what was deleted meanwhile: the resync does."""
    world = stage.world
    await world.apply("owner", OLD)
    await world.quiet()
    world.watching = False
    await world.patch("owner", {"metadata": {"finalizers": None}})
    await world.delete("owner")
    await world.apply(NAME, OLD)
    operator = world.operator
    assert operator is not None
    await Resync(operator, world.settings, world.clock).again()
    assert [key.name for key in operator.objects.keys()] == [NAME]  # noqa: SIM118 - not a dict
    await settle()  # the queue hears of it
    await world.quiet()
    assert await world.ready(NAME) == ("True", "Issued")


@pytest.mark.parametrize(("scenario", "step", "skip", "when"), moments(RENEWAL, CHANGE, whens=("after",)))
async def test_deleted_while_the_watch_tells_nothing(
    stage: Stage, scenario: Scenario, step: Step, skip: int, when: When
) -> None:
    world = stage.world
    await scenario.prepare(world)

    async def delete() -> None:
        world.watching = False
        await world.delete(NAME)

    assert await stage.interrupt(step, when, skip, lambda: scenario.act(world), delete)
    await world.advance(HOUR)
    world.watching = True
    await stage.judge(DELETION, needs=2)


@pytest.mark.parametrize(("scenario", "step", "skip", "when"), moments(FIRST_ISSUE, RENEWAL, CHANGE))
async def test_names_that_change_while_the_watch_tells_nothing(
    stage: Stage, scenario: Scenario, step: Step, skip: int, when: When
) -> None:
    world = stage.world
    await scenario.prepare(world)
    wanted = ["other.example.com"]

    async def change() -> None:
        world.watching = False
        await world.apply(NAME, wanted)

    assert await stage.interrupt(step, when, skip, lambda: scenario.act(world), change)
    await world.advance(HOUR)
    world.watching = True
    await stage.judge(replace(scenario, ends=_has_these_names(wanted)), needs=scenario.issues + 1)


def _has_these_names(wanted: list[str]) -> Callable[[World], Awaitable[None]]:
    async def ends(world: World) -> None:
        assert await world.ready(NAME) == ("True", "Issued")
        assert (await world.status(NAME))["cns"] == wanted
        assert list(world.live().values()) == [wanted]

    return ends
