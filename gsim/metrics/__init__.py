"""Records to tables: goodput, attainment, latency, and how sure one can be of a difference."""

from gsim.metrics.costs import cost_usd, energy_j, run_costs
from gsim.metrics.counts import count_metrics
from gsim.metrics.drift import DRIFTS, latency_drift, window_drifts
from gsim.metrics.intervals import interval_of, positive_interval, share_interval
from gsim.metrics.objective import Objective
from gsim.metrics.run import LATENCIES, PERCENTILES, Usage, instance_usage, stay_s, summarise
from gsim.metrics.stationarity import Stationarity, judge
from gsim.metrics.statistics import Interval, Paired, mean_interval, paired_difference
from gsim.metrics.warmup import choose_warmup
from gsim.metrics.window import RULES, Rule, Window, over_time, session_began_s, with_beginnings

__all__ = [
    "DRIFTS",
    "LATENCIES",
    "PERCENTILES",
    "RULES",
    "Interval",
    "Objective",
    "Paired",
    "Rule",
    "Stationarity",
    "Usage",
    "Window",
    "choose_warmup",
    "cost_usd",
    "count_metrics",
    "energy_j",
    "instance_usage",
    "interval_of",
    "judge",
    "latency_drift",
    "mean_interval",
    "over_time",
    "paired_difference",
    "positive_interval",
    "run_costs",
    "session_began_s",
    "share_interval",
    "stay_s",
    "summarise",
    "window_drifts",
    "with_beginnings",
]
