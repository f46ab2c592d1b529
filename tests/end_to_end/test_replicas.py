"""Several replicas, of which one works; and several releases side by side."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from control_plane import ControlPlane
from support.operator_process import PATIENCE, TOKEN, Namespace, OperatorProcess, ask, eventually
from support.proxy import KubeFault, KubeProxy
from vercel_emulator.client import EmulatorControl
from vercel_emulator.models import Fault

LEASE = 5
"""Seconds; the shortest that can be set."""

LISTEN = "--listen=127.0.0.1:0"

StartReplica = Callable[..., OperatorProcess]


@pytest.fixture
async def start_replica(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, tmp_path: Path
) -> AsyncIterator[StartReplica]:
    """Starts a replica with a log of its own, and doesn't wait for anything."""
    started: list[OperatorProcess] = []

    def start(*args: str) -> OperatorProcess:
        common = ("--namespace", ns.name, "--vercel-api-url", vercel.url, "--leader-elect")
        lease = ("--lease-namespace", ns.name, f"--lease-duration={LEASE}")
        log = tmp_path / f"replica-{len(started)}.log"
        started.append(OperatorProcess(control_plane.kubeconfig, log, *common, *lease, *args, preloaded=True))
        return started[-1]

    yield start
    for number, replica in enumerate(started):
        replica.process.kill()
        print(f"replica {number}:\n{replica.logs()}")
        assert TOKEN not in replica.logs()
        assert "Traceback" not in replica.logs()


async def leads(replica: OperatorProcess) -> None:
    await eventually("the replica leads", lambda: "leading:" in replica.logs() or not replica.process.running)
    assert replica.process.running, replica.logs()


async def stands_by(replica: OperatorProcess) -> None:
    await eventually("the replica stands by", lambda: "standing by:" in replica.logs())


async def ended(replica: OperatorProcess) -> int:
    return await asyncio.to_thread(replica.process.wait, PATIENCE)


def lease(ns: Namespace, name: str = "vercel-certificate-operator") -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(ns.kubectl("get", "lease", name, "-o", "json").stdout)["spec"]
    return spec


@pytest.fixture
async def pair(start_replica: StartReplica) -> tuple[OperatorProcess, OperatorProcess]:
    """A leader, and a standby."""
    leader = start_replica()
    await leads(leader)
    standby = start_replica()
    await stands_by(standby)
    return leader, standby


Pair = tuple[OperatorProcess, OperatorProcess]


async def hanging_issuance(ns: Namespace, vercel: EmulatorControl) -> str:
    """A certificate has been issued, and the answer is on its way for as long as the test likes."""
    fault = await vercel.add_fault(Fault(call="issue", action="hang", when="after"))
    await ns.apply("site", ["example.com"])
    await vercel.wait_for_fault(fault.id)
    return fault.id


async def one_certificate(ns: Namespace, vercel: EmulatorControl) -> None:
    """Ready, with the only certificate that was ever asked for."""
    status = await ns.ready("site")
    (certificate,) = await vercel.certificates()
    assert status["id"] == certificate.id
    assert certificate.removed_at is None
    assert (await vercel.journal()).counts["issue"] == 1


async def test_one_leads_and_the_others_change_nothing(ns: Namespace, vercel: EmulatorControl, pair: Pair) -> None:
    leader, standby = pair
    await ns.apply("site", ["example.com"])
    await one_certificate(ns, vercel)
    assert "Requesting a certificate" in leader.logs()
    assert "Requesting a certificate" not in standby.logs()
    assert lease(ns)["holderIdentity"] in standby.logs()
    assert lease(ns)["leaseDurationSeconds"] == LEASE


async def test_a_standby_writes_nothing_and_is_ready(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, start_replica: StartReplica
) -> None:
    await leads(start_replica())
    user = f"standby-{ns.name}"
    standby = start_replica("--kubeconfig", str(control_plane.kubeconfig_for(user, ["system:masters"])), LISTEN)
    await stands_by(standby)
    await ns.apply("site", ["example.com"])
    await one_certificate(ns, vercel)
    await ns.event("Issued")
    requests = control_plane.audit.since().matching(user=user)
    assert requests.matching(verb="watch", resource="vercelcertificates")
    assert str(requests.writes()) == ""
    assert (await ask(standby, "readyz"))[0] == 200


