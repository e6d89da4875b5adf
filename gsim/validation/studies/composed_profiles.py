"""How far are composed profiles from what others measured?"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsim.core import GsimError, register
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from gsim.validation.silicon.sample import Measured

#: A deployment with fewer rows has none left to judge once three have fitted.
_LEAST_ROWS = 6
_TICKS_MS = (3, 5, 10, 20, 50, 100, 200)


@register("study", "composed_profiles")
@dataclass(frozen=True)
class ComposedProfilesStudy:
    """Compose every deployment of the tables' own measured rows, replay each row, and compare TPOT and TTFT.

    Plain, and with one factor per deployment from three of its rows (least, middle and most requests at once), judged
    by the others. A closed loop takes a factor on every iteration as a factor on all of its times, so nothing is
    replayed for it.
    """

    tables: str | None = None
    """Folder of the tables; null: the installed package (``pip install 'gsim[tables]'``)."""
    models: tuple[str, ...] = ()
    """Only models whose name has one of these in it; empty: all."""

    def run(self, context: Context) -> Findings:
        """One deployment per job."""
        import pandas as pd

        from gsim.latency.kernel_tables import tables_root
        from gsim.validation.silicon.sample import read_sample

        measured, left_out = read_sample(tables_root(self.tables))
        wanted = [one for one in measured if not self.models or any(text in one.shape.name for text in self.models)]
        jobs = [(one, self.tables, context.seeds[0]) for one in wanted]
        tables, refused = [], []
        for one, made in zip(wanted, context.map(_compare, jobs, "deployments"), strict=True):
            if isinstance(made, str):
                refused.append(f"{len(one.rows)} rows of {one.name} on {one.tp} x {one.gpu}: {made}")
            else:
                tables.append(made)
        if not tables:
            return Findings({}, notes=[*left_out, *refused])
        rows = pd.concat(tables, ignore_index=True)
        believed = rows[rows.suspect == ""]
        found = {
            "composed_classes": _against_targets(_by(believed, ["class"])),
            "composed_deployments": _by(rows, ["gpu", "deployment", "suspect"]),
            "composed_rows": rows,
        }
        notes = [f"rows left out: {'; '.join(left_out)}", *(f"refused: {text}" for text in refused)]
        notes += [
            f"not believed, so in no class: {len(part)} rows of {name}: {why}"
            for (name, why), part in rows[rows.suspect != ""].groupby(["deployment", "suspect"])
        ]
        return Findings(found, {"composed_profiles": _figure(believed)}, notes)


def _compare(job: tuple[Measured, str | None, int]) -> pd.DataFrame | str:
    """Every row of a deployment, replayed; or why it cannot be composed."""
    import numpy as np
    import pandas as pd

    from gsim.latency import load_profile
    from gsim.profile.build import BuildOptions, profile_text
    from gsim.validation.silicon.closed_loop import closed_loop

    one, tables, seed = job
    options = BuildOptions(
        one.shape.name, one.gpu, tp=one.tp, dtype=one.weight_dtype, moe_dtype=one.moe_dtype, tables=tables
    )
    rows = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "composed.yaml"
            file.write_text(profile_text(one.shape, options)[1], encoding="utf-8")
            profile = load_profile(file)
        for row in one.rows.to_dict("records"):
            ttft_s, tpot_s = closed_loop(profile, int(row["batch_size"]), int(row["isl"]), int(row["osl"]), seed)
            rows.append(
                {
                    "class": one.kind,
                    "gpu": one.gpu,
                    "deployment": one.name,
                    "tp": one.tp,
                    "prompt": int(row["isl"]),
                    "output": int(row["osl"]),
                    "concurrency": int(row["batch_size"]),
                    "suspect": one.suspect(int(row["batch_size"])),
                    "tpot_ms": row["silicon_tpot_ms"],
                    "simulated_tpot_ms": 1e3 * tpot_s,
                    "ttft_ms": row["silicon_ttft_ms"],
                    "simulated_ttft_ms": 1e3 * ttft_s,
                }
            )
    except GsimError as error:
        return str(error)
    table = pd.DataFrame(rows)
    table["plain_percent"] = 100.0 * (table.simulated_tpot_ms / table.tpot_ms - 1.0)
    table["ttft_percent"] = 100.0 * (table.simulated_ttft_ms / table.ttft_ms - 1.0)
    table["fitted_percent"] = np.nan
    believed = table[table.suspect == ""]
    if len(believed) >= _LEAST_ROWS:
        order = believed.sort_values(["concurrency", "prompt", "output"], kind="stable").index
        three = [order[0], order[len(order) // 2], order[-1]]
        ratios = np.log(table.tpot_ms[three] / table.simulated_tpot_ms[three])
        others = table.index.difference(three)
        fitted = table.simulated_tpot_ms[others] * np.exp(ratios.mean())
        table.loc[others, "fitted_percent"] = 100.0 * (fitted / table.tpot_ms[others] - 1.0)
    return table


def _by(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Median and 90th percentile of the absolute errors, and the median error itself."""
    import pandas as pd

    table = []
    for key, part in rows.groupby(columns, sort=False):
        fitted = part.fitted_percent.dropna()
        entry: dict[str, Any] = dict(zip(columns, key, strict=True)) | {"rows": len(part)}
        for name, values in (("plain", part.plain_percent), ("fitted", fitted), ("ttft", part.ttft_percent)):
            entry[f"{name}_bias"] = values.median()
            entry[f"{name}_median"], entry[f"{name}_p90"] = values.abs().quantile(0.5), values.abs().quantile(0.9)
        table.append(entry)
    return pd.DataFrame(table)


def _against_targets(table: pd.DataFrame) -> pd.DataFrame:
    from gsim.validation.silicon.sample import TARGETS

    for i, name in enumerate(("plain", "fitted")):
        table[f"{name}_target"] = [f"{TARGETS[c][i][0]:g} ({TARGETS[c][i][1]:g})" for c in table["class"]]
    return table


def _figure(rows: pd.DataFrame) -> Figure:
    """Simulated over measured TPOT, a panel per class."""
    from gsim.study.figure import house_style, new_figure, plain_log_x

    with house_style():
        classes = list(dict.fromkeys(rows["class"]))
        drawing, axes = new_figure(len(classes), columns=len(classes))
        for axis, name in zip(axes, classes, strict=False):
            part = rows[rows["class"] == name]
            for gpu, points in part.groupby("gpu"):
                axis.plot(points.tpot_ms, points.simulated_tpot_ms, ".", markersize=3.5, label=str(gpu).upper())
            ends = [part.tpot_ms.min(), part.tpot_ms.max()]
            axis.plot(ends, ends, color="0.5", linewidth=0.8, zorder=0)
            ticks = [tick for tick in _TICKS_MS if 0.7 * ends[0] <= tick <= 1.4 * ends[1]]
            plain_log_x(axis, ticks)
            axis.set_yscale("log")
            axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.minorticks_off()
            axis.set_title(name)
            axis.set_xlabel("Measured TPOT (ms)")
            axis.legend(frameon=False)
        axes[0].set_ylabel("Composed, replayed (ms)")
    return drawing
