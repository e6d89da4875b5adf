"""Iterations of recorded live replays against a profile: ``python -m benchmarks.live_steps FOLDER NAME...``.

``validate`` keeps when every token came (``NAME_tokens.parquet``). All sequences of an iteration get their tokens
together, so what is between two such moments is one iteration, and whose tokens came says what was in it. Each is
compared with plain iterations (no chunk, nobody arriving) of nearly the same batch within 0.4 s, which takes out the
machine's own drift. Printed is what an iteration took beyond them and beyond what its chunk adds in the profile: of
plain iterations by the requests that arrived meanwhile, of mixed ones by their decodes and by the size of the chunk.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from gsim.calibration.fit import PROFILE
from gsim.core.batch import Batch, Chunk
from gsim.core.protocols import LatencyModel
from gsim.latency import IterationGrid, MixedCost, load_profile

#: Tokens that come closer together than this belong to one iteration.
TOGETHER_S = 0.0025
NEAR_S = 0.4
FEWEST_NEIGHBOURS = 4


@dataclass
class _Moment:
    """Tokens that came together."""

    time_s: float
    tokens: dict[int, int]
    """Tokens so far, by request."""
    lumped: bool


def moments(tokens: pd.DataFrame) -> Iterator[_Moment]:
    """The ends of one replay's iterations, as far as tokens tell them."""
    rows = tokens.sort_values("time_s")
    times = rows["time_s"].to_numpy()
    groups = np.concatenate([[0], np.cumsum(np.diff(times) > TOGETHER_S)])
    seen: dict[int, int] = {}
    for _, group in rows.groupby(groups):
        counts = dict(zip(group["request"].tolist(), group["tokens"].tolist(), strict=True))
        one_each = all(count == seen.get(i, 0) + 1 for i, count in counts.items()) and len(counts) == len(group)
        yield _Moment(float(group["time_s"].median()), counts, not one_each)
        seen |= counts


def steps(requests: pd.DataFrame, tokens: pd.DataFrame, latency: LatencyModel) -> pd.DataFrame:
    """One replay's iterations with decodes, of which everything is known.

    Columns start_s, took_s, alone_s (the decodes alone, by the profile), chunk_s (what the chunk adds, by the profile),
    decodes, chunk, arrived (requests sent meanwhile), waiting (sent before, and not in it), plain (nobody ended before
    it or waits).
    """
    prompts, outputs = requests["prompt_tokens"].tolist(), requests["output_tokens"].tolist()
    sent = requests["sent_s"].to_numpy()
    rows, seen, last = [], {}, None
    for now in moments(tokens):
        first = [i for i, count in now.tokens.items() if count == 1]
        decodes = [i for i in now.tokens if i not in first]
        if last is not None and decodes and not (last.lumped or now.lumped):
            going_on = {i for i, count in last.tokens.items() if count < outputs[i]}
            budget = len(decodes) + sum(prompts[i] for i in first)
            if going_on == set(decodes) and budget <= latency.domain.limit.batch_tokens:
                context = sum(prompts[i] + seen[i] - 1 for i in decodes)
                alone = Batch((), len(decodes), context, -(-context // len(decodes)))
                both = alone._replace(chunks=tuple(Chunk(prompts[i], 0) for i in first))
                waiting = sum(sent[i] < last.time_s and i not in seen and i not in first for i in range(len(sent)))
                alone_s = latency.iteration_s(alone)
                rows.append(
                    {
                        "start_s": last.time_s,
                        "took_s": now.time_s - last.time_s,
                        "alone_s": alone_s,
                        "chunk_s": latency.iteration_s(both) - alone_s,
                        "decodes": len(decodes),
                        "chunk": sum(prompts[i] for i in first),
                        "arrived": int(((sent > last.time_s) & (sent < now.time_s)).sum()),
                        "waiting": waiting,
                        "plain": waiting == 0 and len(going_on) == len(last.tokens),
                    }
                )
        seen |= now.tokens
        last = now
    return pd.DataFrame(rows)


def beyond_ms(table: pd.DataFrame) -> pd.Series:
    """What each iteration took beyond its neighbours' time for the decodes and the profile's for the chunk (ms)."""
    calm = table[table["plain"] & (table["chunk"] == 0) & (table["arrived"] == 0)]
    start, count = calm["start_s"].to_numpy(), calm["decodes"].to_numpy()
    slow = (calm["took_s"] / calm["alone_s"]).to_numpy()
    beyond = []
    for index, row in table.iterrows():
        near = (np.abs(start - row["start_s"]) < NEAR_S) & (np.abs(count - row["decodes"]) <= 1) & (calm.index != index)
        if near.sum() < FEWEST_NEIGHBOURS:
            beyond.append(np.nan)
        else:
            beyond.append(1e3 * (row["took_s"] - row["alone_s"] * np.median(slow[near]) - row["chunk_s"]))
    return pd.Series(beyond, index=table.index)


def main(words: Sequence[str]) -> int:
    """Print the tables of each recorded load."""
    if len(words) < 2:
        print(__doc__)
        return 2
    folder = Path(words[0])
    latency = load_profile(folder / PROFILE).latency
    assert isinstance(latency, IterationGrid)
    latency = replace(latency, mixed=MixedCost())
    for name in words[1:]:
        requests, tokens = (pd.read_parquet(folder / f"{name}_{what}.parquet") for what in ("requests", "tokens"))
        tables = []
        for run, came in tokens.groupby("run"):
            table = steps(requests[requests["run"] == run].reset_index(drop=True), came, latency)
            tables.append(table.assign(beyond_ms=beyond_ms(table)))
        every = pd.concat(tables).dropna()
        after = every[(every["chunk"] == 0) & (every["arrived"] == 0)]
        every = every[every["plain"]]
        plain, mixed = every[every["chunk"] == 0], every[(every["chunk"] > 0) & (every["arrived"] == 0)]
        print(f"{name}: {len(every)} iterations, {len(mixed)} mixed without arrivals")
        for title, part, key in (
            ("plain, by arrivals meanwhile", plain, "arrived"),
            ("after an arrival: by those that wait to be scheduled", after, "waiting"),
            ("mixed, by decodes", mixed.assign(decodes=pd.cut(mixed["decodes"], [0, 1, 2, 4, 8, 64])), "decodes"),
            ("mixed, by chunk", mixed.assign(chunk=pd.cut(mixed["chunk"], [0, 64, 128, 256, 512])), "chunk"),
        ):
            found = part.groupby(key, observed=True)["beyond_ms"].agg(["size", "median", "mean"])
            print(f"{title} (ms beyond)\n{found.round(2).to_string()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
