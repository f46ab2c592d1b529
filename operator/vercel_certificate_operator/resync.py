"""Lists all resources: once at the start, and later to find what the watch has missed."""

import asyncio
import logging

from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.kube.errors import Denied, Gone, KubeError, Refused, Unauthenticated, Unavailable
from vercel_certificate_operator.objects import key_of
from vercel_certificate_operator.settings import Settings
from vercel_certificate_operator.wiring import CannotStart, Operator

logger = logging.getLogger(__name__)

INTERVAL = 1800.0
"""Seconds between two lists."""
ATTEMPTS = 4
"""How many first lists may fail, a second apart, before the operator gives up."""


class Resync:
    """Lists the resources that this instance serves, and reports them to the reconciler."""

    def __init__(self, operator: Operator, settings: Settings, clock: Clock) -> None:
        self.complete = asyncio.Event()
        """Set once all resources have been listed."""
        self._operator = operator
        self._settings = settings
        self._clock = clock

    def problem(self) -> str | None:
        """Returns why this replica does not know all resources yet; None if it does."""
        return None if self.complete.is_set() else "the resources have not all been listed yet"

    async def first(self) -> None:
        """Lists all resources, so that no decision is made from only some of them.

        Tries again if the API server is still starting or has just created the definition's endpoint.

        Raises:
            CannotStart: it could not be listed.
        """
        for _ in range(ATTEMPTS):
            try:
                await self.listed()
            except Unavailable as error:
                failure = error
                await self._clock.wait(asyncio.Event(), 1.0)
            else:
                self.complete.set()
                return
        raise CannotStart(
            f"the Kubernetes API can't be used: {failure.message}. Check the server of the kubeconfig, and that the "
            "operator can reach it"
        ) from failure

    async def again(self) -> None:
        """Lists all resources, and finds deletions that the watch has missed: kopf does not report them after a gap."""
        known_before = set(self._operator.objects.keys())
        try:
            keys = await self.listed()
        except (CannotStart, KubeError) as error:
            logger.warning("Can't list all resources: %s. Trying again in %.0f s.", error, INTERVAL)
            return
        for key in known_before - keys:
            self._operator.reconciler.vanished(key)

    async def run(self) -> None:
        """Calls ``again`` every half hour until cancelled."""
        while True:
            await self._clock.wait(asyncio.Event(), INTERVAL)
            await self.again()

    async def listed(self) -> set[Key]:
        """Lists all resources once and passes them to the reconciler. Returns their keys.

        Raises:
            CannotStart: the API server refuses the request, or does not know VercelCertificates.
            Unavailable: the API server did not answer; the next request may succeed.
        """
        operator, settings = self._operator, self._settings
        keys = set()
        try:
            async for body in operator.certificates.list(settings.namespaces, selector=settings.selector.text or None):
                operator.reconciler.seen(body, listed=True)
                keys.add(key_of(body))
        except Gone as error:
            raise CannotStart(
                "the cluster does not know VercelCertificates: install the CRD first (kubectl apply -f deploy/crds/)"
            ) from error
        except Unauthenticated as error:
            raise CannotStart(
                f"the API server rejects the operator's credentials: {error.message}. Check the kubeconfig's user, or "
                "the pod's ServiceAccount"
            ) from error
        except Denied as error:
            raise CannotStart(f"the operator may not list VercelCertificates: {error.message}") from error
        except Refused as error:
            raise CannotStart(f"the Kubernetes API can't be used: {error.message}") from error
        return keys
