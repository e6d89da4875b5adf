"""Rows that a gateway writes down, in columns (a request's row costs about 170 bytes)."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]


#: NumPy's types of the codes that ``struct`` packs.
_TYPES = {"q": np.int64, "b": np.int8, "d": np.float64}

_BLOCK_ROWS = 4096


class Table:
    """Rows of numbers, packed one behind the other: one call a row, and about as many bytes as the numbers have."""

    def __init__(self, columns: tuple[tuple[str, str], ...]) -> None:
        layout = struct.Struct("=" + "".join(code for _, code in columns))
        self._pack = layout.pack
        self._row_bytes = layout.size
        self._type = np.dtype([(name, _TYPES[code]) for name, code in columns])
        self._rows = bytearray()

    def __len__(self) -> int:
        return len(self._rows) // self._row_bytes

    def add(self, row: tuple[float, ...]) -> None:
        """Append one row, a value per column."""
        self._rows += self._pack(*row)

    def columns(self, sort_by: str) -> Columns:
        """The columns as arrays, rows sorted by one of them."""
        rows = np.frombuffer(self._rows, dtype=self._type)
        order = np.argsort(rows[sort_by], kind="stable")
        columns = {name: np.empty(len(rows), dtype=self._type[name]) for name in self._type.names or ()}
        # A block of rows at a time stays in the processor's cache while each of its columns is taken out.
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = rows[order[start : start + _BLOCK_ROWS]]
            for name, column in columns.items():
                column[start : start + _BLOCK_ROWS] = block[name]
        return columns


class Tally:
    """What ended on one instance."""

    __slots__ = ("generated_tokens", "preemptions", "requests")

    def __init__(self) -> None:
        self.requests = 0
        """Requests that ended here."""
        self.generated_tokens = 0
        """Of those, wherever they were generated."""
        self.preemptions = 0
