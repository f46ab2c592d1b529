"""Runs Helm on the chart for tests."""

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
        """Runs Helm and returns its standard output. With ``check=False`` it must fail: returns its standard error."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder)}
        environment["GOGC"] = "off"  # garbage collection is a third of its CPU time, in so short a life
        if kubeconfig is not None:
            environment["KUBECONFIG"] = str(kubeconfig)
        done = subprocess.run(
            [self._program, *args], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert (done.returncode == 0) == check, f"helm {' '.join(map(str, args))}: {done.stdout}{done.stderr}"
        return done.stdout if check else done.stderr

    def values(self, values: Mapping[str, Any]) -> Path:
        """Writes a file with these values and returns its path."""
        file = self._folder / "values.yaml"
        file.write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
        return file

    def template(self, values: Mapping[str, Any], *, namespace: str = "default") -> list[dict[str, Any]]:
        """Returns the objects that the chart renders."""
        text = self("template", "vco", CHART, KUBE_VERSION, "--namespace", namespace, "--values", self.values(values))
        documents = yaml.load_all(text, yaml.CSafeLoader)  # a tenth of what Python's own takes
        return [document for document in documents if document]

    def refusal(self, values: Mapping[str, Any]) -> str:
        """Returns Helm's error for values that the chart must refuse."""
        return self("template", "vco", CHART, KUBE_VERSION, "--values", self.values(values), check=False)
