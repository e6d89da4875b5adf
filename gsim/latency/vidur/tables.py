"""Reading Vidur's and Frontier's tables: linear operators, attention, experts, all-reduces; in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsim.core.errors import ProfileError
from gsim.core.files import UNREADABLE, check_regular
from gsim.latency.deployment import Deployment
from gsim.latency.models import Experts, ModelShape

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

LINEAR = ("mlp.csv", "linear_op.csv")
ATTENTION = ("attention.csv", "attention_combined.csv", "attention_kernel_only.csv")
#: Linear operators of one layer, and how often each runs in it (two residual additions).
LAYER_OPERATORS = {
    "input_layernorm": 1,
    "attn_pre_proj": 1,
    "attn_rope": 1,
    "attn_post_proj": 1,
    "post_attention_layernorm": 1,
    "mlp_up_proj": 1,
    "mlp_act": 1,
    "mlp_down_proj": 1,
    "add": 2,
}
#: Operators that some files lack: they are taken as free, as Vidur takes them.
_OPTIONAL = {"input_layernorm", "post_attention_layernorm", "add"}
#: Operators of a dense MLP, which a layer of experts does not have.
_MLP = ("mlp_up_proj", "mlp_act", "mlp_down_proj")
#: Operators of a layer of experts.
EXPERT_OPERATORS = ("moe_gating_linear", "moe_gating_routing_topk", "moe_shuffling", "moe_grouped_gemm")
_WORKERS = "num_tensor_parallel_workers"


def find(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first of some files that a folder holds, packed or not."""
    for name in names:
        for file in (folder / name, folder / f"{name}.gz"):
            if file.is_file():
                return file
    return None


def read_linear(folder: Path, shape: ModelShape) -> dict[int, tuple[Floats, Floats, Floats]]:
    """By degree of tensor parallelism: tokens, seconds of one layer without attention's kernel, seconds of the head."""
    path = find(folder, LINEAR)
    assert path is not None
    experts = shape.experts
    layer = {name: n for name, n in LAYER_OPERATORS.items() if experts is None or name not in _MLP}
    needed = [_column(name) for name in layer if name not in _OPTIONAL]
    frame = _read(path, ["num_tokens", _WORKERS, "n_embd", "vocab_size", *needed])
    frame = frame[frame.n_embd == shape.hidden]
    if experts is None and "n_expanded_embd" in frame.columns and shape.intermediate:
        frame = frame[frame.n_expanded_embd == shape.intermediate]
    if frame.empty:
        raise ProfileError(f"{path}: no row has n_embd {shape.hidden} and the intermediate size of {shape.name}")
    found = {}
    for workers in _distinct(frame[_WORKERS]):
        rows = frame[frame[_WORKERS] == workers]
        table = rows.groupby("num_tokens").median(numeric_only=True)
        total = np.zeros(len(table))
        for name, times in layer.items():
            if _column(name) in table.columns:
                total += times * np.nan_to_num(table[_column(name)].to_numpy()) * 1e-3
        if not (total > 0.0).all():
            raise ProfileError(f"{path}: the operators at {table.index[int(np.argmin(total))]} tokens take no time")
        tokens = table.index.to_numpy(dtype=np.float64)
        if experts is not None:
            times_s = _read_experts(folder, experts, workers)
            if times_s is None:
                continue
            total += np.interp(tokens, *times_s)
        found[workers] = (tokens, total, _head_s(table, shape, total))
    if not found:
        raise ProfileError(f"{folder}: moe.csv has no rows of {experts} on one expert-parallel device")
    return found


def _head_s(table: pd.DataFrame, shape: ModelShape, layer_s: Floats) -> Floats:
    """The head by tokens: its own column, or its weights read as fast as a layer of one token reads its own."""
    own = _column("lm_head_linear")
    if own in table.columns and table[own].notna().all():
        # It runs on one token of each sequence; a prompt's other tokens do not reach it.
        return np.full(len(table), float(table[own].iloc[0]) * 1e-3)
    head_weights = float(table.vocab_size.iloc[0]) * shape.hidden
    layer_weights = (shape.parameters - 2 * head_weights) / shape.layers
    return np.full(len(table), float(layer_s[0] * head_weights / layer_weights))


