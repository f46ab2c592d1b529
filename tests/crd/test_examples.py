"""The examples are what a user applies first: each of them is accepted, strictly. So are the manifests on the pages."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from crd.kubectl import Kubectl

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def documents(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))


def test_there_are_examples() -> None:
    assert "example-com.yaml" in [file.name for file in EXAMPLES]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_an_example_is_accepted_in_the_current_namespace(kubectl: Kubectl, file: Path) -> None:
    applied = kubectl("apply", "--validate=strict", "-f", str(file)).splitlines()

    assert len(applied) == len(documents(file))
    assert all(line.endswith(" created") for line in applied)


def manifests(page: Path) -> list[str]:
    """Return the VercelCertificates of a page: blocks of YAML, and what a command reads from its input."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```yaml\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"<<EOF\n(.*?)^ *EOF$", text, re.MULTILINE | re.DOTALL)
    documents = [document for block in blocks for document in re.split(r"(?m)^---$", textwrap.dedent(block))]
    return [document for document in documents if "kind: VercelCertificate\n" in document]


def test_there_are_manifests_on_the_pages() -> None:
    assert all(manifests(ROOT / page) for page in ("README.md", "docs/resource.md", "docs/moving.md"))


@pytest.mark.parametrize("page", [page for page in PAGES if manifests(page)], ids=lambda page: page.name)
def test_a_manifest_on_a_page_is_accepted(kubectl: Kubectl, page: Path) -> None:
    for manifest in manifests(page):
        kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", text=manifest)


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
