"""The reconciler's loop with a model of Vercel and Kubernetes: everything that decides, and nothing that waits.

What the model keeps is what the real parts promise: status goes through JSON, every write gets a new
resourceVersion, Vercel answers truthfully unless it was told to fail, and everything in memory may be lost.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from core.building import HOUR, KEY, MINUTE, NAMES, NOW, SECOND, TEAM, assert_in_order, changed
from vercel_certificate_operator.core.attempt import ANNOTATION, Attempt
from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.core.failures import (
    Failure,
    Fate,
    meaning_of_a_repeatable_call,
    wait_after,
)
from vercel_certificate_operator.core.known import (
    Call,
    Decision,
    FailedCall,
    Hold,
    Issue,
    Known,
    List,
    Listing,
    Look,
    Looked,
    Release,
    Remove,
    Reply,
    Tick,
    Wait,
    Write,
)
from vercel_certificate_operator.core.policies import decide, open_attempt
from vercel_certificate_operator.core.resource import (
    FINALIZER,
    RENEW_ANNOTATION,
    Resource,
    Spec,
    Status,
)

DRIFT_INTERVAL: Tick = 24 * 3600.0
MOST_STEPS = 15
"""Far more than a round needs."""

Post = Literal[
    "issued", "issued, answer lost", "nothing done, answer lost", "refused", "rate limited", "not sent", "died before",
    "died after", "never sent", "the old one", "other names", "more names",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """What was learned in this round."""

    looked: Looked | None = None
    named: Looked | None = None
    listing: Listing | None = None
    failed_call: FailedCall | None = None


@dataclass(slots=True)
class Memory:
    """What the process remembers."""

    attempt_seen: tuple[str | None, Tick]
    reply: Reply | None = None
    void: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    failed_calls: int = 0
    failed_generation: int = 0
    retry_at: Tick | None = None
    failed_removals: int = 0
    removal_at: Tick | None = None


class Died(Exception):
    """The process ended, and with it all that it remembered."""


@dataclass(slots=True)
class Posted:
    """A POST that reached the wire."""

    at: datetime
    attempt: Attempt
    certificate: Certificate | None = None


class World:
    """One resource, its operator, and Vercel."""

    def __init__(self, resource: Resource | None = None, *, lifetime: timedelta = timedelta(days=90)) -> None:
        self.now = NOW
        self.monotonic: Tick = 1_000_000.0
        self.lifetime = lifetime
        self.at_vercel: dict[str, Certificate] = {}
        self.posts: list[Posted] = []
        self.removals: list[str] = []
        self.released = False
        self.notes: list[str] = []
        self.writes = 0
        self.steps = 0
        self.next_posts: list[Post] = []
        self.failing_reads = 0
        self.failing_removals = 0
        self.drift_seen: Tick = 0.0
        self._ids = 0
        self.resource = resource or Resource(
            key=KEY,
            resource_version="1",
            generation=1,
            created_at=NOW,
            deleted_at=None,
            finalizers=(),
            annotations={},
            spec=Spec(cns=NAMES),
            status=Status(),
        )
        self.memory = self._fresh()

    def _fresh(self) -> Memory:
        self.drift_seen = self.monotonic
        return Memory(attempt_seen=(None, self.monotonic))

    # --- what users, and others, do -------------------------------------------------------------------------------

    def change_spec(self, **spec: object) -> None:
        spec_now = self.resource.spec.model_copy(update=spec)
        if spec_now != self.resource.spec:
            self._put(spec=spec_now, generation=self.resource.generation + 1)

    def ask_for_renewal(self, value: str) -> None:
        self._put(annotations={**self.resource.annotations, RENEW_ANNOTATION: value})

    def delete(self) -> None:
        if not self.resource.deleting:
            self._put(deleted_at=self.now, generation=self.resource.generation + 1)

    def restart(self) -> None:
        self.memory = self._fresh()

    def advance(self, span: timedelta) -> None:
        self.now += span
        self.monotonic += span.total_seconds()

    def lose_at_vercel(self) -> None:
        """Somebody removes the current certificate."""
        self.at_vercel.pop(self.resource.status.id or "", None)

    def renew_at_vercel(self, *, same_id: bool) -> None:
        """Vercel renews by itself."""
        current = self.at_vercel.get(self.resource.status.id or "")
        if current is not None:
            renewed = self._certificate(current.cns)
            self.at_vercel[current.id if same_id else renewed.id] = (
                replace(renewed, id=current.id) if same_id else renewed
            )

    # --- the operator ---------------------------------------------------------------------------------------------

    def round(self) -> datetime | None:
        """One round; when it wants to look again. None: not before something changes."""
        try:
            return self._round()
        except Died:
            self.restart()
            return self.now

    def _round(self) -> datetime | None:
        facts = self._noticed()
        for _ in range(MOST_STEPS):
            self.steps += 1
            if self.released:
                return None
            known = self.known(facts)
            decision = decide(known)
            assert_in_order(known, decision)
            self._assert_allowed(known, decision)
            match decision.action:
                case Wait(until):
                    self._write(decision)
                    return until
                case Write():
                    self._write(decision)
                    self.memory.reply = None
                    facts = Facts()
                case Release():
                    self.released = True
                case Hold():
                    self._put(finalizers=(FINALIZER,))
                    facts = Facts()
                case Issue() as issue:
                    self._issue(issue)
                    facts = Facts()
                case action:
                    facts = self._call(action, facts)
        raise AssertionError(f"no rest after {MOST_STEPS} steps; the last one was {decision.action}")

    def _noticed(self) -> Facts:
        """From time to time a listing shows what has changed at Vercel; not right after a start."""
        if self.monotonic - self.drift_seen < DRIFT_INTERVAL or self.resource.status.id is None:
            return Facts()
        self.drift_seen = self.monotonic
        return Facts(listing=Listing(self.monotonic, timedelta(), tuple(self.at_vercel.values())))

    def known(self, facts: Facts) -> Known:
        memory, resource = self.memory, self.resource
        attempt_id = resource.attempt.id if resource.attempt else None
        if memory.attempt_seen[0] != attempt_id:
            memory.attempt_seen = attempt_id, self.monotonic
        if memory.failed_generation != resource.generation:
            memory.retry_at, memory.failed_calls = None, 0
            memory.failed_generation = resource.generation
        return Known(
            now=self.now,
            tick=self.monotonic,
            resource=resource,
            scope=TEAM,
            first_seen=memory.attempt_seen[1],
            reply=memory.reply,
            void_attempts=frozenset(memory.void),
            looked=facts.looked,
            named=facts.named,
            listing=facts.listing,
            removed=frozenset(memory.removed),
            failed_call=facts.failed_call,
            retry_at=memory.retry_at,
            removal_at=memory.removal_at,
        )

    def _assert_allowed(self, known: Known, decision: Decision) -> None:
        resource, status = known.resource, known.resource.status
        match decision.action:
            case Issue(cns):
                assert open_attempt(known) is None, "never while an attempt is unresolved"
                assert not resource.deleting
                assert not resource.spec.suspend
                assert cns == resource.cns
            case Remove(certificate_id):
                assert not resource.spec.suspend
                assert certificate_id in (status.id, *status.superseded_ids)
                if certificate_id == status.id and not resource.deleting:
                    assert status.expires_at is not None
                    assert self.now >= status.expires_at, "the current one is only removed when it is of no use"

    # --- what the edges do ----------------------------------------------------------------------------------------

    def _put(self, **changes: object) -> None:
        version = str(int(self.resource.resource_version) + 1)
        self.resource = changed(self.resource, resource_version=version, **changes)

    def _write(self, decision: Decision) -> None:
        if decision.note is not None:
            self.notes.append(f"{decision.note.reason}: {decision.note.text}")
        if decision.status is not None and decision.status.dump() != self.resource.status.dump():
            self.writes += 1
            self._put(status=Status.model_validate(decision.status.dump()))

    def _certificate(self, cns: frozenset[str]) -> Certificate:
        self._ids += 1
        expires = self.now + self.lifetime
        return Certificate(f"cert_{self._ids}", cns, self.now, expires, auto_renew=True)

    def _issue(self, issue: Issue) -> None:
        self._ids += 1
        attempt = Attempt(
            id=f"attempt-{self._ids}",
            uid=KEY.uid,
            start=self.now,
            generation=self.resource.generation,
            cns=issue.cns,
            renew=self.resource.renew_request,
            reason=issue.reason,
        )
        annotations = {**self.resource.annotations, ANNOTATION: attempt.dumps()}
        self._put(annotations=annotations, finalizers=(FINALIZER,))
        self.memory.attempt_seen = attempt.id, self.monotonic
        self.memory.reply = None
        how: Post = self.next_posts.pop(0) if self.next_posts else "issued"
        if how == "died before":
            raise Died
        if how == "never sent":
            self.memory.void.add(attempt.id)
            return
        if how == "not sent":
            self._reply(attempt, failure=Failure(Fate.NOT_SENT, "connection refused"))
            return
        posted = Posted(self.now, attempt)
        self.posts.append(posted)
        self.advance(SECOND)
        old = self.at_vercel.get(self.resource.status.id or "")
        match how:
            case "refused":
                self._reply(attempt, failure=Failure(Fate.REFUSED, "Not yours", 403, "forbidden"))
                return
            case "rate limited":
                failure = Failure(Fate.REFUSED, "Slow down", 429, "too_many_requests", 2 * MINUTE)
                self._reply(attempt, failure=failure)
                return
            case "nothing done, answer lost":
                self._reply(attempt, failure=Failure(Fate.UNKNOWN, "no answer within 120 s"))
                return
            case "the old one" if old is not None and issue.cns <= old.cns:
                self._reply(attempt, certificate=old)
                return
        cns = issue.cns
        if how == "other names":
            cns = frozenset({"odd.example.org"})
        elif how == "more names":
            cns = cns | {"www.example.com"}
        certificate = posted.certificate = self._certificate(cns)
        self.at_vercel[certificate.id] = certificate
        if how == "died after":
            raise Died
        if how == "issued, answer lost":
            self._reply(attempt, failure=Failure(Fate.UNKNOWN, "no answer within 120 s"))
        else:
            self._reply(attempt, certificate=certificate)

    def _reply(
        self, attempt: Attempt, *, certificate: Certificate | None = None, failure: Failure | None = None
    ) -> None:
        self.memory.reply = Reply(attempt, self.monotonic, 1.0, certificate, failure)

    def _call(self, action: Look | List | Remove, facts: Facts) -> Facts:
        removal = isinstance(action, Remove)
        if (removal and self.failing_removals) or (not removal and self.failing_reads):
            if removal:
                self.failing_removals -= 1
            else:
                self.failing_reads -= 1
            return self._failed(action, facts)
        match action:
            case Look(certificate_id):
                found = self.at_vercel.get(certificate_id)
                look = Looked(certificate_id, self.monotonic, found)
                mine = certificate_id == self.resource.status.id
                facts = replace(facts, looked=look) if mine else replace(facts, named=look)
            case List(begun_after):
                assert begun_after <= self.monotonic, "a listing from the future is not to be had"
                listing = Listing(self.monotonic, timedelta(), tuple(self.at_vercel.values()))
                facts = replace(facts, listing=listing)
            case Remove(certificate_id):
                self.at_vercel.pop(certificate_id, None)
                self.removals.append(certificate_id)
                self.memory.removed.add(certificate_id)
                self.memory.failed_removals, self.memory.removal_at = 0, None
        self.memory.retry_at, self.memory.failed_calls = None, 0
        return facts

    def _failed(self, action: Look | List | Remove, facts: Facts) -> Facts:
        failure = Failure(Fate.REFUSED, "Not yours", 403, "forbidden")
        calls: dict[type, Call] = {Look: "get", List: "list", Remove: "remove"}
        call = calls[type(action)]
        about = None if isinstance(action, List) else action.certificate_id
        row = meaning_of_a_repeatable_call(failure)
        memory = self.memory
        if call == "remove" and not self.resource.deleting:
            memory.failed_removals += 1
            wait = wait_after(row, failure, memory.failed_removals, KEY.uid)
            memory.removal_at = self.monotonic + wait.total_seconds()
            return replace(facts, failed_call=FailedCall(call, failure, memory.failed_removals, about))
        memory.failed_calls += 1
        wait = wait_after(row, failure, memory.failed_calls, KEY.uid)
        memory.retry_at = self.monotonic + wait.total_seconds()
        return replace(facts, failed_call=FailedCall(call, failure, memory.failed_calls, about))

    # --- time -----------------------------------------------------------------------------------------------------

    def live(self, span: timedelta) -> None:
        """Let so much time go by; a round whenever one is wanted, and for drift.

        No more rounds than a bound: one an hour, and a handful for what has just happened.
        """
        end = self.now + span
        rounds = 60 + int(1.5 * (span / HOUR))
        for _ in range(rounds):
            until = self.round()
            if self.released or self.now >= end:
                return
            wanted = end if until is None else min(until, end)
            self.advance(max(min(wanted - self.now, 24 * HOUR), timedelta(milliseconds=1)))
        raise AssertionError(f"more than {rounds} rounds in {span}")

    @property
    def ours_at_vercel(self) -> set[str]:
        """Certificates that came of our POSTs, and are still there."""
        return {post.certificate.id for post in self.posts if post.certificate is not None} & self.at_vercel.keys()
