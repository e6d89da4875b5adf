"""Which prompts of a run begin alike: from a workload file that holds their token ids.

LLMServingSim publishes its workloads as JSON lines (``input_toks``, ``input_tok_ids`` ...), one request a line, in
order of arrival. A real engine with prefix caching computes fewer tokens of a prompt that begins as another one did,
and holds fewer blocks; without the contents a replay cannot know.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gsim.core.errors import InputError
from gsim.core.json_text import parsed_json
from gsim.core.request import Content


def read_contents(path: Path, prompt_tokens: Sequence[int]) -> list[Content]:
    """The contents of a run's prompts; raises ``InputError`` where the file is not of this run.

    Segment i is what prompt i does not share with an earlier one.
    """
    prompts: list[list[int]] = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    prompts.append(_token_ids(path, number, line))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if len(prompts) != len(prompt_tokens):
        raise InputError(f"{path}: holds {len(prompts)} requests, the run {len(prompt_tokens)}")
    for i, (prompt, tokens) in enumerate(zip(prompts, prompt_tokens)):
        if len(prompt) != tokens:
            raise InputError(f"{path}, request {i}: has {len(prompt)} prompt tokens, in the run it had {tokens}")
    return shared_contents(prompts)


def _token_ids(path: Path, number: int, line: str) -> list[int]:
    try:
        ids = parsed_json(line)["input_tok_ids"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}, line {number}: input_tok_ids cannot be read: {error!r}") from None
    if not isinstance(ids, list) or not ids or not all(isinstance(token, int) for token in ids):
        raise InputError(f"{path}, line {number}: input_tok_ids must be a list of whole numbers, not empty")
    return ids


def shared_contents(prompts: Sequence[Sequence[int]]) -> list[Content]:
    """Contents in which two prompts share leading segments exactly as far as their tokens agree."""
    contents: list[Content] = []
    by_start: dict[tuple[int, ...], list[int]] = {}
    for i, prompt in enumerate(prompts):
        # Prompts that differ in their first block share no block; within a block nothing can hit.
        alike = by_start.setdefault(tuple(prompt[:16]), [])
        longest, parent = max(((_common(prompt, prompts[j]), j) for j in alike), default=(0, i))
        shared = _cut(contents[parent], longest) if longest else ()
        own = len(prompt) - longest
        contents.append((*shared, (i, own)) if own else shared)
        alike.append(i)
    return contents


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    for k, (a, b) in enumerate(zip(left, right)):
        if a != b:
            return k
    return min(len(left), len(right))


def _cut(content: Content, tokens: int) -> Content:
    pieces = []
    for segment, size in content:
        if tokens <= 0:
            break
        pieces.append((segment, min(size, tokens)))
        tokens -= size
    return tuple(pieces)
