"""TLS Secrets that are uploaded: what is taken from them, what is wrong with others, and that no key is ever shown."""

import base64
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, PrivateFormat

from support.tls import ALLOWED, Authority, Key, Leaf, key_pem, new_key, pem_of, secrets_of, tls_secret
from vercel_certificate_operator.core.source import Source, SourceProblem
from vercel_certificate_operator.kube import tls_contents
from vercel_certificate_operator.kube.errors import Denied, Gone, KubeError, Unavailable
from vercel_certificate_operator.kube.secrets import Secrets
from vercel_certificate_operator.kube.tls_secrets import TlsSecrets
from vercel_certificate_operator.vercel import Upload

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
AUTHORITY = Authority(START - timedelta(days=365))
NAMES = ["shop.example.com", "*.shop.example.com"]
LEAF = AUTHORITY.leaf(NAMES, START)
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ECDSA = ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
WHERE = "Secret web/shop-tls"
Read = tuple[Source, Upload] | SourceProblem


class OneSecret(Secrets):
    """A cluster with one Secret, or with an error."""

    def __init__(self, found: Mapping[str, Any] | KubeError) -> None:
        self.found = found
        self.asked: list[tuple[str, str]] = []

    async def get(self, namespace: str, name: str) -> Mapping[str, Any]:
        self.asked.append((namespace, name))
        if isinstance(self.found, KubeError):
            raise self.found
        return self.found


async def read(found: Mapping[str, Any] | KubeError) -> Read:
    return await TlsSecrets(OneSecret(found), allowed=True).read("web", "shop-tls")


async def good(leaf: Leaf = LEAF, **entries: str | bytes | None) -> tuple[Source, Upload]:
    """Returns what a Secret holds that can be uploaded."""
    found = await read(tls_secret("shop-tls", leaf, entries))
    assert not isinstance(found, SourceProblem), found.message
    return found


async def wrong(leaf: Leaf = LEAF, entries: Mapping[str, Any] | None = None, **changes: Any) -> str:
    """Returns what is wrong with a Secret."""
    found = await read(tls_secret("shop-tls", leaf, entries, **changes))
    assert isinstance(found, SourceProblem)
    return found.message


# --- what is taken from it --------------------------------------------------------------------------------------------


async def test_the_leaf_says_what_the_rules_need_to_know() -> None:
    source, _ = await good()
    assert source.fingerprint == LEAF.fingerprint
    assert source.cns == set(NAMES)
    assert (source.not_before, source.expires_at) == (START, START + timedelta(days=90))
    assert source.managed_by is None


async def test_another_chain_of_the_same_certificate_has_another_hash() -> None:
    whole, _ = await good()
    again, _ = await good(ca=pem_of([AUTHORITY.root]))  # which is not needed
    alone, _ = await good(crt=LEAF.pem)
    assert whole.chain_hash == again.chain_hash != alone.chain_hash
    assert whole.fingerprint == alone.fingerprint


async def test_names_are_compared_in_lower_case() -> None:
    source, _ = await good(AUTHORITY.leaf(["Shop.Example.COM"], START))
    assert source.cns == {"shop.example.com"}


async def test_only_the_alternative_names_count() -> None:
    source, _ = await good(AUTHORITY.leaf([], START))
    assert source.cns == frozenset()


async def test_the_cert_manager_certificate_that_writes_the_secret_is_known() -> None:
    annotations = {**ALLOWED, "cert-manager.io/certificate-name": "shop"}
    found = await read(tls_secret("shop-tls", LEAF, annotations=annotations))
    assert not isinstance(found, SourceProblem)
    assert found[0].managed_by == "shop"


