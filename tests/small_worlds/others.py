"""What other people, and Vercel itself, may do in a small world."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from small_worlds.world import (
    LIFETIME,
    Cert,
    World,
    changed,
    iso,
    new_object,
    parsed,
    resource_of,
    stored,
    without_object,
)
from vercel_certificate_operator.core.resource import ADOPT_ANNOTATION, RENEW_ANNOTATION

FIRST = "a"
"""The resource that others play with."""
Action = Callable[[World], World | None]
"""Returns the world after it; None: it is not possible."""


def _edit(world: World, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> World | None:
    if FIRST not in world.objects:
        return None
    body = change(parsed(world.objects[FIRST]))
    return stored(world, FIRST, body) if body is not None else None


def _spec(**fields: Any) -> Action:
    return lambda world: _edit(world, lambda body: {**body, "spec": {**body["spec"], **fields}})


def _annotate(name: str, value: str) -> Action:
    return lambda world: _edit(world, lambda body: changed(body, annotations={name: value}))


def delete(world: World) -> World | None:
    def mark(body: dict[str, Any]) -> dict[str, Any] | None:
        metadata = body["metadata"]
        if "deletionTimestamp" in metadata:
            return None
        return changed(body, deletionTimestamp=iso(world.tick + world.ahead))

    return _edit(world, mark)


def remove_by_force(world: World) -> World | None:
    """Its finalizers are stripped, and it is deleted."""
    if FIRST not in world.objects:
        return None
    after = without_object(world, FIRST)
    return replace(after, tampered=after.tampered | {"force"})


def recreate(world: World) -> World | None:
    """Removed by force, and created again with the same spec: as a restore without status."""
    if FIRST not in world.objects:
        return None
    spec = parsed(world.objects[FIRST])["spec"]
    gone = remove_by_force(world)
    assert gone is not None
    return new_object(gone, FIRST, spec)


def strip_finalizers(world: World) -> World | None:
    return _edit(world, lambda body: changed(body, finalizers=None) if body["metadata"].get("finalizers") else None)


def touch(world: World) -> World | None:
    return _edit(world, lambda body: changed(body, labels={"touched": "yes"}))


def wipe_status(world: World) -> World | None:
    after = _edit(world, lambda body: {**body, "status": {}} if body.get("status") else None)
    return replace(after, tampered=after.tampered | {"wiped"}) if after is not None else None


def adopt(world: World) -> World | None:
    """The user names someone else's certificate."""
    theirs = next((cert for cert in world.certs if cert.maker == "other"), None)
    if theirs is None:
        return None
    after = _annotate(ADOPT_ANNOTATION, theirs.id)(world)
    return replace(after, adopted=after.adopted | {theirs.id}) if after is not None else None


def _issue(*, auto_renew: bool, age: int = 0) -> Action:
    def act(world: World) -> World | None:
        if FIRST not in world.objects or len(world.certs) >= world.budget.certificates:
            return None
        resource, number = resource_of(world.objects[FIRST]), world.numbers + 1
        created = world.tick - age
        cert = Cert(f"cert_{number}", resource.cns, created, created + LIFETIME, auto_renew, "other")
        tampered = world.tampered | ({"lookalike"} if auto_renew else set())
        return replace(world, numbers=number, certs=(*world.certs, cert), tampered=tampered)

    return act


def _renew(*, new_id: bool, removes_old: bool = False) -> Action:
    """Vercel renews the current certificate of the resource."""

    def act(world: World) -> World | None:
        text = world.objects.get(FIRST)
        old = world.cert(resource_of(text).status.id) if text is not None else None
        if old is None or world.tick < (old.created + old.expires) / 2:
            return None
        number = world.numbers + 1
        fresh = replace(old, created=world.tick, expires=world.tick + LIFETIME)
        if not new_id:
            return replace(world, certs=tuple(fresh if cert is old else cert for cert in world.certs))
        fresh = replace(fresh, id=f"cert_{number}", maker=old.id, key=None)
        left = tuple(cert for cert in world.certs if not (removes_old and cert is old))
        return replace(world, numbers=number, certs=(*left, fresh))

    return act


def vanish(world: World) -> World | None:
    text = world.objects.get(FIRST)
    cert = world.cert(resource_of(text).status.id) if text is not None else None
    if cert is None:
        return None
    left = tuple(other for other in world.certs if other is not cert)
    return replace(world, certs=left)


ACTIONS: dict[str, Action] = {
    "delete it": delete,
    "delete it with Retain": lambda world: (after := _spec(deletionPolicy="Retain")(world)) and delete(after),
    "remove it by force": remove_by_force,
    "recreate it": recreate,
    "strip its finalizers": strip_finalizers,
    "touch it": touch,
    "wipe its status": wipe_status,
    "suspend it": _spec(suspend=True),
    "change its names": _spec(cns=["example.com", "www.example.com"]),
    "request a renewal": _annotate(RENEW_ANNOTATION, "now"),
    "adopt a certificate": adopt,
    "issue one by hand": _issue(auto_renew=True),
    "upload one": _issue(auto_renew=False),
    "upload one that is hours old": _issue(auto_renew=False, age=3 * 3600),
    "Vercel renews under the same id": _renew(new_id=False),
    "Vercel renews under a new id": _renew(new_id=True),
    "Vercel renews and removes the old one": _renew(new_id=True, removes_old=True),
    "its certificate vanishes": vanish,
}
"""By what a reader calls it."""
