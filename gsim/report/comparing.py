"""``python -m gsim compare A B``: two results, run by run over the same seeds, with paired intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gsim.core import ConfigError, InputError
from gsim.metrics import paired_difference
from gsim.report.table import render
from gsim.report.wording import number
from gsim.run.options import options

if TYPE_CHECKING:
    import pandas as pd

_USAGE = (
    "usage: python -m gsim compare DIR[:POLICY] DIR[:POLICY] [METRIC ...], "
    "or compare ROUTER[+RECTIFIER] ROUTER[+RECTIFIER] [OVERRIDE ...]"
)
_POLICY = ["router", "rectifier", "policy"]


def compare_command(words: Sequence[str]) -> str:
    """Compare two results folders (points that both have), or two policies (``DIR:POLICY``) point by point."""
    if len(words) < 2:
        raise ConfigError(_USAGE)
    first, second = (_read(word) for word in words[:2])
    metrics = list(words[2:]) or ["goodput_rps", "attainment"]
    policies = all(":" in word for word in words[:2])
    points = _points(first, second, policies)
    rows = []
    for metric in metrics:
        if metric not in first or metric not in second:
            known = ", ".join(str(c) for c in first.columns if first[c].dtype.kind == "f")
            raise ConfigError(f"compare: no metric '{metric}'; there are: {known}")
        rows += _compare(first, second, points, metric)
    if not rows:
        raise ConfigError(f"{words[0]} and {words[1]} have no point and seed in common")
    header = ["point", "metric", "A", "B", "A - B", "95 % interval", "p", "seeds", ""]
    return f"A = {words[0]}\nB = {words[1]}\n" + render(header, rows)


def as_sweep(words: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """For two routers: the command line of the sweep that runs both, and what to compare after it; else None.

    ``ROUTER+RECTIFIER`` sets the rectifier too; a router alone runs with the configured one.
    """
    if len(words) < 2 or any((Path(word.partition(":")[0]) / "runs.csv").exists() for word in words[:2]):
        return None
    known = options("router")
    entries = []
    for word in words[:2]:
        router, _, rectifier = word.partition("+")
        if router not in known:
            raise ConfigError(
                f"compare: '{word}' is neither a results folder nor a router; routers: {', '.join(known)}"
            )
        entries.append(f"{{label:'{word}',router:{router}" + (f",rectifier:{rectifier}}}" if rectifier else "}"))
    overrides = [word for word in words[2:] if "=" in word or word.startswith("-")]
    metrics = [word for word in words[2:] if word not in overrides]
    named = next((word.partition("=")[2] for word in overrides if word.startswith("out=")), None)
    name = f"compare-{words[0]}-{words[1]}".replace("+", "-")
    out = named or f"results/{name}"
    sweep = [f"sweep={{router:[{','.join(entries)}]}}", f"name={name}", *overrides]
    return sweep, [f"{out}:{words[0]}", f"{out}:{words[1]}", *metrics]


def _read(word: str) -> pd.DataFrame:
    import pandas as pd

    folder, _, policy = word.partition(":")
    path = Path(folder) / "runs.csv"
    if not path.is_file():
        raise InputError(f"{path}: no such file; {_USAGE}")
    frame = pd.read_csv(path)
    if not policy:
        return frame
    exact = frame[frame["policy"] == policy]
    chosen = exact if len(exact) else frame[frame["router"] == policy]
    if chosen.empty:
        raise ConfigError(f"{path}: no policy '{policy}'; there are: {', '.join(sorted(set(frame['policy'])))}")
    if chosen["policy"].nunique() > 1:
        raise ConfigError(f"{path}: '{policy}' names several: {', '.join(sorted(set(chosen['policy'])))}")
    return chosen


def _points(first: pd.DataFrame, second: pd.DataFrame, policies: bool) -> list[str]:
    """The columns that identify a grid point in both: the swept fields, and the policy unless two are compared."""
    before = list(first.columns[: list(first.columns).index("seed")])
    ignored = {"experiment", *(_POLICY if policies else ())}
    return [column for column in before if column in second and column not in ignored]


def _compare(first: pd.DataFrame, second: pd.DataFrame, points: list[str], metric: str) -> list[list[str]]:
    merged = first.merge(second, on=[*points, "seed"], suffixes=("_a", "_b"))
    if merged.empty:
        return []
    groups = merged.groupby(points, sort=False, dropna=False) if points else [((), merged)]
    rows = []
    for point, group in groups:
        a, b = group[f"{metric}_a"].to_numpy(), group[f"{metric}_b"].to_numpy()
        result = paired_difference(a, b)
        shown = dict(zip(points, point if isinstance(point, tuple) else (point,), strict=True))
        words = [str(value) for name, value in shown.items() if name not in ("router", "rectifier")]
        verdict = "" if not result.significant else "A higher" if result.mean > 0 else "B higher"
        bounds = f"{number(result.low)} .. {number(result.high)}"
        row = [", ".join(words) or "all", metric, number(a.mean()), number(b.mean()), number(result.mean), bounds]
        rows.append([*row, f"{result.p_value:.2g}", str(result.pairs), verdict])
    return rows
