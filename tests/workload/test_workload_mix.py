"""Generated agents have the percentiles that they claim, and prompts that hold what came before."""

from __future__ import annotations

import tracemalloc
from math import isnan, sqrt
from pathlib import Path

import numpy as np
import pytest

from gsim.core import ConfigError, Session, Streams, TraceError, build, shared_tokens
from gsim.workload.arrivals import ArrivalConfig
from gsim.workload.generate.agent import SubAgents
from gsim.workload.generate.task_class import CLASSES
from gsim.workload.lengths import Lengths, Lognormal, Mixture, Percentiles

FIXED = build("slo", "fixed")
UNLIMITED = 2_000_000_000


def agents(name: str, requests: int = 20_000, **fields: object) -> list[Session]:
    fields.setdefault("max_context_tokens", UNLIMITED)
    return list(build("trace", "mix", classes=(name,), requests=requests, **fields).sessions(Streams(5), FIXED))


def assert_share_below(values: np.ndarray, value: float, share: float, effective: float) -> None:
    """``value`` is the ``share`` quantile, up to rounding to whole numbers and four standard errors."""
    slack = 4 * sqrt(share * (1 - share) / effective)
    assert (values < value - 0.5).mean() <= share + slack
    assert (values <= value + 0.5).mean() >= share - slack


#: Class -> field -> measured (p10, p50, p90, p99) as published.
MEASURED = {
    "code_agent_light": {
        "first": (1913, 2067, 2554.5, 4050),
        "append": (52, 386.5, 1172, 2168),
        "output": (60, 132, 291, 533),
        "turns": (6, 10, 15.5, 21),
    },
    "code_agent": {
        "first": (13232, 13385, 13816, 14584),
        "append": (44, 305, 1467, 11456),
        "output": (53, 145, 601, 1399),
        "turns": (18, 45, 92, 132.8),
    },
    "code_agent_production": {
        "first": (15495.6, 24259, 260200.8, 716534),
        "append": (230, 713, 4213, 58063),
        "output": (104, 217, 895, 3679),
        "turns": (7, 44, 148.9, 331),
    },
    "livecodebench": {"first": (355, 543.5, 820, 1195.7)},
    "text_to_sql": {"output": (25, 48, 85, 174)},
    "sql_agent": {"append": (13, 24, 120, 1126), "output": (9, 22, 51, 84.3), "turns": (2.3, 5, 10, 10)},
    "math": {"first": (61, 89, 175, 367)},
    "math_agent": {"first": (36, 55, 89, 124)},
    "tool_agent": {"first": (3050, 3058, 3075, 3086), "output": (23, 64, 154, 302), "turns": (5, 11, 20, 30)},
    "chat": {"first": (207, 1020, 2734.5, 4142), "output": (54, 129, 424, 601)},
}


def drawn(sessions: list[Session]) -> dict[str, np.ndarray]:
    append = [
        later.request.prompt_tokens - job.request.prompt_tokens - job.output_tokens
        for session in sessions
        for job, later in zip(session.jobs, session.jobs[1:], strict=False)
    ]
    return {
        "first": np.array([session.jobs[0].request.prompt_tokens for session in sessions]),
        "append": np.array(append),
        "output": np.array([job.output_tokens for session in sessions for job in session.jobs]),
        "turns": np.array([len(session.jobs) for session in sessions]),
    }


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_its_measured_percentiles(name: str) -> None:
    sessions = agents(name)
    values = drawn(sessions)
    for field, percentiles in MEASURED[name].items():
        for share, value in zip((0.1, 0.5, 0.9, 0.99), percentiles, strict=True):
            assert_share_below(values[field], value, share, len(values[field]))


def test_every_class_has_a_source_and_room_for_its_outputs() -> None:
    assert set(MEASURED) == set(CLASSES)
    for task in CLASSES.values():
        assert len(task.source) > 20
        assert task.max_output_tokens >= task.output_tokens.mean()


@pytest.mark.parametrize("name", ["livecodebench", "math"])
def test_reasoning_outputs_have_their_mean(name: str) -> None:
    sessions = agents(name)
    outputs = drawn(sessions)["output"]
    # Lognormal of mean 13,000 and sigma 0.8, cut at 32,768 tokens as the server cuts it: that takes 8 % of the mean.
    raw = CLASSES[name].output_tokens.sample(np.random.default_rng(1), 200_000)
    assert raw.mean() == pytest.approx(13_000, rel=0.02)
    assert outputs.max() == 32_768
    assert outputs.mean() == pytest.approx(np.minimum(raw, 32_768).mean(), rel=0.03)


