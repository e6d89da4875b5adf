"""Which prompts of a run begin as an earlier one: read from how many KV blocks the run had in use.

A run with a prefix cache, published without its token ids, hides which prompts begin alike. But a prompt that goes on
where an earlier request ended (its prompt, its answer, then new text) holds the blocks of that request's prompt in
common with it while both run; so the run has fewer blocks in use than a replay in which nothing is shared, by just so
many, from that admission on. ``timeseries.csv`` says how many were in use at the end of every second. Where a replay
leaves the recorded states, every pair that the lengths allow is tried, and the one that keeps the replay on them is
taken, if it does so clearly. At the first loss that no pair explains the search ends.

States are compared (blocks in use, requests running and waiting), not durations: before every second the replay's clock
is set by the run's. Limits: a pair whose first request has ended shares nothing while it runs and cannot be seen; of
several pairs that explain alike, one is taken that need not be the true one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gsim.core.errors import InputError
from gsim.core.files import UNREADABLE
from gsim.core.request import Content
from gsim.latency import Profile
from gsim.validation.ground_truth import GroundTruth, start_replay
from gsim.validation.pipelined import Loop

Floats = NDArray[np.float64]

#: Blocks by which states may differ: a few iterations' growth, as the second's end falls between iterations.
_TOLERANCE = 9.0
#: Distances of this size count little any more as agreement.
_SCALE = 3.0
#: What a difference of one running or waiting request counts, in blocks; and one iteration between the clocks.
_PER_REQUEST, _PER_ITERATION = 4.0, 0.7
_ITERATIONS = 3
#: Seconds looked ahead for a first choice among pairs, and for the last one.
_NEAR, _FAR = 4, 14
#: Seconds that a search goes back: a difference may be small at first.
_BACK = 3
_SHORTLIST = 12
#: Where fewer of the blocks were ever in use, they decide nothing, and large batches of like requests hide who shares.
_FULL = 0.95
#: Seconds of agreement that a pair must gain.
_WORTH = 1.5


class Recorded(NamedTuple):
    """What the run's last iteration of a second left."""

    time_s: float
    blocks: float
    running: int
    waiting: int


@dataclass(frozen=True)
class Continuation:
    """A request whose prompt begins with another one's."""

    request: int
    of: int
    tokens: int
    """The other's prompt, which both share."""


def read_states(truth: GroundTruth) -> list[Recorded]:
    """The states in ``timeseries.csv`` on the clock of the requests; empty where there are none, or no common clock.

    The two clocks are joined by the prompt tokens whose first token came within each second.
    """
    path = Path(truth.folder) / "timeseries.csv"
    if not path.is_file():
        return []
    try:
        frame = pd.read_csv(path)
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if not {"t", "prompt_throughput", "running", "waiting", "kv_cache_pct"} <= set(frame.columns) or len(frame) < 2:
        return []
    first = truth.requests.sort_values("first_token_s", kind="stable")
    seconds = np.diff(frame.t.to_numpy(), prepend=0.0)
    done = np.searchsorted(first.input_tokens.cumsum(), np.cumsum(frame.prompt_throughput * seconds) - 0.5, "left")
    times = np.concatenate([[-np.inf], first.first_token_s, [np.inf]])
    reached = np.minimum(done + 1, len(first))
    reached = np.where(np.cumsum(frame.prompt_throughput * seconds) < 0.5, 0, reached)
    earliest = float(np.max(times[reached] - frame.t))
    latest = float(np.min(times[reached + 1] - frame.t))
    total = truth.engine.kv_blocks
    if not earliest < latest or total is None:
        return []
    shift_s = 0.5 * (earliest + latest)
    blocks = frame.kv_cache_pct / 100.0 * total
    rows = zip(frame.t + shift_s, blocks, frame.running, frame.waiting, strict=True)
    return [Recorded(float(t), float(b), int(r), int(w)) for t, b, r, w in rows]


def continuations(truth: GroundTruth, profile: Profile) -> list[Continuation]:
    """The pairs that the recorded states show, in order; ``profile`` should be near the run's speed."""
    states = read_states(truth)
    total = truth.engine.kv_blocks
    if len(states) < _FAR or total is None or not truth.engine.prefix_caching:
        return []
    if max(state.blocks for state in states) < _FULL * total:
        return []
    return _Search(truth, profile, states).run()


def with_continuations(truth: GroundTruth, pairs: Rows[Continuation]) -> tuple[Content, ...]:
    """The contents of a run's prompts, of which some begin with another's."""
    contents: list[Content] = [((i, int(tokens)),) for i, tokens in enumerate(truth.requests.input_tokens)]
    for pair in sorted(pairs, key=lambda pair: pair.request):
        own = sum(tokens for _, tokens in contents[pair.request]) - pair.tokens
        contents[pair.request] = (*contents[pair.of], (pair.request, own))
    return tuple(contents)


