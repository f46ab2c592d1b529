"""Everything that can happen in a small world, and what must hold in each state of it.

Breadth-first: every state is reached by the fewest steps. Two states are the same if they differ only in the names of
ids and by a shift in time.
"""

import re
import time as real_time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from small_worlds.others import ACTIONS
from small_worlds.world import (
    DRIFT,
    LIFETIME,
    LIMITS,
    POST_LIMIT,
    Cert,
    Driver,
    Next,
    Pending,
    Post,
    Process,
    World,
    carried_out,
    due_keys,
    ids_of,
    key_of_text,
    parsed,
    resource_of,
    spend,
    started,
    tick_of,
    wall,
)
from vercel_certificate_operator.core.failures import Failure, Fate
from vercel_certificate_operator.core.known import Decision, Remove, Wait
from vercel_certificate_operator.core.memory import Memory, Round
from vercel_certificate_operator.core.ownership import ATTEMPT_LIMIT
from vercel_certificate_operator.core.resource import Key, Resource
from vercel_certificate_operator.core.times import BACK_DATED, LIST_AGE

LOST = Failure(Fate.UNKNOWN, "no answer")
REFUSED = Failure(Fate.REFUSED, "the domain is not configured", 449, "configuration_error")
STALE = 11
"""Seconds for which a process stands still: longer than a recorded attempt may wait for its POST."""
RESYNC = 1800
"""Seconds after which every process has listed everything."""
DAY = 86400
HEALTHY_DAYS = 10
"""In which a world that is healthy must settle: longer than the longest wait."""
MOST_HEALTHY_STEPS = 3000


# --- what can happen next ---------------------------------------------------------------------------------------------


def nexts(world: World) -> Iterator[Next]:
    """Yields everything that can happen next."""
    yield from _processes_go_on(world)
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
        yield from _deliveries(world, number, process)
        if world.budget.faults:
            yield f"{number}: crash", crashed(spend(world, faults=1), number)
        if world.budget.steps_of_a_clock:
            for step in (-DAY, DAY):
                yield f"{number}: the clock is set by {step} s", _clock_set(world, number, step)
    if world.budget.faults and any(process.pending for process in world.processes):
        yield "the process stands still", replace(spend(world, faults=1), tick=world.tick + STALE)


def _request_goes_on(world: World, number: int, key: Key) -> Iterator[Next]:
    """A request to the API server, or a call to Vercel, is carried out and answered, or is not."""
    call = world.processes[number].pending[key].call
    name = f"{number}.{key.name}: {type(call).__name__ if call is not None else 'written'}"
    driver = Driver(world, number)
    after = driver.land(key) if call is None else driver.answer(key)
    yield f"{name}; {', '.join(driver.steps)}", after
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


def _deliveries(world: World, number: int, process: Process) -> Iterator[Next]:
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


def crashed(world: World, number: int) -> World:
    """A process is gone, and a new one starts. What it had sent may still arrive."""
    process = world.processes[number]
    posts = tuple(replace(post, process=None) if post.process == number else post for post in world.posts)
    ghosts = (*world.ghosts, *(pending for pending in process.pending.values() if _changes_something(pending)))
    return started(replace(world, posts=posts, ghosts=ghosts), number)


def _changes_something(pending: Pending) -> bool:
    return pending.call is None or isinstance(pending.call, Remove)


def _clock_set(world: World, number: int, step: int) -> World:
    processes = list(world.processes)
    processes[number] = replace(processes[number], error=processes[number].error + step)
    return replace(spend(world, steps_of_a_clock=1), processes=tuple(processes))


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
        cert = world.cert(post.made) or next(one for one in world.removed if one.id == post.made)
        yield f"{name}: answered", Driver(without, post.process).answered(post, cert.as_seen(), None)
        if world.budget.faults:
            less = spend(without, faults=1)
            yield f"{name}: carried out, no answer", Driver(less, post.process).answered(post, None, LOST)


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
        any(True for _ in _deliveries(world, number, process)) for number, process in enumerate(world.processes)
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


# --- when two states are the same -------------------------------------------------------------------------------------

_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_NUMBERED = re.compile(r'(attempt-|cert_|uid-|"resourceVersion": "|#)(\d+)')


def canonical(world: World) -> str:
    """Returns a text that two states have in common if nothing but names and the time differs."""
    text = _dump(world)
    now = world.tick
    text = _TIME.sub(lambda match: f"@{_tick(match[0]) - now}", text)
    numbers = sorted({int(match[2]) for match in _NUMBERED.finditer(text)})
    ranks = {number: rank for rank, number in enumerate(numbers)}
    return _NUMBERED.sub(lambda match: f"{match[1]}{ranks[int(match[2])]}", text)


