"""vLLM's own scheduler is the judge: every recorded step must come out identically."""

import gzip
import json
from pathlib import Path

import pytest

from gsim.engine.conformance import ENGINES, main, read_recording, replay

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "vllm_schedule"
OWN = Path(__file__).parent / "recordings"


@pytest.mark.parametrize("path", sorted(SHARED.glob("*.json.gz")) or [SHARED], ids=lambda path: path.name)
@pytest.mark.parametrize("engine", ENGINES)
def test_shared_recording_is_identical(path, engine):
    if path == SHARED:
        pytest.skip("../shared/data/vllm_schedule is not there")
    assert replay(read_recording(path), engine) is None


@pytest.mark.parametrize("path", sorted(OWN.glob("*.json.gz")), ids=lambda path: path.name)
@pytest.mark.parametrize("engine", ENGINES)
def test_own_recording_is_identical(path, engine):
    assert replay(read_recording(path), engine) is None


def recording():
    return {
        "config": {
            "max_num_seqs": 4,
            "max_num_batched_tokens": 32,
            "block_size": 16,
            "num_blocks": 11,
            "max_model_len": 64,
            "prefix_caching": True,
        },
        "requests": [{"id": 0, "arrival_step": 0, "prompt": [[1, 40]], "output_len": 2}],
        "steps": [
            {"scheduled": {"0": 32}, "preempted": [], "finished": [], "usage": 0.2},
            {"scheduled": {"0": 8}, "preempted": [], "finished": [], "usage": 0.3},
            {"scheduled": {"0": 1}, "preempted": [], "finished": ["0"], "usage": 0.0},
        ],
    }


def test_exit_status_and_the_first_difference(tmp_path, capsys):
    good = tmp_path / "good.json.gz"
    good.write_bytes(gzip.compress(json.dumps(recording()).encode()))
    wrong = recording()
    wrong["steps"][1]["scheduled"] = {"0": 9}
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(wrong))
    assert main([str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: 3 steps identical\n"
    assert main([str(good), str(bad)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[1] == f"{bad}: step 1 differs"
    assert '{"0": 9}' in out[2]
    assert out[3].startswith("  stepwise: ")
    assert '{"0": 8}' in out[3]
    assert out[6].startswith("  decode_clock: ")


def test_a_file_that_is_no_recording_is_refused(tmp_path):
    from gsim.core.errors import InputError

    path = tmp_path / "x.json"
    path.write_text("{}")
    with pytest.raises(InputError, match="no config, requests, steps"):
        read_recording(path)
    path.write_text("nothing")
    with pytest.raises(InputError, match="not a recording"):
        read_recording(path)
