"""What a list and a GET show about the current certificate: gone, changed, renewed by Vercel, out of sight."""

from dataclasses import replace

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.core.durations import readable
from vercel_certificate_operator.core.facts import (
    current_certificate,
    foreign,
    is_gone,
    kept_waiting,
    not_here,
    renew_pending,
    reported,
    unchanged,
    vercels_renewal,
    waiting_until,
)
from vercel_certificate_operator.core.known import Decision, Get, Known, List, Note, ReadToken, Write
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Origin, is_from, is_same_token
from vercel_certificate_operator.core.report import Need, conditions, held, problem, succeeded
from vercel_certificate_operator.core.resource import ADOPT_ANNOTATION, RENEW_ANNOTATION, Status
from vercel_certificate_operator.core.schema import whole_seconds
from vercel_certificate_operator.core.times import DRIFT_LIST_AGE, VANISHED_CHECK


def changed_token_is_checked(known: Known) -> Decision | None:
    """A token that isn't the one with which the certificate was last seen belongs to the same account, or it doesn't.

    It does if its list contains the certificate. In a team, the team decides and not the token. The user confirms
    another account with a new value of the renew annotation.
    """
    resource, status = known.resource, known.resource.status
    if status.id is None or status.token_hash is None or status.team is not None or known.scope != status.scope:
        return None
    issuing = status.condition("Issuing")
    suspected = issuing is not None and issuing.reason == Reason.SCOPE_CHANGED
    moved = resource.generation != status.observed_generation or not is_from(status.token_hash, resource.token_place)
    if not known.token_read and (suspected or moved):
        return Decision(ReadToken())
    if known.token_hash is None or known.token_hash == status.token_hash:
        return None
    same = is_same_token(known.token_hash, status.token_hash)  # it is only in another place
    if not same:
        if known.listing is None:
            return Decision(List(known.tick - DRIFT_LIST_AGE, known.scope))
        same = known.listing.find(status.id) is not None
    if same:
        return Decision(Write(), unchanged(known).changed(token_hash=known.token_hash))
    if renew_pending(known) and suspected:
        after = status.superseding(since=known.now).without_certificate()
        need = Need(
            Reason.CERTIFICATE_GONE,
            f"Certificate {status.id} for {words.names(status.names)} belongs to another account.",
        )
        return Decision(Write(), conditions(resource, after, now=known.now, need=need))
    changed = problem(
        Reason.SCOPE_CHANGED,
        wrong=f"Vercel does not list certificate {status.id} for {words.names(status.names)} with {known.token}, "
        "which was replaced and may belong to another account. The operator does not renew the certificate.",
        advice=f"Restore the token. Or name a certificate of this account with the annotation {ADOPT_ANNOTATION}. Or "
        f"set the annotation {RENEW_ANNOTATION} to a new value to issue another certificate in this account.",
        again=f"The operator lists again every {readable(VANISHED_CHECK)}.",
    )
    answered = resource.renew_request or status.last_renew_request  # only a newer request confirms
    after = status if suspected else status.changed(last_renew_request=answered)
    return reported(known, changed, action="List", until=known.now + VANISHED_CHECK, status=after)


def vanished_scope_is_reported(known: Known) -> Decision | None:
    """So many certificates of the scope are missing that a wrong token is more likely. Nothing is issued.

    The user confirms that they are gone with a renewal request that is newer than the report.
    """
    resource, status, listing = known.resource, known.resource.status, known.listing
    if status.id is None:
        return None
    if status.scope_vanished and renew_pending(known):
        need = Need(
            Reason.CERTIFICATE_GONE,
            f"Certificate {status.id} for {words.names(status.names)} is gone, as the renew annotation confirms.",
        )
        after = conditions(resource, status.without_certificate(), now=known.now, need=need)
        return Decision(Write(), after, Note("Warning", Reason.CERTIFICATE_GONE, "List", need.message))
    if listing is None:
        if not status.scope_vanished:
            return None
        until = status.next_attempt_time
        if until is not None and known.now < until <= known.now + VANISHED_CHECK:
            return kept_waiting(known, until)
        return Decision(List(known.tick - DRIFT_LIST_AGE, status.scope))
    if listing.find(status.id) is not None:
        if not status.scope_vanished:
            return None
        return Decision(Write(), conditions(resource, status.changed(scope_vanished=False), now=known.now))
    if not listing.scope_vanished and not status.scope_vanished:
        return None  # once reported, it stays so until the certificate is found or the user confirms
    vanished = problem(
        Reason.SCOPE_VANISHED,
        wrong=f"Certificate {status.id} for {words.names(status.names)} and many others in {status.scope} are missing "
        f"from Vercel's list with {known.token}. The operator issues nothing until the cause is clear.",
        advice="Check that this is the right token. If the certificate is really gone, confirm it: set the annotation "
        f"{RENEW_ANNOTATION} to a new value, and the operator issues another one.",
        again=f"The operator lists again every {readable(VANISHED_CHECK)}.",
    )
    again = known.now + VANISHED_CHECK
    answered = resource.renew_request or status.last_renew_request  # only a newer request confirms
    after = status.changed(scope_vanished=True, next_attempt_time=whole_seconds(again), last_renew_request=answered)
    return reported(known, vanished, action="List", until=again, status=after)


