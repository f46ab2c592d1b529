"""What must hold in every state of a small world."""

from typing import Any

from small_worlds.world import LIMITS, Cert, Post, World, ids_of, key_of_text, resource_of, tick_of
from vercel_certificate_operator.core.ownership import ATTEMPT_LIMIT
from vercel_certificate_operator.core.resource import Resource
from vercel_certificate_operator.core.times import BACK_DATED


def problems(before: World, after: World) -> list[str]:
    """Returns what is wrong with a step."""
    found = [problem for text in after.objects.values() for problem in _ready_is_ready(after, text)]
    found += _two_holders(after)
    found += [f"{attempt} was sent, and is recorded as never sent" for attempt in after.posted & after.void]
    for post in after.posts:
        if post.attempt.id not in before.posted:
            found += _post_is_right(after, post)
    for cert in after.removed[len(before.removed) :]:
        found += _removal_is_right(after, cert)
    return found


def _ready_is_ready(world: World, text: str) -> list[str]:
    resource = resource_of(text)
    ready = resource.status.condition("Ready")
    if ready is None or ready.status != "True" or resource.deleting:
        return []
    cert = world.cert(resource.status.id)
    newest = ready.observed_generation == resource.generation
    if resource.status.id in {removed.id for removed in world.removed}:
        return [f"{resource.key.name} is Ready with {resource.status.id}, which the operator has removed"]
    if cert is not None and newest and not resource.cns <= cert.cns:
        return [f"{resource.key.name} is Ready with {cert.id}, which does not cover its names"]
    return []


def _two_holders(world: World) -> list[str]:
    holders: dict[str, str] = {}
    found = []
    for name, text in world.objects.items():
        for certificate_id in ids_of(text):
            if certificate_id in holders:
                found.append(f"{certificate_id} is in the statuses of {holders[certificate_id]} and {name}")
            holders[certificate_id] = name
    return found


def _post_is_right(world: World, post: Post) -> list[str]:
    name = post.key.name
    text = world.objects.get(name)
    if text is None or key_of_text(text) != post.key:
        return []  # it was removed by force in this moment
    resource = resource_of(text)
    found = []
    attempt = resource.status.attempt
    if attempt is None or attempt.id != post.attempt.id or not attempt.open:
        found.append(f"{name} sends {post.attempt.id}, which is not recorded")
    if sum(other.attempt.id == post.attempt.id for other in world.posts) > 1:
        found.append(f"{name} sends {post.attempt.id} twice")
    if (why := _needless(world, resource, post)) is not None:
        found.append(f"{name} sends {post.attempt.id} although {why}")
    if (why := _rival(world, resource)) is not None:
        found.append(f"{name} sends {post.attempt.id} although {why}")
    return found


def _needless(world: World, resource: Resource, post: Post) -> str | None:
    """Returns why the resource has what it needs, or can't know yet that it hasn't."""
    status = resource.status
    cert = world.cert(status.id)
    requested = resource.renew_request is not None and resource.renew_request != status.last_renew_request
    due = status.renewal_time is not None and tick_of(status.renewal_time) <= world.tick
    if cert is not None and resource.cns <= cert.cns and cert.expires > world.tick and not requested and not due:
        return f"it has {cert.id}, which is not due"
    for other_post in world.posts:
        earlier = other_post.key == post.key and other_post.attempt.id != post.attempt.id
        if earlier and world.tick - other_post.sent < LIMITS.grace and not world.tampered:
            return f"{other_post.attempt.id} may still be carried out"
    for other in world.certs:
        mine = other.key == post.key and other.cns == post.attempt.names and other.expires > world.tick
        known = other.late or other.id in status.certificate_ids or other.id in world.said
        if mine and not known and not world.tampered:
            return f"{other.id} exists, which it had requested"
    return None


def _rival(world: World, resource: Resource) -> str | None:
    """Returns why another resource is the owner of the names."""
    mine = _good(world, resource)
    for text in world.objects.values():
        other = resource_of(text)
        if other.key == resource.key or other.cns != resource.cns or other.spec.team != resource.spec.team:
            continue
        if other.deleting and not other.has_finalizer:
            continue
        attempt = other.status.open_attempt
        same = attempt is not None and attempt.names == resource.cns and attempt.id in world.posted
        if same and attempt is not None and tick_of(attempt.start) + ATTEMPT_LIMIT.total_seconds() > world.tick:
            return f"{other.key.name} has requested a certificate for the same names"
        theirs = _good(world, other)
        if theirs is not None and (mine is None or _seniority(other) < _seniority(resource)):
            return f"{other.key.name} has {theirs.id} for the same names"
    return None


def _good(world: World, resource: Resource) -> Cert | None:
    cert = world.cert(resource.status.id)
    return cert if cert is not None and cert.expires > world.tick and resource.cns <= cert.cns else None


def _seniority(resource: Resource) -> tuple[Any, str]:
    return resource.created_at, resource.key.uid


def _removal_is_right(world: World, cert: Cert) -> list[str]:
    if owner(world, cert) != "other" or cert.id in world.adopted:
        return []
    if _is_lookalike(world, cert):
        return []
    return [f"{cert.id} was removed, and is someone else's"]


def owner(world: World, cert: Cert) -> str:
    """Returns who made a certificate, or the one that it renews."""
    known = {one.id: one for one in (*world.certs, *world.removed)}
    while cert.maker in known:
        if cert.id in world.adopted:
            return "adopted"
        cert = known[cert.maker]
    return cert.maker


def _is_lookalike(world: World, cert: Cert) -> bool:
    """Whether somebody made it when the operator's own would have been made, and nobody can tell.

    Either it came while the answer to an attempt for the same names was lost, or when Vercel would have renewed the
    current one. Vercel doesn't say who made a certificate: that these count as the operator's own is decided.
    """
    return cert.auto_renew and "lookalike" in world.tampered


# --- once it is healthy -----------------------------------------------------------------------------------------------


def is_good(world: World) -> bool:
    """Returns whether everything is as it should be."""
    for text in world.objects.values():
        resource = resource_of(text)
        if resource.deleting:
            if resource.has_finalizer:
                return False
            continue  # someone else's finalizer holds it
        if resource.spec.suspend:
            continue
        ready, status = resource.status.condition("Ready"), resource.status
        if ready is None or ready.observed_generation != resource.generation or status.open_attempt is not None:
            return False
        if status.superseded:
            return False
        if ready.status == "True":
            cert = world.cert(status.id)
            if cert is None or cert.expires <= world.tick or not resource.cns <= cert.cns:
                return False
        elif ready.reason != "DuplicateOf" or not _has_owner(world, resource):
            return False
    return True


def _has_owner(world: World, resource: Resource) -> bool:
    return any(
        other.cns == resource.cns and other.key != resource.key and (_good(world, other) or other.spec.suspend)
        for other in map(resource_of, world.objects.values())
    )


def left_behind(world: World) -> list[str]:
    """Returns the certificates that the operator made and that nothing names."""
    held = {certificate_id for text in world.objects.values() for certificate_id in ids_of(text)}
    found = []
    for cert in world.certs:
        if cert.id in held or cert.id in world.said or cert.key in world.warned:
            continue
        if owner(world, cert) in ("other", "adopted"):
            continue
        watched = any(
            not resource.deleting
            and resource.cns == cert.cns
            and tick_of(resource.created_at) - BACK_DATED.total_seconds() <= cert.created
            for resource in map(resource_of, world.objects.values())
        )
        if watched or not world.tampered:
            found.append(f"{cert.id} is left at Vercel, and nothing says so")
    return found
