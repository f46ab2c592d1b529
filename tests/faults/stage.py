"""What the rows of the fault matrix are played on: scenarios, their moments, and how to interrupt them."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from kubernetes.aio.client import CoreV1Api

from control_plane import Audit, ControlPlane, Requests
from support.company import REF, SOURCE, Company
from support.invariants import OURS, check, ready_means_ready
from support.proxy import Kind, KubeFault, KubeProxy
from support.world import World, configuration_of
from support.world import world as make_world
from vercel_certificate_operator.core.resource import PLURAL
from vercel_certificate_operator.kube import connection
from vercel_emulator.models import Call, Fault, Injection

Step = Literal["hold", "attempt", "outcome", "status", "release", "secret", "issue", "upload", "get", "list", "remove"]
"""A write to Kubernetes or a read of a Secret (see ``proxy.Kind``), or a call to Vercel."""
When = Literal["before", "after"]
VERCEL: frozenset[Step] = frozenset({"issue", "upload", "get", "list", "remove"})

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LIFETIME = 9 * DAY
"""Of certificates: shorter than Vercel's, so that fewer looks for drift lie between two renewals."""
SOURCE_POLL = 12 * HOUR
"""Between two reads of a Secret that is uploaded: longer than by default, for the time that a row takes."""
RECOVERY = 40 * HOUR
"""Longer than the longest back-off (32 h, and a tenth)."""
MOST_KUBE_WRITES = 15
"""To VercelCertificates, once the fault is over."""

NAME = "site"
OLD, NEW = ["example.com"], ["example.com", "www.example.com"]
USER_AGENT = "the-operator-in-the-matrix"
"""By which the operator's requests are known in the API server's audit log."""
MAY = {(PLURAL, "", "get"), (PLURAL, "", "patch"), (PLURAL, "status", "patch")} | {
    ("events", "", verb) for verb in ("create", "patch")
}
"""All that the operator does at the API server: resource, subresource, verb. There is no watch here."""
MAY_FOR_UPLOADS = {("secrets", "", "get")}


