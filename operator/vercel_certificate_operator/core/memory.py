"""What a process remembers about a resource, and what it learned in a round. All of it may be lost at any time.

Pure: every change gives a new value. ``known`` assembles what a decision is made from.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import floor
from types import MappingProxyType
from typing import Any

from vercel_certificate_operator.core.certificate import Scope
from vercel_certificate_operator.core.domains import DomainConfig
from vercel_certificate_operator.core.failures import (
    Call,
    Failure,
    Fate,
    fraction,
    is_about_the_call,
    issued_nothing,
    meaning,
    wait_after,
)
from vercel_certificate_operator.core.known import (
    CallKey,
    Decision,
    FailedCall,
    Got,
    Known,
    Limits,
    List,
    Listing,
    Note,
    Ownership,
    Pause,
    Reply,
    Tick,
    Unanswered,
    Write,
)
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.resource import Resource, Spec, Status
from vercel_certificate_operator.core.source import Source, SourceProblem
from vercel_certificate_operator.core.times import SCHEMA_CHECK

MOST_VOID = 20
"""Ids of attempts that were never sent. More than one at a time is rare."""

_EMPTY: Mapping[Any, Any] = MappingProxyType({})
_NO_SPEC = Spec()


@dataclass(frozen=True, slots=True)
class Memory:
    """What this process remembers about one resource."""

    seen: tuple[str | None, Tick]
    """The newest attempt's id, and when this process first saw it or sent it."""
    spec: Spec = _NO_SPEC
    """The newest that was seen: it counts when the resource is gone. Kept only while work is in progress."""
    reply: Reply | None = None
    """What came of a POST of this process, until it is recorded."""
    in_flight: str | None = None
    """The attempt for whose answer this process waits."""
    void: tuple[str, ...] = ()
    """Attempts that this process knows it never sent."""
    failed: Mapping[CallKey, FailedCall] = field(default_factory=lambda: _EMPTY)
    wish: object = None
    """What the user wanted when these calls failed."""
    schema: tuple[Tick, bool] | None = None
    """When the API server last stored the record incompletely or was asked whether it stores every field, and whether
    it does."""
    unstored_outcome: str | None = None
    """The attempt whose outcome this process wrote and the API server dropped."""
    source: tuple[Tick, Source | SourceProblem] | None = None
    """When the Secret of spec.certificateSecretRef was read, and what it held."""
    noticed: Listing | None = None
    """A list that shows something new about this resource."""
    unpublished: tuple[Mapping[str, Any], Note] | None = None
    """A status that is being written, and the Event for it."""
    removed: Mapping[str, bool] = field(default_factory=lambda: _EMPTY)
    """What was removed while the resource is being deleted: whether Vercel had a certificate with this id. Status still
    names it, and the last Event says what became of it."""
    removed_at: Tick | None = None
    """When the last of these was removed."""
    farewell: Note | None = None
    """The Event for the end of the resource, which is being released."""
    checked: tuple[str, Tick] | None = None
    """The current certificate's id, and when its own GET or POST showed it last. It is about the certificate that has
    been the current one ever since. A rate limit can end a round after its GET."""

    def observe(self, resource: Resource, tick: Tick, got: Mapping[str, Got] = _EMPTY) -> "Memory":
        """Returns the memory after the resource's newest state was seen.

        A reply whose outcome is recorded is dropped. A change by the user ends every wait for a call.

        Args:
            got: the answers to GETs of this round, by certificate id.
        """
        attempt = resource.status.attempt
        attempt_id = attempt.id if attempt is not None else None
        after = self if self.spec is resource.spec else replace(self, spec=resource.spec)
        if self.seen[0] != attempt_id:
            after = replace(after, seen=(attempt_id, tick))
        if self.reply is not None and attempt is not None and attempt.id == self.reply.attempt.id and not attempt.open:
            after = replace(after, reply=None)
        checked = after._checked_now(resource.status.id, got)
        if checked != after.checked:
            after = replace(after, checked=checked)
        wish = _wish(resource)
        if after.wish != wish:
            after = replace(after, wish=wish, source=None, failed=_EMPTY if after.wish is not None else after.failed)
        return after

    def _checked_now(self, current: str | None, got: Mapping[str, Got]) -> tuple[str, Tick] | None:
        new = self.reply.certificate if self.reply is not None else None
        checked = self.checked if self.checked and self.checked[0] in (current, new and new.id) else None
        answer = got.get(current or "")
        if current is None or answer is None or (checked is not None and checked[1] >= answer.at):
            return checked
        return (current, answer.at) if answer.certificate is not None else None

    def published(self, status: Status) -> tuple["Memory", Note | None]:
        """Returns the memory, and the Event that is due because status turned out to be written."""
        if self.unpublished is None:
            return self, None
        intended, note = self.unpublished
        return (replace(self, unpublished=None), note) if status.dump() == intended else (self, None)

    def writing(self, decision: Decision) -> "Memory":
        """Returns the memory before a decision's status is written. The Event is due once it turns out to be."""
        if decision.status is None or decision.note is None:
            return self
        return replace(self, unpublished=(decision.status.dump(), decision.note))

    def fenced_off(self) -> "Memory":
        """Returns the memory after a write was refused, since it was decided from a stale view."""
        return replace(self, unpublished=None)

    def recorded(self, decision: Decision) -> "Memory":
        """Returns the memory after a decision was carried out. With that, a reply is recorded, or can't be."""
        action = decision.action
        settled = isinstance(action, Write) and (action.closes or decision.status is None)
        return replace(self, unpublished=None, reply=None if settled else self.reply)

    def dropped(self, decision: Decision, tick: Tick) -> "Memory":
        """Returns the memory after the API server dropped fields of a decision's status."""
        attempt = decision.status.attempt if decision.status is not None else None
        closes = attempt is not None and isinstance(decision.action, Write) and decision.action.closes
        unstored = attempt.id if attempt is not None and closes else self.unstored_outcome
        return replace(self, schema=(tick, False), unstored_outcome=unstored)

    def schema_checked(self, tick: Tick, stores_all: bool) -> "Memory":
        """Returns the memory after the API server was asked whether it stores every field of the record."""
        return replace(self, schema=(tick, stores_all), unstored_outcome=None if stores_all else self.unstored_outcome)

    def with_removed(self, certificate_id: str, there: bool, tick: Tick) -> "Memory":
        """Returns the memory after a certificate of a resource that is being deleted was removed."""
        removed = MappingProxyType({certificate_id: there, **self.removed})
        return replace(self, removed=removed, removed_at=tick)

    def call_failed(
        self, call: CallKey, failure: Failure, tick: Tick, *, seed: str, token_hash: str | None
    ) -> "Memory":
        """Returns the memory after a call failed. Each call has its own back-off.

        Args:
            token_hash: the token with which it failed. Another one doesn't wait.
            seed: makes the jitter; the resource's uid.
        """
        before = self.failed.get(call)
        if before is not None and before.token_hash != token_hash:
            before = None
        times = before.times + 1 if before is not None else 1
        since = before.since if before is not None and _is_the_same(before.failure, failure, call[0]) else tick
        wait = wait_after(meaning(failure, call[0]), failure, times, seed)
        failed = FailedCall(failure, times, since, tick + wait.total_seconds(), token_hash)
        return replace(self, failed=MappingProxyType({**self.failed, call: failed}))

    def call_succeeded(self, call: CallKey) -> "Memory":
        """Returns the memory after a call succeeded. So there is a token, and Vercel can be reached."""
        left = {
            other: failed
            for other, failed in self.failed.items()
            if other != call and failed.failure.fate not in (Fate.NOT_SENT, Fate.NO_TOKEN)
        }
        return self if len(left) == len(self.failed) else replace(self, failed=MappingProxyType(left))

    def announced(self, attempt_id: str) -> "Memory":
        """Returns the memory before an attempt is recorded. Until it is sent, it counts as never sent."""
        return replace(self, void=(*self.void, attempt_id)[-MOST_VOID:], reply=None)

    def sent(self, attempt_id: str, tick: Tick) -> "Memory":
        """Returns the memory when an attempt's POST is being sent."""
        void = tuple(other for other in self.void if other != attempt_id)
        return replace(self, void=void, seen=(attempt_id, tick), in_flight=attempt_id)

    def answered(self, reply: Reply) -> "Memory":
        """Returns the memory when a POST is over."""
        checked = (reply.certificate.id, reply.at) if reply.certificate is not None else self.checked
        return replace(self, reply=reply, in_flight=None, checked=checked)

    @property
    def has_unrecorded_reply(self) -> bool:
        """Whether Vercel has answered a POST, and the answer isn't recorded."""
        reply = self.reply
        return reply is not None and (reply.failure is None or issued_nothing(reply.failure))

    def at_rest(self) -> "Memory":
        """Returns the memory at the end of a round, without what can be read again at the start of the next one."""
        return self if self.is_needed else replace(self, spec=_NO_SPEC)

    @property
    def is_needed(self) -> bool:
        """Whether something of it must outlive the resource."""
        return self.reply is not None or self.in_flight is not None


