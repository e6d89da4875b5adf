"""A profile for a card that nobody profiled, from the first minute of one recorded run and the card's data sheet.

The soft roofline (``gsim.latency.roofline``) has coefficients that a data sheet bounds. They, the engine's overhead and
the constant that gateway and server add to a request are fitted together: the run's first requests are replayed where
they were sent, and the mean distance of TTFT and of TPOT, on a logarithmic scale, is made small. Only requests that had
ended by then count. Distances are absolute, not squared: prompts that the real servers still held from an earlier run
are outliers that must not pull.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from gsim.core import Content
from gsim.engine import EngineConfig
from gsim.latency import Profile
from gsim.latency.roofline import SoftRoofline
from gsim.validation.pool.replay import PoolModel, placements, replay_pool
from gsim.validation.pool.truth import Floats, PoolRun

#: Seconds of a timed run that a fit may look at.
FIT_S = 60.0
_FITTED = ("overhead_s", "token_s", "sharpness", "sequence_s", "context_token_s", "square_token_s", "api_s")
#: Milliseconds are recorded rounded down, so TPOT is half of one more on average.
_ROUNDED_MS = 0.5


@dataclass(frozen=True)
class PoolFit:
    """What was fitted."""

    model: PoolModel
    values: Mapping[str, float]
    """By coefficient, in seconds (``sharpness``: a number)."""
    distance: float
    """Mean of the absolute logarithms of simulated over real, TTFT and TPOT alike."""
    requests: int
    """How many requests it saw."""


def first_part(run: PoolRun, until_s: float = FIT_S) -> PoolRun:
    """The requests that arrived before ``until_s``."""
    rows = run.rows
    return replace(run, rows=rows[rows["arrival_s"] < until_s].reset_index(drop=True))


def ended_before(run: PoolRun, until_s: float = FIT_S) -> NDArray[np.bool_]:
    """Which requests had ended by ``until_s`` (False where latencies were not recorded)."""
    return run.rows["arrival_s"].to_numpy(dtype=np.float64) + run.e2e_s < until_s


def distance(run: PoolRun, contents: Mapping[int, Content], model: PoolModel, until_s: float = FIT_S) -> float:
    """How far a model is from a timed run's beginning."""
    early = first_part(run, until_s)
    times = early.rows["arrival_s"].to_numpy(dtype=np.float64)
    simulated = replay_pool(early, times, contents, placements(early), model, seed=0).rows
    counted = ended_before(early, until_s)
    total = 0.0
    for name, rounded in (("ttft_ms", 0.0), ("tpot_ms", _ROUNDED_MS)):
        real = early.rows[name].to_numpy(dtype=np.float64)[counted] + rounded
        ours = simulated[name].to_numpy(dtype=np.float64)[counted]
        total += float(np.abs(np.log(ours / real)).mean()) / 2.0
    return total


def fit_pool(
    run: PoolRun, contents: Mapping[int, Content], start: Profile, engine: EngineConfig, evaluations: int = 400
) -> PoolFit:
    """Fit ``start``'s coefficients to the beginning of ``run`` (Nelder-Mead on their logarithms)."""
    latency = start.latency
    if not isinstance(latency, SoftRoofline):
        raise TypeError(f"profile '{start.name}' is not parametric: it has no coefficients to fit")

    def model_of(logarithms: Floats) -> PoolModel:
        values = dict(zip(_FITTED, np.exp(logarithms).tolist(), strict=True))
        api_s = values.pop("api_s")
        values["sharpness"] = 1.0 + values["sharpness"]
        return PoolModel(replace(start, latency=replace(latency, **values)), engine, api_s)

    def loss(logarithms: Floats) -> float:
        return distance(run, contents, model_of(logarithms))

    first = [getattr(latency, name) for name in _FITTED[:-1]] + [0.02]
    first[2] -= 1.0
    best = minimize(
        loss,
        np.log(np.maximum(first, 1e-9)),
        method="Nelder-Mead",
        options={"maxfev": evaluations, "xatol": 0.005, "fatol": 1e-4, "initial_simplex": _simplex(np.log(first))},
    )
    model = model_of(best.x)
    fitted = model.profile.latency
    values = {name: getattr(fitted, name) for name in _FITTED[:-1]} | {"api_s": model.api_s}
    return PoolFit(model, values, float(best.fun), int(ended_before(first_part(run)).sum()))


def _simplex(first: Floats) -> Floats:
    corners = [first]
    for i in range(len(first)):
        corner = first.copy()
        corner[i] += 0.3
        corners.append(corner)
    return np.array(corners)
