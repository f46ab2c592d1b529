"""A fleet with the trouble for every alert, and a real Prometheus that watches it.

Five operators: one has all the trouble with Vercel; one may not write; one waits for a Lease whose holder doesn't
exist; one has a Vercel whose clock is days ahead; and for one the API server drops a field of status. They are real
processes, with the real API server and the emulated Vercel.
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
from vercel_certificate_operator.core.record import (
    MOST_SUPERSEDED,
    Attempt,
    Issuance,
    Origin,
    Superseded,
    names_hash,
)
from vercel_certificate_operator.core.resource import Status
from vercel_certificate_operator.core.schema import whole_seconds
from vercel_certificate_operator.core.times import LATE_IN_LIST
from vercel_emulator.client import EmulatorControl
from vercel_emulator.models import Fault, Injection, TokenGrant

ALERTS = Path(__file__).parents[2] / "deploy" / "helm" / "vercel-certificate-operator" / "files" / "alerts.yaml"
TEAM = "team_alpha"
LISTEN = "--listen=127.0.0.1:0"
SHORT = 20.0
"""Lifetime in seconds of the certificates that are due soon."""
LONG_AGO = timedelta(hours=2)
AHEAD = 40 * 86400.0
"""Seconds by which one Vercel's clock is ahead."""
TOKENS = ("blind", "limited", "crowded")
"""Secrets with tokens that have faults of their own."""


