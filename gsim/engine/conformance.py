"""Replay what vLLM's own scheduler did, step by step: ``python -m gsim.engine.conformance FILE...``

A recording is (gzipped) JSON: ``config``, ``requests`` (``arrival_step``, ``prompt`` as (segment, tokens) pieces,
``output_len``) and ``steps``: tokens scheduled by request, who was preempted and who finished, and the KV usage after
the step. Prompts are compared by their tokens: token k of segment s is ``(7919 s + k) % 30000 + 100``, and segment -1
is generated text, whose every token is 7. Exit status 1 on any difference.
"""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsim.core.errors import InputError
from gsim.core.request import Job, Request
from gsim.engine.config import EngineLimits
from gsim.engine.scheduler import Scheduler
from gsim.engine.sequence import Sequence
from gsim.engine.token_names import GENERATED_TOKEN, TokenNames

#: Recordings give the usage with six decimals.
USAGE_DECIMALS = 6


@dataclass(frozen=True)
class Difference:
    """The first step at which the two schedulers part."""

    step: int
    theirs: dict[str, Any]
    ours: dict[str, Any]


def prompt_tokens(pieces: list[list[int]]) -> list[int]:
    """The tokens of a recorded prompt."""
    tokens: list[int] = []
    for segment, length in pieces:
        if segment == -1:
            tokens += [GENERATED_TOKEN] * length
        else:
            tokens += [(7919 * segment + k) % 30000 + 100 for k in range(length)]
    return tokens


def read_recording(path: Path) -> dict[str, Any]:
    """A recording as JSON; raises ``InputError`` where it is none."""
    try:
        raw = path.read_bytes()
        text = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        recording = json.loads(text)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: not a recording: {error}") from error
    missing = {"config", "requests", "steps"} - set(recording) if isinstance(recording, dict) else {"config"}
    if missing:
        raise InputError(f"{path}: not a recording: no {', '.join(sorted(missing))}")
    return dict(recording)


def limits_of(config: dict[str, Any]) -> EngineLimits:
    """The limits that a recording was made with (its ``num_blocks`` includes vLLM's null block)."""
    optional = ("policy", "long_prefill_token_threshold", "watermark")
    return EngineLimits(
        block_size=config["block_size"],
        kv_blocks=config["num_blocks"] - 1,
        max_num_batched_tokens=config["max_num_batched_tokens"],
        max_num_seqs=config["max_num_seqs"],
        max_model_len=config["max_model_len"],
        prefix_caching=config["prefix_caching"],
        **{name: config[name] for name in optional if name in config},
    )


def replay(recording: dict[str, Any]) -> Difference | None:
    """Schedule a recording's requests; the first difference, or None where every step is identical."""
    limits = limits_of(recording["config"])
    scheduler = Scheduler(limits)
    requests = sorted(recording["requests"], key=lambda request: request["arrival_step"])
    arrived = 0
    for number, theirs in enumerate(recording["steps"]):
        while arrived < len(requests) and requests[arrived]["arrival_step"] <= number:
            scheduler.waiting.append(_sequence(requests[arrived], limits))
            arrived += 1
        ours = _one_step(scheduler)
        if ours != _comparable(theirs):
            return Difference(number, theirs, ours)
    return None


def _comparable(step: dict[str, Any]) -> dict[str, Any]:
    """A recorded step with its lists in one order (vLLM keeps preempted requests in a set)."""
    lists = {key: sorted(map(str, step[key])) for key in ("preempted", "finished")}
    return {"scheduled": step["scheduled"], **lists, "usage": step["usage"]}


def _one_step(scheduler: Scheduler) -> dict[str, Any]:
    step = scheduler.schedule()
    finished: list[int] = []
    for sequence in step.scheduled:
        if sequence.computed == sequence.length:
            sequence.generated += 1
            if sequence.generated == sequence.stop:
                finished.append(sequence.request_id)
                scheduler.finish(sequence)
    pool = scheduler.pool
    return {
        "scheduled": {str(sequence.request_id): tokens for sequence, tokens in step.scheduled.items()},
        "preempted": sorted(str(sequence.request_id) for sequence in step.preempted),
        "finished": sorted(map(str, finished)),
        "usage": round(1.0 - pool.free / pool.total, USAGE_DECIMALS),
    }


def _sequence(row: dict[str, Any], limits: EngineLimits) -> Sequence:
    tokens = prompt_tokens(row["prompt"])
    arrival_s = float(row["arrival_step"])
    request = Request(
        row["id"], arrival_s, len(tokens), row["output_len"], float("inf"), priority=row.get("priority", 0)
    )
    stop = min(row["output_len"], limits.max_model_len - len(tokens))
    names = TokenNames(tokens, limits.block_size) if limits.prefix_caching else None
    # vLLM breaks ties of priority and arrival by the request id, a string.
    return Sequence(Job(request, row["output_len"]), arrival_s, str(row["id"]), stop, 0, names)


def main(paths: list[str]) -> int:
    """Replay files; print a line for each; 1 where any differs."""
    differs = 0
    for name in paths:
        recording = read_recording(Path(name))
        difference = replay(recording)
        if difference is None:
            print(f"{name}: {len(recording['steps'])} steps identical")
        else:
            differs = 1
            print(f"{name}: step {difference.step} differs")
            print(f"  vLLM: {json.dumps(difference.theirs)}")
            print(f"  gsim: {json.dumps(difference.ours)}")
    return differs


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m gsim.engine.conformance FILE...")
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        sys.exit(str(error))
