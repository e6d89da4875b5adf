"""The gateway's prefix index as it once was, a hash per block: slow, and the model that the index by runs must equal.

It is approximate, as in real routers: it knows what was sent where, not what the engine has evicted since. Each
instance's part is an LRU of as many blocks as its KV cache holds.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from gsim.core import Request, block_hashes
from gsim.core.view import Ints


class BlockIndex:
    """Prompt blocks by hash, and the instances that were sent them."""

    def __init__(self, capacity_tokens: Ints, block_tokens: int, scale: float = 1.0) -> None:
        self._block_tokens = block_tokens
        self._capacity = [max(1, int(tokens * scale) // block_tokens) for tokens in capacity_tokens]
        self._held: list[OrderedDict[int, None]] = [OrderedDict() for _ in capacity_tokens]
        self._holders: dict[int, set[int]] = {}
        self._last: tuple[tuple[int, int], list[int]] = ((-1, -1), [])

    def match(self, request: Request) -> Ints:
        """Leading prompt tokens that each instance was sent before and probably still has."""
        matched = np.zeros(len(self._held), dtype=np.int64)
        alive: set[int] | None = None
        for block in self._hashes(request):
            holders = self._holders.get(block)
            if not holders:
                break
            alive = set(holders) if alive is None else alive & holders
            if not alive:
                break
            matched[list(alive)] += self._block_tokens
        return matched

    def insert(self, request: Request, instance: int) -> None:
        """The prompt was sent to ``instance``."""
        held = self._held[instance]
        # Tails first, as the engine's own cache frees them: the head of a prompt is evicted last.
        for block in reversed(self._hashes(request)):
            if block in held:
                held.move_to_end(block)
            else:
                held[block] = None
                self._holders.setdefault(block, set()).add(instance)
        while len(held) > self._capacity[instance]:
            block, _ = held.popitem(last=False)
            self._forget(block, instance)

    def clear(self, instance: int) -> None:
        """The instance lost its cache (it crashed)."""
        for block in self._held[instance]:
            self._forget(block, instance)
        self._held[instance].clear()

    def _forget(self, block: int, instance: int) -> None:
        holders = self._holders[block]
        holders.discard(instance)
        if not holders:
            del self._holders[block]

    def _hashes(self, request: Request) -> list[int]:
        # A request is matched and then inserted: its hashes are computed once (a resumed one has a longer prompt).
        key = (request.request_id, request.prompt_tokens)
        if self._last[0] != key:
            self._last = (key, block_hashes(request.content, self._block_tokens))
        return self._last[1]
