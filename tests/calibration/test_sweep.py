"""The operator sweep: its grids everywhere, its kernels where PyTorch is installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from gsim.calibration import sweep as module
from gsim.calibration.sweep import SweepError, SweepOptions, attention_grid, read_options, token_grid
from gsim.latency.operators.tables import read_tables

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
PUBLISHED = SHARED / "data" / "profiles" / "operator" / "rtx4090-llama-3.1-8b-tp1"


def interpreter_with_torch() -> str | None:
    """This interpreter, or the one that GSIM_TORCH_PYTHON names, if it has PyTorch."""
    if importlib.util.find_spec("torch"):
        return sys.executable
    return os.environ.get("GSIM_TORCH_PYTHON")


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published operator profiles are not here")
def test_the_grids_are_those_of_the_published_profiles():
    options = SweepOptions(out="x", gpu="y")
    dense = pd.read_csv(PUBLISHED / "dense.csv")
    assert set(dense["tokens"]) <= set(token_grid(2048))
    attention = pd.read_csv(PUBLISHED / "attention.csv").drop(columns="time_us")
    ours = set(attention_grid(options))
    theirs = set(attention.itertuples(index=False, name=None))
    assert theirs <= ours


def test_without_pytorch_the_sweep_says_so(monkeypatch, tmp_path):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(module.importlib, "import_module", missing)
    with pytest.raises(SweepError, match="needs PyTorch"):
        module.sweep(SweepOptions(out=str(tmp_path), gpu="none", model="tiny"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gpu=x"], r"missing: out=\.\.\."),
        (["out=x", "gpu=x", "model=other"], "model must be one of llama-3.1-8b"),
        (["out=x", "gpu=x", "repeats=many"], "repeats must be int, not 'many'"),
        (["out=x", "gpu=x", "speed=3"], "'speed=3' is no option"),
        (["out=x", "gpu=x", "max_tokens=4"], "max_tokens must be at least 16"),
    ],
)
def test_bad_options_are_named(arguments, message):
    with pytest.raises(SweepError, match=message):
        read_options(arguments)


@pytest.mark.skipif(interpreter_with_torch() is None, reason="PyTorch is not installed (GSIM_TORCH_PYTHON names one)")
def test_a_tiny_sweep_on_the_processor_is_an_operator_profile(tmp_path):
    limits = ["max_tokens=32", "max_context=64", "max_sequences=4", "repeats=2", "warm_up=1"]
    program = [interpreter_with_torch(), module.__file__, f"out={tmp_path}", "gpu=CPU", "device=cpu", "model=tiny"]
    subprocess.run([*program, *limits], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (pd.read_csv(tmp_path / "dense.csv")["time_us"] > 0).all()
    attention = pd.read_csv(tmp_path / "attention.csv").drop(columns="time_us")
    limits = SweepOptions(out="x", gpu="y", max_tokens=32, max_context=64, max_sequences=4)
    assert list(attention.itertuples(index=False, name=None)) == list(attention_grid(limits))
    heads = pd.read_csv(tmp_path / "per_sequence.csv")
    assert list(heads["sequences"]) == [1, 1, 2, 2, 3, 3, 4, 4]
    meta = yaml.safe_load((tmp_path / "meta.yaml").read_text())
    assert meta["engine_effective"]["max_num_batched_tokens"] == 32
    assert "no serving engine" in meta["vllm_version"]
    tables = read_tables(tmp_path)
    assert (tables.tokens[-1], tables.decode_contexts[-1]) == (32, 64)
