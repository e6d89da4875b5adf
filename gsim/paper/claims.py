"""What the paper claims, and what the results say to it: seen here, not seen here, or left open, with the numbers.

Every verdict follows from results folders by a rule that its claim states, and is about the set-up that was run: the
paper's own is not public. A number counts as reached only with its whole interval. Left open is what the paper gives no
number for, what was not run, or what the intervals do not decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from gsim.metrics import paired_difference
from gsim.paper.gains import GOODSERVE, STILL, Gain, by_policy, gains, largest, least
from gsim.report.loading import Results, load
from gsim.report.wording import known, level, place

PUBLISHED_GAIN = 0.274
"""The abstract: "up to 27.4 % higher goodput than existing routing methods"."""
_CONTROLS = ("random", "always_first")
_KNOWS_ALL = ("Plan", "ilp_rolling")


class Verdict(Enum):
    """What became of a claim."""

    SEEN = "seen here"
    NOT_SEEN = "not seen here"
    OPEN = "left open"


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, judged."""

    where: str
    """Figure, equation or part of the system."""
    experiment: str
    claim: str
    verdict: Verdict
    found: str


@dataclass(frozen=True)
class _Judge:
    where: str
    experiment: str
    claim: str
    """Without results; a judge may say it more exactly, one claim for each case."""
    judge: Callable[[Path], Iterator[tuple[str, Verdict, str]]]


def claims(results: Mapping[str, Path]) -> list[Claim]:
    """All claims, judged by the results folders of the experiments (those that are not there were not run)."""
    found = []
    for asked in _JUDGES:
        folder = results.get(asked.experiment)
        told = list(asked.judge(folder)) if folder is not None else []
        told = told or [(asked.claim, Verdict.OPEN, "not run here")]
        found += [Claim(asked.where, asked.experiment, *one) for one in told]
    return found


def _truth(holds: bool) -> Verdict:
    return Verdict.SEEN if holds else Verdict.NOT_SEEN


def _table(folder: Path, name: str) -> Any:
    import pandas as pd

    return pd.read_csv(folder / f"{name}.csv")


#: A fall of latency from one batch size to the next larger one that is a profile's, not a GPU's.
_LARGEST_DIP = 0.02


def _latency(folder: Path) -> Iterator[tuple[str, Verdict, str]]:
    curves = _table(folder, "latency_vs_batch").pivot(index="batch", columns="gpu", values="mean_e2el_ms")
    last = curves.iloc[-1]
    growth = last / curves.iloc[0]
    multiple = float(last.max() / last.min())
    # Between two batch sizes a kernel may change for a better one: profiles dip by a percent there.
    falls = float((1.0 - curves / curves.shift()).max().max())
    holds = multiple >= 2 and falls <= _LARGEST_DIP
    found = (
        f"at batch {curves.index[-1]} {last.idxmax()} takes {multiple:.1f} times as long as {last.idxmin()}; from "
        f"batch {curves.index[0]} on latency grows {growth.min():.1f} to {growth.max():.1f} times (between two batch "
        f"sizes it falls by at most {max(falls, 0.0):.1%})"
    )
    yield (
        "inference latency differs between GPUs by a multiple (2 or more), and grows with the batch",
        _truth(holds),
        found,
    )


def _fall_short(folder: Path) -> Iterator[tuple[str, Verdict, str]]:
    """Against the plan, which knows everything: does even the best existing router have less goodput?"""
    results = load(folder)
    for point in _points(results):
        here = {cell.label: cell.metric("goodput_rps") for cell in results.cells if known(cell.point) == known(point)}
        plan = here.get("Plan")
        existing = {
            label: values
            for label, values in here.items()
            if not label.startswith(GOODSERVE) and label not in (*_KNOWS_ALL, *_CONTROLS)
        }
        claim = f"existing strategies fall short of a better assignment, at {place([point])}"
        if plan is None or not existing:
            yield claim, Verdict.OPEN, "no plan was computed"
            continue
        ranked = sorted(existing, key=lambda label: float(existing[label].mean()))
        best, worst = ranked[-1], ranked[0]
        lost = paired_difference(plan, existing[best])
        base = float(plan.mean())
        between = "" if np.isnan(lost.low) else f" [{lost.low / base:.1%}, {lost.high / base:.1%}]"
        found = (
            f"{best} serves {lost.mean / base:.1%} less than the plan{between}, "
            f"{worst} {1 - existing[worst].mean() / base:.0%} less"
        )
        if GOODSERVE in here:
            found += f"; GoodServe {1 - here[GOODSERVE].mean() / base:.1%} less"
        yield claim, Verdict.OPEN if np.isnan(lost.low) else _truth(lost.low > 0), found


def _points(results: Results) -> list[Any]:
    points: list[Any] = []
    for cell in results.cells:
        if known(cell.point) not in points:
            points.append(known(cell.point))
    return points


def _predictor(folder: Path) -> Iterator[tuple[str, Verdict, str]]:
    table = _table(folder, "results")
    rows = table[table["task"] == "all"].set_index("predictor")
    if "moe" not in rows.index:
        return
    own = rows.loc["moe"]
    found = f"no accuracy is published; here it errs by {own['mae_over_mean']:.1%} of the mean length"
    found += f", {own['within_2x']:.0%} within a factor of 2"
    if "pooled_gbdt" in rows.index:
        found += f" (one pooled model without experts: {rows.loc['pooled_gbdt', 'mae_over_mean']:.1%})"
    yield "a lightweight MoE-style predictor knows output lengths", Verdict.OPEN, found


