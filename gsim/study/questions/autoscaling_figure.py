"""The figure of ``autoscaling``: cost against attainment, and what was paid for over the day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "#777777"


def figure(
    table: pd.DataFrame, bound: pd.DataFrame, over_time: Mapping[str, Sequence[tuple[float, float]]], target: float
) -> Figure:
    """Left the frontier, right the day; scalers have one colour in both."""
    from gsim.study.figure import COLOURS, house_style, new_figure

    scalers = [str(name) for name in table[table["kind"] == "scaler"]["policy"]]
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(scalers)}
    with house_style():
        drawn, (left, right) = new_figure(2, width=4.2, height=3.4)
        _frontier(left, table, colours, float(bound["usd_per_hour"].mean()) * 24.0, target)
        _day(right, bound, over_time, colours)
        handles, labels = left.get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=7.5)
    return drawn


def _frontier(axis: Axes, table: pd.DataFrame, colours: Mapping[str, str], bound_usd: float, target: float) -> None:
    from gsim.study.figure import MARKERS

    fixed = table[table["kind"] == "fixed"].sort_values("usd_per_day")
    _marks(axis, fixed, {"color": _GREY, "marker": "o", "label": "fixed pools (how many of each kind)"})
    for name, usd, share in zip(fixed["policy"], fixed["usd_per_day"], fixed["attainment"], strict=True):
        told = name.removeprefix("fixed ")
        axis.annotate(told, (usd, share), (0, -9), textcoords="offset points", ha="center", fontsize=6, color=_GREY)
    for i, (name, colour) in enumerate(colours.items()):
        look: dict[str, Any] = {"color": colour, "marker": MARKERS[(i + 1) % len(MARKERS)]}
        _marks(axis, table[table["policy"] == name], {**look, "label": name})
        slow = table[(table["kind"] == "slow") & table["policy"].str.startswith(f"{name},")]
        if len(slow):
            _marks(axis, slow, {**look, "markerfacecolor": "white", "label": str(slow["policy"].iloc[0])})
    label = f"lower bound, {target:.0%} in every hour"
    axis.axvline(bound_usd, color="#000000", linewidth=1.0, linestyle="--", label=label)
    axis.axhline(target, color="#BBBBBB", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axis.set_xlabel("Cost (USD per day)")
    axis.set_ylabel("SLO attainment")
    axis.set_xlim(left=0)
    axis.set_ylim(top=1.01)


def _marks(axis: Axes, rows: pd.DataFrame, look: Mapping[str, Any]) -> None:
    middle = rows["attainment"]
    bars = [(middle - rows["attainment_low"]).to_numpy(), (rows["attainment_high"] - middle).to_numpy()]
    axis.errorbar(rows["usd_per_day"], middle, yerr=bars, linestyle="", markersize=5, capsize=2, elinewidth=0.8, **look)


def _day(
    axis: Axes,
    bound: pd.DataFrame,
    over_time: Mapping[str, Sequence[tuple[float, float]]],
    colours: Mapping[str, str],
) -> None:
    hours = len(bound)
    edges = [24.0 * i / hours for i in range(hours + 1)]
    axis.stairs(bound["usd_per_hour"].to_numpy(), edges, color="#000000", linewidth=1.0, linestyle="--")
    for name, colour in colours.items():
        if name in over_time:
            at_h, usd = zip(*over_time[name], strict=True)
            axis.step(at_h, usd, where="post", color=colour, linewidth=1.1)
    rate = axis.twinx()
    rate.stairs(bound["rate_per_s"].to_numpy(), edges, color="#CCCCCC", fill=True, alpha=0.5)
    rate.set_ylabel("Requests/s (grey)")
    rate.spines[["top"]].set_visible(False)
    rate.set_ylim(bottom=0)
    axis.set_zorder(rate.get_zorder() + 1)
    axis.patch.set_visible(False)
    axis.set_xlabel("Hour of the day")
    axis.set_ylabel("Paid for (USD per hour, one seed)")
    axis.set_xlim(0, 24)
    axis.set_ylim(bottom=0)
    axis.set_xticks(range(0, 25, 6))
