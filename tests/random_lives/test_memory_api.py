"""The stand-in of the API server answers as the real one does, as far as the operator can tell."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient, ApiException, CustomObjectsApi

from control_plane import ControlPlane
from support.clock import TestClock
from support.memory_api import MemoryApi
from vercel_certificate_operator.core.resource import FINALIZER, GROUP, KIND, PLURAL, VERSION
from vercel_certificate_operator.kube import connection

MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
Body = dict[str, Any]
ATTEMPT = f"{GROUP}/attempt"


class Server:
    """One API server, and what was answered, without what differs from run to run."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self._api = CustomObjectsApi(client)
        self._place = (GROUP, VERSION, namespace, PLURAL)
        self.last: Body = {}
        self.answers: list[Any] = []

    async def create(self, **metadata: Any) -> None:
        spec = {"cns": ["example.com"], "tokenSecretRef": {"name": "vercel"}}
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": "site", **metadata},
            "spec": spec,
        }
        await self._note(self._api.create_namespaced_custom_object(*self._place, body))

    async def patch(self, patch: Any, *, status: bool = False) -> None:
        kind = JSON_PATCH if isinstance(patch, list) else MERGE
        method = self._api.patch_namespaced_custom_object
        if status:
            method = self._api.patch_namespaced_custom_object_status
        await self._note(method(*self._place, "site", patch, _content_type=kind))

    async def delete(self) -> None:
        await self._note(self._api.delete_namespaced_custom_object(*self._place, "site"))

    async def get(self) -> None:
        await self._note(self._api.get_namespaced_custom_object(*self._place, "site"))

    async def list(self) -> None:
        found: Any = await self._api.list_namespaced_custom_object(*self._place)
        self.answers.append([_plain(item) for item in found["items"]])

    def now(self, name: str) -> Any:
        """Of the metadata as it was answered last."""
        return self.last["metadata"][name]

    async def _note(self, call: Awaitable[Any]) -> None:
        before = self.last
        try:
            answer = await call
        except ApiException as error:
            self.answers.append(error.status)
            return
        if answer.get("kind") != KIND:
            self.answers.append(answer.get("status"))
            return
        self.last = answer
        same = before and before["metadata"]["resourceVersion"] == answer["metadata"]["resourceVersion"]
        self.answers.append(["unchanged" if same else "changed", _plain(answer)])


def _plain(body: Body) -> Body:
    plain: Body = json.loads(json.dumps(body))
    for name in ("uid", "resourceVersion", "managedFields", "creationTimestamp", "namespace"):
        plain["metadata"].pop(name, None)
    if "deletionTimestamp" in plain["metadata"]:
        plain["metadata"]["deletionTimestamp"] = "some time"
    return plain


async def _life(server: Server) -> None:
    await server.get()
    await server.create(annotations={"note": "mine"})
    await server.create()
    await server.list()
    old = server.now("resourceVersion")
    claim = {"finalizers": [FINALIZER], "annotations": {ATTEMPT: "one"}}
    await server.patch({"metadata": {"uid": server.now("uid"), "resourceVersion": old, **claim}})
    await server.patch({"metadata": {"uid": server.now("uid"), "resourceVersion": old, **claim}})
    await server.patch({"metadata": {"uid": "00000000-0000-4000-8000-999999999999", **claim}})
    await server.patch({"metadata": {**claim}})


async def _statuses(server: Server) -> None:
    await server.create(annotations={ATTEMPT: "one"})
    status = {"id": "cert_1", "cns": ["example.com"], "failedAttempts": 1}
    path = f"/metadata/annotations/{ATTEMPT.replace('/', '~1')}"
    for attempt in ("two", "one", "one"):
        tests = [("/metadata/uid", server.now("uid")), (path, attempt)]
        await server.patch(
            [
                *({"op": "test", "path": where, "value": value} for where, value in tests),
                {"op": "add", "path": "/status", "value": status},
            ],
            status=True,
        )
    await server.patch([{"op": "test", "path": "/metadata/uid", "value": "another"}], status=True)
    await server.patch({"status": {"id": "cert_2"}, "spec": {"suspend": True}}, status=True)
    await server.patch({"status": {"id": "cert_3"}, "spec": {"suspend": True}})
    await server.patch({"metadata": {"annotations": None}})
    await server.patch([{"op": "test", "path": path, "value": "one"}], status=True)
    await server.patch({"status": None}, status=True)


async def _spec_changes(server: Server) -> None:
    await server.create()
    await server.patch({"spec": {"cns": ["example.com", "www.example.com"]}})
    await server.patch({"spec": {"cns": ["example.com", "www.example.com"]}})
    await server.patch({"spec": {"renewBefore": "24h", "tokenSecretRef": None}})
    await server.patch({"spec": {"renewBefore": None, "deletionPolicy": None}})
    await server.patch({"metadata": {"labels": {"a": "b"}}})


async def _end(server: Server) -> None:
    await server.create(finalizers=[FINALIZER, "example.com/other"])
    await server.delete()
    await server.delete()
    await server.patch({"metadata": {"finalizers": [FINALIZER, "example.com/third"]}})
    await server.patch({"spec": {"deletionPolicy": "Retain"}})
    await server.patch({"metadata": {"finalizers": ["example.com/other"]}})
    await server.patch({"metadata": {"finalizers": []}})
    await server.get()
    await server.delete()
    await server.create()
    await server.delete()
    await server.get()


@pytest.fixture
async def real(control_plane: ControlPlane, crd: None, namespace: str) -> AsyncIterator[Server]:
    async with connection.api_client(await connection.load(control_plane.kubeconfig)) as client:
        yield Server(client, namespace)


@pytest.mark.parametrize("course", [_life, _statuses, _spec_changes, _end])
async def test_the_stand_in_answers_as_the_real_api_server(
    real: Server, course: Callable[[Server], Awaitable[None]]
) -> None:
    stand_in = Server(MemoryApi(TestClock()).client(), "web")
    await course(real)
    await course(stand_in)
    assert stand_in.answers == real.answers
