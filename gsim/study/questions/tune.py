"""A policy's fields searched on some seeds and loads, and judged once on others."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.core import ConfigError, register
from gsim.metrics import mean_interval
from gsim.run.key import resolved
from gsim.run.settings import Settings
from gsim.study.dry_run import duration, timed
from gsim.study.literal import literal
from gsim.study.questions.tuned_fields import Tuned, tuned_fields
from gsim.study.run_numbers import RunNumbers
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Where a results folder keeps what was measured.
_MEASURED = "measured"
#: Groups whose options are policies with fields.
_POLICIES = ("router", "estimator", "predictor", "rectifier")


@dataclass(frozen=True)
class _Run:
    """One run, as plain values that travel to a worker."""

    settings: Mapping[str, Any]
    seed: int
    metric: str
    folder: Path


@register("study", "tune")
@dataclass(frozen=True)
class Tune:
    """Fields of one policy, searched on training loads and judged on others.

    Optuna searches for the best mean of a metric on training loads and seeds; what it finds is judged once, against the
    fields as configured, on loads and seeds that the search has not seen.
    """

    policy: str = "router"
    """The group whose choice is tuned: router, estimator, predictor or rectifier."""
    fields: tuple[str, ...] = ()
    """The fields to search; empty: every positive number, truth value and choice of words."""
    ranges: Mapping[str, Any] = field(default_factory=dict)
    """Where to search, by field: [LOW, HIGH] or a list of values (else a number's value / ``span`` to x ``span``)."""
    span: float = 4.0
    """How far around its value a number is searched, as a factor."""
    metric: str = "attainment"
    """What is to be large: attainment, goodput_rps, session_attainment or worst_class_attainment."""
    load: str = "trace.rate_per_s"
    """The field that says how much load there is (``trace.agents`` for a closed population)."""
    train_loads: tuple[float, ...] = (58.0, 76.0, 100.0, 150.0)
    """Loads of the search."""
    test_loads: tuple[float, ...] = (68.0, 88.0, 136.0)
    """Loads of the one judgement."""
    test_seeds: tuple[int, ...] = (200, 201, 202, 203, 204)
    """Seeds of the one judgement; ``seeds`` are those of the search."""
    trials: int = 40
    """Sets of fields that are tried; the first is the one that is configured."""
    sampler_seed: int = 0
    """What the search draws from: the same trials again."""

    def __post_init__(self) -> None:
        if self.policy not in _POLICIES:
            raise ConfigError(f"policy '{self.policy}' is unknown; allowed: {', '.join(_POLICIES)}")
        allowed = ("attainment", "goodput_rps", "session_attainment", "worst_class_attainment")
        if self.metric not in allowed:
            raise ConfigError(f"metric '{self.metric}' is unknown; allowed: {', '.join(allowed)}")
        if not self.span > 1:
            raise ConfigError(f"span must be greater than 1, not {self.span}")
        if self.trials < 2:
            raise ConfigError(f"trials must be 2 or more, not {self.trials}: the first is what is configured already")
        for name in ("train_loads", "test_loads", "test_seeds"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty")

    def run(self, context: Context) -> Findings:
        """The search, and the judgement."""
        import pandas as pd

        found = self._searched(context)
        optuna = _optuna()
        sampler = optuna.samplers.TPESampler(seed=self.sampler_seed, n_startup_trials=max(self.trials // 3, 1))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.enqueue_trial({one.name: one.default for one in found})
        rows: list[dict[str, Any]] = []
        for number in context.track(range(self.trials), "trials"):
            trial = study.ask()
            values = {one.name: one.ask(trial) for one in found}
            trained = self._measured(context, values, context.seeds, self.train_loads)
            study.tell(trial, float(trained.mean()))
            rows.append({"trial": number, **values, self.metric: float(trained.mean())})
        trials = pd.DataFrame(rows)
        best = rows[int(trials[self.metric].to_numpy().argmax())]
        chosen = {one.name: best[one.name] for one in found}
        judged = self._judged(context, found, chosen)
        figures = {"tune": figure(trials, judged, self.metric)}
        return Findings({"tune": judged, "trials": trials}, figures, self._notes(found, chosen, trials, judged))

    def forecast(self, context: Context) -> str:
        """What is searched, how many runs that takes, and about how long: as configured, at some of the loads."""
        found = self._searched(context)
        loads = (self.train_loads[0], self.train_loads[-1])
        probes = [(Settings.read(at_load(context.settings, self.load, load)), context.seeds[0]) for load in loads]
        search = self.trials * len(context.seeds) * len(self.train_loads)
        judged = 2 * len(self.test_seeds) * len(self.test_loads)
        return (
            f"would search: {'; '.join(map(str, found))}\n{search} runs in {self.trials} trials, {judged} to judge "
            f"(less what {context.out / _MEASURED} has): {duration(timed(probes), search + judged)}"
        )

    def _searched(self, context: Context) -> list[Tuned]:
        """The fields that are searched; raises ``ConfigError`` where what is judged would have been seen before."""
        shared = sorted(set(context.seeds) & set(self.test_seeds))
        if shared:
            raise ConfigError(f"seed {shared[0]} is among seeds and test_seeds: what is judged must not have been seen")
        return tuned_fields(context.settings.choices[self.policy], self.fields, self.ranges, self.span)

    def _measured(
        self, context: Context, values: Mapping[str, Any], seeds: Sequence[int], loads: Sequence[float]
    ) -> np.ndarray[Any, Any]:
        """The metric, a row per load and a column per seed."""
        plain = context.settings.plain()
        changed = Settings.read({**plain, self.policy: {**plain[self.policy], **values}})
        runs = [
            _Run(at_load(changed, self.load, load), seed, self.metric, context.out / _MEASURED)
            for load in loads
            for seed in seeds
        ]
        return np.array(context.map(_number, runs, "runs")).reshape(len(loads), len(seeds))

    def _judged(self, context: Context, found: Sequence[Tuned], chosen: Mapping[str, Any]) -> pd.DataFrame:
        """A row for training, one per held-out load and one for these together: as configured, tuned, and the gain
        with its interval over the seeds."""
        import pandas as pd

        both = ({one.name: one.default for one in found}, chosen)
        seen = [self._measured(context, values, context.seeds, self.train_loads) for values in both]
        unseen = [self._measured(context, values, self.test_seeds, self.test_loads) for values in both]
        rows = [_row("training", *seen)]
        for k, load in enumerate(self.test_loads):
            rows.append(_row(f"held out, {load:g}", *(one[k : k + 1] for one in unseen)))
        return pd.DataFrame([*rows, _row("held out", *unseen)])

    def _notes(
        self, found: Sequence[Tuned], chosen: Mapping[str, Any], trials: pd.DataFrame, judged: pd.DataFrame
    ) -> list[str]:
        rows = judged.set_index("judged_on")
        train, test = rows.loc["training"], rows.loc["held out"]
        fields = " ".join(f"{self.policy}.{name}={literal(value)}" for name, value in chosen.items())
        better = "holds" if test["gain_low"] > 0 else "is not to be told from none"
        return [
            f"searched: {'; '.join(map(str, found))}",
            f"best of {len(trials)} trials: {fields}",
            f"{self.metric} in training: {train['configured']:.4f} as configured, {train['tuned']:.4f} tuned",
            f"held out, judged once: {test['configured']:.4f} as configured, {test['tuned']:.4f} tuned; the gain of "
            f"{test['gain']:+.4f} ({test['gain_low']:+.4f} to {test['gain_high']:+.4f}) {better}",
            f"overfitting: {train['gain'] - test['gain']:+.4f} of the {train['gain']:+.4f} gained in training is not "
            "there on what the search has not seen"
            if train["gain"] > test["gain"]
            else "overfitting: none seen; the gain held out is no smaller than in training",
        ]


def _row(name: str, first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> dict[str, Any]:
    # A seed's gain is its mean over the loads: the loads of one seed are no independent samples.
    gain = mean_interval((second - first).mean(axis=0))
    means = {"judged_on": name, "configured": float(first.mean()), "tuned": float(second.mean())}
    return means | {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high}


def at_load(settings: Settings, load: str, value: float) -> dict[str, Any]:
    """Plain settings with ``GROUP.FIELD`` at this value; raises ``ConfigError`` where there is no such field."""
    group, _, name = load.partition(".")
    choice = settings.choices.get(group)
    fields = {} if choice is None else resolved(group, choice.name, choice.fields)
    if choice is None or name not in fields:
        there = ", ".join(f"{group}.{field}" for field in fields)
        raise ConfigError(
            f"load '{load}' is no field of this configuration" + (f"; there are: {there}" if there else "")
        )
    whole = isinstance(fields[name], int) and float(value).is_integer()
    plain = settings.plain()
    return {**plain, group: {**plain[group], name: int(value) if whole else value}}


def _number(one: _Run) -> float:
    return RunNumbers(one.folder).of(Settings.read(one.settings), one.seed)[one.metric]


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError:
        raise ConfigError("tuning needs one more package: pip install 'gsim[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def figure(trials: pd.DataFrame, judged: pd.DataFrame, metric: str) -> Figure:
    """Left: every trial and the best so far. Right: the gain over the configured fields, in training and held out."""
    from matplotlib.ticker import MaxNLocator

    from gsim.study.figure import COLOURS, house_style, new_figure

    with house_style():
        drawn, (search, gains) = new_figure(2, width=3.6, height=2.7, columns=2)
        search.plot(trials["trial"], trials[metric], ".", color="#999999", label="trial")
        search.plot(trials["trial"], trials[metric].cummax(), color=COLOURS[0], label="best so far")
        search.xaxis.set_major_locator(MaxNLocator(integer=True))
        search.set_xlabel("Trial (0: as configured)")
        search.set_ylabel(f"{metric}, training")
        search.legend(frameon=False, loc="lower right")
        places = np.arange(len(judged))[::-1]
        off = np.abs(judged[["gain_low", "gain_high"]].to_numpy().T - judged["gain"].to_numpy())
        gains.errorbar(judged["gain"], places, xerr=off, fmt="o", color=COLOURS[0], capsize=2)
        gains.axvline(0.0, color="#555555", linewidth=0.8, linestyle="--")
        gains.set_yticks(places, judged["judged_on"])
        gains.set_xlabel(f"Gain in {metric} by tuning")
    return drawn
