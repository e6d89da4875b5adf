"""Fig. 5: what the black-box estimates say, against what then happened, under a step of the load."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gsim.cluster import simulate
from gsim.core import ConfigError, register
from gsim.run.settings import Settings
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_QUANTITIES = {"ttft_s": "Time to first token (s)", "tpot_s": "Time per output token (s)"}


class _Task(NamedTuple):
    settings: Settings
    label: str
    seed: int


@register("study", "ema_estimation")
@dataclass(frozen=True)
class EmaEstimation:
    """Estimated queueing delay and TPOT against the truth, under a step of the load, and their error (Fig. 5).

    When a request is sent, the estimates for its instance say when its first token will come (queueing delay plus
    prefill) and how fast the others follow; the truth is what then happened to that request.
    """

    alphas: tuple[float, ...] = (0.05, 0.2, 0.5)
    """Smoothing factors to compare; the figure shows the first one that is the estimator's own, else the first."""

    def __post_init__(self) -> None:
        if not self.alphas or not all(0 < alpha <= 1 for alpha in self.alphas):
            raise ConfigError(f"alphas must be numbers in (0, 1], not {list(self.alphas)}")

    def run(self, context: Context) -> Findings:
        """One run per estimator and seed; the errors before, during and after the step."""
        import pandas as pd

        variants = self._variants(context.settings)
        tasks = [_Task(settings, label, seed) for label, settings in variants for seed in context.seeds]
        rows = pd.concat(context.map(_observed, tasks, "estimators"), ignore_index=True)
        results = _errors(rows)
        own = float(context.settings.choices["estimator"].fields.get("alpha", 0.2))
        shown = f"alpha {own if own in self.alphas else self.alphas[0]:g}"
        series = rows[(rows["estimator"] == shown) & (rows["seed"] == context.seeds[0])]
        figure = _figure(series, *_step(context.settings))
        return Findings({"results": results}, {"ema_estimation": figure}, _notes(results))

    def _variants(self, settings: Settings) -> list[tuple[str, Settings]]:
        base = settings.plain()["estimator"]
        if base["name"] != "ema":
            raise ConfigError(f"estimator must be 'ema' here, not '{base['name']}'")
        variants = [(f"alpha {alpha:g}", settings.replace(estimator={**base, "alpha": alpha})) for alpha in self.alphas]
        variants.append(("no batch slope", settings.replace(estimator={**base, "batch_slope": 0.0})))
        variants.append(("nominal (control)", settings.replace(estimator={"name": "nominal"})))
        return variants


def _observed(task: _Task) -> pd.DataFrame:
    """What was estimated for every request when it was sent, and what then happened."""
    import pandas as pd

    scenario = task.settings.scenario()
    telemetry = dataclasses.replace(scenario.telemetry, log_decisions=True)
    result = simulate(dataclasses.replace(scenario, telemetry=telemetry), task.settings.sessions(task.seed), task.seed)
    sent = {row["request_id"]: row for row in result.decisions if row["what"] == "route"}
    columns = result.requests
    counted = (columns["output_tokens"] > 1) & np.isfinite(columns["finished_s"]) & (columns["migrations"] == 0)
    counted &= columns["arrival_s"] >= task.settings.start_s
    rows = np.flatnonzero(counted)
    instance = columns["instance"][rows]
    told = [sent[request] for request in columns["request_id"][rows].tolist()]

    def estimate(name: str) -> Any:
        return np.array([row[name][i] for row, i in zip(told, instance.tolist(), strict=True)])

    arrival_s, first_s = columns["arrival_s"][rows], columns["first_token_s"][rows]
    start_s, stop_s = _step(task.settings)
    return pd.DataFrame(
        {
            "estimator": task.label,
            "seed": task.seed,
            "gpu": [result.instances[i].gpu for i in instance],
            "phase": np.where(arrival_s < start_s, "before", np.where(arrival_s < stop_s, "step", "after")),
            "sent_s": columns["dispatched_s"][rows],
            "ttft_s_estimate": estimate("queue_s") + estimate("prefill_s_per_token") * columns["prompt_tokens"][rows],
            "ttft_s": first_s - columns["dispatched_s"][rows],
            "tpot_s_estimate": estimate("tpot_s"),
            "tpot_s": (columns["finished_s"][rows] - first_s) / (columns["output_tokens"][rows] - 1),
        }
    )


def _step(settings: Settings) -> tuple[float, float]:
    plain = settings.plain()["dynamics"]
    if "at_s" not in plain or "for_s" not in plain:
        raise ConfigError("ema_estimation needs a step of the load: dynamics=burst or dynamics=step")
    return float(plain["at_s"]), float(plain["at_s"]) + float(plain["for_s"])


def _errors(rows: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    lines = []
    whole = rows.assign(phase="all")
    for (estimator, phase), part in pd.concat([rows, whole]).groupby(["estimator", "phase"], sort=False):
        for quantity in _QUANTITIES:
            truth, error = part[quantity], part[f"{quantity}_estimate"] - part[quantity]
            lines.append(
                {
                    "estimator": estimator,
                    "phase": phase,
                    "quantity": quantity,
                    "requests": len(part),
                    "mean_truth": truth.mean(),
                    "bias": error.mean(),
                    "mae": error.abs().mean(),
                    "mae_over_mean": error.abs().mean() / truth.mean(),
                }
            )
    return pd.DataFrame(lines)


def _notes(results: pd.DataFrame) -> list[str]:
    lines = [row for row in results.to_dict("records") if row["phase"] == "all"]
    return [
        f"{row['estimator']}: {row['quantity'].removesuffix('_s').upper()} off by {row['mae_over_mean']:.1%} of its "
        f"mean (bias {row['bias'] / row['mean_truth']:+.1%})"
        for row in lines
    ]


def _figure(series: pd.DataFrame, start_s: float, stop_s: float) -> Figure:
    from gsim.study.figure import house_style, new_figure

    with house_style():
        figure, axes = new_figure(2)
        for axis, (quantity, label) in zip(axes, _QUANTITIES.items(), strict=True):
            _panel(axis, series, quantity)
            axis.axvspan(start_s, min(stop_s, float(series["sent_s"].max())), color="#EEEEEE", zorder=0)
            axis.set_xlabel("Time (s); grey: the load step")
            axis.set_ylabel(label)
            axis.set_ylim(bottom=0)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def _panel(axis: Axes, series: pd.DataFrame, quantity: str) -> None:
    from gsim.study.figure import COLOURS

    for k, (gpu, rows) in enumerate(series.groupby("gpu", sort=True)):
        seconds = rows.groupby(rows["sent_s"].round())[[quantity, f"{quantity}_estimate"]].mean()
        colour = COLOURS[k % len(COLOURS)]
        axis.plot(seconds.index, seconds[f"{quantity}_estimate"], color=colour, linewidth=1.3, label=f"{gpu}, estimate")
        axis.plot(seconds.index, seconds[quantity], ".", color=colour, markersize=3, alpha=0.7, label=f"{gpu}, truth")