_ticks: dict[str, int] = {}


def _tick(text: str) -> int:
    if text not in _ticks:
        from datetime import datetime

        _ticks[text] = tick_of(datetime.fromisoformat(text))
    return _ticks[text]


def _dump(world: World) -> str:
    now = world.tick
    parts: list[Any] = [sorted(world.objects.items())]
    parts.append([_cert(cert, now) for cert in world.certs])
    live = {cert.id for cert in world.certs}
    parts.append([_process(process, now) for process in world.processes])
    parts.append([(post.attempt.id, post.sent - now, post.process, post.made) for post in world.posts])
    parts.append([_pending(ghost, now) for ghost in world.ghosts])
    parts.append((sorted(world.said & live), sorted(world.adopted & live), sorted(world.tampered)))
    budget = world.budget
    parts.append((budget.faults, budget.others, budget.steps_of_a_clock, budget.jumps))
    return repr(parts)


def _cert(cert: Cert, now: int) -> Any:
    return cert.id, sorted(cert.cns), cert.created - now, cert.expires - now, cert.auto_renew, cert.maker, cert.late


def _process(process: Process, now: int) -> Any:
    return (
        sorted(process.views.items()),
        [(key, _memory(memory, now)) for key, memory in sorted(process.memories.items())],
        [(key, _round(round_, now)) for key, round_ in sorted(process.rounds.items())],
        sorted((key, max(tick - now, 0)) for key, tick in process.due.items()),
        [_pending(pending, now) for _, pending in sorted(process.pending.items())],
        sorted((key, since - now) for key, since in process.reserved.items()),
        [(str(scope), _listing(listing, now)) for scope, listing in process.lists.items()],
        process.error,
        process.drift_at - now,
        sorted(process.reported),
        sorted(process.removing),
        sorted((key, ids) for key, ids in process.doubtful.items() if ids),
        [(now - at, one.id) for at, one in process.issued if now - at <= LIST_AGE],
        [(str(scope), sorted(ids)) for scope, ids in process.deferred.items() if ids],
    )


def _listing(listing: Any, now: int) -> Any:
    if listing is None:
        return None
    age = now - listing.begun
    return (age if age <= LIST_AGE else "old"), [
        (one.id, one.expires_at and tick_of(one.expires_at) - now, sorted(one.cns)) for one in listing.certificates
    ]


def _memory(memory: Memory, now: int) -> Any:
    reply = memory.reply
    return (
        memory.seen[0],
        memory.seen[1] - now,
        reply
        and (reply.attempt.id, reply.at - now, reply.took, reply.certificate and reply.certificate.id, reply.failure),
        memory.in_flight,
        memory.void,
        sorted((call, one.times, one.since - now, one.retry_at - now) for call, one in memory.failed.items()),
        hash(memory.wish) if memory.wish is not None else None,
        _listing(memory.noticed, now),
        memory.unpublished and str(memory.unpublished[0]),
        memory.farewell is not None,
    )


def _round(round_: Round, now: int) -> Any:
    return (
        sorted((one, got.at - now, got.certificate is not None) for one, got in round_.got.items()),
        sorted(round_.removed.items()),
        _listing(round_.listing, now),
        round_.token_read,
        round_.token_hash,
        round_.just_failed,
    )


def _until(decision: Decision, now: int) -> float | None:
    until = decision.action.until if isinstance(decision.action, Wait) else None
    return (until - wall(now)).total_seconds() if until is not None else None


def _pending(pending: Pending, now: int) -> Any:
    return (
        pending.kind,
        pending.base,
        pending.status,
        pending.closes,
        pending.decision and pending.decision.note and pending.decision.note.reason,
        pending.decision
        and str(getattr(pending.decision.action, "until", None)).replace("+00:00", "Z").replace(" ", "T"),
        pending.free and (pending.free - wall(now)).total_seconds(),
        now - pending.at > STALE - 1,
        pending.call and (type(pending.call).__name__, getattr(pending.call, "certificate_id", None)),
    )


# --- what must hold ---------------------------------------------------------------------------------------------------


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
    if ready is None or ready.status != "True" or resource.deleting or "vercel" in world.tampered:
        return []
    cert = world.cert(resource.status.id)
    newest = ready.observed_generation == resource.generation
    if cert is None:
        return [f"{resource.key.name} is Ready without a certificate"]
    if newest and not resource.cns <= cert.cns:
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


# --- a healthy world settles ------------------------------------------------------------------------------------------


