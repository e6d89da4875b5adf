"""The time of the next token: whoever waits for it sees every iteration of either engine, and no other time."""

from __future__ import annotations

from math import inf

import pytest
from engine_cases import job

from gsim.engine import make_engine
from gsim.engine.config import EngineConfig
from gsim.latency import load_profile

PROFILE = load_profile("a40-llama-3.1-8b")


def counts(name: str, jobs, limits) -> list[tuple[float, tuple[tuple[int, int], ...]]]:
    """Tokens of all requests whenever one of them has a new one, by waiting for the next token again and again."""
    engine = make_engine(name, PROFILE.latency, limits)
    now_s, seen, last = 0.0, [], ()
    due = sorted(jobs, key=lambda each: each.request.arrival_s)
    totals: dict[int, int] = {}
    while True:
        next_s = engine.next_token_s(now_s)
        if due and due[0].request.arrival_s <= next_s:
            now_s = due[0].request.arrival_s
            engine.submit(due.pop(0), now_s)
            continue
        if next_s == inf:
            return seen
        assert next_s > now_s
        now_s = next_s + 1e-9
        for event in engine.advance(now_s):
            totals[event.request_id] = max(totals.get(event.request_id, 0), event.generated_tokens)
        totals.update(zip(*engine.progress(now_s), strict=True))
        told = tuple(sorted((request, tokens) for request, tokens in totals.items() if tokens))
        if told != last:
            seen.append((round(next_s, 6), told))
            last = told


@pytest.mark.parametrize("caching", [False, True])
def test_both_engines_show_every_iteration(caching):
    limits = EngineConfig(max_num_seqs=4, max_num_batched_tokens=64, prefix_caching=caching).resolve(PROFILE)
    shared = ((1, 40),) if caching else ()
    jobs = [job(i, 0.11 * i, prompt=40, output=9 + i, content=shared) for i in range(7)]
    stepwise, clocked = (counts(name, jobs, limits) for name in ("stepwise", "decode_clock"))
    assert stepwise == clocked
    # Every request's tokens come one by one.
    tokens = [dict(told).get(3, 0) for _, told in clocked]
    assert sorted(set(tokens)) == list(range(13))
