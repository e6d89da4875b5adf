"""The load of the last minutes, as a scaler can know it: arrivals, and how long answers have been."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from itertools import cycle
from typing import NamedTuple

from gsim.core import Completion, Request


class LoadClass(NamedTuple):
    """Requests that are alike, together: how many a second, and what they are on average."""

    rate_per_s: float
    prompt_tokens: float
    output_tokens: float


class Asked(NamedTuple):
    """One request of the past, with an output as its task has had of late."""

    prompt_tokens: int
    output_tokens: int
    slo_s: float


#: Outputs that are remembered of each task.
_REMEMBERED = 512


class LoadSeen:
    """Arrivals of the last ``window_s``, and the last outputs of every task class (history, no prediction).

    The output of one request is not known when it comes; how outputs are spread is. So the arrivals of a task are given
    its remembered outputs in turn: each class gets its share of them.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._first_s: float | None = None
        self._arrivals: deque[tuple[float, str, int, float]] = deque()
        self._outputs: dict[str, deque[int]] = {}

    def arrived(self, request: Request) -> None:
        """A request has come."""
        if self._first_s is None:
            self._first_s = request.arrival_s
        self._arrivals.append((request.arrival_s, request.task, request.prompt_tokens, request.slo_s))

    def finished(self, completion: Completion) -> None:
        """A request has ended (of one that was moved, the tokens of its last instance)."""
        seen = self._outputs.setdefault(completion.request.task, deque(maxlen=_REMEMBERED))
        seen.append(max(completion.output_tokens, 1))

    @property
    def knows_outputs(self) -> bool:
        """Whether any request has finished."""
        return bool(self._outputs)

    def classes(self, now_s: float, of: Callable[[Asked], Hashable]) -> dict[Hashable, LoadClass]:
        """The load of the window by classes (``of``: a request's class), in the order in which they first came.

        A task of which none has finished has the outputs of all others; before any request has, there is no load.
        """
        begin_s = now_s - self._window_s
        while self._arrivals and self._arrivals[0][0] < begin_s:
            self._arrivals.popleft()
        span_s = now_s - max(begin_s, self._first_s) if self._first_s is not None else 0.0
        if not span_s > 0.0 or not self._outputs:
            return {}
        every = [tokens for seen in self._outputs.values() for tokens in seen]
        outputs = {task: cycle(self._outputs.get(task, every)) for task in {one[1] for one in self._arrivals}}
        sums: dict[Hashable, list[float]] = {}
        for _, task, prompt_tokens, slo_s in self._arrivals:
            asked = Asked(prompt_tokens, next(outputs[task]), slo_s)
            total = sums.setdefault(of(asked), [0.0, 0.0, 0.0])
            for i, value in enumerate((1.0, asked.prompt_tokens, asked.output_tokens)):
                total[i] += value
        return {kind: LoadClass(n / span_s, prompt / n, output / n) for kind, (n, prompt, output) in sums.items()}
