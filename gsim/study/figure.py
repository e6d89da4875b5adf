"""Figures fit for a paper: one look, colours that colour-blind readers can tell apart, bands of 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's palette (distinct under the common kinds of colour blindness), then black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C6D1F", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")
#: What a figure has room for, whatever a study has: labels of an axis, inches of rows, named rows, letters of a name.
_MOST_TICKS = 12
_TALLEST = 40.0
_MOST_NAMES = 360
_LONGEST_NAME = 100


def house_style() -> AbstractContextManager[None]:
    """``with house_style():`` draw inside it; matplotlib's own settings are left alone outside."""
    import matplotlib as mpl

    return mpl.rc_context(STYLE)  # type: ignore[arg-type]


def new_figure(
    panels: int = 1, width: float = 3.6, height: float = 2.9, columns: int | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure with panels of this size in inches, side by side or in rows of ``columns``.

    To be drawn inside ``with house_style():``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from gsim.study.shown import ShownFigure

    columns = columns or panels
    rows = -(-panels // columns)
    figure = ShownFigure(figsize=(width * columns + 0.3, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).flat)
    for axis in axes[panels:]:
        axis.remove()
    axes = axes[:panels]
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


def plain_log_x(axis: Axes, values: Sequence[float]) -> None:
    """A logarithmic horizontal axis with a tick at every value, written as a plain number; at some of many."""
    if len(values) > _MOST_TICKS:
        wanted = np.geomspace(min(values), max(values), _MOST_TICKS)
        values = sorted({min(values, key=lambda value: abs(math.log(value / one))) for one in wanted})
    axis.set_xscale("log")
    axis.set_xticks(list(values), [f"{value:g}" for value in values])
    axis.minorticks_off()


def named_rows(axis: Axes, names: Sequence[str], *, named: bool = True) -> None:
    """A row of a dot chart per name, the first at the top; of more rows than can be read, every so many are named."""
    step = -(-len(names) // _MOST_NAMES)
    shown = [shortened(name) for name in names[::step]]
    axis.set_yticks(range(0, len(names), step), shown if named else [""] * len(shown))
    for text in axis.get_yticklabels():
        text.set_parse_math(False)  # a name's dollar signs are dollar signs
    axis.set_ylim(len(names) - 0.4, -0.6)


def rows_height(rows: int) -> float:
    """Inches that so many rows of a chart take, within what can be drawn."""
    return min(0.22 * rows, _TALLEST)


def shortened(name: str) -> str:
    """A name as long as a figure has room for."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}\u2026"


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write PNG (200 dpi, for screens) and PDF (for papers), without dates: equal figures give equal bytes."""
    # Appended, not replaced: a name may have dots.
    paths = [stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.pdf")]
    figure.savefig(paths[0], dpi=200, metadata={"Software": None})
    figure.savefig(paths[1], metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return paths
