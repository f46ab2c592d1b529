"""The bare minimum: the requests of one phase and nothing else, for all resources that there are.

It watches nothing, decides nothing and caches nothing. No controller can be cheaper. It runs as a process of its own,
and prints what it used as JSON: CPU seconds, MB at the peak, seconds.
"""

import argparse
import asyncio
import json
import resource
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from stage import IN_FLIGHT, PATH, TOKEN, Kube, each

MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
FINALIZER = "vercel-operator.io/certificate"
Body = dict[str, Any]


class Bare:
    """Makes the requests."""

    def __init__(self, kube: Kube, vercel: aiohttp.ClientSession) -> None:
        """Use these connections."""
        self._kube = kube
        self._vercel = vercel

    async def create(self, body: Body) -> None:
        """Make the requests for a new certificate."""
        metadata = {"resourceVersion": body["metadata"]["resourceVersion"], "finalizers": [FINALIZER]}
        body = await self._kube.send("PATCH", _path(body), {"metadata": metadata}, MERGE)
        await self._issue(body)

    async def names(self, body: Body) -> None:
        """Make the requests after a change of names, with the removal of the old certificate."""
        old = body["status"]["id"]
        await self._remove_old(await self._issue(body), old)

    async def renew(self, body: Body) -> None:
        """Make the requests for a renewal, with the removal of the old certificate."""
        old = body["status"]["id"]
        await self._call("GET", f"/v8/certs/{old}")
        await self._remove_old(await self._issue(body), old)

    async def delete(self, body: Body) -> None:
        """Make the requests for a deletion."""
        await self._call("DELETE", f"/v8/certs/{body['status']['id']}")
        metadata = {"resourceVersion": body["metadata"]["resourceVersion"], "finalizers": None}
        await self._kube.send("PATCH", _path(body), {"metadata": metadata}, MERGE)
        await self._event(body, "Removed")

    async def list_all(self) -> None:
        """List Vercel's certificates once."""
        path = "/v8/certs?limit=100"
        while True:
            page = await self._call("GET", path)
            if page["pagination"]["next"] is None:
                return
            path = f"/v8/certs?limit=100&until={page['pagination']['next']}"

    async def _issue(self, body: Body) -> Body:
        status = dict(body.get("status") or {})
        condition = {"reason": "FirstIssue", "message": "Requesting a certificate.", "observedGeneration": 1}
        condition["lastTransitionTime"] = now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        attempt = {"id": secrets.token_hex(8), "start": now, "cns": body["spec"]["cns"], "reason": "FirstIssue"}
        status |= {"attempt": attempt, "conditions": [_condition("Ready", "False"), _condition("Issuing", "True")]}
        body = await self._write(body, status)
        issued = await self._call("POST", "/v8/certs", {"cns": body["spec"]["cns"]})
        status = dict(body["status"]) | {
            "id": issued["id"],
            "origin": "Issued",
            "cns": sorted(issued["cns"]),
            "createdAt": _time(issued["createdAt"]),
            "expiresAt": _time(issued["expiresAt"]),
            "attempt": {**attempt, "outcome": "Issued"},
            "conditions": [_condition("Ready", "True"), _condition("Issuing", "False")],
        }
        body = await self._write(body, status)
        await self._event(body, "Issued")
        return body

    async def _remove_old(self, body: Body, old: str) -> None:
        await self._call("DELETE", f"/v8/certs/{old}")
        await self._write(body, body["status"])

    async def _write(self, body: Body, status: Body) -> Body:
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": body["metadata"]["uid"]},
            {"op": "test", "path": "/metadata/resourceVersion", "value": body["metadata"]["resourceVersion"]},
            {"op": "add", "path": "/status", "value": status},
        ]
        answer: Body = await self._kube.send("PATCH", f"{_path(body)}/status", patch, JSON_PATCH)
        return answer

    async def _event(self, body: Body, reason: str) -> None:
        metadata = body["metadata"]
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"namespace": metadata["namespace"], "name": f"{metadata['name']}.{secrets.token_hex(8)}"},
            "eventTime": now,
            "reportingController": "vercel-operator.io/bare",
            "reportingInstance": "bare",
            "type": "Normal",
            "reason": reason,
            "action": "Issue",
            "note": f"{reason} a certificate for {', '.join(body['spec']['cns'])}.",
            "regarding": {
                "apiVersion": body["apiVersion"],
                "kind": body["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }
        await self._kube.send("POST", f"/apis/events.k8s.io/v1/namespaces/{metadata['namespace']}/events", event)

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        async with self._vercel.request(method, path, json=body) as answer:
            answer.raise_for_status()
            return await answer.json()


def _condition(kind: str, status: str) -> Body:
    return {
        "type": kind,
        "status": status,
        "reason": "Issued" if status == "True" else "FirstIssue",
        "message": "A certificate for these names is requested, or was issued.",
        "observedGeneration": 1,
        "lastTransitionTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _time(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))


def _path(body: Body) -> str:
    return f"{PATH.format(body['metadata']['namespace'])}/{body['metadata']['name']}"


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def run(phase: str, kubeconfig: Path, url: str) -> dict[str, float]:
    """Make the requests of a phase for all resources. Returns what that took."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with (
        Kube(kubeconfig, "bare") as kube,
        aiohttp.ClientSession(url, headers=headers, connector=connector) as vercel,
    ):
        bare = Bare(kube, vercel)
        bodies = await kube.objects()
        cpu, began = _cpu(), time.monotonic()
        if phase in ("create", "renew"):
            await bare.list_all()
        act: dict[str, Callable[[Body], Awaitable[None]]] = {
            "create": bare.create,
            "names": bare.names,
            "renew": bare.renew,
            "delete": bare.delete,
        }
        await each(bodies, act[phase])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"cpu": _cpu() - cpu, "peak": peak, "seconds": time.monotonic() - began}


def main() -> None:
    """Run one phase."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("phase", choices=("create", "names", "renew", "delete"))
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("vercel")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(run(options.phase, options.kubeconfig, options.vercel))))


if __name__ == "__main__":
    main()
