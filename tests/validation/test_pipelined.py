from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsim.core import EventKind, InputError, Job, Request
from gsim.engine import EngineConfig, EngineLimits, make_engine
from gsim.latency import constant_profile, load_profile
from gsim.validation.pipelined import Loop, replay

PROFILE = constant_profile(1.0)


def limits(**options: int) -> EngineLimits:
    return EngineConfig(max_num_batched_tokens=256, max_num_seqs=8, **options).resolve(PROFILE)


def jobs(*rows: tuple[float, int, int]) -> list[Job]:
    return [Job(Request(i, t, prompt, output, 1e9), output) for i, (t, prompt, output) in enumerate(rows)]


def test_one_request_takes_its_iterations() -> None:
    result = replay(jobs((0.5, 300, 4)), PROFILE.latency, limits())
    assert (result.queued_s[0], result.scheduled_s[0]) == (0.5, 0.5)
    assert result.first_token_s[0] == 2.5
    assert result.last_token_s[0] == 5.5
    assert [(i.start_s, i.tokens) for i in result.iterations] == [(0.5, 256), (1.5, 44), (2.5, 1), (3.5, 1), (4.5, 1)]


def test_an_arrival_waits_for_the_iteration_that_is_already_scheduled() -> None:
    result = replay(jobs((0.0, 10, 20), (1.5, 10, 2)), PROFILE.latency, limits())
    # It comes during the second iteration; the third was scheduled at 1; so it runs in the fourth, from 3 to 4.
    assert result.queued_s[1] == 2.0
    assert result.first_token_s[1] == 4.0
    assert result.last_token_s[0] == 20.0


def test_blocks_return_one_iteration_late() -> None:
    # The pool holds one request; the first ends at 2, the iteration after that is empty and needs no time.
    result = replay(jobs((0.0, 100, 2), (0.0, 100, 2)), PROFILE.latency, limits(kv_blocks=8))
    assert result.last_token_s.tolist() == [2.0, 4.0]


def test_a_cold_server_holds_its_first_iteration() -> None:
    result = replay(jobs((0.0, 10, 3)), PROFILE.latency, limits(), first_launch_s=2.0)
    assert result.first_token_s[0] == 3.0
    assert result.last_token_s[0] == 5.0


def test_a_request_that_can_never_run_is_an_error() -> None:
    with pytest.raises(InputError, match="request 0 does not fit"):
        replay(jobs((0.0, 200, 2)), PROFILE.latency, limits(kv_blocks=8))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 500), st.integers(1, 60)), min_size=1, max_size=25),
    st.integers(36, 90),
)
def test_it_serves_everybody_at_most_an_iteration_per_event_later_than_the_engine(
    rows: list[tuple[float, int, int]], kv_blocks: int
) -> None:
    """Tokens and totals agree with the synchronous engine; a saturated engine needs about as many iterations."""
    profile = load_profile("a40-llama-3.1-8b")
    work = jobs(*sorted(rows))
    bounds = EngineConfig(kv_blocks=kv_blocks).resolve(profile)
    result = replay(work, profile.latency, bounds)
    engine = make_engine("stepwise", profile.latency, bounds)
    for job in work:
        engine.submit(job, job.request.arrival_s)
    finished = {e.request_id: e.time_s for e in engine.advance(1e6) if e.kind is EventKind.FINISHED}
    assert len(finished) == len(work)
    assert np.isfinite(result.last_token_s).all()
    order = (result.queued_s, result.scheduled_s, result.first_token_s, result.last_token_s)
    for earlier, later in pairwise(order):
        assert (earlier <= later).all()
    ends = np.array([i.end_s for i in result.iterations])
    starts = np.array([i.start_s for i in result.iterations])
    assert (starts[1:] >= ends[:-1]).all()
    assert result.last_token_s.max() <= 1.25 * max(finished.values()) + 0.5


def test_a_fork_goes_on_as_the_original_would_and_leaves_it_alone() -> None:
    """Preemptions, a full cache, named blocks: the fork and the original end at the same times."""
    profile = load_profile("a40-llama-3.1-8b")
    rows = [(0.05 * i, 60 + 37 * (i % 7), 20 + 11 * (i % 5)) for i in range(24)]
    work = [job._replace(request=job.request._replace(content=((i % 9, job.request.prompt_tokens),)))
            for i, job in enumerate(jobs(*rows))]  # fmt: skip
    bounds = EngineConfig(kv_blocks=40).resolve(profile)
    expected = replay(work, profile.latency, bounds)
    assert expected.preemptions.sum() > 0
    loop = Loop(work, profile.latency, bounds, 0.0)
    loop.run(0.5)
    fork = loop.fork()
    assert fork.run(np.inf).last_token_s.tolist() == expected.last_token_s.tolist()
    assert loop.run(np.inf).last_token_s.tolist() == expected.last_token_s.tolist()


def test_contents_can_be_changed_until_admission() -> None:
    loop = Loop(jobs((0.0, 100, 20), (0.0, 100, 2), (9.0, 100, 2)), PROFILE.latency, limits(kv_blocks=8), 0.0)
    loop.run(1.5)
    assert not loop.rename(0, ((5, 100),))
    assert loop.rename(1, ((5, 100),))
    assert loop.rename(2, ((5, 100),))
    assert np.isfinite(loop.run(np.inf).last_token_s).all()
