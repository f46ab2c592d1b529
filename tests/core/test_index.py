"""The index of values by key."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vercel_certificate_operator.core.index import Index


@given(st.lists(st.tuples(st.sampled_from(["add", "discard"]), st.sampled_from("ab"), st.integers(0, 3))))
def test_it_is_like_a_dictionary_of_ordered_sets(changes: list[Any]) -> None:
    index: Index[str, int] = Index()
    expected: dict[str, dict[int, None]] = {"a": {}, "b": {}}
    for change, key, value in changes:
        getattr(index, change)(key, value)
        if change == "add":
            expected[key].setdefault(value)
        else:
            expected[key].pop(value, None)
        for each, values in expected.items():
            assert list(index.get(each)) == list(values)
            assert (each in index) == bool(values)
        assert len(index) == sum(bool(values) for values in expected.values())


@pytest.mark.parametrize("values", [[1], [1, 2]])
def test_what_is_added_twice_is_there_once(values: list[int]) -> None:
    index: Index[str, int] = Index()
    for value in [*values, *values]:
        index.add("a", value)
    assert list(index.get("a")) == values