def _read_experts(folder: Path, experts: Experts, workers: int) -> tuple[Floats, Floats] | None:
    """Seconds of one layer of experts by tokens; None where no row has all experts on each device and these workers.

    Where an operator was timed in several contexts, the least counts: a kernel timed alone waits for its own launch.
    """
    path = find(folder, ("moe.csv",))
    if path is None:
        raise ProfileError(f"{folder}: the model has experts, but there is no moe.csv")
    columns = [_column(name) for name in EXPERT_OPERATORS]
    frame = _read(path, ["num_tokens", "num_experts_per_device", "expert_parallel_size", _WORKERS, *columns])
    held = _distinct(frame.num_experts_per_device[frame.expert_parallel_size == 1])
    if experts.count not in held:
        raise ProfileError(
            f"{path}: num_experts_per_device (expert_parallel_size 1) is {held}, but the model has {experts.count}"
        )
    rows = frame[(frame.expert_parallel_size == 1) & (frame.num_experts_per_device == experts.count)]
    rows = rows[rows[_WORKERS] == workers]
    if rows.empty or rows[_column("moe_grouped_gemm")].isna().all():
        return None
    context = [name for name in ("gating_runtime_context_impl",) if name in rows.columns]
    table = rows.groupby(["num_tokens", *context], dropna=False)[columns].median().groupby("num_tokens").min()
    total = np.nan_to_num(table.to_numpy()).sum(axis=1) * 1e-3
    return table.index.to_numpy(dtype=np.float64), total


