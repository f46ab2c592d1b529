"""A life of a few resources, as a state machine: what users, others, Vercel, the API server, clocks and crashes may do.

What was drawn never depends on what the operator did, so that a run can be repeated from its steps alone.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, TypeVar
from unittest import mock

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, precondition, rule
from pydantic import SecretStr

from random_lives.witness import DEFAULT, Witness
from support import invariants
from support.acting import put_secret, remove_secret
from support.company import Company
from support.memory_api import ApiFault, Backup, SimulatedWorld, simulated_world
from support.process import Gate
from support.tls import ALLOWED
from support.world import OTHER_TOKEN, TOKEN
from vercel_certificate_operator.core.certificate import normalized
from vercel_certificate_operator.core.resource import GROUP, PLURAL, VERSION
from vercel_certificate_operator.core.rules import drift, gates
from vercel_certificate_operator.wiring import Operator
from vercel_emulator.models import (
    DEFAULT_SCOPE,
    Behaviour,
    CertificateChange,
    Fault,
    Injection,
    RateLimit,
    Renewal,
    TokenGrant,
)

T = TypeVar("T")
Body = dict[str, Any]

NAMESPACE = "web"
STRANGERS_TOKEN = "strangers-token-not-a-secret"
STRANGER = "somebody-else"
OWNERS = {TOKEN: "user", OTHER_TOKEN: "user", STRANGERS_TOKEN: STRANGER}
"""Whose account each token is for, while nobody plays with it."""
SECRETS = {"one": TOKEN, "two": OTHER_TOKEN}
"""What is in the Secrets, while nobody plays with them. The default token is in one of them too."""
SPECS: dict[str, Body] = {
    "a": {},
    "b": {},
    "c": {"team": {"id": "team_alpha"}},
    "d": {"team": {"slug": "alpha"}},
    "e": {"tokenSecretRef": {"name": "one", "key": "token"}},
    "f": {"tokenSecretRef": {"name": "two", "key": "token"}},
}
"""The resources that there may be. All but ``c`` and ``d`` are in one account, in truth."""
SCOPES = [DEFAULT_SCOPE, "team_alpha", f"personal:{STRANGER}"]
FOREIGN_FINALIZER = "example.com/other"
SOURCE_SUFFIX = "-tls"
DRIFT = 2 * 86400.0
"""Seconds between two lists for drift: eight times the default, since they would be most of the work."""
SOURCE_POLL = 12 * 3600.0
"""Seconds between two reads of a Secret that is uploaded, for the same reason."""
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SPANS = [SECOND, 30 * SECOND, 2 * MINUTE, 11 * MINUTE, HOUR, 7 * HOUR, DAY, 20 * DAY, 35 * DAY, 61 * DAY, 100 * DAY]
OFFSETS = [-365 * DAY, -2 * DAY, -3 * HOUR, -MINUTE, -2 * SECOND, 0 * SECOND, 2 * SECOND, MINUTE, 3 * HOUR, 2 * DAY]
"""How far a clock may be ahead."""
OFFSETS += [365 * DAY]
BEAT = 5 * SECOND
"""What passes after each step: two that come within one could not be told apart."""
LONGEST_HANG = 100 * SECOND
"""What hangs ends before that: a POST has two minutes."""
LONGEST_IN_TROUBLE = 7 * HOUR
"""What fails is tried again every minute or every five, which is most of the work here."""
LEASE = 15 * SECOND
MOST_WRITES_A_MINUTE = 30
"""Requests to the API server, for each resource."""
LONGEST_WAIT = timedelta(hours=36)
"""The longest documented wait (32 h), with its jitter."""

RARER = [(gates, "DUPLICATE_CHECK"), (gates, "BY_HAND_CHECK"), (drift, "VANISHED_CHECK")]
"""What is checked every hour is checked every twelve: lists would be most of the work."""

ENDED_BY_USERS = ("ScopeChanged", "ScopeVanished", "IssuanceLimited")
"""Reasons that a new value of the renew annotation ends."""

names = st.sampled_from(sorted(SPECS))
cns = st.sampled_from(
    [["example.com"], ["example.com", "www.example.com"], ["www.example.com"], ["*.example.com", "example.com"]]
)
policies = st.sampled_from(["Delete", "Delete", "Retain"])
existing = st.sampled_from(["Reuse", "Reuse", "Adopt", "Ignore"])
renew_befores = st.sampled_from([None, "24h", "720h", "8760h"])
times = st.integers(1, 3)
offsets = st.sampled_from(OFFSETS)
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
            {"status": 503, "headers": {"Retry-After": "600"}},
            {"status": 403, "fields": {"invalidToken": True}},
            {"action": "answer", "fields": {"cns": ["other.example.com"]}},
            {"action": "answer", "fields": {"expiresAt": None}},
            {"action": "answer", "omit": ["autoRenew"]},
            {"action": "answer", "omit": ["createdAt"]},
        ]
    ),
)
calls = st.sampled_from(["issue", "issue", "issue", "upload", "get", "list", "remove", "any"])
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
points = st.tuples(
    st.sampled_from(["issue", "issue", "upload", "list", "get", "remove", "PATCH", "PATCH"]),
    st.sampled_from(["before", "after"]),
)
"""Where a process is paused."""
limits = st.fixed_dictionaries(
    {
        "limit": st.integers(0, 6),
        "window": st.sampled_from([60, 3600, 26 * 3600]),
        "calls": st.sampled_from([None, ["issue"], ["list"], ["get", "remove"]]),
        "perCall": st.booleans(),
        "retryAfter": st.booleans(),
        "rateLimitHeaders": st.booleans(),
        "retryAfterMs": st.booleans(),
        "limitInBody": st.booleans(),
    }
)
renewals = st.fixed_dictionaries(
    {
        "form": st.sampled_from(["same-id", "new-id"]),
        "backdate": st.sampled_from([0, 3600]),
        "adds": st.sampled_from([[], ["*.example.com"]]),
        "movesCreatedAt": st.booleans(),
        "removesOld": st.booleans(),
    }
)


class Zombie:
    """A process that was paused while another one took the Lease."""

    def __init__(self, operator: Operator, task: "asyncio.Task[None]", gate: Gate) -> None:
        self.operator = operator
        self.task = task
        self.gate = gate

    async def wake_and_end(self) -> None:
        """What is between its last check and the socket is done. Then it notices that it no longer leads, and ends."""
        self.gate.resume()
        for _ in range(200):
            await asyncio.sleep(0.001 if self.operator.working else 0)
            if not self.operator.working:
                break
        await self.end()

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
        await self.operator.reconciler.abort()
        await self.operator.events.aclose(0)
        await self.operator.accounts.aclose()


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
        self._offset = timedelta()
        self._bad_tokens: set[str] = set()
        self._renewals = 0
        self._broken = False
        self._crashing = False
        self._copied: set[str] = set()
        self._released_in_a_crash: set[str] = set()
        self._saved: dict[str, Body] = {}
        self._exported: dict[str, Body] = {}
        self._etcd: Backup | None = None
        self._zombie: Zombie | None = None
        self._secrets: dict[str, str | None] = {**SECRETS, DEFAULT: TOKEN}
        self._companies: dict[str, Company] = {}
        self.world = self._run(self._begin())
        self.api = self.world.memory
        self.witness = Witness(self.world, self._secrets)

    async def _begin(self) -> SimulatedWorld:
        for module, name in RARER:
            self._stack.enter_context(mock.patch.object(module, name, 12 * HOUR))
        world = await self._stack.enter_async_context(
            simulated_world(
                NAMESPACE,
                drift_interval=DRIFT,
                source_poll_interval=SOURCE_POLL,
                default_token_namespaces=(NAMESPACE,),
                longest_sleep=12 * 3600.0,
            )
        )
        world.emulator.accounts.grant(TokenGrant(token=STRANGERS_TOKEN, user=STRANGER))
        for name, token in SECRETS.items():
            await put_secret(world, token, name=name)
        return world

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
                "backdate": st.sampled_from([0, 3600]),
                "renewal": st.sampled_from(["off", "off", "same-id", "new-id"]),
                "renewalRemovesOld": st.booleans(),
                "renewBefore": st.sampled_from([None, "48h"]),
                "pageSize": st.sampled_from([1, 20]),
                "until": st.sampled_from(["exclusive", "inclusive"]),
                "listOrder": st.sampled_from(["newest-first", "newest-first", "oldest-first", "shuffled"]),
                "unknownTokenStatus": st.sampled_from([401, 403]),
            }
        ),
        first=names,
        wanted=cns,
    )
    def begin(self, behaviour: Body, first: str, wanted: list[str]) -> str:
        self.world.emulator.state.behaviour = Behaviour.model_validate(behaviour)
        return self._apply(first, wanted)

    @rule(target=resources, name=names, wanted=cns, policy=policies, renew_before=renew_befores, existing=existing)
    def apply(self, name: str, wanted: list[str], policy: str, renew_before: str | None, existing: str) -> str:
        """Create it, or replace its spec."""
        return self._apply(name, wanted, policy, renew_before, existing)

    def _apply(
        self,
        name: str,
        wanted: list[str],
        policy: str = "Delete",
        renew_before: str | None = None,
        existing: str = "Reuse",
    ) -> str:
        spec: Body = {"deletionPolicy": policy, "existingCertificate": existing, **self._place(name)}
        if renew_before is not None:
            spec["renewBefore"] = renew_before
        self._act(self.world.apply(name, wanted, **spec))
        return name

    @rule(target=resources, first=names, second=names, wanted=cns)
    def apply_two_at_once(self, first: str, second: str, wanted: list[str]) -> str:
        """Two resources with the same names, in one moment."""
        self._run(self.world.apply(first, wanted, **self._place(first)))
        return self._apply(second, wanted)

    def _place(self, name: str) -> Body:
        """The team and the token. The API server lets nobody change the team."""
        body = self._body(name)
        if body is None:
            return SPECS[name]
        return {field: body["spec"][field] for field in ("team", "tokenSecretRef") if field in body["spec"]}

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
        if self._body(name) is not None:
            self._act(self.world.delete(name))

    @rule(name=resources, which=st.integers(0, 9))
    def adopt(self, name: str, which: int) -> None:
        """Any certificate that there is."""
        live = self.world.emulator.state.live()
        if live:
            self._annotate(name, "adopt-id", live[which % len(live)].id)

    # --- certificates from elsewhere

    @rule(name=resources, on=st.booleans())
    def upload(self, name: str, on: bool) -> None:
        """Switch to a certificate from a Secret, or back."""
        source = {"name": _source_of(name)} if on else None
        self._act_on(name, {"spec": {"certificateSecretRef": source, "renewBefore": None}})

    @rule(
        name=resources,
        wanted=cns,
        days=st.sampled_from([1, 90, 90, 365]),
        allowed=st.sampled_from([True, True, True, False]),
        chain=st.sampled_from([True, True, True, False]),
    )
    def renew_source(self, name: str, wanted: list[str], days: int, allowed: bool, chain: bool) -> None:
        """The owner of the Secret puts another certificate into it: perhaps for other names, or without its chain."""
        self._act(self._renew_source(name, wanted, days * DAY, allowed=allowed, chain=chain))

    async def _renew_source(
        self, name: str, wanted: list[str], lifetime: timedelta, *, allowed: bool = True, chain: bool = True
    ) -> None:
        company = self._companies.setdefault(name, Company(self.world, wanted, secret=_source_of(name)))
        leaf = await company.renew(wanted, lifetime=lifetime)
        if not allowed or not chain:
            annotations = ALLOWED if allowed else {}
            await company.put(leaf, annotations=annotations, entries={} if chain else {"crt": leaf.pem})

    @rule(name=resources)
    def remove_source(self, name: str) -> None:
        if self._companies.pop(name, None) is not None:
            self._act(remove_secret(self.world, _source_of(name)))

    @rule(name=resources)
    def stop_adopting(self, name: str) -> None:
        self._annotate(name, "adopt-id", None)

    # --- what other writers in the cluster do -------------------------------------------------------------------------

    @rule(name=resources)
    def touch(self, name: str) -> None:
        """A label: a new resourceVersion, and nothing else."""
        self._renewals += 1
        self._act_on(name, {"metadata": {"labels": {"touched": str(self._renewals)}}})

    @rule(name=resources)
    def strip_annotations(self, name: str) -> None:
        self._act_on(name, {"metadata": {"annotations": None}})

    @rule(name=resources)
    def strip_finalizers(self, name: str) -> None:
        self._act_on(name, {"metadata": {"finalizers": None}})

    @rule(name=resources, wanted=cns)
    def replace(self, name: str, wanted: list[str]) -> None:
        """As ``kubectl replace`` does: without annotations and finalizers."""
        body = self._body(name)
        if body is not None:
            spec = {**body["spec"], "cns": wanted}
            self._act(self._put({"metadata": {"name": name}, "spec": spec}))

    @rule(name=resources, on=st.booleans())
    def foreign_finalizer(self, name: str, on: bool) -> None:
        """Another controller holds the object, or no longer does."""
        body = self._body(name)
        if body is None or (on and _deleting(body)):
            return
        others = [finalizer for finalizer in body["metadata"].get("finalizers", ()) if finalizer != FOREIGN_FINALIZER]
        self._act_on(name, {"metadata": {"finalizers": [*others, *([FOREIGN_FINALIZER] if on else [])]}})

    @rule(name=resources)
    def wipe_status(self, name: str) -> None:
        body = self._body(name)
        if body is not None and body.get("status"):
            self._act(self.world.patch_status(name, None))

    @rule(name=resources)
    def export(self, name: str) -> None:
        """``kubectl get -o yaml > file``."""
        body = self._body(name)
        if body is not None:
            self._exported.setdefault(name, body)

    @rule(name=resources)
    def apply_export(self, name: str) -> None:
        """The manifest from the export, also as self-heal of a GitOps tool: old annotations and an old spec."""
        manifest, body = self._exported.get(name), self._body(name)
        if manifest is None:
            return
        if body is None:
            self._act(self._create(name, manifest))
        elif body["spec"].get("team") == manifest["spec"].get("team"):
            annotations = manifest["metadata"].get("annotations")
            gone = {field: None for field in body["spec"] if field not in manifest["spec"]}
            self._act_on(name, {"metadata": {"annotations": annotations}, "spec": {**gone, **manifest["spec"]}})

    @rule(name=resources)
    def save(self, name: str) -> None:
        """A backup of one object, as Velero makes it."""
        body = self._body(name)
        if body is not None:
            self._saved.setdefault(name, body)

    @rule(name=resources, status=st.booleans())
    def restore(self, name: str, status: bool) -> None:
        """From that backup: a new object, with or without status."""
        saved = self._saved.get(name)
        if saved is None or self._body(name) is not None:
            return
        self._act(self._create(name, saved, status=status))

    @rule(name=resources)
    def restore_status(self, name: str) -> None:
        """An old status of this very object."""
        body, saved = self._body(name), self._saved.get(name)
        if body is not None and saved is not None and body["metadata"]["uid"] == saved["metadata"]["uid"]:
            self._act(self._write_status(name, saved.get("status")))

    @rule(name=resources, other=names)
    def copy(self, name: str, other: str) -> None:
        """With its status, under another name."""
        body = self._body(name)
        if body is not None and self._body(other) is None:
            self._act(self._create(other, body, status=True))

    @rule(name=resources)
    def remove_by_force(self, name: str) -> None:
        """Its finalizers are stripped, and it is deleted: as a namespace that hangs is cleaned up."""
        if self._body(name) is not None:
            self._run(self.world.delete(name))
            if self._body(name) is not None:
                self._act_on(name, {"metadata": {"finalizers": None}})

    @rule()
    def back_up_etcd(self) -> None:
        self._etcd = self.api.backup()

    @precondition(lambda self: self._etcd is not None)
    @rule()
    def restore_etcd(self) -> None:
        assert self._etcd is not None
        self._copied |= {
            certificate_id for body in self._etcd.objects.values() for certificate_id in invariants.ids(body)
        }
        self.world.acts.append(self.world.emulator.journal.last)
        self.api.restore(self._etcd)
        if self.world.operator is not None and not self.world.gate.paused:
            self._run(self.world.resync())
        self._settle()

    @rule(on=st.booleans())
    def watch_tells(self, on: bool) -> None:
        """Whether the watch delivers anything."""
        self.world.watching = on
        self._settle()

    async def _put(self, body: Body) -> None:
        self.world.acts.append(self.world.emulator.journal.last)
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "VercelCertificate", **body}
        name = body["metadata"]["name"]
        await self.world.custom.replace_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, name, body)

    async def _create(self, name: str, source: Body, *, status: bool = False) -> None:
        """Create an object from another one's state."""
        self.world.acts.append(self.world.emulator.journal.last)
        metadata = {"name": name, "namespace": NAMESPACE}
        metadata |= {field: source["metadata"][field] for field in ("annotations",) if field in source["metadata"]}
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "VercelCertificate", "metadata": metadata}
        create = self.world.custom.create_namespaced_custom_object
        await create(GROUP, VERSION, NAMESPACE, PLURAL, {**body, "spec": source["spec"]})
        if status and source.get("status"):
            self._copied |= set(invariants.ids(source))
            await self.world.patch_status(name, source["status"])

    async def _write_status(self, name: str, status: Body | None) -> None:
        self._copied |= set(invariants.ids({"status": status}))
        await self.world.patch_status(name, None)
        if status:
            await self.world.patch_status(name, status)

    # --- what Vercel does ---------------------------------------------------------------------------------------------

    @rule(call=calls, fault=vercel_faults, times=times)
    def vercel_fails(self, call: str, fault: Body, times: int) -> None:
        if fault.get("status") in {404, 410} and call in {"remove", "any"}:
            call = "issue"  # that a certificate is gone already is believed where it is to be removed
        note(f"{call}: {fault}")
        self.world.emulator.faults.add(Fault.model_validate({"call": call, "times": times, **fault}))

    @precondition(lambda self: self._hang is None)
    @rule(
        call=st.sampled_from(["issue", "issue", "upload", "remove", "list"]), when=st.sampled_from(["before", "after"])
    )
    def vercel_hangs(self, call: str, when: str) -> None:
        self._hangs_for, self._hang_is_dead = timedelta(), False
        fault = Fault.model_validate({"call": call, "action": "hang", "when": when})
        self._hang = self.world.emulator.faults.add(fault)

    @precondition(lambda self: self._hang is not None)
    @rule(then=st.sampled_from(["continue", "drop"]))
    def vercel_goes_on(self, then: str) -> None:
        self._end_hang(then)
        self._settle()

    @rule(status=st.sampled_from([404, 500]), on=st.booleans())
    def only_posts_work(self, status: int, on: bool) -> None:
        """A gateway, or a double of Vercel, that offers POST alone."""
        self.world.emulator.faults.clear("drop")
        self._hang = None
        if on:
            fault = {"call": ["get", "list", "remove"], "times": None, "status": status}
            self.world.emulator.faults.add(Fault.model_validate(fault))
        self._settle()

    @rule(limit=st.none() | limits)
    def vercel_limits(self, limit: Body | None) -> None:
        self.world.emulator.limits.rule = RateLimit.model_validate(limit) if limit is not None else None
        self._settle()

    @rule(
        renewal=st.sampled_from(["off", "same-id", "new-id"]),
        reissue=st.sampled_from(["new", "new", "new", "old", "old-even-expired", "oldest"]),
        lag=st.sampled_from([0, 0, 30, 600]),
        adds=st.sampled_from([[], [], ["*.example.com"]]),
        moves=st.booleans(),
        backdate=st.sampled_from([0, 3600]),
        issuances=st.sampled_from([None, None, 2]),
    )
    def vercel_is_changed(
        self,
        renewal: str,
        reissue: str,
        lag: int,
        adds: list[str],
        moves: bool,
        backdate: int,
        issuances: int | None,
    ) -> None:
        behaviour = self.world.emulator.state.behaviour.to_json() | {
            "renewal": renewal,
            "reissue": reissue,
            "listLag": lag,
            "listLagOfRemovals": lag,
            "renewalAdds": adds,
            "renewalMovesCreatedAt": moves,
            "backdate": backdate,
            "issuancesPerWeek": issuances,
        }
        self.world.emulator.state.behaviour = Behaviour.model_validate(behaviour)

    # --- what others do at Vercel -------------------------------------------------------------------------------------

    @rule(
        wanted=cns,
        scope=st.sampled_from(SCOPES),
        days=st.sampled_from([None, None, 300, 1]),
        age=st.sampled_from([0, 0, 1, 40]),
        auto_renew=st.booleans(),
    )
    def others_issue(self, wanted: list[str], scope: str, days: int | None, age: int, auto_renew: bool) -> None:
        """By hand, by another program, or by an upload: a certificate of theirs."""
        now = self.world.emulator.clock.now_ms()
        injection = Injection(
            cns=wanted,
            scope=scope,
            created_at=now - age * 86_400_000,
            expires_at=None if days is None else now + days * 86_400_000,
            auto_renew=auto_renew,
        )
        self._by_others()
        self.world.emulator.state.inject(injection)

    @rule(which=st.integers(0, 9), renewal=renewals)
    def a_certificate_is_renewed(self, which: int, renewal: Body) -> None:
        """By Vercel, or by someone who requested it."""
        live = self.world.emulator.state.live()
        if live:
            self._by_others()
            self.world.emulator.state.renew(live[which % len(live)].id, Renewal.model_validate(renewal))

    @rule(which=st.integers(0, 9))
    def certificate_vanishes(self, which: int) -> None:
        live = self.world.emulator.state.live()
        if live:
            self._by_others()
            self.world.emulator.state.vanish(live[which % len(live)].id)

    @rule(which=st.integers(0, 9), wanted=st.none() | cns, days=st.none() | st.sampled_from([0, 1, 200]))
    def certificate_changes(self, which: int, wanted: list[str] | None, days: int | None) -> None:
        live = self.world.emulator.state.live()
        if live:
            self._by_others()
            expires = None if days is None else self.world.emulator.clock.now_ms() + days * 86_400_000 + 1000
            change = CertificateChange(cns=wanted, expires_at=expires)
            self.world.emulator.state.change(live[which % len(live)].id, change)

    def _by_others(self) -> None:
        self.world.acts.append(self.world.emulator.journal.last)

    # --- tokens -------------------------------------------------------------------------------------------------------

    @rule(token=st.sampled_from(sorted(OWNERS)), on=st.booleans())
    def token_is_valid(self, token: str, on: bool) -> None:
        self._by_others()
        if on:
            self._bad_tokens.discard(token)
            self.world.emulator.accounts.grant(TokenGrant(token=token, user=OWNERS[token]))
        else:
            self._bad_tokens.add(token)
            self.world.emulator.accounts.revoke(token)
        self._settle()

    @rule(token=st.sampled_from(sorted(OWNERS)))
    def default_token_is_replaced(self, token: str) -> None:
        """Rotated, or switched to another account. The operator starts again with it."""
        self._set_default_token(token)
        self._crash()
        self._run(self._start())
        self._settle()

    def _set_default_token(self, token: str) -> None:
        self._secrets[DEFAULT] = token
        self.world.configure(vercel_token=SecretStr(token))

    @rule(token=st.sampled_from(sorted(OWNERS)), on=st.booleans())
    def token_may_use_teams(self, token: str, on: bool) -> None:
        self._by_others()
        self._bad_tokens.discard(token)
        teams: list[str] | None = None if on else []
        self.world.emulator.accounts.grant(TokenGrant(token=token, user=OWNERS[token], teams=teams))
        self._settle()

    @rule(secret=st.sampled_from(sorted(SECRETS)), token=st.none() | st.sampled_from(sorted(OWNERS)))
    def set_secret(self, secret: str, token: str | None) -> None:
        """Rotated, switched to another account, or removed."""
        self._act(self._set_secret(secret, token))

    async def _set_secret(self, secret: str, token: str | None) -> None:
        if token is not None:
            await put_secret(self.world, token, name=secret)
        elif self._secrets[secret] is not None:
            await remove_secret(self.world, secret)
        self._secrets[secret] = token

    # --- what the API server does -------------------------------------------------------------------------------------

    @rule(method=st.sampled_from(["PATCH", "PATCH", "GET"]), fault=api_faults, times=times)
    def api_server_fails(self, method: str, fault: Body, times: int) -> None:
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

    # --- time, and the operator's processes ---------------------------------------------------------------------------

    @rule(span=st.sampled_from(SPANS))
    def time_goes_by(self, span: timedelta) -> None:
        forever = any(fault.fault.times is None for fault in self.world.emulator.faults)
        if self._bad_tokens or None in self._secrets.values() or forever or self.world.emulator.limits.rule is not None:
            span = min(span, LONGEST_IN_TROUBLE)
        if span > 30 * MINUTE:
            self.world.watching = True  # by then, everything is listed again
        if self._hang is not None:
            self._hangs_for += span
            if self._hangs_for > LONGEST_HANG:
                self._end_hang("drop")
                self._settle()
        if self.world.operator is None:
            self._run(self.world.clock.advance(span.total_seconds()))
        else:
            self._settle(span)

    @rule(offset=offsets)
    def clock_is_set(self, offset: timedelta) -> None:
        """That of the operator's node. Vercel's is right."""
        self.world.clock.step((offset - self._offset).total_seconds())
        self._offset = offset

    @rule(offset=offsets)
    def api_server_clock_is_set(self, offset: timedelta) -> None:
        self.world.server_clock.offset = offset.total_seconds()

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
        # A token that was refused may be another one now: after a restart it is tried at once.
        self._by_others()
        self.world.watching = True
        self.world.start()

    @precondition(lambda self: self.world.operator is not None and not self.world.gate.paused)
    @rule(point=points)
    def will_be_paused(self, point: tuple[str, str]) -> None:
        """The process stands still at its next request of this kind, before it leaves or after it was answered."""
        self.world.gate.pauses_at = point

    @precondition(lambda self: self.world.operator is not None and self.world.gate.paused)
    @rule()
    def resume(self) -> None:
        self._resume()
        self._settle()

    def _resume(self) -> None:
        self.world.gate.pauses_at = None
        if self.world.gate.paused:
            self._run(self._unless_it_crashes(self.world.resume(hanging=self._hanging)))

    @precondition(lambda self: self.world.operator is not None and self._zombie is None)
    @rule()
    def another_replica_takes_over(self) -> None:
        """The leader is paused for longer than its Lease lasts."""
        world = self.world
        assert world.operator is not None
        world.gate.pause()
        self._run(world.clock.advance(LEASE.total_seconds()))
        self.witness.paused_until = self.witness.now
        world.gate.leads = False
        self._zombie = Zombie(world.operator, world.task, world.gate)
        world.operator = None
        self._run(self._start())
        self._settle()

    @precondition(lambda self: self._zombie is not None)
    @rule()
    def the_old_leader_wakes(self) -> None:
        self._wake_the_zombie()
        self._settle()

    def _wake_the_zombie(self) -> None:
        if self._zombie is not None:
            zombie, self._zombie = self._zombie, None
            self.witness.paused_until = self.witness.now
            self._run(zombie.wake_and_end())

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

    def _crash(self) -> None:
        if self._hang is not None and self._hang.hanging:
            self._hang_is_dead = True
        self._run(self.world.crash())

    def _end_hang(self, then: Any) -> None:
        if self._hang is not None:
            self.world.emulator.faults.remove(self._hang.id, then)
            self._hang = None

    @property
    def _hanging(self) -> int:
        return 1 if self._hang is not None and not self._hang_is_dead else 0

    def _settle(self, span: timedelta = BEAT) -> None:
        """All that is due is done, and then the invariants hold."""
        if self.world.operator is None:
            return
        if not self._run(self._unless_it_crashes(self._let_pass(span, self._hanging))):
            self._broken = self._crashing = False
            for body in self.api.resources():
                if _deleting(body):
                    # The Event that was to name what stays may never have been written.
                    self._released_in_a_crash |= set(invariants.ids(body))
            self._crash()
        elif self.world.gate.paused:
            self.witness.paused_until = self.witness.now
        else:
            self._run(self._check())

    async def _unless_it_crashes(self, work: Coroutine[Any, Any, None]) -> bool:
        """Returns whether the process outlived it."""
        try:
            await work
        except asyncio.CancelledError:
            if not self._crashing:
                raise
            return False
        return True

    async def _let_pass(self, span: timedelta, hanging: int) -> None:
        await self.world.quiet(hanging=hanging)
        await self.world.advance(span, hanging=hanging)

    async def _check(self) -> None:
        world = self.world
        bodies = await world.all()
        problems = [
            *self.witness.problems(),
            *self._two_holders(bodies),
            *(problem for body in bodies for problem in self._ready_means_ready(body)),
            *self._hot_loop(),
            *_conditions_are_a_pair(bodies),
        ]
        assert not problems, await self._story(problems)

    def _two_holders(self, bodies: list[Body]) -> list[str]:
        """But for what somebody else has copied."""
        return [
            problem
            for problem in invariants.no_certificate_has_two_holders(bodies)
            if problem.split()[0] not in self._copied
        ]

    def _hot_loop(self) -> list[str]:
        """A bound on what is requested in any minute in which nobody acts, on true time."""
        problems = []
        bound = invariants.MOST_REQUESTS_A_MINUTE * len(SPECS)
        since = max(self.world.acts, default=0)
        times = [entry.time for entry in self.world.emulator.journal.since(since)]
        busiest = next((start for start, end in zip(times, times[bound:], strict=False) if end - start < 60_000), None)
        if busiest is not None:
            problems.append(f"more than {bound} requests to Vercel within a minute, from {busiest} on")
        most = MOST_WRITES_A_MINUTE * len(SPECS)
        asked = [request.at for request in self.api.asked]
        if any(end - start < 60 for start, end in zip(asked, asked[most:], strict=False)):
            problems.append(f"more than {most} requests to the API server within a minute")
        return problems

    async def _story(self, problems: Iterable[str]) -> str:
        lines = invariants.story(self.world, await self.world.all())
        said = [f"  {event['reason']}: {event['note']}" for event in await invariants.events(self.world)]
        return "\n".join([*problems, *lines, "events:", *said])

    def _ready_means_ready(self, body: Body) -> list[str]:
        """But for what was done to a certificate by others: the next list shows it."""
        certificate = self.world.emulator.state.find((body.get("status") or {}).get("id") or "")
        if _deleting(body):
            return []
        if certificate is not None:
            by_others = certificate.removed_by in ("control", "renewal") or certificate.settled_at > certificate.made_at
            if by_others or certificate.id in self._copied:
                return []
        return invariants.ready_means_ready(self.world, body)

    # --- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if not self._broken:
                self._all_is_well()
                self._all_is_gone()
        finally:
            if self._zombie is not None:
                self._run(self._zombie.end())
            self._run(self._stack.aclose())
            self._runner.close()

    def _all_is_well(self) -> None:
        """Once the world is healthy, everything becomes Ready without help, and then nothing is done any longer."""
        self._heal()
        self._settle()
        self._settle(DAY)
        waiting = [problem for name, problem in self._not_ready() if not self._is_documented(name, problem)]
        assert not waiting, self._run(self._story(waiting))
        self._settle(2 * timedelta(seconds=DRIFT))  # by then, everything that others did at Vercel was noticed
        for body in self._run(self.world.all()):
            if invariants.condition(body, "Issuing").get("reason") in ENDED_BY_USERS:
                self.request_renewal(body["metadata"]["name"])  # as the message says
        self._settle(LONGEST_WAIT + HOUR)
        problems = [problem for _, problem in self._not_ready()]
        assert not problems, self._run(self._story(problems))
        self._settle(2 * timedelta(seconds=DRIFT))
        problems = [problem for _, problem in self._not_ready()]
        bodies = self._run(self.world.all())
        problems += invariants.nothing_replaced_is_left(self.world, bodies)
        problems += [problem for body in bodies for problem in invariants.ready_means_ready(self.world, body)]
        problems += self._left_behind()
        problems += self._not_at_rest()
        assert not problems, self._run(self._story(problems))

    def _heal(self) -> None:
        """Faults are over, tokens are good, clocks agree. Only the node's clock may still be wrong."""
        self._end_hang("drop")
        self.world.emulator.faults.clear("drop")
        self.world.emulator.limits.rule = None
        self.api.faults.clear()
        self._by_others()
        for token, user in OWNERS.items():
            self.world.emulator.accounts.grant(TokenGrant(token=token, user=user))
        for name, token in SECRETS.items():
            self._run(self._set_secret(name, token))
        if self._secrets[DEFAULT] != TOKEN:
            self._set_default_token(TOKEN)
            self._crash()
        self._bad_tokens.clear()
        behaviour = self.world.emulator.state.behaviour.to_json()
        behaviour |= {"reissue": "new", "listLag": 0, "listLagOfRemovals": 0, "issuancesPerWeek": None}
        self.world.emulator.state.behaviour = Behaviour.model_validate(behaviour)
        self.world.server_clock.offset = 0.0
        self.world.watching = True
        self._wake_the_zombie()
        if self.world.operator is None:
            self._run(self._start())
        self._resume()
        for body in self._run(self.world.all()):
            if source := body["spec"].get("certificateSecretRef"):
                owner = source["name"].removesuffix(SOURCE_SUFFIX)  # an export may have been created under another name
                self._run(self._renew_source(owner, body["spec"]["cns"], 9000 * DAY))
            if FOREIGN_FINALIZER in body["metadata"].get("finalizers", ()):
                self.foreign_finalizer(body["metadata"]["name"], False)

    def _not_ready(self) -> list[tuple[str, str]]:
        return _not_as_it_should_be(self._run(self.world.all()))

    def _is_documented(self, name: str, problem: str) -> bool:
        """Whether it is a wait that the documentation names, and that ends in time or by what the message says."""
        body = self._body(name)
        if body is None:
            return True
        if any(f"not ready: {reason}" in problem for reason in ENDED_BY_USERS):
            return True
        until = (body.get("status") or {}).get("nextAttemptTime")
        now = self.world.emulator.clock.now_ms() / 1000
        return until is not None and now < invariants.parsed(until).timestamp() < now + LONGEST_WAIT.total_seconds()

    def _left_behind(self) -> list[str]:
        bodies, said = self._run(self.world.all()), self._run(invariants.events(self.world))
        return [
            problem
            for problem in self.witness.left_behind(bodies, said)
            if problem.split()[1] not in self._released_in_a_crash
        ]

    def _not_at_rest(self) -> list[str]:
        """For half a day, nothing is requested or written, but for renewals that are due and lists for drift."""
        bodies = self._run(self.world.all())
        now = self.world.emulator.clock.now_ms() / 1000
        due, duplicates = set(), 0
        for body in bodies:
            status = body.get("status") or {}
            times = [status.get("renewalTime"), status.get("expiresAt"), status.get("nextAttemptTime")]
            if any(time and now - 600 < invariants.parsed(time).timestamp() < now + 13 * 3600 for time in times):
                due.add(body["metadata"]["name"])
            if status.get("superseded"):
                due.add(body["metadata"]["name"])
            if invariants.condition(body, "Issuing").get("reason") == "DuplicateOf":
                duplicates += 1
        calls, requests = self.world.emulator.journal.last, len(self.api.asked)
        self._settle(12 * HOUR)
        if due:
            return []
        problems = [
            f"{request.method} {request.path} at rest"
            for request in self.api.asked[requests:]
            if request.method != "GET" or "secrets" not in request.path
        ]
        made = self.world.emulator.journal.since(calls)
        problems += [f"{entry.call} {entry.path} at rest" for entry in made if entry.call in ("issue", "remove")]
        gets = [entry for entry in made if entry.call == "get"]
        lists = [entry for entry in made if entry.call == "list" and "until" not in entry.query]
        if len(gets) > 2 * duplicates * len(SPECS):
            problems.append(f"{len(gets)} GETs at rest")
        if len(lists) > len(SPECS) + 2 * duplicates:
            problems.append(f"{len(lists)} lists at rest")
        return problems

    def _all_is_gone(self) -> None:
        """Once every resource is deleted, nothing hangs, and nothing is left but what was to be left."""
        for name in sorted(SPECS):
            self.delete(name)
        self._settle(DAY)
        left = [body["metadata"]["name"] for body in self._run(self.world.all())]
        assert not left, self._run(self._story([f"{left} can't be deleted"]))
        problems = self._left_behind()
        assert not problems, self._run(self._story(problems))


