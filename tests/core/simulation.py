"""One resource in a model of Kubernetes and Vercel, around the operator's real rules and its real memory.

Everything that decides and remembers is the core's own; only what waits, sends and stores is modelled. The model keeps
what the real parts promise: status goes through JSON, every write gives a new resourceVersion, lists are shared, calls
take time, Vercel answers truthfully unless it was told to fail, and everything in memory may be lost.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from core.building import DAY, HOUR, KEY, MINUTE, NAMES, NOW, SECOND, TEAM, assert_in_order, changed
from vercel_certificate_operator.core.certificate import Certificate, Certificates, Scope
from vercel_certificate_operator.core.decide import decide
from vercel_certificate_operator.core.facts import open_attempt
from vercel_certificate_operator.core.failures import Call, Failure, Fate
from vercel_certificate_operator.core.known import (
    AddFinalizer,
    CallKey,
    Decision,
    Get,
    Got,
    Issue,
    Known,
    Limits,
    List,
    Listing,
    Ownership,
    ReadToken,
    Remove,
    RemoveFinalizer,
    Reply,
    Tick,
    Wait,
    Write,
)
from vercel_certificate_operator.core.memory import Memory, Round, known
from vercel_certificate_operator.core.record import Attempt
from vercel_certificate_operator.core.resource import (
    FINALIZER,
    RENEW_ANNOTATION,
    Resource,
    Spec,
    Status,
)
from vercel_certificate_operator.core.rules.attempts import orphan_note
from vercel_certificate_operator.core.rules.failed_calls import call_of
from vercel_certificate_operator.core.sightings import Sighting

DRIFT_INTERVAL: Tick = 6 * 3600.0
MOST_STEPS = 40
CALL = timedelta(milliseconds=100)
"""How long a call takes."""
REFUSAL = Failure(Fate.REFUSED, "Pay first", 402, "payment_required")
ERROR = Failure(Fate.REFUSED, "Out of order", 500, "internal")

Post = Literal[
    "issued", "issued, answer lost", "issued, back-dated, answer lost", "nothing done, answer lost", "refused",
    "rate limited", "not sent", "died before", "died after", "never sent", "the old one", "other names", "more names",
    "expired",
]  # fmt: skip


class Died(Exception):
    """The process ended, and with it all that it remembered."""


@dataclass(slots=True)
class Posted:
    """A POST that reached Vercel."""

    at: datetime
    attempt: Attempt
    certificate: Certificate | None = None


@dataclass(slots=True)
class Vercel:
    """One scope at Vercel, with its clock."""

    lifetime: timedelta
    now: datetime = NOW
    certificates: dict[str, Certificate] = field(default_factory=dict)
    ours: set[str] = field(default_factory=set)
    """Certificates that came of our POSTs, and Vercel's renewals of these: what the operator may remove."""
    made: int = 0

    def issue(self, cns: frozenset[str], *, back_dated: timedelta = timedelta(), ours: bool = True) -> Certificate:
        self.made += 1
        created = self.now - back_dated
        certificate = Certificate(f"cert_{self.made}", cns, created, created + self.lifetime, auto_renew=True)
        self.certificates[certificate.id] = certificate
        if ours:
            self.ours.add(certificate.id)
        return certificate

    def renew(self, certificate_id: str | None, *, same_id: bool) -> None:
        """Vercel renews by itself, as far as it would: in the second half of the lifetime."""
        current = self.certificates.get(certificate_id or "")
        if current is None or current.created_at is None or self.now < current.created_at + self.lifetime / 2:
            return
        if same_id:
            renewed = replace(current, created_at=self.now, expires_at=self.now + self.lifetime)
            self.certificates[current.id] = renewed
        else:
            self.issue(current.cns, ours=current.id in self.ours)