@dataclass(frozen=True, slots=True)
class Round:
    """What was learned in one round."""

    got: Mapping[str, Got] = field(default_factory=lambda: _EMPTY)
    removed: Mapping[str, bool] = field(default_factory=lambda: _EMPTY)
    listing: Listing | None = None
    pauses: Mapping[Call, Pause] = field(default_factory=lambda: _EMPTY)
    domains: Mapping[str, DomainConfig | None] = field(default_factory=lambda: _EMPTY)
    token_read: bool = False
    token_hash: str | None = None
    just_failed: CallKey | None = None
    asked: List | None = None
    """The list for which it waits. One that was begun after it was asked for is new enough, however long it took. If a
    fresh one was asked for, it may then be older, see ``Listing.awaited``."""
    asked_at: Tick = 0.0
    """When it was asked for."""
    waits_since: Tick | None = None
    """Since when it waits for a slot or a list."""

    def with_got(self, certificate_id: str, got: Got) -> "Round":
        return replace(self, got={**self.got, certificate_id: got})

    def with_removed(self, certificate_id: str, there: bool) -> "Round":
        return replace(self, removed={**self.removed, certificate_id: there})

    def with_domain(self, domain: str, config: DomainConfig | None) -> "Round":
        return replace(self, domains={**self.domains, domain: config})

    def with_pause(self, call: Call, pause: Pause) -> "Round":
        return replace(self, pauses={**self.pauses, call: pause})

    def with_token(self, token_hash: str | None) -> "Round":
        return replace(self, token_read=True, token_hash=token_hash)

    def fenced_off(self) -> "Round":
        """Returns the next round, after the view turned out to be stale: what was removed stays removed."""
        return Round(removed=self.removed)

    def written(self) -> "Round":
        """Returns the round after status was written: what Vercel said about certificates stays true."""
        return replace(self, just_failed=None)


