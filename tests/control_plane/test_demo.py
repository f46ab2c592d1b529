"""How the demo ends. That it works is seen by running it; that nothing is left of it is not."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

DEMO = Path(__file__).parents[2] / "hack" / "demo.py"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_nothing_is_left_of_a_demo_that_is_stopped(number: signal.Signals, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, DEMO], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        assert demo.stdout
        said = ""
        for line in demo.stdout:
            said += line
            if "API server https" in line:  # all of it runs
                break
        assert len(list(tmp_path.iterdir())) == 2, said
        demo.send_signal(number)
        said += demo.stdout.read()
    assert demo.returncode == 128 + number
    assert said.endswith("Stopped; nothing is left behind.\n")
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    for word in said.replace(",", "").split():
        if word.startswith(("http://", "https://")):
            port = urlsplit(word).port
            assert port
            with socket.socket() as client:
                assert client.connect_ex(("127.0.0.1", port)) != 0, f"{word} still answers"


def test_a_demo_that_can_not_start_says_why_and_fails(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "KUBEBUILDER_ASSETS": str(tmp_path)}
    demo = subprocess.run([sys.executable, DEMO], env=environment, capture_output=True, text=True, check=False)
    assert demo.returncode == 1
    assert "KUBEBUILDER_ASSETS" in demo.stderr
    assert "Traceback" not in demo.stderr
    assert list(tmp_path.iterdir()) == []
