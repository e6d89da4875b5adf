"""Vidur's profiling CSVs as a profile, read in place.

A folder ``.../compute/DEVICE/ORG/MODEL/`` holds ``mlp.csv`` (time of every linear operator of one layer, by tokens) and
``attention.csv`` (prefill by chunk and KV cache, decode by batch and KV cache), milliseconds, columns
``time_stats.OPERATOR.median`` (github.com/microsoft/vidur, ``data/profiling``). Vidur times kernels and no head: the
head is modelled as reading its weights as fast as a layer of one token reads its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gsim.core.errors import ProfileError
from gsim.core.files import check_regular
from gsim.latency.deployment import Deployment
from gsim.latency.domain import Domain, Extent
from gsim.latency.grid import IterationGrid
from gsim.latency.models import ModelShape, model_shape
from gsim.latency.profile import Profile, Provenance

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

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
#: Operators that older files lack: they are taken as free, as Vidur takes them.
_OPTIONAL = {"input_layernorm", "post_attention_layernorm", "add"}
#: What a current engine takes beside its kernels: real vLLM on H100 against sums of kernels (7.0-7.5 to 5.8-6.3 ms).
OVERHEAD_S = 1e-3
#: Memory (GB) and whether vLLM's defaults for large cards apply, by Vidur's device names.
DEVICES = {"a40": (48, False), "a100": (80, False), "h100": (80, True), "a30": (24, False), "t4": (16, False)}


def is_vidur_folder(path: Path) -> bool:
    """True for a folder that holds Vidur's tables."""
    return path.is_dir() and (path / "mlp.csv").is_file() and (path / "attention.csv").is_file()


def vidur_profile(folder: Path, gpu: str | None = None, model: str | None = None) -> Profile:
    """The profile of a folder; device and model are the folder's own names unless they are given.

    Raises ``ProfileError`` that names the file, the column and what there is.
    """
    device = (gpu or folder.parents[1].name).lower()
    if device not in DEVICES:
        raise ProfileError(f"{folder}: device '{device}' is not known; there are: {', '.join(sorted(DEVICES))}")
    shape = model_shape(model or _model_name(folder))
    memory_gb, large = DEVICES[device]
    deployment = Deployment(shape, device.upper())
    kv_tokens = deployment.kv_tokens(memory_gb)
    if kv_tokens < 1:
        raise ProfileError(f"{folder}: {deployment.too_large(memory_gb)}")
    name = f"{device}-{shape.name}"
    tokens, layer_s, head_s = _linear(folder / "mlp.csv", shape)
    decode, prefill = _attention(folder / "attention.csv", shape)
    batches, contexts = decode.index.to_numpy(), decode.columns.to_numpy()
    chunks, cached = prefill.index.to_numpy(), prefill.columns.to_numpy()
    square_s = shape.layers * float((prefill[0].to_numpy() @ chunks**2) / (chunks**2 @ chunks**2))
    domain = Domain(
        Extent(int(batches[-1]), int(chunks[-1]), int(max(contexts[-1], cached[-1]))),
        Extent(max(1024, int(batches[-1])), max(16384, int(chunks[-1])), max(int(contexts[-1]), shape.max_position)),
        name,
    )
    latency = IterationGrid(
        domain=domain,
        decode_batches=tuple(int(x) for x in batches),
        decode_contexts=tuple(int(x) for x in contexts),
        decode_s=_whole(shape, decode, np.interp(batches, tokens, layer_s), head_s),
        prefill_tokens=tuple(int(x) for x in chunks),
        prefill_contexts=tuple(int(x) for x in cached),
        prefill_s=_whole(shape, prefill, np.interp(chunks, tokens, layer_s), head_s),
        square_token_s=square_s,
        overhead_s=OVERHEAD_S,
    )
    return Profile(
        name=name,
        deployment=deployment,
        latency=latency,
        kv_tokens=kv_tokens,
        max_num_batched_tokens=8192 if large else 2048,
        max_num_seqs=1024 if large else 256,
        max_model_len=min(shape.max_position, kv_tokens),
        price_per_hour=0.0,
        price_source="not stated",
        provenance=Provenance(
            source="Vidur (github.com/microsoft/vidur), data/profiling, read in place",
            basis="derived: sum of measured operators; head modelled; 1 ms per iteration of engine overhead added",
            engine_version="Sarathi/FlashInfer kernels",
            date="2024",
            licence="MIT",
            uncertainty="+-8 % (judged from differences between sources)",
        ),
        domain=domain,
    )