def test_math_agents_split_their_output() -> None:
    totals = np.array([sum(job.output_tokens for job in session.jobs) for session in agents("math_agent")])
    for share, value in ((0.1, 133), (0.5, 179), (0.9, 243.2), (0.99, 321.7)):
        assert_share_below(totals, value, share, len(totals))


#: Prefix that turns after the first share with what their session sent, weighted by tokens, as measured.
@pytest.mark.parametrize(("name", "measured"), [("code_agent_light", 0.902), ("code_agent", 0.986)])
def test_prompts_hold_what_came_before(name: str, measured: float) -> None:
    reused = tokens = 0
    for session in agents(name, 5000):
        for job, later in zip(session.jobs, session.jobs[1:], strict=False):
            history = (*job.request.content, (job.output_segment, job.output_tokens))
            assert later.request.content[: len(history)] == history
            assert later.after[0].request_id == job.request.request_id
            reused += shared_tokens(history, later.request.content)
            tokens += later.request.prompt_tokens
    assert reused / tokens == pytest.approx(measured, abs=0.03)


def test_sessions_of_a_class_share_their_system_prompt_and_databases() -> None:
    first, second = (session.jobs[0].request.content for session in agents("tool_agent", 100)[:2])
    assert shared_tokens(first, second) == 3000
    openings = [session.jobs[0].request.content for session in agents("text_to_sql", 2000)]
    databases = {content[0] for content in openings}
    assert len(databases) == 11
    # A question's own part is on average 0.15 of its prompt.
    own = sum(content[1][1] for content in openings) / sum(size for content in openings for _, size in content)
    assert own == pytest.approx(0.15, abs=0.01)


def test_contexts_stay_within_the_limit_and_the_rate_is_kept() -> None:
    trace = build("trace", "mix", requests=30_000, rate_per_s=40.0, max_context_tokens=6000)
    sessions = list(trace.sessions(Streams(3), FIXED))
    jobs = [job for session in sessions for job in session.jobs]
    assert all(job.request.prompt_tokens + job.request.max_output_tokens <= 6000 for job in jobs)
    sizes = np.array([len(session.jobs) for session in sessions])
    error = 4 * sqrt((1 + (sizes.std() / sizes.mean()) ** 2) * (1 / len(sizes) + 1 / 5000))
    assert len(jobs) / sessions[-1].arrival_s == pytest.approx(40.0, rel=error)
    assert {job.request.task for job in jobs} == {"code_agent_light", "sql_agent", "math_agent", "tool_agent"}


def test_without_weights_every_class_sends_as_many_requests() -> None:
    sessions = list(build("trace", "mix", requests=40_000).sessions(Streams(1), FIXED))
    tasks = [job.request.task for session in sessions for job in session.jobs]
    for name in ("code_agent_light", "sql_agent", "math_agent", "tool_agent"):
        assert tasks.count(name) / len(tasks) == pytest.approx(0.25, abs=0.015)


def test_weights_are_shares_of_the_sessions() -> None:
    trace = build("trace", "mix", requests=30_000, classes=("chat", "math_agent"), weights=(1.0, 3.0))
    tasks = [session.jobs[0].request.task for session in trace.sessions(Streams(0), FIXED)]
    assert tasks.count("math_agent") / len(tasks) == pytest.approx(0.75, abs=4 * sqrt(0.75 * 0.25 / len(tasks)))


def test_another_class_moves_no_numbers_of_the_first() -> None:
    alone = drawn(agents("chat", 2000))
    both = build("trace", "mix", requests=4000, classes=("chat", "tool_agent"), max_context_tokens=UNLIMITED)
    chats = [s for s in both.sessions(Streams(5), FIXED) if s.jobs[0].request.task == "chat"]
    seen = drawn(chats)
    for field, values in seen.items():
        n = min(len(values), len(alone[field]))
        assert (values[:n] == alone[field][:n]).all(), field


def test_sub_agents_start_together_and_are_joined() -> None:
    sessions = agents("tool_agent", 2000, sub_agents=SubAgents(probability=0.5, width=3, turns=2))
    spawned = 0
    for session in sessions:
        first_id = session.jobs[0].request.request_id
        for job in session.jobs:
            assert isnan(job.request.arrival_s) == bool(job.after)
            parents = [dependency.request_id - first_id for dependency in job.after]
            if len(parents) == 3:
                spawned += 1
                # Each joined chain of two turns goes back to the one turn that called them all.
                roots = set()
                for parent in parents:
                    (before,) = session.jobs[parent].after
                    (root,) = session.jobs[before.request_id - first_id].after
                    roots.add(root.request_id)
                assert len(roots) == 1
    turns = sum(len(session.jobs) for session in sessions)
    # Of t turns of an agent, t - 1 can call (half do) 6 sub-agent turns.
    agents_turns = turns - 6 * spawned
    assert spawned / (agents_turns - len(sessions)) == pytest.approx(0.5, abs=0.06)


