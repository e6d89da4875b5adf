"""The traces that studies start from: the paper's shape, Azure and Mooncake files, rescaling, skipping."""

from __future__ import annotations

import gzip
import json
from math import isinf, sqrt
from pathlib import Path

import numpy as np
import pytest

from gsim.core import ConfigError, Session, Streams, TraceError, build

STREAMS = Streams(7)
FIXED = build("slo", "fixed", seconds=6.0)


def replay(trace: object, slo: object = FIXED, seed: int = 7) -> list[Session]:
    return list(trace.sessions(Streams(seed), slo))  # type: ignore[attr-defined]


def assert_well_formed(sessions: list[Session]) -> None:
    expected = 0
    last_s = 0.0
    for number, session in enumerate(sessions):
        assert session.session_id == number
        assert session.arrival_s >= last_s
        last_s = session.arrival_s
        earlier: set[int] = set()
        for turn, job in enumerate(session.jobs):
            request = job.request
            assert (request.request_id, request.session_id, request.turn) == (expected, number, turn)
            assert 1 <= job.output_tokens <= request.max_output_tokens
            assert request.prompt_tokens >= 1
            assert request.slo_s > 0
            if request.content:
                assert sum(tokens for _, tokens in request.content) == request.prompt_tokens
                assert all(tokens > 0 for _, tokens in request.content)
            assert all(dependency.request_id in earlier for dependency in job.after)
            assert np.isnan(request.arrival_s) if job.after else request.arrival_s == session.arrival_s
            earlier.add(expected)
            expected += 1


def test_paper_has_its_shape() -> None:
    sessions = replay(build("trace", "paper", rate_per_s=20.0, requests=20_000))
    assert_well_formed(sessions)
    outputs = np.array([s.jobs[0].output_tokens for s in sessions])
    assert (outputs.min(), outputs.max()) == (100, 500)
    # Uniform on [100, 500]: mean 300, standard deviation sqrt((401^2 - 1) / 12) = 115.8; four standard errors.
    assert abs(outputs.mean() - 300) < 4 * sqrt((401**2 - 1) / 12 / len(outputs))
    gaps = np.diff([s.arrival_s for s in sessions])
    assert abs(gaps.mean() * 20.0 - 1) < 4 / sqrt(len(gaps))
    assert abs(gaps.std() / gaps.mean() - 1) < 0.05
    assert {s.jobs[0].request.prompt_tokens for s in sessions} == {100}
    assert all(isinf(s.slo_s) for s in sessions)


def test_same_seed_same_trace_and_lengths_do_not_depend_on_rate() -> None:
    slow, again = (replay(build("trace", "paper", rate_per_s=1.0, requests=500)) for _ in range(2))
    fast = replay(build("trace", "paper", rate_per_s=10.0, requests=500))
    assert slow == again
    assert [s.jobs[0].output_tokens for s in slow] == [s.jobs[0].output_tokens for s in fast]
    assert np.allclose([s.arrival_s for s in slow], [10 * s.arrival_s for s in fast])
    assert replay(build("trace", "paper", requests=500), seed=8) != replay(build("trace", "paper", requests=500))


def test_paper_stops_at_its_duration() -> None:
    sessions = replay(build("trace", "paper", rate_per_s=50.0, requests=None, duration_s=10.0))
    assert abs(len(sessions) - 500) < 4 * sqrt(500)
    assert sessions[-1].arrival_s <= 10.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rate_per_s", 0.0),
        ("rate_per_s", float("nan")),
        ("requests", 0),
        ("prompt_tokens", 0),
        ("shortest_output_tokens", 600),
        ("max_output_tokens", 499),
        ("duration_s", -1.0),
    ],
)
def test_paper_refuses_what_it_cannot_do(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"trace.{field}"):
        build("trace", "paper", **{field: value})


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"


def azure(tmp_path: Path, *rows: str, **fields: object) -> object:
    file = tmp_path / "azure.csv"
    file.write_text(AZURE + "".join(f"{row}\r\n" for row in rows))
    return build("trace", "azure", path=str(file), **fields)


