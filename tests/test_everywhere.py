"""The same bytes whatever Python runs with, and sizes that nobody should have to fear."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import gsim

RUN = {
    "trace": {"name": "mix", "requests": 60},
    "router": "goodserve",
    "rectifier": "risk_monitor",
    "faults": {"name": "injected", "planned": [{"kind": "crash", "instance": 1, "at_s": 2, "for_s": 4}]},
}
#: Another zone (and one that changes its clocks at night), no UTF-8, another order of sets, no assertions.
ELSEWHERE = {"TZ": "Australia/Lord_Howe", "LC_ALL": "C", "PYTHONHASHSEED": "77", "PYTHONUTF8": "0"}


def digest() -> str:
    """Of every request and instance of a run with moves and a crash."""
    run = gsim.simulate(RUN, seed=5)
    return hashlib.sha256((run.requests.to_csv() + run.instances.to_csv()).encode()).hexdigest()


def test_zones_locales_hashes_and_assertions_change_no_byte():
    here = str(Path(__file__).parent)
    ask = f"import sys; sys.path.insert(0, {here!r}); import test_everywhere; print(test_everywhere.digest())"
    there = subprocess.run(
        [sys.executable, "-O", "-c", ask], env=os.environ | ELSEWHERE, capture_output=True, text=True, check=True
    )
    assert there.stdout.split() == [digest()]


def test_five_thousand_instances_are_a_pool():
    pool = {"instances": [{"profile": "h800-llama-3.1-8b", "count": 5_000}]}
    rows = gsim.simulate(pool=pool, trace={"rate_per_s": 5000, "requests": 500}, router="round_robin").requests
    assert rows["status"].eq("finished").all()
    assert rows["instance"].notna().all()


def test_a_sweep_keeps_no_run_in_memory(tmp_path):
    """A run of these has a megabyte of sessions and rows; of a cell that is done a few numbers are kept."""

    def peak(cells: int) -> int:
        tracemalloc.start()
        gsim.sweep(
            {"trace.rate_per_s": [float(k + 1) for k in range(cells)]},
            seeds=1,
            trace={"requests": 400},
            router="round_robin",
            rectifier="none",
            predictor="constant",
            out=tmp_path / str(cells),
        )
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2)
    few, many = peak(5), peak(25)
    assert (many - few) / 20 < 100_000


@pytest.mark.large
def test_a_million_recorded_rows_are_read_in_order(tmp_path):
    path = tmp_path / "azure.csv"
    at = np.datetime64("2023-11-16T18:17:00") + np.arange(1_000_000).astype("timedelta64[ms]")
    with path.open("w", encoding="utf-8") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        file.writelines(f"{str(t).replace('T', ' ')},100,2\n" for t in at)
    trace = {"name": "azure", "path": str(path)}
    run = gsim.simulate(trace=trace, pool={"instances": [{"profile": "h800-llama-3.1-8b", "count": 64}]})
    assert len(run.requests) == 1_000_000
    assert run.requests["status"].eq("finished").all()


if __name__ == "__main__":
    print(json.dumps({"digest": digest(), "python": sys.version}))
