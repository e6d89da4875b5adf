"""Recorded pools: groups and arrivals recovered, placements replayed, routers predicted; from runs of our own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gsim.core import InputError, Streams
from gsim.engine import EngineConfig
from gsim.latency import load_profile
from gsim.routing.prefix_then_load import PrefixThenLoad
from gsim.routing.random import Random
from gsim.validation.pool.arrivals import load_of
from gsim.validation.pool.fit import distance
from gsim.validation.pool.groups import recover_groups
from gsim.validation.pool.replay import PoolModel, placements, replay_pool
from gsim.validation.pool.tables import compared, ratios
from gsim.validation.pool.truth import PoolRun, read_pool

INSTANCES = 7
MODEL = PoolModel(load_profile("l20-llama-3.1-8b"), EngineConfig(), 0.05)
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "ground_truth" / "pool-l20"


def recorded(requests: int, router: str, rate_per_s: float, seed: int = 1) -> pd.DataFrame:
    """A run of our own, as a gateway would have recorded it: prompts of 20 groups, 80 % of each its group's head."""
    rng = np.random.default_rng(seed)
    group = rng.integers(20, size=requests)
    tokens = np.array([2000, 4000])[group % 2] + rng.integers(-5, 6, requests)
    contents = {k: ((int(g), int(0.8 * 2000 * (1 + g % 2))), (100 + k, 0)) for k, g in enumerate(group)}
    contents = {k: (c[0], (c[1][0], int(tokens[k]) - c[0][1])) for k, c in contents.items()}
    rows = pd.DataFrame({"request_id": range(requests), "input_tokens": tokens, "output_tokens": 30})
    blank = PoolRun("own", router, rows.assign(instance=0), INSTANCES)
    times = np.cumsum(np.random.default_rng(7).exponential(1 / rate_per_s, requests))
    policy = Random() if router == "random" else PrefixThenLoad(imbalance=16, blind=True)
    made = replay_pool(blank, times, contents, policy, MODEL, seed).rows
    served: list[set[int]] = [set() for _ in range(20)]
    ends = made.arrival_s + made.e2e_ms / 1e3
    states = []
    for k in range(requests):
        hits = [80 if i in served[group[k]] else 0 for i in range(INSTANCES)]
        open_now = (made.arrival_s < made.arrival_s[k]) & (ends > made.arrival_s[k])
        in_flight = [int((open_now & (made.instance == i)).sum()) for i in range(INSTANCES)]
        served[group[k]].add(int(made.instance[k]))
        states.append([*hits, *in_flight, *in_flight, *[0] * INSTANCES, *[0.1] * INSTANCES])
    names = [
        f"{n}_{i}" for n in ("hit_percent", "in_flight", "running", "waiting", "kv_usage") for i in range(INSTANCES)
    ]
    table = rows.assign(**{n: made[n] for n in ("arrival_s", "instance", "ttft_ms", "tpot_ms", "e2e_ms")})
    return pd.concat([table, pd.DataFrame(states, columns=names)], axis=1).assign(true_group=group)


def write(folder: Path, requests: int = 240) -> Path:
    folder.mkdir()
    for router in ("prefix", "random"):
        recorded(requests, router, 10.0).drop(columns=["arrival_s", "true_group"]).to_csv(
            folder / f"own-{router}.csv", index=False
        )
    recorded(requests, "prefix", 10.0).to_csv(folder / "timed-own.csv.gz", index=False)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("pool") / "runs")


def test_groups_are_recovered_from_what_the_indexes_said(folder: Path) -> None:
    runs = read_pool(folder).shared["own"]
    groups = recover_groups(runs, np.random.default_rng(0))
    truth = recorded(240, "prefix", 10.0).true_group
    assert len(groups.heads) == truth.nunique()
    certain = groups.only_one + groups.new
    assert certain + groups.ambiguous + groups.closest == 240
    assert certain > 150
    # Heads are known within a percent of the prompt: 80 to 81 % of it.
    known = [head for head in groups.heads if head]
    assert all(1600 <= head <= 1625 or 3200 <= head <= 3245 for head in known)
    table = pd.crosstab(truth, [groups.of[k] for k in range(240)])
    assert table.max(axis=1).sum() >= 220


def test_the_rate_follows_from_counts_and_latencies(folder: Path) -> None:
    load = load_of(read_pool(folder).shared["own"])
    times = recorded(240, "prefix", 10.0).arrival_s
    real = 239 / (times.iloc[-1] - times.iloc[0])
    assert load.steady().rates_per_s[0] == pytest.approx(real, rel=0.08)
    drawn = load.draw(240, np.random.default_rng(0))
    assert drawn[0] == 0.0
    assert (np.diff(drawn) >= 0).all()


