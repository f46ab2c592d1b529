"""The examples are what a user applies first: each of them is accepted, strictly."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from crd.kubectl import Kubectl

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def documents(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))


def test_there_are_examples() -> None:
    assert "example-com.yaml" in [file.name for file in EXAMPLES]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_is_accepted_in_the_current_namespace(kubectl: Kubectl, file: Path) -> None:
    applied = kubectl("apply", "--validate=strict", "-f", str(file)).splitlines()

    assert len(applied) == len(documents(file))
    assert all(line.endswith(" created") for line in applied)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_a_secret_in_an_example_holds_nothing_but_a_placeholder(file: Path) -> None:
    for document in documents(file):
        if document["kind"] == "Secret":
            assert set(document["stringData"].values()) == {"put-your-vercel-token-here"}
            assert "data" not in document


def test_the_examples_show_every_field_of_a_spec(definition: dict[str, Any]) -> None:
    """One has all of them, except the one that excludes another."""
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    (all_fields,) = documents(Path(__file__).parents[2] / "examples" / "all-fields.yaml")
    (uploaded,) = documents(Path(__file__).parents[2] / "examples" / "from-a-secret.yaml")

    assert set(all_fields["spec"]) == set(schema) - {"certificateSecretRef"}
    assert set(uploaded["spec"]) == {"cns", "certificateSecretRef"}
