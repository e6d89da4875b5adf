"""Which prompts begin alike: read from what the gateway's own prefix index said of each, in every run of a set.

The index forgets nothing, so the instances on which it finds a prompt's head are those that served the prompt's group
before. That set is known for every run; the group whose history agrees with all of them is the prompt's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gsim.core import Content
from gsim.validation.pool.truth import PoolRun

#: Prompts of one group are about equally long: the head is the same share of each.
_LENGTH_TOLERANCE = 0.03


@dataclass
class _Group:
    tokens: int
    served: list[set[int]]
    """In each run, the instances that its prompts were sent to."""
    lowest: float = 0.0
    highest: float = float("inf")
    """What the hit percentages say of the length of its head."""


@dataclass(frozen=True)
class Groups:
    """The group of every request, and how sure that is."""

    of: dict[int, int]
    heads: tuple[int, ...]
    """Tokens that a group's prompts share (0: no prompt of it was ever found in an index)."""
    only_one: int
    """Requests for which exactly one group agrees with every run."""
    ambiguous: int
    """Requests for which several groups agree equally well: one was drawn."""
    closest: int
    """Requests whose only best group agrees with the runs but for an instance or two."""
    new: int = field(default=0)
    """Requests that no index found: the first of their groups."""

    def contents(self, run: PoolRun) -> dict[int, Content]:
        """A run's prompts as segments: the group's head, then what is the prompt's own."""
        made: dict[int, Content] = {}
        for request_id, tokens in zip(run.rows["request_id"].tolist(), run.rows["input_tokens"].tolist(), strict=True):
            group = self.of[request_id]
            head = min(self.heads[group], tokens - 1)
            own = (len(self.heads) + request_id, tokens - head)
            made[request_id] = ((group, head), own) if head else (own,)
        return made

    def __str__(self) -> str:
        return (
            f"{len(self.heads)} prefix groups from the hit columns: {self.new} requests began one, {self.only_one} "
            f"fit one group exactly, {self.closest} fit one best, {self.ambiguous} fit several alike (drawn)"
        )


def recover_groups(runs: Sequence[PoolRun], rng: np.random.Generator) -> Groups:
    """The groups of a set's requests; ``rng`` draws where several agree equally well."""
    seen = [_observations(run) for run in runs]
    groups: list[_Group] = []
    of: dict[int, int] = {}
    counts = {"only_one": 0, "ambiguous": 0, "closest": 0, "new": 0}
    for request_id in sorted(set().union(*seen)):
        rows = [observed.get(request_id) for observed in seen]
        tokens = next(row.tokens for row in rows if row is not None)
        distances = {
            index: sum(len(row.holders ^ group.served[run]) for run, row in enumerate(rows) if row is not None)
            for index, group in enumerate(groups)
            if abs(group.tokens - tokens) <= _LENGTH_TOLERANCE * group.tokens
        }
        if not distances or not any(row.holders for row in rows if row is not None):
            chosen = len(groups)
            groups.append(_Group(tokens, [set() for _ in runs]))
            counts["new"] += 1
        else:
            least = min(distances.values())
            best = [index for index, distance in distances.items() if distance == least]
            chosen = best[0] if len(best) == 1 else int(rng.choice(best))
            counts["ambiguous" if len(best) > 1 else "only_one" if least == 0 else "closest"] += 1
        of[request_id] = chosen
        _remember(groups[chosen], rows, tokens)
    return Groups(of, tuple(_head(group) for group in groups), **counts)


@dataclass(frozen=True, slots=True)
class _Row:
    holders: frozenset[int]
    percent: float
    instance: int
    tokens: int


def _observations(run: PoolRun) -> dict[int, _Row]:
    hits = run.state("hit_percent")
    columns = (run.rows["request_id"], hits, run.placed, run.rows["input_tokens"])
    return {
        int(request_id): _Row(frozenset(np.flatnonzero(hit > 0).tolist()), float(hit.max()), int(instance), int(tokens))
        for request_id, hit, instance, tokens in zip(*columns, strict=True)
    }


def _remember(group: _Group, rows: Sequence[_Row | None], tokens: int) -> None:
    for run, row in enumerate(rows):
        if row is None:
            continue
        group.served[run].add(row.instance)
        if row.percent > 0:
            # Percentages are rounded down.
            group.lowest = max(group.lowest, row.percent / 100.0 * tokens)
            group.highest = min(group.highest, (row.percent + 1.0) / 100.0 * tokens)


def _head(group: _Group) -> int:
    if group.lowest == 0.0:
        return 0
    return round((group.lowest + max(group.highest, group.lowest)) / 2.0)
