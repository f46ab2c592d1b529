"""A life of a few resources, as a state machine: what users, Vercel, the API server, the clock and crashes may do.

What was drawn never depends on what the operator did, so that a run can be repeated from its steps alone.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule

from support import invariants
from support.memory_api import ApiFault, memory_api_of, simulated_world
from support.world import TOKEN, World
from vercel_certificate_operator.core.certificate import normalized
from vercel_certificate_operator.core.resource import Resource
from vercel_emulator.models import DEFAULT_SCOPE, Behaviour, CertificateChange, Fault, Injection, TokenGrant

T = TypeVar("T")
Body = dict[str, Any]

NAMESPACE = "web"
TEAMS: dict[str, Body | None] = {"a": None, "b": None, "c": {"id": "team_alpha"}, "d": {"slug": "beta"}}
"""The resources that there may be, and their teams."""
SCOPES = {"c": "team_alpha", "d": "team_beta"}
DRIFT = 5 * 86400.0
"""Seconds between two listings for drift: in earnest it is a twentieth of that, which would be most of the work."""
NOTICED_LATER = 7 * 3600.0
"""Seconds by which a listing for drift may come later, since something else stood in its way."""
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SPANS = [SECOND, 30 * SECOND, 2 * MINUTE, 11 * MINUTE, HOUR, 7 * HOUR, DAY, 20 * DAY, 35 * DAY, 61 * DAY, 100 * DAY]
BEAT = 5 * SECOND
"""What goes by after each step: two that come within one would be told apart by nobody."""
LONGEST_HANG = 40 * SECOND
"""What hangs ends before that: a POST has two minutes."""
LONGEST_WITHOUT_TOKEN = 7 * HOUR
"""The token is read again every minute, which is nothing in earnest, and most of the work here."""
LATE = HOUR

names = st.sampled_from(sorted(TEAMS))
cns = st.sampled_from(
    [["example.com"], ["example.com", "www.example.com"], ["www.example.com"], ["*.example.com", "example.com"]]
)
policies = st.sampled_from(["Delete", "Delete", "Retain"])
renew_befores = st.sampled_from([None, "24h", "720h", "8760h"])
times = st.integers(1, 3)
vercel_faults = st.one_of(
    st.builds(
        lambda status, code: {"status": status, "code": code},
        st.sampled_from([400, 401, 402, 403, 404, 409, 410, 422, 429, 449, 500, 502, 503, 504]),
        st.sampled_from([None, None, "rate_limited", "validation_running", "dns_error", "invalid_cn", "something_new"]),
    ),
    st.builds(
        lambda action, when: {"action": action, "when": when},
        st.sampled_from(["reset", "empty", "html", "redirect"]),
        st.sampled_from(["before", "after"]),
    ),
    st.sampled_from(
        [
            {"action": "truncate"},
            {"action": "wrong-types"},
            {"action": "raw", "body": "{", "contentType": "text/plain"},
            {"action": "raw", "body": "[1]"},
            {"action": "raw", "status": 429, "body": "slow down"},
            {"action": "answer", "fields": {"cns": ["other.example.com"]}},
            {"action": "answer", "fields": {"expiresAt": None}},
            {"action": "answer", "omit": ["autoRenew"]},
            {"action": "answer", "omit": ["createdAt"]},
        ]
    ),
)
calls = st.sampled_from(["issue", "issue", "issue", "get", "list", "remove", "any"])
api_faults = st.sampled_from(
    [
        {"status": 409},
        {"status": 429},
        {"status": 500},
        {"status": 503},
        {},
        {"done": True},
        {"crash": True},
        {"crash": True, "done": True},
    ]
)


class Life(RuleBasedStateMachine):
    """Rules are what may happen; after each of them, all that is due is done, and the invariants are checked."""

    resources = Bundle("resources")
    """Names of resources that were made at some time."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._hang: Any = None
        self._hangs_for = timedelta()
        self._hang_is_dead = False
        self._stepped = 0
        self._restored: set[str] = set()
        self._looks_since = 0
        self._token_is_valid = True
        self._renewals = 0
        self._broken = False
        self._disturbed = False
        self._crashing = False
        self._excused: set[str] = set()
        self._changed: dict[str, int] = {}
        self._given_up: list[tuple[frozenset[str], int, int]] = []
        self._backups: dict[str, Body] = {}
        self.world = self._run(self._begin())
        self.api = memory_api_of(self.world)

    async def _begin(self) -> World:
        return await self._stack.enter_async_context(
            simulated_world(
                NAMESPACE,
                drift_interval=DRIFT,
                default_token_namespaces=(NAMESPACE,),
            )
        )

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._runner.run(work)
        except BaseException:
            self._broken = True
            raise

    # --- what users do ------------------------------------------------------------------------------------------------

    @initialize(
        target=resources,
        behaviour=st.fixed_dictionaries(
            {
                "lifetime": st.sampled_from(["90d", "90d", "6d"]),
                "renewal": st.sampled_from(["off", "off", "same-id", "new-id"]),
                "renewalRemovesOld": st.booleans(),
                "renewBefore": st.sampled_from([None, "48h"]),
                "pageSize": st.sampled_from([1, 20]),
                "until": st.sampled_from(["exclusive", "inclusive"]),
                "unknownTokenStatus": st.sampled_from([401, 403]),
            }
        ),
        first=names,
        wanted=cns,
    )
    def begin(self, behaviour: Body, first: str, wanted: list[str]) -> str:
        self.world.emulator.state.behaviour = Behaviour.model_validate(behaviour)
        return self._apply(first, wanted)

    @rule(target=resources, name=names, wanted=cns, policy=policies, renew_before=renew_befores)
    def apply(self, name: str, wanted: list[str], policy: str, renew_before: str | None) -> str:
        """Create it, or replace its spec."""
        return self._apply(name, wanted, policy, renew_before)

    def _apply(self, name: str, wanted: list[str], policy: str = "Delete", renew_before: str | None = None) -> str:
        spec: Body = {"deletionPolicy": policy}
        if TEAMS[name] is not None:
            spec["team"] = TEAMS[name]
        if renew_before is not None:
            spec["renewBefore"] = renew_before
        self._act(self.world.apply(name, wanted, **spec))
        return name

    @rule(name=resources, on=st.booleans())
    def suspend(self, name: str, on: bool) -> None:
        self._act_on(name, {"spec": {"suspend": on}})

    @rule(name=resources, policy=policies)
    def set_policy(self, name: str, policy: str) -> None:
        self._act_on(name, {"spec": {"deletionPolicy": policy}})

    @rule(name=resources)
    def request_renewal(self, name: str) -> None:
        self._renewals += 1
        self._annotate(name, "renew", str(self._renewals))

    @rule(name=resources)
    def delete(self, name: str) -> None:
        body = self._body(name)
        if body is not None:
            if not Resource.parse(body).ours:
                self._excuse(body)  # deleted before the operator could put its finalizer on again
            self._act(self.world.delete(name))

    @rule(name=resources, theirs=st.booleans(), wanted=cns, which=st.integers(0, 9))
    def adopt(self, name: str, theirs: bool, wanted: list[str], which: int) -> None:
        """A certificate that somebody else has made, or any that there is."""
        if theirs:
            scope = SCOPES.get(name, DEFAULT_SCOPE)
            # Where a record is lost, two with the same names can't be told apart.
            same = normalized(wanted)
            alike = [other for other in self.world.emulator.state.live() if normalized(other.cns) == same]
            self._excused |= {other.id for other in alike if other.scope == scope}
            certificate = self.world.emulator.state.inject(Injection(cns=wanted, scope=scope))
        else:
            live = self.world.emulator.state.live()
            if not live:
                return
            certificate = live[which % len(live)]
        self._annotate(name, "adopt-id", certificate.id)

    @rule(name=resources)
    def stop_adopting(self, name: str) -> None:
        self._annotate(name, "adopt-id", None)

    # --- what users should not do -------------------------------------------------------------------------------------

    @rule(name=resources)
    def strip_annotations(self, name: str) -> None:
        body = self._body(name)
        if body is None or not body["metadata"].get("annotations"):
            return
        if self._open_attempt(body):
            self._give_up(body)
        self._act_on(name, {"metadata": {"annotations": None}})

    @rule(name=resources)
    def strip_finalizers(self, name: str) -> None:
        body = self._body(name)
        if body is None:
            return
        if _deleting(body):
            self._excuse(body)  # gone at once
        self._act_on(name, {"metadata": {"finalizers": None}})

    @rule(name=resources)
    def wipe_status(self, name: str) -> None:
        body = self._body(name)
        if body is None or not body.get("status"):
            return
        status = body["status"]
        self._excused |= set(invariants.ids(body)) - {status.get("id")}
        attempt = Resource.parse(body).attempt
        certificate = self.world.emulator.state.find(status.get("id") or "")
        by_attempt = (
            attempt is not None
            and attempt.id == status.get("attempt")
            and certificate is not None
            and normalized(certificate.cns) == attempt.cns
            and certificate.created_at >= attempt.start.timestamp() * 1000 - 2000
        )
        if not by_attempt or not Resource.parse(body).ours:
            self._excuse(body)
        self._act(self.world.patch_status(name, None))

    @rule(name=resources)
    def restore_status(self, name: str) -> None:
        """The oldest one that this very object had, as from a backup."""
        body = self._body(name)
        backup = self._backups.get(body["metadata"]["uid"]) if body is not None else None
        if body is None or backup is None or backup == body.get("status"):
            return
        self._excuse(body)
        self._looks_since = self.world.emulator.clock.now_ms()
        self._restored.add(body["metadata"]["uid"])
        self._act(self._restore(name, backup))

    async def _restore(self, name: str, status: Body) -> None:
        await self.world.patch_status(name, None)
        await self.world.patch_status(name, status)

    # --- what Vercel does ---------------------------------------------------------------------------------------------

    @rule(call=calls, fault=vercel_faults, times=times)
    def vercel_fails(self, call: str, fault: Body, times: int) -> None:
        self._disturbed = True
        if fault.get("status") in {404, 410} and call in {"remove", "any"}:
            call = "issue"  # that a certificate is gone already is believed where it is to be removed
        note(f"{call}: {fault}")
        self.world.emulator.faults.add(Fault.model_validate({"call": call, "times": times, **fault}))

    @precondition(lambda self: self._hang is None)
    @rule(call=st.sampled_from(["issue", "issue", "remove", "list"]), when=st.sampled_from(["before", "after"]))
    def vercel_hangs(self, call: str, when: str) -> None:
        self._disturbed = True
        self._hangs_for, self._hang_is_dead = timedelta(), False
        fault = Fault.model_validate({"call": call, "action": "hang", "when": when})
        self._hang = self.world.emulator.faults.add(fault)

    @precondition(lambda self: self._hang is not None)
    @rule(then=st.sampled_from(["continue", "drop"]))
    def vercel_goes_on(self, then: str) -> None:
        self._end_hang(then)
        self._settle()

    @rule(on=st.booleans())
    def token_is_valid(self, on: bool) -> None:
        self._token_is_valid = on
        self._disturbed = self._disturbed or not on
        if on:
            self._looks_since = self.world.emulator.clock.now_ms()
            self.world.emulator.accounts.grant(TokenGrant(token=TOKEN))
        else:
            self.world.emulator.accounts.revoke(TOKEN)
        self._settle()

    @rule(which=st.integers(0, 9))
    def certificate_vanishes(self, which: int) -> None:
        live = self.world.emulator.state.live()
        if live:
            self.world.acts.append(self.world.emulator.journal.last)
            self.world.emulator.state.vanish(live[which % len(live)].id)

    @rule(which=st.integers(0, 9), wanted=st.none() | cns, days=st.none() | st.sampled_from([0, 1, 200]))
    def certificate_changes(self, which: int, wanted: list[str] | None, days: int | None) -> None:
        live = self.world.emulator.state.live()
        if live:
            self.world.acts.append(self.world.emulator.journal.last)
            expires = None if days is None else self.world.emulator.clock.now_ms() + days * 86_400_000 + 1000
            change = CertificateChange(cns=wanted, expires_at=expires)
            certificate_id = live[which % len(live)].id
            self._changed[certificate_id] = self.world.emulator.clock.now_ms()
            if wanted is not None:
                self._excused.add(certificate_id)  # where its record is lost, it can't be known again
            self.world.emulator.state.change(certificate_id, change)

    @rule(renewal=st.sampled_from(["off", "same-id", "new-id"]), reissue=st.sampled_from(["new", "new", "old"]))
    def vercel_is_changed(self, renewal: str, reissue: str) -> None:
        self._disturbed = self._disturbed or reissue == "old"
        self._behave(renewal=renewal, reissue=reissue)

    # --- what the API server does -------------------------------------------------------------------------------------

    @rule(method=st.sampled_from(["PATCH", "PATCH", "GET"]), fault=api_faults, times=times)
    def api_server_fails(self, method: str, fault: Body, times: int) -> None:
        self._disturbed = True
        crash = fault.get("crash", False)
        then = self._end_of_the_process if crash else None
        self.api.faults.append(
            ApiFault(method, fault.get("status"), fault.get("done", False), 1 if crash else times, then=then)
        )

    async def _end_of_the_process(self) -> None:
        """In the middle of a request. Never returns."""
        operator = self.world.operator
        assert operator is not None
        self._crashing = True
        self.world.task.cancel()
        await asyncio.Event().wait()

    # --- time, and the operator's process -----------------------------------------------------------------------------

    @rule(span=st.sampled_from(SPANS))
    def time_goes_by(self, span: timedelta) -> None:
        if not self._token_is_valid:
            span = min(span, LONGEST_WITHOUT_TOKEN)
        if self._hang is not None:
            self._hangs_for += span
            if self._hangs_for > LONGEST_HANG:
                self._end_hang("drop")
                self._settle()
        if self.world.operator is None:
            self._run(self.world.clock.advance(span.total_seconds()))
        else:
            self._settle(span)

    @rule(seconds=st.sampled_from([-2, -1, 1, 2]))
    def clock_is_set(self, seconds: int) -> None:
        """By a little: never more than two seconds off altogether."""
        if abs(self._stepped + seconds) <= 2:
            self._stepped += seconds
            self.world.clock.step(seconds)

    @rule()
    def crash(self) -> None:
        self._crash()

    @rule()
    def start(self) -> None:
        if self.world.operator is None:
            self._run(self._start())
        self._settle()

    @rule()
    def restart(self) -> None:
        self._crash()
        self._run(self._start())
        self._settle()

    async def _start(self) -> None:
        self._looks_since = self.world.emulator.clock.now_ms()
        # A token that was refused may be another one now: after a restart it is tried at once.
        self.world.acts.append(self.world.emulator.journal.last)
        self.world.start()

    # ------------------------------------------------------------------------------------------------------------------

    def _act(self, work: Coroutine[Any, Any, None]) -> None:
        self._run(work)
        self._settle()

    def _act_on(self, name: str, patch: Body) -> None:
        if self._body(name) is not None:
            self._act(self.world.patch(name, patch))

    def _annotate(self, name: str, annotation: str, value: str | None) -> None:
        if self._body(name) is not None:
            self._act(self.world.annotate(name, annotation, value))

    def _body(self, name: str) -> Body | None:
        return self._run(self.world.get(name))

    def _behave(self, **switches: object) -> None:
        state = self.world.emulator.state
        state.behaviour = state.behaviour.model_copy(update=switches)

    def _crash(self) -> None:
        if self._hang is not None and self._hang.hanging:
            self._hang_is_dead = True
        self._disturbed = True
        self._run(self.world.crash())

    def _end_hang(self, then: Any) -> None:
        if self._hang is not None:
            self.world.emulator.faults.remove(self._hang.id, then)
            self._hang = None

    def _settle(self, span: timedelta = BEAT) -> None:
        """All that is due is done, and then the invariants hold."""
        if self.world.operator is None:
            return
        hanging = 1 if self._hang is not None and not self._hang_is_dead else 0
        try:
            self._run(self._let_go_by(span, hanging))
        except asyncio.CancelledError:
            if not self._crashing:
                raise
            self._broken = self._crashing = False
            for body in self._run(self.world.all()):
                if _deleting(body):
                    self._excuse(body)  # an event that was to name what stays may never have been written
            self._crash()
            return
        self._run(self._check())

    async def _let_go_by(self, span: timedelta, hanging: int) -> None:
        await self.world.quiet(hanging=hanging)
        await self.world.advance(span, hanging=hanging)

    async def _check(self, *, at_the_end: bool = False) -> None:
        world = self.world
        bodies = await world.all()
        problems = [
            *invariants.no_certificate_has_two_holders(bodies),
            *(problem for body in bodies for problem in self._ready_means_ready(body)),
            *invariants.nothing_is_asked_for_before_its_time(world),
            *self._hot_loop(),
            *_conditions_are_a_pair(bodies),
        ]
        if at_the_end or not self._disturbed:
            problems += self._lost(bodies, await invariants.events(world))
        assert not problems, await self._story(problems)
        for body in bodies:
            if body.get("status"):
                self._backups.setdefault(body["metadata"]["uid"], body["status"])

    def _hot_loop(self) -> list[str]:
        """A bound on what is asked in any minute in which nobody acts, on Vercel's clock."""
        bound = invariants.MOST_REQUESTS_A_MINUTE * len(TEAMS)
        since = max(self.world.acts, default=0)
        times = [entry.time for entry in self.world.emulator.journal.since(since)]
        busiest = next((start for start, end in zip(times, times[bound:], strict=False) if end - start < 60_000), None)
        return [] if busiest is None else [f"more than {bound} requests within a minute, from {busiest} on"]

    async def _story(self, problems: Iterable[str]) -> str:
        lines = invariants._story(self.world, await self.world.all())
        said = [f"  {event['reason']}: {event['note']}" for event in await invariants.events(self.world)]
        return "\n".join([*problems, *lines, "events:", *said, f"excused: {self._excused}, {self._given_up}"])

    def _ready_means_ready(self, body: Body) -> list[str]:
        """But for what was done to a certificate by others since the last listing."""
        certificate = self.world.emulator.state.find((body.get("status") or {}).get("id") or "")
        if _deleting(body) or certificate is None:
            return [] if _deleting(body) else invariants.ready_means_ready(self.world, body)
        changed = max(certificate.removed_at or 0, self._changed.get(certificate.id, 0))
        changed = max(changed, self._looks_since) if changed else 0
        restored = body["metadata"]["uid"] in self._restored
        by_others = (certificate.removed_by != "request" or restored) and changed > 0
        if by_others and self.world.emulator.clock.now_ms() - changed <= (DRIFT + NOTICED_LATER) * 1000:
            return []
        return invariants.ready_means_ready(self.world, body)

    def _lost(self, bodies: list[Body], events: list[Body]) -> list[str]:
        """But for what somebody has made the operator forget."""
        found = []
        for problem in invariants.no_certificate_is_lost(self.world.emulator.state.live(), bodies, events):
            certificate = self.world.emulator.state.find(problem.split()[1])
            assert certificate is not None
            forgotten = certificate.id in self._excused or any(
                normalized(certificate.cns) == wanted and since <= certificate.created_at <= until
                for wanted, since, until in self._given_up
            )
            if not forgotten:
                found.append(problem)
        return found

    def _open_attempt(self, body: Body) -> bool:
        attempt = Resource.parse(body).attempt
        return attempt is not None and attempt.id != (body.get("status") or {}).get("attempt")

    def _excuse(self, body: Body) -> None:
        """Somebody has made the operator forget what this resource holds."""
        self._excused |= set(invariants.ids(body))
        if self._open_attempt(body):
            self._give_up(body)

    def _give_up(self, body: Body) -> None:
        """Somebody has made the operator forget an attempt."""
        attempt = Resource.parse(body).attempt
        if attempt is not None:
            until = self.world.clock.now() + LATE
            since = attempt.start - 2 * SECOND
            self._given_up.append((attempt.cns, int(since.timestamp() * 1000), int(until.timestamp() * 1000)))

    # --- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if not self._broken:
                self._all_is_well()
                self._all_is_gone()
        finally:
            self._run(self._stack.aclose())
            self._runner.close()

    def _all_is_well(self) -> None:
        """Once the faults are over, the end state is reached without help."""
        self._end_hang("drop")
        self.world.emulator.faults.clear("drop")
        self.api.faults.clear()
        self.world.emulator.accounts.grant(TokenGrant(token=TOKEN))
        self._behave(reissue="new")
        if self.world.operator is None:
            self._run(self._start())
        self._settle()
        self._settle(3 * DAY)
        for body in self._run(self.world.all()):
            # What only a user can end.
            name, reason = body["metadata"]["name"], invariants.condition(body, "Issuing").get("reason")
            if reason == "UnexpectedAnswer":
                self.request_renewal(name)
            self._annotate(name, "adopt-id", None)
        self._settle(3 * DAY)
        bodies = self._run(self.world.all())
        problems = _not_as_it_should_be(bodies)
        problems += invariants.nothing_replaced_is_left(self.world, bodies)
        assert not problems, self._run(self._story(problems))
        self._run(self._check(at_the_end=True))

    def _all_is_gone(self) -> None:
        """Once every resource is deleted, nothing hangs, and nothing is left but what was to be left."""
        for name in sorted(TEAMS):
            self.delete(name)
        self._settle(DAY)
        left = [body["metadata"]["name"] for body in self._run(self.world.all())]
        assert not left, self._run(self._story([f"{left} can't be deleted"]))
        self._run(self._check(at_the_end=True))


