"""``python -m gsim compare A B``: two results, run by run over the same seeds, with paired intervals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsim.core import ConfigError, InputError
from gsim.metrics import paired_difference
from gsim.report.loading import LoadedCell, as_written, load
from gsim.report.table import level_notes, level_sign, render
from gsim.report.wording import known, level, number
from gsim.run.options import RUN_GROUPS, options
from gsim.study.literal import escaped, literal, quoted

if TYPE_CHECKING:
    import pandas as pd

_USAGE = (
    "usage: python -m gsim compare DIR[:POLICY] DIR[:POLICY] [METRIC ...], "
    "or compare ROUTER[+RECTIFIER] ROUTER[+RECTIFIER] [OVERRIDE ...]"
)
#: What is asked of the pool: two runs in which it differs are no pair. (How it is served is what one compares.)
_LOAD = ("trace", "slo", "dynamics", "warmup_s", "until_s", "goodput", "count", "drain_s")


def compare_command(words: Sequence[str]) -> str:
    """Compare two results folders policy by policy, or two policies (``DIR:POLICY``), at every point that both have.

    Raises ``ConfigError`` naming the fields where the two have no point in common.
    """
    if len(words) < 2:
        raise ConfigError(_USAGE)
    first, second = (_Side.read(word) for word in words[:2])
    metrics = list(words[2:]) or ["goodput_rps", "attainment"]
    for metric, side in itertools.product(metrics, (first, second)):
        if metric not in side.metrics:
            raise ConfigError(f"compare: no metric '{metric}' in {side.word}; there are: {', '.join(side.metrics)}")
    pairs, apart = _pairs(first, second)
    if not pairs:
        raise ConfigError(_no_pair(first, second))
    signs = {id(cell): _sign(cell) for pair in pairs for cell in pair}
    rows = [row for metric in metrics for pair in pairs for row in _row(pair, metric, signs)]
    if not rows:
        raise ConfigError(f"{words[0]} and {words[1]} have no seed in common")
    header = ["point", "metric", "A", "B", "A - B", "95 % interval", "p", "seeds", ""]
    notes = [*level_notes(text for row in rows for text in row[2:4]), *_system_notes(first, second, pairs), *apart]
    return "\n".join([f"A = {words[0]}", f"B = {words[1]}", render(header, rows), *notes])


def as_sweep(words: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """For two routers: the command line of the sweep that runs both, and what to compare after it; else None.

    ``ROUTER+RECTIFIER`` sets the rectifier too; a router alone runs with the configured one.
    """
    if len(words) < 2 or any((_folder(word)[0] / "runs.csv").exists() for word in words[:2]):
        return None
    known_routers = options("router")
    entries = []
    for word in words[:2]:
        router, _, rectifier = word.partition("+")
        if router not in known_routers:
            raise ConfigError(
                f"compare: '{word}' is neither a results folder nor a router; routers: {', '.join(known_routers)}"
            )
        entries.append({"label": word, "router": router} | ({"rectifier": rectifier} if rectifier else {}))
    if words[0] == words[1]:
        raise ConfigError(f"compare: '{words[0]}' with itself; name two policies")
    overrides = [word for word in words[2:] if "=" in word or word.startswith("-")]
    metrics = [word for word in words[2:] if word not in overrides]
    given = {key: value.strip("'\"") for key, _, value in (word.partition("=") for word in overrides)}
    name = given.get("name") or f"compare-{words[0]}-{words[1]}".replace("+", "-")
    out = given.get("out") or f"results/{name}"
    sweep = [f"sweep={literal({'router': entries})}", f"name={quoted(escaped(name))}"]
    sweep += [word for word in overrides if not word.startswith("name=")]
    return sweep, [f"{out}:{words[0]}", f"{out}:{words[1]}", *metrics]


def _folder(word: str) -> tuple[Path, str]:
    """``DIR`` or ``DIR:POLICY``; a folder whose own name has a colon is found first."""
    if (Path(word) / "runs.csv").is_file():
        return Path(word), ""
    folder, _, policy = word.partition(":")
    return Path(folder), policy


@dataclass(frozen=True)
class _Side:
    """One of the two: the cells of a results folder (of one policy of it), and what they were run with."""

    word: str
    policy: str
    cells: tuple[_Cell, ...]
    swept: frozenset[str]
    """The fields that make its grid points."""
    metrics: tuple[str, ...]

    @classmethod
    def read(cls, word: str) -> _Side:
        folder, policy = _folder(word)
        path = folder / "runs.csv"
        if not path.is_file():
            raise InputError(f"{path}: no such file; {_USAGE}")
        with as_written(folder):
            return cls._of(word, folder, policy)

    @classmethod
    def _of(cls, word: str, folder: Path, policy: str) -> _Side:
        path = folder / "runs.csv"
        results = load(folder)
        frame = results.runs
        columns = [str(column) for column in frame.columns]
        metrics = tuple(c for c in columns[columns.index("seed") + 1 :] if frame[c].dtype.kind in "fi")
        settings = _flat({key: results.config.get(key) for key in (*RUN_GROUPS, *_LOAD) if key in results.config})
        cells = tuple(
            _Cell(cell.label, known(cell.point), settings | _flat_swept(cell.runs, columns), cell.runs)
            for cell in results.cells
            if not policy or cell.label == policy or policy == str(cell.runs["router"].iloc[0])
        )
        exact = tuple(cell for cell in cells if cell.label == policy)
        there = ", ".join(sorted({cell.label for cell in (cells if cells else results.cells)}))
        if not cells:
            raise ConfigError(f"{path}: no policy '{policy}'; there are: {there}")
        if policy and not exact and len({cell.label for cell in cells}) > 1:
            raise ConfigError(f"{path}: '{policy}' names several: {there}")
        return cls(word, policy, exact or cells, frozenset(results.points), metrics)


@dataclass(frozen=True)
class _Cell:
    """A policy at a grid point."""

    label: str
    point: Mapping[str, Any]
    settings: Mapping[str, Any]
    """Every field of the configuration by its dotted name, those of the policy and of the point included."""
    runs: pd.DataFrame


def _pairs(first: _Side, second: _Side) -> tuple[list[tuple[_Cell, _Cell]], list[str]]:
    """The cells that are alike in all that is swept and in the load; and in words, which cells have no partner."""
    free = bool(first.policy) and bool(second.policy)
    pairs = []
    for a in first.cells:
        alike = [b for b in second.cells if (free or a.label == b.label) and not _unlike(a, b, first, second)]
        pairs += [(a, b) for b in alike[:1]]
    told = []
    for name, side, used in (("A", first, [a for a, _ in pairs]), ("B", second, [b for _, b in pairs])):
        alone = [_where(cell) for cell in side.cells if not any(cell is other for other in used)]
        if alone and pairs:
            told.append(f"only in {name}: {'; '.join(dict.fromkeys(alone))}")
    return pairs, told


def _unlike(a: _Cell, b: _Cell, first: _Side, second: _Side) -> list[str]:
    """The fields in which two cells are no pair."""
    asked = {field for field in {*a.settings, *b.settings} if field.split(".")[0] in _LOAD}
    fields = sorted({*asked, *first.swept, *second.swept})
    return [field for field in fields if not _same(a.settings.get(field), b.settings.get(field))]


def _no_pair(first: _Side, second: _Side) -> str:
    """What keeps the two apart, in words: the fields of the pair of cells that is most alike."""
    free = bool(first.policy) and bool(second.policy)
    pairs = [(a, b) for a in first.cells for b in second.cells if free or a.label == b.label]
    if not pairs:
        there = (", ".join(dict.fromkeys(cell.label for cell in side.cells)) for side in (first, second))
        return "{} and {} have no policy in common: {} and {}; name one of each (DIR:POLICY)".format(
            first.word, second.word, *there
        )
    fields = min((_unlike(a, b, first, second) for a, b in pairs), key=len)
    told = []
    for field in fields:
        in_a, in_b = (
            ", ".join(dict.fromkeys(level(cell.settings.get(field)) for cell in side.cells)) for side in (first, second)
        )
        told.append(f"{field} is {in_a} in A and {in_b} in B")
    return f"{first.word} and {second.word} have no point in common, so there is nothing to pair: {'; '.join(told)}"


def _system_notes(first: _Side, second: _Side, pairs: Sequence[tuple[_Cell, _Cell]]) -> Iterator[str]:
    """Fields besides the policy's own in which the paired runs differ: the difference may come from them."""
    a, b = pairs[0]
    own = ("router", "rectifier") if first.policy and second.policy else ()
    fields = [f for f in {**a.settings, **b.settings} if f.split(".")[0] not in own]
    differ = [f for f in fields if not _same(a.settings.get(f), b.settings.get(f))]
    told = [f"{f} ({level(a.settings.get(f))} and {level(b.settings.get(f))})" for f in differ]
    if told:
        yield f"A and B differ in {', '.join(told)}"


