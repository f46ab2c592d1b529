"""The interface for metrics: what the operator reports to them."""

from vercel_certificate_operator.core.known import Note


class Observer:
    """Ignores everything. ``metrics`` has the subclass that counts."""

    def request(self, call: str, code: str, seconds: float) -> None:
        """Called after each request to Vercel.

        Args:
            call: ``issue``, ``upload``, ``get``, ``list`` (once for each page), ``remove`` or ``config``.
            code: the HTTP status; ``none`` if it was sent but not answered; ``not-sent``.
            seconds: how long it took.
        """

    def attempt(self, need: str, result: str) -> None:
        """Called after each attempt to issue a certificate.

        Args:
            need: why the certificate was needed, such as ``RenewalDue``.
            result: ``Issued``, or the reason of the failure, such as ``RateLimited``.
        """

    def event(self, note: Note) -> None:
        """Called for each published Event, repetitions included."""

    def reconciled(self, seconds: float) -> None:
        """Called after each reconciliation, with its duration in seconds."""

    def failed(self, cause: str) -> None:
        """Called when a reconciliation fails. The cause is ``kubernetes`` (a request to its API) or ``bug``."""
