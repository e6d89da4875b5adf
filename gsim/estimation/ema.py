"""Black-box estimates by exponential moving average, aware of what was just sent."""

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from gsim.core import ClusterView, Completion, ConfigError, Request, register
from gsim.core.view import REFERENCE_SEQUENCES, float_cells, int_cells
from gsim.estimation.decode import DecodeModel
from gsim.estimation.prefill import PrefillModel

PrefillOf = Literal["prompt", "computed"]


class _Learned:
    """What is known of one instance."""

    __slots__ = ("decode", "overdue_s", "prefill", "waiting")

    def __init__(self, prefill: PrefillModel, decode: DecodeModel) -> None:
        self.prefill = prefill
        self.decode = decode
        self.waiting: dict[int, tuple[int, float]] = {}
        """Requests without a first token, oldest first: prompt tokens ahead of it, when it was sent."""
        self.overdue_s = 0.0
        """How long the oldest of them has waited."""

    def forget_older(self, sent_s: float) -> None:
        """Forget whom a later request has overtaken.

        Served in order of arrival, a request that was sent earlier and has no first token yet is no longer here: it was
        migrated, rejected or lost, and the estimator is not told.
        """
        waiting = self.waiting
        while waiting:
            oldest = next(iter(waiting))
            if waiting[oldest][1] >= sent_s:
                return
            del waiting[oldest]


