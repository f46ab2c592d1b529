"""Requests for VercelCertificate objects.

Every write can land only on the object, and on the state of it, that it was decided for:

- metadata, by a merge patch with the resourceVersion (a conflict: 409);
- status, by a JSON Patch that first tests the uid, and then the attempt's id or the resourceVersion. A failed test is a
  422. A merge patch would not do: the API server accepts a wrong uid in it on the status subresource.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

from kubernetes.aio.client import ApiClient, CustomObjectsApi

from vercel_certificate_operator.core.resource import FINALIZER, GROUP, PLURAL, VERSION, Key, Resource, Status
from vercel_certificate_operator.kube.connection import REQUEST_LIMIT, translated

PAGE = 500
FIELD_MANAGER = "vercel-certificate-operator"

Body = dict[str, Any]


class VercelCertificates:
    """The VercelCertificate objects of a cluster. All methods raise ``KubeError``."""

    def __init__(self, client: ApiClient) -> None:
        self._api = CustomObjectsApi(client)

    async def list(self, namespaces: Sequence[str] = (), *, selector: str | None = None) -> AsyncIterator[Body]:
        """Every object in these namespaces (none: all)."""
        for namespace in namespaces or (None,):
            token: str | None = None
            while True:
                page = await self._page(namespace, token, selector)
                for body in page["items"]:
                    yield body
                token = page["metadata"].get("continue")
                if not token:
                    break

    async def _page(self, namespace: str | None, token: str | None, selector: str | None) -> Body:
        options: dict[str, Any] = {
            "limit": PAGE,
            "_continue": token,
            "label_selector": selector,
            "_request_timeout": REQUEST_LIMIT,
        }
        where = f"namespace {namespace}" if namespace else "all namespaces"
        async with translated(f"listing {PLURAL} in {where}"):
            if namespace is None:
                page: Any = await self._api.list_cluster_custom_object(GROUP, VERSION, PLURAL, **options)
            else:
                page = await self._api.list_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, **options)
        return cast(Body, page)

    async def get(self, key: Key) -> Body:
        """The object of this name, whatever its uid. Raises Gone where there is none."""
        async with translated(f"reading {key}"):
            body: Any = await self._api.get_namespaced_custom_object(
                GROUP, VERSION, key.namespace, PLURAL, key.name, _request_timeout=REQUEST_LIMIT
            )
        return cast(Body, body)

    async def add_finalizer(self, resource: Resource) -> Body:
        """Adds our finalizer. Raises Conflict if anything has changed."""
        return await self._patch_metadata(resource, [*resource.finalizers, FINALIZER], "adding the finalizer to")

    async def remove_finalizer(self, resource: Resource) -> Body:
        """Removes our finalizer. Raises Conflict if anything has changed."""
        finalizers = [finalizer for finalizer in resource.finalizers if finalizer != FINALIZER]
        return await self._patch_metadata(resource, finalizers, "removing the finalizer from")

    async def _patch_metadata(self, resource: Resource, finalizers: Sequence[str], what: str) -> Body:
        key = resource.key
        metadata = {"uid": key.uid, "resourceVersion": resource.resource_version, "finalizers": list(finalizers)}
        write = self._api.patch_namespaced_custom_object
        return await self._patch(write, key, {"metadata": metadata}, "application/merge-patch+json", f"{what} {key}")

    async def write_status(self, resource: Resource, status: Status, *, closes_attempt: bool) -> Body:
        """Replaces the status.

        Args:
            resource: the state from which it was decided.
            closes_attempt: test the attempt's id rather than the resourceVersion, so that labels and the like may have
                changed. If status was wiped meanwhile, the resourceVersion is tested.

        Raises:
            Refused: a test has failed: it is another object, another attempt, or has changed.
        """
        key, recorded = resource.key, resource.status.attempt
        tests = [("/metadata/uid", key.uid)]
        if closes_attempt and recorded is not None:
            tests.append(("/status/attempt/id", recorded.id))
        else:
            tests.append(("/metadata/resourceVersion", resource.resource_version))
        patch: list[Body] = [{"op": "test", "path": path, "value": value} for path, value in tests]
        # As a whole: a path below a status that doesn't exist is refused.
        patch.append({"op": "add", "path": "/status", "value": status.dump()})
        write = self._api.patch_namespaced_custom_object_status
        return await self._patch(write, key, patch, "application/json-patch+json", f"writing the status of {key}")

    async def _patch(
        self, write: Callable[..., Awaitable[object]], key: Key, patch: object, content_type: str, what: str
    ) -> Body:
        async with translated(what):
            body = await write(
                GROUP,
                VERSION,
                key.namespace,
                PLURAL,
                key.name,
                patch,
                field_manager=FIELD_MANAGER,
                _content_type=content_type,
                _request_timeout=REQUEST_LIMIT,
            )
        return cast(Body, body)
