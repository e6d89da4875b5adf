"""Which router wins where: all of them on many loads, pools, objectives and errors, paired."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.core import ConfigError, entries, register
from gsim.metrics import paired_difference, share_interval, summarise
from gsim.run.cell import request_rows, run
from gsim.run.settings import Settings
from gsim.study.questions.frontier_cases import CASES, VARIANTS, changed, with_policy_named
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Beyond so many points behind a cell's colour stays the same.
_DARKEST = 30.0


@dataclass(frozen=True)
class _Run:
    """One seed of one case under one policy, as plain values that travel to a worker."""

    case: str
    policy: str
    settings: Mapping[str, Any]
    seed: int


@register("study", "frontier")
@dataclass(frozen=True)
class Frontier:
    """Attainment of every policy in every case, and how far each is behind the best one there, seed by seed."""

    policies: tuple[str, ...] = (
        *("marginal", "GoodServe", "sacrifice", "sacrifice, hope 0", "goodserve_prefix", "fastest", "hexgen_alpha"),
        *("slo_headroom", "weighted_jsq", "least_load", "cache_aware", "kv_cost", "lmetric", "least_request"),
    )
    """Routers, or GoodServe (with its monitor), ``sacrifice`` and ``sacrifice, hope 0`` (what becomes of the lost);
    ``marginal`` comes with the estimator that learns from computed tokens."""
    cases: tuple[str, ...] = ()
    """Cases of gsim/study/questions/frontier_cases.py by name; empty: all of them."""

    def __post_init__(self) -> None:
        known = (*VARIANTS, *entries("router"))
        for asked, allowed, what in ((self.policies, known, "policies"), (self.cases, tuple(CASES), "cases")):
            unknown = [name for name in asked if name not in allowed]
            if unknown:
                raise ConfigError(f"{what}: '{unknown[0]}' is unknown; allowed: {', '.join(allowed)}")
        if len(self.policies) < 2:
            raise ConfigError(f"policies must be two or more to compare, not {list(self.policies)}")

    def run(self, context: Context) -> Findings:
        """Every case under every policy, with the same seeds."""
        import pandas as pd

        work = list(self._work(context))
        found = context.map(_measured, work, "runs")
        runs = pd.DataFrame(
            {"case": one.case, "policy": one.policy, "seed": one.seed, **row}
            for one, row in zip(work, found, strict=True)
        )
        table = compared(runs)
        return Findings({"frontier": table, "runs": runs}, {"frontier": figure(table)}, notes(table))

    def _work(self, context: Context) -> Iterator[_Run]:
        for case in self.cases or CASES:
            base = changed(context.settings, CASES[case])
            for policy in self.policies:
                plain = with_policy_named(base, policy).plain()
                for seed in context.seeds:
                    yield _Run(case, policy, plain, seed)


def _measured(one: _Run) -> dict[str, float]:
    settings = Settings.read(one.settings)
    result = run(settings, one.seed)
    told = summarise(result.requests, result.sessions, settings.window, settings.objective)
    rows = request_rows(result, settings).to_pandas()
    rows = rows[rows["counted"]]
    return {
        "attainment": told["attainment"],
        "goodput_rps": told["goodput_rps"],
        "session_attainment": told.get("session_attainment", float("nan")),
        "worst_class_attainment": float(rows.groupby("task", observed=True)["good"].mean().min()),
        "p50_e2e_s": float(rows["e2e_s"].median()),
        "longest_e2e_s": float(rows["e2e_s"].max()),
        "not_served": float((rows["status"] != "finished").mean()),
    }


def compared(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per case and policy: means over the seeds, and the paired distance to the best policy of the case.

    ``behind`` is in shares of requests; ``at_the_front``: the interval of the distance holds 0, or it is the best.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for case, here in runs.groupby("case", sort=False):
        shares = {str(policy): own.sort_values("seed") for policy, own in here.groupby("policy", sort=False)}
        best = max(shares, key=lambda policy: float(shares[policy]["attainment"].mean()))
        for policy, own in shares.items():
            attainment = own["attainment"].to_numpy()
            behind = paired_difference(shares[best]["attainment"].to_numpy(), attainment)
            interval = share_interval(attainment)
            means = own.drop(columns=["case", "policy", "seed", "attainment", "longest_e2e_s"]).mean()
            rows.append(
                {"case": case, "policy": policy, "attainment": interval.mean}
                | {"attainment_low": interval.low, "attainment_high": interval.high}
                | {"behind": behind.mean, "behind_low": behind.low, "behind_high": behind.high}
                | {"at_the_front": policy == best or not behind.low > 0.0}
                | {str(name): float(value) for name, value in means.items()}
                | {"longest_e2e_s": float(own["longest_e2e_s"].max())}
            )
    return pd.DataFrame(rows)


def ranking(table: pd.DataFrame) -> pd.DataFrame:
    """A row per policy, the least behind on average first: cases at the front, mean and largest distance."""
    by_policy = table.groupby("policy", sort=False)
    found = by_policy.agg(front=("at_the_front", "sum"), mean=("behind", "mean"), most=("behind", "max"))
    return found.sort_values("mean")


def notes(table: pd.DataFrame) -> list[str]:
    """Who is at the front how often, who never is, and where the first is not."""
    order = ranking(table)
    cases = table["case"].nunique()
    said = [
        f"{policy}: at the front in {int(row['front'])} of {cases} cases, {100 * row['mean']:.1f} points behind on "
        f"average, {100 * row['most']:.1f} at most"
        for policy, row in order.iterrows()
    ]
    never = [str(policy) for policy, row in order.iterrows() if row["front"] == 0]
    if never:
        said.append(f"never at the front: {', '.join(never)}")
    first = str(order.index[0])
    lost = table[(table["policy"] == first) & ~table["at_the_front"]]
    for row in lost.to_dict("records"):
        winner = table[(table["case"] == row["case"]) & (table["behind"] == 0.0)]["policy"].iloc[0]
        said.append(
            f"{first} is not at the front in '{row['case']}': {100 * row['behind']:.1f} points "
            f"({100 * row['behind_low']:.1f} to {100 * row['behind_high']:.1f}) behind {winner}"
        )
    return said


def figure(table: pd.DataFrame) -> Figure:
    """A line per policy and a column per case: points behind the best, bold where it is at the front."""
    from gsim.study.figure import house_style, new_figure

    order = [str(policy) for policy in ranking(table).index]
    cases = list(dict.fromkeys(table["case"]))
    behind = 100.0 * table.pivot(index="policy", columns="case", values="behind").loc[order, cases].to_numpy()
    front = table.pivot(index="policy", columns="case", values="at_the_front").loc[order, cases].to_numpy()
    with house_style():
        drawn, (axis,) = new_figure(width=1.6 + 0.42 * len(cases), height=1.7 + 0.24 * len(order))
        axis.imshow(np.minimum(behind, _DARKEST), cmap="Greys", vmin=0.0, vmax=1.6 * _DARKEST, aspect="auto")
        for (i, j), points in np.ndenumerate(behind):
            weight = "bold" if front[i, j] else "normal"
            axis.text(j, i, f"{points:.1f}", ha="center", va="center", fontsize=6.5, fontweight=weight)
        axis.set_xticks(range(len(cases)), cases, rotation=40, ha="right", rotation_mode="anchor", fontsize=7)
        axis.set_yticks(range(len(order)), order, fontsize=7)
        axis.tick_params(length=0)
        axis.grid(visible=False)
        axis.set_title("Points of attainment behind the best router (bold: not to be told from it)", loc="left")
    return drawn
