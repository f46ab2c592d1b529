"""Requests for VercelCertificate objects.

Each write succeeds only on the object and in the state for which it was decided:

- metadata, by a merge patch with the resourceVersion (a conflict: 409);
- status, by a JSON Patch that first tests the uid, and then the attempt's id or the resourceVersion. A failed test is a
  422. A merge patch would not do: the API server accepts a wrong uid in it on the status subresource.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from kubernetes.aio.client import ApiClient

from vercel_certificate_operator.core.resource import FINALIZER, GROUP, PLURAL, VERSION, Key, Resource, Status
from vercel_certificate_operator.kube.connection import translated
from vercel_certificate_operator.kube.requests import JSON_PATCH, MERGE_PATCH, path, send

PAGE = 25
"""Objects of one page of a list. A page is in memory several times: as bytes, as text and as dictionaries.

An object can have 1.5 MB, also in fields that the operator doesn't read: 100 of 1 MB took 300 MB, 25 take 75 MB.
"""
FINALIZERS_KEPT = 10
"""Finalizers of others in what is kept of an object. There can be thousands."""
API = f"/apis/{GROUP}/{VERSION}"
FIELD_MANAGER = "vercel-certificate-operator"

Body = dict[str, Any]


class VercelCertificates:
    """The VercelCertificate objects of a cluster. All methods raise ``KubeError``."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def list(self, namespaces: Sequence[str] = (), *, selector: str | None = None) -> AsyncIterator[Body]:
        """Yields every object in these namespaces; in all namespaces if there are none."""
        for namespace in namespaces or (None,):
            token: str | None = None
            while True:
                page = await self._page(namespace, token, selector)
                for body in page["items"]:
                    yield body
                token = page["metadata"].get("continue")
                del page  # before the next one comes
                if not token:
                    break

    async def _page(self, namespace: str | None, token: str | None, selector: str | None) -> Body:
        query = {"limit": PAGE, "continue": token, "labelSelector": selector}
        where = f"namespace {namespace}" if namespace else "all namespaces"
        async with translated(f"listing {PLURAL} in {where}"):
            return await send(self._client, "GET", path(API, namespace, PLURAL), query=query)

    async def get(self, key: Key) -> Body:
        """Returns the object with this name, whatever its uid. Raises Gone if there is none."""
        async with translated(f"reading {key}"):
            return await send(self._client, "GET", path(API, key.namespace, PLURAL, key.name))

    async def add_finalizer(self, resource: Resource) -> Body:
        """Adds the operator's finalizer. Raises Conflict if anything has changed."""
        finalizers = await self._finalizers_of_others(resource)
        return await self._patch_metadata(resource, [*finalizers, FINALIZER], "adding the finalizer to")

    async def remove_finalizer(self, resource: Resource) -> Body:
        """Removes the operator's finalizer. Raises Conflict if anything has changed."""
        finalizers = await self._finalizers_of_others(resource)
        return await self._patch_metadata(resource, finalizers, "removing the finalizer from")

    async def _finalizers_of_others(self, resource: Resource) -> Sequence[str]:
        """Returns all finalizers but ours: those that are known, or, if there may be more than were kept, read again.

        The patch replaces the list. If the object has changed since the resource was seen, the patch is refused.
        """
        known = [finalizer for finalizer in resource.finalizers if finalizer != FINALIZER]
        if len(known) < FINALIZERS_KEPT:
            return known
        body = await self.get(resource.key)
        return [finalizer for finalizer in body["metadata"].get("finalizers") or () if finalizer != FINALIZER]

    async def _patch_metadata(self, resource: Resource, finalizers: Sequence[str], what: str) -> Body:
        key = resource.key
        metadata = {"uid": key.uid, "resourceVersion": resource.resource_version, "finalizers": list(finalizers)}
        where = path(API, key.namespace, PLURAL, key.name)
        return await self._patch(where, {"metadata": metadata}, MERGE_PATCH, f"{what} {key}")

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
        where = path(API, key.namespace, PLURAL, key.name, "status")
        return await self._patch(where, patch, JSON_PATCH, f"writing the status of {key}")

    async def stores(self, resource: Resource, status: Status) -> bool:
        """Returns whether the API server would store a status as it is. Nothing changes.

        Raises:
            Refused: it is another object, or the installed definition doesn't allow that status.
        """
        key = resource.key
        patch: list[Body] = [
            {"op": "test", "path": "/metadata/uid", "value": key.uid},
            {"op": "add", "path": "/status", "value": status.dump()},
        ]
        where = path(API, key.namespace, PLURAL, key.name, "status")
        body = await self._patch(where, patch, JSON_PATCH, f"checking how the status of {key} is stored", dry_run=True)
        return is_stored(body, status)

    async def _patch(self, where: str, patch: object, content_type: str, what: str, *, dry_run: bool = False) -> Body:
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        async with translated(what):
            return await send(self._client, "PATCH", where, query=query, body=patch, content_type=content_type)


def is_stored(body: Mapping[str, Any], status: Status) -> bool:
    """Returns whether the API server stored a whole status. An older definition drops fields that it doesn't know.

    What is compared is what the operator reads of it: a newer definition may add to it, or write it in another form.
    """
    stored, meant = body.get("status"), status.dump()
    return stored == meant or Status.read(stored).dump() == meant  # nearly always it is the same text