@pytest.mark.parametrize(
    ("key", "form", "header"),
    [
        (RSA, PrivateFormat.TraditionalOpenSSL, "RSA PRIVATE KEY"),
        (RSA, PrivateFormat.PKCS8, "PRIVATE KEY"),
        (ECDSA, PrivateFormat.TraditionalOpenSSL, "EC PRIVATE KEY"),
        (ECDSA, PrivateFormat.PKCS8, "PRIVATE KEY"),
        (ED25519, PrivateFormat.PKCS8, "PRIVATE KEY"),
    ],
    ids=["RSA PKCS#1", "RSA PKCS#8", "ECDSA SEC1", "ECDSA PKCS#8", "Ed25519 PKCS#8"],
)
async def test_every_kind_of_key_is_sent_as_it_is(key: Key, form: PrivateFormat, header: str) -> None:
    pem = key_pem(key, form)
    assert pem.startswith(f"-----BEGIN {header}-----")
    leaf = AUTHORITY.leaf(NAMES, START, key=key)
    source, upload = await good(leaf, key=pem)
    assert source.fingerprint == leaf.fingerprint
    assert upload.key.get_secret_value() == pem


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["RSA", "Ed25519"])
async def test_an_authority_with_any_kind_of_key_is_followed(key: Key) -> None:
    authority = Authority(START - timedelta(days=1), root_key=key, key=key)
    _, upload = await good(authority.leaf(NAMES, START))
    assert upload.ca == pem_of([authority.intermediate, authority.root])


async def test_what_follows_the_leaf_is_the_ca() -> None:
    _, upload = await good(ca=pem_of([AUTHORITY.root]))
    assert (upload.cert, upload.ca) == (LEAF.pem, pem_of([AUTHORITY.intermediate, AUTHORITY.root]))


async def test_a_leaf_alone_takes_the_ca_from_its_own_entry() -> None:
    _, upload = await good(crt=LEAF.pem, ca=pem_of([AUTHORITY.intermediate]))
    assert (upload.cert, upload.ca) == (LEAF.pem, pem_of([AUTHORITY.intermediate]))


async def test_a_leaf_without_any_ca_is_sent_alone() -> None:
    _, upload = await good(crt=LEAF.pem)
    assert (upload.cert, upload.ca) == (LEAF.pem, "")


async def test_text_around_the_certificates_is_not_sent() -> None:
    _, upload = await good(crt=f"subject=shop\n{LEAF.pem}\nissuer=root\n{LEAF.ca_pem}")
    assert upload.cert + upload.ca == LEAF.pem + LEAF.ca_pem


# --- what is wrong ----------------------------------------------------------------------------------------------------


async def test_a_secret_must_allow_that_its_key_is_sent() -> None:
    expected = f"{WHERE} does not allow the operator to send its private key to Vercel"
    for annotations in ({}, {"vercel-operator.io/allow-upload": "false"}, {"vercel-operator.io/allow-upload": "True"}):
        assert await wrong(annotations=annotations) == expected


async def test_a_secret_without_any_annotations_allows_nothing() -> None:
    secret = tls_secret("shop-tls", LEAF)
    secret["metadata"]["annotations"] = None
    found = await read(secret)
    assert isinstance(found, SourceProblem)
    assert "does not allow" in found.message


@pytest.mark.parametrize("kind", ["Opaque", "kubernetes.io/dockerconfigjson", ""])
async def test_another_type_of_secret_is_not_sent(kind: str) -> None:
    assert await wrong(kind=kind) == f"{WHERE} is not of type kubernetes.io/tls"


PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "no certificate": ({"crt": None}, f"{WHERE} has no tls.crt"),
    "empty certificate": ({"crt": ""}, f"{WHERE} has no tls.crt"),
    "no key": ({"key": None}, f"{WHERE} has no tls.key"),
    "empty key": ({"key": ""}, f"{WHERE} has no tls.key"),
    "text": ({"crt": "not a certificate"}, f"tls.crt of {WHERE} is not a certificate in PEM format"),
    "binary": ({"crt": b"\xff\xfe"}, f"tls.crt of {WHERE} is not PEM text"),
    "binary key": ({"key": b"\xff\xfe"}, f"tls.key of {WHERE} is not PEM text"),
    "key as certificate": ({"crt": LEAF.key_pem}, f"tls.crt of {WHERE} is not a certificate in PEM format"),
    "certificate as key": ({"key": LEAF.pem}, f"tls.key of {WHERE} is not a private key in PEM format"),
    "broken key": ({"key": LEAF.key_pem.replace("M", "N")}, f"tls.key of {WHERE} is not a private key in PEM format"),
    "another key": ({"key": key_pem(new_key())}, f"tls.key of {WHERE} does not match the certificate in tls.crt"),
    "another kind of key": ({"key": key_pem(RSA)}, f"tls.key of {WHERE} does not match the certificate in tls.crt"),
    "encrypted key": (
        {"key": key_pem(LEAF.key, encryption=BestAvailableEncryption(b"test-password"))},
        f"tls.key of {WHERE} is encrypted with a password",
    ),
    "encrypted in the old way": (
        {"key": key_pem(LEAF.key, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"test-password"))},
        f"tls.key of {WHERE} is encrypted with a password",
    ),
    "leaf last": (
        {"crt": pem_of([AUTHORITY.intermediate, LEAF.certificate])},
        (
            f"tls.crt of {WHERE} is out of order: the certificate of tls.key must be the first, and its chain must "
            "follow"
        ),
    ),
    "ca that is not the issuer": (
        {"crt": LEAF.pem, "ca": pem_of([AUTHORITY.root, AUTHORITY.intermediate])},
        f"ca.crt of {WHERE} does not begin with the issuer of the certificate in tls.crt (CN=intermediate)",
    ),
    "root before intermediate": (
        {"crt": pem_of([LEAF.certificate, AUTHORITY.root, AUTHORITY.intermediate])},
        f"tls.crt of {WHERE} is out of order: CN=shop.example.com was not issued by the certificate that follows it",
    ),
    "another authority": (
        {"crt": pem_of([LEAF.certificate, Authority(START).intermediate])},
        f"tls.crt of {WHERE} is out of order: CN=shop.example.com was not issued by the certificate that follows it",
    ),
    "leaf twice": (
        {"crt": pem_of([LEAF.certificate, LEAF.certificate])},
        f"tls.crt of {WHERE} is out of order: CN=shop.example.com was not issued by the certificate that follows it",
    ),
    "ca": ({"crt": LEAF.pem, "ca": "no"}, f"ca.crt of {WHERE} is not a certificate in PEM format"),
}


@pytest.mark.parametrize(("entries", "sentence"), PROBLEMS.values(), ids=PROBLEMS)
async def test_what_is_wrong_with_a_secret_is_one_sentence(entries: dict[str, Any], sentence: str) -> None:
    assert await wrong(entries=entries) == sentence


async def test_a_secret_without_data_has_no_certificate() -> None:
    secret = tls_secret("shop-tls", LEAF)
    del secret["data"]
    found = await read(secret)
    assert found == SourceProblem(f"{WHERE} has no tls.crt")


async def test_a_ca_that_is_not_needed_is_not_read() -> None:
    await good(ca="no")


async def test_data_that_is_not_base64_is_no_text() -> None:
    secret = tls_secret("shop-tls", LEAF)
    secret["data"]["tls.crt"] = "a"
    assert await read(secret) == SourceProblem(f"tls.crt of {WHERE} is not PEM text")


async def test_a_certificate_that_can_not_be_read_is_a_problem_of_the_secret() -> None:
    garbled = AUTHORITY.leaf(NAMES, START, garbled=True)
    assert await wrong(garbled) == f"tls.crt of {WHERE} holds a certificate that the operator can't read"


# --- the cluster ------------------------------------------------------------------------------------------------------


async def test_a_secret_that_is_not_there_is_a_problem() -> None:
    advice = "Create it, or correct spec.certificateSecretRef"
    assert await read(Gone("gone")) == SourceProblem(f"{WHERE} does not exist", advice)


async def test_a_secret_that_the_operator_may_not_read_is_a_problem() -> None:
    found = await read(Denied("no right"))
    advice = "Ask the administrator of the operator"
    assert found == SourceProblem(f"The operator may not read {WHERE}: no right", advice)


async def test_an_api_server_that_is_away_for_now_is_no_problem_of_the_secret() -> None:
    with pytest.raises(Unavailable):
        await read(Unavailable("away"))


async def test_an_administrator_can_turn_uploads_off() -> None:
    secrets = OneSecret(tls_secret("shop-tls", LEAF))
    found = await TlsSecrets(secrets, allowed=False).read("web", "shop-tls")
    expected = SourceProblem(
        "This operator uploads no certificates: its administrator turned that off",
        "Ask the administrator, or remove spec.certificateSecretRef",
        read=False,
    )
    assert found == expected
    assert secrets.asked == [], "and reads no Secret"


async def test_a_secret_is_read_in_the_namespace_of_the_resource_only() -> None:
    secrets = OneSecret(tls_secret("shop-tls", LEAF))
    await TlsSecrets(secrets, allowed=True).source("web", "shop-tls")
    assert secrets.asked == [("web", "shop-tls")]


# --- what is remembered -----------------------------------------------------------------------------------------------


