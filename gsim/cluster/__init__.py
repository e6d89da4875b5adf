"""The pool in simulated time: arrivals, instances, telemetry, links, faults, migrations (the only SimPy here)."""

from gsim.cluster.records import InstanceSummary, RunResult, Status
from gsim.cluster.scenario import InstanceSpec, Scenario, TelemetryConfig
from gsim.cluster.simulation import simulate, static_view

__all__ = [
    "InstanceSpec",
    "InstanceSummary",
    "RunResult",
    "Scenario",
    "Status",
    "TelemetryConfig",
    "simulate",
    "static_view",
]
