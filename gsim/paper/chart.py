"""A sweep as a drawing inside a page: every point tells its numbers when it is pointed at, every policy can be hidden.

Drawn here as SVG, so that the page needs no library and prints as it is shown; a few lines of script hide policies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

from gsim.metrics import interval_of
from gsim.report.loading import LoadedCell, Results
from gsim.report.policy_colours import colour_places
from gsim.report.table import interval_text
from gsim.report.wording import known, level, place, title
from gsim.study.figure import COLOURS
from gsim.study.steadiness import Standing, standing

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 430, 260, 52, 36
_MOST_PANELS = 8
_DASHES = ("", "7 3", "2 3", "8 2 2 2")

_SAID: Mapping[Standing, str] = {
    "no level": "no level: beyond capacity, or not steady",
    "undecided": "whether there is a level cannot be said",
}

Place = Callable[[float, float], tuple[float, float]]
"""Where a point of the panel stands in the drawing."""


@dataclass(frozen=True)
class _Point:
    x: float
    mean: float
    low: float
    high: float
    standing: Standing
    runs: str
    """Where on the page its runs are told; empty: nowhere."""


def charts(results: Results, runs: Mapping[int, str] = MappingProxyType({})) -> str:
    """A panel per metric, and per value of whatever else was swept, against the experiment's axis (without: empty).

    ``runs``: where on the page the runs of a cell are told, by its place among ``results.cells``.
    """
    numeric = [field for field in results.points if results.runs[field].dtype.kind in "if"]
    axis = (results.config.get("figure") or {}).get("x") or next(iter(numeric), None)
    cells = [cell.along(axis) for cell in results.cells]
    links = {id(cell): runs.get(i, "") for i, cell in enumerate(cells)}
    if axis is None or not all(isinstance(cell.point.get(axis), int | float) for cell in cells):
        return ""
    facets: dict[str, list[LoadedCell]] = {}
    for cell in cells:
        others = {field: value for field, value in known(cell.point).items() if field != axis}
        facets.setdefault(place([others]), []).append(cell)
    labels = list(dict.fromkeys(cell.label for cell in cells))
    panels = [
        (metric, where, own) for where, own in facets.items() for metric in results.shown if metric in own[0].runs
    ]
    drawn = "".join(_panel(own, labels, axis, metric, where, links) for metric, where, own in panels[:_MOST_PANELS])
    return f'<div class="chart"><div class="panels">{drawn}</div>{_legend(labels, cells)}</div>'


def _legend(labels: Sequence[str], cells: Sequence[LoadedCell]) -> str:
    places = colour_places(labels)
    boxes = "".join(
        f'<label><input type="checkbox" checked data-policy="{i}"><svg width="22" height="10"><path d="M0 5h22" '
        f'{_stroke(places[label])} stroke-width="3"/></svg> {escape(label)}</label>'
        for i, label in enumerate(labels)
    )
    there = {standing(cell) for cell in cells}
    marks = "".join(
        f'<label><svg width="12" height="12"><circle cx="6" cy="6" r="4" fill="none" stroke="currentColor" '
        f'stroke-width="1.6"{_dotted(one)}/></svg> {text}</label>'
        for one, text in _SAID.items()
        if one in there
    )
    return f'<p class="legend">{boxes}{marks}</p>'


def _stroke(place: int) -> str:
    """The line of a policy: eight colours, then dashes in the same ones. Black would vanish on a dark page."""
    colour = COLOURS[place % len(COLOURS)]
    dash = _DASHES[place // len(COLOURS) % len(_DASHES)]
    return f'stroke="{"#888888" if colour == "#000000" else colour}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _dotted(one: Standing) -> str:
    return ' stroke-dasharray="2 1.5"' if one == "undecided" else ""


def _panel(
    cells: Sequence[LoadedCell], labels: Sequence[str], axis: str, metric: str, where: str, links: Mapping[int, str]
) -> str:
    lines = {label: _line([cell for cell in cells if cell.label == label], axis, metric, links) for label in labels}
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    left, right = min(p.x for p in points), max(p.x for p in points)
    top = _round_top(max(p.high for p in points) or 1.0)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / (right - left) if right > left else 0.5
        up = max(0.0, min(1.0, y / top))
        return _LEFT + across * (_WIDTH - _LEFT - 14), 14 + (1.0 - up) * (_HEIGHT - _BOTTOM - 14)

    parts = [_grid(top, at, sorted({p.x for p in points}), left)]
    places = colour_places(labels)
    for i, (label, line) in enumerate(lines.items()):
        parts.append(_drawn(label, line, places[label], i, at, axis))
    name = f"{title(metric)}: {where}" if where else title(metric)
    return (
        f'<figure><figcaption>{escape(name)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(name)}">{"".join(parts)}<text x="{_WIDTH / 2}" y="{_HEIGHT - 4}" '
        f'text-anchor="middle">{escape(title(axis))}</text></svg></figure>'
    )


def _round_top(most: float) -> float:
    """Four steps of a round number, the least that hold it (1, where it is a share)."""
    if most <= 0.0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(most / 4))
    return 4 * next(step * unit for step in (1.0, 2.0, 2.5, 5.0, 10.0) if 4 * step * unit >= most * (1 - 1e-9))


def _line(cells: Sequence[LoadedCell], axis: str, metric: str, links: Mapping[int, str]) -> list[_Point]:
    found = []
    for cell in sorted(cells, key=lambda cell: float(cell.point[axis])):
        mean, low, high = interval_of(cell, metric)
        if mean == mean:
            bounds = (low, high) if low == low else (mean, mean)
            found.append(_Point(float(cell.point[axis]), mean, *bounds, standing(cell), links[id(cell)]))
    return found


def _grid(top: float, at: Place, xs: Sequence[float], left: float) -> str:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        (x, y), value = at(left, top * share), top * share
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 14}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for value in xs[:: max(1, len(xs) // 8)]:
        x, y = at(value, 0.0)
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{level(value)}</text>')
    return "".join(parts)


def _drawn(label: str, line: Sequence[_Point], place: int, i: int, at: Place, axis: str) -> str:
    path = " ".join("{:.1f},{:.1f}".format(*at(p.x, p.mean)) for p in line)
    stroke = _stroke(place)
    parts = [f'<polyline points="{path}" fill="none" {stroke} stroke-width="1.6"/>']
    colour = _stroke(place % len(COLOURS))
    for p in line:
        x, y = at(p.x, p.mean)
        (_, y1), (_, y2) = at(p.x, p.low), at(p.x, p.high)
        told = f"{label}\n{title(axis)} {level(p.x)}: {interval_text(p.mean, p.low, p.high)}"
        told += f"\n{_SAID[p.standing]}" if p.standing in _SAID else ""
        told += "\n(press for its runs)" if p.runs else ""
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y1:.1f}" y2="{y2:.1f}" {colour}/>')
        fill = "var(--paper)" if p.standing in _SAID else colour.partition('"')[2].rstrip('"')
        mark = (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" {colour} stroke-width="1.6"{_dotted(p.standing)}>'
            f"<title>{escape(told)}</title></circle>"
        )
        parts.append(f'<a href="#{p.runs}">{mark}</a>' if p.runs else mark)
    return f'<g data-policy="{i}">{"".join(parts)}</g>'
