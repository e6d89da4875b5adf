"""What decodes cost beside a chunk: ``python -m benchmarks.mixed_attention FOLDER...`` of operator tables.

An operator folder times attention of a chunk and decodes in one launch, of the chunk alone and of the decodes alone.
Printed is, by the number of decodes, what they take beside a chunk (the launch less the chunk alone) over what they
take alone, and how far the sum of the two is from the launch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

KEYS = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"]
#: Decodes that take hardly more than a launch say nothing about decoding.
LAUNCHES = 3.0


def mixed(file: Path) -> pd.DataFrame:
    """The mixed launches of an ``attention.csv``, with what chunk and decodes take alone (microseconds)."""
    table = pd.read_csv(file)
    alone = table[table.n_decode == 0].set_index(KEYS[:2]).time_us
    decodes = table[table.prefill_chunk == 0].set_index(KEYS[2:]).time_us
    rows = table[(table.prefill_chunk > 0) & (table.n_decode > 0)].copy()
    rows["chunk_us"] = alone.reindex(pd.MultiIndex.from_frame(rows[KEYS[:2]])).to_numpy()
    rows["decodes_us"] = decodes.reindex(pd.MultiIndex.from_frame(rows[KEYS[2:]])).to_numpy()
    rows = rows.dropna()
    rows = rows[rows.decodes_us > LAUNCHES * decodes.min()]
    rows["ratio"] = (rows.time_us - rows.chunk_us) / rows.decodes_us
    rows["sum_percent"] = 100.0 * ((rows.chunk_us + rows.decodes_us) / rows.time_us - 1.0)
    return rows


def main(folders: Sequence[str]) -> int:
    """Print a table per folder."""
    if not folders:
        print(__doc__)
        return 2
    for folder in folders:
        rows = mixed(Path(folder) / "attention.csv")
        table = rows.groupby("n_decode").agg(rows=("ratio", "size"), ratio=("ratio", "median"))
        table["sum_percent"] = rows.groupby("n_decode").sum_percent.median()
        print(f"{Path(folder).name}: {len(rows)} launches, the sum is {rows.sum_percent.median():+.0f} % off (median)")
        print(table.round(2).to_string(), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
