"""The exploration of a small world: all that can happen in it, breadth-first, so that each trace is a shortest one.

In each state the promises must hold, and from each state the world must settle once it is healthy: everything is as it
should be and stays unchanged (what Anvil, OSDI 2024, proves of its controllers).
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from small_worlds.driver import Driver, Endless, due_keys
from small_worlds.promises import is_good, left_behind, problems
from small_worlds.same import canonical
from small_worlds.steps import DAY, crashed, deliveries, issued, made_by, next_due, nexts, passed
from small_worlds.world import DRIFT, Budget, World, ids_of, parsed

HEALTHY_DAYS = 10
"""In which a world that is healthy must settle: longer than the longest wait."""
MOST_HEALTHY_STEPS = 3000


@dataclass(frozen=True)
class Violation:
    """A promise that was broken."""

    what: tuple[str, ...]
    trace: tuple[str, ...]
    """What happened before, from the start."""
    world: World

    def __str__(self) -> str:
        steps = (f"{number:4}. {step}" for number, step in enumerate(self.trace))
        return "\n".join([*self.what, "after:", *steps, "in this state:", *story(self.world)])


@dataclass
class Explorer:
    """Explores one world."""

    start: World
    states: dict[int, tuple[int | None, str]] = field(default_factory=dict)
    """Hashes of the states that were reached: the state before, and what happened."""
    explored: int = 0
    """States of which everything that can happen next was tried."""
    transitions: int = 0
    depth: int = 0
    """Steps from the start within which everything was explored, so far."""
    complete: bool = False
    """Whether nothing is left to explore within the world's budget."""
    healthy_steps: int = 0
    _settling: set[int] = field(default_factory=set)
    """Hashes of states from which a healthy world settles."""

    def explore(
        self,
        *,
        states: int = 10**9,
        seconds: float = float("inf"),
        progress: Callable[["Explorer"], None] = lambda _: None,
    ) -> Violation | None:
        """Explores all that can happen, or until so many states or seconds. Returns the first violation."""
        end = time.monotonic() + seconds
        first = hash(canonical(self.start))
        self.states[first] = None, "the start"
        queue = deque([(first, 0, self.start)])
        while queue:
            if len(self.states) >= states or time.monotonic() >= end:
                return None
            number, self.depth, world = queue.popleft()
            if (violation := self._settles(number, world)) is not None:
                return violation
            try:
                for name, after in nexts(world):
                    self.transitions += 1
                    if wrong := problems(world, after):
                        return Violation(tuple(wrong), (*self._trace(number), name), after)
                    found = hash(canonical(after))
                    if found not in self.states:
                        self.states[found] = number, name
                        queue.append((found, self.depth + 1, after))
            except Endless as endless:
                return Violation((str(endless),), tuple(self._trace(number)), world)
            self.explored += 1
            progress(self)
        self.complete = True
        return None

    def _trace(self, number: int) -> list[str]:
        trace = []
        at: int | None = number
        while at is not None:
            at, name = self.states[at]
            trace.append(name)
        return trace[::-1]

    def _settles(self, number: int, world: World) -> Violation | None:
        """Checks that the world settles once it is healthy, whichever of the processes goes on."""
        for process in range(len(world.processes)):
            trace = [*self._trace(number), "from here on, nothing goes wrong"]
            if len(world.processes) > 1:
                trace[-1] += f", and process {process} alone goes on"
            violation = self._settles_with(process, world, trace)
            if violation is not None:
                return violation
        return None

    def _settles_with(self, process: int, world: World, trace: list[str]) -> Violation | None:
        world = replace(_alone(world, process), ahead=0, budget=Budget(certificates=99))
        path: list[int] = []
        end = world.tick + HEALTHY_DAYS * DAY
        good: World | None = None
        """Since when everything is as it should be and unchanged."""
        for _ in range(MOST_HEALTHY_STEPS):
            number = hash(canonical(world))
            if number in self._settling and good is None:
                break
            path.append(number)
            self.healthy_steps += 1
            before = world
            try:
                after = healthy(world)
            except Endless as endless:
                return Violation((str(endless),), tuple(trace), world)
            if after is not None:
                if wrong := problems(before, after):
                    return Violation(tuple(wrong), tuple(trace), after)
                world = after
                continue
            if not is_good(world):
                good = None
            elif good is None or good.objects != world.objects:
                good = world
            to = next_due(world)
            if good is not None and (to is None or world.tick - good.tick > DRIFT):
                if lost := left_behind(world):
                    return Violation(tuple(lost), tuple(trace), world)
                break
            if to is None or to > end:
                return Violation(("It does not settle.",), tuple(trace), world)
            world = passed(world, to)
        else:
            return Violation(("It never settles: it goes on changing.",), tuple(trace), world)
        self._settling.update(path)
        return None


def _alone(world: World, number: int) -> World:
    """Returns the world in which one process goes on, and the others are gone."""
    for other in range(len(world.processes)):
        if other != number:
            world = crashed(world, other)
    posts = tuple(replace(post, process=None if post.process is None else 0) for post in world.posts)
    return replace(world, processes=(world.processes[number],), posts=posts)


def healthy(world: World) -> World | None:
    """Returns the world one step later, if nothing goes wrong any longer; None: only time can pass."""
    if world.ghosts or any(post.process is None for post in world.posts):
        return replace(world, ghosts=(), posts=tuple(post for post in world.posts if post.process is not None))
    for number, process in enumerate(world.processes):
        for _, after in deliveries(world, number, process):
            return after
        for key, pending in process.pending.items():
            driver = Driver(world, number)
            return driver.land(key) if pending.call is None else driver.answer(key)
    for post in world.posts:
        if post.made is None:
            return issued(world, post)
        assert post.process is not None
        left = replace(world, posts=tuple(other for other in world.posts if other is not post))
        return Driver(left, post.process).answered(post, made_by(world, post).as_seen(), None)
    for number, process in enumerate(world.processes):
        for key in due_keys(world, process):
            return Driver(world, number).run(key)
    return None


def story(world: World) -> list[str]:
    """Returns a state in words."""
    lines = [f"{world.tick} s after the start"]
    for name, text in world.objects.items():
        body = parsed(text)
        status = body.get("status") or {}
        lines.append(f"{name}: {body['spec']} holds {ids_of(text)}, {body['metadata']}")
        lines += [
            f"  {one['type']}={one['status']} {one['reason']}: {one['message']}" for one in status.get("conditions", ())
        ]
        lines.append(f"  attempt: {status.get('attempt')}")
    lines += [str(cert) for cert in world.certs]
    for process in world.processes:
        lines.append(f"due {dict(process.due)}, drift {process.drift_at}, pending {list(process.pending.values())}")
    return lines
