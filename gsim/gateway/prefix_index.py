"""The gateway's own idea of which instance has which prompt prefix cached.

It is approximate, as in real routers: it knows what was sent where, not what the engine has evicted since. Each
instance's part is an LRU of as many blocks as its KV cache holds, and like the engine's own it is kept by runs
(``gsim.core.prefix_tree``): a node of the tree has one run for each instance that was sent it.
"""

from __future__ import annotations

import numpy as np

from gsim.core import Content, Request
from gsim.core.lru import Lru
from gsim.core.prefix_tree import Cursor, Node, PrefixTree, Run
from gsim.core.view import Ints, int_cells


class _Sent(Lru):
    """The blocks that an instance was sent, least recently sent first."""

    __slots__ = ("blocks", "capacity", "instance")

    def __init__(self, instance: int, capacity: int) -> None:
        super().__init__()
        self.instance = instance
        self.capacity = capacity
        self.blocks = 0


class PrefixIndex:
    """Prompt blocks, and the instances that were sent them."""

    def __init__(self, capacity_tokens: Ints, block_tokens: int, scale: float = 1.0) -> None:
        self._block_tokens = block_tokens
        self._tree = PrefixTree(block_tokens)
        self._sent = [
            _Sent(i, max(1, int(tokens * scale) // block_tokens)) for i, tokens in enumerate(capacity_tokens.tolist())
        ]

    def match(self, request: Request) -> Ints:
        """Leading prompt tokens that each instance was sent before and probably still has."""
        matched = np.zeros(len(self._sent), dtype=np.int64)
        cells = int_cells(matched)
        size = self._block_tokens
        pieces, blocks = _pieces(request.content, size)
        tree, cursor = self._tree, Cursor(pieces)
        node = tree.root
        upto = 0
        while upto < blocks and upto == node.end:
            child = tree.child(node, cursor)
            if child is None:
                break
            node = child
            upto = tree.agreed(cursor, node, blocks)
            # Who has a block has all before it: blocks are forgotten from the end of prompts.
            for run in node.runs:
                cells[_instance(run)] = size * min(run.end, upto)
        return matched

    def insert(self, request: Request, instance: int) -> None:
        """The prompt was sent to ``instance``."""
        sent = self._sent[instance]
        pieces, blocks = _pieces(request.content, self._block_tokens)
        # Tails first, as the engine's own cache frees them: the head of a prompt is evicted last.
        for node in reversed(self._path(Cursor(pieces), blocks, sent)):
            run = _run_of(node, sent)
            length = node.end - node.start
            if run is None:
                run = Run(node, 0, sent)
                node.runs.append(run)
            else:
                sent.remove(run)
            sent.blocks += length - run.blocks
            run.blocks = length
            sent.push(run)
        while sent.blocks > sent.capacity:
            oldest = sent.oldest
            assert type(oldest) is Run
            self._shorten(oldest, min(sent.blocks - sent.capacity, oldest.blocks))

    def clear(self, instance: int) -> None:
        """The instance lost its cache (it crashed)."""
        sent = self._sent[instance]
        while sent.blocks > 0:
            # Tails first, as ever: the oldest run is at the end of its prompts.
            oldest = sent.oldest
            assert type(oldest) is Run
            self._shorten(oldest, oldest.blocks)

    def _path(self, cursor: Cursor, blocks: int, sent: _Sent) -> list[Node]:
        """The nodes that are exactly the prompt's first ``blocks`` blocks; made where there are none."""
        tree = self._tree
        node = tree.root
        path: list[Node] = []
        while node.end < blocks:
            child = tree.child(node, cursor)
            if child is None:
                run = _run_of(node, sent)
                if run is not None and not node.children and len(node.runs) == 1:
                    # The same instance's prompt goes on: so does its node.
                    sent.blocks += blocks - node.end
                    tree.grow(run, cursor, blocks)
                    break
                child = tree.add(node, cursor, blocks)
            else:
                upto = tree.agreed(cursor, child, blocks)
                if upto < child.end:
                    child = tree.split(child, upto)
            node = child
            path.append(node)
        return path

    def _shorten(self, run: Run, blocks: int) -> None:
        sent = run.cache
        assert type(sent) is _Sent
        run.blocks -= blocks
        sent.blocks -= blocks
        if run.blocks == 0:
            sent.remove(run)
        self._tree.shortened(run)


def _pieces(content: Content, block_tokens: int) -> tuple[Content, int]:
    """A prompt without empty pieces, and how many full blocks it has."""
    length = 0
    whole = True
    for _, tokens in content:
        length += tokens
        if tokens == 0:
            whole = False
    if not whole:
        content = tuple([piece for piece in content if piece[1] > 0])
    return content, length // block_tokens


def _instance(run: Run) -> int:
    sent = run.cache
    assert type(sent) is _Sent
    return sent.instance


def _run_of(node: Node, sent: _Sent) -> Run | None:
    """What an instance was sent of a node."""
    for run in node.runs:
        if run.cache is sent:
            return run
    return None
