"""The predicted end-to-end latency of a request on every instance, from what the view has learned."""

from __future__ import annotations

from math import inf

import numpy as np

from gsim.core import ClusterView
from gsim.core.view import Floats

#: Up to so many instances plain numbers are quicker than NumPy, a call of which costs as much for four as for forty
#: (a decision of ``goodserve`` takes 0.7 of the time among 4, 0.9 among 8, 1.1 among 16).
FEW = 8


def predicted_latency(view: ClusterView, prompt_tokens: float | Floats, output_tokens: float, out: Floats) -> Floats:
    """T = q + p * L_in + d * L_out in seconds per instance, written into ``out``.

    ``prompt_tokens``: the tokens that must be prefilled, one number or one per instance. Source: the GoodServe paper
    (arXiv 2605.16867), Eq. 1.
    """
    np.multiply(view.tpot_s, output_tokens, out=out)
    np.add(out, view.queue_s, out=out)
    return np.add(out, view.prefill_s_per_token * prompt_tokens, out=out)


def latency_of_few(view: ClusterView, prompt_tokens: float | Floats, output_tokens: float) -> list[float]:
    """``predicted_latency`` to the last bit, as plain numbers: for ``FEW`` instances at most."""
    queue_s: list[float] = view.queue_s.tolist()
    prefill_s: list[float] = view.prefill_s_per_token.tolist()
    tpot_s: list[float] = view.tpot_s.tolist()
    tokens: list[float]
    if isinstance(prompt_tokens, np.ndarray):
        tokens = prompt_tokens.tolist()
    else:
        tokens = [float(prompt_tokens)] * len(tpot_s)
    return [tpot_s[i] * output_tokens + queue_s[i] + prefill_s[i] * tokens[i] for i in range(len(tpot_s))]


def slowest_of_few(latency: list[float], limit_s: float, view: ClusterView) -> int | None:
    """Of the instances that are up, the one with the largest latency within a limit; ties: the lowest index."""
    available: list[bool] = view.available.tolist()
    slowest = None
    longest_s = -inf
    for i, seconds in enumerate(latency):
        if longest_s < seconds <= limit_s and available[i]:
            slowest, longest_s = i, seconds
    return slowest
