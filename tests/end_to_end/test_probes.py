"""The probes of a real process, and of a real watch."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import kopf
import pytest

from control_plane import ControlPlane
from support.clock import TestClock
from support.operator_process import Namespace, StartOperator, ask, eventually
from support.proxy import KubeFault, KubeProxy
from vercel_certificate_operator import handlers
from vercel_certificate_operator.kube import connection
from vercel_certificate_operator.kube.connection import WatchSigns
from vercel_certificate_operator.probes import WATCH_SILENT, WATCH_STALLED, watch_goes_on, watch_is_fresh


async def test_a_replica_is_ready_whether_it_leads_or_stands_by(ns: Namespace, start_operator: StartOperator) -> None:
    flags = ("--listen=127.0.0.1:0", "--leader-elect", f"--lease-namespace={ns.name}")
    leader = await start_operator(*flags)
    await eventually("it leads", lambda: "leading:" in leader.logs())
    assert "all namespaces may use the default token" in leader.logs().splitlines()[0]
    ready = (200, "[+]list ok\n[+]watch ok\n[+]lease ok\nreadyz check passed\n")
    assert await ask(leader, "readyz") == ready
    standby = await start_operator(*flags)
    await eventually("it stands by", lambda: "standing by:" in standby.logs())
    assert await ask(standby, "readyz") == ready
    assert await ask(standby, "livez") == (200, "[+]work ok\n[+]watch ok\nlivez check passed\n")


async def test_a_replica_that_may_not_read_the_lease_is_not_ready(
    control_plane: ControlPlane, ns: Namespace, start_operator: StartOperator
) -> None:
    await ns.run("create", "role", "op", "--verb=get,list,watch,patch", "--resource=vercelcertificates")
    await ns.run("create", "rolebinding", "op", "--role=op", "--user=op")
    mine = control_plane.kubeconfig_for("op", [])
    operator = await start_operator(
        "--kubeconfig", str(mine), "--listen=127.0.0.1:0", "--leader-elect", f"--lease-namespace={ns.name}"
    )
    await eventually("it has tried", lambda: "reading the Lease" in operator.logs())
    status, text = await ask(operator, "readyz")
    assert status == 503
    assert "[-]lease failed: the Lease" in text
    assert "cannot get resource" in text
    assert (await ask(operator, "livez"))[0] == 200


async def test_a_process_that_is_paused_gives_no_answer(start_operator: StartOperator) -> None:
    operator = await start_operator("--listen=127.0.0.1:0")
    assert (await ask(operator, "livez"))[0] == 200
    operator.process.pause()
    with pytest.raises(TimeoutError):
        await ask(operator, "livez", seconds=0.5)
    operator.process.resume()
    assert (await ask(operator, "livez"))[0] == 200


class Nobody:
    """Takes what the watch tells, and makes nothing of it."""

    def seen(self, body: Mapping[str, Any]) -> None:
        pass

    def vanished(self, key: object, last: Mapping[str, Any] | None = None) -> None:
        pass


@asynccontextmanager
async def watching(proxy: KubeProxy, folder: Path, namespace: str, signs: WatchSigns) -> AsyncIterator[None]:
    """kopf's own watch of a namespace."""
    kubeconfig = proxy.kubeconfig(folder / "proxy.kubeconfig")

    async def login() -> kopf.AiohttpSession:
        return await connection.watch_session(await connection.load(kubeconfig), signs)

    stop, before = asyncio.Event(), asyncio.all_tasks()
    registry = handlers.registry(Nobody(), login)  # type: ignore[arg-type]  # all that the handlers use of a reconciler
    tasks = await kopf.spawn_tasks(
        registry=registry, settings=handlers.settings(), namespaces=[namespace], stop_flag=stop
    )
    watch = asyncio.create_task(kopf.run_tasks(tasks, ignored=before | asyncio.all_tasks()))
    try:
        yield
    finally:
        stop.set()
        await watch


async def test_a_watch_that_stalls_fails_the_probes_until_it_goes_on(
    control_plane: ControlPlane, crd: None, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "WATCH_LIMIT", 1)  # the API server ends it every second
    clock = TestClock()
    signs = WatchSigns(clock)
    fresh, alive = watch_is_fresh(signs), watch_goes_on(signs)
    await clock.advance(WATCH_SILENT + 1)
    assert fresh() is not None, "it has never been heard of"
    async with KubeProxy(control_plane).running() as proxy, watching(proxy, tmp_path, namespace, signs):
        await eventually("the watch begins", lambda: fresh() is None)
        stalled = proxy.add(KubeFault("watch", hang=True, times=None))
        await stalled.reached.wait()
        await clock.advance(WATCH_SILENT + 1)
        assert fresh() == "the API server has not answered a watch for 301 s"
        assert alive() is None
        await clock.advance(WATCH_STALLED - WATCH_SILENT)
        assert alive() == "the watch has sent no request for 601 s"
        proxy.clear()
        await eventually("the watch goes on", lambda: fresh() is None)
        assert alive() is None
