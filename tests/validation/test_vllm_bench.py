from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gsim.cli.entry import main
from gsim.core import InputError, Job, Request
from gsim.engine import EngineConfig
from gsim.latency import load_profile
from gsim.validation.ground_truth import compare, read_ground_truth, replay_truth
from gsim.validation.pipelined import replay

PROFILE = load_profile("a40-llama-3.1-8b")


def bench() -> dict[str, Any]:
    """What a client would have seen of an engine that takes exactly the profile's time, in no order."""
    rng = np.random.default_rng(5)
    sent = np.sort(rng.uniform(0, 5, 20))
    prompts, outputs = rng.integers(10, 900, 20), rng.integers(1, 90, 20)
    jobs = [
        Job(Request(i, t - sent[0], int(p), int(o), 1e9), int(o))
        for i, (t, p, o) in enumerate(zip(sent, prompts, outputs))
    ]
    result = replay(jobs, PROFILE.latency, EngineConfig().resolve(PROFILE))
    decode_s = result.last_token_s - result.first_token_s
    order = rng.permutation(20)
    gaps = [[float(d) / (o - 1)] * (o - 1) if o > 1 else [] for d, o in zip(decode_s, outputs.tolist())]
    return {
        "completed": 20,
        "input_lens": [int(prompts[i]) for i in order],
        "output_lens": [int(outputs[i]) for i in order],
        "start_times": [float(sent[i]) + 1e6 for i in order],
        "ttfts": [float(result.first_token_s[i] - (sent[i] - sent[0])) for i in order],
        "itls": [gaps[i] for i in order],
    }


def test_a_benchmark_of_the_profile_itself_shows_no_difference(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(bench()))
    truth = read_ground_truth(path)
    assert truth.from_client
    assert truth.requests.arrival_s.is_monotonic_increasing
    table = compare(truth, replay_truth(truth, PROFILE))
    assert table.diff_percent.abs().max() < 1e-3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"itls": None}, "itls is missing: run vllm bench serve with --save-detailed"),
        ({"ttfts": [0.1]}, "lists of one length"),
        ({"itls": [[]] * 20}, "nothing was streamed"),
        ({"ttfts": [10**400] * 20}, "has 401 digits; allowed: 18"),
        ({"output_lens": [0] * 20}, "request 0 failed"),
        ({"ttfts": [float("nan")] * 20}, "request 0: ttfts must be a finite number"),
        ({"ttfts": [None] * 20}, "request 0: ttfts must be a finite number of seconds, not negative; not None"),
        ({"start_times": [0.1] * 19 + ["0.5"]}, "request 19: start_times must be a finite number"),
        ({"itls": [[0.1, None]] * 20}, "request 0: itls must be a finite number"),
        ({"itls": [[0.1, -0.1]] * 20}, "request 0: itls must be a finite number"),
        ({"input_lens": [0] * 20}, "request 0: input_lens must be a whole number from 1"),
        ({"input_lens": [512] * 5 + ["512"] * 15}, "request 5: input_lens must be a whole number from 1"),
        ({"input_lens": [512.5] * 20}, "request 0: input_lens must be a whole number from 1"),
        ({"input_lens": [True] * 20}, "request 0: input_lens must be a whole number from 1"),
        ({"output_lens": ["7"] * 20}, "request 0: output_lens must be a whole number from 1"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(bench() | changes))
    with pytest.raises(InputError, match=words):
        read_ground_truth(path)


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    with pytest.raises(InputError, match="cannot be read"):
        read_ground_truth(path)
    path.write_text("[]")
    with pytest.raises(InputError, match="must hold an object, not list"):
        read_ground_truth(path)


def test_a_benchmark_of_one_token_outputs_has_no_time_per_output_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = bench()
    result |= {"output_lens": [1] * 20, "itls": [[] for _ in range(20)]}
    Path("bench.json").write_text(json.dumps(result))
    words = ["study=ground_truth", "ground_truth=bench.json", "profile.path=a40-llama-3.1-8b", "out=here"]
    assert main(words) == 0
    table = pd.read_csv("here/ground_truth.csv")
    assert set(table["metric"]) == {"TTFT", "E2E"}
    assert table["simulated"].notna().all()
    assert "figures within 1 %" in capsys.readouterr().out
