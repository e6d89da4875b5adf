from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsim.core import Batch, Chunk, ProfileError
from gsim.latency import OperatorModel, default_capture_sizes, load_profile, operator_profile
from gsim.latency.operators.tables import LAYER_OPERATORS, OUTER_OPERATORS

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "profiles" / "operator"
LAYERS = 32


def write_tables(folder: Path) -> Path:
    """Small tables whose times follow simple rules, in the published format (microseconds, one layer)."""
    folder.mkdir()
    (folder / "meta.yaml").write_text(
        "vllm_version: 0.19.0\nhardware: RTX4090\nprofiled_at: today\nmodel: meta-llama/Llama-3.1-8B\nvariant: bf16\n"
        "engine_effective: {max_num_batched_tokens: 2048, max_num_seqs: 8}\n"
    )
    names = (*LAYER_OPERATORS, *OUTER_OPERATORS)
    dense = [f"{name},{t},{2 + 0.1 * t}" for name in names for t in (1, 8, 16, 2048)]
    (folder / "dense.csv").write_text("\n".join(["layer,tokens,time_us", *dense]) + "\n")
    heads = [f"{name},{n},{100 + n}" for name in ("lm_head", "sampler") for n in (1, 8)]
    (folder / "per_sequence.csv").write_text("\n".join(["layer,sequences,time_us", *heads]) + "\n")
    rows = [f"0,0,{n},{k},{attention(0, 0, n, k)}" for n in (1, 2, 8) for k in (16, 256, 1024)]
    for c, b in itertools.product((16, 2048), (0, 16, 1024)):
        rows.append(f"{c},{b},0,0,{attention(c, b, 0, 0)}")
        rows += [f"{c},{b},{n},{k},{attention(c, b, n, k)}" for n in (1, 2, 8) for k in (16, 256, 1024)]
    (folder / "attention.csv").write_text(
        "\n".join(["prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", *rows]) + "\n"
    )
    skew = ["n,pc,kv_big,kv_mean,t_mean_us,t_max_us,t_skew_us"]
    for pc, n, rate in itertools.product((0, 16), (2, 8), (0.02, 0.1, 0.3, 0.6, 0.9)):
        skew.append(f"{n},{pc},1000,{1000 * (1 - rate)},30,60,{30 + 30 * (0.1 if pc else rate / 2)}")
    (folder / "skew.csv").write_text("\n".join(skew) + "\n")
    return folder


def attention(chunk: int, behind: int, decodes: int, context: int) -> float:
    return round(5 + 0.05 * chunk + 0.0001 * chunk * behind + 0.01 * decodes * context, 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("operator") / "tables")


@pytest.fixture(scope="module")
def model(folder: Path) -> OperatorModel:
    latency = operator_profile(folder).latency
    assert isinstance(latency, OperatorModel)
    return latency


def dense_us(tokens: int) -> float:
    return LAYERS * 8 * (2 + 0.1 * tokens) + 2 * (2 + 0.1 * tokens)


def test_a_pure_decode_is_its_operators(model: OperatorModel) -> None:
    expected = dense_us(4) + 2 * 103 + LAYERS * attention(0, 0, 3, 500)
    # Three tokens are padded up to the graph that is captured for four.
    assert model.iteration_s(Batch((), 3, 1500, 500)) == pytest.approx(expected * 1e-6, rel=1e-12)


def test_a_mixed_iteration_is_measured_jointly(model: OperatorModel) -> None:
    batch = Batch((Chunk(700, 300),), 2, 512, 256)
    expected = dense_us(702) + 2 * 103 + LAYERS * attention(700, 300, 2, 256)
    assert model.iteration_s(batch) == pytest.approx(expected * 1e-6, rel=1e-12)


def test_chunks_are_joined_by_the_pairs_of_tokens_they_attend_to(model: OperatorModel) -> None:
    two = Batch((Chunk(100, 900), Chunk(300, 200)), 0, 0, 0)
    behind = ((100 * (2 * 900 + 100) + 300 * (2 * 200 + 300)) / 400 - 400) / 2
    expected = dense_us(400) + 2 * 102 + LAYERS * (5 + 0.05 * 400 + 0.0001 * 400 * behind)
    assert model.iteration_s(two) == pytest.approx(expected * 1e-6, rel=1e-12)


