"""STAR's decode rescheduling: even out the KV load of the steps to come, not of the present alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import ActiveRequests, ClusterView, ConfigError, Migration, register
from gsim.core.construct import FloatOrInf
from gsim.core.view import Floats, Ints
from gsim.migration.limits import check_limits
from gsim.migration.slots import Slots

#: More than a horizon needs; each is a column of the outlook.
_MOST_STEPS = 10_000


@register("rectifier", "star")
@dataclass
class Star:
    """Moves requests from instances whose predicted KV load is high to where it evens the loads out most.

    Load of instance i in step k, t_k = k * ``horizon_s`` / ``steps`` (k = 0 is now): u_i(k) = sum over its requests of
    context + t_k / TPOT_i while that is less than what is left of its output, else 0, over the KV capacity of i. To be
    small: J = sum_k ``decay``^k * Var_i u_i(k), current and predicted imbalance in one number. Sources are instances
    whose weighted load exceeds the mean by ``threshold`` or more, the fullest first; of each, the pair of request and
    target with the smallest J moves, if J falls by ``least_gain`` or more, the target holds it in every step, and what
    is left of its output lasts ``amortise`` times as long as the move makes it stand still. Every move counts for the
    next. Ties: the older request, the lower index.

    State: length predictor, learned TPOT (S6), the streams of the requests in flight. Source: STAR (arXiv 2510.13668),
    whose rule this is (future steps weighted into one variance, overloaded sources, moves that pay for themselves);
    the constants are this project's. Simplified: STAR predicts from hidden states again and again, here the configured
    predictor does; loads are shares of each instance's capacity (STAR's instances are alike); where a request's output
    ends is taken as known, not as a distribution.
    """

    interval_s: float = 1.0
    """Seconds between two reviews."""
    horizon_s: float = 20.0
    """How far the steps reach."""
    steps: int = 5
    """Steps beyond the present; 0: the present alone (what the prediction adds can be seen)."""
    decay: float = 0.8
    """What a step weighs against the one before it, in (0, 1]."""
    threshold: float = 0.1
    """An instance sheds requests when its load exceeds the mean by this share of it."""
    least_gain: float = 0.02
    """By what share the imbalance must fall."""
    amortise: float = 10.0
    """So many times as long as a move's standstill must the rest of the output take."""
    max_inflight: int = 4
    """Migrations that an instance takes part in at a time."""
    max_moves: int = 2
    """Migrations per request."""
    no_return_s: FloatOrInf = 30.0
    """A request does not go back to the instance it came from for this long after a move (inf: never)."""
    needs: ClassVar[frozenset[str]] = frozenset({"scrape", "estimates", "prediction"})
    _slots: Slots = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_limits(self)
        if not 0 < self.horizon_s < float("inf"):
            raise ConfigError(f"rectifier.horizon_s must be a finite number greater than 0, not {self.horizon_s}")
        if not 0 <= self.steps <= _MOST_STEPS:
            raise ConfigError(f"rectifier.steps must be from 0 to {_MOST_STEPS}, not {self.steps}")
        if not 0 < self.decay <= 1:
            raise ConfigError(f"rectifier.decay must be in (0, 1], not {self.decay}")
        for name in ("threshold", "least_gain", "amortise"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"rectifier.{name} must be 0 or more, not {getattr(self, name)}")
        self._slots = Slots(self.max_inflight)

    def review(self, active: ActiveRequests, view: ClusterView) -> Sequence[Migration]:
        """At most one move from each overloaded instance."""
        here = np.flatnonzero(view.available[active.instance]) if len(active) else active.instance
        if not len(here) or np.count_nonzero(view.available) < 2:
            return ()
        self._slots.refresh(active, len(view))
        return list(self._moves(_Outlook(self, here, active, view), active, view))

    def _moves(self, outlook: _Outlook, active: ActiveRequests, view: ClusterView) -> Iterator[Migration]:
        level = outlook.level()
        mean = float(level[view.available].mean())
        for source in np.argsort(-level, kind="stable").tolist():
            if level[source] < (1.0 + self.threshold) * mean or level[source] <= 0.0:
                return
            if not view.available[source] or self._slots.free[source] <= 0:
                continue
            found = self._best(source, outlook, active, view)
            if found is not None:
                k, target = found
                request_id = int(active.request_id[outlook.row[k]])
                self._slots.take(request_id, source, target)
                outlook.move(k, source, target)
                yield Migration(request_id, target, "evens out the load")

    def _best(
        self, source: int, outlook: _Outlook, active: ActiveRequests, view: ClusterView
    ) -> tuple[int, int] | None:
        """The request of ``source`` and the target that even the loads out most; None if none does enough."""
        row = outlook.row
        movable = (active.instance[row] == source) & (active.generated_tokens[row] > 0)
        movable &= ~active.moving[row] & (active.moves[row] < self.max_moves)
        candidates = np.flatnonzero(movable)
        best, found = (1.0 - self.least_gain) * outlook.imbalance(), None
        for target in np.flatnonzero(view.available & (self._slots.free > 0)).tolist():
            if target == source:
                continue
            back = active.previous[row[candidates]] == target
            fresh = view.now_s - active.moved_s[row[candidates]] < self.no_return_s
            after = outlook.imbalance_after(candidates, source, target)
            after[back & fresh] = np.inf
            for k in np.argsort(after, kind="stable").tolist():
                if not after[k] < best:
                    break
                if self._pays(int(candidates[k]), source, target, outlook, view):
                    best, found = float(after[k]), (int(candidates[k]), target)
                    break
        return found

    def _pays(self, k: int, source: int, target: int, outlook: _Outlook, view: ClusterView) -> bool:
        """Whether what is left of a request's output is worth its standstill."""
        stands_s = float(view.move_cost_s(int(outlook.context[k]), source, np.array([target]))[0])
        return float(outlook.to_decode[k]) * float(view.tpot_s[target]) >= self.amortise * stands_s


