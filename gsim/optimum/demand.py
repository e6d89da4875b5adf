"""What requests ask for at least: their tokens as arrays, and which of their prompts a prefix cache could hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gsim.core import ConfigError, Job
from gsim.core.view import Bools, Floats, Ints


@dataclass(frozen=True)
class Demand:
    """The jobs of a run as arrays of equal length, in the order given."""

    request_id: Ints
    arrival_s: Floats
    """NaN where it depends on what happens (a later turn of a closed loop)."""
    slo_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    shared_tokens: Ints
    """Leading prompt tokens that the prompt has in common with the prompt and output of some other job."""

    def __len__(self) -> int:
        return len(self.request_id)

    @property
    def fixed(self) -> Bools:
        """True where arrival and deadline are known in advance."""
        known: Bools = np.isfinite(self.arrival_s)
        return known

    @property
    def deadline_s(self) -> Floats:
        """Absolute deadlines (NaN with an unknown arrival)."""
        return self.arrival_s + self.slo_s


def demand(jobs: Sequence[Job]) -> Demand:
    """The arrays of ``jobs``; raises ``ConfigError`` for a request id that comes twice or a length below 1."""
    ids = np.array([job.request.request_id for job in jobs], dtype=np.int64)
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise ConfigError(f"jobs: request_id {values[counts > 1][0]} comes twice; ids must differ")
    prompt = np.array([job.request.prompt_tokens for job in jobs], dtype=np.int64)
    output = np.array([min(job.output_tokens, job.request.max_output_tokens) for job in jobs], dtype=np.int64)
    slo = np.array([job.request.slo_s for job in jobs], dtype=np.float64)
    for name, wrong in (("prompt_tokens", prompt < 1), ("output_tokens", output < 1), ("slo_s", ~(slo > 0.0))):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ConfigError(f"jobs: request {ids[row]}: {name} must be above 0")
    arrival = np.array([math.nan if job.after else job.request.arrival_s for job in jobs], dtype=np.float64)
    return Demand(ids, arrival, slo, prompt, output, np.array(shareable(jobs), dtype=np.int64))


@dataclass
class _Node:
    """Prompts that agree up to here: what comes next, as segment -> length -> (how many prompts, node)."""

    next: dict[int, dict[int, list[int | _Node]]] = field(default_factory=dict)


def shareable(jobs: Sequence[Job]) -> list[int]:
    """For each job, how many leading tokens of its prompt some *other* job's prompt and output begin with.

    No prefix cache can save more of a prompt's first prefill, in whatever order the jobs run.
    """
    root = _Node()
    for job in jobs:
        node = root
        for segment, tokens in _tokens(job):
            slot = node.next.setdefault(segment, {}).setdefault(tokens, [0, _Node()])
            slot[0] += 1  # type: ignore[operator]
            node = slot[1]  # type: ignore[assignment]
    return [_shared(root, job) for job in jobs]


def _tokens(job: Job) -> list[tuple[int, int]]:
    content = list(job.request.content)
    if content and job.output_segment >= 0:
        content.append((job.output_segment, job.output_tokens))
    return content


def _shared(root: _Node, job: Job) -> int:
    node, shared, best = root, 0, 0
    for segment, tokens in _tokens(job):
        lengths = node.next[segment]
        for other, (count, _) in lengths.items():
            if other != tokens or count > 1:  # type: ignore[operator]
                best = max(best, shared + min(other, tokens))
        shared += tokens
        node = lengths[tokens][1]  # type: ignore[assignment]
        if lengths[tokens][0] == 1:
            break
    return min(best, job.request.prompt_tokens)
