"""What a run or a sweep leaves in its results folder: tables, rows, figure; and what is printed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gsim.core import ConfigError
from gsim.metrics import interval_of
from gsim.report import table
from gsim.report.findings import drift_sentences, knee_sentences, sweep_findings
from gsim.report.windows import window_sentences
from gsim.run.store import RunStore
from gsim.study import results as res
from gsim.study.grid import Cell
from gsim.study.knees import knees
from gsim.study.steadiness import steadiness, steady_columns

_SHOWN = (
    "skipped_rows",
    "requests",
    "completed",
    "rejected",
    "failed",
    "truncated",
    "cut",
    "preempted",
    "migrated",
    "migrations_per_request",
    "migrated_attainment",
    "recomputed_fraction",
    "moves_back",
    "offered_rps",
    "arrived_rps",
    "goodput_rps",
    "attainment",
    "session_goodput_rps",
    "session_attainment",
    "mean_ttft_ms",
    "p99_ttft_ms",
    "mean_tpot_ms",
    "p99_tpot_ms",
    "mean_e2el_ms",
    "p50_e2el_ms",
    "p90_e2el_ms",
    "p99_e2el_ms",
    "cached_fraction",
)


def write_cells(values: Mapping[str, Any], cells: Sequence[Cell], out: Path, into: Path) -> str:
    """Write results.csv, paired.csv, instances.csv, requests.parquet and the figure; returns the text to print.

    ``out`` holds the runs and the bounds that are known; the outputs go ``into`` a folder.
    """
    store = RunStore(out / "runs")
    name = str(values["name"])
    results = res.collect(cells, store)
    if values["bound"]:
        from gsim.study.reference import with_bound

        results = with_bound(results, out / "bounds")
    res.write_csv(into / "results.csv", res.cell_rows(name, results, steady_columns))
    res.write_csv(into / "runs.csv", res.run_rows(name, results))
    res.write_csv(into / "instances.csv", res.instance_rows(name, results))
    res.write_requests(into / "requests.parquet", results, store)
    if len(results) == 1:
        return "\n\n".join([_single(results[0]), *window_sentences(name, results, _rule(results))])
    comparisons = res.compare(results)
    res.write_csv(into / "paired.csv", res.paired_rows(name, comparisons))
    metrics, axis = figure_metrics(values, results), figure_axis(values, results)
    from gsim.report.sweep_figure import sweep_figure
    from gsim.study.figure import save

    drawn = res.along(results, axis)
    save(sweep_figure(drawn, axis, metrics), into / name)
    found = knees(drawn, axis)
    if found:
        res.write_csv(into / "knees.csv", [one.row(name, str(axis)) for one in found])
    said = [
        *_truncated(results),
        *window_sentences(name, results, _rule(results)),
        *_knee(values),
        *drift_sentences(results),
        *knee_sentences(found, str(axis)),
        *sweep_findings(results, comparisons, metrics, _rule(results)),
    ]
    (into / "findings.txt").write_text("".join(f"{line}\n" for line in said), encoding="utf-8")
    parts = [table.sweep_table(results, metric) for metric in metrics]
    lines = [textwrap.fill(line, table.WIDTH, initial_indent="  ", subsequent_indent="    ") for line in said]
    return "\n\n".join([*parts, *(["\n".join(["findings:", *lines])] if lines else [])])


def _rule(results: Sequence[res.CellResult]) -> str:
    """By what the runs counted."""
    return str(results[0].summaries[0].get("window", {}).get("rule", ""))


def _truncated(results: Sequence[res.CellResult]) -> list[str]:
    """Answers that the engine's limits cut short: how many, at worst."""
    shares = [
        (float(np.sum(result.metric("truncated")) / max(np.sum(result.metric("requests")), 1.0)), result)
        for result in results
    ]
    share, worst = max(shares, key=lambda pair: pair[0], default=(0.0, None))
    if worst is None or not share > 0:
        return []
    return [
        f"answers are cut short by the engine's limits (engine.max_model_len, or KV blocks): up to {share:.1%} of the "
        f"requests ({worst.label}); they count as not good (goodput='truncated:good' counts them)"
    ]


def _knee(values: Mapping[str, Any]) -> list[str]:
    knee = values.get("knee") or {}
    if not knee.get("at") or knee.get("rps") is None:
        return []
    return [f"the knee ({knee['target']:.0%} in time under {knee['policy']}) is at {knee['rps']:.3g} requests/s"]


def _single(result: res.CellResult) -> str:
    metrics = {metric: interval_of(result, metric) for metric in _SHOWN}
    for rare in ("skipped_rows", "truncated"):
        if not metrics[rare].mean > 0:
            del metrics[rare]
    known = {metric: interval for metric, interval in metrics.items() if interval.mean == interval.mean}
    usage = res.instance_rows("", [result])
    seeds = ", ".join(str(seed) for seed in result.cell.seeds)
    told = steadiness(result)
    steady = {True: "yes", False: f"no: {told.because}", None: f"cannot be said: {told.because}"}[told.stationary]
    return f"{result.label} (seeds {seeds})\n{table.run_table(known, usage)}\n\nstationary: {steady}" + "".join(
        f"\n{line}" for line in _truncated([result])
    )


def check_fields(values: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """``compare`` and ``figure.x`` must name fields of the configuration, else ``ConfigError``."""
    x = (values.get("figure") or {}).get("x")
    for field in [*values["compare"], *([x] if x is not None else [])]:
        found = [cell.value(str(field)) for cell in cells]
        if all(value is None for value in found):
            raise ConfigError(f"the configuration has no field '{field}' (named by compare or figure.x)")


def figure_axis(values: Mapping[str, Any], results: Sequence[res.CellResult]) -> str | None:
    """The swept field of the horizontal axis: ``figure.x`` where it varies, else the first numeric one of the grid.

    A parameter of the policies is the axis where nothing else is.
    """
    asked = (values.get("figure") or {}).get("x")
    swept = results[0].cell.swept
    if asked in swept:
        return str(asked)
    own = [field for field in swept if field not in results[0].point]
    for field in [*results[0].point, *own]:
        if all(type(result.cell.swept[field]) in (int, float) for result in results):
            return str(field)
    return None


def figure_metrics(values: Mapping[str, Any], results: Sequence[res.CellResult]) -> list[str]:
    """The metrics of the figure's panels: ``figure.y``, else goodput and attainment.

    Those of sessions are left out where the trace has only single requests (``trace=paper`` in a study of agents).
    """
    asked = (values.get("figure") or {}).get("y") or ["goodput_rps", "attainment"]
    known = results[0].summaries[0]["metrics"]
    metrics = [str(metric) for metric in ([asked] if isinstance(asked, str) else asked)]
    if "sessions" not in known:
        metrics = [metric for metric in metrics if not metric.startswith("session_")] or ["attainment"]
    unknown = [metric for metric in metrics if metric not in known]
    if unknown:
        raise ConfigError(f"figure.y '{unknown[0]}' is no metric; there are: {', '.join(known)}")
    return metrics
