"""The kinds of instances that a pool has slots for, and the steps from what is up to what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gsim.core import ClusterView, ConfigError, Drain, Slots, Start, StaticView


@dataclass(frozen=True)
class Variant:
    """Slots for equal instances (llm-d's word: one model on one kind of card)."""

    name: str
    """The card's."""
    slots: tuple[int, ...]
    usd_per_hour: float
    tpot_s: float
    """Decode seconds per token and sequence at a moderate load."""
    tokens_per_s: float
    """Decode throughput at a full batch."""
    prefill_s_per_token: float

    def alone_s(self, prompt_tokens: float, output_tokens: float) -> float:
        """End-to-end seconds of a request that need not queue."""
        return prompt_tokens * self.prefill_s_per_token + output_tokens * self.tpot_s

    def work_s(self, prompt_tokens: float, output_tokens: float) -> float:
        """Seconds of one instance that a request takes up when its batch is full."""
        return prompt_tokens * self.prefill_s_per_token + output_tokens / self.tokens_per_s


def variants_of(static: StaticView) -> list[Variant]:
    """Equal slots together, in the order of their first ones."""
    found: dict[tuple[object, ...], list[int]] = {}
    for i in range(len(static.gpu)):
        kind = (
            *(static.gpu[i], static.model[i], static.layout[i], int(static.cards[i]), float(static.price_per_hour[i])),
            *(float(static.nominal_tpot_s[i]), float(static.nominal_tokens_per_s[i])),
            float(static.nominal_prefill_s_per_token[i]),
        )
        found.setdefault(kind, []).append(i)
    return [
        Variant(
            static.gpu[slots[0]],
            tuple(slots),
            float(static.price_per_hour[slots[0]]),
            float(static.nominal_tpot_s[slots[0]]),
            float(static.nominal_tokens_per_s[slots[0]]),
            float(static.nominal_prefill_s_per_token[slots[0]]),
        )
        for slots in found.values()
    ]


def check_limits(scaler: str, min_instances: int, max_instances: int | None, interval_s: float) -> None:
    """``ConfigError`` where a scaler's limits cannot be kept."""
    if not interval_s > 0.0:
        raise ConfigError(f"scaler '{scaler}': interval_s must be greater than 0, not {interval_s}")
    if min_instances < 1:
        raise ConfigError(f"scaler '{scaler}': min_instances must be 1 or more, not {min_instances}")
    if max_instances is not None and max_instances < min_instances:
        raise ConfigError(
            f"scaler '{scaler}': max_instances must be min_instances ({min_instances}) or more, or null; "
            f"not {max_instances}"
        )


def check_room(scaler: str, min_instances: int, static: StaticView) -> None:
    """``ConfigError`` where a pool has fewer slots than a scaler is to keep up."""
    slots = len(static.gpu)
    if min_instances > slots:
        raise ConfigError(
            f"scaler '{scaler}': min_instances must be at most the slots of the pool ({slots}), not {min_instances}"
        )


def first_off(slots: Slots, among: Sequence[int], count: int) -> list[Start | Drain]:
    """Start so many of these slots that are off, the first ones first."""
    off = slots.off
    chosen: list[Start | Drain] = [Start(slot) for slot in among if off[slot]]
    return chosen[: max(count, 0)]


def emptiest(slots: Slots, view: ClusterView, among: Sequence[int], count: int) -> list[Start | Drain]:
    """Stop so many of these: those that boot first, then those with the fewest requests, the last slots first.

    One instance that can be sent to is always left in the pool.
    """
    up, coming = slots.up, slots.coming
    left = int(view.available.sum())
    order = sorted((slot for slot in among if coming[slot]), key=lambda slot: (up[slot], view.in_flight[slot], -slot))
    chosen: list[Start | Drain] = []
    for slot in order[: max(count, 0)]:
        if view.available[slot]:
            if left == 1:
                break
            left -= 1
        chosen.append(Drain(slot))
    return chosen


def towards(
    counts: Sequence[int], variants: Sequence[Variant], slots: Slots, view: ClusterView, most: int | None = None
) -> list[Start | Drain]:
    """The steps to so many instances of each variant, with at most ``most`` in the pool.

    New ones start first, and nothing stops while anything boots; only where there is no room for a new one an old one
    stops before.
    """
    coming = slots.coming
    there = [sum(bool(coming[slot]) for slot in variant.slots) for variant in variants]
    steps: list[Start | Drain] = []
    for variant, wanted, have in zip(variants, counts, there, strict=True):
        steps += first_off(slots, variant.slots, wanted - have)
    if most is not None:
        steps = steps[: max(most - sum(there), 0)]
    if steps or int(coming.sum()) > int(slots.up.sum()):
        return steps
    for variant, wanted, have in zip(variants, counts, there, strict=True):
        for step in emptiest(slots, view, variant.slots, have - wanted):
            left = int(view.available.sum()) - sum(bool(view.available[one.slot]) for one in steps)
            if left > 1 or not view.available[step.slot]:
                steps.append(step)
    return steps


def least_counts(variants: Sequence[Variant], counts: Sequence[int], least: int) -> list[int]:
    """With at least so many instances in all, the missing ones of the cheapest variants that have slots."""
    found = list(counts)
    for at in sorted(range(len(variants)), key=lambda i: (variants[i].usd_per_hour, variants[i].name)):
        missing = least - sum(found)
        found[at] += max(0, min(missing, len(variants[at].slots) - found[at]))
    return found


def most_counts(counts: Sequence[int], latest: Sequence[int], most: int | None) -> list[int]:
    """With at most so many instances in all: what is more than ``latest`` goes first, last variants first."""
    found = list(counts)
    over = 0 if most is None else sum(found) - most
    for at in reversed(range(len(found))):
        cut = min(max(over, 0), found[at] - min(latest[at], found[at]))
        found[at] -= cut
        over -= cut
    return found