@dataclass(frozen=True)
class Watched:
    """A Prometheus, and the operators that it watches."""

    url: str
    before: float
    """A Unix time when Prometheus ran and no operator did."""
    ns: Namespace
    operator: OperatorProcess
    """The one with the trouble at Vercel."""

    def query(self, expr: str, *, at: float | None = None) -> list[dict[str, Any]]:
        """Returns series, now or at a time, each with ``metric`` (its labels) and ``value``."""
        when = {} if at is None else {"time": str(at)}
        found: list[dict[str, Any]] = self._get("query", query=expr, **when)["result"]
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """Returns the alerts that are pending or firing."""
        found: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Returns the rules, as Prometheus has loaded and evaluated them."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def metrics(self) -> bytes:
        """Returns the operator's metrics."""
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
    """Everything runs, and all trouble exists; Prometheus may not have noticed it yet."""
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
            watched = Watched(url, before, ns, operator)
            # A counter that rises before the first scrape does not increase.
            await eventually("it is scraped", lambda: watched.query('vercel_operator_leader{job="trouble"}'))
            await self._trouble(ns, vercel)
            await self._one_that_may_not_write(vercel)
            await self._one_that_waits_for_its_lease(vercel)
            await self._one_whose_record_is_not_stored(vercel)
        await self._one_whose_vercel_is_ahead()
        return watched

    # --- processes

    async def _prometheus(self, program: Path) -> str:
        """Starts Prometheus before all operators; it reads from a file which ones there are."""
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
        """Starts a replica."""
        place = ("--namespace", ns.name, "--vercel-api-url", vercel.url, LISTEN)
        log = self.folder / f"{job}.log"
        operator = OperatorProcess(kubeconfig or self.control_plane.kubeconfig, log, *place, *flags)
        self.stack.callback(operator.process.kill)
        return operator

    async def _watch(self, job: str, operator: OperatorProcess) -> None:
        """Makes Prometheus scrape it."""
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
        for name in TOKENS:
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
        await vercel.add_fault(Fault(call="remove", token="another-crowded-token", status=400, times=None))

    async def _resources_from_before(self, ns: Namespace, vercel: EmulatorControl) -> None:
        """Creates what an earlier operator has left."""
        earlier = await self._operator("earlier", vercel, ns)
        not_new = LATE_IN_LIST.total_seconds() + 60.0
        await vercel.advance(-not_new)  # what is new may be missing from a list
        vanishing = [f"vanishes-{number}" for number in range(6)]
        for name in vanishing:
            await ns.apply(name, [f"{name}.example.com"], team={"id": TEAM})
        ids = [(await ns.ready(name))["id"] for name in vanishing]
        await vercel.advance(not_new)
        await vercel.behave(lifetime=SHORT)
        await ns.apply("old", ["old.example.com"])
        await vercel.wait_for_requests("issue", len(vanishing) + 1, finished=True, within=int(PATIENCE))
        await vercel.behave(lifetime=90 * 86400.0)
        assert await earlier.terminate() == 0
        for certificate_id in ids:
            await vercel.vanish(certificate_id)

        await self._records_from_before(ns)

    async def _records_from_before(self, ns: Namespace) -> None:
        """Creates resources with records that only hours, or another version, could have produced."""
        now = whole_seconds(datetime.now(UTC))
        attempt = Attempt(id="before", start=now - LONG_AGO, generation=1, cns=("open.example.com",))
        await ns.apply("open", ["open.example.com"], tokenSecretRef={"name": "blind", "key": "token"})
        await _write_status(ns, "open", Status(attempt=attempt).dump())

        await ns.apply("repeated", ["repeated.example.com"])
        issuance = Issuance(time=now, names_hash=names_hash(["repeated.example.com"]))
        await _write_status(ns, "repeated", Status(issuances=(issuance,) * 5).dump())

        await ns.apply("crowded", ["crowded.example.com"], tokenSecretRef={"name": "crowded", "key": "token"})
        superseded = tuple(
            Superseded(id=f"cert_{number}", origin=Origin.ISSUED.value, since=now) for number in range(MOST_SUPERSEDED)
        )
        await _write_status(ns, "crowded", Status(superseded=superseded).dump())

        await ns.apply("unreadable", ["unreadable.example.com"])
        await _write_status(ns, "unreadable", {"attempt": {"id": "a1", "outcome": "Postponed"}})

    async def _trouble(self, ns: Namespace, vercel: EmulatorControl) -> None:
        for name in ("good", "gone", "stuck", "unpaid", "nodns", "off"):
            await ns.apply(name, [f"{name}.example.com"], suspend=name == "off")
        for name in ("refused", "limited", "missing"):
            await ns.apply(name, [f"{name}.example.com"], tokenSecretRef={"name": name, "key": "token"})
        await ns.apply("no-source", ["no-source.example.com"], certificateSecretRef={"name": "nothing"})
        stuck = (await ns.ready("stuck"))["id"]
        await vercel.add_fault(Fault(call="remove", id=stuck, status=500, times=None))
        await ns.run("delete", "vcert", "stuck", "--wait=false")
        await ns.ready("good")
        await vercel.inject(Injection(cns=["good.example.com"], scope="personal:user"))

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

    async def _one_whose_vercel_is_ahead(self) -> None:
        """Its clock is wrong by days, and a certificate is due soon."""
        emulator = start_emulator(self.folder / "ahead.log")
        self.stack.callback(emulator.kill)
        async with EmulatorControl(await url_of(emulator)) as vercel:
            await vercel.advance(AHEAD)
            await vercel.behave(lifetime=SHORT)
            ns = self._namespace("ahead")
            await ns.apply("site", ["site.example.com"])
            await self._watch("ahead", await self._operator("ahead", vercel, ns))
            await ns.ready("site")

    async def _one_whose_record_is_not_stored(self, vercel: EmulatorControl) -> None:
        """An admission policy removes the attempt, as an older definition would."""
        ns = self._namespace("pruned")
        policy = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": ns.name},
            "spec": {
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns.name}},
                    "resourceRules": [
                        {
                            "apiGroups": ["vercel-operator.io"],
                            "apiVersions": ["*"],
                            "resources": ["vercelcertificates/status"],
                            "operations": ["UPDATE"],
                        }
                    ],
                },
                "matchConditions": [{"name": "attempt", "expression": "has(object.status.attempt)"}],
                "reinvocationPolicy": "Never",
                "mutations": [
                    {
                        "patchType": "JSONPatch",
                        "jsonPatch": {"expression": '[JSONPatch{op: "remove", path: "/status/attempt"}]'},
                    }
                ],
            },
        }
        binding = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": ns.name},
            "spec": {"policyName": ns.name},
        }
        for body in (policy, binding):
            await ns.run("create", "-f", "-", stdin=json.dumps(body))
        await ns.apply("site", ["pruned.example.com"])

        def is_in_force() -> bool:
            probe = ("--subresource=status", "--type=merge", "--dry-run=server", "-o", "json")
            written = ns.kubectl("patch", "vcert", "site", *probe, "-p", '{"status": {"attempt": {"id": "probe"}}}')
            return "attempt" not in json.loads(written.stdout).get("status", {})

        await eventually("the policy is in force", is_in_force)
        await self._watch("pruned", await self._operator("pruned", vercel, ns))


async def _write_status(ns: Namespace, name: str, status: dict[str, Any]) -> None:
    patch = json.dumps({"status": status})
    await ns.run("patch", "vcert", name, "--subresource=status", "--type=merge", "-p", patch)
