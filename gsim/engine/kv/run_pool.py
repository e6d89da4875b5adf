"""The decode clock's KV pool: named blocks by runs, so that nothing costs time per block.

It gives the same answers as ``block_pool``, to the block. A run is what was taken, used and freed as one: blocks of one
node of the prefix tree (``gsim.core.prefix_tree``) with the same holders, and at the same place in the LRU order, where
its tail counts as older than its head. Whoever uses a part of a run cuts it first. So a request costs time per piece
of its prompt, per run that it shares, and per run that is evicted for it.

Two copies of one name (both were computed, as neither could be hit when the other was begun) are two runs of one node,
the older first: that is the one that is hit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from gsim.core.lru import Entry
from gsim.core.prefix_tree import Cursor, PrefixTree, Run
from gsim.core.request import Content
from gsim.engine.host_kv import HostKvLimits
from gsim.engine.kv.host_runs import HostRuns
from gsim.engine.kv.kv_pool import KvPool, Match
from gsim.engine.sequence import Hold, Sequence


class RunHold(Hold):
    """The named blocks that a sequence holds, as runs, and how far it has been walked through the tree."""

    __slots__ = ("cursor", "named", "runs")

    def __init__(self, pieces: Content, first_generated: int) -> None:
        super().__init__(pieces, first_generated)
        self.cursor = Cursor(pieces)
        self.named = 0
        """How many blocks they are: the first ones of those that the sequence holds."""
        self.runs: list[Run] = []
        """In the order of the prompt. Some may have been cut since they were taken."""


class RunMatch(Match):
    """Runs that begin a prompt, and the block up to which each is of use."""

    __slots__ = ("ends", "runs")

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Run] = []
        self.ends: list[int] = []


class RunPool(KvPool):
    """Blocks by name, a run at a time."""

    def __init__(
        self,
        blocks: int,
        block_size: int,
        caching: bool,
        before_match: Callable[[Sequence, int], bool] | None = None,
        host: HostKvLimits | None = None,
    ) -> None:
        """``before_match`` is told of a prompt that is looked up, and of the piece up to which it was found: it names
        what belongs into the cache by then, and says whether that may be of use to the prompt."""
        self._host = HostRuns(host, block_size) if host is not None else None
        super().__init__(blocks, block_size, caching, self._host)
        self.tree = PrefixTree(block_size)
        self._before_match = before_match

    def hold_of(self, pieces: Content, first_generated: int) -> Hold:
        """See ``KvPool``."""
        return RunHold(pieces, first_generated)

    def match(self, sequence: Sequence) -> Match:
        """See ``KvPool``."""
        match = RunMatch()
        if sequence.hold is not None:
            cursor = cast(RunHold, sequence.hold).cursor
            most = (sequence.length - 1) // self.block_size
            self._walk(cursor, most, match)
            if self._before_match is not None and self._before_match(sequence, cursor.index):
                match = RunMatch()
                self._walk(cursor, most, match)
            if self._host is not None:
                match.host_blocks = self._host.match(cursor.pieces, match.blocks, most)
        return match

    def _walk(self, cursor: Cursor, most: int, match: RunMatch) -> None:
        """Find what is cached of the first ``most`` blocks."""
        tree = self.tree
        node = tree.root
        at = 0
        while at < most and node.end == at:
            child = tree.child(node, cursor)
            if child is None:
                break
            node = child
            upto = tree.agreed(cursor, node, most)
            for run in node.runs:
                end = min(run.end, upto)
                if end > at:
                    match.runs.append(run)
                    match.ends.append(end)
                    at = end
        match.blocks = at

    def held_among(self, match: Match) -> int:
        """See ``KvPool``."""
        match = cast(RunMatch, match)
        held = at = 0
        for run, end in zip(match.runs, match.ends):
            if run.refs > 0:
                held += end - at
            at = end
        return held

    def name(self, sequence: Sequence, tokens: int) -> None:
        """See ``KvPool``."""
        hold = cast(RunHold, sequence.hold)
        full = tokens // self.block_size
        while hold.named < full:
            hold.named = self._name_some(hold, full)

    def _name_some(self, hold: RunHold, full: int) -> int:
        """Name blocks from the first that is not up to ``full``, or to where the tree forks; the block after them."""
        tree, cursor, at = self.tree, hold.cursor, hold.named
        last: Run | None = None
        node = tree.root
        if hold.runs:
            last = hold.runs[-1].last()
            node = last.node
            if node.end > at:
                # Another copy is longer: what follows is named in the rest of the node, or beside it.
                node = tree.split(node, at)
        child = tree.child(node, cursor)
        if child is not None:
            # Others have computed the same at the same time: one more copy, the youngest.
            upto = tree.agreed(cursor, child, full)
            if upto < child.end:
                child = tree.split(child, upto)
        elif last is not None and last.refs == 1 and not node.children:
            tree.grow(last, cursor, full)
            return full
        else:
            upto = full
            child = tree.add(node, cursor, upto)
        run = Run(child, upto - at, self.idle, refs=1)
        child.runs.append(run)
        hold.runs.append(run)
        return upto

    def _hold(self, sequence: Sequence, match: Match) -> None:
        match = cast(RunMatch, match)
        hold = cast(RunHold, sequence.hold)
        tree = self.tree
        at = 0
        for found, end in zip(match.runs, match.ends):
            run = found.part(at)
            if run.node.start < at:
                tree.split(run.node, at)
                run = found.part(at)
            if end < run.end:
                tree.split(run.node, end)
                run = found.part(at)
            if run.refs == 0:
                self.idle.remove(run)
                self.free -= run.blocks
            else:
                self.shared += run.blocks
            run.refs += 1
            hold.runs.append(run)
            at = end
        hold.named = at

    def _let_go(self, hold: Hold) -> int:
        hold = cast(RunHold, hold)
        pending = hold.runs
        hold.runs = []
        while pending:
            run = pending.pop()
            if run.parts is not None:
                pending += run.parts
                continue
            run.refs -= 1
            if run.refs == 0:
                self.idle.push(run)
                self.free += run.blocks
            else:
                self.shared -= run.blocks
        named = hold.named
        hold.named = 0
        return named

    def _bring_back(self, sequence: Sequence, match: Match) -> None:
        host = self._host
        assert host is not None
        assert sequence.hold is not None
        host.looked_up += sequence.length
        host.bring_back(sequence.hold.pieces, match.blocks, match.blocks + match.host_blocks)

    def _forget(self, entry: Entry, evicted: int) -> None:
        run = cast(Run, entry)
        if self._host is not None:
            self._host.fall(run.node.pieces, run.end, run.end + evicted)
        self.tree.shortened(run)
