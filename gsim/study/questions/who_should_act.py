"""Who should act: router, the engine's own order, or the rectifier; alone, and where another one acts already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gsim.core import ConfigError, entries, register
from gsim.metrics import Paired, paired_difference, share_interval, summarise
from gsim.run.cell import request_rows, run
from gsim.run.settings import Settings
from gsim.study.questions.frontier_cases import Changes, changed
from gsim.study.questions.who_should_act_figure import figure
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd

#: The layers, from the pool's door inwards; the first option of each is what everything is measured from.
LAYERS = ("router", "policy", "rectifier")
_OPTIONS = {"router": "router", "policy": "scheduler", "rectifier": "rectifier"}
_SECONDS: Mapping[str, float] = {"code_agent_light": 8.0, "sql_agent": 2.5, "math_agent": 6.0, "tool_agent": 4.0}


@dataclass(frozen=True)
class _Run:
    """One seed of one load under one choice of every layer, as plain values that travel to a worker."""

    load: str
    choice: tuple[str, ...]
    settings: Mapping[str, Any]
    seed: int


@register("study", "who_should_act")
@dataclass(frozen=True)
class WhoShouldAct:
    """What router, engines' queues and rectifier bring, each alone and where the other two act already.

    Every router with every policy of the engines' queues and every rectifier, on the same seeds of several loads.
    """

    routers: tuple[str, ...] = ("least_request", "fastest", "goodserve")
    """Routers; the first is what the others are measured from."""
    policies: tuple[str, ...] = ("fcfs", "edf", "shortest_predicted", "jitserve")
    """Policies of the engines' queues, likewise."""
    rectifiers: tuple[str, ...] = ("none", "risk_monitor")
    """Rectifiers, likewise."""
    rates_per_s: tuple[float, ...] = (48.0, 68.0, 88.0)
    """Loads of single requests of the paper's shape, with objectives of 8 s in the median and 20 s at the 90th
    percentile, whatever their length."""
    singles_s: float = 20.0
    """How long single requests arrive; the first quarter is not counted."""
    agents: tuple[int, ...] = (90, 130, 170)
    """Closed populations of agents."""
    agents_s: float = 80.0
    """How long their load is simulated; the first half is not counted."""

    def __post_init__(self) -> None:
        for layer, asked in self._layers.items():
            known = (*entries(_OPTIONS[layer]), *(("none",) if layer == "rectifier" else ()))
            unknown = [name for name in asked if name not in known]
            if unknown or not asked:
                raise ConfigError(f"{layer}s: {unknown} of {list(asked)}; allowed: one or more of {', '.join(known)}")
        if not self.singles_s > 0 or not self.agents_s > 0 or not self.rates_per_s + self.agents:
            raise ConfigError("singles_s and agents_s must be above 0, and there must be a load")

    @property
    def _layers(self) -> dict[str, tuple[str, ...]]:
        return dict(zip(LAYERS, (self.routers, self.policies, self.rectifiers), strict=True))

    def run(self, context: Context) -> Findings:
        """Every load under every choice, with the same seeds."""
        import pandas as pd

        work = list(self._work(context.settings, context.seeds))
        found = context.map(_measured, work, "runs")
        runs = pd.DataFrame(
            {"load": one.load, **dict(zip(LAYERS, one.choice, strict=True)), "seed": one.seed, **row}
            for one, row in zip(work, found, strict=True)
        )
        table = effects(runs)
        told = [*notes(table), *starved(runs)]
        tables = {"layers": table, "beside": beside(runs), "choices": means(runs), "runs": runs}
        return Findings(tables, {"who_should_act": figure(table)}, told)

    def _work(self, settings: Settings, seeds: tuple[int, ...]) -> Iterator[_Run]:
        for load, changes in self._loads():
            under = changed(settings, changes)
            for router in self.routers:
                for policy in self.policies:
                    for rectifier in self.rectifiers:
                        choice = {"router": {"name": router}, "rectifier": {"name": rectifier}}
                        plain = changed(under, {**choice, "engine": {"policy": policy}}).plain()
                        for seed in seeds:
                            yield _Run(load, (router, policy, rectifier), plain, seed)

    def _loads(self) -> Iterator[tuple[str, Changes]]:
        for rate in self.rates_per_s:
            trace = {"name": "paper", "rate_per_s": rate, "requests": None, "duration_s": self.singles_s}
            # Drawn apart from the length: an objective that grows with it would tell an engine who is short.
            slo = {"name": "drawn", "median_s": 8.0, "p90_s": 20.0}
            yield (
                f"singles {rate:g}/s",
                {"trace": trace, "slo": slo, "warmup_s": self.singles_s / 4, "until_s": None},
            )
        for agents in self.agents:
            slo = {"name": "per_class", "seconds": dict(_SECONDS), "other_s": 6.0}
            yield (
                f"{agents} agents",
                {"trace": {"name": "agents", "agents": agents}, "slo": slo}
                | {"warmup_s": self.agents_s / 2, "until_s": self.agents_s},
            )


