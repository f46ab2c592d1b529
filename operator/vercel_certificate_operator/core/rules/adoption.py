"""Certificates that the operator didn't issue: adopted on request, or used instead of issuing another one."""

from datetime import datetime, timedelta

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.certificate import LONGEST_ID, Certificate, is_id
from vercel_certificate_operator.core.facts import adoption_pending, is_unreadable, not_here, renew_pending
from vercel_certificate_operator.core.known import Decision, Get, Known, List, Note, Write
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Origin
from vercel_certificate_operator.core.renewal import schedule
from vercel_certificate_operator.core.report import Need, conditions, held, succeeded
from vercel_certificate_operator.core.resource import ADOPT_ANNOTATION, Status

CHOOSE = "Choose another certificate."


def named_certificate_is_adopted(known: Known) -> Decision | None:
    """The adopt-id annotation names an existing certificate. Each value is acted on once.

    It is adopted if it covers spec.cns, has not expired and no other resource has it. Otherwise that is reported, and
    the resource proceeds without it.
    """
    resource, wanted = known.resource, adoption_pending(known)
    if wanted is None or resource.spec.suspend:
        return None
    if not known.may_adopt:
        return _refused(
            known,
            "--default-token-namespace does not list this namespace by its name",
            "Set spec.tokenSecretRef, or ask the operator's administrator.",
        )
    if not is_id(wanted):
        return _refused(known, f"an id has only letters, digits, - and _, at most {LONGEST_ID}", "Check the id.")
    got = known.got.get(wanted)
    if got is None:
        return _read(known, wanted)
    certificate = got.certificate
    if certificate is None:
        if known.listing is None or known.listing.begun < got.at:
            return Decision(List(got.at, known.scope)) if not known.blocked("list") else None
        if known.listing.find(wanted) is not None:
            return None  # the 404 was wrong; the next round tries again
        return _refused(
            known, f"Vercel has no such certificate in {known.scope} with {known.token}", "Check the id and the token."
        )
    if wanted in known.held_elsewhere:  # only who can read it learns that
        return _refused(known, "another resource manages it", CHOOSE)
    if not certificate.covers(resource.cns):
        missing = words.names(resource.cns - certificate.cns)
        return _refused(known, f"it does not cover {missing}", "Choose another certificate, or change spec.cns.")
    if certificate.expires_at is None:
        return _refused(known, "Vercel does not say when it expires", CHOOSE)
    if certificate.expires_at <= known.now:
        return _refused(known, f"it expired at {words.time(certificate.expires_at)}", CHOOSE)
    after = _taken(known, certificate, Origin.ADOPTED).changed(last_adopt_request=wanted)
    text = f"Adopted certificate {certificate.id} for {words.names(certificate.cns)}."
    return Decision(Write(), conditions(resource, after, now=known.now), Note("Normal", Reason.ADOPTED, "Adopt", text))


def _read(known: Known, wanted: str) -> Decision | None:
    """Gets the named certificate. If that fails, a resource that holds a certificate goes on meanwhile."""
    if is_unreadable(known, wanted):
        said = words.printable(known.failed["get", wanted].failure.message).rstrip(".")
        return _refused(known, f"it can't be read with {known.token}: {said}", "Check the id and the token.")
    if known.resource.status.id is not None and known.blocked("get", wanted):
        return None
    return Decision(Get(wanted, known.scope))


def _refused(known: Known, why: str, advice: str) -> Decision:
    wanted = words.ids([known.resource.adopt_request or ""])
    text = (
        f"Certificate {wanted}, which the annotation {ADOPT_ANNOTATION} names, was not adopted for "
        f"{words.names(known.resource.cns)}: {why}. {advice} The operator does not try this id again until the "
        "annotation has had another value, such as none."
    )
    after = known.resource.status.changed(last_adopt_request=known.resource.adopt_request)
    return Decision(Write(), after, Note("Warning", Reason.ADOPTION_REFUSED, "Adopt", text))


def existing_certificate_is_used(known: Known, need: Need) -> Decision | None:
    """A certificate with exactly the wanted names is used instead of issuing another one, unless that was requested.

    One of the resource's own that was replaced becomes current again, unless it was uploaded. One that is in no status
    is Found: the operator never removes it. It must not be due for renewal for at least a tenth of its lifetime. Of
    several, the one that expires last is used.
    """
    listing, status = known.listing, known.resource.status
    if known.resource.spec.uploads:
        return None  # only the certificate in the Secret will do
    if listing is None or need.reason == Reason.RENEW_REQUESTED or renew_pending(known):
        return None
    if known.resource.cns in known.attempted_elsewhere:
        return None
    own = {entry.id: entry for entry in status.superseded if entry.scope == known.scope}
    uploaded = {entry.id for entry in status.superseded if entry.fingerprint is not None}
    ignore = known.resource.spec.existing_certificate == "Ignore"
    found = [
        certificate
        for certificate in listing.exactly(known.resource.cns)
        if certificate.id != status.id
        and certificate.id not in uploaded
        and (certificate.id in own or not ignore)
        and certificate.id not in known.held_elsewhere
        and certificate.id not in known.removed
        and _lasts(known, certificate)
        and not not_here(known, certificate.id)
    ]
    best = max(
        found, key=lambda certificate: (certificate.id in own, _expiry(certificate), certificate.id), default=None
    )
    if best is None:
        return None
    got = known.got.get(best.id)
    if got is None:
        return Decision(Get(best.id, known.scope))  # a list is a hint
    certificate = got.certificate
    if certificate is None or certificate.cns != known.resource.cns or not _lasts(known, certificate):
        return None
    return _used(known, certificate, own[best.id].origin if best.id in own else None)


def _used(known: Known, certificate: Certificate, own_origin: str | None) -> Decision:
    resource = known.resource
    adopts = resource.spec.existing_certificate == "Adopt" and known.may_adopt
    origin = own_origin or str(Origin.ADOPTED if adopts else Origin.FOUND)
    after = _taken(known, certificate, origin)
    if own_origin is None and origin == Origin.FOUND:
        after = after.changed(shared_names=True)  # someone else renews it
    how = "" if origin != Origin.FOUND else " The operator did not issue it and will not remove it."
    expires = words.time(certificate.expires_at) if certificate.expires_at else "at an unknown time"
    text = (
        f"Using the existing certificate {certificate.id} for {words.names(certificate.cns)}; expires {expires}.{how}"
    )
    reason = Reason.ADOPTED if origin == Origin.ADOPTED and own_origin is None else Reason.REUSED
    return Decision(Write(), conditions(resource, after, now=known.now), Note("Normal", reason, "Reuse", text))


def _lasts(known: Known, certificate: Certificate) -> bool:
    if certificate.expires_at is None or certificate.created_at is None:
        return False
    resource = known.resource
    due = schedule(
        uid=resource.key.uid,
        created_at=certificate.created_at,
        expires_at=certificate.expires_at,
        renew_before=resource.spec.renew_before,
    )
    return due.renewal_time - known.now >= due.lifetime / 10 > timedelta()


def _expiry(certificate: Certificate) -> datetime:
    assert certificate.expires_at is not None  # noqa: S101 - _lasts has seen it
    return certificate.expires_at


def _taken(known: Known, certificate: Certificate, origin: str) -> Status:
    return held(
        known.resource,
        succeeded(known.resource.status),
        certificate,
        scope=known.scope,
        origin=str(origin),
        now=known.now,
        requested=known.resource.cns,
        token_hash=known.token_hash,
    )