@dataclass
class Stage:
    """A World whose operator reaches Kubernetes through a proxy."""

    world: World
    proxy: KubeProxy
    audit: Audit
    begun: int = 0
    """Where the audit log ended before the row."""

    async def asked_of_kubernetes(self) -> Requests:
        """What the operator has asked the API server for, by that one's own log."""
        requests = await asyncio.to_thread(self.audit.since, self.begun)
        return requests.matching(namespace=self.world.namespace, user_agent=USER_AGENT)

    async def with_short_limits(self, *steps: Step) -> None:
        """A process whose time limits for these calls to Vercel are so short that a test can wait for them."""
        for step in steps:
            self.world.configure(**({"post_timeout": 0.4} if step in ("issue", "upload") else {"call_timeout": 1.0}))
        await self.world.restart()
        self.world.lives = 1

    async def interrupt(
        self,
        step: Step,
        when: When,
        skip: int,
        act: Callable[[], Awaitable[None]],
        then: Callable[[], Awaitable[None]],
        *,
        clear: bool = True,
    ) -> bool:
        """Do ``act`` until the operator is at this moment, then ``then`` while it is held there, then let it go on.

        Returns whether the moment came. ``clear``: end the proxy's faults before the operator goes on.
        """
        if step in VERCEL:
            held = self.world.emulator.faults.add(Fault(call=cast(Call, step), action="hang", when=when, skip=skip))
            reached: Awaitable[object] = held.wait(within=30)
        else:
            stopped = self.proxy.add(KubeFault(cast(Kind, step), when, hang=True, skip=skip))
            reached = stopped.reached.wait()
        acting, moment = asyncio.ensure_future(act()), asyncio.ensure_future(reached)
        try:
            await asyncio.wait({acting, moment}, return_when=asyncio.FIRST_COMPLETED)
            came = moment.done() and moment.exception() is None
            if came:
                await then()
            if step in VERCEL:
                self.world.emulator.faults.remove(held.id)
            elif clear:
                self.proxy.clear()
            if self.world.operator is not None and not acting.done():
                await acting
        finally:
            acting.cancel()
            moment.cancel()
            await asyncio.gather(acting, moment, return_exceptions=True)
        return came

    def another_world(self) -> World:
        """The same, as a second operator sees it."""
        one = self.world
        return World(
            one.api,
            one.namespace,
            one.emulator,
            one.clock,
            one.settings,
            operator_api=one.operator_api,
            shortcut=one.shortcut,
            changes=one.changes,
            acts=one.acts,
            _ids=one._ids,
        )

    async def crash(self) -> None:
        """The operator's process ends where it is, and what it holds open with it."""
        await self.world.crash()
        self.world.emulator.faults.clear("drop")

    async def recover(self, within: timedelta = RECOVERY) -> None:
        """Nobody does anything, for long enough."""
        self.world.emulator.faults.clear("drop")
        self.proxy.clear()
        if self.world.operator is None:
            self.world.start()
        await self.world.quiet()
        for stretch in (timedelta(minutes=1), timedelta(minutes=10), HOUR, within):
            await self.never_ready_without_a_certificate()
            await self.world.advance(stretch)

    async def never_ready_without_a_certificate(self) -> None:
        """What holds at any time, also while a fault lasts."""
        bodies = await self.world.all()
        problems = [problem for body in bodies for problem in ready_means_ready(self.world, body)]
        assert not problems, problems

    async def judge(
        self, scenario: "Scenario", *, needs: int = 0, within: timedelta = RECOVERY, forgotten: int = 0
    ) -> None:
        """The end of each row: the end state is there, nothing more is done, and every invariant holds.

        Args:
            needs: how many certificates it takes, if the fault itself makes more needs than the scenario has.
            within: how long it can take until the end state is there.
            forgotten: see ``invariants.check``.
        """
        over = datetime.now(UTC)
        await self.recover(within)
        seq, rest = self.world.emulator.journal.last, datetime.now(UTC)
        await self.world.advance(DAY + HOUR)
        await check(self.world, quiet_since_seq=seq, forgotten=forgotten)
        if forgotten:
            live = self.world.live()
            assert len(live) <= 1 + forgotten, live
        await scenario.ends(self.world)
        issued = sum(c.origin in OURS for c in self.world.emulator.state.all())
        needs = needs or scenario.issues
        assert issued <= needs, f"{issued} certificates were issued for {needs} needs"
        asked = await self.asked_of_kubernetes()
        writes = asked.received_since(over).matching(resource=PLURAL).writes()
        assert len(writes) <= MOST_KUBE_WRITES, writes
        writes = asked.received_since(rest).writes()
        assert not writes, f"at rest:\n{writes}"
        may = MAY | (MAY_FOR_UPLOADS if scenario.uploads else set())
        not_its_own = {(one.resource, one.subresource, one.verb) for one in asked} - may
        assert not not_its_own


@dataclass(frozen=True)
class Scenario:
    """A stretch of a certificate's life."""

    name: str
    prepare: Callable[[World], Awaitable[None]]
    act: Callable[[World], Awaitable[None]]
    """What is begun, and the time that it takes."""
    ends: Callable[[World], Awaitable[None]]
    """Asserts the end state."""
    issues: int
    """How many certificates it takes, in all."""
    steps: tuple[tuple[Step, int], ...] = field(default=())
    """The moments, in order: a step, and how many of its kind in ``act`` come before it."""

    @property
    def uploads(self) -> bool:
        """Whether the certificate comes from a Secret."""
        return any(step == "upload" for step, _ in self.steps)


async def _nothing(world: World) -> None:
    pass


async def _there(world: World) -> None:
    await world.apply(NAME, OLD)
    await world.quiet()
    assert await world.ready(NAME) == ("True", "Issued")


async def _create(world: World) -> None:
    await world.apply(NAME, OLD)
    await world.quiet()


async def _is_ready(world: World) -> None:
    status = await world.status(NAME)
    assert await world.ready(NAME) == ("True", "Issued")
    assert (await world.issuing(NAME))[0] == "False"
    assert list(world.live()) == [status["id"]]
    assert status.get("failedAttempts", 0) == 0


