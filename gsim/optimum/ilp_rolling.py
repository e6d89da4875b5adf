"""The program on a rolling horizon: what an online router can make of it, with predictions and what has arrived."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import HOLD, ClusterView, ConfigError, Decision, Request, register
from gsim.core.view import Floats, Ints

#: More than any horizon needs; each is a row of the program.
_MOST_CHECKPOINTS = 10_000


@dataclass(frozen=True)
class _Items:
    """The requests of one program: the new one first, then those that are expected to follow it."""

    arrival_s: Floats
    slo_s: Floats
    prompt_tokens: Floats
    output_tokens: Floats


@register("router", "ilp_rolling")
@dataclass
class IlpRolling:
    """Solves a small assignment program per arrival: the new request among those that are likely to follow it.

    The last ``window`` arrivals, with their gaps, are taken for the next ones. Maximise requests served in time, each
    on at most one instance and only where the learned T = q + p L_in + d L_out meets its SLO (q for the new one only),
    such that in every window from now the work (L_in at the nominal prefill speed, predicted L_out at the nominal
    throughput) fits into ``fill`` of the time, less the outstanding tokens. The new request goes where its largest
    share is (ties: the lowest index), and where it has none, to the instance with the smallest T.

    State: learned estimates (S6), outstanding tokens (S1), nominal speeds (S5), the length predictor. Source: this
    project (the paper's integer program, arXiv 2605.16867, relaxed, with capacities per window). An online reference
    for the plan, not a router for production: one decision takes milliseconds.
    """

    window: int = 16
    """Recent arrivals that stand for the next ones."""
    fill: float = 0.9
    """Share of each window that work may take: the program does not see how batches form."""
    candidates: int = 16
    """Instances in the program, at most: those with the smallest T for the new request."""
    checkpoints: int = 4
    """Ends of windows, spread over the deadlines."""
    haste: float = 0.05
    """What a request is worth less where its T would use up its whole SLO: of equal plans, the faster instances."""
    needs: ClassVar[frozenset[str]] = frozenset({"estimates", "prediction"})
    _recent: deque[tuple[float, float, float, float]] = field(
        default_factory=deque, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for name, least in (("window", 0), ("candidates", 1), ("checkpoints", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"router.{name} must be {least} or more, not {getattr(self, name)}")
        if self.checkpoints > _MOST_CHECKPOINTS:
            raise ConfigError(f"router.checkpoints must be from 1 to {_MOST_CHECKPOINTS}, not {self.checkpoints}")
        if not 0.0 < self.fill <= 1.0:
            raise ConfigError(f"router.fill must be in (0, 1], not {self.fill}")
        if not 0.0 <= self.haste < 1.0:
            raise ConfigError(f"router.haste must be in [0, 1), not {self.haste}")

    def route(self, request: Request, view: ClusterView) -> Decision:
        """Where the program puts the new request."""
        up = view.available.nonzero()[0]
        if not len(up):
            return HOLD
        items = self._items(request, view)
        alone = view.prefill_s_per_token * request.prompt_tokens + view.tpot_s * items.output_tokens[0]
        latency = view.queue_s + alone
        near = np.sort(up[np.argsort(latency[up], kind="stable")[: self.candidates]])
        shares = self._shares(items, latency, near, view)
        if shares is not None and shares.max() > 1e-6:
            return int(near[int(np.argmax(shares))])
        return int(up[latency[up].argmin()])

    def _items(self, request: Request, view: ClusterView) -> _Items:
        new = (view.now_s, request.deadline_s - view.now_s, float(request.prompt_tokens), view.predict(request))
        rows = [new]
        if self._recent:
            # What lies as far back as the last arrivals is expected as far ahead.
            rows += [(2.0 * view.now_s - at_s, slo_s, prompt, output) for at_s, slo_s, prompt, output in self._recent]
        columns = np.array(rows).T
        self._recent.appendleft((view.now_s, request.slo_s, new[2], new[3]))
        while len(self._recent) > self.window:
            self._recent.pop()
        return _Items(*columns)

    def _shares(self, items: _Items, latency: Floats, near: Ints, view: ClusterView) -> Floats | None:
        """The new request's share on each of the instances ``near``; None where the program was not solved."""
        # Half a second to import: only who routes with it pays.
        from scipy.optimize import linprog

        nominal = view.static
        prompt, output = items.prompt_tokens[:, None], items.output_tokens[:, None]
        work = prompt * nominal.nominal_prefill_s_per_token[near] + output / nominal.nominal_tokens_per_s[near]
        expected = prompt * view.prefill_s_per_token[near] + output * view.tpot_s[near]
        expected[0] = latency[near]
        in_time = expected <= items.slo_s[:, None]
        if not in_time[0].any():
            return None
        worth = 1.0 - self.haste * np.minimum(expected / np.maximum(items.slo_s, 1e-9)[:, None], 1.0)
        backlog_s = view.in_flight_tokens[near] / nominal.nominal_tokens_per_s[near]
        deadline = items.arrival_s + items.slo_s
        ends = np.unique(np.quantile(deadline, np.linspace(1.0 / self.checkpoints, 1.0, self.checkpoints)))
        found = linprog(
            -worth.ravel(),
            A_ub=_rows(work, deadline, ends),
            b_ub=np.concatenate(
                [np.ones(len(deadline)), *(np.maximum(self.fill * (end - view.now_s) - backlog_s, 0.0) for end in ends)]
            ),
            bounds=np.stack([np.zeros(in_time.size), in_time.ravel()], axis=1),
            method="highs",
            options={"maxiter": 10_000},
        )
        return found.x[: len(near)] if found.status == 0 else None


def _rows(work: Floats, deadline: Floats, ends: Floats) -> Floats:
    """Each request at most once; then, per end of a window and instance, the work that is due by then."""
    items, instances = work.shape
    once = np.repeat(np.eye(items), instances, axis=1)
    due = (deadline[None, :] <= ends[:, None] * (1.0 + 1e-12)).astype(np.float64)
    loads = np.einsum("ei,ig,gh->ehig", due, work, np.eye(instances)).reshape(len(ends) * instances, -1)
    rows: Floats = np.concatenate([once, loads])
    return rows
