"""Reading uploaded certificates."""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from vercel_emulator.errors import ApiError


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What the emulator keeps of an uploaded certificate.

    Attributes:
        cns: Its DNS names, in lower case.
        not_before: When it becomes valid, in epoch milliseconds.
        expires_at: When it expires, in epoch milliseconds.
    """

    cns: tuple[str, ...]
    not_before: int
    expires_at: int


def read_upload(*, ca: str, key: str, cert: str, skip_validation: bool, now: datetime) -> Uploaded:
    """Read and check an uploaded certificate.

    Args:
        ca: The issuer's certificates, PEM text; may be empty.
        key: The private key, PEM text.
        cert: The certificate and its chain, PEM text.
        skip_validation: Skip the checks of validity and issuer.
        now: The time at which the certificate must be valid.

    Returns:
        The certificate's names and expiry.

    Raises:
        ApiError: 400, because the text isn't PEM, the key doesn't match, the certificate has no DNS name, or (without
            ``skip_validation``) it isn't valid at ``now`` or wasn't issued by ``ca``.
    """
    leaf, *chain = _certificates("cert", cert)
    issuers = [*chain, *_certificates("ca", ca)] if ca.strip() else chain
    try:
        private = load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ApiError(400, "bad_request", "`key` is not an unencrypted private key in PEM.") from error

    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    try:
        fits = private.public_key().public_bytes(*form) == leaf.public_key().public_bytes(*form)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        cns = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        cns = [str(attribute.value) for attribute in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ApiError(400, "bad_request", "`cert` has a key or an extension that can't be read.") from error
    if not fits:
        raise ApiError(400, "bad_request", "`key` is not the private key of `cert`.")
    if not cns:
        raise ApiError(400, "bad_request", "`cert` has no DNS name.")

    if not skip_validation:
        if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
            raise ApiError(400, "bad_request", "`cert` is not valid now (`skipValidation` lets it pass).")
        try:
            leaf.verify_directly_issued_by(issuers[0] if issuers else leaf)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
            message = "`cert` was not issued by `ca` (`skipValidation` lets it pass)."
            raise ApiError(400, "bad_request", message) from error
    return Uploaded(
        cns=tuple(name.lower() for name in cns),
        not_before=round(leaf.not_valid_before_utc.timestamp() * 1000),
        expires_at=round(leaf.not_valid_after_utc.timestamp() * 1000),
    )


def names_of(cert: object) -> list[str] | None:
    """Return the DNS names of a certificate in PEM; None if it can't be read."""
    try:
        leaf = x509.load_pem_x509_certificates(str(cert).encode())[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return None
    return names.get_values_for_type(x509.DNSName)


def _certificates(field: str, pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise ApiError(400, "bad_request", f"`{field}` is not a certificate in PEM.") from error
