"""Operator-level sweep in PyTorch: dense layers, attention and heads of one model on the device at hand.

    python gsim/calibration/sweep.py out=DIR gpu=NAME [device=cuda] [model=llama-3.1-8b] [key=value ...]

Writes a folder in the operator format (``meta.yaml``, ``dense.csv``, ``attention.csv``, ``per_sequence.csv``) on the
grids of the published operator profiles: dense layers by tokens, attention by prefill chunk and its context beside a
number of decodes and theirs, heads by sequences, all in microseconds per layer. Kernels are PyTorch's own (cuBLAS,
scaled-dot-product attention), not a serving engine's: the folder says so, and engine overhead per iteration is not in
it. The file needs PyTorch and nothing else (not gsim either): it is carried to the machine that has the GPU.
"""

from __future__ import annotations

import csv
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any


class SweepError(Exception):
    """The sweep cannot run as asked."""


@dataclass
class SweepOptions:
    """Options of the sweep."""

    out: str = ""
    """Folder of the profile (required)."""
    gpu: str = ""
    """Name of the device, for the profile (required)."""
    device: str = "cuda"
    """PyTorch device."""
    model: str = "llama-3.1-8b"
    """One of ``LAYERS``; ``tiny`` tries the sweep where there is no GPU."""
    max_tokens: int = 2048
    """Most tokens of an iteration."""
    max_context: int = 16384
    """Longest context."""
    max_sequences: int = 256
    """Largest batch of decodes."""
    repeats: int = 5
    """Timed runs per point, of which the median counts."""
    warm_up: int = 2
    """Untimed runs before them."""
    max_kv_gb: float = 24.0
    """Points whose KV would not fit into this are left out."""
    memory_gb: float = 0.0
    """Memory of the card, for the KV capacity of the profile; 0: what PyTorch says."""

    def __post_init__(self) -> None:
        for name in ("out", "gpu"):
            if not getattr(self, name):
                raise SweepError(f"missing: {name}=...")
        for name, least in (("max_tokens", 16), ("max_context", 16), ("max_sequences", 1), ("repeats", 1)):
            if getattr(self, name) < least:
                raise SweepError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.model not in LAYERS:
            raise SweepError(f"model must be one of {', '.join(LAYERS)}, not {self.model}")


