from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gsim.core import InputError
from gsim.latency import OperatorModel, Profile, constant_profile, load_profile
from gsim.validation.correction import Correction
from gsim.validation.ground_truth import GroundTruth, compare, read_ground_truth, replay_truth
from gsim.validation.ground_truth_fit import fit_correction
from gsim.validation.ground_truth_terms import terms
from gsim.validation.least_distance import least_distance, spread
from gsim.validation.pipelined import replay

#: A card whose KV cache is full throughout (preemptions), and one with plenty, whose batch is full.
CARDS = {"rtx4090-llama-3.1-8b-tp1": (1300, 256), "rtxpro6000-llama-3.1-8b-tp1": (40_000, 48)}


def write_run(folder: Path, profile: Profile, kv_blocks: int, sequences: int, requests: int = 160) -> GroundTruth:
    """A folder as a real run leaves it: of an engine, cold at first, whose iterations take what ``profile`` says."""
    folder.mkdir()
    meta = {
        "kv_cache": {"num_gpu_blocks": kv_blocks, "block_size": 16, "enable_prefix_caching": True},
        "engine": {"max_num_seqs": sequences, "max_num_batched_tokens": 2048, "max_model_len": 8192},
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    rng = np.random.default_rng(7)
    arrivals = np.cumsum(rng.exponential(0.06, requests))
    frame = pd.DataFrame(
        {
            "request_id": [f"r-{i}" for i in range(requests)],
            "input_tokens": np.clip(rng.lognormal(6.4, 0.6, requests), 100, 3000).astype(int),
            "output_tokens": rng.integers(120, 240, requests),
            "arrival_s": arrivals - arrivals[0],
        }
    )
    columns = ("queued_s", "scheduled_s", "first_token_s", "last_token_s")
    for column in columns:
        frame[column] = frame.arrival_s
    frame.to_csv(folder / "requests.csv", index=False)
    truth = read_ground_truth(folder)
    result = replay(truth.jobs(), profile.latency, truth.engine.resolve(profile), first_launch_s=0.2)
    for column in columns:
        frame[column] = getattr(result, column)
    frame.to_csv(folder / "requests.csv", index=False, float_format="%.6f")
    return read_ground_truth(folder)


def worst_held_out(truth: GroundTruth, profile: Profile, correction: Correction, held_out: np.ndarray) -> float:
    table = compare(truth, replay_truth(truth, correction.applied(profile)), held_out)
    return float(table[table.statistic.isin(["mean", "p50", "p90"])].diff_percent.abs().max())


@pytest.mark.parametrize("card", list(CARDS))
@pytest.mark.parametrize("overhead_s", [1.2e-3, -0.8e-3])
def test_a_hidden_overhead_is_found_on_either_card(shared: Path, tmp_path: Path, card: str, overhead_s: float) -> None:
    profile = load_profile(shared / "data" / "profiles" / "operator" / card)
    truth = write_run(tmp_path / "run", Correction(overhead_s).applied(profile), *CARDS[card])
    fit = fit_correction(truth, profile)
    assert not fit.refused
    assert fit.correction.overhead_s == pytest.approx(overhead_s, abs=0.1e-3)
    assert fit.error_s < 0.3 * fit.plain_error_s
    held_out = fit.held_out(truth)
    assert held_out.sum() >= 0.25 * len(truth.requests)
    assert worst_held_out(truth, profile, fit.correction, held_out) < 1.0
    assert worst_held_out(truth, profile, Correction(), held_out) > 2.0


@pytest.mark.parametrize("card", list(CARDS))
def test_slower_attention_is_met_by_one_number_or_two(shared: Path, tmp_path: Path, card: str) -> None:
    profile = load_profile(shared / "data" / "profiles" / "operator" / card)
    truth = write_run(tmp_path / "run", Correction(attention=1.2).applied(profile), *CARDS[card])
    fit = fit_correction(truth, profile)
    held_out = fit.held_out(truth)
    fitted, plain = (
        worst_held_out(truth, profile, correction, held_out) for correction in (fit.correction, Correction())
    )
    assert fitted < 0.5 * plain
    assert fitted < 1.5


def test_what_happened_later_is_not_looked_at(shared: Path, tmp_path: Path) -> None:
    card = "rtx4090-llama-3.1-8b-tp1"
    profile = load_profile(shared / "data" / "profiles" / "operator" / card)
    truth = write_run(tmp_path / "run", profile, *CARDS[card])
    fit = fit_correction(truth, profile)
    names = ["scheduled_s", "first_token_s", "last_token_s"]
    other = truth.requests.copy()
    other[names] = other[names].where(other[names] <= fit.until_s, 1.5 * other[names])
    assert fit_correction(dataclasses.replace(truth, requests=other), profile) == fit


def test_where_nothing_can_be_fitted_the_plain_sum_stays(shared: Path, tmp_path: Path) -> None:
    card = "rtxpro6000-llama-3.1-8b-tp1"
    profile = load_profile(shared / "data" / "profiles" / "operator" / card)
    few = write_run(tmp_path / "few", profile, *CARDS[card], requests=9)
    assert "9 of 9 requests are too many to fit" in fit_correction(few, profile).refused
    measured = constant_profile(0.01)
    truth = write_run(tmp_path / "measured", measured, *CARDS[card], requests=20)
    fit = fit_correction(truth, measured)
    assert "measured whole" in str(fit)
    assert fit.correction.applied(measured) is measured
    with pytest.raises(InputError, match="only operator tables have terms"):
        terms(truth, measured, fit)


def test_where_all_start_at_once_those_judge_that_finish_later(shared: Path, tmp_path: Path) -> None:
    profile = load_profile(shared / "data" / "profiles" / "operator" / "rtxpro6000-llama-3.1-8b-tp1")
    truth = write_run(tmp_path / "run", Correction(1e-3).applied(profile), 40_000, 256, requests=60)
    fit = fit_correction(truth, profile)
    assert fit.correction.overhead_s == pytest.approx(1e-3, abs=0.1e-3)
    assert fit.held_out(truth).sum() == (truth.requests.last_token_s > fit.until_s).sum() == 60 - fit.finished


def test_another_card_s_profile_is_no_overhead(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "profiles" / "operator"
    slow, fast = (load_profile(folder / card) for card in CARDS)
    truth = write_run(tmp_path / "run", slow, 40_000, 48)
    fit = fit_correction(truth, fast)
    assert "a quarter of an iteration: not this run's profile" in fit.refused
    assert fit.correction == Correction()


def test_a_correction_changes_what_it_says(shared: Path) -> None:
    profile = load_profile(shared / "data" / "profiles" / "operator" / "rtx4090-llama-3.1-8b-tp1")
    latency = Correction(1e-3, 1.5).applied(profile).latency
    assert isinstance(latency, OperatorModel)
    assert isinstance(profile.latency, OperatorModel)
    assert latency.overhead_s == 1e-3
    assert np.allclose(latency.tables.decode_s, 1.5 * profile.latency.tables.decode_s)
    assert np.allclose(latency.tables.mixed_s, 1.5 * profile.latency.tables.mixed_s)
    assert latency.tables.dense_layer_s is profile.latency.tables.dense_layer_s


def test_least_distance_ignores_a_common_lag_and_a_few_strangers() -> None:
    iterations = np.linspace(0.0, 700.0, 90)
    strangers = np.zeros(90)
    strangers[::15] = 12.0

    def lags(number: float) -> np.ndarray:
        return 0.4 + (number - 0.0013) * iterations + strangers

    found = least_distance(lags, 0.0, 0.005)
    assert found.number == pytest.approx(0.0013, abs=2e-5)
    assert found.distance == pytest.approx(spread(strangers), rel=0.02)
    assert least_distance(lambda x: (x - 1.0) * iterations, 0.0, 0.005).number == 0.005
