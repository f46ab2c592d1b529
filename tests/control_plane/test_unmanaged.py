"""The VercelCertificates that hack/unmanaged.py prints; that it finds the certificates is in tests/end_to_end."""

from datetime import UTC, datetime, timedelta

import yaml

from unmanaged import Certificate, manifests, table

NOW = datetime(2026, 11, 26, tzinfo=UTC)


def certificate(*names: str, id: str = "cert_1", days: int = 30) -> Certificate:  # noqa: A002
    return Certificate(id, tuple(sorted(names)), NOW + timedelta(days=days), auto_renew=False)


def printed(*found: Certificate) -> dict[str, list[str]]:
    """Return the names of each manifest, by the resource's name."""
    text = manifests(found, NOW, {"namespace": "web"}, {"team": {"id": "team_1"}})
    return {one["metadata"]["name"]: one["spec"]["cns"] for one in yaml.safe_load_all(text)}


def test_a_manifest_adopts_the_certificate() -> None:
    text = manifests([certificate("example.com", "*.example.com")], NOW, {"namespace": "web"}, {"team": {"id": "t"}})
    assert yaml.safe_load(text) == {
        "apiVersion": "vercel-operator.io/v1",
        "kind": "VercelCertificate",
        "metadata": {"name": "example-com", "namespace": "web"},
        "spec": {"cns": ["*.example.com", "example.com"], "team": {"id": "t"}, "existingCertificate": "Adopt"},
    }


def test_several_certificates_with_the_same_names_have_one_manifest() -> None:
    assert printed(certificate("example.com"), certificate("example.com", id="cert_2")) == {
        "example-com": ["example.com"]
    }


def test_an_expired_certificate_has_none() -> None:
    assert printed(certificate("example.com", days=-1)) == {}


def test_each_resource_has_a_name_of_its_own_that_kubernetes_accepts() -> None:
    found = (certificate("*.example.com"), certificate("a.example.com"), certificate("a-example.com"))
    names = printed(*found, certificate("a.example.com", "b.example.com"))
    assert set(names) == {"wildcard-example-com", "a-example-com", "a-example-com-2", "a-example-com-3"}


def test_the_table_begins_with_the_certificate_that_expires_first() -> None:
    text = table([certificate("late.example.com", days=9), certificate("soon.example.com", days=2)])
    assert [line.split()[-1] for line in text.splitlines()] == ["NAMES", "soon.example.com", "late.example.com"]
