"""The integer program: which requests are good on which kind of instance, and what cannot be true of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pulp

from gsim.core.view import Bools, Floats, Ints
from gsim.optimum.cuts import Grid, Window
from gsim.optimum.demand import Demand
from gsim.optimum.server import Server
from gsim.optimum.work import Family, Work, eligible, work

#: A window's room is granted this much more than it has: rounding must not turn a good request away.
_ROUNDING = 1.0 + 1e-9


@dataclass(frozen=True)
class Kind:
    """Instances that are equal: modelled as one with their joint room, which allows more than they do one by one."""

    server: Server
    members: tuple[int, ...]
    """Their indices in the pool."""
    work: Work


def kinds(jobs: Demand, pool: Sequence[Server], max_moves: int) -> list[Kind]:
    """The pool's instances, gathered by kind, with what the jobs ask of each."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, server in enumerate(pool):
        groups.setdefault(server.kind, []).append(index)
    return [Kind(pool[m[0]], tuple(m), work(jobs, pool[m[0]], max_moves)) for m in groups.values()]


def _slow(jobs: Demand, groups: list[Kind]) -> Floats:
    """Per job and kind: the share of the SLO that the request alone would use up (at most 1)."""
    alone = [g.work.prefill_s + (g.work.output_tokens - 1) * g.work.token_s[1] for g in groups]
    share: Floats = np.minimum(np.stack(alone, axis=1) / jobs.slo_s[:, None], 1.0)
    return share


class Model:
    """The program over the requests whose arrival is known and that some instance could serve in time.

    Variables: ``part[r, k]``, the share of request r that kind k serves (binary, and prompt and output are one, where
    requests stay where they are; else prompt and output are split freely). Objective: requests served.
    """

    def __init__(
        self,
        jobs: Demand,
        groups: list[Kind],
        max_moves: int,
        grid_size: int,
        *,
        since_s: float = 0.0,
        fill: float = 1.0,
        haste: float = 0.0,
    ) -> None:
        """``since_s``: jobs that arrive earlier are left out.

        For plans, not for bounds: ``fill`` is the share of every window's room that may be used, ``haste`` what a
        request is worth less on an instance where it alone would use up its whole SLO.
        """
        self.groups = groups
        self.splits = max_moves > 0
        allowed = eligible(jobs, [group.work for group in groups], max_moves)
        self.rows: Ints = np.flatnonzero(jobs.fixed & allowed.any(axis=1) & ~(jobs.arrival_s < since_s))
        self.fill = fill
        self._worth = 1.0 - haste * _slow(jobs, groups)[self.rows]
        self.allowed: Bools = allowed[self.rows]
        self.arrival_s: Floats = jobs.arrival_s[self.rows]
        self.deadline_s: Floats = jobs.deadline_s[self.rows]
        self.grid = Grid.of(self.arrival_s, self.deadline_s, grid_size) if len(self.rows) else None
        self.problem = pulp.LpProblem("goodput", pulp.LpMaximize)
        self.prefill: list[dict[int, pulp.LpVariable]] = []
        self.decode: list[dict[int, pulp.LpVariable]] = []
        self.cuts = 0
        self._variables()

    def _variables(self) -> None:
        kind = pulp.LpContinuous if self.splits else pulp.LpBinary
        for k in range(len(self.groups)):
            rows = np.flatnonzero(self.allowed[:, k]).tolist()
            self.prefill.append({r: pulp.LpVariable(f"x_{r}_{k}", 0, 1, kind) for r in rows})
            same = self.prefill[-1]
            split = {r: pulp.LpVariable(f"o_{r}_{k}", 0, 1) for r in rows} if self.splits else same
            self.decode.append(split)
        served: list[tuple[pulp.LpVariable, float]] = []
        for r in range(len(self.rows)):
            parts = [of[r] for of in self.prefill if r in of]
            if not self.splits:
                served += [(of[r], worth) for of, worth in zip(self.prefill, self._worth[r]) if r in of]
                self.problem += pulp.LpConstraint(pulp.lpSum(parts), pulp.LpConstraintLE, f"once_{r}", 1)
                continue
            good = pulp.LpVariable(f"good_{r}", 0, 1, pulp.LpBinary)
            served.append((good, 1.0))
            for name, of in (("prompt", self.prefill), ("output", self.decode)):
                terms = [(part[r], 1) for part in of if r in part] + [(good, -1)]
                whole = pulp.LpConstraint(pulp.LpAffineExpression(terms), pulp.LpConstraintEQ, f"{name}_{r}", 0)
                self.problem += whole
        self.problem.setObjective(pulp.LpAffineExpression(served))

    def values(self) -> list[tuple[Floats, Floats]]:
        """Per kind: the shares of prompts and outputs in the solver's last solution (0 where not allowed)."""
        return [(self._read(p), self._read(d)) for p, d in zip(self.prefill, self.decode)]

    def whole(self) -> int:
        """How many requests the last solution serves wholly (on one kind, where requests stay where they are)."""
        shares = np.stack([prefill for prefill, _ in self.values()], axis=1)
        served = shares.sum(axis=1) if self.splits else shares.max(axis=1)
        return int((served >= 1.0 - 1e-6).sum())

    def _read(self, variables: dict[int, pulp.LpVariable]) -> Floats:
        shares = np.zeros(len(self.rows))
        for r, variable in variables.items():
            shares[r] = min(1.0, max(0.0, variable.varValue or 0.0))
        return shares

    def tighten(self, per_family: int) -> int:
        """Add the windows that the last solution overfills most; returns how many there were."""
        added = 0
        if self.grid is None:
            return 0
        for k, (prefill, decode) in enumerate(self.values()):
            room = self.room_s(k)
            for family in self.groups[k].work.families:
                use = family.prefill[self.rows] * prefill + family.decode[self.rows] * decode
                for window in self.grid.worst(self.grid.load(use), room * family.rate, per_family):
                    self.cut(k, family, window)
                    added += 1
        return added

    def room_s(self, k: int) -> Floats:
        """Seconds that a kind's instances have together, for every window of the grid."""
        assert self.grid is not None
        spans = self.grid.ends_s[None, :] - self.grid.starts_s[:, None]
        server, members = self.groups[k].server, len(self.groups[k].members)
        if server.down:
            spans = np.array([[server.up_s(a, b) for b in self.grid.ends_s] for a in self.grid.starts_s])
        return np.maximum(spans, 0.0) * members * self.fill

    def cut(self, k: int, family: Family, window: Window) -> None:
        """What the requests inside the window use of kind ``k`` is no more than the window has."""
        assert self.grid is not None
        group = self.groups[k]
        room = (
            group.server.up_s(window.start_s, window.end_s) * len(group.members) * self.fill * family.rate * _ROUNDING
        )
        inside = np.flatnonzero(self.grid.inside(window) & self.allowed[:, k])
        scale = 1.0 / room if room > 0.0 else 1.0
        terms = []
        prefill, decode = family.prefill[self.rows] * scale, family.decode[self.rows] * scale
        for r in inside.tolist():
            if self.splits:
                terms += [(self.prefill[k][r], prefill[r]), (self.decode[k][r], decode[r])]
            else:
                terms.append((self.prefill[k][r], prefill[r] + decode[r]))
        expression = pulp.LpAffineExpression(terms)
        self.problem += pulp.LpConstraint(expression, pulp.LpConstraintLE, f"cut_{self.cuts}", room * scale)
        self.cuts += 1
