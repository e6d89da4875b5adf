"""What caches have of prompts, by runs of KV blocks instead of block by block.

A cached block is named by all the tokens before it and its own (vLLM hashes its parent's hash with them). Prompts are
(segment, tokens) pieces, so the names of a prompt's blocks follow from one another until another prompt parts from it.
Such a stretch is a *node* of a tree, and a block's name is its node and its index: no hash per block. What one cache
has of a node is a *run*: the node's first so many blocks, used together and evicted from the end. A walk from the root
costs a step per piece of the prompt and per fork, however long the prompt and however small the blocks.

Nodes end at whole blocks. Prompts that part inside a block share the blocks before it, and their next nodes differ in
their first block already.
"""

from __future__ import annotations

from gsim.core.lru import Entry, Lru
from gsim.core.request import Content

#: The tokens of one block: segment and offset where it lies in one piece, else (segment, offset, tokens) for each.
Key = tuple[int, ...]


class Cursor:
    """A place in a prompt: the piece in which a token lies, and the token with which that piece begins."""

    __slots__ = ("begin", "index", "pieces")

    def __init__(self, pieces: Content) -> None:
        self.pieces = pieces
        """No piece is empty."""
        self.index = 0
        self.begin = 0

    def seek(self, token: int) -> None:
        """Go to the piece that holds ``token`` (counted from the start of the prompt)."""
        pieces, index, begin = self.pieces, self.index, self.begin
        while begin > token:
            index -= 1
            begin -= pieces[index][1]
        while begin + pieces[index][1] <= token:
            begin += pieces[index][1]
            index += 1
        self.index, self.begin = index, begin


class Node:
    """Blocks ``start`` to ``end`` (exclusive) of every prompt that comes along here."""

    __slots__ = ("children", "end", "key", "parent", "pieces", "runs", "start")

    def __init__(self, parent: Node | None, key: Key, start: int, end: int, pieces: Content) -> None:
        self.parent = parent
        self.key = key
        """Its first block, which tells it from its siblings."""
        self.start = start
        self.end = end
        """The end of its longest run."""
        self.pieces = pieces
        """A prompt that comes along here (what follows after ``end`` is its own affair)."""
        self.children: dict[Key, Node] = {}
        """All of them begin where this one ends."""
        self.runs: list[Run] = []
        """The copies that there are of its blocks, oldest first. The root has none."""


class Run(Entry):
    """A copy of the first ``blocks`` blocks of a node, in one cache."""

    __slots__ = ("cache", "node", "parts", "refs")

    def __init__(self, node: Node, blocks: int, cache: Lru, refs: int = 0) -> None:
        super().__init__(blocks)
        self.node = node
        self.cache = cache
        """Where it stands while nobody holds it."""
        self.refs = refs
        """How many hold it."""
        self.parts: tuple[Run, Run] | None = None
        """Set when it is cut in two. From then on it only stands for both, for whoever held it before."""

    @property
    def end(self) -> int:
        """The block after its last."""
        return self.node.start + self.blocks

    def part(self, block: int) -> Run:
        """The part of it, uncut, that holds ``block``."""
        run = self
        while run.parts is not None:
            front, back = run.parts
            run = front if block < front.end else back
        return run

    def last(self) -> Run:
        """Its last uncut part."""
        run = self
        while run.parts is not None:
            run = run.parts[1]
        return run

    def cut(self, head: Node, blocks: int) -> Run:
        """Cut off the first ``blocks`` blocks, which are all of ``head``; the rest stays in the node. Returns the rest.

        The rest is older than what stands before it: tails are freed first.
        """
        front = Run(head, blocks, self.cache, self.refs)
        back = Run(self.node, self.blocks - blocks, self.cache, self.refs)
        if self.refs == 0:
            self.cache.replace(self, back, front)
        head.runs.append(front)
        self.parts = (front, back)
        return back


class PrefixTree:
    """The nodes, from the empty prompt on."""

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.root = Node(None, (), 0, 0, ())

    def child(self, node: Node, cursor: Cursor) -> Node | None:
        """The node that goes on after ``node`` with the prompt's next block, if there is one."""
        return node.children.get(self.key(cursor, node.end)) if node.children else None

    def key(self, cursor: Cursor, block: int) -> Key:
        """The tokens of a prompt's block."""
        size = self.block_size
        token = block * size
        cursor.seek(token)
        pieces, index = cursor.pieces, cursor.index
        segment, tokens = pieces[index]
        offset = token - cursor.begin
        missing = size - (tokens - offset)
        if missing <= 0:
            return (segment, offset)
        key = [segment, offset, tokens - offset]
        while missing > 0:
            index += 1
            segment, tokens = pieces[index]
            key += (segment, 0, min(missing, tokens))
            missing -= tokens
        return tuple(key)

    def agreed(self, cursor: Cursor, node: Node, most: int) -> int:
        """The block up to which a prompt goes along with ``node``, whose first block it has; at most ``most``.

        What has been walked is common to both, so their pieces have the same places up to here.
        """
        ours, theirs = cursor.pieces, node.pieces
        # Prompts of a session mostly hold the very same pieces: as objects, they are compared without being opened.
        our_objects: tuple[object, ...] = ours
        their_objects: tuple[object, ...] = theirs
        index, begin = cursor.index, cursor.begin
        upto = min(node.end, most)
        stop = upto * self.block_size
        while our_objects[index] is their_objects[index] or ours[index] == theirs[index]:
            end = begin + ours[index][1]
            if end >= stop:
                break
            begin = end
            index += 1
        else:
            segment, tokens = ours[index]
            other_segment, other_tokens = theirs[index]
            parted = begin + min(tokens, other_tokens) if segment == other_segment else begin
            if parted < stop:
                upto = parted // self.block_size
        cursor.index, cursor.begin = index, begin
        return upto

    def add(self, parent: Node, cursor: Cursor, end: int) -> Node:
        """A new node after ``parent``: the prompt's blocks up to ``end``."""
        node = Node(parent, self.key(cursor, parent.end), parent.end, end, cursor.pieces)
        parent.children[node.key] = node
        return node

    def grow(self, run: Run, cursor: Cursor, end: int) -> None:
        """Let a node without children, and the one run that reaches its end, go on to ``end`` as the prompt does."""
        node = run.node
        run.blocks = end - node.start
        node.end = end
        node.pieces = cursor.pieces

    def split(self, node: Node, block: int) -> Node:
        """Cut a node, and its runs, before ``block``; ``node`` is the rest from then on. Returns the new head."""
        parent = node.parent
        assert parent is not None
        head = Node(parent, node.key, node.start, block, node.pieces)
        parent.children[node.key] = head
        node.parent = head
        node.key = self.key(Cursor(node.pieces), block)
        head.children[node.key] = node
        runs = node.runs
        node.runs = []
        blocks = block - node.start
        for run in runs:
            if run.blocks <= blocks:
                run.node = head
                head.runs.append(run)
            else:
                node.runs.append(run.cut(head, blocks))
        node.start = block
        return head

    def shortened(self, run: Run) -> None:
        """``run`` has lost blocks at its end, maybe all: forget the names that nobody has any more."""
        node = run.node
        runs = node.runs
        if run.blocks == 0:
            runs.remove(run)
        if len(runs) == 1:
            node.end = node.start + runs[0].blocks
        elif runs:
            node.end = node.start + max([each.blocks for each in runs])
        else:
            assert node.parent is not None
            del node.parent.children[node.key]
