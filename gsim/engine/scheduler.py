"""One iteration's schedule, as vLLM V1 makes it (0.32, ``v1/core/sched/scheduler.py``, synchronous scheduling).

There is no prefill and no decode: every sequence has tokens whose KV is missing, and gets as many of them computed as
the token budget allows. Running sequences come first, in the order of their admission; then, unless a sequence was
preempted in this step, waiting ones in the order of the queue, until one of them does not fit.
"""

from __future__ import annotations

from gsim.core.batch import Batch, Chunk
from gsim.engine.config import EngineLimits
from gsim.engine.kv.kv_pool import KvPool
from gsim.engine.ordering import Ordering
from gsim.engine.sequence import Sequence
from gsim.engine.waiting import waiting_queue


class Step:
    """What one iteration computes, and who was put off."""

    __slots__ = ("power", "preempted", "rejected", "scheduled", "speed", "stall_s")

    def __init__(self) -> None:
        self.scheduled: dict[Sequence, int] = {}
        """Tokens to compute, by sequence, in batch order."""
        self.preempted: list[Sequence] = []
        self.rejected: list[Sequence] = []
        """Sequences that have outgrown the whole pool (vLLM would hold them, and its queue, forever)."""
        self.speed = 1.0
        """The card's speed in it, as a policy wants it."""
        self.power = 1.0
        """What it draws above idle, as a share of what it draws at full speed."""
        self.stall_s = 0.0
        """Seconds that KV on its way to and from the host adds."""

    def batch(self, needs_max_context: bool) -> Batch:
        """The step as a latency model sees it."""
        chunks: list[Chunk] = []
        decodes = context_tokens = longest = 0
        for sequence, tokens in self.scheduled.items():
            context = sequence.computed - tokens
            if tokens == 1:
                decodes += 1
                context_tokens += context
                if context > longest:
                    longest = context
            else:
                drafts = sequence.computed - sequence.length
                if drafts > 0:
                    # A decode, which reads the KV, and more tokens behind: docs/memory_and_speculation.md says why.
                    decodes += 1
                    context_tokens += context
                    longest = max(longest, context)
                    tokens, context = drafts, context + 1
                chunks.append(Chunk(tokens, context))
        return Batch(tuple(chunks), decodes, context_tokens, longest if needs_max_context else 0)


