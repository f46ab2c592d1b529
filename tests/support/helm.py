"""Helm on the chart, as the tests of the chart call it."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "vercel-certificate-operator"
CRDS = DEPLOY / "crds"
KUBE_VERSION = "--kube-version=1.36.0"
"""``helm template`` asks no API server; a Helm that was not built by its own Makefile takes it for a very old one."""


class Helm:
    """The ``helm`` program, with settings and caches of its own."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder

    def __call__(self, *args: str | Path, kubeconfig: Path | None = None, check: bool = True) -> str:
        """Run it and return its standard output; with ``check`` off, it must fail: its standard error."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder)}
        if kubeconfig is not None:
            environment["KUBECONFIG"] = str(kubeconfig)
        done = subprocess.run(
            [self._program, *args], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert (done.returncode == 0) == check, f"helm {' '.join(map(str, args))}: {done.stdout}{done.stderr}"
        return done.stdout if check else done.stderr

    def values(self, values: Mapping[str, Any]) -> Path:
        """A file with these values."""
        file = self._folder / "values.yaml"
        file.write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
        return file

    def template(self, values: Mapping[str, Any], *, namespace: str = "default") -> list[dict[str, Any]]:
        """The objects that the chart renders."""
        text = self("template", "vco", CHART, KUBE_VERSION, "--namespace", namespace, "--values", self.values(values))
        return [document for document in yaml.safe_load_all(text) if document]

    def refusal(self, values: Mapping[str, Any]) -> str:
        """What Helm says to values that the chart must refuse."""
        return self("template", "vco", CHART, KUBE_VERSION, "--values", self.values(values), check=False)
