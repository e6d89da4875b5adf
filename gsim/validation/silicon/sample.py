"""``silicon_sample.csv`` of aiconfigurator-core: TTFT and TPOT that others measured, read in place.

A row is one benchmark of one deployment: ``batch_size`` requests at once, each of ``isl`` prompt and ``osl`` output
tokens (InferenceX-like runs and others). Only vLLM's aggregated rows without data parallelism of attention, pipeline or
expert parallelism are about deployments that gsim knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from gsim.core.errors import InputError, ProfileError
from gsim.latency import ModelShape, model_shape
from gsim.latency.models import Experts

_SYSTEMS = {"a100_sxm": "a100", "h100_sxm": "h100", "h200_sxm": "h200", "b200_sxm": "b200", "l40s": "l40s"}
#: What the rows call a precision -> weights and experts, by model; checkpoints of experts in fp8 are scaled by blocks.
_DTYPES = {"fp8": ("fp8", ""), "fp4": ("nvfp4", "nvfp4"), "bf16": ("bf16", "")}
_BLOCK_SCALED = ("qwen3-235b-a22b", "minimax-m2.5")
#: ``config.json`` of MiniMaxAI/MiniMax-M2.5.
_MINIMAX = ModelShape(
    "minimax-m2.5", 62, 3072, 48, 8, 128, 196608, vocabulary=200064, qk_norm=True, experts=Experts(256, 8, 1536)
)
_COLUMNS = ("backend", "mode", "system", "model_path", "precision", "isl", "osl", "batch_size", "tp_size")
#: Class -> |TPOT error| that is aimed at, median and 90th percentile, plain and after three measured points.
TARGETS = {
    "dense bf16, fp8": ((10.0, 25.0), (7.0, 17.0)),
    "dense fp4": ((10.0, 20.0), (7.0, 18.0)),
    "MoE mxfp4, nvfp4": ((15.0, 40.0), (10.0, 30.0)),
    "MoE fp8_block": ((30.0, 55.0), (15.0, 30.0)),
}


class Measured(NamedTuple):
    """One deployment, and its rows."""

    shape: ModelShape
    gpu: str
    tp: int
    weight_dtype: str
    moe_dtype: str
    precision: str
    rows: pd.DataFrame

    @property
    def name(self) -> str:
        """Model and precision, as tables call it."""
        return f"{self.shape.name} {self.precision}"

    def suspect(self, concurrency: int) -> str:
        """Why a row is not believed; empty where it is. Such rows are told, and counted in no class."""
        if self.shape.name == "llama-3.1-8b":
            return "prompts are computed twice as fast as the kernels compute them"
        if self.shape.name == "qwen3-32b" and self.precision == "fp8":
            return "three rows of their own, of unknown parallelism"
        if self.shape.name.startswith("gpt-oss") and concurrency >= 512:
            return "512 at once: the engine's batch limit is not stated"
        return ""

    @property
    def kind(self) -> str:
        """The class that its error is told by."""
        if self.shape.experts is None:
            return "dense fp4" if self.weight_dtype == "nvfp4" else "dense bf16, fp8"
        return "MoE fp8_block" if self.weight_dtype == "fp8_block" else "MoE mxfp4, nvfp4"


def read_sample(root: Path) -> tuple[list[Measured], list[str]]:
    """The deployments that can be composed, and why the other rows cannot, with their numbers."""
    file = root / "silicon_sample.csv"
    try:
        table = pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    missing = [name for name in (*_COLUMNS, "silicon_ttft_ms", "silicon_tpot_ms") if name not in table.columns]
    if missing:
        raise InputError(f"{file}: column {missing[0]} is missing")
    kept, left_out = table, []
    for what, keep in (
        ("of other engines than vLLM", table.backend == "vllm"),
        ("with prefill apart from decode", table["mode"] == "agg"),
        ("with data parallelism of attention", table.attention_dp_size.fillna(1) <= 1),
        ("with pipeline parallelism", table.pp_size.fillna(1) <= 1),
        ("with expert parallelism", table.moe_ep_size.fillna(1) <= 1),
        ("on cards without tables here", table.system.isin(list(_SYSTEMS))),
    ):
        gone = ~keep.reindex(kept.index)
        left_out.append(f"{int(gone.sum())} {what}")
        kept = kept[~gone]
    found = []
    keys = [kept.system, kept.model_path, kept.precision.fillna("bf16"), kept.tp_size]
    for key, rows in kept.groupby(keys):
        system, model, precision = (str(part) for part in key[:3])
        try:
            shape = _MINIMAX if "MiniMax-M2.5" in model else _shape(model)
        except ProfileError as error:
            left_out.append(f"{len(rows)} of {model}: {str(error).split(';')[0]}")
            continue
        weights, experts = _dtypes(shape, precision)
        found.append(Measured(shape, _SYSTEMS[system], int(rows.tp_size.iloc[0]), weights, experts, precision, rows))
    return found, left_out


def _shape(model: str) -> ModelShape:
    return model_shape(model.removesuffix("-FP8").removesuffix("-Instruct"))


def _dtypes(shape: ModelShape, precision: str) -> tuple[str, str]:
    if shape.name.startswith("gpt-oss"):
        # Published in one form only: experts in mxfp4, everything else in 16 bit.
        return "bf16", "mxfp4"
    if precision == "fp8" and shape.name in _BLOCK_SCALED:
        return "fp8_block", "fp8_block"
    if precision not in _DTYPES:
        raise InputError(f"silicon_sample.csv: precision '{precision}' of {shape.name} is not known")
    return _DTYPES[precision]
