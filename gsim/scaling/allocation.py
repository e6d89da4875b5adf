"""The cheapest numbers of instances for a load: the integer program that several scalers share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gsim.core.native import no_stdout
from gsim.core.view import Floats


def cheapest_counts(
    loads: Floats,
    usd_per_hour: Sequence[float],
    slots: Sequence[int],
    *,
    most: int | None = None,
    whole: bool = False,
    there: Sequence[int] = (),
    start_usd: Sequence[float] = (),
) -> list[int]:
    """How many instances of each variant carry all classes of requests for the least money.

    ``loads[c, g]``: instances of variant g that class c takes up if all of it goes there; ``inf``: it cannot. Minimise
    ``sum_g usd_g n_g + start_usd_g max(0, n_g - there_g)`` over whole numbers ``n_g <= slots_g``, ``most`` in all, and
    shares ``x[c, g] >= 0`` with ``sum_g x[c, g] = 1`` and ``sum_c loads[c, g] x[c, g] <= n_g``; ``whole``: shares are 0
    or 1 (Melange's program, arXiv 2404.14527, section 5.3). Where no numbers do, as many as there may be, of the
    fastest variants. Solved by HiGHS, as SciPy brings it; equal prices are told apart by a millionth part, earlier
    variants first.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    able = loads[np.isfinite(loads).any(axis=1)]
    classes, variants = able.shape
    if not classes:
        return [0] * variants
    wide = 2 * variants
    cost = np.zeros(wide + able.size)
    cost[:variants] = np.maximum(usd_per_hour, 1e-9) * (1.0 + 1e-6 * np.arange(variants))
    cost[variants:wide] = start_usd if len(start_usd) else 0.0
    upper = np.ones(wide + able.size)
    upper[:variants] = upper[variants:wide] = slots
    upper[wide:] = np.isfinite(able).ravel()
    shared = np.zeros((classes, wide + able.size))
    fits = np.zeros((variants, wide + able.size))
    grows = np.zeros((variants, wide + able.size))
    for c in range(classes):
        shared[c, wide + c * variants : wide + (c + 1) * variants] = 1.0
    for g in range(variants):
        fits[g, wide + g :: variants] = np.where(np.isfinite(able[:, g]), able[:, g], 0.0)
        fits[g, g] = -1.0
        grows[g, g], grows[g, variants + g] = 1.0, -1.0
    kinds = np.zeros(wide + able.size)
    kinds[:variants] = 1
    kinds[wide:] = 1 if whole else 0
    limits = [LinearConstraint(shared, 1.0, 1.0), LinearConstraint(fits, -math.inf, 0.0)]
    limits.append(LinearConstraint(grows, -math.inf, np.array(there or [0] * variants, dtype=np.float64)))
    if most is not None:
        total = np.zeros((1, wide + able.size))
        total[0, :variants] = 1.0
        limits.append(LinearConstraint(total, 0.0, most))
    with no_stdout():
        found = milp(cost, constraints=limits, bounds=Bounds(0.0, upper), integrality=kinds)
    if found.x is None:
        return _fastest(able, slots, most)
    return [round(value) for value in found.x[:variants]]


def _fastest(loads: Floats, slots: Sequence[int], most: int | None) -> list[int]:
    """As many instances as there may be, of those on which the load takes up the least."""
    left = sum(slots) if most is None else most
    counts = [0] * len(slots)
    weight = np.where(np.isfinite(loads), loads, np.inf).sum(axis=0)
    for g in np.argsort(weight, kind="stable").tolist():
        counts[g] = min(slots[g], left)
        left -= counts[g]
    return counts
