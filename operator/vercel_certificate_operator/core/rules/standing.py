"""What stands still: a record that can't be trusted, a suspended resource, and a resource that needs nothing."""

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.facts import next_moment, reported
from vercel_certificate_operator.core.known import Decision, Known, Wait
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.report import Problem, conditions, succeeded
from vercel_certificate_operator.core.times import SCHEMA_CHECK


def record_must_be_readable(known: Known) -> Decision | None:
    """Without its record, the operator can't know what it may do: it issues and removes nothing."""
    status = known.resource.status
    if not status.unreadable:
        return None
    problem = Problem(
        Reason.RECORD_UNREADABLE,
        f"The operator can't read these fields of status: {words.names(status.unreadable)}. It issues and removes "
        "nothing. Another version of the operator, or another writer, wrote them: correct or remove them.",
    )
    # Written as it is, status would lose these fields: so the problem is reported by an Event alone.
    return Decision(Wait(), None, reported(known, problem, action="Read").note)


def record_must_be_stored(known: Known) -> Decision | None:
    """The API server dropped fields of the record: nothing is issued until the definition is updated."""
    if not known.schema_outdated or known.resource.deleting:
        return None
    problem = Problem(
        Reason.SCHEMA_OUTDATED,
        "The installed CustomResourceDefinition is older than the operator: the API server dropped fields of the "
        "operator's record. The operator issues nothing. Apply the definition of this version (deploy/crds).",
    )
    return reported(known, problem, action="Issue", until=known.now + SCHEMA_CHECK)


def suspended_changes_nothing(known: Known) -> Decision | None:
    """Suspended: the operator watches and reports, and changes nothing at Vercel."""
    if not known.resource.spec.suspend:
        return None
    status = known.resource.status.changed(next_attempt_time=None)
    problem = Problem(Reason.SUSPENDED, "spec.suspend is true: the operator changes nothing at Vercel.")
    after = conditions(known.resource, status, now=known.now, problem=problem)
    return Decision(Wait(next_moment(known, after)), after)


def nothing_is_needed(known: Known) -> Decision:
    """Everything is as it should be, until the next moment."""
    after = conditions(known.resource, succeeded(known.resource.status), now=known.now)
    return Decision(Wait(next_moment(known, after)), after)
