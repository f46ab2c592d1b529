"""What a TLS Secret holds: the certificate, its chain and its key, checked before anything is sent.

The key stays a secret type: it is in no message and no log. Importing this module takes 18 MB of memory, so it is
imported with the first Secret.

What a Secret holds is bounded before it is parsed. The library keeps Python's global lock while it parses and checks,
so a thread would not help: other tasks, as the renewal of the Lease, would wait all the same.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from pydantic import SecretStr

from vercel_certificate_operator.core.certificate import normalized
from vercel_certificate_operator.core.source import ALLOW_ANNOTATION, Source, SourceProblem
from vercel_certificate_operator.vercel import Upload

TYPE = "kubernetes.io/tls"
CERT_MANAGER = "cert-manager.io/certificate-name"
"""The annotation by which cert-manager names the Certificate that writes a Secret. Source: cert-manager's API."""
LONGEST_NAME = 253
"""Characters of an object's name, and so of what that annotation can name."""
LARGEST_CHAIN, LARGEST_KEY = 64 * 1024, 16 * 1024
"""Bytes of PEM. An RSA key of 8,192 bits has 6.4 kB."""
LONGEST_CHAIN = 20
"""Certificates."""
LARGEST_MODULUS = 8192
"""Bits of an RSA or DSA key, with which a signature may have to be checked."""
LARGEST_EXPONENT = 64
"""Bits of the public exponent of an RSA key. The longer it is, the longer a check takes. 65537 is usual: 17 bits."""
MOST_NAMES = 1000
"""Names of a certificate: ``status.cns`` has room for so many."""

_KEY = re.compile(r"-----BEGIN ((?:RSA |EC |ENCRYPTED )?PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_LENGTH = rb"(?:[\x00-\x7f]|\x81.|\x82..)"
_KIND = re.compile(
    rb"\x30%b\x02\x01[\x00\x01]\x30%b\x06"
    rb"(?:\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01[\x01\x0a]|\x07\x2a\x86\x48\xce\x3d\x02\x01|\x03\x2b\x65[\x70\x71])"
    % (_LENGTH, _LENGTH),
    re.DOTALL,
)
"""How a key in PKCS #8 begins that is for RSA (or RSA-PSS), ECDSA, Ed25519 or Ed448. Source: RFC 5208, RFC 8410.

For other kinds (DSA, Diffie-Hellman), the library computes the public key, which takes long if the numbers are large.
"""

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


def key_in(secret: Mapping[str, Any]) -> SecretStr:
    """Returns the key in a Secret that was checked before."""
    return SecretStr(_text(secret["data"], "tls.key", "the Secret", LARGEST_KEY))


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
    chain = _certificates(_text(data, "tls.crt", where, LARGEST_CHAIN), f"tls.crt of {where}")
    if not chain:
        raise _Unusable(f"tls.crt of {where} holds no certificate")
    key = SecretStr(_text(data, "tls.key", where, LARGEST_KEY))
    _check_key(chain, key, where)
    _check_order(chain, where)
    ca = chain[1:]
    if not ca and data.get("ca.crt"):
        ca = _certificates(_text(data, "ca.crt", where, LARGEST_CHAIN), f"ca.crt of {where}")
        _check_issuer(chain[0], ca, where)
    upload = Upload(_pem(chain[:1]), key, _pem(ca))
    chain_hash = hashlib.sha256(f"{upload.cert}{upload.ca}".encode()).hexdigest()[:32]
    managed_by = annotations.get(CERT_MANAGER)
    source = _source(chain[0], chain_hash, managed_by and managed_by[:LONGEST_NAME])
    if len(source.cns) > MOST_NAMES:
        raise _Unusable(
            f"The certificate in tls.crt of {where} has {len(source.cns):,} names: the operator uploads certificates "
            f"with at most {MOST_NAMES:,}"
        )
    return source, upload


def _text(data: Mapping[str, str], entry: str, where: str, largest: int) -> str:
    """Returns an entry's text. ``largest`` is in bytes."""
    if not data.get(entry):
        raise _Unusable(f"{where} has no {entry}")
    if len(data[entry]) > (largest + 2) // 3 * 4:
        raise _Unusable(f"{entry} of {where} is larger than {largest // 1024} KiB")
    try:
        return base64.b64decode(data[entry]).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise _Unusable(f"{entry} of {where} is not PEM text") from None


def _certificates(pem: str, what: str) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise _Unusable(f"{what} is not a certificate in PEM format") from None
    if len(found) > LONGEST_CHAIN:
        raise _Unusable(f"{what} holds {len(found)} certificates: the operator uploads at most {LONGEST_CHAIN}")
    for certificate in found:
        try:
            public = certificate.public_key()
        except (ValueError, UnsupportedAlgorithm):
            raise _Unusable(f"{what} holds a certificate whose key the operator can't read") from None
        if isinstance(public, rsa.RSAPublicKey | dsa.DSAPublicKey) and public.key_size > LARGEST_MODULUS:
            raise _Unusable(
                f"{what} holds a certificate whose key has {public.key_size:,} bits: the operator uploads those with "
                f"at most {LARGEST_MODULUS:,}"
            )
        if isinstance(public, rsa.RSAPublicKey) and public.public_numbers().e.bit_length() > LARGEST_EXPONENT:
            raise _Unusable(
                f"{what} holds a certificate whose RSA key has a public exponent of more than {LARGEST_EXPONENT} bits: "
                "the operator does not upload it",
                "Use a key with the usual exponent, 65537",
            )
    return found


def _check_key(chain: Sequence[x509.Certificate], key: SecretStr, where: str) -> None:
    try:
        public = _public_key(_private_key(key))
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


def _private_key(key: SecretStr) -> PrivateKeyTypes:
    """Returns the first key in PEM text. Raises TypeError if it is encrypted, and what the library raises."""
    block = _KEY.search(key.get_secret_value())
    if block is None:
        raise ValueError("no private key")
    if block[1] == "PRIVATE KEY":
        beginning = base64.b64decode("".join(block[0].split("-----")[2].split())[:64])  # the kind is in the first bytes
        if not _KIND.match(beginning):
            raise UnsupportedAlgorithm("not the key of a certificate")
    # The validation tests whether large numbers are prime: 0.2 s for 4,096 bits, 33 s for 16,384. The key is compared
    # with the certificate anyway.
    return load_pem_private_key(block[0].encode(), password=None, unsafe_skip_rsa_key_validation=True)


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
