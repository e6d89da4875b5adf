"""``--dry-run``: what would be computed, and about how long it would take."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from gsim.run.cell import run
from gsim.run.settings import Settings
from gsim.run.store import RunStore
from gsim.study.grid import Cell
from gsim.study.missing import missing_runs

_PROBES = 3


@dataclass(frozen=True)
class Forecast:
    """The cells of a study, and what is missing of them."""

    cells: int
    runs: int
    missing: tuple[tuple[Cell, int], ...]
    """Cells with runs that are not stored, and how many."""
    run_s: float
    """Seconds of a run on one core: the mean of a few of the missing ones."""

    @property
    def absent(self) -> int:
        """Runs to compute."""
        return sum(count for _, count in self.missing)

    @property
    def one_core_s(self) -> float:
        """Seconds for all of them on one core."""
        return self.run_s * self.absent

    @property
    def head(self) -> str:
        """How much there is to do."""
        return f"{self.cells} cells, {self.runs} runs: {self.runs - self.absent} stored, {self.absent} to compute"

    @property
    def duration(self) -> str:
        """How long that takes."""
        return duration(self.run_s, self.absent)

    def __str__(self) -> str:
        lines = [self.head]
        for cell, count in self.missing:
            point = ", ".join(f"{field}={value}" for field, value in cell.swept.items()) or "default"
            lines.append(f"  {point}: {count} of {len(cell.seeds)} seeds")
        return "\n".join([*lines, self.duration] if self.missing else lines)


def duration(run_s: float, runs: int) -> str:
    """How long so many runs take, of ``run_s`` seconds each on one core."""
    cores, one_core_s = os.cpu_count() or 1, run_s * runs
    return f"about {run_s:.2f} s per run: {one_core_s:.0f} s on one core, {one_core_s / cores:.0f} s on {cores}"


def timed(probes: Sequence[tuple[Settings, int]]) -> float:
    """Seconds that one of these runs takes on one core, the mean of all (nothing is stored; 0 where there are none)."""
    begin = time.process_time()  # what else the machine does at this moment is no part of it
    for settings, seed in probes:
        run(settings, seed)
    return (time.process_time() - begin) / len(probes) if probes else 0.0


def forecast(cells: Sequence[Cell], store: RunStore) -> Forecast:
    """Look what is stored, and run a few of the missing cells once, spread over the grid (nothing is stored)."""
    missing = [(cell, len(keys)) for cell, keys in missing_runs(cells, store)]
    probes = min(_PROBES, len(missing))
    probed = [missing[round(i * (len(missing) - 1) / max(1, probes - 1))][0] for i in range(probes)]
    run_s = timed([(cell.settings, cell.seeds[0]) for cell in probed])
    return Forecast(len(cells), sum(len(cell.seeds) for cell in cells), tuple(missing), run_s)
