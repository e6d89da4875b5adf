"""A multirun: Hydra jobs through the configured launcher, only what is missing, finished runs kept.

A job takes runs of any cells. Runs of the same workload and seed come one after another, whatever their policy, so that
their sessions are drawn once; there are several jobs per worker. The cells' configurations travel in one file:
composing one costs Hydra more than a short run costs us.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from gsim.core import GsimError
from gsim.run.cell import compute
from gsim.run.extensions import enter
from gsim.run.settings import Settings
from gsim.run.shelf import Shelf
from gsim.run.store import RunStore, writable
from gsim.study.grid import Cell
from gsim.study.literal import escaped, literal, quoted
from gsim.study.missing import RUNS, cleared, missing_runs, watching_runs
from gsim.study.workers import all_alive, end_with

Run = tuple[int, int]
"""A cell (its place in the list of cells) and a seed."""


def run_job(config: DictConfig) -> list[str]:
    """The task of one Hydra job (in a worker): compute its runs; what went wrong, per run (empty: nothing)."""
    end_with(int(config.pid))
    enter(str(config.cwd), tuple(config.extensions))
    cells = json.loads(Path(config.job.cells).read_text(encoding="utf-8"))
    shelf = Shelf()
    problems: list[str] = []
    for place, seed in config.job.runs:
        settings = Settings.read(cells[place]["settings"])
        try:
            compute(settings, (seed,), Path(config.job.cells).parent, cells[place]["code"], shelf)
        except GsimError as error:
            problems.append(str(error))
        else:
            problems.append("")
    return problems


def sweep(hydra: Hydra, config: DictConfig, cells: Sequence[Cell], out: Path) -> int:
    """Compute every run of the grid that is not stored yet; how many were computed.

    Raises the first error of a run after all others have been tried. An interrupt leaves finished runs stored.
    """
    store = RunStore(out / RUNS)
    missing = missing_runs(cells, store)
    keys = [key for _, absent in missing for key in absent]
    if not keys:
        return 0
    cleared(store, keys)
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks()),
        task_function=run_job,
        config=config,
    )
    writable(store.folder)
    jobs = _jobs(missing, _workers(config))
    # Absolute: a worker may have another working directory.
    file = store.folder.resolve() / f".cells-{os.getpid()}.json"
    told = [{"settings": cell.settings.plain(), "code": cell.code} for cell, _ in missing]
    file.write_text(json.dumps(told), encoding="utf-8")
    known = f"extensions={literal(list(config.extensions))}"
    overrides = [[known, f"job.cells={quoted(escaped(str(file)))}", f"job.runs={literal(job)}"] for job in jobs]
    try:
        with watching_runs(str(OmegaConf.select(config, "name")), store, keys), all_alive():
            results = launcher.launch(overrides, initial_job_idx=0)
    finally:
        file.unlink(missing_ok=True)
    for job, result in zip(jobs, results, strict=True):
        if result.status is not JobStatus.COMPLETED:
            _ = result.return_value  # raises what the job raised
        for (place, _), problem in zip(job, result.return_value, strict=True):
            if problem:
                point = ", ".join(f"{field}={value}" for field, value in missing[place][0].swept.items())
                raise GsimError(f"{point}: {problem}")
    return len(keys)


def dismiss_workers(config: DictConfig) -> None:
    """Let joblib's workers end while the results are written, not after."""
    if _workers(config) == 1:
        return
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(reuse=True).shutdown(wait=False)


def _workers(config: DictConfig) -> int:
    """As the configuration has it: 0 or less means one per processor, or all but some."""
    return int(OmegaConf.select(config, "hydra.launcher.n_jobs", default=1))


def _jobs(missing: Sequence[tuple[Cell, Sequence[str]]], workers: int) -> list[list[Run]]:
    """The runs that are missing, those that share their sessions together, in jobs of equal size.

    Every worker gets several, so that none waits long for the last one.
    """
    alike: dict[tuple[str, int], list[Run]] = {}
    for place, (cell, absent) in enumerate(missing):
        workload = cell.settings.workload()
        for seed, key in zip(cell.seeds, cell.keys, strict=True):
            if key in absent:
                alike.setdefault((workload, seed), []).append((place, seed))
    runs = [run for group in alike.values() for run in group]
    workers = workers if workers > 0 else os.cpu_count() or 1
    size = max(1, math.ceil(len(runs) / (8 * workers)))
    return [runs[i : i + size] for i in range(0, len(runs), size)]
