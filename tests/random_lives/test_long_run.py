"""Long run: a year of two hundred certificates, in a minute or two, with something going wrong in each week of it.

Half of the resources are left alone by their users: theirs must be ready at the end of every week, and no certificate
may be issued for them before its time. With the other half, users and others at Vercel do as they please. What happens
follows from a seed, which is printed, and is the same in every run of ``make test``. For another year::

    LONG_RUN_SEED=7 LONG_RUN_RESOURCES=1000 .venv/bin/python -m pytest -s tests/random_lives/test_long_run.py
"""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Any
from unittest import mock

import pytest

from support import invariants
from support.memory_api import ApiFault, MemoryApi, memory_api_of, simulated_world
from support.world import TOKEN, World
from vercel_certificate_operator.accounts import Account
from vercel_emulator.models import Behaviour, Certificate, Fault, RateLimit, TokenGrant

SEED = int(os.environ.get("LONG_RUN_SEED", "1"))
RESOURCES = int(os.environ.get("LONG_RUN_RESOURCES", "200"))
NAMESPACE = "web"
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WEEKS = 52
JOINING = 8
"""In each of so many weeks at the start, some of the resources are made."""
LIFETIMES = {0: 90 * DAY, 22: 47 * DAY, 48: 6 * DAY}
"""Of new certificates, from this week on."""
DRIFT = 18 * HOUR
EARLIEST = 0.6
"""The part of its lifetime after which a certificate is renewed at the earliest: two thirds, less the jitter."""
REQUESTS = 42
"""To Vercel in a year, for a resource, on average, without lists: its renewals, and what has to be repeated."""
LISTS = 12 * 7 * WEEKS
"""In a year, for all resources of the scope: for drift, for attempts, and hourly while the token shows another account.

A list counts once, however many pages it has: these depend on what others leave at Vercel.
"""
HOURLY = 7 * 24
"""Lists of a scope in a week, if it has vanished and no user confirms that."""
LIES: list[dict[str, Any]] = [
    {"status": 400, "code": "dns_error"},
    {"status": 401, "code": "unauthorized_request_error"},
    {"status": 402},
    {"status": 403},
    {"status": 404},
    {"status": 409},
    {"status": 429},
    {"status": 449},
    {"status": 500},
    {"status": 503},
    {"action": "reset"},
    {"action": "reset", "when": "after"},
    {"action": "truncate"},
    {"action": "empty", "when": "after"},
    {"action": "html", "status": 502, "when": "after"},
    {"action": "redirect"},
    {"action": "wrong-types"},
]


