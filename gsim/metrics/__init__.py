"""Records to tables: goodput, attainment, latency, and how sure one can be of a difference."""

from gsim.metrics.drift import DRIFTS, latency_drift, window_drifts
from gsim.metrics.intervals import interval_of, positive_interval, share_interval
from gsim.metrics.objective import Objective
from gsim.metrics.run import LATENCIES, PERCENTILES, Usage, in_window, instance_usage, summarise
from gsim.metrics.stationarity import Stationarity, judge
from gsim.metrics.statistics import Interval, Paired, mean_interval, paired_difference
from gsim.metrics.warmup import choose_warmup

__all__ = [
    "DRIFTS",
    "LATENCIES",
    "PERCENTILES",
    "Interval",
    "Objective",
    "Paired",
    "Stationarity",
    "Usage",
    "choose_warmup",
    "in_window",
    "instance_usage",
    "interval_of",
    "judge",
    "latency_drift",
    "mean_interval",
    "paired_difference",
    "positive_interval",
    "share_interval",
    "summarise",
    "window_drifts",
]