async def test_when_the_leader_is_killed_the_other_takes_over(
    ns: Namespace, vercel: EmulatorControl, pair: Pair
) -> None:
    leader, standby = pair
    await hanging_issuance(ns, vercel)
    killed = time.monotonic()
    await leader.kill()
    await vercel.clear_faults()
    await leads(standby)
    print(f"taken over {time.monotonic() - killed:.1f} s after SIGKILL, with a lease of {LEASE} s")
    await one_certificate(ns, vercel)
    assert lease(ns)["leaseTransitions"] == 1


async def test_a_clean_stop_writes_down_what_is_under_way_and_then_gives_the_lease_back(
    ns: Namespace, vercel: EmulatorControl, pair: Pair
) -> None:
    leader, standby = pair
    fault = await hanging_issuance(ns, vercel)
    leader.process.signal(signal.SIGTERM)
    await eventually("it has heard", lambda: "SIGTERM" in leader.logs())
    renewed = lease(ns)["renewTime"]
    await eventually("the lease is still renewed", lambda: lease(ns)["renewTime"] != renewed)
    assert "leading:" not in standby.logs()
    await vercel.release(fault)
    released = time.monotonic()
    await leads(standby)
    print(f"taken over {time.monotonic() - released:.1f} s after the last record")
    assert await ended(leader) == 0
    assert "released the Lease" in leader.logs()
    await one_certificate(ns, vercel)
    assert (await vercel.journal()).counts["list"] == 1, "before the POST; there was nothing left to find out"


async def test_a_standby_that_is_stopped_leaves_the_lease_alone(ns: Namespace, pair: Pair) -> None:
    leader, standby = pair
    holder = lease(ns)["holderIdentity"]
    assert await standby.terminate() == 0
    assert lease(ns)["holderIdentity"] == holder
    assert leader.process.running


async def test_a_leader_that_was_paused_writes_nothing_when_it_comes_back(
    ns: Namespace, vercel: EmulatorControl, pair: Pair
) -> None:
    leader, standby = pair
    fault = await hanging_issuance(ns, vercel)
    leader.process.pause()
    await leads(standby)
    await one_certificate(ns, vercel)
    written = await asyncio.to_thread(ns.get, "site")
    await vercel.release(fault)  # the answer waits for it when it wakes
    leader.process.resume()
    assert await ended(leader) == 1
    assert "stopping at once" in leader.logs()
    assert await asyncio.to_thread(ns.get, "site") == written
    await one_certificate(ns, vercel)
    assert standby.process.running


async def test_a_leader_that_was_paused_before_it_asked_vercel_does_not_ask_when_it_comes_back(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, start_replica: StartReplica, tmp_path: Path
) -> None:
    async with KubeProxy(control_plane).running() as proxy:
        leader = start_replica("--kubeconfig", str(proxy.kubeconfig(tmp_path / "proxy.kubeconfig")))
        await leads(leader)
        standby = start_replica()
        await stands_by(standby)
        claim = proxy.add(KubeFault("attempt", when="after", hang=True))
        await ns.apply("site", ["example.com"])
        await claim.reached.wait()  # the attempt is written, which the leader has not heard yet
        leader.process.pause()
        await leads(standby)
        await vercel.wait_for_requests("list")
        proxy.clear()
        leader.process.resume()
        assert await ended(leader) == 1
    assert (await vercel.journal()).counts["issue"] == 0, "neither of them knows yet that none was issued"
    assert standby.process.running


async def test_a_leader_that_was_paused_alone_ends_too(ns: Namespace, start_replica: StartReplica) -> None:
    leader = start_replica()
    await leads(leader)
    leader.process.pause()
    await asyncio.sleep(LEASE)  # the machine's own time: a process that stands still can't be told another
    leader.process.resume()
    assert await ended(leader) == 1
    assert "could not be renewed for" in leader.logs()


async def test_without_an_api_server_the_leader_ends_and_the_standby_leads_when_it_is_back(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, pair: Pair
) -> None:
    leader, standby = pair
    fault = await hanging_issuance(ns, vercel)
    control_plane.stop_apiserver()
    try:
        assert await ended(leader) == 1
        assert "could not be renewed for" in leader.logs()
        await vercel.release(fault)
        assert standby.process.running
    finally:
        await asyncio.to_thread(control_plane.start_apiserver)
    back = time.monotonic()
    await leads(standby)
    print(f"taken over {time.monotonic() - back:.1f} s after the API server was back")
    await one_certificate(ns, vercel)


