"""What is reported about a resource: an Event, a log line and a count, always together."""

import logging
from dataclasses import replace

from vercel_certificate_operator.core.known import Note
from vercel_certificate_operator.core.record import Attempt
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.core.words import printable
from vercel_certificate_operator.kube.events import Events
from vercel_certificate_operator.observer import Observer
from vercel_certificate_operator.vercel_time import VercelTime

logger = logging.getLogger(__name__)

LONGEST_NOTE = 2_000
"""Characters. An Event holds about half of that; the log line holds all."""


class Publisher:
    """Publishes notes about resources."""

    def __init__(self, events: Events, observer: Observer, time: VercelTime) -> None:
        self._events = events
        self._observer = observer
        self._time = time

    def publish(self, key: Key, note: Note, attempt: Attempt | None = None) -> None:
        """Publishes a note.

        Args:
            attempt: the attempt that it is about, for the log.
        """
        note = replace(note, text=printable(note.text, LONGEST_NOTE))
        level = logging.WARNING if note.type == "Warning" else logging.INFO
        fields = log_fields(key, attempt=attempt.id if attempt else None, reason=note.reason, cause=note.cause)
        logger.log(level, "%s: %s", note.reason, note.text, extra=fields)
        self._observer.event(note)
        self._events.publish(key, note, self._time.now())


def log_fields(
    key: Key, *, attempt: str | None = None, reason: str | None = None, cause: str | None = None
) -> dict[str, object]:
    """Returns what a log line about a resource has as fields of its own in JSON.

    Args:
        attempt: the attempt's id.
        reason: the reason of the Event or of the request.
        cause: the reason of the failure, if ``reason`` says only what failed.
    """
    fields = {
        "namespace": key.namespace,
        "resource": key.name,
        "uid": key.uid,
        "attempt": attempt,
        "reason": reason,
        "cause": cause,
    }
    return {name: str(value) for name, value in fields.items() if value is not None}