def test_our_own_run_is_replayed_as_it_was(folder: Path) -> None:
    run = read_pool(folder).timed[0]
    contents = recover_groups([run], np.random.default_rng(0)).contents(run)
    times = run.rows["arrival_s"].to_numpy()
    replay = replay_pool(run, times, contents, placements(run), MODEL, 0)
    table = compared(run, [replay.rows.assign(output_tokens=run.rows["output_tokens"])])
    # The head's length is known to half a percent of the prompt, and not which of an instance's groups a prompt is of.
    assert table[table.statistic == "mean"].diff_percent.abs().max() < 3.0
    right = distance(run, contents, MODEL)
    wrong = distance(run, contents, PoolModel(MODEL.profile, MODEL.engine, 0.5))
    assert right < 0.05 < wrong


def test_the_command_compares_sets_and_their_ratios(folder: Path, tmp_path: Path) -> None:
    from gsim.cli.entry import run_command

    out = tmp_path / "out"
    words = f"experiment=pool_ground_truth ground_truth={folder} seeds=2 parts=false api_s=0.05 out={out}"
    assert run_command(words.split()) == 0
    table = pd.read_csv(out / "pool_ground_truth.csv")
    assert list(table.columns[:7]) == ["set", "router", "metric", "statistic", "real", "simulated", "diff_percent"]
    assert set(table["set"]) >= {"own", "timed-own"}
    means = table[(table["set"] == "own") & (table.statistic == "mean") & (table.metric == "E2E")]
    assert means.diff_percent.abs().max() < 20.0
    ratio = pd.read_csv(out / "pool_ratios.csv")
    assert list(ratio.columns) == ["set", "router", "over", "metric", "real_ratio", "simulated_ratio", "diff_percent"]
    assert (out / "pool_ground_truth.png").exists()


def test_ratios_are_of_the_means() -> None:
    rows = [
        ("s", r, m, "mean", x, y, 0.0)
        for r, x, y in (("a", 1.0, 2.0), ("b", 3.0, 3.0))
        for m in ("TTFT", "TPOT", "E2E")
    ]
    columns = ["set", "router", "metric", "statistic", "real", "simulated", "diff_percent"]
    found = ratios(pd.DataFrame(rows, columns=columns))
    assert (found.router == "b").all()
    assert found.real_ratio.tolist() == [3.0] * 3
    assert found.diff_percent.tolist() == [-50.0] * 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.drop(columns="hit_percent_1"), "column hit_percent_1 is missing"),
        (lambda rows: rows.assign(instance=9), "row 2: instance must be a whole number below 7, not 9"),
        (lambda rows: rows.assign(input_tokens=0), "holds no request that was served"),
        (lambda rows: rows.assign(input_tokens=3.5), "input_tokens must be a whole number below 10000000, not 3.5"),
        (lambda rows: rows.assign(hit_percent_1="x"), "hit_percent_1 must be a number, 0 or more, not x"),
        (lambda rows: rows.assign(e2e_ms=1, ttft_ms=2), r"e2e_ms \(1\) must be at least ttft_ms \(2\)"),
    ],
)
def test_bad_files_are_told_by_name(folder: Path, tmp_path: Path, change, said: str) -> None:  # type: ignore[no-untyped-def]
    change(pd.read_csv(folder / "own-random.csv")).to_csv(tmp_path / "own-random.csv", index=False)
    with pytest.raises(InputError, match=said):
        read_pool(tmp_path)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"own-random.csv": 0, "own-random.csv.gz": 0}, "a router has two files"),
        ({"own-random.csv": 0, "own-prefix.csv": 1000}, "no request_id in common"),
        ({"-random.csv": 0}, "must be named timed-NAME.csv or SET-ROUTER.csv"),
    ],
)
def test_a_set_is_runs_of_the_same_requests(folder: Path, tmp_path: Path, files: dict[str, int], said: str) -> None:
    rows = pd.read_csv(folder / "own-random.csv")
    for name, later in files.items():
        rows.assign(request_id=rows.request_id + later).to_csv(tmp_path / name, index=False)
    with pytest.raises(InputError, match=said):
        read_pool(tmp_path)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:30] + bytes([255] * 40) + b[70:]])
def test_a_damaged_packed_file_is_told(folder: Path, tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "timed-own.csv.gz").write_bytes(damage((folder / "timed-own.csv.gz").read_bytes()))
    with pytest.raises(InputError, match=r"timed-own.csv.gz: cannot be read"):
        read_pool(tmp_path)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no .csv"):
        read_pool(tmp_path)


@pytest.mark.skipif(not SHARED.exists(), reason="the recorded pool is not at hand")
def test_a_real_pool_s_placements_come_out_within_15_percent() -> None:
    run = read_pool(SHARED).timed[0]
    contents = recover_groups([run], Streams(0).stream("groups")).contents(run)
    model = PoolModel(MODEL.profile, MODEL.engine, 0.062)
    replay = replay_pool(run, run.rows["arrival_s"].to_numpy(), contents, placements(run), model, 0)
    unseen = (run.rows["arrival_s"] >= 60.0).to_numpy()
    table = compared(run, [replay.rows.assign(output_tokens=run.rows["output_tokens"])], unseen)
    assert table[table.statistic == "mean"].diff_percent.abs().max() < 15.0
