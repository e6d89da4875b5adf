"""What a predictor says once a request has generated more than it had predicted."""

from __future__ import annotations

import numpy as np

from gsim.core.view import Floats

#: Of what was generated already, this much more is expected once the prediction is overrun. Lengths of agents are
#: heavy-tailed: the longer an output is, the longer what remains of it (a Pareto tail of index 5 has mean excess 1/4).
OVERRUN = 0.25


def overrun(first: float, generated_tokens: int) -> float:
    """``first`` while it lies at least one token ahead, else what was generated and a quarter (at least one token)."""
    if first >= generated_tokens + 1:
        return first
    return generated_tokens + max(1.0, OVERRUN * generated_tokens)


def overrun_all(first: Floats, generated_tokens: np.ndarray) -> Floats:
    """``overrun`` for arrays."""
    generated = np.asarray(generated_tokens, dtype=np.float64)
    beyond = generated + np.maximum(1.0, OVERRUN * generated)
    return np.where(first >= generated + 1.0, first, beyond)
