"""Tables for people: at most 100 columns wide, means with the half-width of their 95 % interval."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gsim.metrics import Interval, interval_of
from gsim.report.wording import known, level, number
from gsim.study.measured import Measured, by_point
from gsim.study.steadiness import standing

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 100


def render(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    lines = []
    for line in (header, *rows):
        cells = [
            text.ljust(width) if i == 0 else text.rjust(width) for i, (text, width) in enumerate(zip(line, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * min(WIDTH, sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(lines)


def listed(findings: Sequence[str]) -> str:
    """Findings as a list, in lines as wide as a table."""
    lines = [textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent="    ") for line in findings]
    return "\n".join(["findings:", *lines])


def sweep_table(results: Sequence[Measured], metric: str) -> str:
    """A line per policy, a column per grid point; wide grids continue in further blocks."""
    points = [group[0].point for group in by_point(results)]
    labels = list(dict.fromkeys(result.label for result in results))
    found = {(result.label, repr(result.point)): _cell(result, metric) for result in results}
    column = max((len(text) for text in [*found.values(), *(_point(p) for p in points)]), default=1) + 2
    first = max(len(label) for label in ["", *labels])
    per_block = max(1, (WIDTH - first) // column)
    blocks = []
    for start in range(0, len(points), per_block):
        shown = points[start : start + per_block]
        rows = [[label, *(found.get((label, repr(p)), "") for p in shown)] for label in labels]
        blocks.append(render(["", *(_point(p) for p in shown)], rows))
    fields = ", ".join(points[0]) if points and points[0] else "all"
    notes = level_notes(found.values())
    head = [f"{metric} by {fields} (mean ± half-width of the 95 % interval)", *(["; ".join(notes)] if notes else [])]
    return "\n".join([*head, "\n\n".join(blocks)])


#: Signs behind a mean, and what they say.
_SIGNS = {"no level": "*", "undecided": "?"}
_NOTES = {"*": "* no level: beyond capacity, or not steady", "?": "? whether there is a level cannot be said"}


def level_sign(result: Measured) -> str:
    """The sign behind a mean of the cell: ``*`` no level, ``?`` undecided, nothing where it has one."""
    return _SIGNS.get(standing(result), "")


def level_notes(texts: Iterable[str]) -> list[str]:
    """What the signs say that end any of the texts."""
    ends = {text[-1:] for text in texts}
    return [note for sign, note in _NOTES.items() if sign in ends]


def _point(point: Mapping[str, Any]) -> str:
    return ", ".join(level(value) for value in known(point).values()) or "all"


def _cell(result: Measured, metric: str) -> str:
    return interval_text(*interval_of(result, metric)) + level_sign(result)


def interval_text(mean: float, low: float, high: float, joint: str = " ±") -> str:
    """A mean with half the width of its interval; with both bounds where an edge of the possible makes it lopsided."""
    if math.isnan(mean):
        return "-"
    if math.isnan(low):
        return number(mean)
    half = (high - low) / 2.0
    if abs((high + low) / 2.0 - mean) > 0.25 * half:
        return f"{number(mean)} [{number(low)}, {number(high)}]"
    return f"{number(mean)}{joint}{number(half)}"


def run_table(metrics: Mapping[str, Interval], instances: Sequence[Mapping[str, Any]]) -> str:
    """The summary of single runs: a line per metric, then a line per instance."""
    rows = [
        [name, number(mean), "" if math.isnan(low) else f"{number(low)} .. {number(high)}"]
        for name, (mean, low, high) in metrics.items()
    ]
    usage = [
        [str(i["instance"]), str(i["gpu"]), number(i["requests"]), _percent(i["share"]), _percent(i["utilisation"])]
        for i in instances
    ]
    return (
        render(["metric", "mean", "95 % interval"], rows)
        + "\n\n"
        + render(["instance (whole run)", "GPU", "requests", "share", "utilisation"], usage)
    )


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"


def frame_table(name: str, frame: pd.DataFrame, most_rows: int = 40) -> str:
    """A study's table: numbers shortened, long tables cut (the CSV has all rows)."""
    header = [str(column) for column in frame.columns]
    rows = [[_shown(value) for value in row] for row in frame.head(most_rows).itertuples(index=False)]
    more = f"\n... {len(frame) - most_rows} more rows in {name}.csv" if len(frame) > most_rows else ""
    return f"{name}\n" + (render(header, rows) if rows else "(no rows)") + more


def _shown(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)
