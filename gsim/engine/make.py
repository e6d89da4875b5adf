"""Engines by name."""

from __future__ import annotations

from gsim.core import Engine, LatencyModel, lookup
from gsim.engine.limits import EngineLimits


def make_engine(name: str, latency: LatencyModel, limits: EngineLimits) -> Engine:
    """The engine ``name`` with a latency model and limits; raises ``ConfigError`` that lists the engines."""
    engine: Engine = lookup("engine", name).cls(latency, limits)
    return engine
