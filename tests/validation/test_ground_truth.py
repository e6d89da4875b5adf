from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gsim.core import InputError
from gsim.latency import Profile, constant_profile, load_profile
from gsim.validation.cases.shared_prompts import Continuation, continuations, with_continuations
from gsim.validation.ground_truth import compare, profile_of_run, read_ground_truth, replay_truth
from gsim.validation.ground_truth_fit import Fit, fit_correction
from gsim.validation.ground_truth_terms import terms
from gsim.validation.pipelined import replay

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
TRUTH = SHARED / "ground_truth" / "rtx4090-llama-3.1-8b"
TABLES = SHARED / "profiles" / "operator" / "rtx4090-llama-3.1-8b-tp1"
PROFILE = constant_profile(0.1)


def write_truth(folder: Path, stretch: float = 1.0, cold_s: float = 0.0) -> Path:
    """A folder whose timestamps are those of a replay, stretched."""
    folder.mkdir()
    meta = {
        "kv_cache": {"num_gpu_blocks": 101, "block_size": 16, "enable_prefix_caching": True},
        "engine": {"max_num_seqs": 8, "max_num_batched_tokens": 256, "max_model_len": 1600},
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "request_id": [f"r-{i}" for i in range(12)],
            "input_tokens": rng.integers(5, 300, 12),
            "output_tokens": rng.integers(1, 40, 12),
            "arrival_s": np.linspace(0.0, 3.0, 12),
        }
    )
    for column in ("queued_s", "scheduled_s", "first_token_s", "last_token_s"):
        frame[column] = frame.arrival_s
    frame.to_csv(folder / "requests.csv", index=False)
    truth = read_ground_truth(folder)
    result = replay(truth.jobs(), PROFILE.latency, truth.engine.resolve(PROFILE), cold_s)
    for column in ("queued_s", "scheduled_s", "first_token_s", "last_token_s"):
        frame[column] = frame.arrival_s + stretch * (getattr(result, column) - frame.arrival_s)
    frame.to_csv(folder / "requests.csv", index=False)
    return folder


def test_a_simulator_that_is_the_truth_shows_no_difference(tmp_path: Path) -> None:
    truth = read_ground_truth(write_truth(tmp_path / "truth"))
    table = compare(truth, replay_truth(truth, PROFILE))
    assert table.diff_percent.abs().max() < 1e-6
    assert list(table.columns) == ["metric", "statistic", "real", "simulated", "diff_percent"]
    assert list(table.metric.unique()) == ["TTFT", "TPOT", "E2E"]
    assert list(table.statistic.unique()) == ["mean", "p50", "p90", "p95", "p99"]


def test_a_slower_truth_shows_as_such(tmp_path: Path) -> None:
    truth = read_ground_truth(write_truth(tmp_path / "truth", stretch=1.25))
    table = compare(truth, replay_truth(truth, PROFILE))
    e2e = table[(table.metric == "E2E") & (table.statistic == "mean")]
    # Latency counts from when the loop took the request in, which is stretched too.
    assert e2e.diff_percent.item() == pytest.approx(-20.0, abs=3.0)


def test_a_cold_start_is_seen_and_held(tmp_path: Path) -> None:
    truth = read_ground_truth(write_truth(tmp_path / "truth", cold_s=2.0))
    table = compare(truth, replay_truth(truth, PROFILE))
    assert table.diff_percent.abs().max() < 1e-6


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("input_tokens", 0, "row 4: input_tokens must be at least 1, not 0"),
        ("arrival_s", "soon", "row 4: arrival_s must be 0 or more, not soon"),
        ("last_token_s", float("nan"), "row 4: last_token_s must be"),
        ("first_token_s", 0.0, "row 4: its timestamps are not in order"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, column: str, value: object, words: str) -> None:
    folder = write_truth(tmp_path / "truth")
    frame = pd.read_csv(folder / "requests.csv").astype({column: object})
    frame.loc[2, column] = value
    frame.to_csv(folder / "requests.csv", index=False)
    with pytest.raises(InputError, match=words):
        read_ground_truth(folder)


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"meta.json: cannot be read"):
        read_ground_truth(tmp_path)
    folder = write_truth(tmp_path / "truth")
    for text, words in (
        ('{"engine": {"max_num_seqs": "x"}}', "engine.max_num_seqs must be a whole number above 0 or null, not 'x'"),
        ('{"kv_cache": {"enable_prefix_caching": 3}}', "kv_cache.enable_prefix_caching must be true, false or null"),
        ('{"kv_cache": [1]}', r"kv_cache must be an object or null, not \[1\]"),
        ('{"cudagraph_capture_sizes": [0]}', "cudagraph_capture_sizes must be a list of whole numbers above 0"),
    ):
        (folder / "meta.json").write_text(text)
        with pytest.raises(InputError, match=words):
            read_ground_truth(folder)
    folder = write_truth(tmp_path / "other")
    (folder / "requests.csv").write_text("input_tokens\n5\n")
    with pytest.raises(InputError, match="column output_tokens is missing"):
        read_ground_truth(folder)


