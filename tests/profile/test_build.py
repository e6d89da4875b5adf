"""Building profiles: what is refused and with which words, what an estimate gives, and the shipped large pool."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from gsim.core import Batch, ConfigError
from gsim.engine import EngineConfig
from gsim.latency import load_profile
from gsim.profile.__main__ import main
from gsim.run.pool import POOLS, InstanceGroup, PoolConfig

LARGE = ("h800-llama-3.1-70b-tp4", "a800-llama-3.1-70b-tp4", "a40-llama-3.1-70b-tp8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build", "gpu=h100"], "missing: model=..."),
        (["build", "model=llama-3.1-8b", "gpu=h1"], "card 'h1' is not known"),
        (["build", "model=llama-9", "gpu=h100"], "unknown model 'llama-9'"),
        (["build", "model=llama-3.1-70b", "gpu=h100"], "does not fit: its weights take 141.1 GB of each card's 80 GB"),
        (["build", "model=llama-3.1-70b", "gpu=h100", "tp=4", "pp=2"], "pp is 2: pipeline parallelism has not been"),
        (["build", "model=llama-3.1-8b", "gpu=h100", "tp=many"], "tp must be a whole number, not 'many'"),
        (["build", "model=llama-3.1-8b", "gpu=h100", "speed=2"], "there is no option 'speed'; there are: model, gpu"),
        (["build", "model=llama-3.1-8b", "gpu=h100", "kind=guess"], "kind must be tables or roofline, not 'guess'"),
        (
            ["build", "model=llama-3.1-8b", "gpu=a40"],
            "there are no kernel tables for A40; there are some for: A100-80G",
        ),
        (["build", "model=llama-3.1-8b", "gpu=h100", "tables=nowhere"], "tables: nowhere holds no aiconfigurator_core"),
        (["build", "model=llama-3.1-8b", "gpu=a30", "kind=roofline"], "nobody measured what serving reaches of a A30"),
        (["build", "model=qwen3-30b-a3b", "gpu=mi300x", "kind=roofline"], "there must be tables"),
        (
            ["build", "model=llama-3.1-70b", "gpu=mi300x", "tp=2", "kind=roofline"],
            "nobody measured an all-reduce of 2 x",
        ),
        (["build", "model=llama-3.1-8b", "gpu=a40", "dtype=int4", "kind=roofline"], "what int4 kernels reach of a A40"),
        (
            ["build", "model=llama-3.1-8b", "gpu=a40", "kind=roofline", "engine=vllm-9"],
            "engine must be one of vllm-0.21,",
        ),
        (["build", "model=llama-3.1-8b", "gpu=h100", "ep=2"], "ep is 2: the all-to-all of expert parallelism has not"),
        (["build", "model=llama-3.1-8b", "gpu=h100", "tp=3"], "tp 3 does not divide 32 heads and 8 KV heads"),
        (
            ["build", "model=llama-3.1-8b", "gpu=h100", "dtype=fp7"],
            "weight_dtype must be one of fp32, fp16, bf16, fp8,",
        ),
        (["build", "model=llama-3.1-8b", "gpu=h100", "kv_dtype=fp4"], "kv_dtype must be one of fp32, fp16, bf16, fp8"),
        (["make"], "'make' is no command; there are: build, check, show"),
        (["show"], "show takes one profile"),
    ],
)
def test_what_cannot_be_built_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if words[0] == "build" and any(w == "gpu=a40" for w in words) and "kind=roofline" not in words:
        words = [*words, f"tables={_tables(tmp_path)}"]
    assert main([*words, f"out={tmp_path}"] if words[0] == "build" else words) == 1
    assert message in capsys.readouterr().err


def _tables(folder: Path) -> Path:
    (folder / "systems" / "data").mkdir(parents=True)
    return folder


@pytest.mark.skipif(importlib.util.find_spec("aiconfigurator_core") is not None, reason="the tables are installed")
def test_without_the_extra_it_says_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "model=llama-3.1-8b", "gpu=h100"]) == 1
    assert "pip install 'gsim[tables]' (82 MB), or give tables=FOLDER" in capsys.readouterr().err


def test_an_estimate_is_a_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "model=llama-3.1-8b", "gpu=v100", "kind=roofline", f"out={tmp_path}"]) == 0
    profile = load_profile(tmp_path / "v100-llama-3.1-8b.yaml")
    measured = load_profile("v100-llama-3.1-8b")
    for n in (1, 8, 32):
        batch = Batch((), n, 512 * n, 512)
        assert profile.latency.iteration_s(batch) == pytest.approx(measured.latency.iteration_s(batch), rel=0.25)
    assert main(["show", str(tmp_path / "v100-llama-3.1-8b.yaml")]) == 0
    assert "decode iteration, ms" in capsys.readouterr().out


def test_the_large_pool_serves_one_model_on_instances_of_several_cards() -> None:
    pool = POOLS["large"][1].build(EngineConfig())
    assert [spec.profile.deployment.cards for spec in pool] == [4, 4, 4, 4, 4, 4, 8, 8]
    by_name = {name: load_profile(name) for name in LARGE}
    assert [by_name[name].price_per_hour for name in LARGE] == pytest.approx([10.8, 6.0, 3.2])
    assert len({profile.layout for profile in by_name.values()}) == 2
    batch = Batch((), 16, 16 * 1024, 1024)
    times = [by_name[name].latency.iteration_s(batch) for name in LARGE]
    assert times == sorted(times)


def test_a_pool_of_different_models_is_refused() -> None:
    mixed = PoolConfig((InstanceGroup("h800-llama-3.1-8b"), InstanceGroup("h800-llama-3.1-70b-tp4")))
    with pytest.raises(ConfigError, match=r"serve different models \(llama-3.1-70b, llama-3.1-8b\), and no trace says"):
        mixed.build(EngineConfig())


def test_an_older_engine_adds_its_own_time(tmp_path: Path) -> None:
    words = ["build", "model=llama-3.1-8b", "gpu=v100", "kind=roofline"]
    times = {}
    for engine in ("kernels", "vllm-0.21", "vllm-0.6"):
        assert main([*words, f"engine={engine}", f"out={tmp_path}"]) == 0
        profile = load_profile(tmp_path / "v100-llama-3.1-8b.yaml")
        assert profile.deployment.engine_version == engine
        times[engine] = [profile.latency.iteration_s(Batch((), n, 512 * n, 512)) for n in (1, 32)]
    more = [[a - b for a, b in zip(times[name], times["kernels"])] for name in ("vllm-0.21", "vllm-0.6")]
    assert more[0] == pytest.approx([0.2e-3, 0.2e-3])
    assert more[1] == pytest.approx([1.03e-3, 1.96e-3])


def test_every_combination_is_built_and_what_cannot_be_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["build", "model=llama-3.1-8b", "gpu=a40,a30,v100", "kind=roofline"]
    assert main([*words, f"out={tmp_path / 'a,b'}"]) == 1
    said = capsys.readouterr()
    assert sorted(file.stem for file in (tmp_path / "a,b").iterdir()) == ["a40-llama-3.1-8b", "v100-llama-3.1-8b"]
    assert len(said.out.splitlines()) == 2
    assert said.err.startswith("error: model=llama-3.1-8b gpu=a30 kind=roofline")
    assert main([*words, f"out={tmp_path / 'one.yaml'}"]) == 1
    assert "several profiles go into a folder" in capsys.readouterr().err
    assert main(["build", "model=llama-3.1-8b", "gpu=a40", "kind=roofline", f"out={tmp_path / 'one.yaml'}"]) == 0
    assert load_profile(tmp_path / "one.yaml").gpu == "A40"
