"""Why a certificate has to be issued."""

from collections.abc import Callable

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.facts import renew_pending
from vercel_certificate_operator.core.known import Known
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.record import Origin, Outcome
from vercel_certificate_operator.core.report import Need, scheduled


def never_issued(known: Known) -> Need | None:
    """There is no certificate: none was issued yet, or the one that was is gone."""
    status, wants = known.resource.status, words.names(known.resource.cns)
    if status.id is not None:
        return None
    before = status.closed_attempt
    if before is not None and before.outcome == Outcome.ISSUED:
        return Need(Reason.CERTIFICATE_GONE, f"Requesting a certificate for {wants}, since the previous one is gone.")
    return Need(Reason.FIRST_ISSUE, f"Requesting a certificate for {wants}.")


def names_changed(known: Known) -> Need | None:
    """The certificate's names aren't those of spec, nor those that it was requested or adopted for."""
    resource, status = known.resource, known.resource.status
    has, wants = status.names, resource.cns
    if status.id is None or has == wants:
        return None
    if wants <= has and (status.origin == Origin.ADOPTED or frozenset(status.requested_cns) == wants):
        return None  # names that Vercel or the user added
    message = f"Certificate {status.id} is for {words.names(has)}; spec.cns has {words.names(wants)}."
    return Need(Reason.NAMES_CHANGED, message)


def renew_requested(known: Known) -> Need | None:
    """The renew annotation has a value that was not acted on yet."""
    if not renew_pending(known):
        return None
    request = words.printable(known.resource.renew_request or "", 100)
    return Need(Reason.RENEW_REQUESTED, f"The renew annotation ({request}) requested a renewal.")


def expired(known: Known) -> Need | None:
    """The certificate has expired."""
    status = known.resource.status
    if status.id is None or status.expires_at is None or known.now < status.expires_at:
        return None
    message = f"Certificate {status.id} expired at {words.time(status.expires_at)}."
    return Need(Reason.EXPIRED, message, by_time=True)


def renewal_due(known: Known) -> Need | None:
    """The renewal time has come."""
    status, due = known.resource.status, scheduled(known.resource, known.resource.status)
    if due is None or known.now < due.renewal_time:
        return None
    return Need(Reason.RENEWAL_DUE, f"Certificate {status.id} is due for renewal.", by_time=True)


def unknown_expiry(known: Known) -> Need | None:
    """Vercel doesn't say when the certificate expires."""
    status = known.resource.status
    if status.id is None or status.expires_at is not None:
        return None
    return Need(Reason.UNEXPECTED_ANSWER, f"Vercel does not say when certificate {status.id} expires.", by_time=True)


NEEDS: tuple[Callable[[Known], Need | None], ...] = (
    never_issued,
    names_changed,
    renew_requested,
    expired,
    renewal_due,
    unknown_expiry,
)


def need_of(known: Known) -> Need | None:
    """Returns why a certificate has to be issued now; None if there is no need."""
    return next((need for need in (ask(known) for ask in NEEDS) if need is not None), None)