async def _nearly_due(world: World) -> None:
    await _there(world)
    await world.advance(LIFETIME - LIFETIME / 3 - LIFETIME / 30)


async def _renewal(world: World) -> None:
    await world.advance(LIFETIME / 30 + timedelta(minutes=11))


async def _change(world: World) -> None:
    await world.apply(NAME, NEW)
    await world.quiet()
    await world.advance(timedelta(minutes=11))


async def _has_new_names(world: World) -> None:
    await _is_ready(world)
    assert sorted((await world.status(NAME))["cns"]) == sorted(NEW)


async def _delete(world: World) -> None:
    await world.delete(NAME)
    await world.quiet()


async def _is_gone(world: World) -> None:
    assert await world.get(NAME) is None
    assert world.live() == {}


async def _create_and_lose_the_answer(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", action="reset", when="after"))
    await _create(world)
    await world.advance(10)


async def _there_without_finalizer(world: World) -> None:
    await _there(world)
    await world.patch(NAME, {"metadata": {"finalizers": None}})


async def _quiet(world: World) -> None:
    await world.quiet()


async def _is_held(world: World) -> None:
    await _is_ready(world)
    body = await world.get(NAME)
    assert body is not None
    assert body["metadata"]["finalizers"]


async def _made_by_hand(world: World) -> None:
    world.emulator.state.inject(Injection(cns=OLD, id="cert_byhand"))


async def _adopt(world: World) -> None:
    await world.apply(NAME, OLD, annotations={"vercel-operator.io/adopt-id": "cert_byhand"})
    await world.quiet()


async def _is_adopted(world: World) -> None:
    await _is_held(world)
    assert (await world.status(NAME))["id"] == "cert_byhand"


async def _vanished(world: World) -> None:
    await _there(world)
    world.emulator.state.vanish((await world.status(NAME))["id"])


async def _drift(world: World) -> None:
    await world.advance(world.settings.drift_interval)


async def _create_and_be_refused(world: World) -> None:
    world.emulator.faults.add(Fault(call="issue", status=449, code="configuration_error"))
    await _create(world)


async def _is_reused(world: World) -> None:
    await _is_adopted(world)
    assert (await world.status(NAME))["origin"] == "Found"


async def _secret_there(world: World) -> None:
    await Company(world, OLD).renew()


async def _upload(world: World) -> None:
    await world.apply(NAME, OLD, certificateSecretRef=REF)
    await world.quiet()


async def _uploaded(world: World) -> None:
    await _secret_there(world)
    await _upload(world)
    assert await world.ready(NAME) == ("True", "Issued")


async def _source_change(world: World) -> None:
    await Company(world, OLD).renew(lifetime=120 * DAY)
    await world.advance(SOURCE_POLL * 1.25)
    await world.advance(timedelta(minutes=11))


async def _is_uploaded(world: World) -> None:
    """What the Secret holds is at Vercel."""
    await _is_ready(world)
    secret: Any = await CoreV1Api(world.api).read_namespaced_secret(SOURCE, world.namespace)
    pem = base64.b64decode(secret.data["tls.crt"])
    leaf = x509.load_pem_x509_certificates(pem)[0]
    assert (await world.status(NAME))["fingerprint"] == leaf.fingerprint(hashes.SHA256()).hex()


FIRST_ISSUE = Scenario(
    "first-issue",
    _nothing,
    _create,
    _is_ready,
    1,
    (("list", 0), ("hold", 0), ("attempt", 0), ("issue", 0), ("outcome", 0)),
)
RENEWAL = Scenario(
    "renewal",
    _nearly_due,
    _renewal,
    _is_ready,
    2,
    (("get", 0), ("list", 0), ("attempt", 0), ("issue", 0), ("outcome", 0), ("remove", 0), ("status", 0)),
)
CHANGE = Scenario(
    "change-of-names",
    _there,
    _change,
    _has_new_names,
    2,
    (("attempt", 0), ("issue", 0), ("outcome", 0), ("remove", 0), ("status", 0)),
)
DELETION = Scenario("deletion", _there, _delete, _is_gone, 1, (("remove", 0), ("release", 0)))
LOST_ANSWER = Scenario(
    "lost-answer",
    _nothing,
    _create_and_lose_the_answer,
    _is_ready,
    1,
    (("status", 0), ("list", 1), ("get", 0), ("outcome", 0)),
)
REFUSAL = Scenario("refusal", _nothing, _create_and_be_refused, _is_ready, 1, (("issue", 0), ("outcome", 0)))
VANISHED = Scenario(
    "vanished-at-vercel",
    _vanished,
    _drift,
    _is_ready,
    2,
    (("list", 0), ("get", 0), ("status", 0), ("attempt", 0), ("issue", 0), ("outcome", 0)),
)
UNCHANGED = Scenario("detection-of-drift", _there, _drift, _is_ready, 1, (("list", 0),))
FINALIZER_LOST = Scenario("finalizer-stripped", _there_without_finalizer, _quiet, _is_held, 1, (("hold", 0),))
ADOPTION = Scenario("adoption", _made_by_hand, _adopt, _is_adopted, 0, (("get", 0), ("status", 0), ("hold", 0)))
REUSE = Scenario("reuse", _made_by_hand, _create, _is_reused, 0, (("list", 0), ("get", 0), ("status", 0), ("hold", 0)))
UPLOAD = Scenario(
    "upload",
    _secret_there,
    _upload,
    _is_uploaded,
    1,
    (("secret", 0), ("list", 0), ("hold", 0), ("attempt", 0), ("upload", 0), ("outcome", 0)),
)
NEW_SOURCE = Scenario(
    "change-of-the-secret",
    _uploaded,
    _source_change,
    _is_uploaded,
    2,
    (("secret", 0), ("attempt", 0), ("upload", 0), ("outcome", 0), ("remove", 0), ("status", 0)),
)
SCENARIOS = (
    FIRST_ISSUE,
    RENEWAL,
    CHANGE,
    DELETION,
    LOST_ANSWER,
    REFUSAL,
    VANISHED,
    FINALIZER_LOST,
    ADOPTION,
    REUSE,
    UPLOAD,
    NEW_SOURCE,
)


def moments(*scenarios: Scenario, whens: tuple[When, ...] = ("before", "after")) -> list[Any]:
    """Rows of scenario, step, skip and when: each moment of each scenario."""
    return [
        pytest.param(scenario, step, skip, when, id=f"{when}-{step}{f'-{skip + 1}' * bool(skip)} x {scenario.name}")
        for scenario in scenarios
        for step, skip in scenario.steps
        for when in whens
    ]


@asynccontextmanager
async def stage(control_plane: ControlPlane, *, shortcut: bool = False) -> AsyncIterator[Stage]:
    """A stage that is set, in a namespace of its own.

    Args:
        shortcut: see ``World``.
    """
    namespace = f"test-{secrets.token_hex(4)}"
    async with KubeProxy(control_plane).running() as proxy:
        through_proxy = await configuration_of(control_plane.kubeconfig)
        through_proxy.host = proxy.url
        settings: dict[str, Any] = {
            "drift_interval": DAY.total_seconds(),
            "default_token_namespaces": (namespace,),
            "source_poll_interval": SOURCE_POLL.total_seconds(),
        }
        async with (
            make_world(control_plane.kubeconfig, namespace, started=False, **settings) as world,
            connection.api_client(through_proxy) as operator_api,
        ):
            await proxy.create_namespace(namespace)
            proxy.changes.count(world.api)
            world.changes = proxy.changes
            operator_api.user_agent = USER_AGENT
            world.operator_api, world.shortcut = operator_api, shortcut
            world.emulator.state.behaviour = world.emulator.state.behaviour.model_copy(update={"lifetime": LIFETIME})
            # Vercel's clock isn't behind the API server's, whatever the set-up has taken.
            await world.clock.advance(60)
            world.start()
            yield Stage(world, proxy, control_plane.audit, control_plane.audit.size)
            await world.crash()
