"""The cheapest pool that could serve a load in time, by the upper bound: what no smaller purse can do."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from gsim.core import ConfigError, Job
from gsim.optimum.bound import BoundConfig, upper_bound
from gsim.optimum.server import Server


@dataclass(frozen=True)
class Offer:
    """Equal instances that may be had."""

    server: Server
    usd_per_hour: float
    count: int
    """At most so many."""


@dataclass(frozen=True)
class Cheapest:
    """The cheapest pool that is not excluded."""

    counts: tuple[int, ...]
    """Instances of each offer."""
    usd_per_hour: float
    attainment: float
    """The bound on this pool, as a share of the jobs."""
    bounds: int
    """How many pools were looked at."""


def cheapest_pool(
    jobs: Sequence[Job], offers: Sequence[Offer], target: float, config: BoundConfig | None = None
) -> Cheapest:
    """The cheapest mixture on which the bound lets a share ``target`` of the jobs be good.

    Whatever serves that share, whoever routes, costs at least as much: each cheaper mixture is excluded by its own
    bound, or is part of one that is. The search takes the mixture of the middle price among those that are left. Where
    the whole offer is excluded, it is the answer (its ``attainment`` says so). No jobs: nothing, for nothing. Raises
    ``ConfigError`` for jobs whose arrival is not known beforehand: a bound says little of those.
    """
    if not 0.0 < target <= 1.0:
        raise ConfigError(f"target must be in (0, 1], not {target}")
    if any(job.after for job in jobs):
        raise ConfigError("the cheapest pool by the bound needs requests whose arrival is known: no later turns")
    if not jobs:
        return Cheapest((0,) * len(offers), 0.0, 1.0, 0)
    whole = tuple(offer.count for offer in offers)
    mixtures = [mixture for mixture in itertools.product(*(range(count + 1) for count in whole)) if any(mixture)]
    left = sorted(mixtures, key=lambda mixture: (_usd(mixture, offers), mixture))
    best = Cheapest(whole, _usd(whole, offers), 0.0, 0)
    looked_at = 0
    while left:
        mixture = left[len(left) // 2]
        looked_at += 1
        share = upper_bound(jobs, _servers(mixture, offers), config).attainment
        if share >= target:
            best = Cheapest(mixture, _usd(mixture, offers), share, looked_at)
            left = [other for other in left if _usd(other, offers) < best.usd_per_hour]
        else:
            if mixture == whole:
                best = Cheapest(whole, best.usd_per_hour, share, looked_at)
            left = [other for other in left if any(a > b for a, b in zip(other, mixture, strict=True))]
    return Cheapest(best.counts, best.usd_per_hour, best.attainment, looked_at)


def _usd(mixture: Sequence[int], offers: Sequence[Offer]) -> float:
    return sum(count * offer.usd_per_hour for count, offer in zip(mixture, offers, strict=True))


def _servers(mixture: Sequence[int], offers: Sequence[Offer]) -> list[Server]:
    return [offer.server for count, offer in zip(mixture, offers, strict=True) for _ in range(count)]
