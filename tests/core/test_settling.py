"""The whole life of a certificate in the model: random users, random faults, and what holds whatever comes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.building import DAY, HOUR, MINUTE, NOW, SECOND
from core.model import Post, World

LONG_ENOUGH = 5 * DAY
"""Longer than any back-off, or a few of them in a row."""


def ready_world(lifetime: timedelta = 90 * DAY) -> World:
    world = World(lifetime=lifetime)
    world.live(HOUR)
    assert world.resource.status.ready
    return world


# --- without any fault ------------------------------------------------------------------------------------------------


def test_a_new_certificate_takes_one_post_one_status_write_and_one_event() -> None:
    world = World()
    world.round()
    assert (len(world.posts), world.writes, len(world.notes)) == (1, 1, 1)
    assert world.resource.status.ready


def test_a_restart_with_everything_ready_writes_and_asks_nothing() -> None:
    world = ready_world()
    before = world.resource
    for _ in range(5):
        world.restart()
        world.round()
    assert world.resource == before
    assert world.steps < 15


@pytest.mark.parametrize("lifetime", [90 * DAY, 47 * DAY, 6 * DAY, MINUTE], ids=str)
def test_certificates_are_renewed_in_time_for_a_long_while(lifetime: timedelta) -> None:
    world = World(lifetime=lifetime)
    world.live(10 * lifetime)
    renewals = [later.at - earlier.at for earlier, later in pairwise(world.posts)]
    assert 14 <= len(renewals) <= 16
    assert all(lifetime * 0.6 < span < lifetime * 0.7 for span in renewals)
    assert world.resource.status.ready
    assert len(world.at_vercel) <= 2
    assert world.removals == [post.certificate.id for post in world.posts if post.certificate][: len(world.removals)]


@pytest.mark.parametrize("same_id", [True, False], ids=["the same id", "a new id"])
def test_where_vercel_renews_in_time_nothing_is_ever_asked_for(same_id: bool) -> None:
    world = ready_world()
    for _ in range(5):
        world.live(55 * DAY)
        world.renew_at_vercel(same_id=same_id)
        world.live(DAY)
    assert len(world.posts) == 1
    assert world.resource.status.ready


def test_a_vercel_that_answers_with_the_old_one_until_it_has_expired_is_made_way_for() -> None:
    world = ready_world(lifetime=10 * DAY)
    while world.now < NOW + 25 * DAY:
        world.next_posts = ["the old one"]
        world.live(HOUR)
    assert len(world.posts) < 40
    status = world.resource.status
    assert status.created_at is not None
    assert status.created_at > NOW + 9 * DAY
    assert status.ready


def test_a_superseded_certificate_that_can_not_be_removed_holds_no_renewal_up() -> None:
    world = ready_world(lifetime=10 * DAY)
    world.failing_removals = 10_000
    for _ in range(40):
        world.live(DAY)
        assert world.resource.status.ready
    assert len(world.posts) >= 5
    world.failing_removals = 0
    world.live(5 * DAY)
    assert len(world.at_vercel) <= 2


@pytest.mark.parametrize("value", ["1", ""], ids=["a value", "empty"])
def test_a_request_renews_once(value: str) -> None:
    world = ready_world()
    world.live(DAY)
    world.ask_for_renewal(value)
    world.live(10 * DAY)
    assert len(world.posts) == 2
    assert set(world.at_vercel) == {world.resource.status.id}


def test_an_odd_answer_is_not_followed_by_another_post_whatever_fails() -> None:
    world = World()
    world.next_posts = ["other names"]
    world.live(DAY)
    for _ in range(5):
        world.failing_reads = 2
        world.live(3 * DAY)
    assert len(world.posts) == 1
    world.change_spec(cns=("other.example.com",))
    world.live(DAY)
    assert len(world.posts) == 2
    assert world.resource.status.ready


def test_names_that_vercel_adds_are_no_reason_to_ask_again() -> None:
    world = World()
    world.next_posts = ["more names"]
    world.live(30 * DAY)
    assert len(world.posts) == 1
    world.change_spec(renew_before="1h")
    world.live(30 * DAY)
    assert len(world.posts) == 1


def test_a_clock_that_is_set_back_and_forth_neither_loses_nor_doubles_anything() -> None:
    world = World()
    world.next_posts = ["issued, answer lost"]
    world.round()
    for step in (-HOUR, HOUR, 2 * HOUR, -2 * HOUR):
        world.now += step
        world.live(2 * MINUTE)
    assert len(world.posts) == 1
    assert world.resource.status.ready


# --- whatever comes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Something that happens, and the time until the next thing does."""

    name: str
    happen: Callable[[World], object]
    then: timedelta

    def __repr__(self) -> str:
        return f"{self.name}, then {self.then}"


