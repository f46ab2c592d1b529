"""Whether the process lives, and whether it is of use: ``/livez`` and ``/readyz``.

Alive is what a restart would not mend. So an API server or a Vercel that can't be reached fails neither the key that
waits for it (every call has a time limit) nor the watch (it goes on trying), and with them not the probe. That the
event loop runs is told by there being an answer at all: a kubelet takes none for a failure.
"""

import logging
from collections.abc import Callable, Mapping

from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.core.sightings import ScopeKey
from vercel_certificate_operator.kube.connection import WatchSigns
from vercel_certificate_operator.web import Page, Request, Response
from vercel_certificate_operator.workqueue import WorkQueue

logger = logging.getLogger(__name__)

Check = Callable[[], str | None]
"""Says what is wrong; None: nothing."""

WORK_MARGIN = 600.0
"""Seconds that one key may be in work beyond the limit of a POST: for listings of many pages, and slow answers."""
WATCH_STALLED = 600.0
"""Seconds without so much as a try after which a watch hangs. The longest pause in good order is kopf's limit for a
list that is not answered, 300 s."""
WATCH_SILENT = 300.0
"""Seconds after which what is known of the cluster may be old. In good order, a watch begins anew every 120 s."""


def probe(name: str, checks: Mapping[str, Check]) -> Page:
    """A page that says of each check whether it has failed, in the manner of the API server's own; 503 if one has."""
    failing: set[str] = set()

    async def answer(_: Request) -> Response:
        problems = {check: problem for check, find in checks.items() if (problem := find()) is not None}
        for check in problems.keys() - failing:
            logger.warning("%s: %s failed: %s", name, check, problems[check])  # a kubelet doesn't show the answer
        for check in failing - problems.keys():
            logger.info("%s: %s is well again", name, check)
        failing.clear()
        failing.update(problems)
        lines = [f"[-]{check} failed: {problems[check]}" if check in problems else f"[+]{check} ok" for check in checks]
        lines.append(f"{name} check {'failed' if problems else 'passed'}")
        return Response(text="\n".join(lines) + "\n", status=503 if problems else 200)

    return answer


def work_goes_on(queue: WorkQueue[Key | ScopeKey], post_timeout: float) -> Check:
    """Fails when a key has been in work for longer than all that it can have to wait for."""

    def check() -> str | None:
        oldest = queue.oldest
        if oldest is None or oldest[1] <= post_timeout + WORK_MARGIN:
            return None
        return f"{oldest[0]} has been in work for {oldest[1]:.0f} s"

    return check


def watch_goes_on(signs: WatchSigns) -> Check:
    """Fails when a watch does not even try."""

    def check() -> str | None:
        age = signs.tried()
        return f"no sign of life for {age:.0f} s" if age > WATCH_STALLED else None

    return check


def watch_is_fresh(signs: WatchSigns) -> Check:
    """Fails when the API server has not answered a watch for long."""

    def check() -> str | None:
        age = signs.answered()
        return f"the API server has not answered a watch for {age:.0f} s" if age > WATCH_SILENT else None

    return check
