"""A company whose certificates come from its own authority: it writes the Secret that is uploaded."""

from datetime import UTC, datetime, timedelta
from typing import Any

from kubernetes.aio.client import ApiException, CoreV1Api

from support.tls import Authority, Leaf, tls_secret
from support.world import World

SOURCE = "shop-tls"
"""The Secret."""
REF = {"name": SOURCE}
"""``spec.certificateSecretRef``."""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Company:
    """Writes the Secret, as cert-manager would with the company's certificate authority."""

    def __init__(self, world: World, names: list[str], *, secret: str = SOURCE) -> None:
        """
        Args:
            world: where the Secret is.
            names: those of its certificates, unless others are given.
            secret: its name.
        """
        self.world = world
        self.names = names
        self.secret = secret
        self.authority = Authority(self._now() - 365 * DAY)
        self.leaves: list[Leaf] = []

    def _now(self) -> datetime:
        """The true time: the clock of the operator's node may be wrong."""
        return datetime.fromtimestamp(self.world.emulator.clock.now_ms() / 1000, UTC).replace(microsecond=0)

    async def renew(self, names: list[str] | None = None, *, lifetime: timedelta = 90 * DAY, **secret: Any) -> Leaf:
        """Put a new certificate into the Secret."""
        leaf = self.authority.leaf(names or self.names, self._now() - HOUR, lifetime)
        self.leaves.append(leaf)
        await self.put(leaf, **secret)
        return leaf

    async def put(self, leaf: Leaf, **secret: Any) -> None:
        """Put a certificate into the Secret."""
        self.world.acts.append(self.world.emulator.journal.last)
        api = CoreV1Api(self.world.api)
        body: Any = tls_secret(self.secret, leaf, **secret)
        try:
            await api.replace_namespaced_secret(self.secret, self.world.namespace, body)
        except ApiException as error:
            if error.status != 404:
                raise
            await api.create_namespaced_secret(self.world.namespace, body)
