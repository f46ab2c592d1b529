"""What holds for the image. ``make image-test`` builds it and runs these; ``make test`` leaves them out."""

import re
import signal
from datetime import datetime
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import container_image
from image.container import MEMORY, PYTHON, Container, Image

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "example-com.yaml"
STATUS = """
import json
status = dict(line.split(":", 1) for line in open("/proc/1/status"))
print(json.dumps({name: value.split() for name, value in status.items()}))
"""
WRITE = """
import errno, json
found = {}
for folder in ("/", "/opt/vercel-certificate-operator", "/etc", "/var", "/tmp"):
    try:
        open(f"{folder}/written", "w").close()
    except OSError as error:
        found[folder] = errno.errorcode[error.errno]
    else:
        found[folder] = "written"
print(json.dumps(found))
"""
MEMORY_LIMIT = """
from pathlib import Path
files = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
print(next(Path(file).read_text() for file in files if Path(file).exists()))
"""
INSTALLED = """
import importlib.metadata, json
print(json.dumps([f"{found.name}=={found.version}".lower() for found in importlib.metadata.distributions()]))
"""
BASE_PYTHON = "import json, sys; print(json.dumps(sys._base_executable))"
TOOLS = """
import importlib.util, json, shutil
modules = ("pip", "setuptools", "hatchling", "pytest", "mypy", "tests", "control_plane")
programs = ("pip", "pip3", "cc", "gcc", "g++", "clang", "ld", "make", "go", "git")
print(json.dumps([*filter(importlib.util.find_spec, modules), *filter(shutil.which, programs)]))
"""
NOT_COMPILED = """
import json, sys
from importlib.util import cache_from_source
from pathlib import Path
from vercel_certificate_operator import app, cli
from vercel_emulator import emulator
HASHED_UNCHECKED = 0b01  # https://peps.python.org/pep-0552/
stale = []
for name, module in sorted(sys.modules.items()):
    if not (source := getattr(module, "__file__", None) or "").endswith(".py") or name == "__main__":
        continue
    compiled = Path(cache_from_source(source))
    ours = source.startswith("/opt/")  # the base's own may go by time, as Debian's does
    if not compiled.exists() or ours and compiled.read_bytes()[4] != HASHED_UNCHECKED:
        stale.append(name)
print(json.dumps(stale))
"""

STOPPED_WHILE_IMPORTING = """
import os, signal, sys, types
from vercel_certificate_operator import __main__
command_line = types.SimpleNamespace(main=lambda: os.kill(1, signal.SIGTERM))
sys.modules["vercel_certificate_operator.cli"] = command_line
__main__.main()
"""

Kubectl = partial[CompletedProcess[str]]


def test_an_example_gets_ready_and_sigterm_ends_it_well(
    operator: Container, kubectl: Kubectl, image: Image, measured: list[str]
) -> None:
    log = operator.line(r"(\S+Z) +INFO .* serves")
    kubectl("apply", "-f", EXAMPLE)
    kubectl("wait", "--for=condition=Ready", "vcert/example-com", "--timeout=60s")
    resident = operator.python(STATUS)["VmRSS"]
    assert operator.stop() == 0, "137 would be SIGKILL: SIGTERM was not enough"
    assert "SIGTERM: stopping" in operator.logs()
    assert "Traceback" not in operator.logs()
    start = datetime.fromisoformat(log[1]) - operator.started()
    measured.append(f"size of the image, unpacked, with its base: {image.about['Size'] / 1e6:.0f} MB")
    measured.append(f"from the container's start until the operator serves: {start.total_seconds():.1f} s")
    measured.append(f"resident memory of the operator, with one certificate: {int(resident[0]) / 1024:.0f} MiB")


def test_the_process_has_no_more_rights_than_pod_security_restricted_allows(operator: Container) -> None:
    status = operator.python(STATUS)
    assert set(status["Uid"]) == set(status["Gid"]) == {"65532"}
    assert {status[f"Cap{kind}"][0] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert status["NoNewPrivs"] == ["1"]
    assert status["Seccomp"] == ["2"], "no filter"
    found = operator.python(WRITE)
    assert found.pop("/tmp") == "written"  # noqa: S108 - in the container
    assert set(found.values()) == {"EROFS"}
    assert operator.python(MEMORY_LIMIT) == MEMORY


def test_a_stop_during_the_start_is_heard(image: Image) -> None:
    """The kernel does not end process 1 by a signal that it doesn't handle yet."""
    image.run("-c", STOPPED_WHILE_IMPORTING, entrypoint=PYTHON, status=128 + signal.SIGTERM)


def test_it_says_its_version(image: Image) -> None:
    assert image.run("--version").split()[-1] == container_image.VERSION


@pytest.mark.parametrize("command", [(), ("run",), ("emulate",)])
def test_it_helps(image: Image, command: tuple[str, ...]) -> None:
    assert image.run(*command, "--help").startswith("Usage: vercel-certificate-operator")


def test_it_runs_the_operator_as_a_numeric_user_unless_told_otherwise(image: Image) -> None:
    assert image.config["Entrypoint"] == ["/opt/vercel-certificate-operator/bin/vercel-certificate-operator"]
    assert image.config["Cmd"] == ["run"]
    assert image.config["User"] == "65532:65532"
    assert image.config["StopSignal"] == "SIGTERM"


def test_its_labels_say_what_it_is_made_of(image: Image) -> None:
    prefix = "org.opencontainers.image."
    labels = {key.removeprefix(prefix): value for key, value in image.config["Labels"].items() if prefix in key}
    assert labels["title"] == "vercel-certificate-operator"
    assert labels["description"]
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == container_image.VERSION
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", labels["revision"])
    assert datetime.fromisoformat(labels["created"]).tzinfo
    assert labels["base.name"]


def test_it_contains_what_is_locked_and_nothing_else(image: Image) -> None:
    lock = (ROOT / "requirements" / "runtime.txt").read_text()
    locked = re.findall(r"^[a-z0-9][^\s;]*==[^\s;]+", lock, re.MULTILINE)
    ours = f"vercel-certificate-operator=={container_image.VERSION}"
    installed = [re.sub(r"[-_.]+(?=.*==)", "-", found) for found in image.python(INSTALLED)]
    assert sorted(installed) == sorted([*locked, ours])


def test_there_is_nothing_to_build_test_or_install_with(image: Image) -> None:
    for python in (PYTHON, image.python(BASE_PYTHON)):
        assert image.python(TOOLS, python) == []


def test_nothing_has_to_be_compiled_at_the_start(image: Image) -> None:
    """A read-only root could not keep it: every start would do it again."""
    assert image.python(NOT_COMPILED) == []
