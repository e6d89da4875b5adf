"""From a point of a figure to its runs, and from a run to its requests: what a results folder has without a new run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.core import Status
from gsim.inspect.missed import by_cause
from gsim.metrics.misses import causes, late_s
from gsim.report.loading import LoadedCell, ResultsFolder
from gsim.report.page import table
from gsim.report.wording import known, level, number, place

if TYPE_CHECKING:
    import pandas as pd

_WORST = 3
_CODES = {status.name.lower(): int(status) for status in Status}


def runs_of_points(results: ResultsFolder, name: str, command: str) -> tuple[dict[int, str], str]:
    """Where on the page each cell's runs are told (by its place among the cells), and what is told there.

    ``command`` ran the sweep (``python -m gsim experiment=NAME``): with a run's own words it makes that run again.
    """
    misses = _misses(results)
    links, parts = {}, []
    for i, cell in enumerate(results.cells):
        links[i] = f"{name}-{i}"
        head = escape(": ".join(filter(None, (cell.label, place([cell.point])))))
        body = _runs(cell, results, misses, command)
        parts.append(f'<details class="runs" id="{links[i]}"><summary>{head}</summary>{body}</details>')
    return links, f"<details><summary>Runs of every point</summary>{''.join(parts)}</details>"


def _runs(cell: LoadedCell, results: ResultsFolder, misses: pd.DataFrame, command: str) -> str:
    """A row per seed: what it measured, why requests missed, the latest of them; and the words for its page."""
    metrics = [metric for metric in results.shown if metric in cell.runs]
    own = _of(misses, {"policy": cell.label, **cell.point})
    body = []
    for _, run in cell.runs.iterrows():
        seed = int(run["seed"])
        late = own[own["seed"] == seed]
        why = ", ".join(f"{cause} {len(of_it)}" for cause, of_it in by_cause(late))
        worst = late.sort_values("late_s", ascending=False, na_position="last").head(_WORST)
        told = ", ".join(f"{row['request_id']} ({row['cause']})" for row in worst.to_dict("records"))
        body.append([str(seed), *(number(float(run[metric])) for metric in metrics), str(len(late)), why, told])
    header = ["seed", *metrics, "missed", "why", "latest"]
    return table(header, [[escape(text) for text in row] for row in body], "runs") + _again(cell, command)


def _again(cell: LoadedCell, command: str) -> str:
    """What must be run for a story: nothing of that is kept in a results folder."""
    if not command.startswith("python -m gsim "):
        return (
            '<p class="command">A story needs the run again: <code>gsim.simulate(...)</code> with what is said here '
            "and its seed, then <code>.page(FILE)</code> or <code>.explain(ID)</code>.</p>"
        )
    at = known(cell.point)
    words = [word for word in shlex.split(command.removeprefix("python -m gsim")) if word.partition("=")[0] not in at]
    point = [f"{field}={level(value)}" for field, value in at.items()]
    which = shlex.join([*words, f"policy={cell.label}", *point]) + " seed=SEED"
    return (
        '<p class="command">A story needs the run again (the same to the last bit): '
        f"<code>python -m gsim page {escape(which)}</code> for the whole run, "
        f"<code>python -m gsim explain request=ID {escape(which)}</code> for one request.</p>"
    )


def _misses(results: ResultsFolder) -> pd.DataFrame:
    """The counted requests of all runs that were not good, with their cause."""
    import pandas as pd

    path = results.folder / "requests.parquet"
    if not path.is_file():
        return pd.DataFrame({"policy": [], "seed": [], "cause": [], "late_s": [], "request_id": []})
    found = pd.read_parquet(path, filters=[("counted", "==", True), ("good", "==", False)])
    columns: dict[str, Any] = {str(name): found[name].to_numpy() for name in found if name != "status"}
    columns["status"] = found["status"].astype(str).map(_CODES).to_numpy()
    columns.setdefault("retries", np.zeros(len(found), dtype=int))
    return found.assign(cause=causes(columns), late_s=late_s(columns))


def _of(misses: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of one cell."""
    held = np.ones(len(misses), dtype=bool)
    for field, value in where.items():
        if field in misses and value == value:
            held &= (misses[field] == value).to_numpy()
    return misses[held]
