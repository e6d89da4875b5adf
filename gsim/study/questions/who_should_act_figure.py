"""The figure of ``who_should_act``: what every option brings alone, and what is left of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def figure(table: pd.DataFrame) -> Figure:
    """A panel per load, two bars per option: alone, and where the best of the other layers act; 95 % intervals."""
    from matplotlib.patches import Patch

    from gsim.study.figure import COLOURS, house_style, new_figure

    loads = list(dict.fromkeys(table["load"]))
    colours = {"alone": COLOURS[0], "left": COLOURS[5]}
    said = {"alone": "alone", "left": "beside the best of the other layers"}
    layers = {"router": COLOURS[0], "policy": COLOURS[2], "rectifier": COLOURS[1]}
    with house_style():
        drawn, axes = new_figure(
            len(loads), width=2.5 if len(loads) > 2 else 3.6, height=2.5, columns=min(3, len(loads))
        )
        for axis, load in zip(axes, loads, strict=True):
            here = table[table["load"] == load].reset_index(drop=True)
            for shift, name in ((-0.2, "alone"), (0.2, "left")):
                heights = 100.0 * here[name]
                spread = [100.0 * (here[name] - here[f"{name}_low"]), 100.0 * (here[f"{name}_high"] - here[name])]
                where = [i + shift for i in here.index]
                axis.bar(where, heights, 0.4, color=colours[name], label=said[name])
                axis.errorbar(where, heights, yerr=spread, fmt="none", ecolor="black", elinewidth=0.7, capsize=1.5)
            axis.axhline(0.0, color="black", linewidth=0.6)
            axis.set_xticks(list(here.index), list(here["option"]), rotation=35, ha="right", rotation_mode="anchor")
            for label, layer in zip(axis.get_xticklabels(), here["layer"], strict=True):
                label.set_color(layers[layer])
            axis.set_title(load, loc="left")
        for axis in axes[:: min(3, len(loads))]:
            axis.set_ylabel("Points of attainment")
        handles, labels = axes[0].get_legend_handles_labels()
        names = {"router": "router", "policy": "the engine's order", "rectifier": "rectifier"}
        handles = [*(Patch(color="none") for _ in layers), *handles]
        legend = drawn.legend(handles, [*names.values(), *labels], loc="outside lower center", frameon=False, ncols=2)
        for text, layer in zip(legend.get_texts(), names):
            text.set_color(layers[layer])
        drawn.set_figheight(drawn.get_figheight() + 0.6)
    return drawn
