"""What a move would cost in this pool: a mechanism, a link and the instances' KV layouts, bound to a view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gsim.core import ClusterView
from gsim.core.view import Floats, Ints
from gsim.migration.link import Link
from gsim.migration.mechanism import Mechanism, Quote
from gsim.migration.token_ids import TokenIds


@dataclass(frozen=True)
class MoveCosts:
    """Estimates for ``ClusterView.move_cost_s``, from what a gateway knows."""

    mechanism: Mechanism
    link: Link
    kv_bytes_per_token: Floats
    """Of each instance's model and layout."""

    def attach(self, view: ClusterView) -> None:
        """Let ``view.move_cost_s`` answer with this pool's costs."""
        layouts = _codes(view.static.layout)
        models = _codes(view.static.model)
        one_model = not models.any()

        def move_cost_s(tokens: int, source: int, targets: Ints) -> Floats:
            costs = self.estimate_s(view, layouts, tokens, source, targets)
            # Another model cannot continue the text.
            return costs if one_model else np.where(models[targets] == models[source], costs, np.inf)

        view.move_cost_s = move_cost_s

    def estimate_s(self, view: ClusterView, layouts: Ints, tokens: int, source: int, targets: Ints) -> Floats:
        """Seconds that a request of ``tokens`` context stands still on its way from ``source`` to each target.

        Queueing at the target is included. ``inf``: the move is impossible (unlike layouts and ``fallback=refuse``).
        """
        quote = Quote(
            tokens=tokens,
            kv_bytes_per_token=float(self.kv_bytes_per_token[source]),
            block_size=view.static.block_size,
            rate_bytes_per_s=self._rates(view, source, targets),
            latency_s=self.link.latency_s,
            queue_s=view.queue_s[targets],
            prefill_s_per_token=view.prefill_s_per_token[targets],
            cached_tokens=np.zeros(len(targets)),
            source_tpot_s=float(view.tpot_s[source]),
        )
        costs = self.mechanism.estimate_s(quote)
        if not self.mechanism.carries_kv:
            return costs
        unlike = layouts[targets] != layouts[source]
        if not unlike.any():
            return costs
        if self.mechanism.fallback == "refuse":
            return np.where(unlike, np.inf, costs)
        return np.where(unlike, TokenIds().estimate_s(quote), costs)

    def _rates(self, view: ClusterView, source: int, targets: Ints) -> Floats:
        load = np.maximum(view.kv_usage[targets], view.kv_usage[source])
        # Twice as fast as np.clip on a few hundred numbers.
        slowed = 1.0 - (1.0 - self.link.busy_factor) * np.minimum(np.maximum(load, 0.0), 1.0)
        rates: Floats = self.link.rate_bytes_per_s * slowed
        return rates


def _codes(names: tuple[str, ...]) -> Ints:
    """Equal names as equal numbers."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int64)
