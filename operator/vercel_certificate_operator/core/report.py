"""What status says: the two conditions, always written together."""

from dataclasses import dataclass, replace
from datetime import datetime

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.attempt import Attempt
from vercel_certificate_operator.core.certificate import Certificate, Scope, normalized
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.renewal import Schedule, schedule
from vercel_certificate_operator.core.resource import Resource, Status, whole_seconds

NO_ATTEMPT_FOLLOWS = frozenset({Reason.UNEXPECTED_ANSWER, Reason.SCOPE_VANISHED, Reason.ADOPTION_REFUSED})
"""Problems that only the user can end: what comes at nextAttemptTime is another look."""


@dataclass(frozen=True, slots=True)
class Need:
    """Why a certificate has to be issued."""

    reason: str
    message: str
    look_first: bool = False
    """Whether Vercel may have seen to it already, so that it is looked at before anything is asked of it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something that is needed does not happen."""

    reason: str
    message: str


def scheduled(resource: Resource, status: Status) -> Schedule | None:
    """When the certificate that status holds is due; None where it holds none, or not when that expires."""
    if status.id is None or status.expires_at is None:
        return None
    return schedule(
        uid=resource.key.uid,
        created_at=status.created_at,
        expires_at=status.expires_at,
        renew_before=resource.spec.renew_before,
        issued_at=status.created_at or resource.created_at,
    )


def held(resource: Resource, status: Status, certificate: Certificate, scope: Scope, *, asked_at: datetime) -> Status:
    """Status with this certificate as the current one; the one before it, if another, is superseded."""
    superseded = status.superseded_ids
    if status.id is not None and status.id != certificate.id and status.id not in superseded:
        superseded = (*superseded, status.id)
    new = status.holding(certificate, scope)
    if new.created_at is None:
        # Lifetimes are reckoned from it, so that something has to stand there.
        new = new.changed(created_at=whole_seconds(asked_at))
    due = scheduled(resource, new)
    return new.changed(
        superseded_ids=tuple(superseded_id for superseded_id in superseded if superseded_id != certificate.id),
        renewal_time=due and whole_seconds(due.renewal_time),
    )


def resolved(status: Status, attempt: Attempt) -> Status:
    """Status in which this attempt has come to its end."""
    return status.changed(attempt=attempt.id, observed_generation=attempt.generation)


def succeeded(status: Status) -> Status:
    """Status without any trace of failure."""
    return status.changed(failed_attempts=0, last_failure_time=None, next_attempt_time=None)


def usable(status: Status, cns: frozenset[str], now: datetime) -> bool:
    """Whether status holds a certificate that covers these names and has not expired."""
    return (
        status.id is not None
        and cns <= normalized(status.cns)
        and status.expires_at is not None
        and now < status.expires_at
    )


def conditions(
    resource: Resource,
    status: Status,
    *,
    now: datetime,
    cns: frozenset[str] | None = None,
    generation: int | None = None,
    need: Need | None = None,
    problem: Problem | None = None,
) -> Status:
    """Status with Ready and Issuing.

    Ready follows from what status holds and the time. Issuing is True while a need is being met, False with the
    problem's reason while one stands in the way, and False when there is nothing to do.

    Args:
        cns: the names that count, where they aren't those of the newest spec (an attempt's own).
        generation: the generation that they are of.
    """
    cns = resource.cns if cns is None else cns
    generation = resource.generation if generation is None else generation
    due = scheduled(resource, status)
    if problem is not None and problem.reason not in NO_ATTEMPT_FOLLOWS:
        coming = status.next_attempt_time
        coming = coming if coming is not None and coming > now else None
        problem = replace(problem, message=words.with_next(problem.message, coming))
    if usable(status, cns, now):
        ready = _ready(resource, status, cns, due, problem)
    else:
        ready = _not_ready(status, cns, problem or need)
    issuing: tuple[bool, str, str]
    if problem is not None:
        issuing = (False, problem.reason, problem.message)
    elif need is not None:
        issuing = (True, need.reason, need.message)
    elif due is not None:
        issuing = (False, Reason.ISSUED, f"Nothing to do until the renewal at {words.time(due.renewal_time)}.")
    else:
        issuing = (False, ready[1], ready[2])

    renewal_time = due and whole_seconds(due.renewal_time)
    status = status.changed(observed_generation=generation, renewal_time=renewal_time)
    status = status.with_condition("Ready", *ready, generation=generation, now=now)
    return status.with_condition("Issuing", *issuing, generation=generation, now=now)


def _ready(
    resource: Resource, status: Status, cns: frozenset[str], due: Schedule | None, problem: Problem | None
) -> tuple[bool, str, str]:
    if resource.deleting and problem is not None:
        # What hangs is what somebody who looks now wants to know of.
        return True, Reason.ISSUED, f"The resource is being deleted. {problem.message}"
    until = f" until {words.time(status.expires_at)}" if status.expires_at else ""
    note = f" {due.note}" if due and due.note else ""
    return True, Reason.ISSUED, f"Certificate {status.id} covers {words.names(cns)}{until}.{note}"


def _not_ready(status: Status, cns: frozenset[str], then: Problem | Need | None) -> tuple[bool, str, str]:
    reason, why_not = _why_not(status, cns)
    if then is None:
        return False, reason, why_not or "No certificate has been issued yet."
    if then.reason == Reason.UNEXPECTED_ANSWER or why_not in then.message:
        return False, then.reason, then.message  # it says the same
    return False, then.reason, f"{why_not} {then.message}".strip()


def _why_not(status: Status, cns: frozenset[str]) -> tuple[str, str]:
    if status.id is None:
        return Reason.FIRST_ISSUE, ""
    if not status.cns:
        return Reason.UNEXPECTED_ANSWER, f"Vercel does not say which names {status.id} covers."
    if missing := cns - normalized(status.cns):
        return Reason.NAMES_CHANGED, f"Certificate {status.id} does not cover {words.names(missing)}."
    if status.expires_at is None:
        return Reason.UNEXPECTED_ANSWER, f"Vercel does not say when certificate {status.id} expires."
    return Reason.EXPIRED, f"Certificate {status.id} expired at {words.time(status.expires_at)}."
