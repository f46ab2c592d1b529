"""The resources in Argo CD's ``testdata`` are what the operator writes.

``ARGOCD_RECORD=1 make test T=tests/argocd/test_states.py`` records them again, with the expected results: the health
from the file's name, the message from the script. Read the difference before you commit it.
"""

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from argocd.customization import ACTIONS, HEALTH, HEALTH_TEST, TESTDATA, load, text
from argocd.sandbox import health
from argocd.states import NAME, STATES, alike, as_shown
from support.world import World

pytestmark = pytest.mark.xdist_group("argocd_states")  # one process records all of them, and then what is expected


@pytest.fixture(scope="module", autouse=True)
def expectations() -> Any:
    yield
    if os.environ.get("ARGOCD_RECORD"):
        write_expectations()


@pytest.mark.parametrize("name", sorted(STATES))
async def test_the_resource_is_what_the_operator_writes(world: World, name: str) -> None:
    await STATES[name](world)
    body = await world.get(NAME)
    assert body is not None
    shown, file = as_shown(world, body), TESTDATA / f"{name}.yaml"
    if os.environ.get("ARGOCD_RECORD"):
        write(file, shown)
    assert alike(load(file)) == alike(shown)


def test_each_state_has_a_recorded_resource_and_each_resource_a_state() -> None:
    assert {path.stem for path in TESTDATA.iterdir()} == set(STATES)


def write_expectations() -> None:
    tests = []
    for name in sorted(STATES):
        status, message = (
            name.split("_")[0].capitalize(),
            health(text(HEALTH), load(TESTDATA / f"{name}.yaml"))["message"],
        )
        tests.append({"inputPath": f"testdata/{name}.yaml", "healthStatus": {"status": status, "message": message}})
    write(HEALTH_TEST, {"tests": tests})
    renewed = copy.deepcopy(load(TESTDATA / "healthy_issued.yaml"))
    renewed["metadata"].setdefault("annotations", {})["vercel-operator.io/renew"] = "2026-11-26T08:00:00Z"
    write(ACTIONS / "testdata" / "renewed.yaml", renewed)


class _Dumper(yaml.SafeDumper):
    """Indents the items of lists, as the other YAML files here do."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def write(file: Path, body: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.dump(body, Dumper=_Dumper, width=110, allow_unicode=True), encoding="utf-8")
