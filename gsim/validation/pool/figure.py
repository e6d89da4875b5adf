"""Recorded and simulated pools as one figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gsim.study.figure import house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_REAL, _OURS = "0.35", "#0072B2"


def figure(table: pd.DataFrame, states: pd.DataFrame) -> Figure:
    """Mean TTFT, TPOT and E2E of every run, then KV usage over each."""
    with house_style():
        runs = list(dict.fromkeys(zip(table["set"], table["router"])))
        drawing, axes = new_figure(4, width=2.9, height=0.4 + 0.32 * len(runs), columns=4)
        for axis, metric in zip(axes, ("TTFT", "TPOT", "E2E"), strict=False):
            _means(axis, table[(table["metric"] == metric) & (table["statistic"] == "mean")], runs)
            axis.set_xlabel(f"Mean {metric} (ms)" if metric == "TPOT" else f"Mean {metric} (s)")
        axes[0].set_yticks(range(len(runs)), [f"{name}, {router}" for name, router in runs])
        for axis in axes[1:3]:
            axis.set_yticks(range(len(runs)), [""] * len(runs))
        axes[2].legend(frameon=False, loc="upper right")
        _usage(axes[3], states)
    return drawing


def _means(axis: Axes, rows: pd.DataFrame, runs: Sequence[tuple[str, str]]) -> None:
    scale = 1.0 if rows["metric"].iloc[0] == "TPOT" else 1e-3
    place = {run: i for i, run in enumerate(runs)}
    at = np.array([place[run] for run in zip(rows["set"], rows["router"])])
    low, high = (scale * rows[name].to_numpy() for name in ("low", "high"))
    axis.hlines(at, low, high, color=_OURS, linewidth=1.2)
    axis.plot(scale * rows["real"], at, "o", color=_REAL, label="real", markersize=4.5)
    axis.plot(scale * rows["simulated"], at, "d", color=_OURS, label="gsim", markersize=4.5)
    axis.set_xlim(left=0)
    axis.set_ylim(len(runs) - 0.5, -0.5)


def _usage(axis: Axes, states: pd.DataFrame) -> None:
    for (name, router), rows in states.groupby(["set", "router"], sort=False):
        if router == "recorded":
            continue
        (line,) = axis.plot(rows["tenth"], rows["kv_usage"], linewidth=1.4, label=f"{name}, {router}")
        axis.plot(rows["tenth"], rows["simulated_kv_usage"], "--", linewidth=1.2, color=line.get_color())
    axis.set_xlabel("Tenth of the requests")
    axis.set_ylabel("Mean KV usage (dashed: gsim)")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=6)
