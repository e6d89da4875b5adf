"""How far routers are from what is possible, and where the integer program stops being practical."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gsim.cluster import simulate
from gsim.core import ConfigError, register
from gsim.metrics import mean_interval
from gsim.optimum import BoundConfig
from gsim.run.planning import plan_of
from gsim.run.settings import Settings
from gsim.study.bounds import bound_of
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_AXES = {"rate": "Request rate (requests/s)", "slo": "E2E SLO (s)", "pool": "Copies of the pool (and of the load)"}


@dataclass(frozen=True)
class _Point:
    """One seed of one grid point, as plain values that travel to a worker."""

    axis: str
    value: float
    settings: Mapping[str, Any]
    seed: int
    routers: tuple[str, ...]
    time_limit_s: float


@register("study", "optimality_gap")
@dataclass(frozen=True)
class OptimalityGap:
    """Upper bound, plan and routers against load, SLO and pool size, with the time that bound and plan take."""

    requests: int = 600
    """Requests per run (times the copies, where the pool is copied)."""
    rates_per_s: tuple[float, ...] = (10.0, 40.0, 60.0, 80.0, 100.0, 150.0)
    """Request rates, with one pool and ``slo_s``."""
    knee_per_s: float = 80.0
    """The rate at which SLO and pool size are varied: where routers begin to differ."""
    slos_s: tuple[float, ...] = (4.0, 5.0, 6.0, 8.0)
    """E2E SLOs, at ``knee_per_s``."""
    slo_s: float = 6.0
    """The SLO at which rate and pool size are varied."""
    copies: tuple[int, ...] = (1, 2, 4)
    """Pools and loads so many times as large."""
    routers: tuple[str, ...] = ("goodserve", "least_latency", "fastest", "least_load", "ilp_rolling", "random")
    """Policies to compare with (without migration, with the configured predictor and estimator)."""
    evaluations: int = 1500
    """Assignments that each plan's local search judges."""
    bound_time_limit_s: float = 240.0
    """The solver's answer so far is a bound too, a looser one."""

    def __post_init__(self) -> None:
        if self.requests < 1 or self.evaluations < 0:
            raise ConfigError(f"requests and evaluations must be at least 1 and 0, not {self.requests}")
        for name in ("rates_per_s", "slos_s", "copies"):
            if any(not value > 0 for value in getattr(self, name)):
                raise ConfigError(f"{name} must be numbers above 0, not {list(getattr(self, name))}")
        if not self.routers or "ilp_plan" in self.routers:
            raise ConfigError("routers must name routers that decide online, at least one")

    def run(self, context: Context) -> Findings:
        """Every point with every seed; then means over seeds."""
        import pandas as pd

        points = [point for seed in context.seeds for point in self._points(context.settings, seed)]
        frame = pd.DataFrame(context.map(_measure, points, "points"))
        if frame.empty:
            raise ConfigError("rates_per_s, slos_s and copies are all empty; there is nothing to compare")
        times = ["axis", "value", "seed", "requests", "status", "cuts", "bound_s", "plan_s", "evaluations"]
        gaps = _means(frame, list(self.routers))
        return Findings(
            tables={"optimality_gap": gaps, "solve_times": frame[times], "by_seed": frame.drop(columns=times[-3:-1])},
            figures={"optimality_gap": _figure(frame, list(self.routers))},
            notes=_notes(gaps),
        )

    def _points(self, settings: Settings, seed: int) -> Iterator[_Point]:
        grid = [("rate", rate, rate, self.slo_s, 1) for rate in self.rates_per_s]
        grid += [("slo", slo_s, self.knee_per_s, slo_s, 1) for slo_s in self.slos_s]
        grid += [("pool", copies, self.knee_per_s * copies, self.slo_s, copies) for copies in self.copies]
        plain = settings.plain()
        for axis, value, rate, slo_s, copies in grid:
            trace = {"name": "paper", "requests": self.requests * copies, "rate_per_s": rate}
            here = settings.replace(
                pool={**plain["pool"], "copies": int(plain["pool"].get("copies", 1)) * copies},
                trace=trace,
                slo={"name": "fixed", "seconds": slo_s},
                rectifier={"name": "none"},
                router={"name": "ilp_plan", "evaluations": self.evaluations},
            )
            yield _Point(axis, float(value), here.plain(), seed, self.routers, self.bound_time_limit_s)


