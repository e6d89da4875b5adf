"""What a composed configuration asks for, done: its cells, or its study, into one results folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from omegaconf import DictConfig, OmegaConf

from gsim.cli.compose import plain
from gsim.cli.sweep import dismiss_workers, sweep
from gsim.core import ConfigError, lookup
from gsim.report.report_run import check_fields, publish, without_internal
from gsim.run.cell import compute
from gsim.run.key import RUN
from gsim.run.settings import Settings, read_seeds
from gsim.run.store import RunStore, writable
from gsim.run.version import maker, provenance
from gsim.study import knee
from gsim.study.dry_run import forecast
from gsim.study.folder import claimed, describe, published
from gsim.study.grid import Cell, Grid
from gsim.study.missing import RUNS, cleared, missing_runs, watching_runs
from gsim.study.progress import say
from gsim.study.study import Commands, Context, Findings, options_of


def results_folder(values: Mapping[str, Any]) -> Path:
    """``out``, or ``results/NAME``."""
    out = values.get("out")
    return Path(str(out)) if out else Path("results") / str(values["name"])


def place_rates(config: DictConfig, overrides: Sequence[str], commands: Commands, dry: bool) -> None:
    """Where ``knee.at`` is given, the sweep's rates are multiples of the knee (unless the command line has rates)."""
    values = plain(config, missing_ok=True)
    wanted = knee.asked(values)
    if not wanted.at or any(word.startswith(f"{knee.RATE}=") for word in overrides):
        return
    context = context_of(config, commands)
    folder = None if dry else context.out / "knees"
    found_rps = knee.find(wanted, values, folder, context)
    OmegaConf.update(config, "sweep", knee.placed(values["sweep"] or {}, wanted, found_rps), merge=False)
    OmegaConf.update(config, "knee.rps", found_rps)


def launch_cells(
    hydra: Hydra,
    config: DictConfig,
    made: Grid,
    words: Sequence[str],
    multirun: bool,
    dry: bool,
    more_to_come: bool,
) -> int:
    """Compute the runs of all cells that are not stored yet, and write what they show.

    ``more_to_come``: the workers are kept for the next command.
    """
    cells = made.cells
    values = plain(config, missing_ok=multirun)
    out = results_folder(values)
    for cell in cells:
        cell.settings.scenario()  # every policy and profile is built once before anything runs
    check_fields(values, cells)
    if values["timeline"] and len(cells) > 1:
        raise ConfigError(f"timeline=true draws one run: {made.ask()}")
    if dry:
        print(forecast(cells, RunStore(out / RUNS)))  # noqa: T201
        return 0
    with claimed(writable(out), words):
        if multirun:
            computed = sweep(hydra, config, cells, out)
            if not more_to_come:
                dismiss_workers(config)
        else:
            computed = _one(cells[0], out, str(values["name"]))
        total = sum(len(cell.seeds) for cell in cells)
        say(f"{computed} runs computed, {total - computed} were there already")
        further = [lambda stage: timeline(cells[0], stage, cells[0].seeds[0])] if values["timeline"] else []
        shown = publish(values, made, out, words, *further)
    # Everything is on disk before anything is printed: whoever stops reading loses nothing.
    print(shown)  # noqa: T201
    _where(out)
    return 0


def _one(cell: Cell, out: Path, name: str) -> int:
    store = RunStore(out / RUNS)
    keys = [key for _, absent in missing_runs([cell], store) for key in absent]
    if not keys:
        return 0
    writable(store.folder)
    cleared(store, keys)
    with watching_runs(name, store, keys):
        return compute(cell.settings, cell.seeds, store.folder, cell.code)


def context_of(config: DictConfig, commands: Commands) -> Context:
    """What a study (or the search for the knee) is given of a composed configuration."""
    values = plain(config)
    return Context(
        name=str(values["name"]),
        out=results_folder(values),
        seeds=read_seeds(values["seeds"]),
        settings=Settings.read(values),
        n_jobs=int(config.hydra.launcher.get("n_jobs", 1)),
        extensions=tuple(values["extensions"]),
        commands=commands,
    )


def timeline(cell: Cell, out: Path, seed: int) -> None:
    """The run of this seed again, sampled and logged: a Perfetto trace and a figure in ``out``."""
    from gsim.inspect.timeline import leave_timeline

    leave_timeline(cell.settings, seed, out)


def launch_study(config: DictConfig, words: Sequence[str], commands: Commands, dry: bool) -> int:
    """Let a study answer its question, and write its findings."""
    values, context = plain(config), context_of(config, commands)
    entry = lookup("study", str(values["study"]))
    study = options_of(entry.config, values)
    out = context.out
    if dry:
        told = getattr(study, "forecast", None)
        said = "how long that takes is not known beforehand" if told is None else told(context)
        print(f"{values['name']}: would run study '{entry.name}' into {out}\n{said}")  # noqa: T201
        return 0
    with claimed(writable(out), words):
        findings: Findings = study.run(context)
        with published(out) as stage:
            shown = write_findings(findings, stage)
            made = {"code": context.settings.code(entry.cls.__module__, RUN), **maker()}
            describe(without_internal(values), stage, provenance(words, context.seeds, [made]))
    print(shown)  # noqa: T201
    _where(out)
    return 0


def write_findings(findings: Findings, out: Path) -> str:
    """Write a study's tables, figures and notes; returns what is printed."""
    from gsim.report.table import frame_table
    from gsim.study.figure import save

    shown = []
    for name, frame in findings.tables.items():
        frame.to_csv(out / f"{name}.csv", index=False, float_format="%.9g", lineterminator="\n")
        shown.append(frame_table(name, frame))
    for name, figure in findings.figures.items():
        save(figure, out / name)
    (out / "findings.txt").write_text("".join(f"{note}\n" for note in findings.notes), encoding="utf-8")
    return "\n\n".join([*shown, "\n".join(findings.notes)]).strip()


def _where(out: Path) -> None:
    files = sorted(path.name for path in out.iterdir() if path.is_file() and not path.name.startswith("."))
    print(f"\nresults in {shlex.quote(str(out))}: {', '.join(files)}")  # noqa: T201
