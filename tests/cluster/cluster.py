"""The cluster under test, and the releases of the chart in it."""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from control_plane import Process, binaries, kubectl
from support.helm import CHART, Helm
from support.waiting import wait_until

PATIENCE = 120.0
"""Seconds after which something that should happen soon has not. No test measures a time by it."""
CRD = "vercelcertificates.vercel-operator.io"
PYTHON = "/opt/vercel-certificate-operator/bin/python3"
OUT_OF_MEMORY = """
import os
open("/proc/1/oom_score_adj", "w").write("1000")
file = os.memfd_create("filler")  # counts for the container, but for no process: so the kernel chooses the operator
while True:
    os.write(file, bytes(1 << 20))
"""


class Cluster:
    """Any cluster, as its administrator, by kubectl."""

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self.kubeconfig = kubeconfig
        self._folder = folder
        self._program = binaries.kubectl()
        self._environment = kubectl.environment(kubeconfig, folder / "kubectl-cache")

    def kubectl(
        self,
        *args: str | Path,
        input: str | None = None,  # noqa: A002  # as subprocess.run has it
        check: bool = True,
        timeout: float = PATIENCE + 30,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl; see ``control_plane.kubectl.run``."""
        return kubectl.run(self._program, args, self._environment, input=input, check=check, timeout=timeout)

    def shell(self, script: str) -> str:
        """What a shell prints that is given these lines, as by somebody who pastes them."""
        path = f"{self._program.parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-e"],
            env={**os.environ, **self._environment, "PATH": path},
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def get(self, what: str, *args: str) -> dict[str, Any]:
        """What ``kubectl get`` shows."""
        found: dict[str, Any] = json.loads(self.kubectl("get", what, *args, "-o", "json").stdout)
        return found

    def create_namespace(self, name: str, *, restricted: bool = False) -> None:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})

    def apply(self, manifest: Mapping[str, Any], *args: str) -> None:
        self.kubectl("apply", "-f", "-", *args, input=json.dumps(manifest))

    @contextmanager
    def forwarded(self, namespace: str, service: str, port: int) -> Iterator[str]:
        """A URL here by which a Service's pod answers."""
        command = (self._program, "-n", namespace, "port-forward", f"service/{service}", f":{port}")
        process = Process(command, log=self._folder / "port-forward.log", env=self._environment)
        try:
            pattern = r"Forwarding from (127\.0\.0\.1:\d+)"
            wait_until(lambda: re.search(pattern, process.output()) or not process.running)
            found = re.search(pattern, process.output())
            assert found, process.output()
            yield f"http://{found[1]}"
        finally:
            process.kill()


class Release:
    """A release of the chart, by helm."""

    def __init__(self, helm: Helm, cluster: Cluster, name: str, namespace: str, values: Mapping[str, Any]) -> None:
        self._helm = helm
        self.cluster = cluster
        self.name = name
        self.namespace = namespace
        self.full_name = f"{name}-vercel-certificate-operator"
        self._values = values

    def helm(self, verb: str, *args: str | Path, check: bool = True) -> str:
        """What helm says, on its standard output; with ``check`` off, it must fail: its standard error."""
        return self._helm(
            verb, self.name, *args, "--namespace", self.namespace, kubeconfig=self.cluster.kubeconfig, check=check
        )

    def install(self) -> str:
        return self._helm_with(self._values, "install", CHART, "--wait", f"--timeout={PATIENCE:g}s")

    def upgrade(self, changes: Mapping[str, Any], *args: str, check: bool = True) -> str:
        """Upgrade it to its own values with these changes, or install it."""
        args = args or ("--wait", f"--timeout={PATIENCE:g}s")
        return self._helm_with({**self._values, **changes}, "upgrade", CHART, "--install", *args, check=check)

    def _helm_with(self, values: Mapping[str, Any], verb: str, *args: str | Path, check: bool = True) -> str:
        return self.helm(verb, *args, "--values", self._helm.values(values), check=check)

    def uninstall(self) -> str:
        return self.helm("uninstall", "--ignore-not-found", "--wait", f"--timeout={PATIENCE:g}s")

    def kubectl(self, *args: str | Path, check: bool = True, stdin: str | None = None) -> str:
        """kubectl's standard output; its standard error where it may fail, and does."""
        done = self.cluster.kubectl("-n", self.namespace, *args, check=check, input=stdin)
        return done.stderr if done.returncode else done.stdout

    # --- its pods

    def pods(self) -> dict[str, dict[str, Any]]:
        """The operator's pods, by name, also those that are ending."""
        labels = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component=operator"
        pods = self.cluster.get("pods", "-n", self.namespace, "-l", labels)["items"]
        return {pod["metadata"]["name"]: pod for pod in pods}

    def is_ending(self, pod: str) -> bool:
        """Whether the pod has been told to end, or is gone."""
        found = self.pods().get(pod)
        return found is None or "deletionTimestamp" in found["metadata"]

    @property
    def holder(self) -> str:
        """Who holds the Lease: a pod, and what makes this start of it unique; "": nobody."""
        lease = json.loads(self.kubectl("get", "lease", self.full_name, "--ignore-not-found", "-o", "json") or "{}")
        return str(lease.get("spec", {}).get("holderIdentity") or "")

    @property
    def leader(self) -> str:
        """The pod that holds the Lease."""
        return self.holder.rpartition("_")[0]

    def settle(self) -> None:
        """Return when all its replicas are ready, nothing else runs, and one of them leads."""
        replicas = self._values.get("replicas", 1)
        self.kubectl("rollout", "status", f"deployment/{self.full_name}", f"--timeout={PATIENCE:g}s")
        wait_until(lambda: len(pods := self.pods()) == replicas and self.leader in pods, PATIENCE)

    # --- what can happen to a pod

    def force_delete(self, pod: str) -> None:
        """Its object goes at once, its container a second or two later."""
        self.kubectl("delete", "pod", pod, "--force", "--grace-period=0")

    def exceed_memory(self, pod: str) -> None:
        """More than the container's limit is used, and the kernel kills the operator's process."""
        self.kubectl("exec", pod, "--", PYTHON, "-c", OUT_OF_MEMORY, check=False)

    def evict(self, pod: str) -> str:
        """As ``kubectl drain`` does; what the API server says against it, if it does."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.namespace},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        done = self.cluster.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction), check=False)
        return done.stderr
