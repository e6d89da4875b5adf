"""What engines counted beside what every engine counts, as metrics of a run (over its whole length, not the window)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def count_metrics(counts: Iterable[Mapping[str, int]]) -> dict[str, float]:
    """Metrics of the instances' counts (see ``gsim.core.protocols.Counting``); none where nothing was counted."""
    total: dict[str, int] = {}
    for instance in counts:
        for name, count in instance.items():
            total[name] = total.get(name, 0) + count
    metrics: dict[str, float] = {}
    if total.get("verified"):
        metrics["tokens_per_verification"] = 1.0 + total["accepted_tokens"] / total["verified"]
        metrics["accepted_fraction"] = total["accepted_tokens"] / total["drafted_tokens"]
    if total.get("looked_up_tokens"):
        metrics["host_hit_fraction"] = total["host_hit_tokens"] / total["looked_up_tokens"]
        metrics["host_in_gb"] = total["host_in_bytes"] / 1e9
        metrics["host_out_gb"] = total["host_out_bytes"] / 1e9
    return metrics
