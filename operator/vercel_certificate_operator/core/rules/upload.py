"""Certificates that are uploaded from a Secret instead of issued."""

from datetime import timedelta

from vercel_certificate_operator.core import words
from vercel_certificate_operator.core.durations import readable
from vercel_certificate_operator.core.facts import is_uploaded, renew_pending, reported
from vercel_certificate_operator.core.known import Decision, Known, ReadSource, Write
from vercel_certificate_operator.core.reasons import Reason
from vercel_certificate_operator.core.report import problem, scheduled
from vercel_certificate_operator.core.source import Source, SourceProblem


def source_is_usable(known: Known) -> Decision | None:
    """Before anything is sent, the Secret is checked. What is wrong with it is reported in one sentence."""
    resource = known.resource
    if not resource.spec.uploads:
        return None
    if known.source is None:
        return Decision(ReadSource())
    wrong = known.source if isinstance(known.source, SourceProblem) else _wrong_with(known, known.source)
    if wrong is not None:
        poll = readable(timedelta(seconds=known.limits.source_poll))
        invalid = problem(
            Reason.SOURCE_INVALID,
            wrong=f"{wrong.message}. Nothing was sent to Vercel for {words.names(resource.cns)}.",
            advice=f"{wrong.advice}.",
            again=f"The operator checks the Secret every {poll}." if wrong.read else "",
        )
        return reported(known, invalid, action="Upload")
    if isinstance(known.source, Source) and is_uploaded(known, known.source) and renew_pending(known):
        # The request asks for what the Secret holds now, and that is at Vercel.
        return Decision(Write(), resource.status.changed(last_renew_request=resource.renew_request))
    return None


def _wrong_with(known: Known, source: Source) -> SourceProblem | None:
    where = f"The certificate in {_secret(known)}"
    if missing := known.resource.cns - source.cns:
        covers = f"{where} does not cover {words.names(missing)}; it covers {words.names(source.cns)}"
        return SourceProblem(covers, "Correct the Secret or spec.cns")
    if known.now < source.not_before:
        return SourceProblem(f"{where} is valid only from {words.time(source.not_before)}")
    if source.expires_at <= known.now and not is_uploaded(known, source):  # otherwise, it wasn't renewed: see below
        return SourceProblem(f"{where} expired at {words.time(source.expires_at)}", f"Check {_renewer(known, source)}")
    return None


def source_that_is_not_renewed_is_reported(known: Known) -> Decision | None:
    """The renewal time has passed, and the Secret still holds the certificate that is at Vercel."""
    resource, source = known.resource, known.source
    if not isinstance(source, Source) or not is_uploaded(known, source):
        return None
    due = scheduled(resource, resource.status)
    if due is None or known.now < due.renewal_time:
        return None
    expires = "expires" if known.now < source.expires_at else "expired"
    stale = problem(
        Reason.SOURCE_NOT_RENEWED,
        wrong=f"Certificate {resource.status.id} for {words.names(resource.status.names)} {expires} at "
        f"{words.time(source.expires_at)}, and {_secret(known)} holds no newer one.",
        advice=f"Check {_renewer(known, source)}.",
        again="The operator uploads the new certificate when it is there.",
    )
    return reported(known, stale, action="Upload")


def _secret(known: Known) -> str:
    ref = known.resource.spec.certificate_secret_ref
    return f"Secret {known.resource.key.namespace}/{ref.name if ref else ''}"


def _renewer(known: Known, source: Source) -> str:
    """Returns who renews the certificate in the Secret, as far as it is known."""
    if source.managed_by:
        return f"the cert-manager Certificate {words.printable(source.managed_by, 253)}"
    return f"what renews {_secret(known)}"
