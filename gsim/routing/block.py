"""Block: what would happen on every candidate, run ahead."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gsim.core import ActiveRequests, ClusterView, Completion, Decision, Request, register
from gsim.core.view import REFERENCE_SEQUENCES, Floats, Ints
from gsim.routing.choice import lowest, nothing

#: A request that runs longer than was predicted ends soon (Block's own rule: 10 more tokens).
_ENDS_SOON = 10.0


@dataclass
class _Running:
    """The requests that are ahead of a new one: where each is, and what it has yet to decode."""

    instance: Ints
    tokens: Floats


@register("router", "block")
@dataclass
class Block:
    """argmin of the latency that a run ahead finds: the batch of every candidate is played on until the request ends.

    With R_i the requests in flight on i, r_k the tokens that k has yet to decode when the new one joins them (it waits
    w_i = q_i + p_i L_in first), and a TPOT that falls by s_i with every request that leaves, the run ahead has a closed
    form, as the time per token is d_i + s_i less s_i for each that has left by then:

        T_i = w_i + (d_i + s_i) L_out - s_i sum over R_i of max(L_out - r_k, 0)

    d_i is the TPOT of the batch as it is, s_i its nominal growth per request, L_out predicted. So a batch that is about
    to empty is worth more than one that has just filled. Ties: the lowest index.

    State: learned estimates (S6), the length predictor, the gateway's streams of the requests in flight, and what was
    sent since they were observed. Time per decision: O(instances + requests in flight). Source: Block (arXiv
    2508.03611, github.com/AKafakA/Block), which asks a Vidur beside every engine. Simplified: iterations are played by
    the estimator's speeds and not by a profile, and waiting for memory is in q; upstream's answer comes from the
    engine's own list of sequences, here it is the gateway's.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"estimates", "prediction", "requests"})
    _slope_s: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)
    _alone_s: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)
    """TPOT of a batch of one: no batch is quicker."""
    _seen: ActiveRequests | None = field(default=None, init=False, repr=False, compare=False)
    _since: dict[int, tuple[int, float]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Sent since the streams were observed: where to, and its predicted tokens."""
    _running: _Running | None = field(default=None, init=False, repr=False, compare=False)
    """None: has to be put together again."""
    _asked: tuple[int, float] = field(default=(-1, 0.0), init=False, repr=False, compare=False)
    """The request that was routed last, and its predicted tokens."""

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance where it ends first."""
        if len(self._slope_s) != len(view):
            self._slope_s = view.static.batch_slope_s()
            self._alone_s = view.static.nominal_tpot_s - (REFERENCE_SEQUENCES - 1) * self._slope_s
        tokens = view.predict(request)
        self._asked = (request.request_id, tokens)
        wait_s: Floats = view.prefill_s_per_token * request.prompt_tokens
        wait_s += view.queue_s
        decode_s = (view.tpot_s + self._slope_s) * tokens
        decode_s -= self._slope_s * self._left_early(tokens, wait_s, view)
        np.maximum(decode_s, self._alone_s * tokens, out=decode_s)
        decode_s += wait_s
        return lowest(decode_s, view.available)

    def placed(self, request: Request, instance: int) -> None:
        """It is ahead of the next one."""
        asked, tokens = self._asked
        self._since[request.request_id] = (instance, tokens if asked == request.request_id else 1.0)
        self._running = None

    def observe_completion(self, completion: Completion) -> None:
        """It is ahead of nobody any more."""
        if self._since.pop(completion.request.request_id, None) is not None:
            self._running = None

    def _left_early(self, tokens: float, wait_s: Floats, view: ClusterView) -> Floats:
        """The sum over those in flight of the tokens for which the new one will be without them, per instance."""
        running = self._ahead(view)
        here = running.instance
        left = (wait_s / view.tpot_s)[here]
        np.subtract(running.tokens, left, out=left)
        np.maximum(left, 0.0, out=left)
        np.subtract(tokens, left, out=left)
        np.maximum(left, 0.0, out=left)
        return np.asarray(np.bincount(here, weights=left, minlength=len(view)), dtype=np.float64)

    def _ahead(self, view: ClusterView) -> _Running:
        seen = view.observed()
        if seen is self._seen and self._running is not None:
            return self._running
        if seen is not self._seen:
            self._seen = seen
            for request_id in set(seen.request_id.tolist()).intersection(self._since):
                del self._since[request_id]
        to_decode = np.maximum(seen.predicted_tokens - seen.generated_tokens, _ENDS_SOON)
        places = np.array([instance for instance, _ in self._since.values()], dtype=np.int64)
        lengths = np.array([tokens for _, tokens in self._since.values()])
        there = np.concatenate([seen.instance, places])
        self._running = _Running(there, np.concatenate([to_decode, lengths]))
        return self._running
