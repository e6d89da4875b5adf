"""How long requests may become, as far as an engine can know."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque

from gsim.core.scheduling import QUANTILES, EngineRequest

_FEWEST = 20
"""Fewer finished requests are no distribution."""


class LengthHistory:
    """The output lengths of the last requests that finished on an engine."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._recent: deque[int] = deque()
        self._ordered: list[int] = []

    def add(self, tokens: int) -> None:
        """A request has finished after so many tokens."""
        self._recent.append(tokens)
        insort(self._ordered, tokens)
        if len(self._recent) > self._window:
            del self._ordered[bisect_right(self._ordered, self._recent.popleft()) - 1]

    def lengths(self, request: EngineRequest) -> tuple[float, ...]:
        """Equally likely totals of a request, ascending, each beyond what it has generated.

        The forecast's distribution, else that of the finished requests that became longer, else one length: the mean.
        """
        if request.forecast is not None and request.forecast.quantiles:
            return request.lengths()
        start = bisect_right(self._ordered, request.generated_tokens)
        left = len(self._ordered) - start
        if len(self._ordered) < _FEWEST or left == 0:
            return (request.predicted_tokens,)
        return tuple([float(self._ordered[start + int(p * (left - 1) + 0.5)]) for p in QUANTILES])


def at_quantile(lengths: tuple[float, ...], quantile: float) -> float:
    """Of equally likely lengths, ascending, the one at a probability."""
    return lengths[min(int(quantile * len(lengths)), len(lengths) - 1)]
