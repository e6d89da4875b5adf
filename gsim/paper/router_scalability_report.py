"""Fig. 11 in words and as a figure, from the table of the measurements."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ONE_CORE_RPS = 10_000.0
"""The paper's highest rate; what is left of a second per request then is the budget of a decision."""
BUDGET_US = 1e6 / _ONE_CORE_RPS


def notes(frame: pd.DataFrame, parts: pd.DataFrame) -> list[str]:
    """What the numbers say."""
    by_size = _by_size(frame)
    small, large = min(by_size["instances"]), max(by_size["instances"])
    found = [_decision(policy, rows, small, large) for policy, rows in by_size.groupby("policy", sort=False)]
    at_large = by_size[by_size["instances"] == large]
    rate = f"{large} instances at {at_large['rate_per_s'].iloc[0]:,.0f} requests/s"
    # The policy that does most different things: GoodServe with its monitor, where that is one of them.
    busiest = parts.groupby("policy", sort=False)["part"].nunique().idxmax()
    own = parts[(parts["policy"] == busiest) & (parts["instances"] == large)]
    own = own[own["rate_per_s"] == own["rate_per_s"].max()].sort_values("ms_per_simulated_s", ascending=False)
    told = ", ".join(f"{row['part']} {row['ms_per_simulated_s']:.0f}" for row in own.to_dict("records"))
    found.append(f"{busiest}, {rate}: milliseconds of wall time per simulated second: {told}")
    speeds = at_large[["policy", "simulated_s_per_wall_s"]].to_dict("records")
    told = ", ".join(f"{row['policy']} {row['simulated_s_per_wall_s']:.2g}" for row in speeds)
    found.append(f"{rate}, simulated seconds per wall second: {told}")
    return found


def _by_size(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each size the highest rate: equal load per instance."""
    return frame[frame["rate_per_s"] == frame.groupby("instances")["rate_per_s"].transform("max")]


def _decision(policy: object, rows: pd.DataFrame, small: int, large: int) -> str:
    cost = {int(row["instances"]): row for row in rows.to_dict("records")}
    here = cost[large]
    growth = ""
    if small < large:
        times = here["decision_p50_us"] / cost[small]["decision_p50_us"]
        growth = f"; the median is {times:.1f} times that among {small}"
    return (
        f"{policy}: a decision among {large} instances takes {here['decision_p50_us']:.1f} us, p99 "
        f"{here['decision_p99_us']:.1f} us ({here['decision_p99_us'] / BUDGET_US:.0%} of the {BUDGET_US:.0f} us that "
        f"{_ONE_CORE_RPS:,.0f} requests/s leave{growth}); "
        f"with predictions, estimates and reviews {here['router_core_share']:.0%} of one core"
    )


def figure(frame: pd.DataFrame) -> Figure:
    """Decision time (median, 99th percentile) and the simulator's speed against the size of the pool."""
    from gsim.study.figure import COLOURS, MARKERS, house_style, new_figure

    by_size = _by_size(frame)
    panels = (
        ("decision_p50_us", "Decision, median (µs)"),
        ("decision_p99_us", "Decision, 99th percentile (µs)"),
        ("simulated_s_per_wall_s", "Simulated seconds per wall second"),
    )
    with house_style():
        made, axes = new_figure(len(panels), width=3.1)
        for axis, (column, label) in zip(axes, panels, strict=True):
            for i, (policy, rows) in enumerate(by_size.groupby("policy", sort=False)):
                style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
                axis.plot(rows["instances"], rows[column], markersize=3.5, linewidth=1.3, label=str(policy), **style)
            _log_axes(axis, sorted(set(by_size["instances"])), label)
        axes[1].axhline(BUDGET_US, color="#555555", linewidth=0.8, linestyle="--")
        text = f"budget at {_ONE_CORE_RPS:,.0f} requests/s"
        axes[1].annotate(text, (0.02, BUDGET_US), xycoords=("axes fraction", "data"), va="bottom", color="#555555")
        for axis in axes[:2]:
            axis.set_ylim(0.1, 5 * BUDGET_US)
        lowest = float(by_size["simulated_s_per_wall_s"].min())
        axes[2].set_ylim(bottom=10.0 ** math.floor(math.log10(lowest)))
        handles, labels = axes[0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside right center", frameon=False)
        made.set_size_inches(made.get_figwidth() + 1.7, made.get_figheight())
    return made


def _log_axes(axis: Axes, sizes: list[int], label: str) -> None:
    from gsim.study.figure import plain_log_x

    axis.set_yscale("log")
    plain_log_x(axis, sizes)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_xlabel("Instances (equal load per instance)")
    axis.set_ylabel(label)
