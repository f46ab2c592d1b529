"""A release of the chart on an API server, and the operator as its pods would run it.

There are no nodes: the Deployment stays a wish. So its container's command is started here, with the release's own
ServiceAccount: a token by TokenRequest, and what RBAC says of it and no more.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_plane import ControlPlane
from support.helm import CHART, Helm
from support.operator_process import Namespace, OperatorProcess, eventually

CRD = "crd/vercelcertificates.vercel-operator.io"
LISTEN = "--listen=:8080"
NAME = "vco-vercel-certificate-operator"
"""Of the Deployment, the ServiceAccount and the Lease, where the release is called vco."""


class Release:
    """A release called vco in a namespace, which is removed at the end of ``installed``."""

    def __init__(self, helm: Helm, control_plane: ControlPlane, namespace: str) -> None:
        self._helm, self._control_plane = helm, control_plane
        self.namespace = namespace

    def __call__(self, verb: str, *args: str | Path, check: bool = True) -> str:
        """A helm command about it; with ``check`` off, as ``Helm`` has it."""
        kubeconfig = self._control_plane.kubeconfig
        return self._helm(verb, "vco", *args, "--namespace", self.namespace, kubeconfig=kubeconfig, check=check)

    def install(self, values: Mapping[str, Any], *, chart: Path = CHART) -> str:
        """Install or upgrade it; what helm prints."""
        said = self("upgrade", "--install", chart, "--values", self._helm.values(values))
        self._control_plane.wait_until_established(CRD)
        return said

    @property
    def wide_name(self) -> str:
        """What its objects outside its namespace are called."""
        code = hashlib.sha256(f"{self.namespace}/{NAME}".encode()).hexdigest()[:8]
        return f"{f'{self.namespace}-{NAME}'[:49].removesuffix('-')}-{code}"

    @property
    def account(self) -> str:
        """The user as which its pods come."""
        return f"system:serviceaccount:{self.namespace}:{NAME}"

    def deployment(self) -> dict[str, Any]:
        ns = Namespace(self._control_plane, self.namespace)
        found: dict[str, Any] = json.loads(ns.kubectl("get", "deployment", NAME, "-o", "json").stdout)
        return found

    def command(self) -> list[str]:
        """What its pods run, but for the port, which may be taken here."""
        args: list[str] = self.deployment()["spec"]["template"]["spec"]["containers"][0]["args"]
        assert args[0] == "run"
        assert LISTEN in args
        return ["--listen=127.0.0.1:0" if arg == LISTEN else arg for arg in args[1:]]

    def start(self, log: Path, vercel_url: str) -> OperatorProcess:
        """A pod of it, as a process, with a default token."""
        kubeconfig = self._control_plane.kubeconfig_for_service_account(NAME, self.namespace)
        return OperatorProcess(kubeconfig, log, *self.command(), "--vercel-api-url", vercel_url, preloaded=True)


@contextmanager
def installed(helm: Helm, control_plane: ControlPlane, namespace: str) -> Iterator[Release]:
    """A release that is not installed yet; it is gone after the block, with the VercelCertificates of its namespace."""
    release = Release(helm, control_plane, namespace)
    try:
        yield release
    finally:
        release("uninstall", "--ignore-not-found")
        _remove_all(Namespace(control_plane, namespace))


def _remove_all(ns: Namespace) -> None:
    """VercelCertificates, with finalizers that nobody else takes off; also where their definition has gone."""
    shown = ns.kubectl("get", "vcert", "-o", "jsonpath={.items[*].metadata.name}", check=False).stdout
    for name in shown.split():
        ns.kubectl("delete", "vcert", name, "--wait=false", "--ignore-not-found")
        ns.kubectl("patch", "vcert", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}', check=False)


async def leads(operator: OperatorProcess) -> None:
    """Until it does."""
    await eventually("it leads", lambda: "leading: this" in operator.logs() or not operator.process.running)
    assert operator.process.running, operator.logs()


async def stands_by(operator: OperatorProcess) -> None:
    """Until it does."""
    await eventually("it stands by", lambda: "standing by: the" in operator.logs() or not operator.process.running)
    assert operator.process.running, operator.logs()


@dataclass(frozen=True, order=True)
class Right:
    """What RBAC grants: one verb on one resource."""

    verb: str
    resource: str
    """With its subresource, such as ``vercelcertificates/status``."""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


def rights(rules: list[dict[str, Any]]) -> set[Right]:
    """Of the rules of a Role."""
    return {Right(verb, resource) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


def without(rules: list[dict[str, Any]], right: Right) -> list[dict[str, Any]]:
    """The rules, without one right."""
    return [
        {**rule, "verbs": [verb for verb in rule["verbs"] if (right.resource, right.verb) != (resource, verb)]}
        for rule in rules
        for resource in rule["resources"]
    ]
