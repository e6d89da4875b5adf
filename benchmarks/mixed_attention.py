"""What decodes cost beside a chunk: ``python -m benchmarks.mixed_attention FOLDER...`` of operator tables.

An operator folder times attention of a chunk and decodes in one launch, of the chunk alone and of the decodes alone.
Printed is, by the number of decodes, what they take beside a chunk (the launch less the chunk alone) over what they
take alone, and how far the sum of the two is from the launch; then, for each rule that could be added to the sum, its
number (fitted to every other launch) and its error on the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

KEYS = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"]
#: Decodes that take hardly more than a launch say nothing about decoding.
LAUNCHES = 3.0


def launches(file: Path) -> pd.DataFrame:
    """The mixed launches of an ``attention.csv``, with what chunk and decodes take alone (microseconds), and what the
    same decodes take at the shortest context."""
    table = pd.read_csv(file)
    alone = table[table.n_decode == 0].set_index(KEYS[:2]).time_us
    decodes = table[table.prefill_chunk == 0].set_index(KEYS[2:]).time_us
    shortest = decodes.groupby("n_decode").first()
    rows = table[(table.prefill_chunk > 0) & (table.n_decode > 0)].copy()
    rows["chunk_us"] = alone.reindex(pd.MultiIndex.from_frame(rows[KEYS[:2]])).to_numpy()
    rows["decodes_us"] = decodes.reindex(pd.MultiIndex.from_frame(rows[KEYS[2:]])).to_numpy()
    rows["shortest_us"] = shortest.reindex(rows.n_decode).to_numpy()
    rows["launch_us"] = decodes.min()
    return rows.dropna()


def mixed(file: Path) -> pd.DataFrame:
    """Of them those whose decodes take more than a launch: what they take beside a chunk over what they take alone."""
    rows = launches(file)
    rows = rows[rows.decodes_us > LAUNCHES * rows.launch_us].copy()
    rows["ratio"] = (rows.time_us - rows.chunk_us) / rows.decodes_us
    rows["sum_percent"] = 100.0 * ((rows.chunk_us + rows.decodes_us) / rows.time_us - 1.0)
    return rows


def forms(rows: pd.DataFrame) -> pd.DataFrame:
    """What could be added to the sum: a number times something, nearest to every other launch, judged by the rest.

    Columns number (a factor less 1, or microseconds), bias_percent (median), median_percent and p90_percent (sizes).
    """
    kv_us = rows.decodes_us - rows.shortest_us
    things = {
        "nothing": 0.0 * kv_us,
        "a constant per launch": 1.0 + 0.0 * kv_us,
        "a constant per decode": rows.n_decode.astype(float),
        "a factor on the decodes' attention": rows.decodes_us,
        "a factor on what of it grows with context": kv_us,
    }
    seen = np.arange(len(rows)) % 2 == 0
    table = []
    for name, thing in things.items():
        number = _least_distance(rows[seen], thing[seen])
        table.append(_judged(name, number, rows[~seen], number * thing[~seen]))
    for name, thing in list(things.items())[-2:]:
        by_count = {n: _least_distance(part, thing[part.index]) for n, part in rows[seen].groupby("n_decode")}
        added = rows[~seen].n_decode.map(by_count) * thing[~seen]
        table.append(_judged(f"{name}, by the number of decodes", float("nan"), rows[~seen], added))
    return pd.DataFrame(table)


def _least_distance(rows: pd.DataFrame, thing: pd.Series) -> float:
    """The number whose multiple of ``thing`` makes |sum + it - launch| / launch least on average: a weighted median."""
    known = thing > 0.0
    if not known.any():
        return 0.0
    numbers = ((rows.time_us - rows.chunk_us - rows.decodes_us) / thing)[known].to_numpy()
    order = np.argsort(numbers)
    weights = (thing / rows.time_us)[known].to_numpy()[order].cumsum()
    return float(numbers[order][np.searchsorted(weights, weights[-1] / 2.0)])


def _judged(name: str, number: float, rows: pd.DataFrame, added: pd.Series) -> dict[str, object]:
    percent = 100.0 * ((rows.chunk_us + rows.decodes_us + added) / rows.time_us - 1.0)
    sizes = percent.abs()
    return {
        "added": name,
        "number": number,
        "bias_percent": percent.median(),
        "median_percent": sizes.median(),
        "p90_percent": sizes.quantile(0.9),
    }


def main(folders: Sequence[str]) -> int:
    """Print the tables of each folder."""
    if not folders:
        print(__doc__)
        return 2
    for folder in folders:
        file = Path(folder) / "attention.csv"
        rows = mixed(file)
        table = rows.groupby("n_decode").agg(rows=("ratio", "size"), ratio=("ratio", "median"))
        table["sum_percent"] = rows.groupby("n_decode").sum_percent.median()
        print(f"{Path(folder).name}: {len(rows)} launches, the sum is {rows.sum_percent.median():+.0f} % off (median)")
        print(table.round(2).to_string(), end="\n\n")
        print(forms(launches(file)).round(2).to_string(index=False), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
