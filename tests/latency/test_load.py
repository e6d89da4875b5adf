from __future__ import annotations

import io
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gsim.core import Batch, Chunk, ProfileError
from gsim.latency import load_profile, profile_names
from gsim.latency.opened import profile_files

GOOD = """
gpu: MyCard
model: llama-3.1-8b
memory_gb: 48
engine: {max_num_batched_tokens: 2048, max_num_seqs: 64, max_model_len: 8192}
price: {usd_per_hour: 1.5, source: mine}
latency: {kind: constant, iteration_ms: 10}
domain: {measured: {sequences: 64, batch_tokens: 2048, context_tokens: 8192}}
provenance: {source: me, basis: assumed, engine_version: none, date: 2026, licence: none, uncertainty: none}
"""
GRID = """{kind: iteration, overhead_ms: 1, square_token_ms: 0, decode: {batch: [1, 64], context: [100, 200],
  ms: [[10, 11], [12, %s]]}, prefill: {tokens: [100, 2048], context: [0], ms: [[12], [50]]}}"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_a_profile_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "profiles").mkdir()
    write(tmp_path / "profiles", GOOD)
    monkeypatch.chdir(tmp_path)
    profile = load_profile("mine")
    assert (profile.name, profile.gpu, profile.price_per_hour) == ("mine", "MyCard", 1.5)
    assert profile.latency.iteration_s(Batch((), 1, 5, 5)) == 0.01
    assert "mine" in profile_names()
    # 0.9 of 48 GB less 16.06 GB of weights and 0.44 GB, at 128 KiB per token.
    assert profile.kv_tokens == 203_700


def test_the_users_own_profile_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "a40-llama-3.1-8b.yaml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    assert load_profile("a40-llama-3.1-8b").gpu == "MyCard"


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert load_profile(path).price_per_hour == 1.5
    write(tmp_path, GOOD.replace("usd_per_hour: 1.5", "usd_per_hour: 11.5"))
    assert load_profile(path).price_per_hour == 11.5


def test_a_changed_model_is_read_again(tmp_path: Path, opened: set[str]) -> None:
    config = {
        **{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32},
        **{"num_key_value_heads": 8, "vocab_size": 128256, "intermediate_size": 14336},
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config | {"max_position_embeddings": 8192}))
    path = write(tmp_path, GOOD.replace("llama-3.1-8b", "config.json"))
    profile = load_profile(path)
    assert load_profile(path) is profile
    assert profile.deployment.model.layers == 32
    # The loader opens no file that a run's key does not have.
    assert opened == {str(file) for file in profile_files(path)} == {str(path), str(file)}
    file.write_text(json.dumps(config | {"max_position_embeddings": 8192, "num_hidden_layers": 8}))
    assert load_profile(path).deployment.model.layers == 8


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The files that have been opened for reading."""
    found: set[str] = set()
    original = io.open

    def seen(file: Any, mode: str = "r", *args: Any, **words: Any) -> Any:
        if "r" in mode:
            found.add(str(file))
        return original(file, mode, *args, **words)

    monkeypatch.setattr(io, "open", seen)
    return found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("v100-lama-3.1-8b", "unknown profile 'v100-lama-3.1-8b'.*did you mean v100-llama-3.1-8b"),
        ("tpu", "There are: a100-llama-2-7b, "),
        ("nowhere/mine.yaml", "no such file or folder"),
    ],
)
def test_an_unknown_name_lists_what_exists(name: str, words: str) -> None:
    with pytest.raises(ProfileError, match=words):
        load_profile(name)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("llama-3.1-8b", "llama-9", r"mine.yaml: model: unknown model 'llama-9'.*catalogue has: "),
        ("memory_gb: 48", "memory_gb: 16", r"memory_gb: llama-3.1-8b on MyCard does not fit: its weights take 16.1 GB"),
        (
            "memory_gb: 48",
            "memory_gb: 48\nkv_tokens: 900000",
            r"kv_tokens: 900000 tokens of KV do not fit.*at most \d+",
        ),
        ("memory_gb: 48", "memory_gb: much", r"memory_gb: must be a finite number above 0, not 'much'"),
        (
            "max_num_seqs: 64",
            "max_num_seqs: 4096",
            "max_num_batched_tokens .2048. must be at least max_num_seqs .4096.",
        ),
        ("max_num_seqs: 64", "max_num_seqs: 65", "max_num_seqs .65. is beyond the profile's domain, which ends at 64"),
        ("max_num_seqs: 64", "max_num_seqs: 0", "engine.max_num_seqs: must be a whole number of at least 1, not 0"),
        ("usd_per_hour: 1.5", "usd_per_hour: -1", "price.usd_per_hour: must be a finite number of at least 0, not -1"),
        ("kind: constant", "kind: magic", "latency.kind: must be one of parametric, iteration, constant, not 'magic'"),
        ("iteration_ms: 10", "iteration_ms: .nan", "latency.iteration_ms: must be a finite number above 0, not nan"),
        ("iteration_ms: 10", "iteration_ms: 10, speed: 2", "latency.speed: is not a field"),
        ("gpu: MyCard", "gpuu: MyCard", "gpu: is missing"),
        ("gpu: MyCard", "gpu: [", "not valid YAML"),
        ("licence: none, ", "", "provenance.licence: is missing"),
        (
            "{kind: constant, iteration_ms: 10}",
            GRID % ".nan",
            r"latency.decode.ms\[1\]\[1\]: must be a finite .*not nan",
        ),
        (
            "{kind: constant, iteration_ms: 10}",
            GRID.replace("overhead_ms: 1", "overhead_ms: 1, mixed: {kv_factor: 0.5}") % "13",
            r"latency.mixed.kv_factor: must be a finite number of at least 1, not 0.5",
        ),
        (
            "{kind: constant, iteration_ms: 10}",
            GRID.replace("overhead_ms: 1", "overhead_ms: 1, mixed: {factor: 2}") % "13",
            "latency.mixed.factor: is not a field",
        ),
        ("{kind: constant, iteration_ms: 10}", GRID % "null", r"latency.decode.ms\[1\]\[1\]: must be .*not None"),
        ("{kind: constant, iteration_ms: 10}", GRID % "-3", r"latency.decode.ms\[1\]\[1\]: must be .*above 0, not -3"),
        ("{kind: constant, iteration_ms: 10}", GRID % "5", r"mine.yaml: .*times must not fall as context grows"),
        (
            "{kind: constant, iteration_ms: 10}",
            GRID % "13",
            "mine.yaml: domain.measured.context_tokens is 8192, but the latency grid ends at 2048",
        ),
        ("8192}}", "8192}, limit: {sequences: 99}}", "limit: needs extrapolate: linear"),
    ],
)
def test_a_bad_field_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(ProfileError, match=words):
        load_profile(path)


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_say_where_they_come_from(name: str) -> None:
    profile = load_profile(name)
    assert (
        profile.provenance.basis.startswith(("derived", "estimated: roofline")) or "derived" in profile.provenance.basis
    )
    stated = ("%", "kernels only", "no claim")
    assert any(word in profile.provenance.uncertainty for word in stated)
    assert profile.provenance.licence in ("Apache-2.0", "MIT")
    assert "assumption" in profile.price_source
    for folder in (Path(__file__).resolve().parents[2] / "profiles",):
        raw = yaml.safe_load((folder / f"{name}.yaml").read_text())
        assert raw["domain"]["extrapolate"] == "linear"


