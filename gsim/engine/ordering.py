"""The policy of an engine's queue: made from its configuration, and asked for the keys of sequences.

``fcfs`` and ``priority`` are built into the queues (``waiting.py``); every other policy is asked.
"""

from __future__ import annotations

from gsim.core import registry
from gsim.core.answers import failure_of, key_of, title
from gsim.core.batch import Batch, Chunk
from gsim.core.errors import ConfigError
from gsim.core.protocols import LatencyModel
from gsim.core.scheduling import (
    AdmissionControl,
    EngineCard,
    EnginePolicy,
    EngineRequest,
    IterationPlanner,
    ServiceLearner,
)
from gsim.core.view import REFERENCE_CONTEXT_TOKENS, REFERENCE_SEQUENCES
from gsim.engine.config import BUILT_IN, EngineLimits
from gsim.engine.iteration_time import needs_max_context, with_scheduling
from gsim.engine.sequence import Sequence


class Ordering:
    """A policy, and the card on which it is asked."""

    def __init__(self, policy: EnginePolicy, card: EngineCard) -> None:
        self.policy = policy
        self.card = card
        self._title = title("scheduler", policy)

    def key(self, sequence: Sequence) -> float:
        """Where a sequence belongs in the queue, smallest first."""
        request = seen(sequence)
        try:
            answer: object = self.policy.queue_key(request, self.card)
        except Exception as error:
            raise told(error, self.policy) from error
        return key_of(answer, self._title, sequence.request_id)


def told(error: Exception, policy: object) -> Exception:
    """What came out of a policy, told as its error."""
    return failure_of(error, {"scheduler": policy}) or error


def policy_of(limits: EngineLimits) -> EnginePolicy:
    """A fresh object of the configured policy."""
    policy: EnginePolicy = registry.build("scheduler", limits.policy, **limits.policy_fields)
    return policy


def decides_each_iteration(policy: EnginePolicy) -> bool:
    """Whether more than the order of the queue is its matter: only the stepwise engine asks then."""
    return isinstance(policy, (AdmissionControl, IterationPlanner, ServiceLearner))


def ordering_of(latency: LatencyModel, limits: EngineLimits) -> Ordering | None:
    """What is asked for keys; None where the queue itself knows the order."""
    if limits.policy in BUILT_IN:
        return None
    policy = policy_of(limits)
    if decides_each_iteration(policy):
        raise ConfigError(
            f"engine.policy '{limits.policy}' decides in every iteration, which the engine 'stepwise' asks it to alone"
        )
    return Ordering(policy, card_of(latency, limits))


def seen(sequence: Sequence) -> EngineRequest:
    """What a policy may know of a sequence: nothing of its true length."""
    request = sequence.job.request
    return EngineRequest(
        request_id=sequence.request_id,
        arrival_s=request.arrival_s,
        submitted_s=sequence.submitted_s,
        deadline_s=request.deadline_s,
        priority=request.priority,
        task=request.task,
        prompt_tokens=sequence.prompt,
        max_output_tokens=request.max_output_tokens,
        computed_tokens=sequence.computed,
        host_tokens=sequence.kv_tokens,
        generated_tokens=sequence.generated,
        blocks=sequence.blocks,
        preemptions=sequence.preemptions,
        forecast=sequence.job.forecast,
    )


def card_of(latency: LatencyModel, limits: EngineLimits) -> EngineCard:
    """An instance's speeds at the reference load, as far as its limits allow that load."""
    timed = with_scheduling(latency, limits)
    deepest = needs_max_context(latency)
    kv_tokens = limits.kv_blocks * limits.block_size
    decode_s = []
    for sequences in range(1, limits.max_num_seqs + 1):
        context = max(1, min(REFERENCE_CONTEXT_TOKENS, kv_tokens // sequences, limits.max_model_len - 1))
        decode_s.append(timed.iteration_s(Batch((), sequences, context * sequences, context if deepest else 0)))
    fitting = max(1, min(REFERENCE_SEQUENCES, limits.max_num_seqs, kv_tokens // REFERENCE_CONTEXT_TOKENS))
    prompt = min(REFERENCE_CONTEXT_TOKENS, limits.max_num_batched_tokens, kv_tokens, limits.max_model_len - 1)
    chunks = (Chunk(prompt, 0),) if prompt > 1 else ()
    return EngineCard(
        block_size=limits.block_size,
        kv_blocks=limits.kv_blocks,
        max_num_seqs=limits.max_num_seqs,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        tpot_s=decode_s[fitting - 1],
        prefill_s_per_token=timed.iteration_s(Batch(chunks, 0 if chunks else 1, 0, 0)) / prompt,
        decode_s=tuple(decode_s),
        kv_bytes_per_token=limits.kv_bytes_per_token,
    )
