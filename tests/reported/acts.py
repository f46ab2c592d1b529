"""What other people, Vercel itself and other tools do."""

from datetime import timedelta
from typing import Any

from support import invariants
from support.acting import DAY, HOUR, asked
from support.world import World
from vercel_certificate_operator.core.resource import GROUP, PLURAL, VERSION
from vercel_emulator.models import Behaviour, Certificate, Fault, Injection, Renewal

STRANGERS_TOKEN = "token-of-another-user-0123456789"
"""Of a token that is for another account."""


def behave(world: World, **switches: Any) -> None:
    """Change switches of the emulated Vercel."""
    state = world.emulator.state
    state.behaviour = Behaviour.model_validate(state.behaviour.model_dump() | switches)


def fails(world: World, call: Any, times: int | None = 1, **fault: Any) -> Any:
    """Make calls to Vercel fail. Returns the fault."""
    return world.emulator.faults.add(Fault.model_validate({"call": call, "times": times, **fault}))


def theirs(
    world: World,
    *cns: str,
    id: str = "cert_theirs",  # noqa: A002 - as in the API
    age: timedelta = 30 * DAY,
    left: timedelta = 60 * DAY,
    **more: Any,
) -> Certificate:
    """Another person's certificate, that old and with so much time left."""
    now = world.emulator.clock.now_ms()
    created, expires = (int(now + span.total_seconds() * 1000) for span in (-age, left))
    return world.emulator.state.inject(Injection(cns=[*cns], id=id, created_at=created, expires_at=expires, **more))


def renewed_by_vercel(world: World, certificate_id: str, **renewal: Any) -> Certificate:
    """Vercel renews a certificate now, by itself."""
    return world.emulator.state.renew(certificate_id, Renewal.model_validate(renewal))


def posts(world: World, *cns: str) -> int:
    """How many certificates were requested, for these names or for any."""
    return sum(not cns or sorted(entry.cns or ()) == sorted(cns) for entry in asked(world, "issue"))


async def replaced(world: World, name: str, **metadata: Any) -> None:
    """Replace a resource as a whole, with only this in its metadata: ``kubectl replace`` of a manifest in Git."""
    world.acts.append(world.emulator.journal.last)
    there = await world.get(name)
    assert there is not None
    body = {**there, "metadata": {"name": name, "namespace": world.namespace, **metadata}}
    body.pop("status", None)
    await world.custom.replace_namespaced_custom_object(GROUP, VERSION, world.namespace, PLURAL, name, body)


async def created(world: World, manifest: dict[str, Any], *, status: dict[str, Any] | None = None) -> None:
    """Create a resource from a manifest, as a restore from a backup does: with a new uid.

    Args:
        status: what is restored into the status (Velero: ``--restore-status``).
    """
    world.acts.append(world.emulator.journal.last)
    metadata = {
        field: manifest["metadata"][field]
        for field in ("name", "namespace", "labels", "annotations", "finalizers")
        if field in manifest["metadata"]
    }
    body = {**manifest, "metadata": metadata}
    namespace = metadata["namespace"]
    await world.custom.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, body)
    if status is not None:
        await world.patch_status(metadata["name"], status)


async def cluster_lost(world: World) -> list[dict[str, Any]]:
    """The cluster is gone, and the operator with it. Returns the manifests as a backup has them, status included."""
    await world.crash()
    bodies = await world.all()
    for body in bodies:
        name = body["metadata"]["name"]
        await world.patch(name, {"metadata": {"finalizers": None}})
        await world.delete(name)
    return bodies


async def said(world: World, *reasons: str) -> list[str]:
    """The notes of all Events with these reasons; without any, of all Events."""
    return [event["note"] for event in await invariants.events(world) if not reasons or event["reason"] in reasons]


async def held(world: World, name: str = "site") -> list[str]:
    """The certificates that a resource's status names, the current one first."""
    body = await world.get(name)
    assert body is not None
    return invariants.ids(body)


async def restored_without_status(world: World) -> None:
    """Everything is created again from its manifests, and a new operator starts."""
    for body in await cluster_lost(world):
        await created(world, body)
    await world.clock.advance(HOUR.total_seconds())


async def vercels_clock_is_ahead(world: World, ahead: timedelta) -> None:
    """For 14 hours. Then a day passes with the right time."""
    behave(world, date_offset=ahead.total_seconds())
    await world.advance(14 * HOUR)
    behave(world, date_offset=0)
    await world.advance(DAY)


async def deleted(world: World, name: str = "site") -> None:
    """Delete a resource. An hour later it is gone."""
    await world.delete(name)
    await world.advance(HOUR)
    assert await world.get(name) is None
