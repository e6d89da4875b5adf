"""From stored runs to a study's results: one tidy row per cell, paired comparisons, rows of all requests."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from gsim.metrics import Paired, interval_of, paired_difference
from gsim.run.store import RunStore, encoding
from gsim.study.costs import with_costs
from gsim.study.grid import Cell
from gsim.study.measured import by_point
from gsim.study.policies import without_field

if TYPE_CHECKING:
    import pyarrow as pa

#: Metrics that are given with the bounds of their 95 % interval over seeds.
BOUNDED = (
    "goodput_rps",
    "attainment",
    "session_goodput_rps",
    "session_attainment",
    "growth_sessions_per_s",
    "growth_requests_per_s",
)
#: Metrics whose paired differences are tabled.
COMPARED = (
    "goodput_rps",
    "attainment",
    "session_goodput_rps",
    "session_attainment",
    "mean_e2el_ms",
    "p99_e2el_ms",
)


#: What is told of an instance.
_USAGE = (
    *("requests", "share", "generated_tokens", "utilisation", "preemptions"),
    *("paid_s", "starts", "cost_usd", "energy_j"),
)
T = TypeVar("T")
Made = TypeVar("Made")


@dataclass(frozen=True)
class CellResult:
    """A cell and its runs' summaries, in the order of the seeds."""

    cell: Cell
    summaries: tuple[Mapping[str, Any], ...]
    label: str
    """The policy's name in figures: what is compared, in words."""
    point: Mapping[str, Any]
    """The swept fields that are not compared: the cell's grid point."""

    def metric(self, name: str) -> np.ndarray[Any, Any]:
        """One value per seed (NaN where the runs have no such metric)."""
        return np.array([summary["metrics"].get(name, math.nan) for summary in self.summaries], dtype=float)


def collect(cells: Sequence[Cell], store: RunStore) -> list[CellResult]:
    """Read the summaries of all cells, in the grid's order."""
    return [cell_result(cell, [store.summary(key) for key in cell.keys]) for cell in cells]


def cell_result(cell: Cell, summaries: Sequence[Mapping[str, Any]]) -> CellResult:
    """A cell and its runs' summaries; what the pool costs is put beside them."""
    pool = cell.settings.choices["pool"].build()
    return CellResult(cell, tuple(with_costs(summary, pool) for summary in summaries), cell.label, cell.point)


def along(results: Sequence[CellResult], x: str | None) -> list[CellResult]:
    """The cells for a figure over ``x``: where that is a parameter of the policies, a policy is all of its values."""
    if x is None or not results or x in results[0].point:
        return list(results)
    return [
        replace(r, label=without_field(r.label, x, r.cell.swept[x]), point={x: r.cell.swept[x], **r.point})
        for r in results
    ]


def cell_rows(
    name: str, results: Sequence[CellResult], told: Callable[[CellResult], Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """One tidy row per cell: what it is, then means over seeds, those of ``BOUNDED`` with their 95 % bounds.

    ``told`` says what else is known of a cell (whether it has a level).
    """
    rows = []
    for result in results:
        row: dict[str, Any] = {"experiment": name}
        row.update({f: v for f, v in result.cell.swept.items() if f not in ("router", "rectifier")})
        row["router"] = result.cell.value("router")
        row["rectifier"] = result.cell.value("rectifier")
        row["policy"] = result.label
        row["seeds"] = len(result.summaries)
        row |= told(result) if told is not None else {}
        names = dict.fromkeys(metric for summary in result.summaries for metric in summary["metrics"])
        ordered = [*(n for n in BOUNDED if n in names), *(n for n in names if n not in BOUNDED)]
        for metric in ordered:
            mean, low, high = interval_of(result, metric)
            row[metric] = mean
            if metric in BOUNDED:
                row[f"{metric}_low"], row[f"{metric}_high"] = low, high
        rows.append(row)
    return rows


def run_rows(name: str, results: Sequence[CellResult]) -> list[dict[str, Any]]:
    """One row per run: what it is, its seed, its metrics (what ``compare`` reads)."""
    return [
        {
            "experiment": name,
            **result.cell.swept,
            "router": result.cell.value("router"),
            "rectifier": result.cell.value("rectifier"),
            "policy": result.label,
            "seed": seed,
            **summary["metrics"],
        }
        for result in results
        for seed, summary in zip(result.cell.seeds, result.summaries, strict=True)
    ]


def instance_rows(name: str, results: Sequence[CellResult]) -> list[dict[str, Any]]:
    """One row per cell and instance: its share of the requests and its utilisation, means over seeds."""
    rows = []
    for result in results:
        head = {"experiment": name, **result.cell.swept, "router": result.cell.value("router"), "policy": result.label}
        for runs in zip(*(summary["instances"] for summary in result.summaries), strict=True):
            row = {**head, "instance": runs[0]["name"], "gpu": runs[0]["gpu"]}
            for metric in _USAGE:
                row[metric] = float(np.mean([run[metric] for run in runs]))
            rows.append(row)
    return rows


@dataclass(frozen=True)
class Comparison:
    """Two policies at one grid point, by one metric."""

    point: Mapping[str, Any]
    metric: str
    first: str
    second: str
    result: Paired


def compare(results: Sequence[CellResult], metrics: Iterable[str] = COMPARED) -> list[Comparison]:
    """All pairs of policies at each grid point, over the seeds that both have."""
    found = []
    there = [
        metric for metric in metrics if any(metric in summary["metrics"] for r in results for summary in r.summaries)
    ]
    for group in by_point(results):
        for (a, b), metric in itertools.product(itertools.combinations(group, 2), there):
            seeds = [seed for seed in a.cell.seeds if seed in b.cell.seeds]
            first, second = (r.metric(metric)[[r.cell.seeds.index(seed) for seed in seeds]] for r in (a, b))
            found.append(Comparison(a.point, metric, a.label, b.label, paired_difference(first, second)))
    return found


def paired_rows(name: str, comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The comparisons as tidy rows."""
    return [
        {
            "experiment": name,
            **c.point,
            "metric": c.metric,
            "first": c.first,
            "second": c.second,
            "difference": c.result.mean,
            "difference_low": c.result.low,
            "difference_high": c.result.high,
            "p_value": c.result.p_value,
            "pairs": c.result.pairs,
            "significant": c.result.significant,
        }
        for c in comparisons
    ]


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], exact: Collection[str] = ()) -> None:
    """Rows as CSV, numbers in nine significant digits: the same rows give the same bytes.

    Columns that are ``exact`` have as many as it takes: two swept values stay two.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_text(row.get(name), name in exact) for name in names] for row in rows)


def _text(value: Any, exact: bool = False) -> str:
    if exact and isinstance(value, float) and math.isfinite(value) and float(f"{value:.9g}") != value:
        return repr(value)
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.9g}"
    return str(value)


