"""A run over time as drawings inside a page: arrivals with the misses among them, and a strip per instance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsim.cluster import RunResult
from gsim.core import Outcome

WIDTH, LEFT, RIGHT = 1000, 46, 40
_HEIGHT, _TOP, _FOOT = 96, 8, 16
_BINS = 420
_BARS = 80
#: More instances than this make no page that anybody reads: those with most misses are drawn.
MOST_STRIPS = 24
#: Of a cause, by its place among those that there are.
COLOURS = ("#D55E00", "#E69F00", "#CC79A7", "#0072B2", "#56B4E9", "#009E73", "#8C6D1F", "#999999")
_SERIES = (("running", "batch"), ("waiting", "queue"), ("kv_usage", "kv"))

Floats = NDArray[np.float64]


def across(time_s: float, end_s: float) -> float:
    """Where a time stands in a drawing."""
    return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, time_s / end_s if end_s > 0 else 0.0))


def arrivals_drawing(arrival_s: Floats, misses: pd.DataFrame, causes: Sequence[str], end_s: float) -> str:
    """Counted requests by the time at which they arrived, and of each span those that missed, by cause."""
    edges = np.linspace(0.0, end_s, _BARS + 1)
    total = np.histogram(arrival_s, edges)[0]
    stack = np.zeros(_BARS)
    most = max(1, int(total.max(initial=0)))
    parts = [_frame(end_s, most)]
    parts += [_bar(i, 0.0, float(count), most, "var(--bar)") for i, count in enumerate(total) if count]
    for k, cause in enumerate(causes):
        counts = np.histogram(misses.loc[misses["cause"] == cause, "arrival_s"], edges)[0]
        colour = COLOURS[k % len(COLOURS)]
        parts += [_bar(i, stack[i], float(count), most, colour, cause) for i, count in enumerate(counts) if count]
        stack += counts
    return _svg("".join(parts), "requests by arrival, and those of them that missed, by cause")


def _bar(i: int, below: float, count: float, most: float, colour: str, cause: str = "arrived") -> str:
    width = (WIDTH - LEFT - RIGHT) / _BARS
    bottom, top = _up(below, most), _up(below + count, most)
    return (
        f'<rect x="{LEFT + i * width + 0.5:.1f}" y="{top:.1f}" width="{width - 1:.1f}" height="{bottom - top:.1f}" '
        f'fill="{colour}"><title>{count:g} {escape(cause)}</title></rect>'
    )


def _up(value: float, most: float) -> float:
    return _TOP + (1.0 - value / most) * (_HEIGHT - _TOP - _FOOT)


def _frame(end_s: float, most: float, right: str = "") -> str:
    """The two ends of the left scale, the seconds below, and what the right scale ends at."""
    parts = []
    for value in (0.0, most):
        y = _up(value, most)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    if right:
        parts.append(f'<text x="{WIDTH - RIGHT + 5}" y="{_TOP + 4}">{right}</text>')
    step = _step(end_s)
    for i in range(int(end_s / step) + 1):
        x = across(i * step, end_s)
        unit = " s" if (i + 1) * step > end_s else ""
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 3}" text-anchor="middle">{i * step:g}{unit}</text>')
    return "".join(parts)


def _step(end_s: float) -> float:
    """A round number of seconds, of which about eight are in the run."""
    least = max(end_s, 1e-3) / 8
    unit = 10.0 ** math.floor(math.log10(least))
    return next(step * unit for step in (1.0, 2.0, 5.0, 10.0) if step * unit >= least)


def _svg(content: str, said: str, kind: str = "") -> str:
    return f'<svg class="{kind}" viewBox="0 0 {WIDTH} {_HEIGHT}" role="img" aria-label="{escape(said)}">{content}</svg>'


def strips(result: RunResult, misses: pd.DataFrame) -> tuple[list[int], str, list[Any]]:
    """Which instances are drawn, their strips, and the numbers that a page tells at a time (bins of each strip)."""
    names = [instance.name for instance in result.instances]
    late = misses["instance"].value_counts()
    order = sorted(range(len(names)), key=lambda i: -int(late.get(names[i], 0)))
    shown = sorted(order[:MOST_STRIPS])
    binned = {i: _binned(result, i) for i in shown}
    drawn = "".join(_strip(result, i, binned[i], misses[misses["instance"] == names[i]]) for i in shown)
    return shown, drawn, [_numbers(binned[i]) for i in shown]


def _binned(result: RunResult, instance: int) -> Mapping[str, Floats]:
    """The most of each series in each of equal spans; NaN where a span has no sample. ``up``: the least."""
    samples = result.samples
    own = samples["instance"] == instance
    time_s = samples["time_s"][own]
    count = max(1, min(_BINS, len(time_s)))
    at = np.minimum((time_s / max(result.duration_s, 1e-9) * count).astype(int), count - 1)
    found = {}
    for name, of in (("running", np.fmax), ("waiting", np.fmax), ("kv_usage", np.fmax), ("up", np.fmin)):
        values = np.full(count, np.nan)
        of.at(values, at, samples[name][own])
        found[name] = values
    return found


def _numbers(binned: Mapping[str, Floats]) -> list[list[float | None]]:
    """Batch, queue and KV usage in percent, as JSON has them."""
    scales = {"running": 1.0, "waiting": 1.0, "kv_usage": 100.0}
    return [
        [None if math.isnan(value) else round(value * scale) for value in binned[name].tolist()]
        for name, scale in scales.items()
    ]


def _strip(result: RunResult, instance: int, binned: Mapping[str, Floats], misses: pd.DataFrame) -> str:
    most = max(1.0, float(np.nanmax([np.nan_to_num(binned["running"]), np.nan_to_num(binned["waiting"])])))
    parts = [_downs(binned["up"]), _frame(result.duration_s, most, "100 %")]
    for name, kind in _SERIES:
        scale = 1.0 if name == "kv_usage" else most
        parts.append(_line(binned[name] / scale, kind))
    parts += [_moves(result, instance), _due(misses, result.duration_s)]
    summary = result.instances[instance]
    said = f"{summary.name}: batch, queue and KV usage over time"
    head = f"{instance}: {escape(summary.name)}, {summary.requests} requests ended here, {len(misses)} missed"
    return (
        f'<figure class="strip"><figcaption>{head} <output></output></figcaption>'
        f"{_svg(''.join(parts), said, 'over-time')}</figure>"
    )


def _line(share: Floats, kind: str) -> str:
    """A line through what is known, in pieces."""
    span = (WIDTH - LEFT - RIGHT) / len(share)
    path, pen = [], "M"
    for i, value in enumerate(share.tolist()):
        if math.isnan(value):
            pen = "M"
            continue
        path.append(f"{pen}{LEFT + (i + 0.5) * span:.1f} {_up(value, 1.0):.1f}")
        pen = "L"
    return f'<path class="{kind}" d="{"".join(path)}"/>'


def _downs(up: Floats) -> str:
    """Shades over the spans in which the instance was not up (crashed, stopped, not started yet)."""
    span = (WIDTH - LEFT - RIGHT) / len(up)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (up == 0).astype(int), [0]])))
    return "".join(
        f'<rect class="down" x="{LEFT + begin * span:.1f}" y="{_TOP}" width="{(end - begin) * span:.1f}" '
        f'height="{_HEIGHT - _TOP - _FOOT}"><title>not up</title></rect>'
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    )


def _moves(result: RunResult, instance: int) -> str:
    """Moves that happened: a mark above where a request left, below where it came."""
    moves, parts = result.moves, []
    names = [one.name for one in result.instances]
    for i in np.flatnonzero(moves.get("outcome", np.empty(0)) == Outcome.MOVED).tolist():
        source, target, request = (int(moves[name][i]) for name in ("source", "target", "request_id"))
        for place, time, kind in ((source, "stopped_s", "left"), (target, "submitted_s", "came")):
            if place == instance and not math.isnan(moves[time][i]):
                x, y = across(float(moves[time][i]), result.duration_s), _TOP if kind == "left" else _HEIGHT - _FOOT
                tip = y - 5 if kind == "left" else y + 5
                told = f"request {request} {kind}: {names[source]} to {names[target]}, {moves[time][i]:.2f} s"
                parts.append(f'<path class="move" d="M{x - 3:.1f} {y}h6L{x:.1f} {tip}z"><title>{told}</title></path>')
    return "".join(parts)


def _due(misses: pd.DataFrame, end_s: float) -> str:
    """A mark at every deadline that passed."""
    y = _HEIGHT - _FOOT
    return "".join(
        f'<line class="due" x1="{across(due, end_s):.1f}" x2="{across(due, end_s):.1f}" y1="{y - 6}" y2="{y}"/>'
        for due in (misses["arrival_s"] + misses["slo_s"]).tolist()
        if due <= end_s
    )
