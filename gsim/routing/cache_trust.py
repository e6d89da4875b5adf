"""How far a gateway's prefix index is right about an instance's cache: learned from what engines report."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gsim.core.view import Floats, float_cells

#: Before anything was reported the index is believed; this counts as so many tokens that it was right about.
_BELIEVED_TOKENS = 2000.0


@dataclass
class CacheTrust:
    """Per instance the share of matched tokens that had been cached indeed, the newest requests counting most.

    An engine may cache no prefixes at all, or have evicted more than the index knows. Where servers do not say what
    was cached, the index is believed.
    """

    forget: float = 0.02
    """Weight of a new request."""
    share: Floats = field(default_factory=lambda: np.zeros(0), init=False)
    """In [0, 1]."""
    _matched: Floats = field(default_factory=lambda: np.zeros(0), init=False, repr=False, compare=False)
    _cached: Floats = field(default_factory=lambda: np.zeros(0), init=False, repr=False, compare=False)

    def grow(self, instances: int) -> None:
        """Make room for so many instances, of which nothing is known."""
        more = instances - len(self.share)
        self.share = np.concatenate([self.share, np.ones(more)])
        self._matched = np.concatenate([self._matched, np.full(more, _BELIEVED_TOKENS)])
        self._cached = np.concatenate([self._cached, np.full(more, _BELIEVED_TOKENS)])

    def learn(self, instance: int, matched_tokens: float, cached_tokens: int | None) -> None:
        """A request had so many tokens matched there, and so many cached (None: nobody said)."""
        if cached_tokens is None or not matched_tokens > 0:
            return
        matched, cached, share = float_cells(self._matched), float_cells(self._cached), float_cells(self.share)
        matched[instance] += self.forget * (matched_tokens - matched[instance])
        cached[instance] += self.forget * (min(float(cached_tokens), matched_tokens) - cached[instance])
        share[instance] = cached[instance] / matched[instance]
