"""What decodes cost more in an iteration that also prefills, for models that add up parts measured apart.

In a mixed launch a decode is a row of the prefill kernel: query heads that share KV are not read together, and long
contexts are not split over the card. So reading the KV of the decodes takes longer beside a chunk than alone. Tables of
operators have it measured; a grid or a roofline needs it said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from gsim.core.errors import ProfileError


@final
@dataclass(frozen=True)
class MixedCost:
    """What is added to decodes beside a chunk; the default adds nothing."""

    kv_factor: float = 1.0
    """What the decodes' KV (the part of their time that grows with context) takes, times what it takes alone; 1 or
    more."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.kv_factor) and self.kv_factor >= 1.0):
            raise ProfileError(f"mixed.kv_factor must be a finite number of at least 1, not {self.kv_factor}")


#: Parts add up.
PLAIN_SUM = MixedCost()
