"""Does the scheduler do what vLLM's does? ``python -m gsim.engine.conformance FILE...``

A recording holds a workload and what vLLM's own V1 scheduler scheduled, preempted and finished at every step, with the
KV usage after it. Replaying it prints ``N steps identical`` or the first step that differs, with both sides; the exit
status is 1 on any difference.

Format (JSON, may be gzipped): ``config`` (max_num_seqs, max_num_batched_tokens, block_size, num_blocks with vLLM's null
block, max_model_len, prefix_caching), ``requests`` (id, arrival_step, prompt as [segment, tokens] pieces, output_len),
``steps`` (scheduled: tokens by request id, preempted, finished, usage). Token k of segment s is
``(7919 s + k) % 30000 + 100``; segment -1 is generated text, whose every token is 7.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gsim.core import Job, Request
from gsim.core.errors import InputError
from gsim.engine.limits import EngineLimits
from gsim.engine.scheduler import Scheduler
from gsim.engine.sequence import Sequence

_GENERATED_TOKEN = 7


def load(path: str | Path) -> dict[str, Any]:
    """A recording; raises ``InputError`` naming the file and what is missing."""
    try:
        raw = Path(path).read_bytes()
        recording = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a recording: {error}") from error
    missing = [
        key for key in ("config", "requests", "steps") if not isinstance(recording, dict) or key not in recording
    ]
    if missing:
        raise InputError(f"{path}: not a recording: no '{missing[0]}'")
    return dict(recording)


def replay(recording: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What our scheduler does with a recording's workload, a dictionary per step as in the file."""
    config = recording["config"]
    scheduler = Scheduler(
        EngineLimits(
            max_num_batched_tokens=config["max_num_batched_tokens"],
            max_num_seqs=config["max_num_seqs"],
            max_model_len=config["max_model_len"],
            kv_blocks=config["num_blocks"] - 1,
            block_size=config["block_size"],
            prefix_caching=config["prefix_caching"],
            policy=config.get("policy", "fcfs"),
            long_prefill_token_threshold=config.get("long_prefill_token_threshold", 0),
        )
    )
    arriving = sorted(enumerate(recording["requests"]), key=lambda pair: (pair[1]["arrival_step"], pair[0]))
    for step in range(len(recording["steps"])):
        while arriving and arriving[0][1]["arrival_step"] <= step:
            order, row = arriving.pop(0)
            scheduler.add(_sequence(row, order, config))
        iteration = scheduler.step()
        grown = scheduler.complete(iteration)
        yield {
            "scheduled": {str(sequence.request_id): tokens for sequence, tokens in iteration.scheduled},
            "preempted": [sequence.request_id for sequence in iteration.preempted],
            "finished": sorted(s.request_id for s in grown if s.generated == s.limit),
            "usage": round(scheduler.cache.usage, 6),
        }


def _sequence(row: dict[str, Any], order: int, config: dict[str, Any]) -> Sequence:
    """A recorded request as a sequence, its blocks named by their very tokens, as vLLM names them."""
    tokens = [token for segment, count in row["prompt"] for token in _tokens(int(segment), int(count))]
    request = Request(row["id"], 0.0, len(tokens), row["output_len"], 0.0, priority=row.get("priority", 0))
    sequence = Sequence(Job(request, row["output_len"]), order, config["max_model_len"])
    tokens += [_GENERATED_TOKEN] * row["output_len"]
    size = config["block_size"]
    parent = 0
    for start in range(0, len(tokens) - size + 1, size):
        parent = hash((parent, *tokens[start : start + size]))
        sequence.hashes.append(parent)
    return sequence


def _tokens(segment: int, count: int) -> list[int]:
    if segment == -1:
        return [_GENERATED_TOKEN] * count
    return [(7919 * segment + k) % 30000 + 100 for k in range(count)]


def first_difference(recording: dict[str, Any]) -> str | None:
    """The first step at which we differ, told with both sides; None if all steps are identical."""
    for step, (theirs, ours) in enumerate(zip(recording["steps"], replay(recording), strict=True)):
        for key in ("scheduled", "preempted", "finished", "usage"):
            left, right = theirs[key], ours[key]
            if key in ("preempted", "finished"):
                left, right = sorted(map(int, left)), sorted(map(int, right))
            same = abs(left - right) < 2e-6 if key == "usage" else left == right
            if not same:
                return f"step {step} differs in {key}: vLLM {json.dumps(left)}, gsim {json.dumps(right)}"
    return None


def main(paths: list[str]) -> int:
    """Replay files; returns the exit status."""
    if not paths:
        print("usage: python -m gsim.engine.conformance FILE...", file=sys.stderr)
        return 2
    status = 0
    for path in paths:
        try:
            recording = load(path)
            difference = first_difference(recording)
        except InputError as error:
            print(error)
            status = 1
            continue
        print(f"{path}: {difference or str(len(recording['steps'])) + ' steps identical'}")
        status = status or int(difference is not None)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
