"""A deployment's iterations composed from kernel tables: every operator of a layer, by the shapes that one card has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsim.latency.communication import all_reduces
from gsim.latency.deployment import Deployment
from gsim.latency.kernel_tables import KernelTables

Floats = NDArray[np.float64]

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
CONTEXTS = (128, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072)
PROMPTS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
#: What a norm, a rotation, an activation reach of the memory's bandwidth, and what each takes at least in a CUDA graph
#: (aiconfigurator-core 0.12.0, ``systems/*.yaml``: 0.8 of the bandwidth; 1.5 us fitted to nothing, a kernel's floor).
_BANDWIDTH, _KERNEL_S = 0.8, 1.5e-6


@dataclass(frozen=True)
class Composed:
    """Seconds of whole iterations, kernels alone."""

    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    decode_s: Floats
    tokens: tuple[int, ...]
    prefill_s: Floats
    square_token_s: float


def compose(tables: KernelTables, deployment: Deployment, longest: int) -> Composed:
    """Decode by batch and context, prefill by tokens of one prompt; up to ``longest`` tokens of context."""
    model = deployment.model
    batches = np.array(BATCHES, dtype=np.float64)
    contexts = np.array([c for c in CONTEXTS if c <= longest], dtype=np.float64)
    prompts = np.array(PROMPTS, dtype=np.float64)
    windowed = model.windowed_layers if model.window else 0
    decode_s = np.zeros((len(batches), len(contexts)))
    attention_s = np.zeros(len(prompts))
    for layers, window in ((model.layers - windowed, 0), (windowed, model.window)):
        if layers:
            decode_s += layers * tables.decode_attention_s(deployment, batches, contexts, window)
            attention_s += layers * tables.prefill_attention_s(deployment, prompts, window)
    decode_s += _work_s(tables, deployment, batches, batches)[:, None]
    prefill_s = _work_s(tables, deployment, prompts, np.ones(len(prompts))) + attention_s
    large = prompts >= 1024
    square_s = float(attention_s[large] @ prompts[large] ** 2 / (prompts[large] ** 2 @ prompts[large] ** 2))
    return Composed(
        BATCHES,
        tuple(int(c) for c in contexts),
        np.maximum.accumulate(np.maximum.accumulate(decode_s, 0), 1),
        PROMPTS,
        np.maximum.accumulate(prefill_s),
        square_s,
    )


def _work_s(tables: KernelTables, deployment: Deployment, tokens: Floats, sequences: Floats) -> Floats:
    """Everything but attention of an iteration of so many tokens, of which the head sees so many."""
    model, tp, dtype = deployment.model, deployment.tp, deployment.weight_dtype
    query, kv = model.heads * model.head_dim // tp, deployment.kv_heads_per_card * model.head_dim
    layer = tables.gemm_s(tokens, query + 2 * kv, model.hidden, dtype)
    layer = layer + tables.gemm_s(tokens, model.hidden, query, dtype)
    experts = model.experts
    dense = model.layers if experts is None else experts.dense_layers
    total = model.layers * layer
    if dense:
        width = model.intermediate // tp
        mlp = tables.gemm_s(tokens, 2 * width, model.hidden, dtype) + tables.gemm_s(tokens, model.hidden, width, dtype)
        total = total + dense * (mlp + _moved_s(tables, tokens, 3 * width))
    if experts is not None:
        sparse = tables.experts_s(deployment, tokens) + tables.gemm_s(tokens, experts.count, model.hidden, "bf16")
        if experts.shared_width:
            width = experts.shared_width // tp
            sparse = sparse + tables.gemm_s(tokens, 2 * width, model.hidden, dtype)
            sparse = sparse + tables.gemm_s(tokens, model.hidden, width, dtype)
        total = total + (model.layers - dense) * sparse
    # Norms read and write the hidden state and the residual; the rotation and the cache pass queries, keys and values.
    small = model.norms * _moved_s(tables, tokens, 4 * model.hidden) + _moved_s(tables, tokens, 2 * (query + 2 * kv))
    if model.qk_norm:
        small = small + _moved_s(tables, tokens, 2 * (query + kv))
    total = total + model.layers * small
    total = total + tables.gemm_s(sequences, max(model.vocabulary // tp, 32), model.hidden, "bf16")
    messages = all_reduces(model.layers, tp)
    return total + messages * tables.all_reduce_s(deployment, tokens) if messages else total


def _moved_s(tables: KernelTables, tokens: Floats, values: int) -> Floats:
    """An element-wise kernel by the 16-bit values that it moves per token."""
    time_s: Floats = _KERNEL_S + 2.0 * values * tokens / (_BANDWIDTH * tables.card.bandwidth_gb_per_s * 1e9)
    return time_s