@pytest.mark.skipif(not TRUTH.is_dir(), reason="the real run is not at hand")
def test_the_real_column_is_the_published_summary() -> None:
    """LLMServingSim's own summary of this run, in its order: mean, p50, p90, p95, p99 (ms)."""
    truth = read_ground_truth(TRUTH)
    table = compare(truth, replay_truth(truth, load_profile(TABLES)))
    published = {
        "TTFT": (65456.6, 60110.9, 121121.7, 122739.2, 137356.3),
        "TPOT": (32.4, 30.8, 38.1, 48.1, 56.0),
        "E2E": (86578.3, 83413.3, 141600.9, 148977.6, 153627.5),
    }
    for metric, values in published.items():
        assert table[table.metric == metric].real.round(1).tolist() == pytest.approx(values, abs=0.11)


@pytest.fixture(scope="module")
def profile() -> Profile:
    if not TRUTH.is_dir():
        pytest.skip("the real run is not at hand")
    return load_profile(TABLES)


@pytest.fixture(scope="module")
def fit(profile: Profile) -> Fit:
    return fit_correction(read_ground_truth(TRUTH), profile)


def test_until_the_contents_of_prompts_matter_every_request_ends_when_it_did(profile: Profile, fit: Fit) -> None:
    """The run's first 24 s: four decode iterations at most between real and simulated ends, after 20 s of decoding.

    Then three prompts start in one iteration that has no budget for them unless one of them hit the prefix cache
    (prompt contents are not published), and the schedules part.
    """
    truth = read_ground_truth(TRUTH)
    simulated = replay_truth(truth, fit.correction.applied(profile))
    last = truth.requests.last_token_s.to_numpy()
    early = last < 24.5
    assert early.sum() == 15
    assert np.abs(simulated.last_token_s - last)[early].max() < 0.1
    table = compare(truth, simulated, early)
    assert table[table.metric == "TPOT"].diff_percent.abs().max() < 1.0
    group = truth.requests[truth.requests.scheduled_s.round(4) == 25.1128]
    assert len(group) == 3
    assert group.input_tokens.iloc[:2].sum() > truth.engine.max_num_batched_tokens


def test_the_fit_to_the_real_run_is_one_number(fit: Fit) -> None:
    """On a card whose KV cache is full, the sum of contexts hardly changes: attention cannot be told from overhead."""
    assert not fit.refused
    assert fit.correction.attention == 1.0
    assert fit.correction.overhead_s == pytest.approx(-0.95e-3, abs=0.05e-3)
    assert fit.error_s < 0.1 * fit.plain_error_s


def test_the_whole_run_stays_close(profile: Profile, fit: Fit) -> None:
    """Means within 2 %, though the contents of the prompts are unknown."""
    rows = terms(read_ground_truth(TRUTH), profile, fit).set_index("term")
    assert rows.loc["all"].abs().max() < 2.0
    assert rows.loc["all, held out"].abs().max() < 2.0
    assert rows.loc["without the fit (plain sum)", "TPOT"] > rows.loc["all", "TPOT"] + 1.0
    assert rows.loc["without skew", "TPOT"] < rows.loc["all", "TPOT"] - 1.0


def test_the_run_s_own_cuda_graphs_count(tmp_path: Path, profile: Profile) -> None:
    folder = write_truth(tmp_path / "truth")
    assert profile_of_run(read_ground_truth(folder), profile) is profile
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "cudagraph_capture_sizes": [8, 4, 2, 1, 16]}))
    truth = read_ground_truth(folder)
    assert profile_of_run(truth, profile).latency.capture_sizes == (1, 2, 4, 8, 16)
    assert profile_of_run(truth, PROFILE) is PROFILE
    assert profile_of_run(read_ground_truth(TRUTH), profile) == profile


#: Request, the one that its prompt begins with, that one's prompt tokens: what the run's blocks in use show.
SHARED_PROMPTS = ((47, 40, 455), (66, 35, 633), (93, 82, 629), (139, 117, 996), (173, 153, 460))


def test_with_the_prompts_that_the_states_show_every_figure_is_within_one_percent(profile: Profile, fit: Fit) -> None:
    truth = read_ground_truth(TRUTH)
    pairs = [Continuation(*pair) for pair in SHARED_PROMPTS]
    shared = dataclasses.replace(truth, contents=with_continuations(truth, pairs))
    table = compare(shared, replay_truth(shared, fit.correction.applied(profile)))
    assert len(table) == 15
    assert table.diff_percent.abs().max() < 1.0


def test_the_first_shared_prompt_of_the_real_run_is_seen(tmp_path: Path, profile: Profile, fit: Fit) -> None:
    """Request 47 is the next turn of request 40, as token ids show; the states of the first 27 s tell."""
    folder = shutil.copytree(TRUTH, tmp_path / "run")
    states = pd.read_csv(folder / "timeseries.csv")
    # Copied from where nothing may be written.
    (folder / "timeseries.csv").chmod(0o644)
    folder.chmod(0o755)
    states[states.t <= 27].to_csv(folder / "timeseries.csv", index=False)
    found = continuations(read_ground_truth(folder), fit.correction.applied(profile))
    assert found == [Continuation(*SHARED_PROMPTS[0])]
