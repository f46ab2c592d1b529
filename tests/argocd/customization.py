"""The files of the resource customization for VercelCertificate, in Argo CD's own layout."""

from pathlib import Path
from typing import Any

import yaml

import argocd_cm

FOLDER = argocd_cm.CUSTOMIZATION
HEALTH = FOLDER / "health.lua"
HEALTH_TEST = FOLDER / "health_test.yaml"
TESTDATA = FOLDER / "testdata"
ACTIONS = FOLDER / "actions"
DISCOVERY = ACTIONS / "discovery.lua"
ACTION_TEST = ACTIONS / "action_test.yaml"


def text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def load(file: Path) -> Any:
    return yaml.safe_load(text(file))
