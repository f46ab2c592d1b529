"""Why a certificate has to be issued."""

from collections.abc import Callable

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.facts import is_uploaded, renew_pending
from vercel_certificate_operator.core.known import Known
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Origin, Outcome
from vercel_certificate_operator.core.report import Need, scheduled
from vercel_certificate_operator.core.resource import RENEW_ANNOTATION
from vercel_certificate_operator.core.source import Source


def never_issued(known: Known) -> Need | None:
    """There is no certificate: none was issued yet, or the one that was is gone."""
    status, wants = known.resource.status, words.names(known.resource.cns)
    if status.id is not None:
        return None
    before = status.closed_attempt
    if before is not None and before.outcome == Outcome.ISSUED:
        return Need(Reason.CERTIFICATE_GONE, f"A certificate for {wants} is needed, because the previous one is gone.")
    return Need(Reason.FIRST_ISSUE, f"A certificate for {wants} is needed.")


def names_changed(known: Known) -> Need | None:
    """The certificate's names aren't those of spec, nor those that it was requested or adopted for."""
    resource, status = known.resource, known.resource.status
    has, wants = status.names, resource.cns
    if status.id is None or has == wants:
        return None
    covered = wants.issubset(has)
    if covered and resource.spec.uploads:
        return None  # the user's certificate has more names
    if covered and (status.origin == Origin.ADOPTED or frozenset(status.requested_cns) == wants):
        return None  # names that Vercel or the user added
    message = f"Certificate {status.id} is for {words.names(has)}; spec.cns has {words.names(wants)}."
    return Need(Reason.NAMES_CHANGED, message)


def source_changed(known: Known) -> Need | None:
    """The certificate isn't the one in the Secret; or it was uploaded, and spec no longer names a Secret."""
    status, source = known.resource.status, known.source
    if status.id is None:
        return None
    if not known.resource.spec.uploads:
        message = f"Certificate {status.id} was uploaded, and spec no longer names a Secret."
        return Need(Reason.SOURCE_CHANGED, message) if status.fingerprint is not None else None
    if not isinstance(source, Source) or is_uploaded(known, source):
        return None
    wants = words.names(known.resource.cns)
    return Need(Reason.SOURCE_CHANGED, f"The Secret holds another certificate for {wants} than {status.id}.")


def renew_requested(known: Known) -> Need | None:
    """The renew annotation has a value that was not acted on yet."""
    if not renew_pending(known) or known.resource.spec.uploads:
        return None
    request = words.printable(known.resource.renew_request or "", 100)
    wants = words.names(known.resource.cns)
    return Need(
        Reason.RENEW_REQUESTED, f"The annotation {RENEW_ANNOTATION} ({request}) requests a renewal for {wants}."
    )


def expired(known: Known) -> Need | None:
    """The certificate has expired."""
    status = known.resource.status
    if status.id is None or status.expires_at is None or known.now < status.expires_at or known.resource.spec.uploads:
        return None
    message = f"Certificate {status.id} for {words.names(status.names)} expired at {words.time(status.expires_at)}."
    return Need(Reason.EXPIRED, message, by_time=True)


def renewal_due(known: Known) -> Need | None:
    """The renewal time has come."""
    status, due = known.resource.status, scheduled(known.resource, known.resource.status)
    if due is None or known.now < due.renewal_time or known.resource.spec.uploads:
        return None
    names = words.names(status.names)
    return Need(Reason.RENEWAL_DUE, f"Certificate {status.id} for {names} is due for renewal.", by_time=True)


def unknown_expiry(known: Known) -> Need | None:
    """Vercel doesn't say when the certificate expires."""
    status = known.resource.status
    if status.id is None or status.expires_at is not None or known.resource.spec.uploads:
        return None
    return Need(Reason.UNEXPECTED_ANSWER, f"Vercel does not say when certificate {status.id} expires.", by_time=True)


NEEDS: tuple[Callable[[Known], Need | None], ...] = (
    never_issued,
    names_changed,
    source_changed,
    renew_requested,
    expired,
    renewal_due,
    unknown_expiry,
)


def need_of(known: Known) -> Need | None:
    """Returns why a certificate has to be issued now; None if there is no need."""
    return next((need for need in (ask(known) for ask in NEEDS) if need is not None), None)
