from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gsim.latency import Profile, load_profile
from gsim.validation.cases.shared_prompts import Continuation, continuations, read_states, with_continuations
from gsim.validation.ground_truth import GroundTruth, compare, read_ground_truth, replay_truth

CARD = "rtx4090-llama-3.1-8b-tp1"
COLUMNS = ("queued_s", "scheduled_s", "first_token_s", "last_token_s")


def write_run(folder: Path, profile: Profile, pairs: list[Continuation], kv_blocks: int = 900) -> GroundTruth:
    """A run whose requests ``pairs`` continue others, as it is published: without contents, with a state a second."""
    folder.mkdir()
    meta = {
        "kv_cache": {"num_gpu_blocks": kv_blocks, "block_size": 16, "enable_prefix_caching": True},
        "engine": {"max_num_seqs": 256, "max_num_batched_tokens": 2048, "max_model_len": 8192},
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    rng = np.random.default_rng(11)
    count = 60
    prompts, outputs = rng.integers(150, 700, count), rng.integers(250, 400, count)
    for pair in pairs:
        prompts[pair.request] = prompts[pair.of] + outputs[pair.of] + 15
    arrivals = np.cumsum(rng.exponential(0.1, count))
    frame = pd.DataFrame(
        {"input_tokens": prompts, "output_tokens": outputs, "arrival_s": arrivals - arrivals[0]},
        index=pd.Index([f"r-{i}" for i in range(count)], name="request_id"),
    )
    for column in COLUMNS:
        frame[column] = frame.arrival_s
    frame.to_csv(folder / "requests.csv")
    truth = read_ground_truth(folder)
    known = [Continuation(pair.request, pair.of, int(prompts[pair.of])) for pair in pairs]
    result = replay_truth(dataclasses.replace(truth, contents=with_continuations(truth, known)), profile)
    for column in COLUMNS:
        frame[column] = getattr(result, column)
    frame.to_csv(folder / "requests.csv", float_format="%.6f")
    write_states(folder, frame, result.states, kv_blocks - 1)
    return read_ground_truth(folder)


def write_states(folder: Path, frame: pd.DataFrame, states: list, total: int) -> None:
    """``timeseries.csv``, whose clock started 0.13 s before the run's."""
    rows = []
    for second in range(1, int(states[-1].time_s) + 2):
        within = [state for state in states if second - 1 <= state.time_s + 0.13 < second]
        if within:
            first = frame.first_token_s + 0.13
            prompts = frame.input_tokens[(first >= second - 1) & (first < second)].sum()
            blocks = round(100.0 * within[-1].blocks / total, 2)
            rows.append((float(second), float(prompts), within[-1].running, within[-1].waiting, blocks))
    columns = ["t", "prompt_throughput", "running", "waiting", "kv_cache_pct"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "timeseries.csv", index=False)


@pytest.fixture(scope="module")
def profile(shared: Path) -> Profile:
    return load_profile(shared / "data" / "profiles" / "operator" / CARD)


def worst(truth: GroundTruth, profile: Profile) -> float:
    return float(compare(truth, replay_truth(truth, profile)).diff_percent.abs().max())


def test_a_prompt_that_continues_another_is_seen_in_the_blocks(tmp_path: Path, profile: Profile) -> None:
    truth = write_run(tmp_path / "run", profile, [Continuation(24, 21, 0)])
    found = continuations(truth, profile)
    assert [(pair.request, pair.of) for pair in found] == [(24, 21)]
    assert found[0].tokens == truth.requests.input_tokens.iloc[21]
    shared_prompts = dataclasses.replace(truth, contents=with_continuations(truth, found))
    assert worst(shared_prompts, profile) < 0.5
    assert worst(truth, profile) > 1.0


def test_where_nothing_is_shared_nothing_is_found(tmp_path: Path, profile: Profile) -> None:
    truth = write_run(tmp_path / "run", profile, [])
    assert continuations(truth, profile) == []


def test_where_the_cache_never_fills_nothing_is_sought(tmp_path: Path, profile: Profile) -> None:
    truth = write_run(tmp_path / "run", profile, [Continuation(24, 21, 0)], kv_blocks=20_000)
    assert len(read_states(truth)) > 14
    assert continuations(truth, profile) == []


def test_the_clocks_are_joined_by_what_was_prefilled(tmp_path: Path, profile: Profile) -> None:
    truth = write_run(tmp_path / "run", profile, [])
    states = read_states(truth)
    assert states[0].time_s == pytest.approx(1.0 - 0.13, abs=0.06)
    assert np.allclose(np.array([state.time_s for state in states]) % 1.0, states[0].time_s % 1.0)


def test_without_states_nothing_is_sought(tmp_path: Path, profile: Profile) -> None:
    truth = write_run(tmp_path / "run", profile, [])
    (truth.folder / "timeseries.csv").write_text("t,running\n1,2\n")
    assert read_states(truth) == []
    (truth.folder / "timeseries.csv").unlink()
    assert continuations(truth, profile) == []


def test_contents_follow_from_pairs_in_turn(tmp_path: Path, profile: Profile) -> None:
    truth = write_run(tmp_path / "run", profile, [])
    frame = truth.requests.copy()
    frame.loc[[2, 5, 9], "input_tokens"] = [300, 700, 1400]
    longer = dataclasses.replace(truth, requests=frame)
    contents = with_continuations(longer, [Continuation(9, 5, 700), Continuation(5, 2, 300)])
    assert contents[5] == ((2, 300), (5, 400))
    assert contents[9] == ((2, 300), (5, 400), (9, 700))
