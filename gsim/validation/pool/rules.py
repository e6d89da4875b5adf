"""Which rule explains what a recorded prefix router decided, from what its gateway saw at that moment."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gsim.validation.pool.truth import PoolRun


def decisions(run: PoolRun) -> pd.DataFrame:
    """Shares of a run's decisions, by how far apart the loads were (columns gap, decisions, holder, least_loaded).

    ``holder``: of the decisions where the index knew the prompt, those that went to an instance that had it.
    ``least_loaded``: those that went to an instance with the fewest requests in flight. ``over_limit``: those that went
    to an instance with more than the mean and two standard deviations of the requests in flight.
    """
    in_flight, hits = run.state("in_flight"), run.state("hit_percent")
    rows = np.arange(len(in_flight))
    known = (hits > 0).any(axis=1)
    to_holder = hits[rows, run.placed] > 0
    chosen = in_flight[rows, run.placed]
    least = chosen == in_flight.min(axis=1)
    over = chosen > in_flight.mean(axis=1) + 2.0 * in_flight.std(axis=1)
    gap = in_flight.max(axis=1) - in_flight.min(axis=1)
    table = []
    for low, high in ((0, 8), (9, 12), (13, 16), (17, 19), (20, 10**6)):
        part = (gap >= low) & (gap <= high)
        if not part.any():
            continue
        found = part & known
        table.append(
            {
                "set": run.set_name,
                "router": run.router,
                "gap": f"{low}-{high}" if high < 10**6 else f"{low} and more",
                "decisions": int(part.sum()),
                "holder": float(to_holder[found].mean()) if found.any() else np.nan,
                "least_loaded": float(least[part].mean()),
                "least_loaded_if_unknown": float(least[part & ~known].mean()) if (part & ~known).any() else np.nan,
                "over_limit": float(over[part].mean()),
            }
        )
    return pd.DataFrame(table)