def _where(cell: _Cell) -> str:
    at = ", ".join(f"{field}={level(value)}" for field, value in cell.point.items())
    return f"{cell.label} at {at}" if at else cell.label


def _same(a: Any, b: Any) -> bool:
    """Whether two values of a field are equal; tables have nine digits."""
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-8) or (a != a and b != b)
    return bool(a == b) or (_absent(a) and _absent(b))


def _absent(value: Any) -> bool:
    return value is None or value != value


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings by dotted names; an option's ``name`` is its group's value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix.rstrip(".") if key == "name" and prefix else f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[name] = value
    return found


def _flat_swept(runs: pd.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    """The swept fields of a cell and its policy's options, as its rows of the table have them."""
    fields = [c for c in columns[: columns.index("seed")] if c not in ("experiment", "policy")]
    return {field: runs[field].iloc[0] for field in fields}


def _sign(cell: _Cell) -> str:
    """What the cell's runs say of a level (all of its seeds, not only those that the other side has too)."""
    return level_sign(LoadedCell(cell.label, cell.point, cell.runs))


def _row(pair: tuple[_Cell, _Cell], metric: str, signs: Mapping[int, str]) -> Iterator[list[str]]:
    a, b = (cell.runs.set_index("seed")[metric] for cell in pair)
    seeds = [seed for seed in a.index if seed in b.index]
    if not seeds:
        return
    first, second = (values.loc[seeds].to_numpy(dtype=float) for values in (a, b))
    result = paired_difference(first, second)
    labels = [pair[0].label] if pair[0].label == pair[1].label else []
    at = ", ".join([*labels, *(level(value) for value in pair[0].point.values())]) or "all"
    verdict = "" if not result.significant else "A higher" if result.mean > 0 else "B higher"
    bounds = "not known" if math.isnan(result.low) else f"{number(result.low)} .. {number(result.high)}"
    means = [number(values.mean()) + signs[id(cell)] for values, cell in zip((first, second), pair, strict=True)]
    row = [at, metric, *means, number(result.mean), bounds]
    yield [*row, f"{result.p_value:.2g}", str(result.pairs), verdict]
