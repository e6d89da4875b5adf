"""Runs that stand in for recorded ones: ``python -m benchmarks.stand_ins FOLDER [seeds=2] [rate_per_s=3]``.

FOLDER holds operator tables, of several cards or of experts too. Our own replay makes runs of an engine whose
iterations take something else than the plain sum: an overhead, slower or faster attention, all-reduces with a time per
message and two bandwidths, experts activated by preference; all drawn by the seed, none told. Then the rule of
``experiment=ground_truth`` fits what it fits, and all figures of the run are compared. What such a run cannot show is
an engine that is wrong in kind.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gsim.core.options import read_options
from gsim.latency import OperatorModel, Profile, load_profile
from gsim.validation.correction import Correction
from gsim.validation.ground_truth import GroundTruth, compare, read_ground_truth, replay_truth
from gsim.validation.ground_truth_fit import fit_correction
from gsim.validation.pipelined import replay

TIMES = ("queued_s", "scheduled_s", "first_token_s", "last_token_s")


@dataclass(frozen=True)
class Options:
    """What to make."""

    seeds: int = 2
    rate_per_s: float = 3.0
    requests: int = 300


def hidden(profile: Profile, rng: np.random.Generator) -> tuple[Profile, dict[str, float]]:
    """The profile of an engine that nobody told, and what is hidden in it."""
    latency = profile.latency
    assert isinstance(latency, OperatorModel)
    drawn = {"overhead_ms": rng.uniform(-1.5, 1.0), "attention": rng.uniform(0.95, 1.08)}
    if latency.communication.messages:
        drawn |= {"message_us": rng.uniform(8, 20), "small_gb_per_s": rng.uniform(8, 30)}
        drawn["large_gb_per_s"] = rng.uniform(20, 45)
        bytes_per_token = 2 * profile.model.hidden
        communication = dataclasses.replace(
            latency.communication,
            message_s=drawn["message_us"] * 1e-6,
            token_s=bytes_per_token / drawn["small_gb_per_s"] / 1e9,
            large_token_s=bytes_per_token / drawn["large_gb_per_s"] / 1e9,
        )
        latency = dataclasses.replace(latency, communication=communication)
    if latency.activation is not None:
        drawn |= {"share": rng.uniform(0.3, 0.7), "preference": rng.uniform(0.2, 0.9)}
        activation = dataclasses.replace(latency.activation, share=drawn["share"], preference=drawn["preference"])
        latency = dataclasses.replace(latency, activation=activation)
    correction = Correction(drawn["overhead_ms"] * 1e-3, drawn["attention"])
    return correction.applied(dataclasses.replace(profile, latency=latency)), drawn


def record(folder: Path, profile: Profile, options: Options, seed: int) -> GroundTruth:
    """A folder as a real run leaves it, nulls and all."""
    meta = {
        "kv_cache": {"num_gpu_blocks": None, "block_size": 16, "enable_prefix_caching": None},
        "engine": {"max_num_seqs": 128, "max_num_batched_tokens": 2048, "max_model_len": None},
        "async_scheduling": None,
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    rng = np.random.default_rng(seed)
    arrivals = np.cumsum(rng.exponential(1.0 / options.rate_per_s, options.requests))
    frame = pd.DataFrame(
        {
            "input_tokens": np.clip(rng.lognormal(5.2, 1.2, options.requests), 4, 3000).astype(int),
            "output_tokens": np.clip(rng.lognormal(5.2, 0.9, options.requests), 4, 1200).astype(int),
            "arrival_s": arrivals - arrivals[0],
        }
    )
    for name in TIMES:
        frame[name] = frame.arrival_s
    frame.to_csv(folder / "requests.csv", index=False)
    truth = read_ground_truth(folder)
    made = replay(truth.jobs(), profile.latency, truth.engine.resolve(profile), first_launch_s=0.2)
    for name in TIMES:
        frame[name] = getattr(made, name)
    frame.to_csv(folder / "requests.csv", index=False, float_format="%.6f")
    return read_ground_truth(folder)


def main(words: Sequence[str]) -> int:
    """Print, for every seed, what was hidden, what was fitted and the difference of every figure."""
    if not words or "=" in words[0]:
        print(__doc__)
        return 2
    profile, options = load_profile(words[0]), read_options(Options, words[1:])
    for seed in range(options.seeds):
        real, drawn = hidden(profile, np.random.default_rng(seed))
        with tempfile.TemporaryDirectory() as folder:
            truth = record(Path(folder), real, options, seed)
            fit = fit_correction(truth, profile)
            table = compare(truth, replay_truth(truth, fit.correction.applied(profile)))
        worst = table.iloc[int(table.diff_percent.abs().argmax())]
        print(f"seed {seed}, hidden: {', '.join(f'{name} {value:.3g}' for name, value in drawn.items())}")
        print(f"  {fit}")
        print(f"  worst of {len(table)}: {worst.metric} {worst.statistic} {worst.diff_percent:+.2f} %; all:", end=" ")
        pairs = zip(table.metric, table.statistic, table.diff_percent, strict=True)
        print(", ".join(f"{metric} {statistic} {percent:+.1f}" for metric, statistic, percent in pairs), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
