"""The kopf handlers: they pass the newest state of each object to the reconciler."""

from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from vercel_certificate_operator.core.resource import GROUP, PLURAL, VERSION
from vercel_certificate_operator.kube.vercel_certificates import PAGE
from vercel_certificate_operator.objects import key_of
from vercel_certificate_operator.reconciler import Reconciler

WATCH_LIMIT = 120
"""Seconds after which the API server ends a watch and kopf continues it with the next one. So the watch is answered
even if nothing changes."""


class NoDiffBase(kopf.DiffBaseStorage):
    """Stores no state for diffs: only ``on.event`` is used. kopf would spend most of its CPU on copies."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        """Returns an empty essence."""
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Returns that nothing is stored."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Stores nothing."""


class NoProgress(kopf.ProgressStorage):
    """Stores no progress of handlers: these have none."""

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> None:
        """Returns that nothing is stored."""

    def store(self, *, key: kopf.HandlerId, record: object, body: kopf.Body, patch: kopf.Patch) -> None:
        """Stores nothing."""

    def purge(self, *, key: kopf.HandlerId, body: kopf.Body, patch: kopf.Patch) -> None:
        """Has nothing to remove."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Changes nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Returns the essence, which is empty, without a copy."""
        return essence


Login = Callable[[], Awaitable[kopf.AiohttpSession]]


def registry(reconciler: Reconciler, login: Login) -> kopf.OperatorRegistry:
    """Returns the handlers of an operator.

    Only ``on.event`` is used. With any create, update, delete, timer or daemon handler, kopf would write finalizers and
    annotations of its own, and would give up after an error.
    """
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def log_in(**_: Any) -> kopf.AiohttpSession:
        return await login()

    def is_news(event: kopf.RawEvent, **_: Any) -> bool:
        listed = event["type"] is None  # kopf's own lists have no type
        return event["type"] == "DELETED" or reconciler.is_news(event["object"], listed=listed)

    # Most events are echoes of the operator's own writes. As a filter, the question costs half of what a handler costs.
    @kopf.on.event(GROUP, VERSION, PLURAL, registry=handlers, when=is_news)
    async def note(event: kopf.RawEvent, **_: Any) -> None:
        body: dict[str, Any] = dict(event["object"])
        if event["type"] == "DELETED":
            reconciler.vanished(key_of(body), body)
        else:
            reconciler.seen(body, listed=event["type"] is None)

    return handlers


def settings(selector: str = "") -> kopf.OperatorSettings:
    """Returns settings with which kopf only watches.

    Args:
        selector: a label selector. The API server applies it. kopf's own filters (``labels=``) would make it send
            everything, don't support sets, and don't report that an object no longer matches.
    """
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # ``kube.events`` writes Events
    settings.scanning.disabled = True  # no watch of namespaces and definitions, so no rights for them
    settings.peering.standalone = True
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.persistence.finalizer = (
        f"{GROUP}/never-written-by-kopf"  # otherwise kopf would remove the operator's finalizer
    )
    settings.watching.server_timeout = WATCH_LIMIT
    if selector:
        settings.watching.label_selectors[GROUP, VERSION, PLURAL] = selector
    settings.watching.chunk_size = PAGE  # of its list, at a time in memory
    settings.queueing.idle_timeout = 0.1
    settings.queueing.exit_timeout = 0.1
    settings.process.ultimate_exiting_timeout = None  # requests in flight have limits of their own
    return settings
