"""One load, simulated and live: does the gateway do in front of servers what the simulation says?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.core import ConfigError, Status, registry
from gsim.core.registry import register
from gsim.gateway.records import Columns
from gsim.metrics import summarise
from gsim.run.cell import run
from gsim.run.settings import Settings
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd

#: Metric and statistic in the table -> name in a run's summary.
_SUMMARY = {
    ("goodput_rps", "mean"): "goodput_rps",
    ("attainment", "mean"): "attainment",
    **{
        (metric, statistic): f"{statistic}_{name}_ms"
        for metric, name in (("ttft_ms", "ttft"), ("tpot_ms", "tpot"), ("e2e_ms", "e2el"))
        for statistic in ("mean", "p50", "p95", "p99")
    },
    ("moves", "count"): "migrations",
    ("completed", "count"): "completed",
}
#: Seconds by which requests come later in the simulation that is held against itself: less than HTTP costs live.
_LATER_S = 0.001
#: Routers whose equals are drawn: single requests go elsewhere, and only distributions can agree.
_DRAWN = ("random", "weighted_random", "power_of_two", "least_request")


@register("study", "sim_to_live")
@dataclass(frozen=True)
class SimToLive:
    """The same sessions through a simulation and through the gateway and emulated servers, over HTTP."""

    policies: tuple[str, ...] = ("round_robin", "fastest", "goodserve", "goodserve+risk_monitor", "least_request")
    """Routers, each alone or with a rectifier: ROUTER or ROUTER+RECTIFIER. Others have none."""
    rates_per_s: tuple[float, ...] = (10.0, 80.0)
    """Values of trace.rate_per_s."""
    speed: float = 1.0
    """Seconds of the run per second of real time, live."""
    apart: bool = True
    """The emulated servers run in a process of their own (false: all in one, for small loads)."""
    target: str = ""
    """Address of another gateway that is running, in front of the pool's servers (which this starts, on port and those
    behind it): it is held against the simulation of each of ``policies``."""
    port: int = 8100
    """With ``target``: the first server's port."""

    def run(self, context: Context) -> Findings:
        """Both, for every policy, rate and seed; rows side by side."""
        import pandas as pd

        try:
            import aiohttp  # noqa: F401
            import httptools  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"live runs need {error.name}: pip install 'gsim[live]'") from None
        if not 0 < self.speed < math.inf:
            raise ConfigError(f"speed must be above 0, not {self.speed}")
        points = [
            (policy, rate, seed) for policy in self.policies for rate in self.rates_per_s for seed in context.seeds
        ]
        settings = {point: _settings(context.settings, *point[:2]) for point in points}
        rows: list[dict[str, Any]] = []
        errors: list[str] = []
        for point in context.track(points, "simulated and live"):
            rows += self._compared(settings[point], *point, errors)
        frame = _means(pd.DataFrame(rows))
        notes = list(_notes(frame))
        if errors:
            notes.append(f"live, {len(errors)} requests failed; the first: {errors[0]}")
        return Findings(tables={"sim_to_live": frame}, notes=notes)

    def _compared(
        self, settings: Settings, policy: str, rate: float, seed: int, errors: list[str]
    ) -> Iterator[dict[str, Any]]:
        from gsim.validation.live_run import LiveOptions, live_run

        simulated = run(settings, seed)
        later = run(_later(settings), seed)
        live = live_run(settings, seed, LiveOptions(self.speed, self.apart, self.target, self.port))
        errors += live.errors
        names = [instance.name for instance in simulated.instances]
        all_three = simulated.requests, later.requests, live.requests
        for metric, statistic, ours, theirs in _differences(settings, *all_three, names, live.served):
            yield {
                "policy": policy,
                "rate_per_s": rate,
                "seed": seed,
                "metric": metric,
                "statistic": statistic,
                "simulated": ours,
                "live": theirs,
            }