def test_unlike_contexts_take_alpha_of_the_way_to_the_longest(model: OperatorModel) -> None:
    even, longest = (model.iteration_s(Batch((), 8, 8 * c, c)) for c in (300, 1000))
    skewed = model.iteration_s(Batch((), 8, 8 * 300, 1000))
    # The skew rate is 0.7, whose band was measured at 0.6.
    assert skewed == pytest.approx(even + 0.3 * (longest - even), rel=1e-9)


@given(st.integers(1, 20), st.integers(0, 20_000), st.integers(0, 3000), st.integers(0, 2500))
def test_a_decode_run_is_the_sum_of_its_iterations(
    model: OperatorModel, sequences: int, context: int, more: int, iterations: int
) -> None:
    longest = -(-context // sequences) + (more if sequences > 1 else 0)
    steps = (Batch((), sequences, context + i * sequences, longest + i) for i in range(iterations))
    expected = math.fsum(model.iteration_s(batch) for batch in steps)
    run_s = model.decode_run_s(sequences, context, longest, iterations)
    assert run_s == pytest.approx(expected, rel=1e-9, abs=1e-12)
    # To the last bit the definition is what decode_run_s says.
    n = model.decode_run_iterations(sequences, context, longest, run_s)
    assert model.decode_run_s(sequences, context, longest, n) <= run_s
    assert model.decode_run_s(sequences, context, longest, n + 1) > run_s


def test_a_long_tail_costs_the_same_in_any_batch(model: OperatorModel) -> None:
    """Alpha times the size is what carries over between measured sizes (8 has 0.3, 2 has 0.3 in this band)."""
    even, longest = (model.iteration_s(Batch((), 4, 4 * c, c)) for c in (300, 1000))
    skewed = model.iteration_s(Batch((), 4, 4 * 300, 1000))
    expected = (0.3 * 2 + (4 - 2) / (8 - 2) * (0.3 * 8 - 0.3 * 2)) / 4
    assert skewed == pytest.approx(even + expected * (longest - even), rel=1e-9)


def test_nothing_is_interpolated_across_the_end_of_splitting(model: OperatorModel) -> None:
    """Padded to 4, a batch of 3 is on the far side of a kernel that stops splitting there: it takes after 8, not 2."""
    alphas = [dataclasses.replace(model, unsplit_from=n)._alphas(0, 3) for n in (0, 4, 5)]
    assert alphas[1] == pytest.approx([a * 8 / 3 if a * 8 / 3 < 1 else 1.0 for a in model._alphas(0, 8)])
    assert alphas[2] == pytest.approx([a * 2 / 3 for a in model._alphas(0, 2)])
    assert alphas[0] != alphas[1] != alphas[2]


@pytest.mark.parametrize("axis", ["chunk", "behind", "decodes", "context"])
def test_beyond_the_tables_attention_never_falls(folder: Path, tmp_path: Path, axis: str) -> None:
    copy = tmp_path / "falling"
    shutil.copytree(folder, copy)
    lines = (copy / "attention.csv").read_text().splitlines()
    column = {"chunk": 0, "behind": 1, "decodes": 2, "context": 3}[axis]
    last = {"chunk": "2048", "behind": "1024", "decodes": "8", "context": "1024"}[axis]

    def fallen(line: str) -> str:
        fields = line.split(",")
        if fields[column] == last:
            fields[4] = str(4.5)  # less than any smaller problem takes
        return ",".join(fields)

    (copy / "attention.csv").write_text("\n".join([lines[0], *map(fallen, lines[1:])]) + "\n")
    model = operator_profile(copy).latency
    flat = dataclasses.replace(model, tables=dataclasses.replace(model.tables, alpha=model.tables.alpha * 0.0))
    lines_of = {
        "chunk": [Batch((Chunk(tokens, 16),), 2, 512, 256) for tokens in (2048, 4096, 16000)],
        "behind": [Batch((Chunk(16, behind),), 2, 512, 256) for behind in (1024, 8000, 100_000)],
        "decodes": [Batch((), n, n * 256, 256) for n in (8, 64, 900)],
        "context": [Batch((), 2, 2 * c, c) for c in (1024, 8000, 100_000)],
    }
    for batches in (lines_of[axis], [batch._replace(chunks=(Chunk(16, 16),)) for batch in lines_of[axis]]):
        times = [flat.iteration_s(batch) for batch in batches]
        assert times[0] > 0.0
        assert times == sorted(times)


def test_vllms_capture_sizes() -> None:
    sizes = default_capture_sizes(256)
    assert sizes[:6] == (1, 2, 4, 8, 16, 24)
    assert sizes[-1] == 512
    assert len(sizes) == 51
    assert max(default_capture_sizes(8)) == 16


@pytest.mark.parametrize("overhead_us", [1000.0, -300.0])
def test_overhead_and_eager_execution_are_explicit(folder: Path, overhead_us: float) -> None:
    eager = operator_profile(folder, overhead_us * 1e-6, capture_sizes=()).latency
    expected = overhead_us + dense_us(3) + 2 * 103 + LAYERS * attention(0, 0, 3, 500)
    assert eager.iteration_s(Batch((), 3, 1500, 500)) == pytest.approx(expected * 1e-6, rel=1e-12)


def test_a_folder_is_the_plain_sum_of_its_operators(model: OperatorModel) -> None:
    """What an iteration takes beside them belongs to an engine: no folder knows it, and nothing is assumed."""
    assert model.overhead_s == 0.0


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("attention.csv", "0,0,2,256,10.12\n", "", r"attention.csv: grid point missing at n_decode 2, kv_decode 256"),
        ("attention.csv", "16,0,2,256,10.92\n", "", "prefill_chunk 16, kv_prefill 0, n_decode 2, kv_decode 256"),
        ("attention.csv", "0,0,2,256,10.12\n", "0,0,2,256,nan\n", "row 6: time_us must be a finite number above 0"),
        ("attention.csv", "0,0,2,256,10.12\n", "0,0,2,256,-1\n", "row 6: time_us must be .* above 0, not -1"),
        ("attention.csv", "time_us", "time", "column time_us is missing"),
        ("dense.csv", "qkv_proj", "o_proj", "operator qkv_proj is missing; there are: act_fn"),
        ("dense.csv", "qkv_proj", "qkv", "operator qkv is not one that a layer of this model has; known: layernorm"),
        ("per_sequence.csv", "sampler", "logits", "operator logits is not one"),
        ("dense.csv", "act_fn,8,2.8\n", "", "not every operator has a row for tokens 8"),
        ("meta.yaml", "RTX4090", "TPU", "memory of TPU is not known"),
        ("meta.yaml", "Llama-3.1-8B", "Llama-9", "unknown model"),
    ],
)
def test_broken_folders_are_refused(folder: Path, tmp_path: Path, file: str, old: str, new: str, words: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new))
    with pytest.raises(ProfileError, match=words):
        load_profile(copy)