def _estimates(folder: Path) -> Iterator[tuple[str, Verdict, str]]:
    table = _table(folder, "results")
    table = table[table["phase"] == "all"].set_index(["estimator", "quantity"])["mae_over_mean"]
    names = list(dict.fromkeys(table.index.get_level_values(0)))
    own = "alpha 0.2" if "alpha 0.2" in names else names[0]
    control = next((name for name in names if name.startswith("nominal")), None)
    if control is None:
        return
    for quantity in dict.fromkeys(table.index.get_level_values(1)):
        error, other = float(table[own, quantity]), float(table[control, quantity])
        name = str(quantity).removesuffix("_s").upper()
        claim = f"EMA estimates follow {name} (less than half the error of nominal speeds)"
        yield claim, _truth(error < 0.5 * other), f"off by {error:.1%} of the mean, nominal speeds by {other:.1%}"


def _goodput(folder: Path) -> Iterator[tuple[str, Verdict, str]]:
    """Over each existing method: is the largest gain 27.4 % or more?"""
    for policy, found in by_policy(gains(load(folder))).items():
        if policy in (STILL, *_CONTROLS, *_KNOWS_ALL):
            continue
        best = largest(found)
        if best.low >= PUBLISHED_GAIN:
            verdict = Verdict.SEEN
        else:
            verdict = Verdict.NOT_SEEN if best.high < PUBLISHED_GAIN else Verdict.OPEN
        yield f"up to {PUBLISHED_GAIN:.1%} more goodput than {policy}", verdict, f"largest {best}; least {least(found)}"


def _regret(folder: Path) -> Iterator[tuple[str, Verdict, str]]:
    told = []
    for cell in load(folder).cells:
        if cell.label == GOODSERVE:
            lost = cell.metric("regret_to_bound") / cell.metric("upper_bound")
            if np.isfinite(lost).all():
                told.append(f"{float(lost.mean()):.1%} at {level(next(iter(cell.point.values()), 'all'))}")
    if told:
        found = f"not published; goodput below the upper bound by {', '.join(told)} requests/s"
        yield "the heuristic comes close to the integer program", Verdict.OPEN, found


def _rectify(folder: Path) -> Iterator[tuple[str, Verdict, str]]:
    found = by_policy(gains(load(folder))).get(STILL)
    if not found:
        return
    more, less = (_significant(found, sign) for sign in (1, -1))
    told = f"largest {largest(found)}; significantly more at {len(more)} of {len(found)} points, less at {len(less)}"
    yield "migrating requests at risk raises goodput", _truth(bool(more) and len(more) > len(less)), told


def _significant(found: list[Gain], sign: int) -> list[Gain]:
    return [gain for gain in found if gain.significant and gain.share * sign > 0]


def _migration(folder: Path) -> Iterator[tuple[str, Verdict, str]]:
    table = _table(folder, "migration_latency")
    idle = table[table["background_rps"] == table["background_rps"].min()]
    means = idle.groupby(["link", "mechanism"], sort=False)["to_target_ms"].mean().unstack()
    if not {"token_ids", "kv_copy"} <= set(means.columns):
        return
    for link, row in means.iterrows():
        claim = f"moving token ids is faster than copying the KV cache, over {link}"
        found = f"decision to next token {row['token_ids']:.0f} ms by token ids, {row['kv_copy']:.0f} ms by KV copy"
        yield claim, _truth(row["token_ids"] < row["kv_copy"]), f"{found} (mean of pairs and contexts)"


def _one_router(folder: Path) -> Iterator[tuple[str, Verdict, str]]:
    table = _table(folder, "router_scalability")
    rows = table[table["policy"].str.startswith("goodserve")]
    if rows.empty:
        return
    row = rows.sort_values(["instances", "rate_per_s", "router_core_share"]).iloc[-1]
    asked = row["instances"] >= 512 and row["rate_per_s"] >= 10_000
    holds = row["router_core_share"] < 1 and row["decision_p99_us"] < 1e6 / row["rate_per_s"]
    found = (
        f"{row['policy']} at {row['instances']} instances and {row['rate_per_s']:,.0f} requests/s: a decision takes "
        f"{row['decision_p50_us']:.0f} us, p99 {row['decision_p99_us']:.0f} us; all its work "
        f"{row['router_core_share']:.0%} of one core"
    )
    yield (
        "one router carries 512 instances at 10,000 requests/s",
        _truth(holds) if asked else Verdict.OPEN,
        found,
    )


_JUDGES = (
    _Judge("Fig. 1", "latency_vs_batch", "inference latency differs between GPUs and grows with the batch", _latency),
    _Judge("Fig. 2", "routing_strategies", "existing strategies fall short of a better assignment", _fall_short),
    _Judge("Fig. 4", "predictor_accuracy", "a lightweight MoE-style predictor knows output lengths", _predictor),
    _Judge("Fig. 5", "ema_estimation", "EMA estimates follow queueing time and TPOT", _estimates),
    _Judge(
        "Fig. 6", "goodput_vs_rps_paper", "up to 27.4% more goodput than existing methods (single requests)", _goodput
    ),
    _Judge("Fig. 6", "goodput_vs_rps", "up to 27.4% more goodput than existing methods (agentic mix)", _goodput),
    _Judge("Eq. 1", "goodput_vs_rps_paper", "the heuristic comes close to the integer program", _regret),
    _Judge("Rectify", "goodput_vs_rps_paper", "migrating requests at risk raises goodput", _rectify),
    _Judge("Rectify", "burst", "migrating requests at risk raises goodput", _rectify),
    _Judge("Fig. 9", "migration_latency", "moving token ids is faster than copying the KV cache", _migration),
    _Judge("Fig. 11", "router_scalability", "one router carries 512 instances at 10,000 requests/s", _one_router),
)
