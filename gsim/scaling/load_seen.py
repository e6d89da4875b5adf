"""The load of the last minutes, as a scaler can know it: arrivals, and how long answers have been."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from gsim.core import Completion, Request


class LoadClass(NamedTuple):
    """Requests that are alike, together: how many a second, and what they are on average."""

    rate_per_s: float
    prompt_tokens: float
    output_tokens: float


class Asked(NamedTuple):
    """One request of the past, with the output that is to be expected of its task."""

    prompt_tokens: int
    output_tokens: float
    slo_s: float


class LoadSeen:
    """Arrivals of the last ``window_s``, and the mean output of every task class so far (history, no prediction)."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._first_s: float | None = None
        self._arrivals: deque[tuple[float, str, int, float]] = deque()
        self._outputs: dict[str, tuple[int, int]] = {}
        """Task -> finished requests, and their output tokens."""

    def arrived(self, request: Request) -> None:
        """A request has come."""
        if self._first_s is None:
            self._first_s = request.arrival_s
        self._arrivals.append((request.arrival_s, request.task, request.prompt_tokens, request.slo_s))

    def finished(self, completion: Completion) -> None:
        """A request has ended (of one that was moved, the tokens of its last instance)."""
        count, tokens = self._outputs.get(completion.request.task, (0, 0))
        self._outputs[completion.request.task] = count + 1, tokens + completion.output_tokens

    @property
    def knows_outputs(self) -> bool:
        """Whether any request has finished."""
        return bool(self._outputs)

    def output_tokens(self, task: str) -> float:
        """Mean output of a task; of one that never finished, of all."""
        count, tokens = self._outputs.get(task, (0, 0))
        if not count:
            count = sum(one for one, _ in self._outputs.values())
            tokens = sum(one for _, one in self._outputs.values())
        return tokens / count if count else 0.0

    def classes(self, now_s: float, of: Callable[[Asked], Hashable]) -> dict[Hashable, LoadClass]:
        """The load of the window by classes (``of``: a request's class), in the order in which they first came."""
        begin_s = now_s - self._window_s
        while self._arrivals and self._arrivals[0][0] < begin_s:
            self._arrivals.popleft()
        span_s = now_s - max(begin_s, self._first_s) if self._first_s is not None else 0.0
        means = {task: self.output_tokens(task) for task in {arrival[1] for arrival in self._arrivals}}
        sums: dict[Hashable, list[float]] = {}
        for _, task, prompt_tokens, slo_s in self._arrivals:
            asked = Asked(prompt_tokens, means[task], slo_s)
            total = sums.setdefault(of(asked), [0.0, 0.0, 0.0])
            for i, value in enumerate((1.0, asked.prompt_tokens, asked.output_tokens)):
                total[i] += value
        if not span_s > 0.0:
            return {}
        return {kind: LoadClass(n / span_s, prompt / n, output / n) for kind, (n, prompt, output) in sums.items()}
