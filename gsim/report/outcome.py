"""What a run or a sweep found: its comparisons, its axis and its findings; and what is printed of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.core import ConfigError
from gsim.metrics import interval_of
from gsim.report import table
from gsim.report.columns import METRICS
from gsim.report.findings import drift_sentences, knee_sentences, sweep_findings
from gsim.report.windows import window_sentences
from gsim.study import results as res
from gsim.study.knees import PolicyKnee, knees
from gsim.study.steadiness import steadiness

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = (
    "skipped_rows",
    "requests",
    "completed",
    "rejected",
    "failed",
    "truncated",
    "cut",
    "preempted",
    "migrated",
    "migrations_per_request",
    "migrated_attainment",
    "recomputed_fraction",
    "moves_back",
    "offered_rps",
    "arrived_rps",
    "goodput_rps",
    "attainment",
    "session_goodput_rps",
    "session_attainment",
    "mean_ttft_ms",
    "p99_ttft_ms",
    "mean_tpot_ms",
    "p99_tpot_ms",
    "mean_e2el_ms",
    "p50_e2el_ms",
    "p90_e2el_ms",
    "p99_e2el_ms",
    "cached_fraction",
)


@dataclass(frozen=True)
class Outcome:
    """The cells of a run or a sweep, and the configuration that asked for them (plain values)."""

    values: Mapping[str, Any]
    results: Sequence[res.CellResult]

    @property
    def name(self) -> str:
        """The experiment's."""
        return str(self.values["name"])

    @property
    def single(self) -> bool:
        """There is nothing to compare."""
        return len(self.results) == 1

    @cached_property
    def comparisons(self) -> list[res.Comparison]:
        """Every pair of policies at every grid point."""
        return [] if self.single else res.compare(self.results)

    @cached_property
    def axis(self) -> str | None:
        """The horizontal axis of the figure."""
        return figure_axis(self.values, self.results)

    @cached_property
    def metrics(self) -> list[str]:
        """The figure's panels."""
        return figure_metrics(self.values, self.results)

    @cached_property
    def drawn(self) -> list[res.CellResult]:
        """The cells as the figure has them."""
        return res.along(self.results, self.axis)

    @cached_property
    def knees(self) -> list[PolicyKnee]:
        """Where each policy stops to carry the load; empty where no load was swept."""
        return [] if self.single else knees(self.drawn, self.axis)

    @cached_property
    def findings(self) -> list[str]:
        """What was found, a sentence each."""
        results, rule = self.results, _rule(self.results)
        windows = window_sentences(self.name, results, rule)
        if self.single:
            return windows
        return [
            *_truncated(results),
            *windows,
            *_knee(self.values),
            *drift_sentences(results),
            *knee_sentences(self.knees, str(self.axis)),
            *sweep_findings(results, self.comparisons, self.metrics, rule),
        ]

    def figure(self) -> Figure:
        """The figure of a sweep."""
        from gsim.report.sweep_figure import sweep_figure

        return sweep_figure(self.drawn, self.axis, self.metrics)

    def __str__(self) -> str:
        """What is printed."""
        if self.single:
            return "\n\n".join([_single(self.results[0]), *self.findings])
        parts = [table.sweep_table(self.results, metric) for metric in self.metrics]
        return "\n\n".join([*parts, *([table.listed(self.findings)] if self.findings else [])])


def _rule(results: Sequence[res.CellResult]) -> str:
    """By what the runs counted."""
    return str(results[0].summaries[0].get("window", {}).get("rule", ""))


def _truncated(results: Sequence[res.CellResult]) -> list[str]:
    """Answers that the engine's limits cut short: how many, at worst."""
    shares = [
        (float(np.sum(result.metric("truncated")) / max(np.sum(result.metric("requests")), 1.0)), result)
        for result in results
    ]
    share, worst = max(shares, key=lambda pair: pair[0], default=(0.0, None))
    if worst is None or not share > 0:
        return []
    return [
        f"answers are cut short by the engine's limits (engine.max_model_len, or KV blocks): up to {share:.1%} of the "
        f"requests ({worst.label}); they count as not good (goodput='truncated:good' counts them)"
    ]


def _knee(values: Mapping[str, Any]) -> list[str]:
    knee = values.get("knee") or {}
    if not knee.get("at") or knee.get("rps") is None:
        return []
    return [f"the knee ({knee['target']:.0%} in time under {knee['policy']}) is at {knee['rps']:.3g} requests/s"]


def _single(result: res.CellResult) -> str:
    metrics = {metric: interval_of(result, metric) for metric in _SHOWN}
    for rare in ("skipped_rows", "truncated"):
        if not metrics[rare].mean > 0:
            del metrics[rare]
    known = {metric: interval for metric, interval in metrics.items() if interval.mean == interval.mean}
    usage = res.instance_rows("", [result])
    seeds = ", ".join(str(seed) for seed in result.cell.seeds)
    told = steadiness(result)
    steady = {True: "yes", False: f"no: {told.because}", None: f"cannot be said: {told.because}"}[told.stationary]
    return f"{result.label} (seeds {seeds})\n{table.run_table(known, usage)}\n\nstationary: {steady}" + "".join(
        f"\n{line}" for line in _truncated([result])
    )


def figure_axis(values: Mapping[str, Any], results: Sequence[res.CellResult]) -> str | None:
    """The swept field of the horizontal axis: ``figure.x`` where it varies, else the first numeric one of the grid.

    A parameter of the policies is the axis where nothing else is.
    """
    asked = (values.get("figure") or {}).get("x")
    swept = results[0].cell.swept
    if asked in swept:
        return str(asked)
    own = [field for field in swept if field not in results[0].point]
    for field in [*results[0].point, *own]:
        if all(type(result.cell.swept[field]) in (int, float) for result in results):
            return str(field)
    return None


def figure_metrics(values: Mapping[str, Any], results: Sequence[res.CellResult]) -> list[str]:
    """The metrics of the figure's panels: ``figure.y``, else goodput and attainment.

    Those of sessions are left out where the trace has only single requests (``trace=paper`` in a study of agents).
    """
    asked = (values.get("figure") or {}).get("y") or ["goodput_rps", "attainment"]
    known = results[0].summaries[0]["metrics"]
    metrics = [str(metric) for metric in ([asked] if isinstance(asked, str) else asked)]
    if "sessions" not in known:
        metrics = [metric for metric in metrics if not metric.startswith("session_")] or ["attainment"]
    unknown = [metric for metric in metrics if metric not in known and metric not in METRICS]
    if unknown:
        raise ConfigError(no_metric(unknown[0], known))
    # What these runs have not (nothing was moved, say) is no panel.
    return [metric for metric in metrics if metric in known] or ["attainment"]


def no_metric(name: str, known: Iterable[str]) -> str:
    """What is said of a panel of the figure that there is not."""
    return f"figure.y '{name}' is no metric; there are: {', '.join(known)}"
