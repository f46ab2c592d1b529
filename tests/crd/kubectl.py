"""kubectl in one namespace, with the few calls that the tests of the CRD share."""

import json
from collections.abc import Mapping
from typing import Any

from control_plane import ControlPlane


class Kubectl:
    """kubectl in one namespace, as admin. Whatever can't be done raises control_plane's KubectlError."""

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self._control_plane = control_plane
        self.namespace = namespace

    def __call__(self, *args: str, text: str | None = None) -> str:
        """Run kubectl and return its standard output; a non-zero exit raises."""
        return self._control_plane.kubectl("--namespace", self.namespace, *args, input=text).stdout

    def refusal(self, *args: str, text: str | None = None) -> str:
        """Run a kubectl that must fail, and return its standard error."""
        done = self._control_plane.kubectl("--namespace", self.namespace, *args, input=text, check=False)
        assert done.returncode != 0, f"kubectl {' '.join(args)} was not refused: {done.stdout}"
        return done.stderr

    def try_spec(self, spec: object) -> dict[str, Any]:
        """Have the API server accept a spec without storing it; return the object that it would store."""
        manifest = json.dumps(certificate("dry-run", spec))
        stored = self("create", "--dry-run=server", "--validate=strict", "-o", "json", "-f", "-", text=manifest)
        parsed: dict[str, Any] = json.loads(stored)
        return parsed

    def refused_spec(self, spec: object) -> str:
        """Have the API server refuse a spec; return the words that the user reads."""
        manifest = json.dumps(certificate("dry-run", spec))
        return self.refusal("create", "--dry-run=server", "--validate=strict", "-f", "-", text=manifest)

    def apply(self, name: str, spec: object) -> None:
        """Store an object with that spec, as ``kubectl apply`` does."""
        self("apply", "--validate=strict", "-f", "-", text=json.dumps(certificate(name, spec)))

    def refused_apply(self, name: str, spec: object) -> str:
        """Have ``kubectl apply`` refused; return the words that the user reads."""
        return self.refusal("apply", "--validate=strict", "-f", "-", text=json.dumps(certificate(name, spec)))

    def get(self, name: str) -> dict[str, Any]:
        """The stored object."""
        parsed: dict[str, Any] = json.loads(self("get", "vcert", name, "-o", "json"))
        return parsed

    def patch_status(self, name: str, status: Mapping[str, object]) -> None:
        """Merge into the status, by the status subresource."""
        how = ("--subresource=status", "--type=merge", "--patch-file=/dev/stdin")
        self("patch", "vcert", name, *how, text=json.dumps({"status": status}))


def certificate(name: str, spec: object) -> dict[str, object]:
    """A VercelCertificate's manifest."""
    return {
        "apiVersion": "vercel-operator.io/v1",
        "kind": "VercelCertificate",
        "metadata": {"name": name},
        "spec": spec,
    }
