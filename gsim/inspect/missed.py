"""Who missed in a run, and why: the counted requests that were not good, each with its cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gsim.metrics.misses import CAUSES, causes, late_s
from gsim.run.cell import Finished

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    *("request_id", "task", "instance", "status"),
    *("arrival_s", "slo_s", "prompt_tokens", "output_tokens", "predicted_tokens"),
)
#: At least so many stories of each cause are told, and so many in all.
PER_CAUSE, IN_ALL = 4, 40


def missed(finished: Finished) -> pd.DataFrame:
    """A row per counted request that was not good, by its id: who it was, its ``cause``, and ``late_s``."""
    rows = finished.rows.to_pandas()
    which = (rows["counted"] & ~rows["good"]).to_numpy()
    columns = {name: values[which] for name, values in finished.result.requests.items()}
    told: pd.DataFrame = rows.loc[which, list(_COLUMNS)].reset_index(drop=True)
    return told.assign(cause=causes(columns), late_s=late_s(columns))


def worst(misses: pd.DataFrame, per_cause: int = PER_CAUSE, in_all: int = IN_ALL) -> pd.DataFrame:
    """The worst misses, latest first, those that never finished before them; some of every cause that there is.

    A request that had not even arrived when the run stopped has no story, and is left out.
    """
    arrived = misses[misses["arrival_s"].notna()]
    never_first = arrived.sort_values("late_s", ascending=False, na_position="first", kind="stable")
    each = never_first.groupby("cause", sort=False).head(per_cause)
    # Of those that never finished one looks like the other: what is left to tell is told of the latest that did.
    finished = never_first[never_first["late_s"].notna()]
    further = finished[~finished.index.isin(each.index)].head(max(0, in_all - len(each)))
    return never_first[never_first.index.isin([*each.index, *further.index])]


def by_cause(misses: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The causes that there are, most frequent first, each with its misses."""
    found = [(cause, misses[misses["cause"] == cause]) for cause in CAUSES]
    return sorted(((cause, own) for cause, own in found if len(own)), key=lambda pair: -len(pair[1]))
