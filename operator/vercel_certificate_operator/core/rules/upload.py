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
    wrong = known.source.message if isinstance(known.source, SourceProblem) else _wrong_with(known, known.source)
    if wrong is not None:
        invalid = problem(
            Reason.SOURCE_INVALID,
            wrong=f"{wrong}. Nothing was sent to Vercel for {words.names(resource.cns)}.",
            advice="Correct the Secret.",
            again=f"The operator reads it again every {readable(timedelta(seconds=known.limits.source_poll))}.",
        )
        return reported(known, invalid, action="Upload")
    if isinstance(known.source, Source) and is_uploaded(known, known.source) and renew_pending(known):
        # The request asks for what the Secret holds now, and that is at Vercel.
        return Decision(Write(), resource.status.changed(last_renew_request=resource.renew_request))
    return None


def _wrong_with(known: Known, source: Source) -> str | None:
    ref = known.resource.spec.certificate_secret_ref
    where = f"The certificate in Secret {known.resource.key.namespace}/{ref.name if ref else ''}"
    if missing := known.resource.cns - source.cns:
        return f"{where} does not cover {words.names(missing)}; it covers {words.names(source.cns)}"
    if known.now < source.not_before:
        return f"{where} is valid only from {words.time(source.not_before)}"
    if source.expires_at <= known.now and not is_uploaded(known, source):  # otherwise, it wasn't renewed: see below
        return f"{where} expired at {words.time(source.expires_at)}"
    return None


def source_that_is_not_renewed_is_reported(known: Known) -> Decision | None:
    """The renewal time has passed, and the Secret still holds the certificate that is at Vercel."""
    resource, source = known.resource, known.source
    if not isinstance(source, Source) or not is_uploaded(known, source):
        return None
    due = scheduled(resource, resource.status)
    if due is None or known.now < due.renewal_time:
        return None
    ref = resource.spec.certificate_secret_ref
    secret = f"Secret {resource.key.namespace}/{ref.name if ref else ''}"
    who = f"the cert-manager Certificate {words.printable(source.managed_by, 253)}" if source.managed_by else secret
    expires = "expires" if known.now < source.expires_at else "expired"
    stale = problem(
        Reason.SOURCE_NOT_RENEWED,
        wrong=f"Certificate {resource.status.id} for {words.names(resource.status.names)} {expires} at "
        f"{words.time(source.expires_at)}, and {secret} holds no newer one.",
        advice=f"Check {who}.",
        again="The operator uploads the new certificate when it is there.",
    )
    return reported(known, stale, action="Upload")