def _settings(settings: Settings, policy: str, rate: float) -> Settings:
    router, _, rectifier = policy.partition("+")
    if router not in registry.entries("router"):
        raise ConfigError(f"policies: there is no router '{router}' (give ROUTER or ROUTER+RECTIFIER)")
    plain = settings.plain()

    def chosen(group: str, name: str) -> dict[str, Any]:
        # The configured option keeps its fields.
        return plain[group] if plain[group]["name"] == name else {"name": name}

    return settings.replace(
        trace={**plain["trace"], "rate_per_s": rate},
        router=chosen("router", router),
        rectifier=chosen("rectifier", rectifier or "none"),
    )


def _later(settings: Settings) -> Settings:
    """The same, but every request is a little longer on its way: how far does a simulation agree with itself?"""
    pool = settings.plain()["pool"]
    return settings.replace(pool={**pool, "api_s": pool["api_s"] + _LATER_S})


def _differences(
    settings: Settings, simulated: Columns, later: Columns, live: Columns, names: list[str], served: tuple[int, ...]
) -> Iterator[tuple[str, str, float, float]]:
    """Metric, statistic, simulated, live."""
    sides = [summarise(side, {}, settings.window, settings.objective) for side in (simulated, live)]
    for (metric, statistic), name in _SUMMARY.items():
        yield metric, statistic, float(sides[0][name]), float(sides[1][name])
    for index, name in enumerate(names):
        share = float((simulated["instance"] == index).mean())
        yield "share", name, share, served[index] / max(sum(served), 1)
    # Requests of both, by id: the simulation's are all there.
    at = np.searchsorted(simulated["request_id"], live["request_id"])
    ours = {name: values[at] for name, values in simulated.items()}
    known = (live["instance"] >= 0).any()
    same = float((ours["instance"] == live["instance"]).mean()) if known else math.nan
    itself = float((simulated["instance"] == later["instance"]).mean())
    yield "same_instance", "share", itself, same
    done = (ours["status"] == Status.FINISHED) & (live["status"] == Status.FINISHED)
    apart_ms = 1e3 * np.abs(_e2e_s(live)[done] - _e2e_s(ours)[done])
    for statistic, share in (("p50", 0.5), ("p95", 0.95)):
        yield "e2e_apart_ms", statistic, 0.0, float(np.quantile(apart_ms, share)) if len(apart_ms) else math.nan
    yield "tokens", "sum", float(ours["output_tokens"][done].sum()), float(live["generated_tokens"][done].sum())


def _e2e_s(columns: Columns) -> Any:
    return columns["finished_s"] - columns["arrival_s"]


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, and how far they are apart."""
    keys = ["policy", "rate_per_s", "metric", "statistic"]
    frame = rows.groupby(keys, sort=False)[["simulated", "live"]].mean().reset_index()
    apart = 100.0 * (frame["live"] - frame["simulated"]) / frame["simulated"].where(frame["simulated"] != 0)
    return frame.assign(diff_percent=apart)


def _notes(frame: pd.DataFrame) -> Iterator[str]:
    keys = ["policy", "rate_per_s", "metric", "statistic"]
    values = dict(zip(frame[keys].itertuples(index=False, name=None), frame.to_dict("records"), strict=True))
    for policy, rate in dict.fromkeys(zip(frame["policy"], frame["rate_per_s"], strict=True)):

        def of(metric: str, statistic: str, at: tuple[str, float] = (policy, rate)) -> Any:
            return values[(*at, metric, statistic)]

        goodput, e2e, moves = of("goodput_rps", "mean"), of("e2e_ms", "mean"), of("moves", "count")
        same = of("same_instance", "share")
        drawn = " (equals are drawn)" if policy.partition("+")[0] in _DRAWN else ""
        yield (
            f"{policy} at {rate:g}/s: goodput {goodput['simulated']:.4g}/s simulated, {goodput['live']:.4g}/s live "
            f"({goodput['diff_percent']:+.1f} %); E2E mean {e2e['simulated'] / 1e3:.3f} s, {e2e['live'] / 1e3:.3f} s "
            f"({e2e['diff_percent']:+.2f} %); {same['live']:.1%} on the same instance{drawn}, "
            f"{same['simulated']:.1%} in a simulation whose requests come {_LATER_S * 1e3:g} ms later; "
            f"moves {moves['simulated']:.0f}, {moves['live']:.0f}"
        )