def read_attention(
    folder: Path, shape: ModelShape, tp: int, bandwidth_gb_per_s: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Seconds of one layer's attention: decode by batch and context, prefill by chunk and context.

    ``bandwidth_gb_per_s`` of the card bounds what saving KV takes: one file has 0.86 ms a layer for a prompt of 1,024
    tokens, whose 17 MB the card's memory takes in 8 us. That is no kernel.
    """
    path = find(folder, ATTENTION)
    assert path is not None
    columns = ["batch_size", "prefill_chunk_size", "kv_cache_size", _WORKERS, "n_embd", "n_kv_head"]
    timed = [_column("attn_prefill"), _column("attn_decode")]
    frame = _read(path, columns + timed)
    frame = frame[(frame[_WORKERS] == tp) & (frame.n_embd == shape.hidden) & (frame.n_kv_head == shape.kv_heads)]
    if "is_true_mixed_batch" in frame.columns:
        frame = frame[frame.is_true_mixed_batch.fillna(False) != True]  # noqa: E712
    if "mode" in frame.columns:
        # Batches of unlike lengths are no grid.
        frame = frame[~frame["mode"].isin(["random", "online_grid_skewed"])]
    saving = _column("attn_kv_cache_save")
    save = frame[saving].fillna(0.0) if saving in frame.columns else 0.0 * frame.batch_size
    written = frame.batch_size * frame.prefill_chunk_size.clip(lower=1) * (4 * shape.kv_heads * shape.head_dim / tp)
    save = save.clip(upper=0.01 + 2.0 * written / (bandwidth_gb_per_s * 1e6))
    decode = frame[frame.prefill_chunk_size == 0].assign(seconds=(frame[timed[1]] + save) * 1e-3)
    decode = decode[decode.kv_cache_size > 0] if (decode.kv_cache_size > 0).any() else decode
    prefill = frame[(frame.prefill_chunk_size > 0) & (frame.batch_size == 1)]
    prefill = prefill.assign(seconds=(frame[timed[0]] + save) * 1e-3)
    what = f"tp {tp}, the shape of {shape.name}"
    return (
        _grid(path, decode, "batch_size", what, first_column=None),
        _grid(path, prefill, "prefill_chunk_size", what, first_column=0),
    )


def _grid(path: Path, rows: pd.DataFrame, by: str, what: str, first_column: int | None) -> pd.DataFrame:
    """A full grid by ``by`` and KV cache; what did not fit the card's memory carries on with the last slope."""
    grid = rows.pivot_table(index=by, columns="kv_cache_size", values="seconds", aggfunc="median")
    if grid.empty or (first_column is not None and first_column not in grid.columns):
        missing = "rows" if grid.empty else f"rows with kv_cache_size {first_column}"
        raise ProfileError(f"{path}: there are no {missing} for {by} ({what})")
    at = grid.columns.to_numpy(dtype=np.float64)
    for key, row in grid.iterrows():
        known = np.flatnonzero(row.notna().to_numpy())
        if len(known) < 2 and len(at) > 1:
            if first_column is not None and known.tolist() == [0]:
                # Only the whole prompt was timed at this length: what a context costs is the next length's.
                continue
            raise ProfileError(f"{path}: {by} {key} has {len(known)} KV cache sizes; at least 2 are needed")
        values = row.to_numpy()[known]
        filled = np.interp(at, at[known], values)
        if len(known) > 1:
            slope = max((values[-1] - values[-2]) / (at[known[-1]] - at[known[-2]]), 0.0)
            filled += np.maximum(at - at[known[-1]], 0.0) * slope
        grid.loc[key] = filled
    return _lonely(grid)


def _lonely(grid: pd.DataFrame) -> pd.DataFrame:
    """Rows with the first column alone take what contexts cost from their neighbours, in proportion to their tokens."""
    full = grid[grid.notna().all(axis=1)]
    sizes = full.index.to_numpy(dtype=np.float64)
    for key, row in grid[grid.isna().any(axis=1)].iterrows():
        size = float(key)  # type: ignore[arg-type]
        near = full.iloc[int(np.argmin(np.abs(sizes - size)))]
        added = (near.to_numpy() - near.to_numpy()[0]) * size / float(near.name)  # type: ignore[arg-type]
        grid.loc[key] = row.iloc[0] + added
    return grid


def read_all_reduce(folder: Path, deployment: Deployment) -> Callable[[Floats], Floats]:
    """Seconds of one all-reduce of the hidden states of so many tokens, from ``all_reduce.csv`` beside the tables."""
    path = find(folder, ("all_reduce.csv",))
    if path is None:
        raise ProfileError(
            f"{folder}: tp {deployment.tp} needs the time of an all-reduce, which these tables do not hold: put "
            "all_reduce.csv (num_workers, size in bytes, time_stats.all_reduce.median in ms) beside them"
        )
    frame = _read(path, ["num_workers", "size", _column("all_reduce")])
    rows = frame[frame.num_workers == deployment.tp]
    if rows.empty:
        raise ProfileError(f"{path}: num_workers {deployment.tp} is missing; there are {_distinct(frame.num_workers)}")
    times = rows.groupby("size")[_column("all_reduce")].median()
    sizes, seconds = times.index.to_numpy(dtype=np.float64), times.to_numpy(dtype=np.float64) * 1e-3
    slope = max((seconds[-1] - seconds[0]) / (sizes[-1] - sizes[0]), 0.0) if len(sizes) > 1 else 0.0

    def reduce_s(tokens: Floats) -> Floats:
        size = 2.0 * deployment.model.hidden * tokens
        time_s: Floats = np.interp(size, sizes, seconds) + np.maximum(size - sizes[-1], 0.0) * slope
        return time_s

    return reduce_s


def _distinct(values: Any) -> list[int]:
    return sorted({int(value) for value in values})


def _column(operator: str) -> str:
    return f"time_stats.{operator}.median"


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    # Only here: it takes longer to load than all of gsim, and most profiles are no such tables.
    import pandas as pd

    try:
        check_regular(path)
        frame = pd.read_csv(path, low_memory=False)
    except UNREADABLE as error:
        raise ProfileError(f"{path}: cannot be read: {error}") from None
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ProfileError(f"{path}: column {missing[0]} is missing; the columns are: {', '.join(frame.columns)}")
    return frame
