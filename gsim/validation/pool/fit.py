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
from gsim.latency.cards import card
from gsim.latency.roofline import SoftRoofline
from gsim.validation.pool.replay import PoolModel, placements, replay_pool
from gsim.validation.pool.truth import Floats, PoolRun

#: Seconds of a timed run that a fit may look at.
FIT_S = 60.0
_FITTED = ("overhead_s", "token_s", "sharpness", "sequence_s", "context_token_s", "square_token_s", "api_s")
#: A search that begins anew and gains less has ended.
_GAIN = 5e-4
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
    run: PoolRun, contents: Mapping[int, Content], start: Profile, engine: EngineConfig, evaluations: int = 600
) -> PoolFit:
    """Fit ``start``'s coefficients to the beginning of ``run``: Nelder-Mead on their logarithms, begun anew where it
    ended until that gains nothing.

    It begins at the card's data sheet, not at the coefficients that the profile has: so the same command on a fitted
    profile finds it again.
    """
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

    best, least, spent = _beginning(start), np.inf, 0
    while spent < evaluations:
        options = {"maxfev": evaluations - spent, "xatol": 0.005, "fatol": 1e-4, "initial_simplex": _simplex(best)}
        found = minimize(loss, best, method="Nelder-Mead", options=options)
        spent += int(found.nfev)
        gained, best, least = least - float(found.fun), found.x, float(found.fun)
        if gained < _GAIN:
            break
    model = model_of(best)
    fitted = model.profile.latency
    values = {name: getattr(fitted, name) for name in _FITTED[:-1]} | {"api_s": model.api_s}
    return PoolFit(model, values, least, int(ended_before(first_part(run)).sum()))


def _beginning(profile: Profile) -> Floats:
    """Logarithms of the coefficients by the data sheet: 80 % of the bandwidth and 60 % of the peak are reached, half of
    it by prefill attention; a millisecond of engine, 20 us a sequence, 20 ms of gateway and server."""
    model, sheet = profile.model, card(profile.gpu)
    flops = 0.6 * sheet.tflops * 1e12
    first = {
        "overhead_s": 1e-3,
        "token_s": 2.0 * (model.parameters - model.embedding_parameters) / flops,
        "sharpness": 1.0,  # above 1
        "sequence_s": 2e-5,
        "context_token_s": profile.deployment.kv_bytes_per_token / (0.8e9 * sheet.bandwidth_gb_per_s),
        "square_token_s": 2.0 * model.layers * model.heads * model.head_dim / (0.5 * sheet.tflops * 1e12),
        "api_s": 0.02,
    }
    logarithms: Floats = np.log([first[name] for name in _FITTED])
    return logarithms


def _simplex(first: Floats) -> Floats:
    corners = [first]
    for i in range(len(first)):
        corner = first.copy()
        corner[i] += 0.3
        corners.append(corner)
    return np.array(corners)
