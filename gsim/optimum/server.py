"""What the optimum needs to know of an instance, and what it derives for the whole run's jobs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gsim.core import ConfigError, LatencyModel
from gsim.engine import EngineLimits


@dataclass(frozen=True)
class Server:
    """One instance as the integer program sees it; those that are equal but for their name are modelled together."""

    name: str
    latency: LatencyModel
    max_num_batched_tokens: int
    max_num_seqs: int
    max_model_len: int
    kv_tokens: int
    """Tokens of KV that fit (blocks times block size)."""
    block_size: int = 16
    prefix_caching: bool = True
    speed: float = 1.0
    """The fastest it ever runs, against its profile (slowdowns only take capacity away; a bound may ignore them)."""
    down: tuple[tuple[float, float], ...] = ()
    """Spans in which it does not run (from, to), in seconds: no iteration happens there."""

    def __post_init__(self) -> None:
        for name in ("max_num_batched_tokens", "max_num_seqs", "max_model_len", "kv_tokens", "block_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"instance '{self.name}': {name} must be at least 1, not {getattr(self, name)}")
        if not (math.isfinite(self.speed) and self.speed > 0.0):
            raise ConfigError(f"instance '{self.name}': speed must be a finite number above 0, not {self.speed}")
        last = -math.inf
        for start, end in self.down:
            if not last <= start < end:
                raise ConfigError(
                    f"instance '{self.name}': down must be spans (from, to) in order, not overlapping; not {self.down}"
                )
            last = end

    @classmethod
    def of(
        cls,
        name: str,
        latency: LatencyModel,
        limits: EngineLimits,
        speed: float = 1.0,
        down: tuple[tuple[float, float], ...] = (),
    ) -> Server:
        """The instance that runs an engine with ``limits``.

        Raises ``ConfigError`` where it speculates: what is said of the optimum counts one token per iteration.
        """
        if limits.speculation is not None:
            raise ConfigError(
                f"engine.speculation: instance '{name}' may yield several tokens in an iteration, and the upper bound "
                "and the plan count one; leave out bound=true and router=ilp_plan, or speculation"
            )
        return cls(
            name,
            latency,
            limits.max_num_batched_tokens,
            limits.max_num_seqs,
            limits.max_model_len,
            limits.kv_blocks * limits.block_size,
            limits.block_size,
            limits.prefix_caching,
            speed,
            down,
        )

    @property
    def kind(self) -> tuple[object, ...]:
        """Equal for instances that may be modelled together."""
        return (
            id(self.latency),
            self.max_num_batched_tokens,
            self.max_num_seqs,
            self.max_model_len,
            self.kv_tokens,
            self.block_size,
            self.prefix_caching,
            self.speed,
            self.down,
        )

    def up_s(self, start_s: float, end_s: float) -> float:
        """Seconds of the span in which the instance runs."""
        lost = sum(max(0.0, min(end_s, to) - max(start_s, since)) for since, to in self.down)
        return max(0.0, end_s - start_s - lost)
