"""What live replays and a simulation of one load say of each other: tables and a plot.

The difference that counts is the one to the live mean, beside the spread of the live repeats: no simulator can be
closer to a server than the server is to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

#: The target: within this of the live mean, or within the repeats' own spread.
TARGET_PERCENT = 5.0
#: A server whose repeats differ by more than this was disturbed: it cannot judge anybody.
LARGEST_SPREAD_PERCENT = 15.0

STATISTICS: dict[str, Callable[[pd.Series[float]], float]] = {
    "mean": lambda values: float(values.mean()),
    "p50": lambda values: float(values.quantile(0.5)),
    "p90": lambda values: float(values.quantile(0.9)),
}


def compare(live: Sequence[pd.DataFrame], simulated: pd.DataFrame) -> pd.DataFrame:
    """Per metric and statistic: live mean over repeats, their spread, simulated, difference, and the verdict."""
    rows = []
    for metric in ("e2e", "ttft", "tpot"):
        for name, statistic in STATISTICS.items():
            repeats = [statistic(table[f"{metric}_s"].dropna()) for table in live]
            mean_s = float(np.mean(repeats))
            spread = 100.0 * (max(repeats) - min(repeats)) / mean_s
            simulated_s = statistic(simulated[f"{metric}_s"].dropna())
            difference = 100.0 * (simulated_s / mean_s - 1.0)
            rows.append(
                {
                    "metric": metric,
                    "statistic": name,
                    "live_ms": 1e3 * mean_s,
                    "spread_percent": spread,
                    "simulated_ms": 1e3 * simulated_s,
                    "diff_percent": difference,
                    "verdict": verdict(difference, spread),
                }
            )
    return pd.DataFrame(rows)


def by_overlap(live: Sequence[pd.DataFrame], simulated: pd.DataFrame) -> pd.DataFrame:
    """Simulated against live E2E, by how many other requests were under way at some time of a live request's life.

    Where the difference grows with them, it is not in the iterations of one request but in what requests do to one
    another. Columns overlap (0, 1, 2, 3: three or more), requests, diff_percent (of the sums).
    """
    rows = []
    for table in live:
        start_s = table["sent_s"].to_numpy()
        end_s = start_s + table["e2e_s"].to_numpy()
        others = ((start_s[:, None] < end_s) & (start_s < end_s[:, None])).sum(axis=1) - 1
        pair = {"overlap": np.minimum(others, 3), "live_s": table["e2e_s"].to_numpy()}
        rows.append(pd.DataFrame({**pair, "simulated_s": simulated["e2e_s"].to_numpy()}))
    groups = pd.concat(rows).groupby("overlap")
    sums = groups.sum()
    return pd.DataFrame(
        {
            "overlap": sums.index,
            "requests": groups.size().to_numpy(),
            "diff_percent": (100.0 * (sums["simulated_s"] / sums["live_s"] - 1.0)).to_numpy(),
        }
    )


def overlap_markdown(groups: pd.DataFrame) -> str:
    """The same for people."""
    return "\n".join(
        [
            "| other requests under way | requests | E2E, simulated against live |",
            "|---|---|---|",
            *(
                f"| {row.overlap}{' or more' if row.overlap == 3 else ''} | {row.requests} "
                f"| {row.diff_percent:+.1f} % |"
                for row in groups.itertuples()
            ),
        ]
    )


def verdict(difference_percent: float, spread_percent: float) -> str:
    """``yes`` within the target or the repeats' own spread, else ``no``; ``too noisy`` where that spread is large."""
    if spread_percent > LARGEST_SPREAD_PERCENT:
        return "too noisy"
    return "yes" if abs(difference_percent) <= max(TARGET_PERCENT, spread_percent) else "no"


def markdown(judged: pd.DataFrame, title: str, waited: float = 0.0) -> str:
    """The table for people. ``waited``: the share of its time that the server waited for a core, at worst."""
    return "\n".join(
        [
            title + (f" (the server waited for a core up to {100 * waited:.1f} % of its time)." if waited else "."),
            "",
            "| metric | statistic | live | spread of repeats | simulated | difference | within 5 % or the spread |",
            "|---|---|---|---|---|---|---|",
            *(
                f"| {str(row.metric).upper()} | {row.statistic} | {row.live_ms:.2f} ms | {row.spread_percent:.1f} % "
                f"| {row.simulated_ms:.2f} ms | {row.diff_percent:+.1f} % | {row.verdict} |"
                for row in judged.itertuples()
            ),
        ]
    )


def ecdf_plot(live: Sequence[pd.DataFrame], simulated: pd.DataFrame) -> Figure:
    """Distributions of TTFT, TPOT and E2E: every live replay, and the simulation."""
    with matplotlib.rc_context({"axes.grid": True, "grid.alpha": 0.3, "font.size": 9}):
        figure = Figure(figsize=(9.0, 3.2), layout="constrained")
        for axes, metric in zip(figure.subplots(1, 3), ("ttft", "tpot", "e2e"), strict=True):
            for i, table in enumerate(live):
                axes.ecdf(1e3 * table[f"{metric}_s"].dropna(), color="tab:gray", label="live" if i == 0 else None)
            axes.ecdf(1e3 * simulated[f"{metric}_s"].dropna(), color="tab:red", label="simulated")
            axes.set_xlabel(f"{metric.upper()} (ms)")
        axes.legend(fontsize=8)
        figure.supylabel("share of requests")
    return figure
