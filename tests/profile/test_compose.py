"""Profiles composed from kernel tables: what is summed, which cells are not believed, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernel_folder import decode_ms, gemm_ms, prefill_ms, write_tables

from gsim.core import Batch, Chunk, ProfileError
from gsim.latency import Deployment, load_profile, model_shape
from gsim.latency.cards import card
from gsim.latency.compose import compose
from gsim.latency.kernel_tables import KernelTables
from gsim.profile.__main__ import main

LLAMA = model_shape("llama-3.1-8b")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("tables"))


def tables(folder: Path) -> KernelTables:
    return KernelTables(card("h100"), folder / "systems")


def test_an_iteration_is_the_sum_of_its_kernels(folder: Path) -> None:
    found = compose(tables(folder), Deployment(LLAMA, "H100-80G", weight_dtype="bf16"), 131072)
    layer_ms = gemm_ms(1, 6144, 4096) + gemm_ms(1, 4096, 4096) + gemm_ms(1, 28672, 4096) + gemm_ms(1, 4096, 14336)
    whole_ms = 32 * (layer_ms + decode_ms(1, 1024, 8)) + gemm_ms(1, 128256, 4096)
    # Four element-wise kernels a layer of a few microseconds; log-log interpolation between the shapes.
    assert found.decode_s[0][found.contexts.index(1024)] * 1e3 == pytest.approx(whole_ms + 32 * 0.0062, rel=0.02)
    long_ms = 32 * prefill_ms(16384, 32)
    assert found.prefill_s[-1] * 1e3 > long_ms
    assert found.square_token_s * 1e3 == pytest.approx(32 * 1e-9 * 32, rel=0.02)


def test_two_cards_halve_a_layer_and_pay_for_65_messages(folder: Path) -> None:
    whole = compose(tables(folder), Deployment(LLAMA, "H100-80G", weight_dtype="bf16"), 8192)
    halves = compose(tables(folder), Deployment(LLAMA, "H100-80G", tp=2, weight_dtype="bf16"), 8192)
    sent_ms = 65 * (0.01 + 1e-8 * 4096)
    assert halves.decode_s[0][0] * 1e3 == pytest.approx(whole.decode_s[0][0] * 1e3 / 2 + sent_ms, rel=0.15)
    assert halves.decode_s[0][0] * 1e3 < whole.decode_s[0][0] * 1e3 / 2 + 65 * 0.05


def test_cells_that_were_warming_up_are_not_believed(tmp_path: Path) -> None:
    dirty = tables(write_tables(tmp_path, dirty=True))
    # 5 ms for 16 rows: 128 rows took less, so 16 take no more than they.
    assert dirty.gemm_s(np.array([16.0]), 4096, 4096, "bf16")[0] * 1e3 <= gemm_ms(128, 4096, 4096) * 1.001
    quantised, wide = (dirty.gemm_s(np.array([128.0]), 4096, 4096, dtype)[0] for dtype in ("fp8", "bf16"))
    assert quantised <= wide


def test_the_command_builds_a_profile_that_loads(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["build", "model=llama-3.1-8b", "gpu=h800", "tp=2", "dtype=fp8", f"tables={folder}", f"out={tmp_path}"]
    assert main(words) == 0
    assert "2 x H800-80G" in capsys.readouterr().out
    profile = load_profile(tmp_path / "h800-llama-3.1-8b-tp2-fp8.yaml")
    assert profile.deployment.cards == 2
    assert "kernels of the H100-80G" in profile.provenance.basis
    assert "(NVLink)" in profile.provenance.basis
    assert "vLLM kernels" in profile.provenance.engine_version
    assert profile.latency.iteration_s(Batch((Chunk(512, 0),), 4, 4096, 1024)) > 0
    assert main(["show", str(tmp_path / "h800-llama-3.1-8b-tp2-fp8.yaml")]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=llama-3.1-8b", "gpu=h200"], "h200_sxm: no such folder"),
        (["model=llama-3.1-8b", "gpu=h100", "dtype=nvfp4"], "no matrix products in nvfp4; there are: bfloat16, fp8"),
        (["model=llama-3.1-8b", "gpu=h100", "kv_dtype=fp8"], "no attention with head size 128, 8 KV heads, fp8 cache"),
        (["model=llama-2-7b", "gpu=h100"], "no attention with head size 128, 32 KV heads, bfloat16 cache, window 0"),
        (["model=gemma-2-9b", "gpu=h100"], "no attention with head size 256"),
        (["model=llama-3.1-8b", "gpu=h100", "tp=8"], "no attention with 4 heads; there are [8]"),
        (["model=qwen2.5-7b", "gpu=h100", "tp=4"], "no attention with 7 heads"),
        (
            ["model=qwen3-30b-a3b", "gpu=h100", "tp=2"],
            "has no experts of hidden 2048, width 768, 8 of 128, bfloat16, tp 2",
        ),
        (["model=mixtral-8x7b", "gpu=h100", "tp=2"], "has no experts of hidden 4096, width 14336, 2 of 8"),
        (["model=gpt-oss-20b", "gpu=h100"], "no attention with head size 64"),
    ],
)
def test_what_was_not_timed_is_refused(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", *words, f"tables={folder}", f"out={folder}"]) == 1
    assert message in capsys.readouterr().err


def test_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "systems" / "data" / "h100_sxm").mkdir(parents=True)
    with pytest.raises(ProfileError, match=r"h100_sxm has no gemm/vllm/\*/gemm_perf.parquet"):
        tables(tmp_path).gemm_s(np.ones(1), 1, 1, "bf16")


def test_four_cards_need_a_measured_all_reduce(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["build", "model=llama-3.1-70b", "gpu=h100", "tp=8", f"tables={folder}", f"out={folder}"]
    assert main(words) == 1
    assert "h100_sxm has no all-reduce of 8 cards" in capsys.readouterr().err
