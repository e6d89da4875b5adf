"""``vllm bench serve --save-result --save-detailed``: its JSON as ground truth, a sanity anchor for a profile.

The client's clock starts when it sends a request, so its times hold the API server too (some milliseconds), which a
profile does not.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from gsim.core.errors import InputError
from gsim.core.json_text import parsed_json

_LISTS = ("input_lens", "output_lens", "start_times", "ttfts", "itls")
_MOST_TOKENS = 10_000_000


def read_bench(path: Path) -> pd.DataFrame:
    """Requests of a benchmark run as the columns of a ground truth's ``requests.csv``, in order of sending.

    Raises ``InputError`` that names the file and the field. Failed requests (no output) are refused: what they did to
    the server is not in the file.
    """
    try:
        result = parsed_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    lists = _detailed(path, result)
    answers = [gaps for output, gaps in zip(lists[1], lists[4], strict=True) if isinstance(output, int) and output > 1]
    if answers and not any(answers):
        raise InputError(f"{path}: itls has no time between tokens though answers have several: nothing was streamed")
    rows = []
    for i, (prompt, output, start, ttft, gaps) in enumerate(zip(*lists, strict=True)):
        if not output or not isinstance(gaps, list):
            raise InputError(f"{path}: request {i} failed (output_lens {output!r}): a run with failures is no anchor")
        where = f"{path}: request {i}: "
        tokens = [_tokens(f"{where}{name}", value) for name, value in (("input_lens", prompt), ("output_lens", output))]
        times = [_seconds(f"{where}{name}", value) for name, value in (("start_times", start), ("ttfts", ttft))]
        rows.append((*tokens, *times, times[1] + sum(_seconds(f"{where}itls", gap) for gap in gaps)))
    frame = pd.DataFrame(rows, columns=["input_tokens", "output_tokens", "arrival_s", "ttft_s", "e2e_s"])
    frame = frame.sort_values("arrival_s", kind="stable", ignore_index=True)
    frame["arrival_s"] -= frame.arrival_s.iloc[0]
    frame["queued_s"] = frame["scheduled_s"] = frame.arrival_s
    frame["first_token_s"] = frame.arrival_s + frame.ttft_s
    frame["last_token_s"] = frame.arrival_s + frame.e2e_s
    return frame.drop(columns=["ttft_s", "e2e_s"])


def _tokens(where: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _MOST_TOKENS:
        raise InputError(f"{where} must be a whole number from 1 to {_MOST_TOKENS}, not {value!r}")
    return value


def _seconds(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InputError(f"{where} must be a finite number of seconds, not negative; not {value!r}")
    return float(value)


def _detailed(path: Path, result: Any) -> list[list[Any]]:
    if not isinstance(result, dict):
        raise InputError(f"{path}: must hold an object, not {type(result).__name__}")
    missing = [name for name in _LISTS if not isinstance(result.get(name), list)]
    if missing:
        raise InputError(f"{path}: {missing[0]} is missing: run vllm bench serve with --save-detailed")
    lists = [result[name] for name in _LISTS]
    sizes = {len(values) for values in lists}
    if len(sizes) > 1 or not lists[0]:
        raise InputError(f"{path}: {', '.join(_LISTS)} must be lists of one length, and not empty")
    return lists
