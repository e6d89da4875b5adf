"""Every trace format: what a row means, and that nothing but ``TraceError`` comes out of a broken file."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsim.cluster.door import Door
from gsim.core import Session, Streams, TraceError, build
from gsim.core.content import shared_tokens
from gsim.workload.arrivals import ArrivalConfig
from gsim.workload.formats.detect import detect

SLO = build("slo", "fixed", seconds=1.0)


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


AGENTIC_HEADER = {"schema": "dynamo.agentic_mooncake", "version": 2, "block_size": 4, "hash_id_scope": "local"}
ROOT = {"request_id": "root", "play_id": "p", "session_id": "r", "model": "m", "input_length": 6, "output_length": 2}
CHILD = {
    "request_id": "child",
    "play_id": "p",
    "session_id": "child",
    "model": "m",
    "input_length": 4,
    "output_length": 2,
    "hash_ids": [302],
    "not_before_ms": 0,
    "dependencies": [{"request_id": "root", "trigger": "dispatch", "delay_ms": 5, "relation": "spawn"}],
}
WEKA = {
    "id": "trace_0026",
    "block_size": 64,
    "hash_id_scope": "local",
    "tool_tokens": 11899,
    "system_tokens": 2765,
    "requests": [
        {"t": 0.0, "type": "n", "in": 130, "out": 22, "hash_ids": [1, 2], "api_time": 5.0, "think_time": 0.0},
        {"t": 8.0, "type": "n", "in": 200, "out": 22, "hash_ids": [1, 2, 3], "api_time": 2.0, "think_time": 3.0},
    ],
}
CHAT = {
    "input_length": 40,
    "output_length": 100,
    "type": "text",
    "turn": 1,
    "hash_ids": [1, 2, 3],
    "parent_chat_id": -1,
}


def span(operation: str, begin: int, end: int, tokens: int = 0, output: int = 0, **further: Any) -> Any:
    """A span from ``begin`` to ``end`` (tenths of a second), as OTLP JSON has it."""
    said = {"gen_ai.operation.name": {"stringValue": operation}, "gen_ai.conversation.id": {"stringValue": "c1"}}
    if output:
        said["gen_ai.usage.input_tokens"] = {"intValue": str(tokens)}
        said["gen_ai.usage.output_tokens"] = {"intValue": output}
    told = [{"key": key, "value": value} for key, value in said.items()]
    clock = 1_800_000_000_000_000_000
    times = {"startTimeUnixNano": str(clock + begin * 10**8), "endTimeUnixNano": str(clock + end * 10**8)}
    return {"traceId": "t", "spanId": f"s{begin}", **times, "attributes": told, **further}


def export(*spans: Any) -> Any:
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}


#: Two calls beside each other after the first one, a tool, and a last call that has waited for both.
OTEL = lines(
    export(span("chat", 35, 40, 500, 10), span("invoke_agent", 0, 40, 999, 99), span("chat", 0, 10, 100, 20)),
    export(span("chat", 12, 20, 130, 5), span("chat", 12, 30, 140, 6), span("execute_tool", 20, 25)),
    export(span("chat", 31, 32, status={"code": 2})),
)

#: One good file of each format: its text, and how many sessions and requests it holds.
GOOD: dict[str, tuple[str, int, int]] = {
    "azure": ("TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n", 1, 1),
    "mooncake": (lines({"timestamp": 27482, "input_length": 600, "output_length": 52, "hash_ids": [46, 47]}), 1, 1),
    "agentic_mooncake": (lines(AGENTIC_HEADER, {**ROOT, "hash_ids": [301, 302], "not_before_ms": 250}, CHILD), 1, 2),
    "weka": (json.dumps(WEKA), 1, 2),
    "table": ("time_s,prompt_tokens,output_tokens,session\n1,100,5,a\n2,9,1,b\n3,150,5,a\n", 2, 3),
    "otel": (OTEL, 1, 4),
    "agent_csv": (
        "sid,turn,t,input_tokens,output_tokens,prefix_tokens_session\na,0,10,100,20,0\na,1,12.6,150,20,90\nb,0,11,5,5,0\n",
        2,
        3,
    ),
    "qwen_bailian": (
        lines(
            {**CHAT, "chat_id": 55, "timestamp": 1.0},
            {**CHAT, "chat_id": 56, "timestamp": 1.0},
            {**CHAT, "chat_id": 159, "parent_chat_id": 55, "timestamp": 61.114, "turn": 2},
        ),
        2,
        3,
    ),
    "burstgpt": (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,s1,2,ChatGPT,472,18,490,Conversation log\n6,,1,ChatGPT,9,1,10,API log\n"
        "7,,1,GPT-4,9,0,9,API log\n30,s1,2,ChatGPT,500,18,518,Conversation log\n",
        2,
        3,
    ),
    "llmservingsim": (
        lines(
            {
                "session_id": "session_42",
                "arrival_time_ns": 4059740,
                "sub_requests": [
                    {"input_toks": 1472, "output_toks": 133, "tool_duration_ns": 127348767},
                    {"input_toks": 1605, "output_toks": 125, "tool_duration_ns": 0},
                ],
            },
            {"input_toks": 27369, "output_toks": 1626, "arrival_time_ns": 101537000},
        ),
        2,
        3,
    ),
    "sharegpt": (
        json.dumps(
            [
                {"id": "0", "conversations": [{"from": "gpt", "value": "left over"}]},
                {
                    "id": "1",
                    "conversations": [
                        {"from": "human", "value": "Hello!"},
                        {"from": "gpt", "value": "Hi! How can I help you?"},
                        {"from": "human", "value": "Count to 3."},
                        {"from": "gpt", "value": "1, 2, 3"},
                    ],
                },
            ],
            indent=1,
        ),
        1,
        2,
    ),
    "vllm_custom": (lines({"prompt": "What is the capital of India?", "output_tokens": 10}), 1, 1),
    "prompt_lengths": (
        lines(
            {"task": "sql", "session": "a", "turn": 0, "context_tokens": 50, "prompt": "Find it.", "output_tokens": 8},
            {"task": "sql", "session": "a", "turn": 1, "context_tokens": 70, "prompt": "Again.", "output_tokens": 9},
        ),
        1,
        2,
    ),
}


def read(tmp_path: Path, name: str, content: str | bytes, **fields: Any) -> list[Session]:
    file = tmp_path / f"{name}.trace"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(build("trace", name, path=str(file), **fields).sessions(Streams(0), SLO))


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_is_read_plain_and_gzipped_and_recognised(tmp_path: Path, name: str) -> None:
    content, sessions, requests = GOOD[name]
    plain = read(tmp_path, name, content)
    assert len(plain) == sessions
    assert sum(len(session.jobs) for session in plain) == requests
    assert detect(str(tmp_path / f"{name}.trace")) == name
    assert read(tmp_path, name, gzip.compress(content.encode())) == plain
    assert detect(str(tmp_path / f"{name}.trace")) == name
    for session in plain:
        for job in session.jobs:
            if job.request.content:
                assert sum(tokens for _, tokens in job.request.content) == job.request.prompt_tokens


def test_agentic_graphs_keep_triggers_and_delays(tmp_path: Path) -> None:
    join = {**ROOT, "request_id": "join", "input_length": 8, "hash_ids": [301, 9]}
    join["dependencies"] = [
        {"request_id": "root", "trigger": "completion", "delay_ms": 1500, "relation": "sequence"},
        {"request_id": "child", "trigger": "completion", "relation": "join"},
    ]
    content = GOOD["agentic_mooncake"][0] + lines(join)
    (session,) = read(tmp_path, "agentic_mooncake", content)
    root, child, last = session.jobs
    assert child.after == ((0, 0.005, False),)
    assert last.after == ((0, 1.5, True), (1, 0.0, True))
    assert shared_tokens(root.request.content, last.request.content) == 4
    # Waiting 1.5 s after the root (1 s) takes longer than the child's 0.005 + 1 s.
    assert session.slo_s == pytest.approx(1 + 1.5 + 1)
    for broken, reason in (
        ({"dependencies": [{"request_id": "nobody"}]}, "does not stand before it"),
        ({"dependencies": [{"request_id": "root", "trigger": "maybe"}]}, "trigger must be"),
        ({"request_id": "root"}, "appears twice"),
        ({"hash_ids": [1]}, "hash_ids must name 2 blocks"),
    ):
        with pytest.raises(TraceError, match=reason) as refused:
            read(tmp_path, "agentic_mooncake", GOOD["agentic_mooncake"][0] + lines({**join, **broken}))
        assert refused.value.row == 4
    with pytest.raises(TraceError, match="row 1: the first line must be a header"):
        read(tmp_path, "agentic_mooncake", lines({**AGENTIC_HEADER, "version": 1}, ROOT))


def test_block_ids_of_local_scope_mean_nothing_outside_their_session(tmp_path: Path) -> None:
    content = json.dumps(WEKA) + "\n" + json.dumps({**WEKA, "id": "other"})
    one, other = read(tmp_path, "weka", content)
    assert shared_tokens(one.jobs[0].request.content, one.jobs[1].request.content) == 128
    assert shared_tokens(one.jobs[0].request.content, other.jobs[0].request.content) == 0
    both = content.replace('"local"', '"global"')
    one, other = read(tmp_path, "weka", both)
    assert shared_tokens(one.jobs[0].request.content, other.jobs[0].request.content) == 128


def test_sub_agents_fan_out_and_join(tmp_path: Path) -> None:
    def call(t: float, api_time: float) -> dict[str, Any]:
        return {"t": t, "type": "n", "in": 100, "out": 9, "api_time": api_time}

    agent = {"t": 6.0, "type": "subagent", "requests": [call(0.0, 4.0), call(5.0, 1.0)]}
    quick = {"t": 6.0, "type": "subagent", "requests": [call(1.0, 1.0)]}
    slow = {"t": 6.0, "type": "subagent", "requests": [call(0.0, 100.0)]}
    session = {"id": "x", "requests": [call(0.0, 5.0), agent, quick, slow, call(14.0, 1.0), call(20.0, 1.0)]}
    ((_, *jobs),) = (s.jobs for s in read(tmp_path, "weka", json.dumps(session)))
    after = [job.after for job in jobs]
    assert after[0] == ((0, 1.0, True),)  # the agent starts 1 s after the call that spawned it
    assert after[1] == ((1, 1.0, True),)
    assert after[2] == ((0, 2.0, True),)
    assert after[3] == ((0, 1.0, True),)
    # The next call joins the two agents that had ended by then (at 12 s and at 8 s), not the one still running.
    assert after[4] == ((0, 0.0, True), (2, 2.0, True), (3, 6.0, True))
    assert after[5] == ((5, 5.0, True),)


def test_agent_rows_reuse_what_they_say(tmp_path: Path) -> None:
    a, _ = read(tmp_path, "agent_csv", GOOD["agent_csv"][0])
    first, second = a.jobs
    assert shared_tokens(first.request.content, second.request.content) == 90
    # 2.6 s after the first turn began, which took 20 tokens of 0.03 s.
    assert second.after[0].delay_s == pytest.approx(2.0)
    header = "sid,turn,t,input_tokens,output_tokens,prefix_tokens_session,system_tool_tokens,gap_before_s\n"
    rows = "a,0,0,100,9,0,60,0\na,1,5,150,0,100,60,2\na,2,5,150,5,105,60,1.5\nb,0,0,90,9,0,60,0\n"
    a, b = read(tmp_path, "agent_csv", header + rows, shared_system=True)
    assert [job.request.prompt_tokens for job in a.jobs] == [100, 150]  # the row without output failed
    assert a.jobs[1].after[0].delay_s == 1.5
    assert shared_tokens(a.jobs[0].request.content, b.jobs[0].request.content) == 60
    # The turn continues the previous prompt (100) and 5 tokens of its output.
    assert a.jobs[1].request.content[-2] == (a.jobs[0].output_segment, 5)


def test_follow_ups_start_after_their_parent(tmp_path: Path) -> None:
    tree, alone = read(tmp_path, "qwen_bailian", GOOD["qwen_bailian"][0])
    assert len(alone.jobs) == 1
    # 60.114 s after its parent, which is assumed to have taken 100 tokens of 0.03 s.
    assert tree.jobs[1].after[0].delay_s == pytest.approx(60.114 - 3.0)
    with pytest.raises(TraceError, match="row 2: chat_id 55 appears twice"):
        read(tmp_path, "qwen_bailian", lines(*[{**CHAT, "chat_id": 55, "timestamp": 1.0}] * 2))


def test_burstgpt_sessions_and_failed_rows(tmp_path: Path) -> None:
    file = tmp_path / "burst.csv"
    file.write_text(GOOD["burstgpt"][0])
    trace = build("trace", "burstgpt", path=str(file))
    chat, api = trace.sessions(Streams(0), SLO)
    assert trace.report.failed == 1
    assert chat.jobs[1].after[0].delay_s == 30 - 5 - 2
    assert shared_tokens(chat.jobs[0].request.content, chat.jobs[1].request.content) == 472
    assert (chat.jobs[0].request.task, api.jobs[0].request.task) == ("chat", "api")
    assert api.arrival_s - chat.arrival_s == pytest.approx(1.0)


def test_conversations_grow_by_what_was_said(tmp_path: Path) -> None:
    (session,) = read(tmp_path, "sharegpt", GOOD["sharegpt"][0], characters_per_token=2.0, gap_s=3.0)
    first, second = session.jobs
    assert (first.request.prompt_tokens, first.output_tokens) == (3, 12)
    assert second.request.prompt_tokens == 3 + 12 + 6
    assert second.after == ((0, 3.0, True),)
    assert second.request.text == "Count to 3."
    (one,) = read(tmp_path, "sharegpt", GOOD["sharegpt"][0], turns=1)
    assert len(one.jobs) == 1


def test_text_lengths_are_counted_or_ruled(tmp_path: Path) -> None:
    rule = read(tmp_path, "vllm_custom", lines({"prompt": "x" * 41, "output_tokens": 3}))
    given_count = read(tmp_path, "vllm_custom", lines({"prompt": "x" * 41, "output_tokens": 3, "prompt_tokens": 7}))
    assert rule[0].jobs[0].request.prompt_tokens == 11
    assert given_count[0].jobs[0].request.prompt_tokens == 7


def test_llmservingsim_continues_cumulative_inputs(tmp_path: Path) -> None:
    session, flat = read(tmp_path, "llmservingsim", GOOD["llmservingsim"][0])
    assert session.jobs[1].after == ((0, pytest.approx(0.127348767), True),)
    assert session.jobs[1].request.content == (*session.jobs[0].request.content, (session.jobs[0].output_segment, 133))
    assert flat.arrival_s == pytest.approx(0.101537 - 0.00405974)


def test_calls_of_a_conversation_fan_out_and_join(tmp_path):
    ((_, *jobs),) = (session.jobs for session in read(tmp_path, "otel", OTEL))
    one, other, last = jobs
    assert [job.request.prompt_tokens for job in jobs] == [130, 140, 500]
    assert one.after == other.after == ((0, pytest.approx(0.2), True),)
    assert last.after == ((1, pytest.approx(1.5), True), (2, pytest.approx(0.5), True))
    assert shared_tokens(one.request.content, other.request.content) == 120
    assert last.request.task == "agent"


#: (format, what to replace in the good file, by what, expected reason)
BROKEN = [
    ("mooncake", "600", "-600", "input_length must be in"),
    ("mooncake", "600", "NaN", "input_length must be a finite number, not 'NaN'"),
    ("mooncake", "600", "1e9", "input_length must be in"),
    ("mooncake", "52", "0", "output_length must be in"),
    ("mooncake", "[46, 47]", "[46, null]", "hash_ids must be a list"),
    ("mooncake", "27482", '"soon"', "timestamp must be a number"),
    ("mooncake", "}", "", "not JSON"),
    ("weka", '"in": 130', '"in": 0', "in must be in"),
    ("weka", "[1, 2, 3]", "[1, 2, 3, 4, 5]", "hash_ids names 5 blocks"),
    ("weka", '"t": 8.0', '"t": -8.0', "t must be in"),
    ("weka", '"requests"', '"calls"', "no field 'requests'"),
    ("otel", '"intValue": "500"', '"intValue": "0"', "span s35: gen_ai.usage.input_tokens must be in"),
    (
        "otel",
        '"startTimeUnixNano": "18000000035',
        '"startTimeUnixNano": "19000000035',
        "span s35: ends before it begins",
    ),
    ("agent_csv", "a,1,12.6,150", "a,0,12.6,150", "turn 0 appears twice"),
    ("agent_csv", "150,20,90", "150,20,151", "exceeds input_tokens"),
    ("agent_csv", "prefix_tokens_session", "prefix", "no column 'prefix_tokens_session'"),
    ("qwen_bailian", '"input_length": 40', '"input_length": 49', "must name 4 blocks"),
    ("burstgpt", "472", "inf", "Request tokens must be a finite number, not 'inf'"),
    ("burstgpt", "30,s1", "3,s1", "time runs back"),
    ("llmservingsim", "133", "0", "output_toks must be in"),
    ("llmservingsim", "101537000", "1", "time runs back"),
    ("sharegpt", '"value": "Hello!"', '"value": ""', "no text"),
    ("sharegpt", '"conversations": [', '"conversations": [1,', "must be a list of objects"),
    ("vllm_custom", "10", "10000000000", "output_tokens must be in"),
    ("vllm_custom", '"output_tokens"', '"tokens"', "no field 'output_tokens'"),
    ("prompt_lengths", '"session": "a", "turn": 1', '"turn": 1', "no field 'session'"),
    ("prompt_lengths", '"context_tokens": 70', '"context_tokens": true', "context_tokens must be a number"),
]


@pytest.mark.parametrize(("name", "old", "new", "reason"), BROKEN)
def test_broken_rows_say_file_row_and_reason(tmp_path: Path, name: str, old: str, new: str, reason: str) -> None:
    good = GOOD[name][0]
    assert old in good
    with pytest.raises(TraceError, match=reason) as refused:
        read(tmp_path, name, good.replace(old, new))
    assert refused.value.path.endswith(f"{name}.trace")
    assert refused.value.row is not None


EPOCH_S = 1_700_158_123

#: Two requests 1.5 s apart, counted from 1970 in the format's own unit.
FROM_1970 = {
    "mooncake": lines(
        *({"timestamp": EPOCH_S * 1000 + ms, "input_length": 5, "output_length": 2} for ms in (0, 1500)),
    ),
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    f"{EPOCH_S},ChatGPT,5,2,7,API log\n{EPOCH_S + 1.5},ChatGPT,5,2,7,API log\n",
    "qwen_bailian": lines(
        *(CHAT | {"chat_id": i, "timestamp": EPOCH_S + 1.5 * i, "hash_ids": [1, 2, 3]} for i in (0, 1)),
    ),
    "llmservingsim": lines(
        *({"input_toks": 5, "output_toks": 2, "arrival_time_ns": (2 * EPOCH_S + 3 * i) * 500_000_000} for i in (0, 1)),
    ),
}


@pytest.mark.parametrize("name", FROM_1970)
def test_times_counted_from_1970_begin_at_0(tmp_path: Path, name: str) -> None:
    arrivals = [session.arrival_s for session in read(tmp_path, name, FROM_1970[name])]
    assert arrivals == pytest.approx([0.0, 1.5], abs=1e-6)


def test_times_in_the_wrong_unit_and_times_that_run_back_are_told_with_all_their_digits(tmp_path: Path) -> None:
    seconds = FROM_1970["burstgpt"]
    with pytest.raises(TraceError, match=r"Timestamp must be in \[0, 1e\+10\], not '1700158123000'"):
        read(tmp_path, "burstgpt", seconds.replace(f"{EPOCH_S},", f"{EPOCH_S}000,"))
    with pytest.raises(TraceError, match=r"time runs back by 0\.25 s: 1700158122\.75 s after 1700158123 s"):
        read(tmp_path, "burstgpt", seconds.replace(f"{EPOCH_S + 1.5}", f"{EPOCH_S - 0.25}"))


@pytest.mark.parametrize("name", GOOD)
def test_empty_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TraceError):
        read(tmp_path, name, "")


def survives(name: str, content: bytes) -> None:
    """Reading ends with sessions or with a ``TraceError`` that says where and why, skipping or not."""
    with tempfile.TemporaryDirectory() as folder:
        for on_error in ("error", "skip"):
            refused = None
            try:
                sessions = read(Path(folder), name, content, on_error=on_error)
            except TraceError as error:
                refused, sessions = error, []
            # What a reader lets through could be simulated to an end.
            door = Door()
            for session in sessions:
                door.check(session)
            if refused is not None:
                assert refused.path
                assert refused.reason
                # Only a file without any request at all, or one that is packed, has no row to blame.
                whole = ("no request to replay", "is compressed with", "cannot be read as Parquet")
                assert refused.row is not None or any(words in refused.reason for words in whole), refused


def mutated(good: bytes) -> st.SearchStrategy[bytes]:
    """The good file with a few stretches of bytes replaced."""
    edit = st.tuples(
        st.integers(0, len(good)),
        st.integers(0, 12),
        st.one_of(
            st.binary(max_size=6),
            st.sampled_from(
                [
                    *(b"-1", b"0", b"1e400", b"NaN", b"null", b'"', b",", b"\n", b"]", b"{", b"9" * 5000, b"\xff"),
                    # What once got through: underscores, other digits, times since 1970, texts and parts of tokens.
                    *(b"1_02", "١٢".encode(), b"1700158123", b"1e12", b"true", b'"512"', b"512.5", b"[]", b"-Infinity"),
                    *(b"\r", b"\x00", b"\xef\xbb\xbf", b"\x1f\x8b", b"root", b"child", b'{"a":1}', b"0x10"),
                ]
            ),
        ),
    )

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        content = good
        for place, length, piece in edits:
            content = content[:place] + piece + content[place + length :]
        return content

    return st.lists(edit, min_size=1, max_size=4).map(apply)


def fuzz_of(name: str) -> Callable[[], None]:
    @settings(max_examples=60)
    @given(mutated(GOOD[name][0].encode()) | st.binary(max_size=200))
    def fuzz(content: bytes) -> None:
        survives(name, content)

    return fuzz


@pytest.mark.parametrize("name", GOOD)
def test_fuzzed_files_raise_nothing_but_trace_errors(name: str) -> None:
    fuzz_of(name)()


@given(st.binary(max_size=60), st.integers(0, 400))
@settings(max_examples=40)
def test_damaged_gzip_raises_nothing_but_trace_errors(junk: bytes, place: int) -> None:
    good = gzip.compress((GOOD["azure"][0] * 1).encode())
    survives("azure", good[:place] + junk + good[place + len(junk) :])


def test_a_folder_of_sessions_is_one_trace(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    for name in ("b", "a"):
        (folder / f"trace_{name}.json").write_text(json.dumps({**WEKA, "id": name}))
    (folder / "README.md").write_text("not a trace")
    (folder / "trace_c.json").write_text(json.dumps({**WEKA, "id": "c"}).replace('"in": 130', '"in": -1'))
    assert detect(str(folder)) == "weka"
    with pytest.raises(TraceError, match="trace_c.json, row 1: in must be in"):
        list(build("trace", "weka", path=str(folder)).sessions(Streams(0), SLO))
    trace = build("trace", "weka", path=str(folder), on_error="skip")
    assert len(list(trace.sessions(Streams(0), SLO))) == 2
    assert trace.report.skipped == 1
    with pytest.raises(TraceError, match="has no file"):
        list(build("trace", "weka", path=str(tmp_path / "traces" / "..")).sessions(Streams(0), SLO))


@pytest.mark.parametrize("name", ["agent_csv", "qwen_bailian", "prompt_lengths", "agentic_mooncake"])
def test_a_skipped_turn_leaves_the_rest_of_its_session(tmp_path: Path, name: str) -> None:
    """The last row of the file is broken: what came before is replayed, and the row is counted."""
    file = tmp_path / "trace"
    good = GOOD[name][0].rstrip("\n")
    head, _, last = good.rpartition("\n")
    # The last number of the row becomes text.
    place = max(i for i, letter in enumerate(last) if letter.isdigit())
    file.write_text(f"{head}\n{last[:place]}x{last[place + 1 :]}\n")
    trace = build("trace", name, path=str(file), on_error="skip")
    sessions = list(trace.sessions(Streams(0), SLO))
    assert trace.report.skipped == 1
    assert sum(len(session.jobs) for session in sessions) == GOOD[name][2] - 1


def test_interleaved_sessions_come_in_the_order_of_their_first_rows(tmp_path: Path) -> None:
    row = {"input_length": 10, "output_length": 2}
    rows = [
        {**row, "session_id": name, **({"timestamp": 100 * i} if i < 3 else {"delay": 10})}
        for i, name in enumerate("abcbcabb")
    ]
    sessions = read(tmp_path, "mooncake", lines(*rows))
    assert [len(session.jobs) for session in sessions] == [2, 4, 2]
    assert [session.arrival_s for session in sessions] == pytest.approx([0.0, 0.1, 0.2])


def test_sessions_without_a_clock_need_arrivals(tmp_path: Path) -> None:
    row = {"session_id": "a", "input_length": 10, "output_length": 2}
    with pytest.raises(TraceError, match="row 1: has no arrival time; set trace.arrivals.name"):
        read(tmp_path, "mooncake", lines(row))
    (session,) = read(tmp_path, "mooncake", lines(row), arrivals=ArrivalConfig("poisson"), rate_per_s=1.0)
    assert session.arrival_s > 0
    with pytest.raises(TraceError, match="no rate to rescale"):
        read(tmp_path, "mooncake", lines({**row, "timestamp": 0}), rate_per_s=1.0)
    # A row without its session is left out, the rest is replayed.
    stray = {"input_length": 10, "output_length": 2, "delay": 1}
    kept = read(tmp_path, "mooncake", lines({**row, "timestamp": 0}, stray), on_error="skip")
    assert [len(session.jobs) for session in kept] == [1]


ROWS = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5,374,44\n2023-11-16 18:15:47.5,374,44\n"


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(lambda text: b"\xef\xbb\xbf" + text.encode(), id="byte order mark"),
        pytest.param(lambda text: text.replace("\n", "\r\n").encode(), id="CRLF"),
        pytest.param(lambda text: text.replace("\n", "\r").encode(), id="bare CR"),
        pytest.param(lambda text: text.rstrip("\n").encode(), id="no last line end"),
        pytest.param(lambda text: gzip.compress(text.encode()), id="gzip"),
    ],
)
def test_however_it_is_written_it_is_the_same_trace(tmp_path: Path, written: Callable[[str], bytes]) -> None:
    same = read(tmp_path, "azure", ROWS)
    assert len(same) == 2
    assert read(tmp_path, "azure", written(ROWS)) == same


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (ROWS.replace("374", "3\x0074").encode(), "row 2: "),
        (gzip.compress(ROWS.encode())[:-6], "azure"),
        (ROWS.encode("utf-16"), "not UTF-8"),
    ],
    ids=["NUL", "cut gzip", "UTF-16"],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(TraceError, match=words) as refused:
        read(tmp_path, "azure", content)
    assert refused.value.reason
