"""Everything that can happen next in a small world."""

from collections.abc import Iterator
from dataclasses import replace

from small_worlds.driver import Driver, due_keys, started
from small_worlds.others import ACTIONS
from small_worlds.world import (
    LIFETIME,
    LIMITS,
    POST_LIMIT,
    Cert,
    Next,
    Pending,
    Post,
    Process,
    World,
    carried_out,
    key_of_text,
    resource_of,
    spend,
)
from vercel_certificate_operator.core.failures import Failure, Fate
from vercel_certificate_operator.core.known import List, Remove
from vercel_certificate_operator.core.resource import Key

LOST = Failure(Fate.UNKNOWN, "no answer")
REFUSED = Failure(Fate.REFUSED, "the domain is not configured", 449, "configuration_error")
STALE = 11
"""Seconds for which a process stands still: longer than a recorded attempt may wait for its POST."""
RESYNC = 1800
"""Seconds after which every process has listed everything."""
DAY = 86400


def nexts(world: World) -> Iterator[Next]:
    """Yields everything that can happen next."""
    yield from _processes_go_on(world)
    if world.budget.clocks:
        for step in (-DAY, DAY):
            yield f"the API server's clock is set {step} s ahead", replace(spend(world, clocks=1), ahead=step)
    for post in world.posts:
        yield from _post_goes_on(world, post)
    for ghost in world.ghosts:
        left = tuple(other for other in world.ghosts if other is not ghost)
        yield f"{ghost.key.name}: a late request arrives", carried_out(replace(world, ghosts=left), ghost)[0]
        yield f"{ghost.key.name}: a late request is dropped", replace(world, ghosts=left)
    if world.budget.others:
        less = spend(world, others=1)
        for name, action in ACTIONS.items():
            if (done := action(less)) is not None:
                yield f"others: {name}", done
    yield from _time_passes(world)


def _processes_go_on(world: World) -> Iterator[Next]:
    for number, process in enumerate(world.processes):
        for key in due_keys(world, process):
            driver = Driver(world, number)
            after = driver.run(key)
            yield f"{number}.{key.name}: {', '.join(driver.steps)}", after
        for key in process.pending:
            yield from _request_goes_on(world, number, key)
        yield from deliveries(world, number, process)
        if world.budget.faults:
            less = spend(world, faults=1)
            yield f"{number}: crash", crashed(less, number)
            if any(world.objects.get(name) != text for name, text in world.past.items()):
                yield f"{number}: crash; the next one starts with an old list", crashed(less, number, stale=True)
    if world.budget.faults and any(process.pending for process in world.processes):
        yield "the process stands still", replace(spend(world, faults=1), tick=world.tick + STALE)


def _request_goes_on(world: World, number: int, key: Key) -> Iterator[Next]:
    """A request to the API server, or a call to Vercel, is carried out and answered, or is not."""
    pending = world.processes[number].pending[key]
    call = pending.call
    name = f"{number}.{key.name}: {type(call).__name__ if call is not None else 'written'}"
    driver = Driver(world, number)
    after = driver.land(key) if call is None else driver.answer(key)
    yield f"{name}; {', '.join(driver.steps)}", after
    if isinstance(call, List) and pending.listed != driver.all_certificates():
        driver = Driver(world, number)
        after = driver.answer(key, early=True)
        yield f"{name}, as it was when it was sent; {', '.join(driver.steps)}", after
    if not world.budget.faults:
        return
    less = spend(world, faults=1)
    driver = Driver(less, number)
    if call is not None:
        after = driver.call_fails(key)
        yield f"{name} fails; {', '.join(driver.steps)}", after
    else:
        yield f"{name}, no answer", driver.land(key, answered=False)
        yield f"{name}? No", Driver(less, number).fail(key)


def deliveries(world: World, number: int, process: Process) -> Iterator[Next]:
    """The watch shows the newest state of an object. States in between are not observed."""
    for key, text in process.views.items():
        newest = world.objects.get(key.name)
        if newest == text:
            continue
        driver = Driver(world, number)
        if newest is None or key_of_text(newest) != key:
            driver.vanish(key)
        if newest is not None:
            driver.see(newest)
        yield f"{number}: sees {key.name}", driver.done()
    known = {key.name for key in process.views}
    for name, text in world.objects.items():
        if name not in known:
            driver = Driver(world, number)
            driver.see(text)
            yield f"{number}: sees {name}", driver.done()


