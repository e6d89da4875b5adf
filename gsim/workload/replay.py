"""From a play to a session of a run: request ids, what the client declares, objectives, dependencies."""

from __future__ import annotations

from math import inf, nan

import numpy as np

from gsim.core import Dependency, Job, Request, Session
from gsim.workload.play import Play, Turn, Wait
from gsim.workload.report import Report
from gsim.workload.slo import SloRule


def session_of(
    play: Play, arrival_s: float, session_id: int, first_id: int, cap: int, slo: SloRule, rng: np.random.Generator
) -> Session:
    """The session whose requests have ids from ``first_id`` on and arrive from ``arrival_s`` on.

    ``cap`` is every request's ``max_output_tokens``; outputs are expected to keep it (``cut``).
    """
    jobs: list[Job] = []
    rule = slo.slo_s
    for i, (prompt, output, waits, content, output_segment, task, text, slo_s) in enumerate(play.turns):
        at_s = nan if waits else arrival_s
        asked = Request(first_id + i, at_s, prompt, cap, slo_s, task, session_id, i, content, text)
        slo_s = rule(asked, output, rng)
        request = Request(first_id + i, at_s, prompt, cap, slo_s, task, session_id, i, content, text)
        after = tuple([Dependency(first_id + place, delay_s, kind) for place, delay_s, kind in waits])
        jobs.append(Job(request, output, output_segment, after))
    return Session(session_id, arrival_s, tuple(jobs), _session_slo_s(play, jobs, slo))


def _session_slo_s(play: Play, jobs: list[Job], slo: SloRule) -> float:
    if len(jobs) == 1:
        return inf
    path_s = longest_path_s(play, [job.request.slo_s for job in jobs])
    # Asked for by name: isinstance with a protocol takes as long as drawing a turn.
    session_slo_s = getattr(slo, "session_slo_s", None)
    return path_s if session_slo_s is None else float(session_slo_s(play.slo_s, path_s))


def longest_path_s(play: Play, spans_s: list[float]) -> float:
    """The longest chain of turns (``spans_s`` long each) and gaps: the makespan if every turn takes its span."""
    starts: list[float] = []
    longest_s = 0.0
    for turn, span_s in zip(play.turns, spans_s, strict=True):
        start_s = 0.0
        for place, delay_s, on_completion in turn.after:
            start_s = max(start_s, starts[place] + delay_s + (spans_s[place] if on_completion else 0.0))
        starts.append(start_s)
        longest_s = max(longest_s, start_s + span_s)
    return longest_s


def cut(play: Play, max_output_tokens: int, max_context_tokens: int | None, report: Report) -> Play:
    """The play with outputs cut to the limit, and without turns that are longer than the context (or depend on one)."""
    fits = max_context_tokens is None or all(
        turn.prompt_tokens + turn.output_tokens <= max_context_tokens for turn in play.turns
    )
    if fits and all(turn.output_tokens <= max_output_tokens for turn in play.turns):
        return play
    places: dict[int, int] = {}
    kept: list[Turn] = []
    for i, turn in enumerate(play.turns):
        output_tokens = min(turn.output_tokens, max_output_tokens)
        long = max_context_tokens is not None and turn.prompt_tokens + output_tokens > max_context_tokens
        if long or any(wait.turn not in places for wait in turn.after):
            report.too_long += 1
            continue
        report.truncated += output_tokens < turn.output_tokens
        places[i] = len(kept)
        after = tuple(Wait(places[wait.turn], wait.delay_s, wait.on_completion) for wait in turn.after)
        kept.append(turn._replace(output_tokens=output_tokens, after=after))
    return play._replace(turns=tuple(kept))
