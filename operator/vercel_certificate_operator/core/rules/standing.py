"""What stands still: a record that can't be trusted, a suspended resource, and a resource that needs nothing."""

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.durations import readable
from vercel_certificate_operator.core.facts import next_moment, reported
from vercel_certificate_operator.core.known import CheckSchema, Decision, Known, Wait
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.report import conditions, problem, succeeded
from vercel_certificate_operator.core.times import SCHEMA_CHECK


def record_must_be_readable(known: Known) -> Decision | None:
    """Without its record, the operator can't know what it may do: it issues and removes nothing."""
    status = known.resource.status
    if not status.unreadable:
        return None
    unreadable = problem(
        Reason.RECORD_UNREADABLE,
        wrong=f"The operator can't read these fields of status: {words.names(status.unreadable)}. Another version of "
        "the operator, or another writer, wrote them. The operator issues and removes nothing for "
        f"{words.names(known.resource.cns)}.",
        advice="Correct or remove these fields.",
        again="The operator continues when it can read them.",
    )
    # Written as it is, status would lose these fields: so the problem is reported by an Event alone.
    return Decision(Wait(), None, reported(known, unreadable, action="Read").note)


def record_must_be_stored(known: Known) -> Decision | None:
    """The API server dropped fields of the record: nothing is issued until it stores every field.

    That is asked before anything is done: what is done first might be what can't be recorded.
    """
    if known.resource.deleting:
        return None
    if known.schema_in_doubt:
        return Decision(CheckSchema())
    if not known.schema_outdated:
        return None
    outdated = problem(
        Reason.SCHEMA_OUTDATED,
        wrong="The installed CustomResourceDefinition is older than the operator: the API server dropped fields of the "
        f"operator's record. The operator issues no certificate for {words.names(known.resource.cns)}.",
        advice="Apply the CustomResourceDefinition of the operator's version (deploy/crds).",
        again=f"The operator tries again every {readable(SCHEMA_CHECK)}.",
    )
    return reported(known, outdated, action="Issue", until=known.now + SCHEMA_CHECK)


def scope_stays(known: Known) -> Decision | None:
    """Nothing is issued in another scope than that of the current certificate. That is reported at once."""
    status, moved = known.resource.status, known.scope
    if status.id is None or status.scope == moved:
        return None
    changed = problem(
        Reason.SCOPE_CHANGED,
        wrong=f"Certificate {status.id} for {words.names(status.names)} was issued in {status.scope}, but the "
        f"operator's default is now {moved}. The operator does not renew the certificate.",
        advice="Restore the operator's default (--team-id, --team-slug). To move the names to another team after that, "
        "create a resource with spec.team for that team, and delete this one when the new one is Ready.",
    )
    return reported(known, changed, action="Issue")


def suspended_changes_nothing(known: Known) -> Decision | None:
    """Suspended: the operator watches and reports, and changes nothing at Vercel."""
    if not known.resource.spec.suspend:
        return None
    status = known.resource.status.changed(next_attempt_time=None)
    suspended = problem(
        Reason.SUSPENDED,
        wrong=f"spec.suspend is true, so the operator changes nothing at Vercel for {words.names(known.resource.cns)}.",
        advice="To continue, set spec.suspend to false.",
    )
    after = conditions(known.resource, status, now=known.now, problem=suspended)
    return Decision(Wait(next_moment(known, after)), after)


def nothing_is_needed(known: Known) -> Decision:
    """Everything is as it should be, until the next moment."""
    after = conditions(known.resource, succeeded(known.resource.status), now=known.now)
    return Decision(Wait(next_moment(known, after)), after)
