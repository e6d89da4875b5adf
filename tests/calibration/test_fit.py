"""Fitted profiles against the law behind them; reports; what a fit refuses."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from fake_engine import FakeEngine, FakeServer, InProcess, asked_of, card_law, run_virtually

from gsim.calibration.fit import fit_folder, read_overhead
from gsim.calibration.measure import measure
from gsim.calibration.mixed import fit_mixed
from gsim.calibration.raw import Measurement, RawStore
from gsim.calibration.report import report_folder
from gsim.calibration.tables import build_tables, smooth
from gsim.core import Batch, Chunk, InputError
from gsim.latency import Domain, Extent, MixedCost, load_profile


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A measured folder: every limit of the fake server covered."""
    out = tmp_path_factory.mktemp("calibration")
    asked = asked_of(
        out,
        gpu="Test Card",
        max_concurrency=17,
        decode_contexts=[64, 512, 1500],
        prefill_contexts=[0, 512, 1024],
        checks=6,
        max_repeats=2,
        flags="--max-num-seqs 32",
    )
    run_virtually(measure(asked, InProcess(FakeServer(FakeEngine(api_s=0.003)))))
    return out


def test_the_profile_predicts_iterations_that_were_never_measured(folder):
    fit_folder(folder)
    profile = load_profile(folder / "profile.yaml")
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(300):
        context = int(rng.integers(64, 1500))
        decodes = int(rng.integers(0, 17))
        tokens = int(rng.integers(16, 450)) if rng.random() < 0.5 or not decodes else 0
        chunks = (Chunk(tokens, int(rng.integers(0, 64)) * 16),) if tokens else ()
        batch = Batch(chunks, decodes, decodes * context, context if decodes else 0)
        worst = max(worst, abs(profile.latency.iteration_s(batch) / card_law(batch) - 1.0))
    # What is left is the straight lines between the grid's points on a curved law.
    assert worst < 0.05


def test_the_profile_says_what_it_is(folder):
    fit_folder(folder)
    profile = load_profile(folder / "profile.yaml")
    assert profile.name == "test-card-fake-model"
    assert profile.gpu == "Test Card"
    assert (profile.max_num_seqs, profile.max_num_batched_tokens, profile.max_model_len) == (32, 512, 2048)
    assert profile.kv_tokens == 4095 * 16
    assert profile.model.layers == 8
    assert profile.deployment.kv_bytes_per_token == 2 * 8 * 4 * 64 * 2
    assert profile.domain.measured.sequences == 17
    assert "--max-num-seqs 32" in profile.provenance.basis
    assert profile.provenance.engine_version == "vLLM 0.0.fake"


def kv_law(batch: Batch) -> float:
    """The card's law where reading KV takes 1.7 times as long beside a chunk."""
    return card_law(batch) + (0.7 * 2e-7 * batch.decode_context_tokens if batch.chunks else 0.0)


def constant_law(batch: Batch) -> float:
    """The card's law where an iteration that does both takes 2 ms more."""
    return card_law(batch) + (0.002 if batch.chunks and batch.decodes else 0.0)


@pytest.mark.parametrize(
    ("law", "kv_factor", "iteration_s", "said"),
    [
        (card_law, 1.0, 0.0, "Nothing is added to mixed steps"),
        (kv_law, 1.7, 0.0, "times their decodes' KV more than the sum"),
        (constant_law, 1.0, 0.002, "Mixed steps take 1.98 ms"),
    ],
)
def test_what_mixed_steps_take_beyond_their_parts_is_found_and_judged_apart(
    tmp_path, law, kv_factor, iteration_s, said
):
    asked = asked_of(
        tmp_path,
        max_concurrency=17,
        decode_contexts=[64, 512, 1500],
        prefill_contexts=[0, 512, 1024],
        checks=9,
        max_repeats=2,
    )
    run_virtually(measure(asked, InProcess(FakeServer(FakeEngine(law)))))
    text = report_folder(tmp_path)
    fitted = fit_folder(tmp_path)
    assert fitted.mixed.kv_factor == pytest.approx(kv_factor, abs=0.1)
    assert fitted.mixed.iteration_s == pytest.approx(iteration_s, abs=2e-4)
    assert said in text
    loaded = load_profile(tmp_path / "profile.yaml").latency.mixed
    assert loaded.kv_factor == pytest.approx(fitted.mixed.kv_factor, rel=1e-4)
    assert loaded.iteration_s == pytest.approx(fitted.mixed.iteration_s, rel=1e-4)
    mixed = fitted.errors[fitted.errors["region"].str.startswith("mixed")]
    assert set(mixed["region"]) == {"mixed", "mixed, between grid points"}
    assert mixed["error_percent"].abs().max() < 4.0
    if law is not card_law:
        assert mixed["plain_sum_percent"].min() < -8.0
    others = fitted.errors.drop(mixed.index)
    assert (others["error_percent"] == others["plain_sum_percent"]).all()


