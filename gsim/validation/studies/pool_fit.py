"""A profile from the first minute of a recorded pool."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from gsim.core import ConfigError, InputError, register
from gsim.study.study import Context, Findings


@dataclass(frozen=True)
class _Task:
    ground_truth: str
    profile: str
    budget: int
    kv_factor: float
    evaluations: int


@register("study", "pool_fit")
@dataclass(frozen=True)
class PoolFitStudy:
    """Fit a parametric profile and what gateway and server add to a request to the first minute of a timed run.

    Token budgets are fitted one by one: which one the engines had is not recorded, so the least distance says.
    """

    ground_truth: str = "???"
    """Folder with a timed-*.csv file (``gsim/validation/pool/truth.py`` has the format)."""
    profile: str = "l20-llama-3.1-8b"
    """A parametric profile: its card, model, limits and weights count, its fitted coefficients do not."""
    budgets: tuple[int, ...] = (512, 1024, 2048, 4096)
    """``max_num_batched_tokens`` to be tried."""
    kv_factors: tuple[float, ...] = (1.0,)
    """What reading the KV of decodes costs beside a chunk, over what it costs alone (``mixed.kv_factor`` of a profile),
    to be tried; 1: nothing more."""
    evaluations: int = 800
    """Replays of that minute per budget and factor, at most (a fifth of a second each)."""

    def __post_init__(self) -> None:
        if not self.budgets or min(self.budgets) < 256:
            raise ConfigError(f"budgets must hold token budgets of 256 or more, not {list(self.budgets)}")
        if not self.kv_factors or not all(1.0 <= factor < inf for factor in self.kv_factors):
            raise ConfigError(f"kv_factors must hold numbers of 1 or more, not {list(self.kv_factors)}")
        if self.evaluations < 10:
            raise ConfigError(f"evaluations must be 10 or more, not {self.evaluations}")

    def run(self, context: Context) -> Findings:
        """One fit per token budget and factor."""
        import pandas as pd

        tasks = [
            _Task(self.ground_truth, self.profile, budget, kv_factor, self.evaluations)
            for budget in self.budgets
            for kv_factor in self.kv_factors
        ]
        table = pd.DataFrame(context.map(_fit, tasks, "fits"))
        best = min(table.to_dict("records"), key=lambda row: float(row["distance"]))
        note = (
            f"least distance with {int(best['max_num_batched_tokens'])} batched tokens and KV x{best['kv_factor']:g} "
            f"beside a chunk: TTFT and TPOT are off by {100 * best['distance']:.1f} % in the mean of "
            f"{int(best['requests'])} requests"
        )
        return Findings({"pool_fit": table}, notes=[note])


def _fit(task: _Task) -> dict[str, float]:
    import numpy as np

    from gsim.engine import EngineConfig
    from gsim.latency import MixedCost, SoftRoofline, load_profile
    from gsim.validation.pool.fit import first_part, fit_pool
    from gsim.validation.pool.groups import recover_groups
    from gsim.validation.pool.truth import read_pool

    timed = read_pool(task.ground_truth).timed
    if not timed:
        raise InputError(f"{task.ground_truth}: holds no timed-*.csv, which a fit needs")
    # Groups of that minute alone: nothing later is looked at.
    run = first_part(timed[0])
    contents = recover_groups([run], np.random.default_rng(0)).contents(run)
    engine = EngineConfig(max_num_batched_tokens=task.budget)
    start = load_profile(task.profile)
    if not isinstance(start.latency, SoftRoofline):
        raise InputError(f"profile={task.profile}: a parametric profile is needed, it has coefficients to be fitted")
    start = replace(start, latency=replace(start.latency, mixed=MixedCost(task.kv_factor)))
    fit = fit_pool(run, contents, start, engine, task.evaluations)
    row: dict[str, float] = {
        "max_num_batched_tokens": task.budget,
        "kv_factor": task.kv_factor,
        "distance": fit.distance,
        "requests": fit.requests,
    }
    for name, value in fit.values.items():
        if name.endswith("_s"):
            row[name.removesuffix("_s") + "_ms"] = 1e3 * value
        else:
            row[name] = value
    return row
