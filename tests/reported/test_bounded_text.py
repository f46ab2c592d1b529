"""Text and numbers that users write are bounded: what is kept of them, what is written back, and the time they take."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support.tls import ALLOWED, Authority, key_pem, pem_of, tls_secret
from vercel_certificate_operator.core.source import Source, SourceProblem
from vercel_certificate_operator.kube import tls_contents

NAMES = ["shop.example.com"]
START = datetime.now(UTC) - timedelta(days=1)
AUTHORITY = Authority(START)
LEAF = AUTHORITY.leaf(NAMES, START)

# --- an uploaded certificate ------------------------------------------------------------------------------------------


def read(secret: dict[str, Any]) -> Source | str:
    """Returns what a Secret holds, or what is wrong with it. The event loop waits meanwhile: the Lease lasts 15 s."""
    began = time.perf_counter()
    found = tls_contents.read(secret, "Secret evil/huge")
    assert time.perf_counter() - began < 0.5
    return found.message if isinstance(found, SourceProblem) else found[0]


def _fraction_of_e(bits: int) -> int:
    one = 1 << (bits + 64)
    total, term, number = 0, one, 0
    while term:
        total, number = total + term, number + 1
        term //= number
    return total >> 64


def _fraction_of_pi(bits: int) -> int:
    one = 1 << (bits + 64)

    def arctan(x: int) -> int:
        power, total, n, sign = one // x, 0, 1, 1
        while power:
            total, power, n, sign = total + sign * (power // n), power // (x * x), n + 2, -sign
        return total

    return (16 * arctan(5) - 4 * arctan(239)) >> 64


def _large_rsa_key() -> str:
    """A key of 16,384 bits from two primes that anybody can look up (RFC 3526 group 18, RFC 7919 ffdhe8192)."""
    p = 2**8192 - 2**8128 - 1 + 2**64 * (_fraction_of_pi(8062) + 4743158)
    q = 2**8192 - 2**8128 + (_fraction_of_e(8062) + 10965728) * 2**64 - 1
    e, d = 65537, pow(65537, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, p * q))
    return key_pem(numbers.private_key(unsafe_skip_rsa_key_validation=True))


def test_a_huge_rsa_key_does_not_stop_the_event_loop() -> None:
    found = read(tls_secret("huge", LEAF, {"key": _large_rsa_key()}))
    assert found == "tls.key of Secret evil/huge does not match the certificate in tls.crt"


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_kind_of_key_that_no_certificate_at_vercel_has_is_not_loaded(form: PrivateFormat) -> None:
    key = dsa.generate_private_key(2048).private_bytes(Encoding.PEM, form, NoEncryption()).decode()
    found = read(tls_secret("huge", LEAF, {"key": key}))
    assert found == "tls.key of Secret evil/huge is not a private key in PEM format"


def test_a_key_with_parameters_before_it_is_found() -> None:
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    key = parameters + key_pem(LEAF.key, PrivateFormat.TraditionalOpenSSL)
    assert isinstance(read(tls_secret("huge", LEAF, {"key": key})), Source)


def test_a_large_text_in_place_of_a_key_is_not_parsed() -> None:
    found = read(tls_secret("huge", LEAF, {"key": LEAF.key_pem + "x" * 16 * 1024}))
    assert found == "tls.key of Secret evil/huge is larger than 16 KiB"


def test_a_certificate_with_a_huge_key_is_not_uploaded() -> None:
    numbers = rsa.RSAPublicNumbers(65537, (1 << 9000) + 1)
    name = AUTHORITY.intermediate.subject
    issuer = (x509.CertificateBuilder(name, name, numbers.public_key(), 1, START, START + timedelta(days=90))).sign(
        AUTHORITY.key, hashes.SHA256()
    )
    found = read(tls_secret("huge", LEAF, {"crt": LEAF.pem + pem_of([issuer])}))
    assert found == (
        "tls.crt of Secret evil/huge holds a certificate whose key has 9,001 bits: the operator uploads those with at "
        "most 8,192"
    )


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (1500, "tls.crt of Secret evil/huge is larger than 64 KiB"),
        (30, "tls.crt of Secret evil/huge holds 33 certificates: the operator uploads at most 20"),
    ],
)
def test_a_chain_of_many_certificates_is_not_uploaded(count: int, sentence: str) -> None:
    text = LEAF.pem + LEAF.ca_pem + pem_of([AUTHORITY.root]) * count
    assert read(tls_secret("huge", LEAF, {"crt": text})) == sentence


def test_a_certificate_with_as_many_names_as_status_has_room_for_is_uploaded() -> None:
    source = read(tls_secret("huge", AUTHORITY.leaf([f"s{number}.example" for number in range(1000)], START)))
    assert isinstance(source, Source)
    assert len(source.cns) == 1000


def test_a_certificate_with_more_names_is_not_uploaded() -> None:
    found = read(tls_secret("huge", AUTHORITY.leaf([f"s{number}.example" for number in range(1001)], START)))
    assert found == (
        "The certificate in tls.crt of Secret evil/huge has 1,001 names: the operator uploads certificates with at "
        "most 1,000"
    )


def test_the_name_of_the_cert_manager_certificate_has_the_length_of_a_name() -> None:
    annotations = {**ALLOWED, "cert-manager.io/certificate-name": "x" * 200_000}
    source = read(tls_secret("huge", LEAF, annotations=annotations))
    assert isinstance(source, Source)
    assert source.managed_by == "x" * 253
