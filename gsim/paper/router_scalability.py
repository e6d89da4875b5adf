"""Fig. 11: what one router's decisions cost in wall time as the pool grows, and how fast such pools are simulated."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsim.cluster import Scenario, simulate
from gsim.core import ConfigError, Session, entries, register
from gsim.gateway.monitor import Monitor
from gsim.gateway.telemetry import Scraper
from gsim.paper.router_scalability_report import figure, notes
from gsim.paper.stopwatch import Stopwatch, Watched
from gsim.run.settings import Settings
from gsim.study.rate_search import with_policy
from gsim.study.study import Context, Findings

#: What a router does itself, policy by policy (method -> part): a live one pays for these, a simulated one too.
_POLICIES: dict[str, dict[str, str]] = {
    "router": {"route": "decision", "observe_completion": "learning", "placed": "learning"},
    "predictor": {"predict": "prediction", "repredict": "re-prediction", "observe": "learning"},
    "estimator": {
        **dict.fromkeys(("dispatched", "first_token", "finished"), "estimates"),
        **dict.fromkeys(("streamed", "refresh"), "stream estimates"),
    },
    "rectifier": {"review": "review"},
}
_ROUTER_PARTS = frozenset(part for parts in _POLICIES.values() for part in parts.values())
#: What the simulator does for it: a scrape reads the gauges of engines, a review needs the tokens of every request.
_SIMULATOR = (Watched("telemetry refresh", Scraper, "scrape"), Watched("tokens for the review", Monitor, "review"))


@dataclass(frozen=True)
class _Point:
    instances: int
    rate_per_s: float


@register("study", "router_scalability")
@dataclass(frozen=True)
class RouterScalability:
    """Wall time per routing decision against the size of the pool, and simulated seconds per wall second (Fig. 11).

    Counted are the seconds from ``warmup_s`` to the last arrival, when the pool is full. A decision is counted without
    the prediction inside of it, which has a row of its own. Wall times are measured anew by every run of the study.
    """

    policies: tuple[str, ...] = (
        "goodserve+risk_monitor",
        "goodserve",
        "fastest",
        "least_load",
        "least_request",
        "power_of_two",
        "round_robin",
    )
    """Router, or ROUTER+RECTIFIER; empty: every router that decides in time."""
    instances: tuple[int, ...] = (8, 32, 128, 512)
    """Sizes of the pool: multiples of the configured one."""
    rates_per_s: tuple[float, ...] = (1000.0, 2500.0, 5000.0, 10000.0)
    """Request rates of the largest pool. Smaller ones get the highest of them in proportion to their size."""
    seconds: float = 8.0
    """For how long requests arrive."""

    def __post_init__(self) -> None:
        if not self.instances or min(self.instances) < 1:
            raise ConfigError(f"instances must be sizes of pools from 1, not {list(self.instances)}")
        if not self.rates_per_s or not min(self.rates_per_s) > 0:
            raise ConfigError(f"rates_per_s must be rates above 0, not {list(self.rates_per_s)}")
        if not self.seconds > 0:
            raise ConfigError(f"seconds must be greater than 0, not {self.seconds}")

    def run(self, context: Context) -> Findings:
        """One run after the other: two at a time would wait for one another."""
        import pandas as pd

        if not context.settings.start_s < self.seconds:
            raise ConfigError(f"warmup_s ({context.settings.start_s:g}) must be less than seconds ({self.seconds:g})")
        work = [(policy, point) for policy in self._policies() for point in self._points()]
        settings = {point: self._settings(context.settings, point) for _, point in work}
        rows: list[dict[str, Any]] = []
        parts: list[dict[str, Any]] = []
        unseen: set[str] = set()
        for policy, point in context.track(work, "pools"):
            watch = Stopwatch()
            for seed in context.seeds:
                measure(with_policy(settings[point], policy), seed, watch)
            unseen |= watch.unseen
            counted_s = (self.seconds - context.settings.start_s) * len(context.seeds)
            head = {"policy": policy, "instances": point.instances, "rate_per_s": point.rate_per_s}
            rows.append(head | _row(watch, counted_s))
            parts += [head | _part(watch, part, counted_s) for part in watch.parts]
        frame = pd.DataFrame(rows)
        tables = {"router_scalability": frame, "parts": pd.DataFrame(parts)}
        said = notes(frame, tables["parts"])
        if unseen:
            said.append(
                f"compiled, so not timed: {', '.join(sorted(unseen))} (GSIM_PURE=1 in the environment times them)"
            )
        return Findings(tables, {"router_scalability": figure(frame)}, said)

    def _policies(self) -> tuple[str, ...]:
        # A plan or a program per arrival does not decide in time.
        online = (name for name, entry in entries("router").items() if entry.cls.__module__.startswith("gsim.routing"))
        return self.policies or tuple(online)

    def _points(self) -> list[_Point]:
        largest, highest = max(self.instances), max(self.rates_per_s)
        sizes = [_Point(size, highest * size / largest) for size in sorted(self.instances)]
        return [*(_Point(largest, rate) for rate in sorted(self.rates_per_s) if rate < highest), *sizes]

    def _settings(self, settings: Settings, point: _Point) -> Settings:
        plain = settings.plain()
        once = sum(group["count"] for group in plain["pool"]["instances"])
        if point.instances % once:
            raise ConfigError(f"instances: {point.instances} is no multiple of the pool's {once}")
        limits = {"rate_per_s": point.rate_per_s, "duration_s": self.seconds, "requests": None}
        unknown = sorted(set(limits) - set(plain["trace"]))
        if unknown:
            raise ConfigError(f"trace '{plain['trace']['name']}' has no {unknown[0]} to set; choose another trace")
        pool = plain["pool"] | {"copies": point.instances // once}
        return settings.replace(pool=pool, trace=plain["trace"] | limits)


def measure(settings: Settings, seed: int, watch: Stopwatch) -> None:
    """One run, its policies and the telemetry under the stopwatch."""
    scenario = watched(settings.scenario(), watch)
    with watch.on(_SIMULATOR):
        simulate(scenario, _watched_sessions(settings.sessions(seed), settings.start_s, watch), seed)


def watched(scenario: Scenario, watch: Stopwatch) -> Scenario:
    """The scenario with doubles of its policies, whose methods are timed."""
    made = {name: getattr(scenario, name) for name in _POLICIES}
    doubles = {name: watch.around(made[name], parts) for name, parts in _POLICIES.items() if made[name] is not None}
    return dataclasses.replace(scenario, **doubles)


def _watched_sessions(sessions: Iterator[Session], from_s: float, watch: Stopwatch) -> Iterator[Session]:
    """The sessions as they are; the stopwatch runs from the warm-up cut to the last arrival."""
    for session in sessions:
        if not watch.running and session.arrival_s >= from_s:
            watch.start()
        yield session
    watch.stop()


def _row(watch: Stopwatch, counted_s: float) -> dict[str, Any]:
    decisions_s = watch.seconds("decision")
    p50_s, p99_s = np.percentile(decisions_s, [50, 99]) if len(decisions_s) else (np.nan, np.nan)
    own_s = sum(float(watch.seconds(part).sum()) for part in _ROUTER_PARTS)
    return {
        "decisions": len(decisions_s),
        "decision_p50_us": 1e6 * float(p50_s),
        "decision_p99_us": 1e6 * float(p99_s),
        "router_core_share": own_s / counted_s,
        "simulated_s_per_wall_s": counted_s / watch.wall_s if watch.wall_s > 0 else np.nan,
    }


def _part(watch: Stopwatch, part: str, counted_s: float) -> dict[str, Any]:
    calls_s = watch.seconds(part)
    p50_s, p99_s = np.percentile(calls_s, [50, 99])
    return {
        "part": part,
        "calls": len(calls_s),
        "p50_us": 1e6 * float(p50_s),
        "p99_us": 1e6 * float(p99_s),
        "ms_per_simulated_s": 1e3 * float(calls_s.sum()) / counted_s,
    }
