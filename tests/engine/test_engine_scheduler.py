"""One rule of vLLM's scheduler at a time, on both engines; and where an engine must not follow vLLM."""

from __future__ import annotations

import pytest
from engine_cases import AffineTime, drain, job, limits

from gsim.core import EngineEvent, EventKind, SimulationError
from gsim.engine.conformance import limits_of, replay
from gsim.engine.decode_clock import DecodeClockEngine
from gsim.engine.iteration_time import with_scheduling
from gsim.engine.kv.block_pool import BlockPool
from gsim.engine.scheduler import Scheduler
from gsim.engine.sequence import make_sequence
from gsim.engine.stepwise import StepwiseEngine

ENGINES = [StepwiseEngine, DecodeClockEngine]
CONSTANT = AffineTime(1.0, 0.0, 0.0, 0.0)


def scheduler(**fields):
    within = limits(**fields)
    return Scheduler(within, BlockPool(within.kv_blocks, within.block_size, within.prefix_caching))


def add(to, number, prompt, output=5, **fields):
    made = make_sequence(job(number, 0.0, prompt, output, **fields), number, 0.0, 0, to.limits, to.pool)
    assert made is not None
    to.waiting.append(made)
    return made


def step(of):
    """Schedule, compute, and let the finished go; tokens by request id."""
    made = of.schedule()
    for sequence in made.scheduled:
        if sequence.computed == sequence.length:
            sequence.generated += 1
            if sequence.generated == sequence.stop:
                of.finish(sequence)
    return {sequence.request_id: tokens for sequence, tokens in made.scheduled.items()}, [
        sequence.request_id for sequence in made.preempted
    ]


def test_prompts_are_cut_to_the_budget_and_decodes_come_first():
    of = scheduler(max_num_batched_tokens=32)
    add(of, 0, 20)
    add(of, 1, 40)
    assert step(of)[0] == {0: 20, 1: 12}
    assert step(of)[0] == {0: 1, 1: 28}
    assert step(of)[0] == {0: 1, 1: 1}


def test_the_whole_prompt_must_fit_and_nobody_overtakes():
    of = scheduler(kv_blocks=4)
    add(of, 0, 30)
    add(of, 1, 40)
    add(of, 2, 1)
    assert step(of)[0] == {0: 30}
    assert step(of)[0] == {0: 1}


def test_the_last_admitted_is_preempted_and_nobody_is_admitted_in_that_step():
    of = scheduler(kv_blocks=6, prefix_caching=False)
    add(of, 0, 32, 20)
    add(of, 1, 32, 20)
    add(of, 2, 1)
    assert step(of)[0] == {0: 32, 1: 32, 2: 1}
    assert step(of) == ({0: 1, 1: 1}, [2])
    # The one block that came back is taken; the resumed request waits for room for all of its tokens.
    assert step(of)[0] == {0: 1, 1: 1}


def test_a_preempted_request_finds_its_own_blocks():
    of = scheduler(kv_blocks=5)
    first, second = add(of, 0, 32, 20), add(of, 1, 31, 20)
    for _ in range(3):
        tokens, preempted = step(of)
    assert preempted == [1]
    while 1 not in tokens:
        tokens, _ = step(of)
    # Its first block had survived; only the rest is computed again.
    assert first not in of.running
    assert tokens[1] == second.prompt + 2 - 16


def test_priority_admits_and_preempts_by_rank():
    of = scheduler(policy="priority", max_num_seqs=2, kv_blocks=4, prefix_caching=False)
    add(of, 0, 16, priority=1)
    add(of, 1, 16, priority=2)
    add(of, 2, 16, priority=0)
    assert step(of)[0] == {2: 16, 0: 16}
    of = scheduler(policy="priority", kv_blocks=4, prefix_caching=False)
    add(of, 0, 32, priority=2)
    assert step(of)[0] == {0: 32}
    add(of, 1, 16, priority=1)
    # The one that runs takes a third block, the new one the last; then the lower rank has to go.
    assert step(of)[0] == {0: 1, 1: 16}
    assert step(of) == ({1: 1}, [0])


