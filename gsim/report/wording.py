"""Fields and grid points in words: what axes, tables and findings call them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

#: Of fields and metrics: the name, and the unit in brackets.
NAMES = {
    "goodput_rps": "Goodput (requests/s)",
    "goodput_per_card": "Goodput per card (requests/s)",
    "goodput_per_usd": "Good requests per US dollar",
    "cost_usd": "Cost of the run (US dollars)",
    "usd_per_million_tokens": "US dollars per million tokens",
    "joule_per_token": "Energy per generated token (J)",
    "energy_j": "Energy of the run (J)",
    "instances_up": "Instances paid for",
    "attainment": "SLO attainment",
    "session_goodput_rps": "Session goodput (sessions/s)",
    "session_attainment": "Session SLO attainment",
    "trace.rate_per_s": "Offered load (requests/s)",
    "trace.agents": "Agents",
    "slo.seconds": "E2E SLO (s)",
    "slo.scale": "SLO scale",
    "slo.factor": "SLO scale",
    "telemetry.interval_s": "Telemetry interval (s)",
    "rectifier.interval_s": "Monitor interval (s)",
    "rectifier.max_inflight": "Moves at a time",
    "rectifier.max_target_risk": "Risk allowed at the target",
    "router.margin_fraction": "Safety margin",
    "predictor.error": "Error of the predictor",
    "predictor": "Predictor",
    "mean_e2el_ms": "Mean E2E latency (ms)",
    "p99_e2el_ms": "p99 E2E latency (ms)",
    "mean_ttft_ms": "Mean TTFT (ms)",
    "p99_ttft_ms": "p99 TTFT (ms)",
    "cached_fraction": "Prompt tokens from cache",
    "migrated": "Requests migrated",
    "migrations_per_request": "Migrations per request",
    "migrated_attainment": "SLO attainment of migrated",
    "dynamics.factor": "Load or length factor",
    "failed": "Requests failed",
    "regret_to_bound": "Goodput below the upper bound (requests/s)",
}


def title(field: str) -> str:
    """What an axis says of a field or metric."""
    return NAMES.get(field, field.replace("_", " ").replace(".", ": "))


def number(value: float) -> str:
    """A number in at most four significant digits, without exponents where that can be read."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    if abs(value) < 0.001:
        return f"{value:.2g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if abs(value) >= 0.01 else 4
    return f"{value:.{min(digits, 3)}f}"


def level(value: Any) -> str:
    """A swept value: as short as it is."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def known(point: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that the point has (one that only other options have is None, or NaN after reading it back)."""
    return {field: value for field, value in point.items() if value is not None and value == value}


def place(points: Sequence[Mapping[str, Any]]) -> str:
    """Grid points in words: ``request rate 10, 50 requests/s``; empty for the one point of a study without a grid."""
    points = [known(point) for point in points]
    fields = {tuple(point) for point in points}
    if len(fields) == 1 and len(points[0]) == 1:
        (field,) = points[0]
        return _named(field, ", ".join(level(point[field]) for point in points))
    told = [", ".join(_named(field, level(value)) for field, value in point.items()) for point in points]
    return "; ".join(text for text in told if text)


def _named(field: str, values: str) -> str:
    name, _, unit = title(field).partition(" (")
    lower = name if name[:2].isupper() or name[:2] == "E2" else name[:1].lower() + name[1:]
    return f"{lower} {values} {unit.rstrip(')')}".strip()