class _Search:
    def __init__(self, truth: GroundTruth, profile: Profile, states: list[Recorded]) -> None:
        self.truth = truth
        self.profile = profile
        self.states = states
        requests = truth.requests
        self.prompt = requests.input_tokens.to_numpy()
        self.output = requests.output_tokens.to_numpy()
        self.real = [
            requests[name].to_numpy(dtype=np.float64) for name in ("scheduled_s", "first_token_s", "last_token_s")
        ]
        self.pairs: list[Continuation] = []

    def run(self) -> list[Continuation]:
        """Go from second to second; at the first loss that no pair explains the search ends."""
        contents = with_continuations(self.truth, [])
        loop = start_replay(dataclasses.replace(self.truth, contents=contents), self.profile)
        kept = {0: loop.fork()}
        k, lost = 1, 0
        while k < len(self.states):
            lost = lost + 1 if self._advance(loop, k) > _TOLERANCE else 0
            kept[k] = loop.fork()
            kept.pop(k - _BACK - 2, None)
            if lost == 2:
                back = max(min(kept), k - _BACK)
                found = self._best(kept[back], back, k - 1)
                branch = None if found is None else self._branch(kept[back], found)
                if found is None or branch is None:
                    break
                self.pairs.append(found)
                loop, kept, k, lost = branch, {back: branch.fork()}, back, 0
            k += 1
        return self.pairs

    def _advance(self, loop: Loop, k: int) -> float:
        """Run to the end of a recorded second; how far the replay's state is from the recorded one, in blocks."""
        recorded = self.states[k]
        lag_s = self._lag_s(loop)
        loop.run(recorded.time_s + lag_s + 0.12)
        states = loop.result.states[-60:]
        here = int(np.searchsorted([state.time_s for state in states], recorded.time_s + lag_s)) - 1
        near = range(max(here - _ITERATIONS, 0), min(here + _ITERATIONS + 1, len(states)))
        return min(
            (
                abs(states[j].blocks - recorded.blocks)
                + _PER_REQUEST * (abs(states[j].running - recorded.running) + abs(states[j].waiting - recorded.waiting))
                + _PER_ITERATION * abs(j - here)
                for j in near
            ),
            default=float("inf"),
        )

    def _lag_s(self, loop: Loop) -> float:
        """How much later than the run the replay is, by what happened in the last seconds."""
        ours = (loop.result.scheduled_s, loop.result.first_token_s, loop.result.last_token_s)
        lags = np.concatenate([(x - real)[real > loop.now_s - 6.0] for x, real in zip(ours, self.real, strict=True)])
        lags = lags[np.abs(lags) < 1.5]
        return float(np.median(lags)) if len(lags) > 3 else 0.0

    def _best(self, start: Loop, back: int, k: int) -> Continuation | None:
        """The pair that keeps the replay on the states from second ``back`` on, where it was lost at ``k``."""
        scheduled, _, last = self.real
        # Whoever shares was admitted after the last second that agreed, or is in an iteration that was not yet done.
        begin, end = self.states[k - 1].time_s - 0.6, self.states[k].time_s + 0.1
        known = {pair.request for pair in self.pairs}
        tried = []
        for request in np.flatnonzero((scheduled > begin) & (scheduled < end)):
            if int(request) in known:
                continue
            runs_beside = (scheduled < scheduled[request] - 0.01) & (last > scheduled[request])
            fits = self.prompt + self.output <= self.prompt[request] + 2
            for of in np.flatnonzero(runs_beside & fits):
                pair = Continuation(int(request), int(of), int(self.prompt[of]))
                agreement = self._agreement(start, pair, back, k + _NEAR)
                if agreement is not None:
                    tried.append((agreement, pair))
        tried.sort(key=lambda item: -item[0])
        final = [(self._agreement(start, pair, back, k + _FAR) or 0.0, pair) for _, pair in tried[:_SHORTLIST]]
        # Of equals, the one with the least new text.
        best = max(final, key=lambda item: (round(item[0], 2), -self._new_tokens(item[1])), default=None)
        alone = self._agreement(start, None, back, k + _FAR) or 0.0
        return best[1] if best is not None and best[0] > alone + _WORTH else None

    def _new_tokens(self, pair: Continuation) -> int:
        return int(self.prompt[pair.request] - self.prompt[pair.of] - self.output[pair.of])

    def _agreement(self, start: Loop, pair: Continuation | None, back: int, end: int) -> float | None:
        """Seconds of agreement with the recorded states; None where the request has already been admitted."""
        loop = start.fork() if pair is None else self._branch(start, pair)
        if loop is None:
            return None
        distances = [self._advance(loop, k) for k in range(back + 1, min(end, len(self.states)))]
        return float(np.exp(-np.array(distances) / _SCALE).sum())

    def _branch(self, start: Loop, pair: Continuation) -> Loop | None:
        loop = start.fork()
        contents = with_continuations(self.truth, [*self.pairs, pair])[pair.request]
        return loop if loop.rename(pair.request, contents) else None
