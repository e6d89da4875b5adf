"""Operator tables: what single operators of one decoder layer take, read in place from a folder of CSV files.

The format is that of LLMServingSim's profiler (github.com/casys-kaist/LLMServingSim): ``dense.csv`` (layer, tokens,
time_us), ``attention.csv`` (prefill_chunk, kv_prefill, n_decode, kv_decode, time_us), ``per_sequence.csv`` (layer,
sequences, time_us), ``skew.csv`` (batches whose contexts differ), ``moe.csv`` (tokens, activated_experts, time_us)
where experts stand for the MLP, and ``meta.yaml``. Every operator of a file counts: one that is not known is refused.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gsim.core.errors import ProfileError
from gsim.core.files import UNREADABLE, check_regular
from gsim.latency.operators.experts import ExpertTable

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

#: Operators of one decoder layer's attention, and how often each runs in it.
ATTENTION_OPERATORS = {"layernorm": 2, "qkv_proj": 1, "rotary_emb": 1, "o_proj": 1}
#: Where queries and keys are normalised: both norms are one entry of the profiler's catalogue.
NORM_OPERATORS = {"qk_norm": 1}
#: A dense layer's MLP; a mixture of experts is one operator in a table of its own.
MLP_OPERATORS = {"gate_up_proj": 1, "act_fn": 1, "down_proj": 1}
#: Operators of a dense layer.
LAYER_OPERATORS = {**ATTENTION_OPERATORS, **MLP_OPERATORS}
#: Operators that run once per iteration, on all tokens.
OUTER_OPERATORS = {"embedding": 1, "final_layernorm": 1}
#: Operators that run once per iteration, on one token of every sequence.
SEQUENCE_OPERATORS = {"lm_head": 1, "sampler": 1}
#: Borders of the skew rate, (longest - mean) / longest, between which alpha is one number.
SKEW_BORDERS = (0.05, 0.15, 0.4, 0.7)


@dataclass(frozen=True)
class OperatorTables:
    """The tables of one folder, seconds, as arrays."""

    tokens: Floats
    dense_layer_s: Floats
    """All dense operators of one layer, by tokens."""
    dense_outer_s: Floats
    """Embedding and final norm, by tokens."""
    sequences: Floats
    head_s: Floats
    """Head and sampler, by sequences."""
    chunks: tuple[int, ...]
    prefill_contexts: tuple[int, ...]
    decodes: tuple[int, ...]
    """Decode batch sizes, from 1."""
    decode_contexts: tuple[int, ...]
    decode_s: Floats
    """Attention of one layer, pure decode: [decodes, context]."""
    mixed_s: Floats
    """Attention of one layer, a chunk and decodes jointly: [chunk, prefill context, 0 and decodes, context]."""
    skew_decodes: tuple[int, ...]
    skew_chunks: tuple[int, ...]
    """Chunk sizes of the skew table; 0: pure decode."""
    alpha: Floats
    """Weight of the longest context: [chunk, decodes, band of the skew rate]."""
    experts: ExpertTable | None = None
    """Experts of one layer, where the model has them."""


def read_tables(folder: Path, *, qk_norm: bool = False, experts: bool = False) -> OperatorTables:
    """Read and check a folder; raises ``ProfileError`` that names the file, the row or point, and the value.

    ``qk_norm`` and ``experts``: what the model's layers have. An operator that is missing, and one that no layer of
    this model has, are refused by name.
    """
    layer = {**ATTENTION_OPERATORS, **(NORM_OPERATORS if qk_norm else {}), **({} if experts else MLP_OPERATORS)}
    _refuse_unknown(folder / "dense.csv", {**layer, **OUTER_OPERATORS})
    _refuse_unknown(folder / "per_sequence.csv", SEQUENCE_OPERATORS)
    if not experts and (folder / "moe.csv").exists():
        raise ProfileError(f"{folder / 'moe.csv'}: times of experts, but the model is dense")
    tokens, layer_s = _by_size(folder / "dense.csv", "tokens", layer)
    _, outer_s = _by_size(folder / "dense.csv", "tokens", OUTER_OPERATORS)
    sequences, head_s = _by_size(folder / "per_sequence.csv", "sequences", SEQUENCE_OPERATORS)
    attention = _read(folder / "attention.csv", ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"])
    pure = attention[attention.prefill_chunk == 0]
    mixed = attention[attention.prefill_chunk > 0]
    where = folder / "attention.csv"
    decodes, contexts = _axis(pure.n_decode), _axis(pure.kv_decode)
    decode_s = _fill(where, pure, {"n_decode": decodes, "kv_decode": contexts})
    chunks, prefill_contexts = _axis(mixed.prefill_chunk), _axis(mixed.kv_prefill)
    mixed_s = _mixed(where, mixed, chunks, prefill_contexts, decodes, contexts, decode_s)
    skew_decodes, skew_chunks, alpha = read_alphas(folder / "skew.csv")
    return OperatorTables(
        tokens, layer_s, outer_s, sequences, head_s, chunks, prefill_contexts, decodes, contexts, decode_s, mixed_s,
        skew_decodes, skew_chunks, alpha, read_experts(folder / "moe.csv") if experts else None,
    )  # fmt: skip


def _refuse_unknown(path: Path, known: dict[str, int]) -> None:
    """Every operator of a file counts: one that would be left out is refused by name."""
    there = sorted(set(_read(path, ["layer"]).layer))
    unknown = [name for name in there if name not in known]
    if unknown:
        raise ProfileError(
            f"{path}: operator {unknown[0]} is not one that a layer of this model has; known: {', '.join(known)}"
        )


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    # Only here: it takes longer to load than all of gsim, and most profiles are no tables of operators.
    import pandas as pd

    try:
        check_regular(path)
        frame = pd.read_csv(path)
    except UNREADABLE as error:
        raise ProfileError(f"{path}: cannot be read: {error}") from None
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ProfileError(f"{path}: column {missing[0]} is missing; the columns are: {', '.join(frame.columns)}")
    for column in columns:
        if column == "layer":
            continue
        values = pd.to_numeric(frame[column], errors="coerce")
        bad = ~np.isfinite(values) | (values <= 0 if column == "time_us" else values < 0)
        if bad.any():
            row = int(np.argmax(bad))
            low = "above 0" if column == "time_us" else "of at least 0"
            value = frame[column].iloc[row]
            raise ProfileError(f"{path}, row {row + 2}: {column} must be a finite number {low}, not {value}")
    return frame


def read_experts(path: Path) -> ExpertTable:
    """``moe.csv``: every number of tokens with the numbers of experts that so few tokens can activate."""
    frame = _read(path, ["tokens", "activated_experts", "time_us"])
    tokens, counts = _axis(frame.tokens), _axis(frame.activated_experts)
    rows = []
    for size in tokens:
        own = frame[frame.tokens == size].sort_values("activated_experts")
        if own.activated_experts.duplicated().any():
            twice = int(own.activated_experts[own.activated_experts.duplicated()].iloc[0])
            raise ProfileError(f"{path}: tokens {size}: two rows for activated_experts {twice}")
        # Beyond what was measured (more experts than so few tokens reach) the last time holds.
        rows.append(np.interp(counts, own.activated_experts.to_numpy(), own.time_us.to_numpy() * 1e-6))
    return ExpertTable(tokens, counts, np.array(rows))


def _axis(values: pd.Series) -> tuple[int, ...]:
    return tuple(sorted({int(value) for value in values if value > 0}))


def _by_size(path: Path, size: str, operators: dict[str, int]) -> tuple[Floats, Floats]:
    """Sum of some operators by size; every operator must have every size."""
    frame = _read(path, ["layer", size, "time_us"])
    total: pd.Series | None = None
    for operator, times in operators.items():
        rows = frame[frame.layer == operator].set_index(size).time_us.sort_index() * (times * 1e-6)
        if rows.empty:
            raise ProfileError(
                f"{path}: operator {operator} is missing; there are: {', '.join(sorted(set(frame.layer)))}"
            )
        if rows.index.has_duplicates:
            raise ProfileError(f"{path}: {operator} has two rows for {size} {rows.index[rows.index.duplicated()][0]}")
        if total is not None and not rows.index.equals(total.index):
            hole = sorted(set(rows.index) ^ set(total.index))[0]
            raise ProfileError(f"{path}: {operator}: not every operator has a row for {size} {hole}")
        total = rows if total is None else total + rows
    assert total is not None
    return total.index.to_numpy(dtype=np.float64), total.to_numpy(dtype=np.float64)


def _fill(path: Path, frame: pd.DataFrame, axes: dict[str, tuple[int, ...]], where: str = "") -> Floats:
    """The frame as a dense array over ``axes``; raises where a grid point is missing."""
    table = np.full([len(axis) for axis in axes.values()], np.nan)
    places = tuple(np.searchsorted(axis, frame[name].to_numpy()) for name, axis in axes.items())
    table[places] = frame.time_us.to_numpy() * 1e-6
    holes = np.argwhere(np.isnan(table))
    if len(holes):
        point = ", ".join(f"{name} {axis[i]}" for (name, axis), i in zip(axes.items(), holes[0]))
        point = f"{where}, {point}" if where else point
        raise ProfileError(f"{path}: grid point missing at {point} ({len(holes)} of {table.size} points are missing)")
    return table


def _mixed(
    path: Path,
    mixed: pd.DataFrame,
    chunks: tuple[int, ...],
    prefill_contexts: tuple[int, ...],
    decodes: tuple[int, ...],
    contexts: tuple[int, ...],
    decode_s: Floats,
) -> Floats:
    """Joint attention on the union of the measured grids.

    Every slice of one chunk and prefill context must be a full grid; slices may have different decode contexts (a
    folder may hold several sweeps). What one sweep did not measure is interpolated: along decode contexts, then along
    prefill contexts, then along chunks.
    """
    behind = (0, *prefill_contexts)
    measured = _axis(mixed.n_decode)
    table = np.full((len(chunks), len(behind), 1 + len(decodes), len(contexts)), np.nan)
    for _, rows in mixed.groupby(["prefill_chunk", "kv_prefill"]):
        chunk, context = int(rows.prefill_chunk.iloc[0]), int(rows.kv_prefill.iloc[0])
        place = (chunks.index(chunk), behind.index(context))
        where = f"prefill_chunk {chunk}, kv_prefill {context}"
        alone = rows[rows.n_decode == 0].time_us.to_numpy() * 1e-6
        if len(alone) != 1:
            raise ProfileError(f"{path}: {where}: there must be one row with n_decode 0, not {len(alone)}")
        table[(*place, 0)] = alone[0]
        beside = rows[rows.n_decode > 0]
        if not beside.empty:
            own = _axis(beside.kv_decode)
            joint = _fill(path, beside, {"n_decode": measured, "kv_decode": own}, where)
            inside = [i for i, x in enumerate(contexts) if own[0] <= x <= own[-1]]
            at = np.array(contexts)[inside]
            for k, times in enumerate(joint):
                table[(*place, 1 + k, inside)] = np.interp(at, own, times)
    for axis, points in ((1, behind), (0, chunks)):
        table = _between(table, axis, points)
    # Where a chunk no longer fits beside the largest decode batches, those grow as they do alone.
    last = len(measured)
    table[:, :, 1 + last :, :] = table[:, :, last, None, :] + (decode_s[last:] - decode_s[last - 1])[None, None]
    holes = np.argwhere(np.isnan(table))
    if len(holes):
        i, j, k, m = holes[0]
        point = (
            f"prefill_chunk {chunks[i]}, kv_prefill {behind[j]}, n_decode {(0, *decodes)[k]}, kv_decode {contexts[m]}"
        )
        raise ProfileError(f"{path}: grid point missing at {point}, and no neighbours to interpolate from")
    return table


def _between(table: Floats, axis: int, points: Sequence[int]) -> Floats:
    """Fill NaN by linear interpolation along one axis, inside what is known there."""
    lines = np.moveaxis(table, axis, -1)
    flat = lines.reshape(-1, lines.shape[-1]).copy()
    at = np.asarray(points, dtype=np.float64)
    for i in np.flatnonzero(np.isnan(flat).any(axis=1)):
        known = np.flatnonzero(~np.isnan(flat[i]))
        if len(known) > 1:
            gaps = np.arange(known[0], known[-1] + 1)
            flat[i, gaps] = np.interp(at[gaps], at[known], flat[i, known])
    return np.moveaxis(flat.reshape(lines.shape), -1, axis)


def read_alphas(path: Path) -> tuple[tuple[int, ...], tuple[int, ...], Floats]:
    """Weight of the longest context, by chunk, decodes and band of the skew rate: least squares over a bin's rows.

    The absolute times of this file and of ``attention.csv`` differ; the ratio carries over, so rows are weighted as
    fractions of their own mean time. A folder without the file knows nothing of skew: alpha is 0, the mean context
    decides alone.
    """
    if not path.exists():
        return (1,), (0,), np.zeros((1, 1, len(SKEW_BORDERS) + 1))
    columns = ["n", "pc", "kv_big", "kv_mean", "t_mean_us", "t_max_us", "t_skew_us"]
    frame = _read(path, columns)
    decodes, chunks = _axis(frame.n), (0, *_axis(frame.pc))
    gap = (frame.t_max_us / frame.t_mean_us - 1.0).to_numpy()
    excess = (frame.t_skew_us / frame.t_mean_us - 1.0).to_numpy()
    rate = ((frame.kv_big - frame.kv_mean) / frame.kv_big).to_numpy()
    places = (
        np.searchsorted(chunks, frame.pc.to_numpy()),
        np.searchsorted(decodes, frame.n.to_numpy()),
        np.searchsorted(SKEW_BORDERS, rate),
    )
    shape = (len(chunks), len(decodes), len(SKEW_BORDERS) + 1)
    products, squares = np.zeros(shape), np.zeros(shape)
    np.add.at(products, places, gap * excess)
    np.add.at(squares, places, gap * gap)
    alpha = np.divide(products, squares, out=np.full(shape, np.nan), where=squares > 1e-6)
    # A bin without rows takes over its neighbour's alpha: that of the next lower band, else of the fewer decodes.
    for axis in (2, 1):
        alpha = _carry(alpha, axis)
    return decodes, chunks, np.clip(np.nan_to_num(alpha), 0.0, 1.0)


def _carry(table: Floats, axis: int) -> Floats:
    filled: Floats = np.moveaxis(table.copy(), axis, 0)
    for order in (range(1, len(filled)), range(len(filled) - 2, -1, -1)):
        step = -1 if isinstance(order, range) and order.step > 0 else 1
        for i in order:
            filled[i] = np.where(np.isnan(filled[i]), filled[i + step], filled[i])
    return np.moveaxis(filled, 0, axis)


def bracket(axis: Sequence[int], x: float) -> tuple[int, float]:
    """The piece of a rising axis that ``x`` lies in, and how far along; below the first point: its start."""
    if x <= axis[0] or len(axis) == 1:
        return 0, 0.0
    j = min(bisect_right(axis, x) - 1, len(axis) - 2)
    return j, (x - axis[j]) / (axis[j + 1] - axis[j])