def test_threshold_cuts_long_prompts_only_in_company():
    of = scheduler(long_prefill_token_threshold=10)
    add(of, 0, 30)
    assert step(of)[0] == {0: 30}
    of = scheduler(long_prefill_token_threshold=10)
    add(of, 0, 30)
    add(of, 1, 30)
    assert step(of)[0] == {0: 10, 1: 10}


def test_a_named_and_a_nameless_life_are_scheduled_alike():
    """Requests that share nothing may be named or not: the schedule is the same, preemption and recompute included."""
    for caching in (True, False):
        histories = []
        for named in (True, False):
            of = scheduler(kv_blocks=14, max_num_batched_tokens=64, prefix_caching=caching)
            history = []
            for number in range(14):
                prompt = 5 + 7 * number % 60
                add(of, number, prompt, 40, content=((number, prompt),) if named else ())
            while of.running or of.waiting:
                history.append(step(of))
            histories.append(history)
        assert histories[0] == histories[1]
        assert any(preempted for _, preempted in histories[0])


@pytest.mark.parametrize("engine_type", ENGINES)
def test_a_life_of_two_requests(engine_type):
    engine = engine_type(CONSTANT, limits())
    engine.submit(job(0, 0.0, 20, 3), 0.0)
    engine.submit(job(1, 1.5, 20, 2), 1.5)
    assert engine.gauges(1.5)[:2] == (1, 1)
    assert engine.progress(1.5) == ([0, 1], [1, 0])
    assert drain(engine) == [
        EngineEvent(1.0, EventKind.FIRST_TOKEN, 0, 1),
        EngineEvent(3.0, EventKind.FINISHED, 0, 3),
        EngineEvent(3.0, EventKind.FIRST_TOKEN, 1, 1),
        EngineEvent(4.0, EventKind.FINISHED, 1, 2),
    ]
    assert engine.busy_s(10.0) == 4.0


@pytest.mark.parametrize("engine_type", ENGINES)
def test_what_can_never_run_is_rejected(engine_type):
    engine = engine_type(CONSTANT, limits(kv_blocks=4, max_model_len=100))
    engine.submit(job(0, 0.0, 100), 0.0)
    engine.submit(job(1, 0.0, 65), 0.0)
    assert engine.next_event_s() == 0.0
    assert engine.advance(0.0) == [
        EngineEvent(0.0, EventKind.REJECTED, 0),
        EngineEvent(0.0, EventKind.REJECTED, 1),
    ]
    # It fits at first, and outgrows the whole pool: vLLM would block its queue with it forever.
    engine.submit(job(2, 1.0, 60, 30), 1.0)
    events = drain(engine)
    assert events[-1] == EngineEvent(6.0, EventKind.REJECTED, 2, 5)
    assert engine.gauges(7.0) == (0, 0, 0.0)


@pytest.mark.parametrize("engine_type", ENGINES)
def test_output_ends_at_the_limits(engine_type):
    engine = engine_type(CONSTANT, limits(max_model_len=25))
    engine.submit(job(0, 0.0, 20, 100), 0.0)
    engine.submit(job(1, 0.0, 20, 100, max_output_tokens=3), 0.0)
    finished = {event.request_id: event.generated_tokens for event in drain(engine) if event.kind == 1}
    assert finished == {0: 5, 1: 3}


