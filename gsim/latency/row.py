"""Decode time of one batch size against context: a piecewise linear function, and its sums in closed form.

In a run of pure decodes the mean context grows by exactly 1 per iteration, so the time of n iterations is a sum of the
function at c, c + 1, ... c + n - 1. With whole-numbered knots that sum is exact for fractional c too: with k = floor(c)
and w = c - k, f(c + i) = (1 - w) f(k + i) + w f(k + i + 1), so the sum is F(k + n) - F(k) + w (f(k + n) - f(k)), where
F is the cumulative sum of f over whole numbers, kept at the knots and closed in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gsim.latency.roofline import UNBOUNDED_ITERATIONS


def end_slope(axis: Sequence[float], values: Sequence[float]) -> float:
    """How values go on beyond the last point: along its last piece; where that falls, along the chord to the nearest
    earlier point that is lower; flat where there is none.

    Kernels may be a little faster on a larger problem (another tile), but carried on such a fall ends below zero.
    """
    last = len(values) - 1
    for i in range(last - 1, -1, -1):
        if values[i] <= values[last]:
            return (values[last] - values[i]) / (axis[last] - axis[i])
    return 0.0


class _Piece:
    """The function from one knot to the next; whole numbers as floats, which hold them exactly."""

    __slots__ = ("knot", "slope", "sum_s", "time_s")

    def __init__(self, knot: float, time_s: float, slope: float, sum_s: float) -> None:
        self.knot = knot
        self.time_s = time_s
        """At the knot."""
        self.slope = slope
        self.sum_s = sum_s
        """Over all whole numbers below the knot."""


class DecodeRow:
    """Seconds of a decode iteration by mean context, linear between whole-numbered knots and beyond the last."""

    __slots__ = ("_pieces",)

    def __init__(self, contexts: Sequence[int], times_s: Sequence[float]) -> None:
        """Knots in rising order with their times (at least one).

        Below the first, its slope carries on down to 0; beyond the last, times never fall (``end_slope``).
        """
        knots, times = list(contexts), list(times_s)
        if len(knots) == 1:
            slopes = [0.0]
        else:
            slopes = [(b - a) / (y - x) for x, y, a, b in zip(knots, knots[1:], times, times[1:])]
            slopes.append(end_slope(knots, times))
        if knots[0] > 0:
            # Time must not fall towards short contexts faster than it could: never below 0, never rising.
            slope = min(max(slopes[0], 0.0), times[0] / knots[0] * 0.5)
            times.insert(0, times[0] - slope * knots[0])
            knots.insert(0, 0)
            slopes.insert(0, slope)
        sums = [0.0]
        for j in range(len(knots) - 1):
            n = knots[j + 1] - knots[j]
            sums.append(sums[-1] + n * times[j] + slopes[j] * (n * (n - 1) // 2))
        self._pieces = [_Piece(float(k), t, s, total) for k, t, s, total in zip(knots, times, slopes, sums)]

    def __reduce__(self) -> tuple[Any, ...]:
        """Rows travel to workers inside profiles, compiled too."""
        return _restored, ([(piece.knot, piece.time_s, piece.slope, piece.sum_s) for piece in self._pieces],)

    def at(self, context: float) -> float:
        """Seconds of one iteration at a mean context (0 or more)."""
        piece = self._pieces[self._piece_at(context)]
        return piece.time_s + piece.slope * (context - piece.knot)

    def _piece_at(self, context: float) -> int:
        """The last piece that begins at or before a context."""
        # By hand: compiled, it compares plain numbers, a few per call.
        pieces = self._pieces
        low, high = 0, len(pieces)
        while high - low > 1:
            middle = (low + high) // 2
            if pieces[middle].knot <= context:
                low = middle
            else:
                high = middle
        return low

    def run_s(self, context: float, iterations: int) -> float:
        """Seconds of ``iterations`` iterations that start at mean context ``context``."""
        # The engine asks several times per request: F and f at both ends, written out.
        pieces = self._pieces
        whole = context // 1.0
        j = self._piece_at(whole)
        piece = pieces[j]
        n = whole - piece.knot
        start_sum = piece.sum_s + n * piece.time_s + piece.slope * (0.5 * n * (n - 1.0))
        start_s = piece.time_s + piece.slope * n
        whole_end = whole + iterations
        if j + 1 < len(pieces) and whole_end >= pieces[j + 1].knot:
            piece = pieces[self._piece_at(whole_end)]
        n = whole_end - piece.knot
        end_sum = piece.sum_s + n * piece.time_s + piece.slope * (0.5 * n * (n - 1.0))
        return end_sum - start_sum + (context - whole) * (piece.time_s + piece.slope * n - start_s)

    def iterations(self, context: float, span_s: float) -> int:
        """The largest number of iterations from mean context ``context`` whose ``run_s`` is at most ``span_s``."""
        if span_s == float("inf"):
            return UNBOUNDED_ITERATIONS
        if span_s <= 0.0:
            return 0
        pieces = self._pieces
        whole = context // 1.0
        weight = context - whole
        j = self._piece_at(whole)
        piece = pieces[j]
        n = whole - piece.knot
        start_sum = piece.sum_s + n * piece.time_s + piece.slope * (0.5 * n * (n - 1.0))
        target = span_s + start_sum + weight * (piece.time_s + piece.slope * n)
        # Solve sums + x t + s x (x - 1) / 2 + w (t + s x) = target in the piece where the sum passes the target.
        while j + 1 < len(pieces) and pieces[j + 1].sum_s <= target:
            j += 1
        piece = pieces[j]
        half = 0.5 * piece.slope
        linear = piece.time_s + (2.0 * weight - 1.0) * half
        rest = target - piece.sum_s - weight * piece.time_s
        root = linear * linear + 4.0 * half * rest
        x = 2.0 * rest / (linear + root**0.5) if root > 0.0 else 0.0
        whole_x = x // 1.0
        found = int(piece.knot + whole_x - whole)
        if found < 0:
            found = 0
        # Well inside its piece and between two whole numbers, x is beyond doubt; else the definition decides.
        inside = j + 1 == len(pieces) or piece.knot + x < pieces[j + 1].knot - 1.0
        if inside and rest > 0.0 and 1e-6 < x - whole_x < 1.0 - 1e-6:
            return found
        while found > 0 and self.run_s(context, found) > span_s:
            found -= 1
        while self.run_s(context, found + 1) <= span_s:
            found += 1
        return found


def _restored(pieces: list[tuple[float, float, float, float]]) -> DecodeRow:
    row = DecodeRow([0], [0.0])
    row._pieces = [_Piece(*piece) for piece in pieces]
    return row
