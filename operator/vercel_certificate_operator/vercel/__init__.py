"""Vercel's certificates API (``/v8/certs``), as a client that never retries and never guesses."""

from vercel_certificate_operator.vercel.client import VercelClient
from vercel_certificate_operator.vercel.errors import ApiError, NotSent, OutcomeUnknown, VercelError

__all__ = ["ApiError", "NotSent", "OutcomeUnknown", "VercelClient", "VercelError"]
