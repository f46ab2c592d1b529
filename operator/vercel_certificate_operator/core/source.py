"""A certificate that the user has in a Secret, to be uploaded to Vercel: what the rules need to know about it."""

from dataclasses import dataclass
from datetime import datetime

ALLOW_ANNOTATION = "vercel-operator.io/allow-upload"
"""On the Secret: a user who may write it allows that its key is sent to Vercel."""


@dataclass(frozen=True, slots=True)
class Source:
    """The leaf certificate of a TLS Secret. Its key isn't here."""

    fingerprint: str
    """SHA-256 of the certificate (DER), in hexadecimal digits."""
    cns: frozenset[str]
    """Its DNS names (subject alternative names), normalized."""
    not_before: datetime
    """Aware, UTC."""
    expires_at: datetime
    """Aware, UTC."""
    chain_hash: str = ""
    """A hash of the certificate and its chain: they can be corrected for the same certificate."""
    managed_by: str | None = None
    """The cert-manager Certificate that writes the Secret, if its annotations name one."""


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """Why a Secret can't be uploaded."""

    message: str
    """One sentence without its full stop, for people. Nothing of a key is in it."""
    advice: str = "Correct the Secret"
    """What to do; likewise."""
    read: bool = True
    """Whether the Secret is read again from time to time."""
