"""The last lengths seen: what quantiles are taken of."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from dataclasses import dataclass, field

from gsim.core.scheduling import QUANTILES


@dataclass
class LengthWindow:
    """The last lengths seen, in order of arrival and of size."""

    size: int
    """How many are remembered."""
    recent: deque[int] = field(default_factory=deque)
    ordered: list[int] = field(default_factory=list)

    def add(self, tokens: int) -> None:
        """Remember a length, forget the oldest."""
        self.recent.append(tokens)
        insort(self.ordered, tokens)
        if len(self.recent) > self.size:
            del self.ordered[bisect_right(self.ordered, self.recent.popleft()) - 1]

    def quantile_above(self, tokens: int, quantile: float) -> float | None:
        """The quantile of the lengths above ``tokens``; None where there is none."""
        start = bisect_right(self.ordered, tokens)
        left = len(self.ordered) - start
        return float(self.ordered[start + int(quantile * (left - 1) + 0.5)]) if left else None

    def quantiles_above(self, tokens: int) -> list[float]:
        """The same at each of ``QUANTILES``; empty where there is none."""
        start = bisect_right(self.ordered, tokens)
        left = len(self.ordered) - start
        return [float(self.ordered[start + int(p * (left - 1) + 0.5)]) for p in QUANTILES] if left else []
