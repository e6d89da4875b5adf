"""Records to tables: goodput, attainment, latency, and how sure one can be of a difference."""

from gsim.metrics.objective import Objective
from gsim.metrics.run import LATENCIES, PERCENTILES, Usage, in_window, instance_usage, summarise
from gsim.metrics.statistics import Interval, Paired, mean_interval, paired_difference

__all__ = [
    "LATENCIES",
    "PERCENTILES",
    "Interval",
    "Objective",
    "Paired",
    "Usage",
    "in_window",
    "instance_usage",
    "mean_interval",
    "paired_difference",
    "summarise",
]
