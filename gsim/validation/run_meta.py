"""The engine of a recorded run, from its ``meta.json``: null and missing keys are what vLLM does without being told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gsim.core.errors import InputError
from gsim.engine import EngineConfig


class _Section:
    """One object of the file; null sections and null fields count as not stated."""

    def __init__(self, path: Path, name: str, values: object) -> None:
        if values is not None and not isinstance(values, dict):
            raise InputError(f"{path}: {name} must be an object or null, not {values!r}")
        self.path, self.name, self.values = path, name, values or {}

    def integer(self, key: str) -> int | None:
        """A whole number above 0, or None where it is not stated."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{self.path}: {self.name}.{key} must be a whole number above 0 or null, not {value!r}")
        return value

    def flag(self, key: str) -> bool | None:
        """True or false, or None where it is not stated."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise InputError(f"{self.path}: {self.name}.{key} must be true, false or null, not {value!r}")
        return value


def engine_of_run(path: Path, meta: dict[str, Any]) -> tuple[EngineConfig, tuple[int, ...] | None, tuple[str, ...]]:
    """Engine options, captured CUDA graphs (None: not stated), and a line for everything that was assumed.

    ``path`` is for messages. Raises ``InputError`` that names the field and the value.
    """
    cache = _Section(path, "kv_cache", meta.get("kv_cache"))
    engine = _Section(path, "engine", meta.get("engine"))
    assumed: list[str] = []
    block_size = cache.integer("block_size")
    if block_size is None:
        block_size = 16
        assumed.append("block_size: 16 tokens")
    blocks = cache.integer("num_gpu_blocks")
    if blocks is None:
        tokens = cache.integer("num_kv_tokens")
        blocks = tokens // block_size if tokens is not None else None
        if blocks is None:
            assumed.append("num_gpu_blocks: what the profile's KV capacity holds")
    caching = cache.flag("enable_prefix_caching")
    if caching is None:
        caching = True
        assumed.append("enable_prefix_caching: on, as vLLM's V1 engine has it")
    limits = {key: engine.integer(key) for key in ("max_num_seqs", "max_num_batched_tokens", "max_model_len")}
    for key, value in limits.items():
        if value is None:
            whose = "the model's" if key == "max_model_len" else "vLLM's default on this card"
            assumed.append(f"{key}: {whose}, from the profile")
    asynchronous = _Section(path, "meta", meta).flag("async_scheduling")
    if asynchronous is None:
        assumed.append("async_scheduling: on")
    sizes = meta.get("cudagraph_capture_sizes")
    if sizes is None:
        assumed.append("cudagraph_capture_sizes: vLLM's default")
    elif not (isinstance(sizes, list) and all(isinstance(size, int) and size > 0 for size in sizes)):
        raise InputError(f"{path}: cudagraph_capture_sizes must be a list of whole numbers above 0, not {sizes!r}")
    config = EngineConfig(
        # One of vLLM's blocks is the null block, which no request can use.
        kv_blocks=None if blocks is None else max(blocks - 1, 1),
        block_size=block_size,
        prefix_caching=caching,
        max_num_seqs=limits["max_num_seqs"],
        max_num_batched_tokens=limits["max_num_batched_tokens"],
        max_model_len=limits["max_model_len"],
    )
    captured = None if sizes is None else tuple(sorted(sizes))
    return config, captured, tuple(assumed)