def test_few_mixed_points_or_cheap_ones_add_nothing():
    decodes = [measurement("decode", b, c, 0, 0.004 + 1e-6 * b * c) for b in (1, 8) for c in (100, 1000)]
    prefills = [measurement("prefill", 0, 0, p, 0.005 + 1e-5 * p) for p in (64, 128, 512)]
    grid = build_tables(decodes + prefills).latency(Domain(Extent(8, 600, 1024), Extent(8, 600, 2048), "test"))
    dear = [measurement("mixed", 8, c, p, 0.1) for c in (100, 1000) for p in (64, 512)]
    assert fit_mixed(grid, dear).iteration_s > 0.05
    assert fit_mixed(grid, dear[:3]) == MixedCost()
    assert fit_mixed(grid, [replace(m, check=True) for m in dear]) == MixedCost()
    assert fit_mixed(grid, [replace(m, iteration_s=0.001) for m in dear]) == MixedCost()
    # Decodes that were as slow in the same seconds: the machine was slow, not the mixture.
    slow = [replace(m, plain_s=m.iteration_s - 1e-5 * m.chunk_tokens) for m in dear]
    assert fit_mixed(grid, slow).iteration_s < 0.001


def test_the_api_in_front_of_the_engine_is_told_apart(folder):
    fit_folder(folder)
    overhead = read_overhead(folder)
    assert overhead.fixed_s == pytest.approx(0.003, rel=0.01)
    assert overhead.per_prompt_token_s == pytest.approx(0.0, abs=1e-8)


def test_fit_and_report_work_offline_and_from_parquet_alone(folder, tmp_path):
    text = report_folder(folder)
    for region in ("prefill", "prefill on cached context", "decode, batch 1-4", "mixed", "between grid points"):
        assert region in text
    assert (folder / "residuals.png").stat().st_size > 5000
    for name in ("raw.parquet", "meta.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert report_folder(tmp_path) == text
    assert (tmp_path / "profile.yaml").read_text() == (folder / "profile.yaml").read_text()


def test_errors_are_judged_by_repeats_that_the_fit_did_not_see(folder, tmp_path):
    """A repeat that is off must show in the report: it judges a fit that was made without it."""
    store = RawStore(folder)
    for name in ("meta.json",):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    copy = RawStore(tmp_path)
    for m in store.read():
        off = m.kind == "decode" and m.sequences == 4 and not m.check and m.repeat == 1
        copy.append(replace(m, iteration_s=m.iteration_s * (1.5 if off else 1.0)))
    errors = fit_folder(tmp_path).errors
    worst = errors.loc[errors["sequences"] == 4, "error_percent"]
    assert worst.min() == pytest.approx(100.0 * (1 / 1.5 - 1.0), abs=1.0)


def test_an_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="run measure first"):
        fit_folder(tmp_path)


def measurement(kind: str, sequences: int, context: int, chunk: int, seconds: float) -> Measurement:
    return Measurement(kind, sequences, context, chunk, False, 0, seconds, "client", float(context), seconds, math.nan)


def test_cells_that_do_not_fit_the_server_are_continued_and_counted():
    decodes = [
        measurement("decode", b, c, 0, 0.004 + 1e-6 * b * c) for b in (1, 8) for c in (100, 1000, 4000) if b * c < 10000
    ]
    prefills = [
        measurement("prefill", 0, c, p, 0.005 + 1e-5 * p + 1e-8 * p * (p + 2 * c))
        for p in (64, 512)
        for c in (0, 1024)
        if p + c < 1200
    ]
    tables = build_tables(decodes + prefills)
    assert tables.continued == 2
    assert tables.decode_s[1, 2] == pytest.approx(0.004 + 1e-6 * 8 * 4000)
    assert tables.prefill_s[1, 1] == pytest.approx(0.005 + 1e-5 * 512 + 1e-8 * 512 * (512 + 2048))
    assert tables.square_token_s == pytest.approx(1e-8)


def test_too_little_is_refused():
    with pytest.raises(InputError, match="too few decode measurements"):
        build_tables([measurement("decode", 2, 64, 0, 0.004)])
    decodes = [measurement("decode", 1, c, 0, 0.004) for c in (64, 128)]
    with pytest.raises(InputError, match="too few prefill measurements"):
        build_tables(decodes)


def test_only_large_falls_are_levelled():
    table = np.array([[1.0, 1.2, 1.15], [2.0, 1.0, 3.0]])
    levelled, changed = smooth(table)
    assert changed > 0
    assert levelled[0, 2] == 1.15
    for line in (*levelled, *levelled.T):
        assert all(b >= 0.9 * a - 1e-12 for a, b in pairwise(line))


def test_virtual_time_has_no_wall_clock():
    async def main() -> float:
        await asyncio.sleep(3600.0)
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) == 3600.0
