"""Few sets of choices that hold every pair of them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]


def all_pairs(factors: Mapping[str, Sequence[Any]]) -> list[Row]:
    """Rows with one choice for each factor, such that every two choices of two factors stand in a row together.

    Greedy: each row begins with a pair that is missing, and takes the choice that brings most missing ones, factor by
    factor. Not the fewest rows, but few, and the same ones every time.
    """
    names = list(factors)
    missing = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(names, 2)
        for i in range(len(factors[a]))
        for j in range(len(factors[b]))
    }
    rows = []
    while missing:
        row = dict(min(missing))
        for name in names:
            if name not in row:
                row[name] = max(
                    range(len(factors[name])), key=lambda choice: len(_pairs({**row, name: choice}, names) & missing)
                )
        missing -= _pairs(row, names)
        rows.append({name: factors[name][row[name]] for name in names})
    return rows


def _pairs(row: Mapping[str, int], names: Sequence[str]) -> set[tuple[tuple[str, int], tuple[str, int]]]:
    return {((a, row[a]), (b, row[b])) for a, b in itertools.combinations(names, 2) if a in row and b in row}
