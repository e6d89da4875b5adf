"""How long an instance takes to start, and what becomes of its requests when it is to stop."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from gsim.core import ConfigError
from gsim.core.construct import FloatOrInf
from gsim.latency import Profile

_WEIGHTS_FROM = ("disk", "peer")
_DRAINS = ("finish", "move")


@dataclass(frozen=True)
class SlotConfig:
    """What starting and stopping an instance takes; of no account while nobody scales."""

    process_s: float = 58.0
    """Seconds from the start of the process until it serves, loading weights aside. The default is vLLM with its
    compilation cached: 59 s until the first answer, of which 0.7 s for the weights of a small model, 34 s for
    profiling, warm-up and CUDA graphs (vllm-project/vllm#20264); without the cache compiling takes 40 s more
    (vllm-project/vllm#44881)."""
    weights_from: str = "disk"
    """``disk``, or ``peer``: from another instance of the same model that is up (where there is none, from disk)."""
    disk_gb_per_s: FloatOrInf = 1.3
    """All cards of an instance read from one disk. The default is what vLLM reported for 21.8 GiB in 18 s
    (vllm-project/vllm#44881); a page cache that holds the model gives ten times that (inf: reading
    takes no time)."""
    peer_gb_per_s: FloatOrInf = 11.25
    """Per card, each over a port of its own. The default is RDMA at 100 Gb/s, of which a copy reaches 90 %. Loading
    does not slow down KV copies, nor they it. (inf: it takes no time.)"""
    drain: str = "finish"
    """``finish``: an instance that is to stop finishes what it has. ``move``: it sends that on by token ids to where
    the router says, to be prefilled again there, and stops at once."""

    def __post_init__(self) -> None:
        if not (isfinite(self.process_s) and self.process_s >= 0.0):
            raise ConfigError(
                f"pool.slots.process_s must be a finite number of seconds, 0 or more, not {self.process_s}"
            )
        for name in ("disk_gb_per_s", "peer_gb_per_s"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"pool.slots.{name} must be greater than 0, not {getattr(self, name)}")
        for name, allowed in (("weights_from", _WEIGHTS_FROM), ("drain", _DRAINS)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"pool.slots.{name} must be {' or '.join(allowed)}, not '{getattr(self, name)}'")

    def boot_s(self, profile: Profile, peer: bool) -> float:
        """Seconds that an instance of this profile takes to serve; ``peer``: another one of its model is up."""
        per_card_gb = profile.deployment.weight_bytes_per_card / 1e9
        if self.weights_from == "peer" and peer:
            return self.process_s + per_card_gb / self.peer_gb_per_s
        return self.process_s + per_card_gb * profile.deployment.cards / self.disk_gb_per_s
