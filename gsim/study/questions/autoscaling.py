"""What growing and shrinking saves: scalers over a day of load, against fixed pools and what nobody can undercut."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.core import ConfigError, SlotState, entries, register
from gsim.metrics import Interval, mean_interval, paired_difference, share_interval
from gsim.optimum import BoundConfig
from gsim.optimum.cheapest import Offer, cheapest_pool
from gsim.run.cell import run, summary_of
from gsim.run.key import resolved
from gsim.run.planning import jobs_of, servers_of
from gsim.run.settings import Settings
from gsim.study.questions.autoscaling_figure import figure
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd

#: What is told of a run.
_METRICS = (
    *("attainment", "cost_usd", "joule_per_token", "instances_up", "starts", "goodput_rps"),
    *("p99_ttft_ms", "p99_e2el_ms", "requests"),
)
#: Points of the curve over time.
_POINTS = 192


@dataclass(frozen=True)
class _Run:
    """One seed under one policy, as plain values that travel to a worker."""

    policy: str
    kind: str
    settings: Mapping[str, Any]
    seed: int
    drawn: bool
    """Its cost over time is drawn."""


@dataclass(frozen=True)
class _Hour:
    """One interval of the day, for the lower bound."""

    settings: Mapping[str, Any]
    seed: int
    since_s: float
    until_s: float
    target: float


@register("study", "autoscaling")
@dataclass(frozen=True)
class Autoscaling:
    """Cost against attainment of scalers, of fixed pools, and of the cheapest pool per hour that any policy needs."""

    scalers: tuple[str, ...] = ("target_utilisation", "wva", "forecast", "melange", "feasible_supply")
    """Scalers, each with its defaults (times divided by ``faster``)."""
    fixed: tuple[tuple[int, ...], ...] = ((4, 4, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3), (2, 2, 2), (0, 0, 4), (4, 4, 2))
    """Pools that stay as they are: how many of each entry of ``pool.instances``."""
    slow_boots: float = 10.0
    """``forecast`` and ``feasible_supply`` are also tried with boot times so many times as long (0: not)."""
    compressed: float = 48.0
    """The day is that much shorter than a day (``dynamics.over_s`` says so to the load); requests take their time."""
    faster: float = 12.0
    """Boot times, intervals and windows of scalers are divided by this. Less than ``compressed``: to a scaler the load
    changes faster than it did; as much: its windows hold that much fewer requests than they would."""
    target: float = 0.95
    """Share of each hour's requests that the lower bound is to serve in time."""
    hours: int = 24
    """Parts of the day, each with its own cheapest pool."""

    def __post_init__(self) -> None:
        known = [name for name in entries("scaler") if name != "fixed"]
        unknown = [name for name in self.scalers if name not in known]
        if unknown:
            raise ConfigError(f"scalers: '{unknown[0]}' is unknown; allowed: {', '.join(known)}")
        if not self.fixed:
            raise ConfigError("fixed is empty; scalers are compared with at least one pool that stays as it is")
        if min(self.compressed, self.faster, self.target) <= 0.0 or self.target > 1.0:
            raise ConfigError(
                f"compressed and faster must be above 0, and target in (0, 1]; not {self.compressed}, {self.faster} "
                f"and {self.target}"
            )
        if self.hours < 1 or self.slow_boots < 0.0:
            raise ConfigError(f"hours must be 1 or more, slow_boots 0 or more; not {self.hours} and {self.slow_boots}")

    def run(self, context: Context) -> Findings:
        """Every policy with the same seeds, then the bound, hour by hour."""
        import pandas as pd

        work = list(self._work(context))
        found = context.map(_measured, work, "runs")
        rows = [
            {"policy": one.policy, "kind": one.kind, "seed": one.seed, **row["metrics"]}
            for one, row in zip(work, found, strict=True)
        ]
        over_time = {one.policy: row["usd_per_hour"] for one, row in zip(work, found, strict=True) if row["drawn"]}
        runs = pd.DataFrame(rows)
        runs["usd_per_day"] = runs["cost_usd"] * self.compressed
        bound = pd.DataFrame(context.map(_bounded, list(self._hours(context)), "hours"))
        table = compared(runs, float(bound["usd_per_hour"].mean()) * 24.0, self.target)
        drawn = figure(table, bound, over_time, self.target)
        return Findings(
            {"autoscaling": table, "runs": runs, "lower_bound": bound},
            {"autoscaling": drawn},
            notes(table, self.target),
        )

    def _work(self, context: Context) -> Iterator[_Run]:
        for policy, kind, settings in self._policies(context.settings):
            plain = settings.plain()
            for seed in context.seeds:
                yield _Run(policy, kind, plain, seed, seed == context.seeds[0])

    def _policies(self, settings: Settings) -> Iterator[tuple[str, str, Settings]]:
        groups = settings.plain()["pool"]["instances"]
        for counts in self.fixed:
            if len(counts) != len(groups) or any(n > group["count"] for n, group in zip(counts, groups, strict=True)):
                raise ConfigError(
                    f"fixed: {list(counts)} must have a number for each of the {len(groups)} entries of "
                    "pool.instances, and none above its count"
                )
            kept = [{**group, "count": n, "up": None} for n, group in zip(counts, groups, strict=True) if n]
            told = "fixed " + "+".join(map(str, counts))
            yield told, "fixed", _with_pool(settings, kept, 0.0).replace(scaler={"name": "fixed"})
        for scaler in self.scalers:
            fields = _faster(resolved("scaler", scaler, {}), self.faster)
            scaled = settings.replace(scaler={"name": scaler, **fields})
            yield scaler, "scaler", _with_pool(scaled, groups, 1.0 / self.faster)
            if self.slow_boots and scaler in ("forecast", "feasible_supply"):
                slow = _with_pool(scaled, groups, self.slow_boots / self.faster)
                yield f"{scaler}, boots x{self.slow_boots:g}", "slow", slow

    def _hours(self, context: Context) -> Iterator[_Hour]:
        plain, seed = context.settings.plain(), context.seeds[0]
        whole_s = 86_400.0 / self.compressed
        edges = np.linspace(0.0, whole_s, self.hours + 1).tolist()
        for since_s, until_s in pairwise(edges):
            yield _Hour(plain, seed, since_s, until_s, self.target)


