"""What the client for Vercel raises, in the core's terms."""

from datetime import timedelta

from vercel_certificate_operator.core.failures import Failure, Fate
from vercel_certificate_operator.vercel import ApiError, ListTooLong, NotSent, VercelError


def failure_of(error: VercelError) -> Failure:
    """Returns what the edge raised, in the core's terms."""
    retry_after = timedelta(seconds=error.retry_after) if error.retry_after is not None else None
    if not isinstance(error, ApiError):
        fates = {NotSent: Fate.NOT_SENT, ListTooLong: Fate.TOO_LONG}
        fate = fates.get(type(error), Fate.UNKNOWN)
        return Failure(fate, error.message, error.status, error.code, retry_after)
    return Failure(
        Fate.REFUSED,
        error.message,
        error.status,
        error.code,
        retry_after,
        error.help_url,
        error.cns,
        error.external,
        error.invalid_token,
    )
