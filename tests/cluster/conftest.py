"""What ``make test-cluster`` installs in the cluster that KUBECONFIG names, and takes away again.

The emulated Vercel is a release of its own, so that it outlives whatever is done to the operator's.
"""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import container_image
from cluster.cluster import CRD, Cluster, Release
from cluster.issuing import Issuing
from support.helm import Helm
from vercel_emulator.client import EmulatorControl

TOKEN = "test-token-not-a-secret"
RUN = secrets.token_hex(3)
PREFIX = f"test-{RUN}-"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster, which must not be one that somebody uses for certificates."""
    kubeconfig = os.environ.get("KUBECONFIG")
    assert kubeconfig, "set KUBECONFIG to a kubeconfig file of a cluster for tests"
    cluster = Cluster(Path(kubeconfig).absolute(), tmp_path_factory.mktemp("cluster"))
    found = cluster.kubectl("get", "crd", CRD, "--ignore-not-found").stdout
    assert not found, f"this cluster knows VercelCertificates already, and the tests would remove them:\n{found}"
    yield cluster
    cluster.kubectl("delete", "crd", CRD, "--ignore-not-found")


@pytest.fixture(scope="session")
def image() -> dict[str, str]:
    """The image that the cluster has, as the chart's values."""
    repository, _, tag = (os.environ.get("IMAGE") or container_image.TAG).rpartition(":")
    return {"repository": repository, "tag": tag}


@pytest.fixture(scope="session")
def emulator(cluster: Cluster, helm: Helm, image: dict[str, str]) -> Iterator[Release]:
    """A release that is nothing but an emulated Vercel."""
    namespace = f"vercel-{RUN}"
    cluster.create_namespace(namespace, restricted=True)
    values = {
        "image": image,
        "emulator": {"enabled": True},
        "replicas": 0,
        "crds": {"enabled": False},
        "aggregateRoles": False,
    }
    release = Release(helm, cluster, "vercel", namespace, values)
    try:
        release.install()
        yield release
    finally:
        release.uninstall()
        cluster.kubectl("delete", "namespace", namespace)


@pytest.fixture(scope="session")
def vercel_url(emulator: Release) -> Iterator[str]:
    """The emulator's URL from here."""
    with emulator.cluster.forwarded(emulator.namespace, f"{emulator.full_name}-emulator", 8080) as url:
        yield url


@pytest.fixture
async def vercel(vercel_url: str) -> AsyncIterator[EmulatorControl]:
    async with EmulatorControl(vercel_url) as control:
        yield control


@pytest.fixture(scope="session")
def release(cluster: Cluster, helm: Helm, image: dict[str, str], emulator: Release) -> Iterator[Release]:
    """The operator as it would be installed for real, but for the Vercel that it asks. To be used by ``operator``."""
    namespace = f"operator-{RUN}"
    cluster.create_namespace(namespace, restricted=True)
    cluster.kubectl("-n", namespace, "create", "secret", "generic", "vercel-token", f"--from-literal=token={TOKEN}")
    values: dict[str, Any] = {
        "image": image,
        "replicas": 2,
        "podDisruptionBudget": {"enabled": True},
        "token": {"existingSecret": "vercel-token"},
        "defaultToken": {"namespaces": ["*"]},
        "extraArgs": [f"--vercel-api-url=http://{emulator.full_name}-emulator.{emulator.namespace}.svc:8080"],
        "selector": "!try-out",  # another release serves what has this label
    }
    release = Release(helm, cluster, "operator", namespace, values)
    try:
        yield release
    finally:
        try:  # while the operator is there, which lets go of what the tests have left
            names = [item["metadata"]["name"] for item in cluster.get("namespaces")["items"]]
            left = [name for name in names if name.startswith(PREFIX)]
            for name in left:  # before their Secrets go
                cluster.kubectl("-n", name, "delete", "vcert", "--all", "--timeout=60s")
            cluster.kubectl("delete", "namespace", "none", "--ignore-not-found", *left)
        finally:
            release.uninstall()
            cluster.kubectl("delete", "namespace", namespace)


@pytest.fixture
def operator(release: Release) -> Release:
    """The release, with its own values and two pods, of which one leads, whatever another test has done to it."""
    release.upgrade({})
    release.settle()
    return release


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """A fresh namespace for one test."""
    name = f"{PREFIX}{secrets.token_hex(3)}"
    cluster.create_namespace(name)
    return name


@pytest.fixture
async def issuing(operator: Release, namespace: str, vercel: EmulatorControl) -> AsyncIterator[Issuing]:
    """Certificates that are being issued, for as long as the test wants."""
    issuing = Issuing(operator.cluster, namespace, vercel)
    try:
        await issuing.start()
        yield issuing
    finally:
        await issuing.release()


@pytest.fixture(autouse=True)
def _what_was_seen(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[None]:
    """For a test that fails: what kubectl shows."""
    yield
    for what in (["get", "pods,lease", "-A"], ["get", "vcert", "-A", "-o", "wide"]):
        print(cluster.kubectl(*what, check=False).stdout)
    if "release" in request.fixturenames:
        release = request.getfixturevalue("release")
        print(release.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False))
        print(release.kubectl("logs", "-l", "app.kubernetes.io/component=operator", "--prefix", check=False))