def versioned(leaf: Leaf, version: str = "1", uid: str = "a", **entries: str | bytes | None) -> Mapping[str, Any]:
    secret = tls_secret("shop-tls", leaf, entries)
    secret["metadata"] |= {"uid": uid, "resourceVersion": version}
    return secret


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The Secrets that were parsed."""
    seen: list[Any] = []
    parse = tls_contents.read

    def counted(secret: Mapping[str, Any], where: str) -> Read:
        seen.append(secret)
        return parse(secret, where)

    monkeypatch.setattr(tls_contents, "read", counted)
    return seen


async def test_a_secret_that_has_not_changed_is_parsed_once(parsed: list[Any]) -> None:
    sources = TlsSecrets(OneSecret(versioned(LEAF)), allowed=True)
    first, again = await sources.read("web", "shop-tls"), await sources.read("web", "shop-tls")
    assert first == again
    assert not isinstance(again, SourceProblem)
    assert again[1].key.get_secret_value() == LEAF.key_pem
    assert len(parsed) == 1
    await sources.read("web", "other")
    assert len(parsed) == 2


async def test_a_secret_that_can_not_be_used_is_parsed_once(parsed: list[Any]) -> None:
    sources = TlsSecrets(OneSecret(versioned(LEAF, key="?")), allowed=True)
    first, again = await sources.read("web", "shop-tls"), await sources.read("web", "shop-tls")
    assert first == again
    assert isinstance(first, SourceProblem)
    assert len(parsed) == 1


@pytest.mark.parametrize(
    "changed",
    [
        versioned(AUTHORITY.leaf(NAMES, START), "2"),
        versioned(AUTHORITY.leaf(NAMES, START), uid="b"),
        pytest.param(versioned(AUTHORITY.leaf(NAMES, START)), id="after a restore of etcd"),
    ],
)
async def test_a_secret_that_has_changed_is_parsed_again(parsed: list[Any], changed: Mapping[str, Any]) -> None:
    secrets = OneSecret(versioned(LEAF))
    sources = TlsSecrets(secrets, allowed=True)
    await sources.read("web", "shop-tls")
    secrets.found = changed
    found = await sources.read("web", "shop-tls")
    assert not isinstance(found, SourceProblem)
    assert found[0].fingerprint != LEAF.fingerprint
    assert len(parsed) == 2


async def test_what_is_remembered_is_bounded_and_has_no_key(monkeypatch: pytest.MonkeyPatch, parsed: list[Any]) -> None:
    monkeypatch.setattr("vercel_certificate_operator.kube.tls_secrets.MOST_KEPT", 10_000)
    secrets = OneSecret(versioned(LEAF))
    sources = TlsSecrets(secrets, allowed=True)
    for number in range(30):
        await sources.read("web", f"shop-{number}")
    assert 2 <= len(sources._checked) <= 10
    assert sources._size == sum(checked.size for checked in sources._checked.values()) <= 10_000
    assert not any(line in repr(sources._checked) for line in secrets_of(LEAF.key_pem))
    await sources.read("web", "shop-29")
    assert len(parsed) == 30
    secrets.found = Gone("gone")
    for number in range(30):
        await sources.read("web", f"shop-{number}")
    assert not sources._checked
    assert sources._size == 0


# --- the key is never shown -------------------------------------------------------------------------------------------


def assert_hidden(text: str, *keys: str) -> None:
    for key in keys:
        assert not any(line in text for line in secrets_of(key))


async def test_nothing_of_the_key_is_in_what_is_read() -> None:
    source, upload = await good()
    assert_hidden(f"{source} {source!r} {upload} {upload!r}", LEAF.key_pem)


@pytest.mark.parametrize("entries", [entries for entries, _ in PROBLEMS.values()], ids=PROBLEMS)
async def test_nothing_of_the_key_is_in_a_problem_or_in_the_log(
    entries: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sentence = await wrong(entries=entries)
    key = entries.get("key")
    assert_hidden(sentence + caplog.text, LEAF.key_pem, *([key] if isinstance(key, str) else []))


async def test_the_key_is_nowhere_but_in_what_is_sent() -> None:
    _, upload = await good()
    assert_hidden(upload.cert + upload.ca, LEAF.key_pem)
    encoded = base64.b64encode(upload.key.get_secret_value().encode()).decode()
    assert encoded == tls_secret("shop-tls", LEAF)["data"]["tls.key"]