def confirmed_absence_is_recorded(known: Known) -> Decision | None:
    """A 404 that a later list confirms: the certificate is gone, and status no longer holds it."""
    resource, status, listing = known.resource, known.resource.status, known.listing
    got = known.got.get(status.id or "")
    if status.id is None or got is None or got.certificate is not None:
        return None
    if listing is None or listing.begun < got.at:
        # If lists can't be had, the absence stays unconfirmed; the rules after this one go on without it.
        return None if known.blocked("list") else Decision(List(got.at, status.scope))
    if not is_gone(known):
        return None
    renewal = vercels_renewal(known)
    if renewal is not None and not not_here(known, renewal.id):
        return _renewal(known, renewal)
    message = f"Certificate {status.id} for {words.names(status.names)} no longer exists at Vercel."
    if not resource.spec.suspend:
        message += " The operator issues another one."
    need = Need(Reason.CERTIFICATE_GONE, message)
    after = conditions(resource, status.without_certificate(), now=known.now, need=need)
    return Decision(Write(), after, Note("Warning", Reason.CERTIFICATE_GONE, "List", message))


def drift_is_detected(known: Known) -> Decision | None:
    """What the list shows about the current certificate: missing, changed, renewed by Vercel, or not alone."""
    status, listing = known.resource.status, known.listing
    if status.id is None or listing is None or status.scope_vanished:
        return None
    current = current_certificate(known)
    if _is_doubtful(known, current) and status.id not in known.got and not known.blocked("get", status.id):
        return Decision(Get(status.id, status.scope))  # a list alone isn't believed
    if current is None:
        return None
    renewal = vercels_renewal(known)
    if renewal is not None and not not_here(known, renewal.id) and not known.blocked("get", renewal.id):
        return _renewal(known, renewal)  # while its GET has to wait, the current one counts
    changed = change_is_recorded(known, current)
    if changed is not None:
        return changed
    if not status.shared_names and renewal is None and foreign(known, listing, status.names):
        return Decision(Write(), unchanged(known).changed(shared_names=True))
    return None


def shared_names_are_recorded(known: Known) -> Decision | None:
    """Another resource holds a certificate with the same names: when it is gone, its certificate isn't a renewal."""
    status = known.resource.status
    if status.id is None or status.shared_names or not known.ownership.shared:
        return None
    return Decision(Write(), unchanged(known).changed(shared_names=True))


def _is_doubtful(known: Known, listed: Certificate | None) -> bool:
    """Returns whether a list may be wrong: it lacks the certificate, or says other names or an earlier expiry."""
    status = known.resource.status
    if listed is None:
        return True
    if listed.cns and listed.cns != status.names:
        return True
    if listed.expires_at is None or status.expires_at is None:
        return False
    return whole_seconds(listed.expires_at) < status.expires_at


def _renewal(known: Known, renewal: Certificate) -> Decision:
    """Takes a renewal under another id once its own GET confirms it."""
    got = known.got.get(renewal.id)
    if got is None or got.certificate is None:
        return Decision(Get(renewal.id, known.resource.status.scope))
    return _renewed_by_vercel(known, got.certificate)


def change_is_recorded(known: Known, current: Certificate) -> Decision | None:
    """The current certificate isn't what status says: then status is updated."""
    resource, status = known.resource, known.resource.status
    if current.expires_at is None or not current.cns:
        return None
    if status.expires_at is not None and whole_seconds(current.expires_at) > status.expires_at:
        return _renewed_by_vercel(known, current)
    after = _held(known, current)
    if (after.cns, after.expires_at, after.auto_renew) == (status.cns, status.expires_at, status.auto_renew):
        return None
    text = (
        f"Certificate {current.id} has changed at Vercel: it is now for {words.names(current.cns)} and expires "
        f"{words.time(current.expires_at)}."
    )
    after = conditions(resource, after, now=known.now, need=_need_of_other_names(known, current, text))
    return Decision(Write(), after, Note("Warning", Reason.CHANGED, "List", text))


def _held(known: Known, certificate: Certificate) -> Status:
    """Returns status with a certificate that inherits everything from the current one."""
    status = known.resource.status
    requested = frozenset(status.requested_cns) or status.names
    if certificate.created_at is None and certificate.id == status.id:
        certificate = replace(certificate, created_at=status.created_at)
    return held(
        known.resource,
        status,
        certificate,
        scope=status.scope,
        origin=status.origin or Origin.FOUND,
        now=known.now,
        requested=requested,
        token_hash=status.token_hash,
    )


def _renewed_by_vercel(known: Known, certificate: Certificate) -> Decision:
    resource, status = known.resource, known.resource.status
    after = _held(known, certificate)
    expires = words.time(certificate.expires_at) if certificate.expires_at else "at an unknown time"
    text = f"Vercel renewed certificate {status.id}: {certificate.id} expires {expires}."
    if waiting_until(known) is None:
        after = succeeded(after)
    after = conditions(resource, after, now=known.now, need=_need_of_other_names(known, certificate, text))
    return Decision(Write(), after, Note("Normal", Reason.RENEWED, "Renew", text))


def _need_of_other_names(known: Known, certificate: Certificate, text: str) -> Need | None:
    """Returns the need to issue another certificate if these are no longer the wanted names."""
    return None if known.resource.cns <= certificate.cns else Need(Reason.NAMES_CHANGED, text)
