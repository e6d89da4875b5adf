"""Reading a results folder back, for notebooks and reports: ``load("results/goodput_vs_rps")``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from gsim.core import ConfigError, InputError
from gsim.core.files import UNREADABLE
from gsim.core.plain_yaml import BoundedLoader, check_size
from gsim.study.knees import knees
from gsim.study.policies import without_field
from gsim.study.steadiness import standing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Columns of names, whatever they spell.
_TEXT = ("experiment", "router", "rectifier", "policy", "instance", "gpu", "metric", "first", "second")

#: Columns without which a table is none of gsim's.
_NEEDED = {"runs.csv": ("policy", "router", "seed"), "instances.csv": ("policy",), "paired.csv": ("first", "second")}


@dataclass(frozen=True)
class LoadedCell:
    """A policy at a grid point, as read back."""

    label: str
    point: Mapping[str, Any]
    runs: pd.DataFrame

    def metric(self, name: str) -> np.ndarray[Any, Any]:
        """One value per seed (NaN where the runs have no such metric)."""
        return np.asarray(self.runs.get(name, np.full(len(self.runs), np.nan)), dtype=float)

    def along(self, x: str | None) -> LoadedCell:
        """The cell for a figure over ``x``: where that is a parameter of policies, one is all of its values."""
        if x is None or x in self.point or x not in self.runs:
            return self
        value = self.runs[x].iloc[0]
        return replace(self, label=without_field(self.label, x, value), point={x: value, **self.point})


class Results(ABC):
    """The results of a run or a sweep, wherever they are kept."""

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""

    @property
    @abstractmethod
    def runs(self) -> pd.DataFrame:
        """One row per run (cell and seed): the swept fields, the policy, the seed, all metrics."""

    @property
    @abstractmethod
    def requests(self) -> pd.DataFrame:
        """One row per request of all runs."""

    @property
    @abstractmethod
    def instances(self) -> pd.DataFrame:
        """One row per cell and instance: its share of the requests, its utilisation."""

    @property
    @abstractmethod
    def paired(self) -> pd.DataFrame:
        """Every pair of policies at every grid point: the paired difference, its 95 % interval, the p-value."""

    @property
    @abstractmethod
    def findings(self) -> list[str]:
        """What was found, a sentence each."""

    @property
    def points(self) -> list[str]:
        """The swept fields that make a grid point (not the policy)."""
        before = list(self.runs.columns[: list(self.runs.columns).index("seed")])
        fields = [column for column in before if column not in ("experiment", "router", "rectifier", "policy")]
        # A field that only the policies differ in is part of the policy.
        return [field for field in fields if self.runs.groupby("policy")[field].nunique(dropna=False).max() > 1]

    @property
    def cells(self) -> list[LoadedCell]:
        """All cells, in the grid's order."""
        points = self.points
        found = []
        for (policy, *values), runs in self.runs.groupby(["policy", *points], sort=False, dropna=False):
            found.append(LoadedCell(str(policy), dict(zip(points, values, strict=True)), runs))
        return found

    def table(self, metric: str = "goodput_rps") -> pd.DataFrame:
        """Means over seeds: a row per policy, a column per grid point (its value, if one field was swept)."""
        self._check([metric])
        return self._by_point(lambda cell: float(np.nanmean(cell.metric(metric))))

    @property
    def levels(self) -> pd.DataFrame:
        """Whether there is a level, as ``table`` is laid out: ``level``, ``no level`` (beyond capacity, or not steady),
        ``undecided``, or ``unknown`` where the runs recorded nothing over time."""
        return self._by_point(standing)

    @property
    def knees(self) -> pd.DataFrame:
        """Where each policy stops to carry the load, a row each (columns of ``knees.csv``); empty where the axis is no
        load with several values."""
        import pandas as pd

        axis = self._axis(None)
        name = str(self.config.get("name", ""))
        cells = [cell.along(axis) for cell in self.cells]
        return pd.DataFrame([one.row(name, str(axis)) for one in knees(cells, axis)])

    def _by_point(self, value: Callable[[LoadedCell], Any]) -> pd.DataFrame:
        import pandas as pd

        rows: dict[str, dict[Any, Any]] = {}
        for cell in self.cells:
            values = [*cell.point.values()]
            at = values[0] if len(values) == 1 else ", ".join(str(value) for value in values) or "all"
            rows.setdefault(cell.label, {})[at] = value(cell)
        return pd.DataFrame.from_dict(rows, orient="index")

    def _axis(self, x: str | None) -> str | None:
        """The field of a figure's horizontal axis: ``x``, the experiment's own, or the first of the grid in numbers."""
        numeric = [field for field in self.points if self.runs[field].dtype.kind in "if"]
        asked = x or (self.config.get("figure") or {}).get("x") or next(iter(numeric), None)
        return None if asked is None else str(asked)

    def figure(self, *metrics: str, x: str | None = None) -> Figure:
        """The metrics (default: the experiment's own) against ``x`` (default: the experiment's own axis)."""
        from gsim.report.sweep_figure import sweep_figure

        shown = list(metrics) or self.shown
        self._check(shown)
        axis = self._axis(x)
        return sweep_figure([cell.along(axis) for cell in self.cells], axis, shown)

    @property
    def shown(self) -> list[str]:
        """The metrics that the experiment is about."""
        own = (self.config.get("figure") or {}).get("y") or ["goodput_rps", "attainment"]
        return [own] if isinstance(own, str) else [str(metric) for metric in own]

    def __str__(self) -> str:
        from gsim.report.table import listed, sweep_table

        parts = [sweep_table(self.cells, metric) for metric in self.shown if metric in self.runs]
        return "\n\n".join([*parts, *([listed(self.findings)] if self.findings else [])])

    def _check(self, metrics: Sequence[str]) -> None:
        columns = [str(column) for column in self.runs.columns]
        there = columns[columns.index("seed") + 1 :]
        unknown = [metric for metric in metrics if metric not in there]
        if unknown:
            raise ConfigError(f"no metric '{unknown[0]}'; there are: {', '.join(there)}")