def healthy(world: World) -> World | None:
    """Returns the world one step later, if nothing goes wrong any longer; None: only time can pass."""
    if world.ghosts or any(post.process is None for post in world.posts):
        return replace(world, ghosts=(), posts=tuple(post for post in world.posts if post.process is not None))
    for number, process in enumerate(world.processes):
        for _, after in _deliveries(world, number, process):
            return after
        for key, pending in process.pending.items():
            driver = Driver(world, number)
            return driver.land(key) if pending.call is None else driver.answer(key)
    for post in world.posts:
        if post.made is None:
            return issued(world, post)
        cert = world.cert(post.made)
        assert post.process is not None
        left = replace(world, posts=tuple(other for other in world.posts if other is not post))
        seen = cert or next(one for one in world.removed if one.id == post.made)
        return Driver(left, post.process).answered(post, seen.as_seen(), None)
    for number, process in enumerate(world.processes):
        for key in due_keys(world, process):
            return Driver(world, number).run(key)
    return None


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
        if cert.id in held or cert.id in world.said or owner(world, cert) in ("other", "adopted"):
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


@dataclass
class Explorer:
    """Explores one world."""

    start: World
    healed: set[int] = field(default_factory=set)
    """States from which a healthy world settles, as hashes."""
    seen: dict[int, tuple[int | None, str]] = field(default_factory=dict)
    """States, as hashes: the one before, and what happened."""
    steps: int = 0
    healthy_steps: int = 0

    def explore(self, *, states: int = 10**9, seconds: float = 10**9, heal_every: int = 1) -> list[str]:
        """Explores all states, or so many.

        Args:
            heal_every: of so many states, one is checked to settle. 1: all are.

        Returns:
            The first problem, with the steps that lead to it; empty: there is none.
        """
        begun = real_time.monotonic()
        first = hash(canonical(self.start))
        self.seen[first] = None, "start"
        queue = deque([(first, self.start)])
        while queue and len(self.seen) < states and real_time.monotonic() - begun < seconds:
            number, world = queue.popleft()
            if number % heal_every == 0 and (wrong := self.settles(world)):
                return [*wrong, *self._path(number)]
            for name, after in nexts(world):
                self.steps += 1
                if wrong := problems(world, after):
                    return [*wrong, *self._path(number), name]
                found = hash(canonical(after))
                if found not in self.seen:
                    self.seen[found] = number, name
                    queue.append((found, after))
        self.complete = not queue
        return []

    complete: bool = False
    """Whether all states were explored."""

    def _path(self, number: int) -> list[str]:
        path = []
        at: int | None = number
        while at is not None:
            at, name = self.seen[at]
            path.append(name)
        return path[::-1]

    def settles(self, world: World) -> list[str]:
        """Returns why a world does not settle once it is healthy; empty: it does."""
        world = replace(world, budget=replace(world.budget, faults=0, others=0, steps_of_a_clock=0, certificates=99))
        path: list[int] = []
        end = world.tick + HEALTHY_DAYS * DAY
        good_since: tuple[int, Any] | None = None
        for _ in range(MOST_HEALTHY_STEPS):
            number = hash(canonical(replace(world, budget=self.start.budget)))
            if number in self.healed and good_since is None:
                break
            path.append(number)
            self.healthy_steps += 1
            after = healthy(world)
            if after is None:
                if not is_good(world):
                    good_since = None
                elif good_since is None or good_since[1] != world.objects:
                    good_since = world.tick, world.objects
                elif world.tick - good_since[0] > DRIFT:
                    if lost := left_behind(world):
                        return [*lost, "in the healthy world:", *story(world)]
                    break
                to = next_due(world)
                if to is None and is_good(world):
                    break
                if to is None or to > end:
                    return ["it does not settle:", *story(world)]
                after = passed(world, to)
            elif wrong := problems(world, after):
                return [*wrong, "in the healthy world:", *story(world)]
            world = after
        else:
            return ["it never settles:", *story(world)]
        self.healed.update(path)
        return []


def story(world: World) -> list[str]:
    """Returns lines for the message of a failing test."""
    lines = [f"tick {world.tick}"]
    for name, text in world.objects.items():
        body = parsed(text)
        conditions = (body.get("status") or {}).get("conditions", ())
        lines.append(f"{name}: {body['spec']} holds {ids_of(text)}, {body['metadata']}")
        lines += [f"  {one['type']}={one['status']} {one['reason']}: {one['message']}" for one in conditions]
        lines.append(f"  attempt: {(body.get('status') or {}).get('attempt')}")
    lines += [f"{cert}" for cert in world.certs]
    for process in world.processes:
        lines.append(f"due {dict(process.due)} drift {process.drift_at} {list(process.pending)} {list(process.rounds)}")
    return lines
