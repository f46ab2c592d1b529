"""What a TLS Secret holds: the certificate, its chain and its key, checked before anything is sent.

The key stays a secret type: it is in no message and no log. Importing this module takes 18 MB of memory, so it is
imported with the first Secret.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from pydantic import SecretStr

from vercel_certificate_operator.core.certificate import normalized
from vercel_certificate_operator.core.source import ALLOW_ANNOTATION, Source, SourceProblem
from vercel_certificate_operator.vercel import Upload

TYPE = "kubernetes.io/tls"
CERT_MANAGER = "cert-manager.io/certificate-name"
"""The annotation by which cert-manager names the Certificate that writes a Secret. Source: cert-manager's API."""


_UNREADABLE = (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""What the library raises for a certificate that is malformed, or made with something that it doesn't know."""


class _Unusable(Exception):
    """The Secret can't be uploaded."""

    def __init__(self, message: str, advice: str = "Correct the Secret") -> None:
        super().__init__(message)
        self.problem = SourceProblem(message, advice)


def read(secret: Mapping[str, Any], where: str) -> tuple[Source, Upload] | SourceProblem:
    """Returns what a Secret holds, or why it can't be uploaded.

    Args:
        secret: as the API server sends it.
        where: its name, for messages.
    """
    try:
        return _read(secret, where)
    except _Unusable as unusable:
        return unusable.problem
    except _UNREADABLE:
        # Parts of a certificate are parsed only when they are used.
        return SourceProblem(f"tls.crt of {where} holds a certificate that the operator can't read")


def _read(secret: Mapping[str, Any], where: str) -> tuple[Source, Upload]:
    annotations = secret["metadata"].get("annotations") or {}
    if secret.get("type") != TYPE:
        raise _Unusable(f"{where} is not of type {TYPE}", "Create it again: the type of a Secret can't be changed")
    if annotations.get(ALLOW_ANNOTATION) != "true":
        raise _Unusable(
            f"{where} does not allow the operator to send its private key to Vercel",
            f'To allow it, set the annotation {ALLOW_ANNOTATION} of the Secret to "true"',
        )
    data = secret.get("data") or {}
    chain = _certificates(_text(data, "tls.crt", where), f"tls.crt of {where}")
    if not chain:
        raise _Unusable(f"tls.crt of {where} holds no certificate")
    key = SecretStr(_text(data, "tls.key", where))
    _check_key(chain, key, where)
    _check_order(chain, where)
    ca = chain[1:]
    if not ca and data.get("ca.crt"):
        ca = _certificates(_text(data, "ca.crt", where), f"ca.crt of {where}")
        _check_issuer(chain[0], ca, where)
    upload = Upload(_pem(chain[:1]), key, _pem(ca))
    chain_hash = hashlib.sha256(f"{upload.cert}{upload.ca}".encode()).hexdigest()[:32]
    return _source(chain[0], chain_hash, annotations.get(CERT_MANAGER)), upload


def _text(data: Mapping[str, str], entry: str, where: str) -> str:
    if not data.get(entry):
        raise _Unusable(f"{where} has no {entry}")
    try:
        return base64.b64decode(data[entry]).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise _Unusable(f"{entry} of {where} is not PEM text") from None


def _certificates(pem: str, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise _Unusable(f"{what} is not a certificate in PEM format") from None


def _check_key(chain: Sequence[x509.Certificate], key: SecretStr, where: str) -> None:
    try:
        public = _public_key(load_pem_private_key(key.get_secret_value().encode(), password=None))
    except TypeError:
        raise _Unusable(f"tls.key of {where} is encrypted with a password", "Store the key without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _Unusable(f"tls.key of {where} is not a private key in PEM format") from None
    matches = [public == _public_key(certificate) for certificate in chain]
    if matches[0]:
        return
    if any(matches):
        raise _Unusable(
            f"tls.crt of {where} is out of order: the certificate of tls.key must be the first, and its chain must "
            "follow"
        )
    raise _Unusable(f"tls.key of {where} does not match the certificate in tls.crt")


def _public_key(of: x509.Certificate | PrivateKeyTypes) -> bytes:
    return of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_order(chain: Sequence[x509.Certificate], where: str) -> None:
    for certificate, issuer in pairwise(chain):
        if not _is_issued_by(certificate, issuer):
            raise _Unusable(
                f"tls.crt of {where} is out of order: {certificate.subject.rfc4514_string()[:200]} was not issued by "
                "the certificate that follows it"
            )


def _check_issuer(leaf: x509.Certificate, ca: Sequence[x509.Certificate], where: str) -> None:
    if not _is_issued_by(leaf, ca[0]):
        issuer = leaf.issuer.rfc4514_string()[:200]
        raise _Unusable(
            f"ca.crt of {where} does not begin with the issuer of the certificate in tls.crt ({issuer})",
            "Put the certificate of the issuer behind the other one in tls.crt",
        )


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _source(leaf: x509.Certificate, chain_hash: str, managed_by: str | None) -> Source:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        cns = normalized(names.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        cns = frozenset()
    return Source(
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        cns=cns,
        not_before=leaf.not_valid_before_utc,
        expires_at=leaf.not_valid_after_utc,
        chain_hash=chain_hash,
        managed_by=managed_by,
    )


def _pem(certificates: Sequence[x509.Certificate]) -> str:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates).decode()
