"""Rows of numbers, packed one behind the other, and taken out as columns."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gsim.gateway.records import Table

COLUMNS = (("number", "q"), ("code", "b"), ("time_s", "d"))


@given(numbers=st.lists(st.integers(-(2**40), 2**40), max_size=40))
def test_columns_hold_the_rows_in_the_order_that_was_asked_for(numbers):
    """Equal keys stay in the order in which their rows were added."""
    table = Table(COLUMNS)
    rows = [(number, i % 100, i / 3) for i, number in enumerate(numbers)]
    for row in rows:
        table.add(row)
    columns = table.columns("number")
    assert len(table) == len(rows)
    assert list(zip(*(columns[name].tolist() for name, _ in COLUMNS), strict=True)) == sorted(rows, key=lambda r: r[0])


def test_more_rows_than_one_block():
    """They are taken out block by block; 10,000 rows are three blocks, the last one not full."""
    table = Table(COLUMNS)
    order = np.random.default_rng(3).permutation(10_000)
    for number in order.tolist():
        table.add((number, number % 7, 0.5 * number))
    columns = table.columns("number")
    assert np.array_equal(columns["number"], np.arange(10_000))
    assert np.array_equal(columns["code"], np.arange(10_000) % 7)
    assert np.array_equal(columns["time_s"], 0.5 * np.arange(10_000))
    assert {name: str(column.dtype) for name, column in columns.items()} == {
        "number": "int64",
        "code": "int8",
        "time_s": "float64",
    }
