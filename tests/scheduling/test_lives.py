"""Whatever happens to an engine under a policy that decides in every iteration: all blocks come back."""

from __future__ import annotations

import math
import random

import pytest
from engine_cases import AffineTime, drain, job, limits

from gsim.core import entries
from gsim.core.scheduling import Forecast
from gsim.engine import make_engine
from gsim.engine.ordering import decides_each_iteration, policy_of

PLANNERS = [name for name in entries("scheduler") if decides_each_iteration(policy_of(limits(policy=name)))]


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("caching", [True, False])
def test_blocks_return_and_everybody_ends_once(name, caching):
    preempted = 0
    for seed in range(6):
        rng = random.Random(seed)
        tight = {"kv_blocks": 24, "max_model_len": 200, "max_num_seqs": 6, "max_num_batched_tokens": 64}
        engine = make_engine(
            "decode_clock", AffineTime(), limits(policy=name, prefix_caching=caching, kv_bytes_per_token=1e5, **tight)
        )
        now_s, live, events, aborted = 0.0, [], [], set()
        for number in range(25):
            now_s += rng.expovariate(10.0)
            output = rng.randint(1, 80)
            spread = tuple(sorted(rng.uniform(1.0, 100.0) for _ in range(10)))
            forecast = rng.choice([None, Forecast(40.0), Forecast(40.0, spread)])
            content = ((rng.randint(1, 2), rng.randint(1, 60)), (100 + number, 5)) if rng.random() < 0.5 else ()
            prompt = sum(tokens for _, tokens in content) or rng.randint(1, 80)
            new = job(number, now_s, prompt, output, content=content, slo_s=rng.choice([0.5, 5.0, math.inf]))
            engine.submit(new._replace(forecast=forecast), now_s)
            live.append(number)
            if rng.random() < 0.2:
                events += engine.advance(now_s)
                gone = rng.choice(live)
                if gone in engine.progress(now_s)[0]:
                    engine.abort(gone, now_s)
                    aborted.add(gone)
        events += drain(engine)
        ended = [event.request_id for event in events if event.kind in (1, 3)]
        assert sorted([*ended, *aborted]) == live
        assert engine.gauges(1e6) == (0, 0, 0.0)
        assert engine.power_s(1e6) <= engine.busy_s(1e6) * (1 + 1e-12)
        preempted += sum(event.kind == 2 for event in events)
    assert preempted or name == "past_future"
