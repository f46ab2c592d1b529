"""Text and numbers that users write are bounded: what is kept of them, what is written back, and the time they take."""

import base64
import hashlib
import json
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from kubernetes.aio.client import CoreV1Api

from support.acting import HOUR, asked
from support.clock import TestClock
from support.memory_api import MemoryApi, SimulatedWorld
from support.tls import ALLOWED, Authority, key_pem, pem_of, tls_secret
from vercel_certificate_operator.core.resource import FINALIZER
from vercel_certificate_operator.core.source import Source, SourceProblem
from vercel_certificate_operator.kube import tls_contents
from vercel_certificate_operator.kube.vercel_certificates import VercelCertificates

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


@pytest.mark.parametrize(("bits", "refused"), [(64, False), (65, True), (3000, True)])
def test_a_certificate_whose_key_has_a_huge_exponent_is_not_checked(bits: int, refused: bool) -> None:
    """A check of its signature takes a hundred times as long, in which nothing else runs."""
    numbers = rsa.RSAPublicNumbers((1 << bits - 1) + 1, (1 << 3071) + 1)
    name = AUTHORITY.intermediate.subject
    issuer = (x509.CertificateBuilder(name, name, numbers.public_key(), 1, START, START + timedelta(days=90))).sign(
        AUTHORITY.key, hashes.SHA256()
    )
    found = read(tls_secret("huge", LEAF, {"crt": LEAF.pem + pem_of([issuer])}))
    assert isinstance(found, str)
    assert refused == (
        found
        == "tls.crt of Secret evil/huge holds a certificate whose RSA key has a public exponent of more than 64 bits: "
        "the operator does not upload it"
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


# --- a token ----------------------------------------------------------------------------------------------------------


async def put_keys(world: SimulatedWorld, data: dict[str, str], **metadata: Any) -> None:
    """A Secret with several keys."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    body: Any = {"metadata": {"name": "vercel", **metadata}, "data": encoded}
    await CoreV1Api(world.api).create_namespaced_secret(world.namespace, body)


def remembered_tokens(world: SimulatedWorld) -> list[str]:
    """What the operator remembers of Secrets: tokens, and why there is none."""
    assert world.operator is not None
    return [str(found) for _, found in world.operator.tokens._remembered.values()]


async def test_a_token_has_the_size_of_a_token_whatever_its_secret_says(world: SimulatedWorld) -> None:
    """Marked, any value counts as a token. A Secret holds a megabyte, and a token is kept for two days."""
    await put_keys(world, {"token": "x" * 500_000}, labels={"vercel-operator.io/token": "true"})
    await world.apply("site", NAMES, tokenSecretRef={"name": "vercel", "key": "token"})
    await world.quiet()
    message = (await world.condition("site", "Issuing"))[2]
    assert "key token of Secret web/vercel does not hold a token: it has more than 512 characters" in message
    assert not world.emulator.journal.entries


async def test_a_message_names_a_few_keys_of_a_secret_and_how_many_more_there_are(world: SimulatedWorld) -> None:
    """A Secret can have 1.4 MB of names of keys; each resource that names one that is missing remembers them all."""
    await put_keys(world, {"a": "", **{f"{'k' * 240}-{number:04}": "" for number in range(3000)}})
    await world.apply("site", NAMES, tokenSecretRef={"name": "vercel", "key": "missing"})
    await world.quiet()
    message = (await world.condition("site", "Issuing"))[2]
    named = ", ".join(["a", *[f"{'k' * 62}…"] * 4])
    assert f"Secret web/vercel has no key missing (it has: {named}, and 2,996 more)" in message
    assert max(map(len, remembered_tokens(world))) < 1_000


# --- a resource -------------------------------------------------------------------------------------------------------

LONG = "x" * 200_000


async def sizes(world: SimulatedWorld) -> tuple[int, int]:
    """Returns how much is written to the status of a resource, and how much of it is kept."""
    assert world.operator is not None
    (stored,) = world.operator.objects._stored.values()
    return len(json.dumps(await world.status("site"))), len(stored.text)


async def ready(world: SimulatedWorld) -> None:
    await world.apply("site", NAMES)
    await world.quiet()
    assert await world.ready("site") == ("True", "Issued")


async def test_of_a_long_renew_request_a_hash_is_kept(world: SimulatedWorld) -> None:
    await ready(world)
    await world.annotate("site", "renew", LONG)
    await world.advance(HOUR)
    assert len(asked(world, "issue")) == 2, "once"
    status = await world.status("site")
    assert status["lastRenewRequest"] == f"sha256:{hashlib.sha256(LONG.encode()).hexdigest()}"
    assert max(await sizes(world)) < 5_000
    await world.annotate("site", "renew", f"{LONG}y")
    await world.quiet()
    assert len(asked(world, "issue")) == 3, "another value is another request"


async def test_a_renew_request_of_256_characters_is_kept_as_it_is(world: SimulatedWorld) -> None:
    await ready(world)
    await world.annotate("site", "renew", "x" * 256)
    await world.quiet()
    assert (await world.status("site"))["lastRenewRequest"] == "x" * 256


async def test_of_a_long_id_to_adopt_the_beginning_is_kept(world: SimulatedWorld) -> None:
    await ready(world)
    await world.annotate("site", "adopt-id", LONG)
    await world.advance(3 * HOUR)
    assert max(await sizes(world)) < 5_000


@pytest.mark.parametrize("count", [9, 10, 11, 3000])
async def test_many_finalizers_of_others_are_not_kept_and_not_removed(world: SimulatedWorld, count: int) -> None:
    await ready(world)
    others = [f"example.com/{'x' * 50}-{number}" for number in range(count)]
    await world.patch("site", {"metadata": {"finalizers": [*others, FINALIZER]}})
    await world.quiet()
    assert max(await sizes(world)) < 5_000
    await world.delete("site")
    await world.quiet()
    body = await world.get("site")
    assert body is not None
    assert body["metadata"]["finalizers"] == others
    assert not world.live()


async def test_our_finalizer_is_added_to_many_of_others(world: SimulatedWorld) -> None:
    others = [f"example.com/{number}" for number in range(30)]
    await world.apply("site", NAMES, suspend=True)
    await world.patch("site", {"metadata": {"finalizers": others}})
    await world.patch("site", {"spec": {"suspend": False}})
    await world.quiet()
    body = await world.get("site")
    assert body is not None
    assert body["metadata"]["finalizers"] == [*others, FINALIZER]


async def test_a_page_of_large_objects_fits_into_memory() -> None:
    """At the start, and every half hour. An object can have 1.5 MB: in managedFields, finalizers, owners."""
    api = MemoryApi(TestClock())
    large = "x" * 1_000_000
    for number in range(100):
        metadata = {"name": f"site-{number:03}", "managedFields": [{"manager": "x", "fieldsV1": {"f:x": large}}]}
        path = "/apis/vercel-operator.io/v1/namespaces/web/vercelcertificates"
        api.handle("POST", path, {"metadata": metadata, "spec": {"cns": NAMES}}, "application/json")
    tracemalloc.start()
    try:
        count = 0
        async for _ in VercelCertificates(api.client()).list(["web"]):
            count += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100
    assert peak < 100e6, f"{peak / 1e6:.0f} MB"
