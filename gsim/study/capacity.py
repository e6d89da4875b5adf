"""Capacity: the highest rate that a router sustains on a pool, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

from gsim.core import ConfigError, register
from gsim.metrics import mean_interval, paired_difference
from gsim.run.settings import Settings
from gsim.study.rate_search import RateSearch, attainment_at, with_policy
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@register("study", "capacity")
@dataclass(frozen=True)
class Capacity:
    """The highest request rate at which a share of the requests meets its SLO, per policy (bisection, paired seeds)."""

    policies: tuple[str, ...] = ("goodserve+risk_monitor", "least_load", "least_request", "round_robin", "random")
    """Router, or ROUTER+RECTIFIER."""
    targets: tuple[float, ...] = (0.90, 0.95, 0.99)
    """Shares of requests that must meet their SLO."""
    lowest_rps: float = 1.0
    """Where to look from ..."""
    highest_rps: float = 400.0
    """... to where: a capacity below the lowest rate is reported as 0, one above the highest as the highest."""
    resolution: float = 0.01
    """The search ends when the rate is known to this fraction."""

    def __post_init__(self) -> None:
        if not self.targets or not all(0 < target <= 1 for target in self.targets):
            raise ConfigError(f"targets must be in (0, 1], not {list(self.targets)}")
        if not 0 < self.lowest_rps < self.highest_rps:
            raise ConfigError(f"lowest_rps ({self.lowest_rps}) must be in (0, highest_rps={self.highest_rps})")
        if not 0.001 <= self.resolution <= 0.5:
            raise ConfigError(f"resolution must be in [0.001, 0.5], not {self.resolution}")
        if not self.policies:
            raise ConfigError("policies is empty; give routers, or ROUTER+RECTIFIER")

    def run(self, context: Context) -> Findings:
        """One search per policy and seed; all targets share its simulations."""
        import pandas as pd

        searches = [
            _Search(with_policy(context.settings, policy), seed, self)
            for policy in self.policies
            for seed in context.seeds
        ]
        found = context.map(_capacities, searches, "searches")
        values: dict[tuple[str, float], list[float]] = {}
        keys = [(policy, seed) for policy in self.policies for seed in context.seeds]
        for (policy, _), capacities in zip(keys, found, strict=True):
            for target, rate in capacities.items():
                values.setdefault((policy, target), []).append(rate)
        rows = []
        for (policy, target), rates in values.items():
            mean, low, high = mean_interval(rates)
            row = {"policy": policy, "target": target, "capacity_rps": mean}
            rows.append({**row, "capacity_rps_low": low, "capacity_rps_high": high, "seeds": len(rates)})
        frame = pd.DataFrame(rows)
        pairs = pd.DataFrame(_pairs(values, self))
        notes = [*_nowhere(frame, self.lowest_rps), *_notes(pairs)]
        return Findings({"capacity": frame, "paired": pairs}, {"capacity": _figure(frame)}, notes)


@dataclass(frozen=True)
class _Search:
    settings: Settings
    seed: int
    study: Capacity


def _capacities(search: _Search) -> dict[float, float]:
    """The capacity for each target; they share their simulations."""
    study = search.study
    ladder = RateSearch(
        partial(attainment_at, search.settings, search.seed), study.lowest_rps, study.highest_rps, study.resolution
    )
    return {target: ladder.highest(target) for target in sorted(study.targets)}


def _pairs(values: Mapping[tuple[str, float], list[float]], study: Capacity) -> list[dict[str, Any]]:
    rows = []
    for target in study.targets:
        for first, second in combinations(study.policies, 2):
            result = paired_difference(values[first, target], values[second, target])
            rows.append(
                {
                    "target": target,
                    "first": first,
                    "second": second,
                    "difference_rps": result.mean,
                    "difference_low": result.low,
                    "difference_high": result.high,
                    "p_value": result.p_value,
                    "significant": result.significant,
                }
            )
    return rows


def _nowhere(frame: pd.DataFrame, lowest_rps: float) -> list[str]:
    """Policies that miss a target however light the load is: some of their requests go to cards that cannot make it."""
    none = frame[frame["capacity_rps"] == 0].groupby("policy", sort=False)["target"].min()
    return [
        f"{policy} has not {target:.0%} in time even at {lowest_rps:g} requests/s" for policy, target in none.items()
    ]


def _notes(pairs: pd.DataFrame) -> list[str]:
    notes = []
    for row in pairs.to_dict("records"):
        if row["significant"]:
            near, far = sorted((abs(row["difference_low"]), abs(row["difference_high"])))
            better, worse = (
                (row["first"], row["second"]) if row["difference_rps"] > 0 else (row["second"], row["first"])
            )
            notes.append(
                f"for {row['target']:.0%} in time, {better} sustains {abs(row['difference_rps']):.1f} requests/s more "
                f"than {worse} (95 % interval {near:.1f} to {far:.1f})"
            )
    return notes


def _figure(frame: pd.DataFrame) -> Figure:
    from gsim.study.figure import COLOURS, house_style, new_figure

    policies, targets = list(dict.fromkeys(frame["policy"])), sorted(set(frame["target"]))
    with house_style():
        figure, (axis,) = new_figure(1, width=4.6, height=0.9 + 0.42 * len(policies))
        for j, target in enumerate(targets):
            rows = frame[frame["target"] == target].set_index("policy").loc[policies]
            at = [i + (j - (len(targets) - 1) / 2) * 0.22 for i in range(len(policies))]
            bars = [
                (rows["capacity_rps"] - rows["capacity_rps_low"]).to_numpy(),
                (rows["capacity_rps_high"] - rows["capacity_rps"]).to_numpy(),
            ]
            style: dict[str, Any] = {"fmt": "o", "markersize": 4, "capsize": 2.5, "linewidth": 1.2}
            axis.errorbar(rows["capacity_rps"], at, xerr=bars, color=COLOURS[j], label=f"{target:.0%} in time", **style)
        axis.set_yticks(range(len(policies)), policies)
        axis.invert_yaxis()
        axis.set_xlim(left=0)
        axis.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("Capacity (requests/s)")
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(targets), frameon=False)
    return figure