def test_a_changed_config_of_the_model_is_read_again(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy-tp1")
    text = (copy / "meta.yaml").read_text()
    (copy / "meta.yaml").write_text(text.replace("meta-llama/Llama-3.1-8B", "../model.json"))
    config = {"model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8}
    config |= {"vocab_size": 128256, "intermediate_size": 14336, "max_position_embeddings": 8192}
    for layers in (LAYERS, 8):
        (tmp_path / "model.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
        assert load_profile(copy).deployment.model.layers == layers


def test_an_overhead_cannot_take_away_more_than_the_operators(folder: Path) -> None:
    with pytest.raises(ProfileError, match="leaves iterations without any time"):
        operator_profile(folder, -1.0)
    with pytest.raises(ProfileError, match="overhead_s a finite number"):
        operator_profile(folder, math.nan)


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="holds meta.yaml, dense.csv and attention.csv, or .* it holds nothing"):
        load_profile(tmp_path)


@pytest.mark.parametrize("name", ["rtx4090-llama-3.1-8b-tp1", "rtxpro6000-llama-3.1-8b-tp1"])
def test_published_folders_are_read_in_place(name: str) -> None:
    if not SHARED.is_dir():
        pytest.skip("the published operator tables are not at hand")
    profile = load_profile(SHARED / name)
    assert profile is load_profile(SHARED / name)
    assert profile.model.layers == LAYERS
    latency = profile.latency
    # Decoding reads all weights: 16 GB at about 1 TB/s (RTX 4090) and 1.8 TB/s (RTX PRO 6000).
    assert 0.008 < latency.iteration_s(Batch((), 1, 100, 100)) < 0.018
    assert latency.iteration_s(Batch((), 40, 40_000, 3000)) > latency.iteration_s(Batch((), 40, 40_000, 1000))
    joint = latency.iteration_s(Batch((Chunk(1000, 0),), 40, 40_000, 1000))
    assert joint > latency.iteration_s(Batch((Chunk(1000, 0),), 0, 0, 0))
