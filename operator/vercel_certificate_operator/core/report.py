"""What status says: the certificate that it holds, and the two conditions, always written together."""

from dataclasses import dataclass, replace
from datetime import datetime

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.certificate import Certificate, Scope
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.renewal import Schedule, schedule
from vercel_certificate_operator.core.resource import ConditionStatus, Resource, Status
from vercel_certificate_operator.core.schema import whole_seconds

NO_ATTEMPT_FOLLOWS = frozenset(
    {
        Reason.SUSPENDED,
        Reason.DUPLICATE_OF,
        Reason.SCOPE_CHANGED,
        Reason.SCOPE_VANISHED,
        Reason.SCHEMA_OUTDATED,
        Reason.RECORD_UNREADABLE,
        Reason.TOO_MANY_SUPERSEDED,
        Reason.CLOCK_SKEW,
        Reason.DELETED,
    }
)
"""Problems that time alone doesn't end: their messages name no next attempt."""


@dataclass(frozen=True, slots=True)
class Need:
    """Why a certificate has to be issued."""

    reason: str
    message: str
    by_time: bool = False
    """Whether only time made it necessary. Then Vercel may have renewed by itself, and is asked first."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something that is needed doesn't happen."""

    reason: str
    message: str


def problem(reason: str, *, wrong: str, advice: str, again: str = "") -> Problem:
    """Returns a problem whose message has the order that all messages have.

    Args:
        wrong: what is wrong, with the names concerned, and what Vercel said.
        advice: what to do.
        again: when the operator tries again, if status.nextAttemptTime doesn't say so.
    """
    return Problem(reason, " ".join(part for part in (wrong, advice, again) if part))


def scheduled(resource: Resource, status: Status) -> Schedule | None:
    """Returns when the certificate that status holds is due; None if it holds none, or not when that expires."""
    if status.id is None or status.expires_at is None:
        return None
    return schedule(
        uid=resource.key.uid,
        created_at=status.created_at,
        expires_at=status.expires_at,
        renew_before=resource.spec.renew_before,
    )


def held(
    resource: Resource,
    status: Status,
    certificate: Certificate,
    *,
    scope: Scope,
    origin: str,
    now: datetime,
    requested: frozenset[str],
    token_hash: str | None,
) -> Status:
    """Returns status with this certificate as the current one. The one before it, if another, is superseded.

    Args:
        scope: where the certificate is.
        origin: how it came here.
        requested: the names that it was requested for.
        token_hash: the token with which it was seen.
    """
    new = status.superseding(since=now) if certificate.id != status.id else status
    new = new.without_superseded({certificate.id}).holding(certificate, scope, origin)
    if new.created_at is None:
        new = new.changed(created_at=whole_seconds(now))  # lifetimes are computed from it
    names = () if requested == certificate.cns else tuple(sorted(requested))
    new = new.changed(requested_cns=names, token_hash=token_hash)
    due = scheduled(resource, new)
    return new.changed(renewal_time=due and whole_seconds(due.renewal_time))


def succeeded(status: Status) -> Status:
    """Returns status without any trace of failure."""
    return status.changed(failed_attempts=0, last_failure_time=None, next_attempt_time=None, domains=())


def failing(status: Status, *, now: datetime, failures: int, until: datetime) -> Status:
    """Returns status with an attempt that failed now, so many in a row, and when the operator tries again."""
    return status.changed(
        failed_attempts=failures, last_failure_time=whole_seconds(now), next_attempt_time=whole_seconds(until)
    )


def usable(status: Status, cns: frozenset[str], now: datetime) -> bool:
    """Returns whether status holds a certificate that covers these names and has not expired."""
    return (
        status.id is not None
        and not status.scope_vanished
        and cns <= status.names
        and status.expires_at is not None
        and now < status.expires_at
    )


def conditions(
    resource: Resource,
    status: Status,
    *,
    now: datetime,
    need: Need | None = None,
    problem: Problem | None = None,
    cns: frozenset[str] | None = None,
    generation: int | None = None,
) -> Status:
    """Returns status with Ready and Issuing.

    Ready follows from what status holds and the time. Issuing is True while a need is being met, False with the
    problem's reason while one prevents that, and False when there is nothing to do.

    Args:
        cns: the names that count, if not those of the newest spec.
        generation: the generation that they are of.
    """
    cns = resource.cns if cns is None else cns
    generation = resource.generation if generation is None else generation
    due = scheduled(resource, status)
    if problem is not None and problem.reason not in NO_ATTEMPT_FOLLOWS:
        coming = status.next_attempt_time
        problem = replace(
            problem, message=words.with_next(problem.message, coming if coming is not None and coming > now else None)
        )
    ready = _ready(resource, status, cns, due, now, problem, need)
    issuing: tuple[ConditionStatus, str, str]
    if problem is not None:
        issuing = "False", problem.reason, problem.message
    elif need is not None:
        issuing = "True", need.reason, need.message
    elif due is not None:
        until = "until the Secret changes; its owner renews it by" if resource.spec.uploads else "until the renewal at"
        issuing = "False", Reason.ISSUED, f"Nothing to do {until} {words.time(due.renewal_time)}."
    else:
        issuing = "False", ready[1], ready[2]
    status = status.changed(observed_generation=generation, renewal_time=due and whole_seconds(due.renewal_time))
    status = status.with_condition("Ready", *ready, generation=generation, now=now)
    return status.with_condition("Issuing", *issuing, generation=generation, now=now)


def _ready(
    resource: Resource,
    status: Status,
    cns: frozenset[str],
    due: Schedule | None,
    now: datetime,
    problem: Problem | None,
    need: Need | None,
) -> tuple[ConditionStatus, str, str]:
    if usable(status, cns, now):
        if resource.deleting and problem is not None:
            # Someone who looks now wants to know why it hangs.
            return "True", Reason.ISSUED, f"The resource is being deleted. {problem.message}"
        until = f"; it expires at {words.time(status.expires_at)}" if status.expires_at else ""
        note = f" {due.note}" if due and due.note else ""
        return "True", Reason.ISSUED, f"Certificate {status.id} covers {words.names(cns)}{until}.{note}"
    if status.scope_vanished and problem is not None:
        return "Unknown", problem.reason, problem.message
    reason, why_not = _why_not(status, cns)
    then = problem or need
    if then is None:
        return "False", reason, why_not or "No certificate has been issued yet."
    if then.reason == Reason.UNEXPECTED_ANSWER or why_not in then.message:
        return "False", then.reason, then.message  # it says the same
    return "False", then.reason, f"{why_not} {then.message}".strip()


def _why_not(status: Status, cns: frozenset[str]) -> tuple[str, str]:
    if status.id is None:
        return Reason.FIRST_ISSUE, ""
    if not status.cns:
        return Reason.UNEXPECTED_ANSWER, f"Vercel does not say which names certificate {status.id} covers."
    if missing := cns - status.names:
        return Reason.NAMES_CHANGED, f"Certificate {status.id} does not cover {words.names(missing)}."
    if status.expires_at is None:
        return Reason.UNEXPECTED_ANSWER, f"Vercel does not say when certificate {status.id} expires."
    return (
        Reason.EXPIRED,
        f"Certificate {status.id} for {words.names(status.names)} expired at {words.time(status.expires_at)}.",
    )
