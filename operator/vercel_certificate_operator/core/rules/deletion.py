"""What happens to the certificates of a resource that is being deleted, or has gone."""

from collections.abc import Container, Sequence

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.core.facts import (
    is_removable,
    may_be_renewed,
    open_attempt,
    open_reply,
    perhaps_renewals,
)
from vercel_certificate_operator.core.failures import Fate, meaning
from vercel_certificate_operator.core.known import (
    Decision,
    Known,
    List,
    Note,
    ReadToken,
    Remove,
    RemoveFinalizer,
    Reply,
    Wait,
    Write,
)
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Origin
from vercel_certificate_operator.core.report import Problem, conditions
from vercel_certificate_operator.core.resource import FINALIZER, Spec, Status
from vercel_certificate_operator.core.rules.attempts import origin_of_answer
from vercel_certificate_operator.core.times import LEAST_LIST_AGE, TOKEN_MISSING_LIMIT


def deletion_without_finalizer_is_left_alone(known: Known) -> Decision | None:
    """Being deleted without our finalizer: someone else's finalizer holds it. It is treated as gone."""
    resource = known.resource
    if not resource.released:
        return None
    if known.reply is None:
        return Decision(Wait())
    late = late_answer(resource.spec, known.reply, known.held_elsewhere)
    if isinstance(late, Remove):
        if late.certificate_id not in known.removed:
            return Decision(late)
        late = removed_late_note(late.certificate_id)
    return Decision(Write(), None, late)


def retained_is_released(known: Known) -> Decision | None:
    """Deleted with Retain or while suspended: nothing changes at Vercel, and an Event names what stays."""
    resource = known.resource
    if not resource.deleting or not (resource.spec.suspend or resource.spec.retains):
        return None
    why = "spec.suspend is true" if resource.spec.suspend else "spec.deletionPolicy is Retain"
    note = Note("Normal", Reason.RETAINED, "Delete", f"{_left_behind(known)} Reason: {why}.")
    return Decision(RemoveFinalizer(), note=note)


def resource_without_token_is_released(known: Known) -> Decision | None:
    """Deleted, and its token has been missing for an hour: released with a warning, so that no namespace hangs."""
    if not known.resource.deleting:
        return None
    for failed in known.failed.values():
        if failed.failure.fate is Fate.NO_TOKEN and known.tick - failed.since >= TOKEN_MISSING_LIMIT:
            text = f"{_left_behind(known)} Reason: there is no token to remove it with ({failed.failure.message})."
            cause = meaning(failed.failure).reason
            return Decision(RemoveFinalizer(), note=Note.failed(Reason.DELETION_FAILED, "Delete", cause, text))
    return None


def certificates_are_removed_then_released(known: Known) -> Decision | None:
    """Deleted: what the origins allow is removed at Vercel, then the finalizer."""
    resource, status = known.resource, known.resource.status
    if not resource.deleting:
        return None
    current = [(status.id, status.origin, status.scope)] if status.id is not None else []
    entries = [*current, *((entry.id, entry.origin, entry.scope) for entry in status.superseded)]
    own = [entry for entry in entries if is_removable(known, entry[0], entry[1])]
    left = [Remove(certificate_id, scope) for certificate_id, _, scope in own if certificate_id not in known.removed]
    if left:
        # One that fails doesn't hold up the others.
        return Decision(
            next((remove for remove in left if not known.blocked("remove", remove.certificate_id)), left[0])
        )
    if known.removed and not known.token_read and status.team is None:
        return Decision(ReadToken())  # the list may be of another account
    # After the removals, which no list may hold up.
    if _vercel_may_have_renewed(known) and not _is_listed(known) and not known.blocked("list"):
        return Decision(List(known.tick if known.removed_at is None else known.removed_at, known.scope))
    kept = [entry[0] for entry in entries if entry not in own]
    text = _what_was_removed(known, kept)
    last = _last_status(known, text)
    if last is not None:
        return Decision(Write(), last)
    return Decision(
        RemoveFinalizer(), note=Note("Warning" if _renewals(known) else "Normal", Reason.DELETED, "Delete", text)
    )


def _vercel_may_have_renewed(known: Known) -> bool:
    """Returns whether Vercel may have renewed a certificate of this resource under an id that is in no status yet."""
    status = known.resource.status
    return may_be_renewed(known, status) or any(may_be_renewed(known, entry) for entry in status.superseded)


