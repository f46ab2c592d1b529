"""One request to the Kubernetes API, as JSON.

The client library's own APIs (``CustomObjectsApi`` and the typed ones) validate every argument, copy every body and
take megabytes of memory to import. This uses the client below them, with its connections, its credentials and the
fence.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from kubernetes.aio.client import ApiClient, ApiException

REQUEST_LIMIT = 30.0
"""Seconds that one request may take."""

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


def path(prefix: str, namespace: str | None, plural: str, *names: str) -> str:
    """Returns the path of a resource, such as ``path("/api/v1", "default", "secrets", "vercel")``.

    Args:
        prefix: ``/api/v1`` or ``/apis/GROUP/VERSION``.
        namespace: None: of all namespaces.
        plural: of the kind.
        names: the object's name, and a subresource.
    """
    parts = (*(("namespaces", namespace) if namespace is not None else ()), plural, *names)
    return "/".join((prefix, *(quote(part, safe="") for part in parts)))


async def send(
    client: ApiClient,
    method: str,
    path: str,
    *,
    query: Mapping[str, str | int | None] | None = None,
    body: object = None,
    content_type: str = JSON,
) -> dict[str, Any]:
    """Sends a request. Returns the object in the answer.

    Args:
        client: with the connections and the credentials.
        method: the HTTP method.
        path: see ``path``.
        query: parameters; those that are None are left out.
        body: the JSON body.
        content_type: of the body.

    Raises:
        ApiException: the answer's status isn't one of 2xx.
        Fenced: it writes, and this replica may not write.
    """
    headers = {**client.default_headers, "Accept": JSON, "Content-Type": content_type}
    await client.update_params_for_auth(headers, None, ("BearerToken",), path, method, body)
    url = client.configuration.host + path
    parameters = {name: value for name, value in (query or {}).items() if value is not None}
    if parameters:
        url += "?" + urlencode(parameters)
    response = await client.call_api(method, url, headers, body, None, REQUEST_LIMIT)
    content: bytes = await response.read()  # type: ignore[no-untyped-call]
    if not 200 <= response.status <= 299:
        text = content.decode(errors="replace")
        raise ApiException.from_response(http_resp=response, body=text, data=None)
    answer: dict[str, Any] = json.loads(content)
    return answer