def _conditions_are_a_pair(bodies: Iterable[Body]) -> list[str]:
    """Both, of one generation, or none."""
    problems = []
    for body in bodies:
        ready, issuing = invariants.condition(body, "Ready"), invariants.condition(body, "Issuing")
        if ready.get("observedGeneration") != issuing.get("observedGeneration"):
            problems.append(f"{body['metadata']['name']} has conditions of two generations")
    return problems


def _not_as_it_should_be(bodies: list[Body]) -> list[str]:
    """Resources that neither are ready nor have a good reason."""
    problems = []
    for body in bodies:
        name, spec, ready = body["metadata"]["name"], body["spec"], invariants.condition(body, "Ready")
        if _deleting(body):
            problems.append(f"{name} is still being deleted")
        elif ready.get("observedGeneration") != body["metadata"]["generation"]:
            problems.append(f"{name} reports an old generation")
        elif ready.get("status") == "True" or spec.get("suspend"):
            continue
        elif ready.get("reason") == "DuplicateOf":
            if not any(_would_own(other, body) for other in bodies):
                problems.append(f"{name} says that it is a duplicate, and is none")
        else:
            problems.append(f"{name} is not ready: {ready.get('reason')}: {ready.get('message')}")
    return problems


def _deleting(body: Body) -> bool:
    return bool(body["metadata"].get("deletionTimestamp"))


def _would_own(other: Body, body: Body) -> bool:
    same = normalized(other["spec"]["cns"]) == normalized(body["spec"]["cns"])
    return other is not body and same and other["spec"].get("team") == body["spec"].get("team")
