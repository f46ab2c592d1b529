"""A few rows with the operator, the emulator, the API server and etcd as processes of their own."""

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from control_plane import ControlPlane, Process
from support.operator_process import TOKEN, Namespace, OperatorProcess, eventually
from support.proxy import Kind, KubeFault, KubeProxy
from vercel_emulator.client import EmulatorControl
from vercel_emulator.models import Fault


@dataclass
class Cluster:
    """Everything that a row needs; the operator reaches the API server through the proxy."""

    control_plane: ControlPlane
    proxy: KubeProxy
    vercel: EmulatorControl
    ns: Namespace
    folder: Path
    started: list[OperatorProcess] = field(default_factory=list)

    async def operator(self) -> OperatorProcess:
        kubeconfig = self.proxy.kubeconfig(self.folder / "proxy.kubeconfig")
        flags = ("--namespace", self.ns.name, "--vercel-api-url", self.vercel.url)
        operator = OperatorProcess(kubeconfig, self.folder / "operator.log", *flags)
        self.started.append(operator)
        await operator.serving()
        return operator


@pytest.fixture
async def cluster(control_plane: ControlPlane, crd: None, tmp_path: Path) -> AsyncIterator[Cluster]:
    log = tmp_path / "emulator.log"
    process = Process(
        (sys.executable, "-m", "vercel_certificate_operator", "emulate", "--port", "0", "--token", TOKEN), log=log
    )
    found = "listening on "
    try:
        await eventually("the emulator listens", lambda: found in log.read_text() or not process.running)
        url = next(line for line in log.read_text().splitlines() if found in line).split(found)[1].split()[0]
        async with KubeProxy(control_plane).running() as proxy, EmulatorControl(url) as vercel:
            namespace = f"test-{secrets.token_hex(4)}"
            await proxy.create_namespace(namespace)
            made = Cluster(control_plane, proxy, vercel, Namespace(control_plane, namespace), tmp_path)
            try:
                yield made
            finally:
                for operator in made.started:
                    operator.process.kill()
                print((tmp_path / "operator.log").read_text())
    finally:
        process.kill()


async def one_certificate(cluster: Cluster, name: str = "site") -> None:
    """The end state: ready, with the only certificate that was ever issued."""
    status = await cluster.ns.ready(name)
    (certificate,) = await cluster.vercel.certificates()
    assert status["id"] == certificate.id
    assert (await cluster.vercel.journal()).counts["issue"] == 1


WHEN: list[Literal["before", "after"]] = ["before", "after"]


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("kind", ["hold", "attempt", "outcome"])
async def test_killed_at_a_write(cluster: Cluster, kind: Kind, when: Literal["before", "after"]) -> None:
    operator = await cluster.operator()
    fault = cluster.proxy.add(KubeFault(kind, when, hang=True))
    await cluster.ns.apply("site", ["example.com"])
    await asyncio.wait_for(fault.reached.wait(), 30)
    await operator.kill()
    cluster.proxy.clear()

    await cluster.operator()
    if (kind, when) == ("attempt", "after"):
        await not_known_whether_it_was_sent(cluster, posts=0)
    else:
        await one_certificate(cluster)


async def test_killed_at_a_post_that_vercel_has_not_begun(cluster: Cluster) -> None:
    operator = await cluster.operator()
    fault = await cluster.vercel.add_fault(Fault(call="issue", action="hang"))
    await cluster.ns.apply("site", ["example.com"])
    await cluster.vercel.wait_for_fault(fault.id)
    await operator.kill()
    await cluster.vercel.release(fault.id, "drop")

    await cluster.operator()
    await not_known_whether_it_was_sent(cluster, posts=1)


async def not_known_whether_it_was_sent(cluster: Cluster, *, posts: int) -> None:
    """It is looked for until the grace is over, and not asked for again."""
    assert (await cluster.ns.reason("site", "Issuing", "OutcomeUnknown"))["status"] == "True"
    assert (await cluster.vercel.journal()).counts["issue"] == posts
    assert await cluster.vercel.certificates() == []


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("step", ["remove", "release"])
async def test_killed_at_a_deletion(cluster: Cluster, step: str, when: Literal["before", "after"]) -> None:
    operator = await cluster.operator()
    await cluster.ns.apply("site", ["example.com"])
    await cluster.ns.ready("site")
    if step == "remove":
        hang = await cluster.vercel.add_fault(Fault(call="remove", action="hang", when=when))
        await cluster.ns.run("delete", "vcert", "site", "--wait=false")
        await cluster.vercel.wait_for_fault(hang.id)
        await operator.kill()
        await cluster.vercel.release(hang.id, "drop")
    else:
        fault = cluster.proxy.add(KubeFault("release", when, hang=True))
        await cluster.ns.run("delete", "vcert", "site", "--wait=false")
        await asyncio.wait_for(fault.reached.wait(), 30)
        await operator.kill()
        cluster.proxy.clear()

    await cluster.operator()
    await eventually("it is gone", lambda: cluster.ns.get("site") is None)
    assert await cluster.vercel.certificates(live=True) == []