@dataclass
class Year:
    """What happens, and what is known of it."""

    world: World
    api: MemoryApi
    random: random.Random
    made: int = 0
    """How many resources that users play with there were."""
    told: list[str] = field(default_factory=list)
    """What has happened, for the message of a failing test."""

    # --- what may go wrong in a week

    async def vercel_fails_now_and_then(self) -> None:
        for _ in range(self.random.randint(1, 6)):
            call = self.random.choice(["issue", "issue", "get", "list", "remove"])
            fault = {"call": call, "times": self.random.randint(1, 12), **self.random.choice(LIES)}
            if call == "remove" and fault.get("status") == 404:
                continue  # where it is to be removed, that it is gone already is believed
            self.world.emulator.faults.add(Fault.model_validate(fault))
            self.told.append(f"  {fault}")
        await self.world.advance(2 * DAY)
        self.world.emulator.faults.clear()

    async def vercel_is_away(self) -> None:
        await self.world.emulator.stop()
        await self.world.advance(self.random.randint(1, 4) * HOUR)
        await self.world.emulator.start()

    async def vercel_limits_how_often_it_is_asked(self) -> None:
        self.world.emulator.limits.rule = RateLimit(limit=self.random.randint(0, 8), window=120)
        await self.world.advance(self.random.randint(1, 12) * HOUR)
        self.world.emulator.limits.rule = None

    async def the_token_is_refused(self) -> None:
        self.world.emulator.accounts.revoke(TOKEN)
        await self.world.advance(self.random.randint(5, 120) * MINUTE)
        self.world.emulator.accounts.grant(TokenGrant(token=TOKEN))

    async def the_token_shows_another_account(self) -> None:
        self.world.emulator.accounts.grant(TokenGrant(token=TOKEN, user="somebody-else"))
        await self.world.advance(20 * HOUR)
        self.world.emulator.accounts.grant(TokenGrant(token=TOKEN))

    async def the_api_server_fails_now_and_then(self) -> None:
        for _ in range(self.random.randint(1, 8)):
            status, done = self.random.choice([(409, False), (429, False), (500, False), (None, False), (None, True)])
            method = self.random.choice(["PATCH", "PATCH", "GET"])
            self.api.faults.append(ApiFault(method, status, done, times=self.random.randint(1, 4)))
        await self.world.advance(2 * DAY)
        self.api.faults.clear()

    async def the_api_server_is_away(self) -> None:
        self.world.watching = False
        self.api.faults.append(ApiFault("*", times=10**9))
        await self.world.advance(self.random.randint(5, 60) * MINUTE)
        self.api.faults.clear()
        self.world.watching = True

    async def the_operator_is_killed_in_the_middle(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            call, when = self.random.choice(["issue", "get", "list", "remove"]), self.random.choice(["before", "after"])
            hang = self.world.emulator.faults.add(Fault.model_validate({"call": call, "action": "hang", "when": when}))
            await self._until_it_hangs(hang, 12)
            self.told.append(f"  {when} {call}: {'killed' if hang.fired else 'did not come'}")
            if hang.fired:
                await self.world.crash()
            self.world.emulator.faults.remove(hang.id, "drop")
            if self.world.operator is None:
                await self.world.clock.advance(self.random.choice([0, 60, 7200]))
                self.world.start()
                await self.world.quiet()

    async def _until_it_hangs(self, hang: Any, hours: int) -> None:
        for _ in range(hours):
            if hang.fired:
                return
            await self.world.advance(HOUR, hanging=1)

    async def the_wall_clock_is_set(self) -> None:
        seconds = self.random.choice([-300, 300])
        self.world.clock.step(seconds)
        await self.world.advance(DAY)
        self.world.clock.step(-seconds)

    # --- what users do, and others at Vercel

    async def users_are_busy(self) -> None:
        bodies = [body for body in await self.world.all() if body["metadata"]["name"].startswith("busy")]
        for body in self.random.sample(bodies, min(12, len(bodies))):
            name, (first, *_) = body["metadata"]["name"], body["spec"]["cns"]
            match self.random.randrange(7):
                case 0:
                    wanted = [first] if len(body["spec"]["cns"]) > 1 else [first, f"www.{first}"]
                    await self.world.patch(name, {"spec": {"cns": wanted}})
                case 1:
                    await self.world.annotate(name, "renew", str(self.world.emulator.journal.last))
                case 2:
                    await self.world.patch(name, {"spec": {"suspend": not body["spec"].get("suspend", False)}})
                case 3:
                    await self.world.patch(name, {"spec": {"renewBefore": self.random.choice(["48h", "240h", None])}})
                case 4:
                    await self.world.patch(name, {"spec": {"deletionPolicy": self.random.choice(["Delete", "Retain"])}})
                case _:
                    await self.world.delete(name)
                    await self.one_more()
        await self.world.advance(DAY)

    async def one_more(self) -> None:
        name = f"busy-{self.made}"
        self.made += 1
        await self.world.apply(name, [f"{name}.example.com"])

    async def certificates_go_at_vercel(self) -> None:
        busy = [c for c in self.world.emulator.state.live() if c.cns[0].startswith("busy")]
        for certificate in self.random.sample(busy, min(self.random.randint(1, 4), len(busy))):
            self.world.acts.append(self.world.emulator.journal.last)
            self.world.emulator.state.vanish(certificate.id)
        await self.world.advance(2 * DAY)

    # --- the year

    async def week(self, number: int) -> None:
        self._vercel_changes(number)
        happens: list[Callable[[], Awaitable[None]]] = [
            self.vercel_fails_now_and_then,
            self.vercel_fails_now_and_then,
            self.vercel_is_away,
            self.vercel_limits_how_often_it_is_asked,
            self.the_token_is_refused,
            self.the_api_server_fails_now_and_then,
            self.the_api_server_is_away,
            self.the_operator_is_killed_in_the_middle,
            self.the_operator_is_killed_in_the_middle,
            self.the_wall_clock_is_set,
            self.users_are_busy,
            self.users_are_busy,
            self.certificates_go_at_vercel,
        ]
        end = self.world.clock.monotonic() + 7 * DAY.total_seconds()
        if number % 13 == 6:
            self.told.append(f"week {number}: the token shows another account")
            await self.the_token_shows_another_account()
        while end - self.world.clock.monotonic() > 4 * DAY.total_seconds():
            what = self.random.choice(happens)
            self.told.append(f"week {number}, {self.world.clock.now():%F %H:%M}: {what.__name__}")
            await what()
        await self.world.advance(end - self.world.clock.monotonic())  # nobody does anything

    def _vercel_changes(self, number: int) -> None:
        state = self.world.emulator.state
        if number in LIFETIMES:
            # Vercel renews in the last third, as it does with 90 days. A certificate that appears earlier counts as
            # someone else's, so it stays. Vercel would renew all of these too, and there would be thousands.
            update = {"lifetime": LIFETIMES[number], "renew_before": LIFETIMES[number] / 3 + DAY}
            state.behaviour = state.behaviour.model_copy(update=update)
        if number % 6 == 3:
            renewal = self.random.choice(["off", "same-id", "new-id"])
            state.behaviour = state.behaviour.model_copy(update={"renewal": renewal})
        if number == max(LIFETIMES):
            state.behaviour = state.behaviour.model_copy(update={"renewal": "off"})

    def story(self) -> str:
        return "\n".join(["", *self.told[-40:]])

    async def left_alone_are_ready(self) -> list[str]:
        return [
            f"{body['metadata']['name']} is not ready: {ready.get('reason')}: {ready.get('message')}"
            for body in await self.world.all()
            if body["metadata"]["name"].startswith("calm")
            and (ready := invariants.condition(body, "Ready")).get("status") != "True"
        ]

    def issued_before_their_time(self) -> list[str]:
        """Of those that were left alone: two that were issued by us, nearer to each other than two thirds of a life."""
        by_name: dict[str, list[Certificate]] = {}
        for certificate in self.world.emulator.state.all():
            # Where Vercel has renewed one under its id, nothing says any more when it was made.
            if certificate.origin == "issued" and not certificate.renewals and certificate.cns[0].startswith("calm"):
                by_name.setdefault(certificate.cns[0], []).append(certificate)
        return [
            f"{later.id} for {name} was issued {(later.created_at - one.created_at) / 3_600_000:.1f} h after {one.id}"
            for name, issued in by_name.items()
            for one, later in pairwise(sorted(issued, key=lambda c: c.created_at))
            if later.created_at - one.created_at < EARLIEST * _lifetime(one)
        ]


def _lifetime(certificate: Certificate) -> int:
    return certificate.expires_at - certificate.created_at


def _scope_has_vanished(body: dict[str, Any]) -> bool:
    return invariants.condition(body, "Issuing").get("reason") == "ScopeVanished"


@pytest.fixture
def lists() -> Iterator[mock.Mock]:
    """Called for each list that the operator starts."""
    with mock.patch.object(Account, "start_list", autospec=True, side_effect=Account.start_list) as started:
        yield started


@pytest.mark.slow
@pytest.mark.usefixtures("one_authority")
async def test_a_year_of_two_hundred_certificates_with_something_going_wrong_in_each_week(lists: mock.Mock) -> None:
    print(f"LONG_RUN_SEED={SEED} LONG_RUN_RESOURCES={RESOURCES}")
    settings: dict[str, Any] = {"drift_interval": DRIFT.total_seconds(), "default_token_namespaces": (NAMESPACE,)}
    async with simulated_world(NAMESPACE, faults_by_network=True, **settings) as world:
        world.emulator.state.behaviour = Behaviour(lifetime=LIFETIMES[0])
        year = Year(world, memory_api_of(world), random.Random(SEED))  # noqa: S311 - to be repeated
        unconfirmed = 0
        for week in range(WEEKS):
            for number in range(week, RESOURCES // 2 if week < JOINING else 0, JOINING):
                await world.apply(f"calm-{number}", [f"calm-{number}.example.com"])
                await year.one_more()
            await world.quiet()
            await year.week(week)
            unconfirmed += sum(_scope_has_vanished(body) for body in await world.all())
            problems = [*await year.left_alone_are_ready(), *year.issued_before_their_time()]
            assert not problems, "\n".join(problems) + year.story()
            if week % 4 == 3:
                await invariants.check(world)

        for body in await world.all():
            if body["spec"].get("suspend"):
                await world.patch(body["metadata"]["name"], {"spec": {"suspend": False}})
            if _scope_has_vanished(body):
                # Its certificate has gone while the token showed another account: its user confirms that it is gone.
                await world.annotate(body["metadata"]["name"], "renew", "confirmed")
        await world.advance(2 * DAY)
        await invariants.check(world)
        bodies = await world.all()
        not_ready = [b["metadata"]["name"] for b in bodies if invariants.condition(b, "Ready").get("status") != "True"]
        assert not not_ready, f"{not_ready}{year.story()}"
        counts = world.emulator.journal.counts
        requests = world.emulator.journal.last - counts["list"]
        issued = sum(c.origin == "issued" for c in world.emulator.state.all())
        print(f"{len(bodies)} resources, {issued} certificates issued, {world.lives} lives")
        print(f"{lists.call_count} lists, {requests} other requests")
        print(f"{unconfirmed} weeks in which a resource waited in a vanished scope")
        assert requests <= REQUESTS * len(bodies)
        assert lists.call_count <= LISTS + HOURLY * unconfirmed

        await asyncio.gather(*(world.delete(body["metadata"]["name"]) for body in bodies))
        await world.advance(HOUR)
        assert await world.all() == []
        await invariants.check(world)
