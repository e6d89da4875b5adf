"""Windows of time whose work does not fit: found by looking at a solution, added to the model, looked at again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gsim.core.view import Bools, Floats, Ints


@dataclass(frozen=True)
class Window:
    """The span [start, end]: it concerns the requests that arrive in it and are due in it."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class Grid:
    """All starts and ends that windows are looked for between: arrivals and deadlines, thinned where there are many.

    Any span is a valid window, so thinning only makes the bound less tight.
    """

    starts_s: Floats
    ends_s: Floats
    first: Ints
    """Per request: the last start that is not after its arrival."""
    last: Ints
    """Per request: the first end that is not before its deadline."""

    @classmethod
    def of(cls, arrival_s: Floats, deadline_s: Floats, most: int) -> Grid:
        """The grid of these requests with at most about ``most`` starts and ends."""
        starts, ends = _thin(np.unique(arrival_s), most), _thin(np.unique(deadline_s)[::-1], most)[::-1]
        first = np.searchsorted(starts, arrival_s, side="right") - 1
        return cls(starts, ends, first, np.searchsorted(ends, deadline_s, side="left"))

    def inside(self, window: Window) -> Bools:
        """Which requests arrive and are due in the window."""
        early: Bools = self.starts_s[self.first] >= window.start_s
        return early & (self.ends_s[self.last] <= window.end_s)

    def load(self, use: Floats) -> Floats:
        """Per (start, end): the sum of ``use`` over the requests inside."""
        table = np.zeros((len(self.starts_s), len(self.ends_s)))
        np.add.at(table, (self.first, self.last), use)
        inside: Floats = np.cumsum(np.cumsum(table[::-1], axis=0)[::-1], axis=1)
        return inside

    def worst(self, load: Floats, room: Floats, count: int, tolerance: float = 1e-6) -> list[Window]:
        """Up to ``count`` windows whose load exceeds their room most, relatively, well apart from each other."""
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.where(load > 0.0, load / room, 0.0)
        excess[~np.isfinite(excess)] = np.inf
        found = []
        for _ in range(count):
            at = int(np.argmax(excess))
            i, j = divmod(at, excess.shape[1])
            if excess[i, j] <= 1.0 + tolerance:
                break
            found.append(Window(float(self.starts_s[i]), float(self.ends_s[j])))
            near_i, near_j = max(1, excess.shape[0] // 24), max(1, excess.shape[1] // 24)
            excess[max(0, i - near_i) : i + near_i + 1, max(0, j - near_j) : j + near_j + 1] = 0.0
        return found


def _thin(values: Floats, most: int) -> Floats:
    """Every k-th value, the first and the last among them."""
    step = -(-len(values) // most)
    if step <= 1:
        return values
    return np.append(values[:-1:step], values[-1])
