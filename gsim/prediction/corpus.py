"""Prompts with the length of their answers, from a file: what text-based predictors are trained and judged on."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gsim.core import ConfigError, Request, TraceError
from gsim.core.files import UNREADABLE
from gsim.core.json_text import parsed_json

_FIELDS = ("task", "session", "turn", "context_tokens", "prompt", "output_tokens")


class Sample(NamedTuple):
    """One request of a real agent, and how long its answer was."""

    request: Request
    output_tokens: int


def read_corpus(path: Path | str) -> list[Sample]:
    """Read JSON lines (gzip where the name ends in ``.gz``), one request each, turns of a session in order.

    Fields: task, session, turn, context_tokens, prompt, output_tokens. Raises ``TraceError`` naming file, row, field
    and value; ``ConfigError`` where there is no such file.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"train.path: no file '{path}'")
    sessions: dict[str, int] = {}
    samples: list[Sample] = []
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            for row, line in enumerate(lines, start=1):
                if line.strip():
                    samples.append(_sample(file, row, line, len(samples), sessions))
    except UNREADABLE as error:
        raise TraceError(file, len(samples) + 1, f"cannot be read: {error}") from None
    if not samples:
        raise TraceError(file, None, "holds no request")
    return samples


def split_by_session(samples: Sequence[Sample], test_share: float, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Training and test samples: whole sessions, drawn per task so that both parts hold every task they can."""
    rng = np.random.default_rng(seed)
    sessions: dict[str, dict[int, None]] = {}
    for sample in samples:
        sessions.setdefault(sample.request.task, {})[sample.request.session_id] = None
    test: set[int] = set()
    for task in sorted(sessions):
        ids = np.array(list(sessions[task]))
        count = min(max(round(test_share * len(ids)), 1), len(ids) - 1)
        test.update(rng.permutation(ids)[:count].tolist())
    inside = [sample.request.session_id in test for sample in samples]
    return (
        [s for s, held in zip(samples, inside, strict=True) if not held],
        [s for s, held in zip(samples, inside, strict=True) if held],
    )


def tasks_of(samples: Iterable[Sample]) -> list[str]:
    """The task classes, sorted."""
    return sorted({sample.request.task for sample in samples})


def _sample(file: Path, row: int, line: str, request_id: int, sessions: dict[str, int]) -> Sample:
    try:
        values = parsed_json(line)
    except ValueError as error:
        raise TraceError(file, row, f"not JSON: {error}") from error
    if not isinstance(values, dict):
        raise TraceError(file, row, f"must be an object with the fields {', '.join(_FIELDS)}")
    missing = [name for name in _FIELDS if name not in values]
    if missing:
        raise TraceError(file, row, f"field '{missing[0]}' is missing; allowed fields: {', '.join(_FIELDS)}")
    request = Request(
        request_id=request_id,
        arrival_s=0.0,
        prompt_tokens=_count(file, row, values, "context_tokens", 1),
        max_output_tokens=1 << 16,
        slo_s=float("inf"),
        task=str(values["task"]),
        session_id=sessions.setdefault(str(values["session"]), len(sessions)),
        turn=_count(file, row, values, "turn", 0),
        text=str(values["prompt"]),
    )
    return Sample(request, _count(file, row, values, "output_tokens", 1))


def _count(file: Path, row: int, values: dict[str, Any], name: str, least: int) -> int:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or int(value) != value:
        raise TraceError(file, row, f"field '{name}' is {value!r}; it must be a whole number")
    if value < least:
        raise TraceError(file, row, f"field '{name}' is {value}; it must be {least} or more")
    return int(value)