def test_azure_row_by_row(tmp_path: Path) -> None:
    trace = azure(
        tmp_path,
        "2023-11-16 18:15:46.6805900,374,44",
        "2024-05-10 00:00:00.009930+00:00,2162,5",
    )
    first, second = replay(trace)
    assert first.arrival_s == 0.0
    assert first.jobs[0].request.prompt_tokens == 374
    assert first.jobs[0].output_tokens == 44
    # 176 days less 18:15:46.6805900, plus 9.93 ms
    assert second.arrival_s == pytest.approx(176 * 86400 - 65746.68059 + 0.00993, abs=1e-6)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2023-11-16 18:15:47,-1,44", "ContextTokens must be in"),
        ("2023-11-16 18:15:47,0,44", "ContextTokens must be in"),
        ("2023-11-16 18:15:47,10000001,44", "ContextTokens must be in"),
        ("2023-11-16 18:15:47,nan,44", "ContextTokens must be a finite number"),
        ("2023-11-16 18:15:47,3.5,44", "whole number"),
        ("2023-11-16 18:15:47,many,44", "must be a number"),
        ("2023-11-16 18:15:47,3", "2 fields where the header has 3"),
        ("noon,3,4", "TIMESTAMP must look like"),
        ("2023-11-16 18:15:45,3,4", "time runs back"),
        ("2023-11-16 18:15:46.0,3,4", "the same time twice"),
    ],
)
def test_bad_rows_are_refused_or_skipped_and_counted(tmp_path: Path, row: str, reason: str) -> None:
    rows = ("2023-11-16 18:15:46,374,44", row, "2023-11-16 18:15:48,3,4")
    with pytest.raises(TraceError, match=reason) as refused:
        replay(azure(tmp_path, *rows))
    assert refused.value.row == 3
    assert refused.value.path.endswith("azure.csv")
    trace = azure(tmp_path, *rows, on_error="skip")
    assert len(replay(trace)) == 2
    assert trace.report.skipped == 1  # type: ignore[attr-defined]
    assert reason in trace.report.reasons[0]  # type: ignore[attr-defined]


def test_empty_missing_and_headless_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no request to replay"):
        replay(azure(tmp_path))
    with pytest.raises(TraceError, match="No such file"):
        replay(build("trace", "azure", path=str(tmp_path / "none.csv")))
    file = tmp_path / "other.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(TraceError, match="no column 'TIMESTAMP'"):
        replay(build("trace", "azure", path=str(file)))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress((AZURE * 500).encode())[:-20])
    with pytest.raises(TraceError, match="cannot be read"):
        replay(build("trace", "azure", path=str(tmp_path / "cut.csv.gz"), on_error="skip"))


def test_rescaling_gives_the_rate_asked_for(shared: Path) -> None:
    path = str(shared / "data/traces/azure2023_code.csv.gz")
    recorded = replay(build("trace", "azure", path=path))
    assert_well_formed(recorded)
    assert len(recorded) == 8819
    for fields in ({"rate_per_s": 10.0}, {"rate_scale": 10.0 * recorded[-1].arrival_s / 8819}):
        scaled = replay(build("trace", "azure", path=path, **fields))
        assert len(scaled) / scaled[-1].arrival_s == pytest.approx(10.0)
        factor = recorded[-1].arrival_s / scaled[-1].arrival_s
        assert np.allclose([s.arrival_s * factor for s in scaled], [s.arrival_s for s in recorded])
    assert len(replay(build("trace", "azure", path=path, limit=100))) == 100


def test_overlaid_arrivals_keep_the_rows(shared: Path) -> None:
    path = str(shared / "data/traces/azure2023_code.csv.gz")
    fields = {"path": path, "limit": 4000, "rate_per_s": 8.0}
    from gsim.workload import ArrivalConfig

    overlaid = replay(build("trace", "azure", arrivals=ArrivalConfig("poisson"), **fields))
    recorded = replay(build("trace", "azure", **fields))
    assert [s.jobs[0].request.prompt_tokens for s in overlaid] == [s.jobs[0].request.prompt_tokens for s in recorded]
    assert len(overlaid) / overlaid[-1].arrival_s == pytest.approx(8.0, rel=4 / sqrt(4000))


def test_declared_limit_hides_the_true_length_and_cuts(tmp_path: Path) -> None:
    trace = azure(tmp_path, "2023-11-16 18:15:46,374,44", "2023-11-16 18:15:47,3,400", max_output_tokens=100)
    jobs = [s.jobs[0] for s in replay(trace)]
    assert [job.request.max_output_tokens for job in jobs] == [100, 100]
    assert [job.output_tokens for job in jobs] == [44, 100]
    assert trace.report.truncated == 1  # type: ignore[attr-defined]
    short = azure(tmp_path, "2023-11-16 18:15:46,374,44", "2023-11-16 18:15:47,3,400", max_context_tokens=410)
    assert len(replay(short)) == 1
    assert short.report.too_long == 1  # type: ignore[attr-defined]


def test_conflicting_options_are_refused() -> None:
    from gsim.workload import ArrivalConfig

    with pytest.raises(ConfigError, match="rate_scale"):
        build("trace", "azure", path="x", rate_scale=2.0, rate_per_s=1.0)
    with pytest.raises(ConfigError, match="rate_per_s is needed"):
        build("trace", "azure", path="x", arrivals=ArrivalConfig("gamma"))
    with pytest.raises(ConfigError, match="no parameter of 'poisson'"):
        ArrivalConfig("poisson", cv=2.0)
    with pytest.raises(ConfigError, match="on_error"):
        build("trace", "azure", path="x", on_error="ignore")