@pytest.mark.parametrize("engine_type", ENGINES)
def test_abort_returns_progress_and_frees_at_the_boundary(engine_type):
    engine = engine_type(CONSTANT, limits(kv_blocks=10))
    engine.submit(job(0, 0.0, 32, 50), 0.0)
    engine.submit(job(1, 0.0, 32, 50), 0.0)
    assert [event.time_s for event in engine.advance(2.5)] == [1.0, 1.0]
    assert engine.abort(0, 2.5)[:2] == (2, 33)
    assert engine.gauges(2.6)[:2] == (2, 0)
    assert engine.progress(2.6) == ([1], [2])
    assert engine.gauges(3.0) == (1, 0, 0.3)
    with pytest.raises(KeyError):
        engine.abort(0, 3.0)
    assert {event.request_id for event in drain(engine)} == {1}


@pytest.mark.parametrize("engine_type", ENGINES)
def test_kv_that_arrives_with_a_request_is_not_computed(engine_type):
    engine = engine_type(AffineTime(0.0, 1.0, 0.0, 0.0), limits())
    engine.submit(job(0, 0.0, 100, 2), 0.0, kv_tokens=90)
    engine.submit(job(1, 0.0, 100, 1), 0.0, kv_tokens=1000)
    assert [event.time_s for event in drain(engine)] == [11.0, 11.0, 11.0, 12.0]


@pytest.mark.parametrize("engine_type", ENGINES)
def test_prefix_hits_are_told_with_the_first_token(engine_type):
    engine = engine_type(AffineTime(0.0, 1.0, 0.0, 0.0), limits())
    engine.submit(job(0, 0.0, 64, 17, content=((1, 64),), output_segment=2), 0.0)
    end_s = drain(engine)[-1].time_s
    engine.submit(job(1, end_s, 100, 1, content=((1, 64), (2, 17), (3, 19))), end_s)
    first = drain(engine)[0]
    # The prompt and the 16 output tokens whose KV exists: five blocks.
    assert (first.cached_tokens, first.time_s) == (80, end_s + 20.0)


@pytest.mark.parametrize("engine_type", ENGINES)
def test_content_must_add_up(engine_type):
    engine = engine_type(CONSTANT, limits())
    with pytest.raises(SimulationError, match="request 0: its content has 5 tokens, its prompt 6"):
        engine.submit(job(0, 0.0, 6, content=((1, 5),)), 0.0)


@pytest.mark.parametrize("engine_type", ENGINES)
def test_speed_changes_with_the_next_iteration(engine_type):
    engine = engine_type(CONSTANT, limits())
    engine.submit(job(0, 0.0, 20, 4), 0.0)
    engine.set_speed(0.5, 1.5)
    assert [event.time_s for event in drain(engine)] == [1.0, 6.0]


def test_scheduling_time_is_added_or_hidden():
    gpu = AffineTime(1.0, 0.0, 0.01, 0.0)
    added = with_scheduling(gpu, limits(cpu_schedule_s=0.2, async_scheduling=False))
    hidden = with_scheduling(gpu, limits(cpu_schedule_s=1.5, async_scheduling=True))
    assert with_scheduling(gpu, limits()) is gpu
    for model, one_s in ((added, lambda gpu_s: gpu_s + 0.2), (hidden, lambda gpu_s: max(gpu_s, 1.5))):
        run_s = sum(one_s(1.0 + 0.01 * (40 + 2 * i)) for i in range(30))
        assert model.decode_run_s(2, 40, 0, 30) == pytest.approx(run_s, rel=1e-12)
        assert model.decode_run_iterations(2, 40, 0, run_s * (1 + 1e-12)) == 30
        assert model.decode_run_iterations(2, 40, 0, run_s * (1 - 1e-9)) == 29


def test_a_recording_states_its_limits():
    config = {
        "max_num_seqs": 4,
        "max_num_batched_tokens": 32,
        "block_size": 16,
        "num_blocks": 11,
        "max_model_len": 64,
        "prefix_caching": False,
        "watermark": 0.1,
    }
    assert limits_of(config).kv_blocks == 10
    assert limits_of(config).watermark_blocks == 1
    assert replay({"config": config, "requests": [], "steps": []}, "stepwise") is None
