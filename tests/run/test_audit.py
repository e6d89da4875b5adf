"""Every run is held to the invariants: what is broken in its rows ends it with the invariant's number."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from gsim.cluster import InstanceSpec, RunResult, Scenario, simulate
from gsim.core import Job, Request, Session, SimulationError, build
from gsim.engine import EngineConfig
from gsim.latency import constant_profile
from gsim.run import cell
from gsim.run.audit import audit


@pytest.fixture(scope="module")
def sound() -> RunResult:
    pool = (InstanceSpec("a", constant_profile(0.01), EngineConfig()),)
    scenario = Scenario(pool, build("router", "round_robin"), build("predictor", "oracle"), build("estimator", "ema"))
    load = (Session(i, 0.1 * i, (Job(Request(i, 0.1 * i, 50, 1000, 9.0, session_id=i), 20),)) for i in range(5))
    return simulate(scenario, load, 0)


@pytest.mark.parametrize(
    ("column", "value", "number"),
    [
        ("request_id", 1, 1),
        ("generated_tokens", 21, 2),
        ("generated_tokens", 0, 2),
        ("first_token_s", -1.0, 4),
        ("first_token_s", np.nan, 4),
        ("finished_s", 0.0, 4),
        ("ended_s", np.inf, 15),
        ("ended_s", np.nan, 15),
        ("cached_tokens", 16, 16),
        ("computed_tokens", 49, 16),
        ("recomputed_tokens", 50, 16),
        ("recomputed_tokens", -1, 16),
    ],
)
def test_a_broken_row_is_named(sound: RunResult, column: str, value: float, number: int) -> None:
    audit(sound)
    rows = {name: values.copy() for name, values in sound.requests.items()}
    rows[column][2] = value
    name = 1 if column == "request_id" else 2
    with pytest.raises(SimulationError, match=rf"invariant {number} does not hold \(request_id {name}, "):
        audit(replace(sound, requests=rows))


def test_an_answer_in_no_time_and_a_busy_second_too_many_are_named(sound: RunResult) -> None:
    rows = {name: values.copy() for name, values in sound.requests.items()}
    rows["finished_s"][2] = rows["first_token_s"][2]
    with pytest.raises(SimulationError, match="invariant 14 .*generated_tokens 20"):
        audit(replace(sound, requests=rows))
    for busy_s in (0.0, -1.0, sound.duration_s + 1.0, np.nan):
        with pytest.raises(SimulationError, match="invariant 14 .*instance a"):
            audit(replace(sound, instances=(replace(sound.instances[0], busy_s=busy_s),)))


@pytest.mark.parametrize("counter", ["retries", "moves_fell_back"])
def test_prompts_of_several_legs_are_no_fault(sound: RunResult, counter: str) -> None:
    rows = {name: values.copy() for name, values in sound.requests.items()}
    rows["computed_tokens"][2] += 30
    rows["recomputed_tokens"][2] = 30
    audit(replace(sound, requests=rows, counters={**sound.counters, counter: 1}))
    with pytest.raises(SimulationError, match="invariant 16"):
        audit(replace(sound, requests=rows))


def test_every_run_that_is_kept_is_looked_at(monkeypatch: pytest.MonkeyPatch, sound: RunResult) -> None:
    looked = []
    monkeypatch.setattr(cell, "audit", looked.append)
    monkeypatch.setattr(cell, "run", lambda *_: sound)
    monkeypatch.setattr(cell, "with_window", lambda settings: settings)
    monkeypatch.setattr(cell, "summary_of", lambda *_: {"metrics": {"requests": 1}})
    settings = SimpleNamespace(limit=SimpleNamespace(on_the_wall=nullcontext))
    shelf = SimpleNamespace(take=lambda *_: (None, None))
    cell.finish(settings, 0, shelf)  # type: ignore[arg-type]
    assert looked == [sound]