@dataclass(frozen=True)
class ResultsFolder(Results):
    """A results folder of a run or a sweep."""

    folder: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """See ``Results``."""
        return read_config(self.folder)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """See ``Results``."""
        return self._table("runs.csv")

    @cached_property
    def requests(self) -> pd.DataFrame:
        """See ``Results``."""
        import pandas as pd

        with as_written(self.folder):
            return pd.read_parquet((self.folder / "requests.parquet").resolve())

    @cached_property
    def instances(self) -> pd.DataFrame:
        """See ``Results``."""
        return self._table("instances.csv")

    @cached_property
    def paired(self) -> pd.DataFrame:
        """See ``Results``; raises ``InputError`` where the folder holds one policy at one point."""
        if not (self.folder / "paired.csv").exists():
            raise InputError(f"{self.folder}: nothing is compared here (no paired.csv): a sweep of two policies is")
        return self._table("paired.csv")

    @cached_property
    def findings(self) -> list[str]:
        """See ``Results``."""
        path = self.folder / "findings.txt"
        with as_written(self.folder):
            return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def _table(self, name: str) -> pd.DataFrame:
        """A table with text as it was written: a policy may be called ``1``, ``007`` or ``NA``."""
        import pandas as pd

        path = self.folder / name
        with as_written(self.folder):
            head = pd.read_csv(path, nrows=0).columns
            text = {column: str for column in head if column in _TEXT or self._is_text(column)}
            plainly: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}
            frame: pd.DataFrame = pd.read_csv(path, dtype=text, **plainly)
            # pandas reads numbers to some fifteen digits; a swept value has all of its own.
            swept = [
                field for field in self.config.get("sweep") or {} if field in frame and frame[field].dtype == float
            ]
            for field in swept:
                written = pd.read_csv(path, usecols=[field], dtype=str, **plainly)[field]
                frame[field] = [float(one) for one in written]
            missing = [column for column in _NEEDED.get(name, ()) if column not in frame]
            if missing:
                raise ValueError(f"{name} has no column '{missing[0]}'")
            _check_rows(name, frame, path)
        return frame

    def _is_text(self, field: str) -> bool:
        """Whether a swept field holds text, by the configuration (where there is none: what pandas makes of it)."""
        if not (self.folder / "config.yaml").exists():
            return False
        entries = (self.config.get("sweep") or {}).get(field) or ()
        value: Any = self.config
        for part in field.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return isinstance(value, str) or any(isinstance(entry, str) for entry in entries)


def _check_rows(name: str, frame: pd.DataFrame, path: Path) -> None:
    """``ValueError`` where a table was cut off, where it has no run, and where a run stands in it twice."""
    if not path.read_bytes().endswith(b"\n"):
        raise ValueError(f"{name} was cut off in its last row")
    if name != "runs.csv":
        return
    if frame.empty:
        raise ValueError(f"{name} has no row")
    columns = list(frame.columns)
    which = columns[: columns.index("seed") + 1]
    twice = frame.duplicated(which)
    if twice.any():
        raise ValueError(f"{name}, row {int(twice.argmax()) + 2}: this run stands above already")


@contextmanager
def as_written(folder: Path) -> Iterator[None]:
    """What fails while the files of a results folder are read is told as an ``InputError``: somebody changed them."""
    try:
        yield
    except (*UNREADABLE, yaml.YAMLError, RecursionError, LookupError, TypeError, AttributeError) as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"{folder}: its files are not as they were written ({told}); run the experiment again"
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration that a results folder keeps; raises ``InputError`` where it is damaged, or not there."""
    path = folder / "config.yaml"
    with as_written(folder):
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), Loader=BoundedLoader)
            check_size(path, content)
        except InputError as error:
            raise ValueError(str(error)) from None
        return dict(content.items())


def load(folder: str | Path) -> ResultsFolder:
    """The results of a run or a sweep; raises ``InputError`` where the folder holds none."""
    path = Path(folder)
    if not (path / "runs.csv").is_file():
        raise InputError(f"{path}: no results here (no runs.csv); run the experiment first")
    return ResultsFolder(path)
