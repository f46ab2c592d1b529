"""Actions of users, and what they read, in addition to the methods of ``World``."""

import asyncio
import base64
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from kubernetes.aio.client import ApiException, CoreV1Api

from support import invariants
from support.world import World
from vercel_certificate_operator.core.resource import GROUP, PLURAL, VERSION
from vercel_emulator.models import Call, Entry, token_name

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
REF = {"name": "vercel", "key": "token"}
"""``spec.tokenSecretRef``."""


async def put_secret(world: World, token: str, *, name: str = "vercel", key: str = "token") -> None:
    """Creates or replaces a Secret with one key."""
    world.acts.append(world.emulator.journal.last)
    api = CoreV1Api(world.api)
    data = {key: base64.b64encode(token.encode()).decode()}
    body: Any = {"metadata": {"name": name}, "data": data}
    try:
        await api.replace_namespaced_secret(name, world.namespace, body)
    except ApiException as error:
        if error.status != 404:
            raise
        await api.create_namespaced_secret(world.namespace, body)


async def remove_secret(world: World, name: str = "vercel") -> None:
    world.acts.append(world.emulator.journal.last)
    await CoreV1Api(world.api).delete_namespaced_secret(name, world.namespace)


async def create_many(world: World, count: int, **spec: Any) -> list[str]:
    """Creates a number of resources at once: ``site-0`` for ``s0.example.com``, …"""
    names = [f"site-{number}" for number in range(count)]
    bodies = (
        {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "VercelCertificate",
            "metadata": {"name": name, "namespace": world.namespace},
            "spec": {"cns": [f"s{number}.example.com"], **spec},
        }
        for number, name in enumerate(names)
    )
    create = world.custom.create_namespaced_custom_object
    await asyncio.gather(*(create(GROUP, VERSION, world.namespace, PLURAL, body) for body in bodies))
    return names


async def by_age(world: World) -> list[str]:
    """Returns the names of the resources, the owner first: the oldest, then by uid."""
    bodies = await world.all()
    bodies.sort(key=lambda body: (body["metadata"]["creationTimestamp"], body["metadata"]["uid"]))
    return [body["metadata"]["name"] for body in bodies]


def superseded(status: dict[str, Any]) -> list[str]:
    """Returns the ids of the replaced certificates in a status."""
    return [entry["id"] for entry in status.get("superseded", ())]


async def statuses(world: World) -> dict[str, dict[str, Any]]:
    """Returns the statuses by the resource's name."""
    return {body["metadata"]["name"]: body.get("status") or {} for body in await world.all()}


async def reasons(world: World, kind: str) -> dict[str, str]:
    """Returns the reasons of a condition by the resource's name."""
    return {body["metadata"]["name"]: invariants.condition(body, kind).get("reason", "") for body in await world.all()}


async def events(world: World, name: str, reason: str) -> list[dict[str, Any]]:
    """Returns the Events with this reason about a resource."""
    return [
        event
        for event in await invariants.events(world)
        if event["regarding"]["name"] == name and event["reason"] == reason
    ]


async def notes(world: World, name: str, reason: str) -> list[str]:
    """Returns the messages of these Events."""
    return [event["note"] for event in await events(world, name, reason)]


def asked(world: World, call: Call, *, token: str | None = None, since: int = 0) -> list[Entry]:
    """Returns the requests of one kind that Vercel received, with one token or with any."""
    entries = world.emulator.journal.since(since, call)
    return [entry for entry in entries if token is None or entry.token == token_name(token)]


def time(text: str) -> datetime:
    """Returns a time of a status, aware."""
    return datetime.fromisoformat(text)


def seconds_until(world: World, text: str) -> float:
    """Returns the seconds until a time of a status."""
    return (time(text) - world.clock.now()).total_seconds()


async def advance_to(world: World, text: str, *, plus: float = 0.0) -> None:
    """Moves the clock to a time of a status plus these seconds."""
    await world.advance(seconds_until(world, text) + plus)


def apart(times: Iterable[str]) -> timedelta:
    """Returns the seconds between the first and the last of these times."""
    moments = [time(text) for text in times]
    return max(moments) - min(moments)
