"""Prompt content as KV blocks: a chain of block hashes, as vLLM's prefix cache computes it.

A block's hash covers its parent's hash and its own tokens, so equal hashes mean equal prefixes. Tokens are named by
(segment, offset): equal names are equal tokens.
"""

from __future__ import annotations

from gsim.core.request import Content


def block_hashes(content: Content, block_size: int, parent: int = 0, skip: int = 0) -> list[int]:
    """The hashes of the full blocks of ``content``, in order.

    ``parent`` is the hash of the block before the content (0 at the start of a prompt); ``skip`` leading tokens of the
    content are left out (they belong to blocks that exist already). Hashes are 64-bit integers, equal on every
    64-bit platform; a collision (about 2**-61 a pair) would only make one block too many hit.
    """
    hashes: list[int] = []
    parts: list[tuple[int, int, int]] = []
    room = block_size
    for segment, tokens in content:
        offset = 0
        if skip:
            offset = min(skip, tokens)
            skip -= offset
        while offset < tokens:
            if room == block_size:
                # The common case: blocks that lie inside one segment.
                whole_end = offset + (tokens - offset) // block_size * block_size
                for start in range(offset, whole_end, block_size):
                    parent = hash((parent, segment, start))
                    hashes.append(parent)
                offset = whole_end
            taken = min(room, tokens - offset)
            if taken:
                parts.append((segment, offset, taken))
                room -= taken
                if room == 0:
                    parent = hash((parent, *parts))
                    hashes.append(parent)
                    parts = []
                    room = block_size
            offset += taken
    return hashes


def head(content: Content, tokens: int) -> Content:
    """The first ``tokens`` tokens of a content (all of it, where it is shorter)."""
    kept: list[tuple[int, int]] = []
    for piece, length in content:
        if tokens <= 0:
            break
        kept.append((piece, min(length, tokens)))
        tokens -= length
    return tuple(kept)


def shared_tokens(left: Content, right: Content) -> int:
    """How many leading tokens two prompts have in common."""
    shared = 0
    for (segment_l, tokens_l), (segment_r, tokens_r) in zip(left, right, strict=False):
        if segment_l != segment_r:
            break
        shared += min(tokens_l, tokens_r)
        if tokens_l != tokens_r:
            break
    return shared
