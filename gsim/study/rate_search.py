"""One configuration at many rates and under many policies: what capacity, the knee and the cheapest pool ask."""

from __future__ import annotations

from gsim.core import ConfigError
from gsim.metrics import summarise
from gsim.run.cell import run, with_window
from gsim.run.settings import Settings


def with_policy(settings: Settings, policy: str) -> Settings:
    """The configuration under ``ROUTER``, or ``ROUTER+RECTIFIER``."""
    router, _, rectifier = policy.partition("+")
    return settings.replace(router={"name": router}, rectifier={"name": rectifier or "none"})


def at_rate(settings: Settings, rate_rps: float) -> Settings:
    """The configuration with its trace at another rate; raises ``ConfigError`` for a trace that has none."""
    trace = settings.plain()["trace"]
    if "rate_per_s" not in trace:
        raise ConfigError(f"trace '{trace['name']}' has no rate_per_s to vary")
    return settings.replace(trace=trace | {"rate_per_s": rate_rps})


def attainment_at(settings: Settings, seed: int, rate_rps: float) -> float:
    """The share of requests in time when the trace comes at this rate."""
    settings = with_window(at_rate(settings, rate_rps))
    result = run(settings, seed)
    return summarise(result.requests, None, settings.window, settings.objective)["attainment"]