def _with_pool(settings: Settings, groups: Sequence[Mapping[str, Any]], boots: float) -> Settings:
    """The configuration with these instances, whose boot time is multiplied."""
    pool = settings.plain()["pool"]
    slots = dict(pool["slots"])
    slots["process_s"] *= boots
    for name in ("disk_gb_per_s", "peer_gb_per_s"):
        slots[name] /= max(boots, 1e-9)
    return settings.replace(pool={**pool, "instances": list(groups), "slots": slots})


def _faster(fields: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """A scaler's fields with its times divided."""
    return {
        name: value / factor if name.endswith("_s") and isinstance(value, float) else value
        for name, value in fields.items()
    }


def _measured(one: _Run) -> dict[str, Any]:
    settings = Settings.read(one.settings)
    result = run(settings, one.seed)
    metrics = summary_of(settings, result, 0.0)["metrics"]
    prices = np.array([instance.usd_per_hour for instance in result.instances])
    at_s = np.linspace(0.0, result.duration_s, _POINTS)
    paid = np.full(_POINTS, prices.sum())
    if result.slots:
        paid = np.zeros(_POINTS)
        changes = (result.slots[name].tolist() for name in ("time_s", "slot", "state"))
        before = np.zeros(len(prices), dtype=bool)
        for time_s, slot, state in zip(*changes, strict=True):
            now = state != SlotState.OFF
            if now != before[slot]:
                paid[at_s >= time_s] += prices[slot] if now else -prices[slot]
            before[slot] = now
    told = {name: float(metrics.get(name, math.nan)) for name in _METRICS}
    curve = list(zip((at_s / result.duration_s * 24.0).tolist(), paid.tolist(), strict=True))
    return {"metrics": told, "usd_per_hour": curve, "drawn": one.drawn}


def _bounded(hour: _Hour) -> dict[str, Any]:
    """The cheapest pool for the requests that arrive and are due in an hour; all others leave it their time."""
    settings = Settings.read(hour.settings)
    scenario = settings.scenario()
    offers: dict[tuple[object, ...], Offer] = {}
    for spec, server in zip(scenario.instances, servers_of(scenario), strict=True):
        known = offers.get(server.kind)
        count = 1 if known is None else known.count + 1
        offers[server.kind] = Offer(server, spec.profile.price_per_hour, count)
    jobs = [
        job
        for job in jobs_of(settings, hour.seed)
        if hour.since_s <= job.request.arrival_s and job.request.deadline_s <= hour.until_s
    ]
    # No branching and few windows: a looser bound, and a bound all the same.
    effort = BoundConfig(rounds=6, gap=1.0, max_nodes=1, grid=40, time_limit_s=20.0)
    found = cheapest_pool(jobs, list(offers.values()), hour.target, effort)
    named = [name.rpartition("-")[0] or name for name in (offer.server.name for offer in offers.values())]
    pool = " + ".join(f"{n} {name}" for n, name in zip(found.counts, named, strict=True) if n)
    return {
        "since_s": hour.since_s,
        "until_s": hour.until_s,
        "rate_per_s": len(jobs) / (hour.until_s - hour.since_s),
        "pool": pool or "none",
        "usd_per_hour": found.usd_per_hour,
        "attainment_bound": found.attainment,
    }


def compared(runs: pd.DataFrame, bound_usd: float, target: float) -> pd.DataFrame:
    """A row per policy: means over seeds, and what it differs by from the cheapest fixed pool that holds the target.

    ``frontier``: no other policy is cheaper and at least as good (slow boots aside).
    """
    import pandas as pd

    owns = {str(policy): own.sort_values("seed") for policy, own in runs.groupby("policy", sort=False)}
    usd = {policy: own["usd_per_day"].to_numpy() for policy, own in owns.items()}
    share = {policy: own["attainment"].to_numpy() for policy, own in owns.items()}
    points = {policy: (float(usd[policy].mean()), float(share[policy].mean())) for policy in owns}
    fixed = [policy for policy in owns if policy.startswith("fixed")]
    holding = [policy for policy in fixed if points[policy][1] >= target]
    base = min(holding, key=lambda policy: points[policy][0]) if holding else fixed[-1]
    rivals = [point for policy, point in points.items() if owns[policy]["kind"].iloc[0] != "slow"]
    rows: list[dict[str, Any]] = []
    for policy, own in owns.items():
        mean_usd, low, high = mean_interval(usd[policy])
        attained = share_interval(share[policy])
        saves = _saved(usd[base], usd[policy])
        loses = paired_difference(share[base], share[policy])
        better = any(cost < points[policy][0] and good >= points[policy][1] for cost, good in rivals)
        others = own.drop(columns=["policy", "kind", "seed", "attainment", "usd_per_day"]).mean()
        rows.append(
            {"policy": policy, "kind": own["kind"].iloc[0], "usd_per_day": mean_usd, "usd_low": low, "usd_high": high}
            | {"attainment": attained.mean, "attainment_low": attained.low, "attainment_high": attained.high}
            | {"over_bound": mean_usd / bound_usd if bound_usd > 0 else math.nan, "frontier": not better}
            | {"against": base, "saves_usd": saves.mean, "saves_low": saves.low, "saves_high": saves.high}
            | {"loses": loses.mean, "loses_low": loses.low, "loses_high": loses.high}
            | {str(name): float(value) for name, value in others.items()}
        )
    return pd.DataFrame(rows)


def _saved(base: np.ndarray, usd: np.ndarray) -> Interval:
    saves = paired_difference(base, usd)
    if len(usd) > 1 and len({*base.tolist()}) == len({*usd.tolist()}) == 1:
        # Two pools that nobody scales: what they cost is known, whatever is drawn.
        return Interval(saves.mean, saves.mean, saves.mean)
    return Interval(saves.mean, saves.low, saves.high)


def _dearer(row: Mapping[Any, Any], base_usd: float) -> str:
    """By which share of the fixed pool's cost a policy is cheaper or dearer, with its interval."""
    share, low, high = (row[name] / base_usd for name in ("saves_usd", "saves_low", "saves_high"))
    if math.isnan(low):
        return f"{abs(share):.0%} {'dearer' if share < 0.0 else 'cheaper'}"
    if share < 0.0:
        return f"{-share:.0%} dearer ({-high:.0%} to {-low:.0%})"
    return f"{share:.0%} cheaper ({low:.0%} to {high:.0%})"


def notes(table: pd.DataFrame, target: float) -> list[str]:
    """What the fixed pool costs, what each scaler saves and loses against it, who is on the frontier."""
    base = table[table["policy"] == table["against"].iloc[0]].iloc[0]
    holds = base["attainment"] >= target
    said = [
        f"{'the cheapest' if holds else 'no fixed pool holds; the largest is'} {base['policy']}"
        f"{f' holds {target:.0%}' if holds else ''}: {base['usd_per_day']:.2f} USD a day, "
        f"{base['attainment']:.1%} in time, {base['over_bound']:.2f} times the lower bound"
    ]
    for row in table[table["kind"] != "fixed"].to_dict("records"):
        clear = row["loses_low"] > 0.0 or row["loses_high"] < 0.0
        lost = 100 * row["loses"]
        said.append(
            f"{row['policy']}: {_dearer(row, base['usd_per_day'])}, {abs(lost):.1f} points "
            f"{'fewer' if lost >= 0.0 else 'more'} in time{'' if clear else ' (not to be told from none)'}, "
            f"{row['over_bound']:.2f} times the lower bound, "
            f"{row['starts']:.0f} starts, {row['joule_per_token']:.2f} J a token"
        )
    front = table[table["frontier"] & (table["kind"] != "slow")].sort_values("usd_per_day")
    said.append(f"on the frontier, cheapest first: {', '.join(front['policy'])}")
    return said
