"""The figure of a sweep: lines against a swept field, a row of panels per value of the others; or dots.

Many policies cannot be told apart as lines: more than ten become a dot chart, a line of it per policy. What has no
level (``gsim.study.steadiness``) is drawn hollow. Where the axis is the load, a panel of knees names the policies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.metrics import interval_of
from gsim.report.knee_figure import knee_panel
from gsim.report.policy_colours import colour_places
from gsim.report.wording import known, level, place, title
from gsim.study.figure import (
    COLOURS,
    DASHES,
    MARKERS,
    house_style,
    named_rows,
    new_figure,
    plain_log_x,
    rows_height,
    shortened,
)
from gsim.study.knees import TARGET, PolicyKnee, knees
from gsim.study.measured import Measured
from gsim.study.steadiness import standing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Metrics that a bound is known of, and what it is divided by.
_BOUNDED_BY = {"goodput_rps": None, "attainment": "offered_rps"}
_BOUND = "Upper bound"
_MOST_LINES = 10
#: Rows of panels, and grid points that colours stand for; of more there is a dot per cell.
_MOST_FACETS = 12
_MOST_POINTS = 24
_RATE = "trace.rate_per_s"
_ALL = "All that is offered in time"
#: How marks are filled: what has a level, what has none, and where that cannot be said.
_FACES: Mapping[str, Mapping[str, Any]] = {
    "level": {},
    "unknown": {},
    "no level": {"markerfacecolor": "white", "markeredgewidth": 1.1},
    "undecided": {"fillstyle": "left", "markerfacecoloralt": "white", "markeredgewidth": 0.8},
}
_MEANINGS = {
    "no level": "hollow: no level (beyond capacity, or not steady)",
    "undecided": "half: whether there is a level cannot be said",
}
#: Before a label, whose underscore at the start would hide it from the legend otherwise.
_UNHIDDEN = "\u200b"


def sweep_figure(results: Sequence[Measured], x: str | None, metrics: Sequence[str]) -> Figure:
    """A panel per metric, means with their 95 % intervals over seeds."""
    labels = list(dict.fromkeys(result.label for result in results))
    styles = _styles(labels)
    numeric = x is not None and all(isinstance(result.point.get(x), int | float) for result in results)
    with house_style():
        if x is None or not numeric or len(_facets(results, x)) > _MOST_FACETS:
            return _dots(results, metrics)
        if len(labels) > _MOST_LINES and len({style.colour for style in styles.values()}) == len(COLOURS):
            many = len({repr(result.point) for result in results}) > _MOST_POINTS
            return _dots(results, metrics) if many else _ranked(results, metrics)
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
        places = colour_places(heads)
        looks = [(places[head], rests.index(rest)) for head, _, rest in parts]
        return {label: _Style(COLOURS[i], MARKERS[j], DASHES[j]) for label, (i, j) in zip(labels, looks, strict=True)}
    n = len(COLOURS)
    return {
        label: _Style(COLOURS[i % n], MARKERS[i % n], DASHES[(i // n) % len(DASHES)])
        for label, i in colour_places(labels).items()
    }


def _lines(results: Sequence[Measured], x: str, metrics: Sequence[str], styles: Mapping[str, _Style]) -> Figure:
    rows = _facets(results, x)
    found = knees(results, x) if "attainment" in metrics and len(styles) > 1 else []
    each = len(metrics) + bool(found)
    columns = 2 if each >= 4 and len(rows) == 1 else each
    figure, axes = new_figure(each * len(rows), height=2.9 if len(rows) == 1 else 2.5, columns=columns)
    faces = {id(result): standing(result) for result in results}
    for i, (facet, here) in enumerate(rows.items()):
        own = axes[i * each : (i + 1) * each]
        for axis, metric in zip(own, metrics, strict=False):
            _panel(axis, here, x, metric, styles, faces)
            if facet:
                axis.set_title(shortened(facet), loc="left").set_parse_math(False)
        if found:
            _knees(own[-1], [one for one in found if place([one.point]) == facet], x, own[0], styles)
    _legend(figure, axes[0], set(faces.values()), columns if found else 0)
    return figure


def _knees(axis: Axes, found: Sequence[PolicyKnee], x: str, beside: Axes, styles: Mapping[str, _Style]) -> None:
    looks = {label: {"color": style.colour, "marker": style.marker} for label, style in styles.items()}
    knee_panel(axis, found, x, beside.get_xlim(), looks)


def _facets(results: Sequence[Measured], x: str) -> dict[str, list[Measured]]:
    """The cells by what else was swept, in words."""
    found: dict[str, list[Measured]] = {}
    for result in results:
        others = {field: value for field, value in result.point.items() if field != x}
        found.setdefault(place([others]), []).append(result)
    return found


def _panel(
    axis: Axes, results: Sequence[Measured], x: str, metric: str, styles: Mapping[str, _Style], faces: Mapping[int, str]
) -> None:
    series: dict[str, list[tuple[float, float, float, float, str]]] = {}
    for result in results:
        point = (float(result.point[x]), *interval_of(result, metric), faces[id(result)])
        series.setdefault(result.label, []).append(point)
    for label, points in series.items():
        at, mean, low, high = np.array([point[:4] for point in sorted(points)]).T
        own = np.array([point[4] for point in sorted(points)])
        style = styles[label]
        axis.fill_between(at, low, high, color=style.colour, alpha=0.16 if len(series) < 6 else 0.08, linewidth=0)
        axis.plot(at, mean, color=style.colour, linestyle=style.dash, linewidth=1.3)
        for face in dict.fromkeys(own):
            look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "markersize": 4}
            axis.plot(at[own == face], mean[own == face], linestyle="", **look, **_FACES[face])
        look = {"color": style.colour, "marker": style.marker, "linestyle": style.dash, "markersize": 4}
        axis.plot([], [], label=_UNHIDDEN + label, **look)
    _bound_line(axis, results, x, metric)
    values = sorted({float(result.point[x]) for result in results})
    if values[0] > 0 and len(values) > 2 and values[-1] / values[0] > 30:
        plain_log_x(axis, values)
    axis.set_xlabel(title(x))
    axis.set_ylabel(title(metric))
    if metric.endswith("attainment"):
        axis.set_ylim(0, 1.03)
        axis.axhline(TARGET, color="#999999", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        return
    axis.set_ylim(bottom=0)
    if metric == "goodput_rps" and x == _RATE:
        # Read before and set after: the diagonal is a help to the eye, and may not make room for itself.
        top = axis.get_ylim()[1]
        axis.plot(values, values, color="#999999", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0, label=_ALL)
        axis.set_ylim(0, max(top, 1.02 * values[-1]) if values[-1] < 2 * top else top)


def _legend(figure: Figure, axis: Axes, faces: set[str], columns: int) -> None:
    """Policies at the right, unless a panel of knees names them (then ``columns`` of panels say how wide it may be)."""
    named = columns > 0
    from matplotlib.lines import Line2D

    found = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    lines = {label: handle for label, handle in found.items() if not named or label in (_BOUND, _ALL)}
    for face, meaning in _MEANINGS.items():
        if face in faces:
            look: dict[str, Any] = {"marker": "o", "color": "#444444", "linestyle": "", "markersize": 4.5}
            lines[meaning] = Line2D([], [], **look, **_FACES[face])
    if named:
        grey: dict[str, Any] = {"color": "#999999", "linewidth": 0.8, "linestyle": (0, (4, 3))}
        lines.pop(_ALL, None)
        diagonal = any(line.get_label() == _ALL for one in figure.axes for line in one.lines)
        meaning = f"{TARGET:.0%} in time" + (", and all that is offered in time" if diagonal else "")
        lines[meaning] = Line2D([], [], **grey)
        lines["from the knee to the next load tried"] = Line2D([], [], color="#BBBBBB", linewidth=5)
    where: dict[str, Any] = {"loc": "outside right center"}
    if named:
        where = {"loc": "outside lower center", "ncols": min(len(lines), columns)}
    if len(lines) > 1 or named:
        legend = figure.legend(list(lines.values()), list(lines), frameon=False, handlelength=2.6, **where)
        for text, label in zip(legend.get_texts(), lines, strict=True):
            text.set_text(shortened(label.removeprefix(_UNHIDDEN)))
            text.set_parse_math(False)  # a name's dollar signs are dollar signs
    if len(lines) > 1 and not named:
        longest = max(len(shortened(line)) for line in lines)
        figure.set_size_inches(figure.get_figwidth() + 0.7 + 0.062 * longest, figure.get_figheight())
    if named:
        rows = -(-len(lines) // columns)
        figure.set_size_inches(figure.get_figwidth() + 1.0, figure.get_figheight() + 0.25 * rows)


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
    names = [", ".join(filter(None, (result.label, *map(level, known(result.point).values())))) for result in results]
    places = colour_places(labels)
    colours = [COLOURS[places[result.label] % len(COLOURS)] for result in results]
    figure, axes = _dot_chart(names, metrics)
    for axis, metric in zip(axes, metrics, strict=True):
        _marks(axis, [(result, float(i), colours[i]) for i, result in enumerate(results)], metric)
        axis.set_xlim(left=max(0.0, axis.get_xlim()[0]))
    _dot_legend(figure, results, {})
    return figure


def _ranked(results: Sequence[Measured], metrics: Sequence[str]) -> Figure:
    """A line per policy, a colour per grid point."""
    labels = list(dict.fromkeys(result.label for result in results))
    points = {repr(result.point): result.point for result in results}
    colours = {key: COLOURS[k % len(COLOURS)] for k, key in enumerate(points)}
    bounded = any(_bounds(results, metric) for metric in metrics)
    apart = min(0.2, 0.8 / len(points))
    figure, axes = _dot_chart([*labels, *([_BOUND] if bounded else [])], metrics)
    for axis, metric in zip(axes, metrics, strict=True):
        rows = []
        for result in results:
            key = repr(result.point)
            at = labels.index(result.label) + apart * (list(points).index(key) - (len(points) - 1) / 2)
            rows.append((result, at, colours[key]))
        _marks(axis, rows, metric)
        for point, value in _bounds(results, metric):
            axis.plot([value], [len(labels)], "|", color=colours[repr(point)], markersize=9)
        axis.set_xlim(left=0)
    _dot_legend(figure, results, {place([p]): colours[key] for key, p in points.items()} if len(points) > 1 else {})
    return figure


def _dot_legend(figure: Figure, results: Sequence[Measured], colours: Mapping[str, str]) -> None:
    """What colours stand for, and what marks say of levels, above the panels, as many in a row as there is room for."""
    from matplotlib.lines import Line2D

    look: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 4}
    lines = {name: Line2D([], [], color=colour, **look) for name, colour in colours.items()}
    there = {standing(result) for result in results}
    for face, meaning in _MEANINGS.items():
        if face in there:
            lines[meaning] = Line2D([], [], color="#444444", **look, **_FACES[face])
    if lines:
        lines = {shortened(name): line for name, line in lines.items()}
        widest = 0.4 + 0.062 * max(map(len, lines))
        columns = max(1, min(len(lines), int(figure.get_figwidth() / widest)))
        figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(lines) // columns))
        where: dict[str, Any] = {"loc": "outside upper center", "ncols": columns, "frameon": False}
        for text in figure.legend(list(lines.values()), list(lines), **where).get_texts():
            text.set_parse_math(False)


def _dot_chart(names: Sequence[str], metrics: Sequence[str]) -> tuple[Figure, list[Axes]]:
    figure, axes = new_figure(len(metrics), width=3.2)
    longest = max(len(shortened(name)) for name in names)
    figure.set_size_inches(figure.get_figwidth() + 0.062 * longest, 1.1 + rows_height(len(names)))
    for axis, metric in zip(axes, metrics, strict=True):
        named_rows(axis, names, named=axis is axes[0])
        axis.grid(axis="x", color="#DDDDDD", linewidth=0.6)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(title(metric))
    return figure, axes


def _marks(axis: Axes, rows: Sequence[tuple[Measured, float, str]], metric: str) -> None:
    """A dot and its interval per cell, at its height in its colour; those of one look are drawn together."""
    looks: dict[tuple[str, str, bool], list[tuple[float, float, float, float]]] = {}
    for result, at, colour in rows:
        mean, low, high = interval_of(result, metric)
        looks.setdefault((colour, standing(result), math.isnan(low)), []).append((mean, low, high, at))
    for (colour, face, bare), cells in looks.items():
        mean, low, high, at = np.array(cells).T
        bars = None if bare else [mean - low, high - mean]
        look: dict[str, Any] = {"fmt": "o", "color": colour, "markersize": 3.5, "capsize": 2, "linewidth": 1.1}
        axis.errorbar(mean, at, xerr=bars, **look, **_FACES[face])