def _model_name(folder: Path) -> str:
    return folder.name.replace("Meta-Llama-3-", "Llama-3.1-")


def _whole(shape: ModelShape, attention: pd.DataFrame, layer_s: Floats, head_s: float) -> tuple[tuple[float, ...], ...]:
    """Iterations: all layers of linear operators and attention, and the head."""
    table = shape.layers * (attention.to_numpy() + layer_s[:, None]) + head_s
    return tuple(tuple(row) for row in table.tolist())


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    # Only here: it takes longer to load than all of gsim, and most profiles are no tables of Vidur's.
    import pandas as pd

    try:
        check_regular(path)
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ProfileError(f"{path}: cannot be read: {error}") from None
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ProfileError(f"{path}: column {missing[0]} is missing; the columns are: {', '.join(frame.columns)}")
    return frame[frame.num_tensor_parallel_workers == 1]


def _linear(path: Path, shape: ModelShape) -> tuple[Floats, Floats, float]:
    """Tokens, seconds of one layer's linear operators, seconds of the head."""
    needed = [f"time_stats.{name}.median" for name in LAYER_OPERATORS if name not in _OPTIONAL]
    frame = _read(path, ["num_tokens", "num_tensor_parallel_workers", "n_embd", "vocab_size", *needed])
    frame = frame[frame.n_embd == shape.hidden].groupby("num_tokens").median(numeric_only=True)
    if frame.empty:
        raise ProfileError(f"{path}: no row has one worker and n_embd {shape.hidden} ({shape.name})")
    total = np.zeros(len(frame))
    for name, times in LAYER_OPERATORS.items():
        column = f"time_stats.{name}.median"
        if column in frame.columns:
            total += times * np.nan_to_num(frame[column].to_numpy()) * 1e-3
    if not (total > 0.0).all():
        raise ProfileError(f"{path}: the operators at {frame.index[int(np.argmin(total))]} tokens take no time")
    head_weights = float(frame.vocab_size.iloc[0]) * shape.hidden
    layer_weights = (shape.parameters - 2 * head_weights) / shape.layers
    return frame.index.to_numpy(dtype=np.float64), total, float(total[0] * head_weights / layer_weights)


def _attention(path: Path, shape: ModelShape) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Seconds of one layer's attention: decode by batch and context, prefill by chunk and context."""
    columns = [
        "batch_size",
        "prefill_chunk_size",
        "kv_cache_size",
        "num_tensor_parallel_workers",
        "n_embd",
        "n_kv_head",
    ]
    timed = ["time_stats.attn_prefill.median", "time_stats.attn_decode.median"]
    frame = _read(path, columns + timed)
    frame = frame[(frame.n_embd == shape.hidden) & (frame.n_kv_head == shape.kv_heads)]
    saving = "time_stats.attn_kv_cache_save.median"
    save = frame[saving].fillna(0.0) if saving in frame.columns else 0.0
    decode = frame[frame.prefill_chunk_size == 0].assign(seconds=(frame[timed[1]] + save) * 1e-3)
    prefill = frame[(frame.prefill_chunk_size > 0) & (frame.batch_size == 1)]
    prefill = prefill.assign(seconds=(frame[timed[0]] + save) * 1e-3)
    return (
        _grid(path, decode, "batch_size", first_column=None),
        _grid(path, prefill, "prefill_chunk_size", first_column=0),
    )


def _grid(path: Path, rows: pd.DataFrame, by: str, first_column: int | None) -> pd.DataFrame:
    """A full grid by ``by`` and KV cache; what did not fit the card's memory carries on with the last slope."""
    grid = rows.pivot_table(index=by, columns="kv_cache_size", values="seconds", aggfunc="median")
    if grid.empty or (first_column is not None and first_column not in grid.columns):
        what = "rows" if grid.empty else f"rows with kv_cache_size {first_column}"
        raise ProfileError(f"{path}: there are no {what} for {by} (one worker, this model's shape)")
    at = grid.columns.to_numpy(dtype=np.float64)
    for key, row in grid.iterrows():
        known = np.flatnonzero(row.notna().to_numpy())
        if len(known) < 2 and len(at) > 1:
            raise ProfileError(f"{path}: {by} {key} has {len(known)} KV cache sizes; at least 2 are needed")
        values = row.to_numpy()[known]
        filled = np.interp(at, at[known], values)
        if len(known) > 1:
            slope = max((values[-1] - values[-2]) / (at[known[-1]] - at[known[-2]]), 0.0)
            filled += np.maximum(at - at[known[-1]], 0.0) * slope
        grid.loc[key] = filled
    return grid
