"""A folder of operator tables as a profile, read in place."""

from __future__ import annotations

from pathlib import Path

from gsim.core.errors import ProfileError
from gsim.latency.domain import Domain, Extent
from gsim.latency.fields import Fields, read_yaml
from gsim.latency.models import ModelShape, model_shape
from gsim.latency.operator import OperatorModel, default_capture_sizes
from gsim.latency.operator_tables import read_tables
from gsim.latency.profile import Profile, Provenance

#: The cards that such folders are about: memory (GB), for the KV capacity that a folder does not state, and streaming
#: multiprocessors, both as NVIDIA publishes them.
CARDS = {
    "RTX4090": (24, 128),
    "RTXPRO6000": (96, 188),
    "RTXA6000": (48, 84),
    "A100": (80, 108),
    "H100": (80, 132),
    "H200": (141, 132),
}


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
        model = model_shape(meta.text("model"))
    except ProfileError as error:
        raise meta.error("model", str(error)) from None
    effective = meta.mapping("engine_effective")
    tables = read_tables(folder)
    sequences = effective.integer("max_num_seqs", tables.decodes[-1])
    batched = effective.integer("max_num_batched_tokens", int(tables.tokens[-1]))
    longest = tables.decode_contexts[-1]
    domain = Domain(
        Extent(tables.decodes[-1], int(tables.tokens[-1]), longest),
        Extent(max(1024, sequences), max(16384, batched), max(longest, model.max_position)),
        folder.name,
    )
    kv_tokens = int((0.9e9 * _memory_gb(meta, hardware) - model.weight_bytes - 0.44e9) // model.kv_bytes_per_token)
    if kv_tokens < 1:
        raise meta.error("hardware", f"{model.name} does not fit on {hardware}")
    if capture_sizes is None:
        capture_sizes = default_capture_sizes(sequences)
    return Profile(
        name=folder.name,
        gpu=hardware,
        model=model,
        latency=OperatorModel(domain, tables, model.layers, capture_sizes, _unsplit_from(hardware, model), overhead_s),
        kv_tokens=kv_tokens,
        max_num_batched_tokens=batched,
        max_num_seqs=sequences,
        max_model_len=min(model.max_position, kv_tokens),
        price_per_hour=0.0,
        price_source="not stated",
        layout=f"{model.name}/{meta.text('variant')}/block16/tp1",
        provenance=Provenance(
            source="LLMServingSim operator tables, read in place",
            basis="measured: kernels of one decoder layer, embedding, head and sampler; derived: their sum over layers",
            engine_version=f"vLLM {meta.text('vllm_version')}",
            date=meta.text("profiled_at"),
            licence="MIT",
            uncertainty="see docs/validation.md",
        ),
        domain=domain,
    )


def _memory_gb(meta: Fields, hardware: str) -> float:
    if "memory_gb" in meta:
        return meta.number("memory_gb", above=True)
    if hardware not in CARDS:
        known = ", ".join(sorted(CARDS))
        raise meta.error("hardware", f"memory of {hardware} is not known (known: {known}); state memory_gb beside it")
    return float(CARDS[hardware][0])


def _unsplit_from(hardware: str, model: ModelShape) -> int:
    """Sequences whose blocks of work (one per KV head) fill 80 % of the card at two per multiprocessor: from there on
    FlashAttention 2 does not split sequences (``num_splits_heuristic`` in its source)."""
    return -(-int(0.8 * 2 * CARDS[hardware][1]) // model.kv_heads) if hardware in CARDS else 0
