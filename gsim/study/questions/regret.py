"""Regret taken apart: what routers lose to errors of prediction, to old telemetry, and to deciding online."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsim.core import ConfigError, register
from gsim.metrics import mean_interval
from gsim.optimum import BoundConfig
from gsim.run.key import digest_of, key_of
from gsim.run.planning import plan_of
from gsim.run.settings import Settings
from gsim.run.shelf import Shelf
from gsim.study.bounds import bound_of
from gsim.study.kept import Kept
from gsim.study.questions.frontier_cases import CASES, Changes, changed, check_policies, with_policy_named
from gsim.study.run_numbers import RunNumbers
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: What a level of knowledge adds to the one before it, from the bottom of a bar upwards.
LEVELS: Mapping[str, str] = {
    "stale": "in time",
    "noisy": "lost to old telemetry",
    "true_lengths": "lost to errors of length",
    "plan": "lost to deciding online, by estimates",
    "bound": "plan to bound: impossible, or not found",
}

#: What the plan's search may start from (without ``ilp_rolling``, which takes longer than the search).
_STARTS = ("goodserve", "least_latency", "fastest", "least_load")


@dataclass(frozen=True)
class _Point:
    """One seed of one load, as plain values that travel to a worker."""

    load: str
    bounded: bool
    settings: Mapping[str, Any]
    seed: int
    folder: Path


@register("study", "regret")
@dataclass(frozen=True)
class Regret:
    """Attainment of each policy with true lengths, with lengths that err, and with old telemetry besides.

    Single requests also have the upper bound and the plan with all knowledge.

    What estimates of queue and speed cost against the engines' true state is not told apart from deciding online: no
    estimator is shown that state. A closed population has no bound and no plan here (later turns take no room in the
    bound's windows, so it would be loose): its bars end at true lengths.
    """

    policies: tuple[str, ...] = ("marginal", "goodserve", "sacrifice, hope 0", "fastest")
    """Policies as those of ``frontier``."""
    rates_per_s: tuple[float, ...] = (60.0, 88.0, 136.0)
    """Loads of single requests of the paper's shape."""
    requests: int = 600
    """Single requests per run, all of them counted."""
    agents: tuple[int, ...] = (90, 130, 260)
    """Populations, as in the cases of ``frontier``."""
    error: float = 0.3
    """Standard deviation of the predictor's log error."""
    stale_s: float = 5.0
    """How old telemetry may be: streams are observed and metrics scraped so often (else every 0.5 s and 50 ms)."""
    evaluations: int = 600
    """Assignments that each plan's search judges."""
    bound_time_limit_s: float = 60.0
    """The solver's answer so far is a bound too, a looser one."""

    def __post_init__(self) -> None:
        check_policies(self.policies)
        if not self.policies:
            raise ConfigError("policies is empty; name at least one")
        missing = [str(n) for n in self.agents if f"{n} agents" not in CASES]
        if missing:
            there = ", ".join(case.split()[0] for case in CASES if case.endswith(" agents"))
            raise ConfigError(f"agents: {missing[0]} is no case of frontier; allowed: {there}")
        if self.requests < 1 or self.evaluations < 0 or not self.stale_s > 0 or not self.error >= 0:
            raise ConfigError("requests must be 1 or more, evaluations and error 0 or more, stale_s above 0")

    def run(self, context: Context) -> Findings:
        """Every load, seed and level of knowledge."""
        import pandas as pd

        points = list(self._points(context))
        rows = [row for found in context.map(_measured, [(self, p) for p in points], "loads") for row in found]
        runs = pd.DataFrame(rows)
        table = taken_apart(runs)
        return Findings({"regret": table, "runs": runs}, {"regret": figure(table)}, notes(table))

    def _points(self, context: Context) -> Iterator[_Point]:
        base = changed(context.settings, {"rectifier": {"name": "none"}})
        for rate in self.rates_per_s:
            trace = {"name": "paper", "rate_per_s": rate, "requests": self.requests}
            singles = {"trace": trace, "slo": {"name": "fixed", "seconds": 6.0}, "warmup_s": 0.0, "until_s": None}
            for seed in context.seeds:
                yield _Point(f"singles {rate:g}/s", True, changed(base, singles).plain(), seed, context.out)
        for agents in self.agents:
            for seed in context.seeds:
                yield _Point(
                    f"{agents} agents", False, changed(base, CASES[f"{agents} agents"]).plain(), seed, context.out
                )


def _measured(work: tuple[Regret, _Point]) -> list[dict[str, Any]]:
    study, point = work
    settings = Settings.read(point.settings)
    known = _known(study, settings, point) if point.bounded else {"bound": nan, "plan": nan}
    noisy: Changes = {"predictor": {"name": "noisy", "error": study.error}}
    old: Changes = {"telemetry": {"stream_interval_s": study.stale_s, "interval_s": study.stale_s}}
    true: Changes = {"predictor": {"name": "oracle"}}
    levels = {"true_lengths": true, "noisy": noisy, "stale": {**noisy, **old}}
    numbers, shelf = RunNumbers(point.folder / "measured"), Shelf()
    rows = []
    for policy in study.policies:
        chosen = {level: with_policy_named(changed(settings, how), policy) for level, how in levels.items()}
        shares = {level: numbers.of(one, point.seed, shelf)["attainment"] for level, one in chosen.items()}
        rows.append({"load": point.load, "policy": policy, "seed": point.seed, **known, **shares})
    return rows


def _known(study: Regret, settings: Settings, point: _Point) -> dict[str, float]:
    """What no policy can be above, and what the plan with all knowledge reaches."""
    planner = {"router": {"name": "ilp_plan", "evaluations": study.evaluations, "starts": list(_STARTS)}}
    planned, limit_s = changed(settings, planner), study.bound_time_limit_s
    kept = Kept(point.folder / "measured", "plan")
    key = digest_of(key_of(planned.basis(), point.seed), planned.code(__name__), limit_s)
    found = kept.get(key)
    if found is None:
        bound = bound_of(settings, point.seed, BoundConfig(time_limit_s=limit_s))
        good = len(plan_of(planned, point.seed).good)
        found = {"bound": bound.goodput_requests / bound.jobs, "plan": good / bound.jobs}
        kept.put(key, found)
    return found


def taken_apart(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per load and policy: mean attainment at every level of knowledge, and what each costs with its interval."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for (load, policy), own in runs.groupby(["load", "policy"], sort=False):
        row: dict[str, Any] = {"load": load, "policy": policy} | {level: float(own[level].mean()) for level in LEVELS}
        for name, better, worse in (
            ("errors_cost", "true_lengths", "noisy"),
            ("age_costs", "noisy", "stale"),
            ("online_costs", "plan", "true_lengths"),
        ):
            interval = mean_interval((own[better] - own[worse]).to_numpy())
            row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
        rows.append(row)
    return pd.DataFrame(rows)


def notes(table: pd.DataFrame) -> list[str]:
    """Per policy what costs most, where, in points of attainment."""
    said = []
    for policy, own in table.groupby("policy", sort=False):
        rows = own.to_dict("records")
        told = []
        for name, words in (("errors_cost", "errors of length"), ("age_costs", "old telemetry")):
            worst = max(rows, key=lambda row: float(row[name]))
            told.append(f"{words} cost {100 * float(worst[name]):.1f} points at most ({worst['load']})")
        said.append(f"{policy}: {', '.join(told)}")
    return said


def figure(table: pd.DataFrame) -> Figure:
    """A panel per load, a bar per policy, stacked; where more knowledge did not help, its part of the bar is empty."""
    from gsim.study.figure import COLOURS, house_style, new_figure

    loads = list(dict.fromkeys(table["load"]))
    colours = dict(zip(LEVELS, (COLOURS[2], COLOURS[5], COLOURS[1], COLOURS[4], "#DDDDDD"), strict=True))
    columns = min(3, len(loads))
    with house_style():
        drawn, axes = new_figure(len(loads), width=2.5, height=2.7, columns=columns)
        for axis, load in zip(axes, loads, strict=True):
            here = table[table["load"] == load]
            floor = [0.0] * len(here)
            for level, words in LEVELS.items():
                top = [
                    max(low, share) if share == share else low for low, share in zip(floor, here[level], strict=True)
                ]
                heights = [high - low for low, high in zip(floor, top, strict=True)]
                axis.bar(list(here["policy"]), heights, bottom=floor, color=colours[level], label=words, width=0.7)
                floor = top
            axis.set_title(load, loc="left")
            axis.set_ylim(0.0, 1.02)
            axis.tick_params(axis="x", rotation=25)
        axes[0].set_ylabel("Requests inside their SLO")
        handles, labels = axes[0].get_legend_handles_labels()
        drawn.legend(handles[::-1], labels[::-1], loc="outside lower center", frameon=False, ncols=columns)
        drawn.set_figheight(drawn.get_figheight() + 0.2 + 0.2 * -(-len(labels) // columns))
    return drawn
