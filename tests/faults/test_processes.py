"""A few rows with the operator, the emulator, the API server and etcd as processes of their own."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import pytest

from control_plane import ControlPlane
from support.emulator_process import emulator_process
from support.invariants import condition
from support.operator_process import Namespace, OperatorProcess, eventually
from support.proxy import Kind, KubeFault, KubeProxy
from vercel_emulator.client import EmulatorControl
from vercel_emulator.models import Fault

PAIRS = 60


@dataclass
class Cluster:
    """Everything that a row needs; the operator reaches the API server through the proxy."""

    control_plane: ControlPlane
    proxy: KubeProxy
    vercel: EmulatorControl
    ns: Namespace
    folder: Path
    started: list[OperatorProcess] = field(default_factory=list)

    async def operator(self, *flags: str) -> OperatorProcess:
        kubeconfig = self.proxy.kubeconfig(self.folder / "proxy.kubeconfig")
        flags = ("--namespace", self.ns.name, "--vercel-api-url", self.vercel.url, *flags)
        operator = OperatorProcess(kubeconfig, self.folder / "operator.log", *flags, preloaded=True)
        self.started.append(operator)
        await operator.serving()
        return operator


@pytest.fixture
async def cluster(control_plane: ControlPlane, crd: None, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with (
        KubeProxy(control_plane).running() as proxy,
        emulator_process(tmp_path / "emulator.log") as vercel,
    ):
        namespace = f"test-{secrets.token_hex(4)}"
        await proxy.create_namespace(namespace)
        made = Cluster(control_plane, proxy, vercel, Namespace(control_plane, namespace), tmp_path)
        try:
            yield made
        finally:
            for operator in made.started:
                operator.process.kill()
            print((tmp_path / "operator.log").read_text())


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


async def test_a_watch_that_has_expired_starts_again(cluster: Cluster) -> None:
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


# --- two operators without leader election ----------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["attempt", "issue", "outcome"])
async def test_an_operator_that_was_stopped_goes_on_after_another_has_found_its_certificate(
    cluster: Cluster, moment: str
) -> None:
    """SIGSTOP, as for a suspended virtual machine. Neither of them issues a second certificate."""
    stopped = await cluster.operator()
    if moment == "issue":
        hang = await cluster.vercel.add_fault(Fault(call="issue", action="hang", when="after"))
    else:
        write = cluster.proxy.add(
            KubeFault(cast(Kind, moment), "after" if moment == "attempt" else "before", hang=True)
        )
    await cluster.ns.apply("site", ["example.com"])
    await (cluster.vercel.wait_for_fault(hang.id) if moment == "issue" else asyncio.wait_for(write.reached.wait(), 30))
    stopped.process.pause()
    cluster.proxy.clear()

    other = await cluster.operator()
    if moment == "attempt":
        await not_known_whether_it_was_sent(cluster, posts=0)
    elif moment == "issue":
        await one_certificate(cluster)
        await cluster.vercel.release(hang.id)
    stopped.process.resume()
    await one_certificate(cluster)
    before = await asyncio.to_thread(cluster.ns.status, "site")
    await cluster.ns.run("annotate", "vcert", "site", "vercel-operator.io/renew=now")
    await eventually("it is renewed, by one of them", lambda: cluster.ns.status("site").get("id") != before["id"])
    await cluster.ns.apply("other", ["other.example.com"])
    await cluster.ns.ready("other")
    assert (await cluster.vercel.journal()).counts["issue"] == 3
    assert stopped.process.running
    assert other.process.running


async def test_stripped_deleted_killed_and_created_again_during_a_post_whose_answer_is_lost(cluster: Cluster) -> None:
    """``kubectl replace --force``, a stripped finalizer and SIGKILL at once: the certificate is used all the same."""
    operator = await cluster.operator()
    hang = await cluster.vercel.add_fault(Fault(call="issue", action="hang", when="after"))
    await cluster.ns.apply("site", ["example.com"])
    await cluster.vercel.wait_for_fault(hang.id)
    await operator.kill()
    await cluster.vercel.release(hang.id, "drop")
    await cluster.ns.run("patch", "vcert", "site", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    manifest = json.dumps(
        {
            "apiVersion": "vercel-operator.io/v1",
            "kind": "VercelCertificate",
            "metadata": {"name": "site"},
            "spec": {"cns": ["example.com"]},
        }
    )
    await cluster.ns.run("replace", "--force", "-f", "-", stdin=manifest)

    await cluster.operator()
    await one_certificate(cluster)
    assert (await asyncio.to_thread(cluster.ns.status, "site"))["origin"] == "Found", "nobody knows that it is ours"
    await cluster.ns.event("Reused")


async def test_replaced_during_a_post_and_killed_the_certificate_is_found(cluster: Cluster) -> None:
    """``kubectl replace`` (Argo CD with Replace=true) takes the finalizer away. What is in status stays."""
    operator = await cluster.operator()
    hang = await cluster.vercel.add_fault(Fault(call="issue", action="hang", when="after"))
    await cluster.ns.apply("site", ["example.com"])
    await cluster.vercel.wait_for_fault(hang.id)
    manifest = await asyncio.to_thread(cluster.ns.get, "site")
    assert manifest is not None
    del manifest["status"]
    manifest["metadata"] = {"name": "site"}
    await cluster.ns.run("replace", "-f", "-", stdin=json.dumps(manifest))
    await operator.kill()
    await cluster.vercel.release(hang.id, "drop")

    await cluster.operator()
    await one_certificate(cluster)
    assert (await asyncio.to_thread(cluster.ns.status, "site"))["origin"] == "Issued"
    await eventually("it is protected again", lambda: (cluster.ns.get("site") or {})["metadata"].get("finalizers"))


@pytest.mark.parametrize("replicas", [1, 2])
async def test_sixty_pairs_with_the_same_names_get_sixty_certificates(cluster: Cluster, replicas: int) -> None:
    """Only one replica works: for two resources with the same names, no record fences one of them off."""
    elect = ("--leader-elect", f"--lease-namespace={cluster.ns.name}") if replicas > 1 else ()
    for _ in range(replicas):
        await cluster.operator(*elect)
    items = [
        {
            "apiVersion": "vercel-operator.io/v1",
            "kind": "VercelCertificate",
            "metadata": {"name": f"{name}-{number}"},
            "spec": {"cns": [f"s{number}.example.com"]},
        }
        for number in range(PAIRS)
        for name in ("one", "other")
    ]
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    await cluster.ns.run("create", "-f", "-", stdin=manifest)

    def reasons() -> Counter[str]:
        found = (condition(body, "Ready") for body in cluster.ns.all())
        return Counter(str(ready.get("reason")) for ready in found)

    wanted = {"Issued": PAIRS, "DuplicateOf": PAIRS}
    await eventually("each pair has one", lambda: reasons() == wanted, seconds=120)
    assert len(await cluster.vercel.certificates()) == PAIRS
    assert (await cluster.vercel.journal()).counts["issue"] == PAIRS
