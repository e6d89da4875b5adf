"""Recorded live replays: what was kept is read again, and what is damaged is told by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gsim.core import InputError
from gsim.validation.live_load import Load, requests_table
from gsim.validation.recording import Replay, keep, read_recording

LOAD = Load((0.0, 0.5, 1.0), (10, 20, 30), (5, 1, 7))


@pytest.fixture
def folder(tmp_path):
    times = np.array([0.1, 0.2, 0.3])
    table = requests_table(LOAD, np.array(LOAD.arrivals_s) + 0.001, times, times * 4)
    tokens = pd.DataFrame({"request": [0], "time_s": [0.1], "tokens": [1]})
    simulated = requests_table(LOAD, np.array(LOAD.arrivals_s), times, times * 5)
    keep(tmp_path, "kept", {}, [Replay(table, tokens, 0.01), Replay(table, tokens, 0.02)], simulated)
    return tmp_path


def test_what_was_kept_is_read_again(folder):
    found = read_recording(folder, "kept")
    assert found.load == LOAD
    assert (len(found.live), found.waited) == (2, 0.02)
    assert found.live[0]["e2e_s"].tolist() == pytest.approx([0.4, 0.8, 1.2])
    (folder / "kept.json").unlink()
    assert read_recording(folder, "kept").waited == 0.0


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_told(folder, share):
    path = folder / "kept_requests.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"kept_requests\.parquet: not a whole Parquet file"):
        read_recording(folder, "kept")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"waited": []}', '{"waited": ["a"]}', '{"waited": 1}'])
def test_options_that_are_damaged_are_told(folder, text):
    (folder / "kept.json").write_text(text)
    with pytest.raises(InputError, match=r"kept\.json: waited must be a list of numbers"):
        read_recording(folder, "kept")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda rows: rows.drop(columns=["run"]), "no column run"),
        (lambda rows: rows.drop(columns=["sent_s", "e2e_s"]), "no column sent_s, e2e_s"),
        (lambda rows: rows[rows["run"] != "simulated"], "needs rows of the runs"),
        (lambda rows: rows[rows["run"] == "simulated"], "needs rows of the runs"),
        (lambda rows: rows.iloc[1:], "'live 1' is not of the load"),
        (lambda rows: rows.assign(output_tokens=range(1, 10)), "is not of the load"),
        (lambda rows: rows.assign(e2e_s="soon"), "e2e_s must be numbers"),
        (lambda rows: rows.assign(e2e_s=-1.0), "e2e_s must be finite numbers of at least 0, not -1.0"),
        (lambda rows: rows.assign(sent_s=float("nan")), "sent_s must be finite numbers of at least 0, not nan"),
        (lambda rows: rows.assign(prompt_tokens=0), "prompt_tokens must be finite numbers of at least 1, not 0"),
    ],
)
def test_rows_that_are_no_replays_are_told(folder, damage, said):
    path = folder / "kept_requests.parquet"
    damage(pd.read_parquet(path)).to_parquet(path, index=False)
    with pytest.raises(InputError, match=said):
        read_recording(folder, "kept")
