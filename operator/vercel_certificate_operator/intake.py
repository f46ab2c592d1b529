"""Stores what is seen of the cluster in the cache, and wakes the resources concerned."""

from collections.abc import Callable, Mapping
from typing import Any

from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.core.sightings import ScopeKey
from vercel_certificate_operator.objects import Objects, key_of
from vercel_certificate_operator.vercel_time import VercelTime
from vercel_certificate_operator.workqueue import WorkQueue


class Intake:
    """Notes objects from a watch, from a list and from the replies to our own requests."""

    def __init__(
        self,
        objects: Objects,
        queue: "WorkQueue[Key | ScopeKey]",
        time: VercelTime,
        is_remembered: Callable[[Key], bool],
    ) -> None:
        """
        Args:
            is_remembered: whether something was begun for a resource, which has to be finished when it is gone.
        """
        self._objects = objects
        self._queue = queue
        self._time = time
        self._is_remembered = is_remembered

    def seen(self, body: Mapping[str, Any], *, listed: bool = False) -> None:
        """An object was seen: it is reconciled, if that is news.

        Args:
            listed: whether it is from a complete list. Then it is true whatever its resourceVersion.
        """
        # To find out whom a change concerns costs more than to find out that there is none.
        objects, key = self._objects, key_of(body)
        if self.is_news(body, listed=listed) and self._change(
            key, lambda: objects.put_listed(body) if listed else objects.put(body)
        ):
            self._queue.add(key)

    def is_news(self, body: Mapping[str, Any], *, listed: bool = False) -> bool:
        """Returns whether an object's state is news. The echo of our own write isn't."""
        return self._objects.is_listed_news(body) if listed else self._objects.is_newer(body)

    def replied(self, body: Mapping[str, Any]) -> bool:
        """The API server replied to a request of ours. Returns whether the reply is news; nothing is woken for it."""
        return self._change(key_of(body), lambda: self._objects.put(body))

    def read(self, body: Mapping[str, Any], version: str) -> bool:
        """An object was read after its state with this resourceVersion was known. Returns whether that is news."""
        return self._change(key_of(body), lambda: self._objects.put_read(body, version))

    def vanished(self, key: Key, last: Mapping[str, Any] | None = None) -> None:
        """An object is gone, or no longer visible to this instance; ``last`` is its last state."""
        if self._change(key, lambda: self._objects.drop(key, last)):
            if self._is_remembered(key):
                self._queue.add(key)
            else:
                self._queue.forget(key)  # nothing was ever begun for it: a standby sees many come and go

    def _change(self, key: Key, change: Callable[[], bool]) -> bool:
        """Makes a change, and wakes whom it concerns.

        Of the resources that get or lose a set of names, or that wait for an attempt, that is only the next in line.
        And whoever has a certificate with the same names has to record that.
        """
        now, group, certificate = self._time.earlier(), self._objects.group(key), self._objects.certificate_of(key)
        owners = self._objects.owners(group, now) if group is not None else set[Key]()
        held, attempt = self._objects.holds_names(key), self._objects.attempt_of(key)
        if not change():
            return False
        heirs: set[Key] = set()
        if group is not None:
            heirs |= owners ^ self._objects.owners(group, now)
            if held and (self._objects.group(key) != group or not self._objects.holds_names(key)):
                heirs.update(self._objects.next_elsewhere(group, now))
        after = self._objects.group(key)
        if after is not None and after != group:
            heirs |= {heir for heir in self._objects.owners(after, now) if heir.namespace == key.namespace}
        if attempt is not None and self._objects.attempt_of(key) is None:
            heirs.update(self._objects.next_in_line(attempt))
        if self._objects.certificate_of(key) != certificate:
            heirs.update(self._objects.unaware(key))
        for heir in heirs - {key}:
            self._queue.add(heir)
        return True
