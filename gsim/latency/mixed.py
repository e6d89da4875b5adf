"""What an iteration that prefills and decodes takes beyond its parts, for models that add up parts measured apart.

In a mixed launch on a GPU a decode is a row of the prefill kernel: query heads that share KV are not read together, and
long contexts are not split over the card. So reading the KV of the decodes takes longer beside a chunk than alone. And
what an engine does once per iteration may not be in a time of prefills alone. Tables of operators hold the first, a
server's token arrivals both; a grid or a roofline needs it said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from gsim.core.errors import ProfileError


@final
@dataclass(frozen=True)
class MixedCost:
    """What is added to an iteration in which a chunk runs beside decodes; the default adds nothing."""

    kv_factor: float = 1.0
    """What the decodes' KV (the part of their time that grows with context) takes, times what it takes alone; 1 or
    more."""
    iteration_s: float = 0.0
    """Seconds that each such iteration takes more, whatever is in it."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.kv_factor) and self.kv_factor >= 1.0):
            raise ProfileError(f"mixed.kv_factor must be a finite number of at least 1, not {self.kv_factor}")
        if not (math.isfinite(self.iteration_s) and self.iteration_s >= 0.0):
            raise ProfileError(f"mixed.iteration_s must be a finite number of at least 0, not {self.iteration_s}")

    def __bool__(self) -> bool:
        return self.kv_factor > 1.0 or self.iteration_s > 0.0


#: Parts add up.
PLAIN_SUM = MixedCost()
