"""What an engine's loop adds to its kernels, by version, with the evidence."""

from __future__ import annotations

from dataclasses import dataclass

from gsim.core.errors import ProfileError


@dataclass(frozen=True)
class EngineTime:
    """Seconds beside the kernels of an iteration."""

    overhead_s: float
    sequence_s: float
    """For every sequence in the batch."""
    evidence: str


#: By the name that ``build engine=`` takes.
ENGINES = {
    "vllm-0.21": EngineTime(
        0.2e-3,
        0.0,
        "vLLM 0.21 (asynchronous scheduling) on an H100 with Llama-3.1-8B: TPOT 6.48 and 6.59 ms at 1 and 4 requests "
        "at once, kernels 6.2 to 6.6 ms",
    ),
    "vllm-0.6": EngineTime(
        1.0e-3,
        0.03e-3,
        "vLLM of 2024 on an H100: 7.0 to 7.9 ms at one request where the kernels take 6.2, and 0.03 ms more per "
        "sequence than they do (llm-d, BLIS, LLM-Inference-Bench); on an A100, vLLM 0.6 shows nothing of it: there "
        "kernels alone are within 5 %",
    ),
    "kernels": EngineTime(0.0, 0.0, "kernels alone"),
}


def engine_time(name: str) -> EngineTime:
    """Raises ``ProfileError`` that lists what there is."""
    if name not in ENGINES:
        raise ProfileError(f"engine must be one of {', '.join(ENGINES)}, not '{name}'")
    return ENGINES[name]
