"""``inspect`` and ``convert``: the published figures of the real files, and reuse as an engine finds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsim.core import EventKind, Job, Request, Session, Streams, build, shared_tokens
from gsim.engine import EngineConfig, make_engine
from gsim.latency import constant_profile
from gsim.workload.__main__ import main
from gsim.workload.formats.detect import detect
from gsim.workload.inspect.inspection import Inspection, inspect
from gsim.workload.inspect.reuse import InfiniteCache, SentBefore

FIXED = build("slo", "fixed")
Inspect = Callable[..., Inspection]


@pytest.fixture
def inspected(shared: Path) -> Inspect:
    def run(file: str, block_size: int = 16, **fields: object) -> Inspection:
        path = str(shared / "data/traces" / file)
        trace = build("trace", detect(path), path=path, **fields)
        return inspect(trace.sessions(Streams(0), FIXED), block_size)

    return run


def percentiles(values: np.ndarray) -> list[float]:
    return [round(float(value)) for value in np.percentile(values, (50, 90, 99))]


@pytest.mark.parametrize(
    ("file", "requests", "rate", "cv", "dispersion", "prompts", "outputs"),
    [
        ("azure2023_code.csv.gz", 8819, 2.57, 13.2, 164, (2048, 1469, 5188, 7436), (28, 13, 55, 251)),
        ("azure2023_conv.csv.gz", 19_366, 5.53, 1.09, 16, (1155, 1020, 2734, 4142), (211, 129, 424, 601)),
    ],
)
def test_azure_has_its_published_figures(
    inspected: Inspect,
    file: str,
    requests: int,
    rate: float,
    cv: float,
    dispersion: float,
    prompts: tuple[int, ...],
    outputs: tuple[int, ...],
) -> None:
    found = inspected(file)
    assert found.requests == found.sessions == requests
    assert found.rate_per_s == pytest.approx(rate, abs=0.005)
    assert found.gap_cv == pytest.approx(cv, abs=0.05)
    assert found.dispersion == pytest.approx(dispersion, abs=0.5)
    for name, published in (("prompts", prompts), ("outputs", outputs)):
        values = found.lengths(name)
        assert round(values.mean()) == published[0]
        assert percentiles(values) == list(published[1:])
    assert found.reuse == 0


def test_mini_swe_agent_has_its_published_figures(inspected: Inspect) -> None:
    found = inspected("lmcache_miniswe.csv.gz")
    assert (found.sessions, found.requests) == (20, 402)
    assert percentiles(found.lengths("prompts")) == [3890, 12_330, 39_429]
    assert percentiles(found.lengths("outputs")) == [95, 177, 291]
    assert percentiles(found.lengths("turns")) == [22, 30, 30]
    assert found.session_reuse == pytest.approx(0.921, abs=0.0005)


def test_coding_agents_reuse_what_their_rows_say(inspected: Inspect) -> None:
    found = inspected("claude_code_weka_60sessions.csv.gz")
    # 60 of 692 sessions (which resend 97.4 %); three rows of 4,144 have no output.
    assert (found.sessions, found.requests) == (60, 4141)
    assert found.session_reuse == pytest.approx(0.974, abs=0.005)
    assert percentiles(found.lengths("outputs"))[0] == pytest.approx(217, rel=0.1)


def test_mooncake_reuses_its_blocks(inspected: Inspect) -> None:
    found = inspected("mooncake_conversation_2000.jsonl.gz", 512, equal_times="allow")
    assert (found.sessions, found.rate_per_s) == (2000, pytest.approx(2.99, abs=0.005))
    # Counted apart, directly from hash_ids: prefix-contiguous, full blocks, of 27,442,292 prompt tokens.
    assert found.reuse == pytest.approx(0.29393, abs=0.0005)
    # Whole batches at steps of 3 s look bursty; spread over their window they are nearly Poisson.
    assert found.gap_cv > 2.5
    assert inspected("mooncake_conversation_2000.jsonl.gz", 512).gap_cv == pytest.approx(1.0, abs=0.1)


def test_prompts_with_text_are_read(inspected: Inspect) -> None:
    found = inspected("prompt_lengths.jsonl.gz")
    assert found.requests == 7799
    assert set(found.tasks) == {"sql_agent_gpt4", "tau_airline_gpt4o", "math_tora70b_gsm8k", "lcb_o1mini_visible"}
    # tau-bench airline as published: 11/20/30 turns (all 200 sessions; here 144).
    assert percentiles(np.asarray(found.tasks["tau_airline_gpt4o"].turns)) == [12, 20, 30]


pieces = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1, 2, 8, 16, 17, 40])), min_size=1, max_size=4)


@given(st.lists(pieces, min_size=1, max_size=8), pieces)
def test_longest_shared_prefix(sent: list[list[tuple[int, int]]], asked: list[tuple[int, int]]) -> None:
    known = SentBefore()
    for content in sent:
        known.add(tuple(content))
    assert known.shared(tuple(asked)) == max(shared_tokens(tuple(content), tuple(asked)) for content in sent)


@given(st.lists(st.tuples(pieces, st.integers(1, 40), st.booleans()), min_size=1, max_size=10))
@settings(max_examples=40)
def test_an_engine_with_endless_memory_hits_the_ideal_reuse(
    asked: list[tuple[list[tuple[int, int]], int, bool]],
) -> None:
    """One request after the other: the prefix cache of the engine finds exactly what the infinite cache says."""
    jobs = []
    for i, (content, output, continues) in enumerate(asked):
        if continues and jobs:
            before = jobs[-1]
            content = [*before.request.content, (before.output_segment, before.output_tokens), *content]
        prompt = sum(tokens for _, tokens in content)
        jobs.append(Job(Request(i, 0.0, prompt, 64, 1.0, content=tuple(content)), output, 100 + i))
    assert engine_hits(jobs) == ideal_hits(jobs)


def test_an_engine_hits_the_ideal_reuse_of_a_generated_mix() -> None:
    sessions = build("trace", "mix", requests=150).sessions(Streams(1), FIXED)
    jobs = [job for session in sessions for job in session.jobs]
    hits = engine_hits(jobs)
    assert hits == ideal_hits(jobs)
    assert sum(hits) > 0.6 * sum(job.request.prompt_tokens for job in jobs)


def ideal_hits(jobs: list[Job]) -> list[int]:
    cache = InfiniteCache(16)
    return [cache.reuse(job) for job in jobs]


def engine_hits(jobs: list[Job]) -> list[int]:
    profile = constant_profile(0.01)
    engine = make_engine("stepwise", profile.latency, EngineConfig(kv_blocks=1 << 22).resolve(profile))
    hits = []
    now_s = 0.0
    for job in jobs:
        engine.submit(job.arriving(now_s), now_s)
        now_s += 1000.0
        events = engine.advance(now_s)
        assert events[-1].kind is EventKind.FINISHED
        hits.append(next(event.cached_tokens for event in events if event.kind is EventKind.FIRST_TOKEN))
    return hits


def test_an_empty_inspection_has_no_figures_but_says_so() -> None:
    found = inspect(iter(()))
    assert np.isnan(found.rate_per_s)
    assert np.isnan(found.reuse)
    assert "requests              0" in found.lines()
    one = Session(0, 1.0, (Job(Request(0, 1.0, 10, 16, 1.0), 3),))
    assert np.isnan(inspect([one]).dispersion)


def test_inspect_prints_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["inspect", "format=mix", "requests=400", "classes=[sql_agent,chat]", "arrivals.name=gamma", "out=mix.png"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "resent in sessions" in out
    assert "sql_agent: prompts" in out
    assert (tmp_path / "mix.png").read_bytes().startswith(b"\x89PNG")


def test_converted_traces_inspect_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "graph.jsonl.gz", "format=mix", "requests=300", "seed=3"]) == 0
    assert main(["convert", "graph.jsonl.gz", "chain.jsonl", "to=mooncake"]) == 0
    assert main(["convert", "chain.jsonl", "flat.jsonl", "to=mooncake_requests", "block_size=16"]) == 0
    capsys.readouterr()
    figures = []
    for file in ("graph.jsonl.gz", "chain.jsonl", "flat.jsonl"):
        assert main(["inspect", file, "block_size=16"]) == 0
        lines = capsys.readouterr().out.splitlines()
        figures.append([line for line in lines if line.startswith(("requests", "prompt tokens", "output tokens"))])
    assert figures[0] == figures[1] == figures[2]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["inspect"], "FILE or format=NAME is needed"),
        (["inspect", "nowhere.csv"], "No such file"),
        (["inspect", "format=poem"], "unknown trace 'poem'"),
        (["inspect", "format=mix", "rate=3"], "no field 'rate'"),
        (["inspect", "format=mix", "requests=many"], "requests must be a whole number"),
        (["inspect", "format=mix", "requests=5", "seed=-1"], "seed must be a whole number"),
        (["inspect", "format=azure"], "missing 1 required keyword-only argument: 'path'"),
        (["inspect", "format=mix", "requests=9", "requests=8"], "given twice"),
        (["convert"], "convert needs OUT"),
        (["convert", "x.jsonl", "to=poem", "format=mix"], "to must be one of"),
        (["convert", "no/such/folder/x.jsonl", "format=mix", "requests=5"], "cannot be written"),
        (["inspect", "format=mix", "requests=50", "out=no/such/folder/x.png"], "cannot be written"),
    ],
)
def test_wrong_command_lines_are_explained(
    words: list[str],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert reason in capsys.readouterr().err


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert capsys.readouterr().err.count("usage:") == 2


def test_an_unknown_file_is_not_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.csv"
    file.write_text("a,b\n1,2\n")
    assert main(["inspect", str(file)]) == 2
    assert "unknown format; say format=NAME" in capsys.readouterr().err