def known(
    memory: Memory,
    round_: Round,
    resource: Resource,
    *,
    now: datetime,
    tick: Tick,
    scope: Scope,
    limits: Limits,
    new_attempt_id: str,
    may_adopt: bool,
    ownership: Ownership,
    held_elsewhere: Container[str],
    left_behind: Mapping[str, str | None],
    attempted_elsewhere: Container[frozenset[str]],
    copied_attempt: str | None,
    not_removable: Container[str],
    clock_skew: timedelta | None,
    server_time: datetime | None,
    at_least: datetime | None = None,
    unanswered: Unanswered | None = None,
    vercel_said: bool = True,
    ending: bool = False,
) -> Known:
    """Returns what a decision is made from. The arguments are those of ``Known``.

    Args:
        copied_attempt: the open attempt, if it is an older resource's. Nothing was sent for this one, unless this
            process did that.
    """
    copied = copied_attempt if memory.reply is None and memory.in_flight is None else None
    checked_at, stores_all = memory.schema or (tick, not _says_outdated(resource.status))
    lately = memory.schema is not None and tick - checked_at < SCHEMA_CHECK.total_seconds()
    # A tenth later at most, so that a thousand Secrets aren't read in one second.
    poll = limits.source_poll * (1 + fraction(resource.key.uid) / 10)
    # Whole milliseconds: a wait until then ends at a datetime, which has microseconds.
    due = floor((memory.source[0] + poll) * 1000) / 1000 if memory.source is not None else None
    return Known(
        now=now,
        tick=tick,
        resource=resource,
        scope=scope,
        new_attempt_id=new_attempt_id,
        limits=limits,
        seen_at=memory.seen[1],
        in_flight=memory.in_flight is not None,
        reply=memory.reply,
        void_attempts=(*memory.void, copied) if copied is not None else memory.void,
        schema_outdated=not stores_all and lately,
        schema_in_doubt=not stores_all and not lately,
        unstored_outcome=memory.unstored_outcome,
        got=round_.got,
        checked=memory.checked,
        removed_at=memory.removed_at if resource.deleting else None,
        removed={**memory.removed, **round_.removed} if memory.removed else round_.removed,
        listing=round_.listing,
        failed=memory.failed,
        pauses=round_.pauses,
        domains=round_.domains,
        token_read=round_.token_read,
        token_hash=round_.token_hash,
        source=memory.source[1] if memory.source is not None and due is not None and tick < due - 0.001 else None,
        source_due_at=due,
        just_failed=round_.just_failed,
        may_adopt=may_adopt,
        ownership=ownership,
        held_elsewhere=held_elsewhere,
        left_behind=left_behind,
        attempted_elsewhere=attempted_elsewhere,
        not_removable=not_removable,
        clock_skew=clock_skew,
        server_time=server_time,
        at_least=at_least,
        unanswered=unanswered,
        vercel_said=vercel_said,
        ending=ending,
    )


def _says_outdated(status: Status) -> bool:
    issuing = status.condition("Issuing")
    return issuing is not None and issuing.reason == Reason.SCHEMA_OUTDATED


def _is_the_same(before: Failure, after: Failure, call: Call) -> bool:
    """Returns whether two failures in a row count from the first one on."""
    if Fate.NO_TOKEN in (before.fate, after.fate):
        return before.fate is after.fate
    return is_about_the_call(before, call) == is_about_the_call(after, call)


def _wish(resource: Resource) -> object:
    spec = resource.spec
    return (
        resource.cns,
        spec.token_secret_ref,
        spec.certificate_secret_ref,
        spec.suspend,
        spec.retains,
        resource.deleting,
        resource.renew_request,
        resource.adopt_request,
    )
