"""A clean stop: what Vercel has answered is recorded before the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from control_plane import ControlPlane
from support.acting import asked
from support.operator_process import eventually
from support.world import World
from support.world import world as make_world
from vercel_certificate_operator.core.resource import Resource, Status
from vercel_certificate_operator.kube.vercel_certificates import Body, VercelCertificates
from vercel_emulator.models import Fault


class StoppedWhileWriting(VercelCertificates):
    """The stop is requested while the first write of a kind is in progress."""

    world: World
    closes_attempt: bool
    stop: "asyncio.Task[None] | None" = None

    async def write_status(self, resource: Resource, status: Status, *, closes_attempt: bool) -> Body:
        operator, cls = self.world.operator, StoppedWhileWriting
        if cls.stop is None and operator is not None and closes_attempt == cls.closes_attempt:
            cls.stop = asyncio.create_task(operator.reconciler.drain())
            await asyncio.sleep(0.05)
        return await super().write_status(resource, status, closes_attempt=closes_attempt)


@asynccontextmanager
async def stopped(control_plane: ControlPlane, namespace: str, *, closes_attempt: bool) -> AsyncIterator[World]:
    """A World with one resource, whose operator was stopped while it wrote that one's status."""
    StoppedWhileWriting.stop, StoppedWhileWriting.closes_attempt = None, closes_attempt
    settings: dict[str, Any] = {"certificates_class": StoppedWhileWriting}
    async with make_world(control_plane.kubeconfig, namespace, **settings) as world:
        StoppedWhileWriting.world = world
        await world.apply("site", ["example.com"])
        await world.sync()
        assert world.operator is not None
        await asyncio.wait_for(world.task, 20)
        stop: asyncio.Task[None] = vars(StoppedWhileWriting)["stop"]
        await stop
        yield world


async def test_an_answer_that_is_being_recorded_at_a_stop_is_recorded(
    control_plane: ControlPlane, crd: None, namespace: str
) -> None:
    async with stopped(control_plane, namespace, closes_attempt=True) as world:
        assert await world.ready("site") == ("True", "Issued")


async def test_an_attempt_that_is_being_recorded_at_a_stop_is_not_sent(
    control_plane: ControlPlane, crd: None, namespace: str
) -> None:
    async with stopped(control_plane, namespace, closes_attempt=False) as world:
        assert not asked(world, "issue")
        await world.restart()
        assert await world.ready("site") == ("True", "Issued")
        assert len(asked(world, "issue")) == 1


async def test_a_list_in_progress_does_not_delay_the_end(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", action="reset", when="before"))
    fault = world.emulator.faults.add(Fault(call="list", action="hang"))
    await world.apply("site", ["example.com"])
    await world.sync()
    await fault.wait(1)
    assert world.operator is not None
    await asyncio.wait_for(world.operator.reconciler.drain(), 5)
    assert fault.hanging == 1


async def test_an_answer_without_an_expiry_is_completed_before_the_end(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", action="answer", delay=1, omit=["expiresAt"]))
    await world.apply("site", ["example.com"])
    await world.sync()
    await eventually("the request", lambda: asked(world, "issue"))
    assert world.operator is not None
    await asyncio.wait_for(world.operator.reconciler.drain(), 20)
    assert await world.ready("site") == ("True", "Issued")


@pytest.mark.parametrize("during", [True, False], ids=["during the request", "after it"])
async def test_an_answer_without_an_expiry_is_recorded_at_the_end_although_a_get_fails(
    world: World, during: bool
) -> None:
    world.emulator.faults.add(Fault(call=["get", "list"], status=500, times=None))
    world.emulator.faults.add(Fault(call="issue", action="answer", delay=1 if during else 0, omit=["expiresAt"]))
    await world.apply("site", ["example.com"])
    if during:
        await world.sync()
        await eventually("the request", lambda: asked(world, "issue"))
    else:
        await world.quiet()
    assert world.operator is not None
    await asyncio.wait_for(world.operator.reconciler.drain(), 20)
    status = await world.status("site")
    assert status["attempt"]["outcome"]
    assert status["id"] in world.live()