@dataclass(frozen=True)
class Layer:
    """The widths of one decoder layer, and of the vocabulary."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int

    @property
    def query(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def key_value(self) -> int:
        """Width of all key heads (or value heads)."""
        return self.kv_heads * self.head_dim


#: From the ``config.json`` that is published with each model.
LAYERS = {
    "llama-3.1-8b": Layer(4096, 32, 8, 128, 14336, 128256),
    "llama-2-7b": Layer(4096, 32, 32, 128, 11008, 32000),
    "qwen2.5-7b": Layer(3584, 28, 4, 128, 18944, 152064),
    "tiny": Layer(64, 4, 2, 16, 128, 256),
}


def doubling(low: int, high: int) -> list[int]:
    """``low``, twice ``low`` ... and ``high`` itself."""
    values = []
    while low < high:
        values.append(low)
        low *= 2
    return [*values, high]


def token_grid(most: int) -> list[int]:
    """Tokens of dense layers: every size up to 16, then steps that widen to 16 (as the published profiles have it)."""
    steps = [*range(1, 17), *range(20, 65, 4), *range(80, most + 1, 16)]
    return sorted({*(tokens for tokens in steps if tokens <= most), most})


def attention_grid(options: SweepOptions) -> Iterator[tuple[int, int, int, int]]:
    """(prefill chunk, its context, decodes, their context): each alone, and both together.

    The longest chunk also stands beside decodes, beyond the token budget: shorter ones are interpolated towards it.
    """
    chunks = [0, *doubling(16, options.max_tokens)]
    batches = [0, *doubling(1, options.max_sequences)]
    contexts = doubling(16, options.max_context)
    for chunk in chunks:
        for decodes in batches:
            for chunk_context in [0, *contexts] if chunk else [0]:
                for decode_context in contexts if decodes else [0]:
                    if chunk or decodes:
                        yield chunk, chunk_context, decodes, decode_context


class Sweep:
    """Times one model's operators on one device."""

    def __init__(self, options: SweepOptions) -> None:
        self.options = options
        self.layer = LAYERS[options.model]
        try:
            self.torch: Any = importlib.import_module("torch")
        except ImportError:
            raise SweepError("the sweep needs PyTorch: run it in an environment that has it") from None
        if options.device.startswith("cuda") and not self.torch.cuda.is_available():
            raise SweepError("device=cuda: PyTorch finds no GPU here (device=cpu runs the sweep on the processor)")
        self.dtype = self.torch.bfloat16

    def time_us(self, run: Callable[[], object]) -> float:
        """Median microseconds of ``run``, by the device's own clock where it has one."""
        for _ in range(self.options.warm_up):
            run()
        if self.options.device.startswith("cuda"):
            times = self._events_us(run)
        else:
            times = []
            for _ in range(self.options.repeats):
                start = time.perf_counter()
                run()
                times.append(1e6 * (time.perf_counter() - start))
        return float(sorted(times)[len(times) // 2])

    def _events_us(self, run: Callable[[], object]) -> list[float]:
        cuda = self.torch.cuda
        pairs = [(cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)) for _ in range(self.options.repeats)]
        for start, end in pairs:
            start.record()
            run()
            end.record()
        cuda.synchronize()
        return [1e3 * float(start.elapsed_time(end)) for start, end in pairs]

    def tensor(self, *size: int) -> Any:
        """A random tensor on the device."""
        return self.torch.randn(*size, device=self.options.device, dtype=self.dtype)

    def dense(self) -> Iterator[tuple[str, int, float]]:
        """Rows of ``dense.csv``: layer, tokens, microseconds."""
        torch, layer = self.torch, self.layer
        hidden, fused = layer.hidden, layer.query + 2 * layer.key_value
        linear = torch.nn.functional.linear
        weights = {
            "qkv_proj": self.tensor(fused, hidden),
            "o_proj": self.tensor(hidden, layer.query),
            "gate_up_proj": self.tensor(2 * layer.intermediate, hidden),
            "down_proj": self.tensor(hidden, layer.intermediate),
        }
        norm, table = self.tensor(hidden), self.tensor(layer.vocabulary, hidden)
        for tokens in token_grid(self.options.max_tokens):
            for name, weight in weights.items():
                x = self.tensor(tokens, weight.shape[1])
                yield name, tokens, self.time_us(partial(linear, x, weight))
            x, wide = self.tensor(tokens, hidden), self.tensor(tokens, 2 * layer.intermediate)
            ids = torch.randint(layer.vocabulary, (tokens,), device=self.options.device)
            for name in ("layernorm", "final_layernorm"):
                yield name, tokens, self.time_us(partial(torch.nn.functional.rms_norm, x, (hidden,), norm))
            yield "act_fn", tokens, self.time_us(partial(self._gate, wide))
            yield "embedding", tokens, self.time_us(partial(torch.nn.functional.embedding, ids, table))
            yield "rotary_emb", tokens, self._rotary_us(tokens)

    def _gate(self, wide: Any) -> Any:
        gate, up = wide.chunk(2, dim=-1)
        return self.torch.nn.functional.silu(gate) * up

    def _rotary_us(self, tokens: int) -> float:
        heads, width = self.layer.heads + self.layer.kv_heads, self.layer.head_dim
        x = self.tensor(tokens, heads, width)
        cos, sin = self.tensor(tokens, 1, width // 2), self.tensor(tokens, 1, width // 2)

        def rotate() -> Any:
            left, right = x.chunk(2, dim=-1)
            return self.torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)

        return self.time_us(rotate)

    def attention(self) -> Iterator[tuple[int, int, int, int, float]]:
        """Rows of ``attention.csv``: chunk, its context, decodes, their context, microseconds."""
        token_bytes = 2 * 2 * self.layer.key_value
        for chunk, chunk_context, decodes, decode_context in attention_grid(self.options):
            kv_tokens = chunk + chunk_context + decodes * (decode_context + 1)
            if kv_tokens * token_bytes <= 1e9 * self.options.max_kv_gb:
                parts = []
                if chunk:
                    parts.append(self._prefill(chunk, chunk_context))
                if decodes:
                    parts.append(self._decode(decodes, decode_context))
                time_us = self.time_us(partial(_run_all, parts))
                yield chunk, chunk_context, decodes, decode_context, time_us

    def _heads(self, batch: int, queries: int, keys: int) -> tuple[Any, Any, Any]:
        layer = self.layer
        query = self.tensor(batch, layer.heads, queries, layer.head_dim)
        return query, *(self.tensor(batch, layer.kv_heads, keys, layer.head_dim) for _ in range(2))

    def _prefill(self, chunk: int, context: int) -> Callable[[], object]:
        query, key, value = self._heads(1, chunk, context + chunk)
        attend = self.torch.nn.functional.scaled_dot_product_attention
        if context == 0:
            return lambda: attend(query, key, value, is_causal=True, enable_gqa=True)
        # A chunk behind a context sees all of it and its own past: the mask's diagonal ends in the corner.
        bias = importlib.import_module("torch.nn.attention.bias").causal_lower_right(chunk, context + chunk)
        return lambda: attend(query, key, value, attn_mask=bias, enable_gqa=True)

    def _decode(self, decodes: int, context: int) -> Callable[[], object]:
        query, key, value = self._heads(decodes, 1, context + 1)
        attend = self.torch.nn.functional.scaled_dot_product_attention
        return lambda: attend(query, key, value, enable_gqa=True)

    def per_sequence(self) -> Iterator[tuple[str, int, float]]:
        """Rows of ``per_sequence.csv``: head or sampler, sequences, microseconds."""
        torch, layer = self.torch, self.layer
        head = self.tensor(layer.vocabulary, layer.hidden)
        for sequences in token_grid(self.options.max_sequences):
            x = self.tensor(sequences, layer.hidden)
            logits = self.tensor(sequences, layer.vocabulary)
            yield "lm_head", sequences, self.time_us(partial(torch.nn.functional.linear, x, head))
            yield "sampler", sequences, self.time_us(partial(_greedy, logits))

    def _memory_gb(self) -> float:
        if self.options.memory_gb or not self.options.device.startswith("cuda"):
            return self.options.memory_gb
        return float(self.torch.cuda.get_device_properties(self.options.device).total_memory) / 1e9

    def meta(self) -> dict[str, Any]:
        """What was swept, with what, when."""
        layer = self.layer
        cuda = self.options.device.startswith("cuda")
        return {
            "profiler_version": "gsim.calibration.sweep",
            "vllm_version": f"none: PyTorch {self.torch.__version__}, its own kernels, no serving engine",
            "gpu": self.torch.cuda.get_device_name() if cuda else self.options.gpu,
            "hardware": self.options.gpu,
            "memory_gb": self._memory_gb(),
            "profiled_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": self.options.model,
            "variant": "bf16",
            "tp_degrees": [1],
            "engine_effective": {
                "max_num_batched_tokens": self.options.max_tokens,
                "max_num_seqs": self.options.max_sequences,
                "block_size": 16,
                "hf_overrides": {
                    "num_hidden_layers": 1,
                    "intermediate_size": layer.intermediate,
                    "num_attention_heads": layer.heads,
                    "num_key_value_heads": layer.kv_heads,
                    "vocab_size": layer.vocabulary,
                },
            },
            "attention_grid": {
                "max_kv": self.options.max_context,
                "chunks": f"0, 16-{self.options.max_tokens} x2",
                "n_decode": f"0, 1-{self.options.max_sequences} x2",
                "kv": f"0, 16-{self.options.max_context} x2",
            },
            "measurement_iterations": self.options.repeats,
            "options": asdict(self.options),
        }


def sweep(options: SweepOptions) -> Path:
    """Run the sweep and write its folder; raises ``SweepError`` without PyTorch or the device."""
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    run = Sweep(options)
    with run.torch.inference_mode():
        _write(folder / "dense.csv", ("layer", "tokens", "time_us"), run.dense())
        _write(folder / "per_sequence.csv", ("layer", "sequences", "time_us"), run.per_sequence())
        columns = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")
        _write(folder / "attention.csv", columns, run.attention())
    # JSON is YAML, and needs no package.
    with _aside(folder / "meta.yaml") as aside:
        aside.write_text(json.dumps(run.meta(), indent=1) + "\n", encoding="utf-8")
    return folder


def _run_all(parts: list[Callable[[], object]]) -> None:
    for part in parts:
        part()


def _greedy(logits: Any) -> Any:
    return logits.float().argmax(dim=-1)


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A file is written beside its place and takes its name when it is whole."""
    aside = path.with_name(f".{path.name}.part")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _write(path: Path, columns: tuple[str, ...], rows: Iterator[tuple[Any, ...]]) -> None:
    with _aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            writer.writerow((*row[:-1], f"{row[-1]:.6g}"))


def read_options(arguments: list[str]) -> SweepOptions:
    """Options from ``key=value`` arguments; raises ``SweepError`` that names what is wrong."""
    kinds = {field.name: {"str": str, "int": int, "float": float}[str(field.type)] for field in fields(SweepOptions)}
    given: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in kinds:
            raise SweepError(f"'{argument}' is no option; options: {', '.join(kinds)} (key=value)")
        try:
            if "_" in value and kinds[key] is not str:
                raise ValueError  # Python would read 1_02 as 102
            given[key] = kinds[key](value)
        except ValueError:
            raise SweepError(f"{key} must be {kinds[key].__name__}, not '{value}'") from None
    return SweepOptions(**given)


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{sweep(read_options(sys.argv[1:]))}\n")
    except SweepError as error:
        sys.exit(f"error: {error}")
