"""Named random streams: everything random in a run is drawn from a stream spawned from the run's one seed.

A component that starts to draw does so from a stream of its own name, so it does not move anybody else's numbers:
all routers of a cell see the same arrivals and lengths (common random numbers), and comparisons stay paired.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from gsim.core.errors import ConfigError


@dataclass(frozen=True)
class Streams:
    """The random streams of one run, by name (``arrivals``, ``lengths``, ``router`` ...)."""

    seed: int

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, not {self.seed}")

    def stream(self, name: str) -> np.random.Generator:
        """A fresh generator for ``name``: the same name and seed give the same numbers on every platform."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])