def crashed(world: World, number: int, *, stale: bool = False) -> World:
    """A process is gone, and a new one starts. What it had sent may still arrive."""
    process = world.processes[number]
    posts = tuple(replace(post, process=None) if post.process == number else post for post in world.posts)
    unsaid = {key for key, memory in process.memories.items() if memory.farewell is not None}
    world = replace(world, warned=world.warned | unsaid)
    ghosts = (*world.ghosts, *(pending for pending in process.pending.values() if _changes_something(pending)))
    return started(replace(world, posts=posts, ghosts=ghosts), number, stale=stale)


def _changes_something(pending: Pending) -> bool:
    return pending.call is None or isinstance(pending.call, Remove)


def _post_goes_on(world: World, post: Post) -> Iterator[Next]:
    name = f"POST {post.attempt.id} of {post.key.name}"
    without = replace(world, posts=tuple(other for other in world.posts if other is not post))
    if post.made is None:
        if len(world.certs) < world.budget.certificates:
            yield f"{name}: carried out", issued(world, post)
        if post.process is None:
            yield f"{name}: never carried out", without
        elif world.budget.faults:
            less = spend(without, faults=1)
            yield f"{name}: refused", Driver(less, post.process).answered(post, None, REFUSED)
            ghost = replace(less, posts=(*less.posts, replace(post, process=None)))
            yield f"{name}: no answer, not carried out yet", Driver(ghost, post.process).answered(post, None, LOST)
    elif post.process is None:
        yield f"{name}: answered to nobody", without
    else:
        yield f"{name}: answered", Driver(without, post.process).answered(post, made_by(world, post).as_seen(), None)
        if world.budget.faults:
            less = spend(without, faults=1)
            yield f"{name}: carried out, no answer", Driver(less, post.process).answered(post, None, LOST)


def made_by(world: World, post: Post) -> Cert:
    """Returns the certificate that a POST has made. It may be removed already."""
    return next(cert for cert in (*world.certs, *world.removed) if cert.id == post.made)


def issued(world: World, post: Post) -> World:
    """Vercel issues a certificate."""
    number = world.numbers + 1
    text = world.objects.get(post.key.name)
    attempt = resource_of(text).status.open_attempt if text is not None and key_of_text(text) == post.key else None
    over = attempt is None or attempt.id != post.attempt.id
    late = over or world.tick - post.sent >= LIMITS.grace
    cert = Cert(
        f"cert_{number}", post.attempt.names, world.tick, world.tick + LIFETIME, True, post.attempt.id, post.key, late
    )
    posts = tuple(replace(post, made=cert.id) if other is post else other for other in world.posts)
    return replace(world, numbers=number, certs=(*world.certs, cert), posts=posts)


def _time_passes(world: World) -> Iterator[Next]:
    """Until something is due. Nothing else can be done before, but for POSTs in flight."""
    if not world.budget.jumps or any(process.pending or due_keys(world, process) for process in world.processes):
        return
    to = next_due(world)
    if to is None:
        return
    if to - world.tick > RESYNC and any(
        any(True for _ in deliveries(world, number, process)) for number, process in enumerate(world.processes)
    ):
        return
    yield f"{to - world.tick} s pass", passed(spend(world, jumps=1), to)


def next_due(world: World) -> int | None:
    """Returns when something is due next; None: a POST must be answered before."""
    times = [tick for process in world.processes for tick in process.due.values()]
    times += [process.drift_at for process in world.processes if process.views]
    to = min((tick for tick in times if tick > world.tick), default=None)
    limits = [post.sent + POST_LIMIT for post in world.posts if post.process is not None]
    if limits and (to is None or to > min(limits)):
        to = min(limits) if min(limits) > world.tick else None
    return to


def passed(world: World, to: int) -> World:
    """Returns the world at a later time. The drift watch does its work when it is due."""
    world = replace(world, tick=to)
    for number, process in enumerate(world.processes):
        if process.drift_at <= to:
            world = Driver(world, number).drift()
    return world
