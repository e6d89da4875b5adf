"""Which router wins where: all of them on many loads, pools, objectives and errors, paired."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.core import ConfigError, register
from gsim.metrics import paired_difference, share_interval
from gsim.run.settings import Settings
from gsim.run.shelf import Shelf
from gsim.study.dry_run import duration, timed
from gsim.study.questions.frontier_cases import CASES, changed, check_policies, in_quotes, with_policy_named
from gsim.study.run_numbers import OF_CLASS, RunNumbers
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Beyond so many points behind a cell's colour stays the same.
_DARKEST = 30.0
#: What a policy's row has beside its attainment: means over the seeds.
_MEANS = ("goodput_rps", "session_attainment", "worst_class_attainment", "p50_e2e_s", "not_served")


#: Folder of what was measured, in the results.
_MEASURED = "measured"


@dataclass(frozen=True)
class _Load:
    """One seed of one case under all policies, as plain values that travel to a worker."""

    case: str
    seed: int
    settings: Mapping[str, Mapping[str, Any]]
    """By policy."""
    folder: Path


@register("study", "frontier")
@dataclass(frozen=True)
class Frontier:
    """Attainment of every policy in every case, and how far each is behind the best one there, seed by seed."""

    policies: tuple[str, ...] = (
        *("marginal", "GoodServe", "sacrifice", "sacrifice, hope 0", "goodserve_prefix", "fastest", "hexgen_alpha"),
        *("slo_headroom", "weighted_jsq", "least_load", "cache_aware", "kv_cost", "lmetric", "least_request"),
        *("block", "route_balance", "lodestar", "hexagent"),
    )
    """Routers, or GoodServe (with its monitor), ``sacrifice`` and ``sacrifice, hope 0`` (what becomes of the lost);
    ``marginal`` comes with the estimator that learns from computed tokens. The first is set against each of the others
    (table ``pairs``)."""
    cases: tuple[str, ...] = ()
    """Cases of gsim/study/questions/frontier_cases.py by name; empty: all of them."""

    def __post_init__(self) -> None:
        check_policies(self.policies)
        unknown = [name for name in self.cases if name not in CASES]
        if unknown:
            raise ConfigError(f"cases: '{unknown[0]}' is unknown; allowed: {in_quotes(CASES)}")
        if len(self.policies) < 2:
            raise ConfigError(f"policies must be two or more to compare, not {list(self.policies)}")

    def run(self, context: Context) -> Findings:
        """Every case under every policy, with the same seeds."""
        import pandas as pd

        found = context.map(_measured, list(self._loads(context)), "cases and seeds")
        runs = pd.DataFrame(row for rows in found for row in rows)
        table = compared(runs)
        against = pairs(runs, self.policies[0])
        tables = {"frontier": table, "pairs": against, "classes": by_class(runs), "runs": runs}
        return Findings(tables, {"frontier": figure(table)}, [*notes(table), *losses(against, self.policies[0])])

    def forecast(self, context: Context) -> str:
        """How many runs there are and about how long they take: the first policy, at a few of the cases."""
        loads = list(self._loads(context))
        probes = [loads[0], loads[len(loads) // 2], loads[-1]]
        run_s = timed([(Settings.read(load.settings[self.policies[0]]), load.seed) for load in probes])
        runs = len(loads) * len(self.policies)
        return (
            f"{runs} runs: {len(self.cases or CASES)} cases, {len(self.policies)} policies, {len(context.seeds)} seeds "
            f"(less what {context.out / _MEASURED} has): {duration(run_s, runs)}"
        )

    def _loads(self, context: Context) -> Iterator[_Load]:
        for case in self.cases or CASES:
            base = changed(context.settings, CASES[case])
            settings = {policy: with_policy_named(base, policy).plain() for policy in self.policies}
            for seed in context.seeds:
                yield _Load(case, seed, settings, context.out)


def _measured(load: _Load) -> list[dict[str, Any]]:
    numbers, shelf = RunNumbers(load.folder / _MEASURED), Shelf()
    return [
        {"case": load.case, "policy": policy, "seed": load.seed} | numbers.of(Settings.read(settings), load.seed, shelf)
        for policy, settings in load.settings.items()
    ]


def compared(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per case and policy: means over the seeds, and the paired distance to the best policy of the case.

    ``behind`` is in shares of requests; ``at_the_front``: the interval of the distance holds 0, or it is the best
    (missing for all but the best where there is one seed, which has no interval).
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
            means = own[list(_MEANS)].mean()
            rows.append(
                {"case": case, "policy": policy, "attainment": interval.mean}
                | {"attainment_low": interval.low, "attainment_high": interval.high}
                | {"behind": behind.mean, "behind_low": behind.low, "behind_high": behind.high}
                | {"at_the_front": policy == best or (None if math.isnan(behind.low) else behind.low <= 0.0)}
                | {str(name): float(value) for name, value in means.items()}
                | {"longest_e2e_s": float(own["longest_e2e_s"].max())}
            )
    return pd.DataFrame(rows).astype({"at_the_front": "boolean"})


def pairs(runs: pd.DataFrame, first: str) -> pd.DataFrame:
    """A row per case and other policy: how far ``first`` is ahead of it, in shares of requests and good requests/s."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for case, here in runs.groupby("case", sort=False):
        by_policy = {str(policy): own.sort_values("seed") for policy, own in here.groupby("policy", sort=False)}
        for policy, own in by_policy.items():
            if policy == first:
                continue
            row: dict[str, Any] = {"case": case, "policy": policy}
            for column, name in (("attainment", "ahead"), ("goodput_rps", "goodput_ahead")):
                found = paired_difference(by_policy[first][column].to_numpy(), own[column].to_numpy())
                row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
            rows.append(row)
    return pd.DataFrame(rows)


