"""A clean stop: what Vercel has answered is written down before the end."""

import asyncio
from typing import Any

from control_plane import ControlPlane
from support.world import World
from support.world import world as make_world
from vercel_certificate_operator.core.resource import Resource, Status
from vercel_certificate_operator.kube.vercel_certificates import Body, VercelCertificates
from vercel_emulator.models import Fault


class StoppedWhileWriting(VercelCertificates):
    """The stop is asked for while the first status is on its way."""

    world: World
    stop: "asyncio.Task[None] | None" = None

    async def write_status(self, resource: Resource, status: Status, *, fenced_by_attempt: bool) -> Body:
        operator = self.world.operator
        if StoppedWhileWriting.stop is None and operator is not None:
            StoppedWhileWriting.stop = asyncio.create_task(operator.reconciler.drain())
            await asyncio.sleep(0.05)
        return await super().write_status(resource, status, fenced_by_attempt=fenced_by_attempt)


async def test_an_answer_that_is_being_written_down_is_written_down(
    control_plane: ControlPlane, crd: None, namespace: str
) -> None:
    settings: dict[str, Any] = {"certificates_class": StoppedWhileWriting}
    async with make_world(control_plane.kubeconfig, namespace, **settings) as world:
        StoppedWhileWriting.world = world
        await world.apply("site", ["example.com"])
        await world.sync()
        assert world.operator is not None
        await asyncio.wait_for(world.task, 20)
        assert await world.ready("site") == ("True", "Issued")


async def test_a_listing_under_way_does_not_hold_up_the_end(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", action="reset", when="before"))
    fault = world.emulator.faults.add(Fault(call="list", action="hang"))
    await world.apply("site", ["example.com"])
    await world.sync()
    await fault.wait(1)
    assert world.operator is not None
    await asyncio.wait_for(world.operator.reconciler.drain(), 5)
    assert fault.hanging == 1
