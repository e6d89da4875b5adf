"""What a token costs at least, given how long the iterations may be that compute it: the amortisation argument.

Fix a weight ``rho >= 1`` of a decode against a prefilled token. Of an iteration with D decodes and p prefilled tokens,
let each decode pay ``rho R / (rho D + p)`` and each prefilled token ``R / (rho D + p)``, where R is the part of the
floor that the tokens share, on top of its own part. The payments add up to no more than the iteration takes, so
*whatever* requests are chosen, their payments over all iterations in a window fit into the window.

A decode pays less the larger its batch is, but a large batch takes long: no context is shorter than the run's shortest
prompt c, so an iteration of length t has ``R + d c D <= t``. The least payment under that, A(t), never rises with t.
Its lower convex hull is below it and convex, so (Jensen) n iterations of mean length m cost at least n times the hull
at m, and a request that has T seconds for n decodes has a mean of at most T / n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gsim.core.view import Floats, Ints
from gsim.optimum.minorant import Minorant, lower_hull

#: Bins of this relative width stand for the batch sizes above ``_EXACT``; the price takes each bin's cheapest corner.
_BIN = 0.01
_EXACT = 64
#: Rounding must not raise a lower limit.
_SAFE = 1.0 - 1e-9


@dataclass(frozen=True)
class Price:
    """Least payments per token on one instance, for one ``rho``."""

    rho: float
    hull_s: Floats
    """Corners of the convex hull of A: iteration lengths, ascending."""
    hull_price_s: Floats
    """The hull's values at its corners, falling."""
    prefill_s: Floats
    """Iteration lengths at which the least payment of a prefilled token drops, ascending."""
    prefill_price_s: Floats

    def decode(self, mean_s: Floats) -> Floats:
        """Least mean payment of a decode whose iterations have at most these mean lengths."""
        paid: Floats = self.rho * np.interp(mean_s, self.hull_s, self.hull_price_s) * _SAFE
        return paid

    def prefill(self, longest_s: Floats) -> Floats:
        """Least payment of a prefilled token in iterations of at most these lengths."""
        index = np.searchsorted(self.prefill_s, longest_s * (1.0 + 1e-9), side="right") - 1
        paid: Floats = self.prefill_price_s[np.maximum(index, 0)] * _SAFE
        return paid

    def tilted(self, slope: Floats) -> Floats:
        """min over t of (decode payment at t + slope * t): for payments that also count the time itself."""
        # A concave, piecewise linear function of the slope: the hull's corners are its lines.
        lines = self.rho * self.hull_price_s[None, :] + np.atleast_1d(slope)[:, None] * self.hull_s[None, :]
        paid: Floats = lines.min(axis=1) * _SAFE
        return paid


def _bins(first: int, last: int) -> tuple[Ints, Ints]:
    """Ranges of whole numbers that cover ``first`` ... ``last``: one by one at first, then growing."""
    lows = [*range(first, min(last, _EXACT) + 1)]
    step = float(_EXACT)
    while lows[-1] < last:
        step = max(step * (1.0 + _BIN), lows[-1] + 1)
        if step > last:
            break
        lows.append(int(step))
    low = np.array(sorted(set(lows)), dtype=np.int64)
    return low, np.append(low[1:] - 1, last)


@dataclass(frozen=True)
class Crowd:
    """How many requests, with how many tokens, can be good and under way at one time."""

    requests: int
    tokens: int


def prices(floor: Minorant, rhos: tuple[float, ...], crowd: Crowd) -> list[Price]:
    """The least payments over all batches within the floor's extent, for each rho.

    Only requests that are good pay, and of those only so many can be in a batch as are under way at one time. What
    they share takes at least the least R of any batch that holds theirs, so R is looked at for their part of a batch,
    as the least of all larger ones.
    """
    extent = floor.extent
    tokens = _bins(1, extent.tokens)
    decodes = _bins(0, min(extent.decodes, extent.tokens))
    shared_s = floor.residual(decodes, tokens)
    shared_s = np.minimum.accumulate(shared_s[::-1], axis=0)[::-1]
    shared_s = np.minimum.accumulate(shared_s[:, ::-1], axis=1)[:, ::-1]
    shared_s = np.where(tokens[1][None, :] >= decodes[0][:, None], shared_s, np.inf)
    (d_low, d_high), shared_s = _capped(decodes, crowd.requests, shared_s)
    (_, n_high), shared_s = _capped(tokens, crowd.tokens, shared_s.T)
    shared_s = shared_s.T
    length = (shared_s + floor.context_token_s * extent.contexts[0] * d_low[:, None]).ravel()
    order = np.argsort(length)
    order = order[: np.searchsorted(length, np.inf, sorter=order)]
    length, shared_s = length[order], shared_s.ravel()[order]
    n_most = np.broadcast_to(n_high[None, :], (len(d_low), len(n_high))).ravel()[order]
    d_most = np.minimum(np.repeat(d_high, len(n_high))[order], n_most)
    # A token may also come out of a recomputed prefill: every batch is looked at, also those without a decode.
    prefill = n_most > np.repeat(d_low, len(n_high))[order]
    found = []
    for rho in rhos:
        paid = shared_s / (n_most + (rho - 1.0) * d_most)
        hull = lower_hull(*_falling(length, paid))
        found.append(Price(rho, *hull, *_falling(length[prefill], paid[prefill])))
    return found


def _capped(bins: tuple[Ints, Ints], most: int, rows: Floats) -> tuple[tuple[Ints, Ints], Floats]:
    """The bins that begin at ``most`` or below, cut there, and their rows."""
    low, high = bins
    kept = low <= most
    return (low[kept], np.minimum(high[kept], most)), rows[kept]


def _falling(length: Floats, paid: Floats) -> tuple[Floats, Floats]:
    """The running minimum of ``paid`` over ascending ``length``, where it drops."""
    least = np.minimum.accumulate(paid)
    drops = np.append(True, least[1:] < least[:-1])
    return length[drops], least[drops]
