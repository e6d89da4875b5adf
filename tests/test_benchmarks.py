"""What the benchmarks count: a figure of speed is worth what its count of requests is."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.book import kept_bytes
from benchmarks.contexts import Clocked, agent_scenario
from benchmarks.mixed_attention import forms, launches, mixed
from benchmarks.mixed_attention import main as mixed_attention
from benchmarks.stand_ins import Options, hidden, record
from gsim.cluster import simulate
from gsim.core import Batch, Streams, build
from gsim.latency import load_profile
from gsim.validation.ground_truth import compare, replay_truth


def test_steady_state_counts_only_what_ended_between_the_marks() -> None:
    trace = build("trace", "mix", rate_per_s=10.0, requests=150)
    sessions = list(trace.sessions(Streams(0), build("slo", "fixed", seconds=6.0)))
    clocked = Clocked(sessions, from_s=4.0)
    result = simulate(agent_scenario(64, "round_robin"), iter(clocked), 0)
    timed = clocked.timed(result)
    last_before_s = max(session.arrival_s for session in sessions if session.arrival_s < 4.0)
    ended_s = result.requests["finished_s"]
    inside = (ended_s > last_before_s) & (ended_s <= sessions[-1].arrival_s)
    assert timed.requests == np.count_nonzero(inside)
    assert 0 < timed.requests < len(ended_s)
    assert 0 < timed.cached_fraction < 1
    assert timed.cpu_s > 0


def test_decodes_beside_a_chunk_are_told_from_the_chunk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", "512,0,0,0,50", "0,0,1,16,5"]
    # 8 decodes take 40 us alone and 70 beside the chunk.
    rows += ["0,0,8,1024,40", "512,0,8,1024,120", "512,0,1,16,58"]
    (tmp_path / "attention.csv").write_text("\n".join(rows))
    table = mixed(tmp_path / "attention.csv")
    assert table[["n_decode", "ratio"]].to_numpy().tolist() == [[8, 1.75]]
    assert table.sum_percent.iloc[0] == pytest.approx(-25.0)
    assert mixed_attention([str(tmp_path)]) == 0
    assert "1 launches, the sum is -25 % off" in capsys.readouterr().out


def test_the_rule_of_mixed_launches_is_told_from_others(tmp_path: Path) -> None:
    """Launches in which reading KV, and not starting to, takes 1.8 times as long beside a chunk."""
    lines = ["prefill_chunk,kv_prefill,n_decode,kv_decode,time_us"]
    chunks, decodes = {64: 10.0, 512: 90.0}, [(n, c) for n in (1, 8, 64) for c in (16, 1024, 8192)]
    for n, c in decodes:
        alone_us, kv_us = 12.0 + 0.001 * n * c, 0.001 * n * (c - 16)
        lines.append(f"0,0,{n},{c},{alone_us}")
        lines += [f"{p},0,{n},{c},{us + alone_us + 0.8 * kv_us}" for p, us in chunks.items()]
    lines += [f"{p},0,0,0,{us}" for p, us in chunks.items()]
    (tmp_path / "attention.csv").write_text("\n".join(lines))
    table = forms(launches(tmp_path / "attention.csv")).set_index("added")
    rule = table.loc["a factor on what of it grows with context"]
    assert rule.number == pytest.approx(0.8)
    assert rule.p90_percent == pytest.approx(0.0, abs=1e-6)
    assert table.drop(index=[rule.name, f"{rule.name}, by the number of decodes"]).p90_percent.min() > 5.0


def test_a_stand_in_hides_what_tables_do_not_hold(shared: Path, tmp_path: Path) -> None:
    profile = load_profile(shared / "data" / "profiles" / "operator" / "rtxpro6000-qwen3-32b-tp2")
    real, drawn = hidden(profile, np.random.default_rng(0))
    batch = Batch((), 8, 8 * 512, 512)
    assert real.latency.iteration_s(batch) != profile.latency.iteration_s(batch)
    assert {"overhead_ms", "attention", "message_us", "small_gb_per_s", "large_gb_per_s"} == drawn.keys()
    truth = record(tmp_path, real, Options(requests=5, rate_per_s=20.0), seed=0)
    assert len(truth.requests) == 5
    assert len(truth.assumed) > 3
    assert compare(truth, replay_truth(truth, real)).diff_percent.abs().max() < 0.1


@pytest.mark.parametrize("router", ["marginal", "block", "route_balance", "lodestar", "hexagent"])
def test_what_a_router_keeps_of_a_request_does_not_grow_with_the_pool(router: str) -> None:
    small, large = (kept_bytes(build("router", router), n, 10) / (10 * n) for n in (8, 64))
    assert large < 2 * small + 400
