"""What a pool takes, in cards and in money, and how much goodput each of them brings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gsim.engine import EngineConfig
from gsim.run.pool import PoolConfig


def with_costs(summary: Mapping[str, Any], pool: PoolConfig) -> dict[str, Any]:
    """A run's summary with the metrics ``cards``, ``usd_per_hour``, ``goodput_per_card`` (good requests/s of a card)
    and ``goodput_per_usd`` (good requests for a dollar).

    By the profiles' own prices; where an instance has none, what depends on it is NaN. Of an instance that was started
    or stopped the share of the run counts for which it was paid for.
    """
    profiles = [spec.profile for spec in pool.build(EngineConfig())]
    paid = [_paid_share(summary, i) for i in range(len(profiles))]
    cards = sum(profile.deployment.cards * share for profile, share in zip(profiles, paid, strict=True))
    priced = all(profile.price_per_hour > 0.0 for profile in profiles)
    usd = sum(profile.price_per_hour * share for profile, share in zip(profiles, paid, strict=True))
    usd_per_hour = usd if priced else math.nan
    goodput_rps = float(summary["metrics"].get("goodput_rps", math.nan))
    costs = {
        "cards": float(cards),
        "usd_per_hour": usd_per_hour,
        "goodput_per_card": goodput_rps / cards,
        "goodput_per_usd": 3600.0 * goodput_rps / usd_per_hour,
    }
    return {**summary, "metrics": {**summary["metrics"], **costs}}


def _paid_share(summary: Mapping[str, Any], instance: int) -> float:
    """Of the run, the part for which an instance was paid for."""
    told, whole_s = summary.get("instances", ()), float(summary.get("simulated_s", 0.0))
    if instance >= len(told) or not whole_s > 0.0:
        return 1.0
    return float(told[instance].get("paid_s", whole_s)) / whole_s
