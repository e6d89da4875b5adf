"""A multirun: Hydra jobs through the configured launcher, only what is missing, finished runs kept.

A job takes cells that differ only in the values of fields: composing a configuration costs Hydra more than a short run
costs us, setting a field costs nothing. Each policy has jobs of its own, and there are several per worker.
"""

from __future__ import annotations

import copy
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

from gsim.cli.compose import plain
from gsim.core import GsimError
from gsim.run.cell import compute
from gsim.run.extensions import enter
from gsim.run.settings import Settings, read_seeds
from gsim.run.store import RunStore
from gsim.study.grid import Cell, literal, update_fields
from gsim.study.progress import say, watching

RUNS = "runs"


def run_cells(config: DictConfig) -> list[str]:
    """The task of one Hydra job (in a worker): compute the missing runs of its cells; what went wrong, per cell."""
    enter(str(config.cwd), tuple(config.extensions))
    problems: list[str] = []
    for point, code in zip(list(config.points), list(config.codes), strict=True):
        # A fresh copy for each: what one point sets, the next may leave at its default.
        own = copy.deepcopy(config)
        update_fields(own, list(point))
        values = plain(own)
        try:
            compute(Settings.read(values), read_seeds(values["seeds"]), Path(values["out"]) / RUNS, str(code))
        except GsimError as error:
            problems.append(str(error))
        else:
            problems.append("")
    return problems


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


def sweep(hydra: Hydra, config: DictConfig, cells: Sequence[Cell], out: Path) -> int:
    """Compute every run of the grid that is not stored yet; how many were computed.

    Raises the first error of a cell after all others have been tried. An interrupt leaves finished runs stored.
    """
    store = RunStore(out / RUNS)
    missing = missing_runs(cells, store)
    keys = [key for _, absent in missing for key in absent]
    if not keys:
        return 0
    cleared(store, keys)
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks()),
        task_function=run_cells,
        config=config,
    )
    store.folder.mkdir(parents=True, exist_ok=True)
    # Quoted and absolute: a worker may have another working directory.
    common = [f"out='{out.resolve()}'"]
    batches = _batches([cell for cell, _ in missing], _workers(config))
    jobs = [
        [
            *(o for o in batch[0].overrides if not o.startswith("out=")),
            *common,
            f"points={literal(_points(batch))}",
            f"codes={literal([cell.code for cell in batch])}",
        ]
        for batch in batches
    ]
    name = str(OmegaConf.select(config, "name"))
    with watching(name, len(keys), lambda: sum(store.has(key) for key in keys)):
        results = launcher.launch(jobs, initial_job_idx=0)
    for batch, result in zip(batches, results, strict=True):
        if result.status is not JobStatus.COMPLETED:
            _ = result.return_value  # raises what the job raised
        for cell, problem in zip(batch, result.return_value, strict=True):
            if problem:
                point = ", ".join(f"{field}={value}" for field, value in cell.swept.items())
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


def _points(batch: Sequence[Cell]) -> list[list[str]]:
    return [list(cell.fields) for cell in batch]


def _batches(cells: Sequence[Cell], workers: int) -> list[list[Cell]]:
    """Cells that share all options, in jobs small enough that every worker gets several."""
    alike: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        alike.setdefault(cell.overrides, []).append(cell)
    workers = workers if workers > 0 else os.cpu_count() or 1
    size = max(1, math.ceil(len(cells) / (8 * workers)))
    return [group[i : i + size] for group in alike.values() for i in range(0, len(group), size)]
