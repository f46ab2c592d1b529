"""A release's life on a real API server: install, upgrade, rollback, uninstall; and two of them side by side."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import tools
from chart.release import CRD, NAME, Release, installed, leads, stands_by
from control_plane import ControlPlane
from support.helm import CHART, Helm
from support.operator_process import PATIENCE, Namespace, OperatorProcess
from vercel_emulator.client import EmulatorControl

PREVIOUS = Path(__file__).parent / "previous" / "vercel-certificate-operator-0.1.0.tgz"
"""The chart of the last release, packaged by ``helm package``. Until the first release: an earlier state of the chart,
whose definition has all that today's operator records. docs/releasing.md says when it is replaced."""


@pytest.fixture(scope="module", params=[tools.helm, tools.helm_4], ids=["helm-3", "helm-4"])
def helm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Each Helm that the chart supports."""
    return Helm(request.param(), tmp_path_factory.mktemp("helm"))


@pytest.fixture
def release(helm: Helm, control_plane: ControlPlane, namespace: str) -> Iterator[Release]:
    """A release that the test installs, with the definition of VercelCertificate."""
    with installed(helm, control_plane, namespace) as release:
        yield release
    control_plane.kubectl("delete", CRD, "--ignore-not-found")


@pytest.fixture
def ns(control_plane: ControlPlane, namespace: str) -> Namespace:
    return Namespace(control_plane, namespace)


def test_certificates_survive_an_uninstall_and_are_taken_up_again(
    helm: Helm, release: Release, control_plane: ControlPlane, ns: Namespace
) -> None:
    assert "get vercelcertificates" in release.install({})
    said = release.install({"image": {"repository": "registry.example.com/operator"}, "emulator": {"enabled": True}})
    assert "can't get the image registry.example.com/operator:" in said
    assert "Check image.repository and image.tag" in said
    ns.kubectl("apply", "-f", "-", stdin=manifest("kept"))
    before = ns.get("kept")
    release("uninstall")
    assert ns.get("kept") == before
    kinds = "deployment,role,rolebinding,serviceaccount,secret,poddisruptionbudget,networkpolicy"
    assert ns.kubectl("get", kinds, "-o", "name").stdout == ""
    for kind in ("clusterrole", "clusterrolebinding"):
        assert NAME not in control_plane.kubectl("get", kind, "-o", "name").stdout

    assert "Build it (make image)" in release.install({})
    assert ns.get("kept") == before
    release("uninstall")
    # Under another name Helm has to be told that the definition which was kept is to be its own.
    other = ("install", "other", CHART, "--namespace", ns.name)
    assert "invalid ownership metadata" in helm(*other, kubeconfig=control_plane.kubeconfig, check=False)
    helm(*other, "--take-ownership", kubeconfig=control_plane.kubeconfig)
    assert ns.get("kept") == before
    helm("uninstall", "other", "--namespace", ns.name, kubeconfig=control_plane.kubeconfig)


def test_an_uninstall_takes_the_definition_with_it_where_it_is_told_to(
    release: Release, control_plane: ControlPlane, ns: Namespace
) -> None:
    release.install({"crds": {"keep": False}})
    release("uninstall", "--wait")
    assert "vercelcertificates" not in control_plane.kubectl("get", "crd", "-o", "name").stdout


async def test_without_the_definition_the_operator_ends_with_a_word_and_with_it_it_is_back(
    release: Release, control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, tmp_path: Path
) -> None:
    release.install({"log": {"format": "text"}})
    operator = release.start(tmp_path / "operator.log", vercel.url)
    try:
        await leads(operator)
        control_plane.kubectl("delete", CRD)
        assert await asyncio.to_thread(operator.process.wait, PATIENCE) == 1
        assert operator.logs().splitlines()[-1].startswith("Error: the cluster does not know VercelCertificates")
        assert "Traceback" not in operator.logs()
        assert "released the Lease" in operator.logs(), "another replica needn't wait for the Lease to run out"

        release.install({"log": {"format": "text"}})
        operator = release.start(tmp_path / "operator.log", vercel.url)
        await leads(operator)
        await ns.apply("site", ["example.com"])
        await ns.ready("site")
    finally:
        operator.process.kill()


async def test_an_upgrade_from_the_chart_before_and_back_again_loses_nothing(
    release: Release, ns: Namespace, vercel: EmulatorControl, tmp_path: Path
) -> None:
    running: list[OperatorProcess] = []

    async def roll_out() -> OperatorProcess:
        """As a Deployment does: the new pod first, then the old one's end."""
        new = release.start(tmp_path / f"operator-{len(running)}.log", vercel.url)
        running.append(new)
        if len(running) > 1:
            await stands_by(new)
            assert await running[-2].terminate() == 0
        await leads(new)
        return new

    try:
        release.install({}, chart=PREVIOUS)
        await roll_out()
        await ns.apply("first", ["first.example.com"])
        status = await ns.ready("first")

        release.install({"replicas": 2, "podDisruptionBudget": {"enabled": True}})
        assert release.deployment()["spec"]["replicas"] == 2
        await ns.apply("between", ["between.example.com"])  # the pod from before has its rights still
        await ns.ready("between")
        await roll_out()
        await ns.apply("second", ["second.example.com"])
        await ns.ready("second")

        await asyncio.to_thread(release, "rollback", "1")
        assert release.deployment()["spec"]["replicas"] == 1
        await roll_out()
        await ns.apply("third", ["third.example.com"])
        await ns.ready("third")

        assert await asyncio.to_thread(ns.status, "first") == status
        assert (await vercel.journal()).counts["issue"] == len(await vercel.certificates(live=True)) == 4
        assert await running[-1].terminate() == 0
        for operator in running:
            assert "forbidden" not in operator.logs()
    finally:
        for operator in running:
            operator.process.kill()


async def test_two_releases_of_the_same_name_serve_a_namespace_each(
    helm: Helm, release: Release, control_plane: ControlPlane, ns: Namespace, vercel: EmulatorControl, tmp_path: Path
) -> None:
    control_plane.kubectl("create", "namespace", f"{ns.name}-b")
    with installed(helm, control_plane, f"{ns.name}-b") as other:
        mark = control_plane.audit.mark()
        release.install({"watchNamespaces": [release.namespace]})
        other.install({"watchNamespaces": [other.namespace], "crds": {"enabled": False}})
        places = [Namespace(control_plane, each.namespace) for each in (release, other)]
        operators = [each.start(tmp_path / f"{each.namespace}.log", vercel.url) for each in (release, other)]
        try:
            for operator in operators:
                await leads(operator)  # both at a time: each by a Lease of its own
            for index, place in enumerate(places):
                await place.apply("site", [f"{index}.example.com"])
                await place.ready("site")
            for each, place in zip((release, other), places, strict=True):
                requests = control_plane.audit.since(mark).matching(user=each.account)
                assert {request.namespace for request in requests if request.resource} == {place.name}
            assert (await vercel.journal()).counts["issue"] == 2

            assert await operators[0].terminate() == 0
            release("uninstall")
            await places[1].apply("more", ["more.example.com"])
            await places[1].ready("more")  # the other one has all its rights still
        finally:
            for operator in operators:
                operator.process.kill()


def manifest(name: str) -> str:
    """A VercelCertificate."""
    return json.dumps(
        {
            "apiVersion": "vercel-operator.io/v1",
            "kind": "VercelCertificate",
            "metadata": {"name": name},
            "spec": {"cns": ["example.com"]},
        }
    )
