"""What a learned predictor looks at: the prompt's words, its size, and how the session went so far."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from gsim.core import Request
from gsim.core.view import Floats

_WORD = re.compile(r"[a-z]+|\d+|[^\w\s]")
_HEAD_CHARS = 600
_TAIL_CHARS = 1200
_LAST_WORDS = 16


class Row(NamedTuple):
    """One request as the features see it."""

    text: str
    task: str
    numbers: tuple[float, ...]


@dataclass
class SessionMemory:
    """What earlier turns of a session showed: a gateway has seen their answers when the next turn arrives."""

    _seen: dict[int, tuple[int, float, float, int]] = field(default_factory=dict)
    """Per session: turns, sum of log lengths, last log length, last prompt tokens."""

    def row(self, request: Request) -> Row:
        """The features of a request now."""
        text = request.text or ""
        turns, total, last, prompt = self._seen.get(request.session_id, (0, 0.0, -1.0, 0))
        mean = total / turns if turns else -1.0
        grown = max(request.prompt_tokens - prompt, 0) if turns else request.prompt_tokens
        digits = sum(map(str.isdigit, text))
        numbers = (
            math.log1p(request.prompt_tokens),
            math.log1p(grown),
            float(request.turn),
            math.log1p(len(text)),
            digits / (len(text) + 1),
            math.log1p(text.count("\n")),
            last,
            mean,
        )
        return Row(text, request.task, numbers)

    def add(self, request: Request, output_tokens: int) -> None:
        """A turn has finished."""
        if request.session_id >= 0:
            turns, total, _, _ = self._seen.get(request.session_id, (0, 0.0, 0.0, 0))
            log = math.log(output_tokens)
            self._seen[request.session_id] = (turns + 1, total + log, log, request.prompt_tokens)


def terms(text: str) -> list[str]:
    """Words, numbers' lengths and signs; pairs of neighbours; and, marked, the last words.

    In an agent's prompt the newest part (a tool's answer, an error, a question) stands at the end. Numbers count by
    their digits, not their value.
    """
    if len(text) > _HEAD_CHARS + _TAIL_CHARS:
        text = f"{text[:_HEAD_CHARS]} {text[-_TAIL_CHARS:]}"
    words = [f"#{len(word)}" if word.isdigit() else word for word in _WORD.findall(text.lower())]
    last = words[-_LAST_WORDS:]
    pairs = [f"{a} {b}" for a, b in itertools.pairwise(words)]
    return words + pairs + [f"^{word}" for word in last]


@dataclass
class Features:
    """A matrix of numbers: TF-IDF of the prompt reduced to ``dimensions``, size, session, and the task's history.

    Fitted on a training set; a task that it did not hold counts as the average one.
    """

    dimensions: int
    max_terms: int = 4000
    _tfidf: Any = field(default=None, init=False)
    _directions: Floats | None = field(default=None, init=False)
    """Terms by dimensions."""
    _tasks: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    _any_task: tuple[float, float] = field(default=(0.0, 0.0), init=False)

    def fit(self, rows: Sequence[Row], log_lengths: Floats, seed: int) -> Floats:
        """Learn vocabulary, directions and tasks; the training set's matrix."""
        # scikit-learn takes a second to import: only those who learn pay for it.
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._fit_tasks(rows, log_lengths)
        self._tfidf = self._directions = None
        texts = [row.text for row in rows]
        if any(texts):
            tfidf = TfidfVectorizer(analyzer=terms, max_features=self.max_terms, min_df=3, sublinear_tf=True)
            try:
                counts = tfidf.fit_transform(texts)
            except ValueError:  # no term occurs three times
                return self.matrix(rows)
            self._tfidf = tfidf
            width = min(self.dimensions, counts.shape[1] - 1)
            if width >= 1:
                self._directions = TruncatedSVD(width, random_state=seed).fit(counts).components_.T.copy()
        return self.matrix(rows)

    def matrix(self, rows: Sequence[Row]) -> Floats:
        """One line per row."""
        known = [(*row.numbers, *self._tasks.get(row.task, self._any_task)) for row in rows]
        numbers = np.array(known, dtype=np.float64)
        if self._tfidf is None or self._directions is None:
            return numbers
        return np.hstack([numbers, self._tfidf.transform([row.text for row in rows]) @ self._directions])

    def _fit_tasks(self, rows: Sequence[Row], log_lengths: Floats) -> None:
        by_task: dict[str, list[float]] = {}
        for row, value in zip(rows, log_lengths.tolist(), strict=True):
            by_task.setdefault(row.task, []).append(value)
        self._tasks = {task: (float(np.median(v)), float(np.std(v))) for task, v in by_task.items()}
        self._any_task = (float(np.median(log_lengths)), float(np.std(log_lengths)))
