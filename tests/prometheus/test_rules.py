"""The alerts, by promtool."""

import subprocess
from pathlib import Path

from prometheus.stage import ALERTS


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_are_well_formed(promtool: Path) -> None:
    run(promtool, "check", "rules", ALERTS)


def test_each_fires_when_it_should_and_not_otherwise(promtool: Path) -> None:
    run(promtool, "test", "rules", Path(__file__).with_name("alerts_test.yaml"))
