"""Predictors are judged on what they have not seen; corpora are read strictly."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pytest

from gsim.core import ConfigError, TraceError, build
from gsim.prediction.accuracy import judge
from gsim.prediction.corpus import read_corpus, split_by_session


def corpus_lines(n: int = 200) -> list[dict[str, object]]:
    rng = np.random.default_rng(0)
    return [
        {
            "task": ("a", "b")[k // 4 % 2],
            "session": f"s{k // 4}",
            "turn": k % 4,
            "context_tokens": 100 + k,
            "prompt": f"prompt {k}",
            "output_tokens": int((50, 500)[k // 4 % 2] * rng.uniform(0.5, 2.0)),
        }
        for k in range(n)
    ]


def written(tmp_path, lines, name="corpus.jsonl"):
    path = tmp_path / name
    text = "\n".join(json.dumps(line) for line in lines)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_reads_a_corpus(tmp_path, name):
    samples = read_corpus(written(tmp_path, corpus_lines(), name))
    assert len(samples) == 200
    request, output = samples[5]
    assert (request.request_id, request.task, request.session_id, request.turn) == (5, "b", 1, 1)
    assert (request.prompt_tokens, request.text, output) == (105, "prompt 5", corpus_lines()[5]["output_tokens"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"output_tokens": 0}, "row 3: field 'output_tokens' is 0"),
        ({"output_tokens": float("nan")}, "row 3: field 'output_tokens' is nan"),
        ({"context_tokens": "many"}, "row 3: field 'context_tokens' is 'many'"),
        ({"turn": -1}, "row 3: field 'turn' is -1"),
        ({"turn": True}, "row 3: field 'turn' is True"),
    ],
)
def test_refuses_a_bad_row_by_number_and_field(tmp_path, change, says):
    lines = corpus_lines(5)
    lines[2].update(change)
    with pytest.raises(TraceError, match=says):
        read_corpus(written(tmp_path, lines))


def test_refuses_what_is_no_corpus(tmp_path):
    lines = corpus_lines(3)
    del lines[1]["prompt"]
    with pytest.raises(TraceError, match="row 2: field 'prompt' is missing"):
        read_corpus(written(tmp_path, lines))
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{no json")
    with pytest.raises(TraceError, match="row 1: not JSON"):
        read_corpus(broken)
    broken.write_text("[" * 100_000)
    with pytest.raises(TraceError, match=r"row 1: not JSON: nested too deeply"):
        read_corpus(broken)
    broken.write_bytes(b"\xff")
    with pytest.raises(TraceError, match="row 1: cannot be read: 'utf-8'"):
        read_corpus(broken)
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(gzip.compress(b"{}" * 9)[:-9])
    with pytest.raises(TraceError, match="row 1: cannot be read: Compressed file ended"):
        read_corpus(torn)
    broken.write_text("[1]")
    with pytest.raises(TraceError, match="row 1: must be an object"):
        read_corpus(broken)
    broken.write_text("\n")
    with pytest.raises(TraceError, match="holds no request"):
        read_corpus(broken)
    with pytest.raises(ConfigError, match="no file"):
        read_corpus(tmp_path / "absent.jsonl")


def test_splits_whole_sessions_of_every_task(tmp_path):
    samples = read_corpus(written(tmp_path, corpus_lines()))
    train, test = split_by_session(samples, 0.25, seed=0)
    sessions = [{s.request.session_id for s in part} for part in (train, test)]
    assert not sessions[0] & sessions[1]
    assert len(train) + len(test) == 200
    assert {s.request.task for s in test} == {s.request.task for s in train} == {"a", "b"}
    assert split_by_session(samples, 0.25, seed=0) == (train, test)
    assert split_by_session(samples, 0.25, seed=1) != (train, test)


def test_measures_what_its_columns_say(tmp_path):
    samples = read_corpus(written(tmp_path, corpus_lines()))
    train, test = split_by_session(samples, 0.25, seed=0)
    lines = judge({name: build("predictor", name) for name in ("oracle", "constant", "class_mean")}, train, test)
    table = {(line.predictor, line.task): line for line in lines}
    assert len(lines) == 9
    perfect = table["oracle", "all"]
    assert (perfect.mae_over_mean, perfect.median_ape, perfect.within_2x, perfect.log_error_sd) == (0, 0, 1, 0)
    assert perfect.spearman == pytest.approx(1.0)
    assert perfect.requests == len(test)
    truth = np.array([s.output_tokens for s in test])
    constant = table["constant", "all"]
    assert constant.mae_over_mean == pytest.approx(np.abs(256 - truth).mean() / truth.mean())
    assert constant.within_2x == pytest.approx(((truth >= 128) & (truth <= 512)).mean())
    assert math.isnan(constant.spearman)
    assert table["class_mean", "all"].mae_over_mean < constant.mae_over_mean
    assert all(line.us_per_call > 0 for line in lines)


def test_nobody_learns_from_the_test_set(tmp_path):
    samples = read_corpus(written(tmp_path, corpus_lines()))
    train, test = split_by_session(samples, 0.25, seed=0)
    predictor = build("predictor", "class_mean")
    judge({"class_mean": predictor}, train, test)
    after = predictor.predict(test[0].request)
    fresh = build("predictor", "class_mean")
    for request, tokens in train:
        fresh.observe(request, tokens)
    assert after == fresh.predict(test[0].request)


def test_real_prompts_are_predicted_better_than_by_their_class(shared):
    """Trained on real agents' prompts, split by session: as good as what is published for similar data."""
    samples = read_corpus(shared / "data" / "traces" / "prompt_lengths.jsonl.gz")
    train, test = split_by_session(samples, 0.25, seed=0)
    moe = build("predictor", "moe", trees=40, em_rounds=1)
    lines = judge({"moe": moe, "class_mean": build("predictor", "class_mean")}, train[::3], test[::6])
    table = {line.predictor: line for line in lines if line.task == "all"}
    assert table["moe"].mae_over_mean < 0.9 * table["class_mean"].mae_over_mean
    assert table["moe"].mae_over_mean < 0.45
    assert table["moe"].within_2x > 0.75
