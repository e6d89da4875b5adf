"""Vidur's profiling CSVs, and Frontier's of the same columns, as a profile, read in place.

A folder ``.../DEVICE/ORG/MODEL/`` or ``.../DEVICE/MODEL/`` holds ``mlp.csv`` or ``linear_op.csv`` (time of every linear
operator of one layer, by tokens), ``attention.csv`` (prefill by chunk and KV cache, decode by batch and KV cache) and,
where the model has experts, ``moe.csv``; each may be packed (``.gz``). Times are milliseconds in columns
``time_stats.OPERATOR.median`` (github.com/microsoft/vidur, ``data/profiling``; github.com/NetX-lab/Frontier). A folder
may hold several degrees of tensor parallelism: one is chosen, and more than one card needs ``all_reduce.csv``
(num_workers, size in bytes). Where no head was timed it is modelled as reading its weights as fast as a layer of one
token reads its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gsim.core.errors import ProfileError
from gsim.latency.cards import CARDS, Card, card
from gsim.latency.communication import all_reduces
from gsim.latency.deployment import Deployment
from gsim.latency.domain import Domain, Extent
from gsim.latency.grid import IterationGrid
from gsim.latency.models import ModelShape, catalogue_key
from gsim.latency.models.find import model_shape
from gsim.latency.profile import Profile, Provenance
from gsim.latency.vidur.tables import ATTENTION, LINEAR, Floats, find, read_all_reduce, read_attention, read_linear

if TYPE_CHECKING:
    import pandas as pd

#: What a current engine takes beside its kernels: vLLM 0.21 on H100 takes 6.48 and 6.59 ms at one and four requests at
#: once, the kernels 6.1 and 6.5 (docs/profiles.md).
OVERHEAD_S = 0.2e-3
#: Models that such folders call otherwise than their publishers.
_OTHER_NAMES = {"qwen3-a3b-30b-moe": "qwen3-30b-a3b", "llama2-7b-dense-example": "llama-2-7b"}


def is_vidur_folder(path: Path) -> bool:
    """True for a folder that holds Vidur's tables."""
    return path.is_dir() and find(path, LINEAR) is not None and find(path, ATTENTION) is not None


def vidur_profile(folder: Path, gpu: str | None = None, model: str | None = None, tp: int | None = None) -> Profile:
    """The profile of a folder; device and model are the folder's own names unless they are given.

    ``tp`` is the degree of tensor parallelism; without it the least one that was measured and fits the card's memory.
    Raises ``ProfileError`` that names the file, the column and what there is.
    """
    device = _device(folder, gpu)
    shape = model_shape(model or model_name(folder))
    dtype = "fp8" if "fp8" in folder.name.lower() else "fp16"
    linear = read_linear(folder, shape)
    if tp is None:
        tp = _least_that_fits(sorted(linear), shape, device, dtype)
    if tp not in linear:
        raise ProfileError(
            f"{find(folder, LINEAR)}: no rows of tp {tp}; num_tensor_parallel_workers are {sorted(linear)}"
        )
    deployment = Deployment(shape, device.name, tp, weight_dtype=dtype)
    kv_tokens = deployment.kv_tokens(device.memory_gb)
    if kv_tokens < 1:
        raise ProfileError(f"{folder}: {deployment.too_large(device.memory_gb)}")
    reduce_s = read_all_reduce(folder, deployment) if tp > 1 else None
    tokens, layer_s, head_s = linear[tp]

    def work_s(at: Floats) -> Floats:
        """Everything of an iteration but attention, by its tokens."""
        total: Floats = shape.layers * np.interp(at, tokens, layer_s) + np.interp(at, tokens, head_s)
        return total if reduce_s is None else total + all_reduces(shape.layers, tp) * reduce_s(at)

    decode, prefill = read_attention(folder, shape, tp, device.bandwidth_gb_per_s)
    batches, contexts = decode.index.to_numpy(), decode.columns.to_numpy()
    chunks, cached = prefill.index.to_numpy(), prefill.columns.to_numpy()
    square_s = shape.layers * float((prefill[0].to_numpy() @ chunks**2) / (chunks**2 @ chunks**2))
    name = f"{device.name.split('-')[0].lower()}-{shape.name}" + (f"-tp{tp}" if tp > 1 else "")
    measured = Extent(int(batches[-1]), int(chunks[-1]), int(max(contexts[-1], cached[-1])))
    # So far a line through the last two points is believed; a small grid says little about large batches.
    limit = Extent(
        max(256, 8 * measured.sequences), 4 * measured.batch_tokens, max(measured.context_tokens, shape.max_position)
    )
    domain = Domain(measured, limit, name)
    latency = IterationGrid(
        domain=domain,
        decode_batches=tuple(int(x) for x in batches),
        decode_contexts=tuple(int(x) for x in contexts),
        decode_s=_whole(shape, decode, work_s(batches.astype(np.float64))),
        prefill_tokens=tuple(int(x) for x in chunks),
        prefill_contexts=tuple(int(x) for x in cached),
        prefill_s=_whole(shape, prefill, work_s(chunks.astype(np.float64))),
        square_token_s=square_s,
        overhead_s=OVERHEAD_S,
    )
    return Profile(
        name=name,
        deployment=deployment,
        latency=latency,
        kv_tokens=kv_tokens,
        max_num_batched_tokens=min(device.max_num_batched_tokens, limit.batch_tokens),
        max_num_seqs=min(device.max_num_seqs, limit.sequences, limit.batch_tokens),
        max_model_len=min(shape.max_position, kv_tokens),
        price_per_hour=0.0,
        price_source="not stated",
        provenance=Provenance(
            source=f"profiling tables in {folder.name}, read in place (Vidur's columns)",
            basis=f"derived: sum of measured operators; {OVERHEAD_S * 1e3:g} ms per iteration of engine overhead added",
            engine_version="Sarathi/FlashInfer kernels",
            date="2024",
            licence="MIT",
            uncertainty="+-8 % (judged from differences between sources)",
        ),
        domain=domain,
    )


def _least_that_fits(degrees: list[int], shape: ModelShape, device: Card, dtype: str) -> int:
    """The fewest cards that hold the model, of what was measured; the most there is where none does."""
    for tp in degrees:
        if Deployment(shape, device.name, tp, weight_dtype=dtype).kv_tokens(device.memory_gb) > 0:
            return tp
    return degrees[-1]


def _device(folder: Path, gpu: str | None) -> Card:
    """The card: as given, or the nearest folder above that is called as one."""
    if gpu is not None:
        return card(gpu)
    for name in [parent.name for parent in folder.parents][:2]:
        try:
            return card(name)
        except ProfileError:
            continue
    names = " or ".join(parent.name for parent in folder.parents[:2])
    raise ProfileError(f"{folder}: device '{names}' is not known; there are: {', '.join(CARDS)}")


def model_name(folder: Path) -> str:
    """The model that a folder's tables are of, as the folder is called."""
    key = catalogue_key(folder.name.replace("_", "-"))
    return _OTHER_NAMES.get(key, key)


def _whole(shape: ModelShape, attention: pd.DataFrame, work_s: Floats) -> tuple[tuple[float, ...], ...]:
    """Iterations: attention of all layers, and the rest."""
    table = shape.layers * attention.to_numpy() + work_s[:, None]
    return tuple(tuple(row) for row in table.tolist())