def _measure(point: _Point) -> dict[str, Any]:
    settings = Settings.read(point.settings)
    bound = bound_of(settings, point.seed, BoundConfig(time_limit_s=point.time_limit_s))
    began = time.perf_counter()
    planned = plan_of(settings, point.seed)
    plan_s = time.perf_counter() - began
    row: dict[str, Any] = {
        "axis": point.axis,
        "value": point.value,
        "seed": point.seed,
        "requests": bound.jobs,
        "eligible": bound.eligible,
        "upper_bound": bound.goodput_requests,
        "lp_bound": bound.lp_bound,
        "plan": len(planned.good),
        "start": planned.start,
    }
    for name in point.routers:
        online = settings.replace(router={"name": name})
        columns = simulate(online.scenario(), online.sessions(point.seed), point.seed).requests
        row[name] = int(online.objective.met(columns).sum())
    return row | {
        "status": bound.status,
        "cuts": bound.cuts,
        "bound_s": bound.solve_s,
        "plan_s": plan_s,
        "evaluations": planned.evaluations,
    }


def _means(frame: pd.DataFrame, routers: list[str]) -> pd.DataFrame:
    """Per grid point: shares of the requests (means over seeds), and the plan's distance to the bound."""
    import pandas as pd

    rows = []
    for (axis, value), runs in frame.groupby(["axis", "value"], sort=False):
        row: dict[str, Any] = {"axis": axis, "value": value, "requests": int(runs["requests"].iloc[0])}
        for name in ("upper_bound", "plan", *routers):
            row[name] = float((runs[name] / runs["requests"]).mean())
        gaps = ((runs["upper_bound"] - runs["plan"]) / runs["requests"]).to_numpy()
        row["gap"], row["gap_low"], row["gap_high"] = mean_interval(gaps)
        best = max(routers, key=lambda name: row[name])
        row["best_router"] = best
        row["regret_to_bound"] = row["upper_bound"] - row[best]
        rows.append(row)
    return pd.DataFrame(rows)


def _notes(gaps: pd.DataFrame) -> list[str]:
    units = {"rate": "requests/s", "slo": "s SLO", "pool": "copies"}
    return [
        f"{row.value:g} {units[str(row.axis)]}: bound {row.upper_bound:.1%}, plan {row.plan:.1%} (gap {row.gap:.1%}), "
        f"best router {row.best_router} {row.regret_to_bound:.1%} below the bound"
        for row in gaps.itertuples()
    ]


def _figure(frame: pd.DataFrame, routers: list[str]) -> Figure:
    from gsim.study.figure import COLOURS, MARKERS, house_style, new_figure

    shown = [axis for axis in _AXES if (frame["axis"] == axis).any()]
    with house_style():
        figure, axes = new_figure(len(shown))
        for panel, axis in zip(axes, shown, strict=True):
            rows = frame[frame["axis"] == axis]
            for i, name in enumerate(["upper_bound", "plan", *routers]):
                shares = (rows[name] / rows["requests"]).groupby(rows["value"])
                points = [(value, *mean_interval(share.to_numpy())) for value, share in shares]
                at, mean, low, high = (list(column) for column in zip(*points, strict=True))
                colour = COLOURS[(i - 1) % len(COLOURS)]
                style = "--" if name == "upper_bound" else "-"
                panel.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
                label = name.replace("_", " ")
                marker = MARKERS[i % len(MARKERS)]
                panel.plot(at, mean, style, color=colour, marker=marker, markersize=3.5, linewidth=1.3, label=label)
            panel.set_xlabel(_AXES[axis])
            panel.set_ylabel("Requests inside their SLO")
            panel.set_ylim(0, 1.03)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False)
        figure.set_size_inches(figure.get_figwidth() + 1.4, figure.get_figheight())
    return figure
