"""The attempt's annotation: what is written ahead, and what users make of it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.building import KEY, NOW, attempted, changed, known
from vercel_certificate_operator.core.attempt import ANNOTATION, Attempt
from vercel_certificate_operator.core.policies import decide

NAME = st.text(st.characters(codec="utf-8"), min_size=1)
TEXT = st.text(st.characters(codec="utf-8"))
MOMENT = st.integers(0, 200_000_000_000_000).map(
    lambda milliseconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
)
ATTEMPTS = st.builds(
    Attempt,
    id=NAME,
    uid=NAME,
    start=MOMENT,
    generation=st.integers(0, 2**63 - 1),
    cns=st.frozensets(NAME, min_size=1),
    renew=st.none() | TEXT,
    clock_offset=st.none() | st.integers(-(10**9), 10**9).map(lambda ms: timedelta(milliseconds=ms)),
)
GOOD: dict[str, Any] = {
    "id": "a1",
    "uid": "uid-1",
    "start": "2026-01-01T12:00:00.000Z",
    "generation": 1,
    "cns": ["example.com"],
}


@given(ATTEMPTS)
def test_what_was_written_is_read_back(attempt: Attempt) -> None:
    assert Attempt.loads(attempt.dumps()) == attempt


@given(ATTEMPTS, st.integers(0, 999))
def test_writing_again_what_was_read_gives_the_same_text(attempt: Attempt, microseconds: int) -> None:
    finer = Attempt(
        attempt.id,
        attempt.uid,
        attempt.start + timedelta(microseconds=microseconds),
        attempt.generation,
        attempt.cns,
        attempt.renew,
    )
    read = Attempt.loads(finer.dumps())
    assert read is not None
    assert read.dumps() == finer.dumps()


@given(TEXT | st.text())
def test_any_text_is_an_attempt_or_none(text: str) -> None:
    Attempt.loads(text)


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {}, optional={name: st.just(good) | JSON_VALUES for name, good in (GOOD | {"renew": "1"}).items()}
    )
)
def test_an_edited_annotation_never_stops_a_decision(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    attempt = Attempt.loads(text)
    facts = known(annotations={ANNOTATION: text, "vercel-operator.io/renew": "2"}, ours=True)
    decide(facts)
    if attempt is not None:
        assert Attempt.loads(attempt.dumps()) == attempt or attempt.start.microsecond % 1000


EDITS: list[dict[str, Any]] = [
    {"id": ""},
    {"id": 1},
    {"id": None},
    {"uid": ""},
    {"uid": ["uid-1"]},
    {"start": "yesterday"},
    {"start": "2026-01-01T12:00:00"},
    {"start": "2026-13-01T12:00:00Z"},
    {"start": None},
    {"generation": "1"},
    {"generation": True},
    {"generation": 1.5},
    {"cns": "example.com"},
    {"cns": {"example.com": 1}},
    {"cns": [1]},
    {"cns": [["example.com"]]},
    {"cns": [""]},
    {"cns": []},
    {"cns": None},
    {"renew": 1},
    {"renew": ["1"]},
]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "1",
        "not json",
        '{"id": ',
        "[" * 100_000,
        "\ud800",
        *(json.dumps({name: value for name, value in GOOD.items() if name != left_out}) for left_out in GOOD),
        *(json.dumps(GOOD | edit) for edit in EDITS),
    ],
    ids=lambda text: ascii(text)[:60],
)
def test_what_is_no_attempt_is_none(text: str) -> None:
    assert Attempt.loads(text) is None


@pytest.mark.parametrize(
    "edit",
    [{}, {"added": "later"}, {"renew": None}, {"renew": ""}, {"start": "2026-01-01T13:00:00+01:00"}],
    ids=str,
)
def test_what_is_an_attempt_in_other_words_is_read(edit: dict[str, Any]) -> None:
    attempt = Attempt.loads(json.dumps(GOOD | edit))
    assert attempt is not None
    assert attempt.start == NOW
    assert (attempt.id, attempt.uid, attempt.generation, attempt.cns) == ("a1", "uid-1", 1, frozenset({"example.com"}))


def test_the_annotation_holds_what_the_design_says() -> None:
    value = json.loads(attempted("a1", start=NOW, cns=["b.com", "a.com"], renew="again").dumps())
    wanted = {"id", "uid", "start", "generation", "cns", "renew"}
    assert wanted <= value.keys()
    assert value["start"] == "2026-01-01T12:00:00.000Z"
    assert value["cns"] == ["a.com", "b.com"]
    assert "renew" not in json.loads(attempted().dumps())


def test_an_attempt_with_a_foreign_uid_is_not_ours() -> None:
    resource = known(attempt=attempted(uid="uid-of-another")).resource
    assert resource.attempt is None
    assert changed(resource, key=KEY._replace(uid="uid-of-another")).attempt is not None
