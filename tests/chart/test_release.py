"""A release's life on a real API server, and the operator under the release's own ServiceAccount."""

import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from chart.helm import CHART, Helm
from control_plane import ControlPlane, Process
from support.operator_process import TOKEN, Namespace, OperatorProcess, eventually
from vercel_emulator.client import EmulatorControl


@pytest.fixture
async def vercel(tmp_path: Path) -> AsyncIterator[EmulatorControl]:
    """An emulated Vercel for one test."""
    log, found = tmp_path / "emulator.log", "listening on "
    command = (sys.executable, "-m", "vercel_certificate_operator", "emulate", "--port", "0", "--token", TOKEN)
    process = Process(command, log=log)
    try:
        await eventually("the emulator listens", lambda: found in log.read_text() or not process.running)
        url = next(line for line in log.read_text().splitlines() if found in line).split(found)[1].split()[0]
        async with EmulatorControl(url) as control:
            yield control
    finally:
        process.kill()


class Release:
    """A release in the test's namespace; nothing runs in its pods, since there are no nodes."""

    def __init__(self, helm: Helm, control_plane: ControlPlane, namespace: str) -> None:
        self._helm, self._kubeconfig, self.namespace = helm, control_plane.kubeconfig, namespace

    def __call__(self, verb: str, *args: str | Path) -> str:
        return self._helm(verb, "vco", *args, "--namespace", self.namespace, kubeconfig=self._kubeconfig)

    def install(self, values: dict[str, Any]) -> str:
        return self("upgrade", "--install", CHART, "--values", self._helm.values(values))


@pytest.fixture
def release(helm: Helm, control_plane: ControlPlane, namespace: str) -> Iterator[Release]:
    release = Release(helm, control_plane, namespace)
    yield release
    release("uninstall", "--ignore-not-found")
    control_plane.kubectl("delete", "crd", "vercelcertificates.vercel-operator.io", "--ignore-not-found")


def test_certificates_survive_an_uninstall(release: Release, control_plane: ControlPlane) -> None:
    ns = Namespace(control_plane, release.namespace)
    assert "get vercelcertificates" in release.install({})
    ns.kubectl("wait", "--for=condition=Established", "crd/vercelcertificates.vercel-operator.io", "--timeout=30s")
    manifest = {
        "apiVersion": "vercel-operator.io/v1",
        "kind": "VercelCertificate",
        "metadata": {"name": "kept"},
        "spec": {"cns": ["example.com"]},
    }
    ns.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    def replicas() -> str:
        shown = ns.kubectl("get", "deployment", "vco-vercel-certificate-operator", "-o", "jsonpath={.spec.replicas}")
        return shown.stdout

    release.install({"replicas": 2})
    assert replicas() == "2"
    release("rollback", "1")
    assert replicas() == "1"
    release("uninstall")
    assert ns.get("kept") is not None
    left = ns.kubectl("get", "deployment,role,rolebinding,serviceaccount,secret", "-o", "name").stdout
    assert left == ""
    release.install({})  # and takes up again what was kept
    assert ns.get("kept") is not None


@pytest.mark.parametrize("namespaced", [True, False], ids=["namespaced", "cluster-wide"])
async def test_the_operator_does_its_work_with_the_rights_of_the_chart(
    release: Release, control_plane: ControlPlane, vercel: EmulatorControl, tmp_path: Path, *, namespaced: bool
) -> None:
    ns = Namespace(control_plane, release.namespace)
    release.install({"watchNamespaces": [ns.name] if namespaced else [], "tokenSecrets": {"names": ["my-token"]}})
    ns.kubectl("wait", "--for=condition=Established", "crd/vercelcertificates.vercel-operator.io", "--timeout=30s")
    await ns.run("create", "secret", "generic", "my-token", f"--from-literal=token={TOKEN}")
    kubeconfig = control_plane.kubeconfig_for_service_account("vco-vercel-certificate-operator", ns.name)
    watched = ("--namespace", ns.name) if namespaced else ()
    operator = OperatorProcess(kubeconfig, tmp_path / "operator.log", "--vercel-api-url", vercel.url, *watched)
    try:
        await operator.serving()
        await ns.apply("plain", ["example.com"])
        await ns.apply("own-token", ["example.org"], tokenSecretRef={"name": "my-token", "key": "token"})
        first = await ns.ready("plain")
        await ns.ready("own-token")
        await ns.run("annotate", "vcert", "plain", "vercel-operator.io/renew=now")
        await eventually("it is renewed", lambda: ns.status("plain")["id"] != first["id"])
        await ns.event("Issued")
        await ns.run("delete", "vcert", "--all", "--timeout=30s")
        assert "forbidden" not in operator.logs().lower()
        assert await operator.terminate() == 0
    finally:
        operator.process.kill()
