"""A table of requests as a trace: column map, units, epoch times, sessions, compression, Parquet."""

from __future__ import annotations

import gzip

import pandas as pd
import pyarrow as pa
import pytest

from gsim.core import ConfigError, Streams, TraceError
from gsim.workload.formats.table import Table
from gsim.workload.slo import Fixed, Recorded

EPOCH_NS = 1_700_158_546_123_456_789


def read(path, slo=None, **fields):
    trace = Table(path=str(path), **fields)
    return list(trace.sessions(Streams(0), slo or Fixed(6.0)))


def test_columns_have_any_names_and_epoch_times_start_at_zero(tmp_path):
    rows = [f"{EPOCH_NS + int(at * 1e9)},{p},{o}" for at, p, o in ((0, 10, 3), (0.25, 20, 4), (0.5, 30, 5))]
    (tmp_path / "t.csv").write_text("\n".join(["t,in,out", *rows]))
    names = {"time_ns": "t", "prompt_tokens": "in", "output_tokens": "out"}
    sessions = read(tmp_path / "t.csv", columns=names)
    assert [session.arrival_s for session in sessions] == [0.0, 0.25, 0.5]
    jobs = [session.jobs[0] for session in sessions]
    assert [(job.request.prompt_tokens, job.output_tokens) for job in jobs] == [(10, 3), (20, 4), (30, 5)]


@pytest.mark.parametrize(
    ("unit", "first", "second"),
    [
        ("time_s", "1700158546.5", "1700158547.5"),
        ("time_ms", "1700158546500", "1700158547500"),
        ("time_us", "-500000", "500000"),
        ("time_iso", "2023-11-16T18:15:46.5", "2023-11-16 18:15:47.5"),
        ("time_iso", "2023-11-16T18:15:46.5+00:00", "2023-11-16T19:15:47.5+01:00"),
    ],
)
def test_the_unit_of_time_is_in_the_name(unit, first, second, tmp_path):
    (tmp_path / "t.csv").write_text(f"{unit},prompt_tokens,output_tokens\n{first},1,1\n{second},1,1\n")
    assert [session.arrival_s for session in read(tmp_path / "t.csv")] == [0.0, pytest.approx(1.0)]


def test_plain_gz_zst_and_parquet_are_the_same_trace(tmp_path):
    frame = pd.DataFrame({"time_s": [5.0, 6.5], "prompt_tokens": [10, 20], "output_tokens": [3, 4], "task": ["a", "b"]})
    text = frame.to_csv(index=False).encode()
    (tmp_path / "t.csv").write_bytes(text)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text))
    with pa.output_stream(tmp_path / "t.csv.zst", compression="zstd") as out:
        out.write(text)
    frame.to_parquet(tmp_path / "t.parquet")
    found = [read(tmp_path / name) for name in ("t.csv", "t.csv.gz", "t.csv.zst", "t.parquet")]
    assert found == [found[0]] * 4
    assert [session.jobs[0].request.task for session in found[0]] == ["a", "b"]
    (tmp_path / "t.csv.xz").write_bytes(b"\xfd7zXZ\x00rest")
    with pytest.raises(TraceError, match="is compressed with xz; unpack it first"):
        read(tmp_path / "t.csv.xz")


def test_rows_of_a_session_are_its_turns(tmp_path):
    rows = ["time_s,prompt_tokens,output_tokens,session,slo_s,session_slo_s"]
    rows += ["0,100,10,a,3,9", "1,50,5,,2,", "4,130,7,a,4,"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    agent, alone = read(tmp_path / "t.csv", Recorded())
    first, second = agent.jobs
    assert [(d.delay_s, d.on_completion) for d in second.after] == [(4.0, False), (0.0, True)]
    # 130 tokens hold the prompt and the output before them.
    assert second.request.content[:2] == (*first.request.content, (first.output_segment, 10))
    assert (first.request.slo_s, second.request.slo_s, agent.slo_s) == (3.0, 4.0, 9.0)
    assert alone.jobs[0].request.slo_s == 2.0


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("when,prompt_tokens,output_tokens\n1,1,1\n", {}, "no column of times; name it"),
        ("time_s,tokens,output_tokens\n1,1,1\n", {}, "no column 'tokens_in' for prompt_tokens"),
        ("time_s,prompt_tokens,output_tokens\nnan,1,1\n", {}, "row 2: time_s must be"),
        ("time_s,prompt_tokens,output_tokens\n1,0,1\n", {}, "row 2: prompt_tokens must be in"),
        ("time_s,prompt_tokens,output_tokens\n5,1,1\n4,1,1\n", {}, "row 3: time runs back by 1 s: -1 s after 0 s"),
        ("time_s,prompt_tokens,output_tokens\n", {}, "holds no row"),
    ],
)
def test_what_cannot_be_read_is_named(text, fields, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    names = {"prompt_tokens": "tokens_in"} if "tokens_in" in message else {}
    with pytest.raises(TraceError, match=message):
        read(tmp_path / "t.csv", columns=names)


def test_unknown_columns_and_two_clocks_are_refused():
    with pytest.raises(ConfigError, match="'tokens' is not known; there are: time_s"):
        Table(path="t", columns={"tokens": "a"})
    with pytest.raises(ConfigError, match="time_s and time_ms are two clocks"):
        Table(path="t", columns={"time_s": "a", "time_ms": "b"})
