"""Lodestar: a reward predicted from snapshots, learned online."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np

from gsim.core import ClusterView, Completion, ConfigError, Decision, Request, register
from gsim.core.view import Floats
from gsim.routing.choice import Drawing, any_of, lowest
from gsim.routing.small_network import SmallNetwork

Reward = Literal["ttft", "e2e"]
_FEATURES = 9
_BATCH = 32
#: What its arrays have room for.
_WIDEST, _LONGEST = 4096, 1_000_000


class _Snapshot(NamedTuple):
    """What was seen of the chosen instance and the request, when it was sent."""

    instance: int
    sent_s: float
    x: Floats


@register("router", "lodestar")
@dataclass
class Lodestar(Drawing):
    """argmin of a predicted log latency, by a small network that learns from what its own choices brought.

    Per instance it sees, in units near 1: nominal prefill and decode speed, running, waiting, KV usage, prompt tokens
    in flight without a first token, those that this request has uncached there, its whole prompt, its predicted output.
    It predicts log(seconds + 0.01): of the whole request (``reward=e2e``), or of the time to first token (``ttft``, as
    published). Every ``train_every`` completions it takes a step on a batch drawn from its ``memory``. Until ``warm``
    requests have finished it follows ``weighted_jsq``, (F + 1) / thr; of the later ones a share ``explore`` goes
    anywhere. Ties: the lowest index.

    State: prompt tokens in flight (S1), running, waiting and KV usage (S2, every 100 ms), prefix index (S3), nominal
    speeds (S5), the network (S6), the length predictor. Source: Lodestar (arXiv 2606.00946), from its abstract: a
    snapshot per request, an online reward predictor, the instance with the best reward. Its network, features and way
    of exploring were not found in public; those here are this project's.
    """

    reward: Reward = "e2e"
    """What it makes small: ``e2e`` (what a deadline is about) or ``ttft``."""
    hidden: int = 24
    """Units of the network."""
    rate: float = 0.003
    """Step size of its training."""
    memory: int = 4000
    """Finished requests that it keeps to learn from, the newest."""
    train_every: int = 2
    """Finished requests between two steps of training."""
    warm: int = 200
    """Finished requests before it trusts itself."""
    explore: float = 0.02
    """Share of requests that are sent to any instance, so that none stays unknown."""
    needs: ClassVar[frozenset[str]] = frozenset({"scrape", "prediction", "prefix"})
    scrape_interval_s: ClassVar[float] = 0.1
    _network: SmallNetwork | None = field(default=None, init=False, repr=False, compare=False)
    _x: Floats = field(default_factory=lambda: np.zeros((0, _FEATURES)), init=False, repr=False, compare=False)
    _y: Floats = field(default_factory=lambda: np.zeros(0), init=False, repr=False, compare=False)
    _finished: int = field(default=0, init=False, repr=False, compare=False)
    _asked: tuple[int, float, Floats] | None = field(default=None, init=False, repr=False, compare=False)
    _sent: dict[int, _Snapshot] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.reward not in get_args(Reward):
            allowed = ", ".join(get_args(Reward))
            raise ConfigError(f"router.reward '{self.reward}' is unknown; allowed: {allowed}")
        for name, most in (("hidden", _WIDEST), ("memory", _LONGEST)):
            if getattr(self, name) > most:
                raise ConfigError(f"router.{name} must be from 1 to {most}, not {getattr(self, name)}")
        for name in ("hidden", "memory", "train_every", "warm"):
            if getattr(self, name) < 1:
                raise ConfigError(f"router.{name} must be 1 or more, not {getattr(self, name)}")
        if not 0 < self.rate < 1:
            raise ConfigError(f"router.rate must be in (0, 1), not {self.rate}")
        if not 0 <= self.explore <= 1:
            raise ConfigError(f"router.explore must be in [0, 1], not {self.explore}")

    def route(self, request: Request, view: ClusterView) -> Decision:
        """The instance with the best predicted reward."""
        x = _features(request, view)
        self._asked = (request.request_id, view.now_s, x)
        if self._finished < self.warm:
            return lowest((view.in_flight + 1.0) / view.static.nominal_tokens_per_s, view.available)
        if self._rng.random() < self.explore:
            return any_of(view.available.nonzero()[0], self._rng)
        return lowest(self._learner().at(x), view.available)

    def placed(self, request: Request, instance: int) -> None:
        """Keep the snapshot of where it went."""
        asked, self._asked = self._asked, None
        if asked is None or asked[0] != request.request_id:
            # Moved by other hands: nobody looked.
            self._sent.pop(request.request_id, None)
            return
        if len(self._sent) >= 10 * self.memory:
            # Nobody tells of those that failed or were refused: the oldest are forgotten.
            del self._sent[next(iter(self._sent))]
        self._sent[request.request_id] = _Snapshot(instance, asked[1], asked[2][instance].copy())

    def observe_completion(self, completion: Completion) -> None:
        """Learn what the choice brought."""
        sent = self._sent.pop(completion.request.request_id, None)
        if sent is None or sent.instance != completion.instance:
            return
        ends_s = completion.first_token_s if self.reward == "ttft" else completion.finished_s
        if not len(self._y):
            self._x, self._y = np.zeros((self.memory, _FEATURES)), np.zeros(self.memory)
        place = self._finished % self.memory
        self._x[place], self._y[place] = sent.x, log(max(ends_s - sent.sent_s, 0.0) + 0.01)
        self._finished += 1
        if self._finished % self.train_every == 0:
            drawn = self._rng.integers(0, min(self._finished, self.memory), _BATCH)
            self._learner().learn(self._x[drawn], self._y[drawn])

    def _learner(self) -> SmallNetwork:
        if self._network is None:
            self._network = SmallNetwork(_FEATURES, self.hidden, self.rate, self._rng)
        return self._network


def _features(request: Request, view: ClusterView) -> Floats:
    """A row per instance."""
    static = view.static
    x = np.empty((len(view), _FEATURES))
    prefill_s = static.nominal_prefill_s_per_token
    # Amounts of work are times: what the network has to learn is then much the same on every card.
    x[:, 0] = np.log(prefill_s) + 9.0
    x[:, 1] = np.log(static.nominal_tpot_s) + 4.0
    x[:, 2] = view.running / 64.0
    x[:, 3] = view.waiting / 16.0
    x[:, 4] = view.kv_usage
    x[:, 5] = np.log1p(view.in_flight_prefill_tokens * prefill_s * 10.0)
    x[:, 6] = np.log1p(np.maximum(request.prompt_tokens - view.prefix_tokens(request), 1) * prefill_s * 10.0)
    x[:, 7] = log(request.prompt_tokens) / 4.0 - 1.5
    x[:, 8] = np.log(view.predict(request) * static.nominal_tpot_s)
    return x
