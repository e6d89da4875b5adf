"""Engines by name."""

from __future__ import annotations

from typing import cast

from gsim.core.protocols import Engine, LatencyModel
from gsim.core.registry import lookup
from gsim.engine.config import EngineLimits


def make_engine(name: str, latency: LatencyModel, limits: EngineLimits) -> Engine:
    """An idle engine of the registered kind ``name``; raises ``ConfigError`` where there is none."""
    return cast(Engine, lookup("engine", name).cls(latency, limits))
