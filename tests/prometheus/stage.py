"""A fleet in which everything goes wrong that there is an alert for, and a real Prometheus that watches it.

Three operators: one that has all the trouble with Vercel; one that may not write, and whose clock differs from Vercel's;
one that waits for a Lease which somebody holds who isn't there. Real ones, as processes, on the real API server and
emulated Vercels.
"""

import asyncio
import json
import secrets
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from control_plane import ControlPlane, Process
from control_plane.cluster import free_ports
from support.emulator_process import start_emulator, url_of
from support.operator_process import PATIENCE, Namespace, OperatorProcess, eventually, port_of
from vercel_certificate_operator.core.record import Attempt, Issuance, names_hash
from vercel_certificate_operator.core.resource import Status
from vercel_emulator.client import EmulatorControl
from vercel_emulator.models import Fault, Injection, TokenGrant

ALERTS = Path(__file__).parents[2] / "deploy" / "helm" / "vercel-certificate-operator" / "files" / "alerts.yaml"
TEAM = "team_alpha"
LISTEN = "--listen=127.0.0.1:0"
SHORT = 20.0
"""Seconds that the certificate lives which is not renewed."""
LONG_AGO = timedelta(hours=2)


@dataclass(frozen=True)
class Watched:
    """The Prometheus, and who it watches."""

    url: str
    before: float
    """Unix time before any operator ran, when Prometheus did."""
    ns: Namespace
    operator: OperatorProcess
    """The one with the trouble."""

    def query(self, expr: str, *, at: float | None = None) -> list[dict[str, Any]]:
        """The series that it has, now or at a time, each with ``metric`` (its labels) and ``value``."""
        when = {} if at is None else {"time": str(at)}
        found: list[dict[str, Any]] = self._get("query", query=expr, **when)["result"]
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """Those that are pending or firing."""
        found: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """As it has loaded and evaluated them."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def metrics(self) -> bytes:
        """What the operator tells."""
        return _fetch(f"http://127.0.0.1:{asyncio.run(port_of(self.operator))}/metrics")

    def _get(self, what: str, **query: str) -> dict[str, Any]:
        answer = json.loads(_fetch(f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(query)}"))
        assert answer["status"] == "success", answer
        data: dict[str, Any] = answer["data"]
        return data


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310
        content: bytes = answer.read()
    return content


@contextmanager
def staged(control_plane: ControlPlane, prometheus: Path, folder: Path) -> Iterator[Watched]:
    """Everything runs, and all trouble has been made; it may not have been noticed yet."""
    with ExitStack() as stack:
        try:
            yield asyncio.run(_Stage(control_plane, folder, stack).set(prometheus))
        finally:
            for log in folder.glob("*.log"):
                print(log.name, log.read_text(), sep="\n")


class _Stage:
    def __init__(self, control_plane: ControlPlane, folder: Path, stack: ExitStack) -> None:
        self.control_plane, self.folder, self.stack = control_plane, folder, stack
        self.targets = folder / "targets.json"
        self.jobs: list[dict[str, Any]] = []

    async def set(self, prometheus: Path) -> Watched:
        url = await self._prometheus(prometheus)
        before = time.time()
        emulator = start_emulator(self.folder / "emulator.log", f"--team={TEAM}=alpha")
        self.stack.callback(emulator.kill)
        async with EmulatorControl(await url_of(emulator)) as vercel:
            ns = self._namespace("trouble")
            await self._secrets_and_faults(ns, vercel)
            await self._resources_from_before(ns, vercel)
            operator = await self._operator("trouble", vercel, ns, "--drift-interval=2")
            await self._watch("trouble", operator)
            await self._trouble(ns, vercel)
            await self._one_that_waits_for_its_lease(vercel)
        elsewhere = start_emulator(self.folder / "emulator-ahead.log")
        self.stack.callback(elsewhere.kill)
        async with EmulatorControl(await url_of(elsewhere)) as vercel:
            await vercel.behave(date_offset=7200.0)
            await self._one_that_may_not_write(vercel)
        return Watched(url, before, ns, operator)

    # --- processes

    async def _prometheus(self, program: Path) -> str:
        """It runs before all others, and learns of them by a file."""
        self.targets.write_text("[]")
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [
                {
                    "job_name": "operators",
                    "honor_labels": True,
                    "file_sd_configs": [{"files": [str(self.targets)], "refresh_interval": "1s"}],
                }
            ],
        }
        (self.folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        (port,) = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        command = (
            program,
            f"--config.file={self.folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}",
        )
        process = Process(command, log=self.folder / "prometheus.log")
        self.stack.callback(process.kill)
        await eventually("Prometheus is ready", lambda: "Server is ready" in process.output() or not process.running)
        assert process.running, process.output()
        return url

    async def _operator(
        self, job: str, vercel: EmulatorControl, ns: Namespace, *flags: str, kubeconfig: Path | None = None
    ) -> OperatorProcess:
        """A replica, on its way."""
        place = ("--namespace", ns.name, "--vercel-api-url", vercel.url, LISTEN)
        log = self.folder / f"{job}.log"
        operator = OperatorProcess(kubeconfig or self.control_plane.kubeconfig, log, *place, *flags)
        self.stack.callback(operator.process.kill)
        return operator

    async def _watch(self, job: str, operator: OperatorProcess) -> None:
        """Prometheus is told of it."""
        self.jobs.append({"targets": [f"127.0.0.1:{await port_of(operator)}"], "labels": {"job": job}})
        fresh = self.targets.with_suffix(".new")
        fresh.write_text(json.dumps(self.jobs))
        fresh.rename(self.targets)

    def _namespace(self, what: str) -> Namespace:
        name = f"{what}-{secrets.token_hex(4)}"
        self.control_plane.kubectl("create", "namespace", name)
        return Namespace(self.control_plane, name)

    # --- trouble

    async def _secrets_and_faults(self, ns: Namespace, vercel: EmulatorControl) -> None:
        for name in ("blind", "limited"):
            token = f"another-{name}-token"
            await vercel.grant(TokenGrant(token=token, user=name))
            ns.kubectl("create", "secret", "generic", name, f"--from-literal=token={token}")
        ns.kubectl("create", "secret", "generic", "refused", "--from-literal=token=not-known-to-vercel")
        limited = {"token": "another-limited-token", "status": 429, "headers": {"Retry-After": "600"}}
        await vercel.add_fault(Fault(**limited, times=None))
        await vercel.add_fault(Fault(call="list", token="another-blind-token", status=500, times=None))
        await vercel.add_fault(Fault(call="issue", cns=["unpaid.example.com"], status=402, times=None))
        await vercel.add_fault(Fault(call="issue", cns=["nodns.example.com"], status=449, times=None))
        await vercel.add_fault(Fault(call="issue", cns=["old.example.com"], status=402, skip=1, times=None))

    async def _resources_from_before(self, ns: Namespace, vercel: EmulatorControl) -> None:
        """What an earlier operator has left."""
        earlier = await self._operator("earlier", vercel, ns)
        vanishing = [f"vanishes-{number}" for number in range(6)]
        for name in vanishing:
            await ns.apply(name, [f"{name}.example.com"], team={"id": TEAM})
        ids = [(await ns.ready(name))["id"] for name in vanishing]
        await ns.apply("late", ["late.example.com"])
        await ns.ready("late")
        await vercel.behave(lifetime=SHORT)
        await ns.apply("old", ["old.example.com"])
        await vercel.wait_for_requests("issue", len(vanishing) + 2, finished=True, within=int(PATIENCE))
        await vercel.behave(lifetime=90 * 86400.0)
        assert await earlier.terminate() == 0
        for certificate_id in ids:
            await vercel.vanish(certificate_id)

        now = datetime.now(UTC).replace(microsecond=0)
        names = ("open.example.com",)
        await ns.apply("open", [*names], tokenSecretRef={"name": "blind", "key": "token"})
        attempt = Attempt(id="before", start=now - LONG_AGO, generation=1, cns=names, reason="FirstIssue")
        await self._record(ns, "open", Status(attempt=attempt))

        names = ("again.example.com",)
        await ns.apply("again", [*names])
        issued = (Issuance(time=now, names_hash=names_hash(names)),) * 5
        await self._record(ns, "again", Status(issuances=issued))

        await vercel.inject(Injection(cns=["late.example.com"], scope="personal:user"))

    async def _record(self, ns: Namespace, name: str, status: Status) -> None:
        """Write what an earlier operator would have recorded."""
        patch = json.dumps({"status": status.dump()})
        await ns.run("patch", "vcert", name, "--subresource=status", "--type=merge", "-p", patch)

    async def _trouble(self, ns: Namespace, vercel: EmulatorControl) -> None:
        for name in ("good", "gone", "stuck", "unpaid", "nodns", "off"):
            await ns.apply(name, [f"{name}.example.com"], suspend=name == "off")
        for name in ("refused", "limited", "missing"):
            await ns.apply(name, [f"{name}.example.com"], tokenSecretRef={"name": name, "key": "token"})
        stuck = (await ns.ready("stuck"))["id"]
        await vercel.add_fault(Fault(call="remove", id=stuck, status=500, times=None))
        await ns.run("delete", "vcert", "stuck", "--wait=false")

    async def _one_that_may_not_write(self, vercel: EmulatorControl) -> None:
        ns = self._namespace("read-only")
        rights = ("--verb=get,list,watch", "--resource=vercelcertificates")
        ns.kubectl("create", "role", "reader", *rights)
        ns.kubectl("create", "rolebinding", "reader", "--role=reader", "--user=reader")
        await ns.apply("site", ["site.example.com"])
        kubeconfig = self.control_plane.kubeconfig_for("reader")
        await self._watch("read-only", await self._operator("read-only", vercel, ns, kubeconfig=kubeconfig))

    async def _one_that_waits_for_its_lease(self, vercel: EmulatorControl) -> None:
        ns = self._namespace("waits")
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "held"},
            "spec": {
                "holderIdentity": "nobody",
                "leaseDurationSeconds": 3600,
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }
        await ns.run("create", "-f", "-", stdin=json.dumps(lease))
        flags = ("--leader-elect", "--lease-name=held", f"--lease-namespace={ns.name}")
        await self._watch("waits", await self._operator("waits", vercel, ns, *flags))
