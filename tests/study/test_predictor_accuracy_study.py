"""The experiment on predictors' accuracy, from the command line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gsim.cli.entry import main

COLUMNS = [
    "predictor",
    "task",
    "mae_over_mean",
    "median_ape",
    "within_2x",
    "log_error_sd",
    "spearman",
    "us_per_call",
]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def corpus(path, seed):
    rng = np.random.default_rng(seed)
    lines = [
        {
            "task": "chat" if k % 8 < 4 else "code",
            "session": f"s{k // 4}",
            "turn": k % 4,
            "context_tokens": int(rng.integers(10, 900)),
            "prompt": f"{'short' if k % 2 else 'long'} please",
            "output_tokens": int((40, 400)[k % 2 == 0] * rng.uniform(0.8, 1.25)),
        }
        for k in range(400)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_leaves_a_row_per_predictor_and_task(tmp_path):
    train = corpus(tmp_path / "train.jsonl", 0)
    words = ["experiment=predictor_accuracy", f"train.path={train}", "seeds=2", "out=found"]
    assert main([*words, "predictors=[pooled_gbdt,class_median]", "hydra.launcher.n_jobs=1"]) == 0
    table = pd.read_csv(tmp_path / "found" / "results.csv")
    assert list(table.columns) == COLUMNS
    assert table[["predictor", "task"]].to_numpy().tolist() == [
        [predictor, task] for predictor in ("pooled_gbdt", "class_median") for task in ("chat", "code", "all")
    ]
    overall = table[table["task"] == "all"].set_index("predictor")
    # The words decide the length here, the class says nothing.
    assert overall.loc["pooled_gbdt", "mae_over_mean"] < 0.25 < overall.loc["class_median", "mae_over_mean"]


def test_judges_on_a_file_of_its_own(tmp_path):
    train, test = corpus(tmp_path / "train.jsonl", 0), corpus(tmp_path / "test.jsonl", 1)
    words = ["experiment=predictor_accuracy", f"train.path={train}", f"test.path={test}", "out=found"]
    assert main([*words, "predictors=[class_median]", "seeds=1", "hydra.launcher.n_jobs=1"]) == 0
    table = pd.read_csv(tmp_path / "found" / "results.csv")
    assert len(table) == 3
    truth = [json.loads(line)["output_tokens"] for line in test.read_text().splitlines()]
    known = [json.loads(line) for line in train.read_text().splitlines()]
    guess = {task: sorted(x["output_tokens"] for x in known if x["task"] == task) for task in ("chat", "code")}
    tasks = [json.loads(line)["task"] for line in test.read_text().splitlines()]
    predicted = np.array([guess[task][int(0.5 * (len(guess[task]) - 1) + 0.5)] for task in tasks])
    expected = np.abs(predicted - truth).mean() / np.mean(truth)
    assert table.set_index("task").loc["all", "mae_over_mean"] == pytest.approx(expected)


def test_a_bad_file_is_refused_before_training(tmp_path, capsys):
    path = corpus(tmp_path / "train.jsonl", 0)
    path.write_text(path.read_text().replace('"output_tokens": ', '"output_tokens": -', 1))
    assert main(["experiment=predictor_accuracy", f"train.path={path}", "out=found"]) != 0
    assert "row 1: field 'output_tokens' is -" in capsys.readouterr().err
    assert main(["experiment=predictor_accuracy", "train.path=absent.jsonl", "out=found"]) != 0
    assert "absent.jsonl" in capsys.readouterr().err
