"""What Vercel says of a certificate, read: the id is never lost, and what is odd is said."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vercel.wire import CERTIFICATE
from vercel_certificate_operator.core.certificate import Certificate
from vercel_certificate_operator.vercel import models

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
TIMES = st.integers() | st.floats() | st.integers(0, 4 * 10**12) | JSON
NAMES = st.lists(st.sampled_from(["example.com", "*.Example.com", ""]) | JSON, max_size=3) | JSON
FIELDS = {"cns": NAMES, "createdAt": TIMES, "expiresAt": TIMES, "autoRenew": JSON, "somethingNew": JSON}


def test_a_good_answer_is_read_whole_and_nothing_is_odd() -> None:
    assert models.certificate(CERTIFICATE, asked=["EXAMPLE.com"]) == Certificate(
        id="cert_1",
        cns=frozenset({"example.com"}),
        created_at=datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC),
        expires_at=datetime(2025, 9, 13, 15, 6, 40, tzinfo=UTC),
        auto_renew=True,
    )


def test_milliseconds_are_kept() -> None:
    certificate = models.certificate({**CERTIFICATE, "createdAt": 1_750_000_000_123})
    assert certificate.created_at == datetime(2025, 6, 15, 15, 6, 40, 123_000, tzinfo=UTC)


def test_fields_that_are_new_at_vercel_are_no_oddity() -> None:
    assert models.certificate({**CERTIFICATE, "issuer": {"name": "somebody"}}).oddities == ()


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "cert_1", [], [CERTIFICATE], {}, {"cns": ["example.com"]}])
def test_what_is_no_object_or_has_no_id_is_no_certificate(value: object) -> None:
    with pytest.raises(models.Unreadable):
        models.certificate(value)


@pytest.mark.parametrize("certificate_id", [None, "", " ", "\n", ".", "..", 1, True, ["cert_1"], {"id": "cert_1"}])
def test_an_id_that_is_no_text_or_blank_or_only_dots_is_none(certificate_id: object) -> None:
    with pytest.raises(models.Unreadable, match="id"):
        models.certificate({**CERTIFICATE, "id": certificate_id})


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("cns", "example.com", 'Vercel sent "example.com" as cns, which is not a list of names.'),
        ("cns", ["example.com", 1], "Vercel sent a list as cns, which is not a list of names."),
        ("cns", {"0": "example.com"}, "Vercel sent an object as cns, which is not a list of names."),
        ("cns", None, "Vercel sent no cns."),
        ("createdAt", "1750000000000", 'Vercel sent "1750000000000" as createdAt, which is not a time in epoch mill'),
        ("createdAt", True, "Vercel sent true as createdAt, which is not a time in epoch milliseconds."),
        ("createdAt", float("nan"), "Vercel sent NaN as createdAt, which is not a time in epoch milliseconds."),
        ("createdAt", float("inf"), "Vercel sent Infinity as createdAt, which is not a time in epoch milliseconds."),
        ("createdAt", None, "Vercel sent no createdAt."),
        ("createdAt", -1, "Vercel sent -1 as createdAt, which is not a plausible time."),
        ("createdAt", 0, "Vercel sent 0 as createdAt, which is not a plausible time."),
        ("createdAt", 253_402_300_800_000, "Vercel sent 253402300800000 as createdAt, which is not a plausible time"),
        ("expiresAt", 1e300, "Vercel sent 1e+300 as expiresAt, which is not a plausible time."),
        ("expiresAt", 10**400, "Vercel sent 1000000000000000000000000000000000000000000000000000"),
        ("expiresAt", "x" * 10_000, 'Vercel sent "xxxxxxxxxxxx'),
        ("autoRenew", "true", 'Vercel sent "true" as autoRenew, which is not true or false.'),
        ("autoRenew", 1, "Vercel sent 1 as autoRenew, which is not true or false."),
        ("autoRenew", None, "Vercel sent no autoRenew."),
    ],
)
def test_a_field_that_can_not_be_read_is_left_out_and_said_to_be_odd(field: str, value: object, sentence: str) -> None:
    certificate = models.certificate({**CERTIFICATE, field: value}, asked=["example.com"])
    read = {
        "cns": certificate.cns or None,
        "createdAt": certificate.created_at,
        "expiresAt": certificate.expires_at,
        "autoRenew": certificate.auto_renew,
    }
    assert certificate.id == "cert_1"
    assert [name for name, value in read.items() if value is None] == [field]
    assert len(certificate.oddities) == 1
    assert certificate.oddities[0].startswith(sentence)
    assert len(certificate.oddities[0]) < 200


@pytest.mark.parametrize("field", ["cns", "createdAt", "expiresAt", "autoRenew"])
def test_a_field_that_is_missing_is_said_to_be(field: str) -> None:
    certificate = models.certificate({name: value for name, value in CERTIFICATE.items() if name != field})
    assert certificate.id == "cert_1"
    assert certificate.oddities == (f"Vercel sent no {field}.",)


@pytest.mark.parametrize("seconds", [100_000_000, 1_750_000_000, 99_999_999_999])
def test_seconds_in_place_of_milliseconds_are_read_as_seconds_and_said_to_be(seconds: int) -> None:
    certificate = models.certificate({"id": "cert_1", "cns": [], "autoRenew": True, "expiresAt": seconds})
    assert certificate.expires_at == datetime.fromtimestamp(seconds, UTC)
    assert f"Vercel sent {seconds} as expiresAt, which looks like seconds and was read as such." in certificate.oddities


@pytest.mark.parametrize("expires_at", [1_749_999_999_999, 1_750_000_000_000])
def test_an_expiry_no_later_than_the_creation_is_kept_and_said_to_be_odd(expires_at: int) -> None:
    certificate = models.certificate({**CERTIFICATE, "expiresAt": expires_at})
    assert certificate.expires_at is not None
    assert ["no later than it was created" in oddity for oddity in certificate.oddities] == [True]


@pytest.mark.parametrize(
    ("asked", "answered", "sentence"),
    [
        (["a.example"], ["b.example"], "Vercel was asked for a.example, and answered with b.example."),
        (["a.example"], ["a.example", "B.example"], "Vercel was asked for a.example, and answered with a.example, b."),
        (["a.example", "b.example"], ["a.example"], "Vercel was asked for a.example, b.example, and answered with a"),
        (["a.example"], [], "Vercel was asked for a.example, and answered with no name."),
        (["a.example"], [f"{n}.example" for n in range(9)], "Vercel was asked for a.example, and answered with 0.exa"),
        (["a.example"], ["x" * 10_000], "Vercel was asked for a.example, and answered with xxx"),
    ],
)
def test_names_other_than_asked_for_are_kept_and_said_to_be(asked: Any, answered: Any, sentence: str) -> None:
    certificate = models.certificate({**CERTIFICATE, "cns": answered}, asked=asked)
    assert certificate.cns == {name.lower() for name in answered}
    assert len(certificate.oddities) == 1
    assert certificate.oddities[0].startswith(sentence)
    assert len(certificate.oddities[0]) < 200


def test_the_same_names_in_another_order_and_case_are_not_odd() -> None:
    answered = {**CERTIFICATE, "cns": ["b.example", "A.EXAMPLE", "a.example"]}
    assert models.certificate(answered, asked=["a.example", "B.example"]).oddities == ()


@given(JSON)
def test_no_json_raises_anything_but_unreadable(value: object) -> None:
    try:
        read = models.certificate(models.parse(json.dumps(value).encode()))
    except models.Unreadable:
        return
    assert isinstance(value, dict)
    assert read.id == value["id"]


@given(
    st.text(min_size=1).filter(lambda text: text.replace(".", "").strip()),
    st.fixed_dictionaries({}, optional=FIELDS),
    st.none() | st.lists(st.text(max_size=5), max_size=3),
)
def test_an_id_is_never_lost_whatever_else_is_in_the_answer(
    certificate_id: str, fields: dict[str, object], asked: list[str] | None
) -> None:
    body = json.dumps({**fields, "id": certificate_id}).encode()
    certificate = models.certificate(models.parse(body), asked=asked)
    assert certificate.id == certificate_id
    for time in (certificate.created_at, certificate.expires_at):
        assert time is None or time.tzinfo is UTC
    for field, value in (
        ("cns", certificate.cns or None),
        ("createdAt", certificate.created_at),
        ("expiresAt", certificate.expires_at),
        ("autoRenew", certificate.auto_renew),
    ):
        assert value is not None or fields.get(field) == [] or any(field in oddity for oddity in certificate.oddities)
    assert all(oddity.isprintable() and len(oddity) < 1000 for oddity in certificate.oddities)


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": "cert_1", "cns": ["\\ud800"]}',
        b'{"id": "cert_1", "expiresAt": ' + b"9" * 10_000 + b"}",
        b'{"id": "cert_1", "expiresAt": 1e999}',
        b'\xef\xbb\xbf{"id": "cert_1"}',
        b'{"id": "cert_0", "id": "cert_1"}',
    ],
    ids=["half a surrogate pair", "10,000 digits", "infinite", "byte order mark", "the id twice"],
)
def test_the_id_is_read_from_json_that_only_some_parsers_take(body: bytes) -> None:
    assert models.certificate(models.parse(body)).id == "cert_1"


@pytest.mark.parametrize(
    "body", [b"", b"  \n", b"<html>", b'{"id": "cert_1"', b"\xff\xfe", b"[" * 200_000, b'{"a": \xff}']
)
def test_a_body_that_is_not_json_can_not_be_read(body: bytes) -> None:
    with pytest.raises(models.Unreadable):
        models.parse(body)


@pytest.mark.parametrize(
    "change",
    [
        {"certs": None},
        {"certs": {}},
        {"certs": [CERTIFICATE, {"cns": []}]},
        {"certs": [CERTIFICATE, None]},
        {"certs": [CERTIFICATE, "cert_2"]},
        {"pagination": None},
        {"pagination": {}},
        {"pagination": {"next": "1750000000000"}},
        {"pagination": {"next": True}},
        {"pagination": {"next": 1.5}},
        {"pagination": {"next": float("nan")}},
    ],
    ids=str,
)
def test_a_page_is_read_whole_or_not_at_all(change: dict[str, object]) -> None:
    page: dict[str, object] = {"certs": [CERTIFICATE], "pagination": {"count": 1, "next": None, "prev": None}}
    assert [certificate.id for certificate in models.page(page).certificates] == ["cert_1"]
    with pytest.raises(models.Unreadable):
        models.page({**page, **change})
    with pytest.raises(models.Unreadable):
        models.page({name: value for name, value in page.items() if name not in change})


@given(JSON | st.fixed_dictionaries({"error": JSON}) | st.fixed_dictionaries({"certs": JSON, "pagination": JSON}))
def test_no_json_breaks_the_reading_of_pages_errors_and_removals(value: object) -> None:
    models.error(value)
    for reader in (models.page, models.removed):
        try:
            reader(value)
        except models.Unreadable as unreadable:
            assert str(unreadable).isprintable()  # noqa: PT017 - either outcome is right
