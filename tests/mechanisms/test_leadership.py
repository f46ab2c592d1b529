"""The election and its fence, on a moved clock: at no time may two replicas write."""

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from kubernetes.aio.client import ApiClient, CoordinationV1Api, CustomObjectsApi
from kubernetes.aio.leaderelection import leaderelection

from support.clock import TestClock, settle
from support.memory_api import ApiFault, MemoryApi
from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.kube import connection
from vercel_certificate_operator.kube.errors import Fenced
from vercel_certificate_operator.kube.leases import Lease
from vercel_certificate_operator.leadership import Leadership, LeadershipLost, SingleReplica

DURATION, DEADLINE, PAUSE = 15, 10, 2


class Standing:
    """A clock, for a process that can be made to stand still: time goes on, and nothing of it runs."""

    def __init__(self, clock: TestClock) -> None:
        self._clock = clock
        self.now = clock.now
        self.monotonic = clock.monotonic
        self.runs = asyncio.Event()
        self.runs.set()

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        await self._clock.wait(event, seconds)
        await self.runs.wait()


class Way:
    """A replica's way to the API server, on which requests and answers may be held up."""

    def __init__(self, client: ApiClient, clock: TestClock, standing: Standing) -> None:
        self._connection: Any = client.rest_client
        self._clock = clock
        self._standing = standing
        self.before = self.after = 0.0
        """Seconds that the next requests, and their answers, take."""

    async def request(self, method: str, url: str, **options: Any) -> Any:
        before, after = self.before, self.after
        await self._standing.runs.wait()
        sent = asyncio.ensure_future(self._on_the_way(before, after, method, url, options))
        # What is on its way arrives, whether or not its sender still waits for it.
        answer = await asyncio.shield(sent)
        await self._standing.runs.wait()
        return answer

    async def _on_the_way(self, before: float, after: float, method: str, url: str, options: dict[str, Any]) -> Any:
        await self._clock.wait(asyncio.Event(), before)
        answer = await self._connection.request(method, url, **options)
        await self._clock.wait(asyncio.Event(), after)
        return answer

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Replica:
    """One process that takes part."""

    leadership: Leadership
    way: Way
    standing: Standing
    task: asyncio.Task[None]

    @property
    def writes(self) -> bool:
        """Whether a write would pass. A process that stands still writes nothing."""
        return self.standing.runs.is_set() and self.leadership.fence() is None

    @property
    def lost(self) -> str | None:
        """What ended it."""
        return str(self.task.exception()) if self.task.done() and not self.task.cancelled() else None

    async def stop(self) -> None:
        """In good order."""
        self.task.cancel()
        await asyncio.wait({self.task})
        await self.leadership.release()


