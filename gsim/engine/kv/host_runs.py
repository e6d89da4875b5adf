"""The decode clock's host tier: what ``host_blocks`` has, by stretches of blocks, so that nothing costs time per block.

What is here of a prompt may begin anywhere in it, as tails fall before their heads. So nodes of a prefix tree of its
own are cut until each is here as a whole, or not at all; those that are not only lead to some that are. A stretch is
what one node has here: one entry of the LRU list, whose tail counts as older than its head. What falls next to the
youngest stretch, in front of it, becomes one with it.
"""

from __future__ import annotations

from typing import cast

from gsim.core.lru import Entry, Lru
from gsim.core.prefix_tree import Cursor, Key, Node, PrefixTree
from gsim.core.request import Content
from gsim.engine.host_kv import HostKvLimits
from gsim.engine.kv.host_tier import HostTier


class Stretch(Entry):
    """All blocks of a node, which are here."""

    __slots__ = ("node",)

    def __init__(self, node: HostNode) -> None:
        super().__init__(node.end - node.start)
        self.node = node


class HostNode(Node):
    """A stretch of prompts that is here, or (without ``stretch``) that only leads to others."""

    __slots__ = ("stretch",)

    def __init__(self, parent: Node | None, key: Key, start: int, end: int, pieces: Content) -> None:
        super().__init__(parent, key, start, end, pieces)
        self.stretch: Stretch | None = None


class HostRuns(HostTier):
    """Blocks of the card's cache by their place in prompts."""

    def __init__(self, limits: HostKvLimits, block_size: int) -> None:
        super().__init__(limits)
        self.names = PrefixTree(block_size)
        """How blocks are named; its own nodes are not used."""
        self.root = HostNode(None, (), 0, 0, ())
        self.lru = Lru()
        self.held = 0
        """Blocks here."""

    def match(self, pieces: Content, first: int, most: int) -> int:
        """How many blocks of a prompt are here, from block ``first`` on, up to block ``most``."""
        cursor = Cursor(pieces)
        node: Node = self.root
        at = found = 0
        while at < most and node.end == at:
            child = self.names.child(node, cursor)
            if child is None:
                break
            upto = self.names.agreed(cursor, child, most)
            if upto > first:
                if cast(HostNode, child).stretch is None:
                    break
                found = upto - first
            node, at = child, upto
        return found

    def bring_back(self, pieces: Content, first: int, end: int) -> None:
        """Copy blocks that are here to the card: they are the last used, a tail before its head."""
        self.brought_back += end - first
        while end > first:
            end = self._use(self._ending_at(pieces, first, end))

    def fall(self, pieces: Content, first: int, end: int) -> None:
        """Blocks of a prompt, from ``first`` to before ``end``, have been evicted from the card, the last one first."""
        while end > first:
            node = self._ending_at(pieces, first, end)
            if node.stretch is None:
                blocks = node.end - node.start
                self.fallen += blocks
                self.held += blocks
            end = self._use(node)
            # At once: it may forget what would have fallen next, which then is copied again.
            if self.held > self.capacity:
                self._forget(self.held - self.capacity)

    def _use(self, node: HostNode) -> int:
        """All of a node is here, and the last used; the block with which it begins."""
        start = node.start
        stretch = node.stretch
        if stretch is None:
            stretch = node.stretch = Stretch(node)
        else:
            self.lru.remove(stretch)
        self._join(node, stretch)
        self.lru.push(stretch)
        return start

    def _join(self, node: HostNode, stretch: Stretch) -> None:
        """Make one of a node and what follows it, if that is the youngest here and nothing else follows."""
        newest = self.lru.newest
        if newest is None or len(node.children) != 1:
            return
        child = cast(Stretch, newest).node
        if child.parent is not node:
            return
        self.lru.remove(newest)
        stretch.blocks += newest.blocks
        node.end = child.end
        node.pieces = child.pieces
        node.children = child.children
        for each in node.children.values():
            each.parent = node

    def _ending_at(self, pieces: Content, first: int, end: int) -> HostNode:
        """The node that ends with the block before ``end`` of a prompt, and begins at ``first`` or later."""
        cursor = Cursor(pieces)
        node = self.root
        while node.end < end:
            child = cast("HostNode | None", self.names.child(node, cursor))
            if child is None:
                child = self._add(node, cursor, first if node.end < first else end)
            else:
                upto = self.names.agreed(cursor, child, end)
                if upto < child.end:
                    child = self._split(child, upto)
            node = child
        if node.start < first:
            self._split(node, first)
        return node

    def _add(self, parent: HostNode, cursor: Cursor, end: int) -> HostNode:
        node = HostNode(parent, self.names.key(cursor, parent.end), parent.end, end, cursor.pieces)
        parent.children[node.key] = node
        return node

    def _split(self, node: HostNode, block: int) -> HostNode:
        """Cut a node before ``block``; ``node`` is the rest from then on. Returns the new head."""
        parent = node.parent
        assert parent is not None
        head = HostNode(parent, node.key, node.start, block, node.pieces)
        parent.children[node.key] = head
        node.parent = head
        node.key = self.names.key(Cursor(node.pieces), block)
        head.children[node.key] = node
        node.start = block
        whole = node.stretch
        if whole is not None:
            head.stretch, node.stretch = Stretch(head), Stretch(node)
            self.lru.replace(whole, node.stretch, head.stretch)
        return head

    def _forget(self, blocks: int) -> None:
        """Forget the ``blocks`` blocks that were used least recently."""
        self.held -= blocks
        while blocks > 0:
            stretch = self.lru.oldest
            assert stretch is not None
            node = cast(Stretch, stretch).node
            some = min(blocks, stretch.blocks)
            blocks -= some
            if some == stretch.blocks:
                self.lru.remove(stretch)
                node.stretch = None
                _prune(node)
            elif node.children:
                self._split(node, node.end - some)
                assert node.stretch is not None
                self.lru.remove(node.stretch)
                node.stretch = None
            else:
                node.end -= some
                stretch.blocks -= some


def _prune(node: HostNode) -> None:
    """Forget nodes that are not here and lead nowhere."""
    while node.stretch is None and not node.children and node.parent is not None:
        parent = cast(HostNode, node.parent)
        del parent.children[node.key]
        node = parent
