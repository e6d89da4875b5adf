"""A report on results folders: the paper's claims with their verdicts, then a section per experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsim.metrics import interval_of
from gsim.paper.claims import Claim
from gsim.paper.gains import GOODSERVE, gain_rows
from gsim.report.loading import ResultsFolder, load, read_config
from gsim.report.table import interval_text, level_notes, level_sign
from gsim.report.wording import known, level, number, title

_MOST_ROWS = 60


@dataclass(frozen=True)
class Table:
    """A table as text."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """One experiment in the report."""

    name: str
    question: str
    paper: str
    setup: str
    command: str
    figures: Sequence[Path]
    tables: Sequence[Table]
    findings: Sequence[str]
    results: ResultsFolder | None = None
    """Of a sweep: to be drawn anew where a page can be asked."""


@dataclass(frozen=True)
class Report:
    """What is written, whatever the format."""

    title: str
    intro: str
    claims: Sequence[Claim]
    sections: Sequence[Section]
    footer: str


def read_section(folder: Path, command: str) -> Section:
    """A results folder as a section of the report."""
    config = read_config(folder)
    findings = folder / "findings.txt"
    said = findings.read_text(encoding="utf-8").splitlines() if findings.exists() else []
    swept = config.get("study") is None
    return Section(
        name=str(config["name"]),
        question=str(config.get("question") or ""),
        paper=str(config.get("paper") or ""),
        setup=_setup(config),
        command=command,
        figures=sorted(folder.glob("*.png")),
        tables=[*_gains(folder), *_sweep_tables(folder, config)] if swept else _study_tables(folder),
        findings=said,
        results=load(folder) if swept else None,
    )


def _setup(config: dict[str, Any]) -> str:
    """What was run, in a sentence."""
    pool = ", ".join(f"{g['count'] * config['pool']['copies']} {g['profile']}" for g in config["pool"]["instances"])
    trace = {k: v for k, v in config["trace"].items() if k not in ("name",) and isinstance(v, int | float | str)}
    slo = {k: v for k, v in config["slo"].items() if k != "name"}
    swept = "; ".join(f"{field}: {_listed(values)}" for field, values in (config.get("sweep") or {}).items())
    parts = [
        f"Pool: {pool}.",
        f"Trace: {config['trace']['name']} ({', '.join(f'{k} {level(v)}' for k, v in trace.items() if v != '')}).",
        f"SLO: {config['slo']['name']} ({', '.join(f'{k} {level(v)}' for k, v in slo.items())}).",
        f"Predictor: {config['predictor']['name']}.",
        f"Seeds: {config['seeds']}; warm-up cut {level(config['warmup_s'])} s.",
    ]
    return " ".join([*parts, f"Swept: {swept}."] if swept else parts)


def _listed(values: list[Any]) -> str:
    words = [v.get("label") or " + ".join(map(str, v.values())) if isinstance(v, dict) else level(v) for v in values]
    return ", ".join(words)


def _gains(folder: Path) -> list[Table]:
    results = load(folder)
    rows = gain_rows(results)
    if not rows:
        return []
    several = len(rows[0]) > 2
    head = ["over", "largest gain", "at", "least gain", "at"] if several else ["over", "gain"]
    where = f", and at which {', '.join(title(point) for point in results.points)}" if several else ""
    return [Table(f"Gain in goodput of {GOODSERVE} [paired 95 % interval]{where}", head, rows)]


def _sweep_tables(folder: Path, config: dict[str, Any]) -> list[Table]:
    results = load(folder)
    asked = (config.get("figure") or {}).get("y") or ["goodput_rps", "attainment"]
    tables = []
    regret = ["regret_to_bound"] if config.get("bound") else []
    for metric in [*([asked] if isinstance(asked, str) else asked), *regret]:
        pivot: dict[str, dict[str, str]] = {}
        for cell in results.cells:
            text = interval_text(*interval_of(cell, metric), joint=" ± ") + level_sign(cell)
            at = ", ".join(level(value) for value in known(cell.point).values())
            pivot.setdefault(cell.label, {})[at or "all"] = text
        columns = list(dict.fromkeys(column for row in pivot.values() for column in row))
        rows = [[policy, *(row.get(column, "") for column in columns)] for policy, row in pivot.items()]
        by = ", ".join(title(point) for point in results.points) or "policy"
        notes = level_notes(text for row in rows for text in row[1:])
        tables.append(Table("; ".join([f"{title(metric)} by {by}", *notes]), ["policy", *columns], rows))
    return tables


def _study_tables(folder: Path) -> list[Table]:
    import pandas as pd

    tables = []
    frames = {path: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
    # Summaries first: they are shorter than what they sum up.
    for path, frame in sorted(frames.items(), key=lambda item: len(item[1])):
        rows = [[_shown(value) for value in row] for row in frame.head(_MOST_ROWS).itertuples(index=False)]
        more = f" (the first {_MOST_ROWS} of {len(frame)} rows)" if len(frame) > _MOST_ROWS else ""
        heads = [str(column).replace("_", " ") for column in frame.columns]
        tables.append(Table(path.stem.replace("_", " ") + more, heads, rows))
    return tables


def _shown(value: Any) -> str:
    if value != value:
        return "-"
    return number(value) if isinstance(value, float) else str(value)