@dataclass
class Ema:
    """Exponential moving averages of queueing delay, prefill speed and TPOT; the queue counts what was just sent.

    Learns from first tokens, streamed tokens and completions only. With base, pace, p as in ``PrefillModel``:

        queue_s = base + pace * prompt tokens in flight without a first token
        tpot_s  = EMA of streamed seconds per token, corrected for the change of the number in flight since

    *Cold start*: nominal speeds, no queue. *Bursts*: feedback takes seconds, so both formulas read the gateway's own
    exact counters; a plain average would send everything that arrives meanwhile to one place (herding).
    *Idle decay*: base halves every ``decay_s`` while an instance has no prefill outstanding, TPOT drifts back to its
    nominal value every ``stale_s`` without news: else one bad moment keeps an instance out of use for good.
    *Staleness*: a request that has waited longer than the estimate is itself news: the estimate is at least its wait.

    Source: GoodServe (arXiv 2605.16867) for the black box and the moving average; the corrections are this project's.
    """

    alpha: float = 0.2
    """Weight of a new sample (first token, or one interval of streamed tokens)."""
    batch_slope: float = 1.0
    """How much of the nominal growth of TPOT per request in flight to apply between samples (0: none)."""
    decay_s: float = 5.0
    """Half-life of the queueing base while nobody waits."""
    stale_s: float = 60.0
    """So long what is known of TPOT keeps without news; then it is its half-life."""
    prefill_of: PrefillOf = "prompt"
    """Of which tokens the prefill seconds per token are learned: ``prompt`` (all of a prompt, cached or not) or
    ``computed`` (what its instance's prefix cache did not have). Learned from whole prompts they are too few where
    prompts are cached, and a router that multiplies them by what is *not* cached counts the cache twice."""
    _view: ClusterView = field(init=False, repr=False, compare=False)
    _learned: list[_Learned] = field(default_factory=list, init=False, repr=False, compare=False)
    """Per instance."""
    _in_flight: MutableSequence[int] = field(init=False, repr=False, compare=False)
    _prefill_tokens: MutableSequence[int] = field(init=False, repr=False, compare=False)
    _queue_s: MutableSequence[float] = field(init=False, repr=False, compare=False)
    _prefill_s: MutableSequence[float] = field(init=False, repr=False, compare=False)
    _tpot_s: MutableSequence[float] = field(init=False, repr=False, compare=False)
    """The view's arrays as memory (see ``attach``)."""
    _refreshed_s: float = field(default=0.0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ConfigError(f"estimator.alpha must be in (0, 1], not {self.alpha}")
        if not 0 <= self.batch_slope < float("inf"):
            raise ConfigError(f"estimator.batch_slope must be 0 or more, not {self.batch_slope}")
        if self.prefill_of not in get_args(PrefillOf):
            allowed = ", ".join(get_args(PrefillOf))
            raise ConfigError(f"estimator.prefill_of '{self.prefill_of}' is unknown; allowed: {allowed}")
        for name in ("decay_s", "stale_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"estimator.{name} must be greater than 0, not {getattr(self, name)}")

    def attach(self, view: ClusterView) -> None:
        """Take over the learned arrays of ``view``: nominal speeds, empty queues."""
        static = view.static
        self._view = view
        self._refreshed_s = view.now_s
        self._learned = [
            _Learned(
                PrefillModel(self.alpha, float(prefill)),
                DecodeModel(self.alpha, float(tpot), float(REFERENCE_SEQUENCES), self.batch_slope * float(slope)),
            )
            for prefill, tpot, slope in zip(
                static.nominal_prefill_s_per_token, static.nominal_tpot_s, static.batch_slope_s(), strict=True
            )
        ]
        self._in_flight, self._prefill_tokens = int_cells(view.in_flight), int_cells(view.in_flight_prefill_tokens)
        self._queue_s, self._tpot_s = float_cells(view.queue_s), float_cells(view.tpot_s)
        self._prefill_s = float_cells(view.prefill_s_per_token)
        for instance, learned in enumerate(self._learned):
            self._write(instance, learned)

    def dispatched(self, instance: int, request: Request, now_s: float) -> None:
        """A request was sent: it lengthens the queue and the batch at once."""
        ahead = self._prefill_tokens[instance] - request.prompt_tokens
        learned = self._learned[instance]
        learned.waiting[request.request_id] = (max(ahead, 0), now_s)
        self._write(instance, learned)

    def first_token(
        self, instance: int, request: Request, dispatched_s: float, now_s: float, cached_tokens: int = 0
    ) -> None:
        """Its first token: what it had to wait, and how long it was prefilled."""
        learned = self._learned[instance]
        sent = learned.waiting.pop(request.request_id, None)
        if sent is not None and learned.waiting:
            learned.forget_older(sent[1])
        learned.overdue_s = 0.0
        prefill = learned.prefill
        prompt_tokens = counted_tokens = request.prompt_tokens
        if self.prefill_of == "computed":
            # The last token of a prompt is computed even on a full hit.
            counted_tokens = max(prompt_tokens - cached_tokens, 1)
        prefill.learn(prompt_tokens, None if sent is None else sent[0], dispatched_s, now_s, counted_tokens)
        self._prefill_s[instance] = prefill.prefill_s_per_token
        self._write(instance, learned)

    def streamed(self, instance: int, tokens: int, span_s: float, now_s: float) -> None:
        """Tokens arrived: seconds per token."""
        learned = self._learned[instance]
        learned.decode.learn(span_s / tokens, self._in_flight[instance], now_s)
        self._write(instance, learned)

    def finished(self, completion: Completion) -> None:
        """A request ended; its mean pace counts where no stream told more."""
        instance, output_tokens = completion.instance, completion.output_tokens
        first_token_s, finished_s = completion.first_token_s, completion.finished_s
        learned = self._learned[instance]
        model = learned.decode
        # What came whole, its first token with the last, has no pace.
        if output_tokens > 1 and model.learned_s < first_token_s < finished_s:
            in_flight = self._in_flight[instance] + 1
            model.learn((finished_s - first_token_s) / (output_tokens - 1), in_flight, finished_s)
        self._write(instance, learned)

    def refresh(self, now_s: float) -> None:
        """Decay what is idle or stale, and see who has waited for too long."""
        span_s = now_s - self._refreshed_s
        self._refreshed_s = now_s
        keep_base = 0.5 ** (span_s / self.decay_s)
        outstanding = self._view.in_flight_prefill_tokens.tolist()
        nominal = self._view.static.nominal_tpot_s.tolist()
        for instance, learned in enumerate(self._learned):
            if outstanding[instance] == 0:
                learned.waiting.clear()
                learned.overdue_s = 0.0
                learned.prefill.base_s *= keep_base
            elif learned.waiting:
                _, sent_s = next(iter(learned.waiting.values()))
                learned.overdue_s = now_s - sent_s
            model = learned.decode
            # However long the span, only what lies beyond the time that news keep is without news.
            silent_s = min(span_s, now_s - model.learned_s - self.stale_s)
            if silent_s > 0.0:
                keep_level = 0.5 ** (silent_s / self.stale_s)
                model.level_s += (1.0 - keep_level) * (nominal[instance] - model.level_s)
                model.level_in_flight += (1.0 - keep_level) * (REFERENCE_SEQUENCES - model.level_in_flight)
            self._write(instance, learned)

    def _write(self, instance: int, learned: _Learned) -> None:
        prefill = learned.prefill
        queue_s = prefill.base_s + prefill.pace_s_per_token * self._prefill_tokens[instance]
        overdue_s = learned.overdue_s
        self._queue_s[instance] = queue_s if queue_s > overdue_s else overdue_s
        self._tpot_s[instance] = learned.decode.tpot_s(self._in_flight[instance])


# Not as a decorator: a decorated class is not compiled to a native one.
register("estimator", "ema")(Ema)
