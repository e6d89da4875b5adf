"""Engines by name, and which of them runs a policy of the queue."""

from __future__ import annotations

from typing import cast

from gsim.core.protocols import Engine, LatencyModel
from gsim.core.registry import lookup
from gsim.engine.config import BUILT_IN, EngineLimits
from gsim.engine.ordering import decides_each_iteration, policy_of


def make_engine(name: str, latency: LatencyModel, limits: EngineLimits) -> Engine:
    """An idle engine of the registered kind ``name``; raises ``ConfigError`` where there is none.

    A policy that decides in every iteration is run by the reference, ``stepwise``, whichever engine is asked for:
    nothing is left to jump over.
    """
    if name == "decode_clock" and limits.policy not in BUILT_IN and decides_each_iteration(policy_of(limits)):
        name = "stepwise"
    return cast(Engine, lookup("engine", name).cls(latency, limits))
