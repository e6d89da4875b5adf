"""A scheduler copied with all that it holds, so that two replays can go on from one state.

Piece by piece, as compiled classes know no ``copy.deepcopy``. Names of blocks are shared: they only ever grow, alike.
"""

from __future__ import annotations

from gsim.engine.kv_pool import Block, KvPool, Run
from gsim.engine.scheduler import Scheduler
from gsim.engine.sequence import Sequence

#: What a sequence has beside its constructor's arguments, blocks and run.
_COUNTERS = (
    "aborted", "base", "blocks", "computed", "generated", "hit_tokens", "leaves", "number", "preemptions",
)  # fmt: skip


class Copies:
    """Copies of an engine's pieces, each made once."""

    def __init__(self) -> None:
        self._blocks: dict[int, Block] = {}
        self._runs: dict[int, Run] = {}
        self._sequences: dict[int, Sequence] = {}

    def scheduler(self, old: Scheduler) -> Scheduler:
        """The same running and waiting sequences over a pool in the same state."""
        new = Scheduler(old.limits)
        new.pool = self._pool(old.pool)
        new.running = {self.sequence(sequence): None for sequence in old.running}
        for sequence in old.waiting:
            new.waiting.append(self.sequence(sequence))
        return new

    def sequence(self, old: Sequence) -> Sequence:
        """The copy of a sequence."""
        new = self._sequences.get(id(old))
        if new is None:
            new = Sequence(old.job, old.submitted_s, old.tie, old.stop, old.kv_tokens, old.names)
            self._sequences[id(old)] = new
            for name in _COUNTERS:
                setattr(new, name, getattr(old, name))
            new.cached = [self._block(block) for block in old.cached]
            new.run = None if old.run is None else self._run(old.run)
        return new

    def _pool(self, old: KvPool) -> KvPool:
        new = KvPool(old.total, old.block_size, old.caching)
        new.free, new.shared = old.free, old.shared
        for entry in old.idle:
            new.idle[self._block(entry) if isinstance(entry, Block) else self._run(entry)] = None
        new._blank = old._blank
        new._cached = {name: [self._block(block) for block in blocks] for name, blocks in old._cached.items()}
        return new

    def _block(self, old: Block) -> Block:
        new = self._blocks.get(id(old))
        if new is None:
            new = self._blocks[id(old)] = Block(old.name)
            new.refs = old.refs
        return new

    def _run(self, old: Run) -> Run:
        return self._runs.setdefault(id(old), Run(old.blocks, old.owned))
