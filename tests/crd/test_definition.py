"""The definition as kubectl shows it: names, explanations, strictness and merging."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crd.kubectl import Kubectl, certificate
from vercel_certificate_operator.core.resource import ADOPT_ANNOTATION, RENEW_ANNOTATION


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each field of a schema, with its path as kubectl explain takes it; items of lists have ``[]``."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from fields(child, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")


def schema_of(definition: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def test_every_field_is_described_in_sentences(definition: dict[str, Any]) -> None:
    found = dict(fields(schema_of(definition), "vcert"))

    assert "vcert.spec.tokenSecretRef.key" in found
    assert "vcert.status.conditions[].observedGeneration" in found
    for path, schema in found.items():
        description = schema.get("description", "")
        assert description[:1].isupper(), f"{path} is not described"
        assert description.endswith("."), f"{path}'s description is not a sentence"


def test_every_list_is_bounded_and_belongs_to_one_manager_except_those_by_name(definition: dict[str, Any]) -> None:
    lists = {path: schema for path, schema in fields(schema_of(definition), "vcert") if schema["type"] == "array"}

    assert all("maxItems" in schema for schema in lists.values())
    assert {path for path, schema in lists.items() if schema["x-kubernetes-list-type"] != "atomic"} == {
        "vcert.status.conditions",
        "vcert.status.domains",
    }


def test_status_has_neither_enums_nor_patterns_so_that_values_of_other_versions_can_be_written(
    definition: dict[str, Any],
) -> None:
    for path, schema in fields(schema_of(definition)["properties"]["status"], "vcert.status"):
        assert not {"enum", "pattern", "x-kubernetes-validations"} & set(schema), path


def test_no_map_that_belongs_to_one_manager_has_a_default(definition: dict[str, Any]) -> None:
    """With Argo CD's server-side apply, an Application would always be OutOfSync."""
    atomic = [
        path
        for path, schema in fields(schema_of(definition), "vcert")
        if schema.get("x-kubernetes-map-type") == "atomic"
    ]
    assert atomic == ["vcert.spec.team", "vcert.spec.tokenSecretRef", "vcert.spec.certificateSecretRef"]
    for path, schema in fields(schema_of(definition), "vcert"):
        assert "default" not in schema or not path.startswith(tuple(atomic)), path


def test_kubectl_explains_every_field(kubectl: Kubectl, definition: dict[str, Any]) -> None:
    explained = kubectl("explain", "vercelcertificates", "--recursive")

    for path, _ in fields(schema_of(definition), "vcert"):
        name = path.removesuffix("[]").rpartition(".")[2]
        assert name == "vcert" or f"{name}\t<" in explained, path


def test_kubectl_explain_reads_well(kubectl: Kubectl) -> None:
    spec = kubectl("explain", "vcert.spec")
    cns = kubectl("explain", "vcert.spec.cns")
    key = kubectl("explain", "vcert.spec.tokenSecretRef.key")
    condition = kubectl("explain", "vcert.status.conditions.reason")

    assert "cns\t<[]string> -required-" in spec
    assert "enum: Delete, Retain" in spec
    assert "The DNS names that the certificate covers" in cns
    assert "The key of the token in the Secret's data" in key
    assert "one CamelCase word" in condition


def test_the_resource_answers_to_all_its_names(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": ["example.com"]})

    for name in ("vcert", "vcerts", "vercelcertificate", "vercelcertificates", "vercel"):
        assert kubectl("get", name, "-o", "name") == "vercelcertificate.vercel-operator.io/web\n"


def test_an_unknown_field_is_an_error_by_default_in_kubectl_apply(kubectl: Kubectl) -> None:
    manifest = json.dumps(certificate("web", {"cns": ["example.com"], "renewBefor": "720h"}))

    read = kubectl.refusal("apply", "-f", "-", text=manifest)

    assert 'unknown field "spec.renewBefor"' in read


def test_one_manager_owns_all_names(kubectl: Kubectl) -> None:
    """A second one gets a conflict; with force it replaces them all."""

    def apply_as(manager: str, *names: str) -> tuple[str, ...]:
        manifest = json.dumps(certificate("web", {"cns": names}))
        force = ["--force-conflicts"] if manager == "forceful" else []
        args = ["apply", "--server-side", f"--field-manager={manager}", *force, "-f", "-"]
        if manager != "second":
            kubectl(*args, text=manifest)
        else:
            assert 'conflict with "first": .spec.cns' in kubectl.refusal(*args, text=manifest)
        return tuple(kubectl.get("web")["spec"]["cns"])

    assert apply_as("first", "example.com", "a.example.com") == ("example.com", "a.example.com")
    assert apply_as("second", "example.com", "b.example.com") == ("example.com", "a.example.com")
    assert apply_as("forceful", "b.example.com") == ("b.example.com",)


def test_a_name_that_was_removed_from_the_manifest_goes_when_apply_becomes_server_side(kubectl: Kubectl) -> None:
    """With a set it would stay, owned by the earlier manager alone."""
    kubectl.apply("web", {"cns": ["example.com", "old.example.com"]})
    kubectl(
        "patch", "vcert", "web", "--type=merge", "-p", '{"spec": {"cns": ["example.com", "old.example.com", "x.com"]}}'
    )

    manifest = json.dumps(certificate("web", {"cns": ["example.com"]}))
    how = ("--server-side", "--force-conflicts", "--field-manager=argocd-controller")
    kubectl("apply", *how, "-f", "-", text=manifest)

    assert kubectl.get("web")["spec"]["cns"] == ["example.com"]


def test_two_managers_do_not_mix_two_halves_of_a_token_reference(kubectl: Kubectl) -> None:
    first = json.dumps(certificate("web", {"cns": ["example.com"], "tokenSecretRef": {"name": "one", "key": "a"}}))
    kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", text=first)

    second = json.dumps(certificate("web", {"cns": ["example.com"], "tokenSecretRef": {"name": "two"}}))
    read = kubectl.refusal("apply", "--server-side", "--field-manager=two", "-f", "-", text=second)

    assert 'conflict with "one"' in read
    assert ".spec.tokenSecretRef" in read


def test_applying_the_same_manifest_again_changes_nothing(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": ["example.com"]})
    version = kubectl.get("web")["metadata"]["resourceVersion"]

    kubectl.apply("web", {"cns": ["example.com"]})
    difference = kubectl("diff", "-f", "-", text=json.dumps(certificate("web", {"cns": ["example.com"]})))

    assert kubectl.get("web")["metadata"]["resourceVersion"] == version
    assert difference == ""


def test_the_page_of_the_resource_has_every_field_annotation_and_default(definition: dict[str, Any]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "resource.md").read_text(encoding="utf-8")
    written = set(re.findall(r"`([\w./-]+)`", page))

    for path, schema in fields(schema_of(definition), "vcert"):
        name = path.removesuffix("[]").rpartition(".")[2]
        if path.startswith(("vcert.spec.", "vcert.status.")) and not path.startswith("vcert.status.conditions["):
            assert name in written, path
        if "default" in schema:
            default = json.dumps(schema["default"]).strip('"')
            assert re.search(rf"^\| `{name}` \|.*\| default `{default}` \|$", page, re.MULTILINE), path
    assert {RENEW_ANNOTATION, ADOPT_ANNOTATION} <= written
