"""Requests for Secrets: ``get`` alone."""

from collections.abc import Mapping
from typing import Any

from kubernetes.aio.client import ApiClient

from vercel_certificate_operator.kube.connection import translated
from vercel_certificate_operator.kube.requests import path, send


class Secrets:
    """The Secrets of a cluster.

    Without the typed API: importing that of the core group takes 24 MB of memory, for this one request.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def get(self, namespace: str, name: str) -> Mapping[str, Any]:
        """Returns a Secret as the API server sends it.

        Raises:
            KubeError: it could not be read; Gone: there is none; Denied: the operator may not.
        """
        async with translated(f"reading Secret {namespace}/{name}"):
            return await send(self._client, "GET", path("/api/v1", namespace, "secrets", name))