def test_memory_stays_flat_while_streaming() -> None:
    for trace in (
        build("trace", "paper", requests=200_000, rate_per_s=1000.0),
        build("trace", "mix", requests=30_000, rate_per_s=1000.0),
    ):
        stream = trace.sessions(Streams(0), FIXED)
        requests = sum(len(next(stream).jobs) for _ in range(2000))
        tracemalloc.start()
        try:
            for session in stream:
                requests += len(session.jobs)
            held, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert requests >= 30_000
        # A block of draws and the session at hand: far below a byte per request.
        assert peak < 1_500_000
        assert held < 1_000_000


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"classes": ("poetry",)}, "unknown task class 'poetry'"),
        ({"classes": ()}, "at least one task class"),
        ({"weights": (1.0,)}, "one entry per class"),
        ({"weights": (0.0, 0.0, 0.0, 0.0)}, "one of them positive"),
        ({"rate_per_s": 0.0}, "rate_per_s must be positive"),
        ({"requests": None}, "never end"),
        ({"sub_agents": SubAgents(probability=2.0)}, "probability must be in"),
    ],
)
def test_wrong_options_are_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        build("trace", "mix", **fields)


def test_a_context_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves no room"):
        agents("code_agent", 10, max_context_tokens=8192)


@pytest.mark.parametrize(
    "lengths",
    [
        Percentiles.of(10, 100, 500, 5000),
        Lognormal.through(100, 300),
        Mixture(((0.3, Lognormal(1.0, 0.5)), (0.7, Percentiles.of(1, 2, 30, 400)))),
    ],
)
def test_means_agree_with_draws(lengths: Lengths) -> None:
    draws = lengths.sample(np.random.default_rng(0), 400_000)
    assert lengths.mean() == pytest.approx(draws.mean(), abs=5 * draws.std() / sqrt(len(draws)))


def test_servegen_lengths_have_the_recorded_quantiles(shared: Path) -> None:
    path = str(shared / "data/traces/servegen_deepseek_r1_quantiles.csv.gz")
    trace = build("trace", "servegen", path=path, requests=20_000)
    jobs = [session.jobs[0] for session in trace.sessions(Streams(0), FIXED)]
    prompts = np.array([job.request.prompt_tokens for job in jobs])
    outputs = np.array([job.output_tokens for job in jobs])
    # ServeGen deepseek-r1: p50, p90, p99 of inputs and outputs.
    for values, published in ((prompts, (208, 2092, 23_423)), (outputs, (792, 3432, 12_607))):
        for share, value in zip((0.5, 0.9, 0.99), published, strict=True):
            slack = 4 * sqrt(share * (1 - share) / len(values)) + 0.001
            assert abs((values <= value).mean() - share) < slack
    assert abs(np.corrcoef(prompts, outputs)[0, 1]) < 0.05
    short = build("trace", "servegen", path=path, requests=2000, max_context_tokens=4096)
    assert all(
        j.request.prompt_tokens + j.output_tokens <= 4096 for s in short.sessions(Streams(0), FIXED) for j in s.jobs
    )


def test_broken_quantiles_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "q.csv"
    file.write_text("field,q,tokens\ninput_tokens,0.5,10\ninput_tokens,0.4,20\n")
    with pytest.raises(TraceError, match="row 3: q must rise"):
        next(build("trace", "servegen", path=str(file)).sessions(Streams(0), FIXED))
    file.write_text("field,q,tokens\ninput_tokens,0.5,10\ninput_tokens,0.6,20\n")
    with pytest.raises(TraceError, match="two quantiles of output_tokens"):
        next(build("trace", "servegen", path=str(file)).sessions(Streams(0), FIXED))


def test_bursty_sessions_keep_their_lengths() -> None:
    calm, bursty = (
        list(build("trace", "mix", requests=2000, arrivals=arrivals).sessions(Streams(0), FIXED))
        for arrivals in (ArrivalConfig(), ArrivalConfig("gamma", cv=4.0))
    )
    assert [len(s.jobs) for s in calm] == [len(s.jobs) for s in bursty]
    gaps = [np.diff([s.arrival_s for s in sessions]) for sessions in (calm, bursty)]
    assert gaps[1].std() / gaps[1].mean() > 2 * gaps[0].std() / gaps[0].mean()