class World:
    """One resource, its operator, and Vercel."""

    def __init__(self, resource: Resource | None = None, *, lifetime: timedelta = timedelta(days=90)) -> None:
        self.monotonic: Tick = 1_000_000.0
        self.clock_offset = timedelta()
        """How far Vercel's time, as the operator knows it, is from the truth."""
        self.vercel = Vercel(lifetime)
        self.posts: list[Posted] = []
        self.calls: list[CallKey] = []
        self.removals: list[str] = []
        self.released = False
        self.notes: list[str] = []
        self.writes = 0
        self.steps = 0
        self.next_posts: list[Post] = []
        self.failing: dict[Call, int] = {}
        """How many of the next calls of a kind fail."""
        self.token = "t1"
        self.list: Listing | None = None
        self.drift_seen: Tick = 0.0
        self._attempts = 0
        self.resource = resource or Resource(
            key=KEY,
            resource_version="1",
            generation=1,
            created_at=NOW - DAY,
            deleted_at=None,
            finalizers=(),
            annotations={},
            spec=Spec(cns=NAMES),
            status=Status(),
        )
        self.restart()

    @property
    def now(self) -> datetime:
        """Vercel's time, as the operator knows it."""
        return self.vercel.now + self.clock_offset

    # --- what users, and others, do -------------------------------------------------------------------------------

    def change_spec(self, **spec: object) -> None:
        spec_now = self.resource.spec.model_copy(update=spec)
        if spec_now != self.resource.spec:
            self._put(spec=spec_now, generation=self.resource.generation + 1)

    def request_renewal(self, value: str) -> None:
        self._put(annotations={**self.resource.annotations, RENEW_ANNOTATION: value})

    def delete(self) -> None:
        if not self.resource.deleting:
            self._put(deleted_at=self.vercel.now, generation=self.resource.generation + 1)

    def strip_finalizer(self) -> None:
        if not self.resource.deleting:
            self._put(finalizers=())

    def restart(self) -> None:
        self.memory = Memory(seen=(None, self.monotonic))
        self.list = None
        self.drift_seen = self.monotonic

    def advance(self, span: timedelta) -> None:
        self.vercel.now += span
        self.monotonic += span.total_seconds()

    def lose_at_vercel(self) -> None:
        """Somebody removes the current certificate.

        Not if somebody else's could then be mistaken for Vercel's renewal of it.
        """
        if self.resource.status.shared_names or self.vercel.certificates.keys() <= self.vercel.ours:
            self.vercel.certificates.pop(self.resource.status.id or "", None)

    def someone_issues(self) -> None:
        """Somebody else has a certificate with the same names.

        Not if it could be mistaken for what came of an attempt, or for Vercel's renewal of the current certificate.
        """
        status = self.resource.status
        current = self.vercel.certificates.get(status.id or "")
        young = current is not None and self.vercel.now < (current.created_at or NOW) + self.vercel.lifetime / 2
        if status.open_attempt is None and (status.id is None or status.shared_names or young):
            self.vercel.issue(self.resource.cns, ours=False)

    # --- the operator ---------------------------------------------------------------------------------------------

    def round(self) -> datetime | None:
        """Makes one round. Returns when the next one is due; None: when something changes."""
        try:
            return self._round()
        except Died:
            self.restart()
            return self.now

    def _round(self) -> datetime | None:
        round_ = Round(listing=self._noticed())
        for _ in range(MOST_STEPS):
            self.steps += 1
            if self.released:
                return None
            facts = self.known(round_)
            decision = decide(facts)
            assert_in_order(facts, decision)
            self._assert_allowed(facts, decision)
            match decision.action:
                case Wait(until):
                    self._write(decision)
                    return until
                case Write():
                    self._write(decision)
                    round_ = round_.written()
                case RemoveFinalizer():
                    self.released = True
                case AddFinalizer():
                    self._put(finalizers=(*self.resource.finalizers, FINALIZER))
                case ReadToken():
                    round_ = round_.with_token(self.token)
                case Get() | List() | Remove() | Issue():
                    round_ = self._call(facts, decision, round_)
        raise AssertionError(f"{decision.policy} never settles: the last of {MOST_STEPS} steps was {decision.action}")

    def known(self, round_: Round) -> Known:
        self.memory, note = self.memory.observe(self.resource, self.monotonic, round_.got).published(
            self.resource.status
        )
        if note is not None:
            self.notes.append(f"{note.reason}: {note.text}")
        self._attempts += 1
        return known(
            self.memory,
            round_,
            self.resource,
            now=self.now,
            tick=self.monotonic,
            scope=TEAM,
            limits=Limits(),
            new_attempt_id=f"attempt-{self._attempts}",
            may_adopt=True,
            ownership=Ownership(),
            left_behind={},
            held_elsewhere=frozenset(),
            attempted_elsewhere=frozenset(),
            copied_attempt=None,
            not_removable=frozenset(),
            clock_skew=None,
            server_time=None,
        )

    def _noticed(self) -> Listing | None:
        """From time to time, a list shows what has changed at Vercel; not right after a start."""
        if self.monotonic - self.drift_seen < DRIFT_INTERVAL:
            return None
        self.drift_seen = self.monotonic
        listing = self._listed(self.monotonic)
        self._report_orphans(listing)
        news = Sighting.of(listing).is_news(self.resource.cns, self.resource.status.dump())
        return listing if news else None

    def _report_orphans(self, listing: Listing) -> None:
        status = self.resource.status
        if status.open_attempt is None:
            for orphan in Sighting.of(listing).orphans(self.resource.cns, self.resource.created_at.timestamp()):
                if orphan.id not in status.certificate_ids:
                    self.notes.append(f"{orphan_note(orphan).reason}: {orphan_note(orphan).text}")

    def _listed(self, begun_after: Tick | None) -> Listing:
        assert begun_after is None or begun_after <= self.monotonic, "no list is from the future"
        if self.list is None or not self.list.is_new_enough(begun_after, self.monotonic):
            self.list = Listing(self.monotonic, Certificates(self.vercel.certificates.values()), CALL.total_seconds())
        return self.list

    def _assert_allowed(self, facts: Known, decision: Decision) -> None:
        resource, status = facts.resource, facts.resource.status
        match decision.action:
            case Issue(attempt):
                assert open_attempt(facts) is None, "never while an attempt is unresolved"
                assert not resource.deleting
                assert not resource.spec.suspend
                assert resource.has_finalizer
                assert attempt.names == resource.cns
            case Remove(certificate_id):
                assert not resource.spec.suspend
                assert certificate_id in status.certificate_ids
                assert certificate_id in self.vercel.ours, "never somebody else's"
                if certificate_id == status.id and not resource.deleting:
                    assert status.expires_at is not None
                    assert self.now >= status.expires_at, "the current one is only removed when it is of no use"

    # --- what the edges do ----------------------------------------------------------------------------------------

    def _put(self, **changes: object) -> None:
        version = str(int(self.resource.resource_version) + 1)
        self.resource = changed(self.resource, resource_version=version, **changes)

    def _write(self, decision: Decision) -> None:
        self.memory = self.memory.writing(decision)
        self._write_status(decision.status)
        self.memory = self.memory.recorded(decision)
        if decision.note is not None:
            self.notes.append(f"{decision.note.reason}: {decision.note.text}")

    def _write_status(self, status: Status | None) -> None:
        if status is not None and status.dump() != self.resource.status.dump():
            self.writes += 1
            self._put(status=Status.read(status.dump()))

    def _call(self, facts: Known, decision: Decision, round_: Round) -> Round:
        call = call_of(decision)
        assert call is not None
        if isinstance(decision.action, Issue) and facts.token_hash != self.token:
            return round_.with_token(self.token)  # the attempt must say which token it used
        round_ = round_.with_token(self.token)
        if isinstance(decision.action, Issue):
            return self._issue(decision, decision.action.attempt)
        self.calls.append(call)
        self.advance(CALL)
        if self.failing.get(call[0]):
            self.failing[call[0]] -= 1
            failure = ERROR if call[0] == "list" else REFUSAL
            self.memory = self.memory.call_failed(call, failure, self.monotonic, seed=KEY.uid, token_hash=self.token)
            return replace(round_, just_failed=call)
        self.memory = self.memory.call_succeeded(call)
        return self._answer(decision.action, round_)

    def _answer(self, action: object, round_: Round) -> Round:
        match action:
            case Get(certificate_id, scope):
                assert scope == TEAM
                return round_.with_got(
                    certificate_id, Got(self.monotonic, self.vercel.certificates.get(certificate_id))
                )
            case List(begun_after, scope):
                assert scope == TEAM
                return replace(round_, listing=self._listed(begun_after))
            case Remove(certificate_id, scope):
                assert isinstance(scope, Scope)
                self.removals.append(certificate_id)
                there = self.vercel.certificates.pop(certificate_id, None) is not None
                return round_.with_removed(certificate_id, there)
        raise AssertionError(f"{action} is no call")

    def _issue(self, decision: Decision, attempt: Attempt) -> Round:
        self.memory = self.memory.announced(attempt.id)
        self._write_status(decision.status)
        how: Post = self.next_posts.pop(0) if self.next_posts else "issued"
        if how == "died before":
            raise Died
        if how == "never sent":
            return Round()
        self.memory = self.memory.sent(attempt.id, self.monotonic)
        assert isinstance(decide(self.known(Round())).action, Wait), "nothing happens during a POST"
        began = self.monotonic
        if how == "not sent":
            self._reply(attempt, began, Failure(Fate.NOT_SENT, "connection refused"))
            return Round()
        posted = Posted(self.vercel.now, attempt)
        self.posts.append(posted)
        self.calls.append(("issue", None))
        self.advance(SECOND)
        answer = self._post(how, attempt)
        if isinstance(answer, Certificate) or how in ("issued, answer lost", "issued, back-dated, answer lost"):
            posted.certificate = next(reversed(self.vercel.certificates.values()))
        if how == "died after":
            posted.certificate = self.vercel.issue(attempt.names)
            raise Died
        self._reply(attempt, began, answer)
        return Round()

    def _post(self, how: Post, attempt: Attempt) -> Certificate | Failure:
        timed_out = Failure(Fate.UNKNOWN, "no answer within 120 s")
        old = self.vercel.certificates.get(self.resource.status.id or "")
        match how:
            case "refused":
                return REFUSAL
            case "rate limited":
                return Failure(Fate.REFUSED, "Slow down", 429, "too_many_requests", 2 * MINUTE)
            case "nothing done, answer lost" | "died after":
                return timed_out
            case "issued, answer lost":
                self.vercel.issue(attempt.names)
                return timed_out
            case "issued, back-dated, answer lost":
                self.vercel.issue(attempt.names, back_dated=min(HOUR, self.vercel.lifetime / 100))
                return timed_out
            case "the old one" if old is not None and attempt.names <= old.cns:
                return old
            case "other names":
                return self.vercel.issue(frozenset({"odd.example.org"}))
            case "more names":
                return self.vercel.issue(attempt.names | {"www.example.com"})
            case "expired":
                return self.vercel.issue(attempt.names, back_dated=self.vercel.lifetime)
        return self.vercel.issue(attempt.names)

    def _reply(self, attempt: Attempt, began: Tick, answer: Certificate | Failure) -> None:
        took = self.monotonic - began
        if isinstance(answer, Certificate):
            reply = Reply(attempt, self.monotonic, took, certificate=answer)
        else:
            reply = Reply(attempt, self.monotonic, took, failure=answer)
        self.memory = self.memory.answered(reply)

    # --- time -----------------------------------------------------------------------------------------------------

    def live(self, span: timedelta, *, per_hour: float = 1.5) -> None:
        """Lets time go by, with a round whenever one is due, and for drift.

        Args:
            per_hour: how many rounds may be made, apart from a handful for what has just happened.
        """
        end = self.vercel.now + span
        rounds = 80 + int(per_hour * (span / HOUR))
        for _ in range(rounds):
            until = self.round()
            if self.released or self.vercel.now >= end:
                return
            due = end if until is None else min(until - self.clock_offset, end)
            self.advance(max(min(due - self.vercel.now, 6 * HOUR), timedelta(milliseconds=1)))
        raise AssertionError(f"more than {rounds} rounds in {span}")

    @property
    def ours_at_vercel(self) -> set[str]:
        """Certificates that came of our POSTs or of Vercel's renewals of these, and are still there."""
        return self.vercel.ours & self.vercel.certificates.keys()
