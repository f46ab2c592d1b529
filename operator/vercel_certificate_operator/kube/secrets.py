"""Requests for Secrets: ``get`` alone."""

from collections.abc import Mapping

from kubernetes.aio.client import ApiClient

from vercel_certificate_operator.kube.connection import translated
from vercel_certificate_operator.kube.requests import path, send


class Secrets:
    """The Secrets of a cluster.

    Without the typed API: importing that of the core group takes 24 MB of memory, for this one request.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def read(self, namespace: str, name: str) -> Mapping[str, str]:
        """Returns a Secret's data: base64 text, by key.

        Raises:
            KubeError: it could not be read; Gone: there is none; Denied: the operator may not.
        """
        async with translated(f"reading Secret {namespace}/{name}"):
            secret = await send(self._client, "GET", path("/api/v1", namespace, "secrets", name))
        return secret.get("data") or {}
