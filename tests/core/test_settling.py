"""The whole life of a certificate in the simulation: random users, random faults, and what holds whatever comes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.building import DAY, HOUR, MINUTE, NOW, SECOND
from core.simulation import Post, World
from vercel_certificate_operator.core.resource import Status

LONG_ENOUGH = 12 * DAY
"""Longer than any back-off, or a few of them in a row, and than the window of the issuance limit."""


def ready_world(lifetime: timedelta = 90 * DAY) -> World:
    world = World(lifetime=lifetime)
    world.live(HOUR)
    assert world.resource.status.ready
    return world


# --- without any fault ------------------------------------------------------------------------------------------------


def test_a_new_certificate_takes_a_list_a_post_two_status_writes_and_one_event() -> None:
    world = World()
    world.round()
    assert world.calls == [("list", None), ("issue", None)]
    assert (world.writes, len(world.notes)) == (2, 1)
    assert world.resource.resource_version == "4", "the finalizer, the attempt, the outcome"
    assert world.resource.status.ready


def test_a_renewal_takes_a_get_a_list_a_post_and_a_removal_and_three_status_writes() -> None:
    world = ready_world()
    world.calls, before = [], world.writes
    world.live(61 * DAY)
    assert world.calls == [("get", "cert_1"), ("list", None), ("issue", None), ("remove", "cert_1")]
    assert world.writes - before == 3, "the attempt, the outcome, the removal"
    assert list(world.vercel.certificates) == ["cert_2"]


def test_a_restart_with_everything_ready_writes_and_calls_nothing() -> None:
    world = ready_world()
    before, world.calls = world.resource, []
    for _ in range(5):
        world.restart()
        world.round()
    assert world.resource == before
    assert world.calls == []


@pytest.mark.parametrize("lifetime", [90 * DAY, 47 * DAY, 6 * DAY, DAY], ids=str)
def test_certificates_are_renewed_in_time_for_a_long_while(lifetime: timedelta) -> None:
    world = World(lifetime=lifetime)
    world.live(5 * lifetime)
    renewals = [later.at - earlier.at for earlier, later in pairwise(world.posts)]
    assert len(renewals) == 7
    assert all(lifetime * 0.6 < span < lifetime * 0.7 for span in renewals)
    assert world.resource.status.ready
    assert len(world.vercel.certificates) <= 2
    assert world.removals == [post.certificate.id for post in world.posts if post.certificate][: len(world.removals)]


@pytest.mark.parametrize("same_id", [True, False], ids=["the same id", "a new id"])
def test_if_vercel_renews_in_time_nothing_is_ever_requested(same_id: bool) -> None:
    world = ready_world()
    for _ in range(3):
        world.live(55 * DAY)
        world.vercel.renew(world.resource.status.id, same_id=same_id)
        world.live(DAY)
    assert len(world.posts) == 1
    assert world.resource.status.ready
    assert world.resource.status.origin == "Issued"
    assert len(world.vercel.certificates) == 1, "what Vercel replaced is removed: it was the operator's own"


def test_a_renewal_by_vercel_while_the_operator_was_down_is_used() -> None:
    world = ready_world()
    world.advance(59 * DAY)
    world.vercel.renew(world.resource.status.id, same_id=False)
    world.advance(10 * DAY)
    world.restart()
    world.live(DAY)
    assert len(world.posts) == 1
    assert (world.resource.status.id, world.resource.status.ready) == ("cert_2", True)


def test_a_vercel_that_answers_with_the_old_certificate_until_it_has_expired() -> None:
    world = ready_world(lifetime=10 * DAY)
    while world.now < NOW + 25 * DAY:
        world.next_posts = ["the old one"]
        world.live(HOUR)
    assert len(world.posts) < 40
    status = world.resource.status
    assert status.created_at is not None
    assert status.created_at > NOW + 9 * DAY
    assert status.ready


def test_a_vercel_that_answers_post_alone_issues_and_renews_in_time() -> None:
    """404 or 500 for the list and the GET."""
    world = World(lifetime=2 * DAY)
    world.failing = {"list": 10**6, "get": 10**6}
    for _ in range(8):
        world.live(DAY, per_hour=13)
        assert world.resource.status.ready
    assert 3 <= len(world.posts) <= 6
    assert all(post.attempt.known is None for post in world.posts)


def test_a_replaced_certificate_that_cannot_be_removed_holds_no_renewal_up() -> None:
    world = ready_world(lifetime=4 * DAY)
    world.failing = {"remove": 10_000}
    for _ in range(40):
        world.live(0.4 * DAY, per_hour=8)  # each has a back-off of its own
        assert world.resource.status.ready
    assert len(world.posts) >= 5
    world.failing = {}
    world.live(5 * DAY)
    assert len(world.vercel.certificates) <= 2


@pytest.mark.parametrize("value", ["1", ""], ids=["a value", "empty"])
def test_a_request_renews_once(value: str) -> None:
    world = ready_world()
    world.live(DAY)
    world.request_renewal(value)
    world.live(10 * DAY)
    assert len(world.posts) == 2
    assert set(world.vercel.certificates) == {world.resource.status.id}


def test_an_odd_answer_is_followed_by_one_attempt_a_day_within_the_limit() -> None:
    world = World()
    world.next_posts = ["other names"] * 100
    world.live(14 * DAY)
    assert 9 <= len(world.posts) <= 11
    world.change_spec(cns=("other.example.com",))
    world.next_posts = []
    world.live(DAY)
    assert world.resource.status.ready


def test_a_vercel_whose_certificates_have_expired_already_is_not_asked_without_end() -> None:
    world = World(lifetime=30 * SECOND)
    world.next_posts = ["expired"] * 1000
    world.live(DAY)
    assert len(world.posts) <= 2


def test_names_that_vercel_adds_are_no_reason_to_issue_again() -> None:
    world = World()
    world.next_posts = ["more names"]
    world.live(30 * DAY)
    assert len(world.posts) == 1
    world.change_spec(renew_before="1h")
    world.live(30 * DAY)
    assert len(world.posts) == 1


def test_a_clock_that_steps_back_and_forth_neither_loses_nor_doubles_anything() -> None:
    world = World()
    world.next_posts = ["issued, answer lost"]
    world.round()
    for step in (-HOUR, HOUR, 2 * HOUR, -2 * HOUR):
        world.clock_offset += step
        world.live(2 * MINUTE)
    assert len(world.posts) == 1
    assert world.resource.status.ready


@pytest.mark.parametrize("ahead", [2 * DAY, 365 * DAY, -365 * DAY], ids=str)
def test_a_clock_that_was_wrong_for_a_while_leaves_no_wait_behind(ahead: timedelta) -> None:
    world = World()
    world.clock_offset = ahead
    world.next_posts = ["refused"] * 3
    world.live(HOUR)
    world.clock_offset = timedelta()
    world.live(2 * DAY)
    assert world.resource.status.ready
    assert len(world.posts) <= 6


def test_a_renew_before_that_flips_ends_no_wait() -> None:
    world = World()
    world.next_posts = ["refused"] * 100
    for number in range(60):
        world.change_spec(renew_before=["1h", "2h"][number % 2])
        world.live(5 * SECOND)
    assert len(world.posts) == 1


@pytest.mark.parametrize(
    ("lost", "posts"),
    [("issued, answer lost", 1), ("issued, back-dated, answer lost", 1), ("nothing done, answer lost", 2)],
)
def test_a_lost_answer_is_found_or_requested_once_more(lost: Post, posts: int) -> None:
    world = World()
    world.next_posts = [lost]
    world.live(HOUR)
    assert len(world.posts) == posts
    assert world.resource.status.ready
    assert (world.resource.status.origin, len(world.vercel.certificates)) == ("Issued", 1)


@pytest.mark.parametrize("died", ["died before", "died after", "never sent"])
def test_a_crash_around_a_post_neither_loses_nor_doubles_a_certificate(died: Post) -> None:
    world = World()
    world.next_posts = [died]
    world.live(HOUR)
    assert len(world.posts) == 1
    assert world.resource.status.ready
    assert len(world.vercel.certificates) == 1


def test_a_restored_resource_without_status_uses_the_certificate_that_exists() -> None:
    world = ready_world()
    world._put(status=Status(), finalizers=())
    world.restart()
    world.live(DAY)
    assert len(world.posts) == 1
    status = world.resource.status
    assert (status.id, status.origin, status.ready) == ("cert_1", "Found", True)


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


def fails(**calls: int) -> Callable[[World], object]:
    return lambda world: world.failing.update(calls)  # type: ignore[arg-type]


def clock(offset: timedelta) -> Callable[[World], object]:
    def set_clock(world: World) -> None:
        world.clock_offset = offset

    return set_clock


def rotate(world: World) -> None:
    world.token = "t2" if world.token == "t1" else "t1"


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
    "existingCertificate Ignore": lambda world: world.change_spec(existing_certificate="Ignore"),
    "renew 1": lambda world: world.request_renewal("1"),
    "renew 2": lambda world: world.request_renewal("2"),
    "renew with nothing": lambda world: world.request_renewal(""),
    "gone at Vercel": World.lose_at_vercel,
    "renewed by Vercel": lambda world: world.vercel.renew(world.resource.status.id, same_id=True),
    "renewed by Vercel under a new id": lambda world: world.vercel.renew(world.resource.status.id, same_id=False),
    "someone else issues": World.someone_issues,
    "the finalizer is stripped": World.strip_finalizer,
    "the token is rotated": rotate,
    "the clock is ahead": clock(HOUR),
    "the clock is behind": clock(-HOUR),
    "the clock is right": clock(timedelta()),
    "a list fails": fails(list=1),
    "lists fail": fails(list=3),
    "a GET fails": fails(get=1),
    "GETs fail": fails(get=5),
    "some removals fail": fails(remove=3),
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
NAME_SETS = 3
"""Different sets of names that the steps request."""


def lived(steps: list[Step], lifetime: timedelta = 6 * DAY) -> World:
    """Returns the world after all this. What it asked of Vercel was no more than there were reasons for."""
    world = World(lifetime=lifetime)
    for step in steps:
        step.happen(world)
        world.live(step.then)
    days = (world.now - NOW) / DAY
    assert len(world.posts) <= 3 + 3 * len(steps) + days / (lifetime / DAY / 2), "one per change, fault and renewal"
    assert world.steps <= 100 * (1 + len(steps)) + 75 * days, "no hot loop"
    assert all(count == 1 for count in Counter(post.attempt.id for post in world.posts).values()), "one POST each"
    unrequested = [post.at for post in world.posts if not post.attempt.requested and post.certificate is not None]
    for at in unrequested:
        within = [other for other in unrequested if at <= other < at + min(7 * DAY, lifetime)]
        assert len(within) <= 5 + NAME_SETS, "the limit, and each set of names once more"
    world.next_posts, world.failing, world.clock_offset = [], {}, timedelta()
    return world


@given(STEPS, st.sampled_from([90 * DAY, 6 * DAY]))
@settings(max_examples=2 * settings().max_examples)
def test_once_faults_are_over_the_end_state_is_reached_without_help(steps: list[Step], lifetime: timedelta) -> None:
    world = lived(steps, lifetime)
    world.change_spec(suspend=False)
    world.live(LONG_ENOUGH)
    resource, status = world.resource, world.resource.status
    assert status.ready
    assert status.id in world.vercel.certificates
    assert resource.cns <= world.vercel.certificates[status.id].cns
    assert status.observed_generation == resource.generation
    assert resource.has_finalizer
    named = "\n".join(world.notes)
    forgotten = world.ours_at_vercel - set(status.certificate_ids)
    assert all(certificate_id in named for certificate_id in forgotten), "what is left behind has an Event"
    assert (status.failed_attempts, status.last_failure_time, status.next_attempt_time) == (0, None, None)


@given(STEPS)
def test_deleted_it_is_released_and_nothing_of_ours_is_left_without_an_event(steps: list[Step]) -> None:
    world = lived(steps)
    world.change_spec(suspend=False)
    world.delete()
    world.live(LONG_ENOUGH)
    assert world.released or not world.resource.has_finalizer
    named = "\n".join(world.notes)
    assert all(certificate_id in named for certificate_id in world.ours_at_vercel)


@given(STEPS, st.sampled_from([{"suspend": True}, {"deletion_policy": "Retain"}]))
def test_deleted_while_suspended_or_retained_it_is_released_at_once_and_nothing_is_removed(
    steps: list[Step], how: dict[str, object]
) -> None:
    world = lived(steps)
    world.change_spec(**how)
    before = dict(world.vercel.certificates)
    world.delete()
    world.round()
    assert world.released or not world.resource.has_finalizer
    assert world.vercel.certificates == before
