"""Composed and shipped profiles beside measurements: the sample is read, a closed loop is one, the tables add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gsim.cli.entry import main
from gsim.core import InputError
from gsim.latency import constant_profile, load_profile
from gsim.latency.load import profile_names
from gsim.validation.silicon.closed_loop import closed_loop
from gsim.validation.silicon.sample import TARGETS, read_sample
from gsim.validation.studies.composed_profiles import _by
from gsim.validation.studies.shipped_profiles import MEASUREMENTS


def row(model: str, **changes: object) -> dict[str, object]:
    values = {"backend": "vllm", "mode": "agg", "system": "h100_sxm", "model_path": model, "precision": "fp8"}
    numbers = {"isl": 1024, "osl": 1024, "batch_size": 8, "tp_size": 2, "attention_dp_size": 1, "pp_size": 1}
    measured = {"moe_ep_size": 1, "silicon_ttft_ms": 90.0, "silicon_tpot_ms": 9.0}
    return {**values, **numbers, **measured, **changes}


def test_what_cannot_be_composed_is_left_out_with_its_number(tmp_path: Path) -> None:
    rows = [
        row("meta-llama/Llama-3.1-70B"),
        row("meta-llama/Llama-3.1-70B", batch_size=64),
        row("openai/gpt-oss-120b", precision="fp4", tp_size=1),
        row("MiniMaxAI/MiniMax-M2.5", system="b200_sxm"),
        row("Qwen/Qwen3-32B", precision=None),
        row("moonshotai/Kimi-K2.5"),
        row("meta-llama/Llama-3.1-70B", backend="trtllm"),
        row("meta-llama/Llama-3.1-70B", mode="disagg"),
        row("openai/gpt-oss-120b", moe_ep_size=4),
        row("openai/gpt-oss-120b", system="gb300"),
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "silicon_sample.csv", index=False)
    found, left_out = read_sample(tmp_path)
    told = {(one.name, one.gpu, one.tp): (one.kind, one.weight_dtype, one.moe_dtype, len(one.rows)) for one in found}
    assert told == {
        ("llama-3.1-70b fp8", "h100", 2): ("dense bf16, fp8", "fp8", "", 2),
        ("gpt-oss-120b fp4", "h100", 1): ("MoE mxfp4, nvfp4", "bf16", "mxfp4", 1),
        ("minimax-m2.5 fp8", "b200", 2): ("MoE fp8_block", "fp8_block", "fp8_block", 1),
        ("qwen3-32b bf16", "h100", 2): ("dense bf16, fp8", "bf16", "", 1),
    }
    assert {kind for kind, *_ in told.values()} <= set(TARGETS)
    said = "; ".join(left_out)
    for what in (
        "1 of other engines",
        "1 with prefill apart",
        "1 with expert parallelism",
        "1 on cards without tables",
    ):
        assert what in said
    assert "1 of moonshotai/Kimi-K2.5: unknown model" in said


def test_a_sample_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_sample(tmp_path)
    pd.DataFrame([{"backend": "vllm"}]).to_csv(tmp_path / "silicon_sample.csv", index=False)
    with pytest.raises(InputError, match="column mode is missing"):
        read_sample(tmp_path)


def test_a_closed_loop_keeps_so_many_at_once() -> None:
    # Every iteration takes 10 ms: a token per iteration, and a chunk of 2,048 tokens waits for its turn.
    ttft_s, tpot_s = closed_loop(constant_profile(0.01), 4, 100, 50, seed=1)
    assert tpot_s == pytest.approx(0.01, rel=1e-6)
    assert 0.01 <= ttft_s < 0.03
    profile = load_profile("h100-llama-3.1-8b")
    times = [closed_loop(profile, n, 512, 64, seed=1)[1] for n in (1, 8, 32)]
    assert times == sorted(times)
    with pytest.raises(InputError, match="10000000 \\+ 64 tokens do not fit"):
        closed_loop(profile, 1, 10_000_000, 64, seed=1)


def test_errors_are_summed_up_by_class() -> None:
    rows = pd.DataFrame(
        {
            "class": ["a", "a", "a", "b"],
            "plain_percent": [10.0, -20.0, 30.0, 5.0],
            "fitted_percent": [1.0, np.nan, -3.0, np.nan],
            "ttft_percent": [-50.0, -60.0, -70.0, 0.0],
        }
    )
    table = _by(rows, ["class"]).set_index("class")
    assert table.loc["a", ["rows", "plain_bias", "plain_median", "ttft_bias"]].tolist() == [3, 10.0, 20.0, -60.0]
    assert table.loc["a", "fitted_median"] == 2.0
    assert np.isnan(table.loc["b", "fitted_median"])


def test_every_shipped_profile_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["h100-llama-3.1-8b", "h800-llama-3.1-8b", "l4-llama-2-7b", "a800-llama-3.1-70b-tp4"]
    monkeypatch.setattr("gsim.latency.load.profile_names", lambda: names)
    assert main(["experiment=shipped_profiles", f"tables={tmp_path}", "out=here"]) == 0
    table = pd.read_csv("here/shipped_profiles.csv")
    assert list(dict.fromkeys(table.profile)) == names
    assert set(table[table.engine == "unvalidated"].profile) == set(names[2:])
    points = pd.read_csv("here/shipped_points.csv")
    h100, h800 = (points[(points.profile == name) & (points.engine == "vLLM 0.21")] for name in names[:2])
    assert h100.ms.tolist() == h800.ms.tolist() == [6.48, 6.59]


def test_what_is_cited_is_of_shipped_profiles() -> None:
    cited = pd.read_csv(MEASUREMENTS)
    assert set(cited.profile) <= set(profile_names())
    assert set(cited.kind) == {"decode", "prefill"}
    assert (cited[["batch", "tokens", "ms"]] > 0).all(axis=None)
    assert cited[["engine", "source"]].notna().all(axis=None)