def set_posts(posts: list[Post]) -> Callable[[World], object]:
    return lambda world: world.next_posts.extend(posts)


def names(*cns: str) -> Callable[[World], object]:
    return lambda world: world.change_spec(cns=cns)


def failing(reads: int, removals: int) -> Callable[[World], object]:
    def fail(world: World) -> None:
        world.failing_reads, world.failing_removals = reads, removals

    return fail


POSTS: list[Post] = list(get_args(Post))
HAPPENINGS: dict[str, Callable[[World], object]] = {
    "nothing": lambda world: None,
    "restart": World.restart,
    "suspend": lambda world: world.change_spec(suspend=True),
    "resume": lambda world: world.change_spec(suspend=False),
    "names a": names("example.com"),
    "names b": names("b.example.com"),
    "names a and b": names("example.com", "b.example.com"),
    "renewBefore": lambda world: world.change_spec(renew_before="24h"),
    "renew 1": lambda world: world.ask_for_renewal("1"),
    "renew 2": lambda world: world.ask_for_renewal("2"),
    "renew with nothing": lambda world: world.ask_for_renewal(""),
    "gone at Vercel": World.lose_at_vercel,
    "renewed by Vercel": lambda world: world.renew_at_vercel(same_id=True),
    "renewed by Vercel under a new id": lambda world: world.renew_at_vercel(same_id=False),
    "one read fails": failing(1, 0),
    "some reads fail": failing(3, 0),
    "some removals fail": failing(0, 3),
    **{f"POST: {post}": set_posts([post]) for post in POSTS},
}
SPANS = [timedelta(), SECOND, 20 * SECOND, 4 * MINUTE, 15 * MINUTE, 2 * HOUR, 5 * DAY]
STEPS = st.lists(
    st.builds(
        lambda happening, then: Step(happening, HAPPENINGS[happening], then),
        st.sampled_from(sorted(HAPPENINGS)),
        st.sampled_from(SPANS),
    ),
    max_size=8,
)


def lived(steps: list[Step], lifetime: timedelta = 6 * DAY) -> World:
    """The world after all this. What it asked of Vercel was no more than there were reasons for."""
    world = World(lifetime=lifetime)
    for step in steps:
        step.happen(world)
        world.live(step.then)
    days = (world.now - NOW) / DAY
    assert len(world.posts) <= 2 + 2 * len(steps) + days / (lifetime / DAY / 2), "one per change, fault and renewal"
    assert world.steps <= 60 * (1 + len(steps)) + 75 * days, "no hot loop"
    ids = [post.attempt.id for post in world.posts]
    assert len(ids) == len(set(ids)), "one POST per attempt"
    world.next_posts, world.failing_reads, world.failing_removals = [], 0, 0
    return world


@given(STEPS, st.sampled_from([90 * DAY, 6 * DAY]))
@settings(max_examples=2 * settings().max_examples)
def test_once_faults_are_over_the_end_state_is_reached_without_help(steps: list[Step], lifetime: timedelta) -> None:
    world = lived(steps, lifetime)
    world.change_spec(suspend=False)
    if "odd.example.org" in world.resource.status.cns:
        world.ask_for_renewal("the user has seen the odd answer")
    world.live(LONG_ENOUGH)
    resource, status = world.resource, world.resource.status
    assert status.ready
    assert status.id in world.at_vercel
    assert resource.cns <= world.at_vercel[status.id].cns
    assert status.observed_generation == resource.generation
    assert world.ours_at_vercel <= {status.id, *status.superseded_ids}, "no two for one need, and none lost"
    assert (status.failed_attempts, status.last_failure_time, status.next_attempt_time) == (0, None, None)


@given(STEPS)
def test_deleted_it_is_let_go_and_nothing_of_ours_is_left(steps: list[Step]) -> None:
    world = lived(steps)
    world.change_spec(suspend=False)
    world.delete()
    world.live(LONG_ENOUGH)
    assert world.released or not world.resource.ours
    assert not world.ours_at_vercel


@given(STEPS, st.sampled_from([{"suspend": True}, {"deletion_policy": "Retain"}]))
def test_deleted_while_suspended_or_retained_it_is_let_go_at_once_and_nothing_is_removed(
    steps: list[Step], how: dict[str, object]
) -> None:
    world = lived(steps)
    world.change_spec(**how)
    before = dict(world.at_vercel)
    world.delete()
    world.round()
    assert world.released or not world.resource.ours
    assert world.at_vercel == before
