"""Certificates whose issuance takes as long as a test wants it to."""

import asyncio
from collections import Counter

from cluster.cluster import PATIENCE, Cluster
from support.invariants import no_certificate_has_two_holders, no_certificate_is_lost
from support.operator_process import Namespace
from vercel_emulator.client import EmulatorControl
from vercel_emulator.models import Fault

COUNT = 4


class Issuing:
    """Resources in a namespace of their own, whose requests to Vercel hang until they are released.

    Half of them hang before Vercel has done its work, and it will do it whether or not somebody still waits for the
    answer; the others after it.
    """

    def __init__(self, cluster: Cluster, namespace: str, vercel: EmulatorControl) -> None:
        self.ns = Namespace(cluster, namespace)
        self._cluster = cluster
        self._vercel = vercel
        self._names = [f"site-{number}" for number in range(COUNT)]
        self._start = 0
        self._faults: list[str] = []

    async def start(self) -> None:
        """Return when Vercel has got all requests."""
        journal = await self._vercel.journal()
        self._start = journal.last
        for when in ("before", "after"):
            fault = Fault(call="issue", action="hang", when=when, times=COUNT // 2)
            self._faults.append((await self._vercel.add_fault(fault)).id)
        resources = [
            {
                "apiVersion": "vercel-operator.io/v1",
                "kind": "VercelCertificate",
                "metadata": {"name": name},
                "spec": {"cns": [self._domain(name), f"*.{self._domain(name)}"]},
            }
            for name in self._names
        ]
        manifest = {"apiVersion": "v1", "kind": "List", "items": resources}
        await asyncio.to_thread(self._cluster.apply, manifest, "--namespace", self.ns.name)
        await self._vercel.wait_for_requests("issue", journal.counts.get("issue", 0) + COUNT, within=int(PATIENCE))

    async def release(self) -> None:
        """Vercel does its work, and answers."""
        for fault in self._faults:
            await self._vercel.remove_fault(fault)
        self._faults.clear()

    async def check(self) -> None:
        """All get ready, with the one certificate that was asked for once."""
        await self.ns.run("wait", "--for=condition=Ready", "vcert", "--all", f"--timeout={PATIENCE:g}s")
        bodies = await asyncio.to_thread(self.ns.all)
        certificates = [found for found in await self._vercel.certificates() if self._is_mine(found.cns)]
        held = {body["status"]["id"]: sorted(body["spec"]["cns"]) for body in bodies}
        assert {certificate.id: sorted(certificate.cns) for certificate in certificates} == held
        assert len(held) == COUNT
        posts = [entry for entry in (await self._vercel.journal(self._start, "issue")).entries if entry.cns]
        asked = Counter(min(entry.cns, key=len) for entry in posts if entry.cns and self._is_mine(entry.cns))
        assert asked == dict.fromkeys(map(self._domain, self._names), 1)
        live = [certificate for certificate in certificates if certificate.removed_at is None]
        events = await asyncio.to_thread(self.ns.events)
        problems = [*no_certificate_is_lost(live, bodies, events), *no_certificate_has_two_holders(bodies)]
        assert not problems, "\n".join(problems)

    def _domain(self, name: str) -> str:
        return f"{name}.{self.ns.name}.example"

    def _is_mine(self, cns: list[str]) -> bool:
        return any(name.endswith(f".{self.ns.name}.example") for name in cns)