def write_requests(path: Path, results: Sequence[CellResult], store: RunStore) -> None:
    """All requests of all runs, with the swept fields, router, rectifier and seed in front."""
    import pyarrow.parquet as pq

    runs = request_runs(results)
    keys = [key for result in results for key in result.cell.keys]
    writer = None
    # A stream, not a path: pyarrow takes what has a colon in it for an address.
    with path.open("wb") as stream:
        for table in _one_ahead(lambda run: with_head(store.rows(run[0]), run[1]), list(zip(keys, runs, strict=True))):
            if writer is None:
                writer = pq.ParquetWriter(stream, table.schema, **encoding(table.schema))
            writer.write_table(table.cast(writer.schema))
        if writer is not None:
            writer.close()


Head = Mapping[str, tuple[Any, Any]]
"""What a run is, by column: a value and its type."""


def request_runs(results: Sequence[CellResult]) -> list[Head]:
    """What stands before the requests of each run, in the order of cells and seeds: the same columns for all."""
    import pyarrow as pa

    heads = [
        {
            **r.cell.swept,
            "router": r.cell.value("router"),
            "rectifier": r.cell.value("rectifier"),
            "policy": r.label,
        }
        for r in results
    ]
    kinds = {name: _kind([head.get(name) for head in heads]) for name in (heads[0] if heads else ())}
    seeds = pa.int32() if all(seed < 1 << 31 for r in results for seed in r.cell.seeds) else pa.int64()
    return [
        {n: (_as(kinds[n], value), kinds[n]) for n, value in head.items()} | {"seed": (seed, seeds)}
        for result, head in zip(results, heads, strict=True)
        for seed in result.cell.seeds
    ]


def _one_ahead(make: Callable[[T], Made], items: Iterable[T]) -> Iterator[Made]:
    """``make`` of every item, in order; the next one is made in a thread while the last one is used."""
    with ThreadPoolExecutor(1) as maker:
        pending: Future[Made] | None = None
        for item in items:
            coming = maker.submit(make, item)
            if pending is not None:
                yield pending.result()
            pending = coming
        if pending is not None:
            yield pending.result()


def with_head(rows: pa.Table, head: Head) -> pa.Table:
    """The rows of a run behind columns of one value each: what it is."""
    import pyarrow as pa

    columns = {name: pa.repeat(pa.scalar(value, kind), len(rows)) for name, (value, kind) in head.items()}
    columns |= {name: _decoded(rows[name]) for name in rows.column_names}
    return pa.table(columns)


def _kind(values: Sequence[Any]) -> Any:
    """The type of a swept field's column: the same for all cells, also where some of them have no such field."""
    import pyarrow as pa

    known = {type(_scalar(value)) for value in values if value is not None}
    return {frozenset({float}): pa.float64(), frozenset({bool}): pa.bool_()}.get(frozenset(known), pa.string())


def _decoded(column: Any) -> Any:
    import pyarrow as pa

    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _as(kind: Any, value: Any) -> Any:
    import pyarrow as pa

    made = _scalar(value)
    return str(made) if made is not None and kind == pa.string() else made


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    return float(value) if isinstance(value, int | float) else str(value)
