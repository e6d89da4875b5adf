"""What a run or a sweep leaves in its results folder: tables, rows, figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gsim.core import ConfigError
from gsim.report.columns import METRICS
from gsim.report.outcome import Outcome, no_metric
from gsim.run.store import RunStore
from gsim.run.version import provenance
from gsim.study import results as res
from gsim.study.folder import describe, published
from gsim.study.grid import Cell, Grid
from gsim.study.missing import RUNS
from gsim.study.steadiness import steady_columns

#: Values of a configuration that only jobs are told.
_INTERNAL = ("job", "small", "cwd", "pid")


def publish(
    values: Mapping[str, Any],
    made: Grid,
    out: Path,
    words: Sequence[str],
    further: Callable[[Path], None] = lambda stage: None,
) -> str:
    """Write everything of a grid whose runs are stored into its claimed folder, at once; returns what is to be printed.

    ``values`` is the configuration that the folder keeps, ``words`` what was asked for; ``further`` writes more.
    """
    store = RunStore(out / RUNS)
    with published(out) as stage:
        shown = write_cells(values, made.cells, out, stage)
        further(stage)
        makers = [store.made(key) for cell in made.cells for key in cell.keys]
        kept = {**without_internal(values), "sweep": made.described()}
        describe(kept, stage, provenance(words, made.cells[0].seeds, makers))
    return shown


def without_internal(values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as a results folder keeps it: without what only jobs are told."""
    return {name: value for name, value in values.items() if name not in _INTERNAL}


def write_cells(values: Mapping[str, Any], cells: Sequence[Cell], out: Path, into: Path) -> str:
    """Write results.csv, paired.csv, instances.csv, requests.parquet and the figure; returns the text to print.

    ``out`` holds the runs and the bounds that are known; the outputs go ``into`` a folder.
    """
    store = RunStore(out / RUNS)
    results = res.collect(cells, store)
    if values["bound"]:
        from gsim.study.reference import with_bound

        results = with_bound(results, out / "bounds")
    found = Outcome(values, results)
    swept = results[0].cell.swept
    res.write_csv(into / "results.csv", res.cell_rows(found.name, results, steady_columns), swept)
    res.write_csv(into / "runs.csv", res.run_rows(found.name, results), swept)
    res.write_csv(into / "instances.csv", res.instance_rows(found.name, results), swept)
    res.write_requests(into / "requests.parquet", results, store)
    if not found.single:
        _write_sweep(found, into)
    return str(found)


def _write_sweep(found: Outcome, into: Path) -> None:
    from gsim.study.figure import save

    res.write_csv(into / "paired.csv", res.paired_rows(found.name, found.comparisons), found.results[0].cell.swept)
    save(found.figure(), into / found.name)
    if found.knees:
        res.write_csv(into / "knees.csv", [one.row(found.name, str(found.axis)) for one in found.knees])
    text = "".join(f"{line}\n" for line in found.findings)
    (into / "findings.txt").write_text(text, encoding="utf-8")


def check_fields(values: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """``compare`` and ``figure.x`` must name fields of the configuration, ``figure.y`` metrics; else ``ConfigError``,
    before anything is computed."""
    figure = values.get("figure") or {}
    x, y = figure.get("x"), figure.get("y") or []
    # An engine of one's own may count what gsim's do not.
    own = any(not _is_ours(cell.settings.choices["engine"].config) for cell in cells)
    if not isinstance(y, str | list | tuple):
        raise ConfigError(f"figure.y must be a list of metrics, not {y!r}")
    for metric in [] if own else [y] if isinstance(y, str) else y:
        if str(metric) not in METRICS:
            raise ConfigError(no_metric(str(metric), METRICS))
    for field in [*values["compare"], *([x] if x is not None else [])]:
        found = [cell.value(str(field)) for cell in cells]
        if all(value is None for value in found):
            raise ConfigError(f"the configuration has no field '{field}' (named by compare or figure.x)")


def _is_ours(config: type | None) -> bool:
    return config is None or config.__module__.partition(".")[0] == "gsim"
