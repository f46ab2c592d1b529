"""The work queue: what is looked at, when, in which order, and by how many at a time."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.clock import TestClock, settle
from vercel_certificate_operator.workqueue import WorkQueue


class Looks:
    """Work that notes when it looked at what, and can be held up."""

    def __init__(self, clock: TestClock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self.at: list[tuple[float, str]] = []
        self.again: dict[str, list[float | None]] = {}
        self.held: set[str] = set()
        self.go_on = asyncio.Event()
        self.now_in_work: list[str] = []
        self.most_in_work = 0

    async def __call__(self, key: str) -> float | None:
        self.at.append((self._clock.monotonic() - self._began, key))
        assert key not in self.now_in_work, "one worker per key"
        self.now_in_work.append(key)
        self.most_in_work = max(self.most_in_work, len(self.now_in_work))
        try:
            if key in self.held:
                await self.go_on.wait()
        finally:
            self.now_in_work.remove(key)
        answers = self.again.get(key)
        return answers.pop(0) if answers else None

    @property
    def keys(self) -> list[str]:
        return [key for _, key in self.at]


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
async def looks(clock: TestClock) -> Looks:
    return Looks(clock)


@pytest.fixture
async def queue(clock: TestClock, looks: Looks) -> AsyncIterator[WorkQueue[str]]:
    """Four workers. The first character of a key is its group."""
    queue: WorkQueue[str] = WorkQueue(clock, workers=4, group_of=lambda key: key[0])
    task = asyncio.create_task(queue.run(looks))
    yield queue
    looks.go_on.set()
    queue.stop()
    await task


async def test_keys_are_looked_at_in_the_order_of_their_times(
    clock: TestClock, queue: WorkQueue[str], looks: Looks
) -> None:
    queue.add("late", 30)
    queue.add("soon", 10)
    queue.add("now")
    queue.add("later", 20)
    await clock.advance(60)
    assert looks.at == [(0, "now"), (10, "soon"), (20, "later"), (30, "late")]


async def test_keys_of_the_same_time_are_looked_at_in_the_order_in_which_they_came(
    clock: TestClock, queue: WorkQueue[str], looks: Looks
) -> None:
    for key in "cab":
        queue.add(key, 5)
    await clock.advance(5)
    assert looks.keys == ["c", "a", "b"]


async def test_a_key_that_is_added_twice_is_looked_at_once(
    clock: TestClock, queue: WorkQueue[str], looks: Looks
) -> None:
    queue.add("a")
    queue.add("a")
    queue.add("a", 5)
    assert len(queue) == 1
    await clock.advance(60)
    assert looks.at == [(0, "a")]


@pytest.mark.parametrize("delays", [(30, 10), (10, 30)])
async def test_the_earliest_time_wins(
    clock: TestClock, queue: WorkQueue[str], looks: Looks, delays: tuple[float, float]
) -> None:
    for delay in delays:
        queue.add("a", delay)
    await clock.advance(60)
    assert looks.at == [(10, "a")]


async def test_a_time_in_the_past_is_now(clock: TestClock, queue: WorkQueue[str], looks: Looks) -> None:
    queue.add("a", -5)
    await settle()
    assert looks.at == [(0, "a")]


async def test_work_says_when_it_wants_to_look_again(clock: TestClock, queue: WorkQueue[str], looks: Looks) -> None:
    looks.again["a"] = [10, 0, None]
    queue.add("a")
    await clock.advance(60)
    assert looks.at == [(0, "a"), (10, "a"), (10, "a")]
    assert len(queue) == 0


async def test_a_key_that_is_added_while_in_work_is_looked_at_once_more(
    clock: TestClock, queue: WorkQueue[str], looks: Looks
) -> None:
    looks.held = {"a"}
    queue.add("a")
    await clock.advance(5)
    queue.add("a")
    queue.add("a")
    await clock.advance(5)
    assert looks.at == [(0, "a")]
    looks.go_on.set()
    await clock.advance(0)
    assert looks.at == [(0, "a"), (10, "a")]
    await clock.advance(60)
    assert len(looks.at) == 2


@pytest.mark.parametrize("again", [0.0, 3.0, 3600.0])
async def test_it_is_never_forgotten_whatever_the_work_says_then(
    clock: TestClock, queue: WorkQueue[str], looks: Looks, again: float
) -> None:
    """Added while in work, and due before the work is done, which then wants to look again later."""
    looks.held = {"a"}
    looks.again["a"] = [again, again, None]
    queue.add("a")
    await clock.advance(1)
    queue.add("a")
    await clock.advance(1)
    looks.go_on.set()
    await clock.advance(0)
    assert looks.at[:2] == [(0, "a"), (2, "a")]
    await clock.advance(3600)
    assert looks.at == [(0, "a"), (2, "a"), (2 + again, "a")]


async def test_a_later_time_given_while_in_work_yields_to_the_works_own(
    clock: TestClock, queue: WorkQueue[str], looks: Looks
) -> None:
    looks.held = {"a"}
    looks.again["a"] = [5, None]
    queue.add("a")
    await clock.advance(1)
    queue.add("a", 100)
    looks.go_on.set()
    await clock.advance(200)
    assert looks.at == [(0, "a"), (6, "a")]


async def test_a_key_in_work_holds_no_other_up(clock: TestClock, queue: WorkQueue[str], looks: Looks) -> None:
    looks.held = {"a"}
    queue.add("a")
    await settle()
    queue.add("a")
    queue.add("b")
    await settle()
    assert looks.keys == ["a", "b"]


async def test_no_more_are_in_work_than_there_are_workers_and_all_have_their_turn(
    clock: TestClock, queue: WorkQueue[str], looks: Looks
) -> None:
    looks.held = set("abcdefghij")
    for key in "abcdefghij":
        queue.add(key)
    await settle()
    assert looks.keys == ["a", "b", "c", "d"]
    assert set(queue.running) == {"a", "b", "c", "d"}
    assert len(queue) == 6
    looks.go_on.set()
    await settle()
    assert looks.keys == list("abcdefghij")
    assert looks.most_in_work == 4
    assert not queue.running


async def test_groups_whose_work_hangs_leave_workers_for_others(clock: TestClock) -> None:
    looks = Looks(clock)
    looks.held = {f"{group}{number}" for group in "abc" for number in range(100)}
    queue: WorkQueue[str] = WorkQueue(clock, workers=8, group_of=lambda key: key[0])
    task = asyncio.create_task(queue.run(looks))
    for group in "abc":
        for number in range(100):
            queue.add(f"{group}{number}")
        await settle()
    assert [sum(key[0] == group for key in queue.running) for group in "abc"] == [4, 2, 1]
    queue.add("d0")
    await settle()
    assert "d0" in looks.keys
    queue.stop()
    looks.go_on.set()
    await task


async def test_a_key_that_waits_for_somebody_else_holds_no_worker(clock: TestClock) -> None:
    looks = Looks(clock)
    queue: WorkQueue[str] = WorkQueue(clock, workers=4, group_of=lambda key: key[0])

    async def work(key: str) -> None:
        with queue.away(key):
            await looks(key)

    looks.held = {f"a{number}" for number in range(50)}
    task = asyncio.create_task(queue.run(work))
    for number in range(50):
        queue.add(f"a{number}")
    await settle()
    assert len(queue.running) == 50
    queue.add("b")
    await settle()
    assert looks.keys[-1] == "b"
    queue.stop()
    looks.go_on.set()
    await task


async def test_a_key_that_is_forgotten_is_not_looked_at_until_it_is_added_again(
    clock: TestClock, queue: WorkQueue[str], looks: Looks
) -> None:
    queue.add("a", 10)
    queue.forget("a")
    queue.forget("never added")
    await clock.advance(60)
    assert looks.at == []
    queue.add("a", 10)
    await clock.advance(60)
    assert looks.at == [(70, "a")]


async def test_what_is_done_is_over_though_it_was_wanted_for_later_too(
    clock: TestClock, queue: WorkQueue[str], looks: Looks
) -> None:
    queue.add("a", 30)
    queue.add("a", 10)
    await clock.advance(10)
    queue.add("a", 50)
    await clock.advance(100)
    assert looks.at == [(10, "a"), (60, "a")]


async def test_nothing_wakes_it_without_need(clock: TestClock, queue: WorkQueue[str]) -> None:
    queue.add("a", 1000)
    queue.add("b", 2000)
    await settle()
    assert clock.next_wake == 1000
    queue.forget("a")
    await clock.advance(1000)
    assert clock.next_wake == 1000


async def test_stopped_it_hands_out_nothing_more_and_ends_with_the_work_at_hand(clock: TestClock) -> None:
    looks = Looks(clock)
    looks.held = {"a"}
    looks.again["a"] = [0]
    queue: WorkQueue[str] = WorkQueue(clock)
    task = asyncio.create_task(queue.run(looks))
    queue.add("a")
    await settle()
    queue.add("b", 5)
    queue.stop()
    queue.add("c")
    await clock.advance(10)
    assert not task.done()
    looks.go_on.set()
    await settle()
    assert task.done()
    await task
    assert looks.keys == ["a"]


async def test_stopped_when_idle_it_ends_at_once(clock: TestClock) -> None:
    queue: WorkQueue[str] = WorkQueue(clock)
    task = asyncio.create_task(queue.run(Looks(clock)))
    queue.add("a", 100)
    await settle()
    queue.stop()
    await settle()
    assert task.done()


async def test_work_that_was_cancelled_takes_nothing_down_with_it(
    clock: TestClock, queue: WorkQueue[str], looks: Looks
) -> None:
    looks.held = {"a"}
    queue.add("a")
    await settle()
    queue.running["a"].cancel()
    await settle()
    assert not queue.running
    looks.held = set()
    queue.add("a")
    queue.add("b")
    await settle()
    assert looks.keys == ["a", "a", "b"]


async def test_a_bug_in_the_work_ends_the_run(clock: TestClock) -> None:
    async def work(key: str) -> float | None:
        raise ZeroDivisionError(key)

    queue: WorkQueue[str] = WorkQueue(clock)
    queue.add("a")
    with pytest.raises(ExceptionGroup) as raised:
        await queue.run(work)
    assert raised.group_contains(ZeroDivisionError)


async def test_many_keys_are_each_looked_at_at_their_time(clock: TestClock) -> None:
    looks = Looks(clock)
    queue: WorkQueue[str] = WorkQueue(clock)
    task = asyncio.create_task(queue.run(looks))
    for number in range(1000):
        queue.add(f"key-{number}", (number * 7919) % 1000 / 10)
    await clock.advance(100)
    assert len(looks.at) == 1000
    assert looks.at == sorted(looks.at, key=lambda look: look[0])
    assert all(when == pytest.approx((int(key[4:]) * 7919) % 1000 / 10) for when, key in looks.at)
    queue.stop()
    await task


async def test_what_is_due_and_waits_for_a_worker_is_counted_with_its_age(
    clock: TestClock, queue: WorkQueue[str], looks: Looks
) -> None:
    looks.held = set("abcd")
    for key in "abcde":
        queue.add(key)
    queue.add("later", 60)
    await clock.advance(7)
    assert queue.overdue == (1, 7.0)
    looks.go_on.set()
    await settle()
    assert queue.overdue == (0, 0.0)
