"""The panel of knees beside the lines of a study of load: policies by name, best first, in the lines' colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gsim.report.wording import title
from gsim.study.figure import shortened
from gsim.study.knees import TARGET, PolicyKnee

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GREY = "#BBBBBB"


def knee_panel(
    axis: Axes, found: Sequence[PolicyKnee], x: str, limits: tuple[float, float], looks: Mapping[str, Mapping[str, Any]]
) -> None:
    """A line per policy: grey from its knee to the next load tried, a mark where attainment crosses the target.

    An arrow stands for a knee outside of the loads tried. ``limits`` are those of the other panels' horizontal axis,
    ``looks`` the colour and marker of each policy.
    """
    order = sorted(found, key=PolicyKnee.rank, reverse=True)
    style: dict[str, Any] = {"markersize": 5, "capsize": 2.5, "linewidth": 1.3}
    for i, one in enumerate(order):
        look = looks[one.policy]
        if math.isnan(one.knee):
            axis.plot([one.beyond], [i], marker="<", color=look["color"], markersize=6, clip_on=False)
            continue
        if math.isnan(one.beyond):
            axis.plot([one.knee], [i], marker=">", color=look["color"], markersize=6, clip_on=False)
            continue
        axis.plot([one.knee, one.beyond], [i, i], color=_GREY, linewidth=5, solid_capstyle="butt", zorder=1)
        mean, low, high = one.crossing
        if math.isfinite(mean):
            bars = [[mean - low], [high - mean]] if math.isfinite(low) else None
            axis.errorbar([mean], [i], xerr=bars, fmt=look["marker"], color=look["color"], **style)
        else:
            axis.plot([one.knee], [i], look["marker"], color=look["color"], markersize=5)
    axis.set_yticks(range(len(order)), [shortened(one.policy) for one in order])
    for text, one in zip(axis.get_yticklabels(), order, strict=True):
        text.set_parse_math(False)  # a name's dollar signs are dollar signs
        text.set_color(looks[one.policy]["color"])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(order) - 0.5, -0.5)
    axis.set_xlim(*limits)
    axis.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(f"Knee: level with {TARGET:.0%} in time\n{title(x)}")
