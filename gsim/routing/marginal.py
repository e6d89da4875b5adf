"""Where a request adds most to what is in time."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, inf, log, sqrt
from typing import ClassVar, NamedTuple

import numpy as np

from gsim.core import HOLD, ActiveRequests, ClusterView, Completion, ConfigError, Decision, Request, register
from gsim.core.view import REFERENCE_SEQUENCES, Bools, Floats, Ints
from gsim.lateness.decoding import Decoding
from gsim.lateness.delay_costs import DelayCosts
from gsim.lateness.shapes import NORMAL
from gsim.routing.cache_trust import CacheTrust
from gsim.routing.choice import lowest, nothing
from gsim.routing.latency_errors import LatencyErrors
from gsim.routing.length_shapes import BLUR
from gsim.routing.recalibration import Length, Recalibration

#: A request with less of a chance than this is lost.
_LOST = 0.05
#: What a held request may cost others after all: so many of them made late.
_HARMLESS = 0.02


class _Plan(NamedTuple):
    """What is expected of one request, on every instance."""

    request: Request
    now_s: float
    predicted_tokens: float
    length: Length
    """Of requests of such a prediction."""
    compute_s: Floats
    """To prefill what is not cached."""
    wait_s: Floats
    """Until its first token."""
    tpot_s: Floats
    """Once it has joined the batch."""
    latency_s: Floats
    matched_tokens: Ints
    """Of its prompt, by the prefix index."""


class _Sent(NamedTuple):
    """What was expected of a request where it was sent."""

    request: Request
    instance: int
    sent_s: float
    predicted_tokens: float
    length: Length
    wait_s: float
    tpot_s: float
    matched_tokens: float
    """Of its prompt, by the prefix index."""


@register("router", "marginal")
@dataclass
class Marginal:
    """argmax P - w E - c C - h P T / left: its own chance to be in time, less what it takes from others.

    - P: the chance that it is in time there. Its latency is around T = q + p (L_in - h_i) + (d + s) L_out, s being what
      it adds to the batch's TPOT itself, h_i what the prefix index has of it times the share that this is right about
      (``CacheTrust``). All is learned: the lengths that a prediction stands for and how they are distributed, per task
      class (``Recalibration``, ``LengthShapes``), mean and spread of latencies beside that per instance
      (``LatencyErrors``).
    - E: how many of the requests in flight there it makes late, in expectation, by the delay p (L_in - h_i) +
      s min(L_out, what these have yet to decode) (``DelayCosts``, ``Decoding``). Who is late already loses nothing, so
      the lost gather where others are lost.
    - w = price d / d_0, d_0 being its TPOT with nobody there. Those in flight stand for as many to come while it is
      there, whom it delays too. And whoever is delayed stays for longer and so delays others: at r requests/s
      d = d_0 + s r d L_out in a steady state, and one more adds d / d_0 times as much to d as it adds at once.
    - C = p (L_in - h_i) F / T: requests that the instance could have finished while it computes this prompt (it
      finishes F in T seconds). It keeps sessions where their cache is.
    - h P T / left: of equal chances, the faster; left is the time to its deadline.

    Where P - w E < 0 on every instance (for who is lost, P < 0.05: less the requests that the instance could have
    finished during the whole delay), sending it now would only lower the number in time: it waits at the gateway until
    that has changed, ``hold_s`` at most. Ties: the lowest index.

    State: learned estimates (S6), the prefix index (S3), the length predictor, and the gateway's streams of the
    requests in flight. Time per decision: O(instances); each time that streams were observed, O(instances + requests in
    flight). It wants ``estimator.prefill_of=computed``: what is cached is counted here. Source: this project.
    """

    price: float = 1.0
    """What making another one late costs where nobody else is, in requests in time."""
    prefill_price: float = 0.3
    """c: what a request costs that the instance could have finished instead of prefilling this one."""
    haste: float = 0.05
    """h: what the time to the deadline is worth, in requests in time."""
    hold_s: float = 60.0
    """For how long after its arrival a request may be held at the gateway, in seconds (0: it never is)."""
    needs: ClassVar[frozenset[str]] = frozenset({"estimates", "prediction", "prefix", "requests"})
    _lengths: Recalibration = field(default_factory=Recalibration, init=False, repr=False, compare=False)
    _errors: LatencyErrors = field(default_factory=LatencyErrors, init=False, repr=False, compare=False)
    _trust: CacheTrust = field(default_factory=CacheTrust, init=False, repr=False, compare=False)
    _costs: DelayCosts = field(default_factory=DelayCosts, init=False, repr=False, compare=False)
    _to_decode: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)
    """Mean tokens that the requests on an instance have yet to decode."""
    _slope_s: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)
    """Seconds that one more request adds to an instance's TPOT."""
    _price_per_tpot: Floats = field(default_factory=nothing, init=False, repr=False, compare=False)
    """w over the present TPOT."""
    _seen: ActiveRequests | None = field(default=None, init=False, repr=False, compare=False)
    _sent: dict[int, _Sent] = field(default_factory=dict, init=False, repr=False, compare=False)
    _plan: _Plan | None = field(default=None, init=False, repr=False, compare=False)
    """Of the request that was routed last."""

    def __post_init__(self) -> None:
        for name in ("price", "prefill_price", "haste", "hold_s"):
            if not 0 <= getattr(self, name) < inf:
                raise ConfigError(f"router.{name} must be 0 or more, not {getattr(self, name)}")

    def queue_key(self, request: Request, view: ClusterView) -> float:
        """Held requests are asked again in order of arrival."""
        return request.arrival_s

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance where it adds most, or HOLD."""
        self._look(view)
        self._plan = plan = self._expect(request, view)
        left_s = request.deadline_s - view.now_s
        in_time = self._chances(plan, left_s)
        delay_s = np.minimum(self._to_decode, plan.length.tokens)
        delay_s *= self._slope_s
        delay_s += plan.compute_s
        harm = self._costs.of(delay_s)
        # Nobody tells of those that failed or were refused; where nobody is, nobody can be harmed.
        harm *= view.in_flight > 0
        harm *= view.tpot_s
        harm *= self._price_per_tpot
        rate = view.in_flight / plan.latency_s
        may_wait = view.now_s - request.arrival_s < self.hold_s
        if may_wait and _only_harms(in_time, harm, delay_s * rate, view.available):
            return HOLD
        return self._best(plan, in_time, harm, rate, left_s, view)

    def _best(
        self, plan: _Plan, in_time: Floats, harm: Floats, rate: Floats, left_s: float, view: ClusterView
    ) -> Decision:
        """Where it adds most. The arrays are overwritten."""
        rate *= plan.compute_s
        rate *= self.prefill_price
        harm += rate
        harm -= in_time
        if left_s > 0:
            in_time *= plan.latency_s
            in_time *= self.haste / left_s
            harm += in_time
        return lowest(harm, view.available)

    def placed(self, request: Request, instance: int) -> None:
        """Remember what was expected of it there, and count it among those that can be made late."""
        plan = self._plan
        if plan is None or plan.request.request_id != request.request_id:
            # Moved by other hands: nobody said what to expect.
            self._sent.pop(request.request_id, None)
            return
        self._plan = None
        wait_s, tpot_s = float(plan.wait_s[instance]), float(plan.tpot_s[instance])
        matched_tokens = float(plan.matched_tokens[instance])
        sent = _Sent(request, instance, plan.now_s, *plan[2:4], wait_s, tpot_s, matched_tokens)
        self._sent[request.request_id] = sent
        decode_s = tpot_s * sent.length.tokens
        share = decode_s / (wait_s + decode_s)
        variance = float(self._errors.variance[instance]) + sent.length.variance * share * share
        self._costs.add(
            instance,
            left_s=request.deadline_s - sent.sent_s,
            median_s=(wait_s + decode_s) * exp(self._errors.bias[instance]),
            deviation=sqrt(variance),
        )

    def observe_completion(self, completion: Completion) -> None:
        """Learn how long it was, and how long it took."""
        instance = completion.instance
        if instance >= len(self._slope_s):
            return
        self._costs.take_one(instance)
        sent = self._sent.pop(completion.request.request_id, None)
        if sent is None or sent.instance != instance:
            return
        self._trust.learn(instance, sent.matched_tokens, completion.cached_tokens)
        self._lengths.learn(sent.request.task, sent.predicted_tokens, completion.output_tokens)
        expected_s = sent.wait_s + sent.tpot_s * completion.output_tokens
        self._errors.learn(instance, log(max(completion.finished_s - sent.sent_s, 1e-6) / expected_s))

    def _expect(self, request: Request, view: ClusterView) -> _Plan:
        predicted = view.predict(request)
        length = self._lengths.length(request.task, predicted)
        # The last token of a prompt is computed even on a full hit.
        matched = view.prefix_tokens(request)
        compute_s = self._trust.share * matched
        np.subtract(request.prompt_tokens, compute_s, out=compute_s)
        np.maximum(compute_s, 1.0, out=compute_s)
        compute_s *= view.prefill_s_per_token
        wait_s = view.queue_s + compute_s
        tpot_s = view.tpot_s + self._slope_s
        latency_s = tpot_s * length.tokens
        latency_s += wait_s
        return _Plan(request, view.now_s, predicted, length, compute_s, wait_s, tpot_s, latency_s, matched)

    def _chances(self, plan: _Plan, left_s: float) -> Floats:
        """P, per instance."""
        if left_s <= 0:
            return np.zeros(len(plan.latency_s))
        deviation = plan.tpot_s * plan.length.tokens
        deviation /= plan.latency_s
        deviation *= deviation
        deviation *= plan.length.variance
        deviation += self._errors.variance
        np.sqrt(deviation, out=deviation)
        z = np.log(plan.latency_s)
        z += self._errors.bias
        np.subtract(log(left_s), z, out=z)
        z /= deviation
        return self._lengths.shapes.below(plan.length.row, z)

    def _look(self, view: ClusterView) -> None:
        """See whether there is anything new about the requests in flight."""
        if len(self._slope_s) != len(view):
            self._slope_s, self._to_decode = view.static.batch_slope_s(), np.zeros(len(view))
            alone_s = view.static.nominal_tpot_s - REFERENCE_SEQUENCES * self._slope_s
            self._price_per_tpot = self.price / np.maximum(alone_s, 0.25 * view.static.nominal_tpot_s)
            self._errors.grow(len(view))
            self._trust.grow(len(view))
            self._costs.clear(len(view))
        seen = view.observed()
        if seen is not self._seen:
            self._seen = seen
            self._observe(seen, view)

    def _observe(self, seen: ActiveRequests, view: ClusterView) -> None:
        ids = seen.request_id.tolist()
        known = [self._sent.get(request_id, _UNKNOWN) for request_id in ids]
        if len(self._sent) > 2 * len(ids) + 1000:
            # Nobody tells of those that failed or were refused.
            self._sent = {request_id: sent for request_id, sent in zip(ids, known, strict=True) if sent is not _UNKNOWN}
        here, n, shapes = seen.instance, len(view), self._lengths.shapes
        # What a request had generated elsewhere is in the prompt that was sent here.
        prompts = np.array([sent.request.prompt_tokens for sent in known])
        generated = np.maximum(seen.generated_tokens - np.maximum(prompts - seen.prompt_tokens, 0), 0.0)
        tokens = np.array([sent.length.tokens for sent in known])
        variance = np.array([sent.length.variance for sent in known])
        to_wait_s = np.array([sent.wait_s for sent in known]) - (seen.observed_s - seen.dispatched_s)
        decoding = Decoding.of(
            shapes,
            generated=generated,
            log_tokens=np.log(np.where(tokens > 0.0, tokens, seen.predicted_tokens)),
            deviation=np.sqrt(variance + BLUR * BLUR),
            rows=np.array([sent.length.row for sent in known], dtype=np.int64),
            wait_s=np.where(generated > 0.0, 0.0, np.maximum(to_wait_s, 0.0)),
            pace_s=view.tpot_s[here] * np.exp(self._errors.bias[here]),
            left_s=seen.deadline_s - seen.observed_s,
        )
        self._costs.reset(n, here, decoding.in_time(shapes))
        to_decode = np.bincount(here, weights=decoding.to_decode(shapes), minlength=n)
        self._to_decode = to_decode / np.maximum(self._costs.count, 1.0)


def _only_harms(in_time: Floats, harm: Floats, displaced: Floats, available: Bools) -> bool:
    """Whether sending a request to any available instance takes more from others than it is worth.

    ``displaced``: requests that each instance could have finished meanwhile; they count where the request is lost.
    """
    gain = in_time - harm
    best = int(gain.argmax())
    if gain[best] >= -_HARMLESS and in_time[best] >= _LOST and available[best]:
        return False
    gain -= np.where(in_time < _LOST, displaced, 0.0)
    return float(gain[available].max(initial=-inf)) < -_HARMLESS


#: What stands for a request that was not routed here: its prediction as it is (0 tokens), with some doubt.
_UNKNOWN = _Sent(Request(-1, 0.0, 0, 1, 0.0), -1, 0.0, 1.0, Length(0.0, 0.09, NORMAL), 0.0, 0.0, 0.0)
