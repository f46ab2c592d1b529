"""Certificates with their keys, and Secrets that hold them, as cert-manager would write them."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
ALLOWED = {"vercel-operator.io/allow-upload": "true"}


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(
    key: Key,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> str:
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode()


def secrets_of(pem: str) -> list[str]:
    """Returns the lines of a key that must not appear anywhere."""
    return [line for line in pem.splitlines() if "-----" not in line and len(line) >= 16]


@dataclass
class Leaf:
    """A certificate, its key, and the certificates that follow it."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...]

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def pem(self) -> str:
        return pem_of([self.certificate])

    @property
    def ca_pem(self) -> str:
        return pem_of(self.chain)

    @property
    def key_pem(self) -> str:
        return key_pem(self.key)


def pem_of(certificates: Sequence[x509.Certificate]) -> str:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates).decode()


@dataclass
class Authority:
    """A company's own certificate authority: a root and an intermediate."""

    start: datetime
    """When its certificates become valid."""
    root_key: Key = field(default_factory=new_key)
    key: Key = field(default_factory=new_key)

    def __post_init__(self) -> None:
        self.root = self._signed("root", "root", self.root_key, self.root_key)
        self.intermediate = self._signed("intermediate", "root", self.key, self.root_key)

    def _signed(self, subject: str, issuer: str, key: Key, signer: Key) -> x509.Certificate:
        builder = (
            _builder(subject, issuer, key, self.start, timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return builder.sign(signer, _digest(signer))

    def leaf(
        self,
        names: Sequence[str],
        start: datetime,
        lifetime: timedelta = timedelta(days=90),
        *,
        key: Key | None = None,
        garbled: bool = False,
    ) -> Leaf:
        """Returns a certificate that the intermediate signs.

        Args:
            names: the alternative names; without any, it has no such extension.
            start: when it becomes valid.
            lifetime: how long it is valid.
            key: in place of a new one.
            garbled: whether nobody can read its names.
        """
        key = key or new_key()
        builder = _builder(names[0] if names else "nobody", "intermediate", key, start, lifetime)
        if garbled:
            nonsense = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\xff")
            builder = builder.add_extension(nonsense, critical=False)
        elif names:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return Leaf(builder.sign(self.key, _digest(self.key)), key, (self.intermediate, self.root))


def _builder(subject: str, issuer: str, key: Key, start: datetime, lifetime: timedelta) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lifetime)
    )


def _digest(key: Key) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def tls_secret(
    name: str,
    leaf: Leaf,
    entries: Mapping[str, str | bytes | None] | None = None,
    *,
    annotations: dict[str, str] | None = None,
    kind: str = "kubernetes.io/tls",
) -> dict[str, Any]:
    """Returns a Secret.

    Args:
        name: its name.
        leaf: what it holds.
        entries: in place of those of the leaf: ``crt``, ``key``, ``ca``; None: not there.
        annotations: in place of the consent.
        kind: its type.
    """
    texts = {"crt": leaf.pem + leaf.ca_pem, "key": leaf.key_pem, "ca": None, **(entries or {})}
    files = {"crt": "tls.crt", "key": "tls.key", "ca": "ca.crt"}
    data = {
        files[entry]: base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()
        for entry, text in texts.items()
        if text is not None
    }
    metadata = {"name": name, "annotations": ALLOWED if annotations is None else annotations}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "data": data}
