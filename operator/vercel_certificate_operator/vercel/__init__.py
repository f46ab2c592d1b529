"""Vercel's certificates API (``/v8/certs``), as a client that never retries and never guesses."""

from vercel_certificate_operator.vercel.client import Upload, VercelClient
from vercel_certificate_operator.vercel.errors import ApiError, ListTooLong, NotSent, OutcomeUnknown, VercelError
from vercel_certificate_operator.vercel.network import Network, NetworkError

__all__ = [
    "ApiError",
    "ListTooLong",
    "Network",
    "NetworkError",
    "NotSent",
    "OutcomeUnknown",
    "Upload",
    "VercelClient",
    "VercelError",
]
