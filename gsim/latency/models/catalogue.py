"""Common models by name, as data: shapes from the ``config.json`` that is published with each."""

from __future__ import annotations

from gsim.latency.models.shape import Experts, ModelShape


def _dense(
    name: str, layers: int, hidden: int, heads: tuple[int, int, int], intermediate: int, vocabulary: int, longest: int,
    **more: bool | int,
) -> ModelShape:  # fmt: skip
    query, kv, size = heads
    return ModelShape(name, layers, hidden, query, kv, size, longest, intermediate, vocabulary, **more)  # type: ignore[arg-type]


def _sparse(
    name: str, layers: int, hidden: int, heads: tuple[int, int, int], experts: Experts, vocabulary: int, longest: int,
    **more: bool | int,
) -> ModelShape:  # fmt: skip
    query, kv, size = heads
    return ModelShape(name, layers, hidden, query, kv, size, longest, 0, vocabulary, experts=experts, **more)  # type: ignore[arg-type]


_QWEN3 = {"qk_norm": True}
_GPT_OSS = {"qkv_bias": True, "output_bias": True, "window": 128}

#: Name -> shape. Heads are (query, key and value, size of one).
CATALOGUE: dict[str, ModelShape] = {
    shape.name: shape
    for shape in (
        _dense("llama-2-7b", 32, 4096, (32, 32, 128), 11008, 32000, 4096),
        _dense("llama-2-13b", 40, 5120, (40, 40, 128), 13824, 32000, 4096),
        _dense("llama-2-70b", 80, 8192, (64, 8, 128), 28672, 32000, 4096),
        _dense("llama-3.1-8b", 32, 4096, (32, 8, 128), 14336, 128256, 131072),
        _dense("llama-3.1-70b", 80, 8192, (64, 8, 128), 28672, 128256, 131072),
        _dense("llama-3.3-70b", 80, 8192, (64, 8, 128), 28672, 128256, 131072),
        _dense("llama-3.1-405b", 126, 16384, (128, 8, 128), 53248, 128256, 131072),
        _dense("llama-3.2-1b", 16, 2048, (32, 8, 64), 8192, 128256, 131072, tied=True),
        _dense("llama-3.2-3b", 28, 3072, (24, 8, 128), 8192, 128256, 131072, tied=True),
        _dense("qwen2.5-7b", 28, 3584, (28, 4, 128), 18944, 152064, 32768, qkv_bias=True),
        _dense("qwen2.5-14b", 48, 5120, (40, 8, 128), 13824, 152064, 32768, qkv_bias=True),
        _dense("qwen2.5-32b", 64, 5120, (40, 8, 128), 27648, 152064, 32768, qkv_bias=True),
        _dense("qwen2.5-72b", 80, 8192, (64, 8, 128), 29568, 152064, 32768, qkv_bias=True),
        _dense("qwen3-8b", 36, 4096, (32, 8, 128), 12288, 151936, 40960, **_QWEN3),
        _dense("qwen3-14b", 40, 5120, (40, 8, 128), 17408, 151936, 40960, **_QWEN3),
        _dense("qwen3-32b", 64, 5120, (64, 8, 128), 25600, 151936, 40960, **_QWEN3),
        _sparse("qwen3-30b-a3b", 48, 2048, (32, 4, 128), Experts(128, 8, 768), 151936, 40960, **_QWEN3),
        _sparse("qwen3-30b-a3b-2507", 48, 2048, (32, 4, 128), Experts(128, 8, 768), 151936, 262144, **_QWEN3),
        _sparse("qwen3-235b-a22b", 94, 4096, (64, 4, 128), Experts(128, 8, 1536), 151936, 40960, **_QWEN3),
        _dense("mistral-7b", 32, 4096, (32, 8, 128), 14336, 32000, 32768),
        _dense("mistral-nemo-12b", 40, 5120, (32, 8, 128), 14336, 131072, 131072),
        _dense("mistral-small-24b", 40, 5120, (32, 8, 128), 32768, 131072, 32768),
        _sparse("mixtral-8x7b", 32, 4096, (32, 8, 128), Experts(8, 2, 14336), 32000, 32768),
        _sparse("mixtral-8x22b", 56, 6144, (48, 8, 128), Experts(8, 2, 16384), 32768, 65536),
        _sparse(
            "gpt-oss-20b", 24, 2880, (64, 8, 64), Experts(32, 4, 2880, biased=True), 201088, 131072,
            windowed_layers=12, **_GPT_OSS,
        ),
        _sparse(
            "gpt-oss-120b", 36, 2880, (64, 8, 64), Experts(128, 4, 2880, biased=True), 201088, 131072,
            windowed_layers=18, **_GPT_OSS,
        ),
        _dense(
            "gemma-2-9b", 42, 3584, (16, 8, 256), 14336, 256000, 8192,
            tied=True, norms=4, window=4096, windowed_layers=21,
        ),
        _dense(
            "gemma-2-27b", 46, 4608, (32, 16, 128), 36864, 256000, 8192,
            tied=True, norms=4, window=4096, windowed_layers=23,
        ),
        _dense(
            "gemma-3-27b", 62, 5376, (32, 16, 128), 21504, 262208, 131072,
            tied=True, norms=4, qk_norm=True, window=1024, windowed_layers=52,
        ),
        _dense("phi-4", 40, 5120, (40, 10, 128), 17920, 100352, 16384),
    )
}  # fmt: skip
