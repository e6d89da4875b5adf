"""Written traces read back as what they were."""

from __future__ import annotations

import json
import tempfile
from math import inf, nan
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsim.core import ConfigError, Dependency, Job, Request, Session, Streams, block_hashes, build
from gsim.workload.formats.writers import write_agentic_mooncake, write_mooncake, write_mooncake_requests

BLOCK = 4
TRACE_SLO = build("slo", "trace", other_s=1.0)


@st.composite
def graphs(draw: st.DrawFn, *, chain: bool = False) -> list[Session]:
    """Sessions of 1 to 4 jobs that share segments, and wait for earlier jobs of their session."""
    sessions = []
    request_id = 0
    arrival_ms = 0
    for number in range(draw(st.integers(1, 4))):
        if number:
            arrival_ms += draw(st.integers(0, 5000))
        jobs: list[Job] = []
        first_id = request_id
        for turn in range(draw(st.integers(1, 4))):
            content = tuple(draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=3)))
            after: tuple[Dependency, ...] = ()
            if turn:
                parents = {turn - 1} if chain else draw(st.sets(st.integers(0, turn - 1), min_size=1))
                after = tuple(
                    Dependency(first_id + p, draw(st.integers(0, 9000)) / 1e3, chain or draw(st.booleans()))
                    for p in sorted(parents)
                )
            request = Request(
                request_id,
                nan if after else arrival_ms / 1e3,
                sum(tokens for _, tokens in content),
                16384,
                draw(st.integers(1, 10_000)) / 1e3,
                draw(st.sampled_from(["chat", "sql_agent"])),
                number,
                turn,
                content,
            )
            jobs.append(Job(request, draw(st.integers(1, 500)), -1, after))
            request_id += 1
        slo_s = draw(st.integers(1, 90_000)) / 1e3 if len(jobs) > 1 else inf
        sessions.append(Session(number, arrival_ms / 1e3, tuple(jobs), slo_s))
    return sessions


def sharing(sessions: list[Session]) -> list[list[int]]:
    """For every request the first request that had each of its full blocks: what a prefix cache sees."""
    seen: dict[int, int] = {}
    return [
        [seen.setdefault(block, job.request.request_id) for block in block_hashes(job.request.content, BLOCK)]
        for session in sessions
        for job in session.jobs
    ]


def plain(session: Session) -> Session:
    """Without what a file names differently: segments; and without NaN, which equals nothing."""
    jobs = tuple(
        job._replace(request=job.request._replace(content=(), arrival_s=0.0), output_segment=-1) for job in session.jobs
    )
    return session._replace(jobs=jobs, arrival_s=round(session.arrival_s, 6))


def assert_same(before: list[Session], after: list[Session]) -> None:
    assert [plain(session) for session in before] == [plain(session) for session in after]
    assert sharing(before) == sharing(after)


@given(graphs())
@settings(max_examples=60)
def test_graphs_survive_agentic_mooncake(sessions: list[Session]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.jsonl.gz"
        requests = write_agentic_mooncake(sessions, file, block_size=BLOCK)
        assert requests == sum(len(session.jobs) for session in sessions)
        trace = build("trace", "agentic_mooncake", path=str(file))
        assert_same(sessions, list(trace.sessions(Streams(0), TRACE_SLO)))


@given(graphs(chain=True))
@settings(max_examples=60)
def test_chains_survive_mooncake(sessions: list[Session]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.jsonl"
        write_mooncake(sessions, file, block_size=BLOCK)
        trace = build(
            "trace", "mooncake", path=str(file), block_size=BLOCK, equal_times="allow", max_output_tokens=16384
        )
        assert_same(sessions, list(trace.sessions(Streams(0), TRACE_SLO)))


def request(request_id: int, arrival_s: float, turn: int = 0) -> Request:
    return Request(request_id, arrival_s, 10, 512, 3.0, "chat", 0, turn)


def test_turns_are_placed_in_time_for_open_loop_replayers(tmp_path: Path) -> None:
    long = Session(0, 0.0, (Job(request(0, 0.0), 100), Job(request(1, nan, 1), 5, -1, (Dependency(0, 2.0, True),))))
    sessions = [long, Session(1, 1.0, (Job(request(2, 1.0), 7),)), Session(2, 6.0, (Job(request(3, 6.0), 7),))]
    file = tmp_path / "flat.jsonl"
    assert write_mooncake_requests(sessions, file, tpot_s=0.03) == 4
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    # The second turn starts 2 s after 100 tokens of 0.03 s.
    assert [row["timestamp"] for row in rows] == [0, 1000, 5000, 6000]
    assert [row["output_length"] for row in rows] == [100, 7, 5, 7]
    assert [len(row["hash_ids"]) for row in rows] == [1, 1, 1, 1]
    assert len({tuple(row["hash_ids"]) for row in rows}) == 4


def test_a_graph_is_no_chain(tmp_path: Path) -> None:
    jobs = (
        Job(request(0, 0.0), 1),
        Job(request(1, nan, 1), 1, -1, (Dependency(0, 0.0, False),)),
    )
    with pytest.raises(ConfigError, match="no chain of turns"):
        write_mooncake([Session(0, 0.0, jobs)], tmp_path / "x.jsonl")
    with pytest.raises(ConfigError, match="block_size"):
        write_mooncake([], tmp_path / "x.jsonl", block_size=0)
