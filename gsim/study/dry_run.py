"""``--dry-run``: what would be computed, and about how long it would take."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from gsim.study.cell import run
from gsim.study.grid import Cell
from gsim.study.store import RunStore
from gsim.study.sweep import missing_runs


def forecast(cells: Sequence[Cell], store: RunStore, code: str) -> str:
    """The missing cells, and an estimate from one run of the first and of the last of them (nothing is stored)."""
    missing = missing_runs(cells, store, code)
    total = sum(len(cell.seeds) for cell in cells)
    absent = sum(len(keys) for _, keys in missing)
    lines = [f"{len(cells)} cells, {total} runs: {total - absent} stored, {absent} to compute"]
    for cell, keys in missing:
        point = ", ".join(f"{field}={value}" for field, value in cell.swept.items()) or "default"
        lines.append(f"  {point}: {len(keys)} of {len(cell.seeds)} seeds")
    if missing:
        begin = time.perf_counter()
        probes = [missing[0][0], missing[-1][0]]
        for cell in probes:
            run(cell.settings, cell.seeds[0])
        each_s = (time.perf_counter() - begin) / len(probes)
        cores = os.cpu_count() or 1
        lines.append(
            f"about {each_s:.2f} s per run: {each_s * absent:.0f} s on one core, "
            f"{each_s * absent / cores:.0f} s on {cores}"
        )
    return "\n".join(lines)
