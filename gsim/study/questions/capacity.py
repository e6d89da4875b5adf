"""Capacity: the highest rate that a router sustains on a pool, with intervals.

Sustained is a rate at which the pool has a level *and* meets the target (``gsim.study.load_search``). All policies are
tried with the same seeds, in windows that hold enough requests for the strictest target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from gsim.core import ConfigError, register
from gsim.metrics import paired_difference
from gsim.run.settings import Settings
from gsim.study.load_search import Found, LoadSearch, prober, run_metrics
from gsim.study.rate_search import with_policy
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@register("study", "capacity")
@dataclass(frozen=True)
class Capacity:
    """The highest request rate that a pool sustains with a share of the requests in time, per policy (paired seeds)."""

    policies: tuple[str, ...] = ("goodserve+risk_monitor", "least_load", "least_request", "round_robin", "random")
    """Router, or ROUTER+RECTIFIER."""
    targets: tuple[float, ...] = (0.90, 0.95, 0.99)
    """Shares of requests that must meet their SLO."""
    lowest_rps: float = 1.0
    """Where to look from ..."""
    highest_rps: float = 400.0
    """... to where. A target that no rate reaches is a capacity of 0, one above the highest rate is that rate; ``said``
    has it in words."""
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
        """One search per policy; all targets share its simulations."""
        import pandas as pd

        searches = [_Search(with_policy(context.settings, policy), context.seeds, self) for policy in self.policies]
        found = dict(zip(self.policies, context.map(_capacities, searches, "searches"), strict=True))
        rows = []
        for policy, capacities in found.items():
            for target, answer in capacities.items():
                rate, low, high = answer.interval
                row = {"policy": policy, "target": target, "capacity_rps": rate}
                row |= {"capacity_rps_low": low, "capacity_rps_high": high, "next_rps_tried": answer.beyond_rps}
                rows.append(row | {"seeds": len(answer.by_seed), "said": answer.said})
        frame = pd.DataFrame(rows)
        values = {(policy, target): one.by_seed for policy, own in found.items() for target, one in own.items()}
        pairs = pd.DataFrame(_pairs(values, self))
        return Findings(
            {"capacity": frame, "paired": pairs}, {"capacity": _figure(frame)}, [*_said(frame), *_notes(pairs)]
        )


@dataclass(frozen=True)
class _Search:
    settings: Settings
    seeds: tuple[int, ...]
    study: Capacity


def _capacities(search: _Search) -> dict[float, Found]:
    """The capacity for each target; they share their simulations."""
    study = search.study
    probe = prober(search.settings, search.seeds, max(study.targets), lambda work: [run_metrics(one) for one in work])
    ladder = LoadSearch(probe, study.lowest_rps, study.highest_rps, study.resolution)
    return {target: ladder.highest(target) for target in sorted(study.targets)}


def _pairs(values: Mapping[tuple[str, float], Sequence[float]], study: Capacity) -> list[dict[str, Any]]:
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


def _said(frame: pd.DataFrame) -> list[str]:
    """What is to be known of single answers: targets never reached, capacities above what was looked at."""
    told = frame[frame["said"] != ""]
    return [f"{row['policy']}, {row['target']:.0%} in time: {row['said']}" for row in told.to_dict("records")]


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