PIECES = (
    *("1_02", "010", "1:30", "0", "-1", "1e400", "1e-300", ".nan", ".inf", "null", "true", "'512'", "512.5", "[]"),
    *("{}", "&a", "*a", "[*a, *a]", ",", "]", "}", ":", "\n", "\t", "١٢", "\x00", "6.15", "9" * 400, "!!python/none"),
)
edit = st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(PIECES) | st.text(max_size=4))


@given(st.booleans(), st.lists(edit, min_size=1, max_size=3))
@settings(max_examples=60)
def test_fuzzed_profiles_are_refused_or_keep_to_what_profiles_do(
    grid: bool, changes: list[tuple[float, int, str]]
) -> None:
    text = GOOD.replace("{kind: constant, iteration_ms: 10}", GRID % "13").replace("8192", "200") if grid else GOOD
    for place, length, piece in changes:
        at = int(place * len(text))
        text = text[:at] + piece + text[at + length :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            profile = load_profile(path)
        except ProfileError as error:
            assert "mine.yaml" in str(error)  # noqa: PT017
            return
    limit, asked = profile.domain.limit, profile.latency
    n = min(limit.sequences, limit.batch_tokens)
    lines = [
        [asked.iteration_s(Batch((), n, n * c, c)) for c in sorted({1, limit.context_tokens})],
        [asked.iteration_s(Batch((), k, k, 1)) for k in sorted({1, n})],
        [asked.iteration_s(Batch((Chunk(min(limit.batch_tokens, limit.context_tokens), 0),), 0, 0, 0))],
    ]
    for line in lines:
        assert all(0.0 < seconds < math.inf for seconds in line), text
