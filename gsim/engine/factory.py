"""Engines by name, and which of them runs a policy of the queue."""

from __future__ import annotations

from typing import cast

from gsim.core.errors import ConfigError
from gsim.core.protocols import Engine, LatencyModel
from gsim.core.registry import lookup
from gsim.core.streams import Streams
from gsim.engine.config import BUILT_IN, EngineLimits
from gsim.engine.decode_clock import DecodeClockEngine
from gsim.engine.ordering import decides_each_iteration, policy_of
from gsim.engine.stepwise import StepwiseEngine


def make_engine(name: str, latency: LatencyModel, limits: EngineLimits, streams: Streams | None = None) -> Engine:
    """An idle engine of the registered kind ``name``; raises ``ConfigError`` where there is none.

    A policy that decides in every iteration is run by the reference, ``stepwise``, whichever engine is asked for:
    nothing is left to jump over. So is speculation: no clock counts iterations that yield unlike numbers of tokens.
    ``streams``: the run's random ones (None: those of seed 0).
    """
    kind = lookup("engine", name).cls
    if limits.speculation is not None:
        if kind not in (DecodeClockEngine, StepwiseEngine):
            raise ConfigError(f"engine.speculation: only decode_clock and stepwise speculate, not engine '{name}'")
        return StepwiseEngine(latency, limits, streams)
    if name == "decode_clock" and limits.policy not in BUILT_IN and decides_each_iteration(policy_of(limits)):
        return StepwiseEngine(latency, limits)
    return cast(Engine, kind(latency, limits))