class _Outlook:
    """The KV load of every instance in every step, and what of it each request is (``row``: their rows in view)."""

    def __init__(self, rule: Star, row: Ints, active: ActiveRequests, view: ClusterView) -> None:
        self.row = row
        here = active.instance[row]
        self.context = active.prompt_tokens[row] + active.generated_tokens[row]
        self.to_decode = np.maximum(active.predicted_tokens[row] - active.generated_tokens[row], 1.0)
        self._up = view.available
        self._capacity = view.static.kv_capacity_tokens.astype(np.float64)
        self._at_s = np.linspace(0.0, rule.horizon_s if rule.steps else 0.0, rule.steps + 1)
        self._weights = rule.decay ** np.arange(rule.steps + 1)
        self._tpot_s = view.tpot_s
        self._tokens = self._grown(np.arange(len(row)), view.tpot_s[here])
        self._loads = np.zeros((len(view), rule.steps + 1))
        np.add.at(self._loads, here, self._tokens)
        self._loads /= self._capacity[:, None]

    def _grown(self, k: Ints, tpot_s: Floats) -> Floats:
        """Tokens of context of some requests in every step, at these speeds (0 once they have ended)."""
        grown = self._at_s[None, :] / tpot_s[:, None]
        tokens: Floats = np.where(grown < self.to_decode[k][:, None], self.context[k][:, None] + grown, 0.0)
        return tokens

    def level(self) -> Floats:
        """Each instance's load over all steps, weighted."""
        level: Floats = self._loads @ self._weights / self._weights.sum()
        return level

    def imbalance(self) -> float:
        """The variance over instances, weighted over steps."""
        return float(self._loads[self._up].var(axis=0) @ self._weights)

    def imbalance_after(self, k: Ints, source: int, target: int) -> Floats:
        """The same if one of these requests moved, for each (inf: the target could not hold it in some step)."""
        n = np.count_nonzero(self._up)
        left = self._loads[source] - self._tokens[k] / self._capacity[source]
        come = self._loads[target] + self._grown(k, np.full(len(k), self._tpot_s[target])) / self._capacity[target]
        others = self._loads[self._up].sum(axis=0) - self._loads[source] - self._loads[target]
        squares = (self._loads[self._up] ** 2).sum(axis=0) - self._loads[source] ** 2 - self._loads[target] ** 2
        mean = (others + left + come) / n
        variance = (squares + left**2 + come**2) / n - mean**2
        after: Floats = variance @ self._weights
        after[(come > 1.0).any(axis=1)] = np.inf
        return after

    def move(self, k: int, source: int, target: int) -> None:
        """Count a move that is about to begin."""
        come = self._grown(np.array([k]), self._tpot_s[target : target + 1])[0]
        self._loads[source] -= self._tokens[k] / self._capacity[source]
        self._loads[target] += come / self._capacity[target]
        self._tokens[k] = come
