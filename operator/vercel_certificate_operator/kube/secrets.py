"""Requests for Secrets: ``get`` alone."""

import json
from collections.abc import Mapping
from typing import Any

from kubernetes.aio.client import ApiClient

from vercel_certificate_operator.kube.connection import REQUEST_LIMIT, translated


class Secrets:
    """The Secrets of a cluster.

    Without the typed API: importing that of the core group takes 24 MB of memory, for this one request.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def read(self, namespace: str, name: str) -> Mapping[str, str]:
        """Returns a Secret's data: base64 text, by key. Raises as ``get`` does."""
        return (await self.get(namespace, name)).get("data") or {}

    async def get(self, namespace: str, name: str) -> Mapping[str, Any]:
        """Returns a Secret as the API server sends it.

        Raises:
            KubeError: it could not be read; Gone: there is none; Denied: the operator may not.
        """
        client: Any = self._client
        path = {"namespace": namespace, "name": name}
        request = await client.param_serialize(
            "GET", "/api/v1/namespaces/{namespace}/secrets/{name}", path, auth_settings=["BearerToken"]
        )
        async with translated(f"reading Secret {namespace}/{name}"):
            response = await client.call_api(*request, _request_timeout=REQUEST_LIMIT)
            body = await response.read()
            client.response_deserialize(response, {})  # raises ApiException, unless it is a 2xx
            secret: dict[str, Any] = json.loads(body)
        return secret
