"""What happens to a certificate that was replaced."""

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.facts import (
    adoption_pending,
    current_is_seen,
    is_fresh,
    is_removable,
    is_unreadable,
    may_be_renewed,
    perhaps_renewals,
    removal_time,
    unchanged,
    youth,
)
from vercel_certificate_operator.core.failures import explain, meaning
from vercel_certificate_operator.core.known import (
    AddFinalizer,
    Decision,
    Get,
    Known,
    List,
    Note,
    ReadToken,
    Remove,
    Write,
)
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import MOST_SUPERSEDED, Superseded
from vercel_certificate_operator.core.report import usable
from vercel_certificate_operator.core.times import DRIFT_LIST_AGE


def finalizer_is_restored(known: Known) -> Decision | None:
    """A resource that holds a certificate or an open attempt has our finalizer, even if someone stripped it."""
    resource = known.resource
    missing = resource.holds and not resource.has_finalizer and not resource.deleting
    return Decision(AddFinalizer()) if missing else None


def superseded_is_removed_in_time(known: Known) -> Decision | None:
    """A replaced certificate is removed 10 min (or a tenth of the lifetime) after it was replaced.

    Only the operator's own; others stay at Vercel, and an Event names them. While the current certificate can't be
    used, only what a younger certificate makes redundant is removed.

    That there is a current certificate is not only recorded: Vercel has shown it to this process. The record may be
    older than what it says, or someone may have removed the certificate while no operator ran.
    """
    resource, status = known.resource, known.resource.status
    if resource.spec.suspend:
        return None
    wanted = adoption_pending(known)  # the user may want this one back
    due = _due(known, wanted)
    if isinstance(due, Get):
        return Decision(due)
    if not due and len(status.superseded) >= MOST_SUPERSEDED:
        if known.listing is None and not known.blocked("list"):
            return Decision(List(known.tick - DRIFT_LIST_AGE, known.scope))
        due = _least_useful(known, wanted)
    own = [entry for entry in due if is_removable(known, entry.id, entry.origin)]
    for entry in own:
        if entry.id not in known.removed and not known.blocked("remove", entry.id):
            return Decision(Remove(entry.id, entry.scope))
        if known.just_failed == ("remove", entry.id):
            failure = known.failed[known.just_failed].failure
            what = f"Can't remove the replaced certificate {entry.id} at Vercel"
            row = meaning(failure, "remove")
            text = explain(what, failure, row, known.token)
            return Decision(Write(), None, Note.failed(Reason.REMOVAL_FAILED, "Remove", row.reason, text))
    kept = [entry.id for entry in due if entry not in own]
    done = {*kept, *(entry.id for entry in own if entry.id in known.removed)}
    if not done:
        return None
    missing = [entry.id for entry in own if known.removed.get(entry.id) is False]
    note = None
    if kept:
        text = (
            f"Left at Vercel: {words.ids(kept)}, which was replaced. The operator did not issue it, another resource "
            "uses it, or spec.deletionPolicy is Retain."
        )
        note = Note("Normal", Reason.RETAINED, "Remove", text)
    if missing:
        said = f"{note.text} " if note is not None else ""
        text = f"{said}Not found with {known.token}: {words.ids(missing)}, which was replaced."
        note = Note("Normal", Reason.DELETED if note is None else Reason.RETAINED, "Remove", text)
    return Decision(Write(), unchanged(known).without_superseded(done), note)


def renewals_of_what_was_removed_are_reported(known: Known) -> Decision | None:
    """Vercel may have renewed a replaced certificate before it was removed.

    If the resource has other names by now, nothing else would notice the renewal, which keeps itself alive.
    """
    status, wanted = known.resource.status, (known.resource.cns, known.resource.status.names)
    removed = [entry for entry in status.superseded if entry.id in known.removed and entry.names not in wanted]
    if not known.token_read and any(entry.team is None for entry in removed):
        return Decision(ReadToken())  # the list may be of another account
    removed = [entry for entry in removed if may_be_renewed(known, entry)]
    if not removed:
        return None
    ids = [entry.id for entry in removed]
    listing = known.listing
    oldest = max(DRIFT_LIST_AGE, 2 * listing.took) if listing is not None else 0.0
    if listing is None or not is_fresh(known, listing) or known.tick - listing.begun > oldest:
        if not known.blocked("list"):
            return Decision(List(known.tick, known.scope))
        return _reported(
            known,
            ids,
            f"Removed at Vercel: {words.ids(ids)}, which was replaced. Vercel may have renewed it under another id. "
            "The operator could not list the certificates to check that.",
        )
    found = perhaps_renewals(known, *removed)
    if not found:
        return None
    text = (
        f"Left at Vercel: {words.ids([one.id for one in found])}. It has the names of {words.ids(ids)}, which was "
        "replaced and no longer exists, and may be a renewal by Vercel. If no other resource uses it, remove it at "
        "Vercel."
    )
    return _reported(known, ids, text)


def _reported(known: Known, removed: list[str], text: str) -> Decision:
    note = Note("Warning", Reason.ORPHANED, "Remove", text)
    return Decision(Write(), unchanged(known).without_superseded(set(removed)), note)


def _due(known: Known, wanted: str | None) -> list[Superseded] | Get:
    """Returns what is to be removed now; a GET, if Vercel must first show the current certificate."""
    status = known.resource.status
    every = usable(status, known.resource.cns, known.now)
    due = [
        entry
        for entry in status.superseded
        if known.now >= removal_time(status, entry.since)
        and entry.id != wanted
        and (every or _is_redundant(known, entry.id))
    ]
    if not due or not every or status.id is None or current_is_seen(known):
        return due
    if status.id not in known.got and not known.blocked("get", status.id):
        return Get(status.id, status.scope)
    # Otherwise the rules for what is gone decide, or the GET is made again.
    return due if is_unreadable(known, status.id) else []


def _least_useful(known: Known, wanted: str | None) -> list[Superseded]:
    """Returns the oldest that can be removed and that serves none of the wanted names: nothing is issued without room.

    A certificate serves a name if it has not expired, and of those of this resource that have the name it is the
    youngest.
    """
    resource, status, listing = known.resource, known.resource.status, known.listing
    if listing is None:
        return []
    mine = [one for one in map(listing.find, status.certificate_ids) if one is not None]
    alive = [one for one in mine if one.expires_at is not None and one.expires_at > known.now]
    serving = {
        max(having, key=youth).id for name in resource.cns if (having := [one for one in alive if name in one.cns])
    }
    return [
        entry
        for entry in sorted(status.superseded, key=lambda entry: entry.since)
        if known.now >= removal_time(status, entry.since)
        and entry.id not in serving
        and entry.id != wanted
        and (not known.blocked("remove", entry.id) or known.just_failed == ("remove", entry.id))
    ][:1]


def _is_redundant(known: Known, certificate_id: str) -> bool:
    """Returns whether the list has a younger certificate of this resource with the same names, or more."""
    listing, status = known.listing, known.resource.status
    old = listing.find(certificate_id) if listing is not None else None
    if listing is None or old is None:
        return False
    others = (listing.find(other) for other in status.certificate_ids if other not in known.removed)
    return any(
        other is not None
        and youth(other) > youth(old)
        and old.cns <= other.cns
        and other.expires_at is not None
        and other.expires_at > known.now
        for other in others
    )
