"""A local Ray gives the same bytes as one process (needs the extra ``ray``)."""

from __future__ import annotations

import pytest

from gsim.cli.entry import main

SWEEP = ["router=random,round_robin", "rectifier=none", "trace.requests=50", "seeds=2", "warmup_s=0", "name=tiny"]


@pytest.mark.slow
def test_a_local_ray_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*SWEEP, "out=one", "hydra.launcher.n_jobs=1"]) == 0
    assert main([*SWEEP, "out=ray", "hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"]) == 0
    assert (tmp_path / "one" / "results.csv").read_bytes() == (tmp_path / "ray" / "results.csv").read_bytes()
