"""A tier of KV in host memory: how it is configured, and what both kinds of it have in common.

Blocks fall into it when they are evicted from the card's prefix cache, and it forgets the least recently used of its
own. A prompt whose next blocks are there has them copied back, into blocks of the card, before its first iteration
computes the rest. That iteration waits for the copy: it takes the sum of both, or, where layers are copied while
earlier ones compute, the longer of the two (vLLM's connectors that load inside a step, such as LMCache's, do the first
by default and the second with ``use_layerwise``). A copy stays in host memory when it is brought back, so evicting it
again moves no bytes.

Left out: vLLM's own CPU offloading loads between steps, so that others go on meanwhile; copies down are made in the
background and take no time (``host_out_gb`` says how many bytes they are).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from gsim.core.errors import ConfigError
from gsim.engine.speculation import refuse_idle

_WHERE = "engine.host_kv"
#: PCIe 4.0 x16 at three quarters of its 32 GB/s, as ``link=pcie4`` has it; 12 for PCIe 3.0, 48 for PCIe 5.0.
_PCIE4_GB_PER_S: Final = 24.0
#: A petabyte, and what that is in small blocks: more is a slip of the pen.
_MOST_GB: Final = 1e6
_MOST_BLOCKS: Final = 10**9


@dataclass(frozen=True)
class HostKvConfig:
    """Host memory for KV, of each instance."""

    size_gb: float = 0.0
    """Memory for KV, GB of 10^9 bytes for all cards of an instance (vLLM: ``--kv-offloading-size``); 0: none."""
    blocks: int = 0
    """The same in KV blocks, instead of ``size_gb``."""
    link_gb_per_s: float = _PCIE4_GB_PER_S
    """What a copy gets between host and each card, GB/s: 24 is PCIe 4.0 x16 at three quarters of its line rate (12 for
    PCIe 3.0, 48 for PCIe 5.0). Cards copy their parts at the same time."""
    layerwise: bool = False
    """Copy layer by layer while earlier layers compute: an iteration takes the longer of both instead of the sum."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.size_gb <= _MOST_GB:
            raise ConfigError(f"{_WHERE}.size_gb must be a number from 0 (none) to {_MOST_GB:g}, not {self.size_gb}")
        if not 0 <= self.blocks <= _MOST_BLOCKS:
            raise ConfigError(f"{_WHERE}.blocks must be from 0 (none) to {_MOST_BLOCKS}, not {self.blocks}")
        if self.size_gb and self.blocks:
            raise ConfigError(f"{_WHERE}: give size_gb or blocks, not both")
        if not self.on:
            link = self.link_gb_per_s != _PCIE4_GB_PER_S
            refuse_idle(_WHERE, "size_gb", {"link_gb_per_s": link, "layerwise": self.layerwise})
        if not 0.0 < self.link_gb_per_s < math.inf:
            raise ConfigError(f"{_WHERE}.link_gb_per_s must be a finite number above 0, not {self.link_gb_per_s}")

    @property
    def on(self) -> bool:
        """Whether there is any."""
        return self.size_gb > 0.0 or self.blocks > 0

    def resolve(self, block_bytes: int, cards: int) -> HostKvLimits:
        """On an instance whose blocks have so many bytes over all cards; ``ConfigError`` where none fits."""
        blocks = self.blocks or int(self.size_gb * 1e9 // block_bytes)
        if blocks < 1:
            raise ConfigError(
                f"{_WHERE}.size_gb of {self.size_gb} holds no block of {block_bytes / 1e9:.3g} GB; allowed: more"
            )
        return HostKvLimits(blocks, block_bytes, block_bytes / (self.link_gb_per_s * 1e9 * cards), self.layerwise)


@dataclass(frozen=True)
class HostKvLimits:
    """The tier of one instance, every value concrete."""

    blocks: int
    block_bytes: int
    block_s: float
    """Seconds in which a block is copied."""
    layerwise: bool = False
