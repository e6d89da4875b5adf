"""A trace in one figure: arrivals, lengths, turns and gaps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gsim.core.files import written
from gsim.workload.inspect.inspection import Floats, Inspection

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"


def draw(found: Inspection, title: str, path: str | Path) -> None:
    """Write the figure; its format follows from the file's name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    _arrivals(axes[0, 0], found)
    _cumulative(axes[0, 1], {"prompt": found.lengths("prompts"), "output": found.lengths("outputs")}, "Tokens")
    _cumulative(axes[1, 0], {"requests per session": found.lengths("turns")}, "Requests per session")
    gaps = np.asarray(found.gaps_s)
    if len(gaps):
        _cumulative(axes[1, 1], {"gap before a turn": np.maximum(gaps, 1e-3)}, "Gap before a turn (s)")
    else:
        between = np.diff(np.asarray(found.arrivals_s))
        _cumulative(axes[1, 1], {"gap between arrivals": between[between > 0]}, "Gap between arrivals (s)")
    figure.suptitle(
        f"{title}\n{found.requests:,} requests, {found.rate_per_s:.2f} /s, gap CV {found.gap_cv:.2f}, "
        f"dispersion {found.dispersion:.1f}, reusable {found.reuse:.0%}",
        fontsize="medium",
    )
    with written(Path(path)) as aside:
        figure.savefig(aside, dpi=150)


def _arrivals(axes: Axes, found: Inspection) -> None:
    bins = min(max(found.sessions // 5, 10), 120)
    window_s = max(found.span_s / bins, 1e-6)
    counts = found.counts(window_s)
    axes.stairs(counts / window_s, np.arange(len(counts) + 1) * window_s, fill=True, color=_BLUE, alpha=0.7)
    axes.set(xlabel="Time (s)", ylabel="Sessions per second", ylim=(0, None))


def _cumulative(axes: Axes, columns: dict[str, Floats], label: str) -> None:
    for (name, values), colour in zip(columns.items(), (_BLUE, _ORANGE, _GREEN), strict=False):
        if len(values):
            axes.ecdf(values, label=name, color=colour)
    axes.set(xscale="log", xlabel=label, ylabel="Share at most", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
