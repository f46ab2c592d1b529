"""What can go wrong with a request to the Kubernetes API.

::

    KubeError
    ├── Conflict     409: the object has changed since it was read
    ├── Gone         404: there is no such object (any more)
    ├── Fenced       not sent: this replica may not write
    ├── Refused      other 4xx: the request itself is wrong, or a JSON Patch test has failed
    │   └── Denied   403: not allowed to
    │       └── Unauthenticated  401: the API server does not know who asks
    └── Unavailable  no answer, 429 or 5xx: it may have been done, or not; 410: a list has to begin anew
"""

import aiohttp


class KubeError(Exception):
    """Base of all. ``message`` is one line, for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Conflict(KubeError):
    """The object has changed since it was read."""


class Gone(KubeError):
    """There is no such object."""


class Fenced(KubeError):
    """This replica may not write: it does not lead. Nothing was sent."""


class Refused(KubeError):
    """The API server refuses the request as it is."""


class Denied(Refused):
    """The operator is not allowed to."""


class Unauthenticated(Denied):
    """The API server rejects the operator's credentials."""


class Unavailable(KubeError):
    """The API server could not be reached, or could not answer: the request may have been done or not."""


def is_answer(error: BaseException | None) -> bool:
    """Whether kopf has raised this error because of what the API server answered."""
    return error is not None and isinstance(error.__cause__, aiohttp.ClientResponseError)
