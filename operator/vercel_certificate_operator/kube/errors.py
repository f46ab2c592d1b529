"""The errors of requests to the Kubernetes API.

::

    KubeError
    ├── Conflict     409: the object has changed since it was read
    ├── Gone         404: there is no such object, or no longer
    ├── Fenced       not sent: this replica may not write
    ├── Refused      other 4xx: the request itself is wrong, or a JSON Patch test has failed
    │   └── Denied   403: not allowed to
    │       └── Unauthenticated  401: the API server rejects the credentials
    └── Unavailable  no answer, 429 or 5xx: it may have been done or not; 410: a list must start again
"""

import aiohttp


class KubeError(Exception):
    """Base class. ``message`` is one line for users."""

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
    """The operator has no right to do this."""


class Unauthenticated(Denied):
    """The API server rejects the operator's credentials."""


class Unavailable(KubeError):
    """The API server could not be reached, or could not answer: the request may have been done or not."""


def is_answer(error: BaseException | None) -> bool:
    """Returns whether kopf raised this error because of an answer of the API server."""
    return error is not None and isinstance(error.__cause__, aiohttp.ClientResponseError)
