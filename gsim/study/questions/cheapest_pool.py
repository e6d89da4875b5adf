"""The cheapest pool for a load: which cards to rent."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gsim.core import ConfigError, register
from gsim.latency import Profile, load_profile
from gsim.metrics import mean_interval
from gsim.run.settings import Settings
from gsim.study.rate_search import attainment_at
from gsim.study.study import Context, Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@register("study", "cheapest_pool")
@dataclass(frozen=True)
class CheapestPool:
    """The cheapest pools that keep a share of the SLOs at a given load, by the prices in the profiles."""

    profiles: tuple[str, ...] = ("v100-llama-3.1-8b", "a40-llama-3.1-8b", "a800-llama-3.1-8b", "h800-llama-3.1-8b")
    """The cards on offer."""
    load_rps: float = 70.0
    """The request rate to be served."""
    target: float = 0.95
    """Share of the requests that must meet their SLO: the lower bound of its 95 % interval over seeds must reach it."""
    most_instances: int = 6
    """Pools of at most so many instances are looked at."""
    winners: int = 3
    """Stop after so many pools that hold (pools are tried from the cheapest on)."""

    def __post_init__(self) -> None:
        if not self.profiles:
            raise ConfigError("profiles is empty; name the cards on offer")
        if not self.load_rps > 0:
            raise ConfigError(f"load_rps must be greater than 0, not {self.load_rps}")
        if not 0 < self.target <= 1:
            raise ConfigError(f"target must be in (0, 1], not {self.target}")
        if self.most_instances < 1 or self.winners < 1:
            raise ConfigError("most_instances and winners must be 1 or more")

    def run(self, context: Context) -> Findings:
        """Pools from the cheapest on, a batch at a time, until enough of them hold."""
        import pandas as pd

        if context.settings.scenario().has_roles:
            raise ConfigError(
                "cheapest_pool tries mixtures of `profiles` that serve whole requests, and the pool has roles; compare "
                "splits with a sweep over pool.instances (experiment=disaggregation)"
            )

        pools = self._pools()
        rows: list[dict[str, Any]] = []
        batch = max(4, 2 * abs(context.n_jobs))
        for start in range(0, len(pools), batch):
            asked = pools[start : start + batch]
            work = [(context.settings, pool, seed, self.load_rps) for pool in asked for seed in context.seeds]
            found = context.map(_attainment, work, f"pools {start + 1} to {start + len(asked)} of {len(pools)}")
            rows += [
                self._row(pool, found[i * len(context.seeds) : (i + 1) * len(context.seeds)])
                for i, pool in enumerate(asked)
            ]
            if sum(row["holds"] for row in rows) >= self.winners:
                break
        frame = pd.DataFrame(rows)
        return Findings({"cheapest_pool": frame}, {"cheapest_pool": _figure(frame, self.target)}, self._notes(frame))

    def _pools(self) -> list[tuple[str, ...]]:
        """All mixtures of the cards on offer, cheapest first (of equal price: fewer instances first)."""
        known = {name: load_profile(name) for name in self.profiles}
        mixtures = itertools.chain.from_iterable(
            itertools.combinations_with_replacement(self.profiles, n) for n in range(1, self.most_instances + 1)
        )
        return sorted(mixtures, key=lambda pool: (round(_price(known, pool), 6), len(pool), pool))

    def _row(self, pool: tuple[str, ...], attained: Sequence[float]) -> dict[str, Any]:
        known = {name: load_profile(name) for name in pool}
        mean, low, high = mean_interval(attained)
        return {
            "pool": " + ".join(f"{count} {_told(known[name])}" for name, count in Counter(pool).items()),
            "usd_per_hour": _price(known, pool),
            "instances": len(pool),
            "cards": sum(known[name].deployment.cards for name in pool),
            "attainment": mean,
            "attainment_low": low,
            "attainment_high": high,
            "usd_per_million_requests": _price(known, pool) / (self.load_rps * 3600) * 1e6,
            "holds": (low if not math.isnan(low) else mean) >= self.target,
        }

    def _notes(self, frame: pd.DataFrame) -> list[str]:
        held = frame[frame["holds"]]
        if held.empty:
            return [
                f"no pool of at most {self.most_instances} instances holds {self.target:.0%} at {self.load_rps:g}/s"
            ]
        best = held.iloc[0]
        notes = [
            f"the cheapest pool that keeps {self.target:.0%} at {self.load_rps:g} requests/s: {best['pool']} "
            f"for {best['usd_per_hour']:.2f} USD/hour ({best['attainment']:.1%} in time)"
        ]
        alike = held[held["pool"].str.count(r"\+") == 0]
        if not alike.empty and alike.iloc[0]["pool"] != best["pool"]:
            other = alike.iloc[0]
            notes.append(f"of equal cards only: {other['pool']} for {other['usd_per_hour']:.2f} USD/hour")
        return notes


def _told(profile: Profile) -> str:
    """The card, and how many of them an instance takes where it takes several."""
    cards = profile.deployment.cards
    return profile.gpu if cards == 1 else f"{profile.gpu} x{cards}"


def _price(known: dict[str, Profile], pool: tuple[str, ...]) -> float:
    return sum(known[name].price_per_hour for name in pool)


def _attainment(work: tuple[Settings, tuple[str, ...], int, float]) -> float:
    settings, pool, seed, load_rps = work
    groups = [{"profile": name, "count": count, "engine": {}} for name, count in Counter(pool).items()]
    chosen = settings.replace(pool={"name": "paper", "instances": groups, "copies": 1})
    return attainment_at(chosen, seed, load_rps)


def _figure(frame: pd.DataFrame, target: float) -> Figure:
    from gsim.study.figure import COLOURS, house_style, new_figure

    with house_style():
        figure, (axis,) = new_figure(1, width=4.6, height=3.0)
        for holds, colour, label in ((False, "#999999", "misses the target"), (True, COLOURS[0], "holds")):
            rows = frame[frame["holds"] == holds]
            axis.scatter(rows["usd_per_hour"], rows["attainment"], s=14, color=colour, label=label)
        for row in frame[frame["holds"]].head(1).to_dict("records"):
            place = (row["usd_per_hour"], row["attainment"])
            axis.annotate(row["pool"], place, xytext=(-4, 6), textcoords="offset points", ha="right")
        axis.axhline(target, color="#555555", linewidth=0.8, linestyle="--")
        axis.set_xlabel("Price (USD/hour)")
        axis.set_ylabel("SLO attainment")
        axis.set_ylim(0, 1.08)
        axis.legend(frameon=False, loc="lower right")
    return figure