def _is_listed(known: Known) -> bool:
    """Returns whether a list was begun after the last removal; or a moment ago, if nothing was to be removed."""
    listing = known.listing
    if listing is None:
        return False
    if known.removed_at is not None:
        return listing.begun >= known.removed_at
    return known.tick - listing.begun <= max(LEAST_LIST_AGE, 2 * listing.took)


def _renewals(known: Known) -> Sequence[Certificate]:
    """Returns the certificates by which Vercel may have renewed those of this resource, and which stay at Vercel.

    Someone may have requested them to replace the resource that is being deleted: nothing has recorded whose they are.
    """
    return perhaps_renewals(known, known.resource.status, *known.resource.status.superseded)


def _last_status(known: Known, text: str) -> Status | None:
    """Returns what status has to say while someone else's finalizer holds the resource; None: nobody's does."""
    others = [finalizer for finalizer in known.resource.finalizers if finalizer != FINALIZER]
    status = known.resource.status
    if not others or status.id not in known.removed:
        return None
    status = status.without_certificate().without_superseded(set(known.removed))
    held = words.printable(", ".join(others), 200)
    waits = Problem(Reason.DELETED, f"{text} The resource remains until its other finalizers are removed: {held}.")
    return conditions(known.resource, status, now=known.now, problem=waits)


def _what_was_removed(known: Known, kept: list[str]) -> str:
    removed = [certificate_id for certificate_id, there in known.removed.items() if there]
    missing = [certificate_id for certificate_id, there in known.removed.items() if not there]
    parts = [f"Removed at Vercel: {words.ids(removed)}."] if removed else []
    if missing:
        parts.append(f"Not found with {known.token}: {words.ids(missing)}.")
    if kept:
        parts.append(
            f"Left at Vercel: {words.ids(kept)}, since the operator did not issue it or another resource uses it."
        )
    if renewals := [renewal.id for renewal in _renewals(known)]:
        parts.append(
            f"Left at Vercel: {words.ids(renewals)}, which has the same names and may be a renewal by Vercel. If no "
            "other resource uses it, remove it at Vercel."
        )
    elif _vercel_may_have_renewed(known) and not _is_listed(known):
        parts.append(
            "Vercel may have renewed the certificate under another id; the operator could not list the certificates to "
            "check that."
        )
    return " ".join(parts) or "There was no certificate to remove at Vercel."


def _left_behind(known: Known) -> str:
    status, reply = known.resource.status, open_reply(known)
    answer = reply.certificate.id if reply and reply.certificate else None
    every = dict.fromkeys([*status.certificate_ids, *([answer] if answer else [])])
    left = [certificate_id for certificate_id in every if certificate_id not in known.removed]
    text = f"Left at Vercel: {words.ids(left)}." if left else ""
    attempt = open_attempt(known)
    if attempt is not None and answer is None:
        text += f" A certificate for {words.names(attempt.names)} was being requested: check Vercel for it."
    return text.strip() or "There is no certificate at Vercel."


def late_answer(spec: Spec, reply: Reply, held_elsewhere: Container[str]) -> Remove | Note | None:
    """Returns what happens to the answer to a POST whose resource is gone.

    Args:
        spec: the newest spec that was seen.
        held_elsewhere: ids of certificates in other resources' statuses.

    Returns:
        A removal; or an Event that names what stays; or None if nothing was issued.
    """
    certificate = reply.certificate
    if certificate is None:
        if reply.failure is None or reply.failure.fate is not Fate.UNKNOWN:
            return None
        return _late_note(f"It is not known whether Vercel issued one for {words.names(reply.attempt.names)}.")
    if certificate.id in held_elsewhere:
        return None
    origin = origin_of_answer(reply.attempt, certificate, held_elsewhere, listed=reply.listed, period=reply.period)
    if spec.retains or spec.suspend or origin is Origin.FOUND:
        return _late_note(f"Certificate {certificate.id} is left at Vercel.")
    return Remove(certificate.id, reply.attempt.scope)


def _late_note(what: str) -> Note:
    text = f"The resource was deleted while a certificate was being issued for it. {what}"
    return Note("Warning", Reason.ORPHANED, "Delete", text)


def removal_failed_note(certificate_id: str, why: str) -> Note:
    """Returns the Event for a late answer that could not be removed yet."""
    return _late_note(f"Certificate {certificate_id} could not be removed yet: {why}. The operator tries again.")


def removed_late_note(certificate_id: str) -> Note:
    """Returns the Event for a late answer that was removed."""
    text = f"Removed at Vercel: {certificate_id}, which was issued after the resource was gone."
    return Note("Normal", Reason.DELETED, "Delete", text)
