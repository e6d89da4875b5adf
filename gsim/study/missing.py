"""What of a study is not computed yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gsim.core import InputError
from gsim.run.pulse import clocks, swept
from gsim.run.store import RunStore
from gsim.study.grid import Cell
from gsim.study.progress import say, watching

#: The folder of stored runs, in a results folder.
RUNS = "runs"


def missing_runs(cells: Sequence[Cell], store: RunStore) -> list[tuple[Cell, list[str]]]:
    """The cells with runs that are not stored (whole), each with the keys of those runs."""
    found = ((cell, [key for key in cell.keys if not store.sound(key)]) for cell in cells)
    return [(cell, keys) for cell, keys in found if keys]


def cleared(store: RunStore, keys: Sequence[str]) -> None:
    """Remove what stands under these keys of runs to compute: files that were cut or changed.

    Raises ``InputError`` for what cannot be removed.
    """
    damaged = [store.path(key) for key in keys if store.has(key)]
    for path in damaged:
        try:
            path.unlink()
        except OSError as error:
            raise InputError(f"{path}: no finished run, and cannot be removed ({error.strerror})") from None
    if damaged:
        say(f"{len(damaged)} stored runs are not as they were written and are computed again ({damaged[0].name} ...)")


@contextmanager
def watching_runs(name: str, store: RunStore, keys: Sequence[str]) -> Iterator[None]:
    """Progress of runs that are computed meanwhile: how many are stored, and where the simulated clocks are."""
    try:
        with watching(name, len(keys), lambda: sum(store.has(key) for key in keys), lambda: clocks(store.folder)):
            yield
    finally:
        swept(store.folder)