def mooncake(tmp_path: Path, *rows: dict[str, object], **fields: object) -> object:
    file = tmp_path / "mooncake.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build("trace", "mooncake", path=str(file), **fields)


def test_mooncake_requests_share_their_blocks(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [0, 1]},
        {"timestamp": 3000, "input_length": 1200, "output_length": 7, "hash_ids": [0, 1, 2]},
    ]
    first, second = replay(mooncake(tmp_path, *rows))
    # Ids that count up are one piece.
    assert first.jobs[0].request.content == ((0, 1000),)
    assert second.jobs[0].request.content == ((0, 1200),)
    assert second.arrival_s == 3.0
    with pytest.raises(TraceError, match="hash_ids must name 3 blocks") as refused:
        replay(mooncake(tmp_path, rows[0], {**rows[1], "hash_ids": [0, 1]}))
    assert refused.value.row == 2


def test_mooncake_batches_are_spread_over_their_window(shared: Path) -> None:
    path = str(shared / "data/traces/mooncake_conversation_2000.jsonl.gz")
    spread = replay(build("trace", "mooncake", path=path))
    lumped = replay(build("trace", "mooncake", path=path, equal_times="allow"))
    assert_well_formed(spread)
    assert len(spread) == len(lumped) == 2000
    assert len({s.arrival_s for s in lumped}) < 300
    assert len({s.arrival_s for s in spread}) == 2000
    shift = np.array([s.arrival_s for s in spread]) - np.array([s.arrival_s for s in lumped])
    assert -3.0 < shift.min() <= shift.max() <= 3.0


def test_mooncake_sessions_continue_their_history(tmp_path: Path) -> None:
    rows = [
        {"session_id": "a", "timestamp": 0, "input_length": 150, "output_length": 20},
        {"session_id": "b", "timestamp": 500, "input_length": 10, "output_length": 2},
        {"session_id": "a", "delay": 250, "input_length": 200, "output_length": 30},
    ]
    a, b = replay(mooncake(tmp_path, *rows))
    assert_well_formed([a, b])
    first, second = a.jobs
    assert second.after == ((first.request.request_id, 0.25, True),)
    assert second.request.content[:2] == (*first.request.content, (first.output_segment, 20))
    assert second.request.prompt_tokens == 200
    assert a.slo_s == pytest.approx(6.0 + 0.25 + 6.0)
    delta = [
        {"session_id": "d", "timestamp": 10, "input_length": 8, "output_length": 4, "hash_ids": [1]},
        {"session_id": "d", "timestamp": 20, "delay": 5, "input_length": 8, "output_length": 4, "hash_ids": [202]},
    ]
    (session,) = replay(mooncake(tmp_path, *delta, variant="delta"))
    assert [job.request.prompt_tokens for job in session.jobs] == [8, 8 + 4 + 8]
    assert session.jobs[1].request.content[0] == (1, 8)


@pytest.mark.parametrize("name", ["fixed", "scaled", "per_class", "drawn"])
def test_every_objective_is_positive_and_repeats(name: str) -> None:
    trace = build("trace", "paper", requests=300)
    rule = build("slo", name)
    first, second = (replay(trace, rule) for _ in range(2))
    assert first == second
    assert all(0 < s.jobs[0].request.slo_s < 1e4 for s in first)


def test_scaled_objective_is_a_multiple_of_the_unloaded_latency() -> None:
    from gsim.latency import load_profile, unloaded_latency_s

    profile = load_profile("a40-llama-3.1-8b")
    rule = build("slo", "scaled", scale=3.0, profile="a40-llama-3.1-8b")
    for session in replay(build("trace", "paper", requests=20), rule):
        (job,) = session.jobs
        assert job.request.slo_s == pytest.approx(3 * unloaded_latency_s(profile, 100, job.output_tokens))


def test_drawn_objectives_have_their_percentiles() -> None:
    sessions = replay(build("trace", "paper", requests=20_000), build("slo", "drawn", median_s=5.0, p90_s=20.0))
    drawn = np.array([s.jobs[0].request.slo_s for s in sessions])
    # A share p of n draws lies below the p-quantile with standard error sqrt(p (1 - p) / n).
    for share, value in ((0.5, 5.0), (0.9, 20.0)):
        assert abs((drawn < value).mean() - share) < 4 * sqrt(share * (1 - share) / len(drawn))


def test_objectives_of_the_trace(tmp_path: Path) -> None:
    row = {"timestamp": 0, "input_length": 10, "output_length": 5}
    rule = build("slo", "trace")
    (session,) = replay(mooncake(tmp_path, {**row, "slo_ms": 1500}), rule)
    assert session.jobs[0].request.slo_s == 1.5
    with pytest.raises(ConfigError, match="slo.other_s"):
        replay(mooncake(tmp_path, row), rule)
    (session,) = replay(mooncake(tmp_path, row), build("slo", "trace", other_s=4.0))
    assert session.jobs[0].request.slo_s == 4.0
