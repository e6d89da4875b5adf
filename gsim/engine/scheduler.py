"""The scheduler of one engine, to be read beside vLLM's V1 scheduler (``vllm/v1/core/sched/scheduler.py``).

There is no prefill phase and no decode phase: every sequence has tokens that are known and tokens that are computed,
and each iteration computes some of the difference, running sequences first, then waiting ones, under one token budget.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from gsim.engine.kv_cache import KVCache
from gsim.engine.limits import EngineLimits
from gsim.engine.sequence import Sequence


@dataclass(slots=True)
class Iteration:
    """What one iteration computes."""

    scheduled: list[tuple[Sequence, int]] = field(default_factory=list)
    """Sequences and how many tokens of each, in scheduling order."""
    preempted: list[Sequence] = field(default_factory=list)
    stuck: list[Sequence] = field(default_factory=list)
    """Sequences that cannot go on even alone: their KV outgrew the cache. They are taken out."""


class Scheduler:
    """Running and waiting sequences, and the step that decides what is computed next."""

    def __init__(self, limits: EngineLimits) -> None:
        self.limits = limits
        self.cache = KVCache(limits.kv_blocks)
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self._priority = limits.policy == "priority"

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        if self._priority:
            self._queue_by_priority(sequence)
        else:
            self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is; its blocks return."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._release(sequence)

    def step(self) -> Iteration:
        """Schedule one iteration; computed tokens are advanced here, as in vLLM."""
        iteration = Iteration()
        budget = self._schedule_running(iteration)
        # After a preemption memory is short: nobody new is admitted in the same step.
        if not iteration.preempted:
            self._schedule_waiting(iteration, budget)
        for sequence, tokens in iteration.scheduled:
            sequence.computed += tokens
        return iteration

    def complete(self, iteration: Iteration) -> list[Sequence]:
        """The iteration has run: sequences whose last known token was computed get one more. Returns those, in order.

        The ones that are finished by it leave the engine.
        """
        grown = []
        for sequence, _ in iteration.scheduled:
            # A sequence that was aborted meanwhile holds no blocks any more.
            if sequence.computed == sequence.known and sequence.blocks:
                sequence.generated += 1
                grown.append(sequence)
                if sequence.generated == sequence.limit:
                    self.running.remove(sequence)
                    self._release(sequence)
        return grown

    # --------------------------------------------------------------------------------------------------- running
    def _schedule_running(self, iteration: Iteration) -> int:
        budget = self.limits.max_num_batched_tokens
        threshold = self.limits.long_prefill_token_threshold
        tokens_of: dict[int, int] = {}
        order: list[Sequence] = []
        index = 0
        while index < len(self.running) and budget > 0:
            sequence = self.running[index]
            tokens = sequence.known - sequence.computed
            if 0 < threshold < tokens:
                tokens = threshold
            tokens = min(tokens, budget)
            fits = self._grow(sequence, sequence.computed + tokens)
            while not fits:
                victim = self._victim()
                if len(self.running) == 1 and victim is sequence:
                    self.running.remove(victim)
                    self._release(victim)
                    iteration.stuck.append(victim)
                    break
                position = self.running.index(victim)
                del self.running[position]
                if victim.request_id in tokens_of:
                    # Only under the priority policy can the victim be scheduled already: its share returns.
                    budget += tokens_of.pop(victim.request_id)
                    order.remove(victim)
                    index -= 1
                self._preempt(victim)
                iteration.preempted.append(victim)
                if victim is sequence:
                    break
                fits = self._grow(sequence, sequence.computed + tokens)
            if not fits:
                break
            tokens_of[sequence.request_id] = tokens
            order.append(sequence)
            budget -= tokens
            index += 1
        iteration.scheduled += [(sequence, tokens_of[sequence.request_id]) for sequence in order]
        return budget

    def _victim(self) -> Sequence:
        """Who gives way: the last admitted, or the least important and among those the latest."""
        if self._priority:
            return max(self.running, key=lambda s: (s.priority, s.arrival))
        return self.running[-1]

    def _preempt(self, sequence: Sequence) -> None:
        self._release(sequence)
        sequence.computed = 0
        if self._priority:
            self._queue_by_priority(sequence)
        else:
            self.waiting.appendleft(sequence)

    # --------------------------------------------------------------------------------------------------- waiting
    def _schedule_waiting(self, iteration: Iteration, budget: int) -> None:
        limits = self.limits
        while self.waiting and budget > 0 and len(self.running) < limits.max_num_seqs:
            sequence = self.waiting[0]
            if not self._admit(sequence):
                break  # head of line: nobody overtakes
            self.waiting.popleft()
            self.running.append(sequence)
            tokens = sequence.known - sequence.computed
            if 0 < limits.long_prefill_token_threshold < tokens:
                tokens = limits.long_prefill_token_threshold
            tokens = min(tokens, budget)
            self._grow(sequence, sequence.computed + tokens)
            iteration.scheduled.append((sequence, tokens))
            budget -= tokens

    def _admit(self, sequence: Sequence) -> bool:
        """Give a waiting sequence its cached prefix, if its whole known length fits now."""
        limits = self.limits
        block_size = limits.block_size
        known = sequence.known
        # At least one token is computed: a prompt that is cached to its end computes its last block again.
        most = (known - 1) // block_size
        hits = (
            self.cache.find(sequence.block_hashes(known // block_size, block_size), most)
            if limits.prefix_caching
            else []
        )
        needed = -(-known // block_size) - len(hits) + self.cache.unreferenced(hits)
        if needed + (limits.watermark_blocks if self.running else 0) > self.cache.free:
            return False
        self.cache.share(hits)
        sequence.blocks = list(hits)
        sequence.computed = len(hits) * block_size
        arriving = min(sequence.kv_tokens, known - 1)
        if arriving > sequence.computed:
            # KV that comes with the request needs blocks, but no computing.
            sequence.blocks += self.cache.allocate(-(-arriving // block_size) - len(hits))
            sequence.computed = arriving
        if not sequence.started:
            sequence.cached_tokens = len(hits) * block_size
        sequence.kv_tokens = 0
        return True

    # ---------------------------------------------------------------------------------------------------- blocks
    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        """Blocks for the first ``tokens`` tokens; False if there are not enough. Blocks that fill up are cached."""
        block_size = self.limits.block_size
        missing = -(-tokens // block_size) - len(sequence.blocks)
        if missing > self.cache.free:
            return False
        if missing > 0:
            sequence.blocks += self.cache.allocate(missing)
        if self.limits.prefix_caching:
            full = min(tokens, sequence.known) // block_size
            if full and sequence.blocks[full - 1].content_hash is None:
                hashes = sequence.block_hashes(full, block_size)
                for position in range(full):
                    if sequence.blocks[position].content_hash is None:
                        self.cache.cache(sequence.blocks[position], hashes[position])
        return True

    def _release(self, sequence: Sequence) -> None:
        self.cache.release(sequence.blocks)
        sequence.blocks = []

    def _queue_by_priority(self, sequence: Sequence) -> None:
        key = (sequence.priority, sequence.arrival)
        for position, other in enumerate(self.waiting):
            if (other.priority, other.arrival) > key:
                self.waiting.insert(position, sequence)
                return
        self.waiting.append(sequence)
