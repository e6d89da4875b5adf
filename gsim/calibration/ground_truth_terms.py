"""What each term of an operator profile is worth against a real run, and the one number of it that is fitted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from gsim.calibration.ground_truth import GroundTruth, compare, replay_truth
from gsim.core.errors import InputError
from gsim.latency import OperatorModel, Profile

#: What finished before this time of the run was used for fitting; the rest judges.
FITTED_UNTIL_S = 20.0


def fit_ramp_s(truth: GroundTruth, profile: Profile, until_s: float = FITTED_UNTIL_S) -> float:
    """The ramp of an operator profile with which what finished before ``until_s`` decoded, on average, as it did.

    Bisection between 0 and 10 microseconds; everything after ``until_s`` is left for judging. Raises ``InputError``
    where the profile has no ramp or nothing finished by then.
    """
    latency = profile.latency
    first, last = (truth.requests[name].to_numpy(dtype=np.float64) for name in ("first_token_s", "last_token_s"))
    early = last < until_s
    if not isinstance(latency, OperatorModel) or not early.any():
        raise InputError(
            f"{profile.name}: a ramp is fitted to operator tables, on requests that finished by {until_s} s"
        )
    low, high = 0.0, 10e-6
    for _ in range(12):
        middle = 0.5 * (low + high)
        changed = dataclasses.replace(profile, latency=dataclasses.replace(latency, ramp_s=middle))
        ours = replay_truth(truth, changed)
        error_s = float(np.mean((ours.last_token_s - ours.first_token_s - last + first)[early]))
        low, high = (middle, high) if error_s > 0.0 else (low, middle)
    return 0.5 * (low + high)


def terms(truth: GroundTruth, profile: Profile) -> pd.DataFrame:
    """Difference of the means, percent, with all terms and with one left out: columns term, TTFT, TPOT, E2E.

    The row ``all, judged part`` is over the requests that finished after what the ramp was fitted on.
    """
    latency = profile.latency
    if not isinstance(latency, OperatorModel):
        raise InputError(f"{profile.name}: only operator tables have terms to leave out")
    flat = dataclasses.replace(latency.tables, alpha=np.zeros_like(latency.tables.alpha))
    variants = {
        "all": latency,
        "without skew": dataclasses.replace(latency, tables=flat),
        "without ramp": dataclasses.replace(latency, ramp_s=0.0),
        "without graph padding": dataclasses.replace(latency, capture_sizes=()),
    }
    rows = []
    for name, model in variants.items():
        ours = replay_truth(truth, dataclasses.replace(profile, latency=model))
        rows.append({"term": name, **_means(compare(truth, ours))})
        if name == "all":
            last = truth.requests.last_token_s.to_numpy(dtype=np.float64)
            late = last >= FITTED_UNTIL_S
            if late.any():
                rows.append({"term": "all, judged part", **_means(compare(truth, ours, late))})
    return pd.DataFrame(rows)


def _means(table: pd.DataFrame) -> dict[str, float]:
    means = table[table.statistic == "mean"]
    return dict(zip(means.metric, means.diff_percent, strict=True))
