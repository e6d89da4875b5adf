"""The figure of a sweep: lines against a swept field, a row of panels per value of the others; or dots.

Many policies cannot be told apart as lines: more than ten become a dot chart, a line of it per policy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.metrics import mean_interval
from gsim.report.wording import known, place, title
from gsim.study.figure import COLOURS, DASHES, MARKERS, house_style, new_figure, plain_log_x
from gsim.study.results import Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Metrics that a bound is known of, and what it is divided by.
_BOUNDED_BY = {"goodput_rps": None, "attainment": "offered_rps"}
_BOUND = "Upper bound"
_MOST_LINES = 10


def sweep_figure(results: Sequence[Measured], x: str | None, metrics: Sequence[str]) -> Figure:
    """A panel per metric, means with their 95 % intervals over seeds."""
    labels = list(dict.fromkeys(result.label for result in results))
    styles = _styles(labels)
    numeric = x is not None and all(isinstance(result.point.get(x), int | float) for result in results)
    with house_style():
        if x is None or not numeric:
            return _dots(results, metrics)
        if len(labels) > _MOST_LINES and len({style.colour for style in styles.values()}) == len(COLOURS):
            return _ranked(results, metrics)
        return _lines(results, x, metrics, styles)


@dataclass(frozen=True)
class _Style:
    colour: str
    marker: str
    dash: str


def _styles(labels: Sequence[str]) -> dict[str, _Style]:
    """A colour per policy; where policies are a router with something else, per router, and a dash for the rest."""
    parts = [label.partition(" + ") for label in labels]
    heads, rests = (list(dict.fromkeys(part[i] for part in parts)) for i in (0, 2))
    if len(heads) * len(rests) == len(labels) and 1 < len(rests) <= len(DASHES) and 1 < len(heads) < len(COLOURS):
        looks = [(heads.index(head), rests.index(rest)) for head, _, rest in parts]
        return {label: _Style(COLOURS[i], MARKERS[j], DASHES[j]) for label, (i, j) in zip(labels, looks, strict=True)}
    n = len(COLOURS)
    return {
        label: _Style(COLOURS[i % n], MARKERS[i % n], DASHES[(i // n) % len(DASHES)]) for i, label in enumerate(labels)
    }


def _lines(results: Sequence[Measured], x: str, metrics: Sequence[str], styles: Mapping[str, _Style]) -> Figure:
    rows = _facets(results, x)
    panels = len(rows) * len(metrics)
    columns = len(metrics) if len(rows) > 1 or len(metrics) < 4 else 2
    figure, axes = new_figure(panels, height=2.9 if len(rows) == 1 else 2.5, columns=columns)
    for i, (facet, here) in enumerate(rows.items()):
        for axis, metric in zip(axes[i * len(metrics) : (i + 1) * len(metrics)], metrics, strict=True):
            _panel(axis, here, x, metric, styles)
            if facet:
                axis.set_title(facet, loc="left")
    _legend(figure, axes[0])
    return figure


def _facets(results: Sequence[Measured], x: str) -> dict[str, list[Measured]]:
    """The cells by what else was swept, in words."""
    found: dict[str, list[Measured]] = {}
    for result in results:
        others = {field: value for field, value in result.point.items() if field != x}
        found.setdefault(place([others]), []).append(result)
    return found


def _panel(axis: Axes, results: Sequence[Measured], x: str, metric: str, styles: Mapping[str, _Style]) -> None:
    series: dict[str, list[tuple[float, float, float, float]]] = {}
    for result in results:
        series.setdefault(result.label, []).append((float(result.point[x]), *mean_interval(result.metric(metric))))
    for label, points in series.items():
        at, mean, low, high = np.array(sorted(points)).T
        style = styles[label]
        axis.fill_between(at, low, high, color=style.colour, alpha=0.16 if len(series) < 6 else 0.08, linewidth=0)
        look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "linestyle": style.dash}
        axis.plot(at, mean, markersize=3.5, linewidth=1.3, label=label, **look)
    _bound_line(axis, results, x, metric)
    values = sorted({float(result.point[x]) for result in results})
    if values[0] > 0 and len(values) > 2 and values[-1] / values[0] > 30:
        plain_log_x(axis, values)
    axis.set_xlabel(title(x))
    axis.set_ylabel(title(metric))
    axis.set_ylim(bottom=0)
    if metric.endswith("attainment"):
        axis.set_ylim(0, 1.03)


def _legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside right center", frameon=False, handlelength=2.6)
        figure.set_size_inches(figure.get_figwidth() + 0.7 + 0.062 * max(map(len, labels)), figure.get_figheight())


def _bounds(results: Sequence[Measured], metric: str) -> list[tuple[Mapping[str, Any], float]]:
    """The bound that no policy beats at each point (where policies have bounds of their own, the largest)."""
    if metric not in _BOUNDED_BY or not all(np.isfinite(result.metric("upper_bound")).all() for result in results):
        return []
    unit = _BOUNDED_BY[metric]
    most: dict[str, tuple[Mapping[str, Any], float]] = {}
    for result in results:
        bound = result.metric("upper_bound")
        # (In a closed loop the bound may count later turns that no run gets to: a share above 1 says no more than 1.)
        value = float(np.mean(bound if unit is None else np.minimum(bound / result.metric(unit), 1.0)))
        before = most.get(repr(result.point), (result.point, 0.0))[1]
        most[repr(result.point)] = (result.point, max(value, before))
    return list(most.values())


def _bound_line(axis: Axes, results: Sequence[Measured], x: str, metric: str) -> None:
    points = sorted((float(point[x]), value) for point, value in _bounds(results, metric))
    if points:
        at, bound = zip(*points, strict=True)
        axis.plot(at, bound, ":", color="#555555", linewidth=1.3, label=_BOUND)


def _dots(results: Sequence[Measured], metrics: Sequence[str]) -> Figure:
    """A dot and its interval per cell."""
    labels = list(dict.fromkeys(result.label for result in results))
    names = [", ".join(filter(None, (result.label, *map(str, known(result.point).values())))) for result in results]
    colours = [COLOURS[labels.index(result.label) % len(COLOURS)] for result in results]
    figure, axes = _dot_chart(names, metrics)
    for axis, metric in zip(axes, metrics, strict=True):
        for i, (result, colour) in enumerate(zip(results, colours, strict=True)):
            _dot(axis, result, metric, float(i), colour)
        axis.set_xlim(left=max(0.0, axis.get_xlim()[0]))
    return figure


def _ranked(results: Sequence[Measured], metrics: Sequence[str]) -> Figure:
    """A line per policy, a colour per grid point."""
    labels = list(dict.fromkeys(result.label for result in results))
    points = {repr(result.point): result.point for result in results}
    colours = {key: COLOURS[k % len(COLOURS)] for k, key in enumerate(points)}
    bounded = any(_bounds(results, metric) for metric in metrics)
    figure, axes = _dot_chart([*labels, *([_BOUND] if bounded else [])], metrics)
    for axis, metric in zip(axes, metrics, strict=True):
        for result in results:
            key = repr(result.point)
            at = labels.index(result.label) + 0.2 * (list(points).index(key) - (len(points) - 1) / 2)
            _dot(axis, result, metric, at, colours[key])
        for point, value in _bounds(results, metric):
            axis.plot([value], [len(labels)], "|", color=colours[repr(point)], markersize=9)
        axis.set_xlim(left=0)
    if len(points) > 1:
        for key, point in points.items():
            axes[0].plot([], [], "o", color=colours[key], markersize=4, label=place([point]))
        handles, told = axes[0].get_legend_handles_labels()
        figure.legend(handles, told, loc="outside upper center", ncols=len(points), frameon=False)
    return figure


def _dot_chart(names: Sequence[str], metrics: Sequence[str]) -> tuple[Figure, list[Axes]]:
    figure, axes = new_figure(len(metrics), width=3.2)
    longest = max(map(len, names))
    figure.set_size_inches(figure.get_figwidth() + 0.062 * longest, 1.1 + 0.22 * len(names))
    for axis, metric in zip(axes, metrics, strict=True):
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [""] * len(names))
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(title(metric))
    return figure, axes


def _dot(axis: Axes, result: Measured, metric: str, at: float, colour: str) -> None:
    mean, low, high = mean_interval(result.metric(metric))
    bars = None if math.isnan(low) else [[mean - low], [high - mean]]
    axis.errorbar([mean], [at], xerr=bars, fmt="o", color=colour, markersize=3.5, capsize=2, linewidth=1.1)
