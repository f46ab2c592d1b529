"""What is told to whoever counts what the operator does."""

from vercel_certificate_operator.core.known import Note


class Observer:
    """Nobody: all of it is ignored. Metrics come from a subclass."""

    def request(self, call: str, code: str, seconds: float) -> None:
        """A request to Vercel is over.

        Args:
            call: ``issue``, ``get``, ``list`` (each page of it) or ``remove``.
            code: the HTTP status; ``none``: sent, and not answered; ``not-sent``.
            seconds: that it took.
        """

    def attempt(self, need: str, result: str) -> None:
        """An attempt to have a certificate issued is over.

        Args:
            need: the reason for it, such as ``RenewalDue``.
            result: ``Issued``, or the reason why not, such as ``RateLimited``.
        """

    def event(self, note: Note) -> None:
        """An Event is published. Repeats that are counted in one Event count each."""

    def reconciled(self, seconds: float) -> None:
        """A round for one resource is over, in so many seconds."""

    def failed(self, cause: str) -> None:
        """A round could not be brought to its end: ``kubernetes``, a write or read of its API; ``bug``."""
