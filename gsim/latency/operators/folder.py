"""A folder of operator tables as a profile, read in place.

``meta.yaml`` says card, model and engine. How many cards share the layers is said by the folder's name (``...tp2``),
else by the number of heads that were measured. A folder of several cards holds no communication: state it as
``all_reduce: {message_us: ..., gb_per_s: ...}`` in ``meta.yaml``, or let ``experiment=ground_truth`` fit it.
``activated_experts`` says there how many experts a batch activates: ``{share: 0.4, preference: 0.5}`` or ``{curve:
[[tokens, experts], ...]}``.
"""

from __future__ import annotations

import re
from pathlib import Path

from gsim.core.errors import ProfileError
from gsim.latency.cards import CARDS
from gsim.latency.communication import Communication, all_reduces
from gsim.latency.deployment import Deployment
from gsim.latency.domain import Domain, Extent
from gsim.latency.fields import Fields, read_yaml
from gsim.latency.models import ModelShape
from gsim.latency.models.find import model_shape
from gsim.latency.operators.experts import Activation, uniform_activation
from gsim.latency.operators.model import OperatorModel, default_capture_sizes
from gsim.latency.operators.tables import read_tables
from gsim.latency.profile import Profile, Provenance


def is_operator_folder(path: Path) -> bool:
    """True for a folder that holds operator tables."""
    return path.is_dir() and (path / "dense.csv").is_file()


def operator_profile(
    folder: Path,
    overhead_s: float = 0.0,
    *,
    capture_sizes: tuple[int, ...] | None = None,
) -> Profile:
    """The profile of a folder with ``meta.yaml`` and operator tables; raises ``ProfileError`` that names the file.

    ``overhead_s`` is what an iteration takes beside the sum of its operators, negative where they save more by running
    back to back than the engine adds. It belongs to a card *and* an engine, and a folder does not know it: the default
    is the plain sum, and ``experiment=ground_truth`` fits it to a real run. ``capture_sizes`` are the token counts with
    a CUDA graph (vLLM's default where not given, empty for eager execution).
    """
    meta = read_yaml(folder / "meta.yaml")
    hardware = meta.text("hardware")
    try:
        model = model_shape(meta.text("model"), folder)
    except ProfileError as error:
        raise meta.error("model", str(error)) from None
    effective = meta.mapping("engine_effective")
    tp = _tensor_parallel(folder, meta, effective, model)
    version = meta.text("vllm_version")
    deployment = Deployment(model, hardware, tp=tp, weight_dtype=meta.text("variant"), engine_version=f"vLLM {version}")
    tables = read_tables(folder, qk_norm=model.qk_norm, experts=model.experts is not None)
    sequences = effective.integer("max_num_seqs", tables.decodes[-1])
    batched = effective.integer("max_num_batched_tokens", int(tables.tokens[-1]))
    longest = tables.decode_contexts[-1]
    domain = Domain(
        Extent(tables.decodes[-1], int(tables.tokens[-1]), longest),
        Extent(max(1024, sequences), max(16384, batched), max(longest, model.max_position)),
        folder.name,
    )
    memory_gb = _memory_gb(meta, hardware)
    kv_tokens = deployment.kv_tokens(memory_gb)
    if kv_tokens < 1:
        raise meta.error("hardware", deployment.too_large(memory_gb))
    if capture_sizes is None:
        capture_sizes = default_capture_sizes(sequences)
    return Profile(
        name=folder.name,
        deployment=deployment,
        latency=OperatorModel(
            domain,
            tables,
            model.layers,
            capture_sizes,
            _unsplit_from(deployment),
            overhead_s,
            _activation(meta, model),
            _communication(meta, deployment),
        ),
        kv_tokens=kv_tokens,
        max_num_batched_tokens=batched,
        max_num_seqs=sequences,
        max_model_len=min(model.max_position, kv_tokens),
        price_per_hour=0.0,
        price_source="not stated",
        provenance=Provenance(
            source="LLMServingSim operator tables, read in place",
            basis="measured: kernels of one decoder layer, embedding, head and sampler; derived: their sum over layers"
            + ("" if tp == 1 else "; all-reduce " + ("as stated" if "all_reduce" in meta else "not counted")),
            engine_version=f"vLLM {version}",
            date=meta.text("profiled_at"),
            licence="MIT",
            uncertainty="see docs/validation.md",
        ),
        domain=domain,
    )


def _tensor_parallel(folder: Path, meta: Fields, effective: Fields, model: ModelShape) -> int:
    """Cards that share a layer: by the folder's name, else by the heads that were measured of the model's."""
    named = re.search(r"tp(\d+)$", folder.name)
    if named:
        return int(named[1])
    measured = effective.mapping("hf_overrides") if "hf_overrides" in effective else None
    heads = measured.integer("num_attention_heads", model.heads) if measured is not None else model.heads
    if model.heads % heads:
        raise meta.error(
            "engine_effective.hf_overrides.num_attention_heads",
            f"{heads} heads are no whole part of the model's {model.heads}; name the folder ...tpN",
        )
    return model.heads // heads


def _activation(meta: Fields, model: ModelShape) -> Activation | None:
    """How many experts a batch activates: as stated, else uniform choice."""
    if model.experts is None:
        return None
    uniform = uniform_activation(model.experts)
    if "activated_experts" not in meta:
        return uniform
    stated = meta.mapping("activated_experts")
    if "curve" in stated:
        rows = stated.rows("curve")
        if any(len(row) != 2 for row in rows):
            raise stated.error("curve", "must be a list of [tokens, experts]")
        curve = tuple((row[0], row[1]) for row in rows)
        return Activation(uniform.count, uniform.active, curve=curve)
    return Activation(uniform.count, uniform.active, stated.number("share", 1.0), stated.number("preference", 0.0))


def _communication(meta: Fields, deployment: Deployment) -> Communication:
    """The all-reduces: as stated, else free (the tables hold none)."""
    messages = all_reduces(deployment.model.layers, deployment.tp)
    if not messages or "all_reduce" not in meta:
        return Communication(messages)
    stated = meta.mapping("all_reduce")
    token_bytes = 2 * deployment.model.hidden
    gb_per_s = stated.number("gb_per_s", above=True)
    return Communication(messages, stated.number("message_us") / 1e6, token_bytes / (gb_per_s * 1e9))


def _memory_gb(meta: Fields, hardware: str) -> float:
    """Of each card: as stated beside the card, else as sold."""
    if "memory_gb" in meta:
        return meta.number("memory_gb", above=True)
    if hardware not in CARDS and hardware not in _FAMILIES:
        known = ", ".join(sorted({*CARDS, *_FAMILIES}))
        raise meta.error("hardware", f"memory of {hardware} is not known (known: {known}); state memory_gb beside it")
    return CARDS[_FAMILIES.get(hardware, hardware)].memory_gb


#: Cards that the profiler names without their memory.
_FAMILIES = {"A100": "A100-80G", "H100": "H100-80G", "H200": "H200-141G"}


def _unsplit_from(deployment: Deployment) -> int:
    """Sequences whose blocks of work (one per KV head) fill 80 % of the card at two per multiprocessor: from there on
    FlashAttention 2 does not split sequences (``num_splits_heuristic`` in its source)."""
    known = CARDS.get(_FAMILIES.get(deployment.card, deployment.card))
    if known is None or not known.multiprocessors:
        return 0
    return -(-int(0.8 * 2 * known.multiprocessors) // deployment.kv_heads_per_card)
