"""Distributions of lengths as quantiles: what predictors give beside a mean."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

from gsim.core.scheduling import QUANTILES
from gsim.prediction.overrun import overrun

_NORMAL = NormalDist()
#: Beyond so many standard deviations a log-normal length says nothing of what is left any more.
_FAR = 6.0


def certain(tokens: float) -> list[float]:
    """One length, for sure."""
    return [tokens] * len(QUANTILES)


def log_normal(median: float, deviation: float, generated_tokens: int) -> list[float]:
    """A length whose logarithm is normal, given that it is more than was generated (else: ``overrun``)."""
    if deviation == 0.0:
        return certain(overrun(median, generated_tokens))
    below = 0.0
    if generated_tokens > 0:
        seen = math.log(generated_tokens / median) / deviation
        if seen > _FAR:
            return certain(overrun(median, generated_tokens))
        below = _NORMAL.cdf(seen)
    lengths = [median * math.exp(deviation * _normal_at(below + p * (1.0 - below))) for p in QUANTILES]
    least = generated_tokens + 1.0
    return [max(length, least) for length in lengths]


@cache
def _inverse(thousandths: int) -> float:
    return _NORMAL.inv_cdf(thousandths / 1000.0)


def _normal_at(probability: float) -> float:
    # Usually one of ten values: nothing has been generated yet.
    thousandths = probability * 1000.0
    whole = round(thousandths)
    if abs(thousandths - whole) < 1e-9 and 0 < whole < 1000:
        return _inverse(whole)
    return _NORMAL.inv_cdf(min(max(probability, 1e-12), 1.0 - 1e-12))