def _source_of(name: str) -> str:
    """The Secret of a resource whose certificate is uploaded."""
    return f"{name}{SOURCE_SUFFIX}"


def _conditions_are_a_pair(bodies: Iterable[Body]) -> list[str]:
    """Both, of one generation, or none."""
    problems = []
    for body in bodies:
        ready, issuing = invariants.condition(body, "Ready"), invariants.condition(body, "Issuing")
        if ready.get("observedGeneration") != issuing.get("observedGeneration"):
            problems.append(f"{body['metadata']['name']} has conditions of two generations")
    return problems


def _not_as_it_should_be(bodies: list[Body]) -> list[tuple[str, str]]:
    """Resources that neither are ready nor have a good reason: their names, and what is wrong."""
    problems = []
    for body in bodies:
        name, spec, ready = body["metadata"]["name"], body["spec"], invariants.condition(body, "Ready")
        if _deleting(body):
            problems.append((name, f"{name} is still being deleted"))
        elif spec.get("suspend"):
            continue
        elif ready.get("observedGeneration") != body["metadata"]["generation"]:
            problems.append((name, f"{name} reports an old generation"))
        elif ready.get("status") == "True":
            continue
        elif ready.get("reason") == "DuplicateOf":
            if not any(_may_own(other, body) for other in bodies):
                problems.append((name, f"{name} says that it is a duplicate, and is none"))
        else:
            problems.append((name, f"{name} is not ready: {ready.get('reason')}: {ready.get('message')}"))
    return problems


def _deleting(body: Body) -> bool:
    return bool(body["metadata"].get("deletionTimestamp"))


def _may_own(other: Body, body: Body) -> bool:
    same = normalized(other["spec"]["cns"]) == normalized(body["spec"]["cns"])
    ready = invariants.condition(other, "Ready").get("status") == "True" or other["spec"].get("suspend")
    return other is not body and same and bool(ready)
