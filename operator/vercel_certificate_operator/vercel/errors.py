"""What can come of a call to Vercel, other than what was asked for.

::

    VercelError
     ├─ NotSent          nothing has reached Vercel: nothing can have been done
     ├─ OutcomeUnknown   it was sent, and may have been done: look before doing it again
     └─ ApiError         Vercel itself said no, in its own shape: nothing was done

The tree says what is known about the request, and no more; what an error means for a certificate (its reason, when
to try again) is a table in the core.

``NotSent``
    No connection from the pool in time, host name not found, connection refused or timed out, TLS handshake failed,
    a proxy that refused the tunnel; an id that can't stand in a URL; the client closed. Told from what the
    connection did, so that a time limit that runs out before the first byte of the request is this, and one that
    runs out after it is not.

``OutcomeUnknown``
    Time-out or lost connection while sending or waiting, a keep-alive connection that closed under the request, an
    answer that is cut short, too large, compressed, empty, not JSON or not in Vercel's shape, any redirect (none is
    followed), and an error status whose body isn't Vercel's: some proxy's, then, and a proxy doesn't know what
    Vercel did. Reading calls raise it too; there it means that there is no answer. An answer whose JSON is all there
    is not this, even if the connection was lost, or the time was over, before HTTP's own end of it.

``ApiError``
    A status of 400 or more whose body is ``{"error": {"code": "…", "message": "…", …}}``, on a 5xx too.

``asyncio.CancelledError`` passes through. No other exception leaves the client's calls.

No message, and nothing that a traceback of these errors prints, holds the token: the exceptions of the HTTP library,
which hold the request with its headers, are not chained to them. Their text is in the message.
"""


class VercelError(Exception):
    """A call to Vercel that did not give what was asked for."""

    message: str
    """For people, in one line without the full stop, the code and the status (``str()`` adds these two); fit for a
    condition or an event. Never holds the token."""
    status: int | None
    """HTTP status, where an answer has begun; also where its body could not be read."""
    code: str | None
    """Vercel's error code, as sent: an open vocabulary."""
    retry_after: float | None
    """Seconds to wait, where the answer says so: 0 to 86,400, from when the answer came."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.retry_after = retry_after

    def __str__(self) -> str:
        facts = [fact for fact in (self.code, self.status and f"HTTP {self.status}") if fact]
        return f"{self.message} ({', '.join(facts)})" if facts else self.message


class NotSent(VercelError):
    """Nothing of the request has reached Vercel."""


class OutcomeUnknown(VercelError):
    """The request was sent, and there is no answer that says what became of it."""


class ApiError(VercelError):
    """Vercel's own refusal. ``message`` is in Vercel's words."""

    status: int
    code: str
    help_url: str | None
    """A page of Vercel's on the error (``helpUrl``)."""
    cns: tuple[str, ...]
    """The names that the error is about (``cns`` of ``configuration_error``); empty where it doesn't say."""
    invalid_token: bool
    """Whether Vercel says that the token itself is invalid, so that every call with it fails (``invalidToken``)."""
    external: bool | None
    """Whether the domain's DNS is elsewhere than at Vercel (``external`` of ``configuration_error``)."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        retry_after: float | None = None,
        help_url: str | None = None,
        cns: tuple[str, ...] = (),
        external: bool | None = None,
        invalid_token: bool = False,
    ) -> None:
        super().__init__(message, status=status, code=code, retry_after=retry_after)
        self.help_url = help_url
        self.cns = cns
        self.external = external
        self.invalid_token = invalid_token