@dataclass
class Election:
    """Replicas, the API server between them, and the time."""

    clock: TestClock = field(default_factory=TestClock)
    replicas: list[Replica] = field(default_factory=list)
    names: "itertools.count[int]" = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.api = MemoryApi(self.clock)

    def join(self, *, duration: int = DURATION) -> Replica:
        client, standing = self.api.client(faulty=True), Standing(self.clock)
        way = Way(client, self.clock, standing)
        client.rest_client = cast(Any, way)
        identity = f"pod-{next(self.names)}"
        own = cast(Clock, standing)
        lease = Lease(client, own, name="op", namespace="web", identity=identity, duration=duration)
        leadership = Leadership(lease, own)
        task = asyncio.create_task(leadership.run())
        self.replicas.append(Replica(leadership, way, standing, task))
        return self.replicas[-1]

    async def pair(self) -> tuple[Replica, Replica]:
        """A leader, and a standby."""
        leader = self.join()
        await settle()
        standby = self.join()
        await settle()
        assert (leader.writes, standby.writes) == (True, False)
        return leader, standby

    def writers(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.writes]

    def lease(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.api.handle(
            "GET", "/apis/coordination.k8s.io/v1/namespaces/web/leases/op", None, ""
        )["spec"]
        return spec


@pytest.fixture
async def election() -> Any:
    made = Election()
    yield made
    for replica in made.replicas:
        replica.standing.runs.set()
        replica.task.cancel()
    await asyncio.gather(*(replica.task for replica in made.replicas), return_exceptions=True)


# --- the fence --------------------------------------------------------------------------------------------------------


async def test_a_leader_writes_and_a_standby_does_not(election: Election) -> None:
    leader, standby = await election.pair()
    assert standby.leadership.fence() == "this replica does not hold the Lease web/op"
    assert leader.leadership.leading.is_set()
    assert not standby.leadership.leading.is_set()
    assert election.lease()["holderIdentity"] == "pod-0"


async def test_a_leader_goes_on_leading_for_as_long_as_it_renews(election: Election) -> None:
    leader, standby = await election.pair()
    for _ in range(600):
        await election.clock.advance(1)
        assert (leader.writes, standby.writes) == (True, False)
    assert election.lease()["leaseTransitions"] == 0


async def test_a_leader_that_was_paused_may_not_write_even_before_it_has_noticed(election: Election) -> None:
    leader, _ = await election.pair()
    election.clock.pause(DURATION - 1)
    assert leader.leadership.fence() is None
    election.clock.pause(1)
    assert leader.leadership.fence() == ("the Lease web/op was last renewed 15 s ago, so another replica may hold it")
    await settle()
    assert leader.lost == "the Lease web/op could not be renewed for 15 s"
    assert leader.leadership.fence() == "this replica does not hold the Lease web/op"


async def test_a_renewal_counts_from_before_it_was_asked_for(election: Election) -> None:
    leader, _ = await election.pair()
    leader.way.after = 4.5
    await election.clock.advance(PAUSE + 9)  # two requests: to read, and to renew
    leader.way.after = 0
    election.clock.pause(DURATION - 9)
    assert leader.leadership.fence() is not None


async def test_a_request_that_hangs_does_not_put_off_the_end(election: Election) -> None:
    leader, _ = await election.pair()
    leader.way.before = 1e6
    await election.clock.advance(DEADLINE - 0.1)
    assert leader.lost is None
    await election.clock.advance(0.1)
    assert leader.lost == "the Lease web/op could not be renewed for 10 s"


async def test_an_api_server_that_fails_for_a_while_does_not_end_it(election: Election) -> None:
    leader, _ = await election.pair()
    election.api.faults.append(ApiFault("*", 503, times=3, what="leases"))
    await election.clock.advance(60)
    assert leader.writes


async def test_a_renewal_of_which_the_answer_is_lost_does_not_end_it(election: Election) -> None:
    leader, standby = await election.pair()
    election.api.faults.append(ApiFault("PUT", done=True, what="leases"))
    await election.clock.advance(60)
    assert (leader.writes, standby.writes) == (True, False)


async def test_who_sees_another_holder_ends_at_once(election: Election) -> None:
    leader, _ = await election.pair()
    api = CoordinationV1Api(election.api.client())
    lease = await api.read_namespaced_lease("op", "web")
    assert lease.spec is not None
    lease.spec.holder_identity = "somebody"
    await api.replace_namespaced_lease("op", "web", lease)
    await election.clock.advance(PAUSE)
    assert leader.lost == "the Lease web/op is held by somebody now"


async def test_a_single_replica_leads_from_the_start_and_has_nothing_to_release() -> None:
    single = SingleReplica()
    assert single.leading.is_set()
    assert (single.fence(), single.problem()) == (None, None)
    running = asyncio.create_task(single.run())
    await settle()
    assert not running.done()
    await single.release()
    running.cancel()


async def test_nothing_is_written_past_the_fence(election: Election) -> None:
    why: list[str | None] = ["it does not lead"]
    fenced = connection.api_client(election.api.client().configuration, lambda: why[0])
    fenced.rest_client = election.api.client().rest_client
    api = CustomObjectsApi(fenced)
    place = ("vercel-operator.io", "v1", "web", "vercelcertificates")
    body = {"metadata": {"name": "site"}, "spec": {"cns": ["example.com"]}}
    calls: list[Callable[[], Any]] = [
        lambda: api.create_namespaced_custom_object(*place, body),
        lambda: api.patch_namespaced_custom_object(*place, "site", {}, _content_type="application/merge-patch+json"),
        lambda: api.delete_namespaced_custom_object(*place, "site"),
    ]
    for call in calls:
        with pytest.raises(Fenced, match="not written: it does not lead"):
            await call()
    listed: Any = await api.list_namespaced_custom_object(*place)
    assert listed["items"] == []
    why[0] = None
    for call in calls:
        await call()


# --- taking over ------------------------------------------------------------------------------------------------------


async def test_a_standby_leads_when_the_lease_has_run_out_and_not_before(election: Election) -> None:
    leader, standby = await election.pair()
    leader.standing.runs.clear()
    await election.clock.advance(DURATION - 0.1)
    assert election.writers() == []
    await election.clock.advance(PAUSE + 0.1)
    assert election.writers() == [standby]
    assert election.lease()["leaseTransitions"] == 1


async def test_a_standby_leads_at_once_when_the_lease_was_given_back(election: Election) -> None:
    leader, standby = await election.pair()
    await leader.stop()
    assert "holderIdentity" not in election.lease()
    assert leader.leadership.fence() is not None
    await election.clock.advance(PAUSE)
    assert standby.writes


async def test_a_standby_that_stops_leaves_the_lease_to_the_leader(election: Election) -> None:
    leader, standby = await election.pair()
    await standby.stop()
    assert election.lease()["holderIdentity"] == "pod-0"
    await election.clock.advance(60)
    assert leader.writes


async def test_a_standby_waits_for_as_long_as_the_holder_has_written(election: Election) -> None:
    leader = election.join(duration=60)
    await settle()
    standby = election.join(duration=5)
    await settle()
    leader.standing.runs.clear()
    await election.clock.advance(59)
    assert not standby.writes
    await election.clock.advance(3)
    assert standby.writes


@pytest.mark.parametrize("step", [3600.0, -3600.0])
async def test_a_wall_clock_that_is_set_changes_nothing(
    election: Election, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to = itertools.accumulate(itertools.repeat(step))  # anew with each look at it
    monkeypatch.setattr(leaderelection, "time", SimpleNamespace(time=lambda: 1e9 + next(set_to)))
    leader, standby = await election.pair()
    for _ in range(30):
        await election.clock.advance(1)
        assert (leader.writes, standby.writes) == (True, False)
    leader.standing.runs.clear()
    await election.clock.advance(DURATION + 2 * PAUSE)  # it looks every so often, both before and after
    assert standby.writes


async def test_a_lease_that_somebody_deletes_is_created_again(election: Election) -> None:
    leader, _ = await election.pair()
    election.api.handle("DELETE", "/apis/coordination.k8s.io/v1/namespaces/web/leases/op", None, "")
    await election.clock.advance(60)
    assert len(election.writers()) == 1
    assert leader.writes or leader.lost


async def test_what_keeps_it_from_taking_part_is_reported(election: Election) -> None:
    election.api.faults.append(ApiFault("*", 403, times=1000, what="leases"))
    replica = election.join()
    assert replica.leadership.problem() == "the Lease web/op has not been read yet"
    await settle()
    assert replica.leadership.problem() == (
        "the Lease web/op has not been read yet: "
        "reading the Lease web/op: The stand-in was told to answer so. (HTTP 403)"
    )
    election.api.faults.clear()
    await election.clock.advance(PAUSE)
    assert replica.leadership.problem() is None
    election.api.faults.append(ApiFault("*", times=1000, what="leases"))
    standby = election.join()
    await election.clock.advance(2 * DURATION + 1)
    assert standby.leadership.problem() is not None


# --- whatever happens -------------------------------------------------------------------------------------------------


async def something_happens(election: Election, chance: random.Random) -> None:
    """To one of the replicas, to the API server, or time goes by."""
    replica = chance.choice(election.replicas)
    match chance.choice(["time"] * 12 + ["pause", "resume", "slow", "quick", "fail", "lose", "stop", "crash"]):
        case "time":
            await election.clock.advance(chance.choice([0.5, 1, 2, 5]))
        case "pause":
            replica.standing.runs.clear()
        case "resume":
            replica.standing.runs.set()
        case "slow":
            replica.way.before, replica.way.after = chance.uniform(0, 20), chance.uniform(0, 20)
        case "quick":
            replica.way.before = replica.way.after = 0
        case "fail":
            election.api.faults.append(ApiFault("*", 500, times=chance.randint(1, 10), what="leases"))
        case "lose":
            election.api.faults.append(ApiFault("*", done=True, times=chance.randint(1, 10), what="leases"))
        case "stop" if replica.standing.runs.is_set() and not replica.task.done() and not replica.way.after:
            election.api.faults.clear()
            replica.way.before = 0
            await replica.stop()
        case "crash":
            replica.task.cancel()
            replica.standing.runs.clear()


def start_anew(election: Election) -> None:
    """Those that have ended, as a Deployment does."""
    for ended in [replica for replica in election.replicas if replica.task.done()]:
        election.replicas.remove(ended)
        election.join()


@pytest.mark.parametrize("seed", range(40))
async def test_no_two_may_write_at_a_time_whatever_happens(election: Election, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    for _ in range(3):
        election.join()
    for _ in range(300):
        await something_happens(election, chance)
        assert len(election.writers()) < 2, "two write"
        start_anew(election)
    election.api.faults.clear()
    for other in election.replicas:
        other.standing.runs.set()
        other.way.before = other.way.after = 0
    for _ in range(3):
        await election.clock.advance(60)
        ended = [other.task for other in election.replicas if other.task.done()]
        assert all(task.cancelled() or isinstance(task.exception(), LeadershipLost) for task in ended)
        start_anew(election)
    assert len(election.writers()) == 1, "nobody leads"