def _measured(one: _Run) -> dict[str, float]:
    settings = Settings.read(one.settings)
    result = run(settings, one.seed)
    told = summarise(result.requests, result.sessions, settings.window, settings.objective)
    rows = request_rows(result, settings).to_pandas()
    rows = rows[rows["counted"]]
    wait_s = (rows["first_token_s"] - rows["arrival_s"]).to_numpy()
    # Who never showed a token has waited for as long as one could look.
    wait_s = np.where(np.isnan(wait_s), result.duration_s - rows["arrival_s"].to_numpy(), wait_s)
    classes = rows.groupby("task", observed=True)["good"].mean()
    return {
        "attainment": told["attainment"],
        "goodput_rps": told["goodput_rps"],
        "worst_class_attainment": float(classes.min()),
        "p999_wait_s": float(np.nanquantile(wait_s, 0.999)),
        "longest_wait_s": float(np.nanmax(wait_s)),
        "mean_e2e_s": told["mean_e2el_ms"] / 1e3,
        "preemptions_per_request": told["preemptions"] / max(told["requests"], 1),
        **{f"attainment_{task}": float(share) for task, share in classes.items()},
    }


def _shares(here: pd.DataFrame) -> dict[tuple[str, ...], np.ndarray[Any, Any]]:
    """Attainment by choice, a value per seed in the order of the seeds."""
    ordered = here.sort_values("seed", kind="stable")
    grouped = ordered.groupby(list(LAYERS), sort=False)["attainment"]
    return {tuple(map(str, choice)): own.to_numpy() for choice, own in grouped}


def effects(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per load and option: what it brings alone, and what is left where the best of the other layers act.

    In shares of requests, paired over the seeds. ``alone``: against the first option of its layer, the others at
    theirs. ``left``: the same with the other layers at the options of the best choice of all.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for load, here in runs.groupby("load", sort=False):
        shares = _shares(here)
        base = next(iter(shares))
        best = max(shares, key=lambda choice: float(shares[choice].mean()))
        for i, layer in enumerate(LAYERS):
            for option in dict.fromkeys(here[layer].astype(str)):
                if option == base[i]:
                    continue
                row: dict[str, Any] = {"load": load, "layer": layer, "option": option}
                for name, among in (("alone", base), ("left", best)):
                    mine, others = (_with(among, i, what) for what in (option, base[i]))
                    row |= _told(name, paired_difference(shares[mine], shares[others]))
                rows.append({**row, "best_choice": " + ".join(best), "best_attainment": float(shares[best].mean())})
    return pd.DataFrame(rows)


def beside(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per load, option and choice of the other layers: what it brings there against the first of its layer.

    In shares of requests, paired over the seeds; ``attainment`` is what is reached with it.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for load, here in runs.groupby("load", sort=False):
        shares = _shares(here)
        base = next(iter(shares))
        for choice, own in shares.items():
            for i, layer in enumerate(LAYERS):
                if choice[i] == base[i]:
                    continue
                others = {name: choice[k] for k, name in enumerate(LAYERS) if k != i}
                row: dict[str, Any] = {"load": load, "layer": layer, "option": choice[i], **others}
                gain = paired_difference(own, shares[_with(choice, i, base[i])])
                rows.append({**row, "attainment": float(own.mean()), **_told("gain", gain)})
    return pd.DataFrame(rows)


def _with(choice: tuple[str, ...], i: int, option: str) -> tuple[str, ...]:
    return (*choice[:i], option, *choice[i + 1 :])


def _told(name: str, found: Paired) -> dict[str, float]:
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}


def means(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per load and choice: means over the seeds, attainment with its interval, the longest wait of all seeds."""
    import pandas as pd

    rows = []
    for keys, own in runs.groupby(["load", *LAYERS], sort=False):
        interval = share_interval(own["attainment"].to_numpy())
        row = dict(zip(("load", *LAYERS), keys, strict=True)) | {"attainment": interval.mean}
        row |= {"attainment_low": interval.low, "attainment_high": interval.high}
        rest = own.drop(columns=["load", *LAYERS, "seed", "attainment", "longest_wait_s"]).mean()
        row |= {str(name): float(value) for name, value in rest.items()}
        rows.append(row | {"longest_wait_s": float(own["longest_wait_s"].max())})
    return pd.DataFrame(rows)


def notes(table: pd.DataFrame) -> list[str]:
    """Per load: what every layer's best option brings alone, and what is left of it; then what adds up."""
    said = []
    for load, here in table.groupby("load", sort=False):
        told = []
        for layer in LAYERS:
            own = here[here["layer"] == layer]
            if len(own):
                row = max(own.to_dict("records"), key=lambda record: float(record["alone"]))
                told.append(f"{row['option']} {_points(row, 'alone')}, left {_points(row, 'left')}")
        first = here.iloc[0]
        said.append(
            f"{load}: alone, in points of attainment (and left, where the best of the others act): {'; '.join(told)}. "
            f"Best of all: {first['best_choice']}, {100 * first['best_attainment']:.1f} %"
        )
    return said


def _points(row: Any, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    between = "" if np.isnan(low) else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * row[name]:+.1f}{between}"


def starved(runs: pd.DataFrame) -> list[str]:
    """Per policy of the queue: the worst class and the longest waits, over all loads, routers and rectifiers."""
    said = []
    for policy, own in runs.groupby("policy", sort=False):
        records = own.to_dict("records")
        worst = min(records, key=lambda record: float(record["worst_class_attainment"]))
        longest = max(records, key=lambda record: float(record["p999_wait_s"]))
        said.append(
            f"{policy}: mean p99.9 wait for a first token {own['p999_wait_s'].mean():.1f} s, at most "
            f"{longest['p999_wait_s']:.1f} s ({longest['load']}, {longest['router']}); worst class "
            f"{100 * own['worst_class_attainment'].mean():.0f} % in time on average, "
            f"{100 * worst['worst_class_attainment']:.0f} % at worst ({worst['load']}, {worst['router']})"
        )
    return said
