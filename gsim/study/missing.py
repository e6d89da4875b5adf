"""What of a study is not computed yet."""

from __future__ import annotations

from collections.abc import Sequence

from gsim.run.store import RunStore
from gsim.study.grid import Cell
from gsim.study.progress import say

#: The folder of stored runs, in a results folder.
RUNS = "runs"


def missing_runs(cells: Sequence[Cell], store: RunStore) -> list[tuple[Cell, list[str]]]:
    """The cells with runs that are not stored (whole), each with the keys of those runs."""
    found = ((cell, [key for key in cell.keys if not store.sound(key)]) for cell in cells)
    return [(cell, keys) for cell, keys in found if keys]


def cleared(store: RunStore, keys: Sequence[str]) -> None:
    """Remove what stands under these keys of runs to compute: files that were cut or changed."""
    damaged = [store.path(key) for key in keys if store.has(key)]
    for path in damaged:
        path.unlink()
    if damaged:
        say(f"{len(damaged)} stored runs are not as they were written and are computed again ({damaged[0].name} ...)")
