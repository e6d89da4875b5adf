"""What a run's instances cost: money and energy, for as long as each of them was paid for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

_HOUR_S = 3600.0


class Paid(Protocol):
    """What is to be known of an instance (see ``gsim.cluster.InstanceSummary``)."""

    @property
    def paid_s(self) -> float: ...  # noqa: D102
    @property
    def busy_s(self) -> float: ...  # noqa: D102
    @property
    def power_s(self) -> float: ...  # noqa: D102
    @property
    def starts(self) -> int: ...  # noqa: D102
    @property
    def cards(self) -> int: ...  # noqa: D102
    @property
    def usd_per_hour(self) -> float: ...  # noqa: D102
    @property
    def idle_w(self) -> float: ...  # noqa: D102
    @property
    def busy_w(self) -> float: ...  # noqa: D102
    @property
    def generated_tokens(self) -> int: ...  # noqa: D102


def cost_usd(instance: Paid) -> float:
    """Price times the time from start to stop, booting and draining included; NaN where it has no price."""
    return instance.paid_s / _HOUR_S * instance.usd_per_hour if instance.usd_per_hour > 0.0 else math.nan


def energy_j(instance: Paid) -> float:
    """Idle power for the paid time, and what is drawn above it while iterations are computed; NaN for unknown cards."""
    up_s = max(instance.paid_s, instance.busy_s)
    return instance.idle_w * up_s + (instance.busy_w - instance.idle_w) * instance.power_s


def run_costs(instances: Sequence[Paid], duration_s: float) -> dict[str, float]:
    """Of the whole run, from its beginning to its last end (not of the counted window alone).

    ``instances_up``: instances that were paid for, on average. Where one of those that were paid for has no price, or
    its card's power is not known, what depends on it is NaN.
    """
    paid = [instance for instance in instances if instance.paid_s > 0.0]
    usd = sum(cost_usd(instance) for instance in paid)
    joule = sum(energy_j(instance) for instance in paid)
    tokens = sum(instance.generated_tokens for instance in instances)
    return {
        "cost_usd": usd,
        "usd_per_million_tokens": _ratio(1e6 * usd, tokens),
        "card_hours": sum(instance.paid_s * instance.cards for instance in paid) / _HOUR_S,
        "instances_up": _ratio(sum(instance.paid_s for instance in paid), duration_s),
        "starts": sum(instance.starts for instance in instances),
        "energy_j": joule,
        "joule_per_token": _ratio(joule, tokens),
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
