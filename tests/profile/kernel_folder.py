"""A folder of kernel tables as aiconfigurator-core has them, with times that follow a law."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd

#: Milliseconds per multiply-add and per byte of weights, by dtype.
GEMM_MS = {"bfloat16": (4e-12, 5e-10, 2), "fp8": (2e-12, 5e-10, 1)}


def gemm_ms(m: int, n: int, k: int, dtype: str = "bfloat16") -> float:
    compute, read, width = GEMM_MS[dtype]
    return 0.002 + compute * m * n * k + read * width * n * k


def decode_ms(batch: int, context: int, kv_heads: int) -> float:
    return 0.004 + 1e-8 * batch * context * kv_heads


def prefill_ms(tokens: int, heads: int) -> float:
    return 0.004 + 1e-9 * tokens * tokens * heads


def write_tables(root: Path, system: str = "h100_sxm", dirty: bool = False) -> Path:
    """``dirty``: one small product that took as long as a large one, and an fp8 product slower than in 16 bit."""
    folder = root / "systems" / "data" / system
    sizes = (1, 16, 128, 1024, 16384)
    widths = (128, 1024, 4096, 16384, 262144)
    gemms = [
        (dtype, m, n, k, gemm_ms(m, n, k, dtype))
        for dtype, m, n, k in itertools.product(GEMM_MS, sizes, widths, widths[:-1])
    ]
    if dirty:
        gemms = [
            (*row[:4], 5.0) if row[:4] in (("bfloat16", 16, 4096, 4096), ("fp8", 128, 4096, 4096)) else row
            for row in gemms
        ]
    _write(folder, "gemm/vllm/0.24.0/gemm_perf.parquet", ["gemm_dtype", "m", "n", "k", "latency"], gemms)
    shape = ["num_heads", "num_key_value_heads", "head_dim", "kv_cache_dtype", "window_size"]
    heads = [(h, kv, 128, "bfloat16", 0) for h, kv in ((32, 8), (16, 4), (64, 8), (8, 1), (16, 2))]
    decodes = [
        (*head, b, step, decode_ms(b, step + 1, head[1]))
        for head, b, step in itertools.product(heads, (1, 8, 64, 512), (127, 1023, 16383, 131071))
    ]
    _write(
        folder,
        "attention/vllm/0.24.0/generation_attention_perf.parquet",
        [*shape, "batch_size", "step", "latency"],
        decodes,
    )
    prefills = [
        (*head, 1, isl, prefill_ms(isl, head[0])) for head, isl in itertools.product(heads, (16, 128, 1024, 16384))
    ]
    _write(
        folder,
        "attention/vllm/0.24.0/context_attention_perf.parquet",
        [*shape, "batch_size", "isl", "latency"],
        prefills,
    )
    sent = [(2, "custom_graph", size, 0.01 + 1e-8 * size) for size in (1024, 2**20, 2**27)]
    _write(
        folder,
        "comm/vllm/0.24.0/custom_allreduce_perf.parquet",
        ["num_gpus", "kernel_source", "message_size", "latency"],
        sent,
    )
    slower = [(2, "all_reduce", "half", size, 0.05 + 1e-8 * size) for size in (1024, 2**20, 2**27)]
    _write(
        folder,
        "comm/nccl/2.26/nccl_perf.parquet",
        ["num_gpus", "op_name", "nccl_dtype", "message_size", "latency"],
        slower,
    )
    columns = ["hidden_size", "inter_size", "topk", "num_experts", "moe_dtype", "moe_tp_size", "moe_ep_size"]
    experts = [
        (2048, 768, 8, 128, "bfloat16", 1, 1, "power_law_1.2", tokens, 0.02 + 1e-5 * tokens)
        for tokens in (1, 64, 1024, 16384)
    ]
    _write(folder, "moe/vllm/0.24.0/moe_perf.parquet", [*columns, "distribution", "num_tokens", "latency"], experts)
    return root


def _write(folder: Path, file: str, columns: list[str], rows: list[tuple[object, ...]]) -> None:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=columns).to_parquet(path)