async def test_an_api_server_that_is_soon_back_changes_nothing(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, start_replica: StartReplica
) -> None:
    patient = "--lease-duration=600"
    leader = start_replica(patient)
    await leads(leader)
    standby = start_replica(patient)
    await stands_by(standby)
    fault = await hanging_issuance(ns, vercel)
    control_plane.stop_apiserver()
    try:
        await vercel.release(fault)  # the record has to wait
    finally:
        await asyncio.to_thread(control_plane.start_apiserver)
    await one_certificate(ns, vercel)
    assert lease(ns)["leaseTransitions"] == 0
    assert "leading:" not in standby.logs()
    assert leader.process.running


async def test_a_watch_that_fails_ends_the_leader_once_what_is_under_way_is_written(
    control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, start_replica: StartReplica, tmp_path: Path
) -> None:
    async with KubeProxy(control_plane).running() as proxy:
        through_proxy = ("--kubeconfig", str(proxy.kubeconfig(tmp_path / "proxy.kubeconfig")))
        leader = start_replica("--lease-duration=600", *through_proxy)
        await leads(leader)
        fault = await hanging_issuance(ns, vercel)
        proxy.add(KubeFault("watch", status=404, times=None))
        control_plane.stop_apiserver()  # which ends the watch
        await asyncio.to_thread(control_plane.start_apiserver)
        await eventually("the watch fails", lambda: "has failed" in leader.logs())
        assert leader.process.running
        await vercel.release(fault)
        assert await ended(leader) == 1
    await one_certificate(ns, vercel)
    assert (await vercel.journal()).counts["list"] == 1, "before the POST; there was nothing left to find out"
    assert "released the Lease" in leader.logs()
    assert leader.logs().splitlines()[-1] == "Error: the watch of VercelCertificates has failed: a test wants Not Found"


async def create(ns: Namespace, name: str, **labels: str) -> None:
    """With its labels from the first moment on."""
    manifest = {
        "apiVersion": "vercel-operator.io/v1",
        "kind": "VercelCertificate",
        "metadata": {"name": name, "labels": labels},
        "spec": {"cns": [f"{name}.example.com"]},
    }
    await ns.run("create", "-f", "-", stdin=json.dumps(manifest))


async def test_two_releases_serve_disjoint_labels_side_by_side(
    ns: Namespace, vercel: EmulatorControl, start_replica: StartReplica
) -> None:
    a = start_replica("--selector=shard=a", "--lease-name=shard-a")
    b = start_replica("--selector=shard notin (a)", "--lease-name=shard-b")
    await asyncio.gather(leads(a), leads(b))
    await create(ns, "one", shard="a")
    await create(ns, "two", shard="b")
    await create(ns, "three")
    await asyncio.gather(*(ns.ready(name) for name in ("one", "two", "three")))
    asked = [line.split()[2] for line in a.logs().splitlines() if "Requesting a certificate" in line]
    assert asked == [f"{ns.name}/one:"]
    assert (await vercel.journal()).counts["issue"] == 3


async def test_a_resource_that_changes_hands_while_its_certificate_is_issued_keeps_it(
    ns: Namespace, vercel: EmulatorControl, start_replica: StartReplica
) -> None:
    a = start_replica("--selector=shard!=b", "--lease-name=shard-a", LISTEN)
    await leads(a)
    fault = await hanging_issuance(ns, vercel)
    await ns.run("label", "vcert", "site", "shard=b")
    await eventually("it hears of the label", lambda: 'name="site"' not in asyncio.run(ask(a, "metrics"))[1])
    await vercel.release(fault)
    await eventually("the first one leaves it", lambda: "no longer matches the selector" in a.logs())
    assert "outcome" not in ns.status("site")["attempt"]
    assert await vercel.certificates(live=True)

    await leads(start_replica("--selector=shard in (b)", "--lease-name=shard-b"))
    await one_certificate(ns, vercel)


async def test_what_the_selector_does_not_fit_is_not_touched(
    ns: Namespace, vercel: EmulatorControl, start_replica: StartReplica
) -> None:
    await leads(start_replica("--selector=shard=a"))
    await create(ns, "other")
    await create(ns, "site", shard="a")
    other = await asyncio.to_thread(ns.get, "other")
    await ns.ready("site")
    await ns.run("label", "vcert", "site", "shard-")
    await ns.run("delete", "vcert", "site", "--wait=false")
    await create(ns, "next", shard="a")
    await ns.ready("next")
    assert await asyncio.to_thread(ns.get, "other") == other
    assert len(await vercel.certificates(live=True)) == 2, "nothing was removed, though it is to be deleted"
    assert (await vercel.journal()).counts["issue"] == 2

    await ns.run("label", "vcert", "site", "shard=a")
    await eventually("it is gone", lambda: ns.get("site") is None)
    assert len(await vercel.certificates(live=True)) == 1