def losses(against: pd.DataFrame, first: str) -> list[str]:
    """Where ``first`` has less in time than another one, beyond the paired interval; a line per case."""
    if against["ahead_high"].isna().all():
        return []  # one seed has no interval
    said = []
    for case, here in against[against["ahead_high"] < 0.0].groupby("case", sort=False):
        told = [
            f"{row['policy']} ({-100 * row['ahead']:.1f} points, {-100 * row['ahead_high']:.1f} to "
            f"{-100 * row['ahead_low']:.1f})"
            for row in here.sort_values("ahead").to_dict("records")
        ]
        said.append(f"{first} is behind in '{case}': {', '.join(told)}")
    return said or [f"{first} is behind nobody anywhere, beyond the paired interval"]


def by_class(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per case, policy and task class: mean attainment over the seeds, and the interval of that mean."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for (case, policy), own in runs.groupby(["case", "policy"], sort=False):
        for column in (name for name in own if str(name).startswith(OF_CLASS)):
            shares = own[column].dropna().to_numpy()
            if len(shares):
                interval = share_interval(shares)
                rows.append(
                    {"case": case, "policy": policy, "task": str(column).removeprefix(OF_CLASS)}
                    | {"attainment": interval.mean, "low": interval.low, "high": interval.high}
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
    if table["at_the_front"].isna().any():
        return [
            *(
                f"{policy}: {100 * row['mean']:.1f} points behind the best on average, {100 * row['most']:.1f} at most"
                for policy, row in order.iterrows()
            ),
            "who is ahead cannot be said: one seed has no interval; three or more do",
        ]
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
    front = (
        table.pivot(index="policy", columns="case", values="at_the_front").loc[order, cases].fillna(False).to_numpy()
    )
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
        bold = "one seed: no interval" if table["at_the_front"].isna().any() else "bold: not to be told from it"
        apart = " " if len(cases) > 6 else "\n"
        axis.set_title(f"Points of attainment behind{apart}the best router{apart}({bold})", loc="left")
    return drawn