class Scheduler:
    """Running and waiting sequences over one pool of KV blocks."""

    def __init__(self, limits: EngineLimits, pool: KvPool, ordering: Ordering | None = None) -> None:
        self.limits = limits
        self.pool = pool
        self.running: dict[Sequence, None] = {}
        """In the order of admission."""
        self.waiting = waiting_queue(limits.policy, ordering)
        self.kept: dict[int, Sequence] = {}
        """Prefilled sequences whose blocks are held until they are released, by request."""
        self.kept_blocks = 0
        """The blocks that those count as theirs."""
        self._by_priority = limits.policy == "priority"
        self._by_key = ordering is not None
        self._watermark = limits.watermark_blocks
        self.max_running = limits.max_num_seqs
        self.now_s = 0.0
        """When the step begins that is scheduled, as far as who asks for one says so."""

    def here(self) -> list[Sequence]:
        """Who is running or waiting, but for the aborted."""
        return [sequence for queue in (self.running, self.waiting) for sequence in queue if not sequence.aborted]

    def find(self, request_id: int) -> Sequence:
        """One of ``here``; ``KeyError`` if it is not."""
        # Looked for only where a request is aborted: a dictionary of all would cost every request more.
        for queue in (self.running, self.waiting):
            for sequence in queue:
                if sequence.request_id == request_id and not sequence.aborted:
                    return sequence
        raise KeyError(request_id)

    def schedule(self) -> Step:
        """Decide the next iteration. ``computed`` advances at once, as in vLLM."""
        step = Step()
        threshold = self.prefill_threshold()
        budget = self.schedule_running(step, threshold)
        if not step.preempted and not step.rejected:
            self.schedule_waiting(step, budget, threshold)
        return step

    def prefill_threshold(self) -> int:
        """Tokens that one sequence may have in this iteration (0: any; so too where it would be alone)."""
        threshold = self.limits.long_prefill_token_threshold
        return threshold if threshold and len(self.running) + len(self.waiting) > 1 else 0

    def schedule_running(self, step: Step, threshold: int) -> int:
        """Give running sequences their tokens; the budget that is left."""
        budget = self.limits.max_num_batched_tokens
        longest = self.limits.max_model_len - 1
        pool = self.pool
        for sequence in self.due():
            if budget <= 0:
                break
            if sequence not in self.running:
                continue
            tokens = sequence.prompt + sequence.generated + sequence.drafts - sequence.computed
            if 0 < threshold < tokens:
                tokens = threshold
            tokens = min(tokens, budget, longest - sequence.computed)
            if tokens <= 0:
                continue
            end = sequence.computed + tokens
            while pool.blocks_short(sequence, end):
                victim = self._victim()
                budget += self.put_off(victim, step)
                if victim is sequence:
                    return budget
            pool.grow(sequence, end)
            sequence.computed = end
            step.scheduled[sequence] = tokens
            budget -= tokens
        return budget

    def due(self) -> tuple[Sequence, ...]:
        """The running sequences that may compute tokens in this step: all."""
        return tuple(self.running)

    def may_start(self, sequence: Sequence) -> bool:
        """Whether the head of the queue, which fits, is admitted: always."""
        return True

    def _victim(self) -> Sequence:
        if self._by_priority:
            # Of equals in priority and arrival, the one admitted first.
            return max(self.running, key=lambda sequence: sequence.order[:2])
        if self._by_key:
            return max(self.running, key=lambda sequence: sequence.order)
        return next(reversed(self.running))

    def put_off(self, victim: Sequence, step: Step) -> int:
        """Put ``victim`` back into the queue; the budget that this returns."""
        del self.running[victim]
        refund = step.scheduled.pop(victim, 0)
        outgrown = self.limits.blocks_of(victim.length) > self.pool.total
        self.pool.release(victim, keep_own=not outgrown)
        victim.computed = 0
        victim.drafts = 0
        victim.preemptions += 1
        if outgrown:
            step.rejected.append(victim)
        else:
            self.waiting.appendleft(victim)
            step.preempted.append(victim)
        return refund

    def schedule_waiting(self, step: Step, budget: int, threshold: int) -> int:
        """Admit from the head of the queue until one does not fit; the budget that is left."""
        waiting, running, pool = self.waiting, self.running, self.pool
        while waiting and budget > 0 and len(running) < self.max_running:
            sequence = waiting[0]
            match = pool.match(sequence)
            hit_blocks = match.blocks + match.host_blocks or pool.own_hit(sequence)
            length = sequence.prompt + sequence.generated
            computed = max(hit_blocks * pool.block_size, min(sequence.kv_tokens, length - 1))
            need = -(-length // pool.block_size) + (self._watermark if running else 0)
            if need > pool.free and need - pool.held_among(match) > pool.free:
                break
            if not self.may_start(sequence):
                break
            tokens = length - computed
            if 0 < threshold < tokens:
                tokens = threshold
            tokens = min(tokens, budget)
            waiting.popleft()
            pool.admit(sequence, match, computed + tokens)
            if sequence.preemptions == 0:
                sequence.hit_tokens = hit_blocks * pool.block_size
            sequence.kv_tokens = 0
            sequence.computed = computed + tokens
            running[sequence] = None
            step.scheduled[sequence] = tokens
            budget -= tokens
        return budget

    def finish(self, sequence: Sequence) -> None:
        """Take a running sequence out, finished or aborted; a prefilled one's blocks stay held."""
        del self.running[sequence]
        if sequence.keep and sequence.generated and not sequence.aborted:
            self.kept[sequence.request_id] = sequence
            self.kept_blocks += sequence.blocks
        else:
            self.pool.release(sequence)

    def let_go(self, sequence: Sequence) -> None:
        """Return the blocks of a prefilled sequence, which is not among the kept any more."""
        self.kept_blocks -= sequence.blocks
        self.pool.release(sequence)

    def withdraw(self, sequence: Sequence) -> None:
        """Take a waiting sequence out."""
        self.waiting.remove(sequence)
        self.pool.disown(sequence)
