"""A profile held against ``vllm bench serve`` results of a live server: the first two fit, the others judge.

Two numbers are fitted: a factor on every iteration, from the mean TPOT of the two, and what a request spends outside
the engine (HTTP, tokenizer, detokenizer), from their TTFT. A factor per deployment is what carries over between loads;
one constant per card does not carry over between models (docs/profiles.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq

from gsim.core.errors import ConfigError, InputError
from gsim.core.protocols import LatencyModel
from gsim.latency import Profile
from gsim.validation.ground_truth import GroundTruth, compare, read_ground_truth, replay_truth
from gsim.validation.pipelined import Replay
from gsim.validation.scaled import Scaled

#: Results that fit; whatever comes after them judges.
FITTED = 2
#: A factor outside is no inaccuracy of a profile: the server runs something else.
FACTORS = (0.8, 1.35)
#: Where the factor is looked for.
_WIDEST = (0.2, 5.0)
#: Fewer requests than this make no mean.
_LEAST = 10


@dataclass(frozen=True)
class ProfileCheck:
    """What was fitted, and every figure before and after."""

    factor: float
    """On every iteration."""
    api_s: float
    """Seconds that a request spends outside the engine; ``pool.api_s`` takes it."""
    table: pd.DataFrame
    """Columns bench, used (fitted, judged), metric, statistic, real, plain, simulated (ms), plain_percent, percent."""
    cut: bool = False
    """The constant would have been below 0: it is 0."""

    def __str__(self) -> str:
        said = f"iterations x{self.factor:.3f}, {1e3 * self.api_s:.1f} ms a request outside the engine (pool.api_s)"
        if self.cut:
            said += "; less than 0 would fit better: the profile's prefill is slow"
        lines = [said, "", f"{'':<34}{'real':>10}{'profile':>18}{'fitted':>18}"]
        means = self.table[self.table.statistic.isin(["mean", "p99"])]
        for row in means.to_dict("records"):
            what = f"{row['bench']} ({row['used']}) {row['metric']} {row['statistic']}"
            pairs = ((row["plain"], row["plain_percent"]), (row["simulated"], row["percent"]))
            cells = "".join(f"{value:>9.2f} {percent:>+6.1f} %" for value, percent in pairs)
            lines.append(f"{what:<34}{row['real']:>10.2f}{cells}")
        return "\n".join(lines)


def check_profile(profile: Profile, benches: Sequence[str | Path]) -> ProfileCheck:
    """Fit on the first two results, judge by the others.

    Raises ``ConfigError`` where there are not enough results, ``InputError`` where a result cannot be used, and where
    the factor would be outside ``FACTORS``.
    """
    paths = [Path(bench) for bench in benches]
    if len(paths) <= FITTED:
        raise ConfigError(f"bench must name {FITTED + 1} results or more (two fit, the others judge), not {len(paths)}")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError("bench names a result twice: one that was fitted to cannot judge")
    truths = [_read(path) for path in paths]
    plain = [compare(truth, _replay(truth, profile, 1.0)) for truth in truths]
    factor = _factor(profile, truths[:FITTED])
    if not FACTORS[0] <= factor <= FACTORS[1]:
        raise InputError(
            f"iterations would have to take {factor:.2f} times what profile '{profile.name}' says, and "
            f"{FACTORS[0]:g} to {FACTORS[1]:g} are allowed: the server of {paths[0]} and {paths[1]} runs another "
            "model, card, number of cards, dtype or engine than the profile; nothing was fitted"
        )
    replays = [_replay(truth, profile, factor) for truth in truths]
    early = list(zip(truths, replays, strict=True))[:FITTED]
    outside_s = float(np.median(np.concatenate([_missing_s(truth, made) for truth, made in early])))
    api_s = max(outside_s, 0.0)
    fitted = [compare(truth, _later(made, api_s)) for truth, made in zip(truths, replays, strict=True)]
    tables = [
        _merged(path, "fitted" if i < FITTED else "judged", before, after)
        for i, (path, before, after) in enumerate(zip(paths, plain, fitted, strict=True))
    ]
    return ProfileCheck(factor, api_s, pd.concat(tables, ignore_index=True), outside_s < 0.0)


def _read(path: Path) -> GroundTruth:
    if path.suffix != ".json":
        raise InputError(f"{path}: must be a JSON file of vllm bench serve --save-result --save-detailed")
    truth = read_ground_truth(path)
    requests = truth.requests
    if len(requests) < _LEAST:
        raise InputError(f"{path}: holds {len(requests)} requests; {_LEAST} or more say something")
    if not (requests.output_tokens > 1).any():
        raise InputError(f"{path}: every answer has one token, so no time per output token can be fitted")
    return truth


def _replay(truth: GroundTruth, profile: Profile, factor: float) -> Replay:
    latency: LatencyModel = profile.latency if factor == 1.0 else Scaled(profile.latency, factor)
    try:
        return replay_truth(truth, replace(profile, latency=latency))
    except InputError as error:
        raise InputError(f"{truth.folder}: {error} (profile '{profile.name}')") from None


def _factor(profile: Profile, truths: Sequence[GroundTruth]) -> float:
    """The factor with which the mean logarithm of TPOT, simulated over real, is 0."""

    def off(logarithm: float) -> float:
        ratios = []
        for truth in truths:
            table = compare(truth, _replay(truth, profile, math.exp(logarithm)))
            row = table[(table.metric == "TPOT") & (table.statistic == "mean")].iloc[0]
            ratios.append(math.log(row["simulated"] / row["real"]))
        return sum(ratios) / len(ratios)

    low, high = (math.log(edge) for edge in _WIDEST)
    at_low, at_high = off(low), off(high)
    if at_low > 0.0 or at_high < 0.0:
        return _WIDEST[0] if at_low > 0.0 else _WIDEST[1]
    return math.exp(float(brentq(off, low, high, xtol=1e-4)))


def _missing_s(truth: GroundTruth, simulated: Replay) -> NDArray[np.float64]:
    """How much longer each request waited for its first token than in the replay."""
    missing: NDArray[np.float64] = truth.requests.first_token_s.to_numpy(dtype=np.float64) - simulated.first_token_s
    return missing


def _later(simulated: Replay, by_s: float) -> Replay:
    """Every request reaches the engine so much later, in the same order: so everything does."""
    return replace(simulated, first_token_s=simulated.first_token_s + by_s, last_token_s=simulated.last_token_s + by_s)


def _merged(path: Path, used: str, before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    table = before.rename(columns={"simulated": "plain", "diff_percent": "plain_percent"})
    table["simulated"], table["percent"] = after["simulated"], after["diff_percent"]
    table.insert(0, "bench", path.name)
    table.insert(1, "used", used)
    return table
