"""Figures fit for a paper: one look, colours that colour-blind readers can tell apart, bands of 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.metrics import mean_interval
from gsim.study.results import Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's palette (distinct under the common kinds of colour blindness), then black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C6D1F", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")

NAMES = {
    "goodput_rps": "Goodput (requests/s)",
    "attainment": "SLO attainment",
    "session_goodput_rps": "Session goodput (sessions/s)",
    "session_attainment": "Session SLO attainment",
    "trace.rate_per_s": "Request rate (requests/s)",
    "slo.slo_s": "E2E SLO (s)",
    "slo.scale": "SLO scale",
    "slo.factor": "SLO scale",
    "telemetry.interval_s": "Telemetry interval (s)",
    "rectifier.interval_s": "Monitor interval (s)",
    "mean_e2el_ms": "Mean E2E latency (ms)",
    "p99_e2el_ms": "p99 E2E latency (ms)",
    "mean_ttft_ms": "Mean TTFT (ms)",
    "p99_ttft_ms": "p99 TTFT (ms)",
    "cached_fraction": "Prompt tokens from cache",
    "migrated": "Requests migrated",
    "migrations_per_request": "Migrations per request",
    "migrated_attainment": "SLO attainment of migrated",
    "dynamics.factor": "Load or length factor",
}


#: Metrics that a bound is known of, and what it is divided by.
_BOUNDED_BY = {"goodput_rps": None, "attainment": "offered_rps"}


def title(field: str) -> str:
    """What an axis says of a field or metric."""
    return NAMES.get(field, field.replace("_", " ").replace(".", ": "))


def house_style() -> AbstractContextManager[None]:
    """``with house_style():`` draw inside it; matplotlib's own settings are left alone outside."""
    import matplotlib as mpl

    return mpl.rc_context(STYLE)  # type: ignore[arg-type]


def new_figure(panels: int = 1, width: float = 3.6, height: float = 2.9) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side (to be drawn inside ``with house_style():``)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * panels + 0.3, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(np.atleast_1d(figure.subplots(1, panels)))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, axes


STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.linewidth": 0.8,
}


def sweep_figure(results: Sequence[Measured], x: str | None, metrics: Sequence[str]) -> Figure:
    """One panel per metric: a line per policy against the swept field ``x``, with its 95 % band.

    Without a numeric ``x``: a dot and an error bar per cell.
    """
    with house_style():
        return _sweep_figure(results, x, metrics)


def _sweep_figure(results: Sequence[Measured], x: str | None, metrics: Sequence[str]) -> Figure:
    figure, axes = new_figure(len(metrics))
    if x is not None and all(isinstance(result.point.get(x), int | float) for result in results):
        for axis, metric in zip(axes, metrics, strict=True):
            _lines(axis, results, x, metric)
        _legend(figure, axes[0])
    else:
        figure.set_size_inches(figure.get_figwidth() + 1.2, 0.9 + 0.24 * len(results))
        for axis, metric in zip(axes, metrics, strict=True):
            _dots(axis, results, metric, first=axis is axes[0])
    return figure


def _lines(axis: Axes, results: Sequence[Measured], x: str, metric: str) -> None:
    series: dict[str, list[tuple[float, float, float, float]]] = {}
    for result in results:
        others = [f"{field.rpartition('.')[2]}={value}" for field, value in result.point.items() if field != x]
        name = ", ".join([result.label, *others])
        series.setdefault(name, []).append((float(result.point[x]), *mean_interval(result.metric(metric))))
    for i, (name, points) in enumerate(series.items()):
        at, mean, low, high = np.array(sorted(points)).T
        colour = COLOURS[i % len(COLOURS)]
        style = DASHES[(i // len(COLOURS)) % len(DASHES)]
        axis.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
        marker = MARKERS[i % len(MARKERS)]
        axis.plot(at, mean, style, color=colour, marker=marker, markersize=3.5, linewidth=1.3, label=name)
    _bound_line(axis, results, x, metric)
    positive = all(float(result.point[x]) > 0 for result in results)
    values = sorted({float(result.point[x]) for result in results})
    if positive and len(values) > 2 and values[-1] / values[0] > 30:
        axis.set_xscale("log")
    axis.set_xlabel(title(x))
    axis.set_ylabel(title(metric))
    axis.set_ylim(bottom=0)
    if metric.endswith("attainment"):
        axis.set_ylim(0, 1.03)


def _legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside right center", frameon=False, handlelength=2.2)
        figure.set_size_inches(figure.get_figwidth() + 0.6 + 0.062 * max(map(len, labels)), figure.get_figheight())


def _bound_line(axis: Axes, results: Sequence[Measured], x: str, metric: str) -> None:
    """The bound that no policy beats (where policies have bounds of their own, the largest)."""
    if metric not in _BOUNDED_BY or not all(np.isfinite(result.metric("upper_bound")).all() for result in results):
        return
    unit = _BOUNDED_BY[metric]
    most: dict[float, float] = {}
    for result in results:
        bound = result.metric("upper_bound")
        # (In a closed loop the bound may count later turns that no run gets to: a share above 1 says no more than 1.)
        value = float(np.mean(bound if unit is None else np.minimum(bound / result.metric(unit), 1.0)))
        most[float(result.point[x])] = max(value, most.get(float(result.point[x]), 0.0))
    at = sorted(most)
    axis.plot(at, [most[point] for point in at], ":", color="#555555", linewidth=1.3, label="Upper bound")


def _dots(axis: Axes, results: Sequence[Measured], metric: str, first: bool) -> None:
    names = []
    labels = list(dict.fromkeys(result.label for result in results))
    for i, result in enumerate(results):
        mean, low, high = mean_interval(result.metric(metric))
        colour = COLOURS[labels.index(result.label) % len(COLOURS)]
        bars = None if math.isnan(low) else [[mean - low], [high - mean]]
        axis.errorbar([mean], [i], xerr=bars, fmt="o", color=colour, markersize=4, capsize=2.5, linewidth=1.2)
        names.append(", ".join([result.label, *(str(value) for value in result.point.values())]))
    axis.set_yticks(range(len(names)), names if first else [""] * len(names))
    axis.invert_yaxis()
    axis.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(title(metric))


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write PNG (300 dpi) and PDF, without dates: equal figures give equal bytes."""
    paths = [stem.with_suffix(".png"), stem.with_suffix(".pdf")]
    figure.savefig(paths[0], dpi=300, metadata={"Software": None})
    figure.savefig(paths[1], metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return paths
