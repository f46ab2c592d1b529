"""The probes ``/livez`` and ``/readyz``.

Liveness fails only for faults that a restart fixes. It does not depend on Vercel or the API server: each call has a
time limit, and the watch keeps trying. If the event loop hangs, there is no answer, and the kubelet counts that as a
failure.
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
"""Returns what is wrong; None if nothing is."""

WORK_MARGIN = 600.0
"""Seconds that a reconciliation may take in addition to the limit of a POST: for lists of many pages, slow answers."""
WATCH_STALLED = 600.0
"""Seconds without a request after which a watch hangs. The longest normal pause is kopf's limit for an unanswered list,
300 s."""
WATCH_SILENT = 300.0
"""Seconds after which the cached objects may be outdated. Normally, a watch starts again every 120 s."""


def probe(name: str, checks: Mapping[str, Check]) -> Page:
    """Returns a page with the result of each check, in the API server's format. Its status is 503 if a check fails."""
    failing: set[str] = set()

    async def answer(_: Request) -> Response:
        problems = {check: problem for check, find in checks.items() if (problem := find()) is not None}
        for check in problems.keys() - failing:
            logger.warning("%s: %s failed: %s", name, check, problems[check])  # the kubelet does not show the answer
        for check in failing - problems.keys():
            logger.info("%s: %s passes again", name, check)
        failing.clear()
        failing.update(problems)
        lines = [f"[-]{check} failed: {problems[check]}" if check in problems else f"[+]{check} ok" for check in checks]
        lines.append(f"{name} check {'failed' if problems else 'passed'}")
        return Response(text="\n".join(lines) + "\n", status=503 if problems else 200)

    return answer


def work_goes_on(queue: WorkQueue[Key | ScopeKey], post_timeout: float) -> Check:
    """Fails if a reconciliation takes longer than everything that it may wait for."""

    def check() -> str | None:
        oldest = queue.oldest
        if oldest is None or oldest[1] <= post_timeout + WORK_MARGIN:
            return None
        return f"{oldest[0]} has been reconciling for {oldest[1]:.0f} s"

    return check


def watch_goes_on(signs: WatchSigns) -> Check:
    """Fails if a watch sends no requests."""

    def check() -> str | None:
        age = signs.tried()
        return f"the watch has sent no request for {age:.0f} s" if age > WATCH_STALLED else None

    return check


def watch_is_fresh(signs: WatchSigns) -> Check:
    """Fails if the API server has not answered a watch for 5 min."""

    def check() -> str | None:
        age = signs.answered()
        return f"the API server has not answered a watch for {age:.0f} s" if age > WATCH_SILENT else None

    return check
