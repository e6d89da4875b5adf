"""What is kept on disk: only what is whole, and what it says it is, is used again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from gsim.cli.entry import main
from gsim.core import InputError
from gsim.core.files import written
from gsim.run import version
from gsim.run.closure import PACKAGE
from gsim.run.store import RunStore
from gsim.study.kept import Kept

SMALL = ["trace.requests=30", "warmup_s=0", "hydra.launcher.n_jobs=1", "rectifier=none"]
PROFILE = PACKAGE.parent / "profiles" / "a800-llama-3.1-8b.yaml"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stored(tmp_path: Path) -> RunStore:
    store = RunStore(tmp_path / "runs")
    rows = pa.table({"x": list(range(50)), "task": pa.array(["a", "b"] * 25).dictionary_encode()})
    store.save("first", rows, {"metrics": {"good": 3}}, {"code": "c"})
    return store


def test_a_stored_run_is_read_as_it_was_written(stored: RunStore) -> None:
    assert stored.sound("first")
    assert stored.summary("first") == {"metrics": {"good": 3}}
    assert stored.made("first") == {"code": "c"}
    assert stored.rows("first").column("x").to_pylist() == list(range(50))
    assert pd.read_parquet(stored.path("first"))["task"].tolist() == ["a", "b"] * 25
    assert not stored.sound("second")
    with pytest.raises(InputError, match="no finished run"):
        stored.summary("second")


def test_every_single_bit_that_flips_is_seen(stored: RunStore) -> None:
    whole = stored.path("first").read_bytes()
    for byte in range(0, len(whole), max(1, len(whole) // 400)):
        changed = bytearray(whole)
        changed[byte] ^= 1 << byte % 8
        stored.path("first").write_bytes(changed)
        assert not RunStore(stored.folder).sound("first"), byte


@pytest.mark.parametrize("size", [0, 1, 100, -1, -60])
def test_a_file_that_was_cut_is_no_run(stored: RunStore, size: int) -> None:
    whole = stored.path("first").read_bytes()
    stored.path("first").write_bytes(whole[:size])
    assert not stored.sound("first")


def test_a_run_under_another_name_is_not_that_run(stored: RunStore) -> None:
    shutil.copy(stored.path("first"), stored.path("second"))
    assert not stored.sound("second")


def test_damaged_runs_are_computed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["name=kept", "router=random", "seeds=3", *SMALL]
    assert main(words) == 0
    results = (tmp_path / "results" / "kept" / "results.csv").read_bytes()
    first, second, third = sorted((tmp_path / "results" / "kept" / "runs").glob("*.parquet"))
    changed = bytearray(first.read_bytes())
    changed[40] ^= 1
    first.write_bytes(changed)
    shutil.copy(third, second)  # another seed's run
    capsys.readouterr()
    assert main(words) == 0
    said = capsys.readouterr().err
    assert "2 stored runs are not as they were written" in said
    assert "2 runs computed, 1 were there already" in said
    assert (tmp_path / "results" / "kept" / "results.csv").read_bytes() == results


def test_what_made_the_runs_is_told_not_who_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["name=made", "router=random", *SMALL]
    monkeypatch.setattr(version, "versions", lambda: {"numpy": "1"})
    version.maker.cache_clear()
    assert main([*words, "seeds=2"]) == 0
    monkeypatch.setattr(version, "versions", lambda: {"numpy": "2"})
    version.maker.cache_clear()
    assert main([*words, "seeds=2"]) == 0
    story = json.loads((tmp_path / "results" / "made" / "provenance.json").read_text())
    assert story["versions"] == {"numpy": "1"}
    assert "made_by" not in story
    assert main([*words, "seeds=3"]) == 0
    version.maker.cache_clear()
    story = json.loads((tmp_path / "results" / "made" / "provenance.json").read_text())
    assert story["versions"] == {"numpy": "1"}
    assert [(made["runs"], made["versions"]["numpy"]) for made in story["made_by"]] == [(2, "1"), (1, "2")]


def _bounds(out: Path) -> list[float]:
    table = pd.read_csv(out / "results.csv")
    assert (table["goodput_rps"] <= table["upper_bound"] * (1 + 1e-9)).all()
    return table["upper_bound"].tolist()


@pytest.mark.parametrize("overhead", ["90", "0"])
def test_a_bound_goes_with_the_profile_that_it_was_computed_from(tmp_path: Path, overhead: str) -> None:
    (tmp_path / "profiles").mkdir()
    profile = tmp_path / "profiles" / "card.yaml"
    shutil.copy(PROFILE, profile)
    text = profile.read_text()
    pool = "pool.instances=[{profile: card, count: 1}]"
    words = ["router=random", "slo.seconds=3", "bound=true", "seeds=1", "trace.rate_per_s=50", pool, *SMALL]
    if overhead == "0":
        profile.write_text(_with_overhead(text, "90"))
    assert main([*words, "name=again"]) == 0
    profile.write_text(_with_overhead(text, overhead))
    assert main([*words, "name=again"]) == 0
    assert main([*words, "name=fresh"]) == 0
    assert _bounds(tmp_path / "results" / "again") == _bounds(tmp_path / "results" / "fresh")


def _with_overhead(text: str, milliseconds: str) -> str:
    profile = yaml.safe_load(text)
    profile["latency"]["overhead_ms"] = float(milliseconds)
    return yaml.safe_dump(profile)


@pytest.mark.parametrize("content", ["", '{"values": {"good', "[]", "5", '{"values": 3, "key": "k", "digest": ""}'])
def test_a_torn_bound_is_computed_again(tmp_path: Path, content: str) -> None:
    kept = Kept(tmp_path, "bound")
    assert kept.get("k") is None
    kept.put("k", {"goodput_requests": 7})
    assert kept.get("k") == {"goodput_requests": 7}
    (tmp_path / "bound-k.json").write_text(content)
    assert kept.get("k") is None
    (tmp_path / "bound-k.json").write_text("[" * 100_000)
    assert kept.get("k") is None


def test_a_kept_value_that_was_changed_or_is_anothers_is_not_used(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "knee")
    kept.put("k", {"knee_rps": 71.0})
    file = tmp_path / "knee-k.json"
    shutil.copy(file, tmp_path / "knee-other.json")
    assert kept.get("other") is None
    file.write_text(file.read_text().replace("71.0", "70.0"))
    assert kept.get("k") is None


def _half_written(file: Path) -> None:
    with written(file) as aside:
        aside.write_text("half")
        raise OSError(28, "No space left on device")


def test_a_file_is_written_all_or_nothing(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("old")
    with pytest.raises(InputError, match="table.csv: cannot be written: No space left"):
        _half_written(file)
    assert file.read_text() == "old"
    with written(file) as aside:
        aside.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert file.read_text() == "new"
