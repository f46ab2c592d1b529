"""The errors of calls to Vercel.

::

    VercelError
     ├─ NotSent          nothing reached Vercel, so nothing was done
     ├─ OutcomeUnknown   it was sent and may have been done: check before you repeat it
     ├─ ApiError         Vercel refused it in its own format: nothing was done
     └─ ListTooLong      the list is longer than may be kept, or a page with one certificate is larger than is read

The classes only say what is known about the request. What an error means for a certificate (its reason, when to try
again) is a table in ``core.failures``.

``NotSent``
    No connection was free in time, the host name was not found, the connection was refused or timed out, the TLS
    handshake failed, or a proxy refused the tunnel. Also: an id that can't be in a URL, and a closed client. A time
    limit that ends before the first byte of the request is sent is this error; one that ends after it is not.

``OutcomeUnknown``
    A time-out or a lost connection after the first byte was sent; an answer that is truncated, too large (except a page
    of a list, which is read again with fewer certificates), compressed, empty, not JSON or not in Vercel's format; any
    redirect (none is followed); and an error status whose body is not Vercel's: it comes from a proxy, and a proxy does
    not know what Vercel did. Calls that only read raise it too: then there is no answer. If the JSON is complete, the
    answer counts, even if the connection was lost afterwards.

``ApiError``
    A status of 400 or more, 5xx included, with the body ``{"error": {"code": "…", "message": "…", …}}``.

``asyncio.CancelledError`` passes through. No other exception leaves the client's calls.

Neither the messages nor the tracebacks of these errors contain the token: the exceptions of the HTTP library, which
contain the request's headers, are not chained to them. Their text is in the message.
"""


class VercelError(Exception):
    """A call to Vercel that failed."""

    message: str
    """One line for users, without a full stop, code or status (``str()`` adds these two). Never contains the token."""
    status: int | None
    """The HTTP status, if an answer has begun, even if its body could not be read."""
    code: str | None
    """Vercel's error code as sent. New codes are possible."""
    retry_after: float | None
    """Seconds to wait since the answer arrived, 0 to 86,400, if the answer says so."""

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
    """Nothing of the request reached Vercel."""


class OutcomeUnknown(VercelError):
    """The request was sent, and no answer says whether Vercel carried it out."""


class ListTooLong(VercelError):
    """A list takes more memory than it may. Nothing of it is kept."""


class ApiError(VercelError):
    """Vercel refused the request. ``message`` has Vercel's words."""

    status: int
    code: str
    help_url: str | None
    """The URL of Vercel's page about the error (``helpUrl``)."""
    cns: tuple[str, ...]
    """The names that the error blames (``cns`` of ``configuration_error``); empty if it names none."""
    invalid_token: bool
    """Whether Vercel says that the token itself is invalid, so that every call with it fails (``invalidToken``)."""
    external: bool | None
    """Whether the domain's DNS is not at Vercel (``external`` of ``configuration_error``)."""

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
