"""Decode time of one batch size against context: a piecewise linear function, and its sums in closed form.

In a run of pure decodes the mean context grows by exactly 1 per iteration, so the time of n iterations is a sum of the
function at c, c + 1, ... c + n - 1. With whole-numbered knots that sum is exact for fractional c too: with k = floor(c)
and w = c - k, f(c + i) = (1 - w) f(k + i) + w f(k + i + 1), so the sum is F(k + n) - F(k) + w (f(k + n) - f(k)), where
F is the cumulative sum of f over whole numbers, kept at the knots and closed in between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from gsim.latency.roofline import UNBOUNDED_ITERATIONS


class DecodeRow:
    """Seconds of a decode iteration by mean context, linear between whole-numbered knots and beyond the last."""

    __slots__ = ("_knots", "_slopes", "_sums", "_times_s")

    def __init__(self, contexts: Sequence[int], times_s: Sequence[float]) -> None:
        """Knots in rising order with their times (at least one); below the first, its slope carries on down to 0."""
        knots, times = list(contexts), list(times_s)
        if len(knots) == 1:
            slopes = [0.0]
        else:
            slopes = [(b - a) / (y - x) for x, y, a, b in zip(knots, knots[1:], times, times[1:])]
            slopes.append(slopes[-1])
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
        self._knots, self._times_s, self._slopes, self._sums = knots, times, slopes, sums

    def __reduce__(self) -> tuple[Any, ...]:
        """Rows travel to workers inside profiles, compiled too."""
        return _restored, (self._knots, self._times_s, self._slopes, self._sums)

    def at(self, context: float) -> float:
        """Seconds of one iteration at a mean context (0 or more)."""
        j = bisect_right(self._knots, context) - 1
        return self._times_s[j] + self._slopes[j] * (context - self._knots[j])

    def run_s(self, context: float, iterations: int) -> float:
        """Seconds of ``iterations`` iterations that start at mean context ``context``."""
        # The engine asks several times per request: F and f at both ends, written out.
        knots, times_s, slopes = self._knots, self._times_s, self._slopes
        whole = int(context)
        j = bisect_right(knots, whole) - 1
        n = whole - knots[j]
        time_s = times_s[j]
        slope = slopes[j]
        start_sum = self._sums[j] + n * time_s + slope * (n * (n - 1) // 2)
        start_s = time_s + slope * n
        whole_end = whole + iterations
        if j + 1 < len(knots) and whole_end >= knots[j + 1]:
            j = bisect_right(knots, whole_end) - 1
            time_s = times_s[j]
            slope = slopes[j]
        n = whole_end - knots[j]
        end_sum = self._sums[j] + n * time_s + slope * (n * (n - 1) // 2)
        return end_sum - start_sum + (context - whole) * (time_s + slope * n - start_s)

    def iterations(self, context: float, span_s: float) -> int:
        """The largest number of iterations from mean context ``context`` whose ``run_s`` is at most ``span_s``."""
        if span_s == float("inf"):
            return UNBOUNDED_ITERATIONS
        if span_s <= 0.0:
            return 0
        knots, sums = self._knots, self._sums
        whole = int(context)
        weight = context - whole
        j = bisect_right(knots, whole) - 1
        n = whole - knots[j]
        time_s, slope = self._times_s[j], self._slopes[j]
        start_sum = sums[j] + n * time_s + slope * (n * (n - 1) // 2)
        target = span_s + start_sum + weight * (time_s + slope * n)
        # Solve sums + x t + s x (x - 1) / 2 + w (t + s x) = target in the piece where the sum passes the target.
        j = max(bisect_right(sums, target) - 1, 0)
        time_s = self._times_s[j]
        half = 0.5 * self._slopes[j]
        linear = time_s + (2.0 * weight - 1.0) * half
        rest = target - sums[j] - weight * time_s
        root = linear * linear + 4.0 * half * rest
        x = 2.0 * rest / (linear + root**0.5) if root > 0.0 else 0.0
        n = knots[j] + int(x) - whole
        # Well inside its piece and between two whole numbers, x is beyond doubt; else the definition decides.
        if rest > 0.0 and 1e-6 < x - int(x) < 1.0 - 1e-6 and (j + 1 == len(knots) or knots[j] + x < knots[j + 1] - 1):
            return n if n > 0 else 0
        n = max(n, 0)
        while n > 0 and self.run_s(context, n) > span_s:
            n -= 1
        while self.run_s(context, n + 1) <= span_s:
            n += 1
        return n


def _restored(knots: list[int], times_s: list[float], slopes: list[float], sums: list[float]) -> DecodeRow:
    row = DecodeRow(knots, times_s)
    row._knots, row._times_s, row._slopes, row._sums = knots, times_s, slopes, sums
    return row
