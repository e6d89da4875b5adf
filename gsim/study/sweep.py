"""A multirun: one Hydra job per cell through the configured launcher, only what is missing, finished runs kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from gsim.core import GsimError
from gsim.study.cell import compute
from gsim.study.compose import plain
from gsim.study.extensions import load_extensions
from gsim.study.grid import Cell
from gsim.study.progress import watching
from gsim.study.settings import Settings, read_seeds
from gsim.study.store import RunStore
from gsim.study.version import code_digest

RUNS = "runs"


def run_cell(config: DictConfig) -> int:
    """The task of one Hydra job (in a worker): compute the cell's missing runs."""
    values = plain(config)
    extensions = tuple(values["extensions"])
    load_extensions(extensions)
    return compute(Settings.read(values), read_seeds(values["seeds"]), Path(values["out"]) / RUNS, values["code"])


def missing_runs(cells: Sequence[Cell], store: RunStore, code: str) -> list[tuple[Cell, list[str]]]:
    """The cells with runs that are not stored, each with the keys of those runs."""
    found = ((cell, [key for key in cell.keys(code) if not store.has(key)]) for cell in cells)
    return [(cell, keys) for cell, keys in found if keys]


def sweep(hydra: Hydra, config: DictConfig, cells: Sequence[Cell], out: Path, extensions: tuple[str, ...]) -> int:
    """Compute every run of the grid that is not stored yet; how many were computed.

    Raises the first error of a cell after all others have been tried. An interrupt leaves finished runs stored.
    """
    code = code_digest(extensions)
    store = RunStore(out / RUNS)
    missing = missing_runs(cells, store, code)
    keys = [key for _, absent in missing for key in absent]
    if not keys:
        return 0
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks()),
        task_function=run_cell,
        config=config,
    )
    store.folder.mkdir(parents=True, exist_ok=True)
    # Quoted and absolute: a worker may have another working directory.
    where = f"out='{out.resolve()}'"
    stamp = f"code='{code}'"
    jobs = [[*(o for o in cell.overrides if not o.startswith("out=")), where, stamp] for cell, _ in missing]
    name = str(OmegaConf.select(config, "name"))
    with watching(name, len(keys), lambda: sum(store.has(key) for key in keys)):
        results = launcher.launch(jobs, initial_job_idx=0)
    for (cell, _), result in zip(missing, results, strict=True):
        if result.status is not JobStatus.COMPLETED:
            _raise(cell, result)
    return len(keys)


def _raise(cell: Cell, result: JobReturn) -> None:
    point = ", ".join(f"{field}={value}" for field, value in cell.swept.items())
    try:
        _ = result.return_value
    except GsimError as error:
        raise GsimError(f"{point}: {error}") from error
