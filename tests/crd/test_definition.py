"""The definition as kubectl knows it: names, explanations, strictness and merging."""

import json
from collections.abc import Iterator
from typing import Any

from crd.kubectl import Kubectl, certificate


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
        assert description.endswith("."), f"{path}'s description is no sentence"


def test_every_list_is_bounded_and_says_how_it_merges(definition: dict[str, Any]) -> None:
    for path, schema in fields(schema_of(definition), "vcert"):
        if schema["type"] == "array":
            assert "maxItems" in schema, path
            assert "x-kubernetes-list-type" in schema, path


def test_no_default_stands_in_a_map_that_belongs_to_one_manager_as_a_whole(definition: dict[str, Any]) -> None:
    """With Argo CD's server-side apply, an Application would be OutOfSync for ever."""
    atomic = [
        path
        for path, schema in fields(schema_of(definition), "vcert")
        if schema.get("x-kubernetes-map-type") == "atomic"
    ]
    assert atomic == ["vcert.spec.team", "vcert.spec.tokenSecretRef"]
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
    assert "The key in the Secret's data" in key
    assert "one CamelCase word" in condition


def test_the_resource_answers_to_all_its_names(kubectl: Kubectl) -> None:
    kubectl.apply("web", {"cns": ["example.com"]})

    for name in ("vcert", "vcerts", "vercelcertificate", "vercelcertificates", "vercel"):
        assert kubectl("get", name, "-o", "name") == "vercelcertificate.vercel-operator.io/web\n"


def test_an_unknown_field_is_an_error_by_default_in_kubectl_apply(kubectl: Kubectl) -> None:
    manifest = json.dumps(certificate("web", {"cns": ["example.com"], "renewBefor": "720h"}))

    read = kubectl.refusal("apply", "-f", "-", text=manifest)

    assert 'unknown field "spec.renewBefor"' in read


def test_names_of_two_managers_add_up(kubectl: Kubectl) -> None:
    for manager, names in (("one", ["example.com", "a.example.com"]), ("two", ["example.com", "b.example.com"])):
        manifest = json.dumps(certificate("web", {"cns": names}))
        kubectl("apply", "--server-side", f"--field-manager={manager}", "-f", "-", text=manifest)
    both = kubectl.get("web")["spec"]["cns"]

    manifest = json.dumps(certificate("web", {"cns": ["example.com"]}))
    kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", text=manifest)
    left = kubectl.get("web")["spec"]["cns"]

    assert sorted(both) == ["a.example.com", "b.example.com", "example.com"]
    assert sorted(left) == ["b.example.com", "example.com"]


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
