"""What each term of an operator profile is worth against a real run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from gsim.core.errors import InputError
from gsim.latency import OperatorModel, Profile
from gsim.validation.ground_truth import GroundTruth, compare, replay_truth
from gsim.validation.ground_truth_fit import Fit


def terms(truth: GroundTruth, profile: Profile, fit: Fit) -> pd.DataFrame:
    """Difference of the means, percent, with all terms and with one left out: columns term, TTFT, TPOT, E2E.

    ``profile`` is the one that was fitted, uncorrected. The row ``all, held out`` is over the requests of which the fit
    saw nothing. Nothing is fitted anew where a term is left out.
    """
    if not isinstance(profile.latency, OperatorModel):
        raise InputError(f"{profile.name}: only operator tables have terms to leave out")
    corrected = fit.correction.applied(profile)
    latency = corrected.latency
    assert isinstance(latency, OperatorModel)
    flat = dataclasses.replace(latency.tables, alpha=np.zeros_like(latency.tables.alpha))
    variants = {
        "all": corrected,
        "without the fit (plain sum)": profile,
        "without skew": dataclasses.replace(profile, latency=dataclasses.replace(latency, tables=flat)),
        "without graph padding": dataclasses.replace(profile, latency=dataclasses.replace(latency, capture_sizes=())),
    }
    rows = []
    for name, variant in variants.items():
        ours = replay_truth(truth, variant)
        rows.append({"term": name, **_means(compare(truth, ours))})
        if name == "all" and not fit.refused:
            rows.append({"term": "all, held out", **_means(compare(truth, ours, fit.held_out(truth)))})
    if truth.contents:
        alone = replay_truth(dataclasses.replace(truth, contents=()), corrected)
        rows.append({"term": "without shared prompts", **_means(compare(truth, alone))})
    return pd.DataFrame(rows)


def _means(table: pd.DataFrame) -> dict[str, float]:
    means = table[table.statistic == "mean"]
    return dict(zip(means.metric, means.diff_percent, strict=True))
