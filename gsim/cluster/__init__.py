"""The gateway in simulated time: engines as instances, arrivals, faults."""

from gsim.cluster.horizon import Horizon
from gsim.cluster.result import InstanceSummary, RunResult
from gsim.cluster.scenario import InstanceSpec, Scenario
from gsim.cluster.simulation import simulate, static_view
from gsim.core import Status
from gsim.gateway.telemetry_config import TelemetryConfig

__all__ = [
    "Horizon",
    "InstanceSpec",
    "InstanceSummary",
    "RunResult",
    "Scenario",
    "Status",
    "TelemetryConfig",
    "simulate",
    "static_view",
]
