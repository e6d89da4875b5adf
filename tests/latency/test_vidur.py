from __future__ import annotations

from pathlib import Path

import pytest

from gsim.core import Batch, Chunk, ProfileError
from gsim.latency import load_profile
from gsim.latency.vidur.folder import vidur_profile
from gsim.latency.vidur.tables import LAYER_OPERATORS

LAYERS, HIDDEN, VOCABULARY = 32, 4096, 128256


def write_tables(root: Path, device: str = "a100") -> Path:
    """Tables in the published columns (milliseconds, one layer) with simple times."""
    folder = root / "compute" / device / "meta-llama" / "Meta-Llama-3-8B"
    folder.mkdir(parents=True)
    names = [f"time_stats.{name}.median" for name in LAYER_OPERATORS]
    lines = [",".join([*names, "num_tokens", "num_tensor_parallel_workers", "n_embd", "vocab_size"])]
    for workers in (1, 2):
        for tokens in (1, 64, 4096):
            times = [str((0.03 + 0.0001 * tokens) / workers)] * len(names)
            lines.append(",".join([*times, str(tokens), str(workers), str(HIDDEN), str(VOCABULARY)]))
    (folder / "mlp.csv").write_text("\n".join(lines) + "\n")
    lines = [
        "time_stats.attn_prefill.median,time_stats.attn_decode.median,time_stats.attn_kv_cache_save.median,"
        "batch_size,prefill_chunk_size,kv_cache_size,num_tensor_parallel_workers,n_embd,n_kv_head"
    ]
    for batch in (1, 8):
        for context in (128, 1024, 4096) if batch == 1 else (128, 1024):
            lines.append(f",{0.01 + 1e-5 * batch * context},0.002,{batch},0,{context},1,{HIDDEN},8")
    for chunk in (64, 1024):
        for context in (0, 1024):
            lines.append(f"{1e-7 * chunk * (chunk + 2 * context)},,0.002,1,{chunk},{context},1,{HIDDEN},8")
    (folder / "attention.csv").write_text("\n".join(lines) + "\n")
    return folder


def layer_ms(tokens: int) -> float:
    return 10 * (0.03 + 0.0001 * tokens)


def head_ms() -> float:
    weights = VOCABULARY * HIDDEN
    return layer_ms(1) * weights / ((8_030_261_248 - 2 * weights) / LAYERS)


def test_decode_and_prefill_are_sums_of_operators(tmp_path: Path) -> None:
    profile = load_profile(write_tables(tmp_path))
    assert (profile.name, profile.gpu, profile.max_num_seqs) == ("a100-llama-3.1-8b", "A100-80G", 256)
    iteration_s = profile.latency.iteration_s
    expected = 0.2 + LAYERS * (layer_ms(8) + 0.012 + 1e-5 * 8 * 1024) + head_ms()
    assert iteration_s(Batch((), 8, 8 * 1024, 1024)) == pytest.approx(expected * 1e-3, rel=1e-9)
    expected = 0.2 + LAYERS * (layer_ms(1024) + 0.002 + 1e-7 * 1024 * 1024) + head_ms()
    assert iteration_s(Batch((Chunk(1024, 0),), 0, 0, 0)) == pytest.approx(expected * 1e-3, rel=1e-9)
    later = iteration_s(Batch((Chunk(1024, 1024),), 0, 0, 0)) - iteration_s(Batch((Chunk(1024, 0),), 0, 0, 0))
    assert later == pytest.approx(LAYERS * 1e-7 * 1024 * 2048 * 1e-3, rel=1e-9)


def test_what_did_not_fit_the_card_carries_on(tmp_path: Path) -> None:
    iteration_s = load_profile(write_tables(tmp_path)).latency.iteration_s
    expected = 0.2 + LAYERS * (layer_ms(8) + 0.012 + 1e-5 * 8 * 4096) + head_ms()
    assert iteration_s(Batch((), 8, 8 * 4096, 4096)) == pytest.approx(expected * 1e-3, rel=1e-9)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("mlp.csv", "time_stats.mlp_act.median", "x", "column time_stats.mlp_act.median is missing"),
        ("mlp.csv", str(HIDDEN), "5120", "no row has n_embd 4096 and the intermediate size of llama-3.1-8b"),
        ("attention.csv", ",8\n", ",32\n", "there are no rows for batch_size"),
        ("attention.csv", ",0,1,4096,8\n", ",16,1,4096,8\n", "no rows with kv_cache_size 0 for prefill_chunk_size"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, file: str, old: str, new: str, words: str) -> None:
    folder = write_tables(tmp_path)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    with pytest.raises(ProfileError, match=words):
        load_profile(folder)


def test_unknown_devices_and_too_small_cards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="device 'meta-llama or tpu' is not known; there are: V100-32G"):
        load_profile(write_tables(tmp_path, "tpu"))
    folder = write_tables(tmp_path, "t4")
    with pytest.raises(ProfileError, match="on T4 does not fit: its weights take 16.1 GB"):
        vidur_profile(folder, tp=1)
    with pytest.raises(ProfileError, match="tp 2 needs the time of an all-reduce"):
        load_profile(folder)
    with pytest.raises(ProfileError, match=r"no rows of tp 8; num_tensor_parallel_workers are \[1, 2\]"):
        vidur_profile(folder, tp=8)


def test_several_cards_need_an_all_reduce_and_count_it(tmp_path: Path) -> None:
    folder = write_tables(tmp_path)
    text = (folder / "attention.csv").read_text()
    rows = [line for line in text.splitlines()[1:] if line.endswith(f",1,{HIDDEN},8")]
    both = [text.rstrip("\n"), *(line.replace(f",1,{HIDDEN},8", f",2,{HIDDEN},8") for line in rows)]
    (folder / "attention.csv").write_text("\n".join(both) + "\n")
    lines = ["num_workers,size,time_stats.all_reduce.median", f"2,{2 * HIDDEN},0.01", f"2,{2 * HIDDEN * 1024},0.1"]
    (folder / "all_reduce.csv").write_text("\n".join(lines) + "\n")
    profile = vidur_profile(folder, tp=2)
    assert (profile.name, profile.deployment.cards) == ("a100-llama-3.1-8b-tp2", 2)
    expected = 0.2 + LAYERS * (layer_ms(1) / 2 + 0.012 + 1e-5 * 128) + head_ms() / 2 + 65 * 0.01
    one = profile.latency.iteration_s(Batch((), 1, 128, 128))
    assert one == pytest.approx(expected * 1e-3, rel=1e-9)
    (folder / "all_reduce.csv").write_text("num_workers,size,time_stats.all_reduce.median\n4,8192,0.01\n")
    with pytest.raises(ProfileError, match=r"all_reduce.csv: num_workers 2 is missing; there are \[4\]"):
        vidur_profile(folder, tp=2)


def test_frontiers_measured_folders_load(shared: Path) -> None:
    folder = shared / "data" / "profiles" / "frontier"
    dense = load_profile(folder / "a800" / "Llama-2-7b-hf")
    assert (dense.gpu, dense.domain.measured.sequences) == ("A800-80G", 128)
    sparse = load_profile(folder / "a800" / "qwen3-a3b-30b-moe")
    assert sparse.model.experts is not None
    with pytest.raises(ProfileError, match="tp 8 needs the time of an all-reduce"):
        load_profile(folder / "h800" / "Llama-3.1-405B-Instruct-FP8")
    with pytest.raises(ProfileError, match=r"num_experts_per_device .* is \[16\], but the model has 128"):
        vidur_profile(folder / "h800" / "Qwen3-30B-A3B-tiny", model="qwen3-30b-a3b")
