"""One load, simulated and live: does the gateway do in front of servers what the simulation says?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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
#: Least of the seconds by which requests come later in the simulation that is held against itself.
_LATER_S = 0.001
#: Milliseconds of real time by which first tokens may be late, in the middle: some 5 where processes have time.
_CARRIED_MS = 50.0
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
    stream_interval: int = 1
    """Tokens per event that clients ask for. An event for each, of many streams, may be more than one machine carries;
    times to the first token and to the last are the same."""
    apart: bool = True
    """Emulated servers and clients run in processes of their own (false: all in one, for small loads)."""
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
        if self.stream_interval < 1:
            raise ConfigError(f"stream_interval must be 1 or more, not {self.stream_interval}")
        points = [
            (policy, rate, seed) for policy in self.policies for rate in self.rates_per_s for seed in context.seeds
        ]
        settings = {point: _settings(context.settings, *point[:2]) for point in points}
        rows: list[dict[str, Any]] = []
        errors: list[str] = []
        for point in context.track(points, "simulated and live"):
            rows += self._compared(settings[point], *point, errors)
        frame = _means(pd.DataFrame(rows))
        notes = [*_notes(frame), *_too_much(frame, self.speed)]
        if errors:
            notes.append(f"live, {len(errors)} requests failed; the first: {errors[0]}")
        return Findings(tables={"sim_to_live": frame}, notes=notes)

    def _compared(
        self, settings: Settings, policy: str, rate: float, seed: int, errors: list[str]
    ) -> Iterator[dict[str, Any]]:
        from gsim.validation.live_run import LiveOptions, live_run

        simulated = run(settings, seed)
        options = LiveOptions(self.speed, self.apart, self.stream_interval, self.target, self.port)
        live = live_run(settings, seed, options)
        errors += live.errors
        later_s = _later_s(simulated.requests, live.requests)
        later = run(_later(settings, later_s), seed)
        names = [instance.name for instance in simulated.instances]
        sides = _Sides(simulated.requests, live.requests, later.requests, later_s)
        for metric, statistic, ours, theirs in _differences(settings, sides, names, live.served):
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


@dataclass(frozen=True)
class _Sides:
    """Requests of the simulation, of the live run, and of the simulation in which they come ``later_s`` later."""

    simulated: Columns
    live: Columns
    later: Columns
    later_s: float


def _later_s(simulated: Columns, live: Columns) -> float:
    """By how much first tokens came later live, in the middle: what clients, network and gateway take."""
    ours = _of_the_same(simulated, live)
    ttft_s = _ttft_s(live) - _ttft_s(ours)
    known = ttft_s[((ours["instance"] == live["instance"]) | (live["instance"] < 0)) & np.isfinite(ttft_s)]
    return max(float(np.median(known)), _LATER_S) if len(known) else _LATER_S


def _of_the_same(simulated: Columns, live: Columns) -> Columns:
    """The simulation's rows of the requests that the live run has, in its order (the simulation has them all)."""
    at = np.searchsorted(simulated["request_id"], live["request_id"])
    return {name: values[at] for name, values in simulated.items()}


def _later(settings: Settings, later_s: float) -> Settings:
    """The same, but every request is so much longer on its way: how far does a simulation agree with itself?"""
    pool = settings.plain()["pool"]
    return settings.replace(pool={**pool, "api_s": pool["api_s"] + later_s})


def _differences(
    settings: Settings, sides: _Sides, names: list[str], served: tuple[int, ...]
) -> Iterator[tuple[str, str, float, float]]:
    """Metric, statistic, simulated, live."""
    simulated, live, later = sides.simulated, sides.live, sides.later
    sums = [summarise(side, {}, settings.window, settings.objective) for side in (simulated, live, later)]
    for (metric, statistic), name in _SUMMARY.items():
        yield metric, statistic, float(sums[0][name]), float(sums[1][name])
    yield "later_ms", "p50", 0.0, 1e3 * sides.later_s
    # The same against the simulation whose requests come as late as they do live.
    for metric, name in (("goodput_rps", "goodput_rps"), ("e2e_ms", "mean_e2el_ms")):
        yield f"{metric}_later", "mean", float(sums[2][name]), float(sums[1][name])
    for index, name in enumerate(names):
        share = float((simulated["instance"] == index).mean())
        yield "share", name, share, served[index] / max(sum(served), 1)
    ours = _of_the_same(simulated, live)
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


def _ttft_s(columns: Columns) -> Any:
    return columns["first_token_s"] - columns["arrival_s"]


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, and how far they are apart."""
    keys = ["policy", "rate_per_s", "metric", "statistic"]
    frame = rows.groupby(keys, sort=False)[["simulated", "live"]].mean().reset_index()
    apart = 100.0 * (frame["live"] - frame["simulated"]) / frame["simulated"].where(frame["simulated"] != 0)
    return frame.assign(diff_percent=apart)


def _too_much(frame: pd.DataFrame, speed: float) -> Iterator[str]:
    """Where first tokens come so late that the times are this machine's, not the servers'."""
    later = frame[frame["metric"] == "later_ms"]
    for row in later[later["live"] / speed > _CARRIED_MS].to_dict("records"):
        yield (
            f"{row['policy']} at {row['rate_per_s']:g}/s: this machine does not carry the load. First tokens came "
            f"{row['live'] / speed:.0f} ms of real time later than simulated, in the middle; a lower speed (here "
            f"{speed:g}) or a larger stream_interval leaves it less to do"
        )


def _notes(frame: pd.DataFrame) -> Iterator[str]:
    keys = ["policy", "rate_per_s", "metric", "statistic"]
    values = dict(zip(frame[keys].itertuples(index=False, name=None), frame.to_dict("records"), strict=True))
    for policy, rate in dict.fromkeys(zip(frame["policy"], frame["rate_per_s"], strict=True)):

        def of(metric: str, statistic: str, at: tuple[str, float] = (policy, rate)) -> Any:
            return values[(*at, metric, statistic)]

        goodput, e2e, moves = of("goodput_rps", "mean"), of("e2e_ms", "mean"), of("moves", "count")
        same, later, e2e_later = of("same_instance", "share"), of("later_ms", "p50"), of("e2e_ms_later", "mean")
        drawn = " (equals are drawn)" if policy.partition("+")[0] in _DRAWN else ""
        # Another gateway does not say where it sends a request.
        there = "" if math.isnan(same["live"]) else f"; {same['live']:.1%} on the same instance{drawn}"
        yield (
            f"{policy} at {rate:g}/s: goodput {goodput['simulated']:.4g}/s simulated, {goodput['live']:.4g}/s live"
            f"{_percent(goodput, 1)}; E2E mean {e2e['simulated'] / 1e3:.3f} s, {e2e['live'] / 1e3:.3f} s"
            f"{_percent(e2e, 2)}{there}; "
            f"moves {moves['simulated']:.0f}, {moves['live']:.0f}. In a simulation whose requests come "
            f"{later['live']:.1f} ms later, as they do live: E2E mean {e2e_later['simulated'] / 1e3:.3f} s, "
            f"{same['simulated']:.1%} on the same instance"
        )


def _percent(row: Mapping[str, float], digits: int) -> str:
    apart = row["diff_percent"]
    return "" if math.isnan(apart) else f" ({apart:+.{digits}f} %)"