async def test_etcd_hangs_at_the_write_ahead_and_goes_on(cluster: Cluster) -> None:
    await cluster.operator()
    fault = cluster.proxy.add(KubeFault("attempt", hang=True))
    await cluster.ns.apply("site", ["example.com"])
    await asyncio.wait_for(fault.reached.wait(), 30)
    cluster.control_plane.pause_etcd()
    try:
        cluster.proxy.clear()
        await eventually("it is being written", lambda: cluster.proxy.passed_on["attempt"] > 0)
        assert (await cluster.vercel.journal()).counts["issue"] == 0
    finally:
        cluster.control_plane.resume_etcd()
    await one_certificate(cluster)


async def test_the_api_server_stops_during_a_post_and_starts_again(cluster: Cluster) -> None:
    await cluster.operator()
    fault = await cluster.vercel.add_fault(Fault(call="issue", action="hang", when="after"))
    await cluster.ns.apply("site", ["example.com"])
    await cluster.vercel.wait_for_fault(fault.id)
    await asyncio.to_thread(cluster.control_plane.stop_apiserver)
    await cluster.vercel.release(fault.id)
    await cluster.vercel.wait_for_requests("issue", finished=True)
    await asyncio.to_thread(cluster.control_plane.start_apiserver)
    await one_certificate(cluster)

    await cluster.ns.apply("other", ["other.example.com"])  # the watch is back too
    await cluster.ns.ready("other")


async def test_etcd_hangs_during_a_post_and_goes_on(cluster: Cluster) -> None:
    await cluster.operator()
    fault = await cluster.vercel.add_fault(Fault(call="issue", action="hang", when="after"))
    await cluster.ns.apply("site", ["example.com"])
    await cluster.vercel.wait_for_fault(fault.id)
    writes = cluster.proxy.counts["outcome"]
    cluster.control_plane.pause_etcd()
    try:
        await cluster.vercel.release(fault.id)
        await eventually("a status is being written", lambda: cluster.proxy.counts["outcome"] > writes)
    finally:
        cluster.control_plane.resume_etcd()
    await one_certificate(cluster)


async def test_a_watch_that_says_nothing_delays_and_breaks_nothing(cluster: Cluster) -> None:
    await cluster.operator()
    await cluster.ns.apply("first", ["first.example.com"])
    await cluster.ns.ready("first")
    cluster.proxy.flowing.clear()
    await cluster.ns.apply("second", ["second.example.com"])
    await cluster.ns.run("label", "vcert", "first", "seen=not-by-the-watch")
    await cluster.ns.run("delete", "vcert", "first", "--wait=false")
    cluster.proxy.flowing.set()
    await cluster.ns.ready("second")
    await eventually("it is gone", lambda: cluster.ns.get("first") is None)


async def test_a_watch_that_has_expired_starts_anew(cluster: Cluster) -> None:
    """410 on the next watch: kopf lists again, and tells nothing of what was deleted meanwhile."""
    await cluster.operator()
    for name in ("stays", "goes"):
        await cluster.ns.apply(name, [f"{name}.example.com"])
        await cluster.ns.ready(name)
    cluster.proxy.flowing.clear()
    free = json.dumps({"metadata": {"finalizers": None}})
    await cluster.ns.run("patch", "vcert", "goes", "--type=merge", "-p", free)
    await cluster.ns.run("delete", "vcert", "goes")
    await asyncio.to_thread(cluster.control_plane.stop_apiserver)
    await asyncio.to_thread(cluster.control_plane.compact)
    await asyncio.to_thread(cluster.control_plane.start_apiserver)
    cluster.proxy.flowing.set()

    await cluster.ns.apply("new", ["new.example.com"])
    await cluster.ns.ready("new")
    await cluster.ns.run("annotate", "vcert", "stays", "vercel-operator.io/renew=now")
    await eventually("it is renewed", lambda: cluster.ns.status("stays").get("lastRenewRequest") == "now")
