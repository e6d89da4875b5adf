"""What the engine tests share: latency models with exact sums, random cases, and how to drive two engines alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import strategies as st

from gsim.core import Batch, EngineEvent, Job, Request
from gsim.engine.config import EngineLimits
from gsim.engine.iteration_time import bisect_iterations
from gsim.latency import Domain, Extent, MixedCost, SoftRoofline


@dataclass(frozen=True)
class AffineTime:
    """Linear in tokens and contexts, with a term for prefill attention."""

    floor_s: float = 0.01
    token_s: float = 1e-5
    context_s: float = 1e-7
    square_s: float = 1e-9
    longest_s: float = 0.0
    needs_max_context: bool = False

    def iteration_s(self, batch: Batch) -> float:
        square = sum(chunk.tokens * (chunk.context_tokens + chunk.tokens) for chunk in batch.chunks)
        return (
            self.floor_s
            + self.token_s * batch.tokens
            + self.context_s * batch.decode_context_tokens
            + self.longest_s * batch.max_decode_context_tokens
            + self.square_s * square
        )

    def decode_run_s(self, sequences: int, context_tokens: int, max_context_tokens: int, iterations: int) -> float:
        first_s = self.iteration_s(Batch((), sequences, context_tokens, max_context_tokens))
        growth_s = self.context_s * sequences + self.longest_s
        return iterations * first_s + growth_s * (iterations * (iterations - 1) // 2)

    def decode_run_iterations(self, sequences: int, context_tokens: int, max_context_tokens: int, span_s: float) -> int:
        return bisect_iterations(self, sequences, context_tokens, max_context_tokens, span_s)


@dataclass(frozen=True)
class TableTime:
    """Any time at all per batch size: a table that jumps up and down."""

    times_s: tuple[float, ...] = (0.011, 0.009, 0.02, 0.013)

    def iteration_s(self, batch: Batch) -> float:
        return self.times_s[batch.sequences % len(self.times_s)] + 1e-6 * batch.tokens

    def decode_run_s(self, sequences: int, context_tokens: int, max_context_tokens: int, iterations: int) -> float:
        return iterations * self.iteration_s(Batch((), sequences, context_tokens, max_context_tokens))

    def decode_run_iterations(self, sequences: int, context_tokens: int, max_context_tokens: int, span_s: float) -> int:
        return bisect_iterations(self, sequences, context_tokens, max_context_tokens, span_s)


def job(request_id: int, now_s: float = 0.0, prompt: int = 20, output: int = 5, **fields) -> Job:
    """A job with an output that the client does not limit further."""
    output_segment, forecast = fields.pop("output_segment", -1), fields.pop("forecast", None)
    limit, slo_s = fields.pop("max_output_tokens", output), fields.pop("slo_s", 10.0)
    request = Request(request_id, now_s, prompt, limit, slo_s, **fields)
    return Job(request, output, output_segment, forecast=forecast)


def limits(**fields) -> EngineLimits:
    """Ample limits, but for what is given."""
    values = {
        "block_size": 16,
        "kv_blocks": 1000,
        "max_num_batched_tokens": 512,
        "max_num_seqs": 16,
        "max_model_len": 4096,
    }
    return EngineLimits(**{**values, **fields})


def drain(engine) -> list[EngineEvent]:
    """Run an engine until it is idle."""
    events: list[EngineEvent] = []
    for _ in range(500_000):
        due_s = engine.next_event_s()
        if due_s == math.inf:
            return events
        events += engine.advance(due_s)
    raise AssertionError("the engine never becomes idle")


@st.composite
def any_limits(draw) -> EngineLimits:
    """Limits from ample to absurdly tight."""
    seqs = draw(st.sampled_from([1, 2, 4, 8, 16]))
    return EngineLimits(
        block_size=draw(st.sampled_from([1, 4, 16])),
        kv_blocks=draw(st.sampled_from([12, 20, 40, 100, 1000])),
        max_num_batched_tokens=max(seqs, draw(st.sampled_from([8, 16, 32, 64, 512]))),
        max_num_seqs=seqs,
        max_model_len=draw(st.sampled_from([60, 200, 1000])),
        prefix_caching=draw(st.booleans()),
        policy=draw(st.sampled_from(["fcfs", "fcfs", "priority", "edf", "least_laxity", "shortest_predicted"])),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 0, 8])),
        watermark=draw(st.sampled_from([0.0, 0.0, 0.05])),
        cpu_schedule_s=draw(st.sampled_from([0.0, 0.0, 0.0104])),
        async_scheduling=draw(st.booleans()),
    )


@st.composite
def any_latency(draw):
    """A latency model with exact sums; or one whose decodes cost more beside a chunk."""
    kind = draw(st.sampled_from(["affine", "affine", "longest", "table", "mixed"]))
    if kind == "mixed":
        return SoftRoofline(
            domain=Domain(Extent(16, 512, 4096), Extent(16, 512, 4096), "mixed"),
            weights_s=draw(st.floats(0.001, 0.05)),
            token_s=1e-5,
            sharpness=2.0,
            sequence_s=1e-5,
            context_token_s=draw(st.sampled_from([1e-7, 1e-5])),
            square_token_s=1e-8,
            mixed=MixedCost(draw(st.sampled_from([1.4, 4.0]))),
        )
    if kind == "table":
        return TableTime(tuple(draw(st.lists(st.floats(0.001, 0.1), min_size=1, max_size=5))))
    return AffineTime(
        floor_s=draw(st.floats(0.001, 0.05)),
        context_s=draw(st.sampled_from([0.0, 1e-7, 1e-5])),
        longest_s=1e-6 if kind == "longest" else 0.0,
        needs_max_context=kind == "longest",
    )
