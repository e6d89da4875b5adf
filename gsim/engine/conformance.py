"""Replay what vLLM's own scheduler did, step by step: ``python -m gsim.engine.conformance FILE...``

Both engines schedule every recording: ``stepwise`` as it is, ``decode_clock`` one iteration at a time.
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
from gsim.core.events import EventKind
from gsim.core.request import Job, Request
from gsim.engine.clocked import ClockedScheduler, Happening, Kind
from gsim.engine.config import EngineLimits
from gsim.engine.kv.block_pool import BlockPool
from gsim.engine.kv.token_names import TokenSegments
from gsim.engine.scheduler import Scheduler
from gsim.engine.sequence import Sequence

#: Every token of generated text.
GENERATED_TOKEN = 7

ENGINES = ("stepwise", "decode_clock")

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


def replay(recording: dict[str, Any], engine: str) -> Difference | None:
    """Schedule a recording's requests as an engine does; the first difference, or None where all is identical."""
    limits = limits_of(recording["config"])
    steps = _Stepwise(limits) if engine == "stepwise" else _DecodeClock(limits)
    segments = TokenSegments(limits.block_size)
    requests = sorted(recording["requests"], key=lambda request: request["arrival_step"])
    arrived = 0
    for number, theirs in enumerate(recording["steps"]):
        while arrived < len(requests) and requests[arrived]["arrival_step"] <= number:
            steps.scheduler.waiting.append(_sequence(requests[arrived], steps.scheduler, segments))
            arrived += 1
        ours = steps.step()
        if ours != _comparable(theirs):
            return Difference(number, theirs, ours)
    return None


def _comparable(step: dict[str, Any]) -> dict[str, Any]:
    """A recorded step with its lists in one order (vLLM keeps preempted requests in a set)."""
    lists = {key: sorted(map(str, step[key])) for key in ("preempted", "finished")}
    return {"scheduled": step["scheduled"], **lists, "usage": step["usage"]}


class _Stepwise:
    """The reference's steps, as recordings have them."""

    def __init__(self, limits: EngineLimits) -> None:
        self.scheduler = Scheduler(limits, BlockPool(limits.kv_blocks, limits.block_size, limits.prefix_caching))

    def step(self) -> dict[str, Any]:
        """Schedule and compute one iteration."""
        scheduler = self.scheduler
        step = scheduler.schedule()
        finished: list[Sequence] = []
        for sequence in step.scheduled:
            if sequence.computed == sequence.length:
                sequence.generated += 1
                if sequence.generated == sequence.stop:
                    finished.append(sequence)
                    scheduler.finish(sequence)
        return _row(step.scheduled, step.preempted, finished, scheduler.pool.free, scheduler.pool.total)


class _DecodeClock:
    """The decode clock's changes, one iteration at a time."""

    def __init__(self, limits: EngineLimits) -> None:
        self.clocked = ClockedScheduler(limits, needs_max_context=False)
        self.scheduler = self.clocked.scheduler

    def step(self) -> dict[str, Any]:
        """Schedule and compute one iteration."""
        clocked, scheduler = self.clocked, self.scheduler
        scheduled: dict[Sequence, int] = {}
        happened: list[Happening] = []
        kind = clocked.plan() if scheduler.running or scheduler.waiting else Kind.UNKNOWN
        if kind is Kind.PLAIN:
            clocked.begin_plain()
        elif kind is Kind.SHARED:
            clocked.begin_shared()
        elif kind is Kind.REFERENCE:
            clocked.begin_reference()
            happened += clocked.put_off
        for sequence in scheduler.running:
            tokens = 1 if sequence.leaves else clocked.in_flight(sequence)
            if tokens:
                scheduled[sequence] = tokens
        if kind is Kind.RUN:
            happened += clocked.end_run(1)
        elif kind is Kind.REFERENCE:
            happened += clocked.end_reference() if scheduled else []
        elif kind is not Kind.UNKNOWN:
            happened += clocked.end_step()
        preempted = [sequence for what, sequence in happened if what is EventKind.PREEMPTED]
        finished = [sequence for what, sequence in happened if what is EventKind.FINISHED]
        total = clocked.pool.total
        return _row(scheduled, preempted, finished, total - clocked.books.used_blocks(0), total)


def _row(
    scheduled: dict[Sequence, int], preempted: list[Sequence], finished: list[Sequence], free: int, total: int
) -> dict[str, Any]:
    return {
        "scheduled": {str(sequence.request_id): tokens for sequence, tokens in scheduled.items()},
        "preempted": sorted(str(sequence.request_id) for sequence in preempted),
        "finished": sorted(str(sequence.request_id) for sequence in finished),
        "usage": round(1.0 - free / total, USAGE_DECIMALS),
    }


def _sequence(row: dict[str, Any], scheduler: Scheduler, segments: TokenSegments) -> Sequence:
    tokens = prompt_tokens(row["prompt"])
    arrival_s = float(row["arrival_step"])
    request = Request(
        row["id"], arrival_s, len(tokens), row["output_len"], float("inf"), priority=row.get("priority", 0)
    )
    stop = min(row["output_len"], scheduler.limits.max_model_len - len(tokens))
    hold = None
    if scheduler.pool.caching:
        pieces = segments.pieces(tokens + [GENERATED_TOKEN] * stop)
        hold = scheduler.pool.hold_of(pieces, len(tokens) // scheduler.limits.block_size)
    # vLLM breaks ties of priority and arrival by the request id, a string.
    return Sequence(Job(request, row["output_len"]), arrival_s, str(row["id"]), stop, 0, hold)


def main(paths: list[str]) -> int:
    """Replay files on both engines; print a line for each; 1 where any differs."""
    differs = 0
    for name in paths:
        recording = read_recording(Path(name))
        differences = {engine: replay(recording, engine) for engine in ENGINES}
        if not any(differences.values()):
            print(f"{name}: {len(recording['steps'])} steps identical")
        for engine, difference in differences.items():
            if difference is not None:
                differs = 1
                print(f"{name}: step {difference.step} differs")
                print(f"  vLLM: {json.dumps(difference.theirs)}")
                print(f"  {engine}: {json.dumps(difference.ours)}")
    return differs


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m gsim.engine.conformance FILE...")
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        sys.exit(str(error))
