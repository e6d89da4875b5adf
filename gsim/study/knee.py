"""Rates around the knee: an experiment that says how far below and beyond it to look, instead of where it is.

Below the knee of a pool no router differs, far beyond it every router fails: a study's rates belong around it. It
moves with the pool, the trace and the deadlines, so it is searched for; the results name the rates that were found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gsim.core import ConfigError
from gsim.core.construct import construct
from gsim.run.closure import sources
from gsim.run.key import digest_of
from gsim.run.settings import Settings, read_seeds
from gsim.study import load_search
from gsim.study.kept import Kept
from gsim.study.load_search import LoadSearch, prober, run_metrics
from gsim.study.progress import say
from gsim.study.rate_search import at_rate, with_policy
from gsim.study.study import Context

RATE = "trace.rate_per_s"


@dataclass(frozen=True)
class Knee:
    """Multiples of the knee at which ``trace.rate_per_s`` is swept: ``knee: {at: [0.5, 0.8, 1, 1.2]}``."""

    at: tuple[float, ...] = ()
    """Shares of the knee (1: at it); empty: the sweep's own rates."""
    policy: str = "goodserve"
    """ROUTER or ROUTER+RECTIFIER whose knee it is: the strongest one that is quick to simulate."""
    target: float = 0.95
    """The knee is the highest rate that has a level with this share of the requests in time (mean of three seeds)."""
    lowest_rps: float = 1.0
    highest_rps: float = 2000.0
    """Where to look."""
    resolution: float = 0.02
    """To what fraction the knee is found."""
    rps: float | None = None
    """Where it is (requests/s), if that is known; null: it is searched for, and ``config.yaml`` has what was found."""

    def __post_init__(self) -> None:
        if not all(share > 0 for share in self.at):
            raise ConfigError(f"knee.at must be multiples of the knee above 0, not {list(self.at)}")
        if not 0 < self.target <= 1:
            raise ConfigError(f"knee.target must be in (0, 1], not {self.target}")
        if not 0 < self.lowest_rps < self.highest_rps:
            raise ConfigError(f"knee.lowest_rps ({self.lowest_rps}) must be in (0, highest_rps={self.highest_rps})")
        if not 0.001 <= self.resolution <= 0.5:
            raise ConfigError(f"knee.resolution must be in [0.001, 0.5], not {self.resolution}")
        if self.rps is not None and not self.rps > 0:
            raise ConfigError(f"knee.rps must be greater than 0, or null; not {self.rps}")

    def rates(self, knee_rps: float) -> list[float]:
        """The rates to sweep, rounded so that a table can show them."""
        return [float(f"{share * knee_rps:.3g}") for share in self.at]


def placed(sweep: Mapping[str, Any], knee: Knee, knee_rps: float) -> dict[str, Any]:
    """The sweep with its rates around the knee (the first axis, where it has none of that name)."""
    rates = {RATE: knee.rates(knee_rps)}
    return {**sweep, **rates} if RATE in sweep else {**rates, **sweep}


def asked(values: Mapping[str, Any]) -> Knee:
    """The ``knee`` of a configuration; raises ``ConfigError`` on what it does not know."""
    knee: Knee = construct(Knee, dict(values.get("knee") or {}), "knee")
    return knee


def find(knee: Knee, values: Mapping[str, Any], folder: Path | None, context: Context) -> float:
    """The knee in requests/s: as given, as found before (in ``folder``), else searched for (and kept there)."""
    if knee.rps is not None:
        return knee.rps
    settings = with_policy(Settings.read(values), knee.policy)
    seeds = read_seeds(values["seeds"])[:3]
    # What the search asks depends on neither the rates to sweep nor the configured rate.
    search = replace(knee, at=())
    told = [at_rate(settings, 1.0).key(seed) for seed in seeds]
    key = digest_of(told, asdict(search), sources().digest([load_search.__name__]))
    kept = Kept(folder, "knee")
    before = kept.get(key)
    if before is not None:
        return float(before["knee_rps"])
    probe = prober(settings, seeds, search.target, lambda work: context.map(run_metrics, work, "knee"))
    found = LoadSearch(probe, search.lowest_rps, search.highest_rps, search.resolution).highest(search.target)
    knee_rps = found.rate_rps
    if not knee_rps > 0:
        raise ConfigError(
            f"knee: {knee.policy} {found.said}, from {knee.lowest_rps:g} requests/s on; "
            "choose a lower knee.target or another knee.policy"
        )
    say(
        f"the knee ({knee.target:.0%} in time under {knee.policy}) is at {knee_rps:.3g} requests/s"
        + (f" ({found.said})" if found.said else "")
    )
    kept.put(key, {"knee_rps": knee_rps, "by_seed": list(found.by_seed), "said": found.said})
    return knee_rps
