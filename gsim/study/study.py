"""What a study is, where it is not simply a sweep: a question with its own way to an answer.

To add one, put a dataclass into a file of ``gsim/study/questions`` (or ``./extensions``) and name it in a YAML file::

    @dataclass(frozen=True)
    class TrainOptions:
        path: str = "???"                    # mandatory: train.path=FILE on the command line

    @register("study", "predictor_accuracy")
    @dataclass(frozen=True)
    class PredictorAccuracy:
        \"\"\"How well each predictor knows output lengths.\"\"\"   # shown by --help

        train: TrainOptions = field(default_factory=TrainOptions)
        folds: int = 5

        def run(self, context: Context) -> Findings:
            for fold in context.track(range(self.folds), "folds"):
                ...
            return Findings(tables={"accuracy": frame}, figures={"accuracy": figure}, notes=["moe errs by 31 %"])

    # experiments/predictor_accuracy.yaml
    question: How well does each predictor know output lengths?
    study: predictor_accuracy

The dataclass's fields become **top-level** keys of the configuration (``train.path=FILE``, ``folds=3``); they must not
be named like a group or a standard key. ``run`` gets a ``Context``: the seeds, the folder, the composed configuration
of a run (``context.settings``: pool, trace, router ..., to be varied with ``settings.replace(...)``), a progress bar
(``track``) and workers (``map``). It returns ``Findings`` and writes nothing itself: the entry writes every table as
``NAME.csv`` and every figure as ``NAME.png`` and ``NAME.pdf``, prints the tables and the notes, and leaves
``config.yaml`` and ``provenance.json`` beside them. Nothing that takes time or draws randomly may depend on anything
but the configuration and the seeds. Import pandas, matplotlib, scikit-learn inside functions: ``--help`` imports every
study.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gsim.run.extensions import enter
from gsim.run.settings import Settings
from gsim.study.dry_run import Forecast
from gsim.study.workers import all_alive, end_with

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Findings:
    """What a study found."""

    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """By file name; written as CSV. The first one is printed in full."""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """By file name; written as PNG and PDF."""
    notes: Sequence[str] = ()
    """What was found, in plain words made from the numbers."""


class Commands(Protocol):
    """The command line, for a study that is made of other experiments."""

    def run(self, words: Sequence[str]) -> None:
        """Run ``python -m gsim WORDS``; ``ConfigError`` (``MissingFieldError``) on a configuration that is refused."""
        ...

    def forecast(self, words: Sequence[str]) -> Forecast | None:
        """What its runs would take; None for a study that is no grid of runs."""
        ...


@dataclass(frozen=True)
class Context:
    """What a study is given."""

    name: str
    out: Path
    """The results folder: written by the entry, readable for caches that the study keeps by content."""
    seeds: tuple[int, ...]
    settings: Settings
    """The composed configuration of a run, to be used as it is or varied."""
    n_jobs: int = 1
    """Workers (``hydra.launcher.n_jobs``)."""
    extensions: tuple[str, ...] = ()
    """The user's extension files, which workers import too."""
    commands: Commands | None = None
    """The command line that the study was started from."""

    def track(self, items: Iterable[T], description: str = "", total: int | None = None) -> Iterator[T]:
        """The items, with a progress bar and the time left on standard error."""
        from gsim.study.progress import track

        return track(items, description or self.name, total)

    def map(self, function: Callable[[T], R], items: Sequence[T], description: str = "") -> list[R]:
        """``[function(item) for item in items]`` over the workers, results in order, with a progress bar.

        ``function`` and the items travel to other processes: a module's function and plain values.
        """
        tracked = self.track
        if self.n_jobs == 1 or len(items) < 2:
            return [function(item) for item in tracked(items, description)]
        from joblib import Parallel, delayed

        job = delayed(_with_extensions)
        results = Parallel(n_jobs=self.n_jobs, return_as="generator")(
            job(function, item, os.getcwd(), self.extensions, os.getpid()) for item in items
        )
        with all_alive():
            return list(tracked(results, description, len(items)))


class Study(Protocol):
    """A study: a registered dataclass with this method."""

    def run(self, context: Context) -> Findings:
        """Answer the question."""
        ...


def _with_extensions(function: Callable[[T], R], item: T, folder: str, extensions: tuple[str, ...], parent: int) -> R:
    end_with(parent)
    enter(folder, extensions)
    return function(item)


def options_of(study: type, values: Mapping[str, Any]) -> Any:
    """Build a study from the top-level keys that are its fields."""
    import dataclasses

    from gsim.core.construct import construct

    names = [f.name for f in dataclasses.fields(study) if f.init]
    return construct(study, {name: values[name] for name in names if name in values}, "study")
